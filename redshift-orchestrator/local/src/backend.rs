//! [`Backend`]: runs the statements of a [`LocalExecutor`](super::LocalExecutor).

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Notify;

use super::record::{Ending, Part, Record};
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

    /// Runs the statement unless it has already run: repeated calls have at most one effect. Returns the
    /// ending, or `None` while another process runs the statement; the caller then retries later.
    #[doc(hidden)]
    async fn run(&self, job: &Job<'_>) -> Option<Ending>;

    /// Requests that a running or queued statement be stopped. Returns `false` if it cannot be stopped.
    #[doc(hidden)]
    async fn cancel(&self, record: &Record) -> Result<bool>;

    /// Returns `true` if the back end can keep sessions.
    #[doc(hidden)]
    fn keeps_sessions(&self) -> bool;

    /// Opens a session.
    #[doc(hidden)]
    async fn open_session(&self, id: &SessionId) -> Result<()>;

    /// Closes a session, if it is open.
    #[doc(hidden)]
    async fn close_session(&self, id: &SessionId);

    /// Returns `true` if a session that was opened here is still open.
    #[doc(hidden)]
    fn holds_session(&self, id: &SessionId) -> bool;

    /// Returns one page of the result of a part, counted from 0. The part has a result.
    #[doc(hidden)]
    async fn page(&self, record: &Record, part: usize, page: Option<PageToken>) -> Result<ResultPage>;

    /// Returns the record of a statement that another process submitted.
    #[doc(hidden)]
    async fn find(&self, id: &StatementId) -> Result<Option<Record>>;

    /// Returns at most `count` records, newest first, each with its number. They were submitted before
    /// `before`, and either have not ended or ended after `since`. They need not match the filter exactly.
    /// Returns `None` if this process has all records.
    #[doc(hidden)]
    async fn list(
        &self,
        filter: &StatementFilter,
        before: u64,
        count: usize,
        since: Timestamp,
    ) -> Result<Option<Vec<(u64, Record)>>>;

    /// Drops everything that is kept in memory for a statement whose record has expired.
    #[doc(hidden)]
    fn forget(&self, id: &StatementId);
}

/// Outcome of a submit.
pub(crate) enum Admission {
    /// The statement is new and is recorded.
    New,
    /// The client token belongs to this statement.
    Known(StatementId),
}

/// A statement to run, and the channels to report to.
pub(crate) struct Job<'a> {
    pub(crate) id: &'a StatementId,
    pub(crate) statement: &'a Statement,
    /// Returns the parts that an earlier process ran.
    pub(crate) parts: &'a (dyn Fn() -> Vec<Part> + Send + Sync),
    pub(crate) signals: &'a Signals,
    /// Reports a change of the running statement.
    pub(crate) report: &'a (dyn Fn(Report) + Send + Sync),
}

/// Change of a running statement.
pub(crate) enum Report {
    /// The database process with this number runs the statement.
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
    /// Records that a cancel was accepted.
    pub(crate) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Release);
        self.cancelled.notify_waiters();
    }
}

impl Job<'_> {
    /// Returns `true` if a cancel was accepted.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.signals.is_cancelled.load(Ordering::Acquire)
    }

    /// Waits until a cancel is accepted.
    pub(crate) async fn cancelled(&self) {
        let rings = self.signals.cancelled.notified();
        // The future is created before the flag is read, so that a notification in between is not lost.
        if !self.is_cancelled() {
            rings.await;
        }
    }
}

impl Ending {
    /// The ending of a statement that was aborted before or while it ran. Parts that have not ended are
    /// aborted, too.
    pub(crate) fn aborted(mut parts: Vec<Part>, duration: Option<Duration>) -> Self {
        for part in &mut parts {
            if !part.status.is_terminal() {
                *part = Part::new(Status::Aborted);
            }
        }
        Self { status: Status::Aborted, error: None, duration, parts }
    }

    /// The ending of a statement that failed with this text. Parts that have not ended are aborted.
    #[cfg(feature = "postgres")]
    pub(crate) fn failed(parts: Vec<Part>, error: impl Into<String>, duration: Option<Duration>) -> Self {
        Self { status: Status::Failed, error: Some(error.into()), ..Self::aborted(parts, duration) }
    }

    /// The ending of a batch, derived from its parts. The first failed part determines the error.
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
