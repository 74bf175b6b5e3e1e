//! Syncs during which another sync runs, or a call fails at one place.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use async_trait::async_trait;
use hudi_scd::{
    Table, TableDefinition, arrow,
    glue::{
        self, Catalog, CatalogError, CatalogErrorKind, GlueCatalog, PartitionFailure, SyncOptions,
        aws_sdk_glue::types::{Partition, PartitionInput, Table as CatalogTable, TableInput},
    },
    object_store::memory::InMemory,
};
use serde_json::json;

use crate::service::Service;

/// Work that runs before a call. The call fails if the work returns an error.
type Work<'a> = Pin<Box<dyn Future<Output = Result<(), CatalogError>> + Send + 'a>>;

/// A catalog that runs work before the first call of one name.
struct Interrupted<'a> {
    glue: &'a GlueCatalog,
    work: Mutex<Option<(&'static str, Work<'a>)>>,
}

impl<'a> Interrupted<'a> {
    fn new(
        glue: &'a GlueCatalog,
        call: &'static str,
        work: impl Future<Output = Result<(), CatalogError>> + Send + 'a,
    ) -> Self {
        Self { glue, work: Mutex::new(Some((call, Box::pin(work)))) }
    }

    async fn before(&self, call: &'static str) -> Result<&GlueCatalog, CatalogError> {
        let work = self.work.lock().unwrap().take_if(|(name, _)| *name == call);
        if let Some((_, work)) = work {
            work.await?;
        }
        Ok(self.glue)
    }
}

#[async_trait]
impl Catalog for Interrupted<'_> {
    async fn table(&self, database: &str, table: &str) -> Result<Option<CatalogTable>, CatalogError> {
        self.before("table").await?.table(database, table).await
    }

    async fn ensure_database(&self, database: &str) -> Result<(), CatalogError> {
        self.before("ensure_database").await?.ensure_database(database).await
    }

    async fn create_table(&self, database: &str, table: TableInput) -> Result<(), CatalogError> {
        self.before("create_table").await?.create_table(database, table).await
    }

    async fn update_table(
        &self,
        database: &str,
        table: TableInput,
        version: Option<&str>,
        archive: bool,
    ) -> Result<(), CatalogError> {
        self.before("update_table").await?.update_table(database, table, version, archive).await
    }

    async fn delete_table(&self, database: &str, table: &str) -> Result<(), CatalogError> {
        self.before("delete_table").await?.delete_table(database, table).await
    }

    async fn partitions(&self, database: &str, table: &str) -> Result<Vec<Partition>, CatalogError> {
        self.before("partitions").await?.partitions(database, table).await
    }

    async fn partitions_with(
        &self,
        database: &str,
        table: &str,
        values: &[Vec<String>],
    ) -> Result<Vec<Partition>, CatalogError> {
        self.before("partitions_with").await?.partitions_with(database, table, values).await
    }

    async fn create_partitions(
        &self,
        database: &str,
        table: &str,
        partitions: &[PartitionInput],
    ) -> Result<Vec<PartitionFailure>, CatalogError> {
        self.before("create_partitions").await?.create_partitions(database, table, partitions).await
    }

    async fn update_partitions(
        &self,
        database: &str,
        table: &str,
        partitions: &[PartitionInput],
    ) -> Result<Vec<PartitionFailure>, CatalogError> {
        self.before("update_partitions").await?.update_partitions(database, table, partitions).await
    }

    async fn delete_partitions(
        &self,
        database: &str,
        table: &str,
        values: &[Vec<String>],
    ) -> Result<Vec<PartitionFailure>, CatalogError> {
        self.before("delete_partitions").await?.delete_partitions(database, table, values).await
    }
}

fn rows(id: i64, region: &str) -> RecordBatch {
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(vec![id])), Arc::new(StringArray::from(vec![region]))];
    let fields = vec![Field::new("id", DataType::Int64, false), Field::new("region", DataType::Utf8, false)];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// Creates a table with the partitions `eu` and `us`, and registers it.
async fn registered(service: &Service) -> (Table, SyncOptions) {
    let definition = TableDefinition::new("orders", rows(0, "").schema(), ["id"]);
    let definition = definition.with_partition_fields(["region"]);
    let table = Table::create(Arc::new(InMemory::new()), "orders".into(), definition).await.unwrap();
    table.upsert(&[rows(1, "eu"), rows(2, "us")]).await.unwrap();
    let options = SyncOptions::new("lake", "s3://bucket/orders");
    glue::sync(&table, &service.glue, &options).await.unwrap();
    (table, options)
}

/// The slower sync dropped the partition after the faster one had recorded the commit that wrote it again. No
/// later sync compared that commit.
#[tokio::test(start_paused = true)]
async fn a_partition_that_is_written_during_its_drop_stays() {
    for incremental in [true, false] {
        let service = Service::default();
        let (table, options) = registered(&service).await;
        table.delete_partitions(["region=eu"]).await.unwrap();
        let options = options.with_incremental(incremental);
        let faster = async {
            table.upsert(&[rows(3, "eu")]).await.unwrap();
            glue::sync(&table, &service.glue, &options).await.unwrap();
            Ok(())
        };
        let catalog = Interrupted::new(&service.glue, "delete_partitions", faster);
        let report = glue::sync(&table, &catalog, &options).await.unwrap();
        assert_eq!(report.attempts, 2);
        assert_eq!(service.partitions().concat(), ["eu", "us"], "incremental: {incremental}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_dropped_during_its_creation_is_dropped() {
    let service = Service::default();
    let (table, options) = registered(&service).await;
    table.upsert(&[rows(3, "ap")]).await.unwrap();
    let faster = async {
        table.delete_partitions(["region=ap"]).await.unwrap();
        glue::sync(&table, &service.glue, &options).await.unwrap();
        Ok(())
    };
    let catalog = Interrupted::new(&service.glue, "create_partitions", faster);
    glue::sync(&table, &catalog, &options).await.unwrap();
    assert_eq!(service.partitions().concat(), ["eu", "us"]);
}

/// A repair changes no description, so the service rejects none of its calls.
#[tokio::test(start_paused = true)]
async fn a_partition_that_is_written_during_a_repair_stays() {
    let service = Service::default();
    let (table, options) = registered(&service).await;
    let stale = service.entry().partitions;
    table.delete_partitions(["region=eu"]).await.unwrap();
    glue::sync(&table, &service.glue, &options).await.unwrap();
    service.state().tables.get_mut("orders").unwrap().partitions = stale;
    let faster = async {
        table.upsert(&[rows(3, "eu")]).await.unwrap();
        glue::sync(&table, &service.glue, &options).await.unwrap();
        Ok(())
    };
    let catalog = Interrupted::new(&service.glue, "delete_partitions", faster);
    glue::sync(&table, &catalog, &options.clone().with_incremental(false)).await.unwrap();
    assert_eq!(service.partitions().concat(), ["eu", "us"]);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_another_sync_adds_during_a_repair_stays() {
    for call in ["partitions", "delete_partitions"] {
        let service = Service::default();
        let (table, options) = registered(&service).await;
        let unknown = vec!["xx".to_owned()];
        let entry = json!({ "Values": unknown });
        service.state().tables.get_mut("orders").unwrap().partitions.insert(unknown, entry);
        let faster = async {
            table.upsert(&[rows(3, "ap")]).await.unwrap();
            glue::sync(&table, &service.glue, &options).await.unwrap();
            Ok(())
        };
        let catalog = Interrupted::new(&service.glue, call, faster);
        glue::sync(&table, &catalog, &options.clone().with_incremental(false)).await.unwrap();
        assert_eq!(service.partitions().concat(), ["ap", "eu", "us"], "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_takeover_that_is_repeated_keeps_the_description() {
    let service = Service::default();
    let (table, options) = registered(&service).await;
    service.change(|table| {
        table["Description"] = "Orders of the shop".into();
        table["Owner"] = "data".into();
        table["Retention"] = 7.into();
        table["PartitionKeys"] = json!([{ "Name": "partition_0", "Type": "string" }]);
    });
    let throttled =
        async { Err(CatalogError::new(CatalogErrorKind::Transient, "CreateTable", "Rate exceeded")) };
    let catalog = Interrupted::new(&service.glue, "create_table", throttled);
    let report = glue::sync(&table, &catalog, &options.with_takeover(true)).await.unwrap();
    assert_eq!((report.created, report.attempts), (true, 2));
    let entry = service.entry().table;
    assert_eq!((&entry["Description"], &entry["Owner"]), (&"Orders of the shop".into(), &"data".into()));
    assert_eq!(entry["Retention"], 7);
}
