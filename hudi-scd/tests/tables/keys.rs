//! Record keys and partition paths of every kind.

use hudi_scd::{ErrorKind, Query, Table, TableDefinition, TableOptions, TimestampPartition, TimestampType};
use object_store::ObjectStoreExt;

use crate::common::{self, Golden, batch, lines, memory, repeatable, schema};

#[tokio::test]
async fn a_table_partitioned_by_time_is_written_opened_and_written_on() {
    let store = memory();
    let columns = schema("id int, at bigint, v string");
    let by_month = TimestampPartition::new(TimestampType::EpochMilliseconds, "yyyy/MM")
        .with_time_zone("America/New_York");
    let definition = TableDefinition::new("t", columns.clone(), ["id"])
        .with_ordering_field("at")
        .with_timestamp_partition("at", &by_month);
    let table = Table::create_with(store.clone(), "t".into(), definition, repeatable()).await.unwrap();
    let rows = |lines: &[&str]| batch(&columns, &lines.join("\n"));
    table
        .upsert(&[rows(&[
            r#"{"id":1,"at":1735700000000,"v":"a"}"#,
            r#"{"id":2,"at":1738400000000,"v":"a"}"#,
        ])])
        .await
        .unwrap();
    let properties = store.get(&"t/.hoodie/hoodie.properties".into()).await.unwrap().bytes().await.unwrap();
    let properties = String::from_utf8(properties.to_vec()).unwrap();
    for line in [
        "hoodie.table.keygenerator.class=org.apache.hudi.keygen.TimestampBasedKeyGenerator",
        "hoodie.keygen.timebased.timestamp.type=EPOCHMILLISECONDS",
        "hoodie.keygen.timebased.output.dateformat=yyyy/MM",
        "hoodie.keygen.timebased.timezone=America/New_York",
    ] {
        assert!(properties.lines().any(|known| known == line), "{properties}");
    }
    let table = Table::open_with(store, "t".into(), repeatable()).await.unwrap();
    // Key 1 moves to the next month.
    let report = table.upsert(&[rows(&[r#"{"id":1,"at":1738400000001,"v":"b"}"#])]).await.unwrap();
    assert_eq!((report.moved, report.inserted), (1, 0));
    let groups = table.file_groups().await.unwrap();
    let partitions: Vec<&str> = groups.iter().map(|group| &*group.partition).collect();
    assert_eq!(partitions, ["at=2024/12", "at=2025/02"]);
    assert_eq!(table.validate().await.unwrap(), []);
    assert_eq!(lines(&table.read(Query::snapshot()).await.unwrap()).len(), 2);
}

/// Hudi 0.15 does not store the type of timestamps. For strings the type is unambiguous.
#[tokio::test]
async fn a_table_that_spark_partitioned_by_time_is_read_and_written_on() {
    let golden = Golden::unpack("timestampkey-0.15");
    let options =
        TableOptions::new().with_clock(hudi_scd::FnClock(|| "2026-11-24T00:00:00Z".parse().unwrap()));
    let table = Table::open_with(golden.store(), "table".into(), options).await.unwrap();
    let rows = lines(&table.read(Query::snapshot()).await.unwrap());
    // Spark returns the folder's name instead of the column's value.
    let without_at = |line: &String| {
        let mut row: serde_json::Value = serde_json::from_str(line).unwrap();
        row["at"].take();
        common::canonical(&row)
    };
    let sorted = |lines: Vec<String>| {
        let mut lines: Vec<String> = lines.iter().map(without_at).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(rows), sorted(common::expected(&golden.path("expected.jsonl"))));
    assert_eq!(table.validate().await.unwrap(), []);
    let columns = golden.schema();
    let report = table
        .upsert(&[batch(
            &columns,
            r#"{"id":1,"at":"2025-01-15 00:00:00","v":1,"ts":9}
{"id":2,"at":"2025-02-28 23:59:59","v":1,"ts":9}"#,
        )])
        .await
        .unwrap();
    assert_eq!((report.updated, report.moved), (1, 1));
    assert_eq!(table.validate().await.unwrap(), []);
}

#[tokio::test]
async fn a_pattern_that_nobody_knows_is_refused_before_there_is_a_table() {
    let store = memory();
    let by = TimestampPartition::new(TimestampType::UnixTimestamp, "yyyy-XXX");
    let definition =
        TableDefinition::new("t", schema("id int, at bigint"), ["id"]).with_timestamp_partition("at", &by);
    let error = Table::create(store.clone(), "t".into(), definition).await.unwrap_err();
    assert_eq!(error.context("property"), Some("hoodie.keygen.timebased.output.dateformat"));
    assert_eq!(Table::open(store, "t".into()).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn keys_are_found_again_whatever_their_type() {
    for (data_type, first, second) in [
        ("double", "1.5", "1e7"),
        ("float", "1.5", "0.1"),
        ("boolean", "true", "false"),
        ("date", r#""2025-01-02""#, r#""1969-12-31""#),
        ("timestamp", r#""2025-01-02T03:04:05.678901Z""#, r#""1969-12-31T23:59:59.500000Z""#),
        ("decimal(20,4)", r#""1.5""#, r#""-0.0001""#),
        ("int", "1", "-7"),
        ("string", r#""a,b:c""#, r#""é""#),
    ] {
        let columns = schema(&format!("k {data_type}, v string, at int"));
        let definition = TableDefinition::new("t", columns.clone(), ["k"]).with_ordering_field("at");
        let table = Table::create_with(memory(), "t".into(), definition, repeatable()).await.unwrap();
        for at in 0..2 {
            let rows = format!(
                "{{\"k\":{first},\"v\":\"x\",\"at\":{at}}}\n{{\"k\":{second},\"v\":\"y\",\"at\":{at}}}"
            );
            let report = table.upsert(&[batch(&columns, &rows)]).await.unwrap();
            let expected = if at == 0 { (2, 0) } else { (0, 2) };
            assert_eq!((report.inserted, report.updated), expected, "{data_type}");
        }
        assert_eq!(table.validate().await.unwrap(), [], "{data_type}");
        let null = table.upsert(&[batch(&columns, r#"{"v":"z","at":3}"#)]).await.unwrap_err();
        assert_eq!((null.kind(), null.context("row")), (ErrorKind::InvalidInput, Some("0")), "{data_type}");
    }
}

/// Keys that begin with the name of their own column, such as ARNs in a column `arn`, do not have the form of
/// Hudi 0.14.
#[tokio::test]
async fn a_value_that_begins_with_its_column_is_a_key_as_it_is() {
    let columns = schema("arn string, account string, region string, tier string, ts bigint");
    let definition = TableDefinition::new("t", columns.clone(), ["arn"])
        .with_ordering_field("ts")
        .with_partition_fields(["account", "region"]);
    let table = Table::create_with(memory(), "t".into(), definition, repeatable()).await.unwrap();
    let row = |name: &str, tier: &str, ts: u8| {
        format!(r#"{{"arn":"arn:aws:s3:::{name}","account":"1","region":"eu","tier":"{tier}","ts":{ts}}}"#)
    };
    let rows = |rows: &[String]| batch(&columns, &rows.join("\n"));
    table.upsert(&[rows(&[row("logs", "gold", 1), row("data", "gold", 1)])]).await.unwrap();
    assert_eq!(table.validate().await.unwrap(), []);
    let report = table.upsert(&[rows(&[row("logs", "silver", 2)])]).await.unwrap();
    assert_eq!((report.inserted, report.updated), (0, 1), "{report}");
    let report = table.delete(&[rows(&[row("data", "gold", 3)])]).await.unwrap();
    assert_eq!(report.deleted, 1, "{report}");
    let tiers = lines(&table.read(Query::snapshot().with_columns(["arn", "tier"])).await.unwrap());
    assert_eq!(tiers, [r#"{"arn":"arn:aws:s3:::logs","tier":"silver"}"#]);
    assert_eq!(table.validate().await.unwrap(), []);
}
