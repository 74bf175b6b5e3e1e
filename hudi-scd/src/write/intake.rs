//! Taking files in: each file at most once, however often it is delivered.

use arrow::array::RecordBatch;
use futures::{Stream, TryStreamExt};

use super::{
    Beside, CommitReport, Input, Watch,
    incoming::Intent,
    input::{self, Gathered},
    ledger::{self, SourceFile},
};
use crate::{
    Result,
    table::{Table, Turn},
};

/// The result of taking files in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Intake<R> {
    /// The files that the write took in.
    pub new: Vec<SourceFile>,
    /// The files that an earlier commit took in, and repetitions of a file. They were not read.
    pub known: Vec<SourceFile>,
    /// The report of the write.
    pub report: R,
}

impl Table {
    /// Upserts the rows of files, except those of files that an earlier commit took in.
    ///
    /// `rows` gets the new files, in their order, and returns their rows. It runs while this writer holds the
    /// table's lock, so two writers never take in the same file. The commit records the new files, even if it
    /// changes no row. Files without any row make no commit and are not recorded.
    ///
    /// Rolling the commit back, or restoring the table to a time before it, makes its files new again.
    ///
    /// # Errors
    /// As [`Table::upsert_stream`].
    pub async fn take_in<S>(
        &self,
        files: &[SourceFile],
        rows: impl FnOnce(Vec<SourceFile>) -> S + Send,
    ) -> Result<Intake<CommitReport>>
    where
        S: Stream<Item = Result<RecordBatch>> + Send,
    {
        let mut watch = Watch::start();
        let mut intake = Intake::<CommitReport>::default();
        let turn = self.turn().await?;
        intake.report.time.wait = watch.lap();
        let taken = turn.run(self.take_in_turn(&turn, files, rows, &mut intake, &mut watch)).await;
        turn.end().await;
        intake.report.ended(taken)?;
        self.sync_catalog(&mut intake.report).await;
        Ok(intake)
    }

    /// Returns the files that no commit has taken in, without the table's lock: another writer may take them in
    /// at any time.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage); [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt).
    pub async fn new_files(&self, files: &[SourceFile]) -> Result<Vec<SourceFile>> {
        let view = self.view().await?;
        Ok(ledger::read(self, None, &view).await?.divide(files).0)
    }

    async fn take_in_turn<S>(
        &self,
        turn: &Turn<'_>,
        files: &[SourceFile],
        rows: impl FnOnce(Vec<SourceFile>) -> S + Send,
        intake: &mut Intake<CommitReport>,
        watch: &mut Watch,
    ) -> Result<()>
    where
        S: Stream<Item = Result<RecordBatch>> + Send,
    {
        let report = &mut intake.report;
        report.rolled_back = self.repair(turn).await?;
        let view = turn.view().await?;
        let ledger = ledger::read(self, Some(turn), &view).await?;
        (intake.new, intake.known) = ledger.divide(files);
        report.time.repair = watch.lap();
        if intake.new.is_empty() {
            return Ok(());
        }
        let rows = rows(intake.new.clone()).try_filter(|batch| std::future::ready(batch.num_rows() > 0));
        let rows = input::gather(self, rows, Intent::Upsert).await?;
        report.time.prepare = watch.lap();
        if matches!(&rows, Gathered::Memory(batches) if batches.is_empty()) {
            return Ok(());
        }
        let beside = Beside { hidden: None, taken: Some(ledger.take(intake.new.clone())) };
        let input = Input { rows, deletes: None, beside, intent: Intent::Upsert, overwrite: None };
        self.write_in_turn(turn, input, report, watch).await
    }
}
