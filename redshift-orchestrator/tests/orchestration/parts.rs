//! Batches that are longer than the service's maximum, and therefore run in parts.

use std::time::Duration;

use redshift_data_local::{LocalExecutor, Script, Scripted, ScriptedExecution};
use redshift_orchestrator::{
    AttemptOptions, BatchPart, Commits, ErrorKind, ExecutionMode, FailureKind, Orchestrator, Origin,
    OutcomeKind, Pipeline, Report, Statement, StepKey, Target, TokioClock,
    journal::{Journal, MemoryJournal, RunOutcome, SettledOutcome},
    pipeline::{self, RetryPolicy, Step, StopSignal},
};
use tokio::time::{sleep, timeout};

fn long(count: usize) -> Statement {
    let sqls = (0..count).map(|number| format!("INSERT INTO t VALUES ({number:03}, :day)"));
    Statement::batch(sqls).with_execution_mode(ExecutionMode::AutoCommit).bind("day", "2026-11-23")
}

#[tokio::test(start_paused = true)]
async fn a_long_batch_runs_each_part_once_in_order() {
    let script = Script::new()
        .on("(050", ScriptedExecution::failed(Duration::from_secs(1), "ERROR: division by zero"))
        .otherwise(ScriptedExecution::finished(Duration::from_secs(1)));
    let service = LocalExecutor::scripted(script);
    let journal = MemoryJournal::new();
    let orchestrator = Orchestrator::new(service.clone()).with_journal(journal.clone());
    let key = StepKey::new("run", "load");
    let outcomes = orchestrator.run_batch(&key, long(100)).await.unwrap();
    let finished: Vec<_> = outcomes.parts.iter().map(|outcome| outcome.is_success()).collect();
    assert_eq!(finished, [true, false, true], "the failure of one part does not affect the others");
    let numbers: Vec<_> = service.effects().iter().map(|effect| effect.sql[22..25].to_owned()).collect();
    let expected: Vec<_> = (0..100).filter(|n| *n != 50).map(|n| format!("{n:03}")).collect();
    assert_eq!(numbers, expected);
    assert_eq!(journal.entries("run").await.unwrap().len(), 3);
    // A second call submits no statement again.
    let again = orchestrator.run_batch(&key, long(100)).await.unwrap();
    assert!(again.parts.iter().all(|outcome| outcome.origin == Origin::Journal));
    assert_eq!(service.effects().len(), 99);
}

#[tokio::test(start_paused = true)]
async fn the_parts_share_one_timeout() {
    let service =
        LocalExecutor::scripted(Script::new().otherwise(ScriptedExecution::finished(Duration::from_secs(1))));
    let orchestrator = Orchestrator::new(service.clone());
    let options = AttemptOptions::default().with_timeout(Duration::from_secs(60));
    let key = StepKey::new("run", "load");
    let outcomes = orchestrator.run_batch_with(&key, long(120), options).await.unwrap();
    assert_eq!((outcomes.parts.len(), outcomes.skipped), (2, 1), "the third part is not submitted");
    assert!(matches!(outcomes.parts[1].kind, OutcomeKind::TimedOut { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_times_out_between_two_parts_is_not_a_success() {
    let service =
        LocalExecutor::scripted(Script::new().otherwise(ScriptedExecution::finished(Duration::from_secs(1))));
    let orchestrator = Orchestrator::new(service.clone());
    let key = StepKey::new("run", "load");
    let within = |seconds| AttemptOptions::default().with_timeout(Duration::from_secs(seconds));
    let first = orchestrator.run_batch_with(&key, long(120), within(41)).await.unwrap();
    assert!(first.parts[0].is_success());
    // The journal contains the outcome of the first part. No time is left for the second part.
    let again = orchestrator.run_batch_with(&key, long(120), within(0)).await.unwrap();
    assert!(again.parts.iter().all(|part| part.is_success()));
    assert_eq!((again.parts.len(), again.skipped, again.is_success()), (1, 2, false));
}

#[tokio::test(start_paused = true)]
async fn a_rejected_statement_leaves_no_record_in_the_journal() {
    let service = LocalExecutor::scripted(Script::new());
    let journal = MemoryJournal::new();
    let orchestrator = Orchestrator::new(service.clone()).with_journal(journal.clone());
    let key = StepKey::new("run", "load");
    let transaction = long(41).with_execution_mode(ExecutionMode::Transaction);
    for statement in [
        transaction,
        Statement::batch(["TRUNCATE stage", "INSERT INTO stage SELECT 1"]),
        Statement::batch(["CALL load()", "SELECT 1"]).with_commits(Commits::Yes),
        Statement::sql("SELECT 1").with_parameter("unused", "1"),
    ] {
        let error = orchestrator.run_batch(&key, statement).await.unwrap_err();
        assert_eq!((error.kind(), error.context("step")), (ErrorKind::Invalid, Some("run/load/1")));
    }
    assert_eq!((journal.records().len(), service.effects().len()), (0, 0));
}

#[test]
fn a_pipeline_rejects_a_transaction_batch_with_statements_that_commit() {
    let text = |rest: &str| {
        format!("name = 'p'\n[[steps]]\nname = 'load'\nbatch = ['CALL load()', 'SELECT 1']\n{rest}\n")
    };
    let error = Pipeline::from_toml(&text("commits = true")).unwrap_err();
    assert_eq!((error.context("line"), error.context("step")), (Some("5"), Some("load")));
    assert!(error.to_string().contains("`execution_mode = \"auto-commit\"`"), "{error}");
    assert!(Pipeline::from_toml(&text("commits = true\nexecution_mode = 'auto-commit'")).is_ok());
    assert!(Pipeline::from_toml(&text("")).is_ok());
    let truncates = Step::batch("s", ["TRUNCATE t", "SELECT 1"], ExecutionMode::Transaction);
    let build = |step| Pipeline::builder("p").with_step(step).build();
    assert!(build(truncates.clone()).unwrap_err().to_string().contains("`commits = false`"));
    assert!(build(truncates.with_commits(Commits::No)).is_ok());
}

#[test]
fn a_pipeline_rejects_a_transaction_batch_with_statements_that_cannot_run_in_one() {
    let text = |sql: &str, rest: &str| {
        format!("name = 'p'\n[[steps]]\nname = 'upkeep'\nbatch = ['SELECT 1', \"{sql}\"]\n{rest}\n")
    };
    for (sql, command) in [
        ("VACUUM sales", "`VACUUM`"),
        ("ALTER TABLE sales APPEND FROM stage_sales", "`ALTER TABLE APPEND`"),
        (
            "CREATE EXTERNAL TABLE spectrum.sales (a INT) STORED AS PARQUET LOCATION 's3://bucket/sales/'",
            "`CREATE EXTERNAL TABLE`",
        ),
        ("CREATE DATABASE other", "`CREATE DATABASE`"),
    ] {
        let error = Pipeline::from_toml(&text(sql, "")).unwrap_err();
        assert_eq!((error.context("line"), error.context("step")), (Some("4"), Some("upkeep")), "{error}");
        let error = error.to_string();
        assert!(error.contains(command) && error.contains("`execution_mode = \"auto-commit\"`"), "{error}");
        assert!(Pipeline::from_toml(&text(sql, "execution_mode = 'auto-commit'")).is_ok());
        let alone = format!("name = 'p'\n[[steps]]\nname = 'upkeep'\nsql = \"{sql}\"\n");
        assert!(Pipeline::from_toml(&alone).is_ok());
    }
}

/// Creates a step with one insert for each number.
fn load(sqls: impl IntoIterator<Item = u32>) -> Step {
    let sqls = sqls.into_iter().map(|number| format!("INSERT INTO t VALUES ({number:03}, 1)"));
    Step::batch("load", sqls, ExecutionMode::AutoCommit)
}

fn pipeline(load: Step) -> Pipeline {
    let after = Step::sql("after", "INSERT INTO t VALUES (999, 1)").after(["load"]);
    Pipeline::builder("p").with_step(load).with_step(after).build().unwrap()
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn service() -> LocalExecutor<Scripted> {
    LocalExecutor::scripted(Script::new().otherwise(ScriptedExecution::finished(seconds(1.0))))
}

/// Returns the numbers of the inserts that ran, in order.
fn inserted(service: &LocalExecutor<Scripted>) -> Vec<u32> {
    service.effects().iter().map(|effect| effect.sql[22..25].parse().unwrap()).collect()
}

fn parts_of(report: &Report) -> Vec<Option<BatchPart>> {
    report.step("load").unwrap().attempts.iter().map(|attempt| attempt.part).collect()
}

fn expected() -> Vec<u32> {
    (0..100).chain([999]).collect()
}

#[tokio::test(start_paused = true)]
async fn a_long_step_runs_in_parts_and_reports_them() {
    let pipeline = pipeline(load(0..100));
    assert!(pipeline.plan().to_string().contains("batch of 100 in 3 parts, each committed"));
    let service = service();
    let orchestrator = Orchestrator::new(service.clone());
    let report = pipeline.run(&orchestrator, pipeline::Run::new("r")).await.unwrap();
    assert!(report.is_success());
    assert_eq!(inserted(&service), expected());
    assert_eq!(parts_of(&report), [1, 2, 3].map(|number| Some(BatchPart::new(number, 3))));
    assert_eq!((report.totals().statements, report.totals().retries), (4, 0));
    assert_eq!(report.to_json()["steps"][0]["attempts"][1]["part"]["number"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_long_step_killed_anywhere_runs_each_statement_once() {
    for tenths in (1..1_020).step_by(37) {
        let (service, journal) = (service(), MemoryJournal::new());
        let clock = TokioClock::starting_at("2026-11-23T06:30:00Z".parse().unwrap());
        let run = async || {
            let orchestrator =
                Orchestrator::new(service.clone()).with_journal(journal.clone()).with_clock(clock);
            pipeline(load(0..100)).run(&orchestrator, pipeline::Run::new("r")).await.unwrap()
        };
        let killed = timeout(seconds(f64::from(tenths) / 10.0), run()).await;
        let report = run().await;
        assert!(report.is_success(), "{report}");
        assert_eq!(inserted(&service), expected(), "killed after {tenths}: {}", killed.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_repeats_all_parts_if_every_failure_is_listed() {
    let script = || {
        let deadlock = ScriptedExecution::failed(seconds(1.0), "ERROR: deadlock detected");
        Script::new().on_each("(050", [deadlock, ScriptedExecution::finished(seconds(1.0))])
    };
    let retried = async |script: Script, kinds: &[FailureKind]| {
        let service = LocalExecutor::scripted(script.otherwise(ScriptedExecution::finished(seconds(1.0))));
        let orchestrator = Orchestrator::new(service.clone());
        let step = load(0..100).with_retry(RetryPolicy::new(2).on(kinds.iter().copied()));
        let report = pipeline(step).run(&orchestrator, pipeline::Run::new("r")).await.unwrap();
        (report, service)
    };
    let (report, service) = retried(script(), &[FailureKind::Deadlock]).await;
    assert!(report.is_success());
    assert_eq!(report.totals().retries, 1);
    let both: Vec<_> = (0..100).filter(|number| *number != 50).chain(0..100).chain([999]).collect();
    assert_eq!(inserted(&service), both, "the second attempt repeats the whole batch");
    // The `retry` of the step does not list the kind of the second failure.
    let twice = script().on("(090", ScriptedExecution::failed(seconds(1.0), "ERROR: division by zero"));
    let (report, _) = retried(twice, &[FailureKind::Deadlock]).await;
    assert_eq!(parts_of(&report).len(), 3);
    let text = report.to_string();
    assert!(text.contains("deadlock detected") && text.contains("division by zero"), "{text}");
    assert!(text.contains("load failed, attempt 1 part 2 of 3"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_long_step_redefined_before_its_end_is_rejected() {
    let (service, journal) = (service(), MemoryJournal::new());
    let orchestrator = Orchestrator::new(service.clone()).with_journal(journal.clone());
    let run = async |step: Step| {
        let run = pipeline::Run::new("r");
        pipeline(step).run(&orchestrator, run).await.unwrap()
    };
    let changed = || [load(1..100), load(0..41), load((1..2).chain(0..99)), load(0..3)];
    let stop = StopSignal::new();
    let stopping = async {
        sleep(seconds(10.0)).await;
        stop.request();
    };
    let (whole, stopped) = (pipeline(load(0..100)), pipeline::Run::new("r").with_stop_signal(stop.clone()));
    let report = tokio::join!(whole.run(&orchestrator, stopped), stopping).0.unwrap();
    assert_eq!(report.step("load").unwrap().status.as_str(), "not started", "{report}");
    // Between two parts, no attempt is open. The step is rejected.
    for step in changed() {
        let report = run(step).await;
        let attempt = report.step("load").unwrap().last_attempt().unwrap();
        assert_eq!(report.step("load").unwrap().status.as_str(), "not submitted");
        assert!(attempt.error.as_deref().unwrap().contains("started with other statements"), "{report}");
    }
    let killed = timeout(seconds(30.0), run(load(0..100))).await;
    assert!(killed.is_err());
    let before = service.effects().len();
    // The second part is open. The run is rejected.
    for step in changed() {
        let refused = pipeline(step).run(&orchestrator, pipeline::Run::new("r")).await.unwrap_err();
        assert_eq!((refused.kind(), refused.context("run")), (ErrorKind::Definition, Some("r")));
        assert!(refused.to_string().contains("started with other statements"), "{refused}");
    }
    sleep(seconds(100.0)).await;
    assert_eq!(service.effects().len(), 80, "only the part in flight continued, after {before} statements");
    assert!(run(load(0..100)).await.is_success());
    assert_eq!(inserted(&service), expected());
    // After all parts have finished, a changed definition has no effect.
    for step in [load(0..200), load(0..3)] {
        assert!(run(step).await.is_success());
    }
    assert_eq!(inserted(&service), expected());
}

#[tokio::test(start_paused = true)]
async fn a_stop_request_takes_effect_between_two_parts() {
    let (service, journal) = (service(), MemoryJournal::new());
    let orchestrator = Orchestrator::new(service.clone()).with_journal(journal.clone());
    let stop = StopSignal::new();
    let stopping = async {
        sleep(seconds(50.0)).await;
        stop.request();
    };
    let pipeline = pipeline(load(0..100));
    let run = pipeline.run(&orchestrator, pipeline::Run::new("r").with_stop_signal(stop.clone()));
    let report = tokio::join!(run, stopping).0.unwrap();
    let statuses: Vec<_> = report.steps().iter().map(|step| step.status.as_str()).collect();
    assert_eq!((statuses, service.effects().len()), (vec!["not started"; 2], 80));
    assert_eq!(journal.runs(1, None).await.unwrap().runs[0].ended.unwrap().1, RunOutcome::Stopped);
    assert!(pipeline.run(&orchestrator, pipeline::Run::new("r")).await.unwrap().is_success());
    assert_eq!(inserted(&service), expected());
}

#[tokio::test(start_paused = true)]
async fn the_timeout_of_a_step_applies_to_all_of_its_parts() {
    let service = service();
    let orchestrator = Orchestrator::new(service.clone());
    for (limit, ran) in [(60.0, 59..=60), (80.0, 79..=80)] {
        let before = service.effects().len();
        let step = load(0..100).with_timeout(seconds(limit));
        let report =
            pipeline(step).run(&orchestrator, pipeline::Run::new(format!("r{limit}"))).await.unwrap();
        assert_eq!(report.step("load").unwrap().status.as_str(), "timed out");
        assert!(report.to_string().contains("load timed out"), "{report}");
        assert!(ran.contains(&(service.effects().len() - before)), "{limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_with_an_unknown_outcome_is_settled_separately() {
    let journal = MemoryJournal::new();
    let before = Orchestrator::new(service()).with_journal(journal.clone());
    let pipeline = pipeline(load(0..100));
    let run = || pipeline::Run::new("r");
    assert!(timeout(seconds(50.0), pipeline.run(&before, run())).await.is_err());
    // The new service has no record of the statement.
    let service = service();
    let orchestrator = Orchestrator::new(service.clone()).with_journal(journal.clone());
    let report = pipeline.run(&orchestrator, run()).await.unwrap();
    assert_eq!(report.step("load").unwrap().status.as_str(), "unknown");
    let mut unknown = StepKey::new("r", "load");
    unknown.part = Some(BatchPart::new(2, 3));
    orchestrator.settle(&unknown, SettledOutcome::Finished).await.unwrap();
    assert!(pipeline.run(&orchestrator, run()).await.unwrap().is_success());
    assert_eq!(inserted(&service), (80..100).chain([999]).collect::<Vec<_>>());
}

#[test]
fn rejects_a_long_transaction_and_a_long_batch_with_session_state() {
    let text = |first: &str, rest: &str| {
        let rows = "'SELECT 1', ".repeat(40);
        format!("name = 'p'\n[[steps]]\nname = 'load'\nbatch = ['{first}', {rows}]\n{rest}\n")
    };
    let error = Pipeline::from_toml(&text("SELECT 1", "")).unwrap_err().to_string();
    assert!(error.contains("this one has 41") && error.contains("one transaction"), "{error}");
    assert!(error.contains("`execution_mode = \"auto-commit\"`") && error.contains("line: 4"), "{error}");
    let temporary = text("CREATE TEMP TABLE t (n int)", "execution_mode = 'auto-commit'");
    let error = Pipeline::from_toml(&temporary).unwrap_err().to_string();
    assert!(error.contains("a temporary table of an earlier part does not exist"), "{error}");
    assert!(Pipeline::from_toml(&text("SELECT 1", "execution_mode = 'auto-commit'")).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_finished_batch_with_its_own_target_stays_finished_after_a_redefinition() {
    let service = LocalExecutor::scripted(Script::new()).with_target(Target::workgroup("one", "db"));
    let orchestrator = Orchestrator::new(service.clone());
    let key = StepKey::new("run", "load");
    let elsewhere = |count| long(count).with_target(Target::workgroup("two", "db"));
    assert!(orchestrator.run_batch(&key, elsewhere(100)).await.unwrap().is_success());
    let again = orchestrator.run_batch(&key, elsewhere(90)).await.unwrap();
    assert!(again.parts.len() == 3 && again.parts.iter().all(|outcome| outcome.origin == Origin::Journal));
    assert_eq!(service.effects().len(), 100);
}
