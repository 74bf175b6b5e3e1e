//! The `hoodie.*` options of a table.

use std::collections::BTreeMap;

use hudi_format::retention::POLICY;

use crate::{
    Error, ErrorKind, Result, RetentionPolicy, Table, TableDefinition,
    codec::Codec,
    definition::HISTORY,
    index,
    key::{FolderForm, KeyEncoding, KeyGenerator, TIMESTAMP_PREFIXES},
    properties::{PARQUET_CODEC, TableProperties},
};

/// Hudi releases, grouped by the names of their options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Release {
    /// 0.14 and 0.15. AWS Glue 5.0 has 0.15.
    V0,
    /// 1.0. AWS Glue 5.1 has 1.0.2.
    V1_0,
    /// 1.1 and later.
    V1_1,
}

impl Release {
    /// Returns the release that a version such as `0.15.0` belongs to. Returns `None` for versions before
    /// 0.14 and for text that is not a version.
    pub fn parse(version: &str) -> Option<Self> {
        let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
        match (numbers.next()??, numbers.next()??) {
            (0, 14 | 15) => Some(Self::V0),
            (1, 0) => Some(Self::V1_0),
            (1, _) => Some(Self::V1_1),
            _ => None,
        }
    }
}

/// Hudi's own limit of the active timeline, unless more commits are retained.
const KEEP_MIN: u32 = 20;
/// Number of commits that are archived at a time.
const KEEP_SPAN: u32 = 10;

/// Returns the options with which Spark writes a table of this definition. A writer with these options
/// creates the same table as [`Table::create`], and can continue a table that this crate wrote.
///
/// - The table keeps version 6 (`hoodie.write.table.version`, which Hudi 0.x does not know) and has no
///   metadata table, because Redshift and Athena cannot read later versions.
/// - The index is global and moves rows between partitions, so that a key occurs only once per table. The
///   payload class prevents a late row from replacing a newer one. The default class of 0.x does not.
/// - Instants are in UTC, as in tables of this crate. The codec and the retention are taken from the
///   definition.
/// - Obsolete options are omitted: `hoodie.consistency.check.enabled` (S3 is consistent) and
///   `hoodie.datasource.hive_sync.use_jdbc` (superseded by `mode`). To add a catalog, use
///   `SyncOptions::hudi_options` of the feature `glue`.
///
/// # Errors
/// [`ErrorKind::InvalidDefinition`] as for [`Table::create`]; [`ErrorKind::Unsupported`] for a history (SCD type
/// 2), which only this crate can write.
pub fn options(definition: &TableDefinition, release: Release) -> Result<BTreeMap<String, String>> {
    let properties = definition.properties()?.0;
    let retention = properties.retention.unwrap_or_default();
    let encoding = properties.key_encoding.unwrap_or(KeyEncoding::ValueOnly);
    render(&properties, encoding, Some(retention), release)
}

/// Returns the options with which Spark writes this table, like [`options`]. The retention is that of this
/// handle.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for a history (SCD type 2), and for a table that this crate can only read;
/// [`ErrorKind::Storage`].
pub async fn options_of(table: &Table, release: Release) -> Result<BTreeMap<String, String>> {
    let properties = table.context().properties();
    properties.check_writable()?;
    let encoding = match properties.encoded_key_field() {
        Some(_) => index::key_encoding(table.context(), &*table.context().view().await?).await?,
        None => KeyEncoding::ValueOnly,
    };
    render(properties, encoding, table.options().retention(), release)
}

fn render(
    properties: &TableProperties,
    encoding: KeyEncoding,
    retention: Option<RetentionPolicy>,
    release: Release,
) -> Result<BTreeMap<String, String>> {
    if properties.raw().contains_key(HISTORY) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "Spark cannot write a history (SCD type 2), because it knows no rules for its intervals",
        )
        .with_context("table", &properties.name)
        .with_context(
            "hint",
            "take the changes in with hudi-scd, or with Spark into a table of the latest rows",
        ));
    }
    let mut options = Options::default();
    identity(&mut options, properties);
    merging(&mut options, properties, release);
    options.set("hoodie.index.type", "GLOBAL_BLOOM");
    options.set("hoodie.bloom.index.update.partition.path", "true");
    upkeep(&mut options, retention, release);
    let codec = properties.codec().and_then(Codec::parse).unwrap_or_default();
    options.set(PARQUET_CODEC, codec.name());
    version(&mut options, properties, encoding, release);
    Ok(options.0)
}

/// The options collected so far.
#[derive(Default)]
struct Options(BTreeMap<String, String>);

impl Options {
    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_owned(), value.into());
    }
}

/// Sets the table's name, its keys and its folders.
fn identity(options: &mut Options, properties: &TableProperties) {
    options.set("hoodie.table.name", &properties.name);
    if !properties.database().is_empty() {
        options.set("hoodie.database.name", properties.database());
    }
    options.set("hoodie.datasource.write.table.type", "COPY_ON_WRITE");
    options.set("hoodie.datasource.write.operation", "upsert");
    options.set("hoodie.datasource.write.recordkey.field", properties.record_key_fields.join(","));
    let is_custom = properties.key_generator == Some(KeyGenerator::Custom);
    let folders =
        properties.partition_fields.iter().zip(&properties.folder_forms).map(|(field, form)| match form {
            FolderForm::Time if is_custom => format!("{field}:TIMESTAMP"),
            _ if is_custom => format!("{field}:SIMPLE"),
            _ => field.clone(),
        });
    let folders = folders.collect::<Vec<_>>().join(",");
    options.set("hoodie.datasource.write.partitionpath.field", folders);
    if let Some(generator) = properties.key_generator {
        options.set("hoodie.datasource.write.keygenerator.class", generator.class());
    }
    options.set("hoodie.datasource.write.hive_style_partitioning", properties.hive_style.to_string());
    options.set("hoodie.datasource.write.partitionpath.urlencode", properties.url_encode.to_string());
    let of_generator =
        |(name, _): &(&String, &String)| TIMESTAMP_PREFIXES.iter().any(|key| name.starts_with(key));
    for (name, value) in properties.raw().iter().filter(of_generator) {
        options.set(name, value);
    }
}

/// Sets how one of two rows with the same key is chosen.
fn merging(options: &mut Options, properties: &TableProperties, release: Release) {
    options.set("hoodie.datasource.write.payload.class", properties.merge.payload_class());
    if let Some(field) = &properties.ordering_field {
        let name = match release {
            Release::V0 | Release::V1_0 => "hoodie.datasource.write.precombine.field",
            Release::V1_1 => "hoodie.table.ordering.fields",
        };
        options.set(name, field);
    }
}

/// Sets cleaning and archiving.
fn upkeep(options: &mut Options, retention: Option<RetentionPolicy>, release: Release) {
    let Some(retention) = retention else { return options.set("hoodie.clean.automatic", "false") };
    let (limit, number) = retention.property();
    // 1.0 renamed the options, and accepts the old names.
    let name = |old: &str| match release {
        Release::V0 => old.to_owned(),
        Release::V1_0 | Release::V1_1 => old.replacen("hoodie.cleaner.", "hoodie.clean.", 1),
    };
    options.set(&name(POLICY), retention.name());
    options.set(&name(limit), number.to_string());
    // A commit must not be archived while it is retained.
    let kept = match retention {
        RetentionPolicy::Commits(commits) => commits.saturating_add(2),
        _ => 0,
    };
    let min = KEEP_MIN.max(kept);
    options.set("hoodie.keep.min.commits", min.to_string());
    options.set("hoodie.keep.max.commits", min.saturating_add(KEEP_SPAN).to_string());
}

/// Sets the version of the format.
fn version(options: &mut Options, properties: &TableProperties, encoding: KeyEncoding, release: Release) {
    options.set("hoodie.metadata.enable", "false");
    options.set("hoodie.table.timeline.timezone", properties.zone_name());
    if release == Release::V0 {
        return;
    }
    options.set("hoodie.write.table.version", "6");
    options.set("hoodie.write.auto.upgrade", "false");
    if release == Release::V1_1 && properties.encoded_key_field().is_some() {
        // Hudi 1.1 rejects such a table unless an option sets the form of its keys (docs/other-engines.md).
        let value_only = encoding == KeyEncoding::ValueOnly;
        options.set("hoodie.write.complex.keygen.validation.enable", "false");
        options.set("hoodie.write.complex.keygen.new.encoding", value_only.to_string());
    }
}
