//! The claim of a run, which makes the run active in the journal. [`Overlap`] determines whether a second run
//! is rejected, waits, or is admitted.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    ErrorKind, Orchestrator, Result,
    journal::{ActiveRun, Claim},
    pipeline::{Overlap, Pipeline, Run},
};

/// Interval at which a queued run tries to claim again.
const LOOK: Duration = Duration::from_secs(1);

impl Pipeline {
    /// Makes the run active in the journal. With [`Overlap::Queue`], waits until no other run is active or a
    /// stop is requested.
    pub(super) async fn claim(&self, orchestrator: &Orchestrator, run: &Run) -> Result<ActiveRun> {
        let overlap = run.overlap.unwrap_or(self.overlap);
        loop {
            let claim = Claim::new(&self.name, &run.name, orchestrator.now());
            let claim = claim.with_exclusive(overlap != Overlap::Allow);
            match orchestrator.journal().claim(&claim).await {
                Err(error)
                    if error.kind() == ErrorKind::Overlap
                        && overlap == Overlap::Queue
                        && !run.stop.is_requested() =>
                {
                    tokio::select! {
                        () = sleep(LOOK) => {}
                        () = run.stop.requested() => {}
                    }
                }
                done => return done,
            }
        }
    }
}
