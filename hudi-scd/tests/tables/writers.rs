//! Several writers of one table on a storage with conditional puts: they wait for each other, a writer that
//! was considered dead cannot complete a commit, and a live one is not disturbed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::{TryStreamExt, future::BoxFuture};
use hudi_scd::{
    ErrorKind, FnClock, Query, RetentionPolicy, Table, TableDefinition, TableOptions,
    timeline::{Action, Timeline},
};
use object_store::{ObjectStore, ObjectStoreExt, PutOptions, PutPayload, PutResult, path::Path};
use rstest::rstest;
use tokio::time::Instant;

use crate::common::{
    self, batch,
    interposed::{Interposed, Interposer},
    lines, memory,
    s3::S3,
    schema,
    sleepy::Sleepy,
    slow_files::SlowFiles,
    ticking,
};

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

fn storage_of(kind: &str) -> Arc<dyn ObjectStore> {
    if kind == "s3" { S3::new().store() } else { memory() }
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

/// The writer is suspended before a call takes effect, for longer than its lease. Another writer takes over
/// and completes a write. Then the first writer resumes. This is tested at each of its calls, with and
/// without a clean and an archival.
#[rstest]
#[tokio::test(start_paused = true)]
async fn a_writer_that_slept_through_its_lease_cannot_complete_a_commit(
    #[values("memory", "s3")] storage: &str,
) {
    let (mut fenced, mut behind_the_check, mut with_strays) = (0, 0, 0);
    for calls in 0.. {
        let begun = Instant::now();
        let store = storage_of(storage);
        let table = create(&store, begun).await;
        for at in 0..4 {
            table.upsert(&[rows(&[row(1, at), row(2, at)])]).await.unwrap();
        }
        let (sleepy, alarm) = Sleepy::after(store.clone(), calls);
        let sleeper = tokio::spawn(async move {
            let table = Table::open_with(sleepy, "t".into(), options(begun, 2)).await?;
            table.upsert(&[rows(&[row(1, 10), row(3, 10)])]).await
        });
        // The writer runs until it is suspended or done. The next writer then waits until the lease has
        // expired.
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
        // The next writer removes the remains of the first one.
        fresh.upsert(&[rows(&[row(5, 30)])]).await.unwrap();
        let findings = fresh.validate().await.unwrap();
        let strays = findings.iter().all(|finding| finding.invariant == hudi_scd::Invariant::StrayFile);
        assert!(strays, "call {calls}: {findings:?}");
        with_strays += u32::from(!findings.is_empty());
        expected.push(row(5, 30));
        expected.sort();
        assert_eq!(read(&fresh).await, expected, "call {calls}");
        if !had_slept {
            break;
        }
    }
    assert!(fenced > 10, "{fenced} times");
    // The writer leaves a file without a commit only if it was suspended while it wrote that file, after the
    // marker had been written.
    assert!(with_strays <= 3, "{with_strays} sleepers wrote files after they had been rolled back");
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
    // No writer waits for a lease to expire, because the lock is released after each write and requested once
    // per second.
    assert!(longest < Duration::from_secs(300), "{longest:?}");
    let mut expected = vec![row(0, WRITES * WRITERS)];
    expected.extend((1..=WRITERS * WRITES).map(|own| row(own, 1)));
    expected.sort();
    let table = Table::open_with(store, "t".into(), options(begun, 2)).await.unwrap();
    assert_eq!(read(&table).await, expected);
    assert_eq!(table.validate().await.unwrap(), []);
}

/// A Hudi writer that shares its table holds the lock only while it commits. It shows that it is alive by a
/// file that it writes every minute. The age of that file is measured with the storage's clock, because this
/// machine's clock is ten minutes fast.
#[tokio::test(start_paused = true)]
async fn the_pending_write_of_a_living_writer_is_left_alone() {
    let store = S3::new().store();
    let living = "20260101000000500";
    let pending = [format!("t/.hoodie/{living}.commit.requested"), format!("t/.hoodie/{living}.inflight")];
    let beat = Path::from(format!("t/.hoodie/.heartbeat/{living}"));
    let begun = Instant::now();
    let fast = "2026-01-01T00:10:00Z".parse::<jiff::Timestamp>().unwrap();
    let clock = FnClock(move || fast + jiff::SignedDuration::try_from(begun.elapsed()).unwrap());
    let options = TableOptions::new().with_clock(clock).with_seed(1).without_lock();
    let definition = TableDefinition::new("t", rows(&[]).schema(), ["id"]).with_ordering_field("at");
    let table = Table::create_with(store.clone(), "t".into(), definition, options).await.unwrap();
    for file in &pending {
        store.put(&Path::from(file.as_str()), "".into()).await.unwrap();
    }
    store.put(&beat, "".into()).await.unwrap();

    tokio::time::advance(Duration::from_secs(60)).await;
    let report = table.upsert(&[rows(&[row(1, 1)])]).await.unwrap();
    assert_eq!((report.inserted, report.rolled_back), (1, Vec::new()));
    let error = table.rollback(living.parse().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(table.timeline().await.unwrap().pending(Action::Commit).count(), 1);

    tokio::time::advance(Duration::from_secs(61)).await;
    let report = table.upsert(&[rows(&[row(1, 2)])]).await.unwrap();
    assert_eq!(report.rolled_back, [living.parse().unwrap()], "two beats were missed");
    assert_eq!(table.validate().await.unwrap(), []);
    let left = store.list(Some(&"t/.hoodie/.heartbeat".into())).try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(left, [], "heartbeats of writes that are over");
}

async fn heartbeats(store: &Arc<dyn ObjectStore>) -> Vec<String> {
    let listed = store.list(Some(&"t/.hoodie/.heartbeat".into())).try_collect::<Vec<_>>().await.unwrap();
    let mut names: Vec<_> =
        listed.iter().map(|found| found.location.filename().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// Hudi rolls back eagerly without checking heartbeats, and leaves them behind. The next write of this crate
/// deletes its own heartbeats at once. It deletes those of Hudi's writers only after they have expired,
/// because such a writer sends a heartbeat before it requests its instant.
#[tokio::test(start_paused = true)]
async fn heartbeats_of_dead_writers_are_deleted() {
    let begun = Instant::now();
    let s3 = S3::new();
    let store = s3.store();
    create(&store, begun).await;
    // There are no cleans in this test, so that all writes cost the same.
    let options = options(begun, 2).with_retention(RetentionPolicy::commits(50));
    let table = Table::open_with(store.clone(), "t".into(), options).await.unwrap();
    let first = table.upsert(&[rows(&[row(1, 1)])]).await.unwrap().instant.unwrap();
    let cost = async |at| {
        s3.requests().lap();
        table.upsert(&[rows(&[row(1, at)])]).await.unwrap();
        s3.requests().lap()
    };
    cost(2).await;
    cost(3).await;
    let usual = cost(4).await;
    let put = async |name: &str, content: &'static str| {
        let path = Path::from(format!("t/.hoodie/.heartbeat/{name}"));
        store.put(&path, content.into()).await.unwrap();
    };
    let (ours, about_to_begin) = ("20251231000000000", "20251231000000001");
    put(ours, "hudi-scd").await;
    assert_eq!(cost(5).await, usual + 2, "a listing and a deletion");
    assert_eq!(heartbeats(&store).await, [""; 0], "of a writer of ours that somebody else rolled back");

    // Hadoop's local file system writes a checksum of eight bytes.
    let checksum = format!(".{about_to_begin}.crc");
    put(about_to_begin, "").await;
    put(&checksum, "12345678").await;
    put(first.as_str(), "").await;
    put("not of an instant", "").await;
    tokio::time::advance(Duration::from_secs(100)).await;
    assert_eq!(cost(6).await, usual + 3, "a listing and the storage's time");
    let expected = ["not of an instant", &checksum, about_to_begin, first.as_str()];
    let mut expected = expected.map(str::to_owned);
    expected.sort();
    assert_eq!(heartbeats(&store).await, expected, "they may be alive");
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(cost(7).await, usual + 4);
    assert_eq!(heartbeats(&store).await, ["not of an instant"]);
    assert_eq!(table.validate().await.unwrap(), []);
}

/// Under optimistic concurrency control, Hudi's writers roll back pending writes that had no heartbeat in the
/// last two minutes.
#[tokio::test(start_paused = true)]
async fn a_write_shows_hudis_writers_that_it_is_alive_as_long_as_it_is_pending() {
    let begun = Instant::now();
    let store = S3::new().store();
    create(&store, begun).await;
    let slow = SlowFiles::over(store.clone(), Duration::from_secs(600));
    let writer = tokio::spawn(async move {
        let table = Table::open_with(slow, "t".into(), options(begun, 2)).await.unwrap();
        table.upsert(&[rows(&[row(1, 1)])]).await.unwrap()
    });
    let observer = Table::open_with(store.clone(), "t".into(), options(begun, 3)).await.unwrap();
    let (mut seen, mut clock) = (0, Path::from("t/.hoodie/clock"));
    while !writer.is_finished() {
        tokio::time::sleep(Duration::from_millis(1 + 7_000 * (seen % 3))).await;
        let timeline = observer.timeline().await.unwrap();
        for pending in timeline.pending(Action::Commit) {
            seen += 1;
            store.put(&clock, "".into()).await.unwrap();
            let now = store.head(&clock).await.unwrap().last_modified;
            let beat = Path::from(format!("t/.hoodie/.heartbeat/{}", pending.instant));
            match store.head(&beat).await {
                Ok(beat) => assert!((now - beat.last_modified).num_seconds() <= 21),
                Err(error) => panic!("no heartbeat: {error}"),
            }
        }
    }
    assert!(seen > 50, "the write was seen pending {seen} times");
    clock = Path::from("t/.hoodie/.heartbeat");
    assert_eq!(store.list(Some(&clock)).try_collect::<Vec<_>>().await.unwrap(), []);
    assert_eq!(writer.await.unwrap().inserted, 1);
}

/// Hudi's conflict detection compares file groups. If two writers insert a key at the same time, as two bulk
/// inserts do here, both succeed.
#[tokio::test]
async fn a_key_that_two_writers_inserted_is_reported() {
    let store = memory();
    let begun = Instant::now();
    let table = create(&store, begun).await;
    for at in 1..3 {
        table.bulk_insert(&[rows(&[row(1, at), row(2 + at, at)])]).await.unwrap();
    }
    let findings = table.validate().await.unwrap();
    let found: Vec<_> = findings.iter().map(|finding| finding.invariant).collect();
    assert_eq!(found, [hudi_scd::Invariant::DuplicateKey]);
    assert!(findings[0].detail.starts_with("1 is also in"), "{}", findings[0]);
}

/// A storage in which every heartbeat but the first hangs for a time.
#[derive(Clone, Debug)]
struct HangingHeartbeats(Duration, Arc<AtomicI64>);

#[async_trait]
impl Interposer for HangingHeartbeats {
    async fn put(
        &self,
        inner: &dyn ObjectStore,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let Self(hang, beats) = self;
        if location.as_ref().contains("/.heartbeat/") && beats.fetch_add(1, Ordering::SeqCst) > 0 {
            tokio::time::sleep(*hang).await;
        }
        inner.put_opts(location, payload, options).await
    }
}

/// Hudi's writers do not check the lock. Once they may have rolled back a write, the write must not complete.
#[rstest]
#[tokio::test(start_paused = true)]
async fn a_write_whose_heartbeats_hang_for_too_long_stops_although_it_holds_the_lock(
    #[values((30, false), (130, true))] (hang, stops): (u64, bool),
) {
    let begun = Instant::now();
    let store = S3::new().store();
    create(&store, begun).await;
    let hanging = HangingHeartbeats(Duration::from_secs(hang), Arc::default());
    let table = Interposed::over(SlowFiles::over(store.clone(), Duration::from_secs(200)), hanging);
    let table = Table::open_with(table, "t".into(), options(begun, 2)).await.unwrap();
    let written = table.upsert(&[rows(&[row(1, 1)])]).await;
    let timeline = table.timeline().await.unwrap();
    let pending: Vec<_> = timeline.pending(Action::Commit).map(|entry| entry.instant).collect();
    let other = Table::open_with(store, "t".into(), options(begun, 3)).await.unwrap();
    let report = other.upsert(&[rows(&[row(2, 2)])]).await.unwrap();
    assert_eq!(report.rolled_back, pending);
    match written {
        Ok(report) => assert!(!stops && report.inserted == 1 && pending.is_empty()),
        Err(error) => {
            assert!(stops, "{error}");
            assert_eq!((error.kind(), pending.len()), (ErrorKind::Conflict, 1));
            assert!(error.to_string().contains("heartbeat"), "{error}");
            // The base file in flight has ended. The lock was free at once.
            assert!(begun.elapsed() < Duration::from_secs(450), "{:?}", begun.elapsed());
        }
    }
    assert_eq!(other.validate().await.unwrap(), []);
}

/// A process that is suspended at one of its calls, for longer than a heartbeat lasts and shorter than the
/// lease of the lock.
#[derive(Clone, Debug)]
struct Suspended {
    store: Arc<dyn ObjectStore>,
    calls_left: Arc<AtomicI64>,
    /// `true` if the commit was pending at that time.
    was_pending: Arc<AtomicBool>,
}

#[async_trait]
impl Interposer for Suspended {
    async fn call<T: Send>(&self, call: BoxFuture<'_, object_store::Result<T>>) -> object_store::Result<T> {
        if self.calls_left.fetch_sub(1, Ordering::SeqCst) == 0 {
            let listed = self.store.list_with_delimiter(Some(&"t/.hoodie".into())).await?.objects;
            let names: Vec<_> = listed.iter().filter_map(|object| object.location.filename()).collect();
            let timeline = Timeline::from_file_names(names.iter().copied());
            self.was_pending.store(timeline.pending(Action::Commit).count() > 0, Ordering::SeqCst);
            tokio::time::advance(Duration::from_secs(130)).await;
        }
        call.await
    }
}

/// After the process has continued, it first writes the heartbeat again and renews the lock. Spark may have
/// begun to roll back the write before that.
#[tokio::test(start_paused = true)]
async fn a_write_that_was_suspended_for_longer_than_its_heartbeat_is_not_reported_as_done() {
    let (mut stopped, mut unknown) = (0, 0);
    for calls in 0.. {
        let begun = Instant::now();
        let store = S3::new().store();
        create(&store, begun).await.upsert(&[rows(&[row(1, 1)])]).await.unwrap();
        let (calls_left, was_pending) = (Arc::new(AtomicI64::new(calls)), Arc::<AtomicBool>::default());
        let suspended = Suspended {
            store: store.clone(),
            calls_left: calls_left.clone(),
            was_pending: was_pending.clone(),
        };
        let table = Interposed::over(store.clone(), suspended);
        let table = Table::open_with(table, "t".into(), options(begun, 2)).await.unwrap();
        let written = table.upsert(&[rows(&[row(1, 2)])]).await;
        let is_over = calls_left.load(Ordering::SeqCst) >= 0;
        let other = Table::open_with(store, "t".into(), options(begun, 3)).await.unwrap();
        let is_visible = read(&other).await == [row(1, 2)];
        match written {
            Ok(_) => assert!(is_visible && !was_pending.load(Ordering::SeqCst), "call {calls}"),
            Err(error) if matches!(error.kind(), ErrorKind::Unknown { .. }) => {
                assert!(is_visible, "call {calls}");
                unknown += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Conflict, "call {calls}: {error}");
                assert!(!is_visible, "call {calls}");
                stopped += 1;
            }
        }
        other.upsert(&[rows(&[row(2, 3)])]).await.unwrap();
        assert_eq!(other.validate().await.unwrap(), [], "call {calls}");
        if is_over {
            break;
        }
    }
    assert!(stopped > 5 && unknown == 1, "{stopped} {unknown}");
}

/// A writer of Hudi writes its heartbeat before it requests its instant. A write of the same millisecond
/// takes the next instant, and leaves the heartbeat as it is: with content, it would be that of a dead
/// writer.
#[tokio::test(start_paused = true)]
async fn an_instant_of_a_hudi_writer_is_not_taken() {
    let store = S3::new().store();
    let now = "2026-01-01T00:00:00.5Z".parse::<jiff::Timestamp>().unwrap();
    let options = TableOptions::new().with_clock(FnClock(move || now)).with_seed(1).without_lock();
    let definition = TableDefinition::new("t", rows(&[]).schema(), ["id"]).with_ordering_field("at");
    let table = Table::create_with(store.clone(), "t".into(), definition, options).await.unwrap();
    let taken = ["20260101000000500", "20260101000000501"];
    for instant in taken {
        store.put(&Path::from(format!("t/.hoodie/.heartbeat/{instant}")), "".into()).await.unwrap();
    }
    let report = table.upsert(&[rows(&[row(1, 1)])]).await.unwrap();
    assert_eq!(report.instant.unwrap().as_str(), "20260101000000502");
    assert_eq!(heartbeats(&store).await, taken);
    for instant in taken {
        let beat = store.get(&Path::from(format!("t/.hoodie/.heartbeat/{instant}"))).await.unwrap();
        assert_eq!(beat.meta.size, 0);
    }
    assert_eq!(table.validate().await.unwrap(), []);
}

/// Files that a writer creates after it was rolled back belong to no commit. They must never become visible.
/// That would happen as soon as the timeline begins after them.
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
    let folder = Path::from("t").join(&*group.partition);
    let file = store.get(&folder.clone().join(&*version.file)).await.unwrap().bytes().await.unwrap();
    // A file of another group, whose instant is between this commit and the next one.
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
