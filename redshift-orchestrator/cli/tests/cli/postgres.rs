//! Runs pipelines on a PostgreSQL server.

use crate::support::Stage;

const PIPELINE: &str = r#"
name = "talks"
[parameters.table]
[[steps]]
name = "prepare"
file = "prepare.sql"
[[steps]]
name = "load"
call = "load_and_tell()"
after = ["prepare"]
"#;

#[test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
fn messages_of_a_procedure_are_shown_while_it_runs_and_a_killed_run_resumes() {
    let url = std::env::var("REDSHIFT_ORCHESTRATOR_POSTGRES_URL").unwrap();
    let stage = Stage::without_emulator(&PIPELINE.replace("[parameters.table]\n", ""));
    let table = format!("told_{}", std::process::id());
    stage.write(
        "prepare.sql",
        &format!(
            "CREATE TABLE {table} (n int);
             CREATE PROCEDURE load_and_tell() LANGUAGE plpgsql AS $$
             BEGIN
                 INSERT INTO {table} VALUES (1);
                 RAISE NOTICE 'halfway';
                 PERFORM pg_sleep(3);
                 RAISE WARNING 'done';
             END $$;"
        ),
    );
    let mut going = stage.start(&["run", "load.toml", "--run-id", &table, "--postgres", &url]);
    // The message is printed while the statement is still running.
    going.until("load  NOTICE: halfway").signal("KILL");
    assert_eq!(going.done().code, None);
    let done = stage.call(&["resume", "load.toml", "--postgres", &url]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.err.contains("WARNING: done"), "{}", done.err);
    stage.write(
        "count.toml",
        &format!(
            "name = \"count\"\n[[steps]]\nname = \"count\"\nsql = \"DO $$ BEGIN IF (SELECT count(*) FROM {table}) <> 1 THEN RAISE 'twice'; END IF; DROP PROCEDURE load_and_tell; DROP TABLE {table}; END $$\""
        ),
    );
    let count = stage.call(&["run", "count.toml", "--run-id", &format!("{table}-count"), "--postgres", &url]);
    assert_eq!(count.code, Some(0), "{count:?}");
}

/// Checks a condition by running a pipeline that fails if the condition is false.
fn check(stage: &Stage, url: &str, id: &str, condition: &str) {
    let text = format!(
        "name = \"check\"\n[[steps]]\nname = \"check\"\nsql = \"DO $$ BEGIN IF NOT ({condition}) THEN RAISE 'the condition is false'; END IF; END $$\""
    );
    stage.write("check.toml", &text);
    let done = stage.call(&["run", "check.toml", "--run-id", id, "--postgres", url]);
    assert_eq!(done.code, Some(0), "{condition}: {done:?}");
}

#[cfg(unix)]
#[test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
fn a_batch_in_parts_whose_run_is_killed_runs_each_statement_once() {
    let url = std::env::var("REDSHIFT_ORCHESTRATOR_POSTGRES_URL").unwrap();
    let table = format!("parts_{}", std::process::id());
    let pipeline = format!(
        "name = \"parts\"\n[[steps]]\nname = \"make\"\nsql = \"CREATE TABLE {table} (n int)\"\n[[steps]]\nname = \"load\"\n\
         file = \"rows.sql\"\nexecution_mode = \"auto-commit\"\nafter = [\"make\"]\n"
    );
    let stage = Stage::on_postgres(&pipeline, &url);
    let row = |n: u32| format!("INSERT INTO {table} SELECT {n} FROM pg_sleep(0.02);\n");
    stage.write("rows.sql", &(0..100).map(row).collect::<String>());
    let mut going = stage.start(&["run", "load.toml", "--run-id", "a"]);
    going.until("load part 1 of 3  submitted").signal("KILL");
    assert_eq!(going.done().code, None);
    let mut going = stage.start(&["resume", "load.toml"]);
    going.until("load part 2 of 3  submitted").signal("KILL");
    going.done();
    let done = stage.call(&["resume", "load.toml", "--json"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let report = done.objects().pop().unwrap();
    let parts: Vec<_> = report["report"]["steps"][1]["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["part"]["number"].clone())
        .collect();
    assert_eq!(parts, [1, 2, 3]);
    let once = format!("SELECT count(*) = 100 AND count(DISTINCT n) = 100 FROM {table}");
    check(&stage, &url, &format!("{table}-check"), &once);
}

#[cfg(unix)]
#[test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
fn a_second_process_cancels_an_active_statement() {
    let url = std::env::var("REDSHIFT_ORCHESTRATOR_POSTGRES_URL").unwrap();
    let stage = Stage::without_emulator(
        "name = \"slow\"\n[[steps]]\nname = \"sleep\"\nsql = \"SELECT pg_sleep(600)\"\n",
    );
    let id = format!("slow-{}", std::process::id());
    let mut going = stage.start(&["run", "load.toml", "--run-id", &id, "--postgres", &url]);
    going.until("sleep  submitted");
    let cancelled = stage.call(&["cancel", "load.toml", "--postgres", &url]);
    assert_eq!(
        (cancelled.code, cancelled.out),
        (Some(0), format!("{id}/sleep/1  cancelled\n")),
        "{}",
        cancelled.err
    );
    assert_eq!(going.done().code, Some(1));
    let gone = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid())";
    check(&stage, &url, &format!("{id}-check"), gone);
}
