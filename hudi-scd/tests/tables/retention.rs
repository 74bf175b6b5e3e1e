//! The files that a table keeps under each policy, cleans that other writers started, and readable instants.

use std::sync::Arc;

use arrow::array::RecordBatch;
use hudi_scd::{
    ErrorKind, FnClock, Instant, Query, RetentionPolicy, Table, TableDefinition, TableOptions,
    timeline::{
        Action,
        avro::{CleanMetadata, CleanPlan},
    },
};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use rstest::rstest;

use crate::common::{Golden, batch, lines, memory, schema};

/// Each reading of the clock is ten minutes later than the previous one.
fn options() -> TableOptions {
    let looks = std::sync::atomic::AtomicI64::new(0);
    let now = move || {
        let start: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        start + jiff::SignedDuration::from_mins(10 * looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    };
    TableOptions::new().with_clock(FnClock(now)).with_seed(7).with_parallelism(1).without_lock()
}

fn row(id: i32, at: i32) -> String {
    format!(r#"{{"at":{at},"id":{id}}}"#)
}

fn rows(rows: &[String]) -> RecordBatch {
    batch(&schema("id int, at int"), &rows.join("\n"))
}

async fn create(store: &Arc<dyn ObjectStore>, options: TableOptions) -> Table {
    let definition = TableDefinition::new("t", rows(&[]).schema(), ["id"]).with_ordering_field("at");
    Table::create_with(store.clone(), "t".into(), definition, options).await.unwrap()
}

/// Creates a commit for each number, all of them in one file group.
async fn commits(table: &Table, numbers: std::ops::Range<i32>) -> Vec<Instant> {
    let mut instants = Vec::new();
    for at in numbers {
        let report = table.upsert(&[rows(&[row(1, at), row(at + 10, at)])]).await.unwrap();
        instants.push(report.instant.unwrap());
    }
    instants
}

async fn versions(table: &Table) -> Vec<Instant> {
    let groups = table.file_groups().await.unwrap();
    groups.iter().flat_map(|group| &group.versions).map(|version| version.instant).collect()
}

fn sorted<const N: usize>(mut rows: [String; N]) -> Vec<String> {
    rows.sort();
    rows.to_vec()
}

async fn read(table: &Table, query: Query) -> Vec<String> {
    lines(&table.read(query).await.unwrap())
}

#[rstest]
#[case(RetentionPolicy::commits(2), &[3, 4, 5])]
#[case(RetentionPolicy::file_versions(3), &[3, 4, 5])]
#[case(RetentionPolicy::hours(1), &[2, 3, 4, 5])]
#[tokio::test]
async fn a_savepoint_is_respected_by_every_policy(#[case] policy: RetentionPolicy, #[case] kept: &[usize]) {
    let now = Arc::new(std::sync::Mutex::new("2026-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap()));
    let clock = {
        let now = now.clone();
        FnClock(move || *now.lock().unwrap())
    };
    let options = TableOptions::new().with_clock(clock).with_seed(7).without_lock().with_retention(policy);
    let table = create(&memory(), options).await;
    let mut instants: Vec<Instant> = Vec::new();
    for at in 0..6 {
        // There is a commit every half hour.
        *now.lock().unwrap() += jiff::SignedDuration::from_mins(30);
        instants.push(table.upsert(&[rows(&[row(1, at)])]).await.unwrap().instant.unwrap());
        if at == 1 {
            table.savepoint(instants[1], "test", "").await.unwrap();
        }
    }
    let of = |kept: &[usize]| kept.iter().map(|index| instants[*index]).collect::<Vec<_>>();
    assert_eq!(versions(&table).await, of(&[&[1], kept].concat()), "{policy}");
    table.delete_savepoint(instants[1]).await.unwrap();
    table.clean().await.unwrap();
    assert_eq!(versions(&table).await, of(kept), "{policy}");
    assert_eq!(table.validate().await.unwrap(), []);
}

/// As in Hudi, nothing is deleted while the newest commit is older than the window.
#[tokio::test]
async fn a_table_that_rests_for_longer_than_the_window_keeps_all() {
    let store = memory();
    let instants = commits(&create(&store, options().without_automatic_clean()).await, 0..4).await;
    let later = TableOptions::new()
        .with_clock(FnClock(|| "2026-02-01T00:00:00Z".parse().unwrap()))
        .without_lock()
        .with_retention(RetentionPolicy::hours(1));
    let table = Table::open_with(store, "t".into(), later).await.unwrap();
    assert_eq!(table.clean().await.unwrap(), None);
    assert_eq!(versions(&table).await, instants);
}

#[tokio::test]
async fn reads_say_what_they_may_say() {
    let table = create(&memory(), options().with_retention(RetentionPolicy::commits(3))).await;
    let first = commits(&table, 0..3).await;
    let long_ago: Instant = "20200101000000000".parse().unwrap();
    // Nothing has been cleaned. Before the first commit the table was empty, and everything since then is
    // readable.
    assert_eq!(read(&table, Query::as_of(long_ago)).await, Vec::<String>::new());
    assert_eq!(read(&table, Query::since(long_ago)).await.len(), 4);
    // Exclusive, inclusive.
    assert_eq!(read(&table, Query::since(first[0]).until(first[1])).await, sorted([row(1, 1), row(11, 1)]));
    assert_eq!(read(&table, Query::since(first[1])).await, sorted([row(1, 2), row(12, 2)]));
    assert_eq!(read(&table, Query::since(first[2])).await, Vec::<String>::new());
    assert_eq!(read(&table, Query::since(long_ago).until(first[0])).await, sorted([row(1, 0), row(10, 0)]));
    assert_eq!(read(&table, Query::since(first[2]).until(first[0])).await, Vec::<String>::new());

    let later = commits(&table, 3..7).await;
    let earliest = table.earliest_instant().await.unwrap();
    assert_eq!(earliest, Some(later[1]), "the last three");
    for outside in [
        Query::as_of(long_ago),
        Query::as_of(later[0]),
        Query::since(long_ago),
        Query::since(later[0]),
        Query::since(long_ago).until(first[0]),
    ] {
        let error = table.read(outside.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutsideRetention, "{outside:?}");
        assert_eq!(error.context("earliest"), Some(later[1].as_str()), "{outside:?}");
    }
    assert_eq!(read(&table, Query::since(later[1])).await, sorted([row(1, 6), row(15, 5), row(16, 6)]));
    assert_eq!(read(&table, Query::as_of(later[1])).await.len(), 6);
}

/// A clean that Spark planned and did not finish is resumed first, under its own instant and from its plan.
#[rstest]
#[tokio::test]
async fn a_pending_clean_of_spark_is_finished_first(
    #[values("requested", "inflight")] state: &str,
    #[values("upsert", "clean")] next: &str,
) {
    let golden = Golden::unpack("customer-0.15");
    let store = golden.store();
    let file = |instant: Instant, what: &str| Path::from(format!("table/.hoodie/{instant}.clean{what}"));
    let options =
        || TableOptions::new().with_clock(FnClock(|| "2026-12-01T00:00:00Z".parse().unwrap())).with_seed(7);
    let last = {
        let table = Table::open_with(golden.store(), "table".into(), options()).await.unwrap();
        table.timeline().await.unwrap().completed(Action::Clean).next_back().unwrap().instant
    };
    // Simulates that Spark died before it deleted anything.
    store.delete(&file(last, "")).await.unwrap();
    if state == "requested" {
        store.delete(&file(last, ".inflight")).await.unwrap();
    }
    let plan = store.get(&file(last, ".requested")).await.unwrap().bytes().await.unwrap();
    let plan = CleanPlan::decode(&plan).unwrap();
    let mut planned = Vec::new();
    for (partition, files) in plan.file_paths_to_be_deleted_per_partition.unwrap() {
        for path in files {
            let name = path.file_path.unwrap().rsplit('/').next().unwrap().to_owned();
            planned.push(Path::from("table").join(partition.as_str()).join(name.as_str()));
        }
    }
    for path in &planned {
        store.put(path, "a file of the past".into()).await.unwrap();
    }

    let table = Table::open_with(golden.store(), "table".into(), options()).await.unwrap();
    if next == "upsert" {
        table.upsert(&[]).await.unwrap();
    } else {
        table.clean().await.unwrap();
    }
    for path in &planned {
        assert!(store.head(path).await.is_err(), "{path} is there still");
    }
    let done = store.get(&file(last, "")).await.unwrap().bytes().await.unwrap();
    let done = CleanMetadata::decode(&done).unwrap();
    let deleted: Vec<String> =
        done.partition_metadata.into_values().flat_map(|partition| partition.success_delete_files).collect();
    assert_eq!((deleted.len(), done.start_clean_time), (planned.len(), last.to_string()));
    assert_eq!(table.timeline().await.unwrap().pending(Action::Clean).count(), 0);
    assert_eq!(table.validate().await.unwrap(), []);
}
