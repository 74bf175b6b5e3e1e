//! [`Orchestrator`]: runs each statement at most once, and always returns its outcome.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    Backoff, Clock, MessageSource, Observer, ProgressEvent, Result, Statement, StatementExecutor,
    StatementId, StepKey, SystemClock,
    identity::Namespace,
    journal::{self, Event, Journal, MemoryJournal, Record, SettledOutcome, Settlement},
    observer::Unobserved,
    stop::StopSignal,
    task::Tasks,
    wait::{Durations, LongPoll, PollStrategy, Wait},
};

mod begin;
mod call;
mod cancel;
mod conclude;
mod divide;
mod find;
mod options;
mod outcome;
mod parts;
mod settings;
mod submit;
mod tasks;
pub(crate) mod turns;
mod wait;

use call::Call;
use turns::Turns;

pub(crate) use divide::{is_done, is_finished};
pub use options::AttemptOptions;
pub(crate) use outcome::manual_check;
pub use outcome::{BatchOutcome, Origin, Outcome, OutcomeKind, UnknownOutcome, UnknownReason};
pub(crate) use parts::CutShort;

/// Runs each statement at most once per [`StepKey`], waits for its end, and returns its outcome.
///
/// An orchestrator adds to an executor:
///
/// * At-most-once execution: the intent is durable before the submit, and the client token is derived from
///   the key and the statement. A statement therefore does not run twice after a lost response or a killed
///   process; see the table in [`journal`](crate::journal).
/// * Retries: throttling, lost responses and faults of the service are retried and counted.
/// * Timeouts: a statement whose timeout expires is cancelled.
/// * Explicit uncertainty: if the outcome cannot be proved, it is reported as
///   [unknown](OutcomeKind::Unknown). A later call submits the statement again only with the same client
///   token, while the service remembers it, so the statement does not run twice.
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
/// With [`with_cancel_on_drop`](Self::with_cancel_on_drop), a separate task also cancels the statement in the
/// third and fourth case and records its outcome. These tasks end with their runtime. If a process exits at
/// once, it therefore leaves the same state as a killed process.
///
/// ```
/// # use redshift_orchestrator::{*, journal::*};
/// # async fn example(executor: std::sync::Arc<dyn StatementExecutor>) -> Result<()> {
/// let orchestrator = Orchestrator::new(executor).with_journal(FileJournal::open("journal.jsonl")?);
/// let key = StepKey::new("cycle-007", "load-sales");
/// let outcome = orchestrator.run(&key, Statement::sql("CALL mystore.load_sales(7)")).await?;
/// assert!(outcome.is_success(), "{}", outcome.kind);
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
    messages: Option<Arc<dyn MessageSource>>,
    backoff: Backoff,
    retry_timeout: Duration,
    cancel_grace: Option<Duration>,
    durations: Durations,
    cancel_on_drop: bool,
    redaction: bool,
    names_in_sql: bool,
    turns: Turns,
    tasks: Tasks,
    stop: StopSignal,
    pub(crate) namespace: Arc<Namespace>,
}

/// Safety margin of the time limits, for clock differences and requests in flight.
pub(crate) const MARGIN: Duration = Duration::from_secs(15 * 60);
/// Time for which the service remembers a client token, less the [`MARGIN`].
pub(crate) const TOKEN_WINDOW: Duration = Duration::from_secs(8 * 60 * 60 - MARGIN.as_secs());
/// Time for which the service keeps the record of a statement, less the [`MARGIN`].
pub(crate) const RECORD_WINDOW: Duration = Duration::from_secs(24 * 60 * 60 - MARGIN.as_secs());
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
            redaction: true,
            names_in_sql: false,
            turns: Turns::default(),
            tasks: Tasks::default(),
            stop: StopSignal::new(),
            namespace: Arc::new(namespace),
        }
    }

    /// Returns an orchestrator with the same state that runs the statements of this pipeline. The name of the
    /// pipeline is part of their client tokens. After a stop, a statement that the service has not received is
    /// not sent again.
    pub(crate) fn of_pipeline(&self, pipeline: &str, stop: StopSignal) -> Self {
        let pipeline = Some(pipeline.to_owned());
        let namespace = Arc::new(Namespace { pipeline, ..(*self.namespace).clone() });
        Self { namespace, stop, ..self.clone() }
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

    /// Runs a statement at most once for `key` and waits for its end. The wait lasts at most 24 hours, after
    /// which the service itself ends a statement. The statement's name and client token are derived from the
    /// key.
    ///
    /// If the journal contains the outcome, the call returns it without sending a request. If the journal
    /// contains only an intent, the call finds the statement in the service and waits for it. Concurrent
    /// calls with the same key run one statement.
    ///
    /// If the machine's clock is set back by more than 15 minutes between two calls with the same key, the
    /// age of the intent cannot be known, and the statement can run twice. Keep the clock synchronised. The
    /// call detects the step only if the clock is still more than 15 minutes behind the intent; it then looks
    /// for the statement by name, and does not submit it.
    ///
    /// # Errors
    /// After an error such as [`Invalid`](crate::ErrorKind::Invalid), [`Denied`](crate::ErrorKind::Denied) or
    /// [`StepKeyConflict`](crate::ErrorKind::StepKeyConflict), the statement did not run. It may have run if
    /// [`Error::may_have_run`](crate::Error::may_have_run) returns `true`, which happens in two cases. The
    /// journal failed after the submit: the next call with the same key finds the statement, whose id is
    /// [`Error::submitted`](crate::Error::submitted) if it is known. Or the service returned another caller's
    /// statement, an [`IdentityConflict`](crate::ErrorKind::IdentityConflict): the outcome is unknown until
    /// it is [settled](Self::settle).
    pub fn run(&self, key: &StepKey, statement: Statement) -> impl Future<Output = Result<Outcome>> + Send {
        self.run_with(key, statement, AttemptOptions::default())
    }

    /// Runs a statement like [`run`](Self::run), with options such as a timeout.
    ///
    /// # Errors
    /// Returns the errors of [`run`](Self::run).
    pub async fn run_with(
        &self,
        key: &StepKey,
        statement: Statement,
        options: AttemptOptions,
    ) -> Result<Outcome> {
        let result = async { Call::new(self, key, statement, &options)?.run().await }.await;
        let result = result.map_err(|error| error.of_attempt(options.is_open));
        self.observe_end(key, &result);
        result
    }

    /// Reports the result of an attempt to the observer.
    pub(crate) fn observe_end(&self, key: &StepKey, result: &Result<Outcome>) {
        let event = match result {
            Ok(outcome) => ProgressEvent::Ended { outcome },
            Err(error) => ProgressEvent::of_error(error),
        };
        self.observe(key, &event);
    }

    /// Runs a batch of any length. A batch of more than 40 statements is divided into
    /// [parts](Statement::parts), which run one after the other. Each part runs at most once and has its own
    /// [key](StepKey::part). A batch of up to 40 statements runs like any other [statement](Self::run).
    ///
    /// If a statement fails, the next statements still run, as in an undivided batch. If a part was
    /// cancelled, timed out or has an unknown outcome, the remaining parts are skipped, because its
    /// statements may not have run and the order would be violated. When the call is repeated, the outcomes
    /// of parts that have ended are read from the journal.
    ///
    /// # Errors
    /// Returns the first error of [`run`](Self::run) for a part; [`Invalid`](crate::ErrorKind::Invalid) if
    /// the batch is too long and cannot be divided; [`Definition`](crate::ErrorKind::Definition) if an
    /// earlier process started this attempt with other statements.
    pub async fn run_batch(&self, key: &StepKey, statement: Statement) -> Result<BatchOutcome> {
        self.run_batch_with(key, statement, AttemptOptions::default()).await
    }

    /// Runs a batch like [`run_batch`](Self::run_batch), with options. The timeout applies to all parts
    /// together; when it expires, the remaining parts are skipped.
    ///
    /// # Errors
    /// Returns the errors of [`run_batch`](Self::run_batch).
    pub async fn run_batch_with(
        &self,
        key: &StepKey,
        statement: Statement,
        options: AttemptOptions,
    ) -> Result<BatchOutcome> {
        key.check()?;
        let entries = self.journal.entries(&key.run).await?;
        let mut parts = self.parts(key, &statement, &entries, options.timeout)?;
        let mut outcomes = Vec::new();
        while let Some((_, result)) = parts.run_next(false).await {
            outcomes.push(result?);
        }
        Ok(BatchOutcome { skipped: parts.remaining(), parts: outcomes })
    }

    /// Records the outcome that an operator determined for a statement whose outcome is unknown. The run can
    /// then be resumed.
    ///
    /// # Errors
    /// Returns the errors of [`journal::settle`].
    pub async fn settle(&self, key: &StepKey, outcome: SettledOutcome) -> Result<()> {
        journal::settle(&*self.journal, self.clock.now(), key, Settlement::new(outcome)).await
    }

    async fn record(&self, key: &StepKey, event: Event) -> Result<()> {
        self.journal.append(Record { at: self.clock.now(), key: key.clone(), event }).await
    }

    /// Creates a wait for a statement, with the orchestrator's settings.
    fn new_wait<'a>(&'a self, id: &'a StatementId) -> Wait<'a> {
        let wait = Wait::new(&*self.executor, id, &*self.strategy)
            .with_backoff(self.backoff)
            .with_expired_credentials_limit(self.retry_timeout);
        match self.cancel_grace {
            Some(grace) => wait.with_cancel_grace(grace),
            None => wait,
        }
    }
}
