//! Occasional storage failures cause retries, but no loss of rows.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hudi_scd::{ErrorKind, Query, RetentionPolicy, Table, TableDefinition, TableOptions};
use object_store::ObjectStore;
use rstest::rstest;
use tokio::time::Instant;

use crate::common::{batch, lines, memory, s3::S3, schema, ticking, unreliable::Unreliable};

fn options(begun: Instant, seed: u64) -> TableOptions {
    ticking(begun, seed)
        .with_parallelism(2)
        .with_lock_wait(Duration::from_secs(1_000))
        .with_retention(RetentionPolicy::commits(2))
}

/// The kind of write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Write {
    Upsert,
    BulkInsert,
}

/// Repeats a write until it is reported as written, as a caller would.
async fn persist(
    store: &Arc<dyn ObjectStore>,
    begun: Instant,
    seed: u64,
    write: Write,
    rows: &arrow::array::RecordBatch,
) -> u32 {
    // The commit whose outcome the last attempt could not determine.
    let mut unknown = None;
    for attempt in 1..=200 {
        let options = options(begun, seed + u64::from(attempt));
        let written = async {
            let table = Table::open_with(store.clone(), "t".into(), options).await?;
            if let Some(instant) = unknown
                && table.settle(instant).await?
            {
                return Ok(());
            }
            unknown = None;
            let rows = std::slice::from_ref(rows);
            match write {
                Write::Upsert => table.upsert(rows).await.map(drop),
                Write::BulkInsert => table.bulk_insert(rows).await.map(drop),
            }
        };
        match written.await {
            Ok(()) => return attempt,
            Err(error) if matches!(error.kind(), ErrorKind::Unknown { .. }) => {
                if let ErrorKind::Unknown { instant } = error.kind() {
                    unknown = Some(instant);
                }
            }
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::Storage | ErrorKind::Conflict),
                "seed {seed}: a fault of the storage is told as what it is not: {error:?}"
            ),
        }
        // The next process starts later.
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    panic!("seed {seed}: 200 tries were not enough");
}

/// Returns a storage without faults, and the same storage with faults.
fn storage(kind: &str, chance: f64, seed: u64) -> [Arc<dyn ObjectStore>; 2] {
    match kind {
        "s3" => {
            let bucket = S3::new();
            [bucket.store(), bucket.unreliable(chance, seed).store()]
        }
        _ => {
            let memory = memory();
            [memory.clone(), Unreliable::over(memory, chance, seed)]
        }
    }
}

async fn survives(kind: &str, seed: u64, chance: f64, write: Write) -> u32 {
    let begun = Instant::now();
    let [reliable, store] = storage(kind, chance, seed);
    let schema = schema("id int, day date, at int");
    let definition = TableDefinition::new("t", schema.clone(), ["id"])
        .with_ordering_field("at")
        .with_partition_fields(["day"]);
    Table::create_with(reliable.clone(), "t".into(), definition, options(begun, seed)).await.unwrap();
    let (mut random, mut model, mut tries) = (fastrand::Rng::with_seed(seed), BTreeMap::new(), 0);
    for at in 1..=6 {
        let rows: BTreeMap<i32, String> = (0..4)
            .map(|number| {
                let id = match write {
                    Write::Upsert => random.i32(0..12),
                    Write::BulkInsert => at * 4 + number,
                };
                let day = random.i32(1..4);
                (id, format!(r#"{{"at":{at},"day":"2026-01-0{day}","id":{id}}}"#))
            })
            .collect();
        let text: Vec<&str> = rows.values().map(String::as_str).collect();
        let draws = seed * 1_000 + u64::from(at.unsigned_abs()) * 200;
        tries += persist(&store, begun, draws, write, &batch(&schema, &text.join("\n"))).await;
        model.extend(rows);
        let table = Table::open_with(reliable.clone(), "t".into(), options(begun, seed)).await.unwrap();
        let mut expected: Vec<String> = model.values().cloned().collect();
        expected.sort();
        assert_eq!(lines(&table.read(Query::snapshot()).await.unwrap()), expected, "seed {seed}, round {at}");
    }
    // From here on, the storage does not fail. The next write removes all remains, and nothing is missing.
    let table = Table::open_with(reliable, "t".into(), options(begun, seed)).await.unwrap();
    let last = batch(&schema, r#"{"at":99,"day":"2026-01-01","id":99}"#);
    table.upsert(&[last]).await.unwrap();
    assert_eq!(table.validate().await.unwrap(), [], "seed {seed}");
    let most = table.file_groups().await.unwrap().iter().map(|group| group.versions.len()).max();
    assert!(most <= Some(3), "seed {seed}: {most:?} versions");
    tries
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn no_row_is_lost_or_doubled_by_faults_of_the_storage(#[values("memory", "s3")] kind: &str) {
    let mut tries = 0;
    for seed in 1..=12 {
        tries += survives(kind, seed, 0.03, Write::Upsert).await;
    }
    assert!(tries > 12 * 6 + 12, "only {tries} tries: hardly a fault was met");
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn a_bulk_insert_that_is_done_again_stores_no_row_twice(#[values("memory", "s3")] kind: &str) {
    let mut tries = 0;
    for seed in 101..=112 {
        tries += survives(kind, seed, 0.05, Write::BulkInsert).await;
    }
    assert!(tries > 12 * 6 + 12, "only {tries} tries: hardly a fault was met");
}
