//! Cancellation of a statement, on request or when the future that waits for the statement is dropped.

use super::{Orchestrator, RECORD_WINDOW, find::Search};
use crate::{
    Error, ErrorKind, Result, StatementId, StepKey,
    journal::{Entry, Event, RecordedOutcome},
    task::TaskKind,
    wait::{CancelOutcome, RequestCounts},
};

impl Orchestrator {
    /// Cancels the statement of an attempt that has not ended, and returns the result. The outcome is
    /// recorded, by the process that runs the run if there is another one.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Invalid`] if the journal does not contain this attempt, or contains its outcome;
    /// [`ErrorKind::Journal`] if the journal failed; otherwise the errors of
    /// [`cancel_entry`](Self::cancel_entry).
    pub async fn cancel(&self, key: &StepKey) -> Result<CancelOutcome> {
        let refuse = |text| Err(Error::new(ErrorKind::Invalid, text).with_context("step", key));
        let entry = match self.journal.entry(key).await? {
            None => return refuse("the journal does not contain this attempt"),
            Some(entry) if !entry.state.is_unsettled() => return refuse("this attempt has already ended"),
            Some(entry) => entry,
        };
        let cancellation = self.cancel_entry(&entry).await?;
        self.record_cancellation(key, &cancellation).await?;
        Ok(cancellation)
    }

    /// Cancels the statement of a journal entry, and waits for its end. If the entry has no id, searches for
    /// the statement by its name. Does not write to the journal: [`Entry::outcome`] returns the outcome to
    /// record.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Invalid`] for the entry of a Glue job or of a Hudi table; [`ErrorKind::NotFound`] if
    /// the entry has no id and no listing contains the statement; and the error of a listing that failed. A
    /// listing is retried for the [retry timeout](Self::with_retry_timeout).
    pub async fn cancel_entry(&self, entry: &Entry) -> Result<CancelOutcome> {
        if let Some((kind, name)) = entry.task() {
            let text = match kind {
                TaskKind::Glue => {
                    format!("this attempt is not a statement; stop the run of the Glue job {name}")
                }
                TaskKind::Hudi => format!(
                    "this attempt is not a statement; stop the program that takes files into the table {name}"
                ),
            };
            return Err(Error::new(ErrorKind::Invalid, text).with_context("step", &entry.key));
        }
        let id = match &entry.id {
            Some(id) => id.clone(),
            None => self.find_listed(entry).await?,
        };
        let wait = self.new_wait(&id).with_cancel_accepted(entry.cancel_pending);
        let wait = wait.with_time_since_submit(entry.time_since_submit(self.now()));
        Ok(wait.cancel(&mut RequestCounts::default()).await)
    }

    async fn find_listed(&self, entry: &Entry) -> Result<StatementId> {
        let found = match entry.age(self.now()) < RECORD_WINDOW {
            true => Search::new(self, entry, &mut RequestCounts::default(), &|_| {}).run().await?,
            false => None,
        };
        found.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "no listing of the last 24 hours contains the statement; it may never have been submitted",
            )
            .with_context("statement_name", &entry.name)
        })
    }

    /// Cancels the statement of an attempt with this id, and records the outcome.
    pub(super) async fn cancel_statement(&self, key: &StepKey, id: &StatementId) -> Result<()> {
        let cancellation = self.new_wait(id).cancel(&mut RequestCounts::default()).await;
        self.record_cancellation(key, &cancellation).await
    }

    async fn record_cancellation(&self, key: &StepKey, cancellation: &CancelOutcome) -> Result<()> {
        let (CancelOutcome::Cancelled(description) | CancelOutcome::EndedBefore(description)) = cancellation
        else {
            return Ok(());
        };
        // The timeout may have expired since the cancellation began.
        let ended = match self.journal.entry(key).await? {
            Some(entry) => entry.outcome(description),
            None => RecordedOutcome::from_description(description),
        };
        self.record_unless_owned(key, Event::Ended(ended)).await
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
