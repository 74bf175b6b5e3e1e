//! The JSON Schemas (draft 2020-12) of events and replies, generated from the types that read and write them.

use std::collections::BTreeMap;

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use super::{VERSION, dropin, statement};

/// Returns the schema files by their names in the directory `schemas`, with keys in alphabetical order, so that
/// their text is reproducible.
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
        ("hudi.event.json", with_version(of::<super::hudi::Action>("Call of the handler hudi, version 1"))),
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

/// Returns the schema of the events: that of each action, with the members that all actions have.
fn statement_event() -> Value {
    let mut generator = SchemaGenerator::default();
    let identity = generator.subschema_for::<Option<statement::Identity>>().to_value();
    let mut schema = generator.into_root_schema_for::<statement::Action>().to_value();
    schema["title"] = json!("Event of the handler statement, version 1");
    with_members(schema, &[("version", version()), ("identity", identity)])
}
