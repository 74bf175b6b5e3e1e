//! Keeps footers of base files in memory. They stay valid because base files never change.
//!
//! | part | kept |
//! |---|---|
//! | rows, bytes and key range | of all files of the latest snapshot |
//! | bloom filters | of as many files as fit into [`FILTER_BYTES`]; every lookup checks the filters of all files, so evicting the least recently used ones would always evict the next ones |
//! | all other metadata | of the files that were opened or written last, up to [`METADATA_BYTES`] |

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use object_store::path::Path;
use parquet::{basic::Compression, file::metadata::ParquetMetaData};
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    Result,
    base_file::{FOOTER_BUSINESS_KEYS, Footer},
    bloom::{FOOTER_BLOOM_FILTER, FOOTER_BLOOM_FILTER_TYPE, StoredFilter},
    recent::Recent,
};

/// Maximum size of the bloom filters that a table keeps in memory, in bytes. A filter has up to 2.9 MB.
const FILTER_BYTES: usize = 64 * 1024 * 1024;
/// Maximum size of the metadata that a table keeps in memory, in bytes.
const METADATA_BYTES: usize = 32 * 1024 * 1024;

/// Identifies a base file by a hash of its path, which needs less memory than the path. With 128 bits, equal
/// hashes of two files are as unlikely as equal random ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileKey([u64; 2]);

impl FileKey {
    pub(crate) fn of(path: &Path) -> Self {
        let hash = xxh3_128(path.as_ref().as_bytes());
        Self([hash as u64, (hash >> 64) as u64])
    }
}

/// The parts of a footer that every write needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SlimFooter {
    rows: u64,
    data_bytes: u64,
    /// See [`Footer::codec`].
    pub(crate) codec: Option<Compression>,
    /// The smallest and the largest record key, if the file records them.
    pub(crate) key_range: Option<(Box<str>, Box<str>)>,
}

impl SlimFooter {
    fn of(footer: &Footer) -> Self {
        let groups = footer.metadata().row_groups();
        let key_range = footer.key_range.as_ref();
        Self {
            rows: footer.rows(),
            data_bytes: groups.iter().map(|group| u64::try_from(group.compressed_size()).unwrap_or(0)).sum(),
            codec: footer.codec(),
            key_range: key_range.map(|(min, max)| (min.as_str().into(), max.as_str().into())),
        }
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns the size of the rows. It excludes the footer, which in a small file is mostly the bloom
    /// filter.
    pub(crate) fn data_bytes(&self) -> u64 {
        self.data_bytes
    }
}

/// The bloom filter of a file in its stored form.
#[derive(Debug)]
pub(crate) struct KeyFilter {
    text: Option<Box<str>>,
    type_code: Option<Box<str>>,
    /// `true` if it also contains the business keys of a history.
    pub(crate) has_business_keys: bool,
}

impl KeyFilter {
    pub(crate) fn of(footer: &Footer) -> Self {
        let entry = |key| footer.entry(key).map(Box::from);
        let (text, type_code) = (entry(FOOTER_BLOOM_FILTER), entry(FOOTER_BLOOM_FILTER_TYPE));
        let has_business_keys = footer.entry(FOOTER_BUSINESS_KEYS).is_some();
        Self { text, type_code, has_business_keys }
    }

    /// Decodes the filter of the file at `path`.
    pub(crate) fn stored(&self, path: &Path) -> Result<Option<StoredFilter<'_>>> {
        let Some(text) = &self.text else { return Ok(None) };
        let filter = StoredFilter::parse(text, self.type_code.as_deref());
        filter.map(Some).map_err(|error| error.with_context("file", path))
    }

    /// Returns the memory that it needs in the cache, in bytes.
    fn bytes(&self) -> usize {
        const ENTRY: usize = 2 * (size_of::<FileKey>() + size_of::<Arc<KeyFilter>>());
        let texts = [&self.text, &self.type_code].into_iter().flatten();
        ENTRY + size_of::<Self>() + texts.map(|text| text.len()).sum::<usize>()
    }
}

/// The footers of a table. See the [module](self).
#[derive(Debug)]
pub(crate) struct FooterCache {
    cached: Mutex<Cached>,
    metadata: Recent<Arc<ParquetMetaData>>,
}

impl Default for FooterCache {
    fn default() -> Self {
        Self { cached: Mutex::default(), metadata: Recent::new(METADATA_BYTES) }
    }
}

#[derive(Debug, Default)]
struct Cached {
    slim: HashMap<FileKey, Arc<SlimFooter>>,
    filters: HashMap<FileKey, Arc<KeyFilter>>,
    filter_bytes: usize,
}

impl FooterCache {
    pub(crate) fn get(&self, file: FileKey) -> Option<Arc<SlimFooter>> {
        self.lock().slim.get(&file).cloned()
    }

    pub(crate) fn filter(&self, file: FileKey) -> Option<Arc<KeyFilter>> {
        self.lock().filters.get(&file).cloned()
    }

    /// Returns the metadata of a file with its page index, without the bloom filter.
    pub(crate) fn metadata(&self, path: &Path) -> Option<Arc<ParquetMetaData>> {
        self.metadata.get(path)
    }

    /// Keeps the parts of a footer that will be needed again.
    pub(crate) fn keep(&self, footer: &Footer) -> Arc<SlimFooter> {
        let file = FileKey::of(footer.path());
        let filter = KeyFilter::of(footer);
        let mut cached = self.lock();
        if cached.filter_bytes + filter.bytes() <= FILTER_BYTES && !cached.filters.contains_key(&file) {
            cached.filter_bytes += filter.bytes();
            cached.filters.insert(file, Arc::new(filter));
        }
        cached.slim.entry(file).or_insert_with(|| Arc::new(SlimFooter::of(footer))).clone()
    }

    /// Keeps the metadata of a file that will soon be opened.
    pub(crate) fn keep_metadata(&self, footer: &Footer) {
        let metadata = footer.without_filter();
        let bytes = metadata.memory_size();
        self.metadata.insert(footer.path(), metadata, bytes);
    }

    /// Removes the footers of all other files.
    pub(crate) fn retain(&self, live: &HashSet<FileKey>) {
        let mut cached = self.lock();
        cached.slim.retain(|file, _| live.contains(file));
        cached.filters.retain(|file, _| live.contains(file));
        cached.filter_bytes = cached.filters.values().map(|filter| filter.bytes()).sum();
    }

    fn lock(&self) -> MutexGuard<'_, Cached> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
