//! [`Catalog`]: the objects of a database and the sessions on it, as the Data API lists them.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{Column, Compute, PageToken, Result, SessionId, StatementId, Target};

/// Something that can list databases, schemas, tables, columns and sessions: the Data API's operations that run no statement.
///
/// It is apart from [`StatementExecutor`](crate::StatementExecutor), whose implementors mostly have no catalog.
///
/// # For callers
///
/// Every listing comes in pages. Ask for the first one without a `page`, for each other one with the [`Page::next`] of the one before,
/// and with the same scope or filter.
///
/// # For implementors
///
/// A page may be shorter than asked for, even empty, and still have a next one.
#[async_trait]
pub trait Catalog: fmt::Debug + Send + Sync {
    /// The databases that the caller may connect to, by name.
    async fn databases(&self, scope: &Scope, page: Option<PageToken>) -> Result<Page<String>>;

    /// The schemas of a database, by name. [`Scope::schema`] is a pattern.
    async fn schemas(&self, scope: &Scope, page: Option<PageToken>) -> Result<Page<String>>;

    /// The tables and views of a database, by schema and name. [`Scope::schema`] and [`Scope::table`] are patterns.
    async fn tables(&self, scope: &Scope, page: Option<PageToken>) -> Result<Page<Table>>;

    /// The columns of a table in their order, each with its schema and table. [`Scope::schema`] and [`Scope::table`] are names; without
    /// them the columns of every table that fits are told.
    async fn columns(&self, scope: &Scope, page: Option<PageToken>) -> Result<Page<Column>>;

    /// The sessions of the last 24 hours.
    async fn sessions(&self, filter: &SessionFilter, page: Option<PageToken>) -> Result<Page<Session>>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<C: Catalog + ?Sized> Catalog for Arc<C> {
    async fn databases(&self, scope: &Scope, page: Option<PageToken>) -> Result<Page<String>> {
        (**self).databases(scope, page).await
    }

    async fn schemas(&self, scope: &Scope, page: Option<PageToken>) -> Result<Page<String>> {
        (**self).schemas(scope, page).await
    }

    async fn tables(&self, scope: &Scope, page: Option<PageToken>) -> Result<Page<Table>> {
        (**self).tables(scope, page).await
    }

    async fn columns(&self, scope: &Scope, page: Option<PageToken>) -> Result<Page<Column>> {
        (**self).columns(scope, page).await
    }

    async fn sessions(&self, filter: &SessionFilter, page: Option<PageToken>) -> Result<Page<Session>> {
        (**self).sessions(filter, page).await
    }
}

/// Which part of the catalog is meant. By default all of it, as the executor's own target shows it.
///
/// ```
/// use redshift_orchestrator::catalog::Scope;
///
/// let scope = Scope::schema("mystore").with_table("dim_%");
/// assert_eq!(scope.schema.as_deref(), Some("mystore"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scope {
    /// Where to connect to, and as whom, instead of the executor's own target.
    pub target: Option<Target>,
    /// The database whose objects are meant, if not the one that is connected to.
    pub database: Option<String>,
    /// The schema: a name or a pattern, as the operation says. In a pattern `%` stands for any text and `_` for any character.
    pub schema: Option<String>,
    /// The table: a name or a pattern, as the operation says.
    pub table: Option<String>,
    /// Entries to a page, at most 1,000.
    pub page_size: Option<u16>,
}

impl Scope {
    /// All of the catalog.
    pub fn all() -> Self {
        Self::default()
    }

    /// What is in the schema, or in those that fit the pattern.
    pub fn schema(schema: impl Into<String>) -> Self {
        Self { schema: Some(schema.into()), ..Self::default() }
    }

    /// Only the table, or those that fit the pattern.
    #[must_use]
    pub fn with_table(mut self, table: impl Into<String>) -> Self {
        self.table = Some(table.into());
        self
    }
}

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries of this page.
    pub entries: Vec<T>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<PageToken>,
}

impl<T> Page<T> {
    /// A page that is the whole listing.
    pub fn whole(entries: Vec<T>) -> Self {
        Self { entries, next: None }
    }

    /// The page of a listing that is at hand as a whole: at most `size` entries, and a token that counts what came before.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a token that no page has.
    pub(crate) fn cut(entries: Vec<T>, size: usize, page: Option<PageToken>) -> Result<Self> {
        let begin = match page {
            None => 0,
            Some(page) => page.as_str().parse::<usize>().map_err(|_| {
                let text = "the page token is not one that this listing gave";
                crate::Error::new(crate::ErrorKind::Invalid, text).with_code("ValidationException")
            })?,
        };
        let end = begin.saturating_add(size.max(1));
        let next = (end < entries.len()).then(|| PageToken::new(end.to_string()));
        Ok(Self { entries: entries.into_iter().skip(begin).take(size.max(1)).collect(), next })
    }
}

/// A table, a view, or what else can be read like one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Table {
    /// The schema that it is in.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What it is, in the service's words: `TABLE`, `VIEW`, `SYSTEM TABLE`, `LOCAL TEMPORARY`, …
    pub kind: String,
}

impl Table {
    /// An ordinary table.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: schema.into(), name: name.into(), kind: "TABLE".to_owned() }
    }

    /// The same as something else: `VIEW`, …
    #[must_use]
    pub fn with_kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = kind.into();
        self
    }
}

/// A session: a connection that the service keeps between statements.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// What it is doing.
    pub status: SessionStatus,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When the service last changed it.
    pub updated_at: Option<Timestamp>,
    /// Where it runs, if the service said so.
    pub compute: Option<Compute>,
    /// The database that it is connected to.
    pub database: Option<String>,
    /// The user that it is connected as.
    pub database_user: Option<String>,
    /// For how long it stays open after a statement.
    pub keep_alive: Option<Duration>,
    /// When it will be closed.
    pub expires_at: Option<Timestamp>,
    /// The statement that it runs.
    pub current_statement: Option<StatementId>,
}

impl Session {
    /// The session that says this and nothing more.
    pub fn new(id: SessionId, status: SessionStatus, created_at: Timestamp) -> Self {
        Self {
            id,
            status,
            created_at,
            updated_at: None,
            compute: None,
            database: None,
            database_user: None,
            keep_alive: None,
            expires_at: None,
            current_statement: None,
        }
    }
}

/// What a session is doing. A word that this version does not know is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionStatus {
    /// Open, and ready for a statement.
    Available,
    /// Runs a statement; it takes one at a time.
    Busy,
    /// Closed: by its keep-alive, or because it broke.
    Closed,
    /// A status that this version does not know, as the service wrote it.
    Other(String),
}

impl SessionStatus {
    /// The service's word for it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Available => "AVAILABLE",
            Self::Busy => "BUSY",
            Self::Closed => "CLOSED",
            Self::Other(text) => text,
        }
    }
}

impl From<&str> for SessionStatus {
    fn from(text: &str) -> Self {
        match text {
            "AVAILABLE" => Self::Available,
            "BUSY" => Self::Busy,
            "CLOSED" => Self::Closed,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for SessionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which sessions to list. By default those that are open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionFilter {
    /// Only this one, whatever it is doing. Excludes the others but `own_session_only`.
    pub id: Option<SessionId>,
    /// Only sessions in this status. `None`: those available or busy.
    pub status: Option<SessionStatus>,
    /// Only what this very session of the role opened, instead of everything of the role.
    pub own_session_only: bool,
    /// Only sessions on this cluster or workgroup.
    pub compute: Option<Compute>,
    /// Only sessions in this database.
    pub database: Option<String>,
    /// Entries to a page, at most 100.
    pub page_size: Option<u8>,
}

/// Whether a name fits a pattern in which `%` stands for any text, `_` for any character and `\` takes their meaning away.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    let mut pieces = Vec::new();
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        pieces.push(match c {
            '%' => Piece::Text,
            '_' => Piece::Character,
            '\\' => Piece::Exactly(characters.next().unwrap_or('\\')),
            c => Piece::Exactly(c),
        });
    }
    // `reached[n]`: the pieces so far fit the first n characters of the name.
    let name: Vec<_> = name.chars().collect();
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for piece in pieces {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            next[at] = match piece {
                Piece::Text => reached[at] || at > 0 && next[at - 1],
                Piece::Character => at > 0 && reached[at - 1],
                Piece::Exactly(c) => at > 0 && reached[at - 1] && name[at - 1] == c,
            };
        }
        reached = next;
    }
    reached[name.len()]
}

#[derive(Clone, Copy)]
enum Piece {
    Text,
    Character,
    Exactly(char),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_like() {
        for (pattern, name, expected) in [
            ("%", "", true),
            ("dim_%", "dim_customer", true),
            ("dim_%", "dimension", true),
            (r"dim\_%", "dimension", false),
            ("%_item%", "dim_item_old", true),
            ("sale", "sales", false),
            ("", "x", false),
            ("S%", "sales", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn every_entry_is_on_exactly_one_page() {
        for count in 0..8 {
            let (mut seen, mut page) = (Vec::new(), None);
            loop {
                let cut = Page::cut((0..count).collect(), 3, page).unwrap();
                seen.extend(cut.entries);
                page = cut.next;
                if page.is_none() {
                    break;
                }
            }
            assert_eq!(seen, (0..count).collect::<Vec<_>>());
        }
        assert!(Page::cut(vec![1], 3, Some(PageToken::new("x"))).is_err());
    }
}
