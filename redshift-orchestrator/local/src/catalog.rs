//! The catalog of a [`LocalExecutor`] with a script: the tables that the script declares.

use async_trait::async_trait;

use super::{LocalExecutor, Scripted, session};
use redshift_orchestrator::{
    Column, PageToken, Result,
    catalog::{Catalog, CatalogFilter, Page, Session, SessionFilter, Table, fits},
};

/// Default page size of the service's catalog listings.
const PAGE: u16 = 1_000;

/// Database name that a script reports if the request names none.
const DATABASE: &str = "dev";

/// Returns one page of the sessions that match the filter.
pub(super) fn cut_sessions(
    mut sessions: Vec<Session>,
    filter: &SessionFilter,
    page: Option<PageToken>,
) -> Result<Page<Session>> {
    sessions.retain(|session| session::fits(session, filter));
    let size = filter.page_size.filter(|size| *size > 0).unwrap_or(100).min(100);
    Page::cut(sessions, size.into(), page)
}

/// Cuts one page from a complete listing.
pub(super) fn cut<T>(entries: Vec<T>, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<T>> {
    let size = filter.page_size.filter(|size| *size > 0).unwrap_or(PAGE).min(PAGE);
    Page::cut(entries, size.into(), page)
}

fn fit(pattern: Option<&str>, name: &str) -> bool {
    pattern.is_none_or(|pattern| fits(pattern, name))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Catalog for LocalExecutor<Scripted> {
    /// Returns the database that the request names: a script has exactly one database.
    async fn databases(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<String>> {
        let connected = filter.target.as_ref().map(|target| target.database());
        let database = connected.or(filter.database.as_deref()).unwrap_or(DATABASE);
        cut(vec![database.to_owned()], filter, page)
    }

    async fn schemas(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<String>> {
        let mut schemas: Vec<_> =
            self.backend().tables().iter().map(|(table, _)| table.schema.clone()).collect();
        schemas.sort();
        schemas.dedup();
        schemas.retain(|schema| fit(filter.schema.as_deref(), schema));
        cut(schemas, filter, page)
    }

    async fn tables(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<Table>> {
        let mut tables: Vec<_> = self.backend().tables().iter().map(|(table, _)| table.clone()).collect();
        tables.retain(|table| {
            fit(filter.schema.as_deref(), &table.schema) && fit(filter.table.as_deref(), &table.name)
        });
        tables.sort_by(|one, other| (&one.schema, &one.name).cmp(&(&other.schema, &other.name)));
        cut(tables, filter, page)
    }

    async fn columns(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<Column>> {
        let is = |wanted: Option<&str>, name: &str| wanted.is_none_or(|wanted| wanted == name);
        let columns = self.backend().tables().iter().filter(|(table, _)| {
            is(filter.schema.as_deref(), &table.schema) && is(filter.table.as_deref(), &table.name)
        });
        cut(columns.flat_map(|(_, columns)| columns.clone()).collect(), filter, page)
    }

    async fn sessions(&self, filter: &SessionFilter, page: Option<PageToken>) -> Result<Page<Session>> {
        cut_sessions(self.sessions(), filter, page)
    }
}
