//! Syncs the catalog after a write.

use std::sync::Arc;

use super::CommitReport;
use crate::{
    Error, ErrorKind,
    context::{Context, Table, cancelled},
    operation::{Operation, Phase},
};

/// Syncs the catalog after a write. A cancelled write does not wait for the sync.
pub(crate) async fn sync_catalog(context: &Arc<Context>, report: &mut CommitReport, operation: &Operation) {
    let options = context.options();
    let Some(catalog) = &options.catalog_sync else { return };
    operation.enter(Phase::Catalog);
    let table = Table::of(context.clone());
    let synced = tokio::select! {
        biased;
        () = cancelled(options.cancellation.as_ref()) => {
            Err(Error::new(ErrorKind::Cancelled, "the caller cancelled before the catalog was up to date"))
        }
        synced = catalog.sync(&table) => synced,
    };
    match synced {
        Ok(line) => report.catalog_synced = Some(line),
        Err(error) => {
            tracing::warn!(%error, "the catalog was not synchronized");
            report.upkeep_failed.push(format!("catalog: {error}"));
        }
    }
}
