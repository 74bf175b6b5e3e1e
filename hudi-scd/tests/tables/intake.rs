//! Files are taken in only once: if they are delivered again, by several writers, and across crashes,
//! rollbacks and archival.

use std::sync::{Arc, atomic::Ordering};

use futures::{Stream, stream};
use hudi_scd::{
    Query, Result, RetentionPolicy, SourceFile, Table, TableDefinition,
    arrow::array::RecordBatch,
    scd::{Scd2, Scd2Table},
    timeline::{Action, CommitMetadata, State, archive::ArchiveLimits},
};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use rstest::rstest;

use crate::common::{batch, lines, memory, mortal::Mortal, repeatable, schema, ticking};

fn file(number: usize) -> SourceFile {
    SourceFile::new(format!("s3://raw/{number}.csv"), "v1")
}

/// The rows of files. Each file adds its number to the history of a common key and has one key of its own.
fn rows(files: Vec<SourceFile>) -> impl Stream<Item = Result<RecordBatch>> {
    let columns = schema("id int, at int");
    stream::iter(files.into_iter().map(move |file| {
        let number = file.name.rsplit(['/', '.']).nth(1).unwrap().to_owned();
        Ok(batch(&columns, &format!("{{\"id\":{number},\"at\":1}}")))
    }))
}

async fn create(store: &Arc<dyn ObjectStore>) -> Table {
    let definition = TableDefinition::new("t", schema("id int, at int"), ["id"])
        .with_retention(RetentionPolicy::commits(2));
    let options = repeatable().with_archive_limits(ArchiveLimits { keep_min: 3, keep_max: 4 });
    Table::create_with(store.clone(), "t".into(), definition, options).await.unwrap()
}

async fn count(table: &Table) -> usize {
    lines(&table.read(Query::snapshot()).await.unwrap()).len()
}

async fn ledgers(store: &Arc<dyn ObjectStore>) -> Vec<String> {
    let folder = Path::parse("t/.hoodie/.aux/tombstones").unwrap();
    let listed = store.list_with_delimiter(Some(&folder)).await.unwrap();
    let names = listed.objects.iter().map(|object| object.location.filename().unwrap().to_owned());
    names.filter(|name| name.ends_with(".ledger")).collect()
}

#[tokio::test]
async fn a_file_is_taken_in_once_also_after_cleaning_and_archival() {
    let store = memory();
    let table = create(&store).await;
    for number in 0..20 {
        let files = [file(number), file(number / 2), file(number)];
        let intake = table.take_in(&files, rows).await.unwrap();
        assert_eq!(intake.new, [file(number)]);
        assert_eq!(intake.known.len(), 2);
        assert_eq!(intake.report.inserted, 1);
    }
    let timeline = table.timeline().await.unwrap();
    assert!(timeline.completed_commits().count() <= 4, "the others are archived");
    let latest = timeline.completed(Action::Commit).last().unwrap().clone();
    let (path, bytes) = table.entry_file(&latest).await.unwrap();
    assert_eq!(SourceFile::of_commit(&CommitMetadata::parse(&bytes, path).unwrap()).unwrap(), [file(19)]);
    assert!(ledgers(&store).await.len() <= 6, "old ledgers are deleted");

    let all: Vec<_> = (0..21).map(file).collect();
    assert_eq!(table.new_files(&all).await.unwrap(), [file(20)]);
    let other = Table::open(store.clone(), "t".into()).await.unwrap();
    assert_eq!(other.take_in(&all[..20], rows).await.unwrap().report.instant, None);
    assert_eq!(count(&table).await, 20);
}

#[tokio::test]
async fn a_file_that_changes_nothing_is_recorded_and_an_empty_one_is_not() {
    let table = create(&memory()).await;
    table.upsert(&[batch(&schema("id int, at int"), r#"{"id":7,"at":1}"#)]).await.unwrap();
    let intake = table.take_in(&[file(7)], rows).await.unwrap();
    assert_eq!((intake.report.unchanged, intake.report.instant.is_some()), (1, true));
    assert_eq!(table.new_files(&[file(7)]).await.unwrap(), []);

    let nothing = |_| stream::empty();
    let intake = table.take_in(&[file(8)], nothing).await.unwrap();
    assert_eq!((intake.new, intake.report.instant), (vec![file(8)], None));
    assert_eq!(table.new_files(&[file(8)]).await.unwrap(), [file(8)]);
    assert_eq!(count(&table).await, 1);
}

#[tokio::test]
async fn the_files_of_a_commit_that_was_rolled_back_are_new_again() {
    let store = memory();
    let table = create(&store).await;
    table.take_in(&[file(1)], rows).await.unwrap();
    let undone = table.take_in(&[file(2)], rows).await.unwrap().report.instant.unwrap();
    table.rollback(undone).await.unwrap();
    assert_eq!(table.new_files(&[file(1), file(2)]).await.unwrap(), [file(2)]);
    assert_eq!(table.take_in(&[file(1), file(2)], rows).await.unwrap().new, [file(2)]);
    assert_eq!(count(&table).await, 2);
}

#[rstest]
#[case::before(false)]
#[case::after(true)]
#[tokio::test(start_paused = true)]
async fn a_writer_may_die_at_any_call(#[case] last_one_counts: bool) {
    let begun = tokio::time::Instant::now();
    let prepared = memory();
    create(&prepared).await.take_in(&[file(1)], rows).await.unwrap();
    for calls in 0.. {
        let store = copy_of(&prepared).await;
        let (mortal, calls_left) = Mortal::after(store.clone(), calls, last_one_counts);
        if let Ok(table) = Table::open_with(mortal, "t".into(), ticking(begun, 1)).await {
            let _ = table.take_in(&[file(1), file(2)], rows).await;
        }
        // The lease expires on paused time.
        let table = Table::open_with(store, "t".into(), ticking(begun, 2)).await.unwrap();
        table.take_in(&[file(2), file(3)], rows).await.unwrap();
        assert_eq!(count(&table).await, 3, "died at call {calls}");
        assert_eq!(table.new_files(&[file(1), file(2), file(3)]).await.unwrap(), []);
        assert_eq!(table.validate().await.unwrap(), []);
        if calls_left.load(Ordering::SeqCst) > 0 {
            break;
        }
    }
}

async fn copy_of(store: &Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
    use futures::TryStreamExt;
    let copy = memory();
    let objects: Vec<_> = store.list(None).try_collect().await.unwrap();
    for object in objects {
        let bytes = store.get(&object.location).await.unwrap().bytes().await.unwrap();
        copy.put(&object.location, bytes.into()).await.unwrap();
    }
    copy
}

#[tokio::test]
async fn the_ledger_of_a_write_that_another_engine_rolled_back_does_not_count_after_its_archival() {
    let store = memory();
    let table = create(&store).await;
    table.take_in(&[file(1)], rows).await.unwrap();
    let undone = table.take_in(&[file(2)], rows).await.unwrap().report.instant.unwrap();
    // Another engine does not know the ledger.
    let folder = Path::parse("t/.hoodie/.aux/tombstones").unwrap();
    let path = folder.join(format!("{undone}.ledger"));
    let ledger = store.get(&path).await.unwrap().bytes().await.unwrap();
    table.rollback(undone).await.unwrap();
    store.put(&path, ledger.into()).await.unwrap();
    for at in 2..20 {
        table.upsert(&[batch(&schema("id int, at int"), &format!(r#"{{"id":9,"at":{at}}}"#))]).await.unwrap();
    }
    let first = table.timeline().await.unwrap().completed_commits().next().unwrap().instant;
    assert!(undone < first, "archived");
    assert_eq!(table.new_files(&[file(1), file(2)]).await.unwrap(), [file(2)]);
    table.take_in(&[file(1), file(2)], rows).await.unwrap();
    assert!(store.head(&path).await.is_err(), "deleted");
}

#[tokio::test]
async fn a_history_takes_a_file_in_once() {
    let changes = schema("id int, at int");
    let scd = Scd2::new(["id"], "at");
    let definition = Scd2Table::definition_of("h", &scd, &changes).unwrap();
    let table = Scd2Table::create_with(memory(), "t".into(), definition, repeatable()).await.unwrap();
    let intake = table.take_in(&[file(1), file(2)], rows).await.unwrap();
    assert_eq!((intake.new.len(), intake.report.counts.opened), (2, 2));
    let intake = table.take_in(&[file(2), file(3)], rows).await.unwrap();
    assert_eq!((intake.new, intake.known), (vec![file(3)], vec![file(2)]));
    assert_eq!(table.rows().await.unwrap().num_rows(), 3);
    // Known changes change no row, but their file is recorded.
    let same = |_| rows(vec![file(1)]);
    let intake = table.take_in(&[file(4)], same).await.unwrap();
    assert!(intake.report.commit.instant.is_some());
    assert_eq!(table.table().new_files(&[file(4)]).await.unwrap(), []);
    let latest = table.table().timeline().await.unwrap();
    assert!(latest.entries().iter().all(|entry| entry.state == State::Completed));
}
