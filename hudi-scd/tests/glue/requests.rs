//! Counts requests.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use hudi_scd::{
    ErrorKind, Table, TableDefinition, arrow,
    glue::{self, SyncOptions},
    object_store::{ObjectStoreExt, memory::InMemory},
};

use crate::service::Service;

fn rows(schema: &Arc<Schema>, ids: impl Iterator<Item = i64> + Clone) -> RecordBatch {
    let regions = StringArray::from_iter_values(ids.clone().map(|id| format!("r{id}")));
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(ids)), Arc::new(regions)];
    RecordBatch::try_new(schema.clone(), columns).unwrap()
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("region", DataType::Utf8, false),
    ]))
}

async fn table(store: Arc<InMemory>) -> Table {
    let definition = TableDefinition::new("orders", schema(), ["id"]).with_partition_fields(["region"]);
    Table::create(store, "orders".into(), definition).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_sync_costs_what_it_changes() {
    let schema = schema();
    let table = table(Arc::new(InMemory::new())).await;
    table.bulk_insert(&[rows(&schema, 0..450)]).await.unwrap();
    let service = Service::default();
    let options = SyncOptions::new("lake", "s3://bucket/orders");

    let report = glue::sync(&table, &service.glue, &options).await.unwrap();
    assert_eq!(report.partitions_created, 450);
    let mut expected = vec!["GetTable", "GetDatabase", "CreateDatabase", "CreateTable"];
    expected.extend(["BatchCreatePartition"; 5]);
    expected.extend(["UpdateTable", "GetTable"]);
    assert_eq!(service.calls(), expected);

    assert!(glue::sync(&table, &service.glue, &options).await.unwrap().is_unchanged());
    assert_eq!(service.calls(), ["GetTable"]);

    table.upsert(&[rows(&schema, 450..451)]).await.unwrap();
    let report = glue::sync(&table, &service.glue, &options).await.unwrap();
    assert_eq!(report.to_string().lines().next().unwrap(), "lake.orders was updated, 1 partition created");
    assert_eq!(
        service.calls(),
        ["GetTable", "BatchGetPartition", "BatchCreatePartition", "UpdateTable", "GetTable"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_plan_sends_no_request_and_can_be_applied_once() {
    let schema = schema();
    let table = table(Arc::new(InMemory::new())).await;
    table.bulk_insert(&[rows(&schema, 0..3)]).await.unwrap();
    let service = Service::default();
    let options = SyncOptions::new("lake", "s3://bucket/orders");
    let reading = glue::read(&table, &service.glue, &options).await.unwrap();
    assert_eq!(service.calls(), ["GetTable"]);
    let plan = reading.plan().unwrap();
    assert_eq!(plan.to_string(), reading.plan().unwrap().to_string());
    assert_eq!(service.calls(), [""; 0]);

    let report = plan.apply(&service.glue).await.unwrap();
    assert_eq!((report.created, report.partitions_created, report.attempts), (true, 3, 1));
    let again = plan.apply(&service.glue).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict, "{again}");
    let rest = glue::read(&table, &service.glue, &options).await.unwrap().plan().unwrap();
    assert!(rest.is_empty(), "{rest}");
}

#[tokio::test(start_paused = true)]
async fn a_registration_without_a_name_is_refused_before_any_request() {
    let table = table(Arc::new(InMemory::new())).await;
    let service = Service::default();
    let long = "t".repeat(256);
    for (database, name) in [("", "orders"), ("lake", ""), ("lake", "a\nb"), ("lake", long.as_str())] {
        let options = SyncOptions::new(database, "s3://bucket/orders").with_table(name);
        let error = glue::sync(&table, &service.glue, &options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidDefinition, "{error}");
        assert_eq!(service.calls(), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn all_pages_of_a_listing_are_read() {
    let schema = schema();
    let table = table(Arc::new(InMemory::new())).await;
    table.bulk_insert(&[rows(&schema, 0..450)]).await.unwrap();
    let service = Service::default();
    let options = SyncOptions::new("lake", "s3://bucket/orders");
    glue::sync(&table, &service.glue, &options).await.unwrap();
    service.calls();
    assert!(glue::check(&table, &service.glue, &options).await.unwrap().is_empty());
    assert_eq!(
        service.calls(),
        ["GetTable", "GetPartitions", "GetPartitions", "GetPartitions", "GetPartitions", "GetPartitions"]
    );
}

/// Fills a table up to a number of partitions, with partitions that have a metadata file and no rows.
async fn fill(store: &InMemory, partitions: usize) {
    for number in 1..partitions {
        let path = format!("orders/region=p{number}/.hoodie_partition_metadata").into();
        let text = "commitTime=20260301000000000\npartitionDepth=1\n";
        store.put(&path, text.into()).await.unwrap();
    }
}

/// Counts calls by name.
fn counted(calls: Vec<&'static str>) -> BTreeMap<&'static str, usize> {
    calls.into_iter().fold(BTreeMap::new(), |mut counts, call| {
        *counts.entry(call).or_default() += 1;
        counts
    })
}

#[tokio::test(start_paused = true)]
async fn requests_follow_the_changes_and_not_the_size_of_the_table() {
    let options = SyncOptions::new("lake", "s3://bucket/orders");
    for partitions in [10_000, 100_000] {
        let store = Arc::new(InMemory::new());
        let table = table(store.clone()).await;
        table.bulk_insert(&[rows(&schema(), 0..1)]).await.unwrap();
        fill(&store, partitions).await;
        let table = Table::open(store, "orders".into()).await.unwrap();
        let service = Service::default();

        let report = glue::sync(&table, &service.glue, &options).await.unwrap();
        assert_eq!(report.partitions_created, partitions);
        let first = counted(service.calls());
        assert_eq!(first["BatchCreatePartition"], partitions / 100);
        assert_eq!(first.values().sum::<usize>(), partitions / 100 + 6, "{first:?}");

        table.bulk_insert(&[rows(&schema(), 1..2)]).await.unwrap();
        let report = glue::sync(&table, &service.glue, &options).await.unwrap();
        assert_eq!((report.partitions_created, service.calls().len()), (1, 5));

        assert!(glue::sync(&table, &service.glue, &options).await.unwrap().is_unchanged());
        assert_eq!(service.calls().len(), 1);
    }
}
