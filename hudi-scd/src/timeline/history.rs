//! The archived timeline of layout 2: Parquet files in `.hoodie/timeline/history/`, with one row per action.
//!
//! ```text
//! _version_                       the number of the newest manifest, as text
//! manifest_{n}                    JSON: the valid files
//! {min}_{max}_{level}.parquet     instantTime, completionTime, action, metadata, plan, version
//! ```
//!
//! Each archival writes a new manifest and then replaces `_version_`: it deletes the file, and writes it
//! again. A reader that finds no number there uses the manifest with the highest number. The files of the last
//! three manifests are kept, so a reader that finds a file missing was slow, and begins again.

use arrow::array::{Array, AsArray};
use bytes::Bytes;
use object_store::{ObjectStore, path::Path};
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
    let Some(number) = newest_manifest(store, &folder).await? else { return Ok(Vec::new()) };
    match load_manifest(store, &folder, number).await {
        Err(error) if error.kind() == ErrorKind::NotFound => match newest_manifest(store, &folder).await? {
            Some(newer) if newer != number => load_manifest(store, &folder, newer).await,
            _ => Err(error),
        },
        loaded => loaded,
    }
}

/// Returns the number of the newest manifest. Returns `None` if there is no manifest.
async fn newest_manifest(store: &dyn ObjectStore, folder: &Path) -> Result<Option<u64>> {
    let version = storage::read_if_exists(store, &folder.clone().join(VERSION)).await?;
    if let Some(number) = version.and_then(|bytes| parse_version(&bytes)) {
        return Ok(Some(number));
    }
    let listed = storage::list_folder(store, folder).await?;
    let numbers = listed.objects.iter().filter_map(|object| manifest_number(object.location.filename()?));
    Ok(numbers.max())
}

/// Reads the archived actions that a manifest lists, oldest first.
async fn load_manifest(store: &dyn ObjectStore, folder: &Path, number: u64) -> Result<Vec<Archived>> {
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

/// Parses the number of the newest manifest. Returns `None` if the file is empty or broken.
pub(crate) fn parse_version(bytes: &[u8]) -> Option<u64> {
    std::str::from_utf8(bytes).ok()?.trim().parse().ok()
}

/// Returns the number of the manifest with this name. Returns `None` for other names.
fn manifest_number(name: &str) -> Option<u64> {
    name.strip_prefix(MANIFEST)?.parse().ok()
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
        assert_eq!(parse_version(b"12\n"), Some(12));
        assert_eq!((parse_version(b""), parse_version(b"1\0")), (None, None));
        assert_eq!((manifest_number("manifest_12"), manifest_number("manifest_x")), (Some(12), None));
        assert_eq!(decode(Bytes::from_static(b"PAR1")).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
