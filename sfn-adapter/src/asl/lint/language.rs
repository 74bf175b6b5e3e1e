//! Checks expressions against the query language of a state.

use serde_json::Value;

use super::{Report, StateRef, source::escaped};

/// Fields that exist in JSONPath only.
const JSON_PATH: [&str; 13] = [
    "InputPath",
    "OutputPath",
    "ResultPath",
    "Parameters",
    "ResultSelector",
    "ItemsPath",
    "SecondsPath",
    "TimestampPath",
    "TimeoutSecondsPath",
    "HeartbeatSecondsPath",
    "MaxConcurrencyPath",
    "ErrorPath",
    "CausePath",
];

/// Fields that exist in JSONata only. `Items` belongs to Map states.
const JSONATA: [&str; 3] = ["Arguments", "Output", "Items"];

/// Fields with payloads of JSONPath.
const PAYLOADS: [&str; 4] = ["Parameters", "ResultSelector", "ItemSelector", "Assign"];

pub(super) fn check(state: &StateRef<'_>, report: &mut Report<'_>) {
    let (foreign, language, other): (&[&str], _, _) = if state.is_jsonata {
        (&JSON_PATH, "JSONata", "JSONPath")
    } else {
        (&JSONATA, "JSONPath", "JSONata")
    };
    for field in foreign.iter().filter(|field| state.object.contains_key(**field)) {
        report.at(
            "mixed-languages",
            state,
            field,
            format!("{field} is a field of {other}, and the state's language is {language}"),
            "write it in the state's language, or set QueryLanguage on the state",
        );
    }
    for (number, rule) in state.list("Choices").iter().enumerate() {
        let (has, path) =
            if state.is_jsonata { ("Variable", "Condition") } else { ("Condition", "Variable") };
        if rule.get(has).is_some() {
            report.at(
                "mixed-languages",
                state,
                &format!("Choices/{number}/{has}"),
                format!("{has} is a member of {other}, and the state's language is {language}"),
                format!("write a {path}"),
            );
        }
    }
    if state.is_jsonata {
        for (field, value) in state.object {
            if !["Branches", "ItemProcessor", "Comment"].contains(&field.as_str()) {
                unmarked(state, value, &escaped(field), report);
            }
        }
    } else {
        for field in PAYLOADS {
            if let Some(payload) = state.object.get(field) {
                members(state, payload, field, report);
            }
        }
    }
}

/// Finds JSONata expressions without `{%` and `%}`, which are literal strings.
fn unmarked(state: &StateRef<'_>, value: &Value, path: &str, report: &mut Report<'_>) {
    match value {
        Value::String(text) => {
            let (begins, ends) = (text.starts_with("{%"), text.ends_with("%}"));
            if begins != ends || (!begins && text.starts_with("$states.")) {
                report.at(
                    "unmarked-jsonata",
                    state,
                    path,
                    "the expression is a literal text without {% and %}",
                    format!("write {{% {} %}}", text.trim_start_matches("{%").trim_end_matches("%}").trim()),
                );
            }
        }
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                unmarked(state, item, &format!("{path}/{number}"), report);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                unmarked(state, member, &format!("{path}/{}", escaped(name)), report);
            }
        }
        _ => {}
    }
}

/// Finds members of a payload whose name and value disagree about being an expression.
fn members(state: &StateRef<'_>, value: &Value, path: &str, report: &mut Report<'_>) {
    match value {
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                members(state, item, &format!("{path}/{number}"), report);
            }
        }
        Value::Object(all) => {
            for (name, member) in all {
                let path = format!("{path}/{}", escaped(name));
                match member.as_str() {
                    Some(text) if name.ends_with(".$") && !is_expression(text) => {
                        report.at(
                            "no-expression",
                            state,
                            &path,
                            format!("{name} needs a path or a States. function, and {text} is neither"),
                            format!("rename it to {}", name.trim_end_matches(".$")),
                        );
                    }
                    Some(text) if !name.ends_with(".$") && is_path(text) => {
                        report.at(
                            "literal-expression",
                            state,
                            &path,
                            format!("{text} is a literal text, because the name does not end with .$"),
                            format!("rename it to {name}.$"),
                        );
                    }
                    None if name.ends_with(".$") => {
                        report.at(
                            "no-expression",
                            state,
                            &path,
                            format!("{name} needs a path or a States. function"),
                            format!("rename it to {}", name.trim_end_matches(".$")),
                        );
                    }
                    _ => members(state, member, &path, report),
                }
            }
        }
        _ => {}
    }
}

fn is_expression(text: &str) -> bool {
    text.starts_with('$') || text.starts_with("States.")
}

/// Returns `true` for a string that is certainly meant as an expression.
fn is_path(text: &str) -> bool {
    text.starts_with("$.") || text.starts_with("$$.") || (text.starts_with("States.") && text.ends_with(')'))
}
