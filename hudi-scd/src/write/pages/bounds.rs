//! The minimum and maximum values of pages and column chunks, in the form of their statistics.

use std::cmp::Ordering;

use parquet::{
    basic::{ConvertedType, LogicalType, SortOrder, Type as PhysicalType},
    data_type::{ByteArray, FixedLenByteArray},
    file::{
        page_index::column_index::ColumnIndexMetaData,
        statistics::{Statistics, ValueStatistics},
    },
    schema::types::ColumnDescriptor,
};

/// Parquet writers truncate longer bounds.
pub(super) const LONGEST: usize = 64;
/// A bound of at most this length was not truncated, because truncation happens between characters.
const SURELY_WHOLE: usize = LONGEST - 4;

/// The comparison of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    I32,
    I64,
    U32,
    U64,
    F32,
    F64,
    /// Big endian, two's complement, of equal length.
    Decimal,
    Bytes,
}

impl Order {
    /// Returns the order of a column; `None` if its statistics are not maintained here.
    pub(super) fn of(column: &ColumnDescriptor) -> Option<Self> {
        let is_decimal = matches!(column.logical_type_ref(), Some(LogicalType::Decimal(_)))
            || column.converted_type() == ConvertedType::DECIMAL;
        let is_unsigned = match column.sort_order() {
            SortOrder::UNDEFINED => return None,
            SortOrder::UNSIGNED => true,
            SortOrder::SIGNED => false,
        };
        Some(match column.physical_type() {
            PhysicalType::INT32 if is_unsigned => Self::U32,
            PhysicalType::INT32 => Self::I32,
            PhysicalType::INT64 if is_unsigned => Self::U64,
            PhysicalType::INT64 => Self::I64,
            PhysicalType::FLOAT => Self::F32,
            PhysicalType::DOUBLE => Self::F64,
            PhysicalType::FIXED_LEN_BYTE_ARRAY if is_decimal => Self::Decimal,
            PhysicalType::FIXED_LEN_BYTE_ARRAY | PhysicalType::BYTE_ARRAY
                if is_unsigned && !is_decimal && column.logical_type_ref() != Some(&LogicalType::Float16) =>
            {
                Self::Bytes
            }
            _ => return None,
        })
    }

    /// Compares values in the form of plain pages, strings without their length; `None` if one is NaN.
    pub(super) fn compare(self, left: &[u8], right: &[u8]) -> Option<Ordering> {
        macro_rules! numbers {
            ($number:ty) => {
                <$number>::from_le_bytes(left.try_into().ok()?)
                    .partial_cmp(&<$number>::from_le_bytes(right.try_into().ok()?))
            };
        }
        match self {
            Self::I32 => numbers!(i32),
            Self::I64 => numbers!(i64),
            Self::U32 => numbers!(u32),
            Self::U64 => numbers!(u64),
            Self::F32 => numbers!(f32),
            Self::F64 => numbers!(f64),
            Self::Decimal => {
                let sign = |bytes: &[u8]| bytes.first().map_or(0, |byte| *byte as i8);
                Some(sign(left).cmp(&sign(right)).then_with(|| left.cmp(right)))
            }
            Self::Bytes => Some(left.cmp(right)),
        }
    }

    fn is_nan(self, value: &[u8]) -> bool {
        matches!(self, Self::F32 | Self::F64) && self.compare(value, value).is_none()
    }

    /// Returns the sign of zero that a bound requires, because zeros of either sign are equal.
    fn zero(self, value: &[u8], is_min: bool) -> Option<Vec<u8>> {
        match self {
            Self::F32 if f32::from_le_bytes(value.try_into().ok()?) == 0.0 => {
                Some(if is_min { -0.0_f32 } else { 0.0 }.to_le_bytes().to_vec())
            }
            Self::F64 if f64::from_le_bytes(value.try_into().ok()?) == 0.0 => {
                Some(if is_min { -0.0_f64 } else { 0.0 }.to_le_bytes().to_vec())
            }
            _ => None,
        }
    }
}

/// The minimum and the maximum of some values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) min: Vec<u8>,
    pub(super) max: Vec<u8>,
}

impl Bounds {
    /// Returns the bounds of a page in an index.
    pub(super) fn of_page(index: &ColumnIndexMetaData, page: usize) -> Option<Self> {
        macro_rules! numbers {
            ($index:expr) => {
                (
                    $index.min_value(page)?.to_le_bytes().to_vec(),
                    $index.max_value(page)?.to_le_bytes().to_vec(),
                )
            };
        }
        let (min, max) = match index {
            ColumnIndexMetaData::INT32(index) => numbers!(index),
            ColumnIndexMetaData::INT64(index) => numbers!(index),
            ColumnIndexMetaData::FLOAT(index) => numbers!(index),
            ColumnIndexMetaData::DOUBLE(index) => numbers!(index),
            ColumnIndexMetaData::BYTE_ARRAY(index) | ColumnIndexMetaData::FIXED_LEN_BYTE_ARRAY(index) => {
                (index.min_value(page)?.to_vec(), index.max_value(page)?.to_vec())
            }
            _ => return None,
        };
        Some(Self { min, max })
    }

    /// Includes a value; a NaN is ignored.
    pub(super) fn widen(known: &mut Option<Self>, value: &[u8], order: Order) {
        let Some(bounds) = known else {
            if !order.is_nan(value) {
                *known = Some(Self {
                    min: order.zero(value, true).unwrap_or_else(|| value.to_vec()),
                    max: order.zero(value, false).unwrap_or_else(|| value.to_vec()),
                });
            }
            return;
        };
        if order.compare(value, &bounds.min) == Some(Ordering::Less) {
            bounds.min = order.zero(value, true).unwrap_or_else(|| value.to_vec());
        }
        if order.compare(value, &bounds.max) == Some(Ordering::Greater) {
            bounds.max = order.zero(value, false).unwrap_or_else(|| value.to_vec());
        }
    }

    /// Returns `true` if a value is one of the bounds, so that the bounds may change without it.
    pub(super) fn rest_on(&self, value: &[u8], order: Order) -> bool {
        [&self.min, &self.max].into_iter().any(|bound| order.compare(value, bound) == Some(Ordering::Equal))
    }

    /// Returns `true` if another writer would have truncated one of them.
    pub(super) fn is_too_long(&self) -> bool {
        self.min.len().max(self.max.len()) > LONGEST
    }

    /// Returns the statistics of a column chunk with these bounds.
    pub(super) fn statistics(
        known: Option<&Self>,
        column: &ColumnDescriptor,
        nulls: u64,
    ) -> Option<Statistics> {
        let bytes = |bound: fn(&Self) -> &[u8]| known.map(bound);
        let (min, max) = (bytes(|bounds| &bounds.min), bytes(|bounds| &bounds.max));
        macro_rules! numbers {
            ($kind:ident, $number:ty) => {{
                let number = |bytes: &[u8]| bytes.try_into().ok().map(<$number>::from_le_bytes);
                Statistics::$kind(ValueStatistics::new(
                    min.and_then(number),
                    max.and_then(number),
                    None,
                    Some(nulls),
                    false,
                ))
            }};
        }
        let is_whole = |bytes: Option<&[u8]>| bytes.is_some_and(|bytes| bytes.len() <= SURELY_WHOLE);
        let array = |bytes: &[u8]| ByteArray::from(bytes.to_vec());
        Some(match column.physical_type() {
            PhysicalType::INT32 => numbers!(Int32, i32),
            PhysicalType::INT64 => numbers!(Int64, i64),
            PhysicalType::FLOAT => numbers!(Float, f32),
            PhysicalType::DOUBLE => numbers!(Double, f64),
            PhysicalType::BYTE_ARRAY => Statistics::ByteArray(
                ValueStatistics::new(min.map(array), max.map(array), None, Some(nulls), false)
                    .with_min_is_exact(is_whole(min))
                    .with_max_is_exact(is_whole(max)),
            ),
            PhysicalType::FIXED_LEN_BYTE_ARRAY => {
                let array = |bytes: &[u8]| FixedLenByteArray::from(bytes.to_vec());
                Statistics::FixedLenByteArray(
                    ValueStatistics::new(min.map(array), max.map(array), None, Some(nulls), false)
                        .with_min_is_exact(is_whole(min))
                        .with_max_is_exact(is_whole(max)),
                )
            }
            PhysicalType::BOOLEAN | PhysicalType::INT96 => return None,
        })
    }
}
