//! Avro object container files with one record, as Hudi writes them.

use apache_avro::{Reader, Schema, from_value, types::Value, writer::datum::GenericDatumWriter};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, ErrorKind, Result};

const MAGIC: &[u8] = b"Obj\x01";

/// The schema of a record, in the form of a file's header.
pub(in crate::timeline) struct RecordSchema {
    pub(in crate::timeline) text: String,
    parsed: Schema,
}

impl RecordSchema {
    /// Creates the schema from one of this folder's `.avsc` files.
    pub(in crate::timeline) fn new(avsc: &str) -> Self {
        let text = without_layout(avsc);
        let parsed = Schema::parse_str(&text).expect("the .avsc files of this crate are schemas");
        Self { text, parsed }
    }

    /// Encodes the file: a header with only the schema (no codec means no compression), one block, one
    /// record.
    ///
    /// The sync marker is computed from the content instead of at random, so that equal records give equal
    /// files.
    pub(super) fn encode<T: Serialize>(&self, record: &T) -> Vec<u8> {
        let datum = self.encode_datum(record);
        let marker = marker(&datum);
        let mut out = Vec::with_capacity(self.text.len() + datum.len() + 80);
        out.extend_from_slice(MAGIC);
        put_long(&mut out, 1);
        put_bytes(&mut out, b"avro.schema");
        put_bytes(&mut out, self.text.as_bytes());
        put_long(&mut out, 0);
        out.extend_from_slice(&marker);
        put_long(&mut out, 1);
        put_bytes(&mut out, &datum);
        out.extend_from_slice(&marker);
        out
    }
}

impl RecordSchema {
    /// Encodes the record without a container.
    pub(in crate::timeline) fn encode_datum<T: Serialize>(&self, record: &T) -> Vec<u8> {
        GenericDatumWriter::builder(&self.parsed)
            .build()
            .and_then(|writer| writer.write_ser_to_vec(record))
            .expect("the records of this crate have the shape of their schema")
    }
}

/// Decodes the record of a file with the schema in its header.
///
/// The record is decoded through a value, because the direct decoder cannot skip records that newer releases
/// nest in additional fields.
pub(super) fn decode<T: DeserializeOwned>(file: &[u8]) -> Result<T> {
    from_value(&value(file)?)
        .map_err(|e| corrupt("Avro record does not have the expected form").with_source(e))
}

/// Returns `true` if the bytes begin like an Avro object container.
pub(in crate::timeline) fn is_container(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Decodes the record of a file as a JSON object. Null fields are omitted, because a reader replaces them by
/// its defaults.
pub(in crate::timeline) fn decode_as_json(file: &[u8]) -> Result<serde_json::Value> {
    let value = value(file)?;
    json(value).ok_or_else(|| corrupt("Avro record contains a value without a JSON form"))
}

fn value(file: &[u8]) -> Result<Value> {
    let mut records =
        Reader::new(file).map_err(|e| corrupt("file is not an Avro object container").with_source(e))?;
    let Some(record) = records.next() else { return Err(corrupt("Avro file contains no record")) };
    record.map_err(|e| corrupt("Avro record does not have the expected form").with_source(e))
}

fn corrupt(message: &str) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}

fn json(value: Value) -> Option<serde_json::Value> {
    Some(match value {
        Value::Null => serde_json::Value::Null,
        Value::Boolean(flag) => flag.into(),
        Value::Int(number) => number.into(),
        Value::Long(number) => number.into(),
        Value::Float(number) => number.into(),
        Value::Double(number) => number.into(),
        Value::String(text) | Value::Enum(_, text) => text.into(),
        Value::Union(_, inner) => json(*inner)?,
        Value::Array(items) => items.into_iter().map(json).collect::<Option<Vec<_>>>()?.into(),
        Value::Map(entries) => object(entries)?,
        Value::Record(fields) => object(fields)?,
        _ => return None,
    })
}

fn object(entries: impl IntoIterator<Item = (String, Value)>) -> Option<serde_json::Value> {
    let entries = entries.into_iter().map(|(name, value)| Some((name, json(value)?)));
    let entries = entries.collect::<Option<Vec<_>>>()?;
    Some(serde_json::Value::Object(entries.into_iter().filter(|(_, value)| !value.is_null()).collect()))
}

/// Returns JSON without white space between its tokens, in the original order.
fn without_layout(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut in_text = false;
    let mut escaped = false;
    for c in json.chars() {
        if in_text || !c.is_ascii_whitespace() {
            out.push(c);
        }
        match c {
            '"' if !escaped => in_text = !in_text,
            _ => {}
        }
        escaped = in_text && c == '\\' && !escaped;
    }
    out
}

fn put_long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

/// Computes FNV-1a in 128 bits.
fn marker(datum: &[u8]) -> [u8; 16] {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    datum.iter().fold(BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME)).to_be_bytes()
}

/// Implements `encode` and `decode` for a record with the schema in the file `$avsc`.
macro_rules! container {
    ($record:ty, $avsc:literal) => {
        impl $record {
            /// Encodes this record as an Avro object container file, as on the timeline.
            pub fn encode(&self) -> Vec<u8> {
                static SCHEMA: std::sync::LazyLock<$crate::timeline::avro::ocf::RecordSchema> =
                    std::sync::LazyLock::new(|| {
                        $crate::timeline::avro::ocf::RecordSchema::new(include_str!($avsc))
                    });
                SCHEMA.encode(self)
            }

            /// Decodes such a file. Any release may have written it.
            ///
            /// # Errors
            /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if the file is not such a file. The caller
            /// knows the file's name.
            pub fn decode(file: &[u8]) -> $crate::Result<Self> {
                $crate::timeline::avro::ocf::decode(file)
            }
        }
    };
}

pub(super) use container;
