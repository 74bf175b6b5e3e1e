//! Runs with odd names, and runs that began at the same time, are listed, read and removed like any other.

use std::{collections::BTreeSet, sync::Arc};

use object_store::memory::InMemory;
use redshift_orchestrator::{
    ClientToken, StatementId, StepKey,
    journal::{
        Event, FileJournal, Journal, MemoryJournal, ObjectStoreJournal, Prune, Record, RunBegun, RunCursor,
        RunEvent, RunOutcome, RunRecord, SettledOutcome, Settlement, prune,
    },
};

const NAMES: [&str; 18] = [
    ".",
    "..",
    "../../x",
    "a",
    "a/b",
    "a%2Fb",
    "a%",
    "%2E",
    "a.json",
    "a.jsonl",
    "0000000001.jsonl",
    " ",
    "two  words ",
    "漢字 🚀",
    "é",
    "e\u{301}",
    "\\\"'`",
    "~^[]{}<>#|*?&=+$@,;:!",
];

async fn check(name: &str, journal: &dyn Journal) {
    let at = "2026-11-23T06:30:00Z".parse().unwrap();
    for run in NAMES {
        let record = |event| RunRecord::new(at, run, event);
        journal.append_run(record(RunEvent::RunBegun(RunBegun::new("p")))).await.unwrap();
        let key = StepKey::new(run, run);
        let token = ClientToken::new("t").unwrap();
        let step = |event| Record::new(at, key.clone(), event);
        journal.append(step(Event::Intent { token, name: run.to_owned(), target: None })).await.unwrap();
        journal.append(step(Event::Submitted { id: StatementId::new("id") })).await.unwrap();
        let settled = Event::Settled(Settlement::new(SettledOutcome::Finished));
        journal.append(step(settled)).await.unwrap();
        journal.append_run(record(RunEvent::RunEnded { result: RunOutcome::Finished })).await.unwrap();
    }
    for limit in [1, 2, 7, 100] {
        let (mut after, mut listed) = (None::<RunCursor>, Vec::new());
        loop {
            let page = journal.runs(limit, after.as_ref()).await.unwrap();
            assert!(page.runs.len() <= limit);
            listed.extend(page.runs.into_iter().map(|entry| entry.run));
            // A cursor can be printed and parsed.
            let Some(next) = page.next else { break };
            after = Some(next.to_string().parse().unwrap());
        }
        let set: BTreeSet<_> = listed.iter().map(String::as_str).collect();
        assert_eq!((listed.len(), set), (NAMES.len(), NAMES.into()), "{name}, pages of {limit}");
    }
    for run in NAMES {
        let entries = journal.entries(run).await.unwrap();
        assert_eq!((entries.len(), entries[0].name.as_str()), (1, run), "{name}");
        assert_eq!(journal.run_entry(run).await.unwrap().unwrap().run, run, "{name}");
    }
    let removed = prune(journal, &Prune::before("2026-11-24T06:30:00Z".parse().unwrap())).await.unwrap();
    assert_eq!((removed.removed.len(), removed.kept), (NAMES.len(), Vec::new()), "{name}");
    assert!(journal.runs(100, None).await.unwrap().runs.is_empty(), "{name}");
}

#[tokio::test]
async fn unusual_names_and_equal_times_are_kept_apart() {
    check("memory", &MemoryJournal::new()).await;
    let directory = tempfile::tempdir().unwrap();
    check("file", &FileJournal::open(directory.path().join("journal")).unwrap()).await;
    let store = Arc::new(InMemory::new());
    check("object store", &ObjectStoreJournal::new(store.clone(), "etl").with_clock(TestClock)).await;
    use futures::TryStreamExt;
    use object_store::ObjectStore;
    let left: Vec<_> = store.list(None).map_ok(|object| object.location).try_collect().await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[derive(Debug)]
struct TestClock;

impl redshift_orchestrator::Clock for TestClock {
    fn now(&self) -> redshift_orchestrator::jiff::Timestamp {
        "2026-11-25T06:30:00Z".parse().unwrap()
    }
}
