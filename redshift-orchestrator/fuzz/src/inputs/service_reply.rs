//! Responses of the service, read by the SDK's client.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use futures::FutureExt;
use hyper::Response;
use redshift_orchestrator::{
    DataApiExecutor, ErrorKind, PageToken, ResultFormat, Statement, StatementExecutor, StatementExecutorExt,
    StatementFilter, StatementId, Target, WaitTime,
    catalog::{Catalog, CatalogFilter, SessionFilter},
};

use super::{block_on, connector};

pub(super) const SEEDS: &[&str] = &[
    r#"200 ExecuteStatement
{"Id":"d9b6c0c9-0747-4bf4-b142-e8883122f766","CreatedAt":1790000000.25,"Status":"FINISHED","SessionId":"5a3b1c9e-0747-4bf4-b142-e8883122f766","HasResultSet":true,"RedshiftPid":7,"DbGroups":["loaders"],"ClusterIdentifier":"dwh","Database":"mystore","SecretArn":"arn:aws:secretsmanager:eu-west-1:111122223333:secret:dwh-AbCdEf"}"#,
    r#"200 BatchExecuteStatement
{"Id":"d9b6c0c9-0747-4bf4-b142-e8883122f766","CreatedAt":1790000000,"WorkgroupName":"analytics","Database":"mystore","DbUser":"loader"}"#,
    r#"400 ExecuteStatement
{"__type":"ActiveStatementsExceededException","Message":"Active statements limit exceeded"}"#,
    r#"500 ExecuteStatement
{"__type":"ExecuteStatementException","Message":"Redshift endpoint doesn't exist in this region","StatementId":"d9b6c0c9-0747-4bf4-b142-e8883122f766"}"#,
    r#"400 DescribeStatement
{"__type":"com.amazonaws.redshiftdata#ValidationException","Message":"Could not retrieve the query result as it has expired after 1795478444"}"#,
    r#"400 DescribeStatement
{"__type":"ValidationException","message":"Rate exceeded (Service: RedshiftServerless; Status Code: 400; Error Code: ThrottlingException)"}"#,
    r#"400 GetStatementResult
{"__type":"ResourceNotFoundException","Message":"Query does not have result.","ResourceId":"d9b6c0c9-0747-4bf4-b142-e8883122f766"}"#,
    r#"200 DescribeStatement
{"Id":"d9b6c0c9-0747-4bf4-b142-e8883122f766","Status":"FAILED","Error":"Query #2 failed with ERROR: Divide by zero","Duration":1500000000,"ResultRows":-1,"ResultSize":0,"HasResultSet":false,"RedshiftPid":1073815778,"RedshiftQueryId":-1,"RedshiftQueryUuid":"0d5e1a3c-0000-4000-8000-000000000001","SessionId":"5a3b1c9e-0747-4bf4-b142-e8883122f766","ExecutionMode":"AUTO_COMMIT","CreatedAt":1790000000.5,"UpdatedAt":1790000002,"QueryString":"SELECT :a","QueryParameters":[{"name":"a","value":"1"}],"ResultFormat":"CSV","WorkgroupName":"analytics","Database":"mystore","DbUser":"loader","SubStatements":[{"Id":"d9b6c0c9-0747-4bf4-b142-e8883122f766:1","Status":"FINISHED","Duration":1,"ResultRows":3,"ResultSize":9,"HasResultSet":true,"QueryString":"SELECT 1","RedshiftQueryId":5,"CreatedAt":1790000000.5,"UpdatedAt":1790000001},{"Id":"d9b6c0c9-0747-4bf4-b142-e8883122f766:2","Status":"FAILED","Error":"ERROR: Divide by zero","HasResultSet":false}]}"#,
    r#"200 GetStatementResult
{"Records":[[{"longValue":1},{"stringValue":"12.50"},{"isNull":true},{"doubleValue":"NaN"},{"blobValue":"AAH/"},{"booleanValue":false}]],"ColumnMetadata":[{"name":"n","label":"n","typeName":"int4","nullable":1,"precision":10,"scale":0,"length":0,"schemaName":"public","tableName":"t","isSigned":true},{"name":"price","typeName":"numeric","nullable":2},{"name":"c","typeName":"varchar"},{"name":"d","typeName":"float8"},{"name":"b","typeName":"varbyte"},{"name":"ok","typeName":"bool"}],"TotalNumRows":1}"#,
    r#"200 GetStatementResultV2
{"Records":[{"CSVRecords":"n,text\n1,\"a \"\"b\"\"\"\n2,\n"}],"ColumnMetadata":[{"name":"n","typeName":"int4"},{"name":"text","typeName":"varchar"}],"TotalNumRows":2,"ResultFormat":"CSV"}"#,
    r#"200 CancelStatement
{"Status":true}"#,
    r#"400 CancelStatement
{"__type":"ValidationException","Message":"Could not cancel a query that is already in FINISHED state with ID: d9b6c0c9-0747-4bf4-b142-e8883122f766"}"#,
    r#"200 ListStatements
{"Statements":[{"Id":"d9b6c0c9-0747-4bf4-b142-e8883122f766","Status":"PICKED","StatementName":"r/a/1 t","CreatedAt":1790000000.5,"UpdatedAt":1790000002,"QueryStrings":["SELECT 1","SELECT 2"],"IsBatchStatement":true,"QueryParameters":[{"name":"a","value":"1"}],"ResultFormat":"JSON"}],"NextToken":"p2"}"#,
    r#"200 ListSessions
{"Sessions":[{"SessionId":"5a3b1c9e-0747-4bf4-b142-e8883122f766","Status":"BUSY","CreatedAt":1790000000.5,"UpdatedAt":1790000002,"Database":"mystore","SessionAliveSeconds":60,"SessionTtl":1790000062,"CurrentStatementId":"d9b6c0c9-0747-4bf4-b142-e8883122f766"}]}"#,
    r#"200 ListTables
{"Tables":[{"name":"fact_sales","schema":"mystore","type":"TABLE"}],"NextToken":""}"#,
    r#"200 DescribeTable
{"TableName":"fact_sales","ColumnList":[{"name":"id","typeName":"int8","nullable":0,"columnDefault":"1","length":19}]}"#,
    "503 ListDatabases\nService Unavailable",
    "200 ListSchemas\n{\"Schemas\":[\"mystore\",\"public\"]}",
];

/// The response to the next requests.
type Reply = Arc<Mutex<(u16, Bytes)>>;

fn executor() -> &'static (DataApiExecutor, Reply) {
    static EXECUTOR: OnceLock<(DataApiExecutor, Reply)> = OnceLock::new();
    EXECUTOR.get_or_init(|| {
        let reply = Reply::default();
        let answer = reply.clone();
        let config = connector::sdk_config(move |_| {
            let (status, body) = answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
            async move { Response::builder().status(status).body(body).ok() }.boxed()
        });
        (DataApiExecutor::new(&config, Target::cluster("dwh", "mystore")), reply)
    })
}

pub(super) fn feed(data: &[u8]) {
    let line = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let head = String::from_utf8_lossy(&data[..line]);
    let (status, operation) = head.split_once(' ').unwrap_or(("200", &head));
    let status = status.parse().ok().filter(|status| (200..600).contains(status)).unwrap_or(200);
    let (executor, reply) = executor();
    let body = Bytes::copy_from_slice(&data[(line + 1).min(data.len())..]);
    *reply.lock().unwrap_or_else(PoisonError::into_inner) = (status, body);
    block_on(answered(executor, operation));
}

async fn answered(executor: &DataApiExecutor, operation: &str) {
    let id = StatementId::new("d9b6c0c9-0747-4bf4-b142-e8883122f766");
    let page = Some(PageToken::new("p1"));
    match operation {
        "ExecuteStatement" | "BatchExecuteStatement" => {
            let statement = match operation {
                "ExecuteStatement" => Statement::sql("SELECT 1").with_result_format(ResultFormat::Csv),
                _ => Statement::batch(["SELECT 1"]),
            };
            if let Err(error) = executor.submit(&statement, Some(WaitTime::MAX)).await {
                assert_ne!(error.kind(), ErrorKind::NotSent, "it was sent: {error}");
            }
        }
        "GetStatementResult" => drop(executor.result(&id, page).await),
        "GetStatementResultV2" => drop(executor.result(&id, Some(PageToken::new("csv:p1"))).await),
        "CancelStatement" => drop(executor.cancel(&id).await),
        "ListStatements" => drop(executor.list(&StatementFilter::default(), page).await),
        "ListSessions" => drop(executor.sessions(&SessionFilter::default(), page).await),
        "ListDatabases" => drop(executor.databases(&CatalogFilter::default(), page).await),
        "ListSchemas" => drop(executor.schemas(&CatalogFilter::default(), page).await),
        "ListTables" => drop(executor.tables(&CatalogFilter::default(), page).await),
        "DescribeTable" => drop(executor.columns(&CatalogFilter::default(), page).await),
        _ => {
            // Every request for the rows of a result gets the same response. A page that has a next page is
            // therefore its own next page.
            drop(executor.describe(&id, None).await);
            drop(executor.rows::<(Option<i64>, String)>(&id).await);
        }
    }
}
