//! A journal whose process dies during an append.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use redshift_orchestrator::{
    Result, StepKey,
    journal::{ActiveRun, Claim, Entry, Journal, Record, RunCursor, RunEntry, RunPage, RunRecord},
};
use tokio::sync::Notify;

/// Dies at one of its appends. For a statement, these are the intent, the id and the ending.
#[derive(Debug)]
pub(crate) struct Dying<J> {
    inner: J,
    left: AtomicUsize,
    after: bool,
    dead: Arc<Notify>,
}

impl<J: Journal> Dying<J> {
    /// Dies at append number `death`, starting at 0, before or after it takes effect. Notifies the waiting
    /// task.
    pub(crate) fn at(inner: J, death: usize, after: bool) -> (Self, Arc<Notify>) {
        let dead = Arc::new(Notify::new());
        (Self { inner, left: death.into(), after, dead: dead.clone() }, dead)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<J: Journal> Journal for Dying<J> {
    async fn append(&self, record: Record) -> Result<()> {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 0 {
            if self.after {
                self.inner.append(record).await?;
            }
            self.dead.notify_one();
            return std::future::pending().await;
        }
        self.inner.append(record).await
    }

    async fn entry(&self, key: &StepKey) -> Result<Option<Entry>> {
        self.inner.entry(key).await
    }

    async fn run(&self, run: &str) -> Result<Vec<Entry>> {
        self.inner.run(run).await
    }

    async fn claim(&self, claim: &Claim, alone: bool) -> Result<ActiveRun> {
        self.inner.claim(claim, alone).await
    }

    async fn append_run(&self, record: RunRecord) -> Result<()> {
        self.inner.append_run(record).await
    }

    async fn run_entry(&self, run: &str) -> Result<Option<RunEntry>> {
        self.inner.run_entry(run).await
    }

    async fn runs(&self, limit: usize, after: Option<&RunCursor>) -> Result<RunPage> {
        self.inner.runs(limit, after).await
    }

    async fn remove_runs(&self, runs: &[RunEntry]) -> Result<()> {
        self.inner.remove_runs(runs).await
    }
}
