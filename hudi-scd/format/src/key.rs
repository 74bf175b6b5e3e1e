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
mod java;
mod pattern;
mod timestamp;

use std::{borrow::Cow, collections::HashMap, fmt::Write as _};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, StringBuilder},
    compute::cast,
    datatypes::{DataType, Float32Type, Float64Type, Schema},
};

pub use self::encoding::KeyEncoding;
pub use self::timestamp::TimestampKey;
pub use self::timestamp::{TIMESTAMP_PREFIXES, TimestampPartition, TimestampType};
use crate::{
    Error, ErrorKind, Result,
    properties::{NULL_PARTITION, OLD_NULL_PARTITION, TableProperties},
};

const KEY_GENERATOR_PACKAGE: &str = "org.apache.hudi.keygen.";
const NULL_KEY: &str = "__null__";
const EMPTY_KEY: &str = "__empty__";

/// The key generator of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyGenerator {
    /// `NonpartitionedKeyGenerator`.
    Nonpartitioned,
    /// `SimpleKeyGenerator`.
    Simple,
    /// `ComplexKeyGenerator`.
    Complex,
    /// `TimestampBasedKeyGenerator`.
    TimestampBased,
    /// `CustomKeyGenerator`: each partition field has its own [`FolderForm`].
    Custom,
}

/// How the values of a partition field are written in folder names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FolderForm {
    /// The value as text.
    Text,
    /// A time, formatted by a date pattern.
    Time,
    /// The table does not record the form.
    Unknown,
}

impl FolderForm {
    /// Returns the name and the form of an entry of `hoodie.table.partition.fields`: `day` or, for the custom
    /// generator of Hudi 1.x, `day:SIMPLE` or `created:TIMESTAMP`.
    pub(crate) fn split(field: &str) -> (String, Option<Self>) {
        match field.split_once(':') {
            None => (field.to_owned(), None),
            Some((name, kind)) if kind.eq_ignore_ascii_case("simple") => (name.to_owned(), Some(Self::Text)),
            Some((name, kind)) if kind.eq_ignore_ascii_case("timestamp") => {
                (name.to_owned(), Some(Self::Time))
            }
            Some((name, _)) => (name.to_owned(), Some(Self::Unknown)),
        }
    }

    /// Returns the form that a generator implies for a field if the table does not record one. Hudi 0.x does
    /// not store the forms of the custom generator.
    pub(crate) fn of(generator: Option<KeyGenerator>) -> Self {
        match generator {
            Some(KeyGenerator::TimestampBased) => Self::Time,
            Some(KeyGenerator::Custom) | None => Self::Unknown,
            Some(_) => Self::Text,
        }
    }
}

impl KeyGenerator {
    /// Returns the generator that Spark infers.
    pub fn of(record_key_fields: usize, partition_fields: usize) -> Self {
        match (record_key_fields, partition_fields) {
            (_, 0) => Self::Nonpartitioned,
            (1, 1) => Self::Simple,
            _ => Self::Complex,
        }
    }

    /// Returns the value of `hoodie.table.keygenerator.class`.
    pub fn class(self) -> &'static str {
        match self {
            Self::Nonpartitioned => "org.apache.hudi.keygen.NonpartitionedKeyGenerator",
            Self::Simple => "org.apache.hudi.keygen.SimpleKeyGenerator",
            Self::Complex => "org.apache.hudi.keygen.ComplexKeyGenerator",
            Self::TimestampBased => "org.apache.hudi.keygen.TimestampBasedKeyGenerator",
            Self::Custom => "org.apache.hudi.keygen.CustomKeyGenerator",
        }
    }

    /// Returns `true` if the generator supports these numbers of record key and partition fields.
    pub(crate) fn fits(self, record_key_fields: usize, partition_fields: usize) -> bool {
        match self {
            Self::Nonpartitioned => partition_fields == 0,
            Self::Simple | Self::TimestampBased => record_key_fields == 1 && partition_fields == 1,
            Self::Complex | Self::Custom => true,
        }
    }

    /// Returns the generator of this Java class.
    pub fn from_class(class: &str) -> Option<Self> {
        match class.strip_prefix(KEY_GENERATOR_PACKAGE)? {
            "NonpartitionedKeyGenerator" | "NonpartitionedAvroKeyGenerator" => Some(Self::Nonpartitioned),
            "SimpleKeyGenerator" | "SimpleAvroKeyGenerator" => Some(Self::Simple),
            "ComplexKeyGenerator" | "ComplexAvroKeyGenerator" => Some(Self::Complex),
            "TimestampBasedKeyGenerator" | "TimestampBasedAvroKeyGenerator" => Some(Self::TimestampBased),
            "CustomKeyGenerator" | "CustomAvroKeyGenerator" => Some(Self::Custom),
            _ => None,
        }
    }

    /// Returns the generator for a value of `hoodie.table.keygenerator.type`, which 1.x writes.
    pub fn from_type(kind: &str) -> Option<Self> {
        match kind {
            "NON_PARTITION" | "NON_PARTITION_AVRO" => Some(Self::Nonpartitioned),
            "SIMPLE" | "SIMPLE_AVRO" => Some(Self::Simple),
            "COMPLEX" | "COMPLEX_AVRO" => Some(Self::Complex),
            "TIMESTAMP" | "TIMESTAMP_AVRO" => Some(Self::TimestampBased),
            "CUSTOM" | "CUSTOM_AVRO" => Some(Self::Custom),
            _ => None,
        }
    }
}

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

/// Formats a column's values as Java does.
fn as_text(column: &ArrayRef, name: &str) -> Result<StringArray> {
    let failed = |cause| {
        invalid("a key column cannot be written as text").with_context("column", name).with_source(cause)
    };
    if !has_text(column.data_type()) {
        let message = "values of this type cannot be part of a record key or of a partition path";
        return Err(Error::new(ErrorKind::Unsupported, message)
            .with_context("column", name)
            .with_context("type", column.data_type()));
    }
    let column = match column.data_type() {
        // Hudi removes the logical type first, so the key contains the number of the timestamp.
        DataType::Timestamp(..) => cast(column, &DataType::Int64).map_err(failed)?,
        DataType::Float32 => {
            let values = column.as_primitive::<Float32Type>().iter();
            return Ok(values.map(|value| value.map(java::float)).collect());
        }
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>().iter();
            return Ok(values.map(|value| value.map(java::double)).collect());
        }
        _ => column.clone(),
    };
    let text = cast(&column, &DataType::Utf8).map_err(failed)?;
    Ok(text.as_string::<i32>().clone())
}

/// Returns `true` if every version of Hudi formats values of this type in the same way in keys and in paths.
/// This excludes bytes.
fn has_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Boolean
            | DataType::Int32
            | DataType::Int64
            | DataType::Float32
            | DataType::Float64
            | DataType::Decimal128(..)
            | DataType::Utf8
            | DataType::Date32
            | DataType::Timestamp(..)
    )
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

/// The partition path of each row, as an index into the distinct paths.
#[derive(Debug, Default)]
pub struct Partitions {
    /// The distinct paths.
    pub paths: Vec<String>,
    /// The index in `paths` of each row's path.
    pub row_to_path: Vec<u32>,
}

impl Partitions {
    /// Computes the partition paths of rows.
    pub fn of(batch: &RecordBatch, table: &TableProperties) -> Result<Self> {
        if table.partition_fields.is_empty() {
            return Ok(Self { paths: vec![String::new()], row_to_path: vec![0; batch.num_rows()] });
        }
        let columns = table
            .partition_fields
            .iter()
            .zip(&table.folder_forms)
            .map(|(field, form)| {
                let column = batch.column_by_name(field).ok_or_else(|| {
                    invalid("the batch lacks a partition column").with_context("column", field)
                })?;
                match (form, &table.timestamp_key) {
                    (FolderForm::Text, _) => as_text(column, field),
                    (FolderForm::Time, Some(key)) => key.values(column, field),
                    _ => Err(Error::new(
                        ErrorKind::Unsupported,
                        "the table does not record the form of its partition folders",
                    )
                    .with_context("column", field)),
                }
            })
            .collect::<Result<Vec<_>>>()?;
        let mut partitions = Self { paths: Vec::new(), row_to_path: Vec::with_capacity(batch.num_rows()) };
        let mut known: HashMap<String, u32> = HashMap::new();
        let mut path = String::new();
        for row in 0..batch.num_rows() {
            path.clear();
            for (field, column) in table.partition_fields.iter().zip(&columns) {
                if !path.is_empty() {
                    path.push('/');
                }
                if table.hive_style {
                    path.push_str(field);
                    path.push('=');
                }
                let value = if column.is_valid(row) { column.value(row) } else { "" };
                path.push_str(&partition_value(value, table.version.null_partition(), table.url_encode));
            }
            let id = match known.get(path.as_str()) {
                Some(id) => *id,
                None => {
                    check_path(&path, table)?;
                    let id = partitions.paths.len() as u32;
                    partitions.paths.push(path.clone());
                    known.insert(path.clone(), id);
                    id
                }
            };
            partitions.row_to_path.push(id);
        }
        Ok(partitions)
    }

    /// Returns the partition path of a row.
    pub fn path(&self, row: usize) -> &str {
        &self.paths[self.row_to_path[row] as usize]
    }
}

/// Returns the values that a partition path represents, one per partition field. A value is `None` if the
/// path does not determine it: in the folder of null and empty values, if the name is not the field's, if the
/// number of folders differs, or if the form is not [`FolderForm::Text`].
pub fn partition_values(path: &str, table: &TableProperties) -> Vec<Option<String>> {
    let values = folder_values(path, table).into_iter().zip(&table.folder_forms);
    let determined = |(value, form): (Option<String>, &FolderForm)| {
        // The string `default` gives the same folder name as null.
        value.filter(|value| *form == FolderForm::Text && value != OLD_NULL_PARTITION)
    };
    values.map(determined).collect()
}

/// Returns the text of each partition field in a partition path, in any form. It is `None` in the folder of
/// null and empty values, in a folder whose name is not the field's, and if the number of folders differs.
pub fn folder_values(path: &str, table: &TableProperties) -> Vec<Option<String>> {
    let fields = &table.partition_fields;
    let parts: Vec<&str> = if fields.len() == 1 { vec![path] } else { path.split('/').collect() };
    if parts.len() != fields.len() {
        return vec![None; fields.len()];
    }
    let value = |(part, field): (&str, &String)| {
        let value = match table.hive_style {
            true => part.strip_prefix(field.as_str())?.strip_prefix('=')?,
            false => part,
        };
        match value {
            NULL_PARTITION => None,
            value if table.url_encode => unescaped(value),
            value => Some(value.to_owned()),
        }
    };
    parts.into_iter().zip(fields).map(value).collect()
}

/// Returns a partition value without its escape sequences.
fn unescaped(value: &str) -> Option<String> {
    let mut parts = value.split('%');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        // Only ASCII characters are escaped.
        text.push(char::from(u8::from_str_radix(code, 16).ok()?));
        text.push_str(rest);
    }
    Some(text)
}

fn partition_value<'a>(value: &'a str, null: &'a str, url_encode: bool) -> Cow<'a, str> {
    if value.is_empty() {
        return Cow::Borrowed(null);
    }
    if !url_encode || !value.contains(is_escaped) {
        return Cow::Borrowed(value);
    }
    let mut encoded = String::with_capacity(value.len() + 8);
    for character in value.chars() {
        if is_escaped(character) {
            let _ = write!(encoded, "%{:02X}", u32::from(character));
        } else {
            encoded.push(character);
        }
    }
    Cow::Owned(encoded)
}

/// Returns `true` for characters that Hive, and therefore Hudi, escapes in paths. They differ from those that
/// are escaped in URLs.
pub fn is_escaped(character: char) -> bool {
    character.is_ascii_control()
        || matches!(
            character,
            '"' | '#' | '%' | '\'' | '*' | '/' | ':' | '=' | '?' | '\\' | '{' | '[' | ']' | '^'
        )
}

/// Checks that every storage can hold a partition path, and that every reader can split it.
fn check_path(path: &str, table: &TableProperties) -> Result<()> {
    let refused = |message: &str| {
        invalid(message).with_context("partition", path).with_context("hint", "URL encode partition paths")
    };
    if path.contains(':') || path.chars().any(|character| character.is_ascii_control()) {
        return Err(refused("a partition value contains a character that Hadoop cannot store"));
    }
    let fields = table.partition_fields.len();
    if fields > 1 && path.split('/').count() != fields {
        return Err(refused(
            "a partition value contains a slash, which readers cannot tell from the next field",
        ));
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..") || part.starts_with(".hoodie")) {
        return Err(refused("a partition value is not a valid folder name"));
    }
    Ok(())
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Date32Array, Decimal128Array, Int32Array, TimestampMicrosecondArray};

    use super::*;
    use crate::properties::NewTable;

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
