//! A write that dies at any storage call leaves the table as before or as after, and the next writer repairs it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use arrow::datatypes::SchemaRef;
use common::{batch, lines, memory, mortal::Mortal, schema};
use hudi_scd::{FnClock, Query, RetentionPolicy, Table, TableDefinition, TableOptions};
use object_store::ObjectStore;

/// Later than everything that was done before: the lease of a dead writer has ended by then.
fn options(day: i8) -> TableOptions {
    let seconds = AtomicI64::new(0);
    let now = move || {
        let start = jiff::civil::date(2026, 1, day).to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
        start + jiff::SignedDuration::from_secs(seconds.fetch_add(1, Ordering::Relaxed))
    };
    TableOptions::new()
        .with_clock(FnClock(now))
        .with_seed(u64::from(day.unsigned_abs()))
        .with_parallelism(1)
        .with_retention(RetentionPolicy::commits(2))
}

fn rows(schema: &SchemaRef, at: i32) -> arrow::array::RecordBatch {
    let row = |id: i32, deleted: bool| {
        let day = 1 + (id + at) % 2;
        format!(r#"{{"id":{id},"day":"2025-01-0{day}","at":{at},"_hoodie_is_deleted":{deleted}}}"#)
    };
    batch(schema, &[row(1, false), row(2, false), row(10 + at, false), row(9 + at, at % 3 == 0)].join("\n"))
}

async fn read(table: &Table) -> Vec<String> {
    lines(&table.read(Query::snapshot().with_columns(["id", "day", "at"])).await.unwrap())
}

async fn sound(table: &Table) {
    assert_eq!(table.validate().await.unwrap(), []);
}

const COMMITS_BEFORE: i32 = 4;

/// A table with commits, moves, deletes and a clean behind it.
async fn with_history() -> (Arc<dyn ObjectStore>, SchemaRef) {
    let store = memory();
    let schema = schema("id int, day date, at int, _hoodie_is_deleted boolean");
    let definition = TableDefinition::new("t", schema.clone(), ["id"])
        .with_ordering_field("at")
        .with_partition_fields(["day"]);
    let table = Table::create_with(store.clone(), "t".into(), definition, options(1)).await.unwrap();
    for at in 0..COMMITS_BEFORE {
        table.upsert(&[rows(&schema, at)]).await.unwrap();
    }
    (store, schema)
}

/// Dies at call after call until a write gets through; how many calls it took.
async fn dies_everywhere(last_one_counts: bool) -> i64 {
    for calls in 0.. {
        let (store, schema) = with_history().await;
        let before = read(&Table::open_with(store.clone(), "t".into(), options(2)).await.unwrap()).await;

        let (mortal, left) = Mortal::after(store.clone(), calls, last_one_counts);
        let written = match Table::open_with(mortal, "t".into(), options(3)).await {
            Ok(table) => table.upsert(&[rows(&schema, COMMITS_BEFORE)]).await,
            Err(error) => Err(error),
        };
        let died = left.load(Ordering::SeqCst) < 0;

        let table = Table::open_with(store.clone(), "t".into(), options(4)).await.unwrap();
        let seen = read(&table).await;
        let is_after = seen != before;
        match &written {
            Ok(report) => assert!(is_after && report.instant.is_some(), "call {calls}: it said it was done"),
            Err(error) => assert!(died, "call {calls}: {error:?}"),
        }

        // The next writer brings the same rows, which changes the table only if they are not there yet.
        let repaired = table.upsert(&[rows(&schema, COMMITS_BEFORE)]).await.unwrap();
        assert_eq!(repaired.instant.is_none(), is_after, "call {calls}");
        sound(&table).await;
        let after = read(&table).await;
        if is_after {
            assert_eq!(seen, after, "call {calls}: half of a commit was seen");
        }
        table.upsert(&[rows(&schema, COMMITS_BEFORE + 1)]).await.unwrap();
        sound(&table).await;
        let most = table.file_groups().await.unwrap().iter().map(|group| group.versions.len()).max();
        assert!(most <= Some(3), "call {calls}: {most:?} versions");
        if !died {
            return calls;
        }
    }
    unreachable!()
}

#[tokio::test]
async fn a_write_that_dies_at_any_call_leaves_before_or_after() {
    let calls = dies_everywhere(false).await;
    assert!(calls > 20, "only {calls} calls were tried");
}

#[tokio::test]
async fn a_write_that_dies_right_after_any_call_leaves_before_or_after() {
    dies_everywhere(true).await;
}

/// Dies while repairing what a dead writer left, at call after call.
#[tokio::test]
async fn a_repair_that_dies_is_repaired() {
    let (mut store, mut schema);
    // As many calls as it takes to have some files written, but not the commit.
    let mut calls = 15;
    loop {
        (store, schema) = with_history().await;
        let (mortal, _) = Mortal::after(store.clone(), calls, true);
        if let Ok(table) = Table::open_with(mortal, "t".into(), options(3).without_lock()).await {
            table.upsert(&[rows(&schema, COMMITS_BEFORE)]).await.unwrap_err();
        }
        let found = Table::open_with(store.clone(), "t".into(), options(3).without_lock())
            .await
            .unwrap()
            .validate()
            .await
            .unwrap();
        if found.iter().any(|finding| finding.invariant == hudi_scd::Invariant::StrayFile) {
            break;
        }
        calls += 1;
    }
    let before =
        read(&Table::open_with(store.clone(), "t".into(), options(3).without_lock()).await.unwrap()).await;
    for calls in 0..60 {
        // One after the other, so without a lock: nobody waits for leases of the dead.
        let options = || options(4 + (calls / 4) as i8).without_lock();
        let (mortal, _) = Mortal::after(store.clone(), calls, calls % 2 == 0);
        if let Ok(table) = Table::open_with(mortal, "t".into(), options()).await {
            drop(table.upsert(&[]).await);
        }
        let table = Table::open_with(store.clone(), "t".into(), options()).await.unwrap();
        assert_eq!(read(&table).await, before, "after {calls} calls");
    }
    let table = Table::open_with(store, "t".into(), options(28).without_lock()).await.unwrap();
    table.upsert(&[]).await.unwrap();
    sound(&table).await;
    assert_eq!(read(&table).await, before);
}
