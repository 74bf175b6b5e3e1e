//! [`JobOutcome`]: the end of a job run.

use std::{fmt, time::Duration};

use super::JobRunState;

/// The end of a job run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobEnding {
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
    /// The [timeout](super::GlueJob::with_timeout) expired, and the run was stopped.
    TimedOut,
    /// It cannot be proved. The run is never started again until an operator settles it.
    Unknown {
        /// The reason.
        reason: String,
        /// Instructions for the operator.
        what_to_check: String,
    },
}

/// The end of a run, and where to read more.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobOutcome {
    /// The job.
    pub job: String,
    /// The id of the run, if it is known.
    pub run_id: Option<String>,
    /// Its end.
    pub ending: JobEnding,
    /// The state in the last response; `None` if the end was read from the journal.
    pub state: Option<JobRunState>,
    /// The time that the run took.
    pub execution: Option<Duration>,
    /// A link to the log, or its name.
    pub log: Option<String>,
}

impl JobOutcome {
    /// Returns `true` if the run succeeded.
    pub fn is_success(&self) -> bool {
        self.ending == JobEnding::Succeeded
    }
}

impl fmt::Display for JobOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.run_id {
            Some(id) => write!(f, "run {id} of job {} ", self.job)?,
            None => write!(f, "the run of job {} ", self.job)?,
        }
        match &self.ending {
            JobEnding::Succeeded => f.write_str("succeeded")?,
            JobEnding::Failed { error } => write!(f, "failed, {error}")?,
            JobEnding::Stopped { error } => write!(f, "was stopped, {error}")?,
            JobEnding::TimedOut => f.write_str("was stopped after its timeout")?,
            JobEnding::Unknown { reason, what_to_check } => {
                return write!(f, "is unknown: {reason}; {what_to_check}");
            }
        }
        match (&self.log, self.is_success()) {
            (Some(log), false) => write!(f, "; log: {log}"),
            _ => Ok(()),
        }
    }
}
