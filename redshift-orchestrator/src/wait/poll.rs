//! Polls a statement until it ends, and retries polls after transient errors.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::{LongPollSupport, RequestCounts, Wait, WaitEvent, WaitProgress};
use crate::{
    Description, Error, ErrorKind, Result, WaitTime,
    clock::after,
    layer::queue_time::{GivenUp, bounded},
};

/// Minimum pause before a poll that is not a long poll. It prevents a busy loop if a strategy returns a pause
/// of zero.
const LEAST_PAUSE: Duration = Duration::from_millis(10);
/// Time, beyond the requested wait, after which a poll without a response counts as lost and is repeated.
pub(super) const SLACK: Duration = Duration::from_secs(10);
/// Number of consecutive lost long polls after which the network is assumed to drop connections that wait
/// that long.
const LOST_IN_A_ROW: u32 = 2;

impl Wait<'_> {
    pub(super) fn state<'s>(&self, requests: &'s mut RequestCounts) -> State<'s> {
        let mut hasher = DefaultHasher::new();
        self.id.hash(&mut hasher);
        let progress =
            WaitProgress { expected: self.expected, salt: hasher.finish(), ..WaitProgress::default() };
        State { progress, refused_at: None, lost: 0, failed_at: None, expired_for: Duration::ZERO, requests }
    }

    /// Polls until the statement has ended or `deadline` is reached. With `at_once`, the first poll is sent
    /// without a pause, even after the deadline: the statement may have ended long ago, and must then not be
    /// cancelled.
    pub(super) async fn poll_until(
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
            // A long poll waits for at least one second. If less time remains, sleep until the deadline.
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
            let response = match self.describe(wait, deadline.filter(|_| !first), state).await {
                Some(response) => response,
                None => return Polled::OutOfTime(seen),
            };
            let error = match response {
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
                // The wait may be the invalid part of the request, so repeat the poll without it.
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
        let sent_at = Instant::now();
        let held = wait.map_or(Duration::ZERO, WaitTime::duration);
        let response = match bounded(held + SLACK, deadline, self.executor.describe(self.id, wait)).await {
            Ok(response) => response.and_then(|seen| (self.check)(&seen).map(|()| seen)),
            Err(GivenUp::NotSent) => return None,
            Err(GivenUp::TimedOut) => Err(self.no_response()),
        };
        state.requests.describes += 1;
        if wait.is_some() {
            let is_lost = matches!(&response, Err(error) if error.kind() == ErrorKind::Disconnected);
            state.lost = if is_lost { state.lost + 1 } else { 0 };
        }
        match &response {
            Ok(description) => {
                (state.failed_at, state.expired_for) = (None, Duration::ZERO);
                state.progress.polls += 1;
                (self.watch)(WaitEvent::Polled(&description.status));
                let early =
                    wait.is_some() && sent_at.elapsed() < held / 2 && !description.status.is_terminal();
                state.learn(wait.is_some(), early);
            }
            Err(error) if error.kind() == ErrorKind::TooManyWaiters => state.learn(wait.is_some(), true),
            Err(_) if wait.is_some() && state.lost >= LOST_IN_A_ROW => state.learn(true, true),
            Err(_) => {}
        }
        Some(response)
    }

    pub(super) fn no_response(&self) -> Error {
        Error::new(ErrorKind::Disconnected, "no response in time").with_context("statement_id", self.id)
    }
}

/// Result of [`Wait::poll_until`].
pub(super) enum Polled {
    Ended(Box<Description>),
    /// The deadline was reached. Contains the last description received during the call, if any.
    OutOfTime(Option<Box<Description>>),
    Lost(Error),
}

/// State of a wait: the progress for the strategy, a record of failed polls, and the number of requests.
pub(super) struct State<'a> {
    pub(super) progress: WaitProgress,
    refused_at: Option<Instant>,
    /// Number of long polls lost in a row.
    lost: u32,
    /// Time of the last failed poll.
    failed_at: Option<Instant>,
    /// Total time for which polls have failed because of expired credentials, since the last successful poll.
    expired_for: Duration,
    pub(super) requests: &'a mut RequestCounts,
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

    /// Records a failed poll. Returns the total time for which polls have failed because of expired
    /// credentials, or `None` if this poll failed for another reason.
    ///
    /// The time between two failed polls is attributed to the error of the second one.
    fn credentials_expired_for(&mut self, error: &Error) -> Option<Duration> {
        let now = Instant::now();
        let before = self.failed_at.replace(now).unwrap_or(now);
        if error.kind() != ErrorKind::CredentialsExpired {
            return None;
        }
        self.expired_for += now - before;
        Some(self.expired_for)
    }

    /// Records how the service responded. `waited` is `true` if the poll requested a wait; `refused` is
    /// `true` if the service rejected the wait or responded too early.
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
            // A poll without a wait also counts, so that the pauses keep growing.
            LongPollSupport::Refused { times, ago } if !waited => {
                LongPollSupport::Refused { times: times + 1, ago }
            }
            LongPollSupport::Refused { .. } | LongPollSupport::Supported => LongPollSupport::Supported,
        };
    }
}
