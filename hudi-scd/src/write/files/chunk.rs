//! [`Chunk`]: a column chunk of a base file that is written.

use parquet::{arrow::arrow_writer::ArrowColumnChunk, column::writer::ColumnCloseResult};

use crate::base_file::Source;

/// A column chunk of a row group that is written as a whole.
pub(crate) enum Chunk {
    Encoded(Box<ArrowColumnChunk>),
    /// Complete bytes: unchanged or patched bytes of the previous version, or the bytes of a single value. If
    /// the source is [sparse](Source::Sparse), the storage copies them.
    Stored(Source, Box<ColumnCloseResult>),
}

impl Chunk {
    pub(crate) fn close(&self) -> &ColumnCloseResult {
        match self {
            Self::Encoded(chunk) => chunk.close(),
            Self::Stored(_, close) => close,
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        u64::try_from(self.close().metadata.compressed_size()).unwrap_or(0)
    }

    /// Returns the offset in the previous version. Returns `None` if the storage does not copy the chunk.
    pub(crate) fn copied_from(&self) -> Option<u64> {
        match self {
            Self::Stored(Source::Sparse(_), close) => Some(close.metadata.byte_range().0),
            _ => None,
        }
    }
}
