//! A store in which it takes time to write a base file.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use object_store::{ObjectStore, PutOptions, PutPayload, PutResult, Result, path::Path};
use tokio::time::sleep;

use super::interposed::{Interposed, Interposer};

/// A store in which the writing of each base file takes this time.
#[derive(Clone, Debug)]
pub struct SlowFiles(Duration);

impl SlowFiles {
    pub fn over(inner: Arc<dyn ObjectStore>, takes: Duration) -> Arc<dyn ObjectStore> {
        Interposed::over(inner, Self(takes))
    }
}

#[async_trait]
impl Interposer for SlowFiles {
    async fn put(
        &self,
        inner: &dyn ObjectStore,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if location.extension() == Some("parquet") {
            sleep(self.0).await;
        }
        inner.put_opts(location, payload, options).await
    }
}
