//! The archived timeline of layout 2: Parquet files in `.hoodie/timeline/history/`, with one row per action.
//!
//! ```text
//! _version_                       the number of the newest manifest, as text
//! manifest_{n}                    JSON: the valid files
//! {min}_{max}_{level}.parquet     instantTime, completionTime, action, metadata, plan, version
//! ```
//!
//! When small files are merged, a new manifest is written. A reader uses the newest manifest, or the previous
//! one if files of the newest are missing.

use arrow::array::{Array, AsArray};
use bytes::Bytes;
use object_store::ObjectStore;
use parquet::arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder};
use serde::Deserialize;

use crate::{Error, ErrorKind, Result, layout::Layout, storage};
use hudi_format::timeline::{Action, Instant, State, archive::ArchivedEntry};

/// The file that contains the number of the newest manifest.
const VERSION: &str = "_version_";
const MANIFEST: &str = "manifest_";

/// An archived action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Archived {
    pub(crate) instant: Instant,
    pub(crate) completed_at: Option<Instant>,
    /// `None` for an action that this crate does not know.
    pub(crate) action: Option<Action>,
}

impl Archived {
    /// Converts the action to an entry of the other archive.
    pub(crate) fn to_entry(self) -> ArchivedEntry {
        let mut entry = ArchivedEntry::default();
        entry.commit_time = Some(self.instant.to_string());
        entry.action_type = self.action.map(|action| action.as_str().to_owned());
        entry.action_state = Some(State::Completed.as_str().to_owned());
        entry.state_transition_time = self.completed_at.map(|time| time.to_string());
        entry
    }
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    files: Vec<File>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    file_name: String,
}

/// Reads the archived actions of a table, oldest first. Empty if it has no archive of this kind.
pub(crate) async fn load(store: &dyn ObjectStore, table: &Layout) -> Result<Vec<Archived>> {
    let Some(folder) = table.history_folder()? else { return Ok(Vec::new()) };
    let version = folder.clone().join(VERSION);
    let Some(bytes) = storage::read_if_exists(store, &version).await? else { return Ok(Vec::new()) };
    let number = parse_version(&bytes).map_err(|error| error.with_context("file", &version))?;
    let manifest = folder.clone().join(format!("{MANIFEST}{number}"));
    let bytes = storage::read(store, &manifest).await?;
    let files = parse_manifest(&bytes).map_err(|error| error.with_context("file", &manifest))?;
    let mut entries = Vec::new();
    for name in files {
        let file = folder.clone().join(name);
        let bytes = storage::read(store, &file).await?;
        entries.extend(decode(bytes).map_err(|error| error.with_context("file", &file))?);
    }
    entries.sort_by_key(|entry| entry.instant);
    entries.dedup();
    Ok(entries)
}

/// Parses the number of the newest manifest.
pub(crate) fn parse_version(bytes: &[u8]) -> Result<u64> {
    let number = std::str::from_utf8(bytes).ok().and_then(|text| text.trim().parse().ok());
    number.ok_or_else(|| corrupt("the version of the archived timeline is not a number"))
}

/// Parses the names of a manifest's files.
pub(crate) fn parse_manifest(bytes: &[u8]) -> Result<Vec<String>> {
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|cause| {
        corrupt("the manifest of the archived timeline is not valid JSON").with_source(cause)
    })?;
    let names = manifest.files.into_iter().map(|file| file.file_name);
    names
        .map(|name| match name.is_empty() || name.contains('/') {
            true => {
                Err(corrupt("the manifest of the archived timeline names no file").with_context("name", name))
            }
            false => Ok(name),
        })
        .collect()
}

/// Decodes the actions in a file of the archived timeline.
pub(crate) fn decode(file: Bytes) -> Result<Vec<Archived>> {
    let broken = || corrupt("a file of the archived timeline is broken");
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(file).map_err(|cause| broken().with_source(cause))?;
    // The other columns, metadata and plans, make up most of the file.
    let columns = ["instantTime", "completionTime", "action"];
    let mask = ProjectionMask::columns(reader.parquet_schema(), columns);
    let reader = reader.with_projection(mask).build().map_err(|cause| broken().with_source(cause))?;
    let mut entries = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|cause| broken().with_source(cause))?;
        let column = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        let [Some(instants), completions, Some(actions)] = columns.map(column) else {
            return Err(broken());
        };
        for row in 0..batch.num_rows() {
            if instants.is_null(row) || actions.is_null(row) {
                return Err(broken());
            }
            let completed = completions.filter(|times| times.is_valid(row)).map(|times| times.value(row));
            entries.push(Archived {
                instant: instants.value(row).parse().map_err(|error| broken().with_source(error))?,
                completed_at: completed.and_then(|time| time.parse().ok()),
                action: Action::parse(actions.value(row)),
            });
        }
    }
    Ok(entries)
}

fn corrupt(message: &str) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_names_files_and_nothing_else() {
        let json = br#"{"files" : [ { "fileName" : "1_2_0.parquet", "fileLen" : 3195 } ]}"#;
        assert_eq!(parse_manifest(json).unwrap(), ["1_2_0.parquet"]);
        for broken in [&b""[..], b"3", br#"{"files":[{"fileName":"../x"}]}"#, br#"{"files":[{}]}"#] {
            assert_eq!(parse_manifest(broken).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        assert_eq!(parse_version(b"12\n").unwrap(), 12);
        assert_eq!(parse_version(b"").unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(decode(Bytes::from_static(b"PAR1")).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
