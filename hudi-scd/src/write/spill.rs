//! Spilled rows: batches in Arrow's file format, in files on the local disk that are deleted when the process
//! ends.

use std::{
    fs::File,
    io::{BufWriter, Read, Seek, SeekFrom},
    ops::Range,
};

use arrow::{
    array::RecordBatch,
    datatypes::Schema,
    error::ArrowError,
    ipc::{reader::FileReader, writer::FileWriter},
};
use parquet::file::reader::{ChunkReader, Length};

use crate::{Error, ErrorKind, Result, base_file::Source, options::TableOptions};

/// The approximate size of a batch. A merge has one batch per run in memory, and sixteen times the input has
/// more runs; all of them together must be small compared with a chunk.
const BATCH_BYTES: usize = 64 * 1024;
const BATCH_ROWS: Range<usize> = 16..8 * 1024;

/// A file to which batches are written.
pub(crate) struct SpillWriter {
    file: FileWriter<BufWriter<File>>,
    batches: usize,
}

impl SpillWriter {
    pub(crate) fn create(options: &TableOptions, schema: &Schema) -> Result<Self> {
        let folder = options.spill_folder.clone().unwrap_or_else(std::env::temp_dir);
        let failed = |cause: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(ErrorKind::Storage, "cannot spill rows to the local disk")
                .with_context("folder", folder.display())
                .with_source(cause)
        };
        let file = tempfile::tempfile_in(&folder).map_err(|cause| failed(cause.into()))?;
        let file = FileWriter::try_new_buffered(file, schema).map_err(|cause| failed(cause.into()))?;
        Ok(Self { file, batches: 0 })
    }

    /// Writes a batch; returns its index in the file.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<usize> {
        self.file.write(batch).map_err(failed)?;
        self.batches += 1;
        Ok(self.batches - 1)
    }

    pub(crate) fn finish(mut self) -> Result<Spill> {
        self.file.finish().map_err(failed)?;
        let file = self.file.into_inner().map_err(failed)?;
        let file = file.into_inner().map_err(|cause| failed(cause.into_error().into()))?;
        let source = Source::of_file(file).map_err(|cause| failed(cause.into()))?;
        Ok(Spill { source, batches: self.batches })
    }
}

/// A file of batches; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Spill {
    source: Source,
    batches: usize,
}

impl Spill {
    /// Returns all batches, in order.
    pub(crate) fn all(&self) -> Segment {
        Segment { spill: self.clone(), batches: 0..self.batches }
    }

    pub(crate) fn segment(&self, batches: Range<usize>) -> Segment {
        Segment { spill: self.clone(), batches }
    }
}

/// Consecutive batches of a file.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    spill: Spill,
    batches: Range<usize>,
}

impl Segment {
    pub(crate) fn read(&self) -> Result<Batches> {
        let cursor = Cursor { source: self.spill.source.clone(), position: 0 };
        let mut file = FileReader::try_new(cursor, None).map_err(failed)?;
        if self.batches.start < self.spill.batches {
            file.set_index(self.batches.start).map_err(failed)?;
        }
        Ok(Batches { file, left: self.batches.len() })
    }
}

/// Batches that are read back one at a time.
pub(crate) struct Batches {
    file: FileReader<Cursor>,
    left: usize,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(self.file.next()?.map_err(failed))
    }
}

/// Returns the number of these rows that make a batch.
pub(crate) fn rows_per_batch(rows: &RecordBatch) -> usize {
    let bytes = size_of_rows(rows) / rows.num_rows().max(1);
    (BATCH_BYTES / bytes.max(1)).clamp(BATCH_ROWS.start, BATCH_ROWS.end)
}

/// Returns the bytes of a batch's rows, excluding shared parts of their buffers.
pub(crate) fn size_of_rows(rows: &RecordBatch) -> usize {
    let size = |column: &arrow::array::ArrayRef| {
        column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
    };
    rows.columns().iter().map(size).sum()
}

/// One reader's position in a file that several readers share.
struct Cursor {
    source: Source,
    position: u64,
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = self.source.len().saturating_sub(self.position);
        let length = left.min(buffer.len() as u64) as usize;
        let bytes = self.source.get_bytes(self.position, length).map_err(std::io::Error::other)?;
        buffer[..length].copy_from_slice(&bytes);
        self.position += length as u64;
        Ok(length)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.source.len().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

fn failed(cause: ArrowError) -> Error {
    Error::new(ErrorKind::Storage, "rows on the local disk cannot be written or read back").with_source(cause)
}
