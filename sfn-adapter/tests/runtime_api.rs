//! Tests the Lambda executable as Lambda runs it: the built binary, between a small Runtime API and a mock
//! service on loopback, with the real runtime and the real SDK.

#![allow(clippy::unwrap_used)]

#[path = "runtime_api/callback.rs"]
#[cfg(feature = "callback")]
mod callback;
#[path = "runtime_api/glue.rs"]
#[cfg(feature = "glue")]
mod glue;
#[path = "../../redshift-orchestrator/tests/support/http.rs"]
mod http;
#[path = "runtime_api/hudi.rs"]
#[cfg(feature = "hudi")]
mod hudi;
#[path = "support/sources.rs"]
#[cfg(feature = "hudi")]
mod sources;
#[path = "runtime_api/statement.rs"]
mod statement;

use std::{
    collections::BTreeMap,
    process::Stdio,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};

use http::{Reply, Request, Server};

const SECRET: &str = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:dwh-AbCdEf";
const SQL: &str = "CALL mystore.sp_run_incremental_load();";
const ID: &str = "d9b6c0c9-0747-4bf4-b142-e8883122f766";

/// Longer than any step of a test takes, so that a hung process cannot block the test.
const PATIENCE: Duration = Duration::from_secs(60);

/// A result that the function posted for an event: the last part of the path (`response` or `error`), and the
/// body.
type Posted = (String, Value);

struct Played {
    posted: Vec<Posted>,
    to_service: Vec<Request>,
    logs: String,
}

/// Starts the executable with changes to the reference environment, sends it the events in order, and stops
/// it.
async fn play(
    variables: &[(&str, &str)],
    events: &[String],
    service: impl FnMut(&Request) -> Reply + Send + 'static,
) -> Played {
    let service = Server::start(service).await;
    let (runtime, mut posts) = runtime_api(events.to_vec()).await;
    let mut function = start(&runtime, &service, variables);
    let mut posted = Vec::new();
    for event in events {
        let post = timeout(PATIENCE, posts.recv()).await;
        posted.push(post.unwrap_or_else(|_| panic!("no response to {event}")).unwrap());
    }
    function.start_kill().unwrap();
    let output = timeout(PATIENCE, function.wait_with_output()).await.unwrap().unwrap();
    let logs = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    Played { posted, to_service: service.requests(), logs }
}

/// The Runtime API. It returns the events in order and forwards the posted results.
async fn runtime_api(events: Vec<String>) -> (Server, mpsc::UnboundedReceiver<Posted>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let mut events = events.into_iter().enumerate();
    let server = Server::start(move |request| {
        if request.path == "/2018-06-01/runtime/invocation/next" {
            let Some((number, event)) = events.next() else { return Reply::Silence };
            return invocation(number, event);
        }
        let what = request.path.rsplit('/').next().unwrap_or_default().to_owned();
        sender.send((what, request.json())).unwrap();
        Reply::json(202, json!({ "status": "OK" }))
    })
    .await;
    (server, receiver)
}

/// The response to `next`.
fn invocation(number: usize, event: String) -> Reply {
    Reply::Answer { status: 200, headers: Vec::new(), body: event }
        .with_header("Lambda-Runtime-Aws-Request-Id", format!("request-{number}"))
        .with_header("Lambda-Runtime-Deadline-Ms", deadline().to_string())
        .with_header(
            "Lambda-Runtime-Invoked-Function-Arn",
            "arn:aws:lambda:eu-west-1:111122223333:function:load",
        )
        .with_header(
            "Lambda-Runtime-Trace-Id",
            "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1",
        )
}

#[expect(
    clippy::disallowed_methods,
    reason = "Lambda gives the deadline as wall-clock time, to a separate process"
)]
fn deadline() -> u128 {
    let limit = SystemTime::now() + Duration::from_secs(30);
    limit.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()
}

fn start(runtime: &Server, service: &Server, changes: &[(&str, &str)]) -> Child {
    let address = runtime.address.to_string();
    let endpoint = service.url();
    let mut variables = BTreeMap::from([
        ("AWS_LAMBDA_RUNTIME_API", address.as_str()),
        ("AWS_LAMBDA_FUNCTION_NAME", "load"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("AWS_LAMBDA_LOG_LEVEL", "TRACE"),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "hush-hush"),
        ("AWS_SESSION_TOKEN", "also-hush-hush"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_ENDPOINT_URL_REDSHIFT_DATA", endpoint.as_str()),
        ("REGION", "eu-west-1"),
        ("CLUSTER_NAME", "dwh"),
        ("PROCEDURE", "sp_run_incremental_load"),
        ("SECRET_ARN", SECRET),
        ("DATABASE", "mystore_db"),
        ("SCHEMA", "mystore"),
    ]);
    variables.extend(changes.iter().copied());
    Command::new(env!("CARGO_BIN_EXE_bootstrap"))
        .env_clear()
        .envs(variables)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

fn scheduled(id: &str) -> String {
    json!({
        "version": "0", "id": id, "detail-type": "Scheduled Event", "source": "aws.events", "account": "111122223333",
        "time": "2026-11-23T06:30:00Z", "region": "eu-west-1",
        "resources": ["arn:aws:events:eu-west-1:111122223333:rule/load"], "detail": {},
    })
    .to_string()
}

fn status_of(id: &str) -> String {
    json!({ "QueryId": id, "Result": { "Status": "STARTED", "Error": "null" } }).to_string()
}

fn answered(body: Value) -> Posted {
    ("response".to_owned(), body)
}

/// A mock service that uses the id of a statement as its status.
fn service(request: &Request) -> Reply {
    let body = request.json();
    match (request.operation(), body["Id"].as_str()) {
        ("ExecuteStatement", _) => {
            Reply::json(200, json!({ "Id": ID, "ClusterIdentifier": "dwh", "SecretArn": SECRET }))
        }
        ("DescribeStatement", Some("unknown")) => {
            Reply::error(400, "ResourceNotFoundException", "Query does not exist.")
        }
        ("DescribeStatement", Some("FAILED")) => Reply::json(
            200,
            json!({ "Id": "FAILED", "Status": "FAILED", "Error": "ERROR: relation \"sale\" does not exist", "QueryString": SQL }),
        ),
        ("DescribeStatement", Some(status)) => Reply::json(
            200,
            json!({ "Id": status, "Status": status, "QueryString": SQL, "SecretArn": SECRET, "Duration": 7 }),
        ),
        _ => Reply::error(400, "UnknownOperationException", ""),
    }
}

#[tokio::test]
async fn an_existing_state_machine_gets_what_the_reference_handler_gave_it() {
    let events = [
        scheduled("53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa"),
        scheduled("53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa"),
        "{}".to_owned(),
        json!({ "QueryId": "SUBMITTED" }).to_string(),
        status_of("STARTED"),
        status_of("ABORTED"),
        status_of("FAILED"),
        status_of("FINISHED"),
        status_of("HIBERNATING"),
    ];
    let played = play(&[], &events, service).await;
    assert_eq!(
        played.posted,
        [
            answered(json!({ "QueryId": ID })),
            answered(json!({ "QueryId": ID })),
            answered(json!({ "QueryId": ID })),
            answered(json!({ "Status": "SUBMITTED", "Error": "null" })),
            answered(json!({ "Status": "STARTED", "Error": "null" })),
            answered(json!({ "Status": "FAILED", "Error": "statement aborted: it was cancelled" })),
            answered(json!({ "Status": "FAILED", "Error": "ERROR: relation \"sale\" does not exist" })),
            answered(json!({ "Status": "FINISHED", "Error": "null" })),
            answered(json!({ "Status": "HIBERNATING", "Error": "null" })),
        ]
    );

    let mut tokens = Vec::new();
    for request in &played.to_service[..3] {
        let mut body = request.json();
        let token = body.as_object_mut().unwrap().remove("ClientToken").unwrap();
        tokens.push(token.as_str().unwrap().to_owned());
        assert_eq!(
            body,
            json!({ "Sql": SQL, "ClusterIdentifier": "dwh", "Database": "mystore_db", "SecretArn": SECRET })
        );
        let authorization = request.header("authorization").unwrap();
        assert!(
            authorization.contains("AKIDEXAMPLE/") && authorization.contains("/eu-west-1/redshift-data/")
        );
    }
    assert_eq!(tokens[0], tokens[1], "the same event again is the same statement");
    assert_ne!(tokens[0], tokens[2]);
    assert_eq!(played.to_service[4].json(), json!({ "Id": "STARTED" }), "no billed waiting");
    assert_eq!(played.to_service.len(), events.len());

    for private in [SQL, SECRET, "hush-hush"] {
        assert!(!played.logs.contains(private), "{private} is in the log");
    }
    let lines: Vec<Value> = played.logs.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        lines.iter().any(|line| {
            let span = &line["span"];
            line["message"] == "submitted" && line["statement_id"] == ID && span["request_id"] == "request-0"
        }),
        "{}",
        played.logs
    );
    assert!(
        lines.iter().any(|line| line["message"] == "described" && line["status"] == "ABORTED"),
        "{}",
        played.logs
    );
}

#[tokio::test]
async fn errors_have_names_to_match_on_and_the_function_lives_on() {
    let events = [
        status_of("unknown"),
        r#"{"QueryId":null}"#.to_owned(),
        r#"{"QueryId":"#.to_owned(),
        "[".repeat(5_000),
        String::new(),
        "{}".to_owned(),
    ];
    let played = play(&[], &events, service).await;
    let names: Vec<_> = played
        .posted
        .iter()
        .map(|(what, body)| (what.as_str(), body["errorType"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(
        names,
        [
            ("error", "ResourceNotFoundException"),
            ("error", "SfnAdapter.BadInput"),
            ("error", "SfnAdapter.BadInput"),
            ("error", "SfnAdapter.BadInput"),
            ("error", "SfnAdapter.BadInput"),
            ("response", ""),
        ]
    );
    assert_eq!(
        played.posted[0].1,
        json!({
            "errorType": "ResourceNotFoundException",
            "errorMessage": "DescribeStatement of statement unknown failed: Query does not exist; check the id, the region and the function's role",
        })
    );
    assert!(played.posted[1].1["errorMessage"].as_str().unwrap().starts_with("QueryId must be"));
    assert_eq!(played.to_service.len(), 2, "bad input is not sent to the service");
}

#[tokio::test]
async fn a_throttle_is_sat_out_with_the_same_token() {
    let mut count = 0;
    let throttled = move |request: &Request| {
        count += 1;
        match count {
            1 => Reply::error(
                400,
                "ValidationException",
                "error code ThrottlingException (Service: RedshiftServerless)",
            ),
            2 => Reply::HangUp,
            _ => service(request),
        }
    };
    let played = play(&[], &["{}".to_owned()], throttled).await;
    assert_eq!(played.posted, [answered(json!({ "QueryId": ID }))]);
    let tokens: Vec<_> =
        played.to_service.iter().map(|request| request.json()["ClientToken"].clone()).collect();
    assert_eq!(tokens.len(), 3);
    assert!(tokens.iter().all(|token| *token == tokens[0]));
}

#[tokio::test]
async fn a_serverless_workgroup_and_qualified_names_are_an_environment_away() {
    let variables = [("CLUSTER_NAME", ""), ("WORKGROUP_NAME", "analytics"), ("ERROR_NAMES", "qualified")];
    let played = play(&variables, &["{}".to_owned(), status_of("unknown")], service).await;
    let body = played.to_service[0].json();
    assert_eq!((&body["WorkgroupName"], &body["ClusterIdentifier"]), (&json!("analytics"), &Value::Null));
    assert_eq!(played.posted[1].1["errorType"], "RedshiftData.ResourceNotFoundException");
}

#[tokio::test]
async fn an_incomplete_environment_is_told_to_every_invocation() {
    let variables = [("SCHEMA", ""), ("SECRET_ARN", "")];
    let played = play(&variables, &["{}".to_owned(), status_of("STARTED")], service).await;
    for (what, body) in &played.posted {
        assert_eq!(what, "error");
        assert_eq!(
            body,
            &json!({
                "errorType": "SfnAdapter.Config",
                "errorMessage": "set the function's environment variable SECRET_ARN (or DB_USER), SCHEMA",
            })
        );
    }
    assert!(played.to_service.is_empty());
}

#[tokio::test]
async fn missing_credentials_are_told_to_every_invocation() {
    let played =
        play(&[("AWS_SECRET_ACCESS_KEY", "")], &["{}".to_owned(), status_of("STARTED")], service).await;
    for (what, body) in &played.posted {
        assert_eq!((what.as_str(), body["errorType"].as_str()), ("error", Some("SfnAdapter.Config")));
        let message = body["errorMessage"].as_str().unwrap();
        assert!(message.starts_with("set AWS_SECRET_ACCESS_KEY"), "{message}");
    }
    assert!(played.to_service.is_empty());
}

#[tokio::test]
async fn an_unknown_handler_is_told_with_the_known_ones() {
    let played =
        play(&[("SFN_ADAPTER_HANDLER", "glue-job")], &["{}".to_owned(), "[".to_owned()], service).await;
    for (what, body) in &played.posted {
        assert_eq!((what.as_str(), body["errorType"].as_str()), ("error", Some("SfnAdapter.Config")));
        let message = body["errorMessage"].as_str().unwrap();
        assert!(
            message.contains("SFN_ADAPTER_HANDLER") && message.contains("redshift, statement"),
            "{message}"
        );
    }
    assert!(played.to_service.is_empty());
}

#[tokio::test]
async fn the_functions_region_and_a_database_user_are_enough() {
    let variables = [("REGION", ""), ("AWS_REGION", "eu-central-1"), ("SECRET_ARN", ""), ("DB_USER", "etl")];
    let played = play(&variables, &["{}".to_owned()], service).await;
    assert_eq!(played.posted, [answered(json!({ "QueryId": ID }))]);
    let request = &played.to_service[0];
    assert_eq!((&request.json()["DbUser"], &request.json()["SecretArn"]), (&json!("etl"), &Value::Null));
    assert!(request.header("authorization").unwrap().contains("/eu-central-1/redshift-data/"));
}

#[tokio::test]
async fn outside_of_lambda_the_executable_says_so() {
    let output = Command::new(env!("CARGO_BIN_EXE_bootstrap")).env_clear().stdin(Stdio::null()).output();
    let output = timeout(PATIENCE, output).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("AWS_LAMBDA_RUNTIME_API"));
}
