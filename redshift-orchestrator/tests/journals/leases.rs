//! Leases of the journal on object storage: which process writes a run, and when the next one may.

use std::{sync::Arc, time::Duration};

use object_store::{
    ObjectStore,
    memory::InMemory,
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

/// Regression: `settle` in another process wrote a record, and the next record of the process that ran the run
/// failed.
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
async fn an_old_guard_leaves_the_lease_of_the_next_call() {
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
async fn a_future_that_is_dropped_leaves_no_lease() {
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

/// Regression: while the records of one run were read, the calls for all other runs waited.
#[tokio::test(start_paused = true)]
async fn runs_are_read_side_by_side() {
    let config = ThrottleConfig { wait_list_per_call: 10 * SECOND, ..ThrottleConfig::default() };
    let journal = process(slow(&Arc::new(InMemory::new()), config));
    let begun = Instant::now();
    let (one, two) = tokio::join!(journal.entries("one"), journal.entries("two"));
    assert!(one.unwrap().is_empty() && two.unwrap().is_empty());
    assert!(begun.elapsed() < 11 * SECOND, "{:?}", begun.elapsed());
}
