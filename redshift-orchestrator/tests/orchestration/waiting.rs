//! Instants of polls, retried errors, and outcomes of a wait.

use std::time::Duration;

use redshift_data_local::{Limits, LocalExecutor, Script, ScriptedExecution};
use redshift_orchestrator::{
    Backoff, ErrorKind, Statement, StatementExecutor, StatementId, Status,
    wait::{
        CancelOutcome, Exponential, Fixed, Jittered, Learned, LongPoll, PollStrategy, RequestCounts, Wait,
        WaitOutcome,
    },
};

use super::support::{Answer, Noted, Prepared, Sent, Waits, after, fails, now};

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Waits for a statement of this duration. Returns the instant and the requested wait of each poll, in
/// seconds.
async fn polls_of(seconds: f64, strategy: impl PollStrategy, waits: Waits, limits: Limits) -> Vec<(f64, u8)> {
    let script = Script::new().otherwise(ScriptedExecution::finished(secs(seconds))).with_limits(limits);
    let service = Noted::new(LocalExecutor::scripted(script), waits);
    let id = service.submit(&Statement::sql("CALL work()"), None).await.unwrap().id;
    let mut requests = RequestCounts::default();
    let outcome = Wait::new(&service, &id, &strategy).until_ended(&mut requests).await;
    assert!(
        matches!(&outcome, WaitOutcome::Ended(description) if description.status == Status::Finished),
        "{outcome:?}"
    );
    assert_eq!(requests.describes as usize, service.sent().len());
    service.sent()
}

async fn instants(seconds: f64, strategy: impl PollStrategy) -> Vec<f64> {
    polls_of(seconds, strategy, Waits::Kept, Limits::default()).await.into_iter().map(|(at, _)| at).collect()
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_is_sent_every_30_seconds_and_returns_at_the_end() {
    for (takes, sent) in [(0.3, 1), (29.9, 1), (45.0, 2), (95.0, 4)] {
        let begun = tokio::time::Instant::now();
        let polls = polls_of(takes, LongPoll::default(), Waits::Kept, Limits::default()).await;
        assert_eq!(polls, (0..sent).map(|n| (f64::from(n) * 30.0, 30)).collect::<Vec<_>>());
        let late = begun.elapsed() - secs(takes);
        assert!(late < Duration::from_millis(2), "{late:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_falls_back_to_growing_pauses_while_waiters_are_refused() {
    let mut limits = Limits::default();
    limits.waiters_per_statement = 0;
    let sent = polls_of(60.0, LongPoll::default(), Waits::Kept, limits).await;
    // A long poll is tried again once 30 seconds have passed since the last rejection.
    assert_eq!(
        sent.iter().take(9).map(|(at, _)| *at).collect::<Vec<_>>(),
        [0.0, 0.25, 0.625, 1.188, 2.032, 3.298, 5.197, 8.045, 12.317]
    );
    let waits: Vec<_> = sent.iter().filter(|(_, wait)| *wait > 0).map(|(at, _)| *at).collect();
    assert_eq!(waits, [0.0, 38.336, 68.336]);
}

#[tokio::test(start_paused = true)]
async fn a_service_without_long_polls_is_polled_without_them() {
    let sent = polls_of(10.0, LongPoll::default(), Waits::Refused, Limits::default()).await;
    assert_eq!(sent[0], (0.0, 30));
    assert!(sent[1..].iter().all(|(_, wait)| *wait == 0), "{sent:?}");
    assert_eq!(sent.len(), 9, "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_ignores_the_wait_is_not_polled_in_a_busy_loop() {
    let sent = polls_of(600.0, LongPoll::default(), Waits::Ignored, Limits::default()).await;
    assert!(sent.len() < 80, "{}", sent.len());
}

#[tokio::test(start_paused = true)]
async fn strategies_poll_at_these_instants() {
    assert_eq!(instants(25.0, Fixed::new(secs(10.0))).await, [10.0, 20.0, 30.0]);
    let exponential = Exponential::new(secs(1.0)).with_factor(2.0).with_max(secs(5.0));
    assert_eq!(instants(20.0, exponential).await, [1.0, 3.0, 7.0, 12.0, 17.0, 22.0]);
    // Without a known duration, the strategy behaves like a long poll.
    assert_eq!(instants(45.0, Learned::default()).await, [0.0, 30.0]);
}

#[tokio::test(start_paused = true)]
async fn the_learned_duration_determines_the_first_poll() {
    let prepared = Prepared::new([after(30.0, Status::Started), after(10.0, Status::Finished)], []);
    let id = StatementId::new("prepared");
    let outcome = Wait::new(&prepared, &id, &Learned::default())
        .with_expected(Some(secs(600.0)))
        .until_ended(&mut RequestCounts::default())
        .await;
    assert!(matches!(outcome, WaitOutcome::Ended(_)));
    // The first poll is a long poll, after nine tenths of the expected duration.
    assert_eq!(prepared.sent(), [Sent::Describe(540.0, 30), Sent::Describe(570.0, 30)]);
}

#[tokio::test(start_paused = true)]
async fn jitter_stays_within_its_share_and_is_repeatable() {
    let strategy = || Jittered::new(Fixed::new(secs(10.0)), 42).with_share(0.2);
    let first = instants(300.0, strategy()).await;
    assert_eq!(first, instants(300.0, strategy()).await);
    let pauses: Vec<_> = first.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.iter().all(|pause| (7.99..=12.01).contains(pause)), "{pauses:?}");
    assert!(
        pauses.iter().any(|pause| *pause < 9.0) && pauses.iter().any(|pause| *pause > 11.0),
        "{pauses:?}"
    );
}

/// Waits for a statement with prepared responses, with a timeout of 60 seconds.
async fn limited(prepared: &Prepared) -> (WaitOutcome, RequestCounts) {
    let mut requests = RequestCounts::default();
    let outcome = Wait::new(prepared, &StatementId::new("prepared"), &LongPoll::default())
        .with_timeout(secs(60.0))
        .with_cancel_grace(secs(20.0))
        .with_backoff(Backoff::new(secs(1.0)))
        .until_ended(&mut requests)
        .await;
    (outcome, requests)
}

fn held() -> Answer<Status> {
    after(30.0, Status::Started)
}

#[tokio::test(start_paused = true)]
async fn a_statement_is_cancelled_after_its_timeout() {
    let prepared = Prepared::new([held(), held(), now(Status::Aborted)], [now(true)]);
    let (outcome, requests) = limited(&prepared).await;
    assert!(
        matches!(&outcome, WaitOutcome::TimedOut { timeout, cancellation: CancelOutcome::Cancelled(_) } if *timeout == secs(60.0)),
        "{outcome:?}"
    );
    assert_eq!(
        prepared.sent(),
        [Sent::Describe(0.0, 30), Sent::Describe(30.0, 30), Sent::Cancel(60.0), Sent::Describe(60.0, 20)]
    );
    assert_eq!(requests.cancels, 1);
}

#[tokio::test(start_paused = true)]
async fn a_statement_that_finished_just_before_its_cancellation_is_finished() {
    let prepared = Prepared::new([held(), held(), now(Status::Finished)], [fails(ErrorKind::Invalid)]);
    let (outcome, _) = limited(&prepared).await;
    assert!(
        matches!(&outcome, WaitOutcome::TimedOut { cancellation: CancelOutcome::EndedBefore(description), .. }
            if description.status == Status::Finished),
        "{outcome:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn races_at_the_deadline_are_distinguished() {
    let cancelled = |outcome: &WaitOutcome| match outcome {
        WaitOutcome::TimedOut { cancellation: CancelOutcome::Cancelled(_), .. } => "cancelled".to_owned(),
        WaitOutcome::TimedOut { cancellation: CancelOutcome::EndedBefore(description), .. } => {
            format!("ended before: {}", description.status)
        }
        other => format!("{other:?}"),
    };
    for (cancels, status, expected) in [
        // The service accepted the cancel, but the statement ended before.
        (vec![now(true)], Status::Finished, "ended before: FINISHED"),
        (vec![now(true)], Status::Failed, "ended before: FAILED"),
        (vec![now(true)], Status::Aborted, "cancelled"),
        // The service rejected the cancel, so an abort has another cause.
        (vec![now(false)], Status::Finished, "ended before: FINISHED"),
        (vec![now(false)], Status::Aborted, "ended before: ABORTED"),
        // The response to the cancel was lost, so an abort may be its effect.
        (vec![fails(ErrorKind::Disconnected)], Status::Aborted, "cancelled"),
        (vec![fails(ErrorKind::Disconnected)], Status::Finished, "ended before: FINISHED"),
        (vec![fails(ErrorKind::Throttled)], Status::Aborted, "ended before: ABORTED"),
    ] {
        let prepared = Prepared::new([held(), held(), now(status)], cancels);
        let (outcome, requests) = limited(&prepared).await;
        assert_eq!((cancelled(&outcome).as_str(), requests.cancels), (expected, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_without_a_response_is_repeated() {
    let prepared = Prepared::new(
        [held(), held(), now(Status::Started), now(Status::Aborted)],
        [after(86_400.0, true), now(true)],
    );
    let (outcome, requests) = limited(&prepared).await;
    let WaitOutcome::TimedOut { cancellation: CancelOutcome::Cancelled(_), .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((requests.cancels, requests.retried_errors[&ErrorKind::Disconnected]), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn lost_long_polls_are_repeated_without_a_wait() {
    // The network closes every connection after 20 seconds.
    let cut = Answer { after: secs(20.0), answer: Err(ErrorKind::Disconnected) };
    let prepared = Prepared::new([cut.clone(), cut, now(Status::Started), now(Status::Finished)], []);
    let id = StatementId::new("prepared");
    let outcome =
        Wait::new(&prepared, &id, &LongPoll::default()).until_ended(&mut RequestCounts::default()).await;
    assert!(matches!(outcome, WaitOutcome::Ended(_)), "{outcome:?}");
    let waits: Vec<_> = prepared
        .sent()
        .iter()
        .map(|sent| match sent {
            Sent::Describe(_, wait) => *wait,
            Sent::Cancel(_) => panic!("unexpected cancel"),
        })
        .collect();
    assert_eq!(waits, [30, 30, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_is_repeated_while_the_statement_waits_in_the_queue() {
    let prepared = Prepared::new(
        [held(), held(), now(Status::Submitted), now(Status::Submitted), now(Status::Aborted)],
        [now(false), fails(ErrorKind::Throttled), now(true)],
    );
    let (outcome, requests) = limited(&prepared).await;
    assert!(
        matches!(&outcome, WaitOutcome::TimedOut { cancellation: CancelOutcome::Cancelled(_), .. }),
        "{outcome:?}"
    );
    assert_eq!((requests.cancels, requests.total_retried_errors()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_statement_that_cannot_be_cancelled_is_reported_as_running() {
    let prepared = Prepared::new([after(20.0, Status::Started)], [now(false)]);
    let (outcome, _) = limited(&prepared).await;
    assert!(
        matches!(&outcome, WaitOutcome::TimedOut { cancellation: CancelOutcome::NotCancelled(_), .. }),
        "{outcome:?}"
    );
}

/// Waits for a statement with prepared responses, with this timeout and the default grace time. Returns the
/// outcome and the duration in seconds.
async fn limited_to(limit: f64, prepared: &Prepared) -> (WaitOutcome, f64) {
    let begun = tokio::time::Instant::now();
    let outcome = Wait::new(prepared, &StatementId::new("prepared"), &Fixed::new(secs(60.0)))
        .with_timeout(secs(limit))
        .until_ended(&mut RequestCounts::default())
        .await;
    (outcome, begun.elapsed().as_secs_f64())
}

/// Returns the responses to one poll a minute, for a statement that runs for `running` seconds and then has
/// the status `outcome`.
fn started(running: f64, outcome: Status) -> impl Iterator<Item = Answer<Status>> {
    let polls = (running / 60.0) as usize;
    std::iter::repeat_n(now(Status::Started), polls).chain([now(outcome)])
}

/// Regression: if a rollback took longer than a minute, the outcome of the statement was unknown.
#[tokio::test(start_paused = true)]
async fn the_default_grace_is_the_duration_of_the_statement_and_at_least_15_minutes() {
    for (limit, rolling_back) in [(60.0, 720.0), (7_200.0, 7_020.0)] {
        let prepared = Prepared::new(started(limit + rolling_back, Status::Aborted), [now(true)]);
        let (outcome, _) = limited_to(limit, &prepared).await;
        assert!(
            matches!(&outcome, WaitOutcome::TimedOut { cancellation: CancelOutcome::Cancelled(_), .. }),
            "{outcome:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_pending_after_the_grace_is_reported() {
    for (limit, grace) in [(60.0, 900.0), (7_200.0, 7_200.0)] {
        let prepared = Prepared::new([now(Status::Started)], [now(true)]);
        let (outcome, took) = limited_to(limit, &prepared).await;
        let WaitOutcome::TimedOut { cancellation: CancelOutcome::Pending(description), .. } = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!((description.unwrap().status, took), (Status::Started, limit + grace));
        assert_eq!(prepared.sent().iter().filter(|sent| matches!(sent, Sent::Cancel(_))).count(), 1);
    }
}

/// Regression: the outcome of an accepted cancel was unknown if no poll succeeded after it within the grace
/// time, or if the credentials had expired.
#[tokio::test(start_paused = true)]
async fn an_accepted_cancellation_is_pending_although_no_status_was_reported_since() {
    for kind in [ErrorKind::Disconnected, ErrorKind::CredentialsExpired] {
        let prepared = Prepared::new([now(Status::Started), fails(kind)], [now(true)]);
        let (outcome, _) = limited_to(90.0, &prepared).await;
        assert!(
            matches!(&outcome, WaitOutcome::TimedOut { cancellation: CancelOutcome::Pending(_), .. }),
            "{outcome:?}"
        );
    }
}

/// Regression: two polls failed because of expired credentials, with an outage of 15 minutes between them.
/// The outage counted as time with expired credentials, and ended the wait.
#[tokio::test(start_paused = true)]
async fn time_without_a_connection_does_not_count_as_expired_credentials() {
    let outage = std::iter::repeat_n(fails(ErrorKind::Disconnected), 100);
    let expired = || [fails(ErrorKind::CredentialsExpired)];
    let prepared = Prepared::new(
        expired().into_iter().chain(outage).chain(expired()).chain([now(Status::Finished)]),
        [],
    );
    let (id, strategy) = (StatementId::new("prepared"), LongPoll::default());
    let outcome = Wait::new(&prepared, &id, &strategy).until_ended(&mut RequestCounts::default()).await;
    assert!(matches!(outcome, WaitOutcome::Ended(_)), "{outcome:?}");
    assert!(prepared.instants().last() > Some(&900.0), "{:?}", prepared.instants());
}

/// Regression: a wait ended when temporary credentials expired during a long statement.
#[tokio::test(start_paused = true)]
async fn expired_credentials_are_retried_until_they_are_renewed() {
    let expired = || fails(ErrorKind::CredentialsExpired);
    let prepared = Prepared::new(
        [expired(), expired(), fails(ErrorKind::Disconnected), expired(), held(), now(Status::Finished)],
        [],
    );
    let (outcome, requests) = limited(&prepared).await;
    assert!(matches!(outcome, WaitOutcome::Ended(_)), "{outcome:?}");
    assert_eq!(requests.retried_errors[&ErrorKind::CredentialsExpired], 3);
}

#[tokio::test(start_paused = true)]
async fn credentials_that_stay_expired_end_the_wait() {
    for (limit, expected) in [(None, 900.0..960.0), (Some(60.0), 60.0..120.0)] {
        let prepared = Prepared::new([fails(ErrorKind::CredentialsExpired)], []);
        let (id, strategy) = (StatementId::new("prepared"), LongPoll::default());
        let mut wait = Wait::new(&prepared, &id, &strategy);
        if let Some(limit) = limit {
            wait = wait.with_expired_credentials_limit(secs(limit));
        }
        let begun = tokio::time::Instant::now();
        let outcome = wait.until_ended(&mut RequestCounts::default()).await;
        assert!(
            matches!(&outcome, WaitOutcome::Lost(error) if error.kind() == ErrorKind::CredentialsExpired),
            "{outcome:?}"
        );
        assert!(expected.contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn faults_are_retried_until_the_timeout() {
    let prepared = Prepared::new(
        [
            fails(ErrorKind::Throttled),
            fails(ErrorKind::Disconnected),
            fails(ErrorKind::ServiceFault),
            fails(ErrorKind::NotSent),
            now(Status::Finished),
        ],
        [],
    );
    let (outcome, requests) = limited(&prepared).await;
    assert!(matches!(outcome, WaitOutcome::Ended(_)), "{outcome:?}");
    assert_eq!((requests.describes, requests.total_retried_errors()), (5, 4));
    let pauses: Vec<_> = prepared.instants().windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (pause, least) in pauses.iter().zip([1.0, 2.0, 4.0, 8.0]) {
        assert!((least..=2.0 * least).contains(pause), "{pauses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_without_a_response_is_repeated() {
    let prepared = Prepared::new([after(86_400.0, Status::Started), now(Status::Finished)], []);
    let (outcome, requests) = limited(&prepared).await;
    assert!(matches!(outcome, WaitOutcome::Ended(_)), "{outcome:?}");
    assert_eq!(prepared.instants()[0], 0.0);
    assert!((41.0..=43.0).contains(&prepared.instants()[1]), "{:?}", prepared.instants());
    assert_eq!(requests.retried_errors[&ErrorKind::Disconnected], 1);
}

#[tokio::test(start_paused = true)]
async fn a_statement_without_a_record_is_lost() {
    for kind in [ErrorKind::RecordExpired, ErrorKind::NotFound, ErrorKind::Denied, ErrorKind::Other] {
        let prepared = Prepared::new([fails(kind)], []);
        let (outcome, _) = limited(&prepared).await;
        assert!(matches!(&outcome, WaitOutcome::Lost(error) if error.kind() == kind), "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reattached_wait_polls_at_once_and_counts_its_timeout_from_the_submit() {
    let prepared = Prepared::new([now(Status::Finished)], [now(true)]);
    let id = StatementId::new("prepared");
    let strategy = Fixed::new(secs(10.0));
    // The first poll finds the statement finished, long after its timeout, so it is not cancelled.
    let wait =
        Wait::new(&prepared, &id, &strategy).with_timeout(secs(60.0)).with_time_since_submit(secs(7_200.0));
    let outcome = wait.until_ended(&mut RequestCounts::default()).await;
    assert!(matches!(outcome, WaitOutcome::Ended(_)), "{outcome:?}");
    assert_eq!(prepared.sent(), [Sent::Describe(0.0, 0)]);

    let prepared =
        Prepared::new([now(Status::Started), now(Status::Started), now(Status::Aborted)], [now(true)]);
    let wait =
        Wait::new(&prepared, &id, &strategy).with_timeout(secs(60.0)).with_time_since_submit(secs(45.0));
    let outcome = wait.until_ended(&mut RequestCounts::default()).await;
    assert!(matches!(outcome, WaitOutcome::TimedOut { .. }), "{outcome:?}");
    assert_eq!(
        prepared.sent(),
        [Sent::Describe(0.0, 0), Sent::Describe(10.0, 0), Sent::Cancel(15.0), Sent::Describe(15.0, 0)]
    );
}

#[tokio::test(start_paused = true)]
async fn the_last_second_before_a_deadline_is_not_a_busy_loop() {
    // A long poll waits for at least a second, and less than a second is left. Polls without a wait would be
    // a busy loop until the deadline.
    let prepared = Prepared::new([after(30.0, Status::Started), now(Status::Started)], [now(true)]);
    let id = StatementId::new("prepared");
    let strategy = LongPoll::default();
    let wait = Wait::new(&prepared, &id, &strategy).with_timeout(secs(30.5)).with_cancel_grace(secs(5.0));
    let _ = wait.until_ended(&mut RequestCounts::default()).await;
    assert!(prepared.sent().len() < 20, "{:?}", prepared.sent());
    // A strategy without pauses is not a busy loop either.
    let prepared = Prepared::new([now(Status::Started)], [now(true)]);
    let strategy = Fixed::new(Duration::ZERO);
    let wait = Wait::new(&prepared, &id, &strategy).with_timeout(secs(1.0)).with_cancel_grace(secs(0.1));
    let _ = wait.until_ended(&mut RequestCounts::default()).await;
    assert!(prepared.sent().len() <= 115, "{}", prepared.sent().len());
}
