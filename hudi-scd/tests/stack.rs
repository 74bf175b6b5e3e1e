//! The stack of operations: services poll them on worker threads of 2 MiB, in debug builds too, and below futures of
//! their own.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::SchemaRef,
};
use hudi_scd::{
    Predicate, Query, RetentionPolicy, SourceFile, Table, TableDefinition,
    scd::{Scd2, Scd2Table},
};
use object_store::ObjectStore;

/// Half of the stack that a thread of tokio has by default.
const STACK: usize = 1024 * 1024;

fn rows(ids: std::ops::Range<i64>, at: i64) -> RecordBatch {
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(Int64Array::from_iter_values(ids.clone()))),
        ("part", Arc::new(StringArray::from_iter_values(ids.clone().map(|id| format!("p{}", id % 3))))),
        ("at", Arc::new(Int64Array::from_iter_values(ids.map(|_| at)))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .unwrap()
}

fn schema() -> SchemaRef {
    rows(0..0, 0).schema()
}

/// Runs the operations of tables on a thread with a small stack.
fn on_small_stack(store: impl FnOnce() -> Arc<dyn ObjectStore> + Send + 'static) {
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_stack_size(STACK)
            .build()
            .unwrap();
        runtime.block_on(operations(store()));
    };
    std::thread::Builder::new().stack_size(STACK).spawn(work).unwrap().join().unwrap();
}

async fn operations(store: Arc<dyn ObjectStore>) {
    let options = || common::repeatable().with_retention(RetentionPolicy::commits(1));
    let definition =
        TableDefinition::new("t", schema(), ["id"]).with_ordering_field("at").with_partition_fields(["part"]);
    let table = Table::create_with(store.clone(), "t".into(), definition, options()).await.unwrap();
    table.bulk_insert(&[rows(0..30, 1)]).await.unwrap();
    for at in 2..5 {
        assert_eq!(table.upsert(&[rows(0..40, at)]).await.unwrap().updated, if at == 2 { 30 } else { 40 });
    }
    table.insert_overwrite(&[rows(0..40, 6)]).await.unwrap();
    table.delete(&[rows(39..40, 0)]).await.unwrap();
    table
        .take_in(&[SourceFile::new("a", "1")], |_| futures::stream::iter([Ok(rows(50..51, 1))]))
        .await
        .unwrap();
    let query = Query::snapshot().with_predicate(Predicate::less("id", 10));
    assert_eq!(table.read(query).await.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 10);
    table.clean().await.unwrap();
    table.archive().await.unwrap();
    let latest = table.timeline().await.unwrap().latest_commit().unwrap();
    table.savepoint(latest, "me", "").await.unwrap();
    table.delete_savepoint(latest).await.unwrap();
    table.rollback(latest).await.unwrap();
    assert_eq!(table.validate().await.unwrap(), []);

    let definition = Scd2Table::definition_of("h", &Scd2::new(["id"], "at"), &schema()).unwrap();
    // The second change is larger than an eighth of the budget.
    let options = options().with_memory_budget(32 * 1024);
    let history = Scd2Table::create_with(store, "h".into(), definition, options).await.unwrap();
    history.apply(&[rows(0..40, 1)]).await.unwrap();
    let report = history.apply(&[rows(0..1_000, 2), rows(0..1_000, 3)]).await.unwrap();
    assert_eq!(report.counts.keys, 1_000);
    history.table().clean().await.unwrap();
    assert_eq!(history.history(&rows(7..8, 0)).await.unwrap().num_rows(), 1);
}

#[test]
fn operations_on_remote_storage_need_less_than_a_mebibyte_of_stack() {
    on_small_stack(common::memory);
}

#[test]
fn operations_on_a_local_disk_need_less_than_a_mebibyte_of_stack() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    on_small_stack(move || common::folder(&path));
}
