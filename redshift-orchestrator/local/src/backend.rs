//! [`Backend`]: runs the statements of a [`LocalExecutor`](super::LocalExecutor).

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Notify;

use super::record::{Part, Record, StatementOutcome};
use redshift_orchestrator::{
    PageToken, Result, ResultPage, SessionId, Statement, StatementFilter, StatementId, Status,
};

/// Runs the statements of a [`LocalExecutor`](super::LocalExecutor): [`Scripted`](super::Scripted) or
/// `Postgres`. The trait is sealed.
#[async_trait]
#[expect(private_interfaces, reason = "sealed: the records are the state machine's own")]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// One-word name of the back end.
    #[doc(hidden)]
    fn name(&self) -> &'static str;

    /// Makes a new record durable, or returns the existing statement with the same client token.
    #[doc(hidden)]
    async fn admit(&self, record: &Record) -> Result<Admission>;

    /// Runs the statement. Repeated calls have at most one effect. Returns the outcome, or `None` while
    /// another process runs the statement; the caller then retries later.
    #[doc(hidden)]
    async fn run(&self, job: &Job<'_>) -> Option<StatementOutcome>;

    /// Requests the cancellation of a queued or running statement. Returns `false` if the statement cannot be
    /// cancelled.
    #[doc(hidden)]
    async fn cancel(&self, record: &Record) -> Result<bool>;

    /// Returns `true` if the back end supports sessions.
    #[doc(hidden)]
    fn keeps_sessions(&self) -> bool;

    /// Opens a session.
    #[doc(hidden)]
    async fn open_session(&self, id: &SessionId) -> Result<()>;

    /// Closes a session, if it is open.
    #[doc(hidden)]
    async fn close_session(&self, id: &SessionId);

    /// Returns `true` if this process opened the session and its connection is still open.
    #[doc(hidden)]
    fn holds_session(&self, id: &SessionId) -> bool;

    /// Returns one page of the result of a part. Parts are counted from 0. The caller has checked that the
    /// part has a result.
    #[doc(hidden)]
    async fn page(&self, record: &Record, part: usize, page: Option<PageToken>) -> Result<ResultPage>;

    /// Returns the record of a statement that another process submitted.
    #[doc(hidden)]
    async fn find(&self, id: &StatementId) -> Result<Option<Record>>;

    /// Returns at most `count` records, newest first, each with its submit number. All of them were submitted
    /// before number `before`, and either have not ended or ended after `since`. They may include records
    /// that do not match the filter. Returns `None` if the state machine already holds all records in memory.
    #[doc(hidden)]
    async fn list(
        &self,
        filter: &StatementFilter,
        before: u64,
        count: usize,
        since: Timestamp,
    ) -> Result<Option<Vec<(u64, Record)>>>;

    /// Frees the memory kept for a statement whose record has expired.
    #[doc(hidden)]
    fn forget(&self, id: &StatementId);
}

/// Outcome of a submit.
pub(crate) enum Admission {
    /// The statement is new and has been recorded.
    New,
    /// An existing statement, with this id, has the same client token.
    Known(StatementId),
}

/// A statement to run, and the channels to report to.
pub(crate) struct Job<'a> {
    pub(crate) id: &'a StatementId,
    pub(crate) statement: &'a Statement,
    /// Returns the states of the parts, including parts that an earlier process ran.
    pub(crate) parts: &'a (dyn Fn() -> Vec<Part> + Send + Sync),
    pub(crate) signals: &'a Signals,
    /// Reports progress of the statement.
    pub(crate) report: &'a (dyn Fn(Report) + Send + Sync),
}

/// Progress of a running statement.
pub(crate) enum Report {
    /// The statement has started, in the database process with this number.
    Started(Option<i64>),
    /// The new state of a part, counted from 0.
    Part(usize, Part),
}

/// Notifications about a statement in flight.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// Notified whenever the statement or one of its parts ends.
    pub(crate) ended: Notify,
    is_cancelled: AtomicBool,
    cancelled: Notify,
}

impl Signals {
    /// Sets the cancelled flag and notifies the waiting tasks.
    pub(crate) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Release);
        self.cancelled.notify_waiters();
    }
}

impl Job<'_> {
    /// Reports a sub-statement that has ended and is not committed. Its result cannot be read yet.
    #[cfg(feature = "postgres")]
    pub(crate) fn report_uncommitted(&self, index: usize, part: &Part) {
        if self.statement.execution_mode().is_some() {
            let mut part = part.clone();
            part.remove_result();
            (self.report)(Report::Part(index, part));
        }
    }

    /// Returns `true` if a cancel has been accepted.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.signals.is_cancelled.load(Ordering::Acquire)
    }

    /// Waits until a cancel is accepted.
    pub(crate) async fn cancelled(&self) {
        let rings = self.signals.cancelled.notified();
        // Registers for the notification before reading the flag, so that a cancel between the two is not
        // missed.
        if !self.is_cancelled() {
            rings.await;
        }
    }
}

impl StatementOutcome {
    /// Returns the outcome of a statement that was cancelled before or during its run. Parts that have not
    /// ended become `ABORTED`.
    pub(crate) fn aborted(mut parts: Vec<Part>, duration: Option<Duration>) -> Self {
        for part in &mut parts {
            if !part.status.is_terminal() {
                *part = Part::new(Status::Aborted);
            }
        }
        Self { status: Status::Aborted, error: None, duration, parts }
    }

    /// Returns the outcome of a statement that failed with this error text. Parts that have not ended become
    /// `ABORTED`.
    #[cfg(feature = "postgres")]
    pub(crate) fn failed(parts: Vec<Part>, error: impl Into<String>, duration: Option<Duration>) -> Self {
        Self { status: Status::Failed, error: Some(error.into()), ..Self::aborted(parts, duration) }
    }

    /// Derives the outcome of a statement from its parts. The first part that did not finish determines the
    /// status and the error.
    pub(crate) fn of_parts(parts: Vec<Part>, is_batch: bool, duration: Option<Duration>) -> Self {
        let worst = (1..).zip(&parts).find(|(_, part)| part.status != Status::Finished);
        let (status, error) = match worst {
            None => (Status::Finished, None),
            Some((number, part)) => {
                let error = part.error.as_deref().map(|error| match is_batch {
                    true => format!("Query #{number} failed with {error}"),
                    false => error.to_owned(),
                });
                (part.status.clone(), error)
            }
        };
        Self { status, error, duration, parts }
    }
}
