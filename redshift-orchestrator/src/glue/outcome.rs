//! [`JobOutcome`]: the outcome of a job run.

use std::{fmt, time::Duration};

use super::JobRunState;
use crate::{Origin, task::TaskOutcomeKind};

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
    pub kind: TaskOutcomeKind,
    /// The state in the last response; `None` if the outcome was read from the journal.
    pub state: Option<JobRunState>,
    /// Execution time that Glue reports for the run.
    pub execution_time: Option<Duration>,
    /// How this call obtained the outcome.
    pub origin: Origin,
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
    /// The attempt has an outcome: the journal contains the outcome of its run, or it cannot be proved that a
    /// run was started.
    Concluded(JobOutcome),
}

impl JobOutcome {
    /// Returns `true` if the run succeeded.
    pub fn is_success(&self) -> bool {
        self.kind == TaskOutcomeKind::Finished
    }
}

impl fmt::Display for JobOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.run_id {
            Some(id) => write!(f, "run {id} of job {} ", self.job)?,
            None => write!(f, "the run of job {} ", self.job)?,
        }
        match &self.kind {
            TaskOutcomeKind::Finished => f.write_str("succeeded")?,
            TaskOutcomeKind::Failed { error } => write!(f, "failed, {error}")?,
            TaskOutcomeKind::Aborted { error } => write!(f, "was stopped, {error}")?,
            TaskOutcomeKind::TimedOut { may_still_run: false } => {
                f.write_str("was stopped after its timeout")?
            }
            TaskOutcomeKind::TimedOut { may_still_run: true } => {
                f.write_str("was stopped after its timeout, and has not ended yet")?;
            }
            TaskOutcomeKind::Unknown { reason, manual_check } => {
                return write!(f, "is unknown: {reason}; {manual_check}");
            }
        }
        match (&self.log, self.is_success()) {
            (Some(log), false) => write!(f, "; log: {log}"),
            _ => Ok(()),
        }
    }
}
