//! The new rows of a file's next version, from memory or from the local disk.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{AsArray, RecordBatch, StringArray, UInt32Array},
    compute::{take, take_record_batch},
    datatypes::UInt64Type,
    error::ArrowError,
};

use super::{
    incoming::Incoming,
    patch::{Edits, RowEdit},
    spill::{Batches, Segment},
    tag::{Change, Edit},
};
use crate::{Error, ErrorKind, Result};

/// The number of rows in a batch.
const BATCH_ROWS: usize = 8 * 1024;
/// The number of columns after the data columns in spilled rows: the record key, the position of the changed
/// row, and a flag for its removal.
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
    /// Each segment is sorted by position.
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
            EditSource::None => Changes::Spilled(Vec::new()),
            EditSource::Memory(incoming, edits) => Changes::Memory(incoming, edits.into_iter()),
            EditSource::Spilled(segments) => {
                let readers = segments.iter().map(|segment| {
                    let batches = segment.read()?;
                    Ok(SegmentReader { batches, current: None })
                });
                Changes::Spilled(readers.collect::<Result<_>>()?)
            }
        })
    }
}

/// The edits of a file, read in order.
pub(crate) enum Changes {
    Memory(Arc<Incoming>, std::vec::IntoIter<Edit>),
    Spilled(Vec<SegmentReader>),
}

pub(crate) struct SegmentReader {
    batches: Batches,
    /// A batch, and its first row that was not returned yet.
    current: Option<(RecordBatch, usize)>,
}

impl Changes {
    /// Returns the changes of a run of rows; runs must be requested in order.
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
            Self::Spilled(readers) => {
                let mut edits = Edits::default();
                for reader in readers {
                    reader.read_until(positions.end, &mut edits)?;
                }
                edits.rows.sort_unstable_by_key(|edit| edit.position);
                Ok(edits)
            }
        }
    }
}

impl SegmentReader {
    fn read_until(&mut self, end: u64, edits: &mut Edits) -> Result<()> {
        loop {
            let (batch, first) = match self.current.take() {
                Some(current) => current,
                None => match self.batches.next().transpose()? {
                    Some(batch) => (batch, 0),
                    None => return Ok(()),
                },
            };
            let data = batch.num_columns() - SPILL_COLUMNS;
            let positions = batch.column(data + 1).as_primitive::<UInt64Type>().values().clone();
            let drops = batch.column(data + 2).as_boolean().clone();
            let here = first + positions[first..].partition_point(|position| *position < end);
            if here > first {
                let source = edits.sources.len();
                edits.sources.push(batch.project(&(0..data).collect::<Vec<_>>()).map_err(unfit)?);
                edits.rows.extend((first..here).map(|row| RowEdit {
                    position: positions[row],
                    new: (!drops.value(row)).then_some((source, row)),
                }));
            }
            if here < batch.num_rows() {
                self.current = Some((batch, here));
                return Ok(());
            }
        }
    }
}

/// Rows that are new in a file, or, before they are assigned, in a partition.
#[derive(Clone, Debug, Default)]
pub(crate) enum Appends {
    #[default]
    None,
    Memory(Arc<Incoming>, Vec<u32>),
    /// A range of the rows of all segments.
    Spilled(Arc<Vec<(Segment, u64)>>, Range<u64>),
}

impl Appends {
    /// Returns the number of rows.
    pub(crate) fn rows(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Memory(_, rows) => rows.len() as u64,
            Self::Spilled(_, range) => range.end - range.start,
        }
    }

    /// Removes and returns the first rows.
    pub(crate) fn take(&mut self, rows: u64) -> Self {
        match self {
            Self::None => Self::None,
            Self::Memory(incoming, all) => {
                let rows = all.len().min(usize::try_from(rows).unwrap_or(usize::MAX));
                Self::Memory(incoming.clone(), all.drain(..rows).collect())
            }
            Self::Spilled(segments, range) => {
                let start = range.start;
                range.start = range.end.min(start.saturating_add(rows));
                Self::Spilled(segments.clone(), start..range.start)
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
            Self::Spilled(segments, range) => {
                let mut start = 0;
                let parts = segments.iter().filter_map(move |(segment, rows)| {
                    let all = start..start + rows;
                    start = all.end;
                    let part = range.start.max(all.start)..range.end.min(all.end);
                    (!part.is_empty()).then(|| (segment, part.start - all.start..part.end - all.start))
                });
                Box::new(parts.flat_map(|(segment, part)| in_part(segment, part)))
            }
        }
    }
}

/// Returns some rows of a segment.
fn in_part(
    segment: &Segment,
    part: Range<u64>,
) -> Box<dyn Iterator<Item = Result<(StringArray, RecordBatch)>>> {
    let batches = match segment.read() {
        Ok(batches) => batches,
        Err(error) => return Box::new(std::iter::once(Err(error))),
    };
    let mut start = 0;
    Box::new(batches.filter_map(move |batch| {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return Some(Err(error)),
        };
        let all = start..start + batch.num_rows() as u64;
        start = all.end;
        let (first, end) = (part.start.max(all.start), part.end.min(all.end));
        if first >= end {
            return None;
        }
        let batch = batch.slice((first - all.start) as usize, (end - first) as usize);
        let data = batch.num_columns() - SPILL_COLUMNS;
        let keys = batch.column(data).as_string::<i32>().clone();
        Some(batch.project(&(0..data).collect::<Vec<_>>()).map_err(unfit).map(|rows| (keys, rows)))
    }))
}

fn unfit(cause: ArrowError) -> Error {
    Error::new(ErrorKind::InvalidInput, "the incoming rows cannot be selected").with_source(cause)
}
