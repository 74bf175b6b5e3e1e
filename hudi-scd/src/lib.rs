//! Slowly Changing Dimensions in Apache Hudi copy-on-write tables, without a JVM.
//!
//! A dimension is a [`Table`] of the latest row of each key. Batches of Arrow rows are upserted into it. The
//! table keeps the last commits readable and cleans older versions. Spark, Athena, Redshift Spectrum and
//! other readers of Hudi can read it, and Spark can continue to write it.
//!
//! ```
//! use std::sync::Arc;
//!
//! use arrow::{
//!     array::{Int64Array, RecordBatch, StringArray},
//!     datatypes::{DataType, Field, Schema},
//! };
//! use hudi_scd::{Query, Table, TableDefinition};
//! use object_store::memory::InMemory;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let schema = Arc::new(Schema::new(vec![
//!     Field::new("customer_id", DataType::Int64, false),
//!     Field::new("city", DataType::Utf8, true),
//!     Field::new("updated_at", DataType::Int64, false),
//! ]));
//! let rows = |ids: Vec<i64>, cities: Vec<&str>, at: Vec<i64>| {
//!     let columns: [Arc<dyn arrow::array::Array>; 3] =
//!         [Arc::new(Int64Array::from(ids)), Arc::new(StringArray::from(cities)), Arc::new(Int64Array::from(at))];
//!     RecordBatch::try_new(schema.clone(), columns.to_vec())
//! };
//!
//! let definition = TableDefinition::new("customer", schema.clone(), ["customer_id"]).with_ordering_field("updated_at");
//! let table = Table::create(Arc::new(InMemory::new()), "lake/customer".into(), definition).await?;
//!
//! let first = table.upsert(&[rows(vec![1, 2], vec!["Oslo", "Rome"], vec![10, 10])?]).await?;
//! assert_eq!(first.inserted, 2);
//!
//! // Customer 2 moved; the change of customer 1 is older than the stored row.
//! let second = table.upsert(&[rows(vec![1, 2], vec!["Bergen", "Kyiv"], vec![9, 11])?]).await?;
//! assert_eq!((second.updated, second.late), (1, 1));
//!
//! // The same batch changes nothing the second time, so it makes no commit.
//! let again = table.upsert(&[rows(vec![1, 2], vec!["Bergen", "Kyiv"], vec![9, 11])?]).await?;
//! assert_eq!(again.instant, None);
//!
//! let cities = |batches: Vec<RecordBatch>| -> Vec<String> {
//!     use arrow::array::AsArray;
//!     batches.iter().flat_map(|b| b.column(0).as_string::<i32>().iter().flatten().map(String::from)).collect()
//! };
//! assert_eq!(cities(table.read(Query::snapshot().with_columns(["city"])).await?), ["Oslo", "Kyiv"]);
//! let before = first.instant.ok_or("the first upsert committed")?;
//! assert_eq!(cities(table.read(Query::as_of(before).with_columns(["city"])).await?), ["Oslo", "Rome"]);
//! # Ok(())
//! # }
//! ```
//!
//! # Overview
//!
//! | to | use |
//! |---|---|
//! | create, open | [`TableDefinition`], [`Table::create`], [`Table::open`], [`Table::open_url`], [`TableOptions`] |
//! | write | [`Table::upsert`], [`Table::insert`], [`Table::bulk_insert`], [`Table::delete`], [`CommitReport`]; each also accepts a stream |
//! | take in raw files, each only once | [`Table::take_in`], [`scd::Scd2Table::take_in`], [`SourceFile`] |
//! | replace or remove the rows of partitions | [`Table::insert_overwrite`], [`Table::insert_overwrite_table`], [`Table::delete_partitions`] |
//! | look up keys faster on remote storage | [`TableOptions::with_index_cache`]: footers and keys on the local disk |
//! | read | [`Table::read`] or [`Table::read_stream`] with a [`Query`]: latest, as of an instant, since an instant; with a [`Predicate`], partitions, a limit; [`Table::history`] of a key |
//! | keep a bounded past | [`retention`], [`Table::clean`], [`Table::clean_plan`], [`Table::archive`], [`Table::savepoint`] |
//! | undo a commit | [`Table::rollback`] |
//! | inspect and check a table | [`Table::timeline`], [`Table::file_groups`], [`Table::validate`] |
//! | query it in SQL (feature `datafusion`) | [`datafusion`](datafusion/index.html) |
//! | register it in the AWS Glue catalog (feature `glue`) | [`glue`](glue/index.html); after each write: [`TableOptions::with_catalog_sync`] |
//! | write the table with Spark, here or as a job of AWS Glue | [`spark`] |
//! | read rows of CSV, JSON lines and Parquet files (feature `input`) | [`input`](input/index.html) |
//! | keep history as rows (SCD type 2), look up facts | [`scd`] |
//! | watch requests, phases and failures | a `tracing` span for each operation; with feature `metrics`: [`describe_metrics`](describe_metrics()) |
//! | do all this from a shell | the program `hudi-scd` of the package `hudi-scd-cli`: `docs/hudi-scd.md` |
//!
//! # Guarantees
//!
//! - The format is Hudi's copy-on-write. New tables have table version 6, timeline layout 1 and no metadata
//!   table. Tables of other writers are read up to version 9 and written up to version 6, without an upgrade
//!   ([`TableVersion`]). The first write drops a metadata table ([`MetadataTable`]). A table with any other
//!   feature is rejected, and the error names the property.
//! - A reader sees the last completed commit. Before a write, the next writer undoes the remains of an
//!   unfinished write.
//! - Any [`object_store::ObjectStore`] works: memory, a local folder, S3 and others.
//!
//! # Versions
//!
//! The public signatures contain types of `arrow` (59) and `object_store` (0.13), which often release
//! incompatible versions, and of `jiff` (0.2). A new incompatible version of any of them is not considered a
//! breaking change of this crate. All three are re-exported. With the re-exports, your version always
//! matches. The same applies to `datafusion` (55), with the feature of this name.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod base_file;
mod beside;
mod cancellation;
mod clock;
mod codec;
mod concurrent;
mod context;
#[cfg(feature = "datafusion")]
pub mod datafusion;
mod definition;
#[cfg(feature = "glue")]
pub mod glue;
mod index;
mod index_cache;
#[cfg(feature = "input")]
pub mod input;
mod layout;
mod location;
pub mod lock;
mod maintain;
mod operation;
mod patched_upload;
mod range_copy;
mod read;
mod recent;
mod recover;
pub mod retention;
pub mod scd;
mod snapshot;
mod source_file;
pub mod spark;
mod storage;
mod table;
pub mod timeline;
#[doc(hidden)]
pub mod times;
mod upgrade;
mod validate;
mod write;

pub use ::arrow;
pub use ::jiff;
pub use ::object_store;
pub use cancellation::Cancellation;
pub use codec::Codec;
pub use context::{CatalogSync, MetadataTable, Table, TableOptions};
pub use definition::TableDefinition;
pub use hudi_format::{
    Error, ErrorKind, Result, bloom,
    key::{TimestampPartition, TimestampType},
    schema,
};
pub(crate) use hudi_format::{key, properties};
pub use operation::Phases;
#[cfg(feature = "metrics")]
pub use operation::describe_metrics;
pub use properties::TableVersion;
pub use range_copy::RangeCopy;
#[cfg(feature = "aws")]
pub use range_copy::S3RangeCopy;
pub use read::{KeyChange, KeyVersion, Predicate, Query, RowStream, Value};
pub use recover::RollbackReport;
pub use retention::RetentionPolicy;
pub use snapshot::{FileGroup, FileVersion};
pub use source_file::SourceFile;
pub use timeline::{Clock, FnClock, Instant, SystemClock, Timeline};
pub use upgrade::UpgradeReport;
pub use validate::{Finding, Invariant};
pub use write::{CommitReport, Intake};
