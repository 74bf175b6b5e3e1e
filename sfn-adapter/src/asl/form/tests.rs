//! Tests of the decisions of a machine, with the conditions of its choices in JSONPath.

#![allow(clippy::unwrap_used)]

use redshift_orchestrator::Pipeline;
use serde_json::{Value, json};

use super::{Form, Options, generate};
use crate::asl::{
    expr::QueryLanguage,
    mocks::choice::holds,
    model::{State, States},
};

const FORMS: [Form; 3] = [Form::Lambda, Form::Sdk, Form::Callback];

/// Returns the states of a pipeline with the step `s`.
fn of_step(more: &str, form: Form) -> States {
    let text = format!("name = \"p\"\n[[steps]]\nname = \"s\"\n{more}\n");
    let options = Options { form, query_language: QueryLanguage::JsonPath, ..Options::default() };
    generate(&Pipeline::from_toml(&text).unwrap(), &options).unwrap().machine.states
}

/// Returns the transition of a choice for this data.
fn decided(states: &States, choice: &str, data: &Value) -> String {
    let State::Choice(choice) = &states[choice] else { panic!("{choice}") };
    let mut rules = choice.choices.iter();
    let next = rules.find(|rule| holds(&json!(rule.test), data, &json!({}))).map(|rule| rule.next.clone());
    next.or(choice.default.clone()).unwrap()
}

/// Regression: the cause of a failure was the whole reply of the function, or ended in a colon.
#[test]
fn the_cause_of_a_caught_error_is_a_sentence() {
    let sql = "sql = \"SELECT 1\"";
    for form in FORMS {
        let states = of_step(sql, form);
        let next = |choice: &str, cause: &str| {
            let data = json!({"run": {"caught": {"Error": "States.Timeout", "Cause": cause}}});
            decided(&states, &format!("s: why {choice}"), &data)
        };
        for end in ["submit lost", "status lost"] {
            assert_eq!(next(end, ""), format!("s: no cause of {end}"));
            assert_eq!(next(end, "connection reset"), format!("s: {end}"));
            let text = serde_json::to_string(&states[&format!("s: {end}")]).unwrap();
            assert!(text.contains("$.run.caught.Error, $.run.caught.Cause"), "{text}");
        }
        if form != Form::Sdk {
            for end in ["refused", "submit lost", "status lost"] {
                let reply = r#"{"errorType":"SfnAdapter.Config","errorMessage":"there is no target"}"#;
                assert_eq!(next(end, reply), format!("s: read {end}"));
            }
        }
    }
    let table = "hudi = { table = \"t\", files = [\"s3://raw/x.csv\"] }";
    let states = of_step(table, Form::Sdk);
    let reply = r#"{"errorType":"Hudi.InvalidInput","errorMessage":"the file is broken"}"#;
    let data = json!({"run": {"caught": {"Error": "Hudi.InvalidInput", "Cause": reply}}});
    assert_eq!(decided(&states, "s: why failed", &data), "s: read failed");
}

/// Regression: a denied submit was reported as unknown, because the service gives this error no name.
#[test]
fn a_denied_submit_is_refused() {
    let states = of_step("sql = \"SELECT 1\"", Form::Sdk);
    let next = |error: &str, cause: &str| {
        let data = json!({"run": {"caught": {"Error": error, "Cause": cause}}});
        decided(&states, "s: why submit lost", &data)
    };
    let denied =
        "User: arn:aws:sts::1:assumed-role/r/x is not authorized to perform: redshift-data:ExecuteStatement";
    assert_eq!(next("RedshiftData.RedshiftDataException", denied), "s: refused");
    assert_eq!(next("RedshiftData.RedshiftDataException", "Rate exceeded"), "s: submit lost");
    assert_eq!(next("States.Timeout", denied), "s: submit lost");
}

/// Regression: a statement was reported as cancelled by another client if the reply to the cancel was lost.
#[test]
fn a_cancel_whose_reply_is_lost_may_have_cancelled_the_statement() {
    for form in FORMS {
        let states = of_step("sql = \"SELECT 1\"\ntimeout = \"10m\"", form);
        let next = |status: &str, member: &str| {
            let data = json!({"run": {
                "attempt": 1, "reply": {"status": status}, "clock": {"wait": 5, "waited": 600},
                member: {"Error": "e", "Cause": "c"},
            }});
            decided(&states, "s: ended", &data)
        };
        assert_eq!(next("ABORTED", "cancel_failed"), "s: timed out", "{form:?}");
        assert_eq!(next("ABORTED", "cancel"), "s: timed out", "{form:?}");
        assert_eq!(next("ABORTED", "statement"), "s: aborted", "{form:?}");
        assert_eq!(next("FAILED", "cancel"), "s: timed out", "{form:?}");
        assert_ne!(next("FAILED", "cancel_failed"), "s: timed out", "{form:?}");
    }
}

/// Regression: an aborted statement was judged by its text, and the texts of a batch were not recognised.
#[test]
fn an_event_reports_the_kind_of_a_failure() {
    let next = |work: &str, on: &str, error: &str, cause: &str| {
        let more = format!("{work}\nretry = {{ attempts = 3, on = [\"{on}\"] }}");
        let states = of_step(&more, Form::Callback);
        let data = json!({"run": {"attempt": 1, "caught": {"Error": error, "Cause": cause}}});
        decided(&states, "s: ended by event", &data) == "s: pause"
    };
    let (single, batch) = ("sql = \"SELECT 1\"", "batch = [\"SELECT 1\", \"SELECT 2\"]");
    let (aborted, failed) = ("Statement.Aborted", "Statement.Failed");
    assert!(next(single, "aborted", aborted, "the statement was cancelled, or stopped by the service"));
    assert!(!next(single, "sql", aborted, "the statement was cancelled, or stopped by the service"));
    assert!(!next(single, "serialization-conflict", aborted, "ERROR: 1023 DETAIL: x"));
    assert!(next(single, "serialization-conflict", failed, "ERROR: 1023 DETAIL: x"));
    for begin in ["Query #2 failed with ", "statement 2 of the batch: "] {
        let cause = format!("{begin}ERROR: 1023 DETAIL: x");
        assert!(next(batch, "serialization-conflict", failed, &cause), "{cause}");
        assert!(!next(batch, "sql", failed, &cause), "{cause}");
        assert!(!next(batch, "deadlock", failed, &cause), "{cause}");
    }
}
