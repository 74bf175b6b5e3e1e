//! [`Walk`]: runs each step once its dependencies have ended.

use std::collections::BTreeSet;

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{attempts::StepAttempts, known::Known};
use crate::{
    Orchestrator, ProgressEvent, Statement, StepKey,
    pipeline::{OnFailure, Pipeline, StepReport, StepStatus, Stop},
};

/// State of a run of the pipeline.
pub(super) struct Walk<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) orchestrator: &'a Orchestrator,
    pub(super) run: &'a str,
    pub(super) begun: Instant,
    pub(super) known: Vec<Known>,
    pub(super) selected: Vec<bool>,
    pub(super) stop: &'a Stop,
    pub(super) started: Vec<bool>,
    pub(super) statements: Vec<Statement>,
    /// Number of dependencies for which each step still waits.
    pub(super) waiting_for: Vec<usize>,
    pub(super) ready: BTreeSet<usize>,
    pub(super) reports: Vec<Option<StepReport>>,
    pub(super) stopped_by: Option<usize>,
}

impl<'a> Walk<'a> {
    pub(super) async fn walk(&mut self) {
        let mut running: FuturesUnordered<BoxFuture<'a, (usize, StepReport)>> = FuturesUnordered::new();
        // Statements submitted by an earlier process are already active. The run waits for them first,
        // regardless of the results of other steps.
        for number in (0..self.known.len()).filter(|step| self.known[*step].is_open).collect::<Vec<_>>() {
            running.push(self.start(number));
        }
        self.ready = (0..self.known.len()).filter(|step| self.is_ready(*step)).collect();
        loop {
            while !self.is_stopped() && running.len() < self.pipeline.concurrency {
                let Some(number) = self.ready.pop_first() else { break };
                if self.selected[number] {
                    running.push(self.start(number));
                } else {
                    self.pass(number);
                }
            }
            let Some((number, report)) = running.next().await else { return };
            self.ended(number, report);
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped_by.is_some() || self.stop.is_requested()
    }

    /// Leaves out a step that is not selected. Its dependents do not wait for it.
    fn pass(&mut self, number: usize) {
        let step = &self.pipeline.steps[number];
        self.reports[number] = Some(StepStatus::NotSelected.of(step, Vec::new()));
        self.release_dependents(number);
    }

    /// Adds steps that finished in an earlier process and were not reached by this one, from the journal.
    pub(super) async fn add_what_finished_before(&mut self) {
        for number in 0..self.known.len() {
            if self.known[number].is_finished && self.selected[number] && !self.started[number] {
                let (number, report) = self.start(number).await;
                self.reports[number] = Some(report);
            }
        }
    }

    fn is_ready(&self, number: usize) -> bool {
        self.waiting_for[number] == 0 && !self.started[number] && self.reports[number].is_none()
    }

    fn start(&mut self, number: usize) -> BoxFuture<'a, (usize, StepReport)> {
        self.started[number] = true;
        let step = &self.pipeline.steps[number];
        let attempts = StepAttempts {
            orchestrator: self.orchestrator,
            step,
            statement: self.statements[number].clone(),
            key: StepKey::new(self.run, step.name()).with_attempt(self.known[number].attempt),
            known: std::mem::take(&mut self.known[number].last),
            begun: self.begun,
            stop: self.stop,
        };
        Box::pin(async move { (number, attempts.run().await) })
    }

    /// Records the result of a step and its effect on other steps.
    fn ended(&mut self, number: usize, report: StepReport) {
        let step = &self.pipeline.steps[number];
        let on_failure = match &report.status {
            StepStatus::Finished => OnFailure::Continue,
            // The run was stopped between the parts of a long batch, so no further step is started anyway.
            StepStatus::NotStarted { .. } => {
                self.reports[number] = Some(report);
                return;
            }
            // The dependents would run concurrently with the statement, which may still be running.
            _ if report.may_still_run() && step.on_failure() == OnFailure::Continue => {
                OnFailure::SkipDependents
            }
            _ => step.on_failure(),
        };
        self.reports[number] = Some(report);
        match on_failure {
            OnFailure::Continue => self.release_dependents(number),
            OnFailure::SkipDependents => self.skip_dependents(number),
            OnFailure::Stop => self.stopped_by = self.stopped_by.or(Some(number)),
        }
    }

    fn release_dependents(&mut self, number: usize) {
        for &later in self.pipeline.graph.dependents(number) {
            self.waiting_for[later] -= 1;
            if self.is_ready(later) {
                self.ready.insert(later);
            }
        }
    }

    fn skip_dependents(&mut self, failed: usize) {
        let because_of = self.pipeline.steps[failed].name();
        let mut open = self.pipeline.graph.dependents(failed).to_vec();
        while let Some(number) = open.pop() {
            if self.reports[number].is_some() || self.started[number] {
                continue;
            }
            let step = &self.pipeline.steps[number];
            let status = StepStatus::Skipped { because_of: because_of.to_owned() };
            self.reports[number] = Some(status.of(step, Vec::new()));
            let key = StepKey::new(self.run, step.name());
            self.orchestrator.observe(&key, &ProgressEvent::Skipped { because_of });
            open.extend_from_slice(self.pipeline.graph.dependents(number));
        }
    }
}
