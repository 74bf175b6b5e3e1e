//! The journal: a durable record of intents, statement ids and outcomes.
//!
//! The journal contains the intent, with the statement's client token and name, *before* the statement is
//! submitted. If a process dies or a response is lost afterwards, the next process finds the intent and uses
//! the token and the name to find the statement in the service.
//!
//! | the process died or lost the response | the journal contains | the next run, within 8 h | within 24 h | later |
//! |---|---|---|---|---|
//! | before the intent was durable | nothing | submits: nothing was sent | the same | the same |
//! | before the submit was sent | intent | submits with the same token: the service runs it | lists by name: not found, **unknown** | **unknown** |
//! | after the submit took effect | intent | submits with the same token: the service returns the first id | lists by name: found, waits for it | **unknown** |
//! | while the statement was running | intent, id | polls the id until the statement ends | the same | **unknown** |
//! | after it ended, before the outcome was durable | intent, id | polls the id | the same | **unknown** |
//! | after the outcome was durable | everything | uses the recorded outcome, sends nothing | the same | the same |
//! | while a record was written | an incomplete line, which is removed | continues as if the record had not been begun | the same | the same |
//! | a request or its response was lost, but the process did not die | intent | submits again with the same token | lists by name; not found: **unknown** | **unknown** |
//! | a record could not be appended, but is stored nevertheless | the same or more than this process reads | records the intent again before it submits with the same token | the same as for the stored records | the same |
//! | the service rejected the statement | intent, not submitted | submits: the statement did not run | the same | the same |
//! | the timeout expired, and the rollback has not finished | intent, id, overdue | polls the id; aborted: **timed out** | the same | **unknown** |
//! | the same, and the grace time expired | intent, id, overdue, cancel pending | polls the id; aborted: **timed out**; not ended: **timed out**, cancel pending | the same | **unknown** |
//! | the timeout expired, and the cancel got no response | intent, id, overdue, **unknown** | polls the id; aborted: **timed out** | the same | **unknown** |
//!
//! Each row has a test. In `tests/orchestration/outcomes.rs`:
//! `a_death_before_the_intent_was_recorded_has_no_effect`,
//! `a_death_before_the_submit_is_settled_by_the_token_for_8_hours_and_then_unknown`,
//! `a_death_after_the_submit_is_settled_by_token_then_by_name_then_unknown`,
//! `a_death_while_the_statement_ran_is_settled_by_its_id_for_24_hours` (two rows),
//! `a_death_after_the_outcome_was_recorded_has_no_effect`,
//! `a_statement_runs_once_although_responses_are_lost`,
//! `a_submit_that_was_not_sent_is_an_error_and_can_be_repeated`,
//! `a_death_during_a_rollback_leaves_a_statement_that_timed_out`,
//! `a_pending_cancellation_is_known_to_the_next_process`, and
//! `a_failed_record_that_was_stored_does_not_hide_a_later_submit`. In `journal/file.rs`:
//! `removes_a_last_line_cut_off_at_any_byte`. In `promises.rs`, random schedules of crashes and lost
//! responses cover all rows: `no_schedule_doubles_or_loses_a_statement`.
//!
//! The service remembers a client token for 8 hours and keeps the record of a statement for 24 hours. The
//! orchestrator counts both times from the intent and subtracts a safety margin of 15 minutes. If no listing
//! contains a statement, its outcome is unknown. The orchestrator must not conclude that the statement was
//! never sent, because the service does not document how soon a listing contains a new statement, and a
//! listing contains only statements submitted by the same IAM role. Once the service has
//! forgotten its token, a statement whose outcome is unknown is not submitted again until an operator
//! [settles](crate::Orchestrator::settle) it. Before that, the next call submits it again with the same
//! token. An operator who runs such a statement by hand must therefore settle it first.
//!
//! # Contents
//!
//! A journal does not contain SQL or the values of secret parameters. It contains:
//!
//! * the other parameter values of a run, which are needed to resume the run;
//! * client tokens, which are digests of the statements: a token does not reveal its statement, but it can be
//!   compared with the digest of a guessed statement;
//! * error texts of the database. Values that they quote are redacted unless
//!   [`with_redaction`](crate::Orchestrator::with_redaction) is `false`.

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
    ClientToken, Error, ErrorKind, FailureKind, Result, StatementId, Status, StepKey, clock,
    orchestrator::{MARGIN, manual_check},
    task::{RUN_TOKEN, TaskKind},
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

/// Durable record of intents, statement ids and outcomes.
///
/// # For implementors
///
/// * After [`append`](Self::append) returns `Ok`, the record survives the end of the process and a power
///   failure. After an error, the record may or may not be stored. A dropped `append` may have taken effect.
/// * Records of one key keep the order in which they were appended.
/// * Two processes must not write to the same run at the same time. An implementation rejects the second
///   process.
///
/// The module `conformance::journal` (feature `conformance`) tests an implementation.
#[async_trait]
pub trait Journal: fmt::Debug + Send + Sync {
    /// Makes a record durable.
    async fn append(&self, record: Record) -> Result<()>;

    /// Returns the state that results from all records of one attempt at a step, or `None` if the journal
    /// does not contain its intent.
    async fn entry(&self, key: &StepKey) -> Result<Option<Entry>>;

    /// Returns the attempts of a run, ordered by step and attempt number.
    async fn entries(&self, run: &str) -> Result<Vec<Entry>>;

    /// Makes a run active until the returned guard is dropped or the process dies. Meanwhile, the run cannot
    /// be claimed again, and if the claim is [exclusive](Claim::is_exclusive), no other exclusive claim of
    /// the same pipeline is admitted.
    ///
    /// A claim of an [attempt](Claim::of_attempt) excludes only other claims of the attempt, and does not
    /// make the run active. While the claim is held, [`entry`](Self::entry) returns the current entry, even
    /// if another process wrote it.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Overlap`] with `active_run` and `active_since` in its context if another claim
    /// excludes this one.
    async fn claim(&self, claim: &Claim) -> Result<ActiveRun>;

    /// Makes a record of a run's beginning or end durable.
    async fn append_run(&self, record: RunRecord) -> Result<()>;

    /// Returns the state of a run, or `None` if the journal has no record of the run. The cost does not
    /// depend on the number of other runs.
    async fn run_entry(&self, run: &str) -> Result<Option<RunEntry>>;

    /// Returns up to `limit` runs after the cursor `after`, ordered by [`RunEntry::first_begun_at`], newest
    /// first. A `limit` of 0 counts as 1. The cost depends on `limit`, not on the number of runs in the
    /// journal.
    ///
    /// If statements were run without a pipeline, their run has an empty pipeline name.
    async fn runs(&self, limit: usize, after: Option<&RunCursor>) -> Result<RunPage>;

    /// Removes all records of these runs, and returns the names of the removed runs. Called by [`prune`],
    /// which selects the runs and claims them. A journal on object storage rejects runs that the caller has
    /// not claimed.
    ///
    /// A claim does not exclude statements without a pipeline. A run that got another record since its entry
    /// was read is therefore not removed.
    ///
    /// If a process dies during the removal, each of the runs is afterwards complete, absent, or unreadable.
    /// The next call first finishes the interrupted removal, even if its `runs` is empty. Only runs that
    /// another process has claimed are left for a later call.
    async fn remove_runs(&self, runs: &[RunEntry]) -> Result<Vec<String>>;
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

    async fn remove_runs(&self, runs: &[RunEntry]) -> Result<Vec<String>> {
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
    /// The statement will be submitted next, for the first time or again with the same token.
    Intent {
        /// Client token of the statement.
        token: ClientToken,
        /// Name of the statement in the service.
        name: String,
        /// Target of the statement, such as `workgroup/dwh/mystore`, if known. Earlier versions did not
        /// record the target.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<String>,
    },
    /// The service accepted the statement.
    Submitted {
        /// Id of the statement.
        id: StatementId,
    },
    /// The timeout expired, and a cancel will be sent next. If the statement is aborted after this record, it
    /// counts as timed out.
    Overdue,
    /// The service accepted the cancel, but the statement did not end within the grace time. Earlier versions
    /// did not write this record.
    CancelPending,
    /// The statement ended.
    Ended(RecordedOutcome),
    /// The statement did not run: the service rejected it or could not be reached.
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
    /// Error text of the database, if the statement failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Kind of the failure, derived from the database's error text before its redaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureKind>,
    /// `true` if the statement was cancelled because its timeout expired.
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
    /// Number of rows in the result, or number of rows that the statement affected.
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
    /// The statement ran and took effect. The step counts as finished.
    Finished,
    /// The statement ran without a lasting effect. The attempt counts as failed, and another attempt may run.
    Failed,
    /// The statement never ran. The same attempt may be submitted again.
    NeverRan,
}

/// Error text of an attempt that an operator settled as [`SettledOutcome::Failed`].
pub(crate) const SETTLED_AS_FAILED: &str = "an operator settled the attempt as failed";

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
    /// Creates a settlement without an operator and a reason.
    pub fn new(outcome: SettledOutcome) -> Self {
        Self { outcome, operator: None, reason: None }
    }

    /// Sets the name of the operator.
    #[must_use]
    pub fn with_operator(mut self, operator: impl Into<String>) -> Self {
        self.operator = Some(operator.into());
        self
    }

    /// Sets the operator's reason, for example which tables were checked.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }
}

/// State of one attempt at a step, derived from all of its records.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// The attempt.
    pub key: StepKey,
    /// Time of the first intent with this token. The lifetimes of the client token (8 hours) and of the
    /// service's record (24 hours) are counted from this time.
    pub intended_at: Timestamp,
    /// Client token of the statement.
    pub token: ClientToken,
    /// Name of the statement.
    pub name: String,
    /// Target of the statement, such as `workgroup/dwh/mystore`, if the journal contains it.
    pub target: Option<String>,
    /// Id of the statement, if known.
    pub id: Option<StatementId>,
    /// Time at which the id was recorded. The timeout is counted from this time, because a submit can wait
    /// for hours after its intent.
    pub submitted_at: Option<Timestamp>,
    /// `true` if the timeout expired. A cancel may have been sent.
    pub overdue: bool,
    /// `true` if the service accepted the cancel, but the statement did not end within the grace time.
    pub cancel_pending: bool,
    /// `true` if a record of the attempt is more than 15 minutes older than its intent. The clock was set
    /// back between the two, so the age of the intent is not known.
    pub is_clock_set_back: bool,
    /// State of the attempt.
    pub state: EntryState,
}

impl Entry {
    /// Creates the entry of an attempt whose intent is recorded at `intended_at`.
    pub(crate) fn new(
        key: StepKey,
        intended_at: Timestamp,
        token: ClientToken,
        name: String,
        target: Option<String>,
    ) -> Self {
        Self {
            key,
            intended_at,
            token,
            name,
            target,
            id: None,
            submitted_at: None,
            overdue: false,
            cancel_pending: false,
            is_clock_set_back: false,
            state: EntryState::Open,
        }
    }

    /// Returns the time since the intent; zero if the clock was set back since.
    pub fn age(&self, now: Timestamp) -> Duration {
        clock::age(now, self.intended_at)
    }

    /// Returns the time since the id was recorded; since the intent if the id is not known.
    pub(crate) fn time_since_submit(&self, now: Timestamp) -> Duration {
        clock::age(now, self.submitted_at.unwrap_or(self.intended_at))
    }

    /// Returns `true` if it is certain that the statement did not run, so that the same attempt may be
    /// submitted again.
    pub(crate) fn did_not_run(&self) -> bool {
        matches!(self.state, EntryState::NotSubmitted(_) | EntryState::Settled(SettledOutcome::NeverRan))
    }

    /// Returns the kind of task and the name of its Glue job or Hudi table, or `None` for the entry of a
    /// statement.
    pub fn task(&self) -> Option<(TaskKind, &str)> {
        let target = self.target.as_deref()?;
        match job_of(target) {
            Some((_, job)) => Some((TaskKind::Glue, job)),
            None => target.strip_prefix("hudi/").map(|table| (TaskKind::Hudi, table)),
        }
    }

    /// Returns commands and queries by which an operator can find the statement in the service's records and
    /// in Redshift's query log, or the run of a Glue job. For a Hudi table, returns an instruction.
    pub fn manual_check(&self) -> String {
        let target = self.target.as_deref().unwrap_or_default();
        match job_of(target) {
            Some((region, job)) => check_job(region, job, self.id.as_ref(), &self.token),
            None if self.task().is_some() => check_task(target, &self.key),
            None => manual_check(&self.name, self.id.as_ref(), self.intended_at),
        }
    }
}

/// Returns the region, if known, and the name of the Glue job that a target names. Returns `None` for another
/// target.
fn job_of(target: &str) -> Option<(Option<&str>, &str)> {
    match target.strip_prefix("glue/") {
        Some(job) => Some((None, job)),
        None => target.split_once(":glue/").map(|(service, job)| (service.strip_prefix("aws:"), job)),
    }
}

/// Returns the instruction for work that may be repeated and whose outcome is unknown.
pub(crate) fn check_task(target: &str, key: &StepKey) -> String {
    format!(
        "look at {target}; resume the run with the step as it was when the attempt began, or settle the step {key} in the journal"
    )
}

/// Returns the command that shows the run of a Glue job.
fn check_job(region: Option<&str>, job: &str, id: Option<&StatementId>, token: &ClientToken) -> String {
    let region = region.map(|region| format!(" --region {region}")).unwrap_or_default();
    match id {
        Some(id) => format!("aws glue get-job-run --job-name '{job}'{region} --run-id {id}"),
        None => format!(
            "aws glue get-job-runs --job-name '{job}'{region} --query \"JobRuns[?Arguments.\\\"{RUN_TOKEN}\\\"=='{}']\"",
            token.as_str()
        ),
    }
}

/// Records the outcome that an operator determined for a statement or task whose outcome is unknown. Claims
/// the run and the attempt during the call.
///
/// # Errors
/// Returns [`ErrorKind::Invalid`] if the journal does not contain this attempt or already contains its
/// outcome, and [`ErrorKind::Overlap`], with `active_run` and `active_since` in its context, if a process is
/// running the run, or is starting the Glue job of the attempt or searching for its run.
pub async fn settle(
    journal: &dyn Journal,
    at: Timestamp,
    key: &StepKey,
    settlement: Settlement,
) -> Result<()> {
    let run = journal.run_entry(&key.run).await?;
    let pipeline = run.map(|entry| entry.begun.pipeline).unwrap_or_default();
    let claim = Claim::new(pipeline, &key.run, at);
    let refused = |message: &'static str| {
        move |error: Error| match error.kind() {
            ErrorKind::Overlap => error.with_message(message),
            _ => error,
        }
    };
    let active = journal.claim(&claim).await.map_err(refused(
        "a process is running this run, and records how its statements end; settle the step when that process has ended",
    ))?;
    let settled = settle_claimed(journal, at, key, Event::Settled(settlement)).await;
    active.release().await;
    settled.map_err(refused(
        "a process is starting this attempt or searching for it, and records its outcome; settle the step when that process has ended",
    ))
}

/// Settles an attempt of a run that this process has claimed. A Glue job can be started without a claim of
/// its run, so the attempt is claimed, too.
async fn settle_claimed(journal: &dyn Journal, at: Timestamp, key: &StepKey, event: Event) -> Result<()> {
    let active = journal.claim(&Claim::of_attempt(key, at)).await?;
    let settled = settle_attempt(journal, at, key, event).await;
    active.release().await;
    settled
}

async fn settle_attempt(journal: &dyn Journal, at: Timestamp, key: &StepKey, event: Event) -> Result<()> {
    let refused = |message: &str| Error::new(ErrorKind::Invalid, message).with_context("step", key);
    match journal.entry(key).await? {
        Some(entry) if entry.state.is_unsettled() => {
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
    /// The journal contains the intent but no outcome. The statement may have been submitted; the service has
    /// its status.
    Open,
    /// The statement ended.
    Ended(RecordedOutcome),
    /// The statement did not run.
    NotSubmitted(String),
    /// The last call could not prove the outcome.
    Unknown(String),
    /// An operator recorded the outcome.
    Settled(SettledOutcome),
}

impl EntryState {
    /// Returns `true` if the statement may have been submitted, and the journal does not contain its outcome.
    pub fn is_unsettled(&self) -> bool {
        matches!(self, Self::Open | Self::Unknown(_))
    }

    /// Returns `true` if the statement ran and its outcome is known.
    fn is_final(&self) -> bool {
        matches!(self, Self::Ended(_) | Self::Settled(SettledOutcome::Finished | SettledOutcome::Failed))
    }
}

/// State of all attempts and runs of a journal, in memory.
#[derive(Debug, Default)]
pub(crate) struct Index {
    steps: BTreeMap<StepKey, Entry>,
    runs: BTreeMap<String, RunEntry>,
    /// Names of the runs, ordered by the time of their first record.
    by_time: BTreeSet<(Timestamp, String)>,
}

impl Index {
    pub(crate) fn apply(&mut self, line: Line) {
        let (at, run) = line.of();
        // Any record can be the first one of its run, because statements that were run without a pipeline
        // have no `run-begun` record.
        if !self.runs.contains_key(run) {
            self.runs.insert(run.to_owned(), RunEntry::first_seen(run, at));
            self.by_time.insert((at, run.to_owned()));
        }
        if let Some(entry) = self.runs.get_mut(run) {
            entry.records += 1;
        }
        match line {
            Line::Step(record) => self.apply_step(record),
            Line::Run(record) => self.apply_run(record),
        }
    }

    /// Applies a record to the state of its attempt. A record of an attempt without an intent is ignored.
    fn apply_step(&mut self, record: Record) {
        let Record { at, key, event } = record;
        if let Some(entry) = self.steps.get_mut(&key) {
            entry.is_clock_set_back |= clock::age(entry.intended_at, at) > MARGIN;
        }
        let state = match event {
            Event::Intent { token, name, target } => {
                // The submit of a statement that may have run is repeated. The time of its first intent is
                // kept, because the service may remember the token since then.
                if let Some(entry) = self.steps.get_mut(&key)
                    && entry.token == token
                    && !entry.did_not_run()
                {
                    if !entry.state.is_final() {
                        entry.state = EntryState::Open;
                    }
                    return;
                }
                // A second intent replaces the first one, whose statement was not submitted or was settled as
                // never run.
                let entry = Entry::new(key.clone(), at, token, name, target);
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
                    entry.submitted_at = Some(at);
                    // It ran after all: its submit or its start was still waiting when an operator settled
                    // it.
                    if entry.did_not_run() {
                        entry.state = EntryState::Open;
                    }
                }
                return;
            }
            Event::Ended(ended) => EntryState::Ended(ended),
            Event::NotSubmitted { error } => EntryState::NotSubmitted(error),
            Event::Unknown { reason } => EntryState::Unknown(reason),
            Event::Settled(settlement) => EntryState::Settled(settlement.outcome),
        };
        if let Some(entry) = self.steps.get_mut(&key) {
            // Two processes waited for the same statement. One received the outcome, which must not be
            // replaced by the other's failure to receive it.
            // The same applies to an outcome that an operator determined meanwhile.
            if !(entry.state.is_final() && matches!(state, EntryState::Unknown(_))) {
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

    /// Returns the names of those runs that got no other record since their entries were read.
    pub(crate) fn unchanged(&self, runs: &[RunEntry]) -> Vec<String> {
        let is_unchanged =
            |entry: &&RunEntry| self.runs.get(&entry.run).is_some_and(|now| now.records == entry.records);
        runs.iter().filter(is_unchanged).map(|entry| entry.run.clone()).collect()
    }

    pub(crate) fn remove(&mut self, runs: &[String]) {
        for run in runs {
            if let Some(entry) = self.runs.remove(run) {
                self.by_time.remove(&(entry.first_begun_at, entry.run));
            }
            let keys: Vec<_> = self.entries_in(run).map(|entry| entry.key.clone()).collect();
            keys.iter().for_each(|key| drop(self.steps.remove(key)));
        }
    }
}
