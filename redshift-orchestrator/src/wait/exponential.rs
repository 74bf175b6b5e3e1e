//! [`Exponential`]: growing pauses up to a maximum.

use std::time::Duration;

use super::{NextPoll, PollStrategy, WaitProgress};

/// Polls with growing pauses up to a maximum.
///
/// ```
/// use std::time::Duration;
/// use redshift_orchestrator::wait::Exponential;
///
/// let strategy = Exponential::new(Duration::from_millis(250)).with_factor(1.6).with_max(Duration::from_secs(20));
/// assert_eq!(strategy.pause(0), Duration::from_millis(250));
/// assert_eq!(strategy.pause(1), Duration::from_millis(400));
/// assert_eq!(strategy.pause(99), Duration::from_secs(20));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exponential {
    first: Duration,
    factor: f64,
    max: Duration,
}

impl Exponential {
    /// Creates a strategy whose pauses begin at `first` and grow by half up to 10 seconds.
    pub fn new(first: Duration) -> Self {
        Self { first, factor: 1.5, max: Duration::from_secs(10) }
    }

    /// Sets the ratio of each pause to the previous one; at least 1. Default: 1.5.
    #[must_use]
    pub fn with_factor(mut self, factor: f64) -> Self {
        self.factor = factor.max(1.0);
        self
    }

    /// Sets the maximum pause. Default: 10 seconds.
    #[must_use]
    pub fn with_max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// Returns the pause before poll number `index`, counted from 0.
    pub fn pause(&self, index: u32) -> Duration {
        let seconds = self.first.as_secs_f64() * self.factor.powf(f64::from(index));
        Duration::try_from_secs_f64(seconds).map_or(self.max, |pause| pause.min(self.max))
    }
}

impl Default for Exponential {
    /// Creates pauses that start at 250 ms and grow by half each time, up to 10 s. The end of a statement is
    /// noticed at most 10 s late, and at most half of its duration plus 250 ms late.
    fn default() -> Self {
        Self::new(Duration::from_millis(250))
    }
}

impl PollStrategy for Exponential {
    fn next(&self, progress: &WaitProgress) -> NextPoll {
        NextPoll::after(self.pause(progress.polls))
    }
}
