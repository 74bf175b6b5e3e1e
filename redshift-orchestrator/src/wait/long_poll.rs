//! [`LongPoll`]: sends polls whose response the service delays until the statement has ended.

use std::time::Duration;

use super::{Exponential, LongPollSupport, NextPoll, PollStrategy, WaitProgress};
use crate::WaitTime;

/// Sends long polls: the service delays each response until the statement has ended, for up to 30 seconds.
/// This is the default strategy.
///
/// The end of a statement is noticed within one round trip, at one request per 30 seconds. The strategy falls
/// back to polls without a wait, after growing pauses, if the service reports too many waiting requests
/// ([`TooManyWaiters`](crate::ErrorKind::TooManyWaiters)), if it ignores the wait and responds at once, or if
/// two long polls in a row are lost. A long poll is tried again 30 seconds later. If the service reports the
/// wait as invalid, no further long poll is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LongPoll {
    wait: WaitTime,
    fallback: Exponential,
}

/// Time without long polls after the service rejected one. Other requests that wait for the same statement,
/// each for at most 30 seconds, have usually ended by then.
const REFUSED_FOR: Duration = Duration::from_secs(30);

impl LongPoll {
    /// Creates a strategy whose polls wait for up to `wait`.
    pub fn new(wait: WaitTime) -> Self {
        Self { wait, fallback: Exponential::default() }
    }

    /// Sets the pauses between polls while long polls are unavailable.
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
