//! [`StepReport`]: the result of a step.

use std::collections::BTreeSet;

use serde::Serialize;

use super::AttemptReport;
use crate::{pipeline::Step, task::TaskKind};

/// Result of a step.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct StepReport {
    /// Name of the step.
    pub name: String,
    /// Kind of the task, or `None` for a statement or batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskKind>,
    /// Status of the step.
    #[serde(flatten)]
    pub status: StepStatus,
    /// Names of the steps on which the step depends.
    pub after: Vec<String>,
    /// Attempts in this process, in order. The journal contains the attempts of earlier processes.
    pub attempts: Vec<AttemptReport>,
}

/// Status of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StepStatus {
    /// The step succeeded.
    Finished,
    /// The last attempt ended with an error.
    Failed,
    /// Another client or the service cancelled the last attempt.
    Aborted,
    /// The timeout of the last attempt expired, and the attempt was cancelled.
    TimedOut,
    /// The outcome of the last attempt cannot be proved.
    Unknown,
    /// The statement or task of the last attempt did not run.
    NotSubmitted,
    /// The step did not run, because a step on which it depends did not finish.
    Skipped {
        /// The step that did not finish.
        because_of: String,
    },
    /// The run was stopped before the step, or a part of its batch, was started.
    NotStarted {
        /// The step that stopped the run, `the request to stop`, or the loss of the run's claim.
        because_of: String,
    },
    /// The run does not select the step.
    NotSelected,
}

impl StepStatus {
    /// Returns a short name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
            Self::TimedOut => "timed out",
            Self::Unknown => "unknown",
            Self::NotSubmitted => "not submitted",
            Self::Skipped { .. } => "skipped",
            Self::NotStarted { .. } => "not started",
            Self::NotSelected => "not selected",
        }
    }
}

impl StepReport {
    pub(in crate::pipeline) fn new(step: &Step, status: StepStatus, attempts: Vec<AttemptReport>) -> Self {
        Self {
            name: step.name().to_owned(),
            task: step.task().map(|work| work.kind()),
            status,
            after: step.dependencies().to_vec(),
            attempts,
        }
    }

    /// Returns `true` if a statement or task of the last attempt may still be running.
    pub(in crate::pipeline) fn may_still_run(&self) -> bool {
        self.status == StepStatus::Unknown || self.attempts.last().is_some_and(|last| last.may_still_run)
    }

    /// Returns the report of the last attempt. If the attempt has parts, returns the last part.
    pub fn last_attempt(&self) -> Option<&AttemptReport> {
        self.attempts.last()
    }

    /// Returns the number of attempts in this process. An attempt with several parts counts once.
    pub fn attempt_count(&self) -> u32 {
        let numbers: BTreeSet<_> = self.attempts.iter().map(|attempt| attempt.number).collect();
        u32::try_from(numbers.len()).unwrap_or(u32::MAX)
    }

    /// Returns the parts of the last attempt that did not finish.
    pub(super) fn unfinished(&self) -> impl Iterator<Item = &AttemptReport> {
        let last = self.attempts.last().map(|attempt| attempt.number);
        self.attempts
            .iter()
            .filter(move |attempt| Some(attempt.number) == last && attempt.result != "finished")
    }
}
