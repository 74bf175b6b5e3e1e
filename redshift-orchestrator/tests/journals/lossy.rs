//! Journal on object storage, with lost requests and responses.

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
use redshift_data_local::{LocalExecutor, Script, ScriptedExecution};
use redshift_orchestrator::{
    ClientToken, Orchestrator, Pipeline, Run as PipelineRun, StepKey, TokioClock,
    journal::{Claim, Event, Journal, ObjectStoreJournal, Record},
    pipeline::Step,
};

/// Store behind a network that loses some requests and responses. It never loses more requests in a row for
/// one object than the journal repeats, unless `away` is set.
struct Lossy {
    inner: Arc<InMemory>,
    draw: Mutex<fastrand::Rng>,
    rate: f64,
    in_a_row: Mutex<HashMap<Path, usize>>,
    away: Mutex<Option<Away>>,
}

/// Kind of a temporary outage of the store.
#[derive(Clone, Copy, Debug)]
enum Away {
    LosesRequests,
    LosesAnswers,
}

/// Number of times that the journal repeats a put.
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
        let away = *self.away.lock().unwrap();
        match away {
            Some(Away::LosesRequests) => return lost(),
            Some(Away::LosesAnswers) => {
                let _ = request.await;
                return lost();
            }
            None if self.loses(path) => return lost(),
            None => {}
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
        // Reads are not lost, because the clients of object stores repeat them.
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
        self.journal_on(self.store(seed, rate))
    }

    fn store(&self, seed: u64, rate: f64) -> Arc<Lossy> {
        let draw = Mutex::new(fastrand::Rng::with_seed(seed));
        let (in_a_row, away) = (Mutex::default(), Mutex::default());
        Arc::new(Lossy { inner: self.objects.clone(), draw, rate, in_a_row, away })
    }

    fn journal_on(&self, store: Arc<Lossy>) -> ObjectStoreJournal {
        ObjectStoreJournal::new(store, "etl").with_clock(self.clock)
    }
}

/// Regression: the clients of object stores do not repeat a conditional put whose response was lost. Such a
/// loss ended the run, or gave up the lease if the put was a renewal.
#[tokio::test(start_paused = true)]
async fn lost_requests_and_responses_do_not_end_a_run() {
    let pipeline = Pipeline::builder("nightly")
        .with_step(Step::sql("a", "SELECT 1"))
        .with_step(Step::sql("b", "SELECT 2").after(["a"]))
        .with_step(Step::sql("c", "SELECT 3").after(["b"]))
        .build()
        .unwrap();
    for seed in 0..200 {
        let world = World::new();
        let minutes = ScriptedExecution::finished(Duration::from_secs(300));
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
async fn a_lease_survives_lost_responses() {
    for seed in 0..100 {
        let world = World::new();
        let claim = |run: &str| {
            Claim::new("nightly", run, "2026-11-23T06:30:00Z".parse().unwrap()).with_exclusive(true)
        };
        let mine = world.journal(seed, 0.2);
        // If the response to a put was lost, the repeated put finds the object of the first one, and must
        // recognise it.
        let Ok(active) = mine.claim(&claim("one")).await else { continue };
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_secs(13)).await;
            let refused = world.journal(seed, 0.0).claim(&claim("two")).await;
            assert!(refused.is_err(), "seed {seed}");
        }
        drop(active);
    }
}

/// Regression: after an outage of the bucket that was longer than the journal repeats a put, every further
/// statement of the run failed until the process was restarted.
#[tokio::test(start_paused = true)]
async fn a_journal_recovers_with_its_store() {
    let intent = |step: &str| {
        let event = Event::Intent {
            token: ClientToken::new(step).unwrap(),
            name: format!("r/{step}/1"),
            target: None,
        };
        Record::new("2026-11-23T06:30:00Z".parse().unwrap(), StepKey::new("r", step), event)
    };
    let steps = async |journal: &ObjectStoreJournal| {
        let run = journal.entries("r").await.unwrap();
        run.into_iter().map(|entry| entry.key.step).collect::<Vec<_>>()
    };
    for away in [Away::LosesRequests, Away::LosesAnswers] {
        for written in [0, 1] {
            let world = World::new();
            let store = world.store(0, 0.0);
            let journal = world.journal_on(store.clone());
            if written > 0 {
                journal.append(intent("a")).await.unwrap();
            }
            assert_eq!(steps(&journal).await.len(), written);
            *store.away.lock().unwrap() = Some(away);
            for step in ["b", "c"] {
                journal.append(intent(step)).await.unwrap_err();
            }
            assert_eq!(steps(&journal).await.len(), written, "a failed append must not be visible");
            *store.away.lock().unwrap() = None;
            for step in ["d", "e"] {
                journal.append(intent(step)).await.unwrap();
            }
            // The put of `b` failed, and is repeated before `d` is written. The put of `c` was never sent.
            let expected: Vec<_> = ["a", "b", "d", "e"].into_iter().skip(1 - written).collect();
            assert_eq!(steps(&journal).await, expected, "{away:?}");
            assert_eq!(
                steps(&world.journal(0, 0.0)).await,
                expected,
                "{away:?}: the same for the next process"
            );
            assert_eq!(journal.runs(10, None).await.unwrap().runs.len(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_with_an_expired_lease_is_rejected_after_its_store_recovers() {
    let world = World::new();
    let store = world.store(0, 0.0);
    let (first, second) = (world.journal_on(store.clone()), world.journal(0, 0.0));
    let record = |step: &str| {
        let event = Event::Intent {
            token: ClientToken::new(step).unwrap(),
            name: format!("r/{step}/1"),
            target: None,
        };
        Record::new("2026-11-23T06:30:00Z".parse().unwrap(), StepKey::new("r", step), event)
    };
    first.append(record("a")).await.unwrap();
    *store.away.lock().unwrap() = Some(Away::LosesRequests);
    first.append(record("b")).await.unwrap_err();
    second.append(record("c")).await.unwrap();
    *store.away.lock().unwrap() = None;
    for step in ["d", "e"] {
        let error = first.append(record(step)).await.unwrap_err();
        assert!(error.to_string().contains("another process has resumed this run"), "{error}");
    }
    assert_eq!(world.journal(0, 0.0).entries("r").await.unwrap().len(), 2);
}
