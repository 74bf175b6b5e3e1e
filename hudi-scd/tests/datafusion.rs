//! Reads tables through DataFusion: it returns the same rows as this crate's own reader, and reads fewer
//! files.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use bytes::Bytes;
use common::{Golden, batch, expected, lines, memory, repeatable, schema};
use datafusion::{
    catalog::TableProvider,
    common::ScalarValue,
    physical_plan::{ExecutionPlanProperties, displayable},
    prelude::{DataFrame, Expr, SessionConfig, SessionContext, col, lit},
};
use hudi_scd::{
    Codec, ErrorKind, FileGroup, Query, RetentionPolicy, Table, TableDefinition,
    datafusion::{HudiTable, SUPERSEDED_AT},
};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use parquet::{
    data_type::{ByteArrayType, Int32Type, Int64Type, Int96, Int96Type},
    file::{metadata::KeyValue, properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use rstest::rstest;

async fn sorted(frame: DataFrame) -> Vec<String> {
    lines(&frame.collect().await.unwrap())
}

fn frame(table: HudiTable) -> DataFrame {
    SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2))
        .read_table(Arc::new(table))
        .unwrap()
}

async fn read(table: &Table, query: Query) -> Vec<String> {
    lines(&table.read(query).await.unwrap())
}

#[rstest]
#[tokio::test]
async fn gives_the_rows_of_spark_s_tables_as_our_reader_does(
    #[values(
        "address-0.15",
        "address-1.0-v6",
        "archived-0.15",
        "complexkey-0.15",
        "complexkey-part-0.15",
        "customer-0.14",
        "customer-0.15",
        "deletes-0.15",
        "read-hole-0.15",
        "read-metafile-0.15",
        "read-promoted-0.15",
        "read-unnested-0.15",
        "rolledback-0.15"
    )]
    name: &str,
) {
    let golden = Golden::unpack(name);
    let table = Table::open(golden.store(), "table".into()).await.unwrap();
    let snapshot = HudiTable::snapshot(table.clone()).await.unwrap().with_meta_columns();
    assert_eq!(sorted(frame(snapshot)).await, read(&table, Query::snapshot().with_meta_columns()).await);
    for entry in table.timeline().await.unwrap().completed_commits() {
        match table.read(Query::as_of(entry.instant)).await {
            Ok(_) => {
                let then = HudiTable::as_of(table.clone(), entry.instant).await.unwrap();
                assert_eq!(sorted(frame(then)).await, read(&table, Query::as_of(entry.instant)).await);
            }
            Err(refused) => {
                let error = HudiTable::as_of(table.clone(), entry.instant).await.unwrap_err();
                assert_eq!(error.kind(), refused.kind());
            }
        }
    }
}

/// The base files of these tables lack the partition columns. Their values are in the names of folders: text,
/// days and numbers, some encoded, some null.
#[rstest]
#[tokio::test]
async fn columns_that_base_files_lack_are_returned_filtered_and_projected(
    #[values(
        "read-dropped-0.12",
        "read-dropped-plain-0.12",
        "read-dropped-0.15",
        "read-dropped-plain-0.15",
        "read-dropped-sql-0.15",
        "v8-dropped-1.0",
        "v9-dropped-plain-1.2"
    )]
    name: &str,
    #[values(false, true)] pushes_filters: bool,
) {
    let golden = Golden::unpack(name);
    let table = Table::open(golden.store(), "table".into()).await.unwrap();
    let config = SessionConfig::new()
        .with_target_partitions(2)
        .set_bool("datafusion.execution.parquet.pushdown_filters", pushes_filters);
    let context = SessionContext::new_with_config(config);
    let frame = |provider: HudiTable| context.read_table(Arc::new(provider)).unwrap();

    let meta = frame(HudiTable::snapshot(table.clone()).await.unwrap().with_meta_columns());
    assert_eq!(sorted(meta).await, read(&table, Query::snapshot().with_meta_columns()).await);
    for instant in golden.about["expected"]["as_of"].as_object().unwrap().keys() {
        let instant = instant.parse().unwrap();
        let then = HudiTable::as_of(table.clone(), instant).await.unwrap();
        assert_eq!(sorted(frame(then)).await, read(&table, Query::as_of(instant)).await, "{instant}");
    }

    let all = frame(HudiTable::snapshot(table.clone()).await.unwrap());
    let rows = table.read(Query::snapshot()).await.unwrap();
    assert_eq!(sorted(all.clone()).await, expected(&golden.path("expected.jsonl")));
    assert_eq!(all.clone().count().await.unwrap(), lines(&rows).len());
    for field in table.partition_fields() {
        let only = |frame: &DataFrame| frame.clone().select_columns(&[field]).unwrap();
        let column = read(&table, Query::snapshot().with_columns([field])).await;
        assert_eq!(sorted(only(&all)).await, column);

        let mut by_value: HashMap<ScalarValue, Vec<RecordBatch>> = HashMap::new();
        for batch in &rows {
            let values = batch.column_by_name(field).unwrap();
            for row in 0..batch.num_rows() {
                let value = ScalarValue::try_from_array(values, row).unwrap();
                by_value.entry(value).or_default().push(batch.slice(row, 1));
            }
        }
        assert!(by_value.len() > 1, "{field}");
        for (value, with_value) in by_value {
            let filter = match value.is_null() {
                true => col(field).is_null(),
                false => col(field).eq(lit(value.clone())),
            };
            let some = all.clone().filter(filter.clone()).unwrap();
            assert_eq!(sorted(some.clone()).await, lines(&with_value), "{field} {value}");
            assert!(files(&some).await < files(&all).await, "{field} {value}");
            let projected: Vec<RecordBatch> = with_value
                .iter()
                .map(|row| row.project(&[row.schema().index_of(field).unwrap()]).unwrap())
                .collect();
            assert_eq!(sorted(only(&some)).await, lines(&projected), "{field} {value}");
            assert_eq!(some.count().await.unwrap(), with_value.len(), "{field} {value}");

            // A filter that also needs a column of the files.
            let id = with_value[0].column_by_name("id").unwrap();
            let one = filter.and(col("id").eq(lit(ScalarValue::try_from_array(id, 0).unwrap())));
            let one = all.clone().filter(one).unwrap();
            assert_eq!(sorted(only(&one)).await, lines(&projected[..1]), "{field} {value}");
        }
    }

    // Each version of a row in the retained commits.
    let history = frame(HudiTable::history(table.clone()).await.unwrap());
    let latest = history.clone().filter(col(SUPERSEDED_AT).is_null()).unwrap();
    let names: Vec<&str> = all.schema().fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(sorted(latest.select_columns(&names).unwrap()).await, lines(&rows));
    let field = &table.partition_fields()[0];
    let projected = history.select_columns(&[field]).unwrap();
    assert!(projected.count().await.unwrap() > lines(&rows).len());
}

/// Creates addresses in four partitions, upserted three times.
async fn addresses() -> Table {
    let schema = schema("id bigint, country string, day date, city string, at int");
    let definition = TableDefinition::new("address", schema.clone(), ["id"])
        .with_ordering_field("at")
        .with_partition_fields(["country", "day"]);
    let table = Table::create_with(memory(), "lake/address".into(), definition, repeatable()).await.unwrap();
    let row = |id: u32, country: &str, day: u32, city: &str, at: u32| {
        format!(r#"{{"id":{id},"country":{country},"day":"2026-01-0{day}","city":"{city}","at":{at}}}"#)
    };
    let rounds = [
        vec![
            row(1, "\"no\"", 1, "Oslo", 1),
            row(2, "\"no\"", 2, "Bergen", 1),
            row(3, "\"it\"", 1, "Rome", 1),
            row(4, "null", 1, "?", 1),
        ],
        vec![row(1, "\"no\"", 1, "Tromsø", 2), row(3, "\"no\"", 1, "Moss", 2)],
        vec![row(5, "\"it\"", 1, "Bari", 3)],
    ];
    for rows in rounds {
        table.upsert(&[batch(&schema, &rows.join("\n"))]).await.unwrap();
    }
    table
}

/// Returns the base files that a query's plan reads.
async fn files(frame: &DataFrame) -> usize {
    let plan = frame.clone().create_physical_plan().await.unwrap();
    displayable(plan.as_ref()).indent(true).to_string().matches(".parquet").count()
}

#[rstest]
#[case::all(lit(true), 4, 5)]
#[case::equal(col("country").eq(lit("it")), 2, 1)]
#[case::a_null_is_told_from_no_path(col("country").is_null(), 1, 1)]
#[case::of_another_type(col("day").gt(lit("2026-01-01")), 1, 1)]
#[case::two_columns(col("country").eq(lit("no")).and(col("day").eq(lit("2026-01-01"))), 2, 2)]
#[case::with_others(col("country").eq(lit("no")).and(col("city").eq(lit("Moss"))), 3, 1)]
#[case::of_none_but_what_no_path_tells(col("country").eq(lit("at")), 1, 0)]
#[case::of_none(col("day").eq(lit("2030-01-01")), 0, 0)]
#[case::either(col("country").eq(lit("it")).or(col("city").eq(lit("Moss"))), 4, 2)]
#[tokio::test]
async fn leaves_out_partitions_whose_paths_say_that_no_row_passes(
    #[case] filter: Expr,
    #[case] read: usize,
    #[case] rows: usize,
) {
    let all = frame(HudiTable::snapshot(addresses().await).await.unwrap());
    let some = all.filter(filter).unwrap();
    assert_eq!((files(&some).await, some.count().await.unwrap()), (read, rows));
}

#[tokio::test]
async fn reads_only_the_columns_that_are_asked_for() {
    let all = frame(HudiTable::snapshot(addresses().await).await.unwrap());
    let cities = all.filter(col("at").gt(lit(1))).unwrap().select_columns(&["city"]).unwrap();
    let plan = cities.clone().create_physical_plan().await.unwrap();
    let plan = displayable(plan.as_ref()).indent(true).to_string();
    assert!(plan.contains("projection=[city, at]") || plan.contains("projection=[city]"), "{plan}");
    assert_eq!(sorted(cities).await, [r#"{"city":"Bari"}"#, r#"{"city":"Moss"}"#, r#"{"city":"Tromsø"}"#]);
}

#[tokio::test]
async fn history_shows_every_version_once_and_what_ended_it() {
    let table = addresses().await;
    let commits: Vec<String> =
        table.timeline().await.unwrap().completed_commits().map(|entry| entry.instant.to_string()).collect();
    let names: BTreeMap<&str, &str> =
        commits.iter().map(String::as_str).zip(["first", "second", "third"]).collect();
    let history = frame(HudiTable::history(table.clone()).await.unwrap())
        .select_columns(&["_hoodie_commit_time", SUPERSEDED_AT, "city"])
        .unwrap();
    let mut found: Vec<String> = sorted(history).await;
    for (instant, name) in names {
        found = found.into_iter().map(|line| line.replace(instant, name)).collect();
    }
    found.sort();
    let line = |city: &str, from: &str, to: &str| {
        format!(r#"{{"_hoodie_commit_time":"{from}","_superseded_at":{to},"city":"{city}"}}"#)
    };
    let mut expected = vec![
        line("?", "first", "null"),
        line("Bergen", "first", "null"),
        line("Oslo", "first", "\"second\""),
        line("Rome", "first", "\"second\""),
        line("Moss", "second", "null"),
        line("Tromsø", "second", "null"),
        line("Bari", "third", "null"),
    ];
    expected.sort();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn the_history_as_of_each_commit_is_the_table_as_of_it() {
    let golden = Golden::unpack("archived-0.15");
    let table = Table::open(golden.store(), "table".into()).await.unwrap();
    let earliest = table.earliest_instant().await.unwrap();
    for entry in table.timeline().await.unwrap().completed_commits() {
        if earliest.is_some_and(|earliest| entry.instant < earliest) {
            continue;
        }
        let at = lit(entry.instant.to_string());
        let then = col("_hoodie_commit_time")
            .lt_eq(at.clone())
            .and(col(SUPERSEDED_AT).is_null().or(col(SUPERSEDED_AT).gt(at)));
        let history = frame(HudiTable::history(table.clone()).await.unwrap()).filter(then).unwrap();
        let data: Vec<String> =
            table.schema().await.unwrap().fields().iter().map(|field| field.name().clone()).collect();
        let data: Vec<&str> = data.iter().map(String::as_str).collect();
        let rows = sorted(history.select_columns(&data).unwrap()).await;
        assert_eq!(rows, read(&table, Query::as_of(entry.instant)).await, "{}", entry.instant);
    }
}

/// Statistics exclude NaN. DataFusion, like Spark, treats it as the greatest number.
#[rstest]
#[case::inserted(&[(1, f64::NAN), (2, 0.5)], &[])]
#[case::among_what_a_commit_changes(&[(1, 0.1), (2, 0.5), (3, 1.0), (4, 1.0), (5, 1.0)], &[(1, f64::NAN)])]
#[case::carried_over(&[(1, f64::NAN), (2, 0.1), (3, 1.0), (4, 1.0), (5, 1.0)], &[(2, 0.5)])]
#[tokio::test]
async fn rows_with_nan_are_found(
    #[case] first: &[(i64, f64)],
    #[case] then: &[(i64, f64)],
    #[values(Codec::Snappy, Codec::Gzip)] codec: Codec,
) {
    let schema = schema("id bigint, x double");
    let definition = TableDefinition::new("t", schema.clone(), ["id"]);
    let options = repeatable().with_codec(codec);
    let table = Table::create_with(memory(), "t".into(), definition, options).await.unwrap();
    for rows in [first, then] {
        let (ids, values): (Vec<i64>, Vec<f64>) = rows.iter().copied().unzip();
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(ids)), Arc::new(Float64Array::from(values))];
        table.upsert(&[RecordBatch::try_new(schema.clone(), columns).unwrap()]).await.unwrap();
    }
    for (filter, found) in
        [(col("x").gt(lit(2.0)), 1), (col("x").eq(lit(f64::NAN)), 1), (col("x").eq(lit(0.5)), 1)]
    {
        let frame = frame(HudiTable::snapshot(table.clone()).await.unwrap());
        assert_eq!(frame.filter(filter.clone()).unwrap().count().await.unwrap(), found, "{filter}");
    }
}

#[tokio::test]
async fn an_instant_outside_the_window_is_refused_and_an_empty_table_is_empty() {
    let schema = schema("id bigint, at int");
    let definition = TableDefinition::new("t", schema.clone(), ["id"]).with_ordering_field("at");
    let options = repeatable().with_retention(RetentionPolicy::commits(1));
    let table = Table::create_with(memory(), "t".into(), definition, options).await.unwrap();
    for empty in [HudiTable::snapshot(table.clone()).await, HudiTable::history(table.clone()).await] {
        let empty = empty.unwrap();
        assert_eq!(frame(empty.clone()).count().await.unwrap(), 0);
        let some = frame(empty).filter(col("id").gt(lit(1))).unwrap().limit(0, Some(1)).unwrap();
        assert_eq!(sorted(some.select_columns(&["id"]).unwrap()).await, [""; 0]);
    }
    let mut first = None;
    for at in 1..=4 {
        let row = format!(r#"{{"id":1,"at":{at}}}"#);
        let report = table.upsert(&[batch(&schema, &row)]).await.unwrap();
        first = first.or(report.instant);
    }
    let error = HudiTable::as_of(table, first.unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutsideRetention);
}

/// 1582-10-14, the day before the Gregorian calendar begins.
const JULIAN: i32 = -141_428;

/// Returns a base file with one row, as Spark writes it: with a 96-bit timestamp, 9999-12-30, and a date.
fn of_spark(day: i32, is_legacy: bool) -> Bytes {
    let message = "message spark_schema {
        optional binary _hoodie_commit_time (UTF8); optional binary _hoodie_commit_seqno (UTF8);
        optional binary _hoodie_record_key (UTF8); optional binary _hoodie_partition_path (UTF8);
        optional binary _hoodie_file_name (UTF8);
        optional int64 id; optional int96 until; optional int32 day (DATE); }";
    let legacy = is_legacy.then(|| vec![KeyValue::new("org.apache.spark.legacyDateTime".to_owned(), None)]);
    let properties = WriterProperties::builder().set_key_value_metadata(legacy).build();
    let schema = Arc::new(parse_message_type(message).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties.into()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for text in ["20260101000000000", "20260101000000000_0_0", "1", "", "f"] {
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&[text.into()], Some(&[1]), None).unwrap();
        column.close().unwrap();
    }
    let mut id = group.next_column().unwrap().unwrap();
    id.typed::<Int64Type>().write_batch(&[1], Some(&[1]), None).unwrap();
    id.close().unwrap();
    let mut last = Int96::new();
    last.set_data(0, 0, 5_373_483);
    let mut until = group.next_column().unwrap().unwrap();
    until.typed::<Int96Type>().write_batch(&[last], Some(&[1]), None).unwrap();
    until.close().unwrap();
    let mut days = group.next_column().unwrap().unwrap();
    days.typed::<Int32Type>().write_batch(&[day], Some(&[1]), None).unwrap();
    days.close().unwrap();
    group.close().unwrap();
    writer.into_inner().unwrap().into()
}

/// Creates a table with a base file that has this content.
async fn with_file(store: &Arc<dyn ObjectStore>, content: Bytes) -> Table {
    let schema = schema("id bigint, until timestamp, day date");
    let definition = TableDefinition::new("t", schema.clone(), ["id"]);
    let table = Table::create_with(store.clone(), "t".into(), definition, repeatable()).await.unwrap();
    table.upsert(&[batch(&schema, r#"{"id":1,"until":0,"day":"2026-01-01"}"#)]).await.unwrap();
    let groups = table.file_groups().await.unwrap();
    let path = table.root().clone().join(&*groups[0].versions[0].file);
    store.put(&path, content.into()).await.unwrap();
    Table::open_with(store.clone(), "t".into(), repeatable()).await.unwrap()
}

#[tokio::test]
async fn times_of_spark_are_those_of_our_reader_and_old_calendars_are_refused_by_both() {
    let table = with_file(&memory(), of_spark(JULIAN, false)).await;
    let rows = read(&table, Query::snapshot()).await;
    assert!(rows[0].contains("9999-12-30"), "{rows:?}");
    assert_eq!(sorted(frame(HudiTable::snapshot(table.clone()).await.unwrap())).await, rows);
    let end = lit(ScalarValue::TimestampMicrosecond(Some(253_402_128_000_000_000), Some("UTC".into())));
    let ended = frame(HudiTable::snapshot(table).await.unwrap()).filter(col("until").eq(end)).unwrap();
    assert_eq!(ended.count().await.unwrap(), 1);

    let table = with_file(&memory(), of_spark(JULIAN, true)).await;
    let error = table.read(Query::snapshot()).await.unwrap_err();
    assert_eq!((error.kind(), error.context("column")), (ErrorKind::Unsupported, Some("day")));
    for provider in [HudiTable::snapshot(table.clone()).await, HudiTable::history(table).await] {
        let failed = frame(provider.unwrap()).select_columns(&["id"]).unwrap().collect().await.unwrap_err();
        assert!(failed.to_string().contains("Julian calendar"), "{failed}");
    }
}

#[tokio::test]
async fn a_session_keeps_no_store_of_a_table_that_is_dropped() {
    let context = SessionContext::new();
    for _ in 0..3 {
        let store = memory();
        let released = Arc::downgrade(&store);
        let table = with_file(&store, of_spark(0, false)).await;
        drop(store);
        let snapshot = context.read_table(Arc::new(HudiTable::snapshot(table).await.unwrap())).unwrap();
        assert_eq!(snapshot.count().await.unwrap(), 1);
        assert!(released.upgrade().is_none());
    }
}

#[rstest]
#[case::fewer(1, 1)]
#[case::some(2, 2)]
#[case::more_than_file_groups(64, 5)]
#[tokio::test]
async fn a_plan_has_at_most_as_many_partitions_as_the_session_targets(
    #[case] target: usize,
    #[case] partitions: usize,
) {
    let table = addresses().await;
    let groups = table.file_groups().await.unwrap();
    assert!(groups.len() >= 4, "{} file groups", groups.len());
    let config = SessionConfig::new().with_target_partitions(target);
    let context = SessionContext::new_with_config(config);
    let history = HudiTable::history(table.clone()).await.unwrap();
    let plan = history.scan(&context.state(), None, &[], None).await.unwrap();
    assert_eq!(plan.output_partitioning().partition_count(), partitions.min(groups.len()));
    assert_eq!(context.read_table(Arc::new(history)).unwrap().count().await.unwrap(), 7);
    let latest = HudiTable::snapshot(table).await.unwrap();
    let plan = latest.scan(&context.state(), None, &[], None).await.unwrap();
    assert!(plan.output_partitioning().partition_count() <= target);
}

/// Without the file, an older version of its rows would be returned, or none.
#[tokio::test]
async fn a_query_names_a_base_file_that_a_commit_wrote_and_that_is_gone() {
    for name in ["mdt-files-0.15", "old-0.9", "v9-1.1"] {
        let golden = Golden::unpack(name);
        let store = golden.store();
        let table = Table::open(store.clone(), "table".into()).await.unwrap();
        let latest = table.timeline().await.unwrap().latest_commit().unwrap();
        let groups = table.file_groups().await.unwrap();
        let of_latest = |group: &&FileGroup| group.versions.last().unwrap().instant == latest;
        let group = groups.iter().find(of_latest).unwrap();
        let file = &*group.versions.last().unwrap().file;
        let path = format!("table/{}/{file}", group.partition);
        store.delete(&Path::parse(path.replace("//", "/")).unwrap()).await.unwrap();

        let table = Table::open(store, "table".into()).await.unwrap();
        for provider in [
            HudiTable::snapshot(table.clone()).await.unwrap(),
            HudiTable::as_of(table.clone(), latest).await.unwrap(),
            HudiTable::history(table).await.unwrap(),
        ] {
            let error = frame(provider).count().await.unwrap_err().to_string();
            assert!(error.contains(file) && error.contains("restore the file"), "{name}: {error}");
        }
    }
}
