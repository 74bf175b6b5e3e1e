//! Retention: which file versions of a table are kept and which are deleted.
//!
//! A [`RetentionPolicy`] defines what is kept. [`plan`] computes the resulting deletions without performing
//! them.

mod apply;
mod archive;
mod savepoint;

pub use apply::CleanReport;
pub(crate) use apply::{clean, clean_now, clean_plan, finish_pending_cleans};
pub use archive::ArchiveReport;
pub(crate) use archive::{archive, archive_now};
pub use hudi_format::retention::{
    CommitView, Deletion, FileGroupView, PartitionView, Plan, RetentionPolicy, SavepointView, Scope,
    SliceView, TimelineView, plan, scope,
};
pub use savepoint::SavepointReport;
pub(crate) use savepoint::{delete_savepoint, drop_pending_savepoints, savepoint};
