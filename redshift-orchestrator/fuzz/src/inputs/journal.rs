//! Journals on disk and on object storage, and the orchestrator's reaction to their records.

use std::{io::Write, sync::Arc};

use object_store::{ObjectStoreExt, memory::InMemory, path::Path};
use redshift_data_local::{LocalExecutor, Script};
use redshift_orchestrator::{
    ErrorKind, Orchestrator, Statement, StepKey, TokioClock,
    journal::{FileJournal, Journal, ObjectStoreJournal},
};

use super::block_on;

pub(super) const SEEDS: &[&str] = &[
    r#"{"at":"2026-11-23T06:30:00Z","run":"r","event":"run-begun","pipeline":"nightly","target":"aws:eu-west-1:workgroup/dwh/dev","parameters":{"day":"7"},"tags":["sales"]}
{"at":"2026-11-23T06:30:00Z","run":"r","step":"a","attempt":1,"event":"intent","token":"t1","name":"r/a/1 t1"}
{"at":"2026-11-23T06:30:01Z","run":"r","step":"a","attempt":1,"event":"submitted","id":"d9b6c0c9-0747-4bf4-b142-e8883122f766"}
{"at":"2026-11-23T06:30:02.5Z","run":"r","step":"a","attempt":1,"event":"ended","status":"FAILED","error":"ERROR: no such table","executing":1.5}
{"at":"2026-11-23T06:30:03Z","run":"r","step":"b","attempt":1,"event":"intent","token":"t2","name":"r/b/1 t2"}
{"at":"2026-11-23T06:30:04Z","run":"r","event":"run-ended","result":"failed"}
"#,
    r#"{"at":"2026-11-23T06:30:00Z","run":"r","step":"a","attempt":1,"event":"intent","token":"t1","name":"r/a/1 t1"}
{"at":"2026-11-23T06:30:01Z","run":"r","step":"a","attempt":1,"event":"unknown","reason":"its submit got no response"}
{"at":"2026-11-23T06:30:02Z","run":"r","step":"a","attempt":1,"event":"settled","found":"never-ran","by":"ada","because":"no rows"}
{"at":"2026-11-23T06:30:03Z","run":"r","step":"b","attempt":1,"event":"intent","token":"t2","name":"r/b/1 t2"}
{"at":"2026-11-23T06:30:04Z","run":"r","step":"b","attempt":1,"event":"not-submitted","error":"not sent: connection refused"}
{"at":"2026-11-23T06:30:05Z","run":"r","step":"b","attempt":1,"event":"ended","status":"FINISHED","rows":12,"has_result_set":true,"timed_out":true}
"#,
];

/// Feeds the lines twice: unchanged, and with a head and checksums, without which they would be rejected.
pub(super) fn feed(data: &[u8]) {
    feed_as(data, data);
    let mut sealed = Vec::new();
    for line in data.split(|byte| *byte == b'\n') {
        match line.strip_suffix(b"}") {
            Some(object) => {
                let crc = crc32fast::hash(line);
                sealed.extend_from_slice(object);
                sealed.extend_from_slice(format!(",\"crc\":\"{crc:08x}\"}}\n").as_bytes());
            }
            None => sealed.extend_from_slice(&[line, b"\n"].concat()),
        }
    }
    let head = |object: &str| {
        let crc = crc32fast::hash(object.as_bytes());
        format!("{},\"crc\":\"{crc:08x}\"}}\n", object.trim_end_matches('}')).into_bytes()
    };
    feed_as(
        &[head(r#"{"format":2}"#), sealed.clone()].concat(),
        &[head(r#"{"format":2,"writer":"w"}"#), sealed].concat(),
    );
}

fn feed_as(data: &[u8], object: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(data).expect("a temporary file");
    let opened = FileJournal::open_read_only(file.path());
    if let Err(error) = &opened {
        assert_eq!(error.kind(), ErrorKind::Journal, "{error}");
    }
    block_on(async {
        if let Ok(journal) = opened {
            let _ = (journal.runs(2, None).await, journal.entries("r").await);
        }
        let store = Arc::new(InMemory::new());
        store.put(&Path::from("j/runs/r/0000000001.jsonl"), object.to_vec().into()).await.expect("in memory");
        let journal = ObjectStoreJournal::new(store, "j");
        let _ = journal.runs(2, None).await;
        if journal.entries("r").await.is_ok() {
            reconcile(journal).await;
        }
    });
}

/// Checks that a step runs at most once, regardless of the journal's contents, and that a second call returns
/// the same outcome as the first.
async fn reconcile(journal: ObjectStoreJournal) {
    let now = "2026-11-23T07:00:00Z".parse().expect("a time");
    let service = LocalExecutor::scripted(Script::new().starting_at(now));
    let orchestrator =
        Orchestrator::new(service.clone()).with_journal(journal).with_clock(TokioClock::starting_at(now));
    for step in ["a", "b"] {
        let key = StepKey::new("r", step);
        let statement = Statement::sql(format!("CALL {step}()"));
        let first = orchestrator.run(&key, statement.clone()).await;
        let second = orchestrator.run(&key, statement).await;
        if let (Ok(first), Ok(second)) = (first, second) {
            assert_eq!(first.kind.to_string(), second.kind.to_string());
        }
    }
    let effects: Vec<_> = service.effects().into_iter().map(|effect| effect.sql).collect();
    for step in ["CALL a()", "CALL b()"] {
        assert!(effects.iter().filter(|sql| *sql == step).count() <= 1, "{effects:?}");
    }
}
