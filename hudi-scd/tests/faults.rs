//! A storage that fails now and then costs tries, not rows.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use common::{batch, lines, memory, schema, ticking, unreliable::Unreliable};
use hudi_scd::{ErrorKind, Query, RetentionPolicy, Table, TableDefinition, TableOptions};
use object_store::ObjectStore;
use tokio::time::Instant;

fn options(begun: Instant, seed: u64) -> TableOptions {
    ticking(begun, seed)
        .with_parallelism(2)
        .with_lock_wait(Duration::from_secs(1_000))
        .with_retention(RetentionPolicy::commits(2))
}

/// Writes the same changes until they are said to be written, as a caller does.
async fn persist(
    store: &Arc<dyn ObjectStore>,
    begun: Instant,
    seed: u64,
    rows: &arrow::array::RecordBatch,
) -> u32 {
    for attempt in 1..=200 {
        let written = match Table::open_with(
            store.clone(),
            "t".into(),
            options(begun, seed + u64::from(attempt)),
        )
        .await
        {
            Ok(table) => table.upsert(std::slice::from_ref(rows)).await.map(drop),
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => return attempt,
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::Storage | ErrorKind::Conflict),
                "seed {seed}: a fault of the storage is told as what it is not: {error:?}"
            ),
        }
        // The next process comes later.
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    panic!("seed {seed}: 200 tries were not enough");
}

async fn survives(seed: u64, chance: f64) -> u32 {
    let begun = Instant::now();
    let reliable = memory();
    let schema = schema("id int, day date, at int");
    let definition = TableDefinition::new("t", schema.clone(), ["id"])
        .with_ordering_field("at")
        .with_partition_fields(["day"]);
    Table::create_with(reliable.clone(), "t".into(), definition, options(begun, seed)).await.unwrap();
    let store = Unreliable::over(reliable.clone(), chance, seed);
    let (mut random, mut model, mut tries) = (fastrand::Rng::with_seed(seed), BTreeMap::new(), 0);
    for at in 1..=6 {
        let rows: BTreeMap<i32, String> = (0..4)
            .map(|_| {
                let (id, day) = (random.i32(0..12), random.i32(1..4));
                (id, format!(r#"{{"at":{at},"day":"2026-01-0{day}","id":{id}}}"#))
            })
            .collect();
        let text: Vec<&str> = rows.values().map(String::as_str).collect();
        tries += persist(&store, begun, seed * 1_000 + at * 200, &batch(&schema, &text.join("\n"))).await;
        model.extend(rows);
        let table = Table::open_with(reliable.clone(), "t".into(), options(begun, seed)).await.unwrap();
        let mut expected: Vec<String> = model.values().cloned().collect();
        expected.sort();
        assert_eq!(lines(&table.read(Query::snapshot()).await.unwrap()), expected, "seed {seed}, round {at}");
    }
    // The storage is well again: whatever lay around is taken away, and nothing is missing.
    let table = Table::open_with(reliable, "t".into(), options(begun, seed)).await.unwrap();
    let last = batch(&schema, r#"{"at":99,"day":"2026-01-01","id":99}"#);
    table.upsert(&[last]).await.unwrap();
    assert_eq!(table.validate().await.unwrap(), [], "seed {seed}");
    let most = table.file_groups().await.unwrap().iter().map(|group| group.versions.len()).max();
    assert!(most <= Some(3), "seed {seed}: {most:?} versions");
    tries
}

#[tokio::test(start_paused = true)]
async fn no_row_is_lost_or_doubled_by_faults_of_the_storage() {
    let mut tries = 0;
    for seed in 1..=12 {
        tries += survives(seed, 0.03).await;
    }
    assert!(tries > 12 * 6 + 12, "only {tries} tries: hardly a fault was met");
}
