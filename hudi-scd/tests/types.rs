//! Columns of every type, as Spark writes them and as we do.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Golden, lines};
use hudi_scd::{Query, Table, TableOptions};
use serde_json::Value;

/// Rows by their ids, whatever order their columns have.
async fn read(table: &Table) -> Vec<Value> {
    let rows = lines(&table.read(Query::snapshot()).await.unwrap());
    let mut rows: Vec<Value> = rows.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    rows.sort_by_key(|row| row["id"].as_i64());
    rows
}

/// Spark's lists have two levels in Parquet, ours three.
#[tokio::test]
async fn nested_columns_of_spark_are_read_carried_over_and_written_by_us() {
    let golden = Golden::unpack("types-0.15");
    let options =
        TableOptions::new().with_clock(hudi_scd::FnClock(|| "2026-11-24T00:00:00Z".parse().unwrap()));
    let table = Table::open_with(golden.store(), "table".into(), options).await.unwrap();
    let text = std::fs::read_to_string(golden.path("expected.jsonl")).unwrap();
    let mut expected: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Spark's dump prints a decimal inside of a struct as a number.
    expected[0]["s"]["y"]["z"] = "1.25".into();
    assert_eq!(read(&table).await, expected);
    assert_eq!(table.validate().await.unwrap(), []);

    let stored = table.read(Query::snapshot()).await.unwrap();
    let again = table.upsert(&stored).await.unwrap();
    assert_eq!((again.instant, again.unchanged), (None, 3));

    // One row goes; the others are carried over into a file of ours.
    table.delete(&[common::batch(&common::schema("id int"), r#"{"id":2}"#)]).await.unwrap();
    expected.remove(1);
    assert_eq!(read(&table).await, expected);
    assert_eq!(table.validate().await.unwrap(), []);

    // And all of them written by us.
    let mut batches = table.read(Query::snapshot()).await.unwrap();
    for batch in &mut batches {
        let index = batch.schema().index_of("ts").unwrap();
        let mut columns = batch.columns().to_vec();
        columns[index] = std::sync::Arc::new(arrow::array::Int64Array::from(vec![9; batch.num_rows()]));
        *batch = arrow::array::RecordBatch::try_new(batch.schema(), columns).unwrap();
    }
    let report = table.upsert(&batches).await.unwrap();
    assert_eq!(report.updated, 2);
    for row in &mut expected {
        row["ts"] = 9.into();
    }
    assert_eq!(read(&table).await, expected);
    assert_eq!(table.validate().await.unwrap(), []);
}
