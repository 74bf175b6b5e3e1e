//! Errors of the service as one sentence: the request, the reason, and the remedy.

use redshift_orchestrator::{Error as ServiceError, ErrorKind};

/// Maximum length of a quoted message in characters.
const LONGEST: usize = 1_000;

/// Returns the sentence for a failed request, with ids in words.
pub(crate) fn sentence(error: &ServiceError) -> String {
    let operation = error.context("operation").unwrap_or("a request to the Redshift Data API");
    let about = error.context("statement_id").map(|id| format!(" of statement {id}")).unwrap_or_default();
    let endpoint = error.context("endpoint").map(|url| format!(" at {url}")).unwrap_or_default();
    let request = error.context("request_id").map(|id| format!(" (request {id})")).unwrap_or_default();
    let (reason, remedy) = (reason(error), remedy(error.kind()));
    format!("{operation}{about}{endpoint} failed: {reason}; {remedy}{request}")
}

/// Returns the message with the part of the statement that it is about.
pub(crate) fn reason(error: &ServiceError) -> String {
    let parameter = error.context("parameter").map(|name| format!("parameter `{name}`: "));
    let number = error.context("statement_number").map(|number| format!("statement {number} of the batch: "));
    let place = parameter.or(number).unwrap_or_default();
    let message =
        IN_EVENTS.iter().fold(error.message().to_owned(), |text, (code, member)| text.replace(code, member));
    let message = message.trim().trim_end_matches('.');
    let message = if message.is_empty() { error.kind().as_str() } else { message };
    format!("{place}{}", cut(message, LONGEST))
}

/// Names of the library's messages, and the members of an event that correspond to them.
const IN_EVENTS: [(&str, &str); 4] = [
    ("`ExecutionMode::AutoCommit`", "`execution_mode` `auto-commit`"),
    ("`Statement::bind`", "`parameters`"),
    ("`Statement::with_commits(false)`", "a statement of its own"),
    ("`Orchestrator::run_batch`", "several submits"),
];

fn remedy(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Throttled => "retry after a pause, because the service asks for fewer requests",
        ErrorKind::TooManyStatements => "nothing was submitted, so retry after other statements have ended",
        ErrorKind::TooManySessions => "nothing was submitted, so retry after other sessions have ended",
        ErrorKind::TooManyWaiters => "retry without a wait",
        ErrorKind::NotSent => "the request was not sent, so retry it",
        ErrorKind::Disconnected | ErrorKind::ServiceFault => {
            "it may have taken effect, so retry it with the same event"
        }
        ErrorKind::NotFound => "check the id, the region and the function's role",
        ErrorKind::RecordExpired => "the service keeps records for 24 hours, so look in SYS_QUERY_HISTORY",
        ErrorKind::SessionGone => "open another session",
        ErrorKind::SessionBusy => "retry after the statement of the session has ended",
        ErrorKind::Invalid => "correct the request, because a retry does not help",
        ErrorKind::Denied => "correct the function's role or the database's credentials",
        ErrorKind::CredentialsExpired => "retry after the function's credentials are renewed",
        ErrorKind::Unsupported => "use another action",
        ErrorKind::DatabaseUnreachable => "retry when the database can be reached",
        _ => "look at the statement before running it again",
    }
}

/// Returns at most this number of characters of a text.
pub(crate) fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_words_of_the_sentence() {
        let error = ServiceError::new(ErrorKind::NotFound, "Query does not exist.")
            .with_context("operation", "DescribeStatement")
            .with_context("request_id", "r-1")
            .with_context("statement_id", "q-1");
        assert_eq!(
            sentence(&error),
            "DescribeStatement of statement q-1 failed: Query does not exist; check the id, the region and the function's \
             role (request r-1)"
        );
        let error = ServiceError::new(ErrorKind::Other, "");
        assert_eq!(
            sentence(&error),
            "a request to the Redshift Data API failed: unknown response; look at the statement before running it again"
        );
    }

    #[test]
    fn long_messages_are_cut() {
        let error = ServiceError::new(ErrorKind::Invalid, "ü".repeat(5_000));
        assert!(sentence(&error).chars().count() < 1_200);
        assert_eq!((cut("üü", 2), cut("üüü", 2)), ("üü".to_owned(), "üü…".to_owned()));
    }
}
