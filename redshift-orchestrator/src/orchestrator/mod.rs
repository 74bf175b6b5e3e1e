//! [`Orchestrator`]: runs a statement at most once, and always says how it ended.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    Backoff, ClientToken, Clock, Conclusion, Error, ErrorKind, FailureKind, Messages, Observer, Origin,
    Outcome, Progressed, Result, Statement, StatementExecutor, StatementId, StepKey, SystemClock,
    identity::Namespace,
    journal::{self, Ended, Event, Journal, MemoryJournal, Record, Settlement, Standing},
    observer::Unobserved,
    wait::{Cancellation, Durations, Effort, LongPoll, PollStrategy, Wait},
};

mod call;
mod divide;
mod submit;
mod turns;

use call::{Call, recorded};
pub(crate) use divide::{divide, is_done, is_finished};
use turns::Turns;

/// Runs statements: each at most once for its [`StepKey`], waited for, and with an ending in every case.
///
/// What it adds to an executor:
///
/// * The intent is durable before the submit, and the client token is derived from what is to be done; so neither a lost
///   answer nor a killed process runs a statement twice. The [`journal`](crate::journal) has the table.
/// * Throttles, lost answers and faults of the service are survived, and counted.
/// * A statement whose time is over is cancelled.
/// * What cannot be proved is [unknown](Conclusion::Unknown), and not submitted again.
///
/// Clones share everything.
///
/// # When the future is dropped
///
/// No statement is lost by dropping the future of [`run`](Self::run) (or of a pipeline's): the next call with the same key goes on
/// from what is in the journal.
///
/// | dropped | then | the journal has |
/// |---|---|---|
/// | before the intent is written, or while | nothing is sent | nothing, or the intent |
/// | while the submit stands in the queue of a [layer](crate::layer), or pauses after an error | nothing more is sent | the intent |
/// | while the submit is on its way | its answer is waited for all the same, in a task of its own, and the id written down | the intent, then the id |
/// | while the statement is waited for | it runs on | the intent and the id |
/// | after it ended | nothing | the intent and the id, or all |
///
/// With [`with_cancel_on_drop`](Self::with_cancel_on_drop), the statement is cancelled in the third and fourth case, also in a task of its own, and
/// its ending written down. Tasks end with their runtime: what a process that stops leaves behind is what a killed one does.
///
/// ```
/// # use redshift_orchestrator::{*, journal::*};
/// # async fn example(executor: std::sync::Arc<dyn StatementExecutor>) -> Result<()> {
/// let orchestrator = Orchestrator::new(executor).with_journal(FileJournal::open("journal.jsonl")?);
/// let key = StepKey::new("cycle-007", "load-sales");
/// let outcome = orchestrator.run(&key, Statement::sql("CALL mystore.load_sales(7)"), None).await?;
/// assert!(outcome.is_finished(), "{}", outcome.result);
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
    patience: Duration,
    durations: Durations,
    cancel_on_drop: bool,
    quotations: bool,
    names_in_sql: bool,
    turns: Turns,
    pub(crate) namespace: Arc<Namespace>,
}

/// How long the service remembers a client token, less a margin for clocks that differ and requests on their way.
pub(crate) const TOKEN_WINDOW: Duration = Duration::from_secs((8 * 60 - 15) * 60);
/// How long the service keeps the record of a statement, less the same margin.
pub(crate) const RECORD_WINDOW: Duration = Duration::from_secs((24 * 60 - 15) * 60);
/// How long the service lets a statement run; nothing needs to be waited for longer.
pub(crate) const LONGEST_RUN: Duration = Duration::from_secs(24 * 60 * 60);

impl Orchestrator {
    /// An orchestrator with a journal in memory, long polling, and the machine's clock.
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
            patience: Duration::from_secs(15 * 60),
            durations: Durations::new(),
            cancel_on_drop: false,
            quotations: false,
            names_in_sql: false,
            turns: Turns::default(),
            namespace: Arc::new(namespace),
        }
    }

    /// Where intents, ids and endings are kept.
    #[must_use]
    pub fn with_journal(mut self, journal: impl Journal + 'static) -> Self {
        self.journal = Arc::new(journal);
        self
    }

    /// Adds a name to the identity of each statement. Without one, two orchestrators whose executors have no
    /// [target](StatementExecutor::target), or the same one, take equal statements with equal keys for one
    /// statement. A pipeline's name and the executor's target are part of the identity in any case.
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

    /// When to ask where a statement is.
    #[must_use]
    pub fn with_strategy(mut self, strategy: impl PollStrategy + 'static) -> Self {
        self.strategy = Arc::new(strategy);
        self
    }

    /// The time of day.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Who watches.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observer = Arc::new(observer);
        self
    }

    /// Where to read what stored procedures say while they run, for the [observer](Self::with_observer). Nowhere, unless given.
    #[must_use]
    pub fn with_messages(mut self, messages: impl Messages + 'static) -> Self {
        self.messages = Some(Arc::new(messages));
        self
    }

    /// The pauses after errors that are survived.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How long to go on submitting, and listing, while the service throttles or cannot be reached. 15 minutes unless said
    /// otherwise. Waiting for a submitted statement goes on until its own timeout.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// What is known of how long steps take, for [`Learned`](crate::wait::Learned); what is learned is added to it.
    #[must_use]
    pub fn with_durations(mut self, durations: Durations) -> Self {
        self.durations = durations;
        self
    }

    /// Whether a statement is cancelled when nobody waits for it any more. It is not, unless said so.
    #[must_use]
    pub fn with_cancel_on_drop(mut self, cancel: bool) -> Self {
        self.cancel_on_drop = cancel;
        self
    }

    /// Whether what the database and the service say about a statement is told, and written down, with what it quotes: SQL texts, literals,
    /// values of parameters. Unless said so, `…` stands there; names of tables and columns stay. [`Outcome::description`] has the
    /// database's words as they are in any case.
    #[must_use]
    pub fn with_quotations(mut self, quotations: bool) -> Self {
        self.quotations = quotations;
        self
    }

    /// Whether each SQL text begins with a comment that has the statement's name. Redshift's system views do not know the names that statements
    /// bear in the service, but they keep the SQL: so somebody who looks for a statement whose fate is unknown finds it there for certain, as
    /// long as they keep it (7 days). It is not, unless said so.
    ///
    /// Client tokens do not depend on it, so that it may be changed at any time.
    #[must_use]
    pub fn with_names_in_sql(mut self, names: bool) -> Self {
        self.names_in_sql = names;
        self
    }

    /// How long steps took, as far as this orchestrator and its clones have learned.
    pub fn durations(&self) -> &Durations {
        &self.durations
    }

    /// What runs the statements, for fetching results.
    pub fn executor(&self) -> &Arc<dyn StatementExecutor> {
        &self.executor
    }

    /// Where intents, ids and endings are kept.
    pub fn journal(&self) -> &Arc<dyn Journal> {
        &self.journal
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn observe(&self, key: &StepKey, event: &Progressed<'_>) {
        self.observer.observe(key, event);
    }

    /// Runs a statement once for `key` and waits for its ending, at most `limit` long (24 hours, which is the service's own
    /// limit, unless said otherwise). The statement's name and client token are set from the key.
    ///
    /// If the journal knows the ending already, it is returned and nothing is sent. If it knows an intent, the statement is
    /// looked for first, and waited for; its time counts from the intent. Calls for one key at the same time are one statement, too.
    ///
    /// # Errors
    /// An error means that the statement certainly did not run ([`ErrorKind::Invalid`], [`ErrorKind::Denied`],
    /// [`ErrorKind::Throttled`], …), with one exception: if [`Error::submitted`] names a statement, it was submitted and the journal
    /// failed then; the next call with the same key finds it. With [`ErrorKind::IdentityConflict`], the service
    /// answered with a statement of another caller: this one is unknown until it is [settled](Self::settle).
    pub async fn run(&self, key: &StepKey, statement: Statement, limit: Option<Duration>) -> Result<Outcome> {
        let (mut call, token, name) = self.call(key, statement, limit)?;
        // What only a part of the way needs is boxed: statements are in flight by the thousand, and most of their time they wait.
        call.turn = Some(Box::pin(self.turns.take(key)).await);
        let entry = self.journal.entry(key).await?.map(Box::new);
        let outcome = match entry {
            None => Box::pin(call.begin(token, name)).await,
            Some(entry) => match &entry.standing {
                Standing::Refused(_) | Standing::Settled(Settlement::NeverRan) => {
                    Box::pin(call.begin(token, name)).await
                }
                Standing::Ended(ended) => {
                    let (result, description) = recorded(&entry, ended, call.limit);
                    Ok(call.outcome(entry.name, entry.id, result, description, Origin::Journal))
                }
                Standing::Settled(found) => {
                    let result = match found {
                        Settlement::Finished => Conclusion::Finished,
                        _ => Conclusion::Failed {
                            kind: FailureKind::Sql,
                            error: "settled by hand as failed".into(),
                        },
                    };
                    Ok(call.outcome(entry.name, entry.id, result, None, Origin::Journal))
                }
                Standing::Open | Standing::Unknown(_) => Box::pin(call.reconcile(entry, &token)).await,
            },
        };
        match &outcome {
            Ok(outcome) => self.observe(key, &Progressed::Ended { outcome }),
            Err(error) => self.observe(key, &Progressed::Refused { error }),
        }
        outcome
    }

    /// What is to be done for `key`, under which token and name.
    fn call<'a>(
        &'a self,
        key: &'a StepKey,
        statement: Statement,
        limit: Option<Duration>,
    ) -> Result<(Call<'a>, ClientToken, String)> {
        key.check()?;
        self.namespace.check()?;
        statement.check().map_err(|error| error.with_context("step", key))?;
        if statement.client_token().is_some() {
            return Err(Error::new(
                ErrorKind::Invalid,
                "the orchestrator makes the client token; run the statement without one",
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
        Ok((Call::new(self, key, statement, limit.unwrap_or(LONGEST_RUN)), token, name))
    }

    /// Runs a batch of any length, as [parts](Statement::parts) of at most 40 statements, one after the other: each part at most once, for a
    /// [key of its own](StepKey::part), and all of them at most `limit` long. A batch that is short enough is [run](Self::run) as it is.
    ///
    /// As in a single batch, a statement that fails leaves the others to run. The parts end early when the time is over, and where the order
    /// would be lost: after one that was cancelled, timed out, or is unknown. Run again, parts that ended are taken from the journal.
    ///
    /// # Errors
    /// As [`run`](Self::run), of the first part that has one; [`ErrorKind::Invalid`] if the batch is too long and may not be divided;
    /// [`ErrorKind::Definition`] if an earlier process began this attempt with other statements.
    pub async fn run_parts(
        &self,
        key: &StepKey,
        statement: Statement,
        limit: Option<Duration>,
    ) -> Result<Vec<Outcome>> {
        key.check()?;
        let known = self.journal.run(&key.run).await?;
        let deadline = tokio::time::Instant::now() + limit.unwrap_or(LONGEST_RUN);
        let mut outcomes = Vec::new();
        for (key, part) in divide(&self.namespace, key, &statement, &known)? {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() && !outcomes.is_empty() {
                break;
            }
            let limit = key.part.map_or(limit, |_| Some(left));
            let outcome = self.run(&key, part, limit).await?;
            let goes_on = outcome.result.lets_others_run();
            outcomes.push(outcome);
            if !goes_on {
                break;
            }
        }
        Ok(outcomes)
    }

    /// Writes down what a person found out about a statement whose fate is unknown, so that its run can go on.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the journal does not know this attempt, or knows its ending.
    pub async fn settle(&self, key: &StepKey, found: Settlement) -> Result<()> {
        journal::settle(&*self.journal, self.clock.now(), key, found, None, None).await
    }

    async fn record(&self, key: &StepKey, event: Event) -> Result<()> {
        self.journal.append(Record { at: self.clock.now(), key: key.clone(), event }).await
    }

    /// Cancels the statement of an attempt that is on its way, and says what came of it. Its ending is written down.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the journal knows no statement of this attempt, or knows its ending;
    /// [`ErrorKind::Journal`] if the journal failed.
    pub async fn cancel(&self, key: &StepKey) -> Result<Cancellation> {
        let refuse = |text| Err(Error::new(ErrorKind::Invalid, text).with_context("step", key));
        match self.journal.entry(key).await? {
            None => refuse("the journal does not know this attempt"),
            Some(entry) => match (&entry.standing, entry.id) {
                (Standing::Open | Standing::Unknown(_), Some(id)) => self.cancel_statement(key, &id).await,
                (Standing::Open | Standing::Unknown(_), None) => refuse(
                    "the journal knows no id of this attempt: run it again, which finds it, and cancel then",
                ),
                _ => refuse("the journal knows how this attempt ended"),
            },
        }
    }

    async fn cancel_statement(&self, key: &StepKey, id: &StatementId) -> Result<Cancellation> {
        let wait = Wait::new(&*self.executor, id, &*self.strategy).with_backoff(self.backoff);
        let cancellation = wait.cancel(&mut Effort::default()).await;
        if let Cancellation::Cancelled(description) | Cancellation::EndedBefore(description) = &cancellation {
            self.record(key, Event::Ended(Ended::of(description))).await?;
        }
        Ok(cancellation)
    }
}

/// Cancels a statement in a task of its own when it is dropped, if its orchestrator is to do so and nobody disarmed it.
struct CancelOnDrop<'a> {
    orchestrator: &'a Orchestrator,
    key: &'a StepKey,
    id: Option<&'a StatementId>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        // Outside of a runtime there is nobody who could send anything: as if the process had died.
        if let (true, Some(id), Ok(runtime)) =
            (self.orchestrator.cancel_on_drop, self.id, tokio::runtime::Handle::try_current())
        {
            let (orchestrator, key, id) = (self.orchestrator.clone(), self.key.clone(), id.clone());
            // Whatever comes of it, the journal has the id.
            runtime.spawn(async move { orchestrator.cancel_statement(&key, &id).await.ok() });
        }
    }
}
