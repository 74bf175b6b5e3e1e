//! [`TableOptions`]: options of writing a table that `hoodie.properties` does not contain.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hudi_format::retention::RetentionPolicy;

use super::CatalogSync;
use crate::{
    cancellation::Cancellation,
    codec::Codec,
    lock::{LeaseTimes, TableLock},
    range_copy::RangeCopy,
    timeline::{Clock, SystemClock, archive::ArchiveLimits},
};

/// Options for writing a table that the table itself does not store. Pass the same options to every writer.
///
/// The defaults are Hudi's, except where documented.
#[derive(Clone, Debug)]
pub struct TableOptions {
    pub(crate) retention: Option<RetentionPolicy>,
    /// `true` if the caller set no retention, so that the table's own retention applies.
    pub(crate) retention_is_default: bool,
    pub(crate) archive: Option<ArchiveLimits>,
    pub(crate) codec: Option<Codec>,
    pub(crate) compression_level: Option<u32>,
    pub(crate) page_patching: bool,
    pub(crate) bloom_entries: Option<u32>,
    pub(crate) bloom_fpp: f64,
    pub(crate) bloom_max_entries: u32,
    pub(crate) small_file_bytes: u64,
    pub(crate) max_file_bytes: u64,
    pub(crate) parallelism: usize,
    pub(crate) memory_budget: usize,
    pub(crate) spill_folder: Option<PathBuf>,
    pub(crate) index_cache: Option<PathBuf>,
    pub(crate) index_cache_bytes: u64,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) seed: Option<u64>,
    pub(crate) base_url: Option<String>,
    pub(crate) lock: Lock,
    pub(crate) lock_wait: Duration,
    pub(crate) lease_times: LeaseTimes,
    pub(crate) metadata_table: MetadataTable,
    pub(crate) cancellation: Option<Cancellation>,
    pub(crate) catalog_sync: Option<Arc<dyn CatalogSync>>,
    pub(crate) range_copy: RangeCopyOption,
}

/// How ranges are copied within the storage.
#[derive(Clone, Debug)]
pub(crate) enum RangeCopyOption {
    /// Uses the copies of the store that this crate builds from a URL, if the store supports them.
    Automatic,
    Given(Arc<dyn RangeCopy>),
    None,
}

/// How concurrent writers are excluded.
#[derive(Clone, Debug)]
pub(crate) enum Lock {
    /// A file lock for a table on a local disk, and a lease in the storage for any other table.
    Automatic,
    Given(Arc<dyn TableLock>),
    /// No lock. The caller guarantees that there is only one writer.
    None,
}

/// How a write handles the metadata table of another writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetadataTable {
    /// Drops it. Hudi's writers create it again. Until then, readers list the table.
    #[default]
    Drop,
    /// Refuses to write, with [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
    Refuse,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            retention: Some(RetentionPolicy::default()),
            retention_is_default: true,
            archive: Some(ArchiveLimits::default()),
            codec: None,
            compression_level: None,
            page_patching: true,
            bloom_entries: None,
            bloom_fpp: 1e-9,
            bloom_max_entries: 100_000,
            small_file_bytes: 100 * 1024 * 1024,
            max_file_bytes: 120 * 1024 * 1024,
            parallelism: std::thread::available_parallelism().map_or(2, usize::from),
            memory_budget: 256 * 1024 * 1024,
            spill_folder: None,
            index_cache: None,
            index_cache_bytes: 1024 * 1024 * 1024,
            clock: Arc::new(SystemClock),
            seed: None,
            base_url: None,
            lock: Lock::Automatic,
            lock_wait: Duration::from_secs(360),
            lease_times: LeaseTimes::default(),
            metadata_table: MetadataTable::default(),
            cancellation: None,
            catalog_sync: None,
            range_copy: RangeCopyOption::Automatic,
        }
    }
}

impl TableOptions {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the retention. Each commit is followed by a clean. Default: the table's own retention
    /// ([`TableDefinition::with_retention`](crate::TableDefinition::with_retention)), otherwise the last 10
    /// commits.
    #[must_use]
    pub fn with_retention(mut self, policy: RetentionPolicy) -> Self {
        self.retention = Some(policy);
        self.retention_is_default = false;
        self
    }

    /// Cleans only on demand.
    #[must_use]
    pub fn without_automatic_clean(mut self) -> Self {
        self.retention = None;
        self.retention_is_default = false;
        self
    }

    /// Sets the length of the active timeline above which a commit archives the oldest actions, and the
    /// length that it leaves. Actions in the retained window are never archived. Default: from 30 commits
    /// down to 20.
    #[must_use]
    pub fn with_archive_limits(mut self, limits: ArchiveLimits) -> Self {
        self.archive = Some(limits);
        self
    }

    /// Archives only on demand.
    #[must_use]
    pub fn without_automatic_archive(mut self) -> Self {
        self.archive = None;
        self
    }

    /// Sets the compression of pages. Default: the table's own codec
    /// ([`TableDefinition::with_codec`](crate::TableDefinition::with_codec)), otherwise the codec of its
    /// newest file, otherwise [`Codec::default`].
    #[must_use]
    pub fn with_codec(mut self, codec: Codec) -> Self {
        self.codec = Some(codec);
        self
    }

    /// Sets the compression level: 1 to 9 for [`Codec::Gzip`], 1 to 22 for [`Codec::Zstd`]. Higher values are
    /// reduced to the maximum. Snappy has no levels. Default: 2 for GZIP, and 1 for Zstandard.
    #[must_use]
    pub fn with_compression_level(mut self, level: u32) -> Self {
        self.compression_level = Some(level);
        self
    }

    /// If `true`, replaces changed values in the stored pages of a column. If `false`, decodes and encodes
    /// every column with changed values, which is slower. With `true`, the old value may remain, unused, in
    /// the dictionary of its column chunk. In both cases, columns without changed values are copied. Default:
    /// `true`.
    #[must_use]
    pub fn with_page_patching(mut self, page_patching: bool) -> Self {
        self.page_patching = page_patching;
        self
    }

    /// Sets the number of record keys for which the bloom filter of a base file is sized, with Hudi's false
    /// positive probability of 1e-9. Hudi always uses 60,000. Default: 25 % more than the number of keys in
    /// the file, at least 1,000. From 60,000 keys on, where Hudi's own filter of 430 KB is full, the filter
    /// has 12 bits for each key of a new file, and the probability grows to at most 0.0092.
    #[must_use]
    pub fn with_bloom_entries(mut self, entries: u32) -> Self {
        self.bloom_entries = Some(entries.max(1));
        self
    }

    /// Sets file sizes in bytes. Base files smaller than `small` receive new rows until they have about
    /// `max`. Default: 100 and 120 MiB.
    #[must_use]
    pub fn with_file_sizes(mut self, small: u64, max: u64) -> Self {
        self.small_file_bytes = small.min(max);
        self.max_file_bytes = max.max(1);
        self
    }

    /// Sets the number of files that are read and written concurrently. On remote storage, this limits only
    /// large files: up to 16 small files are read and written concurrently, if a quarter of the [memory
    /// budget](TableOptions::with_memory_budget) has room for them. Default: one per core.
    #[must_use]
    pub fn with_parallelism(mut self, files: usize) -> Self {
        self.parallelism = files.max(1);
        self
    }

    /// Sets the memory for incoming rows of a write, in bytes. Parts larger than an eighth of it are sorted
    /// and spilled to the local disk. The files that are being written need additional memory: a few row
    /// groups for each of the files of [`TableOptions::with_parallelism`]. Default: 256 MiB.
    #[must_use]
    pub fn with_memory_budget(mut self, bytes: usize) -> Self {
        self.memory_budget = bytes.max(1);
        self
    }

    /// Sets the folder for incoming rows that do not fit into memory. Default: the system's temporary folder.
    #[must_use]
    pub fn with_spill_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.spill_folder = Some(folder.into());
        self
    }

    /// Sets a folder on the local disk in which the key index is cached for other processes. It contains the
    /// footers and keys of the base files that lookups read or that this process writes. For a table on
    /// remote storage, a lookup reads cached entries from the local disk. Several processes and tables may
    /// share a folder. Damaged entries are ignored, and the folder may be deleted at any time. An error of
    /// the cache is logged and never makes a write fail. Default: none.
    #[must_use]
    pub fn with_index_cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.index_cache = Some(folder.into());
        self
    }

    /// Sets the maximum size of the folder of [`TableOptions::with_index_cache`] in bytes. The least recently
    /// used entries are evicted first. Default: 1 GiB.
    #[must_use]
    pub fn with_index_cache_bytes(mut self, bytes: u64) -> Self {
        self.index_cache_bytes = bytes;
        self
    }

    /// Sets the source of time for instants. Default: [`SystemClock`].
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Generates the ids of new file groups from a seed and the instant of their commit, so that a run can be
    /// repeated. Default: from the system's random generator.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets the URL by which other engines know the table, such as `s3://lake/customer`. Hudi's plans of
    /// cleans and rollbacks contain absolute paths. Default: `/` and the path in the store, which is right
    /// for a local disk.
    #[must_use]
    pub fn with_base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into().trim_end_matches('/').to_owned());
        self
    }

    /// Sets the lock that excludes writers of other processes. Default: for a table on a local disk, the
    /// operating system's lock on a file ([`FileLock`](crate::lock::FileLock)); for any other table, a lease
    /// in the storage ([`StorageLock`](crate::lock::StorageLock)).
    #[must_use]
    pub fn with_lock(mut self, lock: Arc<dyn TableLock>) -> Self {
        self.lock = Lock::Given(lock);
        self
    }

    /// Sets the times of the lease in the storage, which is the default lock of a table that is not on a
    /// local disk. A shorter lease expires sooner after its writer died, but must be renewed more often.
    /// Default: Hudi's.
    #[must_use]
    pub fn with_lease_times(mut self, times: LeaseTimes) -> Self {
        self.lease_times = times;
        self
    }

    /// Writes without a lock. Use it for a storage without conditional puts if the caller guarantees that
    /// there is only one writer. Two writers would undo each other's commits.
    #[must_use]
    pub fn without_lock(mut self) -> Self {
        self.lock = Lock::None;
        self
    }

    /// Sets how a metadata table that Spark maintains for the table is handled. Default:
    /// [`MetadataTable::Drop`].
    #[must_use]
    pub fn with_metadata_table(mut self, metadata_table: MetadataTable) -> Self {
        self.metadata_table = metadata_table;
        self
    }

    /// Sets a cancellation that ends writes of the table in an orderly way. Default: none.
    #[must_use]
    pub fn with_cancellation(mut self, cancellation: Cancellation) -> Self {
        self.cancellation = Some(cancellation);
        self
    }

    /// Updates a catalog to match the table after each write, without holding the table's lock. The result of
    /// the write waits for it. A failed sync never makes the write fail:
    /// [`CommitReport`](crate::CommitReport) contains the error, and the sync after the next write catches
    /// up. Default: none.
    #[must_use]
    pub fn with_catalog_sync(mut self, catalog: Arc<dyn CatalogSync>) -> Self {
        self.catalog_sync = Some(catalog);
        self
    }

    /// Lets the storage copy the unchanged column chunks of rewritten files, which are then neither
    /// downloaded nor uploaded. Ranges of files up to 10 MiB are never copied. Default: [`S3RangeCopy`] for a
    /// table that is opened by an S3 URL, otherwise none.
    ///
    /// [`S3RangeCopy`]: crate::S3RangeCopy
    #[must_use]
    pub fn with_range_copy(mut self, range_copy: Arc<dyn RangeCopy>) -> Self {
        self.range_copy = RangeCopyOption::Given(range_copy);
        self
    }

    /// Sends each rewritten file as a whole.
    #[must_use]
    pub fn without_range_copy(mut self) -> Self {
        self.range_copy = RangeCopyOption::None;
        self
    }

    /// Sets the maximum time for which a write waits for other writers. Default: six minutes, because the
    /// lease of a dead writer on remote storage lasts for five.
    #[must_use]
    pub fn with_lock_wait(mut self, wait: Duration) -> Self {
        self.lock_wait = wait;
        self
    }
}

/// The effective values, set or default. In the options of a [`Table`](crate::Table), the retention is the
/// table's own unless another one was set.
impl TableOptions {
    /// Returns the retention. Returns `None` if commits are cleaned only on demand.
    pub fn retention(&self) -> Option<RetentionPolicy> {
        self.retention
    }

    /// Returns the limits of the active timeline. Returns `None` if it is archived only on demand.
    pub fn archive_limits(&self) -> Option<ArchiveLimits> {
        self.archive
    }

    /// Returns the compression of pages. Returns `None` if the table determines it.
    pub fn codec(&self) -> Option<Codec> {
        self.codec
    }

    /// Returns the compression level. Returns `None` if the codec determines it.
    pub fn compression_level(&self) -> Option<u32> {
        self.compression_level
    }

    /// Returns `true` if changed values are replaced in stored pages.
    pub fn page_patching(&self) -> bool {
        self.page_patching
    }

    /// Returns the number of record keys for which bloom filters are sized. Returns `None` if it depends on
    /// the file.
    pub fn bloom_entries(&self) -> Option<u32> {
        self.bloom_entries
    }

    /// Returns the file sizes in bytes: the size below which a file receives new rows, and the size up to
    /// which it receives them.
    pub fn file_sizes(&self) -> (u64, u64) {
        (self.small_file_bytes, self.max_file_bytes)
    }

    /// Returns the number of files that are read and written concurrently.
    pub fn parallelism(&self) -> usize {
        self.parallelism
    }

    /// Returns the memory for incoming rows of a write, in bytes.
    pub fn memory_budget(&self) -> usize {
        self.memory_budget
    }

    /// Returns the folder for incoming rows that do not fit into memory. Returns `None` for the system's
    /// temporary folder.
    pub fn spill_folder(&self) -> Option<&Path> {
        self.spill_folder.as_deref()
    }

    /// Returns the folder of the index cache, if there is one.
    pub fn index_cache(&self) -> Option<&Path> {
        self.index_cache.as_deref()
    }

    /// Returns the maximum size of the index cache's folder in bytes.
    pub fn index_cache_bytes(&self) -> u64 {
        self.index_cache_bytes
    }

    /// Returns the source of time for instants.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Returns the seed for the ids of new file groups. Returns `None` if they come from the system's random
    /// generator.
    pub fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// Returns the URL by which other engines know the table, if it was set.
    pub fn base_url(&self) -> Option<&str> {
        self.base_url.as_deref()
    }

    /// Returns the lock that was set with [`TableOptions::with_lock`].
    pub fn lock(&self) -> Option<&Arc<dyn TableLock>> {
        match &self.lock {
            Lock::Given(lock) => Some(lock),
            Lock::Automatic | Lock::None => None,
        }
    }

    /// Returns `true` after [`TableOptions::without_lock`].
    pub fn is_without_lock(&self) -> bool {
        matches!(self.lock, Lock::None)
    }

    /// Returns the maximum time that a write waits for other writers.
    pub fn lock_wait(&self) -> Duration {
        self.lock_wait
    }

    /// Returns the times of the lease in the storage.
    pub fn lease_times(&self) -> LeaseTimes {
        self.lease_times
    }

    /// Returns how a metadata table of Spark is handled.
    pub fn metadata_table(&self) -> MetadataTable {
        self.metadata_table
    }

    /// Returns the cancellation of the table's writes, if there is one.
    pub fn cancellation(&self) -> Option<&Cancellation> {
        self.cancellation.as_ref()
    }

    /// Returns the copies of ranges within the storage, if any are set.
    pub fn range_copy(&self) -> Option<&Arc<dyn RangeCopy>> {
        match &self.range_copy {
            RangeCopyOption::Given(range_copy) => Some(range_copy),
            RangeCopyOption::Automatic | RangeCopyOption::None => None,
        }
    }

    /// Returns the sync after each write, if there is one.
    pub fn catalog_sync(&self) -> Option<&Arc<dyn CatalogSync>> {
        self.catalog_sync.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_can_be_read() {
        let limits = ArchiveLimits { keep_min: 3, keep_max: 4 };
        let options = TableOptions::new()
            .with_retention(RetentionPolicy::commits(3))
            .with_archive_limits(limits)
            .with_codec(Codec::Zstd)
            .with_compression_level(4)
            .with_page_patching(false)
            .with_bloom_entries(9)
            .with_file_sizes(10, 20)
            .with_parallelism(5)
            .with_memory_budget(6)
            .with_spill_folder("spill")
            .with_index_cache("cache")
            .with_index_cache_bytes(7)
            .with_seed(8)
            .with_base_url("s3://lake/t/")
            .without_lock()
            .with_lock_wait(Duration::from_secs(1))
            .with_lease_times(LeaseTimes { validity: Duration::from_secs(9), ..LeaseTimes::default() })
            .with_cancellation(Cancellation::new());
        assert_eq!(options.retention(), Some(RetentionPolicy::commits(3)));
        assert_eq!(options.archive_limits(), Some(limits));
        assert_eq!((options.codec(), options.compression_level()), (Some(Codec::Zstd), Some(4)));
        assert!(!options.page_patching());
        assert_eq!((options.bloom_entries(), options.file_sizes()), (Some(9), (10, 20)));
        assert_eq!((options.parallelism(), options.memory_budget()), (5, 6));
        assert_eq!(options.spill_folder(), Some(Path::new("spill")));
        assert_eq!((options.index_cache(), options.index_cache_bytes()), (Some(Path::new("cache")), 7));
        assert_eq!((options.seed(), options.base_url()), (Some(8), Some("s3://lake/t")));
        assert!(options.is_without_lock() && options.lock().is_none());
        assert_eq!(options.lock_wait(), Duration::from_secs(1));
        assert_eq!(options.lease_times().validity, Duration::from_secs(9));
        assert_eq!(options.metadata_table(), MetadataTable::default());
        assert!(options.catalog_sync().is_none() && options.range_copy().is_none());
        assert!(options.cancellation().is_some_and(|cancellation| !cancellation.is_cancelled()));
    }
}
