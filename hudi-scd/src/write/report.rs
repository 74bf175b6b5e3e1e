//! [`CommitReport`]: what a write did.

use std::{fmt, time::Duration};

use crate::{
    retention::{ArchiveReport, CleanReport},
    timeline::Instant,
};

/// What a write did, row by row and file by file.
///
/// Each row of the input is counted once: `rows` is the sum of `inserted`, `updated`, `moved`, `deleted`, `late`,
/// `remembered`, `unchanged` and `superseded`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommitReport {
    /// The commit; `None` if nothing changed, and so nothing was written.
    pub instant: Option<Instant>,
    /// Rows that came in.
    pub rows: u64,
    /// Keys that were not stored before.
    pub inserted: u64,
    /// Stored rows that were replaced in their place.
    pub updated: u64,
    /// Stored rows that were replaced and, as their partition changed, moved.
    pub moved: u64,
    /// Stored rows that were deleted.
    pub deleted: u64,
    /// Rows that are older than what is stored, or than the deletion of their key: they changed nothing.
    pub late: u64,
    /// Deletions of keys that are not stored: they are kept in mind, since the row that they delete may only be late.
    pub remembered: u64,
    /// Stored rows that an overwrite took away without another of their key in the input. They are no rows of the input.
    pub overwritten: u64,
    /// Rows that equal what is stored, and deletions of keys of which that is known already, or that have no ordering
    /// value by which a row could be late.
    pub unchanged: u64,
    /// Rows that lost to another row of the same key in the same input.
    pub superseded: u64,
    /// Base files written.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Dead writes that were undone first.
    pub rolled_back: Vec<Instant>,
    /// The indexes of the metadata table of other writers that this write dropped; see
    /// [`MetadataTable`](crate::MetadataTable).
    pub metadata_table_dropped: Vec<String>,
    /// The clean after the commit, if there was anything to clean.
    pub cleaned: Option<CleanReport>,
    /// The archival after the commit, if there was anything to archive.
    pub archived: Option<ArchiveReport>,
    /// Errors of the clean and of the archival after the commit. The commit stands, and the next write tries them again.
    pub upkeep_failed: Vec<String>,
    /// What took how long.
    pub time: Phases,
}

/// How long the phases of a write took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Phases {
    /// Waiting for other writers.
    pub wait: Duration,
    /// Looking for, and undoing, what dead writers left.
    pub repair: Duration,
    /// Bringing the input to the table's schema; keys, partitions, the newest row of each key.
    pub prepare: Duration,
    /// Looking keys up, and comparing with stored rows.
    pub find: Duration,
    /// Merging, encoding and storing base files.
    pub write: Duration,
    /// The timeline.
    pub commit: Duration,
    /// Cleaning and archiving.
    pub clean: Duration,
}

impl Phases {
    /// All of it.
    pub fn total(&self) -> Duration {
        self.wait + self.repair + self.prepare + self.find + self.write + self.commit + self.clean
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
            "{} late, {} remembered, {} unchanged, {} superseded; {} files, {} bytes in {:.3} s",
            self.late,
            self.remembered,
            self.unchanged,
            self.superseded,
            self.files,
            self.bytes,
            self.time.total().as_secs_f64()
        )
    }
}
