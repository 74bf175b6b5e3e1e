//! [`CatalogSync`]: keeps a catalog in step with the table.

use std::fmt;

use async_trait::async_trait;
use tokio::time::Instant as Stopwatch;

use crate::{CommitReport, Error, ErrorKind, Result, Table, table};

/// Brings a catalog to the table's state. It runs after each write of a handle with
/// [`TableOptions::with_catalog_sync`](crate::TableOptions::with_catalog_sync).
///
/// For implementors: the call is made outside of the table's lock, so several may run at once, and another
/// writer may commit meanwhile. Compare the catalog with the table as it is now, and change nothing if they
/// agree. The call is also made after a write without a commit, because an earlier sync may have failed. For
/// callers: the feature `glue` has [`GlueSync`](crate::glue::GlueSync).
#[async_trait]
pub trait CatalogSync: fmt::Debug + Send + Sync {
    /// Brings the catalog to the table's state, and returns a human-readable line on the result.
    ///
    /// # Errors
    /// Any error ends up in [`CommitReport::upkeep_failed`]; the commit is valid, and the next write repeats
    /// the sync. If the future is dropped, the sync is incomplete in the same way.
    async fn sync(&self, table: &Table) -> Result<String>;
}

impl Table {
    /// Syncs the catalog after a write. A cancelled write does not wait for it.
    pub(crate) async fn sync_catalog(&self, report: &mut CommitReport) {
        let options = &self.inner.options;
        let Some(catalog) = &options.catalog_sync else { return };
        let began = Stopwatch::now();
        let synced = tokio::select! {
            biased;
            () = table::cancelled(options.cancellation.as_ref()) => {
                Err(Error::new(ErrorKind::Cancelled, "the caller cancelled before the catalog was up to date"))
            }
            synced = catalog.sync(self) => synced,
        };
        report.time.catalog = began.elapsed();
        match synced {
            Ok(line) => report.catalog_synced = Some(line),
            Err(error) => {
                tracing::warn!(%error, "the catalog was not synchronized");
                report.upkeep_failed.push(format!("catalog: {error}"));
            }
        }
    }
}
