//! Rollback: undoes an unfinished write, in Hudi's own form.
//!
//! ```text
//! {ts2}.rollback.requested  the plan: the files to delete of each dead instant
//! {ts2}.rollback.inflight
//! (the dead instant's completed and inflight files, its files, tombstones, markers, then the instant itself)
//! {ts2}.rollback            the result
//! ```
//!
//! An unfinished rollback is resumed from its plan. Each of its steps may be repeated.
//!
//! The inflight file is deleted first, because a commit is completed with it. After that, a writer that was
//! considered dead but is only slow can no longer complete. If it has completed just before, its commit is
//! valid, and the rollback is withdrawn.

use std::collections::{BTreeMap, BTreeSet};

use super::{heartbeat, markers};
use crate::{
    Error, ErrorKind, Result,
    context::{Context, Turn},
    layout::{self, BaseFileName},
    maintain::metadata_table,
    snapshot::View,
    storage,
    timeline::{
        Action, Instant, State, TimelineEntry,
        avro::{
            InstantInfo, RequestedReplace, RollbackMetadata, RollbackPartitionMetadata, RollbackPlan,
            RollbackRequest,
        },
    },
};

/// The prefix of the files in which Hudi's timeline server collects markers.
const MARKERS: &str = "MARKERS";

/// Rolls back every unfinished write, and deletes the heartbeats of dead writers. Returns the instants of
/// these writes.
///
/// The caller must hold the table's lock, so that the writer of any pending write is dead. Hudi under
/// optimistic concurrency control is an exception: it holds the lock only while it commits, and shows by a
/// [heartbeat] that it is alive. If it commits later, it checks for conflicts with file groups that were
/// written in the meantime.
pub(crate) async fn roll_back_pending(context: &Context, turn: &Turn<'_>) -> Result<Vec<Instant>> {
    let mut view = turn.view().await?;
    refuse_foreign_pending(context, &view).await?;
    if view.timeline.entries().iter().any(TimelineEntry::is_pending) {
        // Pending writes may have created files after the view was loaded, without a change of the timeline.
        turn.forget_view().await;
        view = turn.view().await?;
        // If a rollback completed first, the metadata table's entry for the undone write would count.
        metadata_table::drop_once(context, turn, &view).await?;
    }
    let mut done = resume_pending(context, turn, &view).await?;
    if !done.is_empty() {
        view = turn.view().await?;
    }
    let mut alive: Vec<Instant> = Vec::new();
    loop {
        let pending = view.timeline.entries().iter().find(|entry| {
            entry.action.writes_rows() && entry.is_pending() && !alive.contains(&entry.instant)
        });
        let Some(dead) = pending.cloned() else {
            heartbeat::sweep(context, &view).await?;
            return Ok(done);
        };
        if heartbeat::is_alive(context, dead.instant).await? {
            alive.push(dead.instant);
            continue;
        }
        if roll_back(context, turn, &view, &dead).await?.is_some() {
            done.push(dead.instant);
        }
        turn.forget_view().await;
        view = turn.view().await?;
    }
}

/// Finishes announced rollbacks. Returns the instants of the writes that they undid.
pub(crate) async fn resume_pending(context: &Context, turn: &Turn<'_>, view: &View) -> Result<Vec<Instant>> {
    let mut done = Vec::new();
    for entry in view.timeline.pending(Action::Rollback) {
        done.extend(resume(context, turn, view, entry).await?);
    }
    if !done.is_empty() {
        turn.forget_view().await;
    }
    Ok(done)
}

/// Rolls back an unfinished write. Returns the instant of the rollback and the number of deleted files.
/// Returns `None` if the write has completed in the meantime and is valid.
pub(crate) async fn roll_back(
    context: &Context,
    turn: &Turn<'_>,
    view: &View,
    dead: &TimelineEntry,
) -> Result<Option<(Instant, u64)>> {
    let (instant, plan) = announce(context, view, dead, Of::Pending).await?;
    let files = carry_out(context, turn, view, instant, &plan, Of::Pending).await?;
    Ok(files.map(|files| (instant, files)))
}

/// Rolls back the latest completed write. Returns the instant of the rollback and the number of deleted
/// files.
///
/// After the plan was written, the next writer that takes over the table carries it out before it writes. If
/// this writer is suspended and resumes later, it finds nothing to do.
pub(crate) async fn undo(
    context: &Context,
    turn: &Turn<'_>,
    view: &View,
    entry: &TimelineEntry,
) -> Result<Option<(Instant, u64)>> {
    if !entry.has_file(State::Inflight) {
        // The file that completed the write is deleted first. After that, this file shows that it existed.
        let inflight = context.layout().instant_file(entry.instant, entry.action, State::Inflight)?;
        storage::create(context.store(), &inflight, Vec::new()).await?;
    }
    let (instant, plan) = announce(context, view, entry, Of::Completed).await?;
    if let Err(lost) = turn.verify().await {
        withdraw(context, view, instant).await?;
        return Err(lost);
    }
    let files = carry_out(context, turn, view, instant, &plan, Of::Completed).await?;
    Ok(files.map(|files| (instant, files)))
}

/// Distinguishes the rollback of an unfinished write, which is kept if it completes in the meantime, from the
/// rollback of a completed write. The latter records this in its inflight file, which Hudi leaves empty and
/// does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Pending,
    Completed,
}

impl Of {
    fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Pending => Vec::new(),
            Self::Completed => b"of a completed write".to_vec(),
        }
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        if bytes.is_empty() { Self::Pending } else { Self::Completed }
    }
}

/// Writes the plan of a rollback.
async fn announce(
    context: &Context,
    view: &View,
    entry: &TimelineEntry,
    of: Of,
) -> Result<(Instant, RollbackPlan)> {
    let plan = plan(context, view, entry).await?;
    let instant = context.mint(view.timeline.newest())?;
    let file = |state| context.layout().instant_file(instant, Action::Rollback, state);
    storage::create(context.store(), &file(State::Requested)?, plan.encode()).await?;
    storage::create(context.store(), &file(State::Inflight)?, of.to_bytes()).await?;
    Ok((instant, plan))
}

/// Withdraws a rollback that has not changed anything yet.
async fn withdraw(context: &Context, view: &View, instant: Instant) -> Result<()> {
    for state in [State::Inflight, State::Requested] {
        let file = context.layout().instant_file(instant, Action::Rollback, state)?;
        context.delete_file(view, context.layout().relative(&file)).await?;
    }
    Ok(())
}

/// Deletes the markers of completed writes whose writers died before they deleted the markers.
pub(crate) async fn sweep_markers(context: &Context, turn: &Turn<'_>) -> Result<()> {
    // A local disk keeps the empty folder.
    if !turn.view().await?.timeline.has_folder(layout::TEMP_FOLDER) {
        return Ok(());
    }
    let folder = context.layout().temp_folder()?;
    let listed = storage::list_folder(context.store(), &folder).await?;
    if listed.common_prefixes.is_empty() {
        return Ok(());
    }
    let view = turn.view().await?;
    for markers in listed.common_prefixes {
        let Some(instant) = markers.filename().and_then(|name| name.parse::<Instant>().ok()) else {
            continue;
        };
        let is_over =
            view.timeline.entries().iter().any(|entry| entry.instant == instant && !entry.is_pending());
        if is_over {
            turn.verify().await?;
            markers::remove(context, instant).await?;
        }
    }
    Ok(())
}

/// Rejects pending actions that this crate does not write: a clustering, a compaction or a restore belongs to
/// another engine.
async fn refuse_foreign_pending(context: &Context, view: &View) -> Result<()> {
    for entry in view.timeline.entries().iter().filter(|entry| entry.is_pending()) {
        let ours = match entry.action {
            Action::Commit | Action::Clean | Action::Rollback | Action::Savepoint => true,
            Action::ReplaceCommit => !is_clustering(context, entry).await?,
            _ => false,
        };
        if !ours {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "another engine has planned or started an action that only it can finish: finish it or roll it back there first",
            )
            .with_context("action", entry.action)
            .with_context("instant", entry.instant));
        }
    }
    Ok(())
}

/// Returns `true` if a pending replacecommit is a clustering, which stays planned until an engine carries it
/// out. A pending overwrite, in contrast, is dead.
async fn is_clustering(context: &Context, entry: &TimelineEntry) -> Result<bool> {
    let requested = context.layout().instant_file(entry.instant, entry.action, State::Requested)?;
    let bytes = storage::read_if_exists(context.store(), &requested).await?;
    let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else { return Ok(false) };
    let replace = RequestedReplace::decode(&bytes).map_err(|error| error.with_context("file", &requested))?;
    Ok(replace.clustering_plan.is_some() || replace.operation_type.as_deref() == Some("CLUSTER"))
}

async fn plan(context: &Context, view: &View, dead: &TimelineEntry) -> Result<RollbackPlan> {
    let base = context.base_url();
    // Plans of rollbacks contain paths without a scheme, unlike those of cleans.
    let base =
        base.split_once("://").map_or(base.as_str(), |(_, rest)| rest.find('/').map_or("", |at| &rest[at..]));
    let requests = files_of(context, view, dead.instant)
        .await?
        .into_iter()
        .map(|(partition, name)| {
            let file = name.to_string();
            RollbackRequest {
                file_id: Some(name.file_id),
                latest_base_instant: Some(dead.instant.to_string()),
                files_to_be_deleted: vec![format!("{base}/{}", layout::in_partition(&partition, &file))],
                log_blocks_to_be_deleted: Some(BTreeMap::new()),
                partition_path: partition,
            }
        })
        .collect();
    Ok(RollbackPlan {
        instant_to_rollback: Some(InstantInfo {
            commit_time: dead.instant.to_string(),
            action: dead.action.as_str().to_owned(),
        }),
        rollback_requests: Some(requests),
        version: Some(1),
    })
}

/// Returns the base files that a write has created or was about to create: those in the listing, and those
/// that have a marker.
async fn files_of(context: &Context, view: &View, dead: Instant) -> Result<Vec<(String, BaseFileName)>> {
    let pending = view.pending.iter().filter(|file| file.name.instant == dead);
    let mut paths: BTreeSet<String> =
        pending.map(|file| layout::in_partition(&file.partition, &file.name.to_string())).collect();
    for group in view.groups.values() {
        let versions = group.versions.iter().filter(|version| version.instant == dead);
        paths.extend(versions.map(|version| group.path(version)));
    }
    let folder = context.layout().marker_folder(dead)?;
    let prefix = context.layout().relative(&folder).to_owned();
    for object in storage::list_below(context.store(), &folder).await? {
        let relative = context.layout().relative(&object.location);
        let below = relative.strip_prefix(&prefix).map_or(relative, |rest| rest.trim_start_matches('/'));
        if below.starts_with(MARKERS) {
            let text = storage::read(context.store(), &object.location).await?;
            let text = String::from_utf8_lossy(&text);
            paths.extend(text.lines().filter_map(|line| layout::marked_file(line.trim())).map(str::to_owned));
        } else if let Some(file) = layout::marked_file(below) {
            paths.insert(file.to_owned());
        }
    }
    let named = paths.iter().filter_map(|path| {
        let (partition, file) = layout::split_partition(path);
        Some((partition.to_owned(), BaseFileName::parse(file).filter(|name| name.instant == dead)?))
    });
    Ok(named.collect())
}

async fn resume(
    context: &Context,
    turn: &Turn<'_>,
    view: &View,
    entry: &TimelineEntry,
) -> Result<Option<Instant>> {
    let requested = context.layout().instant_file(entry.instant, Action::Rollback, State::Requested)?;
    let bytes = storage::read_if_exists(context.store(), &requested).await?;
    let plan = match bytes.filter(|bytes| !bytes.is_empty()) {
        Some(bytes) => {
            RollbackPlan::decode(&bytes).map_err(|error| error.with_context("file", &requested))?
        }
        None => {
            // The writer died before it had written the plan. The write to undo will be found again.
            withdraw(context, view, entry.instant).await?;
            return Ok(None);
        }
    };
    let inflight = context.layout().instant_file(entry.instant, Action::Rollback, State::Inflight)?;
    let of = match storage::read_if_exists(context.store(), &inflight).await? {
        Some(bytes) => Of::from_bytes(&bytes),
        None => {
            storage::create(context.store(), &inflight, Of::Pending.to_bytes()).await?;
            Of::Pending
        }
    };
    let done = carry_out(context, turn, view, entry.instant, &plan, of).await?;
    Ok(done.and(plan.instant_to_rollback).and_then(|dead| dead.commit_time.parse().ok()))
}

/// Carries out a plan from its beginning. Returns the number of deleted files. Returns `None` if the write is
/// valid. In that case, nothing was deleted, and the rollback was withdrawn.
async fn carry_out(
    context: &Context,
    turn: &Turn<'_>,
    view: &View,
    instant: Instant,
    plan: &RollbackPlan,
    of: Of,
) -> Result<Option<u64>> {
    let layout = context.layout();
    let watch = tokio::time::Instant::now();
    let dead = plan.instant_to_rollback.clone().ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "the plan of a rollback does not name a write")
            .with_context("instant", instant)
    })?;
    let dead_instant: Instant = dead.commit_time.parse()?;
    let action = Action::parse(&dead.action);
    if let Some(action) = action
        && !unpublish(context, turn, view, dead_instant, action, of).await?
    {
        withdraw(context, view, instant).await?;
        return Ok(None);
    }
    // The plan's paths depend on the machine that made it, so only the names are used.
    let relative =
        |partition: &str, file: &str| layout::in_partition(partition, layout::split_partition(file).1);
    let requests = || plan.rollback_requests.iter().flatten();
    let mut files = Vec::new();
    for request in requests() {
        files.extend(request.files_to_be_deleted.iter().map(|file| relative(&request.partition_path, file)));
    }
    let deleted = turn.delete_files(view, files).await?;
    let mut partitions: BTreeMap<String, RollbackPartitionMetadata> = BTreeMap::new();
    for request in requests() {
        let partition = &request.partition_path;
        let done = partitions.entry(partition.clone()).or_insert_with(|| RollbackPartitionMetadata {
            partition_path: partition.clone(),
            success_delete_files: Vec::new(),
            failed_delete_files: Vec::new(),
            rollback_log_files: Some(BTreeMap::new()),
            log_files_from_failed_commit: Some(BTreeMap::new()),
        });
        for file in &request.files_to_be_deleted {
            if deleted.contains(&relative(partition, file)) {
                done.success_delete_files.push(file.clone());
            } else {
                done.failed_delete_files.push(file.clone());
            }
        }
    }
    turn.verify().await?;
    for file in [
        layout.tombstones(dead_instant)?,
        layout.old_tombstones(dead_instant)?,
        layout.hidden_rows(dead_instant)?,
        layout.ledger(dead_instant)?,
    ] {
        storage::delete(context.store(), &file).await?;
    }
    turn.verify().await?;
    markers::remove(context, dead_instant).await?;
    if let Some(action) = action {
        let requested = layout.instant_file(dead_instant, action, State::Requested)?;
        turn.delete_files(view, vec![layout.relative(&requested).to_owned()]).await?;
    }
    let metadata = RollbackMetadata {
        start_rollback_time: instant.to_string(),
        time_taken_in_millis: i64::try_from(watch.elapsed().as_millis()).unwrap_or(i64::MAX),
        total_files_deleted: partitions.values().map(|done| done.success_delete_files.len() as i32).sum(),
        commits_rollback: vec![dead.commit_time.clone()],
        partition_metadata: partitions,
        version: Some(1),
        instants_rollback: vec![dead],
    };
    let completed = layout.instant_file(instant, Action::Rollback, State::Completed)?;
    // Another writer may have found the plan and finished it.
    storage::create_if_absent(context.store(), &completed, metadata.encode()).await?;
    Ok(Some(metadata.total_files_deleted.unsigned_abs().into()))
}

/// Removes the file that completes a write, so that no reader looks for files that are about to be deleted.
/// Also removes the file with which the write could be completed. Returns `false` if the write is valid:
/// either it has completed in the meantime, or other commits are based on it, because the process that
/// announced its rollback was suspended.
async fn unpublish(
    context: &Context,
    turn: &Turn<'_>,
    view: &View,
    dead: Instant,
    action: Action,
    of: Of,
) -> Result<bool> {
    let file = |state| context.layout().instant_file(dead, action, state);
    let completed = file(State::Completed)?;
    let stands = async || Ok::<_, Error>(storage::written_at(context.store(), &completed).await?.is_some());
    if of == Of::Completed && stands().await? {
        if view.timeline.latest_commit() != Some(dead) {
            return Ok(false);
        }
        turn.delete_files(view, vec![context.layout().relative(&completed).to_owned()]).await?;
    }
    let inflight = context.layout().relative(&file(State::Inflight)?).to_owned();
    turn.delete_files(view, vec![inflight]).await?;
    Ok(!stands().await?)
}
