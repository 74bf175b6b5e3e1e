//! [`Definition`]: the table as the catalog should describe it.

use std::collections::{BTreeMap, HashMap};

use arrow::datatypes::{Field, FieldRef, Schema};
use aws_sdk_glue::types::{Column, SerDeInfo, StorageDescriptor, Table as CatalogTable, TableInput};

pub(super) use super::options::LAST_COMMIT;
use super::{
    columns::{hive_type, plain},
    options::SyncOptions,
    spark,
};
use crate::{Error, ErrorKind, Instant, Result, Table, key::FolderForm, schema, snapshot::View};

pub(super) const INPUT_FORMAT: &str = "org.apache.hudi.hadoop.HoodieParquetInputFormat";
pub(super) const OUTPUT_FORMAT: &str = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat";
pub(super) const TABLE_TYPE: &str = "EXTERNAL_TABLE";
pub(super) const SERDE: &str = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe";

/// The columns of a table in a view.
pub(super) struct Fields {
    schema: Schema,
    keys: Vec<String>,
    /// The path of a partition contains formatted text, whatever the type of the column is.
    pub(super) formatted: bool,
}

impl Fields {
    /// Reads the columns. `meta_columns` adds Hudi's own columns.
    pub(super) fn new(table: &Table, view: &View, meta_columns: bool) -> Result<Self> {
        let declared = table.context().schema_of(view)?;
        // The schema in the last commit says which columns are nullable. Rows are read as if all columns
        // were.
        let written = view.avro.as_deref().map(schema::from_avro).transpose()?.unwrap_or(declared);
        let whole = schema::with_meta_columns(&schema::without_meta_columns(&written));
        let kept = |field: &&FieldRef| meta_columns || !schema::is_meta_column(field.name());
        Ok(Self {
            schema: Schema::new(whole.fields().iter().filter(kept).cloned().collect::<Vec<_>>()),
            keys: table.partition_fields().to_vec(),
            formatted: table.context().properties().folder_forms.iter().any(|form| *form != FolderForm::Text),
        })
    }

    /// Returns the columns that are not partition columns.
    pub(super) fn columns(&self) -> impl Iterator<Item = &Field> {
        let is_key = |field: &&Field| self.keys.contains(field.name());
        self.schema.fields().iter().map(AsRef::as_ref).filter(move |field| !is_key(field))
    }

    /// Returns the names of the partition columns, each with its column, or `None` if rows lack it.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&String, Option<&Field>)> {
        self.keys.iter().map(|name| (name, self.schema.field_with_name(name).ok()))
    }
}

/// The catalog's description of the table, as it should be.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    pub(super) database: String,
    pub(super) table: String,
    pub(super) location: String,
    pub(super) columns: Vec<Column>,
    pub(super) keys: Vec<Column>,
    pub(super) parameters: BTreeMap<String, String>,
    serde: BTreeMap<String, String>,
    pub(super) last_commit: Option<Instant>,
}

impl Definition {
    /// Describes the table in a view.
    pub(super) fn new(table: &Table, view: &View, options: &SyncOptions) -> Result<Self> {
        let fields = Fields::new(table, view, options.meta_columns)?;
        let columns: Vec<&Field> = fields.columns().collect();
        let key = |(name, field): (&String, Option<&Field>)| match field {
            Some(field) if !fields.formatted => column(name, hive_type(field, options.timestamps)?),
            _ => column(name, "string".to_owned()),
        };
        let keys = fields.keys().map(key).collect::<Result<_>>()?;
        let key_fields: Vec<&Field> = fields.keys().filter_map(|(_, field)| field).collect();
        let declared = |field: &&Field| column(field.name(), hive_type(field, options.timestamps)?);

        let location = options.location.replacen("s3a://", "s3://", 1);
        let mut parameters = BTreeMap::from([
            ("EXTERNAL".to_owned(), "TRUE".to_owned()),
            // There is no metadata table that readers could list files from.
            ("hudi.metadata-listing-enabled".to_owned(), "FALSE".to_owned()),
        ]);
        let mut serde = BTreeMap::from([("serialization.format".to_owned(), "1".to_owned())]);
        if options.spark_parameters {
            parameters.extend(spark::parameters(&columns, &key_fields, options.schema_part)?);
            serde.insert("hoodie.query.as.ro.table".into(), "false".into());
            serde.insert("path".into(), options.location.clone());
        }
        parameters.extend(options.table_parameters.clone());
        serde.extend(options.serde_parameters.clone());
        let (database, table) = options.names(table)?;
        Ok(Self {
            database,
            table,
            location,
            columns: columns.iter().map(declared).collect::<Result<_>>()?,
            keys,
            parameters,
            serde,
            last_commit: view.timeline.latest_commit(),
        })
    }

    /// Returns the storage description of the table, or of the partition at `location`.
    pub(super) fn storage(&self, location: &str) -> StorageDescriptor {
        let serde = SerDeInfo::builder().serialization_library(SERDE);
        let serde = serde.set_parameters(Some(self.serde.clone().into_iter().collect()));
        StorageDescriptor::builder()
            .set_columns(Some(self.columns.clone()))
            .location(location)
            .input_format(INPUT_FORMAT)
            .output_format(OUTPUT_FORMAT)
            .serde_info(serde.build())
            .build()
    }

    /// Returns the input that creates the table. The last commit is recorded by an update after the
    /// partitions were created, or here if there are none.
    pub(super) fn creation(&self) -> Result<TableInput> {
        let mut parameters: HashMap<_, _> = self.parameters.clone().into_iter().collect();
        if self.keys.is_empty() {
            parameters.extend(self.last_commit_parameter());
        }
        let input = TableInput::builder()
            .name(&self.table)
            .table_type(TABLE_TYPE)
            .storage_descriptor(self.storage(&self.location))
            .set_partition_keys(Some(self.keys.clone()))
            .set_parameters(Some(parameters));
        input.build().map_err(unbuilt)
    }

    pub(super) fn last_commit_parameter(&self) -> Option<(String, String)> {
        self.last_commit.map(|instant| (LAST_COMMIT.to_owned(), instant.to_string()))
    }

    /// Lists the differences that indicate a table of another tool.
    pub(super) fn foreign(&self, found: &CatalogTable) -> Vec<String> {
        let mut differences = Vec::new();
        let mut differ = |what: &str, found: &str, wanted: &str| {
            differences.push(format!("the {what} is {} instead of {wanted}", or_nothing(found)));
        };
        let none = StorageDescriptor::builder().build();
        let storage = found.storage_descriptor.as_ref().unwrap_or(&none);
        for (what, format, wanted) in formats(storage) {
            if format != wanted {
                differ(what, format, wanted);
            }
        }
        // Hudi's sync can also register managed tables.
        let kind = found.table_type.as_deref().unwrap_or(TABLE_TYPE);
        if kind != TABLE_TYPE && kind != "MANAGED_TABLE" {
            differ("table type", kind, TABLE_TYPE);
        }
        // The parameter by which Iceberg and Delta Lake mark their tables.
        let parameters = found.parameters.as_ref();
        if let Some(format) = parameters.and_then(|parameters| parameters.get("table_type")) {
            differ("parameter table_type", format, "missing");
        }
        let location = storage.location.as_deref().unwrap_or_default();
        if !same_place(location, &self.location) {
            differ("location", location, &self.location);
        }
        let keys = names_and_types(found.partition_keys());
        if keys != names_and_types(&self.keys) {
            let text = |keys: &[(String, String)]| {
                let keys: Vec<_> = keys.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
                if keys.is_empty() { "no column".to_owned() } else { keys.join(", ") }
            };
            differ("partition key", &text(&keys), &text(&names_and_types(&self.keys)));
        }
        differences
    }

    /// Returns `true` if the partition keys differ, which no update can change.
    pub(super) fn needs_recreation(&self, found: &CatalogTable) -> bool {
        names_and_types(found.partition_keys()) != names_and_types(&self.keys)
    }
}

/// Returns the formats by which readers read the files: their names, those found, and those of a Hudi table.
pub(super) fn formats(storage: &StorageDescriptor) -> [(&'static str, &str, &'static str); 3] {
    let serde = storage.serde_info.as_ref().and_then(|serde| serde.serialization_library.as_deref());
    [
        ("input format", storage.input_format.as_deref().unwrap_or_default(), INPUT_FORMAT),
        ("SerDe", serde.unwrap_or_default(), SERDE),
        ("output format", storage.output_format.as_deref().unwrap_or_default(), OUTPUT_FORMAT),
    ]
}

fn or_nothing(text: &str) -> &str {
    if text.is_empty() { "missing" } else { text }
}

/// Returns names and types in a form that can be compared.
pub(super) fn names_and_types(columns: &[Column]) -> Vec<(String, String)> {
    let plain_type = |column: &Column| plain(column.r#type.as_deref().unwrap_or_default());
    columns.iter().map(|column| (column.name.to_lowercase(), plain_type(column))).collect()
}

/// Returns `true` if two locations are the same folder. `s3a`, `s3n` and `s3` refer to the same store.
pub(super) fn same_place(one: &str, other: &str) -> bool {
    let plain = |location: &str| {
        let location = location.trim_end_matches('/');
        match location.split_once("://") {
            Some(("s3a" | "s3n", rest)) => format!("s3://{rest}"),
            _ => location.to_owned(),
        }
    };
    plain(one) == plain(other)
}

fn column(name: &str, data_type: String) -> Result<Column> {
    Column::builder().name(name).r#type(data_type).comment("").build().map_err(unbuilt)
}

/// Creates the error for an input without a required field.
pub(super) fn unbuilt(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::InvalidDefinition, "the catalog's input is incomplete").with_source(cause)
}
