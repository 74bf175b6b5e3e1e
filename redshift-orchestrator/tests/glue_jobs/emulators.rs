//! Jobs over the SDK on emulators of Glue: moto and MiniStack. Runs end at once there, so runs that take
//! time, fail or meet the limit of concurrent runs are played by [`Service`](crate::service::Service).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region};
use redshift_orchestrator::{
    Error, ErrorKind, Result, StepKey,
    glue::{
        Ensured, GlueJob, GlueService, JobDefinition, JobRun, JobRunPage, JobService,
        aws_sdk_glue::{
            Client,
            config::Credentials,
            types::{Job, JobUpdate},
        },
    },
    journal::MemoryJournal,
    wait::Exponential,
};
use rstest::rstest;

/// Variables with the URLs of the emulators.
const MOTO: &str = "REDSHIFT_ORCHESTRATOR_S3_ENDPOINT";
const MINISTACK: &str = "REDSHIFT_ORCHESTRATOR_MINISTACK_ENDPOINT";

/// Service that loses the response to the first start.
#[derive(Debug)]
struct Losing {
    inner: GlueService,
    lost: std::sync::atomic::AtomicBool,
}

impl Losing {
    async fn on(variable: &str) -> Self {
        let endpoint =
            std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: scripts/test sets it"));
        let config = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
            .endpoint_url(endpoint);
        Self { inner: GlueService::new(Client::new(&config.load().await)), lost: false.into() }
    }
}

#[async_trait]
impl JobService for Losing {
    async fn job(&self, name: &str) -> Result<Option<Job>> {
        self.inner.job(name).await
    }

    async fn create(&self, definition: &JobDefinition) -> Result<()> {
        self.inner.create(definition).await
    }

    async fn update(&self, name: &str, update: JobUpdate) -> Result<()> {
        self.inner.update(name, update).await
    }

    async fn start(&self, job: &str, arguments: &BTreeMap<String, String>) -> Result<String> {
        let started = self.inner.start(job, arguments).await;
        match self.lost.swap(true, std::sync::atomic::Ordering::SeqCst) {
            true => started,
            false => Err(Error::new(ErrorKind::Disconnected, "connection reset")),
        }
    }

    async fn run(&self, job: &str, id: &str) -> Result<JobRun> {
        self.inner.run(job, id).await
    }

    async fn runs(&self, job: &str, page: Option<&str>) -> Result<JobRunPage> {
        self.inner.runs(job, page).await
    }

    async fn stop(&self, job: &str, id: &str) -> Result<bool> {
        self.inner.stop(job, id).await
    }

    fn target(&self) -> Option<String> {
        self.inner.target()
    }
}

fn definition(name: &str, workers: i32) -> JobDefinition {
    JobDefinition::new(name, "arn:aws:iam::123456789012:role/glue", "s3://bucket/job.py")
        .with_workers("G.1X", workers)
        .with_default_argument("--enable-glue-datacatalog", "true")
}

fn job(service: &Arc<Losing>, journal: &Arc<MemoryJournal>, name: &str) -> GlueJob {
    let strategy = Exponential::new(Duration::from_millis(50));
    GlueJob::new(service.clone(), journal.clone(), name).with_strategy(strategy)
}

#[rstest]
#[case::moto(MOTO)]
#[case::ministack(MINISTACK)]
#[tokio::test]
#[ignore = "needs emulators of Glue: scripts/test"]
async fn a_job_is_created_and_each_attempt_runs_once_though_a_response_is_lost(#[case] emulator: &str) {
    let (service, journal) = (Arc::new(Losing::on(emulator).await), Arc::new(MemoryJournal::new()));
    let name = format!("clean-{}", std::process::id());
    let job = job(&service, &journal, &name);
    assert_eq!(job.ensure(&definition(&name, 2)).await.unwrap(), Ensured::Created);
    assert_eq!(job.ensure(&definition(&name, 2)).await.unwrap(), Ensured::Unchanged);

    let key = StepKey::new("cycle-007", "customers");
    let first = job.run(&key, &[("--cycle", "7")]).await.unwrap();
    assert!(first.is_success(), "{first}");
    let again = job.run(&key, &[("--cycle", "7")]).await.unwrap();
    assert_eq!((again.is_success(), &again.run_id), (true, &first.run_id));
    let second = job.run(&key.with_attempt(2), &[("--cycle", "7")]).await.unwrap();
    assert!(second.is_success() && second.run_id != first.run_id, "{second}");
    let runs = service.runs(&name, None).await.unwrap().runs;
    assert_eq!(runs.len(), 2, "{runs:?}");
    assert!(runs.iter().all(|run| run.arguments["--cycle"] == "7"), "{runs:?}");

    let unknown = service.run(&name, "jr_0").await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound, "{unknown}");
    let absent = GlueJob::new(service, MemoryJournal::new(), "absent");
    let refused = absent.run(&StepKey::new("cycle-008", "customers"), &[]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused}");
}

#[tokio::test]
#[ignore = "needs emulators of Glue: scripts/test"]
async fn a_job_is_updated_and_an_ended_run_is_not_stopped_on_ministack() {
    let (service, journal) = (Arc::new(Losing::on(MINISTACK).await), Arc::new(MemoryJournal::new()));
    let name = format!("updated-{}", std::process::id());
    let job = job(&service, &journal, &name);
    job.ensure(&definition(&name, 2)).await.unwrap();
    let Ensured::Updated(differences) = job.ensure(&definition(&name, 5)).await.unwrap() else {
        panic!("the job was not updated")
    };
    assert_eq!(differences, ["number of workers changes from 2 to 5"]);
    assert_eq!(job.ensure(&definition(&name, 5)).await.unwrap(), Ensured::Unchanged);

    let outcome = job.run(&StepKey::new("cycle-007", "customers"), &[]).await.unwrap();
    assert!(outcome.is_success(), "{outcome}");
    assert!(!service.stop(&name, outcome.run_id.as_deref().unwrap()).await.unwrap());
}
