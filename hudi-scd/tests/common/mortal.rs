//! Dying at a chosen storage call.

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
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, path::Path,
};

/// A store whose process dies at a call: that call and all later ones fail. Or one of which a single call fails.
#[derive(Clone)]
pub struct Mortal {
    inner: Arc<dyn ObjectStore>,
    calls_left: Arc<AtomicI64>,
    /// Whether the call at which it dies still takes effect.
    last_one_counts: bool,
    /// Whether the calls after it get through again.
    lives_on: bool,
}

impl Mortal {
    pub fn after(
        inner: Arc<dyn ObjectStore>,
        calls: i64,
        last_one_counts: bool,
    ) -> (Arc<dyn ObjectStore>, Arc<AtomicI64>) {
        Self::over(inner, calls, last_one_counts, false)
    }

    /// A single call fails; if it counts, only its reply is lost.
    pub fn stumbling_after(
        inner: Arc<dyn ObjectStore>,
        calls: i64,
        it_counts: bool,
    ) -> (Arc<dyn ObjectStore>, Arc<AtomicI64>) {
        Self::over(inner, calls, it_counts, true)
    }

    fn over(
        inner: Arc<dyn ObjectStore>,
        calls: i64,
        last_one_counts: bool,
        lives_on: bool,
    ) -> (Arc<dyn ObjectStore>, Arc<AtomicI64>) {
        let calls_left = Arc::new(AtomicI64::new(calls));
        (Arc::new(Self { inner, calls_left: calls_left.clone(), last_one_counts, lives_on }), calls_left)
    }

    fn call(&self) -> Life {
        match self.calls_left.fetch_sub(1, Ordering::SeqCst) {
            1.. => Life::Alive,
            0 if self.last_one_counts => Life::Dying,
            ..0 if self.lives_on => Life::Alive,
            _ => Life::Dead,
        }
    }
}

enum Life {
    Alive,
    Dying,
    Dead,
}

fn died<T>() -> Result<T> {
    Err(object_store::Error::Generic { store: "mortal", source: "the process died".into() })
}

impl fmt::Debug for Mortal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mortal")
    }
}

impl fmt::Display for Mortal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mortal({})", self.inner)
    }
}

macro_rules! live {
    ($self:ident, $call:expr) => {
        match $self.call() {
            Life::Alive => $call.await,
            Life::Dying => {
                drop($call.await);
                died()
            }
            Life::Dead => died(),
        }
    };
}

#[async_trait::async_trait]
impl ObjectStore for Mortal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        live!(self, self.inner.put_opts(location, payload, opts))
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        live!(self, self.inner.put_multipart_opts(location, opts))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        live!(self, self.inner.get_opts(location, options))
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        live!(self, self.inner.get_ranges(location, ranges))
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let mortal = self.clone();
        let delete = move |location: Result<Path>| {
            let mortal = mortal.clone();
            async move {
                let location = location?;
                live!(mortal, object_store::ObjectStoreExt::delete(&mortal.inner, &location))
                    .map(|()| location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.call() {
            Life::Alive => self.inner.list(prefix),
            _ => futures::stream::once(async { died() }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        live!(self, self.inner.list_with_delimiter(prefix))
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        live!(self, self.inner.copy_opts(from, to, options))
    }
}
