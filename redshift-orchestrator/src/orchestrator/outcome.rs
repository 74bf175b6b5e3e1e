//! [`Outcome`]: the result of one attempt at a step.

use std::{fmt, time::Duration};

use jiff::{SignedDuration, Timestamp};

use crate::{Description, FailureKind, StatementId, StepKey, seconds::human, wait::RequestCounts};

/// Result of an attempt at a step. Every submitted statement gets one of the variants of [`OutcomeKind`].
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a failure is an outcome, not an error"]
pub struct Outcome {
    /// The attempt.
    pub key: StepKey,
    /// The name of the statement in the service.
    pub name: String,
    /// The id of the statement, if it is known.
    pub id: Option<StatementId>,
    /// How the statement ended.
    pub kind: OutcomeKind,
    /// The service's last description of the statement. If the outcome was read from the journal, the
    /// description contains only the fields of [`RecordedOutcome`](crate::journal::RecordedOutcome).
    pub description: Option<Description>,
    /// Requests sent by this call.
    pub requests: RequestCounts,
    /// Time from the beginning of this call until it received the statement's id. `None` if the journal
    /// contained the id, or if the id is not known.
    pub submitted_after: Option<Duration>,
    /// Duration of this call.
    pub elapsed: Duration,
    /// How this call obtained the outcome.
    pub origin: Origin,
}

/// Outcomes of the parts of a batch, in the order of the batch.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a failure is an outcome, not an error"]
pub struct BatchOutcome {
    /// Outcomes of the parts that were run.
    pub parts: Vec<Outcome>,
    /// Number of parts that were skipped, because an earlier part was cancelled, timed out or has an unknown
    /// outcome, or because the timeout of the batch expired between two parts.
    pub skipped: usize,
}

impl BatchOutcome {
    /// Returns `true` if every part ran and finished.
    pub fn is_success(&self) -> bool {
        self.skipped == 0 && self.parts.iter().all(Outcome::is_success)
    }
}

/// How a statement ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutcomeKind {
    /// The statement succeeded.
    Finished,
    /// The database ended the statement with an error. Changes that the statement had not committed were
    /// rolled back.
    Failed {
        /// The reason, which determines whether a retry can help.
        kind: FailureKind,
        /// The error text of the database.
        error: String,
    },
    /// The statement was cancelled by another client or by the service.
    Aborted,
    /// The timeout expired, and the cancellation was accepted.
    TimedOut {
        /// The timeout.
        timeout: Duration,
        /// `true` if the statement had not ended within the [grace
        /// time](crate::Orchestrator::with_cancel_grace). The attempt is then still open in the journal, and
        /// is not retried until the statement has ended.
        cancel_pending: bool,
    },
    /// The outcome cannot be proved. The next call with the same key tries again to find it out. If the service
    /// still remembers the client token, that call submits the statement again with the same token. An
    /// operator who runs the statement by hand must first [settle](crate::Orchestrator::settle) it.
    Unknown(Box<UnknownOutcome>),
}

/// How a call obtained an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The call submitted the statement.
    Submitted,
    /// The call found the statement in the service. An earlier call wrote the intent, or the response to this
    /// call's submit was lost.
    Reattached,
    /// The outcome was already in the journal.
    Journal,
}

impl Origin {
    /// Returns the name in reports.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Reattached => "reattached",
            Self::Journal => "journal",
        }
    }
}

/// Reason why the outcome of a statement cannot be proved, with the data that an operator needs to
/// investigate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownOutcome {
    /// The reason.
    pub reason: UnknownReason,
    /// The underlying error as text.
    pub error: Option<String>,
    /// Name of the statement in the service, by which an operator can search for it.
    pub name: String,
    /// The id of the statement, if it is known.
    pub id: Option<StatementId>,
    /// Time of the intent. The statement was not submitted earlier.
    pub intended_at: Timestamp,
}

/// Reason why the outcome of a statement cannot be proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UnknownReason {
    /// The service deleted its record of the statement. Records are kept for 24 hours.
    RecordExpired,
    /// The service does not know the id. The account, region or role may differ from those of the submit.
    IdNotFound,
    /// The submit may have taken effect, its token is older than 8 hours, and no listing contains the name.
    NotListed,
    /// The submit may have taken effect more than 24 hours ago, and the service has deleted its record since.
    SubmitTooOld,
    /// The submit may have taken effect, but its response was lost, and no listing contained the statement.
    NoResponse,
    /// The service denies access to the statement.
    AccessDenied,
    /// The timeout expired, and the statement could not be cancelled.
    NotCancelled,
    /// The step's SQL or parameters have changed since the intent was written, so the submit cannot be
    /// repeated with the same token, and no listing contains the statement of the intent.
    Redefined,
}

impl UnknownReason {
    /// Returns the reason as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RecordExpired => "the service no longer has a record of it",
            Self::IdNotFound => "the service does not know its id",
            Self::NotListed => "its submit was more than 8 hours ago and no listing shows it",
            Self::SubmitTooOld => "its submit was more than 24 hours ago",
            Self::NoResponse => "its submit got no response",
            Self::AccessDenied => "the service denies access to it",
            Self::NotCancelled => "its timeout expired and it could not be cancelled",
            Self::Redefined => "its step was redefined before its submit was confirmed",
        }
    }
}

impl fmt::Display for UnknownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl UnknownOutcome {
    /// Returns commands and queries by which an operator can find the statement: in the service's record and
    /// listing (kept for 24 hours), and in Redshift's query log (7 days).
    pub fn manual_check(&self) -> String {
        manual_check(&self.name, self.id.as_ref(), self.intended_at)
    }
}

/// Returns commands and queries that find a statement with this name, submitted at `intended_at` or later.
///
/// The service can be searched by id and name. Redshift's system views contain neither of them, so the query
/// selects by time: 33 hours from the intent. This covers the 8 hours in which a submit is repeated, and a
/// day in the queue of the database. A statement can start later if its first submit waited for longer in the
/// queue of a [layer](crate::layer). Rows whose SQL [contains the
/// name](crate::Orchestrator::with_names_in_sql) certainly belong to the statement and come first. The other
/// rows can only be compared by time and text. A query with the status `success` may still have been rolled
/// back with its transaction. Only superusers can see the status of the transaction.
pub(crate) fn manual_check(name: &str, id: Option<&StatementId>, intended_at: Timestamp) -> String {
    const FORMAT: &str = "%Y-%m-%d %H:%M:%S";
    let record =
        id.map_or_else(String::new, |id| format!("aws redshift-data describe-statement --id {id}\n"));
    let listing = format!(
        "aws redshift-data list-statements --status ALL --statement-name '{}'",
        name.replace('\'', "'\\''")
    );
    let last = intended_at.saturating_add(SignedDuration::from_hours(33)).unwrap_or(Timestamp::MAX);
    let log = format!(
        "SELECT CASE WHEN query_text LIKE '%{}%' THEN 'this one' ELSE '' END AS named, query_id, transaction_id, status, start_time, \
         end_time, error_message, query_text FROM sys_query_history WHERE start_time BETWEEN '{}' AND '{}' AND query_text NOT LIKE \
         '%sys_query_history%' ORDER BY named DESC, start_time",
        digest(name),
        intended_at.strftime(FORMAT),
        last.strftime(FORMAT)
    );
    let commit = "-- whether it committed, for superusers: SELECT status FROM sys_transaction_history WHERE transaction_id = ...";
    format!("{record}{listing}\n{log}\n{commit}")
}

/// Returns the digest at the end of a statement's name. The digest identifies the name, and contains only
/// letters and digits, so it needs no escaping in SQL.
pub(crate) fn digest(name: &str) -> &str {
    let digest = name.rsplit(' ').next().unwrap_or_default();
    if digest.bytes().all(|byte| byte.is_ascii_alphanumeric()) { digest } else { "" }
}

impl fmt::Display for UnknownOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        self.error.as_ref().map_or(Ok(()), |error| write!(f, ": {error}"))
    }
}

impl Outcome {
    /// Returns `true` if the statement succeeded.
    pub fn is_success(&self) -> bool {
        self.kind == OutcomeKind::Finished
    }

    /// Returns the execution time in the database.
    pub fn execution_time(&self) -> Option<Duration> {
        self.description.as_ref().and_then(|description| description.execution_time)
    }

    /// Returns the reason of a failure; `None` if the statement finished or its outcome is unknown.
    pub fn failure(&self) -> Option<FailureKind> {
        match &self.kind {
            OutcomeKind::Finished | OutcomeKind::Unknown(_) => None,
            OutcomeKind::Failed { kind, .. } => Some(*kind),
            OutcomeKind::Aborted => Some(FailureKind::Aborted),
            OutcomeKind::TimedOut { .. } => Some(FailureKind::TimedOut),
        }
    }

    /// Returns `true` if the statement may still be running, because its outcome is unknown or its
    /// cancellation has not taken effect yet.
    pub fn may_still_run(&self) -> bool {
        matches!(self.kind, OutcomeKind::Unknown(_) | OutcomeKind::TimedOut { cancel_pending: true, .. })
    }
}

impl OutcomeKind {
    /// Returns `true` if the next part of a divided batch may run after this outcome. A failed statement does
    /// not prevent the next statements from running, as in an undivided batch.
    pub(crate) fn allows_next_part(&self) -> bool {
        matches!(self, Self::Finished | Self::Failed { .. })
    }

    /// Returns a short name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Failed { .. } => "failed",
            Self::Aborted => "aborted",
            Self::TimedOut { .. } => "timed out",
            Self::Unknown(_) => "unknown",
        }
    }
}

impl fmt::Display for OutcomeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Failed { kind, error } => write!(f, "failed ({kind}): {error}"),
            Self::Aborted => f.write_str("aborted"),
            Self::TimedOut { timeout, cancel_pending: false } => {
                write!(f, "timed out after {} and was cancelled", human(*timeout))
            }
            Self::TimedOut { timeout, cancel_pending: true } => {
                write!(f, "timed out after {} and was cancelled, but has not ended yet", human(*timeout))
            }
            Self::Unknown(unknown) => write!(f, "unknown: {unknown}"),
        }
    }
}
