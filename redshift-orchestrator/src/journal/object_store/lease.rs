//! Leases: objects that prevent two processes from running the same run, or two exclusive runs of one
//! pipeline.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::future::join_all;
use jiff::Timestamp;
use object_store::{
    Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion,
    path::Path,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex as AsyncMutex, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{Inner, PAUSES, failed, may_pass};
use crate::{
    Clock, Error, ErrorKind, Result, Statement, StepKey,
    journal::{ActiveRun, Claim, RunEntry},
};

/// Timeout of the request that deletes the lease of an attempt.
const DELETE_LIMIT: Duration = Duration::from_secs(30);

impl Inner {
    /// Acquires the leases of a run or an attempt, and reads the records of the run. After an error, the
    /// leases that were acquired are released.
    pub(super) async fn claim(self: Arc<Self>, claim: Claim) -> Result<ActiveRun> {
        let mut acquired = Vec::new();
        let claimed = async {
            if claim.is_exclusive {
                acquired.push(self.acquire(self.pipeline_lease(&claim.pipeline), &claim).await?);
            }
            let path = match &claim.attempt {
                Some(key) => self.attempt_lease(key)?,
                None => self.run_lease(&claim.run),
            };
            acquired.push(self.acquire(path, &claim).await?);
            // The records are read after the lease was acquired. From then on, the previous owner cannot add
            // records.
            self.reload(&claim).await
        };
        if let Err(error) = claimed.await {
            for lease in &mut acquired {
                lease.release().await;
            }
            return Err(error);
        }
        Ok(self.active(claim, Leases(acquired.into_iter().map(AsyncMutex::new).collect())))
    }

    /// Acquires the lease of a run whose removal is to be finished. The records are not read, because some of
    /// them may already be deleted.
    pub(super) async fn claim_for_removal(self: Arc<Self>, run: &str) -> Result<ActiveRun> {
        let claim = Claim::new("", run, self.clock.now());
        let lease = self.acquire(self.run_lease(run), &claim).await?;
        Ok(self.active(claim, Leases(vec![AsyncMutex::new(lease)])))
    }

    /// Creates the guard of a claim whose leases this process holds, and starts the renewal of the leases.
    fn active(self: Arc<Self>, claim: Claim, leases: Leases) -> ActiveRun {
        let leases = Arc::new(leases);
        if claim.attempt.is_none() {
            self.leases().insert(claim.run.clone(), leases.clone());
        }
        let (held, clock, duration) = (leases.clone(), self.clock.clone(), self.lease);
        let renewal = tokio::spawn(async move { held.renew_regularly(&*clock, duration).await });
        let (held, clock) = (leases.clone(), self.clock.clone());
        let renew = move || {
            let (held, clock) = (held.clone(), clock.clone());
            async move { held.renew_all(&*clock, duration).await }
        };
        let (held, clock) = (leases.clone(), self.clock.clone());
        let is_held = move || {
            let (held, clock) = (held.clone(), clock.clone());
            async move { held.are_held(&*clock).await }
        };
        let (sender, released) = oneshot::channel();
        let active = Active { inner: self, claim, leases, renewal, released: Some(sender) };
        ActiveRun::released_by(active, async {
            let _ = released.await;
        })
        .with_renewal(renew)
        .with_check(is_held)
    }

    /// Ends the claim of a run. Does nothing if another call has claimed the run since.
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
        let (store, clock, duration) = (self.store.clone(), self.clock.clone(), self.lease);
        Lease { store, clock, duration, path, held, version, is_over: false }
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
                // Another process wrote its lease first. The next iteration reads that lease.
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
        let ours = self.leases().get(&entry.run).cloned();
        // The object is read only if this process does not hold the lease.
        let is_active = match ours {
            Some(ours) if ours.are_held(&*self.clock).await => true,
            _ => {
                let lease = Held::at(&*self.store, &self.run_lease(&entry.run)).await?;
                lease.is_some_and(|(held, _)| held.is_current(self.clock.now()))
            }
        };
        Ok(RunEntry { is_active, ..entry })
    }

    pub(super) fn run_lease(&self, run: &str) -> Path {
        self.prefix.clone().join("leases").join("runs").join(format!("{run}.json"))
    }

    /// Returns the path of an attempt's lease. Its name is a digest, because the names of run and step
    /// together can exceed the maximum length of a path.
    fn attempt_lease(&self, key: &StepKey) -> Result<Path> {
        let digest = key.client_token(None, &Statement::sql("lease"))?;
        Ok(self.prefix.clone().join("leases").join("attempts").join(format!("{}.json", digest.as_str())))
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
    clock: Arc<dyn Clock>,
    duration: Duration,
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
        // A renewal begins when two thirds of the lease are left. The timeouts of its three puts and three
        // reads add up to less, because a single request without a response must not cost the lease.
        if !self.is_over && !self.extend(until, self.duration / 10).await {
            tracing::warn!(lease = %self.path, "another process has taken over a lease");
            self.is_over = true;
        }
        !self.is_over
    }

    /// Puts the lease with the expiry `until`, in up to three attempts. Waits for each response for `limit`.
    /// Returns `false` if the object contains another lease.
    async fn extend(&mut self, until: Timestamp, limit: Duration) -> bool {
        for _ in 0..3 {
            let held = Held { expires_at: until, ..self.held.clone() };
            let put = put(&*self.store, &self.path, &held, PutMode::Update(self.version.clone()));
            match timeout(limit, put).await {
                Ok(Ok(version)) => {
                    (self.held, self.version) = (held, version);
                    return true;
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, lease = %self.path, "the renewal of a lease failed")
                }
                Err(_) => tracing::debug!(lease = %self.path, "no response to the renewal of a lease"),
            }
            // The put, or an earlier one, may have taken effect although its response was lost. The object
            // then contains this lease.
            match timeout(limit, Held::at(&*self.store, &self.path)).await {
                Ok(Ok(Some((there, version)))) if there.is(&held) => {
                    (self.held, self.version) = (there, version)
                }
                Ok(Ok(_)) => return false,
                Ok(Err(error)) => tracing::debug!(%error, "a lease cannot be read"),
                Err(_) => tracing::debug!(lease = %self.path, "a lease cannot be read in time"),
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
    /// behind would still see the lease as held. The object of an attempt is deleted instead, because no
    /// [`prune`](crate::journal::prune) would delete it later.
    async fn release(&mut self) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let is_deleted = self.held.claim.attempt.is_some() && self.delete().await;
        if !is_deleted {
            self.extend(Timestamp::UNIX_EPOCH, Duration::MAX).await;
        }
    }

    /// Deletes the object of the lease. Returns `false` if the store denied the request, so that nothing was
    /// deleted.
    ///
    /// A store deletes an object even if another process has put it. The lease is therefore first extended
    /// for longer than the delete can take: while the lease is current, no other process puts the object.
    /// After a delete without a response, the object is left until the lease expires.
    async fn delete(&mut self) -> bool {
        let until = expiry(self.clock.now(), self.duration + 2 * DELETE_LIMIT);
        if !self.extend(until, Duration::MAX).await || self.held.expires_at != until {
            return false;
        }
        match timeout(DELETE_LIMIT, self.store.delete(&self.path)).await {
            Ok(Ok(()) | Err(StoreError::NotFound { .. })) => true,
            Ok(Err(StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. })) => {
                tracing::debug!(lease = %self.path, "the store does not allow the deletion of a lease");
                false
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, lease = %self.path, "a lease could not be deleted");
                true
            }
            Err(_) => {
                tracing::warn!(lease = %self.path, "no response to the deletion of a lease");
                true
            }
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

/// Leases of a claim: the lease of the run or the attempt, and for an exclusive claim also the lease of the
/// pipeline.
pub(super) struct Leases(pub(super) Vec<AsyncMutex<Lease>>);

impl Leases {
    /// Renews the leases after each third of `duration`. Returns when this process no longer holds any of
    /// them.
    async fn renew_regularly(&self, clock: &dyn Clock, duration: Duration) {
        let mut is_held = true;
        while is_held {
            sleep(duration / 3).await;
            is_held = self.renew_each(clock, duration).await.into_iter().any(|is_held| is_held);
        }
    }

    /// Renews the leases concurrently, so that a slow request for one does not delay the others. Returns for
    /// each of them if this process still holds it.
    async fn renew_each(&self, clock: &dyn Clock, duration: Duration) -> Vec<bool> {
        let renewals = self.0.iter().map(|lease| async move {
            let mut lease = lease.lock().await;
            // The clock is read after the wait for a renewal in flight.
            let until = expiry(clock.now(), duration);
            lease.renew(until).await
        });
        join_all(renewals).await
    }

    /// Renews the leases now. Returns `true` if this process holds all of them afterwards.
    async fn renew_all(&self, clock: &dyn Clock, duration: Duration) -> bool {
        self.renew_each(clock, duration).await;
        self.are_held(clock).await
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

    /// Returns `true` if this process holds all of the leases now.
    pub(super) async fn are_held(&self, clock: &dyn Clock) -> bool {
        let leases = join_all(self.0.iter().map(AsyncMutex::lock)).await;
        // The clock is read after the wait for renewals in flight, during which a lease may have expired.
        let now = clock.now();
        leases.iter().all(|lease| !lease.is_over && lease.held.is_current(now))
    }

    /// Marks the lease at `path` as over, because its object will be deleted and must not be put again.
    pub(super) async fn forget(&self, path: &Path) {
        for lease in &self.0 {
            let mut lease = lease.lock().await;
            lease.is_over |= lease.path == *path;
        }
    }
}

/// Guard of a claim.
struct Active {
    inner: Arc<Inner>,
    claim: Claim,
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
        if self.claim.attempt.is_none() {
            self.inner.unclaim(&self.claim.run, &self.leases);
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (leases, released) = (self.leases.clone(), self.released.take());
            runtime.spawn(async move {
                leases.release_each().await;
                drop(released);
            });
        }
    }
}
