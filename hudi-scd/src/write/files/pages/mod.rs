//! Patches column chunks page by page, without decoding unchanged values.
//!
//! A commit changes few rows of a file, but they are scattered over all pages. Decoding a column into Arrow
//! and encoding it again (hashing each value for the dictionary, comparing each with the bounds) would spend
//! most of its time on unchanged values. Instead, a page is decompressed, its changed values are replaced in
//! place, and it is compressed again:
//!
//! | page | how it is patched |
//! |---|---|
//! | without changed rows, or with new values equal to the stored ones | copied in stored form |
//! | with plain values | the bytes between the changed values are copied |
//! | with dictionary indexes | the indexes are unpacked and packed; new values are added to the dictionary |
//!
//! Bounds of pages and chunks are kept tight: they are computed again if a removed value was one of them. A
//! bound of a chunk is declared exact only if it is known to be one of its values ([`Exact`]).
//!
//! Everything else is decoded and encoded: nested columns, booleans, pages of version 2, other encodings,
//! files without a page index, and chunks with a codec that differs from the new file's.

mod bounds;
mod chunk;
mod constant;
mod hybrid;
mod page;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{ArrayRef, new_null_array};
use bytes::Bytes;
use parquet::{
    basic::{Compression, Encoding},
    column::{
        page::{CompressedPage, Page, PageReader},
        writer::ColumnCloseResult,
    },
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaData, ColumnIndexBuilder},
        page_index::offset_index::PageLocation,
        reader::{ChunkReader, FileReader, SerializedFileReader},
        serialized_reader::SerializedPageReader,
    },
};

use self::{
    bounds::{Bound, Bounds},
    chunk::ChunkWriter,
    page::{Dictionary, Leaf, Outcome, PlainValues, Replacement, Stored},
};
use super::{
    base_file::{FileFormat, unsupported},
    nan::has_nan,
};
use crate::{
    Result,
    base_file::{OpenFile, Source},
    write::plan::codec::{PageCompressor, is_same},
};

/// Maximum size of a patched dictionary or page in bytes, twice the limit that writers use. A larger one is
/// encoded again.
const MOST_BYTES: usize = 2 * 1024 * 1024;

/// New values of some rows, leaf by leaf, in the form of plain pages.
pub(super) struct NewValues {
    /// `None` for a leaf that is not patched.
    leaves: Vec<Option<PlainValues>>,
}

impl NewValues {
    /// Collects the rows' values in all columns of the format. Contains `None` for columns that are not
    /// patched.
    pub(super) fn new(format: &FileFormat, columns: &[Option<ArrayRef>], rows: usize) -> Result<Self> {
        let columns: Vec<ArrayRef> = columns
            .iter()
            .enumerate()
            .map(|(column, values)| match values {
                Some(values) => values.clone(),
                None => new_null_array(format.field(column).data_type(), rows),
            })
            .collect();
        let file = SerializedFileReader::new(format.plain(&columns)?);
        let leaves = file.and_then(|file| {
            let group = file.get_row_group(0)?;
            let column = |leaf: usize| {
                let Some(kind) = Leaf::of(group.metadata().column(leaf).column_descr()) else {
                    return Ok(None);
                };
                let mut values = PlainValues::default();
                for page in group.get_column_page_reader(leaf)? {
                    let page = page?;
                    if values.add_page(kind, page.buffer(), page.num_values() as usize).is_none() {
                        return Ok(None);
                    }
                }
                Ok((values.len() == rows).then_some(values))
            };
            (0..group.num_columns()).map(column).collect::<Result<Vec<_>, ParquetError>>()
        });
        let mut leaves = leaves.map_err(unsupported)?;
        for (column, values) in columns.iter().enumerate() {
            // A chunk with a NaN has no bounds, but its pages may have some.
            if has_nan(values) {
                leaves[format.leaves(column)].fill_with(|| None);
            }
        }
        Ok(Self { leaves })
    }
}

/// Returns a column chunk with the same string in every row, as the writer would encode it.
pub(super) fn constant(
    format: &FileFormat,
    leaf: usize,
    text: &str,
    rows: usize,
) -> Result<(Bytes, Box<ColumnCloseResult>)> {
    constant::constant(format.codec(), format.leaf(leaf), text, rows).map_err(unsupported)
}

/// A column chunk after its rows were changed.
pub(super) enum PatchedChunk {
    /// The stored chunk, unchanged.
    Unchanged,
    /// Its new bytes and metadata.
    Changed(Bytes, Box<ColumnCloseResult>),
}

/// Replaces the values of `rows`, which must ascend, in a column chunk of a stored file. Returns `None` if
/// the chunk must be decoded.
pub(super) fn patch(
    file: &OpenFile,
    group: usize,
    stored_leaf: usize,
    rows: &[usize],
    new: &NewValues,
    leaf: usize,
    codec: Compression,
) -> Option<PatchedChunk> {
    let values = new.leaves.get(leaf)?.as_ref()?;
    // If a chunk cannot be read here, it cannot be decoded either, and the decoder reports the error.
    Patch::new(file, group, stored_leaf, rows, values, codec)?.run().ok().flatten()
}

/// A column chunk that is being patched.
struct Patch<'a> {
    source: &'a Source,
    chunk: ColumnCloseResult,
    leaf: Leaf,
    locations: Vec<PageLocation>,
    rows: &'a [usize],
    values: &'a PlainValues,
    codec: Compression,
}

/// A page of the new chunk.
enum NewPage<'a> {
    /// The location of the stored page.
    Stored(&'a PageLocation),
    New(CompressedPage),
}

impl<'a> Patch<'a> {
    fn new(
        file: &'a OpenFile,
        group: usize,
        leaf: usize,
        rows: &'a [usize],
        values: &'a PlainValues,
        codec: Compression,
    ) -> Option<Self> {
        let chunk = file.chunk(group, leaf);
        let leaf = Leaf::of(chunk.metadata.column_descr())?;
        let locations = chunk.offset_index.as_ref()?.page_locations.clone();
        let pages_of_index = chunk.column_index.as_ref()?.num_pages();
        let is_usual = is_same(chunk.metadata.compression(), codec)
            && rows.len() == values.len()
            && !locations.is_empty()
            && pages_of_index == locations.len() as u64;
        is_usual.then_some(Self { source: file.source(), chunk, leaf, locations, rows, values, codec })
    }

    fn run(self) -> Result<Option<PatchedChunk>, ParquetError> {
        let metadata = &self.chunk.metadata;
        let Some(index) = &self.chunk.column_index else { return Ok(None) };
        let all_rows = usize::try_from(self.chunk.rows_written)?;
        let source = Arc::new(self.source.clone());
        let mut reader = SerializedPageReader::new(source, metadata, all_rows, Some(self.locations.clone()))?;
        let (start, _) = metadata.byte_range();
        let mut dictionary = None;
        let mut dictionary_encoding = Encoding::PLAIN;
        if self.locations[0].offset.cast_unsigned() != start {
            let Some(Page::DictionaryPage { buf, num_values, encoding, .. }) = reader.get_next_page()? else {
                return Ok(None);
            };
            dictionary = Dictionary::new(self.leaf, &buf, num_values as usize, self.values);
            dictionary_encoding = encoding;
        }

        let mut pages = Vec::with_capacity(self.locations.len());
        let mut said = ColumnIndexBuilder::new(metadata.column_type());
        let mut bounds_of_all = None;
        let mut exact = Exact::of(metadata);
        let (mut nulls_of_all, mut more_bytes, mut is_changed) = (0_u64, 0_i64, false);
        let mut compressor = PageCompressor::new(self.codec)?;
        for (number, location) in self.locations.iter().enumerate() {
            let first = usize::try_from(location.first_row_index)?;
            let end = match self.locations.get(number + 1) {
                Some(next) => usize::try_from(next.first_row_index)?,
                None => all_rows,
            };
            let (Some(rows), Some(stored_nulls)) = (end.checked_sub(first), index.null_count(number)) else {
                return Ok(None);
            };
            let mut bounds = Bounds::of_page(index, number);
            let mut nulls = usize::try_from(stored_nulls)?;
            let edits =
                self.rows.partition_point(|row| *row < first)..self.rows.partition_point(|row| *row < end);
            if edits.is_empty() {
                reader.skip_next_page()?;
                pages.push((rows, NewPage::Stored(location)));
            } else {
                let Some(Page::DataPage {
                    buf,
                    num_values,
                    encoding,
                    def_level_encoding,
                    rep_level_encoding,
                    ..
                }) = reader.get_next_page()?
                else {
                    return Ok(None);
                };
                if num_values as usize != rows || def_level_encoding != Encoding::RLE {
                    return Ok(None);
                }
                let replacements: Vec<Replacement<'_>> = edits
                    .map(|edit| Replacement { row: self.rows[edit] - first, value: self.values.get(edit) })
                    .collect();
                let page = Stored { bytes: &buf, encoding, rows, bounds: bounds.as_ref() };
                match page::patch(self.leaf, page, &replacements, dictionary.as_mut()) {
                    None => return Ok(None),
                    Some(Outcome::Unchanged) => pages.push((rows, NewPage::Stored(location))),
                    Some(Outcome::Patched(patched)) => {
                        let length = patched.bytes.len();
                        if length > MOST_BYTES.max(2 * buf.len()) {
                            return Ok(None);
                        }
                        let page = Page::DataPage {
                            buf: compressor.compress(&patched.bytes)?,
                            num_values,
                            encoding,
                            def_level_encoding,
                            rep_level_encoding,
                            statistics: None,
                        };
                        more_bytes += length as i64 - buf.len() as i64;
                        pages.push((rows, NewPage::New(CompressedPage::new(page, length))));
                        exact.replaced(bounds.as_ref(), patched.bounds.as_ref());
                        (bounds, nulls, is_changed) = (patched.bounds, patched.nulls, true);
                    }
                }
            }
            nulls_of_all += nulls as u64;
            match bounds {
                Some(bounds) if bounds.is_too_long() => return Ok(None),
                Some(bounds) => {
                    Bounds::join(&mut bounds_of_all, &bounds, self.leaf.order);
                    said.append(false, bounds.min.value, bounds.max.value, i64::try_from(nulls)?);
                }
                None if nulls == rows => said.append(true, Vec::new(), Vec::new(), i64::try_from(nulls)?),
                // If there are values but no bounds, all values are NaN.
                None => return Ok(None),
            }
        }
        if !is_changed {
            return Ok(Some(PatchedChunk::Unchanged));
        }

        let mut chunk = ChunkWriter::new(self.codec, usize::try_from(metadata.compressed_size())? * 9 / 8);
        if let Some(dictionary) = &dictionary {
            match dictionary.grown() {
                None => {
                    let length = self.locations[0].offset.cast_unsigned() - start;
                    chunk.stored_dictionary(&self.source.get_bytes(start, usize::try_from(length)?)?)?;
                }
                Some(values) if values.len() > MOST_BYTES => return Ok(None),
                Some(values) => {
                    let page = Page::DictionaryPage {
                        buf: compressor.compress(values)?,
                        num_values: u32::try_from(dictionary.len())?,
                        encoding: dictionary_encoding,
                        is_sorted: false,
                    };
                    chunk.dictionary(page, values.len())?;
                }
            }
        }
        for (rows, page) in pages {
            match page {
                NewPage::Stored(at) => {
                    let length = usize::try_from(at.compressed_page_size)?;
                    chunk.stored_page(&self.source.get_bytes(at.offset.cast_unsigned(), length)?, rows)?;
                }
                NewPage::New(page) => chunk.page(page, rows)?,
            }
        }

        let column = metadata.column_descr_ptr();
        let mut described = ColumnChunkMetaData::builder(column.clone())
            .set_encodings_mask(*metadata.encodings_mask())
            // Ignores a few bytes of headers and of the dictionary.
            .set_total_uncompressed_size((metadata.uncompressed_size() + more_bytes).max(0));
        if let Some(pages) = metadata.page_encoding_stats() {
            described = described.set_page_encoding_stats(pages.clone());
        }
        if let Some(bounds) = &mut bounds_of_all {
            exact.apply(bounds);
        }
        if let Some(statistics) = Bounds::statistics(bounds_of_all.as_ref(), &column, nulls_of_all) {
            described = described.set_statistics(statistics);
        }
        let (bytes, close) = chunk.finish(described, Some(said))?;
        Ok(Some(PatchedChunk::Changed(bytes, close)))
    }
}

/// The exact bounds of a stored chunk according to its statistics, as long as the pages that contain them
/// keep them.
struct Exact {
    min: Option<Vec<u8>>,
    max: Option<Vec<u8>>,
}

impl Exact {
    fn of(metadata: &ColumnChunkMetaData) -> Self {
        let Some(statistics) = metadata.statistics() else { return Self { min: None, max: None } };
        let exact = |bytes: Option<&[u8]>, is_exact: bool| bytes.filter(|_| is_exact).map(<[u8]>::to_vec);
        Self {
            min: exact(statistics.min_bytes_opt(), statistics.min_is_exact()),
            max: exact(statistics.max_bytes_opt(), statistics.max_is_exact()),
        }
    }

    /// Drops a bound if a page had it and no longer does. This may have been the only such page, because the
    /// equal bound of another page may be truncated.
    fn replaced(&mut self, before: Option<&Bounds>, after: Option<&Bounds>) {
        let loses = |exact: &Option<Vec<u8>>, bound: fn(&Bounds) -> &Bound| {
            let is_it = |bounds: &Bounds| exact.as_ref() == Some(&bound(bounds).value);
            before.is_some_and(is_it) && !after.is_some_and(is_it)
        };
        if loses(&self.min, |bounds| &bounds.min) {
            self.min = None;
        }
        if loses(&self.max, |bounds| &bounds.max) {
            self.max = None;
        }
    }

    /// Marks those bounds of the new chunk that equal the stored ones.
    fn apply(&self, bounds: &mut Bounds) {
        bounds.min.is_exact |= self.min.as_ref() == Some(&bounds.min.value);
        bounds.max.is_exact |= self.max.as_ref() == Some(&bounds.max.value);
    }
}
