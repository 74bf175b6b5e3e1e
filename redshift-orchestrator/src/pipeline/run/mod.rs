//! [`Pipeline::run`]: a run from its claim to its report.

mod attempts;
mod claim;
mod recorded;
mod walk;

use super::{Pipeline, Report, Run, StepWork};
use crate::{
    Error, ErrorKind, Orchestrator, Result, Statement, Target,
    journal::{ActiveRun, Entry, RunBegun, RunEvent, RunOutcome, RunRecord},
};
use walk::{Walk, WalkResult};

/// Value of [`StepStatus::NotStarted`](super::StepStatus::NotStarted) if a stop signal and not a step stopped
/// the run.
pub(super) const STOP: &str = "the request to stop";

/// Value of [`StepStatus::NotStarted`](super::StepStatus::NotStarted) if the claim of the run was lost.
const LOST: &str = "the loss of the run's claim, after which another process may run the pipeline";

impl Pipeline {
    /// Runs the pipeline, or resumes the run with this name from the orchestrator's journal.
    ///
    /// A resumed run continues where the first one stopped. A finished step does not run again. If a
    /// statement has already been submitted, the run waits for it. A failed step gets new attempts. If the
    /// outcome of a statement is unknown, the run tries again to find it out, by the client token
    /// (which can run the statement, at most once) or else by the statement's name. If both fail, the step is
    /// still unknown until an operator [settles](Orchestrator::settle) it.
    ///
    /// A failed step is not an error of this method but is listed in the report. If the future is dropped,
    /// submitted statements continue to run, and a further run with the same name finds them.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Definition`] if the run's parameters or selection are invalid, if a selected step
    /// is of a [kind](crate::task) that is not registered, if the run belongs to another pipeline or target,
    /// or if the pipeline no longer has a step whose statement may be active, has it with other parts, or has
    /// it as a kind that is not registered; [`ErrorKind::StepKeyConflict`] if an attempt that may be active
    /// belongs to other work than the step now describes; [`ErrorKind::Overlap`] if another run of the
    /// pipeline is active and [`Overlap`](super::Overlap) does not admit this one; and [`ErrorKind::Journal`]
    /// if the journal fails. After any of these errors, this call has submitted nothing.
    pub async fn run(&self, orchestrator: &Orchestrator, mut run: Run) -> Result<Report> {
        let orchestrator = &orchestrator.of_pipeline(&self.name, run.stop.clone());
        if run.target.is_none() {
            run.target = orchestrator.executor().target().map(|target| target.to_string());
        }
        let work = self.rendered(&run)?;
        let selected = self.selected(&run)?;
        for ((step, work), is_selected) in self.steps.iter().zip(&work).zip(&selected) {
            if let (StepWork::Task(work), true) = (work, *is_selected) {
                orchestrator.tasks().check(step.name(), work)?;
            }
        }
        let active = self.claim(orchestrator, &run).await?;
        let report = self.run_claimed(orchestrator, &run, work, &selected, &active).await;
        active.release().await;
        report
    }

    /// Runs the steps of a run that has been claimed, and records its beginning and end.
    async fn run_claimed(
        &self,
        orchestrator: &Orchestrator,
        run: &Run,
        work: Vec<StepWork<Statement>>,
        selected: &[bool],
        active: &ActiveRun,
    ) -> Result<Report> {
        let entries = self.earlier_entries(orchestrator, run, &work).await?;
        self.record_begun(orchestrator, run).await?;
        let started_at = orchestrator.now();
        let walk = Walk::new(self, orchestrator, run, work, selected, &entries);
        let WalkResult { steps, is_stopped_by_step, elapsed } = walk.run(active).await;
        let report = Report {
            pipeline: self.name.clone(),
            run: run.name.clone(),
            resumed: !entries.is_empty(),
            started_at,
            elapsed,
            steps,
        };
        self.record_ended(orchestrator, &report, is_stopped_by_step).await;
        Ok(report)
    }

    /// Checks the run against its earlier records, and returns its entries in the journal. The run is
    /// claimed, so the entries do not change until the run submits a statement.
    async fn earlier_entries(
        &self,
        orchestrator: &Orchestrator,
        run: &Run,
        work: &[StepWork<Statement>],
    ) -> Result<Vec<Entry>> {
        let journal = orchestrator.journal();
        // An empty pipeline name means that the earlier statements of the run were submitted without a
        // pipeline.
        let before = journal.run_entry(&run.name).await?;
        if let Some(before) = before.filter(|before| !before.begun.pipeline.is_empty()) {
            run.check_against(&self.name, &before.begun, orchestrator.executor().target().as_ref())?;
        }
        let entries = journal.entries(&run.name).await?;
        for open in entries.iter().filter(|entry| entry.state.is_unsettled()) {
            let checked = self.check_open(orchestrator, work, open, &entries);
            checked.map_err(|error| error.with_context("run", &run.name))?;
        }
        Ok(entries)
    }

    /// Returns an error if this run cannot continue an open attempt of an earlier process: the pipeline no
    /// longer has its step, the step is of a kind that is not registered, or the attempt belongs to other
    /// work. Nothing has been started yet.
    fn check_open(
        &self,
        orchestrator: &Orchestrator,
        work: &[StepWork<Statement>],
        open: &Entry,
        entries: &[Entry],
    ) -> Result<()> {
        let key = &open.key;
        let mut steps = self.steps.iter().zip(work);
        match steps.find(|(step, _)| step.name() == key.step) {
            None => {
                let message = "the outcome of this step of the run is not known yet, and the pipeline no longer has the step; restore \
                               the step, or cancel its statement, or settle it";
                Err(Error::new(ErrorKind::Definition, message).with_context("step", &key.step))
            }
            Some((_, StepWork::Task(work))) => orchestrator.check_open_task(work, open),
            Some((_, StepWork::Statement(statement))) => {
                orchestrator.check_open_statement(statement, open, entries)
            }
        }
    }

    async fn record_begun(&self, orchestrator: &Orchestrator, run: &Run) -> Result<()> {
        let is_open = |name: &str| !self.parameters.get(name).is_some_and(|parameter| parameter.is_secret);
        let begun = RunEvent::RunBegun(RunBegun {
            pipeline: self.name.clone(),
            target: run.target.clone(),
            parameters: run.parameters.clone().into_iter().filter(|(name, _)| is_open(name)).collect(),
            tags: run.tags.clone(),
            steps: run.steps.clone(),
            process: Some(std::process::id()),
        });
        orchestrator.journal().append_run(RunRecord::new(orchestrator.now(), &run.name, begun)).await
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
    /// Returns an error if the run was begun by another pipeline or on another target. `target` is the
    /// executor's target, which is the default label of the run.
    fn check_against(&self, pipeline: &str, before: &RunBegun, target: Option<&Target>) -> Result<()> {
        let refused = |what: &str, was: &str| {
            let message =
                format!("a run with this name was started {what} `{was}`; use another name for this run");
            Err(Error::new(ErrorKind::Definition, message).with_context("run", &self.name))
        };
        let is_default = |is: &str| target.filter(|target| target.to_string() == is);
        match (&before.target, &self.target) {
            _ if before.pipeline != pipeline => refused("by the pipeline", &before.pipeline),
            (Some(was), Some(is)) if was == is => Ok(()),
            (Some(was), Some(is)) if !is_default(is).is_some_and(|is| is.is_recorded_as(was)) => {
                refused("on", was)
            }
            _ => Ok(()),
        }
    }
}
