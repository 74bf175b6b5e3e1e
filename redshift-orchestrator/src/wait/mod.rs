//! Waiting for a statement: poll strategies, retries and endings.
//!
//! ```text
//!             .--- running: poll at the strategy's next time -.
//!             v                                               |
//! poll ---> response ---> FINISHED, FAILED, ABORTED -----> Ended
//!  ^           |-------> throttled, lost, service fault, credentials expired: back off, poll again
//!  |           |-------> too many waiters: poll without a wait
//!  |           `-------> unknown id, expired, denied -----> Lost
//!  |
//! timeout: cancel, poll again ---> ABORTED by us ------> TimedOut, Cancelled
//!                              |--> ended by itself ----> TimedOut, EndedBefore
//!                              |--> still running ------> TimedOut, Pending
//!                              `--> not cancelled ------> TimedOut, NotCancelled
//! ```
//!
//! Time in the queue of a [layer](crate::layer) is not part of a request: it counts neither as a lost
//! response nor against the service. A poll that is still in the queue when the statement's timeout expires
//! is not sent.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::{Backoff, Description, Error, Result, StatementExecutor, StatementId, Status, clock::after};

mod cancel;
mod durations;
mod exponential;
mod fixed;
mod jittered;
mod learned;
mod long_poll;
mod outcome;
mod poll;
mod strategy;

pub(crate) use cancel::is_cancelled;
pub use durations::Durations;
pub use exponential::Exponential;
pub use fixed::Fixed;
pub use jittered::Jittered;
pub use learned::Learned;
pub use long_poll::LongPoll;
pub use outcome::{CancelOutcome, RequestCounts, WaitOutcome};
use poll::Polled;
pub use strategy::{LongPollSupport, NextPoll, PollStrategy, WaitProgress};

/// Event that occurs while waiting.
#[derive(Debug)]
#[non_exhaustive]
pub enum WaitEvent<'a> {
    /// The service returned the status of the statement.
    Polled(&'a Status),
    /// An error occurred, and the request is retried.
    Retried(&'a Error),
}

/// Wait for one statement.
///
/// Dropping the future of [`until_ended`](Self::until_ended) does not affect the statement.
pub struct Wait<'a> {
    executor: &'a dyn StatementExecutor,
    id: &'a StatementId,
    strategy: &'a dyn PollStrategy,
    backoff: Backoff,
    started: Instant,
    /// Time between the submit and the start of the wait.
    age: Option<Duration>,
    timeout: Option<Duration>,
    grace: Option<Duration>,
    expired_credentials_limit: Duration,
    expected: Option<Duration>,
    watch: &'a (dyn Fn(WaitEvent<'_>) + Send + Sync),
    check: &'a (dyn Fn(&Description) -> Result<()> + Send + Sync),
    before_cancel: &'a (dyn Fn() -> BoxFuture<'a, ()> + Send + Sync),
}

/// Default of [`Wait::with_expired_credentials_limit`].
const EXPIRED_CREDENTIALS_LIMIT: Duration = Duration::from_secs(15 * 60);

impl<'a> Wait<'a> {
    /// Creates a wait, without a timeout, for a statement that was just submitted.
    pub fn new(
        executor: &'a dyn StatementExecutor,
        id: &'a StatementId,
        strategy: &'a dyn PollStrategy,
    ) -> Self {
        Self {
            executor,
            id,
            strategy,
            backoff: Backoff::default(),
            started: Instant::now(),
            age: None,
            timeout: None,
            grace: None,
            expired_credentials_limit: EXPIRED_CREDENTIALS_LIMIT,
            expected: None,
            watch: &|_| {},
            check: &|_| Ok(()),
            before_cancel: &|| Box::pin(async {}),
        }
    }

    /// Sets the pauses after errors.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the timeout, counted from the submit, after which the statement is cancelled.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the time that a cancellation may take after its first response. Default: the time that the
    /// statement ran, and at least 15 minutes.
    ///
    /// A cancelled statement ends after Redshift has rolled it back. AWS documents no bound for that time. A
    /// rollback undoes the statement's writes, so it is not expected to take longer than the statement ran.
    #[must_use]
    pub fn with_cancel_grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// Sets the time for which polls may continuously fail with [`ErrorKind::CredentialsExpired`](crate::ErrorKind::CredentialsExpired) before the
    /// wait ends as [`WaitOutcome::Lost`]. Default: 15 minutes. The credentials may be renewed within this time.
    /// Time in which polls fail for another reason is not counted.
    #[must_use]
    pub fn with_expired_credentials_limit(mut self, limit: Duration) -> Self {
        self.expired_credentials_limit = limit;
        self
    }

    /// Sets the duration of earlier runs of this step.
    #[must_use]
    pub fn with_expected(mut self, expected: Option<Duration>) -> Self {
        self.expected = expected;
        self
    }

    /// Sets the time since the submit. The statement may have ended already, therefore the first poll is sent
    /// at once.
    #[must_use]
    pub fn with_time_since_submit(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }

    /// Calls `watch` for each event.
    #[must_use]
    pub fn with_watch(mut self, watch: &'a (dyn Fn(WaitEvent<'_>) + Send + Sync)) -> Self {
        self.watch = watch;
        self
    }

    /// Checks each description. An error ends the wait as [`WaitOutcome::Lost`].
    #[must_use]
    pub(crate) fn with_check(
        mut self,
        check: &'a (dyn Fn(&Description) -> Result<()> + Send + Sync),
    ) -> Self {
        self.check = check;
        self
    }

    /// Awaits this future before the first cancel is sent, when the timeout has expired.
    #[must_use]
    pub(crate) fn with_before_cancel(
        mut self,
        before_cancel: &'a (dyn Fn() -> BoxFuture<'a, ()> + Send + Sync),
    ) -> Self {
        self.before_cancel = before_cancel;
        self
    }

    /// Waits until the statement has ended, the timeout expires, or the service can no longer return the
    /// status. Adds the requests sent to `requests`.
    ///
    /// Throttling, lost responses and faults of the service are retried with growing pauses until the
    /// timeout.
    pub fn until_ended(self, requests: &mut RequestCounts) -> impl Future<Output = WaitOutcome> {
        let mut state = self.state(requests);
        let left = self.timeout.map(|timeout| timeout.saturating_sub(self.age.unwrap_or_default()));
        let deadline = left.map(|left| after(self.started, left));
        async move {
            match self.poll_until(deadline, self.age.is_some(), &mut state).await {
                Polled::Ended(description) => WaitOutcome::Ended(*description),
                Polled::Lost(error) => WaitOutcome::Lost(error),
                Polled::OutOfTime(_) => {
                    (self.before_cancel)().await;
                    WaitOutcome::TimedOut {
                        timeout: self.timeout.unwrap_or_default(),
                        // Few waits reach this branch; the box keeps its state out of the future of all
                        // others.
                        cancellation: Box::pin(self.cancel_now(&mut state)).await,
                    }
                }
            }
        }
    }

    /// Cancels the statement and waits for the result. Adds the requests sent to `requests`.
    pub async fn cancel(self, requests: &mut RequestCounts) -> CancelOutcome {
        let mut state = self.state(requests);
        self.cancel_now(&mut state).await
    }
}
