//! The command line of `catalog`.

use clap::{ArgGroup, Args, Subcommand};

use super::{InstantArg, Target, parse_instant};

#[derive(Debug, Subcommand)]
pub(crate) enum CatalogCommand {
    /// Update the table's entry in the catalog: columns, partitions, last commit
    Sync {
        #[command(flatten)]
        args: Box<Catalog>,
        /// Only print what would change
        #[arg(long)]
        dry_run: bool,
        /// Replace a table of the same name that another tool created, and allow any change of a column's
        /// type
        #[arg(long)]
        takeover: bool,
    },
    /// Compare the entry, including each partition, with the table; exit code 1 if they differ
    Check {
        #[command(flatten)]
        args: Box<Catalog>,
    },
    /// Print the SQL with which Amazon Redshift reads the table, without executing it. Default: the external
    /// schema, which is enough for a table that `catalog sync` registers
    Ddl(Box<Ddl>),
    /// Exclude Hudi tables from a Glue crawler, which would register them file by file
    #[command(subcommand)]
    Crawler(CrawlerCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum CrawlerCommand {
    /// Add the exclusion patterns that the crawler lacks; exit code 1 if some targets must be changed
    /// manually
    Exclude {
        #[command(flatten)]
        tables: CrawledTables,
        /// Maximum time to wait for the end of the crawler's run, because a running crawler cannot be updated
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        wait: u64,
    },
    /// List the tables that the crawler would read, and change nothing; exit code 1 if there are any
    Check {
        #[command(flatten)]
        tables: CrawledTables,
    },
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("crawled").required(true).multiple(true).args(["tables", "database"]))]
pub(crate) struct CrawledTables {
    /// Name of the crawler
    #[arg(value_name = "CRAWLER")]
    pub(crate) crawler: String,
    /// URLs of Hudi tables
    #[arg(value_name = "TABLE")]
    pub(crate) tables: Vec<String>,
    /// Add each Hudi table of this database in the catalog
    #[arg(long, value_name = "D")]
    pub(crate) database: Vec<String>,
    #[command(flatten)]
    pub(crate) service: Service,
}

#[derive(Debug, Args)]
pub(crate) struct Ddl {
    #[command(flatten)]
    pub(crate) registration: Registration,
    /// Name of the external schema in the warehouse. Default: the database's name
    #[arg(long, value_name = "S")]
    pub(crate) schema: Option<String>,
    /// Role that the warehouse uses to read the catalog and the bucket. Default: the warehouse's default role
    #[arg(long, value_name = "ARN")]
    pub(crate) iam_role: Option<String>,
    /// Region of the catalog. Default: the warehouse's own
    #[arg(long, value_name = "R")]
    pub(crate) region: Option<String>,
    /// Also create the external table with all its partitions, for a table that `catalog sync` does not
    /// register
    #[arg(long)]
    pub(crate) create_table: bool,
    /// Print only the changes since a commit: partitions and columns that were added or removed
    #[arg(long, value_name = "I", value_parser = parse_instant, conflicts_with = "create_table")]
    pub(crate) since: Option<InstantArg>,
}

#[derive(Debug, Args)]
pub(crate) struct Catalog {
    #[command(flatten)]
    pub(crate) registration: Registration,
    #[command(flatten)]
    pub(crate) service: Service,
}

#[derive(Debug, Args)]
pub(crate) struct Service {
    /// Endpoint of the catalog, for an emulator or a private network
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint_url: Option<String>,
}

/// The table as the catalog's readers see it.
#[derive(Debug, Args)]
pub(crate) struct Registration {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Database in the catalog; only `sync` creates it if it is missing
    #[arg(long, value_name = "D")]
    pub(crate) database: String,
    /// Name in the catalog, if it differs from the table's own
    #[arg(long, value_name = "N")]
    pub(crate) table_name: Option<String>,
    /// Folder where readers find the table, if TABLE is a copy or a mount of it
    #[arg(long, value_name = "URL")]
    pub(crate) location: Option<String>,
    /// Option of Hudi's own sync, by its name there, such as
    /// hoodie.datasource.hive_sync.support_timestamp=true
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) option: Vec<String>,
}
