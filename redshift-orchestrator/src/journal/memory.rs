//! [`MemoryJournal`]: a journal in memory.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::{
    ActiveRun, Claim, Entry, Index, Journal, Line, Record, RunCursor, RunEntry, RunPage, RunRecord,
    runs::Claims,
};
use crate::{Result, StepKey};

/// Journal in memory, shared by its clones. Intended for tests, and the default journal of an orchestrator.
///
/// The contents are lost when the process ends. A restarted process that resumes a run by its name derives
/// the same client tokens and writes new intents:
///
/// * Up to 5 minutes after the submit of a statement, the process continues the statement.
/// * Up to 8 hours after the submit, the service returns the statement and runs nothing. A statement that is
///   older than its intent may belong to another pipeline, so the call returns
///   [`ErrorKind::IdentityConflict`](crate::ErrorKind::IdentityConflict), and the outcome is unknown until an
///   operator [settles](crate::Orchestrator::settle) the attempt.
/// * After 8 hours, the statement would run again.
#[derive(Clone, Debug, Default)]
pub struct MemoryJournal(Arc<Mutex<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    records: Vec<Record>,
    index: Index,
    claims: Claims,
}

impl MemoryJournal {
    /// Creates an empty journal.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns all records in the order in which they were appended.
    pub fn records(&self) -> Vec<Record> {
        self.with(|kept| kept.records.clone())
    }

    // No critical section panics halfway through an update, so the state of a poisoned lock is consistent.
    fn with<T>(&self, read: impl FnOnce(&mut Contents) -> T) -> T {
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

    async fn entries(&self, run: &str) -> Result<Vec<Entry>> {
        Ok(self.with(|kept| kept.index.entries(run)))
    }

    async fn claim(&self, claim: &Claim) -> Result<ActiveRun> {
        self.with(|kept| kept.claims.claim(claim))
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

    async fn remove_runs(&self, runs: &[RunEntry]) -> Result<Vec<String>> {
        Ok(self.with(|kept| {
            let removed = kept.index.unchanged(runs);
            kept.index.remove(&removed);
            kept.records.retain(|record| !removed.contains(&record.key.run));
            removed
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ClientToken,
        journal::{EntryState, Event, SettledOutcome, Settlement},
    };

    /// Regression: a call that waited while an operator settled its attempt, and did not find out the outcome,
    /// opened the attempt again.
    #[tokio::test]
    async fn an_unknown_outcome_does_not_replace_a_settled_one() {
        let key = StepKey::new("r", "a");
        let at = "2026-11-23T06:30:00Z".parse().unwrap();
        let intent =
            || Event::Intent { token: ClientToken::new("t").unwrap(), name: "n".into(), target: None };
        for (settled, is_kept) in [
            (SettledOutcome::Finished, true),
            (SettledOutcome::Failed, true),
            // The submit may have been sent after the settlement.
            (SettledOutcome::NeverRan, false),
        ] {
            let journal = MemoryJournal::new();
            let unknown = Event::Unknown { reason: "no response".into() };
            for event in [intent(), Event::Settled(Settlement::new(settled)), unknown] {
                journal.append(Record::new(at, key.clone(), event)).await.unwrap();
            }
            let state = journal.entry(&key).await.unwrap().unwrap().state;
            assert_eq!(state == EntryState::Settled(settled), is_kept, "{state:?}");
        }
    }
}
