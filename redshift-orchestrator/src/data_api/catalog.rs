//! Implementation of [`Catalog`](crate::Catalog) with the SDK.

use async_trait::async_trait;
use aws_sdk_redshiftdata::types::{SessionData, SessionStatusString, TableMember};

use super::{
    DataApiExecutor,
    classify::RequestContext,
    convert::{self, TargetFields},
};
use crate::{
    Column, PageToken, Result, SessionId, StatementId,
    catalog::{Catalog, CatalogFilter, Page, Session, SessionFilter, SessionStatus, Table},
};

impl DataApiExecutor {
    fn fields(&self, filter: &CatalogFilter) -> TargetFields {
        TargetFields::at(filter.target.as_ref().unwrap_or(&self.target))
    }

    /// Returns the database whose objects are listed, and the database to connect to if it is a different
    /// one. The service always requires the first.
    fn databases_of(&self, filter: &CatalogFilter) -> (String, Option<String>) {
        let connected = filter.target.as_ref().unwrap_or(&self.target).database().to_owned();
        match &filter.database {
            Some(database) if *database != connected => (database.clone(), Some(connected)),
            _ => (connected, None),
        }
    }
}

/// Sends a listing request. This is a macro, because the SDK's request builders have no common type.
macro_rules! list {
    ($self:ident . $operation:ident ($name:literal, $filter:ident, $page:ident) $(. $set:ident ($value:expr))*) => {{
        let call = RequestContext::new($name).withholding_secret($filter.target.as_ref().unwrap_or(&$self.target));
        let fields = $self.fields($filter);
        $self
            .client
            .$operation()
            .set_cluster_identifier(fields.cluster)
            .set_workgroup_name(fields.workgroup)
            .set_db_user(fields.db_user)
            .set_secret_arn(fields.secret_arn)
            .set_max_results($filter.page_size.map(i32::from))
            .set_next_token($page.as_ref().map(|page| page.as_str().to_owned()))
            $(.$set($value))*
            .customize()
            .interceptor(call.sending())
            .send()
            .await
            .map_err(|error| call.error(error, None))?
    }};
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Catalog for DataApiExecutor {
    async fn databases(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<String>> {
        let (database, _) = self.databases_of(filter);
        let output = list!(self.list_databases("ListDatabases", filter, page).database(database));
        paged(page.as_ref(), output.databases, output.next_token, |name| name)
    }

    async fn schemas(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<String>> {
        let (database, connected) = self.databases_of(filter);
        let output = list!(
            self.list_schemas("ListSchemas", filter, page)
                .database(database)
                .set_connected_database(connected)
                .set_schema_pattern(filter.schema.clone())
        );
        paged(page.as_ref(), output.schemas, output.next_token, |name| name)
    }

    async fn tables(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<Table>> {
        let (database, connected) = self.databases_of(filter);
        let output = list!(
            self.list_tables("ListTables", filter, page)
                .database(database)
                .set_connected_database(connected)
                .set_schema_pattern(filter.schema.clone())
                .set_table_pattern(filter.table.clone())
        );
        paged(page.as_ref(), output.tables, output.next_token, table)
    }

    async fn columns(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<Column>> {
        let (database, connected) = self.databases_of(filter);
        let output = list!(
            self.describe_table("DescribeTable", filter, page)
                .database(database)
                .set_connected_database(connected)
                .set_schema(filter.schema.clone())
                .set_table(filter.table.clone())
        );
        paged(page.as_ref(), output.column_list, output.next_token, convert::column)
    }

    async fn sessions(&self, filter: &SessionFilter, page: Option<PageToken>) -> Result<Page<Session>> {
        let call = RequestContext::new("ListSessions");
        let (cluster, workgroup) = convert::compute(filter.compute.as_ref());
        let request = self
            .client
            .list_sessions()
            .set_session_id(filter.id.as_ref().map(|id| id.as_str().to_owned()))
            .set_status(filter.status.as_ref().map(|status| SessionStatusString::from(status.as_str())))
            .role_level(!filter.own_session_only)
            .set_cluster_identifier(cluster)
            .set_workgroup_name(workgroup)
            .set_database(filter.database.clone())
            .set_max_results(filter.page_size.map(i32::from))
            .set_next_token(page.as_ref().map(|page| page.as_str().to_owned()));
        let sent = request.customize().interceptor(call.sending()).send().await;
        let output = sent.map_err(|error| call.error(error, None))?;
        paged(page.as_ref(), Some(output.sessions), output.next_token, session)
    }
}

fn paged<S, T>(
    requested: Option<&PageToken>,
    entries: Option<Vec<S>>,
    next: Option<String>,
    convert: impl Fn(S) -> T,
) -> Result<Page<T>> {
    Ok(Page {
        entries: entries.unwrap_or_default().into_iter().map(convert).collect(),
        next: super::checked_next(requested, convert::text(next).map(PageToken::new))?,
    })
}

fn table(data: TableMember) -> Table {
    Table::new(data.schema.unwrap_or_default(), data.name.unwrap_or_default())
        .with_kind(data.r#type.unwrap_or_default())
}

fn session(data: SessionData) -> Session {
    let created_at = convert::timestamp(Some(data.created_at)).unwrap_or_default();
    let status = SessionStatus::from(data.status.as_str());
    let mut session = Session::new(SessionId::new(data.session_id), status, created_at);
    session.updated_at = convert::timestamp(data.updated_at);
    session.compute = convert::one_compute(data.cluster_identifier, data.workgroup_name);
    session.database = convert::text(data.database);
    session.database_user = convert::text(data.db_user);
    session.keep_alive = convert::seconds(data.session_alive_seconds);
    session.expires_at = convert::timestamp(data.session_ttl);
    session.current_statement = convert::text(data.current_statement_id).map(StatementId::new);
    session
}
