//! [`Input`]: the rows of a file, or of a folder of files, batch by batch under the schema of a table.
//!
//! | extension | content | NULL |
//! |---|---|---|
//! | `.parquet` | typed columns | null |
//! | `.csv` | a line of column names, then rows (RFC 4180) | nothing between two commas; `""` is the empty string |
//! | `.jsonl`, `.ndjson`, `.json` | one JSON object per line | `null`, and a column that a line omits |
//!
//! Text is converted to the types of the table. Columns that the table lacks, and all columns of files that
//! are read without a table, get the narrowest type that can represent their values. Finding it takes an
//! additional pass over the file. [`Purpose`] determines what happens with columns that have no values or
//! that occur in no line.

mod cell;
mod column;
mod csv;
mod guess;
mod operations;
mod parquet;
mod produced;
mod text;

use std::{
    fmt,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{Error, ErrorKind, Result, schema};
use arrow::{
    array::{RecordBatch, RecordBatchOptions, new_null_array},
    datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef},
};

use self::{cell::Cell, column::Column};
pub use self::{operations::Operations, produced::produced};

/// Maximum number of rows in a batch.
const BATCH_ROWS: usize = 8 * 1024;
/// Number of bytes of text after which a batch ends early.
const BATCH_BYTES: u64 = 16 * 1024 * 1024;

/// The format of a file, determined by its extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Parquet,
    Csv,
    JsonLines,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "parquet" => Some(Self::Parquet),
            "csv" => Some(Self::Csv),
            "jsonl" | "ndjson" | "json" => Some(Self::JsonLines),
            _ => None,
        }
    }

    /// Returns what a row's position in a file is called.
    fn place(self) -> &'static str {
        match self {
            Self::Parquet => "row of the file",
            Self::Csv | Self::JsonLines => "line",
        }
    }
}

/// An input file.
#[derive(Clone, Debug)]
struct InputFile {
    path: PathBuf,
    format: Format,
    bytes: u64,
}

/// Files with rows, ordered by their paths.
#[derive(Clone, Debug)]
pub struct Input {
    files: Vec<InputFile>,
}

impl Input {
    /// Opens a file, or all files with rows in a folder and its subfolders. As in Spark, names that begin
    /// with a dot or `_` are skipped.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if there is no such file.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |cause| failed(path, "cannot be read", cause);
        let metadata = std::fs::metadata(path).map_err(failed)?;
        let mut files = Vec::new();
        if metadata.is_dir() {
            collect(path, &mut files).map_err(failed)?;
        } else if let Some(format) = Format::of(path) {
            files.push(InputFile { path: path.to_owned(), format, bytes: metadata.len() });
        }
        if files.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "there is no file with rows")
                .with_context("file", path.display())
                .with_context(
                    "hint",
                    "name files *.parquet, *.csv, *.jsonl, *.ndjson or *.json (one JSON object per line)",
                ));
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }

    /// Returns the total size of all files in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Adds the file and the line to an error about a row. The row's number counts the rows of all files,
    /// starting at 0.
    pub fn locate(&self, error: Error) -> Error {
        let row = |name| error.context(name).and_then(|row| row.parse().ok()).and_then(|row| self.place(row));
        let (one, other) = (row("row"), row("other row"));
        let named = error.context("line").is_some() || error.context("file").is_some();
        let Some((file, line)) = one.filter(|_| !named) else { return error };
        let error = error.with_context("file", file.path.display()).with_context(file.format.place(), line);
        match other {
            Some((file, line)) => {
                error.with_context("other file", file.path.display()).with_context("other line", line)
            }
            None => error,
        }
    }

    /// Returns the file that contains a row, and the row's line in it. For Parquet, returns the row's number
    /// instead, starting at 0.
    fn place(&self, row: u64) -> Option<(&InputFile, u64)> {
        let mut row = row;
        for file in &self.files {
            // A file that is no longer readable is skipped.
            match file.line(row).ok()? {
                Ok(line) => return Some((file, line)),
                Err(rows) => row -= rows,
            }
        }
        None
    }

    /// Returns the columns of all files: first those of `known` that occur, then the others with guessed
    /// types. A column without any value is text.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if a file cannot be read.
    pub fn schema(&self, known: &Schema) -> Result<SchemaRef> {
        let found = self.columns(known)?;
        Ok(Arc::new(Schema::new(found.fields().iter().map(as_text).collect::<Vec<_>>())))
    }

    /// Returns the columns of all files with guessed types. A column without any value has the type NULL.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if a file cannot be read.
    pub fn guesses(&self) -> Result<SchemaRef> {
        self.columns(&Schema::empty())
    }

    fn columns(&self, known: &Schema) -> Result<SchemaRef> {
        let mut found: Vec<FieldRef> = Vec::new();
        for file in &self.files {
            for field in file.columns(known)?.fields() {
                match found.iter_mut().find(|known| known.name() == field.name()) {
                    None => found.push(field.clone()),
                    Some(_) if field.data_type().is_null() => {}
                    Some(other) if other.data_type().is_null() => *other = field.clone(),
                    Some(other) if other.data_type() == field.data_type() => {}
                    Some(other) => {
                        return Err(invalid(
                            "files have different types for a column; define it with --schema",
                        )
                        .with_context("file", file.path.display())
                        .with_context("column", field.name())
                        .with_context("type", field.data_type())
                        .with_context("elsewhere", other.data_type()));
                    }
                }
            }
        }
        Ok(Arc::new(Schema::new(found)))
    }

    /// Returns all rows, file by file. Text files are read with the types of `known`. Lines of JSON that omit
    /// a column of an earlier file have NULL in it. `check` validates each file's columns. Its error gets the
    /// name of the file.
    pub fn batches<'a>(
        &'a self,
        known: &'a Schema,
        purpose: Purpose,
        mut check: impl FnMut(&Schema) -> Result<()> + 'a,
        progress: &'a dyn Fn(u64),
    ) -> impl Iterator<Item = Result<RecordBatch>> + 'a {
        let mut expected: Vec<FieldRef> = match purpose {
            Purpose::Table => known.fields().to_vec(),
            Purpose::Itself => Vec::new(),
        };
        let mut checked = move |file: &'a InputFile| -> Result<Batches<'a>> {
            let mut batches = file.batches(known, progress)?;
            let Some(first) = batches.next().transpose()? else { return Ok(Box::new(std::iter::empty())) };
            let mut fields = settled(first.schema_ref().fields(), known, purpose);
            if file.format == Format::JsonLines {
                let left_out = lacking(&fields, &expected);
                fields.extend(left_out);
            }
            let brought = lacking(&expected, &fields);
            expected.extend(brought);
            let schema = Arc::new(Schema::new(fields));
            check(&schema).map_err(|error| error.with_context("file", file.path.display()))?;
            let batches = std::iter::once(Ok(first)).chain(batches);
            Ok(Box::new(batches.map(move |batch| under(&batch?, &schema))))
        };
        self.files
            .iter()
            .flat_map(move |file| checked(file).unwrap_or_else(|error| Box::new(std::iter::once(Err(error)))))
    }
}

/// The purpose for which rows are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Rows to write to a table. They have all columns of the table, including those that occur in no line of
    /// JSON. A new column without any value is omitted, because the table would keep its guessed type
    /// permanently.
    Table,
    /// Rows to print. They have the columns of their files. A column without values is text.
    Itself,
}

/// Returns the columns of a file, with a type for columns without values.
fn settled(fields: &Fields, known: &Schema, purpose: Purpose) -> Vec<FieldRef> {
    let settle = |field: &FieldRef| match known.field_with_name(field.name()) {
        _ if !field.data_type().is_null() => Some(field.clone()),
        Ok(known) => Some(Arc::new(known.clone())),
        Err(_) => (purpose == Purpose::Itself).then(|| as_text(field)),
    };
    fields.iter().filter_map(settle).collect()
}

/// Returns the fields of `all` that are not in `some`.
fn lacking(some: &[FieldRef], all: &[FieldRef]) -> Vec<FieldRef> {
    all.iter().filter(|field| some.iter().all(|other| other.name() != field.name())).cloned().collect()
}

fn as_text(field: &FieldRef) -> FieldRef {
    if !field.data_type().is_null() {
        return field.clone();
    }
    Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8))
}

/// Converts a batch to the resolved columns of its file. Columns without values become NULL.
fn under(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    let column = |field: &FieldRef| match batch.column_by_name(field.name()) {
        Some(column) if !column.data_type().is_null() => column.clone(),
        _ => new_null_array(field.data_type(), batch.num_rows()),
    };
    let columns = schema.fields().iter().map(column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .map_err(|cause| invalid("the rows cannot be converted to columns").with_source(cause))
}

type Batches<'a> = Box<dyn Iterator<Item = Result<RecordBatch>> + 'a>;

impl InputFile {
    fn open(&self) -> Result<BufReader<File>> {
        let file = File::open(&self.path).map_err(|cause| failed(&self.path, "cannot be read", cause))?;
        Ok(BufReader::with_capacity(256 * 1024, file))
    }

    /// Returns the columns of this file, with the types of `known` for known columns.
    fn columns(&self, known: &Schema) -> Result<SchemaRef> {
        match self.format {
            Format::Parquet => parquet::columns(self),
            Format::Csv => text::csv_columns(self, known),
            Format::JsonLines => text::json_columns(self, known),
        }
    }

    fn batches<'a>(&'a self, known: &Schema, progress: &'a dyn Fn(u64)) -> Result<Batches<'a>> {
        match self.format {
            Format::Parquet => parquet::batches(self, progress),
            Format::Csv => text::csv_batches(self, known, progress),
            Format::JsonLines => text::json_batches(self, known, progress),
        }
    }

    /// Returns the line of a row. If the file has fewer rows, returns their number as an error.
    fn line(&self, row: u64) -> Result<Result<u64, u64>> {
        match self.format {
            Format::Parquet => {
                let rows = parquet::rows(self)?;
                Ok(if row < rows { Ok(row) } else { Err(rows) })
            }
            Format::Csv => text::csv_line(self, row),
            Format::JsonLines => text::json_line(self, row),
        }
    }

    /// Creates an error about a line of this file.
    fn at_line(&self, line: u64, message: impl fmt::Display) -> Error {
        invalid(message.to_string()).with_context("file", self.path.display()).with_context("line", line)
    }
}

fn collect(folder: &Path, files: &mut Vec<InputFile>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.starts_with('.') || name.starts_with('_')
        });
        if hidden {
            continue;
        }
        let metadata = std::fs::metadata(&path)?;
        if metadata.is_dir() {
            collect(&path, files)?;
        } else if let Some(format) = Format::of(&path) {
            files.push(InputFile { path, format, bytes: metadata.len() });
        }
    }
    Ok(())
}

/// Columns to which rows are appended.
struct Rows {
    schema: SchemaRef,
    columns: Vec<Column>,
    rows: usize,
}

impl Rows {
    fn new(schema: SchemaRef) -> Result<Self> {
        let column = |field: &FieldRef| {
            Column::new(field.data_type())
                .map_err(|refusal| invalid(refusal).with_context("column", field.name()))
        };
        let columns = schema.fields().iter().map(column).collect::<Result<_>>()?;
        Ok(Self { schema, columns, rows: 0 })
    }

    fn append(&mut self, column: usize, cell: &Cell<'_>) -> Result<(), cell::Refusal> {
        self.columns[column].append(cell)
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        let arrays = self.columns.iter_mut().map(Column::finish).collect::<Result<_, _>>();
        arrays
            .and_then(|arrays| RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options))
            .map_err(|cause| invalid("the rows cannot be converted to columns").with_source(cause))
    }
}

/// Converts a row of strings to a schema.
pub fn one_row(schema: SchemaRef, values: &[&str]) -> Result<RecordBatch> {
    let mut rows = Rows::new(schema.clone())?;
    for (index, value) in values.iter().enumerate() {
        rows.append(index, &Cell::Text((*value).into()))
            .map_err(|refusal| invalid(refusal).with_context("column", schema.field(index).name()))?;
    }
    rows.rows = 1;
    rows.finish()
}

/// Returns the schema for reading text: the types of a table, with every column nullable.
fn text_schema(fields: Vec<Field>) -> Result<SchemaRef> {
    // Hudi's own columns are read with their types, and omitted when the rows are written.
    let typed: Vec<Field> = fields.iter().filter(|field| !field.data_type().is_null()).cloned().collect();
    if !typed.is_empty() {
        schema::canonical(&Schema::new(typed))?;
    }
    Ok(Arc::new(Schema::new(fields)))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

fn failed(path: &Path, what: &str, cause: std::io::Error) -> Error {
    invalid(format!("the file {what}")).with_context("file", path.display()).with_source(cause)
}
