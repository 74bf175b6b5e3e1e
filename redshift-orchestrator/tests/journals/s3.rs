//! Journal on object storage, with a loopback S3 server. `scripts/s3/server start` prints the value for
//! `REDSHIFT_ORCHESTRATOR_S3_ENDPOINT`.

use futures::{StreamExt, TryStreamExt, future::join_all};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use redshift_data_local::{LocalExecutor, Script};
use redshift_orchestrator::{
    ClientToken, ErrorKind, Orchestrator, Pipeline, Result, Run, StepKey,
    conformance::journal::{self, JournalFixture},
    journal::{Claim, Event, Journal, ObjectStoreJournal, Record},
    pipeline::Step,
};
use serde_json::Value;

use crate::bucket::Bucket;

impl Bucket {
    fn journal(&self) -> ObjectStoreJournal {
        ObjectStoreJournal::new(self.store(), "etl/journal")
    }

    /// Returns the path and the text of every object below a prefix.
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

impl JournalFixture for Bucket {
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
    let event = Event::Intent {
        token: ClientToken::new(step).unwrap(),
        name: format!("{run}/{step}/1"),
        target: None,
    };
    Record::new("2026-11-23T06:30:00Z".parse().unwrap(), StepKey::new(run, step), event)
}

#[tokio::test]
#[ignore = "needs an S3 server: scripts/test"]
async fn one_of_sixteen_concurrent_claims_of_a_pipeline_succeeds() {
    let bucket = Bucket::new("claims");
    let journals: Vec<_> = (0..16).map(|_| bucket.journal()).collect();
    let claims = journals.iter().enumerate().map(|(number, journal)| {
        let since = "2026-11-23T06:30:00Z".parse().unwrap();
        let claim = Claim::new("nightly", format!("run-{number}"), since).with_exclusive(true);
        async move { journal.claim(&claim).await }
    });
    let claimed = join_all(claims).await;
    assert_eq!(claimed.iter().filter(|claim| claim.is_ok()).count(), 1);
    for refused in claimed.iter().filter_map(|claim| claim.as_ref().err()) {
        assert_eq!(refused.kind(), ErrorKind::Overlap, "{refused}");
    }
}

/// Without claims, only the conditional puts of numbered objects prevent two writers.
#[tokio::test]
#[ignore = "needs an S3 server: scripts/test"]
async fn one_of_eight_concurrent_writers_of_a_run_continues() {
    let bucket = Bucket::new("writers");
    let journals: Vec<_> = (0..8).map(|_| bucket.journal()).collect();
    // Every journal loads the run before any of them writes.
    for journal in &journals {
        assert!(journal.entries("r").await.unwrap().is_empty());
    }
    let writes = journals.iter().enumerate().map(|(number, journal)| async move {
        let mut written = Vec::new();
        for record in 0..5 {
            let step = format!("s{number}-{record}");
            if let Err(error) = journal.append(intent("r", &step)).await {
                assert!(error.to_string().contains("another process has resumed this run"), "{error}");
                break;
            }
            written.push(step);
        }
        written
    });
    let written: Vec<_> = join_all(writes).await;
    assert_eq!(written.iter().filter(|steps| !steps.is_empty()).count(), 1, "{written:?}");
    let kept = bucket.journal().entries("r").await.unwrap();
    assert_eq!(kept.len(), 5, "exactly the acknowledged records are stored");
}

#[tokio::test]
#[ignore = "needs an S3 server: scripts/test"]
async fn objects_are_human_readable() {
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
