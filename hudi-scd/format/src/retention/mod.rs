//! Retention: which file versions of a table are kept and which are deleted.
//!
//! A [`RetentionPolicy`] defines what is kept. [`plan`] computes the resulting deletions without performing
//! them.

mod plan;
mod policy;

pub use plan::{
    Bytes, CommitView, Deletion, FileGroupView, PartitionView, Plan, SavepointView, Scope, SliceView,
    TimelineView, plan, scope,
};
pub use policy::{POLICY, RetentionPolicy};
