//! Tests several processes that share a journal on object storage.

use std::process::{Command, Output, Stdio};

use futures::future::join_all;
use redshift_data_emulator::Emulator;
use redshift_data_local::{LocalExecutor, Script, Scripted};
use tokio::task::JoinHandle;

use crate::bucket::Bucket;

/// A pipeline of two steps, an emulator of the service, and a bucket for the journal.
struct World {
    bucket: Bucket,
    service: LocalExecutor<Scripted>,
    url: String,
    serving: JoinHandle<()>,
    directory: tempfile::TempDir,
}

const PIPELINE: &str = "name = 'nightly'
[target]
workgroup = 'dwh'
database = 'dev'
[[steps]]
name = 'load'
call = 'load()'
on_failure = 'continue'
[[steps]]
name = 'report'
call = 'report()'
after = ['load']
";

impl World {
    async fn new(test: &str) -> Self {
        let script = Script::from_toml("[[statement]]\ncontains = 'load'\ntakes = '8s'").unwrap();
        let service = LocalExecutor::scripted(script);
        let emulator = Emulator::new(service.clone()).bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let url = emulator.url();
        let serving = tokio::spawn(async {
            let _ = emulator.serve_until(std::future::pending()).await;
        });
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("nightly.toml"), PIPELINE).unwrap();
        Self { bucket: Bucket::new(test), service, url, serving, directory }
    }

    /// Starts the program with the journal in the bucket.
    fn start(&self, arguments: &[&str]) -> JoinHandle<Output> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_redshift-orchestrator"));
        command.args(arguments).args(["--journal", &format!("s3://{}/etl/journal", self.bucket.name)]);
        if arguments[0] != "settle" {
            command.args(["--endpoint-url", &self.url, "--region", "us-east-1"]);
        }
        command
            .current_dir(self.directory.path())
            .env("AWS_ACCESS_KEY_ID", "any")
            .env("AWS_SECRET_ACCESS_KEY", "any")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ENDPOINT_URL_S3", &self.bucket.endpoint)
            .env("AWS_ALLOW_HTTP", "true")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        tokio::task::spawn_blocking(move || child.wait_with_output().unwrap())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Starts the same pipeline in two processes with the same journal. One runs it, and the other fails with an
/// error that names the active run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an S3 server: scripts/test"]
async fn one_of_two_processes_runs_the_pipeline_and_the_other_is_rejected() {
    let world = World::new("processes").await;
    let start = |run: &str| world.start(&["run", "nightly.toml", "--run-id", run]);
    let (one, two) = (start("one"), start("two"));
    let outputs: Vec<Output> = join_all([one, two]).await.into_iter().map(|output| output.unwrap()).collect();
    let mut codes: Vec<_> = outputs.iter().map(|output| output.status.code()).collect();
    codes.sort();
    assert_eq!(codes, [Some(0), Some(4)], "{outputs:?}");
    let refused = outputs.iter().find(|output| output.status.code() == Some(4)).unwrap();
    assert!(text(&refused.stderr).contains("nightly"), "{refused:?}");
    assert_eq!(world.service.effects().len(), 2);
}

/// Regression: `cancel` and `settle` wrote to the journal while another process ran the run, and the next
/// append of that process failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an S3 server: scripts/test"]
async fn cancel_and_settle_leave_the_records_to_the_owner_of_the_run() {
    let world = World::new("beside").await;
    let running = world.start(&["run", "nightly.toml", "--run-id", "one", "--no-progress"]);
    let settle =
        ["settle", "nightly.toml", "load", "--run-id", "one", "--as", "finished", "--because", "seen"];
    let refused = loop {
        let refused = world.start(&settle).await.unwrap();
        // Before the intent is recorded, the journal does not contain the attempt.
        if refused.status.code() != Some(2) {
            break refused;
        }
    };
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    assert!(text(&refused.stderr).contains("active_run: one"), "{refused:?}");
    assert!(text(&refused.stderr).contains("when that process has ended"), "{refused:?}");
    let cancelled = loop {
        let cancelled = world.start(&["cancel", "nightly.toml", "--run-id", "one"]).await.unwrap();
        // Before the submit, no listing contains the statement.
        if cancelled.status.code() != Some(3) {
            break cancelled;
        }
    };
    assert_eq!(text(&cancelled.stdout), "one/load/1  cancelled\n", "{cancelled:?}");
    assert!(text(&cancelled.stderr).contains("another process uses the journal"), "{cancelled:?}");
    let done = running.await.unwrap();
    assert!(text(&done.stdout).contains("1 aborted, 1 finished"), "{done:?}");
    // Both the process of the run and the earlier commands have released their leases.
    let none = world.start(&["cancel", "nightly.toml", "--run-id", "one"]).await.unwrap();
    assert_eq!(text(&none.stdout), "one: no statements in flight\n", "{none:?}");
    let resumed = world.start(&["resume", "nightly.toml", "--run-id", "one"]).await.unwrap();
    assert_eq!(resumed.status.code(), Some(0), "{resumed:?}");
}
