//! Journal that forwards all calls to another journal, except for those that a test changes.

use std::fmt::Debug;

use async_trait::async_trait;
use redshift_orchestrator::{
    Result, StepKey,
    journal::{ActiveRun, Claim, Entry, Journal, Record, RunCursor, RunEntry, RunPage, RunRecord},
};

/// Calls of a journal that a test can change. The default implementations forward them to the inner journal.
#[async_trait]
pub(crate) trait Intercept: Debug + Send + Sync {
    /// Returns the inner journal.
    fn inner(&self) -> &dyn Journal;

    async fn append(&self, record: Record) -> Result<()> {
        self.inner().append(record).await
    }

    async fn entry(&self, key: &StepKey) -> Result<Option<Entry>> {
        self.inner().entry(key).await
    }

    async fn entries(&self, run: &str) -> Result<Vec<Entry>> {
        self.inner().entries(run).await
    }

    async fn run_entry(&self, run: &str) -> Result<Option<RunEntry>> {
        self.inner().run_entry(run).await
    }

    async fn claim(&self, claim: &Claim) -> Result<ActiveRun> {
        self.inner().claim(claim).await
    }
}

/// Journal with the changed calls of `I`.
#[derive(Debug)]
pub(crate) struct Intercepted<I>(pub(crate) I);

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<I: Intercept> Journal for Intercepted<I> {
    async fn append(&self, record: Record) -> Result<()> {
        self.0.append(record).await
    }

    async fn entry(&self, key: &StepKey) -> Result<Option<Entry>> {
        self.0.entry(key).await
    }

    async fn entries(&self, run: &str) -> Result<Vec<Entry>> {
        self.0.entries(run).await
    }

    async fn claim(&self, claim: &Claim) -> Result<ActiveRun> {
        self.0.claim(claim).await
    }

    async fn append_run(&self, record: RunRecord) -> Result<()> {
        self.0.inner().append_run(record).await
    }

    async fn run_entry(&self, run: &str) -> Result<Option<RunEntry>> {
        self.0.run_entry(run).await
    }

    async fn runs(&self, limit: usize, after: Option<&RunCursor>) -> Result<RunPage> {
        self.0.inner().runs(limit, after).await
    }

    async fn remove_runs(&self, runs: &[RunEntry]) -> Result<Vec<String>> {
        self.0.inner().remove_runs(runs).await
    }
}
