//! [`Walk`]: starts each step of a run when its dependencies have ended.

use std::{collections::BTreeSet, time::Duration};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{STOP, attempts::StepAttempts, recorded::RecordedStep};
use crate::{
    Orchestrator, ProgressEvent, Statement, StepKey,
    journal::Entry,
    pipeline::{OnFailure, Pipeline, Run, Step, StepReport, StepStatus, StopSignal},
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
}

/// State of a step in this process.
struct StepState {
    statement: Statement,
    is_selected: bool,
    recorded: RecordedStep,
    is_started: bool,
    /// Number of dependencies that have not ended yet.
    waiting_for: usize,
    report: Option<StepReport>,
}

impl<'a> Walk<'a> {
    /// Creates the state at the beginning of a run. `statements` and `selected` contain an element for each
    /// step. `entries` contains the run's entries in the journal.
    pub(super) fn new(
        pipeline: &'a Pipeline,
        orchestrator: &'a Orchestrator,
        run: &'a Run,
        statements: Vec<Statement>,
        selected: &[bool],
        entries: &[Entry],
    ) -> Self {
        let steps = pipeline.steps.iter().zip(statements).zip(selected).zip(pipeline.graph.dependencies());
        let state =
            |(((step, statement), is_selected), dependencies): (((&Step, _), &bool), &usize)| StepState {
                statement,
                is_selected: *is_selected,
                recorded: RecordedStep::of(step.name(), entries),
                is_started: false,
                waiting_for: *dependencies,
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
        }
    }

    /// Runs the steps until no further step can be started and all started steps have ended.
    pub(super) async fn run_steps(&mut self) {
        let mut running: FuturesUnordered<BoxFuture<'a, (usize, StepReport)>> = FuturesUnordered::new();
        // Statements that an earlier process submitted may already be running. The run waits for them even if
        // a dependency fails or the concurrency limit is exceeded.
        for number in 0..self.steps.len() {
            if self.steps[number].recorded.is_open {
                running.push(self.start(number));
            }
        }
        self.ready = (0..self.steps.len()).filter(|number| self.steps[*number].is_ready()).collect();
        loop {
            while !self.is_stopped() && running.len() < self.pipeline.concurrency {
                let Some(number) = self.ready.pop_first() else { break };
                if self.steps[number].is_selected {
                    running.push(self.start(number));
                } else {
                    self.end_unselected(number);
                }
            }
            let Some((number, report)) = running.next().await else { return };
            self.record_end(number, report);
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped_by.is_some() || self.stop.is_requested()
    }

    fn start(&mut self, number: usize) -> BoxFuture<'a, (usize, StepReport)> {
        let (step, state) = (&self.pipeline.steps[number], &mut self.steps[number]);
        state.is_started = true;
        let attempts = StepAttempts {
            orchestrator: self.orchestrator,
            step,
            statement: state.statement.clone(),
            key: StepKey::new(self.run, step.name()).with_attempt(state.recorded.attempt),
            entries: std::mem::take(&mut state.recorded.entries),
            begun: self.begun,
            stop: self.stop,
        };
        Box::pin(async move { (number, attempts.run_until_done().await) })
    }

    /// Ends a step that is not selected, so that its dependents do not wait for it.
    fn end_unselected(&mut self, number: usize) {
        let step = &self.pipeline.steps[number];
        self.steps[number].report = Some(StepStatus::NotSelected.of(step, Vec::new()));
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
            let status = StepStatus::Skipped { because_of: because_of.to_owned() };
            state.report = Some(status.of(step, Vec::new()));
            let key = StepKey::new(self.run, step.name());
            self.orchestrator.observe(&key, &ProgressEvent::Skipped { because_of });
            open.extend_from_slice(self.pipeline.graph.dependents(number));
        }
    }

    /// Adds reports, from the journal, of selected steps that finished in an earlier process but were not
    /// started in this one.
    pub(super) async fn add_finished_before(&mut self) {
        for number in 0..self.steps.len() {
            let step = &self.steps[number];
            if step.recorded.is_finished && step.is_selected && !step.is_started {
                let (number, report) = self.start(number).await;
                self.steps[number].report = Some(report);
            }
        }
    }

    /// Returns `true` if the run was stopped by the failure of a step.
    pub(super) fn is_stopped_by_step(&self) -> bool {
        self.stopped_by.is_some()
    }

    /// Returns the time since the run began.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Returns a report for each step, including steps that were not started.
    pub(super) fn into_reports(self) -> Vec<StepReport> {
        let because_of = self.stopped_by.map_or(STOP, |number| self.pipeline.steps[number].name());
        let not_started = || StepStatus::NotStarted { because_of: because_of.to_owned() };
        let steps = self.steps.into_iter().zip(&self.pipeline.steps);
        steps
            .map(|(state, step)| state.report.unwrap_or_else(|| not_started().of(step, Vec::new())))
            .collect()
    }
}

impl StepState {
    fn is_ready(&self) -> bool {
        self.waiting_for == 0 && !self.is_started && self.report.is_none()
    }
}
