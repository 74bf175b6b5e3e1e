//! The Avro form of a schema, in commit metadata and in the footers of base files.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use serde_json::{Map, Value};

use super::{
    UTC,
    docs::{doc, doc_of},
    is_meta_column, list_of, map_of,
};
use crate::{Error, ErrorKind, Result};
use std::sync::Arc;

/// Replaces each character that Avro does not allow by `__`, as Hudi does to derive the record name from a
/// table's name.
pub fn sanitize_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for (index, c) in name.chars().enumerate() {
        if c == '_' || c.is_ascii_alphabetic() || (index > 0 && c.is_ascii_digit()) {
            out.push(c);
        } else {
            out.push_str("__");
        }
    }
    out
}

/// Formats a schema in Avro, character by character as Spark writes it for the table with this name: the
/// record is `hoodie.{table}.{table}_record`, and the null branch is first. Metadata under
/// [`DOC`](super::DOC) becomes the `doc` of a column.
///
/// Commit metadata contains only the data columns; the footer's `parquet.avro.schema` contains
/// [`with_meta_columns`](super::with_meta_columns).
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for a type that is not [canonical](super::canonical).
pub fn to_avro(schema: &Schema, table_name: &str) -> Result<String> {
    let table = sanitize_name(table_name);
    let (name, namespace) = (format!("{table}_record"), format!("hoodie.{table}"));
    let mut out = String::new();
    write_record(&mut out, schema.fields(), doc_of(schema.metadata()), &name, &namespace)?;
    Ok(out)
}

fn write_record(
    out: &mut String,
    fields: &Fields,
    doc: Option<&str>,
    name: &str,
    namespace: &str,
) -> Result<()> {
    out.push_str(&format!(r#"{{"type":"record","name":"{name}","namespace":"{namespace}","#));
    if let Some(doc) = doc {
        out.push_str(&format!(r#""doc":{},"#, quoted(doc)));
    }
    out.push_str(r#""fields":["#);
    let inner = format!("{namespace}.{name}");
    for (index, field) in fields.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_field(out, field, &inner)?;
    }
    out.push_str("]}");
    Ok(())
}

/// Writes a field. `record` is the full name of its record.
pub(super) fn write_field(out: &mut String, field: &Field, record: &str) -> Result<()> {
    out.push_str(&format!(r#"{{"name":{},"type":"#, quoted(field.name())));
    write_type(out, field.data_type(), field.is_nullable(), field.name(), record)?;
    if is_meta_column(field.name()) {
        out.push_str(r#","doc":"""#);
    } else if let Some(doc) = doc_of(field.metadata()) {
        out.push_str(&format!(r#","doc":{}"#, quoted(doc)));
    }
    out.push_str(if field.is_nullable() { r#","default":null}"# } else { "}" });
    Ok(())
}

/// Writes a type. As in Spark's converter, a named type gets `name` and `namespace`.
pub(super) fn write_type(
    out: &mut String,
    data_type: &DataType,
    nullable: bool,
    name: &str,
    namespace: &str,
) -> Result<()> {
    if nullable {
        out.push_str(r#"["null","#);
    }
    match data_type {
        DataType::Boolean => out.push_str(r#""boolean""#),
        DataType::Int32 => out.push_str(r#""int""#),
        DataType::Int64 => out.push_str(r#""long""#),
        DataType::Float32 => out.push_str(r#""float""#),
        DataType::Float64 => out.push_str(r#""double""#),
        DataType::Utf8 => out.push_str(r#""string""#),
        DataType::Binary => out.push_str(r#""bytes""#),
        DataType::Date32 => out.push_str(r#"{"type":"int","logicalType":"date"}"#),
        DataType::Timestamp(unit, zone) => {
            let unit = match unit {
                TimeUnit::Millisecond => "millis",
                TimeUnit::Microsecond => "micros",
                _ => return Err(not_canonical(data_type, name)),
            };
            let local = if zone.is_some() { "" } else { "local-" };
            out.push_str(&format!(r#"{{"type":"long","logicalType":"{local}timestamp-{unit}"}}"#));
        }
        DataType::Decimal128(precision, scale) => out.push_str(&format!(
            r#"{{"type":"fixed","name":"fixed","namespace":"{namespace}.{name}","size":{},"logicalType":"decimal","precision":{precision},"scale":{scale}}}"#,
            decimal_bytes(*precision),
        )),
        DataType::List(item) => {
            out.push_str(r#"{"type":"array","items":"#);
            write_type(out, item.data_type(), item.is_nullable(), name, namespace)?;
            out.push('}');
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(entry) = entries.data_type() else {
                return Err(not_canonical(data_type, name));
            };
            let [_, value] = entry.as_ref() else { return Err(not_canonical(data_type, name)) };
            out.push_str(r#"{"type":"map","values":"#);
            write_type(out, value.data_type(), value.is_nullable(), name, namespace)?;
            out.push('}');
        }
        DataType::Struct(fields) => write_record(out, fields, None, name, namespace)?,
        _ => return Err(not_canonical(data_type, name)),
    }
    if nullable {
        out.push(']');
    }
    Ok(())
}

/// Returns the minimum number of bytes that can hold every decimal of this precision. It is also the width of
/// the column in Parquet.
pub fn decimal_bytes(precision: u8) -> usize {
    let greatest = 10_u128.checked_pow(u32::from(precision)).map_or(u128::MAX, |n| n - 1);
    let bits = 128 - greatest.leading_zeros() + 1;
    bits.div_ceil(8) as usize
}

pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn not_canonical(data_type: &DataType, name: &str) -> Error {
    super::no_place(data_type, name)
}

/// Parses the Avro form of a table's schema. Meta columns are kept if they are present. The `doc` of columns
/// and of the record becomes metadata under [`DOC`](super::DOC).
///
/// # Errors
/// [`ErrorKind::Corrupt`] if the text is not the schema of a record; [`ErrorKind::Unsupported`] for types
/// that this crate cannot read: unions of several types, recursive records. The error names the column.
pub fn from_avro(text: &str) -> Result<SchemaRef> {
    parse(text).map(|(schema, _)| schema)
}

/// Rejects a schema with a type that this crate reads, but does not write: enums, times of day, and fixed
/// bytes that are not decimals. [`from_avro`] returns text, numbers and bytes for them, and base files of
/// other writers store them in types of their own.
///
/// # Errors
/// [`ErrorKind::Unsupported`], naming the column; also as [`from_avro`].
pub fn check_writable(text: &str) -> Result<()> {
    match parse(text)?.1 {
        None => Ok(()),
        Some((column, kind)) => {
            let message = "columns of this type can be read here, but not written";
            let hint = "the table can be read here; write it with the engine that created it";
            Err(unsupported(message, &column, kind).with_context("hint", hint))
        }
    }
}

/// Parses a schema. Also returns its first column with a type that is only read.
fn parse(text: &str) -> Result<(SchemaRef, Option<(String, String)>)> {
    let value: Value = serde_json::from_str(text)
        .map_err(|e| Error::new(ErrorKind::Corrupt, "schema is not JSON").with_source(e))?;
    let mut reader = Reader { named: HashMap::new(), only_read: None };
    match reader.read(&value, "", "")? {
        (DataType::Struct(fields), _) => {
            let metadata = said(&value).map(doc).unwrap_or_default();
            Ok((Arc::new(Schema::new_with_metadata(fields, metadata)), reader.only_read))
        }
        _ => Err(Error::new(ErrorKind::Corrupt, "schema is not a record")),
    }
}

/// Returns the `doc` of a record or a column.
fn said(value: &Value) -> Option<&str> {
    value.get("doc").and_then(Value::as_str).filter(|text| !text.is_empty())
}

struct Reader {
    /// The named types seen so far, because a later column may refer to them.
    named: HashMap<String, DataType>,
    /// The first column with a type that is only read, and the name of the type.
    only_read: Option<(String, String)>,
}

impl Reader {
    /// Returns the type and its nullability. `path` names the column in errors.
    fn read(&mut self, value: &Value, namespace: &str, path: &str) -> Result<(DataType, bool)> {
        match value {
            Value::String(name) => Ok((self.by_name(name, namespace, path)?, false)),
            Value::Array(branches) => {
                let null = |branch: &&Value| branch.as_str() == Some("null");
                let types: Vec<&Value> = branches.iter().filter(|branch| !null(branch)).collect();
                match types.as_slice() {
                    [one] => Ok((self.read(one, namespace, path)?.0, types.len() < branches.len())),
                    _ => Err(unsupported("column is a union of several types", path, value)),
                }
            }
            Value::Object(object) => Ok((self.complex(object, namespace, path)?, false)),
            _ => Err(corrupt("schema has an invalid type", path)),
        }
    }

    fn by_name(&self, name: &str, namespace: &str, path: &str) -> Result<DataType> {
        Ok(match name {
            "boolean" => DataType::Boolean,
            "int" => DataType::Int32,
            "long" => DataType::Int64,
            "float" => DataType::Float32,
            "double" => DataType::Float64,
            "string" => DataType::Utf8,
            "bytes" => DataType::Binary,
            _ => {
                let full = full_name(name, namespace);
                let known = self.named.get(&full).or_else(|| self.named.get(name));
                known
                    .cloned()
                    .ok_or_else(|| unsupported("column has an unknown or recursive type", path, name))?
            }
        })
    }

    fn complex(&mut self, object: &Map<String, Value>, namespace: &str, path: &str) -> Result<DataType> {
        let text = |key: &str| object.get(key).and_then(Value::as_str);
        let Some(kind) = text("type") else {
            // `{"type": {...}}` wraps another type.
            return match object.get("type") {
                Some(inner) => Ok(self.read(inner, namespace, path)?.0),
                None => Err(corrupt("schema has a type without a name", path)),
            };
        };
        match kind {
            "record" => {
                let name = text("name").ok_or_else(|| corrupt("schema has a record without a name", path))?;
                let full = full_name(name, text("namespace").unwrap_or(namespace));
                let inner = full.rsplit_once('.').map_or("", |(space, _)| space).to_owned();
                let fields = object.get("fields").and_then(Value::as_array);
                let fields = fields.ok_or_else(|| corrupt("schema has a record without fields", path))?;
                let mut out = Vec::with_capacity(fields.len());
                for field in fields {
                    let (Some(name), Some(field_type)) =
                        (field.get("name").and_then(Value::as_str), field.get("type"))
                    else {
                        return Err(corrupt("schema has a column without name or type", path));
                    };
                    let (data_type, nullable) = self.read(field_type, &inner, &super::join(path, name))?;
                    let metadata = said(field).map(doc).unwrap_or_default();
                    out.push(Field::new(name, data_type, nullable).with_metadata(metadata));
                }
                let data_type = DataType::Struct(out.into());
                self.named.insert(full, data_type.clone());
                Ok(data_type)
            }
            "array" => {
                let items =
                    object.get("items").ok_or_else(|| corrupt("schema has an array without items", path))?;
                let (item, nullable) = self.read(items, namespace, path)?;
                Ok(match list_of(item) {
                    DataType::List(field) => {
                        DataType::List(Arc::new(field.as_ref().clone().with_nullable(nullable)))
                    }
                    other => other,
                })
            }
            "map" => {
                let values =
                    object.get("values").ok_or_else(|| corrupt("schema has a map without values", path))?;
                let (value, nullable) = self.read(values, namespace, path)?;
                Ok(map_of(value, nullable))
            }
            "fixed" | "bytes" if text("logicalType") == Some("decimal") => {
                let data_type = decimal(object, path)?;
                if let Some(name) = text("name") {
                    self.named
                        .insert(full_name(name, text("namespace").unwrap_or(namespace)), data_type.clone());
                }
                Ok(data_type)
            }
            "int" | "long" => match (kind, text("logicalType")) {
                ("int", Some("date")) => Ok(DataType::Date32),
                ("long", Some("timestamp-millis")) => {
                    Ok(DataType::Timestamp(TimeUnit::Millisecond, Some(UTC.into())))
                }
                ("long", Some("timestamp-micros")) => {
                    Ok(DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())))
                }
                ("long", Some("local-timestamp-millis")) => {
                    Ok(DataType::Timestamp(TimeUnit::Millisecond, None))
                }
                ("long", Some("local-timestamp-micros")) => {
                    Ok(DataType::Timestamp(TimeUnit::Microsecond, None))
                }
                ("int", Some(logical @ "time-millis")) => Ok(self.only_read(DataType::Int32, path, logical)),
                ("long", Some(logical @ "time-micros")) => Ok(self.only_read(DataType::Int64, path, logical)),
                _ => self.by_name(kind, namespace, path),
            },
            "enum" | "fixed" => {
                let size =
                    object.get("size").and_then(Value::as_i64).and_then(|size| i32::try_from(size).ok());
                let data_type = match (kind, size.filter(|size| *size > 0)) {
                    ("enum", _) => DataType::Utf8,
                    (_, Some(size)) => DataType::FixedSizeBinary(size),
                    (_, None) => return Err(corrupt("schema has fixed bytes without a size", path)),
                };
                let data_type = self.only_read(data_type, path, kind);
                if let Some(name) = text("name") {
                    self.named
                        .insert(full_name(name, text("namespace").unwrap_or(namespace)), data_type.clone());
                }
                Ok(data_type)
            }
            _ => self.by_name(kind, namespace, path),
        }
    }

    fn only_read(&mut self, data_type: DataType, path: &str, kind: &str) -> DataType {
        self.only_read.get_or_insert_with(|| (path.to_owned(), kind.to_owned()));
        data_type
    }
}

fn decimal(object: &Map<String, Value>, path: &str) -> Result<DataType> {
    let number = |key: &str| object.get(key).and_then(Value::as_u64);
    let precision = number("precision").and_then(|p| u8::try_from(p).ok());
    let scale = number("scale").or(if object.contains_key("scale") { None } else { Some(0) });
    match (precision, scale.and_then(|s| i8::try_from(s).ok())) {
        (Some(precision @ 1..=super::MAX_PRECISION), Some(scale)) if scale as u8 <= precision => {
            Ok(DataType::Decimal128(precision, scale))
        }
        _ => Err(unsupported(
            "column is a decimal of more than 38 digits",
            path,
            Value::Object(object.clone()),
        )),
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn unsupported(message: &str, path: &str, found: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unsupported, message).with_context("column", path).with_context("type", found)
}

fn corrupt(message: &str, path: &str) -> Error {
    Error::new(ErrorKind::Corrupt, message).with_context("column", path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{canonical, with_meta_columns, without_meta_columns};
    use parquet::file::reader::{FileReader, SerializedFileReader};

    fn footer_schema(name: &str) -> String {
        let path = format!("{}/tests/data/bloom/{name}.parquet", env!("CARGO_MANIFEST_DIR"));
        let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
        let footer = reader.metadata().file_metadata().key_value_metadata().unwrap();
        footer.iter().find(|kv| kv.key == "parquet.avro.schema").unwrap().value.clone().unwrap()
    }

    #[rstest::rstest]
    #[case("customer", "archived-0.15")]
    #[case("complexkey", "complexkey-0.15")]
    fn writes_the_text_that_spark_wrote(#[case] file: &str, #[case] table: &str) {
        let text = footer_schema(file);
        let schema = from_avro(&text).unwrap();
        // The tables of the tests have names in which hyphens are already replaced by underscores.
        assert_eq!(to_avro(&schema, &table.replace('-', "_")).unwrap(), text);
        let data = without_meta_columns(&schema);
        assert_eq!(with_meta_columns(&data), schema);
        assert_eq!(canonical(&data).unwrap(), data);
    }

    #[test]
    fn names_nested_types_after_their_path() {
        let amount = Field::new("amount", DataType::Decimal128(5, 2), true);
        let line = DataType::Struct(vec![Field::new("sku", DataType::Utf8, true), amount].into());
        let schema = Schema::new(vec![
            Field::new("lines", list_of(line), true),
            Field::new("tags", map_of(DataType::Int64, true), true),
            Field::new("seen", DataType::Timestamp(TimeUnit::Millisecond, None), false),
        ]);
        let text = to_avro(&schema, "t").unwrap();
        let expected = concat!(
            r#"{"type":"record","name":"t_record","namespace":"hoodie.t","fields":["#,
            r#"{"name":"lines","type":["null",{"type":"array","items":["null","#,
            r#"{"type":"record","name":"lines","namespace":"hoodie.t.t_record","fields":["#,
            r#"{"name":"sku","type":["null","string"],"default":null},"#,
            r#"{"name":"amount","type":["null",{"type":"fixed","name":"fixed","#,
            r#""namespace":"hoodie.t.t_record.lines.amount","size":3,"logicalType":"decimal","#,
            r#""precision":5,"scale":2}],"default":null}]}]}],"default":null},"#,
            r#"{"name":"tags","type":["null",{"type":"map","values":["null","long"]}],"default":null},"#,
            r#"{"name":"seen","type":{"type":"long","logicalType":"local-timestamp-millis"}}]}"#,
        );
        assert_eq!(text, expected);
        assert_eq!(*from_avro(&text).unwrap(), schema);
    }

    #[test]
    fn decimals_have_the_width_of_spark() {
        let widths = [1, 2, 3, 5, 9, 10, 15, 18, 19, 38].map(decimal_bytes);
        assert_eq!(widths, [1, 1, 2, 3, 4, 5, 7, 8, 9, 16]);
    }

    #[test]
    fn record_names_lose_what_avro_does_not_allow() {
        assert_eq!(sanitize_name("customer-0.15"), "customer__0__15");
        assert_eq!(sanitize_name("1st"), "__st");
    }

    #[test]
    fn reads_references_to_named_types_and_both_union_orders() {
        let schema = from_avro(
            r#"{"type":"record","name":"r","namespace":"a.b","fields":[
                {"name":"x","type":[{"type":"fixed","name":"money","size":5,"logicalType":"decimal","precision":10,"scale":2},"null"]},
                {"name":"y","type":["null","money"],"default":null},
                {"name":"z","type":"a.b.money"}]}"#,
        )
        .unwrap();
        assert!(schema.fields().iter().all(|f| *f.data_type() == DataType::Decimal128(10, 2)));
        assert_eq!(schema.fields().iter().map(|f| f.is_nullable()).collect::<Vec<_>>(), [true, true, false]);
    }

    #[rstest::rstest]
    #[case(r#"{"type":"enum","name":"e","symbols":["A","B"]}"#, "enum", DataType::Utf8)]
    #[case(r#"{"type":"fixed","name":"f","size":16}"#, "fixed", DataType::FixedSizeBinary(16))]
    #[case(r#"{"type":"int","logicalType":"time-millis"}"#, "time-millis", DataType::Int32)]
    #[case(r#"{"type":"long","logicalType":"time-micros"}"#, "time-micros", DataType::Int64)]
    fn types_of_other_writers_are_read_and_not_written(
        #[case] avro: &str,
        #[case] kind: &str,
        #[case] data_type: DataType,
    ) {
        let inside = format!(
            r#"{{"type":"record","name":"r","namespace":"n","fields":[{{"name":"id","type":"long"}},
            {{"name":"s","type":{{"type":"record","name":"s","fields":[{{"name":"c","type":["null",{avro}]}}]}}}}]}}"#
        );
        let schema = from_avro(&inside).unwrap();
        let DataType::Struct(fields) = schema.field(1).data_type() else { panic!("{schema}") };
        assert_eq!((fields[0].data_type(), fields[0].is_nullable()), (&data_type, true));
        canonical(&schema).unwrap();
        let error = check_writable(&inside).unwrap_err();
        assert_eq!(
            (error.kind(), error.context("column"), error.context("type")),
            (ErrorKind::Unsupported, Some("s.c"), Some(kind))
        );
        check_writable(r#"{"type":"record","name":"r","fields":[{"name":"id","type":"long"}]}"#).unwrap();
    }

    #[test]
    fn reads_references_to_enums_and_fixed_bytes() {
        let schema = from_avro(
            r#"{"type":"record","name":"r","namespace":"a.b","fields":[
                {"name":"x","type":{"type":"enum","name":"tier","symbols":["A"]}},{"name":"y","type":"tier"},
                {"name":"z","type":{"type":"fixed","name":"id","size":2}},{"name":"w","type":"a.b.id"}]}"#,
        )
        .unwrap();
        let types: Vec<_> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
        let fixed = DataType::FixedSizeBinary(2);
        assert_eq!(types, [DataType::Utf8, DataType::Utf8, fixed.clone(), fixed]);
    }

    #[rstest::rstest]
    #[case(
        r#"{"type":"record","name":"r","fields":[{"name":"u","type":["null","int","string"]}]}"#,
        ErrorKind::Unsupported
    )]
    #[case(
        r#"{"type":"record","name":"r","fields":[{"name":"u","type":["null","r"]}]}"#,
        ErrorKind::Unsupported
    )]
    #[case(
        r#"{"type":"record","name":"r","fields":[{"name":"u","type":{"type":"fixed","name":"f","size":-1}}]}"#,
        ErrorKind::Corrupt
    )]
    #[case(r#"{"type":"record","name":"r","fields":[{"name":"u"}]}"#, ErrorKind::Corrupt)]
    #[case(r#""int""#, ErrorKind::Corrupt)]
    #[case("[1]", ErrorKind::Corrupt)]
    #[case("", ErrorKind::Corrupt)]
    fn says_what_it_cannot_read(#[case] text: &str, #[case] kind: ErrorKind) {
        assert_eq!(from_avro(text).unwrap_err().kind(), kind);
    }
}
