//! Requests as sent: the names and shapes of all members match the service's model (2019-12-20).

use std::time::Duration;

use redshift_orchestrator::{
    ClientToken, Compute, DataApiExecutor, ErrorKind, ExecutionMode, PageToken, ResultFormat, SessionId,
    Statement, StatementExecutor, StatementFilter, StatementId, Status, Target, WaitTime,
};
use serde_json::{Value, json};

use crate::{
    ID, SECRET, executor,
    http::{Reply, Server},
    sdk, target,
};

/// Submits to a server that accepts every request. Returns the operation and the body of the request.
async fn submitted(target: Target, statement: Statement, wait: Option<WaitTime>) -> (String, Value) {
    let server = Server::start(|_| Reply::json(200, json!({ "Id": ID }))).await;
    let executor = DataApiExecutor::new(&sdk(&server.url()), target);
    let answer = executor.submit(&statement, wait).await.unwrap();
    assert_eq!(answer.id.as_str(), ID);
    let request = server.requests().remove(0);
    assert_eq!(request.header("content-type"), Some("application/x-amz-json-1.1"));
    assert!(request.header("authorization").unwrap().contains("/redshift-data/aws4_request"));
    assert!(request.header("x-amz-target").unwrap().starts_with("RedshiftData."));
    (request.operation().to_owned(), request.json())
}

fn full(statement: Statement) -> Statement {
    statement
        .with_parameter("cycle", "7")
        .with_parameter("store", "north")
        .with_name("load-sales-7")
        .with_client_token(ClientToken::new("token-1").unwrap())
        .with_event(true)
        .with_result_format(ResultFormat::Csv)
        .with_session_keep_alive(Duration::from_millis(59_001))
}

#[tokio::test]
async fn a_single_statement_is_sent_with_every_member() {
    let statement = full(Statement::sql("CALL load(:cycle, :store)"));
    let (operation, body) = submitted(target(), statement, Some(WaitTime::MAX)).await;
    assert_eq!(operation, "ExecuteStatement");
    assert_eq!(
        body,
        json!({
            "Sql": "CALL load(:cycle, :store)",
            "ClusterIdentifier": "dwh",
            "Database": "mystore",
            "SecretArn": SECRET,
            "Parameters": [{ "name": "cycle", "value": "7" }, { "name": "store", "value": "north" }],
            "StatementName": "load-sales-7",
            "ClientToken": "token-1",
            "WithEvent": true,
            "ResultFormat": "CSV",
            "SessionKeepAliveSeconds": 60,
            "WaitTimeSeconds": 30,
        })
    );
}

#[tokio::test]
async fn a_batch_is_sent_with_every_member() {
    let batch = Statement::batch(["SELECT :cycle", "SELECT :store"]);
    let statement = full(batch).with_execution_mode(ExecutionMode::AutoCommit);
    let target = Target::workgroup("analytics", "mystore").with_database_user("loader");
    let (operation, body) = submitted(target, statement, WaitTime::at_most(Duration::from_secs(3))).await;
    assert_eq!(operation, "BatchExecuteStatement");
    assert_eq!(
        body,
        json!({
            "Sqls": ["SELECT :cycle", "SELECT :store"],
            "WorkgroupName": "analytics",
            "Database": "mystore",
            "DbUser": "loader",
            "Parameters": [{ "name": "cycle", "value": "7" }, { "name": "store", "value": "north" }],
            "StatementName": "load-sales-7",
            "ClientToken": "token-1",
            "WithEvent": true,
            "ResultFormat": "CSV",
            "SessionKeepAliveSeconds": 60,
            "ExecutionMode": "AUTO_COMMIT",
            "WaitTimeSeconds": 3,
        })
    );
}

#[tokio::test]
async fn unset_members_are_not_sent() {
    for statement in [Statement::sql("SELECT 1"), Statement::batch(["SELECT 1"])] {
        let (_, body) = submitted(Target::cluster("dwh", "mystore"), statement, None).await;
        let body = body.as_object().unwrap();
        // The SDK adds a client token to a request without one, so that its own retries are safe.
        assert_eq!(body["ClientToken"].as_str().unwrap().len(), 36);
        let mut members: Vec<_> =
            body.keys().map(String::as_str).filter(|name| !name.starts_with("Sql")).collect();
        members.sort_unstable();
        assert_eq!(members, ["ClientToken", "ClusterIdentifier", "Database"]);
    }
}

#[tokio::test]
async fn a_session_is_sent_instead_of_the_target() {
    let statement = Statement::sql("SELECT 1")
        .in_session(SessionId::new("5a254dc6-4fc2-4203-87a8-551155432ee4"))
        .with_client_token(ClientToken::new("t").unwrap());
    let (_, body) = submitted(target(), statement, None).await;
    assert_eq!(
        body,
        json!({ "Sql": "SELECT 1", "SessionId": "5a254dc6-4fc2-4203-87a8-551155432ee4", "ClientToken": "t" })
    );
}

#[tokio::test]
async fn a_statement_can_have_its_own_target() {
    let statement = Statement::sql("SELECT 1")
        .with_target(Target::workgroup("analytics", "other"))
        .with_client_token(ClientToken::new("t").unwrap());
    let (_, body) = submitted(target(), statement, None).await;
    assert_eq!(
        body,
        json!({ "Sql": "SELECT 1", "WorkgroupName": "analytics", "Database": "other", "ClientToken": "t" })
    );
}

#[tokio::test]
async fn an_invalid_keep_alive_is_rejected_before_the_request() {
    let statement = Statement::sql("SELECT 1").with_session_keep_alive(Duration::from_secs(u64::MAX / 2));
    let error = executor("http://127.0.0.1:1").submit(&statement, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn describe_and_cancel_send_the_statement_id() {
    let server = Server::replying([
        Reply::json(200, json!({ "Id": ID, "Status": "STARTED" })),
        Reply::json(200, json!({ "Id": ID, "Status": "STARTED" })),
        Reply::json(200, json!({ "Status": true })),
    ])
    .await;
    let executor = executor(&server.url());
    let id = StatementId::new(ID);
    executor.describe(&id, None).await.unwrap();
    executor.describe(&id.sub_statement(2), Some(WaitTime::MAX)).await.unwrap();
    executor.cancel(&id).await.unwrap();
    let seen: Vec<_> = server.requests().iter().map(|r| (r.operation().to_owned(), r.json())).collect();
    assert_eq!(
        seen,
        [
            ("DescribeStatement".to_owned(), json!({ "Id": ID })),
            ("DescribeStatement".to_owned(), json!({ "Id": format!("{ID}:2"), "WaitTimeSeconds": 30 })),
            ("CancelStatement".to_owned(), json!({ "Id": ID })),
        ]
    );
}

#[tokio::test]
async fn a_listing_requests_every_status_by_default() {
    let server = Server::start(|_| Reply::json(200, json!({ "Statements": [] }))).await;
    let executor = executor(&server.url());
    executor.list(&StatementFilter::default(), None).await.unwrap();
    let mut filter = StatementFilter::default().with_name_prefix("load-");
    filter.status = Some(Status::Aborted);
    filter.own_session_only = true;
    filter.compute = Some(Compute::Cluster("dwh".to_owned()));
    filter.database = Some("mystore".to_owned());
    filter.page_size = Some(50);
    executor.list(&filter, Some(PageToken::new("next"))).await.unwrap();
    let seen: Vec<_> = server.requests().iter().map(|request| request.json()).collect();
    assert_eq!(
        seen,
        [
            json!({ "Status": "ALL", "RoleLevel": true }),
            json!({
                "Status": "ABORTED", "RoleLevel": false, "StatementName": "load-", "MaxResults": 50, "NextToken": "next",
                "ClusterIdentifier": "dwh", "Database": "mystore",
            }),
        ]
    );
}
