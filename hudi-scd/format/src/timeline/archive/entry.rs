//! [`ArchivedEntry`]: a timeline file in the archive.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    Error, ErrorKind, Result,
    timeline::{
        Action, Instant, State,
        avro::{CleanMetadata, CleanPlan, RequestedReplace, RollbackMetadata, SavepointMetadata},
    },
};

/// A timeline file in the archive, one for each state of an action. Its content is in the field for its kind.
/// The fields of other kinds are omitted, because tables of this version do not have them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "HoodieArchivedMetaEntry", rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct ArchivedEntry {
    /// The metadata of a commit.
    pub hoodie_commit_metadata: Option<ArchivedCommit>,
    /// The metadata of a clean.
    pub hoodie_clean_metadata: Option<CleanMetadata>,
    /// The metadata of a rollback.
    pub hoodie_rollback_metadata: Option<RollbackMetadata>,
    /// The metadata of a savepoint.
    pub hoodie_save_point_metadata: Option<SavepointMetadata>,
    /// The instant.
    pub commit_time: Option<String>,
    /// `commit`, `clean`, ...
    pub action_type: Option<String>,
    /// The version of the record: 1.
    pub version: Option<i32>,
    /// The plan of a clean.
    pub hoodie_cleaner_plan: Option<CleanPlan>,
    /// `REQUESTED`, `INFLIGHT` or `COMPLETED`.
    pub action_state: Option<String>,
    /// The metadata of a replacecommit.
    pub hoodie_replace_commit_metadata: Option<ArchivedReplaceCommit>,
    /// The plan of a replacecommit.
    pub hoodie_requested_replace_metadata: Option<RequestedReplace>,
    /// The inflight metadata of a replacecommit.
    #[serde(rename = "HoodieInflightReplaceMetadata")]
    pub hoodie_inflight_replace_metadata: Option<ArchivedCommit>,
    /// The time at which the file was written, in the form of an instant.
    pub state_transition_time: Option<String>,
}

/// The metadata of a commit, in the archive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "HoodieCommitMetadata", rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct ArchivedCommit {
    /// The written files, by partition path.
    pub partition_to_write_stats: Option<BTreeMap<String, Vec<ArchivedWriteStat>>>,
    /// Free-form entries, including the schema.
    pub extra_metadata: Option<BTreeMap<String, String>>,
    /// The version of the record: 1.
    pub version: Option<i32>,
    /// `UPSERT`, `INSERT`, `DELETE` and so on.
    pub operation_type: Option<String>,
}

/// The metadata of a replacecommit, in the archive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "HoodieReplaceCommitMetadata", rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct ArchivedReplaceCommit {
    /// The written files, by partition path.
    pub partition_to_write_stats: Option<BTreeMap<String, Vec<ArchivedWriteStat>>>,
    /// Free-form entries, including the schema.
    pub extra_metadata: Option<BTreeMap<String, String>>,
    /// The version of the record: 1.
    pub version: Option<i32>,
    /// `INSERT_OVERWRITE`, `CLUSTER` and so on.
    pub operation_type: Option<String>,
    /// The file groups that were replaced, by partition path.
    pub partition_to_replace_file_ids: Option<BTreeMap<String, Vec<String>>>,
}

/// The changes of a commit to one file group, in the archive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "HoodieWriteStat", rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct ArchivedWriteStat {
    /// The file group.
    pub file_id: Option<String>,
    /// The new base file, relative to the table.
    pub path: Option<String>,
    /// The instant of the previous version, or the string `null`.
    pub prev_commit: Option<String>,
    /// Number of rows in the new file.
    pub num_writes: Option<i64>,
    /// Number of deleted rows.
    pub num_deletes: Option<i64>,
    /// Number of updated rows.
    pub num_update_writes: Option<i64>,
    /// Size of the new file.
    pub total_write_bytes: Option<i64>,
    /// Number of rows that could not be written.
    pub total_write_errors: Option<i64>,
    /// The partition path.
    pub partition_path: Option<String>,
    /// Merge-on-read only.
    pub total_log_records: Option<i64>,
    /// Merge-on-read only.
    pub total_log_files: Option<i64>,
    /// Merge-on-read only.
    pub total_updated_records_compacted: Option<i64>,
    /// Number of inserted rows.
    pub num_inserts: Option<i64>,
    /// Merge-on-read only.
    pub total_log_blocks: Option<i64>,
    /// Merge-on-read only.
    pub total_corrupt_log_block: Option<i64>,
    /// Merge-on-read only.
    pub total_rollback_blocks: Option<i64>,
    /// Size of the new file.
    pub file_size_in_bytes: Option<i64>,
}

impl ArchivedEntry {
    /// Creates the entry for a timeline file with this content, which was written at `modified`.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if the content does not match the file's name. The caller knows the name.
    pub fn read(
        instant: Instant,
        action: Action,
        state: State,
        content: &[u8],
        modified: Instant,
    ) -> Result<Self> {
        let mut entry = Self {
            commit_time: Some(instant.to_string()),
            action_type: Some(action.as_str().to_owned()),
            action_state: Some(state.as_str().to_owned()),
            state_transition_time: Some(modified.to_string()),
            ..Self::default()
        };
        match (action, state) {
            (Action::Commit, _) => entry.hoodie_commit_metadata = Some(commit(content)?),
            (Action::ReplaceCommit, State::Completed) => {
                entry.hoodie_replace_commit_metadata = Some(commit(content)?)
            }
            (Action::ReplaceCommit, State::Inflight) if !content.is_empty() => {
                entry.hoodie_inflight_replace_metadata = Some(commit(content)?)
            }
            (Action::ReplaceCommit, State::Requested) => {
                entry.hoodie_requested_replace_metadata = optional(content, RequestedReplace::decode)?
            }
            (Action::Clean, State::Completed) => {
                entry.hoodie_clean_metadata = optional(content, CleanMetadata::decode)?
            }
            (Action::Clean, _) => entry.hoodie_cleaner_plan = optional(content, CleanPlan::decode)?,
            (Action::Rollback, State::Completed) => {
                entry.hoodie_rollback_metadata = optional(content, RollbackMetadata::decode)?;
            }
            (Action::Savepoint, State::Completed) => {
                entry.hoodie_save_point_metadata = optional(content, SavepointMetadata::decode)?;
            }
            _ => {}
        }
        Ok(entry)
    }
}

/// Converts the JSON of a commit. As in Hudi, an empty file, such as a requested one, gives an entry too.
fn commit<T: DeserializeOwned>(content: &[u8]) -> Result<T> {
    let corrupt = |e: serde_json::Error| Error::new(ErrorKind::Corrupt, "commit is not valid").with_source(e);
    let mut json: Value = if content.is_empty() {
        json!({ "partitionToWriteStats": {}, "operationType": "UNKNOWN" })
    } else {
        serde_json::from_slice(content).map_err(corrupt)?
    };
    if let Some(json) = json.as_object_mut() {
        let texts = json.entry("extraMetadata").or_insert_with(|| json!({}));
        if let Some(texts) = texts.as_object_mut() {
            // Avro's map cannot hold null.
            texts.retain(|_, text| !text.is_null());
            texts.insert("ROLLING_STAT".to_owned(), json!(""));
        }
    }
    serde_json::from_value(json).map_err(corrupt)
}

/// Newer releases leave inflight files empty, and a writer that died may leave any file empty.
fn optional<T>(content: &[u8], decode: impl Fn(&[u8]) -> Result<T>) -> Result<Option<T>> {
    if content.is_empty() { Ok(None) } else { decode(content).map(Some) }
}
