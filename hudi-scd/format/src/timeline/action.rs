//! [`Action`] and its [`State`].

use std::fmt;

/// An action on a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Rows were written.
    Commit,
    /// File groups were replaced by others: insert overwrite, clustering.
    ReplaceCommit,
    /// Rows were written to a merge-on-read table.
    DeltaCommit,
    /// Log files were merged into base files, in a merge-on-read table.
    Compaction,
    /// Log files were merged with each other, in a merge-on-read table.
    LogCompaction,
    /// Old versions were deleted.
    Clean,
    /// An unfinished write was undone.
    Rollback,
    /// The table was restored to a savepoint.
    Restore,
    /// A commit was protected from cleaning.
    Savepoint,
    /// An index was built in the metadata table.
    Indexing,
    /// The schema was changed.
    SchemaCommit,
}

impl Action {
    const ALL: [Self; 11] = [
        Self::Commit,
        Self::ReplaceCommit,
        Self::DeltaCommit,
        Self::Compaction,
        Self::LogCompaction,
        Self::Clean,
        Self::Rollback,
        Self::Restore,
        Self::Savepoint,
        Self::Indexing,
        Self::SchemaCommit,
    ];

    /// Returns the action's name in file names and metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::ReplaceCommit => "replacecommit",
            Self::DeltaCommit => "deltacommit",
            Self::Compaction => "compaction",
            Self::LogCompaction => "logcompaction",
            Self::Clean => "clean",
            Self::Rollback => "rollback",
            Self::Restore => "restore",
            Self::Savepoint => "savepoint",
            Self::Indexing => "indexing",
            Self::SchemaCommit => "schemacommit",
        }
    }

    /// Returns the action with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }

    /// Returns `true` if a completed action of this kind changes rows.
    pub fn writes_rows(self) -> bool {
        matches!(self, Self::Commit | Self::ReplaceCommit)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The progress of an action: `Requested`, then `Inflight`, then `Completed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Planned.
    Requested,
    /// Begun.
    Inflight,
    /// Done, and visible.
    Completed,
}

impl State {
    /// All states, in order.
    pub const ALL: [Self; 3] = [Self::Requested, Self::Inflight, Self::Completed];

    /// Returns the state's name in metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "REQUESTED",
            Self::Inflight => "INFLIGHT",
            Self::Completed => "COMPLETED",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
