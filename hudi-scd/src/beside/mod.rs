//! The content of a commit in addition to its rows: deleted keys, hidden rows, and the files that it took in.
//! Each is a file in `.hoodie/.aux/tombstones` that counts if the commit has completed.

pub(crate) mod hidden;
pub(crate) mod ledger;
pub(crate) mod tombstones;

use arrow::array::RecordBatch;

use self::ledger::Taken;

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
