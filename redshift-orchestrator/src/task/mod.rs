//! Steps of a pipeline that are not statements: runs of AWS Glue jobs, and raw files for Hudi tables.
//!
//! A pipeline file contains the whole content of such a step, so that the same file can be run by a program,
//! and exported as a state machine:
//!
//! ```
//! use redshift_orchestrator::Pipeline;
//!
//! let pipeline = Pipeline::from_toml(r#"
//! name = "day"
//! [parameters.day]
//!
//! [[steps]]
//! name = "clean-customer"
//! glue = { job = "clean-customer", arguments = { "--day" = "${day}" } }
//!
//! [[steps]]
//! name = "address"
//! hudi = { table = "address", files = ["s3://raw/address/${day}.csv"] }
//!
//! [[steps]]
//! name = "load"
//! call = "mystore.load(:day)"
//! parameters = { day = "${day}" }
//! after = ["clean-customer", "address"]
//! "#)?;
//! println!("{}", pipeline.plan());
//! # Ok::<(), redshift_orchestrator::Error>(())
//! ```
//!
//! The program that runs the pipeline registers an executor for each kind of step that it can run:
//!
//! | kind | registered by | after a death of the process |
//! |---|---|---|
//! | `glue` | [`Orchestrator::with_glue`](../struct.Orchestrator.html#method.with_glue) (feature `glue`) | waits for the job run, which is started at most once for each attempt |
//! | `hudi` | [`Orchestrator::with_task`](crate::Orchestrator::with_task) with a [`Task`] of the program | repeats the work, because a table takes in each file once |
//!
//! `with_task` can also register a [`Task`] for `glue`, for example one that does the work of the jobs on a
//! machine without AWS. A step whose kind is not registered is an error before anything runs, even if the
//! step is not selected, if the journal contains an open attempt at it.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

mod outcome;
mod run;
mod work;

pub use outcome::{TaskOutcome, TaskOutcomeKind};
pub(crate) use run::Tasks;
#[cfg(feature = "glue")]
pub(crate) use run::check_record;
pub use work::{GlueRun, HudiUpsert, RUN_TOKEN, TaskKind, TaskWork};

use crate::{Error, ErrorKind, Result, StepKey};

/// Executor of the steps of one kind whose work may be repeated, such as taking in files that a table takes
/// in once.
///
/// ```
/// use async_trait::async_trait;
/// use redshift_orchestrator::{Result, task::{Task, TaskCall, TaskOutcome}};
///
/// #[derive(Debug)]
/// struct Lake;
///
/// #[async_trait]
/// impl Task for Lake {
///     async fn run(&self, call: &TaskCall) -> Result<TaskOutcome> {
///         let upsert = call.hudi()?;
///         println!("table {}, files {}", upsert.table, upsert.files.join(", "));
///         // The program opens the table and takes the files in.
///         Ok(TaskOutcome::finished())
///     }
/// }
/// ```
///
/// # For implementors
///
/// * [`run`](Self::run) waits for the end of the work. The orchestrator records the intent before the call,
///   and the outcome after it. If the process dies between the two, the next run calls again with an equal
///   call. An attempt whose outcome is recorded is not called again.
/// * When the timeout of the step expires, the future is dropped, and the work must stop.
/// * An error means that the work did not run. The step retries it if its `retry` lists `not-submitted`. Work
///   that failed is a [`TaskOutcomeKind::Failed`], which is retried if `retry` lists `task`.
/// * After an error of a kind that [may have taken effect](ErrorKind::may_have_taken_effect), such as a lost
///   response, and after any error of a call that continues the work of an earlier process, the outcome is
///   [unknown](TaskOutcomeKind::Unknown). The next run calls again with an equal call.
/// * If the step was changed after an attempt had begun, the attempt is not called again, and its outcome is
///   unknown.
#[async_trait]
pub trait Task: fmt::Debug + Send + Sync {
    /// Does the work of one attempt.
    async fn run(&self, call: &TaskCall) -> Result<TaskOutcome>;
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<T: Task + ?Sized> Task for Arc<T> {
    async fn run(&self, call: &TaskCall) -> Result<TaskOutcome> {
        (**self).run(call).await
    }
}

/// One attempt at a step that is not a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskCall {
    /// The attempt.
    pub key: StepKey,
    /// The work, with the values of the run.
    pub work: TaskWork,
    /// Timeout of the step.
    pub timeout: Option<Duration>,
}

impl TaskCall {
    /// Creates a call without a timeout.
    pub fn new(key: StepKey, work: TaskWork) -> Self {
        Self { key, work, timeout: None }
    }

    /// Returns the run of a Glue job.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Unsupported`] if the step is of another kind.
    pub fn glue(&self) -> Result<&GlueRun> {
        match &self.work {
            TaskWork::Glue(run) => Ok(run),
            other => Err(self.of_another_kind(TaskKind::Glue, other.kind())),
        }
    }

    /// Returns the table and its files.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Unsupported`] if the step is of another kind.
    pub fn hudi(&self) -> Result<&HudiUpsert> {
        match &self.work {
            TaskWork::Hudi(upsert) => Ok(upsert),
            other => Err(self.of_another_kind(TaskKind::Hudi, other.kind())),
        }
    }

    fn of_another_kind(&self, expected: TaskKind, found: TaskKind) -> Error {
        let message = format!(
            "the task runs steps of the kind `{expected}`, not `{found}`; register it for `{expected}`"
        );
        Error::new(ErrorKind::Unsupported, message).with_context("step", &self.key)
    }
}
