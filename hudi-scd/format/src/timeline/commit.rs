//! [`CommitMetadata`]: the content of a `.commit` file, with every field that Java writes: JSON, from table
//! version 8 on Avro.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Instant, avro::ocf};
use crate::{Error, ErrorKind, Result};

/// The metadata of a commit, as stored in its timeline file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct CommitMetadata {
    /// The written files, by partition path.
    pub partition_to_write_stats: BTreeMap<String, Vec<WriteStat>>,
    /// `true` if the commit is a compaction.
    pub compacted: bool,
    /// Free-form entries, including [`CommitMetadata::schema`]. A value may be null.
    pub extra_metadata: BTreeMap<String, Option<String>>,
    /// `UPSERT`, `INSERT`, `DELETE` and so on.
    pub operation_type: Option<String>,
    /// The file groups that this commit replaced, by partition path. Only replacecommits have them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub partition_to_replace_file_ids: BTreeMap<String, Vec<String>>,
}

/// The changes of a commit to one file group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct WriteStat {
    /// The file group. Empty in the inserts of an inflight commit.
    pub file_id: String,
    /// The new base file, relative to the table.
    pub path: Option<String>,
    pub(crate) cdc_stats: Option<serde_json::Value>,
    /// The instant of the previous version, or the string `null` for a new file group.
    pub prev_commit: Option<String>,
    /// Number of rows in the new file.
    pub num_writes: i64,
    /// Number of deleted rows, including those that moved to another partition.
    pub num_deletes: i64,
    /// Number of updated rows.
    pub num_update_writes: i64,
    /// Number of inserted rows, including those that moved here.
    pub num_inserts: i64,
    /// Size of the new file.
    pub total_write_bytes: i64,
    pub(crate) total_write_errors: i64,
    pub(crate) temp_path: Option<String>,
    /// The partition path.
    pub partition_path: Option<String>,
    pub(crate) total_log_records: i64,
    pub(crate) total_log_files_compacted: i64,
    pub(crate) total_log_size_compacted: i64,
    pub(crate) total_updated_records_compacted: i64,
    pub(crate) total_log_blocks: i64,
    pub(crate) total_corrupt_log_block: i64,
    pub(crate) total_rollback_blocks: i64,
    /// Size of the new file.
    pub file_size_in_bytes: i64,
    pub(crate) min_event_time: Option<i64>,
    pub(crate) max_event_time: Option<i64>,
    /// The duration of the write.
    pub runtime_stats: Option<RuntimeStats>,
}

/// Milliseconds taken to write one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct RuntimeStats {
    total_scan_time: i64,
    /// Milliseconds taken to merge rows into an existing group.
    pub total_upsert_time: i64,
    /// Milliseconds taken to write a new group.
    pub total_create_time: i64,
}

/// The previous version of a new file group. Java writes this string, not a JSON null.
const NO_COMMIT: &str = "null";

impl Default for WriteStat {
    fn default() -> Self {
        Self {
            file_id: String::new(),
            path: None,
            cdc_stats: None,
            prev_commit: Some(NO_COMMIT.to_owned()),
            num_writes: 0,
            num_deletes: 0,
            num_update_writes: 0,
            num_inserts: 0,
            total_write_bytes: 0,
            total_write_errors: 0,
            temp_path: None,
            partition_path: None,
            total_log_records: 0,
            total_log_files_compacted: 0,
            total_log_size_compacted: 0,
            total_updated_records_compacted: 0,
            total_log_blocks: 0,
            total_corrupt_log_block: 0,
            total_rollback_blocks: 0,
            file_size_in_bytes: 0,
            min_event_time: None,
            max_event_time: None,
            runtime_stats: None,
        }
    }
}

impl WriteStat {
    /// Returns the instant of the previous version, if there is one.
    pub fn previous(&self) -> Option<Instant> {
        self.prev_commit.as_deref()?.parse().ok()
    }

    /// Sets the commit that wrote the previous version of this file.
    pub fn with_previous(mut self, previous: Option<Instant>) -> Self {
        self.prev_commit = Some(previous.map_or_else(|| NO_COMMIT.to_owned(), |instant| instant.to_string()));
        self
    }

    /// Records the duration of writing the file: a new file group if `created`, otherwise an existing one.
    pub fn with_runtime(mut self, millis: i64, created: bool) -> Self {
        let (total_create_time, total_upsert_time) = if created { (millis, 0) } else { (0, millis) };
        self.runtime_stats = Some(RuntimeStats { total_scan_time: 0, total_upsert_time, total_create_time });
        self
    }
}

impl CommitMetadata {
    const SCHEMA: &'static str = "schema";
    /// Hudi's `SerDeHelper.LATEST_SCHEMA`.
    const NUMBERED_SCHEMA: &'static str = "latest_schema";

    /// Returns the Avro schema of the data columns, as JSON.
    pub fn schema(&self) -> Option<&str> {
        self.extra_metadata.get(Self::SCHEMA)?.as_deref().filter(|schema| !schema.is_empty())
    }

    /// Returns `true` if columns are identified by number, because columns of the table were renamed or
    /// dropped under `hoodie.schema.on.read.enable`. Its base files keep the old names.
    pub fn numbers_columns(&self) -> bool {
        let numbered = self.extra_metadata.get(Self::NUMBERED_SCHEMA).and_then(Option::as_deref);
        numbered.is_some_and(|schema| !schema.is_empty())
    }

    /// Records the table's Avro schema.
    pub fn with_schema(mut self, schema: String) -> Self {
        self.extra_metadata.insert(Self::SCHEMA.to_owned(), Some(schema));
        self
    }

    /// Returns the statistics of all file groups.
    pub fn stats(&self) -> impl Iterator<Item = &WriteStat> {
        self.partition_to_write_stats.values().flatten()
    }

    /// Parses the content of `file`. Errors name `file`. A commit of an old writer may be empty.
    pub fn parse(bytes: &[u8], file: impl std::fmt::Display) -> Result<Self> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        if ocf::is_container(bytes) {
            let found = ocf::decode_as_json(bytes).and_then(|record| {
                serde_json::from_value(record).map_err(|cause| {
                    Error::new(ErrorKind::Corrupt, "the metadata of a commit is not a valid Avro record")
                        .with_source(cause)
                })
            });
            return found.map_err(|error| error.with_context("file", file));
        }
        serde_json::from_slice(bytes).map_err(|cause| {
            Error::new(ErrorKind::Corrupt, "the metadata of a commit is not valid JSON")
                .with_context("file", file)
                .with_source(cause)
        })
    }

    /// Encodes the metadata in its stored form.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self).map_err(|cause| {
            Error::new(ErrorKind::InvalidInput, "the metadata of a commit cannot be written")
                .with_source(cause)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_fields_of_java_in_its_order() {
        let stat = WriteStat {
            file_id: "f-0".to_owned(),
            path: Some("f-0_0-1-1_20260101000000000.parquet".to_owned()),
            num_writes: 22,
            num_inserts: 3,
            partition_path: Some(String::new()),
            ..WriteStat::default()
        };
        let stat = stat.with_runtime(7, true);
        let metadata = CommitMetadata {
            partition_to_write_stats: BTreeMap::from([(String::new(), vec![stat])]),
            operation_type: Some("UPSERT".to_owned()),
            ..CommitMetadata::default()
        };
        let json = String::from_utf8(metadata.with_schema("{}".to_owned()).to_json().unwrap()).unwrap();
        let keys: Vec<&str> =
            json.lines().filter_map(|line| line.trim().strip_prefix('"')?.split('"').next()).collect();
        let expected = "partitionToWriteStats||fileId|path|cdcStats|prevCommit|numWrites|numDeletes|numUpdateWrites|numInserts|\
            totalWriteBytes|totalWriteErrors|tempPath|partitionPath|totalLogRecords|totalLogFilesCompacted|\
            totalLogSizeCompacted|totalUpdatedRecordsCompacted|totalLogBlocks|totalCorruptLogBlock|totalRollbackBlocks|\
            fileSizeInBytes|minEventTime|maxEventTime|runtimeStats|totalScanTime|totalUpsertTime|totalCreateTime|\
            compacted|extraMetadata|schema|operationType";
        assert_eq!(keys.join("|"), expected);
        assert!(
            json.contains(r#""prevCommit": "null""#),
            "a new file group's previous commit is the word null"
        );
        let again = CommitMetadata::parse(json.as_bytes(), "x").unwrap();
        assert_eq!(again.schema(), Some("{}"));
        assert_eq!(again.stats().next().unwrap().previous(), None);
    }
}
