//! The longest representable durations cause no overflow.

use std::time::Duration;

use async_trait::async_trait;
use redshift_data_local::{LocalExecutor, Script, ScriptedExecution};
use redshift_orchestrator::{
    AttemptOptions, Backoff, Description, Error, ErrorKind, Orchestrator, OutcomeKind, PageToken, Pipeline,
    Result, ResultPage, Run, Statement, StatementExecutor, StatementFilter, StatementId, StatementPage,
    StepKey, Submitted, WaitTime,
    layer::{Fleet, Rate, RequestRates, Retry},
};

const LONGEST: Duration = Duration::MAX;

/// Regression: the CLI panicked when it ran this pipeline file.
#[tokio::test(start_paused = true)]
async fn a_pipeline_can_have_the_longest_timeout_and_pause() {
    let longest = format!("{}s", i64::MAX);
    let pipeline = Pipeline::from_toml(&format!(
        "name = \"p\"\ntimeout = \"{longest}\"\n\
         retry = {{ attempts = 4000000000, on = [\"sql\"], backoff = \"{longest}\" }}\n\
         [[steps]]\nname = \"a\"\nsql = \"SELECT 1\"\n"
    ))
    .unwrap();
    let script = Script::new().on_each(
        "SELECT 1",
        [
            ScriptedExecution::failed(Duration::ZERO, "ERROR: no"),
            ScriptedExecution::finished(Duration::from_secs(60)),
        ],
    );
    let orchestrator = Orchestrator::new(LocalExecutor::scripted(script));
    let report = pipeline.run(&orchestrator, Run::new("r")).await.unwrap();
    assert!(report.is_success(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn every_setting_can_be_the_longest_duration() {
    let run = ScriptedExecution::finished(Duration::from_secs(600));
    let service = LocalExecutor::scripted(Script::new().otherwise(run));
    let orchestrator = Orchestrator::new(Retry::new(Fleet::new(service)).with_retry_timeout(LONGEST))
        .with_retry_timeout(LONGEST)
        .with_cancel_grace(LONGEST)
        .with_backoff(Backoff::new(LONGEST).with_max(LONGEST));
    let statement = || Statement::sql("CALL load()").with_session_keep_alive(Duration::from_hours(24));
    for (step, timeout) in [("a", LONGEST), ("b", Duration::from_secs(5))] {
        let options = AttemptOptions::default().with_timeout(timeout);
        let outcome = orchestrator.run_with(&StepKey::new("r", step), statement(), options).await.unwrap();
        match step {
            "a" => assert_eq!(outcome.kind, OutcomeKind::Finished),
            _ => assert_eq!(outcome.kind, OutcomeKind::TimedOut { timeout, cancel_pending: false }),
        }
    }
}

/// Service that throttles every request and requests the longest possible pause.
#[derive(Debug)]
struct Patient;

fn refusal<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Throttled, "later").with_retry_after(LONGEST))
}

#[async_trait]
impl StatementExecutor for Patient {
    async fn submit(&self, _: &Statement, _: Option<WaitTime>) -> Result<Submitted> {
        refusal()
    }

    async fn describe(&self, _: &StatementId, _: Option<WaitTime>) -> Result<Description> {
        refusal()
    }

    async fn cancel(&self, _: &StatementId) -> Result<bool> {
        refusal()
    }

    async fn result(&self, _: &StatementId, _: Option<PageToken>) -> Result<ResultPage> {
        refusal()
    }

    async fn list(&self, _: &StatementFilter, _: Option<PageToken>) -> Result<StatementPage> {
        refusal()
    }

    fn target(&self) -> Option<redshift_orchestrator::Target> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_can_request_the_longest_pause() {
    let stack = Retry::new(Rate::new(Patient, RequestRates::default()));
    assert_eq!(
        stack.submit(&Statement::sql("SELECT 1"), None).await.unwrap_err().kind(),
        ErrorKind::Throttled
    );
    let orchestrator = Orchestrator::new(Patient);
    let error = orchestrator.run(&StepKey::new("r", "a"), Statement::sql("SELECT 1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
}
