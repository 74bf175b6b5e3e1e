//! Names: the case of quoted names, and the length of all names.

use std::borrow::Cow;

use super::{
    Reader, bodies,
    names::{Insertion, is},
};
use redshift_orchestrator::sql::Token;

/// Treatment of quoted names, which the session setting `enable_case_sensitive_identifier` selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::postgres) enum Case {
    /// ASCII letters are folded to lower case, as in names without quotes. This is Redshift's default.
    Folded,
    /// The case of quoted names is kept.
    Kept,
}

impl Case {
    /// Query for the session setting, which translated `SET` statements store under this name.
    pub(in crate::postgres) const QUERY: &str = "SELECT lower(current_setting('redshift.enable_case_sensitive_identifier', true)) IN ('true', 'on', 't', 'yes', '1')";

    /// Returns `true` if the SQL may contain a quoted name.
    pub(in crate::postgres) fn matters(sql: &str) -> bool {
        sql.contains('"')
    }
}

/// Maximum size of a name in PostgreSQL, in bytes. The server truncates longer names without an error.
const MOST: usize = 63;

/// Returns the error text for a name that PostgreSQL would truncate, so that two different names could mean
/// the same table.
pub(super) fn too_long(tokens: &[Token<'_>]) -> Option<String> {
    let mut before = None;
    tokens.iter().find_map(|token| {
        // `#` is a part of the name of a temporary table.
        let hash = usize::from(before.replace(*token) == Some(Token::Symbol("#")));
        let name = match *token {
            // Numbers are words, too. The length of an assembled name is not known yet.
            Token::Word(word) if word.contains(bodies::MARK) || word.starts_with(|c: char| c.is_ascii_digit()) => {
                return None;
            }
            Token::Word(word) => Cow::Borrowed(word),
            Token::Quoted(text) => {
                let inner = text.strip_prefix('"')?;
                Cow::Owned(inner.strip_suffix('"').unwrap_or(inner).replace("\"\"", "\""))
            }
            _ => return None,
        };
        let length = name.len() + hash;
        let head: String = name.chars().take(20).collect();
        (length > MOST).then(|| format!(
            "ERROR: the name \"{head}…\" has {length} bytes; Amazon Redshift allows 127, but PostgreSQL only {MOST} [SQLSTATE 42622]\n  Hint: use a name of at most {MOST} bytes"
        ))
    })
}

/// Returns replacements for the quoted names that contain upper-case letters. Redshift keeps the case of the
/// names of users, whatever the setting.
pub(super) fn folded(reader: Reader<'_, '_>) -> Vec<Insertion> {
    let mut folded = Vec::new();
    if reader.case == Case::Kept {
        return folded;
    }
    let mut users = Users::default();
    for (at, token) in reader.tokens.iter().copied().enumerate() {
        match token {
            Token::Blank(_) => continue,
            Token::Quoted(text)
                if text.starts_with('"')
                    && text.bytes().any(|byte| byte.is_ascii_uppercase())
                    && !users.comes_next() =>
            {
                folded.push(Insertion::replacing(at, text.to_ascii_lowercase()));
            }
            _ => {}
        }
        users.pass(token);
    }
    folded
}

/// Recognizes the positions at which the name of a user is expected.
#[derive(Default)]
struct Users<'a> {
    /// `true` in a `GRANT` or `REVOKE`.
    grants: bool,
    /// `true` after the `TO` or `FROM` of a `GRANT` or `REVOKE`.
    grantees: bool,
    /// `true` after `CREATE USER` and the like.
    named: bool,
    /// The last two tokens, the last one first.
    before: [Option<Token<'a>>; 2],
}

impl<'a> Users<'a> {
    fn follows(&self, back: usize, words: &[&str]) -> bool {
        self.before[back].is_some_and(|token| is(token, words))
    }

    fn comes_next(&self) -> bool {
        let owner = self.follows(0, &["TO"]) && self.follows(1, &["OWNER"]);
        let grantee = self.grantees && !self.follows(0, &["ROLE", "GROUP"]);
        self.named || owner || grantee || self.follows(0, &["AUTHORIZATION"])
    }

    fn pass(&mut self, token: Token<'a>) {
        if token == Token::Semicolon {
            *self = Self::default();
            return;
        }
        let grants = is(token, &["GRANT", "REVOKE"]) && !self.follows(0, &["WITH"]);
        self.grants |= grants;
        self.grantees = !grants && (self.grantees || self.grants && is(token, &["TO", "FROM"]));
        self.named = is(token, &["USER"]) && self.follows(0, &["CREATE", "ALTER", "DROP", "ADD"])
            || self.named && is(token, &["IF", "EXISTS"]);
        self.before = [Some(token), self.before[0]];
    }
}
