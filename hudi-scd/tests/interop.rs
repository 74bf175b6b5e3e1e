//! Tables for other engines: `scripts/` pass the folder to them and compare.
//!
//! For each table: `table/` and the expected rows: `expected.jsonl`, and `expected.asof-{instant}.jsonl` for
//! each readable commit. Those that repeat Spark's batches also have `about.json` (schema, key, ordering,
//! partition, instants).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use common::{Golden, batch, folder, lines, mortal::Mortal, repeatable, schema};
use hudi_scd::{
    Query, RetentionPolicy, Table, TableDefinition, TableOptions, TimestampPartition, TimestampType,
    scd::{Scd2, Scd2Table},
    timeline::Instant,
};
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
    dead_write(&into.join("dead-write")).await;
    for name in ["mdt-files-0.15", "mdt-unpartitioned-0.14", "mdt-files-1.0-v6", "old-0.12"] {
        dead_writes_beside_a_metadata_table(name, &into.join("died")).await;
    }
}

/// Writes the batches of a golden table, including the deletions, with two retained commits if Spark's copy
/// retained two.
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

/// Writes a column of each type, nested ones too.
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

/// Writes a history of type 2 with late changes, and with deletes that close nothing.
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

/// Writes a table whose last write died before its commit: its base file is there, its rows are not.
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

/// Writes copies of a table of Spark that has a metadata table. In each copy a delete died at another storage
/// call: a sample of all calls, every second one after it took effect.
async fn dead_writes_beside_a_metadata_table(name: &str, into: &Path) {
    const COPIES: i64 = 12;
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/tables/{name}.tar.gz"));
    // The first death is at the first call after the table was opened, the last one at the last call.
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
        // A delete may be complete though its last call failed.
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
