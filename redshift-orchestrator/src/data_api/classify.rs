//! Maps responses and request failures to an [`ErrorKind`] by a single table.

use std::{
    error::Error as StdError,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use aws_sdk_redshiftdata::{
    config::{
        ConfigBag, Intercept, RuntimeComponents, http::HttpResponse,
        interceptors::BeforeTransmitInterceptorContextRef,
    },
    error::{BoxError, ProvideErrorMetadata, SdkError},
    operation::RequestId,
};

use crate::{Auth, Error, ErrorKind, Statement, StatementId, Target, service::causes};

/// Result of classifying a response: the last column of a row of [`TABLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    Kind(ErrorKind),
    /// The statement to cancel had already ended.
    AlreadyEnded,
}

/// Interpretation of a failed request.
#[derive(Debug)]
pub(super) enum Meaning {
    /// The statement to cancel had already ended.
    AlreadyEnded,
    /// The request failed.
    Error(Error),
}

use ErrorKind as K;
use Row::{AlreadyEnded, Kind};

/// Columns: the service's error code; the texts that its message must contain, ignoring case; and the
/// classification. The first matching row wins. A text that starts with `^` must be at the beginning of the
/// message.
///
/// A message can quote the request. `classify` therefore receives the message without SQL and values, and
/// ignores the text of validation errors, which consists of quotations.
///
/// AWS does not document the texts. They come from real responses: wrapped throttles (jitsucom/jitsu#1464),
/// expired records (hashicorp/terraform-provider-aws#26343), sessions (awslabs/mcp#4587), late cancellations
/// (grafana/redshift-datasource). Codes that are not in the model of any operation are common to all AWS
/// services.
///
/// A request that fails with one of three codes can succeed with renewed credentials: `ExpiredToken`,
/// `ExpiredTokenException` and `RequestExpired`, as in `credsExpiredCodes` of aws/aws-sdk-go
/// (`aws/request/retryer.go`). `UnrecognizedClientException` and `InvalidClientTokenId` mean that the key
/// itself is invalid, for example because it was deactivated; renewing the credentials does not help.
#[rustfmt::skip]
const TABLE: &[(&str, &[&str], Row)] = &[
    ("ValidationException",                  &["throttlingexception"],               Kind(K::Throttled)),
    ("ValidationException",                  &["rate exceeded"],                     Kind(K::Throttled)),
    ("ValidationException",                  &["^could not retrieve", "has expired after"], Kind(K::RecordExpired)),
    ("ValidationException",                  &["cancel", "already in", "state"],     AlreadyEnded),
    ("ValidationException",                  &["^session", "busy"],                  Kind(K::SessionBusy)),
    ("ValidationException",                  &["^session is not available"],         Kind(K::SessionGone)),
    ("ValidationException",                  &["^session with id", "is invalid"],    Kind(K::SessionGone)),
    ("ValidationException",                  &[],                                    Kind(K::Invalid)),
    ("ActiveStatementsExceededException",    &[],                                    Kind(K::TooManyStatements)),
    ("ActiveSessionsExceededException",      &[],                                    Kind(K::TooManySessions)),
    ("ActiveWaitingRequestsExceededException", &[],                                  Kind(K::TooManyWaiters)),
    ("ResourceNotFoundException",            &[],                                    Kind(K::NotFound)),
    ("DatabaseConnectionException",          &[],                                    Kind(K::DatabaseUnreachable)),
    ("QueryTimeoutException",                &[],                                    Kind(K::DatabaseUnreachable)),
    ("ExecuteStatementException",            &[],                                    Kind(K::ServiceFault)),
    ("BatchExecuteStatementException",       &[],                                    Kind(K::ServiceFault)),
    ("InternalServerException",              &[],                                    Kind(K::ServiceFault)),
    ("InternalFailure",                      &[],                                    Kind(K::ServiceFault)),
    ("ServiceUnavailable",                   &[],                                    Kind(K::ServiceFault)),
    ("ServiceUnavailableException",          &[],                                    Kind(K::ServiceFault)),
    ("ThrottlingException",                  &[],                                    Kind(K::Throttled)),
    ("Throttling",                           &[],                                    Kind(K::Throttled)),
    ("ThrottledException",                   &[],                                    Kind(K::Throttled)),
    ("RequestLimitExceeded",                 &[],                                    Kind(K::Throttled)),
    ("RequestThrottled",                     &[],                                    Kind(K::Throttled)),
    ("RequestThrottledException",            &[],                                    Kind(K::Throttled)),
    ("TooManyRequestsException",             &[],                                    Kind(K::Throttled)),
    ("SlowDown",                             &[],                                    Kind(K::Throttled)),
    ("AccessDenied",                         &[],                                    Kind(K::Denied)),
    ("AccessDeniedException",                &[],                                    Kind(K::Denied)),
    ("NotAuthorized",                        &[],                                    Kind(K::Denied)),
    ("UnrecognizedClientException",          &[],                                    Kind(K::Denied)),
    ("InvalidClientTokenId",                 &[],                                    Kind(K::Denied)),
    ("InvalidSignatureException",            &[],                                    Kind(K::Denied)),
    ("SignatureDoesNotMatch",                &[],                                    Kind(K::Denied)),
    ("IncompleteSignature",                  &[],                                    Kind(K::Denied)),
    ("IncompleteSignatureException",         &[],                                    Kind(K::Denied)),
    ("MissingAuthenticationToken",           &[],                                    Kind(K::Denied)),
    ("MissingAuthenticationTokenException",  &[],                                    Kind(K::Denied)),
    ("ExpiredToken",                         &[],                                    Kind(K::CredentialsExpired)),
    ("ExpiredTokenException",                &[],                                    Kind(K::CredentialsExpired)),
    ("RequestExpired",                       &[],                                    Kind(K::CredentialsExpired)),
    ("OptInRequired",                        &[],                                    Kind(K::Denied)),
    ("SerializationException",               &[],                                    Kind(K::Invalid)),
    ("UnknownOperationException",            &[],                                    Kind(K::Unsupported)),
];

/// Classifies a response by its HTTP status, for a response without a code or with a code that is not in the
/// table.
fn by_status(status: u16) -> ErrorKind {
    match status {
        // The service accepted the request, but its response is invalid.
        200..300 => ErrorKind::Disconnected,
        401 | 403 => ErrorKind::Denied,
        429 => ErrorKind::Throttled,
        500.. => ErrorKind::ServiceFault,
        _ => ErrorKind::Other,
    }
}

fn classify(code: Option<&str>, message: &str, status: u16) -> Row {
    let message = match is_report(message) {
        true => String::new(),
        false => message.to_ascii_lowercase(),
    };
    let has = |piece: &&str| match piece.strip_prefix('^') {
        Some(beginning) => message.starts_with(beginning),
        None => message.contains(piece),
    };
    TABLE
        .iter()
        .find(|(known, pieces, _)| code == Some(known) && pieces.iter().all(has))
        .map_or_else(|| Kind(by_status(status)), |(_, _, row)| *row)
}

/// Returns `true` for `1 validation error detected: Value '…' at 'sql' failed to satisfy constraint: …`.
fn is_report(message: &str) -> bool {
    let rest = message.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.len() < message.len() && rest.starts_with(" validation error")
}

/// Context for the errors of one request.
#[derive(Debug)]
pub(super) struct RequestContext {
    operation: &'static str,
    statement_id: Option<StatementId>,
    sending: Sending,
    /// Texts that the service may quote and that must not appear in an error.
    withheld: Vec<String>,
}

impl RequestContext {
    pub(super) fn new(operation: &'static str) -> Self {
        Self { operation, statement_id: None, sending: Sending::default(), withheld: Vec::new() }
    }

    /// Returns an interceptor that records whether the request was passed to the HTTP client.
    pub(super) fn sending(&self) -> impl Intercept + 'static {
        self.sending.clone()
    }

    /// Sets the statement of the request.
    pub(super) fn about(mut self, id: &StatementId) -> Self {
        self.statement_id = Some(id.clone());
        self
    }

    /// Registers the statement's SQL and parameter values and the target's secret for removal from the
    /// service's messages. The service quotes the members that it rejects.
    pub(super) fn withholding(mut self, statement: &Statement, target: &Target) -> Self {
        self.withheld.extend(statement.sqls().iter().cloned());
        // A value is removed only with its quotes; otherwise the value `1` would remove every 1 from a
        // message.
        self.withheld.extend(statement.parameters().iter().map(|parameter| format!("'{}'", parameter.value)));
        self.withheld.retain(|text| !text.trim().is_empty());
        self.withholding_secret(target)
    }

    /// Registers the target's secret for removal from the service's messages.
    pub(super) fn withholding_secret(mut self, target: &Target) -> Self {
        if let Auth::Secret(arn) = target.auth()
            && !arn.trim().is_empty()
        {
            self.withheld.push(arn.clone());
        }
        self
    }

    /// Converts a failure to an error. `statement_id` is the id in the service's response, if there is one.
    pub(super) fn error<E>(&self, failure: SdkError<E, HttpResponse>, statement_id: Option<String>) -> Error
    where
        E: StdError + ProvideErrorMetadata + RequestId + Send + Sync + 'static,
    {
        match self.meaning(failure, statement_id) {
            Meaning::Error(error) => error,
            Meaning::AlreadyEnded => {
                self.describe(ErrorKind::Invalid, "the statement has already ended", None)
            }
        }
    }

    /// Interprets a failure, for a cancel: the rejected cancel of a statement that has ended is not an error.
    pub(super) fn meaning<E>(
        &self,
        failure: SdkError<E, HttpResponse>,
        statement_id: Option<String>,
    ) -> Meaning
    where
        E: StdError + ProvideErrorMetadata + RequestId + Send + Sync + 'static,
    {
        let service = match failure {
            SdkError::ServiceError(service) => service,
            failure => return Meaning::Error(self.on_the_way(failure)),
        };
        let service_error = service.err();
        let message = service_error.message().unwrap_or_default();
        let status = service.raw().status().as_u16();
        let kind = match classify(service_error.code(), &self.withhold(message), status) {
            AlreadyEnded => return Meaning::AlreadyEnded,
            Kind(kind) => self.of_all_attempts(kind),
        };
        // The SDK's error is not kept as the source, because it contains the service's message verbatim.
        let mut error = match message {
            "" if kind == ErrorKind::Disconnected => {
                self.describe(kind, "the response could not be read", statement_id)
            }
            "" => self.describe(kind, format!("HTTP status {status} without a message"), statement_id),
            message => self.describe(kind, self.withhold(message), statement_id),
        };
        if let Some(id) = service_error.request_id() {
            error = error.with_context("request_id", id);
        }
        if let Some(code) = service_error.code() {
            error = error.with_code(code);
        }
        if let Some(pause) = retry_after(service.raw()) {
            error = error.with_retry_after(pause);
        }
        Meaning::Error(error)
    }

    /// Converts a failure to send the request or to receive the response.
    fn on_the_way<E>(&self, failure: SdkError<E, HttpResponse>) -> Error
    where
        E: StdError + Send + Sync + 'static,
    {
        let (kind, message) = match &failure {
            _ if !self.sending.began() => (ErrorKind::NotSent, "the request could not be built or signed"),
            SdkError::DispatchFailure(failure)
                if failure.as_connector_error().is_some_and(|e| unconnected(e)) =>
            {
                (ErrorKind::NotSent, "no connection to the service")
            }
            SdkError::DispatchFailure(_) => {
                (ErrorKind::Disconnected, "the connection was lost before a response")
            }
            SdkError::TimeoutError(_) => (ErrorKind::Disconnected, "no response in time"),
            SdkError::ResponseError(_) => (ErrorKind::Disconnected, "the response could not be read"),
            _ => (ErrorKind::Other, "the SDK returned an error that this version does not recognise"),
        };
        let kind = self.of_all_attempts(kind);
        let cause = self.withhold(&innermost(&failure));
        let mut error = self.describe(kind, format!("{message}: {cause}"), None);
        if let Some(endpoint) = self.sending.0.endpoint.get() {
            error = error.with_context("endpoint", endpoint);
        }
        match failure.into_source() {
            Ok(source) => error.with_source(source),
            Err(failure) => error.with_source(failure.to_string()),
        }
    }

    /// Returns the kind of an error after all attempts of the SDK. If the SDK sent a submit more than once,
    /// an earlier attempt may have taken effect, even if the last one did not.
    fn of_all_attempts(&self, kind: ErrorKind) -> ErrorKind {
        let is_submit = ["ExecuteStatement", "BatchExecuteStatement"].contains(&self.operation);
        match is_submit && self.sending.attempts() > 1 && !kind.may_have_taken_effect() {
            true => ErrorKind::Disconnected,
            false => kind,
        }
    }

    fn describe(&self, kind: ErrorKind, message: impl Into<String>, statement_id: Option<String>) -> Error {
        let error = Error::new(kind, message).with_context("operation", self.operation);
        let named = statement_id.filter(|id| !id.is_empty()).map(StatementId::new);
        match self.statement_id.clone().or(named) {
            Some(id) => error.with_context("statement_id", id),
            None => error,
        }
    }

    fn withhold(&self, message: &str) -> String {
        self.withheld.iter().fold(message.to_owned(), |message, text| message.replace(text, "[withheld]"))
    }
}

/// Interceptor that records when the SDK passes the request to the HTTP client. After an earlier failure
/// (credentials, endpoint, signature), the request was not sent. The SDK's errors do not distinguish such a
/// failure from a broken connection.
#[derive(Clone, Debug, Default)]
struct Sending(Arc<Sent>);

#[derive(Debug, Default)]
struct Sent {
    /// URI of the request, as context for errors.
    endpoint: OnceLock<String>,
    /// Number of attempts. It exceeds one only if the configuration of the client lets the SDK retry.
    attempts: AtomicU32,
}

impl Sending {
    fn began(&self) -> bool {
        self.attempts() > 0
    }

    fn attempts(&self) -> u32 {
        self.0.attempts.load(Ordering::Relaxed)
    }
}

impl Intercept for Sending {
    fn name(&self) -> &'static str {
        "Sending"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.attempts.fetch_add(1, Ordering::Relaxed);
        // A second attempt has the same URI, so a failure to set it again is ignored.
        let _ = self.0.endpoint.set(context.request().uri().trim_end_matches('/').to_owned());
        Ok(())
    }
}

/// Returns `true` if no connection was made: the name did not resolve, the connection was refused, or the TLS
/// handshake failed. Only the HTTP client's error, in the chain of sources of the SDK's error, contains this
/// information.
fn unconnected(error: &(dyn StdError + 'static)) -> bool {
    std::iter::once(error).chain(causes(error)).any(|error| {
        error.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(|error| error.is_connect())
    })
}

/// Returns the text of the root cause of an error, usually the most useful part.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().unwrap_or(error).to_string()
}

/// Returns the pause in the `Retry-After` header. The header could also contain a date, but AWS only sends
/// seconds.
fn retry_after(response: &HttpResponse) -> Option<Duration> {
    response.headers().get("retry-after")?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_is_reachable() {
        for (code, pieces, row) in TABLE {
            assert_eq!(
                classify(Some(code), &pieces.join(" … ").replace('^', "").to_uppercase(), 400),
                *row,
                "{code} {pieces:?}"
            );
        }
    }

    #[test]
    fn a_message_is_classified_only_with_its_code() {
        assert_eq!(
            classify(Some("WeatherException"), "Session is not available", 400),
            Kind(ErrorKind::Other)
        );
        assert_eq!(classify(None, "rate exceeded", 400), Kind(ErrorKind::Other));
    }

    /// Regression: the service quoted the SQL of a statement, and the message was classified by words in the
    /// SQL. The statement was resubmitted for 15 minutes, or reported as expired.
    #[test]
    fn text_sent_by_the_caller_is_not_classified() {
        for message in [
            "1 validation error detected: Value 'SELECT ''rate exceeded''' at 'sql' failed to satisfy constraint: Member must have length less than or equal to 100000",
            "2 validation errors detected: Value 'has expired after' at 'statementName' failed; Value 'session busy' at 'database' failed",
            "Invalid name: nightly session is busy",
            "The record has expired after all is not a valid name",
        ] {
            assert_eq!(
                classify(Some("ValidationException"), message, 400),
                Kind(ErrorKind::Invalid),
                "{message}"
            );
        }
    }
}
