//! Finds a statement by its name, when no id is known.

use tokio::time::{Instant, sleep};

use super::{
    RECORD_WINDOW,
    call::{Call, salt},
    submit,
};
use crate::{
    Error, ErrorKind, Origin, Outcome, Result, StatementFilter, StatementId, UnknownReason,
    clock::after,
    identity::is_before,
    journal::Entry,
    layer::queue_time::bounded,
    service::{LISTING_TIMEOUT, Pages},
};

impl Call<'_> {
    /// Searches for the statement by its name. The outcome is unknown if no listing contains it.
    pub(super) async fn look_up(
        &mut self,
        entry: Box<Entry>,
        reason: UnknownReason,
        error: Option<Error>,
    ) -> Result<Outcome> {
        if self.age(&entry) >= RECORD_WINDOW {
            return self.unknown(entry, UnknownReason::TooLate, error).await;
        }
        match self.find(&entry).await {
            Ok(Some(id)) => {
                submit::write_down(self.orchestrator, self.key, &id, &entry.name).await?;
                self.submitted = Some(self.started.elapsed());
                self.accepted(entry, id, Origin::Reattached).await
            }
            Ok(None) => self.unknown(entry, reason, error).await,
            Err(listing) => self.unknown(entry, reason, Some(error.unwrap_or(listing))).await,
        }
    }

    /// Returns the id of the statement that has the intent's name.
    async fn find(&mut self, entry: &Entry) -> Result<Option<StatementId>> {
        let orchestrator = self.orchestrator;
        let deadline = after(Instant::now(), orchestrator.retry_timeout);
        let mut pauses = orchestrator.backoff.pauses(salt(&entry.token));
        let filter = StatementFilter::named(&entry.name);
        let (mut found, mut page, mut pages) = (None, None, Pages::default());
        loop {
            self.requests.lists += 1;
            let request = orchestrator.executor.list(&filter, page.clone());
            // The executor's own timeout for a listing expires first.
            let answer = bounded(LISTING_TIMEOUT + submit::REQUEST_LIMIT, None, request).await;
            let answer =
                answer.unwrap_or_else(|_| Err(Error::new(ErrorKind::Disconnected, "no response in time")));
            match answer {
                Ok(listed) => {
                    for statement in listed.statements {
                        // The service's filter is a prefix. A statement that is older than the intent is a
                        // different one.
                        let is_older =
                            statement.created_at.is_some_and(|created| is_before(created, entry.intended_at));
                        if is_older
                            || statement.name.as_deref() != Some(&entry.name)
                            || found.as_ref() == Some(&statement.id)
                        {
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
                Err(error) => {
                    let pause = pauses.after(&error);
                    if !error.kind().is_transient() || after(Instant::now(), pause) >= deadline {
                        return Err(error);
                    }
                    self.retried(&error);
                    sleep(pause).await;
                }
            }
        }
    }
}
