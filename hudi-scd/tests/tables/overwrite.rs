//! Overwrites and deletes partitions, and bulk inserts, and compares the results with Spark's tables.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use hudi_scd::timeline::{Action, archive::ArchiveLimits};
use hudi_scd::{CommitReport, ErrorKind, Query, RetentionPolicy, Table, TableDefinition, TableOptions};
use object_store::ObjectStore;
use serde_json::Value;

use crate::common::{Golden, batch, folder, lines, memory, mortal::Mortal, repeatable, schema};

fn columns() -> SchemaRef {
    schema("id int, p string, v string, ts bigint")
}

fn row(id: i32, p: &str, v: &str, ts: i64) -> String {
    format!(r#"{{"id":{id},"p":"{p}","ts":{ts},"v":"{v}"}}"#)
}

fn rows(rows: &[String]) -> arrow::array::RecordBatch {
    batch(&columns(), &rows.join("\n"))
}

async fn table_in(store: Arc<dyn ObjectStore>, options: TableOptions) -> Table {
    let definition =
        TableDefinition::new("t", columns(), ["id"]).with_ordering_field("ts").with_partition_fields(["p"]);
    Table::create_with(store, "t".into(), definition, options).await.unwrap()
}

async fn read(table: &Table, query: Query) -> Vec<String> {
    lines(&table.read(query).await.unwrap())
}

/// Creates two partitions with two rows each.
async fn two_partitions(table: &Table) -> CommitReport {
    let first = [row(1, "a", "v1", 5), row(2, "a", "v1", 5), row(3, "b", "v1", 5), row(4, "b", "v1", 5)];
    table.upsert(&[rows(&first)]).await.unwrap()
}

#[tokio::test]
async fn a_partition_gets_other_rows_and_the_past_keeps_the_old_ones() {
    let table = table_in(memory(), repeatable()).await;
    let first = two_partitions(&table).await;
    // These rows are older than the stored ones, and one key is from another partition. An overwrite ignores
    // ordering values.
    let new = [row(1, "a", "v2", 1), row(4, "a", "v2", 1), row(9, "a", "v2", 1)];
    let report = table.insert_overwrite(&[rows(&new)]).await.unwrap();
    assert_eq!((report.updated, report.moved, report.inserted, report.overwritten), (1, 1, 1, 1));
    let after = [&new[..], &[row(3, "b", "v1", 5)]].concat();
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    assert_eq!(read(&table, Query::snapshot()).await, sorted(after.clone()));
    let before = read(&table, Query::as_of(first.instant.unwrap())).await;
    assert_eq!(before.len(), 4);
    assert_eq!(read(&table, Query::since(first.instant.unwrap())).await, sorted(new.to_vec()));
    assert_eq!(table.validate().await.unwrap(), []);

    let again = table.insert_overwrite(&[rows(&new)]).await.unwrap();
    assert_eq!((again.instant, again.unchanged), (None, 3), "the same rows change nothing");
    let empty = table.insert_overwrite(&[rows(&[])]).await.unwrap();
    assert_eq!(empty.instant, None, "no row, no partition");

    let later = table.upsert(&[rows(&[row(1, "b", "v3", 6), row(5, "a", "v3", 6)])]).await.unwrap();
    assert_eq!((later.moved, later.inserted), (1, 1));
    assert_eq!(table.validate().await.unwrap(), []);
}

#[tokio::test]
async fn input_that_is_larger_than_memory_overwrites_the_same() {
    let mut results = Vec::new();
    for budget in [usize::MAX, 1] {
        let table = table_in(memory(), repeatable().with_memory_budget(budget)).await;
        two_partitions(&table).await;
        let unchanged = [row(1, "a", "v1", 5), row(2, "a", "v1", 5)];
        let new = [row(3, "c", "v2", 1), row(9, "b", "v2", 1), row(9, "b", "v2", 2), row(8, "b", "v2", 2)];
        let batches: Vec<_> =
            unchanged.iter().chain(&new).map(|line| rows(std::slice::from_ref(line))).collect();
        let report = table.insert_overwrite(&batches).await.unwrap();
        let counts = (report.unchanged, report.moved, report.inserted, report.superseded, report.overwritten);
        assert_eq!(counts, (2, 1, 2, 1, 1), "{budget}");
        let again = table.insert_overwrite(&batches).await.unwrap();
        assert_eq!((again.instant, again.unchanged), (None, 5), "{budget}");
        assert_eq!(table.validate().await.unwrap(), []);
        results.push(read(&table, Query::snapshot()).await);
    }
    assert_eq!(results[0], results[1]);
}

/// A bulk insert may store a key twice. An overwrite repairs that, and counts each row of its input once.
#[tokio::test]
async fn copies_of_a_key_are_one_row_of_the_report() {
    let stored = [row(1, "a", "v1", 5), row(2, "a", "v1", 5), row(3, "b", "v1", 5)];
    let same = row(1, "a", "v1", 5);
    let other = row(1, "a", "v2", 5);
    let moved = row(1, "c", "v2", 5);
    for (row, counts) in [(same, (1, 0, 0)), (other, (0, 1, 0)), (moved, (0, 0, 1))] {
        let table = table_in(memory(), repeatable()).await;
        for _ in 0..2 {
            table.bulk_insert(&[rows(&stored)]).await.unwrap();
        }
        let report = table.insert_overwrite(&[rows(std::slice::from_ref(&row))]).await.unwrap();
        assert_eq!((report.unchanged, report.updated, report.moved), counts, "{row}");
        assert_eq!(report.rows, 1);
        let read = read(&table, Query::snapshot()).await;
        assert_eq!(read.iter().filter(|line| line.contains(r#""id":1,"#)).collect::<Vec<_>>(), [&row]);
    }
}

#[tokio::test]
async fn a_table_and_partitions_by_name_are_emptied_the_same_way() {
    let table = table_in(memory(), repeatable()).await;
    two_partitions(&table).await;
    let gone = table.delete_partitions(["p=b", "p=nowhere"]).await.unwrap();
    assert_eq!((gone.overwritten, gone.files), (2, 0));
    assert_eq!(read(&table, Query::snapshot()).await.len(), 2);
    assert_eq!(table.delete_partitions(["p=b"]).await.unwrap().instant, None);
    let all = table.insert_overwrite_table(&[rows(&[row(7, "c", "v2", 1)])]).await.unwrap();
    assert_eq!((all.inserted, all.overwritten), (1, 2));
    assert_eq!(read(&table, Query::snapshot()).await, [row(7, "c", "v2", 1)]);
    assert_eq!(table.validate().await.unwrap(), []);
    let timeline = table.timeline().await.unwrap();
    assert_eq!(timeline.completed(Action::ReplaceCommit).count(), 2);
}

#[tokio::test]
async fn an_unpartitioned_table_is_one_partition() {
    let definition = TableDefinition::new("t", columns(), ["id"]).with_ordering_field("ts");
    let table = Table::create_with(memory(), "t".into(), definition, repeatable()).await.unwrap();
    two_partitions(&table).await;
    assert_eq!(table.insert_overwrite(&[rows(&[])]).await.unwrap().instant, None);
    let report = table.insert_overwrite(&[rows(&[row(1, "z", "v2", 0)])]).await.unwrap();
    assert_eq!((report.updated, report.overwritten), (1, 3));
    assert_eq!(read(&table, Query::snapshot()).await, [row(1, "z", "v2", 0)]);
}

#[tokio::test]
async fn replaced_files_are_cleaned_before_their_commit_is_archived() {
    let disk = tempfile::tempdir().unwrap();
    let limits = ArchiveLimits { keep_min: 4, keep_max: 5 };
    let options = repeatable().with_retention(RetentionPolicy::commits(2)).with_archive_limits(limits);
    let table = table_in(folder(disk.path()), options).await;
    two_partitions(&table).await;
    let replaced = table.delete_partitions(["p=a"]).await.unwrap().instant.unwrap();
    let expected = read(&table, Query::snapshot()).await;
    let mut saw_it_archived = false;
    for ts in 0..10 {
        let known: Vec<String> = read(&table, Query::snapshot()).await;
        assert!(expected.iter().all(|line| known.contains(line)), "no replaced row is back");
        table.upsert(&[rows(&[row(100, "c", &format!("v{ts}"), ts)])]).await.unwrap();
        let old = table.file_groups().await.unwrap().into_iter().filter(|group| &*group.partition == "p=a");
        let timeline = table.timeline().await.unwrap();
        let is_archived = timeline.completed(Action::ReplaceCommit).all(|entry| entry.instant != replaced);
        assert!(old.count() == 0 || !is_archived);
        saw_it_archived |= is_archived;
        assert_eq!(table.validate().await.unwrap(), []);
    }
    assert!(saw_it_archived);
    assert!(!disk.path().join("t/p=a").exists(), "nothing is left of the partition");
    // The key may be inserted again.
    table.upsert(&[rows(&[row(1, "a", "again", 9)])]).await.unwrap();
    assert_eq!(table.validate().await.unwrap(), []);
}

#[tokio::test]
async fn commits_say_what_those_of_spark_say() {
    let golden = Golden::unpack("replaced-0.15");
    let disk = tempfile::tempdir().unwrap();
    let table = table_in(folder(disk.path()), repeatable()).await;
    let input = |number: usize| golden.batch(&format!("inputs/{number:02}.jsonl"));
    table.upsert(&[input(1)]).await.unwrap();
    let ours = table.insert_overwrite(&[input(2)]).await.unwrap().instant.unwrap();
    let spark = golden.about["steps"][1]["instants"][0].as_str().unwrap();
    let content = |folder: std::path::PathBuf, instant: &str, state: &str| {
        std::fs::read(folder.join(format!(".hoodie/{instant}.replacecommit{state}"))).unwrap()
    };
    let both = |state: &str| {
        let ours = content(disk.path().join("t"), &ours.to_string(), state);
        (ours, content(golden.path("table"), spark, state))
    };
    let (ours, spark) = both(".requested");
    // They are equal except for the sync markers, which are random in Java.
    assert_eq!(ours.len(), spark.len());
    assert_eq!(ours[..ours.len() - 60], spark[..spark.len() - 60]);
    let (ours, spark) = both("");
    // The completed file of this crate is a copy of the inflight file.
    assert_eq!(both(".inflight").0, ours);
    let ours: Value = serde_json::from_slice(&ours).unwrap();
    let spark: Value = serde_json::from_slice(&spark).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&ours), keys(&spark));
    assert_eq!(ours["operationType"], "INSERT_OVERWRITE");
    let (ours, spark) = (&ours["partitionToWriteStats"], &spark["partitionToWriteStats"]);
    assert_eq!(keys(ours), keys(spark));
    for key in ["prevCommit", "numWrites", "numInserts", "numUpdateWrites", "numDeletes", "partitionPath"] {
        assert_eq!(ours["p=a"][0][key], spark["p=a"][0][key], "{key}");
    }
    assert_eq!(read(&table, Query::snapshot()).await.len(), 5);
}

#[tokio::test]
async fn what_spark_replaced_stays_replaced_when_we_write_on() {
    let golden = Golden::unpack("replaced-0.15");
    let options =
        TableOptions::new().with_clock(hudi_scd::FnClock(|| "2026-11-24T00:00:00Z".parse().unwrap()));
    let table = Table::open_with(golden.store(), "table".into(), options).await.unwrap();
    let mut expected = read(&table, Query::snapshot()).await;
    let report = table.upsert(&[rows(&[row(2, "b", "back", 9), row(1, "a", "late", 0)])]).await.unwrap();
    assert_eq!((report.updated, report.moved, report.inserted, report.late), (0, 0, 1, 1), "{report}");
    expected.retain(|line| !line.contains(r#""id":2,"#));
    expected.push(row(2, "b", "back", 9));
    expected.sort();
    assert_eq!(read(&table, Query::snapshot()).await, expected);
    assert_eq!(table.validate().await.unwrap(), []);
}

#[tokio::test]
async fn a_planned_clustering_is_left_to_the_engine_that_planned_it() {
    let golden = Golden::unpack("clusterplan-0.15");
    let table = Table::open(golden.store(), "table".into()).await.unwrap();
    let error = table.upsert(&[rows(&[row(1, "a", "v9", 9)])]).await.unwrap_err();
    assert_eq!((error.kind(), error.context("action")), (ErrorKind::Unsupported, Some("replacecommit")));
    assert!(error.context("instant").is_some());
    assert_eq!(read(&table, Query::snapshot()).await.len(), 7, "reads go on");
}

/// Options with a clock that is later than all earlier operations, so that the lease of a dead writer has
/// expired.
fn on(day: i8) -> TableOptions {
    let start = jiff::civil::date(2026, 2, day).to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
    let seconds = std::sync::atomic::AtomicI64::new(0);
    let now = move || {
        start + jiff::SignedDuration::from_secs(seconds.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    };
    TableOptions::new().with_clock(hudi_scd::FnClock(now)).with_seed(1).with_parallelism(1)
}

#[tokio::test]
async fn an_overwrite_that_dies_at_any_call_leaves_before_or_after() {
    let new = [row(1, "a", "v2", 1), row(4, "a", "v2", 1)];
    for calls in 0.. {
        let store = memory();
        let table = table_in(store.clone(), on(1)).await;
        two_partitions(&table).await;
        let before = read(&table, Query::snapshot()).await;
        let (mortal, left) = Mortal::after(store.clone(), calls, calls % 2 == 0);
        let done = match Table::open_with(mortal, "t".into(), on(2)).await {
            Ok(table) => table.insert_overwrite(&[rows(&new)]).await.is_ok(),
            Err(_) => false,
        };
        let table = Table::open_with(store, "t".into(), on(3)).await.unwrap();
        let seen = read(&table, Query::snapshot()).await;
        assert!(!done || seen != before, "call {calls}");
        let again = table.insert_overwrite(&[rows(&new)]).await.unwrap();
        assert_eq!(again.instant.is_none(), seen != before, "call {calls}: half of it was seen");
        assert_eq!(read(&table, Query::snapshot()).await.len(), 3);
        assert_eq!(table.validate().await.unwrap(), [], "call {calls}");
        if left.load(std::sync::atomic::Ordering::SeqCst) >= 0 {
            assert!(calls > 15);
            return;
        }
    }
}

#[tokio::test]
async fn a_bulk_insert_looks_nothing_up_and_keeps_the_order_of_the_input_in_groups_of_its_own() {
    let table = table_in(memory(), repeatable()).await;
    two_partitions(&table).await;
    let many: Vec<String> = [7, 30, 5, 12].into_iter().map(|id| row(id, "a", "bulk", 1)).collect();
    let twice = [&many[..], &[row(5, "a", "newer", 2)]].concat();
    let report = table.bulk_insert(&[rows(&twice)]).await.unwrap();
    assert_eq!((report.inserted, report.superseded, report.files), (4, 1, 1));
    let read = table.read(Query::snapshot().with_meta_columns().with_columns(["id", "v"])).await.unwrap();
    let mut numbered: Vec<(String, i64)> = lines(&read)
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|row| row["v"] != "v1")
        .map(|row| (row["_hoodie_commit_seqno"].as_str().unwrap().to_owned(), row["id"].as_i64().unwrap()))
        .collect();
    numbered.sort();
    let ids: Vec<i64> = numbered.into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids, [7, 30, 5, 12], "the order of the input, and not that of the keys");
    assert_eq!(table.file_groups().await.unwrap().len(), 3);
    assert_eq!(table.validate().await.unwrap(), []);
}
