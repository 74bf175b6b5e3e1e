//! [`Clock`]: a source of wall-clock time.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

/// Source of wall-clock time. The service's time limits (8 hours for a token, 24 hours for a record) outlive
/// a process, so the journal records wall-clock time instead of a process's monotonic time. Everything
/// shorter (pauses, deadlines) uses tokio's clock.
///
/// # For implementors
///
/// A clock that is set back makes an old intent look recent. Keep the machine's clock synchronised; the time
/// limits have a safety margin of 15 minutes.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Returns the current time.
    fn now(&self) -> Timestamp;
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
    /// Creates a clock whose current time is `origin`. If the runtime's time is paused, call this inside the
    /// runtime; otherwise no runtime is needed.
    pub fn starting_at(origin: Timestamp) -> Self {
        Self { origin, start: Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.origin + self.start.elapsed()
    }
}

/// Returns the instant after this time. A time of more than 30 years is shortened, because an instant cannot
/// represent every duration.
pub(crate) fn after(start: Instant, time: Duration) -> Instant {
    const LONGEST: Duration = Duration::from_hours(30 * 365 * 24);
    start + time.min(LONGEST)
}

/// Returns the time since `then`; zero if `then` is in the future.
pub(crate) fn age(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or(Duration::ZERO)
}
