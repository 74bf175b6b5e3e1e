//! The conformance scenarios on all journals, and the journal on object storage with a server that speaks S3.

#![allow(clippy::unwrap_used)]

#[path = "../support/bucket.rs"]
mod bucket;
mod lossy;
mod odd_names;
mod removal;
mod requests;
mod s3;

use std::{path::PathBuf, sync::Arc};

use object_store::memory::InMemory;
use redshift_orchestrator::{
    Result,
    conformance::journal::{self, JournalFixture},
    journal::{FileJournal, MemoryJournal, ObjectStoreJournal},
};

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
