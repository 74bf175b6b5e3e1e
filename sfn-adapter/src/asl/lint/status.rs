//! Determines, for each status of a statement, the state that a choice leads to.

use serde_json::Value;

use super::StateRef;
use crate::asl::{RUNNING, matches};

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
    let all = |name: &str| {
        let rules = rule.get(name)?.as_array()?;
        Some(rules.iter().map(|rule| json_path(rule, status, variables)).collect::<Vec<_>>())
    };
    if let Some(results) = all("And") {
        return and(results);
    }
    if let Some(results) = all("Or") {
        return or(results);
    }
    if let Some(rule) = rule.get("Not") {
        return json_path(rule, status, variables).map(|satisfied| !satisfied);
    }
    let variable = rule.get("Variable").and_then(Value::as_str)?;
    if !variables.contains(&variable) {
        return None;
    }
    let (operator, operand) = rule
        .as_object()?
        .iter()
        .find(|(name, _)| !["Variable", "Next", "Comment"].contains(&name.as_str()))?;
    let text = operand.as_str();
    match operator.as_str() {
        "StringEquals" => Some(text? == status),
        "StringMatches" => Some(matches(status, text?)),
        "StringLessThan" => Some(status < text?),
        "StringLessThanEquals" => Some(status <= text?),
        "StringGreaterThan" => Some(status > text?),
        "StringGreaterThanEquals" => Some(status >= text?),
        "IsPresent" | "IsString" => operand.as_bool(),
        "IsNull" | "IsNumeric" | "IsBoolean" | "IsTimestamp" => operand.as_bool().map(|expected| !expected),
        _ => None,
    }
}

/// Evaluates a condition in JSONata. Returns `None` if the status does not decide it, or if the condition is
/// not made of comparisons joined by `and`, `or` and `$not`.
fn jsonata(condition: &str, status: &str) -> Option<bool> {
    let condition = condition.trim().trim_start_matches("{%").trim_end_matches("%}").trim();
    if let Some(parts) = split(condition, " or ") {
        return or(parts.into_iter().map(|part| jsonata(part, status)).collect());
    }
    if let Some(parts) = split(condition, " and ") {
        return and(parts.into_iter().map(|part| jsonata(part, status)).collect());
    }
    if let Some(inner) = condition.strip_prefix("$not").and_then(enclosed) {
        return jsonata(inner, status).map(|satisfied| !satisfied);
    }
    if let Some(inner) = enclosed(condition) {
        return jsonata(inner, status);
    }
    let of_status = |variable: &str| {
        let name = variable.trim().rsplit('.').next().unwrap_or_default();
        name.to_ascii_lowercase().ends_with("status")
    };
    if let Some((variable, list)) = condition.split_once(" in [") {
        let list = list.trim_end().strip_suffix(']')?;
        let texts: Option<Vec<&str>> = list.split(',').map(quoted).collect();
        return of_status(variable).then_some(texts?.contains(&status));
    }
    let (is_equal, (variable, text)) = match condition.split_once("!=") {
        Some(sides) => (false, sides),
        None => (true, condition.split_once('=')?),
    };
    let text = quoted(text)?;
    of_status(variable).then_some((text == status) == is_equal)
}

/// Returns the text of a string literal.
fn quoted(literal: &str) -> Option<&str> {
    let literal = literal.trim();
    ['\'', '"'].into_iter().find_map(|quote| literal.strip_prefix(quote)?.strip_suffix(quote))
}

/// Returns the expression within a pair of parentheses.
fn enclosed(expression: &str) -> Option<&str> {
    let inner = expression.trim().strip_prefix('(')?.strip_suffix(')')?;
    let mut depth = 0_i32;
    for character in inner.chars() {
        depth += i32::from(character == '(') - i32::from(character == ')');
        if depth < 0 {
            return None;
        }
    }
    Some(inner)
}

/// Splits an expression at an operator that is outside of parentheses, brackets and strings. Returns `None`
/// if there is no such operator.
fn split<'a>(expression: &'a str, operator: &str) -> Option<Vec<&'a str>> {
    let (mut parts, mut begin, mut depth, mut quote) = (Vec::new(), 0, 0_i32, None);
    for (at, character) in expression.char_indices() {
        match quote {
            Some(open) if character == open => quote = None,
            Some(_) => {}
            None => match character {
                '\'' | '"' => quote = Some(character),
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth -= 1,
                _ if depth == 0 && at >= begin && expression[at..].starts_with(operator) => {
                    parts.push(&expression[begin..at]);
                    begin = at + operator.len();
                }
                _ => {}
            },
        }
    }
    parts.push(&expression[begin..]);
    (parts.len() > 1).then_some(parts)
}

fn and(results: Vec<Option<bool>>) -> Option<bool> {
    if results.contains(&Some(false)) {
        return Some(false);
    }
    if results.contains(&None) { None } else { Some(true) }
}

fn or(results: Vec<Option<bool>>) -> Option<bool> {
    if results.contains(&Some(true)) {
        return Some(true);
    }
    if results.contains(&None) { None } else { Some(false) }
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
