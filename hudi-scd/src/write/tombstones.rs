//! Tombstones: the keys that a commit deleted, with the ordering values of the deletions, so that a late row
//! does not restore a deleted key.
//!
//! Hudi has no such record: after a delete, an older row inserts the key again. In this crate each commit
//! that deletes keys writes a small Parquet file `.hoodie/.aux/tombstones/{ts}.tombstones` of record keys and
//! ordering values, before the commit completes. It counts only if the commit completed. Other engines ignore
//! the folder. Tombstones are kept while their commit is inside the retained window, and are removed by the
//! clean that ends it. Deletes by other engines write none.
//!
//! A deletion of a key that is not stored writes a tombstone too, because the row that it deletes may arrive
//! late. If a batch contains nothing else, its commit has no base files, as for an empty batch in Hudi. A
//! tombstone that already exists, for the same time or a later one, is not written again.

use std::{cmp::Ordering, collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, make_comparator},
    compute::{SortOptions, cast},
    datatypes::{DataType, Field, Schema},
};
use bytes::Bytes;
use object_store::path::Path;
use parquet::arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder};

use super::{hidden, tag::pick};
use crate::{Error, ErrorKind, Result, layout, storage, table::Table, timeline::Instant, view::View};

const KEY: &str = "record_key";
const ORDERING: &str = "ordering";

/// The keys that a write deletes, with the ordering values of the deletions, if any.
#[derive(Debug, Default)]
pub(crate) struct Deleted {
    keys: Vec<String>,
    ordering: Vec<(ArrayRef, usize)>,
}

impl Deleted {
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Appends the deletions of another part.
    pub(crate) fn append(&mut self, other: Self) {
        self.keys.extend(other.keys);
        self.ordering.extend(other.ordering);
    }

    /// Adds a deletion. Without an ordering value no row can be late, so it is not recorded.
    pub(crate) fn push(&mut self, key: &str, ordering: Option<(ArrayRef, usize)>) {
        if let Some((array, row)) = ordering.filter(|(array, row)| array.is_valid(*row)) {
            self.keys.push(key.to_owned());
            self.ordering.push((array, row));
        }
    }

    /// Writes the tombstones of a commit, if it has any.
    pub(crate) async fn write(&self, table: &Table, instant: Instant) -> Result<()> {
        let Some(ordering) = pick(&self.ordering)? else { return Ok(()) };
        let fields = vec![
            Field::new(KEY, DataType::Utf8, false),
            Field::new(ORDERING, ordering.data_type().clone(), false),
        ];
        let keys: ArrayRef = Arc::new(StringArray::from_iter_values(&self.keys));
        let failed = |cause: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(ErrorKind::InvalidInput, "the deleted keys cannot be written").with_source(cause)
        };
        let schema = Arc::new(Schema::new(fields));
        let batch =
            RecordBatch::try_new(schema.clone(), vec![keys, ordering]).map_err(|e| failed(e.into()))?;
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, schema, None).map_err(|e| failed(e.into()))?;
        writer.write(&batch).map_err(|e| failed(e.into()))?;
        writer.close().map_err(|e| failed(e.into()))?;
        storage::write(table.store(), &table.inner.layout.tombstones(instant)?, bytes).await
    }
}

/// Compares rows with the last deletion of their key, by the ordering column; rows without a deletion are
/// omitted.
pub(crate) async fn compare(
    table: &Table,
    view: &View,
    keys: &StringArray,
    ordering: &ArrayRef,
    rows: &[u32],
) -> Result<HashMap<u32, Ordering>> {
    let mut compared = HashMap::new();
    if rows.is_empty() {
        return Ok(compared);
    }
    let by_key: HashMap<&str, u32> = rows.iter().map(|row| (keys.value(*row as usize), *row)).collect();
    for (instant, path) in tombstones(listed(table).await?) {
        let counts =
            view.timeline.is_committed(instant) && view.earliest.is_none_or(|earliest| instant >= earliest);
        if !counts {
            continue;
        }
        let bytes = storage::read(table.store(), &path).await?;
        compare_in(bytes, &path, &by_key, ordering, &mut compared)?;
    }
    Ok(compared)
}

fn compare_in(
    bytes: Bytes,
    path: &Path,
    by_key: &HashMap<&str, u32>,
    ordering: &ArrayRef,
    compared: &mut HashMap<u32, Ordering>,
) -> Result<()> {
    let corrupt =
        || Error::new(ErrorKind::Corrupt, "the file of deleted keys is broken").with_context("file", path);
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(|cause| corrupt().with_source(cause))?;
    for batch in reader {
        let batch = batch.map_err(|cause| corrupt().with_source(cause))?;
        let keys =
            batch.column_by_name(KEY).and_then(|column| column.as_string_opt::<i32>()).ok_or_else(corrupt)?;
        let deleted = batch.column_by_name(ORDERING).ok_or_else(corrupt)?;
        let deleted = cast(deleted, ordering.data_type()).map_err(|cause| corrupt().with_source(cause))?;
        let compare = make_comparator(ordering, &deleted, SortOptions::default())
            .map_err(|cause| corrupt().with_source(cause))?;
        for (index, key) in keys.iter().enumerate() {
            if let Some(&row) = key.and_then(|key| by_key.get(key)) {
                let order = compare(row as usize, index);
                // The latest deletion counts, that is, the one with the lowest result.
                compared.entry(row).and_modify(|known| *known = order.min(*known)).or_insert(order);
            }
        }
    }
    Ok(())
}

/// Removes the tombstones of commits before the retained window, and hidden rows that it does not need.
pub(crate) async fn remove_before(table: &Table, view: &View, earliest: Instant) -> Result<()> {
    let listed = listed(table).await?;
    let mut past = hidden::obsolete(&listed, view, earliest);
    past.extend(tombstones(listed).filter(|(instant, _)| *instant < earliest).map(|(_, path)| path));
    storage::delete_all(table.store(), past).await.map(drop)
}

async fn listed(table: &Table) -> Result<Vec<Path>> {
    let folder = table.inner.layout.tombstone_folder()?;
    let listed = storage::list_folder(table.store(), &folder).await?;
    Ok(listed.objects.into_iter().map(|file| file.location).collect())
}

fn tombstones(listed: Vec<Path>) -> impl Iterator<Item = (Instant, Path)> {
    let files = listed.into_iter();
    files.filter_map(|path| Some((layout::tombstones_of(path.filename()?)?, path)))
}
