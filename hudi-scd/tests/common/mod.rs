//! Shared parts of the tests of tables: conversion of rows from and to JSON, clocks that can be set, tables
//! of other engines.

#![allow(
    dead_code,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "not every test uses everything; a test may panic"
)]

pub mod damage;
pub mod interposed;
pub mod meter;
pub mod mortal;
pub mod operations;
pub mod range_copy;
pub mod s3;
pub mod sleepy;
pub mod slow_files;
pub mod unreliable;

use std::{
    path::Path as FilePath,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array,
        Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    },
    datatypes::{
        DataType, Date32Type, Decimal128Type, Field, Float64Type, Int32Type, Int64Type, Schema, SchemaRef,
        TimeUnit, TimestampMicrosecondType,
    },
    util::display::{ArrayFormatter, FormatOptions},
};
use hudi_scd::{FnClock, TableOptions};
use object_store::{ObjectStore, local::LocalFileSystem, memory::InMemory};
use serde_json::{Map, Value};

/// The time at which tests begin: 2026-01-01.
const START: jiff::Timestamp = jiff::Timestamp::constant(1_767_225_600, 0);

/// Creates a store in memory.
pub fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

/// Creates a store in a folder.
pub fn folder(path: &FilePath) -> Arc<dyn ObjectStore> {
    Arc::new(LocalFileSystem::new_with_prefix(path).unwrap())
}

/// Options for repeatable runs. Each reading of the clock is one second later than the previous one.
pub fn repeatable() -> TableOptions {
    let seconds = Arc::new(AtomicI64::new(0));
    let now = move || START + jiff::SignedDuration::from_secs(seconds.fetch_add(1, Ordering::Relaxed));
    TableOptions::new().with_clock(FnClock(now)).with_seed(7).with_parallelism(2)
}

/// Options with a clock that follows tokio's clock, so that leases expire.
pub fn ticking(begun: tokio::time::Instant, seed: u64) -> TableOptions {
    let now = move || START + jiff::SignedDuration::try_from(begun.elapsed()).unwrap();
    TableOptions::new().with_clock(FnClock(now)).with_seed(seed)
}

/// Parses a schema in Spark's notation, such as `id bigint, name string`.
pub fn schema(ddl: &str) -> SchemaRef {
    let mut fields = Vec::new();
    let mut rest = ddl;
    while !rest.trim().is_empty() {
        let (name, tail) = rest.trim().split_once(' ').unwrap();
        // A comma inside parentheses belongs to the type.
        let mut depth = 0;
        let end = tail
            .char_indices()
            .find(|(_, c)| {
                depth += match c {
                    '(' => 1,
                    ')' => -1,
                    _ => 0,
                };
                *c == ',' && depth == 0
            })
            .map_or(tail.len(), |(index, _)| index);
        fields.push(Field::new(name, data_type(tail[..end].trim()), true));
        rest = tail.get(end + 1..).unwrap_or("");
    }
    Arc::new(Schema::new(fields))
}

fn data_type(word: &str) -> DataType {
    match word {
        "bigint" => DataType::Int64,
        "int" => DataType::Int32,
        "string" => DataType::Utf8,
        "double" => DataType::Float64,
        "float" => DataType::Float32,
        "boolean" => DataType::Boolean,
        "date" => DataType::Date32,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        decimal => {
            let (precision, scale) =
                decimal.strip_prefix("decimal(").unwrap().trim_end_matches(')').split_once(',').unwrap();
            DataType::Decimal128(precision.trim().parse().unwrap(), scale.trim().parse().unwrap())
        }
    }
}

/// Parses JSON lines with a schema. Missing columns are null.
pub fn batch(schema: &SchemaRef, lines: &str) -> RecordBatch {
    let rows: Vec<Map<String, Value>> = lines
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let columns = schema
        .fields()
        .iter()
        .map(|field| {
            let values = || rows.iter().map(|row| row.get(field.name()).filter(|value| !value.is_null()));
            column(field.data_type(), &values().collect::<Vec<_>>())
        })
        .collect();
    RecordBatch::try_new(schema.clone(), columns).unwrap()
}

fn column(data_type: &DataType, values: &[Option<&Value>]) -> ArrayRef {
    let values = values.iter().copied();
    match data_type {
        DataType::Int64 => Arc::new(values.map(|v| v.map(|v| v.as_i64().unwrap())).collect::<Int64Array>()),
        DataType::Int32 => {
            Arc::new(values.map(|v| v.map(|v| v.as_i64().unwrap() as i32)).collect::<Int32Array>())
        }
        DataType::Utf8 => Arc::new(values.map(|v| v.map(|v| v.as_str().unwrap())).collect::<StringArray>()),
        DataType::Float64 => {
            Arc::new(values.map(|v| v.map(|v| v.as_f64().unwrap())).collect::<Float64Array>())
        }
        DataType::Float32 => Arc::new(
            values.map(|v| v.map(|v| v.as_f64().unwrap() as f32)).collect::<arrow::array::Float32Array>(),
        ),
        DataType::Boolean => {
            Arc::new(values.map(|v| v.map(|v| v.as_bool().unwrap())).collect::<BooleanArray>())
        }
        DataType::Date32 => {
            let days = |v: &Value| {
                let date: jiff::civil::Date = v.as_str().unwrap().parse().unwrap();
                (date - jiff::civil::date(1970, 1, 1)).get_days()
            };
            Arc::new(values.map(|v| v.map(days)).collect::<Date32Array>())
        }
        DataType::Timestamp(..) => {
            let micros = |v: &Value| match v {
                Value::Number(number) => number.as_i64().unwrap(),
                other => {
                    let text = other.as_str().unwrap().replace(' ', "T");
                    let text = if text.ends_with('Z') { text } else { format!("{text}Z") };
                    text.parse::<jiff::Timestamp>().unwrap().as_microsecond()
                }
            };
            Arc::new(
                values.map(|v| v.map(micros)).collect::<TimestampMicrosecondArray>().with_timezone("UTC"),
            )
        }
        DataType::Decimal128(precision, scale) => {
            let unscaled = |v: &Value| {
                let text = v.as_str().map_or_else(|| v.to_string(), str::to_owned);
                let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
                format!("{whole}{fraction:0<width$}", width = *scale as usize).parse::<i128>().unwrap()
            };
            let values: Decimal128Array = values.map(|v| v.map(unscaled)).collect();
            Arc::new(values.with_precision_and_scale(*precision, *scale).unwrap())
        }
        other => panic!("no values of {other}"),
    }
}

/// Formats rows as JSON lines in the form of the golden tables, with the columns sorted by name.
pub fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let fields = batch.schema_ref().fields().iter().zip(batch.columns());
            let object: Map<_, _> =
                fields.map(|(field, column)| (field.name().clone(), value(column, row))).collect();
            lines.push(canonical(&Value::Object(object)));
        }
    }
    lines.sort();
    lines
}

/// Formats a row with its columns sorted by name, independently of this build's order of JSON objects.
pub fn canonical(row: &Value) -> String {
    let columns: std::collections::BTreeMap<_, _> = row.as_object().unwrap().iter().collect();
    serde_json::to_string(&columns).unwrap()
}

fn value(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::Timestamp(..) => {
            let micros = column.as_primitive::<TimestampMicrosecondType>().value(row);
            let time = jiff::Timestamp::from_microsecond(micros).unwrap();
            time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string().into()
        }
        DataType::Date32 => {
            let _ = column.as_primitive::<Date32Type>();
            printed(column, row)
        }
        DataType::Decimal128(..) => {
            let _ = column.as_primitive::<Decimal128Type>();
            printed(column, row)
        }
        DataType::Float32 => {
            f64::from(column.as_primitive::<arrow::datatypes::Float32Type>().value(row)).into()
        }
        DataType::Binary => {
            use base64::Engine;
            base64::prelude::BASE64_STANDARD.encode(column.as_binary::<i32>().value(row)).into()
        }
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            (0..items.len()).map(|item| value(&items, item)).collect()
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(column.as_struct().columns());
            Value::Object(columns.map(|(field, column)| (field.name().clone(), value(column, row))).collect())
        }
        DataType::Map(..) => {
            let entries = column.as_map().value(row);
            let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1));
            let entry = |row: usize| (keys.value(row).to_owned(), value(values, row));
            Value::Object((0..keys.len()).map(entry).collect())
        }
        other => panic!("no form for {other}"),
    }
}

fn printed(column: &ArrayRef, row: usize) -> Value {
    ArrayFormatter::try_new(column, &FormatOptions::default()).unwrap().value(row).to_string().into()
}

/// Reads the lines of a file of the golden tables. They have the form of [`lines`].
pub fn expected(path: &FilePath) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines: Vec<String> =
        text.lines().map(|line| canonical(&serde_json::from_str(line).unwrap())).collect();
    lines.sort();
    lines
}

/// A table that Spark wrote, unpacked into a folder: `table/`, `inputs/`, `about.json` and the expected rows.
pub struct Golden {
    pub about: Value,
    folder: tempfile::TempDir,
    name: String,
}

impl Golden {
    pub fn unpack(name: &str) -> Self {
        // The tests of the program are in a package below this package.
        let package = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let below = format!("tests/data/tables/{name}.tar");
        let data = package.ancestors().find(|folder| folder.join("tests/data/tables").exists()).unwrap();
        let archive = data.join(below);
        let folder = tempfile::tempdir().unwrap();
        match std::fs::read(&archive) {
            Ok(archive) => untar(&archive, folder.path()),
            Err(_) => unpack(&archive.with_extension("tar.gz"), folder.path()),
        }
        let about = std::fs::read(folder.path().join(name).join("about.json")).unwrap();
        Self { about: serde_json::from_slice(&about).unwrap(), folder, name: name.to_owned() }
    }

    pub fn path(&self, below: &str) -> std::path::PathBuf {
        self.folder.path().join(&self.name).join(below)
    }

    pub fn store(&self) -> Arc<dyn ObjectStore> {
        folder(&self.path(""))
    }

    pub fn schema(&self) -> SchemaRef {
        schema(self.about["schema"].as_str().unwrap())
    }

    /// Returns the batches that were written, in order: the operation, and the path of the file relative to
    /// the folder.
    pub fn inputs(&self) -> Vec<(String, String)> {
        let steps = self.about["steps"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        steps
            .filter(|step| step.get("failed").is_none())
            .map(|step| (text(&step["operation"]), text(&step["input"])))
            .collect()
    }

    pub fn batch(&self, input: &str) -> RecordBatch {
        batch(&self.schema(), &std::fs::read_to_string(self.path(input)).unwrap())
    }
}

/// Unpacks a gzipped archive into a folder.
pub fn unpack(archive: &FilePath, into: &FilePath) {
    let packed = std::fs::File::open(archive).unwrap();
    let mut archive = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed), &mut archive).unwrap();
    untar(&archive, into);
}

/// Unpacks plain files of a ustar archive. It has blocks of 512 bytes, and a header before each file.
fn untar(archive: &[u8], into: &FilePath) {
    let text = |bytes: &[u8]| {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8(bytes[..end].to_vec()).unwrap()
    };
    let mut rest = archive;
    while rest.len() >= 512 && rest[0] != 0 {
        let (header, content) = rest.split_at(512);
        let (name, prefix) = (text(&header[..100]), text(&header[345..500]));
        let path = into.join(if prefix.is_empty() { name } else { format!("{prefix}/{name}") });
        let size = usize::from_str_radix(text(&header[124..136]).trim(), 8).unwrap();
        match header[156] {
            b'5' => std::fs::create_dir_all(&path).unwrap(),
            _ => {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, &content[..size]).unwrap();
            }
        }
        rest = &content[size.div_ceil(512) * 512..];
    }
}

/// Converts empty strings in partition columns to null. Spark reads these columns from the path, but the file
/// contains the original values.
pub fn as_spark_reads(lines: Vec<String>) -> Vec<String> {
    let mut lines: Vec<String> = lines
        .into_iter()
        .map(|line| {
            line.replace(r#""region":"""#, r#""region":null"#).replace(r#""day":"""#, r#""day":null"#)
        })
        .collect();
    lines.sort();
    lines
}
