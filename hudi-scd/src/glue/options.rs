//! [`SyncOptions`]: how a table is registered.

use std::collections::BTreeMap;

use crate::{Error, ErrorKind, Result, Table};

/// The parameter that contains the instant of the last commit that the catalog knows.
pub(super) const LAST_COMMIT: &str = "last_commit_time_sync";
/// The partition value extractor of a table without partitions.
const UNPARTITIONED: &str = "org.apache.hudi.hive.NonPartitionedExtractor";

/// Maximum length of a name in the catalog.
const LONGEST_NAME: usize = 255;

/// The properties of a table and of its SerDe that the sync sets. A name that ends with a dot is a prefix.
const TABLE_PROPERTIES: [&str; 4] =
    ["EXTERNAL", "hudi.metadata-listing-enabled", "spark.sql.sources.", LAST_COMMIT];
const SERDE_PROPERTIES: [&str; 3] = ["serialization.format", "path", "hoodie.query.as.ro.table"];

/// How the catalog's partition values are derived from a partition's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartitionValues {
    /// `region=eu` gives `eu`.
    HiveStyle,
    /// The whole path is the value of the only column, with `-` in place of `/`.
    SinglePart,
    /// Each folder is a value; `column=` is removed.
    MultiPart,
    /// `2026/03/01`, or `2026/3/1`, gives `2026-03-01`.
    SlashEncodedDay,
    /// `2026/03/01/07` gives `2026-03-01-07`.
    SlashEncodedHour,
}

impl PartitionValues {
    const CLASSES: [(&str, Self); 5] = [
        ("org.apache.hudi.hive.HiveStylePartitionValueExtractor", Self::HiveStyle),
        ("org.apache.hudi.hive.SinglePartPartitionValueExtractor", Self::SinglePart),
        ("org.apache.hudi.hive.MultiPartKeysValueExtractor", Self::MultiPart),
        ("org.apache.hudi.hive.SlashEncodedDayPartitionValueExtractor", Self::SlashEncodedDay),
        ("org.apache.hudi.hive.SlashEncodedHourPartitionValueExtractor", Self::SlashEncodedHour),
    ];
}

/// How a table is registered: its names in the catalog, its location, and the options of Hudi's own sync.
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
    pub(super) incremental: bool,
    pub(super) takeover: bool,
    pub(super) table_parameters: BTreeMap<String, String>,
    pub(super) serde_parameters: BTreeMap<String, String>,
}

impl SyncOptions {
    /// Registers the table in a database under its own name. `location` is the folder where readers find the
    /// table, such as `s3://bucket/lake/customer`.
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
            incremental: true,
            takeover: false,
            table_parameters: BTreeMap::new(),
            serde_parameters: BTreeMap::new(),
        }
    }

    /// Registers the table under a different name.
    #[must_use]
    pub fn with_table(mut self, table: impl Into<String>) -> Self {
        self.table = Some(table.into());
        self
    }

    /// Declares timestamps as `timestamp` instead of `bigint`, which is Hudi's default. Athena, Redshift and
    /// Trino need `timestamp` to read a timestamp. A table that is already registered keeps its type: a
    /// change is rejected.
    #[must_use]
    pub fn with_timestamps(mut self, timestamps: bool) -> Self {
        self.timestamps = timestamps;
        self
    }

    /// Replaces a table of the same name that another tool created, and allows changes of types that are
    /// otherwise rejected.
    #[must_use]
    pub fn with_takeover(mut self, takeover: bool) -> Self {
        self.takeover = takeover;
        self
    }

    /// Compares only the partitions that commits since the last sync have changed. Default: `true`. If
    /// `false`, a sync compares each partition, as [`check`](super::check) does, and repairs what other tools
    /// have changed.
    #[must_use]
    pub fn with_incremental(mut self, incremental: bool) -> Self {
        self.incremental = incremental;
        self
    }

    /// Makes Athena read the table through its own Hudi connector instead of the input format in the catalog.
    /// Athena documents the property for engine version 3.
    #[must_use]
    pub fn with_athena_native_connector(mut self) -> Self {
        let name = "athena_enable_native_hudi_connector_implementation";
        self.table_parameters.insert(name.into(), "true".into());
        self
    }

    /// Sets an option of Hudi's own sync, by its name there.
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
        match name {
            "hoodie.datasource.hive_sync.support_timestamp" => self.timestamps = flag()?,
            "hoodie.datasource.hive_sync.omit_metadata_fields" => self.meta_columns = !flag()?,
            "hoodie.datasource.hive_sync.sync_as_datasource" => self.spark_parameters = flag()?,
            "hoodie.datasource.hive_sync.auto_create_database" => self.create_database = flag()?,
            "hoodie.meta.sync.incremental" => self.incremental = flag()?,
            "hoodie.datasource.meta.sync.glue.skip_table_archive" => self.skip_archive = flag()?,
            "hoodie.datasource.meta_sync.condition.sync" => self.only_changes = flag()?,
            "hoodie.datasource.hive_sync.schema_string_length_thresh" => {
                let parsed = value.parse().ok().filter(|units| *units > 0);
                self.schema_part =
                    parsed.ok_or_else(|| invalid(name, value, "it must be a positive number"))?;
            }
            "hoodie.datasource.hive_sync.partition_extractor_class" => {
                let known = PartitionValues::CLASSES.iter().find(|(class, _)| *class == value);
                self.partition_values = match (known, value) {
                    (Some((_, values)), _) => Some(*values),
                    (None, UNPARTITIONED) => None,
                    _ => return Err(invalid(name, value, &known_classes())),
                };
            }
            "hoodie.datasource.hive_sync.table_properties" => {
                self.table_parameters.extend(pairs(name, value, &TABLE_PROPERTIES)?);
            }
            "hoodie.datasource.hive_sync.serde_properties" => {
                self.serde_parameters.extend(pairs(name, value, &SERDE_PROPERTIES)?);
            }
            "hoodie.datasource.meta.sync.glue.metadata_file_listing" if !flag()? => {}
            _ => {
                return Err(Error::new(ErrorKind::Unsupported, format!("{}: {name}", reason(name)))
                    .with_context("value", value));
            }
        }
        Ok(self)
    }

    /// Returns the options with which Hudi's own sync registers a table in the same way, in the Spark job
    /// that writes it ([`spark::options_of`](crate::spark::options_of)). Hudi then accesses the catalog as a
    /// Hive metastore (`hive_sync.mode=hms`). In a Glue job with `--enable-glue-datacatalog`, this metastore
    /// is Glue's own.
    ///
    /// Hudi 0.15 reports success for an update that failed. A sync with this crate after the job is therefore
    /// safer; in that case, omit these options.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidDefinition`] if the name of the database or of the table is invalid.
    pub fn hudi_options(&self, table: &Table) -> Result<BTreeMap<String, String>> {
        let (database, name) = self.names(table)?;
        let mut options = BTreeMap::new();
        let mut set = |short: &str, value: String| {
            options.insert(format!("hoodie.datasource.hive_sync.{short}"), value);
        };
        set("enable", "true".into());
        set("mode", "hms".into());
        set("database", database);
        set("table", name);
        set("partition_fields", table.partition_fields().join(","));
        let rule = rule(table, self);
        let class = PartitionValues::CLASSES.iter().find(|(_, values)| *values == rule);
        let class = class.filter(|_| !table.partition_fields().is_empty()).map(|(class, _)| *class);
        set("partition_extractor_class", class.unwrap_or(UNPARTITIONED).into());
        set("support_timestamp", self.timestamps.to_string());
        set("omit_metadata_fields", (!self.meta_columns).to_string());
        set("sync_as_datasource", self.spark_parameters.to_string());
        set("auto_create_database", self.create_database.to_string());
        set("schema_string_length_thresh", self.schema_part.to_string());
        for (short, pairs) in
            [("table_properties", &self.table_parameters), ("serde_properties", &self.serde_parameters)]
        {
            let lines: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            if !lines.is_empty() {
                set(short, lines.join("\n"));
            }
        }
        options.insert("hoodie.datasource.meta_sync.condition.sync".into(), self.only_changes.to_string());
        options.insert("hoodie.meta.sync.incremental".into(), self.incremental.to_string());
        Ok(options)
    }

    /// Returns the names of the database and the table. The catalog converts names to lower case, and a later
    /// read compares them.
    pub(super) fn names(&self, table: &Table) -> Result<(String, String)> {
        let name = |noun: &str, name: &str| {
            let length = name.chars().count();
            if (1..=LONGEST_NAME).contains(&length) && !name.chars().any(char::is_control) {
                return Ok(name.to_lowercase());
            }
            let message =
                format!("the {noun}'s name in the catalog must have 1 to {LONGEST_NAME} characters");
            Err(Error::new(ErrorKind::InvalidDefinition, message).with_context("name", name))
        };
        let table = self.table.as_deref().unwrap_or(table.name());
        Ok((name("database", &self.database)?, name("table", table)?))
    }

    /// Sets how partition values are derived from a partition's path. Default: as Hudi infers it.
    #[must_use]
    pub fn with_partition_values(mut self, values: PartitionValues) -> Self {
        self.partition_values = Some(values);
        self
    }
}

/// Returns the reason why an option of Hudi's sync is rejected.
fn reason(name: &str) -> &'static str {
    const PREFIXES: [&str; 4] = [
        "hoodie.datasource.hive_sync.",
        "hoodie.datasource.meta.sync.",
        "hoodie.datasource.meta_sync.",
        "hoodie.meta.sync.",
    ];
    let Some(short) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) else {
        return "the option is unknown; write its whole name, such as \
                hoodie.datasource.hive_sync.support_timestamp";
    };
    match short {
        "database" | "table" => "set the database and the name of the registration instead",
        "glue.metadata_file_listing" | "metadata_file_listing" => {
            "readers must not list files through a metadata table, which this crate does not keep"
        }
        "jdbcurl" | "username" | "password" | "mode" | "use_jdbc" | "metastore.uris" => {
            "the option is for a Hive metastore, not for Glue"
        }
        "create_managed_table" => "a managed table would lose its files when it is dropped from the catalog",
        "sync_comment" => "Hudi's sync accepts the option and never sends a comment",
        "partition_fields" => "the table's own properties name its partition fields",
        "bucket_sync" | "bucket_sync_spec" => "bucketed tables are not supported",
        "enable" | "client.tool.class" => "this sync is the one that runs",
        "base.path" => "the location of the registration names the folder",
        "base_file_format" | "skip_ro_suffix" => "tables are copy-on-write, with base files in Parquet",
        "assume_date_partitioning" => "the class of the partition value extractor decides this",
        "no_partition_metadata" => "partitions are found by the commits, or by listing files",
        "recreate_table_on_error" => "a table is replaced only by a takeover",
        "ignore_exceptions" => "a failed sync is always reported",
        "glue.partition_index_fields" | "glue.partition_index_fields.enable" => {
            "the sync does not manage partition indexes"
        }
        "batch_num"
        | "filter_pushdown_enabled"
        | "filter_pushdown_max_size"
        | "glue.all_partitions_read_parallelism"
        | "glue.changed_partitions_read_parallelism"
        | "glue.partition_change_parallelism" => "the sync chooses its requests itself",
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

/// Parses lines of `key=value`. A property in `own` is rejected. As in Hudi, a key without a value has an
/// empty value.
fn pairs(name: &str, text: &str, own: &[&str]) -> Result<BTreeMap<String, String>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            let (key, value) = (key.trim(), value.trim());
            if key.is_empty() {
                return Err(invalid(name, line, "each line must be key=value"));
            }
            if own.iter().any(|own| key == *own || (own.ends_with('.') && key.starts_with(own))) {
                return Err(invalid(name, line, "the sync sets this property itself"));
            }
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Returns how partition values are derived from a path: as set in the options, otherwise as Hudi infers it.
pub(super) fn rule(table: &Table, options: &SyncOptions) -> PartitionValues {
    let style = (table.partition_fields().len(), table.context().properties().hive_style);
    options.partition_values.unwrap_or(match style {
        (1, true) => PartitionValues::HiveStyle,
        (1, false) => PartitionValues::SinglePart,
        _ => PartitionValues::MultiPart,
    })
}
