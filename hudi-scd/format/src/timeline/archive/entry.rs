//! [`ArchivedEntry`]: a file of the timeline as the archive keeps it.

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

/// A file of the timeline in the archive: one for each state of an action. What it said is in the field for its kind;
/// other kinds, which tables of this version do not write, are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "HoodieArchivedMetaEntry", rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct ArchivedEntry {
    /// What a commit did.
    pub hoodie_commit_metadata: Option<ArchivedCommit>,
    /// What a clean did.
    pub hoodie_clean_metadata: Option<CleanMetadata>,
    /// What a rollback did.
    pub hoodie_rollback_metadata: Option<RollbackMetadata>,
    /// What a savepoint protects.
    pub hoodie_save_point_metadata: Option<SavepointMetadata>,
    /// The instant.
    pub commit_time: Option<String>,
    /// `commit`, `clean`, ...
    pub action_type: Option<String>,
    /// The version of the record: 1.
    pub version: Option<i32>,
    /// What a clean was going to do.
    pub hoodie_cleaner_plan: Option<CleanPlan>,
    /// `REQUESTED`, `INFLIGHT` or `COMPLETED`.
    pub action_state: Option<String>,
    /// What a replacecommit did.
    pub hoodie_replace_commit_metadata: Option<ArchivedReplaceCommit>,
    /// What a replacecommit was going to do.
    pub hoodie_requested_replace_metadata: Option<RequestedReplace>,
    /// What a replacecommit had begun to do.
    #[serde(rename = "HoodieInflightReplaceMetadata")]
    pub hoodie_inflight_replace_metadata: Option<ArchivedCommit>,
    /// When the file was written, in the form of an instant.
    pub state_transition_time: Option<String>,
}

/// What a commit did, in the archive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "HoodieCommitMetadata", rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct ArchivedCommit {
    /// What was written, by partition path.
    pub partition_to_write_stats: Option<BTreeMap<String, Vec<ArchivedWriteStat>>>,
    /// Free texts, the schema among them.
    pub extra_metadata: Option<BTreeMap<String, String>>,
    /// The version of the record: 1.
    pub version: Option<i32>,
    /// `UPSERT`, `INSERT`, `DELETE` and so on.
    pub operation_type: Option<String>,
}

/// What a replacecommit did, in the archive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "HoodieReplaceCommitMetadata", rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct ArchivedReplaceCommit {
    /// What was written, by partition path.
    pub partition_to_write_stats: Option<BTreeMap<String, Vec<ArchivedWriteStat>>>,
    /// Free texts, the schema among them.
    pub extra_metadata: Option<BTreeMap<String, String>>,
    /// The version of the record: 1.
    pub version: Option<i32>,
    /// `INSERT_OVERWRITE`, `CLUSTER` and so on.
    pub operation_type: Option<String>,
    /// The file groups that were replaced, by partition path.
    pub partition_to_replace_file_ids: Option<BTreeMap<String, Vec<String>>>,
}

/// What a commit did to one file group, in the archive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "HoodieWriteStat", rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct ArchivedWriteStat {
    /// The file group.
    pub file_id: Option<String>,
    /// The new base file, relative to the table.
    pub path: Option<String>,
    /// The instant of the version before, or the text `null`.
    pub prev_commit: Option<String>,
    /// Rows in the new file.
    pub num_writes: Option<i64>,
    /// Stored rows that are gone.
    pub num_deletes: Option<i64>,
    /// Stored rows that were replaced.
    pub num_update_writes: Option<i64>,
    /// Size of the new file.
    pub total_write_bytes: Option<i64>,
    /// Rows that could not be written.
    pub total_write_errors: Option<i64>,
    /// The partition path.
    pub partition_path: Option<String>,
    /// Of merge-on-read, as the next three and the three before the size.
    pub total_log_records: Option<i64>,
    /// See above.
    pub total_log_files: Option<i64>,
    /// See above.
    pub total_updated_records_compacted: Option<i64>,
    /// New rows.
    pub num_inserts: Option<i64>,
    /// See above.
    pub total_log_blocks: Option<i64>,
    /// See above.
    pub total_corrupt_log_block: Option<i64>,
    /// See above.
    pub total_rollback_blocks: Option<i64>,
    /// Size of the new file.
    pub file_size_in_bytes: Option<i64>,
}

impl ArchivedEntry {
    /// The entry for a file of the timeline with this content, written at `modified`.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if the content is not what the file's name says; the caller knows the name.
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

/// From the JSON of a commit; a file that is empty, as a requested one, makes what Hudi makes of it.
fn commit<T: DeserializeOwned>(content: &[u8]) -> Result<T> {
    let corrupt = |e: serde_json::Error| {
        Error::new(ErrorKind::Corrupt, "commit is not what it should be").with_source(e)
    };
    let mut json: Value = if content.is_empty() {
        json!({ "partitionToWriteStats": {}, "operationType": "UNKNOWN" })
    } else {
        serde_json::from_slice(content).map_err(corrupt)?
    };
    if let Some(json) = json.as_object_mut() {
        let texts = json.entry("extraMetadata").or_insert_with(|| json!({}));
        if let Some(texts) = texts.as_object_mut() {
            // Avro's map has no place for null.
            texts.retain(|_, text| !text.is_null());
            texts.insert("ROLLING_STAT".to_owned(), json!(""));
        }
    }
    serde_json::from_value(json).map_err(corrupt)
}

/// Newer releases leave inflight files empty; a writer that died may leave any file so.
fn optional<T>(content: &[u8], decode: impl Fn(&[u8]) -> Result<T>) -> Result<Option<T>> {
    if content.is_empty() { Ok(None) } else { decode(content).map(Some) }
}
