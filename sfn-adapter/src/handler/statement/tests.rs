//! Tests the actions with a mock and with a scripted service.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use redshift_data_local::{LocalExecutor, Script, Scripted, ScriptedExecution};
use redshift_orchestrator::{
    Column, Description, Error as ServiceError, ErrorKind, Field, MockStatementExecutor, PageData,
    ResultPage, StatementId, Status, Submitted, catalog::Table, jiff::Timestamp,
};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::contract::statement::{Outcome, State};

const ID: &str = "d9b6c0c9-0747-4bf4-b142-e8883122f766";

type Service = LocalExecutor<Scripted>;

fn now() -> Timestamp {
    "2026-11-28T06:30:00Z".parse().unwrap()
}

fn scripted(script: Script) -> Service {
    LocalExecutor::scripted(script.starting_at(now()))
}

fn invocation(seconds: u64) -> Invocation {
    Invocation::new("r-1", Duration::from_secs(seconds)).at(now())
}

fn event(action: &str, members: Value) -> String {
    let mut event = json!({ "version": 1, "action": action });
    event.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    event.to_string()
}

fn submit_event(change: impl FnOnce(&mut Value)) -> String {
    let identity = json!({ "execution": "arn:aws:states:::execution:load:7f3a", "redrive": 0, "step": "sales", "attempt": 1 });
    let mut event = json!({ "version": 1, "action": "submit", "identity": identity, "call": "load_sales(:day)",
        "parameters": { "day": 7 } });
    change(&mut event);
    event.to_string()
}

async fn run(service: &Service, invocation: &Invocation, event: &str) -> Result<Reply, Error> {
    statement(service, service, invocation, event).await
}

fn state(reply: Result<Reply, Error>) -> State {
    match reply.unwrap() {
        Reply::State(state) => *state,
        other => panic!("{other:?}"),
    }
}

/// Runs an action with a mock that has no listings.
async fn mocked(executor: &MockStatementExecutor, seconds: u64, event: &str) -> Result<Reply, Error> {
    statement(executor, &scripted(Script::new()), &invocation(seconds), event).await
}

fn described(status: Status) -> Description {
    Description::new(StatementId::new(ID), status)
}

#[tokio::test(start_paused = true)]
async fn a_repeated_invocation_runs_the_procedure_once() {
    let service = scripted(Script::new().otherwise(ScriptedExecution::finished(Duration::from_secs(3))));
    let first = state(run(&service, &invocation(30), &submit_event(|_| ())).await);
    let again = state(run(&service, &invocation(30), &submit_event(|_| ())).await);
    assert_eq!(first.id, again.id);
    assert_eq!((first.outcome, first.terminal, first.next_poll_seconds), (Outcome::Running, false, 5));
    let others: [fn(&mut Value); 4] = [
        |event| event["identity"]["redrive"] = json!(1),
        |event| event["identity"]["attempt"] = json!(2),
        |event| event["identity"]["execution"] = json!("arn:aws:states:::execution:load:8a4b"),
        |event| event["parameters"]["day"] = json!(8),
    ];
    for change in others {
        let other = state(run(&service, &invocation(30), &submit_event(change)).await);
        assert_ne!(other.id, first.id);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(service.effects().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_asked_for_with_the_same_token_and_name() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let submits = seen.clone();
    let mut executor = MockStatementExecutor::new();
    executor.expect_target().returning(|| None);
    executor.expect_submit().times(2).returning(move |statement, wait| {
        assert_eq!(wait, None, "the id is known before the wait");
        let mut submits = submits.lock().unwrap();
        submits.push((statement.client_token().cloned(), statement.name().map(str::to_owned)));
        match submits.len() {
            1 => Err(ServiceError::new(ErrorKind::Disconnected, "connection reset")),
            _ => Ok(Submitted::new(StatementId::new(ID))),
        }
    });
    let reply = state(mocked(&executor, 30, &submit_event(|_| ())).await);
    assert_eq!(reply.id, ID);
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].1.as_deref(), Some("7f3a/0/sales/1"));
}

#[tokio::test]
async fn a_task_token_travels_in_the_name_and_asks_for_the_event() {
    let mut executor = MockStatementExecutor::new();
    executor.expect_target().returning(|| None);
    executor.expect_submit().times(1).returning(|statement, _| {
        assert_eq!(statement.name(), Some("sfn-task 7f3a/0/sales/1 AQCEAAAA"));
        assert!(statement.event());
        Ok(Submitted::new(StatementId::new(ID)))
    });
    mocked(&executor, 30, &submit_event(|event| event["task_token"] = json!("AQCEAAAA"))).await.unwrap();
}

#[rstest]
#[case(event("submit", json!({ "sql": "SELECT 1" })),
    "the event lacks the member `identity`, from which the client token is derived; send it, or a `token`")]
#[case(event("submit", json!({ "sql": "SELECT 1", "token": "" })), "`token` must have 1 to 64 characters")]
#[case(submit_event(|event| event["task_token"] = json!("a b")),
    "`task_token` is not a task token of Step Functions; send `$$.Task.Token` of a state with `.waitForTaskToken`")]
#[case(submit_event(|event| event["parameters"] = json!({ "night": 1 })), "parameter `night`: ")]
#[case(event("result", json!({ "id": ID, "page": "seven" })),
    "`page` is not valid; send the `next` of the previous page")]
#[case(event("list", json!({ "of": "tables", "name_prefix": "load" })),
    "`name_prefix` has an effect only on listings of statements; remove it")]
#[tokio::test]
async fn bad_input_reaches_nobody(#[case] event: String, #[case] message: &str) {
    let mut executor = MockStatementExecutor::new();
    executor.expect_target().returning(|| None);
    match mocked(&executor, 30, &event).await {
        Err(Error::BadInput(text)) => assert!(text.starts_with(message), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_the_statement() {
    let service = scripted(Script::new().otherwise(ScriptedExecution::finished(Duration::from_secs(40))));
    let submitted = state(run(&service, &invocation(30), &submit_event(|_| ())).await);
    let start = Instant::now();
    let reply = state(run(&service, &invocation(300), &event("wait", json!({ "id": submitted.id }))).await);
    assert_eq!((reply.outcome, reply.terminal, reply.seconds), (Outcome::Succeeded, true, 40.0));
    assert!(start.elapsed() < Duration::from_secs(42), "{:?}", start.elapsed());
}

/// A service that never responds. If the value is `true`, it responds to the first describe request.
#[derive(Debug)]
struct Silent(Mutex<bool>);
#[async_trait::async_trait]
impl StatementExecutor for Silent {
    async fn submit(
        &self,
        _: &redshift_orchestrator::Statement,
        _: Option<redshift_orchestrator::WaitTime>,
    ) -> redshift_orchestrator::Result<Submitted> {
        std::future::pending().await
    }
    async fn describe(
        &self,
        _: &StatementId,
        _: Option<redshift_orchestrator::WaitTime>,
    ) -> redshift_orchestrator::Result<Description> {
        let first = std::mem::replace(&mut *self.0.lock().unwrap(), false);
        if first { Ok(described(Status::Started)) } else { std::future::pending().await }
    }
    async fn cancel(&self, _: &StatementId) -> redshift_orchestrator::Result<bool> {
        std::future::pending().await
    }
    async fn result(
        &self,
        _: &StatementId,
        _: Option<redshift_orchestrator::PageToken>,
    ) -> redshift_orchestrator::Result<ResultPage> {
        std::future::pending().await
    }
    async fn list(
        &self,
        _: &redshift_orchestrator::StatementFilter,
        _: Option<redshift_orchestrator::PageToken>,
    ) -> redshift_orchestrator::Result<redshift_orchestrator::StatementPage> {
        std::future::pending().await
    }
    fn target(&self) -> Option<redshift_orchestrator::Target> {
        None
    }
}

#[rstest]
#[case(submit_event(|_| ()), "so the statement 7f3a/0/sales/1 may run; ")]
#[case(event("status", json!({ "id": "q-1" })), "so the status of statement q-1 is not known, and it may still be running; ")]
#[case(event("wait", json!({ "id": "q-1" })), "so the status of statement q-1 is not known, and it may still be running; ")]
#[case(event("cancel", json!({ "id": "q-1" })), "so statement q-1 may not be cancelled, and may keep running; ")]
#[case(event("result", json!({ "id": "q-1" })), "so the result of statement q-1 was not read; ")]
#[case(event("list", json!({ "of": "statements" })), "so nothing was listed; ")]
#[tokio::test(start_paused = true)]
async fn at_the_deadline_the_message_names_the_statement(#[case] event: String, #[case] text: &str) {
    let error = statement(&Silent(Mutex::new(false)), &scripted(Script::new()), &invocation(5), &event).await;
    let error = error.unwrap_err();
    assert!(matches!(error, Error::Deadline(_)), "{error:?}");
    assert!(error.to_string().contains(text), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_drop_in_says_the_same_of_a_status_that_it_does_not_know() {
    let call = crate::Call::new("mystore", "load").unwrap();
    let silent = Silent(Mutex::new(false));
    let error = crate::handler::redshift(&silent, &call, &invocation(5), r#"{"QueryId":"q-1"}"#).await;
    let text = error.unwrap_err().to_string();
    assert!(
        text.contains("so the status of statement q-1 is not known, and it may still be running; "),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_lasts_until_its_last_second_is_over() {
    // After a long poll of 30 and one of 10 seconds, less than a second is left.
    let service =
        scripted(Script::new().otherwise(ScriptedExecution::finished(Duration::from_millis(40_600))));
    let submitted = state(run(&service, &invocation(30), &submit_event(|_| ())).await);
    let wait = event("wait", json!({ "id": submitted.id, "wait_seconds": 41 }));
    let reply = state(run(&service, &invocation(300), &wait).await);
    assert_eq!(reply.outcome, Outcome::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_too_short_returns_the_status_in_time() {
    let service = scripted(Script::new().otherwise(ScriptedExecution::finished(Duration::from_secs(600))));
    let submitted = state(run(&service, &invocation(30), &submit_event(|_| ())).await);
    for (remaining, members, limit) in [
        (45, json!({ "id": submitted.id }), 44_500),
        (300, json!({ "id": submitted.id, "wait_seconds": 7 }), 7_500),
    ] {
        let start = Instant::now();
        let reply = state(run(&service, &invocation(remaining), &event("wait", members)).await);
        assert_eq!((reply.outcome, reply.terminal), (Outcome::Running, false));
        let elapsed = start.elapsed().as_millis();
        assert!((limit - 2_000..=limit).contains(&elapsed), "{elapsed} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_keeps_the_last_status_when_the_service_falls_silent() {
    let start = Instant::now();
    let executor = Silent(Mutex::new(true));
    let event = event("wait", json!({ "id": ID }));
    let reply = statement(&executor, &scripted(Script::new()), &invocation(20), &event).await;
    assert_eq!(state(reply).status, "STARTED");
    assert!(start.elapsed() <= Duration::from_millis(19_500));
}

#[tokio::test(start_paused = true)]
async fn a_statement_with_too_many_waiters_is_polled() {
    let polls = Arc::new(Mutex::new(Vec::new()));
    let (seen, start) = (polls.clone(), Instant::now());
    let mut executor = MockStatementExecutor::new();
    executor.expect_describe().returning(move |_, wait| {
        let mut polls = seen.lock().unwrap();
        polls.push((start.elapsed().as_secs(), wait.is_some()));
        match polls.len() {
            1 => Err(ServiceError::new(ErrorKind::TooManyWaiters, "too many")),
            2 | 3 => Ok(described(Status::Started)),
            _ => Ok(described(Status::Finished)),
        }
    });
    let reply = state(mocked(&executor, 60, &event("wait", json!({ "id": ID }))).await);
    assert_eq!(reply.outcome, Outcome::Succeeded);
    assert_eq!(*polls.lock().unwrap(), [(0, true), (0, false), (2, false), (4, false)]);
}

#[tokio::test(start_paused = true)]
async fn a_submit_with_a_wait_returns_the_id_whatever_becomes_of_the_wait() {
    let mut executor = MockStatementExecutor::new();
    executor.expect_target().returning(|| None);
    executor.expect_submit().times(1).returning(|_, _| Ok(Submitted::new(StatementId::new(ID))));
    executor.expect_describe().returning(|_, _| Err(ServiceError::new(ErrorKind::Denied, "not allowed")));
    let waiting = submit_event(|event| event["wait_seconds"] = json!(10));
    let reply = state(mocked(&executor, 30, &waiting).await);
    assert_eq!((reply.id.as_str(), reply.outcome), (ID, Outcome::Running));

    let error = "ERROR: relation \"sale\" does not exist";
    let service = scripted(Script::new().otherwise(ScriptedExecution::failed(Duration::from_secs(2), error)));
    let reply = state(run(&service, &invocation(30), &waiting).await);
    assert_eq!((reply.outcome, reply.cause.as_deref()), (Outcome::Failed, Some(error)));
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_with_the_age_of_the_statement() {
    let service = scripted(Script::new().otherwise(ScriptedExecution::finished(Duration::from_secs(3_600))));
    let submitted = state(run(&service, &invocation(30), &submit_event(|_| ())).await);
    let start = now();
    let mut pauses = Vec::new();
    for age in [2, 60, 1_200] {
        let at = start + Duration::from_secs(age);
        let invocation = Invocation::new("r-1", Duration::from_secs(30)).at(at);
        let status = event("status", json!({ "id": submitted.id, "poll_seconds": 3 }));
        pauses.push(state(run(&service, &invocation, &status).await).next_poll_seconds);
    }
    assert_eq!(pauses, [3, 30, 300]);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_statement_ends_and_an_ended_one_is_no_error() {
    let service = scripted(Script::new().otherwise(ScriptedExecution::finished(Duration::from_secs(60))));
    let submitted = state(run(&service, &invocation(30), &submit_event(|_| ())).await);
    let cancel = event("cancel", json!({ "id": submitted.id, "wait_seconds": 20 }));
    for _ in 0..2 {
        let reply = state(run(&service, &invocation(60), &cancel).await);
        assert_eq!((reply.outcome, reply.error.as_deref()), (Outcome::Aborted, Some("Statement.Aborted")));
    }
    assert!(service.effects().is_empty());
}

#[rstest]
#[case(Status::Started, Some("Statement.Running"))]
#[case(Status::Failed, Some("Statement.Failed"))]
#[case(Status::Aborted, Some("Statement.Aborted"))]
#[case(Status::Other("HIBERNATING".to_owned()), Some("Statement.Unknown"))]
#[case(Status::Finished, None)]
#[tokio::test]
async fn an_event_may_ask_for_errors(#[case] status: Status, #[case] expected: Option<&str>) {
    let mut executor = MockStatementExecutor::new();
    executor.expect_describe().times(1).returning(move |_, _| Ok(described(status.clone())));
    let reply = mocked(&executor, 30, &event("status", json!({ "id": ID, "raise": true }))).await;
    match (reply, expected) {
        (Ok(Reply::State(state)), None) => assert_eq!(state.outcome, Outcome::Succeeded),
        (Err(Error::Statement { name, cause }), Some(expected)) => {
            assert_eq!(name, expected);
            assert!(!cause.is_empty());
        }
        (other, _) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_record_that_has_expired_is_an_end_with_an_unknown_outcome() {
    let mut executor = MockStatementExecutor::new();
    executor.expect_describe().returning(|_, _| {
        Err(ServiceError::new(ErrorKind::RecordExpired, "it has expired after 1795934472"))
    });
    let reply = state(mocked(&executor, 30, &event("status", json!({ "id": ID }))).await);
    assert_eq!((reply.status.as_str(), reply.outcome, reply.terminal), ("EXPIRED", Outcome::Unknown, true));
    assert!(reply.cause.unwrap().contains(ID));
}

/// A service with one page of rows, each of about 100 bytes.
fn with_rows(count: i64) -> MockStatementExecutor {
    let mut executor = MockStatementExecutor::new();
    executor.expect_result().returning(move |_, page| {
        assert!(page.is_none(), "there is one page");
        let row = |n| vec![Field::Long(n), Field::String("x".repeat(90))];
        let columns = vec![Column::new("n", "int8"), Column::new("x", "varchar")];
        Ok(ResultPage::new(columns, PageData::Records((0..count).map(row).collect())))
    });
    executor
}

#[tokio::test]
async fn a_result_that_is_too_large_is_refused_with_the_way_out_and_read_in_pieces() {
    let executor = with_rows(5_000);
    let read = |page: Option<String>, max_rows: Option<u32>| {
        event("result", json!({ "id": ID, "page": page, "max_rows": max_rows }))
    };
    let Err(Error::TooLarge(text)) = mocked(&executor, 30, &read(None, None)).await else { panic!() };
    assert!(text.contains("5000 rows") && text.contains("`max_rows`") && text.contains("UNLOAD"), "{text}");

    let (mut seen, mut page) = (Vec::new(), None);
    loop {
        let reply = mocked(&executor, 30, &read(page, Some(999))).await.unwrap();
        let size = serde_json::to_string(&reply).unwrap().len();
        assert!(size <= MAX_REPLY, "{size}");
        let Reply::Result(result) = reply else { panic!() };
        seen.extend(result.rows.unwrap().into_iter().map(|row| row[0].as_i64().unwrap()));
        page = result.next;
        if page.is_none() {
            break;
        }
    }
    assert_eq!(seen, (0..5_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn fields_become_values_of_json() {
    let mut executor = MockStatementExecutor::new();
    executor.expect_result().returning(|_, _| {
        let row = vec![
            Field::Null,
            Field::Boolean(true),
            Field::Long(i64::MAX),
            Field::Double(0.5),
            Field::Double(f64::NAN),
            Field::String("12.50".to_owned()),
            Field::Blob(vec![1, 2, 255]),
        ];
        Ok(ResultPage::new(vec![Column::new("a", "int4")], PageData::Records(vec![row])))
    });
    let Reply::Result(page) = mocked(&executor, 30, &event("result", json!({ "id": ID }))).await.unwrap()
    else {
        panic!()
    };
    assert_eq!(
        json!(page.rows),
        json!([[null, true, 9_223_372_036_854_775_807_i64, 0.5, "NaN", "12.50", "AQL/"]])
    );
}

#[tokio::test(start_paused = true)]
async fn listings_have_pages() {
    let columns = || [Column::new("id", "int8")];
    let script = Script::new()
        .with_table(Table::new("mystore", "dim_customer"), columns())
        .with_table(Table::new("mystore", "dim_item"), columns())
        .with_table(Table::new("mystore", "sale"), columns());
    let service = scripted(script);
    let (mut names, mut page) = (Vec::new(), None::<String>);
    loop {
        let list = event(
            "list",
            json!({ "of": "tables", "schema": "mystore", "table": "dim_%", "page_size": 1, "page": page }),
        );
        let Reply::List(listing) = run(&service, &invocation(30), &list).await.unwrap() else { panic!() };
        names.extend(listing.entries.iter().map(|table| table["name"].as_str().unwrap().to_owned()));
        page = listing.next;
        if page.is_none() {
            break;
        }
    }
    assert_eq!(names, ["dim_customer", "dim_item"]);

    run(&service, &invocation(30), &submit_event(|_| ())).await.unwrap();
    let list = event("list", json!({ "of": "statements", "name_prefix": "7f3a/" }));
    let Reply::List(listing) = run(&service, &invocation(30), &list).await.unwrap() else { panic!() };
    assert_eq!(listing.entries[0]["name"], "7f3a/0/sales/1");
    assert!(!serde_json::to_string(&listing).unwrap().contains("load_sales"), "a listing has no SQL");
}
