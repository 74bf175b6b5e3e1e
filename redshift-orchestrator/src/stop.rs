//! [`StopSignal`]: stops a run early.

use std::{fmt, sync::Arc};

use tokio::sync::watch;

/// Signal that stops a run early. After the request, the run starts no further step and waits for the
/// statements that are running. A statement that has certainly not reached the service is left to the next run.
/// All clones share the request.
#[derive(Clone)]
pub struct StopSignal(Arc<watch::Sender<bool>>);

impl StopSignal {
    /// Creates a signal whose stop has not been requested.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Requests the stop.
    pub fn request(&self) {
        self.0.send_replace(true);
    }

    /// Returns `true` if a stop was requested.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when the stop is requested.
    pub async fn requested(&self) {
        // The wait fails only if the sender is dropped, and `self` owns the sender.
        let _ = self.0.subscribe().wait_for(|requested| *requested).await;
    }
}

impl Default for StopSignal {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StopSignal").field(&self.is_requested()).finish()
    }
}
