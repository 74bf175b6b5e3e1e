//! [`Walk`]: starts each step of a run when its dependencies have ended.

use std::{collections::BTreeSet, time::Duration};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{LOST, STOP, attempts::StepAttempts, recorded::RecordedStep};
use crate::{
    Orchestrator, ProgressEvent, Statement, StepKey,
    journal::{ActiveRun, Entry},
    pipeline::{OnFailure, Pipeline, Run, Step, StepReport, StepStatus, StepWork, StopSignal},
};

/// State of a run in this process. Steps are identified by their position in the definition.
pub(super) struct Walk<'a> {
    pipeline: &'a Pipeline,
    orchestrator: &'a Orchestrator,
    run: &'a str,
    stop: &'a StopSignal,
    begun: Instant,
    steps: Vec<StepState>,
    /// Steps whose dependencies have ended and that have not started yet.
    ready: BTreeSet<usize>,
    /// The first step whose failure stopped the run.
    stopped_by: Option<usize>,
    /// `true` if the claim of the run was lost. Steps that are running continue, and no other is started.
    is_claim_lost: bool,
}

/// State of a step in this process.
struct StepState {
    work: StepWork<Statement>,
    is_selected: bool,
    recorded: RecordedStep,
    is_started: bool,
    /// Number of dependencies that have not ended yet.
    waiting_for: usize,
    /// Report of a step that finished in an earlier process. It becomes the step's report when the step is
    /// reached.
    finished_before: Option<StepReport>,
    report: Option<StepReport>,
}

/// Result of a [`Walk`].
pub(super) struct WalkResult {
    /// A report for each step, including steps that were not started.
    pub(super) steps: Vec<StepReport>,
    /// `true` if the run was stopped by the failure of a step.
    pub(super) is_stopped_by_step: bool,
    /// Time since the run began.
    pub(super) elapsed: Duration,
}

impl<'a> Walk<'a> {
    /// Creates the state at the beginning of a run. `work` and `selected` contain an element for each
    /// step. `entries` contains the run's entries in the journal.
    pub(super) fn new(
        pipeline: &'a Pipeline,
        orchestrator: &'a Orchestrator,
        run: &'a Run,
        work: Vec<StepWork<Statement>>,
        selected: &[bool],
        entries: &[Entry],
    ) -> Self {
        let steps = pipeline.steps.iter().zip(work).zip(selected).zip(pipeline.graph.dependencies());
        let state = |(((step, work), is_selected), dependencies): (((&Step, _), &bool), &usize)| StepState {
            work,
            is_selected: *is_selected,
            recorded: RecordedStep::of(step.name(), entries),
            is_started: false,
            waiting_for: *dependencies,
            finished_before: None,
            report: None,
        };
        Self {
            pipeline,
            orchestrator,
            run: run.name(),
            stop: &run.stop,
            begun: Instant::now(),
            steps: steps.map(state).collect(),
            ready: BTreeSet::new(),
            stopped_by: None,
            is_claim_lost: false,
        }
    }

    /// Runs the steps until no further step can be started and all started steps have ended.
    pub(super) async fn run(mut self, active: &ActiveRun) -> WalkResult {
        let mut running: FuturesUnordered<BoxFuture<'a, (usize, StepReport)>> = FuturesUnordered::new();
        for number in 0..self.steps.len() {
            let StepState { recorded, is_selected, .. } = &self.steps[number];
            if recorded.is_open {
                // A statement that an earlier process submitted may already be running. The run waits for it
                // even if a dependency fails or the concurrency limit is exceeded.
                running.push(self.start(number));
            } else if recorded.is_finished && *is_selected {
                self.steps[number].finished_before = Some(self.attempts(number).report_finished());
            }
        }
        self.ready = (0..self.steps.len()).filter(|number| self.steps[*number].is_ready()).collect();
        loop {
            self.is_claim_lost |= !active.is_held().await;
            while !self.is_stopped() && running.len() < self.pipeline.concurrency {
                let Some(number) = self.ready.pop_first() else { break };
                if !self.steps[number].is_selected {
                    self.end_unselected(number);
                } else if let Some(report) = self.steps[number].finished_before.take() {
                    self.record_end(number, report);
                } else {
                    running.push(self.start(number));
                }
            }
            let Some((number, report)) = running.next().await else { return self.into_result() };
            self.record_end(number, report);
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped_by.is_some() || self.stop.is_requested() || self.is_claim_lost
    }

    fn start(&mut self, number: usize) -> BoxFuture<'a, (usize, StepReport)> {
        self.steps[number].is_started = true;
        let attempts = self.attempts(number);
        Box::pin(async move { (number, attempts.run_until_done().await) })
    }

    fn attempts(&mut self, number: usize) -> StepAttempts<'a> {
        let (step, state) = (&self.pipeline.steps[number], &mut self.steps[number]);
        StepAttempts {
            orchestrator: self.orchestrator,
            step,
            work: state.work.clone(),
            key: StepKey::new(self.run, step.name()).with_attempt(state.recorded.attempt),
            entries: std::mem::take(&mut state.recorded.entries),
            begun: self.begun,
            stop: self.stop,
        }
    }

    /// Ends a step that is not selected, so that its dependents do not wait for it.
    fn end_unselected(&mut self, number: usize) {
        let step = &self.pipeline.steps[number];
        self.steps[number].report = Some(StepReport::new(step, StepStatus::NotSelected, Vec::new()));
        self.release_dependents(number);
    }

    /// Stores the report of a step, and starts, skips or stops other steps depending on the result.
    fn record_end(&mut self, number: usize, report: StepReport) {
        let step = &self.pipeline.steps[number];
        let effect = match &report.status {
            StepStatus::Finished => Some(OnFailure::Continue),
            // The run was stopped between two parts of a long batch. No further step is started in a stopped
            // run.
            StepStatus::NotStarted { .. } => None,
            // The statement may still be running, and the dependents must not run concurrently with it.
            _ if report.may_still_run() && step.on_failure() == OnFailure::Continue => {
                Some(OnFailure::SkipDependents)
            }
            _ => Some(step.on_failure()),
        };
        self.steps[number].report = Some(report);
        match effect {
            Some(OnFailure::Continue) => self.release_dependents(number),
            Some(OnFailure::SkipDependents) => self.skip_dependents(number),
            Some(OnFailure::Stop) => self.stopped_by = self.stopped_by.or(Some(number)),
            None => {}
        }
    }

    fn release_dependents(&mut self, number: usize) {
        for &later in self.pipeline.graph.dependents(number) {
            self.steps[later].waiting_for -= 1;
            if self.steps[later].is_ready() {
                self.ready.insert(later);
            }
        }
    }

    fn skip_dependents(&mut self, failed: usize) {
        let because_of = self.pipeline.steps[failed].name();
        let mut open = self.pipeline.graph.dependents(failed).to_vec();
        while let Some(number) = open.pop() {
            let (step, state) = (&self.pipeline.steps[number], &mut self.steps[number]);
            if state.report.is_some() || state.is_started {
                continue;
            }
            state.report = state.finished_before.take().or_else(|| {
                let key = StepKey::new(self.run, step.name());
                self.orchestrator.observe(&key, &ProgressEvent::Skipped { because_of });
                let status = StepStatus::Skipped { because_of: because_of.to_owned() };
                Some(StepReport::new(step, status, Vec::new()))
            });
            open.extend_from_slice(self.pipeline.graph.dependents(number));
        }
    }

    fn into_result(self) -> WalkResult {
        let because_of = match self.stopped_by {
            Some(number) => self.pipeline.steps[number].name(),
            None if self.is_claim_lost => LOST,
            None => STOP,
        };
        let not_started = |step| {
            let status = StepStatus::NotStarted { because_of: because_of.to_owned() };
            StepReport::new(step, status, Vec::new())
        };
        let steps = self.steps.into_iter().zip(&self.pipeline.steps);
        let report = |(state, step): (StepState, _)| {
            state.report.or(state.finished_before).unwrap_or_else(|| not_started(step))
        };
        WalkResult {
            steps: steps.map(report).collect(),
            is_stopped_by_step: self.stopped_by.is_some(),
            elapsed: self.begun.elapsed(),
        }
    }
}

impl StepState {
    fn is_ready(&self) -> bool {
        self.waiting_for == 0 && !self.is_started && self.report.is_none()
    }
}
