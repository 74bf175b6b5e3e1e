//! The record of a savepoint: the files that a clean must keep.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ocf::container;

/// A commit that is protected from cleaning: `{instant}.savepoint`, under the instant of the commit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "HoodieSavepointMetadata", rename_all = "camelCase")]
pub struct SavepointMetadata {
    /// The author.
    pub savepointed_by: String,
    /// The time, in milliseconds since 1970.
    pub savepointed_at: i64,
    /// The reason.
    pub comments: String,
    /// The files of the commit, by partition path.
    pub partition_metadata: BTreeMap<String, SavepointPartitionMetadata>,
    /// The version of the record: 1.
    #[serde(default)]
    pub version: Option<i32>,
}

/// The files that a savepoint protects in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "HoodieSavepointPartitionMetadata", rename_all = "camelCase")]
pub struct SavepointPartitionMetadata {
    /// The partition path. Empty in an unpartitioned table.
    pub partition_path: String,
    /// The names of the files, without paths.
    pub savepoint_data_file: Vec<String>,
}

container!(SavepointMetadata, "savepoint.avsc");
