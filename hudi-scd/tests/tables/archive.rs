//! The active timeline stays short, and removed actions are in the archive.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use futures::TryStreamExt;
use hudi_scd::{
    FnClock, Invariant, Query, RetentionPolicy, Table, TableDefinition, TableOptions,
    timeline::{
        Action, Instant, State,
        archive::{self, ArchiveLimits, ArchivedEntry},
    },
};
use object_store::{
    CopyOptions, Error, ObjectStore, ObjectStoreExt, PutOptions, PutPayload, PutResult, path::Path,
};
use rstest::rstest;

use crate::common::{
    self,
    interposed::{Interposed, Interposer},
    mortal::Mortal,
};

const LIMITS: ArchiveLimits = ArchiveLimits { keep_min: 6, keep_max: 8 };

fn row(table_schema: &arrow::datatypes::SchemaRef, id: usize, at: usize) -> arrow::array::RecordBatch {
    common::batch(table_schema, &format!(r#"{{"id": {id}, "v": "v{at}", "at": {at}}}"#))
}

#[tokio::test]
async fn the_timeline_is_bounded_and_every_read_stays_right() {
    let schema = common::schema("id bigint, v string, at bigint");
    let store = common::memory();
    let options =
        common::repeatable().with_retention(RetentionPolicy::commits(3)).with_archive_limits(LIMITS);
    let definition = TableDefinition::new("t", schema.clone(), ["id"]).with_ordering_field("at");
    let table = Table::create_with(store.clone(), "t".into(), definition, options).await.unwrap();

    let mut snapshots = Vec::new();
    let mut archived = 0;
    for commit in 0..30 {
        let report = table.upsert(&[row(&schema, commit % 4, commit)]).await.unwrap();
        archived += report.archived.map_or(0, |report| report.actions);
        let timeline = table.timeline().await.unwrap();
        assert!(timeline.completed_commits().count() <= LIMITS.keep_max, "after commit {commit}");
        snapshots
            .push((report.instant.unwrap(), common::lines(&table.read(Query::snapshot()).await.unwrap())));
        for (instant, rows) in snapshots.iter().rev().take(3) {
            assert_eq!(common::lines(&table.read(Query::as_of(*instant)).await.unwrap()), *rows);
        }
    }
    assert!(archived > 20);

    // Every file of a removed action is in the archive exactly once.
    let mut found = Vec::new();
    for number in 1.. {
        let path = format!("t/.hoodie/archived/{}", archive::file_name(number));
        let Ok(file) = store.get(&object_store::path::Path::parse(path).unwrap()).await else { break };
        found.extend(archive::decode(&file.bytes().await.unwrap()).unwrap());
    }
    assert_eq!(found.len() as u64, 3 * archived);
    let commits: Vec<_> = found
        .iter()
        .filter(|entry| entry.action_type.as_deref() == Some("commit"))
        .filter(|entry| entry.action_state.as_deref() == Some("COMPLETED"))
        .map(|entry| entry.commit_time.clone().unwrap())
        .collect();
    let expected: Vec<_> =
        snapshots.iter().take(commits.len()).map(|(instant, _)| instant.to_string()).collect();
    assert_eq!(commits, expected);
    assert!(found.iter().any(|entry| entry.hoodie_clean_metadata.is_some()));
}

#[tokio::test]
async fn nothing_of_the_retained_window_is_archived() {
    let schema = common::schema("id bigint, v string, at bigint");
    let options =
        common::repeatable().with_retention(RetentionPolicy::commits(10)).with_archive_limits(LIMITS);
    let definition = TableDefinition::new("t", schema.clone(), ["id"]).with_ordering_field("at");
    let table = Table::create_with(common::memory(), "t".into(), definition, options).await.unwrap();
    let mut instants = Vec::new();
    for commit in 0..20 {
        instants.push(table.upsert(&[row(&schema, 1, commit)]).await.unwrap().instant.unwrap());
        let timeline = table.timeline().await.unwrap();
        let active: Vec<_> = timeline.completed_commits().map(|entry| entry.instant).collect();
        let kept = instants.len().min(12);
        assert!(active.len() >= kept && active.ends_with(&instants[instants.len() - kept..]));
    }
    assert!(table.archive().await.unwrap().is_none());
}

#[tokio::test]
async fn goes_on_with_the_archive_that_spark_began() {
    let golden = common::Golden::unpack("archived-0.15");
    let options = common::repeatable().with_archive_limits(ArchiveLimits { keep_min: 12, keep_max: 14 });
    let table = Table::open_with(golden.store(), "table".into(), options).await.unwrap();
    let report = table.archive().await.unwrap();
    assert_eq!(report, None);
    let before = common::lines(&table.read(Query::snapshot()).await.unwrap());
    let limits = ArchiveLimits { keep_min: 12, keep_max: 13 };
    let table =
        Table::open_with(golden.store(), "table".into(), common::repeatable().with_archive_limits(limits))
            .await
            .unwrap();
    let report = table.archive().await.unwrap().unwrap();
    assert_eq!((report.actions, report.file.as_str()), (2, ".commits_.archive.3_1-0-1"));
    assert_eq!(common::lines(&table.read(Query::snapshot()).await.unwrap()), before);
}

/// A commit, followed by a clean and an archival, dies at each storage call. Nothing is lost, and the next
/// writer archives.
#[tokio::test]
async fn an_archival_that_dies_at_any_call_is_done_again() {
    let schema = common::schema("id bigint, v string, at bigint");
    let limits = ArchiveLimits { keep_min: 4, keep_max: 4 };
    // Each writer starts one day after the previous one, when the lease of a dead writer has expired.
    let options = |day: i64| {
        let seconds = std::sync::atomic::AtomicI64::new(86_400 * day);
        let now = move || {
            let start: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
            start
                + jiff::SignedDuration::from_secs(seconds.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
        };
        let options = TableOptions::new().with_clock(FnClock(now)).with_seed(day as u64).with_parallelism(1);
        options.with_retention(RetentionPolicy::commits(2)).with_archive_limits(limits)
    };
    for calls in 0.. {
        let store = common::memory();
        let definition = TableDefinition::new("t", schema.clone(), ["id"]).with_ordering_field("at");
        let table = Table::create_with(store.clone(), "t".into(), definition, options(0)).await.unwrap();
        for commit in 0..6 {
            table.upsert(&[row(&schema, commit % 4, commit)]).await.unwrap();
        }
        let (mortal, left) = Mortal::after(store.clone(), calls, calls % 2 == 0);
        if let Ok(table) = Table::open_with(mortal, "t".into(), options(1)).await {
            drop(table.upsert(&[row(&schema, 0, 6)]).await);
        }
        let table = Table::open_with(store.clone(), "t".into(), options(2)).await.unwrap();
        table.upsert(&[row(&schema, 0, 6)]).await.unwrap();
        table.upsert(&[row(&schema, 1, 7)]).await.unwrap();
        assert_eq!(table.validate().await.unwrap(), [], "call {calls}");
        let expected: Vec<String> = [(0, 6), (1, 7), (2, 2), (3, 3)]
            .map(|(id, at)| format!(r#"{{"at":{at},"id":{id},"v":"v{at}"}}"#))
            .into();
        assert_eq!(
            common::lines(&table.read(Query::snapshot()).await.unwrap()),
            sorted(expected),
            "call {calls}"
        );
        let active = table.timeline().await.unwrap().completed_commits().count();
        assert_eq!(active, limits.keep_min, "call {calls}");
        if left.load(std::sync::atomic::Ordering::SeqCst) >= 0 {
            assert!(calls > 40, "only {calls} calls");
            break;
        }
    }
}

/// Moves commits to the archive, whatever is on the timeline before them.
async fn archive_commits(store: &dyn ObjectStore, commits: &[Instant]) {
    let mut entries = Vec::new();
    for commit in commits {
        let names = ["commit.requested", "inflight", "commit"].map(|end| format!("{commit}.{end}"));
        for (state, name) in State::ALL.into_iter().zip(names) {
            let file = Path::from(format!("t/.hoodie/{name}"));
            let content = store.get(&file).await.unwrap().bytes().await.unwrap();
            entries.push(ArchivedEntry::read(*commit, Action::Commit, state, &content, *commit).unwrap());
            store.delete(&file).await.unwrap();
        }
    }
    let file = Path::from(format!("t/.hoodie/archived/{}", archive::file_name(1)));
    store.put(&file, archive::encode(&entries).into()).await.unwrap();
}

/// With `hoodie.archive.beyond.savepoint`, Hudi's archiver leaves out commits with a savepoint and archives
/// later ones. The files of those are newer than the first commit of the timeline.
#[tokio::test]
async fn commits_that_were_archived_beyond_a_savepoint_stay_committed() {
    let schema = common::schema("id bigint, p string, at bigint");
    let row = |id: i64, at: i64| common::batch(&schema, &format!(r#"{{"id":{id},"p":"p{id}","at":{at}}}"#));
    let store = common::memory();
    let definition = TableDefinition::new("t", schema.clone(), ["id"])
        .with_ordering_field("at")
        .with_partition_fields(["p"]);
    let table =
        Table::create_with(store.clone(), "t".into(), definition, common::repeatable()).await.unwrap();
    let mut commits = Vec::new();
    let mut expected = Vec::new();
    for id in 0..5 {
        let report = table.upsert(&[row(id, 1), row(id + 10, 9)]).await.unwrap();
        commits.push(report.instant.unwrap());
        expected.extend(common::lines(&[row(id, 1), row(id + 10, 9)]));
        if id == 2 {
            commits.push(table.delete(&[row(11, 9)]).await.unwrap().instant.unwrap());
        }
    }
    table.savepoint(commits[0], "test", "").await.unwrap();
    let expected = sorted(expected.into_iter().filter(|line| !line.contains(r#""id":11,"#)).collect());
    let read = async |table: &Table| common::lines(&table.read(Query::snapshot()).await.unwrap());
    assert_eq!(read(&table).await, expected);
    archive_commits(store.as_ref(), &[commits[1], commits[2], commits[3]]).await;
    // A dead writer of the same time left a file.
    let files = table.file_groups().await.unwrap();
    let file = files.iter().find(|group| &*group.partition == "p=p2").unwrap();
    let file = format!("t/p=p2/{}", file.versions[0].file);
    let never = format!("{}5", &commits[1].as_str()[..16]);
    let stray = Path::from(format!("t/p=p2/stray-0_0-1-1_{never}.parquet"));
    store.copy(&Path::from(file), &stray).await.unwrap();

    assert_eq!(read(&table).await, expected, "a handle from before");
    let table = Table::open_with(store.clone(), "t".into(), common::repeatable()).await.unwrap();
    assert_eq!(read(&table).await, expected);
    let found = table.validate().await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].invariant, Invariant::StrayFile);
    // The key was deleted later than this.
    assert_eq!(table.upsert(&[row(11, 2)]).await.unwrap().instant, None);
    assert_eq!(read(&table).await, expected);

    // When the savepoint is gone, its commit is archived too.
    table.delete_savepoint(commits[0]).await.unwrap();
    let limits = ArchiveLimits { keep_min: 1, keep_max: 1 };
    let options =
        common::repeatable().with_retention(RetentionPolicy::FileVersions(1)).with_archive_limits(limits);
    let table = Table::open_with(store.clone(), "t".into(), options).await.unwrap();
    table.upsert(&[row(2, 2)]).await.unwrap();
    table.archive().await.unwrap();
    let first = table.timeline().await.unwrap().completed_commits().next().unwrap().instant;
    assert!(first > commits[3], "{first}");
    let mut expected = expected;
    expected.retain(|line| !line.contains(r#""id":2,"#));
    expected.extend(common::lines(&[row(2, 2)]));
    assert_eq!(read(&table).await, sorted(expected));
    assert_eq!(table.validate().await.unwrap(), []);
    assert!(store.head(&stray).await.is_err(), "the dead writer's file is removed");
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// A process that dies when it is about to complete a commit.
#[derive(Clone, Debug, Default)]
struct DiesBeforeItsCommit(Arc<AtomicBool>);

impl DiesBeforeItsCommit {
    fn check(&self) -> object_store::Result<()> {
        match self.0.load(Ordering::SeqCst) {
            true => Err(Error::Generic { store: "test", source: "the process died".into() }),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Interposer for DiesBeforeItsCommit {
    async fn call<T: Send>(
        &self,
        call: futures::future::BoxFuture<'_, object_store::Result<T>>,
    ) -> object_store::Result<T> {
        self.check()?;
        call.await
    }

    async fn put(
        &self,
        inner: &dyn ObjectStore,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.check()?;
        inner.put_opts(path, payload, options).await
    }

    async fn copy(
        &self,
        inner: &dyn ObjectStore,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.0.fetch_or(to.extension() == Some("commit"), Ordering::SeqCst);
        self.check()?;
        inner.copy_opts(from, to, options).await
    }
}

/// The engine that archives the commits around a write that was undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ArchivedBy {
    Nobody,
    Us,
    /// Spark does not know the tombstones, and leaves them.
    Spark,
}

/// A delete dies after it has written its tombstones, and Spark rolls it back, without knowing that file. The
/// delete must not count, even if the timeline begins after it. A late row would then be lost.
#[rstest]
#[tokio::test]
async fn the_tombstones_of_an_undone_delete_never_count(
    #[values(ArchivedBy::Nobody, ArchivedBy::Us, ArchivedBy::Spark)] archived_by: ArchivedBy,
) {
    let schema = common::schema("id bigint, at bigint, _hoodie_is_deleted boolean");
    let change = |id: i64, at: i64, is_deleted: bool| {
        let change = format!(r#"{{"id": {id}, "at": {at}, "_hoodie_is_deleted": {is_deleted}}}"#);
        common::batch(&schema, &change)
    };
    let store = common::memory();
    let options = common::repeatable().without_lock().without_automatic_clean().with_archive_limits(LIMITS);
    let definition = TableDefinition::new("t", schema.clone(), ["id"]).with_ordering_field("at");
    let table = Table::create_with(store.clone(), "t".into(), definition, options.clone()).await.unwrap();
    table.upsert(&[change(1, 0, false)]).await.unwrap();
    // This delete counts, before and after its archival.
    assert_eq!(table.upsert(&[change(66, 100, true)]).await.unwrap().remembered, 1);

    let mortal = Interposed::over(store.clone(), DiesBeforeItsCommit::default());
    let dying = Table::open_with(mortal, "t".into(), options.clone()).await.unwrap();
    dying.upsert(&[change(77, 100, true)]).await.unwrap_err();
    let timeline = table.timeline().await.unwrap();
    let undone = timeline.entries().iter().find(|entry| entry.is_pending()).unwrap().instant;
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    let of_delete = listed.into_iter().map(|found| found.location);
    let of_delete: Vec<_> = of_delete.filter(|path| path.as_ref().contains(undone.as_str())).collect();
    let tombstones = Path::from(format!("t/.hoodie/.aux/tombstones/{undone}.tombstones"));
    assert!(of_delete.contains(&tombstones));
    let content = store.get(&tombstones).await.unwrap().bytes().await.unwrap();
    for path in of_delete.iter().filter(|path| **path != tombstones) {
        store.delete(path).await.unwrap();
    }

    if archived_by != ArchivedBy::Nobody {
        for at in 1..=20 {
            table.upsert(&[change(1, at, false)]).await.unwrap();
        }
        let first = table.timeline().await.unwrap().completed_commits().next().unwrap().instant;
        assert!(first > undone, "the timeline begins later now");
        let is_left = store.head(&tombstones).await.is_ok();
        assert!(!is_left, "an archival of this crate deletes files that would count after it");
        if archived_by == ArchivedBy::Spark {
            store.put(&tombstones, content.into()).await.unwrap();
        }
    }
    let table = Table::open_with(store.clone(), "t".into(), options).await.unwrap();
    let report = table.upsert(&[change(66, 50, false), change(77, 50, false)]).await.unwrap();
    assert_eq!((report.late, report.inserted), (1, 1), "{report}");
    assert!(store.head(&tombstones).await.is_err(), "a later archival cannot make it count");
    // Its own archived commits are known by now.
    let report = table.upsert(&[change(66, 60, false)]).await.unwrap();
    assert_eq!(report.late, 1, "{report}");
    assert_eq!(table.validate().await.unwrap(), []);
}
