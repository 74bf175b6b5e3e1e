//! The record of a requested replacecommit: its operation and, for a clustering, its plan.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ocf::container;

/// The plan of a replacecommit: `{instant}.replacecommit.requested`. It is empty for an insert overwrite.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "HoodieRequestedReplaceMetadata", rename_all = "camelCase")]
pub struct RequestedReplace {
    /// `CLUSTER`, or empty.
    #[serde(default)]
    pub operation_type: Option<String>,
    /// The file groups to merge, for a clustering.
    #[serde(default)]
    pub clustering_plan: Option<ClusteringPlan>,
    /// Free-form entries.
    #[serde(default)]
    pub extra_metadata: Option<BTreeMap<String, String>>,
    /// The version of the record.
    #[serde(default)]
    pub version: Option<i32>,
}

/// The file groups that a clustering merges.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "HoodieClusteringPlan", rename_all = "camelCase")]
pub struct ClusteringPlan {
    /// Groups of file groups. Each group is merged.
    #[serde(default)]
    pub input_groups: Option<Vec<ClusteringGroup>>,
    /// The strategy.
    #[serde(default)]
    pub strategy: Option<ClusteringStrategy>,
    /// Free-form entries.
    #[serde(default)]
    pub extra_metadata: Option<BTreeMap<String, String>>,
    /// The version of the record.
    #[serde(default)]
    pub version: Option<i32>,
    /// `true` if rows keep their commit times.
    #[serde(default)]
    pub preserve_hoodie_metadata: Option<bool>,
}

/// File groups that are merged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "HoodieClusteringGroup", rename_all = "camelCase")]
pub struct ClusteringGroup {
    /// Their files.
    #[serde(default)]
    pub slices: Option<Vec<SliceInfo>>,
    /// Sizes and other metrics.
    #[serde(default)]
    pub metrics: Option<BTreeMap<String, f64>>,
    /// The number of file groups to create.
    #[serde(default)]
    pub num_output_file_groups: Option<i32>,
    /// Free-form entries.
    #[serde(default)]
    pub extra_metadata: Option<BTreeMap<String, String>>,
    /// The version of the record.
    #[serde(default)]
    pub version: Option<i32>,
}

/// A file of a clustering.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "HoodieSliceInfo", rename_all = "camelCase")]
pub struct SliceInfo {
    /// Its path.
    #[serde(default)]
    pub data_file_path: Option<String>,
    /// Log files, in a merge-on-read table.
    #[serde(default)]
    pub delta_file_paths: Option<Vec<String>>,
    /// Its file group.
    #[serde(default)]
    pub file_id: Option<String>,
    /// The path of its partition.
    #[serde(default)]
    pub partition_path: Option<String>,
    /// The bootstrap file, in a bootstrapped table.
    #[serde(default)]
    pub bootstrap_file_path: Option<String>,
    /// The version of the record.
    #[serde(default)]
    pub version: Option<i32>,
}

/// The strategy of a clustering.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "HoodieClusteringStrategy", rename_all = "camelCase")]
pub struct ClusteringStrategy {
    /// The name of a Java class.
    #[serde(default)]
    pub strategy_class_name: Option<String>,
    /// Its parameters.
    #[serde(default)]
    pub strategy_params: Option<BTreeMap<String, String>>,
    /// The version of the record.
    #[serde(default)]
    pub version: Option<i32>,
}

container!(RequestedReplace, "requested_replace.avsc");
