//! [`Backoff`]: pauses after errors.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::Error;

/// Pauses after errors. They grow up to a maximum, with jitter from a seed.
///
/// By default, the first pause is 200 ms, and each further pause is twice as long, up to 20 s before jitter.
/// The AWS SDK's standard retry has the same maximum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    first: Duration,
    factor: f32,
    max: Duration,
    seed: u64,
}

impl Backoff {
    /// Creates pauses that begin at `first` and double each time, up to 20 seconds.
    pub fn new(first: Duration) -> Self {
        Self { first, factor: 2.0, max: Duration::from_secs(20), seed: 0 }
    }

    /// Sets the ratio of each pause to the previous one; at least 1. Default: 2.
    #[must_use]
    pub fn with_factor(mut self, factor: f32) -> Self {
        self.factor = factor.max(1.0);
        self
    }

    /// Sets the maximum pause before jitter. Default: 20 seconds.
    #[must_use]
    pub fn with_max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// Sets the seed of the jitter. The same seed produces the same pauses.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Returns an unlimited number of pauses for a series of errors. Statements with the same seed but
    /// different values of `salt` have different pauses.
    pub(crate) fn pauses(&self, salt: u64) -> Pauses {
        let builder = ExponentialBuilder::new()
            .with_min_delay(self.first)
            .with_factor(self.factor)
            .with_max_delay(self.max)
            .without_max_times()
            .with_jitter()
            .with_jitter_seed(self.seed ^ salt);
        Pauses { inner: builder.build(), max: self.max }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(200))
    }
}

/// Pauses for a series of errors.
#[derive(Debug)]
pub(crate) struct Pauses {
    inner: ExponentialBackoff,
    max: Duration,
}

impl Pauses {
    /// Returns the pause after `error`: the next pause of the series, or the pause that the service requested
    /// if that is longer.
    pub(crate) fn after(&mut self, error: &Error) -> Duration {
        let ours = self.inner.next().unwrap_or(self.max);
        error.retry_after().map_or(ours, |theirs| theirs.max(ours))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn pauses_double_up_to_the_cap_and_jitter_at_most_doubles_them() {
        let backoff = Backoff::new(Duration::from_secs(1)).with_max(Duration::from_secs(8));
        let mut pauses = backoff.pauses(7);
        let error = Error::new(ErrorKind::Throttled, "rate exceeded");
        for least in [1, 2, 4, 8, 8, 8] {
            let pause = pauses.after(&error);
            let least = Duration::from_secs(least);
            assert!(least <= pause && pause <= least * 2, "{pause:?} for {least:?}");
        }
    }

    #[test]
    fn the_service_can_lengthen_a_pause_but_not_shorten_it() {
        let patient =
            Error::new(ErrorKind::Throttled, "rate exceeded").with_retry_after(Duration::from_secs(90));
        let hasty = Error::new(ErrorKind::Throttled, "rate exceeded").with_retry_after(Duration::ZERO);
        let mut pauses = Backoff::default().pauses(0);
        assert_eq!(pauses.after(&patient), Duration::from_secs(90));
        assert!(pauses.after(&hasty) >= Duration::from_millis(200));
    }

    #[test]
    fn the_same_seed_gives_the_same_pauses() {
        let error = Error::new(ErrorKind::NotSent, "no route");
        let series = |salt| {
            let mut pauses = Backoff::default().with_seed(3).pauses(salt);
            std::iter::repeat_with(|| pauses.after(&error)).take(5).collect::<Vec<_>>()
        };
        assert_eq!(series(1), series(1));
        assert_ne!(series(1), series(2));
    }
}
