//! [`BloomFilter`]: the filter over record keys in the footer of each base file, identical to Hudi's bit for
//! bit.
//!
//! Hudi's writers use these filters to skip files when they look up a key (`GLOBAL_BLOOM`). A file without a
//! filter makes the next Spark upsert fail, and a filter that misses a key makes it insert a duplicate.
//! Therefore both sides must agree on every bit. The hash is Hadoop's murmur with two peculiarities: the tail
//! is read from the end of the key, and bytes are signed. It is repeated with each result as the next seed.

use std::sync::Arc;

use arrow::array::StringArray;
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{Error, ErrorKind, Result};

/// The footer key of the filter in base64.
pub const FOOTER_BLOOM_FILTER: &str = "org.apache.hudi.bloomfilter";
/// The footer key of the filter's type. A file without it contains a [`BloomFilter::simple`] filter.
pub const FOOTER_BLOOM_FILTER_TYPE: &str = "hoodie_bloom_filter_type_code";

/// Hudi's default sizes (`hoodie.index.bloom.num_entries`, `hoodie.index.bloom.fpp`,
/// `hoodie.bloom.index.filter.dynamic.max.entries`): a filter of 431 KB in base64.
pub const DEFAULT_NUM_ENTRIES: u32 = 60_000;
/// Hudi's default false positive probability.
pub const DEFAULT_FPP: f64 = 1e-9;
/// The number of keys at which Hudi's dynamic filter stops growing by default.
pub const DEFAULT_MAX_ENTRIES: u32 = 100_000;

const VERSION: i32 = -1;
const MURMUR: u8 = 1;
const TYPE_SIMPLE: &str = "SIMPLE";
const TYPE_DYNAMIC: &str = "DYNAMIC_V0";

/// A set of record keys with false positives but no false negatives.
///
/// ```
/// use hudi_format::bloom::BloomFilter;
///
/// let mut filter = BloomFilter::dynamic(1_000, 1e-9, 1_000);
/// filter.insert("customer-17");
/// let footer = filter.to_base64();
/// let read = BloomFilter::parse(&footer, filter.type_code())?;
/// assert!(read.contains("customer-17"));
/// assert!(!read.contains("customer-18"));
/// # Ok::<(), hudi_format::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct BloomFilter {
    shape: Shape,
    rows: Vec<Vec<u8>>,
    growth: Option<Growth>,
}

/// The number of bits in a row, and the number of bits that a key sets.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shape {
    hashes: u32,
    bits: u32,
}

/// How a dynamic filter distributes keys over rows.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Growth {
    keys_per_row: u32,
    keys_in_last_row: u32,
    /// Number of keys after which no row is added. It is not stored, so a parsed filter may grow again.
    max_keys: u32,
    /// The row that receives the next key after the filter has stopped growing.
    reused: Option<usize>,
}

impl BloomFilter {
    /// Creates an empty filter of type `DYNAMIC_V0`, Hudi's default. Whenever the last row is full, the
    /// filter adds a row for `num_entries` keys, up to `max_entries` keys in total. Beyond that, rows are
    /// reused and false positives increase.
    pub fn dynamic(num_entries: u32, fpp: f64, max_entries: u32) -> Self {
        let shape = Shape::for_keys(num_entries, fpp);
        let growth = Growth {
            keys_per_row: num_entries.max(1),
            keys_in_last_row: 0,
            max_keys: max_entries,
            reused: None,
        };
        Self { shape, rows: vec![shape.empty_row()], growth: Some(growth) }
    }

    /// Creates an empty filter of type `SIMPLE`, which has a fixed size.
    pub fn simple(num_entries: u32, fpp: f64) -> Self {
        let shape = Shape::for_keys(num_entries, fpp);
        Self { shape, rows: vec![shape.empty_row()], growth: None }
    }

    /// Returns the value of the footer entry [`FOOTER_BLOOM_FILTER_TYPE`], or `None` if a file omits the
    /// entry.
    pub fn type_code(&self) -> Option<&'static str> {
        self.growth.map(|_| TYPE_DYNAMIC)
    }

    /// Adds a record key.
    pub fn insert(&mut self, key: &str) {
        let row = self.row_for_next_key();
        let bits = &mut self.rows[row];
        for position in self.shape.positions(key) {
            bits[position / 8] |= 1 << (position % 8);
        }
    }

    /// Returns `true` if the key may have been added, and `false` if it certainly was not.
    pub fn contains(&self, key: &str) -> bool {
        self.shape.is_in_a_row(key, self.rows.len(), |row, byte| self.rows[row][byte])
    }

    /// Returns the capacity of a row in keys, and the approximate number of added keys. Returns `None` for a
    /// simple filter, which does not count keys.
    pub fn fill(&self) -> Option<(u32, u64)> {
        let growth = self.growth?;
        let full_rows = self.rows.len() as u64 - 1;
        Some((
            growth.keys_per_row,
            full_rows * u64::from(growth.keys_per_row) + u64::from(growth.keys_in_last_row),
        ))
    }

    /// Returns the expected share of absent keys for which the filter returns `true`, between 0 and 1,
    /// computed from the number of set bits. It approaches 1 in a filter with many more keys than it was
    /// sized for.
    pub fn false_positives(&self) -> f64 {
        let bits = f64::from(self.shape.bits);
        let hashes = f64::from(self.shape.hashes);
        let absent = self.rows.iter().map(|row| {
            let set: u64 = row.iter().map(|byte| u64::from(byte.count_ones())).sum();
            1.0 - (set as f64 / bits).min(1.0).powf(hashes)
        });
        1.0 - absent.product::<f64>()
    }

    /// Returns the text of the footer entry [`FOOTER_BLOOM_FILTER`].
    pub fn to_base64(&self) -> String {
        let mut out = Vec::with_capacity(32 + self.rows.len() * (16 + self.shape.bytes()));
        if let Some(growth) = self.growth {
            self.shape.write(&mut out);
            for number in [growth.keys_per_row, growth.keys_in_last_row, self.rows.len() as u32] {
                out.extend_from_slice(&number.to_be_bytes());
            }
        }
        for row in &self.rows {
            self.shape.write(&mut out);
            out.extend_from_slice(row);
        }
        STANDARD.encode(out)
    }

    /// Parses the filter of a footer. `type_code` is the value of the entry [`FOOTER_BLOOM_FILTER_TYPE`], if
    /// there is one.
    ///
    /// A dynamic filter can grow up to [`DEFAULT_MAX_ENTRIES`] keys. [`BloomFilter::with_max_entries`] sets
    /// another limit, because the stored filter does not contain one.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if the text is not a valid filter; [`ErrorKind::Unsupported`] for another type
    /// or hash.
    pub fn parse(text: &str, type_code: Option<&str>) -> Result<Self> {
        let bytes =
            STANDARD.decode(text.trim()).map_err(|e| corrupt("bloom filter is not base64").with_source(e))?;
        let mut input = Input(&bytes);
        let filter = match type_code {
            None | Some(TYPE_SIMPLE) => {
                let (shape, row) = input.row(None)?;
                Self { shape, rows: vec![row], growth: None }
            }
            Some(TYPE_DYNAMIC) => Self::parse_dynamic(&mut input)?,
            Some(other) => {
                return Err(Error::new(ErrorKind::Unsupported, "bloom filter is of an unknown type")
                    .with_context("type", other));
            }
        };
        if input.0.is_empty() {
            Ok(filter)
        } else {
            Err(corrupt("bloom filter is followed by other bytes").with_context("bytes", input.0.len()))
        }
    }

    fn parse_dynamic(input: &mut Input<'_>) -> Result<Self> {
        let shape = input.shape()?;
        let (per_row, in_last, count) = (input.i32()?, input.i32()?, input.i32()?);
        let keys_per_row = u32::try_from(per_row).ok().filter(|&n| n > 0);
        let (Some(keys_per_row), Ok(keys_in_last_row), Ok(count)) =
            (keys_per_row, u32::try_from(in_last), usize::try_from(count))
        else {
            return Err(corrupt("bloom filter counts are not positive")
                .with_context("keys_per_row", per_row)
                .with_context("keys_in_last_row", in_last)
                .with_context("rows", count));
        };
        if count == 0 || count > input.0.len() / shape.bytes().max(1) {
            return Err(corrupt("bloom filter declares more rows than it has").with_context("rows", count));
        }
        let rows =
            (0..count).map(|_| input.row(Some(shape)).map(|(_, row)| row)).collect::<Result<Vec<_>>>()?;
        let growth = Growth { keys_per_row, keys_in_last_row, max_keys: DEFAULT_MAX_ENTRIES, reused: None };
        Ok(Self { shape, rows, growth: Some(growth) })
    }

    /// Sets the number of keys at which a dynamic filter stops growing (see [`BloomFilter::parse`]).
    #[must_use]
    pub fn with_max_entries(mut self, max_entries: u32) -> Self {
        if let Some(growth) = &mut self.growth {
            growth.max_keys = max_entries;
        }
        self
    }

    /// Counts the next key and returns its row.
    fn row_for_next_key(&mut self) -> usize {
        let last = self.rows.len() - 1;
        let Some(growth) = &mut self.growth else { return 0 };
        if let Some(reused) = &mut growth.reused {
            let row = *reused % self.rows.len();
            *reused = (row + 1) % self.rows.len();
            return row;
        }
        if growth.keys_in_last_row < growth.keys_per_row {
            growth.keys_in_last_row += 1;
            return last;
        }
        let capacity = self.rows.len() as u64 * u64::from(growth.keys_per_row);
        if capacity < u64::from(growth.max_keys) {
            growth.keys_in_last_row = 1;
            self.rows.push(self.shape.empty_row());
            last + 1
        } else {
            // Java starts its cycle at the first row only after it has used that row once.
            growth.reused = Some(0);
            growth.keys_in_last_row = growth.keys_in_last_row.saturating_add(1);
            0
        }
    }
}

impl Shape {
    fn for_keys(num_entries: u32, fpp: f64) -> Self {
        let keys = f64::from(num_entries.max(1));
        let fpp = if fpp > 0.0 && fpp < 1.0 { fpp } else { DEFAULT_FPP };
        let ln2 = std::f64::consts::LN_2;
        let bits = (keys * (-fpp.ln() / (ln2 * ln2))).ceil().clamp(1.0, f64::from(i32::MAX));
        let hashes = (ln2 * bits / keys).ceil().clamp(1.0, 1000.0);
        Self { hashes: hashes as u32, bits: bits as u32 }
    }

    fn bytes(self) -> usize {
        self.bits.div_ceil(8) as usize
    }

    fn empty_row(self) -> Vec<u8> {
        vec![0; self.bytes()]
    }

    /// Returns `true` if one of the rows has all bits of a key. Most absent keys are recognized by their
    /// first few bits.
    fn is_in_a_row(self, key: &str, rows: usize, byte: impl Fn(usize, usize) -> u8) -> bool {
        const AT_A_TIME: usize = 64;
        let is_set = |row, position: usize| byte(row, position / 8) & (1 << (position % 8)) != 0;
        (0..rows).step_by(AT_A_TIME).any(|first| {
            let end = rows.min(first + AT_A_TIME);
            let mut having: u64 = u64::MAX >> (AT_A_TIME - (end - first));
            for position in self.positions(key) {
                for row in first..end {
                    let bit = 1 << (row - first);
                    if having & bit != 0 && !is_set(row, position) {
                        having &= !bit;
                    }
                }
                if having == 0 {
                    return false;
                }
            }
            true
        })
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&self.hashes.to_be_bytes());
        out.push(MURMUR);
        out.extend_from_slice(&self.bits.to_be_bytes());
    }

    /// Returns the bits of a key. Each hash is the seed of the next one.
    fn positions(self, key: &str) -> impl Iterator<Item = usize> {
        let mut seed = 0_i32;
        (0..self.hashes).map(move |_| {
            seed = murmur(key.as_bytes(), seed);
            self.position(seed)
        })
    }

    fn position(self, hash: i32) -> usize {
        // Java's remainder keeps the sign. `bits` is at most `i32::MAX`, so the cast and the absolute value
        // are exact.
        (hash % self.bits as i32).unsigned_abs() as usize
    }
}

/// Hadoop's `MurmurHash`, bugs included.
fn murmur(data: &[u8], seed: i32) -> i32 {
    const M: i32 = 0x5bd1_e995;
    let mut h = seed ^ data.len() as i32;
    let words = data.chunks_exact(4);
    let left = words.remainder().len();
    for word in words {
        let mut k = i32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= ((k as u32) >> 24) as i32;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    // The tail is read backwards from the end, and Java's bytes are signed.
    let from_end = |n: usize| i32::from(data[data.len() - n] as i8);
    if left >= 3 {
        h ^= from_end(3) << 16;
    }
    if left >= 2 {
        h ^= from_end(2) << 8;
    }
    if left >= 1 {
        h = (h ^ from_end(1)).wrapping_mul(M);
    }
    h ^= ((h as u32) >> 13) as i32;
    h = h.wrapping_mul(M);
    h ^ ((h as u32) >> 15) as i32
}

/// A filter in a footer, for a few lookups. Only the parts of its base64 that a lookup reads are decoded.
/// Decoded completely, a filter for 100,000 keys takes 700 KB.
#[derive(Clone, Copy, Debug)]
pub struct StoredFilter<'a> {
    text: &'a [u8],
    shape: Shape,
    rows: usize,
    /// The offset of the first row's bits and the distance between rows, in decoded bytes.
    first: usize,
    stride: usize,
}

impl<'a> StoredFilter<'a> {
    /// Parses the beginning of a footer's filter (see [`BloomFilter::parse`]).
    pub fn parse(text: &'a str, type_code: Option<&str>) -> Result<Self> {
        let text = text.trim().as_bytes();
        let head = &text[..text.len().min(SHAPE_BYTES.next_multiple_of(3) * 8 / 3)];
        let whole = &head[..head.len() / 4 * 4];
        let decoded =
            STANDARD.decode(whole).map_err(|e| corrupt("bloom filter is not base64").with_source(e))?;
        let mut input = Input(&decoded);
        let shape = input.shape()?;
        let (rows, head) = match type_code {
            None | Some(TYPE_SIMPLE) => (1, 0),
            Some(TYPE_DYNAMIC) => {
                let (_, _, rows) = (input.i32()?, input.i32()?, input.i32()?);
                let rows = usize::try_from(rows).ok().filter(|rows| *rows > 0);
                (rows.ok_or_else(|| corrupt("bloom filter has no rows"))?, SHAPE_BYTES + 12)
            }
            Some(other) => {
                return Err(unsupported("bloom filter is of an unknown type").with_context("type", other));
            }
        };
        let stride = SHAPE_BYTES + shape.bytes();
        let padding = text.iter().rev().take_while(|character| **character == b'=').count();
        let bytes = (text.len() / 4 * 3).saturating_sub(padding);
        if !text.len().is_multiple_of(4)
            || rows.checked_mul(stride).and_then(|rows| rows.checked_add(head)) != Some(bytes)
        {
            return Err(
                corrupt("bloom filter does not have its declared length").with_context("bytes", bytes)
            );
        }
        Ok(Self { text, shape, rows, first: head + SHAPE_BYTES, stride })
    }

    /// Returns `true` if the key may have been added, and `false` if it certainly was not. Invalid base64
    /// counts as set bits. This can cause an unnecessary lookup, but never a missed key.
    pub fn contains(&self, key: &str) -> bool {
        self.shape.is_in_a_row(key, self.rows, |row, byte| self.byte(self.first + row * self.stride + byte))
    }

    /// Returns those candidates (indices of keys) that may have been added.
    ///
    /// The first bit of all candidates is checked first, then the second bit of the remaining candidates, and
    /// so on. These lookups are independent of each other, and take half the time of checking one key after
    /// the other.
    pub fn having(&self, keys: &HashedKeys, candidates: &[u32]) -> Vec<u32> {
        const AT_A_TIME: usize = 64;
        if self.rows > AT_A_TIME {
            let contains = |index: &u32| self.contains(keys.keys.value(*index as usize));
            return candidates.iter().copied().filter(contains).collect();
        }
        // A key, its last hash, and the rows in which all of its bits so far are set.
        let all_rows: u64 = u64::MAX >> (AT_A_TIME - self.rows);
        let mut left: Vec<(u32, i32, u64)> = candidates.iter().map(|index| (*index, 0, all_rows)).collect();
        for round in 0..self.shape.hashes as usize {
            let mut kept = 0;
            for place in 0..left.len() {
                let (index, seed, mut having) = left[place];
                let hash = match keys.hashes[index as usize].get(round) {
                    Some(hash) => *hash,
                    None => murmur(keys.keys.value(index as usize).as_bytes(), seed),
                };
                let position = self.shape.position(hash);
                for row in 0..self.rows {
                    let byte = self.byte(self.first + row * self.stride + position / 8);
                    let is_set = u64::from(byte >> (position % 8) & 1);
                    having &= !(1 << row) | is_set << row;
                }
                left[kept] = (index, hash, having);
                kept += usize::from(having != 0);
            }
            left.truncate(kept);
        }
        left.into_iter().map(|(index, _, _)| index).collect()
    }

    fn byte(&self, index: usize) -> u8 {
        let place = index / 3 * 4 + index % 3;
        let (left, right) = (SEXTETS[self.text[place] as usize], SEXTETS[self.text[place + 1] as usize]);
        if left > 63 || right > 63 {
            return u8::MAX;
        }
        match index % 3 {
            0 => left << 2 | right >> 4,
            1 => left << 4 | right >> 2,
            _ => left << 6 | right,
        }
    }
}

/// Keys to look up in many filters, with their first hashes, which are the same for all filters.
#[derive(Debug)]
pub struct HashedKeys {
    keys: Arc<StringArray>,
    hashes: Vec<[i32; 4]>,
}

impl HashedKeys {
    /// Hashes the keys.
    pub fn new(keys: Arc<StringArray>) -> Self {
        let first = |key: Option<&str>| {
            let mut seed = 0;
            std::array::from_fn(|_| {
                seed = murmur(key.unwrap_or_default().as_bytes(), seed);
                seed
            })
        };
        let hashes = keys.iter().map(first).collect();
        Self { keys, hashes }
    }

    /// Returns the keys.
    pub fn keys(&self) -> &StringArray {
        &self.keys
    }
}

/// The encoded size of a shape.
const SHAPE_BYTES: usize = 13;

/// The value of each base64 character. 64 or more for an invalid character.
const SEXTETS: [u8; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut sextets = [u8::MAX; 256];
    let mut value = 0;
    while value < alphabet.len() {
        sextets[alphabet[value] as usize] = value as u8;
        value += 1;
    }
    sextets
};

/// The remaining input.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take(&mut self, len: usize) -> Result<&[u8]> {
        let (taken, rest) =
            self.0.split_at_checked(len).ok_or_else(|| corrupt("bloom filter ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn i32(&mut self) -> Result<i32> {
        let bytes = self.take(4)?;
        Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn shape(&mut self) -> Result<Shape> {
        let version = self.i32()?;
        if version != VERSION {
            return Err(unsupported("bloom filter is of an unknown version").with_context("version", version));
        }
        let hashes = self.i32()?;
        let hash = self.take(1)?[0];
        if hash != MURMUR {
            return Err(unsupported("bloom filter uses a hash other than murmur").with_context("hash", hash));
        }
        let bits = self.i32()?;
        match (u32::try_from(hashes), u32::try_from(bits)) {
            (Ok(hashes @ 1..=1000), Ok(bits @ 1..)) => Ok(Shape { hashes, bits }),
            _ => Err(corrupt("bloom filter has an invalid size")
                .with_context("hashes", hashes)
                .with_context("bits", bits)),
        }
    }

    /// Reads a row and its shape. The shape must equal `expected`, if that is given.
    fn row(&mut self, expected: Option<Shape>) -> Result<(Shape, Vec<u8>)> {
        let shape = self.shape()?;
        if expected.is_some_and(|expected| expected != shape) {
            return Err(corrupt("bloom filter has rows of different sizes"));
        }
        Ok((shape, self.take(shape.bytes())?.to_vec()))
    }
}

fn corrupt(message: &str) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}

fn unsupported(message: &str) -> Error {
    Error::new(ErrorKind::Unsupported, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use proptest::prelude::*;

    /// Returns the footer's filter and type, and every record key of a file that Spark wrote.
    fn golden(name: &str) -> (String, Option<String>, Vec<String>) {
        let path = format!("{}/tests/data/bloom/{name}.parquet", env!("CARGO_MANIFEST_DIR"));
        let builder = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap()).unwrap();
        let footer = builder.metadata().file_metadata().key_value_metadata().unwrap().clone();
        let value = |key: &str| footer.iter().find(|kv| kv.key == key).and_then(|kv| kv.value.clone());
        let mut keys = Vec::new();
        for batch in builder.build().unwrap() {
            let batch = batch.unwrap();
            let column = batch.column_by_name("_hoodie_record_key").unwrap().as_string::<i32>();
            keys.extend((0..column.len()).map(|row| column.value(row).to_owned()));
        }
        (value(FOOTER_BLOOM_FILTER).unwrap(), value(FOOTER_BLOOM_FILTER_TYPE), keys)
    }

    #[rstest::rstest]
    fn contains_every_key_of_a_file_that_spark_wrote_and_writes_the_same_bits(
        #[values("customer", "complexkey", "two-keys")] name: &str,
    ) {
        let (text, type_code, keys) = golden(name);
        let filter = BloomFilter::parse(&text, type_code.as_deref()).unwrap();
        assert!(!keys.is_empty());
        for key in &keys {
            assert!(filter.contains(key), "{key}");
            assert!(!filter.contains(&format!("{key}?")), "{key}?");
        }
        assert_eq!(filter.to_base64(), text);
        assert_eq!(filter.type_code(), type_code.as_deref());
    }

    #[rstest::rstest]
    fn sets_the_bits_that_spark_sets(#[values("customer", "complexkey", "two-keys")] name: &str) {
        let (text, type_code, keys) = golden(name);
        let read = BloomFilter::parse(&text, type_code.as_deref()).unwrap();
        let mut written = BloomFilter::dynamic(1000, 1e-9, 1000);
        for key in &keys {
            written.insert(key);
        }
        assert_eq!(written.rows, read.rows);
        assert_eq!(written.shape, read.shape);
    }

    #[test]
    fn has_the_sizes_of_hudi() {
        let filter = BloomFilter::dynamic(DEFAULT_NUM_ENTRIES, DEFAULT_FPP, DEFAULT_MAX_ENTRIES);
        assert_eq!(filter.shape, Shape { hashes: 30, bits: 2_587_966 });
        assert_eq!(BloomFilter::simple(1000, 1e-9).shape, Shape { hashes: 30, bits: 43_133 });
    }

    #[test]
    fn grows_by_rows_until_the_limit_and_then_reuses_them() {
        let mut filter = BloomFilter::dynamic(10, 1e-3, 25);
        for key in 0..60 {
            filter.insert(&format!("key-{key}"));
        }
        assert_eq!(filter.rows.len(), 3);
        assert!((0..60).all(|key| filter.contains(&format!("key-{key}"))));
    }

    /// Hudi's default filter holds up to 120,000 keys, and is useless in a file with a million rows.
    #[test]
    fn the_share_of_false_positives_is_that_of_absent_keys() {
        for (keys, expected) in [(0, 0.0..1e-12), (2_000, 0.0..1e-8), (8_000, 0.2..0.4), (20_000, 0.99..1.0)]
        {
            let mut filter = BloomFilter::dynamic(1_000, 1e-9, 2_000);
            (0..keys).for_each(|key| filter.insert(&format!("key {key}")));
            let share = filter.false_positives();
            assert!(expected.contains(&share), "{keys} keys: {share}");
            let found = (0..20_000).filter(|key| filter.contains(&format!("absent {key}"))).count();
            assert!((found as f64 / 20_000.0 - share).abs() < 0.02, "{keys} keys: {found} found, {share}");
        }
    }

    #[test]
    fn names_an_unknown_type() {
        let error = BloomFilter::parse("", Some("RIBBON")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(error.context("type"), Some("RIBBON"));
    }

    #[test]
    fn refuses_a_dynamic_filter_that_is_said_to_be_simple() {
        let filter = BloomFilter::dynamic(10, 1e-3, 10);
        assert_eq!(BloomFilter::parse(&filter.to_base64(), None).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    proptest! {
        #[test]
        fn never_forgets_a_key(keys in prop::collection::vec(".{0,12}", 1..80), rows in 1_u32..5) {
            let mut dynamic = BloomFilter::dynamic(16, 1e-4, 16 * rows);
            let mut simple = BloomFilter::simple(16, 1e-4);
            for key in &keys {
                dynamic.insert(key);
                simple.insert(key);
            }
            for filter in [dynamic, simple] {
                let read = BloomFilter::parse(&filter.to_base64(), filter.type_code()).unwrap();
                prop_assert!(keys.iter().all(|key| read.contains(key)));
            }
        }

        #[test]
        fn survives_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64), cut in 0_usize..200) {
            let mut whole = Vec::new();
            Shape { hashes: 3, bits: 77 }.write(&mut whole);
            whole.extend_from_slice(&bytes);
            whole.truncate(cut);
            for bytes in [&bytes, &whole] {
                let text = STANDARD.encode(bytes);
                for type_code in [None, Some(TYPE_DYNAMIC)] {
                    if let Ok(filter) = BloomFilter::parse(&text, type_code) {
                        filter.contains("key");
                    }
                }
            }
        }
    }

    #[test]
    fn a_stored_filter_answers_as_the_decoded_one() {
        for (mut filter, keys) in [
            (BloomFilter::dynamic(50, 1e-3, 400), 300),
            (BloomFilter::dynamic(1_000, 1e-9, 1_000), 10),
            (BloomFilter::simple(100, 1e-2), 150),
        ] {
            for key in 0..keys {
                filter.insert(&format!("key {key}"));
            }
            let text = filter.to_base64();
            let stored = StoredFilter::parse(&text, filter.type_code()).unwrap();
            let keys = StringArray::from_iter_values((0..2_000).map(|key| format!("key {key}")));
            for key in keys.iter().flatten() {
                assert_eq!(stored.contains(key), filter.contains(key), "{key}");
            }
            let contained: Vec<u32> =
                (0..2_000).filter(|index| filter.contains(keys.value(*index as usize))).collect();
            let keys = HashedKeys::new(Arc::new(keys));
            assert_eq!(stored.having(&keys, &(0..2_000).collect::<Vec<_>>()), contained);
            for broken in ["", "AAAA", &text[..text.len() - 4], &format!("{text}AAAA"), "ä"] {
                assert!(StoredFilter::parse(broken, filter.type_code()).is_err(), "{broken}");
            }
        }
    }
}
