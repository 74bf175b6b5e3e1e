//! Search for a statement by its name if its id is not known.

use tokio::time::{Instant, sleep};

use super::{
    RECORD_WINDOW,
    call::{Call, salt},
    submit,
};
use crate::{
    Error, ErrorKind, Origin, Outcome, PageToken, Result, StatementFilter, StatementId, StatementPage,
    StatementSummary, UnknownReason,
    backoff::Pauses,
    clock::after,
    identity::is_before,
    journal::Entry,
    layer::queue_time::bounded,
    service::{LISTING_TIMEOUT, Pages},
};

impl Call<'_> {
    /// Searches for the statement by its name, and waits for it. If no listing contains the statement, the
    /// outcome is unknown with this `origin` and `reason`.
    pub(super) async fn look_up(
        &mut self,
        entry: Box<Entry>,
        origin: Origin,
        reason: UnknownReason,
        error: Option<Error>,
    ) -> Result<Outcome> {
        if self.age(&entry) >= RECORD_WINDOW {
            return self.unknown(entry, origin, UnknownReason::SubmitTooOld, error).await;
        }
        match self.find(&entry).await {
            Ok(Some(id)) => {
                self.orchestrator.record_id(self.key, &id, &entry.name).await?;
                self.submitted_after = Some(self.started.elapsed());
                self.wait_after_submit(entry, id, Origin::Reattached).await
            }
            Ok(None) => self.unknown(entry, origin, reason, error).await,
            Err(listing) => self.unknown(entry, origin, reason, Some(error.unwrap_or(listing))).await,
        }
    }

    /// Returns the id of the statement with the name in the intent, or `None` if no listing contains it.
    async fn find(&mut self, entry: &Entry) -> Result<Option<StatementId>> {
        let deadline = after(Instant::now(), self.orchestrator.retry_timeout);
        let mut pauses = self.orchestrator.backoff.pauses(salt(&entry.token));
        let filter = StatementFilter::default().with_name_prefix(&entry.name);
        let (mut found, mut page, mut pages) = (None, None, Pages::default());
        loop {
            let listed = self.list(&filter, page, deadline, &mut pauses).await?;
            for statement in listed.statements.into_iter().filter(|statement| is_of(statement, entry)) {
                if found.as_ref() == Some(&statement.id) {
                    continue;
                }
                if found.replace(statement.id).is_some() {
                    return Err(Error::new(ErrorKind::Other, "two statements have the same name")
                        .with_context("statement_name", &entry.name));
                }
            }
            page = pages.turn(listed.next)?;
            if page.is_none() {
                return Ok(found);
            }
        }
    }

    /// Returns a page of the listing. Transient errors are retried until the deadline.
    async fn list(
        &mut self,
        filter: &StatementFilter,
        page: Option<PageToken>,
        deadline: Instant,
        pauses: &mut Pauses,
    ) -> Result<StatementPage> {
        loop {
            self.requests.lists += 1;
            let request = self.orchestrator.executor.list(filter, page.clone());
            // This timeout is longer than the executor's timeout for a listing, so it expires only if the
            // executor does not return.
            let response = bounded(LISTING_TIMEOUT + submit::REQUEST_LIMIT, None, request).await;
            let late = || Error::new(ErrorKind::Disconnected, "no response in time");
            let error = match response.unwrap_or_else(|_| Err(late())) {
                Ok(listed) => return Ok(listed),
                Err(error) => error,
            };
            let pause = pauses.after(&error);
            if !error.kind().is_transient() || after(Instant::now(), pause) >= deadline {
                return Err(error);
            }
            self.count_retry(&error);
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
