//! [`Clock`]: the time of day, carried by tokio's clock.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// The time of day: a moment to begin with, and what tokio's clock counted since. It stands still and jumps where tokio's does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch: Timestamp,
    start: Instant,
}

impl Clock {
    /// A clock that shows `epoch` now.
    pub(crate) fn starting_at(epoch: Timestamp) -> Self {
        Self { epoch, start: Instant::now() }
    }

    /// A clock that shows the machine's time.
    #[expect(clippy::disallowed_methods, reason = "the one place where this room reads the machine's clock")]
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "scripts begin at a fixed moment"))]
    pub(crate) fn of_the_machine() -> Self {
        Self::starting_at(Timestamp::now())
    }

    pub(crate) fn now(&self) -> Timestamp {
        later(self.epoch, self.start.elapsed())
    }
}

/// `moment + duration`, at most the end of time.
pub(crate) fn later(moment: Timestamp, duration: Duration) -> Timestamp {
    moment.checked_add(duration).unwrap_or(Timestamp::MAX)
}
