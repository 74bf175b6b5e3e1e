//! [`Rate`]: delays requests to stay within the account's rates.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, sleep_until},
};

use crate::{
    Column, Description, Error, ErrorKind, PageToken, Result, ResultPage, Statement, StatementExecutor,
    StatementFilter, StatementId, StatementPage, Submitted, WaitTime,
    catalog::{Catalog, CatalogFilter, Page, Session, SessionFilter, Table},
    clock::after,
    layer::queue_time::queued,
};

/// Delays requests to stay within an account's rates. Each operation has a separate rate, and its requests
/// are sent in the order of their arrival.
///
/// A request that is dropped while it waits uses no capacity.
pub struct Rate<E> {
    inner: E,
    rates: RequestRates,
}

/// Rate-limited operation of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Request {
    /// Submit of a single statement. 30 per second.
    ExecuteStatement,
    /// Submit of a batch. 20 per second.
    BatchExecuteStatement,
    /// Poll of a statement's status. 100 per second.
    DescribeStatement,
    /// Page of a result, in either format. 20 per second.
    GetStatementResult,
    /// Cancellation of a statement. 3 per second.
    CancelStatement,
    /// Page of statements. 3 per second.
    ListStatements,
    /// Page of sessions. 3 per second.
    ListSessions,
    /// Page of databases. 3 per second.
    ListDatabases,
    /// Page of schemas. 3 per second.
    ListSchemas,
    /// Page of tables. 3 per second.
    ListTables,
    /// Page of columns. 3 per second.
    DescribeTable,
}

impl Request {
    /// All operations.
    pub const ALL: [Self; 11] = [
        Self::ExecuteStatement,
        Self::BatchExecuteStatement,
        Self::DescribeStatement,
        Self::GetStatementResult,
        Self::CancelStatement,
        Self::ListStatements,
        Self::ListSessions,
        Self::ListDatabases,
        Self::ListSchemas,
        Self::ListTables,
        Self::DescribeTable,
    ];

    fn service_rate(self) -> u32 {
        match self {
            Self::ExecuteStatement => 30,
            Self::DescribeStatement => 100,
            Self::BatchExecuteStatement | Self::GetStatementResult => 20,
            _ => 3,
        }
    }
}

/// Number of requests per second that an account may send in a region, for each operation. Clones share the
/// capacity.
///
/// The defaults are the service's limits, listed at [`Request`]. The limits apply to the whole account: pass
/// clones of one value to the executors of several clusters, and divide the rates among processes with
/// [`divided_by`](Self::divided_by).
///
/// ```
/// use redshift_orchestrator::layer::{Request, RequestRates};
///
/// let rates = RequestRates::default().divided_by(4).with(Request::DescribeStatement, 40);
/// assert_eq!(rates.per_second(Request::ExecuteStatement), 7);
/// assert_eq!(rates.per_second(Request::DescribeStatement), 40);
/// ```
#[derive(Clone, Debug)]
pub struct RequestRates([Bucket; Request::ALL.len()]);

impl RequestRates {
    /// Sets the rate of an operation, in requests per second. The minimum is one: with zero, a request would
    /// wait forever.
    #[must_use]
    pub fn with(mut self, request: Request, per_second: u32) -> Self {
        self.0[request as usize] = Bucket::new(per_second);
        self
    }

    /// Divides each rate by the number of processes that share the account. Each rate remains at least one
    /// request per second.
    #[must_use]
    pub fn divided_by(self, processes: u32) -> Self {
        Self(self.0.map(|bucket| Bucket::new(bucket.per_second / processes.max(1))))
    }

    /// Returns the rate of an operation, in requests per second.
    pub fn per_second(&self, request: Request) -> u32 {
        self.0[request as usize].per_second
    }

    /// Waits until a request of this operation may be sent.
    async fn take(&self, request: Request) {
        self.0[request as usize].take().await;
    }

    /// Delays further requests of the operation if the response reports throttling.
    fn learn<T>(&self, request: Request, response: &Result<T>) {
        if let Err(error) = response
            && error.kind() == ErrorKind::Throttled
        {
            self.0[request as usize].throttled(error);
        }
    }
}

impl Default for RequestRates {
    fn default() -> Self {
        Self(Request::ALL.map(|request| Bucket::new(request.service_rate())))
    }
}

/// Bucket with one token for each request that may be sent per second. A request takes a token, which becomes
/// available again one second later, so no interval of one second contains more requests than allowed. A
/// bucket that is refilled continuously would allow up to twice as many in the first second.
#[derive(Clone, Debug)]
struct Bucket {
    per_second: u32,
    /// Lock that is acquired in the order of arrival. Its holder waits for a token, and the other requests
    /// wait for the lock.
    turn: Arc<AsyncMutex<()>>,
    /// Times at which the tokens in use become available again. The lock is separate from `turn`, so that a
    /// response can change the times while requests wait.
    out: Arc<Mutex<VecDeque<Instant>>>,
}

const SECOND: Duration = Duration::from_secs(1);

impl Bucket {
    fn new(per_second: u32) -> Self {
        Self { per_second: per_second.max(1), turn: Arc::default(), out: Arc::default() }
    }

    async fn take(&self) {
        if let Ok(_turn) = self.turn.try_lock()
            && self.try_take().is_ok()
        {
            return;
        }
        queued(async {
            let _turn = self.turn.lock().await;
            // The request takes a token only when one is available, so a request that is dropped here takes
            // none.
            while let Err(back) = self.try_take() {
                sleep_until(back).await;
            }
        })
        .await;
    }

    /// Takes a token, or returns the time at which the next one is available.
    fn try_take(&self) -> Result<(), Instant> {
        let now = Instant::now();
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        while out.front().is_some_and(|back| *back <= now) {
            out.pop_front();
        }
        match out.front() {
            Some(back) if out.len() >= self.per_second as usize => Err(*back),
            _ => {
                out.push_back(now + SECOND);
                Ok(())
            }
        }
    }

    /// Handles a throttled request: other clients use part of the rate, or the account's rate is lower. All
    /// tokens count as used, and become available again one after another.
    fn throttled(&self, error: &Error) {
        let from = after(Instant::now(), error.retry_after().unwrap_or_default());
        let interval = SECOND / self.per_second;
        *self.out.lock().unwrap_or_else(PoisonError::into_inner) =
            (1..=self.per_second).map(|number| from + interval * number).collect();
    }
}

impl<E> Rate<E> {
    /// Wraps `inner` with these rates.
    pub fn new(inner: E, rates: RequestRates) -> Self {
        Self { inner, rates }
    }

    /// Sets the rates.
    #[must_use]
    pub fn with_rates(mut self, rates: RequestRates) -> Self {
        self.rates = rates;
        self
    }

    async fn send<T>(&self, request: Request, sent: impl Future<Output = Result<T>>) -> Result<T> {
        self.rates.take(request).await;
        let response = sent.await;
        self.rates.learn(request, &response);
        response
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<E: StatementExecutor> StatementExecutor for Rate<E> {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let request = match statement.execution_mode() {
            None => Request::ExecuteStatement,
            Some(_) => Request::BatchExecuteStatement,
        };
        self.send(request, self.inner.submit(statement, wait)).await
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        self.send(Request::DescribeStatement, self.inner.describe(id, wait)).await
    }

    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        self.send(Request::CancelStatement, self.inner.cancel(id)).await
    }

    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage> {
        // Before the first page, an executor describes the statement to find out the format of its result.
        if page.is_none() {
            self.rates.take(Request::DescribeStatement).await;
        }
        self.send(Request::GetStatementResult, self.inner.result(id, page)).await
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        self.send(Request::ListStatements, self.inner.list(filter, page)).await
    }

    fn target(&self) -> Option<crate::Target> {
        self.inner.target()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<E: Catalog> Catalog for Rate<E> {
    async fn databases(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<String>> {
        self.send(Request::ListDatabases, self.inner.databases(filter, page)).await
    }

    async fn schemas(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<String>> {
        self.send(Request::ListSchemas, self.inner.schemas(filter, page)).await
    }

    async fn tables(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<Table>> {
        self.send(Request::ListTables, self.inner.tables(filter, page)).await
    }

    async fn columns(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<Column>> {
        self.send(Request::DescribeTable, self.inner.columns(filter, page)).await
    }

    async fn sessions(&self, filter: &SessionFilter, page: Option<PageToken>) -> Result<Page<Session>> {
        self.send(Request::ListSessions, self.inner.sessions(filter, page)).await
    }
}

impl<E: fmt::Display> fmt::Display for Rate<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rate({})", self.inner)
    }
}

impl<E: fmt::Debug> fmt::Debug for Rate<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rate({:?})", self.inner)
    }
}
