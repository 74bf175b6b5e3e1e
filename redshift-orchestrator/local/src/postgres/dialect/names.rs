//! Inserts the aliases that PostgreSQL needs where Redshift does not, and quotes names that look like calls.
//!
//! ```sql
//! SELECT LEN(a) FROM (SELECT 'x' AS a)               -- as written
//! SELECT LEN(a) AS "len" FROM (SELECT 'x' AS a) AS "~s1"
//!
//! WITH last_day (d) AS (SELECT 1) SELECT d FROM last_day
//! WITH "last_day" (d) AS (SELECT 1) SELECT d FROM last_day
//! ```
//!
//! * PostgreSQL 15 requires an alias for a subquery in `FROM`. Redshift and PostgreSQL 16 do not.
//! * PostgreSQL names a column after the function that is called, and the translation calls another function
//!   than the original SQL.
//! * The name of a common table expression, or an alias with a column list, looks like a call.
//! * Redshift folds quoted names to lower case, unless a setting keeps their case.
//!
//! Aliases and quotes are inserted before the translation, so that the rest of the dialect only sees complete
//! SQL.

use std::ops::Range;

use super::{Reader, bodies, functions, identifiers, refusal};
use redshift_orchestrator::sql::{Token, tokens};

/// Words that can follow a table in a query.
pub(super) const AFTER_A_TABLE: [&str; 25] = [
    "WHERE",
    "GROUP",
    "ORDER",
    "HAVING",
    "LIMIT",
    "OFFSET",
    "FETCH",
    "FOR",
    "UNION",
    "INTERSECT",
    "EXCEPT",
    "MINUS",
    "JOIN",
    "INNER",
    "LEFT",
    "RIGHT",
    "FULL",
    "CROSS",
    "NATURAL",
    "ON",
    "USING",
    "LOOP",
    "WINDOW",
    "SET",
    "WHEN",
];

/// Further words that cannot be the alias of a table.
const NO_ALIAS: [&str; 15] = [
    "INTO",
    "WITH",
    "TABLESAMPLE",
    "RETURNING",
    "PIVOT",
    "UNPIVOT",
    "THEN",
    "END",
    "AND",
    "OR",
    "START",
    "CONNECT",
    "ELSE",
    "LATERAL",
    "SELECT",
];

/// Words that end the list of tables of a query.
const BEHIND_TABLES: [&str; 20] = [
    "SELECT",
    "WHERE",
    "GROUP",
    "HAVING",
    "ORDER",
    "LIMIT",
    "OFFSET",
    "FETCH",
    "UNION",
    "INTERSECT",
    "EXCEPT",
    "MINUS",
    "WINDOW",
    "QUALIFY",
    "SET",
    "LOOP",
    "THEN",
    "ELSE",
    "WHEN",
    "BEGIN",
];

/// Words that end the select list of a query.
const BEHIND_ITEMS: [&str; 18] = [
    "FROM",
    "INTO",
    "WHERE",
    "GROUP",
    "HAVING",
    "QUALIFY",
    "ORDER",
    "LIMIT",
    "OFFSET",
    "FETCH",
    "UNION",
    "INTERSECT",
    "EXCEPT",
    "MINUS",
    "WINDOW",
    "LOOP",
    "WITH",
    "FOR",
];

/// A quoted name to insert into the tokens.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Insertion {
    /// Position of the insertion.
    at: usize,
    /// `true` if the name replaces the token at this position. Otherwise it is inserted before the token as
    /// `AS name`.
    replaces: bool,
    text: String,
}

impl Insertion {
    /// Replaces the token at this position by a quoted name.
    pub(super) fn replacing(at: usize, text: String) -> Self {
        Self { at, replaces: true, text }
    }
}

/// Returns `true` if this text cannot continue the table or select-list item before it: it begins with
/// neither an alias nor an operator.
pub(super) fn closes(text: &str) -> bool {
    let first = tokens(text).find(|token| !matches!(token, Token::Blank(_)));
    first.is_some_and(|first| match first {
        Token::Semicolon | Token::Symbol(")" | ",") => true,
        word => !may_be_alias(word) || is(word, &BEHIND_ITEMS),
    })
}

/// End of a piece of SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The SQL ends after the piece.
    Closed,
    /// More SQL may be appended.
    Open,
}

/// Returns the names to insert, ordered by position.
pub(super) fn of_text(reader: Reader<'_, '_>, end: End) -> Vec<Insertion> {
    let mut names = Tables::new(reader, end).names();
    names.extend(columns(reader, end));
    names.extend(identifiers::folded(reader));
    // An alias is inserted before the token at its position.
    names.sort_by_key(|name| (name.at, name.replaces));
    names
}

/// Inserts the names into the tokens.
pub(super) fn put_into<'a>(tokens: &[Token<'a>], names: &'a [Insertion]) -> Vec<Token<'a>> {
    let (mut named, mut at) = (Vec::with_capacity(tokens.len() + 4 * names.len()), 0);
    for name in names {
        named.extend_from_slice(&tokens[at..name.at]);
        at = name.at;
        if name.replaces {
            at += 1;
        } else {
            named.extend([Token::Blank(" "), Token::Word("AS"), Token::Blank(" ")]);
        }
        named.push(Token::Quoted(&name.text));
    }
    named.extend_from_slice(&tokens[at..]);
    named
}

/// Returns `true` if the token can be the alias of a table.
fn may_be_alias(token: Token<'_>) -> bool {
    !is(token, &AFTER_A_TABLE) && !is(token, &NO_ALIAS)
}

pub(super) fn is(token: Token<'_>, words: &[&str]) -> bool {
    matches!(token, Token::Word(word) if words.iter().any(|one| word.eq_ignore_ascii_case(one)))
}

/// Finds subqueries in `FROM` that have no alias, and aliases and common table expressions that look like
/// calls.
struct Tables<'a, 'l> {
    reader: Reader<'a, 'l>,
    end: End,
    names: Vec<Insertion>,
    /// Open parentheses, innermost last. The first level is the text itself.
    levels: Vec<Level>,
    /// `true` if the next token begins a table.
    expects: bool,
    /// `true` if the next token may be an alias.
    may_alias: bool,
    /// `true` if the next token is an alias.
    alias: bool,
    before: Option<Token<'a>>,
}

/// State of the text between two parentheses.
#[derive(Clone, Copy, Default)]
struct Level {
    /// `true` for a query or a statement, `false` for a list of expressions.
    is_query: bool,
    /// `true` for a subquery that is a table of the enclosing query.
    is_derived: bool,
    /// `true` for a table of the enclosing query: a subquery, the arguments of a function, or joined tables.
    is_table: bool,
    /// `true` while the position is among the tables of `FROM`.
    tables: bool,
    /// `true` if the statement may have tables after `USING`.
    has_using: bool,
    /// Number of open `CASE` expressions.
    cases: usize,
}

impl<'a, 'l> Tables<'a, 'l> {
    fn new(reader: Reader<'a, 'l>, end: End) -> Self {
        let text = Level { is_query: true, ..Level::default() };
        Self {
            reader,
            end,
            names: Vec::new(),
            levels: vec![text],
            expects: false,
            may_alias: false,
            alias: false,
            before: None,
        }
    }

    fn names(mut self) -> Vec<Insertion> {
        for at in 0..self.reader.tokens.len() {
            let token = self.reader.tokens[at];
            match token {
                Token::Blank(_) => continue,
                Token::Symbol("(") => self.open(at),
                Token::Symbol(")") => self.close(at),
                Token::Symbol(",") => {
                    let tables = self.level().tables;
                    self.expect(tables);
                }
                Token::Symbol(".") => self.expect(self.may_alias),
                Token::Semicolon => {
                    self.levels.truncate(1);
                    *self.level() = Level { is_query: true, ..Level::default() };
                    self.expect(false);
                }
                Token::Word(word) => self.word(at, word),
                // `#` begins the name of a temporary table.
                Token::Symbol("#") if self.expects => {}
                _ => {
                    self.may_alias = self.expects && matches!(token, Token::Quoted(_));
                    (self.expects, self.alias) = (false, false);
                }
            }
            self.before = Some(token);
        }
        self.names
    }

    fn level(&mut self) -> &mut Level {
        if self.levels.is_empty() {
            self.levels.push(Level { is_query: true, ..Level::default() });
        }
        let last = self.levels.len() - 1;
        &mut self.levels[last]
    }

    fn expect(&mut self, table: bool) {
        (self.expects, self.may_alias, self.alias) = (table, false, false);
    }

    fn open(&mut self, at: usize) {
        let is_query = begins_query(self.reader, at);
        let calls = self.may_alias && matches!(self.before, Some(Token::Word(_) | Token::Quoted(_)));
        let nests = self.expects && !is_query;
        self.levels.push(Level {
            is_query,
            is_derived: self.expects && is_query,
            is_table: self.expects || calls,
            tables: nests,
            ..Level::default()
        });
        self.expect(nests);
    }

    fn close(&mut self, at: usize) {
        let level =
            if self.levels.len() > 1 { self.levels.pop().unwrap_or_default() } else { Level::default() };
        if level.is_derived && !self.has_alias(at + 1) {
            let text = format!("\"~s{}\"", self.names.len() + 1);
            self.names.push(Insertion { at: at + 1, replaces: false, text });
        }
        self.expect(false);
        self.may_alias = level.is_table;
    }

    fn word(&mut self, at: usize, word: &'a str) {
        let token = Token::Word(word);
        let after_distinct = self.before.is_some_and(|before| is(before, &["DISTINCT"]));
        if self.alias || self.may_alias && may_be_alias(token) && !is(token, &["AS"]) {
            self.quote(at, word);
            self.expect(false);
        } else if self.may_alias && is(token, &["AS"]) {
            self.expect(false);
            self.alias = true;
        } else if self.expects && !is(token, &["LATERAL", "ONLY"]) && !is(token, &BEHIND_TABLES) {
            self.expect(false);
            self.may_alias = true;
        } else if is(token, &["FROM"]) && self.level().is_query && !after_distinct {
            self.level().tables = true;
            self.expect(true);
        } else if is(token, &["JOIN"]) {
            let tables = self.level().tables;
            self.expect(tables);
        } else if is(token, &["USING"]) && self.level().has_using {
            self.level().tables = true;
            self.expect(true);
        } else if is(token, &["DELETE", "MERGE"]) && self.level().is_query {
            (self.level().tables, self.level().has_using) = (false, true);
            self.expect(false);
        } else if is(token, &["CASE"]) {
            self.level().cases += 1;
            self.expect(false);
        } else if self.level().cases > 0 && is(token, &["WHEN", "THEN", "ELSE", "END"]) {
            if is(token, &["END"]) {
                self.level().cases -= 1;
            }
            self.expect(false);
        } else if is(token, &BEHIND_TABLES) {
            (self.level().tables, self.level().has_using) = (false, false);
            self.expect(false);
        } else if !is(token, &["LATERAL", "ONLY"]) {
            if self.is_common_table(at) {
                self.quote(at, word);
            }
            self.expect(false);
        }
    }

    /// Quotes a name with a column list if a translated function has the same name.
    fn quote(&mut self, at: usize, word: &str) {
        let end = self.reader.tokens.len();
        if functions::is_known(word) && self.reader.list(at + 1, end).is_some() {
            let text = format!("\"{}\"", word.to_ascii_lowercase());
            self.names.push(Insertion::replacing(at, text));
        }
    }

    /// Returns `true` for `name (columns) AS [[NOT] MATERIALIZED] (`.
    fn is_common_table(&self, at: usize) -> bool {
        let (reader, end) = (self.reader, self.reader.tokens.len());
        let behind = || {
            let (_, behind) = reader.list(at + 1, end)?;
            let behind = reader.words(behind, end, &["AS"])?;
            let behind = reader.words(behind, end, &["NOT"]).unwrap_or(behind);
            let behind = reader.words(behind, end, &["MATERIALIZED"]).unwrap_or(behind);
            reader.list(behind, end)
        };
        self.before != Some(Token::Symbol(".")) && behind().is_some()
    }

    /// Returns `true` if an alias follows.
    fn has_alias(&self, at: usize) -> bool {
        let (reader, end) = (self.reader, self.reader.tokens.len());
        let Some(next) = reader.next(at, end) else { return self.end == End::Open };
        match reader.tokens[next] {
            Token::Quoted(text) => text.starts_with('"'),
            token @ Token::Word(_) => {
                may_be_alias(token) && !refusal::is_qualify(reader, next..end, Some(Token::Symbol(")")))
            }
            _ => false,
        }
    }
}

/// Returns `true` if the parentheses that open at this position contain a query.
fn begins_query(reader: Reader<'_, '_>, open: usize) -> bool {
    let end = reader.tokens.len();
    let Some(first) = reader.next(open + 1, end) else { return false };
    let ends_query = |behind: usize| {
        reader.next(behind, end).is_some_and(|next| {
            let words = ["UNION", "INTERSECT", "EXCEPT", "MINUS", "ORDER", "LIMIT", "OFFSET", "FETCH"];
            reader.tokens[next] == Token::Symbol(")") || is(reader.tokens[next], &words)
        })
    };
    match reader.tokens[first] {
        Token::Symbol("(") => {
            begins_query(reader, first)
                && reader.list(first, end).is_some_and(|(_, behind)| ends_query(behind))
        }
        // SQL does not allow a single name in parentheses as a table, so the placeholder must be a query.
        Token::Word(word) if word.starts_with(bodies::MARK) => ends_query(first + 1),
        token => is(token, &["SELECT", "WITH", "VALUES"]),
    }
}

/// Returns aliases for the select-list items whose columns PostgreSQL would name differently after the
/// translation.
fn columns(reader: Reader<'_, '_>, end: End) -> Vec<Insertion> {
    let length = reader.tokens.len();
    let mut names = Vec::new();
    for select in (0..length).filter(|at| is(reader.tokens[*at], &["SELECT"])) {
        let mut begin = select + 1;
        if let Some((word, next)) = reader.word(begin, length)
            && (word == "DISTINCT" || word == "ALL")
        {
            begin = next;
        }
        if let Some(next) = reader.words(begin, length, &["TOP"])
            && let Some(count) = reader.next(next, length)
        {
            begin = reader.list(next, length).map_or(count + 1, |(_, behind)| behind);
        }
        let items = begin..end_of_items(reader, begin);
        for item in reader.split(items.clone()) {
            let is_open = end == End::Open && item.end == length;
            let item = trimmed(reader, item);
            if !is_open && let Some(name) = column(reader, item.clone()) {
                names.push(Insertion { at: item.end, replaces: false, text: format!("\"{name}\"") });
            }
        }
    }
    names
}

fn end_of_items(reader: Reader<'_, '_>, begin: usize) -> usize {
    let mut depth = 0_usize;
    let mut before = None;
    for (at, token) in reader.tokens.iter().copied().enumerate().skip(begin) {
        match token {
            Token::Blank(_) => continue,
            Token::Symbol("(" | "[") => depth += 1,
            Token::Symbol(")" | "]") if depth == 0 => return at,
            Token::Symbol(")" | "]") => depth -= 1,
            Token::Semicolon => return at,
            // `FROM` in `IS DISTINCT FROM` and `GROUP` in `WITHIN GROUP` do not end the list.
            _ if depth == 0
                && is(token, &BEHIND_ITEMS)
                && !before.is_some_and(|before| is(before, &["DISTINCT", "WITHIN"])) =>
            {
                return at;
            }
            _ => {}
        }
        before = Some(token);
    }
    reader.tokens.len()
}

/// Trims blank tokens at both ends of a range.
pub(super) fn trimmed(reader: Reader<'_, '_>, part: Range<usize>) -> Range<usize> {
    let begin = reader.next(part.start, part.end).unwrap_or(part.end);
    let is_blank = |at: &usize| matches!(reader.tokens[*at], Token::Blank(_));
    begin..part.clone().rev().find(|at| !is_blank(at)).map_or(begin, |at| at + 1)
}

/// Returns Redshift's name for the column of a select-list item without an alias, if PostgreSQL would name
/// the column differently after the translation.
///
/// Redshift uses PostgreSQL's rule: a call is named after its function, a cast after its operand, and a
/// `CASE` after its `ELSE`.
pub(super) fn column(reader: Reader<'_, '_>, item: Range<usize>) -> Option<&'static str> {
    let Range { start, end } = trimmed(reader, item);
    if let Some(cast) =
        top_level(reader, start..end).filter(|at| reader.tokens[*at] == Token::Symbol("::")).last()
    {
        return is_type(reader, cast + 1..end).then(|| column(reader, start..cast)).flatten();
    }
    let Token::Word(word) = *reader.tokens.get(start).filter(|_| start < end)? else {
        let (inner, behind) = reader.list(start, end)?;
        return (behind == end && !begins_query(reader, start)).then(|| column(reader, inner)).flatten();
    };
    if start + 1 == end {
        return match word.to_ascii_uppercase().as_str() {
            "SYSDATE" => Some("timestamp"),
            "CURRENT_DATE" => Some("date"),
            _ => None,
        };
    }
    if word.eq_ignore_ascii_case("CASE") {
        return column(reader, otherwise(reader, start..end)?);
    }
    let (list, behind) = reader.list(start + 1, end)?;
    if end_of_call(reader, behind, end) != end {
        return None;
    }
    let arguments = reader.split(list.clone());
    let last = || arguments.last().cloned();
    match (word.to_ascii_uppercase().as_str(), arguments.len()) {
        ("CAST", _) => {
            let of_type =
                top_level(reader, list.clone()).filter(|at| is(reader.tokens[*at], &["AS"])).last()?;
            column(reader, list.start..of_type)
        }
        ("CONVERT", 2) => column(reader, last()?),
        ("NVL2", 3) => column(reader, last()?),
        ("DECODE", count) if count > 3 && count % 2 == 0 => column(reader, last()?),
        (name, _) => functions::column_name(name),
    }
}

/// Returns the positions of tokens outside parentheses and brackets.
pub(super) fn top_level<'a>(
    reader: Reader<'a, '_>,
    part: Range<usize>,
) -> impl Iterator<Item = usize> + use<'a> {
    let (tokens, mut depth) = (reader.tokens, 0_usize);
    part.filter(move |at| match tokens[*at] {
        Token::Symbol("(" | "[") => {
            depth += 1;
            false
        }
        Token::Symbol(")" | "]") => {
            depth = depth.saturating_sub(1);
            false
        }
        Token::Blank(_) => false,
        _ => depth == 0,
    })
}

/// Returns `true` if the range is exactly a type name.
fn is_type(reader: Reader<'_, '_>, part: Range<usize>) -> bool {
    let mut at = part.start;
    let Some((first, next)) = reader.word(at, part.end) else { return false };
    at = next;
    let words: &[&[&str]] = match first.as_str() {
        "DOUBLE" => &[&["PRECISION"]],
        "CHARACTER" | "CHAR" | "BINARY" => &[&["VARYING"]],
        _ => &[],
    };
    at = words.iter().find_map(|words| reader.words(at, part.end, words)).unwrap_or(at);
    at = reader.list(at, part.end).map_or(at, |(_, behind)| behind);
    if ["TIMESTAMP", "TIME"].contains(&first.as_str()) {
        let zones: [&[&str]; 2] = [&["WITH", "TIME", "ZONE"], &["WITHOUT", "TIME", "ZONE"]];
        at = zones.iter().find_map(|words| reader.words(at, part.end, words)).unwrap_or(at);
    }
    reader.next(at, part.end).is_none()
}

/// Returns the `ELSE` expression if the range is exactly one `CASE`.
fn otherwise(reader: Reader<'_, '_>, case: Range<usize>) -> Option<Range<usize>> {
    let (mut depth, mut found) = (0_usize, None);
    for at in top_level(reader, case.clone()) {
        let token = reader.tokens[at];
        if is(token, &["CASE"]) {
            depth += 1;
        } else if is(token, &["ELSE"]) && depth == 1 {
            found = Some(at + 1);
        } else if is(token, &["END"]) {
            depth = depth.checked_sub(1)?;
            if depth == 0 {
                return (at + 1 == case.end).then_some(found?..at);
            }
        }
    }
    None
}

/// Returns the position after the clauses of a call, such as `WITHIN GROUP`, `FILTER` and `OVER`.
fn end_of_call(reader: Reader<'_, '_>, mut at: usize, end: usize) -> usize {
    let nulls = |at: usize| {
        let words: [&[&str]; 2] = [&["IGNORE", "NULLS"], &["RESPECT", "NULLS"]];
        words.iter().find_map(|words| reader.words(at, end, words))
    };
    at = nulls(at).unwrap_or(at);
    for words in [&["WITHIN", "GROUP"][..], &["FILTER"], &["OVER"]] {
        if let Some((_, behind)) = reader.words(at, end, words).and_then(|next| reader.list(next, end)) {
            at = behind;
        }
    }
    match reader.words(at, end, &["OVER"]).and_then(|next| reader.word(next, end)) {
        Some((_, behind)) => behind,
        None => at,
    }
}
