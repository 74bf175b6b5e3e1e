//! Checks the catalog: each table's columns, location, partitions and newest commit, and the crawler's
//! exclusions. The expectations come from the tables' schemas, from the files on storage and from the records
//! of the cycles. Then the catalog is compared with the tables as `hudi-scd catalog check` does.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use arrow::datatypes::{DataType, Field, Schema};
use hudi_scd::Table;

use super::{Proof, Row};
use crate::{
    catalog::{Catalog, Columns, Entry, exclusion},
    lake::{Lake, Place},
    record::CycleRecord,
};

/// Columns that Hudi adds in front of a table's own.
const HUDI_COLUMNS: [&str; 5] = [
    "_hoodie_commit_time",
    "_hoodie_commit_seqno",
    "_hoodie_record_key",
    "_hoodie_partition_path",
    "_hoodie_file_name",
];

pub(super) async fn check(proof: &mut Proof, cycles: &[CycleRecord], lake: &Lake) -> Result<()> {
    let Some(catalog) = &lake.catalog else { return Ok(()) };
    for table in lake.tables() {
        let entry = catalog.entry(table.name()).await?;
        let name = table.name();
        proof.rows(
            &format!("catalog: columns, location and newest commit of {name}"),
            description(table, cycles, &lake.place).await?,
            described(&entry),
        );
        if !table.partition_fields().is_empty() {
            let partitions = partitions(table, &lake.place).await?;
            let found = entry.partitions.iter().map(|(values, location)| partition(values, location));
            proof.rows(&format!("catalog: partitions of {name}"), partitions, found.collect());
        }
        let drift = catalog.drift(table, &lake.place.url(name)).await?;
        proof.holds(&format!("catalog: {name} is described as it is"), 1, drift);
    }
    crawler(proof, lake, catalog).await
}

/// Returns what the catalog should hold on a table.
async fn description(table: &Table, cycles: &[CycleRecord], place: &Place) -> Result<Vec<Row>> {
    let schema = table.schema().await?;
    let (columns, keys) = columns(&schema, table.partition_fields());
    let last = cycles.last().and_then(|cycle| cycle.tables.iter().find(|found| found.name == table.name()));
    let last = last.with_context(|| format!("the last cycle has no record of {}", table.name()))?;
    Ok(described(&Entry {
        location: place.url(table.name()),
        columns,
        keys,
        partitions: BTreeMap::new(),
        last_commit: Some(last.instant.clone()),
    }))
}

fn described(entry: &Entry) -> Vec<Row> {
    let columns = |kind: &str, columns: &Columns| -> Vec<Row> {
        let row = |(position, (name, data_type)): (usize, &(String, String))| {
            Row::new(format!("{kind} {name}")).with("position", position).with("type", data_type)
        };
        columns.iter().enumerate().map(row).collect()
    };
    let table = Row::new("table").with("location", &entry.location);
    let mut rows = vec![table.with_text("newest commit", entry.last_commit.as_ref())];
    rows.extend(columns("column", &entry.columns));
    rows.extend(columns("partition column", &entry.keys));
    rows
}

/// Returns the columns that the catalog should have: those in the files, and those of the partitions.
fn columns(schema: &Schema, keys: &[String]) -> (Columns, Columns) {
    let hudis = HUDI_COLUMNS.map(|name| (name.to_owned(), "string".to_owned())).into_iter();
    let is_hudis = |field: &&Field| HUDI_COLUMNS.contains(&field.name().as_str());
    let own = schema.fields().iter().map(AsRef::as_ref).filter(|field| !is_hudis(field));
    let named = |field: &Field| (field.name().clone(), hive_type(field.data_type()));
    let (keys, own): (Vec<_>, Vec<_>) = own.map(named).partition(|(name, _)| keys.contains(name));
    (hudis.chain(own).collect(), keys)
}

/// Returns the catalog's type of a column. MyStore's tables have these types only.
fn hive_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Int64 => "bigint".to_owned(),
        DataType::Utf8 => "string".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Date32 => "date".to_owned(),
        DataType::Timestamp(..) => "timestamp".to_owned(),
        DataType::List(item) => format!("array<{}>", hive_type(item.data_type())),
        other => format!("no type for {other}"),
    }
}

fn partition(values: &[String], location: &str) -> Row {
    Row::new(format!("partition {}", values.join("/"))).with("location", location)
}

/// Returns the partitions of a table with one partition column, as the folders on storage name them.
async fn partitions(table: &Table, place: &Place) -> Result<Vec<Row>> {
    let listed = place.store.list_with_delimiter(Some(table.root())).await?;
    let folders = listed.common_prefixes.iter().filter_map(|folder| folder.filename());
    let partitions = folders.filter_map(|folder| Some((folder, folder.split_once('=')?.1)));
    let url = place.url(table.name());
    Ok(partitions.map(|(folder, day)| partition(&[day.to_owned()], &format!("{url}/{folder}"))).collect())
}

async fn crawler(proof: &mut Proof, lake: &Lake, catalog: &Catalog) -> Result<()> {
    let tables = lake.tables().map(Table::name);
    let patterns = catalog.exclusions().await?;
    let missing = tables.iter().map(|table| exclusion(table)).find(|pattern| !patterns.contains(pattern));
    proof.holds(
        &format!("catalog: the crawler {} excludes the Hudi tables", catalog.crawler()),
        tables.len() as u64,
        missing.map(|pattern| format!("the pattern {pattern} is missing")),
    );
    let crawled = catalog.crawled(&tables.map(|table| lake.place.url(table))).await?;
    proof.holds("catalog: the crawler would touch no Hudi table", tables.len() as u64, crawled);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::batch;

    #[test]
    fn the_columns_of_the_addresses_are_those_of_the_reference() {
        let schema = batch::table_schema(&batch::addresses(&[]));
        let (columns, keys) = columns(&schema, &["address_date".to_owned()]);
        assert_eq!(columns.len(), 5 + schema.fields().len() - 1);
        assert_eq!(columns[4..6], [("_hoodie_file_name", "string"), ("address_id", "bigint")].map(owned));
        assert_eq!(columns.last().unwrap(), &owned(("address_datetime", "timestamp")));
        assert_eq!(keys, [owned(("address_date", "date"))]);
    }

    fn owned((name, data_type): (&str, &str)) -> (String, String) {
        (name.to_owned(), data_type.to_owned())
    }
}
