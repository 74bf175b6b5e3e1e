//! Rollback: undoing what a writer that died has left, in Hudi's own form.
//!
//! ```text
//! {ts2}.rollback.requested  the plan: which files of which dead instant go
//! {ts2}.rollback.inflight
//! (the dead instant's inflight file, files, tombstones, markers, then the instant itself)
//! {ts2}.rollback            what was done
//! ```
//!
//! A rollback that died itself goes on from its plan: each step may be done twice.
//!
//! The inflight file goes first, as it is what a commit is completed with: without it a writer that was taken for dead
//! and is only slow cannot complete any more. If it did just before that, its commit stands and the rollback is given up.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Error, ErrorKind, Result,
    layout::{self, BaseFileName},
    storage,
    table::Table,
    timeline::{
        Action, Instant, State, TimelineEntry,
        avro::{
            InstantInfo, RequestedReplace, RollbackMetadata, RollbackPartitionMetadata, RollbackPlan,
            RollbackRequest,
        },
    },
    view::View,
};

/// The names under which Hudi's markers that were collected by its timeline server lie.
const MARKERS: &str = "MARKERS";

/// How old the heartbeat of a writer of Hudi may be: two beats, a minute each (`hoodie.client.heartbeat.*`).
const HEARTBEAT: jiff::SignedDuration = jiff::SignedDuration::from_secs(120);

/// Rolls back every write that did not complete. The instants of those writes.
///
/// Whoever calls this holds the table's lock, so that what is pending is dead, but for writers of Hudi under optimistic
/// concurrency control: they hold the lock only while they commit, and show by a heartbeat that they live. If such a
/// one commits after us, it finds out itself whether its file groups were written meanwhile.
pub(crate) async fn roll_back_pending(table: &Table) -> Result<Vec<Instant>> {
    let mut view = table.view().await?;
    refuse_foreign_pending(table, &view).await?;
    if view.timeline.entries().iter().any(TimelineEntry::is_pending) {
        // What is pending may have left files since the view was loaded, without the timeline having moved.
        table.forget_view();
        view = table.view().await?;
    }
    let mut done = Vec::new();
    let resumed: Vec<TimelineEntry> = view.timeline.pending(Action::Rollback).cloned().collect();
    for entry in resumed {
        done.extend(resume(table, &view, &entry).await?);
    }
    if !done.is_empty() {
        table.forget_view();
        view = table.view().await?;
    }
    let mut alive: Vec<Instant> = Vec::new();
    loop {
        let pending = view.timeline.entries().iter().find(|entry| {
            entry.action.writes_rows() && entry.is_pending() && !alive.contains(&entry.instant)
        });
        let Some(dead) = pending.cloned() else { return Ok(done) };
        if is_alive(table, dead.instant).await? {
            alive.push(dead.instant);
            continue;
        }
        if roll_back(table, &view, &dead).await?.is_some() {
            done.push(dead.instant);
        }
        table.forget_view();
        view = table.view().await?;
    }
}

/// Whether a writer of Hudi says that it is at work on this instant.
pub(crate) async fn is_alive(table: &Table, instant: Instant) -> Result<bool> {
    let beat = storage::written_at(table.store(), &table.inner.layout.heartbeat(instant)?).await?;
    Ok(beat.is_some_and(|beat| table.inner.options.clock.now().duration_since(beat) < HEARTBEAT))
}

/// Makes a completed write one that did not complete: no reader may look for files that are about to go.
pub(crate) async fn unpublish(table: &Table, view: &View, entry: &TimelineEntry) -> Result<()> {
    let file = |state| table.inner.layout.instant_file(entry.instant, entry.action, state);
    if !entry.has_file(State::Inflight) {
        // Something must be left to tell that there was a write.
        storage::write(table.store(), &file(State::Inflight)?, Vec::new()).await?;
    }
    table.delete_file(view, table.inner.layout.relative(&file(State::Completed)?)).await?;
    table.forget_view();
    Ok(())
}

/// Rolls back a write that did not complete. The instant of the rollback, and how many files it deleted; `None` if the
/// write has completed meanwhile, and stands.
pub(crate) async fn roll_back(
    table: &Table,
    view: &View,
    dead: &TimelineEntry,
) -> Result<Option<(Instant, u64)>> {
    let plan = plan(table, view, dead).await?;
    let instant = table.mint(view.timeline.newest())?;
    let file = |state| table.inner.layout.instant_file(instant, Action::Rollback, state);
    storage::create(table.store(), &file(State::Requested)?, plan.encode()).await?;
    storage::create(table.store(), &file(State::Inflight)?, Vec::new()).await?;
    let files = carry_out(table, view, instant, &plan).await?;
    Ok(files.map(|files| (instant, files)))
}

/// Deletes the markers of writes that completed, and died before they tidied up.
pub(crate) async fn sweep_markers(table: &Table) -> Result<()> {
    let folder = table.inner.layout.temp_folder()?;
    let listed = storage::list_folder(table.store(), &folder).await?;
    if listed.common_prefixes.is_empty() {
        return Ok(());
    }
    let view = table.view().await?;
    for markers in listed.common_prefixes {
        let Some(instant) = markers.filename().and_then(|name| name.parse::<Instant>().ok()) else {
            continue;
        };
        let is_over =
            view.timeline.entries().iter().any(|entry| entry.instant == instant && !entry.is_pending());
        if is_over {
            table.remove_markers(instant).await?;
        }
    }
    Ok(())
}

/// Undone is what this crate writes; a clustering, a compaction or a restore that is under way is another engine's.
async fn refuse_foreign_pending(table: &Table, view: &View) -> Result<()> {
    for entry in view.timeline.entries().iter().filter(|entry| entry.is_pending()) {
        let ours = match entry.action {
            Action::Commit | Action::Clean | Action::Rollback | Action::Savepoint => true,
            Action::ReplaceCommit => !is_clustering(table, entry).await?,
            _ => false,
        };
        if !ours {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "another engine has planned or begun something that only it can finish: run it, or roll it back, there first",
            )
            .with_context("action", entry.action)
            .with_context("instant", entry.instant));
        }
    }
    Ok(())
}

/// Whether a replacecommit that is pending is a clustering: it stays planned until an engine carries it out, where an
/// overwrite that is pending has died.
async fn is_clustering(table: &Table, entry: &TimelineEntry) -> Result<bool> {
    let requested = table.inner.layout.instant_file(entry.instant, entry.action, State::Requested)?;
    let bytes = storage::read_if_exists(table.store(), &requested).await?;
    let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else { return Ok(false) };
    let replace = RequestedReplace::decode(&bytes).map_err(|error| error.with_context("file", &requested))?;
    Ok(replace.clustering_plan.is_some() || replace.operation_type.as_deref() == Some("CLUSTER"))
}

async fn plan(table: &Table, view: &View, dead: &TimelineEntry) -> Result<RollbackPlan> {
    let base = table.base_url();
    // Plans of rollbacks have paths without a scheme, unlike those of cleans.
    let base =
        base.split_once("://").map_or(base.as_str(), |(_, rest)| rest.find('/').map_or("", |at| &rest[at..]));
    let requests = files_of(table, view, dead.instant)
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

/// The base files that a write left or was about to leave: those that are listed, and those that have a marker.
async fn files_of(table: &Table, view: &View, dead: Instant) -> Result<Vec<(String, BaseFileName)>> {
    let mut paths: BTreeSet<String> = view
        .pending
        .iter()
        .filter(|file| file.name.instant == dead)
        .map(|file| layout::in_partition(&file.partition, &file.name.to_string()))
        .collect();
    let folder = table.inner.layout.marker_folder(dead)?;
    let prefix = table.inner.layout.relative(&folder).to_owned();
    for object in storage::list_below(table.store(), &folder).await? {
        let relative = table.inner.layout.relative(&object.location);
        let below = relative.strip_prefix(&prefix).map_or(relative, |rest| rest.trim_start_matches('/'));
        if below.starts_with(MARKERS) {
            let text = storage::read(table.store(), &object.location).await?;
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

async fn resume(table: &Table, view: &View, entry: &TimelineEntry) -> Result<Option<Instant>> {
    let requested = table.inner.layout.instant_file(entry.instant, Action::Rollback, State::Requested)?;
    let bytes = storage::read_if_exists(table.store(), &requested).await?;
    let plan = match bytes.filter(|bytes| !bytes.is_empty()) {
        Some(bytes) => {
            RollbackPlan::decode(&bytes).map_err(|error| error.with_context("file", &requested))?
        }
        None => {
            // It died before its plan was there, so it has done nothing: what it was to undo is found again.
            for state in [State::Inflight, State::Requested] {
                let file = table.inner.layout.instant_file(entry.instant, Action::Rollback, state)?;
                table.delete_file(view, table.inner.layout.relative(&file)).await?;
            }
            return Ok(None);
        }
    };
    if !entry.has_file(State::Inflight) {
        let inflight = table.inner.layout.instant_file(entry.instant, Action::Rollback, State::Inflight)?;
        storage::create(table.store(), &inflight, Vec::new()).await?;
    }
    let done = carry_out(table, view, entry.instant, &plan).await?;
    Ok(done.and(plan.instant_to_rollback).and_then(|dead| dead.commit_time.parse().ok()))
}

/// Carries out a plan, from its beginning; how many files it deleted. `None` if the write has completed meanwhile: nothing
/// was deleted then, and the rollback is gone.
async fn carry_out(table: &Table, view: &View, instant: Instant, plan: &RollbackPlan) -> Result<Option<u64>> {
    let layout = &table.inner.layout;
    let watch = tokio::time::Instant::now();
    let dead = plan.instant_to_rollback.clone().ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "the plan of a rollback does not say of what")
            .with_context("instant", instant)
    })?;
    let dead_instant: Instant = dead.commit_time.parse()?;
    let action = Action::parse(&dead.action);
    if let Some(action) = action {
        let inflight = layout.instant_file(dead_instant, action, State::Inflight)?;
        table.delete_file(view, layout.relative(&inflight)).await?;
        let completed = layout.instant_file(dead_instant, action, State::Completed)?;
        if storage::written_at(table.store(), &completed).await?.is_some() {
            for state in [State::Inflight, State::Requested] {
                let file = layout.instant_file(instant, Action::Rollback, state)?;
                storage::delete(table.store(), &file).await?;
            }
            return Ok(None);
        }
    }
    let mut partitions: BTreeMap<String, RollbackPartitionMetadata> = BTreeMap::new();
    for request in plan.rollback_requests.iter().flatten() {
        let partition = &request.partition_path;
        let done = partitions.entry(partition.clone()).or_insert_with(|| RollbackPartitionMetadata {
            partition_path: partition.clone(),
            success_delete_files: Vec::new(),
            failed_delete_files: Vec::new(),
            rollback_log_files: Some(BTreeMap::new()),
            log_files_from_failed_commit: Some(BTreeMap::new()),
        });
        for file in &request.files_to_be_deleted {
            // The plan's paths are those of the machine that made it: only the name holds here.
            let relative = layout::in_partition(partition, layout::split_partition(file).1);
            if table.delete_file(view, &relative).await? {
                done.success_delete_files.push(file.clone());
            } else {
                done.failed_delete_files.push(file.clone());
            }
        }
    }
    storage::delete(table.store(), &layout.tombstones(dead_instant)?).await?;
    table.remove_markers(dead_instant).await?;
    if let Some(action) = action {
        let requested = layout.instant_file(dead_instant, action, State::Requested)?;
        table.delete_file(view, layout.relative(&requested)).await?;
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
    storage::create(table.store(), &completed, metadata.encode()).await?;
    Ok(Some(metadata.total_files_deleted.unsigned_abs().into()))
}

impl Table {
    /// Deletes a file of the table, with the checksum that Hadoop may have put beside it. Whether it was there.
    pub(crate) async fn delete_file(&self, view: &View, relative: &str) -> Result<bool> {
        let layout = &self.inner.layout;
        let deleted = storage::delete(self.store(), &layout.resolve(relative)?).await?;
        let checksum = layout::local_checksum(relative);
        if view.checksums.contains(&checksum) {
            storage::delete(self.store(), &layout.resolve(&checksum)?).await?;
        }
        Ok(deleted)
    }
}
