//! [`LongPoll`]: the service holds the question until the statement ended.

use std::time::Duration;

use super::{Exponential, Holding, NextPoll, PollStrategy, Progress};
use crate::WaitTime;

/// Lets the service hold each question until the statement ended, for up to 30 seconds. The default.
///
/// An ending is known one round trip after it happened, for one question in 30 seconds. When the service refuses waiters
/// ([`TooManyWaiters`](crate::ErrorKind::TooManyWaiters)), ignores the field and answers at once, or two held questions in a row are
/// lost on the way, growing pauses take over, and waiting is tried again 30 seconds later; when it calls the field invalid, they
/// stay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LongPoll {
    wait: WaitTime,
    fallback: Exponential,
}

/// How long to leave out waits after one was refused: other waiters leave after at most this long.
const REFUSED_FOR: Duration = Duration::from_secs(30);

impl LongPoll {
    /// Lets the service hold each question for up to `wait`.
    pub fn new(wait: WaitTime) -> Self {
        Self { wait, fallback: Exponential::default() }
    }

    /// The pauses while the service does not hold questions.
    #[must_use]
    pub fn with_fallback(mut self, fallback: Exponential) -> Self {
        self.fallback = fallback;
        self
    }
}

impl Default for LongPoll {
    fn default() -> Self {
        Self::new(WaitTime::MAX)
    }
}

impl PollStrategy for LongPoll {
    fn next(&self, progress: &Progress) -> NextPoll {
        match progress.holding {
            Holding::Held => NextPoll { pause: Duration::ZERO, wait: Some(self.wait) },
            Holding::Refused { times, ago } => {
                let pause = self.fallback.pause(times.saturating_sub(1));
                let again = ago + pause >= REFUSED_FOR;
                NextPoll { pause, wait: again.then_some(self.wait) }
            }
            Holding::Unsupported { polls } => NextPoll::after(self.fallback.pause(polls)),
        }
    }
}
