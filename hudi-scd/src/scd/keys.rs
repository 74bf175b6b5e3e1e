//! Hashed keys of rows.

use std::collections::HashMap;

use arrow::{
    array::{Array, ArrayRef, Int32Array, Int64Array},
    buffer::NullBuffer,
    datatypes::{DataType, Int64Type},
    error::ArrowError,
    row::{RowConverter, Rows, SortField},
};

/// Key columns in a form that can be hashed: numbers for a single numeric column, otherwise bytes.
pub(super) enum KeyValues {
    Numbers(Int64Array),
    Bytes { rows: Rows, nulls: Option<NullBuffer> },
}

/// Maps keys to numbers, in order of first appearance.
pub(super) enum KeyIndex {
    Numbers(HashMap<i64, u32>),
    Bytes(HashMap<Box<[u8]>, u32>),
}

impl KeyValues {
    pub(super) fn new(columns: &[ArrayRef]) -> Result<Self, ArrowError> {
        if let [one] = columns
            && let Some(numbers) = numbers(one)
        {
            return Ok(Self::Numbers(numbers));
        }
        let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let rows = RowConverter::new(fields).and_then(|converter| converter.convert_columns(columns));
        let nulls = columns
            .iter()
            .fold(None, |nulls, column| NullBuffer::union(nulls.as_ref(), column.logical_nulls().as_ref()));
        Ok(Self::Bytes { rows: rows?, nulls })
    }
}

impl KeyIndex {
    pub(super) fn for_keys(keys: &KeyValues) -> Self {
        match keys {
            KeyValues::Numbers(_) => Self::Numbers(HashMap::new()),
            KeyValues::Bytes { .. } => Self::Bytes(HashMap::new()),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Numbers(ids) => ids.len(),
            Self::Bytes(ids) => ids.len(),
        }
    }

    /// Returns the number of a key. Returns `None` if the key contains a null.
    pub(super) fn insert(&mut self, keys: &KeyValues, row: usize) -> Option<u32> {
        let next = self.len() as u32;
        match (self, keys) {
            (Self::Numbers(ids), KeyValues::Numbers(keys)) if keys.is_valid(row) => {
                Some(*ids.entry(keys.value(row)).or_insert(next))
            }
            (Self::Bytes(ids), KeyValues::Bytes { rows, nulls }) if is_valid(nulls, row) => {
                let key = rows.row(row).data();
                match ids.get(key) {
                    Some(id) => Some(*id),
                    None => {
                        ids.insert(key.into(), next);
                        Some(next)
                    }
                }
            }
            _ => None,
        }
    }

    pub(super) fn get(&self, keys: &KeyValues, row: usize) -> Option<u32> {
        match (self, keys) {
            (Self::Numbers(ids), KeyValues::Numbers(keys)) if keys.is_valid(row) => {
                ids.get(&keys.value(row)).copied()
            }
            (Self::Bytes(ids), KeyValues::Bytes { rows, nulls }) if is_valid(nulls, row) => {
                ids.get(rows.row(row).data()).copied()
            }
            _ => None,
        }
    }
}

fn is_valid(nulls: &Option<NullBuffer>, row: usize) -> bool {
    nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
}

/// Converts integers, dates and timestamps to numbers, in the unit of the column.
pub(super) fn numbers(array: &ArrayRef) -> Option<Int64Array> {
    let data = array.to_data();
    match array.data_type() {
        DataType::Int64 | DataType::Timestamp(..) => {
            Some(data.into_builder().data_type(DataType::Int64).build().ok()?.into())
        }
        DataType::Int32 | DataType::Date32 => {
            let narrow: Int32Array = data.into_builder().data_type(DataType::Int32).build().ok()?.into();
            Some(narrow.unary::<_, Int64Type>(i64::from))
        }
        _ => None,
    }
}
