//! The path of a batch into the table:
//!
//! ```text
//! batches -> input    (all in memory, or sorted runs on the local disk)
//!         -> incoming (keys, partitions, newest of each key)
//!         -> tag      (the location of each key, and which row is newer)
//!         -> pack     (the file groups for the new rows)
//!         -> merge    (the old file's rows and the changes, streamed into a new base file)
//!         -> commit   (requested, inflight, markers, files, completed)
//! ```
//!
//! Input that is larger than the [memory budget](crate::TableOptions::with_memory_budget) is processed in
//! chunks up to `pack`. Rows to write are spilled to the local disk.
//!
//! Before all of this, the remains of dead writers are [rolled back](rollback). At the end, the table is
//! cleaned.

mod arranged;
mod base_file;
mod bulk;
mod changeset;
mod codec;
mod collision;
mod commit;
mod distinct;
pub(crate) mod heartbeat;
pub(crate) mod hidden;
mod incoming;
pub(crate) mod input;
mod intake;
pub(crate) mod ledger;
mod lookup;
mod merge;
mod nan;
mod overwrite;
mod pack;
mod pages;
mod patch;
mod report;
pub(crate) mod rollback;
mod rows;
mod settle;
mod spill;
mod tag;
pub(crate) mod tombstones;
mod undo;

use std::sync::Arc;

use arrow::{
    array::{BooleanArray, RecordBatch, UInt64Array},
    datatypes::SchemaRef,
};
use futures::{Stream, stream};

use self::{
    changeset::{Changeset, Collecting},
    commit::{Commit, OperationType, Replaced},
    incoming::{Incoming, Intent},
    input::Gathered,
    ledger::Taken,
    overwrite::{Overwrite, Tally},
    tombstones::Tombstones,
};
pub use self::{intake::Intake, ledger::SourceFile, report::CommitReport, undo::RollbackReport};
use crate::{
    Result,
    concurrent::blocking,
    index::record_key_encoding,
    operation::{Operation, Phase},
    schema,
    table::{Table, Turn},
    view::View,
};

impl Table {
    /// Writes rows. New keys are added. For an existing key, the newer one of the stored and the incoming row
    /// is kept.
    ///
    /// - The ordering column decides which row is newer. On a tie, the incoming row wins. A late row changes
    ///   nothing. This is also true if its key was deleted in the meantime, as long as that deletion is
    ///   inside the retained window.
    /// - Of several rows with the same key, the one with the highest ordering value counts and, on a tie, the
    ///   last one.
    /// - A key is stored only once. If its partition has changed, the row moves.
    /// - A row whose `_hoodie_is_deleted` is true deletes its key, unless the row is late. Without an
    ///   ordering value, it deletes the stored row and earlier rows of the input.
    /// - New nullable columns and wider types are added to the table's schema.
    ///
    /// If nothing changes, there is no commit, and the report's `instant` is `None`.
    ///
    /// If the future is dropped, the write ends [as in a crash](Table#dropped-futures).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the rows do not fit the table, before
    /// anything is written; [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) or
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage) if the write was not committed;
    /// [`ErrorKind::Unknown`](crate::ErrorKind::Unknown) if the storage did not report the outcome.
    pub async fn upsert(&self, batches: &[RecordBatch]) -> Result<CommitReport> {
        self.write("upsert", at_hand(batches), Intent::Upsert, None).await
    }

    /// Writes the rows whose key is new. Stored rows stay unchanged, and incoming rows with their keys count
    /// as unchanged.
    ///
    /// If the future is dropped, the write ends [as in a crash](Table#dropped-futures).
    ///
    /// # Errors
    /// As [`Table::upsert`].
    pub async fn insert(&self, batches: &[RecordBatch]) -> Result<CommitReport> {
        self.write("insert", at_hand(batches), Intent::Insert, None).await
    }

    /// Adds rows whose keys the caller knows to be new. Keys are not looked up. The rows are written to new
    /// file groups, each of which contains a range of keys of one partition. Within a file, the rows have the
    /// order of the input. If the input is larger than the memory budget, a file consists of sections in that
    /// order, each with a range of keys. Use it for the first load of a table. A key that is already stored
    /// would be stored twice, which [`Table::validate`] detects.
    ///
    /// If the input has several rows with the same key, one of them counts, as for [`Table::upsert`]. (Hudi's
    /// own bulk insert keeps all of them, unless `hoodie.combine.before.insert` is set.) A row whose
    /// `_hoodie_is_deleted` is true is dropped.
    ///
    /// If the future is dropped, the write ends [as in a crash](Table#dropped-futures). Find out if it
    /// committed before you repeat it.
    ///
    /// # Errors
    /// As [`Table::upsert`]. After [`ErrorKind::Unknown`](crate::ErrorKind::Unknown), call [`Table::settle`]
    /// first, because a repeated bulk insert would store its rows twice.
    pub async fn bulk_insert(&self, batches: &[RecordBatch]) -> Result<CommitReport> {
        self.write("bulk_insert", at_hand(batches), Intent::BulkInsert, None).await
    }

    /// Deletes keys, ignoring their ordering values. The batches need only the record key columns. Keys that
    /// are not stored count as unchanged.
    ///
    /// If the future is dropped, the write ends [as in a crash](Table#dropped-futures).
    ///
    /// # Errors
    /// As [`Table::upsert`].
    pub async fn delete(&self, keys: &[RecordBatch]) -> Result<CommitReport> {
        self.write("delete", at_hand(keys), Intent::Delete, None).await
    }

    /// Upserts a stream of batches (see [`Table::upsert`]). Nothing is written before the stream has ended.
    /// If the stream returns an error, the upsert returns it, and nothing is written.
    ///
    /// If the future is dropped, the write ends [as in a crash](Table#dropped-futures).
    ///
    /// # Errors
    /// As [`Table::upsert`], and the errors of the stream.
    pub async fn upsert_stream(
        &self,
        rows: impl Stream<Item = Result<RecordBatch>> + Send,
    ) -> Result<CommitReport> {
        self.write("upsert", rows, Intent::Upsert, None).await
    }

    /// Inserts a stream of batches (see [`Table::insert`] and [`Table::upsert_stream`]).
    ///
    /// If the future is dropped, the write ends [as in a crash](Table#dropped-futures).
    ///
    /// # Errors
    /// As [`Table::upsert`], and the errors of the stream.
    pub async fn insert_stream(
        &self,
        rows: impl Stream<Item = Result<RecordBatch>> + Send,
    ) -> Result<CommitReport> {
        self.write("insert", rows, Intent::Insert, None).await
    }

    /// Bulk inserts a stream of batches (see [`Table::bulk_insert`] and [`Table::upsert_stream`]).
    ///
    /// If the future is dropped, the same holds as for [`Table::bulk_insert`].
    ///
    /// # Errors
    /// As [`Table::upsert`], and the errors of the stream.
    pub async fn bulk_insert_stream(
        &self,
        rows: impl Stream<Item = Result<RecordBatch>> + Send,
    ) -> Result<CommitReport> {
        self.write("bulk_insert", rows, Intent::BulkInsert, None).await
    }

    /// Deletes a stream of keys (see [`Table::delete`] and [`Table::upsert_stream`]).
    ///
    /// If the future is dropped, the write ends [as in a crash](Table#dropped-futures).
    ///
    /// # Errors
    /// As [`Table::upsert`], and the errors of the stream.
    pub async fn delete_stream(
        &self,
        keys: impl Stream<Item = Result<RecordBatch>> + Send,
    ) -> Result<CommitReport> {
        self.write("delete", keys, Intent::Delete, None).await
    }

    /// Writes rows, as an operation with this name.
    async fn write(
        &self,
        name: &'static str,
        rows: impl Stream<Item = Result<RecordBatch>> + Send,
        intent: Intent,
        overwrite: Option<Overwrite>,
    ) -> Result<CommitReport> {
        let operation = &Operation::change(self, name);
        let written = Box::pin(async {
            let mut report = CommitReport::default();
            operation.enter(Phase::Prepare);
            let rows = Box::pin(input::gather(self, rows, intent)).await?;
            operation.enter(Phase::Wait);
            let turn = Box::pin(self.turn()).await?;
            let input = Input { rows, deletes: None, beside: Beside::default(), intent, overwrite };
            let written = turn.run(Box::pin(self.write_in_turn(&turn, input, &mut report, operation))).await;
            turn.end().await;
            report.ended(written)?;
            Box::pin(self.sync_catalog(&mut report, operation)).await;
            report.time = operation.phases();
            Ok(report)
        });
        operation.run(written).await
    }

    /// Begins a commit whose rows arrive in several parts, in a view of the turn.
    pub(crate) fn parts<'a>(&'a self, turn: &'a Turn<'a>, view: Arc<View>) -> Parts<'a> {
        let collecting = Collecting::new(self.inner.options.clone());
        Parts { table: self, turn, view, collecting, tombstones: Tombstones::of(turn), schema: None, rows: 0 }
    }

    /// Writes rows with distinct keys, and deletes the marked ones, in one commit. `beside` is stored in the
    /// same commit.
    pub(crate) async fn change_in_turn(
        &self,
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
        Box::pin(self.write_in_turn(turn, input, report, operation)).await
    }

    async fn write_in_turn(
        &self,
        turn: &Turn<'_>,
        mut input: Input,
        report: &mut CommitReport,
        operation: &Operation,
    ) -> Result<()> {
        operation.enter(Phase::Repair);
        report.rolled_back.extend(Box::pin(self.repair(turn)).await?);
        let view = turn.view().await?;
        view.check_latest_whole()?;

        let (intent, overwrite) = (input.intent, input.overwrite.take());
        let beside = std::mem::take(&mut input.beside);
        let mut tally = Tally::default();
        let mut changes =
            Box::pin(self.changes_of(turn, &view, input, &mut tally, report, operation)).await?;
        let (operation_type, replaced) = match overwrite {
            Some(overwrite) => {
                (overwrite.operation_type, tally.settle(overwrite.target, &mut changes, report))
            }
            None => (OperationType::of(intent), Replaced::new()),
        };
        let made = Made { changes, operation_type, replaced, beside };
        Box::pin(self.commit_changes(turn, view, made, report, operation)).await
    }

    /// Writes the changes of the latest snapshot, and then cleans.
    async fn commit_changes(
        &self,
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
        Box::pin(record_key_encoding(self, turn, &view)).await?;
        Box::pin(self.drop_metadata_table(turn, &view)).await?;
        report.metadata_table_dropped = turn.dropped();
        let instant = self.mint(view.timeline.newest())?;
        operation.has_instant(instant);
        let schema = changes.schema.clone();
        let codec = Box::pin(codec::of_commit(self, &view, &changes.files)).await?;
        let packed = pack::pack(self, &view, changes, self.ids(instant));
        let avro = schema::continued(self.avro_of(&view), &schema, self.name())?;
        drop(view);
        let commit = Commit { table: self, turn, instant, operation_type, avro, codec, replaced, beside };
        Box::pin(commit.run(schema, packed, report, operation)).await?;
        operation.enter(Phase::Clean);
        Box::pin(self.clean_after_commit(turn, report)).await;
        Box::pin(self.archive_after_commit(turn, report)).await;
        Ok(())
    }

    /// Looks up all rows and decides on their changes, at once or chunk by chunk.
    async fn changes_of(
        &self,
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
                let mut incoming = Box::pin(Incoming::prepare(self, view, batches, intent)).await?;
                if deletes.is_some() {
                    incoming.deletes = deletes;
                }
                report.rows = incoming.total_rows;
                report.superseded = incoming.total_rows - incoming.len() as u64;
                let incoming = Arc::new(incoming);
                operation.enter(Phase::Find);
                let tagged = Box::pin(self.tag(view, &incoming, tally, &mut tombstones, report)).await?;
                return blocking(move || Ok(Changeset::in_memory(incoming, tagged))).await;
            }
            Gathered::Runs(runs) => runs,
        };
        report.rows = runs.rows;
        report.superseded = runs.rows;
        let (mut merger, schema) = Box::pin(runs.merge(self, view, intent)).await?;
        let mut collecting = Collecting::new(self.inner.options.clone());
        loop {
            operation.enter(Phase::Prepare);
            let (properties, columns) = (self.inner.properties.clone(), schema.clone());
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
            let tagged = Box::pin(self.tag(view, &incoming, tally, &mut tombstones, report)).await?;
            collecting = blocking(move || collecting.add(&incoming, tagged).map(|()| collecting)).await?;
        }
        blocking(move || collecting.finish(schema)).await
    }

    async fn tag(
        &self,
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
            Intent::Overwrite => overwrite::tag(self, view, incoming, tally, report).await,
            _ => tag::tag(self, view, incoming, tombstones, report).await,
        }
    }

    /// Finishes or undoes the remains of dead writers.
    pub(crate) async fn repair(&self, turn: &Turn<'_>) -> Result<Vec<crate::timeline::Instant>> {
        let rolled_back = Box::pin(rollback::roll_back_pending(self, turn)).await?;
        Box::pin(self.finish_pending_cleans(turn)).await?;
        Box::pin(self.drop_pending_savepoints(turn)).await?;
        Box::pin(rollback::sweep_markers(self, turn)).await?;
        Ok(rolled_back)
    }
}

/// The rows to write.
struct Input {
    rows: Gathered,
    /// Marks the rows that are deletes, if no column does. In that case all keys are distinct, because rows
    /// must not be counted twice.
    deletes: Option<BooleanArray>,
    beside: Beside,
    intent: Intent,
    /// For [`Intent::Overwrite`]: the part of the table to overwrite.
    overwrite: Option<Overwrite>,
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
    table: &'a Table,
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
        let Self { table, view, tombstones, .. } = self;
        operation.enter(Phase::Prepare);
        let mut incoming = Box::pin(Incoming::prepare(table, view, vec![rows], Intent::Upsert)).await?;
        let end = self.rows + incoming.len() as u64;
        incoming.places = Some(UInt64Array::from_iter_values(self.rows..end));
        incoming.deletes = Some(deletes);
        report.rows += incoming.total_rows;
        (self.rows, self.schema) = (end, Some(incoming.schema.clone()));
        let incoming = Arc::new(incoming);
        operation.enter(Phase::Find);
        let tagged = Box::pin(table.tag(view, &incoming, &mut Tally::default(), tombstones, report)).await?;
        let mut collecting =
            std::mem::replace(&mut self.collecting, Collecting::new(table.inner.options.clone()));
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
        let Self { table, turn, view, collecting, schema, .. } = self;
        let schema = match schema {
            Some(schema) => schema,
            None => table.schema_of(&view)?,
        };
        let changes = blocking(move || collecting.finish(schema)).await?;
        let (operation_type, replaced) = (OperationType::Upsert, Replaced::new());
        let made = Made { changes, operation_type, replaced, beside };
        table.commit_changes(turn, view, made, report, operation).await
    }
}

/// Content of a commit in addition to its rows.
#[derive(Default)]
pub(crate) struct Beside {
    /// The table's [hidden rows](hidden) after the commit, if they have changed.
    pub(crate) hidden: Option<RecordBatch>,
    /// The files that the commit takes in.
    pub(crate) taken: Option<Taken>,
}

impl Beside {
    /// Returns `true` if a commit without rows is not necessary.
    pub(crate) fn is_empty(&self) -> bool {
        self.hidden.is_none() && self.taken.is_none()
    }
}

/// Runs CPU-bound work on a blocking thread. The work adds to a report.
async fn counted<T: Send + 'static>(
    report: &mut CommitReport,
    work: impl FnOnce(&mut CommitReport) -> Result<T> + Send + 'static,
) -> Result<T> {
    let mut counts = report.clone();
    let done = blocking(move || work(&mut counts).map(|done| (done, counts)));
    let (done, counts) = done.await?;
    *report = counts;
    Ok(done)
}

fn at_hand(batches: &[RecordBatch]) -> impl Stream<Item = Result<RecordBatch>> + Send {
    stream::iter(batches.iter().cloned().map(Ok))
}
