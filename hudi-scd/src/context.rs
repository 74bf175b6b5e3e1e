//! [`Context`]: the parts of a table that the other modules receive.
//!
//! ```text
//! Table      a reference to a Context; its methods are in `table`
//!   |
//! Context    storage behind a fence, layout, properties, options, the latest view, caches, the lock
//!   |
//!   +-- opening   creates and opens it
//!   +-- turn      the exclusive right to change the table
//!   +-- stored    the properties at the start of a turn
//!   +-- files     opens base files; `footers` keeps their footers, `dropped` adds the columns of folders
//!   +-- options, catalog
//! ```
//!
//! `Table` is defined here and not with its methods, because three public types refer to each other: the
//! [options](TableOptions) contain a [`CatalogSync`], which receives a [`Table`], which has the options.

mod catalog;
mod dropped;
mod files;
pub(crate) mod footers;
mod opening;
mod options;
mod stored;
mod turn;

use std::{
    collections::{BTreeSet, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use arrow::datatypes::{FieldRef, SchemaRef};
use bytes::Bytes;
use object_store::{ObjectStore, path::Path};
use tokio::sync::OnceCell;

pub use self::{
    catalog::CatalogSync,
    options::{MetadataTable, TableOptions},
};
use self::{footers::FooterCache, options::Lock};
pub(crate) use self::{
    options::RangeCopyOption,
    turn::{Turn, cancelled},
};
use crate::{
    Error, ErrorKind, Result,
    definition::HISTORY,
    index_cache::{Entry, IndexCache},
    key::KeyEncoding,
    layout::{self, Layout},
    lock::{FileLock, StorageLock, TableLock},
    operation::{Counted, CountedRangeCopy, Operation},
    patched_upload::RangeCopies,
    properties::{TableProperties, TableVersion},
    recent::Recent,
    schema,
    snapshot::{FileGroup, Reach, View},
    storage::{
        self,
        fence::{Fence, Fenced},
    },
    timeline::{Instant, Timeline, TimelineEntry, archive::ArchivedEntry, archived},
};

/// See [`Context::calls_at_a_time`].
const REMOTE_CALLS: usize = 16;
/// See [`Context::admit`].
const ADMITTED_BYTES: usize = 64 * 1024;
/// Divisor: files that are read and written concurrently may use this share of the memory budget.
const ADMITTED_SHARE: usize = 4;

/// A Hudi table: copy-on-write, of any [version](TableVersion) for reading, up to version 6 for writing.
///
/// A handle is cheap to clone, and clones share cached state. It can be used from many tasks at once: reads
/// run concurrently, and writes through one handle wait for each other.
///
/// # Dropped futures
///
/// The future of a read can be dropped at any time. An operation that changes the table ends as if its
/// process had died when its future was dropped, but the handle can still be used:
///
/// - Readers see the change completely or not at all. A request in flight may still take effect, so the
///   caller does not know if the change was made. After [`Table::bulk_insert`], look for the commit in
///   [`Table::timeline`] before you repeat it, and call [`Table::settle`] if the commit is pending.
/// - The lock is released if no change was in flight. Otherwise, the lease of a table on remote storage is no
///   longer renewed. It expires after [`LeaseTimes::validity`](crate::lock::LeaseTimes::validity), 5 minutes
///   by default, and all writers, including this handle, wait for that. On a local disk, the lock is released
///   at once, and a call that the operating system has begun still completes.
/// - A metadata table may already be dropped ([`MetadataTable`](crate::MetadataTable)).
///
/// | operation | leaves | repaired by |
/// |---|---|---|
/// | a write of rows, [`Table::take_in`], [`Scd2Table::apply`](crate::scd::Scd2Table::apply) | a pending commit with its heartbeat, markers and files; after the commit, one of the next two rows, or a catalog that is not synchronized | the next write rolls the commit back |
/// | [`Table::clean`] | a pending clean that has deleted some of its files | the next write or clean completes it from its plan |
/// | [`Table::archive`] | an archive file, with none, some or all of its actions removed from the timeline | the next archival repeats it; duplicates in the archive are harmless |
/// | [`Table::savepoint`], [`Table::delete_savepoint`] | the savepoint, none, or an unfinished one, which protects nothing | the next write deletes an unfinished one |
/// | [`Table::rollback`], [`Table::settle`] | the commit, an announced rollback of it, or no commit | the next write completes an announced rollback |
/// | [`Table::upgrade`] | the old version, or the new one | repeat the upgrade |
///
/// A multipart upload that was in progress leaves invisible parts on S3, which a lifecycle rule of the bucket
/// removes. To end a write in order and release its lock, use [`Cancellation`](crate::Cancellation).
#[derive(Clone, Debug)]
pub struct Table {
    context: Arc<Context>,
}

impl Table {
    pub(crate) fn of(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Returns the parts of the table.
    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }
}

/// The parts of a table that reads and writes use. Clones of a [`Table`] share one context.
#[derive(Debug)]
pub(crate) struct Context {
    /// The storage behind the fence.
    store: Arc<dyn ObjectStore>,
    /// The same storage without the fence.
    unfenced: Arc<dyn ObjectStore>,
    fence: Arc<Fence>,
    layout: Layout,
    properties: TableProperties,
    options: TableOptions,
    /// Held while a write through this handle is in progress.
    writing: tokio::sync::Mutex<()>,
    /// The table's folder, if it is on a local disk.
    local_folder: Option<PathBuf>,
    lock: Option<Arc<dyn TableLock>>,
    random: Mutex<fastrand::Rng>,
    known: tokio::sync::Mutex<Known>,
    /// The newest instant that this handle created, until its turn ends.
    minted: Mutex<Option<Instant>>,
    /// Instants before the active timeline that the archive has shown to be commits.
    archived: Mutex<HashSet<Instant>>,
    footers: Arc<FooterCache>,
    /// The form of new keys, if this handle had to decide it.
    key_encoding: OnceCell<KeyEncoding>,
    /// Set when this handle has recorded the form of new keys.
    key_encoding_recorded: OnceCell<()>,
    /// The content of small remote files that a write may read again.
    contents: Recent<Bytes>,
    /// The share of the memory budget for files that are read and written, in units of [`ADMITTED_BYTES`].
    admitted: tokio::sync::Semaphore,
    /// See [`Context::dropped_columns`].
    dropped_columns: OnceLock<Vec<FieldRef>>,
    /// The cached footers and keys on the local disk.
    index_cache: Option<IndexCache>,
    /// Copies ranges within a remote storage. `None` if the storage does not support it.
    range_copies: Option<RangeCopies>,
}

/// The latest view of a table.
#[derive(Debug, Default)]
struct Known {
    view: Option<Arc<View>>,
    /// Number of changes so far. A timeline that was listed before the last change may be older than the
    /// view.
    changes: u64,
}

impl Context {
    /// Builds the context of a table with these properties. `local_folder` is its folder on a local disk.
    fn of(
        store: Arc<dyn ObjectStore>,
        layout: Layout,
        properties: TableProperties,
        local_folder: Option<PathBuf>,
        options: TableOptions,
    ) -> Self {
        let store = Counted::over(store);
        #[expect(clippy::disallowed_methods, reason = "the one place that draws from the system's entropy")]
        let mut random = fastrand::Rng::new();
        let mut options = options;
        if let (true, Some(policy)) = (options.retention_is_default, properties.retention) {
            options.retention = Some(policy);
        }
        let lock = match &options.lock {
            Lock::Given(lock) => Some(lock.clone()),
            Lock::None => None,
            Lock::Automatic => Some(match &local_folder {
                Some(folder) => Arc::new(FileLock::new(folder)) as Arc<dyn TableLock>,
                None => {
                    let (root, clock) = (layout.root(), options.clock.clone());
                    let lock = StorageLock::new(store.clone(), root, clock, random.u64(..));
                    Arc::new(lock.with_times(options.lease_times))
                }
            }),
        };
        let index_cache = options.index_cache.clone().map(|folder| {
            let identity = format!("{store}\n{}", base_url(&options, &layout));
            IndexCache::new(folder, options.index_cache_bytes, identity, options.clock.clone())
        });
        let fence = Fence::new();
        let range_copy = options.range_copy().filter(|_| local_folder.is_none()).cloned();
        Self {
            range_copies: range_copy
                .map(|copy| RangeCopies::new(CountedRangeCopy::over(copy), fence.clone())),
            local_folder,
            lock,
            store: Fenced::over(store.clone(), fence.clone()),
            unfenced: store,
            fence,
            layout: layout.with_archive(properties.archive_folder.clone()),
            properties,
            admitted: tokio::sync::Semaphore::new(admitted(&options)),
            options,
            writing: tokio::sync::Mutex::default(),
            random: Mutex::new(random),
            known: tokio::sync::Mutex::default(),
            minted: Mutex::default(),
            archived: Mutex::default(),
            footers: Arc::default(),
            key_encoding: OnceCell::new(),
            key_encoding_recorded: OnceCell::new(),
            contents: Recent::new(files::CONTENT_BYTES),
            dropped_columns: OnceLock::new(),
            index_cache,
        }
    }

    /// Returns the table's name.
    pub(crate) fn name(&self) -> &str {
        &self.properties.name
    }

    /// Returns the table's path in its store.
    pub(crate) fn root(&self) -> &Path {
        self.layout.root()
    }

    /// Returns the version of the table's format.
    pub(crate) fn version(&self) -> TableVersion {
        self.properties.version
    }

    /// Returns the paths of the table's files.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the properties that the table had when it was opened.
    pub(crate) fn properties(&self) -> &TableProperties {
        &self.properties
    }

    /// Returns the options of the handle.
    pub(crate) fn options(&self) -> &TableOptions {
        &self.options
    }

    /// Returns the columns of the record key.
    pub(crate) fn record_key_fields(&self) -> &[String] {
        &self.properties.record_key_fields
    }

    /// Returns `true` if the table is a history (SCD type 2).
    pub(crate) fn is_history(&self) -> bool {
        self.properties.raw().contains_key(HISTORY)
    }

    /// Begins an operation that may change the table. `name` is the name of the public method.
    pub(crate) fn begin_change(&self, name: &'static str) -> Operation {
        Operation::change(self.name(), self.root(), name)
    }

    /// Begins an operation that reads the table.
    pub(crate) fn begin_read(&self, name: &'static str) -> Operation {
        Operation::read(self.name(), self.root(), name)
    }

    /// Returns the footers that are kept in memory.
    pub(crate) fn footers(&self) -> &Arc<FooterCache> {
        &self.footers
    }

    /// Returns the cache on the local disk, if there is one.
    pub(crate) fn index_cache(&self) -> Option<&IndexCache> {
        self.index_cache.as_ref()
    }

    /// Returns the copies of ranges within the storage, if it supports them.
    pub(crate) fn range_copies(&self) -> Option<&RangeCopies> {
        self.range_copies.as_ref()
    }

    /// Returns the form of new keys, which is set if this handle had to decide it.
    pub(crate) fn key_encoding(&self) -> &OnceCell<KeyEncoding> {
        &self.key_encoding
    }

    /// Returns the mark that is set when this handle has recorded the form of new keys.
    pub(crate) fn key_encoding_recorded(&self) -> &OnceCell<()> {
        &self.key_encoding_recorded
    }

    /// Returns a reference to the storage that a task can keep.
    #[cfg(feature = "datafusion")]
    pub(crate) fn shared_store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Returns the storage without the fence, for heartbeats: they change nothing, so that a stopped write
    /// need not wait for one that is in flight.
    pub(crate) fn unfenced_store(&self) -> &Arc<dyn ObjectStore> {
        &self.unfenced
    }

    /// Returns the fence in front of the storage.
    pub(crate) fn fence(&self) -> &Arc<Fence> {
        &self.fence
    }

    /// Returns `true` for a table on a local disk.
    pub(crate) fn is_local(&self) -> bool {
        self.local_folder.is_some()
    }

    /// Returns the storage behind the fence.
    pub(crate) fn store(&self) -> &dyn ObjectStore {
        self.store.as_ref()
    }

    /// Returns the number of concurrent storage calls. Remote storage can serve many. On a local disk, the
    /// number is limited by this machine's cores, and each additional thread costs memory.
    pub(crate) fn calls_at_a_time(&self) -> usize {
        let parallelism = self.options.parallelism;
        if self.local_folder.is_some() { parallelism } else { parallelism.max(REMOTE_CALLS) }
    }

    /// Waits until a file that takes `bytes` bytes of memory may be read or written concurrently with others.
    /// Any number of small files may be admitted, and as many large files as
    /// [`TableOptions::with_parallelism`] sets. A holder must not wait for another permit.
    pub(crate) async fn admit(&self, bytes: u64) -> Result<tokio::sync::SemaphorePermit<'_>> {
        let most = admitted(&self.options) / self.options.parallelism;
        let units = usize::try_from(bytes).unwrap_or(usize::MAX).div_ceil(ADMITTED_BYTES).clamp(1, most);
        let permit = self.admitted.acquire_many(u32::try_from(units).unwrap_or(u32::MAX)).await;
        permit.map_err(|closed| {
            Error::new(ErrorKind::Storage, "the table admits no more files").with_source(closed)
        })
    }

    /// Returns the current view of the table.
    pub(crate) async fn view(&self) -> Result<Arc<View>> {
        let (layout, version) = (&self.layout, self.version());
        let reach = Reach { width: self.calls_at_a_time(), is_local: self.is_local() };
        let changes = self.known.lock().await.changes;
        let mut timeline = crate::timeline::load(self.store(), layout).await?;
        let mut known = self.known.lock().await;
        if known.changes != changes {
            timeline = crate::timeline::load(self.store(), layout).await?;
        }
        // If this fails or is dropped, the next view is loaded by a listing.
        let before = known.view.take();
        known.changes +=
            u64::from(before.as_ref().is_none_or(|before| before.timeline.entries() != timeline.entries()));
        let view = Box::pin(View::load(self.store(), layout, version, reach, before, timeline)).await?;
        known.view = Some(view.clone());
        Ok(view)
    }

    /// Returns the active timeline.
    pub(crate) async fn timeline(&self) -> Result<Timeline> {
        crate::timeline::load(self.store(), &self.layout).await
    }

    /// Returns the path and the content of an action's latest file.
    pub(crate) async fn entry_file(&self, entry: &TimelineEntry) -> Result<(Path, Bytes)> {
        let path = self.layout.entry_file(entry, entry.state)?;
        let bytes = storage::read(self.store(), &path).await?;
        Ok((path, bytes))
    }

    /// Returns instants before the active timeline that the archive has shown to be commits.
    pub(crate) fn archived(&self) -> MutexGuard<'_, HashSet<Instant>> {
        self.archived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the entries of the archive, file by file.
    pub(crate) async fn archived_entries(&self) -> Result<Vec<ArchivedEntry>> {
        archived::entries(self.store(), &self.layout).await
    }

    /// Returns the instants whose commits have completed.
    pub(crate) async fn committed(
        &self,
        view: &View,
        instants: impl Iterator<Item = Instant> + Clone,
    ) -> Result<BTreeSet<Instant>> {
        let mut timeline = view.timeline.clone();
        archived::add_commits(self.store(), &self.layout, &mut timeline, instants.clone()).await?;
        Ok(instants.filter(|instant| timeline.is_committed(*instant)).collect())
    }

    /// Returns the file groups and their versions, ordered by partition and id.
    pub(crate) async fn file_groups(&self) -> Result<Vec<FileGroup>> {
        let view = self.view().await?;
        view.check_timeline(&self.layout)?;
        Ok(view.groups.values().map(|group| FileGroup::clone(group)).collect())
    }

    /// Discards the cached view, because files changed without a change of the timeline.
    pub(crate) async fn forget_view(&self) {
        let mut known = self.known.lock().await;
        known.view = None;
        known.changes += 1;
    }

    /// Returns the data columns in a view, with the dropped columns at their end.
    pub(crate) fn schema_of(&self, view: &View) -> Result<SchemaRef> {
        view.check_columns_named()?;
        view.check_timeline(&self.layout)?;
        let stored = match (&view.schema, self.properties.create_schema()) {
            (Some(schema), _) => schema.clone(),
            (None, Some(text)) => schema::canonical(&*schema::from_avro(text)?)?,
            (None, None) => {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    "the table has no schema before its first commit",
                )
                .with_context("path", self.root()));
            }
        };
        self.with_dropped_columns(stored)
    }

    /// Returns the Avro schema of the data columns as it was written.
    pub(crate) fn avro_of<'a>(&'a self, view: &'a View) -> Option<&'a str> {
        view.avro.as_deref().or_else(|| self.properties.create_schema())
    }

    /// Creates an instant that is newer than all instants of the timeline.
    pub(crate) fn mint(&self, newest: Option<Instant>) -> Result<Instant> {
        let minted = Instant::mint(self.options.clock.now(), &self.properties.zone, newest)?;
        *self.minted.lock().unwrap_or_else(PoisonError::into_inner) = Some(minted);
        Ok(minted)
    }

    /// Returns a source of ids for new file groups of a commit.
    pub(crate) fn ids(&self, instant: Instant) -> FileIds {
        // The seed includes the instant, because a restarted process with the same seed must not generate the
        // same ids again.
        let digits = instant
            .as_str()
            .bytes()
            .fold(0_u64, |sum, digit| sum.wrapping_mul(10).wrapping_add(u64::from(digit.wrapping_sub(b'0'))));
        FileIds(match self.options.seed {
            Some(seed) => fastrand::Rng::with_seed(seed.rotate_left(32) ^ digits),
            None => self.random.lock().unwrap_or_else(PoisonError::into_inner).fork(),
        })
    }

    /// Returns the table's URL in the form that Hudi's plans use.
    pub(crate) fn base_url(&self) -> String {
        base_url(&self.options, &self.layout)
    }

    /// Returns the local cache entries of a base file of `bytes` bytes, if there is a cache.
    pub(crate) fn index_entry(&self, path: &Path, bytes: u64) -> Option<Entry> {
        self.index_cache.as_ref().map(|cache| cache.entry(path, bytes))
    }

    /// Deletes a file of the table, and the checksum that Hadoop may have written next to it. Returns `true`
    /// if the file existed.
    pub(crate) async fn delete_file(&self, view: &View, relative: &str) -> Result<bool> {
        Ok(!self.delete_files(view, vec![relative.to_owned()]).await?.is_empty())
    }

    /// Deletes files of the table, and the checksums that Hadoop may have written next to them. Returns those
    /// that existed, or all if the storage does not report this.
    pub(crate) async fn delete_files(&self, view: &View, relatives: Vec<String>) -> Result<HashSet<String>> {
        let layout = &self.layout;
        let (mut wanted, mut paths) = (HashSet::new(), Vec::new());
        for relative in relatives {
            let checksum = layout::local_checksum(&relative);
            if view.checksums.contains(&checksum) {
                paths.push(layout.resolve(&checksum)?);
            }
            paths.push(layout.resolve(&relative)?);
            wanted.insert(relative);
        }
        let deleted = storage::delete_all(self.store(), paths).await?;
        let deleted = deleted.iter().map(|path| layout.relative(path).to_owned());
        Ok(deleted.filter(|relative| wanted.contains(relative)).collect())
    }

    /// Removes a folder that contains only empty folders. A local disk would keep them.
    pub(crate) fn remove_empty_tree(&self, folder: &Path) {
        let Some(table) = &self.local_folder else { return };
        let folder = table.join(self.layout.relative(folder));
        if let Err(error) = std::fs::remove_dir_all(&folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %folder.display(), %error, "an empty folder could not be deleted");
        }
    }

    /// Removes the folder of a deleted partition, and its parents if they become empty. A local disk would
    /// keep them.
    pub(crate) fn remove_empty_folders(&self, partition: &str) {
        let Some(table) = &self.local_folder else { return };
        let mut below = partition;
        while !below.is_empty() && std::fs::remove_dir(table.join(below)).is_ok() {
            below = below.rsplit_once('/').map_or("", |(above, _)| above);
        }
    }
}

/// Returns the memory for files that are read and written, in units of [`ADMITTED_BYTES`].
fn admitted(options: &TableOptions) -> usize {
    let units = options.memory_budget / ADMITTED_SHARE / ADMITTED_BYTES;
    units.clamp(options.parallelism, tokio::sync::Semaphore::MAX_PERMITS)
}

fn base_url(options: &TableOptions, layout: &Layout) -> String {
    options.base_url.clone().unwrap_or_else(|| format!("/{}", layout.root()))
}

/// The ids of new file groups.
pub(crate) struct FileIds(fastrand::Rng);

impl FileIds {
    /// Generates a UUID, followed by the number of the file within it, which is always 0 here.
    pub(crate) fn draw(&mut self) -> String {
        format!("{}-0", uuid::Builder::from_random_bytes(self.0.u128(..).to_be_bytes()).into_uuid())
    }
}
