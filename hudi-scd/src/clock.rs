//! [`Clock`]: the source of time for instants.

use std::fmt;

use jiff::Timestamp;

/// The source of time for a table's instants.
///
/// For callers: keep the default, [`SystemClock`]. A simulation can pass its own time, so that equal runs
/// create equal instants. [`FnClock`] turns a function into a clock.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Returns the current time.
    fn now(&self) -> Timestamp;
}

/// The system's time.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that calls a function.
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
