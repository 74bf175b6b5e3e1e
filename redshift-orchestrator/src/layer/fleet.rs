//! [`Fleet`]: an executor for many statements at once, within the limits of the account and the cluster.

use std::fmt;

use async_trait::async_trait;

use super::{Limit, Rate, RequestRates};
use crate::{
    Column, Description, PageToken, Result, ResultPage, Statement, StatementExecutor, StatementFilter,
    StatementId, StatementPage, Submitted, WaitTime,
    catalog::{Catalog, CatalogFilter, Page, Session, SessionFilter, Table},
};

/// An executor for many statements at once. All requests together stay within the account's rates, and the
/// number of active statements and sessions stays within the limits of the cluster or workgroup.
///
/// A fleet is a [`Limit`] around a [`Rate`], with the service's documented limits as defaults. Thousands of
/// waits can share one fleet: the requests of each operation are sent in the order in which they were made.
///
/// ```
/// use redshift_data_local::{LocalExecutor, Script};
/// use redshift_orchestrator::{Orchestrator, layer::{Fleet, RequestRates}};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// # let service = LocalExecutor::scripted(Script::new());
/// # let another = LocalExecutor::scripted(Script::new());
/// let orchestrator = Orchestrator::new(Fleet::new(service));
///
/// // Two clusters of one account share the account's rates, but have separate limits of statements.
/// # let service = LocalExecutor::scripted(Script::new());
/// let rates = RequestRates::default();
/// let small = Orchestrator::new(Fleet::new(service).with_rates(rates.clone()).with_statements(50));
/// let large = Orchestrator::new(Fleet::new(another).with_rates(rates));
/// # let _ = (orchestrator, small, large);
/// # }
/// ```
pub struct Fleet<E>(Limit<Rate<E>>);

/// Maximum number of active statements in a cluster or workgroup. A lower limit is learned from the service's
/// rejections.
const STATEMENTS: usize = 500;

impl<E> Fleet<E> {
    /// Wraps `inner` with the service's request rates, and with limits of 500 active statements and 500 open
    /// sessions.
    pub fn new(inner: E) -> Self {
        Self(Limit::new(Rate::new(inner, RequestRates::default()), STATEMENTS))
    }

    /// Sets the request rates. Fleets with clones of the same `rates` share them.
    #[must_use]
    pub fn with_rates(self, rates: RequestRates) -> Self {
        Self(self.0.map(|rate| rate.with_rates(rates)))
    }

    /// Sets the maximum number of active statements.
    #[must_use]
    pub fn with_statements(self, most: usize) -> Self {
        Self(self.0.with_statements(most))
    }

    /// Sets the maximum number of open sessions.
    #[must_use]
    pub fn with_sessions(self, most: usize) -> Self {
        Self(self.0.with_sessions(most))
    }

    /// Returns the number of active statements, as far as this process knows.
    pub fn active(&self) -> usize {
        self.0.active()
    }

    /// Returns the current limit of active statements, as learned from the service's rejections.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<E: StatementExecutor> StatementExecutor for Fleet<E> {
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
        self.0.result(id, page).await
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        self.0.list(filter, page).await
    }

    fn target(&self) -> Option<crate::Target> {
        self.0.target()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<E: Catalog> Catalog for Fleet<E> {
    async fn databases(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<String>> {
        self.0.databases(filter, page).await
    }

    async fn schemas(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<String>> {
        self.0.schemas(filter, page).await
    }

    async fn tables(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<Table>> {
        self.0.tables(filter, page).await
    }

    async fn columns(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<Column>> {
        self.0.columns(filter, page).await
    }

    async fn sessions(&self, filter: &SessionFilter, page: Option<PageToken>) -> Result<Page<Session>> {
        self.0.sessions(filter, page).await
    }
}

impl<E: fmt::Display> fmt::Display for Fleet<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fleet({})", self.0)
    }
}

impl<E: fmt::Debug> fmt::Debug for Fleet<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fleet({:?})", self.0)
    }
}
