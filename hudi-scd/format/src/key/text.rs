//! Values of columns as text in keys and paths.

use arrow::{
    array::{Array, ArrayRef, AsArray, StringArray},
    compute::cast,
    datatypes::{DataType, Float32Type, Float64Type},
};

use super::java;
use crate::{Error, ErrorKind, Result};

/// Formats a column's values as Java does.
pub(crate) fn as_text(column: &ArrayRef, name: &str) -> Result<StringArray> {
    let failed = |cause| {
        invalid("a key column cannot be written as text").with_context("column", name).with_source(cause)
    };
    if !has_text(column.data_type()) {
        let message = "values of this type cannot be part of a record key or of a partition path";
        return Err(Error::new(ErrorKind::Unsupported, message)
            .with_context("column", name)
            .with_context("type", column.data_type()));
    }
    let column = match column.data_type() {
        // Hudi removes the logical type first, so the key contains the number of the timestamp.
        DataType::Timestamp(..) => cast(column, &DataType::Int64).map_err(failed)?,
        DataType::Float32 => {
            let values = column.as_primitive::<Float32Type>().iter();
            return Ok(values.map(|value| value.map(java::float)).collect());
        }
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>().iter();
            return Ok(values.map(|value| value.map(java::double)).collect());
        }
        _ => column.clone(),
    };
    let text = cast(&column, &DataType::Utf8).map_err(failed)?;
    Ok(text.as_string::<i32>().clone())
}

/// Returns `true` if every version of Hudi formats values of this type in the same way in keys and in paths.
/// This excludes bytes.
pub(super) fn has_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Boolean
            | DataType::Int32
            | DataType::Int64
            | DataType::Float32
            | DataType::Float64
            | DataType::Decimal128(..)
            | DataType::Utf8
            | DataType::Date32
            | DataType::Timestamp(..)
    )
}

pub(super) fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}
