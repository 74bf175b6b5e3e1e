//! `upsert`, `insert`, `bulk-insert`, `insert-overwrite`, `delete`.

use std::{io::Write, sync::Arc};

use arrow::{
    array::{ArrayRef, BooleanArray, RecordBatch},
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef},
};
use futures::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use hudi_scd::{
    CommitReport, Error, ErrorKind, Result, Table,
    input::{Input, Operations, Purpose, produced},
    scd::{Scd2Report, Scd2Table},
    schema,
};
use serde_json::{Value, json};

use crate::{
    Context,
    args::{Delete, Write as WriteArgs},
    failure::Failure,
    output,
    progress::Progress,
    schema_file,
};

/// Number of batches that are read in advance.
const BATCHES_AHEAD: usize = 2;

/// The kind of write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Upsert,
    Insert,
    BulkInsert,
    InsertOverwrite { whole: bool },
}

/// Writes rows. `operations` names the column with the operation of each row.
pub(super) async fn run(
    context: Context,
    args: WriteArgs,
    kind: Kind,
    operations: Option<String>,
) -> Result<(), Failure> {
    let (location, table) = super::open(context, &args.target.table, args.index.options()).await?;
    let input = Input::open(&args.input)?;
    let mut known = columns_of_input(&table).await.map_err(|error| Failure::from(error).of(&location))?;
    if let Some(file) = &args.schema {
        known = with_new_columns(&known, &*schema_file::read(file)?);
    }
    let files = input.clone();
    let named = |error: Error| Failure::from(files.locate(error)).of(&location);
    if table.is_history() {
        if kind != Kind::Upsert {
            let message = format!("{location} keeps history (SCD type 2): write changes with `upsert`");
            return Err(Failure::usage(message));
        }
        let history = Scd2Table::of(table)?;
        let operations =
            operations.map(|column| Operations::new(column, &known, history.definition().delete_marker()));
        let changes = changes(context, input, known, operations, |_| Ok(()));
        let changes: Vec<RecordBatch> = changes.try_collect().await.map_err(named)?;
        let _wheel = Progress::wheel(context, "writing");
        let report = history.apply(&changes).await.map_err(named)?;
        return tell_history(context, &report);
    }
    let operations = operations.map(|column| Operations::new(column, &known, schema::IS_DELETED_COLUMN));
    let mut seen = known.clone();
    let fits = move |schema: &Schema| {
        // If the table has no columns, the rows determine them.
        if !seen.fields().is_empty() {
            seen = schema::reconcile(&seen, schema)?;
        }
        Ok(())
    };
    let rows = changes(context, input, known, operations, fits);
    let report = match kind {
        Kind::Upsert => table.upsert_stream(rows).await,
        Kind::Insert => table.insert_stream(rows).await,
        Kind::BulkInsert => table.bulk_insert_stream(rows).await,
        Kind::InsertOverwrite { whole: false } => table.insert_overwrite_stream(rows).await,
        Kind::InsertOverwrite { whole: true } => table.insert_overwrite_table_stream(rows).await,
    };
    tell(context, &report.map_err(named)?)
}

/// Reads the rows of files for a table, and marks deletes if there is a column of operations.
fn changes(
    context: Context,
    input: Input,
    known: SchemaRef,
    operations: Option<Operations>,
    mut check: impl FnMut(&Schema) -> Result<()> + Send + 'static,
) -> BoxStream<'static, Result<RecordBatch>> {
    let Some(operations) = operations else { return rows(context, input, known, Purpose::Table, check) };
    let (known, checked) = (operations.read_with(&known), operations.clone());
    let fits = move |schema: &Schema| check(&checked.stored(schema)?);
    let mut before = 0;
    let read = rows(context, input, known, Purpose::Table, fits);
    read.map(move |batch| {
        let batch = batch?;
        let first = before;
        before += batch.num_rows();
        operations.mark(&batch, first)
    })
    .boxed()
}

pub(super) async fn delete(context: Context, args: Delete) -> Result<(), Failure> {
    let (location, table) = super::open(context, &args.target.table, args.index.options()).await?;
    let input = Input::open(&args.keys)?;
    let files = input.clone();
    let named = |error: Error| Failure::from(files.locate(error)).of(&location);
    let known = columns_of_input(&table).await.map_err(named)?;
    if !table.is_history() {
        let keys = only(context, input, &known, table.record_key_fields().to_vec());
        return tell(context, &table.delete_stream(keys).await.map_err(named)?);
    }
    let history = Scd2Table::of(table)?;
    let definition = history.definition();
    let wanted = definition.keys().iter().cloned().chain([definition.sequence().to_owned()]);
    let keys = only(context, input, &known, wanted.collect());
    let deletes = keys.map(|batch| with_marker(&batch?, definition.delete_marker()));
    let deletes: Vec<RecordBatch> = deletes.try_collect().await.map_err(named)?;
    tell_history(context, &history.apply(&deletes).await.map_err(named)?)
}

/// Returns the columns of the incoming rows: the table's columns, or for a history the columns of its
/// changes.
async fn columns_of_input(table: &Table) -> Result<SchemaRef> {
    let schema = match table.schema().await {
        // Another engine created the table, and it is still empty: the rows determine the columns.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Arc::new(Schema::empty())),
        schema => schema?,
    };
    if !table.is_history() {
        return Ok(schema);
    }
    Scd2Table::of(table.clone())?.definition().changes_schema(&schema)
}

fn with_new_columns(known: &Schema, given: &Schema) -> SchemaRef {
    let new = given.fields().iter().filter(|field| known.field_with_name(field.name()).is_err());
    Arc::new(Schema::new(known.fields().iter().chain(new).cloned().collect::<Vec<FieldRef>>()))
}

/// Reads rows of files on a blocking thread while other rows are being written. Shows a progress bar.
fn rows(
    context: Context,
    input: Input,
    known: SchemaRef,
    purpose: Purpose,
    check: impl FnMut(&Schema) -> Result<()> + Send + 'static,
) -> BoxStream<'static, Result<RecordBatch>> {
    let progress = Progress::bytes(context, input.bytes(), "reading");
    produced(BATCHES_AHEAD, move |give| {
        let add = |bytes| progress.add(bytes);
        for batch in input.batches(&known, purpose, check, &add) {
            if !give(batch?) {
                break;
            }
        }
        Ok(())
    })
}

/// Selects columns that every file must have.
fn only(
    context: Context,
    input: Input,
    known: &Schema,
    wanted: Vec<String>,
) -> impl Stream<Item = Result<RecordBatch>> + Send + 'static {
    let fields: Vec<FieldRef> =
        known.fields().iter().filter(|field| wanted.contains(field.name())).cloned().collect();
    let columns = wanted.clone();
    let has_all = move |schema: &Schema| match columns.iter().find(|name| schema.index_of(name).is_err()) {
        None => Ok(()),
        Some(name) => Err(Error::new(
            ErrorKind::InvalidInput,
            "the file lacks a column that identifies the rows to delete",
        )
        .with_context("column", name)
        .with_context("needs", columns.join(", "))),
    };
    rows(context, input, Arc::new(Schema::new(fields)), Purpose::Itself, has_all).map(move |batch| {
        let batch = batch?;
        let indices: Result<Vec<usize>, _> =
            wanted.iter().map(|name| batch.schema_ref().index_of(name)).collect();
        indices.and_then(|indices| batch.project(&indices)).map_err(unfit)
    })
}

/// Marks the rows as deletes.
fn with_marker(batch: &RecordBatch, marker: &str) -> Result<RecordBatch> {
    let mut fields: Vec<FieldRef> = batch.schema_ref().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(marker, DataType::Boolean, true)));
    let deleted: ArrayRef = Arc::new(BooleanArray::from(vec![true; batch.num_rows()]));
    let columns = batch.columns().iter().cloned().chain([deleted]).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(unfit)
}

fn unfit(cause: arrow::error::ArrowError) -> Error {
    Error::new(ErrorKind::InvalidInput, "the rows have conflicting columns").with_source(cause)
}

fn tell(context: Context, report: &CommitReport) -> Result<(), Failure> {
    let mut out = output::stdout();
    if context.json {
        writeln!(out, "{}", commit(report))?;
    } else {
        writeln!(out, "{report}")?;
        if let Some(cleaned) = &report.cleaned {
            writeln!(out, "clean {}: {} files deleted", cleaned.instant, cleaned.files)?;
        }
        if let Some(archived) = &report.archived {
            writeln!(out, "archive: {} actions moved to {}", archived.actions, archived.file)?;
        }
        for failed in &report.upkeep_failed {
            writeln!(out, "the commit is complete, but the upkeep failed: {failed}")?;
        }
        for dead in &report.rolled_back {
            writeln!(out, "rolled back {dead}, an unfinished write")?;
        }
        if !report.metadata_table_dropped.is_empty() {
            let dropped = report.metadata_table_dropped.join(", ");
            writeln!(
                out,
                "dropped the metadata table ({dropped}), which the next Spark write creates again"
            )?;
        }
    }
    Ok(out.flush()?)
}

fn tell_history(context: Context, report: &Scd2Report) -> Result<(), Failure> {
    if !context.json {
        let mut out = output::stdout();
        writeln!(out, "{}", report.counts)?;
        out.flush()?;
        return tell(context, &report.commit);
    }
    let counts = &report.counts;
    let mut object = commit(&report.commit);
    object["history"] = json!({
        "changes": counts.changes,
        "keys": counts.keys,
        "late": counts.late,
        "opened": counts.opened,
        "closed": counts.closed,
        "split": counts.split,
        "removed": counts.removed,
        "overwritten": counts.overwritten,
    });
    let mut out = output::stdout();
    writeln!(out, "{object}")?;
    Ok(out.flush()?)
}

fn commit(report: &CommitReport) -> Value {
    let time = &report.time;
    let instant = |instant: &hudi_scd::Instant| instant.to_string();
    json!({
        "instant": report.instant.as_ref().map(instant),
        "rows": report.rows,
        "inserted": report.inserted,
        "updated": report.updated,
        "moved": report.moved,
        "deleted": report.deleted,
        "overwritten": report.overwritten,
        "late": report.late,
        "remembered": report.remembered,
        "unchanged": report.unchanged,
        "superseded": report.superseded,
        "files": report.files,
        "bytes": report.bytes,
        "bytes_sent": report.bytes_sent,
        "bytes_copied": report.bytes_copied,
        "rolled_back": report.rolled_back.iter().map(instant).collect::<Vec<_>>(),
        "metadata_table_dropped": report.metadata_table_dropped,
        "cleaned": report.cleaned.as_ref().map(super::maintain::clean_report),
        "archived": report.archived.as_ref().map(super::maintain::archive_report),
        "upkeep_failed": report.upkeep_failed,
        "seconds": {
            "wait": time.wait.as_secs_f64(),
            "repair": time.repair.as_secs_f64(),
            "prepare": time.prepare.as_secs_f64(),
            "find": time.find.as_secs_f64(),
            "write": time.write.as_secs_f64(),
            "commit": time.commit.as_secs_f64(),
            "clean": time.clean.as_secs_f64(),
            "total": time.total().as_secs_f64(),
        },
    })
}
