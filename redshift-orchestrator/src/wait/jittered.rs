//! [`Jittered`]: a little earlier or later than another strategy.

use std::time::Duration;

use super::{NextPoll, PollStrategy, Progress};

/// Asks a little earlier or later than another strategy, so that waits which began together spread out.
///
/// The deviation is drawn from the seed, the statement and the number of the question: the same run gives the same instants.
#[derive(Clone, Debug, PartialEq)]
pub struct Jittered<S> {
    inner: S,
    share: f64,
    seed: u64,
}

impl<S> Jittered<S> {
    /// Moves each pause of `inner` by up to a tenth, either way.
    pub fn new(inner: S, seed: u64) -> Self {
        Self { inner, share: 0.1, seed }
    }

    /// Moves each pause by up to this share of it, 0 to 1, either way.
    #[must_use]
    pub fn with_share(mut self, share: f64) -> Self {
        self.share = share.clamp(0.0, 1.0);
        self
    }
}

impl<S: PollStrategy> PollStrategy for Jittered<S> {
    fn next(&self, progress: &Progress) -> NextPoll {
        let NextPoll { pause, wait } = self.inner.next(progress);
        let mut draw = fastrand::Rng::with_seed(self.seed ^ progress.salt.rotate_left(progress.polls));
        NextPoll { pause: moved(pause, self.share, draw.f64()), wait }
    }
}

/// The pause, moved by where between its earliest and its latest instant it was drawn, 0 to 1.
fn moved(pause: Duration, share: f64, drawn: f64) -> Duration {
    pause.mul_f64(1.0 + (drawn * 2.0 - 1.0) * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_middle_and_latest_instant() {
        let second = Duration::from_secs(1);
        assert_eq!(moved(second, 0.2, 0.0), Duration::from_millis(800));
        assert_eq!(moved(second, 0.2, 0.5), second);
        assert_eq!(moved(second, 0.2, 1.0), Duration::from_millis(1_200));
        assert_eq!(moved(second, 1.0, 0.0), Duration::ZERO);
        assert_eq!(moved(Duration::ZERO, 1.0, 1.0), Duration::ZERO);
    }
}
