//! [`Beside`]: the content of a commit in addition to its rows.

use arrow::array::RecordBatch;

use super::ledger::Taken;

/// Content of a commit in addition to its rows.
#[derive(Default)]
pub(crate) struct Beside {
    /// The table's [hidden rows](super::hidden) after the commit, if they have changed.
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
