//! The contract of the handler `hudi`, version 1: events of S3, messages of SQS that contain them, and calls.

pub use aws_lambda_events::{
    eventbridge::EventBridgeEvent,
    sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage},
};
use hudi_scd::SourceFile;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    Error,
    contract::{VERSION, members},
};

/// `detail-type` of the events of EventBridge.
pub const DETAIL_TYPE: &str = "Object Created";

/// `source` of the events of EventBridge.
pub const SOURCE: &str = "aws.s3";

/// An event of the handler.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Files that were created, from an event of S3 or EventBridge. Empty for events of other kinds.
    Files(Vec<RawFile>),
    /// Messages of SQS, each with an event of S3 or EventBridge as its body.
    Messages(SqsEvent),
    /// A call.
    Call(Action),
}

/// A raw file in S3, as named by an event or a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RawFile {
    /// Name of the bucket.
    pub bucket: String,
    /// Key of the object.
    pub key: String,
    /// Version id of the object, in a versioned bucket.
    pub version: Option<String>,
    /// ETag of the object, without quotes.
    pub e_tag: Option<String>,
}

/// A call of the handler, with its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Action {
    /// Takes in files, each at most once.
    Upsert(Upsert),
    /// Deletes the file versions that the table's retention does not keep.
    Clean(NoMembers),
    /// Moves old actions of the timeline into the archive.
    Archive(NoMembers),
    /// Checks every invariant of the format. It reads all files of the table.
    Validate(NoMembers),
    /// Describes the table.
    Show(NoMembers),
}

/// Members of the action `upsert`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Upsert {
    /// URLs of the files, such as `s3://raw/customer/2026-11-28.csv.gz`. Their rows are applied in this
    /// order.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    #[cfg_attr(feature = "schema", schemars(extend(
        "items" = {"type": "string", "pattern": "^s3a?://[^/]+/[\\s\\S]"},
    )))]
    pub files: Vec<String>,
}

/// No members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NoMembers {}

/// Response to an event.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Response {
    /// Reply to an event that was delivered directly, or to a call.
    Reply(Reply),
    /// The messages that return to the queue.
    Messages(Handled),
}

/// Response to messages of SQS.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Handled {
    /// The messages that return to the queue. This is the complete response to SQS.
    #[serde(flatten)]
    pub response: SqsBatchResponse,
    /// The results for the files of the other messages, for metrics.
    #[serde(skip)]
    pub upserted: Vec<Upserted>,
}

/// Reply to an event that was delivered directly, or to a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Reply {
    /// Files were taken in.
    Upsert(Box<Upserted>),
    /// The table was cleaned.
    Clean(Cleaned),
    /// The timeline was archived.
    Archive(Archived),
    /// The table was checked.
    Validate(Validated),
    /// The description of the table.
    Show(Shown),
}

/// Outcome of taking in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Outcome {
    /// A commit was written.
    Committed,
    /// There was nothing to write: there were no new files, or the new files have no rows.
    Nothing,
}

/// Reply to files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Upserted {
    /// Version of the contract.
    pub version: u32,
    /// Name of the table. An event that names no file does not open the table; then it is the last part of
    /// the table's URL.
    pub table: String,
    /// Result.
    pub outcome: Outcome,
    /// Instant of the commit.
    pub instant: Option<String>,
    /// The files of the event.
    pub files: FileCounts,
    /// The rows of the new files.
    pub rows: RowCounts,
    /// Errors of the clean and the archival after the commit. The commit is valid, and the next commit
    /// retries them.
    pub upkeep_failed: Vec<String>,
    /// Duration in seconds.
    pub seconds: f64,
}

impl Upserted {
    /// Creates the reply for files of which `known` were taken in before, and the others have no rows.
    pub(crate) fn nothing(table: &str, known: usize) -> Self {
        Self {
            version: VERSION,
            table: table.to_owned(),
            outcome: Outcome::Nothing,
            instant: None,
            files: FileCounts { known: known as u64, ..FileCounts::default() },
            rows: RowCounts::default(),
            upkeep_failed: Vec::new(),
            seconds: 0.0,
        }
    }
}

/// Numbers of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FileCounts {
    /// Files that the commit took in.
    pub new: u64,
    /// Files that an earlier commit took in, and repeated files of the event.
    pub known: u64,
    /// Files of the event that no longer exist.
    pub gone: u64,
    /// Uncompressed size of the new files in bytes.
    pub bytes: u64,
}

/// Numbers of rows. For a type 2 history, `rows` counts changes, and the other members count rows of the
/// history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RowCounts {
    /// Rows of the new files.
    pub rows: u64,
    /// Keys that were not stored before.
    pub inserted: u64,
    /// Stored rows that were replaced, including those that moved to another partition.
    pub updated: u64,
    /// Stored rows that were deleted.
    pub deleted: u64,
    /// Rows older than the stored ones.
    pub late: u64,
    /// Rows equal to the stored ones, or superseded by a later row of the event.
    pub unchanged: u64,
}

/// Reply to `clean`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cleaned {
    /// Version of the contract.
    pub version: u32,
    /// Name of the table.
    pub table: String,
    /// Instant of the clean, or `null` if there was nothing to clean.
    pub instant: Option<String>,
    /// Number of deleted files.
    pub files: u64,
}

/// Reply to `archive`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Archived {
    /// Version of the contract.
    pub version: u32,
    /// Name of the table.
    pub table: String,
    /// Number of archived actions.
    pub actions: u64,
    /// Name of the file of the archive, or `null` if there was nothing to archive.
    pub file: Option<String>,
}

/// Reply to `validate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Validated {
    /// Version of the contract.
    pub version: u32,
    /// Name of the table.
    pub table: String,
    /// `true` if there are no findings.
    pub valid: bool,
    /// Number of findings.
    pub count: u64,
    /// The first findings.
    pub findings: Vec<Found>,
}

/// A violated invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Found {
    /// Name of the invariant.
    pub invariant: String,
    /// The file or the instant.
    pub subject: String,
    /// The violation.
    pub detail: String,
}

/// Reply to `show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Shown {
    /// Version of the contract.
    pub version: u32,
    /// Name of the table.
    pub table: String,
    /// Version of the table's format.
    pub format: u32,
    /// 2 for a history (SCD type 2), otherwise 1.
    pub scd: u32,
    /// Columns of the record key.
    pub record_key: Vec<String>,
    /// Column that orders the rows of a key.
    pub ordering_field: Option<String>,
    /// Partition columns.
    pub partition_fields: Vec<String>,
    /// Instant of the latest commit.
    pub latest: Option<String>,
    /// Number of commits on the active timeline.
    pub commits: u64,
    /// Number of file groups.
    pub file_groups: u64,
    /// Bytes of all file versions.
    pub bytes: u64,
}

/// Members of an event of S3 that the handler reads. Other stores with the interface of S3 send fewer members
/// than S3 itself, for which `aws_lambda_events` has types.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct S3Event {
    #[serde(rename = "Records")]
    records: Vec<Record>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Record {
    event_name: Option<String>,
    s3: Option<Entity>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(expecting = "an object")]
struct Entity {
    bucket: Bucket,
    object: Stored,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(expecting = "an object")]
struct Bucket {
    name: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Stored {
    key: Option<String>,
    e_tag: Option<String>,
    version_id: Option<String>,
}

/// Members of `detail` that the handler reads.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(expecting = "an object")]
struct Detail {
    bucket: Named,
    object: Object,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Named {
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Object {
    key: String,
    #[serde(default)]
    etag: Option<String>,
    #[serde(default, rename = "version-id")]
    version_id: Option<String>,
}

impl Request {
    /// Parses an event.
    ///
    /// # Errors
    /// Returns [`Error::BadInput`] if the text is not an event of this handler, or has another version.
    pub fn parse(event: &str) -> Result<Self, Error> {
        let event = members::object(event)?;
        if event.contains_key("action") {
            return Action::read(event).map(Self::Call);
        }
        let first = event.get("Records").and_then(|records| records.get(0));
        match first.and_then(|record| record.get("eventSource")).and_then(Value::as_str) {
            Some("aws:sqs") => members::read("", Value::Object(event)).map(Self::Messages),
            _ => created(event).map(Self::Files),
        }
    }
}

impl Request {
    /// Returns the name of the action for logs.
    pub fn action_name(&self) -> &'static str {
        match self {
            Self::Files(_) | Self::Messages(_) | Self::Call(Action::Upsert(_)) => "upsert",
            Self::Call(Action::Clean(_)) => "clean",
            Self::Call(Action::Archive(_)) => "archive",
            Self::Call(Action::Validate(_)) => "validate",
            Self::Call(Action::Show(_)) => "show",
        }
    }
}

impl Action {
    fn read(mut event: Map<String, Value>) -> Result<Self, Error> {
        members::take_version(&mut event)?;
        // With the tag, serde's messages would not name the members of an action.
        if event.get("action").and_then(Value::as_str) == Some("upsert") {
            event.remove("action");
            return members::read("", Value::Object(event)).map(Self::Upsert);
        }
        members::read("", Value::Object(event))
    }
}

impl Upsert {
    /// Returns the files.
    ///
    /// # Errors
    /// Returns [`Error::BadInput`] if the list is empty, or if a string is not a URL of a file in S3.
    pub fn raw_files(&self) -> Result<Vec<RawFile>, Error> {
        if self.files.is_empty() {
            return Err(Error::BadInput("`files` of the event is empty; name at least one file".to_owned()));
        }
        self.files.iter().map(|url| RawFile::parse(url)).collect()
    }
}

/// Returns the files named in the body of a message.
///
/// # Errors
/// Returns [`Error::BadInput`] if the body is not an event of S3 or EventBridge.
pub fn body(message: &str) -> Result<Vec<RawFile>, Error> {
    created(members::object(message)?)
}

fn created(event: Map<String, Value>) -> Result<Vec<RawFile>, Error> {
    if event.contains_key("Records") {
        let event: S3Event = members::read("", Value::Object(event))?;
        return event.records.iter().filter_map(|record| RawFile::of_record(record).transpose()).collect();
    }
    // S3 sends this event when a notification is set up.
    if event.get("Event").and_then(Value::as_str) == Some("s3:TestEvent") {
        return Ok(Vec::new());
    }
    if !event.contains_key("detail-type") {
        return Err(Error::BadInput(
            "the event is not one of S3, EventBridge or SQS, and has no `action`; use upsert, clean, archive, validate \
             or show"
                .to_owned(),
        ));
    }
    let event: EventBridgeEvent<Value> = members::read("", Value::Object(event))?;
    if event.source != SOURCE || event.detail_type != DETAIL_TYPE {
        return Ok(Vec::new());
    }
    let Detail { bucket, object } = members::read("detail", event.detail)?;
    let Object { key, etag, version_id } = object;
    Ok(vec![RawFile::new(bucket.name, key, version_id, etag)])
}

impl RawFile {
    fn new(bucket: String, key: String, version: Option<String>, e_tag: Option<String>) -> Self {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty() && text != "null");
        Self { bucket, key, version: given(version), e_tag: given(e_tag) }
    }

    /// Reads a URL such as `s3://raw/customer/1.csv`.
    fn parse(url: &str) -> Result<Self, Error> {
        let rest = url.strip_prefix("s3://").or_else(|| url.strip_prefix("s3a://"));
        match rest.and_then(|rest| rest.split_once('/')) {
            Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => {
                Ok(Self::new(bucket.to_owned(), key.to_owned(), None, None))
            }
            _ => Err(Error::BadInput(
                "an entry of `files` of the event is not a URL such as s3://bucket/key".to_owned(),
            )),
        }
    }

    /// Returns the object that a record reports as created. Returns `None` for other records.
    fn of_record(record: &Record) -> Result<Option<Self>, Error> {
        // Some stores begin the name with `s3:`, as in the configuration of a notification.
        let name = record.event_name.as_deref().unwrap_or_default();
        if !name.strip_prefix("s3:").unwrap_or(name).starts_with("ObjectCreated:") {
            return Ok(None);
        }
        let lacks = |member: &str| {
            Error::BadInput(format!(
                "a record of the event lacks the member `{member}`; send the event as S3 writes it"
            ))
        };
        let Entity { bucket, object } = record.s3.as_ref().ok_or_else(|| lacks("s3"))?;
        let bucket = bucket.name.clone().ok_or_else(|| lacks("s3.bucket.name"))?;
        let key = object.key.as_deref().ok_or_else(|| lacks("s3.object.key"))?;
        Ok(Some(Self::new(bucket, decoded(key), object.version_id.clone(), object.e_tag.clone())))
    }

    /// Returns the URL.
    pub fn url(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.key)
    }

    /// Returns the name and the version that identify the file in a table. `None` if the event does not
    /// contain the version.
    pub fn source(&self) -> Option<SourceFile> {
        let version = self.version.as_ref().or(self.e_tag.as_ref())?;
        Some(SourceFile::new(self.url(), version))
    }
}

/// Decodes a key in an event of S3. S3 encodes it like a value of an HTML form.
fn decoded(key: &str) -> String {
    let with_spaces = key.replace('+', " ");
    percent_decode_str(&with_spaces).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn file(key: &str) -> RawFile {
        RawFile::new(
            "raw".to_owned(),
            key.to_owned(),
            None,
            Some("d41d8cd98f00b204e9800998ecf8427e".to_owned()),
        )
    }

    #[test]
    fn a_file_arrives_directly_through_eventbridge_and_in_messages() {
        let s3 = include_str!("../../fixtures/hudi.s3.event.json");
        let expected = Request::Files(vec![file("customer/first day+1.csv"), file("customer/b.jsonl.gz")]);
        assert_eq!(Request::parse(s3).unwrap(), expected);

        let eventbridge = include_str!("../../fixtures/hudi.eventbridge.event.json");
        let Request::Files(files) = Request::parse(eventbridge).unwrap() else { panic!() };
        assert_eq!(files[0].key, "customer/first day+1.csv", "not encoded here");
        assert_eq!(files[0].source().unwrap().version, "Zk9cU2VhY2hlbg");

        let messages = include_str!("../../fixtures/hudi.messages.json");
        let Request::Messages(messages) = Request::parse(messages).unwrap() else { panic!() };
        let read = |number: usize| body(messages.records[number].body.as_deref().unwrap()).unwrap();
        assert_eq!((read(0), read(1).len(), read(2)), (vec![file("customer/c.parquet")], 1, vec![]));
    }

    #[test]
    fn events_of_another_kind_name_no_file() {
        let mut event: Value =
            serde_json::from_str(include_str!("../../fixtures/hudi.s3.event.json")).unwrap();
        for record in event["Records"].as_array_mut().unwrap() {
            record["eventName"] = json!("ObjectRemoved:Delete");
        }
        let scheduled = json!({ "source": "aws.events", "detail-type": "Scheduled Event", "detail": {} });
        for other in [event, scheduled, json!({ "Records": [] })] {
            assert_eq!(Request::parse(&other.to_string()).unwrap(), Request::Files(vec![]), "{other}");
        }
    }

    /// Regression: stores other than S3 send no `userIdentity`, and some begin the name of an event with
    /// `s3:`.
    #[test]
    fn an_event_needs_only_the_members_that_name_the_file() {
        let object = json!({ "key": "customer/b.jsonl.gz", "eTag": "d41d8cd98f00b204e9800998ecf8427e" });
        for name in ["ObjectCreated:Put", "s3:ObjectCreated:Put"] {
            let record =
                json!({ "eventName": name, "s3": { "bucket": { "name": "raw" }, "object": object } });
            let event = json!({ "Records": [record] });
            let expected = Request::Files(vec![file("customer/b.jsonl.gz")]);
            assert_eq!(Request::parse(&event.to_string()).unwrap(), expected);
        }
        for (record, expected) in [
            (json!({ "eventName": "ObjectCreated:Put" }), "a record of the event lacks the member `s3`"),
            (
                json!({ "eventName": "ObjectCreated:Put", "s3": { "bucket": {}, "object": {} } }),
                "lacks the member `s3.bucket.name`",
            ),
            (
                json!({ "eventName": "ObjectCreated:Put", "s3": 7 }),
                "`Records[0].s3` of the event must be an object",
            ),
            (json!(7), "`Records[0]` of the event must be an object"),
        ] {
            let error = Request::parse(&json!({ "Records": [record] }).to_string()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        // Other events may have any members.
        let removed = json!({ "Records": [{ "eventName": "ObjectRemoved:Delete" }] });
        assert_eq!(Request::parse(&removed.to_string()).unwrap(), Request::Files(vec![]));
    }

    #[rstest]
    #[case(json!({ "version": 1, "action": "show" }), Ok(Action::Show(NoMembers {})))]
    #[case(json!({ "version": 2, "action": "show" }), Err("`version` of the event is not supported; this function supports version 1"))]
    #[case(json!({ "action": "show" }), Err("the event lacks the member `version`; send 1"))]
    #[case(json!({ "version": 1, "action": "drop" }), Err("`action` of the event has an unknown value; use `upsert`, `clean`, `archive`, `validate`, `show`"))]
    #[case(json!({ "version": 1, "action": "show", "x": 1 }), Err("the event has no member `x`; remove it"))]
    #[case(json!({ "version": 1, "action": "upsert" }), Err("the event lacks the member `files`; add it"))]
    #[case(json!({ "version": 1, "action": "upsert", "files": "x" }), Err("`files` of the event must be a list"))]
    fn calls_are_read_or_explained(#[case] event: Value, #[case] expected: Result<Action, &str>) {
        match (Request::parse(&event.to_string()), expected) {
            (Ok(Request::Call(action)), Ok(expected)) => assert_eq!(action, expected),
            (Err(error), Err(message)) => assert_eq!(error.to_string(), message),
            other => panic!("{other:?}"),
        }
    }

    #[rstest]
    #[case("s3://raw/a/b.csv", Some(("raw", "a/b.csv")))]
    #[case("s3a://raw/a b+c.csv", Some(("raw", "a b+c.csv")))]
    #[case("raw/a.csv", None)]
    #[case("s3://raw", None)]
    #[case("s3://raw/", None)]
    fn files_of_a_call_are_urls(#[case] url: &str, #[case] expected: Option<(&str, &str)>) {
        let upsert = Upsert { files: vec![url.to_owned()] };
        let read = upsert.raw_files();
        let read = read.as_ref().ok().map(|files| (files[0].bucket.as_str(), files[0].key.as_str()));
        assert_eq!(read, expected);
    }

    #[test]
    fn keys_are_decoded_like_forms() {
        assert_eq!(decoded("a+b%2Bc/%C3%BC%"), "a b+c/ü%");
    }
}
