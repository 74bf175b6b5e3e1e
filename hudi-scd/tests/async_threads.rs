//! CPU-bound work does not run on the threads of the runtime, so that the lease is renewed during a large
//! write.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(target_os = "linux")]

mod common;

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    time::Duration,
};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use common::memory;
use hudi_scd::{
    Table, TableDefinition,
    scd::{Scd2, Scd2Table},
};

/// Less than a thousandth of the heartbeat's interval.
const MOST: Duration = Duration::from_millis(25);

/// Returns the CPU time of this thread. Unlike elapsed time, it does not depend on the load of the machine.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

/// Runs work on a runtime with one thread. Returns the maximum CPU time for which another task on it waited.
fn longest_wait<T>(work: impl Future<Output = T>) -> (Duration, T) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut work = std::pin::pin!(work);
    let mut longest = Duration::ZERO;
    let done = runtime.block_on(poll_fn(|context| {
        let before = cpu_time();
        let polled = work.as_mut().poll(context);
        longest = longest.max(cpu_time() - before);
        polled
    }));
    (longest, done)
}

/// Returns `count` rows with a total size of 64 MiB.
fn rows(count: i64, shift: i64, at: i64) -> RecordBatch {
    let ids = Int64Array::from_iter_values((shift..shift + count).map(|id| id * 7_919 % 1_000_003));
    let width = 64 * 1024 * 1024 / count as usize;
    let texts = StringArray::from_iter_values((0..count).map(|row| format!("{row:0>width$}")));
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(ids)),
        ("at", Arc::new(Int64Array::from(vec![at; count as usize]))),
        ("text", Arc::new(texts)),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

#[test]
fn an_upsert_never_holds_the_thread_of_the_runtime() {
    let (first, second) = (rows(100_000, 0, 1), rows(100_000, 30_000, 2));
    let (longest, report) = longest_wait(async {
        let definition = TableDefinition::new("t", first.schema(), ["id"]).with_ordering_field("at");
        let table = Table::create(memory(), "t".into(), definition).await.unwrap();
        table.bulk_insert(&[first]).await.unwrap();
        table.upsert(&[second]).await.unwrap()
    });
    assert_eq!((report.inserted, report.updated), (30_000, 70_000));
    assert!(longest < MOST, "{longest:?}");
}

#[test]
fn the_merge_of_a_history_never_holds_the_thread_of_the_runtime() {
    let (first, second) = (rows(10_000, 0, 1), rows(10_000, 5_000, 2));
    let (longest, report) = longest_wait(async {
        let definition = Scd2Table::definition_of("t", &Scd2::new(["id"], "at"), &first.schema()).unwrap();
        let table = Table::create(memory(), "t".into(), definition).await.unwrap();
        let history = Scd2Table::of(table).unwrap();
        history.apply(&[first]).await.unwrap();
        history.apply(&[second]).await.unwrap()
    });
    assert_eq!((report.counts.opened, report.counts.closed), (10_000, 5_000));
    assert!(longest < MOST, "{longest:?}");
}
