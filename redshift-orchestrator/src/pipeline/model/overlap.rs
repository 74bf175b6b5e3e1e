//! [`Overlap`] and [`Stop`]: conditions under which a run does not begin or ends early.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Behaviour of a run while another run of the same pipeline is active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum Overlap {
    /// The run is rejected, with the name of the active run. The default.
    #[default]
    Refuse,
    /// The run waits until no other run is active. Waiting runs are admitted in no particular order.
    Queue,
    /// The runs overlap. A second process is never admitted to the *same run*.
    Allow,
}

/// Request to stop a run: no further step is started, and running statements are waited for. Clones refer to
/// the same request.
#[derive(Clone)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Stop {
    /// Creates a request that has not been made yet.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Makes the request.
    pub fn ask(&self) {
        self.0.send_replace(true);
    }

    /// Returns `true` if the request was made.
    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once the request is made.
    pub async fn asked(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(|asked| *asked).await;
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stop").field(&self.is_asked()).finish()
    }
}
