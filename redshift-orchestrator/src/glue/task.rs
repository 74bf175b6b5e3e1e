//! Conversion of a [`JobOutcome`] into the outcome of a pipeline's step.

use super::JobOutcome;
use crate::task::{TaskOutcome, TaskOutcomeKind};

impl From<JobOutcome> for TaskOutcome {
    /// Adds the link to the log to the error text.
    fn from(outcome: JobOutcome) -> Self {
        let JobOutcome { run_id, kind, execution_time, log, origin, .. } = outcome;
        let with_log = |error: String| match &log {
            Some(log) => format!("{error}; log: {log}"),
            None => error,
        };
        let kind = match kind {
            TaskOutcomeKind::Failed { error } => TaskOutcomeKind::Failed { error: with_log(error) },
            TaskOutcomeKind::Aborted { error } => TaskOutcomeKind::Aborted { error: with_log(error) },
            kind => kind,
        };
        Self { id: run_id, kind, execution_time, origin }
    }
}
