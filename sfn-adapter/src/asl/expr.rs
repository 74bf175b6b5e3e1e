//! Expressions that can be written in both query languages of a state machine.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

/// Language of the expressions in a state machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum QueryLanguage {
    /// JSONata, which the service recommends. The default.
    #[default]
    Jsonata,
    /// JSONPath with intrinsic functions, which every interpreter supports.
    JsonPath,
}

/// A value that a state computes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    /// String that is the same in every execution.
    Text(String),
    /// Number that is the same in every execution.
    Number(u64),
    /// Member of the state's data, as a dotted path. The empty path refers to all of the data.
    Data(String),
    /// Member of the result of a task or of a parallel state.
    Result(String),
    /// Member of the context object.
    Context(&'static str),
    /// Concatenation of strings and numbers.
    Concat(Vec<Expr>),
    /// Sum of two numbers.
    Sum(Box<Expr>, Box<Expr>),
    /// SHA-256 of a string, as 64 hexadecimal digits.
    Sha256(Box<Expr>),
    /// Element of a list of numbers, counted from 0.
    Element(Vec<u64>, Box<Expr>),
    /// A JSONata expression and its JSONPath equivalent.
    Raw {
        /// The expression without `{%` and `%}`.
        jsonata: String,
        /// A path or a call of an intrinsic function.
        json_path: String,
    },
}

/// JSON that contains expressions.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    /// An expression, or a literal.
    Expr(Expr),
    /// JSON without expressions.
    Value(Value),
    /// An object.
    Object(Vec<(String, Shape)>),
    /// A list of expressions, or of other values.
    List(Vec<Shape>),
}

/// A condition on the state's data. An absent member satisfies no comparison.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Condition {
    /// The member is one of these strings.
    Is(String, Vec<String>),
    /// The member exists.
    IsPresent(String),
    /// The member is at least this number.
    AtLeast(String, u64),
    /// The member is less than this number.
    Below(String, u64),
    /// The member matches one of these patterns, in which `*` matches any text.
    Matches(String, Vec<String>),
    /// The two values are equal.
    Equal(Expr, Expr),
    /// All of the conditions are satisfied.
    All(Vec<Condition>),
    /// At least one of the conditions is satisfied.
    Any(Vec<Condition>),
    /// The condition is not satisfied.
    Not(Box<Condition>),
}

impl Expr {
    /// Creates a literal string.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Refers to a member of the state's data.
    pub(super) fn data(path: impl Into<String>) -> Self {
        Self::Data(path.into())
    }

    /// Creates the sum of two numbers.
    #[must_use]
    pub(super) fn plus(self, other: Self) -> Self {
        Self::Sum(Box::new(self), Box::new(other))
    }

    /// Writes the expression in JSONata, without `{%` and `%}`.
    pub(super) fn jsonata(&self) -> String {
        match self {
            Self::Text(text) => jsonata_text(text),
            Self::Number(number) => number.to_string(),
            Self::Data(path) => jsonata_path("$states.input", path),
            Self::Result(path) => jsonata_path("$states.result", path),
            Self::Context(path) => jsonata_path("$states.context", path),
            Self::Concat(parts) => joined(parts.iter().map(Self::jsonata), " & "),
            Self::Sum(one, other) => format!("{} + {}", one.jsonata(), other.jsonata()),
            Self::Sha256(text) => format!("$hash({}, 'SHA-256')", text.jsonata()),
            Self::Element(list, index) => format!("{list:?}[{}]", index.jsonata()),
            Self::Raw { jsonata, .. } => jsonata.clone(),
        }
    }

    /// Writes the expression as a path or a call of an intrinsic function.
    pub(super) fn json_path(&self) -> String {
        match self {
            Self::Text(text) => format!("'{}'", escaped(text)),
            Self::Number(number) => number.to_string(),
            Self::Data(path) | Self::Result(path) => json_path("$", path),
            Self::Context(path) => json_path("$$", path),
            Self::Concat(parts) => {
                let (mut form, mut arguments) = (String::new(), String::new());
                for part in parts {
                    match part {
                        Self::Text(text) => form.push_str(&escaped(text)),
                        other => {
                            form.push_str("{}");
                            // Writing to a string does not fail.
                            let _ = write!(arguments, ", {}", other.json_path());
                        }
                    }
                }
                format!("States.Format('{form}'{arguments})")
            }
            Self::Sum(one, other) => format!("States.MathAdd({}, {})", one.json_path(), other.json_path()),
            Self::Sha256(text) => format!("States.Hash({}, 'SHA-256')", text.json_path()),
            Self::Element(list, index) => {
                let list = joined(list.iter().map(ToString::to_string), ", ");
                format!("States.ArrayGetItem(States.Array({list}), {})", index.json_path())
            }
            Self::Raw { json_path, .. } => json_path.clone(),
        }
    }

    /// Returns the value if the expression is a literal.
    fn literal(&self) -> Option<Value> {
        match self {
            Self::Text(text) => Some(json!(text)),
            Self::Number(number) => Some(json!(number)),
            Self::Concat(parts) => match &parts[..] {
                [] => Some(json!("")),
                [part] => part.literal(),
                _ => None,
            },
            _ => None,
        }
    }
}

impl From<Expr> for Shape {
    fn from(expr: Expr) -> Self {
        Self::Expr(expr)
    }
}

impl Shape {
    /// Creates an object.
    pub(super) fn object<K: Into<String>>(members: impl IntoIterator<Item = (K, Self)>) -> Self {
        Self::Object(members.into_iter().map(|(name, member)| (name.into(), member)).collect())
    }

    /// Creates a literal string.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Expr(Expr::text(text))
    }

    /// Writes the value of a field that holds a payload: `Arguments` and `Output`, or `Parameters` and
    /// `ResultSelector`.
    pub(super) fn render(&self, language: QueryLanguage) -> Value {
        match language {
            QueryLanguage::Jsonata => self.jsonata_payload(),
            QueryLanguage::JsonPath => self.json_path_payload(),
        }
    }

    /// Writes the value as one expression of JSONata.
    pub(super) fn jsonata(&self) -> String {
        match self {
            Self::Expr(expr) => expr.jsonata(),
            Self::Value(Value::String(text)) => jsonata_text(text),
            Self::Value(value) => value.to_string(),
            Self::Object(members) => {
                let member =
                    |(name, shape): &(String, Self)| format!("{}: {}", jsonata_text(name), shape.jsonata());
                format!("{{{}}}", joined(members.iter().map(member), ", "))
            }
            Self::List(items) => format!("[{}]", joined(items.iter().map(Self::jsonata), ", ")),
        }
    }

    fn jsonata_payload(&self) -> Value {
        match self {
            Self::Expr(expr) => match expr.literal() {
                Some(Value::String(text)) if reads_as_jsonata(&text) => jsonata_field(&jsonata_text(&text)),
                Some(literal) => literal,
                None => jsonata_field(&expr.jsonata()),
            },
            Self::Value(value) => value.clone(),
            Self::Object(members) => members
                .iter()
                .map(|(name, shape)| (name.clone(), shape.jsonata_payload()))
                .collect::<Map<_, _>>()
                .into(),
            Self::List(items) => items.iter().map(Self::jsonata_payload).collect(),
        }
    }

    fn json_path_payload(&self) -> Value {
        match self {
            // An expression cannot stand outside of an object. The builders never write one there.
            Self::Expr(expr) => expr.literal().unwrap_or_else(|| json!(expr.json_path())),
            Self::Value(value) => value.clone(),
            Self::Object(members) => {
                members.iter().map(|(name, shape)| shape.json_path_member(name)).collect::<Map<_, _>>().into()
            }
            Self::List(items) => items.iter().map(Self::json_path_payload).collect(),
        }
    }

    fn json_path_member(&self, name: &str) -> (String, Value) {
        let dynamic = |text: String| (format!("{name}.$"), json!(text));
        match self {
            Self::Expr(expr) => match expr.literal() {
                // Under its plain name, a string that looks like a path would be rejected by validators,
                // which expect `.$` at the end of the name.
                Some(Value::String(text)) if reads_as_path(&text) => {
                    dynamic(format!("States.Format({})", Expr::Text(text).json_path()))
                }
                Some(literal) => (name.to_owned(), literal),
                None => dynamic(expr.json_path()),
            },
            Self::List(items) if items.iter().any(Self::is_dynamic) => {
                let items = items.iter().filter_map(|item| match item {
                    Self::Expr(expr) => Some(expr.json_path()),
                    _ => None,
                });
                dynamic(format!("States.Array({})", joined(items, ", ")))
            }
            other => (name.to_owned(), other.json_path_payload()),
        }
    }

    /// Returns `true` for an expression as an item of a list. JSONPath allows this only in a function.
    fn is_dynamic(&self) -> bool {
        matches!(self, Self::Expr(expr) if expr.literal().is_none())
    }
}

impl Condition {
    /// Creates the condition that a member equals this string.
    pub(super) fn is(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Is(path.into(), vec![text.into()])
    }

    /// Creates the condition that a member is one of these strings.
    pub(super) fn is_one_of<S: Into<String>>(
        path: impl Into<String>,
        texts: impl IntoIterator<Item = S>,
    ) -> Self {
        Self::Is(path.into(), texts.into_iter().map(Into::into).collect())
    }

    /// Returns the negation of this condition.
    #[must_use]
    pub(super) fn negated(self) -> Self {
        Self::Not(Box::new(self))
    }

    /// Writes the condition in JSONata, without `{%` and `%}`.
    pub(super) fn jsonata(&self) -> String {
        let data = |path: &str| jsonata_path("$states.input", path);
        match self {
            Self::Is(path, texts) => match &texts[..] {
                [text] => format!("{} = {}", data(path), jsonata_text(text)),
                texts => {
                    let texts = joined(texts.iter().map(|text| jsonata_text(text)), ", ");
                    format!("{} in [{texts}]", data(path))
                }
            },
            Self::IsPresent(path) => format!("$exists({})", data(path)),
            Self::AtLeast(path, number) => format!("{} >= {number}", data(path)),
            Self::Below(path, number) => format!("{} < {number}", data(path)),
            Self::Matches(path, patterns) => {
                let patterns = joined(patterns.iter().map(|pattern| regex(pattern)), "|");
                // An absent member becomes an empty string, because no comparison may have no result.
                format!("$contains('' & {}, /^({patterns})$/)", data(path))
            }
            Self::Equal(one, other) => format!("{} = {}", one.jsonata(), other.jsonata()),
            Self::All(all) => joined(all.iter().map(Self::jsonata_operand), " and "),
            Self::Any(any) => joined(any.iter().map(Self::jsonata_operand), " or "),
            Self::Not(condition) => format!("$not({})", condition.jsonata()),
        }
    }

    fn jsonata_operand(&self) -> String {
        match self {
            Self::All(_) | Self::Any(_) => format!("({})", self.jsonata()),
            _ => self.jsonata(),
        }
    }

    /// Writes the condition as the members of a rule in JSONPath.
    pub(super) fn json_path(&self) -> Map<String, Value> {
        let object = |members: Vec<(&str, Value)>| -> Map<String, Value> {
            members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
        };
        let test =
            |path: &str, name, value| object(vec![("Variable", json!(json_path("$", path))), (name, value)]);
        let present = |path: &str| test(path, "IsPresent", json!(true));
        // A comparison with an absent member fails the execution.
        let and = |path: &str, comparison: Map<String, Value>| {
            object(vec![("And", json!([present(path), comparison]))])
        };
        let any = |mut any: Vec<Map<String, Value>>| match any.len() {
            1 => any.remove(0),
            _ => object(vec![("Or", json!(any))]),
        };
        match self {
            Self::Is(path, texts) => {
                and(path, any(texts.iter().map(|text| test(path, "StringEquals", json!(text))).collect()))
            }
            Self::IsPresent(path) => present(path),
            Self::AtLeast(path, number) => and(path, test(path, "NumericGreaterThanEquals", json!(number))),
            Self::Below(path, number) => and(path, test(path, "NumericLessThan", json!(number))),
            Self::Matches(path, patterns) => and(
                path,
                any(patterns.iter().map(|pattern| test(path, "StringMatches", json!(pattern))).collect()),
            ),
            Self::Equal(one, other) => object(vec![
                ("Variable", json!(one.json_path())),
                ("StringEqualsPath", json!(other.json_path())),
            ]),
            Self::All(all) => object(vec![("And", all.iter().map(Self::json_path).collect())]),
            Self::Any(conditions) => any(conditions.iter().map(Self::json_path).collect()),
            Self::Not(condition) => object(vec![("Not", condition.json_path().into())]),
        }
    }
}

/// Writes an expression as the value of a field.
pub(super) fn jsonata_field(expression: &str) -> Value {
    json!(format!("{{% {expression} %}}"))
}

/// Writes, as an expression of JSONata, the data with this value at a path.
pub(super) fn jsonata_put(path: &str, value: &str) -> String {
    let names: Vec<&str> = path.split('.').collect();
    (0..names.len()).rev().fold(value.to_owned(), |value, depth| {
        let outer = jsonata_path("$states.input", &names[..depth].join("."));
        format!("$merge([{outer}, {{{}: {value}}}])", jsonata_text(names[depth]))
    })
}

fn joined(parts: impl Iterator<Item = String>, separator: &str) -> String {
    parts.collect::<Vec<_>>().join(separator)
}

fn json_path(root: &str, path: &str) -> String {
    if path.is_empty() { root.to_owned() } else { format!("{root}.{path}") }
}

fn jsonata_path(root: &str, path: &str) -> String {
    const OPERATORS: [&str; 6] = ["and", "or", "in", "true", "false", "null"];
    let names = path.split('.').filter(|name| !name.is_empty());
    names.fold(root.to_owned(), |path, name| match OPERATORS.contains(&name) {
        true => format!("{path}.`{name}`"),
        false => format!("{path}.{name}"),
    })
}

/// Writes a literal of JSONata. It uses single quotes if possible, because the definition is JSON.
fn jsonata_text(text: &str) -> String {
    let plain = !text.contains(['\'', '\\']) && !text.chars().any(char::is_control);
    let literal = if plain { format!("'{text}'") } else { json!(text).to_string() };
    // A string must not contain the end of an expression or a substitution of CloudFormation.
    literal.replace("%}", "%\\u007d").replace("${", "\\u0024{")
}

/// Returns `true` for a literal string that the service would evaluate, or that a validator would report as
/// an invalid expression.
fn reads_as_jsonata(text: &str) -> bool {
    text.contains("{%") || text.contains("%}") || text.contains('\n') || text.starts_with("$states.")
}

/// Returns `true` for a literal string that looks like a JSONPath expression.
fn reads_as_path(text: &str) -> bool {
    !text.contains(['\\', '\n'])
        && (text.starts_with("$.")
            || text.starts_with("$$.")
            || (text.starts_with("States.") && text.ends_with(')')))
}

/// Escapes a string for the single quotes of an intrinsic function.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '\'' | '{' | '}' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// Converts a pattern with `*` to a regular expression.
fn regex(pattern: &str) -> String {
    pattern.chars().fold(String::new(), |mut regex, character| {
        match character {
            '*' => regex.push_str("[\\s\\S]*"),
            '.' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$' | '|' | '\\' | '/' => {
                regex.push('\\');
                regex.push(character);
            }
            _ => regex.push(character),
        }
        regex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_has_both_languages() {
        let cases = [
            (Expr::text("it's"), r#""it's""#, r"'it\'s'"),
            (Expr::text("a {b} %}"), r"'a {b} %\u007d'", r"'a \{b\} %\}'"),
            (Expr::data("run.id"), "$states.input.run.id", "$.run.id"),
            (Expr::data("steps.in"), "$states.input.steps.`in`", "$.steps.in"),
            (Expr::Context("Execution.Id"), "$states.context.Execution.Id", "$$.Execution.Id"),
            (
                Expr::Concat(vec![
                    Expr::text("CALL "),
                    Expr::data("parameters.schema"),
                    Expr::text(".load()"),
                ]),
                "'CALL ' & $states.input.parameters.schema & '.load()'",
                "States.Format('CALL {}.load()', $.parameters.schema)",
            ),
            (Expr::data("a").plus(Expr::Number(1)), "$states.input.a + 1", "States.MathAdd($.a, 1)"),
            (
                Expr::Element(vec![1, 2], Box::new(Expr::data("n"))),
                "[1, 2][$states.input.n]",
                "States.ArrayGetItem(States.Array(1, 2), $.n)",
            ),
            (
                Expr::Sha256(Box::new(Expr::data("a"))),
                "$hash($states.input.a, 'SHA-256')",
                "States.Hash($.a, 'SHA-256')",
            ),
        ];
        for (expr, jsonata, json_path) in cases {
            assert_eq!(expr.jsonata(), jsonata);
            assert_eq!(expr.json_path(), json_path);
        }
    }

    #[test]
    fn a_payload_has_expressions_where_the_language_allows_them() {
        let shape = Shape::object([
            ("version", Shape::Value(json!(1))),
            ("id", Expr::data("run.id").into()),
            ("sql", Shape::Expr(Expr::Concat(vec![Expr::text("SELECT 1")]))),
            ("sqls", Shape::List(vec![Shape::text("A"), Expr::data("b").into()])),
        ]);
        assert_eq!(
            shape.render(QueryLanguage::Jsonata),
            json!({"version": 1, "id": "{% $states.input.run.id %}", "sql": "SELECT 1",
                   "sqls": ["A", "{% $states.input.b %}"]})
        );
        assert_eq!(
            shape.render(QueryLanguage::JsonPath),
            json!({"version": 1, "id.$": "$.run.id", "sql": "SELECT 1", "sqls.$": "States.Array('A', $.b)"})
        );
    }

    #[test]
    fn a_literal_text_is_never_evaluated() {
        for (text, jsonata, (name, json_path)) in [
            ("{% $x %}", r"{% '{% $x %\u007d' %}", ("sql", "{% $x %}")),
            ("a %}", r"{% 'a %\u007d' %}", ("sql", "a %}")),
            ("$states.input", "{% '$states.input' %}", ("sql", "$states.input")),
            ("$.a", "$.a", ("sql.$", "States.Format('$.a')")),
            ("SELECT 1", "SELECT 1", ("sql", "SELECT 1")),
        ] {
            let shape = Shape::object([("sql", Shape::text(text))]);
            assert_eq!(shape.render(QueryLanguage::Jsonata), json!({ "sql": jsonata }));
            assert_eq!(shape.render(QueryLanguage::JsonPath), json!({ name: json_path }));
        }
    }

    #[test]
    fn a_comparison_with_an_absent_member_is_not_satisfied() {
        let condition = Condition::is_one_of("run.reply.status", ["FAILED", "ABORTED"]);
        assert_eq!(condition.jsonata(), "$states.input.run.reply.status in ['FAILED', 'ABORTED']");
        let variable = "$.run.reply.status";
        assert_eq!(
            Value::from(condition.json_path()),
            json!({"And": [
                {"Variable": variable, "IsPresent": true},
                {"Or": [
                    {"Variable": variable, "StringEquals": "FAILED"},
                    {"Variable": variable, "StringEquals": "ABORTED"},
                ]},
            ]})
        );
        let condition = Condition::Matches("e".to_owned(), vec!["ERROR: 1023*".to_owned()]);
        assert_eq!(condition.jsonata(), r"$contains('' & $states.input.e, /^(ERROR: 1023[\s\S]*)$/)");
    }

    #[test]
    fn a_value_is_put_into_the_data() {
        assert_eq!(
            jsonata_put("run.id", "1"),
            "$merge([$states.input, {'run': $merge([$states.input.run, {'id': 1}])}])"
        );
    }
}
