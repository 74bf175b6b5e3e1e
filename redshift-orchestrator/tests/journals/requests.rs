//! Number of requests that the journal on object storage sends after thousands of runs.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path,
};
use redshift_data_local::{LocalExecutor, Script};
use redshift_orchestrator::{
    Clock, Orchestrator, Pipeline, Run, Statement, StepKey, TokioClock,
    journal::{Claim, Journal, ObjectStoreJournal, Prune, RunBegun, RunEvent, RunOutcome, RunRecord, prune},
    pipeline::Step,
};

/// Store that counts requests. A listing counts as one request per 1,000 objects.
#[derive(Debug, Default)]
struct Counted {
    inner: InMemory,
    requests: Arc<AtomicUsize>,
}

impl Counted {
    fn count(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    fn listing(
        &self,
        objects: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count();
        let requests = self.requests.clone();
        let counted = objects.enumerate().inspect(move |(number, _)| {
            if *number > 0 && number % 1_000 == 0 {
                requests.fetch_add(1, Ordering::Relaxed);
            }
        });
        counted.map(|(_, object)| object).boxed()
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counted")
    }
}

#[async_trait]
impl ObjectStore for Counted {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.count();
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.count();
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.count();
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.count();
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.count();
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.count();
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.count();
        self.inner.copy_opts(from, to, options).await
    }
}

struct World {
    store: Arc<Counted>,
    clock: TokioClock,
}

impl World {
    /// Creates a store with the records of `runs` finished runs, one for each half hour before now.
    async fn with_history(runs: u64) -> Self {
        let start: jiff::Timestamp = "2026-11-23T06:30:00Z".parse().unwrap();
        let world = Self { store: Arc::default(), clock: TokioClock::starting_at(start) };
        for number in 0..runs {
            // A new journal, because each run is a separate process.
            let journal = world.journal();
            let at = start - Duration::from_secs(1_800 * (runs - number));
            let record = |event| RunRecord::new(at, format!("half-hour {number}"), event);
            let begun = RunBegun::new("nightly");
            journal.append_run(record(RunEvent::RunBegun(begun))).await.unwrap();
            let result = RunOutcome::Finished;
            journal.append_run(record(RunEvent::RunEnded { result })).await.unwrap();
        }
        world
    }

    fn journal(&self) -> ObjectStoreJournal {
        ObjectStoreJournal::new(self.store.clone(), "etl").with_clock(self.clock)
    }

    async fn counted<T>(&self, what: impl Future<Output = T>) -> (T, usize) {
        let before = self.store.requests.load(Ordering::Relaxed);
        let done = what.await;
        (done, self.store.requests.load(Ordering::Relaxed) - before)
    }
}

#[tokio::test(start_paused = true)]
async fn the_requests_of_a_run_do_not_depend_on_the_history() {
    let pipeline = Pipeline::builder("nightly").with_step(Step::sql("a", "SELECT 1")).build().unwrap();
    let mut costs = Vec::new();
    for history in [0, 10, 5_000] {
        let world = World::with_history(history).await;
        let orchestrator = Orchestrator::new(LocalExecutor::scripted(Script::new()))
            .with_clock(world.clock)
            .with_journal(world.journal());
        let (report, cost) = world.counted(pipeline.run(&orchestrator, Run::new("now"))).await;
        assert!(report.unwrap().is_success());
        costs.push(cost);
    }
    println!("{costs:?} requests");
    assert!(costs[0] <= 20, "{costs:?}");
    assert_eq!(costs[1..], [costs[0]; 2], "{costs:?}");
}

/// Regression: the lease of each attempt was left in the store, and its claim listed records that cannot
/// exist.
#[tokio::test(start_paused = true)]
async fn the_claim_of_an_attempt_costs_five_requests_and_leaves_nothing() {
    let world = World::with_history(10).await;
    let (journal, key) = (world.journal(), StepKey::new("now", "customers"));
    let objects = || world.store.inner.list(None).count();
    let before = objects().await;
    let ((), cost) = world
        .counted(async {
            let active = journal.claim(&Claim::of_attempt(&key, world.clock.now())).await.unwrap();
            assert_eq!(journal.entry(&key).await.unwrap(), None);
            active.release().await;
        })
        .await;
    // GET and PUT of the lease, LIST of the run, PUT and DELETE of the lease.
    assert_eq!((cost, objects().await), (5, before));
}

#[tokio::test(start_paused = true)]
async fn a_statement_without_a_pipeline_costs_four_requests() {
    let world = World::with_history(0).await;
    let orchestrator = Orchestrator::new(LocalExecutor::scripted(Script::new()))
        .with_clock(world.clock)
        .with_journal(world.journal());
    let run = async |step: &str| {
        let key = StepKey::new("adhoc", step);
        let (outcome, cost) = world.counted(orchestrator.run(&key, Statement::sql("SELECT 1"))).await;
        assert!(outcome.unwrap().is_success());
        cost
    };
    // LIST of the run, GET of its lease, and PUT of its entry in the list of runs; PUT of the intent, the id
    // and the outcome.
    assert_eq!(run("a").await, 6);
    // HEAD of the last record, because `prune` may have removed the run.
    assert_eq!((run("b").await, run("c").await), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn the_cost_of_a_page_depends_only_on_its_runs() {
    let mut costs = Vec::new();
    for history in [100, 5_000] {
        let world = World::with_history(history).await;
        let (page, first) = world.counted(world.journal().runs(20, None)).await;
        let page = page.unwrap();
        assert_eq!(page.runs[0].run, format!("half-hour {}", history - 1));
        let (next, second) = world.counted(world.journal().runs(20, page.next.as_ref())).await;
        assert_eq!(next.unwrap().runs[0].run, format!("half-hour {}", history - 21));
        costs.extend([first, second]);
    }
    println!("{costs:?} requests");
    assert_eq!(costs, [costs[0]; 4]);
    assert!(costs[0] <= 1 + 20 * 4, "{costs:?}");
}

#[tokio::test(start_paused = true)]
async fn pruning_deletes_in_batches_and_leaves_recent_runs_unread() {
    let world = World::with_history(5_000).await;
    let now: jiff::Timestamp = "2026-11-23T06:30:00Z".parse().unwrap();
    let before = now - Duration::from_secs(90 * 86_400);
    let old = 5_000 - 90 * 48;
    let (pruned, cost) = world.counted(async { prune(&world.journal(), &Prune::before(before)).await }).await;
    let pruned = pruned.unwrap();
    assert_eq!((pruned.removed.len(), pruned.kept.len()), (old, 0));
    println!("{cost} requests for {old} runs");
    // For each run: 4 to list it, 5 to claim it, 1 to seal it. Deletes are shared by many runs.
    assert!(cost < 11 * old, "{cost} requests for {old} runs");
    let (again, cost) = world.counted(async { prune(&world.journal(), &Prune::before(before)).await }).await;
    assert_eq!((again.unwrap().removed.len(), cost), (0, 2));
}
