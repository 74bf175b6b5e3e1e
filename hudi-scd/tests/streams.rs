//! Streams of batches in and out.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{batch, lines, memory, schema};
use futures::{StreamExt, TryStreamExt, stream};
use hudi_scd::{Error, ErrorKind, Query, Table, TableDefinition, TableOptions};

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

/// Runs every write of a table; returns its report and the rows after it as lines.
async fn written(options: TableOptions) -> Vec<String> {
    let schema = schema("id int, day date, at int, v string, _hoodie_is_deleted boolean");
    let definition = TableDefinition::new("t", schema.clone(), ["id"])
        .with_ordering_field("at")
        .with_partition_fields(["day"]);
    let table = Table::create_with(memory(), "t".into(), definition, options).await.unwrap();
    let mut rng = fastrand::Rng::with_seed(7);
    let mut all = Vec::new();
    for turn in 0..5 {
        let batches: Vec<_> = (0..30)
            .map(|_| {
                let rows = (0..40).map(|_| {
                    let (id, day, at) = (rng.u32(..900), 1 + rng.u32(..3), rng.u32(..6) + turn);
                    let deleted = rng.u32(..9) == 0;
                    format!(
                        r#"{{"id":{id},"day":"2025-01-0{day}","at":{at},"v":"value {id}","_hoodie_is_deleted":{deleted}}}"#
                    )
                });
                Ok(batch(&schema, &rows.collect::<Vec<_>>().join("\n")))
            })
            .collect();
        let rows = stream::iter(batches);
        let report = match turn {
            3 => table.insert_stream(rows).await,
            4 => {
                table
                    .delete_stream(rows.map(|rows| {
                        rows.map(|rows| rows.project(&[0]).unwrap()).map(|rows| rows.slice(0, 9))
                    }))
                    .await
            }
            _ => table.upsert_stream(rows).await,
        };
        let report = report.unwrap();
        assert!(report.superseded > 0 && report.rows >= 270, "{report:?}");
        all.push(format!(
            "{} {} {} {} {} {} {} {} {}",
            report.rows,
            report.inserted,
            report.updated,
            report.moved,
            report.deleted,
            report.late,
            report.remembered,
            report.unchanged,
            report.superseded
        ));
        assert_eq!(table.validate().await.unwrap(), []);
        all.extend(lines(&table.read(Query::snapshot()).await.unwrap()));
    }
    all
}

#[tokio::test]
async fn rows_that_do_not_fit_into_memory_are_written_as_rows_that_do() {
    let in_memory = written(TableOptions::new()).await;
    // A run after every few batches, so that runs are joined, and merged in many chunks.
    let spilled = written(TableOptions::new().with_memory_budget(4_000)).await;
    assert_eq!(in_memory, spilled);
    // The same with many files.
    let split = TableOptions::new().with_memory_budget(30_000).with_file_sizes(1_000, 4_000);
    assert_eq!(in_memory, written(split).await);
}

#[tokio::test]
async fn rows_on_the_local_disk_keep_their_places_and_collide_as_rows_in_memory_do() {
    let schema = schema("a string, b string, at int, _hoodie_is_deleted boolean");
    let spilling = TableOptions::new().with_memory_budget(1);
    let definition = TableDefinition::new("t", schema.clone(), ["a", "b"]).with_ordering_field("at");
    let table = Table::create_with(memory(), "t".into(), definition, spilling).await.unwrap();
    let stream = |rows: &[&str]| {
        let batches: Vec<_> = rows.iter().map(|row| Ok(batch(&schema, row))).collect();
        stream::iter(batches)
    };
    // A delete without an ordering value deletes the rows before it, and none after it.
    let rows = [
        r#"{"a":"x","b":"1","at":5}"#,
        r#"{"a":"y","b":"1","at":5}"#,
        r#"{"a":"x","b":"1","at":null,"_hoodie_is_deleted":true}"#,
        r#"{"a":"y","b":"1","at":null,"_hoodie_is_deleted":true}"#,
        r#"{"a":"y","b":"1","at":6}"#,
    ];
    table.upsert_stream(stream(&rows)).await.unwrap();
    let read = table.read(Query::snapshot()).await.unwrap();
    assert_eq!(lines(&read), [r#"{"_hoodie_is_deleted":null,"a":"y","at":6,"b":"1"}"#]);

    let error = table.upsert_stream(stream(&[rows[1], r#"{"a":"y","b":"1","at":null}"#])).await.unwrap_err();
    assert_eq!((error.context("row"), error.context("key")), (Some("1"), Some("a:y,b:1")));
    let twins = [r#"{"a":"x,b:1","b":"2","at":1}"#, r#"{"a":"x","b":"1,b:2","at":1}"#];
    let error = table.upsert_stream(stream(&twins)).await.unwrap_err();
    assert_eq!(error.context("key"), Some("a:x,b:1,b:2"));
    assert_eq!(error.context("one"), Some(r#""x,b:1" and "2""#));
    assert_eq!(error.context("other"), Some(r#""x" and "1,b:2""#));
}
