//! Tests the rules for state machines. For each rule, one file violates it and one file satisfies it.

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

/// Returns the rules that a submit with this token and this retry violates.
fn of_submit(token: Option<&str>, attempts: u32) -> Vec<&'static str> {
    let mut arguments = serde_json::json!({ "Database": "d", "WorkgroupName": "w", "Sql": "SELECT 1" });
    if let Some(token) = token {
        arguments["ClientToken"] = token.into();
    }
    let machine = serde_json::json!({
        "StartAt": "S", "QueryLanguage": "JSONata", "TimeoutSeconds": 600, "States": {
            "S": { "Type": "Task", "Resource": "arn:aws:states:::aws-sdk:redshiftdata:executeStatement", "End": true,
                "TimeoutSeconds": 60, "Arguments": arguments,
                "Retry": [{ "ErrorEquals": ["States.ALL"], "MaxAttempts": attempts }] } } });
    rules(&machine.to_string())
}

#[test]
fn a_token_of_the_time_is_unstable_and_a_retry_without_attempts_is_none() {
    for token in ["{% $string($millis()) %}", "{% $now() %}", "{% $string($random()) %}", "{% $uuid() %}"] {
        assert!(of_submit(Some(token), 3).contains(&"unstable-token"), "{token}");
    }
    let stable = "{% $states.context.Execution.Name %}";
    assert!(!of_submit(Some(stable), 3).contains(&"unstable-token"));
    assert!(of_submit(None, 3).contains(&"retry-without-token"));
    assert!(!of_submit(None, 0).contains(&"retry-without-token"));
}

/// Regression: only a member with `token` in its name was checked, but the handler `statement` derives the
/// token from `identity`.
#[test]
fn an_identity_that_changes_with_a_retry_is_unstable() {
    let of = |language: &str, field: &str, payload: serde_json::Value| {
        let machine = serde_json::json!({
            "StartAt": "S", "QueryLanguage": language, "TimeoutSeconds": 600, "States": {
                "S": { "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": true, "TimeoutSeconds": 60,
                    (field): { "FunctionName": "f", "Payload": payload } } } });
        let findings = lint(&machine.to_string()).unwrap().into_iter();
        findings
            .filter(|finding| finding.rule == "unstable-token")
            .map(|finding| finding.pointer)
            .collect::<Vec<_>>()
    };
    let event = |action: &str, name: &str, attempt: &str| {
        serde_json::json!({ "version": 1, "action": action, "call": "load",
            "identity": { "execution": "e", "step": "s", (name): attempt } })
    };
    let unstable = event("submit", "attempt.$", "$$.State.RetryCount");
    assert_eq!(of("JSONPath", "Parameters", unstable), ["/States/S/Parameters/Payload/identity"]);
    for attempt in ["{% $states.context.State.RetryCount %}", "{% $millis() %}"] {
        let unstable = event("submit", "attempt", attempt);
        assert_eq!(
            of("JSONata", "Arguments", unstable),
            ["/States/S/Arguments/Payload/identity"],
            "{attempt}"
        );
    }
    let whole = "{% $merge([$states.input, {'action': 'submit', 'identity': {'attempt': $states.context.State.RetryCount}}]) %}";
    assert_eq!(of("JSONata", "Arguments", whole.into()), ["/States/S/Arguments/Payload"]);
    for stable in [
        event("submit", "attempt", "{% $states.input.attempt %}"),
        event("status", "attempt", "{% $states.context.State.RetryCount %}"),
    ] {
        assert_eq!(of("JSONata", "Arguments", stable), Vec::<String>::new());
    }
}

/// Regression: the reason was that of a task that waits for a year.
#[test]
fn an_invocation_without_a_timeout_ends_with_its_function() {
    let reasons = |text: &str| -> Vec<String> {
        let findings = lint(text).unwrap().into_iter().filter(|finding| finding.rule == "no-timeout");
        findings.map(|finding| finding.reason).collect()
    };
    let text = file("breaks/no-timeout.json");
    assert!(reasons(&text)[0].contains("15 minutes"));
    let other = text.replace(
        "arn:aws:lambda:eu-west-1:123456789012:function:load",
        "arn:aws:states:::aws-sdk:redshiftdata:describeStatement",
    );
    assert!(reasons(&other)[0].contains("a year"));
}

#[test]
fn the_reference_machine_has_its_known_defects() {
    let findings = lint(&file("machines/reference.json")).unwrap();
    let found: Vec<_> = findings.iter().map(|finding| (finding.rule, finding.line)).collect();
    assert_eq!(found, [("aborted", 30), ("unknown-status", 30), ("literal-path", 32), ("no-cancel", 35)]);
}

/// Returns the rules that a poll with these choices and this default violates.
fn of_choices(choices: serde_json::Value, default: &str) -> Vec<&'static str> {
    let machine = serde_json::json!({
        "StartAt": "S", "TimeoutSeconds": 600, "States": {
            "S": { "Type": "Task", "Resource": "arn:aws:states:::aws-sdk:redshiftdata:executeStatement",
                "Parameters": { "Database": "d", "Sql": "x", "ClientToken.$": "$$.Execution.Name" },
                "ResultPath": "$.s", "Next": "W" },
            "W": { "Type": "Wait", "Seconds": 30, "Next": "D" },
            "D": { "Type": "Task", "Comment": "ABORTED: we cannot cancel it",
                "Resource": "arn:aws:states:::aws-sdk:redshiftdata:describeStatement",
                "Parameters": { "Id.$": "$.s.Id" }, "ResultPath": "$.r", "Next": "C" },
            "C": { "Type": "Choice", "Comment": "ABORTED", "Choices": choices, "Default": default },
            "Ok": { "Type": "Succeed" }, "F": { "Type": "Fail", "ErrorPath": "$.r.Status" } } });
    rules(&machine.to_string()).into_iter().filter(|rule| *rule != "unreachable-state").collect()
}

#[test]
fn each_status_is_followed_through_the_rules_of_a_choice() {
    let rule = |status: &str, next: &str| serde_json::json!({ "Variable": "$.r.Status", "StringEquals": status, "Next": next });
    let no_cancel = "no-cancel";
    let is_unknown = "unknown-status";
    let cases = [
        (serde_json::json!([rule("FINISHED", "Ok")]), "W", vec!["aborted", "aborted", is_unknown, no_cancel]),
        (
            serde_json::json!([rule("FINISHED", "Ok"), rule("FAILED", "F"), rule("ABORTED", "W")]),
            "F",
            vec!["aborted", no_cancel],
        ),
        (
            serde_json::json!([{ "Not": { "Variable": "$.r.Status", "StringEquals": "FINISHED" }, "Next": "W" }]),
            "Ok",
            vec!["aborted", "aborted", is_unknown, no_cancel],
        ),
        (
            serde_json::json!([
                { "Variable": "$.r.Status", "StringMatches": "F*", "Next": "Ok" },
                { "Variable": "$.r.Status", "StringMatches": "*T*", "Next": "W" },
            ]),
            "W",
            vec!["aborted", is_unknown, no_cancel],
        ),
        // A counter ends the loop in time.
        (
            serde_json::json!([
                rule("FINISHED", "Ok"), { "Variable": "$.n", "NumericGreaterThan": 9, "Next": "F" },
            ]),
            "W",
            vec![no_cancel],
        ),
        (
            serde_json::json!([
                rule("FINISHED", "Ok"),
                { "Or": [rule("STARTED", "x"), rule("PICKED", "x"), rule("SUBMITTED", "x")], "Next": "W" },
            ]),
            "F",
            vec![no_cancel],
        ),
    ];
    for (choices, default, expected) in cases {
        let mut found = of_choices(choices.clone(), default);
        found.sort_unstable();
        let mut expected = expected;
        expected.sort_unstable();
        assert_eq!(found, expected, "{choices:#}");
    }
}

#[test]
fn a_step_name_that_reads_as_an_expression_has_no_findings() {
    let text = "name = \"p\"\n[parameters.d]\n[[steps]]\nname = '{% $x %}'\nsql = \"SELECT '{% $y %}', :d\"\n\
                parameters = { d = \"${d}\" }\n[[steps]]\nname = '$.a'\nsql = \"$.b\"\n[[steps]]\nname = 'a\\b'\nsql = 'SELECT 1'\n";
    let pipeline = Pipeline::from_toml(text).unwrap();
    for form in [Form::Lambda, Form::Sdk, Form::Callback] {
        for language in [QueryLanguage::Jsonata, QueryLanguage::JsonPath] {
            let mut options = Options::default();
            options.form = form;
            options.query_language = language;
            let text = generate(&pipeline, &options).unwrap().machine.to_json();
            assert_eq!(lint(&text).unwrap(), [], "{form:?} {language:?}");
            if language == QueryLanguage::Jsonata {
                let is_evaluated = |line: &&str| {
                    !line.contains("Comment") && (line.contains("$x %}") || line.contains("$y %}"))
                };
                assert_eq!(text.lines().find(is_evaluated), None, "{form:?}");
            }
        }
    }
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
fn values_that_the_service_rejects_are_found() {
    let state = |state: &str, more: &str| {
        format!(r#"{{"StartAt": "A", "States": {{"A": {state}, "B": {{"Type": "Succeed"}}{more}}}}}"#)
    };
    let task =
        r#""Type": "Task", "Resource": "arn:aws:lambda:eu-west-1:123456789012:function:f", "Next": "B""#;
    let cases = [
        (state(&format!(r#"{{{task}, "TimeoutSeconds": 0}}"#), ""), "timeout"),
        (state(&format!(r#"{{{task}, "TimeoutSeconds": 9, "TimeoutSecondsPath": "$.t"}}"#), ""), "timeout"),
        (state(r#"{"Type": "Parallel", "Branches": [], "Next": "B"}"#, ""), "required-field"),
        (state(r#"{"Type": "Wait", "Seconds": "30", "Next": "B"}"#, ""), "wait-time"),
        (state(r#"{"Type": "Wait", "Seconds": -1, "Next": "B"}"#, ""), "wait-time"),
        (
            state(r#"{"Type": "Choice", "Choices": [{"Variable": "$.a", "Next": "B"}], "Default": "B"}"#, ""),
            "required-field",
        ),
        (
            state(
                r#"{"Type": "Choice", "Choices": [{"Variable": "$.a", "StringIs": "x", "Next": "B"}], "Default": "B"}"#,
                "",
            ),
            "unknown-field",
        ),
        (state(r#"{"Type": "Pass", "Next": "B"}"#, r#", "B": {"Type": "Fail"}"#), "repeated-name"),
    ];
    for (text, rule) in cases {
        assert_eq!(rules(&text), [rule], "{text}");
    }
    let machine = state(r#"{"Type": "Pass", "Next": "B"}"#, "");
    assert_eq!(lint(&format!("\u{feff}{machine}")).unwrap(), [], "a byte order mark is no mistake");
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
