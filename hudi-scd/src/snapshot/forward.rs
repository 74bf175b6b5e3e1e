//! Moves a view forward: derives the files of a table after changes of its timeline, without listing its
//! folders.
//!
//! The metadata of a commit name the files that it wrote and the file groups that it replaced. The metadata
//! of a clean name the files that it deleted. With these, the view of an earlier timeline becomes that of a
//! later one. If there is anything else, the folders are listed: pending writes, whose files no metadata
//! name; commits that were undone; actions that may have been added and archived unseen; actions of other
//! kinds; files that are gone; checksums of Hadoop's local file system; the timeline of layout 2.

use std::{collections::BTreeSet, sync::Arc};

use object_store::ObjectStore;

use super::{
    FileGroup, FileVersion, Missing, View, latest_schema, read_clean, read_commit, written::GroupKey,
};
use crate::{
    Result,
    concurrent::ordered,
    layout::{self, BaseFileName, Layout, TimelineLayout},
    properties::TableVersion,
    timeline::{
        Action, CommitMetadata, Instant, Timeline, TimelineEntry,
        avro::{CleanMetadata, CleanPartitionMetadata},
    },
};

/// The difference between two timelines.
#[derive(Debug)]
pub(crate) struct Step {
    commits: Vec<TimelineEntry>,
    cleans: Vec<TimelineEntry>,
    /// Commits that were archived.
    archived: Vec<Instant>,
}

/// The changes of a table's files.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) commits: Vec<(Instant, CommitMetadata, Opened)>,
    pub(crate) cleans: Vec<(Instant, Option<CleanMetadata>)>,
    /// Commits that were archived.
    pub(crate) archived: Vec<Instant>,
}

/// The partitions for which a commit wrote metadata files.
#[derive(Debug)]
pub(crate) enum Opened {
    Known(BTreeSet<String>),
    /// The partitions of its new file groups. Hudi's writers check for the metadata file before they create a
    /// group.
    OfNewGroups,
}

impl Step {
    /// Returns the difference. Returns `None` if the changed actions do not explain all changes of files.
    pub(super) fn between(known: &View, timeline: &Timeline) -> Option<Self> {
        // Actions of each of these kinds are archived separately.
        let kinds: [fn(Action) -> bool; 3] =
            [Action::writes_rows, |action| action == Action::Clean, |action| action == Action::Rollback];
        if !kinds.into_iter().all(|is_kind| has_seen_all(&known.timeline, timeline, is_kind)) {
            return None;
        }
        let mut step = Self { commits: Vec::new(), cleans: Vec::new(), archived: Vec::new() };
        for entry in timeline.entries() {
            let is_new = find(&known.timeline, entry).is_none_or(TimelineEntry::is_pending);
            match entry.action {
                Action::Savepoint => {}
                _ if entry.is_pending() => return None,
                _ if !is_new => {}
                Action::Commit | Action::ReplaceCommit => step.commits.push(entry.clone()),
                Action::Clean => step.cleans.push(entry.clone()),
                // A rollback of a known commit, or of a commit that left the metadata files of its
                // partitions.
                _ => return None,
            }
        }
        let first = timeline.completed_commits().next()?.instant;
        for old in known.timeline.entries() {
            match old.action {
                Action::Savepoint => {}
                _ if old.is_pending() => return None,
                _ if find(timeline, old).is_some() => {}
                Action::Commit | Action::ReplaceCommit if old.instant < first => {
                    step.archived.push(old.instant);
                }
                Action::Clean | Action::Rollback => {}
                _ => return None,
            }
        }
        Some(step)
    }

    /// Reads the metadata of new actions. Returns `None` if the view and the metadata do not explain the
    /// changes completely.
    pub(super) async fn read(
        self,
        store: &dyn ObjectStore,
        table: &Layout,
        width: usize,
        known: &View,
    ) -> Result<Option<Changes>> {
        if *table.timeline() != TimelineLayout::Flat || !known.is_explained() {
            return Ok(None);
        }
        let reads = self.commits.iter().map(|entry| async move {
            let commit = read_commit(store, table, entry).await?;
            Ok((entry.instant, commit, Opened::OfNewGroups))
        });
        let commits = ordered(width, reads).await?;
        let reads = self
            .cleans
            .iter()
            .map(|entry| async move { Ok((entry.instant, read_clean(store, table, entry).await?)) });
        let cleans = ordered(width, reads).await?;
        Ok(Some(Changes { commits, cleans, archived: self.archived }))
    }
}

/// Finds an action on a timeline.
fn find<'a>(timeline: &'a Timeline, action: &TimelineEntry) -> Option<&'a TimelineEntry> {
    timeline.entries().iter().find(|entry| (entry.instant, entry.action) == (action.instant, action.action))
}

/// Returns `true` if no action of a kind was added after `known` and archived before `timeline`. The oldest
/// actions are archived first and some are always kept. It is therefore sufficient that the newest known
/// action is still there.
fn has_seen_all(known: &Timeline, timeline: &Timeline, is_kind: fn(Action) -> bool) -> bool {
    match known.entries().iter().rfind(|entry| is_kind(entry.action)) {
        Some(newest) => find(timeline, newest).is_some(),
        None => !timeline.entries().iter().any(|entry| is_kind(entry.action)),
    }
}

impl View {
    /// Returns `true` if all files of the commits exist, and no file has a checksum next to it.
    fn is_explained(&self) -> bool {
        self.checksums.is_empty() && self.missing.iter().all(|missing| missing.until.is_some())
    }

    /// Applies the changes that lead to a timeline. Returns `None` if they do not explain it completely.
    pub(crate) fn forward(
        mut self,
        timeline: Timeline,
        changes: Changes,
        version: TableVersion,
    ) -> Option<Self> {
        if !self.is_explained() || !timeline.checksums().is_empty() {
            return None;
        }
        self.timeline = timeline;
        // In the order of their instants, because a partition that a clean deleted may be created again.
        let mut cleans = changes.cleans.into_iter().peekable();
        for (instant, commit, opened) in changes.commits {
            while let Some((earlier, clean)) = cleans.next_if(|(clean, _)| *clean < instant) {
                self.apply_clean(earlier, clean)?;
            }
            self.add_commit(instant, commit, opened)?;
        }
        for (instant, clean) in cleans {
            self.apply_clean(instant, clean)?;
        }
        for instant in changes.archived {
            // A file group that the commit replaced would be read again if it still exists.
            if self.written.remove(instant).iter().any(|group| self.groups.contains_key(group)) {
                return None;
            }
            self.missing.retain(|missing| missing.from != instant);
        }
        if !self.cleans.retain(&self.timeline) {
            return None;
        }
        self.missing.sort_by(|a, b| (a.from, &a.path).cmp(&(b.from, &b.path)));
        self.schema = latest_schema(&self.written).ok()?;
        self.avro = self.written.latest_schema().map(|(_, text)| text.to_owned());
        self.earliest = self.earliest_retained(version);
        Some(self)
    }

    fn add_commit(&mut self, instant: Instant, commit: CommitMetadata, opened: Opened) -> Option<()> {
        let groups = Arc::make_mut(&mut self.groups);
        let partitions = Arc::make_mut(&mut self.partitions);
        for (partition, stats) in &commit.partition_to_write_stats {
            let shared: Arc<str> = partition.as_str().into();
            for stat in stats {
                let Some(path) = &stat.path else { continue };
                let file = layout::split_partition(path).1;
                let name = BaseFileName::parse(file)?;
                let bytes = u64::try_from(stat.file_size_in_bytes).ok().filter(|bytes| *bytes > 0)?;
                if name.instant != instant || name.file_id != stat.file_id {
                    return None;
                }
                if stat.previous().is_none() && matches!(opened, Opened::OfNewGroups) {
                    partitions.insert(partition.clone());
                }
                let key = (shared.clone(), Arc::from(name.file_id));
                let group = groups.entry(key).or_insert_with_key(|(partition, id)| {
                    Arc::new(FileGroup {
                        partition: partition.clone(),
                        file_id: id.clone(),
                        versions: Vec::new(),
                        replaced_at: None,
                    })
                });
                let group = Arc::make_mut(group);
                let at = group.versions.partition_point(|version| version.instant < instant);
                group.versions.reserve_exact(1);
                group.versions.insert(at, FileVersion { instant, file: file.into(), bytes });
            }
        }
        if let Opened::Known(opened) = opened {
            partitions.extend(opened);
        }
        for (partition, ids) in &commit.partition_to_replace_file_ids {
            let partition: Arc<str> = partition.as_str().into();
            for id in ids {
                if let Some(group) = groups.get_mut(&(partition.clone(), id.as_str().into())) {
                    let group = Arc::make_mut(group);
                    group.replaced_at = Some(group.replaced_at.map_or(instant, |known| known.min(instant)));
                }
            }
        }
        self.written.add(instant, commit);
        Some(())
    }

    fn apply_clean(&mut self, instant: Instant, clean: Option<CleanMetadata>) -> Option<()> {
        self.cleans.add(instant, clean.as_ref());
        let mut partitions = clean.iter().flat_map(|clean| &clean.partition_metadata);
        partitions.try_for_each(|(partition, deleted)| self.remove_files(partition, deleted))
    }

    fn remove_files(&mut self, partition: &str, deleted: &CleanPartitionMetadata) -> Option<()> {
        // A file that was not deleted may still exist.
        if !deleted.failed_delete_files.is_empty() {
            return None;
        }
        let groups = Arc::make_mut(&mut self.groups);
        for file in &deleted.success_delete_files {
            let file = layout::split_partition(file).1;
            // A name that is not that of a base file belongs to a dead writer's file or to a checksum.
            let name = BaseFileName::parse(file)?;
            let key: GroupKey = (partition.into(), name.file_id.into());
            let Some(group) = groups.get_mut(&key) else { continue };
            let group = Arc::make_mut(group);
            let Some(at) = group.versions.iter().position(|version| *version.file == *file) else { continue };
            let version = group.versions.remove(at);
            if self.written.wrote(version.instant, &key) {
                let next = self.written.superseded(version.instant, &key);
                let until = next.into_iter().chain(group.replaced_at).min();
                let path = layout::in_partition(partition, file);
                self.missing.push(Missing { from: version.instant, until, path });
            }
            if group.versions.is_empty() {
                groups.remove(&key);
            }
        }
        if deleted.is_partition_deleted == Some(true) {
            Arc::make_mut(&mut self.partitions).remove(partition);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{ArrayRef, Int64Array, RecordBatch, StringArray},
        datatypes::{DataType, Field, Schema, SchemaRef},
    };
    use object_store::memory::InMemory;

    use super::*;
    use crate::{
        FnClock, RetentionPolicy, Table, TableDefinition, TableOptions, timeline::archive::ArchiveLimits,
    };

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("part", DataType::Utf8, true),
            Field::new("at", DataType::Int64, true),
        ]))
    }

    fn rows(ids: &[i64], at: i64) -> RecordBatch {
        let parts = ids.iter().map(|id| format!("p{}", (id + at / 3) % 4));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(ids.to_vec())),
            Arc::new(StringArray::from_iter_values(parts)),
            Arc::new(Int64Array::from(vec![at; ids.len()])),
        ];
        RecordBatch::try_new(schema(), columns).unwrap()
    }

    /// The parts of a view that a listing determines.
    async fn content(table: &Table) -> impl PartialEq + std::fmt::Debug {
        let view = table.context().view().await.unwrap();
        let mut pending: Vec<String> = view.pending.iter().map(|file| format!("{file:?}")).collect();
        pending.sort();
        (
            view.timeline.entries().to_vec(),
            (view.groups.clone(), pending, view.partitions.clone(), view.checksums.clone()),
            (view.schema.clone(), view.avro.clone(), view.earliest, view.missing.clone()),
        )
    }

    async fn act(table: &Table, at: i64, random: &mut fastrand::Rng) {
        let ids: Vec<i64> = (0..random.i64(1..9)).map(|_| random.i64(0..30)).collect();
        let rows = [rows(&ids, at)];
        let done = match random.u8(..12) {
            0 => table.delete(&rows).await.map(drop),
            1 => table.insert_overwrite(&rows).await.map(drop),
            2 => table.delete_partitions([format!("part=p{}", random.u8(..4))]).await.map(drop),
            3 => {
                let latest = table.timeline().await.unwrap().latest_commit();
                let Some(latest) = latest else { return };
                drop(table.savepoint(latest, "someone", "").await);
                Ok(())
            }
            4 => {
                for saved in table.timeline().await.unwrap().completed(Action::Savepoint) {
                    table.delete_savepoint(saved.instant).await.unwrap();
                }
                Ok(())
            }
            5 => {
                let latest = table.timeline().await.unwrap().latest_commit();
                let Some(latest) = latest else { return };
                drop(table.rollback(latest).await);
                Ok(())
            }
            _ => table.upsert(&rows).await.map(drop),
        };
        done.unwrap();
    }

    /// Two handles change a table in turns. Each view that was moved forward must equal the view of a new
    /// handle, which lists the table.
    #[rstest::rstest]
    #[tokio::test]
    async fn a_view_that_moved_forward_is_the_listed_one(
        #[values(Some(RetentionPolicy::commits(2)), Some(RetentionPolicy::file_versions(2)), None)]
        retention: Option<RetentionPolicy>,
        #[values(1, 2, 3)] seed: u64,
    ) {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let clock = Arc::new(std::sync::atomic::AtomicI64::new(1_767_225_600));
        let options = |seed| {
            let clock = clock.clone();
            let now = move || {
                let second = clock.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                jiff::Timestamp::from_second(second).unwrap()
            };
            let limits = ArchiveLimits { keep_min: 4, keep_max: 6 };
            let options = TableOptions::new().with_clock(FnClock(now)).with_seed(seed);
            let options = options.with_archive_limits(limits).with_parallelism(2);
            match retention {
                Some(policy) => options.with_retention(policy),
                None => options.without_automatic_clean(),
            }
        };
        let definition = TableDefinition::new("t", schema(), ["id"])
            .with_ordering_field("at")
            .with_partition_fields(["part"]);
        let first = Table::create_with(store.clone(), "t".into(), definition, options(seed)).await.unwrap();
        let second = Table::open_with(store.clone(), "t".into(), options(seed + 10)).await.unwrap();
        let mut random = fastrand::Rng::with_seed(seed);
        // The second handle may be idle for so long that actions are added and archived.
        let pause = random.u8(2..20);
        for at in 0..60 {
            let table = if random.u8(..pause) > 0 { &first } else { &second };
            act(table, at, &mut random).await;
            let listed = Table::open_with(store.clone(), "t".into(), options(99)).await.unwrap();
            let listed = content(&listed).await;
            assert_eq!(content(table).await, listed, "seed {seed}, {at}, the writer's");
            if random.u8(..pause) == 0 {
                assert_eq!(content(&first).await, listed, "seed {seed}, {at}, the first's");
                assert_eq!(content(&second).await, listed, "seed {seed}, {at}, the second's");
            }
        }
    }
}
