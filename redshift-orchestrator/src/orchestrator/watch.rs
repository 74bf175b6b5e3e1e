//! Waits for a statement with a known id.

use std::sync::OnceLock;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::{
    call::{Call, redactor_in},
    cancel::CancelOnDrop,
    conclude::conclude,
};
use crate::{
    Description, Error, ErrorKind, Message, Origin, Outcome, OutcomeKind, ProgressEvent, Result, StatementId,
    Status, UnknownReason,
    journal::{Entry, Event, RecordedOutcome},
    messages::reporting,
    wait::{CancelOutcome, WaitEvent, WaitOutcome, is_cancelled},
};

impl Call<'_> {
    /// Waits for the statement whose id has just been recorded.
    pub(super) async fn accepted(
        &mut self,
        mut entry: Box<Entry>,
        id: StatementId,
        origin: Origin,
    ) -> Result<Outcome> {
        let reattached = origin == Origin::Reattached;
        self.orchestrator.observe(self.key, &ProgressEvent::Submitted { id: &id, reattached });
        entry.id = Some(id);
        self.wait(entry, origin).await
    }

    /// Waits for the statement of the entry.
    pub(super) async fn wait(&mut self, entry: Box<Entry>, origin: Origin) -> Result<Outcome> {
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
