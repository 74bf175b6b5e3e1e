//! Retention: which versions of a table's files stay, and which go.
//!
//! A [`RetentionPolicy`] says what to keep, [`plan`] says, without touching anything, what therefore goes.

mod apply;
mod archive;
mod plan;
mod policy;
mod savepoint;

pub use apply::CleanReport;
pub use archive::ArchiveReport;
#[cfg(feature = "cli")]
pub(crate) use plan::Bytes;
pub use plan::{
    CommitView, Deletion, FileGroupView, PartitionView, Plan, SavepointView, Scope, SliceView, TimelineView,
    plan, scope,
};
pub(crate) use policy::POLICY;
pub use policy::RetentionPolicy;
pub use savepoint::SavepointReport;
