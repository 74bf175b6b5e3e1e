//! Conversion of the service's JSON responses to this crate's types.

use std::time::Duration;

use redshift_orchestrator::{
    ErrorKind, ExecutionMode, Field, PageData, PageToken, ResultFormat, Statement, StatementExecutor,
    StatementFilter, StatementId, Status, Target,
};
use serde_json::{Value, json};

use crate::{
    ID, SECRET, executor,
    http::{Reply, Server},
    target,
};

async fn described(body: Value) -> redshift_orchestrator::Description {
    let server = Server::replying([Reply::json(200, body)]).await;
    executor(&server.url()).describe(&StatementId::new(ID), None).await.unwrap()
}

#[tokio::test]
async fn a_submit_returns_every_member_of_the_response() {
    let server = Server::start(|_| {
        Reply::json(
            200,
            json!({
                "Id": ID, "CreatedAt": 1_790_000_000.25, "Status": "FINISHED", "SessionId": "s-1", "HasResultSet": true,
                "RedshiftPid": 7, "DbGroups": ["loaders"], "ClusterIdentifier": "dwh", "Database": "mystore", "SecretArn": SECRET,
            }),
        )
    })
    .await;
    let executor = executor(&server.url());
    for statement in [Statement::sql("SELECT 1"), Statement::batch(["SELECT 1"])] {
        let answer = executor.submit(&statement, None).await.unwrap();
        assert_eq!(answer.status, Some(Status::Finished));
        assert_eq!(answer.session_id.unwrap().as_str(), "s-1");
        assert_eq!(answer.created_at.unwrap().as_millisecond(), 1_790_000_000_250);
        assert_eq!((answer.has_result_set, answer.redshift_pid), (Some(true), Some(7)));
        assert_eq!(answer.database_groups, ["loaders"]);
        assert_eq!(answer.target, Some(target()));
    }
}

#[tokio::test]
async fn an_accepted_statement_without_an_id_may_have_taken_effect() {
    let server = Server::replying([Reply::json(200, json!({}))]).await;
    let error = executor(&server.url()).submit(&Statement::sql("SELECT 1"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
}

#[tokio::test]
async fn a_description_of_a_batch_has_every_member_of_the_response() {
    let description = described(json!({
        "Id": ID, "Status": "FAILED", "Error": "Query #2 failed with ERROR: Divide by zero", "Duration": 1_500_000_000i64,
        "ResultRows": -1, "ResultSize": 0, "HasResultSet": false, "RedshiftPid": 1_073_815_778i64, "RedshiftQueryId": -1,
        "RedshiftQueryUuid": "0d5e1a3c-0000-4000-8000-000000000001", "SessionId": "s-1", "ExecutionMode": "AUTO_COMMIT",
        "CreatedAt": 1_790_000_000.5, "UpdatedAt": 1_790_000_002, "QueryString": "", "ResultFormat": "CSV",
        "WorkgroupName": "analytics", "Database": "mystore", "DbUser": "loader",
        "QueryParameters": [{ "name": "cycle", "value": "7" }],
        "SubStatements": [
            { "Id": format!("{ID}:1"), "Status": "FINISHED", "Duration": 20, "ResultRows": 3, "ResultSize": 96, "HasResultSet": true,
              "RedshiftQueryId": 9, "RedshiftQueryUuid": "u-1", "CreatedAt": 1_790_000_000, "UpdatedAt": 1_790_000_001, "QueryString": "SELECT 1" },
            { "Id": format!("{ID}:2"), "Status": "FAILED", "Error": "ERROR: Divide by zero", "ResultRows": -1, "ResultSize": -1 },
            { "Id": format!("{ID}:3"), "Status": "SUBMITTED" },
        ],
    }))
    .await;
    assert_eq!(description.status, Status::Failed);
    assert_eq!(description.error.as_deref(), Some("Query #2 failed with ERROR: Divide by zero"));
    assert_eq!(description.execution_time, Some(Duration::from_millis(1500)));
    assert_eq!((description.result_rows, description.result_size), (None, Some(0)));
    assert_eq!((description.redshift_pid, description.redshift_query_id), (Some(1_073_815_778), None));
    assert_eq!(description.query_uuid.as_deref(), Some("0d5e1a3c-0000-4000-8000-000000000001"));
    assert_eq!(description.execution_mode, Some(ExecutionMode::AutoCommit));
    assert_eq!(description.updated_at.unwrap().as_second(), 1_790_000_002);
    assert_eq!(
        description.target,
        Some(Target::workgroup("analytics", "mystore").with_database_user("loader"))
    );
    assert_eq!(description.result_format, Some(ResultFormat::Csv));
    assert_eq!(
        (description.parameters[0].name.as_str(), description.parameters[0].value.as_str()),
        ("cycle", "7")
    );
    assert_eq!(description.sql, None);
    let [first, second, third] = &description.sub_statements[..] else { panic!("{description:?}") };
    assert_eq!((first.result_rows, first.has_result_set), (Some(3), true));
    assert_eq!((first.redshift_query_id, first.query_uuid.as_deref()), (Some(9), Some("u-1")));
    assert_eq!(first.updated_at.unwrap().as_second() - first.created_at.unwrap().as_second(), 1);
    assert_eq!(first.sql.as_ref().map(|sql| sql.as_str()), Some("SELECT 1"));
    assert!(!format!("{description:?}").contains("SELECT"), "SQL is not printed");
    assert_eq!(second.error.as_deref(), Some("ERROR: Divide by zero"));
    assert_eq!((second.result_rows, second.result_size), (None, None));
    assert_eq!(
        (third.status.clone(), third.execution_time, third.result_rows),
        (Status::Submitted, None, None)
    );
}

#[tokio::test]
async fn a_running_statement_has_no_duration_and_no_row_count() {
    let description = described(json!({ "Id": ID, "Status": "STARTED" })).await;
    assert_eq!(description.execution_time, None);
    assert_eq!(description.result_rows, None);
    assert_eq!(description.redshift_pid, None);
    assert_eq!(description.execution_mode, None);
}

#[tokio::test]
async fn unknown_statuses_are_kept_and_count_as_running() {
    for (body, word) in [
        (json!({ "Id": ID, "Status": "HIBERNATING" }), "HIBERNATING"),
        (json!({ "Id": ID, "Status": "UNKNOWN" }), "UNKNOWN"),
        (json!({ "Id": ID }), "UNKNOWN"),
    ] {
        let status = described(body).await.status;
        assert_eq!(status.as_str(), word);
        assert!(!status.is_terminal());
    }
}

#[tokio::test]
async fn unknown_members_are_ignored() {
    let description =
        described(json!({ "Id": ID, "Status": "FINISHED", "Weather": { "of": ["tomorrow"] } })).await;
    assert_eq!(description.status, Status::Finished);
}

#[tokio::test]
async fn a_json_result_is_typed_and_paged() {
    let column = json!([
        { "name": "c_birth", "label": "born", "typeName": "date", "nullable": 1, "precision": 13, "scale": 0 },
        { "name": "ss_price", "label": "", "typeName": "numeric", "nullable": 2, "precision": 7, "scale": 2 },
    ]);
    let server = Server::replying([
        Reply::json(200, json!({ "Id": ID, "Status": "FINISHED", "HasResultSet": true })),
        Reply::json(
            200,
            json!({
                "ColumnMetadata": column, "TotalNumRows": 2, "NextToken": "p2",
                "Records": [[{ "stringValue": "1970-01-01" }, { "isNull": true }], [{ "longValue": 7 }, { "doubleValue": 0.5 }]],
            }),
        ),
        Reply::json(200, json!({ "Records": [[{ "booleanValue": true }, { "blobValue": "AAH/" }]], "NextToken": "" })),
    ])
    .await;
    let executor = executor(&server.url());
    let id = StatementId::new(ID).sub_statement(1);
    let first = executor.result(&id, None).await.unwrap();
    assert_eq!(first.columns[0].name, "born");
    assert_eq!(first.columns[1].name, "ss_price");
    assert_eq!((first.columns[1].precision, first.columns[1].scale), (Some(7), Some(2)));
    assert_eq!((first.columns[0].nullable, first.columns[1].nullable), (Some(true), None));
    assert_eq!(first.total_rows, Some(2));
    assert_eq!(
        first.data,
        PageData::Records(vec![
            vec![Field::String("1970-01-01".into()), Field::Null],
            vec![Field::Long(7), Field::Double(0.5)],
        ])
    );
    let second = executor.result(&id, first.next).await.unwrap();
    assert_eq!(
        second.data,
        PageData::Records(vec![vec![Field::Boolean(true), Field::Blob(vec![0, 1, 255])]])
    );
    assert_eq!(second.next, None);
    let seen: Vec<_> = server.requests().iter().map(|r| (r.operation().to_owned(), r.json())).collect();
    assert_eq!(
        seen,
        [
            // The describe names the batch, because a batch has a single format.
            ("DescribeStatement".to_owned(), json!({ "Id": ID })),
            ("GetStatementResult".to_owned(), json!({ "Id": format!("{ID}:1") })),
            ("GetStatementResult".to_owned(), json!({ "Id": format!("{ID}:1"), "NextToken": "p2" })),
        ]
    );
}

#[tokio::test]
async fn a_csv_result_comes_from_the_operation_for_csv_on_every_page() {
    let server = Server::replying([
        Reply::json(200, json!({ "Id": ID, "Status": "FINISHED", "ResultFormat": "csv" })),
        Reply::json(
            200,
            json!({ "Records": [{ "CSVRecords": "a,b\n1," }, { "CSVRecords": "2\n" }], "TotalNumRows": 2, "NextToken": "p2", "ResultFormat": "CSV" }),
        ),
        Reply::json(200, json!({ "Records": [{ "CSVRecords": "3,4\n" }] })),
    ])
    .await;
    let executor = executor(&server.url());
    let id = StatementId::new(ID);
    let first = executor.result(&id, None).await.unwrap();
    assert_eq!(first.data, PageData::Csv(vec!["a,b\n1,".into(), "2\n".into()]));
    let second = executor.result(&id, first.next).await.unwrap();
    assert_eq!(second.data, PageData::Csv(vec!["3,4\n".into()]));
    assert_eq!(second.next, None);
    let seen: Vec<_> = server.requests().iter().map(|r| (r.operation().to_owned(), r.json())).collect();
    assert_eq!(seen[1], ("GetStatementResultV2".to_owned(), json!({ "Id": ID })));
    assert_eq!(seen[2], ("GetStatementResultV2".to_owned(), json!({ "Id": ID, "NextToken": "p2" })));
}

#[tokio::test]
async fn an_unknown_format_or_field_is_an_error_with_a_way_out() {
    let server = Server::replying([
        Reply::json(200, json!({ "Id": ID, "Status": "FINISHED", "ResultFormat": "PARQUET" })),
        Reply::json(200, json!({ "Records": [[{ "vectorValue": [1, 2] }]] })),
    ])
    .await;
    let executor = executor(&server.url());
    let id = StatementId::new(ID);
    let error = executor.result(&id, None).await.unwrap_err();
    assert_eq!((error.kind(), error.context("format")), (ErrorKind::Unsupported, Some("PARQUET")));
    let error = executor.result(&id, Some(PageToken::new("p2"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_listing_is_paged() {
    let server = Server::replying([Reply::json(
        200,
        json!({
            "Statements": [
                { "Id": ID, "Status": "ABORTED", "StatementName": "load-7", "CreatedAt": 1_790_000_000, "IsBatchStatement": true,
                  "QueryStrings": ["SELECT 1", "SELECT 2"], "SessionId": "s-1", "SecretArn": SECRET, "ResultFormat": "JSON" },
                { "Id": "x", "QueryString": "SELECT 3" },
            ],
            "NextToken": "p2",
        }),
    )])
    .await;
    let page = executor(&server.url())
        .list(&StatementFilter::default().with_name_prefix("load-"), None)
        .await
        .unwrap();
    assert_eq!(page.next.as_ref().unwrap().as_str(), "p2");
    assert_eq!((page.statements[0].status.clone(), page.statements[0].is_batch), (Status::Aborted, true));
    assert_eq!(page.statements[0].name.as_deref(), Some("load-7"));
    let sqls = |n: usize| page.statements[n].sqls.iter().map(|sql| sql.as_str()).collect::<Vec<_>>();
    assert_eq!((sqls(0), sqls(1)), (vec!["SELECT 1", "SELECT 2"], vec!["SELECT 3"]));
    assert_eq!(page.statements[0].session_id.as_ref().unwrap().as_str(), "s-1");
    assert_eq!(page.statements[0].result_format, Some(ResultFormat::Json));
    assert_eq!(page.statements[1].status, Status::Other("UNKNOWN".into()));
    assert!(!format!("{page:?}").contains("secretsmanager"), "the secret is not printed");
}

#[tokio::test]
async fn cancel_distinguishes_rejections_from_failures() {
    let server = Server::replying([
        Reply::json(200, json!({ "Status": true })),
        Reply::json(200, json!({ "Status": false })),
        Reply::error(
            400,
            "ValidationException",
            "Could not cancel a query that is already in FINISHED state with ID: x",
        ),
        Reply::error(
            400,
            "ValidationException",
            "Could not cancel a query that is already in ABORTED state with ID: x",
        ),
        Reply::error(400, "ValidationException", "1 validation error detected"),
        Reply::error(400, "ResourceNotFoundException", "Query does not exist."),
    ])
    .await;
    let executor = executor(&server.url());
    let id = StatementId::new(ID);
    for taken in [true, false, false, false] {
        assert_eq!(executor.cancel(&id).await.unwrap(), taken);
    }
    assert_eq!(executor.cancel(&id).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(executor.cancel(&id).await.unwrap_err().kind(), ErrorKind::NotFound);
}
