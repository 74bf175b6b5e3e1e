//! [`MemoryJournal`]: a journal that lives as long as the process.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::{
    ActiveRun, Claim, Entry, Index, Journal, Line, Record, RunCursor, RunEntry, RunPage, RunRecord,
    runs::Claims,
};
use crate::{Result, StepKey};

/// A journal that lives as long as the process, shared by its clones. The default of an orchestrator, and the journal of tests.
///
/// Client tokens do not need it: a process that starts anew with the same run's name makes the same tokens, and the service
/// recognises them for 8 hours. What is lost with this journal is everything older, and which steps are done.
#[derive(Clone, Debug, Default)]
pub struct MemoryJournal(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    records: Vec<Record>,
    index: Index,
    claims: Claims,
}

impl MemoryJournal {
    /// An empty journal.
    pub fn new() -> Self {
        Self::default()
    }

    /// All records, in the order in which they were written.
    pub fn records(&self) -> Vec<Record> {
        self.with(|kept| kept.records.clone())
    }

    // A panic elsewhere cannot leave a record half applied that matters: the lock is taken as it is.
    fn with<T>(&self, read: impl FnOnce(&mut Kept) -> T) -> T {
        read(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn append(&self, record: Record) -> Result<()> {
        self.with(|kept| {
            kept.records.push(record.clone());
            kept.index.apply(Line::Step(record));
        });
        Ok(())
    }

    async fn entry(&self, key: &StepKey) -> Result<Option<Entry>> {
        Ok(self.with(|kept| kept.index.entry(key)))
    }

    async fn run(&self, run: &str) -> Result<Vec<Entry>> {
        Ok(self.with(|kept| kept.index.run(run)))
    }

    async fn claim(&self, claim: &Claim, alone: bool) -> Result<ActiveRun> {
        self.with(|kept| kept.claims.claim(claim, alone))
    }

    async fn append_run(&self, record: RunRecord) -> Result<()> {
        self.with(|kept| kept.index.apply(Line::Run(record)));
        Ok(())
    }

    async fn run_entry(&self, run: &str) -> Result<Option<RunEntry>> {
        Ok(self.with(|kept| kept.index.run_entry(run).map(|entry| kept.claims.mark(entry))))
    }

    async fn runs(&self, limit: usize, after: Option<&RunCursor>) -> Result<RunPage> {
        Ok(self.with(|kept| {
            let RunPage { runs, next } = kept.index.runs(limit, after);
            RunPage { runs: runs.into_iter().map(|entry| kept.claims.mark(entry)).collect(), next }
        }))
    }

    async fn remove_runs(&self, runs: &[RunEntry]) -> Result<()> {
        self.with(|kept| {
            kept.index.remove(runs);
            kept.records.retain(|record| runs.iter().all(|entry| entry.run != record.key.run));
        });
        Ok(())
    }
}
