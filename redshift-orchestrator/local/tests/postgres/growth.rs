//! Growth of a service that runs for weeks: memory and tables must stay bounded, and a listing must read only
//! one page.

use std::sync::Arc;

use redshift_orchestrator::{ErrorKind, Statement, StatementExecutor, StatementFilter, StatementId, Status};

use crate::{
    harness::{Database, run},
    turned::TurnedClock,
};

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn a_listing_reads_a_page_and_not_all_records() {
    const READ: &str = "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relid = 'redshift_data_local.statement'::regclass";
    let database = Database::new("growth_listing").await;
    let service = database.start().await;
    let ours = run(&service, &Statement::sql("SELECT 1").with_name("ours")).await.id;
    let fill = "INSERT INTO redshift_data_local.statement (id, name, sqls, parameters, result_format, with_event, status, created_at, updated_at, ended_at)
        SELECT gen_random_uuid(), 'theirs-' || n, ARRAY['SELECT 1'], '[]', 'JSON', false, 'FINISHED', now(), now(), now() FROM generate_series(1, 20000) n";
    database.client.batch_execute(fill).await.unwrap();
    database.client.batch_execute("ANALYZE redshift_data_local.statement").await.unwrap();
    // Waits until the counters include the statements of this connection, because the test compares the
    // counters.
    database.until(&format!("SELECT ({READ}) >= 0")).await;
    let before: i64 = database.client.query_one(READ, &[]).await.unwrap().get(0);

    let (mut page, mut listed) = (None, Vec::new());
    for _ in 0..3 {
        let answer = service.list(&StatementFilter::default(), page).await.unwrap();
        listed.extend(answer.statements.into_iter().map(|statement| statement.name.unwrap()));
        page = answer.next;
    }
    let expected: Vec<_> = (19_701..=20_000).rev().map(|number| format!("theirs-{number}")).collect();
    assert_eq!(listed, expected);
    database.until(&format!("SELECT ({READ}) >= {}", before + 300)).await;
    let read: i64 = database.client.query_one(READ, &[]).await.unwrap().get(0);
    assert!(read - before < 2_000, "{} records were read for three pages", read - before);

    // Finding a statement by name does not read the other records.
    let found = service.list(&StatementFilter::default().with_name_prefix("ours"), None).await.unwrap();
    assert_eq!(found.statements.iter().map(|one| &one.id).collect::<Vec<_>>(), [&ours]);
    assert_eq!(found.next, None);
    let mut failed = StatementFilter::default();
    failed.status = Some(Status::Failed);
    assert_eq!(service.list(&failed, None).await.unwrap().statements.len(), 0);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn expired_statements_are_removed_from_memory_and_from_the_database() {
    let database = Database::new("growth_expired").await;
    let clock = TurnedClock::new();
    let service = database.service().with_clock(Arc::new(clock.clone())).start().await.unwrap();
    let count = async |sql: &str| -> i64 { database.client.query_one(sql, &[]).await.unwrap().get(0) };
    let submit = async |sql: &str| -> StatementId { run(&service, &Statement::sql(sql)).await.id };

    let noisy = submit("DO 'BEGIN RAISE NOTICE ''loaded''; END'").await;
    let with_rows = submit("SELECT 1").await;
    assert_eq!(service.notices(&noisy).len(), 1);
    assert_eq!(count("SELECT count(*) FROM redshift_data_local.result_page").await, 1);

    clock.turn(25.0);
    let error = service.describe(&with_rows, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RecordExpired);
    assert_eq!(service.notices(&noisy), []);
    submit("SELECT 2").await;
    assert_eq!(count("SELECT count(*) FROM redshift_data_local.result_page").await, 1);
    assert_eq!(service.list(&StatementFilter::default(), None).await.unwrap().statements.len(), 1);

    // A week later, the records are deleted.
    clock.turn(8.0 * 24.0);
    submit("SELECT 3").await;
    assert_eq!(count("SELECT count(*) FROM redshift_data_local.statement").await, 1);
    let error = service.describe(&with_rows, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RecordExpired);
}
