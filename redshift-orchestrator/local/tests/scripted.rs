//! Tests `LocalExecutor` with a script on a paused clock, and asserts the exact times of state changes.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use redshift_data_local::{
    Fault, Faults, Faulty, Latency, Limits, LocalExecutor, Operation, Script, Scripted, ScriptedExecution,
};
use redshift_orchestrator::{
    Catalog, ClientToken, Column, Compute, ErrorKind, ExecutionMode, Field, PageData, PageToken, Statement,
    StatementExecutor, StatementFilter, StatementId, Status, WaitTime, catalog::SessionFilter,
};
use tokio::time::{Instant, sleep};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn wait(seconds: u64) -> Option<WaitTime> {
    WaitTime::at_most(secs(seconds))
}

async fn submit(service: &LocalExecutor<Scripted>, statement: Statement) -> StatementId {
    service.submit(&statement, None).await.unwrap().id
}

async fn status(service: &LocalExecutor<Scripted>, id: &StatementId) -> Status {
    service.describe(id, None).await.unwrap().status
}

#[tokio::test(start_paused = true)]
async fn a_statement_spends_the_declared_time_in_each_state() {
    let latency = Latency { submitted: secs(2), picked: secs(3) };
    let script = Script::new().with_latency(latency).otherwise(ScriptedExecution::finished(secs(5)));
    let service = LocalExecutor::scripted(script.starting_at("2026-01-01T00:00:00Z".parse().unwrap()));
    let id = submit(&service, Statement::sql("SELECT 1")).await;
    let mut seen = Vec::new();
    sleep(Duration::from_millis(500)).await;
    for _ in 0..11 {
        seen.push(status(&service, &id).await.to_string());
        sleep(secs(1)).await;
    }
    let expected =
        ["SUBMITTED"; 2].into_iter().chain(["PICKED"; 3]).chain(["STARTED"; 5]).chain(["FINISHED"]);
    assert!(seen.iter().map(String::as_str).eq(expected), "{seen:?}");
    let done = service.describe(&id, None).await.unwrap();
    assert_eq!(done.execution_time, Some(secs(5)), "the time in the database, without the time in the queue");
    assert_eq!(done.created_at.unwrap().to_string(), "2026-01-01T00:00:00Z");
    assert_eq!(done.updated_at.unwrap().to_string(), "2026-01-01T00:00:10Z");
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_is_answered_at_the_end_or_after_its_wait() {
    let service = LocalExecutor::scripted(Script::new().otherwise(ScriptedExecution::finished(secs(45))));
    let begin = Instant::now();
    let submitted = service.submit(&Statement::sql("SELECT 1"), wait(30)).await.unwrap();
    assert_eq!((submitted.status, begin.elapsed()), (Some(Status::Started), secs(30)));
    let done = service.describe(&submitted.id, wait(30)).await.unwrap();
    assert_eq!((done.status, begin.elapsed()), (Status::Finished, secs(45)));
    service.describe(&submitted.id, wait(30)).await.unwrap();
    assert_eq!(begin.elapsed(), secs(45), "a poll of an ended statement returns at once");
}

#[tokio::test(start_paused = true)]
async fn all_waiters_are_woken_and_one_too_many_is_rejected() {
    let mut limits = Limits::default();
    limits.waiters_per_statement = 3;
    let script = Script::new().with_limits(limits).otherwise(ScriptedExecution::finished(secs(7)));
    let service = LocalExecutor::scripted(script);
    let id = submit(&service, Statement::sql("SELECT 1")).await;
    let begin = Instant::now();
    let waiters: Vec<_> = (0..4).map(|_| service.describe(&id, wait(30))).collect();
    let answers = futures::future::join_all(waiters).await;
    assert_eq!(begin.elapsed(), secs(7));
    assert!(answers[..3].iter().all(|answer| answer.as_ref().unwrap().status == Status::Finished));
    let refused = answers[3].as_ref().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooManyWaiters);
    assert_eq!(refused.code(), Some("ActiveWaitingRequestsExceededException"));
    assert!(service.describe(&id, wait(1)).await.is_ok(), "permits are released");
}

#[tokio::test(start_paused = true)]
async fn a_token_identifies_its_statement_for_8_hours() {
    let service = LocalExecutor::scripted(Script::new());
    let statement = Statement::sql("CALL load()").with_client_token(ClientToken::new("t").unwrap());
    let first = submit(&service, statement.clone()).await;
    sleep(Duration::from_hours(8) - secs(1)).await;
    assert_eq!(submit(&service, statement.clone()).await, first);
    assert_eq!(service.effects().len(), 1);
    sleep(secs(1)).await;
    let second = submit(&service, statement).await;
    assert_ne!(second, first);
    service.describe(&second, wait(1)).await.unwrap();
    assert_eq!(service.effects().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_record_is_forgotten_24_hours_after_its_end() {
    let service = LocalExecutor::scripted(Script::new().otherwise(ScriptedExecution::finished(secs(10))));
    let id = submit(&service, Statement::sql("SELECT 1").with_name("a")).await;
    sleep(secs(9) + Duration::from_hours(24)).await;
    assert_eq!(status(&service, &id).await, Status::Finished);
    sleep(secs(2)).await;
    let error = service.describe(&id, None).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::RecordExpired, Some("ValidationException")));
    assert_eq!(
        service.list(&StatementFilter::default().with_name_prefix("a"), None).await.unwrap().statements,
        []
    );
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_statement_has_no_effect_in_any_state() {
    let latency = Latency { submitted: secs(10), picked: secs(10) };
    let script = Script::new().with_latency(latency).otherwise(ScriptedExecution::finished(secs(10)));
    for at in [5, 15, 25] {
        let service = LocalExecutor::scripted(script.clone());
        let id = submit(&service, Statement::sql("CALL load()")).await;
        sleep(secs(at)).await;
        assert!(service.cancel(&id).await.unwrap());
        let begin = Instant::now();
        assert_eq!(service.describe(&id, wait(30)).await.unwrap().status, Status::Aborted);
        assert_eq!(begin.elapsed(), Duration::ZERO, "at once");
        sleep(secs(60)).await;
        assert_eq!(service.effects(), []);
        assert!(!service.cancel(&id).await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_transaction_batch_has_no_effect_and_an_auto_commit_batch_has_one() {
    let script = Script::new()
        .on("bad", ScriptedExecution::failed(secs(2), "ERROR: division by zero"))
        .otherwise(ScriptedExecution::finished(secs(1)).with_affected_rows(3));
    let service = LocalExecutor::scripted(script);
    let batch = Statement::batch(["good 1", "bad", "good 2"]);
    let id = submit(&service, batch.clone()).await;
    sleep(Duration::from_millis(1500)).await;
    let running = service.describe(&id, None).await.unwrap();
    let statuses = |subs: &[redshift_orchestrator::SubStatement]| {
        subs.iter().map(|sub| sub.status.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(statuses(&running.sub_statements), ["FINISHED", "STARTED", "SUBMITTED"]);
    let done = service.describe(&id, wait(30)).await.unwrap();
    assert_eq!(statuses(&done.sub_statements), ["FINISHED", "FAILED", "ABORTED"]);
    assert_eq!(done.error.as_deref(), Some("Query #2 failed with ERROR: division by zero"));
    assert_eq!(done.sub_statements[0].result_rows, Some(3));
    assert_eq!(service.effects(), []);

    let id = submit(&service, batch.with_execution_mode(ExecutionMode::AutoCommit)).await;
    let begin = Instant::now();
    let second = service.describe(&id.sub_statement(2), wait(30)).await.unwrap();
    assert_eq!(
        (second.status, begin.elapsed()),
        (Status::Failed, secs(3)),
        "a poll of a sub-statement returns when that sub-statement ends"
    );
    let done = service.describe(&id, wait(30)).await.unwrap();
    assert_eq!(statuses(&done.sub_statements), ["FINISHED", "FAILED", "FINISHED"]);
    let effects: Vec<_> = service.effects().into_iter().map(|effect| (effect.number, effect.sql)).collect();
    assert_eq!(effects, [(1, "good 1".to_owned()), (3, "good 2".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn executions_of_a_rule_are_used_in_order() {
    let script = Script::new()
        .on_each(
            "load",
            [
                ScriptedExecution::failed(secs(1), "ERROR: deadlock detected"),
                ScriptedExecution::finished(secs(1)),
            ],
        )
        .on("l", ScriptedExecution::finished(secs(9)));
    let service = LocalExecutor::scripted(script);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let id = submit(&service, Statement::sql("CALL load()")).await;
        seen.push(service.describe(&id, wait(30)).await.unwrap().status.to_string());
    }
    assert_eq!(seen, ["FAILED", "FINISHED", "FINISHED"]);
}

#[tokio::test(start_paused = true)]
async fn with_one_slot_statements_run_in_order_of_submission() {
    let script = Script::new().with_concurrency(1).otherwise(ScriptedExecution::finished(secs(10)));
    let service = LocalExecutor::scripted(script.starting_at("2026-01-01T00:00:00Z".parse().unwrap()));
    for name in ["a", "b", "c"] {
        submit(&service, Statement::sql("SELECT 1").with_name(name)).await;
    }
    sleep(secs(60)).await;
    let ends: Vec<_> =
        service.effects().into_iter().map(|effect| (effect.name.unwrap(), effect.at.to_string())).collect();
    let expected = [("a", "10"), ("b", "20"), ("c", "30")]
        .map(|(name, second)| (name.to_owned(), format!("2026-01-01T00:00:{second}Z")));
    assert_eq!(ends, expected);
}

#[tokio::test(start_paused = true)]
async fn listings_are_newest_first_by_prefix_and_in_pages() {
    let service = LocalExecutor::scripted(
        Script::new().on("fail", ScriptedExecution::failed(Duration::ZERO, "ERROR: no")),
    );
    for n in 0..7 {
        submit(&service, Statement::sql("SELECT 1").with_name(format!("run-1/{n}"))).await;
        submit(&service, Statement::sql("fail").with_name(format!("run-2/{n}"))).await;
    }
    sleep(secs(1)).await;
    let mut filter = StatementFilter::default().with_name_prefix("run-1/");
    filter.page_size = Some(3);
    let (mut names, mut pages, mut page) = (Vec::new(), Vec::new(), None);
    loop {
        let answer = service.list(&filter, page).await.unwrap();
        pages.push(answer.statements.len());
        names.extend(answer.statements.into_iter().map(|statement| statement.name.unwrap()));
        page = answer.next;
        if page.is_none() {
            break;
        }
    }
    assert_eq!(pages, [3, 3, 1]);
    assert_eq!(names, (0..7).rev().map(|n| format!("run-1/{n}")).collect::<Vec<_>>());
    let mut failed = StatementFilter::default();
    failed.status = Some(Status::Failed);
    assert_eq!(service.list(&failed, None).await.unwrap().statements.len(), 7);
    let error = service.list(&filter, Some(PageToken::new("yours"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

/// Regression: a page token was a position among all statements, so a listing with another filter continued
/// there, and skipped its own first statements.
#[tokio::test(start_paused = true)]
async fn a_page_token_of_another_listing_is_rejected() {
    let service = LocalExecutor::scripted(Script::new());
    for n in 0..7 {
        submit(&service, Statement::sql("SELECT 1").with_name(format!("run-1/{n}"))).await;
    }
    let mut filter = StatementFilter::default().with_name_prefix("run-1/");
    filter.page_size = Some(3);
    let page = service.list(&filter, None).await.unwrap().next.unwrap();
    let other = |change: fn(&mut StatementFilter)| {
        let mut other = filter.clone();
        change(&mut other);
        other
    };
    for other in [
        other(|filter| filter.name_prefix = None),
        other(|filter| filter.name_prefix = Some("run-1".to_owned())),
        other(|filter| filter.status = Some(Status::Finished)),
        other(|filter| filter.own_session_only = true),
        other(|filter| filter.compute = Some(Compute::Workgroup("dwh".to_owned()))),
        other(|filter| filter.database = Some("dev".to_owned())),
    ] {
        let error = service.list(&other, Some(page.clone())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{other:?}");
    }
    // The size of the pages may change.
    let larger = other(|filter| filter.page_size = Some(100));
    assert_eq!(service.list(&larger, Some(page)).await.unwrap().statements.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn results_are_paged_and_rejected_with_the_services_messages() {
    let mut limits = Limits::default();
    limits.rows_per_page = 2;
    let rows = (0..5).map(|n| vec![Field::Long(n)]).collect();
    let script = Script::new()
        .with_limits(limits)
        .on("SELECT", ScriptedExecution::finished(secs(5)).with_result(vec![Column::new("n", "int8")], rows));
    let service = LocalExecutor::scripted(script);
    let id = submit(&service, Statement::sql("SELECT n")).await;
    let early = service.result(&id, None).await.unwrap_err();
    assert_eq!((early.kind(), early.code()), (ErrorKind::NotFound, Some("ResourceNotFoundException")));
    let done = service.describe(&id, wait(30)).await.unwrap();
    assert_eq!((done.has_result_set, done.result_rows, done.result_size), (true, Some(5), Some(40)));
    let first = service.result(&id, None).await.unwrap();
    assert_eq!((first.total_rows, first.next.is_some()), (Some(5), true));
    let second = service.result(&id, first.next).await.unwrap();
    assert_eq!(second.data, PageData::Records(vec![vec![Field::Long(2)], vec![Field::Long(3)]]));
    // Regression: the token of one result was accepted for another.
    let batch = submit(&service, Statement::batch(["SELECT n", "SELECT m"])).await;
    service.describe(&batch, wait(30)).await.unwrap();
    let tokens = [second.next, service.result(&batch.sub_statement(1), None).await.unwrap().next];
    for foreign in tokens {
        let error = service.result(&batch.sub_statement(2), foreign).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, Some("ValidationException")));
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_the_service_rejects_are_rejected() {
    let mut limits = Limits::default();
    limits.active_statements = 2;
    let service = LocalExecutor::scripted(
        Script::new().with_limits(limits).otherwise(ScriptedExecution::finished(secs(60))),
    );
    let with = |name: &str, value: &str| Statement::sql("CALL p(:a)").with_parameter(name, value);
    for (statement, part) in [
        (Statement::sql("  -- nothing"), "empty"),
        (Statement::sql("DELETE FROM a; DELETE FROM b"), "Multiple SQL statements"),
        (Statement::sql("x".repeat(100 * 1024 + 1)), "102401 bytes"),
        (Statement::batch(Vec::<String>::new()), "1 to 40"),
        (Statement::batch(vec!["SELECT 1"; 41]), "1 to 40"),
        (Statement::sql("SELECT 1").with_name("n".repeat(2049)), "2048"),
        (with("a", ""), "at least one character"),
        (with("a-b", "1"), "letters, digits and _"),
        (with("b", "1"), "unused parameters"),
        (with("a", "1").with_parameter("a", "2"), "given twice"),
        (Statement::sql("CALL p(:a, :b)").with_parameter("a", "1"), "the list has no such parameter"),
    ] {
        let error = service.submit(&statement, None).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::Invalid, Some("ValidationException")),
            "{error}"
        );
        assert!(error.message().contains(part), "{error}");
    }
    for _ in 0..2 {
        submit(&service, with("a", "1")).await;
    }
    let error = service.submit(&with("a", "1"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooManyStatements);
    assert_eq!(error.code(), Some("ActiveStatementsExceededException"));

    let unknown = StatementId::new("b8a7c2f0-0000-4000-8000-000000000000");
    assert_eq!(service.describe(&unknown, None).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(service.describe(&StatementId::new("x"), None).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test(start_paused = true)]
async fn ids_and_times_of_a_script_are_the_same_every_time() {
    let play = || async {
        let service = LocalExecutor::scripted(
            Script::new()
                .starting_at("2026-01-01T00:00:00Z".parse().unwrap())
                .with_seed(7)
                .otherwise(ScriptedExecution::finished(secs(1))),
        );
        let id = submit(&service, Statement::sql("SELECT 1")).await;
        service.describe(&id, wait(30)).await.unwrap()
    };
    assert_eq!(play().await, play().await);
}

#[tokio::test(start_paused = true)]
async fn a_lost_response_took_effect_and_a_lost_request_did_not() {
    for (fault, effects, kind) in [
        (Fault::LostReply, 1, ErrorKind::Disconnected),
        (Fault::LostRequest, 0, ErrorKind::Disconnected),
        (Fault::DroppedConnection, 0, ErrorKind::NotSent),
        (Fault::Throttle, 0, ErrorKind::Throttled),
        (Fault::WrappedThrottle, 0, ErrorKind::Throttled),
        (Fault::InternalError, 0, ErrorKind::ServiceFault),
    ] {
        let faults = Faults::seeded(1).with(Operation::Submit, fault, 1.0);
        let service = Faulty::new(LocalExecutor::scripted(Script::new()), faults);
        let error = service.submit(&Statement::sql("CALL load()"), None).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{fault:?}");
        sleep(secs(1)).await;
        assert_eq!(service.inner().effects().len(), effects, "{fault:?}");
        assert_eq!(service.injected().iter().collect::<Vec<_>>(), [(Operation::Submit, fault.as_str(), 1)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_expires_early_is_not_found_by_any_request() {
    let service = Faulty::new(
        LocalExecutor::scripted(Script::new()),
        Faults::seeded(1).with_everywhere(Fault::Expiry, 1.0),
    );
    let batch = Statement::batch(["SELECT 1", "SELECT 2"]);
    let id = service.submit(&batch, None).await.unwrap().id;
    assert_eq!(service.list(&StatementFilter::default(), None).await.unwrap().statements.len(), 1);
    let error = service.describe(&id.sub_statement(2), None).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::RecordExpired, Some("ValidationException")));
    assert!(error.message().contains("has expired after"), "{error}");
    assert!(service.list(&StatementFilter::default(), None).await.unwrap().statements.is_empty());
    assert_eq!(service.cancel(&id).await.unwrap_err().kind(), ErrorKind::RecordExpired);
    assert_eq!(service.result(&id, None).await.unwrap_err().kind(), ErrorKind::RecordExpired);
    assert_eq!(service.injected().total(), 1);
}

#[tokio::test(start_paused = true)]
async fn faults_occur_at_the_declared_rate_and_repeat_with_the_seed() {
    let meet = |seed| async move {
        let faults = Faults::seeded(seed)
            .with(Operation::Describe, Fault::Throttle, 0.2)
            .with(Operation::Describe, Fault::LostReply, 0.1)
            .with(Operation::Describe, Fault::Delay(secs(3)), 0.1);
        let service = Faulty::new(LocalExecutor::scripted(Script::new()), faults);
        let id = service.submit(&Statement::sql("SELECT 1"), None).await.unwrap().id;
        let mut met = String::new();
        for _ in 0..2000 {
            let begin = Instant::now();
            met.push(match service.describe(&id, None).await {
                Ok(_) if begin.elapsed() == secs(3) => 'd',
                Ok(_) => '.',
                Err(error) if error.kind() == ErrorKind::Throttled => 't',
                Err(_) => 'l',
            });
        }
        (met, service.injected())
    };
    let (met, injected) = meet(5).await;
    assert_eq!((met.clone(), injected.clone()), meet(5).await);
    assert_ne!(met, meet(6).await.0);
    let count = |of| met.chars().filter(|c| *c == of).count();
    assert_eq!(count('t') + count('l') + count('d'), injected.total() as usize);
    for (of, expected) in [('t', 400), ('l', 200), ('d', 200)] {
        assert!(count(of).abs_diff(expected) < 60, "{of}: {}", count(of));
    }
}

#[tokio::test(start_paused = true)]
async fn the_hook_is_called_before_the_response() {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let hook = seen.clone();
    let faults = Faults::seeded(1).with(Operation::Submit, Fault::LostReply, 1.0);
    let service = Faulty::new(LocalExecutor::scripted(Script::new()), faults).with_on_submitted(
        move |statement, submitted| {
            hook.lock().unwrap().push((statement.name().map(str::to_owned), submitted.id.clone()));
        },
    );
    assert!(service.submit(&Statement::sql("CALL load()").with_name("cycle-3:load"), None).await.is_err());
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].0.as_deref(), Some("cycle-3:load"));
    assert_eq!(service.describe(&seen[0].1, wait(1)).await.unwrap().status, Status::Finished);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_busy_then_available_then_closed_by_its_keep_alive() {
    let service = LocalExecutor::scripted(Script::new().otherwise(ScriptedExecution::finished(secs(10))));
    let statement = Statement::sql("SELECT 1");
    let first = service.submit(&statement.clone().with_session_keep_alive(secs(60)), None).await.unwrap();
    let session = first.session_id.unwrap();
    let within = statement.clone().in_session(session.clone());
    let seen = async || {
        let sessions = service.sessions(&SessionFilter::default(), None).await.unwrap().entries;
        sessions.into_iter().map(|session| session.status.to_string()).collect::<Vec<_>>()
    };
    let refused = async |kind| assert_eq!(service.submit(&within, None).await.unwrap_err().kind(), kind);

    refused(ErrorKind::SessionBusy).await;
    assert_eq!(seen().await, ["BUSY"]);
    sleep(secs(10) + secs(59)).await;
    assert_eq!(seen().await, ["AVAILABLE"]);
    let second = service.submit(&within, wait(30)).await.unwrap();
    assert_eq!((second.status, second.session_id), (Some(Status::Finished), Some(session.clone())));
    sleep(secs(59)).await;
    assert_eq!(seen().await, ["AVAILABLE"], "counted from the end of the last statement");
    sleep(secs(1)).await;
    assert!(seen().await.is_empty());
    refused(ErrorKind::SessionGone).await;
    assert_eq!(service.submit(&statement, None).await.unwrap().session_id, None);
}

#[tokio::test(start_paused = true)]
async fn sessions_are_limited() {
    let mut limits = Limits::default();
    limits.active_sessions = 2;
    let service = LocalExecutor::scripted(Script::new().with_limits(limits));
    let statement = Statement::sql("SELECT 1").with_session_keep_alive(secs(60));
    for _ in 0..2 {
        service.submit(&statement, None).await.unwrap();
    }
    let error = service.submit(&statement, None).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::TooManySessions, Some("ActiveSessionsExceededException"))
    );
    sleep(secs(60)).await;
    service.submit(&statement, None).await.unwrap();
    let day = statement.with_session_keep_alive(Duration::from_hours(25));
    assert_eq!(service.submit(&day, None).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test(start_paused = true)]
async fn a_bounded_number_of_expired_statements_is_remembered() {
    let mut limits = Limits::default();
    limits.expired_records = 2;
    // Matches the emulator's configuration, which wraps the service even if the list of faults is empty.
    let service = LocalExecutor::scripted(Script::new().with_limits(limits));
    let service = Faulty::new(service, Faults::seeded(0));
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(service.submit(&Statement::sql("SELECT 1"), None).await.unwrap().id);
        sleep(secs(1)).await;
    }
    let kinds = async || {
        let mut kinds = Vec::new();
        for id in &ids {
            kinds.push(service.describe(id, None).await.unwrap_err().kind());
        }
        kinds
    };
    sleep(Duration::from_hours(25)).await;
    assert_eq!(kinds().await, [ErrorKind::NotFound, ErrorKind::RecordExpired, ErrorKind::RecordExpired]);
    // The service reports the expiry even days later.
    sleep(Duration::from_hours(240)).await;
    assert_eq!(kinds().await, [ErrorKind::NotFound, ErrorKind::RecordExpired, ErrorKind::RecordExpired]);
}

#[tokio::test(start_paused = true)]
async fn effects_are_not_kept_without_a_reader() {
    let service = LocalExecutor::scripted(Script::new().without_effects());
    let id = service.submit(&Statement::sql("SELECT 1"), None).await.unwrap().id;
    assert_eq!(service.describe(&id, Some(WaitTime::MAX)).await.unwrap().status, Status::Finished);
    assert_eq!(service.effects(), []);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_statement_is_started_until_its_rollback_ends() {
    let run = ScriptedExecution::finished(secs(60)).with_rollback(secs(600));
    let service = LocalExecutor::scripted(Script::new().otherwise(run));
    let id = submit(&service, Statement::sql("CALL load()")).await;
    sleep(secs(10)).await;
    let begin = Instant::now();
    assert!(service.cancel(&id).await.unwrap());
    sleep(secs(595)).await;
    assert_eq!(status(&service, &id).await, Status::Started);
    assert!(service.cancel(&id).await.unwrap(), "a second cancel changes nothing");
    service.describe(&id, wait(30)).await.unwrap();
    assert_eq!((status(&service, &id).await, begin.elapsed()), (Status::Aborted, secs(600)));
    assert_eq!(service.effects().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_during_the_commit_is_accepted_without_an_effect() {
    let run = ScriptedExecution::finished(secs(60)).with_commit(secs(20));
    for (cancelled_after, expected) in [(39, Status::Aborted), (41, Status::Finished)] {
        let service = LocalExecutor::scripted(Script::new().otherwise(run.clone()));
        let id = submit(&service, Statement::sql("CALL load()")).await;
        sleep(secs(cancelled_after)).await;
        assert!(service.cancel(&id).await.unwrap());
        service.describe(&id, wait(30)).await.unwrap();
        assert_eq!(status(&service, &id).await, expected);
        assert_eq!(service.effects().len(), usize::from(expected == Status::Finished));
    }
}
