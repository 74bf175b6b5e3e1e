//! Spilled rows: batches in Arrow's IPC encoding, in files on the local disk that are deleted when the
//! process ends.
//!
//! The positions of the batches are kept in memory. One file can therefore contain the segments of a whole
//! write, and reading some rows of a segment reads only their batches.

use std::{
    fs::File,
    io::{BufWriter, Write},
    ops::Range,
    sync::Arc,
};

use arrow::{
    array::RecordBatch,
    buffer::Buffer,
    datatypes::SchemaRef,
    error::ArrowError,
    ipc::{
        Block, MetadataVersion,
        reader::FileDecoder,
        writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, write_message},
    },
};
use parquet::file::reader::ChunkReader;

use crate::{Error, ErrorKind, Result, base_file::Source, context::TableOptions};

/// Approximate size of a batch. A merge has one batch per run in memory, and sixteen times the input gives
/// more runs. All batches together must be small compared with a chunk.
const BATCH_BYTES: usize = 64 * 1024;
const BATCH_ROWS: Range<usize> = 16..8 * 1024;

/// The position of a batch in its file.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: u64,
    metadata: usize,
    body: usize,
    /// Number of rows in the file before this batch.
    first_row: u64,
}

/// Writes batches with the same schema to a file.
pub(crate) struct SpillWriter {
    file: BufWriter<File>,
    schema: SchemaRef,
    places: Vec<Place>,
    bytes: u64,
    rows: u64,
    context: IpcWriteContext,
}

impl SpillWriter {
    pub(crate) fn create(options: &TableOptions, schema: SchemaRef) -> Result<Self> {
        let folder = options.spill_folder.clone().unwrap_or_else(std::env::temp_dir);
        let file = tempfile::tempfile_in(&folder).map_err(|cause| {
            Error::new(ErrorKind::Storage, "cannot spill rows to the local disk")
                .with_context("folder", folder.display())
                .with_source(cause)
        })?;
        let (places, context) = (Vec::new(), IpcWriteContext::default());
        Ok(Self { file: BufWriter::new(file), schema, places, bytes: 0, rows: 0, context })
    }

    /// Writes a batch without dictionaries. Returns its index in the file.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<usize> {
        let (options, mut tracker) = (IpcWriteOptions::default(), DictionaryTracker::new(true));
        let (_, encoded) = IpcDataGenerator::default()
            .encode(batch, &mut tracker, &options, &mut self.context)
            .map_err(failed)?;
        let (metadata, body) = write_message(&mut self.file, encoded, &options).map_err(failed)?;
        self.places.push(Place { start: self.bytes, metadata, body, first_row: self.rows });
        self.bytes += (metadata + body) as u64;
        self.rows += batch.num_rows() as u64;
        Ok(self.places.len() - 1)
    }

    pub(crate) fn finish(mut self) -> Result<Spill> {
        let failed = |cause: std::io::Error| failed(cause.into());
        self.file.flush().map_err(failed)?;
        let file = self.file.into_inner().map_err(|cause| failed(cause.into_error()))?;
        let source = Source::of_file(file).map_err(failed)?;
        let file = SpillFile { source, schema: self.schema, places: self.places, rows: self.rows };
        Ok(Spill(Arc::new(file)))
    }
}

#[derive(Debug)]
struct SpillFile {
    source: Source,
    schema: SchemaRef,
    places: Vec<Place>,
    rows: u64,
}

impl SpillFile {
    /// Returns the number of rows before a batch.
    fn rows_before(&self, batch: usize) -> u64 {
        self.places.get(batch).map_or(self.rows, |place| place.first_row)
    }

    fn read(&self, batch: usize) -> Result<Option<RecordBatch>> {
        let place = self.places[batch];
        let bytes = self.source.get_bytes(place.start, place.metadata + place.body);
        let bytes = bytes.map_err(|cause| failed(ArrowError::from_external_error(Box::new(cause))))?;
        let overflow = |_| failed(ArrowError::MemoryError("a batch is too large".to_owned()));
        let metadata = i32::try_from(place.metadata).map_err(overflow)?;
        let block = Block::new(0, metadata, i64::try_from(place.body).map_err(overflow)?);
        let decoder = FileDecoder::new(self.schema.clone(), MetadataVersion::V5);
        decoder.read_record_batch(&block, &Buffer::from(bytes)).map_err(failed)
    }
}

/// A file of batches. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Spill(Arc<SpillFile>);

impl Spill {
    /// Returns all batches, in order.
    pub(crate) fn all(&self) -> Segment {
        self.segment(0..self.0.places.len())
    }

    pub(crate) fn segment(&self, batches: Range<usize>) -> Segment {
        Segment { file: self.0.clone(), batches }
    }
}

/// Consecutive batches of a file.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    file: Arc<SpillFile>,
    batches: Range<usize>,
}

impl Segment {
    /// Returns the number of its rows.
    pub(crate) fn rows(&self) -> u64 {
        self.file.rows_before(self.batches.end) - self.file.rows_before(self.batches.start)
    }

    /// Reads all rows.
    pub(crate) fn read(&self) -> Batches {
        self.read_rows(0..self.rows())
    }

    /// Reads the rows at these positions of the segment.
    pub(crate) fn read_rows(&self, rows: Range<u64>) -> Batches {
        let before = self.file.rows_before(self.batches.start);
        let rows = before + rows.start..before + rows.end;
        let places = &self.file.places[self.batches.clone()];
        let first = places.partition_point(|place| place.first_row <= rows.start).saturating_sub(1);
        let end = match rows.is_empty() {
            true => first,
            false => places.partition_point(|place| place.first_row < rows.end),
        };
        let start = self.batches.start;
        Batches { file: self.file.clone(), left: start + first..start + end, rows }
    }
}

/// Reads batches back one at a time.
pub(crate) struct Batches {
    file: Arc<SpillFile>,
    left: Range<usize>,
    /// The rows of the file that are to be returned.
    rows: Range<u64>,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.left.next()?;
        let (first, end) = (self.file.rows_before(index), self.file.rows_before(index + 1));
        let wanted = self.rows.start.max(first)..self.rows.end.min(end);
        let batch = self.file.read(index).transpose()?;
        let (offset, length) = ((wanted.start - first) as usize, (wanted.end - wanted.start) as usize);
        Some(batch.map(|batch| batch.slice(offset, length)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.size_hint()
    }
}

impl ExactSizeIterator for Batches {}

/// Returns the number of rows like these that make up a batch.
pub(crate) fn rows_per_batch(rows: &RecordBatch) -> usize {
    let bytes = size_of_rows(rows) / rows.num_rows().max(1);
    (BATCH_BYTES / bytes.max(1)).clamp(BATCH_ROWS.start, BATCH_ROWS.end)
}

/// Returns the size of a batch's rows in bytes. Parts of their buffers that belong to other batches are
/// excluded.
pub(crate) fn size_of_rows(rows: &RecordBatch) -> usize {
    let size = |column: &arrow::array::ArrayRef| {
        column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
    };
    rows.columns().iter().map(size).sum()
}

fn failed(cause: ArrowError) -> Error {
    Error::new(ErrorKind::Storage, "rows on the local disk cannot be written or read back").with_source(cause)
}
