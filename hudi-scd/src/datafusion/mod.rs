//! Tables in [DataFusion](::datafusion): SQL over the latest rows, the rows as of an instant, and the changes
//! of each row in the retained commits.
//!
//! ```
//! # use std::sync::Arc;
//! # use arrow::{array::{Int64Array, RecordBatch}, datatypes::{DataType, Field, Schema}};
//! # use hudi_scd::{Table, TableDefinition};
//! # use object_store::memory::InMemory;
//! use datafusion::prelude::{SessionContext, col, lit};
//! use hudi_scd::datafusion::HudiTable;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
//! # let definition = TableDefinition::new("customer", schema.clone(), ["id"]);
//! # let table = Table::create(Arc::new(InMemory::new()), "lake/customer".into(), definition).await?;
//! # table.upsert(&[RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![1, 2, 3]))])?]).await?;
//! let context = SessionContext::new();
//! context.register_table("customer", Arc::new(HudiTable::snapshot(table).await?))?;
//! let some = context.table("customer").await?.filter(col("id").gt(lit(1)))?;
//! assert_eq!(some.count().await?, 2);
//! # Ok(()) }
//! ```
//!
//! A scan prunes partitions by their paths and row groups by their statistics. It reads only the columns that
//! the query needs. It streams its result in at most as many partitions as the session's `target_partitions`.
//! It selects its files when the query is planned. If a clean deletes one of them before it is read, the
//! query fails and can be repeated.

mod files;
mod history;
mod prune;
mod stored;

use std::sync::Arc;

use ::datafusion::{
    catalog::{Session, TableProvider},
    common::{DFSchema, DataFusionError, Result as DataFusionResult, ScalarValue},
    datasource::{
        listing::PartitionedFile,
        physical_plan::{FileGroup as ScanGroup, FileScanConfigBuilder, ParquetSource},
        source::DataSourceExec,
        table_schema::TableSchema,
    },
    execution::object_store::ObjectStoreUrl,
    logical_expr::{Expr, TableProviderFilterPushDown, TableType, utils::conjunction},
    physical_plan::{ExecutionPlan, empty::EmptyExec, streaming::StreamingTableExec},
};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use object_store::{ObjectMeta, memory::InMemory};

use self::{files::Files, stored::Stored};
use crate::{
    Result,
    context::Table,
    schema::META_COLUMNS,
    snapshot::{FileGroup, FileVersion, View},
    timeline::Instant,
};

/// Column of [`HudiTable::history`]: the commit that replaced or deleted a version of a row. Null for the
/// latest version.
pub const SUPERSEDED_AT: &str = "_superseded_at";

/// The store that is registered in a session for all providers. It is empty, because plans contain the stores
/// of their tables ([`Files`]). DataFusion only requires that a store is registered.
const STORE: &str = "hudi-scd://tables";

/// A table as DataFusion's [`TableProvider`].
#[derive(Clone, Debug)]
pub struct HudiTable {
    table: Table,
    rows: Rows,
    schema: SchemaRef,
}

#[derive(Clone, Copy, Debug)]
enum Rows {
    Latest,
    AsOf(Instant),
    History,
}

impl HudiTable {
    /// Creates a provider for the latest rows at the time when a query is planned.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the table has no schema yet;
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage).
    pub async fn snapshot(table: Table) -> Result<Self> {
        Self::of(table, Rows::Latest).await
    }

    /// Creates a provider for the rows as of an instant.
    ///
    /// # Errors
    /// As [`HudiTable::snapshot`]; [`ErrorKind::OutsideRetention`](crate::ErrorKind::OutsideRetention) if the
    /// files of that time were cleaned. A query that is planned after a later clean returns the same error.
    pub async fn as_of(table: Table, instant: Instant) -> Result<Self> {
        table.context().view().await?.check_retained(instant)?;
        Self::of(table, Rows::AsOf(instant)).await
    }

    /// Creates a provider for every row version in the retained commits. Each version is returned once. The
    /// columns are `_hoodie_commit_time`, the commit that wrote the version, [`SUPERSEDED_AT`], the commit
    /// that replaced or deleted it, and the data columns.
    ///
    /// # Errors
    /// As [`HudiTable::snapshot`]; [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a table
    /// without meta columns.
    pub async fn history(table: Table) -> Result<Self> {
        table.context().properties().check_meta_columns()?;
        let mut history = Self::of(table, Rows::History).await?;
        let text = |name, nullable| Arc::new(Field::new(name, DataType::Utf8, nullable));
        history.put_in_front([text(META_COLUMNS[0], false), text(SUPERSEDED_AT, true)]);
        Ok(history)
    }

    /// Adds Hudi's own five columns in front. A [history](HudiTable::history) is not changed, because it
    /// already has the relevant column.
    #[must_use]
    pub fn with_meta_columns(mut self) -> Self {
        let known = self.schema.field_with_name(META_COLUMNS[0]).is_ok();
        if !known {
            self.put_in_front(META_COLUMNS.map(|name| Arc::new(Field::new(name, DataType::Utf8, true))));
        }
        self
    }

    async fn of(table: Table, rows: Rows) -> Result<Self> {
        let schema = table.schema().await?;
        Ok(Self { table, rows, schema })
    }

    fn put_in_front(&mut self, columns: impl IntoIterator<Item = FieldRef>) {
        let data = self.schema.fields().iter().cloned();
        self.schema = Arc::new(Schema::new(columns.into_iter().chain(data).collect::<Vec<_>>()));
    }

    /// Returns the files of a snapshot in those partitions that may contain rows that pass the filters.
    fn scan_files(
        &self,
        state: &dyn Session,
        view: &View,
        at: Instant,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let slices: Vec<(&Arc<FileGroup>, &FileVersion)> = view.files_at(at).collect();
        let columns = self.table.context().dropped_columns().map_err(external)?;
        let is_dropped = |field: &FieldRef| columns.iter().any(|dropped| dropped.name() == field.name());
        // The values of the dropped columns are in the names of folders. These are the last columns of the
        // schema.
        let (dropped, stored): (Vec<_>, Vec<_>) = self.schema.fields().iter().cloned().partition(is_dropped);
        let kept = self.prune(state, slices.iter().map(|(group, _)| &*group.partition), filters)?;
        let mut files = Vec::new();
        for ((group, version), kept) in slices.into_iter().zip(kept) {
            if kept {
                let location =
                    self.table.context().layout().resolve(&group.path(version)).map_err(external)?;
                let file = PartitionedFile::new_from_meta(ObjectMeta {
                    location,
                    last_modified: Default::default(),
                    size: version.bytes,
                    e_tag: None,
                    version: None,
                });
                files.push(match dropped.is_empty() {
                    true => file,
                    false => {
                        file.with_partition_values(folder_values(&self.table, &group.partition, &dropped)?)
                    }
                });
            }
        }
        if files.is_empty() {
            return self.nothing(projection);
        }
        let store = ObjectStoreUrl::parse(STORE)?;
        state.runtime_env().register_object_store(store.as_ref(), Arc::new(InMemory::new()));
        let columns = TableSchema::builder(Arc::new(Schema::new(stored))).with_table_partition_cols(dropped);
        let mut source = ParquetSource::new(columns.build())
            .with_table_parquet_options(files::options(&state.table_options().parquet))
            .with_parquet_file_reader_factory(Arc::new(Files::new(
                self.table.context().shared_store().clone(),
            )));
        if let Some(filter) = conjunction(filters.to_vec()) {
            let schema = DFSchema::try_from(self.schema.clone())?;
            source = source.with_predicate(state.create_physical_expr(filter, &schema)?);
        }
        let groups = ScanGroup::new(files).split_files(state.config().target_partitions().max(1));
        let scan = FileScanConfigBuilder::new(store, Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .with_expr_adapter(Some(Arc::new(Stored)))
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }

    fn projected(&self, projection: Option<&Vec<usize>>) -> DataFusionResult<SchemaRef> {
        Ok(match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => self.schema.clone(),
        })
    }

    /// Returns an empty plan. It has one partition, because the plans above it rely on that.
    fn nothing(&self, projection: Option<&Vec<usize>>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(EmptyExec::new(self.projected(projection)?)))
    }

    /// Returns, for each partition path, `true` if it may contain rows that pass the filters.
    fn prune<'a>(
        &self,
        state: &dyn Session,
        partitions: impl Iterator<Item = &'a str>,
        filters: &[Expr],
    ) -> DataFusionResult<Vec<bool>> {
        prune::matching(self.table.context().properties(), &self.schema, state, partitions, filters)
    }
}

#[async_trait]
impl TableProvider for HudiTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        // Only whole partitions and row groups are pruned. DataFusion filters the remaining rows.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let view = self.table.context().view().await.map_err(external)?;
        view.check_timeline(self.table.context().layout()).map_err(external)?;
        // Before the first commit there are no files at any instant.
        let latest = view.timeline.latest_commit();
        let at = match self.rows {
            Rows::History => {
                let streams = history::streams(self, state, &view, projection, filters)?;
                if streams.is_empty() {
                    return self.nothing(projection);
                }
                let projected = self.projected(projection)?;
                let scan = StreamingTableExec::try_new(projected, streams, None, [], false, limit)?;
                return Ok(Arc::new(scan));
            }
            Rows::AsOf(instant) => {
                view.check_retained(instant).map_err(external)?;
                view.check_whole(instant).map_err(external)?;
                latest.map(|_| instant)
            }
            Rows::Latest => {
                view.check_latest_whole().map_err(external)?;
                latest
            }
        };
        match at {
            Some(at) => self.scan_files(state, &view, at, projection, filters, limit),
            None => self.nothing(projection),
        }
    }
}

/// Returns the values of the dropped columns in a partition.
fn folder_values(table: &Table, partition: &str, dropped: &[FieldRef]) -> DataFusionResult<Vec<ScalarValue>> {
    let row = table.context().folder_row(partition).map_err(external)?;
    let value = |field: &FieldRef| match row.column_by_name(field.name()) {
        Some(column) => ScalarValue::try_from_array(column, 0),
        None => ScalarValue::try_new_null(field.data_type()),
    };
    dropped.iter().map(value).collect()
}

fn external(error: crate::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
