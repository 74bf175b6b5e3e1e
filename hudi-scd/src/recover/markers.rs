//! Deletes the markers of a finished write, and its heartbeat.

use object_store::path::Path;

use crate::{Result, context::Context, storage, timeline::Instant};

/// Deletes the markers and the heartbeat of a finished write.
pub(crate) async fn remove(context: &Context, instant: Instant) -> Result<()> {
    let folder = context.layout().marker_folder(instant)?;
    let markers = storage::list_below(context.store(), &folder).await?;
    let markers = markers.into_iter().map(|marker| marker.location).collect();
    remove_known(context, instant, markers).await
}

/// Deletes the heartbeat and the known markers of a finished write.
pub(crate) async fn remove_known(context: &Context, instant: Instant, markers: Vec<Path>) -> Result<()> {
    let folder = context.layout().marker_folder(instant)?;
    let mut files = markers;
    files.push(context.layout().heartbeat(instant)?);
    storage::delete_all(context.store(), files).await?;
    // A local disk keeps the empty folders, one per commit, and every listing would visit them.
    context.remove_empty_tree(&folder);
    Ok(())
}
