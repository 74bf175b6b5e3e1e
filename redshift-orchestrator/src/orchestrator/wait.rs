//! The wait for a statement with a known id. Polls and messages are reported to the observer; a cancellation
//! is recorded in the journal.

use std::sync::OnceLock;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::{
    begin::SubmittedStatement,
    call::{Call, redactor_in},
    cancel::CancelOnDrop,
};
use crate::{
    Description, Message, Origin, ProgressEvent, Result, Status,
    journal::{Entry, Event},
    messages::reporting,
    wait::{RequestCounts, WaitEvent, WaitOutcome},
};

impl Call<'_> {
    /// Waits for the end of the statement. Counts the requests, and records how long the statement took.
    pub(super) async fn wait(&mut self, statement: &SubmittedStatement) -> WaitOutcome {
        let (began, mut requests) = (Instant::now(), RequestCounts::default());
        let waited = self.wait_until_ended(statement, &mut requests).await;
        self.requests.add(&requests);
        if let Some(description) = waited.ended().filter(|ended| ended.status == Status::Finished) {
            let duration = description.execution_time.unwrap_or_else(|| began.elapsed());
            self.orchestrator.durations.add(&self.key.step, duration);
        }
        waited
    }

    /// Waits until the statement has ended or its timeout has expired, and reports polls and messages.
    async fn wait_until_ended(
        &self,
        statement: &SubmittedStatement,
        requests: &mut RequestCounts,
    ) -> WaitOutcome {
        let SubmittedStatement { entry, id, origin } = statement;
        let orchestrator = self.orchestrator;
        let report = |event: WaitEvent<'_>| self.report(event);
        let check = |seen: &Description| self.check_identity(entry, seen);
        let before_cancel = || -> BoxFuture<'_, ()> { Box::pin(self.record_overdue(entry)) };
        let mut wait = orchestrator
            .new_wait(id)
            .with_timeout(self.timeout)
            .with_expected(orchestrator.durations.expected(&self.key.step))
            .with_watch(&report)
            .with_before_cancel(&before_cancel)
            .with_cancel_accepted(entry.cancel_pending)
            .with_check(&check);
        if *origin == Origin::Reattached {
            wait = wait.with_time_since_submit(entry.time_since_submit(orchestrator.now()));
        }
        let until_ended = Box::pin(wait.until_ended(requests));
        let mut on_drop = CancelOnDrop { orchestrator, key: self.key, id: Some(id) };
        let waited = match &orchestrator.messages {
            Some(source) => {
                Box::pin(reporting(source.clone(), id.clone(), self.message_report(), until_ended)).await
            }
            None => until_ended.await,
        };
        on_drop.id = None;
        waited
    }

    fn report(&self, event: WaitEvent<'_>) {
        match event {
            WaitEvent::Polled(status) => {
                self.orchestrator.observe(self.key, &ProgressEvent::Polled { status });
            }
            WaitEvent::Retried(error) => self.report_retry(error),
        }
    }

    /// Returns an error if a description cannot belong to this statement.
    fn check_identity(&self, entry: &Entry, seen: &Description) -> Result<()> {
        let (namespace, target) = (&self.orchestrator.namespace, seen.target.as_ref());
        namespace.check_response(&self.statement, entry.intended_at, &seen.id, seen.created_at, target)
    }

    /// Records that the timeout expired. If the record cannot be written, the cancel is still sent, but a
    /// later process would report that another client cancelled the statement.
    async fn record_overdue(&self, entry: &Entry) {
        if entry.overdue {
            return;
        }
        if let Err(error) = self.orchestrator.record(self.key, Event::Overdue).await {
            tracing::warn!(%error, step = %self.key, "the cancellation could not be recorded");
        }
    }

    /// Records that the service accepted the cancel. Without this record, the next call does not know it, and
    /// the outcome is unknown if none of its own cancels gets a response.
    pub(super) async fn record_cancel_pending(&self, entry: &Entry) {
        if entry.cancel_pending {
            return;
        }
        if let Err(error) = self.orchestrator.record(self.key, Event::CancelPending).await {
            tracing::warn!(%error, step = %self.key, "the accepted cancellation could not be recorded");
        }
    }

    /// Returns a function that reports the statement's messages to the observer. The function does not borrow
    /// this call, because it can outlive the call.
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
