//! The global key index: the file and the row of each record key.
//!
//! There is no index beside the table. Each base file's footer has the range of its keys and a bloom filter,
//! which Spark's GLOBAL_BLOOM uses too. Only a file that passes both is opened, and only the key column and
//! the ordering column of row groups with a matching range are read. Footers are kept in memory for later
//! lookups of the same handle, because base files never change. For other processes they can be cached [on
//! the local disk](cache), together with the keys.

pub(crate) mod cache;
mod form;

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringArray},
    datatypes::DataType,
};
use object_store::path::Path;

use self::cache::Entry;
pub(crate) use self::form::{StoredTexts, key_encoding, key_schema, record_key_encoding};
use crate::{
    Error, ErrorKind, Result,
    base_file::{Footer, OpenFile, java_order},
    bloom::HashedKeys,
    concurrent::{blocking, ordered},
    schema,
    table::Table,
    view::{FileGroup, FileVersion, View},
};

/// The column of the record key.
pub(crate) const RECORD_KEY: &str = schema::META_COLUMNS[2];

/// The maximum bytes of bloom filters that a table keeps in memory. A filter has up to 860 KB.
const FILTER_BYTES: usize = 64 * 1024 * 1024;

/// Cached footers, which stay valid because base files never change. Filters are kept while there is room.
#[derive(Debug, Default)]
pub(crate) struct FooterCache {
    cached: Mutex<Cached>,
}

#[derive(Debug, Default)]
struct Cached {
    /// Footers without filters.
    footers: HashMap<Path, Arc<Footer>>,
    /// Footers with filters.
    whole: HashMap<Path, Arc<Footer>>,
    filter_bytes: usize,
}

impl FooterCache {
    fn get(&self, path: &Path) -> Option<Arc<Footer>> {
        self.lock().footers.get(path).cloned()
    }

    fn get_whole(&self, path: &Path) -> Option<Arc<Footer>> {
        self.lock().whole.get(path).cloned()
    }

    /// Caches a footer, and returns it without its filter. The filter is kept from the second time on, while
    /// there is room, because a process that writes once does not need it again.
    fn keep(&self, path: &Path, whole: Footer) -> Arc<Footer> {
        let mut cached = self.lock();
        if let Some(slim) = cached.footers.get(path).cloned() {
            let bytes = whole.filter_bytes();
            if cached.filter_bytes + bytes <= FILTER_BYTES
                && cached.whole.insert(path.clone(), Arc::new(whole)).is_none()
            {
                cached.filter_bytes += bytes;
            }
            return slim;
        }
        let slim = Arc::new(whole.without_filter());
        cached.footers.insert(path.clone(), slim.clone());
        slim
    }

    /// Removes the footers of all other files.
    fn retain(&self, live: &HashSet<Path>) {
        let mut cached = self.lock();
        cached.footers.retain(|path, _| live.contains(path));
        cached.whole.retain(|path, _| live.contains(path));
        cached.filter_bytes = cached.whole.values().map(|footer| footer.filter_bytes()).sum();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cached> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file of the latest snapshot.
#[derive(Clone, Debug)]
pub(crate) struct IndexedFile {
    pub(crate) group: FileGroup,
    pub(crate) version: FileVersion,
    pub(crate) path: Path,
    /// The footer without its filter.
    pub(crate) footer: Arc<Footer>,
}

/// Returns the footers of all files of the latest snapshot, in a stable order.
pub(crate) async fn latest_files(table: &Table, view: &View) -> Result<Vec<IndexedFile>> {
    let no_keys = Wanted { keys: Arc::new(StringArray::from(Vec::<&str>::new())), ordering: None };
    Ok(candidates_in_files(table, view, &no_keys).await?.into_iter().map(|(file, _)| file).collect())
}

/// A stored row with one of the requested keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    /// The index of the key among the requested keys.
    pub(crate) key: u32,
    /// The stored row's position in its file.
    pub(crate) position: u64,
}

/// The stored rows of keys in one file, and their values in the requested column.
#[derive(Debug)]
pub(crate) struct FileHits {
    /// The index of the file.
    pub(crate) file: usize,
    /// Sorted by position.
    pub(crate) hits: Vec<Hit>,
    /// The ordering values, one per hit, if an ordering column was requested and the file has it.
    pub(crate) ordering: Option<ArrayRef>,
}

/// The request of a lookup.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Distinct keys.
    pub(crate) keys: Arc<StringArray>,
    /// A column whose stored values the caller needs, and their type.
    pub(crate) ordering: Option<(String, DataType)>,
}

impl Wanted {
    fn ordering_name(&self) -> Option<&str> {
        self.ordering.as_ref().map(|(name, _)| name.as_str())
    }
}

/// Finds the stored rows of keys. Returns all files of the latest snapshot in a stable order, and the hits in
/// each file that has any. A key may be stored more than once, because Spark's `INSERT INTO` looks up no
/// keys.
pub(crate) async fn find(
    table: &Table,
    view: &View,
    wanted: &Wanted,
) -> Result<(Vec<IndexedFile>, Vec<FileHits>)> {
    let (files, candidates): (Vec<_>, Vec<_>) =
        candidates_in_files(table, view, wanted).await?.into_iter().unzip();
    let with_candidates = candidates.into_iter().enumerate().filter(|(_, candidates)| !candidates.is_empty());
    let files_at_hand = &files;
    let look = with_candidates.map(|(index, candidates)| async move {
        let file = &files_at_hand[index];
        let (path, candidates) = (file.path.clone(), Arc::new(candidates));
        let entry = table.index_entry(&path, file.version.bytes);
        if let Some(entry) = entry.clone() {
            let (path, wanted, candidates) = (path.clone(), wanted.clone(), candidates.clone());
            let rows = file.footer.rows();
            let kept = blocking(move || Ok(search_kept(&entry, rows, &path, &wanted, &candidates))).await?;
            if let Some((hits, ordering)) = kept {
                return Ok((!hits.is_empty()).then_some(FileHits { file: index, hits, ordering }));
            }
        }
        let open = OpenFile::open(table.store(), &path).await?;
        let wanted = wanted.clone();
        let search = move || search_file(&open, &wanted, &candidates, entry.as_ref());
        let (hits, ordering) = blocking(search).await?;
        Ok::<_, Error>((!hits.is_empty()).then_some(FileHits { file: index, hits, ordering }))
    });
    let found = ordered(table.inner.options.parallelism, look).await?;
    let found: Vec<FileHits> = found.into_iter().flatten().collect();
    Ok((files, found))
}

/// Returns the files of the latest snapshot, each with the keys that it may contain by its footer. A filter
/// is in memory only while its file is checked.
async fn candidates_in_files(
    table: &Table,
    view: &View,
    wanted: &Wanted,
) -> Result<Vec<(IndexedFile, Vec<u32>)>> {
    let cache = &table.inner.footers;
    let mut files = Vec::new();
    for (group, version) in view.latest_files() {
        files.push((group.clone(), version.clone(), table.inner.layout.resolve(&group.path(version))?));
    }
    cache.retain(&files.iter().map(|(_, _, path)| path.clone()).collect());
    let keys = wanted.keys.clone();
    let prepare = move || {
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        order.sort_unstable_by(|left, right| {
            java_order(keys.value(*left as usize), keys.value(*right as usize))
        });
        Ok((Arc::new(order), Arc::new(HashedKeys::new(keys))))
    };
    let (order, hashed) = &match wanted.keys.len() {
        0 => prepare()?,
        _ => blocking(prepare).await?,
    };
    let ask = files.into_iter().map(|(group, version, path)| async move {
        // The key range may make the filter unnecessary.
        if let Some(footer) = cache.get(&path)
            && !asks_filter(&footer, in_range(&footer, &wanted.keys, order))
        {
            let candidates = in_range(&footer, &wanted.keys, order).to_vec();
            return Ok((IndexedFile { group, version, path, footer }, candidates));
        }
        let (keys, order) = (hashed.clone(), order.clone());
        let (candidates, footer) = match (cache.get_whole(&path), cache.get(&path)) {
            (Some(whole), Some(slim)) => {
                (blocking(move || candidates_of(&whole, &keys, &order)).await?, slim)
            }
            _ => {
                let ask = move |whole: Footer| Ok((candidates_of(&whole, &keys, &order)?, whole));
                let entry = table.index_entry(&path, version.bytes);
                let (candidates, whole) = Footer::load_and(table.store(), &path, entry, ask).await?;
                (candidates, cache.keep(&path, whole))
            }
        };
        Ok::<_, Error>((IndexedFile { group, version, path, footer }, candidates))
    });
    ordered(table.calls_at_a_time(), ask).await
}

/// Returns the keys in the range of a file's keys. `order` is Java's order.
fn in_range<'a>(footer: &Footer, keys: &StringArray, order: &'a [u32]) -> &'a [u32] {
    if footer.rows() == 0 {
        return &[];
    }
    let Some((min, max)) = &footer.key_range else { return order };
    let key = |index: &u32| keys.value(*index as usize);
    let start = order.partition_point(|index| java_order(key(index), min).is_lt());
    let end = order.partition_point(|index| java_order(key(index), max).is_le());
    &order[start..end.max(start)]
}

/// Returns `false` if reading the key column costs less than checking as many keys as the file has rows.
fn asks_filter(footer: &Footer, in_range: &[u32]) -> bool {
    !in_range.is_empty() && (in_range.len() as u64) < footer.rows()
}

/// Returns the keys that a file may contain, by its footer.
fn candidates_of(footer: &Footer, keys: &HashedKeys, order: &[u32]) -> Result<Vec<u32>> {
    let in_range = in_range(footer, keys.keys(), order);
    let filter = if asks_filter(footer, in_range) { footer.stored_filter()? } else { None };
    Ok(match filter {
        Some(filter) => filter.having(keys, in_range),
        None => in_range.to_vec(),
    })
}

/// The hits, and their ordering values.
type Found = (Vec<Hit>, Option<ArrayRef>);

/// Searches the cached keys of a file of `rows` rows; `None` if they are not cached.
fn search_kept(entry: &Entry, rows: u64, path: &Path, wanted: &Wanted, candidates: &[u32]) -> Option<Found> {
    let mut left = rows;
    let batches = entry.keys(wanted.ordering_name())?.map(|batch| {
        let batch = batch.map_err(|cause| {
            Error::new(ErrorKind::Corrupt, "cached keys cannot be decoded")
                .with_context("file", path)
                .with_source(cause)
        })?;
        left = left.saturating_sub(batch.num_rows() as u64);
        Ok(batch)
    });
    // After an error here, the file itself is searched, which reports its own errors.
    let found = search(path, wanted, candidates, std::iter::once(0..rows), batches).ok()?;
    (left == 0).then_some(found)
}

/// Searches a file, and caches its keys if there is a cache.
fn search_file(open: &OpenFile, wanted: &Wanted, candidates: &[u32], entry: Option<&Entry>) -> Result<Found> {
    let (path, ordering) = (open.path(), wanted.ordering_name());
    let columns = |name: &str| name == RECORD_KEY || Some(name) == ordering;
    let groups = open.groups();
    let Some(entry) = entry else {
        let wanted_groups = groups_with_keys(open, wanted, candidates);
        // The positions of the read rows, run by run.
        let runs: Vec<_> = wanted_groups.iter().map(|group| groups[*group].clone()).collect();
        let batches = open.read_groups(Some(wanted_groups), &columns, None)?;
        return search(path, wanted, candidates, runs, batches);
    };
    let ordering = ordering.and_then(|name| open.field(name));
    let mut keeping = entry.keep_keys(ordering.map(|field| (field.name().as_str(), field.data_type())));
    let batches = open.read_groups(None, &columns, None)?.map(|batch| {
        let batch = batch?;
        if let Some(writer) = keeping.take() {
            let ordering = ordering.and_then(|field| batch.column_by_name(field.name()));
            keeping = writer.add(key_column(&batch, path)?, ordering);
        }
        Ok(batch)
    });
    let found = search(path, wanted, candidates, groups, batches)?;
    if let Some(writer) = keeping {
        writer.keep(entry);
    }
    Ok(found)
}

/// Searches batches of rows, which belong to successive runs of positions.
fn search(
    path: &Path,
    wanted: &Wanted,
    candidates: &[u32],
    runs: impl IntoIterator<Item = Range<u64>>,
    batches: impl Iterator<Item = Result<RecordBatch>>,
) -> Result<Found> {
    let sought = Sought::new(&wanted.keys, candidates);
    let mut hits = Vec::new();
    let mut values: Vec<ArrayRef> = Vec::new();
    let mut runs = runs.into_iter();
    let mut run = runs.next().unwrap_or(0..0);
    for batch in batches {
        let batch = batch?;
        let keys = key_column(&batch, path)?;
        let mut rows: Vec<u32> = Vec::new();
        for (row, key) in keys.iter().enumerate() {
            while run.is_empty() {
                run = runs.next().ok_or_else(|| {
                    Error::new(ErrorKind::Corrupt, "a base file has more rows than its footer declares")
                        .with_context("file", path)
                })?;
            }
            let position = run.start;
            run.start += 1;
            if let Some(key) = key.and_then(|key| sought.get(key)) {
                hits.push(Hit { key, position });
                rows.push(row as u32);
            }
        }
        if rows.is_empty() {
            continue;
        }
        if let Some((name, data_type)) = &wanted.ordering {
            let failed = |cause| {
                Error::new(ErrorKind::Corrupt, "the stored ordering values do not match the table's type")
                    .with_context("file", path)
                    .with_context("column", name)
                    .with_source(cause)
            };
            let found = match batch.column_by_name(name) {
                Some(column) => {
                    let rows = arrow::array::UInt32Array::from(rows);
                    let taken = arrow::compute::take(column, &rows, None).map_err(failed)?;
                    arrow::compute::cast(&taken, data_type).map_err(failed)?
                }
                None => arrow::array::new_null_array(data_type, rows.len()),
            };
            values.push(found);
        }
    }
    let ordering = if values.is_empty() {
        None
    } else {
        let parts: Vec<&dyn Array> = values.iter().map(AsRef::as_ref).collect();
        Some(arrow::compute::concat(&parts).map_err(|cause| {
            Error::new(ErrorKind::Corrupt, "the stored ordering values have different types")
                .with_context("file", path)
                .with_source(cause)
        })?)
    };
    Ok((hits, ordering))
}

/// A set of keys with a fast path: most other keys are excluded by one bit.
struct Sought<'a> {
    by_key: HashMap<&'a str, u32>,
    /// A bitmap of 64 times as many bits as keys, with one bit set per key.
    bits: Vec<u64>,
}

impl<'a> Sought<'a> {
    fn new(keys: &'a StringArray, candidates: &[u32]) -> Self {
        let by_key: HashMap<&str, u32> =
            candidates.iter().map(|index| (keys.value(*index as usize), *index)).collect();
        let mut sought = Self { bits: vec![0; by_key.len().next_power_of_two()], by_key };
        for index in candidates {
            let (word, bit) = sought.place(keys.value(*index as usize));
            sought.bits[word] |= 1 << bit;
        }
        sought
    }

    /// Returns the index of a key, if it is in the set.
    fn get(&self, key: &str) -> Option<u32> {
        let (word, bit) = self.place(key);
        if self.bits[word] >> bit & 1 == 0 {
            return None;
        }
        self.by_key.get(key).copied()
    }

    /// Returns the position of a key's bit. Keys differ most in their last bytes.
    fn place(&self, key: &str) -> (usize, u32) {
        let mut last = [0; 8];
        let tail = &key.as_bytes()[key.len().saturating_sub(8)..];
        last[..tail.len()].copy_from_slice(tail);
        let key = u64::from_le_bytes(last) ^ (key.len() as u64) << 56;
        let wide = u128::from(key ^ 0x2545_F491_4F6C_DD1D) * 0x9E37_79B9_7F4A_7C15;
        let hash = (wide >> 64) as u64 ^ wide as u64;
        (hash as usize & (self.bits.len() - 1), (hash >> 58) as u32)
    }
}

/// Returns the row groups that may contain any of the candidates, by the minimum and the maximum of their
/// statistics.
fn groups_with_keys(open: &OpenFile, wanted: &Wanted, candidates: &[u32]) -> Vec<usize> {
    let metadata = open.footer().metadata();
    let all = 0..metadata.num_row_groups();
    let [leaf] = *open.leaves(RECORD_KEY) else { return all.collect() };
    // Parquet orders strings by their bytes, as Rust does.
    let mut keys: Vec<&str> = candidates.iter().map(|index| wanted.keys.value(*index as usize)).collect();
    keys.sort_unstable();
    let may_have = |group: &usize| {
        // Old writers compared bounds as signed bytes.
        let statistics = metadata.row_group(*group).column(leaf).statistics();
        let statistics = statistics.filter(|statistics| !statistics.is_min_max_deprecated());
        let bounds =
            statistics.and_then(|statistics| statistics.min_bytes_opt().zip(statistics.max_bytes_opt()));
        bounds.is_none_or(|(min, max)| {
            let first = keys.partition_point(|key| key.as_bytes() < min);
            keys.get(first).is_some_and(|key| key.as_bytes() <= max)
        })
    };
    all.filter(may_have).collect()
}

/// Returns the record keys of a stored batch.
pub(crate) fn key_column<'a>(batch: &'a RecordBatch, path: &Path) -> Result<&'a StringArray> {
    batch.column_by_name(RECORD_KEY).and_then(|column| column.as_string_opt::<i32>()).ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "a base file has no column of record keys").with_context("file", path)
    })
}
