//! Columns of every type, written by Spark and by this crate.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, RecordBatch},
    datatypes::{DataType, Field, Float64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType},
};
use hudi_scd::{ErrorKind, Query, Table, TableDefinition, TableOptions};
use object_store::ObjectStoreExt;
use parquet::file::metadata::ParquetMetaDataReader;
use serde_json::Value;

use crate::common::{self, Golden, lines, memory, repeatable};

/// Reads rows by id, independently of the order of their columns.
async fn read(table: &Table) -> Vec<Value> {
    let rows = lines(&table.read(Query::snapshot()).await.unwrap());
    let mut rows: Vec<Value> = rows.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    rows.sort_by_key(|row| row["id"].as_i64());
    rows
}

/// Spark's lists have two levels in Parquet. The lists of this crate have three.
#[tokio::test]
async fn nested_columns_of_spark_are_read_carried_over_and_written_by_us() {
    let golden = Golden::unpack("types-0.15");
    let options =
        TableOptions::new().with_clock(hudi_scd::FnClock(|| "2026-11-24T00:00:00Z".parse().unwrap()));
    let table = Table::open_with(golden.store(), "table".into(), options).await.unwrap();
    let text = std::fs::read_to_string(golden.path("expected.jsonl")).unwrap();
    let mut expected: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Spark's dump prints a decimal inside a struct as a number.
    expected[0]["s"]["y"]["z"] = "1.25".into();
    assert_eq!(read(&table).await, expected);
    assert_eq!(table.validate().await.unwrap(), []);

    let stored = table.read(Query::snapshot()).await.unwrap();
    let again = table.upsert(&stored).await.unwrap();
    assert_eq!((again.instant, again.unchanged), (None, 3));

    // One row is deleted. The other rows are copied into a file of this crate.
    table.delete(&[common::batch(&common::schema("id int"), r#"{"id":2}"#)]).await.unwrap();
    expected.remove(1);
    assert_eq!(read(&table).await, expected);
    assert_eq!(table.validate().await.unwrap(), []);

    // Now this crate writes all of them.
    let mut batches = table.read(Query::snapshot()).await.unwrap();
    for batch in &mut batches {
        let index = batch.schema().index_of("ts").unwrap();
        let mut columns = batch.columns().to_vec();
        columns[index] = std::sync::Arc::new(arrow::array::Int64Array::from(vec![9; batch.num_rows()]));
        *batch = arrow::array::RecordBatch::try_new(batch.schema(), columns).unwrap();
    }
    let report = table.upsert(&batches).await.unwrap();
    assert_eq!(report.updated, 2);
    for row in &mut expected {
        row["ts"] = 9.into();
    }
    assert_eq!(read(&table).await, expected);
    assert_eq!(table.validate().await.unwrap(), []);
}

fn one_column(data_type: &DataType, nullable: bool) -> SchemaRef {
    let fields = vec![Field::new("id", DataType::Int32, true), Field::new("c", data_type.clone(), nullable)];
    Arc::new(Schema::new(fields))
}

fn one_row(data_type: &DataType, value: i64) -> RecordBatch {
    let value = arrow::compute::cast(&Int64Array::from(vec![value]), data_type).unwrap();
    let columns: [ArrayRef; 2] = [Arc::new(Int32Array::from(vec![1])), value];
    RecordBatch::try_new(one_column(data_type, true), columns.to_vec()).unwrap()
}

async fn with_column(data_type: &DataType) -> Table {
    let definition = TableDefinition::new("t", one_column(data_type, true), ["id"]);
    Table::create_with(memory(), "t".into(), definition, repeatable()).await.unwrap()
}

async fn column(table: &Table) -> ArrayRef {
    let batches = table.read(Query::snapshot().with_columns(["c"])).await.unwrap();
    batches[0].column(0).clone()
}

/// A table of this crate stores a timestamp in microseconds, whatever its original unit is, because every
/// engine can read that.
#[rstest::rstest]
#[tokio::test]
async fn timestamps_of_every_unit_and_zone_come_back_as_the_same_moment(
    #[values(TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond)]
    unit: TimeUnit,
    #[values(None, Some("UTC"), Some("+02:00"))] zone: Option<&str>,
) {
    let per_second = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let data_type = DataType::Timestamp(unit, zone.map(Into::into));
    let table = with_column(&data_type).await;
    let moment = one_row(&data_type, 1_767_225_601 * per_second);
    table.upsert(std::slice::from_ref(&moment)).await.unwrap();
    let read = column(&table).await;
    assert_eq!(*read.data_type(), DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    assert_eq!(read.as_primitive::<TimestampMicrosecondType>().values(), &[1_767_225_601_000_000]);
    assert_eq!(table.upsert(&[moment]).await.unwrap().instant, None, "it is the row that is there");
}

#[tokio::test]
async fn a_nanosecond_that_is_no_whole_microsecond_is_refused_by_name() {
    let data_type = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let table = with_column(&data_type).await;
    let error = table.upsert(&[one_row(&data_type, 1_001)]).await.unwrap_err();
    assert_eq!((error.kind(), error.context("column")), (ErrorKind::InvalidInput, Some("c")));
    assert_eq!(table.timeline().await.unwrap().latest_commit(), None);
}

/// Rewrites the schema that a table was created with, as another engine would have written it.
async fn created_as(avro: &str) -> (Arc<dyn object_store::ObjectStore>, Table) {
    let store = memory();
    let definition = TableDefinition::new("t", one_column(&DataType::Int32, true), ["id"]);
    Table::create_with(store.clone(), "t".into(), definition, repeatable()).await.unwrap();
    let path = object_store::path::Path::from("t/.hoodie/hoodie.properties");
    let text = store.get(&path).await.unwrap().bytes().await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let escaped = avro.replace(':', "\\:");
    let lines = text.lines().map(|line| match line.starts_with("hoodie.table.create.schema=") {
        true => format!("hoodie.table.create.schema={escaped}"),
        false => line.to_owned(),
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    store.put(&path, text.into()).await.unwrap();
    let table = Table::open_with(store.clone(), "t".into(), repeatable()).await.unwrap();
    (store, table)
}

/// Other writers also use milliseconds, and timestamps without a zone. These are written unchanged.
#[rstest::rstest]
#[case("timestamp-millis", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())))]
#[case("timestamp-micros", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))]
#[case("local-timestamp-millis", DataType::Timestamp(TimeUnit::Millisecond, None))]
#[case("local-timestamp-micros", DataType::Timestamp(TimeUnit::Microsecond, None))]
#[tokio::test]
async fn timestamps_of_other_writers_stay_what_they_are(#[case] logical: &str, #[case] data_type: DataType) {
    let avro = format!(
        r#"{{"type":"record","name":"r","fields":[{{"name":"id","type":["null","int"],"default":null}},{{"name":"c","type":["null",{{"type":"long","logicalType":"{logical}"}}],"default":null,"doc":"when"}}]}}"#
    );
    let (_, table) = created_as(&avro).await;
    let row = one_row(&data_type, 1_767_225_601_123);
    table.upsert(std::slice::from_ref(&row)).await.unwrap();
    assert_eq!(&column(&table).await, row.column(1));
    assert_eq!(table.schema().await.unwrap().field(1).data_type(), &data_type);
    assert_eq!(table.upsert(&[row]).await.unwrap().instant, None);
    assert_eq!(table.validate().await.unwrap(), []);
}

#[tokio::test]
async fn what_others_say_of_columns_stays_in_commits_and_in_footers() {
    let avro = r#"{"type":"record","name":"Customer","namespace":"com.acme","doc":"who buys","fields":[{"name":"id","type":["null","int"],"default":null,"doc":"the key"},{"name":"c","type":"int","doc":"how many","aliases":["count"],"default":0}]}"#;
    let (store, table) = created_as(avro).await;
    table.upsert(&[one_row(&DataType::Int32, 1)]).await.unwrap();
    assert_eq!(said(&store, &table).await, [avro.to_owned(), with_meta(avro)]);

    // A wider type and a new column are added. Everything else is preserved.
    let wider = with_new_column(&one_row(&DataType::Int64, 1 << 40));
    table.upsert(&[wider]).await.unwrap();
    let evolved = avro
        .replace(r#""type":"int","doc":"how many""#, r#""type":"long","doc":"how many""#)
        .replace(r#""default":0}]"#, r#""default":0},{"name":"new","type":["null","int"],"default":null}]"#);
    assert_eq!(said(&store, &table).await, [evolved.clone(), with_meta(&evolved)]);

    // A column that is not nullable rejects NULL. A row that deletes needs only its key.
    let nothing: ArrayRef = Arc::new(Int64Array::from(vec![None]));
    let id: ArrayRef = Arc::new(Int32Array::from(vec![2]));
    let row = RecordBatch::try_from_iter_with_nullable([("id", id, true), ("c", nothing, true)]).unwrap();
    let error = table.upsert(&[with_new_column(&row)]).await.unwrap_err();
    assert_eq!((error.kind(), error.context("column")), (ErrorKind::InvalidInput, Some("c")), "{error}");
    let mut fields = row.schema().fields().to_vec();
    fields.push(Arc::new(Field::new("_hoodie_is_deleted", DataType::Boolean, true)));
    let gone: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
    let columns = row.columns().iter().cloned().chain([gone]).collect();
    let delete = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    table.upsert(&[with_new_column(&delete)]).await.unwrap();
    assert_eq!(table.validate().await.unwrap(), []);
}

fn with_new_column(batch: &RecordBatch) -> RecordBatch {
    let mut fields = batch.schema().fields().to_vec();
    fields.push(Arc::new(Field::new("new", DataType::Int32, true)));
    let new: ArrayRef = Arc::new(Int32Array::from(vec![7; batch.num_rows()]));
    let columns = batch.columns().iter().cloned().chain([new]).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// Returns the schema in the latest commit, and in the footer of its file.
async fn said(store: &Arc<dyn object_store::ObjectStore>, table: &Table) -> [String; 2] {
    let latest = table.timeline().await.unwrap().latest_commit().unwrap();
    let group = table.file_groups().await.unwrap().remove(0);
    let read = async |path: String| {
        let path = object_store::path::Path::parse(path).unwrap();
        store.get(&path).await.unwrap().bytes().await.unwrap()
    };
    let commit: Value = serde_json::from_slice(&read(format!("t/.hoodie/{latest}.commit")).await).unwrap();
    let file = read(format!("t/{}", group.versions.last().unwrap().file)).await;
    let footer = ParquetMetaDataReader::new().parse_and_finish(&file).unwrap();
    let entries = footer.file_metadata().key_value_metadata().unwrap();
    let text = entries.iter().find(|entry| entry.key == "parquet.avro.schema").unwrap().value.clone();
    [commit["extraMetadata"]["schema"].as_str().unwrap().to_owned(), text.unwrap()]
}

fn with_meta(avro: &str) -> String {
    let meta = ["commit_time", "commit_seqno", "record_key", "partition_path", "file_name"].map(|name| {
        format!(r#"{{"name":"_hoodie_{name}","type":["null","string"],"doc":"","default":null}},"#)
    });
    avro.replacen(r#""fields":["#, &format!(r#""fields":[{}"#, meta.concat()), 1)
}

/// Rows of narrower files are read with the wider type, and rewritten with it.
#[tokio::test]
async fn columns_widen_and_what_does_not_fit_is_an_error_with_column_and_types() {
    let (int, long, float) = (DataType::Int32, DataType::Int64, DataType::Float64);
    let table = with_column(&int).await;
    table.upsert(&[one_row(&int, 5)]).await.unwrap();
    let second = |batch: RecordBatch| {
        let mut columns = batch.columns().to_vec();
        columns[0] = Arc::new(Int32Array::from(vec![2]));
        RecordBatch::try_new(batch.schema(), columns).unwrap()
    };
    for (data_type, value) in [(&long, 1_i64 << 40), (&int, 6), (&float, 7), (&long, 8)] {
        table.upsert(&[second(one_row(data_type, value))]).await.unwrap();
        let read = arrow::compute::cast(&column(&table).await, &float).unwrap();
        assert_eq!(read.as_primitive::<Float64Type>().values(), &[5.0, value as f64], "{data_type}");
        assert_eq!(table.validate().await.unwrap(), []);
    }
    assert_eq!(table.schema().await.unwrap().field(1).data_type(), &float);

    let error = table.upsert(&[second(one_row(&long, (1 << 53) + 1))]).await.unwrap_err();
    assert_eq!((error.context("column"), error.context("row")), (Some("c"), Some("0")), "{error}");
    let error = table.upsert(&[second(one_row(&DataType::Utf8, 1))]).await.unwrap_err();
    assert_eq!((error.context("table"), error.context("batch")), (Some("Float64"), Some("Utf8")), "{error}");
    let id: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![1.0]));
    let c = one_row(&float, 1).column(1).clone();
    let key = RecordBatch::try_from_iter_with_nullable([("id", id, true), ("c", c, true)]).unwrap();
    let error = table.upsert(&[key]).await.unwrap_err();
    assert_eq!((error.kind(), error.context("column")), (ErrorKind::InvalidInput, Some("id")), "{error}");
}

/// Spark's `ALTER TABLE … RENAME COLUMN` leaves the old name in the base files. After that, commits identify
/// columns by number, which this crate does not support: it would return null for every value of the column.
#[tokio::test]
async fn a_table_whose_columns_were_renamed_is_refused() {
    let store = memory();
    let definition = TableDefinition::new("t", common::schema("id bigint, v string"), ["id"]);
    let table = Table::create_with(store.clone(), "t".into(), definition, repeatable()).await.unwrap();
    let rows = common::batch(&table.schema().await.unwrap(), r#"{"id":1,"v":"a"}"#);
    let instant = table.upsert(std::slice::from_ref(&rows)).await.unwrap().instant.unwrap();
    let file = format!("t/.hoodie/{instant}.commit").into();
    let text = store.get(&file).await.unwrap().bytes().await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let numbered = text.replacen(
        r#""extraMetadata": {"#,
        r#""extraMetadata": {"latest_schema": "{\"max_column_id\":1,\"version_id\":1,\"type\":\"record\",\"fields\":[]}","#,
        1,
    );
    assert_ne!(numbered, text);
    store.put(&file, numbered.into()).await.unwrap();

    let table = Table::open(store, "t".into()).await.unwrap();
    let errors = [
        table.read(Query::snapshot()).await.unwrap_err(),
        table.upsert(&[rows]).await.unwrap_err(),
        table.schema().await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(
            (error.kind(), error.context("property"), error.context("commit")),
            (ErrorKind::Unsupported, Some("hoodie.schema.on.read.enable"), Some(instant.as_str())),
            "{error}"
        );
    }
}

#[tokio::test]
async fn what_the_schema_says_of_columns_is_in_every_commit_and_footer() {
    let said = |text: &str| [(hudi_scd::schema::DOC.to_owned(), text.to_owned())].into();
    let columns = common::schema("id bigint, v string");
    let documented = Schema::new_with_metadata(
        vec![
            columns.field(0).clone().with_metadata(said("the \"key\"")),
            columns.field(1).clone().with_metadata(said("as on the invoice")),
        ],
        said("who buys"),
    );
    let store = memory();
    let definition = TableDefinition::new("t", Arc::new(documented), ["id"]);
    let table = Table::create_with(store.clone(), "t".into(), definition, repeatable()).await.unwrap();
    let first = common::batch(&columns, r#"{"id":1,"v":"a"}"#);
    let wider = common::batch(&common::schema("id bigint, v string, n int"), r#"{"id":1,"v":"b","n":1}"#);
    for rows in [first, wider] {
        let instant = table.upsert(&[rows]).await.unwrap().instant.unwrap();
        let commit = store.get(&format!("t/.hoodie/{instant}.commit").into()).await.unwrap();
        let commit: Value = serde_json::from_slice(&commit.bytes().await.unwrap()).unwrap();
        let file = table.file_groups().await.unwrap()[0].versions.last().unwrap().file.clone();
        let file = store.get(&format!("t/{file}").into()).await.unwrap().bytes().await.unwrap();
        let footer = ParquetMetaDataReader::new().parse_and_finish(&file).unwrap();
        let entries = footer.file_metadata().key_value_metadata().unwrap();
        let stored = entries.iter().find(|entry| entry.key == "parquet.avro.schema").unwrap();
        for text in [commit["extraMetadata"]["schema"].as_str(), stored.value.as_deref()] {
            for doc in [r#""doc":"the \"key\"""#, r#""doc":"as on the invoice""#, r#""doc":"who buys""#] {
                assert!(text.unwrap().contains(doc), "{doc} in {text:?}");
            }
        }
    }
    assert_eq!(table.validate().await.unwrap(), []);
}
