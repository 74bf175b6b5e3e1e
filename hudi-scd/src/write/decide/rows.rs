//! The new rows in a file's next version, from memory or from the local disk.

use std::{cmp::Reverse, collections::BinaryHeap, ops::Range, sync::Arc};

use arrow::{
    array::{AsArray, RecordBatch, StringArray, UInt32Array, UInt64Array},
    compute::{interleave_record_batch, take, take_record_batch},
    error::ArrowError,
};

use super::{
    patch::{Edits, RowEdit},
    tag::{Change, Edit},
};
use crate::{
    Error, ErrorKind, Result,
    write::input::{
        incoming::Incoming,
        spill::{Batches, Segment},
    },
};

/// Number of rows in a batch.
const BATCH_ROWS: usize = 8 * 1024;
/// Number of columns after the data columns in spilled rows: the record key; the position of a changed row,
/// or the position of a new row in the input; and a flag for removals.
pub(crate) const SPILL_COLUMNS: usize = 3;

/// The changes of a stored file's rows.
#[derive(Debug, Default)]
pub(crate) struct FileEdits {
    pub(crate) edits: EditSource,
    /// Number of replaced rows.
    pub(crate) updated: u64,
    /// Number of removed rows.
    pub(crate) dropped: u64,
}

/// The edits of a file, by position.
#[derive(Debug, Default)]
pub(crate) enum EditSource {
    #[default]
    None,
    Memory(Arc<Incoming>, Vec<Edit>),
    /// Segments that are each sorted by position.
    Spilled(Vec<Segment>),
}

impl FileEdits {
    pub(crate) fn in_memory(incoming: Arc<Incoming>, edits: Vec<Edit>) -> Self {
        let dropped = edits.iter().filter(|edit| edit.change == Change::Drop).count() as u64;
        let updated = edits.len() as u64 - dropped;
        Self { edits: EditSource::Memory(incoming, edits), updated, dropped }
    }

    pub(crate) fn open(self) -> Result<Changes> {
        Ok(match self.edits {
            EditSource::None => Changes::Spilled(SpilledEdits::default()),
            EditSource::Memory(incoming, edits) => Changes::Memory(incoming, edits.into_iter()),
            EditSource::Spilled(segments) => Changes::Spilled(SpilledEdits::open(&segments)?),
        })
    }
}

/// The edits of a file, which are read in order.
pub(crate) enum Changes {
    Memory(Arc<Incoming>, std::vec::IntoIter<Edit>),
    Spilled(SpilledEdits),
}

impl Changes {
    /// Returns the changes of a run of rows. Runs must be requested in order.
    pub(crate) fn within(&mut self, positions: &Range<u64>) -> Result<Edits> {
        match self {
            Self::Memory(incoming, edits) => {
                let here = edits.as_slice().partition_point(|edit| edit.position < positions.end);
                let rows = edits.by_ref().take(here).map(|edit| {
                    let new = match edit.change {
                        Change::Replace(row) => Some((0, row as usize)),
                        Change::Drop => None,
                    };
                    RowEdit { position: edit.position, new }
                });
                Ok(Edits { rows: rows.collect(), sources: vec![incoming.rows.clone()] })
            }
            Self::Spilled(spilled) => spilled.within(positions.end),
        }
    }
}

/// Segments of edits, merged by position. For a run of rows, only the segments with an edit in it are read.
#[derive(Default)]
pub(crate) struct SpilledEdits {
    readers: Vec<SegmentReader>,
    /// The next position of each segment, and the segment.
    heads: BinaryHeap<Reverse<(u64, usize)>>,
}

struct SegmentReader {
    batches: Batches,
    /// A batch, and its first row that has not been returned yet.
    current: Option<(RecordBatch, usize)>,
}

impl SpilledEdits {
    fn open(segments: &[Segment]) -> Result<Self> {
        let mut opened = Self::default();
        for (number, segment) in segments.iter().enumerate() {
            let mut reader = SegmentReader { batches: segment.read(), current: None };
            opened.heads.extend(reader.next_position()?.map(|position| Reverse((position, number))));
            opened.readers.push(reader);
        }
        Ok(opened)
    }

    /// Returns the edits before a position that have not been returned yet.
    fn within(&mut self, end: u64) -> Result<Edits> {
        let mut edits = Edits::default();
        while let Some(&Reverse((position, number))) = self.heads.peek()
            && position < end
        {
            self.heads.pop();
            let reader = &mut self.readers[number];
            reader.read_until(end, &mut edits)?;
            self.heads.extend(reader.next_position()?.map(|position| Reverse((position, number))));
        }
        edits.rows.sort_unstable_by_key(|edit| edit.position);
        Ok(edits)
    }
}

impl SegmentReader {
    /// Returns the position of the next edit. Returns `None` at the end.
    fn next_position(&mut self) -> Result<Option<u64>> {
        if self.current.is_none() {
            self.current = self.batches.next().transpose()?.map(|batch| (batch, 0));
        }
        Ok(self.current.as_ref().map(|(batch, row)| positions(batch).value(*row)))
    }

    fn read_until(&mut self, end: u64, edits: &mut Edits) -> Result<()> {
        while self.next_position()?.is_some_and(|position| position < end)
            && let Some((batch, first)) = self.current.take()
        {
            let data = batch.num_columns() - SPILL_COLUMNS;
            let positions = positions(&batch).values().clone();
            let drops = batch.column(data + 2).as_boolean();
            let here = first + positions[first..].partition_point(|position| *position < end);
            let source = edits.sources.len();
            edits.sources.push(batch.project(&(0..data).collect::<Vec<_>>()).map_err(unfit)?);
            edits.rows.extend((first..here).map(|row| RowEdit {
                position: positions[row],
                new: (!drops.value(row)).then_some((source, row)),
            }));
            if here < batch.num_rows() {
                self.current = Some((batch, here));
            }
        }
        Ok(())
    }
}

/// Returns the positions of a batch of spilled edits.
fn positions(batch: &RecordBatch) -> &UInt64Array {
    batch.column(batch.num_columns() - SPILL_COLUMNS + 1).as_primitive()
}

/// Rows that are new in a file or, before they are assigned to files, in a partition.
#[derive(Clone, Debug, Default)]
pub(crate) enum Appends {
    #[default]
    None,
    Memory(Arc<Incoming>, Vec<u32>),
    /// A range of the rows of all segments.
    Spilled(Arc<SpilledRows>, Range<u64>),
}

/// Spilled rows, ordered by key.
#[derive(Debug)]
pub(crate) struct SpilledRows {
    /// The segments, each with the number of rows before it.
    segments: Vec<(u64, Segment)>,
    /// Number of rows in a section. Each section is sorted back into the order of the input.
    section: u64,
}

impl SpilledRows {
    /// Returns the rows of a range, ordered by key.
    fn read(&self, range: &Range<u64>) -> impl Iterator<Item = Result<RecordBatch>> + '_ + use<'_> {
        let range = range.clone();
        let first = self.segments.partition_point(|(before, _)| *before <= range.start).saturating_sub(1);
        let end = range.end;
        let parts = self.segments[first..].iter().take_while(move |(before, _)| *before < end);
        parts.flat_map(move |(before, segment)| {
            let end = (range.end - before).min(segment.rows());
            segment.read_rows(range.start.saturating_sub(*before).min(end)..end)
        })
    }

    /// Returns the rows of a range, in the order of the input.
    fn in_input_order(
        &self,
        range: &Range<u64>,
    ) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
        let batches = self.read(range).collect::<Result<Vec<_>>>()?;
        let mut order = Vec::new();
        for (number, batch) in batches.iter().enumerate() {
            let places = positions(batch).values().iter().enumerate();
            order.extend(places.map(|(row, place)| (*place, number, row)));
        }
        order.sort_unstable();
        let mut left = order.into_iter().map(|(_, batch, row)| (batch, row));
        Ok(std::iter::from_fn(move || {
            let some: Vec<(usize, usize)> = left.by_ref().take(BATCH_ROWS).collect();
            let batches: Vec<&RecordBatch> = batches.iter().collect();
            (!some.is_empty()).then(|| interleave_record_batch(&batches, &some).map_err(unfit))
        }))
    }
}

impl Appends {
    /// Creates the rows of these segments. `section` rows fit into memory.
    pub(crate) fn spilled(segments: impl IntoIterator<Item = Segment>, section: u64) -> Self {
        let mut rows = 0;
        let placed = segments.into_iter().map(|segment| {
            let before = rows;
            rows += segment.rows();
            (before, segment)
        });
        let segments = placed.collect();
        Self::Spilled(Arc::new(SpilledRows { segments, section }), 0..rows)
    }

    /// Returns the number of rows.
    pub(crate) fn rows(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Memory(_, rows) => rows.len() as u64,
            Self::Spilled(_, range) => range.end - range.start,
        }
    }

    /// Removes and returns the first rows. Within a file they are sorted back into the order of the input, as
    /// far as they fit into memory. Neighbours are more similar in that order than in the order of keys,
    /// which makes the file smaller.
    pub(crate) fn take(&mut self, rows: u64) -> Self {
        match self {
            Self::None => Self::None,
            Self::Memory(incoming, all) => {
                let rows = all.len().min(usize::try_from(rows).unwrap_or(usize::MAX));
                let mut taken: Vec<u32> = all.drain(..rows).collect();
                taken.sort_unstable();
                Self::Memory(incoming.clone(), taken)
            }
            Self::Spilled(spilled, range) => {
                let start = range.start;
                range.start = range.end.min(start.saturating_add(rows));
                Self::Spilled(spilled.clone(), start..range.start)
            }
        }
    }

    /// Returns the rows with their keys.
    pub(crate) fn batches(&self) -> Box<dyn Iterator<Item = Result<(StringArray, RecordBatch)>> + '_> {
        match self {
            Self::None => Box::new(std::iter::empty()),
            Self::Memory(incoming, rows) => Box::new(rows.chunks(BATCH_ROWS).map(|rows| {
                let rows = UInt32Array::from(rows.to_vec());
                let keys = take(incoming.keys.as_ref(), &rows, None).map_err(unfit)?;
                let rows = take_record_batch(&incoming.rows, &rows).map_err(unfit)?;
                Ok((keys.as_string::<i32>().clone(), rows))
            })),
            Self::Spilled(rows, range) => {
                let sections = range.clone().step_by(usize::try_from(rows.section).unwrap_or(usize::MAX));
                let sections = sections.map(|start| start..range.end.min(start + rows.section));
                let batches = sections.flat_map(|section| match rows.in_input_order(&section) {
                    Ok(batches) => Box::new(batches) as Box<dyn Iterator<Item = Result<RecordBatch>>>,
                    Err(error) => Box::new(std::iter::once(Err(error))),
                });
                Box::new(batches.map(|batch| {
                    let batch = batch?;
                    let data = batch.num_columns() - SPILL_COLUMNS;
                    let keys = batch.column(data).as_string::<i32>().clone();
                    Ok((keys, batch.project(&(0..data).collect::<Vec<_>>()).map_err(unfit)?))
                }))
            }
        }
    }
}

fn unfit(cause: ArrowError) -> Error {
    Error::new(ErrorKind::InvalidInput, "the incoming rows cannot be selected").with_source(cause)
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{ArrayRef, BooleanArray, Int64Array},
        datatypes::{DataType, Field, Schema},
    };

    use super::*;
    use crate::{TableOptions, write::input::spill::SpillWriter};

    /// Returns rows with these numbers: rows, keys, positions, and no drops.
    fn spilled(numbers: Range<i64>, step: u64) -> RecordBatch {
        let numbers: Vec<i64> = numbers.collect();
        let keys = StringArray::from_iter_values(numbers.iter().map(i64::to_string));
        let positions = UInt64Array::from_iter_values(numbers.iter().map(|number| *number as u64 * step));
        let columns: [ArrayRef; 4] = [
            Arc::new(Int64Array::from(numbers.clone())),
            Arc::new(keys),
            Arc::new(positions),
            Arc::new(BooleanArray::from(vec![false; numbers.len()])),
        ];
        let field = |(name, column): (&str, &ArrayRef)| Field::new(name, column.data_type().clone(), false);
        let fields: Vec<Field> =
            ["n", "key", "position", "drop"].into_iter().zip(&columns).map(field).collect();
        assert_eq!(fields[0].data_type(), &DataType::Int64);
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.to_vec()).unwrap()
    }

    fn numbers(rows: &RecordBatch) -> Vec<i64> {
        rows.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
    }

    /// If each file read its rows from the start of their segment, 64 times as much would be read.
    #[test]
    fn files_read_the_batches_of_their_rows_and_no_others() {
        let mut spill = SpillWriter::create(&TableOptions::new(), spilled(0..1, 1).schema()).unwrap();
        for batch in 0..128 {
            spill.write(&spilled(batch * 10..batch * 10 + 10, 1)).unwrap();
        }
        let spill = spill.finish().unwrap();
        let segments = vec![spill.segment(0..50), spill.segment(50..50), spill.segment(50..128)];
        let mut left = Appends::spilled(segments, 5);
        let (mut files, mut batches, mut read) = (0, 0, Vec::new());
        while left.rows() > 0 {
            let file = left.take(7);
            let Appends::Spilled(rows, range) = &file else { panic!("spilled") };
            batches += rows.read(range).count();
            files += 1;
            for rows in file.batches() {
                let (keys, rows) = rows.unwrap();
                assert_eq!(keys.value(0), numbers(&rows)[0].to_string());
                read.extend(numbers(&rows));
            }
        }
        assert_eq!(read, (0..1280).collect::<Vec<_>>());
        assert!(batches <= 128 + files, "{batches} batches for {files} files");
    }

    #[test]
    fn rows_return_to_the_order_of_the_input_section_by_section() {
        let mut spill = SpillWriter::create(&TableOptions::new(), spilled(0..1, 1).schema()).unwrap();
        for first in [7, 3, 9, 1, 5] {
            spill.write(&spilled(first..first + 2, 1)).unwrap();
        }
        let mut rows = Appends::spilled([spill.finish().unwrap().segment(0..5)], 4);
        let file = rows.take(9);
        let read: Vec<i64> = file.batches().flat_map(|rows| numbers(&rows.unwrap().1)).collect();
        assert_eq!(read, [3, 4, 7, 8, 1, 2, 9, 10, 5]);
        assert_eq!(rows.rows(), 1);
    }

    #[test]
    fn edits_of_many_segments_are_merged_and_each_run_touches_the_segments_with_edits_in_it() {
        let mut spill = SpillWriter::create(&TableOptions::new(), spilled(0..1, 1).schema()).unwrap();
        for segment in 0..100 {
            spill.write(&spilled(segment * 10..segment * 10 + 10, 3)).unwrap();
        }
        let spill = spill.finish().unwrap();
        let segments: Vec<Segment> = (0..100).map(|segment| spill.segment(segment..segment + 1)).collect();
        let mut edits = SpilledEdits::open(&segments).unwrap();
        let (mut sources, mut found) = (0, Vec::new());
        for end in (30..=3_000).step_by(30) {
            let edits = edits.within(end).unwrap();
            sources += edits.sources.len();
            found.extend(edits.rows.iter().map(|edit| edit.position));
        }
        assert_eq!(found, (0..1_000).map(|number| number * 3).collect::<Vec<u64>>());
        assert_eq!(sources, 100, "100 runs of rows, each with the edits of one segment");
    }
}
