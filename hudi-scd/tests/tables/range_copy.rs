//! Rewrites whose unchanged column chunks the storage copies.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use futures::TryStreamExt;
use hudi_scd::{Codec, ErrorKind, Query, Table, TableDefinition, TableOptions};
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaDataReader};
use rstest::rstest;

use crate::common::{
    self, lines,
    meter::Meter,
    mortal::Mortal,
    range_copy::{Copying, PartRequest, Service},
};

/// A table, and the same table in a storage that copies ranges.
async fn create(store: &Arc<dyn ObjectStore>, rows: &RecordBatch, options: TableOptions) -> Table {
    let definition = TableDefinition::new("t", rows.schema(), ["id"]).with_ordering_field("at");
    Table::create_with(store.clone(), "t".into(), definition, options).await.unwrap()
}

/// Returns the base files.
async fn files(store: &dyn ObjectStore) -> BTreeMap<String, Bytes> {
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    let mut files = BTreeMap::new();
    for object in listed.iter().filter(|object| object.location.as_ref().ends_with(".parquet")) {
        let content = store.get(&object.location).await.unwrap().bytes().await.unwrap();
        files.insert(object.location.to_string(), content);
    }
    files
}

async fn rows_of(table: &Table) -> Vec<String> {
    lines(&table.read(Query::snapshot()).await.unwrap())
}

/// Rows with columns of several forms. `salt` changes the values of some columns.
fn mixed(ids: &[i64], at: i64, salt: [bool; 3]) -> RecordBatch {
    let salt = salt.map(|salted| if salted { at } else { 0 });
    let noise = |id: i64, salt: i64| fastrand::Rng::with_seed((id * 1_000 + salt) as u64).u64(..);
    let text = |salt: i64| {
        StringArray::from_iter_values(ids.iter().map(|id| format!("{:x}{:x}", noise(*id, salt), id)))
    };
    let columns: [(&str, ArrayRef); 6] = [
        ("id", Arc::new(Int64Array::from(ids.to_vec()))),
        ("long", Arc::new(text(salt[0]))),
        ("few", Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| (id + salt[1]) % 5)))),
        ("fixed", Arc::new(text(0))),
        ("last", Arc::new(Int64Array::from_iter(ids.iter().map(|id| (id % 7 > 0).then_some(id + salt[2]))))),
        ("at", Arc::new(Int64Array::from(vec![at; ids.len()]))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Returns each column chunk of a file: its bytes, and its metadata without the offsets.
fn chunks(content: &Bytes) -> Vec<(Bytes, ColumnChunkMetaData)> {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(content).unwrap();
    let groups = metadata.row_groups().iter();
    groups
        .flat_map(|group| {
            let first = group.columns().iter().map(|chunk| chunk.byte_range().0).min().unwrap();
            assert_eq!(group.column(0).byte_range().0, first, "the first column is in front");
            group.columns()
        })
        .map(|chunk| {
            let (start, length) = chunk.byte_range();
            let bytes = content.slice(start as usize..(start + length) as usize);
            let chunk = chunk.clone().into_builder().set_data_page_offset(0);
            let chunk = chunk.set_column_index_offset(None).set_offset_index_offset(None);
            (bytes, chunk.set_dictionary_page_offset(None).build().unwrap())
        })
        .collect()
}

/// Upserts to and deletes from two tables. One of them copies ranges.
#[rstest]
#[tokio::test]
async fn files_have_the_same_chunks_as_without_copies(
    #[values(1, 2, 3)] seed: u64,
    #[values(true, false)] page_patching: bool,
    #[values(Service::Copies, Service::Refuses)] service: Service,
) {
    let (whole, copied) = (common::memory(), common::memory());
    let copying = Copying::over(copied.clone(), 1_000, service);
    let cache = tempfile::tempdir().unwrap();
    let options = || {
        let options = common::repeatable().with_page_patching(page_patching).with_file_sizes(60_000, 90_000);
        // With GZIP, the unchanged columns would be too small to be copied.
        let options = options.with_codec(Codec::Snappy);
        if seed == 3 { options.with_index_cache(cache.path()) } else { options }
    };
    let first = mixed(&(0..4_000).collect::<Vec<_>>(), 0, [false; 3]);
    let expecting = create(&whole, &first, options()).await;
    let table = create(&copied, &first, options().with_range_copy(Arc::new(copying.clone()))).await;
    expecting.upsert(std::slice::from_ref(&first)).await.unwrap();
    table.upsert(&[first]).await.unwrap();

    let mut random = fastrand::Rng::with_seed(seed);
    let (mut sent, mut copies) = (0, 0);
    for at in 1..9 {
        let mut ids: Vec<i64> = (0..random.usize(1..40)).map(|_| random.i64(0..5_000)).collect();
        ids.sort_unstable();
        ids.dedup();
        let batch = mixed(&ids, at, [random.bool(), random.bool(), random.bool()]);
        let (expected, report) = match random.u8(..4) {
            0 => (
                expecting.delete(std::slice::from_ref(&batch)).await.unwrap(),
                table.delete(&[batch]).await.unwrap(),
            ),
            _ => (
                expecting.upsert(std::slice::from_ref(&batch)).await.unwrap(),
                table.upsert(&[batch]).await.unwrap(),
            ),
        };
        assert_eq!(expected.bytes_sent, expected.bytes);
        assert_eq!((report.files, report.updated), (expected.files, expected.updated));
        assert_eq!(report.bytes_sent + report.bytes_copied, report.bytes);
        sent += report.bytes_sent;
        copies += report.bytes_copied;
        let (ours, theirs) = (files(copied.as_ref()).await, files(whole.as_ref()).await);
        assert!(ours.keys().eq(theirs.keys()), "commit {at}");
        for (file, content) in ours {
            assert_eq!(chunks(&content), chunks(&theirs[&file]), "commit {at}: {file}");
        }
        assert_eq!(rows_of(&table).await, lines(&expecting.read(Query::snapshot()).await.unwrap()));
    }
    assert_eq!(table.validate().await.unwrap(), []);
    assert_eq!(copying.unfinished(), 0);
    match service {
        // All pages of some columns contain new values, so that these columns are sent.
        Service::Copies => assert!(copies > sent / 2, "{copies} copied, {sent} sent"),
        _ => {
            let attempts =
                copying.lap().into_iter().filter(|request| matches!(request, PartRequest::Copy(_)));
            // Two files may be written at the same time.
            assert!((1..=2).contains(&attempts.count()));
            assert_eq!(copies, 0);
        }
    }
}

/// Rows with many columns of numbers that cannot be compressed.
fn wide(ids: Range<i64>, at: i64, changed: &[usize]) -> RecordBatch {
    let column = |number: usize| -> ArrayRef {
        let salt = if changed.contains(&number) { at } else { 0 };
        let value =
            |id: i64| fastrand::Rng::with_seed((id * 100 + number as i64 + salt * 1_000_003) as u64).i64(..);
        Arc::new(Int64Array::from_iter_values(ids.clone().map(value)))
    };
    let mut columns: Vec<(String, ArrayRef)> =
        vec![("id".to_owned(), Arc::new(Int64Array::from_iter_values(ids.clone())))];
    columns.extend((1..59).map(|number| (format!("c{number:02}"), column(number))));
    columns.push(("at".to_owned(), Arc::new(Int64Array::from(vec![at; (ids.end - ids.start) as usize]))));
    RecordBatch::try_from_iter(columns).unwrap()
}

/// The proportions are those of a row group of 32 MiB and parts of 5 MiB. Changed columns are written side by
/// side, so that their positions in the schema do not matter.
#[rstest]
#[tokio::test]
async fn an_upsert_of_a_wide_table_sends_what_changed(
    #[values([30, 31, 32], [10, 30, 50])] changed: [usize; 3],
) {
    let store = common::memory();
    let first = wide(0..4_000, 0, &[]);
    let bytes = 2 * 1024 * 1024;
    let copying = Copying::over(store.clone(), bytes * 5 / 32, Service::Copies);
    let options = common::repeatable().with_range_copy(Arc::new(copying.clone()));
    let table = create(&store, &first, options).await;
    table.upsert(&[first]).await.unwrap();
    copying.lap();
    for at in 1..4 {
        let report = table.upsert(&[wide(1_000..1_400, at, &changed)]).await.unwrap();
        assert_eq!((report.updated, report.files), (400, 1));
        assert!(report.bytes > bytes, "{}", report.bytes);
        // In the first file, the pieces between scattered columns may be too small for a copy.
        let is_scattered = changed[0] + 1 < changed[1];
        let limit = if is_scattered && at == 1 { report.bytes * 2 / 5 } else { report.bytes / 3 };
        assert!(report.bytes_sent <= limit, "commit {at}: {} of {}", report.bytes_sent, report.bytes);
        let requests = copying.lap();
        let sent =
            requests.iter().map(|request| if let PartRequest::Put(bytes) = request { *bytes } else { 0 });
        assert_eq!(sent.sum::<u64>(), report.bytes_sent);
        let text = report.to_string();
        assert!(
            text.contains(&format!("{} were sent and {} copied", report.bytes_sent, report.bytes_copied)),
            "{text}"
        );
        assert_eq!(table.validate().await.unwrap(), []);
    }
    let (changes, stays) = (wide(1_000..1_400, 3, &changed), wide(1_400..4_000, 0, &[]));
    let expected = lines(&[changes, stays, wide(0..1_000, 0, &[])]);
    assert_eq!(rows_of(&table).await, expected);
}

/// A file with two row groups. A change in the second group neither reads nor sends the first one.
#[tokio::test]
async fn a_row_group_without_changes_is_neither_read_nor_sent() {
    let meter = Meter::over(common::memory());
    let copying = Copying::over(meter.store(), 100_000, Service::Copies);
    let options = common::repeatable().with_range_copy(Arc::new(copying));
    let rows = |ids: Range<i64>, at: i64| {
        let noise = |id: i64| fastrand::Rng::with_seed(id as u64).i64(..);
        let columns: [(&str, ArrayRef); 3] = [
            ("id", Arc::new(Int64Array::from_iter_values(ids.clone()))),
            ("noise", Arc::new(Int64Array::from_iter_values(ids.clone().map(noise)))),
            ("at", Arc::new(Int64Array::from(vec![at; (ids.end - ids.start) as usize]))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    };
    let first = rows(0..175_000, 0);
    let table = create(&meter.store(), &first, options).await;
    let bytes = table.upsert(&[first]).await.unwrap().bytes;
    meter.lap();
    // A late write performs the same lookup, but rewrites nothing.
    assert_eq!(table.upsert(&[rows(140_000..140_010, -1)]).await.unwrap().late, 10);
    let lookup = meter.lap().base_file_bytes();
    let report = table.upsert(&[rows(140_000..140_010, 1)]).await.unwrap();
    let requests = meter.lap();
    assert_eq!((report.updated, report.files), (10, 1));
    // The second group is a quarter of the file, and three parts pad gaps.
    assert!(report.bytes_sent < bytes / 2, "{} of {bytes}:\n{requests}", report.bytes_sent);
    // The bytes that the service copies pass through the same store, so they are subtracted.
    let read = requests.base_file_bytes() - report.bytes_copied - lookup;
    assert!(read < bytes / 2, "{read} of {bytes}:\n{requests}");
    assert_eq!(rows_of(&table).await.len(), 175_000);
}

/// Each request of an upsert fails once, including those of the service. After that, nothing of the upsert is
/// visible, no parts remain, and a repetition succeeds.
#[rstest]
#[tokio::test]
async fn a_request_that_fails_leaves_no_file_and_no_part(#[values(false, true)] takes_effect: bool) {
    let memory = common::memory();
    let first = mixed(&(0..2_000).collect::<Vec<_>>(), 0, [false; 3]);
    let options = || common::repeatable().without_lock().with_parallelism(1);
    create(&memory, &first, options()).await.upsert(&[first]).await.unwrap();
    let mut at = 0;
    let mut failed = 0;
    for calls in 0.. {
        at += 1;
        let batch = mixed(&[5, 700, 1_500], at, [true, false, false]);
        let (store, left) = Mortal::stumbling_after(memory.clone(), i64::MAX, takes_effect);
        let copying = Copying::over(store.clone(), 1_000, Service::Copies);
        let options = options().with_range_copy(Arc::new(copying.clone()));
        let table = Table::open_with(store, "t".into(), options).await.unwrap();
        let before = rows_of(&table).await;
        left.store(calls, std::sync::atomic::Ordering::SeqCst);
        let written = table.upsert(std::slice::from_ref(&batch)).await;
        let is_over = left.load(std::sync::atomic::Ordering::SeqCst) >= 0;
        left.store(i64::MAX, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(copying.unfinished(), 0, "call {calls}");
        let table =
            Table::open_with(memory.clone(), "t".into(), common::repeatable().without_lock()).await.unwrap();
        match written {
            Ok(report) => assert_eq!(report.updated, 3, "call {calls}"),
            Err(error) => {
                failed += 1;
                if !matches!(error.kind(), ErrorKind::Unknown { .. }) {
                    assert_eq!(rows_of(&table).await, before, "call {calls}: {error}");
                }
                table.upsert(&[batch]).await.unwrap();
            }
        }
        // The next write completes the upkeep.
        at += 1;
        table.upsert(&[mixed(&[5], at, [true; 3])]).await.unwrap();
        assert_eq!(table.validate().await.unwrap(), [], "call {calls}");
        if is_over {
            break;
        }
    }
    assert!(failed > 15, "{failed} requests failed the upsert");
}

/// The size of the first file shows that a service ignores the range of a copy. It is not used again.
#[tokio::test]
async fn a_service_that_ignores_ranges_is_not_used() {
    let store = common::memory();
    let first = mixed(&(0..2_000).collect::<Vec<_>>(), 0, [false; 3]);
    let copying = Copying::over(store.clone(), 1_000, Service::IgnoresRange);
    let options = common::repeatable().with_range_copy(Arc::new(copying));
    let table = create(&store, &first, options).await;
    table.upsert(&[first]).await.unwrap();
    let change = mixed(&[7], 1, [true; 3]);
    let error = table.upsert(std::slice::from_ref(&change)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert!(error.message().contains("without_range_copy"), "{error}");
    assert_eq!(table.upsert(&[change]).await.unwrap().bytes_copied, 0);
    assert_eq!(table.validate().await.unwrap(), []);
}

/// The first file with copies cannot be completed, so that its size shows nothing. The next one is checked in
/// its place, and no commit contains wrong bytes.
#[tokio::test]
async fn a_service_that_ignores_ranges_is_noticed_even_after_a_failed_file() {
    let store = common::memory();
    let first = mixed(&(0..2_000).collect::<Vec<_>>(), 0, [false; 3]);
    let copying = Copying::over(store.clone(), 1_000, Service::IgnoresRange);
    let options = common::repeatable().with_range_copy(Arc::new(copying.clone()));
    let table = create(&store, &first, options).await;
    table.upsert(&[first]).await.unwrap();
    copying.lap();
    copying.fail_next_completion();
    for (at, is_checked) in [(1, false), (2, true)] {
        let error = table.upsert(&[mixed(&[7], at, [true; 3])]).await.unwrap_err();
        assert_eq!(error.message().contains("without_range_copy"), is_checked, "{error}");
        let copied = copying.lap().iter().any(|request| matches!(request, PartRequest::Copy(_)));
        assert!(copied, "attempt {at}");
    }
    let report = table.upsert(&[mixed(&[7], 3, [true; 3])]).await.unwrap();
    assert_eq!((report.updated, report.bytes_copied), (1, 0));
    assert_eq!(table.validate().await.unwrap(), []);
}
