//! [`PollStrategy`]: the time of the next poll.

use std::{fmt, sync::Arc, time::Duration};

use crate::WaitTime;

/// Determines the time of the next poll: a pure function of the progress of a wait.
///
/// | strategy | first poll | next polls | use for |
/// |---|---|---|---|
/// | [`LongPoll`](super::LongPoll) | at once, a long poll of up to 30 s | at once, long polls | everything; the default |
/// | [`Fixed`](super::Fixed) | after the interval | after the interval | a fixed rate of requests |
/// | [`Exponential`](super::Exponential) | after the first pause | after growing pauses, up to a maximum | services without long polling |
/// | [`Learned`](super::Learned) | shortly before this step usually ends, a long poll | at once, long polls | long statements with a steady duration |
/// | [`Jittered`](super::Jittered) | close to that of another strategy | close to those of another strategy | many waits that begin at the same time |
pub trait PollStrategy: fmt::Debug + Send + Sync {
    /// Returns the next poll.
    fn next(&self, progress: &WaitProgress) -> NextPoll;
}

impl<S: PollStrategy + ?Sized> PollStrategy for Arc<S> {
    fn next(&self, progress: &WaitProgress) -> NextPoll {
        (**self).next(progress)
    }
}

/// Time and form of the next poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NextPoll {
    /// Pause before the poll.
    pub pause: Duration,
    /// Time for which the service may delay the response; `None` for an immediate response.
    pub wait: Option<WaitTime>,
}

impl NextPoll {
    /// Creates a poll after a pause, with an immediate response.
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

/// WaitProgress of the wait for one statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitProgress {
    /// Number of responses.
    pub polls: u32,
    /// Time since the submit, as far as this process knows.
    pub elapsed: Duration,
    /// Duration of earlier runs of this step, if known.
    pub expected: Option<Duration>,
    /// How the service responds to long polls.
    pub long_polls: LongPollSupport,
    /// A number that differs between statements and is the same in every run.
    pub salt: u64,
}

/// How the service responds to long polls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LongPollSupport {
    /// It delays the response as requested, or no long poll was sent yet.
    #[default]
    Supported,
    /// It reports too many waiting requests, or responds too early with a status that is not final. Other
    /// waiters may leave, so a later attempt may succeed.
    Refused {
        /// Number of rejections in a row.
        times: u32,
        /// Time since the last rejection.
        ago: Duration,
    },
    /// It does not recognise the field that requests a wait.
    Unsupported {
        /// Number of responses since this was detected.
        polls: u32,
    },
}
