//! The archived timeline, in the form of either layout.

use object_store::ObjectStore;

use super::{
    Action, Instant, State, Timeline,
    archive::{self, ArchivedEntry},
    history,
};
use crate::{Result, layout::Layout, storage};

/// Reads the entries of the archive, file by file.
pub(crate) async fn entries(store: &dyn ObjectStore, table: &Layout) -> Result<Vec<ArchivedEntry>> {
    if table.history_folder()?.is_some() {
        let archived = history::load(store, table).await?;
        return Ok(archived.into_iter().map(|action| action.to_entry()).collect());
    }
    let mut found = Vec::new();
    for object in storage::list_folder(store, &table.archive_folder()?).await?.objects {
        if object.location.filename().and_then(archive::file_number).is_none() {
            continue;
        }
        let bytes = storage::read(store, &object.location).await?;
        let entries = archive::decode(&bytes);
        found.extend(entries.map_err(|error| error.with_context("file", &object.location))?);
    }
    Ok(found)
}

/// Adds the archived commits to a timeline, if one of these instants may be one of them. Otherwise, returns
/// `false` without reading the archive.
pub(crate) async fn add_commits(
    store: &dyn ObjectStore,
    table: &Layout,
    timeline: &mut Timeline,
    mut instants: impl Iterator<Item = Instant>,
) -> Result<bool> {
    let may_be = timeline.has_folder(table.archive_name()) && instants.any(|instant| timeline.lacks(instant));
    if may_be {
        let entries = entries(store, table).await?;
        timeline.add_archived(entries.iter().filter_map(completed_commit));
    }
    Ok(may_be)
}

/// Returns `true` for the entry of an action that completed.
pub(crate) fn is_completed(entry: &ArchivedEntry) -> bool {
    entry.action_state.as_deref() == Some(State::Completed.as_str())
}

/// Returns the instant of an archived commit that completed. Returns `None` for other actions and states.
fn completed_commit(entry: &ArchivedEntry) -> Option<Instant> {
    let writes_rows = entry.action_type.as_deref().and_then(Action::parse).is_some_and(Action::writes_rows);
    entry.commit_time.as_ref().filter(|_| writes_rows && is_completed(entry))?.parse().ok()
}
