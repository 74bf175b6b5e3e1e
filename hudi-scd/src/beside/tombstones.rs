//! Tombstones: the keys that a commit deleted, with the ordering values of the deletions. They prevent late
//! rows from restoring deleted keys.
//!
//! Hudi has no such record: after a delete, an older row inserts the key again. In this crate, each commit
//! that deletes keys writes a small Parquet file `.hoodie/.aux/tombstones/{ts}.tombstones` with record keys
//! and ordering values before the commit completes. The file counts only if the commit has completed. Other
//! engines ignore the folder. Tombstones are kept while their commit is inside the retained window. After
//! that, a clean removes them. Deletes by other engines write no tombstones.
//!
//! A deletion of a key that is not stored writes a tombstone too, because the row that it refers to may
//! arrive late. If a batch contains nothing else, its commit has no base files, like the commit of an empty
//! batch in Hudi. If there already is a tombstone for the same time or a later one, no new tombstone is
//! written.

use std::{cmp::Ordering, collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, make_comparator, new_empty_array},
    compute::{SortOptions, cast, concat, interleave},
    datatypes::{DataType, Field, Schema},
};
use bytes::Bytes;
use object_store::path::Path;
use parquet::arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder};

use super::{archive::Archive, discard, divide, hidden};
use crate::{
    Error, ErrorKind, Result,
    concurrent::{blocking, ordered},
    context::{Context, Turn},
    layout,
    snapshot::View,
    storage,
    timeline::Instant,
};

const KEY: &str = "record_key";
const ORDERING: &str = "ordering";

/// The keys that a write deletes, with the ordering values of the deletions.
#[derive(Debug, Default)]
pub(crate) struct Deleted {
    keys: Vec<String>,
    ordering: Selection,
}

/// Values that are selected one by one from several arrays.
#[derive(Debug, Default)]
struct Selection {
    arrays: Vec<ArrayRef>,
    /// The number of each array, by address.
    numbers: HashMap<usize, usize>,
    /// For each value, the array and the row in it.
    places: Vec<(usize, usize)>,
}

impl Selection {
    fn push(&mut self, array: &ArrayRef, row: usize) {
        let number = *self.numbers.entry(Arc::as_ptr(array).addr()).or_insert_with(|| {
            self.arrays.push(array.clone());
            self.arrays.len() - 1
        });
        self.places.push((number, row));
    }

    /// Returns the values as one array.
    fn values(&self) -> Result<Option<ArrayRef>> {
        if self.arrays.is_empty() {
            return Ok(None);
        }
        let arrays: Vec<&dyn Array> = self.arrays.iter().map(AsRef::as_ref).collect();
        interleave(&arrays, &self.places).map(Some).map_err(|cause| {
            Error::new(ErrorKind::Corrupt, "ordering values have different types").with_source(cause)
        })
    }
}

impl Deleted {
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Appends other deletions, and releases the arrays from which they were selected.
    pub(crate) fn append(&mut self, other: Self) -> Result<()> {
        if let Some(values) = other.ordering.values()? {
            self.keys.extend(other.keys);
            (0..values.len()).for_each(|row| self.ordering.push(&values, row));
        }
        Ok(())
    }

    /// Adds a deletion. Without an ordering value, no row can be late, so the deletion is not recorded.
    pub(crate) fn push(&mut self, key: &str, ordering: Option<(&ArrayRef, usize)>) {
        if let Some((array, row)) = ordering.filter(|(array, row)| array.is_valid(*row)) {
            self.keys.push(key.to_owned());
            self.ordering.push(array, row);
        }
    }

    /// Writes the tombstones of a commit, if it has any.
    pub(crate) async fn write(self, context: &Context, instant: Instant) -> Result<()> {
        match blocking(move || self.encode()).await? {
            Some(bytes) => {
                storage::write(context.store(), &context.layout().tombstones(instant)?, bytes).await
            }
            None => Ok(()),
        }
    }

    fn encode(&self) -> Result<Option<Vec<u8>>> {
        let Some(ordering) = self.ordering.values()? else { return Ok(None) };
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
        Ok(Some(bytes))
    }
}

/// The tombstones in the retained window. They are read once per write, when the first row needs them.
pub(crate) struct Tombstones<'a> {
    turn: &'a Turn<'a>,
    latest: Option<Arc<Latest>>,
}

/// The latest deletion of each key.
#[derive(Debug)]
struct Latest {
    rows: HashMap<Box<str>, usize>,
    ordering: ArrayRef,
}

impl<'a> Tombstones<'a> {
    pub(crate) fn of(turn: &'a Turn<'a>) -> Self {
        Self { turn, latest: None }
    }

    /// Compares rows with the last deletion of their key by the ordering column. Rows without a deletion are
    /// omitted.
    pub(crate) async fn compare(
        &mut self,
        context: &Context,
        view: &View,
        keys: &StringArray,
        ordering: &ArrayRef,
        rows: &[u32],
    ) -> Result<HashMap<u32, Ordering>> {
        if rows.is_empty() {
            return Ok(HashMap::new());
        }
        let latest = match &self.latest {
            Some(latest) => latest,
            None => {
                let latest = Latest::read(context, self.turn, view, ordering.data_type()).await?;
                self.latest.insert(Arc::new(latest))
            }
        };
        if latest.rows.is_empty() {
            return Ok(HashMap::new());
        }
        let (latest, keys, ordering, rows) = (latest.clone(), keys.clone(), ordering.clone(), rows.to_vec());
        blocking(move || latest.compare(&keys, &ordering, &rows)).await
    }
}

impl Latest {
    /// Reads all tombstone files that count, and deletes those of writes that were undone. The ordering values
    /// have this type.
    async fn read(context: &Context, turn: &Turn<'_>, view: &View, ordering: &DataType) -> Result<Self> {
        let listed = turn.tombstone_files().await?;
        let (committed, mut undone) = divide(context, view, listed, layout::tombstones_of).await?;
        let is_retained = |instant: Instant| view.earliest.is_none_or(|earliest| instant >= earliest);
        let (mut archive, mut files) = (Archive::of(context, view), Vec::new());
        for file in committed.into_iter().filter(|(instant, _)| is_retained(*instant)) {
            let counting = if archive.is_committed(file.0).await? { &mut files } else { &mut undone };
            counting.push(file);
        }
        discard(context, turn, undone).await?;
        let files = files.into_iter();
        let files = files.map(|(_, path)| async move {
            let bytes = storage::read(context.store(), &path).await?;
            Ok((path, bytes))
        });
        let files = ordered(context.calls_at_a_time(), files).await?;
        let ordering = ordering.clone();
        blocking(move || Self::of(&files, &ordering)).await
    }

    fn compare(
        &self,
        keys: &StringArray,
        ordering: &ArrayRef,
        rows: &[u32],
    ) -> Result<HashMap<u32, Ordering>> {
        let compare = make_comparator(ordering, &self.ordering, SortOptions::default())
            .map_err(|cause| incomparable().with_source(cause))?;
        let compared = rows.iter().filter_map(|row| {
            let deletion = *self.rows.get(keys.value(*row as usize))?;
            Some((*row, compare(*row as usize, deletion)))
        });
        Ok(compared.collect())
    }

    fn of(files: &[(Path, Bytes)], ordering: &DataType) -> Result<Self> {
        let (mut keys, mut values) = (Vec::new(), vec![new_empty_array(ordering)]);
        for (path, bytes) in files {
            decode(bytes, path, ordering, &mut keys, &mut values)?;
        }
        let values: Vec<&dyn Array> = values.iter().map(AsRef::as_ref).collect();
        let ordering = concat(&values).map_err(|cause| incomparable().with_source(cause))?;
        let compare = make_comparator(&ordering, &ordering, SortOptions::default())
            .map_err(|cause| incomparable().with_source(cause))?;
        let mut rows: HashMap<Box<str>, usize> = HashMap::new();
        for (row, key) in keys.iter().flat_map(|keys: &StringArray| keys.iter()).enumerate() {
            let Some(key) = key else { continue };
            match rows.get_mut(key) {
                Some(known) if compare(row, *known).is_gt() => *known = row,
                Some(_) => {}
                None => {
                    rows.insert(key.into(), row);
                }
            }
        }
        Ok(Self { rows, ordering })
    }
}

/// Decodes the keys of a tombstone file, and their ordering values.
fn decode(
    bytes: &Bytes,
    path: &Path,
    ordering: &DataType,
    keys: &mut Vec<StringArray>,
    values: &mut Vec<ArrayRef>,
) -> Result<()> {
    let corrupt =
        || Error::new(ErrorKind::Corrupt, "the file of deleted keys is broken").with_context("file", path);
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone())
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(|cause| corrupt().with_source(cause))?;
    for batch in reader {
        let batch = batch.map_err(|cause| corrupt().with_source(cause))?;
        let text = batch.column_by_name(KEY).and_then(|column| column.as_string_opt::<i32>());
        keys.push(text.ok_or_else(corrupt)?.clone());
        let deleted = batch.column_by_name(ORDERING).ok_or_else(corrupt)?;
        values.push(cast(deleted, ordering).map_err(|cause| corrupt().with_source(cause))?);
    }
    Ok(())
}

fn incomparable() -> Error {
    Error::new(ErrorKind::Corrupt, "the ordering values of deleted keys cannot be compared")
}

/// Removes the tombstones of commits before the retained window, and hidden rows that the window does not
/// need.
pub(crate) async fn remove_before(
    context: &Context,
    turn: &Turn<'_>,
    view: &View,
    earliest: Instant,
) -> Result<()> {
    let listed = turn.tombstone_files().await?;
    let mut past = hidden::obsolete(&listed, view, earliest);
    past.extend(tombstones(listed).filter(|(instant, _)| *instant < earliest).map(|(_, path)| path));
    storage::delete_all(context.store(), past).await.map(drop)
}

fn tombstones(listed: Vec<Path>) -> impl Iterator<Item = (Instant, Path)> {
    let files = listed.into_iter();
    files.filter_map(|path| Some((layout::tombstones_of(path.filename()?)?, path)))
}

#[cfg(test)]
mod tests {
    use arrow::{array::Int64Array, datatypes::Int64Type};

    use super::*;

    #[test]
    fn each_array_of_ordering_values_is_held_once_and_released_when_parts_are_joined() {
        let arrays: Vec<ArrayRef> =
            (0..100).map(|number| Arc::new(Int64Array::from(vec![number; 1_000])) as ArrayRef).collect();
        let mut all = Deleted::default();
        for _ in 0..3 {
            let mut part = Deleted::default();
            for row in 0..1_000 {
                for array in &arrays {
                    part.push("key", Some((array, row)));
                }
            }
            assert_eq!((part.ordering.arrays.len(), part.keys.len()), (100, 100_000));
            all.append(part).unwrap();
        }
        assert_eq!(all.ordering.arrays.len(), 3, "one for each part");
        assert!(arrays.iter().all(|array| Arc::strong_count(array) == 1));
        let values = all.ordering.values().unwrap().unwrap();
        let expected = (0..300_000).map(|place| place % 100);
        assert!(values.as_primitive::<Int64Type>().values().iter().copied().eq(expected));
        assert_eq!(all.keys.len(), 300_000);
    }
}
