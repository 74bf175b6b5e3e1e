//! Search for a statement by its name if its id is not known.

use tokio::time::{Instant, sleep};

use super::{
    Orchestrator, RECORD_WINDOW,
    begin::CallState,
    call::{Call, salt},
    submit,
};
use crate::{
    Error, ErrorKind, Origin, PageToken, Result, StatementFilter, StatementId, StatementPage,
    StatementSummary, UnknownReason,
    backoff::Pauses,
    identity::is_before,
    journal::Entry,
    layer::queue_time::bounded,
    service::{LISTING_TIMEOUT, Pages},
    wait::RequestCounts,
};

impl Call<'_> {
    /// Searches for the statement by its name. If no listing contains the statement, the outcome is unknown
    /// with this `origin` and `reason`.
    pub(super) async fn look_up(
        &mut self,
        entry: Box<Entry>,
        origin: Origin,
        reason: UnknownReason,
        error: Option<Error>,
    ) -> Result<CallState> {
        let (reason, error) = match self.age(&entry) < RECORD_WINDOW {
            false => (UnknownReason::SubmitTooOld, error),
            true => match self.find(&entry).await {
                Ok(Some(id)) => {
                    self.orchestrator.record_id(self.key, &id, &entry.name).await?;
                    return Ok(self.submitted(entry, id, Origin::Reattached));
                }
                Ok(None) => (reason, error),
                Err(listing) => (reason, error.or(Some(listing))),
            },
        };
        let outcome = self.unknown(entry, origin, reason, error).await?;
        Ok(CallState::Concluded(Box::new(outcome)))
    }

    /// Returns the id of the statement with the name in the intent, or `None` if no listing contains it.
    async fn find(&mut self, entry: &Entry) -> Result<Option<StatementId>> {
        let mut requests = RequestCounts::default();
        let report = |error: &Error| self.report_retry(error);
        let found = Search::new(self.orchestrator, entry, &mut requests, &report).run().await;
        self.requests.add(&requests);
        found
    }
}

/// Search for the statement of an entry in the listings of the service.
pub(super) struct Search<'a> {
    orchestrator: &'a Orchestrator,
    entry: &'a Entry,
    requests: &'a mut RequestCounts,
    /// Reports an error after which a request is repeated.
    report: &'a (dyn Fn(&Error) + Send + Sync),
    /// Time of the first of the errors that no response has followed.
    failing_since: Option<Instant>,
    pauses: Pauses,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        orchestrator: &'a Orchestrator,
        entry: &'a Entry,
        requests: &'a mut RequestCounts,
        report: &'a (dyn Fn(&Error) + Send + Sync),
    ) -> Self {
        let pauses = orchestrator.backoff.pauses(salt(&entry.token));
        Self { orchestrator, entry, requests, report, failing_since: None, pauses }
    }

    /// Returns the id of the statement, or `None` if no listing contains it.
    pub(super) async fn run(mut self) -> Result<Option<StatementId>> {
        let filter = StatementFilter::default().with_name_prefix(&self.entry.name);
        let (mut found, mut page, mut pages) = (None, None, Pages::default());
        loop {
            let listed = self.list(&filter, page).await?;
            for statement in listed.statements.into_iter().filter(|statement| is_of(statement, self.entry)) {
                if found.as_ref() == Some(&statement.id) {
                    continue;
                }
                if found.replace(statement.id).is_some() {
                    return Err(Error::new(ErrorKind::Other, "two statements have the same name")
                        .with_context("statement_name", &self.entry.name));
                }
            }
            page = pages.turn(listed.next)?;
            if page.is_none() {
                return Ok(found);
            }
        }
    }

    /// Returns a page of the listing. Transient errors are retried for the retry timeout.
    async fn list(&mut self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        loop {
            self.requests.lists += 1;
            let request = self.orchestrator.executor.list(filter, page.clone());
            // This timeout is longer than the executor's timeout for a listing, so it expires only if the
            // executor does not return.
            let response = bounded(LISTING_TIMEOUT + submit::REQUEST_LIMIT, None, request).await;
            let late = || Error::new(ErrorKind::Disconnected, "no response in time");
            let error = match response.unwrap_or_else(|_| Err(late())) {
                Ok(listed) => {
                    self.failing_since = None;
                    return Ok(listed);
                }
                Err(error) => error,
            };
            let failing_since = *self.failing_since.get_or_insert_with(Instant::now);
            let pause = self.pauses.after(&error);
            let retried_for = failing_since.elapsed().saturating_add(pause);
            if !error.kind().is_transient() || retried_for >= self.orchestrator.retry_timeout {
                return Err(error);
            }
            self.requests.retried(error.kind());
            (self.report)(&error);
            sleep(pause).await;
        }
    }
}

/// Returns `true` if a listed statement belongs to this entry. The names must be equal, because the service
/// filters by prefix only, and the statement must not be older than the intent.
fn is_of(statement: &StatementSummary, entry: &Entry) -> bool {
    let is_older = statement.created_at.is_some_and(|created| is_before(created, entry.intended_at));
    !is_older && statement.name.as_deref() == Some(&entry.name)
}
