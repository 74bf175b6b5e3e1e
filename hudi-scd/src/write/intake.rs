//! Takes in files, each at most once, however often it is delivered.

use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::{Stream, TryStreamExt};

use super::{
    batch::{Input, write_in_turn},
    input::{self, Gathered, incoming::Intent},
    report::CommitReport,
    upkeep::sync_catalog,
};
use crate::{
    Result, SourceFile,
    beside::{Beside, ledger},
    context::{Context, Turn},
    operation::{Operation, Phase},
    recover::repair,
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

/// Implements [`Table::take_in`](crate::Table::take_in).
pub(crate) async fn take_in<S>(
    context: &Arc<Context>,
    files: &[SourceFile],
    rows: impl FnOnce(Vec<SourceFile>) -> S + Send,
) -> Result<Intake<CommitReport>>
where
    S: Stream<Item = Result<RecordBatch>> + Send,
{
    let operation = &context.begin_change("take_in");
    let taken = Box::pin(async {
        let mut intake = Intake::<CommitReport>::default();
        operation.enter(Phase::Wait);
        let turn = Box::pin(context.turn()).await?;
        let taken =
            turn.run(Box::pin(take_in_turn(context, &turn, files, rows, &mut intake, operation))).await;
        turn.end().await;
        intake.report.ended(taken)?;
        Box::pin(sync_catalog(context, &mut intake.report, operation)).await;
        intake.report.time = operation.phases();
        Ok(intake)
    });
    operation.run(taken).await
}

/// Implements [`Table::new_files`](crate::Table::new_files).
pub(crate) async fn new_files(context: &Context, files: &[SourceFile]) -> Result<Vec<SourceFile>> {
    let view = context.view().await?;
    Ok(Box::pin(ledger::read(context, None, &view)).await?.divide(files).0)
}

async fn take_in_turn<S>(
    context: &Context,
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
    report.rolled_back = Box::pin(repair(context, turn)).await?;
    let view = turn.view().await?;
    let ledger = Box::pin(ledger::read(context, Some(turn), &view)).await?;
    (intake.new, intake.known) = ledger.divide(files);
    if intake.new.is_empty() {
        return Ok(());
    }
    operation.enter(Phase::Prepare);
    let rows = rows(intake.new.clone()).try_filter(|batch| std::future::ready(batch.num_rows() > 0));
    let rows = Box::pin(input::gather(context, rows, Intent::Upsert)).await?;
    if matches!(&rows, Gathered::Memory(batches) if batches.is_empty()) {
        return Ok(());
    }
    let beside = Beside { hidden: None, taken: Some(ledger.take(intake.new.clone())) };
    let input = Input { rows, deletes: None, beside, intent: Intent::Upsert, overwrite: None };
    Box::pin(write_in_turn(context, turn, input, report, operation)).await
}
