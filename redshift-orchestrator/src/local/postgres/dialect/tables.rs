//! Tables, their columns and types.

use std::{borrow::Cow, ops::Range};

use super::{Piece, Place, Reader, refusal};
use crate::sql::Token;

/// The type that a part of the text begins with, if only Redshift knows it.
pub(super) fn type_name<'a>(reader: Reader<'a, '_>, part: Range<usize>) -> Result<Option<Piece<'a>>, String> {
    let (at, end) = (part.start, part.end);
    let Token::Word(word) = reader.tokens[at] else { return Ok(None) };
    if let Some(refused) = refusal::of_type(word) {
        return Err(refused);
    }
    let list = reader.list(at + 1, end);
    let is_max = |list: &Range<usize>| reader.words(list.start, list.end, &["MAX"]).is_some();
    let behind = list.as_ref().map_or(at + 1, |(_, behind)| *behind);
    let text: Cow<'a, str> = match (word.to_ascii_uppercase().as_str(), &list) {
        ("VARYING", Some((list, _))) if is_max(list) => "VARYING(65535)".into(),
        ("VARCHAR" | "NVARCHAR", Some((list, _))) if is_max(list) => "VARCHAR(65535)".into(),
        ("NVARCHAR", Some((list, _))) => format!("VARCHAR({})", reader.expression(list.clone())?).into(),
        ("NVARCHAR", None) => "VARCHAR".into(),
        ("VARBYTE" | "VARBINARY", _) => "BYTEA".into(),
        ("DATETIME", None) => "TIMESTAMP".into(),
        _ => return Ok(None),
    };
    Ok(Some((text, behind)))
}

/// `CREATE TABLE` and `CREATE MATERIALIZED VIEW`, up to the query that fills them.
pub(super) fn create<'a>(reader: Reader<'a, '_>, part: Range<usize>) -> Result<Option<Piece<'a>>, String> {
    let (begin, end) = (part.start, part.end);
    let Some(mut at) = reader.words(begin, end, &["CREATE"]) else { return Ok(None) };
    let mut temporary = false;
    let object = loop {
        let Some((word, next)) = reader.word(at, end) else { return Ok(None) };
        at = next;
        match word.as_str() {
            "TEMP" | "TEMPORARY" => temporary = true,
            "LOCAL" | "GLOBAL" | "UNLOGGED" | "MATERIALIZED" => {}
            "TABLE" | "VIEW" => break at - 1,
            _ => return Ok(None),
        }
    };
    if let Some(next) = reader.words(at, end, &["IF", "NOT", "EXISTS"]) {
        at = next;
    }
    let Some(name) = reader.next(at, end) else { return Ok(None) };
    let is_work = reader.tokens[name] == Token::Symbol("#");
    let mut text = raw(reader, begin..object);
    text.push_str(if is_work && !temporary { "TEMP TABLE" } else { reader.tokens[object].text() });
    text.push_str(&raw(reader, object + 1..name));
    let before = if is_work { Some(Token::Word("TABLE")) } else { None };
    let (piece, mut at) =
        reader.piece(name..end, before, false, false).map(|(piece, next)| match is_work {
            true => (piece, next),
            // The name of a table is never a word of Redshift's.
            false => (Cow::Borrowed(reader.tokens[name].text()), name + 1),
        })?;
    text.push_str(&piece);
    while at < end && matches!(reader.tokens[at], Token::Symbol(".")) {
        let stop = (at + 2).min(end);
        text.push_str(&raw(reader, at..stop));
        at = stop;
    }
    if let Some((list, behind)) = reader.list(at, end) {
        text.push_str(&raw(reader, at..list.start));
        for (number, piece) in reader.split(list.clone()).into_iter().enumerate() {
            if number > 0 {
                text.push(',');
            }
            text.push_str(&column(reader, piece)?);
        }
        text.push(')');
        at = behind;
    }
    let mut before = Some(Token::Symbol(")"));
    while at < end {
        match reader.tokens[at] {
            Token::Semicolon => break,
            Token::Word(word) if word.eq_ignore_ascii_case("AS") => break,
            Token::Blank(blank) => {
                text.push_str(blank);
                at += 1;
                continue;
            }
            _ => {}
        }
        let (piece, next) = match table_attribute(reader, at, end) {
            Some(next) => (Cow::Borrowed(""), next),
            None => reader.piece(at..end, before, false, false)?,
        };
        text.push_str(&piece);
        before = Some(reader.tokens[at]);
        at = next;
    }
    Ok(Some((Cow::Owned(text), at)))
}

/// `ALTER TABLE`: of what says where rows lie, nothing is left.
pub(super) fn alter<'a>(reader: Reader<'a, '_>, part: Range<usize>) -> Result<Option<Piece<'a>>, String> {
    let (begin, end) = (part.start, part.end);
    let Some(name) = reader.words(begin, end, &["ALTER", "TABLE"]) else { return Ok(None) };
    let end = reader.statement_end(begin, end);
    let at_word = |at: &usize, words: &[&str]| match reader.tokens[*at] {
        Token::Word(word) => words.iter().any(|one| word.eq_ignore_ascii_case(one)),
        _ => false,
    };
    let Some(action) = (name + 1..end).find(|at| at_word(at, &["ALTER", "ADD"])) else { return Ok(None) };
    let after = reader.word(action + 1, end);
    if at_word(&action, &["ALTER"]) {
        let lies = ["DISTKEY", "DISTSTYLE", "SORTKEY", "COMPOUND", "INTERLEAVED", "ENCODE"];
        let of_column = (action..end).any(|at| at_word(&at, &["ENCODE"]))
            && !(action..end).any(|at| at_word(&at, &["TYPE"]));
        let nothing = after.is_some_and(|(word, _)| lies.contains(&word.as_str())) || of_column;
        return Ok(nothing.then_some((Cow::Borrowed(NOTHING), end)));
    }
    let column_at = match after {
        Some((word, next)) if word == "COLUMN" => next,
        Some((word, _))
            if ["CONSTRAINT", "PRIMARY", "UNIQUE", "FOREIGN", "CHECK"].contains(&word.as_str()) =>
        {
            return Ok(None);
        }
        _ => action + 1,
    };
    let mut text = reader.text(name..column_at, Place::Expression)?;
    text.insert_str(0, &raw(reader, begin..name));
    text.push_str(&column(reader, column_at..end)?);
    Ok(Some((Cow::Owned(text), end)))
}

/// A statement that does nothing.
pub(super) const NOTHING: &str = "DO 'BEGIN END'";

/// The definition of a column, without what says how its values lie.
fn column(reader: Reader<'_, '_>, part: Range<usize>) -> Result<String, String> {
    let Some(name) = reader.next(part.start, part.end) else { return Ok(raw(reader, part)) };
    let constraints = ["PRIMARY", "FOREIGN", "UNIQUE", "CHECK", "CONSTRAINT", "LIKE", "EXCLUDE"];
    if let Token::Word(word) = reader.tokens[name]
        && constraints.iter().any(|one| word.eq_ignore_ascii_case(one))
    {
        return reader.text(part, Place::Expression);
    }
    let mut text = raw(reader, part.start..name + 1);
    let (mut at, mut before) = (name + 1, None);
    while at < part.end {
        if let Token::Blank(blank) = reader.tokens[at] {
            text.push_str(blank);
            at += 1;
            continue;
        }
        let (piece, next) = match column_attribute(reader, at, part.end, before)? {
            Some(piece) => piece,
            None => reader.piece(at..part.end, before, false, before.is_none())?,
        };
        text.push_str(&piece);
        before = reader.last(at..next);
        at = next;
    }
    Ok(text)
}

fn column_attribute<'a>(
    reader: Reader<'a, '_>,
    at: usize,
    end: usize,
    before: Option<Token<'a>>,
) -> Result<Option<Piece<'a>>, String> {
    let Some((word, next)) = reader.word(at, end) else { return Ok(None) };
    Ok(match word.as_str() {
        "ENCODE" => reader.word(next, end).map(|(_, end)| (Cow::Borrowed(""), end)),
        "DISTKEY" | "SORTKEY" => Some((Cow::Borrowed(""), next)),
        "COLLATE" => match reader.word(next, end) {
            Some((name, end)) if name == "CASE_SENSITIVE" || name == "CS" => Some((Cow::Borrowed(""), end)),
            Some((name, _)) if name == "CASE_INSENSITIVE" || name == "CI" => {
                return Err(refusal::refused("COLLATE CASE_INSENSITIVE", "compare LOWER(…) of both sides"));
            }
            _ => None,
        },
        "IDENTITY" => reader.list(next, end).and_then(|(list, end)| {
            let numbers: String = reader.tokens[list].iter().map(|token| token.text()).collect();
            let (seed, step) = numbers.split_once(',')?;
            let options = identity(seed.trim().parse().ok()?, step.trim().parse().ok()?);
            let generated = matches!(before, Some(Token::Word(word)) if word.eq_ignore_ascii_case("AS"));
            let head = if generated { "IDENTITY" } else { "GENERATED ALWAYS AS IDENTITY" };
            Some((Cow::Owned(format!("{head} ({options})")), end))
        }),
        _ => None,
    })
}

/// The options of a sequence. By itself it begins no lower than 1, and a descending one no higher than -1.
fn identity(seed: i64, step: i64) -> String {
    let mut options = format!("START WITH {seed} INCREMENT BY {step}");
    if step >= 0 && seed < 1 {
        options.push_str(&format!(" MINVALUE {seed}"));
    } else if step < 0 && seed > -1 {
        options.push_str(&format!(" MAXVALUE {seed}"));
    }
    options
}

/// The position behind an attribute of a table that says where its rows lie.
fn table_attribute(reader: Reader<'_, '_>, at: usize, end: usize) -> Option<usize> {
    let (word, next) = reader.word(at, end)?;
    let word_behind = |at: usize| reader.word(at, end).map(|(_, end)| end);
    match word.as_str() {
        "DISTSTYLE" | "BACKUP" | "ENCODE" => word_behind(next),
        "DISTKEY" => Some(reader.list(next, end).map_or(next, |(_, end)| end)),
        "SORTKEY" => match (reader.list(next, end), reader.words(next, end, &["AUTO"])) {
            (Some((_, end)), _) | (None, Some(end)) => Some(end),
            (None, None) => Some(next),
        },
        "COMPOUND" | "INTERLEAVED" => {
            reader.words(next, end, &["SORTKEY"]).and_then(|at| reader.list(at, end)).map(|(_, end)| end)
        }
        "AUTO" => reader.words(next, end, &["REFRESH"]).and_then(word_behind),
        _ => None,
    }
}

/// A part of the text as it is.
fn raw(reader: Reader<'_, '_>, part: Range<usize>) -> String {
    reader.tokens[part].iter().map(|token| token.text()).collect()
}
