//! Batches that are longer than the service takes.

use std::time::Duration;

use redshift_orchestrator::{
    Conclusion, ErrorKind, ExecutionMode, Orchestrator, Origin, Pipeline, Statement, StepKey,
    journal::{Journal, MemoryJournal},
    local::{LocalExecutor, Run, Script},
    pipeline::Step,
};

fn long(count: usize) -> Statement {
    let sqls = (0..count).map(|number| format!("INSERT INTO t VALUES ({number:03}, :day)"));
    Statement::batch(sqls).with_execution_mode(ExecutionMode::AutoCommit).bind("day", "2026-11-23")
}

#[tokio::test(start_paused = true)]
async fn a_long_batch_runs_in_order_each_part_once() {
    let script = Script::new()
        .on("(050", Run::failed(Duration::from_secs(1), "ERROR: division by zero"))
        .otherwise(Run::finished(Duration::from_secs(1)));
    let service = LocalExecutor::scripted(script);
    let journal = MemoryJournal::new();
    let orchestrator = Orchestrator::new(service.clone()).with_journal(journal.clone());
    let key = StepKey::new("run", "load");
    let outcomes = orchestrator.run_parts(&key, long(100), None).await.unwrap();
    let finished: Vec<_> = outcomes.iter().map(|outcome| outcome.is_finished()).collect();
    assert_eq!(finished, [true, false, true], "the failure of one leaves the others as they are");
    let numbers: Vec<_> = service.effects().iter().map(|effect| effect.sql[22..25].to_owned()).collect();
    let expected: Vec<_> = (0..100).filter(|n| *n != 50).map(|n| format!("{n:03}")).collect();
    assert_eq!(numbers, expected);
    assert_eq!(journal.run("run").await.unwrap().len(), 3);
    // Again: nothing runs twice.
    let again = orchestrator.run_parts(&key, long(100), None).await.unwrap();
    assert!(again.iter().all(|outcome| outcome.origin == Origin::Journal));
    assert_eq!(service.effects().len(), 99);
}

#[tokio::test(start_paused = true)]
async fn the_parts_share_their_time_and_end_with_it() {
    let service = LocalExecutor::scripted(Script::new().otherwise(Run::finished(Duration::from_secs(1))));
    let orchestrator = Orchestrator::new(service.clone());
    let limit = Some(Duration::from_secs(60));
    let outcomes = orchestrator.run_parts(&StepKey::new("run", "load"), long(120), limit).await.unwrap();
    assert_eq!(outcomes.len(), 2, "the third one is not begun");
    assert!(matches!(outcomes[1].result, Conclusion::TimedOut { .. }));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_leaves_nothing_in_the_journal() {
    let service = LocalExecutor::scripted(Script::new());
    let journal = MemoryJournal::new();
    let orchestrator = Orchestrator::new(service.clone()).with_journal(journal.clone());
    let key = StepKey::new("run", "load");
    let transaction = long(41).with_execution_mode(ExecutionMode::Transaction);
    for statement in [
        transaction,
        Statement::batch(["TRUNCATE stage", "INSERT INTO stage SELECT 1"]),
        Statement::batch(["CALL load()", "SELECT 1"]).with_commits(true),
        Statement::sql("SELECT 1").with_parameter("unused", "1"),
    ] {
        let error = orchestrator.run_parts(&key, statement, None).await.unwrap_err();
        assert_eq!((error.kind(), error.context("step")), (ErrorKind::Invalid, Some("run/load/1")));
    }
    assert_eq!((journal.records().len(), service.effects().len()), (0, 0));
}

#[test]
fn a_pipeline_keeps_what_commits_out_of_a_transaction() {
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
    assert!(build(truncates.with_commits(false)).is_ok());
}
