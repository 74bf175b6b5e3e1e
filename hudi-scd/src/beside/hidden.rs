//! Hidden rows: rows of a table that only this crate reads.
//!
//! A type 2 history contains more than its states: a delete that closes nothing affects changes that arrive
//! late, but it is not a state. If it were a row of the table, other engines would count it. A commit that
//! changes the hidden rows writes all of them to the Parquet file `.hoodie/.aux/tombstones/{ts}.hidden`
//! before it completes. The newest file of a completed commit contains the current hidden rows. Older files
//! are kept as long as a rollback, or a restore to a savepoint, can make them the newest again.

use arrow::{array::RecordBatch, compute::concat_batches};
use object_store::path::Path;
use parquet::arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder};

use super::{discard, divide};
use crate::{
    Error, ErrorKind, Result,
    concurrent::blocking,
    context::{Context, Turn},
    layout,
    snapshot::View,
    storage,
    timeline::{Action, Instant},
};

/// Writes the hidden rows that are valid from a commit on.
pub(crate) async fn write(context: &Context, instant: Instant, rows: RecordBatch) -> Result<()> {
    let encode = move || {
        let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None)?;
        writer.write(&rows)?;
        writer.into_inner()
    };
    let failed = |cause: parquet::errors::ParquetError| {
        Error::new(ErrorKind::InvalidInput, "the hidden rows cannot be written").with_source(cause)
    };
    let bytes = blocking(move || encode().map_err(failed)).await?;
    storage::write(context.store(), &context.layout().hidden_rows(instant)?, bytes).await
}

/// Reads the hidden rows of the latest commit. Returns `None` if there never were any. Deletes the files of
/// writes that were undone.
pub(crate) async fn read(context: &Context, turn: &Turn<'_>, view: &View) -> Result<Option<RecordBatch>> {
    let listed = turn.tombstone_files().await?;
    let (mut committed, undone) = divide(context, view, listed, layout::hidden_rows_of).await?;
    discard(context, turn, undone).await?;
    let Some((_, path)) = committed.pop() else { return Ok(None) };
    let bytes = storage::read(context.store(), &path).await?;
    let corrupt = move |cause| {
        Error::new(ErrorKind::Corrupt, "the file of hidden rows is broken")
            .with_context("file", &path)
            .with_source(cause)
    };
    blocking(move || decode(bytes).map(Some).map_err(corrupt)).await
}

fn decode(bytes: bytes::Bytes) -> std::result::Result<RecordBatch, parquet::errors::ParquetError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let schema = reader.schema().clone();
    let batches = reader.build()?.collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(concat_batches(&schema, &batches)?)
}

/// Returns the files that no retained commit and no savepoint needs: all files before the one that was valid
/// at `earliest`, or at an older savepoint.
pub(crate) fn obsolete(listed: &[Path], view: &View, earliest: Instant) -> Vec<Path> {
    let savepoint = view.timeline.completed(Action::Savepoint).map(|entry| entry.instant).min();
    let horizon = savepoint.map_or(earliest, |savepoint| savepoint.min(earliest));
    let mut before: Vec<_> =
        files(listed.iter().cloned()).filter(|(instant, _)| *instant <= horizon).collect();
    before.sort_unstable();
    before.pop();
    before.into_iter().map(|(_, path)| path).collect()
}

fn files(listed: impl Iterator<Item = Path>) -> impl Iterator<Item = (Instant, Path)> {
    listed.filter_map(|path| Some((layout::hidden_rows_of(path.filename()?)?, path)))
}
