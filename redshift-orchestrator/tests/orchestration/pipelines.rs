//! Pipelines: runs, resumption, retries, observers and reports.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use redshift_data_local::{self as local, Fault, Faults, Faulty, LocalExecutor, Operation, Script};
use redshift_orchestrator::{
    ErrorKind, FailureKind, Observer, Orchestrator, Pipeline, ProgressEvent, Report, Run, StepKey,
    TokioClock,
    journal::{Entry, FileJournal, Journal, MemoryJournal},
    pipeline::{OnFailure, RetryPolicy, Step},
};

use crate::intercept::{Intercept, Intercepted};

const CYCLE: &str = include_str!("../data/cycle.toml");

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_run_is_reported_as_text_json_and_chart() {
    let conflict = "ERROR: 1023 DETAIL: Serializable isolation violation on table - 107";
    let script = Script::new()
        .on("dim_customer", local::ScriptedExecution::finished(seconds(4.2)).with_affected_rows(120))
        .on("dim_item", local::ScriptedExecution::finished(seconds(2.1)))
        .on(
            "dim_store",
            local::ScriptedExecution::failed(seconds(0.4), "ERROR: column \"region\" does not exist"),
        )
        .on_each(
            "fact_sales",
            [
                local::ScriptedExecution::failed(seconds(3.0), conflict),
                local::ScriptedExecution::finished(seconds(5.5)),
            ],
        );
    let service = LocalExecutor::scripted(script);
    let faults = Faults::seeded(3).with(Operation::Submit, Fault::LostReply, 0.3).with(
        Operation::Describe,
        Fault::Throttle,
        0.3,
    );
    let journal = MemoryJournal::new();
    let orchestrator = Orchestrator::new(Faulty::new(service.clone(), faults))
        .with_journal(journal.clone())
        .with_clock(TokioClock::starting_at("2026-11-23T06:30:00Z".parse().unwrap()));
    let pipeline = Pipeline::from_toml(CYCLE).unwrap();
    insta::assert_snapshot!("plan", pipeline.plan());
    let report =
        pipeline.run(&orchestrator, Run::new("cycle-007").with_parameter("cycle", "7")).await.unwrap();
    insta::assert_snapshot!("report", report);
    insta::assert_json_snapshot!("report_json", report.to_json());
    insta::assert_snapshot!("report_svg", report.to_svg());
    if let Some(path) = std::env::var_os("SAVE_SVG") {
        std::fs::write(path, report.to_svg()).unwrap();
    }
}

/// Creates a pipeline of three steps in a row.
fn row() -> Pipeline {
    Pipeline::builder("row")
        .with_step(Step::sql("one", "SELECT 'one'"))
        .with_step(Step::sql("two", "SELECT 'two'").after(["one"]))
        .with_step(Step::sql("three", "SELECT 'three'").after(["two"]))
        .build()
        .unwrap()
}

fn slow_row() -> LocalExecutor<local::Scripted> {
    LocalExecutor::scripted(Script::new().on("two", local::ScriptedExecution::finished(seconds(300.0))))
}

fn statuses(report: &Report) -> Vec<&'static str> {
    report.steps().iter().map(|step| step.status.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_killed_run_resumes_where_it_stopped() {
    let service = slow_row();
    let journal = MemoryJournal::new();
    let clock = TokioClock::starting_at("2026-11-23T06:30:00Z".parse().unwrap());
    let orchestrator = || Orchestrator::new(service.clone()).with_journal(journal.clone()).with_clock(clock);
    let killed = tokio::time::timeout(seconds(100.0), row().run(&orchestrator(), Run::new("r"))).await;
    assert!(killed.is_err());
    let report = row().run(&orchestrator(), Run::new("r")).await.unwrap();
    assert!(report.is_success() && report.resumed);
    let origins: Vec<_> = report.steps().iter().map(|step| step.attempts[0].origin).collect();
    assert_eq!(origins, ["journal", "reattached", "submitted"]);
    assert_eq!(report.elapsed, seconds(200.0));
    assert_eq!(service.effects().len(), 3);
    // If the run is repeated after it has finished, all outcomes come from the journal.
    let again = row().run(&orchestrator(), Run::new("r")).await.unwrap();
    assert_eq!((again.totals().statements, again.is_success()), (0, true));
}

/// Journal that records each read of entries.
#[derive(Debug, Default)]
struct Reads {
    inner: MemoryJournal,
    reads: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Intercept for Reads {
    fn inner(&self) -> &dyn Journal {
        &self.inner
    }

    async fn entry(&self, key: &StepKey) -> redshift_orchestrator::Result<Option<Entry>> {
        self.reads.lock().unwrap().push(key.step.clone());
        self.inner.entry(key).await
    }

    async fn entries(&self, run: &str) -> redshift_orchestrator::Result<Vec<Entry>> {
        self.reads.lock().unwrap().push(format!("all of {run}"));
        self.inner.entries(run).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_reads_its_entries_once_and_reports_finished_steps_from_them() {
    let reads = Arc::new(Mutex::new(Vec::new()));
    let journal = Reads { reads: reads.clone(), ..Reads::default() };
    let orchestrator = Orchestrator::new(slow_row()).with_journal(Intercepted(journal));
    assert!(row().run(&orchestrator, Run::new("r").with_steps(["one"])).await.unwrap().is_success());
    assert_eq!(std::mem::take(&mut *reads.lock().unwrap()), ["all of r", "one"]);
    assert!(row().run(&orchestrator, Run::new("r")).await.unwrap().is_success());
    assert_eq!(*reads.lock().unwrap(), ["all of r", "two", "three"]);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_finished_before_is_not_reported_as_skipped() {
    let script = Script::new().on("one", local::ScriptedExecution::failed(seconds(1.0), "ERROR: no"));
    let notes = Notes::default();
    let orchestrator = Orchestrator::new(LocalExecutor::scripted(script)).with_observer(notes.clone());
    assert!(row().run(&orchestrator, Run::new("r").with_steps(["two"])).await.unwrap().is_success());
    let report = row().run(&orchestrator, Run::new("r")).await.unwrap();
    assert_eq!(statuses(&report), ["failed", "finished", "skipped"]);
    let notes = notes.0.lock().unwrap();
    let skipped: Vec<_> = notes.iter().filter(|note| note.contains("skipped")).collect();
    assert_eq!(skipped, ["three/1 skipped because of one"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_is_not_resumed_without_a_step_whose_statement_may_be_running() {
    let service = slow_row();
    let journal = MemoryJournal::new();
    let orchestrator = || Orchestrator::new(service.clone()).with_journal(journal.clone());
    let killed = tokio::time::timeout(seconds(100.0), row().run(&orchestrator(), Run::new("r"))).await;
    assert!(killed.is_err());
    let renamed = Pipeline::builder("row").with_step(Step::sql("zwei", "SELECT 'two'")).build().unwrap();
    let error = renamed.run(&orchestrator(), Run::new("r")).await.unwrap_err();
    assert_eq!((error.kind(), error.context("step")), (ErrorKind::Definition, Some("two")), "{error}");
    // After the step has ended, its absence from the pipeline is not an error.
    assert!(row().run(&orchestrator(), Run::new("r")).await.unwrap().is_success());
    assert!(renamed.run(&orchestrator(), Run::new("r")).await.unwrap().is_success());
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_resumes_with_a_new_attempt_at_the_failed_step() {
    let script = Script::new().on_each(
        "two",
        [
            local::ScriptedExecution::failed(seconds(1.0), "ERROR: no such table"),
            local::ScriptedExecution::finished(seconds(1.0)),
        ],
    );
    let service = LocalExecutor::scripted(script);
    let orchestrator = Orchestrator::new(service.clone());
    let report = row().run(&orchestrator, Run::new("r")).await.unwrap();
    assert_eq!(statuses(&report), ["finished", "failed", "skipped"]);
    let failed = report.failures().next().unwrap().last_attempt().unwrap();
    assert_eq!(failed.error.as_deref(), Some("ERROR: no such table"));
    assert!(failed.statement_id.is_some());
    let report = row().run(&orchestrator, Run::new("r")).await.unwrap();
    assert_eq!(statuses(&report), ["finished", "finished", "finished"]);
    assert_eq!(report.step("two").unwrap().attempts[0].number, 2);
    assert_eq!(service.effects().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn only_listed_failures_are_retried() {
    let conflict = "ERROR: 1023 Serializable isolation violation";
    let script = Script::new().on_each(
        "work",
        [
            local::ScriptedExecution::failed(seconds(1.0), conflict),
            local::ScriptedExecution::failed(seconds(1.0), conflict),
            local::ScriptedExecution::failed(seconds(1.0), "ERROR: division by zero"),
            local::ScriptedExecution::finished(seconds(1.0)),
        ],
    );
    let pipeline = Pipeline::builder("p")
        .with_step(Step::sql("work", "SELECT 'work'").with_retry(
            RetryPolicy::new(9).on([FailureKind::SerializationConflict]).with_initial_backoff(seconds(2.0)),
        ))
        .build()
        .unwrap();
    let orchestrator = Orchestrator::new(LocalExecutor::scripted(script));
    let report = pipeline.run(&orchestrator, Run::new("r")).await.unwrap();
    let attempts = &report.step("work").unwrap().attempts;
    let kinds: Vec<_> = attempts.iter().map(|attempt| attempt.failure.unwrap().as_str()).collect();
    assert_eq!(kinds, ["serialization-conflict", "serialization-conflict", "sql"]);
    // Each attempt takes one second. The pauses between the attempts are 2 and 4 seconds.
    let started: Vec<_> = attempts.iter().map(|attempt| attempt.started.as_secs()).collect();
    assert_eq!(started, [0, 3, 8]);
}

#[tokio::test(start_paused = true)]
async fn the_effect_of_a_failure_on_other_steps_follows_on_failure() {
    let run = async |on_failure: OnFailure| {
        let script = Script::new()
            .on("bad", local::ScriptedExecution::failed(seconds(1.0), "ERROR: bad"))
            .otherwise(local::ScriptedExecution::finished(seconds(2.0)));
        let pipeline = Pipeline::builder("p")
            .with_concurrency(2)
            .with_on_failure(on_failure)
            .with_step(Step::sql("bad", "SELECT 'bad'"))
            .with_step(Step::sql("beside", "SELECT 'beside'"))
            .with_step(Step::sql("behind", "SELECT 'behind'").after(["bad"]))
            .with_step(Step::sql("far-behind", "SELECT 'far'").after(["behind"]))
            .with_step(Step::sql("apart", "SELECT 'apart'").after(["beside"]))
            .build()
            .unwrap();
        let orchestrator = Orchestrator::new(LocalExecutor::scripted(script));
        let report = pipeline.run(&orchestrator, Run::new("r")).await.unwrap();
        statuses(&report)
    };
    assert_eq!(
        run(OnFailure::SkipDependents).await,
        ["failed", "finished", "skipped", "skipped", "finished"]
    );
    assert_eq!(
        run(OnFailure::Stop).await,
        ["failed", "finished", "not started", "not started", "not started"]
    );
    assert_eq!(run(OnFailure::Continue).await, ["failed", "finished", "finished", "finished", "finished"]);
}

#[tokio::test(start_paused = true)]
async fn concurrent_statements_are_limited() {
    let script = Script::new().otherwise(local::ScriptedExecution::finished(seconds(10.0)));
    let pipeline = (0..7)
        .fold(Pipeline::builder("p").with_concurrency(3), |builder, n| {
            builder.with_step(Step::sql(format!("s{n}"), format!("SELECT {n}")))
        })
        .build()
        .unwrap();
    let orchestrator = Orchestrator::new(LocalExecutor::scripted(script));
    let report = pipeline.run(&orchestrator, Run::new("r")).await.unwrap();
    let started: Vec<_> = report.steps().iter().map(|step| step.attempts[0].started.as_secs()).collect();
    assert_eq!(started, [0, 0, 0, 10, 10, 10, 20]);
}

/// Observer that records each event as text.
#[derive(Clone, Debug, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Observer for Notes {
    fn observe(&self, key: &StepKey, event: &ProgressEvent<'_>) {
        let note = match event {
            ProgressEvent::Submitted { .. } => "submitted".to_owned(),
            ProgressEvent::Polled { status } => format!("polled {status}"),
            ProgressEvent::RequestRetried { error } => format!("request retried {}", error.kind()),
            ProgressEvent::Ended { outcome } => format!("ended {}", outcome.kind),
            ProgressEvent::StepRetried { failure, pause } => format!("retried after {failure} in {pause:?}"),
            ProgressEvent::Skipped { because_of } => format!("skipped because of {because_of}"),
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push(format!("{}/{} {note}", key.step, key.attempt));
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_receives_the_events_of_a_run() {
    let script = Script::new().on_each(
        "two",
        [
            local::ScriptedExecution::failed(seconds(40.0), "ERROR: deadlock detected"),
            local::ScriptedExecution::failed(seconds(1.0), "ERROR: no such table"),
        ],
    );
    let pipeline = Pipeline::builder("p")
        .with_step(
            Step::sql("two", "SELECT 'two'").with_retry(RetryPolicy::new(3).on([FailureKind::Deadlock])),
        )
        .with_step(Step::sql("three", "SELECT 'three'").after(["two"]))
        .build()
        .unwrap();
    let notes = Notes::default();
    let faults = Faults::seeded(5).with(Operation::Describe, Fault::Throttle, 0.4);
    let orchestrator =
        Orchestrator::new(Faulty::new(LocalExecutor::scripted(script), faults)).with_observer(notes.clone());
    assert!(!pipeline.run(&orchestrator, Run::new("r")).await.unwrap().is_success());
    insta::assert_snapshot!(notes.0.lock().unwrap().join("\n"));
}

#[tokio::test(start_paused = true)]
async fn a_journal_on_disk_resumes_a_run_in_another_process() {
    let service = slow_row();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.jsonl");
    let clock = TokioClock::starting_at("2026-11-23T06:30:00Z".parse().unwrap());
    let orchestrator = || {
        Orchestrator::new(service.clone()).with_journal(FileJournal::open(&path).unwrap()).with_clock(clock)
    };
    let killed = tokio::time::timeout(seconds(100.0), row().run(&orchestrator(), Run::new("r"))).await;
    assert!(killed.is_err());
    // Simulates a power failure while the last line was written.
    let mut text = std::fs::read(&path).unwrap();
    text.extend_from_slice(b"{\"at\":\"2026-11-23T06:31");
    std::fs::write(&path, text).unwrap();
    let report = row().run(&orchestrator(), Run::new("r")).await.unwrap();
    assert!(report.is_success() && report.resumed);
    assert_eq!(service.effects().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_step_names_the_manual_checks_and_skips_its_dependents() {
    let faults = Faults::seeded(1).with(Operation::Submit, Fault::LostRequest, 1.0);
    let clock = TokioClock::starting_at("2026-11-23T06:30:00Z".parse().unwrap());
    let orchestrator = Orchestrator::new(Faulty::new(slow_row(), faults)).with_clock(clock);
    let pipeline = Pipeline::builder("row")
        .with_on_failure(OnFailure::Continue)
        .with_step(Step::sql("one", "SELECT 'one'").with_retry(RetryPolicy::new(5).on(FailureKind::ALL)))
        .with_step(Step::sql("two", "SELECT 'two'").after(["one"]))
        .build()
        .unwrap();
    let report = pipeline.run(&orchestrator, Run::new("r")).await.unwrap();
    assert_eq!(
        report.step("one").unwrap().attempts.len(),
        1,
        "a step with an unknown outcome is not retried"
    );
    insta::assert_snapshot!(report);
}
