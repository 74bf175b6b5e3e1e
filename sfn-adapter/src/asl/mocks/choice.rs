//! Finds, by trial, an input that makes each rule of a choice apply.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::data;
use crate::asl::{matches, model::Choice};

/// A rule or the default, with an input for which it applies.
pub(super) struct Path {
    pub(super) name: String,
    pub(super) input: Value,
    pub(super) next: String,
}

/// Maximum number of combinations to try for one base.
const TRIALS: usize = 2_000;

/// Returns the paths through a choice in JSONPath. A rule that applies to no tried input has no path.
pub(super) fn paths(choice: &Choice) -> Vec<Path> {
    let context = data::context("");
    let tests: Vec<Value> = choice.choices.iter().map(|rule| json!(rule.test)).collect();
    let decided = |input: &Value| tests.iter().position(|test| holds(test, input, &context));
    let mut all = BTreeMap::new();
    tests.iter().for_each(|test| collect(test, &context, &mut all));
    let mut found = Vec::new();
    for (number, rule) in choice.choices.iter().enumerate() {
        let mut own = BTreeMap::new();
        collect(&tests[number], &context, &mut own);
        if let Some(input) = inputs(&all, &own).find(|input| decided(input) == Some(number)) {
            found.push(Path { name: format!("rule {}", number + 1), input, next: rule.next.clone() });
        }
    }
    if let Some(next) = &choice.default {
        let none = Candidates::new();
        if let Some(input) = inputs(&all, &none).find(|input| decided(input).is_none()) {
            found.push(Path { name: "default".to_owned(), input, next: next.clone() });
        }
    }
    found
}

/// The values to try for each variable. `None` removes the variable.
type Candidates = BTreeMap<String, Vec<Option<Value>>>;

/// Collects the variables of a test, with the values for which its result may change.
fn collect(test: &Value, context: &Value, found: &mut Candidates) {
    match test {
        Value::Array(tests) => tests.iter().for_each(|test| collect(test, context, found)),
        Value::Object(members) => {
            for name in ["And", "Or", "Not"] {
                if let Some(inner) = members.get(name) {
                    collect(inner, context, found);
                }
            }
            let Some(variable) = members.get("Variable").and_then(Value::as_str) else { return };
            let known = found.entry(variable.to_owned()).or_insert_with(|| vec![None]);
            for value in values(members, variable, context) {
                if !known.contains(&Some(value.clone())) {
                    // The absent member stays last, because an expression in JSONata may need the member.
                    known.insert(known.len() - 1, Some(value));
                }
            }
        }
        _ => {}
    }
}

fn values(test: &Map<String, Value>, variable: &str, context: &Value) -> Vec<Value> {
    let number = |number: f64| json!(number as i64);
    for (name, operand) in test {
        return match (name.as_str(), operand) {
            ("StringEquals", text) => vec![text.clone(), json!("other")],
            ("StringMatches", Value::String(pattern)) => {
                vec![json!(pattern.replace('*', "x")), json!("other")]
            }
            ("StringEqualsPath", Value::String(path)) => {
                vec![read(path, &Value::Null, context).cloned().unwrap_or_default(), json!("other")]
            }
            ("NumericGreaterThanEquals" | "NumericLessThan", operand) => {
                let bound = operand.as_f64().unwrap_or_default();
                vec![number(bound), number(bound - 1.0)]
            }
            ("IsPresent", _) => {
                let last = variable.rsplit('.').next().unwrap_or_default();
                vec![data::sample(last.split('[').next().unwrap_or_default())]
            }
            _ => continue,
        };
    }
    Vec::new()
}

/// Returns the inputs to try: each base with all combinations of values for the rule's own variables.
///
/// A base is the usual data, or data with a value for every variable. At most one variable differs from that.
fn inputs<'a>(all: &'a Candidates, own: &'a Candidates) -> impl Iterator<Item = Value> + 'a {
    let mut filled = data::base();
    for (variable, values) in all {
        write(&mut filled, variable, values.iter().rev().flatten().next());
    }
    let bases = [data::base(), filled];
    let changes =
        all.iter().flat_map(|(variable, values)| values.iter().map(move |value| Some((variable, value))));
    let changes: Vec<_> = std::iter::once(None).chain(changes).collect();
    let count = |product: usize, values: &Vec<_>| product.saturating_mul(values.len());
    let combinations = own.values().fold(1, count).min(TRIALS);
    bases.into_iter().flat_map(move |base| {
        changes.clone().into_iter().flat_map(move |change| {
            let mut base = base.clone();
            if let Some((variable, value)) = change {
                write(&mut base, variable, value.as_ref());
            }
            (0..combinations).map(move |number| combined(base.clone(), own, number))
        })
    })
}

/// Sets the variables to the combination of values with the given number.
fn combined(mut input: Value, own: &Candidates, mut number: usize) -> Value {
    for (variable, values) in own {
        write(&mut input, variable, values[number % values.len()].as_ref());
        number /= values.len();
    }
    input
}

/// The names and indexes of a path below `$.`.
fn steps(path: &str) -> Vec<(String, Option<usize>)> {
    let names = path.trim_start_matches("$.").split('.');
    let step = |name: &str| match name.trim_end_matches(']').split_once('[') {
        Some((name, index)) => (name.to_owned(), index.parse().ok()),
        None => (name.to_owned(), None),
    };
    names.map(step).collect()
}

/// Sets or removes a member of the data.
fn write(data: &mut Value, path: &str, value: Option<&Value>) {
    let steps = steps(path);
    let Some(((last, index), parents)) = steps.split_last() else { return };
    let mut place = data;
    for (name, _) in parents {
        if !place.is_object() {
            *place = json!({});
        }
        let Some(members) = place.as_object_mut() else { return };
        if value.is_none() && !members.contains_key(name) {
            return;
        }
        place = members.entry(name.clone()).or_insert_with(|| json!({}));
    }
    if !place.is_object() {
        *place = json!({});
    }
    let Some(members) = place.as_object_mut() else { return };
    match (index, value) {
        // An element of a list needs all elements before it. Removing it removes all elements after it.
        (Some(index), value) => {
            let length = if value.is_some() { index + 1 } else { *index };
            members.insert(last.clone(), json!(vec![data::EXECUTION; length]));
        }
        (None, Some(value)) => {
            members.insert(last.clone(), value.clone());
        }
        (None, None) => {
            members.shift_remove(last);
        }
    }
}

fn read<'a>(path: &str, data: &'a Value, context: &'a Value) -> Option<&'a Value> {
    let (root, path) = match path.strip_prefix("$$.") {
        Some(path) => (context, path),
        None => (data, path),
    };
    steps(path).into_iter().try_fold(root, |value, (name, index)| {
        let member = value.get(&name)?;
        index.map_or(Some(member), |index| member.get(index))
    })
}

/// Returns `true` if a test of JSONPath is satisfied.
pub(in crate::asl) fn holds(test: &Value, data: &Value, context: &Value) -> bool {
    if let Some(tests) = test.get("And").and_then(Value::as_array) {
        return tests.iter().all(|test| holds(test, data, context));
    }
    if let Some(tests) = test.get("Or").and_then(Value::as_array) {
        return tests.iter().any(|test| holds(test, data, context));
    }
    if let Some(test) = test.get("Not") {
        return !holds(test, data, context);
    }
    let found = test["Variable"].as_str().and_then(|path| read(path, data, context));
    let text = found.and_then(Value::as_str);
    let number = found.and_then(Value::as_f64);
    test.as_object().into_iter().flatten().all(|(name, operand)| match name.as_str() {
        "IsPresent" => found.is_some() == (operand == &json!(true)),
        "StringEquals" => text.is_some() && text == operand.as_str(),
        "StringEqualsPath" => {
            let other = operand.as_str().and_then(|path| read(path, data, context));
            text.is_some() && text == other.and_then(Value::as_str)
        }
        "StringMatches" => text.zip(operand.as_str()).is_some_and(|(text, pattern)| matches(text, pattern)),
        "NumericGreaterThanEquals" => {
            number.zip(operand.as_f64()).is_some_and(|(number, bound)| number >= bound)
        }
        "NumericLessThan" => number.zip(operand.as_f64()).is_some_and(|(number, bound)| number < bound),
        "Variable" | "Next" => true,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(choice: Value) -> Vec<(String, String)> {
        let choice: Choice = serde_json::from_value(choice).unwrap();
        paths(&choice).into_iter().map(|path| (path.name, path.next)).collect()
    }

    #[test]
    fn each_rule_is_reached_past_those_before_it() {
        let is = |text: &str| json!({ "Variable": "$.run.reply.status", "StringEquals": text });
        let late = json!({ "Variable": "$.run.clock.waited", "NumericGreaterThanEquals": 600 });
        let choice = json!({
            "Choices": [
                { "And": [is("STARTED"), late, { "Not": { "Variable": "$.run.cancel", "IsPresent": true } }], "Next": "a" },
                { "And": [is("STARTED"), late], "Next": "b" },
                { "Or": [is("STARTED"), is("PICKED")], "Next": "c" },
                { "Variable": "$.arns[1]", "IsPresent": true, "Next": "d" },
            ],
            "Default": "e",
        });
        let names: Vec<_> = decided(choice).into_iter().map(|(_, next)| next).collect();
        assert_eq!(names, ["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn a_rule_that_cannot_decide_has_no_input() {
        let test = json!({ "Variable": "$.x", "IsPresent": true });
        let both = json!({ "Choices": [{ "Not": test, "Next": "a" }, { "Not": test, "Next": "b" }], "Default": "c" });
        assert_eq!(decided(both), [("rule 1".into(), "a".into()), ("default".into(), "c".into())]);
    }

    #[test]
    fn patterns() {
        for (text, pattern, expected) in [
            ("a--b", "*--*", true),
            ("a-b", "*--*", false),
            ("ab", "a*", true),
            ("ab", "ab", true),
            ("abc", "ab", false),
        ] {
            assert_eq!(matches(text, pattern), expected, "{text} {pattern}");
        }
    }
}
