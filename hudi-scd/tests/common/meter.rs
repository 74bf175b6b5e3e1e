//! Measures the requests to a storage: those that S3's client would send, by kind and key, and the bytes in
//! each direction.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart, path::Path,
};

/// Number of keys in a page of a listing, and in a delete request.
const KEYS: usize = 1_000;

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Get,
    Head,
    List,
    Put,
    /// The start or the completion of a multipart upload.
    Upload,
    Part,
    Copy,
    Delete,
}

/// A request, and the number of content bytes that it sent and received.
#[derive(Clone, Debug)]
pub struct Request {
    pub kind: Kind,
    /// The key, or the prefix of a listing.
    pub path: String,
    pub up: u64,
    pub down: u64,
}

impl Request {
    pub fn is_of_base_file(&self) -> bool {
        self.path.ends_with(".parquet")
    }
}

/// The requests during some time.
#[derive(Clone, Debug, Default)]
pub struct Requests(pub Vec<Request>);

impl Requests {
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Request> {
        self.0.iter().filter(move |request| request.kind == kind)
    }

    /// Returns the bytes of base files that were received, or would be if every response were read to its
    /// end.
    pub fn base_file_bytes(&self) -> u64 {
        self.0.iter().filter(|request| request.is_of_base_file()).map(|request| request.down).sum()
    }
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Request { kind, path, up, down } in &self.0 {
            writeln!(f, "{kind:?} {path} up {up} down {down}")?;
        }
        write!(f, "{} requests", self.0.len())
    }
}

/// See the module. Clones share their counts.
#[derive(Clone, Debug)]
pub struct Meter {
    inner: Arc<dyn ObjectStore>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Meter {
    pub fn over(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, requests: Arc::default() }
    }

    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(self.clone())
    }

    /// Returns the requests since the last call.
    pub fn lap(&self) -> Requests {
        Requests(std::mem::take(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn note(&self, kind: Kind, path: &str, up: u64, down: u64) {
        let request = Request { kind, path: path.to_owned(), up, down };
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    }

    /// Records a request for each page of a listing.
    fn listed(
        &self,
        prefix: Option<&Path>,
        objects: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (meter, prefix) = (self.clone(), prefix.map(ToString::to_string).unwrap_or_default());
        meter.note(Kind::List, &prefix, 0, 0);
        let counted = objects.enumerate().map(move |(number, object)| {
            if number > 0 && number.is_multiple_of(KEYS) {
                meter.note(Kind::List, &prefix, 0, 0);
            }
            object
        });
        counted.boxed()
    }
}

impl fmt::Display for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Meter({})", self.inner)
    }
}

/// Ranges of a file are requested one by one, after ranges that are close to each other were joined. This is
/// how the trait's own implementation and S3's client do it.
#[async_trait]
impl ObjectStore for Meter {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.note(Kind::Put, path.as_ref(), payload.content_length() as u64, 0);
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.note(Kind::Upload, path.as_ref(), 0, 0);
        let upload = self.inner.put_multipart_opts(path, options).await?;
        Ok(Box::new(MeteredUpload { upload, meter: self.clone(), path: path.clone() }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let is_head = options.head;
        let found = self.inner.get_opts(path, options).await;
        let down = found.as_ref().map_or(0, |found| found.range.end - found.range.start);
        match is_head {
            true => self.note(Kind::Head, path.as_ref(), 0, 0),
            false => self.note(Kind::Get, path.as_ref(), 0, down),
        }
        found
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let meter = self.clone();
        let batches = paths.try_chunks(KEYS).map_err(|error| error.1);
        let deleted = batches.map_ok(move |batch| {
            meter.note(Kind::Delete, batch[0].as_ref(), 0, 0);
            meter.inner.delete_stream(stream::iter(batch.into_iter().map(Ok)).boxed())
        });
        deleted.try_flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(prefix, self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(prefix, self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let listed = self.inner.list_with_delimiter(prefix).await?;
        let pages = (listed.objects.len() + listed.common_prefixes.len()).div_ceil(KEYS).max(1);
        for _page in 0..pages {
            self.note(Kind::List, prefix.map_or("", AsRef::as_ref), 0, 0);
        }
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let copied = self.inner.copy_opts(from, to, options).await;
        // The client itself rejects a kind of copy that the service does not have.
        if !matches!(copied, Err(Error::NotSupported { .. })) {
            self.note(Kind::Copy, to.as_ref(), 0, 0);
        }
        copied
    }
}

#[derive(Debug)]
struct MeteredUpload {
    upload: Box<dyn MultipartUpload>,
    meter: Meter,
    path: Path,
}

#[async_trait]
impl MultipartUpload for MeteredUpload {
    fn put_part(&mut self, part: PutPayload) -> UploadPart {
        self.meter.note(Kind::Part, self.path.as_ref(), part.content_length() as u64, 0);
        self.upload.put_part(part)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.meter.note(Kind::Upload, self.path.as_ref(), 0, 0);
        self.upload.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.meter.note(Kind::Upload, self.path.as_ref(), 0, 0);
        self.upload.abort().await
    }
}
