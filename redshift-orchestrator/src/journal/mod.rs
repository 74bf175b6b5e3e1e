//! The journal: a durable record of intents, statement ids and endings.
//!
//! An intent is durable *before* its statement is submitted. It contains the client token and the name of the
//! statement. If anything is lost later, the next process finds the intent and reads the fate of the
//! statement from the service.
//!
//! | the process died, or lost the response | the journal contains | the next run, within 8 h | within 24 h | later |
//! |---|---|---|---|---|
//! | before the intent was durable | nothing | submits: nothing was sent | the same | the same |
//! | before the submit was sent | intent | submits with the same token: the service runs it | lists by name: not found, **unknown** | **unknown** |
//! | after the submit took effect | intent | submits with the same token: the service returns the first id | lists by name: found, uses its id | **unknown** |
//! | while the statement was running | intent, id | polls the id and waits | the same | **unknown** |
//! | after it ended, before the ending was durable | intent, id | polls the id | the same | **unknown** |
//! | after the ending was durable | everything | uses the recorded ending, sends nothing | the same | the same |
//! | while a record was written | an incomplete line, which is removed | as before that record | the same | the same |
//! | a request or its response was lost, and the process lives | intent | submits again with the same token | lists by name; not found: **unknown** | **unknown** |
//! | the service did not accept it | intent, not submitted | submits: nothing was sent | the same | the same |
//! | the timeout expired, and the rollback has not finished | intent, id, overdue | polls the id; aborted: **timed out** | the same | **unknown** |
//! | the same, and the grace time passed before the process ended | intent, id, overdue, cancel pending | polls the id; aborted: **timed out**; not ended: **timed out**, cancel pending | the same | **unknown** |
//! | the timeout expired, and the cancel got no response | intent, id, overdue, **unknown** | polls the id; aborted: **timed out** | the same | **unknown** |
//!
//! Each row has a test. In `tests/orchestration/endings.rs`:
//! `a_death_before_the_intent_was_recorded_has_no_effect`,
//! `a_death_before_the_submit_is_settled_by_the_token_for_8_hours_and_then_unknown`,
//! `a_death_after_the_submit_is_settled_by_token_then_by_name_then_unknown`,
//! `a_death_while_the_statement_ran_is_settled_by_its_id_for_24_hours` (two rows),
//! `a_death_after_the_outcome_was_recorded_has_no_effect`, `a_statement_runs_once_although_responses_are_lost`,
//! `what_was_certainly_not_sent_is_an_error_and_may_be_run_again`,
//! `a_death_during_a_rollback_leaves_a_statement_that_timed_out`, and
//! `a_pending_cancellation_is_known_to_the_next_process`. In `journal/file.rs`:
//! `cuts_off_a_last_line_torn_at_any_byte`. In `promises.rs`, for all rows at once over random schedules:
//! `no_schedule_doubles_or_loses_a_statement`.
//!
//! The service remembers a client token for 8 hours and keeps the record of a statement for 24 hours. Both
//! are counted from the intent, less a safety margin of 15 minutes. A statement that no listing contains is
//! unknown rather than "never sent": the service documents neither how soon a statement is listed nor that
//! every statement is, and a listing contains only statements submitted by the same IAM role. An unknown
//! statement is never submitted again; an operator investigates and [settles](crate::Orchestrator::settle)
//! it.
//!
//! # Contents
//!
//! A journal contains neither SQL nor the values of secret parameters. It contains the other parameter values
//! of a run, so that the run can be resumed; client tokens, which are digests that reveal nothing but would
//! confirm a guess; and error texts of the database, whose quoted values are redacted unless
//! [`with_quotations`](crate::Orchestrator::with_quotations) is set.

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

use crate::{
    ClientToken, Error, ErrorKind, FailureKind, Result, StatementId, Status, StepKey,
    orchestrator::manual_check,
};

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
pub use prune::{KeepReason, KeptRun, Prune, Pruned, prune};
pub use runs::{ActiveRun, Claim, RunBegun, RunCursor, RunEntry, RunEvent, RunOutcome, RunPage, RunRecord};

/// Durable record of intents, ids and endings.
///
/// # For implementors
///
/// * After [`append`](Self::append) returns `Ok`, the record survives the end of the process and a power
///   failure. After an error, the record may or may not be stored. A dropped `append` may have taken effect.
/// * Records of one key are kept in the order of their appends.
/// * Two processes must not write one journal at the same time; an implementation rejects the second one.
///
/// The scenarios in `conformance::journal` (feature `conformance`) check an implementation.
#[async_trait]
pub trait Journal: fmt::Debug + Send + Sync {
    /// Makes a record durable.
    async fn append(&self, record: Record) -> Result<()>;

    /// Returns the folded records of one attempt at a step, or `None` if there is no intent.
    async fn entry(&self, key: &StepKey) -> Result<Option<Entry>>;

    /// Returns the attempts of a run, ordered by step and attempt number.
    async fn entries(&self, run: &str) -> Result<Vec<Entry>>;

    /// Makes a run active until the returned guard is dropped or the process dies. During this time, an
    /// [exclusive](Claim::is_exclusive) claim excludes other exclusive claims of the same pipeline. A second
    /// process is never admitted to the same run.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Overlap`] with `active_run` and `active_since` in its context.
    async fn claim(&self, claim: &Claim) -> Result<ActiveRun>;

    /// Makes a record about a run durable.
    async fn append_run(&self, record: RunRecord) -> Result<()>;

    /// Returns a run, or `None` if the journal has no record of it. The cost does not depend on the number of
    /// other runs.
    async fn run_entry(&self, run: &str) -> Result<Option<RunEntry>>;

    /// Returns up to `limit` runs (at least one, if there is one) after the cursor `after`, newest first by
    /// [`RunEntry::first_begun_at`]. The cost depends on `limit`, not on the number of runs in the journal.
    ///
    /// A run whose statements were submitted without a pipeline is listed with an empty pipeline name.
    async fn runs(&self, limit: usize, after: Option<&RunCursor>) -> Result<RunPage>;

    /// Removes all records of these runs. [`prune`] selects the runs and holds their claims.
    ///
    /// A process that dies during the removal leaves each run complete, absent, or unreadable until a further
    /// call finishes the removal. An interrupted removal is finished first, even if `runs` is empty.
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

    async fn entries(&self, run: &str) -> Result<Vec<Entry>> {
        (**self).entries(run).await
    }

    async fn claim(&self, claim: &Claim) -> Result<ActiveRun> {
        (**self).claim(claim).await
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
#[non_exhaustive]
pub struct Record {
    /// Time of the record.
    pub at: Timestamp,
    /// The attempt.
    #[serde(flatten)]
    pub key: StepKey,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

impl Record {
    /// Creates a record.
    pub fn new(at: Timestamp, key: StepKey, event: Event) -> Self {
        Self { at, key, event }
    }
}

/// Event of an attempt at a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// The statement is about to be submitted.
    Intent {
        /// Its client token.
        token: ClientToken,
        /// Its statement name.
        name: String,
        /// Its target, such as `workgroup/dwh/mystore`, if known. Earlier versions did not record it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<String>,
    },
    /// The service accepted the statement.
    Submitted {
        /// Its id.
        id: StatementId,
    },
    /// The timeout expired, and a cancel is about to be sent. An abort after this record counts as a timeout.
    Overdue,
    /// The service accepted the cancel, and the statement had not ended within the grace time. Earlier versions
    /// did not record it.
    CancelPending,
    /// The statement ended.
    Ended(RecordedOutcome),
    /// The service rejected the statement, or could not be reached; it did not run.
    #[serde(alias = "refused")]
    NotSubmitted {
        /// The error as text.
        error: String,
    },
    /// The outcome could not be proved.
    Unknown {
        /// The reason.
        reason: String,
    },
    /// An operator recorded the outcome.
    Settled(Settlement),
}

/// How a statement ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecordedOutcome {
    /// `FINISHED`, `FAILED` or `ABORTED`.
    pub status: Status,
    /// Error text of the database, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Kind of the failure, derived from the database's complete error text before redaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureKind>,
    /// `true` if it was cancelled because its timeout expired.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timed_out: bool,
    /// Execution time in the database, in seconds.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "crate::seconds::optional",
        rename = "executing"
    )]
    pub execution_time: Option<Duration>,
    /// Number of rows in the result, or of rows that the statement affected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// `true` if there is a result to fetch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_result_set: bool,
}

/// Outcome that an operator determined for a statement whose outcome was unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SettledOutcome {
    /// The statement ran and had its effect; the step counts as finished.
    Finished,
    /// The statement ran without a lasting effect; the attempt counts as failed, and the next one may run.
    Failed,
    /// The statement never ran; the same attempt may be submitted.
    NeverRan,
}

/// Outcome that an operator recorded, with the operator's name and reason.
///
/// ```
/// use redshift_orchestrator::journal::{SettledOutcome, Settlement};
///
/// let settlement = Settlement::new(SettledOutcome::Finished).with_operator("ada").with_reason("the rows are in fact_sales");
/// assert_eq!(settlement.operator.as_deref(), Some("ada"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Settlement {
    /// The outcome.
    #[serde(rename = "found")]
    pub outcome: SettledOutcome,
    /// Name of the operator.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "by")]
    pub operator: Option<String>,
    /// Reason given by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "because")]
    pub reason: Option<String>,
}

impl Settlement {
    /// Creates a settlement without a name and a reason.
    pub fn new(outcome: SettledOutcome) -> Self {
        Self { outcome, operator: None, reason: None }
    }

    /// Sets the name of the operator.
    #[must_use]
    pub fn with_operator(mut self, operator: impl Into<String>) -> Self {
        self.operator = Some(operator.into());
        self
    }

    /// Sets the reason for the outcome, such as the places that were checked.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }
}

/// State of one attempt at a step: its folded records.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// The attempt.
    pub key: StepKey,
    /// Time of the first intent. The service's 8 and 24 hours are counted from it.
    pub intended_at: Timestamp,
    /// Client token of the statement.
    pub token: ClientToken,
    /// Name of the statement.
    pub name: String,
    /// Target of the statement, such as `workgroup/dwh/mystore`, if recorded.
    pub target: Option<String>,
    /// Id of the statement, if known.
    pub id: Option<StatementId>,
    /// `true` if the timeout expired and a cancel was sent or was about to be sent.
    pub overdue: bool,
    /// `true` if the service accepted the cancel, and the statement had not ended within the grace time.
    pub cancel_pending: bool,
    /// State of the attempt.
    pub state: EntryState,
}

impl Entry {
    /// Returns `true` if the statement certainly did not run. The same attempt may then be submitted.
    pub(crate) fn did_not_run(&self) -> bool {
        matches!(self.state, EntryState::NotSubmitted(_) | EntryState::Settled(SettledOutcome::NeverRan))
    }

    /// Returns instructions for an investigation by hand: the service's record and listing, and Redshift's
    /// query log.
    pub fn manual_check(&self) -> String {
        manual_check(&self.name, self.id.as_ref(), self.intended_at)
    }
}

/// Records the outcome that an operator determined for a statement whose outcome is unknown. The run is
/// claimed meanwhile.
///
/// # Errors
/// Returns [`ErrorKind::Invalid`] if the journal does not contain this attempt, or contains its ending; and
/// [`ErrorKind::Overlap`], with `active_run` and `active_since` in its context, if a process is running the
/// run.
pub async fn settle(
    journal: &dyn Journal,
    at: Timestamp,
    key: &StepKey,
    settlement: Settlement,
) -> Result<()> {
    let run = journal.run_entry(&key.run).await?;
    let pipeline = run.map(|entry| entry.begun.pipeline).unwrap_or_default();
    let claim = Claim::new(pipeline, &key.run, at);
    let active = journal.claim(&claim).await.map_err(|error| match error.kind() {
        ErrorKind::Overlap => error.with_message(
            "a process is running this run, and records how its statements end; settle the step when that process has ended",
        ),
        _ => error,
    })?;
    let settled = settle_claimed(journal, at, key, Event::Settled(settlement)).await;
    active.release().await;
    settled
}

async fn settle_claimed(journal: &dyn Journal, at: Timestamp, key: &StepKey, event: Event) -> Result<()> {
    let refused = |message: &str| Error::new(ErrorKind::Invalid, message).with_context("step", key);
    match journal.entry(key).await?.map(|entry| entry.state) {
        Some(EntryState::Open | EntryState::Unknown(_)) => {
            journal.append(Record { at, key: key.clone(), event }).await
        }
        Some(_) => Err(refused("this attempt has already ended")),
        None => Err(refused("the journal does not contain this attempt")),
    }
}

/// State of an attempt at a step.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum EntryState {
    /// The statement was intended, and perhaps submitted. Its status is in the service.
    Open,
    /// The statement ended.
    Ended(RecordedOutcome),
    /// The statement did not run.
    NotSubmitted(String),
    /// The outcome could not be proved at the last attempt.
    Unknown(String),
    /// An operator recorded the outcome.
    Settled(SettledOutcome),
}

/// Entries by key: the records of a journal in memory.
#[derive(Debug, Default)]
pub(crate) struct Index {
    steps: BTreeMap<StepKey, Entry>,
    runs: BTreeMap<String, RunEntry>,
    /// Runs by the time of their first record.
    by_time: BTreeSet<(Timestamp, String)>,
}

impl Index {
    pub(crate) fn apply(&mut self, line: Line) {
        let (at, run) = line.of();
        // Every record creates its run if necessary, because statements submitted without a pipeline have no
        // `run-begun` record.
        if !self.runs.contains_key(run) {
            self.runs.insert(run.to_owned(), RunEntry::first_seen(run, at));
            self.by_time.insert((at, run.to_owned()));
        }
        match line {
            Line::Step(record) => self.apply_step(record),
            Line::Run(record) => self.apply_run(record),
        }
    }

    /// Adds a record. A record without an intent is ignored, because it proves nothing.
    fn apply_step(&mut self, record: Record) {
        let Record { at, key, event } = record;
        let state = match event {
            Event::Intent { token, name, target } => {
                // A second intent starts over: the previous one was rejected, or settled as never run.
                let entry = Entry {
                    key: key.clone(),
                    intended_at: at,
                    token,
                    name,
                    target,
                    id: None,
                    overdue: false,
                    cancel_pending: false,
                    state: EntryState::Open,
                };
                self.steps.insert(key, entry);
                return;
            }
            Event::Overdue => {
                if let Some(entry) = self.steps.get_mut(&key) {
                    entry.overdue = true;
                }
                return;
            }
            Event::CancelPending => {
                if let Some(entry) = self.steps.get_mut(&key) {
                    entry.cancel_pending = true;
                }
                return;
            }
            Event::Submitted { id } => {
                if let Some(entry) = self.steps.get_mut(&key) {
                    entry.id = Some(id);
                }
                return;
            }
            Event::Ended(ended) => EntryState::Ended(ended),
            Event::NotSubmitted { error } => EntryState::NotSubmitted(error),
            Event::Unknown { reason } => EntryState::Unknown(reason),
            Event::Settled(settlement) => EntryState::Settled(settlement.outcome),
        };
        if let Some(entry) = self.steps.get_mut(&key) {
            // Two processes waited for the statement, and one of them received its ending.
            let is_known = matches!(entry.state, EntryState::Ended(_));
            if !(is_known && matches!(state, EntryState::Unknown(_))) {
                entry.state = state;
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

    pub(crate) fn entries(&self, run: &str) -> Vec<Entry> {
        self.entries_in(run).cloned().collect()
    }

    pub(crate) fn entries_in(&self, run: &str) -> impl Iterator<Item = &Entry> {
        let first = StepKey { run: run.to_owned(), step: String::new(), attempt: 0, part: None };
        self.steps.range(first..).map(|(_, entry)| entry).take_while(move |entry| entry.key.run == run)
    }

    pub(crate) fn run_entry(&self, run: &str) -> Option<RunEntry> {
        self.runs.get(run).cloned()
    }

    /// Returns all runs, newest first.
    pub(crate) fn all_runs(&self) -> Vec<RunEntry> {
        self.runs_after(None).cloned().collect()
    }

    /// Returns a page of runs, newest first.
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
            let keys: Vec<_> = self.entries_in(run).map(|entry| entry.key.clone()).collect();
            keys.iter().for_each(|key| drop(self.steps.remove(key)));
        }
    }
}
