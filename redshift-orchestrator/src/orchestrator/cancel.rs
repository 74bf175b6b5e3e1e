//! Cancellation of a statement, on request or when the future that waits for the statement is dropped.

use super::Orchestrator;
use crate::{
    Error, ErrorKind, Result, StatementId, StepKey,
    journal::{EntryState, Event, RecordedOutcome},
    wait::{CancelOutcome, RequestCounts},
};

impl Orchestrator {
    /// Cancels the statement of an attempt that has not ended, and returns the result. The ending is
    /// recorded, by the process that runs the run if there is another one.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Invalid`] if the journal does not contain a statement of this attempt, or
    /// contains its ending; [`ErrorKind::Journal`] if the journal failed.
    pub async fn cancel(&self, key: &StepKey) -> Result<CancelOutcome> {
        let refuse = |text| Err(Error::new(ErrorKind::Invalid, text).with_context("step", key));
        match self.journal.entry(key).await? {
            None => refuse("the journal does not contain this attempt"),
            Some(entry) => match (&entry.state, entry.id) {
                (EntryState::Open | EntryState::Unknown(_), Some(id)) => {
                    self.cancel_statement(key, &id).await
                }
                (EntryState::Open | EntryState::Unknown(_), None) => refuse(
                    "the journal does not contain the statement id of this attempt; run the attempt again, which finds the id, then cancel it",
                ),
                _ => refuse("this attempt has already ended"),
            },
        }
    }

    pub(super) async fn cancel_statement(&self, key: &StepKey, id: &StatementId) -> Result<CancelOutcome> {
        let cancellation = self.new_wait(id).cancel(&mut RequestCounts::default()).await;
        if let CancelOutcome::Cancelled(description) | CancelOutcome::EndedBefore(description) = &cancellation
        {
            self.record_unless_owned(key, Event::Ended(RecordedOutcome::from_description(description)))
                .await?;
        }
        Ok(cancellation)
    }

    /// Records an event. A journal may reject it while another process runs the run, which then records the
    /// event itself.
    async fn record_unless_owned(&self, key: &StepKey, event: Event) -> Result<()> {
        let Err(error) = self.record(key, event).await else { return Ok(()) };
        match self.journal.run_entry(&key.run).await? {
            Some(run) if run.is_active => Ok(()),
            _ => Err(error),
        }
    }
}

/// Guard that cancels a statement in a separate task when it is dropped. Does nothing if `id` is `None` or
/// the orchestrator does not cancel on drop.
pub(super) struct CancelOnDrop<'a> {
    pub(super) orchestrator: &'a Orchestrator,
    pub(super) key: &'a StepKey,
    pub(super) id: Option<&'a StatementId>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        // Without a runtime, no request can be sent. The statement then continues to run, as if the process
        // had been killed.
        if let (true, Some(id), Ok(runtime)) =
            (self.orchestrator.cancel_on_drop, self.id, tokio::runtime::Handle::try_current())
        {
            let (orchestrator, key, id) = (self.orchestrator.clone(), self.key.clone(), id.clone());
            // If the cancel fails, the next call with this key still finds the id in the journal.
            runtime.spawn(async move { orchestrator.cancel_statement(&key, &id).await.ok() });
        }
    }
}
