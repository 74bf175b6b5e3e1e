//! The content of a commit in addition to its rows: deleted keys, hidden rows, and the files that it took in.
//! Each is a file in `.hoodie/.aux/tombstones` that counts if the commit has completed.
//!
//! A writer that dies before its commit completes leaves files that do not count. Another engine that rolls
//! back the write does not know them, so the next writer deletes them: once the active timeline begins after
//! an instant, it no longer shows that there was no such commit.

mod archive;
pub(crate) mod hidden;
pub(crate) mod ledger;
pub(crate) mod tombstones;

use arrow::array::RecordBatch;
use object_store::path::Path;

use self::ledger::Taken;
use crate::{
    Result,
    context::{Context, Turn},
    layout,
    snapshot::View,
    storage,
    timeline::Instant,
};

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

/// A file beside a commit, and the instant of that commit.
type File = (Instant, Path);

/// Divides the files of one kind into those of commits, oldest first, and the others. An instant before the
/// active timeline counts as that of a commit.
async fn divide(
    context: &Context,
    view: &View,
    listed: Vec<Path>,
    instant_of: fn(&str) -> Option<Instant>,
) -> Result<(Vec<File>, Vec<File>)> {
    let files = listed.into_iter().filter_map(|path| Some((instant_of(path.filename()?)?, path)));
    let files: Vec<File> = files.collect();
    let commits = context.committed(view, files.iter().map(|(instant, _)| *instant)).await?;
    let (mut committed, others): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|(instant, _)| commits.contains(instant));
    committed.sort_unstable();
    Ok((committed, others))
}

/// Deletes files that do not count.
async fn discard(context: &Context, turn: &Turn<'_>, files: Vec<File>) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    turn.verify().await?;
    storage::delete_all(context.store(), files.into_iter().map(|(_, path)| path).collect()).await.map(drop)
}

/// Returns the files of all kinds that are older than an instant and belong to neither a commit nor a pending
/// write.
pub(crate) async fn strays_before(
    context: &Context,
    turn: &Turn<'_>,
    view: &View,
    first: Instant,
) -> Result<impl Iterator<Item = Path>> {
    let instant_of = |name: &str| {
        let other = || layout::hidden_rows_of(name).or_else(|| layout::ledger_of(name));
        layout::tombstones_of(name).or_else(other)
    };
    let (_, others) = divide(context, view, turn.tombstone_files().await?, instant_of).await?;
    let is_stray = move |instant: Instant| instant < first && !view.is_pending(instant);
    Ok(others.into_iter().filter(move |(instant, _)| is_stray(*instant)).map(|(_, path)| path))
}
