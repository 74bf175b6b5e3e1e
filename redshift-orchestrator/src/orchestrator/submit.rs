//! One submit in a task of its own, so that its response is recorded even if the caller's future is dropped.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use super::Orchestrator;
use crate::{
    Error, ErrorKind, Result, Statement, StatementId, StepKey,
    journal::{Entry, Event},
    layer::queue_time::{GivenUp, Queue},
};

/// Timeout of a single request without a wait. When it expires, the request counts as lost.
pub(super) const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// Result of a submit.
pub(super) enum Answer {
    /// The service accepted the statement, and the journal contains the id.
    Accepted(StatementId),
    /// The service accepted the statement, but the journal failed with this error.
    AcceptedUnwritten(Error),
    /// The service returned a statement of another caller.
    Foreign(Error),
    /// The service did not accept the statement, or its response was lost.
    Failed(Error),
    /// The client token may expire before the request leaves the queues of the layers. The request was not
    /// sent.
    TokenExpired(Error),
}

/// Submits the statement and records its id. A request in flight is completed even if the returned future is
/// dropped.
///
/// A request that is still in a queue of the layers at `token_expires_at` is not sent.
pub(super) async fn once(
    orchestrator: &Orchestrator,
    key: &StepKey,
    statement: &Arc<Statement>,
    entry: &Entry,
    token_expires_at: Option<Instant>,
) -> Answer {
    let (tell, told) = oneshot::channel();
    let delivery =
        deliver(orchestrator.clone(), key.clone(), statement.clone(), entry.clone(), token_expires_at, tell);
    tokio::spawn(delivery);
    let lost = || Error::new(ErrorKind::Disconnected, "the task of the submit ended without an answer");
    told.await.unwrap_or_else(|_| Answer::Failed(lost()))
}

async fn deliver(
    orchestrator: Orchestrator,
    key: StepKey,
    statement: Arc<Statement>,
    entry: Entry,
    token_expires_at: Option<Instant>,
    mut tell: oneshot::Sender<Answer>,
) {
    let queue = Queue::new();
    let request = orchestrator.executor.submit(&statement, None);
    let request = queue.clone().bounded(REQUEST_LIMIT, token_expires_at, request);
    let dropped_unsent = async {
        tell.closed().await;
        queue.stands().await;
    };
    let answer = tokio::select! {
        biased;
        answer = request => answer,
        () = dropped_unsent => return,
    };
    let answer = match answer {
        Err(GivenUp::Late) => Answer::Failed(Error::new(ErrorKind::Disconnected, "no response in time")),
        Err(GivenUp::Unsent) => Answer::TokenExpired(Error::new(
            ErrorKind::NotSent,
            "the submit waited for a permit until its client token expired",
        )),
        Ok(Err(error)) => Answer::Failed(error),
        Ok(Ok(submitted)) => match orchestrator.namespace.check_answer(
            &statement,
            entry.intended_at,
            &submitted.id,
            submitted.created_at,
            submitted.target.as_ref(),
        ) {
            Err(error) => Answer::Foreign(error),
            Ok(()) => match write_down(&orchestrator, &key, &submitted.id, &entry.name).await {
                Err(error) => Answer::AcceptedUnwritten(error),
                Ok(()) => Answer::Accepted(submitted.id),
            },
        },
    };
    // An error that no caller receives needs no record, because the journal contains the intent.
    if let Err(Answer::Accepted(id)) = tell.send(answer)
        && orchestrator.cancel_on_drop
    {
        // The id is in the journal, whatever the result.
        let _ = orchestrator.cancel_statement(&key, &id).await;
    }
}

/// Records the id.
pub(super) async fn write_down(
    orchestrator: &Orchestrator,
    key: &StepKey,
    id: &StatementId,
    name: &str,
) -> Result<()> {
    let written = orchestrator.record(key, Event::Submitted { id: id.clone() }).await;
    written.map_err(|error| {
        let error = error.with_context("step", key).with_submitted(id);
        error.with_context("statement_name", name)
    })
}
