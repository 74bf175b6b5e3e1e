//! [`CatalogSync`]: keeps a catalog in step with the table.

use std::fmt;

use async_trait::async_trait;

use crate::{
    CommitReport, Error, ErrorKind, Result, Table,
    operation::{Operation, Phase},
    table,
};

/// Updates a catalog to match a table. It runs after each write through a handle with
/// [`TableOptions::with_catalog_sync`](crate::TableOptions::with_catalog_sync).
///
/// For implementors: `sync` is called without the table's lock, so several calls may run concurrently, and
/// another writer may commit in the meantime. Compare the catalog with the table as it is now, and change
/// nothing if they agree. `sync` is also called after a write without a commit, because an earlier sync may
/// have failed. For callers: [`GlueSync`](crate::glue::GlueSync) of the feature `glue` implements this trait.
#[async_trait]
pub trait CatalogSync: fmt::Debug + Send + Sync {
    /// Updates the catalog to match the table. Returns a human-readable line about the result.
    ///
    /// # Errors
    /// An error is reported in [`CommitReport::upkeep_failed`]. The commit is valid, and the next write
    /// repeats the sync. If the future is dropped, the sync is incomplete in the same way.
    async fn sync(&self, table: &Table) -> Result<String>;
}

impl Table {
    /// Syncs the catalog after a write. A cancelled write does not wait for the sync.
    pub(crate) async fn sync_catalog(&self, report: &mut CommitReport, operation: &Operation) {
        let options = &self.inner.options;
        let Some(catalog) = &options.catalog_sync else { return };
        operation.enter(Phase::Catalog);
        let synced = tokio::select! {
            biased;
            () = table::cancelled(options.cancellation.as_ref()) => {
                Err(Error::new(ErrorKind::Cancelled, "the caller cancelled before the catalog was up to date"))
            }
            synced = catalog.sync(self) => synced,
        };
        match synced {
            Ok(line) => report.catalog_synced = Some(line),
            Err(error) => {
                tracing::warn!(%error, "the catalog was not synchronized");
                report.upkeep_failed.push(format!("catalog: {error}"));
            }
        }
    }
}
