//! [`TableOptions`]: how a table is written, as far as `hoodie.properties` does not say.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{
    lock::TableLock,
    metadata_table::MetadataTable,
    retention::RetentionPolicy,
    timeline::{Clock, SystemClock, archive::ArchiveLimits},
};

/// How a table is written, as far as the table itself does not keep it: give the same options to every writer.
///
/// The defaults are Hudi's unless said otherwise.
#[derive(Clone, Debug)]
pub struct TableOptions {
    pub(crate) retention: Option<RetentionPolicy>,
    /// Nobody said otherwise, so that what the table says of itself counts.
    pub(crate) retention_is_default: bool,
    pub(crate) archive: Option<ArchiveLimits>,
    pub(crate) codec: Codec,
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
    pub(crate) metadata_table: MetadataTable,
}

/// How writers keep out of each other's way.
#[derive(Clone, Debug)]
pub(crate) enum Lock {
    /// A file lock for a table on a local disk, a lease on the storage for any other.
    Automatic,
    Given(Arc<dyn TableLock>),
    /// The caller knows that there is one writer.
    None,
}

/// How the pages of base files are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// GZIP: what Hudi writes. Smallest and slowest.
    Gzip,
    /// Snappy: the default, several times faster to write than GZIP for a file a little larger; every reader of
    /// Parquet has it.
    #[default]
    Snappy,
    /// Zstandard: small and fast, but unknown to old readers.
    Zstd,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            retention: Some(RetentionPolicy::default()),
            retention_is_default: true,
            archive: Some(ArchiveLimits::default()),
            codec: Codec::default(),
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
            metadata_table: MetadataTable::default(),
        }
    }
}

impl TableOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is kept of the past: after each commit the rest is cleaned. Default: what the table says
    /// ([`TableDefinition::with_retention`](crate::TableDefinition::with_retention)), else the last 10 commits.
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

    /// How long the active timeline may grow before a commit moves its oldest actions into the archive; never those
    /// of the retained window. Default: from 30 commits down to 20.
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

    /// How pages are compressed.
    #[must_use]
    pub fn with_codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// How many record keys the bloom filter of a base file is made for. Default: a quarter more than the file has,
    /// but at least 1,000 and at most 60,000, where Hudi always takes 60,000, which is 430 KB in every file.
    #[must_use]
    pub fn with_bloom_entries(mut self, entries: u32) -> Self {
        self.bloom_entries = Some(entries.max(1));
        self
    }

    /// Base files smaller than `small` bytes take new rows until they reach about `max`.
    /// Default: 100 and 120 MiB.
    #[must_use]
    pub fn with_file_sizes(mut self, small: u64, max: u64) -> Self {
        self.small_file_bytes = small.min(max);
        self.max_file_bytes = max.max(1);
        self
    }

    /// How many files are read and written at a time. Default: one for each core.
    #[must_use]
    pub fn with_parallelism(mut self, files: usize) -> Self {
        self.parallelism = files.max(1);
        self
    }

    /// How many bytes of incoming rows a write may hold in memory. More than a quarter of it at a time is sorted and kept
    /// on the local disk. The files that are being written come on top: some row groups for each of
    /// [`TableOptions::with_parallelism`]. Default: 256 MiB.
    #[must_use]
    pub fn with_memory_budget(mut self, bytes: usize) -> Self {
        self.memory_budget = bytes.max(1);
        self
    }

    /// The folder in which incoming rows are kept that do not fit into memory. Default: the system's temporary folder.
    #[must_use]
    pub fn with_spill_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.spill_folder = Some(folder.into());
        self
    }

    /// A folder on the local disk in which the key index is kept for other processes: of the base files that a lookup went
    /// through, and of those that this one writes, the footers and the keys. For a table on a remote storage: a lookup reads
    /// what it finds there from the local disk. Several processes and tables may share a folder; what is damaged in it is left
    /// out, and it may be deleted at any time. It never makes a write fail: what is wrong with it is told to the log.
    /// Default: none.
    #[must_use]
    pub fn with_index_cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.index_cache = Some(folder.into());
        self
    }

    /// How many bytes the folder of [`TableOptions::with_index_cache`] may take; what was not used for the longest time goes
    /// first. Default: 1 GiB.
    #[must_use]
    pub fn with_index_cache_bytes(mut self, bytes: u64) -> Self {
        self.index_cache_bytes = bytes;
        self
    }

    /// Where instants take their time from. Default: [`SystemClock`].
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Draws the ids of new file groups from a seed and the instant of their commit, so that a run can be repeated.
    /// Default: from the machine's entropy.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The table's URL as other engines know it, as in `s3://lake/customer`: Hudi's plans of cleans and rollbacks name
    /// files absolutely. Default: `/` and the path in the store, which is right for a local disk.
    #[must_use]
    pub fn with_base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into().trim_end_matches('/').to_owned());
        self
    }

    /// The lock that keeps writers of other processes out. Default: the operating system's lock on a file for a table
    /// on a local disk ([`FileLock`](crate::lock::FileLock)), a lease on the storage for any other
    /// ([`StorageLock`](crate::lock::StorageLock)).
    #[must_use]
    pub fn with_lock(mut self, lock: Arc<dyn TableLock>) -> Self {
        self.lock = Lock::Given(lock);
        self
    }

    /// Writes without a lock: for a storage that has no conditional puts, and a caller who knows that there is no
    /// other writer. Two writers would undo each other's work.
    #[must_use]
    pub fn without_lock(mut self) -> Self {
        self.lock = Lock::None;
        self
    }

    /// What a write does with a metadata table that Spark keeps beside the table. Default: [`MetadataTable::Drop`].
    #[must_use]
    pub fn with_metadata_table(mut self, metadata_table: MetadataTable) -> Self {
        self.metadata_table = metadata_table;
        self
    }

    /// How long a write waits for other writers. Default: six minutes, since the lease of one that died on a remote
    /// storage lasts five.
    #[must_use]
    pub fn with_lock_wait(mut self, wait: Duration) -> Self {
        self.lock_wait = wait;
        self
    }
}
