//! Translates `QUALIFY`, a condition on the results of window functions.
//!
//! The query becomes a subquery whose condition is an additional column. An outer query selects the rows for
//! which the condition is true:
//!
//! ```sql
//! SELECT a, t.* FROM t QUALIFY ROW_NUMBER() OVER (PARTITION BY a ORDER BY b) = 1 ORDER BY c
//! SELECT "~q"."~1" AS a, ("~q"."~2").*
//! FROM (SELECT a, t, (ROW_NUMBER() OVER (PARTITION BY a ORDER BY b) = 1), c FROM t) AS "~q" ("~1", "~2", "~keep", "~o1")
//! WHERE "~q"."~keep" ORDER BY "~q"."~o1"
//! ```
//!
//! `*` selects the whole row of each table as one value, so that the translation does not need the column
//! names.

use std::ops::Range;

use super::{Context, Piece, Reader, functions, names::trimmed, refusal};
use redshift_orchestrator::sql::Token;

/// Words that end the condition.
const TAIL: [&str; 6] = ["ORDER", "LIMIT", "OFFSET", "FETCH", "WITH", "INTO"];
/// Words that end the list of tables.
const CLAUSES: [&str; 4] = ["WHERE", "GROUP", "HAVING", "QUALIFY"];
/// Words that begin a join.
const JOINS: [&str; 7] = ["JOIN", "INNER", "LEFT", "RIGHT", "FULL", "CROSS", "NATURAL"];

/// Translates a query with `QUALIFY`. Returns `None` if the query has no `QUALIFY` or cannot be translated.
pub(super) fn translate<'a>(
    reader: Reader<'a, '_>,
    part: Range<usize>,
    before: Option<Token<'a>>,
) -> Result<Option<Piece<'a>>, String> {
    let (at, stop) = (part.start, functions::end_of_query(reader, part.start + 1, part.end));
    let is_qualify = |at: usize| refusal::is_qualify(reader, at..stop, reader.last(part.start..at));
    let Some(qualify) = outside(reader, at + 1..stop).find(|at| is_qualify(*at)) else { return Ok(None) };
    let mut begin = at + 1;
    let is_distinct = match reader.word(begin, qualify) {
        Some((word, next)) if word == "DISTINCT" || word == "ALL" => {
            begin = next;
            word == "DISTINCT"
        }
        _ => false,
    };
    let mut top = None;
    if let Some((count, next)) = functions::count_of_top(reader, begin, qualify)? {
        (top, begin) = (Some(count), next);
    }
    let is_from = |at: &usize| {
        is_word(reader, *at, &["FROM"])
            && !matches!(reader.last(begin..*at), Some(Token::Word(word)) if word.eq_ignore_ascii_case("DISTINCT"))
    };
    let Some(from) = outside(reader, begin..qualify).find(is_from) else { return Ok(None) };
    let into = outside(reader, begin..from).find(|at| is_word(reader, *at, &["INTO"])).unwrap_or(from);
    let end_of = |range: Range<usize>| {
        let end = range.end;
        outside(reader, range).find(|at| is_word(reader, *at, &TAIL)).unwrap_or(end)
    };
    let condition = trimmed(reader, qualify + 1..end_of(qualify + 1..stop));
    // After a set operator, the remaining clauses apply to the result of the set operation.
    let in_set = matches!(before, Some(token) if functions::is_set_operator(token));
    let mut rest = condition.end..if in_set { condition.end } else { stop };
    let keys =
        reader.words(rest.start, rest.end, &["ORDER", "BY"]).map(|begin| begin..end_of(begin..rest.end));
    if let Some(keys) = &keys {
        rest.start = keys.end;
    }

    let mut query = Query::default();
    let items = reader.split(begin..into);
    if items.is_empty() {
        return Ok(None);
    }
    let mut named = Vec::new();
    for item in items {
        let item = trimmed(reader, item);
        match rows(reader, &item, from + 1..qualify) {
            Some(Some(tables)) => tables.into_iter().for_each(|table| query.row(table)),
            Some(None) => return Ok(None),
            None => {
                let name = name(reader, item.clone());
                query.value(reader.expression(item.clone())?, &name.text);
                named.push((name, item));
            }
        }
    }
    query.condition = in_place_of_names(reader, condition, &named)?;
    let mut order = Vec::new();
    for key in keys.into_iter().flat_map(|keys| reader.split(keys)) {
        let (key, direction) = key_and_direction(reader, trimmed(reader, key));
        let text = reader.expression(key.clone())?;
        let is_output = text.bytes().all(|byte| byte.is_ascii_digit())
            || named.iter().any(|(name, _)| is_same_name(&name.text, &text));
        if is_distinct && !is_output {
            return Ok(None);
        }
        let text = if is_output { text } else { query.key(text) };
        order.push(format!("{text}{}", reader.text(direction, Context::Expression)?));
    }

    let tables = reader.expression(from..qualify)?;
    let quantifier = if is_distinct { "DISTINCT " } else { "" };
    let into = match into == from {
        true => String::new(),
        false => format!("{} ", reader.expression(into..from)?),
    };
    let mut text = format!(
        "SELECT {quantifier}{} {into}FROM (SELECT {} {tables}) AS \"~q\" ({}) WHERE \"~q\".\"~keep\"",
        query.outer.join(", "),
        query.inner(),
        query.columns().join(", "),
    );
    if !order.is_empty() {
        text.push_str(&format!(" ORDER BY {}", order.join(", ")));
    }
    if let Some(count) = top {
        text.push_str(&format!(" LIMIT {count}"));
        if in_set
            || reader.next(stop, part.end).is_some_and(|at| functions::is_set_operator(reader.tokens[at]))
        {
            text = format!("({text})");
        }
    }
    let end = rest.end;
    if reader.next(rest.start, end).is_some() {
        text.push_str(&format!(" {}", reader.expression(rest)?));
    }
    let blank =
        reader.tokens[..end].iter().rev().take_while(|token| matches!(token, Token::Blank(_))).count();
    Ok(Some((text.into(), end - blank)))
}

/// Columns of the subquery and of the outer query.
#[derive(Default)]
struct Query {
    outer: Vec<String>,
    values: Vec<String>,
    condition: String,
    keys: Vec<String>,
}

impl Query {
    fn value(&mut self, text: String, name: &str) {
        self.values.push(text);
        self.outer.push(format!("\"~q\".\"~{}\" AS {name}", self.values.len()));
    }

    /// Adds all columns of a table.
    fn row(&mut self, table: String) {
        self.values.push(table);
        self.outer.push(format!("(\"~q\".\"~{}\").*", self.values.len()));
    }

    /// Adds a sort key as a column of the subquery, and returns the column's name.
    fn key(&mut self, text: String) -> String {
        self.keys.push(text);
        format!("\"~q\".\"~o{}\"", self.keys.len())
    }

    fn inner(&self) -> String {
        let condition = format!("({})", self.condition);
        let columns: Vec<_> =
            self.values.iter().chain([&condition]).chain(&self.keys).map(String::as_str).collect();
        columns.join(", ")
    }

    fn columns(&self) -> Vec<String> {
        let values = (1..=self.values.len()).map(|number| format!("\"~{number}\""));
        let keys = (1..=self.keys.len()).map(|number| format!("\"~o{number}\""));
        values.chain(["\"~keep\"".to_owned()]).chain(keys).collect()
    }
}

/// Name of a result column.
struct Name {
    text: String,
    /// Position of `AS name`, or the end of the item if it has no alias.
    begin: usize,
}

/// Returns the positions of tokens outside parentheses and brackets.
fn outside<'a>(reader: Reader<'a, '_>, part: Range<usize>) -> impl Iterator<Item = usize> + use<'a> {
    let tokens = reader.tokens;
    let mut depth = 0_usize;
    part.filter(move |at| {
        match tokens[*at] {
            Token::Symbol("(" | "[") => depth += 1,
            Token::Symbol(")" | "]") => depth = depth.saturating_sub(1),
            Token::Blank(_) => return false,
            _ => return depth == 0,
        }
        false
    })
}

fn is_word(reader: Reader<'_, '_>, at: usize, words: &[&str]) -> bool {
    matches!(reader.tokens[at], Token::Word(word) if words.iter().any(|one| word.eq_ignore_ascii_case(one)))
}

/// Returns the tables whose columns a select-list item with `*` selects. Returns `None` if the item has no
/// `*`, and `Some(None)` if the tables cannot be determined.
fn rows(reader: Reader<'_, '_>, item: &Range<usize>, tables: Range<usize>) -> Option<Option<Vec<String>>> {
    if reader.last(item.clone()) != Some(Token::Symbol("*")) {
        return None;
    }
    match reader.tokens[item.clone()] {
        [_] => Some(sources(reader, tables)),
        [.., Token::Symbol("#"), Token::Word(name), Token::Symbol("."), _] => {
            Some(Some(vec![format!("\"#{}\"", name.to_ascii_lowercase())]))
        }
        [.., name @ (Token::Word(_) | Token::Quoted(_)), Token::Symbol("."), _] => {
            Some(Some(vec![name.text().to_owned()]))
        }
        _ => Some(None),
    }
}

/// Returns the names of the tables of a query. Returns `None` if a join merges columns, or if a source is not
/// a table.
fn sources(reader: Reader<'_, '_>, part: Range<usize>) -> Option<Vec<String>> {
    let end = outside(reader, part.clone()).find(|at| is_word(reader, *at, &CLAUSES)).unwrap_or(part.end);
    let (mut names, mut at) = (Vec::new(), part.start);
    loop {
        let (name, next) = source(reader, at, end)?;
        names.push(name);
        at = next;
        // Skip the join condition, up to the next comma, join or `USING`.
        let joins = |at: &usize| {
            reader.tokens[*at] == Token::Symbol(",")
                || is_word(reader, *at, &JOINS) && reader.list(at + 1, end).is_none()
                || is_word(reader, *at, &["USING"])
        };
        let Some(joined) = outside(reader, at..end).find(joins) else { return Some(names) };
        if is_word(reader, joined, &["USING", "NATURAL"]) {
            return None;
        }
        at = match reader.tokens[joined] {
            Token::Symbol(_) => joined + 1,
            _ => (joined..end).find(|at| is_word(reader, *at, &["JOIN"]))? + 1,
        };
    }
}

/// Returns the name of the next table, and the position after it.
fn source(reader: Reader<'_, '_>, at: usize, end: usize) -> Option<(String, usize)> {
    let identifier = |at: usize| match reader.tokens[reader.next(at, end)?] {
        Token::Word(name) => Some(name.to_owned()),
        Token::Quoted(name) if name.starts_with('"') => Some(name.to_owned()),
        _ => None,
    };
    let at = reader.next(at, end)?;
    let (own, mut behind) = match reader.list(at, end) {
        Some((list, behind)) => {
            let (word, _) = reader.word(list.start, list.end)?;
            (["SELECT", "WITH", "VALUES"].contains(&word.as_str())).then_some((None, behind))?
        }
        None if reader.tokens[at] == Token::Symbol("#") => {
            (Some(format!("\"#{}\"", identifier(at + 1)?.to_ascii_lowercase())), at + 2)
        }
        None => {
            let (mut name, mut behind) = (identifier(at)?, at + 1);
            while behind < end && reader.tokens[behind] == Token::Symbol(".") {
                name = identifier(behind + 1)?;
                behind = reader.next(behind + 1, end)? + 1;
            }
            // A table function has no row type of that name.
            if reader.list(behind, end).is_some() {
                return None;
            }
            (Some(name), behind)
        }
    };
    behind = reader.words(behind, end, &["AS"]).unwrap_or(behind);
    let alias = reader
        .next(behind, end)
        .filter(|at| !is_word(reader, *at, &JOINS) && !is_word(reader, *at, &["ON", "USING"]));
    match alias.and_then(|at| Some((identifier(at)?, at + 1))) {
        Some((alias, behind)) => Some((alias, reader.list(behind, end).map_or(behind, |(_, behind)| behind))),
        None => own.map(|name| (name, behind)),
    }
}

/// Returns the column name of a select-list item.
fn name(reader: Reader<'_, '_>, item: Range<usize>) -> Name {
    let solid: Vec<usize> =
        item.clone().filter(|at| !matches!(reader.tokens[*at], Token::Blank(_))).collect();
    let unnamed = |text: &str| Name { text: text.to_owned(), begin: item.end };
    let is_name = |token: Token<'_>| match token {
        Token::Word(word) => {
            !["END", "NULL", "TRUE", "FALSE"].iter().any(|one| word.eq_ignore_ascii_case(one))
                && !word.starts_with(|first: char| first.is_ascii_digit())
        }
        Token::Quoted(text) => text.starts_with('"'),
        _ => false,
    };
    let token = |back: usize| solid.len().checked_sub(back).map(|index| reader.tokens[solid[index]]);
    let Some(last) = token(1).filter(|token| is_name(*token)) else {
        return unnamed(&of_call(reader, &solid).unwrap_or_else(|| "\"?column?\"".to_owned()));
    };
    let begin = |back: usize| solid[solid.len() - back];
    match token(2) {
        Some(Token::Word(word)) if word.eq_ignore_ascii_case("AS") => {
            Name { text: last.text().to_owned(), begin: begin(2) }
        }
        None | Some(Token::Symbol(".")) => unnamed(last.text()),
        Some(Token::Word(_) | Token::Quoted(_) | Token::Placeholder(_) | Token::Symbol(")" | "]")) => {
            Name { text: last.text().to_owned(), begin: begin(1) }
        }
        _ => unnamed("\"?column?\""),
    }
}

/// Returns `true` if two names are equal, regardless of quotes.
fn is_same_name(one: &str, other: &str) -> bool {
    let plain = |name: &str| match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => name.to_ascii_lowercase(),
    };
    plain(one) == plain(other)
}

/// Returns the column name of an item that begins with a function call.
fn of_call(reader: Reader<'_, '_>, solid: &[usize]) -> Option<String> {
    let Token::Word(word) = reader.tokens[*solid.first()?] else { return None };
    if reader.tokens[*solid.get(1)?] != Token::Symbol("(") {
        return None;
    }
    Some(match word.to_ascii_lowercase().as_str() {
        "nvl" | "isnull" => "\"coalesce\"".to_owned(),
        "decode" | "nvl2" => "\"case\"".to_owned(),
        other => format!("\"{other}\""),
    })
}

/// Replaces the aliases of window functions in a condition with the functions themselves, because PostgreSQL
/// does not allow aliases there.
fn in_place_of_names(
    reader: Reader<'_, '_>,
    condition: Range<usize>,
    named: &[(Name, Range<usize>)],
) -> Result<String, String> {
    let is_windowed = |item: &Range<usize>| {
        item.clone().any(|at| is_word(reader, at, &["OVER"]) && reader.list(at + 1, item.end).is_some())
    };
    let meant = |at: usize| {
        let (Token::Word(text) | Token::Quoted(text)) = reader.tokens[at] else { return None };
        let alone = reader.last(condition.start..at) != Some(Token::Symbol("."))
            && !reader
                .next(at + 1, condition.end)
                .is_some_and(|at| matches!(reader.tokens[at], Token::Symbol("(" | ".")));
        let (name, item) = named.iter().find(|(name, _)| is_same_name(&name.text, text))?;
        let expression = item.start..name.begin;
        (alone && name.begin < item.end && is_windowed(&expression)).then_some(expression)
    };
    let mut tokens = Vec::new();
    for at in condition.clone() {
        match meant(at) {
            Some(expression) => {
                tokens.push(Token::Symbol("("));
                tokens.extend_from_slice(&reader.tokens[expression]);
                tokens.push(Token::Symbol(")"));
            }
            None => tokens.push(reader.tokens[at]),
        }
    }
    reader.of(&tokens).expression(0..tokens.len())
}

/// Splits a sort key into its expression and its direction, such as `DESC NULLS LAST`.
fn key_and_direction(reader: Reader<'_, '_>, key: Range<usize>) -> (Range<usize>, Range<usize>) {
    let directions = ["ASC", "DESC", "NULLS"];
    let begin = outside(reader, key.clone()).find(|at| is_word(reader, *at, &directions)).unwrap_or(key.end);
    let begin = if begin == key.start { key.end } else { begin };
    let expression = trimmed(reader, key.start..begin);
    (expression.clone(), expression.end..key.end)
}
