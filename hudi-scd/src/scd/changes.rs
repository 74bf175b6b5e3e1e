//! The changes of a merge. They are in memory if they are few, and otherwise in runs on the local disk,
//! sorted by business key.
//!
//! All changes of a key are merged together. They must therefore fit into memory, together with the stored
//! rows of the key.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray},
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
};
use futures::Stream;

use super::{Scd2, merge::Changes};
use crate::{
    Error, ErrorKind, Result,
    concurrent::blocking,
    context::{Context, TableOptions},
    key::{self, KeyEncoding},
    schema::reconcile,
    write::input::{Classes, Merger, Rule, Run, SHARES, Sorting, hold, write_run},
};

/// The columns that follow the changes' own columns in a run: the instant, and the kind of the change.
const ADDED: [(&str, DataType); 2] =
    [("__hudi_scd_at", DataType::Int64), ("__hudi_scd_delete", DataType::Boolean)];

/// The input of a merge.
pub(super) enum Gathered {
    Memory(Vec<RecordBatch>),
    Runs(Runs),
}

/// Changes on the local disk.
pub(super) struct Runs {
    runs: Classes<Run>,
    /// Number of changes.
    rows: u64,
    /// The schema of the history after the changes so far.
    history: SchemaRef,
}

/// Reads a stream of changes until its end.
pub(super) async fn gather(
    context: &Context,
    scd: &Scd2,
    changes: impl Stream<Item = Result<RecordBatch>> + Send,
) -> Result<Gathered> {
    let mut sorting = SortingChanges { context, scd, runs: None };
    Ok(match (hold(changes, context.options(), &mut sorting).await?, sorting.runs) {
        (None, Some(runs)) => Gathered::Runs(runs),
        (held, _) => Gathered::Memory(held.unwrap_or_default()),
    })
}

/// Changes that are being sorted.
struct SortingChanges<'a> {
    context: &'a Context,
    scd: &'a Scd2,
    runs: Option<Runs>,
}

impl Sorting for SortingChanges<'_> {
    async fn add(&mut self, batches: Vec<RecordBatch>) -> Result<()> {
        let mut runs = match self.runs.take() {
            Some(runs) => runs,
            None => {
                let history = self.context.schema_of(&*self.context.view().await?)?;
                let history = history.project(&self.scd.history_columns(&history)).map_err(unfit)?;
                Runs { runs: Classes::new(), rows: 0, history: Arc::new(history) }
            }
        };
        let (scd, history, before) = (self.scd.clone(), runs.history.clone(), runs.rows);
        let options = self.context.options().clone();
        let (run, rows, history) =
            blocking(move || sorted(&scd, history, &batches, before, &options)).await?;
        runs.runs.add(run, &Rule::All, self.context.options()).await?;
        self.runs = Some(Runs { runs: runs.runs, rows: before + rows, history });
        Ok(())
    }
}

/// Writes changes to a run. `before` is the number of changes before them. Returns their number, and the
/// schema of the history after them.
fn sorted(
    scd: &Scd2,
    history: SchemaRef,
    batches: &[RecordBatch],
    before: u64,
    options: &TableOptions,
) -> Result<(Run, u64, SchemaRef)> {
    let first = usize::try_from(before).unwrap_or(usize::MAX);
    let named = |error: Error| error.map_rows(|row| first + row);
    let Changes { schema, data, at, is_delete } = scd.prepare(history, batches).map_err(named)?;
    let keys = texts(scd, &data).map_err(named)?;
    let added: [ArrayRef; 2] = [Arc::new(at), Arc::new(BooleanArray::from(is_delete))];
    let columns = run_columns(data.schema_ref());
    let rows = data.columns().iter().cloned().chain(added).collect();
    let rows = RecordBatch::try_new(columns.clone(), rows).map_err(unfit)?;
    let run = write_run(options, &rows, &keys, before, columns)?;
    Ok((run, rows.num_rows() as u64, schema))
}

/// Returns, for each row, the string by which its changes are sorted.
fn texts(scd: &Scd2, data: &RecordBatch) -> Result<StringArray> {
    // The first column is added twice, because a record key with a single column must not be empty. The record key
    // of the history always has more columns.
    let columns: Vec<String> = scd.keys().iter().chain(scd.keys().first()).cloned().collect();
    key::record_keys(data, &columns, KeyEncoding::FieldPrefixed)
}

fn run_columns(data: &Schema) -> SchemaRef {
    let added = ADDED.map(|(name, data_type)| Arc::new(Field::new(name, data_type, true)));
    Arc::new(Schema::new(data.fields().iter().cloned().chain(added).collect::<Vec<_>>()))
}

impl Runs {
    /// Returns the changes in chunks. `history` is the schema of the stored rows.
    pub(super) async fn merge(self, scd: &Scd2, history: &Schema, budget: usize) -> Result<Chunks> {
        let history = Arc::new(history.project(&scd.history_columns(history)).map_err(unfit)?);
        let history = reconcile(&history, &self.history)?;
        let columns = run_columns(&scd.change_columns(&history));
        let runs = self.runs.into_runs();
        let merger = blocking(move || Merger::new(runs, Rule::All, columns, budget / SHARES)).await?;
        Ok(Chunks { merger, history })
    }
}

/// Changes in chunks. A chunk contains all changes of its keys.
pub(super) struct Chunks {
    merger: Merger,
    history: SchemaRef,
}

impl Chunks {
    /// Returns the next changes. Returns `None` after the last ones. This must run on a blocking thread.
    pub(super) fn next(&mut self) -> Result<Option<Changes>> {
        let Some((rows, ..)) = self.merger.next_chunk()? else { return Ok(None) };
        let data = rows.num_columns() - ADDED.len();
        let is_delete =
            rows.column(data + 1).as_boolean().iter().map(|deletes| deletes == Some(true)).collect();
        let at = rows.column(data).as_primitive::<Int64Type>().clone();
        let data = rows.project(&(0..data).collect::<Vec<_>>()).map_err(unfit)?;
        Ok(Some(Changes { schema: self.history.clone(), data, at, is_delete }))
    }
}

fn unfit(cause: arrow::error::ArrowError) -> Error {
    Error::new(ErrorKind::InvalidInput, "the changes cannot be sorted").with_source(cause)
}
