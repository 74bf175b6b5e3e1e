//! Savepoints: commits whose files are protected from cleaning, in Hudi's own form.
//!
//! ```text
//! {commit}.savepoint.inflight  empty
//! {commit}.savepoint           the files of the commit, the author, the reason
//! ```
//!
//! A savepoint has the instant of the commit that it protects. It protects files, and prevents the timeline
//! from being archived past it. It does not extend the readable window, as in Hudi.

use std::collections::BTreeMap;

use crate::{
    Error, ErrorKind, Result, storage,
    table::{Table, Turn},
    timeline::{
        Action, Instant, State,
        avro::{SavepointMetadata, SavepointPartitionMetadata},
    },
};

/// The result of creating a savepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SavepointReport {
    /// The commit.
    pub instant: Instant,
    /// The number of files protected from cleaning.
    pub files: u64,
}

impl Table {
    /// Protects the files of a completed commit from cleaning, whatever the retention, until
    /// [`Table::delete_savepoint`]. `user` and `comment` record the author and the reason.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if there is no such completed commit on the active timeline;
    /// [`ErrorKind::OutsideRetention`] if its files were already cleaned; [`ErrorKind::AlreadyExists`] if it
    /// is already protected.
    pub async fn savepoint(&self, instant: Instant, user: &str, comment: &str) -> Result<SavepointReport> {
        let turn = self.turn().await?;
        let saved = turn.run(self.savepoint_in_turn(&turn, instant, user, comment)).await;
        turn.end().await;
        saved
    }

    /// Deletes a savepoint: the next clean may delete the files that it protected.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the commit is not protected.
    pub async fn delete_savepoint(&self, instant: Instant) -> Result<()> {
        let turn = self.turn().await?;
        let deleted = turn.run(self.delete_savepoint_in_turn(&turn, instant)).await;
        turn.end().await;
        deleted
    }

    /// Removes unfinished savepoints, which protect nothing.
    pub(crate) async fn drop_pending_savepoints(&self, turn: &Turn<'_>) -> Result<()> {
        let view = turn.view().await?;
        for entry in view.timeline.pending(Action::Savepoint) {
            let file = self.inner.layout.instant_file(entry.instant, Action::Savepoint, State::Inflight)?;
            turn.delete_files(&view, vec![self.inner.layout.relative(&file).to_owned()]).await?;
            turn.relist();
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
        let view = turn.view().await?;
        if !view.timeline.completed_commits().any(|entry| entry.instant == instant) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "there is no completed commit with this instant",
            )
            .with_context("instant", instant)
            .with_context(
                "hint",
                "choose a commit of the active timeline; archived commits cannot be protected",
            ));
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
        // A crash may have happened between the two files; then the first one exists.
        storage::write(self.store(), &file(State::Inflight)?, Vec::new()).await?;
        storage::create(self.store(), &file(State::Completed)?, metadata.encode()).await?;
        Ok(SavepointReport { instant, files })
    }

    async fn delete_savepoint_in_turn(&self, turn: &Turn<'_>, instant: Instant) -> Result<()> {
        let view = turn.view().await?;
        let entries = view.timeline.entries();
        if !entries.iter().any(|entry| entry.action == Action::Savepoint && entry.instant == instant) {
            return Err(Error::new(ErrorKind::NotFound, "the commit has no savepoint")
                .with_context("instant", instant));
        }
        turn.verify().await?;
        // In this order, a crash in between leaves an unfinished savepoint.
        for state in [State::Completed, State::Inflight] {
            let file = self.inner.layout.instant_file(instant, Action::Savepoint, state)?;
            self.delete_file(&view, self.inner.layout.relative(&file)).await?;
        }
        Ok(())
    }
}
