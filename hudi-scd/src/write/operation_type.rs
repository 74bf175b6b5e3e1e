//! [`OperationType`]: the kind of a commit.

use std::collections::BTreeMap;

use super::input::incoming::Intent;
use crate::timeline::Action;

/// The operation recorded in the commit metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OperationType {
    Upsert,
    Insert,
    BulkInsert,
    Delete,
    InsertOverwrite,
    InsertOverwriteTable,
    DeletePartition,
}

impl OperationType {
    pub(crate) fn of(intent: Intent) -> Self {
        match intent {
            Intent::Upsert => Self::Upsert,
            Intent::Insert => Self::Insert,
            Intent::BulkInsert => Self::BulkInsert,
            Intent::Delete => Self::Delete,
            Intent::Overwrite => Self::InsertOverwrite,
        }
    }

    pub(super) fn action(self) -> Action {
        match self {
            Self::Upsert | Self::Insert | Self::BulkInsert | Self::Delete => Action::Commit,
            Self::InsertOverwrite | Self::InsertOverwriteTable | Self::DeletePartition => {
                Action::ReplaceCommit
            }
        }
    }

    /// Returns Spark's name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Upsert => "UPSERT",
            Self::Insert => "INSERT",
            Self::BulkInsert => "BULK_INSERT",
            Self::Delete => "DELETE",
            Self::InsertOverwrite => "INSERT_OVERWRITE",
            Self::InsertOverwriteTable => "INSERT_OVERWRITE_TABLE",
            Self::DeletePartition => "DELETE_PARTITION",
        }
    }
}

/// File groups by partition path.
pub(crate) type Replaced = BTreeMap<String, Vec<String>>;
