//! The global key index: finds the file and the row of each record key.
//!
//! No index is stored separately. Each base file's footer contains the range of its keys and a bloom filter,
//! which Spark's GLOBAL_BLOOM uses too. Only a file that passes both is opened. Of such a file, only the key
//! column and the ordering column are read, and only in row groups with a matching range. Footers are kept in
//! memory for later lookups through the same handle, because base files never change. For other processes,
//! footers and keys can be cached [on the local disk](crate::index_cache).

mod form;

use std::{borrow::Cow, collections::HashMap, ops::Range, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringArray},
    datatypes::DataType,
};
use object_store::path::Path;

pub(crate) use self::form::{StoredTexts, key_encoding, key_schema, record_key_encoding};
pub(crate) use crate::index_cache::RECORD_KEY;
use crate::{
    Error, ErrorKind, Result,
    base_file::{Footer, OpenFile, java_order},
    bloom::HashedKeys,
    concurrent::{blocking, ordered},
    context::{
        Context,
        footers::{FileKey, KeyFilter, SlimFooter},
    },
    index_cache::Entry,
    layout::Layout,
    snapshot::{FileGroup, FileVersion, View},
};

/// Number of files whose futures exist at the same time, because a table may have a million files.
const FILES_AT_A_TIME: usize = 1024;

/// A file of the latest snapshot.
#[derive(Clone, Debug)]
pub(crate) struct IndexedFile {
    pub(crate) group: Arc<FileGroup>,
    /// The index of the file's version in the group.
    at: u32,
    pub(crate) footer: Arc<SlimFooter>,
}

impl IndexedFile {
    pub(crate) fn version(&self) -> &FileVersion {
        &self.group.versions[self.at as usize]
    }

    /// Returns its path in the storage.
    pub(crate) fn path(&self, layout: &Layout) -> Result<Path> {
        layout.resolve(&self.group.path(self.version()))
    }
}

/// Returns the footers of all files of the latest snapshot, in a stable order.
pub(crate) async fn latest_files(context: &Context, view: &View) -> Result<Vec<IndexedFile>> {
    let no_keys = Arc::new(StringArray::from(Vec::<&str>::new()));
    let files = candidates_in_files(context, view, no_keys, Match::Whole).await?;
    Ok(files.into_iter().map(|(file, _)| file).collect())
}

/// Returns the files that may contain rows of a history with one of these business keys, which are beginnings
/// of record keys. A file is excluded if its range does not contain any of the keys, or if its filter
/// contains business keys but none of these.
pub(crate) async fn files_with_beginnings(
    context: &Context,
    view: &View,
    beginnings: Arc<StringArray>,
) -> Result<Vec<IndexedFile>> {
    let files = candidates_in_files(context, view, beginnings, Match::Beginning).await?;
    Ok(files.into_iter().filter(|(_, keys)| !keys.is_empty()).map(|(file, _)| file).collect())
}

/// How requested keys are compared with record keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    Whole,
    /// The record key begins with the requested key.
    Beginning,
}

/// Distinct keys, prepared for the comparison with footers.
struct Asked {
    hashed: HashedKeys,
    by: Match,
    /// The indices of the keys in Java's order.
    order: Vec<u32>,
    /// The indices of the requested beginnings.
    beginnings: HashMap<String, u32>,
}

impl Asked {
    fn new(keys: Arc<StringArray>, by: Match) -> Self {
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        order.sort_unstable_by(|left, right| {
            java_order(keys.value(*left as usize), keys.value(*right as usize))
        });
        let beginnings = match by {
            Match::Whole => HashMap::new(),
            Match::Beginning => {
                order.iter().map(|key| (keys.value(*key as usize).to_owned(), *key)).collect()
            }
        };
        Self { hashed: HashedKeys::new(keys), by, order, beginnings }
    }

    /// Returns the keys that lie in the range of a file's keys.
    fn in_range(&self, footer: &SlimFooter) -> Cow<'_, [u32]> {
        if footer.rows() == 0 {
            return Cow::Borrowed(&[]);
        }
        let Some((min, max)) = &footer.key_range else { return Cow::Borrowed(&self.order) };
        let key = |index: &u32| self.hashed.keys().value(*index as usize);
        let start = self.order.partition_point(|index| java_order(key(index), min).is_lt());
        let end = self.order.partition_point(|index| java_order(key(index), max).is_le());
        let within = &self.order[start..end.max(start)];
        // The smallest key may itself begin with a requested beginning, which sorts before it.
        let of_min = min.match_indices(',').filter_map(|(at, _)| self.beginnings.get(&min[..=at]));
        let mut before: Vec<u32> = of_min.filter(|index| key(index) < &**min).copied().collect();
        if before.is_empty() {
            return Cow::Borrowed(within);
        }
        before.extend(within);
        Cow::Owned(before)
    }

    /// Returns `true` if the filter is worth checking. With as many keys as the file has rows, decoding the
    /// key column costs less.
    fn asks_filter(&self, footer: &SlimFooter) -> bool {
        (self.in_range(footer).len() as u64) < footer.rows()
    }

    /// Returns the keys that a file may contain, according to its footer and its filter.
    fn candidates(&self, footer: &SlimFooter, filter: Option<&KeyFilter>, path: &Path) -> Result<Vec<u32>> {
        let in_range = self.in_range(footer);
        let filter = filter
            .filter(|filter| !in_range.is_empty() && (self.by == Match::Whole || filter.has_business_keys));
        Ok(match filter.map(|filter| filter.stored(path)).transpose()?.flatten() {
            Some(filter) => filter.having(&self.hashed, &in_range),
            None => in_range.into_owned(),
        })
    }
}

/// A stored row that has one of the requested keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    /// The index of the key among the requested keys.
    pub(crate) key: u32,
    /// The stored row's position in its file.
    pub(crate) position: u64,
}

/// The stored rows in one file that have requested keys, with their values in the requested column.
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
/// each file that has any. A key may be stored more than once, because Spark's `INSERT INTO` does not look up
/// keys.
pub(crate) async fn find(
    context: &Context,
    view: &View,
    wanted: &Wanted,
) -> Result<(Vec<IndexedFile>, Vec<FileHits>)> {
    let (files, candidates): (Vec<_>, Vec<_>) =
        candidates_in_files(context, view, wanted.keys.clone(), Match::Whole).await?.into_iter().unzip();
    let with_candidates = candidates.into_iter().enumerate().filter(|(_, candidates)| !candidates.is_empty());
    let mut with_candidates = with_candidates.collect::<Vec<_>>().into_iter();
    let mut found: Vec<FileHits> = Vec::new();
    while with_candidates.len() > 0 {
        let some: Vec<_> = with_candidates.by_ref().take(FILES_AT_A_TIME).collect();
        found.extend(find_in(context, &files, wanted, some).await?);
    }
    Ok((files, found))
}

/// Finds the stored rows of keys in some files, each with the keys that it may contain.
async fn find_in(
    context: &Context,
    files: &[IndexedFile],
    wanted: &Wanted,
    with_candidates: Vec<(usize, Vec<u32>)>,
) -> Result<Vec<FileHits>> {
    let look = with_candidates.into_iter().map(|(index, candidates)| async move {
        let file = &files[index];
        let (path, bytes) = (file.path(context.layout())?, file.version().bytes);
        let candidates = Arc::new(candidates);
        let entry = context.index_entry(&path, bytes);
        if let Some(entry) = entry.clone() {
            let (path, wanted, candidates) = (path.clone(), wanted.clone(), candidates.clone());
            let rows = file.footer.rows();
            let kept = blocking(move || Ok(search_kept(&entry, rows, &path, &wanted, &candidates))).await?;
            if let Some((hits, ordering)) = kept {
                return Ok((!hits.is_empty()).then_some(FileHits { file: index, hits, ordering }));
            }
        }
        let open = context.open_file(&path, bytes).await?;
        let (sought, at_stake, is_cached) = (wanted.clone(), candidates.clone(), entry.is_some());
        // Either all keys of a file are cached, or the keys of some row groups are read.
        let select = move || {
            let groups = (!is_cached).then(|| groups_with_keys(&open, &sought, &at_stake));
            Ok((open, groups))
        };
        let (open, groups) = blocking(select).await?;
        let columns = key_columns(wanted);
        let (_admitted, open) = context.fetch_admitted(&open, groups.as_deref(), &columns, None).await?;
        let wanted = wanted.clone();
        let search = move || search_file(&open, groups, &wanted, &candidates, entry.as_ref());
        let (hits, ordering) = blocking(search).await?;
        Ok::<_, Error>((!hits.is_empty()).then_some(FileHits { file: index, hits, ordering }))
    });
    let found = ordered(context.calls_at_a_time(), look).await?;
    Ok(found.into_iter().flatten().collect())
}

/// Returns the files of the latest snapshot, each with the keys that it may contain according to its footer.
/// A filter is in memory only while its file is checked.
async fn candidates_in_files(
    context: &Context,
    view: &View,
    keys: Arc<StringArray>,
    by: Match,
) -> Result<Vec<(IndexedFile, Vec<u32>)>> {
    let (layout, cache) = (context.layout(), context.footers());
    let mut files = Vec::with_capacity(view.groups.len());
    if let Some(latest) = view.timeline.latest_commit() {
        for group in view.groups.values() {
            let Some(at) = group.position_at(latest) else { continue };
            let file = FileKey::of(&layout.resolve(&group.path(&group.versions[at]))?);
            files.push((group, at, file));
        }
    }
    cache.retain(&files.iter().map(|(_, _, file)| *file).collect());
    let asked = match keys.len() {
        0 => Arc::new(Asked::new(keys, by)),
        _ => blocking(move || Ok(Arc::new(Asked::new(keys, by)))).await?,
    };
    let mut checked = Vec::with_capacity(files.len());
    for some in files.chunks(FILES_AT_A_TIME) {
        let checks = some.iter().map(|&(group, at, file)| check(context, group, at, file, &asked));
        checked.extend(ordered(context.calls_at_a_time(), checks).await?);
    }
    Ok(checked)
}

/// Returns the version with this index in a file group, with the keys that its file may contain.
async fn check(
    context: &Context,
    group: &Arc<FileGroup>,
    at: usize,
    file: FileKey,
    asked: &Arc<Asked>,
) -> Result<(IndexedFile, Vec<u32>)> {
    let cache = context.footers();
    let indexed =
        |footer| IndexedFile { group: group.clone(), at: u32::try_from(at).unwrap_or(u32::MAX), footer };
    let filter = cache.filter(file);
    // The key range may make the filter unnecessary.
    if let Some(footer) = cache.get(file) {
        let in_range = asked.in_range(&footer);
        // Reading remote keys costs a request. Checking a filter in memory costs none.
        let is_free = filter.is_some() && !context.is_local();
        if in_range.is_empty() || !(is_free || asked.asks_filter(&footer)) {
            let candidates = in_range.into_owned();
            return Ok((indexed(footer), candidates));
        }
    }
    let version = &group.versions[at];
    let path = context.layout().resolve(&group.path(version))?;
    let asked = asked.clone();
    let (candidates, footer) = match (filter, cache.get(file)) {
        (Some(filter), Some(footer)) => {
            let ask = move || Ok((asked.candidates(&footer, Some(&filter), &path)?, footer));
            blocking(ask).await?
        }
        _ => {
            let entry = context.index_entry(&path, version.bytes);
            let (footers, is_local) = (cache.clone(), context.is_local());
            let ask = move |whole: Footer| {
                let footer = footers.keep(&whole);
                let asks = !is_local || asked.asks_filter(&footer);
                let filter = asks.then(|| KeyFilter::of(&whole));
                Ok((asked.candidates(&footer, filter.as_ref(), whole.path())?, footer))
            };
            Footer::load_and(context.store(), &path, entry, ask).await?
        }
    };
    Ok((indexed(footer), candidates))
}

/// The hits, and their ordering values.
type Found = (Vec<Hit>, Option<ArrayRef>);

/// Searches the cached keys of a file with `rows` rows. Returns `None` if they are not cached.
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
    // After an error here, the file itself is searched. That search reports its own errors.
    let found = search(path, wanted, candidates, std::iter::once(0..rows), batches).ok()?;
    (left == 0).then_some(found)
}

/// Selects the columns of a lookup.
fn key_columns(wanted: &Wanted) -> impl Fn(&str) -> bool {
    let ordering = wanted.ordering_name();
    move |name| name == RECORD_KEY || Some(name) == ordering
}

/// Searches a file, or some of its row groups. Caches its keys if there is a cache.
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
        // The positions of the rows that were read, run by run.
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

/// Searches batches of rows that belong to successive runs of positions.
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

/// A set of keys with a fast path: a single bit excludes most other keys.
struct Sought<'a> {
    by_key: HashMap<&'a str, u32>,
    /// A bitmap with 64 times as many bits as keys, in which each key sets one bit.
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

    /// Returns the index of a key. Returns `None` if the key is not in the set.
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

/// Returns the row groups that may contain one of the candidates, according to the minimum and maximum in
/// their statistics.
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

/// Returns `true` if a file may contain one of the keys, according to its footer.
pub(crate) async fn may_contain(context: &Context, path: &Path, bytes: u64, keys: &[String]) -> Result<bool> {
    let cache = context.footers();
    let is_inside = |footer: &SlimFooter, key: &str| {
        let range = footer.key_range.as_ref();
        footer.rows() > 0
            && range.is_none_or(|(min, max)| java_order(key, min).is_ge() && java_order(key, max).is_le())
    };
    let file = FileKey::of(path);
    let (footer, filter) = match (cache.get(file), cache.filter(file)) {
        // The range may make the filter unnecessary.
        (Some(footer), _) if !keys.iter().any(|key| is_inside(&footer, key)) => return Ok(false),
        (Some(footer), Some(filter)) => (footer, filter),
        _ => {
            let footers = cache.clone();
            let keep = move |whole: Footer| Ok((footers.keep(&whole), KeyFilter::of(&whole).into()));
            Footer::load_and(context.store(), path, context.index_entry(path, bytes), keep).await?
        }
    };
    let filter = filter.stored(path)?;
    let mut inside = keys.iter().filter(|key| is_inside(&footer, key));
    Ok(inside.any(|key| filter.as_ref().is_none_or(|filter| filter.contains(key))))
}

/// Returns the record keys of a stored batch.
pub(crate) fn key_column<'a>(batch: &'a RecordBatch, path: &Path) -> Result<&'a StringArray> {
    batch.column_by_name(RECORD_KEY).and_then(|column| column.as_string_opt::<i32>()).ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "a base file has no column of record keys").with_context("file", path)
    })
}
