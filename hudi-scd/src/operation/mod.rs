//! [`Operation`]: a call of the public API, as a span, a log line and metrics.
//!
//! ```text
//! Table::upsert -> Operation::run -> work -> Counted store -> storage
//!                      |                         |  counts requests and bytes
//!                      |<------------------------+
//!                      +-> span: operation, table, instant, phase
//!                      +-> event at the end: phases, files, bytes, requests
//!                      +-> metrics (feature `metrics`)
//! ```
//!
//! An operation within another one has its own span and counts. An example is the read of a table whose rows
//! are upserted into a second table.

#[cfg(feature = "metrics")]
mod metrics;
mod phase;
mod traffic;

use std::{
    future::Future,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt, stream::BoxStream};
use hudi_format::timeline::Instant;
use object_store::path::Path;
use tokio::time::Instant as Stopwatch;
use tracing::{Instrument, Span, field};

#[cfg(feature = "metrics")]
pub use self::metrics::describe_metrics;
pub use self::phase::Phases;
pub(crate) use self::{
    phase::Phase,
    traffic::{Counted, CountedRangeCopy, also_counted},
};
use self::{phase::Watch, traffic::Traffic};
use crate::{Error, Result};

/// A call of the public API in progress.
#[derive(Debug)]
pub(crate) struct Operation {
    #[cfg(feature = "metrics")]
    name: &'static str,
    #[cfg(feature = "metrics")]
    table: String,
    /// `true` if the operation may change the table.
    changes: bool,
    span: Span,
    began: Stopwatch,
    traffic: Traffic,
    state: Mutex<State>,
}

/// The part of an operation that changes while it runs.
#[derive(Debug, Default)]
struct State {
    watch: Watch,
    files: u64,
    bytes: u64,
    is_over: bool,
}

impl Operation {
    /// Begins an operation that may change a table. `name` is the name of the public method.
    pub(crate) fn change(table: &str, root: &Path, name: &'static str) -> Self {
        Self::begin(table, root, name, true)
    }

    /// Begins an operation that reads the table.
    pub(crate) fn read(table: &str, root: &Path, name: &'static str) -> Self {
        Self::begin(table, root, name, false)
    }

    fn begin(table: &str, root: &Path, name: &'static str, changes: bool) -> Self {
        let span = tracing::info_span!(
            "hudi_scd",
            operation = name,
            table,
            path = %root,
            instant = field::Empty,
            phase = field::Empty,
            files = field::Empty,
            bytes = field::Empty,
            requests = field::Empty,
        );
        Self {
            #[cfg(feature = "metrics")]
            name,
            #[cfg(feature = "metrics")]
            table: table.to_owned(),
            changes,
            span,
            began: Stopwatch::now(),
            traffic: Traffic::default(),
            state: Mutex::default(),
        }
    }

    /// Runs the work of the operation. The operation ends with the work.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let result = self.within(work).await;
        self.end(result.as_ref().err());
        result
    }

    /// Runs the first part of the work. If it fails, the operation ends.
    pub(crate) async fn begin_with<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let result = self.within(work).await;
        if let Err(error) = &result {
            self.end(Some(error));
        }
        result
    }

    async fn within<T>(&self, work: impl Future<Output = T>) -> T {
        self.traffic.count(work).instrument(self.span.clone()).await
    }

    /// Passes on the items of a stream. The operation ends when the stream ends or is dropped.
    pub(crate) fn stream<T: Send + 'static>(
        self,
        items: impl Stream<Item = Result<T>> + Send + 'static,
    ) -> BoxStream<'static, Result<T>> {
        let items = Some((self, items.boxed()));
        let passed = futures::stream::unfold(items, |items| async move {
            let (operation, mut items) = items?;
            match operation.within(items.next()).await {
                Some(Ok(item)) => Some((Ok(item), Some((operation, items)))),
                Some(Err(error)) => {
                    operation.end(Some(&error));
                    Some((Err(error), None))
                }
                None => {
                    operation.end(None);
                    None
                }
            }
        });
        passed.boxed()
    }

    /// Begins a phase, which ends the previous one.
    pub(crate) fn enter(&self, phase: Phase) {
        self.state().watch.enter(phase);
        self.span.record("phase", phase.name());
    }

    /// Records the instant of the operation's change.
    pub(crate) fn has_instant(&self, instant: Instant) {
        self.span.record("instant", field::display(instant));
    }

    /// Records the number of files that the operation wrote or deleted, and the size of those that it wrote.
    pub(crate) fn has_files(&self, files: u64, bytes: u64) {
        let mut state = self.state();
        (state.files, state.bytes) = (files, bytes);
    }

    /// Returns the durations of the phases so far.
    pub(crate) fn phases(&self) -> Phases {
        self.state().watch.phases()
    }

    fn end(&self, error: Option<&Error>) {
        let outcome = error.map_or(Outcome::Done, Outcome::Failed);
        self.report(outcome);
    }

    fn report(&self, outcome: Outcome<'_>) {
        let mut state = self.state();
        if std::mem::replace(&mut state.is_over, true) {
            return;
        }
        let (phases, phase) = (state.watch.phases(), state.watch.phase());
        let (seconds, counts) = (self.began.elapsed().as_secs_f64(), self.traffic.counts());
        self.span.record("files", state.files);
        self.span.record("bytes", state.bytes);
        self.span.record("requests", counts.requests);
        let _entered = self.span.enter();
        let (read, sent) = (counts.bytes_read, counts.bytes_sent);
        match outcome {
            Outcome::Done if self.changes => {
                tracing::info!(seconds, %phases, bytes_read = read, bytes_sent = sent, "operation done");
            }
            Outcome::Done => {
                tracing::debug!(seconds, %phases, bytes_read = read, bytes_sent = sent, "operation done");
            }
            Outcome::Failed(error) => {
                let phase = phase.map(Phase::name);
                tracing::warn!(
                    seconds, phase, %phases, bytes_read = read, bytes_sent = sent, %error, "operation failed"
                );
            }
            Outcome::Dropped => {
                let phase = phase.map(Phase::name);
                tracing::info!(
                    seconds, phase, %phases, bytes_read = read, bytes_sent = sent, "operation dropped"
                );
            }
        }
        #[cfg(feature = "metrics")]
        metrics::report(&metrics::Ended {
            operation: self.name,
            table: &self.table,
            outcome: outcome.name(),
            seconds,
            phases,
            counts,
            files: state.files,
            bytes: state.bytes,
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The future or the stream of the operation was dropped.
impl Drop for Operation {
    fn drop(&mut self) {
        self.report(Outcome::Dropped);
    }
}

/// The end of an operation.
enum Outcome<'a> {
    Done,
    Failed(&'a Error),
    Dropped,
}

#[cfg(feature = "metrics")]
impl Outcome<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed(_) => "failed",
            Self::Dropped => "dropped",
        }
    }
}

/// Formats a duration in seconds, with milliseconds.
fn seconds(duration: Duration) -> String {
    format!("{:.3} s", duration.as_secs_f64())
}
