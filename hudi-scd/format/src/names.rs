//! All file names of the format.
//!
//! ```text
//! hoodie.properties, {ts}.commit.requested, {ts}.inflight, {ts}.commit ...   under .hoodie/
//! .temp/{ts}/{partition}/{file}.marker.CREATE                                under .hoodie/
//! timeline/{ts}_{completion time}.commit ...                                 under .hoodie/, from table version 8 on
//! {partition}/.hoodie_partition_metadata
//! {partition}/{file id}_{write token}_{ts}.parquet
//! ```

use crate::timeline::{
    action::{Action, State},
    instant::Instant,
};

/// The file that marks a directory as a partition.
pub const PARTITION_METADATA: &str = ".hoodie_partition_metadata";
/// The folder for all files other than data.
pub const META_FOLDER: &str = ".hoodie";
/// The folder in [`META_FOLDER`] for the markers of unfinished writes.
pub const TEMP_FOLDER: &str = ".temp";
/// The folder in [`META_FOLDER`] that engines use for their own files.
pub const AUXILIARY_FOLDER: &str = ".aux";
/// The folder in [`META_FOLDER`] for the index of a bootstrap that left the data columns in the files that it
/// made the table from.
pub const BOOTSTRAP_FOLDER: &str = ".aux/.bootstrap";
/// The folder in [`META_FOLDER`] where this crate stores the keys that a commit deleted, hidden rows, and
/// ledgers. Other engines ignore it.
pub const TOMBSTONE_FOLDER: &str = ".aux/tombstones";
/// The folder in [`META_FOLDER`] for the heartbeats of Hudi's writers.
pub const HEARTBEAT_FOLDER: &str = ".heartbeat";
/// The extension of base files.
pub const BASE_FILE_EXTENSION: &str = ".parquet";
/// The extension of files with deleted keys. It is not `.parquet`, because engines that list a table by that
/// extension would read the file as a base file.
pub const TOMBSTONE_EXTENSION: &str = ".tombstones";
/// The extension of files with rows that only this crate reads, in [`TOMBSTONE_FOLDER`].
pub const HIDDEN_ROWS_EXTENSION: &str = ".hidden";
/// The extension of ledgers: files in [`TOMBSTONE_FOLDER`] that list the raw files that a table took in.
pub const LEDGER_EXTENSION: &str = ".ledger";
/// The separator, in the name of a marker, between the path of the base file and the operation.
pub const MARKER: &str = ".marker.";

/// Location and naming scheme of a timeline's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TimelineLayout {
    /// Layouts 0 and 1, of table versions 0 to 6: `.hoodie/{ts}.commit`.
    #[default]
    Flat,
    /// Layout 2, of table versions 8 and 9: `.hoodie/timeline/{ts}_{completion time}.commit`.
    Folder {
        /// The folder of the active timeline, in [`META_FOLDER`].
        timeline: String,
        /// The folder of the archived timeline, in `timeline`.
        history: String,
    },
}

impl TimelineLayout {
    /// Returns layout 2 with the folders that an upgrade uses.
    pub fn upgraded() -> Self {
        Self::Folder { timeline: "timeline".to_owned(), history: "history".to_owned() }
    }
}

/// Returns `true` for the name of the file that marks a directory as a partition. With
/// `hoodie.partition.metafile.use.base.format`, it has the format of base files.
pub fn is_partition_metadata(name: &str) -> bool {
    name.strip_prefix(PARTITION_METADATA).is_some_and(|end| matches!(end, "" | BASE_FILE_EXTENSION))
}

/// Returns the path, relative to the root, of a file in a partition. An unpartitioned table has the single
/// partition `""`.
pub fn in_partition(partition: &str, name: &str) -> String {
    if partition.is_empty() { name.to_owned() } else { format!("{partition}/{name}") }
}

/// Splits a path relative to the root into the partition and the name.
pub fn split_partition(relative: &str) -> (&str, &str) {
    relative.rsplit_once('/').unwrap_or(("", relative))
}

/// Returns the name of the checksum file that Hadoop's local file system writes next to a file and verifies
/// when the file is read.
pub fn local_checksum(relative: &str) -> String {
    let (partition, name) = split_partition(relative);
    in_partition(partition, &format!(".{name}.crc"))
}

/// Returns `true` for the name of such a checksum file.
pub fn is_local_checksum(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".crc")
}

/// Returns the file that such a checksum file belongs to.
pub fn checked_file(checksum: &str) -> Option<String> {
    let (folder, name) = split_partition(checksum);
    Some(in_partition(folder, name.strip_prefix('.')?.strip_suffix(".crc")?))
}

/// Returns the timeline file that records an action's state.
///
/// An inflight commit has the irregular name `{ts}.inflight`.
pub fn instant_file_name(instant: Instant, action: Action, state: State) -> String {
    match (action, state) {
        (Action::Commit, State::Inflight) => format!("{instant}.inflight"),
        (action, State::Requested) => format!("{instant}.{action}.requested"),
        (action, State::Inflight) => format!("{instant}.{action}.inflight"),
        (action, State::Completed) => format!("{instant}.{action}"),
    }
}

/// Parses the name of a timeline file. Returns `None` for other files in `.hoodie`.
pub fn parse_instant_file_name(name: &str) -> Option<(Instant, Action, State)> {
    let (digits, rest) = name.split_once('.')?;
    let instant = digits.parse().ok()?;
    let (action, state) = match rest.split_once('.') {
        None if rest == "inflight" => (Action::Commit, State::Inflight),
        None => (Action::parse(rest)?, State::Completed),
        Some((action, "requested")) => (Action::parse(action)?, State::Requested),
        Some((action, "inflight")) => (Action::parse(action)?, State::Inflight),
        Some(_) => return None,
    };
    Some((instant, action, state))
}

/// Parses the name of an instant file of timeline layout 2. The name of a completed action is
/// `{ts}_{completion time}.{action}`. Other names have the form that [`parse_instant_file_name`] parses. A
/// clustering completes as a replacecommit, and a compaction as a commit. Each of these pairs is one action
/// here.
pub fn parse_timed_file_name(name: &str) -> Option<(Instant, Action, State, Option<Instant>)> {
    let (digits, rest) = name.split_once('.')?;
    if let Some((instant, completed)) = digits.split_once('_') {
        return Some((
            instant.parse().ok()?,
            Action::parse(rest)?,
            State::Completed,
            Some(completed.parse().ok()?),
        ));
    }
    let rest = match rest.split_once('.') {
        Some(("clustering", state)) => format!("replacecommit.{state}"),
        Some(("compaction", state)) => format!("commit.{state}"),
        Some(("logcompaction", state)) => format!("deltacommit.{state}"),
        _ => rest.to_owned(),
    };
    let (instant, action, state) = parse_instant_file_name(&format!("{digits}.{rest}"))?;
    Some((instant, action, state, None))
}

/// Returns the commit of the tombstone file with this name. Returns `None` for other names.
pub fn tombstones_of(name: &str) -> Option<Instant> {
    let stem = name.strip_suffix(TOMBSTONE_EXTENSION).or_else(|| name.strip_suffix(BASE_FILE_EXTENSION))?;
    stem.parse().ok()
}

/// Returns the commit of the file of hidden rows with this name. Returns `None` for other names.
pub fn hidden_rows_of(name: &str) -> Option<Instant> {
    name.strip_suffix(HIDDEN_ROWS_EXTENSION)?.parse().ok()
}

/// Returns the commit of the ledger with this name. Returns `None` for other names.
pub fn ledger_of(name: &str) -> Option<Instant> {
    name.strip_suffix(LEDGER_EXTENSION)?.parse().ok()
}

/// The name of a base file: file group, writing task, and commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseFileName {
    /// The file group.
    pub file_id: String,
    /// The writing task.
    pub write_token: String,
    /// The commit.
    pub instant: Instant,
}

impl BaseFileName {
    /// Parses a file name. Returns `None` if it is not the name of a base file.
    pub fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(BASE_FILE_EXTENSION)?;
        let (rest, digits) = stem.rsplit_once('_')?;
        let (file_id, write_token) = rest.rsplit_once('_')?;
        let instant = digits.parse().ok()?;
        (!file_id.is_empty()).then(|| Self {
            file_id: file_id.to_owned(),
            write_token: write_token.to_owned(),
            instant,
        })
    }
}

impl std::fmt::Display for BaseFileName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}_{}_{}{BASE_FILE_EXTENSION}", self.file_id, self.write_token, self.instant)
    }
}

/// Returns `true` for the name of a log file, which belongs to merge-on-read. A log of change data capture,
/// `.{file id}_{instant}.log.1_{token}.cdc`, contains copies of changed rows and is not part of any snapshot.
/// Neither is [its checksum](is_local_checksum).
pub fn is_log_file(name: &str) -> bool {
    let is_other = name.ends_with(".cdc") || is_local_checksum(name);
    name.starts_with('.') && name.contains(".log.") && !is_other
}

/// Returns the path of the base file, relative to the root, for the path of a marker relative to the folder
/// of its write.
pub fn marked_file(marker: &str) -> Option<&str> {
    marker.rsplit_once(MARKER).map(|(file, _)| file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeline_file_names_say_what_they_said() {
        for (name, action, state) in [
            ("20261123042633497.commit.requested", Action::Commit, State::Requested),
            ("20261123042633497.inflight", Action::Commit, State::Inflight),
            ("20261123042633497.commit", Action::Commit, State::Completed),
            ("20261123042633497.clean.requested", Action::Clean, State::Requested),
            ("20261123042633497.clean.inflight", Action::Clean, State::Inflight),
            ("20261123042633497.clean", Action::Clean, State::Completed),
            ("20261123042633497.rollback", Action::Rollback, State::Completed),
            ("20261123042633497.savepoint.inflight", Action::Savepoint, State::Inflight),
            ("20261123042633497.replacecommit", Action::ReplaceCommit, State::Completed),
        ] {
            let instant = "20261123042633497".parse().unwrap();
            assert_eq!(parse_instant_file_name(name), Some((instant, action, state)), "{name}");
            assert_eq!(instant_file_name(instant, action, state), name);
        }
        for other in ["hoodie.properties", ".temp", "archived", "20261123042633497.commit.crc", "1.commit"] {
            assert_eq!(parse_instant_file_name(other), None, "{other}");
        }
    }

    #[test]
    fn timeline_file_names_of_layout_2_say_when_an_action_completed() {
        let (instant, completed) =
            ("20261128000127163".parse().unwrap(), "20261128000133259".parse().unwrap());
        for (name, action, state, at) in [
            ("20261128000127163.commit.requested", Action::Commit, State::Requested, None),
            ("20261128000127163.inflight", Action::Commit, State::Inflight, None),
            ("20261128000127163_20261128000133259.commit", Action::Commit, State::Completed, Some(completed)),
            ("20261128000127163.clustering.requested", Action::ReplaceCommit, State::Requested, None),
            ("20261128000127163.clustering.inflight", Action::ReplaceCommit, State::Inflight, None),
            (
                "20261128000127163_20261128000133259.replacecommit",
                Action::ReplaceCommit,
                State::Completed,
                Some(completed),
            ),
            ("20261128000127163_20261128000133259.clean", Action::Clean, State::Completed, Some(completed)),
        ] {
            assert_eq!(parse_timed_file_name(name), Some((instant, action, state, at)), "{name}");
        }
        for other in [
            "history",
            "20261128000127163_.commit",
            "_20261128000133259.commit",
            "20261128000127163_20261128000133259.parquet",
            "20261128000127163_20261128000133259_0.parquet",
            "20261128000127163_20261128000133259.commit.requested",
        ] {
            assert_eq!(parse_timed_file_name(other), None, "{other}");
        }
    }

    #[test]
    fn logs_of_changes_and_checksums_are_not_log_files() {
        let log = ".a500d299-865f-44ad-b540-24db40f98230-0_20261123042633497.log.1_0-154-173";
        assert!(is_log_file(log));
        for other in [format!("{log}.cdc"), local_checksum(log), local_checksum(&format!("{log}.cdc"))] {
            assert!(!is_log_file(&other), "{other}");
        }
        assert!(!is_log_file("a500d299-865f-44ad-b540-24db40f98230-0_0-154-173_20261123042633497.parquet"));
    }

    #[test]
    fn partition_metadata_may_have_the_format_of_base_files() {
        for (name, is) in [
            (".hoodie_partition_metadata", true),
            (".hoodie_partition_metadata.parquet", true),
            (".hoodie_partition_metadata.crc", false),
            ("hoodie_partition_metadata", false),
        ] {
            assert_eq!(is_partition_metadata(name), is, "{name}");
            assert_eq!(BaseFileName::parse(name), None);
        }
    }

    #[test]
    fn base_file_names_round_trip() {
        let name = "a500d299-865f-44ad-b540-24db40f98230-0_0-154-173_20261123042633497.parquet";
        let parsed = BaseFileName::parse(name).unwrap();
        assert_eq!(parsed.file_id, "a500d299-865f-44ad-b540-24db40f98230-0");
        assert_eq!(parsed.write_token, "0-154-173");
        assert_eq!(parsed.to_string(), name);
        for other in ["x.parquet", ".hoodie_partition_metadata", "a_b_c.parquet", "a_b_20261123042633497.orc"]
        {
            assert_eq!(BaseFileName::parse(other), None, "{other}");
        }
    }
}
