//! Checks states and transitions.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Group, Report, StateRef, machine::repeated};

pub(super) fn check(groups: &[Group<'_>], report: &mut Report<'_>) {
    for group in groups {
        transitions(group, report);
        ends(group, report);
        group.states.iter().for_each(|state| default(state, report));
    }
    let states = || groups.iter().flat_map(|group| &group.states);
    let repeated = repeated(states().map(|state| state.name));
    for state in states() {
        if state.name.chars().count() > 80 {
            report.at(
                "long-name",
                state,
                "",
                "the service rejects a name of more than 80 characters",
                "shorten the name",
            );
        }
    }
    for name in repeated {
        if let Some(state) = states().filter(|state| state.name == name).nth(1) {
            report.at(
                "repeated-name",
                state,
                "",
                format!("another state is called {name}, and names are unique in the whole machine"),
                "rename one of them",
            );
        }
    }
}

fn transitions(group: &Group<'_>, report: &mut Report<'_>) {
    let pointer = format!("{}/StartAt", group.pointer);
    let mut reached = BTreeSet::new();
    match group.object.get("StartAt").and_then(Value::as_str) {
        None => report.add(
            "required-field",
            None,
            &group.pointer,
            "StartAt is missing",
            "add StartAt with the name of the first state",
        ),
        Some(start) if group.state(start).is_none() => {
            report.add(
                "missing-target",
                None,
                &pointer,
                format!("there is no state {start}"),
                "correct the name; it is case-sensitive",
            );
        }
        Some(start) => {
            reached = group.reachable(start);
            reached.insert(start);
        }
    }
    for state in &group.states {
        for (pointer, next) in state.successors() {
            if group.state(next).is_none() {
                report.add(
                    "missing-target",
                    Some(state),
                    &pointer,
                    format!("there is no state {next} at this level"),
                    "correct the name; a transition stays within its branch",
                );
            }
        }
        if !reached.is_empty() && !reached.contains(state.name) {
            report.at(
                "unreachable-state",
                state,
                "",
                "no transition leads to this state",
                "remove it, or add the transition",
            );
        }
    }
}

fn default(state: &StateRef<'_>, report: &mut Report<'_>) {
    if state.is("Choice") && !state.object.contains_key("Default") && !is_complete(state.list("Choices")) {
        report.at(
            "no-default",
            state,
            "",
            "if no rule applies, the execution fails with States.NoChoiceMatched",
            "add a Default",
        );
    }
}

/// Returns `true` if two rules test the same variable for `true` and for `false`, so that one of them always
/// applies.
fn is_complete(rules: &[Value]) -> bool {
    let tests = |rule: &Value, other: &Value| {
        let (Some(rule), Some(other)) = (rule.as_object(), other.as_object()) else { return false };
        rule.get("Variable").is_some()
            && rule.get("Variable") == other.get("Variable")
            && rule.iter().any(|(name, operand)| {
                operand == &Value::Bool(true) && other.get(name) == Some(&Value::Bool(false))
            })
    };
    rules.iter().any(|rule| rules.iter().any(|other| tests(rule, other)))
}

fn ends(group: &Group<'_>, report: &mut Report<'_>) {
    let ends = |state: &StateRef<'_>| {
        state.is("Succeed") || state.is("Fail") || state.object.get("End") == Some(&true.into())
    };
    if !group.states.is_empty() && !group.states.iter().any(ends) {
        report.add(
            "no-end",
            None,
            &format!("{}/States", group.pointer),
            "no state ends, so the execution never does",
            "add a Succeed or Fail state, or End to a state",
        );
    }
    for state in &group.states {
        if ["Choice", "Succeed", "Fail"].iter().any(|kind| state.is(kind)) {
            continue;
        }
        match (state.object.contains_key("Next"), state.object.get("End") == Some(&true.into())) {
            (true, true) => report.at(
                "next-or-end",
                state,
                "End",
                "the state has both Next and End",
                "remove one of them",
            ),
            (false, false) => {
                report.at("next-or-end", state, "", "the state has neither Next nor End", "add one of them")
            }
            _ => {}
        }
    }
}
