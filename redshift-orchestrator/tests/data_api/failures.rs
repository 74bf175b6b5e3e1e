//! Errors of the service for every row of the classification table, and requests that are lost.

use std::{sync::Arc, time::Duration};

use aws_config::retry::RetryConfig;
use redshift_orchestrator::{
    DataApiExecutor, Error,
    ErrorKind::{self, *},
    Statement, StatementExecutor, StatementId,
};
use rstest::rstest;
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    ID, SECRET, executor,
    http::{Reply, Server},
    sdk, target,
};

async fn submit_error(reply: Reply) -> Error {
    let server = Server::replying([reply]).await;
    let error = executor(&server.url()).submit(&Statement::sql("CALL load()"), None).await.unwrap_err();
    assert_eq!(server.requests().len(), 1, "the SDK must not retry");
    error
}

#[rstest]
// Throttling, plain and wrapped in another error.
#[case(400, "ThrottlingException", "Rate exceeded", Throttled)]
#[case(400, "Throttling", "Rate exceeded", Throttled)]
#[case(400, "ThrottledException", "", Throttled)]
#[case(400, "RequestLimitExceeded", "", Throttled)]
#[case(400, "RequestThrottled", "", Throttled)]
#[case(400, "RequestThrottledException", "", Throttled)]
#[case(429, "TooManyRequestsException", "", Throttled)]
#[case(503, "SlowDown", "", Throttled)]
#[case(
    400,
    "ValidationException",
    "Failed to get credentials, error code ThrottlingException (Service: RedshiftServerless)",
    Throttled
)]
#[case(400, "ValidationException", "Could not describe cluster: Rate exceeded", Throttled)]
// Limits.
#[case(
    400,
    "ActiveStatementsExceededException",
    "Active statements exceeded the allowed quota",
    TooManyStatements
)]
#[case(400, "ActiveSessionsExceededException", "", TooManySessions)]
#[case(400, "ActiveWaitingRequestsExceededException", "", TooManyWaiters)]
// Records and sessions.
#[case(
    400,
    "ValidationException",
    "Could not retrieve the query result as it has expired after 1660000000",
    RecordExpired
)]
#[case(400, "ResourceNotFoundException", "Query does not exist.", NotFound)]
#[case(400, "ValidationException", "Session is not available", SessionGone)]
#[case(400, "ValidationException", "Session with Id: 5a254dc6 is invalid", SessionGone)]
#[case(400, "ValidationException", "Session is busy", SessionBusy)]
// Rejections.
#[case(400, "ValidationException", "Redshift endpoint doesn't exist in this region.", Invalid)]
#[case(400, "SerializationException", "", Invalid)]
#[case(400, "UnknownOperationException", "", Unsupported)]
#[case(
    400,
    "AccessDeniedException",
    "User is not authorized to perform: redshift-data:ExecuteStatement",
    Denied
)]
#[case(403, "AccessDenied", "", Denied)]
#[case(400, "NotAuthorized", "", Denied)]
#[case(400, "UnrecognizedClientException", "", Denied)]
#[case(403, "InvalidClientTokenId", "", Denied)]
#[case(400, "InvalidSignatureException", "", Denied)]
#[case(403, "SignatureDoesNotMatch", "", Denied)]
#[case(400, "IncompleteSignature", "", Denied)]
#[case(400, "IncompleteSignatureException", "", Denied)]
#[case(403, "MissingAuthenticationToken", "", Denied)]
#[case(400, "MissingAuthenticationTokenException", "", Denied)]
#[case(400, "UnrecognizedClientException", "The security token included in the request is invalid.", Denied)]
#[case(403, "OptInRequired", "", Denied)]
// Credentials that have expired.
#[case(403, "ExpiredToken", "", CredentialsExpired)]
#[case(
    400,
    "ExpiredTokenException",
    "The security token included in the request is expired",
    CredentialsExpired
)]
#[case(400, "RequestExpired", "", CredentialsExpired)]
// Faults.
#[case(500, "ExecuteStatementException", "environmental error", ServiceFault)]
#[case(500, "BatchExecuteStatementException", "environmental error", ServiceFault)]
#[case(500, "InternalServerException", "", ServiceFault)]
#[case(500, "InternalFailure", "", ServiceFault)]
#[case(503, "ServiceUnavailable", "", ServiceFault)]
#[case(503, "ServiceUnavailableException", "", ServiceFault)]
#[case(500, "DatabaseConnectionException", "", DatabaseUnreachable)]
#[case(400, "QueryTimeoutException", "", DatabaseUnreachable)]
// Unknown codes.
#[case(400, "WeatherException", "rain", Other)]
#[case(403, "WeatherException", "rain", Denied)]
#[case(429, "WeatherException", "rain", Throttled)]
#[case(500, "WeatherException", "rain", ServiceFault)]
#[tokio::test]
async fn a_response_is_converted_to_a_kind_and_keeps_its_code(
    #[case] status: u16,
    #[case] code: &str,
    #[case] message: &str,
    #[case] kind: ErrorKind,
) {
    let error = submit_error(Reply::error(status, code, message)).await;
    assert_eq!(error.kind(), kind, "{error:?}");
    assert_eq!(error.code(), Some(code));
    assert_eq!(error.context("operation"), Some("ExecuteStatement"));
    if message.is_empty() {
        assert_eq!(error.message(), format!("HTTP status {status} without a message"));
    } else {
        assert_eq!(error.message(), message);
    }
}

#[tokio::test]
async fn a_namespaced_code_is_recognised() {
    let error =
        submit_error(Reply::error(400, "com.amazonaws.redshiftdata#ActiveStatementsExceededException", ""))
            .await;
    assert_eq!(error.kind(), TooManyStatements);
}

#[tokio::test]
async fn a_response_without_json_is_classified_by_its_status() {
    let page = |status, body: &str| Reply::Answer { status, headers: Vec::new(), body: body.to_owned() };
    for (reply, kind) in [
        (page(502, "<html>Bad Gateway</html>"), ServiceFault),
        (page(504, ""), ServiceFault),
        (page(403, "<html>Forbidden</html>"), Denied),
        (page(200, "<html>Welcome to the hotel</html>"), Disconnected),
        (page(302, ""), Other),
    ] {
        let error = submit_error(reply.clone()).await;
        assert_eq!(error.kind(), kind, "{reply:?}: {error:?}");
    }
}

#[tokio::test]
async fn the_error_contains_the_statement_the_request_and_the_pause() {
    let reply = Reply::json(
        500,
        json!({ "__type": "ExecuteStatementException", "Message": "environmental error", "StatementId": ID }),
    )
    .with_header("x-amzn-requestid", "r-1")
    .with_header("retry-after", "3");
    let error = submit_error(reply).await;
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    assert_eq!(
        error.to_string(),
        format!(
            "service fault: environmental error {{ operation: ExecuteStatement, statement_id: {ID}, request_id: r-1 }}"
        )
    );
}

#[tokio::test]
async fn sql_values_and_secrets_are_removed_from_messages() {
    let sql = "CALL load('classified') -- :who";
    let quoted = format!(
        "2 validation errors detected: Value '{sql}' at 'sql' failed; Value 'alice' at 'parameters'; {SECRET} not found"
    );
    let server = Server::replying([Reply::error(400, "ValidationException", &quoted)]).await;
    let statement = Statement::sql(sql).with_parameter("who", "alice").with_parameter("n", "2");
    let error = executor(&server.url()).submit(&statement, None).await.unwrap_err();
    let printed = format!("{error} {error:?}");
    for private in ["classified", "alice", "secretsmanager"] {
        assert!(!printed.contains(private), "{printed}");
    }
    assert!(
        error.message().starts_with("2 validation errors detected: Value '[withheld]' at 'sql' failed"),
        "{error}"
    );
}

#[tokio::test]
async fn a_quoted_statement_does_not_classify_its_error() {
    let sql = "CALL log('Rate exceeded; session is busy')";
    let message = format!("The statement {sql} is too long");
    let server = Server::replying([Reply::error(400, "ValidationException", &message)]).await;
    let error = executor(&server.url()).submit(&Statement::sql(sql), None).await.unwrap_err();
    assert_eq!(error.kind(), Invalid, "{error:?}");
}

#[tokio::test]
async fn a_refused_connection_was_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = executor(&closed).submit(&Statement::sql("SELECT 1"), None).await.unwrap_err();
    assert_eq!(error.kind(), NotSent, "{error:?}");
}

#[tokio::test]
async fn a_request_after_a_failed_tls_handshake_was_not_sent() {
    let server = Server::start(|_| Reply::HangUp).await;
    let https = server.url().replace("http://", "https://");
    let error = executor(&https).submit(&Statement::sql("SELECT 1"), None).await.unwrap_err();
    assert_eq!(error.kind(), NotSent, "{error:?}");
}

#[tokio::test]
async fn missing_credentials_mean_not_sent() {
    let server = Server::start(|_| Reply::json(200, json!({ "Id": ID }))).await;
    let mut sdk = sdk(&server.url()).into_builder();
    sdk.set_credentials_provider(None);
    let executor = DataApiExecutor::new(&sdk.build(), target());
    let error = executor.submit(&Statement::sql("SELECT 1"), None).await.unwrap_err();
    assert_eq!(error.kind(), NotSent, "{error:?}");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_request_may_have_taken_effect() {
    for reply in [Reply::HangUp, Reply::HalfABody(r#"{"Id":"#.into())] {
        let error = submit_error(reply.clone()).await;
        assert_eq!(error.kind(), Disconnected, "{reply:?}: {error:?}");
        assert!(error.kind().may_have_taken_effect());
    }
}

/// Regression: an SDK client with retries lost a response and was then throttled. The error claimed that the
/// submit had no effect.
#[tokio::test]
async fn a_submit_that_the_sdk_repeated_may_have_taken_effect() {
    let retries = RetryConfig::standard().with_initial_backoff(Duration::ZERO);
    for last in [
        Reply::error(400, "ThrottlingException", "Rate exceeded"),
        Reply::error(400, "ValidationException", "no"),
    ] {
        let mut first = [Reply::HangUp].into_iter();
        let server = Server::start(move |_| first.next().unwrap_or_else(|| last.clone())).await;
        let conf = DataApiExecutor::config(&sdk(&server.url())).retry_config(retries.clone()).build();
        let executor = DataApiExecutor::from_conf(conf, target());
        let error = executor.submit(&Statement::sql("CALL load()"), None).await.unwrap_err();
        assert!(server.requests().len() > 1);
        assert_eq!(error.kind(), Disconnected, "{error}");
    }
}

#[tokio::test]
async fn a_broken_reused_connection_never_counts_as_not_sent() {
    let server = Server::replying([Reply::json(200, json!({ "Id": ID }))]).await;
    let executor = Arc::new(executor(&server.url()));
    executor.submit(&Statement::sql("SELECT 1"), None).await.unwrap();
    let error = executor.submit(&Statement::sql("SELECT 2"), None).await.unwrap_err();
    assert_eq!(error.kind(), Disconnected, "{error:?}");
    let error = executor.describe(&StatementId::new(ID), None).await.unwrap_err();
    assert_eq!((error.kind(), error.context("statement_id")), (Disconnected, Some(ID)), "{error:?}");
}
