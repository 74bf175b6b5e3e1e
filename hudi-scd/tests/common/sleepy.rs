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

/// A store whose process is suspended at a call, before or after the call takes effect. This call and all
/// later ones wait until the process is woken.
#[derive(Clone, Debug)]
pub struct Sleepy {
    calls_left: Arc<AtomicI64>,
    /// `true` if the call at which the process is suspended takes effect before that.
    last_one_counts: bool,
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
        Self::over(inner, calls, false)
    }

    /// Suspends the process before the response of a call that takes effect.
    pub fn before_reply_after(inner: Arc<dyn ObjectStore>, calls: i64) -> (Arc<dyn ObjectStore>, Alarm) {
        Self::over(inner, calls, true)
    }

    fn over(inner: Arc<dyn ObjectStore>, calls: i64, last_one_counts: bool) -> (Arc<dyn ObjectStore>, Alarm) {
        let calls_left = Arc::new(AtomicI64::new(calls));
        let (wake, awake) = watch::channel(false);
        let sleepy = Self { calls_left: calls_left.clone(), last_one_counts, awake };
        (Interposed::over(inner, sleepy), Alarm { calls_left, wake })
    }

    async fn wait(&self) {
        let mut awake = self.awake.clone();
        awake.wait_for(|awake| *awake).await.unwrap();
    }
}

#[async_trait]
impl Interposer for Sleepy {
    async fn call<T: Send>(&self, call: BoxFuture<'_, Result<T>>) -> Result<T> {
        match self.calls_left.fetch_sub(1, Ordering::SeqCst) {
            1.. => call.await,
            0 if self.last_one_counts => {
                let done = call.await;
                self.wait().await;
                done
            }
            ..=0 => {
                self.wait().await;
                call.await
            }
        }
    }

    fn list(
        &self,
        inner: &Arc<dyn ObjectStore>,
        prefix: Option<&Path>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (sleepy, inner, prefix) = (self.clone(), inner.clone(), prefix.cloned());
        let listed = async move {
            if sleepy.calls_left.fetch_sub(1, Ordering::SeqCst) <= 0 {
                sleepy.wait().await;
            }
            inner.list(prefix.as_ref())
        };
        futures::stream::once(listed).flatten().boxed()
    }
}
