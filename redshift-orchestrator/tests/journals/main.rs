//! Conformance scenarios on all journals, and tests of the journal on object storage.

#![allow(clippy::unwrap_used)]

#[path = "../support/bucket.rs"]
mod bucket;
#[path = "../support/intercept.rs"]
mod intercept;
mod leases;
mod lossy;
mod removal;
mod requests;
mod s3;
mod unusual_names;

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use object_store::memory::InMemory;
use redshift_orchestrator::{
    ClientToken, Description, Result, StatementId, Status, StepKey,
    conformance::journal::{self, JournalFixture},
    jiff::Timestamp,
    journal::{
        Entry, Event, FileJournal, Journal, KeepReason, MemoryJournal, ObjectStoreJournal, Prune, Record,
        RecordedOutcome, RunEntry, prune,
    },
};

use intercept::{Intercept, Intercepted};

struct Memory(Arc<MemoryJournal>);

impl JournalFixture for Memory {
    type Journal = Arc<MemoryJournal>;

    async fn open(&self) -> Result<Arc<MemoryJournal>> {
        Ok(self.0.clone())
    }
}

#[tokio::test]
async fn memory_conforms() {
    journal::all(&Memory(Arc::default())).await;
}

struct File(PathBuf);

impl JournalFixture for File {
    type Journal = FileJournal;

    async fn open(&self) -> Result<FileJournal> {
        FileJournal::open(&self.0)
    }
}

#[tokio::test]
async fn file_conforms() {
    let directory = tempfile::tempdir().unwrap();
    journal::all(&File(directory.path().join("journal.jsonl"))).await;
}

struct Objects(Arc<InMemory>);

impl JournalFixture for Objects {
    type Journal = ObjectStoreJournal;

    async fn open(&self) -> Result<ObjectStoreJournal> {
        Ok(ObjectStoreJournal::new(self.0.clone(), "etl/journal"))
    }
}

#[tokio::test]
async fn object_store_conforms() {
    journal::all(&Objects(Arc::default())).await;
}

/// Journal that drops outcomes and finds no run.
#[derive(Clone, Debug, Default)]
struct Forgetful(Arc<MemoryJournal>);

#[async_trait]
impl Intercept for Forgetful {
    fn inner(&self) -> &dyn Journal {
        &self.0
    }

    async fn append(&self, record: Record) -> Result<()> {
        match record.event {
            Event::Ended(_) => Ok(()),
            _ => self.0.append(record).await,
        }
    }

    async fn run_entry(&self, _: &str) -> Result<Option<RunEntry>> {
        Ok(None)
    }
}

impl JournalFixture for Forgetful {
    type Journal = Intercepted<Self>;

    async fn open(&self) -> Result<Intercepted<Self>> {
        Ok(Intercepted(self.clone()))
    }
}

/// Regression: only the first failure was reported.
#[tokio::test]
async fn all_failures_of_a_journal_are_reported() {
    let failures = journal::failures(&Forgetful::default()).await;
    let names: Vec<_> = failures.iter().map(|failure| failure.scenario).collect();
    let expected = [
        "records_are_visible_to_the_next_process",
        "the_last_record_of_a_key_applies",
        "runs_are_listed_newest_first_in_pages",
        "the_last_begin_record_of_a_run_applies",
        "prune_removes_old_finished_runs_only",
        "a_run_with_a_new_record_is_not_removed",
    ];
    assert_eq!(names, expected);
}

/// Journal of a service that records an intent after `prune` has looked at the run.
#[derive(Clone, Debug, Default)]
struct Busy(Arc<MemoryJournal>);

fn intent(step: &str) -> Record {
    let (token, name) = (ClientToken::new(step).unwrap(), format!("r/{step}/1 {step}"));
    Record::new(Timestamp::UNIX_EPOCH, StepKey::new("r", step), Event::Intent { token, name, target: None })
}

#[async_trait]
impl Intercept for Busy {
    fn inner(&self) -> &dyn Journal {
        &self.0
    }

    async fn entries(&self, run: &str) -> Result<Vec<Entry>> {
        let entries = self.0.entries(run).await;
        self.0.append(intent("b")).await?;
        entries
    }
}

/// Regression: an intent that was recorded between the look of `prune` and the removal was removed.
#[tokio::test]
async fn prune_keeps_a_run_whose_next_intent_was_recorded_meanwhile() {
    let journal = Busy::default();
    let done = RecordedOutcome::from_description(&Description::new(StatementId::new("id"), Status::Finished));
    journal.0.append(intent("a")).await.unwrap();
    let ended = Record::new(Timestamp::UNIX_EPOCH, StepKey::new("r", "a"), Event::Ended(done));
    journal.0.append(ended).await.unwrap();
    let pruned = prune(&Intercepted(journal.clone()), &Prune::before(Timestamp::MAX)).await.unwrap();
    assert_eq!((pruned.removed.len(), pruned.kept.len()), (0, 1));
    assert_eq!((pruned.kept[0].run.as_str(), pruned.kept[0].reason), ("r", KeepReason::Recent));
    assert_eq!(journal.0.entries("r").await.unwrap().len(), 2);
}
