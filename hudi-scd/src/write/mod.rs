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
//! Input that is larger than the [memory budget](crate::TableOptions::with_memory_budget) passes in chunks up
//! to `pack`; rows to write are spilled to the local disk.
//!
//! Before all that, the remains of dead writers are [rolled back](rollback); afterwards the table is cleaned.

mod base_file;
mod bulk;
mod changeset;
mod codec;
mod collision;
mod commit;
pub(crate) mod heartbeat;
pub(crate) mod hidden;
mod incoming;
mod input;
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

use std::{sync::Arc, time::Duration};

use arrow::array::{BooleanArray, RecordBatch};
use futures::{Stream, stream};
use tokio::time::Instant as Stopwatch;

use self::{
    changeset::{Changeset, Collecting},
    commit::{Commit, Operation, Replaced},
    incoming::{Incoming, Intent},
    input::Gathered,
    ledger::Taken,
    overwrite::{Overwrite, Tally},
    tombstones::Tombstones,
};
pub use self::{
    intake::Intake,
    ledger::SourceFile,
    report::{CommitReport, Phases},
    undo::RollbackReport,
};
use crate::{
    Result,
    concurrent::blocking,
    index::record_key_encoding,
    schema,
    table::{Table, Turn},
    view::View,
};

impl Table {
    /// Writes rows: new keys are added, existing keys get the newer of the stored and the incoming row.
    ///
    /// - The ordering column decides which row is newer, and a tie goes to the incoming one. A late row
    ///   changes nothing, even if its key was deleted in the meantime, as long as that deletion is inside the
    ///   retained window.
    /// - Of several rows of a key, the one with the highest ordering value counts, and of equal ones the
    ///   last.
    /// - A key is stored once: if its partition changed, the row moves.
    /// - A row whose `_hoodie_is_deleted` is true deletes its key, unless it is late. Without an ordering
    ///   value it deletes the stored row and earlier rows of the input.
    /// - New nullable columns and wider types are added to the table's schema.
    ///
    /// If nothing changes, there is no commit, and the report's instant is `None`.
    ///
    /// If the future is dropped, the write behaves as if the process had died: nothing of it is visible, and
    /// the next write removes its files. A change that was in flight may still take effect, so the lock of a
    /// remote table expires with its lease. [`Cancellation`](crate::Cancellation) ends a write and releases
    /// the lock.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the rows are incompatible with the
    /// table, before anything is written; [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) or
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage) if it was not committed;
    /// [`ErrorKind::Unknown`](crate::ErrorKind::Unknown) if the storage did not report the outcome.
    pub async fn upsert(&self, batches: &[RecordBatch]) -> Result<CommitReport> {
        self.write(at_hand(batches), Intent::Upsert).await
    }

    /// Writes the rows whose key is new, and leaves stored rows unchanged (they count as unchanged).
    ///
    /// # Errors
    /// As [`Table::upsert`].
    pub async fn insert(&self, batches: &[RecordBatch]) -> Result<CommitReport> {
        self.write(at_hand(batches), Intent::Insert).await
    }

    /// Adds rows whose keys the caller knows to be new: no key is looked up, and the rows are written, sorted
    /// by partition and key, to new file groups. It is meant for the first load of a table. A key that is
    /// already stored would be stored twice, which [`Table::validate`] finds.
    ///
    /// If the input has several rows of a key, one counts, as for [`Table::upsert`]. (Hudi's own bulk insert
    /// keeps them all, unless `hoodie.combine.before.insert` is set.) A row whose `_hoodie_is_deleted` is
    /// true is dropped.
    ///
    /// # Errors
    /// As [`Table::upsert`]. After an [`ErrorKind::Unknown`](crate::ErrorKind::Unknown) call
    /// [`Table::settle`] first: a repeated bulk insert stores its rows twice.
    pub async fn bulk_insert(&self, batches: &[RecordBatch]) -> Result<CommitReport> {
        self.write(at_hand(batches), Intent::BulkInsert).await
    }

    /// Deletes keys, ignoring their ordering value: the batches need only the record key columns. Keys that
    /// are not stored count as unchanged.
    ///
    /// # Errors
    /// As [`Table::upsert`].
    pub async fn delete(&self, keys: &[RecordBatch]) -> Result<CommitReport> {
        self.write(at_hand(keys), Intent::Delete).await
    }

    /// Upserts a stream of batches (see [`Table::upsert`]). Nothing is written before the stream has ended;
    /// if it ends with an error, that is the result, and nothing was written.
    ///
    /// # Errors
    /// As [`Table::upsert`], and the errors of the stream.
    pub async fn upsert_stream(
        &self,
        rows: impl Stream<Item = Result<RecordBatch>> + Send,
    ) -> Result<CommitReport> {
        self.write(rows, Intent::Upsert).await
    }

    /// Inserts a stream of batches (see [`Table::insert`] and [`Table::upsert_stream`]).
    ///
    /// # Errors
    /// As [`Table::upsert`], and the errors of the stream.
    pub async fn insert_stream(
        &self,
        rows: impl Stream<Item = Result<RecordBatch>> + Send,
    ) -> Result<CommitReport> {
        self.write(rows, Intent::Insert).await
    }

    /// Bulk inserts a stream of batches (see [`Table::bulk_insert`] and [`Table::upsert_stream`]).
    ///
    /// # Errors
    /// As [`Table::upsert`], and the errors of the stream.
    pub async fn bulk_insert_stream(
        &self,
        rows: impl Stream<Item = Result<RecordBatch>> + Send,
    ) -> Result<CommitReport> {
        self.write(rows, Intent::BulkInsert).await
    }

    /// Deletes a stream of keys (see [`Table::delete`] and [`Table::upsert_stream`]).
    ///
    /// # Errors
    /// As [`Table::upsert`], and the errors of the stream.
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
        let input = Input { rows, deletes: None, beside: Beside::default(), intent, overwrite };
        let written = turn.run(self.write_in_turn(&turn, input, &mut report, &mut watch)).await;
        turn.end().await;
        report.ended(written)?;
        self.sync_catalog(&mut report).await;
        Ok(report)
    }

    /// Writes rows with distinct keys, and deletes the marked ones, in one commit. `beside` is stored with
    /// them.
    pub(crate) async fn change_in_turn(
        &self,
        turn: &Turn<'_>,
        rows: RecordBatch,
        deletes: BooleanArray,
        beside: Beside,
        report: &mut CommitReport,
        watch: &mut Watch,
    ) -> Result<()> {
        let rows = Gathered::Memory(vec![rows]);
        let deletes = Some(deletes);
        let input = Input { rows, deletes, beside, intent: Intent::Upsert, overwrite: None };
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
        let view = turn.view().await?;
        view.check_latest_whole()?;
        report.time.repair = watch.lap();

        let (intent, overwrite) = (input.intent, input.overwrite.take());
        let beside = std::mem::take(&mut input.beside);
        let mut tally = Tally::default();
        let mut changes = self.changes_of(turn, &view, input, &mut tally, report, watch).await?;
        let (operation, replaced) = match overwrite {
            Some(overwrite) => (overwrite.operation, tally.settle(overwrite.target, &mut changes, report)),
            None => (Operation::of(intent), Replaced::new()),
        };
        if changes.is_empty() && replaced.is_empty() && beside.is_empty() {
            return Ok(());
        }
        if !changes.new_rows.is_empty() {
            view.check_no_buckets()?;
        }
        record_key_encoding(self, turn, &view).await?;
        self.drop_metadata_table(turn, &view).await?;
        report.metadata_table_dropped = turn.dropped();
        let instant = self.mint(view.timeline.newest())?;
        let schema = changes.schema.clone();
        let codec = codec::of_commit(self, &view, &changes.files).await?;
        let packed = pack::pack(self, &view, changes, self.ids(instant));
        let avro = schema::continued(self.avro_of(&view), &schema, self.name())?;
        drop(view);
        let commit = Commit { table: self, turn, instant, operation, avro, codec, replaced, beside };
        commit.run(schema, packed, report, watch).await?;
        self.clean_after_commit(turn, report).await;
        self.archive_after_commit(turn, report).await;
        report.time.clean = watch.lap();
        Ok(())
    }

    /// Looks up all rows and decides their changes, at once or chunk by chunk.
    async fn changes_of(
        &self,
        turn: &Turn<'_>,
        view: &View,
        input: Input,
        tally: &mut Tally,
        report: &mut CommitReport,
        watch: &mut Watch,
    ) -> Result<Changeset> {
        let Input { rows, deletes, intent, .. } = input;
        let mut tombstones = Tombstones::of(turn);
        let runs = match rows {
            Gathered::Memory(batches) => {
                let mut incoming = Incoming::prepare(self, view, batches, intent).await?;
                if deletes.is_some() {
                    incoming.deletes = deletes;
                }
                report.rows = incoming.total_rows;
                report.superseded = incoming.total_rows - incoming.len() as u64;
                report.time.prepare += watch.lap();
                let incoming = Arc::new(incoming);
                let tagged = self.tag(view, &incoming, tally, &mut tombstones, report).await?;
                report.time.find = watch.lap();
                return blocking(move || Ok(Changeset::in_memory(incoming, tagged))).await;
            }
            Gathered::Runs(runs) => runs,
        };
        report.rows = runs.rows;
        report.superseded = runs.rows;
        let (mut merger, schema) = runs.merge(self, view, intent).await?;
        let mut collecting = Collecting::new(self.inner.options.clone());
        loop {
            let (properties, columns) = (self.inner.properties.clone(), schema.clone());
            let next = blocking(move || {
                let Some((rows, keys)) = merger.next_chunk()? else { return Ok(None) };
                Ok(Some((Incoming::distinct(&properties, intent, columns, rows, keys)?, merger)))
            });
            let Some((incoming, rest)) = next.await? else { break };
            merger = rest;
            let incoming = Arc::new(incoming);
            report.superseded -= incoming.len() as u64;
            report.time.prepare += watch.lap();
            let tagged = self.tag(view, &incoming, tally, &mut tombstones, report).await?;
            collecting = blocking(move || collecting.add(&incoming, tagged).map(|()| collecting)).await?;
            report.time.find += watch.lap();
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
        let rolled_back = rollback::roll_back_pending(self, turn).await?;
        self.finish_pending_cleans(turn).await?;
        self.drop_pending_savepoints(turn).await?;
        rollback::sweep_markers(self, turn).await?;
        Ok(rolled_back)
    }
}

/// The rows to write.
struct Input {
    rows: Gathered,
    /// The rows that are deletes, if no column marks them. All keys are distinct then, because rows are not
    /// counted twice.
    deletes: Option<BooleanArray>,
    beside: Beside,
    intent: Intent,
    /// For [`Intent::Overwrite`]: the part of the table to overwrite.
    overwrite: Option<Overwrite>,
}

/// Content of a commit beside its rows.
#[derive(Default)]
pub(crate) struct Beside {
    /// The table's [hidden rows](hidden) after the commit, if they change.
    pub(crate) hidden: Option<RecordBatch>,
    /// The files that the commit takes in.
    pub(crate) taken: Option<Taken>,
}

impl Beside {
    /// Returns `true` if there is no reason for a commit without rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.hidden.is_none() && self.taken.is_none()
    }
}

/// Runs CPU-bound work that adds to a report on a blocking thread.
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

/// A stopwatch for successive phases.
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
