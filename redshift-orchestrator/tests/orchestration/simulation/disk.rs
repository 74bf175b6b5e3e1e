//! [`Disk`]: stores a journal as lines. The disk may fail for a while, and the process that writes may die.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use redshift_orchestrator::{
    Error, ErrorKind, Result, StepKey,
    journal::{
        ActiveRun, Claim, Entry, Journal, MemoryJournal, Record, RunCursor, RunEntry, RunPage, RunRecord,
    },
};
use tokio::time::Instant;

use super::{
    fate::{Death, Fate},
    network::locked,
};

/// Lines of a journal, which successive processes share. It simulates the file of a file journal.
#[derive(Clone, Default)]
pub(super) struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    failures: Arc<AtomicU64>,
}

impl Disk {
    pub(super) fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        locked(&self.bytes)
    }

    /// Returns the number of failed appends.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Returns the records of all complete lines.
    fn records(&self) -> Result<Vec<Record>, String> {
        let parse = |line: &[u8]| serde_json::from_slice(line).map_err(|error| error.to_string());
        let bytes = self.bytes();
        bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")).map(parse).collect()
    }

    /// Returns a journal with all complete records.
    pub(super) async fn read(&self) -> Result<MemoryJournal, String> {
        let index = MemoryJournal::new();
        for record in self.records()? {
            index.append(record).await.map_err(|error| error.to_string())?;
        }
        Ok(index)
    }

    /// Opens the journal in the next process. Removes an incomplete last line, like a file journal.
    pub(super) async fn open(&self, fate: Arc<Fate>) -> Result<DiskJournal, String> {
        let index = self.read().await?;
        let mut bytes = self.bytes();
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        bytes.truncate(whole);
        drop(bytes);
        Ok(DiskJournal { disk: self.clone(), index, fate, failed: Mutex::default() })
    }
}

/// Journal of one process.
pub(super) struct DiskJournal {
    disk: Disk,
    index: MemoryJournal,
    fate: Arc<Fate>,
    failed: Mutex<Option<Failed>>,
}

/// Failed write.
struct Failed {
    /// Length of the file before the write.
    whole: usize,
    /// Time at which the disk works again.
    until: Instant,
}

impl DiskJournal {
    /// Writes the beginning of the line, of a random length from zero to all of it.
    fn write_some(&self, line: &[u8]) {
        let length = self.fate.draw(|draw| draw.usize(0..=line.len()));
        self.disk.bytes().extend_from_slice(&line[..length]);
    }

    /// Removes what a failed write has left, once the disk works again. Returns `false` while the disk does
    /// not work.
    fn settle(&self) -> bool {
        let mut failed = locked(&self.failed);
        match &*failed {
            Some(Failed { until, .. }) if Instant::now() < *until => false,
            Some(Failed { whole, .. }) => {
                self.disk.bytes().truncate(*whole);
                *failed = None;
                true
            }
            None => true,
        }
    }
}

impl fmt::Debug for DiskJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiskJournal")
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Journal for DiskJournal {
    async fn append(&self, record: Record) -> Result<()> {
        let failed = || {
            self.disk.failures.fetch_add(1, Ordering::Relaxed);
            Err(Error::new(ErrorKind::Journal, "input/output error"))
        };
        let mut line =
            serde_json::to_vec(&record).map_err(|error| Error::new(ErrorKind::Journal, error.to_string()))?;
        line.push(b'\n');
        let death = self.fate.death();
        if death == Some(Death::Before) {
            return self.fate.die().await;
        }
        if !self.settle() {
            return failed();
        }
        match death {
            None => {}
            Some(Death::Before) => self.fate.die().await,
            Some(Death::After) => {
                self.disk.bytes().extend_from_slice(&line);
                self.fate.die().await
            }
            Some(Death::Underway(_)) => {
                self.write_some(&line);
                self.fate.die().await
            }
        }
        if let Some(away) = self.fate.journal_failure() {
            let whole = self.disk.bytes().len();
            self.write_some(&line);
            *locked(&self.failed) = Some(Failed { whole, until: Instant::now() + away });
            return failed();
        }
        self.disk.bytes().extend_from_slice(&line);
        self.index.append(record).await
    }

    async fn entry(&self, key: &StepKey) -> Result<Option<Entry>> {
        self.index.entry(key).await
    }

    async fn entries(&self, run: &str) -> Result<Vec<Entry>> {
        self.index.entries(run).await
    }

    async fn claim(&self, claim: &Claim) -> Result<ActiveRun> {
        self.index.claim(claim).await
    }

    async fn append_run(&self, record: RunRecord) -> Result<()> {
        self.index.append_run(record).await
    }

    async fn run_entry(&self, run: &str) -> Result<Option<RunEntry>> {
        self.index.run_entry(run).await
    }

    async fn runs(&self, limit: usize, after: Option<&RunCursor>) -> Result<RunPage> {
        self.index.runs(limit, after).await
    }

    async fn remove_runs(&self, runs: &[RunEntry]) -> Result<Vec<String>> {
        self.index.remove_runs(runs).await
    }
}
