//! Undoing a commit that completed: Hudi's rollback, on demand.
//!
//! Only the latest commit can be undone: what others have written on top of it would be built on nothing. The rollback is
//! announced first, so that a death in between is finished by the next writer, by [rollback](super::rollback); and the
//! commit is unpublished before its files go, so that no reader meets half of it.

use std::collections::HashSet;

use super::{heartbeat, rollback};
use crate::{
    Error, ErrorKind, Result, storage,
    table::{Table, Turn},
    timeline::{Action, Instant, State, TimelineEntry, avro::RollbackMetadata},
    view::{View, read_commit},
};

/// What a rollback did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RollbackReport {
    /// The rollback.
    pub instant: Instant,
    /// The commit that is no more.
    pub undone: Instant,
    /// Files deleted.
    pub files: u64,
}

impl Table {
    /// Undoes the latest completed commit, or a write that did not complete: the table is as it was before.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if there is no such commit on the active timeline, if later commits are built on it
    /// (undo these first), or if it has a savepoint; [`ErrorKind::OutsideRetention`] if a clean took what the table was
    /// before.
    pub async fn rollback(&self, instant: Instant) -> Result<RollbackReport> {
        let turn = self.turn().await?;
        let undone = self.rollback_in_turn(&turn, instant).await;
        turn.end().await;
        undone
    }

    async fn rollback_in_turn(&self, turn: &Turn<'_>, instant: Instant) -> Result<RollbackReport> {
        // What is listed decides what is deleted: nothing of it may be of yesterday.
        self.forget_view();
        let mut view = self.view().await?;
        if view.timeline.pending(Action::Rollback).next().is_some() {
            self.drop_metadata_table(turn, &view).await?;
        }
        // Someone may have begun to undo it, and died.
        let mut done = rollback::resume_pending(self, &view).await?;
        view = self.view().await?;
        if find(&view, instant).is_ok_and(|entry| !entry.is_pending()) {
            // Of dead writes the latest commit is told apart by undoing them, as every write does.
            done.extend(self.repair(turn).await?);
            view = self.view().await?;
        }
        if done.contains(&instant) {
            return self.finished(&view, instant).await;
        }
        let entry = find(&view, instant)?;
        if !entry.is_pending() {
            self.check_undoable(&view, &entry).await?;
        }
        let conflict =
            |message: &str| Error::new(ErrorKind::Conflict, message).with_context("instant", instant);
        if entry.is_pending() && heartbeat::is_alive(self, instant).await? {
            return Err(conflict("the writer of this instant is at work, as its heartbeat says"));
        }
        turn.verify().await?;
        self.drop_metadata_table(turn, &view).await?;
        let rolled_back = match entry.is_pending() {
            true => rollback::roll_back(self, &view, &entry).await,
            false => rollback::undo(self, turn, &view, &entry).await,
        };
        self.forget_view();
        let rolled_back = rolled_back?;
        let (rollback, files) = rolled_back.ok_or_else(|| conflict("the write has completed meanwhile"))?;
        Ok(RollbackReport { instant: rollback, undone: instant, files })
    }

    /// What the rollback did that undid this commit.
    async fn finished(&self, view: &View, undone: Instant) -> Result<RollbackReport> {
        for rollback in view.timeline.completed(Action::Rollback).rev() {
            let file =
                self.inner.layout.instant_file(rollback.instant, Action::Rollback, State::Completed)?;
            let bytes = storage::read(self.store(), &file).await?;
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

    async fn check_undoable(&self, view: &View, entry: &TimelineEntry) -> Result<()> {
        let refused =
            |kind, message: &str| Err(Error::new(kind, message).with_context("instant", entry.instant));
        if let Some(latest) = view.timeline.latest_commit().filter(|latest| *latest != entry.instant) {
            return refused(
                ErrorKind::InvalidInput,
                "later commits are built on this one; roll these back first, the latest before the others",
            )
            .map_err(|error| error.with_context("latest", latest));
        }
        let saved = view.timeline.entries().iter();
        if saved.clone().any(|other| other.action == Action::Savepoint && other.instant == entry.instant) {
            return refused(ErrorKind::InvalidInput, "the commit has a savepoint; delete that first");
        }
        let commit = read_commit(self.store(), &self.inner.layout, entry).await?;
        let known = || view.groups.values();
        let versions: HashSet<(&str, Instant)> = known()
            .flat_map(|group| group.versions.iter().map(|version| (group.file_id.as_str(), version.instant)))
            .collect();
        let groups: HashSet<&str> = known().map(|group| group.file_id.as_str()).collect();
        for stat in commit.stats() {
            let Some(previous) = stat.previous() else { continue };
            if !versions.contains(&(stat.file_id.as_str(), previous)) {
                return refused(
                    ErrorKind::OutsideRetention,
                    "a clean took the files that the table had before this commit",
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
                    "a clean took the file groups that this commit replaced",
                )
                .map_err(|error| error.with_context("file group", file_id));
            }
        }
        Ok(())
    }
}

/// The write of this instant.
fn find(view: &View, instant: Instant) -> Result<TimelineEntry> {
    let mut entries = view.timeline.entries().iter();
    entries.find(|entry| entry.instant == instant && entry.action.writes_rows()).cloned().ok_or_else(|| {
        let error =
            Error::new(ErrorKind::InvalidInput, "there is no commit of this instant on the active timeline")
                .with_context("instant", instant);
        match view.timeline.completed_commits().next() {
            Some(first) if instant < first.instant => {
                error.with_context("way out", "what is older than the first commit was archived, and stands")
            }
            _ => error,
        }
    })
}
