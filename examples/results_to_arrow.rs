//! Reads a query result as Arrow record batches, page by page, without holding the whole result in memory.
//!
//! ```text
//! ticket   Int64
//! price    Decimal128(10, 2)
//! sold_on  Date32
//! batches of [1000, 1000, 500] rows, revenue 49875.00
//! ```
//!
//! The result is requested as CSV, which is several times smaller than the service's JSON.

use std::time::Duration;

use anyhow::Result;
use futures::TryStreamExt;
use redshift_data_local::{Limits, LocalExecutor, Script, ScriptedExecution};
use redshift_orchestrator::{
    Column, Field, ResultFormat, Statement, StatementExecutor, StatementExecutorExt, WaitTime,
    arrow::{
        RecordBatchOptions,
        arrow_array::{cast::AsArray, types::Decimal128Type},
        arrow_schema::DataType,
    },
};

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<()> {
    let executor = warehouse();
    let query =
        Statement::sql("SELECT ticket, price, sold_on FROM sales").with_result_format(ResultFormat::Csv);
    let id = executor.submit(&query, Some(WaitTime::MAX)).await?.id;

    // The types are derived from the columns of the result. The type of a column can be overridden.
    let options =
        RecordBatchOptions::default().with_batch_size(1_000).with_column_type("ticket", DataType::Int64);
    let mut batches = executor.record_batches(&id, options).await?;
    for field in batches.schema().fields() {
        println!("{:<8} {}", field.name(), field.data_type());
    }

    let (mut sizes, mut total) = (Vec::new(), 0);
    while let Some(batch) = batches.try_next().await? {
        sizes.push(batch.num_rows());
        total += batch["price"].as_primitive::<Decimal128Type>().iter().flatten().sum::<i128>();
    }
    println!("batches of {sizes:?} rows, revenue {}.{:02}", total / 100, total % 100);
    assert_eq!(sizes, [1_000, 1_000, 500]);
    assert_eq!(total, 2_500 * 1_995);
    Ok(())
}

/// Returns a scripted warehouse with 2,500 sales, whose result has pages of 700 rows.
fn warehouse() -> impl StatementExecutor {
    let mut price = Column::new("price", "numeric");
    (price.precision, price.scale) = (Some(10), Some(2));
    let columns = vec![Column::new("ticket", "int4"), price, Column::new("sold_on", "date")];
    let row =
        |ticket| vec![Field::Long(ticket), Field::String("19.95".into()), Field::String("2025-03-01".into())];
    let mut limits = Limits::default();
    limits.rows_per_page = 700;
    let run = ScriptedExecution::finished(Duration::from_secs(8))
        .with_result(columns, (1..=2_500).map(row).collect());
    LocalExecutor::scripted(Script::new().otherwise(run).with_limits(limits))
}
