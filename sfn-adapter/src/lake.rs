//! [`Lake`]: the Hudi table of a function, and the buckets of raw files.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use hudi_scd::{Result, Table, TableOptions, object_store::ObjectStore};

/// Opens the table of a function, and the buckets of raw files.
///
/// # For implementors
///
/// The table is opened for each invocation, because its options contain the deadline of the invocation.
#[async_trait]
pub trait Lake: fmt::Debug + Send + Sync {
    /// Opens the table.
    async fn table(&self, options: TableOptions) -> Result<Table>;

    /// Opens a bucket.
    fn bucket(&self, name: &str) -> Result<Arc<dyn ObjectStore>>;
}
