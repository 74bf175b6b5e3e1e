//! `read`.

use arrow::{
    array::{AsArray, RecordBatch, StringArray},
    compute::{kernels::cmp::eq, nullif},
    datatypes::Schema,
};
use futures::TryStreamExt;
use hudi_scd::{
    Error, ErrorKind, Query, Result, TableOptions,
    scd::{Scd2, Scd2Table},
    schema::META_COLUMNS,
};

use crate::{Context, args::Read, failure::Failure, output::RowWriter, progress::Progress};

pub(super) async fn run(context: Context, args: Read) -> Result<(), Failure> {
    let (location, table) = super::open(context, &args.target.table, TableOptions::new()).await?;
    let at = |given| super::instant(&table, given).map_err(|failure| failure.of(&location));
    let mut query = match (args.as_of, args.since) {
        (Some(instant), _) => Query::as_of(at(instant)?),
        (None, Some(since)) => Query::since(at(since)?),
        (None, None) => Query::snapshot(),
    };
    if let Some(until) = args.until {
        query = query.until(at(until)?);
    }
    let history = if table.is_history() { Some(Scd2Table::of(table.clone())?) } else { None };
    let shown = match &history {
        Some(history) => {
            let schema = table.schema().await.map_err(|error| Failure::from(error).of(&location))?;
            let states = States::new(history.definition(), &schema, &args.columns, args.meta_columns);
            query = query.with_columns(states.read.clone());
            Some(states)
        }
        None if args.columns.is_empty() => None,
        None => {
            query = query.with_columns(args.columns);
            None
        }
    };
    if args.meta_columns {
        query = query.with_meta_columns();
    }
    let named = |error: Error| Failure::from(error).of(&location);
    let wheel = Progress::wheel(context, "reading");
    let mut batches = table.read_stream(query).await.map_err(named)?;
    let mut writer: Option<RowWriter> = None;
    let mut left = args.limit.unwrap_or(usize::MAX);
    while let Some(batch) = batches.try_next().await.map_err(named)? {
        let mut batch = as_engines_read(batch, table.partition_fields())?;
        if let Some(states) = &shown {
            batch = states.of(&batch)?;
        }
        let writer = match &mut writer {
            Some(writer) => writer,
            none => {
                // A progress bar would overwrite the rows.
                wheel.hide();
                none.insert(RowWriter::new(&args.rows, context.json, batch.schema())?)
            }
        };
        let rows = batch.num_rows().min(left);
        writer.write(&batch.slice(0, rows))?;
        left -= rows;
        if left == 0 {
            break;
        }
    }
    writer.map_or(Ok(()), RowWriter::finish)
}

/// Converts empty strings in partition columns to NULL. Spark, Athena and other engines take partition
/// columns from the path, where an empty string and NULL are the same folder, and read both as NULL.
fn as_engines_read(batch: RecordBatch, partition_fields: &[String]) -> Result<RecordBatch> {
    let impossible =
        |cause| Error::new(ErrorKind::Corrupt, "a partition column cannot be read").with_source(cause);
    let mut columns = batch.columns().to_vec();
    for field in partition_fields {
        let Ok(index) = batch.schema_ref().index_of(field) else { continue };
        if let Some(texts) = columns[index].as_string_opt::<i32>() {
            let empty = eq(texts, &StringArray::new_scalar("")).map_err(impossible)?;
            columns[index] = nullif(texts, &empty).map_err(impossible)?;
        }
    }
    RecordBatch::try_new(batch.schema(), columns).map_err(impossible)
}

/// Selects the rows of a history that are states of a key. Omits the bookkeeping rows and columns, which only
/// the next merge needs.
struct States<'a> {
    history: &'a Scd2,
    /// The columns to read.
    read: Vec<String>,
    /// The number of the read columns that are printed.
    shown: usize,
}

impl<'a> States<'a> {
    fn new(history: &'a Scd2, schema: &Schema, columns: &[String], meta_columns: bool) -> Self {
        let data = schema.fields().iter().map(|field| field.name().clone());
        let mut read: Vec<String> = if columns.is_empty() {
            data.filter(|name| !Scd2::is_hidden(name)).collect()
        } else {
            columns.to_vec()
        };
        let shown = read.len() + if meta_columns { META_COLUMNS.len() } else { 0 };
        for bound in [history.valid_from(), history.valid_to()] {
            if !read.iter().any(|name| name == bound) {
                read.push(bound.to_owned());
            }
        }
        Self { history, read, shown }
    }

    fn of(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let states = self.history.states(batch)?;
        let shown: Vec<usize> = (0..self.shown).collect();
        states.project(&shown).map_err(|cause| {
            Error::new(ErrorKind::Corrupt, "stored rows are not a history of this definition")
                .with_source(cause)
        })
    }
}
