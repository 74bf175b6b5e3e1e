//! [`Clock`]: a source of wall-clock time.

use std::{fmt, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

/// Source of wall-clock time, for the journal and for time limits that outlast a process.
///
/// The service remembers a token for 8 hours and a statement for 24 hours. These limits can outlast the
/// process, so the journal records wall-clock time. Pauses and deadlines use tokio's clock.
///
/// # For implementors
///
/// If the clock is set back, an old intent looks recent, and its statement can run twice. Keep the machine's
/// clock synchronised. The time limits have a safety margin of 15 minutes. A statement is not submitted again
/// if the clock is further than this margin behind its intent.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Returns the current time.
    fn now(&self) -> Timestamp;
}

#[deny(clippy::missing_trait_methods)]
impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }
}

/// The machine's clock. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the only use of the machine's clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Clock that starts at a given time and then advances with tokio's clock, which makes paused tests and
/// simulations repeatable.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    origin: Timestamp,
    start: Instant,
}

impl TokioClock {
    /// Creates a clock whose current time is `origin`. With paused time, call this function inside the
    /// runtime.
    pub fn starting_at(origin: Timestamp) -> Self {
        Self { origin, start: Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.origin + self.start.elapsed()
    }
}

/// Returns `start + time`. A `time` of more than 30 years is shortened, because the sum could overflow.
pub(crate) fn after(start: Instant, time: Duration) -> Instant {
    const LONGEST: Duration = Duration::from_hours(30 * 365 * 24);
    start + time.min(LONGEST)
}

/// Returns the time since `then`; zero if `then` is in the future.
pub(crate) fn age(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or(Duration::ZERO)
}
