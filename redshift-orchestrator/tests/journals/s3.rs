//! The journal on object storage, by a server on the loopback that speaks S3: `scripts/s3/server start` prints what
//! `REDSHIFT_ORCHESTRATOR_S3_ENDPOINT` has to be.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Output, Stdio},
    sync::Arc,
};

use futures::{StreamExt, TryStreamExt, future::join_all};
use object_store::{
    ObjectStore, ObjectStoreExt,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path,
};
use redshift_orchestrator::{
    ClientToken, ErrorKind, Orchestrator, Pipeline, Result, Run, StepKey,
    conformance::journal::{self, Place},
    emulator::Emulator,
    journal::{Claim, Event, Journal, ObjectStoreJournal, Record},
    local::{LocalExecutor, Script},
    pipeline::Step,
};
use serde_json::Value;

/// A bucket of its own for each test.
struct Bucket {
    endpoint: String,
    name: String,
}

impl Bucket {
    fn new(test: &str) -> Self {
        let endpoint = std::env::var("REDSHIFT_ORCHESTRATOR_S3_ENDPOINT").unwrap_or_else(|_| {
            panic!("REDSHIFT_ORCHESTRATOR_S3_ENDPOINT is not set: scripts/s3/server start prints it")
        });
        let name = format!("{test}-{}", std::process::id());
        let host = endpoint.strip_prefix("http://").unwrap();
        let mut server = TcpStream::connect(host).unwrap();
        let request =
            format!("PUT /{name} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        server.write_all(request.as_bytes()).unwrap();
        let mut said = String::new();
        server.read_to_string(&mut said).unwrap();
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        Self { endpoint, name }
    }

    /// A client of its own, as each process has one.
    fn store(&self) -> Arc<AmazonS3> {
        let builder = AmazonS3Builder::new()
            .with_endpoint(&self.endpoint)
            .with_allow_http(true)
            .with_bucket_name(&self.name)
            .with_region("us-east-1")
            .with_access_key_id("any")
            .with_secret_access_key("any");
        Arc::new(builder.build().unwrap())
    }

    fn journal(&self) -> ObjectStoreJournal {
        ObjectStoreJournal::new(self.store(), "etl/journal")
    }

    /// Every object below a prefix, with its text.
    async fn texts(&self, prefix: &str) -> Vec<(String, String)> {
        let store = self.store();
        let prefix = Path::from(format!("etl/journal/{prefix}"));
        let listed: Vec<_> = store.list(Some(&prefix)).try_collect().await.unwrap();
        let mut texts: Vec<_> = futures::stream::iter(listed)
            .then(|object| {
                let store = store.clone();
                async move {
                    let bytes = store.get(&object.location).await.unwrap().bytes().await.unwrap();
                    (object.location.to_string(), String::from_utf8(bytes.to_vec()).unwrap())
                }
            })
            .collect()
            .await;
        texts.sort();
        texts
    }
}

impl Place for Bucket {
    type Journal = ObjectStoreJournal;

    async fn open(&self) -> Result<ObjectStoreJournal> {
        Ok(self.journal())
    }
}

#[tokio::test]
#[ignore = "needs an S3 server: scripts/test"]
async fn s3_conforms() {
    journal::all(&Bucket::new("conforms")).await;
}

fn intent(run: &str, step: &str) -> Record {
    let event = Event::Intent { token: ClientToken::new(step).unwrap(), name: format!("{run}/{step}/1") };
    Record { at: "2026-11-23T06:30:00Z".parse().unwrap(), key: StepKey::new(run, step), event }
}

#[tokio::test]
#[ignore = "needs an S3 server: scripts/test"]
async fn of_sixteen_that_claim_a_pipeline_at_once_one_has_it() {
    let bucket = Bucket::new("claims");
    let journals: Vec<_> = (0..16).map(|_| bucket.journal()).collect();
    let claims = journals.iter().enumerate().map(|(number, journal)| {
        let since = "2026-11-23T06:30:00Z".parse().unwrap();
        let claim = Claim { pipeline: "nightly".into(), run: format!("run-{number}"), since };
        async move { journal.claim(&claim, true).await }
    });
    let claimed = join_all(claims).await;
    assert_eq!(claimed.iter().filter(|claim| claim.is_ok()).count(), 1);
    for refused in claimed.iter().filter_map(|claim| claim.as_ref().err()) {
        assert_eq!(refused.kind(), ErrorKind::Overlap, "{refused}");
    }
}

/// Nobody claims anything: the numbers of the objects alone decide, by conditional puts.
#[tokio::test]
#[ignore = "needs an S3 server: scripts/test"]
async fn of_eight_that_write_one_run_at_once_one_goes_on() {
    let bucket = Bucket::new("writers");
    let journals: Vec<_> = (0..8).map(|_| bucket.journal()).collect();
    // All of them have seen the run as it was before any wrote.
    for journal in &journals {
        assert!(journal.run("r").await.unwrap().is_empty());
    }
    let writes = journals.iter().enumerate().map(|(number, journal)| async move {
        let mut written = Vec::new();
        for record in 0..5 {
            let step = format!("s{number}-{record}");
            if let Err(error) = journal.append(intent("r", &step)).await {
                assert!(error.to_string().contains("another process writes"), "{error}");
                break;
            }
            written.push(step);
        }
        written
    });
    let written: Vec<_> = join_all(writes).await;
    assert_eq!(written.iter().filter(|steps| !steps.is_empty()).count(), 1, "{written:?}");
    let kept = bucket.journal().run("r").await.unwrap();
    assert_eq!(kept.len(), 5, "what was said to be written is there, and nothing else");
}

#[tokio::test]
#[ignore = "needs an S3 server: scripts/test"]
async fn a_person_can_read_it() {
    let bucket = Bucket::new("readable");
    let orchestrator =
        Orchestrator::new(LocalExecutor::scripted(Script::new())).with_journal(bucket.journal());
    let pipeline = Pipeline::builder("nightly").with_step(Step::sql("load", "SELECT 1")).build().unwrap();
    assert!(pipeline.run(&orchestrator, Run::new("2026-11-23")).await.unwrap().is_success());
    let texts = bucket.texts("runs").await;
    assert!(texts[0].0.ends_with("etl/journal/runs/2026-11-23/0000000001.jsonl"), "{texts:?}");
    let lines: Vec<Value> = texts
        .iter()
        .flat_map(|(_, text)| text.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let events: Vec<_> = lines.iter().filter_map(|line| line["event"].as_str()).collect();
    assert_eq!(events, ["run-begun", "intent", "submitted", "ended", "run-ended"]);
    let intent = lines.iter().find(|line| line["event"] == "intent").unwrap();
    assert_eq!((intent["run"].as_str(), intent["step"].as_str()), (Some("2026-11-23"), Some("load")));
}

/// Two processes of the program at the same pipeline, with their journal in the bucket: one runs it, the other is refused by name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an S3 server: scripts/test"]
async fn of_two_processes_one_runs_the_pipeline_and_the_other_is_refused() {
    let bucket = Bucket::new("processes");
    let script = Script::from_toml("[[statement]]\ncontains = 'load'\ntakes = '8s'").unwrap();
    let service = LocalExecutor::scripted(script);
    let emulator = Emulator::new(service.clone()).listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
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
