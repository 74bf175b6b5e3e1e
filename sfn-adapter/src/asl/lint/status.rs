//! Determines, for each status of a statement, the state that a choice leads to.

use serde_json::Value;

use super::StateRef;
use crate::asl::{
    RUNNING,
    condition::{self, Comparison},
};

/// Statuses after which a statement does not change.
pub(super) const ENDED: [&str; 3] = ["ABORTED", "FAILED", "FINISHED"];

/// Represents a status that the service may add in the future.
pub(super) const UNKNOWN: &str = "HIBERNATING";

/// A transition of a choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// Path of the member that names the state, within the choice.
    pub(super) path: String,
    /// Name of the state.
    pub(super) next: &'a str,
}

/// Returns the transitions that a status may take: those of the rules that may also depend on something else,
/// and last the transition of the first rule that the status certainly satisfies.
pub(super) fn targets<'a>(choice: &StateRef<'a>, status: &str) -> Vec<Target<'a>> {
    let rules = choice.list("Choices");
    let variables: Vec<&str> = rules.iter().flat_map(variables).collect();
    let mut targets = Vec::new();
    for (number, rule) in rules.iter().enumerate() {
        let satisfied = match rule.get("Condition").and_then(Value::as_str) {
            Some(condition) => jsonata(condition, status),
            None => json_path(rule, status, &variables),
        };
        let next = rule.get("Next").and_then(Value::as_str);
        let target = next.map(|next| Target { path: format!("Choices/{number}/Next"), next });
        match satisfied {
            Some(false) => {}
            None => targets.extend(target),
            Some(true) => {
                targets.extend(target);
                return targets;
            }
        }
    }
    let default = choice.text("Default").map(|next| Target { path: "Default".to_owned(), next });
    targets.extend(default);
    targets
}

/// Returns `true` if the rules of a choice compare with a status of the Data API.
pub(super) fn names_a_status(choice: &StateRef<'_>) -> bool {
    let of_data_api = ["FINISHED", "ABORTED", "PICKED"];
    choice.list("Choices").iter().any(|rule| {
        let rule = rule.to_string();
        of_data_api.iter().any(|status| rule.contains(status))
    })
}

/// Returns the variables of a rule that are compared with a status or have a status in their name.
fn variables(rule: &Value) -> Vec<&str> {
    let known = |text: &str| ENDED.iter().chain(&RUNNING).any(|status| text == *status);
    let mut found: Vec<&str> = inner(rule).flat_map(variables).collect();
    if let Some(variable) = rule.get("Variable").and_then(Value::as_str) {
        let operands = rule.as_object().into_iter().flat_map(|members| members.values());
        let is_compared = operands.filter_map(Value::as_str).any(known);
        if is_compared || variable.to_ascii_lowercase().ends_with("status") {
            found.push(variable);
        }
    }
    found
}

fn inner(rule: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["And", "Or"].into_iter().filter_map(|name| rule.get(name)?.as_array()).flatten();
    lists.chain(rule.get("Not"))
}

/// Evaluates a rule in JSONPath. Returns `None` if the status does not decide it.
fn json_path(rule: &Value, status: &str, variables: &[&str]) -> Option<bool> {
    condition::json_path(rule, &|comparison| {
        let is_on_status = variables.contains(&comparison.get("Variable")?.as_str()?);
        if is_on_status { condition::compared(comparison, status) } else { None }
    })
}

/// Evaluates a condition in JSONata. Returns `None` if the status does not decide it, or if the condition is
/// not made of comparisons joined by `and`, `or` and `$not`.
fn jsonata(condition: &str, status: &str) -> Option<bool> {
    condition::jsonata(condition, &|comparison| {
        let Comparison { variable, is_equal, texts } = Comparison::read(comparison)?;
        let name = variable.rsplit('.').next().unwrap_or_default();
        name.to_ascii_lowercase().ends_with("status").then_some(texts.contains(&status) == is_equal)
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(json!({ "StringEquals": "FINISHED" }), Some(false))]
    #[case(json!({ "StringMatches": "A*D" }), Some(true))]
    #[case(json!({ "StringMatches": "F*" }), Some(false))]
    #[case(json!({ "IsPresent": true }), Some(true))]
    #[case(json!({ "StringEqualsPath": "$.x" }), None)]
    fn a_rule_is_evaluated_for_a_status(#[case] mut rule: Value, #[case] expected: Option<bool>) {
        rule["Variable"] = json!("$.s");
        assert_eq!(json_path(&rule, "ABORTED", &["$.s"]), expected);
        assert_eq!(json_path(&json!({ "Not": rule }), "ABORTED", &["$.s"]), expected.map(|is| !is));
        rule["Variable"] = json!("$.other");
        assert_eq!(json_path(&rule, "ABORTED", &["$.s"]), None);
    }

    #[rstest]
    #[case("{% $r.Status = 'ABORTED' %}", Some(true))]
    #[case("{% $r.Status != 'ABORTED' %}", Some(false))]
    #[case("{% $r.Status in ['FAILED', \"ABORTED\"] %}", Some(true))]
    #[case("{% $r.Status in ['FAILED'] or $n > 3 %}", None)]
    #[case("{% $r.Status = 'FAILED' and $n > 3 %}", Some(false))]
    #[case("{% $not($r.Status = 'FAILED') %}", Some(true))]
    #[case("{% ($r.Status = ' or ') or ($r.Status = 'ABORTED') %}", Some(true))]
    #[case("{% $r.n = 'ABORTED' %}", None)]
    #[case("{% $contains($r.Status, 'A') %}", None)]
    #[case("{% ) or (' %}", None)]
    fn a_condition_is_evaluated_for_a_status(#[case] condition: &str, #[case] expected: Option<bool>) {
        assert_eq!(jsonata(condition, "ABORTED"), expected);
    }
}
