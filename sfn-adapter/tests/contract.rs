//! Checks that the schema files match the types, and that the types can read the fixtures.

#![cfg(all(feature = "schema", feature = "callback", feature = "glue", feature = "hudi"))]
#![allow(clippy::unwrap_used)]

use std::{env, fs, path::PathBuf, time::Duration};

use redshift_data_local::{LocalExecutor, Script, ScriptedExecution};
use serde_json::{Value, json};
use sfn_adapter::{
    Error, Invocation,
    contract::{callback, dropin, glue, hudi, schema, statement},
    handler,
};

fn folder(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), name].iter().collect()
}

/// Returns the fixtures of this handler and kind.
fn fixtures(handler: &str, kind: &str) -> Vec<(String, String)> {
    let files = fs::read_dir(folder("fixtures")).unwrap().map(|file| file.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let files = files.filter(|path| name(path).starts_with(handler) && name(path).ends_with(kind));
    let found: Vec<_> = files.map(|path| (name(&path), fs::read_to_string(path).unwrap())).collect();
    assert!(!found.is_empty(), "no fixture {handler}*{kind}");
    found
}

#[test]
fn schema_files_are_those_of_the_types() {
    for (name, schema) in schema::files() {
        let path = folder("schemas").join(name);
        if env::var_os("UPDATE_SCHEMAS").is_some() {
            fs::write(&path, &schema).unwrap();
        }
        let file = fs::read_to_string(&path).unwrap_or_default();
        assert!(file == schema, "schemas/{name} is outdated; run this test with UPDATE_SCHEMAS=1");
    }
}

/// Returns `true` if a value is valid by a schema. Supports only the keywords that the schema files use.
fn is_valid(schema: &Value, value: &Value, root: &Value) -> bool {
    let any = |name: &str| {
        schema[name].as_array().map(|schemas| schemas.iter().filter(|s| is_valid(s, value, root)).count())
    };
    let length =
        || value.as_str().map(|text| text.chars().count()).or_else(|| value.as_array().map(Vec::len));
    let at_least = |limit: &Value, figure: Option<f64>| {
        figure.zip(limit.as_f64()).is_none_or(|(figure, limit)| figure >= limit)
    };
    schema.as_object().into_iter().flatten().all(|(keyword, rule)| match keyword.as_str() {
        "$ref" => {
            is_valid(root.pointer(rule.as_str().unwrap().trim_start_matches('#')).unwrap(), value, root)
        }
        "anyOf" => any("anyOf") > Some(0),
        "not" => !is_valid(rule, value, root),
        "if" => !is_valid(rule, value, root) || is_valid(&schema["then"], value, root),
        "then" => true,
        "pattern" => value.as_str().is_none_or(|text| match rule.as_str().unwrap() {
            r"\S" => !text.trim().is_empty(),
            r"^\s*[Cc][Aa][Ll][Ll](\s|$)" => {
                text.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("CALL"))
            }
            r"^s3a?://[^/]+/[\s\S]" => {
                let rest = text.strip_prefix("s3://").or_else(|| text.strip_prefix("s3a://"));
                let parts = rest.and_then(|rest| rest.split_once('/'));
                parts.is_some_and(|(bucket, key)| !bucket.is_empty() && !key.is_empty())
            }
            other => panic!("{other}"),
        }),
        "oneOf" => any("oneOf") == Some(1),
        "const" => value == rule || (value.as_f64().is_some() && value.as_f64() == rule.as_f64()),
        "enum" => rule.as_array().unwrap().contains(value),
        "type" => {
            let types = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
            types.iter().any(|name| match name.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "null" => value.is_null(),
                "number" => value.is_number(),
                // JSON Schema does not distinguish 1 from 1.0.
                "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
                other => panic!("{other}"),
            })
        }
        "required" => {
            let has = |name: &Value| value.get(name.as_str().unwrap()).is_some();
            !value.is_object() || rule.as_array().unwrap().iter().all(has)
        }
        "properties" => rule
            .as_object()
            .unwrap()
            .iter()
            .all(|(name, schema)| value.get(name).is_none_or(|value| is_valid(schema, value, root))),
        "additionalProperties" => {
            let known = |name: &String| schema["properties"].get(name).is_some();
            let mut others = value.as_object().into_iter().flatten().filter(|(name, _)| !known(name));
            others.all(|(_, value)| rule != &Value::Bool(false) && is_valid(rule, value, root))
        }
        "items" => value.as_array().into_iter().flatten().all(|item| is_valid(rule, item, root)),
        "minimum" => at_least(rule, value.as_f64()),
        "maximum" => value.as_f64().zip(rule.as_f64()).is_none_or(|(figure, limit)| figure <= limit),
        "minItems" | "minLength" => length().is_none_or(|length| length as u64 >= rule.as_u64().unwrap()),
        "maxItems" | "maxLength" => length().is_none_or(|length| length as u64 <= rule.as_u64().unwrap()),
        "$defs" | "$schema" | "default" | "description" | "format" | "title" => true,
        other => panic!("{other}"),
    })
}

#[test]
fn the_fixtures_are_valid_by_the_schemas() {
    let mut checked = 0;
    for (name, schema) in schema::files() {
        let schema: Value = serde_json::from_str(&schema).unwrap();
        let (handler, kind) = name.trim_end_matches(".json").split_once('.').unwrap();
        let named = if name == "hudi.event.json" {
            vec![format!(".{kind}.json"), ".messages.json".to_owned()]
        } else {
            vec![format!(".{kind}.json")]
        };
        for (fixture, text) in named.iter().flat_map(|ending| fixtures(&format!("{handler}."), ending)) {
            let value: Value = serde_json::from_str(&text).unwrap();
            assert!(is_valid(&schema, &value, &schema), "{fixture} by {name}");
            checked += 1;
        }
        for wrong in [serde_json::json!({}), serde_json::json!({ "version": 2, "action": "upsert" })] {
            assert!(!is_valid(&schema, &wrong, &schema), "{name}");
        }
    }
    assert!(checked > 30, "{checked}");
}

/// Values that replace each member of each fixture in turn.
fn hostile() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(""),
        json!(" \n"),
        json!("x"),
        json!("call load()"),
        json!("x".repeat(300)),
        json!("x".repeat(3_000)),
        json!(0),
        json!(1),
        json!(-1),
        json!(2.0),
        json!(2.5),
        json!(301),
        json!(86_400),
        json!(86_401),
        json!(999_999),
        json!(1_u64 << 32),
        json!(1e300),
        json!([]),
        json!([""]),
        json!(["x"]),
        json!([7]),
        json!({}),
        json!({ "unknown": 1 }),
    ]
}

/// Returns variants of an event: each member is removed or replaced, at each depth, and a member is added.
fn variants(event: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    let Some(members) = event.as_object() else { return hostile() };
    let with = |name: &str, value: Option<Value>| {
        let mut changed = members.clone();
        changed.remove(name);
        changed.extend(value.map(|value| (name.to_owned(), value)));
        Value::Object(changed)
    };
    for (name, value) in members {
        all.push(with(name, None));
        all.extend(hostile().into_iter().map(|value| with(name, Some(value))));
        if value.is_object() {
            all.extend(variants(value).into_iter().map(|value| with(name, Some(value))));
        }
    }
    for name in [
        "unknown",
        "sql",
        "batch",
        "call",
        "id",
        "token",
        "identity",
        "session_keep_alive_seconds",
        "wait_seconds",
        "poll_seconds",
        "execution_mode",
        "target",
        "database_user",
        "secret",
        "workgroup",
        "cluster",
    ] {
        all.extend(hostile().into_iter().map(|value| with(name, Some(value))));
    }
    all
}

/// Runs an event through the handler `statement`, and returns the message if the handler rejects it.
async fn refused(event: &str) -> Option<String> {
    let script = Script::new().otherwise(ScriptedExecution::finished(Duration::from_secs(1)));
    let service = LocalExecutor::scripted(script);
    let invocation = Invocation::new("r-1", Duration::from_secs(5));
    match handler::statement(&service, &service, &invocation, event).await {
        Err(Error::BadInput(message)) => Some(message),
        _ => None,
    }
}

/// Messages about relations between members that a schema cannot express.
const OF_SQL: [&str; 5] =
    ["placeholder", "parameter `", "`page` is not valid", "commits or ends", "`task_token` is not"];

/// Regression: the schema and the handler disagreed on an empty call, a submit without a token, an empty id,
/// a long session, `null` and whole numbers such as 1.0.
#[tokio::test(start_paused = true)]
async fn the_schema_of_a_statement_and_the_handler_accept_the_same_events() {
    let schema: Value = serde_json::from_str(&schema::files()["statement.event.json"]).unwrap();
    let (mut accepted, mut rejected) = (0, 0);
    for (name, text) in fixtures("statement.", ".event.json") {
        let event: Value = serde_json::from_str(&text).unwrap();
        for event in std::iter::once(event.clone()).chain(variants(&event)) {
            let message = refused(&event.to_string()).await;
            let valid = is_valid(&schema, &event, &schema);
            let is_relation = message.as_ref().is_some_and(|text| OF_SQL.iter().any(|of| text.contains(of)));
            assert!(
                valid == message.is_none() || (valid && is_relation),
                "{name}: valid is {valid}, {message:?}: {event}"
            );
            accepted += u32::from(message.is_none());
            rejected += u32::from(!valid);
        }
    }
    assert!(accepted > 500 && rejected > 2_000, "{accepted} {rejected}");
}

#[test]
fn the_schemas_of_calls_and_the_handlers_accept_the_same_events() {
    type Parse = fn(&str) -> Result<(), Error>;
    let handlers: [(&str, &str, Parse); 2] = [
        ("glue.", "glue.event.json", |event| glue::Action::parse(event).map(drop)),
        ("hudi.", "hudi.event.json", |event| match hudi::Request::parse(event)? {
            hudi::Request::Call(hudi::Action::Upsert(upsert)) => upsert.raw_files().map(drop),
            _ => Ok(()),
        }),
    ];
    for (handler, file, parse) in handlers {
        let schema: Value = serde_json::from_str(&schema::files()[file]).unwrap();
        for (name, text) in fixtures(handler, ".event.json") {
            let event: Value = serde_json::from_str(&text).unwrap();
            // AWS itself sends the other events.
            if !event["action"].is_string() {
                continue;
            }
            for event in std::iter::once(event.clone()).chain(variants(&event)) {
                let parsed = parse(&event.to_string());
                let valid = is_valid(&schema, &event, &schema);
                assert_eq!(valid, parsed.is_ok(), "{name}: {parsed:?}: {event}");
            }
        }
    }
}

#[test]
fn events_and_replies_of_the_fixtures_survive_a_round_trip() {
    for (name, text) in fixtures("statement.", ".event.json") {
        let request = statement::Request::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        if let statement::Action::Submit(submit) = &request.action {
            submit.statement().unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert_eq!(
            serde_json::to_value(&request).unwrap(),
            serde_json::from_str::<Value>(&text).unwrap(),
            "{name}"
        );
    }
    for (name, text) in fixtures("statement.", ".reply.json") {
        let reply: statement::Reply = serde_json::from_str(&text).unwrap();
        assert_eq!(
            serde_json::to_value(&reply).unwrap(),
            serde_json::from_str::<Value>(&text).unwrap(),
            "{name}"
        );
    }
    for (name, text) in fixtures("callback.", ".reply.json") {
        let reply: callback::Reply = serde_json::from_str(&text).unwrap();
        assert_eq!(
            serde_json::to_value(&reply).unwrap(),
            serde_json::from_str::<Value>(&text).unwrap(),
            "{name}"
        );
    }
    for (name, text) in fixtures("hudi.", ".event.json") {
        let request = hudi::Request::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        if let hudi::Request::Call(action) = request {
            let mut expected: Value = serde_json::from_str(&text).unwrap();
            expected.as_object_mut().unwrap().remove("version");
            assert_eq!(serde_json::to_value(&action).unwrap(), expected, "{name}");
        }
    }
    for (name, text) in fixtures("hudi.", ".reply.json") {
        let reply: hudi::Reply = serde_json::from_str(&text).unwrap();
        assert_eq!(
            serde_json::to_value(&reply).unwrap(),
            serde_json::from_str::<Value>(&text).unwrap(),
            "{name}"
        );
    }
    for (name, text) in fixtures("glue.", ".event.json") {
        let action = glue::Action::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut expected: Value = serde_json::from_str(&text).unwrap();
        expected.as_object_mut().unwrap().remove("version");
        assert_eq!(serde_json::to_value(&action).unwrap(), expected, "{name}");
    }
    for (name, text) in fixtures("glue.", ".reply.json") {
        let reply: glue::Reply = serde_json::from_str(&text).unwrap();
        assert_eq!(
            serde_json::to_value(&reply).unwrap(),
            serde_json::from_str::<Value>(&text).unwrap(),
            "{name}"
        );
    }
    for (name, text) in fixtures("redshift.", ".event.json") {
        dropin::Request::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
