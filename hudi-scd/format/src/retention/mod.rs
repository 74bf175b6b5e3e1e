//! Retention: which versions of a table's files stay, and which go.
//!
//! A [`RetentionPolicy`] says what to keep, [`plan`] says, without touching anything, what therefore goes.

mod plan;
mod policy;

pub use plan::{
    Bytes, CommitView, Deletion, FileGroupView, PartitionView, Plan, SavepointView, Scope, SliceView,
    TimelineView, plan, scope,
};
pub use policy::{POLICY, RetentionPolicy};
