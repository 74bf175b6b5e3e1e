//! The rules for state machines: each has a file that breaks it and one that keeps it.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fs, path::PathBuf};

use redshift_orchestrator::Pipeline;
use sfn_adapter::asl::{Form, Options, QueryLanguage, RULES, Severity, generate, lint};

fn file(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/lint").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn rules(text: &str) -> Vec<&'static str> {
    lint(text).unwrap().into_iter().map(|finding| finding.rule).collect()
}

#[test]
fn each_rule_has_a_file_that_breaks_it_and_one_that_keeps_it() {
    let ids: BTreeSet<_> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(ids.len(), RULES.len());
    for rule in RULES {
        let broken = rules(&file(&format!("breaks/{}.json", rule.id)));
        assert!(broken.contains(&rule.id), "{}: {broken:?}", rule.id);
        let kept = lint(&file(&format!("keeps/{}.json", rule.id))).unwrap();
        assert_eq!(kept, [], "{}", rule.id);
    }
}

#[test]
fn a_finding_has_a_place_a_reason_and_a_fix() {
    for rule in RULES {
        let text = file(&format!("breaks/{}.json", rule.id));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        for finding in lint(&text).unwrap() {
            assert!(value.pointer(&finding.pointer).is_some(), "{finding:?}");
            assert!((1..=text.lines().count()).contains(&finding.line), "{finding:?}");
            assert!(!finding.reason.is_empty() && !finding.fix.is_empty(), "{finding:?}");
        }
    }
}

#[test]
fn the_reference_machine_has_its_known_defects() {
    let findings = lint(&file("machines/reference.json")).unwrap();
    let found: Vec<_> = findings.iter().map(|finding| (finding.rule, finding.line)).collect();
    assert_eq!(found, [("aborted", 30), ("unknown-status", 30), ("literal-path", 32), ("no-cancel", 35),]);
}

#[test]
fn generated_machines_have_no_findings() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/asl/pipelines");
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let pipeline = Pipeline::from_toml_file(&path).unwrap();
        for form in [Form::Lambda, Form::Sdk, Form::Callback] {
            for language in [QueryLanguage::Jsonata, QueryLanguage::JsonPath] {
                let mut options = Options::default();
                options.form = form;
                options.query_language = language;
                let text = generate(&pipeline, &options).unwrap().machine.to_json();
                assert_eq!(lint(&text).unwrap(), [], "{} {form:?} {language:?}", path.display());
            }
        }
    }
}

#[test]
fn any_json_has_an_answer() {
    for text in
        ["[]", "1", "{}", r#"{"States": 3}"#, r#"{"StartAt": 1, "States": {"A": 1, "B": {"Type": []}}}"#]
    {
        let findings = lint(text).unwrap();
        assert!(findings.iter().any(|finding| finding.severity == Severity::Error), "{text}");
    }
    assert!(lint("{").is_err());
}

#[test]
fn the_guide_lists_every_rule() {
    let guide = file("../../../docs/state-machines.md");
    for rule in RULES {
        let warning = if rule.severity == Severity::Warning { " (warning)" } else { "" };
        let row = format!("| `{}`{warning} | {} |", rule.id, rule.finds);
        assert!(guide.contains(&row), "{row}");
    }
}
