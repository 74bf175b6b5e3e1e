//! [`Totals`]: sums over the attempts of runs.

use std::time::Duration;

use serde::Serialize;

use super::Report;

/// Sums over the attempts of one run or several runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Totals {
    /// Number of attempts with a statement id. Attempts whose outcome was read from the journal are not
    /// counted, here and in the other fields except `retries`.
    pub statements: u32,
    /// Number of attempts at Glue jobs and Hudi tables.
    #[serde(skip_serializing_if = "is_zero")]
    pub tasks: u32,
    /// Number of attempts beyond the first one of each step.
    pub retries: u32,
    /// Number of submits.
    pub submits: u32,
    /// Number of polls.
    pub describes: u32,
    /// Number of retried errors.
    pub retried_errors: u32,
    /// Sum of the execution times in the database, in seconds. Can exceed the duration of the run, because
    /// statements run concurrently.
    #[serde(serialize_with = "crate::seconds::serialize", rename = "executing")]
    pub execution_time: Duration,
    /// Sum of the [waiting times](super::AttemptReport::waiting) of the attempts, in seconds.
    #[serde(serialize_with = "crate::seconds::serialize")]
    pub waiting: Duration,
}

/// Omits a count from JSON.
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Totals {
    /// Adds the sums of `other`.
    pub fn add(&mut self, other: &Self) {
        self.statements += other.statements;
        self.tasks += other.tasks;
        self.retries += other.retries;
        self.submits += other.submits;
        self.describes += other.describes;
        self.retried_errors += other.retried_errors;
        self.execution_time += other.execution_time;
        self.waiting += other.waiting;
    }
}

impl Report {
    /// Returns the sums over all steps.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for step in &self.steps {
            totals.retries += step.attempt_count().saturating_sub(1);
            for attempt in step.attempts.iter().filter(|attempt| attempt.origin != "journal") {
                let is_task = step.task.is_some();
                totals.tasks += u32::from(is_task && attempt.result != "not submitted");
                totals.statements += u32::from(!is_task && attempt.statement_id.is_some());
                totals.submits += attempt.submits;
                totals.describes += attempt.describes;
                totals.retried_errors += attempt.total_retried_errors();
                totals.execution_time += attempt.execution_time.unwrap_or_default();
                totals.waiting += attempt.waiting;
            }
        }
        totals
    }
}
