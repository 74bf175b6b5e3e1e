//! `spark options`, `spark script`.

#[cfg(feature = "glue")]
use hudi_scd::glue::SyncOptions;
use hudi_scd::{TableOptions, spark};
use serde_json::json;

use crate::{
    Context,
    args::spark::{Options, SparkCommand},
    failure::Failure,
};

pub(super) async fn run(context: Context, command: SparkCommand) -> Result<(), Failure> {
    match command {
        SparkCommand::Options(args) => options(context, args).await,
        SparkCommand::Script => {
            super::tell(context, spark::SCRIPT.trim_end(), json!({ "script": spark::SCRIPT }))
        }
    }
}

async fn options(context: Context, args: Options) -> Result<(), Failure> {
    let (location, table) = super::open(context, &args.target.table, TableOptions::new()).await?;
    let options = spark::options_of(&table, args.hudi).await;
    #[cfg_attr(not(feature = "glue"), expect(unused_mut, reason = "only a catalog adds options"))]
    let mut options = options.map_err(|error| Failure::from(error).of(&location))?;
    #[cfg(feature = "glue")]
    if let Some(database) = args.database {
        // The job registers the location to which it writes.
        let sync = SyncOptions::new(database, "");
        let sync = super::catalog::registered(sync, args.table_name.as_deref(), &args.option)?;
        let sync = sync.hudi_options(&table);
        options.extend(sync.map_err(|error| Failure::from(error).of(&location))?);
    }
    let lines: Vec<_> = options.iter().map(|(name, value)| format!("{name}={value}")).collect();
    super::tell(context, lines.join("\n"), json!(options))
}
