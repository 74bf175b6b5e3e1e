//! [`Overlap`] and [`StopSignal`]: conditions under which a run does not begin or ends early.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Behaviour of a run while another run of the same pipeline is active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum Overlap {
    /// The run is rejected, and the error names the active run. The default.
    #[default]
    Refuse,
    /// The run waits until no other run is active. Waiting runs are admitted in no particular order.
    Queue,
    /// The runs overlap. A second process is never admitted to the *same run*.
    Allow,
}

/// Request to stop a run. No further step is started; the run waits for the statements that are running. All
/// clones are the same request.
#[derive(Clone)]
pub struct StopSignal(Arc<watch::Sender<bool>>);

impl StopSignal {
    /// Creates a stop that has not been requested yet.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Requests the stop.
    pub fn request(&self) {
        self.0.send_replace(true);
    }

    /// Returns `true` if the stop was requested.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once the stop is requested.
    pub async fn requested(&self) {
        // The sender lives as long as `self`.
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
