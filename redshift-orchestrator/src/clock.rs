//! [`Clock`]: the time of day, as a value.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

/// The time of day. The service's promises (a token for 8 hours, a record for 24) outlive a process, so the journal keeps
/// this time and not a process's own counter. Everything shorter (pauses, deadlines) follows tokio's clock.
///
/// # For implementors
///
/// A clock that jumps back makes an old intent look young. Keep the machine's time synchronised; the windows keep a margin
/// of 15 minutes.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where the machine's clock comes in as a value"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that begins at a given time and then follows tokio's, so that paused tests and simulations are repeatable.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    origin: Timestamp,
    start: Instant,
}

impl TokioClock {
    /// A clock that shows `origin` now. Needs a tokio runtime only if its time is paused.
    pub fn starting_at(origin: Timestamp) -> Self {
        Self { origin, start: Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.origin + self.start.elapsed()
    }
}

/// How long ago `then` was; nothing if the clock says it is still to come.
pub(crate) fn age(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or(Duration::ZERO)
}
