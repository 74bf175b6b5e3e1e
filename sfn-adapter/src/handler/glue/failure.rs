//! Errors of Glue as names and sentences.

use hudi_scd::{
    Error as TableError, ErrorKind as TableErrorKind,
    glue::{CatalogError, CatalogErrorKind},
};
use redshift_orchestrator::{Error as ServiceError, ErrorKind};

use crate::{Error, sentence::cut};

/// Maximum length of a quoted message in characters.
const LONGEST: usize = 1_000;

/// The entries of an error's context that a sentence names, with their words.
const PLACES: [&str; 12] = [
    "job",
    "job_run",
    "argument",
    "crawler",
    "state",
    "column",
    "partition",
    "other",
    "url",
    "bucket",
    "path",
    "file",
];

fn error(name: &'static str, message: &str, context: impl Fn(&str) -> Option<String>, remedy: &str) -> Error {
    let places = PLACES.iter().filter_map(|place| {
        let value = context(place)?;
        Some(format!("{} {}", place.replace('_', " "), cut(&value, 300)))
    });
    let places: Vec<_> = places.collect();
    let places = if places.is_empty() { String::new() } else { format!(" ({})", places.join(", ")) };
    let message = cut(message.trim().trim_end_matches('.'), LONGEST);
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
        ErrorKind::StepKeyConflict | ErrorKind::Overlap => {
            ("Glue.Conflict", "nothing was started; use another step or attempt")
        }
        ErrorKind::ServiceFault | ErrorKind::Disconnected | ErrorKind::NotSent => {
            ("Glue.Unavailable", "retry with the same event, which does not start a second run")
        }
        ErrorKind::Journal => (
            "Glue.Unavailable",
            "the journal is not usable now; retry with the same event, which finds the run",
        ),
        _ => ("Glue.Other", "look at the job's runs before starting it again"),
    };
    error(name, cause.message(), |place| cause.context(place).map(str::to_owned), remedy)
}

/// Converts an error about a table, its catalog entry or a crawler.
pub(super) fn table_failure(cause: &TableError) -> Error {
    let (name, remedy) = match cause.kind() {
        TableErrorKind::NotFound => ("Glue.NotFound", "check the names, the URL and the region"),
        TableErrorKind::AlreadyExists => {
            ("Glue.ForeignTable", "choose another `name`, or replace the table with `takeover`")
        }
        TableErrorKind::Conflict => ("Glue.Conflict", "retry after a pause with the same event"),
        TableErrorKind::Unsupported => {
            ("Glue.Unsupported", "nothing was changed; readers would not survive it")
        }
        TableErrorKind::InvalidDefinition => {
            ("Glue.Invalid", "correct the event, because a retry does not help")
        }
        TableErrorKind::Storage => {
            ("Glue.Unavailable", "retry with the same event; if it stays, correct the function's role")
        }
        _ => ("Glue.Other", "run `hudi-scd validate` on the table"),
    };
    error(name, cause.message(), |place| cause.context(place).map(str::to_owned), remedy)
}

/// Converts an error of a call that is not part of a sync.
pub(super) fn catalog_failure(cause: &CatalogError) -> Error {
    let (name, remedy) = match cause.kind() {
        CatalogErrorKind::NotFound => ("Glue.NotFound", "check the names and the region"),
        CatalogErrorKind::Conflict => ("Glue.Conflict", "retry after a pause with the same event"),
        CatalogErrorKind::Refused => ("Glue.Denied", "correct the request or the function's role"),
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
