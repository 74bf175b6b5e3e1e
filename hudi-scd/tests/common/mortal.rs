//! Simulates a crash at a chosen storage call.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use async_trait::async_trait;
use futures::{StreamExt, future::BoxFuture, stream::BoxStream};
use object_store::{ObjectMeta, ObjectStore, Result, path::Path};

use super::interposed::{Interposed, Interposer};

/// A store whose process dies at a call: that call and all later ones fail. Alternatively, only a single call
/// fails.
#[derive(Clone, Debug)]
pub struct Mortal {
    calls_left: Arc<AtomicI64>,
    /// `true` if the call at which the process dies still takes effect.
    last_one_counts: bool,
    /// `true` if the calls after the failed one succeed again.
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

    /// Fails a single call. If the call takes effect, only its response is lost.
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
        let mortal = Self { calls_left: calls_left.clone(), last_one_counts, lives_on };
        (Interposed::over(inner, mortal), calls_left)
    }

    fn life(&self) -> Life {
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

#[async_trait]
impl Interposer for Mortal {
    async fn call<T: Send>(&self, call: BoxFuture<'_, Result<T>>) -> Result<T> {
        match self.life() {
            Life::Alive => call.await,
            Life::Dying => {
                drop(call.await);
                died()
            }
            Life::Dead => died(),
        }
    }

    fn list(
        &self,
        inner: &Arc<dyn ObjectStore>,
        prefix: Option<&Path>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.life() {
            Life::Alive => inner.list(prefix),
            _ => futures::stream::once(async { died() }).boxed(),
        }
    }
}
