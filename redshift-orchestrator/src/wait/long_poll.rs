//! [`LongPoll`]: the service delays the response until the statement has ended.

use std::time::Duration;

use super::{Exponential, LongPollSupport, NextPoll, PollStrategy, WaitProgress};
use crate::WaitTime;

/// Polls with requests whose response the service delays until the statement has ended, for up to 30 seconds.
/// The default.
///
/// The end of a statement is noticed within one round trip, at one request per 30 seconds. The strategy falls
/// back to growing pauses when the service rejects waiters
/// ([`TooManyWaiters`](crate::ErrorKind::TooManyWaiters)), ignores the field and responds at once, or when
/// two long polls in a row are lost. It tries long polls again after 30 seconds. If the service reports the
/// field as invalid, it does not try them again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LongPoll {
    wait: WaitTime,
    fallback: Exponential,
}

/// Time without long polls after one was rejected. Other waiters have usually left by then.
const REFUSED_FOR: Duration = Duration::from_secs(30);

impl LongPoll {
    /// Creates a strategy whose polls wait for up to `wait`.
    pub fn new(wait: WaitTime) -> Self {
        Self { wait, fallback: Exponential::default() }
    }

    /// Sets the pauses that are used while long polls are not possible.
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
    fn next(&self, progress: &WaitProgress) -> NextPoll {
        match progress.long_polls {
            LongPollSupport::Supported => NextPoll { pause: Duration::ZERO, wait: Some(self.wait) },
            LongPollSupport::Refused { times, ago } => {
                let pause = self.fallback.pause(times.saturating_sub(1));
                let again = ago + pause >= REFUSED_FOR;
                NextPoll { pause, wait: again.then_some(self.wait) }
            }
            LongPollSupport::Unsupported { polls } => NextPoll::after(self.fallback.pause(polls)),
        }
    }
}
