//! Executors for tests: one with prepared responses, and a decorator that records polls.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use redshift_orchestrator::{
    Description, Error, ErrorKind, PageToken, Result, ResultPage, Statement, StatementExecutor,
    StatementFilter, StatementId, StatementPage, Status, Submitted, WaitTime,
};
use tokio::time::{Instant, sleep};

/// Executor with prepared responses to polls and cancels. The last response is repeated. The executor records
/// each poll and cancel.
#[derive(Debug)]
pub(crate) struct Prepared {
    start: Instant,
    describes: Mutex<VecDeque<Answer<Status>>>,
    cancels: Mutex<VecDeque<Answer<bool>>>,
    sent: Mutex<Vec<Sent>>,
}

/// Prepared response, and the time after which it arrives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<T> {
    pub(crate) after: Duration,
    pub(crate) answer: std::result::Result<T, ErrorKind>,
}

/// Recorded request: the instant in seconds and, for a poll, the requested wait in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sent {
    Describe(f64, u8),
    Cancel(f64),
}

/// Creates an immediate response.
pub(crate) fn now<T>(answer: T) -> Answer<T> {
    after(0.0, answer)
}

/// Creates a response after a number of seconds.
pub(crate) fn after<T>(seconds: f64, answer: T) -> Answer<T> {
    Answer { after: Duration::from_secs_f64(seconds), answer: Ok(answer) }
}

/// Creates an immediate error.
pub(crate) fn fails<T>(kind: ErrorKind) -> Answer<T> {
    Answer { after: Duration::ZERO, answer: Err(kind) }
}

impl Prepared {
    pub(crate) fn new(
        describes: impl IntoIterator<Item = Answer<Status>>,
        cancels: impl IntoIterator<Item = Answer<bool>>,
    ) -> Self {
        Self {
            start: Instant::now(),
            describes: Mutex::new(describes.into_iter().collect()),
            cancels: Mutex::new(cancels.into_iter().collect()),
            sent: Mutex::default(),
        }
    }

    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }

    /// Returns the instants of polls in seconds.
    pub(crate) fn instants(&self) -> Vec<f64> {
        let describe = |sent: &Sent| match sent {
            Sent::Describe(at, _) => Some(*at),
            Sent::Cancel(_) => None,
        };
        self.sent().iter().filter_map(describe).collect()
    }

    fn elapsed(&self) -> f64 {
        // Rounded to milliseconds, so that tests can compare instants.
        self.start.elapsed().as_millis() as f64 / 1e3
    }

    async fn give<T: Clone>(&self, answers: &Mutex<VecDeque<Answer<T>>>) -> Result<T> {
        let next = {
            let mut answers = answers.lock().unwrap();
            if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }
        };
        let Answer { after, answer } = next.expect("a prepared response");
        sleep(after).await;
        answer.map_err(|kind| Error::new(kind, "prepared error"))
    }
}

#[async_trait]
impl StatementExecutor for Prepared {
    async fn submit(&self, _: &Statement, _: Option<WaitTime>) -> Result<Submitted> {
        Ok(Submitted::new(StatementId::new("prepared")))
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        self.sent.lock().unwrap().push(Sent::Describe(self.elapsed(), wait.map_or(0, WaitTime::seconds)));
        self.give(&self.describes).await.map(|status| Description::new(id.clone(), status))
    }

    async fn cancel(&self, _: &StatementId) -> Result<bool> {
        self.sent.lock().unwrap().push(Sent::Cancel(self.elapsed()));
        self.give(&self.cancels).await
    }

    async fn result(&self, _: &StatementId, _: Option<PageToken>) -> Result<ResultPage> {
        Err(Error::new(ErrorKind::Unsupported, "no results here"))
    }

    async fn list(&self, _: &StatementFilter, _: Option<PageToken>) -> Result<StatementPage> {
        Ok(StatementPage::default())
    }

    fn target(&self) -> Option<redshift_orchestrator::Target> {
        None
    }
}

/// Decorator that records polls, and can ignore or reject their waits.
#[derive(Debug)]
pub(crate) struct Noted<E> {
    pub(crate) inner: E,
    pub(crate) waits: Waits,
    start: Instant,
    sent: Arc<Mutex<Vec<(f64, u8)>>>,
}

/// How the decorator handles a poll with a wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Waits {
    Kept,
    /// Ignores the wait, like a service without long polling.
    Ignored,
    /// Rejects the request, like a strict service without long polling.
    Refused,
}

impl<E> Noted<E> {
    pub(crate) fn new(inner: E, waits: Waits) -> Self {
        Self { inner, waits, start: Instant::now(), sent: Arc::default() }
    }

    /// Returns the instants of polls and the requested waits, in seconds.
    pub(crate) fn sent(&self) -> Vec<(f64, u8)> {
        self.sent.lock().unwrap().clone()
    }
}

#[async_trait]
impl<E: StatementExecutor> StatementExecutor for Noted<E> {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        self.inner.submit(statement, wait).await
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        let at = self.start.elapsed().as_millis() as f64 / 1e3;
        self.sent.lock().unwrap().push((at, wait.map_or(0, WaitTime::seconds)));
        match self.waits {
            Waits::Refused if wait.is_some() => {
                Err(Error::new(ErrorKind::Invalid, "unknown field WaitTimeSeconds"))
            }
            Waits::Ignored => self.inner.describe(id, None).await,
            _ => self.inner.describe(id, wait).await,
        }
    }

    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        self.inner.cancel(id).await
    }

    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage> {
        self.inner.result(id, page).await
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        self.inner.list(filter, page).await
    }

    fn target(&self) -> Option<redshift_orchestrator::Target> {
        self.inner.target()
    }
}
