//! A storage that counts the bytes of base files that are read, or would be if their responses were read
//! completely.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use futures::{future::BoxFuture, stream::BoxStream};
use object_store::{GetOptions, GetResult, ObjectMeta, ObjectStore, Result, path::Path};

use super::interposed::{Interposed, Interposer};

/// The bytes read from base files.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    bytes: Arc<AtomicU64>,
}

impl Counted {
    pub fn over(inner: Arc<dyn ObjectStore>) -> (Arc<dyn ObjectStore>, Self) {
        let counted = Self::default();
        (Interposed::over(inner, counted.clone()), counted)
    }

    /// Returns the bytes read since the last call.
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
