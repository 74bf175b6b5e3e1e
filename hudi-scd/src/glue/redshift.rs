//! [`RedshiftSchema`]: the SQL with which Amazon Redshift reads the table.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::{
    definition::{Fields, INPUT_FORMAT, OUTPUT_FORMAT, SERDE},
    options::SyncOptions,
    partitions::{self, Partitions},
    types::{TypeNames, write_type},
};
use crate::{
    Error, ErrorKind, Instant, Result, Table, schema,
    snapshot::{self, View},
};

/// Maximum number of partitions that one statement may add to a table in the Data Catalog.
const PARTITIONS_IN_A_STATEMENT: usize = 100;
/// Maximum length of a statement. The Data API accepts up to 100 KB.
const BYTES_OF_A_STATEMENT: usize = 90_000;
/// Maximum length of a name. Redshift truncates longer names.
const BYTES_OF_A_NAME: usize = 127;
/// Maximum number of columns of an external table, in addition to its pseudocolumns.
const COLUMNS: usize = 1_598;
/// The folder of rows without a value in a partition column.
const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// An external schema of Amazon Redshift for a database of the Glue catalog. It renders the SQL with which a
/// warehouse reads the table.
///
/// If [`sync`](super::sync) registers the table, the warehouse needs only the [schema](Self::statement). If
/// only the warehouse may write to the catalog, use [`Self::create_table`] and [`Self::changes`], which
/// render the statements for the table. An external table that the warehouse created has Redshift's types in
/// the catalog, so [`sync`](super::sync) rejects it.
///
/// Statements have no trailing semicolon. A statement adds up to 100 partitions and has up to 90,000 bytes,
/// because the Data API accepts 100 KB. Redshift does not run `CREATE EXTERNAL TABLE`, or `ALTER TABLE` of an
/// external table, in a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedshiftSchema {
    name: String,
    database: String,
    iam_role: Option<String>,
    region: Option<String>,
}

impl RedshiftSchema {
    /// Sets the name of the external schema and the catalog's database that it refers to.
    pub fn new(name: impl Into<String>, database: impl Into<String>) -> Self {
        Self { name: name.into(), database: database.into().to_lowercase(), iam_role: None, region: None }
    }

    /// Sets the ARN of the role that the warehouse uses to read the catalog and the bucket. Several roles,
    /// separated by commas, are chained. Default: the warehouse's default role.
    #[must_use]
    pub fn with_iam_role(mut self, arn: impl Into<String>) -> Self {
        self.iam_role = Some(arn.into());
        self
    }

    /// Sets the region of the catalog. Default: the warehouse's own.
    #[must_use]
    pub fn with_region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Returns the statement that creates the schema, and also the catalog's database if it does not exist.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidDefinition`] for a name that is empty or longer than 127 bytes.
    pub fn statement(&self) -> Result<String> {
        let mut sql = format!(
            "CREATE EXTERNAL SCHEMA IF NOT EXISTS {}\nFROM DATA CATALOG\nDATABASE {}",
            identifier(&self.name)?,
            literal(&self.database)
        );
        if let Some(region) = &self.region {
            sql.push_str(&format!("\nREGION {}", literal(region)));
        }
        match &self.iam_role {
            Some(role) => sql.push_str(&format!("\nIAM_ROLE {}", literal(role))),
            None => sql.push_str("\nIAM_ROLE default"),
        }
        sql.push_str("\nCREATE EXTERNAL DATABASE IF NOT EXISTS");
        Ok(sql)
    }

    /// Returns the statements that create the external table with all its partitions.
    ///
    /// A timestamp is declared as `timestamp`, regardless of `options`, because Redshift itself reads the
    /// Parquet files.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], naming the column, if Redshift has no type for it;
    /// [`ErrorKind::InvalidDefinition`] for a name that is too long, or a partition whose value Redshift
    /// cannot register.
    pub async fn create_table(&self, table: &Table, options: &SyncOptions) -> Result<Vec<String>> {
        let view = table.context().view().await?;
        let external = External::new(self, table, &view, options)?;
        let mut statements = vec![external.create()];
        if let Partitions::All(present) = partitions::find(table, &view, None).await? {
            statements.extend(external.add_partitions(present.iter().map(String::as_str))?);
        }
        Ok(statements)
    }

    /// Returns the statements that update the external table from the state at a commit to the current state:
    /// partitions that were added or dropped, and columns that were added or removed.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the commit is not on the active timeline; [`ErrorKind::Unsupported`] if the
    /// type of a column has changed since then, because Redshift cannot alter it. In both cases, drop the
    /// external table, which deletes no files, and create it again. Otherwise as [`Self::create_table`].
    pub async fn changes(&self, table: &Table, options: &SyncOptions, since: Instant) -> Result<Vec<String>> {
        let view = table.context().view().await?;
        let external = External::new(self, table, &view, options)?;
        let before = columns_at(table, &view, since).await?;
        let mut statements = external.alter_columns(&before)?;
        match partitions::find(table, &view, Some(since)).await? {
            Partitions::Unpartitioned => {}
            Partitions::All(_) => return Err(outside(since)),
            Partitions::Since { present, dropped } => {
                statements.extend(external.drop_partitions(dropped.iter().map(String::as_str))?);
                statements.extend(external.add_partitions(present.iter().map(String::as_str))?);
            }
        }
        Ok(statements)
    }
}

fn outside(since: Instant) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "the commit is not on the active timeline, so the changes since are not known; drop the external \
         table and create it again",
    )
    .with_context("instant", since)
}

/// Returns the data columns as of a commit.
async fn columns_at(table: &Table, view: &View, since: Instant) -> Result<SchemaRef> {
    let entry = view.timeline.completed_commits().find(|entry| entry.instant == since);
    let entry = entry.ok_or_else(|| outside(since))?;
    let commit = snapshot::read_commit(table.context().store(), table.context().layout(), entry).await?;
    let text = commit.schema().ok_or_else(|| outside(since))?;
    Ok(schema::without_meta_columns(&*schema::from_avro(text)?))
}

/// The external table to render.
struct External<'a> {
    name: String,
    columns: Vec<(String, String)>,
    keys: Vec<(String, String)>,
    location: String,
    table: &'a Table,
    options: &'a SyncOptions,
}

impl<'a> External<'a> {
    fn new(schema: &RedshiftSchema, table: &'a Table, view: &View, options: &'a SyncOptions) -> Result<Self> {
        let fields = Fields::new(table, view, options.meta_columns)?;
        let partitioned = fields.keys().next().is_some();
        let column = |field: &Field| Ok((identifier(field.name())?, redshift_type(field, partitioned)?));
        let key = |(name, field): (&String, Option<&Field>)| match field {
            Some(field) if !fields.formatted => Ok((identifier(name)?, key_type(field)?)),
            _ => Ok((identifier(name)?, VARCHAR.to_owned())),
        };
        let columns = fields.columns().map(column).collect::<Result<Vec<_>>>()?;
        let keys = fields.keys().map(key).collect::<Result<Vec<_>>>()?;
        if columns.len() + keys.len() > COLUMNS {
            return Err(Error::new(ErrorKind::Unsupported, "an external table has at most 1,598 columns")
                .with_context("columns", columns.len() + keys.len()));
        }
        Ok(Self {
            name: format!("{}.{}", identifier(&schema.name)?, identifier(&options.names(table)?.1)?),
            columns,
            keys,
            location: options.location.replacen("s3a://", "s3://", 1),
            table,
            options,
        })
    }

    fn create(&self) -> String {
        let list = |columns: &[(String, String)], indent: &str| {
            let lines = columns.iter().map(|(name, kind)| format!("{indent}{name} {kind}"));
            lines.collect::<Vec<_>>().join(if indent.is_empty() { ", " } else { ",\n" })
        };
        let mut sql = format!("CREATE EXTERNAL TABLE {} (\n{}\n)", self.name, list(&self.columns, "    "));
        if !self.keys.is_empty() {
            sql.push_str(&format!("\nPARTITIONED BY ({})", list(&self.keys, "")));
        }
        sql.push_str(&format!(
            "\nROW FORMAT SERDE {}\nSTORED AS INPUTFORMAT {} OUTPUTFORMAT {}\nLOCATION {}",
            literal(SERDE),
            literal(INPUT_FORMAT),
            literal(OUTPUT_FORMAT),
            literal(&self.location)
        ));
        sql
    }

    fn add_partitions<'p>(&self, paths: impl Iterator<Item = &'p str>) -> Result<Vec<String>> {
        let head = format!("ALTER TABLE {} ADD IF NOT EXISTS", self.name);
        let (mut statements, mut added) = (Vec::<String>::new(), PARTITIONS_IN_A_STATEMENT);
        for path in paths {
            let location = literal(&format!("{}/{path}", self.location));
            let clause = format!("\nPARTITION ({}) LOCATION {location}", self.values(path)?);
            match statements.last_mut() {
                Some(sql)
                    if added < PARTITIONS_IN_A_STATEMENT
                        && sql.len() + clause.len() <= BYTES_OF_A_STATEMENT =>
                {
                    sql.push_str(&clause);
                    added += 1;
                }
                _ => {
                    statements.push(head.clone() + &clause);
                    added = 1;
                }
            }
        }
        Ok(statements)
    }

    /// A statement drops only one partition.
    fn drop_partitions<'p>(&self, paths: impl Iterator<Item = &'p str>) -> Result<Vec<String>> {
        paths
            .map(|path| Ok(format!("ALTER TABLE {} DROP PARTITION ({})", self.name, self.values(path)?)))
            .collect()
    }

    /// Returns `"region"='eu', "day"='2026-03-01'`.
    fn values(&self, path: &str) -> Result<String> {
        let values = partitions::values(self.table, self.options, path)?;
        let pairs = self.keys.iter().zip(values).map(|((name, kind), value)| {
            if value == NULL_PARTITION && kind != VARCHAR {
                return Err(Error::new(
                    ErrorKind::InvalidDefinition,
                    "a partition has no value, which only a partition column of text can have in Redshift",
                )
                .with_context("partition", path)
                .with_context("column", format!("{name} {kind}")));
            }
            Ok(format!("{name}={}", literal(&value)))
        });
        Ok(pairs.collect::<Result<Vec<_>>>()?.join(", "))
    }

    /// Returns the statements for columns that were added or removed since `before`.
    fn alter_columns(&self, before: &Schema) -> Result<Vec<String>> {
        let partitioned = !self.keys.is_empty();
        let is_key = |name: &str| self.keys.iter().any(|(key, _)| key == name);
        let mut statements = Vec::new();
        let mut known = Vec::new();
        for field in before.fields() {
            let name = identifier(field.name())?;
            if is_key(&name) {
                continue;
            }
            let kind = redshift_type(field, partitioned)?;
            match self.columns.iter().find(|(column, _)| *column == name) {
                None => statements.push(format!("ALTER TABLE {} DROP COLUMN {name}", self.name)),
                Some((_, now)) if *now != kind => {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        "Redshift cannot change the type of a column of an external table; drop the table, which \
                         deletes no file, and create it again",
                    )
                    .with_context("column", name)
                    .with_context("from", kind)
                    .with_context("to", now));
                }
                Some(_) => {}
            }
            known.push(name);
        }
        let is_new = |(name, _): &&(String, String)| {
            !known.contains(name) && !schema::is_meta_column(name.trim_matches('"'))
        };
        let added = self.columns.iter().filter(is_new);
        statements
            .extend(added.map(|(name, kind)| format!("ALTER TABLE {} ADD COLUMN {name} {kind}", self.name)));
        Ok(statements)
    }
}

/// The type of strings. It has the maximum length that Redshift allows, because Redshift truncates longer
/// values without an error.
const VARCHAR: &str = "varchar(65535)";

/// Returns the type of a column in an external table.
fn redshift_type(field: &Field, partitioned: bool) -> Result<String> {
    let mut text = String::new();
    write_type(&mut text, field.data_type(), &RedshiftNames { partitioned })
        .map_err(|reason| unsupported(field, reason))?;
    Ok(text)
}

/// Returns the type of a partition column, which is a scalar.
fn key_type(field: &Field) -> Result<String> {
    match field.data_type() {
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
            Err(unsupported(field, "no partition column is binary"))
        }
        data_type if data_type.is_nested() => Err(unsupported(field, "no partition column is nested")),
        _ => redshift_type(field, true),
    }
}

fn unsupported(field: &Field, reason: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("Redshift has no type for the column: {reason}"))
        .with_context("column", field.name())
        .with_context("type", field.data_type())
}

/// The names of types in external tables of Redshift.
struct RedshiftNames {
    partitioned: bool,
}

impl TypeNames for RedshiftNames {
    type Refusal = &'static str;

    fn scalar(&self, data_type: &DataType) -> Result<String, &'static str> {
        Ok(match data_type {
            DataType::Boolean => "boolean",
            DataType::Int8 | DataType::Int16 | DataType::Int32 => "integer",
            DataType::Int64 => "bigint",
            DataType::Float32 => "real",
            DataType::Float64 => "double precision",
            DataType::Decimal128(precision, scale) => return Ok(format!("decimal({precision},{scale})")),
            DataType::Utf8 | DataType::LargeUtf8 => VARCHAR,
            DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) if self.partitioned => {
                return Err("binary columns are possible in unpartitioned external tables only");
            }
            DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => "varbyte(1024000)",
            DataType::Date32 => "date",
            DataType::Timestamp(..) => "timestamp",
            _ => return Err("external tables lack it"),
        }
        .to_owned())
    }

    fn map_key(&self) -> &'static str {
        VARCHAR
    }

    fn field(&self, name: &str) -> Result<String, &'static str> {
        match is_plain(name) {
            true => Ok(name.to_lowercase()),
            false => Err("the field of a struct needs a name of letters, digits and underscores"),
        }
    }

    fn no_map(&self, _: &DataType) -> &'static str {
        "it is not a map"
    }
}

/// Returns `true` for a name that needs no quotes. Fields of a struct cannot be quoted.
fn is_plain(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Returns a quoted name. It is in lower case, because Redshift and the catalog convert names to lower case.
fn identifier(name: &str) -> Result<String> {
    if name.is_empty() || name.len() > BYTES_OF_A_NAME || name.contains('\0') {
        return Err(Error::new(ErrorKind::InvalidDefinition, "a name in Redshift has 1 to 127 bytes")
            .with_context("name", name)
            .with_context("bytes", name.len()));
    }
    Ok(format!("\"{}\"", name.to_lowercase().replace('"', "\"\"")))
}

/// Returns a string literal. In every Redshift string, a backslash is an escape character.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_strings_cannot_end_early() {
        assert_eq!(identifier("Order\"; drop").unwrap(), "\"order\"\"; drop\"");
        assert_eq!(literal(r"it's \ here"), r"'it''s \\ here'");
        assert!(identifier("").is_err());
        assert!(identifier(&"x".repeat(127)).is_ok());
        assert!(identifier(&"ä".repeat(64)).is_err(), "the limit is in bytes");
    }
}
