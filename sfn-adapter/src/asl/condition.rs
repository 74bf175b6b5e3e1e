//! Conditions of choices: their parts, and the comparisons that the parts consist of.

use serde_json::Value;

use super::matches;

/// Evaluates a rule in JSONPath. `decides` evaluates a single comparison, and returns `None` if it cannot.
pub(super) fn json_path(rule: &Value, decides: &dyn Fn(&Value) -> Option<bool>) -> Option<bool> {
    let all = |name: &str| {
        let rules = rule.get(name)?.as_array()?;
        Some(rules.iter().map(|rule| json_path(rule, decides)).collect::<Vec<_>>())
    };
    if let Some(results) = all("And") {
        return and(results);
    }
    if let Some(results) = all("Or") {
        return or(results);
    }
    if let Some(rule) = rule.get("Not") {
        return json_path(rule, decides).map(|satisfied| !satisfied);
    }
    decides(rule)
}

/// Returns the operator and the operand of a comparison in JSONPath.
pub(super) fn operator(comparison: &Value) -> Option<(&str, &Value)> {
    let mut members = comparison.as_object()?.iter();
    let (name, operand) =
        members.find(|(name, _)| !["Variable", "Next", "Comment"].contains(&name.as_str()))?;
    Some((name, operand))
}

/// Compares a string that is present, in JSONPath.
pub(super) fn compared(comparison: &Value, value: &str) -> Option<bool> {
    let (operator, operand) = operator(comparison)?;
    let text = operand.as_str();
    match operator {
        "StringEquals" => Some(text? == value),
        "StringMatches" => Some(matches(value, text?)),
        "StringLessThan" => Some(value < text?),
        "StringLessThanEquals" => Some(value <= text?),
        "StringGreaterThan" => Some(value > text?),
        "StringGreaterThanEquals" => Some(value >= text?),
        "IsPresent" | "IsString" => operand.as_bool(),
        "IsNull" | "IsNumeric" | "IsBoolean" | "IsTimestamp" => operand.as_bool().map(|expected| !expected),
        _ => None,
    }
}

/// Evaluates a condition in JSONata. `decides` evaluates a part that is not made of others by `and`, `or` and
/// `$not`, and returns `None` if it cannot.
pub(super) fn jsonata(condition: &str, decides: &dyn Fn(&str) -> Option<bool>) -> Option<bool> {
    let condition = condition.trim().trim_start_matches("{%").trim_end_matches("%}").trim();
    if let Some(parts) = split(condition, " or ") {
        return or(parts.into_iter().map(|part| jsonata(part, decides)).collect());
    }
    if let Some(parts) = split(condition, " and ") {
        return and(parts.into_iter().map(|part| jsonata(part, decides)).collect());
    }
    if let Some(inner) = condition.strip_prefix("$not").and_then(enclosed) {
        return jsonata(inner, decides).map(|satisfied| !satisfied);
    }
    match enclosed(condition) {
        Some(inner) => jsonata(inner, decides),
        None => decides(condition),
    }
}

/// A comparison with strings, in JSONata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Comparison<'a> {
    pub(super) variable: &'a str,
    /// `false` for `!=`.
    pub(super) is_equal: bool,
    /// The strings, one of which is equal.
    pub(super) texts: Vec<&'a str>,
}

impl<'a> Comparison<'a> {
    /// Reads `x = 'a'`, `x != 'a'` or `x in ['a', 'b']`.
    pub(super) fn read(condition: &'a str) -> Option<Self> {
        if let Some((variable, list)) = condition.split_once(" in [") {
            let list = list.trim_end().strip_suffix(']')?;
            let texts: Option<Vec<&str>> = list.split(',').map(quoted).collect();
            return Some(Self { variable: variable.trim(), is_equal: true, texts: texts? });
        }
        let (is_equal, (variable, text)) = match condition.split_once("!=") {
            Some(sides) => (false, sides),
            None => (true, condition.split_once('=')?),
        };
        Some(Self { variable: variable.trim(), is_equal, texts: vec![quoted(text)?] })
    }
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
pub(super) fn split<'a>(expression: &'a str, operator: &str) -> Option<Vec<&'a str>> {
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
