//! [`FileJournal`]: a journal in a local file of JSON lines.

use std::{
    collections::BTreeSet,
    fmt,
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;

use super::{
    ActiveRun, BadLine, Claim, Entry, Head, Index, Journal, Line, Record, RunCursor, RunEntry, RunPage,
    RunRecord,
    group::{Group, Sink},
    runs::Claims,
};
use crate::{Error, ErrorKind, Result, StepKey};

/// Journal in a local file of JSON lines. Each record is one human-readable line and is durable when
/// [`append`](Journal::append) returns.
///
/// Concurrent appends share one `fsync`. The file is locked while it is open: if a second process opens it
/// for writing, it gets an error that names the active run. A second process can open the file [for
/// reading](Self::open_read_only). A crash can leave an incomplete last line, whose append never returned
/// `Ok`; the next open removes this line. If any other line is invalid, opening returns an error with its
/// number.
///
/// If a write or its `fsync` fails, its lines are removed from the file before the appends return their
/// errors. If this fails, too, the next append or open removes them, and no other line is written before.
///
/// The whole file is read when it is opened, and its runs are kept in memory: about 1 KB for each attempt at
/// a step, or 75 MB for one year of a four-step pipeline that runs every half hour. [`prune`](super::prune)
/// removes old runs by replacing the file. A crash during the replacement leaves either the old file or the
/// new one. The new file keeps the mode of the old one. If the path is a symbolic link, the file that it
/// refers to is replaced.
pub struct FileJournal {
    path: PathBuf,
    group: Group<Disk>,
    claims: Claims,
    syncs: Arc<AtomicU64>,
    /// `None` if opened for writing.
    read_only: Option<ReadOnly>,
}

/// State of a journal that was opened for reading.
struct ReadOnly {
    /// Id of the process that has the journal open for writing, taken from the run that began last. `None` if
    /// no process has the journal open.
    holder: Option<u32>,
}

impl FileJournal {
    /// Opens the journal at `path`, or creates it. Reads the whole file on the calling thread, and blocks the
    /// thread for up to 0.1 s if another process holds the lock. In asynchronous code, use
    /// [`open_async`](Self::open_async).
    ///
    /// # Errors
    /// Returns [`ErrorKind::Overlap`] with the active run if another process has the journal open, and
    /// [`ErrorKind::Journal`] if the file cannot be opened, is not a regular file, or has an invalid line.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |what: &str, error: io::Error| failed(path, what, error);
        let (mut file, real_path) = loop {
            check_is_file(path)?;
            let opened = options().truncate(false).open(path);
            let mut file = opened.map_err(|error| failed("the journal cannot be opened", error))?;
            if !lock(&file).map_err(|error| failed("the journal cannot be locked", error))? {
                return Err(in_use(path, &mut file));
            }
            // A removal of runs must replace the file and not a symbolic link to it.
            let real_path =
                std::fs::canonicalize(path).map_err(|error| failed("the journal cannot be opened", error))?;
            // If `path` now refers to a different file, another process replaced the journal while this
            // process waited for the lock. The loop opens the new file.
            if is_at(&file, &real_path).map_err(|error| failed("the journal cannot be opened", error))? {
                break (file, real_path);
            }
        };
        sync_directory(&real_path)
            .map_err(|error| failed("the journal's directory cannot be made durable", error))?;
        let (index, whole) = read(path, &mut file)?;
        // The previous process may have died before it synced its last lines.
        let written = Written::new(&real_path, file, whole);
        let written = written.and_then(|mut written| written.cut_back().map(|()| written));
        let written =
            written.map_err(|error| failed("the journal's last lines cannot be made durable", error))?;
        Ok(Self::new(path, Some(written), index, None))
    }

    /// Calls [`open`](Self::open) on a thread that may block.
    ///
    /// # Errors
    /// Returns the errors of [`open`](Self::open).
    pub async fn open_async(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let opened = tokio::task::spawn_blocking(move || Self::open(&path));
        opened.await.unwrap_or_else(|error| Err(Error::new(ErrorKind::Journal, error.to_string())))
    }

    /// Opens the journal as soon as no other process has it open. Tries every half second, like
    /// [`open_async`](Self::open_async). Waiting processes are admitted in no particular order.
    ///
    /// # Errors
    /// Returns the errors of [`open`](Self::open) except [`ErrorKind::Overlap`].
    pub async fn open_when_unlocked(path: impl AsRef<Path>) -> Result<Self> {
        loop {
            match Self::open_async(&path).await {
                Err(error) if error.kind() == ErrorKind::Overlap => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                done => return done,
            }
        }
    }

    /// Reads the journal at `path` once, on the calling thread, even if another process has it open. Later
    /// records of that process are not visible. Appends return an error.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Journal`] if the journal does not exist, is not a regular file or cannot be read.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        check_is_file(path)?;
        let mut file = File::open(path).map_err(|error| failed(path, "the journal cannot be read", error))?;
        let in_use = is_in_use(&file).map_err(|error| failed(path, "the journal cannot be locked", error))?;
        let (index, _) = read(path, &mut file)?;
        Ok(Self::new(path, None, index, Some(in_use)))
    }

    fn new(path: &Path, written: Option<Written>, index: Index, read_only: Option<bool>) -> Self {
        let syncs = Arc::<AtomicU64>::default();
        let durable = written.as_ref().map_or(0, |written| written.durable);
        let written = written.map(|written| Arc::new(Mutex::new(written)));
        let steps: Steps = Arc::new(|_| Ok(()));
        let disk = Disk { written, durable, syncs: syncs.clone(), steps };
        let holder = index.all_runs().into_iter().filter(|run| run.begun.process.is_some());
        let holder = holder.max_by_key(|run| run.begun_at).and_then(|run| run.begun.process);
        Self {
            path: path.to_owned(),
            group: Group::new(disk, index),
            claims: Claims::default(),
            syncs,
            read_only: read_only.map(|in_use| ReadOnly { holder: holder.filter(|_| in_use) }),
        }
    }

    /// Returns the path of the journal.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the number of writes, each with one `fsync`. Concurrent appends share a write.
    pub fn sync_count(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    async fn append_line(&self, line: Line) -> Result<()> {
        self.group.append(line).await.map_err(|message| self.failed(message))
    }

    fn failed(&self, message: String) -> Error {
        Error::new(ErrorKind::Journal, message).with_context("journal", self.path.display())
    }

    /// Sets [`RunEntry::is_active`].
    fn mark(&self, entry: RunEntry) -> RunEntry {
        match &self.read_only {
            None => self.claims.mark(entry),
            Some(ReadOnly { holder }) => {
                let is_active = holder.is_some() && entry.ended.is_none() && entry.begun.process == *holder;
                RunEntry { is_active, ..entry }
            }
        }
    }
}

/// Returns the options for opening and creating a journal. Only the owner can read a new file, because a
/// journal contains the parameter values of runs.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// [`Sink`] that writes to the file, on threads that may block.
struct Disk {
    written: Option<Arc<Mutex<Written>>>,
    /// Length of the durable lines after the last completed call. Smaller than [`Written::durable`] if a
    /// write was interrupted and has completed since.
    durable: u64,
    syncs: Arc<AtomicU64>,
    /// Hook with which tests make a step fail.
    steps: Steps,
}

/// The locked file and the length of its durable lines.
struct Written {
    /// Path without symbolic links.
    path: PathBuf,
    file: File,
    durable: u64,
    /// The durable lines after the last multiple of [`BLOCK`].
    tail: Vec<u8>,
    /// `false` if the file was renamed to `path`, and the directory could not be synced since.
    is_named: bool,
}

/// A multiple of the sizes of pages and of blocks of file systems, in bytes.
const BLOCK: u64 = 64 * 1024;

impl Written {
    /// Creates the state of a file whose first `durable` bytes are lines.
    fn new(path: &Path, mut file: File, durable: u64) -> io::Result<Self> {
        let mut tail = vec![0; (durable % BLOCK) as usize];
        file.seek(SeekFrom::Start(durable - durable % BLOCK))?;
        file.read_exact(&mut tail)?;
        Ok(Self { path: path.to_owned(), file, durable, tail, is_named: true })
    }

    /// Appends lines durably and returns the new length. Writes the head before the first line of the file.
    /// After an error, removes the lines again, because the caller will be told that they are not stored.
    fn write(&mut self, at: u64, lines: &[u8], before: &Steps) -> io::Result<u64> {
        if self.durable != at {
            return Err(io::Error::other("another write intervened"));
        }
        let mut bytes = Vec::new();
        if at == 0 {
            Head::new(None).write(&mut bytes)?;
        }
        bytes.extend_from_slice(lines);
        if let Err(error) = self.append(&bytes, before) {
            return Err(match self.cut_back() {
                Ok(()) => error,
                Err(second) => {
                    io::Error::other(format!("{error}; its lines cannot be removed yet: {second}"))
                }
            });
        }
        self.durable += bytes.len() as u64;
        self.tail.extend_from_slice(&bytes);
        let kept = (self.durable % BLOCK) as usize;
        self.tail.drain(..self.tail.len() - kept);
        Ok(self.durable)
    }

    fn append(&mut self, bytes: &[u8], before: &Steps) -> io::Result<()> {
        self.sync_name(before)?;
        self.file.seek(SeekFrom::Start(self.durable))?;
        before("append")?;
        self.file.write_all(bytes)?;
        before("sync the lines")?;
        self.file.sync_data()
    }

    /// Makes the last rename durable. Until then, a power failure could bring back the file before the
    /// rename, without the lines that were appended since.
    fn sync_name(&mut self, before: &Steps) -> io::Result<()> {
        if !self.is_named {
            before("sync the directory")?;
            sync_directory(&self.path)?;
            self.is_named = true;
        }
        Ok(())
    }

    /// Removes the bytes that a failed write left after the durable lines, and syncs the file.
    ///
    /// Also writes the last block of durable lines again. After a failed sync, the operating system may treat
    /// pages as written although they are not on the disk, and later syncs do not write them. The only
    /// durable lines in such a page are those that share a block with the lines that failed.
    fn cut_back(&mut self) -> io::Result<()> {
        self.file.set_len(self.durable)?;
        self.file.seek(SeekFrom::Start(self.durable - self.tail.len() as u64))?;
        self.file.write_all(&self.tail)?;
        self.file.sync_all()
    }

    /// Replaces the file by a new file without the lines of some runs. A crash leaves the complete old file
    /// or the complete new file.
    ///
    /// Calls `before` with the name of each step before the step begins. An error from `before` is handled
    /// like an error of the step.
    fn remove(&mut self, is_removed: &dyn Fn(&str) -> bool, before: &Steps) -> io::Result<()> {
        check_has_one_name(&self.file)?;
        let mut text = vec![0; usize::try_from(self.durable).map_err(io::Error::other)?];
        self.file.seek(SeekFrom::Start(0))?;
        self.file.read_exact(&mut text)?;
        let kept: Vec<u8> = text
            .split_inclusive(|byte| *byte == b'\n')
            .filter(|line| !Line::run_of(line).is_some_and(|run| is_removed(&run)))
            .flatten()
            .copied()
            .collect();
        let new_path = new_path(&self.path);
        before("create")?;
        let mut file = options().truncate(true).open(&new_path)?;
        keep_access(&self.file, &file)?;
        before("lock")?;
        // The new file is locked before the rename. A process that opens it immediately after the rename must
        // find it locked.
        file.try_lock().map_err(io::Error::from)?;
        before("write")?;
        file.write_all(&kept)?;
        before("sync")?;
        file.sync_all()?;
        before("rename")?;
        let renamed = Self { is_named: false, ..Self::new(&self.path, file, kept.len() as u64)? };
        std::fs::rename(&new_path, &self.path)?;
        *self = renamed;
        self.sync_name(before)
    }
}

/// Function that is called before each step of a write or a replacement.
type Steps = Arc<dyn Fn(&'static str) -> io::Result<()> + Send + Sync>;

fn not_rewritten(error: impl fmt::Display) -> String {
    format!("the journal could not be rewritten: {error}")
}

/// Returns the path of the new file until it is renamed to `path`.
fn new_path(path: &Path) -> PathBuf {
    PathBuf::from([path.as_os_str(), ".new".as_ref()].join("".as_ref()))
}

impl Disk {
    /// Runs an operation with the file on a thread that may block. Returns an error if the journal was opened
    /// for reading.
    async fn blocking<T: Send + 'static>(
        &self,
        what: impl FnOnce(&mut Written) -> io::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        let Some(written) = self.written.clone() else {
            return Err("the journal is open for reading only".to_owned());
        };
        let done = tokio::task::spawn_blocking(move || {
            what(&mut written.lock().unwrap_or_else(PoisonError::into_inner))
        });
        match done.await {
            Ok(done) => done.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn remove(&mut self, runs: &[String]) -> Result<(), String> {
        let names: BTreeSet<_> = runs.iter().cloned().collect();
        let before = self.steps.clone();
        let removed = self.blocking(move |written| {
            let removed = written.remove(&|run| names.contains(run), &before);
            // If a step after the rename fails, the file has been replaced and has a new length.
            Ok((removed, written.durable))
        });
        let (removed, durable) = removed.await.map_err(not_rewritten)?;
        self.durable = durable;
        removed.map_err(not_rewritten)
    }
}

#[async_trait]
impl Sink for Disk {
    async fn write(&mut self, lines: Arc<[u8]>) -> Result<(), String> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let (at, before) = (self.durable, self.steps.clone());
        let written = self.blocking(move |written| written.write(at, &lines, &before)).await;
        self.durable = written.map_err(|error| format!("the record could not be written: {error}"))?;
        Ok(())
    }

    async fn settle(&mut self, _: Arc<[u8]>) -> Result<bool, String> {
        let before = self.durable;
        let settled = self.blocking(move |written| {
            // If the lengths differ, the interrupted write has completed since, and its lines are durable.
            if written.durable == before {
                written.cut_back()?;
            }
            Ok(written.durable)
        });
        self.durable =
            settled.await.map_err(|error| format!("a failed record cannot be removed: {error}"))?;
        Ok(self.durable != before)
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

    async fn entries(&self, run: &str) -> Result<Vec<Entry>> {
        Ok(self.group.read(|index| index.entries(run)))
    }

    async fn claim(&self, claim: &Claim) -> Result<ActiveRun> {
        self.claims.claim(claim)
    }

    async fn append_run(&self, record: RunRecord) -> Result<()> {
        self.append_line(Line::Run(record)).await
    }

    async fn run_entry(&self, run: &str) -> Result<Option<RunEntry>> {
        Ok(self.group.read(|index| index.run_entry(run)).map(|entry| self.mark(entry)))
    }

    async fn runs(&self, limit: usize, after: Option<&RunCursor>) -> Result<RunPage> {
        let RunPage { runs, next } = self.group.read(|index| index.runs(limit, after));
        Ok(RunPage { runs: runs.into_iter().map(|entry| self.mark(entry)).collect(), next })
    }

    async fn remove_runs(&self, runs: &[RunEntry]) -> Result<Vec<String>> {
        if runs.is_empty() {
            return Ok(Vec::new());
        }
        // While the sink is locked, no run gets another record.
        let mut sink = self.group.sink().await.map_err(|message| self.failed(message))?;
        let removed = self.group.read(|index| index.unchanged(runs));
        if !removed.is_empty() {
            sink.remove(&removed).await.map_err(|message| self.failed(message))?;
            self.group.change(|index| index.remove(&removed));
        }
        Ok(removed)
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

/// Rejects a path to a directory, a device or a pipe. Reading such a path can fail, block, or never end.
fn check_is_file(path: &Path) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => {
            Err(Error::new(ErrorKind::Journal, "the journal must be a regular file; use another path")
                .with_context("journal", path.display()))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed(path, "the journal cannot be opened", error))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Rejects a file with a second hard link. After a replacement, the second name would still refer to the old
/// file, and two processes could open the two files for writing.
#[cfg(unix)]
fn check_has_one_name(file: &File) -> io::Result<()> {
    match std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) {
        0 | 1 => Ok(()),
        _ => Err(io::Error::other("the file has another hard link; remove that link first")),
    }
}

#[cfg(not(unix))]
fn check_has_one_name(_: &File) -> io::Result<()> {
    Ok(())
}

/// Gives a new file the mode of the old one, and its owner and group if this process may set them.
#[cfg(unix)]
fn keep_access(old: &File, new: &File) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let (was, is) = (old.metadata()?, new.metadata()?);
    if (was.uid(), was.gid()) != (is.uid(), is.gid()) {
        // Only a privileged process may change the owner. A process of the group keeps at least the group.
        let _ = fchown(new, Some(was.uid()), Some(was.gid())).or_else(|_| fchown(new, None, Some(was.gid())));
    }
    new.set_permissions(was.permissions())
}

/// Does nothing, because a new file inherits the access rules of its directory.
#[cfg(not(unix))]
fn keep_access(_: &File, _: &File) -> io::Result<()> {
    Ok(())
}

/// Tries to lock the file for up to 0.1 s. Returns `false` if another process still holds the lock.
///
/// Two kinds of processes hold the lock only for a moment: processes that read the journal, and child
/// processes that inherited the file and have not closed it yet.
#[expect(
    clippy::disallowed_methods,
    reason = "a tenth of a second of the machine's time, on a thread that may block"
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

/// Returns `true` if another process has the file locked for writing. The file is not locked afterwards: a
/// journal is read for up to a second, and a process that wants to write to it waits for only 0.1 s.
fn is_in_use(file: &File) -> io::Result<bool> {
    match file.try_lock_shared() {
        Ok(()) => file.unlock().map(|()| false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Returns the error for a process that finds the journal locked. Names the active run if there is one.
fn in_use(path: &Path, file: &mut File) -> Error {
    // If the file is damaged, this process still reports only that it is locked.
    let runs = read(path, file).map(|(index, _)| index.all_runs()).unwrap_or_default();
    let active = runs.into_iter().find(|entry| entry.ended.is_none() && !entry.begun.pipeline.is_empty());
    let error = match active {
        Some(entry) => Claim::new(entry.begun.pipeline, entry.run, entry.begun_at).refusal(),
        None => Error::new(
            ErrorKind::Overlap,
            "another process has this journal open; wait until that process ends, or use another journal for this run",
        ),
    };
    error.with_context("journal", path.display())
}

/// Reads all complete lines. Returns the index and the total length of these lines in bytes.
fn read(path: &Path, file: &mut File) -> Result<(Index, u64)> {
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(|error| failed(path, "the journal cannot be read", error))?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let bad = |number: usize, error: BadLine| {
        Error::new(ErrorKind::Journal, error.advice())
            .with_context("journal", path.display())
            .with_context("line", number + 1)
            .with_source(error)
    };
    let foreign = || {
        Error::new(ErrorKind::Journal, "the file is not a journal; use another path")
            .with_context("journal", path.display())
    };
    if whole == 0 && !is_torn_head(&text) {
        return Err(foreign());
    }
    let mut index = Index::default();
    let lines = || text[..whole].split(|byte| *byte == b'\n');
    for (number, line) in lines().enumerate() {
        match number {
            0 if whole > 0 => Head::check(line).map_err(|error| match error {
                // If the head alone is damaged, the next lines are records.
                BadLine::Checksum | BadLine::Json(_) if !lines().any(|line| Line::read(line).is_ok()) => {
                    foreign().with_context("line", 1).with_source(error)
                }
                error => bad(number, error),
            })?,
            _ if line.is_empty() => {}
            _ => index.apply(Line::read(line).map_err(|error| bad(number, error))?),
        }
    }
    Ok((index, whole as u64))
}

/// Returns `true` if a file without a complete line is a new journal: an empty file, the beginning of a head,
/// or zeros, which a power failure can leave instead of the head.
fn is_torn_head(text: &[u8]) -> bool {
    let mut head = Vec::new();
    let written = Head::new(None).write(&mut head);
    written.is_ok() && (head.starts_with(text) || text.iter().all(|byte| *byte == 0))
}

/// Returns `true` if `path` still refers to this open file.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (mine, named) = match std::fs::metadata(path) {
        Ok(named) => (file.metadata()?, named),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    Ok((mine.dev(), mine.ino()) == (named.dev(), named.ino()))
}

/// On other platforms, an open file cannot be replaced.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> io::Result<bool> {
    Ok(true)
}

/// Makes the directory entry of a new or renamed file durable.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

/// Does nothing, because other platforms cannot open a directory as a file. Their file systems make the
/// directory entry durable.
#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ClientToken, FailureKind, StatementId, Status,
        journal::{EntryState, Event, RecordedOutcome, RunBegun, RunEvent, SettledOutcome},
    };

    fn record(step: &str, event: Event) -> Record {
        Record { at: "2026-11-23T06:30:00Z".parse().unwrap(), key: StepKey::new("r", step), event }
    }

    fn intent(step: &str) -> Record {
        record(
            step,
            Event::Intent {
                token: ClientToken::new("t").unwrap(),
                name: format!("r/{step}/1 t"),
                target: None,
            },
        )
    }

    fn submitted(step: &str) -> Record {
        record(step, Event::Submitted { id: StatementId::new(format!("id-{step}")) })
    }

    #[tokio::test]
    async fn is_readable_by_people_and_by_the_next_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        let ended = Event::Ended(RecordedOutcome {
            status: Status::Failed,
            error: Some("ERROR: no such table".into()),
            failure: Some(FailureKind::Sql),
            timed_out: false,
            execution_time: Some(std::time::Duration::from_millis(1_500)),
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
                    Event::Settled(
                        crate::journal::Settlement::new(SettledOutcome::Finished)
                            .with_operator("ada")
                            .with_reason("the rows are there"),
                    ),
                ),
                intent("b"),
            ] {
                journal.append(record).await.unwrap();
            }
        }
        insta::assert_snapshot!(std::fs::read_to_string(&path).unwrap());
        let journal = FileJournal::open(&path).unwrap();
        let run = journal.entries("r").await.unwrap();
        assert_eq!(run.len(), 2);
        assert_eq!(run[0].state, EntryState::Settled(SettledOutcome::Finished));
        assert_eq!(run[0].id, Some(StatementId::new("id-a")));
        assert_eq!(run[1].state, EntryState::Open);
        assert!(journal.entries("other").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn removes_a_last_line_cut_off_at_any_byte() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        {
            let journal = FileJournal::open(&path).unwrap();
            journal.append(intent("a")).await.unwrap();
            journal.append(submitted("a")).await.unwrap();
        }
        let whole = std::fs::read(&path).unwrap();
        let ends: Vec<_> =
            (1..).zip(&whole).filter(|(_, byte)| **byte == b'\n').map(|(end, _)| end).collect();
        for length in 0..ends[0] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let journal = FileJournal::open(&path).unwrap();
            journal.append(intent("a")).await.unwrap();
            assert_eq!(
                std::fs::read(&path).unwrap(),
                whole[..ends[1]],
                "after a tear of the head at byte {length}"
            );
        }
        for length in ends[1]..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let journal = FileJournal::open(&path).unwrap();
            assert_eq!(journal.entry(&StepKey::new("r", "a")).await.unwrap().unwrap().id, None);
            journal.append(submitted("a")).await.unwrap();
            drop(journal);
            assert_eq!(std::fs::read(&path).unwrap(), whole, "after a tear at byte {length}");
        }
    }

    /// Regression: a file that was not a journal and had no newline was mistaken for an incomplete journal
    /// and truncated.
    #[test]
    fn a_foreign_file_is_rejected_and_unchanged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("settings.json");
        for text in [r#"{"name":"mine"}"#, r#"{"format":3}"#, "x", "two\nlines\n", "two\nlines"] {
            std::fs::write(&path, text).unwrap();
            for opened in [FileJournal::open(&path), FileJournal::open_read_only(&path)] {
                assert_eq!(opened.unwrap_err().kind(), ErrorKind::Journal, "{text}");
            }
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        for text in [&b""[..], &[0; 40]] {
            std::fs::write(&path, text).unwrap();
            FileJournal::open(&path).unwrap();
        }
    }

    /// Regression: a journal that was read for `status` was locked until the end of its last line, so a run
    /// that began in the meantime failed.
    #[test]
    fn a_reader_does_not_lock_the_journal() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        drop(FileJournal::open(&path).unwrap());
        let reader = File::open(&path).unwrap();
        assert!(!is_in_use(&reader).unwrap());
        let _writer = FileJournal::open(&path).unwrap();
        assert!(is_in_use(&reader).unwrap());
    }

    #[tokio::test]
    async fn reports_an_invalid_line_with_its_number() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        FileJournal::open(&path).unwrap().append(intent("a")).await.unwrap();
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"event\":\"danced\"}\n");
        std::fs::write(&path, text).unwrap();
        let error = FileJournal::open(&path).unwrap_err();
        assert_eq!((error.kind(), error.context("line")), (ErrorKind::Journal, Some("3")));
    }

    /// Regression: after the disk had been full for a minute, every append failed until the process was
    /// restarted.
    #[tokio::test]
    async fn recovers_with_the_disk_and_leaves_no_partial_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        let journal = FileJournal::open(&path).unwrap();
        journal.append(intent("a")).await.unwrap();
        let whole = std::fs::read(&path).unwrap();
        let exchange = async |file: File| {
            let written = journal.group.sink.lock().await.written.clone().unwrap();
            std::mem::replace(&mut written.lock().unwrap().file, file)
        };
        // This file is open for reading only, so every write to it fails.
        let good = exchange(File::open(&path).unwrap()).await;
        for _ in 0..2 {
            let error = journal.append(submitted("a")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Journal);
        }
        let torn = br#"{"at":"2026-11-23T06:30:00Z","run":"r","ste"#;
        std::fs::write(&path, [&whole[..], torn].concat()).unwrap();
        assert_eq!(journal.entry(&StepKey::new("r", "a")).await.unwrap().unwrap().id, None);
        exchange(good).await;
        journal.append(intent("b")).await.unwrap();
        journal.append(submitted("a")).await.unwrap();
        drop(journal);
        let journal = FileJournal::open(&path).unwrap();
        let run = journal.entries("r").await.unwrap();
        assert_eq!((run.len(), run[0].id.is_some()), (2, true));
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 4);
    }

    /// Regression: a record whose sync had failed was in the journal again after a restart.
    #[tokio::test]
    async fn a_record_that_failed_is_not_in_the_journal_after_a_restart() {
        for failing in ["append", "sync the lines"] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("journal.jsonl");
            let journal = FileJournal::open(&path).unwrap();
            journal.append(intent("a")).await.unwrap();
            fail_at(&journal, failing).await;
            journal.append(submitted("a")).await.unwrap_err();
            drop(journal);
            let journal = FileJournal::open(&path).unwrap();
            assert_eq!(journal.entries("r").await.unwrap()[0].id, None, "{failing}");
        }
    }

    /// A failed sync can lose the page that the failed lines share with durable lines, and no later sync
    /// reports it.
    #[tokio::test]
    async fn a_page_that_a_failed_sync_lost_is_written_again() {
        for length in [10, 70_000, 2 * BLOCK as usize] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("journal.jsonl");
            let journal = FileJournal::open(&path).unwrap();
            let step = "s".repeat(length);
            journal.append(intent("a")).await.unwrap();
            journal.append(intent(&step)).await.unwrap();
            let whole = std::fs::read(&path).unwrap();
            let lost = whole.len() - whole.len() % 4_096;
            let torn = path.clone();
            journal.group.sink.lock().await.steps = Arc::new(move |step| {
                if step == "sync the lines" {
                    let mut file = OpenOptions::new().write(true).open(&torn)?;
                    file.seek(SeekFrom::Start(lost as u64))?;
                    file.write_all(&[0; 4_096])?;
                    return Err(io::Error::other("the disk is gone"));
                }
                Ok(())
            });
            journal.append(intent("b")).await.unwrap_err();
            assert_eq!(std::fs::read(&path).unwrap(), whole, "{length}");
            fail_at(&journal, "no step").await;
            journal.append(intent("c")).await.unwrap();
            drop(journal);
            let entries = FileJournal::open(&path).unwrap().entries("r").await.unwrap();
            let steps: Vec<_> = entries.into_iter().map(|entry| entry.key.step).collect();
            assert_eq!(steps, ["a", "c", &step], "{length}");
        }
    }

    #[test]
    fn a_journal_of_an_earlier_version_is_rejected_with_a_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        let old = r#"{"at":"2026-11-23T06:30:00Z","run":"r","step":"a","attempt":1,"event":"intent","token":"t","name":"r/a/1 t"}"#;
        std::fs::write(&path, format!("{old}\n")).unwrap();
        for opened in [FileJournal::open(&path), FileJournal::open_read_only(&path)] {
            let error = opened.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Journal);
            assert!(error.to_string().contains("with that version, then begin a new journal"), "{error}");
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{old}\n"), "the file is unchanged");
    }

    #[test]
    fn a_second_owner_is_rejected_and_a_later_one_is_admitted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        let first = FileJournal::open(&path).unwrap();
        let error = FileJournal::open(&path).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
        drop(first);
        assert!(FileJournal::open(&path).is_ok());
    }

    async fn all_runs(journal: &FileJournal) -> Vec<RunEntry> {
        journal.runs(100, None).await.unwrap().runs
    }

    /// Regression: a process that waited for the lock blocked its thread for a sixth of the waiting time.
    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "the thread's own time is measured")]
    async fn waiting_for_another_process_does_not_block_a_thread() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        let _first = FileJournal::open(&path).unwrap();
        let mut shortest = Duration::MAX;
        // On a busy machine, single attempts can be slow. The test requires one fast attempt of five.
        for _ in 0..5 {
            let begun = std::time::Instant::now();
            assert!(futures::poll!(std::pin::pin!(FileJournal::open_when_unlocked(&path))).is_pending());
            shortest = shortest.min(begun.elapsed());
        }
        assert!(shortest < Duration::from_millis(50), "{shortest:?}");
    }

    fn begun(run: &str) -> RunRecord {
        begun_by(1, run, "2026-11-23T06:30:00Z")
    }

    fn begun_by(process: u32, run: &str, at: &str) -> RunRecord {
        let begun = RunBegun { pipeline: "nightly".into(), process: Some(process), ..RunBegun::default() };
        RunRecord { at: at.parse().unwrap(), run: run.to_owned(), event: RunEvent::RunBegun(begun) }
    }

    #[tokio::test]
    async fn a_second_owner_gets_the_active_run_and_its_start_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        let first = FileJournal::open(&path).unwrap();
        first.append_run(begun("one")).await.unwrap();
        let error = FileJournal::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overlap);
        assert_eq!(error.context("active_run"), Some("one"));
        assert_eq!(error.context("active_since"), Some("2026-11-23T06:30:00Z"));
        let seen = FileJournal::open_read_only(&path).unwrap();
        assert!(all_runs(&seen).await[0].is_active);
        // Stands for the death of the first process, which releases the lock.
        drop(first);
        let seen = FileJournal::open_read_only(&path).unwrap();
        let runs = all_runs(&seen).await;
        assert!(!runs[0].is_active && runs[0].ended.is_none());
        assert!(seen.append(intent("a")).await.unwrap_err().to_string().contains("reading only"));
        let second = FileJournal::open(&path).expect("a reader does not lock others out");
        // The run of the first process is no longer active, although the second process has the journal open.
        second.append_run(begun_by(2, "two", "2026-11-23T07:00:00Z")).await.unwrap();
        let seen = FileJournal::open_read_only(&path).unwrap();
        assert_eq!(all_runs(&seen).await.iter().map(|run| run.is_active).collect::<Vec<_>>(), [true, false]);
    }

    #[tokio::test]
    async fn concurrent_appends_share_a_sync() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        let journal = FileJournal::open(&path).unwrap();
        let steps: Vec<_> = (0..200).map(|step| format!("s{step}")).collect();
        let appends = steps.iter().map(|step| journal.append(intent(step)));
        futures::future::try_join_all(appends).await.unwrap();
        assert!(journal.sync_count() <= 2, "{} syncs for 200 records", journal.sync_count());
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 201);
        journal.append(intent("a")).await.unwrap();
        journal.append(submitted("a")).await.unwrap();
        assert!(journal.sync_count() <= 4);
    }

    const STEPS: [&str; 6] = ["create", "lock", "write", "sync", "rename", "sync the directory"];

    fn of_run(run: &str, event: Event) -> Record {
        Record { at: "2026-11-23T06:30:00Z".parse().unwrap(), key: StepKey::new(run, "a"), event }
    }

    async fn with_runs(path: &Path) -> FileJournal {
        let journal = FileJournal::open(path).unwrap();
        for number in 0..20 {
            let run = format!("r{number}");
            let (token, name) = (ClientToken::new(format!("t{number}")).unwrap(), format!("{run}/a/1 t"));
            journal.append(of_run(&run, Event::Intent { token, name, target: None })).await.unwrap();
            let id = StatementId::new(format!("id-{number}"));
            journal.append(of_run(&run, Event::Submitted { id })).await.unwrap();
        }
        journal
    }

    async fn entries(journal: &FileJournal) -> Vec<Vec<Entry>> {
        futures::future::join_all(
            (0..20).map(|number| async move { journal.entries(&format!("r{number}")).await.unwrap() }),
        )
        .await
    }

    /// Returns the runs to remove: every third run.
    async fn old(journal: &FileJournal) -> Vec<RunEntry> {
        let all = journal.runs(100, None).await.unwrap().runs;
        all.into_iter().filter(|entry| entry.run[1..].parse::<u32>().unwrap() % 3 == 0).collect()
    }

    async fn fail_at(journal: &FileJournal, failing: &'static str) {
        let fails = move |step| match step == failing {
            true => Err(io::Error::other("the disk is gone")),
            false => Ok(()),
        };
        journal.group.sink.lock().await.steps = Arc::new(fails);
    }

    #[tokio::test]
    async fn a_crash_at_each_step_of_a_removal_leaves_the_old_journal_or_the_new_one() {
        for failing in STEPS {
            // A crash can leave any number of bytes of the last write.
            for torn in [0, 1, 1_000, usize::MAX] {
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().join("journal.jsonl");
                let journal = with_runs(&path).await;
                let before = entries(&journal).await;
                let runs = old(&journal).await;
                fail_at(&journal, failing).await;
                let error = journal.remove_runs(&runs).await.unwrap_err();
                assert!(error.message().contains("the disk is gone"), "{error}");
                drop(journal);
                let new_path = new_path(&path);
                if let Ok(text) = std::fs::read(&new_path) {
                    std::fs::write(&new_path, &text[..torn.min(text.len())]).unwrap();
                }
                let journal = FileJournal::open(&path).unwrap();
                let is_new = failing == STEPS[5];
                let expected: Vec<_> = (0..)
                    .zip(before)
                    .map(|(number, run)| if is_new && number % 3 == 0 { Vec::new() } else { run })
                    .collect();
                assert_eq!(entries(&journal).await, expected, "crash before {failing}");
                // A new file left by the crash must not prevent the next removal.
                journal.remove_runs(&old(&journal).await).await.unwrap();
                let left = entries(&journal).await;
                drop(journal);
                let journal = FileJournal::open(&path).unwrap();
                assert_eq!(entries(&journal).await, left);
                assert_eq!(left.iter().filter(|run| run.is_empty()).count(), 7);
            }
        }
    }

    /// Regression: after the sync of the directory had failed, records were reported as durable. A power
    /// failure could then bring back the old file without them.
    #[tokio::test]
    async fn no_record_is_durable_before_the_rename() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        let journal = with_runs(&path).await;
        let runs = old(&journal).await;
        fail_at(&journal, "sync the directory").await;
        assert!(journal.remove_runs(&runs).await.is_err());
        let error = journal.append(intent("b")).await.unwrap_err();
        assert!(error.message().contains("the disk is gone"), "{error}");
        fail_at(&journal, "no step").await;
        journal.append(intent("c")).await.unwrap();
        drop(journal);
        let entries = FileJournal::open(&path).unwrap().entries("r").await.unwrap();
        assert_eq!(entries.len(), 1, "{entries:?}");
    }

    /// Regression: after the sync of the directory had failed, the journal still used the length of the old
    /// file. The next record was then reported as durable but was not in the file.
    #[tokio::test]
    async fn a_journal_works_after_a_failed_removal() {
        for failing in STEPS {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("journal.jsonl");
            let journal = with_runs(&path).await;
            let runs = old(&journal).await;
            fail_at(&journal, failing).await;
            assert!(journal.remove_runs(&runs).await.is_err(), "{failing}");
            fail_at(&journal, "no step").await;
            for step in ["b", "c"] {
                assert!(journal.append(intent(step)).await.is_ok(), "{failing}");
            }
            drop(journal);
            let journal = FileJournal::open(&path).unwrap();
            let steps: Vec<_> =
                journal.entries("r").await.unwrap().into_iter().map(|entry| entry.key.step).collect();
            assert_eq!(steps, ["b", "c"], "{failing}");
        }
    }

    /// Regression: a journal at `/dev/full` was read until the memory was used up, and a pipe blocked the
    /// process forever.
    #[cfg(unix)]
    #[test]
    fn only_a_regular_file_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/dev/full", &link).unwrap();
        for path in [Path::new("/dev/full"), Path::new("/dev/null"), directory.path(), &pipe, &link] {
            for opened in [FileJournal::open(path), FileJournal::open_read_only(path)] {
                let error = opened.unwrap_err();
                assert!(error.to_string().contains("must be a regular file; use another path"), "{error}");
            }
        }
    }

    /// Regression: a text file with several lines was called a damaged journal, and the cause of changed line
    /// ends was not named.
    #[tokio::test]
    async fn the_kind_of_an_unreadable_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        let refusal = |text: &str| {
            std::fs::write(&path, text).unwrap();
            FileJournal::open(&path).unwrap_err()
        };
        for text in ["one line", "two\nlines\n", "{\"a\":1}\n{\"b\":2}\n"] {
            let error = refusal(text);
            assert!(error.message().contains("the file is not a journal; use another path"), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        FileJournal::open(&path).unwrap().append(intent("a")).await.unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        let error = refusal(&whole.replacen("format", "fromat", 1));
        assert!(error.message().contains("a line is damaged"), "{error}");
        let error = refusal(&whole.replace('\n', "\r\n"));
        assert!(error.message().contains("CR LF") && error.message().contains("convert"), "{error}");
        let error = refusal(&format!("{}\r\n", whole.trim_end()));
        assert!(error.message().contains("CR LF"), "{error}");
        assert_eq!(error.context("line"), Some("2"), "{error}");
    }

    /// Regression: the removal replaced the symbolic link by a file. The file that it referred to kept the
    /// removed runs, and two processes could open the two files for writing.
    #[cfg(unix)]
    #[tokio::test]
    async fn a_removal_keeps_the_symbolic_link_and_the_mode() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("data")).unwrap();
        let (real, link) = (directory.path().join("data/real.jsonl"), directory.path().join("link.jsonl"));
        symlink("data/real.jsonl", &link).unwrap();
        let journal = with_runs(&link).await;
        std::fs::set_permissions(&real, PermissionsExt::from_mode(0o640)).unwrap();
        journal.remove_runs(&old(&journal).await).await.unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(FileJournal::open(&real).unwrap_err().kind(), ErrorKind::Overlap);
        let left = entries(&journal).await;
        drop(journal);
        assert_eq!(entries(&FileJournal::open(&real).unwrap()).await, left);
        assert_eq!(left.iter().filter(|run| run.is_empty()).count(), 7);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_file_with_two_names_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("one.jsonl"), directory.path().join("two.jsonl"));
        let journal = with_runs(&one).await;
        std::fs::hard_link(&one, &two).unwrap();
        let runs = old(&journal).await;
        let error = journal.remove_runs(&runs).await.unwrap_err();
        assert!(error.message().contains("another hard link"), "{error}");
        std::fs::remove_file(&two).unwrap();
        journal.remove_runs(&runs).await.unwrap();
    }
}
