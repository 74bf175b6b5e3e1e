//! [`Orchestrator`]: runs each statement at most once, and always returns its outcome.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    Backoff, ClientToken, Clock, Error, ErrorKind, FailureKind, Messages, Observer, ProgressEvent, Result,
    Statement, StatementExecutor, StatementId, StepKey, SystemClock,
    identity::Namespace,
    journal::{self, EntryState, Event, Journal, MemoryJournal, Record, RecordedOutcome, SettledOutcome},
    observer::Unobserved,
    wait::{CancelOutcome, Durations, LongPoll, PollStrategy, RequestCounts, Wait},
};

mod call;
mod divide;
mod options;
mod outcome;
mod parts;
mod submit;
mod turns;

use call::{Call, recorded};
use turns::Turns;

pub(crate) use divide::{is_done, is_finished};
pub use options::AttemptOptions;
pub(crate) use outcome::what_to_check;
pub use outcome::{Origin, Outcome, OutcomeKind, Unknown, UnknownReason};
pub(crate) use parts::LastPart;

/// Runs each statement at most once per [`StepKey`], waits for it, and returns an outcome in every case.
///
/// In addition to the methods of an executor, it provides:
///
/// * At-most-once execution: the intent is durable before the submit, and the client token is derived from
///   the work. Neither a lost response nor a killed process runs a statement twice; see the table in
///   [`journal`](crate::journal).
/// * Retries: throttling, lost responses and faults of the service are retried and counted.
/// * Timeouts: a statement whose timeout expires is cancelled.
/// * Explicit uncertainty: an outcome that cannot be proved is [unknown](OutcomeKind::Unknown), and the
///   statement is not submitted again.
///
/// Clones share all their state.
///
/// # When the future is dropped
///
/// Dropping the future of [`run`](Self::run) or of a pipeline's run does not lose the statement: the next
/// call with the same key continues from the journal.
///
/// | dropped | effect | contents of the journal |
/// |---|---|---|
/// | before or during the write of the intent | nothing is sent | nothing, or the intent |
/// | while the submit is in the queue of a [layer](crate::layer), or during a pause after an error | nothing more is sent | the intent |
/// | while the submit is in flight | a separate task receives the response and records the id | the intent, then the id |
/// | while waiting for the statement | the statement continues to run | the intent and the id |
/// | after the statement has ended | none | the intent and the id, or everything |
///
/// With [`with_cancel_on_drop`](Self::with_cancel_on_drop), the statement is also cancelled in the third and
/// fourth case, again in a separate task, and its ending is recorded. Tasks end with their runtime: a process
/// that stops leaves the same state as a process that is killed.
///
/// ```
/// # use redshift_orchestrator::{*, journal::*};
/// # async fn example(executor: std::sync::Arc<dyn StatementExecutor>) -> Result<()> {
/// let orchestrator = Orchestrator::new(executor).with_journal(FileJournal::open("journal.jsonl")?);
/// let key = StepKey::new("cycle-007", "load-sales");
/// let outcome = orchestrator.run(&key, Statement::sql("CALL mystore.load_sales(7)")).await?;
/// assert!(outcome.is_finished(), "{}", outcome.kind);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Orchestrator {
    executor: Arc<dyn StatementExecutor>,
    journal: Arc<dyn Journal>,
    strategy: Arc<dyn PollStrategy>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    messages: Option<Arc<dyn Messages>>,
    backoff: Backoff,
    retry_timeout: Duration,
    cancel_grace: Option<Duration>,
    durations: Durations,
    cancel_on_drop: bool,
    quotations: bool,
    names_in_sql: bool,
    turns: Turns,
    pub(crate) namespace: Arc<Namespace>,
}

/// Time for which the service remembers a client token, less a safety margin for clock differences and
/// requests in flight.
pub(crate) const TOKEN_WINDOW: Duration = Duration::from_secs((8 * 60 - 15) * 60);
/// Time for which the service keeps the record of a statement, less the same safety margin.
pub(crate) const RECORD_WINDOW: Duration = Duration::from_secs((24 * 60 - 15) * 60);
/// Maximum duration of a statement in the service, and thus of a wait.
pub(crate) const LONGEST_RUN: Duration = Duration::from_secs(24 * 60 * 60);

impl Orchestrator {
    /// Creates an orchestrator with a journal in memory, long polling and the machine's clock.
    pub fn new(executor: impl StatementExecutor + 'static) -> Self {
        let namespace = Namespace { target: executor.target(), ..Namespace::default() };
        Self {
            executor: Arc::new(executor),
            journal: Arc::new(MemoryJournal::new()),
            strategy: Arc::new(LongPoll::default()),
            clock: Arc::new(SystemClock),
            observer: Arc::new(Unobserved),
            messages: None,
            backoff: Backoff::default(),
            retry_timeout: Duration::from_secs(15 * 60),
            cancel_grace: None,
            durations: Durations::new(),
            cancel_on_drop: false,
            quotations: false,
            names_in_sql: false,
            turns: Turns::default(),
            namespace: Arc::new(namespace),
        }
    }

    /// Sets the journal for intents, ids and endings. Default: a journal in memory.
    ///
    /// A journal finds an outcome by run, step and attempt alone. Orchestrators with different targets or
    /// scopes therefore need journals of their own, or different names of runs; with equal names, the outcome
    /// on one target is returned for the other. A [pipeline](crate::Pipeline::run) rejects such a run.
    #[must_use]
    pub fn with_journal(mut self, journal: impl Journal + 'static) -> Self {
        self.journal = Arc::new(journal);
        self
    }

    /// Adds a name to the identity of each statement. Without a scope, two orchestrators whose executors have
    /// equal [targets](StatementExecutor::target), or none, treat equal statements with equal keys as one
    /// statement. The pipeline's name and the executor's target are always part of the identity.
    #[must_use]
    pub fn with_scope(mut self, scope: impl Into<String>) -> Self {
        self.namespace = Arc::new(Namespace { scope: Some(scope.into()), ..(*self.namespace).clone() });
        self
    }

    /// Returns this orchestrator for the statements of one pipeline.
    pub(crate) fn of_pipeline(&self, pipeline: &str) -> Self {
        let pipeline = Some(pipeline.to_owned());
        let namespace = Arc::new(Namespace { pipeline, ..(*self.namespace).clone() });
        Self { namespace, ..self.clone() }
    }

    /// Sets the poll strategy. Default: [`LongPoll`](crate::wait::LongPoll).
    #[must_use]
    pub fn with_strategy(mut self, strategy: impl PollStrategy + 'static) -> Self {
        self.strategy = Arc::new(strategy);
        self
    }

    /// Sets the source of wall-clock time. Default: [`SystemClock`](crate::SystemClock).
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the observer of events.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observer = Arc::new(observer);
        self
    }

    /// Sets the source of messages that stored procedures raise while they run; they are passed to the
    /// [observer](Self::with_observer). Default: none.
    #[must_use]
    pub fn with_messages(mut self, messages: impl Messages + 'static) -> Self {
        self.messages = Some(Arc::new(messages));
        self
    }

    /// Sets the pauses after errors that are retried.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the time for which submits and listings are retried while the service throttles or cannot be
    /// reached. Default: 15 minutes. A wait for a submitted statement continues until the timeout of the
    /// statement.
    #[must_use]
    pub fn with_retry_timeout(mut self, retry_timeout: Duration) -> Self {
        self.retry_timeout = retry_timeout;
        self
    }

    /// Sets the time to wait for the end of a cancelled statement. Default: the time that the statement ran,
    /// and at least 15 minutes, because a cancelled statement ends only after its rollback
    /// ([`Wait::with_grace`]).
    ///
    /// A statement that has not ended by then is [timed out](OutcomeKind::TimedOut) with
    /// `cancel_pending`.
    #[must_use]
    pub fn with_cancel_grace(mut self, grace: Duration) -> Self {
        self.cancel_grace = Some(grace);
        self
    }

    /// Sets the durations of earlier runs, for [`Learned`](crate::wait::Learned). New durations are added to
    /// them.
    #[must_use]
    pub fn with_durations(mut self, durations: Durations) -> Self {
        self.durations = durations;
        self
    }

    /// Cancels the statement when the future that waits for it is dropped. Default: `false`.
    #[must_use]
    pub fn with_cancel_on_drop(mut self, cancel: bool) -> Self {
        self.cancel_on_drop = cancel;
        self
    }

    /// Keeps SQL texts, literals and parameter values that messages of the database and the service quote, in
    /// errors, reports and the journal. By default, these quotations are replaced by `…`; names of tables and
    /// columns are kept. [`Outcome::description`] always contains the database's original text. Default:
    /// `false`.
    #[must_use]
    pub fn with_quotations(mut self, quotations: bool) -> Self {
        self.quotations = quotations;
        self
    }

    /// Begins each SQL text with a comment that contains the statement's name. Redshift's system views do not
    /// contain the statement names of the service, but they contain the SQL for 7 days. With the comment, a
    /// statement whose outcome is unknown can be identified there with certainty. Default: `false`.
    ///
    /// Client tokens do not depend on this setting, so it can be changed at any time.
    #[must_use]
    pub fn with_names_in_sql(mut self, names: bool) -> Self {
        self.names_in_sql = names;
        self
    }

    /// Returns the durations that this orchestrator and its clones have recorded.
    pub fn durations(&self) -> &Durations {
        &self.durations
    }

    /// Returns the executor, for fetching results.
    pub fn executor(&self) -> &Arc<dyn StatementExecutor> {
        &self.executor
    }

    /// Returns the journal.
    pub fn journal(&self) -> &Arc<dyn Journal> {
        &self.journal
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn observe(&self, key: &StepKey, event: &ProgressEvent<'_>) {
        self.observer.observe(key, event);
    }

    /// Runs a statement once for `key` and waits for its end, for at most 24 hours, which is the service's own
    /// limit. The statement's name and client token are derived from the key.
    ///
    /// If the journal contains the ending, it is returned and nothing is sent. If the journal contains only an
    /// intent, the call finds the statement in the service and waits for it. Concurrent calls with the same
    /// key run one statement.
    ///
    /// # Errors
    /// An error means that the statement did not run ([`ErrorKind::Invalid`], [`ErrorKind::Denied`],
    /// [`ErrorKind::Throttled`], …), with two exceptions. If [`Error::submitted`] returns a statement, it was
    /// submitted and the journal failed afterwards; the next call with the same key finds it. With
    /// [`ErrorKind::IdentityConflict`], the service returned a statement of another caller; the outcome is
    /// unknown until it is [settled](Self::settle).
    pub fn run(&self, key: &StepKey, statement: Statement) -> impl Future<Output = Result<Outcome>> + Send {
        self.run_with(key, statement, AttemptOptions::default())
    }

    /// Runs a statement as [`run`](Self::run) does, with a timeout.
    ///
    /// # Errors
    /// Returns the errors of [`run`](Self::run).
    pub async fn run_with(
        &self,
        key: &StepKey,
        statement: Statement,
        options: AttemptOptions,
    ) -> Result<Outcome> {
        let (mut call, token, name) = self.call(key, statement, options)?;
        // State that is needed only for a part of the call is boxed: thousands of statements can be in
        // flight, and they spend most of their time waiting.
        call.turn = Some(Box::pin(self.turns.take(key)).await);
        let entry = self.journal.entry(key).await?.map(Box::new);
        let outcome = match entry {
            None => Box::pin(call.begin(token, name)).await,
            Some(entry) => match &entry.state {
                EntryState::NotSubmitted(_) | EntryState::Settled(SettledOutcome::NeverRan) => {
                    Box::pin(call.begin(token, name)).await
                }
                EntryState::Ended(ended) => {
                    let (result, description) = recorded(&entry, ended, call.timeout);
                    Ok(call.outcome(entry.name, entry.id, result, description, Origin::Journal))
                }
                EntryState::Settled(found) => {
                    let result = match found {
                        SettledOutcome::Finished => OutcomeKind::Finished,
                        _ => OutcomeKind::Failed {
                            kind: FailureKind::Sql,
                            error: "settled by hand as failed".into(),
                        },
                    };
                    Ok(call.outcome(entry.name, entry.id, result, None, Origin::Journal))
                }
                EntryState::Open | EntryState::Unknown(_) => Box::pin(call.reconcile(entry, &token)).await,
            },
        };
        match &outcome {
            Ok(outcome) => self.observe(key, &ProgressEvent::Ended { outcome }),
            Err(error) => self.observe(key, &ProgressEvent::NotSubmitted { error }),
        }
        outcome
    }

    /// Creates the call for `key`, its client token and its statement name.
    fn call<'a>(
        &'a self,
        key: &'a StepKey,
        statement: Statement,
        options: AttemptOptions,
    ) -> Result<(Call<'a>, ClientToken, String)> {
        key.check()?;
        self.namespace.check()?;
        statement.check().map_err(|error| error.with_context("step", key))?;
        if statement.client_token().is_some() {
            return Err(Error::new(
                ErrorKind::Invalid,
                "the orchestrator sets the client token; remove the statement's own token",
            )
            .with_context("step", key));
        }
        let token = self.namespace.client_token(key, &statement)?;
        let name = self.namespace.statement_name(key, &token);
        let statement = match self.names_in_sql {
            true => statement.with_comment(&format!("redshift-orchestrator {name}")),
            false => statement,
        };
        let statement = statement.with_client_token(token.clone()).with_name(name.clone());
        Ok((Call::new(self, key, statement, options.timeout.unwrap_or(LONGEST_RUN)), token, name))
    }

    /// Runs a batch of any length as [parts](Statement::parts) of at most 40 statements, one after the other.
    /// Each part runs at most once, under a [key of its own](StepKey::part). A short batch is
    /// [run](Self::run) unchanged.
    ///
    /// As in a single batch, a failed statement does not prevent the next ones. After a part that was
    /// cancelled, timed out, or is unknown, the remaining parts are skipped, because they would run out of
    /// order. In a repeated call, the outcomes of parts that have ended come from the journal.
    ///
    /// # Errors
    /// Returns the first error of [`run`](Self::run) for a part; [`ErrorKind::Invalid`] if the batch is too
    /// long and cannot be divided; [`ErrorKind::Definition`] if an earlier process began this attempt with
    /// other statements.
    pub async fn run_parts(&self, key: &StepKey, statement: Statement) -> Result<Vec<Outcome>> {
        self.run_parts_with(key, statement, AttemptOptions::default()).await
    }

    /// Runs a batch as [`run_parts`](Self::run_parts) does, with a timeout for all parts together. The
    /// remaining parts are skipped when it expires.
    ///
    /// # Errors
    /// Returns the errors of [`run_parts`](Self::run_parts).
    pub async fn run_parts_with(
        &self,
        key: &StepKey,
        statement: Statement,
        options: AttemptOptions,
    ) -> Result<Vec<Outcome>> {
        key.check()?;
        let known = self.journal.run(&key.run).await?;
        let mut results = Vec::new();
        self.run_each_part(
            key,
            &statement,
            &known,
            options.timeout,
            || false,
            |_, result| results.push(result),
        )
        .await?;
        results.into_iter().collect()
    }

    /// Records the outcome that an operator determined for a statement whose outcome is unknown, so that its
    /// run can continue.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Invalid`] if the journal does not contain this attempt, or contains its ending.
    pub async fn settle(&self, key: &StepKey, found: SettledOutcome) -> Result<()> {
        journal::settle(&*self.journal, self.clock.now(), key, found, None, None).await
    }

    async fn record(&self, key: &StepKey, event: Event) -> Result<()> {
        self.journal.append(Record { at: self.clock.now(), key: key.clone(), event }).await
    }

    /// Cancels the statement of an attempt that has not ended, and returns the result. The ending is
    /// recorded.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Invalid`] if the journal does not contain a statement of this attempt, or
    /// contains its ending; [`ErrorKind::Journal`] if the journal failed.
    pub async fn cancel(&self, key: &StepKey) -> Result<CancelOutcome> {
        let refuse = |text| Err(Error::new(ErrorKind::Invalid, text).with_context("step", key));
        match self.journal.entry(key).await? {
            None => refuse("the journal does not contain this attempt"),
            Some(entry) => match (&entry.state, entry.id) {
                (EntryState::Open | EntryState::Unknown(_), Some(id)) => {
                    self.cancel_statement(key, &id).await
                }
                (EntryState::Open | EntryState::Unknown(_), None) => refuse(
                    "the journal does not contain the statement id of this attempt; run the attempt again, which finds the id, then cancel it",
                ),
                _ => refuse("this attempt has already ended"),
            },
        }
    }

    /// Creates a wait for a statement, with the orchestrator's settings.
    fn wait_for<'a>(&'a self, id: &'a StatementId) -> Wait<'a> {
        let wait = Wait::new(&*self.executor, id, &*self.strategy)
            .with_backoff(self.backoff)
            .with_expired_credentials_limit(self.retry_timeout);
        match self.cancel_grace {
            Some(grace) => wait.with_grace(grace),
            None => wait,
        }
    }

    async fn cancel_statement(&self, key: &StepKey, id: &StatementId) -> Result<CancelOutcome> {
        let cancellation = self.wait_for(id).cancel(&mut RequestCounts::default()).await;
        if let CancelOutcome::Cancelled(description) | CancelOutcome::EndedBefore(description) = &cancellation
        {
            self.record(key, Event::Ended(RecordedOutcome::of(description))).await?;
        }
        Ok(cancellation)
    }
}

/// Guard that cancels a statement in a separate task when it is dropped, unless it was disarmed or the
/// orchestrator is not set to cancel on drop.
struct CancelOnDrop<'a> {
    orchestrator: &'a Orchestrator,
    key: &'a StepKey,
    id: Option<&'a StatementId>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        // Without a runtime no request can be sent; the state is that of a killed process.
        if let (true, Some(id), Ok(runtime)) =
            (self.orchestrator.cancel_on_drop, self.id, tokio::runtime::Handle::try_current())
        {
            let (orchestrator, key, id) = (self.orchestrator.clone(), self.key.clone(), id.clone());
            // The id is in the journal, whatever the result.
            runtime.spawn(async move { orchestrator.cancel_statement(&key, &id).await.ok() });
        }
    }
}
