//! [`Catalog`]: lists databases, schemas, tables, columns and sessions.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{Column, Compute, PageToken, Result, SessionId, StatementId, Target};

/// Lists databases, schemas, tables, columns and sessions with the operations of the Data API that run no
/// statement.
///
/// The trait is separate from [`StatementExecutor`](crate::StatementExecutor), because most executors have no
/// catalog.
///
/// # For callers
///
/// Every listing is paginated. Request the first page without a `page`, and each further page with the
/// [`Page::next`] of the previous one and the same filter.
///
/// # For implementors
///
/// A page may be shorter than requested, even empty, and still have a next page.
#[async_trait]
pub trait Catalog: fmt::Debug + Send + Sync {
    /// Lists the databases to which the caller can connect, ordered by name.
    async fn databases(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<String>>;

    /// Lists the schemas of a database, ordered by name. [`CatalogFilter::schema`] is a pattern.
    async fn schemas(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<String>>;

    /// Lists the tables and views of a database, ordered by schema and name. [`CatalogFilter::schema`] and
    /// [`CatalogFilter::table`] are patterns.
    async fn tables(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<Table>>;

    /// Lists the columns of a table in their order, each with its schema and table. [`CatalogFilter::schema`]
    /// and [`CatalogFilter::table`] are names; without them, the columns of all matching tables are listed.
    async fn columns(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<Column>>;

    /// Lists the sessions of the last 24 hours.
    async fn sessions(&self, filter: &SessionFilter, page: Option<PageToken>) -> Result<Page<Session>>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<C: Catalog + ?Sized> Catalog for Arc<C> {
    async fn databases(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<String>> {
        (**self).databases(filter, page).await
    }

    async fn schemas(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<String>> {
        (**self).schemas(filter, page).await
    }

    async fn tables(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<Table>> {
        (**self).tables(filter, page).await
    }

    async fn columns(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<Column>> {
        (**self).columns(filter, page).await
    }

    async fn sessions(&self, filter: &SessionFilter, page: Option<PageToken>) -> Result<Page<Session>> {
        (**self).sessions(filter, page).await
    }
}

/// Part of the catalog to list. Default: everything that is visible from the executor's default target.
///
/// ```
/// use redshift_orchestrator::catalog::CatalogFilter;
///
/// let filter = CatalogFilter::default().with_schema("mystore").with_table("dim_%");
/// assert_eq!(filter.schema.as_deref(), Some("mystore"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CatalogFilter {
    /// Database and user for the connection. Default: the executor's default target.
    pub target: Option<Target>,
    /// Database whose objects are listed. Default: the database of the connection.
    pub database: Option<String>,
    /// Name or pattern of the schema, depending on the operation. In a pattern, `%` matches any text and `_`
    /// any character.
    pub schema: Option<String>,
    /// Name or pattern of the table, depending on the operation.
    pub table: Option<String>,
    /// Number of entries per page, at most 1,000.
    pub page_size: Option<u16>,
}

impl CatalogFilter {
    /// Selects a schema, or the schemas that match the pattern.
    #[must_use]
    pub fn with_schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// Selects a table, or the tables that match the pattern.
    #[must_use]
    pub fn with_table(mut self, table: impl Into<String>) -> Self {
        self.table = Some(table.into());
        self
    }
}

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page<T> {
    /// The entries of this page.
    pub entries: Vec<T>,
    /// Token of the next page; `None` on the last page.
    pub next: Option<PageToken>,
}

impl<T> Page<T> {
    /// Creates a page, with the token of the next page unless it is the last one.
    pub fn new(entries: Vec<T>, next: Option<PageToken>) -> Self {
        Self { entries, next }
    }

    /// Creates a page that contains the complete listing.
    pub fn whole(entries: Vec<T>) -> Self {
        Self { entries, next: None }
    }

    /// Returns one page of a complete listing: at most `size` entries, and a token with the number of
    /// preceding entries.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a token that this function did not
    /// create.
    #[doc(hidden)]
    pub fn cut(entries: Vec<T>, size: usize, page: Option<PageToken>) -> Result<Self> {
        let begin = match page {
            None => 0,
            Some(page) => page.as_str().parse::<usize>().map_err(|_| {
                let text = "the page token does not belong to this listing";
                crate::Error::new(crate::ErrorKind::Invalid, text).with_code("ValidationException")
            })?,
        };
        let end = begin.saturating_add(size.max(1));
        let next = (end < entries.len()).then(|| PageToken::new(end.to_string()));
        Ok(Self { entries: entries.into_iter().skip(begin).take(size.max(1)).collect(), next })
    }
}

/// A table, a view, or another relation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Table {
    /// Schema of the table.
    pub schema: String,
    /// Name of the table.
    pub name: String,
    /// Kind as returned by the service: `TABLE`, `VIEW`, `SYSTEM TABLE`, `LOCAL TEMPORARY`, and others.
    pub kind: String,
}

impl Table {
    /// Creates an ordinary table.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: schema.into(), name: name.into(), kind: "TABLE".to_owned() }
    }

    /// Sets the kind, for example `VIEW`.
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
    /// Id of the session.
    pub id: SessionId,
    /// Status of the session.
    pub status: SessionStatus,
    /// Time at which the session was opened.
    pub created_at: Timestamp,
    /// Time at which the service last changed the session.
    pub updated_at: Option<Timestamp>,
    /// Cluster or workgroup of the session, if the service returned it.
    pub compute: Option<Compute>,
    /// Database of the connection.
    pub database: Option<String>,
    /// User of the connection.
    pub database_user: Option<String>,
    /// Time for which the session stays open after a statement.
    pub keep_alive: Option<Duration>,
    /// Time at which the session will be closed.
    pub expires_at: Option<Timestamp>,
    /// The running statement.
    pub current_statement: Option<StatementId>,
}

impl Session {
    /// Creates a session without optional values.
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

/// Status of a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionStatus {
    /// Open, and ready for a statement.
    Available,
    /// Running a statement. A session runs one statement at a time.
    Busy,
    /// Closed, because its keep-alive time is over or its connection failed.
    Closed,
    /// A status that is unknown to this version, with the service's text.
    Other(String),
}

impl SessionStatus {
    /// Returns the service's text for this status.
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

/// Selection of sessions. Default: open sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionFilter {
    /// Only this session, in any status. Excludes all other criteria except `own_session_only`.
    pub id: Option<SessionId>,
    /// Only sessions with this status. `None` selects available and busy sessions.
    pub status: Option<SessionStatus>,
    /// Only sessions opened in the current session of the IAM role. Default: all sessions of the role.
    pub own_session_only: bool,
    /// Only sessions on this cluster or workgroup.
    pub compute: Option<Compute>,
    /// Only sessions in this database.
    pub database: Option<String>,
    /// Number of entries per page, at most 100.
    pub page_size: Option<u8>,
}

/// Returns `true` if a name matches a pattern in which `%` matches any text, `_` matches any character, and
/// `\` escapes them.
#[doc(hidden)]
pub fn fits(pattern: &str, name: &str) -> bool {
    let mut tokens = Vec::new();
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        tokens.push(match c {
            '%' => PatternToken::Text,
            '_' => PatternToken::Character,
            '\\' => PatternToken::Exactly(characters.next().unwrap_or('\\')),
            c => PatternToken::Exactly(c),
        });
    }
    // `reached[n]`: the tokens so far match the first n characters of the name.
    let name: Vec<_> = name.chars().collect();
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for token in tokens {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            next[at] = match token {
                PatternToken::Text => reached[at] || at > 0 && next[at - 1],
                PatternToken::Character => at > 0 && reached[at - 1],
                PatternToken::Exactly(c) => at > 0 && reached[at - 1] && name[at - 1] == c,
            };
        }
        reached = next;
    }
    reached[name.len()]
}

#[derive(Clone, Copy)]
enum PatternToken {
    Text,
    Character,
    Exactly(char),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_follow_like() {
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
