//! [`Parameter`] and [`Value`]: values of the `:name` placeholders of a statement.

use std::fmt;

use super::{Body, Statement};
use crate::sql::{Token, tokens};

/// Named value for the `:name` placeholders of a statement.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parameter {
    /// Name of the placeholder without its colon: letters, digits and `_`.
    pub name: String,
    /// Text of the value; the database casts it to the type that the SQL requires.
    pub value: String,
}

impl Parameter {
    /// Creates a parameter.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

impl fmt::Debug for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parameter").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Value to [bind](Statement::bind): a string, a number, a boolean, a date or time, or NULL.
///
/// Numbers, dates and other values are sent as text, and the database casts them to the types that the SQL
/// requires. Pass a value of any other type, such as a decimal, as text. `Debug` does not print the value.
#[derive(Clone, PartialEq, Eq)]
pub struct Value(Option<String>);

impl Value {
    /// SQL NULL.
    pub const NULL: Self = Self(None);
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self(Some(text))
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::NULL, Into::into)
    }
}

macro_rules! printed {
    ($($type:ty)*) => {
        $(impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self(Some(value.to_string()))
            }
        })*
    };
}

printed! { &str &String bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 jiff::civil::Date jiff::civil::Time jiff::Timestamp }

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Value(..)" } else { "Value(NULL)" })
    }
}

impl Statement {
    /// Adds a named parameter. The service accepts only a non-empty text, in which `null` has no special
    /// meaning. The database casts the text to the type that the SQL requires. Use [`bind`](Self::bind) for
    /// values that may be NULL or empty.
    #[must_use]
    pub fn with_parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.push(Parameter::new(name, value));
        self
    }

    /// Binds a value to the placeholder `:name`. The value may be NULL or empty.
    ///
    /// The service's parameters can represent neither NULL nor an empty text: NULL would arrive as the text
    /// `null`, and an empty text is rejected. These two values are written into the SQL in place of the
    /// placeholder. Every other value becomes a parameter.
    ///
    /// ```
    /// use redshift_orchestrator::Statement;
    ///
    /// let coupon: Option<&str> = None;
    /// let statement = Statement::sql("UPDATE sales SET coupon = :coupon, note = :note WHERE ticket = :ticket")
    ///     .bind("coupon", coupon)
    ///     .bind("note", "")
    ///     .bind("ticket", 7);
    /// assert_eq!(statement.sqls(), ["UPDATE sales SET coupon = NULL, note = '' WHERE ticket = :ticket"]);
    /// assert_eq!(statement.parameters().len(), 1);
    /// ```
    #[must_use]
    pub fn bind(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        let name = name.into();
        let literal = match value.into().0 {
            Some(value) if !value.is_empty() => return self.with_parameter(name, value),
            Some(_) => "''",
            None => "NULL",
        };
        let mut replaced = false;
        let sqls = match &mut self.body {
            Body::Single(sql) => sql.as_mut_slice(),
            Body::Batch(sqls, _) => sqls.as_mut_slice(),
        };
        for sql in sqls {
            if let Some(new) = inline(sql, &name, literal) {
                (*sql, replaced) = (new, true);
            }
        }
        if !replaced {
            self.unplaced.push(name);
        }
        self
    }
}

/// Replaces each `:name` by a literal. Returns `None` if the SQL has no such placeholder.
fn inline(sql: &str, name: &str, literal: &str) -> Option<String> {
    let is_it =
        |token: &Token<'_>| matches!(token, Token::Placeholder(text) if text.strip_prefix(':') == Some(name));
    if !tokens(sql).any(|token| is_it(&token)) {
        return None;
    }
    Some(tokens(sql).map(|token| if is_it(&token) { literal } else { token.text() }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_text_are_written_into_the_sql() {
        let sql = "CALL load(:a::int, ':a', :ab, x[1:2] /* :a */, :a)";
        let bound = Statement::sql(sql).bind("a", Value::NULL);
        assert_eq!(bound.sqls(), ["CALL load(NULL::int, ':a', :ab, x[1:2] /* :a */, NULL)"]);
        let bound = Statement::batch(["SELECT 1", "SELECT :a || 'x'"]).bind("a", "");
        assert_eq!(bound.sqls(), ["SELECT 1", "SELECT '' || 'x'"]);
        assert!(bound.parameters().is_empty());
    }

    #[test]
    fn other_values_are_parameters_with_exact_text() {
        let statement = Statement::sql("SELECT :n, :d, :t, :b, :s")
            .bind("n", i64::MIN)
            .bind("d", 0.1 + 0.2)
            .bind("t", jiff::civil::date(2026, 11, 23))
            .bind("b", Some(true))
            .bind("s", "null");
        let values: Vec<_> = statement.parameters().iter().map(|p| p.value.as_str()).collect();
        assert_eq!(values, ["-9223372036854775808", "0.30000000000000004", "2026-11-23", "true", "null"]);
        assert!(!format!("{:?}", Value::from("classified")).contains("classified"));
    }
}
