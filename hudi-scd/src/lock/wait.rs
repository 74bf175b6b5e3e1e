//! [`Waits`]: the times between attempts to acquire a lock.

use std::{fmt, time::Duration};

/// The time after which a waiting writer logs the holder.
const TOLD_AFTER: Duration = Duration::from_secs(10);

/// Growing waits minus a random part, so that many writers send few requests, and do not send them at the
/// same time.
#[derive(Debug)]
pub(super) struct Waits {
    next: Duration,
    longest: Duration,
    is_told: bool,
}

impl Waits {
    /// Creates waits that grow from `first` up to `times` as long.
    pub(super) fn new(first: Duration, times: u32) -> Self {
        Self { next: first, longest: first * times, is_told: false }
    }

    /// Returns the next wait. `random` selects a value between half of it (0) and all of it (1).
    pub(super) fn next(&mut self, random: f64) -> Duration {
        let wait = self.next;
        self.next = (2 * wait).min(self.longest);
        wait.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }

    /// Logs the holder of the lock, once, after 10 seconds.
    pub(super) fn tell(
        &mut self,
        waited: Duration,
        holder: impl FnOnce() -> String,
        file: impl fmt::Display,
    ) {
        if waited >= TOLD_AFTER && !self.is_told {
            self.is_told = true;
            tracing::warn!(holder = holder(), %file, ?waited, "waiting for the lock of the table");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_lose_at_most_half() {
        let seconds = |random: f64| {
            let mut waits = Waits::new(Duration::from_secs(1), 16);
            (0..7).map(|_| waits.next(random).as_secs_f64()).collect::<Vec<_>>()
        };
        assert_eq!(seconds(1.0), [1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0]);
        assert_eq!(seconds(0.0), [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]);
        assert_eq!(seconds(0.5)[..2], [0.75, 1.5]);
    }
}
