//! The record of a replacecommit that was requested: what, and for a clustering its plan.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ocf::container;

/// What a replacecommit is going to do: `{instant}.replacecommit.requested`. An insert overwrite says nothing here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "HoodieRequestedReplaceMetadata", rename_all = "camelCase")]
pub struct RequestedReplace {
    /// `CLUSTER`, or nothing.
    #[serde(default)]
    pub operation_type: Option<String>,
    /// Which file groups are to be written together, if it is a clustering.
    #[serde(default)]
    pub clustering_plan: Option<ClusteringPlan>,
    /// Free texts.
    #[serde(default)]
    pub extra_metadata: Option<BTreeMap<String, String>>,
    /// The version of the record.
    #[serde(default)]
    pub version: Option<i32>,
}

/// Which file groups a clustering is to write together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "HoodieClusteringPlan", rename_all = "camelCase")]
pub struct ClusteringPlan {
    /// The groups of file groups.
    #[serde(default)]
    pub input_groups: Option<Vec<ClusteringGroup>>,
    /// How.
    #[serde(default)]
    pub strategy: Option<ClusteringStrategy>,
    /// Free texts.
    #[serde(default)]
    pub extra_metadata: Option<BTreeMap<String, String>>,
    /// The version of the record.
    #[serde(default)]
    pub version: Option<i32>,
    /// Whether rows keep their commit times.
    #[serde(default)]
    pub preserve_hoodie_metadata: Option<bool>,
}

/// File groups that are to be written together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "HoodieClusteringGroup", rename_all = "camelCase")]
pub struct ClusteringGroup {
    /// Their files.
    #[serde(default)]
    pub slices: Option<Vec<SliceInfo>>,
    /// Sizes and so on.
    #[serde(default)]
    pub metrics: Option<BTreeMap<String, f64>>,
    /// How many file groups there are to be.
    #[serde(default)]
    pub num_output_file_groups: Option<i32>,
    /// Free texts.
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
    /// Of a bootstrapped table.
    #[serde(default)]
    pub bootstrap_file_path: Option<String>,
    /// The version of the record.
    #[serde(default)]
    pub version: Option<i32>,
}

/// How a clustering is done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "HoodieClusteringStrategy", rename_all = "camelCase")]
pub struct ClusteringStrategy {
    /// A Java class.
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
