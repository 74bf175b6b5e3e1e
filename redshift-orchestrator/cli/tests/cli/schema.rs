//! Tests the JSON Schema of pipeline files. It must equal the file in the repository, accept every valid
//! definition, and reject invalid definitions as far as a schema can.

use redshift_orchestrator::{
    Pipeline,
    pipeline::{json_schema, schema_file},
};
use serde_json::{Value, json};

use crate::support::{PIPELINE, Stage, repository};

fn value(toml: &str) -> Value {
    toml::from_str::<Value>(toml).unwrap()
}

#[test]
fn the_schema_in_the_repository_equals_the_printed_one() {
    let path = repository("docs/pipeline.schema.json");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, schema_file()).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap();
    assert_eq!(kept, schema_file(), "the file is out of date; run this test with UPDATE_SCHEMA=1");
    let printed = Stage::without_emulator(PIPELINE).call(&["schema"]);
    assert_eq!(printed.out, kept);
}

#[test]
fn every_pipeline_in_the_repository_matches_the_schema() {
    let schema = json_schema();
    let guide = std::fs::read_to_string(repository("docs/pipelines.md")).unwrap();
    let examples = guide.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    let mut texts: Vec<_> = examples.filter(|text| text.contains("[[steps]]")).collect();
    assert!(!texts.is_empty());
    for path in ["examples/mystore/cycle.toml", "redshift-orchestrator/tests/data/cycle.toml"] {
        texts.push(std::fs::read_to_string(repository(path)).unwrap());
    }
    texts.push(PIPELINE.to_owned());
    for text in texts {
        assert_eq!(problems(&schema, &schema, &value(&text)), Vec::<String>::new(), "{text}");
        if !text.contains("file = ") {
            Pipeline::from_toml(&text).unwrap();
        }
    }
}

#[test]
fn the_schema_rejects_invalid_pipelines() {
    let schema = json_schema();
    let step = |lines: &str| format!("name = \"p\"\n[[steps]]\nname = \"a\"\nsql = \"SELECT 1\"\n{lines}");
    for broken in [
        step("tiemout = \"2m\""),
        step("timeout = 2"),
        step("timeout = \"for ever\""),
        step("on_failure = \"panic\""),
        step("retry = { attempts = 0 }"),
        step("retry = { attempts = 2, on = [\"serialisation-conflict\"] }"),
        step("retry = { on = [\"sql\"] }"),
        step("call = \"load()\""),
        step("after = \"b\""),
        step("tags = [1]"),
        step("parameters = { a = [1] }"),
        step("execution_mode = \"autocommit\""),
        step("\n[parameters.day]\nrequired = true"),
        step("\n[target]\ncluster = \"a\""),
        step("\n[target]\ncluster = \"a\"\nworkgroup = \"b\"\ndatabase = \"c\""),
        "concurrency = 0\n".to_owned() + &step(""),
        "overlap = \"maybe\"\n".to_owned() + &step(""),
        "name = \"p\"\nsteps = []".to_owned(),
        "name = \"p\"".to_owned(),
        "name = \"p\"\n[[steps]]\nname = \"a\"".to_owned(),
        "name = \"p\"\n[[steps]]\nname = \"a\"\nbatch = []".to_owned(),
        "[[steps]]\nname = \"a\"\nsql = \"SELECT 1\"".to_owned(),
    ] {
        assert!(Pipeline::from_toml(&broken).is_err(), "{broken}");
        assert_ne!(problems(&schema, &schema, &value(&broken)), Vec::<String>::new(), "{broken}");
    }
}

/// Lists the violations of `schema` in `value`. Only supports the keywords that the schema uses; any
/// other keyword fails the test.
fn problems(root: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let Some(schema) = schema.as_object() else {
        return if *schema == json!(false) { vec![format!("{value} is not allowed")] } else { found };
    };
    for (keyword, argument) in schema {
        let fits = |part: &Value| problems(root, part, value).is_empty();
        let parts = || argument.as_array().unwrap().iter();
        let ok = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "default" | "examples" | "format" => true,
            "$ref" => {
                let target = root.pointer(argument.as_str().unwrap().trim_start_matches('#')).unwrap();
                found.extend(problems(root, target, value));
                true
            }
            "type" => match argument {
                Value::Array(types) => types.iter().any(|name| has_type(value, name)),
                name => has_type(value, name),
            },
            "enum" => parts().any(|one| one == value),
            "const" => argument == value,
            "oneOf" => parts().filter(|part| fits(part)).count() == 1,
            "anyOf" => parts().any(fits),
            "required" => value
                .as_object()
                .is_none_or(|object| parts().all(|key| object.contains_key(key.as_str().unwrap()))),
            "properties" => {
                for (key, part) in argument.as_object().unwrap() {
                    found.extend(value.get(key).map_or_else(Vec::new, |value| problems(root, part, value)));
                }
                true
            }
            "additionalProperties" => {
                let known = schema.get("properties").and_then(Value::as_object);
                for (key, value) in value.as_object().into_iter().flatten() {
                    if known.is_none_or(|known| !known.contains_key(key)) {
                        found.extend(problems(root, argument, value));
                    }
                }
                true
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    found.extend(problems(root, argument, item));
                }
                true
            }
            "minItems" => {
                value.as_array().is_none_or(|items| items.len() as u64 >= argument.as_u64().unwrap())
            }
            "maxItems" => {
                value.as_array().is_none_or(|items| items.len() as u64 <= argument.as_u64().unwrap())
            }
            "minimum" => value.as_f64().is_none_or(|number| number >= argument.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= argument.as_f64().unwrap()),
            "pattern" => {
                assert_eq!(argument, "[0-9]");
                value.as_str().is_none_or(|text| text.contains(|letter: char| letter.is_ascii_digit()))
            }
            other => panic!("this test does not support the keyword `{other}`"),
        };
        if !ok {
            found.push(format!("{value} violates {keyword}: {argument}"));
        }
    }
    found
}

fn has_type(value: &Value, name: &Value) -> bool {
    match name.as_str().unwrap() {
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("{other} is not a type"),
    }
}
