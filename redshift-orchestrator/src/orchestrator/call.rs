//! [`Call`]: the state of one call of [`Orchestrator::run`](super::Orchestrator::run).

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::Instant;

use super::{AttemptOptions, LONGEST_RUN, Orchestrator, begin::CallState};
use crate::{
    ClientToken, Error, ErrorKind, Outcome, ProgressEvent, Result, Statement, StepKey,
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
    pub(super) token: ClientToken,
    pub(super) name: String,
    pub(super) timeout: Duration,
    pub(super) started: Instant,
    pub(super) requests: RequestCounts,
    /// Created when the first message about the statement is redacted.
    redactor: OnceLock<Redactor>,
    /// Time from the start until the service accepted the statement.
    pub(super) submitted_after: Option<Duration>,
}

impl<'a> Call<'a> {
    /// Creates the call for `key`, with its client token and its statement name.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Invalid`] if the key, the scope or the statement is invalid, or if the statement
    /// already has a client token.
    pub(super) fn new(
        orchestrator: &'a Orchestrator,
        key: &'a StepKey,
        statement: Statement,
        options: &AttemptOptions,
    ) -> Result<Self> {
        key.check()?;
        orchestrator.namespace.check()?;
        statement.check().map_err(|error| error.with_context("step", key))?;
        if statement.client_token().is_some() {
            return Err(Error::new(
                ErrorKind::Invalid,
                "the orchestrator sets the client token; remove the statement's own token",
            )
            .with_context("step", key));
        }
        let token = orchestrator.namespace.client_token(key, &statement)?;
        let name = orchestrator.namespace.statement_name(key, &token);
        let statement = match orchestrator.names_in_sql {
            true => statement.with_comment(&format!("redshift-orchestrator {name}")),
            false => statement,
        };
        let statement = statement.with_client_token(token.clone()).with_name(name.clone());
        Ok(Self {
            orchestrator,
            key,
            statement: Arc::new(statement),
            token,
            name,
            timeout: options.timeout.unwrap_or(LONGEST_RUN),
            started: Instant::now(),
            requests: RequestCounts::default(),
            redactor: OnceLock::new(),
            submitted_after: None,
        })
    }

    /// Runs the statement: submits it or finds the submitted one, waits for its end, and records its outcome.
    pub(super) async fn run(&mut self) -> Result<Outcome> {
        // Futures that are needed only for a part of the call are boxed to keep the call's future small.
        // Thousands of statements can be in flight, and most of them are only waiting.
        match Box::pin(self.begin()).await? {
            CallState::Waiting(statement) => {
                let waited = self.wait(&statement).await;
                Box::pin(self.conclude(statement, waited)).await
            }
            CallState::Concluded(outcome) => Ok(*outcome),
        }
    }

    pub(super) async fn record(&self, event: Event) -> Result<()> {
        self.orchestrator.record(self.key, event).await.map_err(|error| error.with_context("step", self.key))
    }

    /// Counts an error after which a request is repeated, and reports it to the observer.
    pub(super) fn count_retry(&mut self, error: &Error) {
        self.requests.retried(error.kind());
        self.report_retry(error);
    }

    /// Reports an error after which a request is repeated to the observer.
    pub(super) fn report_retry(&self, error: &Error) {
        let redacted = self.redactor().map(|redactor| redactor.redacted(error));
        let error = redacted.as_ref().unwrap_or(error);
        self.orchestrator.observe(self.key, &ProgressEvent::RequestRetried { error });
    }

    /// Redacts a text from the database or the service.
    pub(super) fn redacted_text(&self, text: &str) -> String {
        self.redactor().map_or_else(|| text.to_owned(), |redactor| redactor.apply(text))
    }

    /// Redacts an error and its sources.
    pub(super) fn redacted(&self, error: Error) -> Error {
        match self.redactor() {
            Some(redactor) => redactor.apply_to(error),
            None => error,
        }
    }

    fn redactor(&self) -> Option<&Redactor> {
        redactor_in(&self.redactor, &self.statement, self.orchestrator)
    }

    pub(super) fn age(&self, entry: &Entry) -> Duration {
        entry.age(self.orchestrator.clock.now())
    }
}

pub(super) fn redactor_in<'m>(
    cell: &'m OnceLock<Redactor>,
    statement: &Statement,
    orchestrator: &Orchestrator,
) -> Option<&'m Redactor> {
    orchestrator.redaction.then(|| cell.get_or_init(|| Redactor::of(statement)))
}

/// Returns the seed of the random pauses. The seed depends only on the token, so pauses are reproducible and
/// different statements get different pauses.
pub(super) fn salt(token: &ClientToken) -> u64 {
    u64::from_str_radix(short_digest(token), 16).unwrap_or(0)
}
