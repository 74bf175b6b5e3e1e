//! Checks the fields of a state against its type.

use super::{Report, StateRef};

/// Fields of every state.
const ANY: [&str; 3] = ["Type", "Comment", "QueryLanguage"];

/// Fields of the data in JSONPath and JSONata.
const DATA: [&str; 5] = ["InputPath", "OutputPath", "Output", "Assign", "Next"];

/// Types, their own fields, and the required fields.
const TYPES: [(&str, &[&str], &[&str]); 8] = [
    (
        "Task",
        &[
            "End",
            "Resource",
            "Parameters",
            "Arguments",
            "ResultSelector",
            "ResultPath",
            "Credentials",
            "Retry",
            "Catch",
            "TimeoutSeconds",
            "TimeoutSecondsPath",
            "HeartbeatSeconds",
            "HeartbeatSecondsPath",
        ],
        &["Resource"],
    ),
    ("Choice", &["Choices", "Default"], &["Choices"]),
    ("Wait", &["End", "Seconds", "SecondsPath", "Timestamp", "TimestampPath"], &[]),
    ("Pass", &["End", "Result", "Parameters", "ResultPath"], &[]),
    (
        "Parallel",
        &["End", "Branches", "Parameters", "Arguments", "ResultSelector", "ResultPath", "Retry", "Catch"],
        &["Branches"],
    ),
    (
        "Map",
        &[
            "End",
            "Iterator",
            "ItemProcessor",
            "ItemsPath",
            "Items",
            "ItemSelector",
            "ItemReader",
            "ItemBatcher",
            "ResultWriter",
            "MaxConcurrency",
            "MaxConcurrencyPath",
            "ToleratedFailurePercentage",
            "ToleratedFailurePercentagePath",
            "ToleratedFailureCount",
            "ToleratedFailureCountPath",
            "Label",
            "Parameters",
            "Arguments",
            "ResultSelector",
            "ResultPath",
            "Retry",
            "Catch",
        ],
        &[],
    ),
    ("Succeed", &[], &[]),
    ("Fail", &["Error", "Cause", "ErrorPath", "CausePath"], &[]),
];

pub(super) fn check(state: &StateRef<'_>, report: &mut Report<'_>) {
    let kind = state.text("Type").unwrap_or_default();
    let Some((_, own, required)) = TYPES.iter().find(|(name, _, _)| *name == kind) else {
        let types = TYPES.map(|(name, _, _)| name).join(", ");
        return report.at(
            "unknown-type",
            state,
            "Type",
            format!("there is no type of state {kind:?}"),
            format!("use one of {types}"),
        );
    };
    for field in state.object.keys() {
        let known = own.iter().chain(&ANY).chain(&DATA);
        if !known.clone().any(|known| known == field) {
            let similar = known
                .clone()
                .find(|known| known.eq_ignore_ascii_case(field) || distance_is_one(known, field));
            let fix = similar.map_or("remove it".to_owned(), |similar| format!("write {similar}"));
            report.at(
                "unknown-field",
                state,
                &super::source::escaped(field),
                format!("a {kind} state has no field {field}"),
                fix,
            );
        }
    }
    for field in *required {
        if !state.object.contains_key(*field) {
            report.at(
                "required-field",
                state,
                "",
                format!("a {kind} state needs {field}"),
                format!("add {field}"),
            );
        }
    }
    if kind == "Wait" {
        let times = ["Seconds", "SecondsPath", "Timestamp", "TimestampPath"];
        let count = times.iter().filter(|field| state.object.contains_key(**field)).count();
        if count != 1 {
            let reason = if count == 0 {
                "the state has no time to wait for"
            } else {
                "the state has several times to wait for"
            };
            report.at("wait-time", state, "", reason, format!("give it one of {}", times.join(", ")));
        }
    }
    if kind == "Fail" {
        fail(state, report);
    }
}

fn fail(state: &StateRef<'_>, report: &mut Report<'_>) {
    for field in ["Error", "Cause"] {
        let path = format!("{field}Path");
        if state.object.contains_key(field) && state.object.contains_key(&path) {
            report.at(
                "error-and-path",
                state,
                field,
                format!("the state has both {field} and {path}"),
                "remove one of them",
            );
        }
        let Some(text) = state.text(field) else { continue };
        if !state.is_jsonata
            && (text.starts_with("$.") || text.starts_with("$$.") || text.starts_with("States.Format("))
        {
            report.at(
                "literal-path",
                state,
                field,
                format!(
                    "{field} is a literal, so the execution reports the text {text} and the real one is lost"
                ),
                format!("rename {field} to {path}"),
            );
        }
    }
}

/// Returns `true` if one letter is missing, added or replaced.
fn distance_is_one(one: &str, other: &str) -> bool {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let begin = one.iter().zip(&other).take_while(|(one, other)| one == other).count();
    let end = one[begin..]
        .iter()
        .rev()
        .zip(other[begin..].iter().rev())
        .take_while(|(one, other)| one == other)
        .count();
    one.len() - begin - end <= 1 && other.len() - begin - end <= 1
}
