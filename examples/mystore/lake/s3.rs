//! Tables on S3, with the environment's endpoint and credentials, or on a local server.

use std::sync::Arc;

use anyhow::{Context, Result};
use futures::TryStreamExt;
use hudi_scd::{S3RangeCopy, TableOptions};
use object_store::{
    ObjectStore, ObjectStoreExt,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    path::Path,
};

use super::{Place, S3Folder};
use crate::catalog::{LOCAL_KEY, LOCAL_REGION, is_local};

/// Returns a run's folder in a bucket. The bucket of a local server is created if necessary.
pub(super) async fn place(s3: &S3Folder, run_id: &str) -> Result<Place> {
    let storage = S3RangeCopy::build(builder(s3)).with_context(|| format!("connecting to {s3}"))?;
    let store: Arc<dyn ObjectStore> = storage.store();
    if s3.endpoint.as_deref().is_some_and(is_local) {
        ensure_bucket(store.as_ref()).await.with_context(|| format!("creating the bucket of {s3}"))?;
    }
    Ok(Place {
        store,
        root: Path::parse(format!("{}/{run_id}", s3.folder).trim_start_matches('/'))?,
        bucket: Some(format!("s3://{}", s3.bucket)),
        options: TableOptions::new().with_range_copy(Arc::new(storage)),
    })
}

fn builder(s3: &S3Folder) -> AmazonS3Builder {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(&s3.bucket);
    let Some(endpoint) = &s3.endpoint else { return builder };
    builder = builder.with_endpoint(endpoint).with_allow_http(is_local(endpoint));
    if !is_local(endpoint) {
        return builder;
    }
    if builder.get_config_value(&AmazonS3ConfigKey::AccessKeyId).is_none() {
        builder = builder.with_access_key_id(LOCAL_KEY).with_secret_access_key(LOCAL_KEY);
    }
    if builder.get_config_value(&AmazonS3ConfigKey::Region).is_none() {
        builder = builder.with_region(LOCAL_REGION);
    }
    builder
}

/// Creates the bucket of a store unless it can be listed.
async fn ensure_bucket(store: &dyn ObjectStore) -> Result<()> {
    if store.list(None).try_next().await.is_err() {
        // S3 creates a bucket on the PUT of its URL, which is that of an object without a name. The response lacks
        // the entity tag of an object, so it counts as an error.
        let _ = store.put(&Path::default(), Vec::new().into()).await;
        store.list(None).try_next().await?;
    }
    Ok(())
}
