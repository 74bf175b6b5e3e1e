//! Runs on a PostgreSQL server.

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
fn what_a_procedure_says_is_seen_while_it_runs_and_a_killed_run_goes_on() {
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
    // Heard before it ends.
    going.until("load  says NOTICE: halfway").signal("KILL");
    assert_eq!(going.done().code, None);
    let done = stage.call(&["resume", "load.toml", "--postgres", &url]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.err.contains("says WARNING: done"), "{}", done.err);
    stage.write(
        "count.toml",
        &format!(
            "name = \"count\"\n[[steps]]\nname = \"count\"\nsql = \"DO $$ BEGIN IF (SELECT count(*) FROM {table}) <> 1 THEN RAISE 'twice'; END IF; DROP PROCEDURE load_and_tell; DROP TABLE {table}; END $$\""
        ),
    );
    let count = stage.call(&["run", "count.toml", "--run-id", &format!("{table}-count"), "--postgres", &url]);
    assert_eq!(count.code, Some(0), "{count:?}");
}
