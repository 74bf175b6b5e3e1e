//! [`Error`]: what the service or the way to it answered, and what the caller can do next.

use std::{error::Error as StdError, fmt, time::Duration};

use crate::StatementId;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by what the caller does next.
///
/// A statement that ran and failed is not an error of the call that asked about it: it is a
/// [`Description`](crate::Description) with the status `FAILED`. These kinds are about the calls themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The service asked us to slow down; nothing was done. Ask again after [`Error::retry_after`], or after a backoff.
    Throttled,
    /// The cluster or workgroup has as many active statements as it takes; nothing was submitted. Submit again once others ended.
    TooManyStatements,
    /// The cluster or workgroup has as many sessions as it takes; nothing was submitted. Submit again once others ended.
    TooManySessions,
    /// The statement has as many waiting requests as it takes. Ask again without a wait.
    TooManyWaiters,
    /// The request certainly did not reach the service: no connection, no name, no credentials in time. Send it again.
    NotSent,
    /// The request may have taken effect and its answer was lost. Send it again only with the same client token.
    Disconnected,
    /// The service failed inside. As with [`Disconnected`](Self::Disconnected), the request may have taken effect.
    ServiceFault,
    /// The service does not know this id: wrong account, region or role, or a record that never was. Asking again does not help.
    NotFound,
    /// The service knew this id and forgot it, 24 hours after the statement. Nothing more can be learned here.
    Expired,
    /// The session is closed, expired or broken. Open another one.
    SessionGone,
    /// The session runs another statement. Submit again once that ended.
    SessionBusy,
    /// The request contradicts the service's rules. Correct it; sending it again does not help.
    Invalid,
    /// The caller may not do this. Correct the credentials or the policy.
    Denied,
    /// The executor cannot do this at all. The message names the way out.
    Unsupported,
    /// The database could not be reached for a metadata request. Ask again.
    Database,
    /// The journal could not be read or written. Nothing is submitted without it.
    Journal,
    /// The pipeline is active already, here or in another process; nothing was submitted. Begin this run after that one, or queue it.
    Overlap,
    /// A pipeline's definition, or the parameters of a run, contradict themselves. The message names the place and the way out.
    Definition,
    /// The service answered with a statement that another caller submitted: it was created before this one was
    /// intended, or it runs in another database. This one is recorded as unknown, never as finished. Give the
    /// run another name, or the orchestrator a scope.
    IdentityConflict,
    /// An answer that this version does not know. It is kept as it came, and never retried blindly.
    Other,
}

impl ErrorKind {
    /// A stable name, for logs, machines and messages.
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
            Self::Expired => "expired",
            Self::SessionGone => "session gone",
            Self::SessionBusy => "session busy",
            Self::Invalid => "invalid request",
            Self::Denied => "access denied",
            Self::Unsupported => "unsupported",
            Self::Database => "database unreachable",
            Self::Journal => "journal",
            Self::Overlap => "overlap",
            Self::Definition => "pipeline definition",
            Self::IdentityConflict => "identity conflict",
            Self::Other => "unknown answer",
        }
    }

    /// Whether the request may have taken effect although it ended in an error.
    ///
    /// A submit that ended this way is repeated with its client token, or reconciled; never sent anew.
    pub fn may_have_taken_effect(self) -> bool {
        matches!(self, Self::Disconnected | Self::ServiceFault | Self::Other)
    }

    /// Whether the same request may well succeed a little later.
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
                | Self::Database
        )
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error with its kind, the things it happened to, and its source.
///
/// It prints as one line, `throttled: rate exceeded { operation: DescribeStatement }`; the source, if any, is
/// reached through [`std::error::Error::source`]. SQL text and secrets are never part of it.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    code: Option<String>,
    message: String,
    context: Vec<(&'static str, String)>,
    retry_after: Option<Duration>,
    submitted: Option<StatementId>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `message` is lower case and without a full stop, or the service's own words.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            code: None,
            message: message.into(),
            context: Vec::new(),
            retry_after: None,
            submitted: None,
            source: None,
        }))
    }

    /// Adds the service's own code, such as `ValidationException`.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.0.code = Some(code.into());
        self
    }

    /// Adds a thing that the error happened to: an operation, a statement id, a step.
    #[must_use]
    pub fn with_context(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((name, value.to_string()));
        self
    }

    /// Adds how long the service wants to be left alone.
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

    /// Adds the statement that was submitted before the error, also as a part of the context.
    #[must_use]
    pub(crate) fn with_submitted(mut self, id: &StatementId) -> Self {
        self.0.submitted = Some(id.clone());
        self.with_context("statement_id", id)
    }

    /// Returns the statement that was submitted before the error, and whose outcome is unknown to the caller.
    pub fn submitted(&self) -> Option<&StatementId> {
        self.0.submitted.as_ref()
    }

    /// Returns `true` if the statement that the error is about may have run.
    pub(crate) fn leaves_unknown(&self) -> bool {
        self.0.submitted.is_some() || self.0.kind == ErrorKind::IdentityConflict
    }

    /// What went wrong, by what the caller does next.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The service's own code, such as `ActiveStatementsExceededException`, if it gave one.
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// Changes the words of others in it: the message, and those of its sources.
    pub(crate) fn map_words(mut self, change: impl Fn(&str) -> String) -> Self {
        let told = self.causes();
        let changed = change(&told);
        if told != changed {
            self.0.source = Some(changed.into());
        }
        self.0.message = change(&self.0.message);
        self
    }

    /// As [`map_words`](Self::map_words), for an error that somebody else has: with its sources as one text.
    pub(crate) fn retold(&self, change: impl Fn(&str) -> String) -> Self {
        let causes = Some(self.causes()).filter(|causes| !causes.is_empty());
        Self(Box::new(Inner {
            kind: self.0.kind,
            code: self.0.code.clone(),
            message: change(&self.0.message),
            context: self.0.context.clone(),
            retry_after: self.0.retry_after,
            submitted: self.0.submitted.clone(),
            source: causes.map(|causes| change(&causes).into()),
        }))
    }

    fn causes(&self) -> String {
        causes(self).map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }

    /// What went wrong, without kind, context and source.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The value of one thing that the error happened to.
    pub fn context(&self, name: &str) -> Option<&str> {
        self.0.context.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// How long the service wants to be left alone, if it said so.
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
        fmt::Display::fmt(self, f)?;
        causes(self).try_for_each(|cause| write!(f, "\n  caused by: {cause}"))
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// What an error comes from, and what that comes from, to the end.
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
    fn only_a_lost_answer_may_have_taken_effect() {
        assert!(ErrorKind::Disconnected.may_have_taken_effect());
        assert!(ErrorKind::ServiceFault.may_have_taken_effect());
        for kind in
            [ErrorKind::Throttled, ErrorKind::NotSent, ErrorKind::TooManyStatements, ErrorKind::Invalid]
        {
            assert!(!kind.may_have_taken_effect(), "{kind}");
        }
    }
}
