//! Compares the bytes that other engines read: Parquet schemas, footers and commit metadata must equal those
//! of Spark's writer.

use std::{collections::BTreeMap, fs::File, path::Path};

use futures::TryStreamExt;
use hudi_scd::{Codec, Table, TableDefinition, bloom::BloomFilter};
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::{
    basic::{Encoding, Type},
    file::{metadata::ParquetMetaData, metadata::ParquetMetaDataReader},
    schema::printer::print_schema,
};
use rstest::rstest;
use serde_json::Value;

use crate::common::{self, Golden, folder, mortal::Mortal, repeatable};

fn parquet_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with(".hoodie") {
            found.extend(parquet_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            found.push(path);
        }
    }
    found.sort_by_key(|path| {
        path.file_name().unwrap().to_string_lossy().rsplit('_').next().unwrap().to_owned()
    });
    found
}

fn footer(path: &Path) -> (ParquetMetaData, BTreeMap<String, String>) {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&File::open(path).unwrap()).unwrap();
    let entries = metadata.file_metadata().key_value_metadata().unwrap().iter();
    let entries = entries.map(|entry| (entry.key.clone(), entry.value.clone().unwrap_or_default())).collect();
    (metadata, entries)
}

fn schema_text(metadata: &ParquetMetaData) -> String {
    let mut text = Vec::new();
    print_schema(&mut text, metadata.file_metadata().schema());
    String::from_utf8(text).unwrap()
}

fn definition(golden: &Golden) -> TableDefinition {
    let properties = std::fs::read_to_string(golden.path("table/.hoodie/hoodie.properties")).unwrap();
    let name = properties.lines().find_map(|line| line.strip_prefix("hoodie.table.name=")).unwrap();
    let fields = |key: &str| -> Vec<String> {
        let named = golden.about[key].as_str().unwrap_or("");
        named.split(',').filter(|field| !field.is_empty()).map(str::to_owned).collect()
    };
    TableDefinition::new(name, golden.schema(), fields("key"))
        .with_ordering_field(golden.about["ordering"].as_str().unwrap())
        .with_partition_fields(fields("partition"))
}

/// Repeats the first commit of a golden table with this crate, in a folder.
async fn first_commit(golden: &Golden, into: &Path, codec: Codec) -> Table {
    let options = repeatable().with_codec(codec).with_bloom_entries(1000);
    let table = Table::create_with(folder(into), "t".into(), definition(golden), options).await.unwrap();
    table.upsert(&[golden.batch(&golden.inputs()[0].1)]).await.unwrap();
    table
}

#[rstest]
#[tokio::test]
async fn base_files_are_those_of_spark(
    #[values("customer-0.15", "address-0.15", "complexkey-part-0.15")] name: &str,
) {
    let golden = Golden::unpack(name);
    let ours = tempfile::tempdir().unwrap();
    first_commit(&golden, ours.path(), Codec::Gzip).await;
    let (spark, spark_says) = footer(&parquet_files(&golden.path("table"))[0]);
    let (metadata, says) = footer(&parquet_files(&ours.path().join("t"))[0]);

    assert_eq!(schema_text(&metadata), schema_text(&spark));
    assert_eq!(says.keys().collect::<Vec<_>>(), spark_says.keys().collect::<Vec<_>>());
    for key in ["parquet.avro.schema", "writer.model.name", "hoodie_bloom_filter_type_code"] {
        assert_eq!(says[key], spark_says[key], "{key}");
    }
    for (column, theirs) in metadata.row_group(0).columns().iter().zip(spark.row_group(0).columns()) {
        assert_eq!(column.compression(), theirs.compression());
        assert!(column.statistics().is_some());
        assert!(column.encodings().all(|encoding| encoding != Encoding::DELTA_BINARY_PACKED));
    }
    let columns = metadata.file_metadata().schema_descr().columns();
    let decimals: Vec<_> = columns.iter().filter(|column| column.type_precision() > 0).collect();
    assert!(decimals.iter().all(|column| column.physical_type() == Type::FIXED_LEN_BYTE_ARRAY));
    assert_eq!(decimals.is_empty(), name != "customer-0.15");
}

#[tokio::test]
async fn footers_hold_every_key_and_their_range() {
    let golden = Golden::unpack("customer-0.15");
    let ours = tempfile::tempdir().unwrap();
    first_commit(&golden, ours.path(), Codec::Snappy).await;
    let (_, says) = footer(&parquet_files(&ours.path().join("t"))[0]);
    let filter = BloomFilter::parse(&says["org.apache.hudi.bloomfilter"], Some("DYNAMIC_V0")).unwrap();
    assert!((1..=60).all(|key| filter.contains(&key.to_string())));
    assert!(!filter.contains("61"));
    assert_eq!((says["hoodie_min_record_key"].as_str(), says["hoodie_max_record_key"].as_str()), ("1", "9"));
}

#[rstest]
#[tokio::test]
async fn commits_say_what_those_of_spark_say(#[values("customer-0.15", "address-0.15")] name: &str) {
    let golden = Golden::unpack(name);
    let ours = tempfile::tempdir().unwrap();
    let table = first_commit(&golden, ours.path(), Codec::Gzip).await;
    let spark = |state: &str| -> Value {
        // The first commits of a cleaned table may be archived. Those of these two tables are not.
        let instant = golden.about["steps"][0]["instants"][0].as_str().unwrap();
        let file = golden.path("table").join(format!(".hoodie/{instant}.{state}"));
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
    };
    let instant = table.timeline().await.unwrap().latest_commit().unwrap();
    let commit = std::fs::read(ours.path().join(format!("t/.hoodie/{instant}.commit"))).unwrap();
    same_commit(&serde_json::from_slice(&commit).unwrap(), &spark("commit"));
    same_commit(&inflight(&golden).await, &spark("inflight"));
}

/// Returns the inflight metadata of this crate's first commit, which remain if the writer dies late enough.
async fn inflight(golden: &Golden) -> Value {
    for calls in 0.. {
        let store = common::memory();
        let table =
            Table::create_with(store.clone(), "t".into(), definition(golden), repeatable()).await.unwrap();
        drop(table);
        let (mortal, _) = Mortal::after(store.clone(), calls, false);
        let rows = golden.batch(&golden.inputs()[0].1);
        if let Ok(table) = Table::open_with(mortal, "t".into(), repeatable()).await {
            table.upsert(&[rows]).await.unwrap_err();
        }
        let files: Vec<_> = store.list(None).try_collect().await.unwrap();
        if let Some(file) = files.iter().find(|file| file.location.as_ref().ends_with(".inflight")) {
            let bytes = store.get(&file.location).await.unwrap().bytes().await.unwrap();
            return serde_json::from_slice(&bytes).unwrap();
        }
    }
    unreachable!()
}

fn same_commit(ours: &Value, spark: &Value) {
    assert_eq!(keys(ours), keys(spark));
    assert_eq!(ours["operationType"], spark["operationType"]);
    assert_eq!(ours["extraMetadata"], spark["extraMetadata"]);
    for (partition, stats) in spark["partitionToWriteStats"].as_object().unwrap() {
        for (index, theirs) in stats.as_array().unwrap().iter().enumerate() {
            let stat = &ours["partitionToWriteStats"][partition][index];
            assert_eq!(keys(stat), keys(theirs));
            for key in
                ["numWrites", "numInserts", "numUpdateWrites", "numDeletes", "prevCommit", "partitionPath"]
            {
                assert_eq!(stat[key], theirs[key], "{partition} {key}");
            }
        }
    }
}

fn keys(value: &Value) -> Vec<&String> {
    value.as_object().unwrap().keys().collect()
}
