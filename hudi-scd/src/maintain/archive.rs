//! Archival: moves the oldest actions from the active timeline into the archive.

use jiff::Timestamp;
use object_store::ObjectStoreExt;

use hudi_format::retention::{CommitView, PartitionView, RetentionPolicy, TimelineView, plan};

use crate::{
    Result, beside,
    context::{Context, Turn},
    layout,
    maintain::metadata_table,
    snapshot::{Changes, View},
    storage,
    timeline::{
        Instant, State, TimelineEntry,
        archive::{self, ArchivedEntry, to_archive},
    },
};

/// The result of an archival.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArchiveReport {
    /// The number of archived actions.
    pub actions: u64,
    /// The name of the archive file, in the table's archive folder.
    pub file: String,
}

/// Implements [`Table::archive`](crate::Table::archive).
pub(crate) async fn archive(context: &Context) -> Result<Option<ArchiveReport>> {
    context.in_turn("archive", async |turn| archive_now(context, turn).await).await
}

/// Archives in a turn. Returns `None` if there is nothing to archive.
pub(crate) async fn archive_now(context: &Context, turn: &Turn<'_>) -> Result<Option<ArchiveReport>> {
    let mut view = turn.view().await?;
    let limits = context.options().archive.unwrap_or_default();
    let retained = match context.options().retention {
        // Without cleaning, every existing file may be read.
        None => 0,
        Some(RetentionPolicy::FileVersions(_)) => 1,
        Some(policy) => retained_commits(context, &view, policy),
    };
    // Without the commit that replaced it, a file group that still exists would be read again.
    let replaced = view.groups.values().filter_map(|group| group.replaced_at).min();
    let actions = to_archive(limits, retained, replaced, &view.timeline);
    if actions.is_empty() {
        return Ok(None);
    }
    // A writer that continued after it was rolled back may have written files since the last listing.
    drop(view);
    turn.forget_view().await;
    view = turn.view().await?;
    let mut entries = Vec::with_capacity(3 * actions.len());
    for action in &actions {
        entries_of(context, action, &mut entries).await?;
    }
    let folder = context.layout().archive_folder()?;
    let listed = storage::list_folder(context.store(), &folder).await?;
    let numbers =
        listed.objects.iter().filter_map(|object| archive::file_number(object.location.filename()?));
    let file = archive::file_name(numbers.max().unwrap_or(0) + 1);
    turn.confirm().await?;
    // The log of a metadata table is valid only while its instants are on the active timeline.
    metadata_table::drop_once(context, turn, &view).await?;
    storage::create(context.store(), &folder.join(file.as_str()), archive::encode(&entries)).await?;
    if let Err(error) = remove_archived(context, turn, &view, &actions).await {
        turn.forget_view().await;
        return Err(error);
    }
    drop(view);
    let commits = actions.iter().filter(|action| action.action.writes_rows());
    let archived = commits.map(|commit| commit.instant).collect();
    turn.advance(|timeline| timeline.remove(&actions), Changes { archived, ..Changes::default() }).await;
    Ok(Some(ArchiveReport { actions: actions.len() as u64, file }))
}

/// Deletes the files of archived actions. Before that, deletes the files that would otherwise become
/// visible.
async fn remove_archived(
    context: &Context,
    turn: &Turn<'_>,
    view: &View,
    actions: &[TimelineEntry],
) -> Result<()> {
    remove_strays(context, turn, view, actions).await?;
    // Without its completed file, an action looks unfinished, so that file is deleted after the others. A
    // commit must not be removed before an older one, because the files between them would count as
    // uncommitted. Commits are therefore removed one by one.
    let (mut first, mut then, mut commits) = (Vec::new(), Vec::new(), Vec::new());
    for action in actions {
        for state in State::ALL.into_iter().filter(|state| action.has_file(*state)) {
            let path = context.layout().instant_file(action.instant, action.action, state)?;
            let files = match state {
                State::Completed if action.action.writes_rows() => &mut commits,
                State::Completed => &mut then,
                _ => &mut first,
            };
            files.push(context.layout().relative(&path).to_owned());
        }
    }
    context.delete_files(view, first).await?;
    context.delete_files(view, then).await?;
    commits.sort_unstable();
    for commit in commits {
        context.delete_files(view, vec![commit]).await?;
    }
    Ok(())
}

/// Deletes files without a commit that are older than the remaining timeline: base files, and files
/// [beside](crate::beside) a commit. A file from before the beginning of the timeline counts as committed, so
/// the files of a writer that continued after it was rolled back would become visible, and so would the
/// tombstones of a writer that another engine rolled back.
async fn remove_strays(
    context: &Context,
    turn: &Turn<'_>,
    view: &View,
    archived: &[TimelineEntry],
) -> Result<()> {
    let stays = |entry: &&TimelineEntry| !archived.contains(entry);
    let Some(first) = view.timeline.completed_commits().find(stays) else { return Ok(()) };
    let strays = view.pending.iter().filter(|file| file.name.instant < first.instant);
    let strays = strays.filter(|file| !view.is_pending(file.name.instant));
    let paths = strays.map(|stray| layout::in_partition(&stray.partition, &stray.name.to_string()));
    let mut paths: Vec<_> = paths.collect();
    let beside = beside::strays_before(context, turn, view, first.instant).await?;
    paths.extend(beside.map(|path| context.layout().relative(&path).to_owned()));
    context.delete_files(view, paths).await.map(drop)
}

/// Returns the number of newest commits that the policy keeps readable.
fn retained_commits(context: &Context, view: &View, policy: RetentionPolicy) -> usize {
    let pending =
        view.timeline.entries().iter().find(|entry| entry.action.writes_rows() && entry.is_pending());
    let commits = || view.timeline.completed_commits();
    let timeline = TimelineView {
        commits: commits().map(|entry| CommitView { instant: entry.instant, action: entry.action }).collect(),
        earliest_pending: pending.map(|entry| entry.instant),
        savepoints: Vec::new(),
        last_earliest_to_retain: None,
        now: context.options().clock.now(),
        zone: context.properties().zone.clone(),
    };
    let window = plan(policy, &timeline, std::iter::empty::<PartitionView>()).earliest_to_retain();
    commits().filter(|entry| window.is_none_or(|window| entry.instant >= window)).count()
}

/// Converts the files of an action to archive entries.
async fn entries_of(
    context: &Context,
    action: &TimelineEntry,
    entries: &mut Vec<ArchivedEntry>,
) -> Result<()> {
    let zone = &context.properties().zone;
    for state in State::ALL.into_iter().filter(|state| action.has_file(*state)) {
        let path = context.layout().instant_file(action.instant, action.action, state)?;
        let failed = |cause| storage::failed("read", &path, cause);
        let found = context.store().get(&path).await.map_err(failed)?;
        let modified = Timestamp::from_millisecond(found.meta.last_modified.timestamp_millis());
        let modified = modified.map_or(action.instant, |time| Instant::from_timestamp(time, zone));
        let content = found.bytes().await.map_err(failed)?;
        let entry = ArchivedEntry::read(action.instant, action.action, state, &content, modified);
        entries.push(entry.map_err(|error| error.with_context("file", &path))?);
    }
    Ok(())
}
