//! The service's limits, and the errors it returns when a request breaks one.

use std::time::Duration;

use jiff::Timestamp;

use super::table::Table;
use redshift_orchestrator::{Error, ErrorKind, MAX_BATCH, Result, Statement, StatementId, sql};

/// The service's quotas and retention times.
///
/// The defaults are the service's values (Amazon Redshift Management Guide, "Using the Amazon Redshift Data
/// API" and its quotas).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Maximum number of active statements, that is, submitted and not yet ended. Default: 500.
    pub active_statements: usize,
    /// Maximum number of open sessions. Default: 500.
    pub active_sessions: usize,
    /// Maximum number of concurrent long polls for one statement. The service does not publish its value.
    /// Default: 1,000.
    pub waiters_per_statement: usize,
    /// Maximum length of one SQL text in bytes. Default: 100 KB.
    pub sql_bytes: usize,
    /// Maximum size of one result in bytes. Default: 500 MB.
    pub result_bytes: u64,
    /// Maximum size of one row of a result in bytes. Default: 64 KB.
    pub row_bytes: u64,
    /// Number of rows on one page of a result. The service limits pages by size instead. Default: 1,000.
    pub rows_per_page: usize,
    /// Time during which a repeated submit with the same client token returns the first statement. Default: 8
    /// hours.
    pub token_retention: Duration,
    /// Time for which the record of an ended statement is kept. Default: 24 hours.
    pub record_retention: Duration,
    /// Maximum number of expired statements whose ids are remembered. These are reported as expired, and
    /// statements that expired earlier as unknown. The service reports records as expired even days later and
    /// does not publish for how long. Default: 100,000.
    pub expired_records: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            active_statements: 500,
            active_sessions: 500,
            waiters_per_statement: 1_000,
            sql_bytes: 100 * 1024,
            result_bytes: 500 * 1024 * 1024,
            row_bytes: 64 * 1024,
            rows_per_page: 1_000,
            token_retention: Duration::from_hours(8),
            record_retention: Duration::from_hours(24),
            expired_records: 100_000,
        }
    }
}

impl Limits {
    /// Performs the checks that the service performs before it accepts a statement.
    pub(super) fn check(&self, statement: &Statement) -> Result<()> {
        let sqls = statement.sqls();
        if statement.execution_mode().is_some() && !(1..=MAX_BATCH).contains(&sqls.len()) {
            let text = format!("a batch has 1 to {MAX_BATCH} statements, but this one has {}", sqls.len());
            return Err(validation(text));
        }
        for sql in sqls {
            if sql.len() > self.sql_bytes {
                return Err(validation(format!(
                    "the SQL text has {} bytes, more than the {} allowed",
                    sql.len(),
                    self.sql_bytes
                )));
            }
            match sql::count(sql) {
                0 => return Err(validation("the SQL text is empty")),
                1 => {}
                count => {
                    return Err(validation(format!(
                        "Multiple SQL statements are not allowed: Sql must be a single SQL statement, and this text has {count}; submit them with BatchExecuteStatement"
                    )));
                }
            }
        }
        if statement.name().is_some_and(|name| name.chars().count() > 2048) {
            return Err(validation("a statement name has at most 2048 characters"));
        }
        super::session::check_keep_alive(statement.session_keep_alive())?;
        check_parameters(statement)
    }
}

impl Limits {
    /// Returns the error text for a result that exceeds the service's limits, or `None` if it fits.
    pub(super) fn refuse(&self, result: &Table) -> Option<String> {
        let row = result.rows.iter().map(|row| Table::row_size(row)).max().unwrap_or_default();
        self.refuse_row(row).or_else(|| self.refuse_result(result.size()))
    }

    /// Returns the error text for a row of this size, or `None` if it fits.
    pub(super) fn refuse_row(&self, bytes: u64) -> Option<String> {
        let limit = self.row_bytes;
        (bytes > limit).then(|| {
            format!("ERROR: Packet for query is too large: a row of the result has {bytes} bytes, more than the {limit} allowed")
        })
    }

    /// Returns the error text for a result of this size, or `None` if it fits.
    pub(super) fn refuse_result(&self, bytes: u64) -> Option<String> {
        let limit = self.result_bytes;
        (bytes > limit).then(|| {
            format!("ERROR: Database response exceeded size limit: the result is larger than the {limit} bytes allowed; UNLOAD it, or request less")
        })
    }
}

fn check_parameters(statement: &Statement) -> Result<()> {
    let parameters = statement.parameters();
    for (index, parameter) in parameters.iter().enumerate() {
        let name = &parameter.name;
        let refused = |text: String| Err(validation(text).with_context("parameter", name));
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return refused(format!(
                "the parameter name '{name}' contains characters other than letters, digits and _"
            ));
        }
        if parameter.value.is_empty() {
            return refused(format!(
                "the value of parameter '{name}' is empty, but the service requires at least one character"
            ));
        }
        if parameters[..index].iter().any(|earlier| earlier.name == *name) {
            return refused(format!("parameter '{name}' is given twice"));
        }
    }
    let used: Vec<_> = statement.sqls().iter().flat_map(|sql| sql::placeholders(sql)).collect();
    if let Some(unused) = parameters.iter().find(|parameter| !used.contains(&parameter.name.as_str())) {
        let text = format!("Parameters list contains unused parameters: no statement uses :{}", unused.name);
        return Err(validation(text).with_context("parameter", &unused.name));
    }
    // If a request has no parameters, the service does not look for placeholders.
    let known = |name: &&str| parameters.iter().any(|parameter| parameter.name == **name);
    match used.iter().find(|name| !parameters.is_empty() && !known(name)) {
        Some(missing) => {
            let text = format!("the SQL uses :{missing}, but the list has no such parameter");
            Err(validation(text).with_context("parameter", missing))
        }
        None => Ok(()),
    }
}

/// The service's `ValidationException`.
pub(super) fn validation(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message).with_code("ValidationException")
}

/// Checks that an id is a UUID, followed by `:N` for a sub-statement.
pub(super) fn check_id(id: &StatementId) -> Result<()> {
    let (uuid, number) = id.as_str().split_once(':').unwrap_or((id.as_str(), "1"));
    let well_formed = uuid.len() == 36
        && uuid::Uuid::try_parse(uuid).is_ok()
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit());
    if well_formed {
        return Ok(());
    }
    Err(validation("id must satisfy regex pattern: ^[a-z0-9]{8}(-[a-z0-9]{4}){3}-[a-z0-9]{12}(:\\d+)?$")
        .with_context("statement_id", id))
}

pub(super) fn not_found(id: &StatementId) -> Error {
    Error::new(ErrorKind::NotFound, "Query does not exist.")
        .with_code("ResourceNotFoundException")
        .with_context("statement_id", id)
}

pub(super) fn expired(id: &StatementId, at: Timestamp) -> Error {
    let text = format!("Could not retrieve the query result as it has expired after {}", at.as_second());
    Error::new(ErrorKind::RecordExpired, text)
        .with_code("ValidationException")
        .with_context("statement_id", id)
}

pub(super) fn no_result(id: &StatementId) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "Query does not have result. Please check query status with DescribeStatement.",
    )
    .with_code("ResourceNotFoundException")
    .with_context("statement_id", id)
}

pub(super) fn result_of_batch(id: &StatementId) -> Error {
    validation("the result of a batch can only be retrieved with a sub-statement id")
        .with_context("statement_id", id)
}

pub(super) fn too_many_statements(active: usize) -> Error {
    Error::new(ErrorKind::TooManyStatements, format!("Active statements limit exceeded: {active} are active"))
        .with_code("ActiveStatementsExceededException")
}

pub(super) fn too_many_waiters(id: &StatementId) -> Error {
    Error::new(ErrorKind::TooManyWaiters, "Active waiting requests limit exceeded for the statement")
        .with_code("ActiveWaitingRequestsExceededException")
        .with_context("statement_id", id)
}

pub(super) fn bad_page() -> Error {
    validation("the page token is not valid")
}
