//! Registers the table in the AWS Glue catalog, where Athena, Redshift Spectrum and Glue jobs look for it.
//!
//! [`sync`] registers the table, its columns and its partitions in the same way as Hudi's own sync, so that
//! both can be used on one table in turns. [`check`] compares the catalog with the table and changes nothing.
//! The parts of a sync can be called one by one: [`read`], [`Reading::plan`], [`Plan::apply`].
//! [`RedshiftSchema`] renders the SQL with which a warehouse reads the table. [`crawler`] keeps crawlers away
//! from Hudi tables. [`GlueSync`] runs a sync after each write.
//!
//! ```no_run
//! use hudi_scd::{Table, glue::{self, GlueCatalog, SyncOptions}};
//!
//! # async fn example(table: &Table, sdk: aws_sdk_glue::Client) -> Result<(), Box<dyn std::error::Error>> {
//! let catalog = GlueCatalog::new(sdk);
//! let options = SyncOptions::new("lake", "s3://bucket/lake/customer");
//! println!("{}", glue::sync(table, &catalog, &options).await?);
//! # Ok(())
//! # }
//! ```
//!
//! # Rules
//!
//! - Each call is awaited. After a conflict with another writer, a throttled call or a lost response, the
//!   sync reads the catalog again. The plan depends only on the table and the catalog.
//! - The table's `last_commit_time_sync` is written last. The next sync completes an interrupted one.
//! - A table of the same name that another tool created is rejected. The error names the differences.
//!   [`SyncOptions::with_takeover`] replaces such a table.
//! - A column may only become wider: `int` to `bigint`, `float` to `double`, a decimal with more digits on
//!   both sides, a struct with additional fields. Any other change of a type is rejected.
//! - The description, owner, retention and unrelated parameters of the catalog's table are kept.

mod automatic;
mod catalog;
mod columns;
pub mod crawler;
mod definition;
mod options;
mod partitions;
mod plan;
mod redshift;
mod spark;
mod sync;
mod types;

pub use automatic::GlueSync;
pub use aws_sdk_glue;
pub use catalog::{Catalog, CatalogError, CatalogErrorKind, GlueCatalog, PartitionFailure};
pub use options::{PartitionValues, SyncOptions};
pub use plan::{Plan, Reading, TableChange};
pub use redshift::RedshiftSchema;
pub use sync::{SyncReport, check, read, sync};
