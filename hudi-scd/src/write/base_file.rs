//! Encoding a base file as Spark's writer does: v1 pages, dictionaries, statistics, the five meta columns, decimals as
//! fixed-length bytes, and a footer with key range and bloom filter.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, DictionaryArray, Int32Array, RecordBatch, RecordBatchOptions, StringArray},
    compute::{max_string, min_string},
    datatypes::{DataType, Field, FieldRef, Int32Type, Schema, SchemaRef},
};
use parquet::{
    arrow::{ArrowSchemaConverter, ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, GzipLevel, Type as PhysicalType, ZstdLevel},
    errors::ParquetError,
    file::{metadata::KeyValue, properties::WriterProperties},
    schema::types::{SchemaDescriptor, Type, TypePtr},
};

use crate::{
    Error, ErrorKind, Result,
    base_file::{FOOTER_MAX_KEY, FOOTER_MIN_KEY, java_order},
    bloom::{BloomFilter, FOOTER_BLOOM_FILTER, FOOTER_BLOOM_FILTER_TYPE},
    options::{Codec, TableOptions},
    schema,
};

const FOOTER_AVRO_SCHEMA: &str = "parquet.avro.schema";
const FOOTER_MODEL: &str = "writer.model.name";
const BLOOM_ENTRIES: std::ops::RangeInclusive<u32> = 1_000..=60_000;

/// What all files of a commit have in common.
#[derive(Debug)]
pub(crate) struct FileFormat {
    /// Meta and data columns as Arrow hands them over.
    schema: SchemaRef,
    parquet: SchemaDescriptor,
    avro: String,
    codec: Compression,
    bloom_entries: Option<u32>,
    bloom_fpp: f64,
    bloom_max_entries: u32,
}

impl FileFormat {
    pub(crate) fn new(table_name: &str, data: &Schema, options: &TableOptions) -> Result<Self> {
        let stored = schema::with_meta_columns(data);
        let avro = schema::to_avro(&stored, table_name)?;
        let name = schema::sanitize_name(table_name);
        let parquet =
            parquet_schema(&stored, &format!("hoodie.{name}.{name}_record")).map_err(unsupported)?;
        // The name of the file is the same in every row, so it is handed over once.
        let one_value = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let fields: Vec<FieldRef> = stored
            .fields()
            .iter()
            .map(|field| match field.name() == schema::META_COLUMNS[4] {
                true => Arc::new(Field::new(field.name(), one_value.clone(), true)),
                false => field.clone(),
            })
            .collect();
        let codec = match options.codec {
            Codec::Gzip => Compression::GZIP(GzipLevel::default()),
            Codec::Snappy => Compression::SNAPPY,
            Codec::Zstd => Compression::ZSTD(ZstdLevel::default()),
        };
        Ok(Self {
            schema: Arc::new(Schema::new(fields)),
            parquet,
            avro,
            codec,
            bloom_entries: options.bloom_entries,
            bloom_fpp: options.bloom_fpp,
            bloom_max_entries: options.bloom_max_entries,
        })
    }
}

/// A base file that is being written, in memory.
pub(crate) struct BaseFileWriter {
    writer: ArrowWriter<Vec<u8>>,
    schema: SchemaRef,
    name: Arc<StringArray>,
    bloom: BloomFilter,
    /// Whether the filter held the stored rows' keys from the start.
    bloom_has_stored: bool,
    range: Option<(String, String)>,
    /// Whether the range is that of the stored rows from the start.
    range_has_stored: bool,
    rows: u64,
}

/// What the version before knew of its keys, which need not be found out again.
#[derive(Debug, Default)]
pub(crate) struct KnownKeys {
    pub(crate) bloom: Option<BloomFilter>,
    /// How many keys come to them.
    pub(crate) new: u64,
    /// Only if no row of it goes: a range too wide costs others a look into the file, but it would never shrink.
    pub(crate) range: Option<(String, String)>,
}

/// Where rows that are written come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// From the version before: the same keys, though a row may be new.
    Stored,
    /// They are new to this file.
    New,
}

/// A base file that was written.
#[derive(Debug)]
pub(crate) struct EncodedFile {
    pub(crate) bytes: Vec<u8>,
    pub(crate) rows: u64,
}

/// The meta columns of some rows, but for the name of the file.
pub(crate) struct MetaColumns {
    pub(crate) commit_time: ArrayRef,
    pub(crate) commit_seqno: ArrayRef,
    pub(crate) record_key: StringArray,
    pub(crate) partition_path: ArrayRef,
}

impl BaseFileWriter {
    /// Begins a file of `rows` rows.
    pub(crate) fn new(format: &FileFormat, name: &str, rows: u64, known: KnownKeys) -> Result<Self> {
        let properties = WriterProperties::builder()
            .set_compression(format.codec)
            .set_key_value_metadata(Some(vec![
                entry(FOOTER_AVRO_SCHEMA, format.avro.clone()),
                entry(FOOTER_MODEL, "avro".to_owned()),
            ]))
            .build();
        let options = ArrowWriterOptions::new()
            .with_properties(properties)
            .with_skip_arrow_metadata(true)
            .with_parquet_schema(format.parquet.clone());
        let writer = ArrowWriter::try_new_with_options(Vec::new(), format.schema.clone(), options)
            .map_err(unsupported)?;
        let entries = format.bloom_entries.unwrap_or_else(|| {
            u32::try_from(rows + rows / 4)
                .unwrap_or(u32::MAX)
                .clamp(*BLOOM_ENTRIES.start(), *BLOOM_ENTRIES.end())
        });
        let max_entries = format.bloom_max_entries.max(entries);
        let new = known.new;
        let carried = known.bloom.filter(|filter| is_good_for(filter, entries, rows, new));
        Ok(Self {
            writer,
            schema: format.schema.clone(),
            name: Arc::new(StringArray::from(vec![name])),
            bloom_has_stored: carried.is_some(),
            bloom: match carried {
                Some(filter) => filter.with_max_entries(max_entries),
                None => BloomFilter::dynamic(entries, format.bloom_fpp, max_entries),
            },
            range_has_stored: known.range.is_some(),
            range: known.range,
            rows: 0,
        })
    }

    /// Rows written so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds rows; `data` are the data columns.
    pub(crate) fn write(&mut self, keys: Keys, meta: MetaColumns, data: &[ArrayRef]) -> Result<()> {
        let rows = meta.record_key.len();
        if keys == Keys::New || !self.bloom_has_stored {
            for key in meta.record_key.iter().flatten() {
                self.bloom.insert(key);
            }
        }
        if keys == Keys::New || !self.range_has_stored {
            self.widen_range(&meta.record_key);
        }
        let names = DictionaryArray::<Int32Type>::new(Int32Array::from(vec![0; rows]), self.name.clone());
        let meta: [ArrayRef; 5] = [
            meta.commit_time,
            meta.commit_seqno,
            Arc::new(meta.record_key),
            meta.partition_path,
            Arc::new(names),
        ];
        let columns = meta.into_iter().chain(data.iter().cloned()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch =
            RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(|cause| {
                Error::new(ErrorKind::InvalidInput, "the rows do not fit the table").with_source(cause)
            })?;
        self.rows += rows as u64;
        self.writer.write(&batch).map_err(unsupported)
    }

    fn widen_range(&mut self, keys: &StringArray) {
        // Java's order is that of bytes as long as all is ASCII, and for that Arrow has a kernel.
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

    /// Ends the file with its footer.
    pub(crate) fn finish(mut self) -> Result<EncodedFile> {
        self.writer.append_key_value_metadata(entry(FOOTER_BLOOM_FILTER, self.bloom.to_base64()));
        if let Some(code) = self.bloom.type_code() {
            self.writer.append_key_value_metadata(entry(FOOTER_BLOOM_FILTER_TYPE, code.to_owned()));
        }
        if let Some((min, max)) = self.range {
            self.writer.append_key_value_metadata(entry(FOOTER_MIN_KEY, min));
            self.writer.append_key_value_metadata(entry(FOOTER_MAX_KEY, max));
        }
        let bytes = self.writer.into_inner().map_err(unsupported)?;
        Ok(EncodedFile { bytes, rows: self.rows })
    }
}

/// Whether the filter of the version before will do: it has room for the new keys, a lookup asks few rows of it, and
/// most of its keys are still there.
fn is_good_for(filter: &BloomFilter, entries: u32, rows: u64, new: u64) -> bool {
    const ROWS_ASKED: u32 = 4;
    let Some((per_row, keys)) = filter.fill() else { return false };
    let room = keys.div_ceil(u64::from(per_row)).max(1) * u64::from(per_row);
    let has_room = keys + new <= room || per_row >= *BLOOM_ENTRIES.end();
    has_room && per_row >= entries / ROWS_ASKED && keys <= 2 * rows.max(u64::from(entries))
}

fn entry(key: &str, value: String) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value) }
}

fn unsupported(cause: ParquetError) -> Error {
    Error::new(ErrorKind::InvalidInput, "the rows cannot be written as Parquet").with_source(cause)
}

/// The Parquet schema that Spark's writer makes of the columns: Arrow's own, but for decimals, which Arrow would keep
/// as integers where they fit, and which the next Java upsert would then corrupt.
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
