//! Handles the metadata table of other writers. It is dropped before a change becomes visible, by Hudi's own
//! rule for writers that do not maintain it.
//!
//! Hudi keeps indexes of a table in a second table, `.hoodie/metadata`: a listing (`files`), statistics,
//! keys. Spark creates it by default and trusts it. If it lacks a commit, that commit does not exist for
//! readers that use it, and the next Spark write builds on the files before that commit. A writer that does
//! not maintain the metadata table must therefore drop it first, as Hudi does under
//! `hoodie.metadata.enable=false`:
//!
//! 1. `hoodie.table.metadata.partitions` and `.inflight` are emptied. From then on, readers and writers of
//!    Hudi 0.14 and later list the table themselves, and the next Spark write with default settings creates
//!    the metadata table again.
//! 2. The directory is deleted. Up to table version 5 this happens at once, before anything else is written,
//!    because Hudi up to 0.13 looks for the directory. In version 6, a write that runs at least an hour after
//!    step 1 deletes it, because readers that are still planning may list it.
//!
//! Every state between these steps is valid for all readers, because no change of this crate is visible
//! before them. The directory is deleted in an order that keeps it consistent until the end: first its
//! timeline, from the oldest instant to the newest, and then the rest. Until the last instant is deleted, the
//! directory lists the same files; after that, Hudi considers it empty. On S3, the instants take one request,
//! the rest takes another one, and each further 1,000 files take one more. Including the properties and the
//! listing, a write sends four additional requests.

use jiff::SignedDuration;
use object_store::path::Path;

use crate::{
    Result,
    context::{Context, Turn},
    layout::META_FOLDER,
    snapshot::View,
    storage,
};

/// The folder of the metadata table, in [`META_FOLDER`].
const FOLDER: &str = "metadata";
/// Number of files that one request to S3 deletes.
const KEYS_PER_REQUEST: usize = 1_000;
/// Time for which the directory is kept for readers that are still planning.
const GRACE: SignedDuration = SignedDuration::from_hours(1);

/// Drops the metadata table, if there is one, before the first change of this turn becomes visible. Does
/// nothing in later calls.
pub(crate) async fn drop_once(context: &Context, turn: &Turn<'_>, view: &View) -> Result<()> {
    if !turn.is_metadata_unchecked() {
        return Ok(());
    }
    let stored = turn.stored();
    let partitions = stored.partitions();
    let (by_directory, has_folder) =
        (context.version().goes_by_metadata_directory(), view.timeline.has_folder(FOLDER));
    if !partitions.is_empty() {
        turn.verify().await?;
        context.replace_properties(view, &stored.without_metadata_table()).await?;
        tracing::warn!(
            table = context.name(),
            partitions = partitions.join(","),
            "dropped the metadata table, which this writer does not maintain; Hudi's writers create it again"
        );
    }
    let old = context.options().clock.now().duration_since(stored.written_at()) > GRACE;
    let is_due = match by_directory {
        true => has_folder || !partitions.is_empty(),
        false => has_folder && partitions.is_empty() && old,
    };
    if is_due {
        turn.verify().await?;
        delete_metadata_folder(context).await?;
    }
    turn.set_dropped(partitions);
    Ok(())
}

async fn delete_metadata_folder(context: &Context) -> Result<()> {
    let folder = context.layout().resolve(&format!("{META_FOLDER}/{FOLDER}"))?;
    let files = storage::list_below(context.store(), &folder).await?;
    let timeline = folder.clone().join(META_FOLDER);
    let is_instant = |path: &Path| {
        let name = path.filename().unwrap_or_default();
        path.prefix_matches(&timeline) && name.starts_with(|first: char| first.is_ascii_digit())
    };
    let mut paths: Vec<Path> = files.into_iter().map(|file| file.location).collect();
    paths.sort_by_cached_key(|path| {
        let name = path.filename().unwrap_or_default().to_owned();
        let rank = match path.prefix_matches(&timeline) {
            true if is_instant(path) => 0,
            false => 1,
            true if name != "hoodie.properties" => 2,
            true => 3,
        };
        (rank, name)
    });
    let rest = paths.split_off(paths.partition_point(is_instant));
    // The files of one call are deleted at the same time.
    let at_once = if context.is_local() { 1 } else { KEYS_PER_REQUEST };
    for some in paths.chunks(at_once).chain(rest.chunks(at_once)) {
        storage::delete_all(context.store(), some.to_vec()).await?;
    }
    context.remove_empty_tree(&folder);
    Ok(())
}
