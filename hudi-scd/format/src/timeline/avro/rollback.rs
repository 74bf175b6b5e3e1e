//! The records of a rollback: the files of an unfinished write, and the result of their deletion.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ocf::container;

/// The plan of a rollback: `{instant}.rollback.requested`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "HoodieRollbackPlan", rename_all = "camelCase")]
pub struct RollbackPlan {
    /// The write to undo.
    pub instant_to_rollback: Option<InstantInfo>,
    /// Its files, one request for each.
    #[serde(rename = "RollbackRequests")]
    pub rollback_requests: Option<Vec<RollbackRequest>>,
    /// The version of the plan: 1.
    #[serde(default)]
    pub version: Option<i32>,
}

/// An instant with its action.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "HoodieInstantInfo", rename_all = "camelCase")]
pub struct InstantInfo {
    /// The instant.
    pub commit_time: String,
    /// `commit`, `replacecommit`, ...
    pub action: String,
}

/// The files of one file group to delete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "HoodieRollbackRequest", rename_all = "camelCase")]
pub struct RollbackRequest {
    /// The partition path. Empty in an unpartitioned table.
    pub partition_path: String,
    /// The file group.
    pub file_id: Option<String>,
    /// The instant of the dead write.
    pub latest_base_instant: Option<String>,
    /// Absolute paths without a scheme.
    #[serde(default)]
    pub files_to_be_deleted: Vec<String>,
    /// Blocks of log files, in a merge-on-read table.
    #[serde(default)]
    pub log_blocks_to_be_deleted: Option<BTreeMap<String, i64>>,
}

/// The result of a rollback: `{instant}.rollback`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "HoodieRollbackMetadata", rename_all = "camelCase")]
pub struct RollbackMetadata {
    /// The instant of the rollback.
    pub start_rollback_time: String,
    /// The duration in milliseconds.
    pub time_taken_in_millis: i64,
    /// The number of deleted files.
    pub total_files_deleted: i32,
    /// The instants that were undone.
    pub commits_rollback: Vec<String>,
    /// The results by partition path.
    pub partition_metadata: BTreeMap<String, RollbackPartitionMetadata>,
    /// The version of the metadata: 1.
    #[serde(default)]
    pub version: Option<i32>,
    /// The instants that were undone, with their actions.
    #[serde(default)]
    pub instants_rollback: Vec<InstantInfo>,
}

/// The result of a rollback in one partition. Files are absolute paths without a scheme.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "HoodieRollbackPartitionMetadata", rename_all = "camelCase")]
pub struct RollbackPartitionMetadata {
    /// The partition path. Empty in an unpartitioned table.
    pub partition_path: String,
    /// The files that were deleted.
    pub success_delete_files: Vec<String>,
    /// The files that were not deleted.
    pub failed_delete_files: Vec<String>,
    /// Log files, in a merge-on-read table. Otherwise an empty map.
    #[serde(default)]
    pub rollback_log_files: Option<BTreeMap<String, i64>>,
    /// Log files of the unfinished write, in a merge-on-read table. Otherwise an empty map.
    #[serde(default)]
    pub log_files_from_failed_commit: Option<BTreeMap<String, i64>>,
}

container!(RollbackPlan, "rollback_plan.avsc");
container!(RollbackMetadata, "rollback_metadata.avsc");
