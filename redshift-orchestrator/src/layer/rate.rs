//! [`Rate`]: spreads requests so that the account's limits are kept.

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
    catalog::{Catalog, Page, Scope, Session, SessionFilter, Table},
    patience::queued,
};

/// Spreads requests so that an account's limits are kept: each operation has its own rate, and who comes first is sent first.
///
/// A request that is dropped while it waits leaves its place to the next one.
pub struct Rate<E> {
    inner: E,
    rates: RequestRates,
}

/// An operation of the service that has a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Request {
    /// The submit of a single statement. 30 a second.
    ExecuteStatement,
    /// The submit of a batch. 20 a second.
    BatchExecuteStatement,
    /// The question where a statement is. 100 a second.
    DescribeStatement,
    /// A page of a result, in either format. 20 a second.
    GetStatementResult,
    /// 3 a second.
    CancelStatement,
    /// 3 a second.
    ListStatements,
    /// 3 a second.
    ListSessions,
    /// 3 a second.
    ListDatabases,
    /// 3 a second.
    ListSchemas,
    /// 3 a second.
    ListTables,
    /// 3 a second.
    DescribeTable,
}

impl Request {
    /// All of them.
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

/// Requests per second that an account may send in a region, one rate an operation. Clones share what is left.
///
/// The defaults are the service's own limits, as [`Request`] lists them. They belong to the account: executors for several
/// clusters share one value, and several processes divide it.
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
    /// Requests of this operation per second, at least one: a request that never goes out would be a hang.
    #[must_use]
    pub fn with(mut self, request: Request, per_second: u32) -> Self {
        self.0[request as usize] = Bucket::new(per_second);
        self
    }

    /// The part of each rate that one of so many processes may use, at least one request a second.
    #[must_use]
    pub fn divided_by(self, processes: u32) -> Self {
        Self(self.0.map(|bucket| Bucket::new(bucket.per_second / processes.max(1))))
    }

    /// Requests of this operation per second.
    pub fn per_second(&self, request: Request) -> u32 {
        self.0[request as usize].per_second
    }

    /// Waits until a request of this operation may be sent.
    async fn take(&self, request: Request) {
        self.0[request as usize].take().await;
    }

    /// Learns from the answer to it.
    fn learn<T>(&self, request: Request, answer: &Result<T>) {
        if let Err(error) = answer
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

/// As many tokens as requests may be sent in a second. A request takes one, which comes back a second later: in no second, wherever it
/// begins, more are sent than allowed. (A bucket that is filled drop by drop sends up to twice as many in the first one.)
#[derive(Clone, Debug)]
struct Bucket {
    per_second: u32,
    /// Handed on in the order of arrival, and who holds it waits for a token: that is the queue.
    turn: Arc<AsyncMutex<()>>,
    /// When the tokens that are out come back. Apart from the queue, in which an answer that says something about them does not stand.
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
            // Nothing is taken before it is there: who is dropped here leaves the place to the next one.
            while let Err(back) = self.try_take() {
                sleep_until(back).await;
            }
        })
        .await;
    }

    /// Takes a token, or says when the next one comes back.
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

    /// The service sees more requests than ours, or allows fewer: all tokens are out, and come back one after the other.
    fn throttled(&self, error: &Error) {
        let from = Instant::now() + error.retry_after().unwrap_or_default();
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

    /// Replaces the rates.
    #[must_use]
    pub fn with_rates(mut self, rates: RequestRates) -> Self {
        self.rates = rates;
        self
    }

    async fn send<T>(&self, request: Request, sent: impl Future<Output = Result<T>>) -> Result<T> {
        self.rates.take(request).await;
        let answer = sent.await;
        self.rates.learn(request, &answer);
        answer
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
        // An executor asks for the format before the first page.
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
    async fn databases(&self, scope: &Scope, page: Option<PageToken>) -> Result<Page<String>> {
        self.send(Request::ListDatabases, self.inner.databases(scope, page)).await
    }

    async fn schemas(&self, scope: &Scope, page: Option<PageToken>) -> Result<Page<String>> {
        self.send(Request::ListSchemas, self.inner.schemas(scope, page)).await
    }

    async fn tables(&self, scope: &Scope, page: Option<PageToken>) -> Result<Page<Table>> {
        self.send(Request::ListTables, self.inner.tables(scope, page)).await
    }

    async fn columns(&self, scope: &Scope, page: Option<PageToken>) -> Result<Page<Column>> {
        self.send(Request::DescribeTable, self.inner.columns(scope, page)).await
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
