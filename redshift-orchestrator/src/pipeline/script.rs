//! Reading SQL texts only as far as needed: where a statement ends, and which placeholders it names.

/// The statements of a script, without their semicolons, comments and empty ones left out.
///
/// Semicolons within quotes, comments and dollar quotes (bodies of procedures) do not end a statement.
pub(super) fn split(script: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let (mut begin, mut anything) = (0, false);
    for (kind, from, to) in Pieces::of(script) {
        match kind {
            Piece::Comment => {}
            Piece::Quoted => anything = true,
            Piece::Plain => {
                for (offset, character) in script[from..to].char_indices() {
                    if character != ';' {
                        anything |= !character.is_whitespace();
                        continue;
                    }
                    let end = from + offset;
                    if anything {
                        statements.push(script[begin..end].trim().to_owned());
                    }
                    (begin, anything) = (end + 1, false);
                }
            }
        }
    }
    if anything {
        statements.push(script[begin..].trim().to_owned());
    }
    statements
}

/// Whether the SQL names the placeholder `:name` outside quotes and comments.
pub(super) fn names_placeholder(sql: &str, name: &str) -> bool {
    Pieces::of(sql).filter(|(kind, ..)| *kind == Piece::Plain).any(|(_, from, to)| {
        let text = &sql[from..to];
        text.match_indices(':').any(|(at, _)| {
            let cast = text[..at].ends_with(':');
            let word = |character: char| character.is_ascii_alphanumeric() || character == '_';
            let rest = &text[at + 1..];
            let end = rest.find(|character| !word(character)).unwrap_or(rest.len());
            !cast && &rest[..end] == name
        })
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece {
    Plain,
    Quoted,
    Comment,
}

/// The pieces of a SQL text, as kind and byte range.
struct Pieces<'a> {
    sql: &'a str,
    at: usize,
}

impl<'a> Pieces<'a> {
    fn of(sql: &'a str) -> Self {
        Self { sql, at: 0 }
    }

    /// The end of the piece that begins here, if it is a quoted one or a comment.
    fn special(&self) -> Option<(Piece, usize)> {
        let rest = &self.sql[self.at..];
        let until = |open: usize, close: &str| {
            rest[open..].find(close).map_or(self.sql.len(), |length| self.at + open + length + close.len())
        };
        match rest.as_bytes() {
            [b'-', b'-', ..] => Some((Piece::Comment, until(2, "\n"))),
            [b'/', b'*', ..] => Some((Piece::Comment, until(2, "*/"))),
            // A doubled quote inside is two pieces side by side; the end is the same.
            [b'\'', ..] => Some((Piece::Quoted, until(1, "'"))),
            [b'"', ..] => Some((Piece::Quoted, until(1, "\""))),
            [b'$', ..] => {
                let close = rest[1..].find('$')? + 2;
                let tag = &rest[..close];
                let name = &tag[1..tag.len() - 1];
                let is_tag = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                    && !name.starts_with(|c: char| c.is_ascii_digit());
                is_tag.then(|| (Piece::Quoted, until(close, tag)))
            }
            _ => None,
        }
    }
}

impl Iterator for Pieces<'_> {
    type Item = (Piece, usize, usize);

    fn next(&mut self) -> Option<Self::Item> {
        let from = self.at;
        if from >= self.sql.len() {
            return None;
        }
        if let Some((kind, to)) = self.special() {
            self.at = to;
            return Some((kind, from, to));
        }
        while self.at < self.sql.len() && self.special().is_none() {
            self.at += self.sql[self.at..].chars().next().map_or(1, char::len_utf8);
        }
        Some((Piece::Plain, from, self.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(statements[2].starts_with("/*") || statements[2].starts_with("SELECT"));
        assert_eq!(split("-- only a comment\n ; ;"), Vec::<String>::new());
    }

    #[test]
    fn a_placeholder_is_no_cast_and_no_text() {
        assert!(names_placeholder("CALL p(:cycle)", "cycle"));
        assert!(names_placeholder("SELECT :a::int", "a"));
        assert!(!names_placeholder("SELECT x::cycle", "cycle"));
        assert!(!names_placeholder("SELECT ':cycle' -- :cycle", "cycle"));
        assert!(!names_placeholder("SELECT :cycles", "cycle"));
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_to_its_end(text in any::<String>()) {
            let mut at = 0;
            for (_, from, to) in Pieces::of(&text) {
                prop_assert_eq!(from, at);
                prop_assert!(to > from);
                at = to;
            }
            prop_assert_eq!(at, text.len());
            let _ = split(&text);
        }
    }
}
