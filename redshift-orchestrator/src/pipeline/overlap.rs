//! [`Overlap`] and [`Stop`]: what keeps a run from beginning, and what makes it come to an early end.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::sleep};

use crate::{
    ErrorKind, Result,
    journal::{ActiveRun, Claim, Journal},
};

/// What a run does while another run of the same pipeline is active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum Overlap {
    /// It is refused, with the active run's name. The default.
    #[default]
    Refuse,
    /// It waits until no other is active. Of several that wait, any may be next.
    Queue,
    /// It runs beside it. A second process at the *same run* is refused nevertheless.
    Allow,
}

/// How often one that waits looks again.
const LOOK: Duration = Duration::from_secs(1);

impl Overlap {
    /// Makes the run active in the journal.
    pub(super) async fn claim(self, journal: &dyn Journal, claim: &Claim, stop: &Stop) -> Result<ActiveRun> {
        loop {
            match journal.claim(claim, self != Self::Allow).await {
                Err(error)
                    if error.kind() == ErrorKind::Overlap && self == Self::Queue && !stop.is_asked() =>
                {
                    tokio::select! {
                        () = sleep(LOOK) => {}
                        () = stop.asked() => {}
                    }
                }
                done => return done,
            }
        }
    }
}

/// Asks a run to stop: what runs is waited for, nothing further is begun. Clones ask the same runs.
#[derive(Clone)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Stop {
    /// Nothing was asked yet.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Asks for it.
    pub fn ask(&self) {
        self.0.send_replace(true);
    }

    /// Whether it was asked for.
    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once it is asked for.
    pub async fn asked(&self) {
        // The sender lives as long as this does.
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
