//! A column chunk with the same string in every row.

use bytes::Bytes;
use parquet::{
    basic::{Compression, Encoding, PageType},
    column::{
        page::{CompressedPage, Page},
        writer::ColumnCloseResult,
    },
    errors::ParquetError,
    file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, PageEncodingStats},
    schema::types::ColumnDescPtr,
};

use super::{
    bounds::{Bound, Bounds, LONGEST},
    chunk::ChunkWriter,
    hybrid,
};
use crate::write::plan::codec::PageCompressor;

/// Number of rows in a page, as in other columns.
const PAGE_ROWS: usize = 20_000;

/// Returns the chunk of an optional string column: a dictionary with one value, and runs of its index.
pub(super) fn constant(
    codec: Compression,
    column: ColumnDescPtr,
    text: &str,
    rows: usize,
) -> Result<(Bytes, Box<ColumnCloseResult>), ParquetError> {
    let mut compressor = PageCompressor::new(codec)?;
    let mut chunk = ChunkWriter::new(codec, 0);
    let mut dictionary = u32::try_from(text.len())?.to_le_bytes().to_vec();
    dictionary.extend_from_slice(text.as_bytes());
    let page = Page::DictionaryPage {
        buf: compressor.compress(&dictionary)?,
        num_values: 1,
        encoding: Encoding::PLAIN,
        is_sorted: false,
    };
    let mut uncompressed = dictionary.len();
    chunk.dictionary(page, dictionary.len())?;

    let bounds = bounds(text);
    let mut said = ColumnIndexBuilder::new(column.physical_type());
    for first in (0..rows).step_by(PAGE_ROWS) {
        let rows = PAGE_ROWS.min(rows - first);
        let mut levels = Vec::new();
        hybrid::encode(&vec![1; rows], 1, &mut levels);
        let mut bytes = u32::try_from(levels.len())?.to_le_bytes().to_vec();
        bytes.extend_from_slice(&levels);
        bytes.push(hybrid::width_for(1));
        hybrid::encode(&vec![0; rows], hybrid::width_for(1), &mut bytes);
        let page = Page::DataPage {
            buf: compressor.compress(&bytes)?,
            num_values: u32::try_from(rows)?,
            encoding: Encoding::RLE_DICTIONARY,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        chunk.page(CompressedPage::new(page, bytes.len()), rows)?;
        uncompressed += bytes.len();
        if let Some(bounds) = &bounds {
            said.append(false, bounds.min.value.clone(), bounds.max.value.clone(), 0);
        }
    }
    let pages = i32::try_from(rows.div_ceil(PAGE_ROWS))?;
    let encoded = |page_type, encoding, count| PageEncodingStats { page_type, encoding, count };
    let mut described = ColumnChunkMetaData::builder(column.clone())
        .set_encodings(vec![Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY])
        .set_page_encoding_stats(vec![
            encoded(PageType::DICTIONARY_PAGE, Encoding::PLAIN, 1),
            encoded(PageType::DATA_PAGE, Encoding::RLE_DICTIONARY, pages),
        ])
        // Ignores a few bytes of headers.
        .set_total_uncompressed_size(i64::try_from(uncompressed)?);
    if let Some(statistics) = bounds.as_ref().and_then(|bounds| Bounds::statistics(Some(bounds), &column, 0))
    {
        described = described.set_statistics(statistics);
    }
    chunk.finish(described, bounds.is_some().then_some(said))
}

/// Returns the bounds of the string, truncated as other writers do. Returns `None` if it cannot be truncated
/// in a simple way.
fn bounds(text: &str) -> Option<Bounds> {
    let bytes = text.as_bytes();
    if bytes.len() <= LONGEST {
        return Some(Bounds { min: Bound::exact(bytes.to_vec()), max: Bound::exact(bytes.to_vec()) });
    }
    let min = bytes[..LONGEST].to_vec();
    let mut max = min.clone();
    // The greatest string with this prefix is less than the next prefix.
    let last = max.last_mut().filter(|last| **last < 0x7F && min.is_ascii())?;
    *last += 1;
    let truncated = |value| Bound { value, is_exact: false };
    Some(Bounds { min: truncated(min), max: truncated(max) })
}
