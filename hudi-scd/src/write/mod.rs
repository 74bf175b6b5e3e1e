//! The path of a batch into the table:
//!
//! ```text
//! batches -> input   (all in memory, or sorted runs on the local disk; keys, partitions, newest of each key)
//!         -> decide  (the location of each key, and which row is newer)
//!         -> plan    (the file groups for the new rows)
//!         -> files   (the old file's rows and the changes, streamed into a new base file)
//!         -> commit  (requested, inflight, markers, files, completed)
//!         -> upkeep  (clean, archive, catalog)
//! ```
//!
//! Input that is larger than the [memory budget](crate::TableOptions::with_memory_budget) is processed in
//! chunks up to `plan`. Rows to write are spilled to the local disk.
//!
//! `batch` passes each batch along this path. Before that, the remains of dead writers are
//! [rolled back](crate::recover).

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
