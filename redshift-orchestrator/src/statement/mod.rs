//! [`Statement`]: what is sent to the service.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result, Target};

mod check;
mod parameter;

pub use parameter::{Parameter, Value};

/// The most SQL statements that one batch takes (`BatchExecuteStatement`, member `Sqls`).
pub const MAX_BATCH: usize = 40;

/// What is to be run: one SQL statement, or a batch of them, with its parameters and options.
///
/// ```
/// use redshift_orchestrator::Statement;
///
/// let statement = Statement::sql("CALL mystore.load_sales(:cycle)").with_parameter("cycle", "7").with_name("load-sales-7");
/// assert_eq!(statement.sqls(), ["CALL mystore.load_sales(:cycle)"]);
/// ```
///
/// `Debug` prints neither SQL nor parameter values.
#[derive(Clone, PartialEq, Eq)]
pub struct Statement {
    body: Body,
    parameters: Vec<Parameter>,
    name: Option<String>,
    client_token: Option<ClientToken>,
    with_event: bool,
    result_format: ResultFormat,
    target: Option<Target>,
    session: Option<SessionId>,
    session_keep_alive: Option<Duration>,
    /// Whether it commits by itself, if that was declared.
    commits: Option<bool>,
    /// Names that were bound to NULL or an empty text, and that no placeholder has.
    unplaced: Vec<String>,
    /// Texts that are told nowhere, also not where a procedure says them.
    secrets: Vec<String>,
}

#[derive(Clone, PartialEq, Eq)]
enum Body {
    Single([String; 1]),
    Batch(Vec<String>, ExecutionMode),
}

/// How a batch commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum ExecutionMode {
    /// All statements in one transaction; any failure rolls back all of them. The service's default.
    #[default]
    Transaction,
    /// Each statement commits on its own; the failure of one leaves the others as they are.
    AutoCommit,
}

/// How a result is kept for fetching.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum ResultFormat {
    /// Typed fields. The service's default.
    #[default]
    Json,
    /// Text, for large results.
    Csv,
}

impl Statement {
    /// One SQL statement.
    pub fn sql(sql: impl Into<String>) -> Self {
        Self::of(Body::Single([sql.into()]))
    }

    /// A batch of 1 to [`MAX_BATCH`] SQL statements, run one after the other in one transaction unless
    /// [`with_execution_mode`](Self::with_execution_mode) says otherwise.
    pub fn batch<S: Into<String>>(sqls: impl IntoIterator<Item = S>) -> Self {
        Self::of(Body::Batch(sqls.into_iter().map(Into::into).collect(), ExecutionMode::default()))
    }

    fn of(body: Body) -> Self {
        Self {
            body,
            parameters: Vec::new(),
            name: None,
            client_token: None,
            with_event: false,
            result_format: ResultFormat::default(),
            target: None,
            session: None,
            session_keep_alive: None,
            commits: None,
            unplaced: Vec::new(),
            secrets: Vec::new(),
        }
    }

    /// Names the statement, so that it can be found by [`StatementExecutor::list`](crate::StatementExecutor::list).
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Makes repeated submits one: within 8 hours the service answers the same token with the same statement.
    #[must_use]
    pub fn with_client_token(mut self, token: ClientToken) -> Self {
        self.client_token = Some(token);
        self
    }

    /// Asks for an EventBridge event when the statement ends.
    #[must_use]
    pub fn with_event(mut self, with_event: bool) -> Self {
        self.with_event = with_event;
        self
    }

    /// How the result is kept for fetching.
    #[must_use]
    pub fn with_result_format(mut self, format: ResultFormat) -> Self {
        self.result_format = format;
        self
    }

    /// How a batch commits. A single statement has no mode, and is left as it is.
    #[must_use]
    pub fn with_execution_mode(mut self, mode: ExecutionMode) -> Self {
        if let Body::Batch(_, current) = &mut self.body {
            *current = mode;
        }
        self
    }

    /// Runs in this database, and as this user, instead of the executor's own. A session has its own target, which counts.
    #[must_use]
    pub fn with_target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Runs in this session instead of a fresh one.
    #[must_use]
    pub fn in_session(mut self, session: SessionId) -> Self {
        self.session = Some(session);
        self
    }

    /// Keeps the session open for this long after the statement, at most 24 hours.
    #[must_use]
    pub fn with_session_keep_alive(mut self, idle: Duration) -> Self {
        self.session_keep_alive = Some(idle);
        self
    }

    /// Names a secret: an orchestrator tells it nowhere, not even where a procedure says it. Values of parameters and what stands in the SQL
    /// are kept out of errors and reports anyway, but not out of what procedures say.
    #[must_use]
    pub fn with_secret(mut self, secret: impl Into<String>) -> Self {
        self.secrets.push(secret.into());
        self
    }

    pub(crate) fn secrets(&self) -> &[String] {
        &self.secrets
    }

    /// Begins each SQL text with a comment. What would mean something in one, or be taken for a placeholder, becomes `_`.
    pub(crate) fn with_comment(mut self, text: &str) -> Self {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || " -./".contains(c);
        let plain: String = text.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
        // Neither `*/` nor `/*` can come about: there is no `*` in it.
        let begin = |sql: &mut String| sql.insert_str(0, &format!("/* {plain} */ "));
        match &mut self.body {
            Body::Single(sql) => sql.iter_mut().for_each(begin),
            Body::Batch(sqls, _) => sqls.iter_mut().for_each(begin),
        }
        self
    }

    /// The SQL texts, in the order in which they run.
    pub fn sqls(&self) -> &[String] {
        match &self.body {
            Body::Single(sql) => sql,
            Body::Batch(sqls, _) => sqls,
        }
    }

    /// How the batch commits, or `None` for a single statement.
    pub fn execution_mode(&self) -> Option<ExecutionMode> {
        match &self.body {
            Body::Single(_) => None,
            Body::Batch(_, mode) => Some(*mode),
        }
    }

    /// The named parameters, in the order in which they were added.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The statement's name.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The token that makes repeated submits one.
    pub fn client_token(&self) -> Option<&ClientToken> {
        self.client_token.as_ref()
    }

    /// Whether an EventBridge event is sent when the statement ends.
    pub fn event(&self) -> bool {
        self.with_event
    }

    /// How the result is kept for fetching.
    pub fn result_format(&self) -> ResultFormat {
        self.result_format
    }

    /// The database to run in, if not the executor's own.
    pub fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// The session to run in, if not a fresh one.
    pub fn session(&self) -> Option<&SessionId> {
        self.session.as_ref()
    }

    /// For how long the session stays open after the statement.
    pub fn session_keep_alive(&self) -> Option<Duration> {
        self.session_keep_alive
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statement")
            .field("name", &self.name)
            .field("statements", &self.sqls().len())
            .field("execution_mode", &self.execution_mode())
            .field("parameters", &self.parameters)
            .field("client_token", &self.client_token)
            .finish_non_exhaustive()
    }
}

/// The text of an SQL statement, as an executor tells it. `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub struct SqlText(String);

impl SqlText {
    /// This text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SqlText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SqlText(..)")
    }
}

/// The token that makes repeated submits of one statement one: 1 to 64 characters, remembered by the service for 8 hours.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClientToken(String);

impl ClientToken {
    /// A token of 1 to 64 characters.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for any other length.
    pub fn new(token: impl Into<String>) -> Result<Self> {
        let token = token.into();
        match token.chars().count() {
            1..=64 => Ok(Self(token)),
            length => Err(Error::new(ErrorKind::Invalid, "a client token has 1 to 64 characters")
                .with_context("length", length)),
        }
    }

    /// The token's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ClientToken {
    type Error = Error;

    fn try_from(token: String) -> Result<Self> {
        Self::new(token)
    }
}

impl From<ClientToken> for String {
    fn from(token: ClientToken) -> Self {
        token.0
    }
}

impl fmt::Display for ClientToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.as_str().to_owned()
            }
        }

        impl $name {
            /// The id with this text.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into().into())
            }

            /// The id's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

text_id! {
    /// The service's id of a statement, a UUID; with `:1`, `:2`, … behind it, of a sub-statement of a batch.
    StatementId
}

impl StatementId {
    /// The id of the `number`th statement of this batch, counted from 1.
    pub fn sub_statement(&self, number: usize) -> Self {
        Self::new(format!("{}:{number}", self.0))
    }
}

text_id! {
    /// The service's id of a session, a UUID.
    SessionId
}

text_id! {
    /// Where the next page of an answer begins, as the service wrote it.
    PageToken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_neither_sql_nor_values() {
        let statement = Statement::sql("SELECT 'classified'").with_parameter("who", "alice");
        let printed = format!("{statement:?}");
        assert!(!printed.contains("classified") && !printed.contains("alice"), "{printed}");
    }

    #[test]
    fn a_client_token_has_1_to_64_characters() {
        assert!(ClientToken::new("a".repeat(64)).is_ok());
        assert_eq!(ClientToken::new("").unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(ClientToken::new("a".repeat(65)).unwrap_err().kind(), ErrorKind::Invalid);
    }
}
