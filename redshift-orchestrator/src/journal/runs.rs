//! Records, states and claims of runs.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    pin::Pin,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result, StepKey};

/// One line of a journal about a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunRecord {
    /// Time of the record.
    pub at: Timestamp,
    /// Name of the run.
    pub run: String,
    /// The event.
    #[serde(flatten)]
    pub event: RunEvent,
}

impl RunRecord {
    /// Creates a record.
    pub fn new(at: Timestamp, run: impl Into<String>, event: RunEvent) -> Self {
        Self { at, run: run.into(), event }
    }
}

/// Event of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RunEvent {
    /// A process began or resumed the run.
    RunBegun(RunBegun),
    /// The run ended.
    RunEnded {
        /// The result.
        result: RunOutcome,
    },
}

/// Inputs of a run: everything except secrets that is needed to resume it. `Debug` does not print the values
/// of parameters.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunBegun {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Label of the target, chosen by the caller, such as `111122223333:eu-west-1:workgroup/dwh/mystore`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Values of all parameters that are not secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Tags of the selected steps. If `tags` and `steps` are both empty, all steps are selected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Names of the selected steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "only")]
    pub steps: Vec<String>,
    /// Id of the process that began the run. All active runs of a journal file belong to the process that has
    /// the file open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<u32>,
}

impl RunBegun {
    /// Creates the inputs of a run that selects all steps and has neither a target nor parameters.
    pub fn new(pipeline: impl Into<String>) -> Self {
        Self { pipeline: pipeline.into(), ..Self::default() }
    }
}

impl fmt::Debug for RunBegun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunBegun")
            .field("pipeline", &self.pipeline)
            .field("target", &self.target)
            .field("parameters", &self.parameters.keys())
            .field("tags", &self.tags)
            .field("steps", &self.steps)
            .field("process", &self.process)
            .finish()
    }
}

/// Result of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RunOutcome {
    /// Every selected step finished.
    Finished,
    /// A step failed.
    Failed,
    /// The outcome of a step is unknown.
    Unknown,
    /// The run was stopped on request.
    Stopped,
}

impl RunOutcome {
    /// Returns a short name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Stopped => "stopped",
        }
    }
}

/// State of a run.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RunEntry {
    /// Name of the run.
    pub run: String,
    /// Time of the run's first record.
    pub first_begun_at: Timestamp,
    /// Time at which a process last began or resumed the run.
    pub begun_at: Timestamp,
    /// Inputs from the last begin or resume.
    pub begun: RunBegun,
    /// Time and result of the run's end; `None` if the run is active or its process died.
    pub ended: Option<(Timestamp, RunOutcome)>,
    /// `true` if a process is running the run now.
    pub is_active: bool,
    /// Number of the run's records.
    pub(crate) records: u64,
}

impl RunEntry {
    /// Creates the entry of a run whose first record has the time `at`. A `run-begun` record fills in the
    /// inputs.
    pub(crate) fn first_seen(run: &str, at: Timestamp) -> Self {
        Self {
            run: run.to_owned(),
            first_begun_at: at,
            begun_at: at,
            begun: RunBegun::default(),
            ended: None,
            is_active: false,
            records: 0,
        }
    }

    /// Returns the cursor of the page that begins after this run.
    pub fn cursor(&self) -> RunCursor {
        RunCursor { at: self.first_begun_at, run: Some(self.run.clone()) }
    }
}

/// One page of a journal's runs, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RunPage {
    /// The runs. A page can have fewer runs than the limit even if it is not the last page.
    pub runs: Vec<RunEntry>,
    /// Cursor of the next page; `None` on the last page.
    pub next: Option<RunCursor>,
}

impl RunPage {
    /// Creates a page, for implementors of a journal.
    pub fn new(runs: Vec<RunEntry>, next: Option<RunCursor>) -> Self {
        Self { runs, next }
    }
}

/// Position in the list of a journal's runs. The list is ordered by the time of each run's first record,
/// newest first. A cursor can be passed to another process as text, such as `2026-11-23T06:30:00Z/sales`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunCursor {
    at: Timestamp,
    run: Option<String>,
}

impl RunCursor {
    /// Creates the cursor of the page that begins with the newest run older than `at`.
    pub fn before(at: Timestamp) -> Self {
        Self { at, run: None }
    }

    /// Creates the cursor of the page that begins after `run`, whose first record has the time `at`.
    pub fn after(at: Timestamp, run: impl Into<String>) -> Self {
        Self { at, run: Some(run.into()) }
    }

    /// Returns the time of the position.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// Returns the run after which the page begins, if the cursor names one.
    pub fn run(&self) -> Option<&str> {
        self.run.as_deref()
    }

    /// Returns the position as a key of [`Index::by_time`](super::Index). The page contains smaller keys.
    pub(crate) fn key(&self) -> (Timestamp, String) {
        (self.at, self.run.clone().unwrap_or_default())
    }
}

impl fmt::Display for RunCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.at)?;
        self.run.iter().try_for_each(|run| write!(f, "/{run}"))
    }
}

impl FromStr for RunCursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (at, run) = text.split_once('/').map_or((text, None), |(at, run)| (at, Some(run.to_owned())));
        match at.parse() {
            Ok(at) => Ok(Self { at, run }),
            Err(error) => Err(Error::new(
                ErrorKind::Invalid,
                "not a position in the list of runs; use the form 2026-11-23T06:30:00Z/RUN",
            )
            .with_context("cursor", text)
            .with_source(error)),
        }
    }
}

/// Guard of a claimed run. While the guard exists, the journal rejects claims that its [`Claim`] excludes.
#[must_use = "the claim ends when the guard is dropped"]
pub struct ActiveRun {
    guard: Box<dyn Any + Send + Sync>,
    released: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    /// `None` if the claim cannot be lost.
    renew: Option<IsHeld>,
    /// `None` if the claim cannot be lost.
    check: Option<IsHeld>,
}

/// Function that finds out if a claim is still held.
type IsHeld = Box<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

impl ActiveRun {
    /// Creates a guard that ends the claim when `guard` is dropped.
    pub fn new(guard: impl Any + Send + Sync) -> Self {
        Self::released_by(guard, std::future::ready(()))
    }

    /// Creates a guard whose claim ends some time after `guard` is dropped. `released` completes when the
    /// claim has ended.
    pub fn released_by(
        guard: impl Any + Send + Sync,
        released: impl Future<Output = ()> + Send + Sync + 'static,
    ) -> Self {
        Self { guard: Box::new(guard), released: Box::pin(released), renew: None, check: None }
    }

    /// Sets the function with which [`renew`](Self::renew) renews a claim that can be lost. The function's
    /// future returns `false` if another process may hold the claim.
    pub fn with_renewal<F>(mut self, renew: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = bool> + Send + 'static,
    {
        self.renew = Some(Box::new(move || Box::pin(renew())));
        self
    }

    /// Sets the function with which [`is_held`](Self::is_held) checks a claim that can be lost. It sends no
    /// request.
    pub fn with_check<F>(mut self, is_held: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = bool> + Send + 'static,
    {
        self.check = Some(Box::new(move || Box::pin(is_held())));
        self
    }

    /// Returns `false` if the claim was lost. Unlike [`renew`](Self::renew), it does not renew the claim. A
    /// run does not start another step after its claim was lost.
    pub async fn is_held(&self) -> bool {
        match &self.check {
            Some(is_held) => is_held().await,
            None => true,
        }
    }

    /// Renews the claim. Returns `false` if the claim was lost, because another process may then have claimed
    /// the run. On object storage, a claim is lost if it could not be renewed for the duration of a lease. In
    /// a journal that only one process can open, a claim is never lost.
    pub async fn renew(&self) -> bool {
        match &self.renew {
            Some(renew) => renew().await,
            None => true,
        }
    }

    /// Ends the claim, and returns when another process can claim the run. Dropping the guard also ends the
    /// claim but does not wait. If the process ends before the claim has ended, a claim on object storage
    /// lasts until its lease expires.
    pub async fn release(self) {
        drop(self.guard);
        self.released.await;
    }
}

impl fmt::Debug for ActiveRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ActiveRun")
    }
}

/// Request to make a run active.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Claim {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Name of the run.
    pub run: String,
    /// Time at which the run became active.
    pub since: Timestamp,
    /// `true` if the claim excludes other exclusive claims of the same pipeline.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_exclusive: bool,
    /// Attempt to claim instead of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<StepKey>,
}

impl Claim {
    /// Creates a claim that may overlap with other runs of the pipeline.
    pub fn new(pipeline: impl Into<String>, run: impl Into<String>, since: Timestamp) -> Self {
        Self { pipeline: pipeline.into(), run: run.into(), since, is_exclusive: false, attempt: None }
    }

    /// Creates a claim of a single attempt. It excludes only other claims of the attempt, and does not make
    /// the run active.
    pub fn of_attempt(key: &StepKey, since: Timestamp) -> Self {
        Self { attempt: Some(key.clone()), ..Self::new("", &key.run, since) }
    }

    /// Excludes other exclusive claims of the pipeline. Default: `false`.
    #[must_use]
    pub fn with_exclusive(mut self, is_exclusive: bool) -> Self {
        self.is_exclusive = is_exclusive;
        self
    }

    /// Returns `true` if the two claims cannot be held at the same time.
    fn excludes(&self, other: &Self) -> bool {
        let are_exclusive = self.is_exclusive && other.is_exclusive;
        let is_same = self.run == other.run && self.attempt == other.attempt;
        is_same || (are_exclusive && self.pipeline == other.pipeline)
    }

    /// Returns the error for a claim that this claim excludes.
    pub(crate) fn refusal(&self) -> Error {
        let error = match &self.attempt {
            Some(key) => Error::new(
                ErrorKind::Overlap,
                "another call has claimed this attempt; repeat this call when that call has ended",
            )
            .with_context("step", key),
            None => Error::new(
                ErrorKind::Overlap,
                "the pipeline is already active; start this run after the active one, or queue it",
            )
            .with_context("pipeline", &self.pipeline),
        };
        error.with_context("active_run", &self.run).with_context("active_since", self.since)
    }
}

/// Claims of a journal that only one process can open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims(Arc<Mutex<Vec<Claim>>>);

/// Guard that removes its claim when dropped.
struct Claimed(Claims, Claim);

impl Claims {
    /// Adds a claim, or returns an error if an existing claim excludes it.
    pub(crate) fn claim(&self, claim: &Claim) -> Result<ActiveRun> {
        let mut active = self.lock();
        match active.iter().find(|other| other.excludes(claim)) {
            Some(other) => Err(other.refusal()),
            None => {
                active.push(claim.clone());
                Ok(ActiveRun::new(Claimed(self.clone(), claim.clone())))
            }
        }
    }

    /// Sets [`RunEntry::is_active`] to `true` if this process has claimed the run.
    pub(crate) fn mark(&self, entry: RunEntry) -> RunEntry {
        RunEntry { is_active: self.is_active(&entry.run), ..entry }
    }

    fn is_active(&self, run: &str) -> bool {
        self.lock().iter().any(|claim| claim.run == run && claim.attempt.is_none())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Claim>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.0.lock().retain(|claim| *claim != self.1);
    }
}
