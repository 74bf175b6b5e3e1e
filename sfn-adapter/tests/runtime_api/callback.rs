//! The handler `callback`, between a mock of the Data API and one of Step Functions.

use serde_json::{Value, json};

use super::{
    Played,
    http::{Reply, Request},
    play,
};

const EVENT: &str = include_str!("../../fixtures/callback.event.json");
const MESSAGES: &str = include_str!("../../fixtures/callback.messages.json");

fn event(id: &str, name: &str) -> Value {
    let mut event: Value = serde_json::from_str(EVENT).unwrap();
    event["detail"]["statementId"] = json!(id);
    event["detail"]["statementName"] = json!(name);
    event
}

/// A mock that uses the id of a statement as its status, and the token of a task as its error code.
fn services(request: &Request) -> Reply {
    let body = request.json();
    match (request.operation(), body["Id"].as_str(), body["taskToken"].as_str()) {
        ("DescribeStatement", Some("d9b6c0c9-0747-4bf4-b142-e8883122f766"), _) => {
            Reply::json(200, json!({ "Id": body["Id"], "Status": "FINISHED", "Duration": 7_000_000 }))
        }
        ("DescribeStatement", Some("FAILED"), _) => Reply::json(
            200,
            json!({ "Id": "FAILED", "Status": "FAILED", "Error": "ERROR: division by zero" }),
        ),
        ("DescribeStatement", Some(status), _) => Reply::json(200, json!({ "Id": status, "Status": status })),
        (_, _, Some("AQCEAAAAKgAAAAMAAAAAAAAAAdG9rZW4")) => Reply::json(200, json!({})),
        (_, _, Some(code)) => Reply::error(400, code, "no such task"),
        _ => Reply::error(400, "UnknownOperationException", ""),
    }
}

async fn played(events: &[Value]) -> Played {
    let service = super::Server::start(services).await;
    let endpoint = service.url();
    let variables = [
        ("SFN_ADAPTER_HANDLER", "callback"),
        ("AWS_ENDPOINT_URL_REDSHIFT_DATA", endpoint.as_str()),
        ("AWS_ENDPOINT_URL_SFN", endpoint.as_str()),
        ("CLUSTER_NAME", ""),
        ("DATABASE", ""),
    ];
    let events: Vec<_> = events.iter().map(Value::to_string).collect();
    let mut played = play(&variables, &events, services).await;
    played.to_service = service.requests();
    played
}

#[tokio::test]
async fn a_task_is_answered_with_the_end_that_the_service_reports() {
    let success =
        event("d9b6c0c9-0747-4bf4-b142-e8883122f766", "sfn-task load AQCEAAAAKgAAAAMAAAAAAAAAAdG9rZW4");
    let failure = event("FAILED", "sfn-task load AQCEAAAAKgAAAAMAAAAAAAAAAdG9rZW4");
    let played = played(&[success, failure]).await;
    assert_eq!(played.posted[0].1["task"], "succeeded", "{:?}", played.posted);
    assert_eq!(played.posted[1].1["task"], "failed");
    let answers: Vec<_> =
        played.to_service.iter().filter(|request| request.operation().starts_with("SendTask")).collect();
    assert_eq!(answers[0].operation(), "SendTaskSuccess");
    let output: Value = serde_json::from_str(answers[0].json()["output"].as_str().unwrap()).unwrap();
    assert_eq!((&output["outcome"], &output["seconds"]), (&json!("succeeded"), &json!(0.007)));
    assert_eq!(answers[1].operation(), "SendTaskFailure");
    let body = answers[1].json();
    assert_eq!(
        (&body["error"], &body["cause"]),
        (&json!("Statement.Failed"), &json!("ERROR: division by zero"))
    );
    assert!(!played.logs.contains("division"), "the database's text may quote the statement");
}

#[tokio::test]
async fn second_deliveries_foreign_statements_and_expired_tokens_are_no_errors() {
    let events = [
        event("FINISHED", "sfn-task load TaskTimedOut"),
        event("FINISHED", "sfn-task load TaskDoesNotExist"),
        event("FINISHED", "sfn-task load InvalidToken"),
        event("FINISHED", "nightly load"),
        json!({ "source": "aws.events", "detail-type": "Scheduled Event", "detail": {} }),
    ];
    let played = played(&events).await;
    let tasks: Vec<_> =
        played.posted.iter().map(|(what, body)| (what.as_str(), body["task"].clone())).collect();
    let expected = ["over", "over", "over", "foreign", "foreign"].map(|task| ("response", json!(task)));
    assert_eq!(tasks, expected);
}

#[tokio::test]
async fn of_messages_only_those_that_failed_return_to_the_queue() {
    let mut messages: Value = serde_json::from_str(MESSAGES).unwrap();
    let mut early = messages["Records"][0].clone();
    early["messageId"] = json!("early");
    early["body"] = json!(event("STARTED", "sfn-task load AQCEAAAAKgAAAAMAAAAAAAAAAdG9rZW4").to_string());
    let mut broken = early.clone();
    broken["messageId"] = json!("broken");
    broken["body"] = json!("[1");
    messages["Records"].as_array_mut().unwrap().extend([early, broken]);
    let played = played(&[messages, json!({}), json!([]), json!({ "Records": 7 })]).await;
    assert_eq!(
        played.posted[0].1,
        json!({ "batchItemFailures": [{ "itemIdentifier": "early" }, { "itemIdentifier": "broken" }] })
    );
    for (what, body) in &played.posted[1..] {
        assert_eq!(
            (what.as_str(), body["errorType"].as_str()),
            ("error", Some("SfnAdapter.BadInput")),
            "{body}"
        );
    }
}
