//! Tests all 12 operations with the SDK's client, which parses responses according to the service's model.

use aws_sdk_redshiftdata::{
    error::ProvideErrorMetadata,
    types::{
        ExecutionMode, Field, QueryRecords, ResultFormatString, SqlParameter, StatementStatusString,
        StatusString,
    },
};

use crate::support::Served;

const SCRIPT: &str = r#"
limits = { rows_per_page = 2 }

[[statement]]
contains = "SELECT"
takes = "10ms"
columns = [
    { name = "id", type = "int4", nullable = false },
    { name = "name", type = "varchar", precision = 20 },
    { name = "price", type = "numeric", precision = 10, scale = 2 },
    { name = "photo", type = "varbyte" },
    { name = "weight", type = "float8" },
    { name = "sold", type = "bool" },
]
result = [
    [1, "one", "9.90", { bytes = [0, 255] }, 0.1, true],
    [2, { null = true }, { null = true }, { null = true }, { null = true }, false],
    [3, "", "0.00", { bytes = [] }, -1.5, true],
]

[[statement]]
contains = "UPDATE"
rows = 3

[[statement]]
contains = "CALL broken"
fails = "ERROR: relation \"nowhere\" does not exist"

[[statement]]
contains = "CALL slow"
takes = "10m"

[[table]]
schema = "mystore"
name = "dim_item"
columns = [{ name = "id", type = "int4", nullable = false, length = 4 }, { name = "name", type = "varchar", default = "''" }]

[[table]]
schema = "mystore"
name = "v_item"
kind = "VIEW"

[[table]]
schema = "public"
name = "note"
"#;

#[tokio::test]
async fn a_statement_returns_its_typed_result_on_all_pages() {
    let served = Served::scripted(SCRIPT).await;
    let client = served.client();
    let submitted = client
        .execute_statement()
        .cluster_identifier("dwh")
        .database("dev")
        .db_user("loader")
        .sql("SELECT * FROM item WHERE id >= :low")
        .parameters(SqlParameter::builder().name("low").value("1").build().unwrap())
        .statement_name("items")
        .wait_time_seconds(10)
        .send()
        .await
        .unwrap();
    assert_eq!(submitted.status(), Some(&StatementStatusString::Finished));
    assert_eq!((submitted.has_result_set(), submitted.db_user()), (Some(true), Some("loader")));
    assert!(submitted.created_at().is_some());
    let id = submitted.id().unwrap();

    let described = client.describe_statement().id(id).send().await.unwrap();
    assert_eq!(described.status(), Some(&StatusString::Finished));
    assert_eq!((described.result_rows(), described.has_result_set()), (3, Some(true)));
    assert!(described.duration() >= 10_000_000, "nanoseconds");
    assert_eq!(described.query_string(), Some("SELECT * FROM item WHERE id >= :low"));
    assert_eq!(described.query_parameters()[0].value(), "1");
    assert_eq!((described.cluster_identifier(), described.database()), (Some("dwh"), Some("dev")));
    assert_eq!(described.result_format(), Some(&ResultFormatString::Json));

    let mut pages = client.get_statement_result().id(id).into_paginator().send();
    let mut rows = Vec::new();
    let mut sizes = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.unwrap();
        let columns = page.column_metadata();
        assert_eq!(
            (columns[0].name(), columns[0].type_name(), columns[0].nullable()),
            (Some("id"), Some("int4"), 0)
        );
        assert_eq!((columns[2].precision(), columns[2].scale(), columns[2].nullable()), (10, 2, 2));
        assert!(columns[1].is_case_sensitive() && columns[0].is_signed());
        assert_eq!(page.total_num_rows(), 3);
        sizes.push(page.records().len());
        rows.extend(page.records().to_vec());
    }
    assert_eq!(sizes, [2, 1]);
    assert_eq!(
        rows[0],
        [
            Field::LongValue(1),
            Field::StringValue("one".to_owned()),
            Field::StringValue("9.90".to_owned()),
            Field::BlobValue(aws_sdk_redshiftdata::primitives::Blob::new([0, 255])),
            Field::DoubleValue(0.1),
            Field::BooleanValue(true),
        ]
    );
    assert_eq!(rows[1][1], Field::IsNull(true));
    assert_eq!(rows[2][1], Field::StringValue(String::new()));

    let wrong = client.get_statement_result_v2().id(id).send().await.unwrap_err();
    assert!(wrong.as_service_error().unwrap().is_validation_exception());
}

#[tokio::test]
async fn a_csv_result_comes_from_its_own_operation() {
    let served = Served::scripted(SCRIPT).await;
    let client = served.client();
    let submitted = client
        .execute_statement()
        .workgroup_name("my-workgroup")
        .database("dev")
        .sql("SELECT 1")
        .result_format(ResultFormatString::Csv)
        .send()
        .await
        .unwrap();
    assert_eq!((submitted.workgroup_name(), submitted.cluster_identifier()), (Some("my-workgroup"), None));
    assert_eq!(submitted.status(), None, "only returned by a submit with a wait");
    let id = submitted.id().unwrap();
    let first = client.get_statement_result_v2().id(id).wait_time_seconds(10).send().await.unwrap();
    assert_eq!((first.total_num_rows(), first.result_format()), (3, Some(&ResultFormatString::Csv)));
    let mut pages = client.get_statement_result_v2().id(id).into_paginator().send();
    let mut text = String::new();
    while let Some(page) = pages.next().await {
        for record in page.unwrap().records() {
            let QueryRecords::CsvRecords(piece) = record else { panic!("{record:?}") };
            text.push_str(piece);
        }
    }
    assert_eq!(
        text,
        "id,name,price,photo,weight,sold\r\n1,one,9.90,00ff,0.1,true\r\n2,,,,,false\r\n3,\"\",0.00,\"\",-1.5,true\r\n"
    );
    assert!(
        client
            .get_statement_result()
            .id(id)
            .send()
            .await
            .unwrap_err()
            .into_service_error()
            .is_validation_exception()
    );
}

#[tokio::test]
async fn a_batch_has_sub_statements_with_ids_of_their_own() {
    let served = Served::scripted(SCRIPT).await;
    let client = served.client();
    let submitted = client
        .batch_execute_statement()
        .cluster_identifier("dwh")
        .database("dev")
        .secret_arn("arn:aws:secretsmanager:eu-west-1:111122223333:secret:dwh")
        .sqls("UPDATE a")
        .sqls("CALL broken()")
        .sqls("SELECT 1")
        .execution_mode(ExecutionMode::AutoCommit)
        .wait_time_seconds(10)
        .send()
        .await
        .unwrap();
    assert_eq!(submitted.status(), Some(&StatementStatusString::Failed));
    assert_eq!(submitted.secret_arn(), Some("arn:aws:secretsmanager:eu-west-1:111122223333:secret:dwh"));
    let id = submitted.id().unwrap();
    let described = client.describe_statement().id(id).send().await.unwrap();
    assert_eq!(described.execution_mode(), Some(&ExecutionMode::AutoCommit));
    let subs = described.sub_statements();
    let statuses: Vec<_> = subs.iter().map(|sub| sub.status().unwrap().as_str()).collect();
    assert_eq!(statuses, ["FINISHED", "FAILED", "FINISHED"]);
    assert_eq!((subs[0].result_rows(), subs[0].has_result_set()), (3, Some(false)));
    assert_eq!(subs[1].error(), Some("ERROR: relation \"nowhere\" does not exist"));
    assert_eq!(subs[1].query_string(), Some("CALL broken()"));
    assert_eq!(subs[2].id(), format!("{id}:3"));

    assert!(
        client.get_statement_result().id(id).send().await.is_err(),
        "a batch has no result, only its sub-statements have"
    );
    let page = client.get_statement_result().id(subs[2].id()).send().await.unwrap();
    assert_eq!(page.records().len(), 2);
    let sub = client.describe_statement().id(subs[2].id()).send().await.unwrap();
    assert_eq!((sub.id(), sub.query_string()), (subs[2].id(), Some("SELECT 1")));
}

#[tokio::test]
async fn listing_returns_finished_statements_by_default_and_filters() {
    let served = Served::scripted(SCRIPT).await;
    let client = served.client();
    for (cluster, database, name, sql) in [
        ("dwh", "dev", "load-1", "UPDATE a"),
        ("dwh", "dev", "load-2", "CALL broken()"),
        ("dwh", "test", "load-3", "CALL slow()"),
        ("other", "dev", "report", "SELECT 1"),
    ] {
        let request = client.execute_statement().cluster_identifier(cluster).database(database).sql(sql);
        request.statement_name(name).wait_time_seconds(1).send().await.unwrap();
    }
    let names = async |request: aws_sdk_redshiftdata::operation::list_statements::builders::ListStatementsFluentBuilder| {
        let mut pages = request.max_results(2).into_paginator().send();
        let mut names = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.unwrap();
            assert!(page.statements().len() <= 2);
            names.extend(page.statements().iter().map(|data| data.statement_name().unwrap().to_owned()));
        }
        names
    };
    let list = || client.list_statements();
    assert_eq!(names(list()).await, ["report", "load-1"]);
    assert_eq!(names(list().status(StatusString::All)).await, ["report", "load-3", "load-2", "load-1"]);
    assert_eq!(
        names(list().status(StatusString::All).statement_name("load-")).await,
        ["load-3", "load-2", "load-1"]
    );
    assert_eq!(names(list().status(StatusString::Failed)).await, ["load-2"]);
    assert_eq!(
        names(list().status(StatusString::All).cluster_identifier("dwh").database("dev")).await,
        ["load-2", "load-1"]
    );
    // A page token belongs to the listing that returned it.
    let all = list().status(StatusString::All);
    let next = all.clone().max_results(2).send().await.unwrap().next_token.unwrap();
    assert_eq!(all.next_token(&next).send().await.unwrap().statements().len(), 2);
    let refused = list().next_token(&next).send().await.unwrap_err().into_service_error();
    assert!(refused.is_validation_exception(), "{refused}");
    let page = list().send().await.unwrap();
    assert_eq!(page.statements()[0].query_string(), Some("SELECT 1"));
    assert_eq!(page.statements()[0].is_batch_statement(), Some(false));
}

#[tokio::test]
async fn a_running_statement_can_be_cancelled_once() {
    let served = Served::scripted(SCRIPT).await;
    let client = served.client();
    let request = client.execute_statement().cluster_identifier("dwh").database("dev").sql("CALL slow()");
    let id = request.send().await.unwrap().id.unwrap();
    assert_eq!(client.cancel_statement().id(&id).send().await.unwrap().status(), Some(true));
    let described = client.describe_statement().id(&id).wait_time_seconds(10).send().await.unwrap();
    assert_eq!(described.status(), Some(&StatusString::Aborted));
    let late = client.cancel_statement().id(&id).send().await.unwrap_err().into_service_error();
    assert!(late.is_validation_exception());
    assert!(late.message().unwrap().contains("already in ABORTED state"), "{late}");
}

#[tokio::test]
async fn the_result_of_a_running_statement_is_not_found() {
    let served = Served::scripted(SCRIPT).await;
    let client = served.client();
    let request = client.execute_statement().cluster_identifier("dwh").database("dev").sql("CALL slow()");
    let id = request.send().await.unwrap().id.unwrap();
    let refused = client
        .get_statement_result()
        .id(&id)
        .wait_time_seconds(1)
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert!(refused.is_resource_not_found_exception(), "{refused}");
}

#[tokio::test]
async fn the_same_client_token_gives_the_same_statement() {
    let served = Served::scripted(SCRIPT).await;
    let client = served.client();
    let submit = || {
        let request = client.execute_statement().cluster_identifier("dwh").database("dev").sql("UPDATE a");
        request.client_token("run-1/step-1/1").send()
    };
    assert_eq!(submit().await.unwrap().id(), submit().await.unwrap().id());
}

#[tokio::test]
async fn the_catalog_is_listed_by_pattern_and_page() {
    let served = Served::scripted(SCRIPT).await;
    let client = served.client();
    let databases = client.list_databases().cluster_identifier("dwh").database("dev").send().await.unwrap();
    assert_eq!(databases.databases(), ["dev"]);
    let schemas = client.list_schemas().cluster_identifier("dwh").database("dev").send().await.unwrap();
    assert_eq!(schemas.schemas(), ["mystore", "public"]);
    let mut pages = client
        .list_tables()
        .cluster_identifier("dwh")
        .database("dev")
        .schema_pattern("my%")
        .max_results(1)
        .into_paginator()
        .send();
    let mut tables = Vec::new();
    while let Some(page) = pages.next().await {
        tables.extend(page.unwrap().tables().to_vec());
    }
    let tables: Vec<_> =
        tables.iter().map(|table| (table.name().unwrap(), table.r#type().unwrap())).collect();
    assert_eq!(tables, [("dim_item", "TABLE"), ("v_item", "VIEW")]);
    let table =
        client.describe_table().cluster_identifier("dwh").database("dev").schema("mystore").table("dim_item");
    let table = table.send().await.unwrap();
    assert_eq!(table.table_name(), Some("dim_item"));
    let columns = table.column_list();
    assert_eq!((columns[0].name(), columns[0].nullable(), columns[0].length()), (Some("id"), 0, 4));
    assert_eq!((columns[1].column_default(), columns[1].schema_name()), (Some("''"), Some("mystore")));
    assert!(client.list_sessions().send().await.unwrap().sessions().is_empty());
}

#[tokio::test]
async fn a_session_is_opened_used_listed_and_rejected_while_it_is_busy() {
    let served = Served::scripted(SCRIPT).await;
    let client = served.client();
    let opened = client.execute_statement().workgroup_name("my-workgroup").database("dev").sql("UPDATE a");
    let opened = opened.session_keep_alive_seconds(600).wait_time_seconds(10).send().await.unwrap();
    let session = opened.session_id().unwrap();
    let again = client.execute_statement().session_id(session).sql("CALL slow()").send().await.unwrap();
    assert_eq!((again.session_id(), again.workgroup_name()), (Some(session), Some("my-workgroup")));
    let other = client.execute_statement().session_id(session).database("other").sql("SELECT 1");
    let other = other.send().await.unwrap_err().into_service_error();
    assert!(other.is_validation_exception(), "{other:?}");
    assert!(other.to_string().contains("the session uses database dev"), "{other}");

    let listed = client.list_sessions().workgroup_name("my-workgroup").database("dev").send().await.unwrap();
    let [data] = listed.sessions() else { panic!("{listed:?}") };
    assert_eq!((data.session_id(), data.status().as_str()), (session, "BUSY"));
    assert_eq!((data.current_statement_id(), data.session_alive_seconds()), (again.id(), Some(600)));
    assert!(data.session_ttl().is_some() && data.updated_at().is_some());

    let busy = client.execute_statement().session_id(session).sql("UPDATE a").send().await.unwrap_err();
    assert!(busy.into_service_error().is_validation_exception());
    client.cancel_statement().id(again.id().unwrap()).send().await.unwrap();
    client.describe_statement().id(again.id().unwrap()).wait_time_seconds(10).send().await.unwrap();
    let listed = client.list_sessions().session_id(session).send().await.unwrap();
    assert_eq!(listed.sessions()[0].status().as_str(), "AVAILABLE");
    let both = client.list_sessions().session_id(session).database("dev").send().await.unwrap_err();
    assert!(both.into_service_error().is_validation_exception());
}

#[tokio::test]
async fn every_limit_has_the_services_own_error() {
    let served = Served::scripted(
        "limits = { active_statements = 1, waiters_per_statement = 1 }\n[[statement]]\ncontains = 'slow'\ntakes = '10m'",
    )
    .await;
    let client = served.client();
    let submit =
        || client.execute_statement().cluster_identifier("dwh").database("dev").sql("CALL slow()").send();
    let id = submit().await.unwrap().id.unwrap();
    let refused = submit().await.unwrap_err().into_service_error();
    assert!(refused.is_active_statements_exceeded_exception(), "{refused}");

    let wait = || client.describe_statement().id(&id).wait_time_seconds(1).send();
    let (one, other) = tokio::join!(wait(), wait());
    let refused = [one, other].into_iter().find_map(Result::err).unwrap().into_service_error();
    assert!(refused.is_active_waiting_requests_exceeded_exception(), "{refused}");
}
