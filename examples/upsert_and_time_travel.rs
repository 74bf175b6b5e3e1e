//! Keeps customers in a Hudi table: upserts, a late row, a delete, and a read of an earlier state.
//!
//! ```text
//! first commit: 2 inserted
//! second commit: 1 updated, 1 inserted, 1 deleted, 1 late
//! now:         1 Ada gold; 3 Cleo basic
//! as it was:   1 Ada basic; 2 Ben basic
//! ```
//!
//! Here the table is in memory. With `object_store`, it can also be on S3 or a local disk, where Spark,
//! Athena and Redshift Spectrum can read it.

use std::{error::Error, sync::Arc};

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use hudi_scd::{Query, Table, TableDefinition, schema::IS_DELETED_COLUMN};
use object_store::{memory::InMemory, path::Path};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let first = customers(&[(1, "Ada", "basic", 10, false), (2, "Ben", "basic", 10, false)])?;
    let definition = TableDefinition::new("store_customer", first.schema(), ["customer_id"])
        .with_ordering_field("updated_at");
    let table =
        Table::create(Arc::new(InMemory::new()), Path::from("lake/store_customer"), definition).await?;

    let report = table.upsert(&[first]).await?;
    println!("first commit: {} inserted", report.inserted);
    let before = report.instant.ok_or("the first commit made no instant")?;

    let changes = [
        (1, "Ada", "gold", 20, false),
        (2, "Ben", "basic", 20, true),   // deleted
        (3, "Cleo", "basic", 20, false), // new
    ];
    let report = table.upsert(&[customers(&changes)?]).await?;
    // This row is older than the stored one, so it changes nothing and creates no commit.
    let late = table.upsert(&[customers(&[(1, "Ada", "silver", 15, false)])?]).await?;
    println!(
        "second commit: {} updated, {} inserted, {} deleted, {} late",
        report.updated, report.inserted, report.deleted, late.late
    );

    println!("now:         {}", shown(&table.read(Query::snapshot()).await?));
    println!("as it was:   {}", shown(&table.read(Query::as_of(before)).await?));
    Ok(())
}

/// Builds changes of customers, each with id, name, tier, time, and deletion flag.
fn customers(rows: &[(i64, &str, &str, i64, bool)]) -> Result<RecordBatch, Box<dyn Error>> {
    let columns: [(&str, ArrayRef); 5] = [
        ("customer_id", Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Int64Array>())),
        ("name", Arc::new(rows.iter().map(|row| Some(row.1)).collect::<StringArray>())),
        ("tier", Arc::new(rows.iter().map(|row| Some(row.2)).collect::<StringArray>())),
        ("updated_at", Arc::new(rows.iter().map(|row| Some(row.3)).collect::<Int64Array>())),
        (IS_DELETED_COLUMN, Arc::new(rows.iter().map(|row| Some(row.4)).collect::<BooleanArray>())),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}

fn shown(batches: &[RecordBatch]) -> String {
    let mut rows = Vec::new();
    for batch in batches {
        let id = batch.column(0).as_primitive::<Int64Type>();
        let (name, tier) = (batch.column(1).as_string::<i32>(), batch.column(2).as_string::<i32>());
        rows.extend(
            (0..batch.num_rows())
                .map(|row| format!("{} {} {}", id.value(row), name.value(row), tier.value(row))),
        );
    }
    rows.sort();
    rows.join("; ")
}
