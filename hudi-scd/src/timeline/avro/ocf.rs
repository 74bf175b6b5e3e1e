//! Avro object container files of one record, as Hudi writes them.

use apache_avro::{Reader, Schema, from_value, writer::datum::GenericDatumWriter};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, ErrorKind, Result};

const MAGIC: &[u8] = b"Obj\x01";

/// The schema of a record, in the form in which the header of a file holds it.
pub(in crate::timeline) struct RecordSchema {
    pub(in crate::timeline) text: String,
    parsed: Schema,
}

impl RecordSchema {
    /// From one of this folder's `.avsc` files.
    pub(in crate::timeline) fn new(avsc: &str) -> Self {
        let text = without_layout(avsc);
        let parsed = Schema::parse_str(&text).expect("the .avsc files of this crate are schemas");
        Self { text, parsed }
    }

    /// The file: a header with the schema alone (no codec means no compression), one block, one record.
    ///
    /// The sync marker is drawn from the content, not by lot, so that the same record makes the same file.
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
    /// The record alone, without a container.
    pub(in crate::timeline) fn encode_datum<T: Serialize>(&self, record: &T) -> Vec<u8> {
        GenericDatumWriter::builder(&self.parsed)
            .build()
            .and_then(|writer| writer.write_ser_to_vec(record))
            .expect("the records of this crate have the shape of their schema")
    }
}

/// The one record of a file, by the schema in its header.
///
/// By way of a value: records that newer releases nest in fields of theirs cannot be passed over on the direct way.
pub(super) fn decode<T: DeserializeOwned>(file: &[u8]) -> Result<T> {
    let corrupt = |message: &str| Error::new(ErrorKind::Corrupt, message);
    let mut records =
        Reader::new(file).map_err(|e| corrupt("file is not an Avro object container").with_source(e))?;
    let Some(record) = records.next() else { return Err(corrupt("Avro file holds no record")) };
    record
        .and_then(|value| from_value(&value))
        .map_err(|e| corrupt("Avro record is not the expected one").with_source(e))
}

/// JSON without spaces between its tokens, everything in its order.
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

/// FNV-1a in 128 bits.
fn marker(datum: &[u8]) -> [u8; 16] {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    datum.iter().fold(BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME)).to_be_bytes()
}

/// Gives a record `encode` and `decode` by the schema in the file `$avsc`.
macro_rules! container {
    ($record:ty, $avsc:literal) => {
        impl $record {
            /// The Avro object container file of this record, as it is on the timeline.
            pub fn encode(&self) -> Vec<u8> {
                static SCHEMA: std::sync::LazyLock<$crate::timeline::avro::ocf::RecordSchema> =
                    std::sync::LazyLock::new(|| {
                        $crate::timeline::avro::ocf::RecordSchema::new(include_str!($avsc))
                    });
                SCHEMA.encode(self)
            }

            /// Reads such a file, written by any release.
            ///
            /// # Errors
            /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if it is none; the caller knows the file's name.
            pub fn decode(file: &[u8]) -> $crate::Result<Self> {
                $crate::timeline::avro::ocf::decode(file)
            }
        }
    };
}

pub(super) use container;
