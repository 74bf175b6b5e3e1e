//! Looks up, for each sale, the customer row that was valid at the time of the sale (SCD type 2), before and
//! after a late change.
//!
//! ```text
//! history: basic from 10 to 30, gold from 30
//! sale at 25 found basic, sale at 35 found gold, sale at 5 found nothing
//! a late change arrives: 1 opened, 1 split
//! history: basic from 10 to 20, silver from 20 to 30, gold from 30
//! sale at 25 found silver, sale at 35 found gold, sale at 5 found nothing
//! ```

use std::{error::Error, sync::Arc};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use hudi_scd::scd::{At, Scd2, Scd2Table};
use object_store::{memory::InMemory, path::Path};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let first = tiers(&[("basic", 10), ("gold", 30)])?;
    let scd = Scd2::new(["customer_id"], "updated_at").track(["tier"]);
    let (store, root) = (Arc::new(InMemory::new()), Path::from("lake/customer_history"));
    let definition = Scd2Table::definition_of("customer_history", &scd, &first.schema())?;
    let history = Scd2Table::create(store, root, definition).await?;

    history.apply(&[first]).await?;
    show(&history).await?;

    let report = history.apply(&[tiers(&[("silver", 20)])?]).await?;
    println!("a late change arrives: {} opened, {} split", report.counts.opened, report.counts.split);
    show(&history).await
}

/// Builds changes of customer 1, each with a tier and the time of the change.
fn tiers(changes: &[(&str, i64)]) -> Result<RecordBatch, Box<dyn Error>> {
    let columns: [(&str, ArrayRef); 3] = [
        ("customer_id", Arc::new(changes.iter().map(|_| Some(1)).collect::<Int64Array>())),
        ("tier", Arc::new(changes.iter().map(|change| Some(change.0)).collect::<StringArray>())),
        ("updated_at", Arc::new(changes.iter().map(|change| Some(change.1)).collect::<Int64Array>())),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}

async fn show(history: &Scd2Table) -> Result<(), Box<dyn Error>> {
    let rows = history.rows().await?;
    let column = |name: &str| rows.column_by_name(name).ok_or(format!("the history has no column {name}"));
    let tier = column("tier")?.as_string::<i32>();
    let (from, to) =
        (column("valid_from")?.as_primitive::<Int64Type>(), column("valid_to")?.as_primitive::<Int64Type>());
    let states = (0..rows.num_rows()).zip(to.iter()).map(|(row, to)| {
        let end = to.map_or_else(String::new, |to| format!(" to {to}"));
        format!("{} from {}{end}", tier.value(row), from.value(row))
    });
    println!("history: {}", states.collect::<Vec<_>>().join(", "));

    let sold_at = [25, 35, 5];
    let sales = RecordBatch::try_from_iter([
        ("buyer", Arc::new(Int64Array::from(vec![1; 3])) as ArrayRef),
        ("sold_at", Arc::new(Int64Array::from(sold_at.to_vec())) as ArrayRef),
    ])?;
    let found = history.dimension().await?.lookup(&sales, &["buyer"], At::Column("sold_at"))?;
    let tier = found.rows.column_by_name("tier").ok_or("the lookup has no column tier")?.as_string::<i32>();
    let found = sold_at
        .iter()
        .zip(tier.iter())
        .map(|(at, tier)| format!("sale at {at} found {}", tier.unwrap_or("nothing")));
    println!("{}", found.collect::<Vec<_>>().join(", "));
    Ok(())
}
