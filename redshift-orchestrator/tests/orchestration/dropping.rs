//! Effects of dropping the future of a call, at each point where it can be dropped.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redshift_data_local::{self as local, Fault, Faults, Faulty, LocalExecutor, Operation, Script, Scripted};
use redshift_orchestrator::{
    ErrorKind, Orchestrator, Origin, OutcomeKind, Pipeline, Statement, StatementExecutor, Status, StepKey,
    journal::{EntryState, Event, Journal, MemoryJournal},
    layer::{Fleet, Limit},
    pipeline::Step,
    wait::CancelOutcome,
};
use tokio::time::{sleep, timeout};

struct World {
    service: LocalExecutor<Scripted>,
    journal: MemoryJournal,
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn key() -> StepKey {
    StepKey::new("run", "step")
}

fn statement() -> Statement {
    Statement::sql("CALL work()")
}

impl World {
    fn new(seconds: u64) -> Self {
        let script = Script::new().otherwise(local::ScriptedExecution::finished(secs(seconds)));
        Self { service: LocalExecutor::scripted(script), journal: MemoryJournal::new() }
    }

    fn over(&self, executor: impl StatementExecutor + 'static) -> Orchestrator {
        Orchestrator::new(executor).with_journal(self.journal.clone())
    }

    /// Creates an orchestrator on a network that delays every response to a submit by ten seconds.
    fn slow(&self) -> Orchestrator {
        let late = Faults::seeded(0).with(Operation::Submit, Fault::Delay(secs(10)), 1.0);
        self.over(Faulty::new(self.service.clone(), late))
    }

    async fn id_is_known(&self) -> bool {
        self.journal.entry(&key()).await.unwrap().is_some_and(|entry| entry.id.is_some())
    }

    /// Repeats the call with the same key. Returns the origin of its outcome, and the total number of
    /// statements that ran.
    async fn again(&self) -> (Origin, usize) {
        let outcome = self.over(self.service.clone()).run(&key(), statement()).await.unwrap();
        assert!(outcome.is_success(), "{outcome:?}");
        (outcome.origin, self.service.effects().len())
    }
}

async fn dropped_after(orchestrator: &Orchestrator, seconds: f64) {
    let (key, limit) = (key(), Duration::from_secs_f64(seconds));
    assert!(timeout(limit, orchestrator.run(&key, statement())).await.is_err(), "it ended");
}

#[tokio::test(start_paused = true)]
async fn a_drop_in_a_queue_sends_nothing() {
    let world = World::new(100);
    let full = Arc::new(Limit::new(world.service.clone(), 1));
    let other = full.submit(&Statement::sql("CALL other()"), None).await.unwrap();
    dropped_after(&world.over(full.clone()), 5.0).await;
    // The submit is not sent later, even when a permit is free.
    sleep(secs(200)).await;
    assert!(full.describe(&other.id, None).await.unwrap().status.is_terminal());
    sleep(secs(200)).await;
    assert_eq!(world.service.effects().len(), 1, "only the other statement ran");
    let records = world.journal.records();
    assert!(matches!(&records[..], [one] if matches!(one.event, Event::Intent { .. })), "{records:?}");
    assert_eq!(world.again().await, (Origin::Reattached, 2));
}

#[tokio::test(start_paused = true)]
async fn a_drop_between_two_submits_sends_nothing_more() {
    let world = World::new(1);
    let throttled = Faults::seeded(0).with(Operation::Submit, Fault::Throttle, 1.0);
    dropped_after(&world.over(Faulty::new(world.service.clone(), throttled)), 5.0).await;
    sleep(secs(100)).await;
    assert_eq!(world.service.effects().len(), 0);
    assert_eq!(world.again().await, (Origin::Reattached, 1));
}

#[tokio::test(start_paused = true)]
async fn a_drop_during_the_submit_still_records_the_id() {
    let world = World::new(100);
    dropped_after(&world.slow(), 5.0).await;
    assert!(!world.id_is_known().await);
    sleep(secs(10)).await;
    assert!(world.id_is_known().await);
    assert_eq!(world.again().await, (Origin::Reattached, 1));
}

#[tokio::test(start_paused = true)]
async fn a_second_call_before_the_response_submits_no_second_statement() {
    let world = World::new(100);
    dropped_after(&world.slow(), 5.0).await;
    assert_eq!(world.again().await, (Origin::Reattached, 1));
}

#[tokio::test(start_paused = true)]
async fn a_drop_during_the_wait_leaves_the_statement_running() {
    let world = World::new(100);
    dropped_after(&world.over(world.service.clone()), 50.0).await;
    assert!(world.id_is_known().await);
    assert_eq!(world.again().await, (Origin::Reattached, 1));
}

#[tokio::test(start_paused = true)]
async fn a_drop_during_the_wait_cancels_if_enabled() {
    let world = World::new(100);
    let orchestrator = world.over(world.service.clone()).with_cancel_on_drop(true);
    dropped_after(&orchestrator, 50.0).await;
    drop(orchestrator);
    sleep(secs(200)).await;
    assert_eq!(world.service.effects().len(), 0);
    let entry = world.journal.entry(&key()).await.unwrap().unwrap();
    let EntryState::Ended(ended) = &entry.state else { panic!("{entry:?}") };
    assert_eq!((&ended.status, ended.timed_out, entry.id.is_some()), (&Status::Aborted, false, true));
    let outcome = world.over(world.service.clone()).run(&key(), statement()).await.unwrap();
    assert_eq!((outcome.kind, outcome.origin), (OutcomeKind::Aborted, Origin::Journal));
}

#[tokio::test(start_paused = true)]
async fn a_drop_during_the_submit_cancels_if_enabled() {
    let world = World::new(100);
    dropped_after(&world.slow().with_cancel_on_drop(true), 5.0).await;
    sleep(secs(200)).await;
    assert_eq!(world.service.effects().len(), 0);
    let entry = world.journal.entry(&key()).await.unwrap().unwrap();
    assert!(entry.id.is_some() && matches!(entry.state, EntryState::Ended(_)), "{entry:?}");
}

#[tokio::test(start_paused = true)]
async fn a_drop_after_the_end_cancels_nothing() {
    let world = World::new(1);
    let cancels = Arc::new(AtomicBool::new(false));
    let orchestrator =
        world.over(Cancels { inner: world.service.clone(), seen: cancels.clone() }).with_cancel_on_drop(true);
    assert!(orchestrator.run(&key(), statement()).await.unwrap().is_success());
    drop(orchestrator);
    sleep(secs(10)).await;
    assert!(!cancels.load(Ordering::Relaxed));
}

/// Executor that records whether a cancel was sent.
#[derive(Debug)]
struct Cancels {
    inner: LocalExecutor<Scripted>,
    seen: Arc<AtomicBool>,
}

#[async_trait::async_trait]
impl StatementExecutor for Cancels {
    async fn submit(
        &self,
        statement: &Statement,
        wait: Option<redshift_orchestrator::WaitTime>,
    ) -> redshift_orchestrator::Result<redshift_orchestrator::Submitted> {
        self.inner.submit(statement, wait).await
    }

    async fn describe(
        &self,
        id: &redshift_orchestrator::StatementId,
        wait: Option<redshift_orchestrator::WaitTime>,
    ) -> redshift_orchestrator::Result<redshift_orchestrator::Description> {
        self.inner.describe(id, wait).await
    }

    async fn cancel(&self, id: &redshift_orchestrator::StatementId) -> redshift_orchestrator::Result<bool> {
        self.seen.store(true, Ordering::Relaxed);
        self.inner.cancel(id).await
    }

    async fn result(
        &self,
        id: &redshift_orchestrator::StatementId,
        page: Option<redshift_orchestrator::PageToken>,
    ) -> redshift_orchestrator::Result<redshift_orchestrator::ResultPage> {
        self.inner.result(id, page).await
    }

    async fn list(
        &self,
        filter: &redshift_orchestrator::StatementFilter,
        page: Option<redshift_orchestrator::PageToken>,
    ) -> redshift_orchestrator::Result<redshift_orchestrator::StatementPage> {
        self.inner.list(filter, page).await
    }

    fn target(&self) -> Option<redshift_orchestrator::Target> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_pipeline_cancels_active_statements_if_enabled() {
    let world = World::new(100);
    let pipeline = Pipeline::builder("nightly")
        .with_concurrency(2)
        .with_step(Step::sql("a", "CALL a()"))
        .with_step(Step::sql("b", "CALL b()"))
        .with_step(Step::sql("c", "CALL c()").after(["a".to_owned()]))
        .build()
        .unwrap();
    let orchestrator = world.over(Fleet::new(world.service.clone())).with_cancel_on_drop(true);
    let run = pipeline.run(&orchestrator, redshift_orchestrator::Run::new("run"));
    assert!(timeout(secs(50), run).await.is_err());
    sleep(secs(500)).await;
    assert_eq!(world.service.effects(), []);
    let entries = world.journal.entries("run").await.unwrap();
    assert_eq!(entries.len(), 2);
    assert!(
        entries
            .iter()
            .all(|entry| matches!(&entry.state, EntryState::Ended(ended) if ended.status == Status::Aborted))
    );
}

#[tokio::test(start_paused = true)]
async fn an_attempt_can_be_cancelled_by_its_key() {
    let world = World::new(100);
    let orchestrator = world.over(world.service.clone());
    let error = orchestrator.cancel(&key()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let running = tokio::spawn({
        let orchestrator = orchestrator.clone();
        async move { orchestrator.run(&key(), statement()).await.unwrap() }
    });
    sleep(secs(50)).await;
    assert!(matches!(orchestrator.cancel(&key()).await.unwrap(), CancelOutcome::Cancelled(_)));
    assert_eq!(running.await.unwrap().kind, OutcomeKind::Aborted);
    assert_eq!(orchestrator.cancel(&key()).await.unwrap_err().kind(), ErrorKind::Invalid);
}
