//! [`WaitOutcome`] and [`CancelOutcome`]: results of a wait and of a cancellation. [`RequestCounts`]: the
//! number of requests sent.

use std::{collections::BTreeMap, time::Duration};

use crate::{Description, Error, ErrorKind};

/// Result of waiting for a statement.
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "a timeout or a lost statement is an outcome, not an error"]
pub enum WaitOutcome {
    /// The statement ended before the timeout: `FINISHED`, `FAILED` or `ABORTED`.
    Ended(Description),
    /// The timeout expired first.
    TimedOut {
        /// The timeout.
        timeout: Duration,
        /// Result of the cancellation.
        cancellation: CancelOutcome,
    },
    /// The service can no longer return the status of the statement, or denies access to it.
    Lost(Error),
}

impl WaitOutcome {
    /// Returns the last description of the statement, if it has ended.
    pub fn ended(&self) -> Option<&Description> {
        match self {
            Self::Ended(description)
            | Self::TimedOut {
                cancellation: CancelOutcome::Cancelled(description) | CancelOutcome::EndedBefore(description),
                ..
            } => Some(description),
            Self::TimedOut { .. } | Self::Lost(_) => None,
        }
    }
}

/// Result of a cancellation.
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "a statement that was not cancelled is an outcome, not an error"]
pub enum CancelOutcome {
    /// This cancellation ended the statement, as far as the service's responses show.
    Cancelled(Description),
    /// The statement ended before the cancellation took effect: it finished, failed, or was aborted by
    /// another client.
    EndedBefore(Description),
    /// The service accepted the cancellation, but the statement had not ended within the [grace
    /// time](super::Wait::with_cancel_grace), or its status could not be read because the credentials had
    /// expired. Contains the last description received after the cancellation, if any.
    Pending(Option<Description>),
    /// The statement could not be cancelled and may still be running.
    NotCancelled(Error),
}

/// Number of requests sent and of errors retried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestCounts {
    /// Number of submits.
    pub submits: u32,
    /// Number of polls (describe requests).
    pub describes: u32,
    /// Number of cancel requests.
    pub cancels: u32,
    /// Number of list requests.
    pub lists: u32,
    /// Number of retried errors, by kind.
    pub retried_errors: BTreeMap<ErrorKind, u32>,
}

impl RequestCounts {
    /// Returns the total number of retried errors.
    pub fn total_retried_errors(&self) -> u32 {
        self.retried_errors.values().sum()
    }

    /// Returns the total number of requests.
    pub fn total(&self) -> u32 {
        self.submits + self.describes + self.cancels + self.lists
    }

    /// Adds the numbers of `other`.
    pub fn add(&mut self, other: &Self) {
        self.submits += other.submits;
        self.describes += other.describes;
        self.cancels += other.cancels;
        self.lists += other.lists;
        for (kind, count) in &other.retried_errors {
            *self.retried_errors.entry(*kind).or_default() += count;
        }
    }

    pub(crate) fn retried(&mut self, kind: ErrorKind) {
        *self.retried_errors.entry(kind).or_default() += 1;
    }
}
