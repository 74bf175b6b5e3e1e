//! [`SyncOptions`]: how a table is registered.

use std::collections::BTreeMap;

use super::partitions;
use crate::{Error, ErrorKind, Result, Table};

/// The extractor of a table without partitions.
const UNPARTITIONED: &str = "org.apache.hudi.hive.NonPartitionedExtractor";

/// The text of the catalog's partition values, from the partition's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartitionValues {
    /// `region=eu` gives `eu`.
    HiveStyle,
    /// The whole path is the value of the only column.
    SinglePart,
    /// Each folder is a value; `column=` is removed.
    MultiPart,
    /// `2026/03/01` gives `2026-03-01`.
    SlashEncodedDay,
}

impl PartitionValues {
    const CLASSES: [(&str, Self); 4] = [
        ("org.apache.hudi.hive.HiveStylePartitionValueExtractor", Self::HiveStyle),
        ("org.apache.hudi.hive.SinglePartPartitionValueExtractor", Self::SinglePart),
        ("org.apache.hudi.hive.MultiPartKeysValueExtractor", Self::MultiPart),
        ("org.apache.hudi.hive.SlashEncodedDayPartitionValueExtractor", Self::SlashEncodedDay),
    ];
}

/// How a table is registered: the names in the catalog, the location, and the options of Hudi's own sync.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SyncOptions {
    pub(super) database: String,
    pub(super) table: Option<String>,
    pub(super) location: String,
    pub(super) timestamps: bool,
    pub(super) meta_columns: bool,
    pub(super) spark_parameters: bool,
    pub(super) schema_part: usize,
    pub(super) partition_values: Option<PartitionValues>,
    pub(super) create_database: bool,
    pub(super) skip_archive: bool,
    pub(super) only_changes: bool,
    pub(super) takeover: bool,
    pub(super) table_parameters: BTreeMap<String, String>,
    pub(super) serde_parameters: BTreeMap<String, String>,
}

impl SyncOptions {
    /// Registers the table in a database under its own name; `location` is the table's folder as readers
    /// reach it, such as `s3://bucket/lake/customer`.
    pub fn new(database: impl Into<String>, location: impl Into<String>) -> Self {
        let location = location.into();
        Self {
            database: database.into(),
            table: None,
            location: location.trim_end_matches('/').to_owned(),
            timestamps: false,
            meta_columns: true,
            spark_parameters: true,
            schema_part: 4000,
            partition_values: None,
            create_database: true,
            skip_archive: true,
            only_changes: false,
            takeover: false,
            table_parameters: BTreeMap::new(),
            serde_parameters: BTreeMap::new(),
        }
    }

    /// Registers the table under another name than its own.
    #[must_use]
    pub fn with_table(mut self, table: impl Into<String>) -> Self {
        self.table = Some(table.into());
        self
    }

    /// Declares timestamps as `timestamp` instead of `bigint`, the default of Hudi. Athena, Redshift and Trino
    /// need it to read a timestamp. A registered table keeps its choice: changing it is refused.
    #[must_use]
    pub fn with_timestamps(mut self, timestamps: bool) -> Self {
        self.timestamps = timestamps;
        self
    }

    /// Replaces a table of another tool under the same name, and changes types that are otherwise refused.
    #[must_use]
    pub fn with_takeover(mut self, takeover: bool) -> Self {
        self.takeover = takeover;
        self
    }

    /// Asks Athena to read the table through its own Hudi connector instead of the input format in the
    /// catalog. Athena documents the property for engine version 3.
    #[must_use]
    pub fn with_athena_native_connector(mut self) -> Self {
        let name = "athena_enable_native_hudi_connector_implementation";
        self.table_parameters.insert(name.into(), "true".into());
        self
    }

    /// Sets an option of Hudi's own sync by its name there.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidDefinition`], naming the option, if its value is invalid;
    /// [`ErrorKind::Unsupported`] with the reason if the option has no meaning here or is unknown.
    pub fn with_hudi_option(mut self, name: &str, value: &str) -> Result<Self> {
        let flag = || match value {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(invalid(name, value, "it must be true or false")),
        };
        let short = ["hoodie.datasource.hive_sync.", "hoodie.datasource.meta.sync.", "hoodie.meta.sync."];
        let short = short.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        match short {
            "database" => self.database = value.to_owned(),
            "table" => self.table = Some(value.to_owned()),
            "support_timestamp" => self.timestamps = flag()?,
            "omit_metadata_fields" => self.meta_columns = !flag()?,
            "sync_as_datasource" => self.spark_parameters = flag()?,
            "auto_create_database" => self.create_database = flag()?,
            "glue.skip_table_archive" => self.skip_archive = flag()?,
            "hoodie.datasource.meta_sync.condition.sync" => self.only_changes = flag()?,
            "schema_string_length_thresh" => {
                let parsed = value.parse().ok().filter(|units| *units > 0);
                self.schema_part =
                    parsed.ok_or_else(|| invalid(name, value, "it must be a positive number"))?;
            }
            "partition_extractor_class" => {
                let known = PartitionValues::CLASSES.iter().find(|(class, _)| *class == value);
                self.partition_values = match (known, value) {
                    (Some((_, values)), _) => Some(*values),
                    (None, UNPARTITIONED) => None,
                    _ => return Err(invalid(name, value, &known_classes())),
                };
            }
            "table_properties" => self.table_parameters.extend(pairs(name, value)?),
            "serde_properties" => self.serde_parameters.extend(pairs(name, value)?),
            "glue.metadata_file_listing" if !flag()? => {}
            _ => {
                return Err(Error::new(ErrorKind::Unsupported, format!("{}: {name}", reason(short)))
                    .with_context("value", value));
            }
        }
        Ok(self)
    }

    /// Returns the options with which Hudi's own sync registers a table in the same way, in the job of Spark that
    /// writes it ([`spark::options_of`](crate::spark::options_of)). Hudi then reaches the catalog as Hive's
    /// metastore (`hive_sync.mode=hms`), which is Glue's own in a Glue job with `--enable-glue-datacatalog`.
    ///
    /// A release 0.15 of Hudi reports success for an update that failed, so a sync of this crate after the job is the
    /// safer way: leave these options out then.
    pub fn hudi_options(&self, table: &Table) -> BTreeMap<String, String> {
        let (database, name) = self.names(table);
        let mut options = BTreeMap::new();
        let mut set = |short: &str, value: String| {
            options.insert(format!("hoodie.datasource.hive_sync.{short}"), value);
        };
        set("enable", "true".into());
        set("mode", "hms".into());
        set("database", database);
        set("table", name);
        set("partition_fields", table.partition_fields().join(","));
        let rule = partitions::rule(table, self);
        let class = PartitionValues::CLASSES.iter().find(|(_, values)| *values == rule);
        let class = class.filter(|_| !table.partition_fields().is_empty()).map(|(class, _)| *class);
        set("partition_extractor_class", class.unwrap_or(UNPARTITIONED).into());
        set("support_timestamp", self.timestamps.to_string());
        set("omit_metadata_fields", (!self.meta_columns).to_string());
        set("sync_as_datasource", self.spark_parameters.to_string());
        set("auto_create_database", self.create_database.to_string());
        for (short, pairs) in
            [("table_properties", &self.table_parameters), ("serde_properties", &self.serde_parameters)]
        {
            let lines: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            if !lines.is_empty() {
                set(short, lines.join("\n"));
            }
        }
        let only_changes = self.only_changes.to_string();
        options.insert("hoodie.datasource.meta_sync.condition.sync".into(), only_changes);
        options
    }

    /// Returns the names of the database and the table. The catalog folds names to lower case, and a later read
    /// compares them.
    pub(super) fn names(&self, table: &Table) -> (String, String) {
        let name = self.table.as_deref().unwrap_or(table.name());
        (self.database.to_lowercase(), name.to_lowercase())
    }

    /// Sets how partition values are taken from a partition's path. By default: as Hudi infers it.
    #[must_use]
    pub fn with_partition_values(mut self, values: PartitionValues) -> Self {
        self.partition_values = Some(values);
        self
    }
}

/// Says why an option of Hudi's sync is refused.
fn reason(option: &str) -> &'static str {
    match option {
        "glue.metadata_file_listing" => {
            "readers must not list files through a metadata table, which this crate does not keep"
        }
        "jdbcurl" | "username" | "password" | "mode" | "use_jdbc" | "metastore.uris" => {
            "the option is for a Hive metastore, not for Glue"
        }
        "create_managed_table" => "a managed table would lose its files when it is dropped from the catalog",
        "sync_comment" => "Hudi's sync accepts the option and never sends a comment",
        "partition_fields" => "the table's own properties name its partition fields",
        "bucket_sync" | "bucket_sync_spec" => "bucketed tables are not supported",
        "incremental" => "partitions are compared by commits, or by listing once the commits are gone",
        _ => "the option is unknown",
    }
}

fn known_classes() -> String {
    let names = PartitionValues::CLASSES.map(|(class, _)| class);
    format!("the known classes are {}", names.join(", "))
}

fn invalid(name: &str, value: &str, rule: &str) -> Error {
    Error::new(ErrorKind::InvalidDefinition, format!("the value of {name} is invalid: {rule}"))
        .with_context("value", value)
}

/// Parses lines of `key=value`.
fn pairs(name: &str, text: &str) -> Result<BTreeMap<String, String>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (key, value) =
                line.split_once('=').ok_or_else(|| invalid(name, line, "each line must be key=value"))?;
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}
