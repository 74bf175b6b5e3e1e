//! Requests to the emulator, several per input.

use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use redshift_data_emulator::Emulator;
use redshift_data_local::{LocalExecutor, Script, ScriptedExecution};
use redshift_orchestrator::{Column, Field, catalog::Table};
use serde_json::Value;

use super::block_on;

pub(super) const SEEDS: &[&str] = &[
    r#"ExecuteStatement {"Sql":"SELECT n FROM t WHERE a = :a","ClusterIdentifier":"dwh","Database":"dev","StatementName":"r/a/1 t","Parameters":[{"name":"a","value":"1"}],"ClientToken":"t1","WithEvent":true,"WaitTimeSeconds":30}
DescribeStatement {"Id":"@1","WaitTimeSeconds":1}
GetStatementResult {"Id":"@1","NextToken":""}
ListStatements {"Status":"ALL","StatementName":"r/","MaxResults":100,"RoleLevel":true}
CancelStatement {"Id":"@1"}
"#,
    r#"BatchExecuteStatement {"Sqls":["SELECT 1","CALL slow()","SELECT n"],"WorkgroupName":"my-workgroup","Database":"dev","ExecutionMode":"AUTO_COMMIT","ResultFormat":"CSV","SessionKeepAliveSeconds":60}
DescribeStatement {"Id":"@1:2"}
GetStatementResultV2 {"Id":"@1:3","WaitTimeSeconds":5}
CancelStatement {"Id":"@1:1"}
ListSessions {"Status":"AVAILABLE","MaxResults":5}
ExecuteStatement {"Sql":"SELECT n","SessionId":"@1","SecretArn":"arn:aws:secretsmanager:eu-west-1:111122223333:secret:dwh"}
"#,
    r#"ListDatabases {"ClusterIdentifier":"dwh","Database":"dev","DbUser":"loader","MaxResults":1000}
ListSchemas {"ClusterIdentifier":"dwh","Database":"dev","SchemaPattern":"my%","ConnectedDatabase":"dev"}
ListTables {"ClusterIdentifier":"dwh","Database":"dev","SchemaPattern":"mystore","TablePattern":"fact\\_%","NextToken":"1"}
DescribeTable {"WorkgroupName":"dwh","Database":"dev","Schema":"mystore","Table":"fact_sales"}
ExecuteStatement {"Sql":"fail","ClusterIdentifier":"dwh","Database":"dev"}
GetStatementResult {"Id":"@1"}
"#,
];

pub(super) fn feed(data: &[u8]) {
    let script = Script::new()
        .with_table(Table::new("mystore", "fact_sales"), [Column::new("id", "int8")])
        .on(
            "SELECT n",
            ScriptedExecution::finished(Duration::from_secs(2))
                .with_result(vec![Column::new("n", "int4")], (0..3).map(|n| vec![Field::Long(n)]).collect()),
        )
        .on("slow", ScriptedExecution::finished(Duration::from_hours(1)))
        .on("fail", ScriptedExecution::failed(Duration::from_secs(1), "ERROR: division by zero"));
    block_on(async {
        let emulator = Emulator::new(LocalExecutor::scripted(script)).in_process();
        let mut id = "d9b6c0c9-0747-4bf4-b142-e8883122f766".to_owned();
        for line in String::from_utf8_lossy(data).lines().take(32) {
            let (operation, body) = line.split_once(' ').unwrap_or((line, ""));
            let body = Bytes::from(body.replace("@1", &id));
            let request = Request::post("/")
                .header("content-type", "application/x-amz-json-1.1")
                .header("x-amz-target", format!("RedshiftData.{operation}"))
                .body(body);
            // The name of the operation may not be a valid header.
            let Ok(request) = request else { continue };
            let answer = emulator.handle(request).await.expect("no fault is configured");
            let body: Value = serde_json::from_slice(answer.body()).expect("JSON");
            match answer.status().as_u16() {
                200 => {}
                400 => assert!(body["__type"].is_string(), "{body}"),
                status => panic!("{status}: {body}"),
            }
            if operation.ends_with("ExecuteStatement")
                && let Some(given) = body["Id"].as_str()
            {
                id = given.to_owned();
            }
        }
    });
}
