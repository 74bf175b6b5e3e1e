//! Converts CSV results to Arrow batches, fetched page by page with the real SDK client.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use redshift_data_local::{Limits, LocalExecutor, Script, Scripted, ScriptedExecution};
use redshift_orchestrator::{
    Column, ErrorKind, Field, ResultFormat, Statement, StatementExecutor, StatementExecutorExt, StatementId,
    WaitTime,
    arrow::{
        RecordBatchOptions,
        arrow_array::{Array, Int64Array, RecordBatch, cast::AsArray, types::Decimal128Type},
        arrow_schema::DataType,
    },
};

use crate::support::Served;

const ROWS: i64 = 250;

/// Returns a service whose result has many pages. Every seventh coupon is NULL, and every eleventh is empty.
fn sales() -> LocalExecutor<Scripted> {
    let mut price = Column::new("price", "numeric");
    (price.precision, price.scale) = (Some(20), Some(2));
    let columns = vec![
        Column::new("ticket", "int8"),
        price,
        Column::new("sold_at", "timestamptz"),
        Column::new("coupon", "varchar"),
    ];
    let text = |text: String| Field::String(text);
    let rows = (1..=ROWS).map(|n| {
        let coupon = match n {
            _ if n % 7 == 0 => Field::Null,
            _ if n % 11 == 0 => text(String::new()),
            _ => text(format!("\"{n}\",\r\nnext")),
        };
        vec![
            Field::Long(i64::MAX - n),
            text(format!("-{n}00000000000000.0{}", n % 10)),
            text(format!("2026-11-23 10:00:00.{n:06}+00")),
            coupon,
        ]
    });
    let run = ScriptedExecution::finished(Duration::ZERO).with_result(columns, rows.collect());
    let mut limits = Limits::default();
    limits.rows_per_page = 30;
    LocalExecutor::scripted(Script::new().with_limits(limits).otherwise(run))
}

async fn run(executor: &impl StatementExecutor, format: ResultFormat) -> StatementId {
    let statement = Statement::sql("SELECT * FROM sales").with_result_format(format);
    executor.submit(&statement, Some(WaitTime::MAX)).await.unwrap().id
}

#[tokio::test]
async fn csv_pages_are_converted_to_batches_exactly() {
    let executor = Served::new(sales()).await.into_executor();
    let id = run(&executor, ResultFormat::Csv).await;
    let batches =
        executor.record_batches(&id, RecordBatchOptions::default().with_batch_size(100)).await.unwrap();
    assert_eq!(batches.total_rows(), Some(ROWS as u64));
    assert_eq!(batches.schema().field(1).data_type(), &DataType::Decimal128(20, 2));
    let batches: Vec<RecordBatch> = batches.try_collect().await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [100, 100, 50]);
    let mut number = 0;
    for batch in &batches {
        let tickets = batch["ticket"].as_any().downcast_ref::<Int64Array>().unwrap();
        let prices = batch["price"].as_primitive::<Decimal128Type>();
        let coupons = batch["coupon"].as_string::<i32>();
        for at in 0..batch.num_rows() {
            number += 1;
            assert_eq!(tickets.value(at), i64::MAX - number);
            assert_eq!(prices.value(at), -i128::from(number) * 10_i128.pow(16) - i128::from(number % 10));
            assert_eq!(coupons.is_null(at), number % 7 == 0);
            let empty = number % 11 == 0 || number % 7 == 0;
            assert_eq!(
                coupons.value(at),
                if empty { String::new() } else { format!("\"{number}\",\r\nnext") }
            );
        }
    }
    assert_eq!(number, ROWS);
}

#[tokio::test]
async fn json_and_csv_give_the_same_batches_locally_and_over_http() {
    let service = sales();
    let there = Served::new(service.clone()).await.into_executor();
    let mut results = Vec::new();
    for format in [ResultFormat::Csv, ResultFormat::Json] {
        let id = run(&service, format).await;
        let here = service.record_batches(&id, RecordBatchOptions::default()).await.unwrap();
        results.push(here.try_collect::<Vec<_>>().await.unwrap());
        let there = there.record_batches(&id, RecordBatchOptions::default()).await.unwrap();
        results.push(there.try_collect::<Vec<_>>().await.unwrap());
    }
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn the_stream_ends_with_an_error_that_names_row_and_column() {
    let executor = Served::new(sales()).await.into_executor();
    let id = run(&executor, ResultFormat::Csv).await;
    let options = RecordBatchOptions::default()
        .with_batch_size(10)
        .with_column_type("price", DataType::Decimal128(17, 2));
    let mut batches = executor.record_batches(&id, options).await.unwrap();
    let mut whole = 0;
    let error = loop {
        match batches.next().await.unwrap() {
            Ok(batch) => whole += batch.num_rows(),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!((whole, error.context("row")), (0, Some("10")), "{error}");
    assert!(
        error
            .message()
            .starts_with("column `price` (numeric): `-1000000000000000.00` is not a valid decimal(17, 2)")
    );
    assert!(batches.next().await.is_none());
}

#[tokio::test]
async fn a_statement_without_a_result_has_no_batches() {
    let service =
        LocalExecutor::scripted(Script::new().otherwise(ScriptedExecution::finished(Duration::ZERO)));
    let executor = Served::new(service).await.into_executor();
    let id = run(&executor, ResultFormat::Csv).await;
    assert!(executor.record_batches(&id, RecordBatchOptions::default()).await.is_err(), "there is no result");
}
