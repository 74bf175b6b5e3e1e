//! Cancels a statement and waits for it to end.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{
    CancelOutcome, Wait, WaitEvent,
    poll::{Polled, SLACK, State},
};
use crate::{Description, Error, ErrorKind, FailureKind, Status, clock::after, layer::queue_time::bounded};

/// Minimum default for [`Wait::with_cancel_grace`], long enough to outlast a short outage of the service.
const LEAST_GRACE: Duration = Duration::from_secs(15 * 60);

impl Wait<'_> {
    pub(super) async fn cancel_now(&self, state: &mut State<'_>) -> CancelOutcome {
        let ran = self.started.elapsed() + self.age.unwrap_or_default();
        let grace = self.grace.unwrap_or(ran.max(LEAST_GRACE));
        let mut deadline = None;
        let mut pauses = self.backoff.pauses(state.progress.salt);
        let mut last = Error::new(ErrorKind::Other, "the service rejected the cancellation");
        // `true` after a cancel was accepted or its response was lost: a later abort may be the effect of
        // this call, or of an earlier one.
        let mut is_ours = self.cancel_accepted;
        loop {
            state.requests.cancels += 1;
            let response = bounded(grace.min(SLACK), None, self.executor.cancel(self.id)).await;
            let deadline = *deadline.get_or_insert_with(|| after(Instant::now(), grace));
            let accepted = match response.unwrap_or_else(|_| Err(self.no_response())) {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Only transient errors are reported. Any other error describes the statement's state,
                    // and the next poll reports that state more precisely.
                    if error.kind().is_transient() {
                        state.requests.retried(error.kind());
                        (self.watch)(WaitEvent::Retried(&error));
                    }
                    is_ours |= error.kind().may_have_taken_effect();
                    last = error;
                    false
                }
            };
            is_ours |= accepted;
            // Poll even after a cancel that was rejected or failed: the service rejects the cancel of a
            // statement that has ended, and a cancel whose response was lost may have worked. If no cancel
            // was accepted, poll once, then repeat the cancel after a pause.
            let until = if accepted { deadline } else { Instant::now() };
            let seen = match self.poll_until(Some(until), true, state).await {
                Polled::Ended(description) if is_ours && is_cancelled(&description) => {
                    return CancelOutcome::Cancelled(*description);
                }
                Polled::Ended(description) => return CancelOutcome::EndedBefore(*description),
                Polled::OutOfTime(description) if accepted => {
                    return CancelOutcome::Pending(description.map(|description| *description));
                }
                Polled::Lost(error)
                    if (accepted || self.cancel_accepted)
                        && error.kind() == ErrorKind::CredentialsExpired =>
                {
                    return CancelOutcome::Pending(None);
                }
                Polled::Lost(error) => return CancelOutcome::NotCancelled(error),
                Polled::OutOfTime(description) => description.map(|description| *description),
            };
            let again = after(Instant::now(), pauses.after(&last));
            if deadline <= again {
                return match self.cancel_accepted {
                    true => CancelOutcome::Pending(seen),
                    false => CancelOutcome::NotCancelled(
                        Error::new(last.kind(), "the statement could not be cancelled")
                            .with_context("statement_id", self.id)
                            .with_source(last),
                    ),
                };
            }
            sleep_until(again).await;
        }
    }
}

/// Returns `true` for `ABORTED`, and for `FAILED` with the database's error text for a cancelled query. The
/// service returns the latter if the database reports the cancellation before the service has recorded it.
pub(crate) fn is_cancelled(description: &Description) -> bool {
    match &description.status {
        Status::Aborted => true,
        Status::Failed => description
            .error
            .as_deref()
            .is_some_and(|text| FailureKind::from_error_text(text) == FailureKind::Aborted),
        _ => false,
    }
}
