//! The command line of `spark`.

use clap::{Args, Subcommand};
use hudi_scd::spark::Release;

use super::Target;

#[derive(Debug, Subcommand)]
pub(crate) enum SparkCommand {
    /// Print the options with which Spark writes the table in the same way as this program
    Options(Options),
    /// Print the PySpark program that loads raw files, for spark-submit or a job of AWS Glue
    Script,
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Version of Hudi that reads the options: 0.14 and later
    #[arg(long, value_name = "VERSION", default_value = "0.15.0", value_parser = parse_release)]
    pub(crate) hudi: Release,
    /// Also let the job register the table in this database of the catalog
    #[cfg(feature = "glue")]
    #[arg(long, value_name = "D")]
    pub(crate) database: Option<String>,
    /// Name in the catalog, if it differs from the table's own
    #[cfg(feature = "glue")]
    #[arg(long, value_name = "N", requires = "database")]
    pub(crate) table_name: Option<String>,
    /// Option of Hudi's own sync, as for `catalog sync`, so that both describe the table in the same way
    #[cfg(feature = "glue")]
    #[arg(long, value_name = "KEY=VALUE", requires = "database")]
    pub(crate) option: Vec<String>,
}

fn parse_release(text: &str) -> Result<Release, String> {
    Release::parse(text).ok_or_else(|| "name a version from 0.14 on, such as 0.15.0 or 1.0.2".to_owned())
}
