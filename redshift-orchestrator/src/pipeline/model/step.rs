//! [`Step`]: one statement or task of a pipeline, its dependencies, and the effect of its failure.

use std::{collections::BTreeSet, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::StepWork;
use crate::{
    Commits, ExecutionMode, FailureKind, MAX_BATCH, Parameter,
    task::{GlueRun, HudiUpsert, TaskWork},
};

/// One step of a pipeline: its work, its dependencies, its timeout, its retry, and the effect of its failure.
///
/// ```
/// use std::time::Duration;
/// use redshift_orchestrator::{FailureKind, pipeline::{RetryPolicy, Step}};
///
/// let step = Step::call("fact-sales", "mystore.load_fact_sales(:cycle)")
///     .with_parameter("cycle", "${cycle}")
///     .after(["dim-customer", "dim-item"])
///     .with_timeout(Duration::from_secs(120))
///     .with_retry(RetryPolicy::new(3).on([FailureKind::SerializationConflict]));
/// assert_eq!(step.name(), "fact-sales");
/// ```
#[derive(Clone, PartialEq)]
pub struct Step {
    pub(in crate::pipeline) name: String,
    pub(in crate::pipeline) work: StepWork,
    pub(in crate::pipeline) parameters: Vec<Parameter>,
    pub(in crate::pipeline) after: Vec<String>,
    pub(in crate::pipeline) tags: Vec<String>,
    pub(in crate::pipeline) timeout: Option<Duration>,
    pub(in crate::pipeline) retry: Option<RetryPolicy>,
    pub(in crate::pipeline) on_failure: Option<OnFailure>,
    pub(in crate::pipeline) commits: Commits,
}

/// Statement or batch of a step.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepStatement {
    /// One SQL statement.
    Sql(String),
    /// Call of a stored procedure, without the word `CALL`, such as `mystore.load_sales(:cycle)`.
    Call(String),
    /// SQL statements, run in order. In [`ExecutionMode::AutoCommit`], a batch of more than 40 statements is
    /// divided into [parts](crate::Statement::parts).
    Batch(Vec<String>, ExecutionMode),
}

/// Effect of a step's failure on other steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum OnFailure {
    /// Skips all steps that depend on the failed step, directly or indirectly. Other steps run. The default.
    #[default]
    SkipDependents,
    /// Starts no further steps, and waits for the statements that are running.
    Stop,
    /// Runs the steps that depend on the failed step as if it had finished. If its statement may still be
    /// running, skips them.
    Continue,
}

/// Number of attempts at a step, and the kinds of failure after which the step is retried.
///
/// There are no default kinds, because a retry can be unsafe if the failed attempt has already committed
/// changes.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    pub(in crate::pipeline) attempts: u32,
    pub(in crate::pipeline) on: BTreeSet<FailureKind>,
    pub(in crate::pipeline) backoff: Duration,
}

impl RetryPolicy {
    /// Maximum pause between two attempts.
    pub const MAX_PAUSE: Duration = Duration::from_secs(300);

    /// Creates a policy with up to `attempts` attempts in total. The first pause is one second, and each
    /// further pause is twice as long.
    pub fn new(attempts: u32) -> Self {
        Self { attempts, on: BTreeSet::new(), backoff: Duration::from_secs(1) }
    }

    /// Adds kinds of failure after which the step is retried.
    #[must_use]
    pub fn on(mut self, kinds: impl IntoIterator<Item = FailureKind>) -> Self {
        self.on.extend(kinds);
        self
    }

    /// Sets the first pause, which doubles with each attempt. Default: one second.
    #[must_use]
    pub fn with_initial_backoff(mut self, first: Duration) -> Self {
        self.backoff = first;
        self
    }

    /// Returns the total number of attempts.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns the kinds of failure after which the step is retried.
    pub fn kinds(&self) -> impl Iterator<Item = FailureKind> + '_ {
        self.on.iter().copied()
    }

    /// Returns the pause after attempt number `attempt`, starting at 1. The pause doubles with each attempt,
    /// up to [`MAX_PAUSE`](Self::MAX_PAUSE).
    pub fn pause(&self, attempt: u32) -> Duration {
        let factor = 2_u32.saturating_pow(attempt.saturating_sub(1));
        self.backoff.saturating_mul(factor).min(Self::MAX_PAUSE)
    }
}

impl Step {
    /// Creates a step that runs one SQL statement.
    pub fn sql(name: impl Into<String>, sql: impl Into<String>) -> Self {
        Self::of_statement(name, StepStatement::Sql(sql.into()))
    }

    /// Creates a step that calls a stored procedure. `procedure` is the call without the word `CALL`, such as
    /// `mystore.load_sales(:cycle)`, or only the name of the procedure.
    pub fn call(name: impl Into<String>, procedure: impl Into<String>) -> Self {
        Self::of_statement(name, StepStatement::Call(procedure.into()))
    }

    /// Creates a step that runs SQL statements in order. In [`ExecutionMode::Transaction`], the number of
    /// statements is limited to 40.
    pub fn batch<S: Into<String>>(
        name: impl Into<String>,
        sqls: impl IntoIterator<Item = S>,
        mode: ExecutionMode,
    ) -> Self {
        Self::of_statement(name, StepStatement::Batch(sqls.into_iter().map(Into::into).collect(), mode))
    }

    /// Creates a step that runs an AWS Glue job. Its name and the values of its arguments may contain `${…}`
    /// parameters of the run.
    pub fn glue(name: impl Into<String>, run: GlueRun) -> Self {
        Self::new(name, StepWork::Task(TaskWork::Glue(run)))
    }

    /// Creates a step that takes raw files into a Hudi table. The name of the table and the URLs of the files
    /// may contain `${…}` parameters of the run.
    pub fn hudi(name: impl Into<String>, upsert: HudiUpsert) -> Self {
        Self::new(name, StepWork::Task(TaskWork::Hudi(upsert)))
    }

    fn of_statement(name: impl Into<String>, statement: StepStatement) -> Self {
        Self::new(name, StepWork::Statement(statement))
    }

    pub(in crate::pipeline) fn new(name: impl Into<String>, work: StepWork) -> Self {
        Self {
            name: name.into(),
            work,
            parameters: Vec::new(),
            after: Vec::new(),
            tags: Vec::new(),
            timeout: None,
            retry: None,
            on_failure: None,
            commits: Commits::Detected,
        }
    }

    /// Sets the value of the placeholder `:name`, which may contain `${…}` parameters of the run.
    #[must_use]
    pub fn with_parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.push(Parameter::new(name, value));
        self
    }

    /// Adds dependencies: the step runs after these steps.
    #[must_use]
    pub fn after<S: Into<String>>(mut self, steps: impl IntoIterator<Item = S>) -> Self {
        self.after.extend(steps.into_iter().map(Into::into));
        self
    }

    /// Adds tags, by which a run can [select](super::Run::with_tags) steps.
    #[must_use]
    pub fn with_tags<S: Into<String>>(mut self, tags: impl IntoIterator<Item = S>) -> Self {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Sets the timeout, after which the statement is cancelled or the task is stopped.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the retry policy.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Sets the effect of a failure on other steps.
    #[must_use]
    pub fn with_on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = Some(on_failure);
        self
    }

    /// Declares if the step commits by itself, for example because a procedure contains `COMMIT` or
    /// `TRUNCATE`. A transaction batch that commits by itself is rejected. Default: [`Commits::Detected`].
    #[must_use]
    pub fn with_commits(mut self, commits: Commits) -> Self {
        self.commits = commits;
        self
    }

    /// Returns the name, which is unique in the pipeline.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the work: a statement, a batch or a task.
    pub fn work(&self) -> &StepWork {
        &self.work
    }

    /// Returns the statement or batch, or `None` for a task.
    pub fn statement(&self) -> Option<&StepStatement> {
        match &self.work {
            StepWork::Statement(statement) => Some(statement),
            StepWork::Task(_) => None,
        }
    }

    /// Returns the task, or `None` for a statement or batch.
    pub fn task(&self) -> Option<&TaskWork> {
        match &self.work {
            StepWork::Statement(_) => None,
            StepWork::Task(work) => Some(work),
        }
    }

    /// Returns the values of the placeholders, with `${…}` unreplaced.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Returns the names of the steps after which this step runs.
    pub fn dependencies(&self) -> &[String] {
        &self.after
    }

    /// Returns the tags.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// Returns the timeout, after which the statement is cancelled or the task is stopped.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Returns the retry policy.
    pub fn retry(&self) -> Option<&RetryPolicy> {
        self.retry.as_ref()
    }

    /// Returns the effect of a failure on other steps.
    pub fn on_failure(&self) -> OnFailure {
        self.on_failure.unwrap_or_default()
    }

    /// Returns the declaration of [`with_commits`](Self::with_commits).
    pub fn commits(&self) -> Commits {
        self.commits
    }
}

impl StepStatement {
    /// Returns the SQL texts, with `${…}` unreplaced.
    pub fn sqls(&self) -> Vec<String> {
        match self {
            Self::Sql(sql) => vec![sql.clone()],
            Self::Call(call) if call.contains('(') => vec![format!("CALL {call}")],
            Self::Call(call) => vec![format!("CALL {call}()")],
            Self::Batch(sqls, _) => sqls.clone(),
        }
    }

    /// Returns a description without SQL: `CALL mystore.load_sales`, `1 SQL statement`, `batch of 3`.
    pub fn summary(&self) -> String {
        match self {
            Self::Sql(_) => "1 SQL statement".to_owned(),
            Self::Call(call) => format!("CALL {}", call.split('(').next().unwrap_or(call).trim()),
            Self::Batch(sqls, ExecutionMode::AutoCommit) => match sqls.len().div_ceil(MAX_BATCH) {
                0 | 1 => format!("batch of {}, each committed", sqls.len()),
                parts => format!("batch of {} in {parts} parts, each committed", sqls.len()),
            },
            Self::Batch(sqls, _) => format!("batch of {}, one transaction", sqls.len()),
        }
    }
}

impl fmt::Debug for StepStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary())
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("name", &self.name)
            .field("work", &self.work)
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}
