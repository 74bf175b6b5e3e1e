//! [`Error`]: an error with the context in which it occurred, and a kind that determines what the caller can
//! do next.

use std::{error::Error as StdError, fmt, time::Duration};

use crate::StatementId;

/// Result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Category of an error. It determines what the caller does next.
///
/// These kinds describe failed requests. A statement that ran and failed is not a failed request: its
/// [`Description`](crate::Description) has the status `FAILED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The service rejected the request because of a rate limit. Nothing was done. Retry after
    /// [`Error::retry_after`], or after a backoff.
    Throttled,
    /// The cluster or workgroup has reached its limit of active statements; nothing was submitted. Retry
    /// after other statements have ended.
    TooManyStatements,
    /// The cluster or workgroup has reached its limit of sessions; nothing was submitted. Retry after other
    /// sessions have ended.
    TooManySessions,
    /// The statement has reached its limit of waiting requests. Retry without a wait.
    TooManyWaiters,
    /// The request did not reach the service, because the connection, the name resolution or the credentials
    /// failed. Retry it.
    NotSent,
    /// The request may have taken effect, but its response was lost. Retry only with the same client token.
    Disconnected,
    /// The service failed internally. As with [`Disconnected`](Self::Disconnected), the request may have
    /// taken effect.
    ServiceFault,
    /// The service does not know this id: the account, region or role is wrong, or the record never existed.
    /// A retry does not help.
    NotFound,
    /// The service has deleted the record of this id, 24 hours after the statement. No further information is
    /// available.
    RecordExpired,
    /// The session is closed, expired or broken. Open another session.
    SessionGone,
    /// The session is running another statement. Retry after that statement has ended.
    SessionBusy,
    /// The request violates the service's rules. Correct it; a retry does not help.
    Invalid,
    /// The caller is not authorised. Correct the credentials or the policy.
    Denied,
    /// The credentials of the request had expired; nothing was done. Retry after they are renewed. A wait
    /// retries for [a limited time](crate::wait::Wait::with_expired_credentials_limit).
    CredentialsExpired,
    /// The executor does not support this operation. The message names an alternative.
    Unsupported,
    /// The service could not reach the database for a metadata request. Retry.
    DatabaseUnreachable,
    /// The journal could not be read or written. A statement is never submitted without a journal entry.
    Journal,
    /// The pipeline is already active in this or another process; nothing was submitted. Start this run after
    /// the active one has ended, or queue it.
    Overlap,
    /// The definition of a pipeline or the parameters of a run are invalid. The message names the location
    /// and a remedy.
    Definition,
    /// The service returned a statement of another caller: the statement was created before the intent of
    /// this attempt, or runs in another database. The attempt is recorded as unknown, never as finished. Use
    /// another name for the run, or set a scope on the orchestrator. If the journal with the first intent was
    /// lost, it is the statement of this attempt: settle the attempt.
    IdentityConflict,
    /// The journal contains an entry for this attempt that belongs to another pipeline, scope or target, or
    /// to a Glue job; nothing was submitted. Use another name for the run, or a separate journal for each
    /// target.
    StepKeyConflict,
    /// This version does not recognise the response. The error contains its text, and the request is never
    /// retried automatically.
    Other,
}

impl ErrorKind {
    /// Returns a stable name for logs, programs and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::TooManyStatements => "too many active statements",
            Self::TooManySessions => "too many active sessions",
            Self::TooManyWaiters => "too many waiting requests",
            Self::NotSent => "not sent",
            Self::Disconnected => "disconnected",
            Self::ServiceFault => "service fault",
            Self::NotFound => "not found",
            Self::RecordExpired => "record expired",
            Self::SessionGone => "session gone",
            Self::SessionBusy => "session busy",
            Self::Invalid => "invalid request",
            Self::Denied => "access denied",
            Self::CredentialsExpired => "credentials expired",
            Self::Unsupported => "unsupported",
            Self::DatabaseUnreachable => "database unreachable",
            Self::Journal => "journal",
            Self::Overlap => "overlap",
            Self::Definition => "pipeline definition",
            Self::IdentityConflict => "identity conflict",
            Self::StepKeyConflict => "step key conflict",
            Self::Other => "unknown response",
        }
    }

    /// Returns `true` if the request may have taken effect although it ended in an error.
    ///
    /// A submit that ended this way is retried with its client token or reconciled; it is never sent with a
    /// new token.
    pub fn may_have_taken_effect(self) -> bool {
        matches!(self, Self::Disconnected | Self::ServiceFault | Self::Other)
    }

    /// Returns `true` if the same request may succeed later.
    pub fn is_transient(self) -> bool {
        matches!(
            self,
            Self::Throttled
                | Self::TooManyStatements
                | Self::TooManySessions
                | Self::TooManyWaiters
                | Self::NotSent
                | Self::Disconnected
                | Self::ServiceFault
                | Self::SessionBusy
                | Self::CredentialsExpired
                | Self::DatabaseUnreachable
        )
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Error with its kind, its context, and its source.
///
/// `Display` prints one line: `throttled: rate exceeded { operation: DescribeStatement }`. The source is
/// available from [`std::error::Error::source`]. SQL text and secrets never appear in an error.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    code: Option<String>,
    message: String,
    context: Vec<(&'static str, String)>,
    retry_after: Option<Duration>,
    submitted: Option<StatementId>,
    /// A submit or a start without a definite response preceded the error.
    follows_uncertain_submit: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Creates an error of `kind`. The message is lower case without a full stop, or the service's own text.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            code: None,
            message: message.into(),
            context: Vec::new(),
            retry_after: None,
            submitted: None,
            follows_uncertain_submit: false,
            source: None,
        }))
    }

    /// Adds the service's error code, such as `ValidationException`.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.0.code = Some(code.into());
        self
    }

    /// Adds a context value, such as an operation, a statement id or a step.
    #[must_use]
    pub fn with_context(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((name, value.to_string()));
        self
    }

    /// Replaces the message. Kind, context and cause are kept.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.0.message = message.into();
        self
    }

    /// Adds the pause that the service requests before a retry.
    #[must_use]
    pub fn with_retry_after(mut self, pause: Duration) -> Self {
        self.0.retry_after = Some(pause);
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds the statement that was submitted before the error, both as a field and as a context value.
    #[must_use]
    pub(crate) fn with_submitted(mut self, id: &StatementId) -> Self {
        self.0.submitted = Some(id.clone());
        self.with_context("statement_id", id)
    }

    /// Returns the statement that was submitted before the error, and whose outcome the caller does not know.
    pub fn submitted(&self) -> Option<&StatementId> {
        self.0.submitted.as_ref()
    }

    /// Notes that a submit without a definite response preceded the error.
    #[must_use]
    pub(crate) fn after_uncertain_submit(mut self) -> Self {
        self.0.follows_uncertain_submit = true;
        self
    }

    /// Notes that an earlier process left the attempt open, so that its work may be running despite the error.
    /// Does nothing if `is_open` is `false`, or if the open attempt belongs to other work.
    #[must_use]
    pub(crate) fn of_attempt(self, is_open: bool) -> Self {
        match is_open && self.0.kind != ErrorKind::StepKeyConflict {
            true => self.after_uncertain_submit(),
            false => self,
        }
    }

    /// Returns `true` if the statement, the job or the task may have run despite the error. Its outcome is
    /// then not known, and the next call with the same key searches for it.
    pub fn may_have_run(&self) -> bool {
        self.0.submitted.is_some()
            || self.0.follows_uncertain_submit
            || self.0.kind == ErrorKind::IdentityConflict
    }

    /// Returns the error's kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the service's error code, such as `ActiveStatementsExceededException`, if there is one.
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// Applies `change` to the message of the error and to the messages of its sources.
    pub(crate) fn map_messages(mut self, change: impl Fn(&str) -> String) -> Self {
        let causes = self.causes();
        let changed = change(&causes);
        if causes != changed {
            self.0.source = Some(changed.into());
        }
        self.0.message = change(&self.0.message);
        self
    }

    /// Returns a copy of the error, with `change` applied to its message and to its sources. The sources
    /// become a single string.
    pub(crate) fn clone_with_messages(&self, change: impl Fn(&str) -> String) -> Self {
        let causes = Some(self.causes()).filter(|causes| !causes.is_empty());
        Self(Box::new(Inner {
            kind: self.0.kind,
            code: self.0.code.clone(),
            message: change(&self.0.message),
            context: self.0.context.clone(),
            retry_after: self.0.retry_after,
            submitted: self.0.submitted.clone(),
            follows_uncertain_submit: self.0.follows_uncertain_submit,
            source: causes.map(|causes| change(&causes).into()),
        }))
    }

    fn causes(&self) -> String {
        causes(self).map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }

    /// Returns the message without kind, context and source.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns a context value by its name.
    pub fn context(&self, name: &str) -> Option<&str> {
        self.0.context.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// Returns the pause that the service requests before a retry, if there is one.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind, self.0.message)?;
        for (index, (name, value)) in self.0.context.iter().enumerate() {
            write!(f, "{}{name}: {value}", if index == 0 { " { " } else { ", " })?;
        }
        if self.0.context.is_empty() { Ok(()) } else { f.write_str(" }") }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printed = self.to_string();
        f.write_str(&printed)?;
        for cause in causes(self) {
            let cause = cause.to_string();
            // Many errors contain the text of their causes. Do not print it twice.
            if !printed.contains(&cause) {
                write!(f, "\n  caused by: {cause}")?;
                printed.push_str(&cause);
            }
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// Returns the sources of an error, from the nearest to the root cause.
pub(crate) fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_kind_message_and_context_on_one_line_and_causes_below() {
        let error = Error::new(ErrorKind::Throttled, "rate exceeded")
            .with_context("operation", "DescribeStatement")
            .with_source("a cause");
        assert_eq!(error.to_string(), "throttled: rate exceeded { operation: DescribeStatement }");
        assert_eq!(format!("{error:?}"), format!("{error}\n  caused by: a cause"));
        assert_eq!(error.context("operation"), Some("DescribeStatement"));
    }

    #[test]
    fn a_cause_that_was_printed_is_not_repeated() {
        let cause = Error::new(ErrorKind::Other, "outer: inner").with_source("inner");
        let error = Error::new(ErrorKind::Journal, "no journal: inner").with_source(cause);
        let printed = "journal: no journal: inner\n  caused by: unknown response: outer: inner";
        assert_eq!(format!("{error:?}"), printed);
    }

    #[test]
    fn only_a_request_with_a_lost_response_may_have_taken_effect() {
        assert!(ErrorKind::Disconnected.may_have_taken_effect());
        assert!(ErrorKind::ServiceFault.may_have_taken_effect());
        for kind in
            [ErrorKind::Throttled, ErrorKind::NotSent, ErrorKind::TooManyStatements, ErrorKind::Invalid]
        {
            assert!(!kind.may_have_taken_effect(), "{kind}");
        }
    }
}
