//! Submits a statement until the service responds. Each submit runs in a separate task, so that its response
//! is recorded even if the caller's future is dropped.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, interval_at, sleep},
};

use super::{
    Orchestrator, TOKEN_WINDOW,
    call::{Call, salt},
};
use crate::{
    Error, ErrorKind, Result, Statement, StatementId, StepKey, Submitted,
    journal::{Entry, Event},
    layer::queue_time::{Expiry, GivenUp, Queue},
};

/// Timeout of a request that does not use long polling. When the timeout expires, the request counts as lost.
pub(super) const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// Time before the expiry of a token at which the intent of a queued submit is recorded again.
const RENEWAL_MARGIN: Duration = Duration::from_secs(60);

/// Result of all submits of a call together.
pub(super) enum Submission {
    /// The service accepted the statement, and the journal contains the id.
    Submitted(StatementId),
    /// The statement did not run.
    NotSubmitted(Error),
    /// The statement may be running, because one of the submits may have taken effect.
    Uncertain(Error),
}

/// Use of a client token by a submit.
#[derive(Clone, Copy)]
struct TokenUse {
    /// Time until which the service certainly remembers the token.
    expires_at: Instant,
    /// `true` if an earlier submit with the token may have taken effect.
    may_have_taken_effect: bool,
}

/// Result of one submit.
enum SubmitResponse {
    /// The service accepted the statement, and the journal contains the id.
    Accepted(StatementId),
    /// The submit was not sent, got no response, or was rejected.
    Failed(Error),
}

impl Call<'_> {
    /// Submits the statement, and repeats the submit with the same token until the service responds, a retry
    /// timeout expires, the service no longer remembers the token, or, if no submit may have taken effect, a
    /// stop is requested.
    ///
    /// # Errors
    /// Returns an error of the journal if the id could not be recorded, and
    /// [`ErrorKind::IdentityConflict`](crate::ErrorKind::IdentityConflict) if the service returned another
    /// caller's statement.
    pub(super) async fn submit_until_response(
        &mut self,
        entry: &Entry,
        mut may_have_taken_effect: bool,
    ) -> Result<Submission> {
        let mut failing_since = None;
        let mut pauses = self.orchestrator.backoff.pauses(salt(&entry.token));
        loop {
            // If a submit were sent after the service has forgotten the token, the statement could run twice:
            // this call, or another process that continued the intent, may have submitted it before. The
            // age is that of the wall clock, because the clock of the pauses stops while a machine sleeps.
            let token_lifetime = self.token_lifetime(entry);
            if token_lifetime.is_zero() {
                return Ok(match may_have_taken_effect {
                    true => Submission::Uncertain(token_expired()),
                    false => Submission::NotSubmitted(token_expired()),
                });
            }
            self.requests.submits += 1;
            let token = TokenUse { expires_at: Instant::now() + token_lifetime, may_have_taken_effect };
            let response = submit_once(self.orchestrator, self.key, &self.statement, entry, token);
            let error = match response.await? {
                SubmitResponse::Accepted(id) => return Ok(Submission::Submitted(id)),
                SubmitResponse::Failed(error) => self.redacted(error),
            };
            may_have_taken_effect |= error.kind().may_have_taken_effect();
            let failing_since: Instant = *failing_since.get_or_insert_with(Instant::now);
            let pause = pauses.after(&error);
            let again = error.kind().is_transient()
                && failing_since.elapsed().saturating_add(pause) < self.retry_timeout(may_have_taken_effect)
                && self.token_lifetime(entry) > pause
                && !(token.may_have_taken_effect && token.expires_at <= Instant::now());
            match (again, may_have_taken_effect) {
                (true, _) => self.count_retry(&error),
                (false, true) => return Ok(Submission::Uncertain(error)),
                (false, false) => return Ok(Submission::NotSubmitted(error)),
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = self.orchestrator.stop.requested(), if !may_have_taken_effect => {
                    return Ok(Submission::NotSubmitted(error));
                }
            }
        }
    }

    /// Returns how long the service still remembers the client token of an intent, at least.
    pub(super) fn token_lifetime(&self, entry: &Entry) -> Duration {
        TOKEN_WINDOW.saturating_sub(self.age(entry))
    }

    /// Returns the time for which submits are retried. Once a submit may have taken effect, the statement's
    /// timeout no longer limits the retries, because they are needed to find out whether the statement is
    /// running.
    fn retry_timeout(&self, may_have_taken_effect: bool) -> Duration {
        match may_have_taken_effect {
            true => self.orchestrator.retry_timeout,
            false => self.orchestrator.retry_timeout.min(self.timeout),
        }
    }
}

/// Submits the statement and records its id. If the returned future is dropped, a request that was sent is
/// still completed, and a request that was not sent yet is discarded.
///
/// If an earlier submit may have taken effect, the request is not sent from the queue of a layer after the token
/// has expired. A first submit stays in the queue, and its intent is recorded again. After a sleep of the
/// machine in which the token expired, neither leaves the queue.
///
/// # Errors
/// Returns an error of the journal if the id could not be recorded, and [`ErrorKind::IdentityConflict`] if
/// the service returned another caller's statement.
async fn submit_once(
    orchestrator: &Orchestrator,
    key: &StepKey,
    statement: &Arc<Statement>,
    entry: &Entry,
    token: TokenUse,
) -> Result<SubmitResponse> {
    let (respond, response) = oneshot::channel();
    tokio::spawn(send_and_record(
        orchestrator.clone(),
        key.clone(),
        statement.clone(),
        entry.clone(),
        token,
        respond,
    ));
    let lost = || Error::new(ErrorKind::Disconnected, "the task of the submit ended without a response");
    response.await.unwrap_or_else(|_| Ok(SubmitResponse::Failed(lost())))
}

async fn send_and_record(
    orchestrator: Orchestrator,
    key: StepKey,
    statement: Arc<Statement>,
    entry: Entry,
    token: TokenUse,
    mut respond: oneshot::Sender<Result<SubmitResponse>>,
) {
    let queue = Queue::new();
    queue.expire_at(orchestrator.token_expiry(token.expires_at.saturating_duration_since(Instant::now())));
    let deadline = token.may_have_taken_effect.then_some(token.expires_at);
    let request =
        queue.clone().bounded(REQUEST_LIMIT, deadline, orchestrator.executor.submit(&statement, None));
    let request = orchestrator.keep_intent(&key, &entry, token, &queue, request);
    let dropped_unsent = async {
        respond.closed().await;
        queue.wait_until_queued().await;
    };
    let response = tokio::select! {
        biased;
        response = request => response,
        () = dropped_unsent => return,
    };
    let response = match response {
        Ok(Ok(Ok(submitted))) => orchestrator.check_and_record(&key, &statement, &entry, submitted).await,
        Ok(Ok(Err(error))) => Ok(SubmitResponse::Failed(error)),
        Ok(Err(GivenUp::TimedOut)) => {
            Ok(SubmitResponse::Failed(Error::new(ErrorKind::Disconnected, "no response in time")))
        }
        Ok(Err(GivenUp::NotSent)) => Ok(SubmitResponse::Failed(token_expired())),
        Err(error) => Err(error),
    };
    // If the caller's future was dropped, an error is discarded. The next call finds the intent in the
    // journal.
    if let Err(Ok(SubmitResponse::Accepted(id))) = respond.send(response)
        && orchestrator.cancel_on_drop
    {
        // If the cancel fails, the next call with this key still finds the id in the journal.
        let _ = orchestrator.cancel_statement(&key, &id).await;
    }
}

fn token_expired() -> Error {
    Error::new(ErrorKind::NotSent, "the submit was not sent before its client token expired")
}

impl Orchestrator {
    /// Waits for the response to `request`. While a first submit is in a queue, its intent is recorded again
    /// each time before the token could expire. If another process has continued the intent, it may have
    /// submitted the statement with the same token; the journal then rejects the record, and the request is
    /// not sent.
    ///
    /// If an earlier submit may have taken effect, the service may have remembered the token since then, and
    /// the request keeps its expiry.
    async fn keep_intent<T>(
        &self,
        key: &StepKey,
        entry: &Entry,
        token: TokenUse,
        queue: &Queue,
        request: impl Future<Output = T>,
    ) -> Result<T> {
        if token.may_have_taken_effect {
            return Ok(request.await);
        }
        let mut request = pin!(request);
        let now = Instant::now();
        let first = token.expires_at.checked_sub(RENEWAL_MARGIN).map_or(now, |at| at.max(now));
        let mut renewals = interval_at(first, TOKEN_WINDOW - RENEWAL_MARGIN);
        loop {
            tokio::select! {
                biased;
                response = &mut request => return Ok(response),
                _ = renewals.tick() => {
                    if queue.is_waiting() {
                        self.record_intent(key, entry).await?;
                        queue.expire_at(self.token_expiry(TOKEN_WINDOW));
                    }
                }
            }
        }
    }

    /// Returns the expiry of a client token that the service remembers for `lifetime`.
    fn token_expiry(&self, lifetime: Duration) -> Expiry {
        Expiry::after(self.clock.clone(), lifetime)
    }

    /// Records that the statement will be submitted next.
    pub(super) async fn record_intent(&self, key: &StepKey, entry: &Entry) -> Result<()> {
        let (token, name, target) = (entry.token.clone(), entry.name.clone(), entry.target.clone());
        self.record(key, Event::Intent { token, name, target }).await
    }

    /// Records the id that the service returned, after checking that the response belongs to this statement.
    async fn check_and_record(
        &self,
        key: &StepKey,
        statement: &Statement,
        entry: &Entry,
        submitted: Submitted,
    ) -> Result<SubmitResponse> {
        let Submitted { id, created_at, target, .. } = submitted;
        if let Err(error) =
            self.namespace.check_response(statement, entry.intended_at, &id, created_at, target.as_ref())
        {
            return Err(self.record_conflict(key, error).await);
        }
        self.record_id(key, &id, &entry.name).await?;
        Ok(SubmitResponse::Accepted(id))
    }

    /// Records the id of a statement.
    pub(super) async fn record_id(&self, key: &StepKey, id: &StatementId, name: &str) -> Result<()> {
        let recorded = self.record(key, Event::Submitted { id: id.clone() }).await;
        recorded.map_err(|error| {
            error.with_context("step", key).with_submitted(id).with_context("statement_name", name)
        })
    }

    /// Records an identity conflict as an unknown outcome and returns the error. The statement may
    /// nevertheless have run, because a wrong clock of the process that wrote the intent also causes a
    /// conflict.
    pub(super) async fn record_conflict(&self, key: &StepKey, conflict: Error) -> Error {
        let conflict = conflict.with_context("step", key);
        match self.record(key, Event::Unknown { reason: conflict.to_string() }).await {
            Ok(()) => conflict,
            Err(error) => error.after_uncertain_submit().with_context("step", key),
        }
    }
}
