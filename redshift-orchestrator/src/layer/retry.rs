//! [`Retry`]: repeats requests after transient errors.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::queue_time::{Expiry, unless_expired};
use crate::{
    Backoff, Clock, Column, Description, Error, ErrorKind, PageToken, Result, ResultPage, Statement,
    StatementExecutor, StatementFilter, StatementId, StatementPage, Submitted, SystemClock, WaitTime,
    catalog::{Catalog, CatalogFilter, Page, Session, SessionFilter, Table},
    orchestrator::TOKEN_WINDOW,
};

/// Repeats requests after transient errors, with growing pauses, until the retry timeout.
///
/// A submit that may have taken effect is repeated only if the statement has a client token. Without a token,
/// the error is returned, because a repetition could run the statement twice. The service forgets a token
/// after 8 hours, so a repetition is not sent more than 7 hours and 45 minutes after the first such error,
/// even if it is still in the queue of another layer or the machine slept meanwhile. If an
/// [`Orchestrator`](crate::Orchestrator) sent the submit, its earlier limit applies, too. If no repetition
/// succeeds, the error after which the submit may have taken effect is returned, even if a later attempt was
/// rejected.
///
/// If a cancel got no response and its repetition is rejected, the error is [`ErrorKind::Disconnected`],
/// because the first cancel may have ended the statement.
///
/// [`ErrorKind::TooManyWaiters`] is returned at once for a long poll, because the caller then polls without a
/// wait.
pub struct Retry<E> {
    inner: E,
    backoff: Backoff,
    retry_timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl<E> Retry<E> {
    /// Wraps `inner`. Each request is repeated for up to five minutes.
    pub fn new(inner: E) -> Self {
        let clock = Arc::new(SystemClock);
        Self { inner, backoff: Backoff::default(), retry_timeout: Duration::from_secs(300), clock }
    }

    /// Sets the pauses between repetitions.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the time for which a request is repeated, counted from its first error. Default: five minutes.
    #[must_use]
    pub fn with_retry_timeout(mut self, retry_timeout: Duration) -> Self {
        self.retry_timeout = retry_timeout;
        self
    }

    /// Sets the clock that determines the age of a client token. Default: [`SystemClock`].
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Returns the inner executor.
    pub fn inner(&self) -> &E {
        &self.inner
    }

    async fn repeat<T, F: Future<Output = Result<T>> + Send>(
        &self,
        salt: impl Hash,
        mut is_safe: impl FnMut(&Error) -> bool,
        mut request: impl FnMut() -> F,
    ) -> Result<T> {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        let mut pauses = self.backoff.pauses(hasher.finish());
        let mut failing_since = None;
        loop {
            let error = match request().await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let begun: Instant = *failing_since.get_or_insert_with(Instant::now);
            let pause = pauses.after(&error);
            if !error.kind().is_transient()
                || !is_safe(&error)
                || begun.elapsed().saturating_add(pause) > self.retry_timeout
            {
                return Err(error);
            }
            sleep(pause).await;
        }
    }
}

/// First error after which a submit may have taken effect, and the expiry of the submit.
struct FirstUncertain {
    clock: Arc<dyn Clock>,
    state: Mutex<UncertainState>,
}

#[derive(Default)]
struct UncertainState {
    /// The error, and the time at which the client token may expire.
    first: Option<(Error, Expiry)>,
    /// `true` if the submit was not sent because it expired. Its sender may have set an earlier expiry.
    has_expired: bool,
}

impl FirstUncertain {
    fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// Sends the submit, unless it has expired. A repetition of an uncertain submit is not sent after its
    /// token may have expired.
    async fn submit<T>(&self, submit: impl Future<Output = Result<T>>) -> Result<T> {
        let expiry = self.expiry();
        let response = unless_expired(expiry.clone(), submit).await.unwrap_or_else(|_| {
            self.lock().has_expired = true;
            Err(Error::new(ErrorKind::NotSent, "the submit was not repeated before its client token expired"))
        });
        if let (None, Err(error)) = (expiry, &response)
            && error.kind().may_have_taken_effect()
        {
            let expiry = Expiry::after(self.clock.clone(), TOKEN_WINDOW);
            self.lock().first = Some((error.clone_with_messages(str::to_owned), expiry));
        }
        response
    }

    /// Returns the error for the caller: the uncertain error, if there is one and the last error suggests
    /// that the submit had no effect.
    fn explain(self, last: Error) -> Error {
        match self.state.into_inner().unwrap_or_else(PoisonError::into_inner).first {
            Some((uncertain, _)) if !last.kind().may_have_taken_effect() => {
                uncertain.with_context("last_error", last.kind())
            }
            _ => last,
        }
    }

    fn expiry(&self) -> Option<Expiry> {
        self.lock().first.as_ref().map(|(_, expiry)| expiry.clone())
    }

    fn has_expired(&self) -> bool {
        self.lock().has_expired || self.expiry().is_some_and(|expiry| expiry.is_over())
    }

    fn lock(&self) -> MutexGuard<'_, UncertainState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<E: StatementExecutor> StatementExecutor for Retry<E> {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let token = statement.client_token();
        let first = FirstUncertain::new(self.clock.clone());
        let is_safe = |error: &Error| match error.kind().may_have_taken_effect() {
            true => token.is_some(),
            false => !first.has_expired(),
        };
        let submitted =
            self.repeat(token, is_safe, || first.submit(self.inner.submit(statement, wait))).await;
        submitted.map_err(|error| first.explain(error))
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        let is_safe = |error: &Error| wait.is_none() || error.kind() != ErrorKind::TooManyWaiters;
        self.repeat(id, is_safe, || self.inner.describe(id, wait)).await
    }

    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        let mut may_have_taken_effect = false;
        let is_safe = |error: &Error| {
            may_have_taken_effect |= error.kind().may_have_taken_effect();
            true
        };
        let response = self.repeat(id, is_safe, || self.inner.cancel(id)).await;
        let uncertain = || Error::new(ErrorKind::Disconnected, "a cancel got no response and was repeated");
        match response {
            // The service rejects the second cancel if the first one ended the statement.
            Ok(false) if may_have_taken_effect => Err(uncertain()),
            Err(error) if may_have_taken_effect && !error.kind().may_have_taken_effect() => {
                Err(uncertain().with_source(error))
            }
            response => response,
        }
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
    async fn databases(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<String>> {
        self.repeat("databases", |_| true, || self.inner.databases(filter, page.clone())).await
    }

    async fn schemas(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<String>> {
        self.repeat(&filter.schema, |_| true, || self.inner.schemas(filter, page.clone())).await
    }

    async fn tables(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<Table>> {
        self.repeat(&filter.table, |_| true, || self.inner.tables(filter, page.clone())).await
    }

    async fn columns(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<Column>> {
        self.repeat(&filter.table, |_| true, || self.inner.columns(filter, page.clone())).await
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
