//! A write loses its lease, is cancelled or is dropped: which changes it sends, and what happens to the lock.

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, future::BoxFuture, stream::BoxStream};
use hudi_scd::{Cancellation, ErrorKind, Query, RetentionPolicy, Table, TableDefinition, TableOptions};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, path::Path,
};
use rstest::rstest;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::common::{
    batch,
    interposed::{Interposed, Interposer},
    lines, memory, schema, ticking,
};

/// A store that records calls, and calls a function before each of them.
#[derive(Clone)]
struct Noted {
    inner: Arc<dyn ObjectStore>,
    calls: Arc<Mutex<Vec<(Kind, String)>>>,
    before: Arc<OnceLock<Before>>,
    /// While it is set, calls from this number on wait.
    asleep: watch::Receiver<Option<usize>>,
}

type Before = Box<dyn Fn(usize) + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    Delete,
}

impl Noted {
    fn over(inner: Arc<dyn ObjectStore>) -> (Arc<Self>, watch::Sender<Option<usize>>) {
        let (sleep, asleep) = watch::channel(None);
        (Arc::new(Self { inner, calls: Arc::default(), before: Arc::default(), asleep }), sleep)
    }

    fn before(&self, before: impl Fn(usize) + Send + Sync + 'static) {
        assert!(self.before.set(Box::new(before)).is_ok());
    }

    fn calls(&self) -> Vec<(Kind, String)> {
        self.calls.lock().unwrap().clone()
    }

    async fn note(&self, kind: Kind, path: &Path) {
        let number = {
            let mut calls = self.calls.lock().unwrap();
            calls.push((kind, path.to_string()));
            calls.len() - 1
        };
        if let Some(before) = self.before.get() {
            before(number);
        }
        let mut asleep = self.asleep.clone();
        asleep.wait_for(|from| from.is_none_or(|from| number < from)).await.unwrap();
        // Lets other tasks run in the middle of the call.
        tokio::task::yield_now().await;
    }
}

impl fmt::Debug for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Noted")
    }
}

impl fmt::Display for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Noted")
    }
}

#[async_trait]
impl ObjectStore for Noted {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.note(Kind::Write, path).await;
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.note(Kind::Write, path).await;
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.note(Kind::Read, path).await;
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |path: Result<Path>| {
            let store = store.clone();
            async move {
                let path = path?;
                store.note(Kind::Delete, &path).await;
                store.inner.delete(&path).await?;
                Ok(path)
            }
        };
        paths.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.note(Kind::Read, prefix.unwrap_or(&Path::default())).await;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.note(Kind::Write, to).await;
        self.inner.copy_opts(from, to, options).await
    }
}

fn options(begun: Instant, seed: u64) -> TableOptions {
    ticking(begun, seed).with_parallelism(1).with_retention(RetentionPolicy::commits(1))
}

fn rows(at: i64) -> arrow::array::RecordBatch {
    batch(&schema("id bigint, at bigint"), &format!("{{\"id\":1,\"at\":{at}}}\n{{\"id\":2,\"at\":{at}}}"))
}

/// A table with so many commits that the next one cleans.
async fn table(begun: Instant) -> Arc<dyn ObjectStore> {
    let store = memory();
    let definition = TableDefinition::new("t", rows(0).schema(), ["id"]).with_ordering_field("at");
    let table = Table::create_with(store.clone(), "t".into(), definition, options(begun, 1)).await.unwrap();
    for at in 0..3 {
        table.upsert(&[rows(at)]).await.unwrap();
    }
    store
}

async fn read(store: &Arc<dyn ObjectStore>, begun: Instant) -> Vec<String> {
    let table = Table::open_with(store.clone(), "t".into(), options(begun, 9)).await.unwrap();
    lines(&table.read(Query::snapshot()).await.unwrap())
}

/// Returns `true` if the lock file says that the lock is free.
async fn is_released(store: &Arc<dyn ObjectStore>) -> bool {
    let file = store.get(&Path::from("t/.hoodie/.locks/table_lock.json")).await.unwrap();
    String::from_utf8(file.bytes().await.unwrap().to_vec()).unwrap().contains("\"expired\":true")
}

fn is_lock(path: &str) -> bool {
    path.contains("/.locks/")
}

const OLD: [&str; 2] = [r#"{"at":2,"id":1}"#, r#"{"at":2,"id":2}"#];
const NEW: [&str; 2] = [r#"{"at":7,"id":1}"#, r#"{"at":7,"id":2}"#];

/// The writer is suspended, at each of its calls, for longer than its lease. When it resumes, it finishes
/// that call and changes nothing else.
#[tokio::test(start_paused = true)]
async fn a_writer_that_lost_its_lease_sends_no_further_change() {
    let mut stopped = 0;
    for call in 0.. {
        let begun = Instant::now();
        let store = table(begun).await;
        let (noted, sleep) = Noted::over(store.clone());
        sleep.send_replace(Some(call));
        let (woken, handle) = (noted.clone(), noted.clone() as Arc<dyn ObjectStore>);
        let write = tokio::spawn(async move {
            let table = Table::open_with(handle, "t".into(), options(begun, 2)).await?;
            table.upsert(&[rows(7)]).await
        });
        tokio::time::sleep(Duration::from_secs(1_000)).await;
        let is_over = write.is_finished();
        let sent = woken.calls().len();
        sleep.send_replace(None);
        let written = write.await.unwrap();
        let holds = woken.calls()[..sent].iter().any(|(kind, path)| *kind == Kind::Write && is_lock(path));
        let is_taking = woken.calls().get(call).is_some_and(|(_, path)| is_lock(path));
        if holds && !is_taking && sent > call {
            let calls = woken.calls();
            let later: Vec<_> =
                calls[sent..].iter().filter(|(kind, path)| *kind != Kind::Read && !is_lock(path)).collect();
            assert!(later.is_empty(), "asleep at {:?}, then {later:?}", calls[call]);
            if let Err(error) = &written {
                // The request that completes the commit took effect after the heartbeat had expired.
                let is_last = calls[call].1.ends_with(".commit");
                let is_unknown = matches!(error.kind(), ErrorKind::Unknown { .. });
                assert!(error.kind() == ErrorKind::Conflict || is_last && is_unknown, "{error}");
                stopped += 1;
            }
        }
        let rows = read(&store, begun).await;
        let is_visible =
            written.as_ref().map_or_else(|error| matches!(error.kind(), ErrorKind::Unknown { .. }), |_| true);
        assert_eq!(rows, if is_visible { NEW } else { OLD }, "call {call}");
        if is_over && sent <= call {
            break;
        }
    }
    assert!(stopped > 10, "{stopped}");
}

/// The write is cancelled at each of its calls. The outcome is reported correctly, and the lock is free at
/// once.
#[tokio::test(start_paused = true)]
async fn a_cancelled_write_releases_the_lock_in_order() {
    let (mut cancelled, mut committed) = (0, 0);
    for call in 0.. {
        let begun = Instant::now();
        let store = table(begun).await;
        let (noted, _awake) = Noted::over(store.clone());
        let cancellation = Cancellation::new();
        let cancel = cancellation.clone();
        noted.before(move |number| {
            if number == call {
                cancel.cancel();
            }
        });
        let options = options(begun, 2).with_cancellation(cancellation.clone());
        let table =
            Table::open_with(noted.clone() as Arc<dyn ObjectStore>, "t".into(), options).await.unwrap();
        let opened = noted.calls().len();
        let begun_write = Instant::now();
        let written = table.upsert(&[rows(7)]).await;
        let calls = noted.calls();
        assert!(begun_write.elapsed() < Duration::from_secs(1), "nothing waits");
        assert!(!cancellation.is_writing());
        let locked = calls.iter().any(|(kind, path)| *kind == Kind::Write && is_lock(path));
        match &written {
            Ok(report) => {
                assert!(report.instant.is_some());
                committed += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
                cancelled += 1;
            }
        }
        // An attempt that is dropped while it acquires the lock releases the lock a moment later.
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(!locked || is_released(&store).await, "call {call}: {:?}", calls.get(call));
        assert_eq!(read(&store, begun).await, if written.is_ok() { NEW } else { OLD }, "call {call}");
        if calls.len() <= call {
            break;
        }
        if call >= opened && written.is_err() {
            let next = Table::open_with(store.clone(), "t".into(), self::options(begun, 3)).await.unwrap();
            next.upsert(&[rows(7)]).await.unwrap();
            assert_eq!(next.validate().await.unwrap(), []);
        }
    }
    assert!(cancelled > 10 && committed > 2, "{cancelled} {committed}");
}

/// Upserts through a store that delays the call with this number, and drops the write after 20 s. Returns
/// `true` if the write had ended by then. Also returns the store, and the sender that ends the delay.
async fn upsert_asleep_at(
    call: usize,
    store: &Arc<dyn ObjectStore>,
    begun: Instant,
) -> (bool, Arc<Noted>, watch::Sender<Option<usize>>) {
    let (noted, sleep) = Noted::over(store.clone());
    sleep.send_replace(Some(call));
    let handle = noted.clone() as Arc<dyn ObjectStore>;
    let write = async {
        let table = Table::open_with(handle, "t".into(), options(begun, 2)).await.unwrap();
        table.upsert(&[rows(7)]).await.unwrap();
    };
    let is_over = tokio::time::timeout(Duration::from_secs(20), write).await.is_ok();
    (is_over, noted, sleep)
}

/// If the future of a write is dropped while a change is in flight, the lease is left to expire. If it is
/// dropped while it reads, the lock is free at once.
#[tokio::test(start_paused = true)]
async fn a_dropped_write_keeps_the_lease_while_a_change_may_take_effect() {
    let (mut kept, mut freed) = (0, 0);
    for call in 0.. {
        let begun = Instant::now();
        let store = table(begun).await;
        let (is_over, noted, sleep) = upsert_asleep_at(call, &store, begun).await;
        if is_over {
            break;
        }
        let calls = noted.calls();
        let holds = calls[..call].iter().any(|(kind, path)| *kind == Kind::Write && is_lock(path));
        sleep.send_replace(None);
        tokio::time::sleep(Duration::from_millis(10)).await;
        let (kind, path) = &calls[call];
        if !holds || is_lock(path) {
            continue;
        }
        if *kind == Kind::Read {
            assert!(is_released(&store).await, "{:?}", calls[call]);
            freed += 1;
        } else {
            assert!(!is_released(&store).await, "{:?}", calls[call]);
            kept += 1;
        }
    }
    assert!(kept > 5 && freed > 2, "{kept} {freed}");
}

/// A rollback and a clean of a dead writer's remains. The lease is renewed before each deletion.
#[tokio::test(start_paused = true)]
async fn what_a_dead_writer_left_is_deleted_under_a_verified_lease() {
    let mut deletions = 0;
    for call in 20.. {
        let begun = Instant::now();
        let store = table(begun).await;
        let (is_over, _, _asleep) = upsert_asleep_at(call, &store, begun).await;
        if is_over {
            break;
        }
        let (noted, _awake) = Noted::over(store.clone());
        let table = Table::open_with(noted.clone() as Arc<dyn ObjectStore>, "t".into(), options(begun, 3))
            .await
            .unwrap();
        // There is nothing to write. All work concerns the remains of the dead writer.
        let report = table.delete(&[]).await.unwrap();
        assert_eq!(report.instant, None);
        let mut is_verified = false;
        let mut run = false;
        for (kind, path) in noted.calls() {
            match kind {
                Kind::Write if is_lock(&path) => (is_verified, run) = (true, false),
                // The files of one request are deleted one after the other.
                Kind::Delete if run => {}
                Kind::Delete => {
                    assert!(is_verified, "{path}");
                    (is_verified, run) = (false, true);
                    deletions += 1;
                }
                _ => run = false,
            }
        }
    }
    assert!(deletions > 10, "{deletions}");
}

/// The failure of the request that completes a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// The response is lost, and the caller cancels the write.
    Cancelled,
    /// The response is lost, and so is the lease, which cannot be renewed in the meantime.
    LeaseLost,
    /// The client lost the response and repeated the request, which conflicts with the first one.
    Status409,
    Status412,
}

/// A storage in which the request that completes a commit fails.
#[derive(Clone, Debug)]
struct FailsToComplete {
    failure: Failure,
    takes_effect: bool,
    cancellation: Cancellation,
    is_lock_out_of_reach: Arc<AtomicBool>,
}

#[async_trait]
impl Interposer for FailsToComplete {
    /// Lets other tasks run before the response.
    async fn call<T: Send>(&self, call: BoxFuture<'_, Result<T>>) -> Result<T> {
        sleep(Duration::from_millis(1)).await;
        call.await
    }

    async fn put(
        &self,
        inner: &dyn ObjectStore,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if is_lock(path.as_ref()) && self.is_lock_out_of_reach.load(Ordering::SeqCst) {
            return Err(Error::Generic { store: "test", source: "503".into() });
        }
        self.call(inner.put_opts(path, payload, options)).await
    }

    async fn copy(
        &self,
        inner: &dyn ObjectStore,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> Result<()> {
        if to.extension() != Some("commit") {
            return self.call(inner.copy_opts(from, to, options)).await;
        }
        if self.takes_effect {
            inner.copy_opts(from, to, options).await?;
        }
        let (path, source) = (to.to_string(), "the service".into());
        match self.failure {
            Failure::Cancelled => self.cancellation.cancel(),
            Failure::LeaseLost => {
                self.is_lock_out_of_reach.store(true, Ordering::SeqCst);
                sleep(Duration::from_secs(400)).await;
            }
            Failure::Status409 => return Err(Error::AlreadyExists { path, source }),
            Failure::Status412 => return Err(Error::Precondition { path, source }),
        }
        Err(Error::Generic { store: "test", source: "the connection was reset".into() })
    }
}

/// A bulk insert that is repeated stores its rows twice. If the commit has completed, or may still complete,
/// the write must not report that nothing of it is visible.
#[rstest]
#[tokio::test(start_paused = true)]
async fn a_commit_whose_last_request_failed_is_looked_up_even_if_the_write_is_stopped(
    #[values(Failure::Cancelled, Failure::LeaseLost, Failure::Status409, Failure::Status412)]
    failure: Failure,
    #[values(true, false)] takes_effect: bool,
) {
    let begun = Instant::now();
    let store = table(begun).await;
    let cancellation = Cancellation::new();
    let is_lock_out_of_reach = Arc::default();
    let fails =
        FailsToComplete { failure, takes_effect, cancellation: cancellation.clone(), is_lock_out_of_reach };
    let unsteady = Interposed::over(store.clone(), fails);
    let options = options(begun, 2).with_cancellation(cancellation);
    let table = Table::open_with(unsteady, "t".into(), options).await.unwrap();
    let written = table.upsert(&[rows(7)]).await;
    let seen = read(&store, begun).await;
    assert_eq!(seen, if takes_effect { NEW } else { OLD });
    match written {
        Ok(report) => assert!(takes_effect && report.instant.is_some(), "{report}"),
        Err(error) => {
            assert!(!takes_effect, "{error:?}");
            // A stopped write cannot prevent that the request takes effect later.
            let is_stopped = matches!(failure, Failure::Cancelled | Failure::LeaseLost);
            match error.kind() {
                ErrorKind::Unknown { instant } if is_stopped => {
                    let next =
                        Table::open_with(store.clone(), "t".into(), self::options(begun, 3)).await.unwrap();
                    assert!(!next.settle(instant).await.unwrap());
                }
                kind => assert!(kind == ErrorKind::Conflict && !is_stopped, "{error:?}"),
            }
        }
    }
    assert_eq!(read(&store, begun).await, seen);
}

/// A storage in which one call fails. The calls of the lock are not counted.
#[derive(Clone, Debug)]
struct Stumbles {
    calls_left: Arc<AtomicI64>,
    takes_effect: bool,
}

#[async_trait]
impl Interposer for Stumbles {
    async fn call<T: Send>(&self, call: BoxFuture<'_, Result<T>>) -> Result<T> {
        if self.calls_left.fetch_sub(1, Ordering::SeqCst) != 0 {
            return call.await;
        }
        if self.takes_effect {
            call.await?;
        }
        Err(Error::Generic { store: "test", source: "the connection was reset".into() })
    }

    async fn put(
        &self,
        inner: &dyn ObjectStore,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let put = inner.put_opts(path, payload, options);
        if is_lock(path.as_ref()) { put.await } else { self.call(put).await }
    }
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn a_write_that_fails_releases_the_lock(#[values(true, false)] takes_effect: bool) {
    let mut failed = 0;
    for calls in 0.. {
        let begun = Instant::now();
        let store = table(begun).await;
        let calls_left = Arc::new(AtomicI64::new(calls));
        let stumbles = Stumbles { calls_left: calls_left.clone(), takes_effect };
        let unsteady = Interposed::over(store.clone(), stumbles);
        let written = async {
            let table = Table::open_with(unsteady, "t".into(), options(begun, 2)).await?;
            table.upsert(&[rows(7)]).await
        };
        let written = written.await;
        failed += u32::from(written.is_err());
        assert!(is_released(&store).await, "call {calls}: {written:?}");
        if calls_left.load(Ordering::SeqCst) >= 0 {
            break;
        }
    }
    assert!(failed > 10, "{failed}");
}

/// A storage that refuses the base file of one partition, while it still stores the others.
#[derive(Clone, Debug, Default)]
struct RefusesOne {
    sent: Arc<AtomicI64>,
    ended: Arc<AtomicI64>,
}

#[async_trait]
impl Interposer for RefusesOne {
    async fn put(
        &self,
        inner: &dyn ObjectStore,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if path.extension() == Some("parquet") {
            if path.as_ref().contains("id=0") {
                sleep(Duration::from_secs(5)).await;
                return Err(Error::Generic { store: "test", source: "the bucket is full".into() });
            }
            self.sent.fetch_add(1, Ordering::SeqCst);
            sleep(Duration::from_secs(10)).await;
            self.ended.fetch_add(1, Ordering::SeqCst);
        }
        inner.put_opts(path, payload, options).await
    }
}

/// Several files are written at the same time. If one of them fails, the lock is released only after the
/// requests for the others have ended.
#[tokio::test(start_paused = true)]
async fn a_write_of_which_one_file_fails_awaits_its_other_requests() {
    let begun = Instant::now();
    let store = memory();
    let row = |id: i64| format!("{{\"id\":{id},\"at\":1}}");
    let rows = batch(&schema("id bigint, at bigint"), &(0..8).map(row).collect::<Vec<_>>().join("\n"));
    let definition = TableDefinition::new("t", rows.schema(), ["id"])
        .with_ordering_field("at")
        .with_partition_fields(["id"]);
    let refuses = RefusesOne::default();
    let unsteady = Interposed::over(store.clone(), refuses.clone());
    let table = Table::create_with(unsteady, "t".into(), definition, options(begun, 1)).await.unwrap();
    let error = table.upsert(std::slice::from_ref(&rows)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert!(format!("{error:?}").contains("the bucket is full"), "{error:?}");
    assert_eq!(refuses.sent.load(Ordering::SeqCst), 7);
    assert_eq!(refuses.ended.load(Ordering::SeqCst), 7);
    assert!(is_released(&store).await);
    let next = Table::open_with(store.clone(), "t".into(), options(begun, 2)).await.unwrap();
    assert_eq!(next.upsert(&[rows]).await.unwrap().inserted, 8);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(next.validate().await.unwrap(), []);
}
