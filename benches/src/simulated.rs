//! A service on tokio's clock, whose statements end at times that are known before.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redshift_orchestrator::{
    Description, Error, ErrorKind, PageToken, Result, ResultPage, Statement, StatementExecutor,
    StatementFilter, StatementId, StatementPage, Status, Submitted, WaitTime,
};
use tokio::time::{Instant, sleep, sleep_until};

/// From a question to its answer, which is half of it away in each direction.
pub const ROUND_TRIP: Duration = Duration::from_millis(50);

/// Statements that are on their way, of which one can only ask how far they are.
#[derive(Debug)]
pub struct Service {
    ends: Vec<Instant>,
    /// Whether it holds a question until the statement ends, if asked to.
    holds: bool,
    /// Questions that it answers in any second.
    rate: usize,
    /// When the last questions were taken.
    taken: Mutex<VecDeque<Instant>>,
    asked: AtomicU64,
    refused: AtomicU64,
}

impl Service {
    /// Statements that end then; the id of each is its number, from 0. All questions are taken, and held for those who wish it.
    pub fn new(ends: Vec<Instant>) -> Self {
        let (asked, refused) = (AtomicU64::default(), AtomicU64::default());
        Self { ends, holds: true, rate: usize::MAX, taken: Mutex::default(), asked, refused }
    }

    /// It does not know long polls.
    #[must_use]
    pub fn without_holding(mut self) -> Self {
        self.holds = false;
        self
    }

    /// Takes so many questions in any second, and throttles the others.
    #[must_use]
    pub fn with_rate(mut self, rate: usize) -> Self {
        self.rate = rate;
        self
    }

    /// The id of a statement.
    pub fn id(number: usize) -> StatementId {
        StatementId::new(number.to_string())
    }

    /// Questions so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Those of them that were throttled.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn takes(&self) -> bool {
        let now = Instant::now();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while taken.front().is_some_and(|at| *at + Duration::from_secs(1) <= now) {
            taken.pop_front();
        }
        let takes = taken.len() < self.rate;
        if takes {
            taken.push_back(now);
        }
        takes
    }
}

fn unsupported<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "the simulation only answers questions"))
}

#[async_trait::async_trait]
impl StatementExecutor for Service {
    async fn submit(&self, _: &Statement, _: Option<WaitTime>) -> Result<Submitted> {
        unsupported()
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        sleep(ROUND_TRIP / 2).await;
        if !self.takes() {
            self.refused.fetch_add(1, Ordering::Relaxed);
            sleep(ROUND_TRIP / 2).await;
            return Err(Error::new(ErrorKind::Throttled, "Rate exceeded"));
        }
        let number: usize = id.as_str().parse().unwrap_or_default();
        let ends = self.ends[number];
        if self.holds {
            let held = Instant::now() + wait.map_or(Duration::ZERO, WaitTime::duration);
            sleep_until(held.min(ends)).await;
        }
        let status = if Instant::now() < ends { Status::Started } else { Status::Finished };
        sleep(ROUND_TRIP / 2).await;
        Ok(Description::new(id.clone(), status))
    }

    async fn cancel(&self, _: &StatementId) -> Result<bool> {
        unsupported()
    }

    async fn result(&self, _: &StatementId, _: Option<PageToken>) -> Result<ResultPage> {
        unsupported()
    }

    async fn list(&self, _: &StatementFilter, _: Option<PageToken>) -> Result<StatementPage> {
        unsupported()
    }

    fn target(&self) -> Option<redshift_orchestrator::Target> {
        None
    }
}
