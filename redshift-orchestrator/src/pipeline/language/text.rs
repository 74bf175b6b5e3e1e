//! [`TemplateText`]: a text with parameters of the run.

use std::{collections::BTreeMap, fmt};

/// Text split into literals and parameters of the run.
///
/// A parameter is written `${name}` and cannot be escaped: `$${name}` is a `$` followed by the parameter. If
/// `${` is not followed by `}`, it is literal text. `Debug` does not print literals.
#[derive(Clone, PartialEq, Eq)]
pub struct TemplateText {
    pieces: Vec<Piece>,
}

/// Piece of a [`TemplateText`]. The enum is exhaustive, so that the compiler reports a new variant to every
/// generator.
#[derive(Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text that is the same in every run. A literal is never empty, and two literals are never adjacent.
    Literal(String),
    /// Name of the parameter whose value is inserted.
    Parameter(String),
}

impl TemplateText {
    /// Splits a text into its pieces.
    pub fn parse(text: &str) -> Self {
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some((literal, (name, after))) =
            rest.split_once("${").and_then(|(literal, opened)| Some((literal, opened.split_once('}')?)))
        {
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.to_owned()));
            }
            pieces.push(Piece::Parameter(name.to_owned()));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest.to_owned()));
        }
        Self { pieces }
    }

    /// Returns the pieces in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Returns the names of the parameters in order. A parameter that occurs twice is returned twice.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Parameter(name) => Some(name.as_str()),
            Piece::Literal(_) => None,
        })
    }

    /// Returns the text with its parameters replaced by their values. If a parameter has no value, returns
    /// its name as the error.
    pub(super) fn render(&self, values: &BTreeMap<String, String>) -> Result<String, &str> {
        let pieces = self.pieces.iter().map(|piece| match piece {
            Piece::Literal(text) => Ok(text.as_str()),
            Piece::Parameter(name) => values.get(name).map(String::as_str).ok_or(name.as_str()),
        });
        pieces.collect()
    }
}

/// Returns `true` if a value may be inserted into SQL text: a word, a number, a date or a qualified name. The
/// value must consist of ASCII letters, digits, `_`, `.` and `-`, and must not contain `--`, which begins a
/// comment.
///
/// Any other value must be passed as the value of a placeholder, which the service keeps separate from the
/// SQL.
pub fn is_allowed_in_sql(value: &str) -> bool {
    !value.is_empty()
        && !value.contains("--")
        && value.chars().all(|character| character.is_ascii_alphanumeric() || "_.-".contains(character))
}

impl fmt::Debug for TemplateText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.pieces).finish()
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("…"),
            Self::Parameter(name) => write!(f, "${{{name}}}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn literal(text: &str) -> Piece {
        Piece::Literal(text.to_owned())
    }

    fn parameter(name: &str) -> Piece {
        Piece::Parameter(name.to_owned())
    }

    #[test]
    fn a_text_is_split_into_literals_and_parameters() {
        let cases = [
            ("", vec![]),
            ("SELECT 1", vec![literal("SELECT 1")]),
            ("${a}${b} $c", vec![parameter("a"), parameter("b"), literal(" $c")]),
            ("x ${a} y", vec![literal("x "), parameter("a"), literal(" y")]),
            ("$${a}", vec![literal("$"), parameter("a")]),
            ("$$ BEGIN; END $$ {a}", vec![literal("$$ BEGIN; END $$ {a}")]),
            ("${a} ${open", vec![parameter("a"), literal(" ${open")]),
            ("} ${a}", vec![literal("} "), parameter("a")]),
            ("${ä}ö", vec![parameter("ä"), literal("ö")]),
        ];
        for (text, pieces) in cases {
            assert!(TemplateText::parse(text).pieces() == pieces, "{text}");
        }
    }

    #[test]
    fn replaces_known_parameters_and_reports_unknown_ones() {
        let values = BTreeMap::from([("cycle".to_owned(), "7".to_owned())]);
        let render = |text: &str| TemplateText::parse(text).render(&values).map_err(str::to_owned);
        assert_eq!(render("a ${cycle} b ${cycle}"), Ok("a 7 b 7".to_owned()));
        assert_eq!(render("${day}"), Err("day".to_owned()));
        assert_eq!(render("$cycle ${open"), Ok("$cycle ${open".to_owned()));
    }

    #[test]
    fn only_plain_values_are_allowed_in_sql() {
        for plain in ["7", "mystore.sales", "2026-11-23", "stage_1"] {
            assert!(is_allowed_in_sql(plain), "{plain}");
        }
        for other in ["", "a b", "'x'", "1;DROP", "1--", "x)", "é"] {
            assert!(!is_allowed_in_sql(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn the_pieces_of_a_text_add_up_to_the_text(text in "[a{}$ ä]{0,40}") {
            let text_of = |piece: &Piece| match piece {
                Piece::Literal(text) => text.clone(),
                Piece::Parameter(name) => format!("${{{name}}}"),
            };
            let parsed = TemplateText::parse(&text);
            prop_assert_eq!(parsed.pieces().iter().map(text_of).collect::<String>(), text);
            let is_literal = |piece: &Piece| matches!(piece, Piece::Literal(_));
            prop_assert!(!parsed.pieces().windows(2).any(|pair| pair.iter().all(is_literal)));
        }
    }
}
