//! [`Jittered`]: adds jitter to another strategy.

use std::time::Duration;

use super::{NextPoll, PollStrategy, WaitProgress};

/// Adds jitter to another strategy, so that waits that began at the same time do not poll at the same time.
///
/// The jitter depends only on the seed, the statement's id and the number of the poll, so a simulated run
/// polls at the same instants each time.
#[derive(Clone, Debug, PartialEq)]
pub struct Jittered<S> {
    inner: S,
    share: f64,
    seed: u64,
}

impl<S> Jittered<S> {
    /// Creates a strategy that changes each pause of `inner` by up to ± 10 %.
    pub fn new(inner: S, seed: u64) -> Self {
        Self { inner, share: 0.1, seed }
    }

    /// Sets the maximum change as a share of the pause, 0 to 1. Default: 0.1.
    #[must_use]
    pub fn with_share(mut self, share: f64) -> Self {
        self.share = share.clamp(0.0, 1.0);
        self
    }
}

impl<S: PollStrategy> PollStrategy for Jittered<S> {
    fn next(&self, progress: &WaitProgress) -> NextPoll {
        let NextPoll { pause, wait } = self.inner.next(progress);
        let mut draw = fastrand::Rng::with_seed(self.seed ^ progress.salt.rotate_left(progress.polls));
        NextPoll { pause: moved(pause, self.share, draw.f64()), wait }
    }
}

/// Returns the pause with jitter. `drawn` selects a pause between the shortest (0) and the longest (1).
fn moved(pause: Duration, share: f64, drawn: f64) -> Duration {
    let seconds = pause.as_secs_f64() * (1.0 + (drawn * 2.0 - 1.0) * share);
    Duration::try_from_secs_f64(seconds).unwrap_or(pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_covers_its_range_from_earliest_to_latest() {
        let second = Duration::from_secs(1);
        assert_eq!(moved(second, 0.2, 0.0), Duration::from_millis(800));
        assert_eq!(moved(second, 0.2, 0.5), second);
        assert_eq!(moved(second, 0.2, 1.0), Duration::from_millis(1_200));
        assert_eq!(moved(second, 1.0, 0.0), Duration::ZERO);
        assert_eq!(moved(Duration::ZERO, 1.0, 1.0), Duration::ZERO);
        assert_eq!(moved(Duration::MAX, 1.0, 1.0), Duration::MAX);
    }
}
