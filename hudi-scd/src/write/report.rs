//! [`CommitReport`]: the result of a write.

use std::{fmt, time::Duration};

use crate::{
    Result,
    retention::{ArchiveReport, CleanReport},
    timeline::Instant,
};

/// The result of a write, by rows and files.
///
/// Each row of the input is counted once: `rows` is the sum of `inserted`, `updated`, `moved`, `deleted`,
/// `late`, `remembered`, `unchanged` and `superseded`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommitReport {
    /// The commit; `None` if nothing changed and nothing was written.
    pub instant: Option<Instant>,
    /// Number of rows in the input.
    pub rows: u64,
    /// Keys that were not stored before.
    pub inserted: u64,
    /// Stored rows that were replaced in place.
    pub updated: u64,
    /// Stored rows that were replaced and moved, because their partition changed.
    pub moved: u64,
    /// Stored rows that were deleted.
    pub deleted: u64,
    /// Rows older than the stored row or than the deletion of their key: they changed nothing.
    pub late: u64,
    /// Deletions of keys that are not stored. They are recorded, because the row that they delete may arrive
    /// late.
    pub remembered: u64,
    /// Stored rows that an overwrite removed without a row of their key in the input. They are not rows of
    /// the input.
    pub overwritten: u64,
    /// Rows equal to the stored ones, and deletions of keys that are already recorded, or that have no
    /// ordering value with which a row could be late.
    pub unchanged: u64,
    /// Rows superseded by another row of the same key in the input.
    pub superseded: u64,
    /// Number of written base files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The bytes of these files that were sent to the storage.
    pub bytes_sent: u64,
    /// The bytes of these files that the storage copied from previous versions; see
    /// [`RangeCopy`](crate::RangeCopy).
    pub bytes_copied: u64,
    /// Unfinished writes that were rolled back first.
    pub rolled_back: Vec<Instant>,
    /// The indexes of the metadata table of other writers that this write dropped; see
    /// [`MetadataTable`](crate::MetadataTable).
    pub metadata_table_dropped: Vec<String>,
    /// The clean after the commit, if there was anything to clean.
    pub cleaned: Option<CleanReport>,
    /// The archival after the commit, if there was anything to archive.
    pub archived: Option<ArchiveReport>,
    /// The result of the [sync](crate::CatalogSync) of a catalog after the write.
    pub catalog_synced: Option<String>,
    /// Errors of the clean, of the archival and of the catalog's sync after the commit. The commit is valid,
    /// and the next write repeats them.
    pub upkeep_failed: Vec<String>,
    /// The durations of the phases.
    pub time: Phases,
}

impl CommitReport {
    /// Takes the end of a write. A commit stands, though the write ended behind it.
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

/// The durations of a write's phases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Phases {
    /// Waiting for other writers.
    pub wait: Duration,
    /// Finding and undoing the remains of dead writers.
    pub repair: Duration,
    /// Conforming the input to the table's schema; keys, partitions, the newest row of each key.
    pub prepare: Duration,
    /// Looking up keys, and comparing with stored rows.
    pub find: Duration,
    /// Merging, encoding and storing base files.
    pub write: Duration,
    /// Writing the timeline.
    pub commit: Duration,
    /// Cleaning and archiving.
    pub clean: Duration,
    /// Synchronizing a catalog, after the lock was released.
    pub catalog: Duration,
}

impl Phases {
    /// Returns the total duration.
    pub fn total(&self) -> Duration {
        let locked = self.repair + self.find + self.write + self.commit + self.clean;
        self.wait + self.prepare + locked + self.catalog
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
