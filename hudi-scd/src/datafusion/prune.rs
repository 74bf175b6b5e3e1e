//! Partition pruning by path.

use std::{collections::HashMap, sync::Arc};

use ::datafusion::{
    catalog::Session,
    common::{DFSchema, Result, cast::as_boolean_array},
    logical_expr::{Expr, utils::conjunction},
};
use arrow::{
    array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray},
    compute::{CastOptions, cast_with_options},
    datatypes::{DataType, Field, Schema, SchemaRef},
};

use crate::{key, properties::TableProperties};

/// Returns, for each partition path, `true` if it may contain rows that pass the filters. A partition is kept
/// if its path does not determine this.
pub(super) fn matching<'a>(
    table: &TableProperties,
    schema: &SchemaRef,
    state: &dyn Session,
    partitions: impl Iterator<Item = &'a str>,
    filters: &[Expr],
) -> Result<Vec<bool>> {
    let partitions: Vec<&str> = partitions.collect();
    let readable = |name: &str| {
        let told = schema.field_with_name(name).is_ok_and(|field| tells_its_value(field.data_type()));
        told && table.partition_fields.iter().any(|field| field == name)
    };
    let of_paths = |filter: &Expr| {
        !filter.is_volatile() && filter.column_refs().iter().all(|column| readable(&column.name))
    };
    let Some(filter) = conjunction(filters.iter().filter(|filter| of_paths(filter)).cloned()) else {
        return Ok(vec![true; partitions.len()]);
    };

    // One row per distinct path.
    let mut distinct: HashMap<&str, usize> = HashMap::new();
    for path in &partitions {
        let next = distinct.len();
        distinct.entry(path).or_insert(next);
    }
    let mut paths = vec![""; distinct.len()];
    for (path, row) in &distinct {
        paths[*row] = path;
    }
    let values: Vec<Vec<Option<String>>> =
        paths.iter().map(|path| key::partition_values(path, table)).collect();
    let mut unsure = vec![false; paths.len()];
    let mut columns: Vec<ArrayRef> = Vec::new();
    let mut fields = Vec::new();
    for (index, name) in table.partition_fields.iter().enumerate() {
        if !filter.column_refs().iter().any(|column| column.name == *name) {
            continue;
        }
        let field = schema.field_with_name(name)?;
        let texts: StringArray = values.iter().map(|values| values[index].as_deref()).collect();
        let options = CastOptions { safe: true, ..CastOptions::default() };
        let column = cast_with_options(&texts, field.data_type(), &options)?;
        for (row, unsure) in unsure.iter_mut().enumerate() {
            *unsure |= column.is_null(row);
        }
        columns.push(column);
        fields.push(Field::new(name, field.data_type().clone(), true));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(paths.len()));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?;
    let filter = state.create_physical_expr(filter, &DFSchema::try_from(batch.schema())?)?;
    let passed = filter.evaluate(&batch)?.into_array(batch.num_rows())?;
    let passed = as_boolean_array(&passed)?;
    Ok(partitions
        .iter()
        .map(|path| {
            let row = distinct[path];
            unsure[row] || (passed.is_valid(row) && passed.value(row))
        })
        .collect())
}

/// Returns `true` if the text in a path determines a value of this type.
fn tells_its_value(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::Int32 | DataType::Int64 | DataType::Date32 | DataType::Boolean
    )
}
