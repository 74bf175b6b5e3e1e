//! [`Observer`]: notifications of progress.

use std::{fmt, sync::Arc, time::Duration};

use crate::{Error, FailureKind, Outcome, StatementId, Status, StepKey};

/// Receives notifications of progress, for progress bars, metrics and logs.
///
/// # For implementors
///
/// The method is called between requests, on the task that runs the step. It must return quickly and must not
/// block.
pub trait Observer: fmt::Debug + Send + Sync {
    /// Called for each event of an attempt at a step.
    fn observe(&self, key: &StepKey, event: &ProgressEvent<'_>);
}

impl<O: Observer + ?Sized> Observer for Arc<O> {
    fn observe(&self, key: &StepKey, event: &ProgressEvent<'_>) {
        (**self).observe(key, event);
    }
}

/// Event of an attempt at a step.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProgressEvent<'a> {
    /// The service accepted the statement.
    Submitted {
        /// The id.
        id: &'a StatementId,
        /// `true` if the statement was found in the service, instead of being accepted by this submit.
        reattached: bool,
    },
    /// The service returned the status of the statement.
    Polled {
        /// The status.
        status: &'a Status,
    },
    /// The statement raised a message, if the orchestrator [reads them](crate::Orchestrator::with_messages).
    Message {
        /// Level: `NOTICE`, `WARNING`, `INFO`, and others.
        level: &'a str,
        /// The text.
        text: &'a str,
    },
    /// An error occurred, and the request is retried.
    RequestRetried {
        /// The error.
        error: &'a Error,
    },
    /// The statement ended.
    Ended {
        /// The outcome.
        outcome: &'a Outcome,
    },
    /// The call ended with an error, and the statement may be running.
    Unproved {
        /// The error.
        error: &'a Error,
    },
    /// The statement did not run.
    NotSubmitted {
        /// The reason.
        error: &'a Error,
    },
    /// The step is retried after a pause.
    StepRetried {
        /// The reason why this attempt failed.
        failure: FailureKind,
        /// The pause.
        pause: Duration,
    },
    /// The step is skipped because of another step.
    Skipped {
        /// The step that did not finish.
        because_of: &'a str,
    },
}

/// Prints a human-readable line without the step.
impl fmt::Display for ProgressEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submitted { id, reattached: true } => write!(f, "found again: {id}"),
            Self::Submitted { id, .. } => write!(f, "submitted: {id}"),
            Self::Polled { status } => write!(f, "{status}"),
            Self::Message { level, text } => write!(f, "says {level}: {text}"),
            Self::RequestRetried { error } => write!(f, "request retried after: {error}"),
            Self::Ended { outcome } => write!(f, "{}", outcome.kind),
            Self::Unproved { error } => write!(f, "the statement may be running: {error}"),
            Self::NotSubmitted { error } => write!(f, "not submitted: {error}"),
            Self::StepRetried { failure, pause } => {
                write!(f, "retry after {failure}, in {:.1} s", pause.as_secs_f64())
            }
            Self::Skipped { because_of } => write!(f, "skipped because of {because_of}"),
        }
    }
}

/// Observer that ignores all events.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unobserved;

impl Observer for Unobserved {
    fn observe(&self, _: &StepKey, _: &ProgressEvent<'_>) {}
}
