//! The wire format of the drop-in: events from the state machine, and replies.

use std::collections::BTreeMap;

use redshift_orchestrator::{Description, StatementId, Status};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::Error;

/// A request of the state machine.
///
/// A request with the key `QueryId` is a status request. All its other keys are ignored, because Step
/// Functions sends its whole accumulated state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Calls the procedure. The event has no key `QueryId`.
    Submit {
        /// The unique id of the event, if it came from EventBridge.
        event_id: Option<String>,
    },
    /// Returns the status of the statement. The event has a key `QueryId`.
    Status {
        /// The statement's id.
        id: StatementId,
    },
}

impl Request {
    /// Parses an event.
    ///
    /// Only the top level is parsed. Nested values are skipped, even if they are deep or invalid.
    ///
    /// # Errors
    /// Returns [`Error::BadInput`] if the text is not a JSON object, or if `QueryId` is not a non-empty
    /// string.
    pub fn parse(event: &str) -> Result<Self, Error> {
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(event).map_err(|error| {
            // The parser's message about a value quotes the value.
            Error::BadInput(match error.is_data() {
                true => "the event is not a JSON object; send an object".to_owned(),
                false => format!("the event is not a JSON object: {error}; send an object"),
            })
        })?;
        let Some(id) = members.get("QueryId") else {
            return Ok(Self::Submit { event_id: event_id(&members) });
        };
        match text(id) {
            Some(id) if !id.is_empty() => Ok(Self::Status { id: StatementId::new(id) }),
            _ => Err(Error::BadInput(
                "QueryId must be the string returned by a submit; omit the key to submit".to_owned(),
            )),
        }
    }
}

/// Returns EventBridge's id, which is unique. Without the rest of the envelope, an `id` belongs to the
/// sender, who may repeat it on purpose.
fn event_id(members: &BTreeMap<String, &RawValue>) -> Option<String> {
    let is_event = ["source", "detail-type", "detail"].iter().all(|key| members.contains_key(*key));
    members.get("id").filter(|_| is_event).and_then(|id| text(id)).filter(|id| !id.is_empty())
}

fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// The reply to the state machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Reply {
    /// Exactly `{"QueryId": "…"}`, because it becomes the whole state.
    Submitted {
        /// The statement's id.
        #[serde(rename = "QueryId")]
        query_id: String,
    },
    /// `{"Status": "…", "Error": "…"}`.
    Status {
        /// `SUBMITTED`, `PICKED`, `STARTED`, `FINISHED` or `FAILED`, or a status that is newer than this
        /// version.
        #[serde(rename = "Status")]
        status: String,
        /// The reason for the failure. The string `null` if the database gave none.
        #[serde(rename = "Error")]
        error: String,
    },
}

impl Reply {
    /// Creates the reply for a description.
    ///
    /// `ABORTED` is reported as `FAILED`, because the existing state machine has two final states and
    /// continues to poll at any other status.
    pub fn status(description: Description) -> Self {
        let error = description.error.filter(|error| !error.is_empty());
        let (status, error) = match description.status {
            Status::Aborted => {
                let reason = error.unwrap_or_else(|| "it was cancelled".to_owned());
                (Status::Failed, Some(format!("statement aborted: {reason}")))
            }
            status => (status, error),
        };
        let error = error.unwrap_or_else(|| "null".to_owned());
        Self::Status { status: status.as_str().to_owned(), error }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const SCHEDULED: &str = r#"{"version":"0","id":"53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa","detail-type":"Scheduled Event",
        "source":"aws.events","account":"123456789012","time":"2026-11-23T06:30:00Z","region":"eu-west-1",
        "resources":["arn:aws:events:eu-west-1:123456789012:rule/load"],"detail":{}}"#;

    #[rstest]
    #[case("{}", None)]
    #[case(SCHEDULED, Some("53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa"))]
    // A sender may repeat its own id on purpose.
    #[case(r#"{"id":"again"}"#, None)]
    #[case(r#"{"queryid":"x","Query":1}"#, None)]
    fn an_object_without_the_key_is_a_submit(#[case] event: &str, #[case] id: Option<&str>) {
        assert_eq!(Request::parse(event).unwrap(), Request::Submit { event_id: id.map(str::to_owned) });
    }

    #[rstest]
    #[case(r#"{"QueryId":"q-1"}"#)]
    #[case(r#"{"QueryId":"q-1","Result":{"Status":"STARTED","Error":"null"}}"#)]
    #[case(r#"{"Big":1e400,"Lone":"\ud800","QueryId":"q-1"}"#)]
    fn an_object_with_the_key_is_a_status_whatever_else_it_has(#[case] event: &str) {
        assert_eq!(Request::parse(event).unwrap(), Request::Status { id: StatementId::new("q-1") });
    }

    #[test]
    fn deep_nesting_is_passed_over() {
        let event = format!(r#"{{"State":{}{},"QueryId":"q-1"}}"#, "[".repeat(5_000), "]".repeat(5_000));
        assert!(matches!(Request::parse(&event), Ok(Request::Status { .. })));
    }

    #[rstest]
    #[case(r#"{"QueryId":null}"#)]
    #[case(r#"{"QueryId":""}"#)]
    #[case(r#"{"QueryId":7}"#)]
    #[case(r#"{"QueryId":"\ud800"}"#)]
    #[case(r#"{"QueryId":"#)]
    #[case("")]
    #[case("null")]
    #[case("[]")]
    #[case(r#""text""#)]
    fn anything_else_is_bad_input(#[case] event: &str) {
        assert!(matches!(Request::parse(event), Err(Error::BadInput(_))), "{event}");
    }

    #[test]
    fn an_event_is_never_quoted() {
        for event in [r#""SELECT hush-hush""#, r#"["hush-hush"]"#, r#"{"QueryId":{"hush-hush":1}}"#] {
            let error = Request::parse(event).unwrap_err();
            assert!(!error.to_string().contains("hush-hush"), "{error}");
        }
    }

    fn reply(status: &str, error: Option<&str>) -> String {
        let mut description = Description::new(StatementId::new("q-1"), Status::from(status));
        description.error = error.map(str::to_owned);
        serde_json::to_string(&Reply::status(description)).unwrap()
    }

    #[test]
    fn replies_have_exactly_the_reference_shape() {
        let submitted = Reply::Submitted { query_id: "q-1".to_owned() };
        assert_eq!(serde_json::to_string(&submitted).unwrap(), r#"{"QueryId":"q-1"}"#);
        for status in ["SUBMITTED", "PICKED", "STARTED", "FINISHED", "FAILED", "HIBERNATING"] {
            assert_eq!(reply(status, None), format!(r#"{{"Status":"{status}","Error":"null"}}"#));
        }
        assert_eq!(
            reply("FAILED", Some("ERROR: relation \"sale\" does not exist")),
            r#"{"Status":"FAILED","Error":"ERROR: relation \"sale\" does not exist"}"#
        );
    }

    #[test]
    fn an_aborted_statement_ends_the_existing_state_machine() {
        assert_eq!(
            reply("ABORTED", None),
            r#"{"Status":"FAILED","Error":"statement aborted: it was cancelled"}"#
        );
        assert_eq!(
            reply("ABORTED", Some("Query cancelled on user's request")),
            r#"{"Status":"FAILED","Error":"statement aborted: Query cancelled on user's request"}"#
        );
    }
}
