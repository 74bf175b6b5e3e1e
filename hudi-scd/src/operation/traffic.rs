//! [`Traffic`]: the requests of an operation, counted in front of the storage.
//!
//! Requests are counted as S3 bills them: a page of a listing has 1,000 files, and a delete request has up to
//! 1,000 keys. Retries inside the storage's client are not counted.

use std::{
    fmt,
    future::Future,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload,
    OBJECT_STORE_COALESCE_DEFAULT, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, Result, UploadPart,
    multipart::{MultipartStore, PartId},
    path::Path,
};

use crate::range_copy::RangeCopy;

/// Number of keys in a page of a listing, and in a delete request.
const KEYS: usize = 1_000;

tokio::task_local! {
    /// The operation for which the current task works.
    static CURRENT: Arc<Counters>;
}

/// The requests of an operation.
#[derive(Debug, Default)]
pub(super) struct Traffic(Arc<Counters>);

/// The numbers of requests of an operation so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) bytes_read: u64,
    pub(super) bytes_sent: u64,
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    bytes_read: AtomicU64,
    bytes_sent: AtomicU64,
}

impl Traffic {
    /// Counts the requests that this work sends.
    pub(super) fn count<T>(&self, work: impl Future<Output = T>) -> impl Future<Output = T> {
        CURRENT.scope(self.0.clone(), work)
    }

    pub(super) fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { requests, bytes_read, bytes_sent } = &*self.0;
        Counts { requests: read(requests), bytes_read: read(bytes_read), bytes_sent: read(bytes_sent) }
    }
}

/// Counts the requests of a spawned task for the current operation.
pub(crate) fn also_counted<T>(task: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
    let current = CURRENT.try_with(Clone::clone).ok();
    async move {
        match current {
            Some(current) => CURRENT.scope(current, task).await,
            None => task.await,
        }
    }
}

/// Adds requests and bytes to the current operation.
fn note(requests: u64, bytes_read: u64, bytes_sent: u64) {
    // A request outside of an operation, such as listing the timeline for a catalog, is not counted.
    let _ = CURRENT.try_with(|current| {
        current.requests.fetch_add(requests, Ordering::Relaxed);
        current.bytes_read.fetch_add(bytes_read, Ordering::Relaxed);
        current.bytes_sent.fetch_add(bytes_sent, Ordering::Relaxed);
    });
}

fn sent(payload: &PutPayload) {
    note(1, 0, payload.content_length() as u64);
}

/// Counts one request per thousand items of a stream. If `even_if_empty`, an empty page counts as a request
/// too.
fn paged<T: Send + 'static>(
    items: BoxStream<'static, Result<T>>,
    even_if_empty: bool,
) -> BoxStream<'static, Result<T>> {
    if even_if_empty {
        note(1, 0, 0);
    }
    let counted = items.enumerate().map(move |(number, item)| {
        let begins_page = number.is_multiple_of(KEYS) && (number > 0 || !even_if_empty);
        if begins_page {
            note(1, 0, 0);
        }
        item
    });
    counted.boxed()
}

/// A store that counts its requests.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    inner: Arc<dyn ObjectStore>,
}

impl Counted {
    pub(crate) fn over(inner: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        Arc::new(Self { inner })
    }
}

/// Displays the inner store, because counting does not change it.
impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Counted {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        sent(&payload);
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        note(1, 0, 0);
        let upload = self.inner.put_multipart_opts(path, options).await?;
        Ok(Box::new(CountedUpload { inner: upload }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let is_head = options.head;
        let found = self.inner.get_opts(path, options).await;
        let bytes = found.as_ref().map_or(0, |found| found.range.end - found.range.start);
        note(1, if is_head { 0 } else { bytes }, 0);
        found
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let (requests, bytes) = coalesced(ranges);
        note(requests, bytes, 0);
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paged(paths, false))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        paged(self.inner.list(prefix), true)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        paged(self.inner.list_with_offset(prefix, offset), true)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let listed = self.inner.list_with_delimiter(prefix).await;
        let names = listed.as_ref().map_or(0, |listed| listed.objects.len() + listed.common_prefixes.len());
        note(names.div_ceil(KEYS).max(1) as u64, 0, 0);
        listed
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let copied = self.inner.copy_opts(from, to, options).await;
        // The client itself rejects a kind of copy that the service does not have.
        if !matches!(copied, Err(object_store::Error::NotSupported { .. })) {
            note(1, 0, 0);
        }
        copied
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        note(1, 0, 0);
        self.inner.rename_opts(from, to, options).await
    }
}

/// Returns the number of requests for some ranges of a file, and their size in bytes. The storage's client
/// fetches ranges that are close to each other in one request.
fn coalesced(ranges: &[Range<u64>]) -> (u64, u64) {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable_by_key(|range| range.start);
    let (mut requests, mut bytes, mut end) = (0, 0, None);
    for range in sorted {
        match end {
            Some(before) if range.start <= before + OBJECT_STORE_COALESCE_DEFAULT => {
                bytes += range.end.saturating_sub(before);
                end = Some(range.end.max(before));
            }
            _ => {
                requests += 1;
                bytes += range.end.saturating_sub(range.start);
                end = Some(range.end);
            }
        }
    }
    (requests, bytes)
}

#[derive(Debug)]
struct CountedUpload {
    inner: Box<dyn MultipartUpload>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl MultipartUpload for CountedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        sent(&data);
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        note(1, 0, 0);
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        note(1, 0, 0);
        self.inner.abort().await
    }
}

/// A [`RangeCopy`] that counts its requests.
#[derive(Debug)]
pub(crate) struct CountedRangeCopy {
    inner: Arc<dyn RangeCopy>,
}

impl CountedRangeCopy {
    pub(crate) fn over(inner: Arc<dyn RangeCopy>) -> Arc<dyn RangeCopy> {
        Arc::new(Self { inner })
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl MultipartStore for CountedRangeCopy {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        note(1, 0, 0);
        self.inner.create_multipart(path).await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part_idx: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        sent(&data);
        self.inner.put_part(path, id, part_idx, data).await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        note(1, 0, 0);
        self.inner.complete_multipart(path, id, parts).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        note(1, 0, 0);
        self.inner.abort_multipart(path, id).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl RangeCopy for CountedRangeCopy {
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
    ) -> Result<PartId> {
        note(1, 0, 0);
        self.inner.copy_part(path, id, part_idx, from, range).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_ranges_are_one_request() {
        let far = OBJECT_STORE_COALESCE_DEFAULT + 1;
        assert_eq!(coalesced(&[]), (0, 0));
        assert_eq!(coalesced(&[10..20, 0..10]), (1, 20));
        assert_eq!(coalesced(&[0..10, 20..30]), (1, 30), "the gap is received, too");
        assert_eq!(coalesced(&[0..10, 10 + far..20 + far]), (2, 20));
        assert_eq!(coalesced(&[0..100, 10..20]), (1, 100), "a range within another one");
    }
}
