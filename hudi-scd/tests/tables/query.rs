//! Queries with predicates, partitions and limits, and the columns of streams.

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{
        ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch,
        StringArray, TimestampMicrosecondArray,
    },
    datatypes::Int64Type,
};
use futures::TryStreamExt;
use hudi_scd::{ErrorKind, Predicate, Query, Table, TableDefinition};
use object_store::ObjectStoreExt;
use parquet::{arrow::ArrowWriter, file::properties::WriterProperties};

use crate::common::{self, meter::Meter};

const MINUTE: i64 = 60_000_000;

/// Rows 0 to 99. Every seventh row lacks all values. The day, which determines the partition, changes every
/// ten rows.
fn rows() -> RecordBatch {
    let ids: Vec<i64> = (0..100).collect();
    let known = |id: &i64| id % 7 != 0;
    let amounts: Decimal128Array = ids.iter().map(|id| known(id).then_some(i128::from(*id) * 25)).collect();
    let at: TimestampMicrosecondArray = ids.iter().map(|id| known(id).then_some(id * MINUTE)).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(ids.clone()))),
        ("month", Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("m{}", id / 50))))),
        ("day", Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("d{}", id / 10))))),
        ("count", Arc::new(ids.iter().map(|id| known(id).then_some(id % 10)).collect::<Int64Array>())),
        ("amount", Arc::new(amounts.with_precision_and_scale(10, 2).unwrap())),
        ("at", Arc::new(at.with_timezone("UTC"))),
        ("until", Arc::new(ids.iter().map(|id| known(id).then_some(*id as i32)).collect::<Date32Array>())),
        (
            "share",
            Arc::new(ids.iter().map(|id| known(id).then_some(*id as f64 / 4.0)).collect::<Float64Array>()),
        ),
        ("open", Arc::new(ids.iter().map(|id| known(id).then_some(id % 2 == 0)).collect::<BooleanArray>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .unwrap()
}

async fn table() -> Table {
    let definition =
        TableDefinition::new("t", rows().schema(), ["id"]).with_partition_fields(["month", "day"]);
    let table =
        Table::create_with(common::memory(), "t".into(), definition, common::repeatable()).await.unwrap();
    table.upsert(&[rows()]).await.unwrap();
    table
}

fn ids(batches: &[RecordBatch]) -> Vec<i64> {
    let of = |batch: &RecordBatch| batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().clone();
    batches.iter().flat_map(|batch| of(batch).values().to_vec()).collect()
}

async fn selected(table: &Table, predicate: Predicate) -> Vec<i64> {
    let mut found = ids(&table.read(Query::snapshot().with_predicate(predicate)).await.unwrap());
    found.sort_unstable();
    found
}

fn those(holds: impl Fn(i64) -> bool) -> Vec<i64> {
    (0..100).filter(|id| holds(*id)).collect()
}

#[tokio::test]
async fn a_predicate_selects_the_rows_for_which_it_is_true() {
    let table = table().await;
    let known = |id: i64| id % 7 != 0;
    let cases: [(Predicate, Vec<i64>); 13] = [
        (Predicate::equal("id", 7), vec![7]),
        (Predicate::less("count", 3), those(|id| known(id) && id % 10 < 3)),
        (Predicate::at_most("amount", "12.50"), those(|id| known(id) && id <= 50)),
        (Predicate::greater("at", "1970-01-01T01:30:00Z"), those(|id| known(id) && id > 90)),
        (Predicate::at_least("until", "1970-04-01"), those(|id| known(id) && id >= 90)),
        (Predicate::at_least("share", 24.5), those(|id| known(id) && id >= 98)),
        (Predicate::equal("open", true), those(|id| known(id) && id % 2 == 0)),
        (Predicate::equal("day", "d3"), those(|id| id / 10 == 3)),
        (Predicate::is_in("count", [1, 5]), those(|id| known(id) && matches!(id % 10, 1 | 5))),
        (Predicate::is_in("count", Vec::<i64>::new()), vec![]),
        (Predicate::is_null("count"), those(|id| !known(id))),
        // A comparison with a null is neither true nor false.
        (Predicate::less("count", 3).not(), those(|id| known(id) && id % 10 >= 3)),
        (
            Predicate::less("count", 3).and(Predicate::greater("id", 80)).or(Predicate::is_null("at")),
            those(|id| !known(id) || (id % 10 < 3 && id > 80)),
        ),
    ];
    for (predicate, expected) in cases {
        assert_eq!(selected(&table, predicate.clone()).await, expected, "{predicate:?}");
    }
}

#[tokio::test]
async fn a_predicate_needs_no_column_of_the_result_and_applies_to_old_rows_too() {
    let table = table().await;
    let first = table.timeline().await.unwrap().latest_commit().unwrap();
    table.upsert(&[rows().slice(20, 1)]).await.unwrap();
    table.delete(&[rows().slice(5, 1)]).await.unwrap();
    let query = Query::as_of(first).with_columns(["id"]).with_predicate(Predicate::equal("count", 5));
    let batches = table.read(query.with_predicate(Predicate::less("id", 30))).await.unwrap();
    assert_eq!(batches[0].num_columns(), 1);
    assert_eq!(ids(&batches), [5, 15, 25]);
}

#[tokio::test]
async fn a_value_that_the_column_cannot_have_and_an_unknown_column_are_refused() {
    let table = table().await;
    let refused = [
        (Predicate::equal("nothing", 1), "nothing"),
        (Predicate::equal("count", 1.5), "count"),
        (Predicate::equal("count", true), "count"),
        (Predicate::equal("count", "many"), "count"),
        (Predicate::less("open", 1), "open"),
        (Predicate::less("at", "yesterday"), "at"),
        (Predicate::is_null("_hoodie_commit_time"), "_hoodie_commit_time"),
    ];
    for (predicate, column) in refused {
        let error = table.read(Query::snapshot().with_predicate(predicate.clone())).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.context("column")),
            (ErrorKind::InvalidInput, Some(column)),
            "{predicate:?}"
        );
    }
}

#[tokio::test]
async fn partitions_and_their_folders_select_their_files_and_no_others_are_opened() {
    let meter = Meter::over(common::memory());
    let definition =
        TableDefinition::new("t", rows().schema(), ["id"]).with_partition_fields(["month", "day"]);
    let table =
        Table::create_with(meter.store(), "t".into(), definition, common::repeatable()).await.unwrap();
    table.upsert(&[rows()]).await.unwrap();
    meter.lap();
    let read = async |partitions: &[&str]| {
        let table = Table::open(meter.store(), "t".into()).await.unwrap();
        let query = Query::snapshot().with_partitions(partitions.iter().copied());
        let found = ids(&table.read(query).await.unwrap());
        let requests = meter.lap();
        let files = requests.0.iter().filter(|request| request.is_of_base_file());
        (found, files.map(|request| request.path.as_str()).collect::<BTreeSet<_>>().len())
    };
    assert_eq!(read(&["month=m0/day=d1"]).await, (those(|id| id / 10 == 1), 1));
    assert_eq!(read(&["month=m1"]).await, (those(|id| id >= 50), 5));
    assert_eq!(read(&["month=m", "day=d1", "nothing"]).await, (vec![], 0));
}

/// Rows of a base file with 16 row groups of 2,000 rows.
const GROUPS: i64 = 16;
const GROUP_ROWS: i64 = 2_000;

/// Returns an uncompressed base file of 4 MB, as an engine with small row groups writes it.
fn of_small_groups() -> Vec<u8> {
    let ids = 0..GROUPS * GROUP_ROWS;
    let mut texts = fastrand::Rng::with_seed(1);
    let mut text = |length| (0..length).map(|_| texts.alphanumeric()).collect::<String>();
    let column = |text: &mut dyn FnMut() -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(ids.clone().map(|_| text())))
    };
    let columns: [(&str, ArrayRef); 7] = [
        ("_hoodie_commit_time", column(&mut || "20260101000000000".to_owned())),
        ("_hoodie_commit_seqno", column(&mut || "20260101000000000_0_0".to_owned())),
        ("_hoodie_record_key", Arc::new(StringArray::from_iter_values(ids.clone().map(|id| id.to_string())))),
        ("_hoodie_partition_path", column(&mut String::new)),
        ("_hoodie_file_name", column(&mut || "f".to_owned())),
        ("id", Arc::new(Int64Array::from_iter_values(ids.clone()))),
        ("name", column(&mut || text(100))),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, true)),
    )
    .unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(GROUP_ROWS as usize));
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// A query of a remote file fetches its end and the row groups whose statistics admit the predicate.
#[tokio::test]
async fn a_predicate_on_a_range_of_keys_fetches_the_row_groups_of_that_range() {
    let meter = Meter::over(common::memory());
    let rows = common::batch(&common::schema("id bigint, name string"), r#"{"id":1,"name":"a"}"#);
    let definition = TableDefinition::new("t", rows.schema(), ["id"]);
    let table =
        Table::create_with(meter.store(), "t".into(), definition, common::repeatable()).await.unwrap();
    table.upsert(&[rows]).await.unwrap();
    let groups = table.file_groups().await.unwrap();
    let file = table.root().clone().join(&*groups[0].versions[0].file);
    let content = of_small_groups();
    let all = content.len() as u64;
    meter.store().put(&file, content.into()).await.unwrap();

    // The request for the end of a file of this size receives at least 64 KiB.
    let (end, group) = (all / 32, all / GROUPS as u64);
    let read = async |query: Query| {
        let table = Table::open_with(meter.store(), "t".into(), common::repeatable()).await.unwrap();
        meter.lap();
        let found = ids(&table.read(query).await.unwrap());
        (found, meter.lap().base_file_bytes())
    };
    let (found, bytes) = read(Query::snapshot()).await;
    assert_eq!(found, (0..GROUPS * GROUP_ROWS).collect::<Vec<_>>());
    assert!((all - group..=all + end).contains(&bytes), "{bytes} of {all} bytes");

    // The ids of the file ascend, so a range within a row group is in no other one.
    let within = |from: i64, to: i64| {
        Query::snapshot().with_predicate(Predicate::at_least("id", from).and(Predicate::less("id", to)))
    };
    for (from, to, groups) in [(4_100, 4_105, 1), (3_999, 4_001, 2), (-5, 0, 0), (32_000, 33_000, 0)] {
        let (found, bytes) = read(within(from, to)).await;
        assert_eq!(found, (from.max(0)..to.min(GROUPS * GROUP_ROWS)).collect::<Vec<_>>());
        // Groups differ a little in size.
        let most = end.max(64 * 1024) + groups * (group + group / 10);
        assert!(bytes <= most, "{bytes} of {all} bytes for {groups} row groups, at most {most}");
        assert!(bytes >= groups * group / 2, "{bytes}: nothing was fetched");
    }

    // Only the columns of the query and of the predicate are fetched from the row group.
    let (found, bytes) = read(within(4_100, 4_105).with_columns(["id"])).await;
    assert_eq!(found, [4_100, 4_101, 4_102, 4_103, 4_104]);
    assert!(bytes <= end.max(64 * 1024) + group / 4, "{bytes}");

    // The texts are random, so the statistics of all row groups admit this one.
    let query = Query::snapshot().with_predicate(Predicate::equal("name", "m".repeat(100)));
    let (found, bytes) = read(query).await;
    assert_eq!(found, [0_i64; 0]);
    assert!(bytes >= all - group, "{bytes} of {all} bytes");
}

#[tokio::test]
async fn a_limit_ends_the_read_and_a_stream_tells_its_columns_before_its_rows() {
    let table = table().await;
    let all = ids(&table.read(Query::snapshot()).await.unwrap());
    for limit in [0, 1, 9, 10, 11, 99, 100, 1_000] {
        let query = Query::snapshot().with_columns(["id", "at"]).with_limit(limit);
        let stream = table.read_stream(query).await.unwrap();
        assert_eq!(stream.schema().fields().len(), 2);
        let schema = stream.schema();
        let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
        assert!(batches.iter().all(|batch| batch.schema() == schema));
        assert_eq!(ids(&batches), all[..all.len().min(limit as usize)]);
    }
    let query = Query::snapshot().with_predicate(Predicate::is_null("at")).with_limit(3);
    assert_eq!(ids(&table.read(query).await.unwrap()).len(), 3);
}
