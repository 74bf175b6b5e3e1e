//! Runs as a whole: what they were begun with, which of them are active, how they ended.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// One line of a journal about a run as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// When it was written.
    pub at: Timestamp,
    /// The run's name.
    pub run: String,
    /// What happened.
    #[serde(flatten)]
    pub event: RunEvent,
}

/// What happened to a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RunEvent {
    /// A process began it, or went on with it.
    RunBegun(RunBegun),
    /// That process came to an end with it.
    RunEnded {
        /// Which end.
        result: RunResult,
    },
}

/// What a run was begun with: enough to go on with it. `Debug` does not print the values of parameters.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunBegun {
    /// The pipeline's name.
    pub pipeline: String,
    /// Where its statements run, in the words of whoever began it: `aws:eu-west-1:workgroup/dwh/mystore`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The values it was given, without those of parameters that are secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Only steps with one of these tags; with `only` empty, too: all steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Only these steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// The number of the process that began it: of one file, all active runs are one process's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<u32>,
}

impl fmt::Debug for RunBegun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunBegun")
            .field("pipeline", &self.pipeline)
            .field("target", &self.target)
            .field("parameters", &self.parameters.keys())
            .field("tags", &self.tags)
            .field("only", &self.only)
            .field("process", &self.process)
            .finish()
    }
}

/// How a process came to an end with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RunResult {
    /// Every step that was to run finished.
    Finished,
    /// A step did not finish.
    Failed,
    /// What became of a step cannot be proved.
    Unknown,
    /// It was asked to stop.
    Stopped,
}

impl RunResult {
    /// A word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Stopped => "stopped",
        }
    }
}

/// What is known of a run as a whole.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RunEntry {
    /// The run's name.
    pub run: String,
    /// When it was first begun.
    pub first_begun_at: Timestamp,
    /// When a process last began it, or went on with it.
    pub begun_at: Timestamp,
    /// What that was given.
    pub begun: RunBegun,
    /// When and how that came to an end with it; `None`: it is at it, or died.
    pub ended: Option<(Timestamp, RunResult)>,
    /// Whether a process is at it now.
    pub is_active: bool,
}

impl RunEntry {
    /// A run of which no beginning is known yet.
    pub(crate) fn first_seen(run: &str, at: Timestamp) -> Self {
        Self {
            run: run.to_owned(),
            first_begun_at: at,
            begun_at: at,
            begun: RunBegun::default(),
            ended: None,
            is_active: false,
        }
    }

    /// Returns the place behind this run in a listing.
    pub fn cursor(&self) -> RunCursor {
        RunCursor { at: self.first_begun_at, run: Some(self.run.clone()) }
    }
}

/// A page of a journal's runs, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RunPage {
    /// The runs. A page may have fewer than the limit although more follow.
    pub runs: Vec<RunEntry>,
    /// Where the next page begins; `None`: this is the last page.
    pub next: Option<RunCursor>,
}

impl RunPage {
    /// A page, for implementors of a journal.
    pub fn new(runs: Vec<RunEntry>, next: Option<RunCursor>) -> Self {
        Self { runs, next }
    }
}

/// A place in the list of a journal's runs, which is ordered by the time of their first record, newest first. Its text, such as
/// `2026-11-23T06:30:00Z/sales`, can be passed between processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunCursor {
    at: Timestamp,
    run: Option<String>,
}

impl RunCursor {
    /// The place before all runs that began earlier than `at`.
    pub fn before(at: Timestamp) -> Self {
        Self { at, run: None }
    }

    /// The place behind the run `run`, whose first record is of the time `at`.
    pub fn behind(at: Timestamp, run: impl Into<String>) -> Self {
        Self { at, run: Some(run.into()) }
    }

    /// Returns the time.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// Returns the run, if the place is behind one.
    pub fn run(&self) -> Option<&str> {
        self.run.as_deref()
    }

    /// The place in an order by time and name, as a bound that is not part of the rest.
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
                "not a place in a list of runs; write it like 2026-11-23T06:30:00Z/RUN",
            )
            .with_context("cursor", text)
            .with_source(error)),
        }
    }
}

/// A run that this process is at: while it lives, the journal refuses others of the same pipeline.
pub struct ActiveRun(#[expect(dead_code, reason = "held, and dropped")] Box<dyn Any + Send + Sync>);

impl ActiveRun {
    /// A claim that ends when `guard` is dropped.
    pub fn new(guard: impl Any + Send + Sync) -> Self {
        Self(Box::new(guard))
    }
}

impl fmt::Debug for ActiveRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ActiveRun")
    }
}

/// Whose claim a run wants to stake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The pipeline's name.
    pub pipeline: String,
    /// The run's name.
    pub run: String,
    /// Since when it is active.
    pub since: Timestamp,
}

impl Claim {
    /// The refusal of another run, because of this one.
    pub(crate) fn refusal(&self) -> Error {
        Error::new(
            ErrorKind::Overlap,
            "the pipeline is active already; begin this run after that one, or let it queue",
        )
        .with_context("pipeline", &self.pipeline)
        .with_context("active_run", &self.run)
        .with_context("active_since", self.since)
    }
}

/// The active runs of a journal that one process has to itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims(Arc<Mutex<Vec<(Claim, bool)>>>);

/// Takes its claim back when it is dropped.
struct Claimed(Claims, Claim);

impl Claims {
    /// Refused if it may not run beside an active one. One run is never active twice.
    pub(crate) fn claim(&self, claim: &Claim, alone: bool) -> Result<ActiveRun> {
        let mut active = self.lock();
        let excludes = |other: &Claim, theirs| {
            other.run == claim.run || (alone && theirs && other.pipeline == claim.pipeline)
        };
        match active.iter().find(|(other, theirs)| excludes(other, *theirs)) {
            Some((other, _)) => Err(other.refusal()),
            None => {
                active.push((claim.clone(), alone));
                Ok(ActiveRun::new(Claimed(self.clone(), claim.clone())))
            }
        }
    }

    /// Notes whether this process is at the run.
    pub(crate) fn mark(&self, entry: RunEntry) -> RunEntry {
        RunEntry { is_active: self.is_active(&entry.run), ..entry }
    }

    fn is_active(&self, run: &str) -> bool {
        self.lock().iter().any(|(claim, _)| claim.run == run)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Claim, bool)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.0.lock().retain(|(claim, _)| *claim != self.1);
    }
}
