//! [`Exponential`]: ever more seldom, up to a cap.

use std::time::Duration;

use super::{NextPoll, PollStrategy, Progress};

/// Asks ever more seldom, up to a cap.
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
    /// Pauses that begin at `first` and grow by half up to 10 seconds.
    pub fn new(first: Duration) -> Self {
        Self { first, factor: 1.5, max: Duration::from_secs(10) }
    }

    /// How much longer each pause is than the one before it; at least 1.
    #[must_use]
    pub fn with_factor(mut self, factor: f64) -> Self {
        self.factor = factor.max(1.0);
        self
    }

    /// The longest pause.
    #[must_use]
    pub fn with_max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// The pause before question number `index`, counted from 0.
    pub fn pause(&self, index: u32) -> Duration {
        let seconds = self.first.as_secs_f64() * self.factor.powf(f64::from(index));
        Duration::try_from_secs_f64(seconds).map_or(self.max, |pause| pause.min(self.max))
    }
}

impl Default for Exponential {
    /// 250 ms, growing by half, up to 10 s: at most a third of a statement's time is waited in vain until 30 s, and at most
    /// 10 s after.
    fn default() -> Self {
        Self::new(Duration::from_millis(250))
    }
}

impl PollStrategy for Exponential {
    fn next(&self, progress: &Progress) -> NextPoll {
        NextPoll::after(self.pause(progress.polls))
    }
}
