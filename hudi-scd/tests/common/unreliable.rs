//! A storage as networks make it: calls that fail before or after they took effect, conflicts that are none, slow lists.

use std::{
    fmt,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, path::Path,
};

/// A store whose calls fail, each with the same chance, as a seed decides.
pub struct Unreliable {
    inner: Arc<dyn ObjectStore>,
    chance: f64,
    random: Arc<Mutex<fastrand::Rng>>,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Fine,
    /// It answers after a while.
    Slow,
    /// The service is unavailable: nothing happened.
    Unavailable,
    /// The reply is lost: it happened.
    ReplyLost,
    /// A client underneath lost the reply and asked again: a conditional put meets itself.
    MeetsItself,
}

impl Unreliable {
    pub fn over(inner: Arc<dyn ObjectStore>, chance: f64, seed: u64) -> Arc<dyn ObjectStore> {
        let random = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)));
        Arc::new(Self { inner, chance, random })
    }

    fn fate(&self) -> Fate {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        if random.f64() >= self.chance {
            return Fate::Fine;
        }
        match random.u8(..4) {
            0 => Fate::Slow,
            1 => Fate::Unavailable,
            2 => Fate::ReplyLost,
            _ => Fate::MeetsItself,
        }
    }
}

fn failed<T>(why: &'static str) -> Result<T> {
    Err(Error::Generic { store: "unreliable", source: why.into() })
}

impl fmt::Debug for Unreliable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unreliable")
    }
}

impl fmt::Display for Unreliable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unreliable({})", self.inner)
    }
}

macro_rules! suffer {
    ($self:ident, $call:expr) => {
        match $self.fate() {
            Fate::Fine => $call.await,
            Fate::Slow => {
                tokio::time::sleep(Duration::from_secs(20)).await;
                $call.await
            }
            Fate::Unavailable => failed("503 SlowDown"),
            Fate::ReplyLost | Fate::MeetsItself => {
                drop($call.await);
                failed("the connection was reset")
            }
        }
    };
}

#[async_trait::async_trait]
impl ObjectStore for Unreliable {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let conditional = opts.mode != PutMode::Overwrite;
        match self.fate() {
            Fate::MeetsItself if conditional => {
                self.inner.put_opts(location, payload.clone(), opts.clone()).await?;
                self.inner.put_opts(location, payload, opts).await
            }
            Fate::Fine => self.inner.put_opts(location, payload, opts).await,
            Fate::Slow => {
                tokio::time::sleep(Duration::from_secs(20)).await;
                self.inner.put_opts(location, payload, opts).await
            }
            Fate::Unavailable => failed("503 SlowDown"),
            Fate::ReplyLost | Fate::MeetsItself => {
                drop(self.inner.put_opts(location, payload, opts).await);
                failed("the connection was reset")
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        suffer!(self, self.inner.put_multipart_opts(location, opts))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        suffer!(self, self.inner.get_opts(location, options))
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        suffer!(self, self.inner.get_ranges(location, ranges))
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, chance, random) = (self.inner.clone(), self.chance, self.random.clone());
        let delete = move |location: Result<Path>| {
            let store = Unreliable { inner: inner.clone(), chance, random: random.clone() };
            async move {
                let location = location?;
                suffer!(store, object_store::ObjectStoreExt::delete(&store.inner, &location))?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    /// A list may break off in its midst.
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed = self.inner.list(prefix);
        match self.fate() {
            Fate::Fine => listed,
            Fate::Slow => listed
                .then(|object| async {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    object
                })
                .boxed(),
            _ => listed.take(1).chain(futures::stream::once(async { failed("503 SlowDown") })).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        suffer!(self, self.inner.list_with_delimiter(prefix))
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        suffer!(self, self.inner.copy_opts(from, to, options))
    }
}
