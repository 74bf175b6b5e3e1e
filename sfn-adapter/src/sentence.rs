//! Formats errors of the service as one sentence: the request, the reason, and the remedy.

use redshift_orchestrator::{Error as ServiceError, ErrorKind};

/// Maximum length of a quoted message in characters.
pub(crate) const LONGEST: usize = 1_000;

/// Maximum length of an id or a name in characters. An event may contain any string in its place.
pub(crate) const LONGEST_ID: usize = 200;

/// Maximum length of a whole message in characters. The longest part of a message is text of the database.
pub(crate) const LONGEST_SENTENCE: usize = 10_000;

/// Returns the sentence for a failed request, including its ids.
pub(crate) fn sentence(error: &ServiceError) -> String {
    let entry = |name| error.context(name).map(|value| cut(value, LONGEST_ID));
    let operation = entry("operation").unwrap_or_else(|| "a request to the Redshift Data API".to_owned());
    let about = entry("statement_id").map(|id| format!(" of statement {id}")).unwrap_or_default();
    let endpoint = entry("endpoint").map(|url| format!(" at {url}")).unwrap_or_default();
    let request = entry("request_id").map(|id| format!(" (request {id})")).unwrap_or_default();
    let (reason, remedy) = (reason(error), remedy(error.kind()));
    format!("{operation}{about}{endpoint} failed: {reason}; {remedy}{request}")
}

/// Says of a status request without a response what is not known because of it.
pub(crate) fn unknown_status(statement: &str) -> String {
    format!(
        "the status of statement {} is not known, and it may still be running",
        cut(statement, LONGEST_ID)
    )
}

/// Returns the message, including the part of the statement that it is about.
pub(crate) fn reason(error: &ServiceError) -> String {
    let parameter = error.context("parameter").map(|name| format!("parameter `{}`: ", cut(name, LONGEST_ID)));
    let number = error.context("statement_number").map(|number| format!("statement {number} of the batch: "));
    let place = parameter.or(number).unwrap_or_default();
    let message =
        IN_EVENTS.iter().fold(error.message().to_owned(), |text, (code, member)| text.replace(code, member));
    let message = message.trim().trim_end_matches('.');
    let message = if message.is_empty() { error.kind().as_str() } else { message };
    format!("{place}{}", cut(message, LONGEST))
}

/// Names in the library's messages, and the corresponding members of an event.
const IN_EVENTS: [(&str, &str); 4] = [
    ("`ExecutionMode::AutoCommit`", "`execution_mode` `auto-commit`"),
    ("`Statement::bind`", "`parameters`"),
    (", or declare `with_commits(Commits::No)`", ""),
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
        _ => "look up the statement before running it again",
    }
}

/// Returns the locations that an error names, with their wording, as ` (file x, line 3)`. Returns an empty
/// string if there are none.
#[cfg(any(feature = "glue", feature = "hudi"))]
pub(crate) fn places<'a>(places: impl IntoIterator<Item = (&'a str, Option<String>)>) -> String {
    let places = places.into_iter().filter_map(|(word, value)| Some(format!("{word} {}", value?)));
    match places.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => none,
        places => format!(" ({places})"),
    }
}

/// Returns an error's text in words: without the settings of the client that sent the request, and with the
/// message in place of a document of XML.
#[cfg(any(feature = "glue", feature = "hudi"))]
pub(crate) fn in_words(text: &str) -> String {
    let mut text = text.to_owned();
    while let Some(begin) = text.find(", max_retries: ") {
        let end = text[begin..].find(" - ").map_or(text.len(), |end| begin + end);
        text.replace_range(begin..end, "");
    }
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(content, _)| content.trim())
    };
    let begin = text.find("<?xml").or_else(|| text.find("<Error>"));
    match (begin, element("Code"), element("Message")) {
        (Some(begin), Some(code), Some(message)) => {
            let message = message.trim_end_matches('.');
            format!("{}{code} ({message})", &text[..begin])
        }
        (Some(begin), Some(code), None) => format!("{}{code}", &text[..begin]),
        _ => text,
    }
}

/// Truncates a text to this number of characters.
pub(crate) fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or(text)),
    }
}

#[cfg(test)]
mod tests {
    use redshift_orchestrator::Statement;

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
            "a request to the Redshift Data API failed: unknown response; look up the statement before running it again"
        );
    }

    /// Regression: the message named a method of the library, which an event does not have.
    #[test]
    fn messages_of_the_library_name_no_methods() {
        let batch = Statement::batch(["TRUNCATE a", "SELECT 1"]);
        let text = sentence(&batch.check().unwrap_err());
        assert!(
            text.contains("`TRUNCATE` commits") && text.contains("`execution_mode` `auto-commit`"),
            "{text}"
        );
        assert!(!text.contains("with_commits"), "{text}");
    }

    /// Regression: replies ended in the settings of the client, and in XML.
    #[cfg(any(feature = "glue", feature = "hudi"))]
    #[test]
    fn a_text_of_the_storage_is_written_in_words() {
        let xml = "<?xml version=\"1.0\"?>\n<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
        for (text, expected) in [
            (
                format!(
                    "Error performing GET http://s3/lake/a in 9.1s, after 10 retries, max_retries: 10, retry_timeout: 180s  - \
                     Server returned non-2xx status code: 503 Service Unavailable: {xml}"
                ),
                "Error performing GET http://s3/lake/a in 9.1s, after 10 retries - Server returned non-2xx status code: \
                 503 Service Unavailable: SlowDown (Please reduce your request rate)",
            ),
            ("in 1s, max_retries: 3".to_owned(), "in 1s"),
            ("<Error><Code>NoSuchKey</Code></Error>".to_owned(), "NoSuchKey"),
            ("<Error> is no code".to_owned(), "<Error> is no code"),
            ("HTTP error: connection refused".to_owned(), "HTTP error: connection refused"),
        ] {
            assert_eq!(in_words(&text), expected);
        }
    }

    #[test]
    fn long_messages_are_cut() {
        let error = ServiceError::new(ErrorKind::Invalid, "ü".repeat(5_000));
        assert!(sentence(&error).chars().count() < 1_200);
        let error = ["statement_id", "request_id", "parameter"]
            .into_iter()
            .fold(error, |error, name| error.with_context(name, "x".repeat(1 << 20)));
        assert!(sentence(&error).chars().count() < 2_000);
        assert_eq!((cut("üü", 2), cut("üüü", 2)), ("üü".to_owned(), "üü…".to_owned()));
    }
}
