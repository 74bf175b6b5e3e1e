//! Streams of batches in and out.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{batch, lines, memory, schema};
use futures::{StreamExt, TryStreamExt, stream};
use hudi_scd::{Error, ErrorKind, Query, Table, TableDefinition};

async fn table() -> (Table, arrow::datatypes::SchemaRef) {
    let schema = schema("id int, at int");
    let definition = TableDefinition::new("t", schema.clone(), ["id"]).with_ordering_field("at");
    (Table::create(memory(), "t".into(), definition).await.unwrap(), schema)
}

#[tokio::test]
async fn a_stream_is_written_as_its_batches_are() {
    let (table, schema) = table().await;
    let rows = [r#"{"id":1,"at":1}"#, r#"{"id":2,"at":1}"#, r#"{"id":1,"at":2}"#];
    let batches: Vec<_> = rows.iter().map(|row| Ok(batch(&schema, row))).collect();
    let report = table.upsert_stream(stream::iter(batches)).await.unwrap();
    assert_eq!((report.rows, report.inserted, report.superseded), (3, 2, 1));
    let read: Vec<_> = table.read_stream(Query::snapshot()).await.unwrap().try_collect().await.unwrap();
    assert_eq!(lines(&read), [r#"{"at":1,"id":2}"#, r#"{"at":2,"id":1}"#]);
}

#[tokio::test]
async fn a_stream_that_ends_with_an_error_writes_nothing() {
    let (table, schema) = table().await;
    let broken = Err(Error::new(ErrorKind::InvalidInput, "the source broke"));
    let rows = stream::iter([Ok(batch(&schema, r#"{"id":1,"at":1}"#)), broken]);
    let error = table.upsert_stream(rows).await.unwrap_err();
    assert_eq!(error.message(), "the source broke");
    assert_eq!(table.timeline().await.unwrap().latest_commit(), None);
}

#[tokio::test]
async fn a_stream_of_rows_may_be_left_early_and_tells_its_columns_even_if_there_are_none() {
    let (table, schema) = table().await;
    let empty: Vec<_> = table.read_stream(Query::snapshot()).await.unwrap().collect().await;
    assert_eq!(empty.len(), 1);
    assert_eq!(empty[0].as_ref().unwrap().schema(), schema);
    for id in 0..3 {
        table.upsert(&[batch(&schema, &format!(r#"{{"id":{id},"at":1}}"#))]).await.unwrap();
    }
    let mut rows = table.read_stream(Query::snapshot()).await.unwrap();
    assert_eq!(rows.next().await.unwrap().unwrap().num_rows(), 3);
}
