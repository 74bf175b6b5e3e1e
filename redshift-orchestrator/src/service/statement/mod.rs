//! [`Statement`]: the SQL, parameters and options of one request to the service.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result, Target};

mod check;
mod parameter;

pub use parameter::{Parameter, Value};

/// Maximum number of SQL statements in a batch (`BatchExecuteStatement`, member `Sqls`).
pub const MAX_BATCH: usize = 40;

/// One SQL statement or a batch of SQL statements, with parameters and options.
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
    commits: Commits,
    /// Names that were bound to NULL or an empty text, but have no placeholder in the SQL.
    unplaced: Vec<String>,
    /// Texts that are removed from all output, including messages of procedures.
    secrets: Vec<String>,
}

#[derive(Clone, PartialEq, Eq)]
enum Body {
    Single([String; 1]),
    Batch(Vec<String>, ExecutionMode),
}

/// Commit mode of a batch.
///
/// The enum is exhaustive, so that every executor must handle a new variant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ExecutionMode {
    /// All statements run in one transaction; any failure rolls back all of them. The service's default.
    #[default]
    Transaction,
    /// Each statement commits on its own; a failure leaves the other statements unaffected.
    AutoCommit,
}

/// Declaration for a statement that may commit by itself, such as the call of a procedure that contains
/// `COMMIT` or `TRUNCATE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Commits {
    /// No declaration: the SQL text decides, which does not show the contents of procedures. The default.
    #[default]
    Detected,
    /// The statement commits by itself.
    Yes,
    /// The statement does not commit by itself, even if its SQL text contains such a command.
    No,
}

/// Format in which the service stores a result.
///
/// The enum is exhaustive, so that every executor must handle a new variant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ResultFormat {
    /// Typed fields. The service's default.
    #[default]
    Json,
    /// Text, for large results.
    Csv,
}

impl Statement {
    /// Creates a statement from one SQL text.
    pub fn sql(sql: impl Into<String>) -> Self {
        Self::of(Body::Single([sql.into()]))
    }

    /// Creates a batch of 1 to [`MAX_BATCH`] SQL statements. They run in order, by default in one transaction
    /// (see [`with_execution_mode`](Self::with_execution_mode)).
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
            commits: Commits::Detected,
            unplaced: Vec::new(),
            secrets: Vec::new(),
        }
    }

    /// Sets the statement's name, by which [`StatementExecutor::list`](crate::StatementExecutor::list) finds
    /// it.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the client token. For 8 hours, a repeated submit with the same token runs nothing and returns the
    /// id of the first statement.
    #[must_use]
    pub fn with_client_token(mut self, token: ClientToken) -> Self {
        self.client_token = Some(token);
        self
    }

    /// Requests an EventBridge event when the statement ends. Default: `false`.
    #[must_use]
    pub fn with_event(mut self, with_event: bool) -> Self {
        self.with_event = with_event;
        self
    }

    /// Sets the format in which the result is stored. Default: [`ResultFormat::Json`].
    #[must_use]
    pub fn with_result_format(mut self, format: ResultFormat) -> Self {
        self.result_format = format;
        self
    }

    /// Sets the commit mode of a batch. Has no effect on a single statement.
    #[must_use]
    pub fn with_execution_mode(mut self, mode: ExecutionMode) -> Self {
        if let Body::Batch(_, current) = &mut self.body {
            *current = mode;
        }
        self
    }

    /// Sets the database and user. Default: the executor's default target. A statement in a session runs on
    /// the session's target.
    #[must_use]
    pub fn with_target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Runs the statement in this session instead of a new one.
    #[must_use]
    pub fn in_session(mut self, session: SessionId) -> Self {
        self.session = Some(session);
        self
    }

    /// Keeps the session open for this time after the statement, at most 24 hours.
    #[must_use]
    pub fn with_session_keep_alive(mut self, idle: Duration) -> Self {
        self.session_keep_alive = Some(idle);
        self
    }

    /// Registers a secret, which an orchestrator removes from all output, including messages raised by
    /// procedures. Parameter values and literals in the SQL are always removed from errors and reports, but
    /// not from messages raised by procedures.
    #[must_use]
    pub fn with_secret(mut self, secret: impl Into<String>) -> Self {
        self.secrets.push(secret.into());
        self
    }

    pub(crate) fn secrets(&self) -> &[String] {
        &self.secrets
    }

    /// Adds a comment at the beginning of each SQL text. Characters that could end the comment or form a
    /// placeholder become `_`.
    pub(crate) fn with_comment(mut self, text: &str) -> Self {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || " -./".contains(c);
        let plain: String = text.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
        // `plain` contains no `*`, so it contains neither `*/` nor `/*`.
        let begin = |sql: &mut String| sql.insert_str(0, &format!("/* {plain} */ "));
        match &mut self.body {
            Body::Single(sql) => sql.iter_mut().for_each(begin),
            Body::Batch(sqls, _) => sqls.iter_mut().for_each(begin),
        }
        self
    }

    /// Returns the SQL texts in execution order.
    pub fn sqls(&self) -> &[String] {
        match &self.body {
            Body::Single(sql) => sql,
            Body::Batch(sqls, _) => sqls,
        }
    }

    /// Returns the commit mode of a batch, or `None` for a single statement.
    pub fn execution_mode(&self) -> Option<ExecutionMode> {
        match &self.body {
            Body::Single(_) => None,
            Body::Batch(_, mode) => Some(*mode),
        }
    }

    /// Returns the named parameters in the order in which they were added.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Returns the statement's name.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the client token.
    pub fn client_token(&self) -> Option<&ClientToken> {
        self.client_token.as_ref()
    }

    /// Returns `true` if an EventBridge event is sent when the statement ends.
    pub fn event(&self) -> bool {
        self.with_event
    }

    /// Returns the format in which the result is stored.
    pub fn result_format(&self) -> ResultFormat {
        self.result_format
    }

    /// Returns the target, or `None` for the executor's default target.
    pub fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// Returns the session, or `None` for a new one.
    pub fn session(&self) -> Option<&SessionId> {
        self.session.as_ref()
    }

    /// Returns the time for which the session stays open after the statement.
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

/// Text of an SQL statement, as returned by an executor. `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub struct SqlText(String);

impl SqlText {
    /// Creates an SQL text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SqlText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SqlText(..)")
    }
}

/// Token by which the service recognises repeated submits of one statement: 1 to 64 characters, remembered
/// for 8 hours.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, PartialOrd, Ord)]
#[serde(try_from = "String", into = "String")]
pub struct ClientToken(String);

impl ClientToken {
    /// Creates a token of 1 to 64 characters.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Invalid`] for any other length.
    pub fn new(token: impl Into<String>) -> Result<Self> {
        let token = token.into();
        match token.chars().count() {
            1..=64 => Ok(Self(token)),
            length => Err(Error::new(ErrorKind::Invalid, "a client token has 1 to 64 characters")
                .with_context("length", length)),
        }
    }

    /// Returns the text of the token.
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
            /// Creates an id from its text.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into().into())
            }

            /// Returns the text of the id.
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
    /// Id of a statement, assigned by the service: a UUID. The id of a sub-statement is the id of its batch
    /// followed by `:1`, `:2`, and so on.
    StatementId
}

impl StatementId {
    /// Returns the id of a sub-statement of this batch; `number` starts at 1.
    pub fn sub_statement(&self, number: usize) -> Self {
        Self::new(format!("{}:{number}", self.0))
    }
}

text_id! {
    /// Id of a session, assigned by the service: a UUID.
    SessionId
}

text_id! {
    /// Opaque token of the next page of a response.
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
