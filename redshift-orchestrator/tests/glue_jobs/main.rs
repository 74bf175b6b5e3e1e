//! Glue jobs: an attempt starts at most one job run. Also its outcome, timeout and limits.
#![allow(clippy::unwrap_used)]

#[path = "../support/connector.rs"]
mod connector;
mod service;
mod wire;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use redshift_data_local::{LocalExecutor, Script};
use redshift_orchestrator::{
    ErrorKind, Orchestrator, Result, Statement, StepKey, TokioClock,
    glue::{
        Ensured, GlueJob, JobDefinition, JobOutcomeKind, JobRunState, JobStart,
        aws_sdk_glue::types::{ExecutionProperty, Job, JobCommand, WorkerType},
    },
    journal::{
        ActiveRun, Claim, Entry, EntryState, Journal, MemoryJournal, Record, RunCursor, RunEntry, RunPage,
        RunRecord, SettledOutcome, Settlement, settle,
    },
};
use rstest::rstest;
use tokio::time::{Instant, sleep, timeout};

use crate::service::{Fault, Service};

const SECOND: Duration = Duration::from_secs(1);

/// Creates a job of a new process. The journal is shared, like a file.
fn job(service: &Arc<Service>, journal: &Arc<MemoryJournal>) -> GlueJob {
    let clock = TokioClock::starting_at("2026-03-01T00:00:00Z".parse().unwrap());
    GlueJob::new(service.clone(), journal.clone(), "clean").with_clock(clock)
}

fn key() -> StepKey {
    StepKey::new("cycle-007", "customers")
}

#[tokio::test(start_paused = true)]
async fn a_run_is_started_once_and_its_end_is_remembered() {
    let (service, journal) = (Arc::new(Service::default()), Arc::new(MemoryJournal::new()));
    let job = job(&service, &journal).with_region("eu-west-1");
    let began = Instant::now();
    let outcome = job.run(&key(), &[("--cycle", "7")]).await.unwrap();
    assert_eq!(outcome.to_string(), "run jr_0 of job clean succeeded");
    assert_eq!((outcome.state, outcome.execution_time), (Some(JobRunState::Succeeded), Some(90 * SECOND)));
    assert!(outcome.log.unwrap().ends_with("log-group/$252Faws-glue$252Fjobs$252Ferror/log-events/jr_0"));
    assert!(began.elapsed() < 121 * SECOND, "{:?}", began.elapsed());
    let calls = service.calls();
    assert_eq!((calls[0], calls.len()), ("start", 7), "{calls:?}");

    let again = job.run(&key(), &[("--cycle", "7")]).await.unwrap();
    assert!(again.is_success() && again.state.is_none());
    assert_eq!(service.calls(), [""; 0]);

    assert!(job.run(&key().with_attempt(2), &[("--cycle", "7")]).await.unwrap().is_success());
    assert_eq!(service.started(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_start_does_not_wait_and_is_not_repeated() {
    let (service, journal) = (Arc::new(Service::default()), Arc::new(MemoryJournal::new()));
    let (began, job) = (Instant::now(), job(&service, &journal));
    service.state().fault = Some(Fault::LostReply);
    let key = key();
    let started = || job.start(&key, &[("--cycle", "7")]);
    assert_eq!(started().await.unwrap(), JobStart::Started("jr_0".to_owned()));
    assert_eq!((began.elapsed(), service.started()), (Duration::ZERO, 1));
    assert_eq!(started().await.unwrap(), JobStart::Started("jr_0".to_owned()));
    // A caller that waits takes over, and records the end.
    assert!(job.run(&key, &[("--cycle", "7")]).await.unwrap().is_success());
    let JobStart::Over(outcome) = started().await.unwrap() else { panic!() };
    assert!(outcome.is_success());
    assert_eq!(service.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_cannot_be_proved_is_over_and_unknown() {
    let (service, journal) = (Arc::new(Service::default()), Arc::new(MemoryJournal::new()));
    service.state().fault = Some(Fault::LostRequest);
    let JobStart::Over(outcome) = job(&service, &journal).start(&key(), &[]).await.unwrap() else { panic!() };
    assert!(matches!(outcome.kind, JobOutcomeKind::Unknown { .. }), "{outcome}");
    assert_eq!(service.started(), 0);
}

#[rstest]
#[case(JobRunState::Failed, "failed, FAILED: ValueError: no such column")]
#[case(JobRunState::Timeout, "failed, TIMEOUT: the service gives no reason")]
#[case(JobRunState::Error, "failed, ERROR: the service gives no reason")]
#[case(JobRunState::Expired, "failed, EXPIRED: the service gives no reason")]
#[case(JobRunState::Stopped, "was stopped, STOPPED: the service gives no reason")]
#[tokio::test(start_paused = true)]
async fn each_outcome_is_printed_with_the_log(#[case] end: JobRunState, #[case] text: &str) {
    let (service, journal) = (Arc::new(Service::default()), Arc::new(MemoryJournal::new()));
    service.state().next.1 = end.clone();
    let outcome = job(&service, &journal).run(&key(), &[]).await.unwrap();
    let log = "log: log groups /aws-glue/jobs/output and /aws-glue/jobs/error, stream jr_0";
    assert_eq!(outcome.to_string(), format!("run jr_0 of job clean {text}; {log}"));
    assert_eq!(outcome.state, Some(end));
    // The next call returns the same outcome from the journal.
    assert_eq!(job(&service, &journal).run(&key(), &[]).await.unwrap().kind, outcome.kind);
}

#[tokio::test(start_paused = true)]
async fn a_state_that_is_not_known_counts_as_running() {
    let (service, journal) = (Arc::new(Service::default()), Arc::new(MemoryJournal::new()));
    service.state().next.1 = "PAUSED".into();
    let job = job(&service, &journal);
    assert!(timeout(3600 * SECOND, job.run(&key(), &[])).await.is_err());
    assert_eq!(service.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_concurrent_runs_is_waited_for() {
    let (service, journal) = (Arc::new(Service::default()), Arc::new(MemoryJournal::new()));
    service.state().limit = 1;
    let job = job(&service, &journal);
    let other = StepKey::new("cycle-007", "addresses");
    let (key, began) = (key(), Instant::now());
    let (first, second) = tokio::join!(job.run(&key, &[]), job.run(&other, &[]));
    assert!(first.unwrap().is_success() && second.unwrap().is_success());
    assert!(began.elapsed() >= 180 * SECOND);

    service.state().next.0 = 3600 * SECOND;
    let patient = job.clone();
    let long = key.with_attempt(2);
    let blocking = tokio::spawn(async move { patient.run(&long, &[]).await });
    sleep(SECOND).await;
    let hasty = job.with_admission_wait(60 * SECOND);
    let third = other.with_attempt(2);
    let error = hasty.run(&third, &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooManyStatements);
    assert_eq!(service.started(), 3);

    // The service rejected the start, so the same attempt can be started later.
    assert!(blocking.await.unwrap().unwrap().is_success());
    assert!(hasty.run(&third, &[]).await.unwrap().is_success());
}

#[tokio::test(start_paused = true)]
async fn a_run_is_stopped_after_its_timeout() {
    let (service, journal) = (Arc::new(Service::default()), Arc::new(MemoryJournal::new()));
    service.state().next.0 = 3600 * SECOND;
    let job = job(&service, &journal).with_timeout(120 * SECOND);
    let outcome = job.run(&key(), &[]).await.unwrap();
    assert_eq!(outcome.kind, JobOutcomeKind::TimedOut { cancel_pending: false });
    assert_eq!(outcome.state, Some(JobRunState::Stopped));
    assert_eq!(service.calls().iter().filter(|call| **call == "stop").count(), 1);
    assert_eq!(job.run(&key(), &[]).await.unwrap().kind, JobOutcomeKind::TimedOut { cancel_pending: false });
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_response_was_lost_is_found_by_its_token() {
    let (service, journal) = (Arc::new(Service::default()), Arc::new(MemoryJournal::new()));
    service.state().listed_after = 60 * SECOND;
    let job = job(&service, &journal);
    // The listing begins with the newest run, so the lost one is on a later page.
    service.state().fault = Some(Fault::LostReply);
    let lost = key();
    let (first, others) = tokio::join!(job.run(&lost, &[("--cycle", "7")]), async {
        sleep(SECOND).await;
        for attempt in 2..6 {
            let other = key().with_attempt(attempt);
            // The future is dropped, but the run continues.
            timeout(SECOND, job.run(&other, &[])).await.unwrap_err();
        }
    });
    assert_eq!((first.unwrap().run_id.as_deref(), others), (Some("jr_0"), ()));
    assert_eq!(service.started(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_cannot_be_proved_is_unknown_and_never_repeated() {
    let (service, journal) = (Arc::new(Service::default()), Arc::new(MemoryJournal::new()));
    let job = job(&service, &journal);
    service.state().fault = Some(Fault::LostRequest);
    let outcome = job.run(&key(), &[]).await.unwrap();
    let JobOutcomeKind::Unknown { manual_check, .. } = &outcome.kind else { panic!("{outcome}") };
    assert!(manual_check.contains("whose argument --run-token is ro2-"), "{manual_check}");
    assert!(matches!(job.run(&key(), &[]).await.unwrap().kind, JobOutcomeKind::Unknown { .. }));
    assert_eq!(service.started(), 0);

    let at = "2026-03-02T00:00:00Z".parse().unwrap();
    settle(&journal, at, &key(), Settlement::new(SettledOutcome::NeverRan)).await.unwrap();
    assert!(job.run(&key(), &[]).await.unwrap().is_success());
    assert_eq!(service.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_schedule_of_faults_and_deaths_starts_a_second_run() {
    let (mut succeeded, mut unknown) = (0, 0);
    for seed in 0..1_000 {
        let service = Arc::new(Service::with_faults(seed));
        let journal = Arc::new(MemoryJournal::new());
        let mut random = fastrand::Rng::with_seed(seed);
        service.state().listed_after = random.u32(0..30) * SECOND;
        let outcome = loop {
            // The process dies after a random time, and the next process continues.
            let lifetime = random.u32(1..400) * SECOND / 2;
            let job = job(&service, &journal).with_timeout(600 * SECOND);
            match timeout(lifetime, job.run(&key(), &[("--cycle", "7")])).await {
                Ok(Ok(outcome)) => break outcome,
                Ok(Err(error)) => panic!("seed {seed}: {error}"),
                Err(_) => {}
            }
        };
        assert!(service.started() <= 1, "seed {seed}: {} runs", service.started());
        match outcome.kind {
            JobOutcomeKind::Succeeded => {
                assert_eq!(service.started(), 1, "seed {seed}");
                succeeded += 1;
            }
            JobOutcomeKind::Unknown { .. } => unknown += 1,
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    // One start in twenty loses its request.
    assert!(succeeded > 800 && unknown > 10, "{succeeded} succeeded, {unknown} unknown");
}

#[tokio::test]
async fn an_argument_that_glue_would_drop_is_refused() {
    let (service, journal) = (Arc::new(Service::default()), Arc::new(MemoryJournal::new()));
    for name in ["cycle", "--run-token"] {
        let error = job(&service, &journal).run(&key(), &[(name, "7")]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(&format!("argument: {name}")), "{error}");
    }
    assert_eq!(service.calls(), [""; 0]);
}

#[tokio::test]
async fn a_job_is_created_and_updated_only_if_it_differs() {
    let (service, journal) = (Arc::new(Service::default()), Arc::new(MemoryJournal::new()));
    let job = job(&service, &journal);
    let definition = JobDefinition::new("clean", "arn:role", "s3://bucket/job.py")
        .with_default_argument("--enable-glue-datacatalog", "true");
    assert_eq!(job.ensure(&definition).await.unwrap(), Ensured::Created);
    assert_eq!(service.state().created, 1);

    let command =
        JobCommand::builder().name("glueetl").python_version("3").script_location("s3://bucket/job.py");
    let registered = Job::builder()
        .name("clean")
        .role("arn:role")
        .command(command.build())
        .glue_version("5.0")
        .worker_type(WorkerType::G1X)
        .number_of_workers(2)
        .timeout(480)
        .execution_property(ExecutionProperty::builder().max_concurrent_runs(1).build())
        .default_arguments("--enable-glue-datacatalog", "true")
        .default_arguments("--enable-metrics", "true")
        .description("Owned by the shop");
    service.state().job = Some(registered.build());
    assert_eq!(job.ensure(&definition).await.unwrap(), Ensured::Unchanged);

    let wider = definition.with_workers("G.2X", 5);
    assert_eq!(
        job.ensure(&wider).await.unwrap().to_string(),
        "the job was updated: worker type changes from G.1X to G.2X; number of workers changes from 2 to 5"
    );
    // An update replaces the whole definition, so it must contain the members that are not managed here.
    let update = service.state().updates.remove(0);
    assert_eq!(update.description(), Some("Owned by the shop"));
    assert_eq!(update.default_arguments().unwrap()["--enable-metrics"], "true");
    assert_eq!((update.max_retries(), update.timeout()), (0, Some(480)));

    let other = JobDefinition::new("other", "arn:role", "s3://bucket/job.py");
    assert_eq!(job.ensure(&other).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test(start_paused = true)]
async fn two_calls_at_once_start_one_run() {
    let (service, journal) = (Arc::new(Service::default()), Arc::new(MemoryJournal::new()));
    let clock = TokioClock::starting_at("2026-03-01T00:00:00Z".parse().unwrap());
    let job = GlueJob::new(service.clone(), SlowJournal(journal), "clean").with_clock(clock);
    let (copy, key) = (job.clone(), key());
    let (first, second) = tokio::join!(job.run(&key, &[]), copy.run(&key, &[]));
    assert_eq!(first.unwrap().run_id, second.unwrap().run_id);
    assert_eq!(service.started(), 1);
}

/// Regression: each value had its own turns, and two of them started a run each.
#[tokio::test(start_paused = true)]
async fn two_values_with_one_journal_start_one_run() {
    let (service, journal) = (Arc::new(Service::default()), Arc::new(MemoryJournal::new()));
    let clock = || TokioClock::starting_at("2026-03-01T00:00:00Z".parse().unwrap());
    let job = || GlueJob::new(service.clone(), SlowJournal(journal.clone()), "clean").with_clock(clock());
    let (one, two, key) = (job(), job(), key());
    let (first, second) = tokio::join!(one.run(&key, &[]), two.run(&key, &[]));
    assert_eq!(first.unwrap().run_id, second.unwrap().run_id);
    assert_eq!(service.started(), 1);
}

/// Regression: a run that Glue was still stopping at the end of the grace time was unknown.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_still_being_stopped_timed_out_and_stays_open() {
    let (service, journal) = (Arc::new(Service::default()), Arc::new(MemoryJournal::new()));
    service.state().next.0 = 3600 * SECOND;
    let job = job(&service, &journal).with_timeout(120 * SECOND).with_cancel_grace(10 * SECOND);
    let outcome = job.run(&key(), &[]).await.unwrap();
    assert_eq!(outcome.kind, JobOutcomeKind::TimedOut { cancel_pending: true });
    assert!(
        outcome.to_string().contains("was stopped after its timeout, and has not ended yet"),
        "{outcome}"
    );
    let entry = journal.entry(&key()).await.unwrap().unwrap();
    assert_eq!((entry.state, entry.cancel_pending), (EntryState::Open, true));
    sleep(20 * SECOND).await;
    let outcome = job.run(&key(), &[]).await.unwrap();
    assert_eq!(outcome.kind, JobOutcomeKind::TimedOut { cancel_pending: false });
    assert_eq!(service.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_record_of_other_work_under_the_same_key_is_a_conflict() {
    let (service, journal) = (Arc::new(Service::default()), Arc::new(MemoryJournal::new()));
    assert!(job(&service, &journal).run(&key(), &[]).await.unwrap().is_success());
    let other = GlueJob::new(service.clone(), journal.clone(), "other");
    let error = other.run(&key(), &[]).await.unwrap_err();
    assert_eq!((error.kind(), service.started()), (ErrorKind::StepKeyConflict, 1));
    assert!(error.to_string().contains("belongs to glue/clean, not to glue/other"), "{error}");

    let sql = LocalExecutor::scripted(Script::new());
    let orchestrator = Orchestrator::new(sql.clone()).with_journal(journal.clone());
    let statement = || Statement::sql("CALL clean()");
    let error = orchestrator.run(&key(), statement()).await.unwrap_err();
    assert_eq!((error.kind(), sql.effects().len()), (ErrorKind::StepKeyConflict, 0));
    assert!(error.to_string().contains("belongs to `glue/clean`, not to an SQL statement"), "{error}");

    let second = key().with_attempt(2);
    assert!(orchestrator.run(&second, statement()).await.unwrap().is_success());
    let error = job(&service, &journal).run(&second, &[]).await.unwrap_err();
    assert_eq!((error.kind(), service.started()), (ErrorKind::StepKeyConflict, 1));
}

/// Journal that takes 10 ms for each append.
#[derive(Debug)]
struct SlowJournal(Arc<MemoryJournal>);

#[async_trait]
impl Journal for SlowJournal {
    async fn append(&self, record: Record) -> Result<()> {
        sleep(Duration::from_millis(10)).await;
        self.0.append(record).await
    }

    async fn entry(&self, key: &StepKey) -> Result<Option<Entry>> {
        self.0.entry(key).await
    }

    async fn entries(&self, run: &str) -> Result<Vec<Entry>> {
        self.0.entries(run).await
    }

    async fn claim(&self, claim: &Claim) -> Result<ActiveRun> {
        self.0.claim(claim).await
    }

    async fn append_run(&self, record: RunRecord) -> Result<()> {
        self.0.append_run(record).await
    }

    async fn run_entry(&self, run: &str) -> Result<Option<RunEntry>> {
        self.0.run_entry(run).await
    }

    async fn runs(&self, limit: usize, after: Option<&RunCursor>) -> Result<RunPage> {
        self.0.runs(limit, after).await
    }

    async fn remove_runs(&self, runs: &[RunEntry]) -> Result<()> {
        self.0.remove_runs(runs).await
    }
}
