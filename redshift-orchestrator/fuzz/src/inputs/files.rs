//! Pipeline files, and the scripts and faults of the emulator.

use redshift_data_local::{Faults, Script};
use redshift_orchestrator::{ErrorKind, Pipeline, Run};

pub(super) const PIPELINES: &[&str] = &[
    include_str!("../../../tests/data/cycle.toml"),
    r#"name = "nightly"
overlap = "queue"
on_failure = "skip-dependents"
parameters = { day = {}, password = { secret = true } }
retry = { attempts = 2, on = ["aborted", "not-submitted"], backoff = "1s" }

[target]
workgroup = "dwh"
database = "dev"
region = "eu-west-1"

[[steps]]
name = "load"
sql = "COPY sales FROM 's3://bucket/${day}' CREDENTIALS '${password}' -- :day"
tags = ["sales", "daily"]
timeout = "1h 30m"

[[steps]]
name = "merge"
batch = ["DELETE FROM a WHERE d = :d", "INSERT INTO a SELECT * FROM b WHERE d = :d"]
execution_mode = "auto-commit"
parameters = { d = "${day}" }
after = ["load"]
on_failure = "stop"
"#,
    r#"{"name": "p", "concurrency": 1, "steps": [{"name": "a", "sql": "SELECT ':x', $$ :y $$ /* /* */ */ -- ;"},
{"name": "b", "call": "s.p(:n, :t)", "parameters": {"n": 7, "t": "x"}, "after": ["a"], "commits": true}]}"#,
];

pub(super) const SCRIPTS: &[&str] = &[
    r#"concurrency = 2
latency = { submitted = "20ms", picked = "10ms" }
limits = { active_statements = 3, waiters_per_statement = 1, rows_per_page = 2, token_retention = "8h" }
otherwise = { takes = "5ms" }

[[statement]]
contains = "SELECT"
takes = "1.5s"
columns = [{ name = "n", type = "int4" }, { name = "price", type = "numeric", precision = 18, scale = 2 }]
result = [[1, "1.50"], [2, ""], [{ null = true }, { bytes = [0, 255] }]]

[[statement]]
contains = "load"
runs = [{ takes = "2s", fails = "ERROR: 1023 Serializable isolation violation" }, { takes = "1h" }]

[[table]]
schema = "mystore"
name = "fact_sales"
columns = [{ name = "id", type = "int8", nullable = false }]
"#,
    r#"seed = 42

[[fault]]
operation = "ExecuteStatement"
fault = "lost reply"
rate = 0.05

[[fault]]
fault = "delay"
delay = "200ms"
rate = 0.5
"#,
];

/// Nesting that exceeds any stack, and is therefore too long for a seed file.
pub(super) fn nested() -> impl Iterator<Item = String> {
    ["[", "{ a = ", "[{ a = [", "a.", "\"", "(", "${", "/*"]
        .map(|piece| format!("name = {}", piece.repeat(20_000)))
        .into_iter()
}

pub(super) fn feed_pipeline(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for read in [Pipeline::from_toml, Pipeline::from_json] {
        match read(text) {
            Ok(pipeline) => {
                let _ = pipeline.plan().to_string();
                let _ = format!("{pipeline:?}");
                let run = Run::new("r").with_parameter("cycle", "7").with_parameter("day", "2026-11-23");
                let _ = pipeline.statements(&run);
                let _ = pipeline.statements(&Run::new("r"));
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Definition, "{error}"),
        }
    }
}

pub(super) fn feed_script(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for error in [Script::from_toml(text).err(), Faults::from_toml(text).err()].into_iter().flatten() {
        assert_eq!(error.kind(), ErrorKind::Definition, "{error}");
    }
}
