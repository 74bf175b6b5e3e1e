//! The compression of base files: in new tables, in Spark's tables, and after a change.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use hudi_scd::{Codec, FnClock, Query, Table, TableDefinition, TableOptions};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use parquet::{
    basic::Compression,
    file::reader::{FileReader, SerializedFileReader},
};
use rstest::rstest;

use crate::common::{Golden, batch, lines, memory, repeatable, schema};

fn name(compression: Compression) -> &'static str {
    match compression {
        Compression::GZIP(_) => "gzip",
        Compression::SNAPPY => "snappy",
        Compression::ZSTD(_) => "zstd",
        Compression::UNCOMPRESSED => "none",
        _ => "other",
    }
}

/// Returns the codecs of the newest version of each file, by column.
async fn codecs(store: &dyn ObjectStore, table: &Table) -> BTreeSet<(String, &'static str)> {
    let mut found = BTreeSet::new();
    for group in table.file_groups().await.unwrap() {
        let version = group.versions.last().unwrap();
        let path = [table.root().as_ref(), &group.partition, &version.file];
        let path = path.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        let bytes: Bytes = store.get(&Path::parse(path).unwrap()).await.unwrap().bytes().await.unwrap();
        let reader = SerializedFileReader::new(bytes).unwrap();
        for column in reader.metadata().row_groups().iter().flat_map(|group| group.columns()) {
            found.insert((column.column_path().string(), name(column.compression())));
        }
    }
    found
}

/// Returns the only codec of a table.
async fn codec(store: &dyn ObjectStore, table: &Table) -> &'static str {
    let codecs: BTreeSet<&str> = codecs(store, table).await.into_iter().map(|(_, codec)| codec).collect();
    assert_eq!(codecs.len(), 1, "{codecs:?}");
    codecs.into_iter().next().unwrap()
}

fn definition() -> TableDefinition {
    TableDefinition::new("t", schema("id bigint, v string"), ["id"])
}

/// Options whose clock is later than the golden tables.
fn after() -> TableOptions {
    TableOptions::new().with_clock(FnClock(|| "2026-12-24T00:00:00Z".parse().unwrap()))
}

fn rows(v: &str) -> arrow::array::RecordBatch {
    let rows: Vec<String> = (0..100).map(|id| format!(r#"{{"id":{id},"v":"{v} {id}"}}"#)).collect();
    batch(&schema("id bigint, v string"), &rows.join("\n"))
}

fn few(v: &str) -> arrow::array::RecordBatch {
    batch(&schema("id bigint, v string"), &format!(r#"{{"id":7,"v":"{v}"}}"#))
}

#[rstest]
#[case::gzip(Codec::Gzip)]
#[case::snappy(Codec::Snappy)]
#[case::zstd(Codec::Zstd)]
#[tokio::test]
async fn a_table_keeps_the_codec_of_its_definition_or_of_its_files(
    #[case] codec: Codec,
    #[values(true, false)] is_defined: bool,
) {
    let store = memory();
    let (defined, options) = match is_defined {
        true => (definition().with_codec(codec), repeatable()),
        false => (definition(), repeatable().with_codec(codec)),
    };
    let table = Table::create_with(store.clone(), "t".into(), defined, options).await.unwrap();
    table.bulk_insert(&[rows("first")]).await.unwrap();
    assert_eq!(self::codec(store.as_ref(), &table).await, codec.name());
    let table = Table::open_with(store.clone(), "t".into(), repeatable()).await.unwrap();
    table.upsert(&[few("second")]).await.unwrap();
    assert_eq!(self::codec(store.as_ref(), &table).await, codec.name());
    // Without a lookup, no footer has been read before.
    let more = batch(&schema("id bigint, v string"), r#"{"id":1000,"v":"more"}"#);
    table.bulk_insert(&[more]).await.unwrap();
    assert_eq!(self::codec(store.as_ref(), &table).await, codec.name());
    assert_eq!(table.validate().await.unwrap(), []);
    assert_eq!(lines(&table.read(Query::snapshot()).await.unwrap()).len(), 101);
}

#[tokio::test]
async fn a_new_table_has_the_default() {
    let store = memory();
    let table = Table::create_with(store.clone(), "t".into(), definition(), repeatable()).await.unwrap();
    table.upsert(&[rows("first")]).await.unwrap();
    assert_eq!(codec(store.as_ref(), &table).await, Codec::default().name());
}

#[rstest]
#[tokio::test]
async fn a_table_of_spark_keeps_its_codec(
    #[values("customer-0.15", "old-0.9", "mdt-files-1.0-v6")] name: &str,
) {
    let golden = Golden::unpack(name);
    let store: Arc<dyn ObjectStore> = golden.store();
    let table = Table::open_with(store.clone(), "table".into(), after()).await.unwrap();
    let stored = table.read(Query::snapshot()).await.unwrap();
    let mut row = lines(&stored)[0].parse::<serde_json::Value>().unwrap();
    row[golden.about["ordering"].as_str().unwrap()] = "2030-01-01T00:00:00.000000Z".into();
    let report = table.upsert(&[batch(&golden.schema(), &row.to_string())]).await.unwrap();
    assert_eq!(report.updated, 1, "{report}");
    assert_eq!(codec(store.as_ref(), &table).await, "gzip");
}

#[tokio::test]
async fn a_codec_that_is_chosen_later_is_that_of_the_columns_that_are_written_anew() {
    let store = memory();
    let options = repeatable().with_codec(Codec::Snappy);
    let table = Table::create_with(store.clone(), "t".into(), definition(), options).await.unwrap();
    table.upsert(&[rows("first")]).await.unwrap();
    let table =
        Table::open_with(store.clone(), "t".into(), repeatable().with_codec(Codec::Zstd)).await.unwrap();
    table.upsert(&[few("second")]).await.unwrap();
    let found = codecs(store.as_ref(), &table).await;
    let of = |column: &str| {
        found.iter().filter(|(name, _)| name == column).map(|(_, codec)| *codec).collect::<Vec<_>>()
    };
    assert_eq!((of("v"), of("_hoodie_file_name"), of("id")), (vec!["zstd"], vec!["zstd"], vec!["snappy"]));
    // The next writer keeps the new codec.
    let table = Table::open_with(store.clone(), "t".into(), repeatable()).await.unwrap();
    table.upsert(&[few("third")]).await.unwrap();
    let found = codecs(store.as_ref(), &table).await;
    assert!(found.contains(&("v".to_owned(), "zstd")), "{found:?}");
    assert_eq!(table.validate().await.unwrap(), []);
}
