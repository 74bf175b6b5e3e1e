//! Converts errors of Glue to names and sentences.

use std::error::Error as _;

use hudi_scd::{
    Error as TableError, ErrorKind as TableErrorKind,
    glue::{CatalogError, CatalogErrorKind},
};
use redshift_orchestrator::{Error as ServiceError, ErrorKind};

use crate::{
    Error,
    sentence::{LONGEST, cut, in_words, places},
};

/// Name and remedy for a call that Glue refuses, and would refuse again.
const REFUSED: (&str, &str) = ("Glue.Denied", "correct the request or the function's role");

/// Entries of an error's context that a sentence contains, with their wording.
const PLACES: [(&str, &str); 12] = [
    ("job", "job"),
    ("job_run", "job run"),
    ("argument", "argument"),
    ("crawler", "crawler"),
    ("state", "state"),
    ("column", "column"),
    ("partition", "partition"),
    ("other", "other"),
    ("url", "url"),
    ("bucket", "bucket"),
    ("path", "path"),
    ("file", "file"),
];

fn error(name: &'static str, message: &str, context: impl Fn(&str) -> Option<String>, remedy: &str) -> Error {
    let places = places(PLACES.map(|(name, word)| (word, context(name).map(|value| cut(&value, 300)))));
    let message = cut(in_words(message).trim().trim_end_matches('.'), LONGEST);
    Error::Glue { name, cause: format!("{message}{places}; {remedy}") }
}

/// Converts an error about a job or a run.
pub(super) fn job_failure(cause: &ServiceError) -> Error {
    let (name, remedy) = match cause.kind() {
        ErrorKind::NotFound => ("Glue.NotFound", "check the names and the region"),
        ErrorKind::Denied | ErrorKind::CredentialsExpired => ("Glue.Denied", "correct the function's role"),
        ErrorKind::TooManyStatements => {
            ("Glue.TooManyRuns", "nothing was started, so retry after another run has ended")
        }
        ErrorKind::Throttled => {
            ("Glue.Throttled", "retry after a pause, because the service asks for fewer requests")
        }
        ErrorKind::Invalid => ("Glue.Invalid", "correct the request, because a retry does not help"),
        ErrorKind::StepKeyConflict => (
            "Glue.Invalid",
            "nothing was started; for another job or other arguments send another step or attempt",
        ),
        ErrorKind::ServiceFault | ErrorKind::Disconnected | ErrorKind::NotSent | ErrorKind::Overlap => {
            ("Glue.Unavailable", "retry with the same event, which does not start a second run")
        }
        ErrorKind::Journal => (
            "Glue.Unavailable",
            "the journal is temporarily unavailable; retry with the same event, which finds the run",
        ),
        _ => ("Glue.Other", "look up the job's runs before starting it again"),
    };
    error(name, cause.message(), |place| cause.context(place).map(str::to_owned), remedy)
}

/// Converts an error about a table, its catalog entry or a crawler.
pub(super) fn table_failure(cause: &TableError) -> Error {
    let call = cause.source().and_then(|source| source.downcast_ref::<CatalogError>());
    let (name, remedy) = match cause.kind() {
        _ if call.is_some_and(|call| call.kind() == CatalogErrorKind::Refused) => REFUSED,
        TableErrorKind::NotFound => ("Glue.NotFound", "check the names, the URL and the region"),
        TableErrorKind::AlreadyExists => {
            ("Glue.ForeignTable", "choose another `name`, or replace the table with `takeover`")
        }
        TableErrorKind::Conflict => ("Glue.Conflict", "retry after a pause with the same event"),
        TableErrorKind::Unsupported => {
            ("Glue.Unsupported", "nothing was changed, because files would be unreadable after this change")
        }
        TableErrorKind::InvalidDefinition => {
            ("Glue.Invalid", "correct the event, because a retry does not help")
        }
        TableErrorKind::Storage => (
            "Glue.Unavailable",
            "retry with the same event; if the error persists, correct the function's role",
        ),
        _ => ("Glue.Other", "run `hudi-scd validate` on the table"),
    };
    error(name, cause.message(), |place| cause.context(place).map(str::to_owned), remedy)
}

/// Converts an error of a call outside of a sync.
pub(super) fn catalog_failure(cause: &CatalogError) -> Error {
    let (name, remedy) = match cause.kind() {
        CatalogErrorKind::NotFound => ("Glue.NotFound", "check the names and the region"),
        CatalogErrorKind::Conflict => ("Glue.Conflict", "retry after a pause with the same event"),
        CatalogErrorKind::Refused => REFUSED,
        _ => ("Glue.Unavailable", "retry with the same event"),
    };
    error(name, &cause.to_string(), |_| None, remedy)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::ErrorNames;

    #[test]
    fn a_sentence_names_the_thing_and_the_way_out() {
        let cause = ServiceError::new(ErrorKind::TooManyStatements, "Concurrent runs exceeded for clean")
            .with_context("job", "clean")
            .with_context("step", "cycle-007 customers attempt 1");
        assert_eq!(
            job_failure(&cause).to_string(),
            "Concurrent runs exceeded for clean (job clean); nothing was started, so retry after another run has ended"
        );
    }

    #[rstest]
    fn every_kind_has_a_name_of_the_list(
        #[values(
            TableErrorKind::InvalidInput,
            TableErrorKind::InvalidDefinition,
            TableErrorKind::NotFound,
            TableErrorKind::AlreadyExists,
            TableErrorKind::Unsupported,
            TableErrorKind::Corrupt,
            TableErrorKind::Conflict,
            TableErrorKind::Storage
        )]
        table: TableErrorKind,
        #[values(
            ErrorKind::NotFound,
            ErrorKind::Denied,
            ErrorKind::TooManyStatements,
            ErrorKind::Throttled,
            ErrorKind::Invalid,
            ErrorKind::StepKeyConflict,
            ErrorKind::Journal,
            ErrorKind::Disconnected,
            ErrorKind::Other
        )]
        job: ErrorKind,
    ) {
        for failure in
            [table_failure(&TableError::new(table, "m")), job_failure(&ServiceError::new(job, "m"))]
        {
            let name = failure.name(ErrorNames::Qualified).into_owned();
            assert!(ErrorNames::Qualified.all().contains(&name), "{name}");
        }
    }
}
