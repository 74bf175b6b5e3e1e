//! [`JobOutcome`]: the outcome of a job run.

use std::{fmt, time::Duration};

use super::JobRunState;

/// How a job run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobOutcomeKind {
    /// The run succeeded.
    Succeeded,
    /// The run failed with an error, exceeded the job's timeout, or was queued for too long.
    Failed {
        /// The state, followed by the service's message.
        error: String,
    },
    /// Another client stopped the run.
    Stopped {
        /// The state, followed by the service's message.
        error: String,
    },
    /// The [timeout](super::GlueJob::with_timeout) expired, and Glue accepted the request to stop the run.
    TimedOut {
        /// `true` if the run had not ended within the [grace time](super::GlueJob::with_cancel_grace). The
        /// attempt is then still open in the journal, and the next call with its key waits for the end.
        cancel_pending: bool,
    },
    /// The outcome cannot be proved. The run is not started again until an operator settles it.
    Unknown {
        /// The reason.
        reason: String,
        /// Instructions for the operator.
        manual_check: String,
    },
}

/// The outcome of a job run, with a link to its log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a failure is an outcome, not an error"]
pub struct JobOutcome {
    /// Name of the job.
    pub job: String,
    /// Id of the run, if known.
    pub run_id: Option<String>,
    /// How the run ended.
    pub kind: JobOutcomeKind,
    /// The state in the last response; `None` if the outcome was read from the journal.
    pub state: Option<JobRunState>,
    /// Execution time that Glue reports for the run.
    pub execution_time: Option<Duration>,
    /// Link to the log, or the names of its log groups and stream if no region is set. `None` if the id is
    /// not known.
    pub log: Option<String>,
}

/// The result of [`GlueJob::start`](super::GlueJob::start).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobStart {
    /// This call or an earlier one started the run with this id.
    Started(String),
    /// There is no run to follow: the journal contains its ending, or it cannot be proved that a run was
    /// started.
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
