//! [`GlueSync`]: a sync after each write.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{catalog::Catalog, options::SyncOptions, sync::sync};
use crate::{CatalogSync, Error, ErrorKind, Result, Table};

/// Registers the table in the Glue catalog after each write through its handle.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use hudi_scd::{Table, TableOptions, glue::{GlueCatalog, GlueSync, SyncOptions}};
/// # async fn example(sdk: aws_sdk_glue::Client) -> hudi_scd::Result<()> {
/// let url = "s3://bucket/lake/customer";
/// let sync = GlueSync::new(Arc::new(GlueCatalog::new(sdk)), SyncOptions::new("lake", url));
/// let options = TableOptions::new().with_catalog_sync(Arc::new(sync));
/// let table = Table::open_url_with(url, [("aws_region", "eu-west-1")], options).await?;
/// # Ok(())
/// # }
/// ```
///
/// After a write that changes nothing, it sends one request to the catalog.
#[derive(Clone)]
pub struct GlueSync {
    catalog: Arc<dyn Catalog>,
    options: SyncOptions,
    limit: Duration,
}

impl GlueSync {
    /// Registers the table with these options.
    pub fn new(catalog: Arc<dyn Catalog>, options: SyncOptions) -> Self {
        Self { catalog, options, limit: Duration::from_secs(60) }
    }

    /// Sets the time after which a sync is abandoned. The result of the write waits for the sync. Default:
    /// one minute. Allow more time for the first sync of a table with tens of thousands of partitions.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

impl fmt::Debug for GlueSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GlueSync").field("options", &self.options).field("limit", &self.limit).finish()
    }
}

#[async_trait]
impl CatalogSync for GlueSync {
    async fn sync(&self, table: &Table) -> Result<String> {
        let synced = tokio::time::timeout(self.limit, sync(table, self.catalog.as_ref(), &self.options));
        match synced.await {
            Ok(synced) => Ok(synced?.to_string()),
            Err(_) => Err(Error::new(
                ErrorKind::Storage,
                "the Glue catalog was not up to date within the time limit; the next sync continues",
            )
            .with_context("seconds", self.limit.as_secs_f64())),
        }
    }
}
