//! The end of a call: converts the result of the wait into a recorded outcome, and a recorded outcome into
//! the outcome that the call returns.

use std::time::Duration;

use super::{Orchestrator, begin::SubmittedStatement, call::Call};
use crate::{
    Description, Error, ErrorKind, FailureKind, Origin, Outcome, OutcomeKind, Result, Statement, StatementId,
    Status, UnknownOutcome, UnknownReason,
    journal::{Entry, EntryState, Event, RecordedOutcome, SETTLED_AS_FAILED, SettledOutcome},
    redact::Redactor,
    wait::{CancelOutcome, RequestCounts, WaitOutcome, is_cancelled},
};

impl Call<'_> {
    /// Records and returns the outcome of a statement after the wait has ended.
    pub(super) async fn conclude(
        &mut self,
        statement: SubmittedStatement,
        waited: WaitOutcome,
    ) -> Result<Outcome> {
        match waited {
            WaitOutcome::Ended(description)
            | WaitOutcome::TimedOut { cancellation: CancelOutcome::EndedBefore(description), .. } => {
                let timed_out = statement.entry.overdue && is_cancelled(&description);
                self.ended(statement, description, timed_out).await
            }
            WaitOutcome::TimedOut { cancellation: CancelOutcome::Cancelled(description), .. } => {
                self.ended(statement, description, true).await
            }
            WaitOutcome::TimedOut { cancellation: CancelOutcome::Pending(description), .. } => {
                let SubmittedStatement { entry, id, origin } = statement;
                self.record_cancel_pending(&entry).await;
                let kind = OutcomeKind::TimedOut { timeout: self.timeout, cancel_pending: true };
                Ok(self.outcome(entry.name, Some(id), kind, description, origin))
            }
            WaitOutcome::TimedOut { cancellation: CancelOutcome::NotCancelled(error), .. } => {
                let otherwise = match statement.entry.cancel_pending {
                    true => UnknownReason::AccessDenied,
                    false => UnknownReason::NotCancelled,
                };
                self.lost(statement, error, otherwise).await
            }
            WaitOutcome::Lost(error) => self.lost(statement, error, UnknownReason::AccessDenied).await,
        }
    }

    /// Records and returns the outcome of a statement that has ended.
    async fn ended(
        &mut self,
        statement: SubmittedStatement,
        description: Description,
        timed_out: bool,
    ) -> Result<Outcome> {
        let SubmittedStatement { entry, id, origin } = statement;
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
        statement: SubmittedStatement,
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
        self.unknown(statement.entry, statement.origin, reason, Some(error)).await
    }

    /// Records that the outcome is unknown, and returns this outcome.
    pub(super) async fn unknown(
        &mut self,
        entry: Box<Entry>,
        origin: Origin,
        reason: UnknownReason,
        error: Option<Error>,
    ) -> Result<Outcome> {
        let unknown = UnknownOutcome {
            reason,
            error: error.as_ref().map(|error| self.redacted_text(&error.to_string())),
            name: entry.name.clone(),
            id: entry.id.clone(),
            intended_at: entry.intended_at,
        };
        let recorded = self.record(Event::Unknown { reason: unknown.to_string() }).await;
        recorded.map_err(|error| match &entry.id {
            Some(id) => error.with_submitted(id),
            None => error.after_uncertain_submit().with_context("statement_name", &entry.name),
        })?;
        let kind = OutcomeKind::Unknown(Box::new(unknown));
        Ok(self.outcome(entry.name, entry.id, kind, None, origin))
    }

    fn outcome(
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

impl Orchestrator {
    /// Returns the outcome of an attempt from its entry in the journal, or `None` if the entry does not
    /// contain the outcome.
    ///
    /// # Errors
    /// Returns [`ErrorKind::StepKeyConflict`] if the entry belongs to a different scope, pipeline or target
    /// than `statement`.
    pub(crate) fn recorded_outcome(
        &self,
        statement: &Statement,
        entry: &Entry,
        timeout: Duration,
    ) -> Result<Option<Outcome>> {
        self.namespace.check_record(&entry.key, statement, &entry.name, entry.target.as_deref())?;
        let (kind, description) = match &entry.state {
            EntryState::Ended(ended) => {
                (ended.kind(timeout), entry.id.clone().map(|id| ended.description(id)))
            }
            EntryState::Settled(SettledOutcome::Finished) => (OutcomeKind::Finished, None),
            EntryState::Settled(SettledOutcome::Failed) => {
                let error = SETTLED_AS_FAILED.to_owned();
                (OutcomeKind::Failed { kind: FailureKind::Sql, error }, None)
            }
            EntryState::Settled(SettledOutcome::NeverRan)
            | EntryState::NotSubmitted(_)
            | EntryState::Open
            | EntryState::Unknown(_) => return Ok(None),
        };
        Ok(Some(Outcome {
            key: entry.key.clone(),
            name: entry.name.clone(),
            id: entry.id.clone(),
            kind,
            description,
            requests: RequestCounts::default(),
            submitted_after: None,
            elapsed: Duration::ZERO,
            origin: Origin::Journal,
        }))
    }
}

impl Entry {
    /// Returns the outcome of this attempt for the journal. A statement that was cancelled after its timeout
    /// had expired has timed out, even if another client cancelled it.
    pub fn outcome(&self, description: &Description) -> RecordedOutcome {
        let timed_out = self.overdue && is_cancelled(description);
        RecordedOutcome { timed_out, ..RecordedOutcome::from_description(description) }
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
