//! Translates the bodies of procedures: their exception handlers, and the SQL strings that they assemble and
//! execute.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::{
    Context, Reader, identifiers,
    names::{self, End},
    quoted,
    refusal::{as_on_redshift, refused},
};
use redshift_orchestrator::sql::{Token, tokens};

/// How a routine deals with transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transactions {
    /// The routine does not end transactions: it is a function, or a procedure with `NONATOMIC`. Its handlers
    /// catch exceptions, as in PostgreSQL.
    None,
    /// A handler rethrows the exception, which rolls everything back. Used where PostgreSQL does not allow
    /// the procedure to end a transaction.
    Thrown,
    /// A handler runs in a separate transaction, which is committed before the exception is rethrown.
    Own,
}

/// Translates a body in dollar quotes or single quotes. If the translation changes a body in single quotes,
/// it is returned in dollar quotes.
pub(super) fn translated<'a>(
    reader: Reader<'_, '_>,
    quoted: &'a str,
    transactions: Transactions,
) -> Result<Cow<'a, str>, String> {
    let Some(inner) = unquoted(quoted) else { return Ok(Cow::Borrowed(quoted)) };
    let text = body(reader, &inner, transactions)?;
    if text == inner {
        return Ok(Cow::Borrowed(quoted));
    }
    // The translation of a nested routine may have introduced the same dollar quote.
    let own = quoted.strip_prefix('$').and_then(|rest| rest.find('$')).map(|length| &quoted[..length + 2]);
    let tag = own.filter(|tag| !text.contains(tag)).map_or_else(|| unused_tag(&text), str::to_owned);
    Ok(Cow::Owned(format!("{tag}{text}{tag}")))
}

/// Returns a dollar quote that the text does not contain.
fn unused_tag(text: &str) -> String {
    let (mut tag, mut number) = ("$body$".to_owned(), 0);
    while text.contains(&tag) {
        number += 1;
        tag = format!("$body{number}$");
    }
    tag
}

/// Translates a body without its quotes.
fn body(reader: Reader<'_, '_>, inner: &str, transactions: Transactions) -> Result<String, String> {
    let written: Vec<_> = tokens(inner).collect();
    let body = reader.of(&written);
    if let Some(refused) = identifiers::too_long(&written).or_else(|| condition(body)) {
        return Err(refused);
    }
    let mut edits = executed(body)?;
    if transactions != Transactions::None {
        edits.extend(handlers(body, transactions));
    } else if let Some(refused) = continue_handler(body) {
        return Err(refused);
    }
    edits.sort_by_key(|edit| edit.place.start);
    let (mut edited, mut at) = (Vec::new(), 0);
    for edit in &edits {
        edited.extend_from_slice(&written[at.min(edit.place.start)..edit.place.start]);
        edited.extend(tokens(&edit.text));
        at = edit.place.end;
    }
    edited.extend_from_slice(&written[at..]);
    let names = names::of_text(reader.of(&edited), End::Closed);
    let named = names::put_into(&edited, &names);
    reader.of(&named).text(0..named.len(), Context::Body)
}

/// Replaces a range of tokens by text.
struct Edit {
    place: Range<usize>,
    text: String,
}

impl Edit {
    fn before(at: usize, text: String) -> Self {
        Self { place: at..at, text }
    }
}

fn word<'a>(body: Reader<'a, '_>, at: usize) -> Option<&'a str> {
    match body.tokens.get(at)? {
        Token::Word(word) => Some(word),
        _ => None,
    }
}

fn is(body: Reader<'_, '_>, at: usize, words: &[&str]) -> bool {
    word(body, at).is_some_and(|word| words.iter().any(|one| word.eq_ignore_ascii_case(one)))
}

/// Returns `true` if a statement begins at this position.
fn begins(body: Reader<'_, '_>, at: usize) -> bool {
    let before = body.last(0..at);
    body.begins(before, Context::Body) || before == Some(Token::Symbol(">"))
}

/// A block, or a statement that is closed by `END`, such as `IF`, `LOOP` or `CASE`.
struct Frame<'a> {
    begin: usize,
    label: Option<&'a str>,
    /// Positions of `EXCEPTION` and of the first token after `WHEN OTHERS THEN`.
    handler: Option<(usize, usize)>,
    /// Positions of the statements before the handler that leave the frame.
    exits: Vec<usize>,
}

/// First words of statements that need a transaction. A handler without such a statement, for example one
/// that only raises messages, needs no transaction.
const SQL: [&str; 14] = [
    "INSERT", "UPDATE", "DELETE", "MERGE", "CALL", "EXECUTE", "CREATE", "DROP", "ALTER", "TRUNCATE",
    "SELECT", "PERFORM", "COPY", "WITH",
];

/// Returns the edits that give exception handlers Redshift's behaviour.
///
/// On Redshift, everything is rolled back before a handler runs, the handler's work is committed, and the
/// exception is rethrown. PostgreSQL rolls back only the block and then continues after it. The edits add the
/// `ROLLBACK`, `COMMIT` and `RAISE`. The `ROLLBACK` and `COMMIT` are skipped at run time if an enclosing
/// block has a handler, because PostgreSQL does not allow them there.
///
/// To recognize an enclosing handler, the library counts the active blocks that have one. A statement that
/// leaves such a block before its end, for example `RETURN`, first lowers the number.
fn handlers(body: Reader<'_, '_>, transactions: Transactions) -> Vec<Edit> {
    let (mut edits, mut frames, library) = (Vec::new(), Vec::<Frame>::new(), body.library);
    let (mut left, mut label) = (BTreeMap::new(), None);
    for at in 0..body.tokens.len() {
        let behind_end =
            || matches!(body.last(0..at), Some(Token::Word(word)) if word.eq_ignore_ascii_case("END"));
        if is(body, at, &["BEGIN"])
            || is(body, at, &["LOOP", "CASE"]) && !behind_end()
            || is(body, at, &["IF"]) && begins(body, at)
        {
            let is_labelled = is(body, at, &["BEGIN", "LOOP"]);
            let label = if is_labelled { label.take() } else { None };
            frames.push(Frame { begin: at, label, handler: None, exits: Vec::new() });
        } else if let Some(name) = label_at(body, at) {
            label = Some(name);
        } else if let Some(exit) = Exit::at(body, at) {
            let first = exit.first_left(body, &frames).unwrap_or(frames.len());
            for frame in frames[first..].iter_mut().filter(|frame| frame.handler.is_none()) {
                frame.exits.push(at);
            }
        } else if is(body, at, &["EXCEPTION"]) && begins(body, at) {
            let then = (at..body.tokens.len()).find(|at| is(body, *at, &["THEN"]));
            if let (Some(frame), Some(then)) = (frames.last_mut(), then)
                && is(body, frame.begin, &["BEGIN"])
            {
                frame.handler = Some((at, then + 1));
            }
        } else if is(body, at, &["END"])
            && let Some(Frame { begin, handler: Some((exception, first)), exits, .. }) = frames.pop()
        {
            let acts = (first..at).any(|at| is(body, at, &SQL) && begins(body, at));
            let own = transactions == Transactions::Own && acts;
            let unless_around = |word: &str| match own {
                true => format!(" IF {library}.handled(0) = 0 THEN {word}; END IF; "),
                false => " ".to_owned(),
            };
            if transactions == Transactions::Own {
                edits.push(Edit::before(begin + 1, format!(" PERFORM {library}.handled(1);")));
                edits.push(Edit::before(exception, format!("PERFORM {library}.handled(-1); ")));
                for exit in exits {
                    *left.entry(exit).or_insert(0) += 1;
                }
            }
            edits.push(Edit::before(first, unless_around("ROLLBACK")));
            edits.push(Edit::before(at, format!("{}RAISE; ", unless_around("COMMIT").trim_start())));
        }
    }
    for (at, count) in left {
        let lower = format!("PERFORM {library}.handled(-{count}); ");
        edits.extend(Exit::at(body, at).into_iter().flat_map(|exit| exit.after(body, at, &lower)));
    }
    edits
}

/// Returns the label `<<label>>` that begins at this position.
fn label_at<'a>(body: Reader<'a, '_>, at: usize) -> Option<&'a str> {
    let symbol = |at: usize, symbol| body.tokens.get(at) == Some(&Token::Symbol(symbol));
    if !(symbol(at, "<") && symbol(at + 1, "<") && begins(body, at)) {
        return None;
    }
    name(body, body.next(at + 2, body.tokens.len())?)
}

/// Returns the name at this position, without its quotes.
fn name<'a>(body: Reader<'a, '_>, at: usize) -> Option<&'a str> {
    match body.tokens.get(at)? {
        Token::Word(word) => Some(word),
        Token::Quoted(quoted) => quoted.strip_prefix('"')?.strip_suffix('"'),
        _ => None,
    }
}

/// `RETURN`, or `EXIT` or `CONTINUE` with `[label] [WHEN condition]`.
struct Exit<'a> {
    is_return: bool,
    label: Option<&'a str>,
    /// Position of the condition.
    condition: Option<usize>,
    /// Position of the semicolon.
    end: usize,
}

impl<'a> Exit<'a> {
    /// Returns the statement that begins at this position.
    fn at(body: Reader<'a, '_>, at: usize) -> Option<Self> {
        if !is(body, at, &["RETURN", "EXIT", "CONTINUE"]) || !begins(body, at) {
            return None;
        }
        let end = body.statement_end(at, body.tokens.len());
        let is_return = is(body, at, &["RETURN"]);
        let mut next = body.next(at + 1, end).filter(|_| !is_return);
        let label = next.filter(|next| !is(body, *next, &["WHEN"])).and_then(|next| name(body, next));
        if label.is_some() {
            next = next.and_then(|label| body.next(label + 1, end));
        }
        let condition = next.filter(|next| is(body, *next, &["WHEN"])).map(|when| when + 1);
        // Anything else is no such statement, for example a column named `exit` after `THEN`.
        (next.is_none() || condition.is_some()).then_some(Self { is_return, label, condition, end })
    }

    /// Returns the index of the outermost frame that the statement leaves, or the loop that it continues.
    fn first_left(&self, body: Reader<'_, '_>, frames: &[Frame<'_>]) -> Option<usize> {
        match self.label {
            _ if self.is_return => Some(0),
            Some(label) => frames
                .iter()
                .rposition(|frame| frame.label.is_some_and(|other| other.eq_ignore_ascii_case(label))),
            None => frames.iter().rposition(|frame| is(body, frame.begin, &["LOOP"])),
        }
    }

    /// Returns the edits that run another statement before this one, which begins at `at`.
    fn after(&self, body: Reader<'_, '_>, at: usize, statement: &str) -> Vec<Edit> {
        let Some(condition) = self.condition else { return vec![Edit::before(at, statement.to_owned())] };
        // `EXIT label WHEN condition` becomes `IF condition THEN statement EXIT label; END IF`.
        let exit: String = body.tokens[at..condition - 1].iter().map(|token| token.text()).collect();
        vec![
            Edit { place: at..condition, text: "IF".to_owned() },
            Edit::before(self.end, format!(" THEN {statement}{}; END IF", exit.trim_end())),
        ]
    }
}

/// Returns the error text for a handler of a condition other than `OTHERS`, which is the only one that
/// Redshift supports.
fn condition(body: Reader<'_, '_>) -> Option<String> {
    let end = body.tokens.len();
    let mut handlers = (0..end).filter(|at| is(body, *at, &["EXCEPTION"]) && begins(body, *at));
    handlers.find_map(|at| {
        let (name, _) = body.word(body.words(at + 1, end, &["WHEN"])?, end)?;
        let text = format!("EXCEPTION WHEN {} is not supported", name.to_ascii_lowercase());
        (name != "OTHERS").then(|| as_on_redshift(&text, "0A000", "write WHEN OTHERS, and compare SQLSTATE"))
    })
}

fn continue_handler(body: Reader<'_, '_>) -> Option<String> {
    let found = (0..body.tokens.len()).any(|at| is(body, at, &["CONTINUE_HANDLER"]));
    found.then(|| {
        refused("EXCEPTION CONTINUE_HANDLER", "put each statement that may fail into a separate block")
    })
}

/// Prefix of the placeholders for expressions in assembled SQL.
pub(super) const MARK: &str = "zq__";

/// A piece of assembled SQL.
enum Operand {
    Literal(String),
    Expression(Range<usize>),
}

/// Translates the strings that a body executes, directly or through a variable.
fn executed(body: Reader<'_, '_>) -> Result<Vec<Edit>, String> {
    let end = body.tokens.len();
    let mut texts = Vec::new();
    for at in (0..end).filter(|at| is(body, *at, &["EXECUTE"])) {
        let behind = matches!(body.last(0..at), Some(Token::Word(word)) if word.eq_ignore_ascii_case("IN") || word.eq_ignore_ascii_case("FOR"));
        if behind || begins(body, at) {
            texts.push(at + 1..end_of(body, at + 1, &["INTO", "USING", "LOOP"]));
        }
    }
    let mut variables = BTreeSet::new();
    for text in &texts {
        for at in text.clone().filter(|at| word(body, *at).is_some()) {
            let called = body.list(at + 1, text.end).is_some();
            variables.extend(word(body, at).filter(|_| !called).map(str::to_ascii_lowercase));
        }
    }
    for at in (0..end).filter(|at| begins(body, *at)) {
        if word(body, at).is_some_and(|word| variables.contains(&word.to_ascii_lowercase())) {
            texts.extend(assigned(body, at + 1));
        }
    }
    let ends: Vec<_> = texts.iter().map(|text| end_of_piece(body, text, &texts)).collect();
    let mut edits = Vec::new();
    for (text, end) in texts.into_iter().zip(ends) {
        edits.extend(put_together(body, text, end)?);
    }
    Ok(edits)
}

/// Returns [`End::Open`] if other statements of the body append more SQL to the variable that holds this
/// piece.
fn end_of_piece(body: Reader<'_, '_>, text: &Range<usize>, texts: &[Range<usize>]) -> End {
    let target = (0..text.start).rev().find_map(|at| begins(body, at).then(|| word(body, at)).flatten());
    let Some(target) = target else { return End::Closed };
    let continues = texts.iter().any(|other| {
        let Some(operands) = operands(body, other.clone()) else { return false };
        operands.iter().enumerate().any(|(number, operand)| {
            let Operand::Expression(range) = operand else { return false };
            let mentioned = range.clone().any(|at| is(body, at, &[target]));
            let alone = names::trimmed(body, range.clone()).len() == 1;
            match operands.get(number + 1) {
                _ if !mentioned => false,
                Some(Operand::Literal(literal)) if alone => !names::closes(literal),
                None if alone => false,
                _ => true,
            }
        })
    });
    if continues { End::Open } else { End::Closed }
}

/// Returns the end of an expression: the next semicolon, or the next of these words outside parentheses.
fn end_of(body: Reader<'_, '_>, at: usize, words: &[&str]) -> usize {
    let mut depth = 0_usize;
    (at..body.tokens.len())
        .find(|at| match body.tokens[*at] {
            Token::Symbol("(") => {
                depth += 1;
                false
            }
            Token::Symbol(")") => {
                depth = depth.saturating_sub(1);
                false
            }
            Token::Semicolon => true,
            _ => depth == 0 && is(body, *at, words),
        })
        .unwrap_or(body.tokens.len())
}

/// Returns the expression assigned to a variable, after `:=` or `=`. `at` is the position after the
/// variable's name; in a declaration, the type comes first.
fn assigned(body: Reader<'_, '_>, at: usize) -> Option<Range<usize>> {
    let stop = end_of(body, at, &[]);
    let first = body.next(at, stop)?;
    let sign = (first..stop).find(|at| body.tokens[*at] == Token::Symbol("="))?;
    let colon = sign.checked_sub(1).is_some_and(|before| body.tokens[before] == Token::Symbol(":"));
    (colon || sign == first).then_some(sign + 1..stop)
}

/// Translates SQL assembled with `||`. Returns `None` if the translation changes nothing.
fn put_together(body: Reader<'_, '_>, text: Range<usize>, end: End) -> Result<Option<Edit>, String> {
    let Some(operands) = operands(body, text.clone()) else { return Ok(None) };
    let mark = |number: usize| format!("{MARK}{number}__");
    let whole: String = operands
        .iter()
        .enumerate()
        .map(|(number, operand)| match operand {
            Operand::Literal(text) => text.clone(),
            Operand::Expression(_) => mark(number),
        })
        .collect();
    let translated = body.translate(&whole, end)?;
    if translated == whole {
        return Ok(None);
    }
    let (mut pieces, mut rest) = (Vec::new(), &*translated);
    loop {
        let next = operands
            .iter()
            .enumerate()
            .filter_map(|(number, operand)| match operand {
                Operand::Expression(range) => Some((rest.find(&mark(number))?, number, range.clone())),
                Operand::Literal(_) => None,
            })
            .min_by_key(|(at, ..)| *at);
        let literal = next.as_ref().map_or(rest, |(at, ..)| &rest[..*at]);
        if !literal.is_empty() {
            pieces.push(quoted(literal));
        }
        let Some((at, number, range)) = next else { break };
        pieces
            .push(body.tokens[range].iter().map(|token| token.text()).collect::<String>().trim().to_owned());
        rest = &rest[at + mark(number).len()..];
    }
    Ok(Some(Edit { place: text, text: format!(" {} ", pieces.join(" || ")) }))
}

/// Splits an expression at `||`. Returns `None` if it contains no string literal, or one that cannot be
/// unquoted.
fn operands(body: Reader<'_, '_>, text: Range<usize>) -> Option<Vec<Operand>> {
    let (mut operands, mut begin, mut depth) = (Vec::new(), text.start, 0_usize);
    let mut ends = Vec::new();
    for at in text.clone() {
        match body.tokens[at] {
            Token::Symbol("(" | "[") => depth += 1,
            Token::Symbol(")" | "]") => depth = depth.saturating_sub(1),
            Token::Symbol("|") if depth == 0 && body.tokens.get(at + 1) == Some(&Token::Symbol("|")) => {
                ends.push(begin..at);
                begin = at + 2;
            }
            _ => {}
        }
    }
    ends.push(begin..text.end);
    for operand in ends {
        let first = body.next(operand.start, operand.end)?;
        let alone = body.next(first + 1, operand.end).is_none();
        operands.push(match body.tokens[first] {
            Token::Quoted(quoted) if alone && !quoted.starts_with('"') => Operand::Literal(unquoted(quoted)?),
            _ => Operand::Expression(operand),
        });
    }
    operands.iter().any(|operand| matches!(operand, Operand::Literal(_))).then_some(operands)
}

/// Returns the value of a string literal, or `None` if it contains a numeric escape such as `\x41`.
fn unquoted(quoted: &str) -> Option<String> {
    if quoted.starts_with('$') {
        let tag = &quoted[..quoted.get(1..)?.find('$')? + 2];
        return quoted.strip_prefix(tag)?.strip_suffix(tag).map(str::to_owned);
    }
    let inner = quoted.trim_start_matches(['e', 'E']).strip_prefix('\'')?.strip_suffix('\'')?;
    let (mut text, mut letters) = (String::new(), inner.chars());
    while let Some(letter) = letters.next() {
        text.push(match letter {
            '\'' => letters.next()?,
            '\\' => match letters.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'b' => '\u{8}',
                'f' => '\u{c}',
                '0'..='9' | 'x' | 'u' | 'U' => return None,
                other => other,
            },
            other => other,
        });
    }
    Some(text)
}
