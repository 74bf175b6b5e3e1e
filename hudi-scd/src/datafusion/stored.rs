//! Columns of files that are older than a change of the table's schema. DataFusion does not cast maps of
//! structs, and formats floating-point numbers that became text unlike Java. Such columns are converted as in
//! [`Table::read`](crate::Table::read).

use std::sync::Arc;

use ::datafusion::{
    common::{
        Result,
        nested_struct::validate_data_type_compatibility,
        tree_node::{Transformed, TransformedResult, TreeNode},
    },
    config::ConfigOptions,
    logical_expr::{ColumnarValue, Volatility, create_udf},
    physical_expr::{PhysicalExpr, ScalarFunctionExpr, expressions::Column},
    physical_expr_adapter::{
        DefaultPhysicalExprAdapterFactory, PhysicalExprAdapter, PhysicalExprAdapterFactory,
    },
};
use arrow::{
    array::RecordBatch,
    datatypes::{DataType, FieldRef, Schema, SchemaRef},
};

use super::external;
use crate::schema;

/// Adapts expressions to the columns of a file.
#[derive(Debug)]
pub(super) struct Stored;

impl PhysicalExprAdapterFactory for Stored {
    fn create(&self, table: SchemaRef, file: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let mut converted = Vec::new();
        let fields = table.fields().iter().map(|field| match file.field_with_name(field.name()) {
            Ok(stored) if is_converted(stored.data_type(), field.data_type()) => {
                converted.push(field.clone());
                Arc::new(stored.clone())
            }
            _ => field.clone(),
        });
        let fields: Vec<FieldRef> = fields.collect();
        let default =
            DefaultPhysicalExprAdapterFactory.create(Arc::new(Schema::new(fields)), file.clone())?;
        Ok(Arc::new(Adapter { default, file, converted }))
    }
}

/// Returns `true` if a cast by DataFusion would fail or have another result.
fn is_converted(stored: &DataType, table: &DataType) -> bool {
    stored != table
        && (stored.is_floating() && *table == DataType::Utf8
            || validate_data_type_compatibility("", stored, table).is_err())
}

#[derive(Debug)]
struct Adapter {
    /// Casts the other columns.
    default: Arc<dyn PhysicalExprAdapter>,
    file: SchemaRef,
    /// The columns that are converted here, with their types in the table.
    converted: Vec<FieldRef>,
}

impl PhysicalExprAdapter for Adapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let adapted = self.default.rewrite(expr)?;
        let convert = |expr: Arc<dyn PhysicalExpr>| {
            let name = expr.downcast_ref::<Column>().map(|column| column.name().to_owned());
            match self.converted.iter().find(|field| Some(field.name()) == name.as_ref()) {
                Some(field) => conversion(expr, field, &self.file).map(Transformed::yes),
                None => Ok(Transformed::no(expr)),
            }
        };
        adapted.transform(convert).data()
    }
}

/// Returns an expression that converts a stored column to the column of the table.
fn conversion(
    column: Arc<dyn PhysicalExpr>,
    field: &FieldRef,
    file: &Schema,
) -> Result<Arc<dyn PhysicalExpr>> {
    let wanted = Arc::new(Schema::new(vec![field.clone()]));
    let convert = move |arguments: &[ColumnarValue]| {
        let columns = ColumnarValue::values_to_arrays(arguments)?;
        let named = columns.into_iter().map(|column| (wanted.field(0).name(), column, true));
        let stored = RecordBatch::try_from_iter_with_nullable(named)?;
        let converted = schema::conform_stored(&stored, &wanted).map_err(external)?;
        Ok(ColumnarValue::Array(converted.column(0).clone()))
    };
    let (from, to) = (column.data_type(file)?, field.data_type().clone());
    let udf = create_udf("as_in_table", vec![from], to, Volatility::Immutable, Arc::new(convert));
    let options = Arc::new(ConfigOptions::default());
    Ok(Arc::new(ScalarFunctionExpr::try_new(Arc::new(udf), vec![column], file, options)?))
}
