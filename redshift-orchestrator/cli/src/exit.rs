//! [`Exit`]: the exit codes.

use std::process::ExitCode;

use redshift_orchestrator::{Error, ErrorKind, Report};

/// Exit code of a command.
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
    0  every selected step finished
    1  a step failed, was cancelled, or was not submitted
    2  the usage, the pipeline file or a parameter is invalid; nothing was submitted
    3  the outcome of a statement is unknown: see `status`, then use `settle`
    4  another run is using the pipeline or the journal
    5  the service or the journal cannot be used
  130  interrupted before all steps were done";

impl Exit {
    /// Returns the exit code for an error that ended the command.
    pub(crate) fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Definition | ErrorKind::Invalid | ErrorKind::Unsupported => Self::Usage,
            ErrorKind::Overlap => Self::Overlap,
            _ => Self::Environment,
        }
    }

    /// Returns the exit code for the report of a run.
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
