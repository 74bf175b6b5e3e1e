//! Writes tables for other engines. `scripts/` pass a folder to this program and compare the tables.
//!
//! Each table has `table/` and the expected rows: `expected.jsonl`, and `expected.asof-{instant}.jsonl` for
//! each readable commit. Tables that repeat Spark's batches also have `about.json` (schema, key, ordering,
//! partition, instants).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use common::{
    Golden, batch, folder, lines,
    mortal::Mortal,
    range_copy::{Copying, Service},
    repeatable, schema,
};
use futures::TryStreamExt;
use hudi_scd::{
    Codec, Query, RetentionPolicy, Table, TableDefinition, TableOptions, TimestampPartition, TimestampType,
    scd::{Scd2, Scd2Table},
    timeline::Instant,
};
use object_store::ObjectStoreExt;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::json;

#[tokio::test]
#[ignore = "writes to the folder that HUDI_SCD_INTEROP_DIR names, for other engines to read"]
async fn writes_tables_for_other_engines() {
    let into = PathBuf::from(std::env::var("HUDI_SCD_INTEROP_DIR").unwrap());
    for name in [
        "address-0.15",
        "customer-0.15",
        "complexkey-0.15",
        "complexkey-part-0.15",
        "deletes-0.15",
        "overwritten-0.15",
        "replaced-0.15",
        "singlecomplex-0.15",
        "timestampkey-0.15",
    ] {
        replay(name, &into.join(name)).await;
    }
    every_type(&into.join("types")).await;
    history(&into.join("history")).await;
    copied_columns(&into.join("copied-columns")).await;
    dead_write(&into.join("dead-write")).await;
    for name in ["mdt-files-0.15", "mdt-unpartitioned-0.14", "mdt-files-1.0-v6", "old-0.12"] {
        dead_writes_beside_a_metadata_table(name, &into.join("died")).await;
    }
}

/// Writes the batches of a golden table, including the deletions. Retains two commits if Spark's table did.
async fn replay(name: &str, into: &Path) {
    let golden = Golden::unpack(name);
    let fields = |key: &str| -> Vec<String> {
        let named = golden.about[key].as_str().unwrap_or("");
        named.split(',').filter(|field| !field.is_empty()).map(str::to_owned).collect()
    };
    let retained = golden.about["write_args"]["retained"].as_u64().unwrap() as u32;
    std::fs::create_dir_all(into).unwrap();
    let into = into.canonicalize().unwrap();
    let mut definition = TableDefinition::new(name.replace('-', "_"), golden.schema(), fields("key"))
        .with_ordering_field(golden.about["ordering"].as_str().unwrap())
        .with_partition_fields(fields("partition"));
    if name.starts_with("timestampkey") {
        let by_month = TimestampPartition::new(TimestampType::DateString, "yyyy/MM")
            .with_input_format("yyyy-MM-dd HH:mm:ss")
            .with_time_zone("GMT+2:00");
        definition = definition.with_timestamp_partition("at", &by_month);
    }
    let options = repeatable()
        .with_retention(RetentionPolicy::commits(retained))
        .with_base_url(into.join("table").to_string_lossy());
    let table = Table::create_with(folder(&into), "table".into(), definition, options).await.unwrap();
    for (operation, input) in golden.inputs() {
        let batch = golden.batch(&input);
        let done = match operation.as_str() {
            "delete" => table.delete(&[batch]).await,
            "insert_overwrite" => table.insert_overwrite(&[batch]).await,
            "insert_overwrite_table" => table.insert_overwrite_table(&[batch]).await,
            "delete_partition" => table.delete_partitions(["p=b"]).await,
            _ => table.upsert(&[batch]).await,
        };
        done.unwrap();
    }
    let instants = expect(&table, &into).await;
    let mut about = golden.about.clone();
    about["instants"] = json!(instants);
    std::fs::write(into.join("about.json"), about.to_string()).unwrap();
}

/// Writes a column of each type, including nested ones.
async fn every_type(into: &Path) {
    let golden = Golden::unpack("types-0.15");
    let spark = Table::open(golden.store(), "table".into()).await.unwrap();
    let rows = spark.read(Query::snapshot()).await.unwrap();
    let definition =
        TableDefinition::new("types", spark.schema().await.unwrap(), ["id"]).with_ordering_field("ts");
    let table = create(definition, into).await;
    table.upsert(&rows).await.unwrap();
    expect(&table, into).await;
}

/// Writes a type 2 history with late changes, and with deletes that close nothing.
async fn history(into: &Path) {
    let schema = schema("id bigint, tier string, at timestamp, _hoodie_is_deleted boolean");
    let scd = Scd2::new(["id"], "at");
    let definition = Scd2Table::definition_of("history", &scd, &schema).unwrap();
    let table = Scd2Table::of(create(definition, into).await).unwrap();
    for second in [30, 10, 20, 50, 40] {
        let line = |id: i64| {
            let gone = (id + second / 10) % 3 == 0;
            let tier = if gone { "null".to_owned() } else { format!("\"tier {}\"", second % 20) };
            format!(
                r#"{{"id":{id},"tier":{tier},"at":"2026-01-01T00:00:{second}Z","_hoodie_is_deleted":{gone}}}"#
            )
        };
        let lines: Vec<String> = (0..9).map(line).collect();
        table.apply(&[batch(&schema, &lines.join("\n"))]).await.unwrap();
    }
    let rows = lines(&[table.rows().await.unwrap()]);
    std::fs::write(into.join("expected.jsonl"), rows.join("\n") + "\n").unwrap();
}

/// Writes a table with files whose unchanged columns the storage copied. In these files, the chunks of a row
/// group are not in the order of the columns.
async fn copied_columns(into: &Path) {
    let rows = |ids: &[i64], at: i64| {
        let column = |number: i64| -> ArrayRef {
            let salt = if [3, 9, 16].contains(&number) { at } else { 0 };
            let value = |id: &i64| {
                let value = fastrand::Rng::with_seed((id * 100 + number + salt * 1_000_003) as u64).i64(..);
                (id % 11 > 0).then_some(value)
            };
            let values = ids.iter().map(value);
            match number % 3 {
                0 => Arc::new(Int64Array::from_iter(values)),
                1 => Arc::new(StringArray::from_iter(values.map(|value| Some(format!("{:x}", value?))))),
                _ => Arc::new(Float64Array::from_iter(values.map(|value| Some(value? as f64 / 7.0)))),
            }
        };
        let mut columns: Vec<(String, ArrayRef)> =
            vec![("id".to_owned(), Arc::new(Int64Array::from(ids.to_vec())))];
        columns.extend((0..20).map(|number| (format!("c{number:02}"), column(number))));
        columns.push(("at".to_owned(), Arc::new(Int64Array::from(vec![at; ids.len()]))));
        RecordBatch::try_from_iter(columns).unwrap()
    };
    let first = rows(&(0..3_000).collect::<Vec<_>>(), 0);
    let definition = TableDefinition::new("copied_columns", first.schema(), ["id"]).with_ordering_field("at");
    let store = common::memory();
    let copying = Copying::over(store.clone(), 5_000, Service::Copies);
    let options = repeatable().with_codec(Codec::Snappy).with_range_copy(Arc::new(copying));
    let table = Table::create_with(store.clone(), "table".into(), definition, options).await.unwrap();
    table.upsert(&[first]).await.unwrap();
    for at in 1..4 {
        let ids: Vec<i64> = (0..3_000).filter(|id| (id * 7 + at) % 400 == 0).collect();
        let report = table.upsert(&[rows(&ids, at)]).await.unwrap();
        assert!(report.bytes_copied > report.bytes / 3, "{report:?}");
    }
    let mut arranged = 0;
    let objects: Vec<_> = store.list(None).try_collect().await.unwrap();
    for object in objects {
        let content = store.get(&object.location).await.unwrap().bytes().await.unwrap();
        let file = into.join(object.location.as_ref());
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &content).unwrap();
        if file.extension() == Some("parquet".as_ref()) {
            let reader = SerializedFileReader::new(content).unwrap();
            let columns = reader.metadata().row_group(0).columns();
            arranged += usize::from(!columns.iter().map(|chunk| chunk.byte_range().0).is_sorted());
        }
    }
    assert_eq!(arranged, 3);
    expect(&table, into).await;
}

/// Writes a table whose last write died before its commit: its base file exists, but its rows are invisible.
async fn dead_write(into: &Path) {
    let schema = schema("id bigint, v string");
    for calls in 0.. {
        let _ = std::fs::remove_dir_all(into);
        let definition = TableDefinition::new("dead_write", schema.clone(), ["id"]);
        let table = create(definition, into).await;
        table.upsert(&[batch(&schema, r#"{"id":1,"v":"committed"}"#)]).await.unwrap();
        let (mortal, _) = Mortal::after(folder(into), calls, true);
        let options = repeatable().without_lock();
        let died = match Table::open_with(mortal, "table".into(), options).await {
            Ok(dying) => dying.upsert(&[batch(&schema, r#"{"id":1,"v":"never committed"}"#)]).await,
            Err(error) => Err(error),
        };
        assert!(died.is_err(), "the write ended before a base file of it was there");
        let files = std::fs::read_dir(into.join("table")).unwrap();
        if files.filter(|file| file.as_ref().unwrap().path().extension() == Some("parquet".as_ref())).count()
            == 2
        {
            expect(&table, into).await;
            return;
        }
    }
}

/// Writes copies of a Spark table that has a metadata table. In each copy, a delete died at a different
/// storage call. The calls are a sample of all calls. In every second copy, the call took effect.
async fn dead_writes_beside_a_metadata_table(name: &str, into: &Path) {
    const COPIES: i64 = 12;
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/tables/{name}.tar.gz"));
    // The first copy dies at the first call after the table was opened, and the last copy at the last call.
    let (mut first, mut step) = (i64::MAX / 2, 0);
    for copy in 0..=COPIES {
        let calls = if copy == 0 { first } else { first + step * (copy - 1) / (COPIES - 1) };
        let into = into.join(format!("{copy:02}"));
        common::unpack(&archive, &into);
        let into = into.join(name);
        let path = into.join("table").canonicalize().unwrap();
        let options = || TableOptions::new().without_lock().with_parallelism(1);
        let whole = Table::open_with(folder(&into), "table".into(), options()).await.unwrap();
        let before = whole.read(Query::snapshot()).await.unwrap();
        let gone = before[0].slice(0, 2);
        let (mortal, left) = Mortal::after(folder(&into), calls, copy % 2 == 0);
        let options = options().with_base_url(path.to_string_lossy());
        let opened = Table::open_with(mortal, "table".into(), options).await.unwrap();
        let after_opening = calls - left.load(Ordering::SeqCst);
        let died = opened.delete(std::slice::from_ref(&gone)).await;
        if copy == 0 {
            assert_eq!(died.unwrap().deleted, 2);
            (first, step) = (after_opening, calls - left.load(Ordering::SeqCst) - 1 - after_opening);
            std::fs::remove_dir_all(into).unwrap();
            continue;
        }
        // A delete may be complete although its last call failed.
        let rows = Table::open_with(folder(&into), "table".into(), TableOptions::new().without_lock());
        let rows = lines(&rows.await.unwrap().read(Query::snapshot()).await.unwrap());
        let (before, gone) = (lines(&before), lines(&[gone]));
        let after: Vec<String> = before.iter().filter(|line| !gone.contains(line)).cloned().collect();
        assert!(rows == before || rows == after, "{name} died at call {calls}");
        std::fs::write(into.join("expected.jsonl"), rows.join("\n") + "\n").unwrap();
    }
}

async fn create(definition: TableDefinition, into: &Path) -> Table {
    std::fs::create_dir_all(into).unwrap();
    Table::create_with(folder(into), "table".into(), definition, repeatable()).await.unwrap()
}

/// Writes the expected rows of a table, and returns the instants that can be read.
async fn expect(table: &Table, into: &Path) -> Vec<Instant> {
    let write =
        |file: String, rows: Vec<String>| std::fs::write(into.join(file), rows.join("\n") + "\n").unwrap();
    write("expected.jsonl".to_owned(), lines(&table.read(Query::snapshot()).await.unwrap()));
    let mut instants = Vec::new();
    for entry in table.timeline().await.unwrap().completed_commits() {
        if let Ok(rows) = table.read(Query::as_of(entry.instant)).await {
            write(format!("expected.asof-{}.jsonl", entry.instant), lines(&rows));
            instants.push(entry.instant);
        }
    }
    instants
}
