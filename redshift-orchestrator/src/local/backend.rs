//! [`Backend`]: what really runs the statements of a [`LocalExecutor`](super::LocalExecutor).

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Notify;

use super::record::{Ending, Part, Record};
use crate::{PageToken, Result, ResultPage, SessionId, Statement, StatementFilter, StatementId, Status};

/// What really runs the statements of a [`LocalExecutor`](super::LocalExecutor): [`Scripted`](super::Scripted) or
/// `Postgres`. It cannot be implemented elsewhere.
#[async_trait]
#[expect(private_interfaces, reason = "sealed: the records are the state machine's own")]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// What it is, in a word.
    #[doc(hidden)]
    fn name(&self) -> &'static str;

    /// Makes a new record durable, or says which statement its client token already stands for.
    #[doc(hidden)]
    async fn admit(&self, record: &Record) -> Result<Admission>;

    /// Runs the statement, unless it ran: at most one effect, however often this is called. Returns how it ended; `None` when that is
    /// not known yet, because another process runs it: ask again later.
    #[doc(hidden)]
    async fn run(&self, job: &Job<'_>) -> Option<Ending>;

    /// Asks for a statement to be stopped that runs or will run. `false`: that cannot be done.
    #[doc(hidden)]
    async fn cancel(&self, record: &Record) -> Result<bool>;

    /// Whether it can keep sessions.
    #[doc(hidden)]
    fn keeps_sessions(&self) -> bool;

    /// Opens a session.
    #[doc(hidden)]
    async fn open_session(&self, id: &SessionId) -> Result<()>;

    /// Closes a session, if it is open.
    #[doc(hidden)]
    async fn close_session(&self, id: &SessionId);

    /// Whether a session that was opened here is still open.
    #[doc(hidden)]
    fn holds_session(&self, id: &SessionId) -> bool;

    /// One page of the result of a part (counted from 0) that has one.
    #[doc(hidden)]
    async fn page(&self, record: &Record, part: usize, page: Option<PageToken>) -> Result<ResultPage>;

    /// The record of a statement that somebody else submitted.
    #[doc(hidden)]
    async fn find(&self, id: &StatementId) -> Result<Option<Record>>;

    /// At most `count` records on record, the newest first, of those that were submitted before `before`, ended after `since` or not at
    /// all, and that the filter may let through; each with its number. `None`: the records of this process are all there are.
    #[doc(hidden)]
    async fn list(
        &self,
        filter: &StatementFilter,
        before: u64,
        count: usize,
        since: Timestamp,
    ) -> Result<Option<Vec<(u64, Record)>>>;

    /// Drops what is kept in memory of a statement whose record expired.
    #[doc(hidden)]
    fn forget(&self, id: &StatementId);
}

/// The answer to a submit.
pub(crate) enum Admission {
    /// The statement is new, and now on record.
    New,
    /// The client token stands for this statement.
    Known(StatementId),
}

/// A statement to run, and where to report to.
pub(crate) struct Job<'a> {
    pub(crate) id: &'a StatementId,
    pub(crate) statement: &'a Statement,
    /// What is known of its parts, from an earlier process.
    pub(crate) parts: &'a (dyn Fn() -> Vec<Part> + Send + Sync),
    pub(crate) signals: &'a Signals,
    /// Called with what changed while it runs.
    pub(crate) report: &'a (dyn Fn(Report) + Send + Sync),
}

/// What changed while a statement runs.
pub(crate) enum Report {
    /// The database process with this number works on it from now on.
    Started(Option<i64>),
    /// The part (counted from 0) is as told.
    Part(usize, Part),
}

/// What is heard of a statement while it is on its way.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// Rings whenever the statement or a part of it ended.
    pub(crate) ended: Notify,
    is_cancelled: AtomicBool,
    cancelled: Notify,
}

impl Signals {
    /// A cancel was accepted.
    pub(crate) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Release);
        self.cancelled.notify_waiters();
    }
}

impl Job<'_> {
    /// Whether a cancel was accepted.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.signals.is_cancelled.load(Ordering::Acquire)
    }

    /// Waits until a cancel was accepted; for ever, if none is.
    pub(crate) async fn cancelled(&self) {
        let rings = self.signals.cancelled.notified();
        // A future of `notified` hears what rings from here on, asked or not: what rang before is seen.
        if !self.is_cancelled() {
            rings.await;
        }
    }
}

impl Ending {
    /// Aborted before or while it ran; parts that did not end are aborted too.
    pub(crate) fn aborted(mut parts: Vec<Part>, duration: Option<Duration>) -> Self {
        for part in &mut parts {
            if !part.status.is_terminal() {
                *part = Part::new(Status::Aborted);
            }
        }
        Self { status: Status::Aborted, error: None, duration, parts }
    }

    /// Failed with this text; parts that did not end are aborted.
    #[cfg(feature = "postgres")]
    pub(crate) fn failed(parts: Vec<Part>, error: impl Into<String>, duration: Option<Duration>) -> Self {
        Self { status: Status::Failed, error: Some(error.into()), ..Self::aborted(parts, duration) }
    }

    /// How a batch ended, from how its parts did: the first failure names the whole.
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
