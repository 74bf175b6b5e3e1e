//! The way of a batch into the table:
//!
//! ```text
//! batches -> input    (all in memory, or sorted runs on the local disk)
//!         -> incoming (keys, partitions, newest of each key)
//!         -> tag      (where is the key stored, and which row is newer)
//!         -> pack     (which file groups take the new rows)
//!         -> merge    (the old file's rows and the changes, streamed into a new base file)
//!         -> commit   (requested, inflight, markers, files, completed)
//! ```
//!
//! Input that is larger than the [memory budget](crate::TableOptions::with_memory_budget) goes this way in chunks up to
//! `pack`; what is to be written of it waits on the local disk.
//!
//! Before all that, what a dead writer left is [rolled back](rollback); after it, the table is cleaned.

mod base_file;
mod bulk;
mod changeset;
mod collision;
mod commit;
pub(crate) mod heartbeat;
mod incoming;
mod input;
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

use std::time::Duration;

use arrow::array::{BooleanArray, RecordBatch};
use futures::{Stream, stream};
use tokio::time::Instant as Stopwatch;

use self::{
    changeset::{Changeset, Collecting},
    commit::{Commit, Operation, Replaced},
    incoming::{Incoming, Intent},
    input::Gathered,
    overwrite::{Overwrite, Tally},
};
pub use self::{
    report::{CommitReport, Phases},
    undo::RollbackReport,
};
use crate::{
    Result,
    concurrent::blocking,
    schema,
    table::{Table, Turn},
    view::View,
};

impl Table {
    /// Writes rows: new keys are added, known keys get the newer of the stored and the incoming row.
    ///
    /// - The ordering column decides which row is newer, and a tie goes to the incoming one; a late row changes
    ///   nothing, not even if its key was deleted in the meantime, as long as that deletion is inside the retained window.
    /// - Of several rows of a key, the one with the highest ordering value counts, of equal ones the last.
    /// - A key lives in one place: if its partition changed, the row moves.
    /// - A row whose `_hoodie_is_deleted` is true deletes its key, unless it is late. Without an ordering value it deletes
    ///   whatever is stored and came before it.
    /// - New nullable columns and wider types are taken into the table's schema.
    ///
    /// If nothing changes, there is no commit, and the report's instant is `None`.
    ///
    /// If the future is dropped, the write is as if the process had died: nothing of it is visible, and the next write
    /// removes what it left.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the rows do not fit the table, before anything is
    /// written; [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) or [`ErrorKind::Storage`](crate::ErrorKind::Storage)
    /// if it was not committed; [`ErrorKind::Unknown`](crate::ErrorKind::Unknown) if the storage did not answer whether it was.
    pub async fn upsert(&self, batches: &[RecordBatch]) -> Result<CommitReport> {
        self.write(at_hand(batches), Intent::Upsert).await
    }

    /// Writes the rows whose key is new, and leaves stored rows as they are (they count as unchanged).
    ///
    /// # Errors
    /// As [`Table::upsert`].
    pub async fn insert(&self, batches: &[RecordBatch]) -> Result<CommitReport> {
        self.write(at_hand(batches), Intent::Insert).await
    }

    /// Adds rows whose keys the caller knows to be new: no key is looked up, and the rows go, sorted by partition and key,
    /// into file groups of their own. For the first load of a table; a key that is stored already would be stored twice,
    /// which [`Table::validate`] finds.
    ///
    /// Of several rows of a key in the input one counts, as for [`Table::upsert`]: a key lives in one place. (Hudi's
    /// own bulk insert keeps them all, unless `hoodie.combine.before.insert` is set.) A row whose `_hoodie_is_deleted`
    /// is true is left out.
    ///
    /// # Errors
    /// As [`Table::upsert`]. After an [`ErrorKind::Unknown`](crate::ErrorKind::Unknown) ask [`Table::settle`] first: done twice,
    /// a bulk insert stores its rows twice.
    pub async fn bulk_insert(&self, batches: &[RecordBatch]) -> Result<CommitReport> {
        self.write(at_hand(batches), Intent::BulkInsert).await
    }

    /// Deletes keys, whatever their ordering value: the batches need the record key columns only. Keys that are not
    /// stored count as unchanged.
    ///
    /// # Errors
    /// As [`Table::upsert`].
    pub async fn delete(&self, keys: &[RecordBatch]) -> Result<CommitReport> {
        self.write(at_hand(keys), Intent::Delete).await
    }

    /// [`Table::upsert`] of a stream of batches. Nothing is written before the stream has ended; if it ends with an error,
    /// that is the result, and nothing was written.
    ///
    /// # Errors
    /// As [`Table::upsert`], and what the stream says.
    pub async fn upsert_stream(
        &self,
        rows: impl Stream<Item = Result<RecordBatch>> + Send,
    ) -> Result<CommitReport> {
        self.write(rows, Intent::Upsert).await
    }

    /// [`Table::insert`] of a stream of batches; see [`Table::upsert_stream`].
    ///
    /// # Errors
    /// As [`Table::upsert`], and what the stream says.
    pub async fn insert_stream(
        &self,
        rows: impl Stream<Item = Result<RecordBatch>> + Send,
    ) -> Result<CommitReport> {
        self.write(rows, Intent::Insert).await
    }

    /// [`Table::bulk_insert`] of a stream of batches; see [`Table::upsert_stream`].
    ///
    /// # Errors
    /// As [`Table::upsert`], and what the stream says.
    pub async fn bulk_insert_stream(
        &self,
        rows: impl Stream<Item = Result<RecordBatch>> + Send,
    ) -> Result<CommitReport> {
        self.write(rows, Intent::BulkInsert).await
    }

    /// [`Table::delete`] of a stream of batches; see [`Table::upsert_stream`].
    ///
    /// # Errors
    /// As [`Table::upsert`], and what the stream says.
    pub async fn delete_stream(
        &self,
        keys: impl Stream<Item = Result<RecordBatch>> + Send,
    ) -> Result<CommitReport> {
        self.write(keys, Intent::Delete).await
    }

    async fn write(
        &self,
        rows: impl Stream<Item = Result<RecordBatch>> + Send,
        intent: Intent,
    ) -> Result<CommitReport> {
        self.write_as(rows, intent, None).await
    }

    async fn write_as(
        &self,
        rows: impl Stream<Item = Result<RecordBatch>> + Send,
        intent: Intent,
        overwrite: Option<Overwrite>,
    ) -> Result<CommitReport> {
        let mut watch = Watch::start();
        let mut report = CommitReport::default();
        let rows = input::gather(self, rows, intent).await?;
        report.time.prepare = watch.lap();
        let turn = self.turn().await?;
        report.time.wait = watch.lap();
        let input = Input { rows, deletes: None, intent, overwrite };
        let written = self.write_in_turn(&turn, input, &mut report, &mut watch).await;
        turn.end().await;
        written.map(|()| report)
    }

    /// Writes rows whose keys differ, and deletes those of them that are marked, in one commit.
    pub(crate) async fn change_in_turn(
        &self,
        turn: &Turn<'_>,
        rows: RecordBatch,
        deletes: BooleanArray,
        report: &mut CommitReport,
        watch: &mut Watch,
    ) -> Result<()> {
        let rows = Gathered::Memory(vec![rows]);
        let input = Input { rows, deletes: Some(deletes), intent: Intent::Upsert, overwrite: None };
        self.write_in_turn(turn, input, report, watch).await
    }

    async fn write_in_turn(
        &self,
        turn: &Turn<'_>,
        mut input: Input,
        report: &mut CommitReport,
        watch: &mut Watch,
    ) -> Result<()> {
        report.rolled_back.extend(self.repair(turn).await?);
        let view = self.view().await?;
        view.check_latest_whole()?;
        report.time.repair = watch.lap();

        let (intent, overwrite) = (input.intent, input.overwrite.take());
        let mut tally = Tally::default();
        let mut changes = self.changes_of(&view, input, &mut tally, report, watch).await?;
        let (operation, replaced) = match overwrite {
            Some(overwrite) => (overwrite.operation, tally.settle(overwrite.target, &mut changes, report)),
            None => (Operation::of(intent), Replaced::new()),
        };
        if changes.is_empty() && replaced.is_empty() {
            return Ok(());
        }
        if !changes.new_rows.is_empty() {
            view.check_no_buckets()?;
        }
        self.drop_metadata_table(turn, &view).await?;
        report.metadata_table_dropped = turn.dropped();
        let instant = self.mint(view.timeline.newest())?;
        let schema = changes.schema.clone();
        let packed = pack::pack(self, &view, changes, self.ids(instant));
        let avro = schema::continued(self.avro_of(&view), &schema, self.name())?;
        let commit = Commit { table: self, turn, instant, operation, avro, replaced };
        commit.run(schema, packed, report, watch).await?;
        self.clean_after_commit(turn, report).await;
        self.archive_after_commit(turn, report).await;
        report.time.clean = watch.lap();
        Ok(())
    }

    /// Looks all rows up and decides what becomes of them, at once or chunk by chunk.
    async fn changes_of(
        &self,
        view: &View,
        input: Input,
        tally: &mut Tally,
        report: &mut CommitReport,
        watch: &mut Watch,
    ) -> Result<Changeset> {
        let Input { rows, deletes, intent, .. } = input;
        let runs = match rows {
            Gathered::Memory(batches) => {
                let mut incoming = Incoming::prepare(self, view, &batches, intent).await?;
                drop(batches);
                if deletes.is_some() {
                    incoming.deletes = deletes;
                }
                report.rows = incoming.total_rows;
                report.superseded = incoming.total_rows - incoming.len() as u64;
                report.time.prepare += watch.lap();
                let tagged = self.tag(view, &incoming, tally, report).await?;
                report.time.find = watch.lap();
                return Ok(Changeset::in_memory(incoming, tagged));
            }
            Gathered::Runs(runs) => runs,
        };
        report.rows = runs.rows;
        report.superseded = runs.rows;
        let (mut merger, schema) = runs.merge(self, view, intent)?;
        let mut collecting = Collecting::new(self.inner.options.clone());
        loop {
            let (chunk, rest) = blocking(move || merger.next_chunk().map(|chunk| (chunk, merger))).await?;
            merger = rest;
            let Some((rows, keys)) = chunk else { break };
            let incoming = Incoming::distinct(self, intent, schema.clone(), rows, keys)?;
            report.superseded -= incoming.len() as u64;
            report.time.prepare += watch.lap();
            let tagged = self.tag(view, &incoming, tally, report).await?;
            collecting = blocking(move || collecting.add(&incoming, tagged).map(|()| collecting)).await?;
            report.time.find += watch.lap();
        }
        Ok(collecting.finish(schema))
    }

    async fn tag(
        &self,
        view: &View,
        incoming: &Incoming,
        tally: &mut Tally,
        report: &mut CommitReport,
    ) -> Result<tag::Tagged> {
        match incoming.intent {
            Intent::BulkInsert => Ok(bulk::tag(incoming, report)),
            Intent::Overwrite => overwrite::tag(self, view, incoming, tally, report).await,
            _ => tag::tag(self, view, incoming, report).await,
        }
    }

    /// Finishes or undoes what writers that died have left.
    pub(crate) async fn repair(&self, turn: &Turn<'_>) -> Result<Vec<crate::timeline::Instant>> {
        let rolled_back = rollback::roll_back_pending(self, turn).await?;
        self.finish_pending_cleans(turn).await?;
        self.drop_pending_savepoints().await?;
        rollback::sweep_markers(self).await?;
        Ok(rolled_back)
    }
}

/// What is to be written.
struct Input {
    rows: Gathered,
    /// Which rows are deletes, if no column says so. The keys of all rows differ then, as rows are not counted twice.
    deletes: Option<BooleanArray>,
    intent: Intent,
    /// For [`Intent::Overwrite`]: what of the table.
    overwrite: Option<Overwrite>,
}

fn at_hand(batches: &[RecordBatch]) -> impl Stream<Item = Result<RecordBatch>> + Send {
    stream::iter(batches.iter().cloned().map(Ok))
}

/// Takes the time of one phase after the other.
pub(crate) struct Watch(Stopwatch);

impl Watch {
    pub(crate) fn start() -> Self {
        Self(Stopwatch::now())
    }

    pub(crate) fn lap(&mut self) -> Duration {
        let now = Stopwatch::now();
        now.duration_since(std::mem::replace(&mut self.0, now))
    }
}
