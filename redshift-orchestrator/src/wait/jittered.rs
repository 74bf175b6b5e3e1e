//! [`Jittered`]: a little earlier or later than another strategy.

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
        let deviation = (draw.f64() * 2.0 - 1.0) * self.share;
        NextPoll { pause: pause.mul_f64(1.0 + deviation), wait }
    }
}
