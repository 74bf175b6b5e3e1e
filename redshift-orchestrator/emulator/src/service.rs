//! [`Service`]: executes a request and builds the response, independent of the transport.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use super::{
    members::{Member, Members},
    operation::Operation,
    refusal::Refusal,
    response::{self, Object},
};
use redshift_orchestrator::{
    ClientToken, Compute, Description, ExecutionMode, PageData, PageToken, Result, ResultFormat, ResultPage,
    SessionId, Statement, StatementExecutor, StatementFilter, StatementId, Status, Target, WaitTime,
    catalog::{Catalog, CatalogFilter, Page, SessionFilter, SessionStatus},
};

/// The operations of the service, implemented with an executor.
pub(super) struct Service<E> {
    pub(super) executor: E,
    /// Becomes `true` when the emulator stops. Long polls then return the current status.
    pub(super) stopping: watch::Receiver<bool>,
}

impl<E: StatementExecutor + Catalog> Service<E> {
    pub(super) async fn answer(&self, operation: Operation, body: &[u8]) -> Result<Value, Refusal> {
        let members = Members::read(operation, body)?;
        match operation {
            Operation::ExecuteStatement | Operation::BatchExecuteStatement => {
                self.submit(operation, members).await
            }
            Operation::GetStatementResult | Operation::GetStatementResultV2 => {
                self.result(operation, members).await
            }
            Operation::DescribeStatement => {
                let described = self.describe(&id(&members), wait(&members)).await;
                let described = described.map_err(|error| Refusal::of(operation, &error))?;
                Ok(response::description(&described))
            }
            Operation::CancelStatement => self.cancel(operation, &id(&members)).await,
            _ => self.list(operation, members).await.map_err(|error| Refusal::of(operation, &error)),
        }
    }

    async fn submit(&self, operation: Operation, members: Members) -> Result<Value, Refusal> {
        if let (Some(session), Some(database)) = (&members.session_id, &members.database) {
            self.check_database(session, database).await?;
        }
        let wait = wait(&members);
        let statement = statement(members).map_err(|error| Refusal::of(operation, &error))?;
        let submitted = self.executor.submit(&statement, None).await;
        let submitted = submitted.map_err(|error| Refusal::of(operation, &error))?;
        // The statement is now submitted, so an error of the wait must not fail the request. In that case the
        // response omits the status.
        let described = match wait {
            Some(_) => self.describe(&submitted.id, wait).await.ok(),
            None => None,
        };
        Ok(response::submitted(&submitted, described.as_ref()))
    }

    /// Refuses a statement in a session that uses another database. The executor itself refuses an unknown
    /// session.
    async fn check_database(&self, session: &str, database: &str) -> Result<(), Refusal> {
        let mut filter = SessionFilter::default();
        filter.id = Some(SessionId::new(session));
        let page = self.executor.sessions(&filter, None).await;
        let found = page.ok().and_then(|page| page.entries.into_iter().next());
        match found.and_then(|session| session.database).filter(|own| own != database) {
            Some(own) => Err(Refusal::validation(format!(
                "Database {database} can't be specified, because the session uses database {own}."
            ))),
            None => Ok(()),
        }
    }

    /// Describes the statement. If the emulator stops during the wait, returns the current status.
    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        let mut stopping = self.stopping.clone();
        if wait.is_some() {
            tokio::select! {
                described = self.executor.describe(id, wait) => return described,
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        }
        self.executor.describe(id, None).await
    }

    /// Cancels the statement. If it has already ended, the executor returns `false`, whereas the service
    /// returns an error.
    async fn cancel(&self, operation: Operation, id: &StatementId) -> Result<Value, Refusal> {
        let accepted = self.executor.cancel(id).await.map_err(|error| Refusal::of(operation, &error))?;
        if !accepted {
            // If the id is that of a sub-statement, the service cancels and reports the whole batch.
            let whole = StatementId::new(id.as_str().split(':').next().unwrap_or_default());
            if let Ok(described) = self.executor.describe(&whole, None).await
                && described.status.is_terminal()
            {
                return Err(Refusal::already_ended(&whole, &described.status));
            }
        }
        Ok(Object::default().with("Status", accepted).into())
    }

    async fn result(&self, operation: Operation, members: Members) -> Result<Value, Refusal> {
        let id = id(&members);
        let refused = |error| Refusal::of(operation, &error);
        if let Some(wait) = wait(&members) {
            let described = self.describe(&id, Some(wait)).await.map_err(refused)?;
            if !described.status.is_terminal() {
                let text = format!(
                    "Query {id} is still in {} state. Please check query status with DescribeStatement.",
                    described.status
                );
                return Err(Refusal::not_found(id.as_str(), text));
            }
        }
        let page = self.executor.result(&id, page(&members)).await.map_err(refused)?;
        result_page(operation, page)
    }

    async fn list(&self, operation: Operation, members: Members) -> Result<Value> {
        let from = page(&members);
        Ok(match operation {
            Operation::ListStatements => {
                let page = self.executor.list(&statement_filter(members), from).await?;
                let page = Page::new(page.statements, page.next);
                listing("Statements", page, response::summary)
            }
            Operation::ListSessions => {
                let page = self.executor.sessions(&session_filter(members), from).await?;
                listing("Sessions", page, response::session)
            }
            Operation::ListDatabases => {
                listing("Databases", self.executor.databases(&filter(members), from).await?, |name| {
                    name.as_str().into()
                })
            }
            Operation::ListSchemas => {
                listing("Schemas", self.executor.schemas(&filter(members), from).await?, |name| {
                    name.as_str().into()
                })
            }
            Operation::ListTables => {
                listing("Tables", self.executor.tables(&filter(members), from).await?, response::table)
            }
            _ => {
                let table = members.table.clone();
                let page = self.executor.columns(&filter(members), from).await?;
                let mut answer = listing("ColumnList", page, response::column);
                if let (Some(object), Some(table)) = (answer.as_object_mut(), table) {
                    object.insert("TableName".to_owned(), table.into());
                }
                answer
            }
        })
    }
}

fn listing<T>(name: &str, page: Page<T>, answer: impl Fn(&T) -> Value) -> Value {
    let entries: Vec<_> = page.entries.iter().map(answer).collect();
    let next = page.next.as_ref().map(PageToken::as_str);
    Object::default().with(name, entries).with_some("NextToken", next).into()
}

/// Builds a page of a result. Each format has a separate operation.
fn result_page(operation: Operation, page: ResultPage) -> Result<Value, Refusal> {
    let object = match (operation, page.data) {
        (Operation::GetStatementResult, PageData::Records(rows)) => {
            let row = |row: &Vec<_>| row.iter().map(response::field).collect::<Vec<_>>();
            Object::default().with("Records", rows.iter().map(row).collect::<Vec<_>>())
        }
        (Operation::GetStatementResultV2, PageData::Csv(pieces)) => {
            let record = |piece| Value::from(Object::default().with("CSVRecords", piece));
            let records = pieces.into_iter().map(record).collect::<Vec<_>>();
            Object::default().with("Records", records).with("ResultFormat", "CSV")
        }
        (_, PageData::Records(_)) => {
            return Err(Refusal::validation(
                "The result is in JSON format. Use GetStatementResult to fetch it.",
            ));
        }
        (_, PageData::Csv(_)) => {
            return Err(Refusal::validation(
                "The result is in CSV format. Use GetStatementResultV2 to fetch it.",
            ));
        }
    };
    let columns: Vec<_> = page.columns.iter().map(response::column).collect();
    let total = page.total_rows.and_then(|rows| i64::try_from(rows).ok());
    let next = page.next.as_ref().map(PageToken::as_str);
    Ok(object
        .with("ColumnMetadata", columns)
        .with_some("TotalNumRows", total)
        .with_some("NextToken", next)
        .into())
}

fn statement(members: Members) -> Result<Statement> {
    let target = target(&members, members.database.as_deref());
    let mut statement = match (members.sqls, members.sql) {
        (Some(sqls), _) => Statement::batch(sqls),
        (None, sql) => Statement::sql(sql.unwrap_or_default()),
    };
    if members.execution_mode.as_deref() == Some("AUTO_COMMIT") {
        statement = statement.with_execution_mode(ExecutionMode::AutoCommit);
    }
    for Member { name, value } in members.parameters.into_iter().flatten() {
        statement = statement.with_parameter(name.unwrap_or_default(), value.unwrap_or_default());
    }
    if members.result_format.as_deref() == Some("CSV") {
        statement = statement.with_result_format(ResultFormat::Csv);
    }
    if let Some(name) = members.statement_name.filter(|name| !name.is_empty()) {
        statement = statement.with_name(name);
    }
    if let Some(token) = members.client_token {
        statement = statement.with_client_token(ClientToken::new(token)?);
    }
    if let Some(session) = members.session_id {
        statement = statement.in_session(SessionId::new(session));
    }
    if let Some(seconds) = members.session_keep_alive_seconds.and_then(|seconds| u64::try_from(seconds).ok())
    {
        statement = statement.with_session_keep_alive(Duration::from_secs(seconds));
    }
    if let Some(target) = target {
        statement = statement.with_target(target);
    }
    Ok(statement.with_event(members.with_event.unwrap_or(false)))
}

fn compute(members: &Members) -> Option<Compute> {
    let cluster = members.cluster_identifier.clone().map(Compute::Cluster);
    cluster.or_else(|| members.workgroup_name.clone().map(Compute::Workgroup))
}

fn target(members: &Members, database: Option<&str>) -> Option<Target> {
    let target = match compute(members)? {
        Compute::Cluster(identifier) => Target::cluster(identifier, database?),
        Compute::Workgroup(name) => Target::workgroup(name, database?),
    };
    Some(match (&members.secret_arn, &members.db_user) {
        (Some(arn), _) => target.with_secret(arn),
        (None, Some(user)) => target.with_database_user(user),
        (None, None) => target,
    })
}

fn id(members: &Members) -> StatementId {
    StatementId::new(members.id.clone().unwrap_or_default())
}

fn wait(members: &Members) -> Option<WaitTime> {
    let seconds = u64::try_from(members.wait_time_seconds?).ok()?;
    WaitTime::at_most(Duration::from_secs(seconds))
}

/// Returns the page token. An empty token means that there is none, as in the service.
fn page(members: &Members) -> Option<PageToken> {
    members.next_token.clone().filter(|token| !token.is_empty()).map(PageToken::new)
}

/// Returns the requested page size. Zero selects the service's default.
fn page_size<N: TryFrom<i64> + Default + PartialEq>(members: &Members) -> Option<N> {
    members.max_results.and_then(|size| N::try_from(size).ok()).filter(|size| *size != N::default())
}

fn statement_filter(members: Members) -> StatementFilter {
    let mut filter = StatementFilter::default();
    filter.status = match members.status.as_deref() {
        None => Some(Status::Finished),
        Some("ALL") => None,
        Some(status) => Some(Status::from(status)),
    };
    filter.own_session_only = members.role_level == Some(false);
    filter.compute = compute(&members);
    filter.page_size = page_size(&members);
    filter.database = members.database;
    filter.name_prefix = members.statement_name.filter(|name| !name.is_empty());
    filter
}

fn session_filter(members: Members) -> SessionFilter {
    let mut filter = SessionFilter::default();
    filter.status = members.status.as_deref().map(SessionStatus::from);
    filter.own_session_only = members.role_level == Some(false);
    filter.compute = compute(&members);
    filter.page_size = page_size(&members);
    filter.database = members.database;
    filter.id = members.session_id.map(SessionId::new);
    filter
}

fn filter(members: Members) -> CatalogFilter {
    let connected = members.connected_database.as_deref().or(members.database.as_deref());
    let mut filter = CatalogFilter::default();
    filter.target = target(&members, connected);
    filter.page_size = page_size(&members);
    filter.database = members.database;
    filter.schema = members.schema.or(members.schema_pattern).filter(|text| !text.is_empty());
    filter.table = members.table.or(members.table_pattern).filter(|text| !text.is_empty());
    filter
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_map, prelude::*, sample::select};
    use serde_json::json;

    use super::*;
    use redshift_data_local::{LocalExecutor, Script};

    const NAMES: [&str; 28] = [
        "Sql",
        "Sqls",
        "ClusterIdentifier",
        "WorkgroupName",
        "Database",
        "ConnectedDatabase",
        "SecretArn",
        "DbUser",
        "WithEvent",
        "StatementName",
        "Parameters",
        "ClientToken",
        "ResultFormat",
        "SessionKeepAliveSeconds",
        "SessionId",
        "ExecutionMode",
        "WaitTimeSeconds",
        "Id",
        "NextToken",
        "MaxResults",
        "Status",
        "RoleLevel",
        "Schema",
        "Table",
        "SchemaPattern",
        "TablePattern",
        "Unheard",
        "",
    ];

    /// Generates values of which many pass the validation, so that requests also reach the code behind it.
    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            select(vec![
                json!(null),
                json!(true),
                json!(-1),
                json!(0),
                json!(1),
                json!(30),
                json!(1e300),
                json!(u64::MAX),
                json!([]),
                json!({}),
                json!(""),
                json!("dwh"),
                json!("dev"),
                json!("ALL"),
                json!("CSV"),
                json!("AUTO_COMMIT"),
                json!("SELECT :a"),
                json!(["SELECT 1", "SELECT ';"]),
                json!([{"name": "a", "value": "1"}]),
                json!([{"name": null}]),
                json!("d9b6c0c9-0747-4bf4-b142-e8883122f766"),
                json!("d9b6c0c9-0747-4bf4-b142-e8883122f766:99"),
            ]),
            "[ -~äß%_\\\\':;$]{0,40}".prop_map(Value::from),
        ]
    }

    proptest! {
        #[test]
        fn every_request_gets_a_response_or_an_error(
            requests in proptest::collection::vec((select(Operation::ALL.to_vec()), btree_map(select(NAMES.to_vec()), value(), 0..8)), 1..6)
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let (_stop, stopping) = watch::channel(false);
                let service = Service { executor: LocalExecutor::scripted(Script::new()), stopping };
                for (operation, members) in requests {
                    if let Err(refusal) = service.answer(operation, json!(members).to_string().as_bytes()).await {
                        let worded = refusal.worded().expect("no fault closes the connection");
                        assert_eq!(worded.status, 400, "{}", worded.body);
                    }
                }
            });
        }
    }
}
