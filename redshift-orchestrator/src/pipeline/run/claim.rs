//! The claim of a run: makes it active in the journal, as far as its [`Overlap`] permits.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    ErrorKind, Orchestrator, Result,
    journal::{ActiveRun, Claim},
    pipeline::{Overlap, Pipeline, Run},
};

/// Interval at which a queued run checks whether it may begin.
const LOOK: Duration = Duration::from_secs(1);

impl Pipeline {
    /// Makes the run active in the journal. With [`Overlap::Queue`], waits while another run is active.
    pub(super) async fn claim(&self, orchestrator: &Orchestrator, run: &Run) -> Result<ActiveRun> {
        let overlap = run.overlap.unwrap_or(self.overlap);
        let claim =
            Claim::new(&self.name, &run.name, orchestrator.now()).with_exclusive(overlap != Overlap::Allow);
        loop {
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
