//! Death of a process at each request of the removal of old runs from object storage.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory,
    path::Path,
};
use redshift_data_local::{LocalExecutor, Script};
use redshift_orchestrator::{
    ClientToken, Clock, Description, ErrorKind, Orchestrator, Statement, StatementId, Status, StepKey,
    TokioClock,
    journal::{
        Claim, Entry, Event, Journal, ObjectStoreJournal, Prune, Record, RecordedOutcome, RunBegun, RunEvent,
        RunOutcome, RunRecord, prune,
    },
};
use tokio::time::sleep;

/// Store of a process that dies at one of its puts or deletes. This request and all later ones fail.
struct Dying {
    inner: Arc<InMemory>,
    requests: Arc<AtomicUsize>,
    death: usize,
    /// `true` if the fatal request takes effect.
    after: bool,
}

fn dead() -> Error {
    Error::PermissionDenied { path: "journal".into(), source: "the process is dead".into() }
}

impl Dying {
    fn is_dead(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > self.death
    }

    async fn change<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        if number < self.death {
            return request.await;
        }
        if number == self.death && self.after {
            let _ = request.await;
        }
        Err(dead())
    }

    async fn read<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        if self.is_dead() { Err(dead()) } else { request.await }
    }
}

impl fmt::Debug for Dying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dying")
    }
}

impl fmt::Display for Dying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dying")
    }
}

#[async_trait]
impl ObjectStore for Dying {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.change(self.inner.put_opts(path, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.read(self.inner.get_opts(path, options)).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.read(self.inner.get_ranges(path, ranges)).await
    }

    /// Deletes the paths one at a time, because a request that deletes many objects can fail after it has
    /// deleted only some of them.
    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, requests, death, after) =
            (self.inner.clone(), self.requests.clone(), self.death, self.after);
        paths
            .then(move |path| {
                let one = Self { inner: inner.clone(), requests: requests.clone(), death, after };
                async move {
                    let path = path?;
                    one.change(one.inner.delete(&path)).await.map(|()| path)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn journal(store: Arc<dyn ObjectStore>, clock: TokioClock) -> ObjectStoreJournal {
    ObjectStoreJournal::new(store, "etl/journal").with_clock(clock)
}

/// Old runs, which pruning removes.
const OLD: [&str; 3] = ["old-0", "old-1", "old-2"];
/// Runs that pruning keeps: a recent one, and an old one that did not end.
const KEPT: [&str; 2] = ["recent", "unfinished"];

fn about(run: &str, at: &str, event: RunEvent) -> RunRecord {
    RunRecord::new(at.parse().unwrap(), run, event)
}

fn begun() -> RunEvent {
    RunEvent::RunBegun(RunBegun::new("nightly"))
}

async fn write(journal: &ObjectStoreJournal, run: &str, at: &str, is_finished: bool) {
    let record = |event| Record::new(at.parse().unwrap(), StepKey::new(run, "load"), event);
    let (token, name) = (ClientToken::new(run).unwrap(), format!("{run}/load/1 t"));
    let id = StatementId::new(format!("id-{run}"));
    journal.append_run(about(run, at, begun())).await.unwrap();
    journal.append(record(Event::Intent { token, name, target: None })).await.unwrap();
    journal.append(record(Event::Submitted { id: id.clone() })).await.unwrap();
    if is_finished {
        let ended = RecordedOutcome::from_description(&Description::new(id, Status::Finished));
        journal.append(record(Event::Ended(ended))).await.unwrap();
        let ended = RunEvent::RunEnded { result: RunOutcome::Finished };
        journal.append_run(about(run, at, ended)).await.unwrap();
    }
}

async fn entries(
    journal: &ObjectStoreJournal,
    runs: &[&str],
) -> Vec<redshift_orchestrator::Result<Vec<Entry>>> {
    let mut entries = Vec::new();
    for run in runs {
        entries.push(journal.entries(run).await);
    }
    entries
}

#[tokio::test(start_paused = true)]
async fn a_death_at_each_request_of_a_removal_leaves_runs_whole_absent_or_unreadable() {
    let before = Prune::before("2026-09-01T00:00:00Z".parse().unwrap());
    let (mut deaths, mut begun_anew, mut unreadable) = (0, 0, 0);
    for (death, after) in (0..).flat_map(|death| [(death, false), (death, true)]) {
        let store = Arc::new(InMemory::new());
        let clock = TokioClock::starting_at("2026-11-23T06:30:00Z".parse().unwrap());
        let writing = journal(store.clone(), clock);
        for run in OLD {
            write(&writing, run, "2026-06-01T06:30:00Z", true).await;
        }
        write(&writing, "recent", "2026-11-01T06:30:00Z", true).await;
        write(&writing, "unfinished", "2026-06-01T06:30:00Z", false).await;
        let whole = entries(&writing, &OLD).await.into_iter().map(|run| run.unwrap()).collect::<Vec<_>>();
        let kept = entries(&writing, &KEPT).await.into_iter().map(|run| run.unwrap()).collect::<Vec<_>>();
        let dying = Dying { inner: store.clone(), requests: Arc::default(), death, after };
        let pruned = prune(&journal(Arc::new(dying), clock), &before).await;
        if pruned.is_ok() {
            break;
        }
        deaths += 1;
        // The leases of the dead process expire.
        sleep(Duration::from_secs(60)).await;
        let next = journal(store.clone(), clock);
        for (run, whole) in entries(&next, &OLD).await.into_iter().zip(&whole) {
            match run {
                Ok(run) => assert!(run.is_empty() || run == *whole, "{death} {after}: {run:?}"),
                Err(error) => {
                    assert!(error.to_string().contains("let `prune` finish"), "{error}");
                    unreadable += 1;
                }
            }
        }
        // A run that was removed completely may be started again. The next `prune` must not remove it.
        let is_absent = matches!(next.run_entry(OLD[0]).await, Ok(None));
        if is_absent {
            let claim = Claim::new("nightly", OLD[0], "2026-11-23T06:30:00Z".parse().unwrap());
            drop(next.claim(&claim).await.unwrap());
            write(&next, OLD[0], "2026-11-23T06:30:00Z", false).await;
            begun_anew += 1;
        }
        let listed = next.runs(100, None).await.unwrap().runs;
        assert!(listed.iter().any(|entry| entry.run == "recent"), "{death} {after}");
        prune(&journal(store.clone(), clock), &before).await.unwrap();
        let next = journal(store.clone(), clock);
        assert_eq!(
            entries(&next, &KEPT).await.into_iter().map(|run| run.unwrap()).collect::<Vec<_>>(),
            kept,
            "{death} {after}"
        );
        let left: Vec<_> =
            next.runs(100, None).await.unwrap().runs.into_iter().map(|entry| entry.run).collect();
        let expected: &[&str] =
            if is_absent { &[OLD[0], "recent", "unfinished"] } else { &["recent", "unfinished"] };
        assert_eq!(left, expected, "{death} {after}");
        let objects: Vec<_> = store.list(None).map_ok(|object| object.location).try_collect().await.unwrap();
        let of_old = objects.iter().filter(|path| {
            let path = path.as_ref();
            path.contains("removing/")
                || OLD[usize::from(is_absent)..].iter().any(|run| path.contains(run))
                || (path.contains(OLD[0]) && path.contains("by-time") && !is_absent)
        });
        assert_eq!(of_old.count(), 0, "{death} {after}: {objects:?}");
    }
    // The process dies at the puts of the leases and of the marker, and for each run at the deletes of 5
    // objects, of the list entry and of the lease.
    assert!(deaths > 40, "{deaths}");
    assert!(begun_anew > 4 && unreadable > 4, "{begun_anew} {unreadable}");
}

/// Writes the marker of a removal of one run, as a process that dies or is still running leaves it.
async fn mark_removal(store: &InMemory, run: &str) {
    let text = format!(r#"[{{"run":"{run}","first_begun_at":"2026-06-01T06:30:00Z"}}]"#);
    store.put(&Path::from("etl/journal/removing/1.json"), text.into()).await.unwrap();
}

/// A `prune` died between the last object of a run and its marker. The run was then started again, and has no
/// record yet. Finishing the removal deleted the lease of the new process, and its records.
#[tokio::test(start_paused = true)]
async fn a_resumed_removal_leaves_a_run_to_the_process_that_started_it_again() {
    let store = Arc::new(InMemory::new());
    let clock = TokioClock::starting_at("2026-11-23T06:30:00Z".parse().unwrap());
    mark_removal(&store, "old-0").await;
    let since = "2026-11-23T06:30:00Z".parse().unwrap();
    let owner = journal(store.clone(), clock);
    let active = owner.claim(&Claim::new("nightly", "old-0", since)).await.unwrap();
    journal(store.clone(), clock).remove_runs(&[]).await.unwrap();
    let other = journal(store.clone(), clock);
    let refused = other.claim(&Claim::new("nightly", "old-0", since)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overlap);
    write(&owner, "old-0", "2026-11-23T06:30:00Z", true).await;
    active.release().await;
    // The next removal sees that the run was started again.
    other.remove_runs(&[]).await.unwrap();
    assert_eq!(journal(store.clone(), clock).entries("old-0").await.unwrap().len(), 1);
    let left: Vec<_> = store.list(Some(&Path::from("etl/journal/removing"))).try_collect().await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

/// Without its marker, a removal that dies after the first object leaves a run that stays unreadable.
#[tokio::test(start_paused = true)]
async fn a_removal_keeps_the_marker_of_an_active_removal() {
    let store = Arc::new(InMemory::new());
    let clock = TokioClock::starting_at("2026-11-23T06:30:00Z".parse().unwrap());
    let first = journal(store.clone(), clock);
    write(&first, "old-0", "2026-06-01T06:30:00Z", true).await;
    let claim = Claim::new("nightly", "old-0", "2026-11-23T06:30:00Z".parse().unwrap());
    let active = first.claim(&claim).await.unwrap();
    mark_removal(&store, "old-0").await;
    let second = journal(store.clone(), clock);
    second.remove_runs(&[]).await.unwrap();
    // The first process deletes the first object, and dies.
    store.delete(&Path::from("etl/journal/runs/old-0/0000000001.jsonl")).await.unwrap();
    active.release().await;
    assert!(journal(store.clone(), clock).entries("old-0").await.is_err());
    second.remove_runs(&[]).await.unwrap();
    assert!(journal(store.clone(), clock).entries("old-0").await.unwrap().is_empty());
    let left: Vec<_> = store.list(None).try_collect().await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

/// A process that was suspended during a removal must not delete the records of a process that has started
/// the run again since.
#[tokio::test(start_paused = true)]
async fn a_removal_without_claims_deletes_nothing() {
    let store = Arc::new(InMemory::new());
    let clock = TokioClock::starting_at("2026-11-23T06:30:00Z".parse().unwrap());
    let journal = journal(store.clone(), clock);
    write(&journal, "old-0", "2026-06-01T06:30:00Z", true).await;
    let entry = journal.run_entry("old-0").await.unwrap().unwrap();
    let error = journal.remove_runs(&[entry]).await.unwrap_err();
    assert_eq!(error.context("run"), Some("old-0"));
    assert_eq!(journal.entries("old-0").await.unwrap().len(), 1);
}

/// Regression: the service kept the number of its next object although another process had removed the run.
/// Its next record began the run with this object, and the run could not be read again.
#[tokio::test(start_paused = true)]
async fn a_service_begins_a_run_anew_after_another_process_removed_it() {
    let store = Arc::new(InMemory::new());
    let clock = TokioClock::starting_at("2026-11-23T06:30:00Z".parse().unwrap());
    let service = Arc::new(journal(store.clone(), clock));
    let executor = LocalExecutor::scripted(Script::new().starting_at(clock.now()));
    let orchestrator = Orchestrator::new(executor).with_clock(clock).with_journal(service.clone());
    let (february, march) = (StepKey::new("adhoc", "february"), StepKey::new("adhoc", "march"));
    assert!(orchestrator.run(&february, Statement::sql("CALL load(2)")).await.unwrap().is_success());
    sleep(Duration::from_hours(8 * 24)).await;
    let week = Prune::before(clock.now() - Duration::from_hours(7 * 24));
    assert_eq!(prune(&journal(store.clone(), clock), &week).await.unwrap().removed, ["adhoc"]);
    assert!(orchestrator.run(&march, Statement::sql("CALL load(3)")).await.unwrap().is_success());
    assert_eq!(service.entry(&february).await.unwrap(), None);
    let next = journal(store.clone(), clock);
    let keys: Vec<_> = next.entries("adhoc").await.unwrap().into_iter().map(|entry| entry.key).collect();
    assert_eq!(keys, [march]);
    assert_eq!(next.runs(10, None).await.unwrap().runs.len(), 1);
}

/// Regression: a service needs no claim, and its next intent could be deleted together with the run.
#[tokio::test(start_paused = true)]
async fn an_intent_of_another_process_keeps_a_run_that_was_selected_for_removal() {
    let store = Arc::new(InMemory::new());
    let clock = TokioClock::starting_at("2026-11-23T06:30:00Z".parse().unwrap());
    let (service, pruning) = (journal(store.clone(), clock), journal(store.clone(), clock));
    let record = |step: &str, event| Record::new(clock.now(), StepKey::new("old-0", step), event);
    let intent = |step: &str| {
        let (token, name) = (ClientToken::new(step).unwrap(), format!("old-0/{step}/1 {step}"));
        record(step, Event::Intent { token, name, target: None })
    };
    let done = RecordedOutcome::from_description(&Description::new(StatementId::new("id"), Status::Finished));
    service.append(intent("first")).await.unwrap();
    service.append(record("first", Event::Ended(done.clone()))).await.unwrap();
    let claim = Claim::new("", "old-0", clock.now());
    let active = pruning.claim(&claim).await.unwrap();
    let entry = pruning.run_entry("old-0").await.unwrap().unwrap();
    service.append(intent("later")).await.unwrap();
    assert!(pruning.remove_runs(&[entry]).await.unwrap().is_empty());
    active.release().await;
    service.append(record("later", Event::Ended(done))).await.unwrap();
    assert_eq!(journal(store.clone(), clock).entries("old-0").await.unwrap().len(), 2);

    // The claim reads the new record, and the run is removed. An intent that the service records afterwards
    // begins the run anew.
    let active = pruning.claim(&claim).await.unwrap();
    let entry = pruning.run_entry("old-0").await.unwrap().unwrap();
    assert_eq!(pruning.remove_runs(&[entry]).await.unwrap(), ["old-0"]);
    active.release().await;
    assert_eq!(store.list(None).count().await, 0);
    service.append(intent("last")).await.unwrap();
    assert_eq!(journal(store.clone(), clock).entries("old-0").await.unwrap().len(), 1);
}
