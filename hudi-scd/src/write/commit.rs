//! Makes a commit: requested, inflight, markers and files, completed.
//!
//! Readers see nothing of a commit until its last file, `{ts}.commit`, exists, and everything from then on. A
//! marker is written before each base file, so that the files of a dead writer can be found.
//!
//! A commit is completed by a copy of its inflight file, which the storage itself makes. At that time, the
//! inflight file contains the commit's metadata. A writer that takes over the table first deletes the
//! inflight files of earlier writers (see [rollback](crate::recover)). If a writer is suspended after its
//! last check of the lock and resumes later, it has nothing to copy. A put of the completed file would
//! succeed, for a commit whose files were deleted.

use std::{collections::BTreeMap, sync::Arc};

use arrow::datatypes::SchemaRef;
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use parquet::basic::Compression;
use tokio::time::Instant as Stopwatch;

use super::{
    files::{
        base_file::FileFormat,
        merge::{KeptKeys, Merge},
    },
    operation_type::{OperationType, Replaced},
    plan::pack::{FileTask, Packed},
    report::CommitReport,
};
use crate::{
    Error, ErrorKind, Result,
    base_file::Footer,
    beside::{Beside, hidden},
    concurrent::{blocking, ordered_changes},
    context::{Context, Turn},
    layout::{self, BaseFileName},
    operation::{Operation, Phase},
    patched_upload::{self, CommonChunks, Written},
    properties::java_date,
    recover::{heartbeat::Heartbeat, markers},
    snapshot::{Changes, Opened},
    storage::{self, fence::Stop},
    timeline::{Action, CommitMetadata, Instant, State, WriteStat, avro::RequestedReplace},
};

/// A commit that is about to be made.
pub(crate) struct Commit<'a> {
    pub(crate) context: &'a Context,
    pub(crate) turn: &'a Turn<'a>,
    /// The heartbeat of its instant.
    pub(crate) heartbeat: Heartbeat,
    pub(crate) operation_type: OperationType,
    /// The data columns.
    pub(crate) avro: String,
    /// The compression of its files.
    pub(crate) codec: Compression,
    /// The file groups that the new file groups replace.
    pub(crate) replaced: Replaced,
    pub(crate) beside: Beside,
}

impl Commit<'_> {
    /// Writes the files and completes the commit. If this fails, the commit stays pending, and the next
    /// writer rolls it back.
    pub(crate) async fn run(
        self,
        schema: SchemaRef,
        packed: Packed,
        report: &mut CommitReport,
        operation: &Operation,
    ) -> Result<()> {
        let Self { context, turn, heartbeat, operation_type, avro, codec, replaced, beside } = self;
        let instant = heartbeat.instant();
        let Beside { hidden, taken } = beside;
        let Packed { tasks, deleted } = packed;
        let (layout, store) = (context.layout(), context.store());
        let format = Arc::new(FileFormat::new(
            context.name(),
            &schema,
            &avro,
            &context.properties().record_key_fields,
            context.is_history(),
            codec,
            context.options(),
        )?);
        let state_file = |state| layout.instant_file(instant, operation_type.action(), state);
        let metadata = |partition_to_write_stats| {
            let mut metadata = CommitMetadata::default();
            metadata.partition_to_write_stats = partition_to_write_stats;
            metadata.operation_type = Some(operation_type.as_str().to_owned());
            if let Some(taken) = &taken {
                taken.describe(&mut metadata);
            }
            metadata
        };

        let requested = match operation_type.action() {
            Action::ReplaceCommit => RequestedReplace::default().encode(),
            _ => Vec::new(),
        };
        let request = state_file(State::Requested)?;
        operation.enter(Phase::Commit);
        storage::create(store, &request, requested).await?;
        storage::create(store, &state_file(State::Inflight)?, metadata(planned(&tasks)).to_json()?).await?;

        operation.enter(Phase::Write);
        // Idle cores work on columns, mainly while the last files are written.
        let parallelism = context.options().parallelism;
        let threads = (4 * parallelism).div_ceil(tasks.len().max(1)).clamp(1, parallelism);
        let files = Files { instant, request, format, schema, threads };
        let markers = tasks.iter().enumerate().map(|(number, task)| marker(context, instant, number, task));
        let markers = markers.collect::<Result<Vec<_>>>()?;
        let opened = tasks.iter().filter(|task| task.opens_partition).map(|task| task.partition.clone());
        let opened = opened.collect();
        let files =
            tasks.into_iter().enumerate().map(|(number, task)| write_file(context, &files, number, task));
        let written = ordered_changes(context.calls_at_a_time(), files, || turn.fail()).await?;
        deleted.write(context, instant).await?;
        if let Some(rows) = hidden {
            hidden::write(context, instant, rows).await?;
        }
        if let Some(taken) = &taken {
            taken.write(context, instant).await?;
        }

        operation.enter(Phase::Commit);
        (report.bytes_sent, report.bytes_copied) = (0, 0);
        let (mut files, mut bytes) = (0, 0);
        let mut by_partition: BTreeMap<String, Vec<WriteStat>> = BTreeMap::new();
        for (stat, written) in written {
            files += 1;
            bytes += written.bytes;
            report.bytes_sent += written.sent;
            report.bytes_copied += written.copied;
            by_partition.entry(stat.partition_path.clone().unwrap_or_default()).or_default().push(stat);
        }
        let mut metadata = metadata(by_partition).with_schema(avro);
        metadata.partition_to_replace_file_ids = replaced;
        let inflight = state_file(State::Inflight)?;
        storage::write(store, &inflight, metadata.to_json()?).await?;
        let completed = state_file(State::Completed)?;
        turn.verify().await?;
        // A write that is stopped from here on still determines the outcome.
        let completing = turn.hold();
        let outcome = complete(store, instant, &inflight, &completed).await;
        completing.done();
        outcome?;
        if heartbeat.has_expired() {
            return Err(unknown(instant, "the commit completed after its heartbeat had expired"));
        }
        (report.instant, report.files, report.bytes) = (Some(instant), files, bytes);
        operation.has_files(files, bytes);
        heartbeat.stop().await;
        // The commit is complete. Markers that remain after an error are harmless.
        if let Err(error) = markers::remove_known(context, instant, markers).await {
            tracing::warn!(%instant, %error, "markers of a completed commit could not be deleted");
        }
        let commit = (instant, metadata, Opened::Known(opened));
        let changes = Changes { commits: vec![commit], ..Changes::default() };
        turn.advance(|timeline| timeline.complete(instant, operation_type.action()), changes).await;
        Ok(())
    }
}

/// Parameters that all files of a commit share.
struct Files {
    instant: Instant,
    /// The request file of the commit.
    request: Path,
    format: Arc<FileFormat>,
    schema: SchemaRef,
    /// The number of threads for each file.
    threads: usize,
}

/// Returns the name of the base file that a task writes.
fn file_name(instant: Instant, number: usize, task: &FileTask) -> String {
    let write_token = format!("{number}-0-{number}");
    BaseFileName { file_id: task.file_id.clone(), write_token, instant }.to_string()
}

/// Returns the marker of the base file that a task writes.
fn marker(context: &Context, instant: Instant, number: usize, task: &FileTask) -> Result<Path> {
    let path = layout::in_partition(&task.partition, &file_name(instant, number, task));
    context.layout().marker(instant, &path, if task.old.is_none() { "CREATE" } else { "MERGE" })
}

async fn write_file(
    context: &Context,
    files: &Files,
    number: usize,
    task: FileTask,
) -> Result<(WriteStat, Written)> {
    let &Files { instant, threads, .. } = files;
    let _admitted = context.admit(task.bytes()).await?;
    let (format, schema) = (files.format.clone(), files.schema.clone());
    let began = Stopwatch::now();
    let layout = context.layout();
    let name = file_name(instant, number, &task);
    let path = layout::in_partition(&task.partition, &name);

    let created = task.old.is_none();
    let marker = marker(context, instant, number, &task)?;
    let marked = storage::mark(context.store(), &marker, &files.request).await;
    marked.map_err(|error| undone(instant, error))?;
    if task.opens_partition {
        let metadata = partition_metadata(instant, &task.partition, context.options().clock.now());
        storage::write(context.store(), &layout.partition_metadata(&task.partition)?, metadata).await?;
    }

    let previous = task.old.as_ref().map(|old| old.version().instant);
    let mut stat = WriteStat::default().with_previous(previous);
    stat.file_id = task.file_id.clone();
    stat.path = Some(path.clone());
    stat.num_writes = task.rows().cast_signed();
    stat.num_deletes = task.edits.dropped.cast_signed();
    stat.num_update_writes = task.edits.updated.cast_signed();
    stat.num_inserts = task.appends.rows().cast_signed();
    stat.partition_path = Some(task.partition.clone());
    let (rows, drops) = (task.rows(), task.edits.dropped > 0);
    let (mut old, mut original) = (None, None);
    if let Some(file) = &task.old {
        let (path, bytes) = (file.path(layout)?, file.version().bytes);
        match context.range_copies().filter(|copies| copies.pay_for(bytes)) {
            Some(copies) => {
                let (open, remote) = context.open_sparse(&path, bytes).await?;
                (old, original) = (Some(open), Some((copies, remote)));
            }
            None => old = Some(context.open_whole(&path, bytes).await?),
        }
    }
    let common = CommonChunks::default();
    let kept = context.index_cache().map(|cache| {
        let ordering = context.properties().stored_ordering(&schema);
        let column = ordering.as_ref().and_then(|(name, _)| schema.index_of(name).ok());
        let ordering = ordering.as_ref().map(|(name, data_type)| (name.as_str(), data_type));
        KeptKeys { writer: cache.keep_keys(ordering), ordering: column }
    });
    let merge = Merge {
        format,
        schema,
        instant,
        task: number,
        partition: task.partition,
        name,
        old,
        edits: task.edits,
        appends: task.appends,
        drops,
        rows,
        threads,
        kept,
        common: common.clone(),
    };
    let path = layout.resolve(&path)?;
    let (written, merged) = match original {
        Some((copies, original)) => {
            let make = move |out| merge.run(out);
            patched_upload::write_copying(copies, context.store(), &path, original, common, make).await?
        }
        None => {
            let made = storage::write_made(context.store(), &path, move |out| merge.run(out)).await?;
            (Written::sent(made.0), made.1)
        }
    };
    debug_assert_eq!(merged.rows, rows);
    let entry = context.index_entry(&path, written.bytes);
    // The next write of this handle then need not read the footer.
    let footer = Footer::of(path, Arc::new(merged.footer));
    context.footers().keep(&footer);
    context.footers().keep_metadata(&footer);
    if let Some(entry) = entry {
        blocking(move || {
            // The cache is optional, so errors are ignored.
            if let Ok(metadata) = footer.encoded() {
                entry.keep_footer(&metadata);
            }
            if let Some(kept) = merged.kept {
                kept.keep(&entry);
            }
            Ok(())
        })
        .await?;
    }
    stat.file_size_in_bytes = written.bytes.cast_signed();
    stat.total_write_bytes = stat.file_size_in_bytes;
    let milliseconds = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
    Ok((stat.with_runtime(milliseconds, created), written))
}

/// Completes a commit, which makes it visible. An error other than [`ErrorKind::Unknown`] means that the
/// commit did not complete, and will not.
///
/// A request that failed may have taken effect. It may also take effect later, until its source, the inflight
/// file, is deleted.
async fn complete(
    store: &dyn ObjectStore,
    instant: Instant,
    inflight: &Path,
    completed: &Path,
) -> Result<()> {
    let Err(cause) = store.copy(inflight, completed).await else { return Ok(()) };
    let was_sent = Stop::of(&cause).is_none();
    let failed = storage::failed("copy", inflight, cause);
    if !was_sent {
        return Err(failed);
    }
    let unknown = |cause: Error| {
        unknown(instant, "the storage does not report whether the commit completed").with_source(cause)
    };
    let is_completed = async || Ok(storage::written_at(store, completed).await.map_err(unknown)?.is_some());
    if is_completed().await? {
        return Ok(());
    }
    if failed.kind() == ErrorKind::NotFound {
        return Err(undone(instant, failed));
    }
    storage::delete(store, inflight).await.map_err(unknown)?;
    if is_completed().await? { Ok(()) } else { Err(failed) }
}

fn unknown(instant: Instant, message: &str) -> Error {
    Error::new(ErrorKind::Unknown { instant }, message)
        .with_context("instant", instant)
        .with_context("hint", "`Table::settle` determines the outcome")
}

/// Converts the error for a missing file of an unfinished commit.
fn undone(instant: Instant, error: Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::new(
            ErrorKind::Conflict,
            "another writer took over the table after the lease expired, and undid this write",
        )
        .with_context("instant", instant)
        .with_source(error),
        _ => error,
    }
}

/// Returns the planned writes, which an inflight commit contains.
fn planned(tasks: &[FileTask]) -> BTreeMap<String, Vec<WriteStat>> {
    let mut planned: BTreeMap<String, Vec<WriteStat>> = BTreeMap::new();
    for task in tasks {
        let stats = planned.entry(task.partition.clone()).or_insert_with(|| vec![WriteStat::default()]);
        stats[0].num_inserts += task.appends.rows().cast_signed();
        if let Some(old) = &task.old {
            let mut stat = WriteStat::default().with_previous(Some(old.version().instant));
            stat.file_id = task.file_id.clone();
            stat.num_update_writes = task.edits.updated.cast_signed();
            stats.push(stat);
        }
    }
    planned
}

/// Returns the content of the file that marks a folder as a partition. It contains the depth of the folder.
fn partition_metadata(instant: Instant, partition: &str, now: jiff::Timestamp) -> String {
    let depth = if partition.is_empty() { 0 } else { partition.split('/').count() };
    format!("#partition metadata\n#{}\ncommitTime={instant}\npartitionDepth={depth}\n", java_date(now))
}
