//! Suspends a process at a chosen storage call, as a machine might.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use async_trait::async_trait;
use futures::{StreamExt, future::BoxFuture, stream::BoxStream};
use object_store::{ObjectMeta, ObjectStore, Result, path::Path};
use tokio::sync::watch;

use super::interposed::{Interposed, Interposer};

/// A store whose process is suspended before a call takes effect. This call and all later ones wait until the
/// process is woken.
#[derive(Clone, Debug)]
pub struct Sleepy {
    calls_left: Arc<AtomicI64>,
    awake: watch::Receiver<bool>,
}

/// Wakes a [`Sleepy`] store, and reports if it was suspended at all.
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
        let sleepy = Self { calls_left: calls_left.clone(), awake };
        (Interposed::over(inner, sleepy), Alarm { calls_left, wake })
    }

    async fn wait(&self) {
        if self.calls_left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            let mut awake = self.awake.clone();
            awake.wait_for(|awake| *awake).await.unwrap();
        }
    }
}

#[async_trait]
impl Interposer for Sleepy {
    async fn call<T: Send>(&self, call: BoxFuture<'_, Result<T>>) -> Result<T> {
        self.wait().await;
        call.await
    }

    fn list(
        &self,
        inner: &Arc<dyn ObjectStore>,
        prefix: Option<&Path>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (sleepy, inner, prefix) = (self.clone(), inner.clone(), prefix.cloned());
        let listed = async move {
            sleepy.wait().await;
            inner.list(prefix.as_ref())
        };
        futures::stream::once(listed).flatten().boxed()
    }
}
