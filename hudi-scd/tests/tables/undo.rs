//! Undoes and protects commits.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use arrow::array::RecordBatch;
use hudi_scd::{
    ErrorKind, FnClock, Instant, Query, RetentionPolicy, Table, TableDefinition, TableOptions,
    timeline::Action,
};
use object_store::ObjectStore;

use crate::common::{batch, lines, memory, mortal::Mortal, schema, sleepy::Sleepy};

/// Options with a clock that is later than all earlier operations, so that the lease of a dead writer has
/// expired.
fn options(day: i8) -> TableOptions {
    let seconds = AtomicI64::new(0);
    let now = move || {
        let start = jiff::civil::date(2026, 1, day).to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
        start + jiff::SignedDuration::from_secs(seconds.fetch_add(1, Ordering::Relaxed))
    };
    TableOptions::new().with_clock(FnClock(now)).with_seed(u64::from(day.unsigned_abs())).with_parallelism(1)
}

fn rows(at: i32) -> RecordBatch {
    let row = |id: i32, deleted: bool| {
        let day = 1 + (id + at) % 2;
        format!(r#"{{"id":{id},"day":"2025-01-0{day}","at":{at},"_hoodie_is_deleted":{deleted}}}"#)
    };
    let rows = [row(1, false), row(2, false), row(10 + at, false), row(9 + at, at % 2 == 0)];
    batch(&schema("id int, day date, at int, _hoodie_is_deleted boolean"), &rows.join("\n"))
}

/// Creates a table with a number of commits, including moves and deletes. Returns the commits.
async fn table(store: &Arc<dyn ObjectStore>, commits: i32, policy: RetentionPolicy) -> (Table, Vec<Instant>) {
    let definition = TableDefinition::new("t", rows(0).schema(), ["id"])
        .with_ordering_field("at")
        .with_partition_fields(["day"]);
    let options = options(1).with_retention(policy);
    let table = Table::create_with(store.clone(), "t".into(), definition, options).await.unwrap();
    let mut instants = Vec::new();
    for at in 0..commits {
        instants.push(table.upsert(&[rows(at)]).await.unwrap().instant.unwrap());
    }
    (table, instants)
}

async fn read(table: &Table, query: Query) -> Vec<String> {
    lines(&table.read(query.with_columns(["id", "day", "at"])).await.unwrap())
}

#[tokio::test]
async fn commit_after_commit_can_be_undone_back_to_the_first() {
    let (table, commits) = table(&memory(), 6, RetentionPolicy::commits(10)).await;
    let mut states = Vec::new();
    for commit in &commits {
        states.push(read(&table, Query::as_of(*commit)).await);
    }
    for (index, commit) in commits.iter().enumerate().rev() {
        let report = table.rollback(*commit).await.unwrap();
        assert!(report.files > 0 && report.undone == *commit && report.instant > *commit);
        let expected = index.checked_sub(1).map_or(Vec::new(), |before| states[before].clone());
        assert_eq!(read(&table, Query::snapshot()).await, expected);
        assert_eq!(table.validate().await.unwrap(), []);
    }
    let timeline = table.timeline().await.unwrap();
    assert_eq!((timeline.completed_commits().count(), timeline.completed(Action::Rollback).count()), (0, 6));
    // The undone operations can be repeated, including the deletions, because there is no record of them any
    // more.
    for at in 0..6 {
        table.upsert(&[rows(at)]).await.unwrap();
    }
    assert_eq!(read(&table, Query::snapshot()).await, states[5]);
    assert_eq!(table.validate().await.unwrap(), []);
}

#[tokio::test]
async fn only_the_latest_commit_can_be_undone() {
    let (table, commits) = table(&memory(), 3, RetentionPolicy::commits(10)).await;
    let error = table.rollback(commits[1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.context("latest"), Some(commits[2].as_str()));
    let error = table.rollback("20200101000000000".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(table.timeline().await.unwrap().completed_commits().count(), 3);
}

#[tokio::test]
async fn a_commit_whose_predecessor_was_cleaned_stays() {
    let (table, commits) = table(&memory(), 4, RetentionPolicy::file_versions(1)).await;
    let before = read(&table, Query::snapshot()).await;
    let error = table.rollback(commits[3]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutsideRetention, "{error}");
    assert_eq!(read(&table, Query::snapshot()).await, before);
}

#[tokio::test]
async fn an_overwrite_stays_if_only_a_savepoint_keeps_files_of_what_it_replaced() {
    let (table, commits) = table(&memory(), 1, RetentionPolicy::file_versions(1)).await;
    table.savepoint(commits[0], "me", "").await.unwrap();
    table.upsert(&[rows(1)]).await.unwrap();
    let overwrite = table.insert_overwrite_table(&[rows(2)]).await.unwrap().instant.unwrap();
    let before = read(&table, Query::snapshot()).await;
    let error = table.rollback(overwrite).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutsideRetention, "{error}");
    assert_eq!(read(&table, Query::snapshot()).await, before);
}

#[tokio::test]
async fn the_latest_commit_is_readable_though_the_window_began_after_it() {
    let (table, commits) = table(&memory(), 4, RetentionPolicy::commits(1)).await;
    assert_eq!(table.earliest_instant().await.unwrap(), Some(commits[3]));
    table.rollback(commits[3]).await.unwrap();
    assert!(!read(&table, Query::snapshot()).await.is_empty());
    assert_eq!(table.earliest_instant().await.unwrap(), Some(commits[2]));
    assert_eq!(table.validate().await.unwrap(), []);
}

/// The rollback dies at each storage call. The table is then in the state before or after it, and the next
/// writer finishes the rollback.
#[tokio::test]
async fn a_rollback_that_dies_at_any_call_leaves_before_or_after() {
    for last_one_counts in [false, true] {
        for calls in 0.. {
            let store = memory();
            let (table, commits) = table(&store, 4, RetentionPolicy::commits(10)).await;
            let after = read(&table, Query::as_of(commits[2])).await;
            let before = read(&table, Query::snapshot()).await;

            let (mortal, left) = Mortal::after(store.clone(), calls, last_one_counts);
            let undone = match Table::open_with(mortal, "t".into(), options(3)).await {
                Ok(table) => table.rollback(commits[3]).await,
                Err(error) => Err(error),
            };
            let died = left.load(Ordering::SeqCst) < 0;
            assert!(undone.is_ok() || died, "call {calls}: {undone:?}");

            let table = Table::open_with(store, "t".into(), options(5)).await.unwrap();
            let seen = read(&table, Query::snapshot()).await;
            assert!(seen == before || seen == after, "call {calls}");
            assert!(seen == after || undone.is_err(), "call {calls}: it said that it was done");
            // The next writer has nothing to write, but finishes the rollback.
            table.upsert(&[]).await.unwrap();
            assert_eq!(table.validate().await.unwrap(), [], "call {calls}");
            let now = read(&table, Query::snapshot()).await;
            assert!(now == after || (now == before && seen == before), "call {calls}");
            table.upsert(&[rows(7)]).await.unwrap();
            assert_eq!(table.validate().await.unwrap(), [], "call {calls}");
            if !died {
                assert!(calls > 10, "only {calls} calls were tried");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_savepoint_outlives_cleans_and_holds_the_archive() {
    let (table, commits) = table(&memory(), 1, RetentionPolicy::commits(2)).await;
    let saved = table.savepoint(commits[0], "me", "before the change").await.unwrap();
    assert_eq!(saved.files, 2, "a file in each partition");
    for at in 1..8 {
        table.upsert(&[rows(at)]).await.unwrap();
    }
    let of_first = |groups: Vec<hudi_scd::FileGroup>| {
        groups.iter().flat_map(|group| &group.versions).filter(|file| file.instant == commits[0]).count()
    };
    assert_eq!(of_first(table.file_groups().await.unwrap()), 2);
    table.delete_savepoint(commits[0]).await.unwrap();
    assert_eq!(table.delete_savepoint(commits[0]).await.unwrap_err().kind(), ErrorKind::NotFound);
    table.clean().await.unwrap();
    assert_eq!(of_first(table.file_groups().await.unwrap()), 0);
    let error = table.savepoint(commits[0], "me", "too late").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutsideRetention);
    assert_eq!(table.validate().await.unwrap(), []);
}

#[tokio::test]
async fn a_savepoint_that_dies_at_any_call_can_be_made_again() {
    for calls in 0.. {
        let store = memory();
        let (_, commits) = table(&store, 2, RetentionPolicy::commits(10)).await;
        let (mortal, left) = Mortal::after(store.clone(), calls, calls % 2 == 0);
        if let Ok(table) = Table::open_with(mortal, "t".into(), options(3)).await {
            drop(table.savepoint(commits[0], "me", "").await);
        }
        let table = Table::open_with(store, "t".into(), options(5)).await.unwrap();
        match table.savepoint(commits[0], "me", "").await {
            Ok(saved) => assert_eq!(saved.files, 2),
            Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists),
        }
        table.upsert(&[rows(7)]).await.unwrap();
        assert_eq!(table.timeline().await.unwrap().completed(Action::Savepoint).count(), 1);
        if left.load(Ordering::SeqCst) >= 0 {
            break;
        }
    }
}

#[tokio::test]
async fn a_table_keeps_what_it_says_for_every_writer() {
    let store = memory();
    let definition = TableDefinition::new("t", rows(0).schema(), ["id"])
        .with_ordering_field("at")
        .with_retention(RetentionPolicy::commits(3));
    Table::create_with(store.clone(), "t".into(), definition, options(1)).await.unwrap();
    let table = Table::open_with(store.clone(), "t".into(), options(2)).await.unwrap();
    assert_eq!(table.clean_plan().await.unwrap().policy(), RetentionPolicy::commits(3));
    let other = options(2).with_retention(RetentionPolicy::hours(1));
    let table = Table::open_with(store, "t".into(), other).await.unwrap();
    assert_eq!(table.clean_plan().await.unwrap().policy(), RetentionPolicy::hours(1));
}

/// The process that undoes a commit is suspended before a call takes effect, for longer than its lease.
/// Another writer takes over and completes a write. Then the first process resumes. At each of its calls, the
/// commit is either undone before the other write, or stays valid.
#[tokio::test(start_paused = true)]
async fn an_undo_that_slept_through_its_lease_undoes_nothing_that_others_built_on() {
    let wait = |day| options(day).with_lock_wait(std::time::Duration::from_secs(100_000));
    let (mut undone, mut stood) = (0, 0);
    for calls in 0.. {
        let store = memory();
        let (table, commits) = table(&store, 4, RetentionPolicy::commits(10)).await;
        let before = read(&table, Query::as_of(commits[2])).await;
        let after = read(&table, Query::snapshot()).await;
        let (sleepy, alarm) = Sleepy::after(store.clone(), calls);
        let latest = commits[3];
        let sleeper = tokio::spawn(async move {
            let table = Table::open_with(sleepy, "t".into(), options(3)).await?;
            table.rollback(latest).await
        });
        // The process runs until it is suspended or done. The other writer's clock is days later, so the
        // lease has expired.
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        let other = Table::open_with(store.clone(), "t".into(), wait(5)).await.unwrap();
        let new =
            batch(&rows(0).schema(), r#"{"id":1,"day":"2025-01-05","at":99,"_hoodie_is_deleted":false}"#);
        other.upsert(&[new]).await.unwrap();
        let had_slept = alarm.slept();
        alarm.ring();
        let woken = sleeper.await.unwrap();

        let fresh = Table::open_with(store, "t".into(), wait(7)).await.unwrap();
        let of_others = |rows: &[String]| -> Vec<String> {
            rows.iter()
                .filter(|row| !row.contains(r#""id":1,"#) && !row.ends_with(r#""id":1}"#))
                .cloned()
                .collect()
        };
        let seen = of_others(&read(&fresh, Query::snapshot()).await);
        let is_undone = seen == of_others(&before);
        assert!(is_undone || seen == of_others(&after), "call {calls}: {woken:?}");
        assert!(is_undone || woken.is_err(), "call {calls}: it said that it was done");
        if is_undone {
            undone += 1
        } else {
            stood += 1
        }
        // The next write finishes or withdraws an announced rollback.
        fresh.upsert(&[]).await.unwrap();
        assert_eq!(of_others(&read(&fresh, Query::snapshot()).await), seen, "call {calls}");
        assert_eq!(fresh.validate().await.unwrap(), [], "call {calls}");
        if !had_slept {
            break;
        }
    }
    assert!(undone > 5 && stood > 5, "{undone} undone, {stood} stood");
}

/// The process that undoes a commit dies at any call. When the rollback is requested again, the commit is
/// undone, or already was.
#[tokio::test]
async fn an_undo_that_died_is_finished_by_asking_again() {
    let mut finished = 0;
    for calls in 0.. {
        let store = memory();
        let (table, commits) = table(&store, 4, RetentionPolicy::commits(10)).await;
        let after = read(&table, Query::as_of(commits[2])).await;
        let (mortal, left) = Mortal::after(store.clone(), calls, true);
        let first = match Table::open_with(mortal, "t".into(), options(3)).await {
            Ok(table) => table.rollback(commits[3]).await,
            Err(error) => Err(error),
        };
        let table = Table::open_with(store, "t".into(), options(5)).await.unwrap();
        match table.rollback(commits[3]).await {
            Ok(again) => {
                assert!(again.undone == commits[3] && again.instant > commits[3], "call {calls}");
                finished += 1;
            }
            // The last call was the end of the rollback, or followed it.
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidInput, "call {calls}: {first:?}"),
        }
        assert_eq!(read(&table, Query::snapshot()).await, after, "call {calls}");
        assert_eq!(table.validate().await.unwrap(), [], "call {calls}");
        if left.load(Ordering::SeqCst) >= 0 {
            break;
        }
    }
    assert!(finished > 10, "{finished}");
}
