//! [`Call`]: the state of one call of [`Orchestrator::run`](super::Orchestrator::run).

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::time::{Instant, sleep};

use super::{
    CancelOnDrop, Orchestrator, RECORD_WINDOW, TOKEN_WINDOW,
    submit::{self, Answer},
    turns::Turn,
};
use crate::{
    ClientToken, Description, Error, ErrorKind, FailureKind, Message, Origin, Outcome, OutcomeKind,
    ProgressEvent, Result, Statement, StatementFilter, StatementId, Status, StepKey, Unknown, UnknownReason,
    clock::{after, age},
    identity::{is_before, short_digest},
    journal::{Entry, EntryState, Event, RecordedOutcome},
    layer::queue_time::bounded,
    messages::reporting,
    redact::Redactor,
    service::{LISTING_TIMEOUT, Pages},
    wait::{CancelOutcome, RequestCounts, WaitEvent, WaitOutcome, is_cancelled},
};

/// State of one call of [`Orchestrator::run`].
pub(super) struct Call<'a> {
    orchestrator: &'a Orchestrator,
    key: &'a StepKey,
    statement: Arc<Statement>,
    pub(super) timeout: Duration,
    /// Held until the journal contains the statement's id, or records that there is none.
    pub(super) turn: Option<Box<Turn>>,
    started: Instant,
    requests: RequestCounts,
    /// Created when a message about the statement is redacted for the first time.
    redactor: OnceLock<Redactor>,
    /// Time from the start until the service accepted the statement.
    submitted: Option<Duration>,
}

/// Result of submitting.
enum Submission {
    /// The service accepted the statement, and the journal contains the id.
    Accepted(StatementId),
    /// The statement did not run.
    NotSubmitted(Error),
    /// The submit may have taken effect.
    Unproved(Error),
}

impl<'a> Call<'a> {
    pub(super) fn new(
        orchestrator: &'a Orchestrator,
        key: &'a StepKey,
        statement: Statement,
        timeout: Duration,
    ) -> Self {
        let requests = RequestCounts::default();
        Self {
            orchestrator,
            key,
            statement: Arc::new(statement),
            timeout,
            turn: None,
            started: Instant::now(),
            requests,
            redactor: OnceLock::new(),
            submitted: None,
        }
    }

    /// Writes the intent to the journal, submits the statement and waits for it.
    pub(super) async fn begin(&mut self, token: ClientToken, name: String) -> Result<Outcome> {
        let intended_at = self.orchestrator.clock.now();
        self.record(Event::Intent { token: token.clone(), name: name.clone() }).await?;
        let key = self.key.clone();
        let entry =
            Entry { key, intended_at, token, name, id: None, overdue: false, state: EntryState::Open };
        let entry = Box::new(entry);
        let submission = Box::pin(self.submit(&entry, false)).await;
        match submission {
            Err(error) => Err(error),
            Ok(Submission::Accepted(id)) => self.accepted(entry, id, Origin::Submitted).await,
            Ok(Submission::NotSubmitted(error)) => {
                self.record(Event::NotSubmitted { error: error.to_string() }).await?;
                Err(error.with_context("step", self.key))
            }
            Ok(Submission::Unproved(error)) => {
                Box::pin(self.look_up(entry, UnknownReason::NoResponse, Some(error))).await
            }
        }
    }

    /// Determines the fate of an earlier intent, beginning with the strongest evidence.
    pub(super) async fn reconcile(&mut self, entry: Box<Entry>, token: &ClientToken) -> Result<Outcome> {
        if entry.id.is_some() {
            return self.wait(entry, Origin::Reattached).await;
        }
        let redefined = entry.token != *token;
        if !redefined && self.age(&entry) < TOKEN_WINDOW {
            return match self.submit(&entry, true).await? {
                Submission::Accepted(id) => self.accepted(entry, id, Origin::Reattached).await,
                Submission::NotSubmitted(error) | Submission::Unproved(error) => {
                    self.look_up(entry, UnknownReason::NoResponse, Some(error)).await
                }
            };
        }
        let reason = if redefined { UnknownReason::Redefined } else { UnknownReason::NotListed };
        self.look_up(entry, reason, None).await
    }

    /// Submits until the service has responded, always with the same token, as long as the service remembers
    /// the token.
    ///
    /// # Errors
    /// Returns an error of the journal if the id could not be recorded.
    async fn submit(&mut self, entry: &Entry, mut may_have_taken_effect: bool) -> Result<Submission> {
        let orchestrator = self.orchestrator;
        let mut failing_since = None;
        let mut pauses = orchestrator.backoff.pauses(salt(&entry.token));
        loop {
            self.requests.submits += 1;
            // A repeated submit that is sent after the service has forgotten the token would run the
            // statement again.
            let token_expires_at =
                may_have_taken_effect.then(|| Instant::now() + TOKEN_WINDOW.saturating_sub(self.age(entry)));
            let submit = submit::once(orchestrator, self.key, &self.statement, entry, token_expires_at);
            let error = match submit.await {
                Answer::Accepted(id) => {
                    self.submitted = Some(self.started.elapsed());
                    return Ok(Submission::Accepted(id));
                }
                Answer::AcceptedUnwritten(error) => return Err(error),
                Answer::Foreign(error) => return Err(self.foreign(error).await?),
                Answer::TokenExpired(error) => return Ok(Submission::Unproved(error)),
                Answer::Failed(error) => match self.redactor() {
                    Some(redactor) => redactor.apply_to(error),
                    None => error,
                },
            };
            let begun: Instant = *failing_since.get_or_insert_with(Instant::now);
            may_have_taken_effect |= error.kind().may_have_taken_effect();
            let pause = pauses.after(&error);
            // The statement's timeout does not apply while it is being determined whether an earlier submit
            // took effect.
            let retry_timeout = match may_have_taken_effect {
                true => orchestrator.retry_timeout,
                false => orchestrator.retry_timeout.min(self.timeout),
            };
            let again = error.kind().is_transient()
                && begun.elapsed().saturating_add(pause) < retry_timeout
                && self.age(entry).saturating_add(pause) < TOKEN_WINDOW;
            if !again {
                return Ok(match may_have_taken_effect {
                    true => Submission::Unproved(error),
                    false => Submission::NotSubmitted(error),
                });
            }
            self.retried(&error);
            sleep(pause).await;
        }
    }

    /// Waits for the statement whose id has just been recorded.
    async fn accepted(&mut self, mut entry: Box<Entry>, id: StatementId, origin: Origin) -> Result<Outcome> {
        let reattached = origin == Origin::Reattached;
        self.orchestrator.observe(self.key, &ProgressEvent::Submitted { id: &id, reattached });
        entry.id = Some(id);
        self.wait(entry, origin).await
    }

    /// Searches for the statement by its name. The outcome is unknown if no listing contains it.
    async fn look_up(
        &mut self,
        entry: Box<Entry>,
        reason: UnknownReason,
        error: Option<Error>,
    ) -> Result<Outcome> {
        if self.age(&entry) >= RECORD_WINDOW {
            return self.unknown(entry, UnknownReason::TooLate, error).await;
        }
        match self.find(&entry).await {
            Ok(Some(id)) => {
                submit::write_down(self.orchestrator, self.key, &id, &entry.name).await?;
                self.submitted = Some(self.started.elapsed());
                self.accepted(entry, id, Origin::Reattached).await
            }
            Ok(None) => self.unknown(entry, reason, error).await,
            Err(listing) => self.unknown(entry, reason, Some(error.unwrap_or(listing))).await,
        }
    }

    /// Returns the id of the statement that has the intent's name.
    async fn find(&mut self, entry: &Entry) -> Result<Option<StatementId>> {
        let orchestrator = self.orchestrator;
        let deadline = after(Instant::now(), orchestrator.retry_timeout);
        let mut pauses = orchestrator.backoff.pauses(salt(&entry.token));
        let filter = StatementFilter::named(&entry.name);
        let (mut found, mut page, mut pages) = (None, None, Pages::default());
        loop {
            self.requests.lists += 1;
            let request = orchestrator.executor.list(&filter, page.clone());
            // The executor's own timeout for a listing expires first.
            let answer = bounded(LISTING_TIMEOUT + submit::REQUEST_LIMIT, None, request).await;
            let answer =
                answer.unwrap_or_else(|_| Err(Error::new(ErrorKind::Disconnected, "no response in time")));
            match answer {
                Ok(listed) => {
                    for statement in listed.statements {
                        // The service's filter is a prefix. A statement that is older than the intent is a
                        // different one.
                        let is_older =
                            statement.created_at.is_some_and(|created| is_before(created, entry.intended_at));
                        if is_older
                            || statement.name.as_deref() != Some(&entry.name)
                            || found.as_ref() == Some(&statement.id)
                        {
                            continue;
                        }
                        if found.replace(statement.id).is_some() {
                            return Err(Error::new(ErrorKind::Other, "two statements have the same name")
                                .with_context("statement_name", &entry.name));
                        }
                    }
                    page = pages.turn(listed.next)?;
                    if page.is_none() {
                        return Ok(found);
                    }
                }
                Err(error) => {
                    let pause = pauses.after(&error);
                    if !error.kind().is_transient() || after(Instant::now(), pause) >= deadline {
                        return Err(error);
                    }
                    self.retried(&error);
                    sleep(pause).await;
                }
            }
        }
    }

    /// Waits for the statement of the entry.
    async fn wait(&mut self, entry: Box<Entry>, origin: Origin) -> Result<Outcome> {
        let Some(id) = entry.id.clone() else {
            return self.unknown(entry, UnknownReason::AccessDenied, None).await;
        };
        self.turn = None;
        let (orchestrator, key) = (self.orchestrator, self.key);
        let (cell, statement) = (&self.redactor, &self.statement);
        let redactor = move || redactor_in(cell, statement, orchestrator);
        let watch = move |event: WaitEvent<'_>| match event {
            WaitEvent::Polled(status) => orchestrator.observe(key, &ProgressEvent::Polled { status }),
            WaitEvent::Retried(error) => {
                let retold = redactor().map(|redactor| redactor.retold(error));
                let error = retold.as_ref().unwrap_or(error);
                orchestrator.observe(key, &ProgressEvent::RequestRetried { error });
            }
        };
        let (namespace, intended_at) = (&orchestrator.namespace, entry.intended_at);
        let check = move |seen: &Description| {
            let target = seen.target.as_ref();
            namespace.check_answer(statement, intended_at, &seen.id, seen.created_at, target)
        };
        let is_overdue = entry.overdue;
        let overdue = move || -> BoxFuture<'_, ()> {
            Box::pin(async move {
                if is_overdue {
                    return;
                }
                // The cancel is sent in any case. Without this record, an abort would be reported as another
                // client's.
                if let Err(error) = orchestrator.record(key, Event::Overdue).await {
                    tracing::warn!(%error, step = %key, "the cancellation could not be recorded");
                }
            })
        };
        let mut wait = orchestrator
            .wait_for(&id)
            .with_timeout(self.timeout)
            .with_expected(orchestrator.durations.expected(&key.step))
            .with_watch(&watch)
            .with_before_cancel(&overdue)
            .with_check(&check);
        if origin == Origin::Reattached {
            wait = wait.attached_after(self.age(&entry));
        }
        let waiting = Instant::now();
        let ending = {
            let mut on_drop = CancelOnDrop { orchestrator, key, id: Some(&id) };
            let report = self.message_report();
            let until_ended = Box::pin(wait.until_ended(&mut self.requests));
            let ending = match &orchestrator.messages {
                Some(source) => Box::pin(reporting(source.clone(), id.clone(), report, until_ended)).await,
                None => until_ended.await,
            };
            on_drop.id = None;
            ending
        };
        let (description, is_timed_out) = match last_seen(ending) {
            LastSeen::Ended { description, is_timed_out } => (description, is_timed_out),
            LastSeen::CancelPending(description) => {
                let result = OutcomeKind::TimedOut { timeout: self.timeout, cancel_pending: true };
                let description = description.map(|description| *description);
                return Ok(self.outcome(entry.name, Some(id), result, description, origin));
            }
            LastSeen::Unknown(_, error) if error.kind() == ErrorKind::IdentityConflict => {
                return Err(self.foreign(error).await?);
            }
            LastSeen::Unknown(reason, error) => return self.unknown(entry, reason, Some(error)).await,
        };
        if description.status == Status::Finished {
            orchestrator.durations.add(&key.step, description.duration.unwrap_or_else(|| waiting.elapsed()));
        }
        let mut ended = RecordedOutcome::told(&description, |said| self.tell(&said));
        ended.timed_out = is_timed_out || (entry.overdue && is_cancelled(&description));
        let result = conclude(&ended, self.timeout);
        self.record(Event::Ended(ended))
            .await
            .map_err(|error| error.with_submitted(&id).with_context("status", &description.status))?;
        Ok(self.outcome(entry.name, Some(id), result, Some(*description), origin))
    }

    /// Returns a function that reports messages of the statement. It can outlive this call.
    fn message_report(&self) -> impl Fn(&Message) + Send + Sync + use<> {
        let (orchestrator, key) = (self.orchestrator.clone(), self.key.clone());
        let (statement, cell) = (self.statement.clone(), OnceLock::new());
        move |message| {
            let redactor = redactor_in(&cell, &statement, &orchestrator);
            let text = redactor
                .map_or_else(|| message.text.clone(), |redactor| redactor.apply_secrets(&message.text));
            orchestrator.observe(&key, &ProgressEvent::Message { level: &message.level, text: &text });
        }
    }

    async fn unknown(
        &mut self,
        entry: Box<Entry>,
        reason: UnknownReason,
        error: Option<Error>,
    ) -> Result<Outcome> {
        let unknown = Unknown {
            reason,
            error: error.as_ref().map(|error| self.tell(&error.to_string())),
            name: entry.name.clone(),
            id: entry.id.clone(),
            intended_at: entry.intended_at,
        };
        self.record(Event::Unknown { reason: unknown.to_string() }).await?;
        let result = OutcomeKind::Unknown(Box::new(unknown));
        Ok(self.outcome(entry.name, entry.id, result, None, Origin::Reattached))
    }

    /// Records an identity conflict and returns the error. The statement may still have run, because the
    /// clock of the process that wrote the intent may have been wrong.
    async fn foreign(&mut self, error: Error) -> Result<Error> {
        let error = error.with_context("step", self.key);
        self.record(Event::Unknown { reason: error.to_string() }).await?;
        Ok(error)
    }

    pub(super) fn outcome(
        &mut self,
        name: String,
        id: Option<StatementId>,
        kind: OutcomeKind,
        description: Option<Description>,
        origin: Origin,
    ) -> Outcome {
        Outcome {
            key: self.key.clone(),
            name,
            id,
            kind,
            description,
            requests: std::mem::take(&mut self.requests),
            submitted_after: self.submitted,
            elapsed: self.started.elapsed(),
            origin,
        }
    }

    async fn record(&self, event: Event) -> Result<()> {
        self.orchestrator.record(self.key, event).await.map_err(|error| error.with_context("step", self.key))
    }

    fn retried(&mut self, error: &Error) {
        self.requests.retried(error.kind());
        let retold = self.redactor().map(|redactor| redactor.retold(error));
        let error = retold.as_ref().unwrap_or(error);
        self.orchestrator.observe(self.key, &ProgressEvent::RequestRetried { error });
    }

    /// Redacts a message from the database or the service.
    fn tell(&self, said: &str) -> String {
        self.redactor().map_or_else(|| said.to_owned(), |redactor| redactor.apply(said))
    }

    fn redactor(&self) -> Option<&Redactor> {
        redactor_in(&self.redactor, &self.statement, self.orchestrator)
    }

    fn age(&self, entry: &Entry) -> Duration {
        age(self.orchestrator.clock.now(), entry.intended_at)
    }
}

/// Returns a number that differs between statements and is always the same for one statement. It seeds the
/// pauses.
fn salt(token: &ClientToken) -> u64 {
    u64::from_str_radix(short_digest(token), 16).unwrap_or(0)
}

/// Result of a wait.
enum LastSeen {
    /// The last description of a statement that has ended, and `true` if its timeout ended it.
    Ended { description: Box<Description>, is_timed_out: bool },
    /// The last description of a cancelled statement that has not ended, as far as the service could be asked.
    CancelPending(Option<Box<Description>>),
    /// The reason why the ending is unknown.
    Unknown(UnknownReason, Error),
}

fn last_seen(ending: WaitOutcome) -> LastSeen {
    let ended =
        |description, is_timed_out| LastSeen::Ended { description: Box::new(description), is_timed_out };
    let unknown = |error: Error, otherwise| LastSeen::Unknown(lost(&error).unwrap_or(otherwise), error);
    match ending {
        WaitOutcome::Ended(description) => ended(description, false),
        WaitOutcome::TimedOut { cancellation, .. } => match cancellation {
            CancelOutcome::Cancelled(description) => ended(description, true),
            CancelOutcome::EndedBefore(description) => ended(description, false),
            CancelOutcome::Pending(description) => LastSeen::CancelPending(description.map(Box::new)),
            CancelOutcome::NotCancelled(error) => unknown(error, UnknownReason::NotCancelled),
        },
        WaitOutcome::Lost(error) => unknown(error, UnknownReason::AccessDenied),
    }
}

/// Returns the reason if this error means that the service has no record of the statement, or denies access
/// to it.
fn lost(error: &Error) -> Option<UnknownReason> {
    match error.kind() {
        ErrorKind::Expired => Some(UnknownReason::RecordExpired),
        ErrorKind::NotFound => Some(UnknownReason::IdNotKnown),
        _ => None,
    }
}

fn redactor_in<'m>(
    cell: &'m OnceLock<Redactor>,
    statement: &Statement,
    orchestrator: &Orchestrator,
) -> Option<&'m Redactor> {
    (!orchestrator.quotations).then(|| cell.get_or_init(|| Redactor::of(statement)))
}

impl RecordedOutcome {
    /// Returns the part of a description that a journal keeps. The error text is redacted.
    pub fn of(description: &Description) -> Self {
        Self::told(description, |said| match Redactor::of_described(description) {
            Some(redactor) => redactor.apply(&said),
            None => said,
        })
    }

    fn told(description: &Description, tell: impl FnOnce(String) -> String) -> Self {
        let (failure, error) = match error_text(description) {
            Some((kind, said)) => (kind, Some(tell(said))),
            None => (FailureKind::Sql, None),
        };
        Self {
            status: description.status.clone(),
            error,
            failure: (description.status == Status::Failed).then_some(failure),
            timed_out: false,
            executing: description.duration,
            rows: description.result_rows,
            has_result_set: description.has_result_set,
        }
    }
}

fn conclude(ended: &RecordedOutcome, timeout: Duration) -> OutcomeKind {
    match ended.status {
        Status::Finished => OutcomeKind::Finished,
        _ if ended.timed_out => OutcomeKind::TimedOut { timeout, cancel_pending: false },
        Status::Aborted => OutcomeKind::Aborted,
        _ => {
            let said = ended.error.as_deref().unwrap_or_default();
            let kind = ended.failure.unwrap_or_else(|| FailureKind::of_text(said));
            let error =
                ended.error.clone().unwrap_or_else(|| "the database returned no error text".to_owned());
            OutcomeKind::Failed { kind, error }
        }
    }
}

/// Returns the conclusion and the description recorded in a journal.
pub(super) fn recorded(
    entry: &Entry,
    ended: &RecordedOutcome,
    timeout: Duration,
) -> (OutcomeKind, Option<Description>) {
    let description = entry.id.clone().map(|id| {
        let mut description = Description::new(id, ended.status.clone());
        description.error.clone_from(&ended.error);
        description.duration = ended.executing;
        description.result_rows = ended.rows;
        description.has_result_set = ended.has_result_set;
        description
    });
    (conclude(ended, timeout), description)
}

/// Returns the error text of a statement and the kind of failure. For a batch without an error text, returns
/// the first error text of its statements, with the number of that statement.
fn error_text(description: &Description) -> Option<(FailureKind, String)> {
    let own = description.error.clone().filter(|error| !error.is_empty());
    let own = own.map(|error| (FailureKind::of_text(&error), error));
    own.or_else(|| {
        description.sub_statements.iter().enumerate().find_map(|(index, sub)| {
            let error = sub.error.as_ref()?;
            let told = format!("statement {} of the batch: {error}", index + 1);
            Some((FailureKind::of_text(error), told))
        })
    })
}
