//! Separate processes: eight processes that write to one table concurrently, and one that is killed at its
//! storage calls.
//!
//! This is a program instead of a collection of test functions, because it starts itself again. With the
//! first argument `writer` or `victim`, it is a child process. Without, it is the test that starts the child
//! processes.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and processes have the machine's clock"
)]

#[path = "../common/mod.rs"]
mod common;

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::Ordering,
    time::Duration,
};

use arrow::datatypes::SchemaRef;
use common::{batch, folder, lines, mortal::Mortal, operations, schema};
use hudi_scd::{Query, RetentionPolicy, Table, TableDefinition, TableOptions};

const WRITERS: u32 = 8;
const WRITES: u32 = 6;
/// The exit code of a victim. It ends like `kill -9`, without running any further code.
const STRUCK: i32 = 86;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["writer", table, number] => writer(Path::new(table), number.parse().unwrap()).await,
        ["victim", table, operation, calls] => {
            victim(Path::new(table), operation, calls.parse().unwrap()).await;
        }
        words => {
            if chosen(words, "eight_processes_lose_no_update") {
                eight_processes_lose_no_update().await;
            }
            if chosen(words, "a_process_killed_at_any_call_leaves_before_or_after") {
                a_process_killed_at_any_call_leaves_before_or_after().await;
            }
        }
    }
}

/// Selects tests like the test harness. Options are ignored, and a word selects the tests whose names contain
/// it.
fn chosen(words: &[&str], name: &str) -> bool {
    let (mut words, mut any, mut found) = (words.iter(), false, false);
    while let Some(word) = words.next() {
        match *word {
            "--skip" if words.next().is_some_and(|part| name.contains(part)) => return false,
            "--skip" | "--test-threads" => {}
            option if option.starts_with('-') => {}
            part => (any, found) = (true, found || name.contains(part)),
        }
    }
    found || !any
}

fn columns() -> SchemaRef {
    schema("id int, day date, at int, writer int")
}

fn options() -> TableOptions {
    TableOptions::new().with_retention(RetentionPolicy::commits(3)).with_lock_wait(Duration::from_secs(300))
}

async fn create(directory: &Path) -> Table {
    let definition =
        TableDefinition::new("t", columns(), ["id"]).with_ordering_field("at").with_partition_fields(["day"]);
    Table::create_with(folder(directory), "t".into(), definition, options()).await.unwrap()
}

async fn open(directory: &Path) -> Table {
    Table::open_with(folder(directory), "t".into(), options()).await.unwrap()
}

fn start(words: &[&str]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(words).stderr(Stdio::inherit());
    command.spawn().unwrap()
}

fn row(id: u32, at: u32, writer: u32) -> String {
    format!(r#"{{"at":{at},"day":"2026-01-0{}","id":{id},"writer":{writer}}}"#, 1 + id % 2)
}

/// Writes its own keys, and one key that all writers share, for which the highest `at` wins.
async fn writer(directory: &Path, number: u32) {
    let table = open(directory).await;
    for write in 0..WRITES {
        let own = row(1 + number * WRITES + write, 1, number);
        let shared = row(0, 1 + write * WRITERS + number, number);
        let report = table.upsert(&[batch(&columns(), &format!("{own}\n{shared}"))]).await.unwrap();
        assert_eq!(report.inserted + report.updated + report.late, 2, "{report}");
    }
}

async fn eight_processes_lose_no_update() {
    let directory = tempfile::tempdir().unwrap();
    let table = create(directory.path()).await;
    let mut writers: Vec<Child> =
        (0..WRITERS).map(|number| start(&["writer", path(directory.path()), &number.to_string()])).collect();
    for writer in &mut writers {
        assert!(writer.wait().unwrap().success());
    }
    let last = WRITERS - 1;
    let mut expected = vec![row(0, WRITES * WRITERS, last)];
    expected.extend((0..WRITERS * WRITES).map(|own| row(1 + own, 1, own / WRITES)));
    expected.sort();
    assert_eq!(lines(&table.read(Query::snapshot()).await.unwrap()), expected);
    assert_eq!(table.validate().await.unwrap(), []);
    println!("test eight_processes_lose_no_update ... ok");
}

/// Runs one operation, and dies before a storage call.
async fn victim(directory: &Path, operation: &str, calls: i64) {
    let (store, left) = Mortal::after(folder(directory), calls, false);
    let watched = async {
        let table =
            Table::open_with(store, "t".into(), operations::options_for(operation, options())).await?;
        operations::carry_out(operation, &table).await
    };
    let done = tokio::select! {
        done = watched => done,
        () = struck(&left) => unreachable!("the process has ended"),
    };
    if left.load(Ordering::SeqCst) < 0 {
        std::process::exit(STRUCK);
    }
    done.unwrap();
}

async fn struck(left: &std::sync::atomic::AtomicI64) {
    while left.load(Ordering::SeqCst) >= 0 {
        tokio::task::yield_now().await;
    }
    std::process::exit(STRUCK);
}

/// Runs every operation on a table on disk. An upsert is killed at each of its storage calls, and the other
/// operations at every fourth call.
async fn a_process_killed_at_any_call_leaves_before_or_after() {
    let history = tempfile::tempdir().unwrap();
    let before = operations::read(&operations::with_history(&folder(history.path()), options()).await).await;
    let mut deaths = BTreeMap::from([(false, 0), (true, 0)]);
    for operation in operations::WRITES.into_iter().chain(operations::UPKEEP) {
        let step = if operation == "upsert" { 1 } else { 4 };
        let mut seen_at_the_ends = Vec::new();
        for calls in (0..).step_by(step) {
            let what = format!("{operation}, call {calls}");
            let directory = tempfile::tempdir().unwrap();
            copy(history.path(), directory.path());
            let mut victim = start(&["victim", path(directory.path()), operation, &calls.to_string()]);
            let ended: ExitStatus = victim.wait().unwrap();

            let options = operations::options_for(operation, options());
            let table = Table::open_with(folder(directory.path()), "t".into(), options).await.unwrap();
            let seen = operations::read(&table).await;
            table.upsert(&[]).await.unwrap();
            assert_eq!(table.validate().await.unwrap(), [], "{what}");
            let now = operations::read(&table).await;
            assert!(now == seen || operation == "rollback", "{what}: the repair changed rows");
            if now == before {
                // An error about an operation that has already been done is expected.
                let _ = operations::carry_out(operation, &table).await;
                assert_eq!(table.validate().await.unwrap(), [], "{what}: done again");
            }
            seen_at_the_ends.push(operations::read(&table).await);
            match ended.code() {
                Some(0) => break,
                Some(STRUCK) => *deaths.entry(seen != before).or_default() += 1,
                other => panic!("{what}: ended with {other:?}"),
            }
        }
        // After the operation is complete, the table is the same, whenever the process died.
        seen_at_the_ends.dedup();
        assert_eq!(seen_at_the_ends.len(), 1, "{operation}");
    }
    assert!(deaths[&false] > 80 && deaths[&true] > 3, "deaths before and after the commit: {deaths:?}");
    println!("test a_process_killed_at_any_call_leaves_before_or_after ... ok ({deaths:?})");
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn copy(from: &Path, into: &Path) {
    std::fs::create_dir_all(into).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = into.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(std::fs::copy(&path, &target).unwrap()),
        }
    }
}
