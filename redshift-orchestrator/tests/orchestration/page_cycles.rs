//! Pages that form a cycle cause an error instead of an endless loop.

use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use redshift_orchestrator::{
    Column, Description, Error, ErrorKind, Field, Orchestrator, OutcomeKind, PageData, PageToken, Result,
    ResultPage, Statement, StatementExecutor, StatementExecutorExt, StatementFilter, StatementId,
    StatementPage, StepKey, Submitted, WaitTime, arrow::RecordBatchOptions,
};
use tokio::time::timeout;

/// Executor that loses every submit, and whose two pages each have the token of the other one.
#[derive(Debug)]
struct Circling;

fn other(page: Option<PageToken>) -> Option<PageToken> {
    let name = if page.is_some_and(|page| page.as_str() == "a") { "b" } else { "a" };
    Some(PageToken::new(name))
}

#[async_trait]
impl StatementExecutor for Circling {
    async fn submit(&self, _: &Statement, _: Option<WaitTime>) -> Result<Submitted> {
        Err(Error::new(ErrorKind::Disconnected, "connection reset"))
    }

    async fn describe(&self, _: &StatementId, _: Option<WaitTime>) -> Result<Description> {
        Err(Error::new(ErrorKind::NotFound, "Query does not exist."))
    }

    async fn cancel(&self, _: &StatementId) -> Result<bool> {
        Ok(false)
    }

    async fn result(&self, _: &StatementId, page: Option<PageToken>) -> Result<ResultPage> {
        let data = PageData::Records(vec![vec![Field::Long(1)]]);
        let mut answer = ResultPage::new(vec![Column::new("n", "int8")], data);
        answer.next = other(page);
        Ok(answer)
    }

    async fn list(&self, _: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        Ok(StatementPage::new(Vec::new(), other(page)))
    }

    fn target(&self) -> Option<redshift_orchestrator::Target> {
        None
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn a_cycle_of_page_tokens_is_an_error_for_rows_and_batches() {
    let id = StatementId::new("id");
    let error = timeout(HOUR, Circling.rows::<i64>(&id)).await.unwrap().unwrap_err();
    assert!(error.kind() == ErrorKind::Other && error.message().contains("cycle"), "{error}");
    let batches = Circling.record_batches(&id, RecordBatchOptions::default()).await.unwrap();
    let error = timeout(HOUR, batches.try_collect::<Vec<_>>()).await.unwrap().unwrap_err();
    assert!(error.message().contains("cycle"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_lookup_in_a_cycle_of_page_tokens_ends_as_unknown() {
    let orchestrator = Orchestrator::new(Circling).with_retry_timeout(HOUR);
    let (key, statement) = (StepKey::new("run", "step"), Statement::sql("CALL load()"));
    let outcome = timeout(24 * HOUR, orchestrator.run(&key, statement)).await.unwrap().unwrap();
    let OutcomeKind::Unknown(_) = outcome.kind else { panic!("{outcome:?}") };
    assert_eq!(outcome.requests.lists, 3);
}
