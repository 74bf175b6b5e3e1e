//! Leases: objects that prevent two processes from running the same run, or two exclusive runs of one
//! pipeline.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use jiff::Timestamp;
use object_store::{
    Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion,
    path::Path,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex as AsyncMutex, oneshot},
    task::JoinHandle,
    time::sleep,
};

use super::{Inner, PAUSES, failed, may_pass};
use crate::{
    Clock, Error, ErrorKind, Result,
    journal::{ActiveRun, Claim, RunEntry},
};

impl Inner {
    /// Acquires the leases of a run and reads its records. After an error, the leases that were acquired are
    /// released.
    pub(super) async fn claim(self: Arc<Self>, claim: Claim) -> Result<ActiveRun> {
        let mut acquired = Vec::new();
        let claimed = async {
            if claim.is_exclusive {
                acquired.push(self.acquire(self.pipeline_lease(&claim.pipeline), &claim).await?);
            }
            acquired.push(self.acquire(self.run_lease(&claim.run), &claim).await?);
            // The records are read after the lease was acquired. From then on, the previous owner cannot add
            // records.
            self.reload(&claim.run).await
        };
        if let Err(error) = claimed.await {
            for lease in &mut acquired {
                lease.release().await;
            }
            return Err(error);
        }
        Ok(self.active(claim.run, Leases(acquired.into_iter().map(AsyncMutex::new).collect())))
    }

    /// Acquires the lease of a run whose removal is to be finished. The records are not read, because some of
    /// them may already be deleted.
    pub(super) async fn claim_for_removal(self: Arc<Self>, run: &str) -> Result<ActiveRun> {
        let claim = Claim::new("", run, self.clock.now());
        let lease = self.acquire(self.run_lease(run), &claim).await?;
        Ok(self.active(claim.run, Leases(vec![AsyncMutex::new(lease)])))
    }

    /// Creates the guard of a run whose leases this process holds, and starts the renewal of the leases.
    fn active(self: Arc<Self>, run: String, leases: Leases) -> ActiveRun {
        let leases = Arc::new(leases);
        self.leases().insert(run.clone(), leases.clone());
        let (held, clock, duration) = (leases.clone(), self.clock.clone(), self.lease);
        let renewal = tokio::spawn(async move { held.renew(&*clock, duration).await });
        let (sender, released) = oneshot::channel();
        let active = Active { inner: self, run, leases, renewal, released: Some(sender) };
        ActiveRun::released_by(active, async {
            let _ = released.await;
        })
    }

    /// Ends the claim of a guard. Does nothing if another call has claimed the run since.
    fn unclaim(&self, run: &str, leases: &Arc<Leases>) {
        {
            let mut claimed = self.leases();
            if claimed.get(run).is_some_and(|current| Arc::ptr_eq(current, leases)) {
                claimed.remove(run);
            }
        }
        self.forget(run);
    }

    fn lease(&self, path: Path, held: Held, version: UpdateVersion) -> Lease {
        Lease { store: self.store.clone(), path, held, version, is_over: false }
    }

    /// Acquires the lease at `path`.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Overlap`] if another process, or another claim of this process, holds the lease.
    async fn acquire(&self, path: Path, claim: &Claim) -> Result<Lease> {
        // One number for all puts of this call, each of which may take effect although its response is lost.
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        let mut pauses = PAUSES.into_iter();
        loop {
            let now = self.clock.now();
            let held = Held {
                claim: claim.clone(),
                writer: self.writer.clone(),
                number,
                expires_at: expiry(now, self.lease),
            };
            let mode = match Held::at(&*self.store, &path).await? {
                None => PutMode::Create,
                // An earlier put of this call took effect, but its response was lost.
                Some((other, version)) if other.is(&held) => return Ok(self.lease(path, other, version)),
                Some((other, _)) if other.excludes(&self.writer, now) => {
                    return Err(other.claim.refusal().with_context("expires_at", other.expires_at));
                }
                Some((other, _)) if other.writer == self.writer && other.is_current(now) => {
                    return Err(other.claim.refusal());
                }
                Some((_, version)) => PutMode::Update(version),
            };
            match put(&*self.store, &path, &held, mode).await {
                Ok(version) => {
                    return Ok(self.lease(path, held, version));
                }
                // Another process put its lease first. The next iteration reads that lease.
                Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {}
                Err(error) => match pauses.next().filter(|_| may_pass(&error)) {
                    Some(pause) => sleep(pause).await,
                    None => return Err(failed("the lease cannot be acquired", &path, error)),
                },
            }
        }
    }

    /// Sets [`RunEntry::is_active`] to `true` if a process holds the lease of the run.
    pub(super) async fn with_lease_of(&self, entry: RunEntry) -> Result<RunEntry> {
        let lease = Held::at(&*self.store, &self.run_lease(&entry.run)).await?;
        let is_active = lease.is_some_and(|(held, _)| held.is_current(self.clock.now()));
        Ok(RunEntry { is_active, ..entry })
    }

    pub(super) fn run_lease(&self, run: &str) -> Path {
        self.prefix.clone().join("leases").join("runs").join(format!("{run}.json"))
    }

    fn pipeline_lease(&self, pipeline: &str) -> Path {
        self.prefix.clone().join("leases").join("pipelines").join(format!("{pipeline}.json"))
    }
}

/// Content of a lease's object.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Held {
    #[serde(flatten)]
    claim: Claim,
    writer: String,
    #[serde(default)]
    number: u64,
    expires_at: Timestamp,
}

impl Held {
    /// Returns `true` if both values belong to one lease. They can differ in `expires_at`, which changes with
    /// each renewal.
    fn is(&self, other: &Self) -> bool {
        (&self.writer, self.number, &self.claim) == (&other.writer, other.number, &other.claim)
    }

    /// Returns `true` if the lease has not expired at the time `now`.
    fn is_current(&self, now: Timestamp) -> bool {
        self.expires_at > now
    }

    /// Returns `true` if a process other than `writer` holds the lease at the time `now`.
    pub(super) fn excludes(&self, writer: &str, now: Timestamp) -> bool {
        self.writer != writer && self.is_current(now)
    }

    /// Reads the lease at `path`. Returns `None` if there is no object.
    pub(super) async fn at(store: &dyn ObjectStore, path: &Path) -> Result<Option<(Self, UpdateVersion)>> {
        let object = match store.get(path).await {
            Ok(object) => object,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed("the lease cannot be read", path, error)),
        };
        let version =
            UpdateVersion { e_tag: object.meta.e_tag.clone(), version: object.meta.version.clone() };
        let text = object.bytes().await.map_err(|error| failed("the lease cannot be read", path, error))?;
        let held = serde_json::from_slice(&text).map_err(|error| {
            Error::new(
                ErrorKind::Journal,
                "the object is not a lease of this version; delete it if no run is active",
            )
            .with_context("object", path)
            .with_source(error)
        })?;
        Ok(Some((held, version)))
    }
}

/// Lease held by this process.
pub(super) struct Lease {
    store: Arc<dyn ObjectStore>,
    path: Path,
    held: Held,
    version: UpdateVersion,
    /// `true` if the lease was released, its object was deleted, or another process holds it. A renewal that
    /// waited for the lock must then not renew the lease.
    is_over: bool,
}

impl Lease {
    /// Renews the lease until the time `until`. Returns `false` if [`is_over`](Self::is_over) is set.
    async fn renew(&mut self, until: Timestamp) -> bool {
        if !self.is_over && !self.extend(until).await {
            tracing::warn!(lease = %self.path, "another process has taken over a lease");
            self.is_over = true;
        }
        !self.is_over
    }

    async fn extend(&mut self, until: Timestamp) -> bool {
        for _ in 0..3 {
            let held = Held { expires_at: until, ..self.held.clone() };
            match put(&*self.store, &self.path, &held, PutMode::Update(self.version.clone())).await {
                Ok(version) => {
                    (self.held, self.version) = (held, version);
                    return true;
                }
                Err(error) => {
                    tracing::debug!(%error, lease = %self.path, "no response to the renewal of a lease")
                }
            }
            // The put, or an earlier one, may have taken effect although its response was lost. The object
            // then contains this lease.
            match Held::at(&*self.store, &self.path).await {
                Ok(Some((there, version))) if there.is(&held) => (self.held, self.version) = (there, version),
                Ok(_) => return false,
                Err(error) => tracing::debug!(%error, "a lease cannot be read"),
            }
            if self.held.expires_at == until {
                return true;
            }
        }
        // The lease has not expired yet, and the next renewal may succeed.
        tracing::warn!(lease = %self.path, "a lease could not be renewed");
        true
    }

    /// Releases the lease by setting its expiry to 1970. With the current time, a process whose clock is
    /// behind would still see the lease as held.
    async fn release(&mut self) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.extend(Timestamp::UNIX_EPOCH).await;
        }
    }
}

fn expiry(now: Timestamp, lease: Duration) -> Timestamp {
    now.saturating_add(lease).unwrap_or(Timestamp::MAX)
}

async fn put(
    store: &dyn ObjectStore,
    path: &Path,
    held: &Held,
    mode: PutMode,
) -> Result<UpdateVersion, StoreError> {
    let text = serde_json::to_vec(held)
        .map_err(|error| StoreError::Generic { store: "journal", source: Box::new(error) })?;
    store.put_opts(path, PutPayload::from(text), PutOptions::from(mode)).await.map(UpdateVersion::from)
}

/// Leases of an active run: the lease of the run, and for an exclusive claim also the lease of the pipeline.
pub(super) struct Leases(pub(super) Vec<AsyncMutex<Lease>>);

impl Leases {
    /// Renews the leases after each third of `duration`. Returns when this process no longer holds any of
    /// them.
    async fn renew(&self, clock: &dyn Clock, duration: Duration) {
        let mut is_held = true;
        while is_held {
            sleep(duration / 3).await;
            is_held = false;
            for lease in &self.0 {
                is_held |= lease.lock().await.renew(expiry(clock.now(), duration)).await;
            }
        }
    }

    /// Releases the leases in a separate task, which continues if the caller's future is dropped.
    pub(super) async fn release(self: Arc<Self>) {
        let released = tokio::spawn(async move { self.release_each().await });
        // The task cannot panic. An error only means that the runtime is shutting down.
        let _ = released.await;
    }

    async fn release_each(&self) {
        for lease in &self.0 {
            lease.lock().await.release().await;
        }
    }

    /// Returns `true` if this process holds all of the leases at the time `now`.
    pub(super) async fn are_held(&self, now: Timestamp) -> bool {
        for lease in &self.0 {
            let lease = lease.lock().await;
            if lease.is_over || !lease.held.is_current(now) {
                return false;
            }
        }
        true
    }

    /// Marks the lease at `path` as over, because its object will be deleted and must not be put again.
    pub(super) async fn forget(&self, path: &Path) {
        for lease in &self.0 {
            let mut lease = lease.lock().await;
            lease.is_over |= lease.path == *path;
        }
    }
}

/// Guard of an active run.
struct Active {
    inner: Arc<Inner>,
    run: String,
    leases: Arc<Leases>,
    renewal: JoinHandle<()>,
    /// Dropped after the leases were released, which completes [`ActiveRun::release`].
    released: Option<oneshot::Sender<()>>,
}

impl Drop for Active {
    /// Releases the leases in a task. Without a runtime, the leases are not released but expire. If the run
    /// has ended, its leases are already released, and another call may have claimed the run again.
    fn drop(&mut self) {
        self.renewal.abort();
        self.inner.unclaim(&self.run, &self.leases);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (leases, released) = (self.leases.clone(), self.released.take());
            runtime.spawn(async move {
                leases.release_each().await;
                drop(released);
            });
        }
    }
}
