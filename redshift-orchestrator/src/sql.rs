//! Small SQL tokenizer. It finds words, placeholders and ends of statements outside of strings, quoted names
//! and comments.

mod transaction;

pub use transaction::outside_transaction;

/// Token of an SQL text. All tokens together, in order, are the whole text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// White space or a comment.
    Blank(&'a str),
    /// An unquoted word or number.
    Word(&'a str),
    /// A string, a dollar-quoted string, or a quoted name, with its quotes.
    Quoted(&'a str),
    /// `:name`, with its colon.
    Placeholder(&'a str),
    /// `;`.
    Semicolon,
    /// Anything else: one character, `::`, or `..`.
    Symbol(&'a str),
}

impl<'a> Token<'a> {
    /// Returns the text of the token.
    pub fn text(self) -> &'a str {
        match self {
            Self::Blank(text)
            | Self::Word(text)
            | Self::Quoted(text)
            | Self::Placeholder(text)
            | Self::Symbol(text) => text,
            Self::Semicolon => ";",
        }
    }
}

/// Splits SQL into tokens. An unclosed string or comment extends to the end of the text; the database reports
/// it.
pub fn tokens(sql: &str) -> impl Iterator<Item = Token<'_>> {
    let mut rest = sql;
    let mut before = ' ';
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let (length, make): (usize, fn(&str) -> Token<'_>) = measure(rest, first, before);
        let (text, left) = rest.split_at(length);
        rest = left;
        before = text.chars().next_back().unwrap_or(' ');
        Some(make(text))
    })
}

fn measure(rest: &str, first: char, before: char) -> (usize, fn(&str) -> Token<'_>) {
    let bytes = rest.as_bytes();
    let after = bytes.get(1).copied();
    match first {
        ';' => (1, |_| Token::Semicolon),
        // Redshift treats a backslash as an escape character in every string: `'it\'s'`.
        '\'' => (quoted(rest, 0, '\'', true), |text| Token::Quoted(text)),
        '"' => (quoted(rest, 0, '"', false), |text| Token::Quoted(text)),
        'e' | 'E' if after == Some(b'\'') => (quoted(rest, 1, '\'', true), |text| Token::Quoted(text)),
        '-' if after == Some(b'-') => {
            (rest.find('\n').map_or(rest.len(), |at| at + 1), |text| Token::Blank(text))
        }
        '/' if after == Some(b'*') => (comment(rest), |text| Token::Blank(text)),
        '$' if !is_word(before) => match dollar(rest) {
            Some(length) => (length, |text| Token::Quoted(text)),
            None => (1, |text| Token::Symbol(text)),
        },
        ':' if after == Some(b':') => (2, |text| Token::Symbol(text)),
        // `..` is one token, so that the range of a loop, `1..n`, is not mistaken for a qualified name.
        '.' if after == Some(b'.') => (2, |text| Token::Symbol(text)),
        ':' if after.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => {
            let name = rest[1..].find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            // A slice of an array, `a[1:2]`, is not a placeholder.
            if is_word(before) || before == ']' {
                (1, |text| Token::Symbol(text))
            } else {
                (name.map_or(rest.len(), |at| at + 1), |text| Token::Placeholder(text))
            }
        }
        c if c.is_whitespace() => {
            (rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len()), |text| Token::Blank(text))
        }
        c if is_word(c) => (rest.find(|c| !is_word(c)).unwrap_or(rest.len()), |text| Token::Word(text)),
        c => (c.len_utf8(), |text| Token::Symbol(text)),
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// Returns the length of a text that is quoted from `open` on. A doubled quote does not end the text.
fn quoted(rest: &str, open: usize, quote: char, escapes: bool) -> usize {
    let mut characters = rest[open + 1..].char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        if escapes && c == '\\' {
            characters.next();
        } else if c == quote && characters.next_if(|(_, next)| *next == quote).is_none() {
            return open + 1 + at + quote.len_utf8();
        }
    }
    rest.len()
}

/// Returns the length of a block comment; block comments nest.
fn comment(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// Returns the length of a dollar-quoted string, `$tag$ … $tag$`, or `None` if the text does not begin with
/// one.
fn dollar(rest: &str) -> Option<usize> {
    let end = rest[1..].find('$')? + 2;
    let tag = &rest[..end];
    let name = &tag[1..end - 1];
    if !name.chars().all(|c| c.is_alphanumeric() || c == '_')
        || name.starts_with(|c: char| c.is_ascii_digit())
    {
        return None;
    }
    Some(rest[end..].find(tag).map_or(rest.len(), |at| end + at + tag.len()))
}

/// Returns the number of statements in a text. Parts that contain only blanks and comments do not count.
pub fn count(sql: &str) -> usize {
    let (mut statements, mut begun) = (0, false);
    for token in tokens(sql) {
        match token {
            Token::Semicolon => begun = false,
            Token::Blank(_) => {}
            _ if !begun => (statements, begun) = (statements + 1, true),
            _ => {}
        }
    }
    statements
}

/// Returns the statements of a script, in order and without their semicolons. Parts that contain only blanks
/// and comments are omitted.
pub fn split(script: &str) -> Vec<String> {
    let (mut statements, mut statement, mut begun) = (Vec::new(), String::new(), false);
    for token in tokens(script).chain([Token::Semicolon]) {
        match token {
            Token::Semicolon => {
                if std::mem::take(&mut begun) {
                    statements.push(statement.trim().to_owned());
                }
                statement.clear();
            }
            token => {
                begun |= !matches!(token, Token::Blank(_));
                statement.push_str(token.text());
            }
        }
    }
    statements
}

/// Returns the names of the placeholders in a text, in order and with repetitions.
pub fn placeholders(sql: &str) -> Vec<&str> {
    tokens(sql)
        .filter_map(|token| match token {
            Token::Placeholder(text) => text.strip_prefix(':'),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_placeholders_outside_of_strings_comments_and_casts_only() {
        let sql = "SELECT :a, ':b', 'it\\'s :b;', \":c\", E'it\\':d', $$ :e $$, $t$ :f $$ :g $t$, x::text, y[1:2] -- :h\n, :a /* :i /* :j */ :k */ + :l";
        assert_eq!(placeholders(sql), ["a", "a", "l"]);
    }

    #[test]
    fn a_placeholder_can_adjoin_brackets_and_casts() {
        assert_eq!(placeholders("CALL load(:cycle::int,:day)"), ["cycle", "day"]);
        assert_eq!(placeholders("SELECT a=:x||:y"), ["x", "y"]);
    }

    #[test]
    fn only_a_semicolon_between_statements_ends_one() {
        let script = "
            -- a comment; with a semicolon
            CREATE TABLE t (a varchar DEFAULT ';', \"odd;name\" int);
            ;
            /* nothing; here */
            CREATE PROCEDURE p() AS $body$ BEGIN DELETE FROM t; INSERT INTO t VALUES ('it''s; fine'); END; $body$ LANGUAGE plpgsql;
            SELECT 'größe;' -- last";
        let statements = split(script);
        assert_eq!(statements.len(), 3, "{statements:#?}");
        assert!(statements[0].ends_with("\"odd;name\" int)"));
        assert!(statements[1].ends_with("LANGUAGE plpgsql"));
        assert!(statements[2].starts_with("SELECT"));
        assert_eq!(split("-- only a comment\n ; ;"), Vec::<String>::new());
    }

    #[test]
    fn counts_statements_instead_of_semicolons() {
        assert_eq!(count(" ;; -- nothing\n"), 0);
        assert_eq!(count("SELECT ';' ; -- the end;\n"), 1);
        assert_eq!(count("CREATE FUNCTION f() AS $$ BEGIN; END; $$"), 1);
        assert_eq!(count("DELETE FROM a; COMMIT"), 2);
    }

    proptest! {
        #[test]
        fn the_tokens_of_a_text_add_up_to_the_text(sql in "[ -~\n'\"$:;/*ä]{0,60}") {
            let whole: String = tokens(&sql).map(Token::text).collect();
            prop_assert_eq!(whole, sql);
        }

        #[test]
        fn the_number_of_split_statements_equals_the_count(sql in "[ -~\n'\"$:;/*ä]{0,60}") {
            prop_assert_eq!(split(&sql).len(), count(&sql));
        }
    }
}
