//! Takes in files, each at most once, however often it is delivered.

use arrow::array::RecordBatch;
use futures::{Stream, TryStreamExt};

use super::{
    Beside, CommitReport, Input,
    incoming::Intent,
    input::{self, Gathered},
    ledger::{self, SourceFile},
};
use crate::{
    Result,
    operation::{Operation, Phase},
    table::{Table, Turn},
};

/// The result of taking files in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Intake<R> {
    /// The files that the write took in.
    pub new: Vec<SourceFile>,
    /// The files that an earlier commit took in, and repeated files. They were not read.
    pub known: Vec<SourceFile>,
    /// The report of the write.
    pub report: R,
}

impl Table {
    /// Upserts the rows of files, except the rows of files that an earlier commit took in.
    ///
    /// `rows` receives the new files, in order, and returns their rows. It runs while this writer holds the
    /// table's lock, so two writers never take in the same file. The commit records the new files, even if it
    /// changes no row. Files without any rows are not recorded and do not cause a commit.
    ///
    /// If the commit is rolled back, or the table is restored to a time before it, its files count as new
    /// again.
    ///
    /// If the future is dropped, the write ends [as in a crash](Table#dropped-futures). It can be repeated,
    /// because the commit records its files.
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
        let operation = &Operation::change(self, "take_in");
        let taken = Box::pin(async {
            let mut intake = Intake::<CommitReport>::default();
            operation.enter(Phase::Wait);
            let turn = Box::pin(self.turn()).await?;
            let taken =
                turn.run(Box::pin(self.take_in_turn(&turn, files, rows, &mut intake, operation))).await;
            turn.end().await;
            intake.report.ended(taken)?;
            Box::pin(self.sync_catalog(&mut intake.report, operation)).await;
            intake.report.time = operation.phases();
            Ok(intake)
        });
        operation.run(taken).await
    }

    /// Returns the files that no commit has taken in. Does not acquire the table's lock, so another writer
    /// may take them in at any time.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage); [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt).
    pub async fn new_files(&self, files: &[SourceFile]) -> Result<Vec<SourceFile>> {
        let view = self.view().await?;
        Ok(Box::pin(ledger::read(self, None, &view)).await?.divide(files).0)
    }

    async fn take_in_turn<S>(
        &self,
        turn: &Turn<'_>,
        files: &[SourceFile],
        rows: impl FnOnce(Vec<SourceFile>) -> S + Send,
        intake: &mut Intake<CommitReport>,
        operation: &Operation,
    ) -> Result<()>
    where
        S: Stream<Item = Result<RecordBatch>> + Send,
    {
        operation.enter(Phase::Repair);
        let report = &mut intake.report;
        report.rolled_back = Box::pin(self.repair(turn)).await?;
        let view = turn.view().await?;
        let ledger = Box::pin(ledger::read(self, Some(turn), &view)).await?;
        (intake.new, intake.known) = ledger.divide(files);
        if intake.new.is_empty() {
            return Ok(());
        }
        operation.enter(Phase::Prepare);
        let rows = rows(intake.new.clone()).try_filter(|batch| std::future::ready(batch.num_rows() > 0));
        let rows = Box::pin(input::gather(self, rows, Intent::Upsert)).await?;
        if matches!(&rows, Gathered::Memory(batches) if batches.is_empty()) {
            return Ok(());
        }
        let beside = Beside { hidden: None, taken: Some(ledger.take(intake.new.clone())) };
        let input = Input { rows, deletes: None, beside, intent: Intent::Upsert, overwrite: None };
        Box::pin(self.write_in_turn(turn, input, report, operation)).await
    }
}
