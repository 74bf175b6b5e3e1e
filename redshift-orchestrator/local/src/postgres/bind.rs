//! Binds named parameters for PostgreSQL: `:name` becomes `$1`, and values are sent as text.

use std::error::Error as StdError;

use bytes::BytesMut;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

use redshift_orchestrator::{
    Parameter,
    sql::{Token, tokens},
};

/// SQL with numbered placeholders, and the values in the order of their numbers.
#[derive(Debug, PartialEq)]
pub(super) struct Bound<'a> {
    pub(super) sql: String,
    pub(super) values: Vec<TextValue<'a>>,
}

/// A value in text format. The server converts it to the type that the placeholder's position requires.
#[derive(Debug, PartialEq)]
pub(super) struct TextValue<'a>(pub(super) &'a str);

/// Replaces named placeholders by numbered ones. Each occurrence gets a separate number, so that PostgreSQL
/// can infer a different type for each. Names without a parameter are left unchanged.
pub(super) fn bind<'a>(sql: &str, parameters: &'a [Parameter]) -> Bound<'a> {
    let mut bound = Bound { sql: String::with_capacity(sql.len()), values: Vec::new() };
    for token in tokens(sql) {
        let parameter = match token {
            Token::Placeholder(text) => parameters.iter().find(|parameter| parameter.name == text[1..]),
            _ => None,
        };
        match parameter {
            Some(parameter) => {
                bound.values.push(TextValue(&parameter.value));
                bound.sql.push('$');
                bound.sql.push_str(&bound.values.len().to_string());
            }
            None => bound.sql.push_str(token.text()),
        }
    }
    bound
}

impl ToSql for TextValue<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_every_occurrence_and_leaves_strings_and_casts_alone() {
        let parameters = ["a", "b"].map(|name| Parameter::new(name, format!("<{name}>")));
        let bound = bind("CALL f(:a, ':a', :b::date, :a) -- :b", &parameters);
        assert_eq!(bound.sql, "CALL f($1, ':a', $2::date, $3) -- :b");
        assert_eq!(bound.values, ["<a>", "<b>", "<a>"].map(TextValue));
    }

    #[test]
    fn without_parameters_the_text_is_unchanged() {
        assert_eq!(bind("SELECT a[1:n], ':x', :y", &[]).sql, "SELECT a[1:n], ':x', :y");
    }
}
