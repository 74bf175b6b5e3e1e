//! [`AttemptReport`]: one attempt at a step.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    BatchPart, Error, FailureKind, Outcome, OutcomeKind, Result, StatementId, StepKey,
    seconds::human,
    task::{TaskOutcome, TaskOutcomeKind},
};

/// One attempt at a step, or at a part of its batch. Times are counted from the beginning of the run and
/// serialized in seconds.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct AttemptReport {
    /// Number of the attempt, starting at 1. Attempts of earlier processes are counted.
    pub number: u32,
    /// Part of the step's batch, if the batch exceeds the service's maximum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<BatchPart>,
    /// Id of the statement, of the job run, or of a Hudi commit, if known.
    pub statement_id: Option<StatementId>,
    /// Name of the statement in the service.
    pub statement_name: Option<String>,
    /// How this process obtained the outcome: `submitted`, `reattached` or `journal` (see
    /// [`Origin`](crate::Origin)).
    pub origin: &'static str,
    /// Time at which the attempt began.
    #[serde(serialize_with = "crate::seconds::serialize")]
    pub started: Duration,
    /// Time at which this process received the outcome.
    #[serde(serialize_with = "crate::seconds::serialize")]
    pub ended: Duration,
    /// Execution time in the database, or time that a task took.
    #[serde(serialize_with = "crate::seconds::optional::serialize", rename = "executing")]
    pub execution_time: Option<Duration>,
    /// Time between `started` and `ended` that is not execution time: requests, the service's queue, and the
    /// delay until a poll returned the outcome.
    #[serde(serialize_with = "crate::seconds::serialize")]
    pub waiting: Duration,
    /// Result, such as `finished` or `timed out`.
    pub result: &'static str,
    /// Kind of the failure, which determines whether a retry can help.
    pub failure: Option<FailureKind>,
    /// Error text of the database, the service or the task.
    pub error: Option<String>,
    /// Commands and queries for an operator, if the outcome cannot be proved.
    #[serde(rename = "check")]
    pub manual_check: Option<String>,
    /// `true` if the statement or task may still be running, because its outcome is unknown or its
    /// cancellation has not taken effect yet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub may_still_run: bool,
    /// Number of rows in the result, or number of rows that the statement affected.
    pub rows: Option<u64>,
    /// Number of submits.
    pub submits: u32,
    /// Number of polls.
    pub describes: u32,
    /// Number of retried errors, by kind.
    pub retried_errors: BTreeMap<&'static str, u32>,
}

/// Result of a statement, or of a task with the timeout of its step.
pub(in crate::pipeline) enum AttemptResult {
    Statement(Box<Result<Outcome>>),
    Task { result: Result<TaskOutcome>, timeout: Option<Duration> },
}

impl AttemptResult {
    pub(in crate::pipeline) fn statement(result: Result<Outcome>) -> Self {
        Self::Statement(Box::new(result))
    }
}

impl AttemptReport {
    pub(in crate::pipeline) fn new(
        key: &StepKey,
        started: Duration,
        ended: Duration,
        result: AttemptResult,
    ) -> Self {
        let mut report = Self::not_submitted(key, started, ended);
        match result {
            AttemptResult::Statement(result) => match *result {
                Ok(outcome) => report.fill(outcome),
                Err(error) => report.fill_error(&error),
            },
            AttemptResult::Task { result: Ok(outcome), timeout } => report.fill_task(outcome, timeout),
            AttemptResult::Task { result: Err(error), .. } => report.fill_error(&error),
        }
        report
    }

    /// Reports an attempt that did not run.
    fn not_submitted(key: &StepKey, started: Duration, ended: Duration) -> Self {
        Self {
            number: key.attempt,
            part: key.part,
            statement_id: None,
            statement_name: None,
            origin: "submitted",
            started,
            ended,
            execution_time: None,
            waiting: ended.saturating_sub(started),
            result: "not submitted",
            failure: Some(FailureKind::NotSubmitted),
            error: None,
            manual_check: None,
            may_still_run: false,
            rows: None,
            submits: 0,
            describes: 0,
            retried_errors: BTreeMap::new(),
        }
    }

    fn fill_task(&mut self, outcome: TaskOutcome, timeout: Option<Duration>) {
        self.failure = outcome.failure();
        self.may_still_run = outcome.may_still_run();
        self.execution_time = outcome.execution_time;
        self.waiting = (self.ended - self.started).saturating_sub(outcome.execution_time.unwrap_or_default());
        self.origin = outcome.origin.as_str();
        self.result = outcome.kind.as_str();
        self.statement_id = outcome.id.map(StatementId::new);
        match outcome.kind {
            TaskOutcomeKind::Finished => {}
            TaskOutcomeKind::Failed { error } | TaskOutcomeKind::Aborted { error } => {
                self.error = Some(error);
            }
            TaskOutcomeKind::TimedOut { may_still_run } => {
                let after = timeout.map_or_else(String::new, |timeout| format!(" after {}", human(timeout)));
                self.error = Some(match may_still_run {
                    true => format!("stopped{after}, but not ended yet; `resume` waits for its end"),
                    false => format!("stopped{after}"),
                });
            }
            TaskOutcomeKind::Unknown { reason, manual_check } => {
                self.error = Some(reason);
                self.manual_check = Some(manual_check);
            }
        }
    }

    fn fill(&mut self, outcome: Outcome) {
        self.execution_time = outcome.execution_time();
        self.may_still_run = outcome.may_still_run();
        self.waiting = (self.ended - self.started).saturating_sub(self.execution_time.unwrap_or_default());
        self.failure = outcome.failure();
        self.rows = outcome.description.and_then(|description| description.result_rows);
        self.submits = outcome.requests.submits;
        self.describes = outcome.requests.describes;
        self.retried_errors =
            outcome.requests.retried_errors.into_iter().map(|(kind, count)| (kind.as_str(), count)).collect();
        self.origin = outcome.origin.as_str();
        self.result = outcome.kind.as_str();
        match outcome.kind {
            OutcomeKind::Finished => {}
            OutcomeKind::Failed { error, .. } => self.error = Some(error),
            OutcomeKind::Aborted => self.error = Some("cancelled on request, or by the service".to_owned()),
            OutcomeKind::TimedOut { timeout, .. } => {
                let timeout = human(timeout);
                self.error = Some(match self.may_still_run {
                    true => format!(
                        "cancelled after {timeout}, but still running in the database; `resume` waits for its end"
                    ),
                    false => format!("cancelled after {timeout}"),
                });
            }
            OutcomeKind::Unknown(unknown) => {
                self.error = Some(unknown.to_string());
                self.manual_check = Some(unknown.manual_check());
            }
        }
        self.statement_id = outcome.id;
        self.statement_name = Some(outcome.name);
    }

    fn fill_error(&mut self, error: &Error) {
        self.error = Some(error.to_string());
        if error.may_have_run() {
            self.statement_id = error.submitted().cloned();
            (self.result, self.failure, self.may_still_run) = ("unknown", None, true);
        }
    }

    /// Returns `attempt 1`, or `attempt 1 part 2 of 3`.
    pub(in crate::pipeline) fn title(&self) -> String {
        let part = self.part.map_or_else(String::new, |part| format!(" {part}"));
        format!("attempt {}{part}", self.number)
    }

    /// Returns the total number of retried errors.
    pub fn total_retried_errors(&self) -> u32 {
        self.retried_errors.values().sum()
    }
}
