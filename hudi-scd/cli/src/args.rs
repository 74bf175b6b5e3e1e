//! The command line.

#[cfg(feature = "glue")]
pub(super) mod catalog;
pub(super) mod spark;

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use hudi_scd::{TableOptions, timeline::Instant};

/// Maintains and inspects Slowly Changing Dimensions in Apache Hudi tables, without a cluster.
///
/// TABLE is the path of a table's folder, or its URL: file:///lake/customer, s3://bucket/lake/customer.
/// Credentials, region and endpoint for S3 come from the usual AWS_* variables, a profile in ~/.aws, or the
/// machine's role.
///
/// Exit codes: 0 success; 1 failure, or `validate` found a violation; 2 invalid command line.
#[derive(Debug, Parser)]
#[command(name = "hudi-scd", version, max_term_width = 100)]
pub(super) struct Cli {
    /// Print one JSON object per line on standard output, and errors as JSON on standard error
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Hide progress bars
    #[arg(long, short, global = true)]
    pub(super) quiet: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a table
    Create(Box<Create>),
    /// Write rows: add new keys, and update existing keys to the newer row. A type 2 table takes changes and
    /// keeps history
    Upsert(Upsert),
    /// Write only the rows whose key is new, and leave stored rows unchanged
    Insert(Write),
    /// Load a table for the first time, without looking up keys: none of the keys may be stored yet
    BulkInsert(Write),
    /// Replace all rows of the partitions that occur in the input; an unpartitioned table counts as one
    /// partition
    InsertOverwrite(Overwrite),
    /// Delete keys
    Delete(Delete),
    /// Read rows: the latest rows, the rows as of an instant, or the changed rows
    Read(Read),
    /// Print the versions of a key: those in the retained commits or, for a type 2 table, its history
    History(History),
    /// Find the dimension row for each fact
    Lookup(Lookup),
    /// Print the actions on the table, with their instants
    Timeline(Timeline),
    /// Print the contents of the table: files, versions, sizes
    Show(Target),
    /// Delete the file versions that the retention does not keep
    Clean(Clean),
    /// Move the oldest actions from the timeline into the archive
    Archive(Archive),
    /// Undo the latest commit, or an unfinished write
    Rollback(Rollback),
    /// Protect the files of a commit from cleaning
    Savepoint(Savepoint),
    /// Upgrade a table of version 2 to 5 to version 6. After that, Hudi 0.13 and earlier can no longer write
    /// it
    Upgrade(Upgrade),
    /// Check every invariant of the format; exit code 1 if one is violated
    Validate(Target),
    /// Write the table with Spark: print options and a program for it
    #[command(subcommand)]
    Spark(spark::SparkCommand),
    /// Register the table in the AWS Glue catalog, or compare its entry with the table
    #[cfg(feature = "glue")]
    #[command(subcommand)]
    Catalog(catalog::CatalogCommand),
}

#[derive(Debug, Args)]
pub(super) struct Target {
    /// The table's folder or URL
    #[arg(value_name = "TABLE")]
    pub(super) table: String,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("columns").required(true).args(["schema", "like"]))]
pub(super) struct Create {
    #[command(flatten)]
    pub(super) target: Target,
    /// Name of the table, in commits and in catalogs
    #[arg(long)]
    pub(super) name: String,
    /// Columns that identify a row
    #[arg(long, value_name = "K[,K2]", required = true, value_delimiter = ',')]
    pub(super) record_key: Vec<String>,
    /// Column that decides which of two rows with the same key is newer; in a type 2 table, the time of a
    /// change
    #[arg(long, value_name = "F")]
    pub(super) ordering_field: Option<String>,
    /// Columns whose values determine a row's folder
    #[arg(long, value_name = "P[,P2]", value_delimiter = ',')]
    pub(super) partition_by: Vec<String>,
    /// Name folders `value` instead of `column=value`
    #[arg(long)]
    pub(super) no_hive_style: bool,
    /// URL-encode special characters in the names of folders
    #[arg(long)]
    pub(super) url_encode: bool,
    /// Database of the table in a catalog
    #[arg(long, value_name = "NAME")]
    pub(super) database: Option<String>,
    /// Number of commits that stay readable; stored in the table for every writer. Default: 10
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) retain_commits: Option<u32>,
    /// Compression of base files; stored in the table for every writer
    #[arg(long, value_name = "CODEC", value_parser = ["gzip", "snappy", "zstd"])]
    pub(super) codec: Option<String>,
    /// Keep history as rows (SCD type 2): --schema and --like describe the changes
    #[arg(long, requires = "ordering_field")]
    pub(super) scd2: bool,
    #[command(flatten)]
    pub(super) history: HistoryColumns,
    /// Columns: an Avro schema (.avsc), a Spark schema as JSON, or text such as `id bigint, name string`
    #[arg(long, value_name = "FILE")]
    pub(super) schema: Option<PathBuf>,
    /// Copy the columns of this Parquet, CSV or JSON lines file
    #[arg(long, value_name = "FILE")]
    pub(super) like: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct HistoryColumns {
    /// Open a new row only for changes of these columns; the other columns contain their newest values.
    /// Default: all
    #[arg(long, value_name = "C[,C2]", value_delimiter = ',', requires = "scd2")]
    pub(super) track: Vec<String>,
    /// Open a new row for changes of any column except these
    #[arg(long, value_name = "C[,C2]", value_delimiter = ',', requires = "scd2", conflicts_with = "track")]
    pub(super) track_all_but: Vec<String>,
    /// Boolean column that marks a change as a delete. Default: _hoodie_is_deleted, if the changes have it
    #[arg(long, value_name = "C", requires = "scd2")]
    pub(super) delete_marker: Option<String>,
    /// Name of the column for the start of a row's validity
    #[arg(long, value_name = "NAME", default_value = "valid_from", requires = "scd2")]
    pub(super) valid_from: String,
    /// Name of the column for the end of a row's validity, exclusive
    #[arg(long, value_name = "NAME", default_value = "valid_to", requires = "scd2")]
    pub(super) valid_to: String,
    /// Name of the column that marks the currently valid row
    #[arg(long, value_name = "NAME", default_value = "is_current", requires = "scd2")]
    pub(super) is_current: String,
}

#[derive(Debug, Args)]
pub(super) struct Write {
    #[command(flatten)]
    pub(super) target: Target,
    /// File (.parquet, .csv, .jsonl), or a folder with such files
    #[arg(long, value_name = "FILE|DIR")]
    pub(super) input: PathBuf,
    /// Types of columns that the table does not have yet, in the forms that `create` accepts. Default:
    /// guessed from their values
    #[arg(long, value_name = "FILE")]
    pub(super) schema: Option<PathBuf>,
    #[command(flatten)]
    pub(super) index: Index,
}

#[derive(Debug, Args)]
pub(super) struct Upsert {
    #[command(flatten)]
    pub(super) write: Write,
    /// Column with the operation of each row in change files, as in AWS DMS: I and U write the row, D deletes
    /// its key. The column is stored only if the table has it
    #[arg(long, value_name = "COL")]
    pub(super) operation_column: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Index {
    /// Local folder that keeps the key index of tables for later runs, which then read less from remote
    /// storage. It uses at most 1 GiB, and may be deleted at any time
    #[arg(long, value_name = "DIR")]
    pub(super) index_cache: Option<PathBuf>,
}

impl Index {
    pub(super) fn options(&self) -> TableOptions {
        match &self.index_cache {
            Some(folder) => TableOptions::new().with_index_cache(folder),
            None => TableOptions::new(),
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Overwrite {
    #[command(flatten)]
    pub(super) write: Write,
    /// Replace all rows of the table
    #[arg(long)]
    pub(super) whole_table: bool,
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    #[command(flatten)]
    pub(super) target: Target,
    /// File (.parquet, .csv, .jsonl) with the columns of the record key, or a folder with such files; for a
    /// type 2 table, also with the time of the deletion
    #[arg(long, value_name = "FILE|DIR")]
    pub(super) keys: PathBuf,
    #[command(flatten)]
    pub(super) index: Index,
}

#[derive(Debug, Args)]
pub(super) struct Rows {
    /// Format of the rows. Default: determined by the extension of --output, otherwise jsonl
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(super) format: Option<Format>,
    /// Write to a file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// One JSON object per line
    Jsonl,
    /// Comma separated, with a header line
    Csv,
    /// Parquet, to a file or a pipe
    Parquet,
    /// Human-readable table
    Table,
}

#[derive(Debug, Args)]
pub(super) struct Read {
    #[command(flatten)]
    pub(super) target: Target,
    /// Rows as of an instant
    #[arg(long, value_name = "I", value_parser = parse_instant, conflicts_with_all = ["since", "until"])]
    pub(super) as_of: Option<InstantArg>,
    /// Rows that commits after this instant wrote
    #[arg(long, value_name = "I", value_parser = parse_instant)]
    pub(super) since: Option<InstantArg>,
    /// Last commit that --since includes
    #[arg(long, value_name = "I", value_parser = parse_instant, requires = "since")]
    pub(super) until: Option<InstantArg>,
    /// Only these columns, in this order
    #[arg(long, value_name = "C[,C2]", value_delimiter = ',')]
    pub(super) columns: Vec<String>,
    /// Include Hudi's own columns
    #[arg(long)]
    pub(super) meta_columns: bool,
    /// Maximum number of rows
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<usize>,
    #[command(flatten)]
    pub(super) rows: Rows,
}

#[derive(Debug, Args)]
pub(super) struct History {
    #[command(flatten)]
    pub(super) target: Target,
    /// Record key: a value, or `a:1,b:2` for several columns
    #[arg(long, value_name = "K")]
    pub(super) key: String,
    #[command(flatten)]
    pub(super) rows: Rows,
}

#[derive(Debug, Args)]
pub(super) struct Lookup {
    #[command(flatten)]
    pub(super) target: Target,
    /// File of facts (.parquet, .csv, .jsonl), or a folder with such files
    #[arg(long, value_name = "FILE|DIR")]
    pub(super) facts: PathBuf,
    /// Column of the facts for each key column of the dimension
    #[arg(long, value_name = "COL=KEY", required = true, value_delimiter = ',', value_parser = parse_pair)]
    pub(super) on: Vec<(String, String)>,
    /// Column of the facts that contains the time of the row to find (type 2). Default: the latest row
    #[arg(long, value_name = "COL")]
    pub(super) at: Option<String>,
    /// Prefix for the names of the dimension's columns
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(super) prefix: String,
    #[command(flatten)]
    pub(super) rows: Rows,
}

#[derive(Debug, Args)]
pub(super) struct Timeline {
    #[command(flatten)]
    pub(super) target: Target,
    /// Include actions from the archive
    #[arg(long)]
    pub(super) archived: bool,
}

#[derive(Debug, Args)]
pub(super) struct Clean {
    #[command(flatten)]
    pub(super) target: Target,
    /// Only print what would be deleted
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) keep: Keep,
}

/// A retention policy that overrides the table's own.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct Keep {
    /// Keep this number of latest commits readable; applies to this call only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) retain_commits: Option<u32>,
    /// Keep the commits of this number of hours readable; applies to this call only
    #[arg(long, value_name = "H", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) retain_hours: Option<u32>,
    /// Keep this number of versions of each file group; applies to this call only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) retain_versions: Option<u32>,
}

#[derive(Debug, Args)]
pub(super) struct Archive {
    #[command(flatten)]
    pub(super) target: Target,
    /// Number of commits that stay on the timeline; at least the number of readable commits
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(super) keep_min: usize,
    /// Number of commits above which older ones are archived
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub(super) keep_max: usize,
}

#[derive(Debug, Args)]
pub(super) struct Rollback {
    #[command(flatten)]
    pub(super) target: Target,
    /// Commit to undo: the latest one, or an unfinished one
    #[arg(long, value_name = "I", value_parser = parse_instant)]
    pub(super) instant: InstantArg,
}

#[derive(Debug, Args)]
pub(super) struct Savepoint {
    #[command(flatten)]
    pub(super) target: Target,
    /// Commit to protect
    #[arg(long, value_name = "I", value_parser = parse_instant)]
    pub(super) instant: InstantArg,
    /// Delete the savepoint
    #[arg(long)]
    pub(super) delete: bool,
    /// Author of the savepoint
    #[arg(long, value_name = "NAME", default_value = "user")]
    pub(super) user: String,
    /// Reason for the savepoint
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(super) comment: String,
}

#[derive(Debug, Args)]
pub(super) struct Upgrade {
    #[command(flatten)]
    pub(super) target: Target,
    /// Print what would change, without changing it
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// An instant on the command line: Hudi's digits, or a time, which is converted to the table's time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InstantArg {
    Digits(Instant),
    Time(jiff::Timestamp),
    Clock(jiff::civil::DateTime),
}

fn parse_instant(text: &str) -> Result<InstantArg, String> {
    if let Ok(instant) = text.parse() {
        return Ok(InstantArg::Digits(instant));
    }
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let time = || text.parse().map(InstantArg::Time).ok();
    let clock = || text.parse().map(InstantArg::Clock).ok();
    (!digits).then(|| time().or_else(clock)).flatten().ok_or_else(|| {
        "an instant has 17 digits (20250301123000500) or 14, or is a time (2025-03-01T12:30:00.5Z)".to_owned()
    })
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((column, key)) if !column.is_empty() && !key.is_empty() => {
            Ok((column.to_owned(), key.to_owned()))
        }
        _ => Err("write COL=KEY: a column of the facts, and the key column of the dimension".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn instants_are_digits_or_times() {
        assert!(matches!(parse_instant("20250301123000500"), Ok(InstantArg::Digits(_))));
        assert!(matches!(parse_instant("20250301123000"), Ok(InstantArg::Digits(_))));
        assert!(matches!(parse_instant("2025-03-01T12:30:00.5Z"), Ok(InstantArg::Time(_))));
        assert!(matches!(parse_instant("2025-03-01 12:30:00"), Ok(InstantArg::Clock(_))));
        assert!(matches!(parse_instant("2025-03-01"), Ok(InstantArg::Clock(_))));
        for refused in ["", "yesterday", "202503011230", "2025-03-01T12:30:00.5X"] {
            assert!(parse_instant(refused).is_err(), "{refused}");
        }
    }
}
