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

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::time::{Instant, sleep_until};

use crate::{
    Backoff, Description, Error, ErrorKind, FailureKind, Result, StatementExecutor, StatementId, Status,
    WaitTime,
    clock::after,
    layer::queue_time::{GivenUp, bounded},
};

mod durations;
mod exponential;
mod fixed;
mod jittered;
mod learned;
mod long_poll;
mod strategy;

pub use durations::Durations;
pub use exponential::Exponential;
pub use fixed::Fixed;
pub use jittered::Jittered;
pub use learned::Learned;
pub use long_poll::LongPoll;
pub use strategy::{LongPollSupport, NextPoll, PollStrategy, Progress};

/// Result of waiting for a statement.
#[derive(Debug)]
#[non_exhaustive]
pub enum WaitOutcome {
    /// The statement ended by itself: `FINISHED`, `FAILED` or `ABORTED`.
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
pub enum CancelOutcome {
    /// According to the service's responses, this cancellation ended the statement.
    Cancelled(Description),
    /// The statement had ended before: finished, failed, or aborted by another client.
    EndedBefore(Description),
    /// The service accepted the cancellation, but the statement had not ended within the [grace
    /// time](Wait::with_grace), as far as the service could be asked. Contains the last description since, if
    /// there was one.
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
    pub faults: BTreeMap<ErrorKind, u32>,
}

impl RequestCounts {
    /// Returns the total number of retried errors.
    pub fn retried_faults(&self) -> u32 {
        self.faults.values().sum()
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
        for (kind, count) in &other.faults {
            *self.faults.entry(*kind).or_default() += count;
        }
    }

    pub(crate) fn retried(&mut self, kind: ErrorKind) {
        *self.faults.entry(kind).or_default() += 1;
    }
}

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

/// Minimum of the default of [`Wait::with_grace`]. It is long enough for short outages of the service.
const LEAST_GRACE: Duration = Duration::from_secs(15 * 60);
/// Default of [`Wait::with_expired_credentials_limit`].
const EXPIRED_CREDENTIALS_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Minimum pause before a poll that is not a long poll. It prevents a busy loop with any strategy.
const LEAST_PAUSE: Duration = Duration::from_millis(10);
/// Additional time, beyond the requested wait, after which a poll counts as lost and is sent again.
const SLACK: Duration = Duration::from_secs(10);
/// Number of long polls lost in a row after which the network is assumed not to keep connections open for
/// that long.
const LOST_IN_A_ROW: u32 = 2;

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
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// Sets the time for which polls may continuously fail with [`ErrorKind::CredentialsExpired`] before the
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
    pub fn attached_after(mut self, age: Duration) -> Self {
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

    fn state<'s>(&self, requests: &'s mut RequestCounts) -> State<'s> {
        let mut hasher = DefaultHasher::new();
        self.id.hash(&mut hasher);
        let progress = Progress { expected: self.expected, salt: hasher.finish(), ..Progress::default() };
        State { progress, refused_at: None, lost: 0, failed_at: None, expired_for: Duration::ZERO, requests }
    }

    /// Polls until the statement has ended or `deadline` is reached. With `at_once`, the first poll is sent
    /// without a pause, even after the deadline, so that a statement that ended long ago is not cancelled.
    async fn poll_until(
        &self,
        deadline: Option<Instant>,
        mut at_once: bool,
        state: &mut State<'_>,
    ) -> Polled {
        let mut pauses = None;
        let mut error_pause = None;
        let mut seen = None;
        loop {
            let now = Instant::now();
            state.refresh(now, now - self.started + self.age.unwrap_or_default());
            let mut next = self.strategy.next(&state.progress);
            let first = std::mem::take(&mut at_once);
            if first {
                next.pause = Duration::ZERO;
            } else if deadline.is_some_and(|deadline| deadline <= now) {
                return Polled::OutOfTime(seen);
            }
            let mut instant = after(now, error_pause.take().unwrap_or(next.pause));
            if next.wait.is_none() && !first {
                instant = instant.max(now + LEAST_PAUSE);
            }
            // A long poll lasts whole seconds; a shorter remaining time is spent sleeping.
            let least = if next.wait.is_some() { Duration::from_secs(1) } else { Duration::ZERO };
            if let Some(deadline) = deadline.filter(|deadline| !first && *deadline <= instant + least) {
                sleep_until(deadline).await;
                return Polled::OutOfTime(seen);
            }
            if now < instant {
                sleep_until(instant).await;
            }
            let wait = next.wait.and_then(|wait| match deadline {
                None => Some(wait),
                Some(deadline) => {
                    WaitTime::at_most(wait.duration().min(deadline.saturating_duration_since(instant)))
                }
            });
            let answer = match self.describe(wait, deadline.filter(|_| !first), state).await {
                Some(answer) => answer,
                None => return Polled::OutOfTime(seen),
            };
            let error = match answer {
                Ok(description) if description.status.is_terminal() => {
                    return Polled::Ended(Box::new(description));
                }
                Ok(description) => {
                    pauses = None;
                    seen = Some(Box::new(description));
                    continue;
                }
                Err(error) => error,
            };
            if state.credentials_expired_for(&error) >= Some(self.expired_credentials_limit) {
                return Polled::Lost(error);
            }
            match error.kind() {
                ErrorKind::TooManyWaiters if wait.is_some() => state.requests.retried(error.kind()),
                // Repeating the poll without a wait shows whether the wait is the invalid part.
                ErrorKind::Invalid | ErrorKind::Unsupported if wait.is_some() => {
                    state.progress.long_polls = LongPollSupport::Unsupported { polls: 0 };
                    error_pause = Some(Duration::ZERO);
                    state.requests.retried(error.kind());
                }
                kind if kind.is_transient() => {
                    state.requests.retried(kind);
                    let pauses =
                        pauses.get_or_insert_with(|| Box::new(self.backoff.pauses(state.progress.salt)));
                    error_pause = Some(pauses.after(&error));
                }
                _ => return Polled::Lost(error),
            }
            (self.watch)(WaitEvent::Retried(&error));
        }
    }

    /// Sends one poll, and records whether the service delayed the response as requested. Returns `None` if
    /// the poll was still in a queue at the deadline.
    async fn describe(
        &self,
        wait: Option<WaitTime>,
        deadline: Option<Instant>,
        state: &mut State<'_>,
    ) -> Option<Result<Description>> {
        let asked = Instant::now();
        let held = wait.map_or(Duration::ZERO, WaitTime::duration);
        let answer = match bounded(held + SLACK, deadline, self.executor.describe(self.id, wait)).await {
            Ok(answer) => answer.and_then(|seen| (self.check)(&seen).map(|()| seen)),
            Err(GivenUp::Unsent) => return None,
            Err(GivenUp::Late) => Err(self.no_answer()),
        };
        state.requests.describes += 1;
        if wait.is_some() {
            let is_lost = matches!(&answer, Err(error) if error.kind() == ErrorKind::Disconnected);
            state.lost = if is_lost { state.lost + 1 } else { 0 };
        }
        match &answer {
            Ok(description) => {
                (state.failed_at, state.expired_for) = (None, Duration::ZERO);
                state.progress.polls += 1;
                (self.watch)(WaitEvent::Polled(&description.status));
                let early = wait.is_some() && asked.elapsed() < held / 2 && !description.status.is_terminal();
                state.learn(wait.is_some(), early);
            }
            Err(error) if error.kind() == ErrorKind::TooManyWaiters => state.learn(wait.is_some(), true),
            Err(_) if wait.is_some() && state.lost >= LOST_IN_A_ROW => state.learn(true, true),
            Err(_) => {}
        }
        Some(answer)
    }

    fn no_answer(&self) -> Error {
        Error::new(ErrorKind::Disconnected, "no response in time").with_context("statement_id", self.id)
    }

    async fn cancel_now(&self, state: &mut State<'_>) -> CancelOutcome {
        let ran = self.started.elapsed() + self.age.unwrap_or_default();
        let grace = self.grace.unwrap_or(ran.max(LEAST_GRACE));
        let mut deadline = None;
        let mut pauses = self.backoff.pauses(state.progress.salt);
        let mut last = Error::new(ErrorKind::Other, "the service rejected the cancellation");
        // `true` if an abort may be the effect of this cancellation: a cancel was accepted, or its response
        // was lost.
        let mut is_ours = false;
        loop {
            state.requests.cancels += 1;
            let answer = bounded(grace.min(SLACK), None, self.executor.cancel(self.id)).await;
            let deadline = *deadline.get_or_insert_with(|| after(Instant::now(), grace));
            let accepted = match answer.unwrap_or_else(|_| Err(self.no_answer())) {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Other errors describe the state of the statement, which the next poll reports more
                    // precisely.
                    if error.kind().is_transient() {
                        state.requests.retried(error.kind());
                        (self.watch)(WaitEvent::Retried(&error));
                    }
                    is_ours |= error.kind().may_have_taken_effect();
                    last = error;
                    false
                }
            };
            is_ours |= accepted;
            // The status is polled in every case: the service also rejects the cancel of a statement that has
            // ended, and a cancel whose response was lost may have worked. If no cancel was accepted, the
            // status is polled once, and the cancel is repeated after a pause.
            let until = if accepted { deadline } else { Instant::now() };
            match self.poll_until(Some(until), true, state).await {
                Polled::Ended(description) if is_ours && is_cancelled(&description) => {
                    return CancelOutcome::Cancelled(*description);
                }
                Polled::Ended(description) => return CancelOutcome::EndedBefore(*description),
                Polled::OutOfTime(description) if accepted => {
                    return CancelOutcome::Pending(description.map(|description| *description));
                }
                Polled::Lost(error) if accepted && error.kind() == ErrorKind::CredentialsExpired => {
                    return CancelOutcome::Pending(None);
                }
                Polled::Lost(error) => return CancelOutcome::NotCancelled(error),
                Polled::OutOfTime(_) => {}
            }
            let again = after(Instant::now(), pauses.after(&last));
            if deadline <= again {
                return CancelOutcome::NotCancelled(
                    Error::new(last.kind(), "the statement could not be cancelled")
                        .with_context("statement_id", self.id)
                        .with_source(last),
                );
            }
            sleep_until(again).await;
        }
    }
}

/// Returns `true` for `ABORTED`, and for a failure whose error text is that of a cancellation: the database
/// can be faster than the service.
pub(crate) fn is_cancelled(description: &Description) -> bool {
    match &description.status {
        Status::Aborted => true,
        Status::Failed => description
            .error
            .as_deref()
            .is_some_and(|text| FailureKind::of_text(text) == FailureKind::Aborted),
        _ => false,
    }
}

enum Polled {
    Ended(Box<Description>),
    /// The deadline was reached. Contains the last description since the call began.
    OutOfTime(Option<Box<Description>>),
    Lost(Error),
}

/// State of a wait: its progress and the behaviour of the service.
struct State<'a> {
    progress: Progress,
    refused_at: Option<Instant>,
    /// Number of long polls lost in a row.
    lost: u32,
    /// Time of the last poll that failed.
    failed_at: Option<Instant>,
    /// Time before polls that failed because of expired credentials, since the last successful one.
    expired_for: Duration,
    requests: &'a mut RequestCounts,
}

impl State<'_> {
    fn refresh(&mut self, now: Instant, elapsed: Duration) {
        self.progress.elapsed = elapsed;
        if let (LongPollSupport::Refused { ago, .. }, Some(at)) =
            (&mut self.progress.long_polls, self.refused_at)
        {
            *ago = now - at;
        }
    }

    /// Notes a failed poll. Returns the time for which polls have failed because of expired credentials; `None`
    /// after any other error.
    ///
    /// The time from one failed poll to the next belongs to the error of the next.
    fn credentials_expired_for(&mut self, error: &Error) -> Option<Duration> {
        let now = Instant::now();
        let before = self.failed_at.replace(now).unwrap_or(now);
        if error.kind() != ErrorKind::CredentialsExpired {
            return None;
        }
        self.expired_for += now - before;
        Some(self.expired_for)
    }

    /// Updates the state from a response. `waited`: the poll requested a wait; `refused`: the service
    /// rejected it or responded too early.
    fn learn(&mut self, waited: bool, refused: bool) {
        self.progress.long_polls = match self.progress.long_polls {
            LongPollSupport::Unsupported { polls } => LongPollSupport::Unsupported { polls: polls + 1 },
            LongPollSupport::Refused { times, .. } if waited && refused => {
                self.refused_at = Some(Instant::now());
                LongPollSupport::Refused { times: times + 1, ago: Duration::ZERO }
            }
            LongPollSupport::Supported if waited && refused => {
                self.refused_at = Some(Instant::now());
                LongPollSupport::Refused { times: 1, ago: Duration::ZERO }
            }
            // Polls without a wait in between do not reset the growth of the pauses.
            LongPollSupport::Refused { times, ago } if !waited => {
                LongPollSupport::Refused { times: times + 1, ago }
            }
            LongPollSupport::Refused { .. } | LongPollSupport::Supported => LongPollSupport::Supported,
        };
    }
}
