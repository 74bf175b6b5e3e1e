//! [`Learned`]: when the same step ended before.

use std::time::Duration;

use super::{Exponential, NextPoll, PollStrategy, Progress};

/// Asks first when the same step ended before, then after short, growing pauses.
///
/// What is not known yet is asked for by the fallback. An orchestrator remembers how long its steps took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Learned {
    fallback: Exponential,
}

impl Learned {
    /// Asks by `fallback` for steps that are new.
    pub fn new(fallback: Exponential) -> Self {
        Self { fallback }
    }
}

impl PollStrategy for Learned {
    fn next(&self, progress: &Progress) -> NextPoll {
        let Some(expected) = progress.expected else { return self.fallback.next(progress) };
        match expected.checked_sub(progress.elapsed) {
            Some(remaining) if progress.polls == 0 => NextPoll::after(remaining),
            // Later than usual: a twentieth of the usual time at first, so that lateness stays in proportion.
            _ => {
                let first = (expected / 20).max(Duration::from_millis(200));
                NextPoll::after(Exponential::new(first).pause(progress.polls.saturating_sub(1)))
            }
        }
    }
}
