//! [`Failure`]: the reason for an unsuccessful command, and its message.

use std::{error::Error as _, io};

use hudi_scd::Error;
use serde_json::json;

/// The reason why a command failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command line is contradictory, or does not fit the table: exit code 2.
    Usage(String),
    /// An operation failed: exit code 1. The first field is its subject, as named on the command line.
    Failed(Option<String>, Error),
    /// The output could not be written: exit code 1. There is no message if a pipe was closed.
    Output(io::Error),
    /// `validate` printed violations: exit code 1.
    Findings,
}

impl Failure {
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// Sets the subject, unless it is already set.
    pub(super) fn of(self, subject: impl std::fmt::Display) -> Self {
        match self {
            Self::Failed(None, error) => Self::Failed(Some(subject.to_string()), error),
            other => other,
        }
    }

    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            // The reader of a pipe, such as `hudi-scd read … | head`, may close it early. This is not a
            // failure.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Failed(..) | Self::Output(_) | Self::Findings => 1,
        }
    }

    /// Returns the message for standard error, if there is one.
    pub(super) fn message(&self, as_json: bool) -> Option<String> {
        let (kind, subject, message) = match self {
            Self::Findings => return None,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return None,
            Self::Usage(message) => ("usage", None, message.clone()),
            Self::Output(error) => ("output", None, format!("the output cannot be written: {error}")),
            Self::Failed(subject, error) => {
                let mut message = error.to_string();
                let mut source = error.source();
                while let Some(cause) = source {
                    let said = cause.to_string();
                    // Many errors already contain the message of their cause.
                    if !message.contains(&said) {
                        message.push_str(&format!(": {said}"));
                    }
                    source = cause.source();
                }
                (error.kind().as_str(), subject.clone(), message)
            }
        };
        if as_json {
            return Some(json!({ "error": kind, "subject": subject, "message": message }).to_string());
        }
        let subject = subject.map(|subject| format!("{subject}: ")).unwrap_or_default();
        Some(format!("hudi-scd: {subject}{message}"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(None, error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

#[cfg(test)]
mod tests {
    use hudi_scd::ErrorKind;

    use super::*;

    #[test]
    fn a_cause_that_the_message_contains_is_not_repeated() {
        let cause =
            Error::new(ErrorKind::Storage, "dispatch failure").with_source(io::Error::other("refused"));
        let error = Error::new(ErrorKind::Storage, format!("try again: GetTable failed: {cause}: refused"));
        let message = Failure::from(error.with_source(cause)).message(false).unwrap();
        assert_eq!(message.matches("dispatch failure").count(), 1, "{message}");
        assert!(message.ends_with("dispatch failure: refused"), "{message}");
    }
}
