//! Leases: objects by which the processes exclude each other.

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
use tokio::{sync::Mutex as AsyncMutex, task::JoinHandle, time::sleep};

use super::{Inner, PAUSES, failed, may_pass};
use crate::{
    Clock, Error, ErrorKind, Result,
    journal::{Claim, RunEntry},
};

impl Inner {
    /// Acquires the lease at `path`, unless another process holds it.
    pub(super) async fn take(&self, path: Path, claim: &Claim) -> Result<Lease> {
        let mut put_before: Option<Held> = None;
        let mut pauses = PAUSES.into_iter();
        loop {
            let now = self.clock.now();
            let held = Held {
                claim: claim.clone(),
                writer: self.writer.clone(),
                number: self.taken.fetch_add(1, Ordering::Relaxed),
                expires_at: expiry(now, self.lease),
            };
            let mode = match Held::at(&*self.store, &path).await? {
                None => PutMode::Create,
                // The response to an earlier put of this process was lost.
                Some((other, version)) if put_before.as_ref().is_some_and(|put| put.is(&other)) => {
                    return Ok(Lease {
                        store: self.store.clone(),
                        path,
                        held: other,
                        version,
                        is_released: false,
                    });
                }
                Some((other, _)) if other.writer != self.writer && other.expires_at > now => {
                    return Err(other.claim.refusal().with_context("expires_at", other.expires_at));
                }
                Some((other, _)) if other.writer == self.writer && other.expires_at > now => {
                    return Err(other.claim.refusal());
                }
                Some((_, version)) => PutMode::Update(version),
            };
            match put(&*self.store, &path, &held, mode).await {
                Ok(version) => {
                    return Ok(Lease { store: self.store.clone(), path, held, version, is_released: false });
                }
                // Another process was faster; the loop reads its lease.
                Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {}
                Err(error) => match pauses.next().filter(|_| may_pass(&error)) {
                    Some(pause) => sleep(pause).await,
                    None => return Err(failed("the lease cannot be acquired", &path, error)),
                },
            }
            // The put may have taken effect, and would then exclude this process itself.
            put_before = Some(held);
        }
    }

    /// Sets whether a process is running the run.
    pub(super) async fn with_lease_of(&self, entry: RunEntry) -> Result<RunEntry> {
        let lease = Held::at(&*self.store, &self.run_lease(&entry.run)).await?;
        let is_active = lease.is_some_and(|(held, _)| held.expires_at > self.clock.now());
        Ok(RunEntry { is_active, ..entry })
    }

    pub(super) fn run_lease(&self, run: &str) -> Path {
        self.prefix.clone().join("leases").join("runs").join(format!("{run}.json"))
    }

    pub(super) fn pipeline_lease(&self, pipeline: &str) -> Path {
        self.prefix.clone().join("leases").join("pipelines").join(format!("{pipeline}.json"))
    }
}

/// Content of a lease's object.
#[derive(Clone, Serialize, Deserialize)]
struct Held {
    #[serde(flatten)]
    claim: Claim,
    writer: String,
    #[serde(default)]
    number: u64,
    expires_at: Timestamp,
}

impl Held {
    /// Returns `true` if both are the same lease; the time of the renewal is ignored.
    fn is(&self, other: &Self) -> bool {
        (&self.writer, self.number, &self.claim) == (&other.writer, other.number, &other.claim)
    }

    /// Reads the lease at `path`, if there is one.
    async fn at(store: &dyn ObjectStore, path: &Path) -> Result<Option<(Self, UpdateVersion)>> {
        let answer = match store.get(path).await {
            Ok(answer) => answer,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed("the lease cannot be read", path, error)),
        };
        let version =
            UpdateVersion { e_tag: answer.meta.e_tag.clone(), version: answer.meta.version.clone() };
        let text = answer.bytes().await.map_err(|error| failed("the lease cannot be read", path, error))?;
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
    /// Set on release, because a renewal may wait for the lock during the release.
    pub(super) is_released: bool,
}

impl Lease {
    /// Extends the lease. Returns `false` if it was released or another process holds it.
    async fn renew(&mut self, until: Timestamp) -> bool {
        !self.is_released && self.extend(until).await
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
            // The response to this put or an earlier one may have been lost; an equal lease is the one of
            // this process.
            match Held::at(&*self.store, &self.path).await {
                Ok(Some((there, version))) if there.is(&held) => (self.held, self.version) = (there, version),
                Ok(_) => return false,
                Err(error) => tracing::debug!(%error, "a lease cannot be read"),
            }
            if self.held.expires_at == until {
                return true;
            }
        }
        // The lease is still valid, and the next renewal may succeed.
        tracing::warn!(lease = %self.path, "a lease could not be renewed");
        true
    }

    /// Sets the expiry to a time long past, so that a process whose clock is behind this one's can acquire
    /// the lease immediately, too.
    pub(super) async fn release(&mut self) {
        self.is_released = true;
        self.extend(Timestamp::UNIX_EPOCH).await;
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

/// Renews leases for as long as this process holds them.
pub(super) async fn renew(leases: Vec<Arc<AsyncMutex<Lease>>>, clock: Arc<dyn Clock>, lease: Duration) {
    loop {
        sleep(lease / 3).await;
        for held in &leases {
            let mut held = held.lock().await;
            if !held.renew(expiry(clock.now(), lease)).await {
                if !held.is_released {
                    tracing::warn!("another process has taken over the run");
                }
                return;
            }
        }
    }
}

/// Stops the renewal when the run is dropped.
pub(super) struct Renewal {
    pub(super) inner: Arc<Inner>,
    pub(super) run: String,
    pub(super) task: JoinHandle<()>,
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.task.abort();
        // A run that ended has released its leases. The leases of a dropped run are released here if a
        // runtime is available, and expire otherwise.
        let leases = self.inner.leases().remove(&self.run).unwrap_or_default();
        if let (false, Ok(runtime)) = (leases.is_empty(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                for lease in leases {
                    lease.lock().await.release().await;
                }
            });
        }
    }
}
