//! Converts the shop's rows to Arrow batches.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BooleanArray, Date32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    },
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};
use hudi_scd::schema::IS_DELETED_COLUMN;
use jiff::Timestamp;

use crate::domain::{Address, Change, Customer, Sale};

/// A column of a batch: its name, its nullability and its values.
type Column = (&'static str, bool, ArrayRef);

/// Builds the batch of customer changes. Its ordering field is `customer_datetime`.
pub(crate) fn customers(changes: &[Change<Customer>]) -> RecordBatch {
    let rows = || changes.iter().map(|change| &change.row);
    batch(vec![
        ("customer_id", false, numbers(rows().map(|row| Some(row.id)))),
        ("salutation", true, texts(rows().map(|row| row.salutation.as_deref()))),
        ("first_name", true, texts(rows().map(|row| row.first_name.as_deref()))),
        ("last_name", true, texts(rows().map(|row| row.last_name.as_deref()))),
        ("is_preferred", false, flags(rows().map(|row| row.preferred))),
        ("birth_country", true, texts(rows().map(|row| row.birth_country.as_deref()))),
        ("email", true, texts(rows().map(|row| row.email.as_deref()))),
        ("address_id", false, numbers(rows().map(|row| Some(row.address_id)))),
        ("customer_datetime", false, times(changes.iter().map(|change| change.at))),
        (IS_DELETED_COLUMN, true, flags(changes.iter().map(|change| change.deleted))),
    ])
}

/// Builds the batch of address changes. Its ordering field is `address_datetime`, and its partition field is
/// `address_date`, the day of the change.
pub(crate) fn addresses(changes: &[Change<Address>]) -> RecordBatch {
    let rows = || changes.iter().map(|change| &change.row);
    let days = changes.iter().map(|change| Some(day(change.at)));
    batch(vec![
        ("address_id", false, numbers(rows().map(|row| Some(row.id)))),
        ("street", true, texts(rows().map(|row| row.street.as_deref()))),
        ("city", true, texts(rows().map(|row| row.city.as_deref()))),
        ("county", true, texts(rows().map(|row| row.county.as_deref()))),
        ("state", true, texts(rows().map(|row| row.state.as_deref()))),
        ("zip", true, texts(rows().map(|row| row.zip.as_deref()))),
        ("country", true, texts(rows().map(|row| row.country.as_deref()))),
        ("location_type", true, texts(rows().map(|row| row.location_type.as_deref()))),
        ("address_datetime", false, times(changes.iter().map(|change| change.at))),
        ("address_date", false, Arc::new(days.collect::<Date32Array>())),
        (IS_DELETED_COLUMN, true, flags(changes.iter().map(|change| change.deleted))),
    ])
}

/// Builds a batch of sales with the columns that the lookups need.
pub(crate) fn sales(sales: &[Sale]) -> RecordBatch {
    batch(vec![
        ("ticket_number", false, numbers(sales.iter().map(|sale| Some(sale.ticket)))),
        ("item_id", false, numbers(sales.iter().map(|sale| Some(sale.item_id)))),
        ("customer_id", true, numbers(sales.iter().map(|sale| sale.customer_id))),
        ("sold_at", false, times(sales.iter().map(|sale| sale.sold_at))),
    ])
}

/// Returns the day of a timestamp, in days since 1970-01-01.
fn day(at: Timestamp) -> i32 {
    at.as_second().div_euclid(86_400) as i32
}

fn numbers(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<Int64Array>())
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn flags(values: impl Iterator<Item = bool>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<BooleanArray>())
}

fn times(values: impl Iterator<Item = Timestamp>) -> ArrayRef {
    let values: TimestampMicrosecondArray = values.map(|at| Some(at.as_microsecond())).collect();
    Arc::new(values.with_timezone("UTC"))
}

fn batch(columns: Vec<Column>) -> RecordBatch {
    let fields: Vec<_> = columns
        .iter()
        .map(|(name, nullable, values)| Field::new(*name, values.data_type().clone(), *nullable))
        .collect();
    let values = columns.into_iter().map(|(_, _, values)| values).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), values)
        .unwrap_or_else(|error| unreachable!("the columns have one length and the declared types: {error}"))
}

/// Returns the table schema for a batch of changes: all columns except the delete marker.
pub(crate) fn table_schema(batch: &RecordBatch) -> SchemaRef {
    let fields = batch.schema().fields().clone();
    let kept: Vec<_> = fields.iter().filter(|field| field.name() != IS_DELETED_COLUMN).cloned().collect();
    Arc::new(Schema::new(kept))
}

/// Formats the rows of a batch as text by column name. Numbers and texts are unchanged, times are in ISO 8601
/// with microseconds, and NULL is `None`.
pub(crate) fn texts_of(batch: &RecordBatch) -> Vec<Vec<(String, Option<String>)>> {
    let schema = batch.schema();
    (0..batch.num_rows())
        .map(|row| {
            schema
                .fields()
                .iter()
                .zip(batch.columns())
                .filter(|(field, _)| !field.name().starts_with('_'))
                .map(|(field, values)| (field.name().clone(), text_of(values, row)))
                .collect()
        })
        .collect()
}

fn text_of(values: &ArrayRef, row: usize) -> Option<String> {
    use arrow::array::AsArray;
    if values.is_null(row) {
        return None;
    }
    Some(match values.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let micros = values.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().value(row);
            Timestamp::from_microsecond(micros).map(iso).unwrap_or_else(|_| format!("{micros} us"))
        }
        DataType::Int64 => values.as_primitive::<arrow::datatypes::Int64Type>().value(row).to_string(),
        DataType::Boolean => values.as_boolean().value(row).to_string(),
        _ => arrow::util::display::array_value_to_string(values, row).unwrap_or_default(),
    })
}

/// Formats a time as `2003-01-06T08:00:00.000001Z`.
pub(crate) fn iso(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_back_as_text_with_nulls_and_microseconds() {
        let at: Timestamp = "2003-01-05T23:59:59.000001Z".parse().unwrap();
        let row = Address {
            id: 7,
            street: None,
            city: Some("Midway".to_owned()),
            county: None,
            state: None,
            zip: None,
            country: None,
            location_type: None,
        };
        let texts = texts_of(&addresses(&[Change { at, row, deleted: false }]));
        let column = |name: &str| texts[0].iter().find(|(known, _)| known == name).unwrap().1.as_deref();
        assert_eq!(column("city"), Some("Midway"));
        assert_eq!(column("street"), None);
        assert_eq!(column("address_datetime"), Some("2003-01-05T23:59:59.000001Z"));
        assert_eq!(column("address_date"), Some("2003-01-05"));
    }
}
