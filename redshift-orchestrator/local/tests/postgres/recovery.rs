//! Recovery of statements after a process, a connection or the server dies.

use std::{collections::HashSet, sync::Arc, time::Duration};

use redshift_data_local::LocalExecutor;
use redshift_orchestrator::{
    ClientToken, Description, ExecutionMode, Field, Statement, StatementExecutor, Status, WaitTime,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use crate::harness::{Database, ended, rows, run};

/// Returns a statement that takes effect once another connection unlocks the table `gate`.
fn gated(what: &str) -> Statement {
    Statement::sql("CALL gated(:what)").with_parameter("what", what)
}

async fn with_gate(database: &Database) {
    let sql = "CREATE TABLE gate (n int);
        CREATE PROCEDURE gated(what text) LANGUAGE plpgsql AS $$
            BEGIN INSERT INTO effects VALUES (what); LOCK TABLE gate IN SHARE MODE; END $$";
    database.client.batch_execute(sql).await.unwrap();
}

const AT_THE_GATE: &str =
    "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'gate'::regclass AND NOT granted";

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn an_accepted_statement_runs_after_a_restart() {
    let database = Database::new("accepted").await;
    with_gate(&database).await;
    database.client.batch_execute("BEGIN; LOCK TABLE gate").await.unwrap();
    let service = database.service().with_connections(2).start().await.unwrap();
    let running = service.submit(&gated("running"), None).await.unwrap().id;
    let waiting =
        service.submit(&Statement::sql("INSERT INTO effects VALUES ('waiting')"), None).await.unwrap().id;
    database.until(AT_THE_GATE).await;
    // Dropping the service closes the connections without a message, like killing the process.
    drop(service);

    let service = database.start().await;
    // The status does not move back to an earlier state.
    assert_eq!(service.describe(&running, None).await.unwrap().status, Status::Started);
    database.client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(ended(&service, &waiting).await.status, Status::Finished);
    assert_eq!(ended(&service, &running).await.status, Status::Finished);
    assert_eq!((database.effects("running").await, database.effects("waiting").await), (1, 1));
}

/// Forwards connections to the server of a database, until they are cut.
struct Proxy {
    url: String,
    cut: Arc<Notify>,
}

impl Proxy {
    async fn to(database: &Database) -> Self {
        let (user, place) = database.url.rsplit_once('@').unwrap();
        let (server, name) = place.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{user}@{}/{name}", listener.local_addr().unwrap());
        let (server, cut) = (server.to_owned(), Arc::new(Notify::new()));
        let until_cut = cut.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut server = TcpStream::connect(&server).await.unwrap();
                let cut = until_cut.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        () = cut.notified() => {}
                    }
                });
            }
        });
        Self { url, cut }
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn a_repeated_transaction_batch_begins_with_its_first_statement() {
    let database = Database::new("repeated_batch").await;
    let proxy = Proxy::to(&database).await;
    let service = LocalExecutor::postgres(&proxy.url).start().await.unwrap();
    database.client.batch_execute("CREATE TABLE pause AS SELECT 0::float8 AS seconds").await.unwrap();
    let batch = Statement::batch([
        "INSERT INTO effects SELECT 'a' FROM pause, pg_sleep(pause.seconds)",
        "SELECT pg_sleep(600)",
    ]);
    let id = service.submit(&batch, None).await.unwrap().id;
    let first = id.sub_statement(1);
    assert_eq!(service.describe(&first, Some(WaitTime::MAX)).await.unwrap().status, Status::Finished);
    // The process loses its connection, and the first attempt is rolled back. The second attempt waits in the
    // first statement.
    database.client.batch_execute("UPDATE pause SET seconds = 600").await.unwrap();
    let pid = service.describe(&id, None).await.unwrap().redshift_pid.unwrap();
    proxy.cut.notify_waiters();
    database.client.batch_execute(&format!("SELECT pg_terminate_backend({pid})")).await.unwrap();
    database.until("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE 'INSERT%' AND datname = current_database()").await;
    let statuses = |description: Description| {
        description.sub_statements.iter().map(|sub| sub.status.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(statuses(service.describe(&id, None).await.unwrap()), ["STARTED", "SUBMITTED"]);
    assert!(service.cancel(&id).await.unwrap());
    assert_eq!(statuses(ended(&service, &id).await), ["ABORTED", "ABORTED"]);
    assert_eq!(database.effects("a").await, 0);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn a_terminated_backend_fails_and_rolls_back_the_statement() {
    let database = Database::new("terminated").await;
    with_gate(&database).await;
    database.client.batch_execute("BEGIN; LOCK TABLE gate").await.unwrap();
    let service = database.start().await;
    let id = service.submit(&gated("a"), None).await.unwrap().id;
    database.until(AT_THE_GATE).await;
    let kill = "SELECT bool_and(pg_terminate_backend(pid)) FROM pg_locks WHERE relation = 'gate'::regclass AND NOT granted";
    database.until(kill).await;
    let done = ended(&service, &id).await;
    assert_eq!(done.status, Status::Failed);
    assert!(
        done.error.as_deref().unwrap().contains("terminating connection due to administrator command"),
        "{:?}",
        done.error
    );
    database.client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(database.effects("a").await, 0);
    assert_eq!(run(&service, &gated("a")).await.status, Status::Finished);
    assert_eq!(database.effects("a").await, 1);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn a_statement_interrupted_outside_a_transaction_is_not_repeated() {
    let database = Database::new("outside").await;
    with_gate(&database).await;
    let create = "CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO effects VALUES ('first'); COMMIT; INSERT INTO effects VALUES ('second'); LOCK TABLE gate IN SHARE MODE; COMMIT; END $$";
    database.client.batch_execute(create).await.unwrap();
    database.client.batch_execute("BEGIN; LOCK TABLE gate").await.unwrap();
    let service = database.start().await;
    let id = service.submit(&Statement::sql("CALL commits()"), None).await.unwrap().id;
    database.until(AT_THE_GATE).await;
    drop(service);

    let service = database.start().await;
    database
        .until("SELECT count(*) = 0 FROM pg_locks WHERE relation = 'gate'::regclass AND NOT granted")
        .await;
    database.client.batch_execute("COMMIT").await.unwrap();
    let done = ended(&service, &id).await;
    assert_eq!(done.status, Status::Failed);
    assert!(
        done.error.as_deref().unwrap().contains("interrupted while it ran outside a transaction"),
        "{:?}",
        done.error
    );
    assert_eq!((database.effects("first").await, database.effects("second").await), (1, 0));
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn two_processes_on_one_database_run_each_statement_once() {
    let database = Database::new("shared").await;
    let services = [database.start().await, database.start().await];
    let mut ids = Vec::new();
    for n in 0..40 {
        let statement =
            Statement::sql("INSERT INTO effects VALUES (:what)").with_parameter("what", format!("e{n}"));
        ids.push(services[n % 2].submit(&statement, None).await.unwrap().id);
    }
    // Polling the second executor, too, makes both executors try to run the statement.
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(ended(&services[(n + 1) % 2], id).await.status, Status::Finished);
        assert_eq!(ended(&services[n % 2], id).await.status, Status::Finished);
    }
    for n in 0..40 {
        assert_eq!(database.effects(&format!("e{n}")).await, 1, "e{n}");
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn another_process_can_cancel() {
    let database = Database::new("foreign_cancel").await;
    let (one, other) = (database.start().await, database.start().await);
    let id = one.submit(&Statement::sql("SELECT pg_sleep(600)"), None).await.unwrap().id;
    database.until("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()").await;
    assert!(other.cancel(&id).await.unwrap());
    assert_eq!(ended(&one, &id).await.status, Status::Aborted);
    assert_eq!(ended(&other, &id).await.status, Status::Aborted);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn a_submit_completes_after_its_future_is_dropped() {
    let database = Database::new("gone").await;
    let service = database.start().await;
    let statement = Statement::sql("INSERT INTO effects VALUES ('gone')").with_name("gone");
    {
        let mut submit = Box::pin(service.submit(&statement, None));
        // The first poll of the future starts the submit.
        assert!(futures::poll!(&mut submit).is_pending());
    }
    database.until("SELECT count(*) = 1 FROM effects WHERE what = 'gone'").await;
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn an_auto_commit_batch_resumes_where_it_stopped() {
    let database = Database::new("goes_on").await;
    with_gate(&database).await;
    database.client.batch_execute("BEGIN; LOCK TABLE gate").await.unwrap();
    let batch = Statement::batch([
        "INSERT INTO effects VALUES ('1')",
        "CALL gated('2')",
        "INSERT INTO effects VALUES ('3')",
    ])
    .with_execution_mode(ExecutionMode::AutoCommit);
    let service = database.start().await;
    let id = service.submit(&batch, None).await.unwrap().id;
    database.until(AT_THE_GATE).await;
    assert_eq!(database.effects("1").await, 1);
    drop(service);
    let service = database.start().await;
    database.client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(ended(&service, &id).await.status, Status::Finished);
    for what in ["1", "2", "3"] {
        assert_eq!(database.effects(what).await, 1, "{what}");
    }
}

/// Kills a process at 60 moments drawn from a seed, each time with all its statements in flight. The next
/// process submits them again. A statement that ended as `FINISHED` must have taken effect once, and any
/// other statement must have had no effect.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn every_statement_takes_effect_once_despite_repeated_kills() {
    const SEED: u64 = 20260101;
    let database = Database::new("killed").await;
    let create = "CREATE PROCEDURE load(what text) LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effects VALUES (what); END $$";
    database.client.batch_execute(create).await.unwrap();
    let statements: Vec<(String, Statement)> = (0..48)
        .map(|n| {
            let what = format!("s{n}");
            let insert = format!("INSERT INTO effects VALUES ('{what}')");
            let statement = match n % 3 {
                0 => Statement::sql("CALL load(:what)").with_parameter("what", &what),
                1 => Statement::batch([insert, "SELECT count(*) FROM effects".to_owned()]),
                _ => Statement::batch(["SELECT 1".to_owned(), insert])
                    .with_execution_mode(ExecutionMode::AutoCommit),
            };
            (what.clone(), statement.with_client_token(ClientToken::new(what).unwrap()))
        })
        .collect();
    let mut random = fastrand::Rng::with_seed(SEED);
    for _ in 0..60 {
        let life = Duration::from_micros(random.u64(0..40_000));
        let work = async {
            let service = database.start().await;
            for (_, statement) in &statements {
                service.submit(statement, None).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        assert!(tokio::time::timeout(life, work).await.is_err());
    }
    let service = database.start().await;
    let mut finished = 0;
    for (what, statement) in &statements {
        let done = run(&service, statement).await;
        let expected = i64::from(done.status == Status::Finished);
        assert_eq!(
            database.effects(what).await,
            expected,
            "seed {SEED}, {what}: {:?} {:?}",
            done.status,
            done.error
        );
        finished += expected;
    }
    // Each of the 60 processes can interrupt 4 statements, and a statement fails after 6 starts.
    assert!(finished >= 48 - 60 * 4 / 6, "only {finished} of {} finished", statements.len());
}

/// Regression: a submit failed because its id was already recorded.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn processes_with_the_same_seed_draw_different_ids_on_one_database() {
    let database = Database::new("seed").await;
    let start = async |database: &Database| database.service().with_seed(77).start().await.unwrap();
    let (mut statements, mut sessions) = (Vec::new(), Vec::new());
    // The second process starts while the first is still running, the third afterwards.
    let (first, second) = (start(&database).await, start(&database).await);
    for service in [first.clone(), second.clone()] {
        for _ in 0..4 {
            statements.push(run(&service, &Statement::sql("SELECT 1")).await.id);
        }
        for _ in 0..4 {
            let statement = Statement::sql("SELECT 1").with_session_keep_alive(Duration::from_secs(3600));
            let done = run(&service, &statement).await;
            statements.push(done.id);
            sessions.push(done.session_id.unwrap());
        }
    }
    drop((first, second));
    let third = start(&database).await;
    for _ in 0..16 {
        statements.push(run(&third, &Statement::sql("SELECT 1")).await.id);
    }
    let different: HashSet<_> = statements.iter().map(|id| id.as_str()).collect();
    assert_eq!(different.len(), 32);
    let different: HashSet<_> = sessions.iter().map(|id| id.as_str()).collect();
    assert_eq!(different.len(), 8);

    let database = Database::new("seed_again").await;
    let repeated = run(&start(&database).await, &Statement::sql("SELECT 1")).await.id;
    assert_eq!(repeated, statements[0], "the first process on a database draws the same ids");
}

/// Regression: after the parameter of a function was renamed, the executor could not start on a database of
/// an earlier version.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn functions_of_another_version_are_replaced() {
    let database = Database::new("functions").await;
    let sql = Statement::sql("SELECT strtol('ff', 16)");
    let service = database.start().await;
    let first = run(&service, &sql).await.id;
    drop(service);
    let other_version = "DROP FUNCTION redshift_data_local.strtol(text, int);
        CREATE FUNCTION redshift_data_local.strtol(was text, other int) RETURNS int LANGUAGE sql AS 'SELECT 7';
        CREATE VIEW kept AS SELECT redshift_data_local.last_day(timestamp '2026-02-03') AS day;
        COMMENT ON SCHEMA redshift_data_local IS 'of another version'";
    database.client.batch_execute(other_version).await.unwrap();
    let service = database.start().await;
    assert_eq!(service.describe(&first, None).await.unwrap().status, Status::Finished);
    let again = run(&service, &sql).await.id;
    assert_eq!(rows(&service, &again).await, [vec![Field::Long(255)]]);
    let viewed = run(&service, &Statement::sql("SELECT day FROM kept")).await.id;
    assert_eq!(rows(&service, &viewed).await, [vec![Field::String("2026-02-28".to_owned())]]);
}
