//! [`Failure`]: why a command did not succeed, and what the process says about it.

use std::{error::Error as _, io};

use hudi_scd::Error;
use serde_json::json;

/// Why a command ends without success.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command line contradicts itself or the table: exit code 2.
    Usage(String),
    /// Something went wrong: exit code 1. The first is what it happened to, as the command line names it.
    Failed(Option<String>, Error),
    /// The output cannot be written: exit code 1, but nobody is left to tell if a pipe was closed.
    Output(io::Error),
    /// `validate` found something, which it told on its own: exit code 1.
    Findings,
}

impl Failure {
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// Names what it happened to, unless it is named already.
    pub(super) fn of(self, subject: impl std::fmt::Display) -> Self {
        match self {
            Self::Failed(None, error) => Self::Failed(Some(subject.to_string()), error),
            other => other,
        }
    }

    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            // `hudi-scd read … | head`: the reader has had enough, which is no failure.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Failed(..) | Self::Output(_) | Self::Findings => 1,
        }
    }

    /// What standard error says, if anything.
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
                    // Many say what caused them in their own words already.
                    if !message.ends_with(&said) {
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
