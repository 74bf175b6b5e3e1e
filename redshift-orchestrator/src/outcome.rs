//! [`Outcome`]: how an attempt at a step ended, in the caller's hands.

use std::{fmt, time::Duration};

use jiff::{SignedDuration, Timestamp};

use crate::{Description, FailureKind, StatementId, StepKey, seconds::human, wait::Effort};

/// How a submitted statement ended. Every one of them ends as one of these.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// What it was run for.
    pub key: StepKey,
    /// The statement name it bears.
    pub name: String,
    /// The service's id, if it became known.
    pub id: Option<StatementId>,
    /// How it ended.
    pub result: Conclusion,
    /// What the service said last. From a journal it holds only what was written there.
    pub description: Option<Description>,
    /// What became of it when its time was over; `None` if it ended in time, and from a journal that does not say.
    pub overrun: Option<Overrun>,
    /// What this call took.
    pub effort: Effort,
    /// How long after the beginning of this call the service had accepted it, if this call submitted it.
    pub submitted_after: Option<Duration>,
    /// How long this call took.
    pub elapsed: Duration,
    /// How this call came by it.
    pub origin: Origin,
}

/// How a statement ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Conclusion {
    /// It did its work.
    Finished,
    /// The database ended it with an error; it left nothing behind but what it committed itself.
    Failed {
        /// Why, by what a retry can do about it.
        kind: FailureKind,
        /// Why, in the database's words.
        error: String,
    },
    /// It was cancelled by somebody else, or by the service.
    Aborted,
    /// Its time was over, and it was cancelled.
    TimedOut {
        /// How long it was given.
        limit: Duration,
    },
    /// What became of it cannot be proved. It is never submitted again by itself.
    Unknown(Box<Unknown>),
}

/// What became of a statement whose time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overrun {
    /// It was cancelled: the outcome is [`Conclusion::TimedOut`].
    Cancelled,
    /// It ended just before the cancellation reached it: the outcome says how.
    EndedBefore,
    /// It could not be cancelled, and runs on as far as is known: the outcome is [`Conclusion::Unknown`], because of
    /// [`UnknownReason::NotCancelled`].
    NotCancelled,
}

/// How a call came by an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// It submitted the statement.
    Submitted,
    /// It found the intent of an earlier process, and the statement in the service.
    Reattached,
    /// It was in the journal already.
    Journal,
}

/// Why the fate of a statement cannot be proved, and what to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unknown {
    /// Why.
    pub reason: UnknownReason,
    /// The error behind it, as printed.
    pub error: Option<String>,
    /// The statement name to look for.
    pub name: String,
    /// The service's id, if it became known.
    pub id: Option<StatementId>,
    /// The statement was not submitted before this.
    pub intended_at: Timestamp,
}

/// Why the fate of a statement cannot be proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UnknownReason {
    /// The service keeps the record of a statement for 24 hours, and they are over.
    RecordExpired,
    /// The service does not know the id: another account, region or role than the one that submitted it?
    IdNotKnown,
    /// The submit may have taken effect, its token is older than 8 hours, and a listing does not show the name.
    NotListed,
    /// The submit may have taken effect, and more than 24 hours went by since.
    TooLate,
    /// The submit may have taken effect, and the service did not answer well in time.
    NoAnswer,
    /// The service refuses to tell.
    NotTold,
    /// The time was over, and the statement could not be cancelled.
    NotCancelled,
    /// The step's SQL or parameters are others than those of the open intent, which no listing shows.
    Redefined,
}

impl UnknownReason {
    /// The reason in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RecordExpired => "the service's record of it expired after 24 hours",
            Self::IdNotKnown => "the service does not know its id",
            Self::NotListed => "its submit was more than 8 hours ago and no listing shows it",
            Self::TooLate => "its submit was more than 24 hours ago",
            Self::NoAnswer => "its submit was not answered",
            Self::NotTold => "the service does not tell",
            Self::NotCancelled => "its time was over and it could not be cancelled",
            Self::Redefined => "its step was redefined before its submit was confirmed",
        }
    }
}

impl fmt::Display for UnknownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Unknown {
    /// What a person can look at: the service's record and its listing by name (24 hours), and Redshift's own log of queries (7 days).
    pub fn what_to_check(&self) -> String {
        what_to_check(&self.name, self.id.as_ref(), self.intended_at)
    }
}

/// Where a statement of this name can be seen, that was not submitted before this.
///
/// The service knows it by id and name. Redshift's own views know neither: a row is its own for certain only if its SQL
/// [has the name in it](crate::Orchestrator::with_names_in_sql), and those rows come first; of the others, time and text tell. It was submitted within
/// 8 hours, and waits for at most a day. That a query ended well proves nothing until its transaction did, which only superusers see.
pub(crate) fn what_to_check(name: &str, id: Option<&StatementId>, intended_at: Timestamp) -> String {
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

/// The digest at the end of a statement's name: it is the name's own, and nothing in it means anything in SQL.
pub(crate) fn digest(name: &str) -> &str {
    let digest = name.rsplit(' ').next().unwrap_or_default();
    if digest.bytes().all(|byte| byte.is_ascii_alphanumeric()) { digest } else { "" }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        self.error.as_ref().map_or(Ok(()), |error| write!(f, ": {error}"))
    }
}

impl Outcome {
    /// Whether the statement did its work.
    pub fn is_finished(&self) -> bool {
        self.result == Conclusion::Finished
    }

    /// How long the database worked on it.
    pub fn executing(&self) -> Option<Duration> {
        self.description.as_ref().and_then(|description| description.duration)
    }

    /// Why it did not succeed, by what a retry can do about it; `None` when it finished, and when it is unknown.
    pub fn failure(&self) -> Option<FailureKind> {
        match &self.result {
            Conclusion::Finished | Conclusion::Unknown(_) => None,
            Conclusion::Failed { kind, .. } => Some(*kind),
            Conclusion::Aborted => Some(FailureKind::Aborted),
            Conclusion::TimedOut { .. } => Some(FailureKind::TimedOut),
        }
    }
}

impl Conclusion {
    /// Whether what comes next in a row of batches may follow: in a single batch, a statement that fails leaves the others to run.
    pub(crate) fn lets_others_run(&self) -> bool {
        matches!(self, Self::Finished | Self::Failed { .. })
    }

    /// A word for it.
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

impl fmt::Display for Conclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Failed { kind, error } => write!(f, "failed ({kind}): {error}"),
            Self::Aborted => f.write_str("aborted"),
            Self::TimedOut { limit } => write!(f, "timed out after {} and was cancelled", human(*limit)),
            Self::Unknown(unknown) => write!(f, "unknown: {unknown}"),
        }
    }
}
