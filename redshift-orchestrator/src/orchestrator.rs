//! [`Orchestrator`]: runs a statement at most once, and always says how it ended.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    Backoff, ClientToken, Clock, Conclusion, Description, Error, ErrorKind, FailureKind, Observer, Origin,
    Outcome, Progressed, Result, Statement, StatementExecutor, StatementFilter, StatementId, Status, StepKey,
    Submitted, SystemClock, Unknown, UnknownReason,
    clock::age,
    journal::{
        self, Ended, Entry, Event, Journal, MemoryJournal, Record, Settlement, Standing, client_token,
        statement_name,
    },
    observer::Unobserved,
    wait::{Cancellation, Effort, Ending, LongPoll, PollStrategy, Wait, WaitEvent},
};

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
/// Clones share everything. Dropping the future of [`run`](Self::run) leaves the statement running and its intent in the
/// journal: the next call with the same key finds it.
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
    backoff: Backoff,
    patience: Duration,
    learned: Arc<Mutex<HashMap<String, Duration>>>,
}

/// How long the service remembers a client token, less a margin for clocks that differ and requests on their way.
pub(crate) const TOKEN_WINDOW: Duration = Duration::from_secs((8 * 60 - 15) * 60);
/// How long the service keeps the record of a statement, less the same margin.
pub(crate) const RECORD_WINDOW: Duration = Duration::from_secs((24 * 60 - 15) * 60);
/// How long the service lets a statement run; nothing needs to be waited for longer.
pub(crate) const LONGEST_RUN: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a single request without a wait may take before it counts as lost.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);

impl Orchestrator {
    /// An orchestrator with a journal in memory, long polling, and the machine's clock.
    pub fn new(executor: impl StatementExecutor + 'static) -> Self {
        Self {
            executor: Arc::new(executor),
            journal: Arc::new(MemoryJournal::new()),
            strategy: Arc::new(LongPoll::default()),
            clock: Arc::new(SystemClock),
            observer: Arc::new(Unobserved),
            backoff: Backoff::default(),
            patience: Duration::from_secs(15 * 60),
            learned: Arc::default(),
        }
    }

    /// Where intents, ids and endings are kept.
    #[must_use]
    pub fn with_journal(mut self, journal: impl Journal + 'static) -> Self {
        self.journal = Arc::new(journal);
        self
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
    /// looked for first, and waited for; its time counts from the intent.
    ///
    /// # Errors
    /// An error means that the statement certainly did not run ([`ErrorKind::Invalid`], [`ErrorKind::Denied`],
    /// [`ErrorKind::Throttled`], …), with one exception: with [`ErrorKind::Journal`] and a `statement_id` among its context, the statement was
    /// submitted and the journal failed then; the next call with the same key finds it.
    pub async fn run(&self, key: &StepKey, statement: Statement, limit: Option<Duration>) -> Result<Outcome> {
        key.check()?;
        if statement.client_token().is_some() {
            return Err(Error::new(
                ErrorKind::Invalid,
                "the orchestrator makes the client token; run the statement without one",
            )
            .with_context("step", key));
        }
        let token = client_token(key, &statement)?;
        let name = statement_name(key, &token);
        let statement = statement.with_client_token(token.clone()).with_name(name.clone());
        let mut call = Call {
            orchestrator: self,
            key,
            statement,
            limit: limit.unwrap_or(LONGEST_RUN),
            started: Instant::now(),
            effort: Effort::default(),
            submitted: None,
        };
        let outcome = match self.journal.entry(key).await? {
            None => call.begin(token, name).await,
            Some(entry) => match &entry.standing {
                Standing::Refused(_) | Standing::Settled(Settlement::NeverRan) => {
                    call.begin(token, name).await
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
                Standing::Open | Standing::Unknown(_) => call.reconcile(entry, &token).await,
            },
        };
        match &outcome {
            Ok(outcome) => self.observe(key, &Progressed::Ended { outcome }),
            Err(error) => self.observe(key, &Progressed::Refused { error }),
        }
        outcome
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

    fn expected(&self, step: &str) -> Option<Duration> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner).get(step).copied()
    }

    fn learn(&self, step: &str, took: Duration) {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner).insert(step.to_owned(), took);
    }
}

/// One call of [`Orchestrator::run`].
struct Call<'a> {
    orchestrator: &'a Orchestrator,
    key: &'a StepKey,
    statement: Statement,
    limit: Duration,
    started: Instant,
    effort: Effort,
    /// How long after the start the service accepted the statement.
    submitted: Option<Duration>,
}

/// How submitting ended.
#[expect(clippy::large_enum_variant, reason = "made once a submit, and taken apart at once")]
enum Submission {
    Accepted(Submitted),
    /// It certainly did not run.
    Refused(Error),
    /// It may have taken effect.
    Unproved(Error),
}

impl Call<'_> {
    /// Writes the intent down, submits, waits.
    async fn begin(&mut self, token: ClientToken, name: String) -> Result<Outcome> {
        let intended_at = self.orchestrator.clock.now();
        self.record(Event::Intent { token: token.clone(), name: name.clone() }).await?;
        let entry =
            Entry { key: self.key.clone(), intended_at, token, name, id: None, standing: Standing::Open };
        match self.submit(&entry, false).await {
            Submission::Accepted(submitted) => self.accepted(entry, submitted, Origin::Submitted).await,
            Submission::Refused(error) => {
                self.record(Event::Refused { error: error.to_string() }).await?;
                Err(error.with_context("step", self.key))
            }
            Submission::Unproved(error) => self.look_up(entry, UnknownReason::NoAnswer, Some(error)).await,
        }
    }

    /// Finds out what became of an intent, in the order of what proves most.
    async fn reconcile(&mut self, entry: Entry, token: &ClientToken) -> Result<Outcome> {
        if entry.id.is_some() {
            return self.wait(entry, Origin::Reattached).await;
        }
        let redefined = entry.token != *token;
        if !redefined && self.age(&entry) < TOKEN_WINDOW {
            return match self.submit(&entry, true).await {
                Submission::Accepted(submitted) => self.accepted(entry, submitted, Origin::Reattached).await,
                Submission::Refused(error) | Submission::Unproved(error) => {
                    self.look_up(entry, UnknownReason::NoAnswer, Some(error)).await
                }
            };
        }
        let reason = if redefined { UnknownReason::Redefined } else { UnknownReason::NotListed };
        self.look_up(entry, reason, None).await
    }

    /// Submits until the service has answered, with one and the same token, as long as that is remembered.
    async fn submit(&mut self, entry: &Entry, mut may_have_taken_effect: bool) -> Submission {
        let orchestrator = self.orchestrator;
        let begun = Instant::now();
        let mut pauses = orchestrator.backoff.pauses(salt(&entry.token));
        loop {
            self.effort.submits += 1;
            let error =
                match timeout(REQUEST_LIMIT, orchestrator.executor.submit(&self.statement, None)).await {
                    Ok(Ok(submitted)) => return Submission::Accepted(submitted),
                    Ok(Err(error)) => error,
                    Err(_) => Error::new(ErrorKind::Disconnected, "no answer in time"),
                };
            may_have_taken_effect |= error.kind().may_have_taken_effect();
            let pause = pauses.after(&error);
            // The statement's own time does not cut short the proof that it was submitted, or was not.
            let patience = match may_have_taken_effect {
                true => orchestrator.patience,
                false => orchestrator.patience.min(self.limit),
            };
            let again = error.kind().is_transient()
                && begun.elapsed() + pause < patience
                && self.age(entry) + pause < TOKEN_WINDOW;
            if !again {
                return if may_have_taken_effect {
                    Submission::Unproved(error)
                } else {
                    Submission::Refused(error)
                };
            }
            self.survived(&error);
            sleep(pause).await;
        }
    }

    /// Writes the id down and waits.
    async fn accepted(&mut self, mut entry: Entry, submitted: Submitted, origin: Origin) -> Result<Outcome> {
        self.submitted = Some(self.started.elapsed());
        let id = submitted.id;
        self.record(Event::Submitted { id: id.clone() }).await.map_err(|error| {
            error.with_context("statement_id", &id).with_context("statement_name", &entry.name)
        })?;
        let reattached = origin == Origin::Reattached;
        self.orchestrator.observe(self.key, &Progressed::Submitted { id: &id, reattached });
        entry.id = Some(id);
        self.wait(entry, origin).await
    }

    /// Looks for the statement by its name; what no listing shows is unknown.
    async fn look_up(
        &mut self,
        entry: Entry,
        reason: UnknownReason,
        error: Option<Error>,
    ) -> Result<Outcome> {
        if self.age(&entry) >= RECORD_WINDOW {
            return self.unknown(entry, UnknownReason::TooLate, error).await;
        }
        match self.find(&entry).await {
            Ok(Some(id)) => self.accepted(entry, Submitted::new(id), Origin::Reattached).await,
            Ok(None) => self.unknown(entry, reason, error).await,
            Err(listing) => self.unknown(entry, reason, Some(error.unwrap_or(listing))).await,
        }
    }

    /// The id of the one statement that bears the intent's name.
    async fn find(&mut self, entry: &Entry) -> Result<Option<StatementId>> {
        let orchestrator = self.orchestrator;
        let deadline = Instant::now() + orchestrator.patience;
        let mut pauses = orchestrator.backoff.pauses(salt(&entry.token));
        let filter = StatementFilter::named(&entry.name);
        let (mut found, mut page) = (None, None);
        loop {
            self.effort.lists += 1;
            let answer = match timeout(REQUEST_LIMIT, orchestrator.executor.list(&filter, page.clone())).await
            {
                Ok(answer) => answer,
                Err(_) => Err(Error::new(ErrorKind::Disconnected, "no answer in time")),
            };
            match answer {
                Ok(listed) => {
                    for statement in listed.statements {
                        // The service's filter is a prefix.
                        if statement.name.as_deref() != Some(&entry.name)
                            || found.as_ref() == Some(&statement.id)
                        {
                            continue;
                        }
                        if found.replace(statement.id).is_some() {
                            return Err(Error::new(ErrorKind::Other, "two statements bear the same name")
                                .with_context("statement_name", &entry.name));
                        }
                    }
                    page = listed.next;
                    if page.is_none() {
                        return Ok(found);
                    }
                }
                Err(error) => {
                    let pause = pauses.after(&error);
                    if !error.kind().is_transient() || Instant::now() + pause >= deadline {
                        return Err(error);
                    }
                    self.survived(&error);
                    sleep(pause).await;
                }
            }
        }
    }

    /// Waits for the statement that the entry names.
    async fn wait(&mut self, entry: Entry, origin: Origin) -> Result<Outcome> {
        let Some(id) = entry.id.clone() else {
            return self.unknown(entry, UnknownReason::NotTold, None).await;
        };
        let (orchestrator, key) = (self.orchestrator, self.key);
        let watch = move |event: WaitEvent<'_>| match event {
            WaitEvent::Polled(status) => orchestrator.observe(key, &Progressed::Polled { status }),
            WaitEvent::Survived(error) => orchestrator.observe(key, &Progressed::Survived { error }),
        };
        let mut wait = Wait::new(&*orchestrator.executor, &id, &*orchestrator.strategy)
            .with_backoff(orchestrator.backoff)
            .with_limit(self.limit)
            .with_expected(orchestrator.expected(&key.step))
            .with_watch(&watch);
        if origin == Origin::Reattached {
            wait = wait.attached_after(self.age(&entry));
        }
        let waiting = Instant::now();
        let ending = wait.until_ended(&mut self.effort).await;
        let (description, timed_out) = match ending {
            Ending::Ended(description) => (description, false),
            Ending::TimedOut { cancellation, .. } => match cancellation {
                Cancellation::Cancelled(description) => (description, true),
                Cancellation::EndedBefore(description) => (description, false),
                Cancellation::NotCancelled(error) => {
                    return self.unknown(entry, UnknownReason::NotCancelled, Some(error)).await;
                }
            },
            Ending::Lost(error) => {
                let reason = match error.kind() {
                    ErrorKind::Expired => UnknownReason::RecordExpired,
                    ErrorKind::NotFound => UnknownReason::IdNotKnown,
                    _ => UnknownReason::NotTold,
                };
                return self.unknown(entry, reason, Some(error)).await;
            }
        };
        if description.status == Status::Finished {
            orchestrator.learn(&key.step, description.duration.unwrap_or_else(|| waiting.elapsed()));
        }
        let ended = Ended {
            status: description.status.clone(),
            error: error_text(&description),
            timed_out,
            executing: description.duration,
            rows: description.result_rows,
            has_result_set: description.has_result_set,
        };
        let result = conclude(&ended, self.limit);
        self.record(Event::Ended(ended)).await.map_err(|error| {
            error.with_context("statement_id", &id).with_context("status", &description.status)
        })?;
        Ok(self.outcome(entry.name, Some(id), result, Some(description), origin))
    }

    async fn unknown(
        &mut self,
        entry: Entry,
        reason: UnknownReason,
        error: Option<Error>,
    ) -> Result<Outcome> {
        let unknown = Unknown {
            reason,
            error: error.as_ref().map(Error::to_string),
            name: entry.name.clone(),
            id: entry.id.clone(),
            intended_at: entry.intended_at,
        };
        self.record(Event::Unknown { reason: unknown.to_string() }).await?;
        let result = Conclusion::Unknown(Box::new(unknown));
        Ok(self.outcome(entry.name, entry.id, result, None, Origin::Reattached))
    }

    fn outcome(
        &mut self,
        name: String,
        id: Option<StatementId>,
        result: Conclusion,
        description: Option<Description>,
        origin: Origin,
    ) -> Outcome {
        Outcome {
            key: self.key.clone(),
            name,
            id,
            result,
            description,
            effort: std::mem::take(&mut self.effort),
            submitted_after: self.submitted,
            elapsed: self.started.elapsed(),
            origin,
        }
    }

    async fn record(&self, event: Event) -> Result<()> {
        self.orchestrator.record(self.key, event).await.map_err(|error| error.with_context("step", self.key))
    }

    fn survived(&mut self, error: &Error) {
        self.effort.survived(error.kind());
        self.orchestrator.observe(self.key, &Progressed::Survived { error });
    }

    fn age(&self, entry: &Entry) -> Duration {
        age(self.orchestrator.clock.now(), entry.intended_at)
    }
}

/// The pauses of different statements should differ, and those of one statement repeat.
fn salt(token: &ClientToken) -> u64 {
    token.as_str().get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

fn conclude(ended: &Ended, limit: Duration) -> Conclusion {
    match ended.status {
        Status::Finished => Conclusion::Finished,
        Status::Aborted if ended.timed_out => Conclusion::TimedOut { limit },
        Status::Aborted => Conclusion::Aborted,
        _ => {
            let error = ended.error.clone().unwrap_or_else(|| "the database gave no reason".to_owned());
            Conclusion::Failed { kind: FailureKind::of_text(&error), error }
        }
    }
}

/// The ending that a journal holds.
fn recorded(entry: &Entry, ended: &Ended, limit: Duration) -> (Conclusion, Option<Description>) {
    let description = entry.id.clone().map(|id| {
        let mut description = Description::new(id, ended.status.clone());
        description.error.clone_from(&ended.error);
        description.duration = ended.executing;
        description.result_rows = ended.rows;
        description.has_result_set = ended.has_result_set;
        description
    });
    (conclude(ended, limit), description)
}

/// Why a statement failed; of a batch that gives no reason itself, the first reason among its statements.
fn error_text(description: &Description) -> Option<String> {
    let own = description.error.clone().filter(|error| !error.is_empty());
    own.or_else(|| {
        description.sub_statements.iter().enumerate().find_map(|(index, sub)| {
            sub.error.as_ref().map(|error| format!("statement {} of the batch: {error}", index + 1))
        })
    })
}
