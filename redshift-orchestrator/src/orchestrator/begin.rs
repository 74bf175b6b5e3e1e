//! Writes the intent and submits the statement, or continues from the intent of an earlier process.

use tokio::time::{Instant, sleep};

use super::{
    TOKEN_WINDOW,
    call::{Call, salt},
    submit::{self, Answer},
};
use crate::{
    ClientToken, Error, Origin, Outcome, Result, StatementId, UnknownReason,
    journal::{Entry, EntryState, Event},
};

/// Result of submitting.
enum Submission {
    /// The service accepted the statement, and the journal contains the id.
    Accepted(StatementId),
    /// The statement did not run.
    NotSubmitted(Error),
    /// The submit may have taken effect.
    Unproved(Error),
}

impl Call<'_> {
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
}
