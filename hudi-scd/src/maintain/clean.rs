//! Runs a clean: requested, inflight, the deletions, completed. An unfinished clean is resumed from its plan.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use hudi_format::retention::{
    CommitView, FileGroupView, PartitionView, Plan, RetentionPolicy, SavepointView, SliceView, TimelineView,
    plan,
};

use crate::{
    Result,
    beside::tombstones,
    context::{Context, Turn},
    layout,
    maintain::metadata_table,
    snapshot::{Changes, FileGroup, FileVersion, View},
    storage,
    timeline::{
        Action, Instant, State,
        avro::{CleanFileInfo, CleanMetadata, CleanPartitionMetadata, CleanPlan, SavepointMetadata},
    },
};

/// The result of a clean.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CleanReport {
    /// The instant of the clean.
    pub instant: Instant,
    /// The number of deleted files.
    pub files: u64,
    /// The earliest commit that stays readable, if the policy defines one.
    pub earliest: Option<Instant>,
}

/// Implements [`Table::clean_plan`](crate::Table::clean_plan).
pub(crate) async fn clean_plan(context: &Context) -> Result<Plan> {
    let policy = context.options().retention.unwrap_or_default();
    Box::pin(plan_clean(context, &*context.view().await?, policy)).await
}

/// Implements [`Table::clean`](crate::Table::clean).
pub(crate) async fn clean(context: &Context) -> Result<Option<CleanReport>> {
    let operation = context.begin_change("clean");
    let cleaned = Box::pin(async {
        let turn = Box::pin(context.turn()).await?;
        let cleaned = turn.run(async {
            Box::pin(finish_pending_cleans(context, &turn)).await?;
            Box::pin(clean_now(context, &turn, context.options().retention.unwrap_or_default())).await
        });
        let cleaned = cleaned.await;
        turn.end().await;
        if let Ok(Some(report)) = &cleaned {
            operation.has_instant(report.instant);
            operation.has_files(report.files, 0);
        }
        cleaned
    });
    operation.run(cleaned).await
}

/// Finishes unfinished cleans on the timeline, under their own instants.
pub(crate) async fn finish_pending_cleans(context: &Context, turn: &Turn<'_>) -> Result<()> {
    let view = turn.view().await?;
    if view.timeline.pending(Action::Clean).next().is_some() {
        Box::pin(metadata_table::drop_once(context, turn, &view)).await?;
    }
    for entry in view.timeline.pending(Action::Clean) {
        let requested = context.layout().instant_file(entry.instant, Action::Clean, State::Requested)?;
        let bytes = storage::read_if_exists(context.store(), &requested).await?;
        match bytes.filter(|bytes| !bytes.is_empty()) {
            Some(bytes) => {
                let plan =
                    CleanPlan::decode(&bytes).map_err(|error| error.with_context("file", &requested))?;
                if !entry.has_file(State::Inflight) {
                    begin(context, entry.instant, &bytes).await?;
                }
                turn.forget_view().await;
                Box::pin(carry_out(context, turn, true, &view, entry.instant, &plan)).await?;
            }
            None => {
                // Without a plan, nothing was deleted, and the clean cannot be resumed.
                for state in [State::Inflight, State::Requested] {
                    let file = context.layout().instant_file(entry.instant, Action::Clean, state)?;
                    turn.delete_files(&view, vec![context.layout().relative(&file).to_owned()]).await?;
                    turn.relist();
                }
            }
        }
    }
    Ok(())
}

/// Cleans by this policy, in a turn. Returns `None` if there is nothing to delete.
pub(crate) async fn clean_now(
    context: &Context,
    turn: &Turn<'_>,
    policy: RetentionPolicy,
) -> Result<Option<CleanReport>> {
    let view = turn.view().await?;
    let planned = Box::pin(plan_clean(context, &view, policy)).await?;
    if planned.is_empty() {
        return Ok(None);
    }
    turn.confirm().await?;
    Box::pin(metadata_table::drop_once(context, turn, &view)).await?;
    let plan = planned.to_avro(&file_url(context));
    let instant = context.mint(view.timeline.newest())?;
    let bytes = plan.encode();
    let requested = context.layout().instant_file(instant, Action::Clean, State::Requested)?;
    storage::create(context.store(), &requested, bytes.clone()).await?;
    begin(context, instant, &bytes).await?;
    let (report, metadata) = match Box::pin(carry_out(context, turn, false, &view, instant, &plan)).await {
        Ok(done) => done,
        Err(error) => {
            turn.forget_view().await;
            return Err(error);
        }
    };
    drop(view);
    let changes = Changes { cleans: vec![(instant, Some(metadata))], ..Changes::default() };
    turn.advance(|timeline| timeline.complete(instant, Action::Clean), changes).await;
    Ok(Some(report))
}

/// Returns the table's URL in the form used by plans of cleans. Plans of rollbacks contain plain paths.
fn file_url(context: &Context) -> String {
    let base = context.base_url();
    if base.contains(':') { base } else { format!("file:{base}") }
}

/// Writes the inflight file, in which Hudi 0.14 to 1.0 repeat the plan.
async fn begin(context: &Context, instant: Instant, plan: &[u8]) -> Result<()> {
    let inflight = context.layout().instant_file(instant, Action::Clean, State::Inflight)?;
    storage::create(context.store(), &inflight, plan.to_vec()).await
}

/// Carries out a plan. Several writers may take turns in completing the plan of another writer. In that
/// case, `is_foreign` verifies the turn before each deletion.
async fn carry_out(
    context: &Context,
    turn: &Turn<'_>,
    is_foreign: bool,
    view: &View,
    instant: Instant,
    plan: &CleanPlan,
) -> Result<(CleanReport, CleanMetadata)> {
    let watch = tokio::time::Instant::now();
    let planned = || plan.file_paths_to_be_deleted_per_partition.iter().flatten();
    // The plan's paths depend on the machine that made it, so only the file names are used.
    let names = |files: &[CleanFileInfo]| -> Vec<String> {
        let paths = files.iter().filter_map(|file| file.file_path.as_deref());
        paths.map(|path| layout::split_partition(path).1.to_owned()).collect()
    };
    let mut all = Vec::new();
    for (partition, files) in planned() {
        all.extend(names(files).iter().map(|name| layout::in_partition(partition, name)));
    }
    let delete = async |files: Vec<String>| match is_foreign {
        true => turn.delete_files(view, files).await,
        false => context.delete_files(view, files).await,
    };
    let deleted = delete(all).await?;
    let mut partitions: BTreeMap<String, CleanPartitionMetadata> = BTreeMap::new();
    let mut files = 0;
    for (partition, planned) in planned() {
        let mut done = CleanPartitionMetadata {
            partition_path: partition.clone(),
            policy: plan.policy.clone(),
            delete_path_patterns: Vec::new(),
            success_delete_files: Vec::new(),
            failed_delete_files: Vec::new(),
            is_partition_deleted: Some(
                plan.partitions_to_be_deleted.iter().flatten().any(|gone| gone == partition),
            ),
        };
        for name in names(planned) {
            done.delete_path_patterns.push(name.clone());
            if deleted.contains(&layout::in_partition(partition, &name)) {
                files += 1;
                done.success_delete_files.push(name);
            } else {
                done.failed_delete_files.push(name);
            }
        }
        partitions.insert(partition.clone(), done);
    }
    // The metadata file of a removed partition is deleted last.
    let gone = || plan.partitions_to_be_deleted.iter().flatten().filter(|path| !path.is_empty());
    let metadata = gone().map(|partition| layout::in_partition(partition, layout::PARTITION_METADATA));
    delete(metadata.collect()).await?;
    gone().for_each(|partition| context.remove_empty_folders(partition));
    let earliest = plan.earliest_instant_to_retain.as_ref().map(|retained| retained.timestamp.clone());
    let metadata = CleanMetadata {
        start_clean_time: instant.to_string(),
        time_taken_in_millis: i64::try_from(watch.elapsed().as_millis()).unwrap_or(i64::MAX),
        total_files_deleted: files,
        earliest_commit_to_retain: earliest.clone().unwrap_or_default(),
        last_completed_commit_timestamp: plan.last_completed_commit_timestamp.clone(),
        partition_metadata: partitions,
        version: Some(2),
        bootstrap_partition_metadata: Some(BTreeMap::new()),
        extra_metadata: Some(BTreeMap::new()),
    };
    let completed = context.layout().instant_file(instant, Action::Clean, State::Completed)?;
    storage::create(context.store(), &completed, metadata.encode()).await?;
    let earliest = earliest.and_then(|text| text.parse().ok());
    // If the policy defines no window, tombstones of archived commits are obsolete too.
    let first_active = view.timeline.completed_commits().next().map(|entry| entry.instant);
    if let Some(horizon) = earliest.or(first_active) {
        if is_foreign {
            turn.verify().await?;
        }
        tombstones::remove_before(context, turn, view, horizon).await?;
    }
    Ok((CleanReport { instant, files: u64::try_from(files).unwrap_or(0), earliest }, metadata))
}

async fn plan_clean(context: &Context, view: &View, policy: RetentionPolicy) -> Result<Plan> {
    let timeline = &view.timeline;
    let mut savepoints = Vec::new();
    for entry in timeline.completed(Action::Savepoint) {
        let path = context.layout().instant_file(entry.instant, Action::Savepoint, State::Completed)?;
        let bytes = storage::read(context.store(), &path).await?;
        let files: BTreeSet<String> = if bytes.is_empty() {
            // A writer that died left the savepoint in this state. It protects the files of its commit.
            view.files_at(entry.instant).map(|(_, version)| version.file.to_string()).collect()
        } else {
            let saved =
                SavepointMetadata::decode(&bytes).map_err(|error| error.with_context("file", &path))?;
            let files = saved.partition_metadata.into_values();
            files.flat_map(|partition| partition.savepoint_data_file).collect()
        };
        savepoints.push(SavepointView { instant: entry.instant, files });
    }
    let pending = timeline.entries().iter().find(|entry| entry.action.writes_rows() && entry.is_pending());
    let commits = timeline.completed_commits();
    let known = TimelineView {
        commits: commits.map(|entry| CommitView { instant: entry.instant, action: entry.action }).collect(),
        earliest_pending: pending.map(|entry| entry.instant),
        savepoints,
        last_earliest_to_retain: view.earliest,
        now: context.options().clock.now(),
        zone: context.properties().zone.clone(),
    };
    // The view contains all partitions, so `scope` would save nothing.
    let pending_in: HashSet<&str> = view.pending.iter().map(|file| file.partition.as_str()).collect();
    let partition_of = |path: &str, groups: &[&Arc<FileGroup>]| PartitionView {
        path: path.to_owned(),
        groups: groups.iter().map(|group| file_group(group)).collect(),
        has_pending_files: pending_in.contains(path),
    };
    // Creating the views of all partitions at once would copy all file groups of the table.
    let groups: Vec<&Arc<FileGroup>> = view.groups.values().collect();
    let partitions = groups.chunk_by(|one, next| one.partition == next.partition);
    let partitions = partitions.map(|groups| partition_of(&groups[0].partition, groups));
    Ok(plan(policy, &known, partitions))
}

fn file_group(group: &FileGroup) -> FileGroupView {
    let slice = |version: &FileVersion| SliceView {
        instant: version.instant,
        file: version.file.to_string(),
        bytes: version.bytes,
    };
    FileGroupView {
        file_id: group.file_id.to_string(),
        slices: group.versions.iter().map(slice).collect(),
        replaced_at: group.replaced_at,
    }
}
