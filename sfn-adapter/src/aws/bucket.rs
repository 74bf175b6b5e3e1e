//! The store of a bucket in S3.

use std::sync::Arc;

use hudi_scd::S3RangeCopy;
use object_store::{ObjectStore, Result, aws::AmazonS3Builder};

/// Returns the store of a bucket. Region, credentials and endpoint come from the `AWS_*` variables.
pub(super) fn bucket(name: &str) -> Result<Arc<dyn ObjectStore>> {
    Ok(S3RangeCopy::build(AmazonS3Builder::from_env().with_bucket_name(name))?.store())
}
