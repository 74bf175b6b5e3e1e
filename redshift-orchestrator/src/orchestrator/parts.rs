//! [`Parts`]: a statement, or the parts of a batch that exceeds the service's maximum, run one after another.

use std::{time::Duration, vec};

use tokio::time::Instant;

use super::{AttemptOptions, Orchestrator, divide::divide};
use crate::{Outcome, Result, Statement, StepKey, clock::after, journal::Entry};

/// A statement, or the parts of a long batch that have not run yet.
pub(crate) struct Parts<'a> {
    orchestrator: &'a Orchestrator,
    rest: vec::IntoIter<(StepKey, Statement)>,
    /// Keys of the entries that an earlier process left open.
    open: Vec<StepKey>,
    timeout: Option<Duration>,
    /// Time at which the timeout of the whole batch expires.
    deadline: Option<Instant>,
    is_begun: bool,
    cut_short: Option<CutShort>,
}

/// Reason why the remaining parts of a batch are not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CutShort {
    /// A part was cancelled, timed out, was not submitted or has an unknown outcome.
    BrokenPart,
    /// The timeout of the batch expired.
    Timeout,
    /// The caller requested a stop.
    Stop,
}

impl Orchestrator {
    /// Divides a statement into the parts that [`Parts::run_next`] runs: the statement itself, or the parts
    /// of a long batch.
    ///
    /// `timeout` applies to all parts together. `entries` contains entries of the run from the journal;
    /// entries of other attempts are ignored.
    ///
    /// # Errors
    /// Returns the errors of [`divide`].
    pub(crate) fn parts(
        &self,
        key: &StepKey,
        statement: &Statement,
        entries: &[Entry],
        timeout: Option<Duration>,
    ) -> Result<Parts<'_>> {
        let deadline = timeout.map(|timeout| after(Instant::now(), timeout));
        let rest = divide(&self.namespace, key, statement, entries)?.into_iter();
        let open = entries.iter().filter(|entry| entry.state.is_unsettled());
        let open = open.map(|entry| entry.key.clone()).collect();
        Ok(Parts { orchestrator: self, rest, open, timeout, deadline, is_begun: false, cut_short: None })
    }

    /// Rejects a statement that cannot continue an open attempt, of which `open` is the entry, or the entry
    /// of a part. `entries` contains the entries of the run.
    ///
    /// # Errors
    /// Returns [`ErrorKind::StepKeyConflict`](crate::ErrorKind::StepKeyConflict) if the entry belongs to
    /// other work, and the errors of [`divide`].
    pub(crate) fn check_open_statement(
        &self,
        statement: &Statement,
        open: &Entry,
        entries: &[Entry],
    ) -> Result<()> {
        let Entry { key, name, target, .. } = open;
        self.namespace.check_record(key, statement, name, target.as_deref())?;
        let attempt = StepKey { part: None, ..key.clone() };
        divide(&self.namespace, &attempt, statement, entries).map(drop)
    }
}

impl Parts<'_> {
    /// Runs the next part, and returns its key and result. Returns `None` after the last part, or if the
    /// remaining parts must not run. A stop takes effect between two parts.
    pub(crate) async fn run_next(&mut self, is_stopped: bool) -> Option<(StepKey, Result<Outcome>)> {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if self.is_begun && self.remaining() > 0 && self.cut_short.is_none() {
            self.cut_short = match left {
                Some(Duration::ZERO) => Some(CutShort::Timeout),
                _ => is_stopped.then_some(CutShort::Stop),
            };
        }
        if self.cut_short.is_some() {
            return None;
        }
        let (key, part) = self.rest.next()?;
        let timeout = if self.is_begun { left } else { self.timeout };
        self.is_begun = true;
        let options = AttemptOptions { timeout, is_open: self.open.contains(&key) };
        let result = self.orchestrator.run_with(&key, part, options).await;
        if !result.as_ref().is_ok_and(|outcome| outcome.kind.allows_next_part()) {
            self.cut_short = Some(CutShort::BrokenPart);
        }
        Some((key, result))
    }

    /// Returns the number of parts that have not run.
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Returns the reason why the remaining parts are not run.
    pub(crate) fn cut_short(&self) -> Option<CutShort> {
        self.cut_short
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::{Description, MockStatementExecutor, OutcomeKind, StatementId, Status, Submitted};

    /// Regression: the time left of the timeout was reported as the timeout: `1s 999ms 957µs 356ns`.
    #[tokio::test(start_paused = true)]
    async fn an_undivided_statement_is_reported_with_its_whole_timeout() {
        let mut service = MockStatementExecutor::new();
        let is_cancelled = std::sync::Arc::new(AtomicBool::new(false));
        let status = is_cancelled.clone();
        service.expect_target().return_const(None);
        service.expect_submit().returning(|_, _| Ok(Submitted::new(StatementId::new("id"))));
        service.expect_describe().returning(move |id, _| {
            let is_cancelled = status.load(Ordering::SeqCst);
            let status = if is_cancelled { Status::Aborted } else { Status::Started };
            Ok(Description::new(id.clone(), status))
        });
        service.expect_cancel().returning(move |_| {
            is_cancelled.store(true, Ordering::SeqCst);
            Ok(true)
        });
        let orchestrator = Orchestrator::new(service);
        let (key, timeout) = (StepKey::new("run", "step"), Duration::from_secs(2));
        let statement = Statement::sql("CALL load()");
        let mut parts = orchestrator.parts(&key, &statement, &[], Some(timeout)).unwrap();
        tokio::time::advance(Duration::from_nanos(42_644)).await;
        let (_, result) = parts.run_next(false).await.unwrap();
        assert_eq!(result.unwrap().kind, OutcomeKind::TimedOut { timeout, cancel_pending: false });
    }
}
