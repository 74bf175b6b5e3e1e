//! [`ObjectStoreJournal`]: a journal on object storage, such as S3.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions, path::Path};
use serde::{Deserialize, Serialize};
use tokio::{sync::OnceCell, time::sleep};

use super::{
    ActiveRun, BadLine, Claim, Entry, EntryState, Head, Index, Journal, Line, Record, RunCursor, RunEntry,
    RunEvent, RunPage, RunRecord,
    group::{Group, Sink},
};
use crate::{Clock, Error, ErrorKind, Result, StepKey, SystemClock};
use lease::{Held, Leases};

mod lease;

/// Journal on object storage, for processes without a durable disk. The store must support conditional puts,
/// as S3 does.
///
/// ```text
/// PREFIX/runs/RUN/0000000001.jsonl         records of a run, one per line
/// PREFIX/by-time/TIME/RUN                  list of runs, newest first: TIME decreases
/// PREFIX/removing/ID.json                  runs that are being removed
/// PREFIX/leases/runs/RUN.json              process that runs the run, and expiry of its lease
/// PREFIX/leases/pipelines/PIPELINE.json    active run of the pipeline, and expiry of its lease
/// ```
///
/// * A record costs one `PUT`; concurrent records share one. A run costs one more for its entry in the list
///   of runs, and two for its leases, which are renewed after each [third](Self::with_lease) of their
///   duration. Opening a run costs one `LIST`, and one `GET` per object of that run, regardless of the number
///   of other runs.
/// * A page of the list of runs costs one `LIST`. Each run on the page costs as much as opening it, and one
///   `GET` for its lease. The store must list objects in the order of their names, as S3 (except its
///   directory buckets), Google Cloud Storage and Azure do.
/// * Two processes cannot write one run: objects are numbered and are put only if their number is free. A
///   process that does not know of the other's record fails before it submits anything. The first record of
///   a process that has not claimed the run costs one `GET`: it is rejected while another process holds the
///   lease.
/// * A run that has ended leaves memory. Its records are read again when they are needed.
/// * S3 limits a key to 1,024 bytes. A name of 200 characters fits if they are ASCII; of other characters, which
///   take up to 12 bytes each, about 80 fit. A longer one is an error before anything is submitted.
/// * A put whose request or response is lost is repeated for 10 seconds. The object's number and writer
///   ensure that the record is stored only once.
/// * A process that died does not renew its lease. After 30 seconds, another process may resume the run. The
///   clocks of the processes must differ by less than that. If they differ by more, a lease can be taken over
///   too early; the numbering of objects then still prevents two writers.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> redshift_orchestrator::Result<()> {
/// use std::sync::Arc;
/// use object_store::memory::InMemory;
/// use redshift_data_local::{LocalExecutor, Script};
/// use redshift_orchestrator::{Orchestrator, journal::ObjectStoreJournal};
///
/// let journal = ObjectStoreJournal::new(Arc::new(InMemory::new()), "etl/journal");
/// let orchestrator = Orchestrator::new(LocalExecutor::scripted(Script::new())).with_journal(journal);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ObjectStoreJournal(Arc<Inner>);

struct Inner {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    clock: Arc<dyn Clock>,
    lease: Duration,
    /// Distinguishes the objects and leases of this process from those of others.
    writer: String,
    /// Distinguishes the leases of this process.
    taken: AtomicU64,
    /// Runs in memory.
    runs: Mutex<HashMap<String, Arc<Loaded>>>,
    /// Leases of the runs that this process has claimed.
    leases: Mutex<HashMap<String, Arc<Leases>>>,
}

/// A run in memory, or being loaded.
type Loaded = OnceCell<Arc<Group<Objects>>>;

/// Number of runs in memory above which those that are idle are removed before another one is loaded.
const IDLE_RUNS: usize = 100;

/// Default duration of a lease.
const LEASE: Duration = Duration::from_secs(30);

/// Pauses before an object is put again. The store's client does not repeat a conditional put whose response
/// was lost.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(8)];

impl ObjectStoreJournal {
    /// Creates a journal below `prefix`.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: impl AsRef<str>) -> Self {
        Self(Arc::new(Inner {
            store,
            prefix: Path::from(prefix.as_ref()),
            clock: Arc::new(SystemClock),
            lease: LEASE,
            writer: entropy(),
            taken: AtomicU64::default(),
            runs: Mutex::default(),
            leases: Mutex::default(),
        }))
    }

    /// Sets the duration of a lease, after which a dead process no longer excludes others. Default: 30
    /// seconds. Must be set before the journal is used.
    #[must_use]
    pub fn with_lease(self, lease: Duration) -> Self {
        self.changed(|inner| inner.lease = lease)
    }

    /// Sets the clock by which leases expire.
    #[must_use]
    pub fn with_clock(self, clock: impl Clock + 'static) -> Self {
        self.changed(|inner| inner.clock = Arc::new(clock))
    }

    fn changed(self, change: impl FnOnce(&mut Inner)) -> Self {
        let inner = &self.0;
        let mut changed = Inner {
            store: inner.store.clone(),
            prefix: inner.prefix.clone(),
            clock: inner.clock.clone(),
            lease: inner.lease,
            writer: inner.writer.clone(),
            taken: AtomicU64::default(),
            runs: Mutex::default(),
            leases: Mutex::default(),
        };
        change(&mut changed);
        Self(Arc::new(changed))
    }
}

#[expect(clippy::disallowed_methods, reason = "distinguishes processes; no result depends on it")]
fn entropy() -> String {
    format!("{:016x}", fastrand::u64(..))
}

impl Inner {
    fn directory(&self, run: &str) -> Path {
        self.prefix.clone().join("runs").join(run)
    }

    /// Returns the run as this process first loaded it, with the records written since.
    async fn group(&self, run: &str) -> Result<Arc<Group<Objects>>> {
        let loaded = self.loaded(run);
        Ok(loaded.get_or_try_init(|| self.load(run)).await?.clone())
    }

    /// Loads the current state of a run whose lease was acquired.
    async fn reload(&self, run: &str) -> Result<()> {
        let (loaded, mut is_fresh) = (self.loaded(run), false);
        let load = || {
            is_fresh = true;
            self.load(run)
        };
        let group = loaded.get_or_try_init(load).await?;
        // No write of this process is in flight while its records are read and numbered anew.
        let mut sink = group.sink.clone().lock_owned().await;
        if !is_fresh {
            let directory = self.directory(run);
            let objects = self.objects(&directory).await?;
            let (index, next) = self.records(&directory, objects).await?;
            sink.next = next;
            group.reset(index);
        }
        sink.is_admitted = true;
        Ok(())
    }

    /// Returns the place of a run in memory.
    fn loaded(&self, run: &str) -> Arc<Loaded> {
        let mut runs = self.runs();
        if runs.len() >= IDLE_RUNS && !runs.contains_key(run) {
            runs.retain(|run, loaded| self.is_used(run, loaded) || has_open(run, loaded));
        }
        runs.entry(run.to_owned()).or_default().clone()
    }

    /// Removes a run from memory, unless it is used. It is loaded again when it is needed.
    fn forget(&self, run: &str) {
        let mut runs = self.runs();
        if runs.get(run).is_some_and(|loaded| !self.is_used(run, loaded)) {
            runs.remove(run);
        }
    }

    /// Returns `true` if a call uses the run, a write is in flight, or this process has claimed the run.
    fn is_used(&self, run: &str, loaded: &Arc<Loaded>) -> bool {
        let is_busy = |group: &Arc<Group<Objects>>| Arc::strong_count(group) > 1 || !group.is_idle();
        Arc::strong_count(loaded) > 1 || loaded.get().is_some_and(is_busy) || self.leases().contains_key(run)
    }

    async fn load(&self, run: &str) -> Result<Arc<Group<Objects>>> {
        let directory = self.directory(run);
        let objects = self.objects(&directory).await?;
        let (index, next) = self.records(&directory, objects).await?;
        let sink = Objects {
            store: self.store.clone(),
            directory,
            by_time: self.by_time(),
            run: run.to_owned(),
            next,
            writer: self.writer.clone(),
            lease: self.run_lease(run),
            clock: self.clock.clone(),
            is_admitted: false,
        };
        Ok(Arc::new(Group::new(sink, index)))
    }

    /// Reads the records of a run from these objects. Returns them with the number of the next object.
    async fn records(&self, directory: &Path, objects: Vec<Path>) -> Result<(Index, u64)> {
        let mut index = Index::default();
        for (number, path) in (1_u64..).zip(&objects) {
            if *path != numbered(directory, number) {
                return Err(Error::new(
                    ErrorKind::Journal,
                    "a record is missing; restore the object before the one named, or let `prune` finish if it was removing the run",
                )
                .with_context("object", path));
            }
        }
        let numbers = objects.len() as u64;
        let text = |path: Path| async move { (self.get(&path).await, path) };
        let mut texts = stream::iter(objects).map(text).buffered(16);
        while let Some((text, path)) = texts.next().await {
            read(&path, &text?, &mut index)?;
        }
        Ok((index, numbers + 1))
    }

    /// Returns the objects of a run in order.
    async fn objects(&self, directory: &Path) -> Result<Vec<Path>> {
        let listed: Result<Vec<_>, _> =
            self.store.list(Some(directory)).map_ok(|object| object.location).try_collect().await;
        let mut objects = listed.map_err(|error| failed("the journal cannot be listed", directory, error))?;
        objects.sort();
        Ok(objects)
    }

    async fn get(&self, path: &Path) -> Result<Bytes> {
        let answer = async { self.store.get(path).await?.bytes().await };
        answer.await.map_err(|error| failed("a record cannot be read", path, error))
    }

    async fn append(&self, run: &str, line: Line) -> Result<()> {
        self.group(run).await?.append(line).await.map_err(|message| {
            Error::new(ErrorKind::Journal, message).with_context("journal", self.directory(run))
        })
    }

    /// Locks the runs in memory. The [leases](Self::leases) are never locked first.
    fn runs(&self) -> MutexGuard<'_, HashMap<String, Arc<Loaded>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<String, Arc<Leases>>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a run found in a listing, unless its removal has begun or its first record was never written.
    async fn listed(&self, by_time: &Path) -> Result<Option<RunEntry>> {
        let Some(name) = by_time.parts().next_back() else { return Ok(None) };
        let directory = self.prefix.clone().join("runs").join(name);
        let objects = self.objects(&directory).await?;
        if objects.first() != Some(&numbered(&directory, 1)) {
            return Ok(None);
        }
        let (index, _) = self.records(&directory, objects).await?;
        let Some(entry) = index.all_runs().pop() else { return Ok(None) };
        // If two processes began one run at the same time, one of them failed. Its list entry has a different
        // time and is ignored.
        match self.place(&entry) == *by_time {
            true => self.with_lease_of(entry).await.map(Some),
            false => Ok(None),
        }
    }

    fn by_time(&self) -> Path {
        self.prefix.clone().join("by-time")
    }

    /// Returns the path of the object that lists a run.
    fn place(&self, run: &RunEntry) -> Path {
        place(&self.by_time(), run.first_begun_at, &run.run)
    }

    fn removing(&self) -> Path {
        self.prefix.clone().join("removing")
    }

    /// Returns the runs of an interrupted removal whose first object has been deleted.
    ///
    /// A run that still has its first object was not touched, or has been started again since: it is left to
    /// [`prune`](super::prune), which checks it again.
    async fn begun_removals(&self, left: Vec<Removed>) -> Result<Vec<Removed>> {
        let looks = stream::iter(left).map(|removed| async move {
            let directory = self.directory(&removed.run);
            let objects = self.objects(&directory).await?;
            if objects.first() != Some(&numbered(&directory, 1)) {
                return Ok(Some(removed));
            }
            // A run that was started again has another entry in the list.
            let (index, _) = self.records(&directory, objects).await?;
            let old = place(&self.by_time(), removed.first_begun_at, &removed.run);
            if index.all_runs().first().is_some_and(|entry| self.place(entry) != old) {
                self.delete(vec![old]).await?;
            }
            Ok(None)
        });
        let looks: Vec<_> = looks.buffered(16).try_collect().await?;
        Ok(looks.into_iter().flatten().collect())
    }

    /// Removes the objects of the runs, and finally the marker object.
    async fn finish_removal(&self, marker: Path, runs: Vec<Removed>) -> Result<()> {
        let directories: Vec<_> = runs.iter().map(|removed| self.directory(&removed.run)).collect();
        // The first object of each run is deleted first. Without it, a run cannot be read and is not mistaken
        // for an unfinished run.
        self.delete(directories.iter().map(|directory| numbered(directory, 1)).collect()).await?;
        let rest: Vec<_> = stream::iter(directories)
            .map(|directory| async move { self.objects(&directory).await })
            .buffered(16)
            .try_collect::<Vec<_>>()
            .await?;
        let lists = runs.iter().flat_map(|removed| {
            let place = place(&self.by_time(), removed.first_begun_at, &removed.run);
            [place, self.run_lease(&removed.run)]
        });
        self.delete(rest.into_iter().flatten().chain(lists).collect()).await?;
        self.delete(vec![marker]).await
    }

    /// Deletes objects, up to 1,000 per request if the store supports it. Missing objects are not an error.
    async fn delete(&self, paths: Vec<Path>) -> Result<()> {
        let all = self.prefix.clone();
        let mut deleted = self.store.delete_stream(stream::iter(paths.into_iter().map(Ok)).boxed());
        while let Some(deleted) = deleted.next().await {
            match deleted {
                Ok(_) | Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(failed("a record cannot be deleted", &all, error)),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Journal for ObjectStoreJournal {
    async fn append(&self, record: Record) -> Result<()> {
        let run = record.key.run.clone();
        self.0.append(&run, Line::Step(record)).await
    }

    async fn entry(&self, key: &StepKey) -> Result<Option<Entry>> {
        Ok(self.0.group(&key.run).await?.read(|index| index.entry(key)))
    }

    async fn entries(&self, run: &str) -> Result<Vec<Entry>> {
        Ok(self.0.group(run).await?.read(|index| index.entries(run)))
    }

    async fn claim(&self, claim: &Claim) -> Result<ActiveRun> {
        // A claim that is dropped halfway would leave its leases until they expire. The task completes it, and
        // then drops the guard.
        let claimed = tokio::spawn(self.0.clone().claim(claim.clone()));
        claimed.await.unwrap_or_else(|error| Err(Error::new(ErrorKind::Journal, error.to_string())))
    }

    async fn append_run(&self, record: RunRecord) -> Result<()> {
        let run = record.run.clone();
        let is_end = matches!(record.event, RunEvent::RunEnded { .. });
        self.0.append(&run, Line::Run(record)).await?;
        if is_end {
            let leases = self.0.leases().remove(&run);
            if let Some(leases) = leases {
                leases.release().await;
            }
            self.0.forget(&run);
        }
        Ok(())
    }

    async fn run_entry(&self, run: &str) -> Result<Option<RunEntry>> {
        match self.0.group(run).await?.read(|index| index.run_entry(run)) {
            Some(entry) => self.0.with_lease_of(entry).await.map(Some),
            None => Ok(None),
        }
    }

    async fn runs(&self, limit: usize, after: Option<&RunCursor>) -> Result<RunPage> {
        let inner = &self.0;
        let all = inner.by_time();
        let mut listed = match after {
            Some(after) => {
                let offset = match after.run() {
                    Some(run) => place(&all, after.at(), run),
                    None => all.clone().join(countdown(after.at(), 1)),
                };
                inner.store.list_with_offset(Some(&all), &offset)
            }
            None => inner.store.list(Some(&all)),
        };
        let mut places = Vec::new();
        while places.len() <= limit.max(1) {
            match listed.try_next().await {
                Ok(Some(object)) => places.push(object.location),
                Ok(None) => break,
                Err(error) => return Err(failed("the journal cannot be listed", &all, error)),
            }
        }
        let more = places.len() > limit.max(1);
        places.truncate(limit.max(1));
        let next = places.last().filter(|_| more).and_then(cursor);
        let runs = stream::iter(places).map(|place| async move { inner.listed(&place).await }).buffered(16);
        let runs: Vec<_> = runs.try_collect().await?;
        Ok(RunPage { runs: runs.into_iter().flatten().collect(), next })
    }

    async fn remove_runs(&self, runs: &[RunEntry]) -> Result<()> {
        let inner = &self.0;
        let markers = inner.objects(&inner.removing()).await?;
        for marker in markers {
            let text = inner.get(&marker).await?;
            let left = serde_json::from_slice(&text).map_err(|error| {
                Error::new(ErrorKind::Journal, "the object is not a list of runs to remove; delete it")
                    .with_context("object", &marker)
                    .with_source(error)
            })?;
            let begun = inner.begun_removals(left).await?;
            inner.finish_removal(marker, begun).await?;
        }
        if runs.is_empty() {
            return Ok(());
        }
        let removed: Vec<_> = runs
            .iter()
            .map(|entry| Removed { run: entry.run.clone(), first_begun_at: entry.first_begun_at })
            .collect();
        let marker = inner.removing().join(format!("{}.json", entropy()));
        let text = serde_json::to_vec(&removed)
            .map_err(|error| Error::new(ErrorKind::Journal, error.to_string()))?;
        let put = inner.store.put(&marker, text.into()).await;
        put.map_err(|error| failed("the removal cannot be recorded", &marker, error))?;
        for removed in &removed {
            inner.runs().remove(&removed.run);
            // The lease's object is deleted together with the run.
            let leases = inner.leases().get(&removed.run).cloned();
            if let Some(leases) = leases {
                leases.forget(&inner.run_lease(&removed.run)).await;
            }
        }
        inner.finish_removal(marker, removed).await
    }
}

impl fmt::Debug for ObjectStoreJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectStoreJournal").field("prefix", &self.0.prefix).finish_non_exhaustive()
    }
}

/// Returns `true` if a statement of a loaded run is open.
fn has_open(run: &str, loaded: &Loaded) -> bool {
    let is_open = |entry: &Entry| matches!(entry.state, EntryState::Open);
    loaded.get().is_some_and(|group| group.read(|index| index.entries_in(run).any(is_open)))
}

/// Run that is being removed.
#[derive(Serialize, Deserialize)]
struct Removed {
    run: String,
    first_begun_at: Timestamp,
}

/// Returns a number that decreases with time, so that a listing begins with the newest run.
fn countdown(at: Timestamp, more: i128) -> String {
    format!("{:021}", Timestamp::MAX.as_nanosecond() - at.as_nanosecond() + more)
}

/// Returns the path of the object that lists a run with this first record time.
fn place(by_time: &Path, at: Timestamp, run: &str) -> Path {
    by_time.clone().join(countdown(at, 0)).join(run)
}

/// Returns the cursor after the run listed at this path.
fn cursor(place: &Path) -> Option<RunCursor> {
    let mut parts = place.as_ref().rsplit('/');
    let (run, countdown) = (decoded(parts.next()?)?, parts.next()?.parse::<i128>().ok()?);
    let at = Timestamp::from_nanosecond(Timestamp::MAX.as_nanosecond() - countdown).ok()?;
    Some(RunCursor::after(at, run))
}

/// Decodes the name of a run from a part of a path.
fn decoded(part: &str) -> Option<String> {
    let mut pieces = part.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (code, rest) = piece.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(code, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// The numbered objects of a run.
struct Objects {
    store: Arc<dyn ObjectStore>,
    directory: Path,
    by_time: Path,
    run: String,
    next: u64,
    writer: String,
    /// Path of the run's lease.
    lease: Path,
    clock: Arc<dyn Clock>,
    /// `true` if this process has claimed the run, or no other process ran it at the first record.
    is_admitted: bool,
}

#[async_trait]
impl Sink for Objects {
    async fn write(&mut self, lines: Arc<[u8]>) -> Result<(), String> {
        self.admit().await?;
        if self.next == 1 {
            let first = lines.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let first = Line::read(first).map_err(|error| error.to_string())?;
            // The list entry is written before the record: an entry without a record is ignored, but a record
            // without an entry would not be found.
            let place = place(&self.by_time, first.of().0, &self.run);
            let listed = self.put(&place, &Bytes::from_static(b"{}"), PutMode::Overwrite).await;
            listed.map_err(|error| format!("the run could not be listed: {error}"))?;
        }
        let mut body = Vec::new();
        Head::new(Some(self.writer.clone())).write(&mut body).map_err(|error| error.to_string())?;
        body.extend_from_slice(&lines);
        let body = Bytes::from(body);
        match self.put(&numbered(&self.directory, self.next), &body, PutMode::Create).await {
            Ok(()) => {
                self.next += 1;
                Ok(())
            }
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                Err("another process writes to this run and continues it".to_owned())
            }
            Err(error) => Err(format!("the record could not be written: {error}")),
        }
    }

    /// Puts the object again with the same number and content. A request of the failed write that takes
    /// effect late writes the same object, so a number never has two contents.
    async fn settle(&mut self, lines: Arc<[u8]>) -> Result<bool, String> {
        self.write(lines).await.map(|()| true)
    }
}

impl Objects {
    /// Rejects a record while another process runs the run: the next record of that process would fail.
    async fn admit(&mut self) -> Result<(), String> {
        if self.is_admitted {
            return Ok(());
        }
        let lease = Held::at(&*self.store, &self.lease).await.map_err(|error| error.to_string())?;
        if lease.is_some_and(|(held, _)| held.excludes(&self.writer, self.clock.now())) {
            return Err("another process runs this run, and alone writes its records".to_owned());
        }
        self.is_admitted = true;
        Ok(())
    }

    /// Puts an object, and repeats the put if a response is lost. A create can be repeated safely, because
    /// only one attempt can succeed.
    async fn put(&self, path: &Path, body: &Bytes, mode: PutMode) -> Result<(), StoreError> {
        let mut pauses = PAUSES.into_iter();
        loop {
            match self.try_put(path, body, mode.clone()).await {
                Err(error) if may_pass(&error) => match pauses.next() {
                    Some(pause) => sleep(pause).await,
                    None => return Err(error),
                },
                done => return done,
            }
        }
    }

    async fn try_put(&self, path: &Path, body: &Bytes, mode: PutMode) -> Result<(), StoreError> {
        let put = self.store.put_opts(path, body.clone().into(), PutOptions::from(mode)).await;
        let Err(StoreError::AlreadyExists { path: named, source }) = put else { return put.map(drop) };
        // The response to an earlier attempt may have been lost; an equal object is the one of this process.
        match self.store.get(path).await?.bytes().await? == *body {
            true => Ok(()),
            false => Err(StoreError::AlreadyExists { path: named, source }),
        }
    }
}

/// Returns `true` if a repetition of the request may succeed.
fn may_pass(error: &StoreError) -> bool {
    matches!(error, StoreError::Generic { .. })
}

fn numbered(directory: &Path, number: u64) -> Path {
    directory.clone().join(format!("{number:010}.jsonl"))
}

fn read(path: &Path, text: &[u8], index: &mut Index) -> Result<()> {
    let bad = |number: usize, error: BadLine| {
        Error::new(ErrorKind::Journal, error.advice())
            .with_context("object", path)
            .with_context("line", number + 1)
            .with_source(error)
    };
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        match (number, line.is_empty()) {
            (_, true) => {}
            (0, _) => Head::check(line).map_err(|error| bad(number, error))?,
            _ => index.apply(Line::read(line).map_err(|error| bad(number, error))?),
        }
    }
    Ok(())
}

fn failed(what: &str, path: &Path, error: StoreError) -> Error {
    Error::new(ErrorKind::Journal, format!("{what}: {error}")).with_context("object", path).with_source(error)
}

#[cfg(test)]
mod tests {
    use object_store::{
        memory::InMemory,
        throttle::{ThrottleConfig, ThrottledStore},
    };

    use super::*;
    use crate::{
        ClientToken, StatementId, TokioClock,
        journal::{Event, RunBegun, RunOutcome},
    };

    fn journal(store: &Arc<InMemory>) -> ObjectStoreJournal {
        journal_on(store.clone())
    }

    fn journal_on(store: Arc<dyn ObjectStore>) -> ObjectStoreJournal {
        let clock = TokioClock::starting_at("2026-11-23T06:30:00Z".parse().unwrap());
        ObjectStoreJournal::new(store, "etl/journal").with_clock(clock)
    }

    fn claim(run: &str) -> Claim {
        Claim::new("nightly", run, "2026-11-23T06:30:00Z".parse().unwrap()).with_exclusive(true)
    }

    fn step(run: &str, step: &str, event: Event) -> Record {
        Record { at: "2026-11-23T06:30:00Z".parse().unwrap(), key: StepKey::new(run, step), event }
    }

    fn intent(run: &str, name: &str) -> Record {
        let event = Event::Intent {
            token: ClientToken::new("t").unwrap(),
            name: format!("{run}/{name}/1 t"),
            target: None,
        };
        step(run, name, event)
    }

    fn about(run: &str, event: RunEvent) -> RunRecord {
        RunRecord { at: "2026-11-23T06:30:00Z".parse().unwrap(), run: run.into(), event }
    }

    fn begun(run: &str) -> RunRecord {
        about(run, RunEvent::RunBegun(RunBegun { pipeline: "nightly".into(), ..RunBegun::default() }))
    }

    /// Regression: a release set the lease's expiry to the current time of the holder's clock, so the lease
    /// was not yet free by a clock that was behind.
    #[tokio::test(start_paused = true)]
    async fn a_released_lease_is_free_for_a_process_whose_clock_is_behind() {
        let store = Arc::new(InMemory::new());
        let at = |time: &str| {
            let clock = TokioClock::starting_at(time.parse().unwrap());
            ObjectStoreJournal::new(store.clone(), "etl/journal").with_clock(clock)
        };
        let first = at("2026-11-23T06:30:00Z");
        let _active = first.claim(&claim("a")).await.unwrap();
        first.append_run(begun("a")).await.unwrap();
        first.append_run(about("a", RunEvent::RunEnded { result: RunOutcome::Finished })).await.unwrap();
        let second = at("2026-11-23T06:27:00Z");
        assert!(second.claim(&claim("a")).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn records_survive_the_process() {
        let store = Arc::new(InMemory::new());
        let first = journal(&store);
        let run = "sales 2026/11/23%";
        let active = first.claim(&claim(run)).await.unwrap();
        first.append_run(begun(run)).await.unwrap();
        first.append(intent(run, "a")).await.unwrap();
        first.append(step(run, "a", Event::Submitted { id: StatementId::new("id-a") })).await.unwrap();
        first.append_run(about(run, RunEvent::RunEnded { result: RunOutcome::Failed })).await.unwrap();
        drop(active);
        let second = journal(&store);
        let runs = second.runs(10, None).await.unwrap().runs;
        assert_eq!((runs.len(), runs[0].run.as_str(), runs[0].is_active), (1, run, false));
        assert_eq!(runs[0].ended.unwrap().1, RunOutcome::Failed);
        assert_eq!(second.entries(run).await.unwrap()[0].id, Some(StatementId::new("id-a")));
        assert!(second.claim(&claim(run)).await.is_ok(), "its lease was released");
    }

    #[tokio::test(start_paused = true)]
    async fn two_processes_cannot_be_at_one_pipeline_and_a_dead_one_makes_way() {
        let store = Arc::new(InMemory::new());
        let (first, second) = (journal(&store), journal(&store));
        let active = first.claim(&claim("one")).await.unwrap();
        first.append_run(begun("one")).await.unwrap();
        sleep(Duration::from_secs(100)).await;
        // The lease is renewed during this time.
        let error = second.claim(&claim("two")).await.unwrap_err();
        assert_eq!((error.kind(), error.context("active_run")), (ErrorKind::Overlap, Some("one")));
        assert!(second.runs(10, None).await.unwrap().runs[0].is_active);
        // A run that allows overlap excludes only a second process of the same run.
        assert!(second.claim(&claim("beside").with_exclusive(false)).await.is_ok());
        assert_eq!(
            second.claim(&claim("one").with_exclusive(false)).await.unwrap_err().kind(),
            ErrorKind::Overlap
        );
        // The process dies: its tasks stop, and nothing is released.
        std::mem::forget(active);
        for lease in first.0.leases().values().flat_map(|leases| &leases.0) {
            // The renewal waits for this lock forever.
            std::mem::forget(lease.try_lock());
        }
        sleep(Duration::from_secs(31)).await;
        let _active = second.claim(&claim("two")).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_that_was_taken_for_dead_cannot_write_any_more() {
        let store = Arc::new(InMemory::new());
        let (first, second) = (journal(&store), journal(&store));
        first.append_run(begun("one")).await.unwrap();
        first.append(intent("one", "a")).await.unwrap();
        let _active = second.claim(&claim("one")).await.unwrap();
        second.append_run(begun("one")).await.unwrap();
        let error = first.append(intent("one", "b")).await.unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
        assert!(first.append(intent("one", "c")).await.is_err());
        second.append(intent("one", "b")).await.unwrap();
        assert_eq!(journal(&store).entries("one").await.unwrap().len(), 2);
    }

    /// Regression: a renewal that waited for the lock during a release renewed the lease afterwards, and the
    /// next run was rejected for half a minute.
    #[tokio::test(start_paused = true)]
    async fn a_released_lease_is_not_renewed() {
        // Each put takes a second. The different delays make a renewal overlap with each phase of a release.
        for tenths in 60..130 {
            let store = Arc::new(InMemory::new());
            let slow = ThrottledStore::new(
                store.clone(),
                ThrottleConfig { wait_put_per_call: Duration::from_secs(1), ..ThrottleConfig::default() },
            );
            let (first, second) = (journal_on(Arc::new(slow)), journal(&store));
            let active = first.claim(&claim("one")).await.unwrap();
            first.append_run(begun("one")).await.unwrap();
            sleep(Duration::from_millis(tenths * 100)).await;
            let ended = RunEvent::RunEnded { result: RunOutcome::Finished };
            first.append_run(about("one", ended)).await.unwrap();
            sleep(Duration::from_secs(5)).await;
            let second = second.claim(&claim("two")).await;
            assert!(second.is_ok(), "released after {tenths} tenths of a second");
            drop(active);
        }
    }

    /// Regression: the journal of a service kept the records of each run until the service ended.
    #[tokio::test(start_paused = true)]
    async fn a_run_that_has_ended_leaves_memory_and_is_read_again() {
        let journal = journal(&Arc::new(InMemory::new()));
        for run in ["one", "two"] {
            let active = journal.claim(&claim(run)).await.unwrap();
            journal.append_run(begun(run)).await.unwrap();
            journal.append(intent(run, "a")).await.unwrap();
            journal.append_run(about(run, RunEvent::RunEnded { result: RunOutcome::Failed })).await.unwrap();
            active.release().await;
            assert!(!journal.0.runs().contains_key(run));
            assert_eq!(journal.entries(run).await.unwrap().len(), 1);
        }
        // A reader leaves no more than a bounded number.
        for number in 0..3 * IDLE_RUNS {
            let run = format!("many {number}");
            journal.append_run(begun(&run)).await.unwrap();
            assert!(journal.run_entry(&run).await.unwrap().is_some());
        }
        assert!(journal.0.runs().len() <= IDLE_RUNS);
    }

    /// A run is claimed again while a record of this process is being written: both writers share the numbers.
    #[tokio::test(start_paused = true)]
    async fn a_claim_waits_for_a_record_in_flight() {
        let slow = ThrottleConfig { wait_put_per_call: Duration::from_secs(1), ..ThrottleConfig::default() };
        let journal = journal_on(Arc::new(ThrottledStore::new(InMemory::new(), slow)));
        journal.append(intent("one", "a")).await.unwrap();
        let (written, active) = tokio::join!(journal.append(intent("one", "b")), async {
            sleep(Duration::from_millis(100)).await;
            journal.claim(&claim("one")).await
        });
        assert!(written.is_ok() && active.is_ok(), "{written:?}");
        journal.append(intent("one", "c")).await.unwrap();
        assert_eq!(journal.entries("one").await.unwrap().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn records_that_come_together_share_an_object() {
        let store = Arc::new(InMemory::new());
        let journal = journal(&store);
        let names: Vec<_> = (0..50).map(|number| format!("s{number}")).collect();
        futures::future::try_join_all(names.iter().map(|name| journal.append(intent("r", name))))
            .await
            .unwrap();
        let objects = journal.0.objects(&journal.0.directory("r")).await.unwrap();
        assert!(objects.len() <= 2, "{objects:?}");
        assert_eq!(journal.entries("r").await.unwrap().len(), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_or_damaged_object_is_named() {
        let store = Arc::new(InMemory::new());
        let first = journal(&store);
        for name in ["a", "b", "c"] {
            first.append(intent("r", name)).await.unwrap();
        }
        let path = numbered(&first.0.directory("r"), 2);
        let text = store.get(&path).await.unwrap().bytes().await.unwrap();
        store.delete(&path).await.unwrap();
        let error = journal(&store).entries("r").await.unwrap_err();
        assert!(error.context("object").unwrap().ends_with("0000000003.jsonl"), "{error}");
        store.put(&path, [&text[..], b"{}\n"].concat().into()).await.unwrap();
        let error = journal(&store).entries("r").await.unwrap_err();
        assert_eq!((error.kind(), error.context("line")), (ErrorKind::Journal, Some("3")));
    }
}
