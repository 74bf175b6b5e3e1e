//! [`Fixed`]: every so often.

use std::time::Duration;

use super::{NextPoll, PollStrategy, Progress};

/// Asks every so often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed(Duration);

impl Fixed {
    /// Asks after each `interval`.
    pub fn new(interval: Duration) -> Self {
        Self(interval)
    }
}

impl PollStrategy for Fixed {
    fn next(&self, _: &Progress) -> NextPoll {
        NextPoll::after(self.0)
    }
}
