//! [`StorageLock`]: a lease in a file in the table's own storage.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutResult, UpdateVersion, path::Path};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex, oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{End, HeldLock, LeaseWatch, TableLock, Term, wait::Waits};
use crate::{Error, ErrorKind, Result, operation::also_counted, timeline::Clock};

/// The times of a lease. The defaults are those of Hudi's `StorageBasedLockProvider`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    /// The duration of a lease. A dead writer blocks other writers for this time. Default: 5 minutes.
    pub validity: Duration,
    /// The time between renewals of the lease. Default: 30 seconds.
    pub heartbeat: Duration,
    /// The maximum difference between the clocks of two machines. Default: 500 ms.
    pub clock_drift: Duration,
    /// The wait between the first two attempts to acquire the lock. Each further wait is twice as long, up to
    /// 16 times this value, minus a random part of up to one half. Default: 1 second.
    pub pause: Duration,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self {
            validity: Duration::from_secs(300),
            heartbeat: Duration::from_secs(30),
            clock_drift: Duration::from_millis(500),
            pause: Duration::from_secs(1),
        }
    }
}

impl LeaseTimes {
    /// Returns the end of a lease whose renewal starts now. It is earlier than the time in the file, because
    /// a request that is sent at the last moment must take effect before another writer takes over.
    fn end_from_now(&self) -> End {
        End::after(self.validity.saturating_sub(self.heartbeat.min(self.validity / 4)))
    }
}

/// A lock in the storage itself: the file `.hoodie/.locks/table_lock.json`. Hudi's `StorageBasedLockProvider`
/// (1.1 and later) uses the same file, so that Spark's writers and those of this crate exclude each other.
///
/// The file names the holder and the end of its lease. It is replaced only by a put that fails if another
/// writer has replaced it in the meantime. The storage must therefore support conditional puts: S3 and the
/// in-memory store do. The local file system of `object_store` does not; use [`FileLock`](super::FileLock)
/// there.
///
/// ```text
///               create, or replace an expired one
///      free  ------------------------------------->  held  --- heartbeat: replace, later end ---.
///       ^                                           |    ^------------------------------------'
///       '------- release: replace, "expired" -------'
///       '------- the lease expires -------------------> the next writer replaces it; `verify` reports it
/// ```
#[derive(Clone)]
pub struct StorageLock {
    store: Arc<dyn ObjectStore>,
    path: Path,
    clock: Arc<dyn Clock>,
    random: Arc<std::sync::Mutex<fastrand::Rng>>,
    times: LeaseTimes,
    shared: Arc<Shared>,
}

/// State that the leases of a lock share.
#[derive(Default)]
struct Shared {
    /// The file as the last holder of this lock released it, so that a returning writer need not read it.
    released: std::sync::Mutex<Option<Known>>,
    /// Number of attempts and releases that continue after their futures were dropped.
    unsettled: watch::Sender<usize>,
}

impl Shared {
    fn released(&self) -> std::sync::MutexGuard<'_, Option<Known>> {
        self.released.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Counts work until the returned value is dropped.
    fn unsettled(self: &Arc<Self>) -> Unsettled {
        self.unsettled.send_modify(|works| *works += 1);
        Unsettled(Arc::clone(self))
    }
}

struct Unsettled(Arc<Shared>);

impl Drop for Unsettled {
    fn drop(&mut self) {
        self.0.unsettled.send_modify(|works| *works -= 1);
    }
}

impl fmt::Debug for StorageLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageLock")
            .field("path", &self.path.as_ref())
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

impl StorageLock {
    /// Creates the lock of the table under `root` in `store`. The names of the leases are generated from
    /// `seed`. Two writers must not have the same seed.
    pub fn new(store: Arc<dyn ObjectStore>, root: &Path, clock: Arc<dyn Clock>, seed: u64) -> Self {
        let path = root.clone().join(".hoodie").join(".locks").join("table_lock.json");
        let random = Arc::new(std::sync::Mutex::new(fastrand::Rng::with_seed(seed)));
        Self { store, path, clock, random, times: LeaseTimes::default(), shared: Arc::default() }
    }

    /// Sets the times of the lease.
    #[must_use]
    pub fn with_times(mut self, times: LeaseTimes) -> Self {
        self.times = times;
        self
    }

    fn random(&self) -> std::sync::MutexGuard<'_, fastrand::Rng> {
        self.random.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn new_owner(&self) -> String {
        let bits = self.random().u128(..);
        uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid().to_string()
    }
}

/// The content of the file, in Hudi's format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LockFile {
    expired: bool,
    /// Milliseconds since 1970.
    valid_until: i64,
    owner: String,
}

/// The last known state of the file. It is needed to replace the file.
#[derive(Clone, Debug)]
struct Known {
    file: LockFile,
    version: UpdateVersion,
}

/// Result of a conditional put.
enum Put {
    Done(Known),
    Overtaken,
}

/// The holder of the lock.
struct Holder {
    owner: String,
    /// The time until its lease expires, if it is not renewed.
    ends_in: Option<Duration>,
}

impl Holder {
    /// Represents a holder that acquired the lock first.
    fn unknown() -> Self {
        Self { owner: "unknown".to_owned(), ends_in: None }
    }
}

/// The file of one table, from the view of one owner.
#[derive(Clone)]
struct Lease {
    store: Arc<dyn ObjectStore>,
    path: Path,
    clock: Arc<dyn Clock>,
    times: LeaseTimes,
    owner: String,
    shared: Arc<Shared>,
}

impl Lease {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn read(&self) -> Result<Option<Known>> {
        let got = match self.store.get(&self.path).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(self.failed("read", e)),
        };
        let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
        let bytes = got.bytes().await.map_err(|e| self.failed("read", e))?;
        let file = serde_json::from_slice(&bytes).map_err(|e| {
            Error::new(
                ErrorKind::Corrupt,
                "the table's lock file is invalid; remove it if no writer uses the table",
            )
            .with_context("file", &self.path)
            .with_source(e)
        })?;
        Ok(Some(Known { file, version }))
    }

    /// Returns `true` if the holder released the lock, or if its lease has certainly expired.
    fn is_free(&self, file: &LockFile) -> bool {
        let drift = self.times.clock_drift.as_millis() as i64;
        file.expired || self.now().as_millisecond() > file.valid_until.saturating_add(drift)
    }

    /// Replaces the known state by a lease of this owner, or by the end of that lease.
    ///
    /// After a lost response or a dropped future, the store may have a newer state of this owner. A file that
    /// names this owner was written by it, so the put is repeated on top of it.
    async fn put(&self, known: Option<&Known>, expired: bool) -> Result<Put> {
        let mut known = known.cloned();
        for _ in 0..3 {
            let file = LockFile {
                expired,
                valid_until: self.end(known.as_ref(), expired),
                owner: self.owner.clone(),
            };
            match self.replace(known.as_ref(), &file).await? {
                Some(version) => return Ok(Put::Done(Known { file, version })),
                None => match self.read().await? {
                    Some(found) if found.file == file => return Ok(Put::Done(found)),
                    Some(found) if found.file.owner == self.owner && !found.file.expired => {
                        known = Some(found)
                    }
                    _ => return Ok(Put::Overtaken),
                },
            }
        }
        Ok(Put::Overtaken)
    }

    fn end(&self, known: Option<&Known>, expired: bool) -> i64 {
        match known {
            Some(known) if expired => known.file.valid_until,
            _ => self.now().as_millisecond().saturating_add(self.times.validity.as_millis() as i64),
        }
    }

    /// Replaces the file. Returns `None` if the file differs from the known state.
    async fn replace(&self, known: Option<&Known>, file: &LockFile) -> Result<Option<UpdateVersion>> {
        let bytes = serde_json::to_vec(file).map_err(|e| {
            Error::new(ErrorKind::Storage, "cannot write the table's lock file").with_source(e)
        })?;
        let mode = known.map_or(PutMode::Create, |known| PutMode::Update(known.version.clone()));
        match self.store.put_opts(&self.path, bytes.into(), PutOptions::from(mode)).await {
            Ok(PutResult { e_tag, version, .. }) => Ok(Some(UpdateVersion { e_tag, version })),
            Err(
                object_store::Error::Precondition { .. }
                | object_store::Error::AlreadyExists { .. }
                | object_store::Error::NotFound { .. },
            ) => Ok(None),
            Err(e @ object_store::Error::NotImplemented { .. }) => Err(Error::new(
                ErrorKind::Unsupported,
                "the storage has no conditional put; use a file lock on a local disk",
            )
            .with_context("file", &self.path)
            .with_source(e)),
            Err(e) => Err(self.failed("write", e)),
        }
    }

    /// Acquires the lock if it is free, in a separate task. If the caller is dropped, the task continues
    /// until its last request has ended, and releases a lease that it acquired.
    async fn attempt(&self) -> Result<Result<HeldLease, Holder>> {
        let (give, take) = oneshot::channel();
        let (lease, unsettled) = (self.clone(), self.shared.unsettled());
        let attempt = async move {
            let end = lease.times.end_from_now();
            let attempted = match lease.try_acquire().await {
                Ok(acquired) => Ok(acquired.map(|known| HeldLease::new(lease.clone(), known, end))),
                Err(error) => {
                    // A put whose response was lost may have taken effect.
                    lease.release_own().await;
                    Err(error)
                }
            };
            drop(give.send(attempted));
            drop(unsettled);
        };
        tokio::spawn(also_counted(attempt));
        take.await.unwrap_or_else(|cause| {
            Err(Error::new(ErrorKind::Storage, "the runtime is shutting down").with_source(cause))
        })
    }

    /// Releases the lock if the file names this owner.
    async fn release_own(&self) {
        if let Ok(Some(known)) = self.read().await
            && known.file.owner == self.owner
            && !known.file.expired
        {
            let _ = self.release(&known).await;
        }
    }

    async fn release(&self, known: &Known) -> Result<()> {
        if let Put::Done(released) = self.put(Some(known), true).await? {
            *self.shared.released() = Some(released);
        }
        Ok(())
    }

    async fn try_acquire(&self) -> Result<Result<Known, Holder>> {
        let released = self.shared.released().take();
        if let Some(released) = released
            && let Put::Done(taken) = self.put(Some(&released), false).await?
        {
            return Ok(Ok(taken));
        }
        let known = match self.read().await? {
            Some(known) if !self.is_free(&known.file) => {
                let drift = self.times.clock_drift.as_millis() as i64;
                let end = known.file.valid_until.saturating_add(drift).saturating_add(1);
                let left = end.saturating_sub(self.now().as_millisecond());
                let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
                return Ok(Err(Holder { owner: known.file.owner, ends_in: Some(left) }));
            }
            free => free,
        };
        let Put::Done(taken) = self.put(known.as_ref(), false).await? else {
            return Ok(Err(Holder::unknown()));
        };
        if known.is_some() {
            return Ok(Ok(taken));
        }
        // Every store can create a file. If a store cannot replace one, the lock must not be kept, because it
        // could never be released.
        match self.put(Some(&taken), false).await {
            Ok(Put::Done(taken)) => Ok(Ok(taken)),
            Ok(Put::Overtaken) => Ok(Err(Holder::unknown())),
            Err(error) => {
                if error.kind() == ErrorKind::Unsupported {
                    self.store.delete(&self.path).await.map_err(|e| self.failed("delete", e))?;
                }
                Err(error)
            }
        }
    }

    fn failed(&self, doing: &str, e: object_store::Error) -> Error {
        Error::new(ErrorKind::Storage, format!("cannot {doing} the table's lock file"))
            .with_context("file", &self.path)
            .with_source(e)
    }
}

#[async_trait]
impl TableLock for StorageLock {
    async fn acquire(&self, wait: Duration) -> Result<Box<dyn HeldLock>> {
        let begun = Instant::now();
        let lease = Lease {
            store: self.store.clone(),
            path: self.path.clone(),
            clock: self.clock.clone(),
            times: self.times,
            owner: self.new_owner(),
            shared: self.shared.clone(),
        };
        let mut waits = Waits::new(self.times.pause, MAX_PAUSES);
        loop {
            let holder = match lease.attempt().await? {
                Ok(held) => return Ok(Box::new(held)),
                Err(holder) => holder,
            };
            let waited = begun.elapsed();
            if waited >= wait {
                return Err(Error::new(ErrorKind::Conflict, "another writer holds the table")
                    .with_context("holder", holder.owner)
                    .with_context("file", &self.path)
                    .with_context("waited", format!("{wait:?}")));
            }
            waits.tell(waited, || holder.owner.clone(), &self.path);
            let mut pause = waits.next(self.random().f64());
            if let Some(ends_in) = holder.ends_in.filter(|ends_in| *ends_in < pause) {
                // Spreads out the writers that wait for a dead writer's lease.
                pause = ends_in + self.times.pause.mul_f64(self.random().f64());
            }
            sleep(pause.min(wait - waited)).await;
        }
    }

    async fn settled(&self) {
        // The sender lives as long as `self`.
        let _ = self.shared.unsettled.subscribe().wait_for(|works| *works == 0).await;
    }
}

/// The maximum wait between two attempts, in multiples of `pause`.
const MAX_PAUSES: u32 = 16;

/// A lease that is renewed periodically.
struct HeldLease {
    lease: Lease,
    /// `None` after the lease was lost or released.
    known: Arc<Mutex<Option<Known>>>,
    term: Arc<Term>,
    heartbeat: JoinHandle<()>,
    is_abandoned: bool,
}

impl HeldLease {
    fn new(lease: Lease, known: Known, end: End) -> Self {
        let known = Arc::new(Mutex::new(Some(known)));
        let term = Arc::new(Term::new(end));
        let heartbeat =
            tokio::spawn(also_counted(beat(lease.clone(), Arc::clone(&known), Arc::clone(&term))));
        Self { lease, known, term, heartbeat, is_abandoned: false }
    }
}

/// Renews the lease until it is lost or released.
async fn beat(lease: Lease, known: Arc<Mutex<Option<Known>>>, term: Arc<Term>) {
    loop {
        sleep(lease.times.heartbeat).await;
        let mut known = known.lock().await;
        match renew(&lease, &mut known, &term).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Conflict => {
                tracing::error!(path = %lease.path, "lost the lock of the table");
                return;
            }
            // The lease lasts for several renewal intervals, and a later renewal may succeed.
            Err(error) => tracing::warn!(path = %lease.path, %error, "cannot renew the lock of the table"),
        }
    }
}

/// Extends the lease. Success proves that no other writer has held the lock since the last renewal.
async fn renew(lease: &Lease, known: &mut Option<Known>, term: &Term) -> Result<()> {
    if let Some(current) = known.as_ref() {
        let end = lease.times.end_from_now();
        match lease.put(Some(current), false).await? {
            Put::Done(renewed) => {
                *known = Some(renewed);
                term.extend(end);
                return Ok(());
            }
            Put::Overtaken => {
                *known = None;
                term.end();
            }
        }
    }
    Err(Error::new(ErrorKind::Conflict, "another writer took over the table after the lease expired")
        .with_context("file", &lease.path))
}

impl fmt::Debug for HeldLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldLease")
            .field("path", &self.lease.path.as_ref())
            .field("owner", &self.lease.owner)
            .finish()
    }
}

#[async_trait]
impl HeldLock for HeldLease {
    /// A renewal is sufficient proof, because it succeeds only if the file is unchanged.
    async fn verify(&self) -> Result<()> {
        renew(&self.lease, &mut *self.known.lock().await, &self.term).await
    }

    fn watch(&self) -> Option<Arc<dyn LeaseWatch>> {
        Some(self.term.clone())
    }

    fn abandon(mut self: Box<Self>) {
        self.is_abandoned = true;
    }

    async fn release(self: Box<Self>) -> Result<()> {
        if self.term.remaining().is_zero() {
            // A renewal that hangs must not delay a writer that has lost the lock.
            return Ok(());
        }
        // Waits for the end of a renewal in progress.
        let mut known = self.known.lock().await;
        self.heartbeat.abort();
        match known.take() {
            Some(known) => self.lease.release(&known).await,
            None => Ok(()),
        }
    }
}

/// A dropped lease is released if possible; otherwise it expires by itself.
impl Drop for HeldLease {
    fn drop(&mut self) {
        self.heartbeat.abort();
        if self.is_abandoned {
            return;
        }
        let (lease, known) = (self.lease.clone(), Arc::clone(&self.known));
        let unsettled = lease.shared.unsettled();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Some(known) = known.lock().await.take() {
                    let _ = lease.release(&known).await;
                }
                drop(unsettled);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::FnClock;
    use object_store::{local::LocalFileSystem, memory::InMemory};

    /// Returns a clock that follows tokio's clock and starts on 1 January 2026.
    fn clock() -> Arc<dyn Clock> {
        let begun = Instant::now();
        Arc::new(FnClock(move || Timestamp::from_second(1_767_225_600).unwrap() + begun.elapsed()))
    }

    fn lock(store: &Arc<dyn ObjectStore>, clock: &Arc<dyn Clock>, seed: u64) -> StorageLock {
        StorageLock::new(store.clone(), &Path::from("lake/t"), clock.clone(), seed)
    }

    fn in_memory() -> Arc<dyn ObjectStore> {
        Arc::new(InMemory::new())
    }

    async fn file(store: &Arc<dyn ObjectStore>) -> String {
        let got = store.get(&Path::from("lake/t/.hoodie/.locks/table_lock.json")).await.unwrap();
        String::from_utf8(got.bytes().await.unwrap().to_vec()).unwrap()
    }

    const WAIT: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn the_file_says_what_hudi_says() {
        let (store, clock) = (in_memory(), clock());
        let held = lock(&store, &clock, 1).acquire(WAIT).await.unwrap();
        let held_text = file(&store).await;
        assert!(
            held_text.starts_with(r#"{"expired":false,"validUntil":1767225900000,"owner":""#),
            "{held_text}"
        );
        held.release().await.unwrap();
        assert_eq!(file(&store).await, held_text.replace("false", "true"));
    }

    #[tokio::test(start_paused = true)]
    async fn one_holder_at_a_time_and_waiting_ends_in_time() {
        let (store, clock) = (in_memory(), clock());
        let held = lock(&store, &clock, 1).acquire(WAIT).await.unwrap();
        let other = lock(&store, &clock, 2);
        let begun = Instant::now();
        let error = other.acquire(WAIT).await.unwrap_err();
        assert_eq!((error.kind(), begun.elapsed()), (ErrorKind::Conflict, WAIT));
        assert!(error.context("holder").is_some_and(|owner| owner.len() == 36));

        let waiting = tokio::spawn(async move { other.acquire(Duration::from_secs(60)).await });
        sleep(Duration::from_secs(10)).await;
        held.release().await.unwrap();
        waiting.await.unwrap().unwrap().verify().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_beating_heart_keeps_the_lease() {
        let (store, clock) = (in_memory(), clock());
        let held = lock(&store, &clock, 1).acquire(WAIT).await.unwrap();
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(lock(&store, &clock, 2).acquire(WAIT).await.unwrap_err().kind(), ErrorKind::Conflict);
        held.verify().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_lease_of_the_dead_ends_and_who_was_only_asleep_learns_it() {
        let (store, clock) = (in_memory(), clock());
        let never = LeaseTimes { heartbeat: Duration::from_secs(1_000_000), ..LeaseTimes::default() };
        let asleep = lock(&store, &clock, 1).with_times(never).acquire(WAIT).await.unwrap();
        let begun = Instant::now();
        let next = lock(&store, &clock, 2).acquire(Duration::from_secs(1000)).await.unwrap();
        // After the validity and the clock drift, plus up to one pause.
        let end = Duration::from_millis(300_501);
        assert!((end..=end + Duration::from_secs(1)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        assert_eq!(asleep.verify().await.unwrap_err().kind(), ErrorKind::Conflict);
        asleep.release().await.unwrap();
        next.verify().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_put_whose_reply_was_lost_is_ours() {
        let (store, clock) = (in_memory(), clock());
        let held = lock(&store, &clock, 1).acquire(WAIT).await.unwrap();
        // The same owner renews concurrently, as a dropped future might.
        let renewed = file(&store).await.replace("1767225900000", "1767225999000");
        store.put(&Path::from("lake/t/.hoodie/.locks/table_lock.json"), renewed.into()).await.unwrap();
        held.verify().await.unwrap();
        held.release().await.unwrap();
        lock(&store, &clock, 2).acquire(Duration::ZERO).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_lock_is_let_go() {
        let (store, clock) = (in_memory(), clock());
        drop(lock(&store, &clock, 1).acquire(WAIT).await.unwrap());
        lock(&store, &clock, 2).acquire(WAIT).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_that_start_at_once_one_wins() {
        let (store, clock) = (in_memory(), clock());
        let attempts = (0..16).map(|seed| {
            let lock = lock(&store, &clock, seed);
            tokio::spawn(async move { lock.acquire(Duration::ZERO).await })
        });
        let held: Vec<_> = futures::future::join_all(attempts)
            .await
            .into_iter()
            .filter_map(|attempt| attempt.unwrap().ok())
            .collect();
        assert_eq!(held.len(), 1);
    }

    /// Counts requests: in total, and within the last second.
    #[derive(Debug)]
    struct Counted {
        inner: Arc<dyn ObjectStore>,
        times: Arc<std::sync::Mutex<Vec<Instant>>>,
    }

    impl fmt::Display for Counted {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Counted")
        }
    }

    impl Counted {
        fn count(&self) {
            self.times.lock().unwrap().push(Instant::now());
        }
    }

    type Stored<T> = object_store::Result<T>;

    #[async_trait]
    impl ObjectStore for Counted {
        async fn put_opts(
            &self,
            path: &Path,
            payload: object_store::PutPayload,
            options: PutOptions,
        ) -> Stored<PutResult> {
            self.count();
            self.inner.put_opts(path, payload, options).await
        }

        async fn put_multipart_opts(
            &self,
            path: &Path,
            options: object_store::PutMultipartOptions,
        ) -> Stored<Box<dyn object_store::MultipartUpload>> {
            self.inner.put_multipart_opts(path, options).await
        }

        async fn get_opts(
            &self,
            path: &Path,
            options: object_store::GetOptions,
        ) -> Stored<object_store::GetResult> {
            self.count();
            self.inner.get_opts(path, options).await
        }

        fn delete_stream(
            &self,
            paths: futures::stream::BoxStream<'static, Stored<Path>>,
        ) -> futures::stream::BoxStream<'static, Stored<Path>> {
            self.inner.delete_stream(paths)
        }

        fn list(
            &self,
            prefix: Option<&Path>,
        ) -> futures::stream::BoxStream<'static, Stored<object_store::ObjectMeta>> {
            self.inner.list(prefix)
        }

        async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Stored<object_store::ListResult> {
            self.inner.list_with_delimiter(prefix).await
        }

        async fn copy_opts(&self, from: &Path, to: &Path, options: object_store::CopyOptions) -> Stored<()> {
            self.inner.copy_opts(from, to, options).await
        }
    }

    /// 100 writers wait for a minute, and then each of them writes for a second. Without back-off they would
    /// send 6,000 requests in the minute, and 100 at the moment of the release.
    #[tokio::test(start_paused = true)]
    async fn a_hundred_that_wait_do_not_stampede() {
        let times = Arc::new(std::sync::Mutex::new(Vec::new()));
        let store: Arc<dyn ObjectStore> = Arc::new(Counted { inner: in_memory(), times: times.clone() });
        let clock = clock();
        let held = lock(&store, &clock, 0).acquire(WAIT).await.unwrap();
        let waiting = (1..=100).map(|seed| {
            let lock = lock(&store, &clock, seed);
            tokio::spawn(async move {
                let held = lock.acquire(Duration::from_secs(3600)).await.unwrap();
                sleep(Duration::from_secs(1)).await;
                held.release().await.unwrap();
            })
        });
        let waiting: Vec<_> = waiting.collect();
        sleep(Duration::from_secs(60)).await;
        let released = Instant::now();
        let waited = times.lock().unwrap().len();
        assert!(waited <= 900, "{waited} requests in the first minute");
        held.release().await.unwrap();
        futures::future::try_join_all(waiting).await.unwrap();
        let all: Vec<Instant> = times.lock().unwrap().clone();
        let busiest = (0..3600_u64)
            .map(|second| {
                let from = released + Duration::from_secs(second);
                all.iter().filter(|at| (from..from + Duration::from_secs(1)).contains(at)).count()
            })
            .max();
        assert!(busiest.is_some_and(|busiest| busiest <= 40), "{busiest:?} requests in a second");
    }

    /// Collects log messages of the level WARN.
    #[derive(Clone, Default)]
    struct Warnings(Arc<std::sync::Mutex<Vec<String>>>);

    impl tracing::Subscriber for Warnings {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            *metadata.level() == tracing::Level::WARN
        }

        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }

        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

        fn event(&self, event: &tracing::Event<'_>) {
            struct Text(String);
            impl tracing::field::Visit for Text {
                fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                    self.0.push_str(&format!("{field}={value:?} "));
                }
            }
            let mut text = Text(String::new());
            event.record(&mut text);
            self.0.lock().unwrap().push(text.0);
        }

        fn enter(&self, _: &tracing::span::Id) {}

        fn exit(&self, _: &tracing::span::Id) {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_of_ten_seconds_is_logged_once_with_the_holder() {
        let warnings = Warnings::default();
        // With a single subscriber, `tracing` queries only the first thread that reaches a warning, and
        // caches the result. If that thread belongs to another test, it has no subscriber, and the warning
        // would be disabled.
        let _second = tracing::Dispatch::new(Warnings::default());
        let _guard = tracing::subscriber::set_default(warnings.clone());
        let (store, clock) = (in_memory(), clock());
        let held = lock(&store, &clock, 1).acquire(WAIT).await.unwrap();
        let other = lock(&store, &clock, 2);
        assert!(other.acquire(Duration::from_secs(9)).await.is_err());
        assert_eq!(warnings.0.lock().unwrap().len(), 0);
        let error = other.acquire(Duration::from_secs(60)).await.unwrap_err();
        let logged = warnings.0.lock().unwrap().clone();
        assert_eq!(logged.len(), 1, "{logged:?}");
        assert!(logged[0].contains(error.context("holder").unwrap()), "{logged:?}");
        assert!(logged[0].contains("table_lock.json"), "{logged:?}");
        held.release().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_lost_before_others_may_take_it_and_when_they_did() {
        let (store, clock) = (in_memory(), clock());
        let never = LeaseTimes { heartbeat: Duration::from_secs(1_000_000), ..LeaseTimes::default() };
        let asleep = lock(&store, &clock, 1).with_times(never).acquire(WAIT).await.unwrap();
        let watch = asleep.watch().unwrap();
        let begun = Instant::now();
        watch.lost().await;
        // The system's clock counts as well. It continues during the suspension.
        let about = Duration::from_secs(224)..=Duration::from_secs(225);
        assert!(about.contains(&begun.elapsed()) && watch.remaining().is_zero());
        // A renewal succeeds if no other writer has taken over.
        asleep.verify().await.unwrap();
        assert!(about.contains(&watch.remaining()));
        asleep.abandon();

        let beating = lock(&in_memory(), &clock, 1).acquire(WAIT).await.unwrap();
        let watch = beating.watch().unwrap();
        sleep(Duration::from_secs(3600)).await;
        assert!(watch.remaining() > Duration::from_secs(200));
    }

    #[tokio::test(start_paused = true)]
    async fn an_abandoned_lease_lasts_until_its_end() {
        let (store, clock) = (in_memory(), clock());
        lock(&store, &clock, 1).acquire(WAIT).await.unwrap().abandon();
        assert_eq!(lock(&store, &clock, 2).acquire(WAIT).await.unwrap_err().kind(), ErrorKind::Conflict);
        lock(&store, &clock, 2).acquire(Duration::from_secs(310)).await.unwrap();
    }

    #[tokio::test]
    async fn a_storage_without_conditional_puts_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new_with_prefix(folder.path()).unwrap());
        let lock = lock(&store, &clock(), 1);
        assert_eq!(lock.acquire(WAIT).await.unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(store.head(&lock.path).await.is_err(), "no lock is left behind");
    }
}
