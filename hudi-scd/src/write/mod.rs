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
mod changeset;
mod commit;
mod incoming;
mod input;
mod merge;
mod pack;
mod patch;
mod report;
pub(crate) mod rollback;
mod rows;
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
    commit::{Commit, Operation},
    incoming::{Incoming, Intent},
    input::Gathered,
};
pub use self::{
    report::{CommitReport, Phases},
    undo::RollbackReport,
};
use crate::{
    Result,
    concurrent::blocking,
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
    /// - A row whose `_hoodie_is_deleted` is true deletes its key, unless it is late.
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
    /// if the commit did not come about.
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
        let mut watch = Watch::start();
        let mut report = CommitReport::default();
        let rows = input::gather(self, rows, intent).await?;
        report.time.prepare = watch.lap();
        let turn = self.turn().await?;
        report.time.wait = watch.lap();
        let input = Input { rows, deletes: None, intent };
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
        let input = Input { rows, deletes: Some(deletes), intent: Intent::Upsert };
        self.write_in_turn(turn, input, report, watch).await
    }

    async fn write_in_turn(
        &self,
        turn: &Turn<'_>,
        input: Input,
        report: &mut CommitReport,
        watch: &mut Watch,
    ) -> Result<()> {
        report.rolled_back.extend(self.repair().await?);
        let view = self.view().await?;
        view.check_latest_whole()?;
        report.time.repair = watch.lap();

        let intent = input.intent;
        let changes = self.changes_of(&view, input, report, watch).await?;
        if changes.is_empty() {
            return Ok(());
        }
        let instant = self.mint(view.timeline.newest())?;
        let schema = changes.schema.clone();
        let packed = pack::pack(self, &view, changes, self.ids(instant));
        let commit = Commit { table: self, turn, instant, operation: Operation::of(intent) };
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
        report: &mut CommitReport,
        watch: &mut Watch,
    ) -> Result<Changeset> {
        let Input { rows, deletes, intent } = input;
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
                let tagged = tag::tag(self, view, &incoming, report).await?;
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
            let tagged = tag::tag(self, view, &incoming, report).await?;
            collecting = blocking(move || collecting.add(&incoming, tagged).map(|()| collecting)).await?;
            report.time.find += watch.lap();
        }
        Ok(collecting.finish(schema))
    }

    /// Finishes or undoes what writers that died have left.
    pub(crate) async fn repair(&self) -> Result<Vec<crate::timeline::Instant>> {
        let rolled_back = rollback::roll_back_pending(self).await?;
        self.finish_pending_cleans().await?;
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
