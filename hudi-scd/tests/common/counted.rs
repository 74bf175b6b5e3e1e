//! A storage that counts the bytes of base files that are read of it, or would be if their replies were read to the end.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use futures::{future::BoxFuture, stream::BoxStream};
use object_store::{GetOptions, GetResult, ObjectMeta, ObjectStore, Result, path::Path};

use super::interposed::{Interposed, Interposer};

/// What was read of base files.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    bytes: Arc<AtomicU64>,
}

impl Counted {
    pub fn over(inner: Arc<dyn ObjectStore>) -> (Arc<dyn ObjectStore>, Self) {
        let counted = Self::default();
        (Interposed::over(inner, counted.clone()), counted)
    }

    /// What was read since this was asked last.
    pub fn lap(&self) -> u64 {
        self.bytes.swap(0, Ordering::Relaxed)
    }
}

#[async_trait]
impl Interposer for Counted {
    async fn call<T: Send>(&self, call: BoxFuture<'_, Result<T>>) -> Result<T> {
        call.await
    }

    fn list(
        &self,
        inner: &Arc<dyn ObjectStore>,
        prefix: Option<&Path>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        inner.list(prefix)
    }

    async fn get(&self, inner: &dyn ObjectStore, location: &Path, options: GetOptions) -> Result<GetResult> {
        let found = inner.get_opts(location, options).await?;
        if location.extension() == Some("parquet") {
            self.bytes.fetch_add(found.range.end - found.range.start, Ordering::Relaxed);
        }
        Ok(found)
    }
}
