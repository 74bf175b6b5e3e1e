//! One graph of Glue jobs, Hudi tables and statements: each runs once, wherever the process dies.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use redshift_data_local::{LocalExecutor, Script, ScriptedExecution};
use redshift_orchestrator::{
    Error, ErrorKind, FailureKind, Orchestrator, Pipeline, Result, Run, StatementExecutor, StatementFilter,
    StepKey, TokioClock,
    glue::{JobRunState, RUN_TOKEN},
    journal::{EntryState, Journal, MemoryJournal, SettledOutcome, Settlement, settle},
    pipeline::StepStatus,
    task::{Task, TaskCall, TaskKind, TaskOutcome},
};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::service::{Fault, Service};

const DAY: &str = r#"
name = "day"
[parameters.cycle]

[[steps]]
name = "clean-customer"
glue = { job = "clean-customer", arguments = { "--cycle" = "${cycle}", "--read-from" = "s3://raw" } }

[[steps]]
name = "address"
timeout = "10m"
[steps.hudi]
table = "address"
files = ["s3://raw/address-${cycle}.csv"]

[[steps]]
name = "load"
call = "mystore.load(:cycle)"
parameters = { cycle = "${cycle}" }
after = ["clean-customer", "address"]
"#;

/// A table that takes in each file once, as `hudi_scd::Table::take_in` does.
#[derive(Clone, Debug, Default)]
struct Table {
    files: Arc<Mutex<BTreeMap<String, u32>>>,
    calls: Arc<Mutex<u32>>,
    fails: bool,
}

#[async_trait]
impl Task for Table {
    async fn run(&self, call: &TaskCall) -> Result<TaskOutcome> {
        *self.calls.lock().unwrap() += 1;
        sleep(Duration::from_secs(20)).await;
        if self.fails {
            return Ok(TaskOutcome::failed("the file is broken"));
        }
        let upsert = call.hudi()?;
        assert!(["address", "addresses"].contains(&upsert.table.as_str()) && upsert.files.len() == 1);
        self.files.lock().unwrap().entry(upsert.files[0].clone()).or_insert(1);
        Ok(TaskOutcome::finished().with_id("20260301000000000"))
    }
}

/// The world outside of the process: services, tables, and the journal, which is like a file.
struct World {
    service: Arc<Service>,
    journal: Arc<MemoryJournal>,
    warehouse: Arc<dyn StatementExecutor>,
    table: Table,
}

impl World {
    fn new() -> Self {
        let script = Script::new().otherwise(ScriptedExecution::finished(Duration::from_secs(30)));
        Self {
            service: Arc::default(),
            journal: Arc::new(MemoryJournal::new()),
            warehouse: Arc::new(LocalExecutor::scripted(script)),
            table: Table::default(),
        }
    }

    /// An orchestrator of a new process.
    fn process(&self) -> Orchestrator {
        let clock = TokioClock::starting_at("2026-03-01T00:00:00Z".parse().unwrap());
        Orchestrator::new(self.warehouse.clone())
            .with_journal(self.journal.clone())
            .with_clock(clock)
            .with_glue(self.service.clone())
            .with_task(TaskKind::Hudi, self.table.clone())
    }

    async fn statements(&self) -> usize {
        self.warehouse.list(&StatementFilter::default(), None).await.unwrap().statements.len()
    }
}

/// Regression: the entry of a job in a region was compared with the name of the job alone, so a resumed run
/// reported the finished job as a conflict.
#[tokio::test(start_paused = true)]
async fn a_finished_job_of_a_region_is_known_to_the_next_process() {
    let world = World { service: Arc::new(Service::at("aws:eu-west-1")), ..World::new() };
    let pipeline = Pipeline::from_toml(DAY).unwrap();
    for _ in 0..2 {
        let report = pipeline.run(&world.process(), run()).await.unwrap();
        assert!(report.is_success(), "{report:?}");
    }
    assert_eq!(world.service.started(), 1);
    let key = StepKey::new("day-7", "clean-customer");
    let entry = world.journal.entry(&key).await.unwrap().unwrap();
    assert_eq!(entry.target.as_deref(), Some("aws:eu-west-1:glue/clean-customer"));
    assert_eq!(entry.task(), Some((TaskKind::Glue, "clean-customer")));
    let of = |step| StepKey::new("day-7", step);
    let table = world.journal.entry(&of("address")).await.unwrap().unwrap();
    assert_eq!(table.task(), Some((TaskKind::Hudi, "address")));
    assert_eq!(world.journal.entry(&of("load")).await.unwrap().unwrap().task(), None);
    assert_eq!(entry.name, "day/clean-customer day-7/clean-customer/1");
    assert_eq!(
        entry.manual_check(),
        "aws glue get-job-run --job-name 'clean-customer' --region eu-west-1 --run-id jr_0"
    );
    // The same run in another scope, or in another region, is not this run.
    let scoped = world.process().with_scope("prod");
    let abroad = world.process().with_glue(Arc::new(Service::at("aws:us-east-1")));
    for other in [scoped, abroad] {
        let report = pipeline.run(&other, run()).await.unwrap();
        assert!(!report.is_success(), "{report:?}");
    }
    assert_eq!(world.service.started(), 1);
}

fn run() -> Run {
    Run::new("day-7").with_parameter("cycle", "7")
}

#[tokio::test(start_paused = true)]
async fn one_graph_holds_jobs_tasks_and_statements() {
    let world = World::new();
    let pipeline = Pipeline::from_toml(DAY).unwrap();
    let plan = pipeline.plan().to_string();
    assert!(
        plan.contains("clean-customer  Glue job clean-customer")
            && plan.contains("address         Hudi table address, 1 file"),
        "{plan}"
    );
    let report = pipeline.run(&world.process(), run()).await.unwrap();
    assert!(report.is_success(), "{report}");
    let job = &report.step("clean-customer").unwrap().attempts[0];
    assert_eq!((job.statement_id.as_ref().unwrap().as_str(), job.result), ("jr_0", "finished"));
    assert_eq!(job.execution_time, Some(Duration::from_secs(90)));
    let json = report.to_json();
    assert_eq!((&json["steps"][0]["task"], &json["steps"][2]["task"]), (&"glue".into(), &Value::Null));
    let totals = report.totals();
    assert_eq!((totals.statements, totals.tasks), (1, 2));
    assert!(report.to_svg().contains("1 statement, 2 tasks in"));
    let load = &report.step("load").unwrap().attempts[0];
    assert!(load.started >= job.ended, "after the job");
    assert_eq!((world.service.started(), world.statements().await), (1, 1));
    let arguments = world.service.arguments(0);
    assert_eq!((arguments["--cycle"].as_str(), arguments["--read-from"].as_str()), ("7", "s3://raw"));
    assert!(arguments.contains_key(RUN_TOKEN));

    let again = pipeline.run(&world.process(), run()).await.unwrap();
    assert!(again.is_success() && again.resumed);
    for step in ["clean-customer", "address"] {
        assert_eq!(again.step(step).unwrap().attempts[0].origin, "journal");
    }
    assert_eq!(
        (world.service.started(), world.statements().await, *world.table.calls.lock().unwrap()),
        (1, 1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn each_step_runs_once_wherever_the_process_dies() {
    for second in 0..160 {
        let world = World::new();
        let pipeline = Pipeline::from_toml(DAY).unwrap();
        for death in [second, second / 2 + 1] {
            // Dropping the future simulates the death of the process. Requests that were sent still take
            // effect.
            let _ = timeout(Duration::from_secs(death), pipeline.run(&world.process(), run())).await;
        }
        let report = pipeline.run(&world.process(), run()).await.unwrap();
        assert!(report.is_success(), "died after {second} s: {report}");
        assert_eq!((world.service.started(), world.statements().await), (1, 1), "died after {second} s");
        assert_eq!(world.table.files.lock().unwrap().values().sum::<u32>(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_response_starts_no_second_job() {
    for fault in [Fault::LostReply, Fault::Throttle] {
        let world = World::new();
        world.service.state().fault = Some(fault);
        let report = Pipeline::from_toml(DAY).unwrap().run(&world.process(), run()).await.unwrap();
        assert!(report.is_success(), "{report}");
        assert_eq!(world.service.started(), 1, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_job_is_not_started_again_before_it_is_settled() {
    let world = World::new();
    let pipeline = Pipeline::from_toml(DAY).unwrap();
    world.service.state().fault = Some(Fault::LostRequest);
    for _ in 0..2 {
        let report = pipeline.run(&world.process(), run()).await.unwrap();
        assert_eq!(report.step("clean-customer").unwrap().status, StepStatus::Unknown);
        assert!(matches!(report.step("load").unwrap().status, StepStatus::Skipped { .. }));
        assert!(report.to_string().contains("--run-token"), "it says what to look for: {report}");
        assert_eq!(world.service.started(), 0);
    }
    let key = StepKey::new("day-7", "clean-customer");
    let check = world.journal.entry(&key).await.unwrap().unwrap().manual_check();
    let token = "--query \"JobRuns[?Arguments.\\\"--run-token\\\"=='";
    assert!(
        check.starts_with("aws glue get-job-runs --job-name 'clean-customer' ") && check.contains(token),
        "{check}"
    );
    let settlement = Settlement::new(SettledOutcome::NeverRan);
    let at = "2026-03-01T01:00:00Z".parse().unwrap();
    settle(&*world.journal, at, &key, settlement).await.unwrap();
    assert!(pipeline.run(&world.process(), run()).await.unwrap().is_success());
    assert_eq!((world.service.started(), world.statements().await), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn failures_have_kinds_that_a_retry_can_name() {
    let mut world = World::new();
    let with_retry = DAY.replace("timeout = \"10m\"", "retry = { attempts = 2, on = [\"task\"] }");
    let pipeline = Pipeline::from_toml(&with_retry).unwrap();
    world.table.fails = true;
    world.service.state().next = (Duration::from_secs(90), JobRunState::Failed);
    let report = pipeline.run(&world.process(), run()).await.unwrap();
    let (job, address) = (report.step("clean-customer").unwrap(), report.step("address").unwrap());
    assert_eq!((&job.status, job.attempts.len()), (&StepStatus::Failed, 1));
    assert_eq!((&address.status, address.attempts.len()), (&StepStatus::Failed, 2));
    assert_eq!(address.attempts[1].failure, Some(FailureKind::Task));
    assert!(job.attempts[0].error.as_ref().unwrap().contains("ValueError"));

    // A further run with this name makes further attempts.
    world.table.fails = false;
    world.service.state().next = (Duration::from_secs(90), JobRunState::Succeeded);
    let report = pipeline.run(&world.process(), run()).await.unwrap();
    assert!(report.is_success(), "{report}");
    assert_eq!((world.service.started(), *world.table.calls.lock().unwrap()), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_stops_a_task() {
    let world = World::new();
    let short = DAY.replace("10m", "5s").replace("glue = {", "timeout = \"30s\"\nglue = {");
    let report = Pipeline::from_toml(&short).unwrap().run(&world.process(), run()).await.unwrap();
    for step in ["clean-customer", "address"] {
        let step = report.step(step).unwrap();
        assert_eq!(
            (&step.status, step.attempts[0].failure),
            (&StepStatus::TimedOut, Some(FailureKind::TimedOut))
        );
    }
    assert_eq!(world.table.files.lock().unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_not_registered_is_named_before_anything_runs() {
    let world = World::new();
    let pipeline = Pipeline::from_toml(DAY).unwrap();
    let without = Orchestrator::new(world.warehouse.clone()).with_glue(world.service.clone());
    let refused = pipeline.run(&without, run()).await.unwrap_err();
    assert_eq!((refused.kind(), refused.context("step")), (ErrorKind::Definition, Some("address")));
    assert!(refused.to_string().contains("steps of the kind `hudi`"), "{refused}");
    assert!(refused.to_string().contains("`Orchestrator::with_task`"), "{refused}");
    assert_eq!((world.service.started(), world.statements().await), (0, 0));
    // A step that is not selected needs no executor.
    let report = pipeline.run(&without, run().with_steps(["load"])).await.unwrap();
    assert!(report.is_success(), "{report}");
}

/// Regression: an open attempt at a step that was not selected began, and ended at once as not submitted,
/// after other steps had started.
#[tokio::test(start_paused = true)]
async fn a_run_is_refused_if_it_cannot_continue_an_open_task() {
    for (second, kind, step) in [(5, "hudi", "address"), (15, "glue", "clean-customer")] {
        let world = World::new();
        let pipeline = Pipeline::from_toml(DAY).unwrap();
        let dead = timeout(Duration::from_secs(second), pipeline.run(&world.process(), run())).await;
        assert!(dead.is_err());
        let bare = || Orchestrator::new(world.warehouse.clone()).with_journal(world.journal.clone());
        let without = match kind {
            "hudi" => bare().with_glue(world.service.clone()),
            _ => bare().with_task(TaskKind::Hudi, world.table.clone()),
        };
        let refused = pipeline.run(&without, run().with_steps(["load"])).await.unwrap_err();
        assert_eq!((refused.kind(), refused.context("step")), (ErrorKind::Definition, Some(step)));
        assert!(refused.to_string().contains(&format!("steps of the kind `{kind}`")), "{refused}");
        assert_eq!(refused.context("run"), Some("day-7"));
        assert_eq!(world.statements().await, 0);
        assert!(pipeline.run(&world.process(), run()).await.unwrap().is_success());
    }
}

/// The day with another kind of work in the step `address`.
fn with_address(work: &str) -> Pipeline {
    let hudi = "[steps.hudi]\ntable = \"address\"\nfiles = [\"s3://raw/address-${cycle}.csv\"]";
    assert!(DAY.contains(hudi));
    Pipeline::from_toml(&DAY.replace(hudi, work)).unwrap()
}

/// Regression: an open attempt was reported as not submitted if the step had become other work, and the steps
/// after it ran concurrently with it.
#[tokio::test(start_paused = true)]
async fn a_run_is_refused_if_an_open_attempt_belongs_to_other_work() {
    let hudi = "[steps.hudi]\ntable = \"address\"\nfiles = [\"s3://raw/address-${cycle}.csv\"]";
    let table = "[steps.hudi]\ntable = \"addresses\"\nfiles = [\"s3://raw/address-${cycle}.csv\"]";
    let works = [
        hudi,
        table,
        "sql = \"SELECT ${cycle}\"",
        "glue = { job = \"address\" }",
        "glue = { job = \"other\" }",
    ];
    for first in works {
        for other in works.into_iter().filter(|other| *other != first) {
            let world = World::new();
            let (before, process) = (with_address(first), world.process());
            assert!(timeout(Duration::from_secs(5), before.run(&process, run())).await.is_err());
            let (started, sent) = (world.service.started(), world.statements().await);
            let refused = with_address(other).run(&world.process(), run()).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::StepKeyConflict, "{first} to {other}: {refused}");
            assert_eq!(
                (refused.context("step"), refused.context("run")),
                (Some("day-7/address/1"), Some("day-7"))
            );
            assert_eq!((world.service.started(), world.statements().await), (started, sent));
            assert!(with_address(first).run(&world.process(), run()).await.unwrap().is_success());
        }
    }
}

/// Regression: the entry of a Hudi step named neither the scope nor the pipeline, so a step of another scope
/// with an equal key was reported as finished, and never ran.
#[tokio::test(start_paused = true)]
async fn the_identity_of_a_hudi_step_contains_the_scope_and_the_pipeline() {
    let world = World::new();
    let hudi = || run().with_steps(["address"]);
    let pipeline = Pipeline::from_toml(DAY).unwrap();
    let prod = world.process().with_scope("prod");
    assert!(pipeline.run(&prod, hudi()).await.unwrap().is_success());
    let key = StepKey::new("day-7", "address");
    let entry = world.journal.entry(&key).await.unwrap().unwrap();
    assert_eq!(entry.name, "prod/day/hudi/address day-7/address/1");
    let report = pipeline.run(&world.process().with_scope("dev"), hudi()).await.unwrap();
    let step = report.step("address").unwrap();
    assert_eq!(step.status, StepStatus::NotSubmitted);
    let error = step.attempts[0].error.as_ref().unwrap();
    assert!(
        error.contains("belongs to prod/day/hudi/address day-7/address/1, not to dev/day/hudi/"),
        "{error}"
    );
    assert_eq!(*world.table.calls.lock().unwrap(), 1);
    // Equal work has an equal token only in the same scope.
    let dev = World::new();
    assert!(pipeline.run(&dev.process().with_scope("dev"), hudi()).await.unwrap().is_success());
    assert_ne!(dev.journal.entry(&key).await.unwrap().unwrap().token, entry.token);
}

/// Regression: the attempt continued with the changed files, and was recorded as if it had begun with them.
#[tokio::test(start_paused = true)]
async fn a_changed_task_under_an_open_attempt_is_unknown() {
    let world = World::new();
    let pipeline = Pipeline::from_toml(DAY).unwrap();
    assert!(timeout(Duration::from_secs(5), pipeline.run(&world.process(), run())).await.is_err());
    let changed = Pipeline::from_toml(&DAY.replace("address-${cycle}.csv", "addresses-${cycle}.csv"));
    let report = changed.unwrap().run(&world.process(), run()).await.unwrap();
    let step = report.step("address").unwrap();
    assert_eq!(step.status, StepStatus::Unknown, "{report}");
    let attempt = &step.attempts[0];
    assert!(attempt.may_still_run && attempt.error.as_ref().unwrap().contains("was changed"), "{report}");
    assert!(attempt.manual_check.as_ref().unwrap().contains("hudi/address"), "{report}");
    assert!(matches!(report.step("load").unwrap().status, StepStatus::Skipped { .. }));
    assert_eq!((world.statements().await, *world.table.calls.lock().unwrap()), (0, 1));
    // The step as it was continues the attempt.
    assert!(pipeline.run(&world.process(), run()).await.unwrap().is_success());
    assert_eq!(*world.table.calls.lock().unwrap(), 2);
}

/// Regression: an argument of a Glue job under an open attempt could change without notice, because only the
/// values were compared.
#[tokio::test(start_paused = true)]
async fn the_names_of_arguments_are_part_of_the_identity_of_a_task() {
    #[derive(Debug)]
    struct Endless;
    #[async_trait]
    impl Task for Endless {
        async fn run(&self, _: &TaskCall) -> Result<TaskOutcome> {
            std::future::pending().await
        }
    }
    let world = World::new();
    let process = || world.process().with_task(TaskKind::Glue, Endless);
    let begun = Pipeline::from_toml(DAY).unwrap();
    assert!(timeout(Duration::from_secs(5), begun.run(&process(), run())).await.is_err());
    let renamed = Pipeline::from_toml(&DAY.replace("--cycle", "--day")).unwrap();
    let report = timeout(Duration::from_secs(600), renamed.run(&process(), run())).await.unwrap().unwrap();
    assert_eq!(report.step("clean-customer").unwrap().status, StepStatus::Unknown, "{report}");
}

/// Regression: an error after which the work may have taken effect ended as not submitted, and was retried.
#[tokio::test(start_paused = true)]
async fn a_task_that_may_have_taken_effect_is_unknown_and_not_retried() {
    #[derive(Debug)]
    struct Lossy(ErrorKind, Arc<Mutex<u32>>);
    #[async_trait]
    impl Task for Lossy {
        async fn run(&self, _: &TaskCall) -> Result<TaskOutcome> {
            *self.1.lock().unwrap() += 1;
            Err(Error::new(self.0, "no response"))
        }
    }
    let retried = DAY.replace("timeout = \"10m\"", "retry = { attempts = 2, on = [\"not-submitted\"] }");
    let pipeline = Pipeline::from_toml(&retried).unwrap();
    let key = StepKey::new("day-7", "address");
    for kind in [ErrorKind::Disconnected, ErrorKind::ServiceFault, ErrorKind::Other, ErrorKind::NotSent] {
        let (world, calls) = (World::new(), Arc::new(Mutex::new(0)));
        let lossy = world.process().with_task(TaskKind::Hudi, Lossy(kind, calls.clone()));
        let report = pipeline.run(&lossy, run()).await.unwrap();
        let entry = world.journal.entry(&key).await.unwrap().unwrap();
        let expected = match kind {
            ErrorKind::NotSent => (StepStatus::NotSubmitted, 2, false),
            _ => (StepStatus::Unknown, 1, true),
        };
        let is_unknown = matches!(entry.state, EntryState::Unknown(_));
        assert_eq!(
            (report.step("address").unwrap().status.clone(), *calls.lock().unwrap(), is_unknown),
            expected
        );
        // The work can be repeated, so the next run finds out. If it cannot, the outcome is still unknown.
        if is_unknown {
            let refusing =
                world.process().with_task(TaskKind::Hudi, Lossy(ErrorKind::NotSent, calls.clone()));
            let report = pipeline.run(&refusing, run()).await.unwrap();
            assert_eq!(report.step("address").unwrap().status, StepStatus::Unknown);
        }
        assert!(pipeline.run(&world.process(), run()).await.unwrap().is_success());
    }
}

#[tokio::test(start_paused = true)]
async fn a_program_may_do_the_work_of_jobs_itself() {
    #[derive(Debug)]
    struct Native;
    #[async_trait]
    impl Task for Native {
        async fn run(&self, call: &TaskCall) -> Result<TaskOutcome> {
            let run = call.glue()?;
            Ok(TaskOutcome::finished().with_id(format!("{} {}", run.job, run.arguments["--cycle"])))
        }
    }
    let world = World::new();
    let orchestrator = world.process().with_task(TaskKind::Glue, Native);
    let report = Pipeline::from_toml(DAY).unwrap().run(&orchestrator, run()).await.unwrap();
    let step = report.step("clean-customer").unwrap();
    assert_eq!(step.attempts[0].statement_id.as_ref().unwrap().as_str(), "clean-customer 7");
    assert_eq!(world.service.started(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_key_of_other_work_is_a_conflict() {
    let sql = DAY.replace(
        "[steps.hudi]\ntable = \"address\"\nfiles = [\"s3://raw/address-${cycle}.csv\"]",
        "sql = \"SELECT ${cycle}\"",
    );
    let job = DAY.replace(
        "[steps.hudi]\ntable = \"address\"\nfiles = [\"s3://raw/address-${cycle}.csv\"]",
        "[steps.glue]\njob = \"address\"",
    );
    let all = [DAY, &sql, &job].map(|text| Pipeline::from_toml(text).unwrap());
    for (first, pipeline) in all.iter().enumerate() {
        for other in all.iter().enumerate().filter(|(number, _)| *number != first).map(|(_, other)| other) {
            let world = World::new();
            assert!(pipeline.run(&world.process(), run()).await.unwrap().is_success());
            let report = other.run(&world.process(), run()).await.unwrap();
            assert_eq!(report.step("address").unwrap().status, StepStatus::NotSubmitted, "{report}");
        }
    }
}
