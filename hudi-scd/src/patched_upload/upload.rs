//! [`Upload`]: stores a file from parts that are sent and parts that the storage copies.

use std::ops::Range;

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, ready},
    stream::FuturesOrdered,
};
use object_store::{MultipartId, ObjectStore, ObjectStoreExt, PutPayload, multipart::PartId, path::Path};
use tokio::sync::mpsc;

use super::{
    RangeCopies,
    writer::{CommonChunks, Part, PlannedWriter},
};
use crate::{
    Error, ErrorKind, Result,
    base_file::{Fetches, Sparse},
    concurrent::blocking,
    storage,
};

/// Maximum number of parts of a file that are in flight.
const PARTS_IN_FLIGHT: usize = 4;

/// The size of a new file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    /// Number of these bytes that were sent to the storage.
    pub(crate) sent: u64,
    /// Number of these bytes that the storage copied from the previous version.
    pub(crate) copied: u64,
}

impl Written {
    /// Creates the counts of a file that was sent as a whole.
    pub(crate) fn sent(bytes: u64) -> Self {
        Self { bytes, sent: bytes, copied: 0 }
    }
}

/// The previous version of a file that is being written.
pub(crate) struct Original {
    pub(crate) path: Path,
    pub(crate) sparse: Sparse,
    pub(crate) fetches: Fetches,
}

/// Writes a file while CPU-bound work creates it from the previous version. Returns the size of the file and
/// the work's result. The file becomes visible to readers when it is complete.
pub(crate) async fn write_copying<T: Send + 'static>(
    copies: &RangeCopies,
    store: &dyn ObjectStore,
    path: &Path,
    original: Original,
    common: CommonChunks,
    make: impl FnOnce(PlannedWriter) -> Result<(PlannedWriter, T)> + Send + 'static,
) -> Result<(Written, T)> {
    let Original { path: from, sparse, fetches } = original;
    let (give, mut take) = mpsc::channel(1);
    let writer = PlannedWriter::new(copies, common, sparse.clone(), give);
    let making = blocking(move || {
        let made = make(writer).and_then(|(writer, made)| {
            let (bytes, last) = writer.finish().map_err(|cause| {
                Error::new(ErrorKind::Storage, "a base file cannot be written").with_source(cause)
            })?;
            Ok((bytes, last, made))
        });
        // If a request failed, readers return errors about missing bytes, whose cause is that request.
        made.map_err(|error| sparse.failure().unwrap_or(error))
    });
    let mut upload = Upload::new(copies, store, path, &from);
    let storing = async {
        // The work ends when its parts are no longer received.
        let stored = upload.take(&mut take).await;
        drop(take);
        stored
    };
    let (made, stored, ()) = futures::join!(making, storing, fetches.serve(store, &from));
    let done = async {
        stored?;
        let (bytes, last, made) = made?;
        upload.finish(last).await?;
        upload.check(bytes).await?;
        Ok((Written { bytes, sent: upload.sent, copied: upload.copied }, made))
    }
    .await;
    if done.is_err() {
        upload.abort().await;
    }
    done
}

struct Upload<'a> {
    copies: &'a RangeCopies,
    store: &'a dyn ObjectStore,
    path: &'a Path,
    /// The previous version.
    from: &'a Path,
    /// Set when the first part is stored.
    id: Option<MultipartId>,
    /// The number of the next part.
    next: usize,
    in_flight: FuturesOrdered<BoxFuture<'a, object_store::Result<PartId>>>,
    stored: Vec<PartId>,
    sent: u64,
    copied: u64,
    /// `true` if a part was copied before a check had shown that copies work.
    is_unproven: bool,
}

impl<'a> Upload<'a> {
    fn new(copies: &'a RangeCopies, store: &'a dyn ObjectStore, path: &'a Path, from: &'a Path) -> Self {
        Self {
            copies,
            store,
            path,
            from,
            id: None,
            next: 0,
            in_flight: FuturesOrdered::new(),
            stored: Vec::new(),
            sent: 0,
            copied: 0,
            is_unproven: false,
        }
    }

    fn failed(&self, cause: object_store::Error) -> Error {
        storage::failed("write", self.path, cause)
    }

    /// Records the id of a stored part.
    fn keep(&mut self, stored: object_store::Result<PartId>) -> Result<()> {
        self.stored.push(stored.map_err(|cause| self.failed(cause))?);
        Ok(())
    }

    /// Stores parts until there are no more.
    async fn take(&mut self, parts: &mut mpsc::Receiver<Part>) -> Result<()> {
        loop {
            let part = tokio::select! {
                part = parts.recv() => part,
                Some(stored) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.keep(stored)?;
                    continue;
                }
            };
            match part {
                Some(part) => self.add(part).await?,
                None => return Ok(()),
            }
        }
    }

    async fn add(&mut self, part: Part) -> Result<()> {
        let range = match part {
            Part::Sent(content) => return self.send(content).await,
            Part::Copied(range) => range,
        };
        if self.copies.are_refused() {
            return self.send_stored(range).await;
        }
        let id = self.id().await?;
        let (copies, path, from, number) = (self.copies, self.path, self.from, self.next);
        let copied = range.clone();
        let copying = async move { copies.inner.copy_part(path, &id, number, from, copied).await };
        let copying = match copies.are_accepted() {
            true => copying.boxed(),
            // The first copy shows if the service supports the request. If it does not, the part is sent.
            false => {
                let copied = copying.await;
                if copies.note(&copied) {
                    return self.send_stored(range).await;
                }
                ready(copied).boxed()
            }
        };
        self.is_unproven |= !copies.are_known_to_work();
        self.copied += range.end - range.start;
        self.put(copying).await
    }

    /// Sends a range of the previous version, in several parts.
    async fn send_stored(&mut self, range: Range<u64>) -> Result<()> {
        let most = self.copies.sent_part();
        let mut start = range.start;
        while start < range.end {
            let end = if range.end - start < 2 * most { range.end } else { start + most };
            let content = self.store.get_range(self.from, start..end).await;
            let content = content.map_err(|cause| storage::failed("read", self.from, cause))?;
            self.send(content.into()).await?;
            start = end;
        }
        Ok(())
    }

    async fn send(&mut self, content: PutPayload) -> Result<()> {
        let id = self.id().await?;
        self.sent += content.content_length() as u64;
        let (copies, path, number) = (self.copies, self.path, self.next);
        self.put(async move { copies.inner.put_part(path, &id, number, content).await }.boxed()).await
    }

    /// Starts to store a part as soon as fewer than [`PARTS_IN_FLIGHT`] are in flight.
    async fn put(&mut self, part: BoxFuture<'a, object_store::Result<PartId>>) -> Result<()> {
        self.next += 1;
        self.in_flight.push_back(part);
        while self.in_flight.len() >= PARTS_IN_FLIGHT
            && let Some(stored) = self.in_flight.next().await
        {
            self.keep(stored)?;
        }
        Ok(())
    }

    async fn id(&mut self) -> Result<MultipartId> {
        if let Some(id) = &self.id {
            return Ok(id.clone());
        }
        let id = self.copies.inner.create_multipart(self.path).await.map_err(|cause| self.failed(cause))?;
        Ok(self.id.insert(id).clone())
    }

    /// Stores the last part and completes the file. A file with only one part is put with a single request.
    async fn finish(&mut self, last: Option<Part>) -> Result<()> {
        match (last, &self.id) {
            (Some(Part::Sent(content)), None) => {
                self.sent = content.content_length() as u64;
                return storage::write(self.store, self.path, content).await;
            }
            (Some(last), _) => self.add(last).await?,
            (None, _) => {}
        }
        while let Some(stored) = self.in_flight.next().await {
            self.keep(stored)?;
        }
        let id = self.id().await?;
        let stored = std::mem::take(&mut self.stored);
        let completed = self.copies.inner.complete_multipart(self.path, &id, stored).await;
        completed.map(drop).map_err(|cause| self.failed(cause))
    }

    /// Checks the size of a file with copies, because a service may ignore the range of a copy. After the
    /// first such file has the right size, no further one is checked.
    async fn check(&mut self, bytes: u64) -> Result<()> {
        if !self.is_unproven {
            return Ok(());
        }
        let found = self.store.head(self.path).await;
        let found = found.map_err(|cause| storage::failed("look for", self.path, cause))?.size;
        self.copies.note_check(found == bytes);
        if found == bytes {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Storage,
            "the storage copied different bytes than requested: repeat the write, which sends them, and set \
             `TableOptions::without_range_copy` for this storage",
        )
        .with_context("file", self.path)
        .with_context("bytes", found)
        .with_context("expected", bytes))
    }

    /// Deletes the parts of a file that cannot be completed.
    async fn abort(&mut self) {
        self.in_flight = FuturesOrdered::new();
        let Some(id) = self.id.take() else { return };
        if let Err(error) = self.copies.inner.abort_multipart(self.path, &id).await {
            tracing::warn!(file = %self.path, %error, "parts of an aborted file could not be deleted");
        }
    }
}
