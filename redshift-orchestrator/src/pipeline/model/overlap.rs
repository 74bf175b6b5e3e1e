//! [`Overlap`] and [`StopSignal`]: two reasons why a run does not begin or ends early.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Behaviour of a run while another run of the same pipeline is active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum Overlap {
    /// Rejects the run with an error that names the active run. The default.
    #[default]
    Refuse,
    /// Waits until no other run is active. Waiting runs are admitted in no particular order.
    Queue,
    /// Runs both concurrently. Two processes still cannot run the *same run*.
    Allow,
}

/// Signal that stops a run early. After the request, the run starts no further step and waits for the
/// statements that are running. All clones share the request.
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
