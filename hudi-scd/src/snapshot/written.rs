//! The files that commits of the active timeline wrote, and which of them are missing.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
};

use object_store::ObjectStore;

use super::{FileGroup, read_commit};
use crate::{
    Error, ErrorKind, Result, SourceFile,
    concurrent::ordered,
    layout::{self, Layout},
    timeline::{CommitMetadata, Instant, State, Timeline},
};

/// A file group, identified by its partition path and its id.
pub(crate) type GroupKey = (Arc<str>, Arc<str>);

/// The files written by a commit.
#[derive(Debug)]
pub(super) struct Commit {
    /// Sorted by file group.
    files: Box<[(GroupKey, File)]>,
    replaced: Vec<GroupKey>,
    schema: Option<String>,
    numbers_columns: bool,
    /// The entry that lists the files that it took in.
    taken_in: Option<String>,
}

#[derive(Debug)]
struct File {
    name: Arc<str>,
    /// `true` if the version is the first one of its group.
    is_first: bool,
}

impl From<CommitMetadata> for Commit {
    fn from(mut commit: CommitMetadata) -> Self {
        let taken_in = commit.extra_metadata.remove(SourceFile::METADATA).flatten();
        let schema = commit.schema().map(str::to_owned);
        let numbers_columns = commit.numbers_columns();
        let mut files: BTreeMap<GroupKey, File> = BTreeMap::new();
        for (partition, stats) in commit.partition_to_write_stats {
            let partition: Arc<str> = partition.into();
            for stat in stats {
                let is_first = stat.previous().is_none();
                let Some(path) = stat.path else { continue };
                let name = layout::split_partition(&path).1.into();
                files.insert((partition.clone(), stat.file_id.into()), File { name, is_first });
            }
        }
        let of_partition = |(partition, ids): (String, Vec<String>)| {
            let partition: Arc<str> = partition.into();
            ids.into_iter().map(move |id| (partition.clone(), Arc::from(id)))
        };
        let replaced = commit.partition_to_replace_file_ids.into_iter().flat_map(of_partition).collect();
        Self { files: files.into_iter().collect(), replaced, schema, numbers_columns, taken_in }
    }
}

impl Commit {
    /// Returns the file that the commit wrote for a group.
    fn file(&self, group: &GroupKey) -> Option<&File> {
        let at = self.files.binary_search_by(|(written, _)| written.cmp(group)).ok()?;
        Some(&self.files[at].1)
    }
}

/// The files written by all completed commits of the active timeline.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    commits: BTreeMap<Instant, Arc<Commit>>,
}

/// A missing file that a commit wrote. Reads as of `from..until` need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// The commit that wrote it.
    pub(crate) from: Instant,
    /// The commit that superseded or replaced it, if any.
    pub(crate) until: Option<Instant>,
    /// Its path relative to the table.
    pub(crate) path: String,
}

impl Written {
    /// Reads the commits that `known` does not contain.
    pub(super) async fn load(
        store: &dyn ObjectStore,
        table: &Layout,
        width: usize,
        timeline: &Timeline,
        known: Option<&Self>,
    ) -> Result<Self> {
        let commits: Vec<_> = timeline.completed_commits().collect();
        if let Some(pair) = commits.windows(2).find(|pair| pair[0].instant == pair[1].instant) {
            let file = |index: usize| table.entry_file(pair[index], State::Completed);
            return Err(Error::new(ErrorKind::Corrupt, "two commits have the same instant")
                .with_context("file", file(0)?)
                .with_context("other", file(1)?));
        }
        let reads = commits.into_iter().map(|entry| async move {
            if let Some(commit) = known.and_then(|known| known.commits.get(&entry.instant)) {
                return Ok((entry.instant, commit.clone()));
            }
            let commit = read_commit(store, table, entry).await?;
            Ok((entry.instant, Arc::new(Commit::from(commit))))
        });
        Ok(Self { commits: ordered(width, reads).await?.into_iter().collect() })
    }

    /// Adds a commit.
    pub(super) fn add(&mut self, instant: Instant, commit: CommitMetadata) {
        self.commits.insert(instant, Arc::new(Commit::from(commit)));
    }

    /// Removes a commit that was archived. Returns the file groups that it replaced.
    pub(super) fn remove(&mut self, instant: Instant) -> Vec<GroupKey> {
        let commit = self.commits.remove(&instant);
        commit.map_or_else(Vec::new, |commit| commit.replaced.clone())
    }

    /// Returns `true` if a commit of the active timeline wrote a version of a group.
    pub(super) fn wrote(&self, instant: Instant, group: &GroupKey) -> bool {
        self.commits.get(&instant).is_some_and(|commit| commit.file(group).is_some())
    }

    /// Returns the next commit of the active timeline that wrote a version of a group.
    pub(super) fn superseded(&self, instant: Instant, group: &GroupKey) -> Option<Instant> {
        let mut later = self.commits.range((Bound::Excluded(instant), Bound::Unbounded));
        later.find_map(|(later, commit)| commit.file(group).map(|_| *later))
    }

    /// Returns the Avro schema of the newest commit that contains one.
    pub(super) fn latest_schema(&self) -> Option<(Instant, &str)> {
        self.commits.iter().rev().find_map(|(instant, commit)| Some((*instant, commit.schema.as_deref()?)))
    }

    /// Returns the files that commits after an instant took in, according to their metadata.
    pub(crate) fn taken_in(&self, since: Option<Instant>) -> Result<Vec<SourceFile>> {
        let mut files = Vec::new();
        for (instant, commit) in &self.commits {
            if let (Some(text), true) = (&commit.taken_in, Some(*instant) > since) {
                let read = SourceFile::parse(text);
                files.extend(read.map_err(|error| error.with_context("commit", instant))?);
            }
        }
        Ok(files)
    }

    /// Returns a commit that identifies columns by number, if there is one.
    pub(super) fn numbers_columns(&self) -> Option<Instant> {
        self.commits.iter().rev().find_map(|(instant, commit)| commit.numbers_columns.then_some(*instant))
    }

    /// Returns the replaced file groups, with the replacing commits.
    pub(super) fn replaced(&self) -> HashMap<&GroupKey, Instant> {
        let mut replaced = HashMap::new();
        for (instant, commit) in &self.commits {
            for group in &commit.replaced {
                replaced.entry(group).or_insert(*instant);
            }
        }
        replaced
    }

    /// Returns the name of the group's file that a commit recorded. Any other file of the same commit was
    /// left by a failed task.
    pub(super) fn file(&self, instant: Instant, group: &GroupKey) -> Option<&Arc<str>> {
        Some(&self.commits.get(&instant)?.file(group)?.name)
    }

    /// Returns `true` if the version that a commit wrote is known to be the first of its group.
    pub(super) fn is_first(&self, instant: Instant, group: &GroupKey) -> bool {
        let recorded = self.commits.get(&instant).and_then(|commit| commit.file(group));
        recorded.is_some_and(|recorded| recorded.is_first)
    }

    /// Returns the files that were written but are not in `groups`.
    pub(super) fn missing(&self, groups: &BTreeMap<GroupKey, FileGroup>) -> Vec<Missing> {
        let replaced = self.replaced();
        // Goes from the newest commit to the oldest, and keeps the next commit of each group.
        let mut next: HashMap<&GroupKey, Instant> = HashMap::new();
        let mut missing = Vec::new();
        for (instant, commit) in self.commits.iter().rev() {
            for (group, file) in &*commit.files {
                let superseded = next.insert(group, *instant);
                let is_there = groups
                    .get(group)
                    .is_some_and(|listed| listed.versions.iter().any(|version| version.instant == *instant));
                if !is_there {
                    let until = superseded.into_iter().chain(replaced.get(group).copied()).min();
                    let path = layout::in_partition(&group.0, &file.name);
                    missing.push(Missing { from: *instant, until, path });
                }
            }
        }
        missing.sort_by(|a, b| (a.from, &a.path).cmp(&(b.from, &b.path)));
        missing
    }
}
