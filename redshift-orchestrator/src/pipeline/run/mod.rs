//! [`Pipeline::run`]: a run from its claim to its report.

use jiff::Timestamp;

mod attempts;
mod claim;
mod recorded;
mod walk;

use super::{Pipeline, Report, Run};
use crate::{
    Error, ErrorKind, Orchestrator, Result, Statement,
    journal::{Entry, EntryState, RunBegun, RunEvent, RunOutcome, RunRecord},
};
use walk::Walk;

/// Value of [`StepStatus::NotStarted`](super::StepStatus::NotStarted) if a stop signal and not a step stopped
/// the run.
pub(super) const STOP: &str = "the request to stop";

impl Pipeline {
    /// Runs the pipeline, or resumes the run with this name from the orchestrator's journal.
    ///
    /// A resumed run continues where the first one stopped. A finished step does not run again. If a
    /// statement has already been submitted, the run waits for it. A failed step gets new attempts. If the
    /// outcome of a statement is unknown, the run searches for the statement again; if it is not found, the
    /// step is still unknown until an operator [settles](Orchestrator::settle) it.
    ///
    /// A failed step is not an error of this method but is listed in the report. If the future is dropped,
    /// submitted statements continue to run, and a further run with the same name finds them.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Definition`] if the run's parameters or selection are invalid, if the run belongs
    /// to another pipeline or target, or if the pipeline no longer has a step whose statement may be active;
    /// [`ErrorKind::Overlap`] if another run of the pipeline is active and [`Overlap`](super::Overlap) does
    /// not admit this one; and [`ErrorKind::Journal`] if the journal fails. After any of these errors, no
    /// statement was submitted.
    pub async fn run(&self, orchestrator: &Orchestrator, mut run: Run) -> Result<Report> {
        let orchestrator = &orchestrator.of_pipeline(&self.name);
        if run.target.is_none() {
            run.target = orchestrator.executor().target().map(|target| target.to_string());
        }
        let statements = self.statements(&run)?;
        let selected = self.selected(&run)?;
        let active = self.claim(orchestrator, &run).await?;
        let report = self.run_claimed(orchestrator, &run, statements, &selected).await;
        active.release().await;
        report
    }

    /// Runs the steps of a run that has been claimed, and records its beginning and end.
    async fn run_claimed(
        &self,
        orchestrator: &Orchestrator,
        run: &Run,
        statements: Vec<Statement>,
        selected: &[bool],
    ) -> Result<Report> {
        let entries = self.record_begun(orchestrator, run).await?;
        let started_at = orchestrator.now();
        let mut walk = Walk::new(self, orchestrator, run, statements, selected, &entries);
        walk.run_steps().await;
        walk.add_finished_before().await;
        let is_stopped_by_step = walk.is_stopped_by_step();
        let report = self.report(run, walk, started_at, !entries.is_empty());
        self.record_ended(orchestrator, &report, is_stopped_by_step).await;
        Ok(report)
    }

    /// Checks the run against its earlier records, records its beginning, and returns its entries in the
    /// journal.
    async fn record_begun(&self, orchestrator: &Orchestrator, run: &Run) -> Result<Vec<Entry>> {
        let journal = orchestrator.journal();
        // An empty pipeline name means that the earlier statements of the run were submitted without a
        // pipeline.
        let before = journal.run_entry(&run.name).await?;
        if let Some(before) = before.filter(|before| !before.begun.pipeline.is_empty()) {
            run.check_against(&self.name, &before.begun)?;
        }
        self.check_has_steps(&journal.entries(run.name()).await?)?;
        let begun = RunEvent::RunBegun(self.begun(run));
        journal.append_run(RunRecord::new(orchestrator.now(), &run.name, begun)).await?;
        journal.entries(run.name()).await
    }

    /// Returns an error if the journal contains an open attempt at a step that the pipeline no longer has.
    fn check_has_steps(&self, entries: &[Entry]) -> Result<()> {
        let has = |name: &str| self.steps.iter().any(|step| step.name() == name);
        let may_run = |entry: &&Entry| matches!(entry.state, EntryState::Open | EntryState::Unknown(_));
        let Some(left) = entries.iter().filter(may_run).find(|entry| !has(&entry.key.step)) else {
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
            steps: run.steps.clone(),
            process: Some(std::process::id()),
        }
    }

    fn report(&self, run: &Run, walk: Walk<'_>, started_at: Timestamp, resumed: bool) -> Report {
        Report {
            pipeline: self.name.clone(),
            run: run.name.clone(),
            resumed,
            started_at,
            elapsed: walk.elapsed(),
            steps: walk.into_reports(),
        }
    }

    /// Records the end of the run. If this fails, the run still succeeds, because a resumed run depends only
    /// on the outcomes of the statements, which are already in the journal.
    async fn record_ended(&self, orchestrator: &Orchestrator, report: &Report, is_stopped_by_step: bool) {
        let result = match report {
            report if report.is_success() => RunOutcome::Finished,
            report if report.has_unknown() => RunOutcome::Unknown,
            report if report.has_not_started() && !is_stopped_by_step => RunOutcome::Stopped,
            _ => RunOutcome::Failed,
        };
        let ended = RunRecord::new(orchestrator.now(), &report.run, RunEvent::RunEnded { result });
        if let Err(error) = orchestrator.journal().append_run(ended).await {
            tracing::warn!(%error, run = report.run, "the end of the run could not be recorded");
        }
    }
}

impl Run {
    /// Returns an error if the run was begun by another pipeline or on another target.
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
