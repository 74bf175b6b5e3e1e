//! Derives the outcome from the last description of a statement.

use std::time::Duration;

use crate::{
    Description, FailureKind, OutcomeKind, Status,
    journal::{Entry, RecordedOutcome},
    redact::Redactor,
};

impl RecordedOutcome {
    /// Returns the part of a description that a journal keeps. The error text is redacted.
    pub fn of(description: &Description) -> Self {
        Self::told(description, |said| match Redactor::of_described(description) {
            Some(redactor) => redactor.apply(&said),
            None => said,
        })
    }

    pub(super) fn told(description: &Description, tell: impl FnOnce(String) -> String) -> Self {
        let (failure, error) = match error_text(description) {
            Some((kind, said)) => (kind, Some(tell(said))),
            None => (FailureKind::Sql, None),
        };
        Self {
            status: description.status.clone(),
            error,
            failure: (description.status == Status::Failed).then_some(failure),
            timed_out: false,
            executing: description.duration,
            rows: description.result_rows,
            has_result_set: description.has_result_set,
        }
    }
}

pub(super) fn conclude(ended: &RecordedOutcome, timeout: Duration) -> OutcomeKind {
    match ended.status {
        Status::Finished => OutcomeKind::Finished,
        _ if ended.timed_out => OutcomeKind::TimedOut { timeout, cancel_pending: false },
        Status::Aborted => OutcomeKind::Aborted,
        _ => {
            let said = ended.error.as_deref().unwrap_or_default();
            let kind = ended.failure.unwrap_or_else(|| FailureKind::of_text(said));
            let error =
                ended.error.clone().unwrap_or_else(|| "the database returned no error text".to_owned());
            OutcomeKind::Failed { kind, error }
        }
    }
}

/// Returns the conclusion and the description recorded in a journal.
pub(super) fn recorded(
    entry: &Entry,
    ended: &RecordedOutcome,
    timeout: Duration,
) -> (OutcomeKind, Option<Description>) {
    let description = entry.id.clone().map(|id| {
        let mut description = Description::new(id, ended.status.clone());
        description.error.clone_from(&ended.error);
        description.duration = ended.executing;
        description.result_rows = ended.rows;
        description.has_result_set = ended.has_result_set;
        description
    });
    (conclude(ended, timeout), description)
}

/// Returns the error text of a statement and the kind of failure. For a batch without an error text, returns
/// the first error text of its statements, with the number of that statement.
fn error_text(description: &Description) -> Option<(FailureKind, String)> {
    let own = description.error.clone().filter(|error| !error.is_empty());
    let own = own.map(|error| (FailureKind::of_text(&error), error));
    own.or_else(|| {
        description.sub_statements.iter().enumerate().find_map(|(index, sub)| {
            let error = sub.error.as_ref()?;
            let told = format!("statement {} of the batch: {error}", index + 1);
            Some((FailureKind::of_text(error), told))
        })
    })
}
