//! The journal: what was about to be submitted, what was, and how it ended.
//!
//! An intent is durable *before* its statement is submitted, with the client token and the name that the statement will
//! bear. Whatever is lost after that, the next process finds the intent and asks the service what became of it.
//!
//! | the process died, or lost the answer | the journal holds | the next run, within 8 h | within 24 h | after |
//! |---|---|---|---|---|
//! | before the intent was durable | nothing | submits: nothing was sent | the same | the same |
//! | before the submit was sent | intent | submits with the same token: the service runs it | lists by name: not there, **unknown** | **unknown** |
//! | after the submit took effect | intent | submits with the same token: the service answers with the first id | lists by name: takes its id | **unknown** |
//! | while the statement ran | intent, id | asks for the id, waits on | the same | **unknown** |
//! | after it ended, before that was durable | intent, id | asks for the id | the same | **unknown** |
//! | after the ending was durable | all of it | takes the ending from here, asks nobody | the same | the same |
//! | while a record was written | a torn line, cut off | as before that record | the same | the same |
//! | a request or its reply was lost, and the process lives | intent | submits again with the same token | lists by name; not there: **unknown** | **unknown** |
//! | the service certainly did not take it | intent, refused | submits: nothing was sent | the same | the same |
//! | the time was over, and the cancel was not answered | intent, id, **unknown** | asks for the id | the same | **unknown** |
//!
//! Tests of the rows, in `tests/orchestration/endings.rs` unless said otherwise:
//! `a_death_before_the_intent_was_durable_is_no_event`,
//! `a_death_before_the_submit_is_settled_by_the_token_for_8_hours_and_then_unknown`,
//! `a_death_after_the_submit_is_settled_by_token_then_by_name_then_unknown`,
//! `a_death_while_the_statement_ran_is_settled_by_its_id_for_24_hours` (two rows),
//! `a_death_after_the_ending_was_durable_needs_nobody`, `cuts_off_a_last_line_torn_at_any_byte` (`journal/file.rs`),
//! `lost_answers_run_nothing_twice`, `what_was_certainly_not_sent_is_an_error_and_may_be_run_again`; all rows at once, over drawn schedules:
//! `no_schedule_doubles_or_loses_a_statement` (`promises.rs`).
//!
//! 8 hours is how long the service remembers a client token, 24 hours how long it keeps a statement's record; both are
//! counted from the intent, less a margin of 15 minutes. A statement that a listing does not show is unknown and not
//! "never sent": the service documents neither how soon a statement appears there nor that everything does, and a listing
//! shows only what the same IAM role submitted. What is unknown is never submitted again; a person looks, and
//! [settles](crate::Orchestrator::settle) it.
//!
//! # What it holds
//!
//! No SQL, and no values of secret parameters. It holds the other values that a run was begun with, so that the run can go on with them; client
//! tokens, digests that say nothing to a reader but would confirm a guess; and the database's words about failures, without what they
//! quote unless that was [asked for](crate::Orchestrator::with_quotations).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ClientToken, Error, ErrorKind, Result, StatementId, Status, StepKey, outcome::what_to_check};

mod file;
mod group;
mod line;
mod memory;
#[cfg(feature = "object-store")]
mod object_store;
mod prune;
mod runs;

pub use file::FileJournal;
pub(crate) use line::{BadLine, Head, Line};
pub use memory::MemoryJournal;
#[cfg(feature = "object-store")]
pub use object_store::ObjectStoreJournal;
pub use prune::{Keep, Kept, Prune, Pruned, prune};
pub use runs::{ActiveRun, Claim, RunBegun, RunCursor, RunEntry, RunEvent, RunPage, RunRecord, RunResult};

/// Where intents, ids and endings are kept.
///
/// # For implementors
///
/// * When [`append`](Self::append) returns `Ok`, the record survives the process and the machine's loss of power; when it returns
///   an error, it may or may not be there. A dropped `append` may have taken effect.
/// * Records of one key are kept in the order of their appends.
/// * Two processes must not write one journal at the same time; an implementation refuses the second.
///
/// `conformance::journal` (feature `conformance`) has the scenarios that hold an implementation to this.
#[async_trait]
pub trait Journal: fmt::Debug + Send + Sync {
    /// Makes a record durable.
    async fn append(&self, record: Record) -> Result<()>;

    /// Returns the folded records of one attempt at a step, or `None` if it was never intended.
    async fn entry(&self, key: &StepKey) -> Result<Option<Entry>>;

    /// Returns the attempts of a run, by step and attempt.
    async fn run(&self, run: &str) -> Result<Vec<Entry>>;

    /// Makes a run active until the returned guard is dropped or the process dies. With `alone`, other runs of the same pipeline are
    /// refused meanwhile. A second process is refused the same run in any case.
    ///
    /// # Errors
    /// [`ErrorKind::Overlap`] with `active_run` and `active_since` in its context.
    async fn claim(&self, claim: &Claim, alone: bool) -> Result<ActiveRun>;

    /// Makes a record about a run as a whole durable.
    async fn append_run(&self, record: RunRecord) -> Result<()>;

    /// Returns a run as a whole, or `None` if the journal has no record of it. The cost does not depend on the number of other runs.
    async fn run_entry(&self, run: &str) -> Result<Option<RunEntry>>;

    /// Returns up to `limit` runs (at least one, if there is one), newest first by [`RunEntry::first_begun_at`], beginning behind
    /// `after`. The cost depends on `limit`, not on the number of runs in the journal.
    ///
    /// A run whose statements were submitted without a pipeline is listed with an empty pipeline name.
    async fn runs(&self, limit: usize, after: Option<&RunCursor>) -> Result<RunPage>;

    /// Removes all records of these runs. [`prune`] decides which runs may be removed, and holds their claims meanwhile.
    ///
    /// A process that dies during the removal leaves each run whole, absent, or unreadable until a further call finishes the removal.
    /// A removal that was cut short is finished first, also if `runs` is empty.
    async fn remove_runs(&self, runs: &[RunEntry]) -> Result<()>;
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<J: Journal + ?Sized> Journal for Arc<J> {
    async fn append(&self, record: Record) -> Result<()> {
        (**self).append(record).await
    }

    async fn entry(&self, key: &StepKey) -> Result<Option<Entry>> {
        (**self).entry(key).await
    }

    async fn run(&self, run: &str) -> Result<Vec<Entry>> {
        (**self).run(run).await
    }

    async fn claim(&self, claim: &Claim, alone: bool) -> Result<ActiveRun> {
        (**self).claim(claim, alone).await
    }

    async fn append_run(&self, record: RunRecord) -> Result<()> {
        (**self).append_run(record).await
    }

    async fn run_entry(&self, run: &str) -> Result<Option<RunEntry>> {
        (**self).run_entry(run).await
    }

    async fn runs(&self, limit: usize, after: Option<&RunCursor>) -> Result<RunPage> {
        (**self).runs(limit, after).await
    }

    async fn remove_runs(&self, runs: &[RunEntry]) -> Result<()> {
        (**self).remove_runs(runs).await
    }
}

/// One line of a journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When it was written.
    pub at: Timestamp,
    /// Which attempt it is about.
    #[serde(flatten)]
    pub key: StepKey,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened to an attempt at a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// It is about to be submitted.
    Intent {
        /// The client token it will bear.
        token: ClientToken,
        /// The statement name it will bear.
        name: String,
    },
    /// The service accepted it.
    Submitted {
        /// Under this id.
        id: StatementId,
    },
    /// It ended.
    Ended(Ended),
    /// The service refused it, or could not be reached; it certainly did not run.
    Refused {
        /// The error, as printed.
        error: String,
    },
    /// What became of it could not be proved.
    Unknown {
        /// Why not.
        reason: String,
    },
    /// A person looked, and said what became of it.
    Settled {
        /// What the person found.
        found: Settlement,
        /// Who.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// Why they think so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        because: Option<String>,
    },
}

/// How a statement ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// `FINISHED`, `FAILED` or `ABORTED`.
    pub status: Status,
    /// Why it failed, in the database's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether it was cancelled because its time was over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timed_out: bool,
    /// How long the database worked on it, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::seconds::optional")]
    pub executing: Option<Duration>,
    /// Rows in the result, or rows that it affected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Whether there is a result to fetch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_result_set: bool,
}

/// What a person found out about a statement whose fate was unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Settlement {
    /// It ran and its effect is there: the step counts as finished.
    Finished,
    /// It ran and left nothing behind: the attempt counts as failed, and the next one may run.
    Failed,
    /// It never ran: the same attempt may be submitted.
    NeverRan,
}

/// What is known of one attempt at a step: its records, folded.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// Which attempt.
    pub key: StepKey,
    /// When it was first intended. The service's 8 and 24 hours are counted from here.
    pub intended_at: Timestamp,
    /// The client token it bears.
    pub token: ClientToken,
    /// The statement name it bears.
    pub name: String,
    /// The service's id, once that is known.
    pub id: Option<StatementId>,
    /// Where it stands.
    pub standing: Standing,
}

impl Entry {
    /// What a person can look at to find out what became of it: the service's record and listing, and Redshift's own log of queries.
    pub fn what_to_check(&self) -> String {
        what_to_check(&self.name, self.id.as_ref(), self.intended_at)
    }
}

/// Writes down what a person found out about a statement whose fate is unknown, who, and why they think so.
///
/// # Errors
/// [`ErrorKind::Invalid`] if the journal does not know this attempt, or knows its ending.
pub async fn settle(
    journal: &dyn Journal,
    at: Timestamp,
    key: &StepKey,
    found: Settlement,
    by: Option<String>,
    because: Option<String>,
) -> Result<()> {
    let refused = |message: &str| Error::new(ErrorKind::Invalid, message).with_context("step", key);
    match journal.entry(key).await?.map(|entry| entry.standing) {
        Some(Standing::Open | Standing::Unknown(_)) => {
            let event = Event::Settled { found, by, because };
            journal.append(Record { at, key: key.clone(), event }).await
        }
        Some(_) => Err(refused("this attempt has already ended")),
        None => Err(refused("the journal does not contain this attempt")),
    }
}

/// Where an attempt at a step stands.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Standing {
    /// Intended, perhaps submitted, perhaps ended: the service knows.
    Open,
    /// Ended.
    Ended(Ended),
    /// Certainly did not run.
    Refused(String),
    /// Could not be proved when it was last looked at.
    Unknown(String),
    /// Said by a person.
    Settled(Settlement),
}

/// Entries by key: what a journal keeps in memory of its records.
#[derive(Debug, Default)]
pub(crate) struct Index {
    steps: BTreeMap<StepKey, Entry>,
    runs: BTreeMap<String, RunEntry>,
    /// The runs by the time of their first record.
    by_time: BTreeSet<(Timestamp, String)>,
}

impl Index {
    pub(crate) fn apply(&mut self, line: Line) {
        let (at, run) = line.of();
        // Any record makes its run known: statements that are submitted without a pipeline have no `run-begun`.
        if !self.runs.contains_key(run) {
            self.runs.insert(run.to_owned(), RunEntry::first_seen(run, at));
            self.by_time.insert((at, run.to_owned()));
        }
        match line {
            Line::Step(record) => self.apply_step(record),
            Line::Run(record) => self.apply_run(record),
        }
    }

    /// Adds a record. A record without an intent before it is left out: it proves nothing that could be acted upon.
    fn apply_step(&mut self, record: Record) {
        let Record { at, key, event } = record;
        let standing = match event {
            Event::Intent { token, name } => {
                // An intent that is written again begins anew: the one before it was refused or settled as never run.
                let entry = Entry {
                    key: key.clone(),
                    intended_at: at,
                    token,
                    name,
                    id: None,
                    standing: Standing::Open,
                };
                self.steps.insert(key, entry);
                return;
            }
            Event::Submitted { id } => {
                if let Some(entry) = self.steps.get_mut(&key) {
                    entry.id = Some(id);
                }
                return;
            }
            Event::Ended(ended) => Standing::Ended(ended),
            Event::Refused { error } => Standing::Refused(error),
            Event::Unknown { reason } => Standing::Unknown(reason),
            Event::Settled { found, .. } => Standing::Settled(found),
        };
        if let Some(entry) = self.steps.get_mut(&key) {
            // Of two that waited for it, one was told how it ended.
            let is_known = matches!(entry.standing, Standing::Ended(_));
            if !(is_known && matches!(standing, Standing::Unknown(_))) {
                entry.standing = standing;
            }
        }
    }

    fn apply_run(&mut self, record: RunRecord) {
        let RunRecord { at, run, event } = record;
        let Some(entry) = self.runs.get_mut(&run) else { return };
        match event {
            RunEvent::RunBegun(begun) => {
                (entry.begun_at, entry.begun, entry.ended) = (at, begun, None);
            }
            RunEvent::RunEnded { result } => entry.ended = Some((at, result)),
        }
    }

    pub(crate) fn entry(&self, key: &StepKey) -> Option<Entry> {
        self.steps.get(key).cloned()
    }

    pub(crate) fn run(&self, run: &str) -> Vec<Entry> {
        self.entries(run).cloned().collect()
    }

    fn entries(&self, run: &str) -> impl Iterator<Item = &Entry> {
        let first = StepKey { run: run.to_owned(), step: String::new(), attempt: 0, part: None };
        self.steps.range(first..).map(|(_, entry)| entry).take_while(move |entry| entry.key.run == run)
    }

    pub(crate) fn run_entry(&self, run: &str) -> Option<RunEntry> {
        self.runs.get(run).cloned()
    }

    /// All runs, newest first.
    pub(crate) fn all_runs(&self) -> Vec<RunEntry> {
        self.runs_after(None).cloned().collect()
    }

    /// A page of runs, newest first.
    pub(crate) fn runs(&self, limit: usize, after: Option<&RunCursor>) -> RunPage {
        let mut runs = self.runs_after(after).cloned();
        let page: Vec<_> = runs.by_ref().take(limit.max(1)).collect();
        let next = runs.next().and_then(|_| page.last()).map(RunEntry::cursor);
        RunPage { runs: page, next }
    }

    fn runs_after(&self, after: Option<&RunCursor>) -> impl Iterator<Item = &RunEntry> {
        let end = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.key()));
        self.by_time.range((Bound::Unbounded, end)).rev().filter_map(|(_, run)| self.runs.get(run))
    }

    pub(crate) fn remove(&mut self, runs: &[RunEntry]) {
        for RunEntry { run, .. } in runs {
            if let Some(entry) = self.runs.remove(run) {
                self.by_time.remove(&(entry.first_begun_at, entry.run));
            }
            let keys: Vec<_> = self.entries(run).map(|entry| entry.key.clone()).collect();
            keys.iter().for_each(|key| drop(self.steps.remove(key)));
        }
    }
}
