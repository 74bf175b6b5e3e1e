//! [`Term`]: the time for which a lease or a heartbeat counts, as its sender knows it.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::LeaseWatch;
use crate::timeline::{Clock, SystemClock};

/// A term that its sender extends again and again.
#[derive(Debug)]
pub(crate) struct Term {
    /// `None` after the term was ended.
    end: watch::Sender<Option<End>>,
}

/// The end of a term.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    at: Instant,
    /// The end by the system's clock, which continues while the machine is suspended.
    by_clock: Timestamp,
}

impl End {
    /// Returns the end of a term that begins now. Call it before the request that extends the term, because
    /// the storage dates the request later.
    pub(crate) fn after(lasts: Duration) -> Self {
        let now = SystemClock.now();
        Self { at: Instant::now() + lasts, by_clock: now.checked_add(lasts).unwrap_or(Timestamp::MAX) }
    }
}

impl Term {
    pub(crate) fn new(end: End) -> Self {
        Self { end: watch::Sender::new(Some(end)) }
    }

    pub(crate) fn extend(&self, end: End) {
        self.end.send_replace(Some(end));
    }

    pub(crate) fn end(&self) {
        self.end.send_replace(None);
    }
}

#[async_trait]
impl LeaseWatch for Term {
    fn remaining(&self) -> Duration {
        let Some(end) = *self.end.borrow() else { return Duration::ZERO };
        let by_clock = Duration::try_from(end.by_clock.duration_since(SystemClock.now()));
        end.at.saturating_duration_since(Instant::now()).min(by_clock.unwrap_or(Duration::ZERO))
    }

    async fn lost(&self) {
        let mut moved = self.end.subscribe();
        loop {
            let left = self.remaining();
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = sleep(left) => {}
                // The sender lives as long as `self`.
                _ = moved.changed() => {}
            }
        }
    }
}
