//! Connections that are kept between statements.

use std::time::Duration;

use redshift_orchestrator::{
    Catalog, ErrorKind, Field, Statement, StatementExecutor, Status, WaitTime, catalog::SessionFilter,
};

use crate::harness::{Database, ended, rows, run};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn a_session_keeps_its_temporary_tables_and_its_transaction() {
    let database = Database::new("session_keeps").await;
    let service = database.start().await;
    let first = Statement::sql("CREATE TEMPORARY TABLE work AS SELECT 7 AS n").with_session_keep_alive(HOUR);
    let submitted = service.submit(&first, Some(WaitTime::MAX)).await.unwrap();
    let session = submitted.session_id.unwrap();
    let within = |sql: &str| Statement::sql(sql).in_session(session.clone());
    let done = run(&service, &within("SELECT n FROM work")).await;
    assert_eq!(rows(&service, &done.id).await, [vec![Field::Long(7)]]);
    assert_eq!(done.session_id, Some(session.clone()));

    for sql in ["BEGIN", "INSERT INTO effects SELECT 'n' || n FROM work"] {
        assert_eq!(run(&service, &within(sql)).await.error, None);
    }
    assert_eq!(database.effects("n7").await, 0, "its transaction is open");
    assert_eq!(run(&service, &within("COMMIT")).await.error, None);
    assert_eq!(database.effects("n7").await, 1);

    let outside = run(&service, &Statement::sql("SELECT n FROM work")).await;
    assert!(outside.error.unwrap().contains("relation \"work\" does not exist"));
    let open = service.sessions(&SessionFilter::default(), None).await.unwrap();
    assert_eq!(open.entries.iter().map(|session| session.status.as_str()).collect::<Vec<_>>(), ["AVAILABLE"]);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn a_busy_session_takes_no_other_statement_and_can_be_cancelled() {
    let database = Database::new("session_busy").await;
    let service = database.start().await;
    let nap = Statement::sql("SELECT pg_sleep(600)").with_session_keep_alive(HOUR);
    let napping =
        service.submit(&nap, Some(WaitTime::at_most(Duration::from_secs(1)).unwrap())).await.unwrap();
    let next = Statement::sql("SELECT 1 AS n").in_session(napping.session_id.unwrap());
    assert_eq!(service.submit(&next, None).await.unwrap_err().kind(), ErrorKind::SessionBusy);
    database
        .until("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()")
        .await;
    assert!(service.cancel(&napping.id).await.unwrap());
    assert_eq!(ended(&service, &napping.id).await.status, Status::Aborted);
    assert_eq!(run(&service, &next).await.status, Status::Finished);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn a_session_ends_with_its_process() {
    let database = Database::new("session_ends").await;
    let service = database.start().await;
    let first = Statement::sql("SELECT 1 AS n").with_session_keep_alive(HOUR);
    let session = service.submit(&first, Some(WaitTime::MAX)).await.unwrap().session_id.unwrap();
    let other = database.start().await;
    drop(service);
    let next = Statement::sql("SELECT 1 AS n").in_session(session);
    assert_eq!(other.submit(&next, None).await.unwrap_err().kind(), ErrorKind::SessionGone);
}
