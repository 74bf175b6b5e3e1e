//! Leases of the journal on object storage: which process writes a run, and when the next one may.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result as StoreResult,
    memory::InMemory,
    path::Path,
    throttle::{ThrottleConfig, ThrottledStore},
};
use redshift_data_local::{LocalExecutor, Script, ScriptedExecution};
use redshift_orchestrator::{
    ClientToken, ErrorKind, Orchestrator, Result, Statement, StatementExecutor, StatementId, StepKey,
    TokioClock,
    journal::{
        Claim, EntryState, Event, Journal, ObjectStoreJournal, Prune, Record, RunBegun, RunEvent, RunOutcome,
        RunRecord, SettledOutcome, Settlement, prune, settle,
    },
    layer::Limit,
    wait::CancelOutcome,
};
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

fn now() -> jiff::Timestamp {
    "2026-11-23T06:30:00Z".parse().unwrap()
}

/// A process with its own journal on the store.
fn process(store: Arc<dyn ObjectStore>) -> ObjectStoreJournal {
    ObjectStoreJournal::new(store, "etl").with_clock(TokioClock::starting_at(now()))
}

/// A store whose puts, or listings, take a second.
fn slow(store: &Arc<InMemory>, config: ThrottleConfig) -> Arc<dyn ObjectStore> {
    Arc::new(ThrottledStore::new(store.clone(), config))
}

fn slow_puts(store: &Arc<InMemory>) -> Arc<dyn ObjectStore> {
    slow(store, ThrottleConfig { wait_put_per_call: SECOND, ..ThrottleConfig::default() })
}

fn claim(run: &str) -> Claim {
    Claim::new("nightly", run, now()).with_exclusive(true)
}

fn begun() -> RunRecord {
    RunRecord::new(now(), "r", RunEvent::RunBegun(RunBegun::new("nightly")))
}

fn ended() -> RunRecord {
    RunRecord::new(now(), "r", RunEvent::RunEnded { result: RunOutcome::Failed })
}

fn record(step: &str, event: Event) -> Record {
    Record::new(now(), StepKey::new("r", step), event)
}

fn intent() -> Event {
    Event::Intent { token: ClientToken::new("t").unwrap(), name: "n".into(), target: None }
}

async fn settle_as_finished(journal: &dyn Journal, step: &str) -> Result<()> {
    settle(journal, now(), &StepKey::new("r", step), Settlement::new(SettledOutcome::Finished)).await
}

/// Regression: `settle` in another process wrote a record, and the next record of the process that ran the
/// run failed.
#[tokio::test(start_paused = true)]
async fn a_process_without_the_lease_settles_nothing() {
    let store = Arc::new(InMemory::new());
    let (owner, other) = (process(store.clone()), process(store.clone()));
    let active = owner.claim(&claim("r")).await.unwrap();
    owner.append_run(begun()).await.unwrap();
    owner.append(record("a", intent())).await.unwrap();
    owner.append(record("a", Event::Submitted { id: StatementId::new("i") })).await.unwrap();

    let error = settle_as_finished(&other, "a").await.unwrap_err();
    assert_eq!((error.kind(), error.context("active_run")), (ErrorKind::Overlap, Some("r")));
    assert!(error.to_string().contains("when that process has ended"), "{error}");
    // A record of its own would be rejected, too.
    let error = other.append(record("a", intent())).await.unwrap_err();
    assert!(error.to_string().contains("another process is running this run"), "{error}");
    // The cancel is sent to the service. Only the owner of the lease writes its record.
    let service = LocalExecutor::scripted(Script::new().otherwise(ScriptedExecution::finished(600 * SECOND)));
    let id = service.submit(&Statement::sql("CALL work()"), None).await.unwrap().id;
    owner.append(record("c", intent())).await.unwrap();
    owner.append(record("c", Event::Submitted { id })).await.unwrap();
    let orchestrator = Orchestrator::new(service).with_journal(process(store.clone()));
    let cancelled = orchestrator.cancel(&StepKey::new("r", "c")).await.unwrap();
    assert!(matches!(cancelled, CancelOutcome::Cancelled(_)), "{cancelled:?}");
    owner.append(record("b", intent())).await.unwrap();

    active.release().await;
    settle_as_finished(&other, "a").await.unwrap();
    let entry = process(store.clone()).entries("r").await.unwrap().remove(0);
    assert_eq!(entry.state, EntryState::Settled(SettledOutcome::Finished));
    // The run can be continued at once.
    owner.claim(&claim("r")).await.unwrap().release().await;
}

/// Regression: the guard of an earlier call released the lease of the next call for the same run.
#[tokio::test(start_paused = true)]
async fn an_old_guard_does_not_release_the_lease_of_the_next_call() {
    let store = Arc::new(InMemory::new());
    let ours = process(store.clone());
    let first = ours.claim(&claim("r")).await.unwrap();
    ours.append_run(begun()).await.unwrap();
    ours.append_run(ended()).await.unwrap();
    let _second = ours.claim(&claim("r")).await.unwrap();
    first.release().await;
    sleep(SECOND).await;
    let error = process(store).claim(&claim("r")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overlap);
}

/// Regression: a future that was dropped while it acquired or released the leases left them until they
/// expired.
#[tokio::test(start_paused = true)]
async fn a_dropped_future_leaves_no_lease() {
    // Each put takes a second: two for the claim; the end of the run is a record and two releases.
    for tenths in 1..30 {
        let store = Arc::new(InMemory::new());
        let (ours, other) = (process(slow_puts(&store)), process(store.clone()));
        let claimed = timeout(tenths * SECOND / 10, ours.claim(&claim("r"))).await;
        drop(claimed);
        sleep(5 * SECOND).await;
        let free = other.claim(&claim("r")).await;
        free.unwrap_or_else(|error| panic!("claim, {tenths}: {error}")).release().await;

        let active = ours.claim(&claim("r")).await.unwrap();
        ours.append_run(begun()).await.unwrap();
        let _ = timeout(tenths * SECOND / 10, ours.append_run(ended())).await;
        drop(active);
        sleep(5 * SECOND).await;
        let free = other.claim(&claim("r")).await;
        free.unwrap_or_else(|error| panic!("end, {tenths}: {error}")).release().await;
    }
}

/// Regression: after a short command such as `settle`, the process ended before the lease was released.
#[tokio::test(start_paused = true)]
async fn a_released_claim_is_free_when_the_release_returns() {
    let store = Arc::new(InMemory::new());
    let (ours, other) = (process(slow_puts(&store)), process(store.clone()));
    ours.claim(&claim("r")).await.unwrap().release().await;
    other.claim(&claim("r")).await.unwrap().release().await;

    // An old run that is kept is free after `prune`, too.
    other.append_run(begun()).await.unwrap();
    other
        .append_run(RunRecord::new(now(), "r", RunEvent::RunEnded { result: RunOutcome::Finished }))
        .await
        .unwrap();
    other.append(record("a", intent())).await.unwrap();
    let pruned = prune(&ours, &Prune::before(now() + SECOND)).await.unwrap();
    assert_eq!((pruned.removed.len(), pruned.kept.len()), (0, 1));
    other.claim(&claim("r")).await.unwrap().release().await;
}

/// A store whose deletes arrive after a time, or are denied.
#[derive(Debug)]
struct Deletes {
    inner: Arc<InMemory>,
    arrive_after: Option<Duration>,
}

impl std::fmt::Display for Deletes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deletes")
    }
}

#[async_trait]
impl ObjectStore for Deletes {
    async fn put_opts(&self, path: &Path, body: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
        self.inner.put_opts(path, body, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        let (inner, after) = (self.inner.clone(), self.arrive_after);
        let delete = move |path: StoreResult<Path>| {
            let inner = inner.clone();
            async move {
                let path = path?;
                let Some(after) = after else {
                    let (path, source) = (path.to_string(), "no s3:DeleteObject".into());
                    return Err(StoreError::PermissionDenied { path, source });
                };
                // The request arrives although the client no longer waits for it.
                let deleted = tokio::spawn(async move {
                    sleep(after).await;
                    inner.delete(&path).await.map(|()| path)
                });
                deleted.await.unwrap()
            }
        };
        paths.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A delete that arrives late must not delete the lease of the next owner.
#[tokio::test(start_paused = true)]
async fn a_late_delete_does_not_remove_the_lease_of_another_process() {
    let attempt = Claim::of_attempt(&StepKey::new("r", "a"), now());
    for after in [1, 29, 31, 60, 80] {
        let store = Arc::new(InMemory::new());
        let late = Arc::new(Deletes { inner: store.clone(), arrive_after: Some(after * SECOND) });
        let (ours, next, third) = (process(late), process(store.clone()), process(store));
        let active = ours.claim(&attempt).await.unwrap();
        drop(active);
        let next_claim = loop {
            match next.claim(&attempt).await {
                Ok(active) => break active,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Overlap),
            }
            sleep(SECOND).await;
        };
        sleep(200 * SECOND).await;
        assert!(next_claim.renew().await, "{after}");
        assert_eq!(third.claim(&attempt).await.unwrap_err().kind(), ErrorKind::Overlap, "{after}");
        next_claim.release().await;
        third.claim(&attempt).await.unwrap().release().await;
    }
}

/// Regression: the clock was read before the wait for another renewal in flight, so a lease that had expired
/// meanwhile counted as held.
#[tokio::test(start_paused = true)]
async fn a_lease_that_expires_during_a_renewal_in_flight_is_lost() {
    for claim in [Claim::of_attempt(&StepKey::new("r", "a"), now()), claim("r")] {
        let store = Arc::new(ThrottledStore::new(InMemory::new(), ThrottleConfig::default()));
        let active = process(store.clone()).claim(&claim).await.unwrap();
        // No put gets a response. The second regular renewal begins after 29 seconds, and the lease expires
        // after 30.
        store.config_mut(|config| config.wait_put_per_call = 100 * SECOND);
        sleep(59 * SECOND / 2).await;
        assert!(!active.renew().await, "{claim:?}");
    }
}

/// Regression: a put without a response took as long as a lease, and the leases of a claim were renewed one
/// after the other.
#[tokio::test(start_paused = true)]
async fn a_put_without_a_response_does_not_cost_the_lease() {
    let (memory, clock) = (Arc::new(InMemory::new()), TokioClock::starting_at(now()));
    let store = Arc::new(ThrottledStore::new(memory.clone(), ThrottleConfig::default()));
    let active = process(store.clone()).with_clock(clock).claim(&claim("r")).await.unwrap();
    // The first puts of the renewal after 10 seconds hang.
    store.config_mut(|config| config.wait_put_per_call = 60 * SECOND);
    sleep(12 * SECOND).await;
    store.config_mut(|config| config.wait_put_per_call = Duration::ZERO);
    sleep(19 * SECOND).await;
    for run in ["r", "another"] {
        let other = process(memory.clone()).with_clock(clock).claim(&claim(run)).await;
        assert_eq!(other.unwrap_err().kind(), ErrorKind::Overlap, "{run}");
    }
    assert!(active.is_held().await);
}

/// A role without the permission to delete leaves an object, but no lease.
#[tokio::test(start_paused = true)]
async fn a_lease_that_may_not_be_deleted_is_released() {
    let (store, attempt) = (Arc::new(InMemory::new()), Claim::of_attempt(&StepKey::new("r", "a"), now()));
    let ours = process(Arc::new(Deletes { inner: store.clone(), arrive_after: None }));
    ours.claim(&attempt).await.unwrap().release().await;
    process(store).claim(&attempt).await.unwrap().release().await;
    ours.claim(&attempt).await.unwrap().release().await;
}

/// A claim of an attempt reads what other processes wrote since the run was loaded.
#[tokio::test(start_paused = true)]
async fn a_claim_of_an_attempt_sees_the_records_of_other_processes() {
    let (store, key) = (Arc::new(InMemory::new()), StepKey::new("r", "a"));
    let (ours, other) = (process(store.clone()), process(store));
    assert_eq!(ours.entry(&key).await.unwrap(), None);
    other.append(record("a", intent())).await.unwrap();
    let active = ours.claim(&Claim::of_attempt(&key, now())).await.unwrap();
    assert!(ours.entry(&key).await.unwrap().is_some());
    ours.append(record("a", Event::Submitted { id: StatementId::new("i") })).await.unwrap();
    active.release().await;
}

/// Regression: while the records of one run were read, the calls for all other runs waited.
#[tokio::test(start_paused = true)]
async fn runs_are_read_concurrently() {
    let config = ThrottleConfig { wait_list_per_call: 10 * SECOND, ..ThrottleConfig::default() };
    let journal = process(slow(&Arc::new(InMemory::new()), config));
    let begun = Instant::now();
    let (one, two) = tokio::join!(journal.entries("one"), journal.entries("two"));
    assert!(one.unwrap().is_empty() && two.unwrap().is_empty());
    assert!(begun.elapsed() < 11 * SECOND, "{:?}", begun.elapsed());
}

/// Regression: a first submit had no deadline. If another process continued its intent in the meantime, the
/// submit was sent after the service had forgotten the token, and the statement ran twice.
#[tokio::test(start_paused = true)]
async fn a_first_submit_is_not_sent_from_a_queue_if_another_process_has_continued_its_intent() {
    const HOUR: Duration = Duration::from_hours(1);
    let (store, clock) = (Arc::new(InMemory::new()), TokioClock::starting_at(now()));
    let script = Script::new()
        .starting_at(now())
        .on("CALL long()", ScriptedExecution::finished(10 * HOUR))
        .otherwise(ScriptedExecution::finished(60 * SECOND));
    let service = LocalExecutor::scripted(script);
    let over = |executor: Arc<dyn StatementExecutor>| {
        let journal = process(store.clone()).with_clock(clock);
        Orchestrator::new(executor).with_journal(journal).with_clock(clock)
    };
    let full = Arc::new(Limit::new(service.clone(), 1));
    full.submit(&Statement::sql("CALL long()"), None).await.unwrap();
    let (queued, other) = (over(full), over(Arc::new(service.clone())));
    let (key, statement) = (StepKey::new("r", "s"), || Statement::sql("CALL load()"));
    let (first, second) = tokio::join!(queued.run(&key, statement()), async {
        sleep(HOUR / 2).await;
        other.run(&key, statement()).await
    });
    assert!(second.unwrap().is_success());
    assert!(first.is_err(), "{first:?}");
    sleep(HOUR).await;
    assert_eq!(service.effects().iter().filter(|effect| effect.sql == "CALL load()").count(), 1);
}
