//! The footers of base files in memory, which stay valid because base files never change.
//!
//! | part | kept |
//! |---|---|
//! | rows, bytes and key range | of all files of the latest snapshot |
//! | bloom filters | of as many files as [`FILTER_BYTES`] hold: a lookup checks the filters of all files, so that a changing choice would hold the wrong ones |
//! | the whole of the metadata otherwise | of the files that were opened or written last, up to [`METADATA_BYTES`] |

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use object_store::path::Path;
use parquet::{basic::Compression, file::metadata::ParquetMetaData};

use crate::{
    Result,
    base_file::Footer,
    bloom::{FOOTER_BLOOM_FILTER, FOOTER_BLOOM_FILTER_TYPE, StoredFilter},
    recent::Recent,
};

/// The maximum bytes of bloom filters that a table keeps in memory. A filter has up to 2.9 MB.
const FILTER_BYTES: usize = 64 * 1024 * 1024;
/// The maximum bytes of metadata that a table keeps in memory.
const METADATA_BYTES: usize = 32 * 1024 * 1024;

/// The facts of a footer that every write needs.
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

    /// Returns the size of the rows, without the footer, which in a small file is mostly the bloom filter.
    pub(crate) fn data_bytes(&self) -> u64 {
        self.data_bytes
    }
}

/// The bloom filter of a file in its stored form, if the file has one.
#[derive(Debug)]
pub(crate) struct KeyFilter {
    text: Option<Box<str>>,
    type_code: Option<Box<str>>,
    path: Path,
}

impl KeyFilter {
    pub(crate) fn of(footer: &Footer) -> Self {
        let entry = |key| footer.entry(key).map(Box::from);
        let (text, type_code) = (entry(FOOTER_BLOOM_FILTER), entry(FOOTER_BLOOM_FILTER_TYPE));
        Self { text, type_code, path: footer.path().clone() }
    }

    pub(crate) fn stored(&self) -> Result<Option<StoredFilter<'_>>> {
        let Some(text) = &self.text else { return Ok(None) };
        let filter = StoredFilter::parse(text, self.type_code.as_deref());
        filter.map(Some).map_err(|error| error.with_context("file", &self.path))
    }

    fn bytes(&self) -> usize {
        self.text.as_ref().map_or(0, |text| text.len())
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
    slim: HashMap<Path, Arc<SlimFooter>>,
    filters: HashMap<Path, Arc<KeyFilter>>,
    filter_bytes: usize,
}

impl FooterCache {
    pub(super) fn get(&self, path: &Path) -> Option<Arc<SlimFooter>> {
        self.lock().slim.get(path).cloned()
    }

    pub(super) fn filter(&self, path: &Path) -> Option<Arc<KeyFilter>> {
        self.lock().filters.get(path).cloned()
    }

    /// Returns the metadata of a file with its page index, without the bloom filter.
    pub(crate) fn metadata(&self, path: &Path) -> Option<Arc<ParquetMetaData>> {
        self.metadata.get(path)
    }

    /// Keeps the parts of a footer that are needed again.
    pub(crate) fn keep(&self, footer: &Footer) -> Arc<SlimFooter> {
        let path = footer.path();
        let filter = KeyFilter::of(footer);
        let mut cached = self.lock();
        if cached.filter_bytes + filter.bytes() <= FILTER_BYTES && !cached.filters.contains_key(path) {
            cached.filter_bytes += filter.bytes();
            cached.filters.insert(path.clone(), Arc::new(filter));
        }
        cached.slim.entry(path.clone()).or_insert_with(|| Arc::new(SlimFooter::of(footer))).clone()
    }

    /// Keeps the metadata of a file that is opened soon.
    pub(crate) fn keep_metadata(&self, footer: &Footer) {
        let metadata = footer.without_filter();
        let bytes = metadata.memory_size();
        self.metadata.insert(footer.path(), metadata, bytes);
    }

    /// Removes the footers of all other files.
    pub(super) fn retain(&self, live: &HashSet<&Path>) {
        let mut cached = self.lock();
        cached.slim.retain(|path, _| live.contains(path));
        cached.filters.retain(|path, _| live.contains(path));
        cached.filter_bytes = cached.filters.values().map(|filter| filter.bytes()).sum();
    }

    fn lock(&self) -> MutexGuard<'_, Cached> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
