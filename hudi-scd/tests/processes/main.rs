//! Processes of their own: eight that write to one table at once, and one that is killed at each of its storage calls.
//!
//! This is a program rather than a collection of test functions, as it starts itself again: `writer` and `victim` are
//! the processes, without such a first argument it is the test that starts them.

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
use common::{batch, folder, lines, mortal::Mortal, schema};
use hudi_scd::{Query, RetentionPolicy, Table, TableDefinition, TableOptions};

const WRITERS: u32 = 8;
const WRITES: u32 = 6;
/// Ends a victim as `kill -9` does: nothing of it runs any more.
const STRUCK: i32 = 86;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["writer", table, number] => writer(Path::new(table), number.parse().unwrap()).await,
        ["victim", table, calls] => victim(Path::new(table), calls.parse().unwrap()).await,
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

/// As the test harness does: options are its own, a word chooses tests by a part of their names.
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

fn start(role: &str, directory: &Path, number: i64) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(role).arg(directory).arg(number.to_string()).stderr(Stdio::inherit());
    command.spawn().unwrap()
}

fn row(id: u32, at: u32, writer: u32) -> String {
    format!(r#"{{"at":{at},"day":"2026-01-0{}","id":{id},"writer":{writer}}}"#, 1 + id % 2)
}

/// Writes keys of its own, and one that all write to: whoever comes with the highest `at` has it.
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
        (0..WRITERS).map(|number| start("writer", directory.path(), number.into())).collect();
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

/// Does one upsert, and dies at a storage call.
async fn victim(directory: &Path, calls: i64) {
    let (store, left) = Mortal::after(folder(directory), calls, calls % 2 == 0);
    let watched = async {
        let table = Table::open_with(store, "t".into(), options()).await?;
        table.upsert(&[changes()]).await.map(drop)
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

fn changes() -> arrow::array::RecordBatch {
    let rows: Vec<String> = (0..6).map(|id| row(id, 2, 9)).chain([row(20, 2, 9)]).collect();
    batch(&columns(), &rows.join("\n"))
}

async fn a_process_killed_at_any_call_leaves_before_or_after() {
    let mut deaths = BTreeMap::from([(false, 0), (true, 0)]);
    for calls in 0.. {
        let directory = tempfile::tempdir().unwrap();
        let table = create(directory.path()).await;
        for at in 0..2 {
            let rows: Vec<String> = (0..10).map(|id| row(id, at, 0)).collect();
            table.upsert(&[batch(&columns(), &rows.join("\n"))]).await.unwrap();
        }
        let before = lines(&table.read(Query::snapshot()).await.unwrap());
        let ended: ExitStatus = start("victim", directory.path(), calls).wait().unwrap();

        let table = open(directory.path()).await;
        let seen = lines(&table.read(Query::snapshot()).await.unwrap());
        let is_after = seen != before;
        let repaired = table.upsert(&[changes()]).await.unwrap();
        assert_eq!(repaired.instant.is_none(), is_after, "call {calls}");
        assert_eq!(table.validate().await.unwrap(), [], "call {calls}");
        let after = lines(&table.read(Query::snapshot()).await.unwrap());
        assert!(!is_after || seen == after, "call {calls}: half of a commit was seen");
        match ended.code() {
            Some(0) => {
                assert!(is_after, "call {calls}: it said it was done");
                break;
            }
            Some(STRUCK) => *deaths.entry(is_after).or_default() += 1,
            other => panic!("call {calls}: ended with {other:?}"),
        }
    }
    assert!(deaths[&false] > 10 && deaths[&true] > 0, "deaths before and after the commit: {deaths:?}");
    println!("test a_process_killed_at_any_call_leaves_before_or_after ... ok ({deaths:?})");
}
