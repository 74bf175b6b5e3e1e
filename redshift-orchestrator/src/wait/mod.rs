//! Waiting for a statement: poll strategies, retries and outcomes.
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
//! Time that a request spends in the queue of a [layer](crate::layer) does not count towards the request's
//! timeout. A poll that is still queued when the statement's timeout expires is not sent.

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

/// Event during a wait, passed to the function set by [`Wait::with_watch`].
#[derive(Debug)]
#[non_exhaustive]
pub enum WaitEvent<'a> {
    /// The service returned the status of the statement.
    Polled(&'a Status),
    /// A request failed and will be retried.
    Retried(&'a Error),
}

/// Waits for one statement to end.
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
    cancel_accepted: bool,
    expired_credentials_limit: Duration,
    expected: Option<Duration>,
    watch: &'a (dyn Fn(WaitEvent<'_>) + Send + Sync),
    check: &'a (dyn Fn(&Description) -> Result<()> + Send + Sync),
    before_cancel: &'a (dyn Fn() -> BoxFuture<'a, ()> + Send + Sync),
}

/// Default of [`Wait::with_expired_credentials_limit`].
pub(crate) const EXPIRED_CREDENTIALS_LIMIT: Duration = Duration::from_secs(15 * 60);

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
            cancel_accepted: false,
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

    /// Sets the maximum duration of a cancellation, counted from the first response to a cancel request.
    /// Default: the time for which the statement has run, but at least 15 minutes.
    ///
    /// A cancelled statement ends only after Redshift has rolled it back. AWS documents no upper bound for a
    /// rollback. The default assumes that undoing the statement's writes takes no longer than making them.
    #[must_use]
    pub fn with_cancel_grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// Sets how long polls may fail because of [expired credentials](crate::ErrorKind::CredentialsExpired)
    /// before the wait ends as [`WaitOutcome::Lost`]. If the credentials are renewed in time, the wait
    /// continues. Time in which polls fail for another reason does not count. Default: 15 minutes.
    #[must_use]
    pub fn with_expired_credentials_limit(mut self, limit: Duration) -> Self {
        self.expired_credentials_limit = limit;
        self
    }

    /// Sets the expected duration, derived from earlier runs of this step. [`Learned`] uses it.
    #[must_use]
    pub fn with_expected(mut self, expected: Option<Duration>) -> Self {
        self.expected = expected;
        self
    }

    /// Sets the time since the submit, for a statement that was submitted earlier. The first poll is then
    /// sent at once, because the statement may already have ended.
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

    /// Marks a cancel as accepted by the service during an earlier wait. Default: `false`.
    #[must_use]
    pub(crate) fn with_cancel_accepted(mut self, cancel_accepted: bool) -> Self {
        self.cancel_accepted = cancel_accepted;
        self
    }

    /// Awaits this future when the timeout has expired, before the first cancel is sent.
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
    /// Polls that are throttled, lost, or rejected because of a fault in the service are retried with growing
    /// pauses until the timeout expires.
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
                        // Boxed, because few waits reach this branch: its state would enlarge the future of
                        // every wait.
                        cancellation: Box::pin(self.cancel_now(&mut state)).await,
                    }
                }
            }
        }
    }

    /// Cancels the statement and waits for it to end. Increments `requests` by the number of requests sent.
    pub async fn cancel(self, requests: &mut RequestCounts) -> CancelOutcome {
        let mut state = self.state(requests);
        self.cancel_now(&mut state).await
    }
}
