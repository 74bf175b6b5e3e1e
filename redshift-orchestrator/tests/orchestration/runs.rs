//! Runs of a part of a pipeline, overlapping runs, and runs that are stopped early.

use std::time::Duration;

use async_trait::async_trait;
use redshift_data_local::{self as local, LocalExecutor, Script};
use redshift_orchestrator::{
    Clock, Error, ErrorKind, Orchestrator, Pipeline, Report, Result, Run, Statement, StatementExecutor,
    StepKey, Submitted, TokioClock, WaitTime,
    journal::{ActiveRun, Claim, Entry, Journal, MemoryJournal, RunOutcome},
    pipeline::{OnFailure, Overlap, RetryPolicy, Step, StepStatus, StopSignal},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    executor,
    intercept::{Intercept, Intercepted},
};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Creates a pipeline of three steps in a row.
fn row() -> Pipeline {
    Pipeline::builder("row")
        .with_step(Step::sql("one", "SELECT 'one'").with_tags(["first", "odd"]))
        .with_step(Step::sql("two", "SELECT 'two'").after(["one"]))
        .with_step(Step::sql("three", "SELECT 'three'").after(["two"]).with_tags(["odd"]))
        .build()
        .unwrap()
}

fn service() -> LocalExecutor<local::Scripted> {
    LocalExecutor::scripted(Script::new().otherwise(local::ScriptedExecution::finished(seconds(10))))
}

fn statuses(report: &Report) -> Vec<&'static str> {
    report.steps().iter().map(|step| step.status.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_unselected_step_does_not_run_and_preserves_the_order() {
    let orchestrator = Orchestrator::new(service());
    let report = row().run(&orchestrator, Run::new("odd").with_tags(["odd"])).await.unwrap();
    assert!(report.is_success());
    assert_eq!(statuses(&report), ["finished", "not selected", "finished"]);
    assert_eq!(report.step("three").unwrap().attempts[0].started, seconds(10), "still after `one`");
    let report = row().run(&orchestrator, Run::new("two").with_steps(["two"])).await.unwrap();
    assert_eq!(statuses(&report), ["not selected", "finished", "not selected"]);
    let report =
        row().run(&orchestrator, Run::new("both").with_tags(["first"]).with_steps(["two"])).await.unwrap();
    assert_eq!(statuses(&report), ["finished", "finished", "not selected"]);
    // A run of the same name without a selection runs the remaining step.
    let report = row().run(&orchestrator, Run::new("both")).await.unwrap();
    assert_eq!((statuses(&report), report.totals().statements), (vec!["finished"; 3], 1));
}

#[tokio::test(start_paused = true)]
async fn a_failure_skips_dependents_behind_unselected_steps() {
    let script = Script::new().on("'one'", local::ScriptedExecution::failed(seconds(1), "ERROR: no"));
    let orchestrator = Orchestrator::new(LocalExecutor::scripted(script));
    let report = row().run(&orchestrator, Run::new("r").with_tags(["odd"])).await.unwrap();
    assert_eq!(statuses(&report), ["failed", "skipped", "skipped"]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_tag_or_step_is_reported_with_a_suggestion() {
    let orchestrator = Orchestrator::new(service());
    let error = row().run(&orchestrator, Run::new("r").with_tags(["firs"])).await.unwrap_err();
    assert!(error.to_string().contains("did you mean `first`?"), "{error}");
    let error = row().run(&orchestrator, Run::new("r").with_steps(["twoo", "one"])).await.unwrap_err();
    assert!(error.to_string().contains("no step `twoo`; did you mean `two`?"), "{error}");
}

/// A journal whose claims are lost at an instant.
#[derive(Debug)]
struct Lost(MemoryJournal, Instant);

#[async_trait]
impl Intercept for Lost {
    fn inner(&self) -> &dyn Journal {
        &self.0
    }

    async fn claim(&self, claim: &Claim) -> Result<ActiveRun> {
        let lost = self.1;
        Ok(self.0.claim(claim).await?.with_check(move || async move { Instant::now() < lost }))
    }
}

/// Regression: a run went on starting steps after its claim had expired, beside the next run of the pipeline.
#[tokio::test(start_paused = true)]
async fn no_step_starts_after_the_claim_was_lost() {
    let journal = Intercepted(Lost(MemoryJournal::new(), Instant::now() + seconds(15)));
    let orchestrator = Orchestrator::new(service()).with_journal(journal);
    let report = row().run(&orchestrator, Run::new("r")).await.unwrap();
    assert_eq!(statuses(&report), ["finished", "finished", "not started"]);
    let status = &report.step("three").unwrap().status;
    let StepStatus::NotStarted { because_of } = status else { panic!("{status:?}") };
    assert!(because_of.contains("the loss of the run's claim"), "{because_of}");
    assert!(!report.is_success());
}

#[tokio::test(start_paused = true)]
async fn a_second_run_is_rejected_queued_or_allowed() {
    let service = service();
    let clock = TokioClock::starting_at("2026-11-23T06:30:00Z".parse().unwrap());
    let orchestrator = Orchestrator::new(service.clone()).with_clock(clock);
    let (first, second) = (orchestrator.clone(), orchestrator.clone());
    let active = tokio::spawn(async move { row().run(&first, Run::new("one")).await });
    sleep(seconds(1)).await;
    let refused = row().run(&orchestrator, Run::new("two")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overlap);
    assert_eq!(refused.context("active_run"), Some("one"));
    assert_eq!(refused.context("active_since"), Some("2026-11-23T06:30:00Z"));
    let same = row().run(&orchestrator, Run::new("one").with_overlap(Overlap::Allow)).await.unwrap_err();
    assert_eq!(same.kind(), ErrorKind::Overlap, "a run cannot be active twice");
    let beside = row().run(&orchestrator, Run::new("beside").with_overlap(Overlap::Allow)).await.unwrap();
    assert!(beside.is_success());
    let queued = row().run(&second, Run::new("three").with_overlap(Overlap::Queue)).await.unwrap();
    assert!(queued.is_success() && active.is_finished());
    assert!(clock.now() >= "2026-11-23T06:31:00Z".parse().unwrap(), "one after the other");
    assert_eq!(service.effects().len(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_run_releases_its_claim() {
    let orchestrator = Orchestrator::new(service());
    let dropped = timeout(seconds(5), row().run(&orchestrator, Run::new("one"))).await;
    assert!(dropped.is_err());
    assert!(row().run(&orchestrator, Run::new("two")).await.unwrap().is_success());
}

#[tokio::test(start_paused = true)]
async fn a_stopped_run_waits_for_active_steps_and_starts_no_others() {
    let journal = MemoryJournal::new();
    let orchestrator = Orchestrator::new(service()).with_journal(journal.clone());
    let stop = StopSignal::new();
    let stopping = async {
        sleep(seconds(15)).await;
        stop.request();
    };
    let pipeline = row();
    let run = pipeline.run(&orchestrator, Run::new("r").with_stop_signal(stop.clone()));
    let report = tokio::join!(run, stopping).0.unwrap();
    assert_eq!(statuses(&report), ["finished", "finished", "not started"]);
    assert_eq!(report.elapsed, seconds(20));
    assert_eq!(journal.runs(1, None).await.unwrap().runs[0].ended.unwrap().1, RunOutcome::Stopped);
    let report = row().run(&orchestrator, Run::new("r")).await.unwrap();
    assert!(report.is_success() && report.totals().statements == 1);
}

/// Service whose submits fail for a time.
#[derive(Debug)]
struct Unreachable {
    service: LocalExecutor<local::Scripted>,
    error: ErrorKind,
    until: Instant,
}

#[async_trait]
impl executor::Intercept for Unreachable {
    fn inner(&self) -> &dyn StatementExecutor {
        &self.service
    }

    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        match Instant::now() < self.until {
            true => Err(Error::new(self.error, "connection refused")),
            false => self.service.submit(statement, wait).await,
        }
    }
}

/// A statement that no submit has reached is left to the next run. After a lost response, the submit is repeated,
/// because only its response tells whether the statement is running.
#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_retries_of_a_submit_that_was_never_sent() {
    for (error, expected) in [(ErrorKind::NotSent, "not submitted"), (ErrorKind::Disconnected, "finished")] {
        let journal = MemoryJournal::new();
        let until = Instant::now() + seconds(120);
        let away = executor::Intercepted(Unreachable { service: service(), error, until });
        let orchestrator = Orchestrator::new(away).with_journal(journal.clone());
        let stop = StopSignal::new();
        let stopping = async {
            sleep(seconds(30)).await;
            stop.request();
        };
        let pipeline = row();
        let run = pipeline.run(&orchestrator, Run::new("r").with_stop_signal(stop.clone()));
        let report = tokio::join!(run, stopping).0.unwrap();
        assert_eq!(report.steps()[0].status.as_str(), expected, "{report}");
        match error {
            ErrorKind::NotSent => assert_eq!(report.elapsed, seconds(30)),
            _ => assert!(report.elapsed > seconds(120), "{report}"),
        }
        let report = row().run(&orchestrator, Run::new("r")).await.unwrap();
        assert!(report.is_success(), "{report}");
    }
}

/// Journal whose storage fails when the attempts at the step `one` are read.
#[derive(Debug)]
struct Unreadable(MemoryJournal);

#[async_trait]
impl Intercept for Unreadable {
    fn inner(&self) -> &dyn Journal {
        &self.0
    }

    async fn entry(&self, key: &StepKey) -> Result<Option<Entry>> {
        match key.step.as_str() {
            "one" => Err(Error::new(ErrorKind::Journal, "the storage cannot be reached")),
            _ => self.0.entry(key).await,
        }
    }
}

/// Regression: a statement that an earlier process had submitted was reported as not submitted if its entry
/// could not be read, and the next step ran beside it.
#[tokio::test(start_paused = true)]
async fn an_open_attempt_that_cannot_be_read_is_unknown() {
    let long = Script::new().otherwise(local::ScriptedExecution::finished(seconds(600)));
    let (service, journal) = (LocalExecutor::scripted(long), MemoryJournal::new());
    let pipeline = Pipeline::builder("row")
        .with_on_failure(OnFailure::Continue)
        .with_step(Step::sql("one", "SELECT 'one'"))
        .with_step(Step::sql("two", "SELECT 'two'").after(["one"]))
        .build()
        .unwrap();
    let orchestrator = Orchestrator::new(service.clone()).with_journal(journal.clone());
    assert!(timeout(seconds(5), pipeline.run(&orchestrator, Run::new("r"))).await.is_err());
    let unreadable = Orchestrator::new(service).with_journal(Intercepted(Unreadable(journal.clone())));
    let report = pipeline.run(&unreadable, Run::new("r")).await.unwrap();
    assert_eq!(statuses(&report), ["unknown", "skipped"], "{report}");
    assert_eq!(journal.run_entry("r").await.unwrap().unwrap().ended.unwrap().1, RunOutcome::Unknown);
    // An attempt that is not open was not submitted.
    let report = pipeline.run(&unreadable, Run::new("other")).await.unwrap();
    assert_eq!(statuses(&report), ["not submitted", "finished"], "{report}");
}

/// Regression: a queued run was active since the time at which it was queued.
#[tokio::test(start_paused = true)]
async fn a_queued_run_is_active_since_it_began() {
    let start: jiff::Timestamp = "2026-11-23T06:30:00Z".parse().unwrap();
    let orchestrator = Orchestrator::new(service()).with_clock(TokioClock::starting_at(start));
    let pipeline = row();
    let after = async |pause, run: Run| {
        sleep(seconds(pause)).await;
        pipeline.run(&orchestrator, run).await
    };
    let (first, queued, rejected) = tokio::join!(
        after(0, Run::new("first")),
        after(5, Run::new("queued").with_overlap(Overlap::Queue)),
        after(40, Run::new("rejected")),
    );
    assert!(first.unwrap().is_success() && queued.unwrap().is_success());
    let rejected = rejected.unwrap_err();
    assert_eq!(rejected.context("active_run"), Some("queued"));
    assert_eq!(rejected.context("active_since"), Some("2026-11-23T06:30:31Z"));
}

#[tokio::test(start_paused = true)]
async fn a_pause_before_another_attempt_ends_with_the_run() {
    let script =
        Script::new().on("work", local::ScriptedExecution::failed(seconds(1), "ERROR: deadlock detected"));
    let pipeline = Pipeline::builder("p")
        .with_on_failure(OnFailure::Continue)
        .with_step(Step::sql("work", "SELECT 'work'").with_retry(
            RetryPolicy::new(9).on(redshift_orchestrator::FailureKind::ALL).with_initial_backoff(seconds(60)),
        ))
        .build()
        .unwrap();
    let orchestrator = Orchestrator::new(LocalExecutor::scripted(script));
    let stop = StopSignal::new();
    let stopping = async {
        sleep(seconds(10)).await;
        stop.request();
    };
    let run = pipeline.run(&orchestrator, Run::new("r").with_stop_signal(stop.clone()));
    let report = tokio::join!(run, stopping).0.unwrap();
    assert_eq!((statuses(&report), report.elapsed), (vec!["failed"], seconds(10)));
}

#[tokio::test(start_paused = true)]
async fn a_run_of_another_pipeline_or_target_is_not_resumed() {
    let orchestrator = Orchestrator::new(service());
    assert!(row().run(&orchestrator, Run::new("r").with_target_label("aws:dev")).await.unwrap().is_success());
    let error = row().run(&orchestrator, Run::new("r").with_target_label("aws:prod")).await.unwrap_err();
    assert!(error.to_string().contains("was started on `aws:dev`"), "{error}");
    let other = Pipeline::builder("other").with_step(Step::sql("one", "SELECT 'one'")).build().unwrap();
    let error = other.run(&orchestrator, Run::new("r")).await.unwrap_err();
    assert!(error.to_string().contains("by the pipeline `row`"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_journal_records_the_parameters_of_a_run_without_secrets() {
    let journal = MemoryJournal::new();
    let orchestrator = Orchestrator::new(service()).with_journal(journal.clone());
    let pipeline = Pipeline::builder("p")
        .with_parameter("day", None)
        .with_secret_parameter("key")
        .with_step(
            Step::sql("one", "SELECT :day, :key")
                .with_parameter("day", "${day}")
                .with_parameter("key", "${key}"),
        )
        .build()
        .unwrap();
    let run = Run::new("r").with_parameter("day", "2026-11-23").with_parameter("key", "hush");
    assert!(pipeline.run(&orchestrator, run).await.unwrap().is_success());
    let run = journal.runs(1, None).await.unwrap().runs.remove(0);
    assert_eq!(run.begun.parameters.into_iter().collect::<Vec<_>>(), [("day".into(), "2026-11-23".into())]);
    assert!(!pipeline.plan().to_string().contains("hush"));
}
