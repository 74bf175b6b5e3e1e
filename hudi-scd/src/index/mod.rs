//! The global key index: the file and the row of each record key.
//!
//! There is no index beside the table. Each base file's footer has the range of its keys and a bloom filter,
//! which Spark's GLOBAL_BLOOM uses too. Only a file that passes both is opened, and only the key column and
//! the ordering column of row groups with a matching range are read. Footers are kept in memory for later
//! lookups of the same handle, because base files never change. For other processes they can be cached [on
//! the local disk](cache), together with the keys.

pub(crate) mod cache;
mod footers;
mod form;

use std::{collections::HashMap, ops::Range, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringArray},
    datatypes::DataType,
};
use object_store::path::Path;

pub(crate) use self::footers::FooterCache;
pub(crate) use self::form::{StoredTexts, key_encoding, key_schema, record_key_encoding};
use self::{
    cache::Entry,
    footers::{KeyFilter, SlimFooter},
};
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

/// A file of the latest snapshot.
#[derive(Clone, Debug)]
pub(crate) struct IndexedFile {
    pub(crate) group: Arc<FileGroup>,
    pub(crate) version: FileVersion,
    pub(crate) path: Path,
    pub(crate) footer: Arc<SlimFooter>,
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
        let open = table.open_file(&path, file.version.bytes).await?;
        let (sought, at_stake, is_cached) = (wanted.clone(), candidates.clone(), entry.is_some());
        // All keys of a file are cached, or those of some row groups are read.
        let select = move || {
            let groups = (!is_cached).then(|| groups_with_keys(&open, &sought, &at_stake));
            Ok((open, groups))
        };
        let (open, groups) = blocking(select).await?;
        let open = open.fetched(table.store(), groups.as_deref(), &key_columns(wanted), None).await?;
        let wanted = wanted.clone();
        let search = move || search_file(&open, groups, &wanted, &candidates, entry.as_ref());
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
    cache.retain(&files.iter().map(|(_, _, path)| path).collect());
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
        let filter = cache.filter(&path);
        // The key range may make the filter unnecessary.
        if let Some(footer) = cache.get(&path) {
            let in_range = in_range(&footer, &wanted.keys, order);
            // To read remote keys costs a request, and to check a filter in memory none.
            let is_free = filter.is_some() && !table.is_local();
            if in_range.is_empty() || !(is_free || asks_filter(&footer, in_range)) {
                let candidates = in_range.to_vec();
                return Ok((IndexedFile { group, version, path, footer }, candidates));
            }
        }
        let (keys, order) = (hashed.clone(), order.clone());
        let (candidates, footer) = match (filter, cache.get(&path)) {
            (Some(filter), Some(footer)) => {
                let ask = move || Ok((candidates_of(&footer, Some(&filter), &keys, &order)?, footer));
                blocking(ask).await?
            }
            _ => {
                let entry = table.index_entry(&path, version.bytes);
                let kept = table.clone();
                let ask = move |whole: Footer| {
                    let footer = kept.inner.footers.keep(&whole);
                    let asks =
                        !kept.is_local() || asks_filter(&footer, in_range(&footer, keys.keys(), &order));
                    let filter = asks.then(|| KeyFilter::of(&whole));
                    Ok((candidates_of(&footer, filter.as_ref(), &keys, &order)?, footer))
                };
                Footer::load_and(table.store(), &path, entry, ask).await?
            }
        };
        Ok::<_, Error>((IndexedFile { group, version, path, footer }, candidates))
    });
    ordered(table.calls_at_a_time(), ask).await
}

/// Returns the keys in the range of a file's keys. `order` is Java's order.
fn in_range<'a>(footer: &SlimFooter, keys: &StringArray, order: &'a [u32]) -> &'a [u32] {
    if footer.rows() == 0 {
        return &[];
    }
    let Some((min, max)) = &footer.key_range else { return order };
    let key = |index: &u32| keys.value(*index as usize);
    let start = order.partition_point(|index| java_order(key(index), min).is_lt());
    let end = order.partition_point(|index| java_order(key(index), max).is_le());
    &order[start..end.max(start)]
}

/// Returns `false` if decoding the key column costs less than checking as many keys as the file has rows.
fn asks_filter(footer: &SlimFooter, in_range: &[u32]) -> bool {
    (in_range.len() as u64) < footer.rows()
}

/// Returns the keys that a file may contain, by its footer and its filter.
fn candidates_of(
    footer: &SlimFooter,
    filter: Option<&KeyFilter>,
    keys: &HashedKeys,
    order: &[u32],
) -> Result<Vec<u32>> {
    let in_range = in_range(footer, keys.keys(), order);
    let filter = filter.filter(|_| !in_range.is_empty());
    Ok(match filter.map(KeyFilter::stored).transpose()?.flatten() {
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

/// Selects the columns of a lookup.
fn key_columns(wanted: &Wanted) -> impl Fn(&str) -> bool {
    let ordering = wanted.ordering_name();
    move |name| name == RECORD_KEY || Some(name) == ordering
}

/// Searches a file, or some of its row groups, and caches its keys if there is a cache.
fn search_file(
    open: &OpenFile,
    wanted_groups: Option<Vec<usize>>,
    wanted: &Wanted,
    candidates: &[u32],
    entry: Option<&Entry>,
) -> Result<Found> {
    let (path, ordering) = (open.path(), wanted.ordering_name());
    let columns = key_columns(wanted);
    let groups = open.groups();
    let (Some(entry), None) = (entry, &wanted_groups) else {
        let wanted_groups = wanted_groups.unwrap_or_else(|| (0..groups.len()).collect());
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

/// Returns the row groups that may contain one of the keys.
pub(crate) fn groups_with(open: &OpenFile, keys: Vec<String>) -> Vec<usize> {
    let all: Vec<u32> = (0..keys.len() as u32).collect();
    let keys = Arc::new(StringArray::from(keys));
    groups_with_keys(open, &Wanted { keys, ordering: None }, &all)
}

/// Returns `true` if a file may contain one of the keys, by its footer.
pub(crate) async fn may_contain(table: &Table, path: &Path, bytes: u64, keys: &[String]) -> Result<bool> {
    let cache = &table.inner.footers;
    let (footer, filter) = match cache.get(path).zip(cache.filter(path)) {
        Some(known) => known,
        None => {
            let kept = table.clone();
            let keep =
                move |whole: Footer| Ok((kept.inner.footers.keep(&whole), KeyFilter::of(&whole).into()));
            Footer::load_and(table.store(), path, table.index_entry(path, bytes), keep).await?
        }
    };
    if footer.rows() == 0 {
        return Ok(false);
    }
    let range = footer.key_range.as_ref();
    let is_inside = |key: &&String| {
        range.is_none_or(|(min, max)| java_order(key, min).is_ge() && java_order(key, max).is_le())
    };
    let filter = filter.stored()?;
    let mut inside = keys.iter().filter(is_inside);
    Ok(inside.any(|key| filter.as_ref().is_none_or(|filter| filter.contains(key))))
}

/// Returns the record keys of a stored batch.
pub(crate) fn key_column<'a>(batch: &'a RecordBatch, path: &Path) -> Result<&'a StringArray> {
    batch.column_by_name(RECORD_KEY).and_then(|column| column.as_string_opt::<i32>()).ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "a base file has no column of record keys").with_context("file", path)
    })
}
