//! Undoes a completed commit: Hudi's rollback, on request.
//!
//! Only the latest commit can be undone, because later commits would lose their base. The rollback is
//! announced first, so that after a crash the next writer finishes it through [rollback](super::rollback).
//! The commit is unpublished before its files are deleted, so that no reader sees only a part of it.

use std::collections::HashSet;

use super::{heartbeat, repair::repair, rollback};
use crate::{
    Error, ErrorKind, Result,
    context::{Context, Turn},
    maintain::metadata_table,
    snapshot::{View, read_commit},
    storage,
    timeline::{Action, Instant, State, TimelineEntry, avro::RollbackMetadata},
};

/// The result of a rollback.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RollbackReport {
    /// The instant of the rollback.
    pub instant: Instant,
    /// The commit that was undone.
    pub undone: Instant,
    /// Number of deleted files.
    pub files: u64,
}

/// Implements [`Table::rollback`](crate::Table::rollback).
pub(crate) async fn rollback(context: &Context, instant: Instant) -> Result<RollbackReport> {
    context.in_turn("rollback", async |turn| rollback_in_turn(context, turn, instant).await).await
}

async fn rollback_in_turn(context: &Context, turn: &Turn<'_>, instant: Instant) -> Result<RollbackReport> {
    // The listing determines which files are deleted, so it must be current.
    turn.forget_view().await;
    let mut view = turn.view().await?;
    if view.timeline.pending(Action::Rollback).next().is_some() {
        metadata_table::drop_once(context, turn, &view).await?;
    }
    // Another process may have started to undo the commit and died.
    let mut done = rollback::resume_pending(context, turn, &view).await?;
    view = turn.view().await?;
    if find(&view, instant).is_ok_and(|entry| !entry.is_pending()) {
        // The latest commit is known only after the writes of dead writers have been undone, as in every
        // write.
        done.extend(repair(context, turn).await?);
        view = turn.view().await?;
    }
    if done.contains(&instant) {
        return finished(context, &view, instant).await;
    }
    let entry = find(&view, instant)?;
    if !entry.is_pending() {
        check_undoable(context, &view, &entry).await?;
    }
    let conflict = |message: &str| Error::new(ErrorKind::Conflict, message).with_context("instant", instant);
    if entry.is_pending() && heartbeat::is_alive(context, instant).await? {
        return Err(conflict("the writer of this instant is alive, as its heartbeat shows"));
    }
    turn.verify().await?;
    metadata_table::drop_once(context, turn, &view).await?;
    let rolled_back = match entry.is_pending() {
        true => rollback::roll_back(context, turn, &view, &entry).await,
        false => rollback::undo(context, turn, &view, &entry).await,
    };
    turn.forget_view().await;
    let rolled_back = rolled_back?;
    let (rollback, files) = rolled_back.ok_or_else(|| conflict("the write has completed in the meantime"))?;
    Ok(RollbackReport { instant: rollback, undone: instant, files })
}

/// Returns the result of the rollback that undid this commit.
async fn finished(context: &Context, view: &View, undone: Instant) -> Result<RollbackReport> {
    for rollback in view.timeline.completed(Action::Rollback).rev() {
        let file = context.layout().instant_file(rollback.instant, Action::Rollback, State::Completed)?;
        let bytes = storage::read(context.store(), &file).await?;
        if bytes.is_empty() {
            continue;
        }
        let done = RollbackMetadata::decode(&bytes).map_err(|error| error.with_context("file", &file))?;
        if done.commits_rollback.iter().any(|commit| commit == undone.as_str()) {
            let files = done.total_files_deleted.unsigned_abs().into();
            return Ok(RollbackReport { instant: rollback.instant, undone, files });
        }
    }
    Err(Error::new(ErrorKind::Corrupt, "the rollback of this commit is not on the timeline")
        .with_context("instant", undone))
}

async fn check_undoable(context: &Context, view: &View, entry: &TimelineEntry) -> Result<()> {
    let refused = |kind, message: &str| Err(Error::new(kind, message).with_context("instant", entry.instant));
    if let Some(latest) = view.timeline.latest_commit().filter(|latest| *latest != entry.instant) {
        return refused(
            ErrorKind::InvalidInput,
            "later commits are based on this one; roll those back first, starting with the latest",
        )
        .map_err(|error| error.with_context("latest", latest));
    }
    let saved = view.timeline.entries().iter();
    if saved.clone().any(|other| other.action == Action::Savepoint && other.instant == entry.instant) {
        return refused(ErrorKind::InvalidInput, "the commit has a savepoint; delete that first");
    }
    let commit = read_commit(context.store(), context.layout(), entry).await?;
    let known = || view.groups.values();
    let versions: HashSet<(&str, Instant)> = known()
        .flat_map(|group| group.versions.iter().map(|version| (&*group.file_id, version.instant)))
        .collect();
    let groups: HashSet<&str> = known().map(|group| &*group.file_id).collect();
    for stat in commit.stats() {
        let Some(previous) = stat.previous() else { continue };
        if !versions.contains(&(stat.file_id.as_str(), previous)) {
            return refused(
                ErrorKind::OutsideRetention,
                "a clean deleted the files that the table had before this commit",
            )
            .map_err(|error| {
                error.with_context("file group", &stat.file_id).with_context("before", previous)
            });
        }
    }
    for file_id in commit.partition_to_replace_file_ids.values().flatten() {
        if !groups.contains(file_id.as_str()) {
            return refused(
                ErrorKind::OutsideRetention,
                "a clean deleted the file groups that this commit replaced",
            )
            .map_err(|error| error.with_context("file group", file_id));
        }
    }
    // A savepoint protects an older version of a group whose last version is gone.
    if let Some(gone) = view.missing.iter().find(|missing| missing.until == Some(entry.instant)) {
        return refused(
            ErrorKind::OutsideRetention,
            "a clean deleted the files that the table had before this commit",
        )
        .map_err(|error| error.with_context("file", &gone.path));
    }
    Ok(())
}

/// Returns the write with this instant.
fn find(view: &View, instant: Instant) -> Result<TimelineEntry> {
    let mut entries = view.timeline.entries().iter();
    entries.find(|entry| entry.instant == instant && entry.action.writes_rows()).cloned().ok_or_else(|| {
        let error = Error::new(
            ErrorKind::InvalidInput,
            "there is no commit with this instant on the active timeline",
        )
        .with_context("instant", instant);
        match view.timeline.completed_commits().next() {
            Some(first) if instant < first.instant => error
                .with_context("hint", "commits older than the first one are archived and cannot be undone"),
            _ => error,
        }
    })
}
