//! [`Record`]: the record of a statement.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use redshift_orchestrator::{
    Auth, Description, SqlText, Statement, StatementFilter, StatementId, StatementSummary, Status,
    SubStatement, Submitted, Target,
};

/// The record of a statement, kept from its submit until it expires.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) id: StatementId,
    pub(crate) statement: Arc<Statement>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) status: Status,
    pub(crate) error: Option<String>,
    /// Time that the database spent on the statement.
    pub(crate) duration: Option<Duration>,
    pub(crate) pid: Option<i64>,
    /// One entry for each SQL text.
    pub(crate) parts: Vec<Part>,
}

/// State of one SQL text of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) status: Status,
    pub(crate) error: Option<String>,
    pub(crate) duration: Option<Duration>,
    pub(crate) rows: Option<u64>,
    pub(crate) size: Option<u64>,
    pub(crate) has_result_set: bool,
}

impl Part {
    pub(crate) fn new(status: Status) -> Self {
        Self { status, error: None, duration: None, rows: None, size: None, has_result_set: false }
    }

    /// Removes the result. The number of rows is kept.
    #[cfg(feature = "postgres")]
    pub(crate) fn remove_result(&mut self) {
        (self.has_result_set, self.size) = (false, None);
    }
}

/// The outcome of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StatementOutcome {
    pub(crate) status: Status,
    pub(crate) error: Option<String>,
    pub(crate) duration: Option<Duration>,
    pub(crate) parts: Vec<Part>,
}

impl From<Record> for StatementOutcome {
    fn from(record: Record) -> Self {
        Self { status: record.status, error: record.error, duration: record.duration, parts: record.parts }
    }
}

impl Record {
    pub(crate) fn new(id: StatementId, statement: Statement, created_at: Timestamp) -> Self {
        let parts = vec![Part::new(Status::Submitted); statement.sqls().len()];
        Self {
            id,
            statement: Arc::new(statement),
            created_at,
            updated_at: created_at,
            status: Status::Submitted,
            error: None,
            duration: None,
            pid: None,
            parts,
        }
    }

    pub(crate) fn is_batch(&self) -> bool {
        self.statement.execution_mode().is_some()
    }

    /// Records the outcome at `now`.
    pub(crate) fn end(&mut self, outcome: StatementOutcome, now: Timestamp) {
        self.status = outcome.status;
        self.error = outcome.error;
        self.duration = outcome.duration;
        self.parts = outcome.parts;
        self.updated_at = now;
    }

    /// Returns the description of the whole statement.
    pub(crate) fn describe(&self) -> Description {
        let mut description = Description::new(self.id.clone(), self.status.clone());
        description.error = self.error.clone();
        description.execution_time = self.duration;
        description.redshift_pid = self.pid;
        description.query_uuid = Some(self.id.as_str().to_owned());
        description.session_id = self.statement.session().cloned();
        description.created_at = Some(self.created_at);
        description.updated_at = Some(self.updated_at);
        description.execution_mode = self.statement.execution_mode();
        description.target = self.statement.target().cloned();
        description.parameters = self.statement.parameters().to_vec();
        description.result_format = Some(self.statement.result_format());
        description.has_result_set = self.has_result_set();
        if self.is_batch() {
            description.sub_statements = (1..).zip(&self.parts).map(|(n, part)| self.sub(n, part)).collect();
        } else if let Some(part) = self.parts.first() {
            description.result_rows = part.rows;
            description.result_size = part.size;
            description.sql = self.sql(1);
        }
        description
    }

    /// Returns the description of sub-statement `number`, counted from 1, or `None` if the batch has no such
    /// sub-statement.
    pub(crate) fn describe_part(&self, number: usize) -> Option<Description> {
        let part = self.part(Some(number))?;
        let mut description = Description::new(self.id.sub_statement(number), part.status.clone());
        description.error = part.error.clone();
        description.execution_time = part.duration;
        description.result_rows = part.rows;
        description.result_size = part.size;
        description.has_result_set = part.has_result_set;
        description.redshift_pid = self.pid;
        description.created_at = Some(self.created_at);
        description.updated_at = Some(self.updated_at);
        description.target = self.statement.target().cloned();
        description.parameters = self.statement.parameters().to_vec();
        description.result_format = Some(self.statement.result_format());
        description.sql = self.sql(number);
        Some(description)
    }

    /// Returns the response to a submit. If the submit waited for the end, the response includes the status.
    pub(crate) fn submitted(&self, waited: bool) -> Submitted {
        let mut submitted = Submitted::new(self.id.clone());
        if waited {
            submitted.status = Some(self.status.clone());
            submitted.redshift_pid = self.pid;
            submitted.has_result_set = Some(self.has_result_set());
        }
        submitted.session_id = self.statement.session().cloned();
        submitted.target = self.statement.target().cloned();
        submitted.created_at = Some(self.created_at);
        submitted
    }

    /// Returns `true` if the record matches the filter of a listing.
    pub(crate) fn matches(&self, filter: &StatementFilter) -> bool {
        let target = self.statement.target();
        let named = |prefix: &str| self.statement.name().is_some_and(|name| name.starts_with(prefix));
        filter.name_prefix.as_deref().is_none_or(named)
            && filter.status.as_ref().is_none_or(|status| self.status == *status)
            && filter.compute.as_ref().is_none_or(|compute| target.map(Target::compute) == Some(compute))
            && filter.database.as_deref().is_none_or(|name| target.map(Target::database) == Some(name))
    }

    fn has_result_set(&self) -> bool {
        self.parts.iter().any(|part| part.has_result_set)
    }

    /// Returns SQL text `number`, counted from 1.
    fn sql(&self, number: usize) -> Option<SqlText> {
        self.statement.sqls().get(number.checked_sub(1)?).map(SqlText::new)
    }

    fn sub(&self, number: usize, part: &Part) -> SubStatement {
        let mut sub = SubStatement::new(self.id.sub_statement(number), part.status.clone());
        sub.error = part.error.clone();
        sub.execution_time = part.duration;
        sub.result_rows = part.rows;
        sub.result_size = part.size;
        sub.has_result_set = part.has_result_set;
        sub.created_at = Some(self.created_at);
        sub.updated_at = Some(self.updated_at);
        sub.sql = self.sql(number);
        sub
    }

    /// Returns sub-statement `number` of a batch, counted from 1. Without a number, returns the first part,
    /// which is the only part of a single statement.
    pub(crate) fn part(&self, number: Option<usize>) -> Option<&Part> {
        match number {
            None => self.parts.first(),
            Some(number) if self.is_batch() => self.parts.get(number.checked_sub(1)?),
            Some(_) => None,
        }
    }

    /// Returns the statement's entry in a listing.
    pub(crate) fn summary(&self) -> StatementSummary {
        let mut summary = StatementSummary::new(self.id.clone(), self.status.clone());
        summary.name = self.statement.name().map(str::to_owned);
        summary.created_at = Some(self.created_at);
        summary.updated_at = Some(self.updated_at);
        summary.is_batch = self.is_batch();
        summary.result_format = Some(self.statement.result_format());
        summary.session_id = self.statement.session().cloned();
        summary.sqls = self.statement.sqls().iter().map(SqlText::new).collect();
        summary.parameters = self.statement.parameters().to_vec();
        summary.secret_arn = match self.statement.target().map(Target::auth) {
            Some(Auth::Secret(arn)) => Some(arn.clone()),
            _ => None,
        };
        summary
    }
}

/// Splits `uuid:N` into the id of the statement and the number of the sub-statement.
pub(crate) fn split(id: &StatementId) -> (StatementId, Option<usize>) {
    match id.as_str().split_once(':') {
        Some((whole, number)) => (StatementId::new(whole), Some(number.parse().unwrap_or(0))),
        None => (id.clone(), None),
    }
}
