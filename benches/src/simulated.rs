//! Simulates a service on tokio's clock, whose statements end at given times.

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

/// Time from a poll to its response. Half of it is spent in each direction.
pub const ROUND_TRIP: Duration = Duration::from_millis(50);

/// A service with statements in flight. It only supports polls.
#[derive(Debug)]
pub struct Service {
    ends: Vec<Instant>,
    /// `true` if the service supports long polls.
    holds: bool,
    /// Maximum number of polls accepted in any second.
    rate: usize,
    /// Times of the polls accepted in the last second.
    accepted: Mutex<VecDeque<Instant>>,
    polls: AtomicU64,
    throttled: AtomicU64,
}

impl Service {
    /// Creates a service with statements that end at these times. The id of a statement is its index. By
    /// default all polls are accepted, and long polls are supported.
    pub fn new(ends: Vec<Instant>) -> Self {
        let (polls, throttled) = (AtomicU64::default(), AtomicU64::default());
        Self { ends, holds: true, rate: usize::MAX, accepted: Mutex::default(), polls, throttled }
    }

    /// Turns off the support for long polls.
    #[must_use]
    pub fn without_holding(mut self) -> Self {
        self.holds = false;
        self
    }

    /// Accepts at most `rate` polls in any second, and throttles the others.
    #[must_use]
    pub fn with_rate(mut self, rate: usize) -> Self {
        self.rate = rate;
        self
    }

    /// Returns the id of the statement with this index.
    pub fn id(number: usize) -> StatementId {
        StatementId::new(number.to_string())
    }

    /// Returns the number of polls so far.
    pub fn polls(&self) -> u64 {
        self.polls.load(Ordering::Relaxed)
    }

    /// Returns the number of throttled polls.
    pub fn throttled(&self) -> u64 {
        self.throttled.load(Ordering::Relaxed)
    }

    fn accepts(&self) -> bool {
        let now = Instant::now();
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        while accepted.front().is_some_and(|at| *at + Duration::from_secs(1) <= now) {
            accepted.pop_front();
        }
        let accepts = accepted.len() < self.rate;
        if accepts {
            accepted.push_back(now);
        }
        accepts
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
        self.polls.fetch_add(1, Ordering::Relaxed);
        sleep(ROUND_TRIP / 2).await;
        if !self.accepts() {
            self.throttled.fetch_add(1, Ordering::Relaxed);
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
