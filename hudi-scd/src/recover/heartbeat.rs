//! Heartbeats: files by which writers that share a table show that they are alive.
//!
//! Under optimistic concurrency control, Hudi's writers hold the lock only while they commit, and clean up
//! lazily. A pending instant counts as dead, and is rolled back, if its file `.hoodie/.heartbeat/{instant}`
//! is missing or was not written for two minutes (`HoodieHeartbeatClient`, `hoodie.client.heartbeat.*`). A
//! writer of this crate holds the lock during the whole write. For the other writers, it writes the heartbeat
//! file before the instant appears, and again every 20 seconds.
//!
//! Hudi's writers do not check the lock before they roll back. A writer of this crate whose heartbeats fail,
//! or whose process is suspended, therefore stops before the two minutes are over. A later heartbeat does not
//! revive the write, because Hudi may have begun to roll it back. `HeartbeatUtils.abortIfHeartbeatExpired` is
//! Hudi's form of this rule.
//!
//! Hudi's heartbeat files are empty, and Hudi checks only their age. The files of this crate have content. If
//! another process holds the lock, the writer of such a file is dead, however new the file is.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use crate::{
    Error, ErrorKind, Result,
    context::Context,
    layout,
    lock::{End, LeaseWatch, Term},
    operation::also_counted,
    snapshot::View,
    storage::{self, fence::Fence},
    timeline::Instant,
};

/// The time between two heartbeats. Hudi's default is a minute (`hoodie.client.heartbeat.interval_in_ms`).
const INTERVAL: Duration = Duration::from_secs(20);
/// The age at which a heartbeat counts as that of a dead writer: two of Hudi's intervals
/// (`hoodie.client.heartbeat.tolerable.misses`).
const EXPIRED: SignedDuration = SignedDuration::from_secs(120);
/// The time after a heartbeat in which a write may send changes. It is shorter than [`EXPIRED`], because a
/// request that is sent at the last moment must take effect before, and because Hudi compares the age with
/// the clock of its own machine.
const COVERS: Duration = Duration::from_secs(90);
/// The content of a heartbeat whose writer holds the table's lock during the whole write.
const UNDER_LOCK: &[u8] = b"hudi-scd";
/// The number of instants that are tried if other writers have them.
const ATTEMPTS: usize = 10;

/// The heartbeat of a commit. It stops when this value is dropped. The file then remains, as after a crash.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    instant: Instant,
    fence: Arc<Fence>,
    term: Arc<Term>,
    stop: oneshot::Sender<()>,
    beating: JoinHandle<()>,
}

impl Heartbeat {
    /// Creates an instant that is newer than `newest`, writes its first heartbeat, and starts the periodic
    /// ones. From then on, the fence of the table refuses changes if the heartbeat expires.
    ///
    /// A writer of Hudi that began in the same millisecond has the same instant. Its heartbeat must not be
    /// replaced by one of this crate, which would mark it as dead, so the next instant is tried.
    pub(crate) async fn start(context: &Context, newest: Option<Instant>) -> Result<Self> {
        let mut newest = newest;
        for _ in 0..ATTEMPTS {
            let instant = context.mint(newest)?;
            let path = context.layout().heartbeat(instant)?;
            let end = End::after(COVERS);
            if storage::create_if_absent(context.store(), &path, UNDER_LOCK.to_vec()).await? {
                return Ok(Self::beating(context, instant, path, end));
            }
            newest = Some(instant);
        }
        let folder = context.layout().heartbeat_folder()?;
        Err(Error::new(ErrorKind::Conflict, "the next instants have heartbeats of other writers")
            .with_context("folder", folder))
    }

    fn beating(context: &Context, instant: Instant, path: Path, end: End) -> Self {
        let (fence, term) = (context.fence().clone(), Arc::new(Term::new(end)));
        fence.set_heartbeat(Some(term.clone()));
        let (stop, stopped) = oneshot::channel();
        let beats = beat(context.unfenced_store().clone(), path, term.clone(), stopped);
        Self { instant, fence, term, stop, beating: tokio::spawn(also_counted(beats)) }
    }

    /// Returns the instant of the commit.
    pub(crate) fn instant(&self) -> Instant {
        self.instant
    }

    /// Returns `true` if Hudi's writers may have rolled back the commit.
    pub(crate) fn has_expired(&self) -> bool {
        self.term.remaining().is_zero()
    }

    /// Stops the heartbeat, so that the file can be deleted.
    pub(crate) async fn stop(self) {
        self.fence.set_heartbeat(None);
        drop(self.stop);
        // A heartbeat that is being written could create the file again after its deletion.
        let _ = self.beating.await;
    }
}

/// Writes heartbeats until the sender of `stopped` is dropped, or until they have expired.
async fn beat(store: Arc<dyn ObjectStore>, path: Path, term: Arc<Term>, mut stopped: oneshot::Receiver<()>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            _ = ticks.tick() => {}
        }
        let end = End::after(COVERS);
        let written = storage::write(&store, &path, UNDER_LOCK.to_vec()).await;
        if term.remaining().is_zero() {
            return;
        }
        match written {
            Ok(()) => term.extend(end),
            Err(error) => tracing::warn!(%error, "a heartbeat could not be written"),
        }
    }
}

/// Returns `true` if the writer of a pending instant is alive. The caller must hold the table's lock.
pub(crate) async fn is_alive(context: &Context, instant: Instant) -> Result<bool> {
    let path = context.layout().heartbeat(instant)?;
    let found = match context.store().get(&path).await {
        Ok(found) => found,
        Err(object_store::Error::NotFound { .. }) => return Ok(false),
        Err(cause) => return Err(storage::failed("read", &path, cause)),
    };
    let written = found.meta.last_modified.timestamp_millis();
    let content = found.bytes().await.map_err(|cause| storage::failed("read", &path, cause))?;
    if content == UNDER_LOCK {
        return Ok(false);
    }
    let written = Timestamp::from_millisecond(written).unwrap_or(Timestamp::MIN);
    Ok(storage_time(context).await?.duration_since(written) < EXPIRED)
}

/// Deletes the heartbeats of dead writers whose instants are not pending. Hudi's eager rollback leaves the
/// file behind, and a writer may die before its instant exists, or just after its commit.
///
/// The caller must hold the table's lock, and must have rolled back the pending writes of dead writers. An
/// empty file may belong to a Hudi writer that is about to request its instant. It is deleted after it has
/// expired.
pub(crate) async fn sweep(context: &Context, view: &View) -> Result<()> {
    if !view.timeline.has_folder(layout::HEARTBEAT_FOLDER) {
        return Ok(());
    }
    let (mut dead, mut by_age) = (Vec::new(), Vec::new());
    for object in storage::list_folder(context.store(), &context.layout().heartbeat_folder()?).await?.objects
    {
        let Some(name) = object.location.filename() else { continue };
        let checked = layout::checked_file(name);
        let Ok(instant) = checked.as_deref().unwrap_or(name).parse() else { continue };
        if view.is_pending(instant) {
            continue;
        }
        if checked.is_none() && object.size == UNDER_LOCK.len() as u64 {
            dead.push(object.location);
        } else {
            by_age.push(object);
        }
    }
    if !by_age.is_empty() {
        let now = storage_time(context).await?;
        let expired = by_age.into_iter().filter(|object| {
            let written = Timestamp::from_millisecond(object.last_modified.timestamp_millis());
            now.duration_since(written.unwrap_or(Timestamp::MIN)) >= EXPIRED
        });
        dead.extend(expired.map(|object| object.location));
    }
    if !dead.is_empty() {
        storage::delete_all(context.store(), dead).await?;
    }
    Ok(())
}

/// Returns the storage's time, which is used to date its files. This machine's clock may be off by minutes.
async fn storage_time(context: &Context) -> Result<Timestamp> {
    let probe = context.layout().clock_probe()?;
    storage::write(context.store(), &probe, Vec::new()).await?;
    Ok(storage::written_at(context.store(), &probe).await?.unwrap_or(Timestamp::MIN))
}
