//! Makes a run active in the journal, or applies its [`Overlap`] while another run is active.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    ErrorKind, Result,
    journal::{ActiveRun, Claim, Journal},
    pipeline::{Overlap, Stop},
};

/// Interval at which a queued run checks whether it may begin.
const LOOK: Duration = Duration::from_secs(1);

impl Overlap {
    /// Makes the run active in the journal. With [`Overlap::Queue`], waits while another run is active.
    pub(super) async fn claim(self, journal: &dyn Journal, claim: &Claim, stop: &Stop) -> Result<ActiveRun> {
        loop {
            match journal.claim(claim, self != Self::Allow).await {
                Err(error)
                    if error.kind() == ErrorKind::Overlap && self == Self::Queue && !stop.is_requested() =>
                {
                    tokio::select! {
                        () = sleep(LOOK) => {}
                        () = stop.requested() => {}
                    }
                }
                done => return done,
            }
        }
    }
}
