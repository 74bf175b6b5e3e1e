//! [`Learned`]: sends the first poll shortly before the usual end of the step.

use std::time::Duration;

use super::{LongPoll, NextPoll, PollStrategy, WaitProgress};

/// Sends the first poll shortly before the usual end of the step, then continues with long polls.
///
/// The first poll is sent after nine tenths of the expected duration. If the step takes a steady time, its
/// end is noticed as quickly as with [`LongPoll`], with a tenth of the requests. If it ends earlier than
/// usual, its end is noticed at the first poll. Without an expected duration, or if the first pause would be
/// shorter than 30 seconds, the strategy behaves like `LongPoll`. An orchestrator records the durations of
/// its steps in [`Durations`](super::Durations), which another process can load.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Learned {
    then: LongPoll,
}

impl Learned {
    /// Creates a strategy that polls like `then` after the first pause.
    pub fn new(then: LongPoll) -> Self {
        Self { then }
    }
}

impl PollStrategy for Learned {
    fn next(&self, progress: &WaitProgress) -> NextPoll {
        let then = self.then.next(progress);
        let quiet = progress.expected.unwrap_or_default().mul_f64(0.9).saturating_sub(progress.elapsed);
        // A pause of less than 30 s saves no request: a single long poll covers the same time.
        let is_worth_it = progress.polls == 0 && quiet >= Duration::from_secs(30);
        if is_worth_it { NextPoll { pause: quiet, ..then } } else { then }
    }
}
