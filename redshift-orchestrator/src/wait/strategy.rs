//! [`PollStrategy`]: determines when a wait polls next, and for how long the service may delay the response.

use std::{fmt, sync::Arc, time::Duration};

use crate::WaitTime;

/// Determines the next poll of a wait. A strategy is a pure function of the wait's progress.
///
/// | strategy | first poll | next polls | use for |
/// |---|---|---|---|
/// | [`LongPoll`](super::LongPoll) | at once, a long poll of up to 30 s | at once, long polls | any statement; the default |
/// | [`Fixed`](super::Fixed) | after the interval | after the interval | a fixed rate of requests |
/// | [`Exponential`](super::Exponential) | after the first pause | after growing pauses, up to a maximum | services without long polling |
/// | [`Learned`](super::Learned) | shortly before this step usually ends, a long poll | at once, long polls | long statements with a steady duration |
/// | [`Jittered`](super::Jittered) | close to the first poll of another strategy | close to the next polls of another strategy | many waits that begin at the same time |
pub trait PollStrategy: fmt::Debug + Send + Sync {
    /// Returns the next poll.
    fn next(&self, progress: &WaitProgress) -> NextPoll;
}

impl<S: PollStrategy + ?Sized> PollStrategy for Arc<S> {
    fn next(&self, progress: &WaitProgress) -> NextPoll {
        (**self).next(progress)
    }
}

/// The next poll: the pause before it, and the wait that it requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NextPoll {
    /// Pause before the poll.
    pub pause: Duration,
    /// Time for which the service may delay the response; `None` for an immediate response.
    pub wait: Option<WaitTime>,
}

impl NextPoll {
    /// Creates a poll that is sent after a pause and requests an immediate response.
    pub fn after(pause: Duration) -> Self {
        Self { pause, wait: None }
    }

    /// Sets the time for which the service may delay the response.
    #[must_use]
    pub fn with_wait(mut self, wait: WaitTime) -> Self {
        self.wait = Some(wait);
        self
    }
}

/// Progress of the wait for one statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitProgress {
    /// Number of successful polls so far.
    pub polls: u32,
    /// Time since the submit, as far as this process knows.
    pub elapsed: Duration,
    /// Expected duration, derived from earlier runs of this step, if known.
    pub expected: Option<Duration>,
    /// Support for long polls, as observed during this wait.
    pub long_polls: LongPollSupport,
    /// Seed for jitter: a hash of the statement's id.
    pub salt: u64,
}

/// Support for long polls, as observed during this wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LongPollSupport {
    /// The service delays responses as requested, or no long poll has been sent yet.
    #[default]
    Supported,
    /// The service reported too many waiting requests, or responded too early with a status that is not
    /// final. Other waiting requests end sooner or later, so another attempt may succeed.
    Refused {
        /// Number of polls since long polls were last supported.
        times: u32,
        /// Time since the last rejection.
        ago: Duration,
    },
    /// The service reports a request with a wait as invalid.
    Unsupported {
        /// Number of successful polls since then.
        polls: u32,
    },
}
