//! Reads, replays, repairs and writes tables that Spark wrote with Hudi 0.14, 0.15 and 1.0.

use hudi_scd::{ErrorKind, Query, Table, TableDefinition, TableOptions, timeline::Action};
use rstest::rstest;
use serde_json::Value;

use crate::common::{self, Golden, as_spark_reads, expected, lines, memory, repeatable};

async fn read(table: &Table, query: Query) -> Vec<String> {
    as_spark_reads(lines(&table.read(query).await.unwrap()))
}

#[rstest]
#[tokio::test]
async fn reads_as_spark_reads_it(
    #[values(
        "address-0.15",
        "address-1.0-v6",
        "archived-0.15",
        "complexkey-0.15",
        "complexkey-part-0.15",
        "crashed-0.15",
        "crashed-direct-0.15",
        "customer-0.14",
        "customer-0.15",
        "deletes-0.15",
        "clusterplan-0.15",
        "overwritten-0.15",
        "replaced-0.15",
        "rolledback-0.15",
        "singlecomplex-0.15"
    )]
    name: &str,
) {
    let golden = Golden::unpack(name);
    let table = Table::open(golden.store(), "table".into()).await.unwrap();
    assert_eq!(read(&table, Query::snapshot()).await, expected(&golden.path("expected.jsonl")));
    let meta = read(&table, Query::snapshot().with_meta_columns()).await;
    assert_eq!(meta, expected(&golden.path("expected_meta.jsonl")));
    for (instant, says) in golden.about["expected"]["as_of"].as_object().unwrap() {
        let instant = instant.parse().unwrap();
        match says.get("dump") {
            Some(dump) => {
                assert_eq!(
                    read(&table, Query::as_of(instant)).await,
                    expected(&golden.path(dump.as_str().unwrap()))
                );
            }
            None => {
                let error = table.read(Query::as_of(instant)).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::OutsideRetention, "Spark refuses it too");
            }
        }
    }
    if let Some(range) = golden.about["expected"].get("incremental") {
        let instant = |key: &str| range[key].as_str().unwrap().parse().unwrap();
        let query = Query::since(instant("begin_exclusive")).until(instant("end_inclusive"));
        assert_eq!(read(&table, query).await, expected(&golden.path("expected.incr.jsonl")));
    }
}

#[rstest]
#[tokio::test]
async fn the_same_batches_give_the_same_rows(
    #[values(
        "address-0.15",
        "archived-0.15",
        "complexkey-0.15",
        "complexkey-part-0.15",
        "customer-0.15",
        "rolledback-0.15",
        "singlecomplex-0.15"
    )]
    name: &str,
) {
    let golden = Golden::unpack(name);
    let fields = |key: &str| -> Vec<String> {
        let named = golden.about[key].as_str().unwrap_or("");
        named.split(',').filter(|field| !field.is_empty()).map(str::to_owned).collect()
    };
    let definition = TableDefinition::new(name, golden.schema(), fields("key"))
        .with_ordering_field(golden.about["ordering"].as_str().unwrap())
        .with_partition_fields(fields("partition"));
    let table = Table::create_with(memory(), "table".into(), definition, repeatable()).await.unwrap();
    for (_, input) in golden.inputs() {
        table.upsert(&[golden.batch(&input)]).await.unwrap();
    }
    assert_eq!(read(&table, Query::snapshot()).await, expected(&golden.path("expected.jsonl")));
}

#[rstest]
#[tokio::test]
async fn can_be_written_on(
    #[values(
        "address-0.15",
        "address-1.0-v6",
        "archived-0.15",
        "complexkey-0.15",
        "complexkey-part-0.15",
        "crashed-0.15",
        "crashed-direct-0.15",
        "customer-0.14",
        "customer-0.15",
        "deletes-0.15",
        "rolledback-0.15",
        "singlecomplex-0.15"
    )]
    name: &str,
) {
    let golden = Golden::unpack(name);
    let options =
        TableOptions::new().with_clock(hudi_scd::FnClock(|| "2026-11-24T00:00:00Z".parse().unwrap()));
    let table = Table::open_with(golden.store(), "table".into(), options).await.unwrap();
    let before = read(&table, Query::snapshot()).await;

    // Writing the latest rows again changes nothing.
    let stored = table.read(Query::snapshot()).await.unwrap();
    let again = table.upsert(&stored).await.unwrap();
    assert_eq!((again.instant, again.unchanged), (None, before.len() as u64), "{again}");

    // An existing key is updated, and a new key is added.
    let mut known: Value = serde_json::from_str(&before[0]).unwrap();
    let ordering = golden.about["ordering"].as_str().unwrap();
    known[ordering] = "2030-01-01T00:00:00.000000Z".into();
    let mut new = known.clone();
    for key in golden.about["key"].as_str().unwrap().split(',') {
        new[key] = match &known[key] {
            Value::Number(_) => 424_242.into(),
            _ => "brand new".into(),
        };
    }
    let report = table.upsert(&[common::batch(&golden.schema(), &format!("{known}\n{new}"))]).await.unwrap();
    assert_eq!((report.inserted, report.updated, report.moved), (1, 1, 0), "{report}");
    let mut expected = before;
    expected[0] = common::canonical(&known);
    expected.push(common::canonical(&new));
    expected.sort();
    assert_eq!(read(&table, Query::snapshot()).await, expected);

    let table = Table::open(golden.store(), "table".into()).await.unwrap();
    assert_eq!(read(&table, Query::snapshot()).await, expected, "another process sees it too");
}

#[rstest]
#[tokio::test]
async fn what_a_dead_writer_left_is_undone_by_the_next(
    #[values("crashed-0.15", "crashed-direct-0.15")] name: &str,
) {
    let golden = Golden::unpack(name);
    let table = Table::open(golden.store(), "table".into()).await.unwrap();
    let dead = table.timeline().await.unwrap().pending(Action::Commit).next().unwrap().instant;
    let left = || {
        let files = walk(&golden.path("table"));
        files
            .into_iter()
            .filter(|file| file.contains(&dead.to_string()) && !file.contains(".rollback"))
            .count()
    };
    assert!(left() > 2);
    let report = table.upsert(&[]).await.unwrap();
    assert_eq!(report.rolled_back, [dead]);
    assert_eq!(left(), 0, "files, markers and the instant itself are gone");
    let timeline = table.timeline().await.unwrap();
    assert_eq!(timeline.completed(Action::Rollback).count(), 1);
    assert!(timeline.newest().unwrap() > dead);
    assert_eq!(read(&table, Query::snapshot()).await, expected(&golden.path("expected.jsonl")));
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path.to_string_lossy().into_owned());
        }
    }
    files
}

#[rstest]
#[tokio::test]
async fn keeps_every_invariant(
    #[values(
        "address-0.15",
        "address-1.0-v6",
        "archived-0.15",
        "complexkey-0.15",
        "complexkey-part-0.15",
        "customer-0.14",
        "customer-0.15",
        "deletes-0.15",
        "overwritten-0.15",
        "replaced-0.15",
        "rolledback-0.15",
        "singlecomplex-0.15"
    )]
    name: &str,
) {
    let golden = Golden::unpack(name);
    let table = Table::open(golden.store(), "table".into()).await.unwrap();
    assert_eq!(table.validate().await.unwrap(), []);
}
