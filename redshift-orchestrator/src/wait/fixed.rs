//! [`Fixed`]: polls at a fixed interval.

use std::time::Duration;

use super::{NextPoll, PollStrategy, WaitProgress};

/// Polls at a fixed interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed(Duration);

impl Fixed {
    /// Creates a strategy that polls every `interval`.
    pub fn new(interval: Duration) -> Self {
        Self(interval)
    }
}

impl PollStrategy for Fixed {
    fn next(&self, _: &WaitProgress) -> NextPoll {
        NextPoll::after(self.0)
    }
}
