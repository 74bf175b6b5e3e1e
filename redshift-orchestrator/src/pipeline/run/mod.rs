//! [`Pipeline::run`]: the steps in their order, each when its dependencies have ended.

use std::collections::BTreeSet;

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::Instant;

mod attempts;
mod claim;

use super::{
    OnFailure, Pipeline, Run, Step, Stop,
    report::{Report, StepReport, StepStatus},
};
use crate::{
    Error, ErrorKind, Orchestrator, Progressed, Result, Statement, StepKey,
    journal::{Claim, Entry, RunBegun, RunEvent, RunRecord, RunResult, Settlement, Standing},
    orchestrator::{is_done, is_finished},
};
use attempts::StepAttempts;

impl Pipeline {
    /// Runs the pipeline, or resumes the run with this name from the orchestrator's journal.
    ///
    /// A finished step is not run again. A submitted statement is waited for. A failed step gets new
    /// attempts. A step whose outcome is unknown is searched for again, and stays unknown until it is
    /// [settled](Orchestrator::settle).
    ///
    /// Failed steps are part of the report, not errors. Dropping the future leaves submitted statements
    /// running; a further run with the same name finds them.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Definition`] if the run's parameters or selection are invalid, or if a statement
    /// of the run may be active for a step that the pipeline no longer has; [`ErrorKind::Overlap`] if another
    /// run of the pipeline is active and this one may neither queue nor overlap; and [`ErrorKind::Journal`]
    /// if the journal cannot be used. In all these cases, nothing was submitted.
    pub async fn run(&self, orchestrator: &Orchestrator, mut run: Run) -> Result<Report> {
        let orchestrator = &orchestrator.of_pipeline(&self.name);
        if run.target.is_none() {
            run.target = orchestrator.executor().target().map(|target| target.to_string());
        }
        let statements = self.statements(&run)?;
        let selected = self.selected(&run)?;
        let journal = &**orchestrator.journal();
        let claim = Claim { pipeline: self.name.clone(), run: run.name.clone(), since: orchestrator.now() };
        let active = run.overlap.unwrap_or(self.overlap).claim(journal, &claim, &run.stop).await?;
        // Statements of the run that were submitted without a pipeline do not count as its beginning.
        let before = journal.run_entry(&run.name).await?;
        if let Some(before) = before.filter(|before| !before.begun.pipeline.is_empty()) {
            run.check_against(&self.name, &before.begun)?;
        }
        self.check_covers(&journal.run(run.name()).await?)?;
        let record = |event| RunRecord { at: orchestrator.now(), run: run.name.clone(), event };
        journal.append_run(record(RunEvent::RunBegun(self.begun(&run)))).await?;
        let known = journal.run(run.name()).await?;
        let mut walk = Walk {
            pipeline: self,
            orchestrator,
            run: run.name(),
            begun: Instant::now(),
            known: self.steps.iter().map(|step| Known::of(step.name(), &known)).collect(),
            statements,
            selected,
            stop: &run.stop,
            started: vec![false; self.steps.len()],
            waiting_for: self.graph.dependencies().to_vec(),
            ready: BTreeSet::new(),
            reports: self.steps.iter().map(|_| None).collect(),
            stopped_by: None,
        };
        let started_at = orchestrator.now();
        walk.walk().await;
        walk.add_what_finished_before().await;
        let (begun, stopped_by) = (walk.begun, walk.stopped_by);
        let unreached = |step: &Step| {
            let because_of = stopped_by.map_or(STOP, |number| self.steps[number].name());
            StepStatus::NotStarted { because_of: because_of.to_owned() }.of(step, Vec::new())
        };
        let steps = walk
            .reports
            .into_iter()
            .zip(&self.steps)
            .map(|(report, step)| report.unwrap_or_else(|| unreached(step)))
            .collect();
        let report = Report {
            pipeline: self.name.clone(),
            run: run.name.clone(),
            resumed: !known.is_empty(),
            started_at,
            elapsed: begun.elapsed(),
            steps,
        };
        let result = match &report {
            report if report.is_success() => RunResult::Finished,
            report if report.has_unknown() => RunResult::Unknown,
            report if stopped_by.is_none() && report.is_cut_short() => RunResult::Stopped,
            _ => RunResult::Failed,
        };
        // This record is informative. The endings of the statements, on which a resumed run depends, are
        // already in the journal.
        if let Err(error) = journal.append_run(record(RunEvent::RunEnded { result })).await {
            tracing::warn!(%error, run = run.name, "the end of the run could not be recorded");
        }
        drop(active);
        Ok(report)
    }

    /// Rejects a definition that lacks a step whose statement an earlier process submitted and whose outcome
    /// is open.
    fn check_covers(&self, known: &[Entry]) -> Result<()> {
        let has = |name: &str| self.steps.iter().any(|step| step.name() == name);
        let may_run = |entry: &&Entry| matches!(entry.standing, Standing::Open | Standing::Unknown(_));
        let Some(left) = known.iter().filter(may_run).find(|entry| !has(&entry.key.step)) else {
            return Ok(());
        };
        let message = "the outcome of this step of the run is not known yet, and the pipeline no longer has the step; restore the step, \
             or cancel its statement, or settle it";
        Err(Error::new(ErrorKind::Definition, message)
            .with_context("run", &left.key.run)
            .with_context("step", &left.key.step))
    }

    fn begun(&self, run: &Run) -> RunBegun {
        let is_open = |name: &str| !self.parameters.get(name).is_some_and(|parameter| parameter.is_secret);
        RunBegun {
            pipeline: self.name.clone(),
            target: run.target.clone(),
            parameters: run.parameters.clone().into_iter().filter(|(name, _)| is_open(name)).collect(),
            tags: run.tags.clone(),
            only: run.only.clone(),
            process: Some(std::process::id()),
        }
    }
}

impl Run {
    /// Rejects resuming a run of another pipeline or on another target.
    fn check_against(&self, pipeline: &str, before: &RunBegun) -> Result<()> {
        let refused = |what: &str, was: &str| {
            let message =
                format!("a run with this name was started {what} `{was}`; use another name for this run");
            Err(Error::new(ErrorKind::Definition, message).with_context("run", &self.name))
        };
        match (&before.target, &self.target) {
            _ if before.pipeline != pipeline => refused("by the pipeline", &before.pipeline),
            (Some(was), Some(is)) if was != is => refused("on", was),
            _ => Ok(()),
        }
    }
}

/// Reason why a step was not started, if no step stopped the run.
pub(super) const STOP: &str = "the request to stop";

/// State of a step in the journal: its last attempt.
struct Known {
    /// Number of the first attempt: the last one if it is open, the next one if it failed.
    attempt: u32,
    /// `true` if its statement may be active in the service.
    is_open: bool,
    is_finished: bool,
    /// One entry, or one for each part of a long batch that was started.
    last: Vec<Entry>,
}

impl Known {
    fn of(step: &str, entries: &[Entry]) -> Self {
        let of_step = || entries.iter().filter(|entry| entry.key.step == step);
        let Some(attempt) = of_step().map(|entry| entry.key.attempt).max() else {
            return Self { attempt: 1, is_open: false, is_finished: false, last: Vec::new() };
        };
        let last: Vec<_> = of_step().filter(|entry| entry.key.attempt == attempt).collect();
        let is_open =
            last.iter().any(|entry| matches!(entry.standing, Standing::Open | Standing::Unknown(_)));
        let failed = last.iter().any(|entry| match &entry.standing {
            Standing::Ended(_) => !is_finished(entry),
            Standing::Settled(found) => *found == Settlement::Failed,
            Standing::Open | Standing::Refused(_) | Standing::Unknown(_) => false,
        });
        Self {
            attempt: attempt + u32::from(failed && !is_open),
            is_open,
            is_finished: is_done(&last),
            last: last.into_iter().cloned().collect(),
        }
    }
}

/// State of a run of the pipeline.
struct Walk<'a> {
    pipeline: &'a Pipeline,
    orchestrator: &'a Orchestrator,
    run: &'a str,
    begun: Instant,
    known: Vec<Known>,
    selected: Vec<bool>,
    stop: &'a Stop,
    started: Vec<bool>,
    statements: Vec<Statement>,
    /// Number of dependencies for which each step still waits.
    waiting_for: Vec<usize>,
    ready: BTreeSet<usize>,
    reports: Vec<Option<StepReport>>,
    stopped_by: Option<usize>,
}

impl<'a> Walk<'a> {
    async fn walk(&mut self) {
        let mut running: FuturesUnordered<BoxFuture<'a, (usize, StepReport)>> = FuturesUnordered::new();
        // Statements submitted by an earlier process are already active and are waited for first, whatever
        // the results of other steps.
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
        self.stopped_by.is_some() || self.stop.is_asked()
    }

    /// Skips a step that is not selected. Its dependents do not wait for it.
    fn pass(&mut self, number: usize) {
        let step = &self.pipeline.steps[number];
        self.reports[number] = Some(StepStatus::NotSelected.of(step, Vec::new()));
        self.release_dependents(number);
    }

    /// Adds steps that finished in an earlier process and were not reached by this one, from the journal.
    async fn add_what_finished_before(&mut self) {
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
            // The dependents would run concurrently with a statement that may still be running.
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
            self.orchestrator.observe(&key, &Progressed::Skipped { because_of });
            open.extend_from_slice(self.pipeline.graph.dependents(number));
        }
    }
}
