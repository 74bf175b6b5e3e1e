//! Prints results: rows in one of the formats, and lines of text or JSON.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal, Write},
    path::Path,
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, RecordBatch},
    compute::cast,
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef},
};
use comfy_table::{ContentArrangement, Table as Picture, presets::UTF8_FULL_CONDENSED};
use hudi_scd::{Error, ErrorKind, schema};
use parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties};

use super::{args, failure::Failure, json};

/// Standard output, or a file.
pub(super) type Sink = Box<dyn Write + Send>;

/// Returns standard output, buffered.
pub(super) fn stdout() -> Sink {
    Box::new(BufWriter::with_capacity(64 * 1024, io::stdout()))
}

/// Creates a human-readable table.
pub(super) fn picture<'a>(header: impl IntoIterator<Item = &'a str>) -> Picture {
    let mut picture = Picture::new();
    picture.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    picture.set_header(header);
    picture
}

/// Writes rows, batch by batch.
pub(super) struct RowWriter {
    schema: SchemaRef,
    /// For each column that is converted to text, the type whose text form is used.
    shown: Vec<Option<DataType>>,
    format: Writing,
    line: String,
}

enum Writing {
    JsonLines(Sink),
    Csv(Sink),
    Parquet(Box<ArrowWriter<Sink>>),
    Picture(Sink, Box<Picture>),
}

impl RowWriter {
    /// Creates a writer for rows with this schema.
    pub(super) fn new(rows: &args::Rows, as_json: bool, schema: SchemaRef) -> Result<Self, Failure> {
        let by_name = || rows.output.as_deref().and_then(by_extension);
        let format = rows.format.or_else(by_name).unwrap_or(args::Format::Jsonl);
        if as_json && format != args::Format::Jsonl {
            let other = if rows.format.is_some() { "--format" } else { "the extension of --output" };
            return Err(Failure::usage(format!(
                "--json and {other} contradict each other: remove one of them, or add --format jsonl"
            )));
        }
        if format == args::Format::Parquet && rows.output.is_none() && io::stdout().is_terminal() {
            return Err(Failure::usage("Parquet cannot be printed on a terminal: name a file with --output"));
        }
        let mut sink = match &rows.output {
            Some(path) => Box::new(BufWriter::with_capacity(256 * 1024, create(path)?)),
            None => stdout(),
        };
        let format = match format {
            args::Format::Jsonl => Writing::JsonLines(sink),
            args::Format::Csv => {
                let names = schema.fields().iter().map(|field| quoted(field.name()));
                writeln!(sink, "{}", names.collect::<Vec<_>>().join(","))?;
                Writing::Csv(sink)
            }
            args::Format::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
                let writer =
                    ArrowWriter::try_new(sink, schema.clone(), Some(properties)).map_err(not_written)?;
                Writing::Parquet(Box::new(writer))
            }
            args::Format::Table => {
                let names = schema.fields().iter().map(|field| field.name().as_str());
                Writing::Picture(sink, Box::new(picture(names)))
            }
        };
        let shown = schema.fields().iter().map(|field| shown_as(field.data_type())).collect();
        Ok(Self { schema, shown, format, line: String::new() })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        let is_text = !matches!(self.format, Writing::Parquet(_));
        let shown = if is_text { as_shown(batch, &self.shown)? } else { batch.clone() };
        let batch = &shown;
        let cells = |row| batch.columns().iter().map(move |column| (column, json::plain(column, row)));
        match &mut self.format {
            Writing::JsonLines(sink) => {
                for row in 0..batch.num_rows() {
                    self.line.clear();
                    json::write_row(&mut self.line, batch, row);
                    self.line.push('\n');
                    sink.write_all(self.line.as_bytes())?;
                }
            }
            Writing::Csv(sink) => {
                for row in 0..batch.num_rows() {
                    let cells = cells(row).map(|(column, text)| match text.as_str() {
                        // NULL is an empty field, so the empty string needs quotes.
                        "" if column.is_null(row) => String::new(),
                        "" => "\"\"".to_owned(),
                        text => quoted(text),
                    });
                    self.line.clear();
                    for (index, cell) in cells.enumerate() {
                        if index > 0 {
                            self.line.push(',');
                        }
                        self.line.push_str(&cell);
                    }
                    self.line.push('\n');
                    sink.write_all(self.line.as_bytes())?;
                }
            }
            Writing::Parquet(writer) => {
                let batch = batch
                    .clone()
                    .with_schema(self.schema.clone())
                    .map_err(|cause| not_written(cause.into()))?;
                writer.write(&batch).map_err(not_written)?;
            }
            Writing::Picture(_, picture) => {
                for row in 0..batch.num_rows() {
                    let cells = cells(row);
                    let shown = cells
                        .map(|(column, text)| if column.is_null(row) { "NULL".to_owned() } else { text });
                    picture.add_row(shown);
                }
            }
        }
        Ok(())
    }

    /// Writes the remaining rows. Without this call the output is truncated.
    pub(super) fn finish(self) -> Result<(), Failure> {
        match self.format {
            Writing::JsonLines(mut sink) | Writing::Csv(mut sink) => sink.flush()?,
            Writing::Parquet(writer) => {
                let mut sink = writer.into_inner().map_err(not_written)?;
                sink.flush()?;
            }
            Writing::Picture(mut sink, picture) => {
                writeln!(sink, "{picture}")?;
                sink.flush()?;
            }
        }
        Ok(())
    }
}

/// Returns the table type whose text form is used for a type that only facts may have.
fn shown_as(data_type: &DataType) -> Option<DataType> {
    // A table has no nanoseconds.
    if matches!(data_type, DataType::Timestamp(..)) {
        return None;
    }
    let alone = Schema::new(vec![Field::new("c", data_type.clone(), true)]);
    let shown = schema::canonical(&alone).ok()?.field(0).data_type().clone();
    (shown != *data_type).then_some(shown)
}

fn as_shown(batch: &RecordBatch, shown: &[Option<DataType>]) -> Result<RecordBatch, Failure> {
    if shown.iter().all(Option::is_none) {
        return Ok(batch.clone());
    }
    let column = |(column, shown): (&ArrayRef, &Option<DataType>)| match shown {
        Some(shown) => cast(column, shown),
        None => Ok(column.clone()),
    };
    let field =
        |(field, column): (&FieldRef, &ArrayRef)| Field::new(field.name(), column.data_type().clone(), true);
    let columns: Result<Vec<ArrayRef>, _> = batch.columns().iter().zip(shown).map(column).collect();
    let rows = columns.and_then(|columns| {
        let fields: Vec<Field> = batch.schema_ref().fields().iter().zip(&columns).map(field).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
    });
    rows.map_err(|cause| {
        Error::new(ErrorKind::InvalidInput, "the rows cannot be shown").with_source(cause).into()
    })
}

fn by_extension(path: &Path) -> Option<args::Format> {
    match path.extension()?.to_str()? {
        "csv" => Some(args::Format::Csv),
        "parquet" => Some(args::Format::Parquet),
        _ => None,
    }
}

fn create(path: &Path) -> Result<File, Failure> {
    File::create(path).map_err(|cause| {
        let error = Error::new(ErrorKind::Storage, "the output cannot be written");
        error.with_context("file", path.display()).with_source(cause).into()
    })
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) || text.starts_with(' ') || text.ends_with(' ') {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn not_written(cause: parquet::errors::ParquetError) -> Failure {
    // A closed pipe is detected in every format.
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&cause);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Failure::Output(io::Error::new(io.kind(), io.to_string()));
        }
        source = error.source();
    }
    Error::new(ErrorKind::Storage, "the rows cannot be written").with_source(cause).into()
}
