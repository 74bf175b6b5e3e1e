//! [`Error`]: the names that `ErrorEquals` in a state machine can match.

use std::borrow::Cow;

use lambda_runtime::Diagnostic;
use redshift_orchestrator::{Error as ServiceError, ErrorKind};
use thiserror::Error as ThisError;

use crate::sentence::{LONGEST_SENTENCE, cut, sentence};

/// The reason for a failed invocation. A failed statement is a reply; it is an error only if the event asks
/// for one.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// The handler does not accept the event. Correct the state machine's input.
    #[error("{0}")]
    BadInput(String),
    /// The function's environment is incomplete or contradictory. Correct the deployment.
    #[error("{0}")]
    Config(String),
    /// The service did not respond before the function's timeout. Invoke the function again with the same
    /// event: if the token of a submit came from the event, the statement does not run twice. Increase the
    /// function's timeout. The message says what is unknown.
    #[error(
        "no response before the function's timeout, so {0}; invoke again with the same event, or set a longer timeout"
    )]
    Deadline(String),
    /// The reply exceeds the maximum size of Step Functions. The message names another way to get the data.
    #[error("{0}")]
    TooLarge(String),
    /// The statement has not finished, and the event asked for an error in this case.
    #[error("{cause}")]
    Statement {
        /// The error name: one of [`Error::STATEMENT`].
        name: &'static str,
        /// The database's error text, or the status.
        cause: String,
    },
    /// Step Functions did not accept the completion of a task. Deliver the event again.
    #[error("{0}")]
    Tasks(String),
    /// An error of the Hudi table or of its raw files. The cause says what happened to the table and what to
    /// do.
    #[error("{cause}")]
    Hudi {
        /// The error name: one of [`Error::HUDI`].
        name: &'static str,
        /// The reason, and the remedy.
        cause: String,
    },
    /// An error of a job, the catalog, a crawler or the journal of Glue.
    #[error("{cause}")]
    Glue {
        /// The error name: one of [`Error::GLUE`].
        name: &'static str,
        /// The reason, and the remedy.
        cause: String,
    },
    /// A bug in the function itself. Its log has the details.
    #[error("the function panicked; see its log for the location")]
    Internal,
    /// An error of the service, or of the connection to it.
    #[error("{}", sentence(.0))]
    Service(#[from] ServiceError),
}

/// The naming scheme for the service's errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ErrorNames {
    /// The plain class names that a Python handler over boto3 raises, such as `ValidationException`, and
    /// `ClientError` for codes that the service's model lacks. State machines written for the reference
    /// solution match these names.
    #[default]
    Boto3,
    /// The names that Step Functions itself uses when it calls the service directly, such as
    /// `RedshiftData.ValidationException`, and more specific names where this library knows more. Use these
    /// names in new state machines.
    Qualified,
}

/// The errors in the service's model. SDKs have a class for each of them.
const MODELLED: [&str; 10] = [
    "ActiveSessionsExceededException",
    "ActiveStatementsExceededException",
    "ActiveWaitingRequestsExceededException",
    "BatchExecuteStatementException",
    "DatabaseConnectionException",
    "ExecuteStatementException",
    "InternalServerException",
    "QueryTimeoutException",
    "ResourceNotFoundException",
    "ValidationException",
];

impl Error {
    /// The error names of statements that have not finished.
    pub const STATEMENT: [&'static str; 4] =
        ["Statement.Aborted", "Statement.Failed", "Statement.Running", "Statement.Unknown"];

    /// The error names of the handler `hudi`.
    pub const HUDI: [&'static str; 13] = [
        "Hudi.Conflict",
        "Hudi.Corrupt",
        "Hudi.Deadline",
        "Hudi.Denied",
        "Hudi.FileNotFound",
        "Hudi.InvalidDefinition",
        "Hudi.InvalidInput",
        "Hudi.NotFound",
        "Hudi.Other",
        "Hudi.Storage",
        "Hudi.TooLarge",
        "Hudi.Unknown",
        "Hudi.Unsupported",
    ];

    /// The error names of the handler `glue`.
    pub const GLUE: [&'static str; 16] = [
        "Glue.Conflict",
        "Glue.Deadline",
        "Glue.Denied",
        "Glue.Failed",
        "Glue.ForeignTable",
        "Glue.Invalid",
        "Glue.NotFound",
        "Glue.Other",
        "Glue.Running",
        "Glue.Stopped",
        "Glue.Throttled",
        "Glue.TimedOut",
        "Glue.TooManyRuns",
        "Glue.Unavailable",
        "Glue.Unknown",
        "Glue.Unsupported",
    ];

    /// The error name of the handler `glue` at its deadline.
    #[cfg(feature = "glue")]
    pub(crate) const GLUE_DEADLINE: &'static str = "Glue.Deadline";

    /// The error name of the handler `hudi` at its deadline.
    #[cfg(feature = "hudi")]
    pub(crate) const HUDI_DEADLINE: &'static str = "Hudi.Deadline";

    /// Adds to the error of a request without a response what is unknown because of it. Returns any other
    /// error unchanged.
    pub(crate) fn unfinished(self, what: impl FnOnce() -> String) -> Self {
        match self {
            Self::Deadline(_) => Self::Deadline(what()),
            other => other,
        }
    }

    /// Returns `true` if the message may quote SQL or values, which must not be logged.
    pub(crate) fn may_quote(&self) -> bool {
        matches!(
            self,
            Self::Service(_)
                | Self::Statement { .. }
                | Self::Hudi { name: "Hudi.InvalidInput", .. }
                | Self::Glue { name: "Glue.Failed" | "Glue.Stopped" | "Glue.TimedOut", .. }
        )
    }

    /// Returns a copy of the error for another message of the same event.
    #[cfg(feature = "hudi")]
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Hudi { name, cause } => Self::Hudi { name, cause: cause.clone() },
            other => Self::Hudi { name: "Hudi.Other", cause: other.to_string() },
        }
    }

    /// Returns the name that `ErrorEquals` matches. [`ErrorNames::all`] lists all names.
    pub fn name(&self, names: ErrorNames) -> Cow<'static, str> {
        match self {
            Self::BadInput(_) => "SfnAdapter.BadInput".into(),
            Self::Config(_) => "SfnAdapter.Config".into(),
            Self::Deadline(_) => "SfnAdapter.Deadline".into(),
            Self::Internal => "SfnAdapter.Internal".into(),
            Self::TooLarge(_) => "SfnAdapter.TooLarge".into(),
            Self::Tasks(_) => "SfnAdapter.Tasks".into(),
            Self::Statement { name, .. } | Self::Hudi { name, .. } | Self::Glue { name, .. } => {
                (*name).into()
            }
            Self::Service(error) => match names {
                ErrorNames::Boto3 => boto3(error).into(),
                ErrorNames::Qualified => format!("RedshiftData.{}", qualified(error)).into(),
            },
        }
    }
}

fn modelled(error: &ServiceError) -> Option<&'static str> {
    MODELLED.into_iter().find(|name| error.code() == Some(*name))
}

fn boto3(error: &ServiceError) -> &'static str {
    match (modelled(error), error.code(), error.kind()) {
        (Some(name), _, _) => name,
        (None, Some(_), _) => "ClientError",
        (None, None, ErrorKind::NotSent) => "EndpointConnectionError",
        (None, None, ErrorKind::Disconnected) => "ConnectionClosedError",
        (None, None, _) => "ClientError",
    }
}

fn qualified(error: &ServiceError) -> &'static str {
    match (error.kind(), modelled(error)) {
        // In these cases the error kind is more specific than the code.
        (ErrorKind::Throttled, _) => "ThrottlingException",
        (ErrorKind::RecordExpired, _) => "StatementExpired",
        (ErrorKind::Denied | ErrorKind::CredentialsExpired, _) => "AccessDeniedException",
        (_, Some(name)) => name,
        (ErrorKind::NotSent, None) => "NotSent",
        (ErrorKind::Disconnected, None) => "Disconnected",
        (ErrorKind::ServiceFault, None) => "InternalServerException",
        // Step Functions uses this name for a code without a class.
        (_, None) => "RedshiftDataException",
    }
}

impl ErrorNames {
    /// Returns every name that can reach a state machine.
    pub fn all(self) -> Vec<String> {
        let own = ["BadInput", "Config", "Deadline", "Internal", "Tasks", "TooLarge"];
        let own = own.map(|name| format!("SfnAdapter.{name}")).into_iter();
        let own = own.chain(Error::STATEMENT.map(str::to_owned)).chain(Error::HUDI.map(str::to_owned));
        let own = own.chain(Error::GLUE.map(str::to_owned));
        let (prefix, more): (_, &[&str]) = match self {
            Self::Boto3 => ("", &["ClientError", "ConnectionClosedError", "EndpointConnectionError"]),
            Self::Qualified => (
                "RedshiftData.",
                &[
                    "AccessDeniedException",
                    "Disconnected",
                    "NotSent",
                    "RedshiftDataException",
                    "StatementExpired",
                    "ThrottlingException",
                ],
            ),
        };
        let mut service: Vec<_> = MODELLED.iter().chain(more).map(|name| format!("{prefix}{name}")).collect();
        service.sort();
        own.chain(service).collect()
    }
}

/// An error and its naming scheme.
#[derive(Debug)]
pub struct Reported {
    /// The error.
    pub error: Error,
    /// The naming scheme.
    pub names: ErrorNames,
}

impl From<Reported> for Diagnostic {
    fn from(Reported { error, names }: Reported) -> Self {
        Self {
            error_type: error.name(names).into_owned(),
            error_message: cut(&error.to_string(), LONGEST_SENTENCE),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn answered(kind: ErrorKind, code: &str) -> Error {
        Error::Service(ServiceError::new(kind, "message").with_code(code))
    }

    #[rstest]
    #[case(Error::BadInput(String::new()), "SfnAdapter.BadInput", "SfnAdapter.BadInput")]
    #[case(Error::Config(String::new()), "SfnAdapter.Config", "SfnAdapter.Config")]
    #[case(Error::Deadline(String::new()), "SfnAdapter.Deadline", "SfnAdapter.Deadline")]
    #[case(Error::Internal, "SfnAdapter.Internal", "SfnAdapter.Internal")]
    #[case(Error::Tasks(String::new()), "SfnAdapter.Tasks", "SfnAdapter.Tasks")]
    #[case(Error::TooLarge(String::new()), "SfnAdapter.TooLarge", "SfnAdapter.TooLarge")]
    #[case(Error::Statement { name: "Statement.Failed", cause: String::new() }, "Statement.Failed", "Statement.Failed")]
    #[case(
        answered(ErrorKind::Invalid, "ValidationException"),
        "ValidationException",
        "RedshiftData.ValidationException"
    )]
    #[case(
        answered(ErrorKind::NotFound, "ResourceNotFoundException"),
        "ResourceNotFoundException",
        "RedshiftData.ResourceNotFoundException"
    )]
    #[case(
        answered(ErrorKind::TooManyStatements, "ActiveStatementsExceededException"),
        "ActiveStatementsExceededException",
        "RedshiftData.ActiveStatementsExceededException"
    )]
    #[case(
        answered(ErrorKind::ServiceFault, "ExecuteStatementException"),
        "ExecuteStatementException",
        "RedshiftData.ExecuteStatementException"
    )]
    #[case(
        answered(ErrorKind::RecordExpired, "ValidationException"),
        "ValidationException",
        "RedshiftData.StatementExpired"
    )]
    #[case(
        answered(ErrorKind::Throttled, "ValidationException"),
        "ValidationException",
        "RedshiftData.ThrottlingException"
    )]
    #[case(
        answered(ErrorKind::Throttled, "ThrottlingException"),
        "ClientError",
        "RedshiftData.ThrottlingException"
    )]
    #[case(
        answered(ErrorKind::CredentialsExpired, "ExpiredTokenException"),
        "ClientError",
        "RedshiftData.AccessDeniedException"
    )]
    #[case(
        answered(ErrorKind::ServiceFault, "InternalFailure"),
        "ClientError",
        "RedshiftData.InternalServerException"
    )]
    #[case(
        answered(ErrorKind::Other, "WeatherException"),
        "ClientError",
        "RedshiftData.RedshiftDataException"
    )]
    #[case(ServiceError::new(ErrorKind::NotSent, "").into(), "EndpointConnectionError", "RedshiftData.NotSent")]
    #[case(ServiceError::new(ErrorKind::Disconnected, "").into(), "ConnectionClosedError", "RedshiftData.Disconnected")]
    #[case(ServiceError::new(ErrorKind::ServiceFault, "").into(), "ClientError", "RedshiftData.InternalServerException")]
    fn every_error_has_its_names(#[case] error: Error, #[case] boto3: &str, #[case] qualified: &str) {
        for (names, name) in [(ErrorNames::Boto3, boto3), (ErrorNames::Qualified, qualified)] {
            assert_eq!(error.name(names), name);
            assert!(names.all().contains(&name.to_owned()), "{name} is not listed");
        }
    }

    #[test]
    fn the_names_are_these() {
        assert_eq!(
            ErrorNames::Boto3.all(),
            [
                "SfnAdapter.BadInput",
                "SfnAdapter.Config",
                "SfnAdapter.Deadline",
                "SfnAdapter.Internal",
                "SfnAdapter.Tasks",
                "SfnAdapter.TooLarge",
                "Statement.Aborted",
                "Statement.Failed",
                "Statement.Running",
                "Statement.Unknown",
                "Hudi.Conflict",
                "Hudi.Corrupt",
                "Hudi.Deadline",
                "Hudi.Denied",
                "Hudi.FileNotFound",
                "Hudi.InvalidDefinition",
                "Hudi.InvalidInput",
                "Hudi.NotFound",
                "Hudi.Other",
                "Hudi.Storage",
                "Hudi.TooLarge",
                "Hudi.Unknown",
                "Hudi.Unsupported",
                "Glue.Conflict",
                "Glue.Deadline",
                "Glue.Denied",
                "Glue.Failed",
                "Glue.ForeignTable",
                "Glue.Invalid",
                "Glue.NotFound",
                "Glue.Other",
                "Glue.Running",
                "Glue.Stopped",
                "Glue.Throttled",
                "Glue.TimedOut",
                "Glue.TooManyRuns",
                "Glue.Unavailable",
                "Glue.Unknown",
                "Glue.Unsupported",
                "ActiveSessionsExceededException",
                "ActiveStatementsExceededException",
                "ActiveWaitingRequestsExceededException",
                "BatchExecuteStatementException",
                "ClientError",
                "ConnectionClosedError",
                "DatabaseConnectionException",
                "EndpointConnectionError",
                "ExecuteStatementException",
                "InternalServerException",
                "QueryTimeoutException",
                "ResourceNotFoundException",
                "ValidationException",
            ]
        );
        assert_eq!(
            ErrorNames::Qualified.all(),
            [
                "SfnAdapter.BadInput",
                "SfnAdapter.Config",
                "SfnAdapter.Deadline",
                "SfnAdapter.Internal",
                "SfnAdapter.Tasks",
                "SfnAdapter.TooLarge",
                "Statement.Aborted",
                "Statement.Failed",
                "Statement.Running",
                "Statement.Unknown",
                "Hudi.Conflict",
                "Hudi.Corrupt",
                "Hudi.Deadline",
                "Hudi.Denied",
                "Hudi.FileNotFound",
                "Hudi.InvalidDefinition",
                "Hudi.InvalidInput",
                "Hudi.NotFound",
                "Hudi.Other",
                "Hudi.Storage",
                "Hudi.TooLarge",
                "Hudi.Unknown",
                "Hudi.Unsupported",
                "Glue.Conflict",
                "Glue.Deadline",
                "Glue.Denied",
                "Glue.Failed",
                "Glue.ForeignTable",
                "Glue.Invalid",
                "Glue.NotFound",
                "Glue.Other",
                "Glue.Running",
                "Glue.Stopped",
                "Glue.Throttled",
                "Glue.TimedOut",
                "Glue.TooManyRuns",
                "Glue.Unavailable",
                "Glue.Unknown",
                "Glue.Unsupported",
                "RedshiftData.AccessDeniedException",
                "RedshiftData.ActiveSessionsExceededException",
                "RedshiftData.ActiveStatementsExceededException",
                "RedshiftData.ActiveWaitingRequestsExceededException",
                "RedshiftData.BatchExecuteStatementException",
                "RedshiftData.DatabaseConnectionException",
                "RedshiftData.Disconnected",
                "RedshiftData.ExecuteStatementException",
                "RedshiftData.InternalServerException",
                "RedshiftData.NotSent",
                "RedshiftData.QueryTimeoutException",
                "RedshiftData.RedshiftDataException",
                "RedshiftData.ResourceNotFoundException",
                "RedshiftData.StatementExpired",
                "RedshiftData.ThrottlingException",
                "RedshiftData.ValidationException",
            ]
        );
    }

    #[test]
    fn step_functions_can_match_on_every_name() {
        for name in ErrorNames::Boto3.all().into_iter().chain(ErrorNames::Qualified.all()) {
            assert!(!name.starts_with("States.") && name.len() <= 256, "{name}");
        }
    }

    #[test]
    fn a_diagnostic_carries_name_and_message() {
        let error = Error::BadInput("the event is not a JSON object".to_owned());
        let diagnostic = Diagnostic::from(Reported { error, names: ErrorNames::Qualified });
        assert_eq!(diagnostic.error_type, "SfnAdapter.BadInput");
        assert_eq!(diagnostic.error_message, "the event is not a JSON object");
        let error = Error::Statement { name: "Statement.Failed", cause: "x".repeat(1 << 20) };
        let diagnostic = Diagnostic::from(Reported { error, names: ErrorNames::Qualified });
        assert!(diagnostic.error_message.len() < 11_000);
    }
}
