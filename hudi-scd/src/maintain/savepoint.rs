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
    Error, ErrorKind, Result,
    context::{Context, Turn},
    storage,
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

/// Implements [`Table::savepoint`](crate::Table::savepoint).
pub(crate) async fn savepoint(
    context: &Context,
    instant: Instant,
    user: &str,
    comment: &str,
) -> Result<SavepointReport> {
    context
        .in_turn("savepoint", async |turn| savepoint_in_turn(context, turn, instant, user, comment).await)
        .await
}

/// Implements [`Table::delete_savepoint`](crate::Table::delete_savepoint).
pub(crate) async fn delete_savepoint(context: &Context, instant: Instant) -> Result<()> {
    context
        .in_turn("delete_savepoint", async |turn| delete_savepoint_in_turn(context, turn, instant).await)
        .await
}

/// Removes unfinished savepoints, which protect nothing.
pub(crate) async fn drop_pending_savepoints(context: &Context, turn: &Turn<'_>) -> Result<()> {
    let view = turn.view().await?;
    for entry in view.timeline.pending(Action::Savepoint) {
        let file = context.layout().instant_file(entry.instant, Action::Savepoint, State::Inflight)?;
        turn.delete_files(&view, vec![context.layout().relative(&file).to_owned()]).await?;
        turn.relist();
    }
    Ok(())
}

async fn savepoint_in_turn(
    context: &Context,
    turn: &Turn<'_>,
    instant: Instant,
    user: &str,
    comment: &str,
) -> Result<SavepointReport> {
    let view = turn.view().await?;
    if !view.timeline.completed_commits().any(|entry| entry.instant == instant) {
        return Err(Error::new(ErrorKind::InvalidInput, "there is no completed commit with this instant")
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
        let partition = partitions
            .entry(path())
            .or_insert_with(|| SavepointPartitionMetadata { partition_path: path(), ..Default::default() });
        partition.savepoint_data_file.push(version.file.to_string());
        files += 1;
    }
    let metadata = SavepointMetadata {
        savepointed_by: user.to_owned(),
        savepointed_at: context.options().clock.now().as_millisecond(),
        comments: comment.to_owned(),
        partition_metadata: partitions,
        version: Some(1),
    };
    let file = |state| context.layout().instant_file(instant, Action::Savepoint, state);
    turn.verify().await?;
    // A crash may have happened between the two files. In that case the first one exists.
    storage::write(context.store(), &file(State::Inflight)?, Vec::new()).await?;
    storage::create(context.store(), &file(State::Completed)?, metadata.encode()).await?;
    Ok(SavepointReport { instant, files })
}

async fn delete_savepoint_in_turn(context: &Context, turn: &Turn<'_>, instant: Instant) -> Result<()> {
    let view = turn.view().await?;
    let entries = view.timeline.entries();
    if !entries.iter().any(|entry| entry.action == Action::Savepoint && entry.instant == instant) {
        return Err(
            Error::new(ErrorKind::NotFound, "the commit has no savepoint").with_context("instant", instant)
        );
    }
    turn.verify().await?;
    // With this order, a crash in between leaves an unfinished savepoint.
    for state in [State::Completed, State::Inflight] {
        let file = context.layout().instant_file(instant, Action::Savepoint, state)?;
        context.delete_file(&view, context.layout().relative(&file)).await?;
    }
    Ok(())
}
