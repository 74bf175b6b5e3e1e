//! JSON Schema of pipeline files, with which editors complete and check a file.

use std::{borrow::Cow, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{
    definition::Definition,
    value::{Scalar, Text},
};

/// Returns the JSON Schema (draft 2020-12) of pipeline files. The schema is generated from the types that
/// files are parsed into. Conditions that a schema cannot express, such as unknown steps in `after`, cycles
/// and placeholders without values, are checked only when a file is read.
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(Definition).to_value()
}

/// Returns the text of the schema file. Keys are in alphabetical order, so that the text is reproducible.
pub fn schema_file() -> String {
    let mut schema = json_schema();
    schema.sort_all_objects();
    format!("{schema:#}\n")
}

impl JsonSchema for Text<Duration> {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration, such as `90s`, `10m` or `1h 30m`.",
            "type": "string",
            "pattern": "[0-9]",
            "examples": ["90s", "10m", "1h 30m"],
        })
    }
}

impl JsonSchema for Scalar {
    fn schema_name() -> Cow<'static, str> {
        "Value".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A value; the service receives it as text, and the database casts it to the type that the SQL requires.",
            "type": ["string", "number", "boolean"],
        })
    }
}
