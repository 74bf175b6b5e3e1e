//! [`Observer`]: progress, as it happens.

use std::{fmt, sync::Arc, time::Duration};

use crate::{Error, FailureKind, Outcome, StatementId, Status, StepKey};

/// Watches statements on their way. For progress bars, metrics and logs.
///
/// # For implementors
///
/// It is called in between requests, on the task that runs the step: be quick, and do not block.
pub trait Observer: fmt::Debug + Send + Sync {
    /// Something happened to an attempt at a step.
    fn observe(&self, key: &StepKey, event: &Progressed<'_>);
}

impl<O: Observer + ?Sized> Observer for Arc<O> {
    fn observe(&self, key: &StepKey, event: &Progressed<'_>) {
        (**self).observe(key, event);
    }
}

/// What happened to an attempt at a step.
#[derive(Debug)]
#[non_exhaustive]
pub enum Progressed<'a> {
    /// The service accepted it under this id.
    Submitted {
        /// The id.
        id: &'a StatementId,
        /// Whether an earlier process had submitted it already.
        reattached: bool,
    },
    /// The service said where it is.
    Polled {
        /// Where.
        status: &'a Status,
    },
    /// It said something: a stored procedure's `RAISE`, if the orchestrator [reads them](crate::Orchestrator::with_messages).
    Message {
        /// `NOTICE`, `WARNING`, `INFO`, …
        level: &'a str,
        /// The text.
        text: &'a str,
    },
    /// An error was survived.
    Survived {
        /// The error.
        error: &'a Error,
    },
    /// It ended.
    Ended {
        /// How.
        outcome: &'a Outcome,
    },
    /// It certainly did not run.
    Refused {
        /// Why.
        error: &'a Error,
    },
    /// The step is tried again after a pause.
    Retried {
        /// Why this attempt did not succeed.
        failure: FailureKind,
        /// The pause.
        pause: Duration,
    },
    /// The step is not run, because of this other step.
    Skipped {
        /// The step whose failure is the reason.
        because_of: &'a str,
    },
}

/// As a line for people, without the step.
impl fmt::Display for Progressed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submitted { id, reattached: true } => write!(f, "found again: {id}"),
            Self::Submitted { id, .. } => write!(f, "submitted: {id}"),
            Self::Polled { status } => write!(f, "{status}"),
            Self::Message { level, text } => write!(f, "says {level}: {text}"),
            Self::Survived { error } => write!(f, "survived: {error}"),
            Self::Ended { outcome } => write!(f, "{}", outcome.result),
            Self::Refused { error } => write!(f, "not submitted: {error}"),
            Self::Retried { failure, pause } => {
                write!(f, "tries again after {failure}, in {:.1} s", pause.as_secs_f64())
            }
            Self::Skipped { because_of } => write!(f, "skipped because of {because_of}"),
        }
    }
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unobserved;

impl Observer for Unobserved {
    fn observe(&self, _: &StepKey, _: &Progressed<'_>) {}
}
