//! Encodes a base file like Spark's writer: v1 pages, dictionaries, statistics, the five meta columns,
//! decimals as fixed-length bytes, and a footer with key range and bloom filter.

use std::{
    io::{Repeat, Write},
    ops::Range,
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, DictionaryArray, Int32Array, StringArray},
    compute::{max_string, min_string},
    datatypes::{DataType, Field, FieldRef, Int32Type, Schema, SchemaRef},
};
use bytes::Bytes;
use parquet::{
    arrow::{
        ArrowSchemaConverter,
        arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves},
    },
    basic::{Compression, Type as PhysicalType},
    errors::ParquetError,
    file::{
        metadata::{KeyValue, ParquetMetaData},
        properties::{EnabledStatistics, WriterProperties},
        reader::{ChunkReader, Length},
        writer::SerializedFileWriter,
    },
    schema::types::{ColumnDescPtr, ColumnPath, SchemaDescriptor, Type, TypePtr},
};

use super::{
    arranged::Arrangement,
    chunk::Chunk,
    nan::{forget_bounds, has_nan},
};
use crate::{
    Error, ErrorKind, Result,
    base_file::{FOOTER_BUSINESS_KEYS, FOOTER_MAX_KEY, FOOTER_MIN_KEY, Footer, OpenFile, Source, java_order},
    bloom::{BloomFilter, FOOTER_BLOOM_FILTER, FOOTER_BLOOM_FILTER_TYPE},
    context::TableOptions,
    patched_upload::CommonChunks,
    schema,
};

const FOOTER_AVRO_SCHEMA: &str = "parquet.avro.schema";
const FOOTER_MODEL: &str = "writer.model.name";
/// Number of rows after which it is decided if a dictionary is worthwhile.
const DICTIONARY_TRIAL_ROWS: i64 = 32 * 1024;
/// Minimum number of keys for which a bloom filter is sized.
const LEAST_BLOOM_ENTRIES: u64 = 1_000;
/// The number of bits of Hudi's default filter: 60,000 keys with a false positive probability of 1e-9.
const HUDI_BLOOM_BITS: f64 = 2_587_966.0;
/// Maximum false positive probability of a filter. At this probability, a filter has 9.8 bits for each key
/// that it has room for. A new file fills four fifths of its filter, which gives 12.2 bits for each key and a
/// probability of 0.003.
const MAX_BLOOM_FPP: f64 = 0.0092;

/// Maximum number of rows in a row group. A row group also ends at [`GROUP_BYTES`].
const GROUP_ROWS: usize = 128 * 1024;
/// Maximum size of a row group in bytes.
const GROUP_BYTES: usize = 32 * 1024 * 1024;

/// Properties that all files of a commit share.
#[derive(Debug)]
pub(crate) struct FileFormat {
    /// Meta and data columns as Arrow types.
    schema: SchemaRef,
    parquet: SchemaDescriptor,
    /// The leaf columns of each column in the Parquet schema.
    leaves: Vec<Range<usize>>,
    avro: String,
    codec: Compression,
    page_patching: bool,
    /// Columns that contain no value twice.
    unique: Vec<String>,
    /// In a history, the column that follows the business key in the record key.
    after_business_key: Option<String>,
    bloom_entries: Option<u32>,
    bloom_fpp: f64,
    bloom_max_entries: u32,
}

impl FileFormat {
    /// With `is_history`, the bloom filter also contains the business keys.
    pub(crate) fn new(
        table_name: &str,
        data: &Schema,
        avro: &str,
        record_key: &[String],
        is_history: bool,
        codec: Compression,
        options: &TableOptions,
    ) -> Result<Self> {
        let stored = schema::with_meta_columns(data);
        let avro = schema::avro_with_meta_columns(avro, table_name)?;
        let name = schema::sanitize_name(table_name);
        let parquet =
            parquet_schema(&stored, &format!("hoodie.{name}.{name}_record")).map_err(unsupported)?;
        // The file name is the same in every row, so it is passed as a single value.
        let one_value = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let fields: Vec<FieldRef> = stored
            .fields()
            .iter()
            .map(|field| match field.name() == schema::META_COLUMNS[4] {
                true => Arc::new(Field::new(field.name(), one_value.clone(), true)),
                false => field.clone(),
            })
            .collect();
        let mut unique = vec![schema::META_COLUMNS[1].to_owned(), schema::META_COLUMNS[2].to_owned()];
        if let [key] = record_key {
            unique.push(key.clone());
        }
        Ok(Self {
            leaves: leaf_ranges(&parquet, fields.len()),
            schema: Arc::new(Schema::new(fields)),
            parquet,
            avro,
            codec,
            page_patching: options.page_patching,
            unique,
            after_business_key: record_key.last().filter(|_| is_history).cloned(),
            bloom_entries: options.bloom_entries,
            bloom_fpp: options.bloom_fpp,
            bloom_max_entries: options.bloom_max_entries,
        })
    }

    /// Returns the number of meta and data columns.
    pub(crate) fn columns(&self) -> usize {
        self.leaves.len()
    }

    /// Returns the leaf columns of a column.
    pub(crate) fn leaves(&self, column: usize) -> Range<usize> {
        self.leaves[column].clone()
    }

    pub(crate) fn leaf(&self, leaf: usize) -> ColumnDescPtr {
        self.parquet.column(leaf)
    }

    /// Returns a column's Arrow field.
    pub(crate) fn field(&self, column: usize) -> &Field {
        self.schema.field(column)
    }

    /// Returns `true` if a column of a stored file has the same leaf columns as in this format.
    pub(crate) fn takes_as_is(&self, column: usize, file: &OpenFile, leaves: &[usize]) -> bool {
        let stored = file.footer().metadata().file_metadata().schema_descr();
        let range = self.leaves[column].clone();
        range.len() == leaves.len()
            && range.zip(leaves).all(|(here, there)| self.parquet.column(here) == stored.column(*there))
    }

    /// Returns `true` if the filter of a stored file contains the same kinds of keys as in this format.
    pub(crate) fn takes_filter(&self, footer: &Footer) -> bool {
        let wanted = self.after_business_key.as_deref();
        wanted.is_none() || wanted == footer.entry(FOOTER_BUSINESS_KEYS)
    }

    /// Returns `true` if pages may be patched.
    pub(crate) fn is_patchable(&self) -> bool {
        self.page_patching
    }

    /// Returns the compression of pages.
    pub(crate) fn codec(&self) -> Compression {
        self.codec
    }

    /// Encodes rows as a separate Parquet file, with plain, uncompressed values.
    pub(crate) fn plain(&self, columns: &[ArrayRef]) -> Result<Bytes> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::UNCOMPRESSED)
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_offset_index_disabled(true)
            .build();
        let written =
            SerializedFileWriter::new(Vec::new(), self.parquet.root_schema_ptr(), properties.into())
                .and_then(|mut file| {
                    let groups = ArrowRowGroupWriterFactory::new(&file, self.schema.clone());
                    let mut writers = groups.create_column_writers(0)?.into_iter();
                    let mut group = file.next_row_group()?;
                    for (field, values) in self.schema.fields().iter().zip(columns) {
                        for leaf in compute_leaves(field, values)? {
                            let Some(mut writer) = writers.next() else { break };
                            writer.write(&leaf)?;
                            writer.close()?.append_to_row_group(&mut group)?;
                        }
                    }
                    group.close()?;
                    file.into_inner()
                });
        written.map(Bytes::from).map_err(unsupported)
    }

    /// Returns the properties of the next version of `old`, or of a new file. `plain` contains the columns to
    /// encode without a dictionary.
    pub(crate) fn writer_properties(&self, old: Option<&OpenFile>, plain: &[usize]) -> WriterProperties {
        let mut properties = WriterProperties::builder()
            .set_compression(self.codec)
            .set_key_value_metadata(Some(vec![
                entry(FOOTER_AVRO_SCHEMA, self.avro.clone()),
                entry(FOOTER_MODEL, "avro".to_owned()),
            ]))
            // A file has page offsets for all of its column chunks or for none.
            .set_offset_index_disabled(old.is_some_and(|old| !old.has_offset_index()));
        for (number, (column, leaves)) in self.schema.fields().iter().zip(&self.leaves).enumerate() {
            for leaf in leaves.clone() {
                let path = self.parquet.column(leaf).path().clone();
                if self.unique.contains(column.name())
                    || plain.contains(&number)
                    || old.is_some_and(|old| dictionary_was_vain(old, &path))
                {
                    properties = properties.set_column_dictionary_enabled(path, false);
                }
            }
        }
        properties.build()
    }
}

/// Returns `true` if a column of the stored file has no dictionary, or a dictionary that takes most of the
/// column. The next version then does not try a dictionary.
fn dictionary_was_vain(old: &OpenFile, path: &ColumnPath) -> bool {
    let groups = old.footer().metadata().row_groups();
    // The largest group is used, because a few rows give a poor estimate.
    let Some(group) = groups.iter().max_by_key(|group| group.num_rows()) else { return false };
    let Some(chunk) = group.columns().iter().find(|chunk| chunk.column_path() == path) else { return false };
    match chunk.dictionary_page_offset() {
        _ if group.num_rows() < DICTIONARY_TRIAL_ROWS => false,
        Some(dictionary) => 2 * (chunk.data_page_offset() - dictionary) > chunk.compressed_size(),
        None => true,
    }
}

fn leaf_ranges(parquet: &SchemaDescriptor, columns: usize) -> Vec<Range<usize>> {
    let mut ranges = vec![0..0; columns];
    for leaf in 0..parquet.num_columns() {
        let range = &mut ranges[parquet.get_column_root_idx(leaf)];
        *range = if range.end == 0 { leaf..leaf + 1 } else { range.start..leaf + 1 };
    }
    ranges
}

/// A base file that is being written.
pub(crate) struct BaseFileWriter<W: Write + Send> {
    format: Arc<FileFormat>,
    file: SerializedFileWriter<W>,
    groups: ArrowRowGroupWriterFactory,
    /// The row group to which rows are being added.
    open: Option<OpenGroup>,
    name: Arc<StringArray>,
    keys: FileKeys,
    rows: u64,
    /// The chunks whose bytes the storage copies from the previous version.
    common: CommonChunks,
    arrangement: Arrangement,
}

struct OpenGroup {
    columns: Vec<ArrowColumnWriter>,
    /// The leaf columns that may contain a NaN.
    nan: Vec<bool>,
    rows: usize,
}

/// Known properties of the previous version's keys, which need not be computed again.
#[derive(Debug, Default)]
pub(crate) struct KnownKeys {
    pub(crate) bloom: Option<BloomFilter>,
    /// The number of additional keys.
    pub(crate) new: u64,
    /// The key range. Set only if no row is removed. A range that is too wide would only cost additional
    /// reads, but it would never shrink.
    pub(crate) range: Option<(String, String)>,
}

/// The origin of written rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// From the previous version. The keys are the same, though the rows may have changed.
    Stored,
    /// The keys are new in this file.
    New,
}

/// The meta columns of some rows, except the name of the file.
pub(crate) struct MetaColumns {
    pub(crate) commit_time: ArrayRef,
    pub(crate) commit_seqno: ArrayRef,
    pub(crate) record_key: StringArray,
    pub(crate) partition_path: ArrayRef,
}

/// Placeholders for the bytes of a chunk that the storage copies.
struct Unread;

impl Length for Unread {
    fn len(&self) -> u64 {
        u64::MAX
    }
}

impl ChunkReader for Unread {
    type T = Repeat;

    fn get_read(&self, _: u64) -> Result<Repeat, ParquetError> {
        Ok(std::io::repeat(0))
    }

    fn get_bytes(&self, _: u64, length: usize) -> Result<Bytes, ParquetError> {
        Ok(vec![0; length].into())
    }
}

impl<W: Write + Send> BaseFileWriter<W> {
    /// Starts a file with `rows` rows and with [`FileFormat::writer_properties`].
    pub(crate) fn new(
        format: Arc<FileFormat>,
        out: W,
        name: &str,
        rows: u64,
        properties: WriterProperties,
        known: KnownKeys,
        common: CommonChunks,
    ) -> Result<Self> {
        let file = SerializedFileWriter::new(out, format.parquet.root_schema_ptr(), Arc::new(properties))
            .map_err(unsupported)?;
        let groups = ArrowRowGroupWriterFactory::new(&file, format.schema.clone());
        Ok(Self {
            keys: FileKeys::new(&format, rows, known),
            format,
            file,
            groups,
            open: None,
            name: Arc::new(StringArray::from(vec![name])),
            rows: 0,
            common,
            arrangement: Arrangement::default(),
        })
    }

    /// Returns the number of rows written so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns the name of the file.
    pub(crate) fn name(&self) -> &str {
        self.name.value(0)
    }

    pub(crate) fn keys(&mut self) -> &mut FileKeys {
        &mut self.keys
    }

    /// Returns the column of file names for this number of rows.
    pub(crate) fn names(&self, rows: usize) -> ArrayRef {
        Arc::new(DictionaryArray::<Int32Type>::new(Int32Array::from(vec![0; rows]), self.name.clone()))
    }

    /// Adds rows. `data` contains the data columns.
    pub(crate) fn write(&mut self, keys: Keys, meta: MetaColumns, data: &[ArrayRef]) -> Result<()> {
        let rows = meta.record_key.len();
        self.keys.observe(keys, &meta.record_key);
        let names = self.names(rows);
        let meta: [ArrayRef; 5] =
            [meta.commit_time, meta.commit_seqno, Arc::new(meta.record_key), meta.partition_path, names];
        let mut group = match self.open.take() {
            Some(group) => group,
            None => {
                let columns = self.column_writers()?;
                OpenGroup { nan: vec![false; columns.len()], columns, rows: 0 }
            }
        };
        for (column, values) in meta.iter().chain(data).enumerate() {
            let leaves = compute_leaves(self.format.field(column), values).map_err(unsupported)?;
            for (leaf, writer) in leaves.iter().zip(&mut group.columns[self.format.leaves[column].clone()]) {
                writer.write(leaf).map_err(unsupported)?;
            }
            if has_nan(values) {
                group.nan[self.format.leaves[column].clone()].fill(true);
            }
        }
        group.rows += rows;
        self.rows += rows as u64;
        let bytes: usize = group.columns.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum();
        let is_full = group.rows >= GROUP_ROWS || bytes >= GROUP_BYTES;
        self.open = Some(group);
        if is_full { self.end_group() } else { Ok(()) }
    }

    /// Ends the current row group.
    pub(crate) fn end_group(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let chunks = open.columns.into_iter().zip(open.nan).map(|(column, nan)| encoded(column, nan));
        self.put_group(chunks.collect::<Result<_>>()?)
    }

    /// Returns one writer per leaf column, for a row group that is encoded elsewhere.
    pub(crate) fn column_writers(&self) -> Result<Vec<ArrowColumnWriter>> {
        self.groups.create_column_writers(self.file.flushed_row_groups().len()).map_err(unsupported)
    }

    /// Adds a whole row group of `rows` rows whose keys are known.
    pub(crate) fn add_group(&mut self, chunks: Vec<Chunk>, rows: u64) -> Result<()> {
        self.end_group()?;
        self.rows += rows;
        self.put_group(chunks)
    }

    fn put_group(&mut self, chunks: Vec<Chunk>) -> Result<()> {
        let mut at = self.file.bytes_written() as u64;
        if let Some(order) = self.arrangement.add(at, &chunks) {
            self.common.arrange(order);
        }
        let mut group = self.file.next_row_group().map_err(unsupported)?;
        for chunk in chunks {
            let bytes = chunk.bytes();
            match chunk {
                Chunk::Encoded(chunk) => chunk.append_to_row_group(&mut group),
                Chunk::Stored(Source::Sparse(_), close) => {
                    let (from, _) = close.metadata.byte_range();
                    self.common.note(at, from..from + bytes);
                    group.append_column(&Unread, *close)
                }
                Chunk::Stored(source, close) => group.append_column(&source, *close),
            }
            .map_err(unsupported)?;
            at += bytes;
        }
        group.close().map(drop).map_err(unsupported)
    }

    /// Ends the file with its footer. Returns the footer and the number of rows.
    pub(crate) fn finish(mut self) -> Result<(ParquetMetaData, u64)> {
        self.end_group()?;
        let entries = self.keys.footer();
        if self.arrangement.is_changed() {
            let footer = self.arrangement.finish(self.file, entries).map_err(unsupported)?;
            return Ok((footer, self.rows));
        }
        entries.into_iter().for_each(|entry| self.file.append_key_value_metadata(entry));
        let footer = self.file.close().map_err(unsupported)?;
        Ok((footer, self.rows))
    }
}

/// Encodes one column of a row group. `values` contains all of its rows, in batches.
pub(crate) fn encode_column(
    field: &Field,
    mut writers: Vec<ArrowColumnWriter>,
    values: impl Iterator<Item = Result<ArrayRef>>,
) -> Result<Vec<Chunk>> {
    let mut nan = false;
    for values in values {
        let values = values?;
        nan |= has_nan(&values);
        let leaves = compute_leaves(field, &values).map_err(unsupported)?;
        for (leaf, writer) in leaves.iter().zip(&mut writers) {
            writer.write(leaf).map_err(unsupported)?;
        }
    }
    writers.into_iter().map(|writer| encoded(writer, nan)).collect()
}

/// Returns the chunk of a writer. `nan` is `true` if its values include a NaN.
fn encoded(writer: ArrowColumnWriter, nan: bool) -> Result<Chunk> {
    let mut chunk = writer.close().map_err(unsupported)?;
    if nan {
        forget_bounds(&mut chunk);
    }
    Ok(Chunk::Encoded(Box::new(chunk)))
}

/// The footer entries of the record keys.
pub(crate) struct FileKeys {
    bloom: BloomFilter,
    after_business_key: Option<String>,
    /// `true` if the filter contained the keys of stored rows from the start.
    bloom_has_stored: bool,
    range: Option<(String, String)>,
    /// `true` if the range included the keys of stored rows from the start.
    range_has_stored: bool,
}

impl FileKeys {
    fn new(format: &FileFormat, rows: u64, known: KnownKeys) -> Self {
        // There are at most as many business keys as rows.
        let keys_per_row = 1 + u64::from(format.after_business_key.is_some());
        let (rows, new) = (rows * keys_per_row, known.new * keys_per_row);
        let (entries, fpp) = match format.bloom_entries {
            Some(entries) => (entries, format.bloom_fpp),
            None => bloom_size(rows, format.bloom_fpp),
        };
        let max_entries = format.bloom_max_entries.max(entries);
        let carried = known.bloom.filter(|filter| match format.bloom_entries {
            Some(_) => is_good_for(filter, entries, max_entries, rows, new),
            None => {
                is_good_for(filter, entries, max_entries, rows, new)
                    && filter.false_positives() <= MAX_BLOOM_FPP
            }
        });
        Self {
            bloom_has_stored: carried.is_some(),
            bloom: match carried {
                Some(filter) => filter.with_max_entries(max_entries),
                None => BloomFilter::dynamic(entries, fpp, max_entries),
            },
            range_has_stored: known.range.is_some(),
            range: known.range,
            after_business_key: format.after_business_key.clone(),
        }
    }

    /// Returns `true` if nothing has to be computed for the keys of stored rows.
    pub(crate) fn know_stored(&self) -> bool {
        self.bloom_has_stored && self.range_has_stored
    }

    pub(crate) fn observe(&mut self, keys: Keys, values: &StringArray) {
        if keys == Keys::New || !self.bloom_has_stored {
            for key in values.iter().flatten() {
                self.bloom.insert(key);
            }
            if let Some(column) = &self.after_business_key {
                let end = format!(",{column}:");
                let before = values.iter().flatten().filter_map(|key| Some(&key[..=key.rfind(&end)?]));
                for key in before {
                    if !self.bloom.contains(key) {
                        self.bloom.insert(key);
                    }
                }
            }
        }
        if keys == Keys::New || !self.range_has_stored {
            self.widen_range(values);
        }
    }

    fn widen_range(&mut self, keys: &StringArray) {
        // If all characters are ASCII, Java's order equals the order of bytes, for which Arrow has a kernel.
        let (min, max) = if keys.value_data().is_ascii() {
            (min_string(keys), max_string(keys))
        } else {
            let by_java = |left: &&str, right: &&str| java_order(left, right);
            (keys.iter().flatten().min_by(by_java), keys.iter().flatten().max_by(by_java))
        };
        let Some((min, max)) = min.zip(max) else { return };
        self.range = Some(match self.range.take() {
            None => (min.to_owned(), max.to_owned()),
            Some((known_min, known_max)) => (
                if java_order(min, &known_min).is_lt() { min.to_owned() } else { known_min },
                if java_order(max, &known_max).is_gt() { max.to_owned() } else { known_max },
            ),
        });
    }

    fn footer(&self) -> Vec<KeyValue> {
        let mut entries = vec![entry(FOOTER_BLOOM_FILTER, self.bloom.to_base64())];
        if let Some(code) = self.bloom.type_code() {
            entries.push(entry(FOOTER_BLOOM_FILTER_TYPE, code.to_owned()));
        }
        if let Some(column) = &self.after_business_key {
            entries.push(entry(FOOTER_BUSINESS_KEYS, column.clone()));
        }
        if let Some((min, max)) = &self.range {
            entries.push(entry(FOOTER_MIN_KEY, min.clone()));
            entries.push(entry(FOOTER_MAX_KEY, max.clone()));
        }
        entries
    }
}

/// Returns the number of keys for which the filter of a file is sized, and its false positive probability:
/// `least` if the filter then is no larger than Hudi's, and otherwise more. Java reads filters of any size,
/// because each filter records its own size.
fn bloom_size(rows: u64, least: f64) -> (u32, f64) {
    let entries = u32::try_from(rows + rows / 4).unwrap_or(u32::MAX).max(LEAST_BLOOM_ENTRIES as u32);
    let bits_per_key = HUDI_BLOOM_BITS / f64::from(entries);
    let fpp = (-bits_per_key * std::f64::consts::LN_2.powi(2)).exp();
    (entries, fpp.max(least).min(MAX_BLOOM_FPP.max(least)))
}

/// Returns `true` if the previous version's filter can be reused: it has room for the new keys, or a new
/// filter would have no room either; a lookup checks only few of its rows; and most of its keys still exist.
fn is_good_for(filter: &BloomFilter, entries: u32, max_entries: u32, rows: u64, new: u64) -> bool {
    const ROWS_ASKED: u32 = 4;
    let Some((per_row, keys)) = filter.fill() else { return false };
    let room = keys.div_ceil(u64::from(per_row)).max(1) * u64::from(per_row);
    let has_room = keys + new <= room || rows > u64::from(max_entries);
    has_room && per_row >= entries / ROWS_ASKED && keys <= 2 * rows.max(u64::from(entries))
}

fn entry(key: &str, value: String) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value) }
}

pub(crate) fn unsupported(cause: ParquetError) -> Error {
    Error::new(ErrorKind::InvalidInput, "the rows cannot be written as Parquet").with_source(cause)
}

/// Returns the Parquet schema that Spark's writer uses for the columns. It equals Arrow's own except for
/// decimals: Arrow would store small ones as integers, which the next Java upsert would corrupt.
fn parquet_schema(schema: &Schema, root: &str) -> Result<SchemaDescriptor, ParquetError> {
    let arrow = ArrowSchemaConverter::new().with_coerce_types(true).schema_root(root).convert(schema)?;
    let fields =
        arrow.root_schema().get_fields().iter().map(decimals_as_bytes).collect::<Result<Vec<_>, _>>()?;
    let root = Type::group_type_builder(root).with_fields(fields).build()?;
    Ok(SchemaDescriptor::new(Arc::new(root)))
}

fn decimals_as_bytes(column: &TypePtr) -> Result<TypePtr, ParquetError> {
    let info = column.get_basic_info();
    match column.as_ref() {
        Type::GroupType { fields, .. } => {
            let fields = fields.iter().map(decimals_as_bytes).collect::<Result<Vec<_>, _>>()?;
            let group = Type::group_type_builder(info.name())
                .with_repetition(info.repetition())
                .with_converted_type(info.converted_type())
                .with_logical_type(info.logical_type_ref().cloned())
                .with_fields(fields)
                .build()?;
            Ok(Arc::new(group))
        }
        Type::PrimitiveType { precision, scale, .. } if *precision > 0 => {
            let length = schema::decimal_bytes(u8::try_from(*precision).unwrap_or(u8::MAX));
            let decimal = Type::primitive_type_builder(info.name(), PhysicalType::FIXED_LEN_BYTE_ARRAY)
                .with_repetition(info.repetition())
                .with_converted_type(info.converted_type())
                .with_logical_type(info.logical_type_ref().cloned())
                .with_length(length as i32)
                .with_precision(*precision)
                .with_scale(*scale)
                .build()?;
            Ok(Arc::new(decimal))
        }
        Type::PrimitiveType { .. } => Ok(column.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn format() -> FileFormat {
        let schema = Schema::new(vec![Field::new("id", DataType::Utf8, false)]);
        let avro = schema::to_avro(&schema, "t").unwrap();
        let options = TableOptions::new();
        FileFormat::new("t", &schema, &avro, &["id".to_owned()], false, Compression::SNAPPY, &options)
            .unwrap()
    }

    /// Returns the filter in the footer of a file with these keys, and the length of its stored form.
    fn filter(keys: &mut FileKeys, origin: Keys, rows: u32) -> (BloomFilter, usize) {
        for first in (0..rows).step_by(10_000) {
            let end = rows.min(first + 10_000);
            let values = StringArray::from_iter_values((first..end).map(|key| format!("customer-{key}")));
            keys.observe(origin, &values);
        }
        let footer: HashMap<String, Option<String>> =
            keys.footer().into_iter().map(|entry| (entry.key, entry.value)).collect();
        let text = footer[FOOTER_BLOOM_FILTER].as_deref().unwrap();
        let code = footer[FOOTER_BLOOM_FILTER_TYPE].as_deref();
        assert_eq!(code, Some("DYNAMIC_V0"), "Java adds rows to filters of this type alone");
        (BloomFilter::parse(text, code).unwrap(), text.len())
    }

    fn false_positives(filter: &BloomFilter) -> usize {
        (0..20_000).filter(|key| filter.contains(&format!("absent-{key}"))).count()
    }

    /// In a file with a million rows, Hudi's default filter returns `true` for 99 % of absent keys.
    #[rstest::rstest]
    #[case::small(10, 0, 60_000)]
    #[case::hudi_s_size(48_000, 0, 440_000)]
    #[case::full(1_000_000, 100, 2_050_000)]
    fn a_filter_is_sized_for_the_rows_of_its_file(
        #[case] rows: u32,
        #[case] found: usize,
        #[case] bytes: usize,
    ) {
        let mut keys = FileKeys::new(&format(), rows.into(), KnownKeys::default());
        let (filter, length) = filter(&mut keys, Keys::New, rows);
        assert!((0..rows).step_by(997).all(|key| filter.contains(&format!("customer-{key}"))));
        assert!(length <= bytes, "{length} bytes");
        assert!(false_positives(&filter) <= found, "{} of 20,000", false_positives(&filter));
    }

    #[test]
    fn an_overfull_filter_of_another_writer_is_replaced() {
        let mut of_spark = BloomFilter::dynamic(60_000, 1e-9, 100_000);
        (0..300_000).for_each(|key| of_spark.insert(&format!("customer-{key}")));
        assert!(false_positives(&of_spark) > 20);
        let known = KnownKeys { bloom: Some(of_spark), new: 0, range: None };
        let mut keys = FileKeys::new(&format(), 300_000, known);
        let (filter, _) = filter(&mut keys, Keys::Stored, 300_000);
        assert!((0..300_000).step_by(997).all(|key| filter.contains(&format!("customer-{key}"))));
        assert!(false_positives(&filter) < 60, "{}", false_positives(&filter));
    }
}
