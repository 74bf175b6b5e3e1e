//! An operation dies or is dropped at any storage call, or one of its calls fails. The table is then in the
//! state before or after the operation, and the next writer repairs it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures::TryStreamExt;
use hudi_scd::{Error, ErrorKind, FnClock, Result, RetentionPolicy, Table, TableDefinition, TableOptions};
use object_store::{ObjectStore, ObjectStoreExt};
use rstest::rstest;
use tokio::time::timeout;

use crate::common::{
    memory,
    mortal::Mortal,
    operations::{UPKEEP, WRITES, carry_out, options_for, read, rows, with_history},
    s3::S3,
    sleepy::{Alarm, Sleepy},
};

/// Options with a clock that is later than all earlier operations, so that the lease of a dead writer has
/// expired.
fn options(day: i8) -> TableOptions {
    let seconds = AtomicI64::new(0);
    let now = move || {
        let start = jiff::civil::date(2026, 1, day).to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
        start + jiff::SignedDuration::from_secs(seconds.fetch_add(1, Ordering::Relaxed))
    };
    // The expiry of a lease is only detected when the clock is read, and a waiting writer reads it only a few
    // times a minute.
    let wait = Duration::from_secs(100_000);
    let options = TableOptions::new().with_clock(FnClock(now)).with_lock_wait(wait);
    options.with_seed(u64::from(day.unsigned_abs())).with_parallelism(1)
}

/// The kind of storage that contains the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Memory,
    S3,
}

impl On {
    fn empty(self) -> Arc<dyn ObjectStore> {
        match self {
            Self::Memory => memory(),
            Self::S3 => S3::new().store(),
        }
    }
}

async fn copy(store: &Arc<dyn ObjectStore>, on: On) -> Arc<dyn ObjectStore> {
    let copy = on.empty();
    for meta in store.list(None).try_collect::<Vec<_>>().await.unwrap() {
        let bytes = store.get(&meta.location).await.unwrap().bytes().await.unwrap();
        copy.put(&meta.location, bytes.into()).await.unwrap();
    }
    copy
}

async fn sound(table: &Table, what: &str) {
    assert_eq!(table.validate().await.unwrap(), [], "{what}");
}

/// The outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The process dies before the call takes effect.
    Death,
    /// The call fails, and the same handle continues.
    Error,
    /// The call takes effect, its response is lost, and the same handle continues.
    LostReply,
    /// The call takes effect, and the process dies before the response.
    DeathBeforeReply,
    /// The future of the operation is dropped before the call takes effect, and the same handle continues.
    Drop,
    /// The call takes effect, the future is dropped before the response, and the same handle continues.
    DropBeforeReply,
}

impl Fate {
    /// Returns the time after which the future of an operation is dropped. No operation takes as long.
    fn patience(self) -> Duration {
        match self {
            Self::Drop | Self::DropBeforeReply => Duration::from_secs(20),
            _ => Duration::MAX,
        }
    }

    /// Returns `true` if the handle of the interrupted operation is used further.
    fn goes_on(self) -> bool {
        !matches!(self, Self::Death | Self::DeathBeforeReply)
    }
}

/// The interruption of a store's calls.
enum Interruption {
    Mortal(Arc<AtomicI64>),
    Sleepy(Alarm),
}

impl Interruption {
    fn of(fate: Fate, store: Arc<dyn ObjectStore>, calls: i64) -> (Arc<dyn ObjectStore>, Self) {
        let mortal = |(store, left)| (store, Self::Mortal(left));
        let sleepy = |(store, alarm)| (store, Self::Sleepy(alarm));
        match fate {
            Fate::Death => mortal(Mortal::after(store, calls, false)),
            Fate::Error => mortal(Mortal::stumbling_after(store, calls, false)),
            Fate::LostReply => mortal(Mortal::stumbling_after(store, calls, true)),
            Fate::DeathBeforeReply => mortal(Mortal::after(store, calls, true)),
            Fate::Drop => sleepy(Sleepy::after(store, calls)),
            Fate::DropBeforeReply => sleepy(Sleepy::before_reply_after(store, calls)),
        }
    }

    fn has_happened(&self) -> bool {
        match self {
            Self::Mortal(left) => left.load(Ordering::SeqCst) < 0,
            Self::Sleepy(alarm) => alarm.slept(),
        }
    }

    /// Ends the interruption, for a handle that continues.
    fn end(&self) {
        if let Self::Sleepy(alarm) = self {
            alarm.ring();
        }
    }
}

/// Creates the result of an operation whose future was dropped.
fn dropped<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Cancelled, "the future was dropped"))
}

/// Returns `true` for the error of an operation that has already been done.
fn was_done(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound | ErrorKind::InvalidInput)
}

/// Interrupts an operation at each of its storage calls. Returns the number of calls.
async fn interrupted_everywhere(operation: &str, fate: Fate, on: On) -> i64 {
    let history = on.empty();
    let before = read(&with_history(&history, options(1)).await).await;
    let after = {
        let table =
            Table::open_with(copy(&history, on).await, "t".into(), options_for(operation, options(2)))
                .await
                .unwrap();
        carry_out(operation, &table).await.unwrap();
        sound(&table, operation).await;
        read(&table).await
    };
    assert_eq!(before == after, UPKEEP.contains(&operation), "{operation}");
    let mut unknown = 0;
    for calls in 0.. {
        let what = format!("{operation}, {fate:?} at call {calls}");
        let store = copy(&history, on).await;
        let (unsteady, interruption) = Interruption::of(fate, store.clone(), calls);
        let open = Table::open_with(unsteady, "t".into(), options_for(operation, options(2)));
        let opened = timeout(fate.patience(), open).await.unwrap_or_else(|_| dropped());
        let said = match &opened {
            Ok(table) => {
                timeout(fate.patience(), carry_out(operation, table)).await.unwrap_or_else(|_| dropped())
            }
            Err(error) => Err(Error::new(error.kind(), error.message())),
        };
        let interrupted = interruption.has_happened();
        interruption.end();
        if let Err(error) = &said {
            assert!(interrupted, "{what}: {error:?}");
        }

        let fresh = Table::open_with(store, "t".into(), options_for(operation, options(3))).await.unwrap();
        let seen = read(&fresh).await;
        assert!(seen == before || seen == after, "{what}: half of it is seen");
        assert!(seen == after || said.is_err(), "{what}: it said that it was done");
        if let Err(error) = &said
            && WRITES.contains(&operation)
            && operation != "rollback"
        {
            match error.kind() {
                ErrorKind::Unknown { instant } => {
                    assert_eq!(fresh.settle(instant).await.unwrap(), seen == after, "{what}");
                    assert_eq!(read(&fresh).await, seen, "{what}: settling changed rows");
                    unknown += 1;
                }
                // The caller of a dropped future does not learn the outcome.
                _ if fate.patience() < Duration::MAX => {}
                _ => assert!(seen == before, "{what}: it failed, and is visible: {error:?}"),
            }
        }

        // The next writer has nothing to write, but repairs the table.
        let next = match opened {
            Ok(table) if interrupted && fate.goes_on() => table,
            _ => fresh,
        };
        next.upsert(&[]).await.unwrap();
        sound(&next, &what).await;
        let now = read(&next).await;
        // Only a rollback is resumed automatically.
        assert!(now == seen || (now == after && operation == "rollback"), "{what}: the repair changed rows");
        // The further operations do not depend on the exact call at which the process died.
        let goes_on = !interrupted || calls % 4 == 0;
        if now == before && goes_on {
            let again: Result<()> = carry_out(operation, &next).await;
            assert!(again.as_ref().map_or_else(was_done, |()| true), "{what}: {again:?}");
            assert_eq!(read(&next).await, after, "{what}: done again");
        }
        if goes_on {
            next.upsert(&[rows(20)]).await.unwrap();
            sound(&next, &what).await;
        }
        if !interrupted {
            // A handle that continues repairs the table itself.
            let commits = WRITES.contains(&operation) && operation != "rollback";
            let expected = commits && !fate.goes_on();
            assert_eq!(unknown > 0, expected, "{operation}, {fate:?}: {unknown} unknown outcomes");
            return calls;
        }
    }
    unreachable!()
}

#[tokio::test(start_paused = true)]
async fn a_write_that_dies_leaves_before_or_after_and_the_next_one_repairs_it() {
    for operation in WRITES {
        let calls = interrupted_everywhere(operation, Fate::Death, On::Memory).await;
        assert!(calls > 15, "{operation}: only {calls} calls were tried");
    }
}

#[tokio::test(start_paused = true)]
async fn upkeep_that_dies_leaves_the_rows_as_they_are_and_the_next_write_repairs_it() {
    for operation in UPKEEP {
        let calls = interrupted_everywhere(operation, Fate::Death, On::Memory).await;
        assert!(calls > 5, "{operation}: only {calls} calls were tried");
    }
}

/// S3 copies only over an existing file, lists in pages, and does not report whether a deleted key existed.
#[rstest]
#[tokio::test(start_paused = true)]
async fn on_s3_an_operation_that_is_interrupted_leaves_before_or_after(
    #[values(Fate::Death, Fate::LostReply)] fate: Fate,
    #[values("upsert_clean_archive", "insert_overwrite", "rollback")] operation: &str,
) {
    assert!(interrupted_everywhere(operation, fate, On::S3).await > 15);
}

/// The writes differ in their data, but not in their sequence of calls.
#[rstest]
#[tokio::test(start_paused = true)]
async fn a_call_that_fails_leaves_a_handle_that_goes_on(
    #[values(Fate::Error, Fate::LostReply)] fate: Fate,
    #[values(
        "upsert_clean_archive",
        "bulk_insert",
        "insert_overwrite",
        "rollback",
        "savepoint",
        "delete_savepoint"
    )]
    operation: &str,
) {
    assert!(interrupted_everywhere(operation, fate, On::Memory).await > 5);
}

/// A dropped operation leaves the remains of a crash. They are repaired by the same handle. If a change was
/// in flight, that handle waits for its own lease to expire.
#[rstest]
#[tokio::test(start_paused = true)]
async fn an_operation_that_is_dropped_leaves_before_or_after_and_its_handle_goes_on(
    #[values(Fate::Drop, Fate::DropBeforeReply)] fate: Fate,
    #[values(
        "upsert_clean_archive",
        "upsert_stream",
        "bulk_insert",
        "insert_overwrite",
        "rollback",
        "clean",
        "archive",
        "savepoint",
        "delete_savepoint"
    )]
    operation: &str,
) {
    assert!(interrupted_everywhere(operation, fate, On::Memory).await > 5);
}

/// A bulk insert does not look up keys. If it were repeated after a commit that was only reported as failed,
/// it would store every row twice.
#[rstest]
#[tokio::test(start_paused = true)]
async fn a_commit_whose_reply_is_lost_with_its_writer_can_be_settled(
    #[values("bulk_insert", "upsert")] operation: &str,
) {
    assert!(interrupted_everywhere(operation, Fate::DeathBeforeReply, On::Memory).await > 15);
}

#[tokio::test]
async fn a_table_that_was_half_created_can_be_created_or_is_one() {
    for calls in 0.. {
        let store = memory();
        let definition = || {
            TableDefinition::new("t", rows(0).schema(), ["id"])
                .with_ordering_field("at")
                .with_partition_fields(["day"])
                .with_retention(RetentionPolicy::commits(3))
        };
        let (mortal, left) = Mortal::after(store.clone(), calls, false);
        let said = Table::create_with(mortal, "t".into(), definition(), options(1)).await.is_ok();
        match Table::open_with(store.clone(), "t".into(), options(2)).await {
            Ok(table) => sound(&table, "create").await,
            Err(error) => assert!(!said && error.kind() == ErrorKind::NotFound, "call {calls}: {error:?}"),
        }
        match Table::create_with(store.clone(), "t".into(), definition(), options(3)).await {
            Ok(_) => assert!(!said, "call {calls}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "call {calls}"),
        }
        let table = Table::open_with(store, "t".into(), options(4)).await.unwrap();
        assert_eq!(table.upsert(&[rows(1)]).await.unwrap().inserted, 4);
        assert_eq!(table.clean_plan().await.unwrap().policy(), RetentionPolicy::commits(3), "call {calls}");
        sound(&table, "create").await;
        if left.load(Ordering::SeqCst) >= 0 {
            assert!(said && calls > 0);
            break;
        }
    }
}

/// A writer dies at each storage call while it repairs the remains of a dead writer.
#[tokio::test]
async fn a_repair_that_dies_is_repaired() {
    let mut store;
    // Enough calls to write some files, but not enough to commit.
    let mut calls = 15;
    loop {
        store = memory();
        with_history(&store, options(1)).await;
        let (mortal, _) = Mortal::after(store.clone(), calls, true);
        if let Ok(table) = Table::open_with(mortal, "t".into(), options(3).without_lock()).await {
            table.upsert(&[rows(8)]).await.unwrap_err();
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
        // The writers run one after the other. They use no lock, so that they need not wait for the lease of
        // a dead writer.
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
    sound(&table, "repair").await;
    assert_eq!(read(&table).await, before);
}
