//! [`StepAttempts`]: the attempts at one step. An attempt runs one statement, or the parts of a long batch.

use tokio::time::{Instant, sleep};

use super::STOP;
use crate::{
    Error, ErrorKind, FailureKind, Orchestrator, Outcome, OutcomeKind, ProgressEvent, Result, Statement,
    StepKey,
    journal::Entry,
    orchestrator::LastPart,
    pipeline::{AttemptReport, Step, StepReport, StepStatus, StopSignal},
};

/// Inputs for the attempts at one step.
pub(super) struct StepAttempts<'a> {
    pub(super) orchestrator: &'a Orchestrator,
    pub(super) step: &'a Step,
    pub(super) statement: Statement,
    pub(super) key: StepKey,
    /// Journal entries of earlier processes for the step's last attempt.
    pub(super) entries: Vec<Entry>,
    /// Time at which the run began.
    pub(super) begun: Instant,
    pub(super) stop: &'a StopSignal,
}

/// Result of an attempt.
struct AttemptResult {
    status: StepStatus,
    /// Kinds of the failures; more than one only for an attempt with parts. The attempt is retried only if
    /// the retry policy lists all of these kinds.
    failures: Vec<FailureKind>,
}

impl AttemptResult {
    fn of(status: StepStatus) -> Self {
        Self { status, failures: Vec::new() }
    }
}

impl StepAttempts<'_> {
    /// Makes attempts until one succeeds, one fails with a kind that is not retried, the maximum number of
    /// attempts is reached, or a stop is requested.
    pub(super) async fn run_until_done(mut self) -> StepReport {
        let mut reports = Vec::new();
        let most = self.step.retry.as_ref().map_or(1, |retry| retry.attempts);
        for tried in 1.. {
            let AttemptResult { status, failures } = self.run_once(&mut reports).await;
            let retry = self.step.retry.as_ref().filter(|_| tried < most && !self.stop.is_requested());
            let (Some(failure), Some(retry)) = (failures.first(), retry) else {
                return status.of(self.step, reports);
            };
            if !failures.iter().all(|failure| retry.on.contains(failure)) {
                return status.of(self.step, reports);
            }
            let pause = retry.pause(tried);
            self.orchestrator.observe(&self.key, &ProgressEvent::StepRetried { failure: *failure, pause });
            tokio::select! {
                () = sleep(pause) => {}
                () = self.stop.requested() => return status.of(self.step, reports),
            }
            // If no statement of the attempt ran, the same attempt is repeated. Otherwise, the next attempt
            // has a new number and therefore a new token.
            if failures.iter().any(|failure| *failure != FailureKind::NotSubmitted) {
                self.key.attempt += 1;
            }
        }
        StepStatus::Failed.of(self.step, reports)
    }

    /// Runs one attempt, and adds a report for each of its statements.
    async fn run_once(&self, reports: &mut Vec<AttemptReport>) -> AttemptResult {
        let (mut ending, mut started) = (AttemptResult::of(StepStatus::Finished), self.begun.elapsed());
        let ended = |key: &StepKey, result: Result<Outcome>| {
            let (status, failure) = judge(&result);
            let now = self.begun.elapsed();
            let report = AttemptReport::new(key, std::mem::replace(&mut started, now), now, result);
            if report.may_still_run {
                // Without failures, the attempt is not retried. A retry could run concurrently with this
                // statement.
                ending = AttemptResult::of(status);
            } else if status != StepStatus::Finished {
                ending.status = status;
                ending.failures.extend(failure);
            }
            reports.push(report);
        };
        let (orchestrator, is_stopped) = (self.orchestrator, || self.stop.is_requested());
        let parts = orchestrator.run_parts_in_order(
            &self.key,
            &self.statement,
            &self.entries,
            self.step.timeout,
            is_stopped,
            ended,
        );
        match parts.await {
            Ok(LastPart::Last | LastPart::Broken) => {}
            Ok(LastPart::OutOfTime) => {
                ending.status = StepStatus::TimedOut;
                ending.failures.push(FailureKind::TimedOut);
            }
            // If an earlier part failed, the step keeps the status of that failure.
            Ok(LastPart::Stopped) if !ending.failures.is_empty() => {}
            Ok(LastPart::Stopped) => ending.status = StepStatus::NotStarted { because_of: STOP.to_owned() },
            Err(error) => {
                self.orchestrator.observe(&self.key, &ProgressEvent::NotSubmitted { error: &error });
                let (not_run, now) = (Err(error), self.begun.elapsed());
                let (status, failure) = judge(&not_run);
                reports.push(AttemptReport::new(&self.key, now, now, not_run));
                return AttemptResult { status, failures: failure.into_iter().collect() };
            }
        }
        ending
    }
}

/// Returns the status of the step after an attempt, and the kind of failure if the attempt may be retried.
fn judge(result: &Result<Outcome, Error>) -> (StepStatus, Option<FailureKind>) {
    match result {
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
        // The journal failed after the submit, or the service returned another caller's statement.
        Err(error) if error.leaves_unknown() => (StepStatus::Unknown, None),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::Journal | ErrorKind::Definition | ErrorKind::StepKeyConflict
            ) =>
        {
            (StepStatus::NotSubmitted, None)
        }
        Err(_) => (StepStatus::NotSubmitted, Some(FailureKind::NotSubmitted)),
    }
}
