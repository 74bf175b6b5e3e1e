//! [`FileJournal`]: a journal of JSON lines on disk.

use std::{
    fmt,
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;

use super::{
    ActiveRun, Claim, Entry, Index, Journal, Line, Record, RunEntry, RunRecord,
    group::{Group, Sink},
    runs::Claims,
};
use crate::{Error, ErrorKind, Result, StepKey};

/// A journal of JSON lines on disk: one record a line, readable by a person, durable when [`append`](Journal::append) returns.
///
/// Records that are appended at the same time share one `fsync`. The file is locked while it is open; a second process is refused, and
/// told which run is active, unless it only wants to [read](Self::open_read_only). A last line that a crash left unfinished was never
/// acknowledged, and is cut off at the next open; any other line that cannot be read is an error that names it.
pub struct FileJournal {
    path: PathBuf,
    group: Group<Disk>,
    claims: Claims,
    syncs: Arc<AtomicU64>,
    /// Opened for reading only: whether another process had it open for writing.
    read_only: Option<bool>,
}

impl FileJournal {
    /// Opens the journal at `path`, or begins one there.
    ///
    /// # Errors
    /// [`ErrorKind::Overlap`] when another process uses it, with the run it is at; [`ErrorKind::Journal`] when the file cannot be opened,
    /// or has a line that is no record.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |what: &str, error: io::Error| failed(path, what, error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        // Values that runs were given are nobody else's.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(|error| failed("the journal cannot be opened", error))?;
        if !lock(&file).map_err(|error| failed("the journal cannot be locked", error))? {
            return Err(in_use(path, &mut file));
        }
        sync_directory(path)
            .map_err(|error| failed("the journal's directory cannot be made durable", error))?;
        let (index, whole) = read(path, &mut file)?;
        let length = file.metadata().map_err(|error| failed("the journal cannot be read", error))?.len();
        if whole < length {
            file.set_len(whole)
                .and_then(|()| file.sync_all())
                .map_err(|error| failed("the journal's unfinished last line cannot be cut off", error))?;
        }
        file.seek(SeekFrom::End(0)).map_err(|error| failed("the journal cannot be read", error))?;
        Ok(Self::new(path, Some(file), index, None))
    }

    /// As [`open`](Self::open), but waits until no other process uses the journal. Asks twice a second; of several that wait, any may be
    /// next.
    ///
    /// # Errors
    /// As [`open`](Self::open), without the overlap.
    pub async fn open_when_free(path: impl AsRef<Path>) -> Result<Self> {
        loop {
            match Self::open(&path) {
                Err(error) if error.kind() == ErrorKind::Overlap => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                done => return done,
            }
        }
    }

    /// Opens the journal at `path` to look at it as it is now, also while another process uses it. What is appended is refused.
    ///
    /// # Errors
    /// [`ErrorKind::Journal`] when there is none, or when it cannot be read.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut file = File::open(path).map_err(|error| failed(path, "the journal cannot be read", error))?;
        let in_use = match file.try_lock_shared() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(error)) => {
                return Err(failed(path, "the journal cannot be locked", error));
            }
        };
        let (index, _) = read(path, &mut file)?;
        Ok(Self::new(path, None, index, Some(in_use)))
    }

    fn new(path: &Path, file: Option<File>, index: Index, read_only: Option<bool>) -> Self {
        let syncs = Arc::<AtomicU64>::default();
        let disk = Disk { file: file.map(Arc::new), syncs: syncs.clone() };
        Self {
            path: path.to_owned(),
            group: Group::new(disk, index),
            claims: Claims::default(),
            syncs,
            read_only,
        }
    }

    /// Where the journal is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How often it had the disk make records durable: once for records that were appended at the same time.
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    async fn append_line(&self, line: Line) -> Result<()> {
        self.group.append(line).await.map_err(|message| {
            Error::new(ErrorKind::Journal, message).with_context("journal", self.path.display())
        })
    }
}

/// The file; none, if it may only be read.
struct Disk {
    file: Option<Arc<File>>,
    syncs: Arc<AtomicU64>,
}

#[async_trait]
impl Sink for Disk {
    async fn write(&mut self, lines: Vec<u8>) -> Result<(), String> {
        let Some(file) = self.file.clone() else {
            return Err("the journal was opened for reading only".to_owned());
        };
        let written =
            tokio::task::spawn_blocking(move || (&*file).write_all(&lines).and_then(|()| file.sync_data()));
        self.syncs.fetch_add(1, Ordering::Relaxed);
        match written.await {
            Ok(written) => written.map_err(|error| format!("the record could not be written: {error}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

#[async_trait]
impl Journal for FileJournal {
    async fn append(&self, record: Record) -> Result<()> {
        self.append_line(Line::Step(record)).await
    }

    async fn entry(&self, key: &StepKey) -> Result<Option<Entry>> {
        Ok(self.group.read(|index| index.entry(key)))
    }

    async fn run(&self, run: &str) -> Result<Vec<Entry>> {
        Ok(self.group.read(|index| index.run(run)))
    }

    async fn claim(&self, claim: &Claim, alone: bool) -> Result<ActiveRun> {
        self.claims.claim(claim, alone)
    }

    async fn append_run(&self, record: RunRecord) -> Result<()> {
        self.append_line(Line::Run(record)).await
    }

    async fn runs(&self) -> Result<Vec<RunEntry>> {
        Ok(self.group.read(|index| {
            // Whoever has the file is at what that process began, and has not ended. It was the last one to begin something.
            let begun = index.runs(|_| false);
            let holder =
                begun.iter().max_by_key(|entry| entry.begun_at).and_then(|entry| entry.begun.process);
            index.runs(|entry| match self.read_only {
                Some(in_use) => in_use && entry.ended.is_none() && entry.begun.process == holder,
                None => self.claims.is_active(&entry.run),
            })
        }))
    }
}

impl fmt::Debug for FileJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileJournal").field("path", &self.path).finish_non_exhaustive()
    }
}

fn failed(path: &Path, what: &str, error: io::Error) -> Error {
    Error::new(ErrorKind::Journal, format!("{what}: {error}"))
        .with_context("journal", path.display())
        .with_source(error)
}

/// Whether this process has the file to itself now.
///
/// Some hold a lock for a moment only, and are waited for: readers, and a child process that is being started and has not let go of what
/// it inherits.
#[expect(
    clippy::disallowed_methods,
    reason = "a tenth of a second of the machine's time, between calls that block as well"
)]
fn lock(file: &File) -> io::Result<bool> {
    for _ in 0..20 {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    Ok(false)
}

/// The refusal of a second process, with what the first one is at.
fn in_use(path: &Path, file: &mut File) -> Error {
    // What cannot be read is the first one's to complain about.
    let runs =
        read(path, file).map(|(index, _)| index.runs(|entry| entry.ended.is_none())).unwrap_or_default();
    let active = runs.into_iter().rev().find(|entry| entry.is_active);
    let error = match active {
        Some(entry) => {
            Claim { pipeline: entry.begun.pipeline, run: entry.run, since: entry.begun_at }.refusal()
        }
        None => Error::new(
            ErrorKind::Overlap,
            "another process uses this journal; let it end, or give this run a journal of its own",
        ),
    };
    error.with_context("journal", path.display())
}

/// What the lines say, and how many bytes whole lines have.
fn read(path: &Path, file: &mut File) -> Result<(Index, u64)> {
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(|error| failed(path, "the journal cannot be read", error))?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let mut index = Index::default();
    for (number, line) in text[..whole].split(|byte| *byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        index.apply(Line::read(line).map_err(|error| {
            Error::new(
                ErrorKind::Journal,
                "a line is no record of this version; restore the file, or correct the line by hand",
            )
            .with_context("journal", path.display())
            .with_context("line", number + 1)
            .with_source(error)
        })?);
    }
    Ok((index, whole as u64))
}

/// Makes a freshly created file's name durable.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

/// Elsewhere a directory cannot be opened as a file; its own journal keeps the name.
#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ClientToken, StatementId, Status,
        journal::{Ended, Event, RunBegun, RunEvent, Settlement, Standing},
    };

    fn record(step: &str, event: Event) -> Record {
        Record { at: "2026-11-23T06:30:00Z".parse().unwrap(), key: StepKey::new("r", step), event }
    }

    fn intent(step: &str) -> Record {
        record(step, Event::Intent { token: ClientToken::new("t").unwrap(), name: format!("r/{step}/1 t") })
    }

    fn submitted(step: &str) -> Record {
        record(step, Event::Submitted { id: StatementId::new(format!("id-{step}")) })
    }

    #[tokio::test]
    async fn is_readable_by_a_person_and_by_the_next_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        let ended = Event::Ended(Ended {
            status: Status::Failed,
            error: Some("ERROR: no such table".into()),
            timed_out: false,
            executing: Some(std::time::Duration::from_millis(1_500)),
            rows: None,
            has_result_set: false,
        });
        {
            let journal = FileJournal::open(&path).unwrap();
            for record in [
                intent("a"),
                submitted("a"),
                record("a", ended),
                record(
                    "a",
                    Event::Settled {
                        found: Settlement::Finished,
                        by: Some("ada".into()),
                        because: Some("the rows are there".into()),
                    },
                ),
                intent("b"),
            ] {
                journal.append(record).await.unwrap();
            }
        }
        insta::assert_snapshot!(std::fs::read_to_string(&path).unwrap());
        let journal = FileJournal::open(&path).unwrap();
        let run = journal.run("r").await.unwrap();
        assert_eq!(run.len(), 2);
        assert_eq!(run[0].standing, Standing::Settled(Settlement::Finished));
        assert_eq!(run[0].id, Some(StatementId::new("id-a")));
        assert_eq!(run[1].standing, Standing::Open);
        assert!(journal.run("other").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn cuts_off_a_last_line_torn_at_any_byte() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        {
            let journal = FileJournal::open(&path).unwrap();
            journal.append(intent("a")).await.unwrap();
            journal.append(submitted("a")).await.unwrap();
        }
        let whole = std::fs::read(&path).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for length in first..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let journal = FileJournal::open(&path).unwrap();
            assert_eq!(journal.entry(&StepKey::new("r", "a")).await.unwrap().unwrap().id, None);
            journal.append(submitted("a")).await.unwrap();
            drop(journal);
            assert_eq!(std::fs::read(&path).unwrap(), whole, "after a tear at byte {length}");
        }
    }

    #[tokio::test]
    async fn names_a_line_that_is_no_record() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        FileJournal::open(&path).unwrap().append(intent("a")).await.unwrap();
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"event\":\"danced\"}\n");
        std::fs::write(&path, text).unwrap();
        let error = FileJournal::open(&path).unwrap_err();
        assert_eq!((error.kind(), error.context("line")), (ErrorKind::Journal, Some("2")));
    }

    #[test]
    fn a_second_owner_is_refused_and_a_later_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        let first = FileJournal::open(&path).unwrap();
        let error = FileJournal::open(&path).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
        drop(first);
        assert!(FileJournal::open(&path).is_ok());
    }

    fn begun(run: &str) -> RunRecord {
        begun_by(1, run, "2026-11-23T06:30:00Z")
    }

    fn begun_by(process: u32, run: &str, at: &str) -> RunRecord {
        let begun = RunBegun { pipeline: "nightly".into(), process: Some(process), ..RunBegun::default() };
        RunRecord { at: at.parse().unwrap(), run: run.to_owned(), event: RunEvent::RunBegun(begun) }
    }

    #[tokio::test]
    async fn a_second_owner_is_told_which_run_is_active_and_since_when() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        let first = FileJournal::open(&path).unwrap();
        first.append_run(begun("one")).await.unwrap();
        let error = FileJournal::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overlap);
        assert_eq!(error.context("active_run"), Some("one"));
        assert_eq!(error.context("active_since"), Some("2026-11-23T06:30:00Z"));
        let seen = FileJournal::open_read_only(&path).unwrap();
        assert!(seen.runs().await.unwrap()[0].is_active);
        // Its process died: the lock went with it.
        drop(first);
        let seen = FileJournal::open_read_only(&path).unwrap();
        let runs = seen.runs().await.unwrap();
        assert!(!runs[0].is_active && runs[0].ended.is_none());
        assert!(seen.append(intent("a")).await.unwrap_err().to_string().contains("reading only"));
        let second = FileJournal::open(&path).expect("a reader keeps nobody away");
        // The second one is not at what the first one left.
        second.append_run(begun_by(2, "two", "2026-11-23T07:00:00Z")).await.unwrap();
        let seen = FileJournal::open_read_only(&path).unwrap();
        assert_eq!(
            seen.runs().await.unwrap().iter().map(|run| run.is_active).collect::<Vec<_>>(),
            [false, true]
        );
    }

    #[tokio::test]
    async fn appends_at_the_same_time_share_a_sync() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        let journal = FileJournal::open(&path).unwrap();
        let steps: Vec<_> = (0..200).map(|step| format!("s{step}")).collect();
        let appends = steps.iter().map(|step| journal.append(intent(step)));
        futures::future::try_join_all(appends).await.unwrap();
        assert!(journal.syncs() <= 2, "{} syncs for 200 records", journal.syncs());
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 200);
        journal.append(intent("a")).await.unwrap();
        journal.append(submitted("a")).await.unwrap();
        assert!(journal.syncs() <= 4);
    }
}
