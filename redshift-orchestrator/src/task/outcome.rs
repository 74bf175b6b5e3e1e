//! [`TaskOutcome`]: the outcome of an attempt at a step that is not a statement.

use std::{fmt, time::Duration};

use crate::{
    FailureKind, Origin, Status,
    journal::{Entry, EntryState, RecordedOutcome, SETTLED_AS_FAILED, SettledOutcome},
    seconds::human,
};

/// Outcome of an attempt at a step that is not a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a failure is an outcome, not an error"]
pub struct TaskOutcome {
    /// Id of the work, such as the id of a job run or the instant of a commit. The journal keeps only the ids
    /// of job runs.
    pub id: Option<String>,
    /// How the work ended.
    pub kind: TaskOutcomeKind,
    /// Time that the work took. If a [`Task`](super::Task) does not set it, the time of the call is used.
    pub execution_time: Option<Duration>,
    /// How this call obtained the outcome.
    pub origin: Origin,
}

/// How the work of a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskOutcomeKind {
    /// The work succeeded.
    Finished,
    /// The work failed.
    Failed {
        /// The error text.
        error: String,
    },
    /// Another client stopped the work.
    Aborted {
        /// The error text.
        error: String,
    },
    /// The timeout expired, and the work was stopped.
    TimedOut {
        /// `true` if the work may not have ended yet. It is then not retried, and the next call with its key
        /// waits for its end.
        may_still_run: bool,
    },
    /// The outcome cannot be proved, and the work may still be running.
    Unknown {
        /// The reason.
        reason: String,
        /// Instructions for the operator.
        manual_check: String,
    },
}

impl TaskOutcome {
    /// Creates an outcome without an id.
    pub fn new(kind: TaskOutcomeKind) -> Self {
        Self { id: None, kind, execution_time: None, origin: Origin::Submitted }
    }

    /// Creates a success without an id.
    pub fn finished() -> Self {
        Self::new(TaskOutcomeKind::Finished)
    }

    /// Creates a failure with this error text.
    pub fn failed(error: impl Into<String>) -> Self {
        Self::new(TaskOutcomeKind::Failed { error: error.into() })
    }

    /// Sets the id of the work.
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Returns `true` if the work succeeded.
    pub fn is_success(&self) -> bool {
        self.kind == TaskOutcomeKind::Finished
    }

    /// Returns the kind of the failure, or `None` for a success or an unknown outcome.
    pub fn failure(&self) -> Option<FailureKind> {
        self.kind.failure()
    }

    /// Returns `true` if the work may still be running.
    pub fn may_still_run(&self) -> bool {
        matches!(
            self.kind,
            TaskOutcomeKind::Unknown { .. } | TaskOutcomeKind::TimedOut { may_still_run: true }
        )
    }

    /// Returns the outcome in the journal, or `None` if the work is to run, perhaps again.
    pub(crate) fn recorded(entry: &Entry) -> Option<Self> {
        let (kind, execution_time) = match &entry.state {
            EntryState::Open
            | EntryState::NotSubmitted(_)
            | EntryState::Unknown(_)
            | EntryState::Settled(SettledOutcome::NeverRan) => return None,
            EntryState::Settled(SettledOutcome::Finished) => (TaskOutcomeKind::Finished, None),
            EntryState::Settled(SettledOutcome::Failed) => {
                (TaskOutcomeKind::Failed { error: SETTLED_AS_FAILED.to_owned() }, None)
            }
            EntryState::Ended(ended) => (TaskOutcomeKind::recorded(ended), ended.execution_time),
        };
        let id = entry.id.as_ref().map(ToString::to_string);
        Some(Self { id, kind, execution_time, origin: Origin::Journal })
    }

    /// Returns the record of the outcome, or `None` if the work may still be running.
    pub(super) fn to_record(&self) -> Option<RecordedOutcome> {
        let (status, error) = match &self.kind {
            TaskOutcomeKind::Finished => (Status::Finished, None),
            TaskOutcomeKind::Failed { error } => (Status::Failed, Some(error.clone())),
            TaskOutcomeKind::Aborted { error } => (Status::Aborted, Some(error.clone())),
            TaskOutcomeKind::TimedOut { may_still_run: false } => (Status::Aborted, None),
            TaskOutcomeKind::TimedOut { .. } | TaskOutcomeKind::Unknown { .. } => return None,
        };
        Some(RecordedOutcome {
            status,
            error,
            failure: self.failure(),
            timed_out: matches!(self.kind, TaskOutcomeKind::TimedOut { .. }),
            execution_time: self.execution_time,
            rows: None,
            has_result_set: false,
        })
    }
}

impl TaskOutcomeKind {
    /// Returns the outcome that the journal contains.
    pub(crate) fn recorded(ended: &RecordedOutcome) -> Self {
        let error = ended.error.clone().unwrap_or_default();
        match ended.status {
            Status::Finished => Self::Finished,
            _ if ended.timed_out => Self::TimedOut { may_still_run: false },
            Status::Aborted => Self::Aborted { error },
            _ => Self::Failed { error },
        }
    }

    /// Returns the kind of the failure, or `None` for a success or an unknown outcome.
    pub(crate) fn failure(&self) -> Option<FailureKind> {
        match self {
            Self::Finished | Self::Unknown { .. } => None,
            Self::Failed { .. } => Some(FailureKind::Task),
            Self::Aborted { .. } => Some(FailureKind::Aborted),
            Self::TimedOut { .. } => Some(FailureKind::TimedOut),
        }
    }

    /// Returns a short name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Failed { .. } => "failed",
            Self::Aborted { .. } => "aborted",
            Self::TimedOut { .. } => "timed out",
            Self::Unknown { .. } => "unknown",
        }
    }
}

impl fmt::Display for TaskOutcomeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())?;
        match self {
            Self::Finished | Self::TimedOut { .. } => Ok(()),
            Self::Failed { error } | Self::Aborted { error } => write!(f, ": {error}"),
            Self::Unknown { reason, .. } => write!(f, ": {reason}"),
        }
    }
}

impl fmt::Display for TaskOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        match (&self.kind, self.execution_time) {
            (TaskOutcomeKind::Finished, Some(time)) => write!(f, " after {}", human(time)),
            _ => Ok(()),
        }
    }
}
