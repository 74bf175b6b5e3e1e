//! Sequential execution of the parts of a batch that exceeds the service's maximum.

use std::time::Duration;

use tokio::time::Instant;

use super::{AttemptOptions, Orchestrator, divide::divide};
use crate::{Outcome, Result, Statement, StepKey, clock::after, journal::Entry};

/// Reason why no further part is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastPart {
    /// There are no further parts.
    Last,
    /// The part ended in a way that prevents the next ones from running.
    Broken,
    /// The timeout expired.
    OutOfTime,
    /// The caller requested a stop.
    Stopped,
}

impl Orchestrator {
    /// Runs a statement, or the parts of a longer batch one after the other, and calls `ended` with the
    /// result of each.
    ///
    /// `timeout` applies to all parts together. `is_stopped` is called between two parts. `entries`
    /// contains the journal's entries of earlier calls for this attempt; other entries are ignored.
    ///
    /// # Errors
    /// Returns the errors of [`divide`]. In this case, nothing was run.
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
            let goes_on = result.as_ref().is_ok_and(|outcome| outcome.kind.lets_others_run());
            ended(&key, result);
            if !goes_on {
                return Ok(LastPart::Broken);
            }
        }
        Ok(LastPart::Last)
    }
}
