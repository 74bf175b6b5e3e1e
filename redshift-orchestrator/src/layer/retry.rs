//! [`Retry`]: repeats requests after transient errors.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use crate::{
    Backoff, Column, Description, Error, ErrorKind, PageToken, Result, ResultPage, Statement,
    StatementExecutor, StatementFilter, StatementId, StatementPage, Submitted, WaitTime,
    catalog::{Catalog, Page, Scope, Session, SessionFilter, Table},
};

/// Repeats requests after transient errors, with growing pauses, until its retry timeout.
///
/// A submit that may have taken effect is repeated only if the statement has a client token; without a token,
/// the error is returned, and nothing runs twice. A rejected long poll is returned too, because its caller
/// falls back to polls without a wait.
pub struct Retry<E> {
    inner: E,
    backoff: Backoff,
    retry_timeout: Duration,
}

impl<E> Retry<E> {
    /// Repeats requests to `inner` for up to five minutes each.
    pub fn new(inner: E) -> Self {
        Self { inner, backoff: Backoff::default(), retry_timeout: Duration::from_secs(300) }
    }

    /// Sets the pauses between repetitions.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the time for which a request is repeated, counted from its first error. Time in the queue of
    /// another layer is not counted. Default: five minutes.
    #[must_use]
    pub fn with_retry_timeout(mut self, retry_timeout: Duration) -> Self {
        self.retry_timeout = retry_timeout;
        self
    }

    /// Returns the inner executor.
    pub fn inner(&self) -> &E {
        &self.inner
    }

    async fn repeat<T, F: Future<Output = Result<T>> + Send>(
        &self,
        salt: impl Hash,
        is_safe: impl Fn(&Error) -> bool,
        mut request: impl FnMut() -> F,
    ) -> Result<T> {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        let mut pauses = self.backoff.pauses(hasher.finish());
        let mut failing_since = None;
        loop {
            let error = match request().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let begun: Instant = *failing_since.get_or_insert_with(Instant::now);
            let pause = pauses.after(&error);
            if !error.kind().is_transient()
                || !is_safe(&error)
                || begun.elapsed() + pause > self.retry_timeout
            {
                return Err(error);
            }
            sleep(pause).await;
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<E: StatementExecutor> StatementExecutor for Retry<E> {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let token = statement.client_token();
        let is_safe = |error: &Error| token.is_some() || !error.kind().may_have_taken_effect();
        self.repeat(token, is_safe, || self.inner.submit(statement, wait)).await
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        let is_safe = |error: &Error| wait.is_none() || error.kind() != ErrorKind::TooManyWaiters;
        self.repeat(id, is_safe, || self.inner.describe(id, wait)).await
    }

    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        self.repeat(id, |_| true, || self.inner.cancel(id)).await
    }

    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage> {
        self.repeat(id, |_| true, || self.inner.result(id, page.clone())).await
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        let prefix = &filter.name_prefix;
        self.repeat(prefix, |_| true, || self.inner.list(filter, page.clone())).await
    }

    fn target(&self) -> Option<crate::Target> {
        self.inner.target()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<E: Catalog> Catalog for Retry<E> {
    async fn databases(&self, scope: &Scope, page: Option<PageToken>) -> Result<Page<String>> {
        self.repeat("databases", |_| true, || self.inner.databases(scope, page.clone())).await
    }

    async fn schemas(&self, scope: &Scope, page: Option<PageToken>) -> Result<Page<String>> {
        self.repeat(&scope.schema, |_| true, || self.inner.schemas(scope, page.clone())).await
    }

    async fn tables(&self, scope: &Scope, page: Option<PageToken>) -> Result<Page<Table>> {
        self.repeat(&scope.table, |_| true, || self.inner.tables(scope, page.clone())).await
    }

    async fn columns(&self, scope: &Scope, page: Option<PageToken>) -> Result<Page<Column>> {
        self.repeat(&scope.table, |_| true, || self.inner.columns(scope, page.clone())).await
    }

    async fn sessions(&self, filter: &SessionFilter, page: Option<PageToken>) -> Result<Page<Session>> {
        self.repeat(&filter.id, |_| true, || self.inner.sessions(filter, page.clone())).await
    }
}

impl<E: fmt::Display> fmt::Display for Retry<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Retry({})", self.inner)
    }
}

impl<E: fmt::Debug> fmt::Debug for Retry<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Retry({:?})", self.inner)
    }
}
