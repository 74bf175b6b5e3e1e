//! [`Clock`]: where instants take their time from.

use std::fmt;

use jiff::Timestamp;

/// Where a table takes the time of its instants from.
///
/// For callers: leave the default, [`SystemClock`]. A simulation passes its own time, and then the same run makes
/// the same instants; a function is a clock too, by [`FnClock`].
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present.
    fn now(&self) -> Timestamp;
}

/// The time of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock of this machine")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that asks a function.
pub struct FnClock<F>(pub F);

impl<F: Fn() -> Timestamp + Send + Sync> Clock for FnClock<F> {
    fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl<F> fmt::Debug for FnClock<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FnClock")
    }
}
