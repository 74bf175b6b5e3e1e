//! The server's catalog, mapped to the Data API's metadata operations.

use std::cmp::Reverse;

use async_trait::async_trait;
use tokio_postgres::{
    Row,
    types::{FromSql, ToSql, Type},
};

use super::{Postgres, errors, fields};
use crate::{
    LocalExecutor,
    catalog::{cut, cut_sessions},
};
use redshift_orchestrator::{
    Column, Error, ErrorKind, PageToken, Result, Target,
    catalog::{Catalog, CatalogFilter, Page, Session, SessionFilter, Table},
};

const DATABASES: &str =
    "SELECT datname::text FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1";

/// Query for the schemas, except the internal schema of the records ($1).
const SCHEMAS: &str = r"SELECT nspname::text FROM pg_namespace
    WHERE nspname <> $1 AND nspname NOT LIKE 'pg\_toast%' AND nspname NOT LIKE 'pg\_temp\_%'
      AND ($2::text IS NULL OR nspname LIKE $2)
    ORDER BY 1";

const TABLES: &str = r"SELECT nspname::text, relname::text,
        CASE WHEN relpersistence = 't' THEN 'LOCAL TEMPORARY'
             WHEN relkind IN ('v', 'm') THEN 'VIEW'
             WHEN nspname IN ('pg_catalog', 'information_schema') THEN 'SYSTEM TABLE'
             ELSE 'TABLE' END
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND nspname <> $1 AND nspname NOT LIKE 'pg\_toast%'
      AND ($2::text IS NULL OR nspname LIKE $2) AND ($3::text IS NULL OR relname LIKE $3)
    ORDER BY 1, 2";

/// Query for the columns. It decodes `atttypmod`, in which PostgreSQL stores the declared size or precision
/// plus 4.
const COLUMNS: &str = r"SELECT nspname::text, relname::text, attname::text, typname::text, NOT attnotnull,
        CASE WHEN attlen > 0 THEN attlen::int WHEN typname IN ('varchar', 'bpchar') AND atttypmod >= 4 THEN atttypmod - 4 END,
        CASE WHEN typname = 'numeric' AND atttypmod >= 4 THEN (atttypmod - 4) >> 16
             WHEN typname IN ('varchar', 'bpchar') AND atttypmod >= 4 THEN atttypmod - 4 END,
        CASE WHEN typname = 'numeric' AND atttypmod >= 4 THEN (atttypmod - 4) & 2047 END,
        pg_get_expr(adbin, adrelid)
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace
        JOIN pg_type ON pg_type.oid = atttypid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND attnum > 0 AND NOT attisdropped AND nspname <> $1
      AND ($2::text IS NULL OR nspname = $2) AND ($3::text IS NULL OR relname = $3)
    ORDER BY nspname, relname, attnum";

impl Postgres {
    async fn ask(&self, sql: &str, values: &[&Option<String>]) -> Result<Vec<Row>> {
        let lease = self.pool.records().await?;
        let records = self.records.name();
        let mut params: Vec<(&(dyn ToSql + Sync), Type)> = Vec::new();
        if sql.contains("$1") {
            params.push((&records, Type::TEXT));
        }
        params.extend(values.iter().map(|value| (*value as &(dyn ToSql + Sync), Type::TEXT)));
        lease.link()?.query_typed(sql, &params).await.map_err(errors::catalog)
    }

    /// Fails if the request names a database that does not exist.
    fn check_databases(&self, filter: &CatalogFilter) -> Result<()> {
        let connected = filter.target.as_ref().map(Target::database);
        let mut names = [connected, filter.database.as_deref()].into_iter().flatten();
        match names.find_map(|name| self.missing_database(name)) {
            Some(text) => Err(Error::new(ErrorKind::DatabaseUnreachable, text)),
            None => Ok(()),
        }
    }
}

fn get<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T> {
    row.try_get(index).map_err(errors::catalog)
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Catalog for LocalExecutor<Postgres> {
    async fn databases(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<String>> {
        self.backend().check_databases(filter)?;
        let names = &self.backend().databases;
        if !names.is_empty() {
            return cut(names.clone(), filter, page);
        }
        let rows = self.backend().ask(DATABASES, &[]).await?;
        cut(rows.iter().map(|row| get(row, 0)).collect::<Result<_>>()?, filter, page)
    }

    /// Lists the schemas of the database that the URL names.
    async fn schemas(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<String>> {
        self.backend().check_databases(filter)?;
        let rows = self.backend().ask(SCHEMAS, &[&filter.schema]).await?;
        cut(rows.iter().map(|row| get(row, 0)).collect::<Result<_>>()?, filter, page)
    }

    async fn tables(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<Table>> {
        self.backend().check_databases(filter)?;
        let rows = self.backend().ask(TABLES, &[&filter.schema, &filter.table]).await?;
        let table = |row: &Row| {
            let table = Table::new(get::<String>(row, 0)?, get::<String>(row, 1)?);
            Ok(table.with_kind(get::<String>(row, 2)?))
        };
        cut(rows.iter().map(table).collect::<Result<_>>()?, filter, page)
    }

    async fn columns(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<Column>> {
        self.backend().check_databases(filter)?;
        let rows = self.backend().ask(COLUMNS, &[&filter.schema, &filter.table]).await?;
        cut(rows.iter().map(column).collect::<Result<_>>()?, filter, page)
    }

    /// Lists the sessions of this process, and the sessions that other processes have recorded.
    async fn sessions(&self, filter: &SessionFilter, page: Option<PageToken>) -> Result<Page<Session>> {
        let mut sessions = LocalExecutor::sessions(self);
        let backend = self.backend();
        if !backend.pool.is_single() {
            let lease = backend.pool.records().await?;
            let mut others = backend.records.sessions(lease.link()?, backend.clock.now()).await?;
            others.retain(|other| sessions.iter().all(|own| own.id != other.id));
            sessions.append(&mut others);
            sessions.sort_by_key(|session| Reverse(session.created_at));
        }
        cut_sessions(sessions, filter, page)
    }
}

fn column(row: &Row) -> Result<Column> {
    let number = |index| Ok(get::<Option<i32>>(row, index)?.and_then(|number| u32::try_from(number).ok()));
    let mut column = Column::new(get::<String>(row, 2)?, fields::name(&get::<String>(row, 3)?));
    column.schema = get(row, 0)?;
    column.table = get(row, 1)?;
    column.nullable = get(row, 4)?;
    column.length = number(5)?;
    column.precision = number(6)?;
    column.scale = number(7)?;
    column.default = get(row, 8)?;
    Ok(column)
}
