//! [`Faulty`]: wraps an executor and injects faults drawn from one seed.

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

/// A fault that affects a request or its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The connection cannot be opened. The caller knows that the request was not sent
    /// ([`ErrorKind::NotSent`]).
    DroppedConnection,
    /// The request is lost and has no effect. The caller gets the same error as for
    /// [`LostReply`](Self::LostReply) ([`ErrorKind::Disconnected`]).
    LostRequest,
    /// The request takes effect, but its response is lost. The caller cannot tell this from
    /// [`LostRequest`](Self::LostRequest) ([`ErrorKind::Disconnected`]).
    LostReply,
    /// The service throttles the request, which has no effect ([`ErrorKind::Throttled`], code
    /// `ThrottlingException`).
    Throttle,
    /// The service throttles the request with a `ValidationException`, as serverless workgroups do
    /// ([`ErrorKind::Throttled`], code `ValidationException`).
    WrappedThrottle,
    /// The service fails before the request has an effect. The caller cannot know that
    /// ([`ErrorKind::ServiceFault`], status 500).
    InternalError,
    /// The record of the statement expires early and stays expired ([`ErrorKind::RecordExpired`]). Only
    /// applies to requests about one statement: describe, cancel and result.
    Expiry,
    /// The response arrives this much later.
    Delay(Duration),
}

impl Fault {
    /// Returns a stable name for the fault. All delays share one name.
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

    /// Returns `true` if requests of this operation can have the fault.
    pub(super) fn meets(self, fault: Fault) -> bool {
        fault != Fault::Expiry || matches!(self, Self::Describe | Self::Cancel | Self::Result)
    }

    /// Returns the operation's name in the Data API.
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

/// Fault rates, and the seed that determines which requests they hit.
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
    /// Creates a set without faults. The same requests in the same order have the same faults.
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

    /// Returns an operation whose rates add up to more than 1, or `None`.
    pub(super) fn overdone(&self) -> Option<Operation> {
        Operation::ALL.into_iter().find(|operation| {
            let rates = self.rates.iter().filter(|(of, ..)| of == operation);
            rates.map(|(.., rate)| rate).sum::<f64>() > 1.0 + 1e-9
        })
    }

    /// Adds a fault to every operation that can have it.
    #[must_use]
    pub fn with_everywhere(self, fault: Fault, rate: f64) -> Self {
        Operation::ALL
            .into_iter()
            .filter(|operation| operation.meets(fault))
            .fold(self, |faults, operation| faults.with(operation, fault, rate))
    }
}

/// Number of faults that have occurred, by operation and fault name.
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

    /// Iterates over the operations, fault names ([`Fault::as_str`]) and counts.
    pub fn iter(&self) -> impl Iterator<Item = (Operation, &'static str, u64)> + '_ {
        self.0.iter().map(|((operation, fault), count)| (*operation, *fault, *count))
    }
}

/// Hook that runs after a submit has taken effect, before its response is delivered.
type OnSubmitted = Arc<dyn Fn(&Statement, &Submitted) + Send + Sync>;

/// Maximum number of early-expired statements to remember. The service's own records expire within a day.
const MAX_EXPIRED: usize = 100_000;

/// The statements whose records expired early, most recent last.
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

/// Executor that adds faults to the requests and responses of another executor, like an unreliable network
/// between the two.
pub struct Faulty<E> {
    inner: E,
    rates: Vec<(Operation, Fault, f64)>,
    drawn: Mutex<(fastrand::Rng, InjectedFaults)>,
    expired: Mutex<EarlyExpired>,
    on_submitted: Option<OnSubmitted>,
}

impl<E> Faulty<E> {
    /// Wraps `inner`. Its requests are subject to `faults`.
    pub fn new(inner: E, faults: Faults) -> Self {
        let drawn = Mutex::new((fastrand::Rng::with_seed(faults.seed), InjectedFaults::default()));
        Self { inner, rates: faults.rates, drawn, expired: Mutex::default(), on_submitted: None }
    }

    /// Calls `hook` after a submit has taken effect, before its response is delivered or lost. Aborting the
    /// process in the hook tests recovery from the worst moment for a crash.
    #[must_use]
    pub fn with_on_submitted(
        mut self,
        hook: impl Fn(&Statement, &Submitted) + Send + Sync + 'static,
    ) -> Self {
        self.on_submitted = Some(Arc::new(hook));
        self
    }

    /// Returns the number of faults so far.
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

    /// Draws the fault of the next request of this operation.
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

    /// Sends a request about one statement and applies a drawn fault. Fails if the record has expired early,
    /// or if the fault makes the record expire now.
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

    /// Sends a request, and applies the fault that is drawn for it.
    async fn pass<T>(&self, operation: Operation, request: impl Future<Output = Result<T>>) -> Result<T> {
        let fault = self.draw(operation);
        self.meet(fault, operation, request).await
    }

    /// Applies a fault to a request, which includes the call of the hook, if any.
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
                // Even if the executor returned an error, the caller only sees the lost connection.
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
