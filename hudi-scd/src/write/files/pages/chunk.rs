//! [`ChunkWriter`]: assembles a column chunk from its pages.

use std::io::Write;

use bytes::Bytes;
use parquet::{
    basic::Compression,
    column::{
        page::{CompressedPage, Page, PageWriter},
        writer::ColumnCloseResult,
    },
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaDataBuilder, ColumnIndexBuilder, OffsetIndexBuilder},
        writer::{SerializedPageWriter, TrackedWrite},
    },
};

/// A column chunk without nesting: its dictionary, if it has one, followed by its data pages.
pub(super) struct ChunkWriter {
    out: TrackedWrite<Vec<u8>>,
    codec: Compression,
    /// The size of the dictionary.
    dictionary: Option<usize>,
    offsets: OffsetIndexBuilder,
    rows: usize,
}

impl ChunkWriter {
    pub(super) fn new(codec: Compression, capacity: usize) -> Self {
        let out = TrackedWrite::new(Vec::with_capacity(capacity));
        Self { out, codec, dictionary: None, offsets: OffsetIndexBuilder::new(), rows: 0 }
    }

    /// Adds the dictionary. `length` is the uncompressed length of its values.
    pub(super) fn dictionary(&mut self, page: Page, length: usize) -> Result<(), ParquetError> {
        SerializedPageWriter::new(&mut self.out).write_page(CompressedPage::new(page, length))?;
        self.dictionary = Some(self.out.bytes_written());
        Ok(())
    }

    /// Adds a dictionary in stored form, with its header.
    pub(super) fn stored_dictionary(&mut self, page: &[u8]) -> Result<(), ParquetError> {
        self.out.write_all(page)?;
        self.dictionary = Some(self.out.bytes_written());
        Ok(())
    }

    /// Adds the next page.
    pub(super) fn page(&mut self, page: CompressedPage, rows: usize) -> Result<(), ParquetError> {
        let begin = self.out.bytes_written();
        SerializedPageWriter::new(&mut self.out).write_page(page)?;
        self.index(begin, rows)
    }

    /// Adds the next page in stored form, with its header.
    pub(super) fn stored_page(&mut self, page: &[u8], rows: usize) -> Result<(), ParquetError> {
        let begin = self.out.bytes_written();
        self.out.write_all(page)?;
        self.index(begin, rows)
    }

    fn index(&mut self, begin: usize, rows: usize) -> Result<(), ParquetError> {
        let length = i32::try_from(self.out.bytes_written() - begin)?;
        self.offsets.append_offset_and_size(i64::try_from(begin)?, length);
        self.offsets.append_row_count(i64::try_from(rows)?);
        self.rows += rows;
        Ok(())
    }

    /// Returns the chunk and its metadata. The caller provides the statistics, and this writer the offsets.
    pub(super) fn finish(
        self,
        described: ColumnChunkMetaDataBuilder,
        bounds: Option<ColumnIndexBuilder>,
    ) -> Result<(Bytes, Box<ColumnCloseResult>), ParquetError> {
        let bytes = Bytes::from(self.out.into_inner()?);
        let described = described
            .set_compression(self.codec)
            .set_num_values(i64::try_from(self.rows)?)
            .set_total_compressed_size(i64::try_from(bytes.len())?)
            .set_data_page_offset(i64::try_from(self.dictionary.unwrap_or(0))?)
            .set_dictionary_page_offset(self.dictionary.map(|_| 0));
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: self.rows as u64,
            metadata: described.build()?,
            bloom_filter: None,
            column_index: bounds.map(|bounds| bounds.build()).transpose()?,
            offset_index: Some(self.offsets.build()),
        };
        Ok((bytes, Box::new(close)))
    }
}
