//! Every row of the recovery table in the documentation of the journal, and other outcomes of a single
//! statement.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use redshift_data_local::{self as local, Fault, Faults, Faulty, LocalExecutor, Operation, Script, Scripted};
use redshift_orchestrator::{
    AttemptOptions, Clock, Error, ErrorKind, FailureKind, Orchestrator, Origin, Outcome, OutcomeKind,
    PageToken, Pipeline, Result, Run, Statement, StatementExecutor, StatementFilter, StatementId,
    StatementPage, Status, StepKey, Submitted, TokioClock, UnknownReason, WaitTime,
    jiff::{SignedDuration, Timestamp},
    journal::{EntryState, Event, Journal, MemoryJournal, Record, SettledOutcome},
    layer::{Limit, Rate, Request, RequestRates, Retry},
    pipeline::{OnFailure, RetryPolicy, Step},
    wait::{Durations, Fixed, Learned},
};
use tokio::time::{Instant, sleep};

use crate::{
    dying::Dying,
    executor,
    intercept::{Intercept, Intercepted},
    support::{Prepared, fails, now},
};

fn timed_out(timeout: Duration) -> OutcomeKind {
    OutcomeKind::TimedOut { timeout, cancel_pending: false }
}

fn within(timeout: Duration) -> AttemptOptions {
    AttemptOptions::default().with_timeout(timeout)
}

/// Scripted service, journal and clock that several simulated processes share.
struct World {
    service: LocalExecutor<Scripted>,
    journal: MemoryJournal,
    clock: TokioClock,
}

impl World {
    fn new(script: Script) -> Self {
        let epoch = "2026-11-23T06:30:00Z".parse().unwrap();
        Self {
            service: LocalExecutor::scripted(script.starting_at(epoch)),
            journal: MemoryJournal::new(),
            clock: TokioClock::starting_at(epoch),
        }
    }

    /// Creates an orchestrator for a new process.
    fn orchestrator(&self) -> Orchestrator {
        self.over(self.service.clone())
    }

    fn over(&self, executor: impl StatementExecutor + 'static) -> Orchestrator {
        Orchestrator::new(executor).with_journal(self.journal.clone()).with_clock(self.clock)
    }

    /// Runs the statement until the process dies at append number `death` to its journal, counted from 0.
    /// With `after`, the append takes effect first.
    async fn die_at(&self, death: usize, after: bool) {
        let (journal, _) = Dying::at(self.journal.clone(), death, after);
        let orchestrator =
            Orchestrator::new(self.service.clone()).with_journal(journal).with_clock(self.clock);
        let key = key();
        let run = orchestrator.run(&key, statement());
        assert!(
            tokio::time::timeout(Duration::from_secs(3_600), run).await.is_err(),
            "the process did not die"
        );
    }

    fn effects(&self) -> usize {
        self.service.effects().len()
    }
}

fn key() -> StepKey {
    StepKey::new("run", "step")
}

fn statement() -> Statement {
    Statement::sql("CALL load()")
}

fn hours(hours: f64) -> Duration {
    Duration::from_secs_f64(hours * 3_600.0)
}

fn unknown(outcome: &Outcome) -> Option<UnknownReason> {
    match &outcome.kind {
        OutcomeKind::Unknown(unknown) => Some(unknown.reason),
        _ => None,
    }
}

/// Runs the statement in a process that dies, and `down` hours later in another process. Returns the origin
/// of the second outcome, or the reason why it is unknown, and the total number of effects.
async fn found(death: usize, after: bool, down: f64) -> (std::result::Result<Origin, UnknownReason>, usize) {
    let world =
        World::new(Script::new().otherwise(local::ScriptedExecution::finished(Duration::from_secs(60))));
    world.die_at(death, after).await;
    sleep(hours(down)).await;
    let outcome = world.orchestrator().run(&key(), statement()).await.unwrap();
    let found = unknown(&outcome).map_or(Ok(outcome.origin), Err);
    sleep(hours(1.0)).await;
    (found, world.effects())
}

// Append 0 is the intent, append 1 the id, and append 2 the outcome. `die_at` itself takes an hour.

#[tokio::test(start_paused = true)]
async fn a_death_before_the_intent_was_recorded_has_no_effect() {
    for down in [0.0, 10.0, 30.0] {
        assert_eq!(found(0, false, down).await, (Ok(Origin::Submitted), 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_death_before_the_submit_is_settled_by_the_token_for_8_hours_and_then_unknown() {
    assert_eq!(found(0, true, 0.1).await, (Ok(Origin::Reattached), 1));
    assert_eq!(found(0, true, 6.5).await, (Ok(Origin::Reattached), 1));
    assert_eq!(found(0, true, 8.0).await, (Err(UnknownReason::NotListed), 0));
    assert_eq!(found(0, true, 24.0).await, (Err(UnknownReason::SubmitTooOld), 0));
}

#[tokio::test(start_paused = true)]
async fn a_death_after_the_submit_is_settled_by_token_then_by_name_then_unknown() {
    assert_eq!(found(1, false, 0.1).await, (Ok(Origin::Reattached), 1));
    assert_eq!(found(1, false, 8.0).await, (Ok(Origin::Reattached), 1));
    assert_eq!(found(1, false, 24.0).await, (Err(UnknownReason::SubmitTooOld), 1));
}

/// Regression: a process whose clock had been set back took an old intent for a recent one and submitted the
/// statement again, although the service had forgotten the token.
#[tokio::test(start_paused = true)]
async fn an_intent_from_the_future_is_not_submitted_again() {
    let world =
        World::new(Script::new().otherwise(local::ScriptedExecution::finished(Duration::from_secs(60))));
    // The clock of the first process is ahead by 12 hours. The process dies after the submit.
    let (journal, _) = Dying::at(world.journal.clone(), 1, false);
    let ahead = TokioClock::starting_at("2026-11-23T18:30:00Z".parse().unwrap());
    let first = Orchestrator::new(world.service.clone()).with_journal(journal).with_clock(ahead);
    assert!(tokio::time::timeout(hours(1.0), first.run(&key(), statement())).await.is_err());
    sleep(hours(9.0)).await;
    // At the second call, the clock is no longer behind the intent.
    for wait in [hours(3.0), hours(0.0)] {
        let outcome = world.orchestrator().run(&key(), statement()).await.unwrap();
        assert_eq!(unknown(&outcome), Some(UnknownReason::NoResponse), "{}", outcome.kind);
        assert!(outcome.kind.to_string().contains("the clock was set back"), "{}", outcome.kind);
        sleep(wait).await;
    }
    assert_eq!(world.effects(), 1);
}

/// Regression: in a busy account, a listing took longer than a minute and always timed out, so the outcome of
/// the statement was unknown.
#[tokio::test(start_paused = true)]
async fn a_listing_may_take_longer_than_a_minute() {
    let world =
        World::new(Script::new().otherwise(local::ScriptedExecution::finished(Duration::from_secs(60))));
    world.die_at(1, false).await;
    sleep(hours(10.0)).await;
    let orchestrator = world.over(executor::Intercepted(SlowListing::new(&world.service, 0)));
    let outcome = orchestrator.run(&key(), statement()).await.unwrap();
    assert!(outcome.is_success(), "{}", outcome.kind);
    assert_eq!(outcome.requests.lists, 1);
}

/// Regression: a repeated submit waited for a permit until its client token had expired, and the statement
/// ran twice.
#[tokio::test(start_paused = true)]
async fn a_submit_that_may_have_taken_effect_is_not_sent_after_its_token_expired() {
    let script = Script::new()
        .on("CALL long()", local::ScriptedExecution::finished(hours(10.0)))
        .otherwise(local::ScriptedExecution::finished(Duration::from_secs(60)));
    let world = World::new(script);
    world.die_at(1, false).await;
    assert_eq!(world.effects(), 1);
    sleep(hours(6.5)).await;
    let full = Arc::new(Limit::new(world.service.clone(), 1));
    let long = full.submit(&Statement::sql("CALL long()"), None).await.unwrap();
    let outcome = world.over(full).run(&key(), statement()).await.unwrap();
    assert!(outcome.is_success(), "{}", outcome.kind);
    assert_eq!(outcome.origin, Origin::Reattached);
    assert!(!world.service.describe(&long.id, None).await.unwrap().status.is_terminal());
    assert_eq!(world.service.effects().iter().filter(|effect| effect.sql == "CALL load()").count(), 1);
}

/// Regression: the timeout of a resumed statement was counted from its intent, so a statement that had waited
/// in a queue was cancelled at once.
#[tokio::test(start_paused = true)]
async fn the_timeout_of_a_resumed_statement_is_counted_from_its_submit() {
    let script = Script::new()
        .on("CALL long()", local::ScriptedExecution::finished(hours(2.0)))
        .otherwise(local::ScriptedExecution::finished(hours(0.5)));
    let world = World::new(script);
    let full = Arc::new(Limit::new(world.service.clone(), 1));
    full.submit(&Statement::sql("CALL long()"), None).await.unwrap();
    let queued = world.over(full);
    let (key, limit) = (key(), hours(1.0));
    let died = tokio::time::timeout(hours(2.4), queued.run_with(&key, statement(), within(limit)));
    assert!(died.await.is_err(), "the process dies while the statement runs");
    let outcome = world.orchestrator().run_with(&key, statement(), within(limit)).await.unwrap();
    assert!(outcome.is_success(), "{}", outcome.kind);
    assert_eq!(outcome.origin, Origin::Reattached);
}

/// Regression: only the record of an earlier process had the time of the submit, so the timeout of a statement
/// that was submitted by its token or found by its name was counted from the intent.
#[tokio::test(start_paused = true)]
async fn the_timeout_of_a_statement_found_again_is_counted_from_the_record_of_its_id() {
    // The process dies before the submit, or before the record of the id. An hour later, the next process uses
    // the token; nine hours later, the name.
    for (death, after, down, takes) in [(0, true, 0.0, 0.2), (1, false, 0.0, 1.2), (1, false, 8.0, 9.2)] {
        let world = World::new(Script::new().otherwise(local::ScriptedExecution::finished(hours(takes))));
        world.die_at(death, after).await;
        sleep(hours(down)).await;
        let outcome = world.orchestrator().run_with(&key(), statement(), within(hours(0.5))).await.unwrap();
        assert!(outcome.is_success(), "{takes} hours: {}", outcome.kind);
    }
}

#[tokio::test(start_paused = true)]
async fn the_intent_of_a_submit_in_a_queue_is_recorded_again_before_its_token_expires() {
    let script = Script::new()
        .on("CALL long()", local::ScriptedExecution::finished(hours(20.0)))
        .otherwise(local::ScriptedExecution::finished(Duration::from_secs(60)));
    let world = World::new(script);
    let full = Arc::new(Limit::new(world.service.clone(), 1));
    full.submit(&Statement::sql("CALL long()"), None).await.unwrap();
    let outcome = world.over(full).run(&key(), statement()).await.unwrap();
    assert!(outcome.is_success(), "{}", outcome.kind);
    assert_eq!(outcome.origin, Origin::Submitted);
    let records = world.journal.records();
    let intents = records.iter().filter(|record| matches!(record.event, Event::Intent { .. })).count();
    assert_eq!(intents, 3);
    assert_eq!(world.service.effects().iter().filter(|effect| effect.sql == "CALL load()").count(), 1);
}

/// Clock that moves ahead of the runtime's clock at an instant, because the machine sleeps for some hours.
#[derive(Clone, Copy, Debug)]
struct Asleep {
    clock: TokioClock,
    at: Instant,
    hours: i64,
}

impl Clock for Asleep {
    fn now(&self) -> Timestamp {
        let slept = if Instant::now() < self.at { 0 } else { self.hours };
        self.clock.now() + SignedDuration::from_hours(slept)
    }
}

/// Regression: the age of the token was checked before the pause, and the runtime's clock stops while the
/// machine sleeps.
#[tokio::test(start_paused = true)]
async fn a_submit_is_not_repeated_if_its_token_expired_while_the_machine_slept() {
    let mut submits = BTreeSet::new();
    for seconds in 1..100 {
        let world = World::new(Script::new());
        let falls_asleep = Instant::now() + Duration::from_secs(seconds);
        let faults = Faults::seeded(1).with(Operation::Submit, Fault::LostReply, 1.0);
        let sent = Arc::new(Mutex::new(Vec::new()));
        let times = sent.clone();
        let faulty = Faulty::new(world.service.clone(), faults)
            .with_on_submitted(move |_, _| times.lock().unwrap().push(Instant::now()));
        let clock = Asleep { clock: world.clock, at: falls_asleep, hours: 9 };
        let orchestrator = world.over(faulty).with_clock(clock);
        let outcome = orchestrator.run(&key(), statement()).await.unwrap();
        assert!(outcome.is_success(), "{outcome:?}");
        submits.insert(outcome.requests.submits);
        let late = sent.lock().unwrap().iter().filter(|at| **at > falls_asleep).count();
        assert_eq!(late, 0, "asleep after {seconds} s");
    }
    assert!(submits.len() > 2, "{submits:?}");
}

/// Service whose responses to submits with a client token are lost.
#[derive(Debug)]
struct NoResponses {
    service: LocalExecutor<Scripted>,
    /// Times at which these submits took effect.
    sent: Arc<Mutex<Vec<Instant>>>,
}

impl NoResponses {
    fn of(world: &World) -> (executor::Intercepted<Self>, Arc<Mutex<Vec<Instant>>>) {
        let sent = Arc::<Mutex<Vec<Instant>>>::default();
        (executor::Intercepted(Self { service: world.service.clone(), sent: sent.clone() }), sent)
    }
}

#[async_trait]
impl executor::Intercept for NoResponses {
    fn inner(&self) -> &dyn StatementExecutor {
        &self.service
    }

    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let submitted = self.service.submit(statement, wait).await?;
        if statement.client_token().is_none() {
            return Ok(submitted);
        }
        self.sent.lock().unwrap().push(Instant::now());
        Err(Error::new(ErrorKind::Disconnected, "no response"))
    }
}

/// Sends at most one submit per second. Further submits wait in a queue.
fn one_per_second<E: StatementExecutor>(executor: E) -> Rate<E> {
    Rate::new(executor, RequestRates::default().with(Request::ExecuteStatement, 1))
}

/// Regression: a retry below the orchestrator replaced the expiry of the submit by a later one, and the
/// statement could run twice.
#[tokio::test(start_paused = true)]
async fn a_retry_below_the_orchestrator_does_not_delay_the_expiry_of_a_submit() {
    let mut sent_in_time = BTreeSet::new();
    for tenths in 1..100 {
        let world = World::new(Script::new());
        // The intent is 7.5 hours old, so the token expires in 15 minutes.
        world.die_at(0, true).await;
        sleep(hours(6.5)).await;
        let falls_asleep = Instant::now() + Duration::from_millis(100 * tenths);
        let clock = Asleep { clock: world.clock, at: falls_asleep, hours: 1 };
        let (service, sent) = NoResponses::of(&world);
        let retry = Retry::new(Limit::new(one_per_second(service), 1)).with_clock(clock);
        let outcome = world.over(retry).with_clock(clock).run(&key(), statement()).await.unwrap();
        assert!(outcome.is_success(), "{outcome:?}");
        let sent = sent.lock().unwrap();
        let late = sent.iter().filter(|at| **at >= falls_asleep).count();
        assert_eq!(late, 0, "asleep after {tenths} tenths of a second");
        sent_in_time.insert(sent.len());
    }
    assert!(sent_in_time.len() > 2, "{sent_in_time:?}");
}

/// Regression: in the last minute before its token expired, a queued submit got a later expiry, although an
/// earlier submit may have taken effect.
#[tokio::test(start_paused = true)]
async fn a_repeated_submit_in_a_queue_keeps_its_expiry() {
    for (falls_asleep, hours_asleep) in [(810, 1), (850, 1), (870, 1), (870, 0)] {
        let long = local::ScriptedExecution::finished(Duration::from_secs(870));
        let world = World::new(Script::new().on("CALL long()", long));
        world.die_at(0, true).await;
        let before = Duration::from_secs(25);
        sleep(hours(6.5) - before).await;
        let full = Limit::new(world.service.clone(), 1);
        full.submit(&Statement::sql("CALL long()"), None).await.unwrap();
        sleep(before).await;
        // The token expires in 900 seconds. The long statement ends after 845 seconds, and its permit is free
        // after 875 seconds, when the layer describes the statement.
        let at = Instant::now() + Duration::from_secs(falls_asleep);
        let clock = Asleep { clock: world.clock, at, hours: hours_asleep };
        let outcome = world.over(full).with_clock(clock).run(&key(), statement()).await.unwrap();
        let is_sent = world.service.effects().iter().any(|effect| effect.sql == "CALL load()");
        assert_eq!(
            (is_sent, outcome.is_success()),
            (hours_asleep == 0, is_sent),
            "{falls_asleep}: {outcome:?}"
        );
    }
}

/// Clock of a machine that sleeps for seven hours, some time after the first response was lost.
#[derive(Clone, Debug)]
struct AsleepAfterLoss {
    clock: TokioClock,
    sent: Arc<Mutex<Vec<Instant>>>,
    delay: Duration,
}

impl Clock for AsleepAfterLoss {
    fn now(&self) -> Timestamp {
        let first = self.sent.lock().unwrap().first().copied();
        let is_later = first.is_some_and(|first| first + self.delay <= Instant::now());
        self.clock.now() + SignedDuration::from_hours(if is_later { 7 } else { 0 })
    }
}

/// The expiry of the orchestrator passes before that of the retry, which must then report that its first
/// submit may have taken effect.
#[tokio::test(start_paused = true)]
async fn an_expired_repetition_of_an_uncertain_submit_is_looked_up_by_name() {
    for tenths in 0..20 {
        let world = World::new(
            Script::new()
                .on("CALL long()", local::ScriptedExecution::finished(hours(1.0)))
                .otherwise(local::ScriptedExecution::finished(Duration::from_secs(60))),
        );
        let (service, sent) = NoResponses::of(&world);
        let full = Limit::new(one_per_second(service), 1);
        full.submit(&Statement::sql("CALL long()"), None).await.unwrap();
        // The first submit waits for an hour.
        let delay = Duration::from_millis(100 * tenths);
        let clock = AsleepAfterLoss { clock: world.clock, sent, delay };
        let retry = Retry::new(full).with_clock(clock.clone());
        let outcome = world.over(retry).with_clock(clock).run(&key(), statement()).await.unwrap();
        assert!(outcome.is_success(), "{tenths}: {outcome:?}");
        let effects = world.service.effects();
        assert_eq!(effects.iter().filter(|effect| effect.sql == "CALL load()").count(), 1, "{tenths}");
    }
}

/// Regression: the time for retries was counted from the begin of the search.
#[tokio::test(start_paused = true)]
async fn a_throttled_page_is_requested_again_although_the_search_takes_long() {
    let world =
        World::new(Script::new().otherwise(local::ScriptedExecution::finished(Duration::from_secs(60))));
    world.die_at(1, false).await;
    sleep(hours(10.0)).await;
    let orchestrator = world.over(executor::Intercepted(SlowListing::new(&world.service, 11)));
    let outcome = orchestrator.run(&key(), statement()).await.unwrap();
    assert!(outcome.is_success(), "{}", outcome.kind);
    assert_eq!(outcome.requests.lists, 13);
}

/// Service whose listings take 100 s for each page. Before the page with the statements, there are `empty`
/// ones; the first request after these is throttled.
#[derive(Debug)]
struct SlowListing {
    service: LocalExecutor<Scripted>,
    empty: usize,
    requests: AtomicUsize,
}

impl SlowListing {
    fn new(service: &LocalExecutor<Scripted>, empty: usize) -> Self {
        Self { service: service.clone(), empty, requests: AtomicUsize::new(0) }
    }
}

#[async_trait]
impl executor::Intercept for SlowListing {
    fn inner(&self) -> &dyn StatementExecutor {
        &self.service
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        sleep(Duration::from_secs(100)).await;
        let request = self.requests.fetch_add(1, Ordering::Relaxed);
        if request < self.empty {
            return Ok(StatementPage::new(Vec::new(), Some(PageToken::new(request.to_string()))));
        }
        if self.empty > 0 && request == self.empty {
            return Err(Error::new(ErrorKind::Throttled, "rate exceeded"));
        }
        self.service.list(filter, page.filter(|_| self.empty == 0)).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_death_while_the_statement_ran_is_settled_by_its_id_for_24_hours() {
    for (death, after) in [(1, true), (2, false)] {
        assert_eq!(found(death, after, 0.1).await, (Ok(Origin::Reattached), 1));
        assert_eq!(found(death, after, 22.0).await, (Ok(Origin::Reattached), 1));
        assert_eq!(found(death, after, 26.0).await, (Err(UnknownReason::RecordExpired), 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_death_after_the_outcome_was_recorded_has_no_effect() {
    assert_eq!(found(2, true, 0.1).await, (Ok(Origin::Journal), 1));
    assert_eq!(found(2, true, 1_000.0).await, (Ok(Origin::Journal), 1));
}

#[tokio::test(start_paused = true)]
async fn concurrent_calls_for_one_key_are_one_statement() {
    let world =
        World::new(Script::new().otherwise(local::ScriptedExecution::finished(Duration::from_secs(60))));
    let orchestrator = world.orchestrator();
    let key = key();
    // The calls pass different statements with the same key.
    let calls = (0..8).map(|call| {
        let sql = if call % 2 == 0 { "CALL load()" } else { "CALL other()" };
        orchestrator.run(&key, Statement::sql(sql))
    });
    let outcomes = futures::future::try_join_all(calls).await.unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.is_success() && outcome.id == outcomes[0].id));
    assert_eq!(outcomes.iter().map(|outcome| outcome.requests.submits).sum::<u32>(), 1);
    assert_eq!(world.effects(), 1);
}

/// Regression: the journal contained the id from one call, and then the rejection of another call's submit.
/// The rejection took precedence, and hours later the statement was submitted again.
#[tokio::test(start_paused = true)]
async fn a_rejection_does_not_hide_the_id_that_another_call_received() {
    for seed in 0..50 {
        let world = World::new(
            Script::new().otherwise(local::ScriptedExecution::finished(Duration::from_secs(3_600))),
        );
        let faults = Faults::seeded(seed).with(Operation::Submit, Fault::Throttle, 0.6);
        let faulty = Faulty::new(world.service.clone(), faults);
        let orchestrator = world.over(faulty).with_retry_timeout(Duration::from_secs(2));
        let key = key();
        let calls = (0..4).map(|_| orchestrator.run(&key, statement()));
        // The process dies while the statement runs.
        let died = tokio::time::timeout(Duration::from_secs(1_800), futures::future::join_all(calls)).await;
        if died.is_ok() {
            assert_eq!(world.effects(), 0, "seed {seed}: all submits were rejected");
            continue;
        }
        let entry = world.journal.entry(&key).await.unwrap().unwrap();
        assert!(entry.id.is_some() && entry.state == EntryState::Open, "seed {seed}: {entry:?}");
        sleep(hours(9.0)).await;
        assert!(world.orchestrator().run(&key, statement()).await.unwrap().is_success());
        assert_eq!(world.effects(), 1, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_statement_runs_once_although_responses_are_lost() {
    let world = World::new(Script::new());
    let faults = Faults::seeded(1).with(Operation::Submit, Fault::LostReply, 0.9);
    let outcome =
        world.over(Faulty::new(world.service.clone(), faults)).run(&key(), statement()).await.unwrap();
    assert!(outcome.is_success() && outcome.requests.submits > 1, "{outcome:?}");
    assert_eq!(world.effects(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_submit_without_a_response_is_looked_up_by_name() {
    // All responses to submits are lost until the retry timeout of the orchestrator.
    let world = World::new(Script::new());
    let faults = Faults::seeded(1).with(Operation::Submit, Fault::LostReply, 1.0);
    let outcome =
        world.over(Faulty::new(world.service.clone(), faults)).run(&key(), statement()).await.unwrap();
    assert!(outcome.is_success(), "{outcome:?}");
    assert_eq!((outcome.origin, outcome.requests.lists, world.effects()), (Origin::Reattached, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_uncertain_submit_without_a_listing_is_unknown_and_names_the_manual_checks() {
    let world = World::new(Script::new());
    let faults = Faults::seeded(1).with(Operation::Submit, Fault::LostRequest, 1.0);
    let outcome =
        world.over(Faulty::new(world.service.clone(), faults)).run(&key(), statement()).await.unwrap();
    let OutcomeKind::Unknown(unknown) = &outcome.kind else { panic!("{outcome:?}") };
    assert_eq!(unknown.reason, UnknownReason::NoResponse);
    insta::assert_snapshot!(format!("{}\n{}", outcome.kind, unknown.manual_check()));
    // The service responds again while the client token is still valid, so the next process can prove the
    // outcome.
    let outcome = world.orchestrator().run(&key(), statement()).await.unwrap();
    assert!(outcome.is_success(), "{outcome:?}");
    assert_eq!(world.effects(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_submit_that_was_not_sent_is_an_error_and_can_be_repeated() {
    let world = World::new(Script::new());
    let faults = Faults::seeded(1).with(Operation::Submit, Fault::Throttle, 1.0);
    let error =
        world.over(Faulty::new(world.service.clone(), faults)).run(&key(), statement()).await.unwrap_err();
    assert_eq!((error.kind(), error.context("step")), (ErrorKind::Throttled, Some("run/step/1")));
    let entry = world.journal.entry(&key()).await.unwrap().unwrap();
    assert!(matches!(entry.state, EntryState::NotSubmitted(_)), "{entry:?}");
    let outcome = world.orchestrator().run(&key(), statement()).await.unwrap();
    assert_eq!((outcome.is_success(), outcome.origin), (true, Origin::Submitted));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_settled_by_an_operator() {
    for (found, effects) in
        [(SettledOutcome::Finished, 0), (SettledOutcome::Failed, 0), (SettledOutcome::NeverRan, 1)]
    {
        let world = World::new(Script::new());
        world.die_at(0, true).await;
        sleep(hours(30.0)).await;
        let orchestrator = world.orchestrator();
        for _ in 0..3 {
            let outcome = orchestrator.run(&key(), statement()).await.unwrap();
            assert_eq!(unknown(&outcome), Some(UnknownReason::SubmitTooOld));
        }
        orchestrator.settle(&key(), found).await.unwrap();
        let outcome = orchestrator.run(&key(), statement()).await.unwrap();
        assert_eq!(outcome.is_success(), found != SettledOutcome::Failed);
        assert_eq!(world.effects(), effects);
        let again = orchestrator.settle(&key(), SettledOutcome::Finished).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Invalid);
    }
}

#[tokio::test(start_paused = true)]
async fn a_redefined_step_does_not_run_concurrently_with_its_old_statement() {
    let world = World::new(Script::new());
    // The statement of the old definition was submitted, but its id was not recorded. It is found by its
    // name.
    world.die_at(1, false).await;
    let outcome = world.orchestrator().run(&key(), Statement::sql("CALL load_better()")).await.unwrap();
    assert_eq!((outcome.is_success(), outcome.origin), (true, Origin::Reattached));
    assert_eq!(world.service.effects()[0].sql, "CALL load()");
    assert_eq!(world.effects(), 1);
    // Here the statement was not submitted, but that cannot be proved.
    let world = World::new(Script::new());
    world.die_at(0, true).await;
    let outcome = world.orchestrator().run(&key(), Statement::sql("CALL load_better()")).await.unwrap();
    assert_eq!(unknown(&outcome), Some(UnknownReason::Redefined));
    assert_eq!(world.effects(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_statement_is_cancelled_after_its_timeout_and_has_no_effect() {
    let world = World::new(Script::new().otherwise(local::ScriptedExecution::finished(hours(2.0))));
    let limit = Duration::from_secs(90);
    let outcome = world.orchestrator().run_with(&key(), statement(), within(limit)).await.unwrap();
    assert_eq!(outcome.kind, timed_out(limit));
    assert_eq!(outcome.failure(), Some(FailureKind::TimedOut));
    sleep(hours(3.0)).await;
    assert_eq!(world.effects(), 0);
    // The journal contains the same outcome.
    let again = world.orchestrator().run_with(&key(), statement(), within(limit)).await.unwrap();
    assert_eq!((again.kind, again.origin), (timed_out(limit), Origin::Journal));
}

#[tokio::test(start_paused = true)]
async fn a_statement_that_ended_before_its_cancellation_keeps_its_ending() {
    // First case: the response to the submit is late, and the statement has ended before a cancel is sent.
    // Second case: the statement ends while the cancel is in flight.
    let world =
        World::new(Script::new().otherwise(local::ScriptedExecution::finished(Duration::from_secs(65))));
    let slow = Faults::seeded(0).with(Operation::Submit, Fault::Delay(Duration::from_secs(6)), 1.0);
    let slow = Faulty::new(world.service.clone(), slow);
    let outcome =
        world.over(slow).run_with(&key(), statement(), within(Duration::from_secs(60))).await.unwrap();
    assert_eq!((&outcome.kind, outcome.requests.cancels), (&OutcomeKind::Finished, 0));
    let world =
        World::new(Script::new().otherwise(local::ScriptedExecution::finished(Duration::from_secs(65))));
    let late = executor::Intercepted(LateCancel(world.service.clone()));
    let outcome =
        world.over(late).run_with(&key(), statement(), within(Duration::from_secs(60))).await.unwrap();
    assert_eq!((&outcome.kind, outcome.requests.cancels), (&OutcomeKind::Finished, 1));
    assert_eq!(world.effects(), 1);
}

/// Creates a service that accepts the cancel of a running statement, and aborts the statement some minutes
/// later.
fn rolling_back(minutes: usize) -> Prepared {
    // One response for each poll: the statement is polled once a minute, starting before its timeout.
    let polls = std::iter::repeat_n(now(Status::Started), minutes + 2);
    Prepared::new(polls.chain([now(Status::Aborted)]), [now(true)])
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

impl World {
    /// Creates an orchestrator that polls once a minute.
    fn polling(&self, executor: impl StatementExecutor + 'static) -> Orchestrator {
        self.over(executor).with_strategy(Fixed::new(minutes(1)))
    }
}

/// Regression: the outcome was unknown at first, and aborted after a resume. A retry on `timed-out` was
/// therefore not applied.
#[tokio::test(start_paused = true)]
async fn a_statement_with_a_long_rollback_is_timed_out() {
    let world = World::new(Script::new());
    let limit = minutes(2);
    let outcome = world.polling(rolling_back(10)).run_with(&key(), statement(), within(limit)).await.unwrap();
    assert_eq!(outcome.kind, timed_out(limit));
    assert_eq!(outcome.failure(), Some(FailureKind::TimedOut));
    assert!(!outcome.may_still_run());
}

#[tokio::test(start_paused = true)]
async fn a_pending_cancellation_is_timed_out_and_leaves_the_attempt_open() {
    let world = World::new(Script::new());
    let limit = minutes(2);
    let slow = world.polling(rolling_back(10)).with_cancel_grace(minutes(5));
    let outcome = slow.run_with(&key(), statement(), within(limit)).await.unwrap();
    assert_eq!(outcome.kind, OutcomeKind::TimedOut { timeout: limit, cancel_pending: true });
    assert!(outcome.may_still_run());
    let entry = world.journal.entry(&key()).await.unwrap().unwrap();
    assert_eq!((entry.state, entry.overdue), (EntryState::Open, true));
    // The next process finds the statement aborted. It reports a timeout, and submits no other statement.
    let ended = world.over(Prepared::new([now(Status::Aborted)], [now(false)]));
    let outcome = ended.run_with(&key(), statement(), within(limit)).await.unwrap();
    assert_eq!((&outcome.kind, outcome.origin), (&timed_out(limit), Origin::Reattached));
    let outcome =
        world.over(world.service.clone()).run_with(&key(), statement(), within(limit)).await.unwrap();
    assert_eq!((outcome.kind, outcome.origin), (timed_out(limit), Origin::Journal));
}

/// Regression: the outcome was unknown, because the next process did not know that the cancel was accepted.
#[tokio::test(start_paused = true)]
async fn a_pending_cancellation_is_known_to_the_next_process() {
    let world = World::new(Script::new());
    let limit = minutes(2);
    let slow = world.polling(rolling_back(1_000)).with_cancel_grace(minutes(5));
    let pending = OutcomeKind::TimedOut { timeout: limit, cancel_pending: true };
    assert_eq!(slow.run_with(&key(), statement(), within(limit)).await.unwrap().kind, pending);
    let entry = world.journal.entry(&key()).await.unwrap().unwrap();
    assert_eq!((entry.state, entry.cancel_pending), (EntryState::Open, true));
    // It rolls back, and every further cancel is lost.
    for polls in [now(Status::Started), fails(ErrorKind::Disconnected)] {
        let lost = Prepared::new([polls], [fails(ErrorKind::Disconnected)]);
        let outcome = world.polling(lost).run_with(&key(), statement(), within(limit)).await.unwrap();
        assert_eq!(outcome.kind, pending);
    }
    let records = world.journal.records();
    let count = records.iter().filter(|record| record.event == Event::CancelPending).count();
    assert_eq!(count, 1, "it is recorded once");
}

#[tokio::test(start_paused = true)]
async fn a_death_during_a_rollback_leaves_a_statement_that_timed_out() {
    let world = World::new(Script::new());
    let limit = minutes(2);
    let orchestrator = world.polling(rolling_back(1_000));
    let key = key();
    let run = orchestrator.run_with(&key, statement(), within(limit));
    assert!(tokio::time::timeout(minutes(4), run).await.is_err(), "the rollback is not over");
    let ended = world.over(Prepared::new([now(Status::Aborted)], [now(false)]));
    let outcome = ended.run_with(&key, statement(), within(limit)).await.unwrap();
    assert_eq!(outcome.failure(), Some(FailureKind::TimedOut), "{outcome:?}");
    // A statement that was aborted before its timeout did not time out.
    let world = World::new(Script::new());
    let aborted = world.over(Prepared::new([now(Status::Aborted)], [now(false)]));
    let outcome = aborted.run_with(&key, statement(), within(limit)).await.unwrap();
    assert_eq!(outcome.kind, OutcomeKind::Aborted);
}

/// A retry during a rollback could run two statements of one step at the same time.
#[tokio::test(start_paused = true)]
async fn a_step_is_not_repeated_while_its_cancellation_is_pending() {
    // The service aborts the second attempt immediately.
    for (grace, statuses, attempts) in [(5, ["timed out", "skipped"], 1), (15, ["aborted", "aborted"], 2)] {
        let world = World::new(Script::new());
        let prepared = Arc::new(rolling_back(10));
        let orchestrator = world.polling(prepared.clone()).with_cancel_grace(minutes(grace));
        let step = Step::sql("load", "CALL load()")
            .with_timeout(minutes(2))
            .with_retry(RetryPolicy::new(2).on([FailureKind::TimedOut]))
            .with_on_failure(OnFailure::Continue);
        let after = Step::sql("after", "SELECT 1").after(["load"]);
        let pipeline = Pipeline::builder("p").with_step(step).with_step(after).build().unwrap();
        let report = pipeline.run(&orchestrator, Run::new("r")).await.unwrap();
        assert_eq!(report.step("load").unwrap().attempts.len(), attempts, "{report}");
        let found: Vec<_> = report.steps().iter().map(|step| step.status.as_str()).collect();
        assert_eq!(found, statuses, "{report}");
        assert_eq!(report.to_string().contains("`resume` waits for its end"), grace == 5, "{report}");
    }
}

/// Service that rejects the first submits because of expired credentials.
#[derive(Debug)]
struct ExpiredCredentials {
    inner: LocalExecutor<Scripted>,
    submits: Mutex<usize>,
}

#[async_trait]
impl executor::Intercept for ExpiredCredentials {
    fn inner(&self) -> &dyn StatementExecutor {
        &self.inner
    }

    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let is_expired = {
            let mut submits = self.submits.lock().unwrap();
            *submits = submits.saturating_sub(1);
            *submits > 0
        };
        match is_expired {
            true => Err(Error::new(ErrorKind::CredentialsExpired, "the security token is expired")),
            false => self.inner.submit(statement, wait).await,
        }
    }
}

/// Regression: a step failed immediately if the credentials had expired at its submit, although they were
/// renewed soon after.
#[tokio::test(start_paused = true)]
async fn a_submit_with_expired_credentials_counts_as_not_sent_and_is_repeated() {
    for (times, is_accepted) in [(3, true), (1_000, false)] {
        let world = World::new(Script::new());
        let expired = ExpiredCredentials { inner: world.service.clone(), submits: Mutex::new(times) };
        let outcome = world.over(executor::Intercepted(expired)).run(&key(), statement()).await;
        match is_accepted {
            true => assert!(outcome.unwrap().is_success()),
            false => assert_eq!(outcome.unwrap_err().kind(), ErrorKind::CredentialsExpired),
        }
        let entry = world.journal.entry(&key()).await.unwrap().unwrap();
        assert_eq!(matches!(entry.state, EntryState::NotSubmitted(_)), !is_accepted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_statement_that_could_not_be_cancelled_is_reported_and_found_later() {
    let world = World::new(Script::new().otherwise(local::ScriptedExecution::finished(hours(1.0))));
    let throttled = Faults::seeded(0).with(Operation::Cancel, Fault::Throttle, 1.0);
    let throttled = Faulty::new(world.service.clone(), throttled);
    let limit = Duration::from_secs(60);
    let outcome = world.over(throttled).run_with(&key(), statement(), within(limit)).await.unwrap();
    assert_eq!(unknown(&outcome), Some(UnknownReason::NotCancelled));
    sleep(hours(2.0)).await;
    let outcome = world.orchestrator().run_with(&key(), statement(), within(limit)).await.unwrap();
    assert_eq!((outcome.kind, world.effects()), (OutcomeKind::Finished, 1));
}

/// Service that receives a cancel only after nine seconds.
#[derive(Debug)]
struct LateCancel(LocalExecutor<Scripted>);

#[async_trait]
impl executor::Intercept for LateCancel {
    fn inner(&self) -> &dyn StatementExecutor {
        &self.0
    }

    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        sleep(Duration::from_secs(9)).await;
        self.0.cancel(id).await
    }
}

#[tokio::test(start_paused = true)]
async fn durations_are_read_from_the_journal_by_the_next_process() {
    let world =
        World::new(Script::new().otherwise(local::ScriptedExecution::finished(Duration::from_secs(90))));
    let first = world.orchestrator();
    assert!(first.run(&key(), statement()).await.unwrap().is_success());
    assert_eq!(first.durations().expected("step"), Some(Duration::from_secs(90)));
    // The durations that are read from the journal equal those that the orchestrator recorded.
    let read = Durations::from_journal(&world.journal, ["run"]).await.unwrap();
    assert_eq!(read, *first.durations());
    let second = world.orchestrator().with_strategy(Learned::default()).with_durations(read);
    let outcome = second.run(&StepKey::new("next", "step"), statement()).await.unwrap();
    assert_eq!((outcome.is_success(), outcome.requests.describes), (true, 1));
}

#[tokio::test(start_paused = true)]
async fn a_failure_contains_the_error_text_and_its_kind() {
    let words = "ERROR: 1023 DETAIL: Serializable isolation violation on table - 107";
    let world =
        World::new(Script::new().otherwise(local::ScriptedExecution::failed(Duration::from_secs(1), words)));
    let outcome = world.orchestrator().run(&key(), statement()).await.unwrap();
    assert_eq!(
        outcome.kind,
        OutcomeKind::Failed { kind: FailureKind::SerializationConflict, error: words.to_owned() }
    );
    assert!(outcome.id.is_some());
}

/// Journal whose appends fail from number `fails_from` on, counted from 0.
#[derive(Debug)]
struct FullJournal {
    inner: MemoryJournal,
    /// If present, another process reads this journal. It also contains the first record that failed.
    storage: Option<MemoryJournal>,
    appends: std::sync::atomic::AtomicUsize,
    fails_from: usize,
}

impl FullJournal {
    fn new(inner: MemoryJournal, fails_from: usize) -> Self {
        Self { inner, storage: None, appends: Default::default(), fails_from }
    }
}

#[async_trait]
impl Intercept for FullJournal {
    fn inner(&self) -> &dyn Journal {
        &self.inner
    }

    async fn append(&self, record: Record) -> Result<()> {
        let number = self.appends.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if let Some(storage) = self.storage.as_ref().filter(|_| number <= self.fails_from) {
            storage.append(record.clone()).await?;
        }
        if number >= self.fails_from {
            return Err(Error::new(ErrorKind::Journal, "no space left on device"));
        }
        self.inner.append(record).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_statement_is_not_submitted_without_an_intent_and_is_found_without_an_id() {
    for fails_from in 0..3 {
        let world = World::new(Script::new());
        let journal = FullJournal::new(world.journal.clone(), fails_from);
        let orchestrator = Orchestrator::new(world.service.clone())
            .with_journal(Arc::new(Intercepted(journal)))
            .with_clock(world.clock);
        let error = orchestrator.run(&key(), statement()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Journal);
        assert_eq!(error.context("statement_id").is_some(), fails_from > 0, "{error}");
        sleep(Duration::from_secs(1)).await;
        assert_eq!(world.effects(), usize::from(fails_from > 0));
        // With free space in the journal again, the next process finds the statement.
        let outcome = world.orchestrator().run(&key(), statement()).await.unwrap();
        assert!(outcome.is_success());
        assert_eq!(world.effects(), 1);
    }
}

/// Regression: the error of the journal said that the statement did not run.
#[tokio::test(start_paused = true)]
async fn a_statement_whose_unknown_outcome_cannot_be_recorded_may_have_run() {
    let world = World::new(Script::new());
    let faults = Faults::seeded(1).with(Operation::Submit, Fault::LostReply, 1.0).with(
        Operation::List,
        Fault::Throttle,
        1.0,
    );
    let journal = FullJournal::new(world.journal.clone(), 1);
    let orchestrator = world.over(Faulty::new(world.service.clone(), faults));
    let error =
        orchestrator.with_journal(Arc::new(Intercepted(journal))).run(&key(), statement()).await.unwrap_err();
    assert_eq!((error.kind(), error.submitted()), (ErrorKind::Journal, None));
    assert!(error.may_have_run(), "{error}");
    assert_eq!(world.effects(), 1);
    // The next process finds it.
    assert!(world.orchestrator().run(&key(), statement()).await.unwrap().is_success());
    assert_eq!(world.effects(), 1);
}

/// Regression: the record that the statement was not submitted was stored, although its append failed. The
/// process submitted the statement nevertheless, because it read the intent only. The next process read that
/// the statement had not been submitted, and submitted it again.
#[tokio::test(start_paused = true)]
async fn a_failed_record_that_was_stored_does_not_hide_a_later_submit() {
    for down in [0.0, 9.0, 30.0] {
        let world = World::new(Script::new());
        let full = FullJournal::new(MemoryJournal::new(), 1);
        let journal = Arc::new(Intercepted(FullJournal { storage: Some(world.journal.clone()), ..full }));
        let unreachable = Faults::seeded(1).with(Operation::Submit, Fault::DroppedConnection, 1.0);
        let error = world
            .over(Faulty::new(world.service.clone(), unreachable))
            .with_journal(journal.clone())
            .run(&key(), statement())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Journal);
        let stored = world.journal.entry(&key()).await.unwrap().unwrap();
        assert!(matches!(stored.state, EntryState::NotSubmitted(_)), "{stored:?}");

        // The service can be reached again, but the storage still fails.
        let error = world.orchestrator().with_journal(journal).run(&key(), statement()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Journal);
        assert!(error.may_have_run(), "{error}");
        let begun = world.effects();
        sleep(hours(down)).await;
        let outcome = world.orchestrator().run(&key(), statement()).await.unwrap();
        sleep(hours(1.0)).await;
        assert_eq!(world.effects(), 1, "{begun} before, {:?} {down} hours later", outcome.kind);
        assert!(outcome.is_success(), "{:?}", outcome.kind);
    }
}

#[tokio::test(start_paused = true)]
async fn the_intent_is_written_before_the_submit() {
    let world = World::new(Script::new());
    let journal = world.journal.clone();
    let seen = move |_: &Statement, _: &redshift_orchestrator::Submitted| {
        let records = journal.records();
        assert!(matches!(records.as_slice(), [Record { event: Event::Intent { .. }, .. }]), "{records:?}");
    };
    let watched = Faulty::new(world.service.clone(), Faults::seeded(0)).with_on_submitted(seen);
    assert!(world.over(watched).run(&key(), statement()).await.unwrap().is_success());
}

#[tokio::test(start_paused = true)]
async fn rejects_names_that_are_not_valid_in_a_statement_name() {
    let orchestrator = World::new(Script::new()).orchestrator();
    for key in [StepKey::new("", "s"), StepKey::new("r", "a\nb"), StepKey::new("r".repeat(300), "s")] {
        let error = orchestrator.run(&key, statement()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

#[tokio::test(start_paused = true)]
async fn the_name_can_be_added_to_the_sql_and_does_not_change_the_token() {
    let world = World::new(Script::new());
    let key = StepKey::new("sales 06:30 */ DROP", "load 'it'");
    let batch = || Statement::batch(["-- today\nCALL load(:day)", "SELECT 1"]).with_parameter("day", "7");
    let named = world.orchestrator().with_names_in_sql(true);
    let outcome = named.run(&key, batch()).await.unwrap();
    assert!(outcome.is_success(), "{outcome:?}");
    let effects = world.service.effects();
    let digest = outcome.name.rsplit(' ').next().unwrap();
    let comment = format!("/* redshift-orchestrator sales 06_30 _/ DROP/load _it_/1 {digest} */ ");
    assert_eq!(effects[0].sql, format!("{comment}-- today\nCALL load(:day)"));
    assert_eq!(effects[1].sql, format!("{comment}SELECT 1"));
    // The token is the same as without names in the SQL.
    let other = World::new(Script::new());
    assert!(other.orchestrator().run(&key, batch()).await.unwrap().is_success());
    assert_eq!(other.service.effects()[0].client_token, effects[0].client_token);
    assert_eq!(other.service.effects()[1].sql, "SELECT 1");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_without_a_response_names_the_manual_checks() {
    let world =
        World::new(Script::new().otherwise(local::ScriptedExecution::finished(Duration::from_secs(90_000))));
    let faults = Faults::seeded(1).with(Operation::Cancel, Fault::LostReply, 1.0).with(
        Operation::Describe,
        Fault::LostReply,
        1.0,
    );
    let limit = Duration::from_secs(60);
    let outcome = world
        .over(Faulty::new(world.service.clone(), faults))
        .run_with(&key(), statement(), within(limit))
        .await
        .unwrap();
    let OutcomeKind::Unknown(unknown) = &outcome.kind else { panic!("{outcome:?}") };
    assert_eq!(unknown.reason, UnknownReason::NotCancelled);
    let (check, id) = (unknown.manual_check(), unknown.id.clone().unwrap());
    assert!(check.contains(&format!("describe-statement --id {id}\n")), "{check}");
    let digest = outcome.name.rsplit(' ').next().unwrap();
    assert!(check.contains(&format!("query_text LIKE '%{digest}%'")), "{check}");
}
