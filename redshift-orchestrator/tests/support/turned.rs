//! Clock that a test sets.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use redshift_orchestrator::Clock;

/// Clock whose time changes only when a test calls [`turn`](Self::turn).
#[derive(Clone, Debug)]
pub(crate) struct TurnedClock(Arc<Mutex<Timestamp>>);

impl TurnedClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new("2026-11-23T06:30:00Z".parse().unwrap())))
    }

    pub(crate) fn turn(&self, hours: f64) {
        *self.0.lock().unwrap() += Duration::from_secs_f64(hours * 3_600.0);
    }
}

impl Clock for TurnedClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}
