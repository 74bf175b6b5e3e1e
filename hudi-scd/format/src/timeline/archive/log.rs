//! The archive's files, in Hudi's log format. A block contains some records and their schema.
//!
//! ```text
//! "#HUDI#" | i64 size | i32 version | i32 block type | header | i64 length of content | content | footer | i64 size + 6
//! header, footer: i32 count, count x { i32 key, i32 length, bytes };  key 2: the schema
//! content:        i32 version, i32 count, count x { i32 length, a record in Avro }
//! ```
//! Numbers are big-endian. `size` counts the bytes from `version` to the end of the block.

use apache_avro::{Schema, from_value, reader::datum::GenericDatumReader};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, ErrorKind, Result, timeline::avro::RecordSchema};

const MAGIC: &[u8] = b"#HUDI#";
const FORMAT_VERSION: i32 = 1;
const AVRO_DATA_BLOCK: i32 = 3;
const SCHEMA_HEADER: i32 = 2;
const CONTENT_VERSION: i32 = 3;

/// Encodes a block of records.
pub(super) fn encode_block<T: Serialize>(schema: &RecordSchema, records: &[T]) -> Vec<u8> {
    let mut content = Vec::new();
    put_i32(&mut content, CONTENT_VERSION);
    put_i32(&mut content, records.len() as i32);
    for record in records {
        put_bytes(&mut content, &schema.encode_datum(record));
    }
    let mut block = Vec::with_capacity(content.len() + schema.text.len() + 64);
    put_i32(&mut block, FORMAT_VERSION);
    put_i32(&mut block, AVRO_DATA_BLOCK);
    put_i32(&mut block, 1);
    put_i32(&mut block, SCHEMA_HEADER);
    put_bytes(&mut block, schema.text.as_bytes());
    put_i64(&mut block, content.len() as i64);
    block.extend_from_slice(&content);
    put_i32(&mut block, 0);
    // The size includes the eight bytes at the end. The number in those bytes also includes the magic.
    let size = block.len() as i64 + 8;
    put_i64(&mut block, size + MAGIC.len() as i64);
    let mut out = Vec::with_capacity(block.len() + 14);
    out.extend_from_slice(MAGIC);
    put_i64(&mut out, size);
    out.extend_from_slice(&block);
    out
}

/// Decodes the records of all blocks of a file.
pub(super) fn decode<T: DeserializeOwned>(file: &[u8]) -> Result<Vec<T>> {
    let mut input = Input(file);
    let mut records = Vec::new();
    while !input.0.is_empty() {
        if input.take(MAGIC.len())? != MAGIC {
            return Err(corrupt("archive has no block where one should begin"));
        }
        let size = input.length()?;
        decode_block(Input(input.take(size)?), &mut records)?;
    }
    Ok(records)
}

fn decode_block<T: DeserializeOwned>(mut block: Input<'_>, records: &mut Vec<T>) -> Result<()> {
    let (version, kind) = (block.i32()?, block.i32()?);
    if version != FORMAT_VERSION || kind != AVRO_DATA_BLOCK {
        return Err(Error::new(ErrorKind::Unsupported, "archive has a block of an unknown kind")
            .with_context("version", version)
            .with_context("type", kind));
    }
    let mut schema = None;
    for _ in 0..block.i32()? {
        let key = block.i32()?;
        let value = block.bytes()?;
        if key == SCHEMA_HEADER {
            schema = Some(value);
        }
    }
    let schema = schema.ok_or_else(|| corrupt("archive has a block without a schema"))?;
    let schema = String::from_utf8_lossy(schema);
    let schema =
        Schema::parse_str(&schema).map_err(|e| corrupt("archive has a broken schema").with_source(e))?;
    let reader = GenericDatumReader::builder(&schema)
        .build()
        .map_err(|e| corrupt("archive has a broken schema").with_source(e))?;
    let length = block.length()?;
    let mut content = Input(block.take(length)?);
    let version = content.i32()?;
    if !(1..=CONTENT_VERSION).contains(&version) {
        return Err(Error::new(ErrorKind::Unsupported, "archive has records of an unknown version")
            .with_context("version", version));
    }
    for _ in 0..content.i32()? {
        let mut record = content.bytes()?;
        // Decodes through a value, because the direct decoder cannot skip records that newer releases nest in
        // additional fields.
        let record = reader.read_value(&mut record).and_then(|value| from_value(&value));
        records.push(record.map_err(|e| corrupt("archive has a broken record").with_source(e))?);
    }
    Ok(())
}

/// The remaining input.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) =
            self.0.split_at_checked(length).ok_or_else(|| corrupt("archive ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn i32(&mut self) -> Result<i32> {
        let bytes = self.take(4)?;
        Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Reads a length of eight bytes.
    fn length(&mut self) -> Result<usize> {
        let bytes = self.take(8)?;
        let mut number = [0; 8];
        number.copy_from_slice(bytes);
        usize::try_from(i64::from_be_bytes(number)).map_err(|_| corrupt("archive has a negative length"))
    }

    fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = usize::try_from(self.i32()?).map_err(|_| corrupt("archive has a negative length"))?;
        self.take(length)
    }
}

fn put_i32(out: &mut Vec<u8>, number: i32) {
    out.extend_from_slice(&number.to_be_bytes());
}

fn put_i64(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(&number.to_be_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_i32(out, bytes.len() as i32);
    out.extend_from_slice(bytes);
}

fn corrupt(message: &str) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}
