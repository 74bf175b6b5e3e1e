//! Derives from the model the rows that the lake must contain.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::Row;
use crate::{
    domain::{Address, Change, Customer},
    lake::batch::{self, iso},
    model::{Kept, Model, tracked},
};

pub(super) fn customer_columns(row: Row, customer: &Customer) -> Row {
    row.with_text("salutation", customer.salutation.as_ref())
        .with_text("first_name", customer.first_name.as_ref())
        .with_text("last_name", customer.last_name.as_ref())
        .with_text("birth_country", customer.birth_country.as_ref())
        .with_text("email", customer.email.as_ref())
}

/// Returns the expected latest rows of `store_customer`.
pub(super) fn customers(customers: &Kept<'_, Customer>) -> Vec<Row> {
    customers
        .all_live()
        .map(|change| {
            customer_columns(Row::new(format!("customer_id {}", change.row.id)), &change.row)
                .with("is_preferred", change.row.preferred)
                .with("address_id", change.row.address_id)
                .with("customer_datetime", iso(change.at))
        })
        .collect()
}

pub(super) fn address_columns(row: Row, address: &Address) -> Row {
    row.with_text("street", address.street.as_ref())
        .with_text("city", address.city.as_ref())
        .with_text("county", address.county.as_ref())
        .with_text("state", address.state.as_ref())
        .with_text("zip", address.zip.as_ref())
        .with_text("country", address.country.as_ref())
        .with_text("location_type", address.location_type.as_ref())
}

/// Returns the expected latest rows of `store_customer_address`.
pub(super) fn addresses(addresses: &Kept<'_, Address>) -> Vec<Row> {
    addresses
        .all_live()
        .map(|change| {
            address_columns(Row::new(format!("address_id {}", change.row.id)), &change.row)
                .with("address_datetime", iso(change.at))
                .with("address_date", change.at.strftime("%Y-%m-%d"))
        })
        .collect()
}

/// Returns the expected history of the customers. Each interval is one row, and type 1 columns have their
/// latest values.
pub(super) fn history(model: &Model<'_>) -> Vec<Row> {
    let customers = &model.customers;
    customers
        .keys()
        .flat_map(|id| customers.history(id, tracked).into_iter().map(move |interval| (id, interval)))
        .filter_map(|(id, interval)| {
            let newest = customers.newest(id)?;
            let row = Row::new(format!("customer_id {id}, valid_from {}", iso(interval.valid_from)))
                .with_text("valid_to", interval.valid_to.map(iso).as_ref())
                .with("is_current", interval.valid_to.is_none())
                .with("is_preferred", interval.row.preferred)
                .with("address_id", interval.row.address_id);
            Some(customer_columns(row, &newest.row))
        })
        .collect()
}

/// Writes the expected contents of the tables as JSON lines, so that other programs can compare them.
pub(crate) fn write_expected(dir: &Path, model: &Model<'_>) -> Result<()> {
    fs::create_dir_all(dir)?;
    let customers: Vec<Change<Customer>> = model.customers.all_live().cloned().collect();
    let addresses: Vec<Change<Address>> = model.addresses.all_live().cloned().collect();
    for (name, rows) in [
        ("store_customer", batch::customers(&customers)),
        ("store_customer_address", batch::addresses(&addresses)),
    ] {
        let path = dir.join(format!("{name}.jsonl"));
        let mut lines = String::new();
        for row in batch::texts_of(&rows) {
            let row: Map<String, Value> = row.into_iter().map(|(name, value)| json(name, value)).collect();
            lines.push_str(&Value::Object(row).to_string());
            lines.push('\n');
        }
        fs::write(&path, lines).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Converts a value to JSON. Ids become numbers, flags booleans, and all other values strings.
fn json(name: String, value: Option<String>) -> (String, Value) {
    let value = match value {
        None => Value::Null,
        Some(text) if name.ends_with("_id") => text.parse::<i64>().map_or(Value::String(text), Value::from),
        Some(text) if name.starts_with("is_") => Value::Bool(text == "true"),
        Some(text) => Value::String(text),
    };
    (name, value)
}
