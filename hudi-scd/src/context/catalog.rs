//! [`CatalogSync`]: keeps a catalog in step with the table.

use std::fmt;

use async_trait::async_trait;

use super::Table;
use crate::Result;

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
    ///
    /// [`CommitReport::upkeep_failed`]: crate::CommitReport::upkeep_failed
    async fn sync(&self, table: &Table) -> Result<String>;
}
