//! A service on tokio's clock, whose statements end at predefined times.

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

/// The time from a poll to its response, half of it in each direction.
pub const ROUND_TRIP: Duration = Duration::from_millis(50);

/// Statements in flight; they can only be polled.
#[derive(Debug)]
pub struct Service {
    ends: Vec<Instant>,
    /// `true` if a poll with a wait is held until the statement ends.
    holds: bool,
    /// The number of polls accepted in any second.
    rate: usize,
    /// The times of the last accepted polls.
    taken: Mutex<VecDeque<Instant>>,
    asked: AtomicU64,
    refused: AtomicU64,
}

impl Service {
    /// Creates statements that end at these times. The id of each is its number, from 0. All polls are
    /// accepted, and a poll with a wait is held.
    pub fn new(ends: Vec<Instant>) -> Self {
        let (asked, refused) = (AtomicU64::default(), AtomicU64::default());
        Self { ends, holds: true, rate: usize::MAX, taken: Mutex::default(), asked, refused }
    }

    /// Disables long polls.
    #[must_use]
    pub fn without_holding(mut self) -> Self {
        self.holds = false;
        self
    }

    /// Accepts `rate` polls in any second, and throttles the rest.
    #[must_use]
    pub fn with_rate(mut self, rate: usize) -> Self {
        self.rate = rate;
        self
    }

    /// Returns the id of a statement.
    pub fn id(number: usize) -> StatementId {
        StatementId::new(number.to_string())
    }

    /// Returns the number of polls so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Returns the number of throttled polls.
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
    Err(Error::new(ErrorKind::Unsupported, "the simulation can only be polled"))
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
