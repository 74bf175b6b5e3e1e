//! [`Refusal`]: an error response, and the conversion of an executor's errors to it.

use std::{fmt, time::Duration};

use serde_json::{Map, Value, json};

use super::operation::Operation;
use redshift_orchestrator::{Error, ErrorKind, StatementId, Status};

/// The error response to a request.
#[derive(Debug)]
pub(super) enum Refusal {
    Exception {
        /// Name of the error in the service's model.
        code: String,
        message: String,
        /// Additional member that some errors have, and its value.
        member: Option<(&'static str, String)>,
        retry_after: Option<Duration>,
    },
    /// Close the connection without a response, as after a network failure.
    HangUp,
}

/// Errors with status 500 (`fault: true` in the service's model). All others have status 400.
const FAULTS: [&str; 5] = [
    "ExecuteStatementException",
    "BatchExecuteStatementException",
    "DatabaseConnectionException",
    "InternalServerException",
    "InternalFailure",
];

impl Refusal {
    pub(super) fn exception(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Exception { code: code.into(), message: message.into(), member: None, retry_after: None }
    }

    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::exception("ValidationException", message)
    }

    pub(super) fn not_found(id: &str, message: impl Into<String>) -> Self {
        Self::exception("ResourceNotFoundException", message).with_member("ResourceId", id)
    }

    /// Returns the service's error for a cancel of a statement that has already ended.
    pub(super) fn already_ended(id: &StatementId, status: &Status) -> Self {
        Self::validation(format!("Could not cancel a query that is already in {status} state with ID: {id}"))
    }

    fn with_member(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if let Self::Exception { member, .. } = &mut self {
            *member = Some((name, value.into()));
        }
        self
    }

    /// Converts an executor's error to an error of the service.
    pub(super) fn of(operation: Operation, error: &Error) -> Self {
        use ErrorKind as K;
        let internal = match operation {
            Operation::ExecuteStatement => "ExecuteStatementException",
            Operation::BatchExecuteStatement => "BatchExecuteStatementException",
            _ => "InternalServerException",
        };
        let usual = match error.kind() {
            K::NotSent | K::Disconnected => return Self::HangUp,
            K::Throttled => "ThrottlingException",
            K::TooManyStatements => "ActiveStatementsExceededException",
            K::TooManySessions => "ActiveSessionsExceededException",
            K::TooManyWaiters => "ActiveWaitingRequestsExceededException",
            K::NotFound => "ResourceNotFoundException",
            K::RecordExpired
            | K::SessionGone
            | K::SessionBusy
            | K::Invalid
            | K::Unsupported
            | K::Definition => "ValidationException",
            K::Denied => "AccessDeniedException",
            K::CredentialsExpired => "ExpiredTokenException",
            K::DatabaseUnreachable if operation.connects() => "DatabaseConnectionException",
            // Includes `ServiceFault`, `Journal`, `Overlap`, `IdentityConflict`, `Other`, and future kinds.
            _ => internal,
        };
        let code = error.code().unwrap_or(usual);
        let id = error.context("statement_id").unwrap_or_default();
        let refusal = Self::Exception {
            code: code.to_owned(),
            message: error.message().to_owned(),
            member: None,
            retry_after: error.retry_after(),
        };
        match code {
            "ResourceNotFoundException" => refusal.with_member("ResourceId", id),
            "ExecuteStatementException" | "BatchExecuteStatementException" => {
                refusal.with_member("StatementId", id)
            }
            _ => refusal,
        }
    }
}

/// An error response that can be sent.
pub(super) struct Worded {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) body: Value,
    pub(super) retry_after: Option<Duration>,
}

impl Refusal {
    /// Returns the response, or `None` if the connection must be closed without one.
    pub(super) fn worded(self) -> Option<Worded> {
        let Self::Exception { code, message, member, retry_after } = self else { return None };
        let mut body = Map::new();
        body.insert("__type".to_owned(), json!(code));
        // Errors of the service's model have a member `Message`, and errors common to all AWS services have
        // `message`. The SDKs accept both.
        let modelled = code.ends_with("Exception") && !COMMON.contains(&code.as_str());
        body.insert(if modelled { "Message" } else { "message" }.to_owned(), json!(message));
        body.extend(member.map(|(name, value)| (name.to_owned(), json!(value))));
        let status = if FAULTS.contains(&code.as_str()) { 500 } else { 400 };
        Some(Worded { status, code, body: Value::Object(body), retry_after })
    }
}

const COMMON: [&str; 4] =
    ["ThrottlingException", "AccessDeniedException", "SerializationException", "UnknownOperationException"];

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exception { code, message, .. } => write!(f, "{code}: {message}"),
            Self::HangUp => f.write_str("the connection was closed without a response"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_services_name_and_status() {
        use ErrorKind as K;
        for (operation, kind, code, status) in [
            (Operation::ExecuteStatement, K::Throttled, "ThrottlingException", 400),
            (Operation::ExecuteStatement, K::TooManyStatements, "ActiveStatementsExceededException", 400),
            (Operation::ExecuteStatement, K::TooManySessions, "ActiveSessionsExceededException", 400),
            (Operation::DescribeStatement, K::TooManyWaiters, "ActiveWaitingRequestsExceededException", 400),
            (Operation::DescribeStatement, K::NotFound, "ResourceNotFoundException", 400),
            (Operation::DescribeStatement, K::RecordExpired, "ValidationException", 400),
            (Operation::ExecuteStatement, K::SessionBusy, "ValidationException", 400),
            (Operation::ExecuteStatement, K::Denied, "AccessDeniedException", 400),
            (Operation::ExecuteStatement, K::ServiceFault, "ExecuteStatementException", 500),
            (Operation::BatchExecuteStatement, K::DatabaseUnreachable, "BatchExecuteStatementException", 500),
            (Operation::ListTables, K::DatabaseUnreachable, "DatabaseConnectionException", 500),
            (Operation::ListStatements, K::Other, "InternalServerException", 500),
        ] {
            let worded = Refusal::of(operation, &Error::new(kind, "text")).worded().unwrap();
            assert_eq!((worded.code.as_str(), worded.status), (code, status), "{kind}");
        }
    }

    #[test]
    fn network_errors_have_no_error_body() {
        for kind in [ErrorKind::NotSent, ErrorKind::Disconnected] {
            assert!(Refusal::of(Operation::ExecuteStatement, &Error::new(kind, "text")).worded().is_none());
        }
    }

    #[test]
    fn the_executors_error_code_is_kept_with_its_member() {
        let error = Error::new(ErrorKind::Throttled, "Rate exceeded").with_code("ValidationException");
        let worded = Refusal::of(Operation::DescribeStatement, &error).worded().unwrap();
        assert_eq!(worded.body, json!({"__type": "ValidationException", "Message": "Rate exceeded"}));
        let error =
            Error::new(ErrorKind::NotFound, "Query does not exist.").with_context("statement_id", "id-1");
        let worded = Refusal::of(Operation::DescribeStatement, &error).worded().unwrap();
        assert_eq!(
            worded.body,
            json!({"__type": "ResourceNotFoundException", "Message": "Query does not exist.", "ResourceId": "id-1"})
        );
    }
}
