//! Falling asleep at a chosen storage call, as a process does that the machine stops for a while.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, path::Path,
};
use tokio::sync::watch;

/// A store whose process falls asleep before a call takes effect, and with it all later calls, until it is woken.
#[derive(Clone)]
pub struct Sleepy {
    inner: Arc<dyn ObjectStore>,
    calls_left: Arc<AtomicI64>,
    awake: watch::Receiver<bool>,
}

/// Wakes a [`Sleepy`] store, and knows whether it fell asleep at all.
pub struct Alarm {
    calls_left: Arc<AtomicI64>,
    wake: watch::Sender<bool>,
}

impl Alarm {
    pub fn slept(&self) -> bool {
        self.calls_left.load(Ordering::SeqCst) < 0
    }

    pub fn ring(&self) {
        self.wake.send_replace(true);
    }
}

impl Sleepy {
    pub fn after(inner: Arc<dyn ObjectStore>, calls: i64) -> (Arc<dyn ObjectStore>, Alarm) {
        let calls_left = Arc::new(AtomicI64::new(calls));
        let (wake, awake) = watch::channel(false);
        (Arc::new(Self { inner, calls_left: calls_left.clone(), awake }), Alarm { calls_left, wake })
    }

    async fn call(&self) {
        if self.calls_left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            let mut awake = self.awake.clone();
            awake.wait_for(|awake| *awake).await.unwrap();
        }
    }
}

impl fmt::Debug for Sleepy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sleepy")
    }
}

impl fmt::Display for Sleepy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sleepy({})", self.inner)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Sleepy {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.call().await;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.call().await;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.call().await;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.call().await;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let sleepy = self.clone();
        let delete = move |location: Result<Path>| {
            let sleepy = sleepy.clone();
            async move {
                let location = location?;
                sleepy.call().await;
                sleepy.inner.delete(&location).await.map(|()| location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (sleepy, prefix) = (self.clone(), prefix.cloned());
        let listed = async move {
            sleepy.call().await;
            sleepy.inner.list(prefix.as_ref())
        };
        futures::stream::once(listed).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.call().await;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.call().await;
        self.inner.copy_opts(from, to, options).await
    }
}
