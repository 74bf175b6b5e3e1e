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
/// PREFIX/by-time/TIME/RUN                  list of runs, newest first (TIME is smaller for later times)
/// PREFIX/removing/ID.json                  runs that are being removed
/// PREFIX/leases/runs/RUN.json              lease of a run: its process and expiry
/// PREFIX/leases/attempts/DIGEST.json       lease of an attempt, deleted when its claim ends
/// PREFIX/leases/pipelines/PIPELINE.json    lease of an exclusive run of a pipeline
/// ```
///
/// * A record costs one `PUT`, which concurrent records share. A run also costs one `PUT` for its entry in
///   the list of runs and, for each of its leases, one `PUT` after each third of the [lease's
///   duration](Self::with_lease). Opening a run costs one `LIST` and one `GET` for each object of this run.
///   This cost does not depend on the number of other runs. If the process has not claimed the run, as with
///   statements without a pipeline, each attempt costs one `HEAD` more, because [`prune`](super::prune) may
///   have removed the run.
/// * A [claim of an attempt](Claim::of_attempt) costs one `GET`, one `PUT` and the cost of opening the run,
///   and at its end one `PUT` and one `DELETE`. If the store denies the `DELETE`, the expired lease is left.
/// * A page of the list of runs costs one `LIST`, and for each run on the page the cost of opening it and one
///   `GET` for its lease. The store must list objects in the order of their names. S3 (except directory
///   buckets), Google Cloud Storage and Azure meet this condition.
/// * Two processes cannot write to the same run. Objects are numbered, and each is put only if no object has
///   its number. A process that has not read the other process's record therefore fails to write its intent,
///   before it submits a statement. If a process has not claimed the run, its first record costs one `GET`
///   for the lease and is rejected while another process holds the lease. If no process has claimed the run,
///   a process that reads the records and writes the next one takes the run over: the records of the other
///   process fail from then on, until it claims the run.
/// * Before [`prune`](super::prune) removes a run, it puts an object without records behind the last one. A
///   record that another process writes at this time either fails or keeps the run.
/// * A run is removed from memory when it ends. Its records are read again when they are needed.
/// * S3 limits a key to 1,024 bytes. A run's name of 200 ASCII characters fits, because each takes at most 3
///   bytes. Other characters take up to 12 bytes each, so only about 80 of them fit. A run with a longer name
///   fails before it submits a statement.
/// * If a request to put an object or its response is lost, the put is repeated for 10 seconds. The object's
///   number and writer make sure that the record is stored only once.
/// * If a process dies, its lease is no longer renewed and expires after 30 seconds. Another process can then
///   resume the run. The clocks of the processes must differ by less than the duration of a lease. Otherwise,
///   a process can acquire a lease that the other process still holds; the numbering of objects prevents both
///   from writing even then.
/// * If the renewals of a lease fail or take longer than its duration, the lease expires although its process
///   is alive. Another process can then claim the same run, and one of the two fails at its next record. If
///   it begins a different run of an exclusive pipeline instead, both runs continue.
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
    /// Random identifier of this process, stored in its objects and leases.
    writer: String,
    /// Number of leases that this process has requested. Numbers each lease.
    taken: AtomicU64,
    /// Runs in memory.
    runs: Mutex<HashMap<String, Arc<Loaded>>>,
    /// Leases of the runs that this process has claimed.
    leases: Mutex<HashMap<String, Arc<Leases>>>,
}

/// A run in memory, or being loaded.
type Loaded = OnceCell<Arc<Group<Objects>>>;

/// Number of runs in memory from which on idle runs are removed before another run is loaded.
const IDLE_RUNS: usize = 100;

/// Default duration of a lease.
const LEASE: Duration = Duration::from_secs(30);

/// Pauses before a put is repeated. The store's client does not repeat a conditional put if its response was
/// lost.
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

    /// Sets the duration of a lease: the time after which other processes can resume the run of a process
    /// that died. Default: 30 seconds. Must be called before the journal is used.
    #[must_use]
    pub fn with_lease(self, lease: Duration) -> Self {
        self.changed(|inner| inner.lease = lease)
    }

    /// Sets the clock that determines whether a lease has expired. Default: [`SystemClock`].
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

    /// Returns a run from memory, or loads it. A run in memory contains the records that this process read
    /// when it loaded the run and the records that it has written since.
    async fn group(&self, run: &str) -> Result<Arc<Group<Objects>>> {
        let loaded = self.loaded(run);
        Ok(loaded.get_or_try_init(|| self.load(run)).await?.clone())
    }

    /// Loads the current records of a run after its lease, or the lease of an attempt, was acquired.
    async fn reload(&self, claim: &Claim) -> Result<()> {
        let run = &claim.run;
        let (loaded, mut is_fresh) = (self.loaded(run), false);
        let load = || {
            is_fresh = true;
            self.load(run)
        };
        let group = loaded.get_or_try_init(load).await?;
        let mut sink = group.sink.lock().await;
        if !is_fresh {
            self.read_again(run, group, &mut sink).await?;
        }
        sink.is_admitted |= claim.attempt.is_none();
        Ok(())
    }

    /// Reads the records of a run again. The sink is locked, so no write of this process is in flight while
    /// the records are read and the next number is set.
    async fn read_again(&self, run: &str, group: &Group<Objects>, sink: &mut Objects) -> Result<()> {
        let (index, next) = self.read_run(run).await?;
        sink.next = next;
        group.reset(index);
        Ok(())
    }

    /// Reads the records of a run again if [`prune`](super::prune) has removed the run. If this process wrote
    /// the record after the last one that it knows, the run would begin with a later object and would be
    /// unreadable.
    async fn forget_removed(&self, run: &str, group: &Group<Objects>) -> Result<()> {
        let last = group.sink.lock().await.last();
        let Some(last) = last else { return Ok(()) };
        match self.store.head(&last).await {
            Ok(_) => Ok(()),
            Err(StoreError::NotFound { .. }) => {
                self.read_again(run, group, &mut *group.sink.lock().await).await
            }
            Err(error) => Err(failed("a record cannot be read", &last, error)),
        }
    }

    /// Returns the cell of a run in memory, which is empty if the run is not loaded. Removes idle runs first
    /// if there are too many.
    fn loaded(&self, run: &str) -> Arc<Loaded> {
        let mut runs = self.runs();
        if runs.len() >= IDLE_RUNS && !runs.contains_key(run) {
            runs.retain(|run, loaded| self.is_used(run, loaded) || has_open(run, loaded));
        }
        runs.entry(run.to_owned()).or_default().clone()
    }

    /// Removes a run from memory if it is not in use.
    fn forget(&self, run: &str) {
        let mut runs = self.runs();
        if runs.get(run).is_some_and(|loaded| !self.is_used(run, loaded)) {
            runs.remove(run);
        }
    }

    /// Returns `true` if a call is using the run, a write is in flight, or this process has claimed the run.
    fn is_used(&self, run: &str, loaded: &Arc<Loaded>) -> bool {
        let is_busy = |group: &Arc<Group<Objects>>| Arc::strong_count(group) > 1 || !group.is_idle();
        Arc::strong_count(loaded) > 1 || loaded.get().is_some_and(is_busy) || self.leases().contains_key(run)
    }

    async fn load(&self, run: &str) -> Result<Arc<Group<Objects>>> {
        let (index, next) = self.read_run(run).await?;
        let sink = Objects {
            store: self.store.clone(),
            directory: self.directory(run),
            by_time: self.by_time(),
            run: run.to_owned(),
            next,
            writer: self.writer.clone(),
            lease: self.run_lease(run),
            clock: self.clock.clone(),
            is_admitted: false,
            is_sealed: false,
        };
        Ok(Arc::new(Group::new(sink, index)))
    }

    /// Lists and reads the records of a run. Returns the records and the number of the next object.
    async fn read_run(&self, run: &str) -> Result<(Index, u64)> {
        let directory = self.directory(run);
        let objects = self.objects(&directory).await?;
        self.records(&directory, objects).await
    }

    /// Reads the records of a run from its objects. Returns the records and the number of the next object.
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

    /// Returns the paths of the objects in a directory, in the order of their names.
    async fn objects(&self, directory: &Path) -> Result<Vec<Path>> {
        let listed: Result<Vec<_>, _> =
            self.store.list(Some(directory)).map_ok(|object| object.location).try_collect().await;
        let mut objects = listed.map_err(|error| failed("the journal cannot be listed", directory, error))?;
        objects.sort();
        Ok(objects)
    }

    async fn get(&self, path: &Path) -> Result<Bytes> {
        let bytes = async { self.store.get(path).await?.bytes().await };
        bytes.await.map_err(|error| failed("a record cannot be read", path, error))
    }

    async fn append(&self, run: &str, line: Line) -> Result<()> {
        let group = self.group(run).await?;
        let is_claimed = self.leases().contains_key(run);
        if !is_claimed && !group.read(|index| is_of_unsettled(index, &line)) {
            self.forget_removed(run, &group).await?;
        }
        group.append(line).await.map_err(|message| self.refused(run, message))
    }

    /// Returns the error for a run that cannot be changed.
    fn refused(&self, run: &str, message: String) -> Error {
        Error::new(ErrorKind::Journal, message).with_context("journal", self.directory(run))
    }

    /// Locks the runs in memory. To prevent a deadlock, a caller must not hold the lock of the
    /// [leases](Self::leases).
    fn runs(&self) -> MutexGuard<'_, HashMap<String, Arc<Loaded>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<String, Arc<Leases>>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the run of an entry in the list. Returns `None` if the removal of the run has begun, or if its
    /// first record was never written.
    async fn listed(&self, by_time: &Path) -> Result<Option<RunEntry>> {
        let Some(name) = by_time.parts().next_back() else { return Ok(None) };
        let directory = self.prefix.clone().join("runs").join(name);
        let objects = self.objects(&directory).await?;
        if objects.first() != Some(&numbered(&directory, 1)) {
            return Ok(None);
        }
        let (index, _) = self.records(&directory, objects).await?;
        let Some(entry) = index.all_runs().pop() else { return Ok(None) };
        // If two processes began the same run at the same time, one of them failed. The entry of that process
        // has a different time and is ignored.
        match self.place(&entry) == *by_time {
            true => self.with_lease_of(entry).await.map(Some),
            false => Ok(None),
        }
    }

    fn by_time(&self) -> Path {
        self.prefix.clone().join("by-time")
    }

    /// Returns the path of a run's entry in the list.
    fn place(&self, run: &RunEntry) -> Path {
        place(&self.by_time(), run.first_begun_at, &run.run)
    }

    fn removing(&self) -> Path {
        self.prefix.clone().join("removing")
    }

    /// Returns those runs of an interrupted removal whose first object has been deleted, each with its other
    /// objects.
    ///
    /// If a run still has its first object, its removal had not begun, or the run was started again after its
    /// removal. Such a run is not removed; the next [`prune`](super::prune) decides about it.
    async fn begun_removals(&self, left: Vec<Removed>) -> Result<Vec<(Removed, Vec<Path>)>> {
        let looks = stream::iter(left).map(|removed| async move {
            let directory = self.directory(&removed.run);
            let objects = self.objects(&directory).await?;
            if objects.first() != Some(&numbered(&directory, 1)) {
                return Ok(Some((removed, objects)));
            }
            // If the run was started again, it has a new entry in the list, and the old entry is deleted.
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

    /// Continues an interrupted removal. The marker object is kept if another process holds one of the runs:
    /// a `prune` that is still running, or a process that has started the run again.
    async fn resume_removal(self: &Arc<Self>, marker: Path, left: Vec<Removed>) -> Result<()> {
        let claims = stream::iter(left).map(|removed| async move {
            match self.clone().claim_for_removal(&removed.run).await {
                Ok(claim) => Ok(Some((claim, removed))),
                Err(error) if error.kind() == ErrorKind::Overlap => Ok(None),
                Err(error) => Err(error),
            }
        });
        let claims: Vec<_> = claims.buffered(16).try_collect().await?;
        let all_held = claims.iter().all(Option::is_some);
        let (claims, held): (Vec<_>, Vec<_>) = claims.into_iter().flatten().unzip();
        let begun = self.begun_removals(held).await?;
        self.remove(begun).await?;
        if all_held {
            self.delete(vec![marker]).await?;
        }
        futures::future::join_all(claims.into_iter().map(ActiveRun::release)).await;
        Ok(())
    }

    /// Seals a run, which the caller has claimed: no process can add a record to it afterwards. Returns all
    /// objects of the run except the first. Returns `None` if the run got another record since its entry was
    /// read.
    async fn seal(&self, entry: &RunEntry) -> Result<Option<Vec<Path>>> {
        let group = self.group(&entry.run).await?;
        let mut sink = group.sink().await.map_err(|message| self.refused(&entry.run, message))?;
        if group.read(|index| index.unchanged(std::slice::from_ref(entry)).is_empty()) {
            return Ok(None);
        }
        let sealed = sink.seal().await.map_err(|message| self.refused(&entry.run, message));
        // The records in memory are no longer current.
        self.runs().remove(&entry.run);
        sealed
    }

    /// Deletes the objects of the runs. The caller must have claimed each of the runs. `runs` contains each
    /// run with its objects, except the first.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Journal`] if the lease of a run has expired, because another process may then
    /// have started the run again.
    async fn remove(&self, runs: Vec<(Removed, Vec<Path>)>) -> Result<()> {
        let (runs, rest): (Vec<_>, Vec<_>) = runs.into_iter().unzip();
        for removed in &runs {
            self.runs().remove(&removed.run);
        }
        // The first object of each run is deleted first. A run without its first object cannot be read, so an
        // interrupted removal does not look like an unfinished run.
        let firsts = runs.iter().map(|removed| numbered(&self.directory(&removed.run), 1));
        self.check_claims(&runs).await?;
        self.delete(firsts.collect()).await?;
        self.check_claims(&runs).await?;
        // The leases are deleted, and must not be renewed or released afterwards.
        for removed in &runs {
            let leases = self.leases().get(&removed.run).cloned();
            if let Some(leases) = leases {
                leases.forget(&self.run_lease(&removed.run)).await;
            }
        }
        let lists = runs.iter().flat_map(|removed| {
            let place = place(&self.by_time(), removed.first_begun_at, &removed.run);
            [place, self.run_lease(&removed.run)]
        });
        self.delete(rest.into_iter().flatten().chain(lists).collect()).await
    }

    /// Checks that this process holds the leases of the runs.
    async fn check_claims(&self, runs: &[Removed]) -> Result<()> {
        for removed in runs {
            let leases = self.leases().get(&removed.run).cloned();
            let is_held = match leases {
                Some(leases) => leases.are_held(&*self.clock).await,
                None => false,
            };
            if !is_held {
                let text = "the lease of a run expired during its removal; call `prune` again";
                return Err(Error::new(ErrorKind::Journal, text).with_context("run", &removed.run));
            }
        }
        Ok(())
    }

    /// Deletes objects, up to 1,000 per request if the store supports this. Missing objects are ignored.
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
        // If the caller's future is dropped, the task completes the claim and drops the guard, which releases
        // the leases. Without the task, acquired leases would last until they expire.
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

    async fn remove_runs(&self, runs: &[RunEntry]) -> Result<Vec<String>> {
        let inner = &self.0;
        let markers = inner.objects(&inner.removing()).await?;
        for marker in markers {
            let text = inner.get(&marker).await?;
            let left = serde_json::from_slice(&text).map_err(|error| {
                Error::new(ErrorKind::Journal, "the object is not a list of runs to remove; delete it")
                    .with_context("object", &marker)
                    .with_source(error)
            })?;
            inner.resume_removal(marker, left).await?;
        }
        let selected: Vec<_> = runs.iter().map(Removed::of).collect();
        inner.check_claims(&selected).await?;
        let seals = stream::iter(runs.to_vec()).map(|entry| async move {
            Ok::<_, Error>(inner.seal(&entry).await?.map(|objects| (Removed::of(&entry), objects)))
        });
        let sealed: Vec<_> = seals.buffered(16).try_collect().await?;
        let sealed: Vec<_> = sealed.into_iter().flatten().collect();
        let removed: Vec<_> = sealed.iter().map(|(removed, _)| removed.run.clone()).collect();
        if sealed.is_empty() {
            return Ok(removed);
        }
        let marker = inner.removing().join(format!("{}.json", entropy()));
        let marked: Vec<_> = sealed.iter().map(|(removed, _)| removed).collect();
        let text =
            serde_json::to_vec(&marked).map_err(|error| Error::new(ErrorKind::Journal, error.to_string()))?;
        let put = inner.store.put(&marker, text.into()).await;
        put.map_err(|error| failed("the removal cannot be recorded", &marker, error))?;
        inner.remove(sealed).await?;
        inner.delete(vec![marker]).await?;
        Ok(removed)
    }
}

impl fmt::Debug for ObjectStoreJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectStoreJournal").field("prefix", &self.0.prefix).finish_non_exhaustive()
    }
}

/// Returns `true` if the run is loaded and one of its attempts is open.
fn has_open(run: &str, loaded: &Loaded) -> bool {
    let is_open = |entry: &Entry| matches!(entry.state, EntryState::Open);
    loaded.get().is_some_and(|group| group.read(|index| index.entries_in(run).any(is_open)))
}

/// Returns `true` if the line belongs to an attempt without an outcome. [`prune`](super::prune) keeps the run
/// of such an attempt.
fn is_of_unsettled(index: &Index, line: &Line) -> bool {
    match line {
        Line::Step(record) => index.entry(&record.key).is_some_and(|entry| entry.state.is_unsettled()),
        Line::Run(_) => false,
    }
}

/// A run in a marker object.
#[derive(Serialize, Deserialize)]
struct Removed {
    run: String,
    first_begun_at: Timestamp,
}

impl Removed {
    fn of(entry: &RunEntry) -> Self {
        Self { run: entry.run.clone(), first_begun_at: entry.first_begun_at }
    }
}

/// Returns the part of a list entry's path that contains the time. The number is smaller for later times, so
/// a listing begins with the newest run.
fn countdown(at: Timestamp, more: i128) -> String {
    format!("{:021}", Timestamp::MAX.as_nanosecond() - at.as_nanosecond() + more)
}

/// Returns the path of the list entry of a run whose first record has the time `at`.
fn place(by_time: &Path, at: Timestamp, run: &str) -> Path {
    by_time.clone().join(countdown(at, 0)).join(run)
}

/// Returns the cursor of the page that begins after this list entry.
fn cursor(place: &Path) -> Option<RunCursor> {
    let mut parts = place.as_ref().rsplit('/');
    let (run, countdown) = (decoded(parts.next()?)?, parts.next()?.parse::<i128>().ok()?);
    let at = Timestamp::from_nanosecond(Timestamp::MAX.as_nanosecond() - countdown).ok()?;
    Some(RunCursor::after(at, run))
}

/// Decodes a percent-encoded part of a path.
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

/// [`Sink`] that writes the numbered objects of a run.
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
    /// `true` if this process has claimed the run, or if no other process held its lease when this process
    /// wrote its first record.
    is_admitted: bool,
    /// `true` if this process has sealed the run.
    is_sealed: bool,
}

#[async_trait]
impl Sink for Objects {
    async fn write(&mut self, lines: Arc<[u8]>) -> Result<(), String> {
        if self.is_sealed {
            return Err("the run is being removed from the journal; repeat the call".to_owned());
        }
        self.admit().await?;
        if self.next == 1 {
            let first = lines.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let first = Line::read(first).map_err(|error| error.to_string())?;
            // The list entry is written before the record. After a crash between the two, the entry has no
            // record and is ignored. In the reverse order, the run would be missing from the list.
            let place = place(&self.by_time, first.of().0, &self.run);
            let listed = self.put(&place, &Bytes::from_static(b"{}"), PutMode::Overwrite).await;
            listed.map_err(|error| format!("the run could not be listed: {error}"))?;
        }
        match self.put_next(&lines).await? {
            true => {
                self.next += 1;
                Ok(())
            }
            false => Err("another process has resumed this run and writes its records".to_owned()),
        }
    }

    /// Puts the same object again with the same number. If a request of the failed write takes effect later,
    /// it writes an equal object.
    async fn settle(&mut self, lines: Arc<[u8]>) -> Result<bool, String> {
        self.write(lines).await.map(|()| true)
    }
}

impl Objects {
    /// Returns the path of the last object that this process knows.
    fn last(&self) -> Option<Path> {
        (self.next > 1).then(|| numbered(&self.directory, self.next - 1))
    }

    /// Returns an error if another process is running the run. If this process wrote a record, the next
    /// record of that process would fail.
    async fn admit(&mut self) -> Result<(), String> {
        if self.is_admitted {
            return Ok(());
        }
        let lease = Held::at(&*self.store, &self.lease).await.map_err(|error| error.to_string())?;
        if lease.is_some_and(|(held, _)| held.excludes(&self.writer, self.clock.now())) {
            return Err("another process is running this run; wait until that process ends".to_owned());
        }
        self.is_admitted = true;
        Ok(())
    }

    /// Puts the next object without records, so that neither this process nor another one can put an object
    /// with this number. Returns the paths of all objects except the first. Returns `None` if another process
    /// has put an object with this number.
    async fn seal(&mut self) -> Result<Option<Vec<Path>>, String> {
        self.is_sealed = self.put_next(&[]).await?;
        let numbers = 2..=self.next;
        Ok(self.is_sealed.then(|| numbers.map(|number| numbered(&self.directory, number)).collect()))
    }

    /// Puts the next object. Returns `false` if another process has put an object with this number.
    async fn put_next(&self, lines: &[u8]) -> Result<bool, String> {
        let mut body = Vec::new();
        Head::new(Some(self.writer.clone())).write(&mut body).map_err(|error| error.to_string())?;
        body.extend_from_slice(lines);
        match self.put(&numbered(&self.directory, self.next), &body.into(), PutMode::Create).await {
            Ok(()) => Ok(true),
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => Ok(false),
            Err(error) => Err(format!("the record could not be written: {error}")),
        }
    }

    /// Puts an object. Repeats the put if the response is lost. Repeating [`PutMode::Create`] is safe,
    /// because the object can be created only once.
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
        // If the object has the same content, an earlier attempt of this process created it and its response
        // was lost.
        match self.store.get(path).await?.bytes().await? == *body {
            true => Ok(()),
            false => Err(StoreError::AlreadyExists { path: named, source }),
        }
    }
}

/// Returns `true` if the request may succeed when it is repeated.
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

    /// Regression: a release set the expiry of the lease to the current time. A process whose clock was
    /// behind then still saw the lease as held.
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
    async fn two_processes_cannot_claim_one_pipeline_until_the_first_is_dead() {
        let store = Arc::new(InMemory::new());
        let (first, second) = (journal(&store), journal(&store));
        let active = first.claim(&claim("one")).await.unwrap();
        first.append_run(begun("one")).await.unwrap();
        sleep(Duration::from_secs(100)).await;
        // The first process has renewed its lease during the 100 seconds.
        let error = second.claim(&claim("two")).await.unwrap_err();
        assert_eq!((error.kind(), error.context("active_run")), (ErrorKind::Overlap, Some("one")));
        assert!(second.runs(10, None).await.unwrap().runs[0].is_active);
        // A claim that is not exclusive excludes only claims of the same run.
        assert!(second.claim(&claim("beside").with_exclusive(false)).await.is_ok());
        assert_eq!(
            second.claim(&claim("one").with_exclusive(false)).await.unwrap_err().kind(),
            ErrorKind::Overlap
        );
        // Simulates the death of the first process, whose tasks stop without releasing the leases.
        std::mem::forget(active);
        for lease in first.0.leases().values().flat_map(|leases| &leases.0) {
            // The lock is never released, so the renewal task waits forever.
            std::mem::forget(lease.try_lock());
        }
        sleep(Duration::from_secs(31)).await;
        let _active = second.claim(&claim("two")).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_with_an_expired_lease_cannot_write() {
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

    /// Regression: a renewal waited for the lock during a release and then renewed the released lease. The
    /// next run was rejected for half a minute.
    #[tokio::test(start_paused = true)]
    async fn a_released_lease_is_not_renewed() {
        // Each put takes one second. The delays are chosen so that a renewal overlaps with each phase of the
        // release.
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

    /// Regression: the journal kept the records of all runs in memory until the process ended.
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
        // Runs that were only read are removed from memory when there are too many.
        for number in 0..3 * IDLE_RUNS {
            let run = format!("many {number}");
            journal.append_run(begun(&run)).await.unwrap();
            assert!(journal.run_entry(&run).await.unwrap().is_some());
        }
        assert!(journal.0.runs().len() <= IDLE_RUNS);
    }

    /// A claim loads the run again. If a record is being written meanwhile, the claim must not use its number
    /// again.
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
    async fn concurrent_records_share_an_object() {
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
