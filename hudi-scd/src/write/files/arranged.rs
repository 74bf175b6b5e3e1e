//! The order of the column chunks of a row group, in a file whose unchanged chunks are copied by the storage.
//!
//! Parquet does not prescribe the physical order of a row group's chunks, because readers find a column chunk
//! by its offset in the footer. The changed chunks of a group are written side by side, because each separate
//! piece of changed bytes requires a part of the minimum size. The other chunks keep their previous order, so
//! that neighbours become a single copy. The chunk of the first column stays in front, because readers that
//! split a file use its offset as the offset of the row group.

use std::{
    io::{self, Read, Write},
    ops::Range,
};

use parquet::{
    errors::ParquetError,
    file::{
        metadata::{
            ColumnChunkMetaData, FileMetaData, KeyValue, OffsetIndexBuilder, ParquetMetaData,
            ParquetMetaDataBuilder, ParquetMetaDataWriter, RowGroupMetaData,
        },
        page_index::{column_index::ColumnIndexMetaData, offset_index::OffsetIndexMetaData},
        writer::{SerializedFileWriter, TrackedWrite},
    },
};

use super::chunk::Chunk;

/// The row groups of a file that is being written in the order of its columns.
#[derive(Debug, Default)]
pub(crate) struct Arrangement {
    groups: Vec<ArrangedGroup>,
    is_changed: bool,
}

#[derive(Debug, Default)]
struct ArrangedGroup {
    /// How far each chunk is moved from its position in the order of the columns.
    moves: Vec<i64>,
    column_index: Vec<Option<ColumnIndexMetaData>>,
    offset_index: Vec<Option<OffsetIndexMetaData>>,
}

impl Arrangement {
    /// Adds a row group whose chunks are written from offset `at` on. Returns the ranges in stored order, if
    /// the order differs.
    pub(crate) fn add(&mut self, at: u64, chunks: &[Chunk]) -> Option<Vec<Range<u64>>> {
        let mut end = at;
        let ranges: Vec<Range<u64>> = chunks
            .iter()
            .map(|chunk| {
                let start = end;
                end += chunk.bytes();
                start..end
            })
            .collect();
        let mut order: Vec<usize> = (0..chunks.len()).collect();
        let comes_first = chunks.first().is_some_and(|first| first.copied_from().is_none());
        // The copied chunks ordered by their offsets, before or after the other chunks.
        order.sort_by_key(|chunk| match chunks[*chunk].copied_from() {
            Some(from) => (comes_first, from),
            None => (!comes_first, 0),
        });
        let mut moves = vec![0; chunks.len()];
        let mut next = at;
        for chunk in &order {
            let range = &ranges[*chunk];
            moves[*chunk] = next.cast_signed() - range.start.cast_signed();
            next += range.end - range.start;
        }
        let is_changed = moves.iter().any(|by| *by != 0);
        self.is_changed |= is_changed;
        let indexes = || chunks.iter().map(|chunk| chunk.close());
        self.groups.push(ArrangedGroup {
            moves,
            column_index: indexes().map(|close| close.column_index.clone()).collect(),
            offset_index: indexes().map(|close| close.offset_index.clone()).collect(),
        });
        is_changed.then(|| order.into_iter().map(|chunk| ranges[chunk].clone()).collect())
    }

    /// Returns `true` if any chunk is not in the order of its column.
    pub(crate) fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Ends a file with a footer that contains the offsets of the chunks.
    pub(crate) fn finish<W: Write + Send>(
        self,
        mut file: SerializedFileWriter<W>,
        entries: Vec<KeyValue>,
    ) -> Result<ParquetMetaData, ParquetError> {
        let metadata = self.metadata(&file, entries)?;
        // The offsets in a footer are counted from the beginning of the file.
        let before = file.bytes_written() as u64;
        let mut end = After { skip: before, rest: Vec::new() };
        let mut tracked = TrackedWrite::new(&mut end);
        io::copy(&mut io::repeat(0).take(before), &mut tracked)?;
        ParquetMetaDataWriter::new_with_tracked(tracked, &metadata).finish()?;
        file.write_all(&end.rest)?;
        file.flush()?;
        Ok(metadata)
    }

    fn metadata<W: Write + Send>(
        self,
        file: &SerializedFileWriter<W>,
        entries: Vec<KeyValue>,
    ) -> Result<ParquetMetaData, ParquetError> {
        let properties = file.properties();
        let written = file.flushed_row_groups();
        let mut groups = Vec::with_capacity(written.len());
        let (mut column_index, mut offset_index) = (Vec::new(), Vec::new());
        for (group, arranged) in written.iter().zip(self.groups) {
            let moved = group.columns().iter().zip(&arranged.moves).map(|(chunk, by)| moved(chunk, *by));
            let chunks = moved.collect::<Result<Vec<_>, _>>()?;
            let locations = chunks
                .iter()
                .zip(&arranged.offset_index)
                .map(|(chunk, index)| index.as_ref().map(|index| located(index, chunk, group.num_rows())));
            offset_index.push(locations.collect::<Option<Vec<_>>>());
            let bounds = arranged.column_index.into_iter();
            let bounds = bounds.map(|index| index.unwrap_or(ColumnIndexMetaData::NONE));
            column_index.push(bounds.collect::<Vec<_>>());
            groups.push(group.clone().into_builder().set_column_metadata(chunks).build()?);
        }
        let entries = properties.key_value_metadata().into_iter().flatten().cloned().chain(entries).collect();
        let schema = groups.first().map(RowGroupMetaData::schema_descr_ptr);
        let schema = schema.ok_or_else(|| ParquetError::General("no row group is arranged".to_owned()))?;
        let metadata = FileMetaData::new(
            properties.writer_version().as_num(),
            groups.iter().map(RowGroupMetaData::num_rows).sum(),
            Some(properties.created_by().to_owned()),
            Some(entries),
            schema,
            None,
        );
        // A file has page offsets for all of its chunks or for none.
        let offset_index = offset_index.into_iter().collect::<Option<Vec<_>>>();
        Ok(ParquetMetaDataBuilder::new(metadata)
            .set_row_groups(groups)
            .set_column_index(Some(column_index))
            .set_offset_index(offset_index.filter(|_| !properties.offset_index_disabled()))
            .build())
    }
}

/// Returns the metadata of a chunk that was moved by this distance.
fn moved(chunk: &ColumnChunkMetaData, by: i64) -> Result<ColumnChunkMetaData, ParquetError> {
    let (data, dictionary) = (chunk.data_page_offset(), chunk.dictionary_page_offset());
    let moved = chunk.clone().into_builder().set_data_page_offset(data + by);
    moved.set_dictionary_page_offset(dictionary.map(|offset| offset + by)).build()
}

/// Returns the page offsets of a chunk at its new position.
fn located(index: &OffsetIndexMetaData, chunk: &ColumnChunkMetaData, rows: i64) -> OffsetIndexMetaData {
    let pages = index.page_locations();
    let by = pages.first().map_or(0, |first| chunk.data_page_offset() - first.offset);
    let mut moved = OffsetIndexBuilder::new();
    for (number, page) in pages.iter().enumerate() {
        moved.append_offset_and_size(page.offset + by, page.compressed_page_size);
        let end = pages.get(number + 1).map_or(rows, |next| next.first_row_index);
        moved.append_row_count(end - page.first_row_index);
        let bytes = index.unencoded_byte_array_data_bytes().and_then(|bytes| bytes.get(number));
        moved.append_unencoded_byte_array_data_bytes(bytes.copied());
    }
    moved.build()
}

/// Passes on the bytes after the first ones.
struct After {
    skip: u64,
    rest: Vec<u8>,
}

impl Write for After {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let skipped = self.skip.min(buffer.len() as u64);
        self.skip -= skipped;
        self.rest.extend_from_slice(&buffer[skipped as usize..]);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
