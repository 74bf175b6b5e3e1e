//! Retention: which versions of a table's files stay, and which go.
//!
//! A [`RetentionPolicy`] says what to keep, [`plan`] says, without touching anything, what therefore goes.

mod apply;
mod archive;
mod savepoint;

pub use apply::CleanReport;
pub use archive::ArchiveReport;
pub(crate) use hudi_format::retention::POLICY;
pub use hudi_format::retention::{
    CommitView, Deletion, FileGroupView, PartitionView, Plan, RetentionPolicy, SavepointView, Scope,
    SliceView, TimelineView, plan, scope,
};
pub use savepoint::SavepointReport;
