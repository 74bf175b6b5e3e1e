//! Translates function calls and other words inside a statement.

use std::{borrow::Cow, ops::Range};

use super::{Context, Piece, Reader, names::is, qualify, windows};
use redshift_orchestrator::sql::Token;

const GETDATE: &str = "date_trunc('second', statement_timestamp() AT TIME ZONE 'UTC')";
const SYSDATE: &str = "(transaction_timestamp() AT TIME ZONE 'UTC')";

/// Functions that the library implements under the same name.
const LIBRARY: [&str; 36] = [
    "ADD_MONTHS",
    "ANY_VALUE",
    "AVG",
    "CONVERT_TIMEZONE",
    "DATE_PART_YEAR",
    "FROM_HEX",
    "FROM_VARBYTE",
    "IS_VALID_JSON",
    "IS_VALID_JSON_ARRAY",
    "JSON_ARRAY_LENGTH",
    "JSON_EXTRACT_ARRAY_ELEMENT_TEXT",
    "JSON_EXTRACT_PATH_TEXT",
    "LAST_DAY",
    "MONTHS_BETWEEN",
    "NEXT_DAY",
    "OCTETINDEX",
    "REGEXP_COUNT",
    "REGEXP_INSTR",
    "REGEXP_REPLACE",
    "REGEXP_SUBSTR",
    "ROUND",
    "SHA2",
    "SPLIT_PART",
    "STDDEV",
    "STDDEV_POP",
    "STDDEV_SAMP",
    "STRTOL",
    "SUM",
    "TO_DATE",
    "TO_HEX",
    "TO_TIMESTAMP",
    "TO_VARBYTE",
    "TRUNC",
    "VARIANCE",
    "VAR_POP",
    "VAR_SAMP",
];

/// Functions whose calls are rewritten.
const REWRITTEN: [&str; 27] = [
    "CAST",
    "CHARINDEX",
    "CONCAT",
    "CONVERT",
    "DATEADD",
    "DATEDIFF",
    "DATE_ADD",
    "DATE_DIFF",
    "DATE_PART",
    "DATE_TRUNC",
    "DECODE",
    "EXTRACT",
    "FIRST_VALUE",
    "GETDATE",
    "ISNULL",
    "LAST_VALUE",
    "LEN",
    "LISTAGG",
    "MEDIAN",
    "NVL",
    "NVL2",
    "PERCENTILE_CONT",
    "PGDATE_PART",
    "RATIO_TO_REPORT",
    "REPLICATE",
    "SYSDATE",
    "TEXTLEN",
];

/// Returns `true` if calls of this function are translated.
pub(super) fn is_known(name: &str) -> bool {
    REWRITTEN.iter().chain(&LIBRARY).any(|one| name.eq_ignore_ascii_case(one))
}

/// Returns `true` if PostgreSQL has no function with this name, or has one with a different meaning.
#[cfg(test)]
pub(super) fn is_redshifts_alone(name: &str) -> bool {
    let same = [
        "CAST",
        "CONCAT",
        "DATE_PART",
        "EXTRACT",
        "FIRST_VALUE",
        "LAST_VALUE",
        "PERCENTILE_CONT",
        "DATE_TRUNC",
    ];
    is_known(name) && !same.iter().any(|one| name.eq_ignore_ascii_case(one))
}

/// Returns Redshift's name for the column of a call, if PostgreSQL would name the column differently after
/// the translation. `name` is in upper case.
pub(super) fn column_name(name: &str) -> Option<&'static str> {
    Some(match name {
        "CHARINDEX" => "charindex",
        "CONCAT" => "concat",
        "DATEADD" | "DATE_ADD" => "date_add",
        "DATEDIFF" | "DATE_DIFF" => "date_diff",
        // The documentation of DATE_PART specifies this default name.
        "DATE_PART" | "PGDATE_PART" => "pgdate_part",
        "EXTRACT" => "date_part",
        "FIRST_VALUE" => "first_value",
        "GETDATE" => "getdate",
        "LAST_VALUE" => "last_value",
        "LEN" => "len",
        "LISTAGG" => "listagg",
        "MEDIAN" => "median",
        "PERCENTILE_CONT" => "percentile_cont",
        "RATIO_TO_REPORT" => "ratio_to_report",
        "REPLICATE" => "replicate",
        "TEXTLEN" => "textlen",
        _ => return None,
    })
}

/// Words after which a name before a parenthesis is not a call.
const NO_CALL: [&str; 10] =
    ["FUNCTION", "PROCEDURE", "AGGREGATE", "TABLE", "INTO", "CALL", "VIEW", "REFERENCES", "EXISTS", "INDEX"];

/// Translates the word at the beginning of a range. Returns `None` if the word does not change.
pub(super) fn translate<'a>(
    reader: Reader<'a, '_>,
    part: Range<usize>,
    before: Option<Token<'a>>,
) -> Result<Option<Piece<'a>>, String> {
    let (at, end) = (part.start, part.end);
    let Token::Word(word) = reader.tokens[at] else { return Ok(None) };
    let name = word.to_ascii_uppercase();
    let renamed = |name: &'static str| Ok(Some((Cow::Borrowed(name), at + 1)));
    let list = reader.list(at + 1, end);
    match (name.as_str(), &list) {
        ("SELECT", _) => {
            return match qualify::translate(reader, part.clone(), before)? {
                Some(piece) => Ok(Some(piece)),
                None => top(reader, part, before),
            };
        }
        ("SYSDATE", None) => return renamed(SYSDATE),
        ("CURRENT_USER_ID", None) if !matches!(before, Some(token) if is(token, &["AS"])) => {
            return Ok(Some((Cow::Owned(format!("{}.current_user_id()", reader.library)), at + 1)));
        }
        // A literal with a type, such as `DECIMAL '12.75'`.
        ("DECIMAL" | "NUMERIC" | "DEC", None)
            if reader.next(at + 1, end).is_some_and(
                |next| matches!(reader.tokens[next], Token::Quoted(text) if text.starts_with('\'')),
            ) =>
        {
            return super::tables::type_name(reader, part);
        }
        // `WITH NO SCHEMA BINDING`, at the end of a late-binding view.
        ("WITH", None) => {
            let behind = reader.words(at + 1, end, &["NO", "SCHEMA", "BINDING"]);
            return Ok(behind.map(|behind| (Cow::Borrowed(""), behind)));
        }
        ("MINUS", _) if matches!(reader.word(at + 1, end), Some((next, _)) if next == "SELECT") => {
            return renamed("EXCEPT");
        }
        ("RESPECT", None) => {
            let behind = reader.words(at + 1, end, &["NULLS"]);
            return Ok(behind.map(|behind| (Cow::Borrowed(""), behind)));
        }
        ("PG_TABLE_DEF" | "SVV_COLUMNS" | "SVV_TABLES", None) if names_a_table(before) => {
            let view = format!("{}.{}", reader.library, name.to_ascii_lowercase());
            return Ok(Some((Cow::Owned(view), at + 1)));
        }
        ("APPROXIMATE", _)
            if reader.word(at + 1, end).is_some_and(|(_, next)| reader.list(next, end).is_some()) =>
        {
            return Ok(Some((Cow::Borrowed(""), at + 1)));
        }
        _ => {}
    }
    let defined =
        matches!(before, Some(Token::Word(word)) if NO_CALL.iter().any(|one| word.eq_ignore_ascii_case(one)));
    let Some((list, behind)) = list.filter(|_| !defined) else { return Ok(None) };
    let call = FunctionCall { reader, name: &name, list, behind, end };
    Ok(match name.as_str() {
        "NVL" => return renamed("COALESCE"),
        "LEN" | "TEXTLEN" => return renamed("LENGTH"),
        "REPLICATE" => return renamed("REPEAT"),
        "CAST" => call.cast()?,
        "LISTAGG" => call.list_agg()?,
        "RATIO_TO_REPORT" => windows::ratio(reader, call.list, behind..end)?,
        "MEDIAN" | "PERCENTILE_CONT" if windows::is_windowed(reader, behind, end) => {
            windows::percentile(reader, call.list, behind..end)?
        }
        "FIRST_VALUE" | "LAST_VALUE" => windows::filled(reader, &name, call.list, behind..end)?,
        "VARCHAR" | "NVARCHAR" | "VARYING" | "VARBYTE" | "VARBINARY" => {
            super::tables::type_name(reader, part)?
        }
        _ => call.translate(word)?.map(|text| (Cow::Owned(text), behind)),
    })
}

struct FunctionCall<'a, 'l, 'n> {
    reader: Reader<'a, 'l>,
    name: &'n str,
    list: Range<usize>,
    behind: usize,
    end: usize,
}

impl<'a> FunctionCall<'a, '_, '_> {
    /// Returns the call in PostgreSQL's syntax, or `None` if it does not change.
    fn translate(&self, word: &str) -> Result<Option<String>, String> {
        let pieces = self.reader.split(self.list.clone());
        let library = self.reader.library;
        if LIBRARY.contains(&self.name) {
            let list = self.reader.text(self.list.clone(), Context::Expression)?;
            return Ok(Some(format!("{library}.{}({list})", word.to_ascii_lowercase())));
        }
        let is = |name: &str, count: usize| self.name == name && pieces.len() == count;
        let text = |index: usize| self.reader.expression(pieces[index].clone());
        Ok(Some(if is("GETDATE", 0) {
            GETDATE.to_owned()
        } else if is("ISNULL", 2) {
            format!("COALESCE({}, {})", text(0)?, text(1)?)
        } else if is("NVL2", 3) {
            format!("(CASE WHEN ({}) IS NOT NULL THEN {} ELSE {} END)", text(0)?, text(1)?, text(2)?)
        } else if self.name == "DECODE" && pieces.len() > 2 {
            self.decode(&pieces)?
        } else if is("CHARINDEX", 2) {
            format!("POSITION(({}) IN ({}))", text(0)?, text(1)?)
        } else if is("CONCAT", 2) {
            // PostgreSQL's `concat` ignores NULL.
            format!("(CAST({} AS text) || CAST({} AS text))", text(0)?, text(1)?)
        } else if is("DATE_TRUNC", 2) {
            format!("{library}.date_trunc({}, {})", text(0)?, self.time(&pieces[1])?)
        } else if is("MEDIAN", 1) {
            format!("PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY {})", text(0)?)
        } else if is("CONVERT", 2) {
            let name = self.reader.text(pieces[0].clone(), Context::Type)?;
            format!("CAST({} AS {})", text(1)?, name.trim())
        } else if is("DATEADD", 3) || is("DATE_ADD", 3) {
            format!(
                "{library}.dateadd({}, {}, {})",
                self.date_part(&pieces[0])?,
                text(1)?,
                self.time(&pieces[2])?
            )
        } else if is("DATEDIFF", 3) || is("DATE_DIFF", 3) {
            let (from, to) = (self.time(&pieces[1])?, self.time(&pieces[2])?);
            format!("{library}.datediff({}, {from}, {to})", self.date_part(&pieces[0])?)
        } else if self.name == "EXTRACT"
            && let Some((part, value)) = self.extracted()
        {
            format!("{library}.extract_part('{part}', {})", self.time(&value)?)
        } else if is("DATE_PART", 2) || is("PGDATE_PART", 2) {
            let part = self.date_part(&pieces[0])?;
            format!("date_part({library}.date_part_name({part}), {})", self.time(&pieces[1])?)
        } else {
            return Ok(None);
        }))
    }

    fn decode(&self, pieces: &[Range<usize>]) -> Result<String, String> {
        let value = self.reader.expression(pieces[0].clone())?;
        let mut case = "(CASE".to_owned();
        for branch in pieces[1..].chunks(2) {
            let first = self.reader.expression(branch[0].clone())?;
            case.push_str(&match branch.get(1) {
                Some(result) => {
                    let result = self.reader.expression(result.clone())?;
                    format!(" WHEN ({value}) IS NOT DISTINCT FROM ({first}) THEN {result}")
                }
                None => format!(" ELSE {first}"),
            });
        }
        case.push_str(" END)");
        Ok(case)
    }

    /// Translates `CAST(x AS type)`, in case the type is specific to Redshift.
    fn cast(&self) -> Result<Option<Piece<'a>>, String> {
        let mut depth = 0;
        let as_at = self.list.clone().rev().find(|at| {
            match self.reader.tokens[*at] {
                Token::Symbol(")") => depth += 1,
                Token::Symbol("(") => depth -= 1,
                _ => {}
            }
            depth == 0
                && matches!(self.reader.tokens[*at], Token::Word(word) if word.eq_ignore_ascii_case("AS"))
        });
        let Some(as_at) = as_at else { return Ok(None) };
        let value = self.reader.text(self.list.start..as_at, Context::Expression)?;
        let name = self.reader.text(as_at + 1..self.list.end, Context::Type)?;
        Ok(Some((Cow::Owned(format!("CAST({value}AS{name})")), self.behind)))
    }

    /// Translates `LISTAGG([DISTINCT] x [, separator]) [WITHIN GROUP (ORDER BY …)]`.
    fn list_agg(&self) -> Result<Option<Piece<'a>>, String> {
        let reader = self.reader;
        let mut pieces = reader.split(self.list.clone());
        if !(1..=2).contains(&pieces.len()) {
            return Ok(None);
        }
        let distinct = reader.words(pieces[0].start, pieces[0].end, &["DISTINCT"]);
        if let Some(begin) = distinct.or_else(|| reader.words(pieces[0].start, pieces[0].end, &["ALL"])) {
            pieces[0].start = begin;
        }
        let value = reader.expression(pieces[0].clone())?;
        let separator = pieces.get(1).map(|piece| reader.expression(piece.clone())).transpose()?;
        let separator = separator.unwrap_or_else(|| "''".to_owned());
        let (mut order, mut behind) = (String::new(), self.behind);
        if let Some(group) = reader.words(self.behind, self.end, &["WITHIN", "GROUP"])
            && let Some((list, end)) = reader.list(group, self.end)
        {
            order = reader.expression(list)?;
            behind = end;
        }
        if let Some(over) = reader.words(behind, self.end, &["OVER"])
            && !order.is_empty()
        {
            return windows::list_agg(
                reader,
                distinct.is_some(),
                [&value, &separator, &order],
                over..self.end,
            )
            .map(Some);
        }
        // PostgreSQL's DISTINCT aggregates can only be ordered by their argument, so the sort key needs the
        // same cast.
        let by_itself = || {
            let rest = order.get("ORDER BY".len()..)?.trim_start().strip_prefix(value.as_str())?;
            (rest.is_empty() || rest.starts_with(char::is_whitespace))
                .then(|| format!("ORDER BY CAST({value} AS text){rest}"))
        };
        let order = match distinct {
            Some(_) => by_itself().unwrap_or(order),
            None => order,
        };
        let (distinct, gap) =
            (if distinct.is_some() { "DISTINCT " } else { "" }, if order.is_empty() { "" } else { " " });
        let text = format!("STRING_AGG({distinct}CAST({value} AS text), {separator}{gap}{order})");
        Ok(Some((Cow::Owned(text), behind)))
    }

    /// Returns the date part and the time of `EXTRACT(part FROM time)`.
    fn extracted(&self) -> Option<(String, Range<usize>)> {
        let (part, next) = self.reader.word(self.list.start, self.list.end)?;
        let from = self.reader.words(next, self.list.end, &["FROM"])?;
        Some((part.to_ascii_lowercase(), from..self.list.end))
    }

    /// Returns the argument if it is a single word.
    fn single_word(&self, piece: &Range<usize>) -> Option<&'a str> {
        let at = self.reader.next(piece.start, piece.end)?;
        match self.reader.tokens[at] {
            Token::Word(word) if self.reader.next(at + 1, piece.end).is_none() => Some(word),
            _ => None,
        }
    }

    /// Returns a date part as a string. It may be written as a word or as a string.
    fn date_part(&self, piece: &Range<usize>) -> Result<String, String> {
        match self.single_word(piece) {
            Some(word) => Ok(format!("'{}'", word.to_ascii_lowercase())),
            None => self.reader.expression(piece.clone()),
        }
    }

    /// Returns a time expression. A literal is cast to a timestamp, as on Redshift.
    fn time(&self, piece: &Range<usize>) -> Result<String, String> {
        let text = self.reader.expression(piece.clone())?;
        let at = self.reader.next(piece.start, piece.end);
        let literal = at.is_some_and(|at| {
            matches!(self.reader.tokens[at], Token::Quoted(text) if text.starts_with('\''))
                || matches!(self.reader.tokens[at], Token::Placeholder(_))
        });
        let alone = at.is_some_and(|at| self.reader.next(at + 1, piece.end).is_none());
        Ok(if literal && alone { format!("CAST({text} AS timestamp)") } else { text })
    }
}

/// Returns `true` if the next word is the name of a table.
fn names_a_table(before: Option<Token<'_>>) -> bool {
    matches!(before, Some(Token::Word(word)) if word.eq_ignore_ascii_case("FROM") || word.eq_ignore_ascii_case("JOIN"))
}

/// Translates `SELECT [DISTINCT] TOP n …` to `SELECT [DISTINCT] … LIMIT n`.
fn top<'a>(
    reader: Reader<'a, '_>,
    part: Range<usize>,
    before: Option<Token<'a>>,
) -> Result<Option<Piece<'a>>, String> {
    let (at, end) = (part.start, part.end);
    let (quantifier, behind) = match reader.word(at + 1, end) {
        Some((word, next)) if word == "DISTINCT" || word == "ALL" => (word, next),
        _ => (String::new(), at + 1),
    };
    let Some((count, behind)) = count_of_top(reader, behind, end)? else { return Ok(None) };
    let stop = end_of_query(reader, behind, end);
    let last = (behind..stop).rev().find(|at| !matches!(reader.tokens[*at], Token::Blank(_)));
    let last = last.map_or(behind, |at| at + 1);
    let query = reader.text(behind..last, Context::Expression)?;
    let gap = if quantifier.is_empty() { "" } else { " " };
    let text = format!("SELECT{gap}{quantifier}{query} LIMIT {count}");
    let in_set = matches!(before, Some(token) if is_set_operator(token))
        || reader.next(stop, end).is_some_and(|at| is_set_operator(reader.tokens[at]));
    Ok(Some((Cow::Owned(if in_set { format!("({text})") } else { text }), last)))
}

/// Returns the row count of `TOP`, and the position after it. Returns `None` if there is no `TOP`.
pub(super) fn count_of_top(
    reader: Reader<'_, '_>,
    at: usize,
    end: usize,
) -> Result<Option<(String, usize)>, String> {
    let Some(behind) = reader.words(at, end, &["TOP"]) else { return Ok(None) };
    let Some(first) = reader.next(behind, end) else { return Ok(None) };
    Ok(match reader.tokens[first] {
        Token::Word(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some((number.to_owned(), first + 1))
        }
        Token::Placeholder(name) => Some((name.to_owned(), first + 1)),
        Token::Symbol("(") => match reader.list(first, end) {
            Some((list, next)) => Some((format!("({})", reader.expression(list)?), next)),
            None => None,
        },
        _ => None,
    })
}

pub(super) fn is_set_operator(token: Token<'_>) -> bool {
    let operators = ["UNION", "INTERSECT", "EXCEPT", "MINUS", "ALL"];
    matches!(token, Token::Word(word) if operators.iter().any(|one| word.eq_ignore_ascii_case(one)))
}

/// Returns the end of the query that contains the position `at`.
pub(super) fn end_of_query(reader: Reader<'_, '_>, at: usize, end: usize) -> usize {
    let mut depth = 0;
    for at in at..end {
        match reader.tokens[at] {
            Token::Symbol("(") => depth += 1,
            Token::Symbol(")") if depth == 0 => return at,
            Token::Symbol(")") => depth -= 1,
            Token::Semicolon => return at,
            Token::Word(word) if depth == 0 => {
                let ends = ["UNION", "INTERSECT", "EXCEPT", "MINUS", "LOOP"];
                if ends.iter().any(|one| word.eq_ignore_ascii_case(one)) {
                    return at;
                }
            }
            _ => {}
        }
    }
    end
}
