//! [`Fence`]: stops the changes of a write that lost its lease, whose heartbeat expired, or that its caller
//! cancelled.
//!
//! ```text
//! write -> Fenced store -> storage
//!             |  refuses a change once the lease or the heartbeat is over or the write is stopped,
//!             |  and counts it while it is in flight
//! ```
//!
//! A write that was stopped, or one of whose files failed, sends no further changes and waits for those in
//! flight. The lock is released after the last of them has ended.

use std::{fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, UploadPart,
    multipart::{MultipartStore, PartId},
    path::Path,
};
use tokio::sync::watch;

use crate::{Error, ErrorKind, lock::LeaseWatch, range_copy::RangeCopy};

/// The reason why a write sends no further changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The lease expired, or another writer took over the table.
    Lost,
    /// The heartbeat expired, so that Hudi's writers may roll back the write although it holds the lock.
    Silent,
    /// The caller cancelled the write.
    Cancelled,
    /// A part of the write failed, and with it the whole write.
    Failed,
}

impl Stop {
    pub(crate) fn kind(self) -> ErrorKind {
        match self {
            Self::Lost | Self::Silent => ErrorKind::Conflict,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Failed => ErrorKind::Storage,
        }
    }

    pub(crate) fn error(self) -> Error {
        Error::new(self.kind(), self.message())
    }

    /// Returns the reason why the fence refused a call. Returns `None` for other errors.
    pub(crate) fn of(error: &object_store::Error) -> Option<Self> {
        match error {
            object_store::Error::Generic { source, .. } => source.downcast_ref::<Self>().copied(),
            _ => None,
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::Lost => "the lock of the table was lost, and the write stopped",
            Self::Silent => "the heartbeat of the write expired, and the write stopped",
            Self::Cancelled => "the write was cancelled",
            Self::Failed => "another part of the write failed",
        }
    }

    fn refusal(self) -> object_store::Error {
        object_store::Error::Generic { store: "fence", source: Box::new(self) }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Stop {}

/// The state that a table's handle shares with its store.
#[derive(Debug)]
pub(crate) struct Fence {
    state: watch::Sender<State>,
    /// Number of changes that were sent and have no response yet.
    in_flight: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    lease: Option<Arc<dyn LeaseWatch>>,
    /// The heartbeat of the pending commit, if there is one.
    heartbeat: Option<Arc<dyn LeaseWatch>>,
    stopped: Option<Stop>,
    /// `true` if a change was dropped before its response.
    is_doubtful: bool,
}

impl Fence {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: watch::Sender::default(), in_flight: watch::Sender::new(0) })
    }

    /// Starts a turn under a lease. Without a lease, the turn is ended by [`Fence::stop`] or a heartbeat.
    pub(crate) fn arm(&self, lease: Option<Arc<dyn LeaseWatch>>) {
        self.state.send_replace(State { lease, ..State::default() });
    }

    /// Ends a turn. Returns `true` if one of its changes may still take effect.
    pub(crate) fn disarm(&self) -> bool {
        self.state.send_replace(State::default()).is_doubtful
    }

    /// Sets the heartbeat of the turn's commit. Without one, Hudi's writers have nothing to roll back.
    pub(crate) fn set_heartbeat(&self, heartbeat: Option<Arc<dyn LeaseWatch>>) {
        self.state.send_modify(|state| state.heartbeat = heartbeat);
    }

    /// Refuses all further changes.
    pub(crate) fn stop(&self, stop: Stop) {
        self.state.send_modify(|state| _ = state.stopped.get_or_insert(stop));
    }

    /// Waits until the lease or the heartbeat of the turn is over.
    pub(crate) async fn over(&self) -> Stop {
        let mut state = self.state.subscribe();
        loop {
            let (lease, heartbeat) = {
                let state = state.borrow_and_update();
                (state.lease.clone(), state.heartbeat.clone())
            };
            tokio::select! {
                biased;
                () = lost(lease) => return Stop::Lost,
                () = lost(heartbeat) => return Stop::Silent,
                // The sender lives as long as `self`.
                _ = state.changed() => {}
            }
        }
    }

    /// Waits until no change is in flight.
    pub(crate) async fn quiet(&self) {
        // The sender lives as long as `self`.
        let _ = self.in_flight.subscribe().wait_for(|changes| *changes == 0).await;
    }

    fn check(&self) -> object_store::Result<()> {
        let state = self.state.borrow();
        let is_over = |watch: &Option<Arc<dyn LeaseWatch>>| {
            watch.as_ref().is_some_and(|watch| watch.remaining().is_zero())
        };
        match state.stopped {
            Some(stop) => Err(stop.refusal()),
            None if is_over(&state.lease) => Err(Stop::Lost.refusal()),
            None if is_over(&state.heartbeat) => Err(Stop::Silent.refusal()),
            None => Ok(()),
        }
    }

    fn enter(self: &Arc<Self>) -> object_store::Result<InFlight> {
        self.check()?;
        Ok(self.hold())
    }

    /// Counts a change as in flight until [`InFlight::done`]. It may consist of several calls.
    pub(crate) fn hold(self: &Arc<Self>) -> InFlight {
        self.in_flight.send_modify(|changes| *changes += 1);
        InFlight { fence: self.clone(), is_done: false }
    }
}

/// Waits until a lease or heartbeat is over. Without one, waits forever.
async fn lost(watched: Option<Arc<dyn LeaseWatch>>) {
    match watched {
        Some(watched) => watched.lost().await,
        None => std::future::pending().await,
    }
}

/// A change that is in flight.
#[must_use]
pub(crate) struct InFlight {
    fence: Arc<Fence>,
    is_done: bool,
}

impl InFlight {
    pub(crate) fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.is_done {
            self.fence.state.send_modify(|state| state.is_doubtful = true);
        }
        self.fence.in_flight.send_modify(|changes| *changes -= 1);
    }
}

/// A store that sends its changes through a [`Fence`]. Reads bypass the fence.
#[derive(Clone, Debug)]
pub(crate) struct Fenced {
    inner: Arc<dyn ObjectStore>,
    fence: Arc<Fence>,
}

impl Fenced {
    pub(crate) fn over(inner: Arc<dyn ObjectStore>, fence: Arc<Fence>) -> Arc<dyn ObjectStore> {
        Arc::new(Self { inner, fence })
    }
}

impl fmt::Display for Fenced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fenced({})", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Fenced {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let change = self.fence.enter()?;
        let put = self.inner.put_opts(location, payload, options).await;
        change.done();
        put
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.fence.check()?;
        let upload = self.inner.put_multipart_opts(location, options).await?;
        Ok(Box::new(FencedUpload { inner: upload, fence: self.fence.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let change = match self.fence.enter() {
            Ok(change) => change,
            Err(refused) => return stream::once(async { Err(refused) }).boxed(),
        };
        let fence = self.fence.clone();
        let checked = locations.map(move |location| {
            fence.check()?;
            location
        });
        let deleted = self.inner.delete_stream(checked.boxed());
        stream::unfold((deleted, Some(change)), |(mut deleted, mut change)| async move {
            let Some(result) = deleted.next().await else {
                if let Some(change) = change.take() {
                    change.done();
                }
                return None;
            };
            Some((result, (deleted, change)))
        })
        .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        let change = self.fence.enter()?;
        let copied = self.inner.copy_opts(from, to, options).await;
        change.done();
        copied
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> object_store::Result<()> {
        let change = self.fence.enter()?;
        let renamed = self.inner.rename_opts(from, to, options).await;
        change.done();
        renamed
    }
}

/// A multipart upload. Its parts are invisible, so only the completion counts as a change.
#[derive(Debug)]
struct FencedUpload {
    inner: Box<dyn MultipartUpload>,
    fence: Arc<Fence>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl MultipartUpload for FencedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        if let Err(refused) = self.fence.check() {
            return Box::pin(async { Err(refused) });
        }
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> object_store::Result<PutResult> {
        let change = self.fence.enter()?;
        let completed = self.inner.complete().await;
        change.done();
        completed
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        self.inner.abort().await
    }
}

/// A [`RangeCopy`] behind a fence. Parts are invisible, so only the completion counts as a change.
#[derive(Debug)]
pub(crate) struct FencedRangeCopy {
    inner: Arc<dyn RangeCopy>,
    fence: Arc<Fence>,
}

impl FencedRangeCopy {
    pub(crate) fn over(inner: Arc<dyn RangeCopy>, fence: Arc<Fence>) -> Self {
        Self { inner, fence }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl MultipartStore for FencedRangeCopy {
    async fn create_multipart(&self, path: &Path) -> object_store::Result<MultipartId> {
        self.fence.check()?;
        self.inner.create_multipart(path).await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part_idx: usize,
        data: PutPayload,
    ) -> object_store::Result<PartId> {
        self.fence.check()?;
        self.inner.put_part(path, id, part_idx, data).await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> object_store::Result<PutResult> {
        let change = self.fence.enter()?;
        let completed = self.inner.complete_multipart(path, id, parts).await;
        change.done();
        completed
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> object_store::Result<()> {
        self.inner.abort_multipart(path, id).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl RangeCopy for FencedRangeCopy {
    fn min_part(&self) -> u64 {
        self.inner.min_part()
    }

    async fn copy_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part_idx: usize,
        from: &Path,
        range: Range<u64>,
    ) -> object_store::Result<PartId> {
        self.fence.check()?;
        self.inner.copy_part(path, id, part_idx, from, range).await
    }
}
