//! Handles timestamps in Spark's Parquet files that Arrow alone would misread.
//!
//! - By default, Spark stores timestamps in 96 bits. Arrow converts them to nanoseconds, which end in the
//!   year 2262: the usual end of an open interval, 9999-12-31, would become a different time. They are read
//!   as microseconds, as in Spark.
//! - With a `…RebaseModeInWrite` of `LEGACY`, Spark writes times before the Gregorian calendar in the Julian
//!   calendar, and marks the file. Such times are rejected if the file's statistics show them. 96-bit
//!   timestamps have no statistics.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use parquet::{
    arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
    basic::{ConvertedType, Type},
    errors::Result as ParquetResult,
    file::{
        metadata::{ColumnChunkMetaData, ParquetMetaData},
        statistics::Statistics,
    },
    schema::types::ColumnDescPtr,
};

use crate::{Error, ErrorKind, Result};

/// Spark's mark in the footers of files whose old times are in the Julian calendar.
const JULIAN: &str = "org.apache.spark.legacyDateTime";
/// 15 October 1582, in days.
const GREGORIAN: i32 = -141_427;
/// 1 January 1900 in milliseconds. Before that, the offsets of time zones differ too.
const STANDARD_TIME: i64 = -2_208_988_800_000;

/// Returns the metadata that Arrow uses to read a file.
pub fn reader_metadata(
    metadata: Arc<ParquetMetaData>,
    options: ArrowReaderOptions,
) -> ParquetResult<ArrowReaderMetadata> {
    let known = ArrowReaderMetadata::try_new(metadata.clone(), options.clone())?;
    let leaves = metadata.file_metadata().schema_descr().columns();
    if leaves.iter().all(|leaf| leaf.physical_type() != Type::INT96) {
        return Ok(known);
    }
    let fields = in_micros(known.schema().fields(), &mut leaves.iter());
    let schema = Schema::new_with_metadata(fields, known.schema().metadata().clone());
    ArrowReaderMetadata::try_new(metadata, options.with_schema(Arc::new(schema)))
}

fn in_micros<'a>(fields: &Fields, leaves: &mut impl Iterator<Item = &'a ColumnDescPtr>) -> Fields {
    fields.iter().map(|field| field_in_micros(field, leaves)).collect()
}

fn field_in_micros<'a>(field: &Field, leaves: &mut impl Iterator<Item = &'a ColumnDescPtr>) -> FieldRef {
    use DataType as T;
    let data_type = match field.data_type() {
        T::Struct(fields) => T::Struct(in_micros(fields, leaves)),
        T::List(item) => T::List(field_in_micros(item, leaves)),
        T::LargeList(item) => T::LargeList(field_in_micros(item, leaves)),
        T::FixedSizeList(item, size) => T::FixedSizeList(field_in_micros(item, leaves), *size),
        T::Map(entries, sorted) => T::Map(field_in_micros(entries, leaves), *sorted),
        other => match (leaves.next().map(|leaf| leaf.physical_type()), other) {
            (Some(Type::INT96), T::Timestamp(_, zone)) => T::Timestamp(TimeUnit::Microsecond, zone.clone()),
            _ => other.clone(),
        },
    };
    Arc::new(field.clone().with_data_type(data_type))
}

/// Rejects a file that is marked as Julian and contains Julian times.
///
/// # Errors
/// [`ErrorKind::Unsupported`], naming the column.
pub fn check_calendar(metadata: &ParquetMetaData) -> Result<()> {
    let entries = metadata.file_metadata().key_value_metadata();
    if !entries.is_some_and(|entries| entries.iter().any(|entry| entry.key == JULIAN)) {
        return Ok(());
    }
    match metadata.row_groups().iter().flat_map(|group| group.columns()).find(|chunk| is_old(chunk)) {
        None => Ok(()),
        Some(chunk) => Err(Error::new(
            ErrorKind::Unsupported,
            "times of the Julian calendar, as Spark writes them in its legacy mode, are not supported",
        )
        .with_context("column", chunk.column_path().string())
        .with_context("hint", "write with spark.sql.parquet.datetimeRebaseModeInWrite=CORRECTED")),
    }
}

fn is_old(chunk: &ColumnChunkMetaData) -> bool {
    match (chunk.statistics(), chunk.column_descr().converted_type()) {
        (Some(Statistics::Int32(known)), ConvertedType::DATE) => {
            known.min_opt().is_some_and(|min| *min < GREGORIAN)
        }
        (Some(Statistics::Int64(known)), ConvertedType::TIMESTAMP_MILLIS) => {
            known.min_opt().is_some_and(|min| *min < STANDARD_TIME)
        }
        (Some(Statistics::Int64(known)), ConvertedType::TIMESTAMP_MICROS) => {
            known.min_opt().is_some_and(|min| *min < STANDARD_TIME * 1000)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{AsArray, Date32Array},
        datatypes::TimestampMicrosecondType,
        record_batch::RecordBatch,
    };
    use bytes::Bytes;
    use parquet::{
        arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
        data_type::{Int96, Int96Type},
        file::{
            metadata::{KeyValue, ParquetMetaDataReader},
            properties::WriterProperties,
            writer::SerializedFileWriter,
        },
        schema::parser::parse_message_type,
    };

    use super::*;

    /// 9999-12-31 23:59:59.999999 is on day 5,373,484 of the Julian period.
    #[test]
    fn times_of_96_bits_reach_as_far_as_those_of_spark() {
        let schema = "message spark { optional int64 id; optional group s { optional int96 t; } }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let mut file = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut id = group.next_column().unwrap().unwrap();
        id.typed::<parquet::data_type::Int64Type>().write_batch(&[1], Some(&[1]), None).unwrap();
        id.close().unwrap();
        let nanos = 86_399_999_999_000_u64;
        let mut last = Int96::new();
        last.set_data(nanos as u32, (nanos >> 32) as u32, 5_373_484);
        let mut t = group.next_column().unwrap().unwrap();
        t.typed::<Int96Type>().write_batch(&[last], Some(&[2]), None).unwrap();
        t.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();

        let file = Bytes::from(file);
        let metadata = Arc::new(ParquetMetaDataReader::new().parse_and_finish(&file).unwrap());
        let metadata = reader_metadata(metadata, ArrowReaderOptions::new()).unwrap();
        let mut reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata).build().unwrap();
        let batch = reader.next().unwrap().unwrap();
        let times = batch.column(1).as_struct().column(0).as_primitive::<TimestampMicrosecondType>();
        assert_eq!((times.len(), times.value(0)), (1, 253_402_300_799_999_999));
    }

    #[test]
    fn old_days_of_the_legacy_mode_are_refused() {
        let footer = |days: Vec<i32>, marked: bool| {
            let batch = RecordBatch::try_from_iter([("d", Arc::new(Date32Array::from(days)) as _)]).unwrap();
            let marks = marked.then(|| vec![KeyValue::new(JULIAN.to_owned(), String::new())]);
            let properties = WriterProperties::builder().set_key_value_metadata(marks).build();
            let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
            writer.write(&batch).unwrap();
            ParquetMetaDataReader::new().parse_and_finish(&Bytes::from(writer.into_inner().unwrap())).unwrap()
        };
        assert!(check_calendar(&footer(vec![0, GREGORIAN], true)).is_ok());
        assert!(check_calendar(&footer(vec![0, GREGORIAN - 1], false)).is_ok());
        let error = check_calendar(&footer(vec![0, GREGORIAN - 1], true)).unwrap_err();
        assert_eq!((error.kind(), error.context("column")), (ErrorKind::Unsupported, Some("d")));
    }
}
