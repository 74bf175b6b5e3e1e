//! `hoodie.properties`: a table's configuration as typed values. Tables that this crate cannot handle are
//! rejected.

mod java;
mod upgrade;
mod version;

pub use self::java::java_date;
pub use self::version::TableVersion;
pub use self::version::{NULL_PARTITION, OLD_NULL_PARTITION};

use std::{collections::BTreeMap, sync::Arc};

use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use jiff::{Timestamp, tz::TimeZone};

use crate::{
    Error, ErrorKind, Result,
    key::{FolderForm, KeyEncoding, KeyGenerator, TimestampKey, is_escaped},
    names::TimelineLayout,
    retention::{POLICY, RetentionPolicy},
    schema,
};

const NAME: &str = "hoodie.table.name";
const DATABASE: &str = "hoodie.database.name";
const TYPE: &str = "hoodie.table.type";
const VERSION: &str = "hoodie.table.version";
const LAYOUT_VERSION: &str = "hoodie.timeline.layout.version";
const TIMELINE_FOLDER: &str = "hoodie.timeline.path";
const HISTORY_FOLDER: &str = "hoodie.timeline.history.path";
const RECORD_KEYS: &str = "hoodie.table.recordkey.fields";
const ORDERING: &str = "hoodie.table.precombine.field";
/// The name of [`ORDERING`] since table version 9.
const ORDERING_FIELDS: &str = "hoodie.table.ordering.fields";
const PARTITIONS: &str = "hoodie.table.partition.fields";
const HIVE_STYLE: &str = "hoodie.datasource.write.hive_style_partitioning";
const URL_ENCODE: &str = "hoodie.datasource.write.partitionpath.urlencode";
const DROP_PARTITION_COLUMNS: &str = "hoodie.datasource.write.drop.partition.columns";
/// The property that names the class of the key generator.
pub const KEY_GENERATOR_CLASS: &str = "hoodie.table.keygenerator.class";
const KEY_GENERATOR_TYPE: &str = "hoodie.table.keygenerator.type";
/// The property that records the form of a record key with one field under the complex generator. No released
/// Hudi reads it yet. The name and the values are those of apache/hudi#19304.
pub const KEY_ENCODING: &str = "hoodie.table.complex.keygenerator.encoding";
const META_FIELDS: &str = "hoodie.populate.meta.fields";
const BASE_FORMAT: &str = "hoodie.table.base.file.format";
const ARCHIVE_FOLDER: &str = "hoodie.archivelog.folder";
const TIME_ZONE: &str = "hoodie.table.timeline.timezone";
const CHECKSUM: &str = "hoodie.table.checksum";
const CHANGE_DATA_CAPTURE: &str = "hoodie.table.cdc.enabled";
const METAFILE_FORMAT: &str = "hoodie.partition.metafile.use.base.format";
/// The properties that list the partitions of the metadata table: the complete ones, and those under
/// construction.
pub const METADATA_PARTITIONS: [&str; 2] =
    ["hoodie.table.metadata.partitions", "hoodie.table.metadata.partitions.inflight"];
/// The property that sets the codec of base files for every writer.
pub const PARQUET_CODEC: &str = "hoodie.parquet.compression.codec";
const PAYLOAD_CLASS: &str = "hoodie.compaction.payload.class";
const MERGE_MODE: &str = "hoodie.record.merge.mode";
const MERGE_STRATEGY: &str = "hoodie.record.merge.strategy.id";
const CREATE_SCHEMA: &str = "hoodie.table.create.schema";
/// The property that contains the folder of the Parquet files that a bootstrap made a table from.
pub const BOOTSTRAP: &str = "hoodie.bootstrap.base.path";

const PACKAGE: &str = "org.apache.hudi.common.model.";
/// The merge strategy that 1.x writes for event-time ordering.
const EVENT_TIME_STRATEGY: &str = "eeb8d96f-b1e4-49fd-bbf8-28ac514178e5";
/// The merge strategy that 1.x writes for commit-time ordering.
const COMMIT_TIME_STRATEGY: &str = "ce9acb64-bde0-424c-9b91-f6ebba25356d";

/// Decides which of two rows with the same key is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Keeps the row with the higher ordering value; on a tie, the incoming row:
    /// `DefaultHoodieRecordPayload`.
    EventTime,
    /// Keeps the incoming row. The ordering value only decides within a batch:
    /// `OverwriteWithLatestAvroPayload`.
    CommitTime,
}

impl Merge {
    /// Returns Hudi's class for the rule.
    pub fn payload_class(self) -> String {
        let name = match self {
            Self::EventTime => "DefaultHoodieRecordPayload",
            Self::CommitTime => "OverwriteWithLatestAvroPayload",
        };
        format!("{PACKAGE}{name}")
    }
}

/// The configuration of a table.
///
/// The file is preserved completely, including properties that this crate neither knows nor needs.
#[derive(Clone, Debug, PartialEq)]
pub struct TableProperties {
    raw: BTreeMap<String, String>,
    /// The version of the table's format.
    pub version: TableVersion,
    /// The location of the timeline.
    pub timeline_layout: TimelineLayout,
    /// The table's name.
    pub name: String,
    /// The columns of the record key.
    pub record_key_fields: Vec<String>,
    /// The column that decides which of two rows is newer.
    pub ordering_field: Option<String>,
    /// The columns of the partition path.
    pub partition_fields: Vec<String>,
    /// `true` if partition paths are written as `column=value`.
    pub hive_style: bool,
    /// `true` if partition paths are URL-encoded.
    pub url_encode: bool,
    /// The generator of record keys and partition paths. `None` for a class that this crate does not know.
    /// Such a table can only be read.
    pub key_generator: Option<KeyGenerator>,
    /// The form of the values of each partition field in folder names.
    pub folder_forms: Vec<FolderForm>,
    /// `true` if rows have Hudi's five meta columns. A table without them can only be read.
    pub has_meta_columns: bool,
    /// `true` if base files lack the partition columns, so that their values appear only in folder names.
    /// Such a table can only be read.
    pub drops_partition_columns: bool,
    /// The form of a record key with one field under the complex generator, if it is recorded.
    pub key_encoding: Option<KeyEncoding>,
    /// The pattern for fields whose form is [`FolderForm::Time`]. `None` if the properties do not define it.
    /// Such a table can only be read.
    pub timestamp_key: Option<TimestampKey>,
    /// Decides which of two rows with the same key is kept.
    pub merge: Merge,
    /// The time zone of the timeline's instants.
    pub zone: TimeZone,
    /// The folder of the archive, below `.hoodie`.
    pub archive_folder: String,
    /// The retention for every writer, if the table defines it.
    pub retention: Option<RetentionPolicy>,
    read_only: Vec<ReadOnly>,
}

/// The property that makes a table read-only.
#[derive(Clone, Debug, PartialEq)]
struct ReadOnly {
    message: &'static str,
    property: &'static str,
    value: String,
}

impl ReadOnly {
    fn refused(&self) -> Error {
        let hint = "the table can be read here; write it with Spark";
        refused(ErrorKind::Unsupported, self.message, self.property, &self.value).with_context("hint", hint)
    }
}

/// The configuration of a new table.
#[derive(Clone, Debug)]
pub struct NewTable<'a> {
    /// The table's name.
    pub name: &'a str,
    /// The database's name; may be empty.
    pub database: &'a str,
    /// The columns of the record key.
    pub record_key_fields: &'a [String],
    /// The column that decides which of two rows is newer.
    pub ordering_field: Option<&'a str>,
    /// The columns of the partition path.
    pub partition_fields: &'a [String],
    /// Writes partition paths as `column=value`.
    pub hive_style: bool,
    /// URL-encodes partition paths.
    pub url_encode: bool,
    /// The Avro schema of the data columns, which applies until the first commit.
    pub schema: &'a str,
    /// Additional properties that Hudi does not know.
    pub others: &'a BTreeMap<String, String>,
}

impl TableProperties {
    /// Returns the stored column that decides which of two rows is newer, and its type, if the table has one.
    pub fn stored_ordering(&self, schema: &Schema) -> Option<(String, DataType)> {
        let name = self.ordering_field.as_ref().filter(|_| self.merge == Merge::EventTime)?;
        Some((name.clone(), schema.field_with_name(name).ok()?.data_type().clone()))
    }

    /// Creates the properties of a new table. They are the properties that Hudi 0.15 writes, with the time
    /// zone fixed to UTC and with the payload class. Without the payload class, Spark 0.x would let a late
    /// row win.
    pub fn create(table: &NewTable<'_>) -> Result<Self> {
        let key_generator = KeyGenerator::of(table.record_key_fields.len(), table.partition_fields.len());
        let merge = if table.ordering_field.is_some() { Merge::EventTime } else { Merge::CommitTime };
        let text = |flag: bool| flag.to_string();
        let mut raw = BTreeMap::from(
            [
                (NAME, table.name.to_owned()),
                (DATABASE, table.database.to_owned()),
                (TYPE, "COPY_ON_WRITE".to_owned()),
                (VERSION, "6".to_owned()),
                (LAYOUT_VERSION, "1".to_owned()),
                (RECORD_KEYS, table.record_key_fields.join(",")),
                (PARTITIONS, table.partition_fields.join(",")),
                (HIVE_STYLE, text(table.hive_style)),
                (URL_ENCODE, text(table.url_encode)),
                (DROP_PARTITION_COLUMNS, text(false)),
                (KEY_GENERATOR_CLASS, key_generator.class().to_owned()),
                (META_FIELDS, text(true)),
                (BASE_FORMAT, "PARQUET".to_owned()),
                (ARCHIVE_FOLDER, "archived".to_owned()),
                (TIME_ZONE, "UTC".to_owned()),
                (CHECKSUM, checksum(table.database, table.name).to_string()),
                (CHANGE_DATA_CAPTURE, text(false)),
                (METAFILE_FORMAT, text(false)),
                (PAYLOAD_CLASS, merge.payload_class()),
                (CREATE_SCHEMA, table.schema.to_owned()),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        );
        if let Some(field) = table.ordering_field {
            raw.insert(ORDERING.to_owned(), field.to_owned());
        }
        if let (KeyGenerator::Complex, [_]) = (key_generator, table.record_key_fields) {
            raw.insert(KEY_ENCODING.to_owned(), KeyEncoding::ValueOnly.to_string());
        }
        raw.extend(table.others.iter().map(|(key, value)| (key.clone(), value.clone())));
        let created = Self::from_raw(raw)?;
        created.check_writable()?;
        Ok(created)
    }

    /// Parses the file, and rejects a table that this crate cannot handle. Missing properties are taken from
    /// `own`, the table's own properties.
    pub fn parse(bytes: &[u8], own: Option<&[u8]>) -> Result<Self> {
        let mut raw = own.map_or_else(|| Ok(BTreeMap::new()), java::parse)?;
        raw.extend(parse_raw(bytes)?);
        Self::from_raw(raw)
    }

    /// Rejects changes to a table of a version that this crate can only read, and to a table with change data
    /// capture, because this crate does not write its logs.
    pub fn check_version_writable(&self) -> Result<()> {
        if self.version.is_writable() {
            return match self.read_only.iter().find(|reason| reason.property == CHANGE_DATA_CAPTURE) {
                Some(reason) => Err(reason.refused()),
                None => Ok(()),
            };
        }
        let message = "tables of this version can be read here, but not written";
        Err(refused(ErrorKind::Unsupported, message, VERSION, &self.version.to_string()).with_context(
            "hint",
            "write the table with Hudi 1.x, or downgrade it to version 6 there (procedure upgrade_or_downgrade)",
        ))
    }

    /// Rejects writes to a table whose keys, folders or merge rule this crate cannot reproduce. Reads need
    /// none of them.
    pub fn check_writable(&self) -> Result<()> {
        self.check_version_writable()?;
        if self.record_key_fields.is_empty() {
            let message = "tables without a record key can be read here, but not written";
            return Err(refused(ErrorKind::Unsupported, message, RECORD_KEYS, ""));
        }
        if let Some(reason) = self.read_only.first() {
            return Err(reason.refused());
        }
        if self.folder_forms.contains(&FolderForm::Time) {
            TimestampKey::of(&self.raw)?;
        }
        let ordering = self.ordering_field.as_slice();
        let properties = [
            (RECORD_KEYS, self.record_key_fields.as_slice()),
            (PARTITIONS, &self.partition_fields),
            (ORDERING, ordering),
        ];
        let inside = |fields: &[String]| fields.iter().find(|field| field.contains('.')).cloned();
        match properties.into_iter().find_map(|(property, fields)| Some((property, inside(fields)?))) {
            None => Ok(()),
            Some((property, field)) => {
                let message = "nested fields are not supported here; the table can only be read";
                Err(refused(ErrorKind::Unsupported, message, property, &field))
            }
        }
    }

    /// Rejects a read that needs Hudi's meta columns if the table lacks them.
    pub fn check_meta_columns(&self) -> Result<()> {
        match self.has_meta_columns {
            true => Ok(()),
            false => {
                let message = "rows without Hudi's meta columns do not name their commits and keys";
                Err(refused(ErrorKind::Unsupported, message, META_FIELDS, "false")
                    .with_context("hint", "read the latest rows, or those as of an instant"))
            }
        }
    }

    /// Returns the partition columns that base files lack. Their types come from the schema that the table
    /// was created with; otherwise they are strings, as in Spark.
    pub fn dropped_columns(&self) -> Result<Vec<FieldRef>> {
        if !self.drops_partition_columns {
            return Ok(Vec::new());
        }
        let created = self.create_schema().map(|text| schema::canonical(&*schema::from_avro(text)?));
        let created = created.transpose()?;
        let field =
            |name: &String| match created.as_ref().and_then(|schema| schema.field_with_name(name).ok()) {
                Some(field) => Arc::new(field.clone()),
                None => Arc::new(Field::new(name, DataType::Utf8, true)),
            };
        Ok(self.partition_fields.iter().map(field).collect())
    }

    /// Returns the field of a record key whose form [`KeyEncoding`] describes. Returns `None` if the key has
    /// only one form.
    pub fn encoded_key_field(&self) -> Option<&str> {
        match (self.key_generator, self.record_key_fields.as_slice()) {
            (Some(KeyGenerator::Complex), [field]) => Some(field),
            _ => None,
        }
    }

    /// Returns the name of the codec for base files, if the table defines it.
    pub fn codec(&self) -> Option<&str> {
        self.raw.get(PARQUET_CODEC).map(|name| name.trim()).filter(|name| !name.is_empty())
    }

    /// Returns the content of the file with a table's own properties, saved at `now`.
    pub fn own_bytes(own: &BTreeMap<String, String>, now: Timestamp) -> Vec<u8> {
        java::write(own, now)
    }

    /// Returns the content of the file as Java writes it, saved at `now`.
    pub fn to_bytes(&self, now: Timestamp) -> Vec<u8> {
        java::write(&self.raw, now)
    }

    /// Returns the Avro schema of the data columns that the table was created with.
    pub fn create_schema(&self) -> Option<&str> {
        self.raw.get(CREATE_SCHEMA).map(String::as_str).filter(|schema| !schema.is_empty())
    }

    /// Infers the form of partition paths from the table's folders if the properties do not record it. Hudi
    /// up to 0.9 (hive style) and up to 0.10 (URL encoding) took it from the options of each write. `folders`
    /// contains the names of the outermost folders.
    pub fn infer_partition_style<'a>(&mut self, folders: impl Iterator<Item = &'a str> + Clone) {
        let Some(field) = self.partition_fields.first() else { return };
        let prefix = format!("{field}=");
        if !self.raw.contains_key(HIVE_STYLE) && folders.clone().next().is_some() {
            self.hive_style = folders.clone().all(|name| name.starts_with(&prefix));
        }
        if !self.raw.contains_key(URL_ENCODE) {
            self.url_encode = folders.clone().any(is_encoded);
        }
    }

    /// Returns `true` if the form of partition paths must be inferred from the table's folders.
    pub fn lacks_partition_style(&self) -> bool {
        !self.partition_fields.is_empty()
            && [HIVE_STYLE, URL_ENCODE].iter().any(|key| !self.raw.contains_key(*key))
    }

    /// Returns the indexes of the metadata table that the properties list, including those under
    /// construction. Empty if there is no metadata table.
    pub fn metadata_partitions(&self) -> Vec<&str> {
        metadata_partitions(&self.raw)
    }

    /// Returns the folder of the files that a bootstrap made the table from, if there was a bootstrap.
    pub fn bootstrapped_from(&self) -> Option<&str> {
        self.raw.get(BOOTSTRAP).map(|folder| folder.trim()).filter(|folder| !folder.is_empty())
    }

    /// Returns the name of the database, or an empty text for a table without a database.
    pub fn database(&self) -> &str {
        self.raw.get(DATABASE).map_or("", |name| name.trim())
    }

    /// Returns the name of the time zone of the timeline's instants, `UTC` or `LOCAL`.
    pub fn zone_name(&self) -> &'static str {
        let zone = self.raw.get(TIME_ZONE).map_or("", |zone| zone.trim());
        if zone.eq_ignore_ascii_case("utc") { "UTC" } else { "LOCAL" }
    }

    /// Returns every property, including those that this crate does not interpret.
    pub fn raw(&self) -> &BTreeMap<String, String> {
        &self.raw
    }

    fn from_raw(raw: BTreeMap<String, String>) -> Result<Self> {
        let text = |key: &str| raw.get(key).map_or("", |value| value.trim());
        let flag = |key: &str, default: bool| match text(key) {
            "" => Ok(default),
            value if value.eq_ignore_ascii_case("true") => Ok(true),
            value if value.eq_ignore_ascii_case("false") => Ok(false),
            value => Err(refused(ErrorKind::Corrupt, "a property is neither true nor false", key, value)),
        };
        let fields = |key: &str| self::fields(text(key));
        let must_be = |key: &str, message: &str, supported: &[&str]| {
            let value = text(key);
            if supported.iter().any(|known| known.eq_ignore_ascii_case(value)) {
                return Ok(());
            }
            Err(refused(ErrorKind::Unsupported, message, key, value))
        };

        // The version determines how all other properties are read, especially those of the timeline.
        let version = TableVersion::parse(text(VERSION)).ok_or_else(|| {
            refused(ErrorKind::Unsupported, "unknown table version", VERSION, text(VERSION))
        })?;
        let timeline_layout = if version.has_timeline_folder() {
            must_be(LAYOUT_VERSION, "the timeline layout does not match the table version", &["2", ""])?;
            let mut layout = TimelineLayout::upgraded();
            if let TimelineLayout::Folder { timeline, history } = &mut layout {
                for (folder, key) in [(timeline, TIMELINE_FOLDER), (history, HISTORY_FOLDER)] {
                    if !text(key).is_empty() {
                        *folder = text(key).to_owned();
                    }
                }
            }
            layout
        } else {
            // Layout 0 belongs to tables from before Hudi 0.5.1. It has the same names, but only one file per
            // action.
            must_be(LAYOUT_VERSION, "the timeline layout does not match the table version", &["1", "0", ""])?;
            TimelineLayout::Flat
        };
        must_be(TYPE, "only copy-on-write tables are supported", &["COPY_ON_WRITE"])?;
        must_be(BASE_FORMAT, "only Parquet base files are supported", &["PARQUET", ""])?;
        let has_meta_columns = flag(META_FIELDS, true)?;
        let drops_partition_columns = flag(DROP_PARTITION_COLUMNS, false)?;

        let name = text(NAME).to_owned();
        if name.is_empty() {
            return Err(refused(ErrorKind::Corrupt, "the table has no name", NAME, ""));
        }
        let expected = checksum(text(DATABASE), &name).to_string();
        if !matches!(text(CHECKSUM), "" | "null") && text(CHECKSUM) != expected {
            let message = "the checksum of the table's name is wrong";
            return Err(refused(ErrorKind::Corrupt, message, CHECKSUM, text(CHECKSUM))
                .with_context("expected", expected));
        }
        let record_key_fields = fields(RECORD_KEYS);
        // The partition fields of 1.x may contain a form, as in `day:SIMPLE`.
        let (partition_fields, stated): (Vec<String>, Vec<Option<FolderForm>>) =
            fields(PARTITIONS).iter().map(|field| FolderForm::split(field)).unzip();
        let mut read_only = Vec::new();
        let mut only_reads = |message, property| {
            read_only.push(ReadOnly { message, property, value: text(property).to_owned() });
        };
        if flag(CHANGE_DATA_CAPTURE, false)? {
            only_reads("change data capture is not supported", CHANGE_DATA_CAPTURE);
        }
        if !text(BOOTSTRAP).is_empty() {
            only_reads("bootstrapped tables are not supported", BOOTSTRAP);
        }
        if flag(METAFILE_FORMAT, false)? {
            only_reads("partition metadata in base file format is not supported", METAFILE_FORMAT);
        }
        if !has_meta_columns {
            only_reads("tables without Hudi's meta columns can be read here, but not written", META_FIELDS);
        }
        if drops_partition_columns {
            only_reads(
                "tables whose files lack the partition columns can be read here, but not written",
                DROP_PARTITION_COLUMNS,
            );
        }
        let generator_property =
            if text(KEY_GENERATOR_CLASS).is_empty() { KEY_GENERATOR_TYPE } else { KEY_GENERATOR_CLASS };
        let key_generator = match (text(KEY_GENERATOR_CLASS), text(KEY_GENERATOR_TYPE)) {
            ("", "") => Some(KeyGenerator::of(record_key_fields.len(), partition_fields.len())),
            ("", kind) => KeyGenerator::from_type(kind),
            (class, _) => KeyGenerator::from_class(class),
        };
        let (keys, partitions) = (record_key_fields.len(), partition_fields.len());
        match key_generator {
            None => only_reads("the key generator of the table is unknown here", generator_property),
            Some(generator) if !generator.fits(keys, partitions) => only_reads(
                "the key generator does not match the record key and partition fields",
                generator_property,
            ),
            Some(_) => {}
        }
        let folder_forms: Vec<FolderForm> = stated
            .into_iter()
            .map(|stated| stated.unwrap_or_else(|| FolderForm::of(key_generator)))
            .collect();
        if key_generator.is_some() && folder_forms.contains(&FolderForm::Unknown) {
            only_reads("the table does not record the form of its partition folders", PARTITIONS);
        }
        let key_encoding = match text(KEY_ENCODING) {
            "" => None,
            name => Some(KeyEncoding::parse(name).ok_or_else(|| {
                refused(ErrorKind::Unsupported, "unknown form of record keys", KEY_ENCODING, name)
            })?),
        };
        let timestamp_key = match folder_forms.contains(&FolderForm::Time) {
            true => TimestampKey::of(&raw).ok(),
            false => None,
        };
        let ordering = match fields(ORDERING_FIELDS) {
            fields if fields.is_empty() => self::fields(text(ORDERING)),
            fields => fields,
        };
        let ordering_field = match ordering.as_slice() {
            [] => None,
            [field] => Some(field.clone()),
            [first, ..] => {
                only_reads("several ordering fields are not supported", ORDERING);
                Some(first.clone())
            }
        };
        if !matches!(text(MERGE_MODE), "EVENT_TIME_ORDERING" | "COMMIT_TIME_ORDERING" | "") {
            only_reads("unknown merge mode", MERGE_MODE);
        }
        let strategy = match (text(MERGE_STRATEGY), text(MERGE_MODE)) {
            ("", "EVENT_TIME_ORDERING") => EVENT_TIME_STRATEGY,
            ("", "COMMIT_TIME_ORDERING") => COMMIT_TIME_STRATEGY,
            (strategy, _) => strategy,
        };
        let merge = match (text(PAYLOAD_CLASS).strip_prefix(PACKAGE), text(PAYLOAD_CLASS), strategy) {
            (Some("DefaultHoodieRecordPayload" | "EventTimeAvroPayload"), ..) => Merge::EventTime,
            (Some("OverwriteWithLatestAvroPayload"), ..) => Merge::CommitTime,
            // 0.x does not store its payload class. A table with an ordering field is merged by that field,
            // as in 1.x, because its owner set the field for that purpose.
            (None, "", "" | EVENT_TIME_STRATEGY) if ordering_field.is_some() => Merge::EventTime,
            (None, "", "" | COMMIT_TIME_STRATEGY) => Merge::CommitTime,
            (_, "", _) => {
                only_reads("unknown merge strategy", MERGE_STRATEGY);
                Merge::CommitTime
            }
            _ => {
                only_reads("unknown payload class", PAYLOAD_CLASS);
                Merge::CommitTime
            }
        };
        let zone = match text(TIME_ZONE) {
            zone if zone.eq_ignore_ascii_case("utc") => TimeZone::UTC,
            zone if zone.is_empty() || zone.eq_ignore_ascii_case("local") => TimeZone::system(),
            zone => return Err(refused(ErrorKind::Unsupported, "unknown time zone", TIME_ZONE, zone)),
        };
        let archive_folder = match text(ARCHIVE_FOLDER) {
            "" => "archived",
            folder => folder,
        };
        Ok(Self {
            version,
            timeline_layout,
            name,
            record_key_fields,
            ordering_field,
            partition_fields,
            hive_style: flag(HIVE_STYLE, false)?,
            url_encode: flag(URL_ENCODE, false)?,
            key_generator,
            folder_forms,
            has_meta_columns,
            drops_partition_columns,
            key_encoding,
            timestamp_key,
            merge,
            zone,
            archive_folder: archive_folder.to_owned(),
            retention: RetentionPolicy::of_properties(
                |name| text(name).parse().ok(),
                Some(text(POLICY)).filter(|name| !name.is_empty()),
            ),
            read_only,
            raw,
        })
    }
}

/// Returns `true` if a folder's name contains an escape of Hive's path encoding.
fn is_encoded(name: &str) -> bool {
    name.split('%').skip(1).any(|rest| {
        let code = rest.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok());
        code.is_some_and(|code| is_escaped(char::from(code)))
    })
}

fn fields(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|field| !field.is_empty()).map(str::to_owned).collect()
}

/// Parses the properties of a file. A file without properties counts as truncated.
pub fn parse_raw(bytes: &[u8]) -> Result<BTreeMap<String, String>> {
    let listed = java::parse(bytes)?;
    if listed.is_empty() {
        return Err(Error::new(ErrorKind::Corrupt, "a properties file has no properties"));
    }
    Ok(listed)
}

/// Returns the version of a table with these properties, if it is known.
pub fn version_of(raw: &BTreeMap<String, String>) -> Option<TableVersion> {
    TableVersion::parse(raw.get(VERSION).map_or("", |version| version.trim()))
}

/// Returns the content of a properties file as Java writes it, saved at `now`.
pub fn to_bytes(raw: &BTreeMap<String, String>, now: Timestamp) -> Vec<u8> {
    java::write(raw, now)
}

/// Returns the indexes of the metadata table that the properties list, including those under construction.
pub fn metadata_partitions(raw: &BTreeMap<String, String>) -> Vec<&str> {
    let listed = METADATA_PARTITIONS.iter().filter_map(|key| raw.get(*key));
    let mut names: Vec<&str> =
        listed.flat_map(|list| list.split(',')).map(str::trim).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn refused(kind: ErrorKind, message: &str, property: &str, value: &str) -> Error {
    Error::new(kind, message).with_context("property", property).with_context("value", value)
}

/// Returns Hudi's checksum against truncated files: the CRC32 of `{database}.{table}`.
fn checksum(database: &str, name: &str) -> u32 {
    crc32fast::hash(format!("{database}.{name}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN_BY_0_15: &str = "\
#Properties saved on 2026-11-23T04:25:49.079382449Z
#Mon Nov 23 04:25:49 UTC 2026
hoodie.table.type=COPY_ON_WRITE
hoodie.table.precombine.field=updated_at
hoodie.table.partition.fields=
hoodie.table.checksum=2299942910
hoodie.table.timeline.timezone=LOCAL
hoodie.table.recordkey.fields=customer_id
hoodie.table.name=layout
hoodie.table.keygenerator.class=org.apache.hudi.keygen.NonpartitionedKeyGenerator
hoodie.database.name=
hoodie.timeline.layout.version=1
hoodie.table.version=6
";

    fn with(extra: &str) -> Result<TableProperties> {
        TableProperties::parse(format!("{WRITTEN_BY_0_15}{extra}\n").as_bytes(), None)
    }

    #[test]
    fn reads_what_java_wrote() {
        let properties = with("").unwrap();
        assert_eq!(properties.name, "layout");
        assert_eq!(properties.record_key_fields, ["customer_id"]);
        assert_eq!(properties.ordering_field.as_deref(), Some("updated_at"));
        assert_eq!(properties.key_generator, Some(KeyGenerator::Nonpartitioned));
        assert!(properties.partition_fields.is_empty());
        assert_eq!(properties.archive_folder, "archived");
    }

    #[test]
    fn what_it_writes_it_reads_again() {
        let created = TableProperties::create(&NewTable {
            name: "address",
            database: "lake",
            record_key_fields: &["tenant".to_owned(), "code".to_owned()],
            ordering_field: Some("at"),
            partition_fields: &["day".to_owned()],
            hive_style: true,
            url_encode: true,
            schema: "{}",
            others: &BTreeMap::new(),
        })
        .unwrap();
        assert_eq!(created.key_generator, Some(KeyGenerator::Complex));
        assert_eq!(created.merge, Merge::EventTime);
        let bytes = created.to_bytes("2026-11-23T04:25:49.079Z".parse().unwrap());
        assert_eq!(TableProperties::parse(&bytes, None).unwrap(), created);
    }

    #[test]
    fn refuses_by_property_what_it_cannot_keep_right() {
        for (line, property) in [
            ("hoodie.table.type=MERGE_ON_READ", TYPE),
            ("hoodie.table.version=7", VERSION),
            ("hoodie.table.version=10", VERSION),
            ("hoodie.table.version=six", VERSION),
            ("hoodie.timeline.layout.version=2", LAYOUT_VERSION),
            ("hoodie.table.version=8", LAYOUT_VERSION),
            ("hoodie.table.complex.keygenerator.encoding=BOTH", KEY_ENCODING),
            ("hoodie.table.base.file.format=ORC", BASE_FORMAT),
        ] {
            let error = with(line).unwrap_err();
            assert_eq!(
                (error.kind(), error.context("property")),
                (ErrorKind::Unsupported, Some(property)),
                "{error}"
            );
        }
    }

    #[test]
    fn every_version_that_hudi_wrote_is_known() {
        for (lines, version) in [
            ("hoodie.table.version=", 0),
            ("hoodie.table.version=2", 2),
            ("hoodie.table.version=5\nhoodie.table.metadata.partitions=files", 5),
            ("hoodie.table.version=8\nhoodie.timeline.layout.version=2\nhoodie.record.merge.mode=CUSTOM", 8),
            ("hoodie.table.version=9\nhoodie.timeline.layout.version=2\nhoodie.table.ordering.fields=a,b", 9),
        ] {
            let properties = with(lines).unwrap();
            assert_eq!(properties.version.number(), version);
            assert_eq!(properties.timeline_layout == TimelineLayout::Flat, version <= 6);
        }
        let lines = "hoodie.table.metadata.partitions=column_stats,files\nhoodie.table.metadata.partitions.inflight=record_index";
        assert_eq!(with(lines).unwrap().metadata_partitions(), ["column_stats", "files", "record_index"]);
    }

    #[test]
    fn the_form_of_partition_paths_is_that_of_the_folders_where_no_property_records_it() {
        let old =
            "hoodie.table.keygenerator.class=\nhoodie.table.version=2\nhoodie.table.partition.fields=day";
        let style = |lines: &str, folders: &[&str]| {
            let mut properties = with(lines).unwrap();
            properties.infer_partition_style(folders.iter().copied());
            (properties.hive_style, properties.url_encode)
        };
        assert_eq!(style(old, &["day=2021-01-01", "day=default"]), (true, false));
        assert_eq!(style(old, &["2021-01-01", "default"]), (false, false));
        assert_eq!(style(old, &["day=a%2Fb", "day=c"]), (true, true));
        assert_eq!(style(old, &["day=5%25", "day=100%"]), (true, true));
        assert_eq!(style(old, &["100%", "5%zz"]), (false, false));
        let recorded = format!("{old}\nhoodie.datasource.write.hive_style_partitioning=false");
        assert_eq!(style(&recorded, &["day=1"]), (false, false));
        assert!(with(old).unwrap().lacks_partition_style());
        assert!(!with("hoodie.table.version=2").unwrap().lacks_partition_style());
    }

    #[test]
    fn a_merge_mode_decides_where_no_class_does() {
        for (mode, merge) in
            [("EVENT_TIME_ORDERING", Merge::EventTime), ("COMMIT_TIME_ORDERING", Merge::CommitTime)]
        {
            assert_eq!(with(&format!("hoodie.record.merge.mode={mode}")).unwrap().merge, merge);
        }
    }

    #[test]
    fn a_table_whose_keys_folders_or_merges_are_unknown_is_read_and_not_written() {
        const CUSTOM: &str = "hoodie.table.keygenerator.class=org.apache.hudi.keygen.CustomKeyGenerator";
        const BY_TIME: &str =
            "hoodie.table.keygenerator.class=org.apache.hudi.keygen.TimestampBasedKeyGenerator";
        let partitioned =
            |class: &str, fields: &str| format!("{class}\nhoodie.table.partition.fields={fields}");
        let lines = [
            (partitioned(CUSTOM, "region,created"), PARTITIONS),
            (partitioned(CUSTOM, "created:TIMESTAMP"), "hoodie.keygen.timebased.output.dateformat"),
            (partitioned(BY_TIME, "created"), "hoodie.keygen.timebased.output.dateformat"),
            (
                "hoodie.table.keygenerator.class=org.apache.hudi.keygen.SimpleKeyGenerator".to_owned(),
                KEY_GENERATOR_CLASS,
            ),
            ("hoodie.table.keygenerator.class=com.example.Mine".to_owned(), KEY_GENERATOR_CLASS),
            ("hoodie.table.partition.fields=day".to_owned(), KEY_GENERATOR_CLASS),
            ("hoodie.compaction.payload.class=com.example.Mine".to_owned(), PAYLOAD_CLASS),
            (
                "hoodie.record.merge.strategy.id=00000000-0000-0000-0000-000000000000".to_owned(),
                MERGE_STRATEGY,
            ),
            ("hoodie.record.merge.mode=CUSTOM".to_owned(), MERGE_MODE),
            ("hoodie.table.cdc.enabled=true".to_owned(), CHANGE_DATA_CAPTURE),
            ("hoodie.partition.metafile.use.base.format=true".to_owned(), METAFILE_FORMAT),
            ("hoodie.bootstrap.base.path=s3://lake/raw".to_owned(), BOOTSTRAP),
            ("hoodie.populate.meta.fields=false".to_owned(), META_FIELDS),
            ("hoodie.datasource.write.drop.partition.columns=true".to_owned(), DROP_PARTITION_COLUMNS),
            ("hoodie.table.precombine.field=a,b".to_owned(), ORDERING),
        ];
        for (lines, property) in &lines {
            let error = with(lines).unwrap().check_writable().unwrap_err();
            assert_eq!(
                (error.kind(), error.context("property")),
                (ErrorKind::Unsupported, Some(*property)),
                "{error}"
            );
        }
        let stated = format!(
            "{CUSTOM}\nhoodie.table.partition.fields=region:SIMPLE,created:timestamp\n\
            hoodie.keygen.timebased.output.dateformat=yyyyMM\nhoodie.keygen.timebased.timestamp.type=UNIX_TIMESTAMP"
        );
        let stated = with(&stated).unwrap();
        assert_eq!(stated.folder_forms, [FolderForm::Text, FolderForm::Time]);
        stated.check_writable().unwrap();
    }

    #[test]
    fn a_table_keyed_by_what_is_inside_of_columns_is_not_written() {
        for (line, property) in [
            ("hoodie.table.recordkey.fields=customer.id", RECORD_KEYS),
            ("hoodie.table.precombine.field=audit.at", ORDERING),
            ("hoodie.table.recordkey.fields=", RECORD_KEYS),
            (
                "hoodie.table.recordkey.fields=\nhoodie.table.partition.fields=day\n\
                 hoodie.table.keygenerator.class=org.apache.hudi.keygen.SimpleKeyGenerator",
                RECORD_KEYS,
            ),
            ("hoodie.table.version=8\nhoodie.timeline.layout.version=2", VERSION),
            ("hoodie.table.version=9\nhoodie.timeline.layout.version=2", VERSION),
        ] {
            let error = with(line).unwrap().check_writable().unwrap_err();
            assert_eq!(
                (error.kind(), error.context("property")),
                (ErrorKind::Unsupported, Some(property)),
                "{error}"
            );
        }
        assert!(with("").unwrap().check_writable().is_ok());
    }

    #[test]
    fn a_file_cut_short_or_changed_is_corrupt() {
        for nothing in ["", "#Properties saved on 2026-11-23T04:25:49.079382449Z\n"] {
            let error = TableProperties::parse(nothing.as_bytes(), Some(b"hudi_scd.scd2=x")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
        for (line, property) in [("hoodie.table.checksum=1", CHECKSUM), ("hoodie.table.name=", NAME)] {
            let error = with(line).unwrap_err();
            assert_eq!(
                (error.kind(), error.context("property")),
                (ErrorKind::Corrupt, Some(property)),
                "{error}"
            );
        }
    }
}
