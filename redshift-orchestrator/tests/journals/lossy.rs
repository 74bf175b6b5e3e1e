//! The journal on object storage whose requests and answers get lost.

use std::{
    collections::HashMap,
    fmt,
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path,
};
use redshift_orchestrator::{
    Orchestrator, Pipeline, Run as PipelineRun, TokioClock,
    journal::{Claim, Journal, ObjectStoreJournal},
    local::{LocalExecutor, Run, Script},
    pipeline::Step,
};

/// A store behind a network that loses a share of the requests and of the answers, but no more in a row for one object than the journal repeats.
struct Lossy {
    inner: Arc<InMemory>,
    draw: Mutex<fastrand::Rng>,
    rate: f64,
    in_a_row: Mutex<HashMap<Path, usize>>,
}

/// The number of times that the journal repeats a put.
const REPEATED: usize = 4;

impl Lossy {
    fn loses(&self, path: &Path) -> bool {
        let mut in_a_row = self.in_a_row.lock().unwrap();
        let in_a_row = in_a_row.entry(path.clone()).or_default();
        let loses = self.draw.lock().unwrap().f64() < self.rate && *in_a_row < REPEATED;
        *in_a_row += usize::from(loses);
        loses
    }

    async fn send<T>(&self, path: &Path, request: impl Future<Output = Result<T>>) -> Result<T> {
        let lost = || Err(Error::Generic { store: "lossy", source: "the connection broke".into() });
        if self.loses(path) {
            return lost();
        }
        let answer = request.await;
        if self.loses(path) {
            return lost();
        }
        self.in_a_row.lock().unwrap().remove(path);
        answer
    }
}

impl fmt::Debug for Lossy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lossy")
    }
}

impl fmt::Display for Lossy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lossy")
    }
}

#[async_trait]
impl ObjectStore for Lossy {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.send(path, self.inner.put_opts(path, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        // Clients repeat these themselves.
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

struct World {
    objects: Arc<InMemory>,
    clock: TokioClock,
}

impl World {
    fn new() -> Self {
        let clock = TokioClock::starting_at("2026-11-23T06:30:00Z".parse().unwrap());
        Self { objects: Arc::default(), clock }
    }

    fn journal(&self, seed: u64, rate: f64) -> ObjectStoreJournal {
        let draw = Mutex::new(fastrand::Rng::with_seed(seed));
        let store = Lossy { inner: self.objects.clone(), draw, rate, in_a_row: Mutex::default() };
        ObjectStoreJournal::new(Arc::new(store), "etl").with_clock(self.clock)
    }
}

/// The store's clients do not repeat a conditional put whose answer was lost: every lost answer used to end the run, and one to the renewal
/// of a lease used to give the lease up.
#[tokio::test(start_paused = true)]
async fn lost_requests_and_answers_do_not_end_a_run() {
    let pipeline = Pipeline::builder("nightly")
        .with_step(Step::sql("a", "SELECT 1"))
        .with_step(Step::sql("b", "SELECT 2").after(["a"]))
        .with_step(Step::sql("c", "SELECT 3").after(["b"]))
        .build()
        .unwrap();
    for seed in 0..200 {
        let world = World::new();
        let minutes = Run::finished(Duration::from_secs(300));
        let service = LocalExecutor::scripted(Script::new().otherwise(minutes));
        let orchestrator = || {
            Orchestrator::new(service.clone()).with_clock(world.clock).with_journal(world.journal(seed, 0.1))
        };
        let report = pipeline.run(&orchestrator(), PipelineRun::new("r")).await;
        let report = report.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(report.is_success(), "seed {seed}: {report:?}");
        let again = pipeline.run(&orchestrator(), PipelineRun::new("r")).await.unwrap();
        assert!(again.is_success(), "seed {seed}");
        assert_eq!(service.effects().len(), 3, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_kept_through_lost_answers() {
    for seed in 0..100 {
        let world = World::new();
        let claim = |run: &str| Claim {
            pipeline: "nightly".into(),
            run: run.into(),
            since: "2026-11-23T06:30:00Z".parse().unwrap(),
        };
        let mine = world.journal(seed, 0.2);
        // A second try would meet what the first one left, if that did not know it again.
        let Ok(active) = mine.claim(&claim("one"), true).await else { continue };
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_secs(13)).await;
            let refused = world.journal(seed, 0.0).claim(&claim("two"), true).await;
            assert!(refused.is_err(), "seed {seed}");
        }
        drop(active);
    }
}
