//! A column chunk with one text in every row.

use bytes::Bytes;
use parquet::{
    basic::{Compression, Encoding, PageType},
    column::{
        page::{CompressedPage, Page, PageWriter},
        writer::ColumnCloseResult,
    },
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder, PageEncodingStats},
        writer::{SerializedPageWriter, TrackedWrite},
    },
    schema::types::ColumnDescPtr,
};

use super::{
    bounds::{Bounds, LONGEST},
    hybrid,
};

/// The rows of a page, as other columns have them.
const PAGE_ROWS: usize = 20_000;

/// The chunk of an optional column of texts, compressed by Snappy: a dictionary of one value, and runs of its place.
pub(super) fn constant(
    column: ColumnDescPtr,
    text: &str,
    rows: usize,
) -> Result<(Bytes, Box<ColumnCloseResult>), ParquetError> {
    let mut compressor = snap::raw::Encoder::new();
    let mut compressed = |bytes: &[u8]| {
        let compressed =
            compressor.compress_vec(bytes).map_err(|cause| ParquetError::External(Box::new(cause)));
        compressed.map(Bytes::from)
    };
    let mut out = TrackedWrite::new(Vec::new());
    let mut dictionary = u32::try_from(text.len())?.to_le_bytes().to_vec();
    dictionary.extend_from_slice(text.as_bytes());
    let page = Page::DictionaryPage {
        buf: compressed(&dictionary)?,
        num_values: 1,
        encoding: Encoding::PLAIN,
        is_sorted: false,
    };
    let mut uncompressed = dictionary.len();
    SerializedPageWriter::new(&mut out).write_page(CompressedPage::new(page, dictionary.len()))?;

    let first_page = out.bytes_written();
    let bounds = bounds(text);
    let mut offsets = OffsetIndexBuilder::new();
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
            buf: compressed(&bytes)?,
            num_values: u32::try_from(rows)?,
            encoding: Encoding::RLE_DICTIONARY,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let begin = out.bytes_written();
        SerializedPageWriter::new(&mut out).write_page(CompressedPage::new(page, bytes.len()))?;
        uncompressed += bytes.len();
        offsets.append_offset_and_size(i64::try_from(begin)?, i32::try_from(out.bytes_written() - begin)?);
        offsets.append_row_count(i64::try_from(rows)?);
        if let Some(bounds) = &bounds {
            said.append(false, bounds.min.clone(), bounds.max.clone(), 0);
        }
    }
    let bytes = Bytes::from(out.into_inner()?);
    let pages = rows.div_ceil(PAGE_ROWS);
    let encoded = |page_type, encoding, count| PageEncodingStats { page_type, encoding, count };
    let mut described = ColumnChunkMetaData::builder(column.clone())
        .set_compression(Compression::SNAPPY)
        .set_encodings(vec![Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY])
        .set_page_encoding_stats(vec![
            encoded(PageType::DICTIONARY_PAGE, Encoding::PLAIN, 1),
            encoded(PageType::DATA_PAGE, Encoding::RLE_DICTIONARY, i32::try_from(pages)?),
        ])
        .set_num_values(i64::try_from(rows)?)
        .set_total_compressed_size(i64::try_from(bytes.len())?)
        // But for some bytes of headers.
        .set_total_uncompressed_size(i64::try_from(uncompressed)?)
        .set_data_page_offset(i64::try_from(first_page)?)
        .set_dictionary_page_offset(Some(0));
    if let Some(statistics) = bounds.as_ref().and_then(|bounds| Bounds::statistics(Some(bounds), &column, 0))
    {
        described = described.set_statistics(statistics);
    }
    let close = ColumnCloseResult {
        bytes_written: bytes.len() as u64,
        rows_written: rows as u64,
        metadata: described.build()?,
        bloom_filter: None,
        column_index: bounds.is_some().then(|| said.build()).transpose()?,
        offset_index: Some(offsets.build()),
    };
    Ok((bytes, Box::new(close)))
}

/// The bounds of the text, cut as writers cut them; `None` if it is not one that is cut easily.
fn bounds(text: &str) -> Option<Bounds> {
    let bytes = text.as_bytes();
    if bytes.len() <= LONGEST {
        return Some(Bounds { min: bytes.to_vec(), max: bytes.to_vec() });
    }
    let min = bytes[..LONGEST].to_vec();
    let mut max = min.clone();
    // The greatest text with this beginning comes before the next beginning.
    let last = max.last_mut().filter(|last| **last < 0x7F && min.is_ascii())?;
    *last += 1;
    Some(Bounds { min, max })
}
