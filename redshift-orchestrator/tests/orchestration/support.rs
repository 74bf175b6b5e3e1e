//! Executors for tests: one with prepared responses, and one that records the instants of requests.

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

/// Executor with prepared responses to polls and cancels, the last of which is repeated. It records the
/// instants of requests.
#[derive(Debug)]
pub(crate) struct Told {
    start: Instant,
    describes: Mutex<VecDeque<Answer<Status>>>,
    cancels: Mutex<VecDeque<Answer<bool>>>,
    asked: Mutex<Vec<Asked>>,
}

/// A response, and the time after which it arrives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<T> {
    pub(crate) after: Duration,
    pub(crate) answer: std::result::Result<T, ErrorKind>,
}

/// A poll or cancel: its instant, and the requested wait in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Asked {
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

impl Told {
    pub(crate) fn new(
        describes: impl IntoIterator<Item = Answer<Status>>,
        cancels: impl IntoIterator<Item = Answer<bool>>,
    ) -> Self {
        Self {
            start: Instant::now(),
            describes: Mutex::new(describes.into_iter().collect()),
            cancels: Mutex::new(cancels.into_iter().collect()),
            asked: Mutex::default(),
        }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Returns the instants of polls in seconds.
    pub(crate) fn instants(&self) -> Vec<f64> {
        let describe = |asked: &Asked| match asked {
            Asked::Describe(at, _) => Some(*at),
            Asked::Cancel(_) => None,
        };
        self.asked().iter().filter_map(describe).collect()
    }

    fn elapsed(&self) -> f64 {
        // Rounded to milliseconds, so that instants can be compared.
        self.start.elapsed().as_millis() as f64 / 1e3
    }

    async fn give<T: Clone>(&self, answers: &Mutex<VecDeque<Answer<T>>>) -> Result<T> {
        let next = {
            let mut answers = answers.lock().unwrap();
            if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }
        };
        let Answer { after, answer } = next.expect("an answer");
        sleep(after).await;
        answer.map_err(|kind| Error::new(kind, "as told"))
    }
}

#[async_trait]
impl StatementExecutor for Told {
    async fn submit(&self, _: &Statement, _: Option<WaitTime>) -> Result<Submitted> {
        Ok(Submitted::new(StatementId::new("told")))
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        self.asked.lock().unwrap().push(Asked::Describe(self.elapsed(), wait.map_or(0, WaitTime::seconds)));
        self.give(&self.describes).await.map(|status| Description::new(id.clone(), status))
    }

    async fn cancel(&self, _: &StatementId) -> Result<bool> {
        self.asked.lock().unwrap().push(Asked::Cancel(self.elapsed()));
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

/// Records the instants of polls, and can ignore or reject their waits.
#[derive(Debug)]
pub(crate) struct Noted<E> {
    pub(crate) inner: E,
    pub(crate) waits: Waits,
    start: Instant,
    asked: Arc<Mutex<Vec<(f64, u8)>>>,
}

/// Handling of waits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Waits {
    Kept,
    /// The field is ignored, as by a service without long polling.
    Ignored,
    /// The field is an error, as in a strict service without long polling.
    Refused,
}

impl<E> Noted<E> {
    pub(crate) fn new(inner: E, waits: Waits) -> Self {
        Self { inner, waits, start: Instant::now(), asked: Arc::default() }
    }

    /// Returns the instants of polls and the requested waits, in seconds.
    pub(crate) fn asked(&self) -> Vec<(f64, u8)> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl<E: StatementExecutor> StatementExecutor for Noted<E> {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        self.inner.submit(statement, wait).await
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        let at = self.start.elapsed().as_millis() as f64 / 1e3;
        self.asked.lock().unwrap().push((at, wait.map_or(0, WaitTime::seconds)));
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
