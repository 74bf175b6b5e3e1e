//! The path of a batch into the table:
//!
//! ```text
//! batches -> input    (all in memory, or sorted runs on the local disk)
//!         -> incoming (keys, partitions, newest of each key)
//!         -> tag      (the location of each key, and which row is newer)
//!         -> pack     (the file groups for the new rows)
//!         -> merge    (the old file's rows and the changes, streamed into a new base file)
//!         -> commit   (requested, inflight, markers, files, completed)
//! ```
//!
//! Input that is larger than the [memory budget](crate::TableOptions::with_memory_budget) is processed in
//! chunks up to `pack`. Rows to write are spilled to the local disk.
//!
//! Before all of this, the remains of dead writers are [rolled back](rollback). At the end, the table is
//! cleaned.

mod arranged;
mod base_file;
mod batch;
pub(crate) mod beside;
mod bulk;
mod changeset;
mod chunk;
mod codec;
mod collision;
mod commit;
mod distinct;
pub(crate) mod heartbeat;
pub(crate) mod hidden;
mod incoming;
pub(crate) mod input;
pub(crate) mod intake;
mod key_texts;
pub(crate) mod ledger;
mod lookup;
mod markers;
mod merge;
mod nan;
mod operation_type;
mod overwrite;
mod pack;
mod pages;
mod patch;
mod repair;
mod report;
pub(crate) mod rollback;
mod rows;
pub(crate) mod settle;
mod spill;
mod tag;
pub(crate) mod tombstones;
pub(crate) mod undo;
mod upkeep;

pub(crate) use self::{
    batch::{at_hand, change_in_turn, overwrite, parts, write},
    beside::Beside,
    incoming::Intent,
    overwrite::Overwrite,
    repair::repair,
    upkeep::sync_catalog,
};
pub use self::{intake::Intake, report::CommitReport, undo::RollbackReport};
