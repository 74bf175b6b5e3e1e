//! [`Turn`]: the exclusive right to change a table.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::SignedDuration;
use object_store::path::Path;
use tokio::sync::OnceCell;

use super::{Context, stored::Stored};
use crate::{
    Result,
    cancellation::{Cancellation, Writing},
    layout::AUXILIARY_FOLDER,
    lock::HeldLock,
    snapshot::{Changes, View},
    storage::{
        self,
        fence::{InFlight, Stop},
    },
    timeline::{Instant, Timeline},
};

/// The time for which a check of the lock is valid for the upkeep after a commit.
const CONFIRMED: Duration = Duration::from_secs(1);

impl Context {
    /// Waits for the exclusive right to change the table.
    pub(crate) async fn turn(&self) -> Result<Turn<'_>> {
        self.properties.check_version_writable()?;
        let local = self.writing.lock().await;
        let options = &self.options;
        let cancellation = options.cancellation.as_ref();
        let acquire = async {
            match &self.lock {
                Some(lock) => lock.acquire(options.lock_wait).await.map(Some),
                None => Ok(None),
            }
        };
        let writing = cancellation.map(Cancellation::writing);
        let held = tokio::select! {
            biased;
            () = cancelled(cancellation) => Err(Stop::Cancelled.error()),
            held = acquire => held,
        };
        if let (Err(_), Some(lock)) = (&held, &self.lock) {
            // The request that acquires the lock may be in flight.
            lock.settled().await;
        }
        let held = held?;
        self.fence.arm(held.as_ref().and_then(|held| held.watch()));
        let stored = match Stored::read(self).await {
            Ok(stored) => stored,
            Err(error) => {
                self.fence.disarm();
                release(held).await;
                return Err(error);
            }
        };
        let (metadata, view) = (Mutex::new(Metadata::Unchecked), Mutex::default());
        Ok(Turn {
            held,
            context: self,
            stored,
            metadata,
            view,
            tombstone_files: OnceCell::new(),
            verified: Mutex::default(),
            _writing: writing,
            _local: local,
        })
    }

    /// Runs work in a turn, as an operation with this name.
    pub(crate) async fn in_turn<T>(
        &self,
        name: &'static str,
        work: impl AsyncFnOnce(&Turn<'_>) -> Result<T>,
    ) -> Result<T> {
        let work = Box::pin(async {
            let turn = self.turn().await?;
            let done = turn.run(Box::pin(work(&turn))).await;
            turn.end().await;
            done
        });
        self.begin_change(name).run(work).await
    }

    /// Waits until the second of this handle's newest instant is over, for tables whose own Hudi release
    /// counts in seconds. Otherwise, the next instant of that Hudi in the same second would be older than
    /// this crate's instant.
    async fn outlast_second(&self) {
        let minted = self.minted.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(minted) = minted.filter(|_| self.version().has_instants_of_seconds()) else { return };
        let next = Instant::from_timestamp(
            self.options.clock.now() + SignedDuration::from_secs(1),
            &self.properties.zone,
        );
        let second = |instant: Instant| instant.as_str()[..14].to_owned();
        if second(next) <= second(minted) {
            // If the clock lags behind the timeline by more than a second, do not wait for it.
            return;
        }
        let now = self.options.clock.now();
        if second(Instant::from_timestamp(now, &self.properties.zone)) <= second(minted) {
            let into = now.subsec_nanosecond().unsigned_abs();
            tokio::time::sleep(Duration::from_nanos(1_000_000_000 - u64::from(into.min(999_999_999)))).await;
        }
    }
}

/// The exclusive right to change a table. It ends when this value is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    held: Option<Box<dyn HeldLock>>,
    context: &'a Context,
    stored: Stored,
    metadata: Mutex<Metadata>,
    view: Mutex<Option<Arc<View>>>,
    /// The files of deleted keys and of hidden rows, after they have been listed.
    tombstone_files: OnceCell<Vec<Path>>,
    /// The time of the last successful check of the lock.
    verified: Mutex<Option<tokio::time::Instant>>,
    _writing: Option<Writing>,
    _local: tokio::sync::MutexGuard<'a, ()>,
}

/// The state of the metadata table in a turn.
#[derive(Debug)]
enum Metadata {
    Unchecked,
    /// The metadata table was checked, and these indexes were dropped, if there were any.
    Dropped(Vec<String>),
}

impl Turn<'_> {
    /// Returns the view of the table in this turn. The timeline is listed only once, because no other turn
    /// completes actions while this turn holds the lock.
    pub(crate) async fn view(&self) -> Result<Arc<View>> {
        if let Some(view) = self.cached_view().clone() {
            return Ok(view);
        }
        let view = self.context.view().await?;
        *self.cached_view() = Some(view.clone());
        Ok(view)
    }

    /// Moves the view forward after an action of this turn. `act` applies the effect of the action to the
    /// timeline. The view is changed in place if the caller has dropped its own copies.
    pub(crate) async fn advance(&self, act: impl FnOnce(&mut Timeline), changes: Changes) {
        let before = self.cached_view().take();
        let mut known = self.context.known.lock().await;
        known.view = None;
        known.changes += 1;
        let Some(before) = before else { return };
        let before = Arc::unwrap_or_clone(before);
        let mut timeline = before.timeline.clone();
        act(&mut timeline);
        let view = before.forward(timeline, changes, self.context.version()).map(Arc::new);
        known.view.clone_from(&view);
        *self.cached_view() = view;
    }

    /// Makes the next view list the timeline again, after a change of the timeline that changed no file.
    pub(crate) fn relist(&self) {
        *self.cached_view() = None;
    }

    /// Makes the next view list the table's folders again.
    pub(crate) async fn forget_view(&self) {
        self.relist();
        self.context.forget_view().await;
    }

    fn cached_view(&self) -> std::sync::MutexGuard<'_, Option<Arc<View>>> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks, before an irreversible step, that no other writer has taken over.
    pub(crate) async fn verify(&self) -> Result<()> {
        let Some(held) = &self.held else { return Ok(()) };
        let now = tokio::time::Instant::now();
        held.verify().await?;
        *self.verified() = Some(now);
        Ok(())
    }

    /// Like [`Turn::verify`], but skips the check if there was one within the last second. Use it for the
    /// upkeep that follows a commit.
    pub(crate) async fn confirm(&self) -> Result<()> {
        let verified = *self.verified();
        match verified {
            Some(at) if at.elapsed() < CONFIRMED => Ok(()),
            _ => self.verify().await,
        }
    }

    fn verified(&self) -> std::sync::MutexGuard<'_, Option<tokio::time::Instant>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the files of deleted keys and of hidden rows at the start of the turn. They are listed only
    /// once.
    pub(crate) async fn tombstone_files(&self) -> Result<Vec<Path>> {
        let list = || async {
            if !self.view().await?.timeline.has_folder(AUXILIARY_FOLDER) {
                return Ok(Vec::new());
            }
            let folder = self.context.layout.tombstone_folder()?;
            let listed = storage::list_folder(self.context.store(), &folder).await?;
            Ok(listed.objects.into_iter().map(|file| file.location).collect())
        };
        self.tombstone_files.get_or_try_init(list).await.cloned()
    }

    /// Runs the work of this turn until the lease is lost, the heartbeat of its commit expires, or the caller
    /// cancels it. Work that is stopped sends nothing further. It is dropped after the changes in flight have
    /// taken effect or failed.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let fence = &self.context.fence;
        let mut work = std::pin::pin!(work);
        let stop = tokio::select! {
            biased;
            done = &mut work => return done,
            stop = fence.over() => stop,
            () = cancelled(self.context.options.cancellation.as_ref()) => Stop::Cancelled,
        };
        fence.stop(stop);
        tokio::select! {
            biased;
            done = &mut work => done,
            () = fence.quiet() => Err(stop.error()),
        }
    }

    /// Refuses all further changes of the turn, because a part of it has failed.
    pub(crate) fn fail(&self) {
        self.context.fence.stop(Stop::Failed);
    }

    /// Counts a change of several calls as in flight, so that [`Turn::run`] drops the work only after all of
    /// them.
    pub(crate) fn hold(&self) -> InFlight {
        self.context.fence.hold()
    }

    /// Deletes files of the table, and the checksums that Hadoop may have written next to them. Before each
    /// thousand files, checks that no other writer has taken over. Returns the files that existed, or all if
    /// the storage does not report this.
    pub(crate) async fn delete_files(&self, view: &View, relatives: Vec<String>) -> Result<HashSet<String>> {
        let mut deleted = HashSet::new();
        for some in relatives.chunks(1_000) {
            self.verify().await?;
            deleted.extend(self.context.delete_files(view, some.to_vec()).await?);
        }
        Ok(deleted)
    }

    /// Returns the properties of the table at the start of the turn.
    pub(crate) fn stored(&self) -> &Stored {
        &self.stored
    }

    /// Returns `true` if the metadata table has not been checked in this turn yet.
    pub(crate) fn is_metadata_unchecked(&self) -> bool {
        matches!(*self.metadata(), Metadata::Unchecked)
    }

    pub(crate) fn set_dropped(&self, partitions: Vec<String>) {
        *self.metadata() = Metadata::Dropped(partitions);
    }

    /// Returns the indexes of the metadata table that this turn dropped.
    pub(crate) fn dropped(&self) -> Vec<String> {
        match &*self.metadata() {
            Metadata::Unchecked => Vec::new(),
            Metadata::Dropped(partitions) => partitions.clone(),
        }
    }

    fn metadata(&self) -> std::sync::MutexGuard<'_, Metadata> {
        self.metadata.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases the lock. A failure is only logged, because the changes are complete, and the lease expires
    /// by itself.
    pub(crate) async fn end(mut self) {
        if !is_cancelled(self.context) {
            self.context.outlast_second().await;
        }
        release(self.disarmed()).await;
    }

    /// Ends the protection by the fence. Returns the lock if it may be released. If a change was dropped and
    /// may still take effect, the lease is left to expire by itself.
    fn disarmed(&mut self) -> Option<Box<dyn HeldLock>> {
        let held = self.held.take();
        if !self.context.fence.disarm() {
            return held;
        }
        if let Some(held) = held {
            let path = self.context.root();
            tracing::warn!(%path, "a change may still take effect, so the lock is kept until its lease expires");
            held.abandon();
        }
        None
    }
}

/// The future of a turn may be dropped while a change is in flight.
impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.held.is_some() {
            drop(self.disarmed());
        }
    }
}

fn is_cancelled(context: &Context) -> bool {
    context.options.cancellation.as_ref().is_some_and(Cancellation::is_cancelled)
}

/// Waits until the caller cancels. Without a cancellation, waits forever.
pub(crate) async fn cancelled(cancellation: Option<&Cancellation>) {
    match cancellation {
        Some(cancellation) => cancellation.cancelled().await,
        None => std::future::pending().await,
    }
}

async fn release(held: Option<Box<dyn HeldLock>>) {
    if let Some(held) = held
        && let Err(error) = held.release().await
    {
        tracing::warn!(%error, "the table's lock could not be released");
    }
}
