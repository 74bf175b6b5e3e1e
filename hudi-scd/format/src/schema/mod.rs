//! The schema of a table: its Arrow types, its Avro form in Hudi, its evolution, and the conversion of
//! batches to it.
//!
//! | stored as | accepted Arrow types | Avro |
//! |---|---|---|
//! | `Boolean` | `Boolean` | `boolean` |
//! | `Int32` | `Int8`, `Int16`, `Int32`, `UInt8`, `UInt16` | `int` |
//! | `Int64` | `Int64`, `UInt32` | `long` |
//! | `Float32`, `Float64` | also `Float16` | `float`, `double` |
//! | `Decimal128(p, s)` | decimals of every width, `p <= 38`, `0 <= s <= p` | `fixed`, `decimal` |
//! | `Utf8` | `LargeUtf8`, `Utf8View`, dictionaries of them | `string` |
//! | `Binary` | `LargeBinary`, `BinaryView`, `FixedSizeBinary` | `bytes` |
//! | `Date32` | `Date64` | `int`, `date` |
//! | `Timestamp(µs, "UTC")` | any unit and zone; without a zone it is treated as UTC | `long`, `timestamp-micros` |
//! | `List`, `Map`, `Struct` | `LargeList`, `FixedSizeList` | `array`, `map`, `record` |
//!
//! Some types are rejected, because no column of Hudi can store them without loss: `UInt64` (use
//! `Decimal128(20, 0)`), times of day, intervals, unions, and nanosecond timestamps that are not whole
//! microseconds.
//!
//! Tables of other writers may contain timestamps in milliseconds or without a zone. These are read, and
//! written unchanged. New tables of this crate do not use them ([`stored`]). Spark's next upsert would
//! interpret stored milliseconds as microseconds. Hudi up to 1.0 does not know the type without a zone
//! (`local-timestamp-micros`), and reads of it fail or return a number.
//!
//! Tables of other writers may also contain enums, fixed bytes and times of day. These are read as text, as
//! bytes, and as numbers: the milliseconds or microseconds since midnight. Such tables are not written
//! ([`check_writable`]).
//!
//! This crate accepts lists that contain nulls. Spark refuses to write such a list unless
//! `parquet.avro.write-old-list-structure` is false. With Hudi 0.x, it also refuses to rewrite a file with
//! two lists of decimals or structs, even if it wrote the file itself.

mod avro;
mod conform;
mod continued;
mod docs;
mod evolve;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};

use crate::{Error, ErrorKind, Result};

pub use avro::decimal_bytes;
pub use avro::{check_writable, from_avro, sanitize_name, to_avro};
pub use conform::{check_exact, check_required, conform, conform_stored};
pub use continued::{continued, with_meta_columns as avro_with_meta_columns};
pub use docs::DOC;
pub use docs::doc;
pub use docs::documented;
pub use evolve::reconcile;

/// The columns that Hudi adds in front of the data, in this order, all strings.
pub const META_COLUMNS: [&str; 5] = [
    "_hoodie_commit_time",
    "_hoodie_commit_seqno",
    "_hoodie_record_key",
    "_hoodie_partition_path",
    "_hoodie_file_name",
];

/// The column that marks a row of a batch as deleted. Hudi stores it like any other column.
pub const IS_DELETED_COLUMN: &str = "_hoodie_is_deleted";

/// The time zone of stored timestamps that have one.
pub const UTC: &str = "UTC";

const MAX_PRECISION: u8 = 38;

/// Returns `true` for the columns that Hudi writes itself.
pub fn is_meta_column(name: &str) -> bool {
    META_COLUMNS.contains(&name)
}

/// Returns the schema with the five meta columns in front, as in base files.
pub fn with_meta_columns(schema: &Schema) -> SchemaRef {
    let meta = META_COLUMNS.iter().map(|name| Arc::new(Field::new(*name, DataType::Utf8, true)));
    let data = schema.fields().iter().filter(|field| !is_meta_column(field.name())).cloned();
    Arc::new(Schema::new(meta.chain(data).collect::<Vec<FieldRef>>()))
}

/// Returns the schema without the five meta columns, as in commit metadata.
pub fn without_meta_columns(schema: &Schema) -> SchemaRef {
    let data = schema.fields().iter().filter(|field| !is_meta_column(field.name())).cloned();
    Arc::new(Schema::new(data.collect::<Vec<FieldRef>>()))
}

/// Returns the schema as a table stores it: the types of the [module's table](self), with every column
/// nullable, without metadata and without meta columns.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for a type that a table cannot store, for a name that Avro does not allow
/// (Hudi would look for the column under another name and find nothing), and for names that differ only in
/// case (Spark and Hive ignore case). The error names the column.
pub fn canonical(schema: &Schema) -> Result<SchemaRef> {
    let fields = canonical_fields(without_meta_columns(schema).fields(), "")?;
    if fields.is_empty() {
        return Err(invalid("schema has no columns"));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Returns the schema of a new table of this crate: [`canonical`], with all timestamps in microseconds and in
/// UTC.
///
/// # Errors
/// As [`canonical`].
pub fn stored(schema: &Schema) -> Result<SchemaRef> {
    Ok(Arc::new(Schema::new(stored_fields(canonical(schema)?.fields()))))
}

fn stored_fields(fields: &Fields) -> Fields {
    fields.iter().map(stored_field).collect()
}

/// Returns the stored form of a canonical column that is new in a table.
fn stored_field(field: &FieldRef) -> FieldRef {
    use DataType as T;
    let data_type = match field.data_type() {
        T::Timestamp(..) => T::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        T::List(item) => T::List(stored_field(item)),
        T::Map(entries, sorted) => T::Map(stored_field(entries), *sorted),
        T::Struct(fields) => T::Struct(stored_fields(fields)),
        other => other.clone(),
    };
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

fn canonical_fields(fields: &Fields, path: &str) -> Result<Fields> {
    let mut seen = std::collections::HashMap::with_capacity(fields.len());
    let mut out = Vec::with_capacity(fields.len());
    for field in fields {
        let path = join(path, field.name());
        if field.name().is_empty() || sanitize_name(field.name()) != *field.name() {
            return Err(invalid("column name is not allowed in Avro; rename the column")
                .with_context("column", path)
                .with_context("allowed", "letters, digits and _, not starting with a digit"));
        }
        if let Some(other) = seen.insert(field.name().to_lowercase(), path.clone()) {
            return Err(invalid("column names differ only in case; rename one")
                .with_context("column", path)
                .with_context("other", other));
        }
        out.push(Arc::new(Field::new(field.name(), canonical_type(field.data_type(), &path)?, true)));
    }
    Ok(out.into())
}

/// Returns the type in which a table stores values of the type `incoming`. `path` names the column in errors.
fn canonical_type(incoming: &DataType, path: &str) -> Result<DataType> {
    use DataType as T;
    Ok(match incoming {
        T::Boolean => T::Boolean,
        T::Int8 | T::Int16 | T::Int32 | T::UInt8 | T::UInt16 => T::Int32,
        T::Int64 | T::UInt32 => T::Int64,
        T::Float16 | T::Float32 => T::Float32,
        T::Float64 => T::Float64,
        T::Decimal32(p, s) | T::Decimal64(p, s) | T::Decimal128(p, s) | T::Decimal256(p, s)
            if *p <= MAX_PRECISION && *s >= 0 && *s as u8 <= *p =>
        {
            T::Decimal128(*p, *s)
        }
        T::Utf8 | T::LargeUtf8 | T::Utf8View => T::Utf8,
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => T::Binary,
        T::Date32 | T::Date64 => T::Date32,
        T::Timestamp(unit, zone) => {
            let unit = if *unit == TimeUnit::Millisecond { *unit } else { TimeUnit::Microsecond };
            T::Timestamp(unit, zone.as_ref().map(|_| UTC.into()))
        }
        T::Dictionary(_, value) => canonical_type(value, path)?,
        T::RunEndEncoded(_, values) => canonical_type(values.data_type(), path)?,
        T::List(item) | T::LargeList(item) | T::FixedSizeList(item, _) => {
            list_of(canonical_type(item.data_type(), &join(path, ELEMENT))?)
        }
        T::Struct(fields) if !fields.is_empty() => T::Struct(canonical_fields(fields, path)?),
        T::Map(entries, _) => {
            let T::Struct(entry) = entries.data_type() else {
                return Err(no_place(incoming, path));
            };
            match entry.as_ref() {
                [key, value] if canonical_type(key.data_type(), path)? == T::Utf8 => {
                    map_of(canonical_type(value.data_type(), &join(path, VALUE))?, true)
                }
                _ => {
                    return Err(no_place(incoming, path).with_context("allowed", "maps with text keys"));
                }
            }
        }
        T::UInt64 => return Err(no_place(incoming, path).with_context("use instead", "Decimal128(20, 0)")),
        _ => return Err(no_place(incoming, path)),
    })
}

// The names that the Parquet format uses for the parts of lists and maps, so that the writer need not rename
// them.
const ELEMENT: &str = "element";
const ENTRIES: &str = "key_value";
const KEY: &str = "key";
const VALUE: &str = "value";

/// Returns the list type with this item.
pub fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new(ELEMENT, item, true)))
}

/// Returns the map type from strings to this value.
pub fn map_of(value: DataType, nullable: bool) -> DataType {
    let entry = vec![Field::new(KEY, DataType::Utf8, false), Field::new(VALUE, value, nullable)];
    DataType::Map(Arc::new(Field::new(ENTRIES, DataType::Struct(entry.into()), false)), false)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn no_place(incoming: &DataType, path: &str) -> Error {
    invalid("a Hudi table has no column type for these values")
        .with_context("column", path)
        .with_context("type", incoming)
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_narrow_types_in_wider_ones() {
        let schema = Schema::new(vec![
            Field::new("a", DataType::Int8, false),
            Field::new("b", DataType::UInt32, false),
            Field::new(
                "c",
                DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::LargeUtf8)),
                false,
            ),
            Field::new("d", DataType::Timestamp(TimeUnit::Nanosecond, Some("Europe/Berlin".into())), true),
            Field::new("e", DataType::new_large_list(DataType::Date64, true), true),
            Field::new("_hoodie_file_name", DataType::Utf8, true),
        ]);
        let types: Vec<_> =
            canonical(&schema).unwrap().fields().iter().map(|f| f.data_type().clone()).collect();
        let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let expected = [DataType::Int32, DataType::Int64, DataType::Utf8, micros, list_of(DataType::Date32)];
        assert_eq!(types, expected);
    }

    #[test]
    fn a_new_table_keeps_times_as_every_engine_reads_them() {
        let coarse = DataType::Timestamp(TimeUnit::Millisecond, None);
        let place = DataType::Struct(vec![Field::new("since", coarse.clone(), true)].into());
        let schema = Schema::new(vec![
            Field::new("a", coarse.clone(), true),
            Field::new("b", DataType::new_list(place, true), true),
            Field::new("c", map_of(coarse, true), true),
        ]);
        let kept = stored(&schema).unwrap();
        let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let place = DataType::Struct(vec![Field::new("since", micros.clone(), true)].into());
        let expected = [micros.clone(), list_of(place), map_of(micros, true)];
        let types: Vec<_> = kept.fields().iter().map(|field| field.data_type().clone()).collect();
        assert_eq!(types, expected);
        assert_eq!(reconcile(&kept, &schema).unwrap(), kept, "later batches keep their types");
    }

    #[test]
    fn names_the_column_that_a_table_cannot_keep() {
        for (name, data_type) in [
            ("n", DataType::UInt64),
            ("n", DataType::Decimal128(10, -2)),
            ("n", DataType::Decimal256(50, 2)),
            ("n", DataType::Time64(TimeUnit::Microsecond)),
            ("n", DataType::Null),
            ("n-1", DataType::Utf8),
            ("1n", DataType::Utf8),
        ] {
            let error = canonical(&Schema::new(vec![Field::new(name, data_type.clone(), true)])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{data_type}");
            assert_eq!(error.context("column"), Some(name));
        }
    }

    #[test]
    fn refuses_names_that_differ_only_in_case() {
        let schema =
            Schema::new(vec![Field::new("Id", DataType::Utf8, true), Field::new("id", DataType::Utf8, true)]);
        assert_eq!(canonical(&schema).unwrap_err().context("other"), Some("Id"));
    }
}
