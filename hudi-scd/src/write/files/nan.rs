//! Handles NaN. Bounds cannot represent it, and statistics exclude it. Spark and DataFusion treat it as the
//! greatest number, and would skip the rows that contain it. Chunks with a NaN therefore have no bounds, as
//! in Java.

use arrow::{
    array::{Array, AsArray},
    datatypes::{DataType, Float32Type, Float64Type},
};
use parquet::{arrow::arrow_writer::ArrowColumnChunk, basic::Type as PhysicalType};

/// Returns `true` if the values are or contain a NaN.
pub(crate) fn has_nan(values: &dyn Array) -> bool {
    match values.data_type() {
        DataType::Float32 => values.as_primitive::<Float32Type>().values().iter().any(|value| value.is_nan()),
        DataType::Float64 => values.as_primitive::<Float64Type>().values().iter().any(|value| value.is_nan()),
        DataType::List(_) => has_nan(values.as_list::<i32>().values()),
        DataType::Map(..) => has_nan(values.as_map().values()),
        DataType::Struct(_) => values.as_struct().columns().iter().any(|column| has_nan(column)),
        _ => false,
    }
}

/// Removes the bounds from the statistics of a floating-point chunk.
pub(crate) fn forget_bounds(chunk: &mut ArrowColumnChunk) {
    let close = chunk.close_mut();
    if matches!(close.metadata.column_type(), PhysicalType::FLOAT | PhysicalType::DOUBLE) {
        let described = close.metadata.clone().into_builder().clear_statistics().build();
        if let Ok(described) = described {
            close.metadata = described;
        }
        close.column_index = None;
    }
}
