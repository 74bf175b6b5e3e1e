//! Translates tables, columns and types.

use std::{borrow::Cow, ops::Range};

use super::{Context, Piece, Reader, block, names, quoted, refusal};
use redshift_orchestrator::sql::Token;

/// Translates the type at the beginning of a range, if it is specific to Redshift.
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
        // PostgreSQL's default keeps all decimals.
        ("DECIMAL" | "NUMERIC" | "DEC", None) => format!("{word}(18, 0)").into(),
        _ => return Ok(None),
    };
    Ok(Some((text, behind)))
}

/// Translates `CREATE TABLE` and `CREATE MATERIALIZED VIEW`, up to the query after `AS`.
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
            // A table's name is never translated.
            false => (Cow::Borrowed(reader.tokens[name].text()), name + 1),
        })?;
    text.push_str(&piece);
    let mut table = name..at;
    while at < end && matches!(reader.tokens[at], Token::Symbol(".")) {
        let stop = (at + 2).min(end);
        text.push_str(&raw(reader, at..stop));
        table = at + 1..stop;
        at = stop;
    }
    let table = raw(reader, table);
    if let Some((list, behind)) = reader.list(at, end) {
        text.push_str(&raw(reader, at..list.start));
        for (number, piece) in reader.split(list.clone()).into_iter().enumerate() {
            if number > 0 {
                text.push(',');
            }
            text.push_str(&column(reader, piece, &table)?);
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

/// Translates `ALTER TABLE`. Omits attributes that distribute or sort rows. If a column gets a new size,
/// replaces its size check.
pub(super) fn alter<'a>(reader: Reader<'a, '_>, part: Range<usize>) -> Result<Option<Piece<'a>>, String> {
    let (begin, end) = (part.start, part.end);
    let Some(name) = reader.words(begin, end, &["ALTER", "TABLE"]) else { return Ok(None) };
    let end = reader.statement_end(begin, end);
    let at_word = |at: &usize, words: &[&str]| match reader.tokens[*at] {
        Token::Word(word) => words.iter().any(|one| word.eq_ignore_ascii_case(one)),
        _ => false,
    };
    let Some(action) = (name + 1..end).find(|at| at_word(at, &["ALTER", "ADD"])) else { return Ok(None) };
    let table = raw(reader, names::trimmed(reader, name..action));
    let after = reader.word(action + 1, end);
    if at_word(&action, &["ALTER"]) {
        let lies = ["DISTKEY", "DISTSTYLE", "SORTKEY", "COMPOUND", "INTERLEAVED", "ENCODE"];
        let of_column = (action..end).any(|at| at_word(&at, &["ENCODE"]))
            && !(action..end).any(|at| at_word(&at, &["TYPE"]));
        let nothing = after.is_some_and(|(word, _)| lies.contains(&word.as_str())) || of_column;
        if nothing {
            return Ok(Some((Cow::Borrowed(NOTHING), end)));
        }
        return Ok(resize(reader, action + 1..end, &table)?.map(|text| (Cow::Owned(text), end)));
    }
    let column_at = match after {
        Some((word, next)) if word == "COLUMN" => next,
        Some((word, _))
            if ["CONSTRAINT", "PRIMARY", "UNIQUE", "FOREIGN", "CHECK"].contains(&word.as_str()) =>
        {
            return match (action..end).any(|at| at_word(&at, &["CHECK"])) {
                true => Err(refusal::check()),
                false => Ok(None),
            };
        }
        _ => action + 1,
    };
    let mut text = reader.text(name..column_at, Context::Expression)?;
    text.insert_str(0, &raw(reader, begin..name));
    let table = table.rsplit('.').next().unwrap_or_default();
    text.push_str(&column(reader, column_at..end, table)?);
    Ok(Some((Cow::Owned(text), end)))
}

/// Translates `COLUMN name TYPE VARCHAR(n)`. The size check of the column must be replaced as well.
fn resize(reader: Reader<'_, '_>, part: Range<usize>, table: &str) -> Result<Option<String>, String> {
    let (begin, end) = (part.start, part.end);
    let begin = reader.words(begin, end, &["COLUMN"]).unwrap_or(begin);
    let Some(name) = reader.next(begin, end) else { return Ok(None) };
    let Some(type_at) = reader.words(name + 1, end, &["TYPE"]) else { return Ok(None) };
    let Some(character) = character(reader, type_at, end)? else { return Ok(None) };
    if character.is_fixed || character.size.parse::<u32>().is_err() {
        return Ok(None);
    }
    let (library, size) = (reader.library, character.size);
    let (table, name) = (quoted(table), quoted(reader.tokens[name].text()));
    Ok(Some(block(&format!("PERFORM {library}.resize({table}, {name}, {size})"))))
}

/// A statement that has no effect.
pub(super) const NOTHING: &str = "DO 'BEGIN END'";

/// Translates a column definition. Omits attributes that distribute, sort or encode values. `table` is the
/// table's name.
fn column(reader: Reader<'_, '_>, part: Range<usize>, table: &str) -> Result<String, String> {
    let Some(name) = reader.next(part.start, part.end) else { return Ok(raw(reader, part)) };
    if let Token::Word(word) = reader.tokens[name] {
        match word.to_ascii_uppercase().as_str() {
            // Redshift has no CHECK constraints, so this copies only the size checks that the translation
            // added.
            "LIKE" => {
                return Ok(format!(
                    "{} INCLUDING CONSTRAINTS",
                    reader.text(part, Context::Expression)?.trim_end()
                ));
            }
            "CHECK" => return Err(refusal::check()),
            "CONSTRAINT" if part.clone().any(|at| reader.words(at, part.end, &["CHECK"]).is_some()) => {
                return Err(refusal::check());
            }
            "PRIMARY" | "FOREIGN" | "UNIQUE" | "CONSTRAINT" | "EXCLUDE" => {
                return reader.text(part, Context::Expression);
            }
            _ => {}
        }
    }
    let column = reader.tokens[name].text();
    if let Some(refused) = refusal::of_column(reader, name + 1..part.end, table, column) {
        return Err(refused);
    }
    let mut text = raw(reader, part.start..name + 1);
    let (mut at, mut before) = (name + 1, None);
    let character = character(reader, at, part.end)?;
    if let Some(character) = &character {
        let begin = reader.next(at, part.end).unwrap_or(at);
        text.push_str(&raw(reader, at..begin));
        text.push_str(&character.name());
        before = reader.last(begin..character.behind);
        at = character.behind;
    }
    while at < part.end {
        if let Token::Blank(blank) = reader.tokens[at] {
            text.push_str(blank);
            at += 1;
            continue;
        }
        if before != Some(Token::Symbol(".")) && reader.words(at, part.end, &["CHECK"]).is_some() {
            return Err(refusal::check());
        }
        let (piece, next) = match column_attribute(reader, at, part.end, before)? {
            Some(piece) => piece,
            None => reader.piece(at..part.end, before, false, before.is_none())?,
        };
        text.push_str(&piece);
        before = reader.last(at..next);
        at = next;
    }
    if let Some(character) = character {
        let blanks = text.len() - text.trim_end().len();
        let blanks = text.split_off(text.len() - blanks);
        text.push_str(&character.check(column, reader.library));
        text.push_str(&blanks);
    }
    Ok(text)
}

/// Character type of a column, with its size in bytes.
struct Character {
    /// `true` for `CHAR`, which only accepts ASCII.
    is_fixed: bool,
    size: String,
    /// Position after the type.
    behind: usize,
}

impl Character {
    fn name(&self) -> String {
        format!("{}({})", if self.is_fixed { "CHAR" } else { "VARCHAR" }, self.size)
    }

    /// Returns the constraint that checks the size in bytes, because PostgreSQL's size limit counts
    /// characters. `CASE` guarantees the order of evaluation and accepts NULL.
    fn check(&self, column: &str, library: &str) -> String {
        let size = &self.size;
        let (wrong, error) = match self.is_fixed {
            true => (
                format!("octet_length({column}::text) > length({column}::text)"),
                format!("not_ascii({column})"),
            ),
            false => (format!("octet_length({column}) > {size}"), format!("too_long({size})")),
        };
        format!(" CHECK (CASE WHEN {wrong} THEN {library}.{error} ELSE true END)")
    }
}

/// Returns the character type that comes next. The default size of `VARCHAR`, `TEXT` and `BPCHAR` is 256
/// bytes.
///
/// # Errors
/// Returns the error text if the size exceeds Redshift's maximum.
fn character(reader: Reader<'_, '_>, at: usize, end: usize) -> Result<Option<Character>, String> {
    let Some((word, mut behind)) = reader.word(at, end) else { return Ok(None) };
    let varying = reader.words(behind, end, &["VARYING"]);
    let (is_fixed, default, most) = match (word.as_str(), varying) {
        ("VARCHAR" | "NVARCHAR" | "TEXT", None) => (false, 256, 65_535),
        ("CHARACTER" | "CHAR" | "NCHAR", Some(next)) => {
            behind = next;
            (false, 256, 65_535)
        }
        ("CHARACTER" | "CHAR" | "NCHAR", None) => (true, 1, 4096),
        ("BPCHAR", None) => (true, 256, 4096),
        _ => return Ok(None),
    };
    let list = reader.list(behind, end);
    let size = match &list {
        None => format!("{default}"),
        Some((list, _)) if reader.words(list.start, list.end, &["MAX"]).is_some() => format!("{most}"),
        Some((list, _)) => reader.expression(list.clone())?,
    };
    if size.parse::<u64>().is_ok_and(|size| size > most) {
        let name = if is_fixed { "character" } else { "character varying" };
        return Err(refusal::as_on_redshift(
            &format!("length for type {name} cannot exceed {most}"),
            "22023",
            &format!("declare a size of at most {most} bytes"),
        ));
    }
    Ok(Some(Character { is_fixed, size, behind: list.map_or(behind, |(_, behind)| behind) }))
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
                return Err(refusal::refused("COLLATE CASE_INSENSITIVE", "compare LOWER(…) on both sides"));
            }
            _ => None,
        },
        "IDENTITY" => {
            let generated = matches!(before, Some(Token::Word(word)) if word.eq_ignore_ascii_case("AS"));
            let head = if generated { "IDENTITY" } else { "GENERATED ALWAYS AS IDENTITY" };
            match reader.list(next, end) {
                // The documented syntax requires arguments. Clusters also accept `IDENTITY` alone, as
                // `IDENTITY(1, 1)`.
                None => Some((Cow::Owned(format!("{head} ({})", identity(1, 1))), next)),
                Some((list, end)) => {
                    let numbers = raw(reader, list);
                    let options = numbers.split_once(',').and_then(|(seed, step)| {
                        Some(identity(seed.trim().parse().ok()?, step.trim().parse().ok()?))
                    });
                    options.map(|options| (Cow::Owned(format!("{head} ({options})")), end))
                }
            }
        }
        _ => None,
    })
}

/// Returns the options of a sequence. PostgreSQL's default minimum is 1 for an ascending sequence, and its
/// default maximum is -1 for a descending one. A seed beyond that needs an explicit limit.
fn identity(seed: i64, step: i64) -> String {
    let mut options = format!("START WITH {seed} INCREMENT BY {step}");
    if step >= 0 && seed < 1 {
        options.push_str(&format!(" MINVALUE {seed}"));
    } else if step < 0 && seed > -1 {
        options.push_str(&format!(" MAXVALUE {seed}"));
    }
    options
}

/// Returns the position after a table attribute that distributes or sorts rows.
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

/// Returns the untranslated text of a range.
pub(super) fn raw(reader: Reader<'_, '_>, part: Range<usize>) -> String {
    reader.tokens[part].iter().map(|token| token.text()).collect()
}
