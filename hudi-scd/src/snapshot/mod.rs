//! The current contents of a table: its timeline, its file groups and their versions.

mod cleans;
mod forward;
mod written;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use object_store::{ObjectMeta, ObjectStore, path::Path};

use crate::{
    Error, ErrorKind, Result,
    concurrent::ordered,
    layout::{self, BaseFileName, Layout, TimelineLayout},
    properties::TableVersion,
    schema, storage,
    timeline::{
        Action, CommitMetadata, Instant, State, Timeline, TimelineEntry, archived, avro::CleanMetadata,
        history,
    },
};

use self::forward::Step;
use self::{
    cleans::Cleans,
    written::{GroupKey, Written},
};
pub(crate) use self::{
    forward::{Changes, Opened},
    written::Missing,
};

/// A remote table with more folders than this is listed as a whole instead of folder by folder.
const FEW_FOLDERS: usize = 4;
/// A name that sorts after those of all files in [`layout::META_FOLDER`].
const AFTER_META_FOLDER: &str = ".hoodie0";
/// Number of attempts of a listing if the timeline changes in the meantime.
const ATTEMPTS: usize = 5;

/// How the storage is accessed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    /// Number of concurrent calls.
    pub(crate) width: usize,
    pub(crate) is_local: bool,
}

/// A file group: a set of rows and its versions. Each commit that changes it writes a new version.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileGroup {
    /// The path of its partition. All file groups of the partition share it. Empty in an unpartitioned table.
    pub partition: Arc<str>,
    /// Its id.
    pub file_id: Arc<str>,
    /// Its versions that belong to completed commits, oldest first.
    pub versions: Vec<FileVersion>,
    /// The commit that replaced it, if it was replaced.
    pub replaced_at: Option<Instant>,
}

/// A version of a file group: a base file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileVersion {
    /// The commit that wrote it.
    pub instant: Instant,
    /// The name of its file.
    pub file: Arc<str>,
    /// The size of its file.
    pub bytes: u64,
}

impl FileGroup {
    /// Returns the version that a read as of `instant` sees.
    pub fn version_at(&self, instant: Instant) -> Option<&FileVersion> {
        self.position_at(instant).map(|at| &self.versions[at])
    }

    /// Returns the index of the version that a read as of `instant` sees.
    pub(crate) fn position_at(&self, instant: Instant) -> Option<usize> {
        if self.replaced_at.is_some_and(|replaced| replaced <= instant) {
            return None;
        }
        self.versions.iter().rposition(|version| version.instant <= instant)
    }

    /// Returns the path of a version's file, relative to the table.
    pub(crate) fn path(&self, version: &FileVersion) -> String {
        layout::in_partition(&self.partition, &version.file)
    }
}

/// The base file of a pending commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PendingFile {
    pub(crate) partition: String,
    pub(crate) name: BaseFileName,
}

/// The contents of a table when it was loaded. Clones share their common parts.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) timeline: Timeline,
    /// File groups by partition and id.
    pub(crate) groups: Arc<BTreeMap<GroupKey, Arc<FileGroup>>>,
    /// Files of pending commits.
    pub(crate) pending: Arc<Vec<PendingFile>>,
    /// The partitions that have their metadata file.
    pub(crate) partitions: Arc<BTreeSet<String>>,
    /// Checksums that Hadoop's local file system wrote for base files and the timeline. They must be deleted
    /// together with these files.
    pub(crate) checksums: Arc<BTreeSet<String>>,
    /// The data columns as of the latest commit with a schema.
    pub(crate) schema: Option<SchemaRef>,
    /// The Avro form of that schema.
    pub(crate) avro: Option<String>,
    /// The earliest readable commit, if a clean has set one.
    pub(crate) earliest: Option<Instant>,
    /// Missing files that commits of the active timeline wrote. Most of them were cleaned.
    pub(crate) missing: Vec<Missing>,
    pub(crate) written: Written,
    cleans: Cleans,
}

impl View {
    /// Loads the table with a timeline. `known`, an earlier view, is moved forward if the timeline explains
    /// all changes since then. Otherwise the table's folders are listed.
    ///
    /// The timeline is loaded first, so that every file of its completed commits exists.
    pub(crate) async fn load(
        store: &dyn ObjectStore,
        table: &Layout,
        version: TableVersion,
        reach: Reach,
        known: Option<Arc<Self>>,
        mut timeline: Timeline,
    ) -> Result<Arc<Self>> {
        if timeline.entries().is_empty() && timeline.has_folder("timeline") {
            check_not_upgraded(store, table).await?;
        }
        let mut written = None;
        if let Some(known) = known {
            timeline = timeline.with_archived_of(&known.timeline);
            if known.timeline.entries() == timeline.entries() {
                return Ok(Arc::new(Self { timeline, ..Arc::unwrap_or_clone(known) }));
            }
            let changes = match Step::between(&known, &timeline) {
                Some(step) => step.read(store, table, reach.width, &known).await?,
                None => None,
            };
            written = Some(known.written.clone());
            // A view that nothing else holds is changed in place.
            let known = Arc::unwrap_or_clone(known);
            if let Some(view) = changes.and_then(|changes| known.forward(timeline.clone(), changes, version))
            {
                return Ok(Arc::new(view));
            }
        }
        let mut attempt = 1;
        loop {
            let view = Self::load_at(store, table, version, reach, timeline, written.as_ref()).await?;
            let is_whole =
                view.missing.iter().all(|missing| missing.until.is_some()) && !view.lacks_timeline();
            if is_whole || attempt == ATTEMPTS {
                return Ok(Arc::new(view));
            }
            // Either files are gone, or a commit and a clean ran between the two listings.
            timeline = crate::timeline::load(store, table).await?;
            if timeline.entries() == view.timeline.entries() {
                return Ok(Arc::new(view));
            }
            attempt += 1;
        }
    }

    async fn load_at(
        store: &dyn ObjectStore,
        table: &Layout,
        version: TableVersion,
        reach: Reach,
        mut timeline: Timeline,
        known: Option<&Written>,
    ) -> Result<Self> {
        let files = list_files(store, table, reach).await?;
        let written = Written::load(store, table, reach.width, &timeline, known).await?;
        let cleans = Cleans::load(store, table, &timeline).await?;
        let mut listed =
            Listed { checksums: timeline.checksums().iter().cloned().collect(), ..Listed::default() };
        for file in files {
            listed.add(table.relative(&file.path), file.bytes, &timeline, &written)?;
        }
        let unknown = listed.pending.iter().map(|(file, _)| file.name.instant);
        if archived::add_commits(store, table, &mut timeline, unknown).await? {
            listed.add_pending(&timeline, &written);
        }
        let Listed { mut groups, pending, partitions, checksums, .. } = listed;
        let replaced = written.replaced();
        for (key, group) in &mut groups {
            group.versions.sort_by_key(|version| version.instant);
            group.versions.shrink_to_fit();
            group.replaced_at = replaced.get(key).copied();
        }
        let missing = written.missing(&groups);
        let mut view = Self {
            groups: Arc::new(groups.into_iter().map(|(key, group)| (key, Arc::new(group))).collect()),
            pending: Arc::new(pending.into_iter().map(|(file, _)| file).collect()),
            partitions: Arc::new(partitions),
            checksums: Arc::new(checksums),
            schema: latest_schema(&written)?,
            avro: written.latest_schema().map(|(_, text)| text.to_owned()),
            earliest: None,
            missing,
            timeline,
            written,
            cleans,
        };
        view.earliest = view.earliest_retained(version);
        Ok(view)
    }

    /// Returns the beginning of the retained window.
    fn earliest_retained(&self, version: TableVersion) -> Option<Instant> {
        let mut earliest = self.cleans.earliest();
        if self.cleans.keep_versions() {
            earliest = earliest.max(self.earliest_whole());
        }
        // The Hudi release that wrote such a table can read it as of any instant. This crate can do so too,
        // if all files still exist.
        if version < TableVersion::SIX && self.timeline.pending(Action::Clean).next().is_none() {
            earliest = earliest.min(self.earliest_whole());
        }
        // The latest commit is always readable, even if the first commit of a clean's window was rolled back.
        earliest.map(|earliest| earliest.min(self.timeline.latest_commit().unwrap_or(earliest)))
    }

    /// Returns the earliest instant at which every file group still has its version. It is the latest time at
    /// which a missing version was superseded.
    fn earliest_whole(&self) -> Option<Instant> {
        // If the first versions of a group were archived and cleaned, its oldest version shows this, because
        // it has a predecessor.
        let oldest = self.groups.iter().filter_map(|(key, group)| {
            let oldest = group.versions.first()?.instant;
            (!self.written.is_first(oldest, key)).then_some(oldest)
        });
        oldest.chain(self.missing.iter().filter_map(|missing| missing.until)).max()
    }

    /// Returns the files that a read as of `instant` sees.
    pub(crate) fn files_at(&self, instant: Instant) -> impl Iterator<Item = (&Arc<FileGroup>, &FileVersion)> {
        self.groups.values().filter_map(move |group| Some((group, group.version_at(instant)?)))
    }

    /// Returns the latest version of each file group that a commit after `since` and up to `until` wrote. If
    /// a table stores completion times (`completions`), these are compared instead of the instants.
    pub(crate) fn files_between(
        &self,
        since: Instant,
        until: Instant,
        completions: &HashMap<Instant, Instant>,
    ) -> impl Iterator<Item = (&Arc<FileGroup>, &FileVersion)> {
        let at = |instant: Instant| completions.get(&instant).copied().unwrap_or(instant);
        self.groups.values().filter_map(move |group| {
            if group.replaced_at.is_some_and(|replaced| at(replaced) <= until) {
                return None;
            }
            let version = group.versions.iter().rev().find(|version| at(version.instant) <= until)?;
            // A file that is older than the range contains no rows of it.
            (at(version.instant) > since).then_some((group, version))
        })
    }

    /// Returns the completion times of commits, in tables that store them. If `since` is older than the
    /// active timeline, archived commits are included.
    pub(crate) async fn completions(
        &self,
        store: &dyn ObjectStore,
        table: &Layout,
        since: Instant,
    ) -> Result<HashMap<Instant, Instant>> {
        let mut completions: HashMap<Instant, Instant> = self.timeline.completions().collect();
        let first = self.timeline.completed_commits().next();
        if table.history_folder()?.is_some() && first.is_some_and(|first| since < first.instant) {
            let archived = history::load(store, table).await?;
            completions
                .extend(archived.iter().filter_map(|entry| Some((entry.instant, entry.completed_at?))));
        }
        Ok(completions)
    }

    /// Returns the files of the latest snapshot.
    pub(crate) fn latest_files(&self) -> impl Iterator<Item = (&Arc<FileGroup>, &FileVersion)> {
        self.timeline.latest_commit().into_iter().flat_map(|latest| self.files_at(latest))
    }

    /// Rejects an instant with missing files. Reading an older version in place of a missing one would
    /// silently return wrong rows.
    pub(crate) fn check_whole(&self, instant: Instant) -> Result<()> {
        let lost =
            |missing: &&Missing| missing.from <= instant && missing.until.is_none_or(|until| instant < until);
        match self.missing.iter().find(lost) {
            None => Ok(()),
            Some(missing) => {
                let error = Error::new(ErrorKind::Corrupt, "a base file that a commit wrote is gone")
                    .with_context("file", &missing.path)
                    .with_context("commit", missing.from);
                Err(error.with_context(
                    "hint",
                    "restore the file, or roll back or restore the table to a state before that commit",
                ))
            }
        }
    }

    /// Returns the retained commits, oldest first. Rejects them if one has [missing files](View::check_whole).
    pub(crate) fn whole_commits(&self) -> Result<Vec<Instant>> {
        let commits = self.timeline.completed_commits().map(|entry| entry.instant);
        let retained = commits.filter(|commit| self.check_retained(*commit).is_ok());
        retained.map(|commit| self.check_whole(commit).map(|()| commit)).collect()
    }

    /// Like [`View::check_whole`], for the latest snapshot.
    pub(crate) fn check_latest_whole(&self) -> Result<()> {
        self.timeline.latest_commit().map_or(Ok(()), |latest| self.check_whole(latest))
    }

    /// Returns `true` if there are base files, but no actions. Every writer requests an action before it writes
    /// a base file.
    fn lacks_timeline(&self) -> bool {
        self.timeline.entries().is_empty() && !self.pending.is_empty()
    }

    /// Rejects a table whose timeline was deleted. It would look empty until the next commit, which would make
    /// the rows of all base files visible.
    pub(crate) fn check_timeline(&self, table: &Layout) -> Result<()> {
        match self.pending.first().filter(|_| self.lacks_timeline()) {
            None => Ok(()),
            Some(file) => Err(Error::new(
                ErrorKind::Corrupt,
                "the table has base files, but there is no action on its timeline",
            )
            .with_context("file", layout::in_partition(&file.partition, &file.name.to_string()))
            .with_context("timeline", table.timeline_folder()?)
            .with_context("hint", "restore the files of the timeline, or delete the base files")),
        }
    }

    /// Rejects a table whose columns are identified only by number. A renamed column would be null in the
    /// rows of older files, and the next commit without the numbers would make that permanent for every
    /// engine.
    pub(crate) fn check_columns_named(&self) -> Result<()> {
        match self.written.numbers_columns() {
            None => Ok(()),
            Some(commit) => Err(Error::new(
                ErrorKind::Unsupported,
                "tables whose columns were altered under schema on read are not supported",
            )
            .with_context("property", "hoodie.schema.on.read.enable")
            .with_context("commit", commit)),
        }
    }

    /// Rejects adding rows to a table with Hudi's bucket index. Its writers look for a key only in the file
    /// group whose number is the hash of the key. The table's properties do not mention the index, but the
    /// ids of its file groups begin with these numbers.
    pub(crate) fn check_no_buckets(&self) -> Result<()> {
        let is_bucket = |group: &Arc<FileGroup>| {
            let number = group.file_id.get(..8).unwrap_or_default();
            number.starts_with("00000") && number.bytes().all(|digit| digit.is_ascii_digit())
        };
        if self.groups.is_empty() || !self.groups.values().all(is_bucket) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            "adding rows to a table with the bucket index is not supported, because its writers would not find them",
        )
        .with_context("property", "hoodie.index.type")
        .with_context("value", "BUCKET"))
    }

    /// Returns `true` if an action with this instant is pending.
    pub(crate) fn is_pending(&self, instant: Instant) -> bool {
        self.timeline.entries().iter().any(|entry| entry.instant == instant && entry.is_pending())
    }

    /// Rejects an instant before the retained window. The error names the beginning of the window.
    pub(crate) fn check_retained(&self, instant: Instant) -> Result<()> {
        match self.earliest {
            Some(earliest) if instant < earliest => {
                Err(Error::new(ErrorKind::OutsideRetention, "the files of that time were cleaned")
                    .with_context("instant", instant)
                    .with_context("earliest", earliest))
            }
            _ => Ok(()),
        }
    }
}

/// The listed files, by kind.
#[derive(Default)]
struct Listed {
    groups: BTreeMap<GroupKey, FileGroup>,
    /// Files that belong to no completed commit, with their sizes.
    pending: Vec<(PendingFile, u64)>,
    partitions: BTreeSet<String>,
    checksums: BTreeSet<String>,
    /// The paths of partitions with file groups. Their file groups share these paths.
    shared: HashSet<Arc<str>>,
}

impl Listed {
    fn add(&mut self, path: &str, bytes: u64, timeline: &Timeline, written: &Written) -> Result<()> {
        let (partition, file) = layout::split_partition(path);
        if layout::is_log_file(file) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the table has log files, as merge-on-read tables do",
            )
            .with_context("file", path));
        }
        if layout::is_partition_metadata(file) {
            self.partitions.insert(partition.to_owned());
        } else if layout::is_local_checksum(file) {
            self.checksums.insert(path.to_owned());
        }
        if let Some(name) = BaseFileName::parse(file) {
            self.add_base_file(partition, (file, name), bytes, timeline, written);
        }
        Ok(())
    }

    /// Adds the pending files again, with more commits on the timeline.
    fn add_pending(&mut self, timeline: &Timeline, written: &Written) {
        for (PendingFile { partition, name }, bytes) in std::mem::take(&mut self.pending) {
            self.add_base_file(&partition, (&name.to_string(), name), bytes, timeline, written);
        }
    }

    fn add_base_file(
        &mut self,
        partition: &str,
        (file, name): (&str, BaseFileName),
        bytes: u64,
        timeline: &Timeline,
        written: &Written,
    ) {
        if !timeline.is_committed(name.instant) {
            self.pending.push((PendingFile { partition: partition.to_owned(), name }, bytes));
            return;
        }
        let key = (self.shared(partition), Arc::from(name.file_id.as_str()));
        let recorded = written.file(name.instant, &key);
        if recorded.is_some_and(|recorded| **recorded != *file) {
            self.pending.push((PendingFile { partition: partition.to_owned(), name }, bytes));
            return;
        }
        let version = FileVersion {
            instant: name.instant,
            file: recorded.cloned().unwrap_or_else(|| Arc::from(file)),
            bytes,
        };
        let group = self.groups.entry(key).or_insert_with_key(|(partition, id)| FileGroup {
            partition: partition.clone(),
            file_id: id.clone(),
            versions: Vec::with_capacity(1),
            replaced_at: None,
        });
        group.versions.push(version);
    }

    /// Returns the shared path of a partition.
    fn shared(&mut self, partition: &str) -> Arc<str> {
        if let Some(known) = self.shared.get(partition) {
            return known.clone();
        }
        let path: Arc<str> = partition.into();
        self.shared.insert(path.clone());
        path
    }
}

/// Rejects a table that another writer has upgraded since this handle was opened. Its timeline is now in a
/// different folder, so the table would appear to be empty.
async fn check_not_upgraded(store: &dyn ObjectStore, table: &Layout) -> Result<()> {
    if *table.timeline() != TimelineLayout::Flat {
        return Ok(());
    }
    let elsewhere = Layout::new(table.root().clone()).with_timeline(TimelineLayout::upgraded());
    if crate::timeline::load(store, &elsewhere).await?.entries().is_empty() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Conflict, "another writer has upgraded the table to a later version")
        .with_context("path", table.root())
        .with_context("hint", "open the table again"))
}

/// A listed file, without the tag and the time that a storage reports.
struct ListedFile {
    path: Path,
    bytes: u64,
}

impl From<ObjectMeta> for ListedFile {
    fn from(object: ObjectMeta) -> Self {
        Self { path: object.location, bytes: object.size }
    }
}

/// Lists the files of all partitions.
async fn list_files(store: &dyn ObjectStore, table: &Layout, reach: Reach) -> Result<Vec<ListedFile>> {
    let top = storage::list_folder(store, table.root()).await?;
    let folders =
        top.common_prefixes.into_iter().filter(|folder| folder.filename() != Some(layout::META_FOLDER));
    let mut folders: Vec<Path> = folders.collect();
    let mut files: Vec<ListedFile> = top.objects.into_iter().map(ListedFile::from).collect();
    if !reach.is_local && folders.len() > FEW_FOLDERS {
        // If all folders are listed, starting after the table's metadata, one request returns 1,000 files.
        let after = table.resolve(AFTER_META_FOLDER)?;
        let mut all = store.list_with_offset(Some(table.root()), &after);
        while let Some(file) = all.next().await {
            let file = file.map_err(|cause| storage::failed("list", table.root(), cause))?;
            if table.relative(&file.location).contains('/') {
                files.push(file.into());
            }
        }
        folders.retain(|folder| *folder < after);
    }
    let lists = folders.into_iter().map(|folder| async move { storage::list_below(store, &folder).await });
    let below: Vec<Vec<ObjectMeta>> = ordered(reach.width, lists).await?;
    files.extend(below.into_iter().flatten().map(ListedFile::from));
    Ok(files)
}

const LOST_COMMIT: &str =
    "restore the file from a copy, or delete it: the next write then undoes the commit as an unfinished one";

/// Reads the metadata of a completed commit.
pub(crate) async fn read_commit(
    store: &dyn ObjectStore,
    table: &Layout,
    entry: &TimelineEntry,
) -> Result<CommitMetadata> {
    let path = table.entry_file(entry, State::Completed)?;
    let bytes = storage::read(store, &path).await?;
    if bytes.is_empty() && entry.action == Action::ReplaceCommit {
        // The file groups that the commit replaced would become visible again.
        return Err(Error::new(
            ErrorKind::Corrupt,
            "a replacecommit is empty, and does not name the file groups that it replaced",
        )
        .with_context("file", &path)
        .with_context("hint", LOST_COMMIT));
    }
    CommitMetadata::parse(&bytes, &path).map_err(|error| error.with_context("hint", LOST_COMMIT))
}

/// Reads the metadata of a completed clean. Returns `None` if the file is empty, as a dead writer or an old
/// Hudi leaves it. As in Hudi, such a clean deleted nothing.
pub(crate) async fn read_clean(
    store: &dyn ObjectStore,
    table: &Layout,
    clean: &TimelineEntry,
) -> Result<Option<CleanMetadata>> {
    let path = table.entry_file(clean, State::Completed)?;
    let bytes = storage::read(store, &path).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    CleanMetadata::decode(&bytes).map(Some).map_err(|error| {
        let hint = "restore the file from a copy, or delete it: the next write then repeats the clean";
        error.with_context("file", &path).with_context("hint", hint)
    })
}

/// Returns the schema of the newest commit that contains one.
fn latest_schema(written: &Written) -> Result<Option<SchemaRef>> {
    let Some((instant, text)) = written.latest_schema() else { return Ok(None) };
    let named = |error: Error| error.with_context("commit", instant);
    let found = schema::from_avro(text).map_err(named)?;
    schema::canonical(&found).map(Some).map_err(named)
}
