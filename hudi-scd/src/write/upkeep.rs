//! Upkeep after a commit: the automatic clean, the automatic archival, and the sync of a catalog. A failure
//! is only reported, because the commit is valid.

use std::sync::Arc;

use super::report::CommitReport;
use crate::{
    Error, ErrorKind,
    context::{Context, Table, Turn, cancelled},
    maintain,
    operation::{Operation, Phase},
};

/// Runs the automatic clean. The commit is valid, whatever the result of the clean is.
pub(crate) async fn clean_after_commit(context: &Context, turn: &Turn<'_>, report: &mut CommitReport) {
    let Some(policy) = context.options().retention else { return };
    match Box::pin(maintain::clean_now(context, turn, policy)).await {
        Ok(cleaned) => report.cleaned = cleaned,
        // The next write completes the clean. An error of this write would wrongly tell the caller that
        // its rows were not written.
        Err(error) => {
            tracing::warn!(table = context.name(), %error, "the clean after a commit failed");
            report.upkeep_failed.push(format!("clean: {error}"));
        }
    }
}

/// Runs the automatic archival. The commit is valid, whatever the result of the archival is.
pub(crate) async fn archive_after_commit(context: &Context, turn: &Turn<'_>, report: &mut CommitReport) {
    if context.options().archive.is_none() {
        return;
    }
    match maintain::archive_now(context, turn).await {
        Ok(archived) => report.archived = archived,
        Err(error) => {
            tracing::warn!(table = context.name(), %error, "the archival after a commit failed");
            report.upkeep_failed.push(format!("archive: {error}"));
        }
    }
}

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
