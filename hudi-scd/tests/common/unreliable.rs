//! A storage with network faults: calls that fail before or after they take effect, false conflicts, slow
//! listings.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, future::BoxFuture, stream::BoxStream};
use object_store::{
    Error, ObjectMeta, ObjectStore, PutMode, PutOptions, PutPayload, PutResult, Result, path::Path,
};

use super::interposed::{Interposed, Interposer};

/// A store whose calls fail with a fixed probability. The failures are generated from a seed.
#[derive(Clone, Debug)]
pub struct Unreliable {
    chance: f64,
    random: Arc<Mutex<fastrand::Rng>>,
}

/// The outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Fine,
    /// The call succeeds after a delay.
    Slow,
    /// The service is unavailable: nothing happened.
    Unavailable,
    /// The response is lost. The call took effect.
    ReplyLost,
    /// The underlying client lost the response and repeated the call, so a conditional put conflicts with
    /// itself.
    MeetsItself,
}

impl Unreliable {
    pub fn over(inner: Arc<dyn ObjectStore>, chance: f64, seed: u64) -> Arc<dyn ObjectStore> {
        let random = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)));
        Interposed::over(inner, Self { chance, random })
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

impl Fate {
    async fn befall<T: Send>(self, call: BoxFuture<'_, Result<T>>) -> Result<T> {
        match self {
            Self::Fine => call.await,
            Self::Slow => {
                tokio::time::sleep(Duration::from_secs(20)).await;
                call.await
            }
            Self::Unavailable => failed("503 SlowDown"),
            Self::ReplyLost | Self::MeetsItself => {
                drop(call.await);
                failed("the connection was reset")
            }
        }
    }
}

fn failed<T>(why: &'static str) -> Result<T> {
    Err(Error::Generic { store: "unreliable", source: why.into() })
}

#[async_trait]
impl Interposer for Unreliable {
    async fn call<T: Send>(&self, call: BoxFuture<'_, Result<T>>) -> Result<T> {
        self.fate().befall(call).await
    }

    /// A listing may fail in the middle.
    fn list(
        &self,
        inner: &Arc<dyn ObjectStore>,
        prefix: Option<&Path>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed = inner.list(prefix);
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

    async fn put(
        &self,
        inner: &dyn ObjectStore,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let fate = self.fate();
        if fate == Fate::MeetsItself && options.mode != PutMode::Overwrite {
            inner.put_opts(location, payload.clone(), options.clone()).await?;
            return inner.put_opts(location, payload, options).await;
        }
        fate.befall(inner.put_opts(location, payload, options)).await
    }
}
