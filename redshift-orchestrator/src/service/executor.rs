//! [`StatementExecutor`]: the interface between this crate and the service.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Compute, ExecutionMode, PageToken, Parameter, Result, ResultFormat, ResultPage, SessionId, SqlText,
    Statement, StatementId, Status, Target,
};

/// Timeout of a request for one page of a listing. Listings took up to 120 s in accounts with 20,000
/// statements a day.
pub(crate) const LISTING_TIMEOUT: Duration = Duration::from_secs(150);

/// Runs statements asynchronously, like the Redshift Data API: a submit returns an id at once, and the caller
/// polls the status.
///
/// # For callers
///
/// The methods correspond to the service's operations. Pass the executor to an
/// [`Orchestrator`](crate::Orchestrator) to run a statement at most once, wait for it, and resume after a
/// crash.
///
/// # For implementors
///
/// * A submit with a client token that was used within the last 8 hours returns the id of the first statement
///   and runs nothing.
/// * The documentation of each [`ErrorKind`](crate::ErrorKind) describes what the caller does next. Return
///   the kind that leads to the right action. A submit that may have taken effect must not be reported as
///   [`NotSent`](crate::ErrorKind::NotSent) or [`Throttled`](crate::ErrorKind::Throttled).
/// * When the future of any method is dropped, the request may or may not have taken effect.
/// * `wait` is an upper bound: the executor may respond earlier with the current status.
#[cfg_attr(any(test, feature = "mock"), mockall::automock)]
#[async_trait]
pub trait StatementExecutor: fmt::Debug + Send + Sync {
    /// Submits a statement. With `wait`, the response is delayed until the statement has ended or the wait is
    /// over.
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted>;

    /// Returns the status of a statement, or of a sub-statement of a batch. With `wait`, the response is
    /// delayed until the statement has ended or the wait is over.
    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description>;

    /// Requests the cancellation of a statement. Returns `true` if the service accepted the request; the
    /// statement then becomes `ABORTED` unless it ends first. Returns `false` if the statement cannot be
    /// cancelled, because it has ended or because the executor cannot stop it; [`describe`](Self::describe)
    /// shows which.
    ///
    /// The service reports a `ValidationException` for a statement that has already ended. This method
    /// returns `false` instead of an error, because a statement can always end before its cancel arrives.
    async fn cancel(&self, id: &StatementId) -> Result<bool>;

    /// Returns one page of the result of a finished statement or sub-statement; the first page if `page` is
    /// `None`.
    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage>;

    /// Returns one page of the statements of the last 24 hours, newest first; the first page if `page` is
    /// `None`.
    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage>;

    /// Returns the default target, for statements that have none. Returns `None` if the executor does not
    /// know it. The target is part of a statement's identity, so a decorator must return the target of its
    /// inner executor.
    fn target(&self) -> Option<Target>;
}

#[async_trait]
impl<E: StatementExecutor + ?Sized> StatementExecutor for Arc<E> {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        (**self).submit(statement, wait).await
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        (**self).describe(id, wait).await
    }

    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        (**self).cancel(id).await
    }

    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage> {
        (**self).result(id, page).await
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        (**self).list(filter, page).await
    }

    fn target(&self) -> Option<Target> {
        (**self).target()
    }
}

/// Maximum time for which the service may delay a response: 1 to 30 whole seconds (`WaitTimeSeconds`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaitTime(u8);

impl WaitTime {
    /// The service's maximum, 30 seconds.
    pub const MAX: Self = Self(30);

    /// Returns the longest wait that does not exceed `limit`, or `None` if `limit` is below one second.
    pub fn at_most(limit: Duration) -> Option<Self> {
        match limit.as_secs().min(30) {
            0 => None,
            seconds => Some(Self(seconds as u8)),
        }
    }

    /// Returns the wait in seconds, 1 to 30.
    pub fn seconds(self) -> u8 {
        self.0
    }

    /// Returns the wait as a duration.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }
}

/// Response to a submit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Submitted {
    /// The statement's id.
    pub id: StatementId,
    /// Status of the statement; only returned by a submit with a wait. After `FAILED`, a describe returns the
    /// error text.
    pub status: Option<Status>,
    /// Process id in the database; only returned by a submit with a wait.
    pub redshift_pid: Option<i64>,
    /// `true` if there is a result to fetch; only returned by a submit with a wait.
    pub has_result_set: Option<bool>,
    /// Session in which the statement runs, if the session is kept.
    pub session_id: Option<SessionId>,
    /// Database and user with which the statement runs.
    pub target: Option<Target>,
    /// Database groups of the user.
    pub database_groups: Vec<String>,
    /// Time at which the service accepted the statement.
    pub created_at: Option<Timestamp>,
}

impl Submitted {
    /// Creates a response with only the id.
    pub fn new(id: StatementId) -> Self {
        Self {
            id,
            status: None,
            redshift_pid: None,
            has_result_set: None,
            session_id: None,
            target: None,
            database_groups: Vec::new(),
            created_at: None,
        }
    }

    /// Adds the status, which is part of the response to a submit with a wait.
    #[must_use]
    pub fn with_status(mut self, status: Status) -> Self {
        self.status = Some(status);
        self
    }
}

/// Status and outcome of a statement.
///
/// `Debug` prints neither SQL nor parameter values. An error text may quote both, so `Debug` prints only
/// whether there is one.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// The statement's id.
    pub id: StatementId,
    /// Status of the statement.
    pub status: Status,
    /// Error text of the database, if the statement failed.
    pub error: Option<String>,
    /// Execution time in the database.
    pub execution_time: Option<Duration>,
    /// Number of rows in the result, or of rows that the statement affected.
    pub result_rows: Option<u64>,
    /// Size of the result in bytes.
    pub result_size: Option<u64>,
    /// `true` if there is a result to fetch; for a batch, `true` if any of its statements has one.
    pub has_result_set: bool,
    /// Process id in the database.
    pub redshift_pid: Option<i64>,
    /// Query id in the database.
    pub redshift_query_id: Option<i64>,
    /// Key of the statement in the system views (`SYS_QUERY_HISTORY.query_uuid`).
    pub query_uuid: Option<String>,
    /// Session in which the statement ran, if the session is kept.
    pub session_id: Option<SessionId>,
    /// Time at which the service accepted the statement.
    pub created_at: Option<Timestamp>,
    /// Time at which the service last changed the statement's status.
    pub updated_at: Option<Timestamp>,
    /// Commit mode of a batch; `None` for a single statement.
    pub execution_mode: Option<ExecutionMode>,
    /// Database and user with which the statement runs.
    pub target: Option<Target>,
    /// The SQL text; `None` for a batch, whose sub-statements contain the texts.
    pub sql: Option<SqlText>,
    /// The named parameters.
    pub parameters: Vec<Parameter>,
    /// Format in which the result is stored.
    pub result_format: Option<ResultFormat>,
    /// The statements of a batch, in order.
    pub sub_statements: Vec<SubStatement>,
}

impl Description {
    /// Creates a description with only an id and a status.
    pub fn new(id: StatementId, status: Status) -> Self {
        Self {
            id,
            status,
            error: None,
            execution_time: None,
            result_rows: None,
            result_size: None,
            has_result_set: false,
            redshift_pid: None,
            redshift_query_id: None,
            query_uuid: None,
            session_id: None,
            created_at: None,
            updated_at: None,
            execution_mode: None,
            target: None,
            sql: None,
            parameters: Vec::new(),
            result_format: None,
            sub_statements: Vec::new(),
        }
    }

    /// Sets the error text of a failed statement.
    #[must_use]
    pub fn with_error(mut self, error: impl Into<String>) -> Self {
        self.error = Some(error.into());
        self
    }
}

/// Status and outcome of one statement of a batch. `Debug` omits the same values as for [`Description`].
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubStatement {
    /// Id of the sub-statement: the id of the batch followed by `:1`, `:2`, and so on.
    pub id: StatementId,
    /// Status of the statement.
    pub status: Status,
    /// Error text of the database, if the statement failed.
    pub error: Option<String>,
    /// Execution time in the database.
    pub execution_time: Option<Duration>,
    /// Number of rows in the result, or of rows that the statement affected.
    pub result_rows: Option<u64>,
    /// Size of the result in bytes.
    pub result_size: Option<u64>,
    /// `true` if there is a result to fetch.
    pub has_result_set: bool,
    /// Query id in the database.
    pub redshift_query_id: Option<i64>,
    /// Key of the statement in the system views (`SYS_QUERY_HISTORY.query_uuid`).
    pub query_uuid: Option<String>,
    /// Time at which the service accepted the statement.
    pub created_at: Option<Timestamp>,
    /// Time at which the service last changed the statement's status.
    pub updated_at: Option<Timestamp>,
    /// The SQL text.
    pub sql: Option<SqlText>,
}

impl SubStatement {
    /// Creates a sub-statement with only an id and a status.
    pub fn new(id: StatementId, status: Status) -> Self {
        Self {
            id,
            status,
            error: None,
            execution_time: None,
            result_rows: None,
            result_size: None,
            has_result_set: false,
            redshift_query_id: None,
            query_uuid: None,
            created_at: None,
            updated_at: None,
            sql: None,
        }
    }
}

impl fmt::Debug for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Description")
            .field("id", &self.id)
            .field("status", &self.status)
            .field("has_error", &self.error.is_some())
            .field("execution_time", &self.execution_time)
            .field("result_rows", &self.result_rows)
            .field("has_result_set", &self.has_result_set)
            .field("redshift_query_id", &self.redshift_query_id)
            .field("query_uuid", &self.query_uuid)
            .field("session_id", &self.session_id)
            .field("execution_mode", &self.execution_mode)
            .field("target", &self.target)
            .field("sub_statements", &self.sub_statements)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SubStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubStatement")
            .field("id", &self.id)
            .field("status", &self.status)
            .field("has_error", &self.error.is_some())
            .field("execution_time", &self.execution_time)
            .field("result_rows", &self.result_rows)
            .finish_non_exhaustive()
    }
}

/// Selection of statements for a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatementFilter {
    /// Only statements whose name begins with this prefix, case-sensitive.
    pub name_prefix: Option<String>,
    /// Only statements with this status. Default: every status. (The service's own default is `FINISHED`.)
    pub status: Option<Status>,
    /// Only statements submitted in the current session of the IAM role. Default: all statements of the role.
    pub own_session_only: bool,
    /// Only statements on this cluster or workgroup.
    pub compute: Option<Compute>,
    /// Only statements in this database.
    pub database: Option<String>,
    /// Number of statements per page, at most 100.
    pub page_size: Option<u8>,
}

impl StatementFilter {
    /// Selects only statements whose name begins with `prefix`.
    #[must_use]
    pub fn with_name_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.name_prefix = Some(prefix.into());
        self
    }
}

/// One page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatementPage {
    /// The statements of this page, newest first.
    pub statements: Vec<StatementSummary>,
    /// Token of the next page; `None` on the last page.
    pub next: Option<PageToken>,
}

impl StatementPage {
    /// Creates a page, with the token of the next page unless it is the last one.
    pub fn new(statements: Vec<StatementSummary>, next: Option<PageToken>) -> Self {
        Self { statements, next }
    }
}

/// Entry of a listing. Only a describe returns the error text of a failed statement.
///
/// The serialized form omits the SQL, the parameters and the secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StatementSummary {
    /// The statement's id.
    pub id: StatementId,
    /// Status of the statement.
    pub status: Status,
    /// The statement's name.
    pub name: Option<String>,
    /// Time at which the service accepted the statement.
    pub created_at: Option<Timestamp>,
    /// Time at which the service last changed the statement's status.
    pub updated_at: Option<Timestamp>,
    /// `true` for a batch.
    pub is_batch: bool,
    /// Format in which the result is stored.
    #[serde(default)]
    pub result_format: Option<ResultFormat>,
    /// Session in which the statement runs, if the session is kept.
    #[serde(default)]
    pub session_id: Option<SessionId>,
    /// The SQL texts in execution order.
    #[serde(skip)]
    pub sqls: Vec<SqlText>,
    /// The named parameters.
    #[serde(skip)]
    pub parameters: Vec<Parameter>,
    /// ARN of the secret for database access; `Debug` does not print it.
    #[serde(skip)]
    pub secret_arn: Option<String>,
}

impl StatementSummary {
    /// Creates a summary with only an id and a status.
    pub fn new(id: StatementId, status: Status) -> Self {
        Self {
            id,
            status,
            name: None,
            created_at: None,
            updated_at: None,
            is_batch: false,
            result_format: None,
            session_id: None,
            sqls: Vec::new(),
            parameters: Vec::new(),
            secret_arn: None,
        }
    }
}

impl fmt::Debug for StatementSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatementSummary")
            .field("id", &self.id)
            .field("status", &self.status)
            .field("name", &self.name)
            .field("created_at", &self.created_at)
            .field("updated_at", &self.updated_at)
            .field("is_batch", &self.is_batch)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_1_to_30_whole_seconds() {
        assert_eq!(WaitTime::at_most(Duration::from_millis(999)), None);
        assert_eq!(WaitTime::at_most(Duration::from_millis(1_999)).map(WaitTime::seconds), Some(1));
        assert_eq!(WaitTime::at_most(Duration::from_secs(3_600)), Some(WaitTime::MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn a_mock_executor_runs_under_an_orchestrator() {
        let mut service = MockStatementExecutor::new();
        service
            .expect_submit()
            .withf(|statement, _| statement.sqls() == ["CALL load()"] && statement.client_token().is_some())
            .times(1)
            .returning(|_, _| Ok(Submitted::new(StatementId::new("id"))));
        service
            .expect_describe()
            .times(1)
            .returning(|id, _| Ok(Description::new(id.clone(), Status::Failed).with_error("ERROR: no")));
        service.expect_target().return_const(None);
        let orchestrator = crate::Orchestrator::new(service);
        let key = crate::StepKey::new("run", "step");
        let outcome = orchestrator.run(&key, Statement::sql("CALL load()")).await.unwrap();
        assert_eq!(outcome.failure(), Some(crate::FailureKind::Sql));
    }
}
