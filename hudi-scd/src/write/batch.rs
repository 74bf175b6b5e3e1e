//! The path of a batch, from the rows to the commit.

use std::sync::Arc;

use arrow::{
    array::{BooleanArray, RecordBatch, UInt64Array},
    datatypes::SchemaRef,
};
use futures::{Stream, stream};

use super::{
    commit::Commit,
    decide::{
        bulk,
        changeset::{Changeset, Collecting},
        overwrite::{self, Overwrite, Tally},
        tag,
    },
    input::{
        self, Gathered,
        incoming::{Incoming, Intent},
    },
    operation_type::{OperationType, Replaced},
    plan::{codec, pack},
    report::{CommitReport, counted},
    upkeep,
};
use crate::{
    Result,
    beside::{Beside, tombstones::Tombstones},
    concurrent::blocking,
    context::{Context, Turn},
    index::record_key_encoding,
    maintain::metadata_table,
    operation::{Operation, Phase},
    recover::{heartbeat::Heartbeat, repair},
    schema,
    snapshot::View,
};

/// Writes rows, as an operation with this name.
pub(crate) async fn write(
    context: &Arc<Context>,
    name: &'static str,
    rows: impl Stream<Item = Result<RecordBatch>> + Send,
    intent: Intent,
) -> Result<CommitReport> {
    write_with(context, name, rows, intent, None).await
}

/// Overwrites a part of the table with rows, as an operation with this name.
pub(crate) async fn overwrite(
    context: &Arc<Context>,
    name: &'static str,
    rows: impl Stream<Item = Result<RecordBatch>> + Send,
    overwrite: Overwrite,
) -> Result<CommitReport> {
    write_with(context, name, rows, Intent::Overwrite, Some(overwrite)).await
}

async fn write_with(
    context: &Arc<Context>,
    name: &'static str,
    rows: impl Stream<Item = Result<RecordBatch>> + Send,
    intent: Intent,
    overwrite: Option<Overwrite>,
) -> Result<CommitReport> {
    let operation = &context.begin_change(name);
    let written = Box::pin(async {
        let mut report = CommitReport::default();
        operation.enter(Phase::Prepare);
        let rows = Box::pin(input::gather(context, rows, intent)).await?;
        operation.enter(Phase::Wait);
        let turn = Box::pin(context.turn()).await?;
        let input = Input { rows, deletes: None, beside: Beside::default(), intent, overwrite };
        let written = turn.run(Box::pin(write_in_turn(context, &turn, input, &mut report, operation))).await;
        turn.end().await;
        report.ended(written)?;
        Box::pin(upkeep::sync_catalog(context, &mut report, operation)).await;
        report.time = operation.phases();
        Ok(report)
    });
    operation.run(written).await
}

/// Begins a commit whose rows arrive in several parts, in a view of the turn.
pub(crate) fn parts<'a>(context: &'a Context, turn: &'a Turn<'a>, view: Arc<View>) -> Parts<'a> {
    let collecting = Collecting::new(context.options().clone());
    Parts { context, turn, view, collecting, tombstones: Tombstones::of(turn), schema: None, rows: 0 }
}

/// Writes rows with distinct keys, and deletes the marked ones, in one commit. `beside` is stored in the
/// same commit.
pub(crate) async fn change_in_turn(
    context: &Context,
    turn: &Turn<'_>,
    rows: RecordBatch,
    deletes: BooleanArray,
    beside: Beside,
    report: &mut CommitReport,
    operation: &Operation,
) -> Result<()> {
    let rows = Gathered::Memory(vec![rows]);
    let deletes = Some(deletes);
    let input = Input { rows, deletes, beside, intent: Intent::Upsert, overwrite: None };
    Box::pin(write_in_turn(context, turn, input, report, operation)).await
}

pub(super) async fn write_in_turn(
    context: &Context,
    turn: &Turn<'_>,
    mut input: Input,
    report: &mut CommitReport,
    operation: &Operation,
) -> Result<()> {
    operation.enter(Phase::Repair);
    report.rolled_back.extend(Box::pin(repair(context, turn)).await?);
    let view = turn.view().await?;
    view.check_latest_whole()?;

    let (intent, overwrite) = (input.intent, input.overwrite.take());
    let beside = std::mem::take(&mut input.beside);
    let mut tally = Tally::default();
    let mut changes =
        Box::pin(changes_of(context, turn, &view, input, &mut tally, report, operation)).await?;
    let (operation_type, replaced) = match overwrite {
        Some(overwrite) => (overwrite.operation_type, tally.settle(overwrite.target, &mut changes, report)),
        None => (OperationType::of(intent), Replaced::new()),
    };
    let made = Made { changes, operation_type, replaced, beside };
    Box::pin(commit_changes(context, turn, view, made, report, operation)).await
}

/// Writes the changes of the latest snapshot, and then cleans.
async fn commit_changes(
    context: &Context,
    turn: &Turn<'_>,
    view: Arc<View>,
    made: Made,
    report: &mut CommitReport,
    operation: &Operation,
) -> Result<()> {
    let Made { changes, operation_type, replaced, beside } = made;
    if changes.is_empty() && replaced.is_empty() && beside.is_empty() {
        return Ok(());
    }
    if !changes.new_rows.is_empty() {
        view.check_no_buckets()?;
    }
    Box::pin(record_key_encoding(context, turn, &view)).await?;
    Box::pin(metadata_table::drop_once(context, turn, &view)).await?;
    report.metadata_table_dropped = turn.dropped();
    let schema = changes.schema.clone();
    let codec = Box::pin(codec::of_commit(context, &view, &changes.files)).await?;
    let avro = schema::continued(context.avro_of(&view), &schema, context.name())?;
    let heartbeat = Heartbeat::start(context, view.timeline.newest()).await?;
    let instant = heartbeat.instant();
    operation.has_instant(instant);
    let packed = pack::pack(context, &view, changes, context.ids(instant));
    drop(view);
    let commit = Commit { context, turn, heartbeat, operation_type, avro, codec, replaced, beside };
    Box::pin(commit.run(schema, packed, report, operation)).await?;
    operation.enter(Phase::Clean);
    Box::pin(upkeep::clean_after_commit(context, turn, report)).await;
    Box::pin(upkeep::archive_after_commit(context, turn, report)).await;
    Ok(())
}

/// Looks up all rows and decides on their changes, at once or chunk by chunk.
async fn changes_of(
    context: &Context,
    turn: &Turn<'_>,
    view: &View,
    input: Input,
    tally: &mut Tally,
    report: &mut CommitReport,
    operation: &Operation,
) -> Result<Changeset> {
    operation.enter(Phase::Prepare);
    let Input { rows, deletes, intent, .. } = input;
    let mut tombstones = Tombstones::of(turn);
    let runs = match rows {
        Gathered::Memory(batches) => {
            let mut incoming = Box::pin(Incoming::prepare(context, view, batches, intent)).await?;
            if deletes.is_some() {
                incoming.deletes = deletes;
            }
            report.rows = incoming.total_rows;
            report.superseded = incoming.total_rows - incoming.len() as u64;
            let incoming = Arc::new(incoming);
            operation.enter(Phase::Find);
            let tagged =
                Box::pin(find_and_tag(context, view, &incoming, tally, &mut tombstones, report)).await?;
            return blocking(move || Ok(Changeset::in_memory(incoming, tagged))).await;
        }
        Gathered::Runs(runs) => runs,
    };
    report.rows = runs.rows;
    report.superseded = runs.rows;
    let (mut merger, schema) = Box::pin(runs.merge(context, view, intent)).await?;
    let mut collecting = Collecting::new(context.options().clone());
    loop {
        operation.enter(Phase::Prepare);
        let (properties, columns) = (context.properties().clone(), schema.clone());
        let next = blocking(move || {
            let Some((rows, keys, places)) = merger.next_chunk()? else { return Ok(None) };
            let incoming = Incoming::distinct(&properties, intent, columns, rows, keys, places)?;
            Ok(Some((incoming, merger)))
        });
        let Some((incoming, rest)) = next.await? else { break };
        merger = rest;
        let incoming = Arc::new(incoming);
        report.superseded -= incoming.len() as u64;
        operation.enter(Phase::Find);
        let tagged = Box::pin(find_and_tag(context, view, &incoming, tally, &mut tombstones, report)).await?;
        collecting = blocking(move || collecting.add(&incoming, tagged).map(|()| collecting)).await?;
    }
    blocking(move || collecting.finish(schema)).await
}

async fn find_and_tag(
    context: &Context,
    view: &View,
    incoming: &Arc<Incoming>,
    tally: &mut Tally,
    tombstones: &mut Tombstones<'_>,
    report: &mut CommitReport,
) -> Result<tag::Tagged> {
    match incoming.intent {
        Intent::BulkInsert => {
            let incoming = incoming.clone();
            counted(report, move |report| Ok(bulk::tag(&incoming, report))).await
        }
        Intent::Overwrite => overwrite::tag(context, view, incoming, tally, report).await,
        _ => tag::tag(context, view, incoming, tombstones, report).await,
    }
}

/// The rows to write.
pub(super) struct Input {
    pub(super) rows: Gathered,
    /// Marks the rows that are deletes, if no column does. In that case all keys are distinct, because rows
    /// must not be counted twice.
    pub(super) deletes: Option<BooleanArray>,
    pub(super) beside: Beside,
    pub(super) intent: Intent,
    /// For [`Intent::Overwrite`]: the part of the table to overwrite.
    pub(super) overwrite: Option<Overwrite>,
}

/// The changes of a commit.
struct Made {
    changes: Changeset,
    operation_type: OperationType,
    replaced: Replaced,
    beside: Beside,
}

/// A commit whose rows arrive in several parts. Each key is in only one part.
pub(crate) struct Parts<'a> {
    context: &'a Context,
    turn: &'a Turn<'a>,
    view: Arc<View>,
    collecting: Collecting,
    tombstones: Tombstones<'a>,
    /// The data columns after the write.
    schema: Option<SchemaRef>,
    /// The number of rows so far.
    rows: u64,
}

impl Parts<'_> {
    /// Adds rows with distinct keys. The marked rows are deletes. All parts have the same columns.
    pub(crate) async fn add(
        &mut self,
        rows: RecordBatch,
        deletes: BooleanArray,
        report: &mut CommitReport,
        operation: &Operation,
    ) -> Result<()> {
        let Self { context, view, tombstones, .. } = self;
        operation.enter(Phase::Prepare);
        let mut incoming = Box::pin(Incoming::prepare(context, view, vec![rows], Intent::Upsert)).await?;
        let end = self.rows + incoming.len() as u64;
        incoming.places = Some(UInt64Array::from_iter_values(self.rows..end));
        incoming.deletes = Some(deletes);
        report.rows += incoming.total_rows;
        (self.rows, self.schema) = (end, Some(incoming.schema.clone()));
        let incoming = Arc::new(incoming);
        operation.enter(Phase::Find);
        let tagged =
            Box::pin(find_and_tag(context, view, &incoming, &mut Tally::default(), tombstones, report))
                .await?;
        let mut collecting =
            std::mem::replace(&mut self.collecting, Collecting::new(context.options().clone()));
        self.collecting = blocking(move || collecting.add(&incoming, tagged).map(|()| collecting)).await?;
        Ok(())
    }

    /// Makes the commit, if anything has changed.
    pub(crate) async fn commit(
        self,
        beside: Beside,
        report: &mut CommitReport,
        operation: &Operation,
    ) -> Result<()> {
        let Self { context, turn, view, collecting, schema, .. } = self;
        let schema = match schema {
            Some(schema) => schema,
            None => context.schema_of(&view)?,
        };
        let changes = blocking(move || collecting.finish(schema)).await?;
        let (operation_type, replaced) = (OperationType::Upsert, Replaced::new());
        let made = Made { changes, operation_type, replaced, beside };
        commit_changes(context, turn, view, made, report, operation).await
    }
}

/// Returns batches in memory as a stream.
pub(crate) fn at_hand(batches: &[RecordBatch]) -> impl Stream<Item = Result<RecordBatch>> + Send {
    stream::iter(batches.iter().cloned().map(Ok))
}
