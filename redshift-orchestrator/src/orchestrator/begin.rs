//! The beginning of a call: writes the intent and submits the statement, or continues an attempt whose entry
//! is already in the journal.

use std::time::Duration;

use super::{MARGIN, call::Call, submit::Submission};
use crate::{
    Error, ErrorKind, Origin, Outcome, ProgressEvent, Result, StatementId, UnknownReason, clock,
    journal::{Entry, Event},
};

/// State of a call after its beginning.
pub(super) enum CallState {
    /// The id of the statement is known. The call waits for its end.
    Waiting(SubmittedStatement),
    /// The outcome is known without a wait.
    Concluded(Box<Outcome>),
}

/// Statement with a known id.
pub(super) struct SubmittedStatement {
    pub(super) entry: Box<Entry>,
    pub(super) id: StatementId,
    pub(super) origin: Origin,
}

impl Call<'_> {
    /// Submits the statement, or continues from the attempt's entry in the journal. Meanwhile, other calls
    /// for the key wait for their turn, so that they find the id in the journal.
    pub(super) async fn begin(&mut self) -> Result<CallState> {
        let _turn = self.orchestrator.turns.take(self.key).await;
        match self.orchestrator.journal.entry(self.key).await? {
            Some(entry) if !entry.did_not_run() => self.reconcile(Box::new(entry)).await,
            _ => self.begin_anew().await,
        }
    }

    /// Writes the intent to the journal and submits the statement.
    async fn begin_anew(&mut self) -> Result<CallState> {
        let (key, token, name) = (self.key.clone(), self.token.clone(), self.name.clone());
        let target = self.orchestrator.namespace.recorded_target(&self.statement);
        let entry = Box::new(Entry::new(key, self.orchestrator.clock.now(), token, name, target));
        self.record_intent(&entry).await?;
        match self.submit_until_response(&entry, false).await? {
            Submission::Submitted(id) => Ok(self.submitted(entry, id, Origin::Submitted)),
            Submission::NotSubmitted(error) => {
                self.record(Event::NotSubmitted { error: error.to_string() }).await?;
                Err(error.with_context("step", self.key))
            }
            Submission::Uncertain(error) => {
                self.look_up(entry, Origin::Submitted, UnknownReason::NoResponse, Some(error)).await
            }
        }
    }

    /// Continues from an intent that an earlier call wrote. Uses the first of these that is available: the
    /// recorded outcome, the id, the client token, the name.
    ///
    /// # Errors
    /// Returns [`ErrorKind::StepKeyConflict`](crate::ErrorKind::StepKeyConflict) if the intent belongs to a
    /// different scope, pipeline or target.
    async fn reconcile(&mut self, entry: Box<Entry>) -> Result<CallState> {
        if let Some(outcome) = self.orchestrator.recorded_outcome(&self.statement, &entry, self.timeout)? {
            let elapsed = self.started.elapsed();
            return Ok(CallState::Concluded(Box::new(Outcome { elapsed, ..outcome })));
        }
        if let Some(id) = entry.id.clone() {
            return Ok(CallState::Waiting(SubmittedStatement { entry, id, origin: Origin::Reattached }));
        }
        if let Some(error) = self.clock_error(&entry) {
            // The age of the intent is not known, so the service may have forgotten the token.
            return self.look_up(entry, Origin::Reattached, UnknownReason::NoResponse, Some(error)).await;
        }
        let is_redefined = entry.token != self.token;
        if !is_redefined && self.token_lifetime(&entry) > Duration::ZERO {
            // A record whose append failed may be stored, for example that the statement was not submitted.
            // Without another intent, the next process would submit the statement again.
            self.record_intent(&entry).await.map_err(|error| {
                error.after_uncertain_submit().with_context("statement_name", &entry.name)
            })?;
            return match self.submit_until_response(&entry, true).await? {
                Submission::Submitted(id) => Ok(self.submitted(entry, id, Origin::Reattached)),
                Submission::NotSubmitted(error) | Submission::Uncertain(error) => {
                    self.look_up(entry, Origin::Reattached, UnknownReason::NoResponse, Some(error)).await
                }
            };
        }
        let reason = if is_redefined { UnknownReason::Redefined } else { UnknownReason::NotListed };
        self.look_up(entry, Origin::Reattached, reason, None).await
    }

    /// Records that the statement will be submitted next.
    async fn record_intent(&self, entry: &Entry) -> Result<()> {
        self.orchestrator.record_intent(self.key, entry).await
    }

    /// Returns an error if the clock was set back since the intent.
    fn clock_error(&self, entry: &Entry) -> Option<Error> {
        let behind = clock::age(entry.intended_at, self.orchestrator.clock.now());
        let is_set_back = entry.is_clock_set_back || behind > MARGIN;
        let message = "the clock was set back since the intent was recorded, so the statement is not submitted again; \
                       correct the clock, and settle the step";
        is_set_back
            .then(|| Error::new(ErrorKind::Other, message).with_context("intended_at", entry.intended_at))
    }

    /// Reports the id of the statement, which has just been recorded, to the observer.
    pub(super) fn submitted(&mut self, mut entry: Box<Entry>, id: StatementId, origin: Origin) -> CallState {
        self.submitted_after = Some(self.started.elapsed());
        let reattached = origin == Origin::Reattached;
        self.orchestrator.observe(self.key, &ProgressEvent::Submitted { id: &id, reattached });
        entry.id = Some(id.clone());
        entry.submitted_at = Some(self.orchestrator.clock.now());
        CallState::Waiting(SubmittedStatement { entry, id, origin })
    }
}
