//! Finds columns whose values are rarely repeated. A dictionary of such a column is larger than its values,
//! and Parquet's writer abandons it only after a megabyte in each row group.

use std::collections::HashSet;

use arrow::{
    array::{Array, ArrayRef},
    row::{RowConverter, SortField},
};

use crate::{Error, ErrorKind, Result, write::decide::rows::Appends};

/// Minimum number of rows for a decision.
const ENOUGH: usize = 4_096;

/// Returns the data columns of a new file in whose first rows almost no value occurs twice.
pub(crate) fn columns(rows: &Appends) -> Result<Vec<usize>> {
    let Some(first) = rows.batches().next() else { return Ok(Vec::new()) };
    let (_, first) = first?;
    let mut found = Vec::new();
    for (number, column) in first.columns().iter().enumerate() {
        if first.num_rows() >= ENOUGH && !column.data_type().is_nested() && is_distinct(column)? {
            found.push(number);
        }
    }
    Ok(found)
}

/// Returns `true` if nine out of ten values are distinct. All nulls count as one value.
fn is_distinct(column: &ArrayRef) -> Result<bool> {
    let rows = RowConverter::new(vec![SortField::new(column.data_type().clone())])
        .and_then(|converter| converter.convert_columns(std::slice::from_ref(column)));
    let rows = rows.map_err(|cause| {
        Error::new(ErrorKind::InvalidInput, "the values of a column cannot be compared").with_source(cause)
    })?;
    let distinct: HashSet<&[u8]> = (0..rows.num_rows()).map(|row| rows.row(row).data()).collect();
    Ok(10 * distinct.len() >= 9 * column.len())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Int64Array, StringArray};

    use super::*;

    #[test]
    fn a_column_is_distinct_if_nine_of_ten_values_are() {
        let text = |of: usize| -> ArrayRef {
            Arc::new(StringArray::from_iter_values((0..5_000).map(|row| format!("value {}", row % of))))
        };
        assert!(is_distinct(&text(5_000)).unwrap());
        assert!(is_distinct(&text(4_500)).unwrap());
        assert!(!is_distinct(&text(4_400)).unwrap());
        let nulls: ArrayRef =
            Arc::new(Int64Array::from_iter((0..5_000).map(|row| (row % 4 > 0).then_some(row))));
        assert!(!is_distinct(&nulls).unwrap());
        let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true; 5_000]));
        assert!(!is_distinct(&flags).unwrap());
    }
}
