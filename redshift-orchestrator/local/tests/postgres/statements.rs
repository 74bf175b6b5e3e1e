//! Statements in a process that keeps running.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use redshift_data_local::Limits;
use redshift_orchestrator::{
    ClientToken, ErrorKind, ExecutionMode, Field, PageData, PageToken, ResultFormat, Statement,
    StatementExecutor, StatementFilter, StatementId, Status, TokioClock, WaitTime,
};

use crate::harness::{Database, ended, rows, run};

fn text(text: &str) -> Field {
    Field::String(text.to_owned())
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn a_query_returns_typed_exact_fields() {
    let service = Database::new("typed").await.start().await;
    let sql = "SELECT 1::int2 AS small, 7000000000::int8 AS big, true AS yes, 0.1::float4 AS tenth, NULL::text AS nothing,
        123456789012345678901234567890.12345::numeric(38, 5) AS exact, (-0.00010)::numeric(10,5) AS tiny, 10000::numeric AS even,
        date '2026-02-28' AS day, timestamp '2026-02-28 23:59:59.12' AS moment, timestamptz '2026-02-28 00:00:00+02' AS zoned,
        time '01:02:03' AS clock, interval '1 mon 2 days 03:04:05.5' AS span, '\\\\x00ff'::bytea AS bytes, '' AS empty,
        ARRAY['a','b c',NULL] AS list, '{\"a\": 1}'::jsonb AS json";
    let done = run(&service, &Statement::sql(sql)).await;
    assert_eq!((done.status, done.error), (Status::Finished, None));
    assert_eq!((done.result_rows, done.has_result_set), (Some(1), true));
    assert_eq!(
        rows(&service, &done.id).await,
        [vec![
            Field::Long(1),
            Field::Long(7_000_000_000),
            Field::Boolean(true),
            Field::Double(0.1),
            Field::Null,
            text("123456789012345678901234567890.12345"),
            text("-0.00010"),
            text("10000"),
            text("2026-02-28"),
            text("2026-02-28 23:59:59.12"),
            text("2026-02-27 22:00:00+00"),
            text("01:02:03"),
            text("1 mon 2 days 03:04:05.5"),
            Field::Blob(vec![0, 255]),
            text(""),
            text("{a,\"b c\",NULL}"),
            text("{\"a\": 1}"),
        ]]
    );
    let page = service.result(&done.id, None).await.unwrap();
    let tiny = page.columns.iter().find(|column| column.name == "tiny").unwrap();
    assert_eq!((tiny.type_name.as_str(), tiny.precision, tiny.scale), ("numeric", Some(10), Some(5)));
    let bytes = page.columns.iter().find(|column| column.name == "bytes").unwrap();
    assert_eq!(bytes.type_name, "varbyte");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn concurrent_submits_are_accepted_up_to_the_limit_of_active_statements() {
    let mut limits = Limits::default();
    limits.active_statements = 5;
    let service = Database::new("active").await.service().with_limits(limits).start().await.unwrap();
    let nap = Statement::sql("SELECT pg_sleep(600)");
    let answers = futures::future::join_all((0..20).map(|_| service.submit(&nap, None))).await;
    let refused = answers.iter().filter_map(|answer| answer.as_ref().err()).collect::<Vec<_>>();
    assert_eq!(refused.len(), 15);
    assert!(refused.iter().all(|error| error.kind() == ErrorKind::TooManyStatements), "{refused:?}");
}

/// Regression: if a process wrote a result and a process with larger pages read it, rows were skipped.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn pages_are_unchanged_when_the_limits_change_later() {
    let database = Database::new("pages_kept").await;
    let paged = async |size| {
        let mut limits = Limits::default();
        limits.rows_per_page = size;
        database.service().with_limits(limits).start().await.unwrap()
    };
    let sql = Statement::sql("SELECT n FROM generate_series(1, 7) AS n");
    let id = run(&paged(2).await, &sql).await.id;
    for size in [1, 2, 3, 1_000] {
        let service = paged(size).await;
        assert_eq!(
            rows(&service, &id).await,
            (1..=7).map(|n| vec![Field::Long(n)]).collect::<Vec<_>>(),
            "{size}"
        );
        for token in ["4", "-1", "x", "2147483647", "99999999999"] {
            let page = PageToken::new(format!("{token}.{id}"));
            assert!(service.result(&id, Some(page)).await.is_err(), "{token}");
        }
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn numerics_and_dates_are_printed_as_the_server_prints_them() {
    let service = Database::new("printed").await.start().await;
    let sql = "SELECT n, n::text, d, d::text, t, t::text, i, i::text FROM (
        SELECT (CASE WHEN k % 2 = 0 THEN 1 ELSE -1 END) * round((k * 7919 % 100003)::numeric * power(10::numeric, k % 13 - 6), k % 8) AS n,
               date '0001-01-01' + k * 1461 AS d, timestamp '1990-01-01' + k * interval '12345.678901 seconds' * k AS t,
               k * interval '1 mon 3 days 04:05:06.7' AS i
        FROM generate_series(0, 2000) AS k) AS x";
    let done = run(&service, &Statement::sql(sql)).await;
    assert_eq!(done.error, None);
    let rows = rows(&service, &done.id).await;
    assert_eq!(rows.len(), 2001);
    for row in rows {
        for pair in row.chunks(2) {
            assert_eq!(pair[0], pair[1]);
        }
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn named_parameters_are_cast_to_the_required_type() {
    let database = Database::new("parameters").await;
    let service = database.start().await;
    let create = "CREATE PROCEDURE load(n int, day date, what text) LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO effects SELECT what || ' ' || n + 1 || ' ' || day; RAISE NOTICE 'loaded %', what; END $$";
    assert_eq!(run(&service, &Statement::sql(create)).await.error, None);
    let call = Statement::sql("CALL load(:n, :day, :what) -- not :this")
        .with_parameter("n", "41")
        .with_parameter("day", "2026-02-28")
        .with_parameter("what", "it's :n; --");
    let done = run(&service, &call).await;
    assert_eq!((done.error, done.has_result_set), (None, false));
    assert_eq!(database.effects("it's :n; -- 42 2026-02-28").await, 1);
    assert_eq!(service.notices(&done.id)[0].message, "loaded it's :n; --");
    let twice = Statement::sql("SELECT :x::int + 1, :x || '!'").with_parameter("x", "1");
    let done = run(&service, &twice).await;
    assert_eq!(rows(&service, &done.id).await, [vec![Field::Long(2), text("1!")]]);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn a_failure_contains_the_servers_message_code_and_position() {
    let service = Database::new("failures").await.start().await;
    let unknown = run(&service, &Statement::sql("CALL load_nothing(1)")).await;
    assert_eq!(unknown.status, Status::Failed);
    let error = unknown.error.unwrap();
    assert!(
        error.starts_with("ERROR: procedure load_nothing(integer) does not exist [SQLSTATE 42883]"),
        "{error}"
    );

    let create = "CREATE PROCEDURE divide() LANGUAGE plpgsql AS $$ BEGIN PERFORM 1 / 0; END $$";
    assert_eq!(run(&service, &Statement::sql(create)).await.status, Status::Finished);
    let error = run(&service, &Statement::sql("CALL divide()")).await.error.unwrap();
    assert!(error.starts_with("ERROR: division by zero [SQLSTATE 22012]"), "{error}");
    assert!(error.contains("Where: ") && error.contains("PL/pgSQL function divide() line 1"), "{error}");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn a_client_token_identifies_one_statement_for_8_hours() {
    let database = Database::new("tokens").await;
    let epoch: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let clock = |hours| Arc::new(TokioClock::starting_at(epoch + Duration::from_hours(hours)));
    let statement = Statement::sql("INSERT INTO effects VALUES ('once')")
        .with_client_token(ClientToken::new("run-1/load/1").unwrap());
    let service = database.service().with_clock(clock(0)).start().await.unwrap();
    let first = run(&service, &statement).await;
    assert_eq!(service.submit(&statement, None).await.unwrap().id, first.id);
    drop(service);

    let service = database.service().with_clock(clock(7)).start().await.unwrap();
    assert_eq!(service.submit(&statement, None).await.unwrap().id, first.id);
    assert_eq!(database.effects("once").await, 1);
    drop(service);

    let service = database.service().with_clock(clock(9)).start().await.unwrap();
    assert_ne!(run(&service, &statement).await.id, first.id);
    assert_eq!(database.effects("once").await, 2);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn concurrent_submits_with_one_token_are_one_statement() {
    let database = Database::new("racing").await;
    let services = [database.start().await, database.start().await];
    let statement = Statement::sql("INSERT INTO effects VALUES ('once')")
        .with_client_token(ClientToken::new("token").unwrap());
    let submits = (0..20).map(|n| services[n % 2].submit(&statement, None));
    let ids: Vec<StatementId> =
        futures::future::join_all(submits).await.into_iter().map(|submitted| submitted.unwrap().id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    for service in &services {
        assert_eq!(ended(service, &ids[0]).await.status, Status::Finished);
    }
    assert_eq!(database.effects("once").await, 1);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn records_are_remembered_for_24_hours() {
    let database = Database::new("expiry").await;
    let epoch: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let clock = |hours| Arc::new(TokioClock::starting_at(epoch + Duration::from_hours(hours)));
    let service = database.service().with_clock(clock(0)).start().await.unwrap();
    let done = run(&service, &Statement::sql("SELECT 1 AS one").with_name("mystore/1")).await;
    drop(service);
    let service = database.service().with_clock(clock(23)).start().await.unwrap();
    assert_eq!(rows(&service, &done.id).await, [vec![Field::Long(1)]]);
    let listed = service.list(&StatementFilter::default().with_name_prefix("mystore/"), None).await.unwrap();
    assert_eq!(listed.statements.len(), 1);
    drop(service);
    let service = database.service().with_clock(clock(25)).start().await.unwrap();
    let error = service.describe(&done.id, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RecordExpired);
    assert_eq!(error.message(), "Could not retrieve the query result as it has expired after 1767312000");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn a_transaction_batch_is_all_or_nothing() {
    let database = Database::new("batch").await;
    let service = database.start().await;
    let good = Statement::batch(["INSERT INTO effects VALUES ('a')", "SELECT count(*) FROM effects"]);
    let done = run(&service, &good).await;
    assert_eq!((done.status, done.has_result_set), (Status::Finished, true));
    assert_eq!(done.sub_statements[0].result_rows, Some(1));
    let second = done.id.sub_statement(2);
    assert_eq!(rows(&service, &second).await, [vec![Field::Long(1)]]);
    assert_eq!(service.describe(&second, None).await.unwrap().status, Status::Finished);
    assert_eq!(service.result(&done.id, None).await.unwrap_err().kind(), ErrorKind::Invalid);

    let bad = Statement::batch([
        "INSERT INTO effects VALUES ('b')",
        "SELECT 1 / 0",
        "INSERT INTO effects VALUES ('c')",
    ]);
    let done = run(&service, &bad).await;
    assert_eq!(done.status, Status::Failed);
    assert!(done.error.unwrap().starts_with("Query #2 failed with ERROR: division by zero"));
    let statuses: Vec<_> = done.sub_statements.iter().map(|sub| sub.status.as_str()).collect();
    assert_eq!(statuses, ["FINISHED", "FAILED", "ABORTED"]);
    assert_eq!((database.effects("b").await, database.effects("c").await), (0, 0));
}

/// PostgreSQL can change the type of a column inside a transaction, but Redshift cannot.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn a_statement_that_cannot_run_in_a_transaction_fails_in_a_transaction_batch() {
    let database = Database::new("outside_batch").await;
    let service = database.start().await;
    let done = run(&service, &Statement::sql("CREATE TABLE t (a varchar(10))")).await;
    assert_eq!(done.status, Status::Finished, "{:?}", done.error);
    for sql in ["ALTER TABLE t ALTER COLUMN a TYPE varchar(20)", "VACUUM t"] {
        let done = run(&service, &Statement::batch(["INSERT INTO t VALUES ('a')", sql])).await;
        let error = done.error.unwrap_or_default();
        assert_eq!(done.status, Status::Failed, "{sql}");
        assert!(error.contains("cannot run inside a transaction block [SQLSTATE 25001]"), "{error}");
        let single = run(&service, &Statement::sql(sql)).await;
        assert_eq!(single.status, Status::Finished, "{sql}: {:?}", single.error);
        let each = Statement::batch([sql]).with_execution_mode(ExecutionMode::AutoCommit);
        assert_eq!(run(&service, &each).await.status, Status::Finished, "{sql}");
    }
    let left = run(&service, &Statement::sql("SELECT count(*) FROM t")).await;
    assert_eq!(rows(&service, &left.id).await, [[Field::Long(0)]]);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn an_auto_commit_batch_commits_each_statement() {
    let database = Database::new("auto_commit").await;
    let service = database.start().await;
    let batch = Statement::batch([
        "INSERT INTO effects VALUES ('a')",
        "SELECT 1 / 0",
        "INSERT INTO effects VALUES (:what)",
        "VACUUM effects",
    ])
    .with_parameter("what", "c")
    .with_execution_mode(ExecutionMode::AutoCommit);
    let done = run(&service, &batch).await;
    let statuses: Vec<_> = done.sub_statements.iter().map(|sub| sub.status.as_str()).collect();
    assert_eq!(statuses, ["FINISHED", "FAILED", "FINISHED", "FINISHED"]);
    assert_eq!(done.status, Status::Failed);
    assert_eq!((database.effects("a").await, database.effects("c").await), (1, 1));
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn a_procedure_that_commits_runs_outside_of_a_transaction() {
    let database = Database::new("commits").await;
    let service = database.start().await;
    let create = "CREATE PROCEDURE commits(what text) LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO effects VALUES (what); COMMIT; INSERT INTO effects VALUES (what || '!'); PERFORM 1 / 0; END $$";
    assert_eq!(run(&service, &Statement::sql(create)).await.status, Status::Finished);
    let done = run(&service, &Statement::sql("CALL commits(:w)").with_parameter("w", "x")).await;
    assert!(done.error.unwrap().contains("division by zero"));
    assert_eq!((database.effects("x").await, database.effects("x!").await), (1, 0));
    let done = run(&service, &Statement::batch(["CALL commits('y')"])).await;
    assert!(done.error.unwrap().contains("AUTO_COMMIT"), "the error suggests an alternative");
    assert_eq!(database.effects("y").await, 0);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn a_cancel_interrupts_running_statements_and_removes_queued_ones() {
    let database = Database::new("cancels").await;
    let service = database.service().with_connections(2).start().await.unwrap();
    let running =
        Statement::sql("WITH nap AS (SELECT pg_sleep(600)) INSERT INTO effects SELECT 'ran' FROM nap");
    let running = service.submit(&running, None).await.unwrap().id;
    let waiting =
        service.submit(&Statement::sql("INSERT INTO effects VALUES ('waited')"), None).await.unwrap().id;
    database.until("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()").await;
    assert_eq!(service.describe(&running, None).await.unwrap().status, Status::Started);
    assert_eq!(service.describe(&waiting, None).await.unwrap().status, Status::Submitted);
    assert!(service.cancel(&waiting).await.unwrap());
    assert!(service.cancel(&running).await.unwrap());
    for id in [&running, &waiting] {
        assert_eq!(ended(&service, id).await.status, Status::Aborted);
        assert!(!service.cancel(id).await.unwrap());
    }
    assert_eq!(
        run(&service, &Statement::sql("INSERT INTO effects VALUES ('next')")).await.status,
        Status::Finished
    );
    assert_eq!((database.effects("ran").await, database.effects("waited").await), (0, 0));
}

/// Regression: the first statement was reported as started until the whole batch ended, and a wait for it
/// lasted as long.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn a_running_transaction_batch_reports_the_statements_that_have_ended() {
    let database = Database::new("running_batch").await;
    let service = database.start().await;
    let session = Statement::sql("SELECT 1").with_session_keep_alive(Duration::from_secs(3600));
    let session = service.submit(&session, Some(WaitTime::MAX)).await.unwrap().session_id.unwrap();
    let batch = Statement::batch(["SELECT 1 AS a", "SELECT pg_sleep(600)", "SELECT 1"]);
    let in_session = batch.clone().in_session(session.clone());
    let cases = [(batch, None), (in_session.clone(), None), (in_session, Some("BEGIN"))];
    for (batch, before) in cases {
        if let Some(sql) = before {
            let begin = Statement::sql(sql).in_session(session.clone());
            assert_eq!(run(&service, &begin).await.error, None);
        }
        let id = service.submit(&batch, None).await.unwrap().id;
        let first = service.describe(&id.sub_statement(1), Some(WaitTime::MAX)).await.unwrap();
        assert_eq!((first.status, first.result_rows), (Status::Finished, Some(1)));
        assert!(!first.has_result_set, "the result is available after the commit");
        database.until("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()").await;
        let running = service.describe(&id, None).await.unwrap();
        let statuses: Vec<_> = running.sub_statements.iter().map(|sub| sub.status.as_str()).collect();
        assert_eq!((running.status, statuses), (Status::Started, vec!["FINISHED", "STARTED", "SUBMITTED"]));
        assert!(service.cancel(&id).await.unwrap());
        assert_eq!(ended(&service, &id).await.status, Status::Aborted);
    }
}

/// Regression: the statements that had ended before the cancel were reported as aborted, unlike after a
/// failure.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn a_cancelled_transaction_batch_keeps_the_status_of_statements_that_ended() {
    let database = Database::new("cancelled_batch").await;
    let service = database.start().await;
    let sqls = ["INSERT INTO effects VALUES ('first')", "SELECT pg_sleep(600)", "SELECT 1"];
    let id = service.submit(&Statement::batch(sqls), None).await.unwrap().id;
    database.until("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()").await;
    assert!(service.cancel(&id).await.unwrap());
    let done = ended(&service, &id).await;
    let statuses: Vec<_> = done.sub_statements.iter().map(|sub| sub.status.as_str()).collect();
    assert_eq!((done.status, statuses), (Status::Aborted, vec!["FINISHED", "ABORTED", "ABORTED"]));
    assert_eq!(database.effects("first").await, 0);
}

/// Regression: the results were reported to exist, and reading them was an internal error.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn a_transaction_batch_that_is_rolled_back_has_no_results() {
    let database = Database::new("no_results").await;
    let deferred = "CREATE TABLE owner (id int PRIMARY KEY);
        CREATE TABLE owned (id int REFERENCES owner DEFERRABLE INITIALLY DEFERRED);";
    database.client.batch_execute(deferred).await.unwrap();
    let service = database.start().await;
    let session = Statement::sql("SELECT 1").with_session_keep_alive(Duration::from_secs(3600));
    let session = service.submit(&session, Some(WaitTime::MAX)).await.unwrap().session_id.unwrap();
    let within = |sql: &str| Statement::sql(sql).in_session(session.clone());

    let failing = Statement::batch(["SELECT 1 AS a", "SELECT * FROM nothere"]);
    let uncommitted = Statement::batch(["SELECT 1 AS a", "INSERT INTO owned VALUES (1)"]);
    let mut ended_batches = Vec::new();
    for statement in [&failing, &uncommitted] {
        ended_batches.push(run(&service, statement).await);
        ended_batches.push(run(&service, &statement.clone().in_session(session.clone())).await);
        // A batch in a transaction that the caller began.
        assert_eq!(run(&service, &within("BEGIN")).await.error, None);
        ended_batches.push(run(&service, &statement.clone().in_session(session.clone())).await);
    }
    let id =
        service.submit(&Statement::batch(["SELECT 1 AS a", "SELECT pg_sleep(600)"]), None).await.unwrap().id;
    database.until("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()").await;
    assert!(service.cancel(&id).await.unwrap());
    ended_batches.push(ended(&service, &id).await);
    let restarted = database.start().await;
    for done in &ended_batches {
        assert_ne!(done.status, Status::Finished);
        let first = done.id.sub_statement(1);
        for service in [&service, &restarted] {
            let description = service.describe(&first, None).await.unwrap();
            assert_eq!((description.status, description.has_result_set), (Status::Finished, false));
            assert_eq!(description.result_size, None);
            let refused = service.result(&first, None).await.unwrap_err();
            assert_eq!(refused.code(), Some("ResourceNotFoundException"), "{refused}");
        }
        assert!(!done.has_result_set);
    }

    let cancelled = Statement::batch(["SELECT 1 AS a", "SELECT pg_sleep(600)"])
        .with_execution_mode(ExecutionMode::AutoCommit);
    let id = service.submit(&cancelled, None).await.unwrap().id;
    database.until("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()").await;
    assert!(service.cancel(&id).await.unwrap());
    ended(&service, &id).await;
    assert_eq!(rows(&service, &id.sub_statement(1)).await, [[Field::Long(1)]], "committed");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn statements_run_concurrently_up_to_the_number_of_connections() {
    let database = Database::new("side_by_side").await;
    let service = database.service().with_connections(4).start().await.unwrap();
    let meet = "DO $$ BEGIN INSERT INTO effects VALUES ('here'); PERFORM pg_sleep(600); END $$";
    let ids: Vec<_> = futures::future::join_all(
        (0..5).map(|_| async { service.submit(&Statement::sql(meet), None).await.unwrap().id }),
    )
    .await;
    database.until("SELECT count(*) = 3 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()").await;
    let mut started = 0;
    for id in &ids {
        started += usize::from(service.describe(id, None).await.unwrap().status == Status::Started);
    }
    assert_eq!(started, 3);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn results_come_in_pages_and_as_csv() {
    let database = Database::new("pages").await;
    let mut limits = Limits::default();
    limits.rows_per_page = 100;
    let service = database.service().with_limits(limits).start().await.unwrap();
    let done = run(&service, &Statement::sql("SELECT n FROM generate_series(1, 250) AS n")).await;
    let numbers: Vec<_> = rows(&service, &done.id).await.into_iter().flatten().collect();
    assert_eq!(numbers, (1..=250).map(Field::Long).collect::<Vec<_>>());

    let csv = Statement::sql("SELECT 1 AS a, 'x,y' AS b, NULL AS c").with_result_format(ResultFormat::Csv);
    let done = run(&service, &csv).await;
    let page = service.result(&done.id, None).await.unwrap();
    assert_eq!(page.data, PageData::Csv(vec!["a,b,c\r\n1,\"x,y\",\r\n".to_owned()]));
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn session_state_is_reset_between_statements() {
    let service = Database::new("sessions").await.service().with_connections(2).start().await.unwrap();
    run(&service, &Statement::sql("SET search_path TO nowhere")).await;
    run(&service, &Statement::sql("CREATE TEMPORARY TABLE leftover (n int)")).await;
    run(&service, &Statement::sql("SET TIME ZONE 'Asia/Tokyo'")).await;
    let done = run(
        &service,
        &Statement::sql(
            "SELECT to_regclass('leftover') IS NULL, current_schema(), current_setting('TimeZone')",
        ),
    )
    .await;
    assert_eq!(rows(&service, &done.id).await, [vec![Field::Boolean(true), text("public"), text("UTC")]]);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn transaction_control_is_rejected() {
    let database = Database::new("control").await;
    let service = database.start().await;
    let done = run(
        &service,
        &Statement::batch(["INSERT INTO effects VALUES ('a')", "/* ! */ commit", "SELECT 1 / 0"]),
    )
    .await;
    assert!(done.error.unwrap().starts_with("Query #2 failed with ERROR: COMMIT cannot be submitted"));
    assert_eq!(database.effects("a").await, 0);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn one_connection_runs_every_operation() {
    let database = Database::new("single").await;
    let service = database.service().with_connections(1).start().await.unwrap();
    let first = service.submit(&Statement::sql("SELECT pg_sleep(1)"), None).await.unwrap().id;
    let second = Statement::sql("INSERT INTO effects VALUES ('second')");
    let second = service.submit(&second, Some(WaitTime::MAX)).await.unwrap();
    assert_eq!(second.status, Some(Status::Finished));
    assert_eq!(service.describe(&first, None).await.unwrap().status, Status::Finished);
    assert_eq!(database.effects("second").await, 1);
    let connections = "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'redshift-orchestrator' AND datname = current_database()";
    database.until(connections).await;
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn an_unreachable_server_and_an_invalid_url_are_reported() {
    let error = redshift_data_local::LocalExecutor::postgres("postgresql://me:secret@127.0.0.1:1/db")
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable);
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    let error = redshift_data_local::LocalExecutor::postgres("not a url").start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn one_connection_cannot_cancel_a_running_statement() {
    let database = Database::new("single_cancel").await;
    let service = database.service().with_connections(1).start().await.unwrap();
    let running = service.submit(&Statement::sql("SELECT pg_sleep(1)"), None).await.unwrap().id;
    database.until("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()").await;
    assert!(!service.cancel(&running).await.unwrap());
    assert_eq!(ended(&service, &running).await.status, Status::Finished);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn a_copy_through_the_connection_is_rejected() {
    let service = Database::new("copies").await.start().await;
    let done = run(&service, &Statement::sql("COPY effects FROM STDIN")).await;
    assert!(done.error.unwrap().starts_with("ERROR: COPY FROM STDIN"));
}

/// The outcome of a statement is written in the statement's transaction. If that fails, the statement fails
/// and does not run again.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn a_failed_commit_fails_the_statement_without_a_retry() {
    let database = Database::new("uncommittable").await;
    let sql = "CREATE TABLE owner (id int PRIMARY KEY);
        CREATE TABLE owned (id int REFERENCES owner DEFERRABLE INITIALLY DEFERRED);";
    database.client.batch_execute(sql).await.unwrap();
    let service = database.start().await;
    let deferred = run(&service, &Statement::sql("INSERT INTO owned VALUES (1)")).await;
    assert!(deferred.error.unwrap().contains("violates foreign key constraint"));
    let read_only = Statement::batch(["SET TRANSACTION READ ONLY", "SELECT 1"]);
    let read_only = run(&service, &read_only).await;
    assert!(read_only.error.unwrap().contains("read-only transaction"));
    let parts = Statement::batch(["INSERT INTO owned VALUES (2)", "INSERT INTO effects VALUES ('next')"])
        .with_execution_mode(ExecutionMode::AutoCommit);
    let parts = run(&service, &parts).await;
    let statuses: Vec<_> = parts.sub_statements.iter().map(|sub| sub.status.as_str()).collect();
    assert_eq!(statuses, ["FAILED", "FINISHED"]);
    let attempts = "SELECT max(attempts) = 1 FROM redshift_data_local.statement";
    database.until(attempts).await;
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn redshifts_sql_is_translated() {
    let service = Database::new("dialect").await.start().await;
    let create = "CREATE TABLE sale (id BIGINT IDENTITY(5, 5), what VARCHAR(10) ENCODE zstd, at TIMESTAMP DEFAULT SYSDATE)
        DISTSTYLE KEY DISTKEY (id) COMPOUND SORTKEY (at, id)";
    let procedure = "CREATE PROCEDURE sell() LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO sale (what) SELECT NVL(NULL, 'x') WHERE GETDATE() < SYSDATE + INTERVAL '1 day'; END $$";
    for sql in [create, procedure, "CALL sell()", "CALL sell()"] {
        assert_eq!(run(&service, &Statement::sql(sql)).await.error, None);
    }
    let sql = "SELECT id, what, ABS(EXTRACT(epoch FROM at - GETDATE())) < 60 FROM sale ORDER BY id";
    let done = run(&service, &Statement::sql(sql)).await;
    let row = |id| vec![Field::Long(id), text("x"), Field::Boolean(true)];
    assert_eq!(rows(&service, &done.id).await, [row(5), row(10)]);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn result_columns_have_their_type_and_origin() {
    let service = Database::new("origins").await.start().await;
    let table = "CREATE TABLE sold (id INT4 NOT NULL, price NUMERIC(10,2), name VARCHAR(20), at TIMESTAMP)";
    assert_eq!(run(&service, &Statement::sql(table)).await.error, None);
    let sql = "SELECT id, price AS paid, name, at, id + 1 AS next, 'x' || name AS text FROM sold";
    let done = run(&service, &Statement::sql(sql)).await;
    let page = service.result(&done.id, None).await.unwrap();
    let described: Vec<_> = page
        .columns
        .iter()
        .map(|column| {
            let origin = column.schema.as_deref().zip(column.table.as_deref());
            let measures = (column.precision, column.scale);
            (column.name.as_str(), column.type_name.as_str(), measures, column.nullable, origin)
        })
        .collect();
    let sold = Some(("public", "sold"));
    assert_eq!(
        described,
        [
            ("id", "int4", (Some(10), Some(0)), Some(false), sold),
            ("paid", "numeric", (Some(10), Some(2)), Some(true), sold),
            ("name", "varchar", (Some(20), Some(0)), Some(true), sold),
            ("at", "timestamp", (Some(29), Some(6)), Some(true), sold),
            ("next", "int4", (Some(10), Some(0)), None, None),
            ("text", "varchar", (Some(65_535), Some(0)), None, None),
        ]
    );
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn notices_of_a_procedure_that_commits_are_kept_once() {
    let service = Database::new("said_once").await.start().await;
    let create = "CREATE PROCEDURE load(name VARCHAR) AS $$
        BEGIN RAISE INFO 'loading %', name; RAISE INFO 'loading %', name; COMMIT; RAISE WARNING 'loaded %', name; END $$ LANGUAGE plpgsql";
    assert_eq!(run(&service, &Statement::sql(create)).await.error, None);
    let said = |id| service.notices(id).into_iter().map(|notice| notice.message).collect::<Vec<_>>();
    let done = run(&service, &Statement::sql("CALL load('a')")).await;
    assert_eq!(
        (done.error, said(&done.id)),
        (None, ["loading a", "loading a", "loaded a"].map(str::to_owned).to_vec())
    );
    let batch =
        Statement::batch(["CALL load('a')", "CALL load('a')"]).with_execution_mode(ExecutionMode::AutoCommit);
    let done = run(&service, &batch).await;
    let both = ["loading a", "loading a", "loaded a"].repeat(2);
    assert_eq!((done.error, said(&done.id)), (None, both.into_iter().map(str::to_owned).collect()));
}
