//! Conversion of the result of a wait into a recorded outcome, and of a recorded outcome into the outcome
//! that a call returns.

use std::time::Duration;

use super::call::Call;
use crate::{
    Description, Error, ErrorKind, FailureKind, Origin, Outcome, OutcomeKind, Result, StatementId, Status,
    Unknown, UnknownReason,
    journal::{Entry, EntryState, Event, RecordedOutcome, SettledOutcome},
    redact::Redactor,
    wait::{CancelOutcome, WaitOutcome, is_cancelled},
};

impl Call<'_> {
    /// Records and returns the outcome of a statement after the wait has ended.
    pub(super) async fn conclude(
        &mut self,
        entry: Box<Entry>,
        id: StatementId,
        origin: Origin,
        waited: WaitOutcome,
    ) -> Result<Outcome> {
        match waited {
            WaitOutcome::Ended(description)
            | WaitOutcome::TimedOut { cancellation: CancelOutcome::EndedBefore(description), .. } => {
                let timed_out = entry.overdue && is_cancelled(&description);
                self.ended(entry, id, origin, description, timed_out).await
            }
            WaitOutcome::TimedOut { cancellation: CancelOutcome::Cancelled(description), .. } => {
                self.ended(entry, id, origin, description, true).await
            }
            WaitOutcome::TimedOut { cancellation: CancelOutcome::Pending(description), .. } => {
                self.record_cancel_pending(&entry).await;
                let kind = OutcomeKind::TimedOut { timeout: self.timeout, cancel_pending: true };
                Ok(self.outcome(entry.name, Some(id), kind, description, origin))
            }
            WaitOutcome::TimedOut { cancellation: CancelOutcome::NotCancelled(error), .. } => {
                let otherwise = match entry.cancel_pending {
                    true => UnknownReason::AccessDenied,
                    false => UnknownReason::NotCancelled,
                };
                self.lost(entry, origin, error, otherwise).await
            }
            WaitOutcome::Lost(error) => self.lost(entry, origin, error, UnknownReason::AccessDenied).await,
        }
    }

    /// Records and returns the outcome of a statement that has ended.
    async fn ended(
        &mut self,
        entry: Box<Entry>,
        id: StatementId,
        origin: Origin,
        description: Description,
        timed_out: bool,
    ) -> Result<Outcome> {
        let mut ended = RecordedOutcome::redacted(&description, |text| self.redacted_text(&text));
        ended.timed_out = timed_out;
        let kind = ended.kind(self.timeout);
        let status = &description.status;
        self.record(Event::Ended(ended))
            .await
            .map_err(|error| error.with_submitted(&id).with_context("status", status))?;
        Ok(self.outcome(entry.name, Some(id), kind, Some(description), origin))
    }

    /// Records that the outcome is unknown because the service does not return the status of the statement.
    /// `otherwise` is the reason if `error` does not determine a more precise one.
    async fn lost(
        &mut self,
        entry: Box<Entry>,
        origin: Origin,
        error: Error,
        otherwise: UnknownReason,
    ) -> Result<Outcome> {
        let reason = match error.kind() {
            ErrorKind::IdentityConflict => {
                return Err(self.orchestrator.record_conflict(self.key, error).await);
            }
            ErrorKind::RecordExpired => UnknownReason::RecordExpired,
            ErrorKind::NotFound => UnknownReason::IdNotFound,
            _ => otherwise,
        };
        self.unknown(entry, origin, reason, Some(error)).await
    }

    /// Records and returns that the outcome is unknown.
    pub(super) async fn unknown(
        &mut self,
        entry: Box<Entry>,
        origin: Origin,
        reason: UnknownReason,
        error: Option<Error>,
    ) -> Result<Outcome> {
        let unknown = Unknown {
            reason,
            error: error.as_ref().map(|error| self.redacted_text(&error.to_string())),
            name: entry.name.clone(),
            id: entry.id.clone(),
            intended_at: entry.intended_at,
        };
        self.record(Event::Unknown { reason: unknown.to_string() }).await?;
        let kind = OutcomeKind::Unknown(Box::new(unknown));
        Ok(self.outcome(entry.name, entry.id, kind, None, origin))
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
            submitted_after: self.submitted_after,
            elapsed: self.started.elapsed(),
            origin,
        }
    }
}

impl RecordedOutcome {
    /// Returns the fields of a description that a journal contains. Redacts the error text.
    pub fn from_description(description: &Description) -> Self {
        Self::redacted(description, |text| match Redactor::of_described(description) {
            Some(redactor) => redactor.apply(&text),
            None => text,
        })
    }

    fn redacted(description: &Description, redact: impl FnOnce(String) -> String) -> Self {
        let (failure, error) = match error_text(description) {
            Some((kind, text)) => (kind, Some(redact(text))),
            None => (FailureKind::Sql, None),
        };
        Self {
            status: description.status.clone(),
            error,
            failure: (description.status == Status::Failed).then_some(failure),
            timed_out: false,
            execution_time: description.execution_time,
            rows: description.result_rows,
            has_result_set: description.has_result_set,
        }
    }

    fn kind(&self, timeout: Duration) -> OutcomeKind {
        match self.status {
            Status::Finished => OutcomeKind::Finished,
            _ if self.timed_out => OutcomeKind::TimedOut { timeout, cancel_pending: false },
            Status::Aborted => OutcomeKind::Aborted,
            _ => {
                let text = self.error.as_deref().unwrap_or_default();
                let kind = self.failure.unwrap_or_else(|| FailureKind::from_error_text(text));
                let error =
                    self.error.clone().unwrap_or_else(|| "the database returned no error text".to_owned());
                OutcomeKind::Failed { kind, error }
            }
        }
    }

    /// Returns a description that contains only the fields in the journal.
    fn description(&self, id: StatementId) -> Description {
        let mut description = Description::new(id, self.status.clone());
        description.error.clone_from(&self.error);
        description.execution_time = self.execution_time;
        description.result_rows = self.rows;
        description.has_result_set = self.has_result_set;
        description
    }
}

/// Returns the outcome and the description from the journal, or `None` if the journal does not contain the
/// outcome.
pub(super) fn recorded_outcome(
    entry: &Entry,
    timeout: Duration,
) -> Option<(OutcomeKind, Option<Description>)> {
    match &entry.state {
        EntryState::Ended(ended) => {
            Some((ended.kind(timeout), entry.id.clone().map(|id| ended.description(id))))
        }
        EntryState::Settled(SettledOutcome::Finished) => Some((OutcomeKind::Finished, None)),
        EntryState::Settled(SettledOutcome::Failed) => {
            let error = "settled by hand as failed".to_owned();
            Some((OutcomeKind::Failed { kind: FailureKind::Sql, error }, None))
        }
        EntryState::Settled(SettledOutcome::NeverRan)
        | EntryState::NotSubmitted(_)
        | EntryState::Open
        | EntryState::Unknown(_) => None,
    }
}

/// Returns the kind of failure and the error text. If a batch has no error text, returns the first error text
/// of its sub-statements, preceded by the number of that sub-statement.
fn error_text(description: &Description) -> Option<(FailureKind, String)> {
    let own = description.error.clone().filter(|error| !error.is_empty());
    let own = own.map(|error| (FailureKind::from_error_text(&error), error));
    own.or_else(|| {
        description.sub_statements.iter().enumerate().find_map(|(index, sub)| {
            let error = sub.error.as_ref()?;
            let text = format!("statement {} of the batch: {error}", index + 1);
            Some((FailureKind::from_error_text(error), text))
        })
    })
}
