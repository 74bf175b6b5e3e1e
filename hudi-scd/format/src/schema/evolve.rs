//! Evolution of a table's schema when batches with other columns are written to it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Fields, Schema, SchemaRef};

use super::{
    IS_DELETED_COLUMN, canonical, invalid, join, list_of, map_of, stored_field, without_meta_columns,
};
use crate::Result;

/// Returns the schema of the table after a write of a batch with the schema `incoming`: the table's columns
/// in their order, followed by the new columns, all nullable.
///
/// A column may become wider by Avro's promotions, which are also Hudi's: `Int32` to `Int64`, both of these
/// to `Float32`, all of these to `Float64`. (Not every `Int64` can be represented as `Float64`, nor every
/// `Int32` as `Float32`. The batch requests the promotion, and stored values are read as the nearest number.)
/// Narrower incoming values are stored in the table's type, and are rejected if it cannot represent them
/// exactly. The same rules apply inside structs, lists and maps. A batch that lacks a column of the table is
/// rejected, as in Hudi, because it would set the stored values to null. The exception is
/// [`IS_DELETED_COLUMN`]: without it, nothing is deleted.
///
/// # Errors
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput), naming the column and both types.
pub fn reconcile(table: &Schema, incoming: &Schema) -> Result<SchemaRef> {
    let incoming = canonical(incoming)?;
    let fields = merge_fields(without_meta_columns(table).fields(), incoming.fields(), "")?;
    Ok(Arc::new(Schema::new(fields)))
}

fn merge_fields(table: &Fields, incoming: &Fields, path: &str) -> Result<Fields> {
    let mut out = Vec::with_capacity(table.len().max(incoming.len()));
    for field in table {
        let path = join(path, field.name());
        match incoming.find(field.name()) {
            Some((_, found)) => {
                let data_type = merge_types(field.data_type(), found.data_type(), &path)?;
                out.push(Arc::new(field.as_ref().clone().with_data_type(data_type)));
            }
            None if field.name() == IS_DELETED_COLUMN => out.push(field.clone()),
            None => {
                return Err(invalid("batch lacks a column of the table; add it").with_context("column", path));
            }
        }
    }
    for field in incoming {
        if table.find(field.name()).is_some() {
            continue;
        }
        if let Some(other) = table.iter().find(|known| known.name().eq_ignore_ascii_case(field.name())) {
            return Err(invalid("column differs from a column of the table only in case; rename it")
                .with_context("column", join(path, field.name()))
                .with_context("other", join(path, other.name())));
        }
        out.push(stored_field(field));
    }
    Ok(out.into())
}

fn merge_types(table: &DataType, incoming: &DataType, path: &str) -> Result<DataType> {
    use DataType as T;
    match (table, incoming) {
        (T::Struct(table), T::Struct(incoming)) => Ok(T::Struct(merge_fields(table, incoming, path)?)),
        (T::List(table), T::List(incoming)) => {
            let item = merge_types(table.data_type(), incoming.data_type(), &join(path, super::ELEMENT))?;
            Ok(list_of(item))
        }
        (T::Map(..), T::Map(..)) => {
            let (Some(table), Some(incoming)) = (map_value(table), map_value(incoming)) else {
                return Err(incompatible(table, incoming, path));
            };
            Ok(map_of(merge_types(table, incoming, &join(path, super::VALUE))?, true))
        }
        _ if holds(table, incoming) => Ok(table.clone()),
        (T::Int32, T::Int64 | T::Float32 | T::Float64)
        | (T::Int64, T::Float32 | T::Float64)
        | (T::Float32, T::Float64) => Ok(incoming.clone()),
        _ => Err(incompatible(table, incoming, path)),
    }
}

/// Returns `true` if values of the incoming primitive type can be stored unchanged in the table's type.
pub(super) fn holds(table: &DataType, incoming: &DataType) -> bool {
    use DataType as T;
    match (table, incoming) {
        (T::Int64 | T::Float32 | T::Float64, T::Int32)
        | (T::Float32 | T::Float64, T::Int64)
        | (T::Float64, T::Float32) => true,
        (T::Decimal128(precision, scale), T::Decimal128(p, s)) => {
            scale >= s && i16::from(*precision) - i16::from(*scale) >= i16::from(*p) - i16::from(*s)
        }
        // A timestamp without a zone is treated as UTC. Engines display it that way.
        (T::Timestamp(unit, zone), T::Timestamp(u, z)) => (zone.is_some() || z.is_none()) && unit >= u,
        _ => table == incoming,
    }
}

pub(super) fn map_value(map: &DataType) -> Option<&DataType> {
    let DataType::Map(entries, _) = map else { return None };
    let DataType::Struct(entry) = entries.data_type() else { return None };
    Some(entry.get(1)?.data_type())
}

pub(super) fn incompatible(table: &DataType, incoming: &DataType, path: &str) -> crate::Error {
    invalid("column of the batch does not fit the table")
        .with_context("column", path)
        .with_context("table", table)
        .with_context("batch", incoming)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Field, TimeUnit};

    fn schema(fields: &[(&str, DataType)]) -> Schema {
        let field = |(name, data_type): &(&str, DataType)| Field::new(*name, data_type.clone(), true);
        Schema::new(fields.iter().map(field).collect::<Vec<_>>())
    }

    #[test]
    fn new_columns_come_last_and_wider_types_win() {
        let table = schema(&[("id", DataType::Int64), ("n", DataType::Int32), ("x", DataType::Float64)]);
        let batch = schema(&[
            ("new", DataType::LargeUtf8),
            ("x", DataType::Float32),
            ("n", DataType::Int64),
            ("id", DataType::Int8),
        ]);
        let evolved = reconcile(&table, &batch).unwrap();
        let expected = schema(&[
            ("id", DataType::Int64),
            ("n", DataType::Int64),
            ("x", DataType::Float64),
            ("new", DataType::Utf8),
        ]);
        assert_eq!(*evolved, expected);
        assert_eq!(reconcile(&evolved, &batch).unwrap(), evolved);
    }

    #[test]
    fn structs_evolve_inside() {
        let inner = |fields: &[(&str, DataType)]| DataType::Struct(schema(fields).fields);
        let table = schema(&[("s", list_of(inner(&[("a", DataType::Int32)])))]);
        let batch = schema(&[("s", list_of(inner(&[("a", DataType::Int64), ("b", DataType::Utf8)])))]);
        assert_eq!(*reconcile(&table, &batch).unwrap(), batch);
        let error = reconcile(&batch, &table).unwrap_err();
        assert_eq!(error.context("column"), Some("s.element.b"));
    }

    #[test]
    fn a_missing_column_is_refused_but_not_the_delete_marker() {
        let table = schema(&[("id", DataType::Int64), ("_hoodie_is_deleted", DataType::Boolean)]);
        let batch = schema(&[("id", DataType::Int64)]);
        assert_eq!(*reconcile(&table, &batch).unwrap(), table);
        assert_eq!(
            reconcile(&batch, &schema(&[("x", DataType::Utf8)])).unwrap_err().context("column"),
            Some("id")
        );
    }

    #[rstest::rstest]
    #[case(DataType::Int32, DataType::Int64)]
    #[case(DataType::Int32, DataType::Float32)]
    #[case(DataType::Int32, DataType::Float64)]
    #[case(DataType::Int64, DataType::Float32)]
    #[case(DataType::Int64, DataType::Float64)]
    #[case(DataType::Float32, DataType::Float64)]
    fn a_column_gets_the_wider_type_and_keeps_it(#[case] narrow: DataType, #[case] wide: DataType) {
        let inside = |data_type: &DataType| {
            let member = vec![Field::new("x", data_type.clone(), true)];
            let fields = [
                ("c", data_type.clone()),
                ("l", list_of(data_type.clone())),
                ("m", map_of(data_type.clone(), true)),
                ("s", DataType::Struct(member.into())),
            ];
            schema(&fields)
        };
        let (narrow, wide) = (inside(&narrow), inside(&wide));
        assert_eq!(*reconcile(&narrow, &wide).unwrap(), wide);
        assert_eq!(*reconcile(&wide, &narrow).unwrap(), wide);
    }

    #[rstest::rstest]
    #[case(DataType::Utf8, DataType::Int32)]
    #[case(DataType::Int32, DataType::Utf8)]
    #[case(DataType::Int64, DataType::Decimal128(20, 0))]
    #[case(DataType::Decimal128(10, 2), DataType::Float64)]
    #[case(DataType::Boolean, DataType::Int32)]
    #[case(DataType::Int32, DataType::Boolean)]
    #[case(DataType::Utf8, DataType::Binary)]
    #[case(DataType::Binary, DataType::Utf8)]
    #[case(DataType::Date32, DataType::Int32)]
    #[case(DataType::Int32, list_of(DataType::Int32))]
    #[case(list_of(DataType::Int32), DataType::Int32)]
    #[case(DataType::Date32, DataType::Timestamp(TimeUnit::Microsecond, None))]
    #[case(
        DataType::Timestamp(TimeUnit::Millisecond, None),
        DataType::Timestamp(TimeUnit::Microsecond, None)
    )]
    #[case(DataType::Timestamp(TimeUnit::Microsecond, None), DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))]
    #[case(DataType::Decimal128(10, 2), DataType::Decimal128(10, 3))]
    #[case(DataType::Decimal128(10, 2), DataType::Decimal128(11, 2))]
    fn what_would_lose_values_is_refused(#[case] table: DataType, #[case] batch: DataType) {
        let error =
            reconcile(&schema(&[("c", table.clone())]), &schema(&[("c", batch.clone())])).unwrap_err();
        assert_eq!(error.context("column"), Some("c"));
        assert_eq!(error.context("table"), Some(table.to_string().as_str()));
        assert_eq!(error.context("batch"), Some(batch.to_string().as_str()));
    }
}
