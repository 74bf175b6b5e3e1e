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
//! Before all of this, the remains of dead writers are [rolled back](crate::recover). At the end, the table is
//! cleaned.

mod batch;
mod commit;
mod decide;
mod files;
pub(crate) mod input;
pub(crate) mod intake;
mod operation_type;
mod plan;
mod report;
mod upkeep;

pub(crate) use self::{
    batch::{at_hand, change_in_turn, overwrite, parts, write},
    decide::Overwrite,
    input::incoming::Intent,
    upkeep::sync_catalog,
};
pub use self::{intake::Intake, report::CommitReport};
