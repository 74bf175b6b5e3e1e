//! The handler `glue` on the in-memory services of the libraries' tests: one run for each identity, its
//! state, the catalog, and crawlers.

#![allow(clippy::unwrap_used)]

#[path = "../../hudi-scd/tests/glue/service.rs"]
#[allow(dead_code, unreachable_pub, reason = "not every test uses everything")]
mod catalog;
#[path = "../../redshift-orchestrator/tests/glue_jobs/service.rs"]
#[allow(dead_code, unreachable_pub, reason = "not every test uses everything")]
mod jobs;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use hudi_scd::{
    Table, TableDefinition, TableOptions,
    arrow::datatypes::{DataType, Field, Schema},
    object_store::{ObjectStore, memory::InMemory},
};
use jiff::Timestamp;
use jobs::Fault;
use redshift_orchestrator::glue::{JobRunState, RUN_TOKEN};
use rstest::rstest;
use serde_json::{Value, json};
use sfn_adapter::{
    Error, ErrorNames, Invocation, Tables,
    handler::{self, GlueServices, JournalPlace},
};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// Tables in one store, by the paths of their URLs.
#[derive(Debug)]
struct Lake(Arc<InMemory>);

#[async_trait]
impl Tables for Lake {
    async fn open(&self, url: &str, options: TableOptions) -> hudi_scd::Result<Table> {
        let path = url.strip_prefix("s3://lake/").unwrap();
        Table::open_with(self.0.clone(), path.into(), options).await
    }
}

struct World {
    jobs: Arc<jobs::Service>,
    catalog: catalog::Service,
    store: Arc<InMemory>,
    services: GlueServices,
    begun: Instant,
}

impl World {
    fn new() -> Self {
        let (jobs, store) = (Arc::new(jobs::Service::default()), Arc::new(InMemory::new()));
        let catalog = catalog::Service::default();
        let target = json!({ "Path": "s3://lake", "Exclusions": ["**_SUCCESS"] });
        catalog.state().crawler = Some(json!({ "Name": "clean", "Targets": { "S3Targets": [target] } }));
        let journal = JournalPlace { store: store.clone() as Arc<dyn ObjectStore>, prefix: "journal".into() };
        let services = GlueServices {
            jobs: jobs.clone(),
            catalog: Arc::new(catalog.glue.clone()),
            crawlers: Arc::new(catalog.glue.clone()),
            tables: Arc::new(Lake(store.clone())),
            journal: Some(journal),
            region: Some("eu-west-1".into()),
        };
        Self { jobs, catalog, store, services, begun: Instant::now() }
    }

    async fn invoke(&self, event: Value) -> Result<Value, (String, String)> {
        self.invoke_for(event, 30 * SECOND).await
    }

    async fn invoke_for(&self, event: Value, remaining: Duration) -> Result<Value, (String, String)> {
        let now = Timestamp::constant(1_795_934_400, 0) + self.begun.elapsed();
        let invocation = Invocation::new("r-1", remaining).at(now);
        let reply = handler::glue(&self.services, &invocation, &event.to_string()).await;
        let named = |error: Error| (error.name(ErrorNames::Qualified).into_owned(), error.to_string());
        reply.map(|reply| serde_json::to_value(reply).unwrap()).map_err(named)
    }

    async fn table(&self) -> Table {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("name", DataType::Utf8, true),
        ]);
        let definition = TableDefinition::new("customer", Arc::new(schema), ["id"]);
        Table::create(self.store.clone(), "customer".into(), definition).await.unwrap()
    }
}

fn start(attempt: u32) -> Value {
    let execution = "arn:aws:states:eu-west-1:111122223333:execution:load:7f3a";
    json!({
        "version": 1, "action": "start", "job": "clean", "arguments": { "--cycle": "7" },
        "identity": { "execution": execution, "step": "customers", "attempt": attempt },
    })
}

fn status(run: &str) -> Value {
    json!({ "version": 1, "action": "status", "job": "clean", "run": run })
}

#[tokio::test(start_paused = true)]
async fn one_identity_is_one_run_whatever_is_repeated() {
    let world = World::new();
    let first = world.invoke(start(1)).await.unwrap();
    assert_eq!((&first["run"], &first["outcome"]), (&json!("jr_0"), &json!("running")));
    // The job may have log groups of its own, which only its description names.
    assert_eq!(first["log"], Value::Null);
    let described = world.invoke(status("jr_0")).await.unwrap();
    assert!(described["log"].as_str().unwrap().ends_with("/jr_0"), "{described}");
    assert_eq!(world.invoke(start(1)).await.unwrap(), first);
    assert_eq!(world.jobs.started(), 1);
    assert_eq!(world.invoke(start(2)).await.unwrap()["run"], "jr_1");

    world.jobs.state().fault = Some(Fault::LostReply);
    assert_eq!(world.invoke(start(3)).await.unwrap()["run"], "jr_2");
    assert_eq!(world.invoke(start(3)).await.unwrap()["run"], "jr_2");
    assert_eq!(world.jobs.started(), 3);
}

#[tokio::test(start_paused = true)]
async fn one_identity_is_not_two_works() {
    let world = World::new();
    let first = world.invoke(start(1)).await.unwrap();
    let mut other = [start(1), start(1)];
    other[0]["arguments"]["--cycle"] = json!("8");
    other[1]["job"] = json!("load");
    for other in other {
        // A retry does not help, so the name differs from that of a temporary conflict.
        let (name, text) = world.invoke(other).await.unwrap_err();
        assert_eq!(name, "Glue.Invalid", "{text}");
        assert!(text.contains("nothing was started") && text.contains("another step or attempt"), "{text}");
    }
    assert_eq!(world.invoke(start(1)).await.unwrap(), first);
    assert_eq!(world.jobs.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn two_invocations_at_once_start_one_run() {
    let world = World::new();
    let (one, other) = tokio::join!(world.invoke(start(1)), world.invoke(start(1)));
    assert_eq!(world.jobs.started(), 1, "{one:?} {other:?}");
    for failed in [one, other].into_iter().filter_map(Result::err) {
        assert_eq!(failed.0, "Glue.Unavailable", "{failed:?}");
    }
    assert_eq!(world.invoke(start(1)).await.unwrap()["run"], "jr_0");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_lost_is_looked_for_and_then_unknown() {
    let world = World::new();
    world.jobs.state().fault = Some(Fault::LostRequest);
    let (name, text) = world.invoke(start(1)).await.unwrap_err();
    assert_eq!(name, "Glue.Deadline");
    assert!(text.contains("the start of job clean; invoke again with the same event"), "{text}");
    // The lookup ends two minutes after the request.
    sleep(100 * SECOND).await;
    let reply = world.invoke(start(1)).await.unwrap();
    assert_eq!((&reply["outcome"], &reply["error"]), (&json!("unknown"), &json!("Glue.Unknown")));
    assert!(reply["cause"].as_str().unwrap().contains(RUN_TOKEN), "{reply}");
    assert_eq!(world.invoke(start(1)).await.unwrap(), reply);
    assert_eq!(world.jobs.started(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_job_is_an_error_to_retry_and_the_retry_starts_the_run() {
    let world = World::new();
    world.jobs.state().limit = 1;
    world.invoke(start(1)).await.unwrap();
    let (name, text) = world.invoke(start(2)).await.unwrap_err();
    assert_eq!(name, "Glue.TooManyRuns");
    assert!(text.starts_with("Concurrent runs exceeded (job clean"), "{text}");
    sleep(100 * SECOND).await;
    assert_eq!(world.invoke(start(2)).await.unwrap()["run"], "jr_1");
}

#[rstest]
#[case(JobRunState::Succeeded, "succeeded", None)]
#[case(JobRunState::Failed, "failed", Some("Glue.Failed"))]
#[case(JobRunState::Timeout, "timed-out", Some("Glue.TimedOut"))]
#[case(JobRunState::Expired, "failed", Some("Glue.Failed"))]
#[tokio::test(start_paused = true)]
async fn a_run_is_followed_to_its_end(
    #[case] end: JobRunState,
    #[case] outcome: &str,
    #[case] error: Option<&str>,
) {
    let world = World::new();
    world.jobs.state().next.1 = end.clone();
    world.invoke(start(1)).await.unwrap();
    let mut raise = status("jr_0");
    raise["raise"] = json!(true);
    let running = world.invoke(status("jr_0")).await.unwrap();
    assert_eq!((&running["state"], &running["terminal"]), (&json!("RUNNING"), &json!(false)));
    assert_eq!(world.invoke(raise.clone()).await.unwrap_err().0, "Glue.Running");

    sleep(100 * SECOND).await;
    let ended = world.invoke(status("jr_0")).await.unwrap();
    assert_eq!((&ended["outcome"], &ended["error"]), (&json!(outcome), &json!(error)));
    assert_eq!((&ended["state"], &ended["seconds"]), (&json!(end.as_str()), &json!(90.0)));
    assert_eq!(world.invoke(raise).await.err().map(|(name, _)| name), error.map(str::to_owned));
}

#[tokio::test(start_paused = true)]
async fn a_run_is_stopped_and_one_that_has_ended_is_no_error() {
    let world = World::new();
    world.invoke(start(1)).await.unwrap();
    let stop = json!({ "version": 1, "action": "stop", "job": "clean", "run": "jr_0" });
    assert_eq!(world.invoke(stop.clone()).await.unwrap()["state"], "STOPPING");
    sleep(30 * SECOND).await;
    let stopped = world.invoke(stop).await.unwrap();
    assert_eq!((&stopped["outcome"], &stopped["error"]), (&json!("stopped"), &json!("Glue.Stopped")));
    assert_eq!(world.invoke(status("jr_9")).await.unwrap_err().0, "Glue.NotFound");
}

#[tokio::test(start_paused = true)]
async fn without_a_journal_nothing_is_started() {
    let mut world = World::new();
    world.services.journal = None;
    let (name, text) = world.invoke(start(1)).await.unwrap_err();
    assert!(name == "SfnAdapter.Config" && text.contains("GLUE_JOURNAL"), "{name} {text}");
    assert_eq!(world.jobs.started(), 0);
    assert_eq!(world.invoke(status("jr_0")).await.unwrap_err().0, "Glue.NotFound");
}

#[tokio::test(start_paused = true)]
async fn no_schedule_of_faults_and_deaths_starts_a_second_run() {
    for seed in 0..200 {
        let mut world = World::new();
        world.jobs = Arc::new(jobs::Service::with_faults(seed));
        world.services.jobs = world.jobs.clone();
        let mut random = fastrand::Rng::with_seed(seed);
        let mut replied = 0;
        while replied < 2 {
            // The function may be killed before its deadline.
            let lives = Duration::from_millis(random.u64(0..40_000));
            let killed = tokio::time::timeout(lives, world.invoke(start(1))).await;
            replied += usize::from(matches!(killed, Ok(Ok(_))));
            if let Ok(Ok(reply)) = killed {
                let outcome = reply["outcome"].as_str().unwrap().to_owned();
                assert!(["running", "unknown"].contains(&outcome.as_str()), "seed {seed}: {reply}");
            }
            sleep(Duration::from_millis(random.u64(0..60_000))).await;
        }
        assert!(world.jobs.started() <= 1, "seed {seed}: {} runs", world.jobs.started());
    }
}

#[tokio::test(start_paused = true)]
async fn the_catalog_is_brought_to_the_tables_state() {
    let world = World::new();
    world.table().await;
    let sync = json!({ "version": 1, "action": "sync", "table": "s3://lake/customer", "database": "clean" });
    let first = world.invoke(sync.clone()).await.unwrap();
    assert_eq!(
        (&first["table"], &first["created"], &first["changed"]),
        (&json!("clean.customer"), &json!(true), &json!(true))
    );
    let again = world.invoke(sync.clone()).await.unwrap();
    assert_eq!((&again["created"], &again["changed"]), (&json!(false), &json!(false)));

    world.catalog.state().refusal = Some(("AccessDeniedException", "not authorized"));
    let (name, text) = world.invoke(sync.clone()).await.unwrap_err();
    assert_eq!(name, "Glue.Denied");
    assert!(text.contains("GetTable") && text.contains("AccessDeniedException"), "{text}");
    world.catalog.state().refusal = None;

    let began = Instant::now();
    world.catalog.state().is_silent = true;
    assert_eq!(world.invoke(sync.clone()).await.unwrap_err().0, "Glue.Deadline");
    assert!(began.elapsed() < 30 * SECOND, "the reply comes before the function is killed");

    let missing = json!({ "version": 1, "action": "sync", "table": "s3://lake/other", "database": "clean" });
    assert_eq!(world.invoke(missing).await.unwrap_err().0, "Glue.NotFound");
}

#[tokio::test(start_paused = true)]
async fn a_table_of_another_tool_is_taken_over_only_on_request() {
    let world = World::new();
    world.table().await;
    let mut sync =
        json!({ "version": 1, "action": "sync", "table": "s3://lake/customer", "database": "clean" });
    world.invoke(sync.clone()).await.unwrap();
    world.catalog.change(|table| table["StorageDescriptor"]["Location"] = "s3://elsewhere/customer".into());
    let (name, text) = world.invoke(sync.clone()).await.unwrap_err();
    assert_eq!(name, "Glue.ForeignTable");
    assert!(text.contains("s3://elsewhere/customer") && text.contains("`takeover`"), "{text}");
    sync["takeover"] = json!(true);
    assert_eq!(world.invoke(sync).await.unwrap()["changed"], true);
}

#[tokio::test(start_paused = true)]
async fn a_crawler_is_kept_away_from_tables() {
    let world = World::new();
    let by_url =
        json!({ "version": 1, "action": "exclude", "crawler": "raw", "tables": ["s3://lake/customer"] });
    let reply = world.invoke(by_url.clone()).await.unwrap();
    assert_eq!(reply["added"], json!([{ "target": "s3://lake", "pattern": "customer/**" }]));
    assert_eq!(world.invoke(by_url).await.unwrap()["added"], json!([]));
    assert_eq!(world.catalog.exclusions().await, [["**_SUCCESS", "customer/**"]]);

    let database = json!({ "version": 1, "action": "exclude", "crawler": "raw", "database": "clean" });
    assert_eq!(world.invoke(database.clone()).await.unwrap_err().0, "Glue.NotFound");
    world.table().await;
    world
        .invoke(json!({ "version": 1, "action": "sync", "table": "s3://lake/customer", "database": "clean" }))
        .await
        .unwrap();
    assert_eq!(world.invoke(database).await.unwrap()["added"], json!([]));
    let neither = json!({ "version": 1, "action": "exclude", "crawler": "raw" });
    let (name, text) = world.invoke(neither).await.unwrap_err();
    assert!(name == "SfnAdapter.BadInput" && text.contains("`database`"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_crawler_that_runs_is_waited_for_within_the_functions_time() {
    let world = World::new();
    world.catalog.state().runs_until = Some(Instant::now() + 65 * SECOND);
    let event = json!({
        "version": 1, "action": "exclude", "crawler": "raw", "tables": ["s3://lake/customer"], "wait_seconds": 600,
    });
    let (name, text) = world.invoke(event.clone()).await.unwrap_err();
    assert_eq!(name, "Glue.Conflict");
    assert!(text.contains("crawler raw, state RUNNING"), "{text}");
    let reply = world.invoke_for(event, 300 * SECOND).await.unwrap();
    assert_eq!(reply["added"].as_array().unwrap().len(), 1);
    assert!(reply["waited_seconds"].as_f64().unwrap() > 30.0, "{reply}");
}
