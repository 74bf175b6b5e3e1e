//! The handler `glue`, with a mock of Glue, and with a server that provides S3 and Glue.

use std::sync::Arc;

use hudi_scd::{
    Table, TableDefinition,
    arrow::datatypes::{DataType, Field, Schema},
};
use object_store::aws::AmazonS3Builder;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    Played,
    http::{Reply, Request, Server},
    play,
};

/// A mock that uses the id of a run as its state, and a crawler.
fn service(request: &Request) -> Reply {
    let body = request.json();
    match request.operation() {
        "GetJobRun" if body["RunId"] == "gone" => {
            Reply::error(400, "EntityNotFoundException", "JobRun not found.")
        }
        "GetJobRun" => Reply::json(
            200,
            json!({ "JobRun": { "Id": body["RunId"], "JobRunState": body["RunId"], "ExecutionTime": 61,
                                "ErrorMessage": "ValueError: customer 4711" } }),
        ),
        "BatchStopJobRun" => Reply::json(
            200,
            json!({ "SuccessfulSubmissions": [{ "JobName": "clean", "JobRunId": body["JobRunIds"][0] }] }),
        ),
        "GetCrawler" => Reply::json(
            200,
            json!({ "Crawler": { "Name": "raw", "State": "READY", "Targets": { "S3Targets": [
                { "Path": "s3://lake", "Exclusions": ["customer/**"] },
            ] } } }),
        ),
        _ => Reply::error(400, "AccessDeniedException", "not authorized"),
    }
}

async fn played(events: &[Value]) -> Played {
    let service_of_glue = Server::start(service).await;
    let endpoint = service_of_glue.url();
    let variables = [
        ("SFN_ADAPTER_HANDLER", "glue"),
        ("AWS_ENDPOINT_URL_GLUE", endpoint.as_str()),
        ("CLUSTER_NAME", ""),
        ("DATABASE", ""),
    ];
    let events: Vec<_> =
        events.iter().map(|event| event.as_str().map_or_else(|| event.to_string(), str::to_owned)).collect();
    let mut played = play(&variables, &events, |_| Reply::HangUp).await;
    played.to_service = service_of_glue.requests();
    played
}

fn call(action: &str, members: Value) -> Value {
    let mut event = json!({ "version": 1, "action": action });
    event.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    event
}

#[tokio::test]
async fn runs_are_described_and_stopped_and_crawlers_kept_away() {
    let run = |id: &str| json!({ "job": "clean", "run": id });
    let raised = json!({ "job": "clean", "run": "FAILED", "raise": true });
    let played = played(&[
        call("status", run("RUNNING")),
        call("status", run("FAILED")),
        call("status", raised),
        call("status", run("gone")),
        call("stop", run("STOPPED")),
        call("exclude", json!({ "crawler": "raw", "tables": ["s3://lake/customer"] })),
        call("exclude", json!({ "crawler": "raw", "database": "clean" })),
        call("start", json!({ "job": "clean", "identity": { "execution": "e", "step": "s" } })),
    ])
    .await;
    let found: Vec<_> = played
        .posted
        .iter()
        .map(|(_, body)| body["errorType"].as_str().or(body["outcome"].as_str()).unwrap_or("excluded"))
        .collect();
    assert_eq!(
        found,
        [
            "running",
            "failed",
            "Glue.Failed",
            "Glue.NotFound",
            "stopped",
            "excluded",
            "Glue.Denied",
            "SfnAdapter.Config"
        ]
    );
    assert_eq!(played.posted[1].1["cause"], "FAILED: ValueError: customer 4711");
    let quoted = played.logs.lines().find(|line| line.contains("4711"));
    assert_eq!(quoted, None, "the text of a job may quote data");
    assert!(played.logs.contains("RunSeconds"), "{}", played.logs);
}

#[tokio::test]
async fn hostile_events_are_answered() {
    let nested = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let hostile = ["", "null", "{", "{}", "[]", "7", "\"\\ud800\"", "{\"version\":1}", nested.as_str()];
    let played = played(&hostile.map(Value::from)).await;
    for (kind, body) in played.posted {
        assert_eq!((kind.as_str(), &body["errorType"]), ("error", &json!("SfnAdapter.BadInput")), "{body}");
    }
}

/// Sends a request to the server at `endpoint`.
async fn sent(endpoint: &str, request: &str, target: &str, body: Value) {
    let host = endpoint.strip_prefix("http://").unwrap();
    // The server selects the service by this header. A request without it goes to S3.
    let service = match body.is_null() {
        true => "",
        false => {
            "Authorization: AWS4-HMAC-SHA256 Credential=id/20261128/eu-west-1/glue/aws4_request, SignedHeaders=host, \
             Signature=x\r\n"
        }
    };
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut server = TcpStream::connect(host).await.unwrap();
    let text = format!(
        "{request} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-amz-json-1.1\r\nX-Amz-Target: {target}\r\n\
         {service}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    server.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    server.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
#[ignore = "needs an S3 server: scripts/s3/server start prints the value for HUDI_SCD_S3_ENDPOINT"]
async fn a_job_runs_once_and_a_table_is_registered_on_a_local_aws() {
    let endpoint = std::env::var("HUDI_SCD_S3_ENDPOINT")
        .unwrap_or_else(|_| panic!("HUDI_SCD_S3_ENDPOINT is not set: scripts/s3/server start prints it"));
    let (lake, job) = (format!("glue-{}", std::process::id()), format!("clean-{}", std::process::id()));
    sent(&endpoint, &format!("PUT /{lake}"), "", Value::Null).await;
    let definition = json!({
        "Name": job, "Role": "arn:aws:iam::123456789012:role/glue",
        "Command": { "Name": "glueetl", "ScriptLocation": "s3://bucket/job.py" },
    });
    sent(&endpoint, "POST /", "AWSGlue.CreateJob", definition).await;
    let builder =
        AmazonS3Builder::new().with_bucket_name(&lake).with_endpoint(&endpoint).with_allow_http(true);
    let builder = builder.with_access_key_id("id").with_secret_access_key("secret").with_region("eu-west-1");
    let schema =
        Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8, true)]);
    let definition = TableDefinition::new("customer", Arc::new(schema), ["id"]);
    Table::create(Arc::new(builder.build().unwrap()), "clean/customer".into(), definition).await.unwrap();

    let journal = format!("s3://{lake}/journal");
    let variables = [
        ("SFN_ADAPTER_HANDLER", "glue"),
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_REGION", "eu-west-1"),
        ("GLUE_JOURNAL", journal.as_str()),
        ("CLUSTER_NAME", ""),
    ];
    let identity = json!({ "execution": "arn:…:load:7f3a", "step": "customers" });
    let start = call("start", json!({ "job": job, "identity": identity, "arguments": { "--cycle": "7" } }));
    let table = format!("s3://{lake}/clean/customer");
    let sync = call("sync", json!({ "table": table, "database": format!("d{}", std::process::id()) }));
    let events = [&start, &start, &sync, &sync].map(Value::to_string);
    let first = play(&variables, &events, |_| Reply::HangUp).await;
    let replies: Vec<_> = first.posted.iter().map(|(_, body)| body).collect();
    let run = replies[0]["run"].as_str().unwrap_or_else(|| panic!("{replies:?}")).to_owned();
    assert_eq!((&replies[1]["run"], &replies[1]["outcome"]), (&json!(run), &json!("running")));
    assert_eq!((&replies[2]["created"], &replies[3]["changed"]), (&json!(true), &json!(false)));

    // Another process finds the run in the journal. On this server, runs end at once.
    let status = call("status", json!({ "job": job, "run": run }));
    let second = play(&variables, &[start.to_string(), status.to_string()], |_| Reply::HangUp).await;
    assert_eq!(second.posted[0].1["run"], json!(run), "{:?}", second.posted);
    assert_eq!(second.posted[1].1["outcome"], "succeeded", "{:?}", second.posted);
}
