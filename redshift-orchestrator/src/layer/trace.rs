//! [`Traced`]: reports each request to `tracing`.

use std::fmt;

use async_trait::async_trait;
use tokio::time::Instant;
use tracing::{Instrument, Span, debug, debug_span, warn};

use crate::{
    Column, Description, PageToken, Result, ResultPage, Statement, StatementExecutor, StatementFilter,
    StatementId, StatementPage, Submitted, WaitTime,
    catalog::{Catalog, CatalogFilter, Page, Session, SessionFilter, Table},
};

/// Reports each request to `tracing`: a debug span with the operation and the statement's name or id, and an
/// event with the duration. The event has level debug, or warn after an error. SQL and parameter values are
/// never included.
pub struct Traced<E> {
    inner: E,
}

impl<E> Traced<E> {
    /// Traces the requests to `inner`.
    pub fn new(inner: E) -> Self {
        Self { inner }
    }
}

async fn traced<T>(span: Span, request: impl Future<Output = Result<T>>) -> Result<T> {
    async {
        let begun = Instant::now();
        let response = request.await;
        let seconds = begun.elapsed().as_secs_f64();
        match &response {
            Ok(_) => debug!(seconds, "succeeded"),
            Err(error) => warn!(seconds, kind = %error.kind(), %error, "rejected or lost"),
        }
        response
    }
    .instrument(span)
    .await
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<E: StatementExecutor> StatementExecutor for Traced<E> {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let span =
            debug_span!("submit", statement.name = statement.name(), wait = wait.map(WaitTime::seconds));
        traced(span, self.inner.submit(statement, wait)).await
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        let span = debug_span!("describe", statement.id = %id, wait = wait.map(WaitTime::seconds));
        traced(span, self.inner.describe(id, wait)).await
    }

    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        traced(debug_span!("cancel", statement.id = %id), self.inner.cancel(id)).await
    }

    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage> {
        traced(debug_span!("result", statement.id = %id), self.inner.result(id, page)).await
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        let span = debug_span!("list", name_prefix = filter.name_prefix.as_deref());
        traced(span, self.inner.list(filter, page)).await
    }

    fn target(&self) -> Option<crate::Target> {
        self.inner.target()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<E: Catalog> Catalog for Traced<E> {
    async fn databases(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<String>> {
        traced(debug_span!("databases"), self.inner.databases(filter, page)).await
    }

    async fn schemas(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<String>> {
        let span = debug_span!("schemas", schema = filter.schema.as_deref());
        traced(span, self.inner.schemas(filter, page)).await
    }

    async fn tables(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<Table>> {
        let span = debug_span!("tables", schema = filter.schema.as_deref(), table = filter.table.as_deref());
        traced(span, self.inner.tables(filter, page)).await
    }

    async fn columns(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<Column>> {
        let span = debug_span!("columns", schema = filter.schema.as_deref(), table = filter.table.as_deref());
        traced(span, self.inner.columns(filter, page)).await
    }

    async fn sessions(&self, filter: &SessionFilter, page: Option<PageToken>) -> Result<Page<Session>> {
        traced(debug_span!("sessions"), self.inner.sessions(filter, page)).await
    }
}

impl<E: fmt::Display> fmt::Display for Traced<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Traced({})", self.inner)
    }
}

impl<E: fmt::Debug> fmt::Debug for Traced<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Traced({:?})", self.inner)
    }
}
