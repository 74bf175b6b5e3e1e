//! Many statements at once: rates, limits and fairness of the layers, and the effects of dropping a request
//! that waits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::future::join_all;
use redshift_data_local::{Latency, Limits, LocalExecutor, Script, Scripted, ScriptedExecution};
use redshift_orchestrator::{
    Catalog, ClientToken, Description, Error, ErrorKind, Orchestrator, PageToken, Result, Statement,
    StatementExecutor, StatementFilter, StatementId, StatementPage, Status, StepKey, Submitted, WaitTime,
    catalog::CatalogFilter,
    layer::{Fleet, Limit, Rate, Request, RequestRates},
    wait::{Fixed, LongPoll, RequestCounts, Wait, WaitOutcome},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    executor::{self, Intercepted},
    support::{Prepared, now},
};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn service(seconds: u64) -> LocalExecutor<Scripted> {
    limited(seconds, 1_000_000, 500)
}

/// Creates a service with limits of active statements and sessions. Each statement runs for `seconds`.
fn limited(seconds: u64, statements: usize, sessions: usize) -> LocalExecutor<Scripted> {
    let mut limits = Limits::default();
    limits.active_statements = statements;
    limits.active_sessions = sessions;
    LocalExecutor::scripted(
        Script::new().with_limits(limits).otherwise(ScriptedExecution::finished(secs(seconds))),
    )
}

fn statement() -> Statement {
    Statement::sql("CALL work()")
}

/// Returns the maximum number of instants within any interval of one second.
fn most_in_a_second(instants: &[f64]) -> usize {
    (0..instants.len())
        .map(|first| instants[first..].iter().take_while(|at| **at < instants[first] + 0.999).count())
        .max()
        .unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn no_interval_of_a_second_contains_more_requests_than_the_rate() {
    let prepared = Arc::new(Prepared::new([now(Status::Started)], []));
    let fleet = Arc::new(Fleet::new(prepared.clone()));
    let id = StatementId::new("prepared");
    // 300 waits that each poll twice a second would exceed the rate of 100 by a factor of six.
    let strategy = Fixed::new(Duration::from_millis(500));
    let wait = |_| {
        let (fleet, id) = (fleet.clone(), id.clone());
        async move { Wait::new(&fleet, &id, &strategy).until_ended(&mut RequestCounts::default()).await }
    };
    assert!(timeout(secs(20), join_all((0..300).map(wait))).await.is_err());
    let instants = prepared.instants();
    assert!((1_900..=2_000).contains(&instants.len()), "{}", instants.len());
    assert_eq!(most_in_a_second(&instants), 100);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_request_passes_its_turn_to_the_next() {
    let prepared = Arc::new(Prepared::new([now(Status::Started)], []));
    let rate = Rate::new(prepared.clone(), RequestRates::default().with(Request::DescribeStatement, 1));
    let id = StatementId::new("prepared");
    rate.describe(&id, None).await.unwrap();
    // Nine requests wait for half a second and are dropped. The tenth request is sent in the next second.
    let nine = join_all((0..9).map(|_| timeout(Duration::from_millis(500), rate.describe(&id, None))));
    let (gone, tenth) = tokio::join!(nine, rate.describe(&id, None));
    assert!(gone.iter().all(Result::is_err) && tenth.is_ok());
    assert_eq!(prepared.instants(), [0.0, 1.0]);
}

#[tokio::test(start_paused = true)]
async fn after_a_throttled_request_only_its_operation_pauses() {
    use super::support::fails;
    let prepared = Arc::new(Prepared::new([fails(ErrorKind::Throttled), now(Status::Started)], [now(true)]));
    let rate = Rate::new(prepared.clone(), RequestRates::default().with(Request::DescribeStatement, 10));
    let id = StatementId::new("prepared");
    assert!(rate.describe(&id, None).await.is_err());
    rate.cancel(&id).await.unwrap();
    for _ in 0..3 {
        rate.describe(&id, None).await.unwrap();
    }
    // After the throttled request, the tokens become available one after another, a tenth of a second apart.
    assert_eq!(prepared.instants(), [0.0, 0.1, 0.2, 0.3]);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_response_is_returned_at_once_while_other_requests_wait() {
    use super::support::Answer;
    let half = Duration::from_millis(500);
    let refusal = Answer { after: half, answer: Err(ErrorKind::Throttled) };
    let prepared = Arc::new(Prepared::new([refusal, now(Status::Started)], []));
    let rate = Rate::new(prepared.clone(), RequestRates::default().with(Request::DescribeStatement, 1));
    let id = StatementId::new("prepared");
    let begun = Instant::now();
    let first = async {
        let refused = rate.describe(&id, None).await;
        (refused.is_err(), begun.elapsed())
    };
    let others = join_all((0..100).map(|_| rate.describe(&id, None)));
    let ((refused, at), _) = tokio::join!(first, others);
    // The throttled response reaches its caller at once, although 100 requests wait. A delayed response would
    // count as lost.
    assert_eq!((refused, at), (true, half));
    assert_eq!(begun.elapsed(), half + secs(100));
}

#[tokio::test(start_paused = true)]
async fn the_catalog_has_its_own_rates() {
    let rate = Rate::new(service(1), RequestRates::default());
    let begun = Instant::now();
    let all = CatalogFilter::default();
    join_all((0..7).map(|_| rate.tables(&all, None))).await;
    assert_eq!(begun.elapsed().as_secs(), 2);
    rate.schemas(&all, None).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn submits_run_in_order_also_after_a_rejection() {
    // The service accepts three active statements. The fleet has to learn this limit.
    let service = limited(10, 3, 500);
    let fleet = Arc::new(Fleet::new(service.clone()));
    let run = |number: usize| {
        let fleet = fleet.clone();
        async move {
            let named = statement().with_name(format!("{number:02}"));
            let id = fleet.submit(&named, None).await.unwrap().id;
            while !fleet.describe(&id, Some(WaitTime::MAX)).await.unwrap().status.is_terminal() {}
        }
    };
    let begun = Instant::now();
    join_all((0..12).map(run)).await;
    let effects = service.effects();
    let order: Vec<_> = effects.iter().map(|effect| effect.name.clone().unwrap()).collect();
    for (index, three) in order.chunks(3).enumerate() {
        let mut three = three.to_vec();
        three.sort();
        let expected: Vec<_> = (index * 3..index * 3 + 3).map(|number| format!("{number:02}")).collect();
        assert_eq!(three, expected, "{order:?}");
    }
    assert_eq!(begun.elapsed().as_secs(), 40);
    assert_eq!(fleet.active(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_limit_adapts_to_rejections_and_is_probed_again() {
    let fleet = Arc::new(Fleet::new(limited(100, 40, 500)).with_statements(200));
    let waits: Vec<_> = (0..100)
        .map(|number| {
            let orchestrator = Orchestrator::new(fleet.clone());
            tokio::spawn(async move {
                let key = StepKey::new("run", number.to_string());
                orchestrator.run(&key, statement()).await.unwrap()
            })
        })
        .collect();
    sleep(secs(50)).await;
    assert_eq!(fleet.active(), 40);
    assert!((40..=41).contains(&fleet.capacity()), "{}", fleet.capacity());
    for outcome in join_all(waits).await {
        let outcome = outcome.unwrap();
        // A submit that waits for capacity counts neither as retried nor as lost.
        assert!(outcome.is_success() && outcome.requests.retried_errors.is_empty(), "{outcome:?}");
        assert_eq!(outcome.requests.submits, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn hours_in_a_queue_do_not_make_a_statement_unknown() {
    // 30 statements each run for an hour, two at a time. The last submit waits for 14 hours, longer than the
    // retry timeout.
    let service = limited(3_600, 2, 500);
    let orchestrator = Orchestrator::new(Fleet::new(service.clone()));
    let keys: Vec<_> = (0..30).map(|number| StepKey::new("run", number.to_string())).collect();
    let outcomes = join_all(keys.iter().map(|key| orchestrator.run(key, statement()))).await;
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_ok_and(|outcome| outcome.is_success())));
    assert_eq!(service.effects().len(), 30);
}

#[tokio::test(start_paused = true)]
async fn the_permit_of_a_statement_that_is_not_polled_is_reclaimed() {
    let fleet = Limit::new(service(10), 2);
    for _ in 0..2 {
        fleet.submit(&statement(), None).await.unwrap();
    }
    // Both statements have ended, but were never polled.
    sleep(secs(30)).await;
    let begun = Instant::now();
    fleet.submit(&statement(), None).await.unwrap();
    assert!((30..32).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!(fleet.active(), 1);
}

/// A statement of an hour holds the only permit. The queued submit must not poll in a loop.
#[tokio::test(start_paused = true)]
async fn a_queued_submit_describes_only_statements_that_are_not_polled() {
    let limit = Limit::new(service(3_600), 1);
    limit.submit(&statement(), None).await.unwrap();
    let mut polls = 0;
    let second = statement();
    let mut submit = limit.submit(&second, None);
    std::future::poll_fn(|context| {
        polls += 1;
        submit.as_mut().poll(context)
    })
    .await
    .unwrap();
    // The layer describes the statement once a minute for an hour, and each describe wakes the submit at most
    // three times.
    assert!((60..=180).contains(&polls), "{polls}");
}

#[tokio::test(start_paused = true)]
async fn a_submit_queued_behind_describes_does_not_count_as_lost() {
    let service = service(1_800);
    let rates = RequestRates::default().with(Request::DescribeStatement, 1);
    let fleet = Arc::new(Fleet::new(service.clone()).with_rates(rates).with_statements(1));
    let first = fleet.submit(&statement(), None).await.unwrap().id;
    let other = service.submit(&statement(), None).await.unwrap().id;
    // With three clients, at least one describe is always in the queue.
    let busy = join_all((0..3).map(|_| async {
        loop {
            fleet.describe(&other, None).await.unwrap();
        }
    }));
    let orchestrator = Orchestrator::new(fleet.clone());
    let key = StepKey::new("run", "step");
    let run = async {
        let outcome = orchestrator.run(&key, statement()).await.unwrap();
        assert!(outcome.is_success() && outcome.requests.retried_errors.is_empty(), "{outcome:?}");
        assert_eq!(outcome.requests.submits, 1);
    };
    // This describe postpones the next one that the fleet sends for the same statement.
    let described = async {
        sleep(secs(100)).await;
        fleet.describe(&first, None).await.unwrap();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = busy => {}
        () = described => {}
        () = run => {}
    }
    assert_eq!(service.effects().len(), 3);
}

/// Network that loses the first submit, or the response to it.
#[derive(Debug)]
struct LosesFirst {
    inner: LocalExecutor<Scripted>,
    is_sent: bool,
    is_over: AtomicBool,
    /// Rejection of the second submit.
    rejection: std::sync::Mutex<Option<ErrorKind>>,
    /// Time that the response of a listing takes.
    listing: Duration,
}

impl LosesFirst {
    fn new(inner: LocalExecutor<Scripted>, is_sent: bool) -> Self {
        let rejection = std::sync::Mutex::default();
        Self { inner, is_sent, is_over: AtomicBool::new(false), rejection, listing: Duration::ZERO }
    }

    fn then_rejects(self, kind: ErrorKind) -> Self {
        *self.rejection.lock().unwrap() = Some(kind);
        self
    }
}

#[async_trait]
impl executor::Intercept for LosesFirst {
    fn inner(&self) -> &dyn StatementExecutor {
        &self.inner
    }

    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let is_first = !self.is_over.swap(true, Ordering::Relaxed);
        if is_first && !self.is_sent {
            return Err(Error::new(ErrorKind::Disconnected, "connection reset"));
        }
        let rejection = if is_first { None } else { self.rejection.lock().unwrap().take() };
        if let Some(kind) = rejection {
            return Err(Error::new(kind, "rejected"));
        }
        let submitted = self.inner.submit(statement, wait).await?;
        match is_first {
            true => Err(Error::new(ErrorKind::Disconnected, "connection reset")),
            false => Ok(submitted),
        }
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        let listed = self.inner.list(filter, page).await;
        sleep(self.listing).await;
        listed
    }
}

fn uncertain() -> Statement {
    statement().with_name("uncertain").with_client_token(ClientToken::new("0123456789").unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_listed_uncertain_submit_keeps_its_permit_until_the_statement_ends() {
    let fleet = Limit::new(Intercepted(LosesFirst::new(service(10), true)), 2);
    fleet.submit(&uncertain(), None).await.unwrap_err();
    assert_eq!(fleet.active(), 1);
    let listed = fleet.list(&StatementFilter::default().with_name_prefix("uncertain"), None).await.unwrap();
    let id = &listed.statements[0].id;
    assert_eq!(fleet.active(), 1, "the statement is active");
    fleet.describe(id, Some(WaitTime::MAX)).await.unwrap();
    assert_eq!(fleet.active(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_listed_uncertain_submit_of_an_ended_statement_releases_its_permit() {
    let fleet = Limit::new(Intercepted(LosesFirst::new(service(10), true)), 2);
    fleet.submit(&uncertain(), None).await.unwrap_err();
    sleep(secs(20)).await;
    // The listing may be by a prefix of the name.
    fleet.list(&StatementFilter::default().with_name_prefix("uncert"), None).await.unwrap();
    assert_eq!(fleet.active(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_unlisted_uncertain_submit_releases_its_permit() {
    let fleet = Limit::new(Intercepted(LosesFirst::new(service(10), false)), 2);
    fleet.submit(&uncertain(), None).await.unwrap_err();
    fleet.list(&StatementFilter::default().with_name_prefix("another"), None).await.unwrap();
    fleet.list(&StatementFilter::default(), None).await.unwrap();
    assert_eq!(fleet.active(), 1, "the listings say nothing about it");
    fleet.list(&StatementFilter::default().with_name_prefix("uncertain"), None).await.unwrap();
    assert_eq!(fleet.active(), 0);
}

/// Regression: the last page of a listing that began before the submit released the permit of the statement,
/// which ran.
#[tokio::test(start_paused = true)]
async fn a_listing_that_began_before_an_uncertain_submit_is_ignored() {
    for filter in [StatementFilter::default(), StatementFilter::default().with_name_prefix("uncertain")] {
        let fleet =
            Limit::new(Intercepted(LosesFirst { listing: secs(5), ..LosesFirst::new(service(10), true) }), 2);
        let submit = async {
            sleep(secs(1)).await;
            fleet.submit(&uncertain(), None).await.unwrap_err();
        };
        let (listed, ()) = tokio::join!(fleet.list(&filter, None), submit);
        assert_eq!((listed.unwrap().statements.len(), fleet.active()), (0, 1), "{filter:?}");
    }
}

/// Regression: the permit was released when a repetition was throttled, although the first submit may have
/// taken effect. More statements than the limit could then be active.
#[tokio::test(start_paused = true)]
async fn an_uncertain_submit_keeps_its_permit_when_its_repetition_is_rejected() {
    for kind in [ErrorKind::Throttled, ErrorKind::NotSent, ErrorKind::Denied, ErrorKind::CredentialsExpired] {
        let network = Intercepted(LosesFirst::new(service(10), true).then_rejects(kind));
        let fleet = Limit::new(network, 2);
        for expected in [ErrorKind::Disconnected, kind] {
            let error = fleet.submit(&uncertain(), None).await.unwrap_err();
            assert_eq!((error.kind(), fleet.active()), (expected, 1));
        }
        let id = fleet.submit(&uncertain(), None).await.unwrap().id;
        assert_eq!(fleet.active(), 1, "{kind}: the statement holds one permit");
        fleet.describe(&id, Some(WaitTime::MAX)).await.unwrap();
        assert_eq!(fleet.active(), 0, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_uncertain_submit_keeps_its_permit_when_the_service_has_no_capacity() {
    let network = LosesFirst::new(service(10), true).then_rejects(ErrorKind::TooManyStatements);
    let network = Intercepted(network);
    let (fleet, begun) = (Limit::new(network, 2), Instant::now());
    fleet.submit(&uncertain(), None).await.unwrap_err();
    fleet.submit(&uncertain(), None).await.unwrap();
    assert_eq!(fleet.active(), 1);
    assert_eq!(begun.elapsed(), secs(10), "the limit is raised again after 10 seconds");
}

#[tokio::test(start_paused = true)]
async fn an_uncertain_session_is_known_once_its_statement_is_listed() {
    let fleet = Limit::new(Intercepted(LosesFirst::new(service(10), true)), 2).with_sessions(1);
    let kept = uncertain().with_session_keep_alive(secs(60));
    fleet.submit(&kept, None).await.unwrap_err();
    let listed = fleet.list(&StatementFilter::default().with_name_prefix("uncertain"), None).await.unwrap();
    assert_eq!(fleet.open_sessions(), 1);
    fleet.describe(&listed.statements[0].id, Some(WaitTime::MAX)).await.unwrap();
    sleep(secs(60)).await;
    assert_eq!(fleet.open_sessions(), 0);
}

#[tokio::test(start_paused = true)]
async fn permits_of_uncertain_submits_are_reclaimed_after_15_minutes() {
    let fleet = Limit::new(Intercepted(LosesFirst::new(service(10), true)), 1);
    fleet.submit(&uncertain(), None).await.unwrap_err();
    let begun = Instant::now();
    fleet.submit(&statement(), None).await.unwrap();
    // The permit is kept for 15 minutes, because the caller may repeat the submit in this time.
    assert!((900..920).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!(fleet.active(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_counts_until_it_has_been_idle_for_its_keep_alive() {
    let fleet = Limit::new(service(10), 100).with_sessions(1);
    let kept = statement().with_session_keep_alive(secs(60));
    let begun = Instant::now();
    let first = fleet.submit(&kept, None).await.unwrap();
    assert_eq!(fleet.open_sessions(), 1);
    // Neither a statement in the same session nor a statement without a kept session opens another session.
    fleet.describe(&first.id, Some(WaitTime::MAX)).await.unwrap();
    let again = statement().in_session(first.session_id.unwrap());
    let again = fleet.submit(&again, None).await.unwrap();
    fleet.submit(&statement(), None).await.unwrap();
    fleet.describe(&again.id, Some(WaitTime::MAX)).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 20);
    fleet.submit(&kept, None).await.unwrap();
    assert!((80..82).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_submit_waits_for_sessions_of_other_clients() {
    let service = limited(1, 500, 2);
    let other = statement().with_session_keep_alive(secs(30));
    service.submit(&other, None).await.unwrap();
    service.submit(&other, None).await.unwrap();
    let fleet = Fleet::new(service);
    let begun = Instant::now();
    fleet.submit(&other, None).await.unwrap();
    // The fleet tries again after 10, 20, 30 and 40 seconds. A session of the other client ends after 31
    // seconds.
    assert_eq!(begun.elapsed().as_secs(), 40);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_applies_to_a_poll_that_is_still_queued() {
    let prepared = Arc::new(Prepared::new([now(Status::Started), now(Status::Aborted)], [now(true)]));
    let rates = RequestRates::default().with(Request::DescribeStatement, 1);
    let fleet = Fleet::new(prepared.clone()).with_rates(rates);
    let id = StatementId::new("prepared");
    // For the next 100 seconds, these describes are ahead of the wait's polls in the queue.
    let others = join_all((0..100).map(|_| fleet.describe(&id, None)));
    let strategy = LongPoll::default();
    let mut requests = RequestCounts::default();
    let wait = Wait::new(&fleet, &id, &strategy).with_timeout(secs(20)).until_ended(&mut requests);
    let begun = Instant::now();
    let (_, outcome) = tokio::join!(others, wait);
    assert!(matches!(outcome, WaitOutcome::TimedOut { .. }), "{outcome:?}");
    let cancelled = prepared.sent().iter().find_map(|sent| match sent {
        super::support::Sent::Cancel(at) => Some(*at),
        _ => None,
    });
    assert_eq!(cancelled, Some(20.0));
    assert!(requests.retried_errors.is_empty(), "{requests:?}");
    assert_eq!(begun.elapsed().as_secs(), 100);
}

#[tokio::test(start_paused = true)]
async fn three_thousand_waits_share_100_polls_a_second() {
    let latency = Latency { submitted: secs(1), picked: secs(1) };
    let mut limits = Limits::default();
    limits.active_statements = 10_000;
    let script = Script::new()
        .with_limits(limits)
        .with_latency(latency)
        .otherwise(ScriptedExecution::finished(secs(600)));
    let service = LocalExecutor::scripted(script);
    let ids: Vec<_> =
        join_all((0..3_000).map(|_| async { service.submit(&statement(), None).await.unwrap().id })).await;
    let fleet = Arc::new(Fleet::new(service));
    let begun = Instant::now();
    let waits = ids.iter().map(|id| async {
        let mut requests = RequestCounts::default();
        let outcome = Wait::new(&fleet, id, &LongPoll::default()).until_ended(&mut requests).await;
        assert!(matches!(outcome, WaitOutcome::Ended(_)), "{outcome:?}");
        (begun.elapsed().as_secs_f64() - 602.0, requests)
    });
    let ended = join_all(waits).await;
    assert!(ended.iter().all(|(_, requests)| requests.retried_errors.is_empty()), "no poll was given up");
    let mean = ended.iter().map(|(late, _)| late).sum::<f64>() / 3_000.0;
    // All statements end at the same time. The delay is short, because nearly every wait then has a long poll
    // in flight.
    assert!(mean < 1.0, "{mean}");
}

/// Service that responds to a describe after 50 ms, and to a submit after `submits`.
#[derive(Debug)]
struct Far {
    inner: LocalExecutor<Scripted>,
    submits: Duration,
}

#[async_trait]
impl executor::Intercept for Far {
    fn inner(&self) -> &dyn StatementExecutor {
        &self.inner
    }

    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let submitted = self.inner.submit(statement, wait).await;
        sleep(self.submits).await;
        submitted
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        sleep(Duration::from_millis(50)).await;
        self.inner.describe(id, wait).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_submit_dropped_in_flight_keeps_its_permit() {
    let fleet = Limit::new(Intercepted(Far { inner: service(1_000), submits: secs(120) }), 1);
    assert!(timeout(secs(60), fleet.submit(&uncertain(), None)).await.is_err());
    assert_eq!(fleet.active(), 1, "the statement may run");
    // The repetition uses the permit of the first submit.
    fleet.submit(&uncertain(), None).await.unwrap();
    assert_eq!(fleet.active(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_submit_dropped_in_the_queue_of_its_rate_releases_its_permit() {
    let rates = RequestRates::default().with(Request::ExecuteStatement, 1);
    let fleet = Fleet::new(service(1_000)).with_rates(rates);
    fleet.submit(&statement(), None).await.unwrap();
    assert!(timeout(Duration::from_millis(500), fleet.submit(&uncertain(), None)).await.is_err());
    assert_eq!(fleet.active(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_expires_although_its_statement_is_never_described() {
    let fleet = Limit::new(service(10), 100).with_sessions(1);
    let kept = statement().with_session_keep_alive(secs(60));
    fleet.submit(&kept, None).await.unwrap();
    sleep(secs(25 * 3600)).await;
    assert_eq!(fleet.open_sessions(), 0);
    fleet.submit(&kept, None).await.unwrap();
    sleep(secs(25 * 3600)).await;
    let begun = Instant::now();
    assert!(timeout(secs(3600), fleet.submit(&kept, None)).await.is_ok());
    assert_eq!(begun.elapsed(), secs(0));
}

#[tokio::test(start_paused = true)]
async fn free_permits_are_acquired_without_a_pause() {
    let far = Intercepted(Far { inner: service(10), submits: Duration::from_millis(50) });
    let fleet = Limit::new(far, 20);
    let statement = statement();
    for _ in 0..20 {
        fleet.submit(&statement, None).await.unwrap();
    }
    sleep(secs(120)).await;
    let begun = Instant::now();
    join_all((0..20).map(|_| fleet.submit(&statement, None))).await;
    assert!(begun.elapsed() < secs(3), "{:?}", begun.elapsed());
}
