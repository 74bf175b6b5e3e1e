//! The global key index: in which file, and in which row of it, a record key is.
//!
//! There is no index beside the table. Each base file's footer holds the range of its keys and a bloom filter of them,
//! where Spark's GLOBAL_BLOOM looks too; only a file that passes both is opened, and then only its key column and its
//! ordering column are read.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use arrow::{
    array::{Array, ArrayRef, AsArray, StringArray},
    datatypes::DataType,
};
use object_store::path::Path;

use crate::{
    Error, ErrorKind, Result,
    base_file::{Footer, OpenFile, java_order},
    concurrent::{blocking, ordered},
    schema,
    table::Table,
    view::{FileGroup, FileVersion, View},
};

/// The column of the record key, as Hudi writes it.
pub(crate) const RECORD_KEY: &str = schema::META_COLUMNS[2];

/// Footers that were read; base files never change.
#[derive(Debug, Default)]
pub(crate) struct FooterCache {
    footers: Mutex<HashMap<Path, Arc<Footer>>>,
}

impl FooterCache {
    fn get(&self, path: &Path) -> Option<Arc<Footer>> {
        self.lock().get(path).cloned()
    }

    fn insert(&self, path: Path, footer: Arc<Footer>) {
        self.lock().insert(path, footer);
    }

    /// Forgets all others.
    fn retain(&self, live: &HashSet<Path>) {
        self.lock().retain(|path, _| live.contains(path));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Path, Arc<Footer>>> {
        self.footers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file of the latest snapshot.
#[derive(Clone, Debug)]
pub(crate) struct IndexedFile {
    pub(crate) group: FileGroup,
    pub(crate) version: FileVersion,
    pub(crate) path: Path,
    pub(crate) footer: Arc<Footer>,
}

/// The footers of all files of the latest snapshot, in a stable order.
pub(crate) async fn latest_files(table: &Table, view: &View) -> Result<Vec<IndexedFile>> {
    let cache = &table.inner.footers;
    let mut files = Vec::new();
    for (group, version) in view.latest_files() {
        files.push((group.clone(), version.clone(), table.inner.layout.resolve(&group.path(version))?));
    }
    cache.retain(&files.iter().map(|(_, _, path)| path.clone()).collect());
    let load = files.into_iter().map(|(group, version, path)| async move {
        let footer = match cache.get(&path) {
            Some(footer) => footer,
            None => {
                let footer = Arc::new(Footer::load(table.store(), &path).await?);
                cache.insert(path.clone(), footer.clone());
                footer
            }
        };
        Ok(IndexedFile { group, version, path, footer })
    });
    ordered(table.inner.options.parallelism.max(8), load).await
}

/// A stored row of a key that was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    /// The index of the key among those looked for.
    pub(crate) key: u32,
    /// The stored row's position in its file.
    pub(crate) position: u64,
}

/// The stored rows of keys in one file, and their values in the column that was asked for.
#[derive(Debug)]
pub(crate) struct FileHits {
    /// The index of the file.
    pub(crate) file: usize,
    /// By position.
    pub(crate) hits: Vec<Hit>,
    /// The ordering values, one for each hit, if an ordering column was asked for and the file has it.
    pub(crate) ordering: Option<ArrayRef>,
}

/// What is looked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Distinct keys.
    pub(crate) keys: Arc<StringArray>,
    /// A column whose stored value the caller needs, and the type it needs it in.
    pub(crate) ordering: Option<(String, DataType)>,
}

/// Finds the stored rows of keys: the files that have any, in the order of `files`.
///
/// # Errors
/// [`ErrorKind::Corrupt`] if a key is stored twice: the table is broken, and a write would make it worse.
pub(crate) async fn find(table: &Table, files: &[IndexedFile], wanted: &Wanted) -> Result<Vec<FileHits>> {
    if wanted.keys.is_empty() {
        return Ok(Vec::new());
    }
    let look = files.iter().enumerate().map(|(index, file)| async move {
        let (footer, keys) = (file.footer.clone(), wanted.keys.clone());
        let candidates = blocking(move || candidates(&footer, &keys)).await?;
        if candidates.is_empty() {
            return Ok(None);
        }
        let open = OpenFile::open(table.store(), &file.path).await?;
        let (wanted, path) = (wanted.clone(), file.path.clone());
        let (hits, ordering) = blocking(move || search(open, &path, &wanted, &candidates)).await?;
        Ok::<_, Error>((!hits.is_empty()).then_some(FileHits { file: index, hits, ordering }))
    });
    let found = ordered(table.inner.options.parallelism, look).await?;
    let found: Vec<FileHits> = found.into_iter().flatten().collect();
    let mut seen: HashMap<u32, usize> = HashMap::new();
    for in_file in &found {
        for hit in &in_file.hits {
            if let Some(other) = seen.insert(hit.key, in_file.file) {
                return Err(Error::new(ErrorKind::Corrupt, "a record key is stored twice")
                    .with_context("key", wanted.keys.value(hit.key as usize))
                    .with_context("file", &files[other].path)
                    .with_context("other", &files[in_file.file].path));
            }
        }
    }
    Ok(found)
}

/// The keys that a file may have, by its footer.
fn candidates(footer: &Footer, keys: &StringArray) -> Result<Vec<u32>> {
    if footer.rows() == 0 {
        return Ok(Vec::new());
    }
    let in_range = |key: &str| match &footer.key_range {
        Some((min, max)) => java_order(min, key).is_le() && java_order(key, max).is_le(),
        None => true,
    };
    let mut candidates: Vec<u32> =
        (0..keys.len()).filter(|index| in_range(keys.value(*index))).map(|index| index as u32).collect();
    // Reading the key column costs less than decoding the filter and asking it for as many keys as the file has rows.
    let is_worth_it = !candidates.is_empty() && (candidates.len() as u64) < footer.rows();
    if let Some(filter) = is_worth_it.then(|| footer.bloom_filter()).transpose()?.flatten() {
        candidates.retain(|index| filter.contains(keys.value(*index as usize)));
    }
    Ok(candidates)
}

fn search(
    open: OpenFile,
    path: &Path,
    wanted: &Wanted,
    candidates: &[u32],
) -> Result<(Vec<Hit>, Option<ArrayRef>)> {
    let by_key: HashMap<&str, u32> =
        candidates.iter().map(|index| (wanted.keys.value(*index as usize), *index)).collect();
    let ordering = wanted.ordering.as_ref().map(|(name, _)| name.clone());
    let mut hits = Vec::new();
    let mut values: Vec<ArrayRef> = Vec::new();
    let mut position = 0;
    let columns = move |name: &str| name == RECORD_KEY || Some(name) == ordering.as_deref();
    for batch in open.read(&columns, None)? {
        let batch = batch?;
        let keys = key_column(&batch, path)?;
        let mut rows: Vec<u32> = Vec::new();
        for (row, key) in keys.iter().enumerate() {
            if let Some(&key) = key.and_then(|key| by_key.get(key)) {
                hits.push(Hit { key, position: position + row as u64 });
                rows.push(row as u32);
            }
        }
        position += batch.num_rows() as u64;
        if rows.is_empty() {
            continue;
        }
        if let Some((name, data_type)) = &wanted.ordering {
            let failed = |cause| {
                Error::new(ErrorKind::Corrupt, "the stored ordering values do not fit the table")
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
            Error::new(ErrorKind::Corrupt, "the stored ordering values do not fit together")
                .with_context("file", path)
                .with_source(cause)
        })?)
    };
    Ok((hits, ordering))
}

/// The record keys of a stored batch.
pub(crate) fn key_column<'a>(batch: &'a arrow::array::RecordBatch, path: &Path) -> Result<&'a StringArray> {
    batch.column_by_name(RECORD_KEY).and_then(|column| column.as_string_opt::<i32>()).ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "a base file has no column of record keys").with_context("file", path)
    })
}
