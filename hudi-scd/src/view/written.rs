//! What the commits of the active timeline say that they wrote, and whether it is there.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use object_store::ObjectStore;

use super::{FileGroup, read_commit};
use crate::{
    Error, ErrorKind, Result,
    concurrent::ordered,
    layout::{self, Layout},
    timeline::{CommitMetadata, Instant, State, Timeline},
};

/// A file group, by its partition path and its id.
pub(super) type GroupKey = (String, String);

/// What a commit wrote.
#[derive(Debug)]
pub(super) struct Commit {
    files: HashMap<GroupKey, File>,
    replaced: Vec<GroupKey>,
    schema: Option<String>,
    numbers_columns: bool,
}

#[derive(Debug)]
struct File {
    name: String,
    /// Whether it is the first version of its group.
    is_first: bool,
}

impl From<CommitMetadata> for Commit {
    fn from(commit: CommitMetadata) -> Self {
        let schema = commit.schema().map(str::to_owned);
        let numbers_columns = commit.numbers_columns();
        let mut files = HashMap::new();
        for (partition, stats) in commit.partition_to_write_stats {
            for stat in stats {
                let is_first = stat.previous().is_none();
                let Some(path) = stat.path else { continue };
                let name = layout::split_partition(&path).1.to_owned();
                files.insert((partition.clone(), stat.file_id), File { name, is_first });
            }
        }
        let replaced = commit
            .partition_to_replace_file_ids
            .into_iter()
            .flat_map(|(partition, ids)| ids.into_iter().map(move |id| (partition.clone(), id)))
            .collect();
        Self { files, replaced, schema, numbers_columns }
    }
}

/// What all completed commits of the active timeline wrote.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    commits: BTreeMap<Instant, Arc<Commit>>,
}

/// A file that a commit wrote and that is not there, though reads in `from..until` need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// The commit that wrote it.
    pub(crate) from: Instant,
    /// The commit that superseded or replaced it, if one did.
    pub(crate) until: Option<Instant>,
    /// Its path below the table.
    pub(crate) path: String,
}

impl Written {
    /// Reads the commits that `known` does not have.
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

    /// The Avro schema that the newest commit says which says one.
    pub(super) fn latest_schema(&self) -> Option<(Instant, &str)> {
        self.commits.iter().rev().find_map(|(instant, commit)| Some((*instant, commit.schema.as_deref()?)))
    }

    /// A commit that tells columns apart by numbers.
    pub(super) fn numbers_columns(&self) -> Option<Instant> {
        self.commits.iter().rev().find_map(|(instant, commit)| commit.numbers_columns.then_some(*instant))
    }

    /// The file groups in whose place others were put, and since when.
    pub(super) fn replaced(&self) -> HashMap<&GroupKey, Instant> {
        let mut replaced = HashMap::new();
        for (instant, commit) in &self.commits {
            for group in &commit.replaced {
                replaced.entry(group).or_insert(*instant);
            }
        }
        replaced
    }

    /// Whether a commit says that it wrote another file of the group than this one: a task that failed left it.
    pub(super) fn names_another(&self, instant: Instant, group: &GroupKey, name: &str) -> bool {
        let said = self.commits.get(&instant).and_then(|commit| commit.files.get(group));
        said.is_some_and(|said| said.name != name)
    }

    /// Whether the version that a commit wrote is known to be the first of its group.
    pub(super) fn is_first(&self, instant: Instant, group: &GroupKey) -> bool {
        let said = self.commits.get(&instant).and_then(|commit| commit.files.get(group));
        said.is_some_and(|said| said.is_first)
    }

    /// What was written and is not among the files of `groups`.
    pub(super) fn missing(&self, groups: &BTreeMap<GroupKey, FileGroup>) -> Vec<Missing> {
        let replaced = self.replaced();
        // From the newest commit to the oldest, with the commit that came next for each group.
        let mut next: HashMap<&GroupKey, Instant> = HashMap::new();
        let mut missing = Vec::new();
        for (instant, commit) in self.commits.iter().rev() {
            for (group, file) in &commit.files {
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
