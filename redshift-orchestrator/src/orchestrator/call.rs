//! [`Call`]: the state of one call of [`Orchestrator::run`](super::Orchestrator::run).

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::Instant;

use super::{Orchestrator, turns::Turn};
use crate::{
    ClientToken, Description, Error, Origin, Outcome, OutcomeKind, ProgressEvent, Result, Statement,
    StatementId, StepKey, Unknown, UnknownReason,
    clock::age,
    identity::short_digest,
    journal::{Entry, Event},
    redact::Redactor,
    wait::RequestCounts,
};

/// State of one call of [`Orchestrator::run`].
pub(super) struct Call<'a> {
    pub(super) orchestrator: &'a Orchestrator,
    pub(super) key: &'a StepKey,
    pub(super) statement: Arc<Statement>,
    pub(super) timeout: Duration,
    /// Held until the journal contains the statement's id, or records that there is none.
    pub(super) turn: Option<Box<Turn>>,
    pub(super) started: Instant,
    pub(super) requests: RequestCounts,
    /// Created when a message about the statement is redacted for the first time.
    pub(super) redactor: OnceLock<Redactor>,
    /// Time from the start until the service accepted the statement.
    pub(super) submitted: Option<Duration>,
}

impl<'a> Call<'a> {
    pub(super) fn new(
        orchestrator: &'a Orchestrator,
        key: &'a StepKey,
        statement: Statement,
        timeout: Duration,
    ) -> Self {
        let requests = RequestCounts::default();
        Self {
            orchestrator,
            key,
            statement: Arc::new(statement),
            timeout,
            turn: None,
            started: Instant::now(),
            requests,
            redactor: OnceLock::new(),
            submitted: None,
        }
    }

    pub(super) async fn unknown(
        &mut self,
        entry: Box<Entry>,
        reason: UnknownReason,
        error: Option<Error>,
    ) -> Result<Outcome> {
        let unknown = Unknown {
            reason,
            error: error.as_ref().map(|error| self.tell(&error.to_string())),
            name: entry.name.clone(),
            id: entry.id.clone(),
            intended_at: entry.intended_at,
        };
        self.record(Event::Unknown { reason: unknown.to_string() }).await?;
        let result = OutcomeKind::Unknown(Box::new(unknown));
        Ok(self.outcome(entry.name, entry.id, result, None, Origin::Reattached))
    }

    /// Records an identity conflict and returns the error. The statement may still have run, because the
    /// clock of the process that wrote the intent may have been wrong.
    pub(super) async fn foreign(&mut self, error: Error) -> Result<Error> {
        let error = error.with_context("step", self.key);
        self.record(Event::Unknown { reason: error.to_string() }).await?;
        Ok(error)
    }

    pub(super) fn outcome(
        &mut self,
        name: String,
        id: Option<StatementId>,
        kind: OutcomeKind,
        description: Option<Description>,
        origin: Origin,
    ) -> Outcome {
        Outcome {
            key: self.key.clone(),
            name,
            id,
            kind,
            description,
            requests: std::mem::take(&mut self.requests),
            submitted_after: self.submitted,
            elapsed: self.started.elapsed(),
            origin,
        }
    }

    pub(super) async fn record(&self, event: Event) -> Result<()> {
        self.orchestrator.record(self.key, event).await.map_err(|error| error.with_context("step", self.key))
    }

    pub(super) fn retried(&mut self, error: &Error) {
        self.requests.retried(error.kind());
        let retold = self.redactor().map(|redactor| redactor.retold(error));
        let error = retold.as_ref().unwrap_or(error);
        self.orchestrator.observe(self.key, &ProgressEvent::RequestRetried { error });
    }

    /// Redacts a message from the database or the service.
    pub(super) fn tell(&self, said: &str) -> String {
        self.redactor().map_or_else(|| said.to_owned(), |redactor| redactor.apply(said))
    }

    pub(super) fn redactor(&self) -> Option<&Redactor> {
        redactor_in(&self.redactor, &self.statement, self.orchestrator)
    }

    pub(super) fn age(&self, entry: &Entry) -> Duration {
        age(self.orchestrator.clock.now(), entry.intended_at)
    }
}

pub(super) fn redactor_in<'m>(
    cell: &'m OnceLock<Redactor>,
    statement: &Statement,
    orchestrator: &Orchestrator,
) -> Option<&'m Redactor> {
    (!orchestrator.quotations).then(|| cell.get_or_init(|| Redactor::of(statement)))
}

/// Returns a number that differs between statements and is always the same for one statement. It seeds the
/// pauses.
pub(super) fn salt(token: &ClientToken) -> u64 {
    u64::from_str_radix(short_digest(token), 16).unwrap_or(0)
}
