//! Replaces some values of a stored column, and removes some of its rows.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{Array, ArrayData, ArrayRef, MutableArrayData, RecordBatch, make_array, make_comparator},
    compute::{SortOptions, interleave},
    error::ArrowError,
};

use crate::{Error, ErrorKind, Result};

/// The change of the row at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowEdit {
    pub(crate) position: u64,
    /// The location of the new row: the batch, and the row in it. `None` if the row is removed.
    pub(crate) new: Option<(usize, usize)>,
}

/// The changes of a run of stored rows, ordered by position, and batches of data columns that contain the new
/// rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Edits {
    pub(crate) rows: Vec<RowEdit>,
    pub(crate) sources: Vec<RecordBatch>,
}

impl Edits {
    pub(crate) fn drops(&self) -> u64 {
        self.rows.iter().filter(|edit| edit.new.is_none()).count() as u64
    }

    pub(crate) fn replaces(&self) -> bool {
        self.rows.iter().any(|edit| edit.new.is_some())
    }

    /// Returns the patch of a data column.
    pub(crate) fn of_column(&self, column: usize) -> Patch<'_> {
        let sources = if self.replaces() { self.sources.as_slice() } else { &[] };
        let sources = sources.iter().map(|source| source.column(column).clone()).collect();
        Patch { edits: &self.rows, sources, place: Box::new(|_, place| place) }
    }

    /// Returns the values of the new rows in a data column.
    pub(crate) fn new_values(&self, column: usize) -> Result<ArrayRef> {
        let sources: Vec<&dyn Array> =
            self.sources.iter().map(|source| source.column(column).as_ref()).collect();
        let places: Vec<(usize, usize)> = self.rows.iter().filter_map(|edit| edit.new).collect();
        interleave(&sources, &places).map_err(too_much)
    }

    /// Returns the patch of a column whose values are the same in the new rows as in the old ones.
    pub(crate) fn of_dropped(&self) -> Patch<'_> {
        Patch { edits: &self.rows, sources: Vec::new(), place: Box::new(|_, place| place) }
    }

    /// Returns the patch of a column that has the same value in every new row.
    pub(crate) fn of_value(&self, value: ArrayRef) -> Patch<'_> {
        Patch { edits: &self.rows, sources: vec![value], place: Box::new(|_, _| (0, 0)) }
    }

    /// Returns the patch of a column that has these values in the new rows. There is one value per edit,
    /// including removed rows.
    pub(crate) fn of_values(&self, values: ArrayRef) -> Patch<'_> {
        Patch { edits: &self.rows, sources: vec![values], place: Box::new(|edit, _| (0, edit)) }
    }
}

/// The changes of one column.
pub(crate) struct Patch<'a> {
    edits: &'a [RowEdit],
    sources: Vec<ArrayRef>,
    /// Maps the number of an edit and the location of its row to the location of its value.
    #[allow(clippy::type_complexity, reason = "the type is used once")]
    place: Box<dyn Fn(usize, (usize, usize)) -> (usize, usize) + Send + Sync + 'a>,
}

impl Patch<'_> {
    /// Returns the edits of a run of positions.
    fn within(&self, positions: &Range<u64>) -> Range<usize> {
        let before = |position: u64| self.edits.partition_point(|edit| edit.position < position);
        before(positions.start)..before(positions.end)
    }

    /// Returns the stored values from `start` on, with the changes applied.
    pub(crate) fn apply(&self, stored: &ArrayRef, start: u64) -> Result<ArrayRef> {
        let edits = self.within(&(start..start + stored.len() as u64));
        if edits.is_empty() {
            return Ok(stored.clone());
        }
        let stored_data = stored.to_data();
        let sources: Vec<ArrayData> = self.sources.iter().map(|source| source.to_data()).collect();
        let all = std::iter::once(&stored_data).chain(&sources).collect();
        let mut patched = MutableArrayData::new(all, false, stored.len());
        let mut next = 0;
        for number in edits {
            let edit = &self.edits[number];
            let row = (edit.position - start) as usize;
            if edit.new.is_some() && sources.is_empty() {
                continue;
            }
            patched.try_extend(0, next, row).map_err(too_much)?;
            next = row + 1;
            if let Some(new) = edit.new {
                let (source, row) = (self.place)(number, new);
                patched.try_extend(source + 1, row, row + 1).map_err(too_much)?;
            }
        }
        patched.try_extend(0, next, stored.len()).map_err(too_much)?;
        Ok(make_array(patched.freeze()))
    }

    /// Returns `true` if the stored values equal the new ones, for the rows from edit `first` on. Values that
    /// cannot be compared count as different.
    pub(crate) fn changes_nothing(&self, stored: &ArrayRef, first: usize) -> bool {
        let compare: Option<Vec<_>> = self
            .sources
            .iter()
            .map(|source| make_comparator(stored, source, SortOptions::default()).ok())
            .collect();
        let Some(compare) = compare else { return false };
        (0..stored.len()).all(|row| {
            let place = self.edits[first + row].new.map(|new| (self.place)(first + row, new));
            place.is_some_and(|(source, new)| compare[source](row, new).is_eq())
        })
    }
}

fn too_much(cause: ArrowError) -> Error {
    Error::new(ErrorKind::InvalidInput, "the new values have a different type from the stored ones")
        .with_source(cause)
}

/// Returns a column with a single string.
pub(crate) fn constant(text: &str) -> ArrayRef {
    Arc::new(arrow::array::StringArray::from(vec![text]))
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int32Array};
    use arrow::datatypes::Int32Type;

    use super::*;

    fn edits(edits: &[(u64, Option<(usize, usize)>)], sources: &[&[i32]]) -> Edits {
        let source = |values: &&[i32]| {
            let column: ArrayRef = Arc::new(Int32Array::from(values.to_vec()));
            RecordBatch::try_from_iter([("v", column)]).unwrap()
        };
        Edits {
            rows: edits.iter().map(|(position, new)| RowEdit { position: *position, new: *new }).collect(),
            sources: sources.iter().map(source).collect(),
        }
    }

    fn patched(edits: &Edits, stored: &[i32], start: u64) -> Vec<i32> {
        let stored: ArrayRef = Arc::new(Int32Array::from(stored.to_vec()));
        edits.of_column(0).apply(&stored, start).unwrap().as_primitive::<Int32Type>().values().to_vec()
    }

    #[test]
    fn replaces_and_drops_rows_at_their_positions() {
        let edits =
            edits(&[(10, None), (12, Some((1, 0))), (13, Some((0, 1))), (20, None)], &[&[7, 8], &[9]]);
        assert_eq!(patched(&edits, &[0, 1, 2, 3, 4], 10), [1, 9, 8, 4]);
        assert_eq!(patched(&edits, &[0, 1], 14), [0, 1]);
        assert_eq!(patched(&edits, &[0, 1], 19), [0]);
        assert_eq!((edits.drops(), edits.replaces()), (2, true));
    }

    #[test]
    fn sees_that_new_values_are_the_stored_ones() {
        let edits = edits(&[(3, Some((0, 0))), (5, Some((0, 1)))], &[&[7, 8]]);
        let stored = |values: &[i32]| -> ArrayRef { Arc::new(Int32Array::from(values.to_vec())) };
        let patch = edits.of_column(0);
        assert!(patch.changes_nothing(&stored(&[7, 8]), 0));
        assert!(patch.changes_nothing(&stored(&[8]), 1));
        assert!(!patch.changes_nothing(&stored(&[7, 9]), 0));
    }
}
