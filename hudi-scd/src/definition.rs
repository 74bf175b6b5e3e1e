//! [`TableDefinition`]: the name, the columns, the keys and the stored settings of a new table.

use std::collections::BTreeMap;

use arrow::datatypes::{Schema, SchemaRef};
use hudi_format::retention::{POLICY, RetentionPolicy};

use crate::{
    Error, ErrorKind, Result,
    codec::Codec,
    key::{self, KeyGenerator, TimestampPartition},
    properties::{KEY_ENCODING, KEY_GENERATOR_CLASS, NewTable, PARQUET_CODEC, TableProperties},
    schema,
};

/// The property that contains the definition of a history (SCD type 2).
pub(crate) const HISTORY: &str = "hudi_scd.scd2";

/// The definition of a new table.
///
/// ```
/// # use std::sync::Arc;
/// # use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
/// # use hudi_scd::TableDefinition;
/// # let schema = Arc::new(Schema::empty());
/// let definition = TableDefinition::new("store_customer_address", schema, ["ca_address_id"])
///     .with_ordering_field("updated_at")
///     .with_partition_fields(["valid_on"]);
/// ```
#[derive(Clone, Debug)]
pub struct TableDefinition {
    name: String,
    database: String,
    schema: SchemaRef,
    record_key_fields: Vec<String>,
    ordering_field: Option<String>,
    partition_fields: Vec<String>,
    hive_style: bool,
    url_encode: bool,
    others: BTreeMap<String, String>,
}

impl TableDefinition {
    /// Defines a table with these data columns. The record key columns identify its rows. The schema's
    /// documentation of columns ([`schema::DOC`](crate::schema::DOC)) is stored.
    pub fn new<K: Into<String>>(
        name: impl Into<String>,
        schema: SchemaRef,
        record_key: impl IntoIterator<Item = K>,
    ) -> Self {
        Self {
            name: name.into(),
            database: String::new(),
            schema,
            record_key_fields: record_key.into_iter().map(Into::into).collect(),
            ordering_field: None,
            partition_fields: Vec::new(),
            hive_style: true,
            url_encode: false,
            others: BTreeMap::new(),
        }
    }

    /// Sets the column that decides which of two rows with the same key is newer. Without it, the later write
    /// wins.
    #[must_use]
    pub fn with_ordering_field(mut self, column: impl Into<String>) -> Self {
        self.ordering_field = Some(column.into());
        self
    }

    /// Sets the columns whose values determine the folder of a row, outermost first. Default: none.
    #[must_use]
    pub fn with_partition_fields<F: Into<String>>(mut self, columns: impl IntoIterator<Item = F>) -> Self {
        self.partition_fields = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Partitions rows into folders by the time in this column, formatted by a date pattern: Hudi's
    /// `TimestampBasedKeyGenerator`. The table stores the pattern under Hudi's own property names.
    #[must_use]
    pub fn with_timestamp_partition(
        mut self,
        column: impl Into<String>,
        partition: &TimestampPartition,
    ) -> Self {
        self.partition_fields = vec![column.into()];
        let class = KeyGenerator::TimestampBased.class().to_owned();
        self.others.insert(KEY_GENERATOR_CLASS.to_owned(), class);
        self.others.extend(partition.properties().map(|(name, value)| (name.clone(), value.clone())));
        self
    }

    /// Names folders `column=value` if `true`, and `value` if `false`. Default: `true`, the form that Athena,
    /// Spectrum and Glue crawlers understand. Hudi's own default is `false`.
    #[must_use]
    pub fn with_hive_style_partitioning(mut self, hive_style: bool) -> Self {
        self.hive_style = hive_style;
        self
    }

    /// URL-encodes special characters in folder names. Default: `false`, as in Hudi.
    #[must_use]
    pub fn with_url_encoding(mut self, url_encode: bool) -> Self {
        self.url_encode = url_encode;
        self
    }

    /// Sets the database of the table in a catalog. Default: none.
    #[must_use]
    pub fn with_database(mut self, database: impl Into<String>) -> Self {
        self.database = database.into();
        self
    }

    /// Sets the retention for every writer of the table. It is stored in the table's properties under Hudi's
    /// own names. [`TableOptions::with_retention`](crate::TableOptions::with_retention) overrides it for one
    /// handle. Default: not stored; Hudi's writers and this crate keep ten commits.
    #[must_use]
    pub fn with_retention(mut self, policy: RetentionPolicy) -> Self {
        let (name, number) = policy.property();
        self.others.insert(POLICY.to_owned(), policy.name().to_owned());
        self.others.insert(name.to_owned(), number.to_string());
        self
    }

    /// Sets the compression of base files for every writer of the table. It is stored in the table's
    /// properties under Hudi's own name. [`TableOptions::with_codec`](crate::TableOptions::with_codec)
    /// overrides it for one handle. Default: not stored; the first commit uses [`Codec::default`], and later
    /// ones use the codec of the table's files.
    #[must_use]
    pub fn with_codec(mut self, codec: Codec) -> Self {
        self.others.insert(PARQUET_CODEC.to_owned(), codec.name().to_owned());
        self
    }

    /// Stores a property of this crate in the table. Hudi's writers preserve it. Spark's `CREATE TABLE` on
    /// the folder drops it from `hoodie.properties`, so a second copy is stored.
    pub(crate) fn with_property(mut self, name: &str, value: String) -> Self {
        self.others.insert(name.to_owned(), value);
        self
    }

    /// Returns `true` if the definition has this property of this crate.
    pub(crate) fn has_property(&self, name: &str) -> bool {
        self.others.contains_key(name)
    }

    /// Returns the properties of the table, and its data columns in stored form.
    pub(crate) fn properties(&self) -> Result<(TableProperties, SchemaRef)> {
        let schema = schema::stored(&self.schema)?;
        let invalid = |message: &str| Err(Error::new(ErrorKind::InvalidDefinition, message));
        if self.record_key_fields.is_empty() {
            return invalid("a table needs a record key");
        }
        if self.name.is_empty() || self.name.contains(['/', '\n', '\r']) {
            return invalid("a table needs a name of one line without slashes");
        }
        for fields in [&self.record_key_fields, &self.partition_fields] {
            if let Some((_, twice)) =
                fields.iter().enumerate().find(|(at, field)| fields[..*at].contains(field))
            {
                return invalid("a column is named twice")
                    .map_err(|error| error.with_context("column", twice));
            }
        }
        check_columns(
            &schema,
            &self.record_key_fields,
            &self.partition_fields,
            self.ordering_field.as_deref(),
        )?;
        let properties = TableProperties::create(&NewTable {
            name: &self.name,
            database: &self.database,
            record_key_fields: &self.record_key_fields,
            ordering_field: self.ordering_field.as_deref(),
            partition_fields: &self.partition_fields,
            hive_style: self.hive_style,
            url_encode: self.url_encode,
            schema: &schema::to_avro(&schema::documented(&schema, &self.schema), &self.name)?,
            others: &self.others,
        })?;
        Ok((properties, schema))
    }

    /// Returns the properties that Spark's `CREATE TABLE` would drop.
    pub(crate) fn own(&self, properties: &TableProperties) -> BTreeMap<String, String> {
        let mut own = self.others.clone();
        own.extend(properties.key_encoding.map(|encoding| (KEY_ENCODING.to_owned(), encoding.to_string())));
        own
    }
}

fn check_columns(
    schema: &Schema,
    record_key: &[String],
    partitions: &[String],
    ordering: Option<&str>,
) -> Result<()> {
    key::check_columns(schema, record_key, "record key")?;
    key::check_columns(schema, partitions, "partition")?;
    if let Some(ordering) = ordering {
        let field = schema.field_with_name(ordering).map_err(|_| {
            Error::new(ErrorKind::InvalidDefinition, "there is no such ordering column")
                .with_context("column", ordering)
        })?;
        if field.data_type().is_nested() {
            return Err(Error::new(
                ErrorKind::InvalidDefinition,
                "the type of the ordering column has no order",
            )
            .with_context("column", ordering)
            .with_context("type", field.data_type()));
        }
    }
    Ok(())
}
