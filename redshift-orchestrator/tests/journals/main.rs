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
    Result,
    conformance::journal::{self, JournalFixture},
    journal::{Event, FileJournal, Journal, MemoryJournal, ObjectStoreJournal, Record, RunEntry},
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
    ];
    assert_eq!(names, expected);
}
