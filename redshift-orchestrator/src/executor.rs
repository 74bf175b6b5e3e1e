//! [`StatementExecutor`]: the service as this crate sees it.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Compute, ExecutionMode, PageToken, Parameter, Result, ResultFormat, ResultPage, SessionId, SqlText,
    Statement, StatementId, Status, Target,
};

/// Longest time for one page of a listing. Listings took up to 120 s in accounts with 20,000 statements a day.
pub(crate) const LISTING_TIMEOUT: Duration = Duration::from_secs(150);

/// Something that runs statements asynchronously, as the Redshift Data API does: it accepts a statement, answers at once,
/// and tells its status when asked.
///
/// # For callers
///
/// The methods are the service's own. To run a statement well (once, waited for, resumed after a crash) hand the executor to
/// an orchestrator.
///
/// # For implementors
///
/// * A submit with a client token that was seen in the last 8 hours answers with the first one's id and runs nothing.
/// * Errors carry the [`ErrorKind`](crate::ErrorKind) whose documentation says what the caller does next. In particular a submit
///   that may have taken effect must not be reported as [`NotSent`](crate::ErrorKind::NotSent) or
///   [`Throttled`](crate::ErrorKind::Throttled).
/// * When the future of any method is dropped, the request may or may not have taken effect.
/// * `wait` is a wish: the executor may answer sooner, with the status of that moment.
#[cfg_attr(any(test, feature = "mock"), mockall::automock)]
#[async_trait]
pub trait StatementExecutor: fmt::Debug + Send + Sync {
    /// Submits a statement. With `wait` the answer is held back until the statement ended or the time is over.
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted>;

    /// Asks where a statement, or a sub-statement of a batch, is on its way. With `wait` the answer is held back until the
    /// statement ended or the time is over.
    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description>;

    /// Asks to cancel a statement. `true`: the service took note, and the statement will be `ABORTED` unless it ends first;
    /// `false`: it cannot be cancelled, because it has ended or for a reason that the executor has. A describe tells which.
    ///
    /// That a statement has ended is no error, although the service words it as one (a `ValidationException`): a cancel that
    /// comes too late is a race that every caller can lose.
    async fn cancel(&self, id: &StatementId) -> Result<bool>;

    /// One page of the result of a finished statement or sub-statement; the first one without a `page`.
    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage>;

    /// One page of the statements of the last 24 hours, newest first; the first one without a `page`.
    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage>;

    /// Returns the database that statements without a target of their own run in; `None` if the executor does
    /// not know it. It is part of a statement's identity: decorators forward it.
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

/// How long the service may hold an answer back: 1 to 30 whole seconds (`WaitTimeSeconds`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaitTime(u8);

impl WaitTime {
    /// The longest that the service offers.
    pub const MAX: Self = Self(30);

    /// The longest wait that does not exceed `limit`, or `None` when that is below one second.
    pub fn at_most(limit: Duration) -> Option<Self> {
        match limit.as_secs().min(30) {
            0 => None,
            seconds => Some(Self(seconds as u8)),
        }
    }

    /// The wait in seconds, 1 to 30.
    pub fn seconds(self) -> u8 {
        self.0
    }

    /// The wait as a duration.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }
}

/// The answer to a submit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Submitted {
    /// The statement's id.
    pub id: StatementId,
    /// Where the statement is on its way; only told by a submit with a wait. It carries no error text: a `FAILED` needs a describe.
    pub status: Option<Status>,
    /// The database's process; only told by a submit with a wait.
    pub redshift_pid: Option<i64>,
    /// Whether there is a result to fetch; only told by a submit with a wait.
    pub has_result_set: Option<bool>,
    /// The session that the statement runs in, if it is kept.
    pub session_id: Option<SessionId>,
    /// The database it runs in, and as whom.
    pub target: Option<Target>,
    /// The database groups that its user belongs to.
    pub database_groups: Vec<String>,
    /// When the service accepted it.
    pub created_at: Option<Timestamp>,
}

impl Submitted {
    /// The answer that names the id and nothing more.
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

    /// Adds the status, as a submit with a wait does.
    #[must_use]
    pub fn with_status(mut self, status: Status) -> Self {
        self.status = Some(status);
        self
    }
}

/// Where a statement is on its way, and how it ended.
///
/// `Debug` prints neither SQL nor values, and of the database's words only that there are some: they may quote both.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// The statement's id.
    pub id: StatementId,
    /// Where it is on its way.
    pub status: Status,
    /// Why it failed, in the database's words.
    pub error: Option<String>,
    /// How long the database worked on it.
    pub duration: Option<Duration>,
    /// Rows in the result, or rows that the statement affected.
    pub result_rows: Option<u64>,
    /// Bytes of the result.
    pub result_size: Option<u64>,
    /// Whether there is a result to fetch; of a batch, whether any of its statements has one.
    pub has_result_set: bool,
    /// The database's process.
    pub redshift_pid: Option<i64>,
    /// The database's number of the query.
    pub redshift_query_id: Option<i64>,
    /// The key of the statement in the system views (`SYS_QUERY_HISTORY.query_uuid`).
    pub query_uuid: Option<String>,
    /// The session it ran in, if that was kept.
    pub session_id: Option<SessionId>,
    /// When the service accepted it.
    pub created_at: Option<Timestamp>,
    /// When the service last changed it.
    pub updated_at: Option<Timestamp>,
    /// How the batch commits; `None` for a single statement.
    pub execution_mode: Option<ExecutionMode>,
    /// The database it runs in, and as whom.
    pub target: Option<Target>,
    /// The SQL; a batch has it in its sub-statements.
    pub sql: Option<SqlText>,
    /// The named parameters.
    pub parameters: Vec<Parameter>,
    /// How the result is kept for fetching.
    pub result_format: Option<ResultFormat>,
    /// The statements of a batch, in order.
    pub sub_statements: Vec<SubStatement>,
}

impl Description {
    /// The description that says this status and nothing more.
    pub fn new(id: StatementId, status: Status) -> Self {
        Self {
            id,
            status,
            error: None,
            duration: None,
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

    /// Adds why the statement failed.
    #[must_use]
    pub fn with_error(mut self, error: impl Into<String>) -> Self {
        self.error = Some(error.into());
        self
    }
}

/// Where one statement of a batch is on its way, and how it ended.
/// `Debug` prints what that of a [`Description`] does.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubStatement {
    /// Its id: the batch's with `:1`, `:2`, … behind it.
    pub id: StatementId,
    /// Where it is on its way.
    pub status: Status,
    /// Why it failed, in the database's words.
    pub error: Option<String>,
    /// How long the database worked on it.
    pub duration: Option<Duration>,
    /// Rows in the result, or rows that the statement affected.
    pub result_rows: Option<u64>,
    /// Bytes of the result.
    pub result_size: Option<u64>,
    /// Whether there is a result to fetch.
    pub has_result_set: bool,
    /// The database's number of the query.
    pub redshift_query_id: Option<i64>,
    /// The key of the statement in the system views (`SYS_QUERY_HISTORY.query_uuid`).
    pub query_uuid: Option<String>,
    /// When the service accepted it.
    pub created_at: Option<Timestamp>,
    /// When the service last changed it.
    pub updated_at: Option<Timestamp>,
    /// The SQL.
    pub sql: Option<SqlText>,
}

impl SubStatement {
    /// The sub-statement that says this status and nothing more.
    pub fn new(id: StatementId, status: Status) -> Self {
        Self {
            id,
            status,
            error: None,
            duration: None,
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
            .field("duration", &self.duration)
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
            .field("duration", &self.duration)
            .field("result_rows", &self.result_rows)
            .finish_non_exhaustive()
    }
}

/// Which statements to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatementFilter {
    /// Only statements whose name begins with this, case-sensitive.
    pub name_prefix: Option<String>,
    /// Only statements in this status. `None`: all of them (the service's own default is only the finished ones).
    pub status: Option<Status>,
    /// Only what this very session of the role submitted, instead of everything of the role.
    pub own_session_only: bool,
    /// Only what runs on this cluster or workgroup.
    pub compute: Option<Compute>,
    /// Only what runs in this database.
    pub database: Option<String>,
    /// Rows to a page, at most 100.
    pub page_size: Option<u8>,
}

impl StatementFilter {
    /// All statements, in any status, whose name begins with `prefix`.
    pub fn named(prefix: impl Into<String>) -> Self {
        Self { name_prefix: Some(prefix.into()), ..Self::default() }
    }
}

/// One page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatementPage {
    /// The statements of this page, newest first.
    pub statements: Vec<StatementSummary>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<PageToken>,
}

/// What a listing says about a statement. It has no error text: that needs a describe.
///
/// Serialized, it leaves out what was sent: SQL, parameters and secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StatementSummary {
    /// The statement's id.
    pub id: StatementId,
    /// Where it is on its way.
    pub status: Status,
    /// The statement's name.
    pub name: Option<String>,
    /// When the service accepted it.
    pub created_at: Option<Timestamp>,
    /// When the service last changed it.
    pub updated_at: Option<Timestamp>,
    /// Whether it is a batch.
    pub is_batch: bool,
    /// How the result is kept for fetching.
    #[serde(default)]
    pub result_format: Option<ResultFormat>,
    /// The session it runs in, if that is kept.
    #[serde(default)]
    pub session_id: Option<SessionId>,
    /// The SQL texts, in the order in which they run.
    #[serde(skip)]
    pub sqls: Vec<SqlText>,
    /// The named parameters.
    #[serde(skip)]
    pub parameters: Vec<Parameter>,
    /// The ARN of the secret it runs with; `Debug` does not print it.
    #[serde(skip)]
    pub secret_arn: Option<String>,
}

impl StatementSummary {
    /// The summary that says this status and nothing more.
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
    async fn a_mock_says_what_it_is_told_and_fails_when_it_is_asked_for_more() {
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
        let outcome = orchestrator.run(&key, Statement::sql("CALL load()"), None).await.unwrap();
        assert_eq!(outcome.failure(), Some(crate::FailureKind::Sql));
    }
}
