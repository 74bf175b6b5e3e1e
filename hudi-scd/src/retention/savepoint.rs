//! Savepoints: commits whose files are protected from cleaning, in Hudi's own form.
//!
//! ```text
//! {commit}.savepoint.inflight  empty
//! {commit}.savepoint           the files of the commit, the author, the reason
//! ```
//!
//! A savepoint has the instant of the commit that it protects. It protects files, and prevents later parts of
//! the timeline from being archived. As in Hudi, it does not extend the readable window.

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
    /// Protects the files of a completed commit from cleaning, whatever the retention is, until
    /// [`Table::delete_savepoint`] is called. `user` and `comment` record the author and the reason.
    ///
    /// If the future is dropped, the savepoint may exist, or be [unfinished](Table#dropped-futures). An
    /// unfinished savepoint protects nothing.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if there is no such completed commit on the active timeline;
    /// [`ErrorKind::OutsideRetention`] if its files were already cleaned; [`ErrorKind::AlreadyExists`] if the
    /// commit is already protected.
    pub async fn savepoint(&self, instant: Instant, user: &str, comment: &str) -> Result<SavepointReport> {
        self.in_turn("savepoint", async |turn| self.savepoint_in_turn(turn, instant, user, comment).await)
            .await
    }

    /// Deletes a savepoint. The next clean may delete the files that it protected.
    ///
    /// If the future is dropped, the same holds as for [`Table::savepoint`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the commit is not protected.
    pub async fn delete_savepoint(&self, instant: Instant) -> Result<()> {
        self.in_turn("delete_savepoint", async |turn| self.delete_savepoint_in_turn(turn, instant).await)
            .await
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
            return Err(Error::new(ErrorKind::AlreadyExists, "the commit already has a savepoint")
                .with_context("instant", instant));
        }
        let mut partitions: BTreeMap<String, SavepointPartitionMetadata> = BTreeMap::new();
        let mut files = 0;
        for (group, version) in view.files_at(instant) {
            let path = || group.partition.to_string();
            let partition = partitions.entry(path()).or_insert_with(|| SavepointPartitionMetadata {
                partition_path: path(),
                ..Default::default()
            });
            partition.savepoint_data_file.push(version.file.to_string());
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
        // A crash may have happened between the two files. In that case the first one exists.
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
        // With this order, a crash in between leaves an unfinished savepoint.
        for state in [State::Completed, State::Inflight] {
            let file = self.inner.layout.instant_file(instant, Action::Savepoint, state)?;
            self.delete_file(&view, self.inner.layout.relative(&file)).await?;
        }
        Ok(())
    }
}
