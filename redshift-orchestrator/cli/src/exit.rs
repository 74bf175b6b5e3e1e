//! [`Exit`]: what the exit code says.

use std::process::ExitCode;

use redshift_orchestrator::{Error, ErrorKind, Report};

/// What became of the command, as an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Success = 0,
    Failed = 1,
    Usage = 2,
    Unknown = 3,
    Overlap = 4,
    Environment = 5,
    Interrupted = 130,
}

pub(crate) const HELP: &str = "Exit codes:
    0  every step that was to run finished
    1  a step failed, was cancelled, or was not submitted
    2  bad usage, pipeline file or parameter; nothing was submitted
    3  the fate of a statement is unknown: see `status`, then `settle`
    4  refused: the pipeline, or the journal, is in use by another run
    5  the service or the journal cannot be used
  130  interrupted before everything was done";

impl Exit {
    /// The code of an error that ended the command.
    pub(crate) fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Definition | ErrorKind::Invalid | ErrorKind::Unsupported => Self::Usage,
            ErrorKind::Overlap => Self::Overlap,
            _ => Self::Environment,
        }
    }

    /// The code of a run that came to its end.
    pub(crate) fn of_report(report: &Report, interrupted: bool) -> Self {
        match report {
            report if report.is_success() => Self::Success,
            report if report.has_unknown() => Self::Unknown,
            _ if interrupted => Self::Interrupted,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
