//! [`S3Lake`]: a table and raw files in S3.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use hudi_scd::{Error, ErrorKind, Result, Table, TableOptions, object_store::ObjectStore};

use super::bucket::bucket;
use crate::Lake;

/// A table at a URL, and raw files in S3. Region, credentials and endpoint come from the `AWS_*` variables.
#[derive(Debug)]
pub struct S3Lake {
    url: String,
    buckets: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl S3Lake {
    /// Creates the lake with the table at `url`: `s3://bucket/folder`, or the path of a folder.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), buckets: Mutex::default() }
    }
}

#[async_trait]
impl Lake for S3Lake {
    async fn table(&self, options: TableOptions) -> Result<Table> {
        const NONE: [(&str, &str); 0] = [];
        Table::open_url_with(&self.url, NONE, options).await
    }

    fn bucket(&self, name: &str) -> Result<Arc<dyn ObjectStore>> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get(name) {
            return Ok(bucket.clone());
        }
        let bucket = bucket(name).map_err(|cause| {
            Error::new(ErrorKind::Storage, "the bucket cannot be used")
                .with_context("bucket", name)
                .with_source(cause)
        })?;
        buckets.insert(name.to_owned(), bucket.clone());
        Ok(bucket)
    }
}
