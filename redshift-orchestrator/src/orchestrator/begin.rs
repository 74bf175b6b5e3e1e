//! The beginning of an attempt: writes the intent and submits the statement, or continues an attempt whose
//! entry is already in the journal.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    TOKEN_WINDOW,
    call::{Call, salt},
    conclude::recorded_outcome,
    submit::{self, Submission},
};
use crate::{
    Origin, Outcome, Result, UnknownReason,
    journal::{Entry, EntryState, Event},
};

impl Call<'_> {
    /// Writes the intent to the journal, submits the statement and waits for it.
    pub(super) async fn begin(&mut self) -> Result<Outcome> {
        let intended_at = self.orchestrator.clock.now();
        let (key, token, name) = (self.key.clone(), self.token.clone(), self.name.clone());
        let target = self.orchestrator.namespace.recorded_target(&self.statement);
        let event = Event::Intent { token: token.clone(), name: name.clone(), target: target.clone() };
        self.record(event).await?;
        let entry = Entry {
            key,
            intended_at,
            token,
            name,
            target,
            id: None,
            overdue: false,
            cancel_pending: false,
            state: EntryState::Open,
        };
        let entry = Box::new(entry);
        match Box::pin(self.submit_until_response(&entry, false)).await? {
            Submission::Submitted(id) => self.wait_after_submit(entry, id, Origin::Submitted).await,
            Submission::NotSubmitted(error) => {
                self.record(Event::NotSubmitted { error: error.to_string() }).await?;
                Err(error.with_context("step", self.key))
            }
            Submission::Unproved(error) => {
                Box::pin(self.look_up(entry, Origin::Submitted, UnknownReason::NoResponse, Some(error))).await
            }
        }
    }

    /// Determines the outcome of an intent that an earlier call wrote. Uses the first of these that is
    /// available: the recorded outcome, the id, the client token, the name.
    ///
    /// # Errors
    /// Returns [`ErrorKind::StepKeyConflict`](crate::ErrorKind::StepKeyConflict) if the intent belongs to a
    /// different scope, pipeline or target.
    pub(super) async fn reconcile(&mut self, entry: Box<Entry>) -> Result<Outcome> {
        let namespace = &self.orchestrator.namespace;
        namespace.check_record(self.key, &self.statement, &entry.name, entry.target.as_deref())?;
        if let Some((kind, description)) = recorded_outcome(&entry, self.timeout) {
            return Ok(self.outcome(entry.name, entry.id, kind, description, Origin::Journal));
        }
        if let Some(id) = entry.id.clone() {
            return self.wait(entry, id, Origin::Reattached).await;
        }
        let is_redefined = entry.token != self.token;
        if !is_redefined && self.age(&entry) < TOKEN_WINDOW {
            return match self.submit_until_response(&entry, true).await? {
                Submission::Submitted(id) => self.wait_after_submit(entry, id, Origin::Reattached).await,
                Submission::NotSubmitted(error) | Submission::Unproved(error) => {
                    self.look_up(entry, Origin::Reattached, UnknownReason::NoResponse, Some(error)).await
                }
            };
        }
        let reason = if is_redefined { UnknownReason::Redefined } else { UnknownReason::NotListed };
        self.look_up(entry, Origin::Reattached, reason, None).await
    }

    /// Submits the statement, and repeats the submit with the same token until the service responds, a retry
    /// timeout expires, or the service no longer remembers the token.
    ///
    /// # Errors
    /// Returns an error of the journal if the id could not be recorded, and
    /// [`ErrorKind::IdentityConflict`](crate::ErrorKind::IdentityConflict) if the service returned another
    /// caller's statement.
    async fn submit_until_response(
        &mut self,
        entry: &Entry,
        mut may_have_taken_effect: bool,
    ) -> Result<Submission> {
        let mut failing_since = None;
        let mut pauses = self.orchestrator.backoff.pauses(salt(&entry.token));
        loop {
            self.requests.submits += 1;
            // If a repeated submit were sent after the service has forgotten the token, the statement could
            // run twice.
            let token_expires_at =
                may_have_taken_effect.then(|| Instant::now() + TOKEN_WINDOW.saturating_sub(self.age(entry)));
            let submission =
                submit::submit_once(self.orchestrator, self.key, &self.statement, entry, token_expires_at);
            let error = match submission.await? {
                Submission::Submitted(id) => {
                    self.submitted_after = Some(self.started.elapsed());
                    return Ok(Submission::Submitted(id));
                }
                Submission::NotSubmitted(error) => error,
                Submission::Unproved(error) => {
                    may_have_taken_effect = true;
                    error
                }
            };
            let error = self.redacted(error);
            let failing_since: Instant = *failing_since.get_or_insert_with(Instant::now);
            let pause = pauses.after(&error);
            let again = error.kind().is_transient()
                && failing_since.elapsed().saturating_add(pause) < self.retry_timeout(may_have_taken_effect)
                && self.age(entry).saturating_add(pause) < TOKEN_WINDOW
                && token_expires_at.is_none_or(|expires_at| Instant::now() < expires_at);
            match (again, may_have_taken_effect) {
                (true, _) => self.count_retry(&error),
                (false, true) => return Ok(Submission::Unproved(error)),
                (false, false) => return Ok(Submission::NotSubmitted(error)),
            }
            sleep(pause).await;
        }
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
