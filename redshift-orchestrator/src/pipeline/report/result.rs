//! [`Report`]: the results of a run of a pipeline.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::{StepReport, StepStatus};

/// Results of a run of a pipeline. `Display` prints a table, the error of each failed step, and what to do
/// next. [`to_json`](Self::to_json) returns JSON, and [`to_svg`](Self::to_svg) returns a chart.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
#[must_use = "a failed step is part of the report, not an error"]
pub struct Report {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Name of the run.
    pub run: String,
    /// `true` if the journal already contained statements of the run.
    pub resumed: bool,
    /// Time at which the run began.
    pub started_at: Timestamp,
    /// Duration of the run, in seconds.
    #[serde(serialize_with = "crate::seconds::serialize")]
    pub elapsed: Duration,
    /// Results of the steps, in the order of their definition.
    pub steps: Vec<StepReport>,
}

impl Report {
    /// Returns `true` if every selected step finished.
    pub fn is_success(&self) -> bool {
        self.steps.iter().all(|step| matches!(step.status, StepStatus::Finished | StepStatus::NotSelected))
    }

    /// Returns `true` if the outcome of at least one step is unknown.
    pub fn has_unknown(&self) -> bool {
        self.steps.iter().any(|step| step.status == StepStatus::Unknown)
    }

    /// Returns `true` if at least one step was not started because the run was stopped.
    pub fn has_not_started(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.status, StepStatus::NotStarted { .. }))
    }

    /// Returns the results of the steps, in the order of their definition.
    pub fn steps(&self) -> &[StepReport] {
        &self.steps
    }

    /// Returns the result of the step with this name.
    pub fn step(&self, name: &str) -> Option<&StepReport> {
        self.steps.iter().find(|step| step.name == name)
    }

    /// Returns the steps that failed, were aborted, timed out, were not submitted, or have an unknown
    /// outcome.
    pub fn failures(&self) -> impl Iterator<Item = &StepReport> {
        self.steps.iter().filter(|step| {
            !matches!(
                step.status,
                StepStatus::Finished
                    | StepStatus::Skipped { .. }
                    | StepStatus::NotStarted { .. }
                    | StepStatus::NotSelected
            )
        })
    }

    /// Returns the report as JSON, with durations in seconds.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
