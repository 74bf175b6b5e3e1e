//! Committing: requested, inflight, markers and files, completed.
//!
//! Readers see nothing before the last file, `{ts}.commit`, is there, and everything from then on. Each base file has
//! a marker before it is written, so that what a dead writer left can be found.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant as Stopwatch;

use super::{
    Watch,
    base_file::FileFormat,
    incoming::{Incoming, Intent},
    merge::Merge,
    pack::{FileTask, Packed},
    report::CommitReport,
};
use crate::{
    Result,
    base_file::{OpenFile, blocking},
    layout::{self, BaseFileName},
    properties::java_date,
    schema, storage,
    table::Table,
    timeline::{Action, CommitMetadata, Instant, State, WriteStat},
    view::View,
};

/// What a commit says that it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Upsert,
    Insert,
    Delete,
}

impl Operation {
    pub(crate) fn of(intent: Intent) -> Self {
        match intent {
            Intent::Upsert => Self::Upsert,
            Intent::Insert => Self::Insert,
            Intent::Delete => Self::Delete,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Upsert => "UPSERT",
            Self::Insert => "INSERT",
            Self::Delete => "DELETE",
        }
    }
}

impl Table {
    pub(crate) async fn commit(
        &self,
        view: &View,
        incoming: Incoming,
        packed: Packed,
        operation: Operation,
        report: &mut CommitReport,
        watch: &mut Watch,
    ) -> Result<()> {
        let Packed { tasks, deleted } = packed;
        let layout = &self.inner.layout;
        let schema = incoming.schema.clone();
        let format = Arc::new(FileFormat::new(self.name(), &schema, &self.inner.options)?);
        let instant = self.mint(view.timeline.newest())?;
        let state_file = |state| layout.instant_file(instant, Action::Commit, state);

        storage::create(self.store(), &state_file(State::Requested)?, Vec::new()).await?;
        let plan = CommitMetadata {
            partition_to_write_stats: planned(&tasks),
            operation_type: Some(operation.as_str().to_owned()),
            ..CommitMetadata::default()
        };
        storage::create(self.store(), &state_file(State::Inflight)?, plan.to_json()?).await?;
        // From here on there are files that only a rollback removes, should this write end early.
        self.forget_view();
        report.time.commit += watch.lap();

        let incoming = Arc::new(incoming);
        let stats: Vec<WriteStat> = stream::iter(tasks.into_iter().enumerate())
            .map(|(number, task)| self.write_file(instant, number, task, format.clone(), incoming.clone()))
            .buffered(self.inner.options.parallelism)
            .try_collect()
            .await?;
        deleted.write(self, instant).await?;
        report.time.write += watch.lap();

        report.files = stats.len() as u64;
        report.bytes = stats.iter().map(|stat| stat.file_size_in_bytes.unsigned_abs()).sum();
        let mut by_partition: BTreeMap<String, Vec<WriteStat>> = BTreeMap::new();
        for stat in stats {
            by_partition.entry(stat.partition_path.clone().unwrap_or_default()).or_default().push(stat);
        }
        let metadata = CommitMetadata {
            partition_to_write_stats: by_partition,
            operation_type: Some(operation.as_str().to_owned()),
            ..CommitMetadata::default()
        };
        let metadata = metadata.with_schema(schema::to_avro(&schema, self.name())?);
        storage::create(self.store(), &state_file(State::Completed)?, metadata.to_json()?).await?;
        report.instant = Some(instant);
        // The commit stands; markers that stay behind after an error here would only be litter.
        if let Err(error) = storage::delete_below(self.store(), &layout.marker_folder(instant)?).await {
            tracing::warn!(%instant, %error, "markers of a completed commit stay behind");
        }
        report.time.commit += watch.lap();
        Ok(())
    }

    async fn write_file(
        &self,
        instant: Instant,
        number: usize,
        task: FileTask,
        format: Arc<FileFormat>,
        incoming: Arc<Incoming>,
    ) -> Result<WriteStat> {
        let began = Stopwatch::now();
        let layout = &self.inner.layout;
        let write_token = format!("{number}-0-{number}");
        let name = BaseFileName { file_id: task.file_id.clone(), write_token, instant }.to_string();
        let path = layout::in_partition(&task.partition, &name);

        let created = task.old.is_none();
        let marker = layout.marker(instant, &path, if created { "CREATE" } else { "MERGE" })?;
        storage::write(self.store(), &marker, Vec::new()).await?;
        if task.opens_partition {
            let metadata = partition_metadata(instant, &task.partition, self.inner.options.clock.now());
            storage::write(self.store(), &layout.partition_metadata(&task.partition)?, metadata).await?;
        }

        let mut stat = WriteStat {
            file_id: task.file_id.clone(),
            path: Some(path.clone()),
            num_writes: task.rows().cast_signed(),
            num_deletes: task.dropped().cast_signed(),
            num_update_writes: task.updated().cast_signed(),
            num_inserts: task.appends.len() as i64,
            partition_path: Some(task.partition.clone()),
            ..WriteStat::default()
        }
        .with_previous(task.old.as_ref().map(|old| old.version.instant));
        let rows = task.rows();
        let old = match task.old {
            Some(old) => Some((OpenFile::open(self.store(), &old.path).await?, old.path)),
            None => None,
        };
        let merge = Merge {
            format,
            incoming,
            instant,
            task: number,
            partition: task.partition,
            name,
            old,
            edits: task.edits,
            appends: task.appends,
            rows,
        };
        let encoded = blocking(move || merge.run()).await?;
        debug_assert_eq!(encoded.rows, rows);
        stat.file_size_in_bytes = encoded.bytes.len() as i64;
        stat.total_write_bytes = stat.file_size_in_bytes;
        storage::write(self.store(), &layout.resolve(&path)?, encoded.bytes).await?;
        Ok(stat.with_runtime(i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX), created))
    }
}

/// What an inflight commit says that it is going to do.
fn planned(tasks: &[FileTask]) -> BTreeMap<String, Vec<WriteStat>> {
    let mut planned: BTreeMap<String, Vec<WriteStat>> = BTreeMap::new();
    for task in tasks {
        let stats = planned.entry(task.partition.clone()).or_insert_with(|| vec![WriteStat::default()]);
        stats[0].num_inserts += task.appends.len() as i64;
        if let Some(old) = &task.old {
            stats.push(
                WriteStat {
                    file_id: task.file_id.clone(),
                    num_update_writes: task.updated().cast_signed(),
                    ..WriteStat::default()
                }
                .with_previous(Some(old.version.instant)),
            );
        }
    }
    planned
}

/// The file that says that a folder is a partition, and how deep it lies.
fn partition_metadata(instant: Instant, partition: &str, now: jiff::Timestamp) -> String {
    let depth = if partition.is_empty() { 0 } else { partition.split('/').count() };
    format!("#partition metadata\n#{}\ncommitTime={instant}\npartitionDepth={depth}\n", java_date(now))
}
