//! [`Rate`]: spreads requests to stay within the account's limits.

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

/// Spreads requests to stay within an account's rates. Each operation has its own rate, and requests are sent
/// in the order of their arrival.
///
/// A request that is dropped while it waits passes its turn to the next one.
pub struct Rate<E> {
    inner: E,
    rates: RequestRates,
}

/// An operation of the service that has a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Request {
    /// Submit of a single statement. 30 per second.
    ExecuteStatement,
    /// Submit of a batch. 20 per second.
    BatchExecuteStatement,
    /// Poll of a statement's status. 100 per second.
    DescribeStatement,
    /// A page of a result, in either format. 20 per second.
    GetStatementResult,
    /// 3 per second.
    CancelStatement,
    /// 3 per second.
    ListStatements,
    /// 3 per second.
    ListSessions,
    /// 3 per second.
    ListDatabases,
    /// 3 per second.
    ListSchemas,
    /// 3 per second.
    ListTables,
    /// 3 per second.
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

/// Requests per second that an account may send in a region, with a separate rate for each operation. Clones
/// share the capacity.
///
/// The defaults are the service's own limits, as listed at [`Request`]. They belong to the account: executors
/// for several clusters share one value, and several processes divide it.
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
    /// Sets the rate of this operation per second, at least one: a request that is never sent would hang.
    #[must_use]
    pub fn with(mut self, request: Request, per_second: u32) -> Self {
        self.0[request as usize] = Bucket::new(per_second);
        self
    }

    /// Returns the share of each rate for one of several processes, at least one request per second.
    #[must_use]
    pub fn divided_by(self, processes: u32) -> Self {
        Self(self.0.map(|bucket| Bucket::new(bucket.per_second / processes.max(1))))
    }

    /// Returns the rate of this operation per second.
    pub fn per_second(&self, request: Request) -> u32 {
        self.0[request as usize].per_second
    }

    /// Waits until a request of this operation may be sent.
    async fn take(&self, request: Request) {
        self.0[request as usize].take().await;
    }

    /// Updates the rate from the response.
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

/// Holds as many tokens as requests may be sent in a second. A request takes a token, which is returned a
/// second later. Any interval of one second, wherever it begins, thus contains no more requests than allowed.
/// (A bucket that is refilled continuously sends up to twice as many in the first second.)
#[derive(Clone, Debug)]
struct Bucket {
    per_second: u32,
    /// Acquired in the order of arrival. The holder waits for a token; the other requests form the queue.
    turn: Arc<AsyncMutex<()>>,
    /// Times at which the tokens in use are returned. A separate lock keeps responses out of the queue.
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
            // A token is taken only when it is available: a request that is dropped here passes its turn to
            // the next one.
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

    /// The service also receives other requests, or allows fewer: all tokens count as used, and are returned
    /// one after the other.
    fn throttled(&self, error: &Error) {
        let from = after(Instant::now(), error.retry_after().unwrap_or_default());
        let interval = SECOND / self.per_second;
        *self.out.lock().unwrap_or_else(PoisonError::into_inner) =
            (1..=self.per_second).map(|number| from + interval * number).collect();
    }
}

impl<E> Rate<E> {
    /// Sends requests to `inner` at these rates.
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
        // An executor requests the format before the first page.
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
