//! Every file name of the format.
//!
//! ```text
//! hoodie.properties, {ts}.commit.requested, {ts}.inflight, {ts}.commit ...   under .hoodie/
//! .temp/{ts}/{partition}/{file}.marker.CREATE                                under .hoodie/
//! timeline/{ts}_{completion time}.commit ...                                 under .hoodie/, from table version 8 on
//! {partition}/.hoodie_partition_metadata
//! {partition}/{file id}_{write token}_{ts}.parquet
//! ```

use crate::timeline::{Action, Instant, State};

/// The file that marks a directory as a partition.
pub const PARTITION_METADATA: &str = ".hoodie_partition_metadata";
/// The folder of all files other than data.
pub const META_FOLDER: &str = ".hoodie";
/// The folder under [`META_FOLDER`] with the markers of unfinished writes.
pub const TEMP_FOLDER: &str = ".temp";
/// The folder under [`META_FOLDER`] that engines use for files of their own.
pub const AUXILIARY_FOLDER: &str = ".aux";
/// The folder under [`META_FOLDER`] in which this crate stores the keys deleted by a commit, hidden rows, and
/// ledgers; other engines ignore it.
pub const TOMBSTONE_FOLDER: &str = ".aux/tombstones";
/// The folder under [`META_FOLDER`] with the heartbeats of Hudi's writers.
pub const HEARTBEAT_FOLDER: &str = ".heartbeat";
/// The extension of base files.
pub const BASE_FILE_EXTENSION: &str = ".parquet";
/// It is not `.parquet`, because engines that list a table by that extension would read the file as a base
/// file.
pub const TOMBSTONE_EXTENSION: &str = ".tombstones";
/// The extension of files with rows that only this crate reads, in the [`TOMBSTONE_FOLDER`].
pub const HIDDEN_ROWS_EXTENSION: &str = ".hidden";
/// The extension of files with the names of the raw files that a table took in, in the [`TOMBSTONE_FOLDER`].
pub const LEDGER_EXTENSION: &str = ".ledger";
/// The separator between the path of a base file and the operation, in the name of its marker.
pub const MARKER: &str = ".marker.";

/// The location of the timeline's files, and their naming scheme.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TimelineLayout {
    /// Layouts 0 and 1, of table versions 0 to 6: `.hoodie/{ts}.commit`.
    #[default]
    Flat,
    /// Layout 2, of table versions 8 and 9: `.hoodie/timeline/{ts}_{completion time}.commit`.
    Folder {
        /// The folder of the active timeline, below [`META_FOLDER`].
        timeline: String,
        /// The folder of the archived timeline, below `timeline`.
        history: String,
    },
}

impl TimelineLayout {
    /// Returns layout 2 with the folders that an upgrade chooses.
    pub fn upgraded() -> Self {
        Self::Folder { timeline: "timeline".to_owned(), history: "history".to_owned() }
    }
}

/// Returns the path, below the root, of a file in a partition; an unpartitioned table has the one partition
/// `""`.
pub fn in_partition(partition: &str, name: &str) -> String {
    if partition.is_empty() { name.to_owned() } else { format!("{partition}/{name}") }
}

/// Splits a path below the root into partition and name.
pub fn split_partition(relative: &str) -> (&str, &str) {
    relative.rsplit_once('/').unwrap_or(("", relative))
}

/// Returns the name of the checksum file that Hadoop's local file system writes beside a file and verifies on
/// reads.
pub fn local_checksum(relative: &str) -> String {
    let (partition, name) = split_partition(relative);
    in_partition(partition, &format!(".{name}.crc"))
}

/// Returns `true` for the name of such a checksum file.
pub fn is_local_checksum(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".crc")
}

/// Returns the file that such a checksum belongs to.
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

/// Parses the name of a timeline file; `None` for other files in `.hoodie`.
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

/// Parses like [`parse_instant_file_name`], under timeline layout 2: `{ts}_{completion time}.{action}` is a
/// completed action. A clustering completes as a replacecommit and a compaction as a commit, so each pair is
/// one action here.
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

/// Returns the commit of a tombstone file with this name, if it is one.
pub fn tombstones_of(name: &str) -> Option<Instant> {
    let stem = name.strip_suffix(TOMBSTONE_EXTENSION).or_else(|| name.strip_suffix(BASE_FILE_EXTENSION))?;
    stem.parse().ok()
}

/// Returns the commit of a file of hidden rows with this name, if it is one.
pub fn hidden_rows_of(name: &str) -> Option<Instant> {
    name.strip_suffix(HIDDEN_ROWS_EXTENSION)?.parse().ok()
}

/// Returns the commit of a ledger with this name, if it is one.
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
    /// Parses a file name; `None` if it is not that of a base file.
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

/// Returns `true` for the name of a log file, which belongs to merge-on-read.
pub fn is_log_file(name: &str) -> bool {
    name.starts_with('.') && name.contains(".log.")
}

/// Returns the base file, below the root, of a marker, below its write's folder.
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
