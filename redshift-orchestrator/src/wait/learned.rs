//! [`Learned`]: when the same step ended before.

use std::time::Duration;

use super::{LongPoll, NextPoll, PollStrategy, Progress};

/// Leaves the service alone until shortly before the same step ended before, then lets it hold the questions.
///
/// Long statements that take about as long every time are known to have ended as soon as with [`LongPoll`], for a tenth of the
/// questions. One that ends earlier than usual is known when nine tenths of the usual time are over. What is not known yet is asked
/// for as `LongPoll` does. An orchestrator remembers how long its steps took, in [`Durations`](super::Durations) that can be
/// kept from process to process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Learned {
    then: LongPoll,
}

impl Learned {
    /// Asks like `then`, once it is time.
    pub fn new(then: LongPoll) -> Self {
        Self { then }
    }
}

impl PollStrategy for Learned {
    fn next(&self, progress: &Progress) -> NextPoll {
        let then = self.then.next(progress);
        let quiet = progress.expected.unwrap_or_default().mul_f64(0.9).saturating_sub(progress.elapsed);
        // A statement that takes no longer than a question is held needs no experience.
        let is_worth_it = progress.polls == 0 && quiet >= Duration::from_secs(30);
        if is_worth_it { NextPoll { pause: quiet, ..then } } else { then }
    }
}
