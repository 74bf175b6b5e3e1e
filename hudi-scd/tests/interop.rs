//! Tables for other engines to read: `scripts/` hand the folder to them and compare.
//!
//! For each table: `table/`, `about.json` (schema, key, ordering, partition, instants) and the rows that reading it
//! must give: `expected.jsonl`, and `expected.asof-{instant}.jsonl` for each readable commit.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::{Path, PathBuf};

use common::{Golden, folder, lines, repeatable};
use hudi_scd::{Query, RetentionPolicy, Table, TableDefinition};
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
        "singlecomplex-0.15",
    ] {
        replay(name, &into.join(name)).await;
    }
}

/// Writes the batches of a golden table, the deletions too, two commits retained where Spark's copy retained two.
async fn replay(name: &str, into: &Path) {
    let golden = Golden::unpack(name);
    let fields = |key: &str| -> Vec<String> {
        let named = golden.about[key].as_str().unwrap_or("");
        named.split(',').filter(|field| !field.is_empty()).map(str::to_owned).collect()
    };
    let retained = golden.about["write_args"]["retained"].as_u64().unwrap() as u32;
    std::fs::create_dir_all(into).unwrap();
    let into = into.canonicalize().unwrap();
    let definition = TableDefinition::new(name.replace('-', "_"), golden.schema(), fields("key"))
        .with_ordering_field(golden.about["ordering"].as_str().unwrap())
        .with_partition_fields(fields("partition"));
    let options = repeatable()
        .with_retention(RetentionPolicy::commits(retained))
        .with_base_url(into.join("table").to_string_lossy());
    let table = Table::create_with(folder(&into), "table".into(), definition, options).await.unwrap();
    for (operation, input) in golden.inputs() {
        let batch = golden.batch(&input);
        let done =
            if operation == "delete" { table.delete(&[batch]).await } else { table.upsert(&[batch]).await };
        done.unwrap();
    }
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
    let mut about = golden.about.clone();
    about["instants"] = json!(instants);
    std::fs::write(into.join("about.json"), about.to_string()).unwrap();
}

/// After another engine has written on: what it reads (`theirs.jsonl`) we read too, sound, and can write on.
#[tokio::test]
#[ignore = "reads the folder that HUDI_SCD_INTEROP_DIR names, after another engine has written to it"]
async fn reads_and_goes_on_with_what_other_engines_wrote() {
    let folders = PathBuf::from(std::env::var("HUDI_SCD_INTEROP_DIR").unwrap());
    for entry in std::fs::read_dir(folders).unwrap() {
        let of = entry.unwrap().path();
        if !of.join("theirs.jsonl").exists() {
            continue;
        }
        let table = Table::open(folder(&of), "table".into()).await.unwrap();
        let ours = lines(&table.read(Query::snapshot()).await.unwrap());
        let theirs = common::expected(&of.join("theirs.jsonl"));
        assert_eq!(common::as_spark_reads(ours.clone()), theirs, "{}", of.display());
        assert_eq!(table.validate().await.unwrap(), [], "{}", of.display());
        // The oldest row again, newer: for the other engine to see.
        let stored = table.read(Query::snapshot()).await.unwrap();
        let again = table.upsert(&stored).await.unwrap();
        assert_eq!(again.instant, None, "{}: {again}", of.display());
        let about: serde_json::Value =
            serde_json::from_slice(&std::fs::read(of.join("about.json")).unwrap()).unwrap();
        let schema = common::schema(about["schema"].as_str().unwrap());
        let mut row: serde_json::Value = serde_json::from_str(&ours[0]).unwrap();
        row[about["ordering"].as_str().unwrap()] = "2040-01-01T00:00:00.000000Z".into();
        let report = table.upsert(&[common::batch(&schema, &row.to_string())]).await.unwrap();
        assert_eq!(report.updated, 1, "{}: {report}", of.display());
        let rows = lines(&table.read(Query::snapshot()).await.unwrap());
        std::fs::write(of.join("expected.jsonl"), rows.join("\n") + "\n").unwrap();
        std::fs::remove_file(of.join("theirs.jsonl")).unwrap();
    }
}
