//! Checks values that the service rejects when a state machine is created.

use serde_json::Value;

use super::{Report, StateRef};

/// Maximum duration of a wait in seconds.
const LONGEST: u64 = 99_999_999;

pub(super) fn check(state: &StateRef<'_>, report: &mut Report<'_>) {
    for field in ["TimeoutSeconds", "HeartbeatSeconds"] {
        time_limit(state, field, report);
    }
    for (kind, field) in [("Parallel", "Branches"), ("Choice", "Choices")] {
        if state.is(kind) && state.object.get(field).and_then(Value::as_array).is_some_and(Vec::is_empty) {
            report.at(
                "required-field",
                state,
                field,
                format!("{field} is empty"),
                "add an entry, or remove the state",
            );
        }
    }
    if state.is("Wait")
        && let Some(seconds) = state.object.get("Seconds")
        && !is_number_from(0, seconds)
        && !is_expression(state, seconds)
    {
        report.at(
            "wait-time",
            state,
            "Seconds",
            format!("Seconds is {seconds}, and must be a whole number of 0 to {LONGEST}"),
            "write a number without quotes, or SecondsPath for a member of the input",
        );
    }
    if state.is("Choice") {
        for (number, rule) in state.list("Choices").iter().enumerate() {
            let path = format!("Choices/{number}");
            if rule.get("Next").is_none() {
                report.at("required-field", state, &path, "the rule has no Next", "add the next state");
            }
            self::rule(state, rule, &path, report);
        }
    }
}

fn time_limit(state: &StateRef<'_>, field: &str, report: &mut Report<'_>) {
    let Some(limit) = state.object.get(field) else { return };
    let path = format!("{field}Path");
    if state.object.contains_key(&path) {
        report.at(
            "timeout",
            state,
            field,
            format!("the state has both {field} and {path}"),
            "remove one of them",
        );
    }
    if !is_number_from(1, limit) && !is_expression(state, limit) {
        report.at(
            "timeout",
            state,
            field,
            format!("{field} is {limit}, and must be a whole number of 1 to {LONGEST}"),
            "write a number without quotes, or leave the field out",
        );
    }
}

fn is_number_from(least: u64, value: &Value) -> bool {
    value.as_u64().is_some_and(|number| (least..=LONGEST).contains(&number))
}

fn is_expression(state: &StateRef<'_>, value: &Value) -> bool {
    // Another rule finds an expression without `{%` and `%}`. A substitution may become a number.
    value.as_str().is_some_and(|text| text.contains("${") || (state.is_jsonata && text.contains(['{', '$'])))
}

fn rule(state: &StateRef<'_>, rule: &Value, path: &str, report: &mut Report<'_>) {
    let Some(members) = rule.as_object() else {
        return report.at("required-field", state, path, "the rule is not an object", "write an object");
    };
    if state.is_jsonata {
        if !members.contains_key("Condition") && !members.contains_key("Variable") {
            report.at("required-field", state, path, "the rule has no Condition", "add a Condition");
        }
        return;
    }
    if members.contains_key("Condition") {
        // The field belongs to the other query language.
        return;
    }
    for name in ["And", "Or"] {
        let inner = members.get(name).and_then(Value::as_array).into_iter().flatten().enumerate();
        inner
            .for_each(|(number, inner)| self::rule(state, inner, &format!("{path}/{name}/{number}"), report));
    }
    if let Some(inner) = members.get("Not") {
        self::rule(state, inner, &format!("{path}/Not"), report);
    }
    let own = ["Next", "Variable", "Comment", "Assign", "Output", "And", "Or", "Not"];
    let mut operators = 0;
    for name in members.keys().filter(|name| !own.contains(&name.as_str())) {
        operators += 1;
        if !is_operator(name) {
            report.at(
                "unknown-field",
                state,
                &format!("{path}/{}", super::source::escaped(name)),
                format!("there is no comparison {name}"),
                "write one such as StringEquals, NumericLessThan or IsPresent",
            );
        }
    }
    let is_combined = ["And", "Or", "Not"].iter().any(|name| members.contains_key(*name));
    if !is_combined && (operators == 0 || !members.contains_key("Variable")) {
        report.at(
            "required-field",
            state,
            path,
            "the rule compares nothing",
            "add Variable and a comparison, or And, Or or Not",
        );
    }
}

fn is_operator(name: &str) -> bool {
    let tests = ["StringMatches", "IsNull", "IsPresent", "IsNumeric", "IsString", "IsBoolean", "IsTimestamp"];
    let comparison = || {
        let name = name.strip_suffix("Path").unwrap_or(name);
        let kinds = ["String", "Numeric", "Timestamp"];
        let comparisons = ["Equals", "LessThan", "GreaterThan", "LessThanEquals", "GreaterThanEquals"];
        name == "BooleanEquals"
            || kinds.iter().filter_map(|kind| name.strip_prefix(kind)).any(|name| comparisons.contains(&name))
    };
    tests.contains(&name) || comparison()
}
