//! Tests the MyStore example from the command line.

#![allow(clippy::unwrap_used)]

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};

/// Options for a short day: the initial load and three cycles.
const SHORT: [&str; 2] = ["--cycles", "3"];

struct Ran {
    ok: bool,
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs the example. `cargo test` has built it.
fn mystore(dir: &Path, options: &[&str]) -> Ran {
    let deps = std::env::current_exe().unwrap();
    let program = deps.parent().unwrap().parent().unwrap().join("examples").join("mystore");
    assert!(
        program.with_extension(std::env::consts::EXE_EXTENSION).exists(),
        "run cargo build --examples first"
    );
    let Output { status, stdout, stderr } = Command::new(program)
        .arg("--dir")
        .arg(dir)
        .args(options)
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    Ran {
        ok: status.success(),
        code: status.code(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

impl Ran {
    /// Asserts that the proof passed, and that the last line of the output is the path of a self-contained
    /// page.
    fn assert_proved(&self) {
        assert!(self.ok, "{}\n{}", self.out, self.err);
        assert!(self.out.contains("proved: "), "{}", self.out);
        let report = PathBuf::from(self.out.trim_end().lines().last().unwrap());
        let html = std::fs::read_to_string(report).unwrap();
        assert!(html.contains("nothing lost or done twice"));
        let outside = html.replace("http://www.w3.org/2000/svg", "");
        assert!(
            !outside.contains("http") && !outside.contains("<script"),
            "the page must not need the network"
        );
    }

    /// Asserts that the input was rejected with these texts, and that no directory was created.
    fn assert_refused(&self, dir: &Path, because: &[&str]) {
        assert!(!self.ok && self.out.is_empty(), "{}\n{}", self.out, self.err);
        for text in because {
            assert!(self.err.contains(text), "{text} is not in: {}", self.err);
        }
        assert!(!dir.exists(), "{} was created", dir.display());
    }
}

#[test]
fn a_day_with_many_faults_passes_the_proof_within_its_bounds() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("run");
    let ran = mystore(&dir, &["--cycles", "13", "--seed", "2", "--faults", "0.3"]);
    ran.assert_proved();
    assert!(ran.out.contains("as of") && ran.out.contains("11 per file group"), "{}", ran.out);
    for name in ["store_customer", "store_customer_address"] {
        let rows = std::fs::read_to_string(dir.join("expected").join(format!("{name}.jsonl"))).unwrap();
        assert!(rows.lines().count() > 900);
    }
    // With --dir, a finished run is only proved again.
    let again = mystore(&dir, &["--cycles", "13", "--seed", "2"]);
    again.assert_proved();
    let other = mystore(&dir, &["--cycles", "13", "--seed", "3"]);
    assert_eq!(other.code, Some(1));
    assert!(other.err.contains("another run's data") && other.err.contains("--seed 2"), "{}", other.err);
}

#[test]
fn a_killed_run_resumes_and_no_row_is_lost_or_doubled() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("run");
    // The embedded server is killed with the process: before or after its statement has run, in the initial
    // load and in the cycles.
    for crash in ["0:stage_sale:finished", "1:load_customer", "2:load_sale:finished", "3:publish_store_day"] {
        let ran = mystore(&dir, &[SHORT[0], SHORT[1], "--crash-at", crash]);
        assert_eq!(ran.code, None, "a process that aborts has no exit status: {}", ran.err);
    }
    mystore(&dir, &SHORT).assert_proved();
}

#[test]
fn an_error_in_a_procedure_is_reported_and_the_run_resumes_after_the_correction() {
    let temporary = tempfile::tempdir().unwrap();
    let (dir, file) = (temporary.path().join("run"), temporary.path().join("cycle.toml"));
    let good = include_str!("../mystore/cycle.toml");
    let bad = good.replace("mystore.load_item(:cycle, :until)", "mystore.load_item(NULL, :until)").replace(
        "name = \"load_item\"\ncall = \"mystore.load_item(NULL, :until)\"\nparameters = { cycle = \"${cycle}\", until = \"${until}\" }",
        "name = \"load_item\"\ncall = \"mystore.load_item(NULL, :until)\"\nparameters = { until = \"${until}\" }",
    );
    std::fs::write(&file, bad).unwrap();
    let ran = mystore(&dir, &[SHORT[0], SHORT[1], "--pipeline", file.to_str().unwrap()]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    for text in ["load_item failed", "null value in column \"cycle\"", "journal.jsonl", "To continue"] {
        assert!(ran.err.contains(text), "{text} is not in: {}", ran.err);
    }
    let id = ran.err.split("load_item failed, attempt 1, ").nth(1).unwrap();
    assert_eq!(id[..36].bytes().filter(|byte| *byte == b'-').count(), 4, "not a statement id: {id}");

    std::fs::write(&file, good).unwrap();
    mystore(&dir, &[SHORT[0], SHORT[1], "--pipeline", file.to_str().unwrap()]).assert_proved();
}

#[test]
fn invalid_input_is_rejected_before_any_change() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("run");
    let file = temporary.path().join("cycle.toml");
    let pipeline = ["--pipeline", file.to_str().unwrap()];
    mystore(&dir, &["--sclae", "1"]).assert_refused(&dir, &["--sclae", "--scale"]);
    mystore(&dir, &["--crash-at", "2:load_everything"]).assert_refused(&dir, &["no such step", "load_sale"]);
    mystore(&dir, &pipeline).assert_refused(&dir, &["cycle.toml", "cannot be read"]);
    let good = include_str!("../mystore/cycle.toml");
    std::fs::write(&file, good.replace("after = [\"stage_customer\"]", "after = [\"rekey_sale\"]")).unwrap();
    mystore(&dir, &pipeline).assert_refused(&dir, &["wait for each other", "load_customer"]);
    std::fs::write(&file, good.replace("mystore.load_item(", "mystore.load_items(")).unwrap();
    mystore(&dir, &pipeline)
        .assert_refused(&dir, &["step load_item", "mystore.load_items", "mystore.load_item,"]);
    let with_region = good.replace("[parameters.until]", "[parameters.region]\n[parameters.until]").replacen(
        "cycle = \"${cycle}\"",
        "cycle = \"${cycle}${region}\"",
        1,
    );
    std::fs::write(&file, with_region).unwrap();
    mystore(&dir, &pipeline).assert_refused(&dir, &["`region` has no default", "cycle and until"]);
    let (without_last, _) = good.split_once("[[steps]]\nname = \"rekey_sale\"").unwrap();
    std::fs::write(&file, without_last).unwrap();
    mystore(&dir, &pipeline)
        .assert_refused(&dir, &["does not call mystore.rekey_sale, mystore.publish_store_day"]);
    mystore(&dir, &["--postgres", "postgresql://nobody@127.0.0.1:1/x"])
        .assert_refused(&dir, &["cannot connect"]);

    let below_a_file = file.join("run");
    let ran = mystore(&below_a_file, &SHORT);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains(below_a_file.to_str().unwrap()), "{}", ran.err);
}

/// A separate database on the PostgreSQL server.
struct Database {
    runtime: tokio::runtime::Runtime,
    admin: tokio_postgres::Client,
    name: String,
    url: String,
}

impl Database {
    fn create(name: &str) -> Self {
        let server = std::env::var("REDSHIFT_ORCHESTRATOR_POSTGRES_URL")
            .expect("REDSHIFT_ORCHESTRATOR_POSTGRES_URL is not set");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let admin = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&server, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client
        });
        let name = format!("mystore_{name}_{}", std::process::id());
        runtime.block_on(admin.batch_execute(&format!("CREATE DATABASE {name}"))).unwrap();
        let (base, _) = server.rsplit_once('/').unwrap();
        Self { url: format!("{base}/{name}"), runtime, admin, name }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = self
            .runtime
            .block_on(self.admin.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name)));
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
fn on_a_real_server_a_killed_run_resumes_and_its_database_admits_no_other_run() {
    let database = Database::create("killed");
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("run");
    let options = ["--cycles", "12", "--seed", "5", "--postgres", &database.url];
    for crash in ["1:load_customer", "2:load_sale:finished", "4:stage_sale"] {
        let ran = mystore(&dir, &[&options[..], &["--crash-at", crash]].concat());
        assert_eq!(ran.code, None, "{}", ran.err);
    }
    mystore(&dir, &options).assert_proved();

    let elsewhere = temporary.path().join("other");
    mystore(&elsewhere, &options).assert_refused(&elsewhere, &["belongs to another run"]);
}

/// Sends a call to the Glue of a local server, and returns the output.
fn glue(endpoint: &str, call: &str, input: &Value) -> Value {
    let host = endpoint.strip_prefix("http://").unwrap();
    let (mut server, body) = (TcpStream::connect(host).unwrap(), input.to_string());
    // The server reads the service in a signature, and does not check it.
    write!(
        server,
        "POST / HTTP/1.1\r\nHost: {host}\r\nX-Amz-Target: AWSGlue.{call}\r\n\
         Content-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\nConnection: close\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=id/20260101/us-east-1/glue/aws4_request, \
         SignedHeaders=host, Signature=x\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut reply = String::new();
    server.read_to_string(&mut reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{call}: {reply}");
    serde_json::from_str(body).unwrap()
}

#[test]
#[ignore = "needs local servers for S3 and Glue: scripts/test"]
fn a_day_on_a_local_aws_is_proved_with_its_catalog() {
    for variable in ["HUDI_SCD_S3_ENDPOINT", "HUDI_SCD_MINISTACK_ENDPOINT"] {
        let endpoint =
            std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: scripts/test sets it"));
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("run");
        let s3 = format!("{endpoint}/mystore-{}/day", std::process::id());
        let options = ["--cycles", "2", "--scale", "0.001", "--s3", &s3, "--glue-endpoint", &endpoint];
        // Before a Hudi step holds the lock of a table, because the next process would wait until it expires.
        let crashed = mystore(&dir, &[&options[..], &["--crash-at", "1:stage_customer"]].concat());
        assert_eq!(crashed.code, None, "{}", crashed.err);
        let proved = mystore(&dir, &options);
        assert!(proved.ok && proved.out.contains("proved: "), "{}\n{}", proved.out, proved.err);
        // The initial load and two cycles, with three tables each.
        assert!(proved.out.contains("9 syncs in ") && !proved.out.contains("failed"), "{}", proved.out);
        assert!(!dir.join("lake").exists());
        let report = std::fs::read_to_string(dir.join("report.html")).unwrap();
        assert!(report.contains("catalog: partitions of store_customer_address"), "{report}");

        // The proof finds a partition that is missing in the catalog.
        let manifest = std::fs::read(dir.join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let database = manifest["run_id"].as_str().unwrap().replace('-', "_");
        let table = json!({ "DatabaseName": database, "TableName": "store_customer_address" });
        let found = glue(&endpoint, "GetPartitions", &table);
        let day = found["Partitions"][0]["Values"][0].as_str().unwrap();
        let mut partition = table;
        partition["PartitionValues"] = json!([day]);
        glue(&endpoint, "DeletePartition", &partition);
        let failed = mystore(&dir, &options);
        let missing = format!("partitions of store_customer_address: the row partition {day} is missing");
        assert!(!failed.ok && failed.out.contains(&missing), "{}\n{}", failed.out, failed.err);
    }
}
