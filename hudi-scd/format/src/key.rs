//! Record keys and partition paths, built from a row's columns in the same way as by Hudi's key generators.
//!
//! | generator | record key | partition path |
//! |---|---|---|
//! | Nonpartitioned | one field: its value; several: `a:1,b:2` | empty |
//! | Simple | the value | one field |
//! | Complex | one field: its value or `a:1`, see [`KeyEncoding`]; several: `a:1,b:2` | several fields, joined by `/` |
//! | TimestampBased | the value | one field, a point in time formatted by a date pattern |
//! | Custom | one field: its value; several: `a:1,b:2` | several fields, each as its value or as a time |
//!
//! Values are formatted as in Spark's upsert, which formats their Avro form: a timestamp is its number of
//! microseconds. (Spark's bulk insert formats timestamps as dates and times and therefore produces different
//! keys. Hudi's own upsert does not find those keys either.)

mod encoding;
mod escape;
mod generator;
mod java;
mod partitions;
mod pattern;
mod text;
mod timestamp;

use std::fmt::Write as _;

use arrow::{
    array::{Array, RecordBatch, StringArray, StringBuilder},
    datatypes::Schema,
};

pub(crate) use self::text::as_text;
use self::text::{has_text, invalid};
pub use self::{
    encoding::KeyEncoding,
    escape::is_escaped,
    generator::{FolderForm, KeyGenerator},
    partitions::{Partitions, folder_values, partition_values},
    timestamp::{TIMESTAMP_PREFIXES, TimestampKey, TimestampPartition, TimestampType},
};
use crate::{Error, ErrorKind, Result};

const NULL_KEY: &str = "__null__";
const EMPTY_KEY: &str = "__empty__";

/// Returns the record key of each row. `encoding` applies if there is a single field; keys of several fields
/// have only one form.
pub fn record_keys(batch: &RecordBatch, fields: &[String], encoding: KeyEncoding) -> Result<StringArray> {
    let columns = fields.iter().map(|field| key_column(batch, field)).collect::<Result<Vec<_>>>()?;
    if let ([field], [column]) = (fields, columns.as_slice()) {
        for row in 0..column.len() {
            if column.is_null(row) || column.value(row).is_empty() {
                return Err(invalid("the record key is null or empty")
                    .with_context("column", field)
                    .with_context("row", row));
            }
        }
        return Ok(match encoding {
            KeyEncoding::ValueOnly => column.clone(),
            KeyEncoding::FieldPrefixed => {
                let keys = column.iter().flatten().map(|value| encoding.encode(field, value));
                StringArray::from_iter_values(keys)
            }
        });
    }
    let mut keys = StringBuilder::with_capacity(batch.num_rows(), batch.num_rows() * 16 * fields.len());
    let mut key = String::new();
    for row in 0..batch.num_rows() {
        if columns.iter().all(|column| column.is_null(row)) {
            return Err(invalid("every field of the record key is null")
                .with_context("columns", fields.join(","))
                .with_context("row", row));
        }
        key.clear();
        for (field, column) in fields.iter().zip(&columns) {
            let separator = if key.is_empty() { "" } else { "," };
            let value = match column.is_valid(row).then(|| column.value(row)) {
                None => NULL_KEY,
                Some("") => EMPTY_KEY,
                Some(value) => value,
            };
            // Writing to a String cannot fail.
            let _ = write!(key, "{separator}{field}:{value}");
        }
        keys.append_value(&key);
    }
    Ok(keys.finish())
}

fn key_column(batch: &RecordBatch, field: &str) -> Result<StringArray> {
    let column = batch
        .column_by_name(field)
        .ok_or_else(|| invalid("the batch lacks a column of the record key").with_context("column", field))?;
    as_text(column, field)
}

/// Rejects columns that cannot be part of a key or a partition path.
pub fn check_columns(schema: &Schema, fields: &[String], role: &str) -> Result<()> {
    for field in fields {
        let found = schema.field_with_name(field).map_err(|_| {
            Error::new(ErrorKind::InvalidDefinition, format!("there is no such {role} column"))
                .with_context("column", field)
        })?;
        if !has_text(found.data_type()) {
            let message = format!("a column of this type cannot be a {role} column");
            return Err(Error::new(ErrorKind::InvalidDefinition, message)
                .with_context("column", field)
                .with_context("type", found.data_type()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Date32Array, Decimal128Array, Int32Array, TimestampMicrosecondArray};

    use super::*;
    use crate::properties::{NULL_PARTITION, NewTable, TableProperties};

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
            .unwrap()
    }

    fn table(partitions: &[&str], hive_style: bool, url_encode: bool) -> TableProperties {
        let partitions: Vec<String> = partitions.iter().map(|field| (*field).to_owned()).collect();
        TableProperties::create(&NewTable {
            name: "t",
            database: "",
            record_key_fields: &["k".to_owned()],
            ordering_field: None,
            partition_fields: &partitions,
            hive_style,
            url_encode,
            schema: "",
            others: &std::collections::BTreeMap::new(),
        })
        .unwrap()
    }

    fn keys(batch: &RecordBatch, fields: &[&str], encoding: KeyEncoding) -> Result<Vec<String>> {
        let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        let keys = record_keys(batch, &fields, encoding)?;
        Ok(keys.iter().map(|key| key.unwrap().to_owned()).collect())
    }

    fn one(value: impl Array + 'static) -> Vec<String> {
        keys(&batch(vec![("k", Arc::new(value) as ArrayRef)]), &["k"], KeyEncoding::ValueOnly).unwrap()
    }

    #[test]
    fn a_single_key_is_the_value_as_java_prints_it() {
        assert_eq!(one(Int32Array::from(vec![1, -7])), ["1", "-7"]);
        assert_eq!(one(Date32Array::from(vec![20_090])), ["2025-01-02"]);
        let decimal = Decimal128Array::from(vec![150]).with_precision_and_scale(9, 2).unwrap();
        assert_eq!(one(decimal), ["1.50"]);
        assert_eq!(one(arrow::array::BooleanArray::from(vec![true])), ["true"]);
        let time = TimestampMicrosecondArray::from(vec![1_735_787_045_678_901]).with_timezone("UTC");
        assert_eq!(one(time), ["1735787045678901"]);
    }

    #[test]
    fn several_fields_are_named_in_their_order_with_marks_for_null_and_empty() {
        let batch = batch(vec![
            ("tenant", Arc::new(StringArray::from(vec![Some("a"), Some(""), None])) as ArrayRef),
            ("code", Arc::new(Int32Array::from(vec![Some(1), None, Some(3)]))),
        ]);
        let expected = ["tenant:a,code:1", "tenant:__empty__,code:__null__", "tenant:__null__,code:3"];
        assert_eq!(keys(&batch, &["tenant", "code"], KeyEncoding::ValueOnly).unwrap(), expected);
        let prefixed = keys(&batch.slice(0, 1), &["tenant"], KeyEncoding::FieldPrefixed).unwrap();
        assert_eq!(prefixed, ["tenant:a"]);
        let empty = keys(&batch.slice(1, 1), &["tenant"], KeyEncoding::FieldPrefixed).unwrap_err();
        assert_eq!(empty.context("column"), Some("tenant"));
    }

    #[test]
    fn a_null_key_is_an_error_that_names_column_and_row() {
        let batch = batch(vec![("k", Arc::new(StringArray::from(vec![Some("a"), None])) as ArrayRef)]);
        let error = keys(&batch, &["k"], KeyEncoding::ValueOnly).unwrap_err();
        assert_eq!(
            (error.kind(), error.context("column"), error.context("row")),
            (ErrorKind::InvalidInput, Some("k"), Some("1"))
        );
        assert_eq!(
            keys(&batch, &["other"], KeyEncoding::ValueOnly).unwrap_err().context("column"),
            Some("other")
        );
    }

    #[test]
    fn bytes_are_no_key() {
        let bytes = arrow::array::BinaryArray::from_vec(vec![b"a"]);
        let error = keys(&batch(vec![("k", Arc::new(bytes) as ArrayRef)]), &["k"], KeyEncoding::ValueOnly)
            .unwrap_err();
        assert_eq!((error.kind(), error.context("column")), (ErrorKind::Unsupported, Some("k")));
    }

    fn paths(values: Vec<Option<&str>>, table: &TableProperties) -> Result<Vec<String>> {
        let batch = batch(vec![("p", Arc::new(StringArray::from(values)) as ArrayRef)]);
        let partitions = Partitions::of(&batch, table)?;
        Ok((0..batch.num_rows()).map(|row| partitions.path(row).to_owned()).collect())
    }

    #[test]
    fn partition_paths_are_those_of_spark() {
        let default = format!("p={NULL_PARTITION}");
        let plain =
            paths(vec![Some("b c=ü%"), None, Some(""), Some("b c=ü%")], &table(&["p"], true, false)).unwrap();
        assert_eq!(plain, ["p=b c=ü%", &default, &default, "p=b c=ü%"]);
        let encoded = paths(vec![Some("a/b"), Some("x y=é:%+")], &table(&["p"], true, true)).unwrap();
        assert_eq!(encoded, ["p=a%2Fb", "p=x y%3Dé%3A%25+"]);
        assert_eq!(paths(vec![Some("2025/01")], &table(&["p"], false, false)).unwrap(), ["2025/01"]);
        let batch = batch(vec![
            ("region", Arc::new(StringArray::from(vec!["us"])) as ArrayRef),
            ("day", Arc::new(Date32Array::from(vec![20_090]))),
        ]);
        let two = Partitions::of(&batch, &table(&["region", "day"], true, false)).unwrap();
        assert_eq!(two.path(0), "region=us/day=2025-01-02");
    }

    #[test]
    fn a_partition_path_tells_its_values() {
        let one = |text: &str| vec![Some(text.to_owned())];
        for (value, hive, encoded) in
            [("b c=ü", true, false), ("a/b%é:", true, true), ("2025/01", false, false)]
        {
            let table = table(&["p"], hive, encoded);
            let path = paths(vec![Some(value)], &table).unwrap().remove(0);
            assert_eq!(partition_values(&path, &table), one(value), "{path}");
        }
        let two = table(&["p", "q"], true, false);
        assert_eq!(partition_values("p=1/q=__HIVE_DEFAULT_PARTITION__", &two), [Some("1".into()), None]);
        for other in ["p=1", "", "p=1/r=2", "%zz"] {
            assert_eq!(partition_values(other, &two)[1], None, "{other}");
        }
        assert_eq!(partition_values("p=%é", &table(&["p"], true, true)), [None]);
    }

    #[test]
    fn partition_values_that_nobody_could_read_again_are_refused() {
        for value in ["a:b", "a\u{1}b", "/a", "a//b", "..", "a/../b", ".hoodie"] {
            let error = paths(vec![Some(value)], &table(&["p"], false, false)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{value}");
        }
    }
}
