//! The schema files are those of the types, and the fixtures are read by them.

#![cfg(all(feature = "schema", feature = "callback", feature = "glue", feature = "hudi"))]
#![allow(clippy::unwrap_used)]

use std::{env, fs, path::PathBuf};

use serde_json::Value;
use sfn_adapter::contract::{callback, dropin, glue, hudi, schema, statement};

fn folder(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), name].iter().collect()
}

/// Returns the fixtures whose names begin and end like this.
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
