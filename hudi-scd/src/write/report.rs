//! [`CommitReport`]: the result of a write.

use std::fmt;

use crate::{
    Result,
    concurrent::blocking,
    operation::Phases,
    retention::{ArchiveReport, CleanReport},
    timeline::Instant,
};

/// The result of a write, in numbers of rows and files.
///
/// Each row of the input is counted once: `rows` is the sum of `inserted`, `updated`, `moved`, `deleted`,
/// `late`, `remembered`, `unchanged` and `superseded`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommitReport {
    /// The instant of the commit. `None` if nothing changed and nothing was written.
    pub instant: Option<Instant>,
    /// Number of rows in the input.
    pub rows: u64,
    /// Number of keys that were not stored before.
    pub inserted: u64,
    /// Number of stored rows that were replaced in place.
    pub updated: u64,
    /// Number of stored rows that were replaced and moved, because their partition changed.
    pub moved: u64,
    /// Number of stored rows that were deleted.
    pub deleted: u64,
    /// Number of rows older than the stored row, or older than the deletion of their key. They changed
    /// nothing.
    pub late: u64,
    /// Number of deletions of keys that are not stored. They are recorded, because the row that they delete
    /// may arrive late.
    pub remembered: u64,
    /// Number of stored rows that an overwrite removed although the input has no row with their key. They are
    /// not rows of the input.
    pub overwritten: u64,
    /// Number of rows equal to the stored ones, and of deletions that need not be recorded: the deletion is
    /// already recorded, or has no ordering value, so that no row can be late.
    pub unchanged: u64,
    /// Number of rows superseded by another row with the same key in the input.
    pub superseded: u64,
    /// Number of written base files.
    pub files: u64,
    /// Size of these files in bytes.
    pub bytes: u64,
    /// Number of bytes of these files that were sent to the storage.
    pub bytes_sent: u64,
    /// Number of bytes of these files that the storage copied from previous versions. See
    /// [`RangeCopy`](crate::RangeCopy).
    pub bytes_copied: u64,
    /// Unfinished writes that were rolled back before this write.
    pub rolled_back: Vec<Instant>,
    /// The indexes in the metadata table of other writers that this write dropped. See
    /// [`MetadataTable`](crate::MetadataTable).
    pub metadata_table_dropped: Vec<String>,
    /// The clean after the commit, if there was anything to clean.
    pub cleaned: Option<CleanReport>,
    /// The archival after the commit, if there was anything to archive.
    pub archived: Option<ArchiveReport>,
    /// The result of the [sync](crate::CatalogSync) of a catalog after the write.
    pub catalog_synced: Option<String>,
    /// Errors of the clean, the archival and the catalog's sync after the commit. The commit is valid, and
    /// the next write retries them.
    pub upkeep_failed: Vec<String>,
    /// The durations of the phases.
    pub time: Phases,
}

impl CommitReport {
    /// Adds the result of the last part of a write. If there is a commit, it is valid even if that part
    /// failed.
    pub(crate) fn ended(&mut self, ended: Result<()>) -> Result<()> {
        match ended {
            Err(error) if self.instant.is_some() => {
                self.upkeep_failed.push(format!("clean: {error}"));
                Ok(())
            }
            ended => ended,
        }
    }
}

impl fmt::Display for CommitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.instant {
            Some(instant) => write!(f, "commit {instant}: ")?,
            None => f.write_str("no commit: ")?,
        }
        write!(
            f,
            "{} rows: {} inserted, {} updated, {} moved, {} deleted, ",
            self.rows, self.inserted, self.updated, self.moved, self.deleted,
        )?;
        if self.overwritten > 0 {
            write!(f, "{} overwritten, ", self.overwritten)?;
        }
        write!(
            f,
            "{} late, {} remembered, {} unchanged, {} superseded; {} files, {} bytes",
            self.late, self.remembered, self.unchanged, self.superseded, self.files, self.bytes,
        )?;
        if self.bytes_copied > 0 {
            write!(f, ", of which {} were sent and {} copied", self.bytes_sent, self.bytes_copied)?;
        }
        write!(f, " in {:.3} s", self.time.total().as_secs_f64())
    }
}

/// Runs CPU-bound work on a blocking thread. The work adds to a report.
pub(super) async fn counted<T: Send + 'static>(
    report: &mut CommitReport,
    work: impl FnOnce(&mut CommitReport) -> Result<T> + Send + 'static,
) -> Result<T> {
    let mut counts = report.clone();
    let done = blocking(move || work(&mut counts).map(|done| (done, counts)));
    let (done, counts) = done.await?;
    *report = counts;
    Ok(done)
}
