//! Savepoints: commits whose files no clean takes away, in Hudi's own form.
//!
//! ```text
//! {commit}.savepoint.inflight  empty
//! {commit}.savepoint           which files the commit shows, who asked for it, why
//! ```
//!
//! A savepoint is named by the commit that it protects. It keeps files, and it keeps the timeline from being archived
//! past it; it does not widen the window in which the table is read, in Hudi neither.

use std::collections::BTreeMap;

use crate::{
    Error, ErrorKind, Result, storage,
    table::{Table, Turn},
    timeline::{
        Action, Instant, State,
        avro::{SavepointMetadata, SavepointPartitionMetadata},
    },
};

/// What a savepoint protects.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SavepointReport {
    /// The commit.
    pub instant: Instant,
    /// Files that a clean leaves alone from now on.
    pub files: u64,
}

impl Table {
    /// Protects what a completed commit shows: its files stay, whatever the retention, until
    /// [`Table::delete_savepoint`]. `user` and `comment` say who wants it, and why.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if there is no such completed commit on the active timeline;
    /// [`ErrorKind::OutsideRetention`] if its files were cleaned already; [`ErrorKind::AlreadyExists`] if it is protected
    /// already.
    pub async fn savepoint(&self, instant: Instant, user: &str, comment: &str) -> Result<SavepointReport> {
        let turn = self.turn().await?;
        let saved = self.savepoint_in_turn(&turn, instant, user, comment).await;
        turn.end().await;
        saved
    }

    /// Gives a savepoint up: the next clean may take what it protected.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the commit is not protected.
    pub async fn delete_savepoint(&self, instant: Instant) -> Result<()> {
        let turn = self.turn().await?;
        let deleted = self.delete_savepoint_in_turn(&turn, instant).await;
        turn.end().await;
        deleted
    }

    /// Removes savepoints that died half made: they protect nothing.
    pub(crate) async fn drop_pending_savepoints(&self) -> Result<()> {
        let view = self.view().await?;
        for entry in view.timeline.pending(Action::Savepoint) {
            let file = self.inner.layout.instant_file(entry.instant, Action::Savepoint, State::Inflight)?;
            self.delete_file(&view, self.inner.layout.relative(&file)).await?;
        }
        Ok(())
    }

    async fn savepoint_in_turn(
        &self,
        turn: &Turn<'_>,
        instant: Instant,
        user: &str,
        comment: &str,
    ) -> Result<SavepointReport> {
        let view = self.view().await?;
        if !view.timeline.completed_commits().any(|entry| entry.instant == instant) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "there is no completed commit of this instant to save",
            )
            .with_context("instant", instant)
            .with_context("way out", "choose a commit of the active timeline, archived ones are past"));
        }
        view.check_retained(instant)?;
        let saved = view.timeline.completed(Action::Savepoint).any(|entry| entry.instant == instant);
        if saved {
            return Err(Error::new(ErrorKind::AlreadyExists, "the commit has a savepoint already")
                .with_context("instant", instant));
        }
        let mut partitions: BTreeMap<String, SavepointPartitionMetadata> = BTreeMap::new();
        let mut files = 0;
        for (group, version) in view.files_at(instant) {
            let partition = partitions.entry(group.partition.clone()).or_insert_with(|| {
                SavepointPartitionMetadata { partition_path: group.partition.clone(), ..Default::default() }
            });
            partition.savepoint_data_file.push(version.file.clone());
            files += 1;
        }
        let metadata = SavepointMetadata {
            savepointed_by: user.to_owned(),
            savepointed_at: self.inner.options.clock.now().as_millisecond(),
            comments: comment.to_owned(),
            partition_metadata: partitions,
            version: Some(1),
        };
        let file = |state| self.inner.layout.instant_file(instant, Action::Savepoint, state);
        turn.verify().await?;
        // Someone may have died between the two files: then the first is there.
        storage::write(self.store(), &file(State::Inflight)?, Vec::new()).await?;
        storage::create(self.store(), &file(State::Completed)?, metadata.encode()).await?;
        Ok(SavepointReport { instant, files })
    }

    async fn delete_savepoint_in_turn(&self, turn: &Turn<'_>, instant: Instant) -> Result<()> {
        let view = self.view().await?;
        let entries = view.timeline.entries();
        if !entries.iter().any(|entry| entry.action == Action::Savepoint && entry.instant == instant) {
            return Err(Error::new(ErrorKind::NotFound, "the commit has no savepoint")
                .with_context("instant", instant));
        }
        turn.verify().await?;
        // In this order a death in between leaves a savepoint that was never made.
        for state in [State::Completed, State::Inflight] {
            let file = self.inner.layout.instant_file(instant, Action::Savepoint, state)?;
            self.delete_file(&view, self.inner.layout.relative(&file)).await?;
        }
        Ok(())
    }
}
