//! The SQL for Amazon Redshift.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BinaryArray, Date32Array, Decimal128Array, Int32Array, Int64Array, ListArray, RecordBatch,
        StringArray, StructArray, TimestampMicrosecondArray,
    },
    datatypes::{DataType, Field, Int32Type, Schema},
};
use hudi_scd::{
    ErrorKind, Table, TableDefinition, arrow,
    glue::{RedshiftSchema, SyncOptions},
    object_store::memory::InMemory,
};

fn options() -> SyncOptions {
    SyncOptions::new("lake", "s3a://bucket/it's/orders")
}

fn schema() -> RedshiftSchema {
    RedshiftSchema::new("Lake", "Lake").with_iam_role("arn:aws:iam::123456789012:role/spectrum")
}

async fn table(columns: &[(&str, ArrayRef)], partitions: &[&str]) -> Table {
    let rows = RecordBatch::try_from_iter(columns.iter().cloned()).unwrap();
    let definition = TableDefinition::new("Orders", rows.schema(), ["id"])
        .with_partition_fields(partitions.iter().copied());
    let table = Table::create(Arc::new(InMemory::new()), "orders".into(), definition).await.unwrap();
    table.upsert(&[rows]).await.unwrap();
    table
}

fn ids(ids: impl IntoIterator<Item = i64>) -> (&'static str, ArrayRef) {
    ("id", Arc::new(Int64Array::from_iter_values(ids)))
}

fn text(name: &'static str, values: &[&str]) -> (&'static str, ArrayRef) {
    (name, Arc::new(StringArray::from_iter_values(values)))
}

#[test]
fn a_synced_table_needs_only_the_schema() {
    assert_eq!(
        schema().with_region("eu-west-1").statement().unwrap(),
        "CREATE EXTERNAL SCHEMA IF NOT EXISTS \"lake\"\nFROM DATA CATALOG\nDATABASE 'lake'\nREGION 'eu-west-1'\n\
         IAM_ROLE 'arn:aws:iam::123456789012:role/spectrum'\nCREATE EXTERNAL DATABASE IF NOT EXISTS"
    );
    assert!(RedshiftSchema::new("s", "d").statement().unwrap().contains("IAM_ROLE default\n"));
}

#[tokio::test]
async fn a_table_is_created_with_its_types_and_partitions() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1)]), None]);
    let inner = StructArray::from(vec![(
        Arc::new(Field::new("Code", DataType::Utf8, true)),
        Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef,
    )]);
    let table = table(
        &[
            ids([1, 2]),
            text("Order", &["a", "b"]),
            ("qty", Arc::new(Int32Array::from(vec![1, 2]))),
            ("price", Arc::new(Decimal128Array::from(vec![1, 2]).with_precision_and_scale(15, 2).unwrap())),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![1, 2]).with_timezone("UTC"))),
            ("list", Arc::new(list)),
            ("inner", Arc::new(inner)),
            ("day", Arc::new(Date32Array::from(vec![0, 1]))),
            text("region", &["eu", "it's"]),
        ],
        &["day", "region"],
    )
    .await;
    let statements = schema().create_table(&table, &options()).await.unwrap();
    assert_eq!(
        statements,
        [
            "CREATE EXTERNAL TABLE \"lake\".\"orders\" (
    \"_hoodie_commit_time\" varchar(65535),
    \"_hoodie_commit_seqno\" varchar(65535),
    \"_hoodie_record_key\" varchar(65535),
    \"_hoodie_partition_path\" varchar(65535),
    \"_hoodie_file_name\" varchar(65535),
    \"id\" bigint,
    \"order\" varchar(65535),
    \"qty\" integer,
    \"price\" decimal(15,2),
    \"at\" timestamp,
    \"list\" array<integer>,
    \"inner\" struct<code:varchar(65535)>
)
PARTITIONED BY (\"day\" date, \"region\" varchar(65535))
ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'
STORED AS INPUTFORMAT 'org.apache.hudi.hadoop.HoodieParquetInputFormat' OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat'
LOCATION 's3://bucket/it''s/orders'",
            "ALTER TABLE \"lake\".\"orders\" ADD IF NOT EXISTS
PARTITION (\"day\"='1970-01-01', \"region\"='eu') LOCATION 's3://bucket/it''s/orders/day=1970-01-01/region=eu'
PARTITION (\"day\"='1970-01-02', \"region\"='it''s') LOCATION 's3://bucket/it''s/orders/day=1970-01-02/region=it''s'",
        ]
    );
}

#[tokio::test]
async fn a_statement_adds_at_most_a_hundred_partitions_and_fits_the_data_api() {
    let parts = |sql: &String| sql.matches("\nPARTITION (").count();
    for (length, expected) in [(4, vec![100, 100, 50]), (900, vec![48, 48, 48, 48, 48, 10])] {
        let values: Vec<_> = (0..250).map(|n| format!("{n:0length$}")).collect();
        let values: Vec<_> = values.iter().map(String::as_str).collect();
        let table = table(&[ids(0..250), text("r", &values)], &["r"]).await;
        let statements = schema().create_table(&table, &options()).await.unwrap();
        assert_eq!(statements[1..].iter().map(parts).collect::<Vec<_>>(), expected);
        assert!(statements.iter().all(|sql| sql.len() <= 90_000));
    }
}

#[tokio::test]
async fn changes_since_a_commit_add_and_drop() {
    let table = table(&[ids([1, 2]), text("region", &["eu", "us"])], &["region"]).await;
    let first = table.timeline().await.unwrap().latest_commit().unwrap();
    assert_eq!(schema().changes(&table, &options(), first).await.unwrap(), [""; 0]);

    table.delete_partitions(["region=us"]).await.unwrap();
    let wider = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("region", DataType::Utf8, false),
        Field::new("note", DataType::Utf8, true),
    ]));
    let columns = [ids([3]).1, text("region", &["ap"]).1, text("note", &["x"]).1];
    table.upsert(&[RecordBatch::try_new(wider, columns.to_vec()).unwrap()]).await.unwrap();
    assert_eq!(
        schema().changes(&table, &options(), first).await.unwrap(),
        [
            "ALTER TABLE \"lake\".\"orders\" ADD COLUMN \"note\" varchar(65535)",
            "ALTER TABLE \"lake\".\"orders\" DROP PARTITION (\"region\"='us')",
            "ALTER TABLE \"lake\".\"orders\" ADD IF NOT EXISTS\n\
             PARTITION (\"region\"='ap') LOCATION 's3://bucket/it''s/orders/region=ap'",
        ]
    );

    let unknown =
        schema().changes(&table, &options(), "20200101000000000".parse().unwrap()).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    assert!(unknown.to_string().contains("create it again"), "{unknown}");
}

#[tokio::test]
async fn what_redshift_cannot_do_is_refused_by_name() {
    let widened = table(&[ids([1]), ("qty", Arc::new(Int32Array::from(vec![1])))], &[]).await;
    let first = widened.timeline().await.unwrap().latest_commit().unwrap();
    let rows =
        RecordBatch::try_from_iter([ids([1]), ("qty", Arc::new(Int64Array::from(vec![2])) as ArrayRef)]);
    widened.upsert(&[rows.unwrap()]).await.unwrap();
    let error = schema().changes(&widened, &options(), first).await.unwrap_err();
    assert!(error.to_string().contains("from: integer, to: bigint"), "{error}");

    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![b"x".as_slice()]));
    let plain = table(&[ids([1]), ("raw", bytes.clone())], &[]).await;
    let sql = schema().create_table(&plain, &options()).await.unwrap();
    assert!(sql[0].contains("\"raw\" varbyte(1024000)"), "{}", sql[0]);
    let partitioned = table(&[ids([1]), ("raw", bytes), text("region", &["eu"])], &["region"]).await;
    let error = schema().create_table(&partitioned, &options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("column: raw"), "{error}");

    let days: ArrayRef = Arc::new(Date32Array::from(vec![None, Some(1)]));
    let nulls = table(&[ids([1, 2]), ("day", days)], &["day"]).await;
    let error = schema().create_table(&nulls, &options()).await.unwrap_err();
    assert!(error.to_string().contains("partition: day=__HIVE_DEFAULT_PARTITION__"), "{error}");
}
