//! [`Redactor`]: removes SQL and values from messages of the database and the service.

use std::{collections::BTreeSet, ops::Range};

use crate::{
    Description, Error, Statement,
    sql::{Token, tokens},
};

/// Replacement for removed text.
const GAP: &str = "…";

/// Number of consecutive words that count as a quotation if the SQL contains them in the same order. A
/// qualified name is one word.
const QUOTATION: usize = 3;

/// Length above which a value is also recognised inside a word and by its first characters, because messages
/// truncate the text that they quote.
const LONG: usize = 8;

/// Removes quotations of a statement from a text: parts of its SQL, literals and parameter values.
///
/// Names are kept, as in `column "discount" does not exist`, because they are needed to correct the
/// statement. Values of one character are also kept.
pub(crate) struct Redactor {
    /// Texts that are removed even from the messages of procedures.
    secrets: BTreeSet<String>,
    values: BTreeSet<String>,
    quotations: BTreeSet<Vec<String>>,
}

impl Redactor {
    /// Creates a redactor for texts about this statement.
    pub(crate) fn of(statement: &Statement) -> Self {
        let values = statement.parameters().iter().map(|parameter| parameter.value.as_str());
        let mut redactor = Self::new(statement.sqls().iter().map(String::as_str), values);
        redactor.secrets = statement.secrets().iter().filter(|secret| !secret.is_empty()).cloned().collect();
        redactor
    }

    /// Creates a redactor for texts in this description. Returns `None` if the description does not contain
    /// the SQL.
    pub(crate) fn of_described(description: &Description) -> Option<Self> {
        let subs = description.sub_statements.iter().filter_map(|sub| sub.sql.as_ref());
        let sqls: Vec<_> = description.sql.iter().chain(subs).map(|sql| sql.as_str()).collect();
        let values = description.parameters.iter().map(|parameter| parameter.value.as_str());
        (!sqls.is_empty()).then(|| Self::new(sqls.into_iter(), values))
    }

    fn new<'a>(sqls: impl Iterator<Item = &'a str>, values: impl Iterator<Item = &'a str>) -> Self {
        let mut redactor = Self {
            secrets: BTreeSet::new(),
            values: values.map(str::to_owned).collect(),
            quotations: BTreeSet::new(),
        };
        for sql in sqls {
            let words: Vec<_> = words(sql).map(|(word, _)| word.to_owned()).collect();
            redactor.quotations.extend(words.windows(QUOTATION).map(<[String]>::to_vec));
            redactor.add_literals(sql);
        }
        redactor.values.retain(|value| value.chars().nth(1).is_some());
        redactor
    }

    fn add_literals(&mut self, sql: &str) {
        for token in tokens(sql) {
            match token {
                Token::Quoted(text) if text.starts_with('$') => {
                    // The body of a procedure or block is also SQL. The recursion ends, because the body is
                    // shorter than the text around it.
                    let tag = text[1..].find('$').map_or(1, |end| end + 2);
                    let body = &text[tag..];
                    self.add_literals(body.strip_suffix(&text[..tag]).unwrap_or(body));
                }
                Token::Quoted(text) if text.ends_with('\'') => {
                    let inner = text.trim_start_matches(['e', 'E']).trim_matches('\'');
                    let value = inner.replace("''", "'");
                    if value != inner {
                        // A literal that contains quotes may be SQL for `EXECUTE`.
                        self.add_literals(&value);
                    }
                    self.values.insert(value);
                    self.values.insert(inner.to_owned());
                }
                // A shorter number in a message is often a line number or an error code.
                Token::Word(word) if word.len() > 4 && word.starts_with(|c: char| c.is_ascii_digit()) => {
                    self.values.insert(word.to_owned());
                }
                _ => {}
            }
        }
    }

    /// Replaces quotations in the text.
    pub(crate) fn apply(&self, text: &str) -> String {
        let mut gaps = self.quoted(text);
        for value in self.values.iter().chain(&self.secrets) {
            gaps.extend(found(text, value));
        }
        with_gaps(text, gaps)
    }

    /// Replaces only secrets in the text. Used for messages that a procedure raises.
    pub(crate) fn apply_secrets(&self, text: &str) -> String {
        with_gaps(text, self.secrets.iter().flat_map(|secret| found(text, secret)).collect())
    }

    /// Replaces quotations in the error and in its sources.
    pub(crate) fn apply_to(&self, error: Error) -> Error {
        error.map_messages(|text| self.apply(text))
    }

    /// Returns a copy of the error without quotations.
    pub(crate) fn redacted(&self, error: &Error) -> Error {
        error.clone_with_messages(|text| self.apply(text))
    }

    /// Returns the ranges of [`QUOTATION`] consecutive words that also occur in the SQL.
    fn quoted(&self, text: &str) -> Vec<Range<usize>> {
        let words: Vec<_> = words(text).collect();
        let is_quotation = |row: &&[(&str, Range<usize>)]| {
            self.quotations.contains(&row.iter().map(|(word, _)| (*word).to_owned()).collect::<Vec<_>>())
        };
        let rows = words.windows(QUOTATION).filter(is_quotation);
        rows.map(|row| row[0].1.start..row[QUOTATION - 1].1.end).collect()
    }
}

/// Replaces each of these ranges with [`GAP`]. The ranges may overlap.
fn with_gaps(text: &str, mut gaps: Vec<Range<usize>>) -> String {
    gaps.sort_by_key(|gap| gap.start);
    let (mut redacted, mut end) = (String::with_capacity(text.len()), 0);
    for gap in gaps {
        if gap.start >= end {
            redacted.push_str(&text[end..gap.start]);
            // Adjacent ranges become one gap.
            if !redacted.ends_with(GAP) {
                redacted.push_str(GAP);
            }
        }
        end = end.max(gap.end);
    }
    redacted.push_str(&text[end..]);
    redacted
}

/// Returns the words of a text, separated by white space and without surrounding punctuation, with their
/// ranges.
fn words(text: &str) -> impl Iterator<Item = (&str, Range<usize>)> {
    text.split_whitespace().map(move |word| {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let bare = if bare.is_empty() { word } else { bare };
        // `bare` is a slice of `text`, so the difference of their addresses is its offset.
        let start = bare.as_ptr() as usize - text.as_ptr() as usize;
        (bare, start..start + bare.len())
    })
}

/// Returns the ranges of a value in a text. A short value is found only as a whole word. A value longer than
/// [`LONG`] is also found inside a word and by its first characters.
fn found(text: &str, value: &str) -> Vec<Range<usize>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let is_long = value.chars().nth(LONG).is_some();
    let beginning = match value.char_indices().nth(LONG) {
        Some((end, _)) => &value[..end],
        None => value,
    };
    let matches = text.match_indices(beginning).filter_map(|(start, _)| {
        let common = text[start..].chars().zip(value.chars()).take_while(|(one, other)| one == other);
        let end = start + common.map(|(one, _)| one.len_utf8()).sum::<usize>();
        let is_whole = !text[..start].ends_with(is_word) && !text[end..].starts_with(is_word);
        (is_long || is_whole).then_some(start..end)
    });
    matches.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn redactor() -> Redactor {
        Redactor::of(
            &Statement::sql(
                "INSERT INTO mystore.customer (name, ssn) SELECT 'O''Brien', 123456789 WHERE :key = x.y",
            )
            .with_parameter("key", "hush-4711-and-more")
            .with_parameter("n", "7")
            .with_parameter("day", "42"),
        )
    }

    #[test]
    fn removes_quotations_and_keeps_names() {
        let redactor = redactor();
        for (text, expected) in [
            ("ERROR: column \"ssn\" does not exist", "ERROR: column \"ssn\" does not exist"),
            ("relation \"mystore.customer\" does not exist", "relation \"mystore.customer\" does not exist"),
            ("bad value \"hush-4711-and-more\"", "bad value \"…\""),
            ("bad value \"hush-4711-a...\"", "bad value \"…...\""),
            ("Key (name, ssn)=(O'Brien, 123456789) exists", "Key (name, ssn)=(…, …) exists"),
            ("Key (day)=(42), line 142, n is 7", "Key (day)=(…), line 142, n is 7"),
            ("near \"INSERT INTO mystore.customer (name, ssn) SELECT 'x'\"", "near \"… 'x'\""),
            ("in\n  insert  of a row", "in\n  insert  of a row"),
            ("", ""),
        ] {
            assert_eq!(redactor.apply(text), expected);
        }
    }

    #[test]
    fn removes_only_secrets_from_messages_of_procedures() {
        let statement = Statement::sql("CALL load(:day, :pin)").with_parameter("day", "2025-03-01");
        let redactor = Redactor::of(&statement.with_parameter("pin", "4711").with_secret("4711"));
        assert_eq!(redactor.apply_secrets("day 2025-03-01 with 4711"), "day 2025-03-01 with …");
        assert_eq!(redactor.apply("day 2025-03-01 with 4711"), "day … with …");
    }

    #[test]
    fn the_body_of_a_block_is_redacted_as_sql() {
        let redactor = Redactor::of(&Statement::sql("DO $x$ BEGIN RAISE 'hidden away'; END $x$"));
        assert_eq!(redactor.apply("ERROR: hidden away [SQLSTATE P0001]"), "ERROR: … [SQLSTATE P0001]");
        let redactor =
            Redactor::of(&Statement::sql("DO $$ BEGIN EXECUTE 'SELECT ''hidden away''::int'; END $$"));
        assert_eq!(redactor.apply("for type integer: \"hidden away\""), "for type integer: \"…\"");
    }

    #[test]
    fn errors_keep_their_kind_and_their_context() {
        let error = Error::new(ErrorKind::Invalid, "no hush-4711-and-more")
            .with_code("ValidationException")
            .with_context("operation", "ExecuteStatement")
            .with_source("a source with hush-4711-and-more");
        let redacted = redactor().apply_to(error);
        assert_eq!((redacted.kind(), redacted.code()), (ErrorKind::Invalid, Some("ValidationException")));
        let printed = "invalid request: no … { operation: ExecuteStatement }\n  caused by: a source with …";
        assert_eq!(format!("{redacted:?}"), printed);
        let harmless = Error::new(ErrorKind::NotSent, "no way").with_source(std::io::Error::other("port 1"));
        let same = redactor().apply_to(harmless);
        let source = std::error::Error::source(&same).unwrap();
        assert!(source.is::<std::io::Error>(), "an error without quotations is not changed");
    }

    #[test]
    fn finds_values_with_characters_of_several_bytes() {
        let redactor = Redactor::of(
            &Statement::sql("SELECT 'Käse für Überflüssige'").with_parameter("a", "日本語のテキスト長い"),
        );
        assert_eq!(redactor.apply("Käse für Überflüssige 日本語のテキスト長い"), "… …");
        assert_eq!(redactor.apply("Käse für Ü"), "…");
    }
}
