//! The lake: Hudi tables with the latest customers and addresses, which Spectrum could read, and the history
//! of the customers. They are on disk or on S3, there with an entry in a catalog if there is one.
//!
//! The tables take in the raw files of each cycle, in steps of the pipeline. Every write can be repeated: a
//! table takes in each file once, and upserting rows that are already stored changes nothing and creates no
//! commit.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use arrow::{array::RecordBatch, compute::concat_batches, datatypes::SchemaRef};
use hudi_scd::{
    CommitReport, ErrorKind, Query, Table, TableDefinition,
    scd::{At, Dimension, Lookup, Scd2, Scd2Table},
};
use tokio::time::Instant;

use crate::{
    catalog::Catalog,
    changes::Cycle,
    model::Matches,
    options::Options,
    record::{CatalogRecord, LookupRecord, TableRecord},
    run_dir::RunDir,
};

pub(crate) mod batch;
mod place;
mod raw;
#[cfg(feature = "aws")]
mod s3;
#[cfg(not(feature = "aws"))]
mod s3 {
    pub(super) async fn place(_: &super::S3Folder, _: &str) -> anyhow::Result<super::Place> {
        anyhow::bail!(crate::catalog::WITHOUT_AWS)
    }
}

pub(crate) mod steps;

pub(crate) use place::{Place, S3Folder, endpoint};

/// Names of the tables.
const CUSTOMERS: &str = "store_customer";
const ADDRESSES: &str = "store_customer_address";
const HISTORY: &str = "store_customer_history";

/// Number of retained commits. A table can be read as of any of them.
pub(crate) const COMMITS_RETAINED: usize = 10;
/// Maximum number of versions of a file group. Reading as of the oldest retained commit also needs the
/// version before it.
pub(crate) const VERSIONS_ALLOWED: u64 = COMMITS_RETAINED as u64 + 1;

/// The tables of the lake.
pub(crate) struct Lake {
    pub(crate) place: Place,
    pub(crate) catalog: Option<Catalog>,
    /// Latest rows by `customer_id`.
    pub(crate) customers: Table,
    /// Latest rows by `address_id`, partitioned by the day of their last change.
    pub(crate) addresses: Table,
    /// All states of each customer, with their validity intervals.
    pub(crate) history: Scd2Table,
    /// Writes of steps in the current cycle, by table.
    written: Mutex<BTreeMap<String, Written>>,
}

impl Lake {
    /// Opens the tables of a run. Creates missing tables.
    pub(crate) async fn open(options: &Options, dir: &RunDir) -> Result<Self> {
        let run_id = &dir.manifest.run_id;
        let place = match &options.s3 {
            Some(s3) => s3::place(s3, run_id).await?,
            None => Place::on_disk(&dir.file("lake"))?,
        };
        let catalog = match &options.glue_endpoint {
            Some(endpoint) => {
                let catalog = Catalog::connect(endpoint, run_id).await?;
                // The tables are excluded before their first file is written.
                catalog.exclude(&place.folder(), &[CUSTOMERS, ADDRESSES, HISTORY]).await?;
                Some(catalog)
            }
            None => None,
        };
        let opening = Opening { place: &place, catalog: catalog.as_ref() };
        let customers = batch::customers(&[]);
        Ok(Self {
            customers: opening.customers(&batch::table_schema(&customers)).await?,
            addresses: opening.addresses(&batch::table_schema(&batch::addresses(&[]))).await?,
            history: opening.history(&customers.schema()).await?,
            place,
            catalog,
            written: Mutex::default(),
        })
    }

    /// Stores the raw files of a cycle, which the Hudi steps of the pipeline take in.
    pub(crate) async fn land(&self, cycle: &Cycle) -> Result<()> {
        raw::land(&self.place, cycle).await.context("storing the raw files of a cycle")
    }

    /// Takes raw files in by a table, each once.
    pub(crate) async fn take_in(&self, table: &str, files: &[String]) -> Result<()> {
        let (begun, files) = (Instant::now(), raw::described(files));
        let rows = |new| raw::rows(self.place.clone(), new);
        let report = match table {
            HISTORY => self.history.take_in(&files, rows).await?.report.commit,
            _ => self.table(table)?.take_in(&files, rows).await?.report,
        };
        let written = Written::by(self.table(table)?, &report, begun).await?;
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(table.to_owned(), written);
        Ok(())
    }

    /// Returns a table by its name.
    fn table(&self, name: &str) -> Result<&Table> {
        let found = self.tables().into_iter().find(|table| table.name() == name);
        found.with_context(|| {
            format!("there is no Hudi table {name}; the lake has {CUSTOMERS}, {ADDRESSES}, {HISTORY}")
        })
    }

    /// Returns the records of a cycle's writes. Changes that no step of this process took in are applied, for
    /// pipelines without Hudi steps. If an earlier process took them in, this changes nothing.
    pub(crate) async fn finish(&self, cycle: &Cycle) -> Result<(Vec<TableRecord>, Option<CatalogRecord>)> {
        let (mut tables, mut catalog) = (Vec::new(), CatalogRecord::default());
        for table in [CUSTOMERS, ADDRESSES, HISTORY] {
            let written = self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(table);
            let written = match written {
                Some(written) => written,
                None => self.apply(table, cycle).await?,
            };
            tables.push(written.table);
            catalog.merge(&written.synced);
        }
        Ok((tables, self.catalog.is_some().then_some(catalog)))
    }

    /// Applies a cycle's changes to a table.
    async fn apply(&self, table: &str, cycle: &Cycle) -> Result<Written> {
        let begun = Instant::now();
        let rows = match table {
            ADDRESSES => batch::addresses(&cycle.addresses),
            _ => batch::customers(&cycle.customers),
        };
        let report = match table {
            HISTORY => self.history.apply(&[rows]).await.map(|report| report.commit),
            _ => self.table(table)?.upsert(&[rows]).await,
        };
        let report = report.with_context(|| format!("writing to {table}"))?;
        Written::by(self.table(table)?, &report, begun).await
    }

    /// Makes up for syncs of the catalog that have failed.
    pub(crate) async fn sync_catalog(&self) -> Result<()> {
        let Some(catalog) = &self.catalog else { return Ok(()) };
        for table in self.tables() {
            catalog.sync(table, &self.place.url(table.name())).await?;
        }
        Ok(())
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
        let customers = self.found(&self.customers, &columns).await?;
        let rows = one(customers.read(Query::snapshot().with_columns(columns)).await?)?;
        Ok(Dimension::latest(&rows, &["customer_id"])?.lookup(sales, &["customer_id"], At::Latest)?)
    }

    /// Joins each sale with the customer row that was valid at the time of the sale.
    pub(crate) async fn as_of_sale(&self, sales: &RecordBatch) -> Result<Lookup> {
        let columns = ["customer_id", "is_preferred", "address_id", "valid_from", "valid_to"];
        let history = Scd2Table::of(self.found(self.history.table(), &columns).await?)?;
        Ok(history.dimension().await?.lookup(sales, &["customer_id"], At::Column("sold_at"))?)
    }

    /// Finds a table as a reader does. With a catalog, its entry names the location, and must have the columns;
    /// the table is then opened at that location.
    async fn found(&self, table: &Table, columns: &[&str]) -> Result<Table> {
        let Some(catalog) = &self.catalog else { return Ok(table.clone()) };
        let entry = catalog.entry(table.name()).await?;
        let lacking = entry.lacks(columns);
        ensure!(
            lacking.is_none(),
            "the catalog's table {}.{} has no column {}",
            catalog.database(),
            table.name(),
            lacking.unwrap_or_default()
        );
        let root = self.place.located(&entry.location)?;
        let options = self.place.options(table.name());
        Ok(Table::open_with(self.place.store.clone(), root, options).await?)
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

/// The storage and the catalog of tables that are being opened.
struct Opening<'a> {
    place: &'a Place,
    catalog: Option<&'a Catalog>,
}

impl Opening<'_> {
    async fn customers(&self, schema: &SchemaRef) -> Result<Table> {
        let definition = TableDefinition::new(CUSTOMERS, schema.clone(), ["customer_id"]);
        self.table(CUSTOMERS, definition.with_ordering_field("customer_datetime")).await
    }

    async fn addresses(&self, schema: &SchemaRef) -> Result<Table> {
        let definition = TableDefinition::new(ADDRESSES, schema.clone(), ["address_id"]);
        let definition = definition.with_ordering_field("address_datetime");
        self.table(ADDRESSES, definition.with_partition_fields(["address_date"])).await
    }

    async fn history(&self, changes: &SchemaRef) -> Result<Scd2Table> {
        let scd = Scd2::new(["customer_id"], "customer_datetime").track(["is_preferred", "address_id"]);
        let definition = Scd2Table::definition_of(HISTORY, &scd, changes)?;
        Ok(Scd2Table::of(self.table(HISTORY, definition).await?)?)
    }

    async fn table(&self, name: &str, definition: TableDefinition) -> Result<Table> {
        let (root, url) = (self.place.table(name)?, self.place.url(name));
        let options = match self.catalog {
            Some(catalog) => catalog.keep_in_step(&url, self.place.options(name)),
            None => self.place.options(name),
        };
        let store = &self.place.store;
        let opened = match Table::open_with(store.clone(), root.clone(), options.clone()).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Table::create_with(store.clone(), root, definition, options).await
            }
            opened => opened,
        };
        opened.with_context(|| format!("opening the Hudi table {url}"))
    }
}

/// A write to a table in a cycle.
#[derive(Debug)]
struct Written {
    table: TableRecord,
    synced: CatalogRecord,
}

impl Written {
    /// Records a write that began at a time.
    async fn by(table: &Table, report: &CommitReport, begun: Instant) -> Result<Self> {
        let elapsed = begun.elapsed();
        let timeline = table.timeline().await?;
        let groups = table.file_groups().await?;
        let versions = || groups.iter().flat_map(|group| &group.versions);
        let record = TableRecord {
            name: table.name().to_owned(),
            instant: timeline.latest_commit().map(|instant| instant.to_string()).unwrap_or_default(),
            changed: report.inserted + report.updated + report.moved + report.deleted,
            file_groups: groups.len() as u64,
            versions: groups.iter().map(|group| group.versions.len() as u64).max().unwrap_or(0),
            bytes: versions().map(|version| version.bytes).sum(),
            elapsed,
        };
        Ok(Self { table: record, synced: CatalogRecord::of(report) })
    }
}

/// Concatenates the batches that a read returned. A read returns at least one batch.
fn one(batches: Vec<RecordBatch>) -> Result<RecordBatch> {
    let first = batches.first().context("a read returned no batch")?;
    Ok(concat_batches(first.schema_ref(), &batches)?)
}
