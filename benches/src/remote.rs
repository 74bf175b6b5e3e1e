//! Simulates a remote object storage: keeps objects in memory, delays each request like a network, and counts
//! requests and bytes.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, TryStreamExt, stream, stream::BoxStream};
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
    memory::InMemory, path::Path,
};

/// Latency of a request.
pub(crate) const REQUEST: Duration = Duration::from_millis(30);
/// Throughput of one stream in bytes per second.
pub(crate) const RATE: f64 = 80e6;
/// Number of keys in a page of a listing, and in a delete request.
const KEYS: usize = 1_000;

/// Number of requests, and their bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Number of requests.
    pub requests: u64,
    /// Bytes received.
    pub down: u64,
    /// Bytes sent.
    pub up: u64,
}

/// The storage. Clones share its objects and its counts.
#[derive(Clone, Debug, Default)]
pub struct Remote {
    inner: Arc<InMemory>,
    counts: Arc<[AtomicU64; 3]>,
    is_near: bool,
}

impl Remote {
    /// Returns the same storage without delays, to fill it.
    #[must_use]
    pub fn near(&self) -> Self {
        Self { is_near: true, ..self.clone() }
    }

    /// Returns the traffic since the last call.
    pub fn lap(&self) -> Traffic {
        let [requests, down, up] =
            [0, 1, 2].map(|count: usize| self.counts[count].swap(0, Ordering::Relaxed));
        Traffic { requests, down, up }
    }

    async fn request(&self, down: u64, up: u64) {
        for (count, by) in self.counts.iter().zip([1, down, up]) {
            count.fetch_add(by, Ordering::Relaxed);
        }
        if !self.is_near {
            tokio::time::sleep(REQUEST + Duration::from_secs_f64((down + up) as f64 / RATE)).await;
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remote")
    }
}

#[async_trait]
impl ObjectStore for Remote {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.request(0, payload.content_length() as u64).await;
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.request(0, 0).await;
        let upload = self.inner.put_multipart_opts(path, options).await?;
        Ok(Box::new(RemoteUpload { upload, remote: self.clone() }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let is_head = options.head;
        let found = self.inner.get_opts(path, options).await;
        let bytes = found.as_ref().map_or(0, |found| found.range.end - found.range.start);
        self.request(if is_head { 0 } else { bytes }, 0).await;
        found
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let remote = self.clone();
        let deleted = paths.try_chunks(KEYS).map_err(|error| error.1).and_then(move |batch| {
            let remote = remote.clone();
            async move {
                remote.request(0, 0).await;
                Ok(remote.inner.delete_stream(stream::iter(batch.into_iter().map(Ok)).boxed()))
            }
        });
        deleted.try_flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.paged(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.paged(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let listed = self.inner.list_with_delimiter(prefix).await?;
        for _page in 0..(listed.objects.len() + listed.common_prefixes.len()).div_ceil(KEYS).max(1) {
            self.request(0, 0).await;
        }
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        if options.mode == CopyMode::Create {
            return Err(Error::NotSupported {
                source: "the simulated storage cannot copy only if the target is absent".into(),
            });
        }
        self.request(0, 0).await;
        self.inner.copy_opts(from, to, options).await
    }
}

impl Remote {
    fn paged(
        &self,
        objects: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let remote = self.clone();
        let first = remote.clone();
        let begin = stream::once(async move { first.request(0, 0).await }).filter_map(|()| async { None });
        let paged = objects.enumerate().then(move |(number, object)| {
            let remote = remote.clone();
            async move {
                if number > 0 && number % KEYS == 0 {
                    remote.request(0, 0).await;
                }
                object
            }
        });
        begin.chain(paged).boxed()
    }
}

#[derive(Debug)]
struct RemoteUpload {
    upload: Box<dyn MultipartUpload>,
    remote: Remote,
}

#[async_trait]
impl MultipartUpload for RemoteUpload {
    fn put_part(&mut self, part: PutPayload) -> UploadPart {
        let (remote, bytes) = (self.remote.clone(), part.content_length() as u64);
        let put = self.upload.put_part(part);
        async move {
            remote.request(0, bytes).await;
            put.await
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.remote.request(0, 0).await;
        self.upload.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.remote.request(0, 0).await;
        self.upload.abort().await
    }
}
