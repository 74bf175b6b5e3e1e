//! Translates statements that name procedures with their parameters.

use std::{borrow::Cow, ops::Range};

use super::{
    Piece, Reader, block, quoted,
    statements::without_role,
    tables::{raw, type_name},
};
use redshift_orchestrator::sql::Token;

/// Translates `DROP PROCEDURE p(…)`, `ALTER PROCEDURE p(…) …`, and `GRANT` or `REVOKE … ON PROCEDURE p(…) …`.
///
/// Output parameters do not belong to a signature in Redshift. The translation of `CREATE PROCEDURE` makes the
/// last ones optional input parameters, which PostgreSQL expects in the signature. The statement therefore looks up
/// the parameters of the procedure when it runs.
pub(super) fn translate<'a>(reader: Reader<'a, '_>, part: Range<usize>) -> Result<Option<Piece<'a>>, String> {
    let begin = part.start;
    let end = reader.statement_end(begin, part.end);
    let Some((verb, next)) = reader.word(begin, end) else { return Ok(None) };
    let names = match verb.as_str() {
        "DROP" | "ALTER" => reader.words(next, end, &["PROCEDURE"]),
        _ => (next..end).find_map(|at| match reader.tokens[at] {
            Token::Word(_) => reader.words(at, end, &["ON", "PROCEDURE"]),
            _ => None,
        }),
    };
    let Some(names) = names else { return Ok(None) };
    let mut at = reader.words(names, end, &["IF", "EXISTS"]).unwrap_or(names);
    // The terms of an expression that concatenates the statement.
    let mut terms = vec![quoted(&raw(reader, begin..at))];
    loop {
        let Some(open) = (at..end).find(|at| reader.tokens[*at] == Token::Symbol("(")) else {
            return Ok(None);
        };
        let Some((list, behind)) = reader.list(open, end) else { return Ok(None) };
        let name = raw(reader, at..open);
        let mut inputs = Vec::new();
        for parameter in reader.split(list) {
            inputs.extend(input(reader, parameter)?.map(|input| quoted(&input)));
        }
        let (library, inputs) = (reader.library, inputs.join(", "));
        terms.push(quoted(&format!("{name}(")));
        terms.push(format!("{library}.signature({}, ARRAY[{inputs}]::text[])", quoted(name.trim())));
        terms.push(quoted(")"));
        match reader.next(behind, end) {
            Some(comma) if reader.tokens[comma] == Token::Symbol(",") => {
                terms.push(quoted(&raw(reader, behind..comma + 1)));
                at = comma + 1;
            }
            _ => {
                terms.push(quoted(&without_role(reader, behind..end)));
                break;
            }
        }
    }
    Ok(Some((Cow::Owned(block(&format!("EXECUTE {}", terms.join(" || ")))), end)))
}

/// Returns a parameter without its mode. Returns `None` for an output parameter.
fn input(reader: Reader<'_, '_>, part: Range<usize>) -> Result<Option<String>, String> {
    let (mut text, mut at) = (String::new(), part.start);
    let mut words = 0;
    while at < part.end {
        let (piece, next) = match reader.tokens[at] {
            Token::Word(word) => {
                words += 1;
                let is = |mode: &str| words <= 2 && word.eq_ignore_ascii_case(mode);
                if is("OUT") {
                    return Ok(None);
                }
                match is("IN") || is("INOUT") {
                    true => (Cow::Borrowed(""), at + 1),
                    false => type_name(reader, at..part.end)?.unwrap_or((Cow::Borrowed(word), at + 1)),
                }
            }
            token => (Cow::Borrowed(token.text()), at + 1),
        };
        text.push_str(&piece);
        at = next;
    }
    Ok(Some(text.trim().to_owned()))
}
