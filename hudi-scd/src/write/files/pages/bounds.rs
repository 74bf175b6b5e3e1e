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

/// This writer truncates bounds that are longer. Other writers may truncate shorter ones.
pub(super) const LONGEST: usize = 64;

/// How the values of a column are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    I32,
    I64,
    U32,
    U64,
    F32,
    F64,
    /// Big-endian, two's complement, of equal length.
    Decimal,
    Bytes,
}

impl Order {
    /// Returns the order of a column. Returns `None` if this crate does not maintain its statistics.
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

    /// Compares values in the form of plain pages, strings without their length. Returns `None` if one of
    /// them is NaN.
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

    /// Returns the zero with the sign that a bound requires, because zeros of either sign are equal.
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

/// A minimum or a maximum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) value: Vec<u8>,
    /// `true` if the bound is known to be one of the values. A page index truncates long values and does not
    /// record that it did.
    pub(super) is_exact: bool,
}

impl Bound {
    pub(super) fn exact(value: Vec<u8>) -> Self {
        Self { value, is_exact: true }
    }

    /// Takes the value of the other bound if that is further out in the direction `outward`.
    fn extend(&mut self, other: &Self, order: Order, outward: Ordering) {
        match order.compare(&other.value, &self.value) {
            Some(Ordering::Equal) => self.is_exact |= other.is_exact,
            Some(found) if found == outward => *self = other.clone(),
            _ => {}
        }
    }
}

/// The minimum and the maximum of some values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) min: Bound,
    pub(super) max: Bound,
}

impl Bounds {
    /// Returns the bounds of a page from a page index. Numbers are never truncated.
    pub(super) fn of_page(index: &ColumnIndexMetaData, page: usize) -> Option<Self> {
        macro_rules! numbers {
            ($index:expr) => {
                Self {
                    min: Bound::exact($index.min_value(page)?.to_le_bytes().to_vec()),
                    max: Bound::exact($index.max_value(page)?.to_le_bytes().to_vec()),
                }
            };
        }
        let unsure = |value: &[u8]| Bound { value: value.to_vec(), is_exact: false };
        Some(match index {
            ColumnIndexMetaData::INT32(index) => numbers!(index),
            ColumnIndexMetaData::INT64(index) => numbers!(index),
            ColumnIndexMetaData::FLOAT(index) => numbers!(index),
            ColumnIndexMetaData::DOUBLE(index) => numbers!(index),
            ColumnIndexMetaData::BYTE_ARRAY(index) | ColumnIndexMetaData::FIXED_LEN_BYTE_ARRAY(index) => {
                Self { min: unsure(index.min_value(page)?), max: unsure(index.max_value(page)?) }
            }
            _ => return None,
        })
    }

    /// Widens the bounds to include a value. A NaN is ignored.
    pub(super) fn widen(known: &mut Option<Self>, value: &[u8], order: Order) {
        if order.is_nan(value) {
            return;
        }
        if let Some(bounds) = known
            && order.compare(value, &bounds.min.value) == Some(Ordering::Greater)
            && order.compare(value, &bounds.max.value) == Some(Ordering::Less)
        {
            return;
        }
        let bound = |is_min| Bound::exact(order.zero(value, is_min).unwrap_or_else(|| value.to_vec()));
        Self::join(known, &Self { min: bound(true), max: bound(false) }, order);
    }

    /// Widens the bounds to include other bounds.
    pub(super) fn join(known: &mut Option<Self>, other: &Self, order: Order) {
        match known {
            Some(bounds) => {
                bounds.min.extend(&other.min, order, Ordering::Less);
                bounds.max.extend(&other.max, order, Ordering::Greater);
            }
            None => *known = Some(other.clone()),
        }
    }

    /// Returns `true` if a value is one of the bounds, so that the bounds may change if it is removed.
    pub(super) fn rest_on(&self, value: &[u8], order: Order) -> bool {
        let bounds = [&self.min, &self.max].into_iter();
        bounds.map(|bound| order.compare(value, &bound.value)).any(|order| order == Some(Ordering::Equal))
    }

    /// Returns `true` if this writer would have truncated one of the bounds.
    pub(super) fn is_too_long(&self) -> bool {
        self.min.value.len().max(self.max.value.len()) > LONGEST
    }

    /// Returns the statistics of a column chunk with these bounds.
    pub(super) fn statistics(
        known: Option<&Self>,
        column: &ColumnDescriptor,
        nulls: u64,
    ) -> Option<Statistics> {
        let (min, max) = (known.map(|bounds| &bounds.min), known.map(|bounds| &bounds.max));
        let is_exact = |bound: Option<&Bound>| bound.is_some_and(|bound| bound.is_exact);
        macro_rules! numbers {
            ($kind:ident, $number:ty) => {{
                let number =
                    |bound: &Bound| bound.value.as_slice().try_into().ok().map(<$number>::from_le_bytes);
                Statistics::$kind(ValueStatistics::new(
                    min.and_then(number),
                    max.and_then(number),
                    None,
                    Some(nulls),
                    false,
                ))
            }};
        }
        let array = |bound: &Bound| ByteArray::from(bound.value.clone());
        Some(match column.physical_type() {
            PhysicalType::INT32 => numbers!(Int32, i32),
            PhysicalType::INT64 => numbers!(Int64, i64),
            PhysicalType::FLOAT => numbers!(Float, f32),
            PhysicalType::DOUBLE => numbers!(Double, f64),
            PhysicalType::BYTE_ARRAY => Statistics::ByteArray(
                ValueStatistics::new(min.map(array), max.map(array), None, Some(nulls), false)
                    .with_min_is_exact(is_exact(min))
                    .with_max_is_exact(is_exact(max)),
            ),
            PhysicalType::FIXED_LEN_BYTE_ARRAY => {
                let array = |bound: &Bound| FixedLenByteArray::from(bound.value.clone());
                Statistics::FixedLenByteArray(
                    ValueStatistics::new(min.map(array), max.map(array), None, Some(nulls), false)
                        .with_min_is_exact(is_exact(min))
                        .with_max_is_exact(is_exact(max)),
                )
            }
            PhysicalType::BOOLEAN | PhysicalType::INT96 => return None,
        })
    }
}
