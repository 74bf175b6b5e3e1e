//! The contract of the handler `callback`: events of EventBridge, directly or through SQS.

pub use aws_lambda_events::{
    eventbridge::EventBridgeEvent,
    sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    Error,
    contract::{VERSION, members},
};

/// `detail-type` of the events.
pub const DETAIL_TYPE: &str = "Redshift Data Statement Status Change";

/// `source` of the events.
pub const SOURCE: &str = "aws.redshift-data";

/// An event of the handler.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// An event that EventBridge delivered directly to the function.
    Event(Box<EventBridgeEvent<Value>>),
    /// Messages of SQS, each with an event as its body.
    Messages(SqsEvent),
}

/// Members of `detail` that the handler reads. The event contains no error text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Id of the statement.
    pub statement_id: String,
    /// Name of the statement, which [contains the task token](crate::task_name).
    #[serde(default)]
    pub statement_name: Option<String>,
}

/// Response to an event.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Response {
    /// Reply to an event that was delivered directly.
    Event(Reply),
    /// The messages that return to the queue.
    Messages(SqsBatchResponse),
}

/// Reply to an event that was delivered directly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reply {
    /// Version of the contract.
    pub version: u32,
    /// Id of the statement, if the event has one.
    pub id: Option<String>,
    /// Result for the task.
    pub task: Task,
}

/// Result for the task of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Task {
    /// The statement finished, and this was reported to the task (`SendTaskSuccess`).
    Succeeded,
    /// The statement failed, was aborted or is unknown, and this was reported to the task
    /// (`SendTaskFailure`).
    Failed,
    /// The task was already completed, has timed out, or its execution has ended.
    Over,
    /// The event is not about a statement that completes a task.
    Foreign,
}

impl Request {
    /// Parses an event: messages of SQS if it has the member `Records`, and otherwise an event of
    /// EventBridge.
    ///
    /// # Errors
    /// Returns [`Error::BadInput`] for any other text.
    pub fn parse(event: &str) -> Result<Self, Error> {
        let event = members::object(event)?;
        match event.contains_key("Records") {
            true => members::read("", Value::Object(event)).map(Self::Messages),
            false => envelope(event).map(Self::Event),
        }
    }
}

/// Parses an event of EventBridge from the body of a message.
///
/// # Errors
/// Returns [`Error::BadInput`] for any other text.
pub fn body(message: &str) -> Result<Box<EventBridgeEvent<Value>>, Error> {
    envelope(members::object(message)?)
}

fn envelope(event: Map<String, Value>) -> Result<Box<EventBridgeEvent<Value>>, Error> {
    members::read("", Value::Object(event)).map(Box::new)
}

impl Change {
    /// Returns the change of a statement that an event reports. Returns `None` for an event of another kind.
    ///
    /// # Errors
    /// Returns [`Error::BadInput`] if the event is of the right kind, but its `detail` is invalid.
    pub fn of(event: &EventBridgeEvent<Value>) -> Result<Option<Self>, Error> {
        if event.source != SOURCE || event.detail_type != DETAIL_TYPE {
            return Ok(None);
        }
        members::read("detail", event.detail.clone()).map(Some)
    }
}

impl Reply {
    /// Creates a reply.
    pub fn new(id: Option<String>, task: Task) -> Self {
        Self { version: VERSION, id, task }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_arrives_directly_or_in_messages() {
        let event = include_str!("../../fixtures/callback.event.json");
        let Request::Event(direct) = Request::parse(event).unwrap() else { panic!() };
        let change = Change::of(&direct).unwrap().unwrap();
        assert_eq!(change.statement_id, "d9b6c0c9-0747-4bf4-b142-e8883122f766");
        assert!(crate::task_token(change.statement_name.as_deref().unwrap()).is_some());

        let messages = include_str!("../../fixtures/callback.messages.json");
        let Request::Messages(messages) = Request::parse(messages).unwrap() else { panic!() };
        assert_eq!(body(messages.records[0].body.as_deref().unwrap()).unwrap(), direct);
    }

    #[test]
    fn other_events_are_foreign_and_broken_ones_are_explained() {
        let mut event = json!({ "detail-type": "Scheduled Event", "source": "aws.events", "detail": {} });
        let parsed = |event: &Value| match Request::parse(&event.to_string()) {
            Ok(Request::Event(event)) => Change::of(&event),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        };
        assert_eq!(parsed(&event).unwrap(), None);
        event["source"] = json!(SOURCE);
        event["detail-type"] = json!(DETAIL_TYPE);
        assert_eq!(
            parsed(&event).unwrap_err().to_string(),
            "`detail` lacks the member `statementId`; add it"
        );
        assert_eq!(
            parsed(&json!({})).unwrap_err().to_string(),
            "the event lacks the member `detail-type`; add it"
        );
    }
}
