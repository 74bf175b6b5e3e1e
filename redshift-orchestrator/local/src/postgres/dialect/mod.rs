//! Translates Redshift's SQL to PostgreSQL's, as far as that is possible without knowing the tables.
//! `docs/postgres.md` lists the translations.

use std::{borrow::Cow, ops::Range};

use names::End;
use redshift_orchestrator::sql::{Token, tokens};

mod bodies;
mod functions;
mod identifiers;
mod names;
mod qualify;
mod refusal;
mod signatures;
mod statements;
mod tables;
mod windows;

pub(super) use identifiers::Case;
pub(super) use refusal::of_missing as refusal_of_missing;

/// SQL that creates the Redshift functions which PostgreSQL lacks. `~` is a placeholder for their schema.
pub(super) const LIBRARY: &str = include_str!("library.sql");

/// Translates SQL to PostgreSQL's dialect. SQL that needs no translation is returned unchanged. `library` is
/// the quoted schema of [`LIBRARY`].
///
/// # Errors
/// Returns the error text of the statement if PostgreSQL has no equivalent.
pub(super) fn translate<'a>(sql: &'a str, library: &str, case: Case) -> Result<Cow<'a, str>, String> {
    Reader { tokens: &[], library, case }.translate(sql, End::Closed)
}

/// Syntactic context in which tokens are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Context {
    /// Whole statements.
    Statement,
    /// Body of a procedure or function, where words such as `BEGIN` and `THEN` also separate statements.
    Body,
    /// Part of a statement.
    Expression,
    /// A type, and the text after it.
    Type,
}

/// View of the tokens of a text. Positions are token indices.
#[derive(Clone, Copy)]
struct Reader<'a, 'l> {
    tokens: &'a [Token<'a>],
    library: &'l str,
    case: Case,
}

/// Words after which an operand follows.
const BEFORE_OPERAND: [&str; 25] = [
    "TABLE", "EXISTS", "FROM", "JOIN", "INTO", "UPDATE", "USING", "LIKE", "TRUNCATE", "ANALYZE", "VACUUM",
    "SELECT", "DISTINCT", "WHERE", "AND", "OR", "NOT", "ON", "BY", "SET", "WHEN", "THEN", "ELSE", "DELETE",
    "HAVING",
];

/// Returns a string literal. In the service's sessions, as on Redshift, a backslash in a literal is an escape.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// Returns a statement that runs a statement of PL/pgSQL.
fn block(statement: &str) -> String {
    format!("DO {}", quoted(&format!("BEGIN {statement}; END")))
}

/// Translation of some tokens, and the position after them.
type Piece<'a> = (Cow<'a, str>, usize);

impl<'l> Reader<'_, 'l> {
    /// Returns a view of other tokens, with the same options.
    fn of<'b>(self, tokens: &'b [Token<'b>]) -> Reader<'b, 'l> {
        Reader { tokens, library: self.library, case: self.case }
    }

    /// Translates other SQL with the same options. It may be a fragment of a statement.
    fn translate<'b>(self, sql: &'b str, end: End) -> Result<Cow<'b, str>, String> {
        let tokens: Vec<_> = tokens(sql).collect();
        if let Some(refused) = identifiers::too_long(&tokens) {
            return Err(refused);
        }
        let names = names::of_text(self.of(&tokens), end);
        let tokens = names::put_into(&tokens, &names);
        let text = self.of(&tokens).text(0..tokens.len(), Context::Statement)?;
        Ok(if text == sql { Cow::Borrowed(sql) } else { Cow::Owned(text) })
    }
}

impl<'a> Reader<'a, '_> {
    /// Translates a range of tokens.
    fn text(self, part: Range<usize>, context: Context) -> Result<String, String> {
        let (mut text, mut at) = (String::new(), part.start);
        let mut before = None;
        let mut declaring = false;
        while at < part.end {
            let token = self.tokens[at];
            if let Token::Blank(blank) = token {
                text.push_str(blank);
                at += 1;
                continue;
            }
            let begins =
                context != Context::Expression && context != Context::Type && self.begins(before, context);
            if context == Context::Body && begins {
                declaring = match token {
                    Token::Word(word) if word.eq_ignore_ascii_case("DECLARE") => true,
                    Token::Word(word) if word.eq_ignore_ascii_case("BEGIN") => false,
                    _ => declaring,
                };
            }
            let is_type = context == Context::Type && before.is_none()
                || before == Some(Token::Symbol("::"))
                || declaring && !begins;
            let (piece, next) = self.piece(at..part.end, before, begins, is_type)?;
            text.push_str(&piece);
            before = self.last(at..next).or(before);
            at = next;
        }
        Ok(text)
    }

    /// Translates one or more tokens at the beginning of a range.
    fn piece(
        self,
        part: Range<usize>,
        before: Option<Token<'a>>,
        begins: bool,
        is_type: bool,
    ) -> Result<Piece<'a>, String> {
        let at = part.start;
        if begins {
            if let Some(refused) = refusal::of_statement(self, part.clone()) {
                return Err(refused);
            }
            if let Some(piece) = statements::translate(self, part.clone())? {
                return Ok(piece);
            }
        }
        match self.tokens[at] {
            Token::Word(word) if before != Some(Token::Symbol(".")) => {
                if is_type && let Some(piece) = tables::type_name(self, part.clone())? {
                    return Ok(piece);
                }
                if let Some(refused) = refusal::of_word(self, part.clone(), before) {
                    return Err(refused);
                }
                let piece = functions::translate(self, part, before)?;
                Ok(piece.unwrap_or((Cow::Borrowed(word), at + 1)))
            }
            Token::Symbol("(") if refusal::is_outer_join(self, part.clone(), before) => {
                Err(refusal::refused("the outer join (+)", "write LEFT JOIN … ON"))
            }
            Token::Symbol("#") => Ok(self.work_table(at, before).unwrap_or((Cow::Borrowed("#"), at + 1))),
            token => Ok((Cow::Borrowed(token.text()), at + 1)),
        }
    }

    /// Returns `true` if a statement begins after the token `before`.
    fn begins(self, before: Option<Token<'a>>, context: Context) -> bool {
        match before {
            None | Some(Token::Semicolon) => true,
            Some(Token::Word(word)) if context == Context::Body => {
                ["BEGIN", "THEN", "ELSE", "LOOP", "DECLARE"].iter().any(|one| word.eq_ignore_ascii_case(one))
            }
            _ => false,
        }
    }

    /// Translates `#name`, the name of a temporary table. Returns `None` if `#` is the operator, which
    /// follows an operand.
    fn work_table(self, at: usize, before: Option<Token<'a>>) -> Option<Piece<'a>> {
        let Some(Token::Word(name)) = self.tokens.get(at + 1) else { return None };
        let is_table = match before {
            None => true,
            Some(Token::Word(word)) => BEFORE_OPERAND.iter().any(|one| word.eq_ignore_ascii_case(one)),
            Some(Token::Symbol(symbol)) => !matches!(symbol, ")" | "]"),
            Some(_) => false,
        };
        let first = name.chars().next()?;
        if !is_table || !(first.is_alphabetic() || first == '_') {
            return None;
        }
        // `SELECT … INTO #name` creates the table, whereas `INSERT INTO` and `MERGE INTO` use an existing
        // one.
        let mut words = self.tokens[..at].iter().rev().filter(|token| !matches!(token, Token::Blank(_)));
        let is = |token: Option<&Token<'_>>, expected: &str| matches!(token, Some(Token::Word(word)) if word.eq_ignore_ascii_case(expected));
        let makes = is(words.next(), "INTO") && {
            let earlier = words.next();
            !is(earlier, "INSERT") && !is(earlier, "MERGE")
        };
        let temporary = if makes { "TEMP " } else { "" };
        Some((Cow::Owned(format!("{temporary}\"#{}\"", name.to_ascii_lowercase())), at + 2))
    }

    /// Returns the position of the first token at or after `at` that is not blank.
    fn next(self, at: usize, end: usize) -> Option<usize> {
        (at..end).find(|at| !matches!(self.tokens[*at], Token::Blank(_)))
    }

    /// Returns the end of the statement that contains `at`.
    fn statement_end(self, at: usize, end: usize) -> usize {
        (at..end).find(|at| self.tokens[*at] == Token::Semicolon).unwrap_or(end)
    }

    /// Returns the last token of a range that is not blank.
    fn last(self, part: Range<usize>) -> Option<Token<'a>> {
        self.tokens[part].iter().rev().find(|token| !matches!(token, Token::Blank(_))).copied()
    }

    /// Returns the next word in upper case, and the position after it. Returns `None` if the next token is
    /// not a word.
    fn word(self, at: usize, end: usize) -> Option<(String, usize)> {
        let at = self.next(at, end)?;
        match self.tokens[at] {
            Token::Word(word) => Some((word.to_ascii_uppercase(), at + 1)),
            _ => None,
        }
    }

    /// Returns the position after these words if they are the next tokens.
    fn words(self, mut at: usize, end: usize, words: &[&str]) -> Option<usize> {
        for expected in words {
            let (word, next) = self.word(at, end)?;
            if word != *expected {
                return None;
            }
            at = next;
        }
        Some(at)
    }

    /// Returns the range inside the parentheses that open next, and the position after them.
    fn list(self, at: usize, end: usize) -> Option<(Range<usize>, usize)> {
        let open = self.next(at, end)?;
        if self.tokens[open] != Token::Symbol("(") {
            return None;
        }
        let mut depth = 0;
        for at in open..end {
            match self.tokens[at] {
                Token::Symbol("(") => depth += 1,
                Token::Symbol(")") => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Some((open + 1..at, at + 1));
            }
        }
        None
    }

    /// Splits a list at its commas. An empty list has no pieces.
    fn split(self, list: Range<usize>) -> Vec<Range<usize>> {
        let (mut pieces, mut begin, mut depth) = (Vec::new(), list.start, 0);
        if self.next(list.start, list.end).is_none() {
            return pieces;
        }
        for at in list.clone() {
            match self.tokens[at] {
                Token::Symbol("(" | "[") => depth += 1,
                Token::Symbol(")" | "]") => depth -= 1,
                Token::Symbol(",") if depth == 0 => {
                    pieces.push(begin..at);
                    begin = at + 1;
                }
                _ => {}
            }
        }
        pieces.push(begin..list.end);
        pieces
    }

    /// Translates an expression and trims it. If it ends in a line comment, appends a newline, so that the
    /// text that follows does not become part of the comment.
    fn expression(self, part: Range<usize>) -> Result<String, String> {
        let text = self.text(part, Context::Expression)?;
        let text = text.trim();
        let ends_in_comment = text.rsplit('\n').next().is_some_and(|line| line.contains("--"));
        Ok(if ends_in_comment { format!("{text}\n") } else { text.to_owned() })
    }
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
