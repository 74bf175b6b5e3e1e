//! Several writers of one table on a storage with conditional puts: they queue, the one that was taken for dead cannot
//! complete a commit, and the one that lives is left alone.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arrow::array::RecordBatch;
use common::{batch, lines, memory, schema, sleepy::Sleepy, ticking};
use hudi_scd::{
    ErrorKind, FnClock, Query, RetentionPolicy, Table, TableDefinition, TableOptions, timeline::Action,
};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use tokio::time::Instant;

fn options(begun: Instant, seed: u64) -> TableOptions {
    ticking(begun, seed)
        .with_parallelism(1)
        .with_lock_wait(Duration::from_secs(100_000))
        .with_retention(RetentionPolicy::commits(2))
}

fn row(id: i64, at: i64) -> String {
    format!(r#"{{"at":{at},"day":"2026-01-0{}","id":{id}}}"#, 1 + id % 2)
}

fn rows(rows: &[String]) -> RecordBatch {
    batch(&schema("id bigint, day date, at bigint"), &rows.join("\n"))
}

async fn create(store: &Arc<dyn ObjectStore>, begun: Instant) -> Table {
    let definition = TableDefinition::new("t", rows(&[]).schema(), ["id"])
        .with_ordering_field("at")
        .with_partition_fields(["day"]);
    Table::create_with(store.clone(), "t".into(), definition, options(begun, 1)).await.unwrap()
}

async fn read(table: &Table) -> Vec<String> {
    lines(&table.read(Query::snapshot()).await.unwrap())
}

/// The writer sleeps before a call takes effect, longer than its lease; another one takes over, writes and is done; then
/// the first wakes up in the midst of what it was doing. At every call of it, with and without a clean and an archival.
#[tokio::test(start_paused = true)]
async fn a_writer_that_slept_through_its_lease_cannot_complete_a_commit() {
    let (mut fenced, mut behind_the_check) = (0, 0);
    for calls in 0.. {
        let begun = Instant::now();
        let store = memory();
        let table = create(&store, begun).await;
        for at in 0..4 {
            table.upsert(&[rows(&[row(1, at), row(2, at)])]).await.unwrap();
        }
        let (sleepy, alarm) = Sleepy::after(store.clone(), calls);
        let sleeper = tokio::spawn(async move {
            let table = Table::open_with(sleepy, "t".into(), options(begun, 2)).await?;
            table.upsert(&[rows(&[row(1, 10), row(3, 10)])]).await
        });
        // It runs until it sleeps or is done; whoever comes then waits until the lease is over.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let other = Table::open_with(store.clone(), "t".into(), options(begun, 3)).await.unwrap();
        let took_over = other.upsert(&[rows(&[row(2, 20), row(4, 20)])]).await.unwrap();
        assert!(took_over.instant.is_some());
        let had_slept = alarm.slept();
        alarm.ring();
        let woken = sleeper.await.unwrap();

        let fresh = Table::open_with(store.clone(), "t".into(), options(begun, 4)).await.unwrap();
        let of_sleeper = match &woken {
            Ok(report) => report.instant.is_some(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Conflict, "call {calls}: {error:?}");
                fenced += 1;
                behind_the_check += u32::from(error.message().contains("undid this write"));
                false
            }
        };
        let mut expected = vec![row(1, 3), row(2, 20), row(4, 20)];
        if of_sleeper {
            expected = vec![row(1, 10), row(2, 20), row(3, 10), row(4, 20)];
        }
        expected.sort();
        assert_eq!(read(&fresh).await, expected, "call {calls}: {woken:?}");
        // Whatever it left is taken away by the next one.
        fresh.upsert(&[rows(&[row(5, 30)])]).await.unwrap();
        let findings = fresh.validate().await.unwrap();
        let strays = findings.iter().all(|finding| finding.invariant == hudi_scd::Invariant::StrayFile);
        assert!(strays, "call {calls}: {findings:?}");
        expected.push(row(5, 30));
        expected.sort();
        assert_eq!(read(&fresh).await, expected, "call {calls}");
        if !had_slept {
            break;
        }
    }
    assert!(fenced > 10, "{fenced} times");
    assert!(
        behind_the_check > 0,
        "no writer slept between its last look at the lock and the end of its commit"
    );
}

#[tokio::test(start_paused = true)]
async fn writers_queue_and_each_has_its_turn() {
    const WRITERS: i64 = 8;
    const WRITES: i64 = 6;
    let begun = Instant::now();
    let store = memory();
    create(&store, begun).await;
    let writers = (0..WRITERS).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            let seed = 10 + number.unsigned_abs();
            let table = Table::open_with(store, "t".into(), options(begun, seed)).await.unwrap();
            for write in 0..WRITES {
                let own = row(1 + number * WRITES + write, 1);
                let shared = row(0, 1 + write * WRITERS + number);
                table.upsert(&[rows(&[own, shared])]).await.unwrap();
            }
            begun.elapsed()
        })
    });
    let ends = futures::future::join_all(writers).await;
    let longest = ends.into_iter().map(Result::unwrap).max().unwrap();
    // Nobody waits for a lease to end: the lock is let go after each write, and asked for once a second.
    assert!(longest < Duration::from_secs(300), "{longest:?}");
    let mut expected = vec![row(0, WRITES * WRITERS)];
    expected.extend((1..=WRITERS * WRITES).map(|own| row(own, 1)));
    expected.sort();
    let table = Table::open_with(store, "t".into(), options(begun, 2)).await.unwrap();
    assert_eq!(read(&table).await, expected);
    assert_eq!(table.validate().await.unwrap(), []);
}

/// A writer of Hudi that shares its table with others holds the lock only while it commits. That it lives shows a file
/// which it touches every minute.
#[tokio::test]
async fn the_pending_write_of_a_living_writer_is_left_alone() {
    let store = memory();
    let living = "20260101000000500";
    let pending = [format!("t/.hoodie/{living}.commit.requested"), format!("t/.hoodie/{living}.inflight")];
    let beat = Path::from(format!("t/.hoodie/.heartbeat/{living}"));
    let now = Arc::new(std::sync::Mutex::new("2026-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap()));
    let clock = {
        let now = now.clone();
        FnClock(move || *now.lock().unwrap())
    };
    let options = TableOptions::new().with_clock(clock).with_seed(1).without_lock();
    let definition = TableDefinition::new("t", rows(&[]).schema(), ["id"]).with_ordering_field("at");
    let table = Table::create_with(store.clone(), "t".into(), definition, options).await.unwrap();
    for file in &pending {
        store.put(&Path::from(file.as_str()), "".into()).await.unwrap();
    }
    store.put(&beat, "".into()).await.unwrap();
    let beaten = store.head(&beat).await.unwrap().last_modified.timestamp_millis();
    let beaten = jiff::Timestamp::from_millisecond(beaten).unwrap();

    *now.lock().unwrap() = beaten + jiff::SignedDuration::from_secs(60);
    let report = table.upsert(&[rows(&[row(1, 1)])]).await.unwrap();
    assert_eq!((report.inserted, report.rolled_back), (1, Vec::new()));
    let error = table.rollback(living.parse().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(table.timeline().await.unwrap().pending(Action::Commit).count(), 1);

    *now.lock().unwrap() = beaten + jiff::SignedDuration::from_secs(121);
    let report = table.upsert(&[rows(&[row(1, 2)])]).await.unwrap();
    assert_eq!(report.rolled_back, [living.parse().unwrap()], "two beats were missed");
    assert_eq!(table.validate().await.unwrap(), []);
}

/// What a writer writes after it was rolled back lies around as a file of no commit. It must never count as one, which it
/// would once the timeline begins after it.
#[tokio::test]
async fn a_file_of_no_commit_does_not_outlive_the_timeline_around_it() {
    let begun = Instant::now();
    let store = memory();
    create(&store, begun).await;
    let limits = hudi_scd::timeline::archive::ArchiveLimits { keep_min: 4, keep_max: 5 };
    let options = common::repeatable()
        .with_retention(RetentionPolicy::commits(2))
        .with_archive_limits(limits)
        .without_lock();
    let table = Table::open_with(store.clone(), "t".into(), options).await.unwrap();
    table.upsert(&[rows(&[row(1, 0)])]).await.unwrap();
    let group = table.file_groups().await.unwrap().remove(0);
    let version = &group.versions[0];
    let folder = Path::from("t").join(group.partition.as_str());
    let file = store.get(&folder.clone().join(version.file.as_str())).await.unwrap().bytes().await.unwrap();
    // Another group's file, of an instant between this commit and the next.
    let instant: i64 = version.instant.as_str().parse().unwrap();
    let stray = format!("00000000-0000-4000-8000-000000000000-0_0-0-0_{}.parquet", instant + 1);
    store.put(&folder.join(stray.as_str()), file.into()).await.unwrap();
    let mut model = BTreeMap::from([(1, row(1, 0))]);
    for at in 1..12 {
        model.insert(at % 3, row(at % 3, at));
        table.upsert(&[rows(&[row(at % 3, at)])]).await.unwrap();
        let mut expected: Vec<String> = model.values().cloned().collect();
        expected.sort();
        assert_eq!(read(&table).await, expected, "at {at}");
    }
    let first = table.timeline().await.unwrap().completed_commits().next().unwrap().instant;
    assert!(first > version.instant, "the timeline begins later now");
    assert_eq!(table.validate().await.unwrap(), []);
}
