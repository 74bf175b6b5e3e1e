//! [`Faulty`]: an executor with faults drawn from one seed.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::sleep;

use super::{limits, record::split};
use redshift_orchestrator::{
    Column, Description, Error, ErrorKind, PageToken, Result, ResultPage, Statement, StatementExecutor,
    StatementFilter, StatementId, StatementPage, Submitted, WaitTime,
    catalog::{Catalog, CatalogFilter, Page, Session, SessionFilter, Table},
};

/// A fault of a request or of its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The connection cannot be opened. Nothing is sent, and the caller knows it ([`ErrorKind::NotSent`]).
    DroppedConnection,
    /// The request is lost. Nothing happens, and the caller cannot know it ([`ErrorKind::Disconnected`]).
    LostRequest,
    /// The request takes effect and its response is lost. The caller cannot know it
    /// ([`ErrorKind::Disconnected`]).
    LostReply,
    /// The service throttles the request. Nothing happens ([`ErrorKind::Throttled`], code
    /// `ThrottlingException`).
    Throttle,
    /// The service throttles the request with a `ValidationException`, as serverless workgroups do
    /// ([`ErrorKind::Throttled`], code `ValidationException`).
    WrappedThrottle,
    /// The service fails. Nothing happens, and the caller cannot know it ([`ErrorKind::ServiceFault`], status
    /// 500).
    InternalError,
    /// The record of the statement expires early and stays expired ([`ErrorKind::RecordExpired`]). Applies to
    /// requests about one statement: describe, cancel, result.
    Expiry,
    /// The response is delayed by this duration.
    Delay(Duration),
}

impl Fault {
    /// Stable name of the fault. All delays share one name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DroppedConnection => "dropped connection",
            Self::LostRequest => "lost request",
            Self::LostReply => "lost reply",
            Self::Throttle => "throttle",
            Self::WrappedThrottle => "wrapped throttle",
            Self::InternalError => "internal error",
            Self::Expiry => "expiry",
            Self::Delay(_) => "delay",
        }
    }
}

/// A method of [`StatementExecutor`] or [`Catalog`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// [`StatementExecutor::submit`].
    Submit,
    /// [`StatementExecutor::describe`].
    Describe,
    /// [`StatementExecutor::cancel`].
    Cancel,
    /// [`StatementExecutor::result`].
    Result,
    /// [`StatementExecutor::list`].
    List,
    /// [`Catalog::databases`].
    Databases,
    /// [`Catalog::schemas`].
    Schemas,
    /// [`Catalog::tables`].
    Tables,
    /// [`Catalog::columns`].
    Columns,
    /// [`Catalog::sessions`].
    Sessions,
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 10] = [
        Self::Submit,
        Self::Describe,
        Self::Cancel,
        Self::Result,
        Self::List,
        Self::Databases,
        Self::Schemas,
        Self::Tables,
        Self::Columns,
        Self::Sessions,
    ];

    /// Returns `true` if the fault can occur in requests of this operation.
    pub(super) fn meets(self, fault: Fault) -> bool {
        fault != Fault::Expiry || matches!(self, Self::Describe | Self::Cancel | Self::Result)
    }

    /// The operation's name in the service.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "ExecuteStatement",
            Self::Describe => "DescribeStatement",
            Self::Cancel => "CancelStatement",
            Self::Result => "GetStatementResult",
            Self::List => "ListStatements",
            Self::Databases => "ListDatabases",
            Self::Schemas => "ListSchemas",
            Self::Tables => "ListTables",
            Self::Columns => "DescribeTable",
            Self::Sessions => "ListSessions",
        }
    }
}

/// The rates of faults, and the seed that determines when they occur.
///
/// ```
/// use redshift_data_local::{Fault, Faults, Operation};
///
/// let faults = Faults::seeded(42)
///     .with(Operation::Submit, Fault::LostReply, 0.05)
///     .with(Operation::Describe, Fault::Throttle, 0.10);
/// # let _ = faults;
/// ```
#[derive(Clone, Debug)]
pub struct Faults {
    seed: u64,
    rates: Vec<(Operation, Fault, f64)>,
}

impl Faults {
    /// Creates a set without faults. Requests in the same order have the same faults.
    pub fn seeded(seed: u64) -> Self {
        Self { seed, rates: Vec::new() }
    }

    /// Sets the seed.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Adds a fault to an operation. `rate` is the share of requests with this fault, from 0 to 1. A request
    /// has at most one fault, so the rates of an operation add up.
    #[must_use]
    pub fn with(mut self, operation: Operation, fault: Fault, rate: f64) -> Self {
        self.rates.push((operation, fault, rate));
        self
    }

    /// Returns an operation whose rates add up to more than 1.
    pub(super) fn overdone(&self) -> Option<Operation> {
        Operation::ALL.into_iter().find(|operation| {
            let rates = self.rates.iter().filter(|(of, ..)| of == operation);
            rates.map(|(.., rate)| rate).sum::<f64>() > 1.0 + 1e-9
        })
    }

    /// Adds a fault to every operation in which it can occur.
    #[must_use]
    pub fn with_everywhere(self, fault: Fault, rate: f64) -> Self {
        Operation::ALL
            .into_iter()
            .filter(|operation| operation.meets(fault))
            .fold(self, |faults, operation| faults.with(operation, fault, rate))
    }
}

/// The number of faults that occurred, by operation and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InjectedFaults(BTreeMap<(Operation, &'static str), u64>);

impl InjectedFaults {
    /// Returns the total number of faults.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Returns the number of faults of one operation.
    pub fn count(&self, operation: Operation) -> u64 {
        self.iter().filter(|(of, ..)| *of == operation).map(|(.., count)| count).sum()
    }

    /// Returns the operation, the name of the fault ([`Fault::as_str`]), and the count.
    pub fn iter(&self) -> impl Iterator<Item = (Operation, &'static str, u64)> + '_ {
        self.0.iter().map(|((operation, fault), count)| (*operation, *fault, *count))
    }
}

/// Called when a submit has taken effect, before its response is delivered.
type OnSubmitted = Arc<dyn Fn(&Statement, &Submitted) + Send + Sync>;

/// Maximum number of statements remembered because their records expired early. Their records in the service
/// expire within a day.
const MAX_EXPIRED: usize = 100_000;

/// The latest statements whose records expired early.
#[derive(Default)]
struct EarlyExpired {
    ids: HashSet<StatementId>,
    order: VecDeque<StatementId>,
}

impl EarlyExpired {
    fn contains(&self, id: &StatementId) -> bool {
        self.ids.contains(id)
    }

    fn insert(&mut self, id: StatementId) {
        if self.ids.insert(id.clone()) {
            self.order.push_back(id);
        }
        if self.order.len() > MAX_EXPIRED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

/// An executor that adds faults to requests and responses. It sits between a caller and any executor, as a
/// network does.
pub struct Faulty<E> {
    inner: E,
    rates: Vec<(Operation, Fault, f64)>,
    drawn: Mutex<(fastrand::Rng, InjectedFaults)>,
    /// Statements whose records expired early.
    expired: Mutex<EarlyExpired>,
    on_submitted: Option<OnSubmitted>,
}

impl<E> Faulty<E> {
    /// Wraps `inner`, whose requests then suffer these faults.
    pub fn new(inner: E, faults: Faults) -> Self {
        let drawn = Mutex::new((fastrand::Rng::with_seed(faults.seed), InjectedFaults::default()));
        Self { inner, rates: faults.rates, drawn, expired: Mutex::default(), on_submitted: None }
    }

    /// Calls `hook` right after a submit took effect, before its response reaches the caller or is lost. A
    /// process that aborts in the hook dies at the worst moment.
    #[must_use]
    pub fn with_on_submitted(
        mut self,
        hook: impl Fn(&Statement, &Submitted) + Send + Sync + 'static,
    ) -> Self {
        self.on_submitted = Some(Arc::new(hook));
        self
    }

    /// Returns the faults so far.
    pub fn injected(&self) -> InjectedFaults {
        self.drawn().1.clone()
    }

    /// Returns the wrapped executor.
    pub fn inner(&self) -> &E {
        &self.inner
    }

    fn drawn(&self) -> MutexGuard<'_, (fastrand::Rng, InjectedFaults)> {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expired(&self) -> MutexGuard<'_, EarlyExpired> {
        self.expired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides the fault of the next request of this operation.
    fn draw(&self, operation: Operation) -> Option<Fault> {
        let mut drawn = self.drawn();
        let mut point = drawn.0.f64();
        let rates = self.rates.iter().filter(|(of, fault, _)| *of == operation && of.meets(*fault));
        let fault = rates
            .map(|(_, fault, rate)| (*fault, *rate))
            .find(|(_, rate)| {
                point -= rate;
                point < 0.0
            })?
            .0;
        *drawn.1.0.entry((operation, fault.as_str())).or_default() += 1;
        Some(fault)
    }

    /// Sends a request about one statement, with a drawn fault. Fails if the record has expired early, or if
    /// the fault lets it expire now.
    async fn pass_about<T>(
        &self,
        operation: Operation,
        id: &StatementId,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let (whole, _) = split(id);
        if !self.expired().contains(&whole) {
            match self.draw(operation) {
                Some(Fault::Expiry) => self.expired().insert(whole),
                fault => return self.meet(fault, operation, request).await,
            }
        }
        Err(limits::expired(id, Timestamp::UNIX_EPOCH))
    }

    /// Sends a request with a drawn fault.
    async fn pass<T>(&self, operation: Operation, request: impl Future<Output = Result<T>>) -> Result<T> {
        let fault = self.draw(operation);
        self.meet(fault, operation, request).await
    }

    /// Applies a fault to a request. A hook in `request` runs even if the response is lost.
    async fn meet<T>(
        &self,
        fault: Option<Fault>,
        operation: Operation,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let error = |kind, message: &str| {
            Err(Error::new(kind, message).with_context("operation", operation.as_str()))
        };
        match fault {
            None => request.await,
            Some(Fault::Delay(delay)) => {
                let answer = request.await;
                sleep(delay).await;
                answer
            }
            Some(Fault::DroppedConnection) => error(ErrorKind::NotSent, "connection refused"),
            Some(Fault::LostRequest) => error(ErrorKind::Disconnected, "connection reset"),
            Some(Fault::Expiry) => error(ErrorKind::RecordExpired, "the record has expired"),
            Some(Fault::InternalError) => error(ErrorKind::ServiceFault, "an internal error occurred"),
            Some(Fault::LostReply) => {
                // The executor would have returned this error without an effect; the error response is lost
                // as well.
                let _ = request.await;
                error(ErrorKind::Disconnected, "connection reset")
            }
            Some(Fault::Throttle) => error(ErrorKind::Throttled, "Rate exceeded")
                .map_err(|error: Error| error.with_code("ThrottlingException")),
            Some(Fault::WrappedThrottle) => error(
                ErrorKind::Throttled,
                "Rate exceeded (Service: RedshiftServerless; Status Code: 400; Error Code: ThrottlingException)",
            )
            .map_err(|error: Error| error.with_code("ValidationException")),
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<E: StatementExecutor> StatementExecutor for Faulty<E> {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let request = async {
            let submitted = self.inner.submit(statement, wait).await?;
            if let Some(hook) = &self.on_submitted {
                hook(statement, &submitted);
            }
            Ok(submitted)
        };
        self.pass(Operation::Submit, request).await
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        self.pass_about(Operation::Describe, id, self.inner.describe(id, wait)).await
    }

    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        self.pass_about(Operation::Cancel, id, self.inner.cancel(id)).await
    }

    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage> {
        self.pass_about(Operation::Result, id, self.inner.result(id, page)).await
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        let mut page = self.pass(Operation::List, self.inner.list(filter, page)).await?;
        let expired = self.expired();
        page.statements.retain(|statement| !expired.contains(&statement.id));
        Ok(page)
    }

    fn target(&self) -> Option<redshift_orchestrator::Target> {
        self.inner.target()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<E: Catalog> Catalog for Faulty<E> {
    async fn databases(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<String>> {
        self.pass(Operation::Databases, self.inner.databases(filter, page)).await
    }

    async fn schemas(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<String>> {
        self.pass(Operation::Schemas, self.inner.schemas(filter, page)).await
    }

    async fn tables(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<Table>> {
        self.pass(Operation::Tables, self.inner.tables(filter, page)).await
    }

    async fn columns(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<Column>> {
        self.pass(Operation::Columns, self.inner.columns(filter, page)).await
    }

    async fn sessions(&self, filter: &SessionFilter, page: Option<PageToken>) -> Result<Page<Session>> {
        self.pass(Operation::Sessions, self.inner.sessions(filter, page)).await
    }
}

impl<E: fmt::Display> fmt::Display for Faulty<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

impl<E: fmt::Debug> fmt::Debug for Faulty<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Faulty").field(&self.inner).finish()
    }
}
