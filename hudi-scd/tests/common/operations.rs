//! All operations on a table, by name, for tests that interrupt them.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use futures::stream;
use hudi_scd::{Instant, Query, Result, RetentionPolicy, Table, TableDefinition, TableOptions};
use object_store::ObjectStore;

use super::{batch, lines, schema};

/// Operations that change rows.
pub const WRITES: [&str; 10] = [
    "upsert",
    "upsert_stream",
    "insert",
    "bulk_insert",
    "delete",
    "insert_overwrite",
    "insert_overwrite_table",
    "delete_partitions",
    "rollback",
    "upsert_clean_archive",
];

/// Operations that leave the rows unchanged.
pub const UPKEEP: [&str; 4] = ["clean", "archive", "savepoint", "delete_savepoint"];

const COMMITS: i32 = 8;
/// Index of the protected commit.
const SAVED: usize = 5;

fn columns() -> SchemaRef {
    schema("id int, day date, at int, _hoodie_is_deleted boolean")
}

fn row(id: i32, at: i32, deleted: bool) -> String {
    let day = 1 + (id + at) % 2;
    format!(r#"{{"id":{id},"day":"2025-01-0{day}","at":{at},"_hoodie_is_deleted":{deleted}}}"#)
}

/// Returns the rows of a commit. Some are updated, some move, and occasionally one is deleted.
pub fn rows(at: i32) -> RecordBatch {
    let rows = [row(1, at, false), row(2, at, false), row(10 + at, at, false), row(9 + at, at, at % 3 == 0)];
    batch(&columns(), &rows.join("\n"))
}

/// Creates a table `t` with moves and deletes, versions to clean, actions to archive, and a savepoint.
pub async fn with_history(store: &Arc<dyn ObjectStore>, options: TableOptions) -> Table {
    let definition =
        TableDefinition::new("t", columns(), ["id"]).with_ordering_field("at").with_partition_fields(["day"]);
    let options = options.without_automatic_clean().without_automatic_archive();
    let table = Table::create_with(store.clone(), "t".into(), definition, options).await.unwrap();
    for at in 0..COMMITS {
        table.upsert(&[rows(at)]).await.unwrap();
    }
    let saved = commits(&table).await.unwrap()[SAVED];
    table.savepoint(saved, "test", "").await.unwrap();
    table
}

async fn commits(table: &Table) -> Result<Vec<Instant>> {
    Ok(table.timeline().await?.completed_commits().map(|entry| entry.instant).collect())
}

pub async fn read(table: &Table) -> Vec<String> {
    lines(&table.read(Query::snapshot().with_columns(["id", "day", "at"])).await.unwrap())
}

/// Returns options with which the operation has something to do.
pub fn options_for(operation: &str, options: TableOptions) -> TableOptions {
    let limits = hudi_scd::timeline::archive::ArchiveLimits { keep_min: 4, keep_max: 5 };
    let policy = RetentionPolicy::commits(2);
    match operation {
        "upsert_clean_archive" => options.with_retention(policy).with_archive_limits(limits),
        "clean" => options.with_retention(policy).without_automatic_archive(),
        "archive" => options.without_automatic_clean().with_archive_limits(limits),
        // Small enough that rows are spilled to the disk, run by run.
        "upsert_stream" => {
            options.without_automatic_clean().without_automatic_archive().with_memory_budget(1)
        }
        _ => options.without_automatic_clean().without_automatic_archive(),
    }
}

/// Runs an operation on the table of [`with_history`].
pub async fn carry_out(operation: &str, table: &Table) -> Result<()> {
    match operation {
        "upsert" | "upsert_clean_archive" => table.upsert(&[rows(COMMITS)]).await.map(drop),
        "upsert_stream" => {
            let batches = [rows(COMMITS), rows(COMMITS + 1)];
            table.upsert_stream(stream::iter(batches.map(Ok))).await.map(drop)
        }
        "insert" => table.insert(&[rows(COMMITS)]).await.map(drop),
        "bulk_insert" => {
            let new = [row(101, 1, false), row(102, 1, false)];
            table.bulk_insert(&[batch(&columns(), &new.join("\n"))]).await.map(drop)
        }
        "delete" => {
            let keys = batch(&schema("id int"), "{\"id\":1}\n{\"id\":2}\n{\"id\":12}");
            table.delete(&[keys]).await.map(drop)
        }
        "insert_overwrite" => {
            let new = [row(1, 9, false), row(103, 9, false)];
            table.insert_overwrite(&[batch(&columns(), &new.join("\n"))]).await.map(drop)
        }
        "insert_overwrite_table" => table.insert_overwrite_table(&[rows(COMMITS)]).await.map(drop),
        "delete_partitions" => table.delete_partitions(["day=2025-01-01"]).await.map(drop),
        "rollback" => match commits(table).await?.get(COMMITS as usize - 1) {
            Some(latest) => table.rollback(*latest).await.map(drop),
            None => Ok(()),
        },
        "clean" => table.clean().await.map(drop),
        "archive" => table.archive().await.map(drop),
        "savepoint" => table.savepoint(commits(table).await?[SAVED + 1], "test", "").await.map(drop),
        "delete_savepoint" => table.delete_savepoint(commits(table).await?[SAVED]).await,
        other => panic!("no operation {other}"),
    }
}
