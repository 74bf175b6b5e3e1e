//! The action `list`.

use redshift_orchestrator::{
    Catalog, PageToken, StatementExecutor, StatementFilter, Status,
    catalog::{CatalogFilter, SessionFilter, SessionStatus},
};
use serde_json::{Value, json};

use crate::{
    Error, Invocation,
    contract::{
        VERSION,
        statement::{List, Listed, Listing},
    },
};

/// Lists one page.
pub(super) async fn list<E, C>(
    executor: &E,
    catalog: &C,
    invocation: &Invocation,
    list: &List,
) -> Result<Listing, Error>
where
    E: StatementExecutor + ?Sized,
    C: Catalog + ?Sized,
{
    check(list)?;
    let page = || list.page.clone().map(PageToken::new);
    let (entries, next) = match list.of {
        Listed::Statements => {
            let filter = statements(list);
            let found = invocation.long_request(|| executor.list(&filter, page())).await?;
            let entry = |s: &redshift_orchestrator::StatementSummary| {
                json!({
                    "id": s.id, "status": s.status, "name": s.name, "is_batch": s.is_batch,
                    "created_at": s.created_at, "updated_at": s.updated_at, "session": s.session_id,
                })
            };
            (found.statements.iter().map(entry).collect::<Vec<_>>(), found.next)
        }
        Listed::Sessions => {
            let filter = sessions(list);
            let found = invocation.long_request(|| catalog.sessions(&filter, page())).await?;
            let entry = |s: &redshift_orchestrator::catalog::Session| {
                json!({
                    "id": s.id, "status": s.status.as_str(), "database": s.database, "created_at": s.created_at,
                    "expires_at": s.expires_at, "current_statement": s.current_statement,
                })
            };
            (found.entries.iter().map(entry).collect(), found.next)
        }
        Listed::Databases => {
            let filter = filter(list)?;
            let found = invocation.long_request(|| catalog.databases(&filter, page())).await?;
            (found.entries.into_iter().map(Value::from).collect(), found.next)
        }
        Listed::Schemas => {
            let filter = filter(list)?;
            let found = invocation.long_request(|| catalog.schemas(&filter, page())).await?;
            (found.entries.into_iter().map(Value::from).collect(), found.next)
        }
        Listed::Tables => {
            let filter = filter(list)?;
            let found = invocation.long_request(|| catalog.tables(&filter, page())).await?;
            let entry = |t: &redshift_orchestrator::catalog::Table| json!({ "schema": t.schema, "name": t.name, "kind": t.kind });
            (found.entries.iter().map(entry).collect(), found.next)
        }
        Listed::Columns => {
            let filter = filter(list)?;
            let found = invocation.long_request(|| catalog.columns(&filter, page())).await?;
            let entry = |c: &redshift_orchestrator::Column| {
                json!({
                    "schema": c.schema, "table": c.table, "name": c.name, "type": c.type_name,
                    "precision": c.precision, "scale": c.scale, "length": c.length, "nullable": c.nullable,
                })
            };
            (found.entries.iter().map(entry).collect(), found.next)
        }
    };
    Ok(Listing { version: VERSION, entries, next: next.map(|next| next.as_str().to_owned()) })
}

/// Rejects members that have no effect for this kind of entry.
fn check(list: &List) -> Result<(), Error> {
    let runs = matches!(list.of, Listed::Statements | Listed::Sessions);
    let in_schema = matches!(list.of, Listed::Schemas | Listed::Tables | Listed::Columns);
    let in_table = matches!(list.of, Listed::Tables | Listed::Columns);
    let members = [
        ("schema", list.schema.is_some(), in_schema, "schemas, tables and columns"),
        ("table", list.table.is_some(), in_table, "tables and columns"),
        ("name_prefix", list.name_prefix.is_some(), list.of == Listed::Statements, "statements"),
        ("status", list.status.is_some(), runs, "statements and sessions"),
        ("target", list.target.is_some(), !runs, "databases, schemas, tables and columns"),
    ];
    match members.into_iter().find(|(_, is_set, has_effect, _)| *is_set && !has_effect) {
        None => Ok(()),
        Some((name, _, _, kinds)) => {
            Err(Error::BadInput(format!("`{name}` has an effect only on listings of {kinds}; remove it")))
        }
    }
}

fn statements(list: &List) -> StatementFilter {
    let mut filter = StatementFilter::default();
    filter.name_prefix.clone_from(&list.name_prefix);
    filter.status = list.status.as_deref().map(Status::from);
    filter.database.clone_from(&list.database);
    filter.page_size = list.page_size.map(small);
    filter
}

fn sessions(list: &List) -> SessionFilter {
    let mut filter = SessionFilter::default();
    filter.status = list.status.as_deref().map(SessionStatus::from);
    filter.database.clone_from(&list.database);
    filter.page_size = list.page_size.map(small);
    filter
}

/// Returns a page size that the service accepts for statements and sessions.
fn small(size: u16) -> u8 {
    size.min(100) as u8
}

fn filter(list: &List) -> Result<CatalogFilter, Error> {
    let mut filter = CatalogFilter::default();
    filter.target = list.target.as_ref().map(|target| target.resolve()).transpose()?;
    filter.database.clone_from(&list.database);
    filter.schema.clone_from(&list.schema);
    filter.table.clone_from(&list.table);
    filter.page_size = list.page_size.map(|size| size.min(1_000));
    Ok(filter)
}
