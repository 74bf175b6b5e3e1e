//! A sync after each write.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use async_trait::async_trait;
use futures::stream;
use hudi_scd::{
    Cancellation, CatalogSync, Result, SourceFile, Table, TableDefinition, TableOptions, arrow,
    glue::{self, GlueSync, SyncOptions},
    object_store::memory::InMemory,
    scd::{Scd2, Scd2Table},
};

use crate::service::Service;

fn rows(ids: impl IntoIterator<Item = i64>) -> RecordBatch {
    let ids: Vec<i64> = ids.into_iter().collect();
    let regions = StringArray::from_iter_values(ids.iter().map(|id| format!("r{id}")));
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(ids)), Arc::new(regions)];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("region", DataType::Utf8, false),
    ]))
}

fn definition() -> TableDefinition {
    TableDefinition::new("orders", schema(), ["id"]).with_partition_fields(["region"])
}

async fn table(store: &Arc<InMemory>, options: TableOptions) -> Table {
    Table::create_with(store.clone(), "orders".into(), definition(), options).await.unwrap()
}

fn names() -> SyncOptions {
    SyncOptions::new("lake", "s3://bucket/orders")
}

fn synced(service: &Service) -> TableOptions {
    TableOptions::new().with_catalog_sync(Arc::new(GlueSync::new(Arc::new(service.glue.clone()), names())))
}

#[tokio::test(start_paused = true)]
async fn the_catalog_follows_each_write() {
    let service = Service::default();
    let table = table(&Arc::default(), synced(&service)).await;
    let report = table.upsert(&[rows([1, 2])]).await.unwrap();
    assert_eq!(report.catalog_synced.as_deref(), Some("lake.orders was created, 2 partitions created"));
    table.delete_partitions(["region=r1"]).await.unwrap();
    assert_eq!(service.partitions().len(), 1);
    assert!(glue::check(&table, &service.glue, &names()).await.unwrap().is_empty());

    service.calls();
    let report = table.upsert(&[rows([2])]).await.unwrap();
    assert_eq!((report.instant, service.calls()), (None, vec!["GetTable"]));
}

#[tokio::test(start_paused = true)]
async fn the_catalog_follows_files_that_are_taken_in() {
    let service = Service::default();
    let table = table(&Arc::default(), synced(&service)).await;
    let files = [SourceFile::new("s3://bucket/raw/1.csv", "v1")];
    let intake = table.take_in(&files, |_| stream::iter([Ok(rows([1]))])).await.unwrap();
    assert_eq!(intake.report.catalog_synced.as_deref(), Some("lake.orders was created, 1 partition created"));
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_is_reported_and_made_up_for() {
    let service = Service::default();
    let table = table(&Arc::default(), synced(&service)).await;
    service.state().refusal = Some(("AccessDeniedException", "not authorized to perform glue:GetTable"));
    let report = table.upsert(&[rows([1])]).await.unwrap();
    assert!(report.instant.is_some() && report.catalog_synced.is_none());
    let [failed] = report.upkeep_failed.as_slice() else { panic!("{report:?}") };
    assert!(
        failed.starts_with("catalog: ") && failed.contains("GetTable failed: not authorized"),
        "{failed}"
    );

    // There is nothing left to commit, and the catalog is out of date.
    service.state().refusal = None;
    let report = table.upsert(&[rows([1])]).await.unwrap();
    assert_eq!((report.instant, report.upkeep_failed.len()), (None, 0));
    assert_eq!(service.partitions().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn catalogs_that_fail_at_random_never_fail_a_write_and_end_as_the_table_is() {
    let mut failed = 0;
    for seed in 0..100 {
        let service = Service::with_faults(seed);
        let table = table(&Arc::default(), synced(&service)).await;
        for id in 0..6 {
            let report = table.upsert(&[rows([id])]).await.unwrap();
            assert!(report.instant.is_some());
            failed += report.upkeep_failed.len();
        }
        service.stop_faults();
        table.upsert(&[rows([5])]).await.unwrap();
        let check = glue::check(&table, &service.glue, &names()).await.unwrap();
        assert!(check.is_empty(), "seed {seed}: {check}");
    }
    assert!((1..300).contains(&failed), "{failed}");
}

/// Writes to the table while the sync runs.
#[derive(Debug, Default)]
struct OtherWriter(Mutex<Option<Table>>);

#[async_trait]
impl CatalogSync for OtherWriter {
    async fn sync(&self, _: &Table) -> Result<String> {
        let other = self.0.lock().unwrap().take();
        if let Some(other) = other {
            other.upsert(&[rows([9])]).await?;
        }
        Ok("wrote".into())
    }
}

#[tokio::test(start_paused = true)]
async fn the_lock_is_released_before_the_sync() {
    let store = Arc::new(InMemory::new());
    let other = Arc::new(OtherWriter::default());
    let table = table(&store, TableOptions::new().with_catalog_sync(other.clone())).await;
    let brief = TableOptions::new().with_lock_wait(Duration::from_secs(1));
    *other.0.lock().unwrap() = Some(Table::open_with(store, "orders".into(), brief).await.unwrap());
    let report = table.upsert(&[rows([1])]).await.unwrap();
    assert_eq!((report.catalog_synced.as_deref(), report.upkeep_failed.len()), (Some("wrote"), 0));
}

#[tokio::test(start_paused = true)]
async fn a_catalog_that_does_not_answer_delays_a_write_by_the_limit() {
    let service = Service::default();
    service.state().is_silent = true;
    let sync = GlueSync::new(Arc::new(service.glue.clone()), names()).with_limit(Duration::from_secs(7));
    let cancellation = Cancellation::new();
    let options =
        TableOptions::new().with_catalog_sync(Arc::new(sync)).with_cancellation(cancellation.clone());
    let table = table(&Arc::default(), options).await;
    let report = table.upsert(&[rows([1])]).await.unwrap();
    assert_eq!(report.time.catalog, Duration::from_secs(7));
    assert!(report.upkeep_failed[0].contains("within the time limit"), "{report:?}");

    // A cancelled write does not wait for the sync.
    let write = async {
        let report = table.upsert(&[rows([2])]).await.unwrap();
        assert!(report.instant.is_some() && report.upkeep_failed[0].contains("cancelled"), "{report:?}");
        assert_eq!(report.time.catalog, Duration::from_secs(1));
    };
    let cancel = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        cancellation.cancel();
    };
    tokio::join!(write, cancel);
}

#[tokio::test(start_paused = true)]
async fn a_history_is_synchronized_too() {
    let service = Service::default();
    let scd = Scd2::new(["id"], "at");
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("at", DataType::Int64, false),
    ]));
    let definition = Scd2Table::definition_of("orders", &scd, &schema).unwrap();
    let table =
        Scd2Table::create_with(Arc::new(InMemory::new()), "orders".into(), definition, synced(&service));
    let column = |value: i64| Arc::new(Int64Array::from(vec![value])) as ArrayRef;
    let changes = RecordBatch::try_new(schema, vec![column(1), column(10)]).unwrap();
    let report = table.await.unwrap().apply(&[changes]).await.unwrap();
    assert_eq!(report.commit.catalog_synced.as_deref(), Some("lake.orders was created"));
}
