//! Executor that forwards all requests to another executor, except for those that a test changes.

use std::fmt::Debug;

use async_trait::async_trait;
use redshift_orchestrator::{
    Description, PageToken, Result, ResultPage, Statement, StatementExecutor, StatementFilter, StatementId,
    StatementPage, Submitted, Target, WaitTime,
};

/// Requests that a test can change. The default implementations forward them to the inner executor.
#[async_trait]
pub(crate) trait Intercept: Debug + Send + Sync {
    /// Returns the inner executor.
    fn inner(&self) -> &dyn StatementExecutor;

    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        self.inner().submit(statement, wait).await
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        self.inner().describe(id, wait).await
    }

    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        self.inner().cancel(id).await
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        self.inner().list(filter, page).await
    }
}

/// Executor with the changed requests of `I`.
#[derive(Debug)]
pub(crate) struct Intercepted<I>(pub(crate) I);

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<I: Intercept> StatementExecutor for Intercepted<I> {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        self.0.submit(statement, wait).await
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        self.0.describe(id, wait).await
    }

    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        self.0.cancel(id).await
    }

    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage> {
        self.0.inner().result(id, page).await
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        self.0.list(filter, page).await
    }

    fn target(&self) -> Option<Target> {
        self.0.inner().target()
    }
}
