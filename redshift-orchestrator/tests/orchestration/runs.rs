//! Runs of a part of a pipeline, overlapping runs, and runs that are stopped early.

use std::time::Duration;

use redshift_data_local::{self as local, LocalExecutor, Script};
use redshift_orchestrator::{
    Clock, ErrorKind, Orchestrator, Pipeline, Report, Run, TokioClock,
    journal::{Journal, MemoryJournal, RunOutcome},
    pipeline::{OnFailure, Overlap, RetryPolicy, Step, StopSignal},
};
use tokio::time::{sleep, timeout};

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
async fn a_step_that_is_not_selected_does_nothing_and_keeps_the_order() {
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
async fn a_failure_reaches_through_steps_that_are_not_selected() {
    let script = Script::new().on("'one'", local::ScriptedExecution::failed(seconds(1), "ERROR: no"));
    let orchestrator = Orchestrator::new(LocalExecutor::scripted(script));
    let report = row().run(&orchestrator, Run::new("r").with_tags(["odd"])).await.unwrap();
    assert_eq!(statuses(&report), ["failed", "skipped", "skipped"]);
}

#[tokio::test(start_paused = true)]
async fn a_tag_or_step_that_is_not_there_is_named() {
    let orchestrator = Orchestrator::new(service());
    let error = row().run(&orchestrator, Run::new("r").with_tags(["firs"])).await.unwrap_err();
    assert!(error.to_string().contains("did you mean `first`?"), "{error}");
    let error = row().run(&orchestrator, Run::new("r").with_steps(["twoo", "one"])).await.unwrap_err();
    assert!(error.to_string().contains("no step `twoo`; did you mean `two`?"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_second_run_is_refused_queued_or_allowed() {
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
async fn a_run_that_is_dropped_makes_way() {
    let orchestrator = Orchestrator::new(service());
    let dropped = timeout(seconds(5), row().run(&orchestrator, Run::new("one"))).await;
    assert!(dropped.is_err());
    assert!(row().run(&orchestrator, Run::new("two")).await.unwrap().is_success());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_stopped_waits_for_active_steps_and_starts_no_others() {
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
async fn the_journal_keeps_what_a_run_was_begun_with_and_no_secrets() {
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
