//! The lake: Hudi tables with the latest customers and addresses, which Spectrum could read, and the history
//! of the customers.
//!
//! Every write can be repeated: upserting rows that are already stored changes nothing and creates no commit.
//! A cycle that was interrupted by a crash is therefore simply applied again.

use std::{fs, path::Path as Directory, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use arrow::{array::RecordBatch, compute::concat_batches, datatypes::SchemaRef};
use hudi_scd::{
    ErrorKind, Query, Table, TableDefinition,
    scd::{At, Dimension, Lookup, Scd2, Scd2Table},
};
use object_store::{ObjectStore, local::LocalFileSystem, path::Path};
use tokio::time::Instant;

use crate::{
    changes::Cycle,
    model::Matches,
    record::{LookupRecord, TableRecord},
};

pub(crate) mod batch;

/// Number of retained commits. A table can be read as of any of them.
pub(crate) const COMMITS_RETAINED: usize = 10;
/// Maximum number of versions of a file group. Reading as of the oldest retained commit also needs the
/// version before it.
pub(crate) const VERSIONS_ALLOWED: u64 = COMMITS_RETAINED as u64 + 1;

/// The tables of the lake.
pub(crate) struct Lake {
    /// Latest rows by `customer_id`.
    pub(crate) customers: Table,
    /// Latest rows by `address_id`, partitioned by the day of their last change.
    pub(crate) addresses: Table,
    /// All states of each customer, with their validity intervals.
    pub(crate) history: Scd2Table,
}

impl Lake {
    /// Opens the tables in this directory. Creates missing tables.
    pub(crate) async fn open(dir: &Directory) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        let dir = dir.canonicalize()?;
        let store: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new());
        let customers = batch::customers(&[]);
        let addresses = batch::table_schema(&batch::addresses(&[]));
        Ok(Self {
            customers: open(&store, &dir, "store_customer", &batch::table_schema(&customers), |definition| {
                definition(&["customer_id"]).with_ordering_field("customer_datetime")
            })
            .await?,
            addresses: open(&store, &dir, "store_customer_address", &addresses, |definition| {
                definition(&["address_id"])
                    .with_ordering_field("address_datetime")
                    .with_partition_fields(["address_date"])
            })
            .await?,
            history: open_history(&store, &dir, "store_customer_history", &customers.schema()).await?,
        })
    }

    /// Applies a cycle's changes to the tables.
    pub(crate) async fn apply(&self, cycle: &Cycle) -> Result<Vec<TableRecord>> {
        let customers = batch::customers(&cycle.customers);
        let mut records = Vec::new();
        for (table, rows) in
            [(&self.customers, &customers), (&self.addresses, &batch::addresses(&cycle.addresses))]
        {
            let begun = Instant::now();
            let report = table
                .upsert(std::slice::from_ref(rows))
                .await
                .with_context(|| format!("upsert into {}", table.name()))?;
            let changed = report.inserted + report.updated + report.moved + report.deleted;
            records.push(record(table, changed, begun).await?);
        }
        let begun = Instant::now();
        let report = self.history.apply(&[customers]).await.context("updating the customers' history")?;
        let changed = report.commit.inserted + report.commit.updated + report.commit.deleted;
        records.push(record(self.history.table(), changed, begun).await?);
        Ok(records)
    }

    /// Looks up two customer rows for each new sale: the latest one, and the one that was valid at the time
    /// of the sale.
    pub(crate) async fn look_up(&self, cycle: &Cycle) -> Result<LookupRecord> {
        let sales = batch::sales(&cycle.sales);
        let (latest, latest_took) = best(|| self.latest(&sales)).await?;
        let (as_of_sale, as_of_sale_took) = best(|| self.as_of_sale(&sales)).await?;
        let matched = |lookup: &Lookup| (lookup.matched.len() - lookup.unmatched()) as u64;
        let matches = Matches {
            sales: cycle.sales.len() as u64,
            latest: matched(&latest),
            as_of_sale: matched(&as_of_sale),
        };
        Ok(LookupRecord { matches, latest: latest_took, as_of_sale: as_of_sale_took })
    }

    async fn latest(&self, sales: &RecordBatch) -> Result<Lookup> {
        let columns = ["customer_id", "first_name", "last_name", "email", "address_id"];
        let rows = one(self.customers.read(Query::snapshot().with_columns(columns)).await?)?;
        Ok(Dimension::latest(&rows, &["customer_id"])?.lookup(sales, &["customer_id"], At::Latest)?)
    }

    /// Joins each sale with the customer row that was valid at the time of the sale.
    pub(crate) async fn as_of_sale(&self, sales: &RecordBatch) -> Result<Lookup> {
        Ok(self.history.dimension().await?.lookup(sales, &["customer_id"], At::Column("sold_at"))?)
    }

    /// Returns all tables.
    pub(crate) fn tables(&self) -> [&Table; 3] {
        [&self.customers, &self.addresses, self.history.table()]
    }
}

/// Number of runs of each lookup. The best time is reported, to exclude other load on the machine.
pub(crate) const LOOKUP_RUNS: u32 = 3;

async fn best<T>(mut run: impl AsyncFnMut() -> Result<T>) -> Result<(T, Duration)> {
    let mut least = Duration::MAX;
    for _ in 1..LOOKUP_RUNS {
        let begun = Instant::now();
        run().await?;
        least = least.min(begun.elapsed());
    }
    let begun = Instant::now();
    let value = run().await?;
    Ok((value, least.min(begun.elapsed())))
}

async fn open(
    store: &Arc<dyn ObjectStore>,
    dir: &Directory,
    name: &'static str,
    schema: &SchemaRef,
    define: impl FnOnce(&dyn Fn(&[&str]) -> TableDefinition) -> TableDefinition,
) -> Result<Table> {
    let path = dir.join(name);
    fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
    let root = Path::from_absolute_path(&path)?;
    let opened = match Table::open(store.clone(), root.clone()).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let definition = define(&|key| TableDefinition::new(name, schema.clone(), key.iter().copied()));
            Table::create(store.clone(), root, definition).await
        }
        opened => opened,
    };
    opened.with_context(|| format!("opening the Hudi table {}", path.display()))
}

async fn open_history(
    store: &Arc<dyn ObjectStore>,
    dir: &Directory,
    name: &'static str,
    changes: &SchemaRef,
) -> Result<Scd2Table> {
    let path = dir.join(name);
    fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
    let root = Path::from_absolute_path(&path)?;
    let opened = match Scd2Table::open(store.clone(), root.clone()).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let scd = Scd2::new(["customer_id"], "customer_datetime").track(["is_preferred", "address_id"]);
            let definition = Scd2Table::definition_of(name, &scd, changes)?;
            Scd2Table::create(store.clone(), root, definition).await
        }
        opened => opened,
    };
    opened.with_context(|| format!("opening the Hudi table {}", path.display()))
}

async fn record(table: &Table, changed: u64, begun: Instant) -> Result<TableRecord> {
    let elapsed = begun.elapsed();
    let timeline = table.timeline().await?;
    let groups = table.file_groups().await?;
    let versions = || groups.iter().flat_map(|group| &group.versions);
    Ok(TableRecord {
        name: table.name().to_owned(),
        instant: timeline.latest_commit().map(|instant| instant.to_string()).unwrap_or_default(),
        changed,
        file_groups: groups.len() as u64,
        versions: groups.iter().map(|group| group.versions.len() as u64).max().unwrap_or(0),
        bytes: versions().map(|version| version.bytes).sum(),
        elapsed,
    })
}

/// Concatenates the batches that a read returned. A read returns at least one batch.
fn one(batches: Vec<RecordBatch>) -> Result<RecordBatch> {
    let first = batches.first().context("a read returned no batch")?;
    Ok(concat_batches(first.schema_ref(), &batches)?)
}
