//! Compares patched column chunks with the same rows encoded from scratch.

use arrow::{
    array::{
        Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int32Array,
        Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
    },
    compute::{concat, interleave, take},
    datatypes::{DataType, Field, Schema},
};
use object_store::{ObjectStoreExt, memory::InMemory};
use parquet::{
    arrow::ArrowWriter,
    basic::{GzipLevel, ZstdLevel},
    file::{
        metadata::{ColumnChunkMetaData, ParquetMetaData},
        properties::WriterProperties,
    },
};

use super::*;
use crate::{
    context::TableOptions,
    patched_upload::CommonChunks,
    write::files::{
        base_file::{BaseFileWriter, Keys, KnownKeys, MetaColumns},
        chunk::Chunk,
    },
};

const ROWS: usize = 41_000;

/// Columns of most types: with few values, many values, long values, zeros of both signs, and NaN, with or
/// without nulls.
fn rows(rng: &mut fastrand::Rng, count: usize, nulls: bool, spread: u32) -> Vec<ArrayRef> {
    let null = move |rng: &mut fastrand::Rng| nulls && rng.u8(..8) == 0;
    let draw = |rng: &mut fastrand::Rng| (!null(rng)).then(|| rng.u32(..spread));
    let mut drawn = || -> Vec<Option<u32>> { (0..count).map(|_| draw(rng)).collect() };
    let text = |value: Option<u32>| value.map(|value| format!("text {value} of {spread}"));
    let double = |value: Option<u32>| {
        value.map(|value| match value % 7 {
            0 => 0.0,
            1 => -0.0,
            _ => f64::from(value) - 5_000.0,
        })
    };
    let with_nan = |value: Option<u32>| if value == Some(2) { Some(f64::NAN) } else { double(value) };
    vec![
        Arc::new(Int64Array::from_iter(drawn().into_iter().map(|value| value.map(i64::from)))),
        Arc::new(Int32Array::from_iter(
            drawn().into_iter().map(|value| value.map(|value| value as i32 % 5 - 2)),
        )),
        Arc::new(StringArray::from_iter(drawn().into_iter().map(text))),
        Arc::new(StringArray::from_iter(
            drawn().into_iter().map(|value| value.map(|value| ["a", "", "ß"][value as usize % 3])),
        )),
        Arc::new(Float64Array::from_iter(drawn().into_iter().map(double))),
        Arc::new(Float32Array::from_iter(
            drawn().into_iter().map(|value| value.map(|value| value as f32 / 3.0)),
        )),
        Arc::new(BooleanArray::from_iter(drawn().into_iter().map(|value| value.map(|value| value % 2 == 0)))),
        Arc::new(Date32Array::from_iter(
            drawn().into_iter().map(|value| value.map(|value| value as i32 % 3_000)),
        )),
        Arc::new(
            TimestampMicrosecondArray::from_iter(drawn().into_iter().map(|value| value.map(i64::from)))
                .with_timezone("UTC"),
        ),
        Arc::new(
            Decimal128Array::from_iter(
                drawn().into_iter().map(|value| value.map(|value| i128::from(value) - 500)),
            )
            .with_precision_and_scale(15, 2)
            .unwrap(),
        ),
        Arc::new(Float64Array::from_iter(drawn().into_iter().map(with_nan).chain([Some(f64::NAN)]).skip(1))),
    ]
}

fn format(columns: &[ArrayRef]) -> Arc<FileFormat> {
    format_of(columns, Compression::SNAPPY)
}

fn format_of(columns: &[ArrayRef], codec: Compression) -> Arc<FileFormat> {
    let field = |(number, column): (usize, &ArrayRef)| {
        Field::new(format!("c{number}"), column.data_type().clone(), true)
    };
    let schema = Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>());
    let avro = crate::schema::to_avro(&schema, "t").unwrap();
    let key = ["none".to_owned()];
    Arc::new(FileFormat::new("t", &schema, &avro, &key, false, codec, &TableOptions::new()).unwrap())
}

fn meta(rows: usize) -> MetaColumns {
    let same =
        |text: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows))) };
    MetaColumns {
        commit_time: same("20260101000000000"),
        commit_seqno: same("number"),
        record_key: StringArray::from_iter_values((0..rows).map(|row| row.to_string())),
        partition_path: same(""),
    }
}

/// Encodes a file with these rows in one row group.
async fn encoded(format: &Arc<FileFormat>, columns: &[ArrayRef]) -> OpenFile {
    let count = columns[0].len();
    let mut bytes = Vec::new();
    let mut writer = writer(format, &mut bytes, "name", count, None);
    writer.write(Keys::New, meta(count), columns).unwrap();
    writer.finish().unwrap();
    open(bytes).await
}

fn writer<'a>(
    format: &Arc<FileFormat>,
    out: &'a mut Vec<u8>,
    name: &str,
    rows: usize,
    old: Option<&OpenFile>,
) -> BaseFileWriter<&'a mut Vec<u8>> {
    let (known, common) = (KnownKeys::default(), CommonChunks::default());
    let properties = format.writer_properties(old, &[]);
    BaseFileWriter::new(format.clone(), out, name, rows as u64, properties, known, common).unwrap()
}

async fn open(bytes: Vec<u8>) -> OpenFile {
    let store = InMemory::new();
    store.put(&"file".into(), bytes.into()).await.unwrap();
    OpenFile::open(&store, &"file".into()).await.unwrap()
}

/// Returns the file with its rows replaced, and the data columns that were patched.
async fn patched(
    file: &OpenFile,
    format: &Arc<FileFormat>,
    rows: &[usize],
    new: &[ArrayRef],
) -> (OpenFile, Vec<bool>) {
    let mut columns: Vec<Option<ArrayRef>> = vec![None; format.columns()];
    for (column, values) in columns[5..].iter_mut().zip(new) {
        *column = Some(values.clone());
    }
    let new = NewValues::new(format, &columns, rows.len()).unwrap();
    let mut bytes = Vec::new();
    let mut writer = writer(format, &mut bytes, "name", ROWS, Some(file));
    let mut is_patched = Vec::new();
    let stored = |leaf| Chunk::Stored(file.source().clone(), Box::new(file.chunk(0, leaf)));
    let mut chunks: Vec<Chunk> = (0..5).map(stored).collect();
    for leaf in 5..format.columns() {
        let patch = patch(file, 0, leaf, rows, &new, leaf, format.codec());
        is_patched.push(patch.is_some());
        chunks.push(match patch {
            Some(PatchedChunk::Changed(bytes, close)) => Chunk::Stored(Source::Memory(bytes), close),
            Some(PatchedChunk::Unchanged) | None => stored(leaf),
        });
    }
    writer.add_group(chunks, ROWS as u64).unwrap();
    writer.finish().unwrap();
    (open(bytes).await, is_patched)
}

fn column(file: &OpenFile, name: &str) -> ArrayRef {
    let batches =
        file.read(&|column| column == name, None).unwrap().collect::<Result<Vec<RecordBatch>>>().unwrap();
    let parts: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(0).as_ref()).collect();
    concat(&parts).unwrap()
}

/// Returns the statistics of a column: those of the chunk, and those of each page with its first row.
fn said(
    metadata: &ParquetMetaData,
    leaf: usize,
) -> (Option<parquet::file::statistics::Statistics>, Vec<String>) {
    let chunk: &ColumnChunkMetaData = metadata.row_group(0).column(leaf);
    let index = &metadata.column_index().unwrap()[0][leaf];
    let offsets = &metadata.offset_index().unwrap()[0][leaf];
    let page = |(number, location): (usize, &PageLocation)| {
        let nulls = index.null_count(number);
        format!("{} {nulls:?} {:?}", location.first_row_index, Bounds::of_page(index, number))
    };
    (chunk.statistics().cloned(), offsets.page_locations.iter().enumerate().map(page).collect())
}

#[rstest::rstest]
#[tokio::test]
async fn patched_chunks_hold_the_rows_and_say_of_them_what_encoded_ones_do(
    #[values(
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
        Compression::UNCOMPRESSED
    )]
    codec: Compression,
) {
    let mut compared = 0;
    // In unoptimized builds, other codecs are slow.
    let seeds = if codec == Compression::SNAPPY { 0..6 } else { 1..3 };
    let enough = 4 * (seeds.end - seeds.start);
    for seed in seeds {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let (nulls, spread) = (seed % 2 == 1, [9, 400, 1_000_000][seed as usize % 3]);
        let old = rows(rng, ROWS, nulls, spread);
        let format = format_of(&old, codec);
        let file = encoded(&format, &old).await;
        let mut at: Vec<usize> = (0..rng.usize(1..300)).map(|_| rng.usize(..ROWS)).collect();
        at.sort_unstable();
        at.dedup();
        // Nulls and values appear and disappear. In every third run, some columns keep their values.
        let fresh = rows(rng, at.len(), seed % 4 > 1, spread + spread / 9);
        let places = UInt32Array::from_iter_values(at.iter().map(|row| *row as u32));
        let fresh: Vec<ArrayRef> = fresh
            .into_iter()
            .zip(&old)
            .enumerate()
            .map(|(number, (fresh, old))| match seed % 3 == 0 && number % 2 == 0 {
                true => take(old, &places, None).unwrap(),
                false => fresh,
            })
            .collect();

        let (file, is_patched) = patched(&file, &format, &at, &fresh).await;
        let wanted: Vec<ArrayRef> = old
            .iter()
            .zip(&fresh)
            .map(|(old, fresh)| {
                let mut from: Vec<(usize, usize)> = (0..ROWS).map(|row| (0, row)).collect();
                for (number, row) in at.iter().enumerate() {
                    from[*row] = (1, number);
                }
                interleave(&[old.as_ref(), fresh.as_ref()], &from).unwrap()
            })
            .collect();
        let again = encoded(&format, &wanted).await;
        for (number, wanted) in wanted.iter().enumerate() {
            let case = format!("seed {seed}, column {number}");
            if wanted.data_type() == &DataType::Boolean || has_nan(wanted) {
                assert!(!is_patched[number], "{case}");
                continue;
            }
            assert!(is_patched[number], "{case}");
            assert!(is_same(file.chunk(0, 5 + number).metadata.compression(), codec), "{case}");
            let name = format!("c{number}");
            assert_eq!(format!("{:?}", column(&file, &name)), format!("{wanted:?}"), "{case}");
            assert_eq!(&column(&file, &name), wanted, "{case}");
            let (patched, encoded) =
                (said(file.footer().metadata(), 5 + number), said(again.footer().metadata(), 5 + number));
            assert_eq!(patched.0, encoded.0, "{case}");
            // With nulls, the pages of a new file may start at other rows.
            let firsts = |pages: &[String]| -> Vec<String> {
                pages.iter().map(|page| page.split(' ').next().unwrap().to_owned()).collect()
            };
            if firsts(&patched.1) == firsts(&encoded.1) {
                assert_eq!(patched.1, encoded.1, "{case}");
                compared += 1;
            }
        }
    }
    assert!(compared > enough, "{compared}");
}

#[tokio::test]
async fn a_chunk_whose_new_values_are_the_stored_ones_stays_and_pages_without_changed_rows_are_copied() {
    let rng = &mut fastrand::Rng::with_seed(5);
    let old = rows(rng, ROWS, false, 1_000_000);
    let format = format(&old);
    let file = encoded(&format, &old).await;
    let at = [3, 7, 19_999];
    let mut columns: Vec<Option<ArrayRef>> = vec![None; format.columns()];
    let same = UInt32Array::from_iter_values(at.iter().map(|row| *row as u32));
    columns[5] = Some(take(&old[0], &same, None).unwrap());
    columns[7] = Some(Arc::new(StringArray::from(vec!["x", "y", "z"])));
    let new = NewValues::new(&format, &columns, at.len()).unwrap();
    assert!(matches!(patch(&file, 0, 5, &at, &new, 5, format.codec()), Some(PatchedChunk::Unchanged)));
    let Some(PatchedChunk::Changed(bytes, close)) = patch(&file, 0, 7, &at, &new, 7, format.codec()) else {
        panic!("changed")
    };
    let (stored, offsets) = (file.chunk(0, 7), close.offset_index.unwrap());
    let pages = |locations: &[PageLocation], all: &dyn Fn(u64, usize) -> Bytes| -> Vec<Bytes> {
        let page = |page: &PageLocation| all(page.offset as u64, page.compressed_page_size as usize);
        locations.iter().map(page).collect()
    };
    let before = pages(&stored.offset_index.unwrap().page_locations, &|at, length| {
        file.source().get_bytes(at, length).unwrap()
    });
    let after = pages(&offsets.page_locations, &|at, length| bytes.slice(at as usize..at as usize + length));
    assert_eq!(before.len(), after.len());
    let differ: Vec<bool> = before.iter().zip(&after).map(|(before, after)| before != after).collect();
    assert!(differ.len() > 1 && differ[0] && !differ[1..].contains(&true), "{differ:?}");
}

#[tokio::test]
async fn a_chunk_with_another_codec_than_the_new_file_is_encoded() {
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(0..100))];
    let (stored, format) = (format(&columns), format_of(&columns, Compression::GZIP(GzipLevel::default())));
    let file = encoded(&stored, &columns).await;
    let mut values: Vec<Option<ArrayRef>> = vec![None; format.columns()];
    values[5] = Some(Arc::new(Int64Array::from(vec![7])));
    let new = NewValues::new(&format, &values, 1).unwrap();
    assert!(patch(&file, 0, 5, &[3], &new, 5, format.codec()).is_none());
    assert!(patch(&file, 0, 5, &[3], &new, 5, stored.codec()).is_some());
}

#[tokio::test]
async fn a_constant_chunk_is_what_encoding_the_text_row_by_row_gives() {
    for (name, rows) in [("a name of usual length.parquet", ROWS), (&"0123456789".repeat(8), 20_000), ("", 1)]
    {
        let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![1; rows]))];
        let format = format(&columns);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let mut encoded = writer(&format, &mut first, name, rows, None);
        encoded.write(Keys::New, meta(rows), &columns).unwrap();
        encoded.finish().unwrap();
        let encoded = open(first).await;
        let stored = |leaf| Chunk::Stored(encoded.source().clone(), Box::new(encoded.chunk(0, leaf)));
        let (bytes, close) = constant(&format, 4, name, rows).unwrap();
        let mut chunks: Vec<Chunk> = (0..4).map(stored).collect();
        chunks.extend([Chunk::Stored(Source::Memory(bytes), close), stored(5)]);
        let mut again = writer(&format, &mut second, name, rows, Some(&encoded));
        again.add_group(chunks, rows as u64).unwrap();
        again.finish().unwrap();
        let again = open(second).await;
        let column_name = crate::schema::META_COLUMNS[4];
        assert!(column(&again, column_name) == column(&encoded, column_name), "{name}");
        let (ours, theirs) = (said(again.footer().metadata(), 4), said(encoded.footer().metadata(), 4));
        assert_eq!((ours.0, ours.1), (theirs.0, theirs.1), "{name}");
        let (ours, theirs) = (again.chunk(0, 4).metadata, encoded.chunk(0, 4).metadata);
        assert_eq!(ours.encodings_mask(), theirs.encodings_mask());
        assert_eq!(ours.page_encoding_stats(), theirs.page_encoding_stats());
    }
}

/// Encodes strings like another writer: in pages of 3 rows, with bounds truncated to `length` bytes.
async fn truncated(texts: &[String], length: usize) -> OpenFile {
    let column: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
    let batch = RecordBatch::try_from_iter_with_nullable([("c0", column, true)]).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_data_page_row_count_limit(3)
        .set_write_batch_size(3)
        .set_column_index_truncate_length(Some(length))
        .set_statistics_truncate_length(Some(length))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    open(writer.into_inner().unwrap()).await
}

/// Queries use a bound that is declared exact as the minimum or the maximum.
#[rstest::rstest]
// The longest prefix that has a next valid string has 1 byte.
#[case::shortened_max(64, &["b", "c", &format!("a{}", "\u{10FFFF}".repeat(20))], 0, "ab")]
#[case::short_bounds(8, &["more than 8", "n", "zzzz zzzz zzzz"], 1, "nn")]
// The bound of the second page is the prefix of a longer string.
#[case::only_page_with_the_min(4, &["aaaa", "b", "c", "aaaa and more", "b", "c"], 0, "b")]
#[case::only_page_with_the_max(4, &["b", "c", "zzzz", "b", "c", "zzzyx"], 2, "b")]
#[case::kept(64, &["a", "b", "c", "a", "b", "c"], 1, "c")]
#[case::extended(8, &["a text of more", "b", "c"], 2, "A")]
#[tokio::test]
async fn a_bound_is_declared_exact_only_if_it_is_one_of_the_values(
    #[case] length: usize,
    #[case] texts: &[&str],
    #[case] row: usize,
    #[case] new: &str,
) {
    let mut texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    let stored = truncated(&texts, length).await;
    let column: ArrayRef = Arc::new(StringArray::from(vec![new]));
    let format = format(std::slice::from_ref(&column));
    let mut columns: Vec<Option<ArrayRef>> = vec![None; format.columns()];
    columns[5] = Some(column);
    let values = NewValues::new(&format, &columns, 1).unwrap();
    let Some(PatchedChunk::Changed(_, close)) = patch(&stored, 0, 0, &[row], &values, 5, format.codec())
    else {
        panic!("changed")
    };
    texts[row] = new.to_owned();
    let statistics = close.metadata.statistics().unwrap();
    let (min, max) = (statistics.min_bytes_opt().unwrap(), statistics.max_bytes_opt().unwrap());
    let (least, greatest) = (texts.iter().min().unwrap(), texts.iter().max().unwrap());
    assert!(min <= least.as_bytes() && max >= greatest.as_bytes());
    assert!(!statistics.min_is_exact() || min == least.as_bytes(), "{:?}", String::from_utf8_lossy(min));
    assert!(!statistics.max_is_exact() || max == greatest.as_bytes(), "{:?}", String::from_utf8_lossy(max));
    if length == 64 && greatest.len() < 64 {
        assert!(statistics.min_is_exact() && statistics.max_is_exact());
    }
}
