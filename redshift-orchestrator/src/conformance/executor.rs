//! Scenarios for [`StatementExecutor`](crate::StatementExecutor).

use std::time::Duration;

use super::{
    Fixture, SampleSql,
    requests::{cancelled, end, numbers, run, submit, token},
};
use crate::{
    ErrorKind, ExecutionMode, PageData, ResultFormat, SessionId, Statement, StatementExecutor,
    StatementFilter, StatementId, Status, WaitTime,
};

scenarios! {
    Fixture;

    /// A query finishes, and its rows can be fetched.
    async fn a_query_finishes_with_its_rows(fixture) {
        let done = run(fixture, &Statement::sql(fixture.sql(SampleSql::Rows))).await;
        assert_eq!((&done.status, &done.error), (&Status::Finished, &None));
        assert!(done.has_result_set);
        assert_eq!(done.result_rows, Some(3));
        assert_eq!(numbers(fixture, &done.id).await, [1, 2, 3]);
    }

    /// If a statement fails, its description contains the database's error text. The request that describes
    /// it succeeds.
    async fn a_failed_statement_has_an_error_text(fixture) {
        let done = run(fixture, &Statement::sql(fixture.sql(SampleSql::Failure))).await;
        assert_eq!(done.status, Status::Failed);
        let error = done.error.as_deref().unwrap_or_default();
        assert!(error.contains("division by zero"), "{error}");
        let refused = fixture.executor().result(&done.id, None).await.expect_err("a failure has no result");
        assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused}");
    }

    /// Repeated submits with the same token return the same statement, which runs once.
    async fn a_repeated_client_token_returns_the_same_statement(fixture) {
        let what = format!("token{}", fixture.name_suffix());
        let statement = Statement::sql(fixture.sql(SampleSql::Effect(&what))).with_client_token(token(&what));
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.push(submit(fixture, &statement).await);
        }
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(end(fixture, &ids[0]).await.status, Status::Finished);
        assert_eq!(submit(fixture, &statement).await, ids[0], "also after its end");
        assert_eq!(fixture.effects(&what).await, 1);
    }

    /// Submits with different tokens, or without a token, create separate statements.
    async fn different_client_tokens_create_different_statements(fixture) {
        let what = format!("others{}", fixture.name_suffix());
        let statement = Statement::sql(fixture.sql(SampleSql::Effect(&what)));
        for (n, statement) in [
            statement.clone().with_client_token(token(&format!("{what}-1"))),
            statement.clone().with_client_token(token(&format!("{what}-2"))),
            statement.clone(),
            statement,
        ].iter().enumerate() {
            assert_eq!(run(fixture, statement).await.status, Status::Finished, "{n}");
        }
        assert_eq!(fixture.effects(&what).await, 4);
    }

    /// A submit with a wait returns the final status.
    async fn a_submit_with_a_wait_returns_the_final_status(fixture) {
        let statement = Statement::sql(fixture.sql(SampleSql::Rows));
        let submitted = fixture.executor().submit(&statement, Some(WaitTime::MAX)).await.expect("submit");
        assert_eq!(submitted.status, Some(Status::Finished));
        let submitted = fixture.executor().submit(&statement, None).await.expect("submit");
        assert_eq!(submitted.status, None, "only returned with a wait");
    }

    /// A describe request whose wait time expires returns the current status.
    async fn a_long_poll_ends_after_its_wait_time(fixture) {
        let id = submit(fixture, &Statement::sql(fixture.sql(SampleSql::LongRunning))).await;
        let wait = WaitTime::at_most(Duration::from_secs(1));
        let described = fixture.executor().describe(&id, wait).await.expect("describe");
        assert!(!described.status.is_terminal(), "{described:?}");
        let early = fixture.executor().result(&id, None).await.expect_err("a running statement has no result");
        assert_eq!(early.kind(), ErrorKind::NotFound, "{early}");
        cancelled(fixture, &id).await;
    }

    /// A cancelled statement ends as aborted. A statement that has ended cannot be cancelled.
    async fn cancel_aborts_a_running_statement_and_no_other(fixture) {
        let what = format!("cancel{}", fixture.name_suffix());
        let nap = fixture.sql(SampleSql::LongRunning);
        let batch = Statement::batch([fixture.sql(SampleSql::Effect(&what)), nap]);
        let id = submit(fixture, &batch).await;
        cancelled(fixture, &id).await;
        assert_eq!(fixture.effects(&what).await, 0, "a batch is a transaction");
        let ended = run(fixture, &Statement::sql(fixture.sql(SampleSql::Rows))).await;
        assert!(!fixture.executor().cancel(&ended.id).await.expect("cancelling an ended statement is not an error"));
        assert!(!fixture.executor().cancel(&id).await.expect("cancelling an aborted statement is not an error"));
        assert_eq!(end(fixture, &ended.id).await.status, Status::Finished);
    }

    /// If a statement requests CSV, its result is CSV with the same rows, in pages.
    async fn a_result_is_csv_on_request(fixture) {
        let statement = Statement::sql(fixture.sql(SampleSql::Rows)).with_result_format(ResultFormat::Csv);
        let done = run(fixture, &statement).await;
        assert_eq!(done.result_format, Some(ResultFormat::Csv));
        let (mut text, mut page) = (String::new(), None);
        loop {
            let response = fixture.executor().result(&done.id, page).await.expect("result");
            assert_eq!(response.columns[0].name, "n");
            let PageData::Csv(pieces) = response.data else { panic!("not the requested format") };
            text.extend(pieces);
            page = response.next;
            if page.is_none() {
                break;
            }
        }
        let lines: Vec<_> = text.lines().map(|line| line.trim_matches('"')).collect();
        assert_eq!(lines, ["n", "1", "2", "3"]);
    }

    /// A statement that violates the service's rules is rejected and has no effect.
    async fn invalid_requests_are_rejected(fixture) {
        let what = format!("refused{}", fixture.name_suffix());
        let sql = fixture.sql(SampleSql::Effect(&what));
        for statement in [
            Statement::sql(format!("{sql}; {sql}")),
            Statement::sql(" -- nothing\n"),
            Statement::sql(format!("{sql} -- {}", "x".repeat(100 * 1024))),
            Statement::batch(vec![sql.clone(); 41]),
            Statement::batch(Vec::<String>::new()),
            Statement::sql(&sql).with_name("n".repeat(2049)),
            Statement::sql(&sql).with_session_keep_alive(Duration::from_secs(86_401)),
        ] {
            let error = fixture.executor().submit(&statement, None).await.expect_err("an invalid statement");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        }
        assert_eq!(fixture.effects(&what).await, 0);
    }

    /// A session runs one statement at a time. A statement for an unknown session is rejected. Passes if the
    /// executor does not support sessions.
    async fn a_session_runs_one_statement_at_a_time(fixture) {
        let opens = Statement::sql(fixture.sql(SampleSql::Rows)).with_session_keep_alive(Duration::from_secs(3600));
        let opened = match fixture.executor().submit(&opens, Some(WaitTime::MAX)).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => return,
            opened => opened.expect("submit"),
        };
        let session = opened.session_id.expect("the requested session");
        let what = format!("session{}", fixture.name_suffix());
        let within = |sql: String| Statement::sql(sql).in_session(session.clone());
        let done = run(fixture, &within(fixture.sql(SampleSql::Effect(&what)))).await;
        assert_eq!((&done.status, &done.session_id), (&Status::Finished, &Some(session.clone())));
        assert_eq!(fixture.effects(&what).await, 1);

        let nap = submit(fixture, &within(fixture.sql(SampleSql::LongRunning))).await;
        let next = within(fixture.sql(SampleSql::Effect(&what)));
        let busy = fixture.executor().submit(&next, None).await.expect_err("the session is running another statement");
        assert_eq!(busy.kind(), ErrorKind::SessionBusy, "{busy}");
        cancelled(fixture, &nap).await;
        assert_eq!(run(fixture, &next).await.status, Status::Finished);
        assert_eq!(fixture.effects(&what).await, 2);

        let unknown = SessionId::new("00000000-0000-4000-8000-000000000000");
        let next = Statement::sql(fixture.sql(SampleSql::Effect(&what))).in_session(unknown);
        let gone = fixture.executor().submit(&next, None).await.expect_err("the session was never opened");
        assert_eq!(gone.kind(), ErrorKind::SessionGone, "{gone}");
    }

    /// A client can wait for a single sub-statement of a running batch and fetch its result.
    async fn a_sub_statement_can_be_described_with_a_wait(fixture) {
        let batch = Statement::batch([fixture.sql(SampleSql::Rows), fixture.sql(SampleSql::LongRunning)]).with_execution_mode(ExecutionMode::AutoCommit);
        let id = submit(fixture, &batch).await;
        let first = end(fixture, &id.sub_statement(1)).await;
        assert_eq!((first.status, first.result_rows), (Status::Finished, Some(3)));
        assert_eq!(numbers(fixture, &id.sub_statement(1)).await, [1, 2, 3]);
        let whole = fixture.executor().describe(&id, None).await.expect("describe");
        assert!(!whole.status.is_terminal(), "{whole:?}");
        cancelled(fixture, &id).await;
        let missing = fixture.executor().describe(&id.sub_statement(3), None).await.expect_err("the batch has two statements");
        assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");
    }

    /// A client token identifies its statement for 8 hours. A later submit with the same token creates a new
    /// statement.
    async fn a_client_token_expires_after_8_hours(fixture) {
        let what = format!("late{}", fixture.name_suffix());
        let statement = Statement::sql(fixture.sql(SampleSql::Effect(&what))).with_client_token(token(&what));
        let first = run(fixture, &statement).await.id;
        if !fixture.advance(Duration::from_mins(7 * 60 + 55)).await {
            return;
        }
        assert_eq!(submit(fixture, &statement).await, first, "just before");
        fixture.advance(Duration::from_mins(10)).await;
        let second = run(fixture, &statement).await.id;
        assert_ne!(second, first, "just after");
        assert_eq!(fixture.effects(&what).await, 2);
    }

    /// The record of a statement is kept for 24 hours after its end. Later requests return an error that
    /// differs from the error for an unknown id, and no listing contains the statement.
    async fn a_statement_record_expires_after_24_hours(fixture) {
        let name = format!("expiring{}", fixture.name_suffix());
        let named = Statement::sql(fixture.sql(SampleSql::Rows)).with_name(&name);
        let id = run(fixture, &named).await.id;
        if !fixture.advance(Duration::from_mins(23 * 60 + 50)).await {
            return;
        }
        assert_eq!(numbers(fixture, &id).await, [1, 2, 3], "just before");
        fixture.advance(Duration::from_mins(20)).await;
        let executor = fixture.executor();
        for error in [
            executor.describe(&id, None).await.expect_err("describe"),
            executor.describe(&id, Some(WaitTime::MAX)).await.expect_err("describe and wait"),
            executor.cancel(&id).await.expect_err("cancel"),
            executor.result(&id, None).await.expect_err("result"),
        ] {
            assert_eq!(error.kind(), ErrorKind::RecordExpired, "{error}");
        }
        let listed = executor.list(&StatementFilter::default().with_name_prefix(&name), None).await.expect("list");
        assert!(listed.statements.is_empty());
    }

    /// A session is closed when it has been idle for its keep-alive time. Passes if the executor does not
    /// support sessions.
    async fn an_idle_session_is_closed(fixture) {
        let opens = Statement::sql(fixture.sql(SampleSql::Rows)).with_session_keep_alive(Duration::from_mins(10));
        let opened = match fixture.executor().submit(&opens, Some(WaitTime::MAX)).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => return,
            opened => opened.expect("submit"),
        };
        let within = Statement::sql(fixture.sql(SampleSql::Rows)).in_session(opened.session_id.expect("a session"));
        if !fixture.advance(Duration::from_mins(9)).await {
            return;
        }
        assert_eq!(run(fixture, &within).await.status, Status::Finished, "each statement restarts the idle time");
        fixture.advance(Duration::from_mins(9)).await;
        assert_eq!(run(fixture, &within).await.status, Status::Finished, "the second statement restarts it again");
        fixture.advance(Duration::from_mins(11)).await;
        let gone = fixture.executor().submit(&within, None).await.expect_err("the session was idle for too long");
        assert_eq!(gone.kind(), ErrorKind::SessionGone, "{gone}");
    }

    /// Requests with an unknown id return [`ErrorKind::NotFound`].
    async fn an_unknown_id_is_not_found(fixture) {
        let id = StatementId::new("00000000-0000-4000-8000-000000000000");
        let executor = fixture.executor();
        for error in [
            executor.describe(&id, None).await.expect_err("describe"),
            executor.describe(&id.sub_statement(1), None).await.expect_err("describe a sub-statement"),
            executor.cancel(&id).await.expect_err("cancel"),
            executor.result(&id, None).await.expect_err("result"),
        ] {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
    }

    /// A batch runs its statements in order, each with its own id and result.
    async fn a_batch_has_sub_statements(fixture) {
        let what = format!("batch{}", fixture.name_suffix());
        let batch = Statement::batch([fixture.sql(SampleSql::Effect(&what)), fixture.sql(SampleSql::Rows)]);
        let done = run(fixture, &batch).await;
        assert_eq!((&done.status, done.execution_mode), (&Status::Finished, Some(ExecutionMode::Transaction)));
        let ids: Vec<_> = done.sub_statements.iter().map(|sub| sub.id.clone()).collect();
        assert_eq!(ids, [done.id.sub_statement(1), done.id.sub_statement(2)]);
        assert_eq!(numbers(fixture, &ids[1]).await, [1, 2, 3]);
        let second = end(fixture, &ids[1]).await;
        assert_eq!((second.status, second.has_result_set), (Status::Finished, true));
        let whole = fixture.executor().result(&done.id, None).await.expect_err("a batch has no result of its own");
        assert_eq!(whole.kind(), ErrorKind::Invalid, "{whole}");
        assert_eq!(fixture.effects(&what).await, 1);
    }

    /// If a statement of a transaction batch fails, the effects of all its statements are rolled back.
    async fn a_failing_transaction_batch_has_no_effect(fixture) {
        let (first, last) = (format!("undone{}", fixture.name_suffix()), format!("unreached{}", fixture.name_suffix()));
        let batch = Statement::batch([
            fixture.sql(SampleSql::Effect(&first)),
            fixture.sql(SampleSql::Failure),
            fixture.sql(SampleSql::Effect(&last)),
        ]);
        let done = run(fixture, &batch).await;
        assert_eq!(done.status, Status::Failed);
        assert!(done.error.as_deref().unwrap_or_default().contains("division by zero"), "{:?}", done.error);
        assert_eq!(done.sub_statements[1].status, Status::Failed);
        assert_eq!((fixture.effects(&first).await, fixture.effects(&last).await), (0, 0));
    }

    /// If a statement of an auto-commit batch fails, the other statements still run and keep their effects.
    async fn an_auto_commit_batch_continues_after_a_failure(fixture) {
        let (first, last) = (format!("kept{}", fixture.name_suffix()), format!("reached{}", fixture.name_suffix()));
        let batch = Statement::batch([
            fixture.sql(SampleSql::Effect(&first)),
            fixture.sql(SampleSql::Failure),
            fixture.sql(SampleSql::Effect(&last)),
        ]).with_execution_mode(ExecutionMode::AutoCommit);
        let done = run(fixture, &batch).await;
        let statuses: Vec<_> = done.sub_statements.iter().map(|sub| sub.status.as_str()).collect();
        assert_eq!(statuses, ["FINISHED", "FAILED", "FINISHED"]);
        assert_eq!((fixture.effects(&first).await, fixture.effects(&last).await), (1, 1));
    }

    /// Parameters are bound to the SQL by their names. A parameter that does not occur in the SQL, or has an
    /// empty value, is rejected.
    async fn parameters_are_bound_by_name(fixture) {
        let what = format!("parameter{}", fixture.name_suffix());
        let sql = fixture.sql(SampleSql::EffectOf("what"));
        let done = run(fixture, &Statement::sql(&sql).with_parameter("what", &what)).await;
        assert_eq!((&done.status, &done.error), (&Status::Finished, &None));
        let unused = Statement::sql(&sql).with_parameter("what", &what).with_parameter("other", "1");
        let error = fixture.executor().submit(&unused, None).await.expect_err("an unused parameter");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        let empty = Statement::sql(&sql).with_parameter("what", "");
        let error = fixture.executor().submit(&empty, None).await.expect_err("an empty value");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }

    /// A listing returns the statements whose names begin with a prefix, newest first, in pages. Without a
    /// status filter, it contains statements in every status.
    async fn a_listing_filters_by_name_prefix(fixture) {
        let prefix = format!("conformance{}/", fixture.name_suffix());
        let mut expected = Vec::new();
        for (n, sample) in [SampleSql::Rows, SampleSql::Failure, SampleSql::Rows].into_iter().enumerate() {
            let named = Statement::sql(fixture.sql(sample)).with_name(format!("{prefix}{n}"));
            expected.insert(0, run(fixture, &named).await.id);
        }
        let running = Statement::sql(fixture.sql(SampleSql::LongRunning)).with_name(format!("{prefix}nap"));
        expected.insert(0, submit(fixture, &running).await);
        let mut filter = StatementFilter::default().with_name_prefix(&prefix);
        filter.page_size = Some(3);
        let (mut found, mut page) = (Vec::new(), None);
        loop {
            let response = fixture.executor().list(&filter, page).await.expect("list");
            assert!(response.statements.len() <= 3);
            assert!(response.statements.iter().all(|one| one.name.as_deref().is_some_and(|name| name.starts_with(&prefix))));
            found.extend(response.statements.into_iter().map(|statement| statement.id));
            page = response.next;
            if page.is_none() {
                break;
            }
        }
        assert_eq!(found, expected);
        filter.status = Some(Status::Failed);
        let failed = fixture.executor().list(&filter, None).await.expect("list");
        assert_eq!(failed.statements.len(), 1);
        cancelled(fixture, &expected[0]).await;
    }
}
