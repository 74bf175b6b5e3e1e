//! Translates statements with options that PostgreSQL lacks.

use std::{borrow::Cow, ops::Range};

use super::{
    Context, Piece, Reader,
    bodies::{self, Transactions},
    names, refusal, signatures,
    tables::{self, raw},
};
use redshift_orchestrator::sql::Token;

/// Settings that PostgreSQL lacks. They get a prefix with a dot, because PostgreSQL accepts any setting whose
/// name has a dot.
const SETTINGS: [&str; 20] = [
    "ANALYZE_THRESHOLD_PERCENT",
    "CAST_SUPER_NULL_ON_ERROR",
    "DESCRIBE_FIELD_NAME_IN_UPPERCASE",
    "DOWNCASE_DELIMITED_IDENTIFIER",
    "ENABLE_CASE_SENSITIVE_IDENTIFIER",
    "ENABLE_CASE_SENSITIVE_SUPER_ATTRIBUTE",
    "ENABLE_NUMERIC_ROUNDING",
    "ENABLE_RESULT_CACHE_FOR_SESSION",
    "ENABLE_VACUUM_BOOST",
    "ERROR_ON_NONDETERMINISTIC_UPDATE",
    "JSON_PARSE_DEDUP_ATTRIBUTES",
    "JSON_PARSE_TRUNCATE_STRINGS",
    "MAX_CURSOR_RESULT_SET_SIZE",
    "MV_ENABLE_AQMV_FOR_SESSION",
    "NAVIGATE_SUPER_NULL_ON_ERROR",
    "PARSE_SUPER_NULL_ON_ERROR",
    "QUERY_GROUP",
    "SPECTRUM_QUERY_MAXERROR",
    "STORED_PROC_LOG_MIN_MESSAGES",
    "WLM_QUERY_SLOT_COUNT",
];

/// Translates the statement at the beginning of a range, or only its first words. Returns `None` if nothing
/// changes.
pub(super) fn translate<'a>(reader: Reader<'a, '_>, part: Range<usize>) -> Result<Option<Piece<'a>>, String> {
    let (begin, end) = (part.start, part.end);
    let Some((word, next)) = reader.word(begin, end) else { return Ok(None) };
    match word.as_str() {
        "CREATE" if reader.words(next, end, &["SCHEMA"]).is_some() => {
            Ok(without(reader, begin, end, |at| quota(reader, at, end)))
        }
        "CREATE" | "ALTER" if reader.words(next, end, &["USER"]).is_some() => {
            Ok(without(reader, begin, end, |at| reader.words(at, end, &["PASSWORD", "DISABLE"])))
        }
        "CREATE" => match routine(reader, part.clone())? {
            Some(piece) => Ok(Some(piece)),
            None => tables::create(reader, part),
        },
        "ALTER" if reader.words(next, end, &["SCHEMA"]).is_some() => {
            let end = reader.statement_end(next, end);
            let quotas = (next..end).any(|at| quota(reader, at, end).is_some());
            Ok(quotas.then_some((Cow::Borrowed(tables::NOTHING), end)))
        }
        "ALTER" if reader.words(next, end, &["DEFAULT", "PRIVILEGES"]).is_some() => {
            let verb = (next..end).find(|at| names::is(reader.tokens[*at], &["GRANT", "REVOKE"]));
            Ok(verb.and_then(|verb| grant(reader, part, verb)))
        }
        "DROP" => signatures::translate(reader, part),
        "ALTER" => match signatures::translate(reader, part.clone())? {
            Some(piece) => Ok(Some(piece)),
            None => tables::alter(reader, part),
        },
        "REFRESH" => Ok(without(reader, begin, end, |at| {
            reader.words(at, end, &["RESTRICT"]).or_else(|| reader.words(at, end, &["CASCADE"]))
        })),
        "GRANT" | "REVOKE" => match signatures::translate(reader, part.clone())? {
            Some(piece) => Ok(Some(piece)),
            None => Ok(grant(reader, part, begin)),
        },
        "VACUUM" => vacuum(reader, next, end),
        "ANALYZE" | "ANALYSE" => analyze(reader, begin, next, end),
        "SET" | "RESET" | "SHOW" => Ok(setting(reader, begin, next, end)),
        "DELETE" => {
            let names_a_table = reader.next(next, end).is_some_and(|at| match reader.tokens[at] {
                Token::Word(word) => !["FROM", "WHEN"].iter().any(|one| word.eq_ignore_ascii_case(one)),
                Token::Quoted(name) => name.starts_with('"'),
                token => token == Token::Symbol("#"),
            });
            Ok(names_a_table.then_some((Cow::Borrowed("DELETE FROM"), next)))
        }
        _ => Ok(None),
    }
}

/// Returns the position after `QUOTA n GB` or `QUOTA UNLIMITED`.
fn quota(reader: Reader<'_, '_>, at: usize, end: usize) -> Option<usize> {
    let (size, next) = reader.word(reader.words(at, end, &["QUOTA"])?, end)?;
    let unit = ["MB", "GB", "TB"].iter().find_map(|unit| reader.words(next, end, &[unit]));
    match unit {
        Some(behind) => Some(behind),
        None if size == "UNLIMITED" || size.ends_with('B') => Some(next),
        None => None,
    }
}

/// Returns the statement without the words that `drop` finds. `drop` returns the position after the words.
/// Returns `None` if it finds none.
fn without<'a>(
    reader: Reader<'a, '_>,
    begin: usize,
    end: usize,
    drop: impl Fn(usize) -> Option<usize>,
) -> Option<Piece<'a>> {
    let end = reader.statement_end(begin, end);
    let is_word = |at: &usize| matches!(reader.tokens[*at], Token::Word(_));
    let (at, behind) = (begin + 1..end).filter(is_word).find_map(|at| drop(at).map(|behind| (at, behind)))?;
    let kept = reader.tokens[begin..at].iter().chain(&reader.tokens[behind..end]);
    Some((Cow::Owned(kept.map(|token| token.text()).collect()), end))
}

/// Translates a `GRANT` or `REVOKE` that begins at `verb`.
fn grant<'a>(reader: Reader<'a, '_>, part: Range<usize>, verb: usize) -> Option<Piece<'a>> {
    let end = reader.statement_end(part.start, part.end);
    let text = without_role(reader, verb..end);
    (text != raw(reader, verb..end)).then(|| (Cow::Owned(raw(reader, part.start..verb) + &text), end))
}

/// Returns the text of a `GRANT` or `REVOKE`, or of its end, without the keyword `ROLE`. PostgreSQL does not
/// allow the keyword before the name of a role.
pub(super) fn without_role(reader: Reader<'_, '_>, part: Range<usize>) -> String {
    let (mut text, mut before, mut depth) = (String::new(), None, 0_usize);
    for at in part.clone() {
        let token = reader.tokens[at];
        match token {
            Token::Symbol("(") => depth += 1,
            Token::Symbol(")") => depth = depth.saturating_sub(1),
            _ => {}
        }
        let begins_name = before.is_some_and(|before| {
            before == Token::Symbol(",") || names::is(before, &["GRANT", "REVOKE", "FOR", "TO", "FROM"])
        });
        let is_keyword = depth == 0
            && begins_name
            && names::is(token, &["ROLE"])
            && reader.next(at + 1, part.end).is_some_and(|next| match reader.tokens[next] {
                // A role can have the name `role`.
                word @ Token::Word(_) => !names::is(word, &["TO", "FROM", "WITH", "CASCADE", "RESTRICT"]),
                Token::Quoted(_) => true,
                _ => false,
            });
        if !is_keyword {
            text.push_str(token.text());
        }
        if !matches!(token, Token::Blank(_)) {
            before = Some(token);
        }
    }
    text
}

/// Translates `VACUUM [FULL | SORT ONLY | DELETE ONLY | REINDEX | RECLUSTER] [table] [TO n PERCENT] [BOOST]`.
fn vacuum<'a>(reader: Reader<'a, '_>, mut at: usize, end: usize) -> Result<Option<Piece<'a>>, String> {
    let end = reader.statement_end(at, end);
    for words in [&["FULL"][..], &["SORT", "ONLY"], &["DELETE", "ONLY"], &["REINDEX"], &["RECLUSTER"]] {
        if let Some(next) = reader.words(at, end, words) {
            at = next;
            break;
        }
    }
    let is_option = |at: &usize| {
        reader.words(*at, end, &["TO"]).is_some() || reader.words(*at, end, &["BOOST"]).is_some()
    };
    let options = (at..end).find(is_option).unwrap_or(end);
    Ok(Some((Cow::Owned(format!("VACUUM{}", behind_words(reader, at..options)?)), end)))
}

/// Translates `ANALYZE [VERBOSE] [table [(columns)]] [PREDICATE COLUMNS | ALL COLUMNS]`.
fn analyze<'a>(
    reader: Reader<'a, '_>,
    begin: usize,
    at: usize,
    end: usize,
) -> Result<Option<Piece<'a>>, String> {
    let end = reader.statement_end(at, end);
    let is_option = |at: &usize| {
        reader.words(*at, end, &["PREDICATE", "COLUMNS"]).is_some()
            || reader.words(*at, end, &["ALL", "COLUMNS"]).is_some()
    };
    let Some(options) = (at..end).find(is_option) else { return Ok(None) };
    let verb = reader.tokens[begin].text();
    Ok(Some((Cow::Owned(format!("{verb}{}", behind_words(reader, at..options)?)), end)))
}

/// Translates the rest of a statement after omitted words.
fn behind_words(reader: Reader<'_, '_>, part: Range<usize>) -> Result<String, String> {
    let text = reader.text(part, Context::Expression)?;
    Ok(match text.trim() {
        "" => String::new(),
        text => format!(" {text}"),
    })
}

/// Translates `SET [SESSION | LOCAL] name TO …`, `RESET name` and `SHOW name`.
fn setting<'a>(reader: Reader<'a, '_>, begin: usize, at: usize, end: usize) -> Option<Piece<'a>> {
    let (word, next) = reader.word(at, end)?;
    let (name, next) = match word.as_str() {
        "SESSION" | "LOCAL" => reader.word(next, end)?,
        _ => (word, next),
    };
    if !SETTINGS.contains(&name.as_str()) {
        return None;
    }
    let head: String = reader.tokens[begin..next - 1].iter().map(|token| token.text()).collect();
    Some((Cow::Owned(format!("{head}redshift.{}", name.to_ascii_lowercase())), next))
}

/// Translates `CREATE PROCEDURE` and `CREATE FUNCTION`.
fn routine<'a>(reader: Reader<'a, '_>, part: Range<usize>) -> Result<Option<Piece<'a>>, String> {
    let (begin, end) = (part.start, part.end);
    let Some(mut at) = reader.words(begin, end, &["CREATE"]) else { return Ok(None) };
    at = reader.words(at, end, &["OR", "REPLACE"]).unwrap_or(at);
    let Some((kind, at)) = reader.word(at, end) else { return Ok(None) };
    if kind != "PROCEDURE" && kind != "FUNCTION" {
        return Ok(None);
    }
    let Some(open) = (at..end).find(|at| reader.tokens[*at] == Token::Symbol("(")) else { return Ok(None) };
    let Some((list, mut at)) = reader.list(open, end) else { return Ok(None) };
    let mut text: String = reader.tokens[begin..=open].iter().map(|token| token.text()).collect();
    let parameters = reader.split(list);
    for (number, parameter) in parameters.iter().enumerate() {
        if number > 0 {
            text.push(',');
        }
        // PostgreSQL allows a default only if all later parameters have one, too.
        let last =
            kind == "PROCEDURE" && parameters[number..].iter().all(|one| out_word(reader, one).is_some());
        text.push_str(&self::parameter(reader, parameter.clone(), last)?);
    }
    text.push(')');
    let has = |word: &str| {
        let words = at..reader.statement_end(at, end);
        words
            .into_iter()
            .any(|at| matches!(reader.tokens[at], Token::Word(one) if one.eq_ignore_ascii_case(word)))
    };
    let transactions = match kind.as_str() {
        "PROCEDURE" if has("NONATOMIC") => Transactions::None,
        // PostgreSQL does not allow procedures with `SECURITY DEFINER` or `SET` to end a transaction.
        "PROCEDURE" if has("DEFINER") || has("SET") => Transactions::Thrown,
        "PROCEDURE" => Transactions::Own,
        _ => Transactions::None,
    };
    let mut before = Some(Token::Symbol(")"));
    while at < end && reader.tokens[at] != Token::Semicolon {
        let token = reader.tokens[at];
        let (piece, next) = match token {
            Token::Blank(blank) => (Cow::Borrowed(blank), at + 1),
            Token::Word(word) if word.eq_ignore_ascii_case("NONATOMIC") => (Cow::Borrowed(""), at + 1),
            Token::Quoted(quoted) if is_body(quoted, before) => {
                (bodies::translated(reader, quoted, transactions)?, at + 1)
            }
            _ => {
                let returns =
                    matches!(before, Some(Token::Word(word)) if word.eq_ignore_ascii_case("RETURNS"));
                reader.piece(at..end, before, false, returns)?
            }
        };
        text.push_str(&piece);
        before = reader.last(at..next).or(before);
        at = next;
    }
    Ok(Some((Cow::Owned(text), at)))
}

/// Returns `true` if the string is the body of a routine: `AS $$ … $$` or `AS '…'`.
fn is_body(quoted: &str, before: Option<Token<'_>>) -> bool {
    let follows_as = matches!(before, Some(Token::Word(word)) if word.eq_ignore_ascii_case("AS"));
    quoted.starts_with('$') || follows_as && quoted.ends_with('\'')
}

/// Returns the position of the word `OUT` in a parameter.
fn out_word(reader: Reader<'_, '_>, parameter: &Range<usize>) -> Option<usize> {
    let mut words = parameter
        .clone()
        .filter(|at| matches!(reader.tokens[*at], Token::Word(_) | Token::Quoted(_)))
        .take(2);
    words.find(|at| matches!(reader.tokens[*at], Token::Word(word) if word.eq_ignore_ascii_case("OUT")))
}

/// Translates a parameter, `[name] [IN | OUT | INOUT] type`. The name and the mode may be in either order.
///
/// # Errors
/// Returns the error text if the parameter has a default, which Redshift does not allow.
fn parameter(reader: Reader<'_, '_>, part: Range<usize>, may_have_default: bool) -> Result<String, String> {
    let out = out_word(reader, &part).filter(|_| may_have_default);
    let mut text = String::new();
    let mut at = part.start;
    while at < part.end {
        let (piece, next) = match reader.tokens[at] {
            Token::Blank(blank) => (Cow::Borrowed(blank), at + 1),
            _ if Some(at) == out => (Cow::Borrowed("INOUT"), at + 1),
            Token::Word(word) if word.eq_ignore_ascii_case("DEFAULT") => {
                return Err(refusal::default_of_parameter(reader, at));
            }
            Token::Symbol("=") => return Err(refusal::default_of_parameter(reader, at)),
            // The first word is the name or the mode of the parameter, or its type if the parameter has
            // neither. It is left unchanged in all cases.
            Token::Word(_) => {
                let first = reader.next(part.start, part.end) == Some(at);
                tables::type_name(reader, at..part.end)?
                    .filter(|_| !first)
                    .unwrap_or((Cow::Borrowed(reader.tokens[at].text()), at + 1))
            }
            token => (Cow::Borrowed(token.text()), at + 1),
        };
        text.push_str(&piece);
        at = next;
    }
    if out.is_some() {
        text.truncate(text.trim_end().len());
        text.push_str(" DEFAULT NULL");
    }
    Ok(text)
}
