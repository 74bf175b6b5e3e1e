//! [`Store`]: object storage for the journal of a process that may die, on a network that fails at times.

use std::{
    collections::HashMap,
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use jiff::Timestamp;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory,
    path::Path,
};
use redshift_orchestrator::{
    Clock, Pipeline,
    journal::{Journal, ObjectStoreJournal, Prune, RunBegun, RunEvent, RunOutcome, RunRecord, prune},
};
use tokio::time::{Instant, sleep};

use super::{
    fate::{Death, Fate},
    network::locked,
};

/// Objects of a journal, which successive processes share.
#[derive(Clone)]
pub(super) struct Objects {
    inner: Arc<InMemory>,
    /// Number of requests that failed, or that arrived after the death of their process.
    failures: Arc<AtomicU64>,
    pub(super) lease: Duration,
    /// Maximum duration of most writes of a lease, in milliseconds.
    lease_takes: u64,
}

/// Maximum duration of most requests, in milliseconds.
const USUAL: u64 = 40;
const PREFIX: &str = "journal";
const PAST: &str = "past-";
/// Age up to which pruning keeps runs. No schedule is longer.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

impl Objects {
    /// Draws the duration of leases. In one of four stores, writing a lease takes so long that releases and
    /// renewals often overlap.
    pub(super) fn drawn(draw: &mut fastrand::Rng) -> Self {
        let lease = draw.u64(120..2_400);
        let lease_takes = if draw.u8(0..4) == 0 { lease * 1_000 / 8 } else { 40 };
        Self {
            inner: Arc::default(),
            failures: Arc::default(),
            lease: Duration::from_secs(lease),
            lease_takes,
        }
    }

    /// Returns the number of requests that did not have the requested effect in time.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Opens the journal of a process.
    pub(super) fn open(&self, store: Store, clock: impl Clock + 'static) -> ObjectStoreJournal {
        ObjectStoreJournal::new(Arc::new(store), PREFIX).with_lease(self.lease).with_clock(clock)
    }

    /// Opens the journal for reading, over a network that never fails.
    pub(super) fn read(&self, clock: impl Clock + 'static) -> ObjectStoreJournal {
        ObjectStoreJournal::new(self.inner.clone(), PREFIX).with_lease(self.lease).with_clock(clock)
    }

    /// Adds finished runs that are old enough to be pruned.
    pub(super) async fn add_past_runs(&self, pipeline: &Pipeline, count: usize, now: Timestamp) {
        let journal = ObjectStoreJournal::new(self.inner.clone(), PREFIX);
        for number in 0..count {
            let run = format!("{PAST}{number}");
            let at = now - KEPT - Duration::from_secs(86_400 * (count - number) as u64);
            let begun = RunBegun::new(pipeline.name());
            let end = RunEvent::RunEnded { result: RunOutcome::Finished };
            for event in [RunEvent::RunBegun(begun), end] {
                let record = RunRecord::new(at, run.clone(), event);
                journal.append_run(record).await.expect("the store does not fail");
            }
        }
    }

    /// Removes old finished runs, like an operator.
    pub(super) async fn prune(&self, clock: impl Clock + Copy + 'static) {
        let pruned = prune(&self.read(clock), &Prune::before(clock.now() - KEPT)).await;
        pruned.expect("the store does not fail");
    }

    /// Deletes all runs, for the flaw [`Flaw::PrunesUnfinished`](super::Flaw::PrunesUnfinished).
    pub(super) async fn remove_all(&self) {
        let all = Path::from(PREFIX);
        let objects: Vec<_> =
            self.inner.list(Some(&all)).try_collect().await.expect("the store does not fail");
        for object in objects {
            self.inner.delete(&object.location).await.expect("the store does not fail");
        }
    }
}

/// Object store of one process.
pub(super) struct Store {
    pub(super) objects: Objects,
    pub(super) fate: Arc<Fate>,
    /// Time at which the store works again.
    pub(super) away_until: Mutex<Option<Instant>>,
    /// Callback for each read of an object of a past run. It receives the path of the object.
    pub(super) on_costly: Box<dyn Fn(&str) + Send + Sync>,
    /// Clock for the flaw [`Flaw::RenewsReleasedLeases`](super::Flaw::RenewsReleasedLeases); `None` without
    /// the flaw.
    pub(super) renews_released: Option<Box<dyn Clock>>,
    /// Last write of each lease, by path.
    pub(super) written: Mutex<HashMap<Path, Written>>,
    /// Called when a lease is released while its renewal is in progress or becomes due.
    pub(super) on_race: Box<dyn Fn() + Send + Sync>,
}

/// Write of a lease.
#[derive(Clone, Copy)]
pub(super) struct Written {
    is_release: bool,
    begun: Instant,
    ended: Option<Instant>,
}

impl Store {
    fn lost<T>(&self) -> Result<T> {
        self.objects.failures.fetch_add(1, Ordering::Relaxed);
        Err(Error::Generic { store: "simulated", source: "connection reset".into() })
    }

    /// Sends a request, which mostly takes less than `usual` milliseconds. If the process dies, the request
    /// may still arrive later.
    async fn send<T: Send + 'static>(
        &self,
        usual: u64,
        request: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let death = self.fate.death();
        let way = self.fate.draw(|draw| match draw.u8(0..64) {
            0 => draw.u64(0..usual.max(5_000)),
            _ => draw.u64(0..usual),
        });
        match death {
            Some(Death::Before) => self.fate.die().await,
            Some(Death::Underway(way)) => {
                let failures = self.objects.failures.clone();
                tokio::spawn(async move {
                    sleep(way).await;
                    failures.fetch_add(1, Ordering::Relaxed);
                    drop(request.await);
                });
                return self.fate.die().await;
            }
            Some(Death::After) | None => sleep(Duration::from_millis(way)).await,
        }
        let is_away = locked(&self.away_until).is_some_and(|until| Instant::now() < until);
        if is_away && self.fate.draw(|draw| draw.bool()) {
            return self.lost();
        }
        let answer = request.await;
        if death.is_some() || self.fate.is_dead() {
            return self.fate.die().await;
        }
        if is_away {
            return self.lost();
        }
        answer
    }

    /// Records that a lease is about to be written. Returns `None` for any other object.
    fn begin_writing(&self, path: &Path, payload: &PutPayload) -> Option<Written> {
        if !path.as_ref().contains("leases") {
            return None;
        }
        let text: Bytes = payload.clone().into();
        let lease = serde_json::from_slice::<serde_json::Value>(&text).unwrap_or_default();
        let expires_at = lease["expires_at"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
        let is_release = expires_at == Some(Timestamp::UNIX_EPOCH);
        let now = Instant::now();
        let waited_for_renewal = locked(&self.written)
            .get(path)
            .is_some_and(|before| !before.is_release && before.ended == Some(now));
        if is_release && waited_for_renewal {
            (self.on_race)();
        }
        Some(Written { is_release, begun: now, ended: None })
    }

    /// Records that a lease was written. A renewal is due when a third of the lease's duration has passed
    /// since the previous one.
    fn end_writing(&self, path: &Path, writing: Written) {
        let now = Instant::now();
        let before = locked(&self.written).insert(path.clone(), Written { ended: Some(now), ..writing });
        let due = before.filter(|before| !before.is_release).and_then(|before| before.ended);
        let due = due.map(|ended| ended + self.objects.lease / 3);
        if writing.is_release && due.is_some_and(|due| writing.begun <= due && due < now) {
            (self.on_race)();
        }
    }

    fn note_read(&self, path: &Path) {
        if path.as_ref().contains(PAST) {
            (self.on_costly)(path.as_ref());
        }
    }

    /// Extends a lease after its release, like a renewal that is late.
    async fn renew_released(&self, path: &Path, payload: &PutPayload) {
        let Some(clock) = &self.renews_released else { return };
        let text: Bytes = payload.clone().into();
        let Ok(mut lease) = serde_json::from_slice::<serde_json::Value>(&text) else { return };
        let expires_at = lease["expires_at"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
        let now = clock.now();
        if path.as_ref().contains("leases") && expires_at.is_some_and(|at| at <= now) {
            lease["expires_at"] = (now + self.objects.lease).to_string().into();
            let renewed = lease.to_string().into();
            let put = self.objects.inner.put_opts(path, renewed, PutOptions::default()).await;
            put.expect("the store does not fail");
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

#[async_trait]
impl ObjectStore for Store {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if let Some(away) = self.fate.journal_failure() {
            *locked(&self.away_until) = Some(Instant::now() + away);
        }
        let (inner, to, sent) = (self.objects.inner.clone(), path.clone(), payload.clone());
        let writing = self.begin_writing(path, &payload);
        let usual = if writing.is_some() { self.objects.lease_takes } else { USUAL };
        let put = self.send(usual, async move { inner.put_opts(&to, sent, options).await }).await;
        if let Some(writing) = writing {
            self.end_writing(path, writing);
        }
        let put = put?;
        self.renew_released(path, &payload).await;
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.objects.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.note_read(path);
        let (inner, path) = (self.objects.inner.clone(), path.clone());
        self.send(USUAL, async move { inner.get_opts(&path, options).await }).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.objects.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.objects.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if let Some(prefix) = prefix {
            self.note_read(prefix);
        }
        // The objects are listed when the stream is polled.
        let (inner, fate, prefix) = (self.objects.inner.clone(), self.fate.clone(), prefix.cloned());
        let listed = async move {
            let listed = fate.meet(async { inner.list(prefix.as_ref()).collect::<Vec<_>>().await }).await;
            Ok::<_, Error>(stream::iter(listed))
        };
        stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.inner.copy_opts(from, to, options).await
    }
}
