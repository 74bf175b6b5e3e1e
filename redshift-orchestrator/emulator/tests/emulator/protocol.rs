//! Tests of the protocol at the level of HTTP.

use serde_json::json;

use crate::support::Served;

const PLACE: &str = r#""ClusterIdentifier": "dwh", "Database": "dev""#;

#[tokio::test]
async fn an_error_has_a_request_id_and_its_name_in_body_and_header() {
    let served = Served::scripted("").await;
    let (status, head, body) = served.call("ExecuteStatement", &format!("{{{PLACE}}}")).await.unwrap();
    assert_eq!(status, 400);
    assert_eq!(
        body,
        json!({
            "__type": "ValidationException",
            "Message": "1 validation error detected: Value null at 'sql' failed to satisfy constraint: Member must not be null",
        })
    );
    assert!(head.contains("x-amzn-errortype: validationexception"), "{head}");
    assert!(head.contains("content-type: application/x-amz-json-1.1"), "{head}");
    let id = head.split("x-amzn-requestid: ").nth(1).unwrap().lines().next().unwrap();
    assert_eq!(id.len(), 36);
}

#[tokio::test]
async fn an_unknown_id_names_the_resource() {
    let served = Served::scripted("").await;
    let id = "d9b6c0c9-0747-4bf4-b142-e8883122f766";
    let (status, _, body) = served.call("DescribeStatement", &json!({ "Id": id }).to_string()).await.unwrap();
    assert_eq!(
        (status, &body["__type"], &body["ResourceId"]),
        (400, &json!("ResourceNotFoundException"), &json!(id))
    );
}

#[tokio::test]
async fn an_invalid_operation_is_reported_as_unknown() {
    let served = Served::scripted("").await;
    let (status, _, body) = served.call("DropWarehouse", "{}").await.unwrap();
    assert_eq!((status, &body["__type"]), (400, &json!("UnknownOperationException")));
    for request in [
        "GET / HTTP/1.1\r\nhost: emulator\r\nconnection: close\r\n\r\n",
        "POST /other HTTP/1.1\r\nhost: emulator\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        // A web page can send this to any address without a preflight request.
        "POST / HTTP/1.1\r\nhost: emulator\r\nconnection: close\r\ncontent-type: text/plain\r\n\
         x-amz-target: RedshiftData.ListStatements\r\ncontent-length: 2\r\n\r\n{}",
    ] {
        let (status, _, body) = served.raw(request).await.unwrap();
        assert_eq!((status, &body["__type"]), (400, &json!("UnknownOperationException")), "{request}");
    }
}

#[tokio::test]
async fn times_are_seconds_since_the_epoch_and_unknown_amounts_are_minus_one() {
    let served = Served::scripted("[[statement]]\ncontains = 'slow'\ntakes = '10m'").await;
    let sql = format!(r#"{{"Sql": "CALL slow()", "StatementName": "night", "WithEvent": true, {PLACE}}}"#);
    let (_, _, submitted) = served.call("ExecuteStatement", &sql).await.unwrap();
    assert!(submitted["CreatedAt"].as_f64().unwrap() >= 1_767_225_600.0, "{submitted}");
    assert_eq!((&submitted["ClusterIdentifier"], &submitted["Database"]), (&json!("dwh"), &json!("dev")));
    assert_eq!(submitted.get("Status"), None, "only returned by a submit with a wait");
    let (_, _, described) =
        served.call("DescribeStatement", &json!({"Id": submitted["Id"]}).to_string()).await.unwrap();
    assert_eq!(
        (&described["ResultRows"], &described["ResultSize"], &described["Duration"]),
        (&json!(-1), &json!(-1), &json!(-1))
    );
    assert_eq!(described["QueryString"], json!("CALL slow()"));
    assert!(described["UpdatedAt"].is_f64());
}

#[tokio::test]
async fn a_lost_response_closes_the_connection() {
    use redshift_data_local::{Faults, Faulty, LocalExecutor, Script};
    let faults = "[[fault]]\nfault = 'lost reply'\nrate = 1.0\noperation = 'ExecuteStatement'";
    let service = LocalExecutor::scripted(Script::new());
    let served = Served::new(Faulty::new(service.clone(), Faults::from_toml(faults).unwrap())).await;
    let sql = format!(r#"{{"Sql": "CALL load()", {PLACE}}}"#);
    assert!(served.call("ExecuteStatement", &sql).await.is_none());
    let (_, _, listed) = served.call("ListStatements", r#"{"Status": "ALL"}"#).await.unwrap();
    assert_eq!(listed["Statements"].as_array().unwrap().len(), 1, "the statement was submitted");
}

#[tokio::test]
async fn an_oversized_body_is_rejected() {
    let served = Served::scripted("").await;
    let head = "POST / HTTP/1.1\r\nhost: emulator\r\nconnection: close\r\ncontent-type: application/x-amz-json-1.1\r\n\
                x-amz-target: RedshiftData.ListStatements\r\ncontent-length: 99999999\r\n\r\n";
    let (status, _, body) = served.raw(head).await.unwrap();
    assert_eq!((status, &body["__type"]), (400, &json!("ValidationException")));
}

#[tokio::test]
async fn it_listens_on_loopback_only() {
    use redshift_data_emulator::Emulator;
    use redshift_data_local::{LocalExecutor, Script};
    let service = LocalExecutor::scripted(Script::new());
    let refused = Emulator::new(service.clone()).bind("0.0.0.0:0".parse().unwrap()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    assert!(Emulator::new(service).with_remote_access(true).bind("0.0.0.0:0".parse().unwrap()).await.is_ok());
}
