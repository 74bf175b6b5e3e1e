//! [`Learned`]: waits for the usual duration of the step before it polls.

use std::time::Duration;

use super::{LongPoll, NextPoll, PollStrategy, WaitProgress};

/// Sends the first poll shortly before the usual end of the step, then continues with long polls.
///
/// For statements with a steady duration, the end is noticed as soon as with [`LongPoll`], with a tenth of
/// the requests. If the statement ends earlier than usual, that is noticed after nine tenths of the usual
/// duration. Without a known duration, the strategy behaves like `LongPoll`. An orchestrator records the
/// durations of its steps in [`Durations`](super::Durations), which can be carried over to another process.
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
        // A short statement, which ends within a single long poll, gains nothing from the pause.
        let is_worth_it = progress.polls == 0 && quiet >= Duration::from_secs(30);
        if is_worth_it { NextPoll { pause: quiet, ..then } } else { then }
    }
}
