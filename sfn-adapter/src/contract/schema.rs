//! JSON Schemas (draft 2020-12) of events and replies, generated from the types that read and write them.

use std::collections::BTreeMap;

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use super::{VERSION, dropin, statement};

/// Returns the schema files by their names in the directory `schemas`. Keys are in alphabetical order, so
/// that the files are reproducible.
pub fn files() -> BTreeMap<&'static str, String> {
    let files = BTreeMap::from([
        ("redshift.reply.json", of::<dropin::Reply>("Reply of the handler redshift")),
        ("statement.event.json", statement_event()),
        ("statement.reply.json", of::<statement::Reply>("Reply of the handler statement, version 1")),
        #[cfg(feature = "glue")]
        ("glue.event.json", with_version(of::<super::glue::Action>("Event of the handler glue, version 1"))),
        #[cfg(feature = "glue")]
        ("glue.reply.json", of::<super::glue::Reply>("Reply of the handler glue, version 1")),
        #[cfg(feature = "hudi")]
        ("hudi.event.json", hudi_event()),
        #[cfg(feature = "hudi")]
        ("hudi.reply.json", of::<super::hudi::Reply>("Reply of the handler hudi, version 1")),
        #[cfg(feature = "callback")]
        ("callback.reply.json", of::<super::callback::Reply>("Reply of the handler callback, version 1")),
    ]);
    let text = |mut schema: Value| {
        schema.sort_all_objects();
        format!("{schema:#}\n")
    };
    files.into_iter().map(|(name, schema)| (name, text(schema))).collect()
}

fn of<T: JsonSchema>(title: &str) -> Value {
    let mut schema = SchemaGenerator::default().into_root_schema_for::<T>().to_value();
    schema["title"] = json!(title);
    schema
}

/// Adds the version to each action.
#[cfg(any(feature = "glue", feature = "hudi"))]
fn with_version(schema: Value) -> Value {
    with_members(schema, &[("version", version())])
}

fn version() -> Value {
    json!({ "const": VERSION, "description": "Version of the contract." })
}

/// Adds members to each action; `version` is required.
fn with_members(mut schema: Value, members: &[(&str, Value)]) -> Value {
    schema["description"] = json!("An action with its members.");
    for action in schema["oneOf"].as_array_mut().into_iter().flatten() {
        for (name, member) in members {
            action["properties"][*name] = member.clone();
        }
        if let Some(required) = action["required"].as_array_mut() {
            required.push(json!("version"));
        }
    }
    schema
}

/// Returns the schema of the events: one for each action, and one for each envelope with the members that the
/// handler reads.
#[cfg(feature = "hudi")]
fn hudi_event() -> Value {
    let mut schema = with_version(of::<super::hudi::Action>("Event of the handler hudi, version 1"));
    schema["description"] = json!("An action with its members, or an event of S3, EventBridge or SQS.");
    let text = || json!({ "type": "string" });
    let object = |members: Value| {
        let required: Vec<&String> =
            members.as_object().into_iter().flat_map(|members| members.keys()).collect();
        json!({ "type": "object", "required": required, "properties": members })
    };
    let with = |mut schema: Value, description: &str| {
        schema["description"] = json!(description);
        schema
    };
    let file =
        json!({ "bucket": object(json!({ "name": text() })), "object": object(json!({ "key": text() })) });
    let records = |record: Value| object(json!({ "Records": { "type": "array", "items": record } }));
    let s3 = records(object(json!({ "eventName": text(), "s3": object(file) })));
    let sqs = records(object(json!({ "messageId": text(), "body": text() })));
    let event_bridge =
        object(json!({ "source": text(), "detail-type": text(), "detail": { "type": "object" } }));
    let test = object(json!({ "Event": { "const": "s3:TestEvent" } }));
    let calls = schema["oneOf"].take();
    let events = [
        json!({ "oneOf": calls }),
        with(s3, "Event of S3. Files of events other than `ObjectCreated:` are ignored."),
        with(event_bridge, "Event of EventBridge. Only `Object Created` of `aws.s3` names a file."),
        with(sqs, "Messages of SQS, whose bodies are events of S3 or EventBridge."),
        with(test, "Event that S3 sends when a notification is set up."),
    ];
    if let Some(members) = schema.as_object_mut() {
        members.remove("oneOf");
        members.insert("anyOf".to_owned(), json!(events));
    }
    schema
}

/// Returns the schema of the events: one for each action, with the members that all actions have.
fn statement_event() -> Value {
    let mut generator = SchemaGenerator::default();
    let identity = generator.subschema_for::<Option<statement::Identity>>().to_value();
    let mut schema = generator.into_root_schema_for::<statement::Action>().to_value();
    schema["title"] = json!("Event of the handler statement, version 1");
    with_members(schema, &[("version", version()), ("identity", identity)])
}
