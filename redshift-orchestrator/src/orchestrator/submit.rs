//! One submit in a separate task, so that its response is recorded even if the caller's future is dropped.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use super::Orchestrator;
use crate::{
    Error, ErrorKind, Result, Statement, StatementId, StepKey, Submitted,
    journal::{Entry, Event},
    layer::queue_time::{GivenUp, Queue},
};

/// Timeout of a request that does not use long polling. When the timeout expires, the request counts as lost.
pub(super) const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// Result of one submit, and of all submits of a call together.
pub(super) enum Submission {
    /// The service accepted the statement, and the journal contains the id.
    Submitted(StatementId),
    /// The statement did not run.
    NotSubmitted(Error),
    /// The statement may be running, because this submit or an earlier one with the same token may have taken
    /// effect.
    Unproved(Error),
}

impl Submission {
    /// Returns the result of a submit that failed with this error.
    fn failed(error: Error) -> Self {
        match error.kind().may_have_taken_effect() {
            true => Self::Unproved(error),
            false => Self::NotSubmitted(error),
        }
    }
}

/// Submits the statement and records its id. If the returned future is dropped, a request that was sent is
/// still completed, and a request that was not sent yet is discarded.
///
/// `token_expires_at` is set if an earlier submit may have taken effect. If the request is still in the queue
/// of a layer at that time, it is not sent.
///
/// # Errors
/// Returns an error of the journal if the id could not be recorded, and [`ErrorKind::IdentityConflict`] if
/// the service returned another caller's statement.
pub(super) async fn submit_once(
    orchestrator: &Orchestrator,
    key: &StepKey,
    statement: &Arc<Statement>,
    entry: &Entry,
    token_expires_at: Option<Instant>,
) -> Result<Submission> {
    let (respond, response) = oneshot::channel();
    tokio::spawn(send_and_record(
        orchestrator.clone(),
        key.clone(),
        statement.clone(),
        entry.clone(),
        token_expires_at,
        respond,
    ));
    let lost = || Error::new(ErrorKind::Disconnected, "the task of the submit ended without a response");
    response.await.unwrap_or_else(|_| Ok(Submission::failed(lost())))
}

async fn send_and_record(
    orchestrator: Orchestrator,
    key: StepKey,
    statement: Arc<Statement>,
    entry: Entry,
    token_expires_at: Option<Instant>,
    mut respond: oneshot::Sender<Result<Submission>>,
) {
    let queue = Queue::new();
    let request = orchestrator.executor.submit(&statement, None);
    let request = queue.clone().bounded(REQUEST_LIMIT, token_expires_at, request);
    let dropped_unsent = async {
        respond.closed().await;
        queue.wait_until_queued().await;
    };
    let response = tokio::select! {
        biased;
        response = request => response,
        () = dropped_unsent => return,
    };
    let submission = match response {
        Ok(Ok(submitted)) => orchestrator.check_and_record(&key, &statement, &entry, submitted).await,
        Ok(Err(error)) => Ok(Submission::failed(error)),
        Err(GivenUp::TimedOut) => {
            Ok(Submission::failed(Error::new(ErrorKind::Disconnected, "no response in time")))
        }
        Err(GivenUp::NotSent) => Ok(Submission::Unproved(Error::new(
            ErrorKind::NotSent,
            "the submit waited for a permit until its client token expired",
        ))),
    };
    // If the caller's future was dropped, an error is discarded. The next call finds the intent in the
    // journal.
    if let Err(Ok(Submission::Submitted(id))) = respond.send(submission)
        && orchestrator.cancel_on_drop
    {
        // If the cancel fails, the next call with this key still finds the id in the journal.
        let _ = orchestrator.cancel_statement(&key, &id).await;
    }
}

impl Orchestrator {
    /// Records the id that the service returned, after checking that the response belongs to this statement.
    async fn check_and_record(
        &self,
        key: &StepKey,
        statement: &Statement,
        entry: &Entry,
        submitted: Submitted,
    ) -> Result<Submission> {
        let Submitted { id, created_at, target, .. } = submitted;
        if let Err(error) =
            self.namespace.check_response(statement, entry.intended_at, &id, created_at, target.as_ref())
        {
            return Err(self.record_conflict(key, error).await);
        }
        self.record_id(key, &id, &entry.name).await?;
        Ok(Submission::Submitted(id))
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
            Err(error) => error.with_context("step", key),
        }
    }
}
