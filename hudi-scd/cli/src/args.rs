//! The command line.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use hudi_scd::{TableOptions, timeline::Instant};

/// Keeps Slowly Changing Dimensions in Apache Hudi tables, and looks into such tables, without a cluster.
///
/// TABLE is the path of a table's folder, or a URL: file:///lake/customer, s3://bucket/lake/customer. Credentials,
/// region and endpoint of S3 come from the usual AWS_* variables, a profile in ~/.aws, or the machine's role.
///
/// Exit codes: 0 done; 1 failed, or `validate` found something; 2 the command line is wrong.
#[derive(Debug, Parser)]
#[command(name = "hudi-scd", version, max_term_width = 100)]
pub(super) struct Cli {
    /// One JSON object a line, on standard output; errors too, on standard error
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// No progress bars
    #[arg(long, short, global = true)]
    pub(super) quiet: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a table
    Create(Box<Create>),
    /// Write rows: new keys are added, known ones get the newer row. A type 2 table takes changes, and keeps history
    Upsert(Upsert),
    /// Write the rows whose key is new, and leave stored rows as they are
    Insert(Write),
    /// Write the first load of a table: no key is looked up, so none of them may be stored yet
    BulkInsert(Write),
    /// Give the partitions that rows are for these rows and no others; an unpartitioned table is one partition
    InsertOverwrite(Overwrite),
    /// Delete keys
    Delete(Delete),
    /// Read rows: the latest, as of an instant, or those that changed
    Read(Read),
    /// What happened to a key: its versions in the retained commits, or its history in a type 2 table
    History(History),
    /// Find the row of a dimension for each fact
    Lookup(Lookup),
    /// What was done to the table, and when
    Timeline(Timeline),
    /// What the table consists of: files, versions, sizes
    Show(Target),
    /// Delete old versions that the table need not keep
    Clean(Clean),
    /// Move the oldest actions from the timeline into the archive
    Archive(Archive),
    /// Undo the latest commit, or a write that died
    Rollback(Rollback),
    /// Protect what a commit shows against cleaning
    Savepoint(Savepoint),
    /// Check every invariant of the format; exit code 1 if one is broken
    Validate(Target),
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
    /// The table's name, in commits and in catalogs
    #[arg(long)]
    pub(super) name: String,
    /// The columns that tell rows apart
    #[arg(long, value_name = "K[,K2]", required = true, value_delimiter = ',')]
    pub(super) record_key: Vec<String>,
    /// The column that says which of two rows of a key is newer; in a type 2 table, when a change happened
    #[arg(long, value_name = "F")]
    pub(super) ordering_field: Option<String>,
    /// The columns by whose values rows are put into folders
    #[arg(long, value_name = "P[,P2]", value_delimiter = ',')]
    pub(super) partition_by: Vec<String>,
    /// Folders called `value` instead of `column=value`
    #[arg(long)]
    pub(super) no_hive_style: bool,
    /// Characters that trouble paths are encoded in the names of folders
    #[arg(long)]
    pub(super) url_encode: bool,
    /// The database of the table in a catalog
    #[arg(long, value_name = "NAME")]
    pub(super) database: Option<String>,
    /// How many commits stay readable; kept in the table, for every writer. Default: 10
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) retain_commits: Option<u32>,
    /// Keep history in rows (SCD type 2): --schema and --like describe the changes
    #[arg(long, requires = "ordering_field")]
    pub(super) scd2: bool,
    #[command(flatten)]
    pub(super) history: HistoryColumns,
    /// The columns: an Avro schema (.avsc), a schema of Spark as JSON, or text such as `id bigint, name string`
    #[arg(long, value_name = "FILE")]
    pub(super) schema: Option<PathBuf>,
    /// The columns are those of this Parquet, CSV or JSON lines file
    #[arg(long, value_name = "FILE")]
    pub(super) like: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct HistoryColumns {
    /// Only a change of these columns opens a row; the others show their newest values. Default: all
    #[arg(long, value_name = "C[,C2]", value_delimiter = ',', requires = "scd2")]
    pub(super) track: Vec<String>,
    /// A change of any column but these opens a row
    #[arg(long, value_name = "C[,C2]", value_delimiter = ',', requires = "scd2", conflicts_with = "track")]
    pub(super) track_all_but: Vec<String>,
    /// The boolean column that says that a change is a delete. Default: _hoodie_is_deleted, if a change has it
    #[arg(long, value_name = "C", requires = "scd2")]
    pub(super) delete_marker: Option<String>,
    /// The name of the column that says from when a row is valid
    #[arg(long, value_name = "NAME", default_value = "valid_from", requires = "scd2")]
    pub(super) valid_from: String,
    /// The name of the column that says until when, exclusive
    #[arg(long, value_name = "NAME", default_value = "valid_to", requires = "scd2")]
    pub(super) valid_to: String,
    /// The name of the column that says whether it still is
    #[arg(long, value_name = "NAME", default_value = "is_current", requires = "scd2")]
    pub(super) is_current: String,
}

#[derive(Debug, Args)]
pub(super) struct Write {
    #[command(flatten)]
    pub(super) target: Target,
    /// A file (.parquet, .csv, .jsonl), or a folder of them
    #[arg(long, value_name = "FILE|DIR")]
    pub(super) input: PathBuf,
    /// The types of columns that the table lacks yet, as for `create`. Default: guessed from their values
    #[arg(long, value_name = "FILE")]
    pub(super) schema: Option<PathBuf>,
    #[command(flatten)]
    pub(super) index: Index,
}

#[derive(Debug, Args)]
pub(super) struct Upsert {
    #[command(flatten)]
    pub(super) write: Write,
    /// The column of change files that says what a row does, as AWS DMS writes it: I and U write the row, D deletes its key.
    /// It is not stored, unless the table has such a column
    #[arg(long, value_name = "COL")]
    pub(super) operation_column: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Index {
    /// A folder on the local disk that keeps the key index of tables for the next run, so that less of a remote storage
    /// is read; it takes at most 1 GiB, and may be deleted at any time
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
    /// The whole table gets these rows and no others
    #[arg(long)]
    pub(super) whole_table: bool,
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    #[command(flatten)]
    pub(super) target: Target,
    /// A file (.parquet, .csv, .jsonl) with the columns of the record key, or a folder of them; for a type 2 table with
    /// the time of the deletion too
    #[arg(long, value_name = "FILE|DIR")]
    pub(super) keys: PathBuf,
    #[command(flatten)]
    pub(super) index: Index,
}

#[derive(Debug, Args)]
pub(super) struct Rows {
    /// How rows are written. Default: by the ending of --output, else jsonl
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(super) format: Option<Format>,
    /// Write to a file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A JSON object a line
    Jsonl,
    /// Comma separated, under a line of names
    Csv,
    /// Parquet, into a file or a pipe
    Parquet,
    /// For people
    Table,
}

#[derive(Debug, Args)]
pub(super) struct Read {
    #[command(flatten)]
    pub(super) target: Target,
    /// The rows as they were at an instant
    #[arg(long, value_name = "I", value_parser = parse_instant, conflicts_with_all = ["since", "until"])]
    pub(super) as_of: Option<InstantArg>,
    /// The rows that commits after this instant wrote
    #[arg(long, value_name = "I", value_parser = parse_instant)]
    pub(super) since: Option<InstantArg>,
    /// The last commit that counts for --since
    #[arg(long, value_name = "I", value_parser = parse_instant, requires = "since")]
    pub(super) until: Option<InstantArg>,
    /// Only these columns, in this order
    #[arg(long, value_name = "C[,C2]", value_delimiter = ',')]
    pub(super) columns: Vec<String>,
    /// Hudi's own columns too
    #[arg(long)]
    pub(super) meta_columns: bool,
    /// At most so many rows
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<usize>,
    #[command(flatten)]
    pub(super) rows: Rows,
}

#[derive(Debug, Args)]
pub(super) struct History {
    #[command(flatten)]
    pub(super) target: Target,
    /// The record key: a value, or `a:1,b:2` for several columns
    #[arg(long, value_name = "K")]
    pub(super) key: String,
    #[command(flatten)]
    pub(super) rows: Rows,
}

#[derive(Debug, Args)]
pub(super) struct Lookup {
    #[command(flatten)]
    pub(super) target: Target,
    /// A file of facts (.parquet, .csv, .jsonl), or a folder of them
    #[arg(long, value_name = "FILE|DIR")]
    pub(super) facts: PathBuf,
    /// Which column of the facts holds which key of the dimension
    #[arg(long, value_name = "COL=KEY", required = true, value_delimiter = ',', value_parser = parse_pair)]
    pub(super) on: Vec<(String, String)>,
    /// The column of the facts that says which time's row they want (type 2). Default: the latest
    #[arg(long, value_name = "COL")]
    pub(super) at: Option<String>,
    /// Put this in front of the names of the dimension's columns
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(super) prefix: String,
    #[command(flatten)]
    pub(super) rows: Rows,
}

#[derive(Debug, Args)]
pub(super) struct Timeline {
    #[command(flatten)]
    pub(super) target: Target,
    /// Actions in the archive too
    #[arg(long)]
    pub(super) archived: bool,
}

#[derive(Debug, Args)]
pub(super) struct Clean {
    #[command(flatten)]
    pub(super) target: Target,
    /// Only say what would be deleted
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) keep: Keep,
}

/// Another policy than the table's own.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct Keep {
    /// Keep the last so many commits readable, this once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) retain_commits: Option<u32>,
    /// Keep the commits of the last so many hours readable, this once
    #[arg(long, value_name = "H", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) retain_hours: Option<u32>,
    /// Keep so many versions of each file group, this once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) retain_versions: Option<u32>,
}

#[derive(Debug, Args)]
pub(super) struct Archive {
    #[command(flatten)]
    pub(super) target: Target,
    /// So many commits stay on the timeline, but never fewer than are readable
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(super) keep_min: usize,
    /// With more commits than this there is work to do
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub(super) keep_max: usize,
}

#[derive(Debug, Args)]
pub(super) struct Rollback {
    #[command(flatten)]
    pub(super) target: Target,
    /// The commit to undo: the latest one, or one that did not complete
    #[arg(long, value_name = "I", value_parser = parse_instant)]
    pub(super) instant: InstantArg,
}

#[derive(Debug, Args)]
pub(super) struct Savepoint {
    #[command(flatten)]
    pub(super) target: Target,
    /// The commit to protect
    #[arg(long, value_name = "I", value_parser = parse_instant)]
    pub(super) instant: InstantArg,
    /// Give the savepoint up
    #[arg(long)]
    pub(super) delete: bool,
    /// Who wants it
    #[arg(long, value_name = "NAME", default_value = "user")]
    pub(super) user: String,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(super) comment: String,
}

/// An instant as a person writes it: Hudi's digits, or a time, which means what the table's time zone makes of it.
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
