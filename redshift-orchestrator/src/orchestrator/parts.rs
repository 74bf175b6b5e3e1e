//! Sequential execution of the parts of a batch that exceeds the service's maximum.

use std::time::Duration;

use tokio::time::Instant;

use super::{AttemptOptions, Orchestrator, divide::divide};
use crate::{Outcome, Result, Statement, StepKey, clock::after, journal::Entry};

/// Reason why no further part of a batch is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastPart {
    /// There are no further parts.
    Last,
    /// A part was cancelled, timed out, was not submitted or has an unknown outcome.
    Broken,
    /// The timeout of the batch expired.
    OutOfTime,
    /// The caller requested a stop.
    Stopped,
}

impl Orchestrator {
    /// Runs a statement, or the parts of a long batch one after the other. Calls `ended` with the result of
    /// each.
    ///
    /// `timeout` applies to all parts together. If `is_stopped` returns `true` between two parts, the
    /// remaining parts are not run. `entries` contains entries of the run from the journal; entries of other
    /// attempts are ignored.
    ///
    /// # Errors
    /// Returns the errors of [`divide`]. After an error, no part was run.
    pub(crate) async fn run_parts_in_order(
        &self,
        key: &StepKey,
        statement: &Statement,
        entries: &[Entry],
        timeout: Option<Duration>,
        is_stopped: impl Fn() -> bool + Send,
        mut ended: impl FnMut(&StepKey, Result<Outcome>) + Send,
    ) -> Result<LastPart> {
        let deadline = timeout.map(|timeout| after(Instant::now(), timeout));
        for (key, part) in divide(&self.namespace, key, statement, entries)? {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if key.part.is_some_and(|part| part.number > 1) {
                if left.is_some_and(|left| left.is_zero()) {
                    return Ok(LastPart::OutOfTime);
                }
                if is_stopped() {
                    return Ok(LastPart::Stopped);
                }
            }
            let result = self.run_with(&key, part, AttemptOptions { timeout: left }).await;
            let may_continue = result.as_ref().is_ok_and(|outcome| outcome.kind.allows_next_part());
            ended(&key, result);
            if !may_continue {
                return Ok(LastPart::Broken);
            }
        }
        Ok(LastPart::Last)
    }
}
