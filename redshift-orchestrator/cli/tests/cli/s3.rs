//! Tests two processes that share a journal on object storage.

use std::process::{Command, Output, Stdio};

use futures::future::join_all;
use redshift_data_emulator::Emulator;
use redshift_data_local::{LocalExecutor, Script};

use crate::bucket::Bucket;

/// Starts the same pipeline in two processes with the same journal. One runs it, and the other fails with an
/// error that names the active run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an S3 server: scripts/test"]
async fn of_two_processes_one_runs_the_pipeline_and_the_other_is_refused() {
    let bucket = Bucket::new("processes");
    let script = Script::from_toml("[[statement]]\ncontains = 'load'\ntakes = '8s'").unwrap();
    let service = LocalExecutor::scripted(script);
    let emulator = Emulator::new(service.clone()).bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = emulator.url();
    let serving = tokio::spawn(emulator.serve_until(std::future::pending()));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("nightly.toml");
    std::fs::write(&file, "name = 'nightly'\n[target]\nworkgroup = 'dwh'\ndatabase = 'dev'\n[[steps]]\nname = 'load'\ncall = 'load()'\n").unwrap();
    let start = |run: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_redshift-orchestrator"));
        command
            .args(["run", "--run-id", run, "--endpoint-url", &url, "--region", "us-east-1", "--journal"])
            .arg(format!("s3://{}/etl/journal", bucket.name))
            .arg(&file)
            .env("AWS_ACCESS_KEY_ID", "any")
            .env("AWS_SECRET_ACCESS_KEY", "any")
            .env("AWS_ENDPOINT_URL_S3", &bucket.endpoint)
            .env("AWS_ALLOW_HTTP", "true")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        tokio::task::spawn_blocking(move || child.wait_with_output().unwrap())
    };
    let (one, two) = (start("one"), start("two"));
    let outputs: Vec<Output> = join_all([one, two]).await.into_iter().map(|output| output.unwrap()).collect();
    let mut codes: Vec<_> = outputs.iter().map(|output| output.status.code()).collect();
    codes.sort();
    assert_eq!(codes, [Some(0), Some(4)], "{outputs:?}");
    let refused = outputs.iter().find(|output| output.status.code() == Some(4)).unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("nightly"), "{refused:?}");
    assert_eq!(service.effects().len(), 1);
    serving.abort();
}
