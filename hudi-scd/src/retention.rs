//! Retention: which file versions of a table are kept and which are deleted.
//!
//! A [`RetentionPolicy`] defines what is kept. [`plan`] computes the resulting deletions without performing
//! them.

pub use hudi_format::retention::{
    CommitView, Deletion, FileGroupView, PartitionView, Plan, RetentionPolicy, SavepointView, Scope,
    SliceView, TimelineView, plan, scope,
};

pub use crate::maintain::{ArchiveReport, CleanReport, SavepointReport};
