//! Journal of a process that dies during an append.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use redshift_orchestrator::{
    Result,
    journal::{Journal, Record},
};
use tokio::sync::Notify;

use crate::intercept::{Intercept, Intercepted};

/// Journal that hangs at one of its appends, as if the process had died. The appends for a statement are the
/// intent, the id and the outcome.
#[derive(Debug)]
pub(crate) struct Dying<J> {
    inner: J,
    left: AtomicUsize,
    after: bool,
    dead: Arc<Notify>,
}

impl<J: Journal> Dying<J> {
    /// Creates a journal that dies at append number `death`, counted from 0, before or after the append takes
    /// effect. Also returns a handle that is notified at that time.
    pub(crate) fn at(inner: J, death: usize, after: bool) -> (Intercepted<Self>, Arc<Notify>) {
        let dead = Arc::new(Notify::new());
        (Intercepted(Self { inner, left: death.into(), after, dead: dead.clone() }), dead)
    }
}

#[async_trait]
impl<J: Journal> Intercept for Dying<J> {
    fn inner(&self) -> &dyn Journal {
        &self.inner
    }

    async fn append(&self, record: Record) -> Result<()> {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 0 {
            if self.after {
                self.inner.append(record).await?;
            }
            self.dead.notify_one();
            return std::future::pending().await;
        }
        self.inner.append(record).await
    }
}
