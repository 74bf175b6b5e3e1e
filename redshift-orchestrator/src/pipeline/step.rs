//! [`Step`]: one statement of a pipeline, what it waits for, and what happens when it fails.

use std::{collections::BTreeSet, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{ExecutionMode, FailureKind, MAX_BATCH, Parameter};

/// One step of a pipeline: a statement, the steps it comes after, its time, its retry, and what its failure means to others.
///
/// ```
/// use std::time::Duration;
/// use redshift_orchestrator::{FailureKind, pipeline::{Retry, Step}};
///
/// let step = Step::call("fact-sales", "mystore.load_fact_sales(:cycle)")
///     .with_parameter("cycle", "${cycle}")
///     .after(["dim-customer", "dim-item"])
///     .with_timeout(Duration::from_secs(120))
///     .with_retry(Retry::new(3).on([FailureKind::SerializationConflict]));
/// assert_eq!(step.name(), "fact-sales");
/// ```
#[derive(Clone, PartialEq)]
pub struct Step {
    pub(super) name: String,
    pub(super) work: Work,
    pub(super) parameters: Vec<Parameter>,
    pub(super) after: Vec<String>,
    pub(super) tags: Vec<String>,
    pub(super) timeout: Option<Duration>,
    pub(super) retry: Option<Retry>,
    pub(super) on_failure: Option<OnFailure>,
    pub(super) commits: Option<bool>,
}

/// What a step runs.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Work {
    /// One SQL statement.
    Sql(String),
    /// A stored procedure, as it stands behind `CALL`: `mystore.load_sales(:cycle)`.
    Call(String),
    /// SQL statements, run one after the other. More than 40 run as [parts](crate::Statement::parts) if each commits on its own.
    Batch(Vec<String>, ExecutionMode),
}

/// What a step's failure means to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum OnFailure {
    /// Steps that come after it, directly or not, are not run; all others are. The default.
    #[default]
    SkipDependents,
    /// No further step is begun; those that run are waited for.
    Stop,
    /// Steps that come after it are run all the same. A step whose outcome is unknown holds them back nevertheless.
    Continue,
}

/// How often, and after which failures, a step is tried again.
///
/// There is no default set of failures: whether a repeat is safe depends on what the step has committed by then.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    pub(super) attempts: u32,
    pub(super) on: BTreeSet<FailureKind>,
    pub(super) backoff: Duration,
}

impl Retry {
    /// Up to `attempts` attempts in all, with pauses that begin at one second and double.
    pub fn new(attempts: u32) -> Self {
        Self { attempts, on: BTreeSet::new(), backoff: Duration::from_secs(1) }
    }

    /// After these failures.
    #[must_use]
    pub fn on(mut self, kinds: impl IntoIterator<Item = FailureKind>) -> Self {
        self.on.extend(kinds);
        self
    }

    /// The first pause; it doubles with each attempt.
    #[must_use]
    pub fn with_backoff(mut self, first: Duration) -> Self {
        self.backoff = first;
        self
    }

    /// Attempts in all.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The failures after which another attempt is safe.
    pub fn kinds(&self) -> impl Iterator<Item = FailureKind> + '_ {
        self.on.iter().copied()
    }

    /// The pause after attempt number `attempt`, counted from 1: at most five minutes.
    pub fn pause(&self, attempt: u32) -> Duration {
        let factor = 2_u32.saturating_pow(attempt.saturating_sub(1));
        self.backoff.saturating_mul(factor).min(Duration::from_secs(300))
    }
}

impl Step {
    /// A step that runs one SQL statement.
    pub fn sql(name: impl Into<String>, sql: impl Into<String>) -> Self {
        Self::new(name, Work::Sql(sql.into()))
    }

    /// A step that calls a stored procedure, as it stands behind `CALL`: `mystore.load_sales(:cycle)`, or just its name.
    pub fn call(name: impl Into<String>, procedure: impl Into<String>) -> Self {
        Self::new(name, Work::Call(procedure.into()))
    }

    /// A step that runs SQL statements: at most 40 as one transaction; as many as there are if each commits on its own.
    pub fn batch<S: Into<String>>(
        name: impl Into<String>,
        sqls: impl IntoIterator<Item = S>,
        mode: ExecutionMode,
    ) -> Self {
        Self::new(name, Work::Batch(sqls.into_iter().map(Into::into).collect(), mode))
    }

    pub(super) fn new(name: impl Into<String>, work: Work) -> Self {
        Self {
            name: name.into(),
            work,
            parameters: Vec::new(),
            after: Vec::new(),
            tags: Vec::new(),
            timeout: None,
            retry: None,
            on_failure: None,
            commits: None,
        }
    }

    /// Gives the placeholder `:name` a value, which may hold `${…}` parameters of the run.
    #[must_use]
    pub fn with_parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.push(Parameter { name: name.into(), value: value.into() });
        self
    }

    /// Runs after these steps.
    #[must_use]
    pub fn after<S: Into<String>>(mut self, steps: impl IntoIterator<Item = S>) -> Self {
        self.after.extend(steps.into_iter().map(Into::into));
        self
    }

    /// Labels it, for runs of a [part](super::Run::with_tags) of the pipeline.
    #[must_use]
    pub fn with_tags<S: Into<String>>(mut self, tags: impl IntoIterator<Item = S>) -> Self {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Cancels the statement after this time.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Tries again after some failures.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// What its failure means to others.
    #[must_use]
    pub fn with_on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = Some(on_failure);
        self
    }

    /// Declares whether it commits by itself, as a procedure with `COMMIT` or `TRUNCATE` in it does: that is kept out of a batch in one
    /// transaction. Unless declared, only what stands in the SQL is seen.
    #[must_use]
    pub fn with_commits(mut self, commits: bool) -> Self {
        self.commits = Some(commits);
        self
    }

    /// Its name, unique in the pipeline.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it runs.
    pub fn work(&self) -> &Work {
        &self.work
    }

    /// The values of its placeholders, with `${…}` as they were written.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The steps it comes after.
    pub fn dependencies(&self) -> &[String] {
        &self.after
    }

    /// Its labels.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// After how long its statement is cancelled.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// How often, and after which failures, it is tried again.
    pub fn retry(&self) -> Option<&Retry> {
        self.retry.as_ref()
    }

    /// What its failure means to others.
    pub fn on_failure(&self) -> OnFailure {
        self.on_failure.unwrap_or_default()
    }
}

impl Work {
    /// What is sent, with `${…}` as it was written.
    pub fn sqls(&self) -> Vec<String> {
        match self {
            Self::Sql(sql) => vec![sql.clone()],
            Self::Call(call) if call.contains('(') => vec![format!("CALL {call}")],
            Self::Call(call) => vec![format!("CALL {call}()")],
            Self::Batch(sqls, _) => sqls.clone(),
        }
    }

    /// What it is, without SQL: `CALL mystore.load_sales`, `1 SQL statement`, `batch of 3`.
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

impl fmt::Debug for Work {
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
