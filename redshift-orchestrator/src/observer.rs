//! [`Observer`]: receives progress events.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    Error, FailureKind, Outcome, StatementId, Status, StepKey,
    task::{TaskOutcome, TaskWork},
};

/// Receives progress events, for progress bars, metrics and logs.
///
/// # For implementors
///
/// [`observe`](Self::observe) is called between requests, in the task that runs the step. It must return
/// quickly and must not block.
pub trait Observer: fmt::Debug + Send + Sync {
    /// Receives an event of an attempt at a step.
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
        /// Id of the statement.
        id: &'a StatementId,
        /// `true` if an earlier submit had created the statement, and it was found in the service.
        reattached: bool,
    },
    /// The service returned the status of the statement.
    Polled {
        /// Status of the statement.
        status: &'a Status,
    },
    /// The statement raised a message. Requires
    /// [`Orchestrator::with_messages`](crate::Orchestrator::with_messages).
    Message {
        /// Level: `NOTICE`, `WARNING`, `INFO`, and others.
        level: &'a str,
        /// Text of the message.
        text: &'a str,
    },
    /// A request failed and will be retried.
    RequestRetried {
        /// Error of the request.
        error: &'a Error,
    },
    /// The statement ended.
    Ended {
        /// Outcome of the attempt.
        outcome: &'a Outcome,
    },
    /// The outcome is unknown: the orchestrator returned an error although the statement may be running.
    Unknown {
        /// Error that the orchestrator returned.
        error: &'a Error,
    },
    /// The statement did not run.
    NotSubmitted {
        /// Reason why the statement was not submitted.
        error: &'a Error,
    },
    /// The work of a step that is not a statement begins, or continues.
    TaskStarted {
        /// The work.
        work: &'a TaskWork,
    },
    /// The work of a step that is not a statement ended.
    TaskEnded {
        /// Outcome of the attempt.
        outcome: &'a TaskOutcome,
    },
    /// The step is retried after a pause.
    StepRetried {
        /// Reason why this attempt failed.
        failure: FailureKind,
        /// Pause before the next attempt.
        pause: Duration,
    },
    /// The step is skipped because of another step.
    Skipped {
        /// Step that did not finish.
        because_of: &'a str,
    },
}

impl<'a> ProgressEvent<'a> {
    /// Returns the event for an attempt that ended with an error.
    pub(crate) fn of_error(error: &'a Error) -> Self {
        match error.may_have_run() {
            true => Self::Unknown { error },
            false => Self::NotSubmitted { error },
        }
    }
}

/// Prints a human-readable line, without the name of the step.
impl fmt::Display for ProgressEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submitted { id, reattached: true } => write!(f, "continued: {id}"),
            Self::Submitted { id, .. } => write!(f, "submitted: {id}"),
            Self::Polled { status } => write!(f, "{status}"),
            Self::Message { level, text } => write!(f, "{level}: {text}"),
            Self::RequestRetried { error } => write!(f, "request retried after: {error}"),
            Self::Ended { outcome } => write!(f, "{}", outcome.kind),
            Self::Unknown { error } => write!(f, "the statement may be running: {error}"),
            Self::NotSubmitted { error } => write!(f, "not submitted: {error}"),
            Self::TaskStarted { work } => write!(f, "started: {}", work.summary()),
            Self::TaskEnded { outcome } => write!(f, "{outcome}"),
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
