//! [`Orchestrator::run_task`]: one attempt at a step that is not a statement, with its records in the
//! journal.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};

use super::{Task, TaskCall, TaskKind, TaskOutcome, TaskOutcomeKind, TaskWork};
#[cfg(feature = "glue")]
use crate::glue::{GlueJob, JobService};
use crate::{
    ClientToken, Error, ErrorKind, Orchestrator, Origin, ProgressEvent, Result, Statement, StepKey,
    identity::{Namespace, key_conflict},
    journal::{Entry, Event, Record, check_task},
};

/// Registered executors, by the kind of step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks(BTreeMap<TaskKind, Executor>);

#[derive(Clone, Debug)]
enum Executor {
    /// Work that may be repeated. The orchestrator keeps its records.
    Repeatable(Arc<dyn Task>),
    /// Runs of Glue jobs, which keep their own records because they must not be repeated.
    #[cfg(feature = "glue")]
    Glue(Arc<dyn JobService>),
}

impl Tasks {
    pub(crate) fn insert(&mut self, kind: TaskKind, task: Arc<dyn Task>) {
        self.0.insert(kind, Executor::Repeatable(task));
    }

    #[cfg(feature = "glue")]
    pub(crate) fn insert_glue(&mut self, service: Arc<dyn JobService>) {
        self.0.insert(TaskKind::Glue, Executor::Glue(service));
    }

    /// Rejects a step that no registered executor can run.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Definition`] with the name of the step and a remedy.
    pub(crate) fn check(&self, step: &str, work: &TaskWork) -> Result<()> {
        match self.0.contains_key(&work.kind()) {
            true => Ok(()),
            false => Err(unregistered(step, work.kind())),
        }
    }
}

impl Orchestrator {
    /// Runs one attempt at a step that is not a statement, or continues it, and observes its beginning and
    /// end. `is_open` is `true` if an earlier process left the attempt open.
    pub(crate) async fn run_task(
        &self,
        key: &StepKey,
        work: &TaskWork,
        limit: Option<Duration>,
        is_open: bool,
    ) -> Result<TaskOutcome> {
        let call = TaskCall { key: key.clone(), work: work.clone(), timeout: limit };
        self.observe(key, &ProgressEvent::TaskStarted { work });
        let result = match self.tasks().0.get(&work.kind()) {
            Some(Executor::Repeatable(task)) => self.repeatable(&**task, &call).await,
            #[cfg(feature = "glue")]
            Some(Executor::Glue(service)) => self.glue_run(service, &call).await,
            None => Err(unregistered(&key.step, work.kind())),
        };
        let result = result.map_err(|error| error.of_attempt(is_open));
        self.observe_task_end(key, &result);
        result
    }

    /// Reports the result of an attempt at a task to the observer.
    pub(crate) fn observe_task_end(&self, key: &StepKey, result: &Result<TaskOutcome>) {
        let event = match result {
            Ok(outcome) => ProgressEvent::TaskEnded { outcome },
            Err(error) => ProgressEvent::of_error(error),
        };
        self.observe(key, &event);
    }

    /// Returns the outcome of an attempt from its entry in the journal, or `None` if the entry does not
    /// contain the outcome.
    ///
    /// # Errors
    /// Returns [`ErrorKind::StepKeyConflict`] if the entry belongs to other work.
    pub(crate) fn recorded_task(&self, work: &TaskWork, entry: &Entry) -> Result<Option<TaskOutcome>> {
        match (self.tasks().0.get(&work.kind()), work) {
            #[cfg(feature = "glue")]
            (Some(Executor::Glue(service)), TaskWork::Glue(run)) => {
                self.glue_job(service, &run.job).check_record(entry)?;
            }
            _ => check_record(entry, &work.target(), &self.task_name(work, &entry.key))?,
        }
        Ok(TaskOutcome::recorded(entry))
    }

    /// Rejects a run if this process cannot continue an open attempt of an earlier process.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Definition`] if the kind of the step is not registered, and
    /// [`ErrorKind::StepKeyConflict`] if the entry belongs to other work.
    pub(crate) fn check_open_task(&self, work: &TaskWork, entry: &Entry) -> Result<()> {
        self.tasks().check(&entry.key.step, work)?;
        self.recorded_task(work, entry).map(drop)
    }

    /// Does work that may be repeated, and records its intent and outcome.
    async fn repeatable(&self, task: &dyn Task, call: &TaskCall) -> Result<TaskOutcome> {
        let intent = self.intent(call)?;
        let is_continued = match self.journal().entry(&call.key).await? {
            Some(entry) if !entry.did_not_run() => {
                if let Some(recorded) = self.recorded_task(&call.work, &entry)? {
                    return Ok(recorded);
                }
                if entry.token != intent.token {
                    let reason = "the step was changed after this attempt had begun, and the journal does not contain its outcome";
                    return self.unknown_task(call, reason.to_owned(), Origin::Reattached).await;
                }
                true
            }
            _ => {
                self.record_of_task(&call.key, intent.into()).await?;
                false
            }
        };
        let began = Instant::now();
        let work = task.run(call);
        let ended = match call.timeout {
            Some(limit) => timeout(limit, work)
                .await
                .unwrap_or_else(|_| Ok(TaskOutcome::new(TaskOutcomeKind::TimedOut { may_still_run: false }))),
            None => work.await,
        };
        let mut outcome = match ended {
            Ok(outcome) => outcome,
            Err(error) if is_continued || error.may_have_run() || error.kind().may_have_taken_effect() => {
                return self.unknown_task(call, error.to_string(), Origin::Submitted).await;
            }
            Err(error) => {
                self.record_of_task(&call.key, Event::NotSubmitted { error: error.to_string() }).await?;
                return Err(error);
            }
        };
        outcome.execution_time.get_or_insert(began.elapsed());
        if let TaskOutcomeKind::Unknown { reason, .. } = &outcome.kind {
            let recorded = self.record_of_task(&call.key, Event::Unknown { reason: reason.clone() }).await;
            recorded.map_err(Error::after_uncertain_submit)?;
        }
        if let Some(recorded) = outcome.to_record() {
            let recorded = self.record_of_task(&call.key, Event::Ended(recorded)).await;
            recorded.map_err(Error::after_uncertain_submit)?;
        }
        Ok(outcome)
    }

    /// Records that the outcome of work that may be repeated is unknown, and returns this outcome.
    async fn unknown_task(&self, call: &TaskCall, reason: String, origin: Origin) -> Result<TaskOutcome> {
        let recorded = self.record_of_task(&call.key, Event::Unknown { reason: reason.clone() }).await;
        recorded.map_err(Error::after_uncertain_submit)?;
        let manual_check = check_task(&call.work.target(), &call.key);
        Ok(TaskOutcome { origin, ..TaskOutcome::new(TaskOutcomeKind::Unknown { reason, manual_check }) })
    }

    /// Returns the intent of work that may be repeated. Like the identity of a statement, its token and its
    /// name contain the scope and the pipeline.
    fn intent(&self, call: &TaskCall) -> Result<Intent> {
        self.namespace.check()?;
        let target = call.work.target();
        // The token is a digest, so the journal contains no values. The length of each list and the names of
        // arguments are parts of the digest.
        let texts = call.work.named_texts();
        let statement = texts
            .into_iter()
            .fold(Statement::sql(&target), |statement, (name, text)| statement.with_parameter(name, text));
        // Work that is not a statement does not run on the target of the statements.
        let namespace = Namespace { target: None, ..(*self.namespace).clone() };
        let token = namespace.client_token(&call.key, &statement)?;
        Ok(Intent { token, name: self.task_name(&call.work, &call.key), target })
    }

    /// Returns the name that the journal records for work that may be repeated, such as
    /// `prod/day/hudi/address day-7/address/1`.
    fn task_name(&self, work: &TaskWork, key: &StepKey) -> String {
        format!("{}{} {key}", self.namespace.name_prefix(), work.target())
    }

    async fn record_of_task(&self, key: &StepKey, event: Event) -> Result<()> {
        self.journal().append(Record::new(self.now(), key.clone(), event)).await
    }

    #[cfg(feature = "glue")]
    async fn glue_run(&self, service: &Arc<dyn JobService>, call: &TaskCall) -> Result<TaskOutcome> {
        let run = call.glue()?;
        let arguments: Vec<(&str, &str)> =
            run.arguments.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut job = self.glue_job(service, &run.job);
        if let Some(limit) = call.timeout {
            job = job.with_timeout(limit);
        }
        if let Some(grace) = self.cancel_grace() {
            job = job.with_cancel_grace(grace);
        }
        job.run(&call.key, &arguments).await.map(TaskOutcome::from)
    }

    #[cfg(feature = "glue")]
    fn glue_job(&self, service: &Arc<dyn JobService>, job: &str) -> GlueJob {
        GlueJob::new(service.clone(), self.journal().clone(), job)
            .with_clock(self.clock().clone())
            .with_expired_credentials_limit(self.retry_timeout())
            .with_namespace(&self.namespace)
    }
}

/// Rejects an entry for this attempt that belongs to work with another target or name, or to a statement. The
/// name contains the scope and the pipeline.
pub(crate) fn check_record(entry: &Entry, target: &str, name: &str) -> Result<()> {
    match &entry.target {
        _ if entry.did_not_run() => Ok(()),
        Some(recorded) if recorded == target && entry.name == name => Ok(()),
        Some(recorded) if recorded == target => Err(key_conflict(&entry.key, &entry.name, name)),
        recorded => Err(key_conflict(&entry.key, recorded.as_ref().unwrap_or(&entry.name), target)),
    }
}

/// Intent of work that may be repeated.
struct Intent {
    token: ClientToken,
    name: String,
    target: String,
}

impl From<Intent> for Event {
    fn from(Intent { token, name, target }: Intent) -> Self {
        Self::Intent { token, name, target: Some(target) }
    }
}

fn unregistered(step: &str, kind: TaskKind) -> Error {
    let way_out = match kind {
        TaskKind::Glue => "`Orchestrator::with_glue` or `Orchestrator::with_task`",
        TaskKind::Hudi => "`Orchestrator::with_task`",
    };
    let message = format!(
        "this program cannot run steps of the kind `{kind}`; run the pipeline with a program that registers the kind with \
         {way_out}, or as a state machine (`sfn-adapter asl`)"
    );
    Error::new(ErrorKind::Definition, message).with_context("step", step)
}
