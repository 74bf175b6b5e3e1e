//! The program that takes in raw files, and its arguments.

use std::collections::BTreeMap;

use arrow::datatypes::Schema;
use serde_json::json;

use super::{Release, options, options_of, schema};
use crate::{Result, SourceFile, Table, TableDefinition};

/// A PySpark program that takes raw files into a table, each only once. Upload it to the location that a Glue
/// job refers to, or pass it to `spark-submit`. [`TakeIn`] renders its arguments, and `--help` describes
/// them.
///
/// It needs Spark 3 with Hudi 0.14 or later, such as AWS Glue 5.0 with `--datalake-formats hudi`.
pub const SCRIPT: &str = include_str!("take_in.py");

/// The arguments of [`SCRIPT`] for one run.
///
/// ```
/// # use std::sync::Arc;
/// # use hudi_scd::arrow::datatypes::{DataType, Field, Schema};
/// use hudi_scd::{SourceFile, TableDefinition, spark::{Release, TakeIn}};
///
/// # let schema = Arc::new(Schema::new(vec![Field::new("customer_id", DataType::Int64, false)]));
/// # let customer = TableDefinition::new("customer", schema, ["customer_id"]);
/// let arguments = TakeIn::new("s3://lake/customer", &customer, Release::V0)?
///     .with_profile("reference")
///     .with_files(&[SourceFile::new("s3://raw/customer/1.csv", "d41d8cd98f00b204e9800998ecf8427e")])
///     .arguments();
/// assert_eq!(arguments["--table"], "s3://lake/customer");
/// assert_eq!(arguments["--files"], r#"[["s3://raw/customer/1.csv","d41d8cd98f00b204e9800998ecf8427e"]]"#);
/// # Ok::<(), hudi_scd::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakeIn {
    table: String,
    options: BTreeMap<String, String>,
    /// Columns and own properties with which the program creates the table.
    creation: Option<(String, BTreeMap<String, String>)>,
    profile: Option<String>,
    files: Vec<SourceFile>,
}

impl TakeIn {
    /// Takes files into the table at a URL. If the table does not exist, the program creates it with this
    /// definition.
    ///
    /// # Errors
    /// As [`options`]; [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), naming the column, if Spark has
    /// no type for it.
    pub fn new(table: impl Into<String>, definition: &TableDefinition, release: Release) -> Result<Self> {
        let options = options(definition, release)?;
        let (properties, columns) = definition.properties()?;
        let creation = Some((columns_as_json(&columns)?, definition.own(&properties)));
        Ok(Self { table: table.into(), options, creation, profile: None, files: Vec::new() })
    }

    /// Takes files into an existing table. `url` is the folder where Spark finds it.
    ///
    /// # Errors
    /// As [`options_of`].
    pub async fn of(url: impl Into<String>, table: &Table, release: Release) -> Result<Self> {
        let options = options_of(table, release).await?;
        Ok(Self { table: url.into(), options, creation: None, profile: None, files: Vec::new() })
    }

    /// Sets the cleaning rules: `reference`, or the JSON object that the Lambda handler `hudi` of
    /// `sfn-adapter` reads from `HUDI_PROFILE`. Default: none.
    #[must_use]
    pub fn with_profile(mut self, profile: impl Into<String>) -> Self {
        self.profile = Some(profile.into());
        self
    }

    /// Adds files. Their rows are applied in this order.
    #[must_use]
    pub fn with_files(mut self, files: &[SourceFile]) -> Self {
        self.files.extend_from_slice(files);
        self
    }

    /// Adds options of Hudi, such as those of a catalog. They take precedence over those of the table.
    #[must_use]
    pub fn with_options(mut self, options: BTreeMap<String, String>) -> Self {
        self.options.extend(options);
        self
    }

    /// Returns the arguments by name. AWS Glue limits the total size of a run's arguments. To pass many
    /// files, write their names to an object and pass its URL as `--files-from`.
    pub fn arguments(&self) -> BTreeMap<String, String> {
        let files: Vec<_> = self.files.iter().map(|file| (&file.name, &file.version)).collect();
        let mut arguments = BTreeMap::from([
            ("--table".to_owned(), self.table.clone()),
            ("--options".to_owned(), json!(self.options).to_string()),
            ("--files".to_owned(), json!(files).to_string()),
        ]);
        if let Some((columns, own)) = &self.creation {
            arguments.insert("--columns".to_owned(), columns.clone());
            arguments.insert("--own-properties".to_owned(), json!(own).to_string());
        }
        if let Some(profile) = &self.profile {
            arguments.insert("--profile".to_owned(), profile.clone());
        }
        arguments
    }
}

/// Returns columns as Spark's `StructType` in JSON.
fn columns_as_json(columns: &Schema) -> Result<String> {
    let mut json = String::new();
    schema::write_struct(&mut json, columns.fields())?;
    Ok(json)
}
