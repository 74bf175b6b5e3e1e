//! An executor that kills the process after a submit.

use std::fmt;

use async_trait::async_trait;
use redshift_orchestrator::{
    Description, PageToken, Result, ResultPage, Statement, StatementExecutor, StatementFilter, StatementId,
    StatementPage, Submitted, WaitTime,
};

/// Executor that kills the process after one statement was submitted, before the caller receives the
/// response.
pub(crate) struct Crashing<E> {
    inner: E,
    /// Part of the name of the statement at which to kill the process. Names have the form
    /// `pipeline/run/step/attempt digest`.
    victim: String,
    /// `true` to kill the process only after the statement has finished.
    finished: bool,
}

impl<E> Crashing<E> {
    /// Wraps `inner`, and kills the process at the first submit of `step` in `run`.
    pub(crate) fn at(inner: E, run: &str, step: &str, finished: bool) -> Self {
        Self { inner, victim: format!("/{run}/{step}/"), finished }
    }
}

#[async_trait]
impl<E: StatementExecutor> StatementExecutor for Crashing<E> {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let submitted = self.inner.submit(statement, wait).await?;
        if statement.name().is_some_and(|name| name.contains(&self.victim)) {
            while self.finished
                && !self.inner.describe(&submitted.id, Some(WaitTime::MAX)).await?.status.is_terminal()
            {
            }
            // Like a power failure, this runs no destructors, flushes no buffers and closes no files.
            std::process::abort();
        }
        Ok(submitted)
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        self.inner.describe(id, wait).await
    }

    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        self.inner.cancel(id).await
    }

    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage> {
        self.inner.result(id, page).await
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        self.inner.list(filter, page).await
    }

    fn target(&self) -> Option<redshift_orchestrator::Target> {
        self.inner.target()
    }
}

impl<E: fmt::Debug> fmt::Debug for Crashing<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Crashing").field(&self.inner).finish()
    }
}
