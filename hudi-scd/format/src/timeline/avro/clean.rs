//! The records of a clean: the planned and the completed deletions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ocf::container;

/// The plan of a clean: `{instant}.clean.requested`, repeated in `.clean.inflight`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "HoodieCleanerPlan", rename_all = "camelCase")]
pub struct CleanPlan {
    /// The oldest commit that stays readable. `None` for a policy that counts file versions.
    pub earliest_instant_to_retain: Option<ActionInstant>,
    /// The newest commit that was completed when the plan was made.
    #[serde(default)]
    pub last_completed_commit_timestamp: String,
    /// `KEEP_LATEST_COMMITS`, `KEEP_LATEST_BY_HOURS` or `KEEP_LATEST_FILE_VERSIONS`.
    pub policy: String,
    /// The files in version 1 of the plan. Version 2 writes an empty map.
    #[serde(default)]
    pub files_to_be_deleted_per_partition: Option<BTreeMap<String, Vec<String>>>,
    /// The version of the plan: 2.
    #[serde(default)]
    pub version: Option<i32>,
    /// The files, by partition path.
    #[serde(default)]
    pub file_paths_to_be_deleted_per_partition: Option<BTreeMap<String, Vec<CleanFileInfo>>>,
    /// Partitions that are deleted completely.
    #[serde(default)]
    pub partitions_to_be_deleted: Option<Vec<String>>,
    /// Additional entries. 0.14 does not write them.
    #[serde(default)]
    pub extra_metadata: Option<BTreeMap<String, String>>,
}

/// An instant with its action and state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "HoodieActionInstant", rename_all = "camelCase")]
pub struct ActionInstant {
    /// The instant.
    pub timestamp: String,
    /// `commit`, `replacecommit`, ...
    pub action: String,
    /// `COMPLETED`, ...
    pub state: String,
}

/// A file to delete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "HoodieCleanFileInfo", rename_all = "camelCase")]
pub struct CleanFileInfo {
    /// Its absolute path, as a URL: `file:/lake/t/a.parquet`, `s3://lake/t/a.parquet`.
    pub file_path: Option<String>,
    /// `true` if the file belongs to another table and a bootstrap refers to it.
    pub is_bootstrap_base_file: Option<bool>,
}

/// The result of a clean: `{instant}.clean`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "HoodieCleanMetadata", rename_all = "camelCase")]
pub struct CleanMetadata {
    /// The instant of the clean.
    pub start_clean_time: String,
    /// The duration in milliseconds.
    pub time_taken_in_millis: i64,
    /// The number of deleted files.
    pub total_files_deleted: i32,
    /// The oldest commit that stays readable. Empty for a policy that counts file versions.
    pub earliest_commit_to_retain: String,
    /// The newest commit that was completed when the plan was made.
    #[serde(default)]
    pub last_completed_commit_timestamp: String,
    /// The results by partition path.
    pub partition_metadata: BTreeMap<String, CleanPartitionMetadata>,
    /// The version of the metadata: 2.
    #[serde(default)]
    pub version: Option<i32>,
    /// The results for files of other tables that a bootstrap refers to.
    #[serde(default)]
    pub bootstrap_partition_metadata: Option<BTreeMap<String, CleanPartitionMetadata>>,
    /// Additional entries. 0.14 does not write them.
    #[serde(default)]
    pub extra_metadata: Option<BTreeMap<String, String>>,
}

/// The result of a clean in a partition. Files are bare names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "HoodieCleanPartitionMetadata", rename_all = "camelCase")]
pub struct CleanPartitionMetadata {
    /// The partition path. Empty in an unpartitioned table.
    pub partition_path: String,
    /// The policy of the plan.
    pub policy: String,
    /// The files to delete.
    pub delete_path_patterns: Vec<String>,
    /// The deleted files.
    pub success_delete_files: Vec<String>,
    /// The files that were not deleted, or were already missing.
    pub failed_delete_files: Vec<String>,
    /// `true` if the partition itself was deleted.
    pub is_partition_deleted: Option<bool>,
}

container!(CleanPlan, "clean_plan.avsc");
container!(CleanMetadata, "clean_metadata.avsc");
