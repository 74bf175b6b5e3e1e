//! [`Rate`]: spreads requests so that the account's limits are kept.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, sleep_until};

use crate::{
    Description, PageToken, Result, ResultPage, Statement, StatementExecutor, StatementFilter, StatementId,
    StatementPage, Submitted, WaitTime,
};

/// Spreads requests so that an account's limits are kept: each operation has its own rate, and who comes first is sent first.
pub struct Rate<E> {
    inner: E,
    rates: RequestRates,
}

/// Requests per second that an account may send in a region, one rate an operation. Clones share what is left.
///
/// The defaults are the service's own limits: 30 single and 20 batch submits, 100 describes, 20 result pages, 3 cancels and 3
/// listings a second. Where several processes share an account, give each its part.
#[derive(Clone, Debug)]
pub struct RequestRates {
    submit: Bucket,
    batch: Bucket,
    describe: Bucket,
    result: Bucket,
    cancel: Bucket,
    list: Bucket,
}

impl RequestRates {
    /// Single submits per second.
    #[must_use]
    pub fn with_submits(mut self, per_second: u32) -> Self {
        self.submit = Bucket::new(per_second);
        self
    }

    /// Submits of batches per second.
    #[must_use]
    pub fn with_batches(mut self, per_second: u32) -> Self {
        self.batch = Bucket::new(per_second);
        self
    }

    /// Describes per second.
    #[must_use]
    pub fn with_describes(mut self, per_second: u32) -> Self {
        self.describe = Bucket::new(per_second);
        self
    }

    /// Result pages per second.
    #[must_use]
    pub fn with_results(mut self, per_second: u32) -> Self {
        self.result = Bucket::new(per_second);
        self
    }

    /// Cancels per second.
    #[must_use]
    pub fn with_cancels(mut self, per_second: u32) -> Self {
        self.cancel = Bucket::new(per_second);
        self
    }

    /// Listings per second.
    #[must_use]
    pub fn with_lists(mut self, per_second: u32) -> Self {
        self.list = Bucket::new(per_second);
        self
    }
}

impl Default for RequestRates {
    fn default() -> Self {
        Self {
            submit: Bucket::new(30),
            batch: Bucket::new(20),
            describe: Bucket::new(100),
            result: Bucket::new(20),
            cancel: Bucket::new(3),
            list: Bucket::new(3),
        }
    }
}

/// A token bucket that holds the requests of one second.
///
/// Each request takes the next free instant, so the order of arrival is the order of sending, and nobody needs to be woken up. A
/// request that is dropped while it waits has used its instant.
#[derive(Clone, Debug)]
struct Bucket {
    interval: Duration,
    next: Arc<Mutex<Option<Instant>>>,
}

impl Bucket {
    /// A rate of 0 counts as 1: a request that never goes out would be a hang.
    fn new(per_second: u32) -> Self {
        Self { interval: Duration::from_secs(1) / per_second.max(1), next: Arc::default() }
    }

    async fn take(&self) {
        let now = Instant::now();
        let instant = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            // Unused instants of the last second may still be taken.
            let unused = now.checked_sub(Duration::from_secs(1) - self.interval).unwrap_or(now);
            let instant = next.map_or(unused, |next| next.max(unused));
            *next = Some(instant + self.interval);
            instant
        };
        if instant > now {
            sleep_until(instant).await;
        }
    }
}

impl<E> Rate<E> {
    /// Sends requests to `inner` at these rates.
    pub fn new(inner: E, rates: RequestRates) -> Self {
        Self { inner, rates }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<E: StatementExecutor> StatementExecutor for Rate<E> {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let is_batch = statement.execution_mode().is_some();
        if is_batch { &self.rates.batch } else { &self.rates.submit }.take().await;
        self.inner.submit(statement, wait).await
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        self.rates.describe.take().await;
        self.inner.describe(id, wait).await
    }

    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        self.rates.cancel.take().await;
        self.inner.cancel(id).await
    }

    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage> {
        self.rates.result.take().await;
        self.inner.result(id, page).await
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        self.rates.list.take().await;
        self.inner.list(filter, page).await
    }
}

impl<E: fmt::Debug> fmt::Debug for Rate<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rate({:?})", self.inner)
    }
}
