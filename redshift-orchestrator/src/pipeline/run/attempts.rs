//! [`StepAttempts`]: the attempts at one step. An attempt runs one statement, the parts of a long batch, or a
//! task.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::STOP;
use crate::{
    Error, ErrorKind, FailureKind, Orchestrator, OutcomeKind, ProgressEvent, Statement, StepKey,
    journal::Entry,
    orchestrator::CutShort,
    pipeline::{AttemptReport, Step, StepReport, StepStatus, StepWork, StopSignal, report::AttemptResult},
    task::{TaskOutcomeKind, TaskWork},
};

/// Inputs for the attempts at one step.
pub(super) struct StepAttempts<'a> {
    pub(super) orchestrator: &'a Orchestrator,
    pub(super) step: &'a Step,
    pub(super) work: StepWork<Statement>,
    pub(super) key: StepKey,
    /// Journal entries of earlier processes for the step's last attempt.
    pub(super) entries: Vec<Entry>,
    /// Time at which the run began.
    pub(super) begun: Instant,
    pub(super) stop: &'a StopSignal,
}

/// State of an attempt: the results of its statement, of the parts of its batch, or of its task.
struct Attempt {
    status: StepStatus,
    /// Kinds of the failures; more than one only for an attempt with parts. The attempt is retried only if
    /// the retry policy lists all of these kinds.
    failures: Vec<FailureKind>,
    /// Reports of the attempt's statements, or of its task.
    reports: Vec<AttemptReport>,
}

impl StepAttempts<'_> {
    /// Makes attempts until one succeeds, one fails with a kind that is not retried, the maximum number of
    /// attempts is reached, or a stop is requested.
    pub(super) async fn run_until_done(mut self) -> StepReport {
        let mut reports = Vec::new();
        for tried in 1.. {
            let attempt = self.run_once().await;
            reports.extend(attempt.reports);
            let Some((failure, pause)) = self.next_retry(tried, &attempt.failures) else {
                return StepReport::new(self.step, attempt.status, reports);
            };
            self.orchestrator.observe(&self.key, &ProgressEvent::StepRetried { failure, pause });
            tokio::select! {
                () = sleep(pause) => {}
                () = self.stop.requested() => return StepReport::new(self.step, attempt.status, reports),
            }
            // If no statement of the attempt ran, the same attempt is repeated. Otherwise, the next attempt
            // has a new number and therefore a new token.
            if attempt.failures.iter().any(|failure| *failure != FailureKind::NotSubmitted) {
                self.key.attempt += 1;
            }
        }
        StepReport::new(self.step, StepStatus::Failed, reports)
    }

    /// Runs one attempt.
    async fn run_once(&self) -> Attempt {
        match &self.work {
            StepWork::Statement(statement) => self.run_statement(statement).await,
            StepWork::Task(work) => self.run_task(work).await,
        }
    }

    /// Runs one attempt at a task.
    async fn run_task(&self, work: &TaskWork) -> Attempt {
        let (mut attempt, started) = (Attempt::new(), self.begun.elapsed());
        let timeout = self.step.timeout;
        let mut open = self.entries.iter().filter(|entry| entry.state.is_unsettled());
        let is_open = open.any(|entry| entry.key == self.key);
        let result = self.orchestrator.run_task(&self.key, work, timeout, is_open).await;
        attempt.add(&self.key, started, self.begun.elapsed(), AttemptResult::Task { result, timeout });
        attempt
    }

    /// Runs one attempt at a statement, or at the parts of a long batch.
    async fn run_statement(&self, statement: &Statement) -> Attempt {
        let mut attempt = Attempt::new();
        let parts = self.orchestrator.parts(&self.key, statement, &self.entries, self.step.timeout);
        let mut parts = match parts {
            Ok(parts) => parts,
            Err(error) => {
                self.orchestrator.observe(&self.key, &ProgressEvent::NotSubmitted { error: &error });
                let now = self.begun.elapsed();
                attempt.add(&self.key, now, now, AttemptResult::statement(Err(error)));
                return attempt;
            }
        };
        loop {
            let started = self.begun.elapsed();
            let Some((key, result)) = parts.run_next(self.stop.is_requested()).await else { break };
            attempt.add(&key, started, self.begun.elapsed(), AttemptResult::statement(result));
        }
        match parts.cut_short() {
            Some(CutShort::Timeout) => {
                attempt.status = StepStatus::TimedOut;
                attempt.failures.push(FailureKind::TimedOut);
            }
            // If an earlier part failed, the step keeps the status of that failure.
            Some(CutShort::Stop) if attempt.failures.is_empty() => {
                attempt.status = StepStatus::NotStarted { because_of: STOP.to_owned() };
            }
            Some(CutShort::Stop | CutShort::BrokenPart) | None => {}
        }
        attempt
    }

    /// Returns the failure after which the step is retried, and the pause before the next attempt. Returns
    /// `None` if the step is not retried.
    fn next_retry(&self, tried: u32, failures: &[FailureKind]) -> Option<(FailureKind, Duration)> {
        let retry = self.step.retry.as_ref()?;
        let may_retry = tried < retry.attempts && !self.stop.is_requested();
        let first = failures.first().filter(|_| may_retry)?;
        failures.iter().all(|failure| retry.on.contains(failure)).then(|| (*first, retry.pause(tried)))
    }

    /// Returns the report of a step that finished in an earlier process, from the entries in the journal.
    pub(super) fn report_finished(self) -> StepReport {
        let (mut attempt, now) = (Attempt::new(), self.begun.elapsed());
        let (orchestrator, timeout) = (self.orchestrator, self.step.timeout);
        for entry in &self.entries {
            let recorded = match &self.work {
                StepWork::Statement(statement) => {
                    let limit = timeout.unwrap_or_default();
                    let recorded = orchestrator.recorded_outcome(statement, entry, limit).transpose();
                    recorded.map(AttemptResult::statement)
                }
                StepWork::Task(work) => {
                    let recorded = orchestrator.recorded_task(work, entry).transpose();
                    recorded.map(|result| AttemptResult::Task { result, timeout })
                }
            };
            let Some(recorded) = recorded else { continue };
            match &recorded {
                AttemptResult::Statement(result) => orchestrator.observe_end(&entry.key, result),
                AttemptResult::Task { result, .. } => orchestrator.observe_task_end(&entry.key, result),
            }
            attempt.add(&entry.key, now, now, recorded);
            if attempt.status != StepStatus::Finished {
                break;
            }
        }
        StepReport::new(self.step, attempt.status, attempt.reports)
    }
}

impl Attempt {
    /// Creates the state of an attempt without results.
    fn new() -> Self {
        Self { status: StepStatus::Finished, failures: Vec::new(), reports: Vec::new() }
    }

    /// Adds a result. The times are counted from the beginning of the run.
    fn add(&mut self, key: &StepKey, started: Duration, ended: Duration, result: AttemptResult) {
        let (status, failure) = judge(&result);
        let report = AttemptReport::new(key, started, ended, result);
        if report.may_still_run {
            // Without failures, the attempt is not retried. A retry could run concurrently with this
            // statement or task.
            (self.status, self.failures) = (status, Vec::new());
        } else if status != StepStatus::Finished {
            self.status = status;
            self.failures.extend(failure);
        }
        self.reports.push(report);
    }
}

/// Returns the status of the step after an attempt, and the kind of failure if the attempt may be retried.
fn judge(result: &AttemptResult) -> (StepStatus, Option<FailureKind>) {
    match result {
        AttemptResult::Statement(result) => match &**result {
            Ok(outcome) => {
                let status = match outcome.kind {
                    OutcomeKind::Finished => StepStatus::Finished,
                    OutcomeKind::Failed { .. } => StepStatus::Failed,
                    OutcomeKind::Aborted => StepStatus::Aborted,
                    OutcomeKind::TimedOut { .. } => StepStatus::TimedOut,
                    OutcomeKind::Unknown(_) => StepStatus::Unknown,
                };
                (status, outcome.failure())
            }
            Err(error) => judge_error(error),
        },
        AttemptResult::Task { result: Ok(outcome), .. } => {
            let status = match outcome.kind {
                TaskOutcomeKind::Finished => StepStatus::Finished,
                TaskOutcomeKind::Failed { .. } => StepStatus::Failed,
                TaskOutcomeKind::Aborted { .. } => StepStatus::Aborted,
                TaskOutcomeKind::TimedOut { .. } => StepStatus::TimedOut,
                TaskOutcomeKind::Unknown { .. } => StepStatus::Unknown,
            };
            (status, outcome.failure())
        }
        AttemptResult::Task { result: Err(error), .. } => judge_error(error),
    }
}

/// Returns the status of the step after an attempt that ended with an error, and the kind of failure if the
/// attempt may be retried.
fn judge_error(error: &Error) -> (StepStatus, Option<FailureKind>) {
    match error.kind() {
        // The journal failed after the submit, or the service returned another caller's statement.
        _ if error.may_have_run() => (StepStatus::Unknown, None),
        ErrorKind::Journal | ErrorKind::Definition | ErrorKind::StepKeyConflict => {
            (StepStatus::NotSubmitted, None)
        }
        _ => (StepStatus::NotSubmitted, Some(FailureKind::NotSubmitted)),
    }
}
