//! Writes the same tables with Spark, for batches that are too large for one machine.
//!
//! [`options`] renders the `hoodie.*` options with which Spark writes a table in the same way as this crate.
//! [`SCRIPT`] is a PySpark program that takes in raw files, each only once, as
//! [`Table::take_in`](crate::Table::take_in) does. It runs as a job of AWS Glue and on any Spark 3. Each
//! engine recognizes the files that the other one took in. [`choose`] chooses the engine for a batch by its
//! size.
//!
//! ```
//! # use std::sync::Arc;
//! # use hudi_scd::arrow::datatypes::{DataType, Field, Schema};
//! use hudi_scd::{TableDefinition, spark::{self, Release}};
//!
//! # let schema = Arc::new(Schema::new(vec![Field::new("customer_id", DataType::Int64, false), Field::new("at", DataType::Int64, true)]));
//! let customer = TableDefinition::new("customer", schema, ["customer_id"]).with_ordering_field("at");
//! let options = spark::options(&customer, Release::V0)?;
//! assert_eq!(options["hoodie.datasource.write.recordkey.field"], "customer_id");
//! assert_eq!(options["hoodie.index.type"], "GLOBAL_BLOOM");
//! # Ok::<(), hudi_scd::Error>(())
//! ```

mod choose;
mod options;
mod schema;
mod take_in;

pub use choose::{Choice, Engine, Limits, Work, choose};
pub use options::{Release, options, options_of};
#[cfg(feature = "glue")]
pub(crate) use schema::write_struct;
pub use take_in::{SCRIPT, TakeIn};
