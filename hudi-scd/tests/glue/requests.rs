//! Numbers of requests.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use hudi_scd::{
    Table, TableDefinition, arrow,
    glue::{self, SyncOptions},
    object_store::memory::InMemory,
};

use crate::memory::MemoryCatalog;

fn rows(schema: &Arc<Schema>, ids: impl Iterator<Item = i64> + Clone) -> RecordBatch {
    let regions = StringArray::from_iter_values(ids.clone().map(|id| format!("r{id}")));
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(ids)), Arc::new(regions)];
    RecordBatch::try_new(schema.clone(), columns).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_sync_costs_what_it_changes() {
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("region", DataType::Utf8, false),
    ]));
    let definition = TableDefinition::new("orders", schema.clone(), ["id"]).with_partition_fields(["region"]);
    let table = Table::create(Arc::new(InMemory::new()), "orders".into(), definition).await.unwrap();
    table.bulk_insert(&[rows(&schema, 0..450)]).await.unwrap();
    let catalog = MemoryCatalog::default();
    let options = SyncOptions::new("lake", "s3://bucket/orders");

    let report = glue::sync(&table, &catalog, &options).await.unwrap();
    assert_eq!(report.partitions_created, 450);
    let mut expected = vec!["GetTable", "GetDatabase", "CreateTable"];
    expected.extend(["BatchCreatePartition"; 5]);
    expected.extend(["UpdateTable", "GetTable"]);
    assert_eq!(catalog.calls(), expected);

    assert!(glue::sync(&table, &catalog, &options).await.unwrap().is_unchanged());
    assert_eq!(catalog.calls(), ["GetTable"]);

    table.upsert(&[rows(&schema, 450..451)]).await.unwrap();
    let report = glue::sync(&table, &catalog, &options).await.unwrap();
    assert_eq!(report.to_string().lines().next().unwrap(), "lake.orders was updated, 1 partition created");
    assert_eq!(
        catalog.calls(),
        ["GetTable", "BatchGetPartition", "BatchCreatePartition", "UpdateTable", "GetTable"]
    );
}
