//! [`JobOutcome`]: the outcome of a job run.

use std::{fmt, time::Duration};

use super::JobRunState;

/// How a job run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobOutcomeKind {
    /// It succeeded.
    Succeeded,
    /// It failed: by its own error, by the job's timeout, or because it was queued for too long. The text
    /// begins with the state.
    Failed {
        /// The state and the service's message.
        error: String,
    },
    /// Another client stopped it.
    Stopped {
        /// The state and the service's message.
        error: String,
    },
    /// The [timeout](super::GlueJob::with_timeout) expired, and Glue accepted to stop the run.
    TimedOut {
        /// `true` if the run had not ended within the [grace time](super::GlueJob::with_cancel_grace). The attempt
        /// then stays open in the journal, and the next call with its key waits for the end.
        cancel_pending: bool,
    },
    /// It cannot be proved. The run is never started again until an operator settles it.
    Unknown {
        /// The reason.
        reason: String,
        /// Instructions for the operator.
        manual_check: String,
    },
}

/// The outcome of a job run, with the place of its log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a failure is an outcome, not an error"]
pub struct JobOutcome {
    /// The job.
    pub job: String,
    /// The id of the run, if it is known.
    pub run_id: Option<String>,
    /// How it ended.
    pub kind: JobOutcomeKind,
    /// The state in the last response; `None` if the outcome was read from the journal.
    pub state: Option<JobRunState>,
    /// The time that the run took.
    pub execution_time: Option<Duration>,
    /// A link to the log, or its name.
    pub log: Option<String>,
}

/// The result of [`GlueJob::start`](super::GlueJob::start).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobStart {
    /// There is a run with this id, started by this call or an earlier one.
    Started(String),
    /// There is nothing to follow: the end is recorded, or the start cannot be proved.
    Over(JobOutcome),
}

impl JobOutcome {
    /// Returns `true` if the run succeeded.
    pub fn is_success(&self) -> bool {
        self.kind == JobOutcomeKind::Succeeded
    }
}

impl fmt::Display for JobOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.run_id {
            Some(id) => write!(f, "run {id} of job {} ", self.job)?,
            None => write!(f, "the run of job {} ", self.job)?,
        }
        match &self.kind {
            JobOutcomeKind::Succeeded => f.write_str("succeeded")?,
            JobOutcomeKind::Failed { error } => write!(f, "failed, {error}")?,
            JobOutcomeKind::Stopped { error } => write!(f, "was stopped, {error}")?,
            JobOutcomeKind::TimedOut { cancel_pending: false } => {
                f.write_str("was stopped after its timeout")?
            }
            JobOutcomeKind::TimedOut { cancel_pending: true } => {
                f.write_str("was stopped after its timeout, and has not ended yet")?;
            }
            JobOutcomeKind::Unknown { reason, manual_check } => {
                return write!(f, "is unknown: {reason}; {manual_check}");
            }
        }
        match (&self.log, self.is_success()) {
            (Some(log), false) => write!(f, "; log: {log}"),
            _ => Ok(()),
        }
    }
}
