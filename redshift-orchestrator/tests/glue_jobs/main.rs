//! Glue jobs: an attempt starts at most one job run. Also its outcome, timeout and limits.
#![allow(clippy::unwrap_used)]

#[path = "../support/connector.rs"]
mod connector;
mod emulators;
mod over_sdk;
mod pipeline;
mod service;
mod wire;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt;
use object_store::{
    ObjectStore,
    memory::InMemory,
    throttle::{ThrottleConfig, ThrottledStore},
};
use redshift_data_local::{LocalExecutor, Script};
use redshift_orchestrator::{
    ClientToken, ErrorKind, Orchestrator, Origin, Result, Statement, StatementId, StepKey, TokioClock,
    glue::{
        Ensured, GlueJob, JobDefinition, JobRunState, JobStart, RUN_TOKEN,
        aws_sdk_glue::types::{ExecutionProperty, Job, JobCommand, WorkerType},
    },
    journal::{
        ActiveRun, Claim, Entry, EntryState, Event, Journal, MemoryJournal, ObjectStoreJournal, Record,
        RunCursor, RunEntry, RunPage, RunRecord, SettledOutcome, Settlement, settle,
    },
    task::TaskOutcomeKind,
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
async fn a_run_is_started_once_and_its_outcome_is_recorded() {
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

    assert_eq!(outcome.origin, Origin::Submitted);

    let again = job.run(&key(), &[("--cycle", "7")]).await.unwrap();
    assert!(again.is_success() && again.state.is_none());
    assert_eq!(again.origin, Origin::Journal);
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
    // A caller that waits takes over, and records the outcome.
    let outcome = job.run(&key, &[("--cycle", "7")]).await.unwrap();
    assert!(outcome.is_success());
    assert_eq!(outcome.origin, Origin::Reattached);
    let JobStart::Concluded(outcome) = started().await.unwrap() else { panic!() };
    assert!(outcome.is_success());
    assert_eq!(service.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_uncertain_start_ends_as_unknown() {
    let (service, journal) = (Arc::new(Service::default()), Arc::new(MemoryJournal::new()));
    service.state().fault = Some(Fault::LostRequest);
    let JobStart::Concluded(outcome) = job(&service, &journal).start(&key(), &[]).await.unwrap() else {
        panic!()
    };
    assert!(matches!(outcome.kind, TaskOutcomeKind::Unknown { .. }), "{outcome}");
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
async fn an_unknown_state_counts_as_running() {
    let (service, journal) = (Arc::new(Service::default()), Arc::new(MemoryJournal::new()));
    service.state().next.1 = "PAUSED".into();
    let job = job(&service, &journal);
    assert!(timeout(3600 * SECOND, job.run(&key(), &[])).await.is_err());
    assert_eq!(service.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_start_waits_for_the_limit_of_concurrent_runs() {
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
    assert_eq!(outcome.kind, TaskOutcomeKind::TimedOut { may_still_run: false });
    assert_eq!(outcome.state, Some(JobRunState::Stopped));
    assert_eq!(service.calls().iter().filter(|call| **call == "stop").count(), 1);
    assert_eq!(job.run(&key(), &[]).await.unwrap().kind, TaskOutcomeKind::TimedOut { may_still_run: false });
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
async fn an_uncertain_start_is_unknown_and_never_repeated() {
    let (service, journal) = (Arc::new(Service::default()), Arc::new(MemoryJournal::new()));
    let job = job(&service, &journal);
    service.state().fault = Some(Fault::LostRequest);
    let outcome = job.run(&key(), &[]).await.unwrap();
    let TaskOutcomeKind::Unknown { manual_check, .. } = &outcome.kind else { panic!("{outcome}") };
    assert!(manual_check.contains("whose argument --run-token is ro2-"), "{manual_check}");
    assert_eq!(outcome.origin, Origin::Submitted);
    let again = job.run(&key(), &[]).await.unwrap();
    assert!(matches!(again.kind, TaskOutcomeKind::Unknown { .. }));
    assert_eq!(again.origin, Origin::Reattached);
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
            TaskOutcomeKind::Finished => {
                assert_eq!(service.started(), 1, "seed {seed}");
                succeeded += 1;
            }
            TaskOutcomeKind::Unknown { .. } => unknown += 1,
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    // One start in twenty loses its request.
    assert!(succeeded > 800 && unknown > 10, "{succeeded} succeeded, {unknown} unknown");
}

#[tokio::test]
async fn an_argument_that_glue_would_ignore_is_rejected() {
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

    // Glue counts timeouts in minutes, and a part of a minute as a minute.
    for (timeout, minutes) in
        [(3600 * SECOND, 60), (61 * SECOND, 2), (SECOND / 2, 1), (Duration::MAX, i32::MAX)]
    {
        job.ensure(&wider.clone().with_timeout(timeout)).await.unwrap();
        assert_eq!(service.state().updates.remove(0).timeout(), Some(minutes));
    }

    let other = JobDefinition::new("other", "arn:role", "s3://bucket/job.py");
    assert_eq!(job.ensure(&other).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test(start_paused = true)]
async fn concurrent_calls_start_one_run() {
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
async fn two_jobs_with_one_journal_start_one_run() {
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
async fn a_run_that_is_still_stopping_is_timed_out_and_left_open() {
    let (service, journal) = (Arc::new(Service::default()), Arc::new(MemoryJournal::new()));
    service.state().next.0 = 3600 * SECOND;
    let job = job(&service, &journal).with_timeout(120 * SECOND).with_cancel_grace(10 * SECOND);
    let outcome = job.run(&key(), &[]).await.unwrap();
    assert_eq!(outcome.kind, TaskOutcomeKind::TimedOut { may_still_run: true });
    assert!(
        outcome.to_string().contains("was stopped after its timeout, and has not ended yet"),
        "{outcome}"
    );
    let entry = journal.entry(&key()).await.unwrap().unwrap();
    assert_eq!((entry.state, entry.cancel_pending), (EntryState::Open, true));
    sleep(20 * SECOND).await;
    let outcome = job.run(&key(), &[]).await.unwrap();
    assert_eq!(outcome.kind, TaskOutcomeKind::TimedOut { may_still_run: false });
    assert_eq!(service.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_entry_of_other_work_with_the_same_key_is_a_conflict() {
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

/// Regression: the identity of a run was the name of its job. A job with the same name in another region or
/// account then got the outcome of the first job's run, and never ran.
#[tokio::test(start_paused = true)]
async fn jobs_of_two_regions_or_scopes_share_no_run() {
    let (frankfurt, dublin) =
        (Arc::new(Service::at("aws:eu-central-1")), Arc::new(Service::at("aws:eu-west-1")));
    let journal = Arc::new(MemoryJournal::new());
    assert!(job(&frankfurt, &journal).run(&key(), &[]).await.unwrap().is_success());
    assert_eq!(
        journal.entry(&key()).await.unwrap().unwrap().target.as_deref(),
        Some("aws:eu-central-1:glue/clean")
    );
    for (job, was, is) in [
        (job(&dublin, &journal), "aws:eu-central-1:glue/clean", "aws:eu-west-1:glue/clean"),
        (
            job(&frankfurt, &journal).with_scope("prod"),
            "clean cycle-007/customers/1",
            "prod/clean cycle-007/customers/1",
        ),
    ] {
        for error in [job.run(&key(), &[]).await.unwrap_err(), job.start(&key(), &[]).await.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::StepKeyConflict);
            let text = format!("belongs to {was}, not to {is}; use another name for the run");
            assert!(error.to_string().contains(&text), "{error}");
        }
    }
    assert_eq!((frankfurt.started(), dublin.started()), (1, 0));
    // The argument by which a run is found differs, too.
    let own = || Arc::new(MemoryJournal::new());
    assert!(job(&dublin, &own()).run(&key(), &[]).await.unwrap().is_success());
    assert!(job(&dublin, &own()).with_scope("prod").run(&key(), &[]).await.unwrap().is_success());
    let tokens =
        [frankfurt.argument(0, RUN_TOKEN), dublin.argument(0, RUN_TOKEN), dublin.argument(1, RUN_TOKEN)];
    assert!(tokens[0] != tokens[1] && tokens[0] != tokens[2] && tokens[1] != tokens[2], "{tokens:?}");
    let invalid = job(&dublin, &own()).with_scope("").run(&key(), &[]).await.unwrap_err();
    assert_eq!(invalid.kind(), ErrorKind::Invalid);
}

/// An earlier version recorded only the name of the job, or nothing, as the target.
#[tokio::test(start_paused = true)]
async fn an_entry_of_an_earlier_version_is_rejected_with_a_way_out() {
    for target in [Some("glue/clean".to_owned()), None] {
        let (service, journal) = (Arc::new(Service::at("aws:eu-west-1")), Arc::new(MemoryJournal::new()));
        let (token, name) = (ClientToken::new("t").unwrap(), format!("clean {}", key()));
        let at = "2026-03-01T00:00:00Z".parse().unwrap();
        journal.append(Record::new(at, key(), Event::Intent { token, name, target })).await.unwrap();
        let error = job(&service, &journal).run(&key(), &[]).await.unwrap_err();
        assert_eq!((error.kind(), service.started()), (ErrorKind::StepKeyConflict, 0));
        assert!(error.to_string().contains("use another name for the run, or a separate journal"), "{error}");
        // After an operator has found no run, the attempt can be started.
        settle(&journal, at, &key(), Settlement::new(SettledOutcome::NeverRan)).await.unwrap();
        assert!(job(&service, &journal).run(&key(), &[]).await.unwrap().is_success());
    }
}

/// Regression: the id of a run was sent to the Data API as that of a statement.
#[tokio::test(start_paused = true)]
async fn an_attempt_at_a_job_is_not_cancelled_as_a_statement() {
    let at = "2026-03-01T00:00:00Z".parse().unwrap();
    for (target, way_out) in [
        ("aws:eu-west-1:glue/clean", "stop the run of the Glue job clean"),
        ("hudi/address", "stop the program that takes files into the table address"),
    ] {
        let (journal, token) = (Arc::new(MemoryJournal::new()), ClientToken::new("t").unwrap());
        let intent =
            Event::Intent { token, name: format!("{target} {}", key()), target: Some(target.into()) };
        for event in [intent, Event::Submitted { id: StatementId::new("jr_1") }] {
            journal.append(Record::new(at, key(), event)).await.unwrap();
        }
        let service = Arc::new(LocalExecutor::scripted(Script::new()));
        let orchestrator = Orchestrator::new(service).with_journal(journal.clone());
        let error = orchestrator.cancel(&key()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(way_out), "{error}");
        let check = journal.entry(&key()).await.unwrap().unwrap().manual_check();
        assert!(!check.contains("redshift-data"), "{check}");
    }
}

fn on_objects(store: Arc<dyn ObjectStore>, service: &Arc<Service>) -> GlueJob {
    let clock = TokioClock::starting_at("2026-03-01T00:00:00Z".parse().unwrap());
    let journal = ObjectStoreJournal::new(store, "etl").with_clock(clock);
    GlueJob::new(service.clone(), journal, "clean").with_clock(clock)
}

/// Regression: a call that waited for admission started its run although its lease had expired and another
/// process was about to report the run as unknown.
#[tokio::test(start_paused = true)]
async fn a_call_that_lost_its_claim_starts_nothing() {
    let (service, store) = (Arc::new(Service::default()), Arc::new(InMemory::new()));
    let slow = Arc::new(ThrottledStore::new(store.clone(), ThrottleConfig::default()));
    service.state().limit = 0;
    let (first, second) = (on_objects(slow.clone(), &service), on_objects(store, &service));
    let waiting = tokio::spawn(async move { first.run(&key(), &[]).await });
    sleep(SECOND).await;
    // The renewal after 10 s takes 100 s. The lease expires after 30 s, and the second call finds the intent.
    slow.config_mut(|config| config.wait_put_per_call = 100 * SECOND);
    let other = second.clone();
    let other = tokio::spawn(async move { other.run(&key(), &[]).await });
    sleep(60 * SECOND).await;
    slow.config_mut(|config| config.wait_put_per_call = Duration::ZERO);
    service.state().limit = 1;
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overlap, "{error}");
    // The rejection is in the journal, so the second call starts the run.
    assert!(other.await.unwrap().unwrap().is_success());
    assert_eq!(service.started(), 1);
}

/// Regression: pages of a listing that form a cycle were read forever.
#[tokio::test(start_paused = true)]
async fn a_cycle_of_pages_ends_the_search_as_unknown() {
    let (service, journal) = (Arc::new(Service::default()), Arc::new(MemoryJournal::new()));
    service.state().fault = Some(Fault::LostRequest);
    service.state().is_cyclic = true;
    let outcome = job(&service, &journal).run(&key(), &[]).await.unwrap();
    let TaskOutcomeKind::Unknown { reason, .. } = &outcome.kind else { panic!("{outcome}") };
    assert!(reason.contains("form a cycle"), "{reason}");
}

/// Regression: a start failed at once if the credentials had expired, although they were renewed soon.
#[tokio::test(start_paused = true)]
async fn a_start_waits_for_renewed_credentials_for_a_quarter_of_an_hour() {
    for (minutes, is_started) in [(14, true), (16, false)] {
        let (service, journal) = (Arc::new(Service::default()), Arc::new(MemoryJournal::new()));
        service.state().is_expired = true;
        let (renewed, began) = (service.clone(), Instant::now());
        let renewal = tokio::spawn(async move {
            sleep(60 * minutes * SECOND).await;
            renewed.state().is_expired = false;
        });
        // The limit of the credentials does not depend on the wait for admission.
        let job = job(&service, &journal).with_admission_wait(SECOND);
        match job.run(&key(), &[]).await {
            Ok(outcome) => assert!(is_started && outcome.is_success(), "{outcome}"),
            Err(error) => {
                assert_eq!((error.kind(), is_started), (ErrorKind::CredentialsExpired, false));
                assert!(began.elapsed() > 14 * 60 * SECOND, "{:?}", began.elapsed());
                // The rejection is recorded, so the attempt can be started later.
                renewal.await.unwrap();
                assert!(job.run(&key(), &[]).await.unwrap().is_success());
            }
        }
        assert_eq!(service.started(), 1);
    }
}

/// Regression: an attempt could be settled as never run while a call was searching for its run, and the next
/// call started a second run.
#[tokio::test(start_paused = true)]
async fn an_attempt_is_not_settled_during_the_search_for_its_run() {
    let (service, store) = (Arc::new(Service::default()), Arc::new(InMemory::new()));
    service.state().fault = Some(Fault::LostReply);
    service.state().listed_after = 60 * SECOND;
    let first = on_objects(store.clone(), &service);
    let searching = tokio::spawn(async move { first.run(&key(), &[]).await });
    sleep(10 * SECOND).await;
    let at = "2026-03-01T00:00:10Z".parse().unwrap();
    let clock = TokioClock::starting_at(at);
    let operator = ObjectStoreJournal::new(store.clone(), "etl").with_clock(clock);
    let never_ran = || Settlement::new(SettledOutcome::NeverRan);
    let refused = settle(&operator, at, &key(), never_ran()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overlap);
    assert!(refused.to_string().contains("searching for it"), "{refused}");
    assert!(searching.await.unwrap().unwrap().is_success());
    assert!(on_objects(store, &service).run(&key(), &[]).await.unwrap().is_success());
    assert_eq!(service.started(), 1);
}

/// Regression: two processes waited for one run, and the second one could not record its end, because it had
/// not read the record of the first one. The outcome was then an error.
#[tokio::test(start_paused = true)]
async fn a_call_of_another_process_that_waited_for_the_claim_starts_no_second_run() {
    let (service, store) = (Arc::new(Service::default()), Arc::new(InMemory::new()));
    service.state().limit = 0;
    let (first, second) = (on_objects(store.clone(), &service), on_objects(store, &service));
    let waiting = tokio::spawn(async move { first.run(&key(), &[]).await });
    sleep(SECOND).await;
    let other = tokio::spawn(async move { second.run(&key(), &[]).await });
    sleep(60 * SECOND).await;
    service.state().limit = 10;
    let ran = [waiting, other].map(|call| async { call.await.unwrap().unwrap().run_id });
    assert_eq!(futures::future::join_all(ran).await, [Some("jr_0".to_owned()), Some("jr_0".to_owned())]);
    assert_eq!(service.started(), 1);
}

/// A run that one process stopped after its timeout has timed out for every process that waits for it.
#[tokio::test(start_paused = true)]
async fn a_timeout_of_one_process_is_known_to_the_others() {
    let (service, store) = (Arc::new(Service::default()), Arc::new(InMemory::new()));
    service.state().next.0 = 3600 * SECOND;
    let (first, second) = (on_objects(store.clone(), &service), on_objects(store, &service));
    let first = first.with_timeout(120 * SECOND);
    let hasty = tokio::spawn(async move { first.run(&key(), &[]).await });
    sleep(SECOND).await;
    let outcomes = [hasty, tokio::spawn(async move { second.run(&key(), &[]).await })];
    for outcome in outcomes {
        let outcome = outcome.await.unwrap().unwrap();
        assert_eq!(outcome.kind, TaskOutcomeKind::TimedOut { may_still_run: false });
    }
}

/// Regression: an attempt that waited for admission had an intent since its first start. After a death in the
/// pause before the next start, its outcome was unknown.
#[tokio::test(start_paused = true)]
async fn a_rejected_start_is_recorded_before_the_pause() {
    let (service, journal) = (Arc::new(Service::default()), Arc::new(MemoryJournal::new()));
    service.state().limit = 0;
    assert!(timeout(600 * SECOND, job(&service, &journal).run(&key(), &[])).await.is_err());
    let entry = journal.entry(&key()).await.unwrap().unwrap();
    assert!(matches!(&entry.state, EntryState::NotSubmitted(error) if error.contains("Concurrent runs")));
    service.state().limit = 10;
    assert!(job(&service, &journal).run(&key(), &[]).await.unwrap().is_success());
    assert_eq!(service.started(), 1);
}

/// Regression: the time for which runs are listed, and the timeout, were counted from the first intent or
/// from the listing that contained the run.
#[tokio::test(start_paused = true)]
async fn the_look_up_and_the_timeout_count_from_the_last_start() {
    let (service, journal) = (Arc::new(Service::default()), Arc::new(MemoryJournal::new()));
    let clock = TokioClock::starting_at("2026-03-01T00:00:00Z".parse().unwrap());
    let process = || job(&service, &journal).with_clock(clock).with_timeout(120 * SECOND);
    {
        let mut state = service.state();
        (state.limit, state.listed_after, state.next.0) = (0, 60 * SECOND, 3600 * SECOND);
    }
    let first = process();
    let (dead, started) = (key(), async {
        sleep(1800 * SECOND).await;
        service.state().limit = 10;
        service.state().fault = Some(Fault::LostReply);
        while service.started() == 0 {
            sleep(SECOND).await;
        }
    });
    // The process dies within a second of the start.
    tokio::select! {
        outcome = first.run(&dead, &[]) => panic!("{outcome:?}"),
        () = started => {}
    }
    let outcome = process().run(&key(), &[]).await.unwrap();
    assert_eq!(outcome.run_id.as_deref(), Some("jr_0"), "{outcome}");
    assert_eq!(outcome.kind, TaskOutcomeKind::TimedOut { may_still_run: false });
    let stopped = service.stopped_after(0).unwrap();
    assert!((119 * SECOND..=121 * SECOND).contains(&stopped), "{stopped:?}");
    assert_eq!(service.started(), 1);
}

/// Regression: each key left an object in the store forever.
#[tokio::test(start_paused = true)]
async fn a_call_leaves_no_lease() {
    let (service, store) = (Arc::new(Service::default()), Arc::new(InMemory::new()));
    assert!(on_objects(store.clone(), &service).run(&key(), &[]).await.unwrap().is_success());
    let objects: Vec<_> = store.list(None).map(|object| object.unwrap().location.to_string()).collect().await;
    assert!(!objects.is_empty() && objects.iter().all(|path| !path.contains("leases")), "{objects:?}");
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

    async fn remove_runs(&self, runs: &[RunEntry]) -> Result<Vec<String>> {
        self.0.remove_runs(runs).await
    }
}
