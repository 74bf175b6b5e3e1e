//! A storage that behaves like S3. It differs from the in-memory store: it has no `copy_if_not_exists`, does
//! not report whether a deleted key existed, deletes 1,000 keys in one request, lists page by page while keys
//! change, and stores times in whole seconds of its own clock. Under load it responds with 409 and 503, and
//! loses responses.

use std::{
    collections::HashMap,
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
    memory::InMemory, path::Path,
};
use tokio::time::{Instant, sleep};

/// Number of keys in one page of a listing. S3 has 1,000.
const PAGE: usize = 5;
/// Maximum number of keys in one delete request.
const BATCH: usize = 1_000;
/// The time between two pages of a listing.
const BETWEEN_PAGES: Duration = Duration::from_millis(20);

/// The requests that a store received, by kind.
#[derive(Debug, Default)]
pub struct Requests {
    pub get: AtomicU64,
    pub put: AtomicU64,
    pub copy: AtomicU64,
    pub delete: AtomicU64,
    /// Pages of listings.
    pub list: AtomicU64,
}

impl Requests {
    /// Returns all requests since the last call.
    pub fn lap(&self) -> u64 {
        let kinds = [&self.get, &self.put, &self.copy, &self.delete, &self.list];
        kinds.into_iter().map(|kind| kind.swap(0, Ordering::Relaxed)).sum()
    }
}

/// See the module. Clones access the same bucket.
#[derive(Clone, Debug)]
pub struct S3 {
    objects: Arc<InMemory>,
    written: Arc<Mutex<HashMap<Path, Instant>>>,
    begun: Instant,
    requests: Arc<Requests>,
    /// The probability that a request fails.
    chance: f64,
    random: Arc<Mutex<fastrand::Rng>>,
}

impl fmt::Display for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("S3")
    }
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Fine,
    Slow,
    /// 503: nothing happened.
    SlowDown,
    /// 409: a conditional request met another one; nothing happened.
    Conflict,
    /// The request took effect, but its response is lost.
    ReplyLost,
}

impl S3 {
    /// Creates an empty bucket without faults.
    pub fn new() -> Self {
        Self {
            objects: Arc::default(),
            written: Arc::default(),
            begun: Instant::now(),
            requests: Arc::default(),
            chance: 0.0,
            random: Arc::new(Mutex::new(fastrand::Rng::with_seed(0))),
        }
    }

    /// Returns a store for the same bucket whose requests fail with a fixed probability. The failures are
    /// generated from a seed.
    pub fn unreliable(&self, chance: f64, seed: u64) -> Self {
        Self { chance, random: Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))), ..self.clone() }
    }

    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(self.clone())
    }

    /// Returns the requests of all stores for the bucket.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    fn count(kind: &AtomicU64) {
        kind.fetch_add(1, Ordering::Relaxed);
    }

    fn fate(&self) -> Fate {
        let mut random = lock(&self.random);
        if self.chance == 0.0 || random.f64() >= self.chance {
            return Fate::Fine;
        }
        [Fate::Slow, Fate::SlowDown, Fate::Conflict, Fate::ReplyLost][random.usize(..4)]
    }

    async fn answered<T>(
        &self,
        conditional: Option<&Path>,
        call: impl std::future::Future<Output = Result<T>>,
    ) -> Result<T> {
        match (self.fate(), conditional) {
            (Fate::Slow, _) => {
                sleep(Duration::from_secs(20)).await;
                call.await
            }
            (Fate::SlowDown, _) => failed("503 SlowDown"),
            (Fate::ReplyLost, _) => {
                drop(call.await);
                failed("the connection was reset")
            }
            (Fate::Conflict, Some(path)) => Err(Error::AlreadyExists {
                path: path.to_string(),
                source: "409 ConditionalRequestConflict".into(),
            }),
            (Fate::Fine | Fate::Conflict, _) => call.await,
        }
    }

    fn touch(&self, path: &Path) {
        lock(&self.written).insert(path.clone(), Instant::now());
    }

    /// Sets the time of the last write, truncated to seconds.
    fn dated(&self, mut meta: ObjectMeta) -> ObjectMeta {
        let written = lock(&self.written).get(&meta.location).copied().unwrap_or(self.begun);
        let seconds = written.duration_since(self.begun).as_secs();
        // Counted from 2026-01-01, when the clocks of these tests begin.
        meta.last_modified = epoch(&meta.last_modified) + Duration::from_secs(1_767_225_600 + seconds);
        meta
    }
}

/// Returns 1970, as a value of a type that this crate does not name.
fn epoch<T: Default>(_: &T) -> T {
    T::default()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed<T>(why: &'static str) -> Result<T> {
    Err(Error::Generic { store: "S3", source: why.into() })
}

#[async_trait]
impl ObjectStore for S3 {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        Self::count(&self.requests.put);
        let conditional = (opts.mode != PutMode::Overwrite).then_some(location);
        let put = async {
            let put = self.objects.put_opts(location, payload, opts).await?;
            self.touch(location);
            Ok(put)
        };
        self.answered(conditional, put).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Self::count(&self.requests.put);
        let upload = self.answered(None, self.objects.put_multipart_opts(location, opts)).await?;
        Ok(Box::new(Upload { upload, store: self.clone(), location: location.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        Self::count(&self.requests.get);
        let mut found = self.answered(None, self.objects.get_opts(location, options)).await?;
        found.meta = self.dated(found.meta);
        Ok(found)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        Self::count(&self.requests.get);
        self.answered(None, self.objects.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let deleted = locations.try_chunks(BATCH).map_err(|error| error.1).and_then(move |batch| {
            let store = store.clone();
            async move {
                Self::count(&store.requests.delete);
                let paths = stream::iter(batch.into_iter().map(Ok)).boxed();
                store.answered(None, store.objects.delete_stream(paths).try_collect::<Vec<_>>()).await
            }
        });
        deleted.map_ok(|batch| stream::iter(batch.into_iter().map(Ok))).try_flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_with_offset(prefix, &Path::default())
    }

    /// Each page shows the keys that exist when it is requested.
    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let pages = stream::try_unfold(Some(offset.clone()), move |after| {
            let (store, prefix) = (store.clone(), prefix.clone());
            async move {
                let Some(after) = after else { return Ok(None) };
                if after != Path::default() {
                    sleep(BETWEEN_PAGES).await;
                }
                Self::count(&store.requests.list);
                let listed = store.objects.list_with_offset(prefix.as_ref(), &after).try_collect::<Vec<_>>();
                let mut page = store.answered(None, listed).await?;
                page.sort_by(|left, right| left.location.cmp(&right.location));
                let next = page.get(PAGE - 1).map(|last| last.location.clone());
                page.truncate(PAGE);
                let page: Vec<_> = page.into_iter().map(|meta| Ok(store.dated(meta))).collect();
                Ok::<_, Error>(Some((stream::iter(page), next)))
            }
        });
        pages.try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        Self::count(&self.requests.list);
        let mut listed = self.answered(None, self.objects.list_with_delimiter(prefix)).await?;
        listed.objects = listed.objects.into_iter().map(|meta| self.dated(meta)).collect();
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        if options.mode == CopyMode::Create {
            return Err(Error::NotSupported { source: "S3 has no copy-if-not-exists".into() });
        }
        Self::count(&self.requests.copy);
        let copy = async {
            self.objects.copy_opts(from, to, options).await?;
            self.touch(to);
            Ok(())
        };
        self.answered(None, copy).await
    }
}

#[derive(Debug)]
struct Upload {
    upload: Box<dyn MultipartUpload>,
    store: S3,
    location: Path,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        S3::count(&self.store.requests.put);
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        S3::count(&self.store.requests.put);
        let put = self.upload.complete().await?;
        self.store.touch(&self.location);
        Ok(put)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}
