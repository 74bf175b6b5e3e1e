//! Every path and file name of the format, in one place.
//!
//! ```text
//! hoodie.properties, {ts}.commit.requested, {ts}.inflight, {ts}.commit ...   under .hoodie/
//! .temp/{ts}/{partition}/{file}.marker.CREATE                                under .hoodie/
//! timeline/{ts}_{completion time}.commit ...                                 under .hoodie/, from table version 8 on
//! {partition}/.hoodie_partition_metadata
//! {partition}/{file id}_{write token}_{ts}.parquet
//! ```

use object_store::path::Path;

use crate::{
    Error, ErrorKind, Result,
    timeline::{Action, Instant, State, TimelineEntry},
};

/// The file in each partition that says it is one.
pub(crate) const PARTITION_METADATA: &str = ".hoodie_partition_metadata";
/// The folder of all that is not data.
pub(crate) const META_FOLDER: &str = ".hoodie";
/// The folder under [`META_FOLDER`] of the markers of unfinished writes.
const TEMP_FOLDER: &str = ".temp";
/// The folder under [`META_FOLDER`] where this crate keeps which keys a commit deleted; other engines ignore it.
const TOMBSTONE_FOLDER: &str = ".aux/tombstones";
/// The folder under [`META_FOLDER`] of the heartbeats of Hudi's writers.
const HEARTBEAT_FOLDER: &str = ".heartbeat";
const BASE_FILE_EXTENSION: &str = ".parquet";
/// Not `.parquet`: engines that list a table by that ending would take the file for a base file.
const TOMBSTONE_EXTENSION: &str = ".tombstones";
const MARKER: &str = ".marker.";

/// Where the files of one table are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    root: Path,
    timeline: TimelineLayout,
}

/// Where the files of the timeline are, and how they are named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum TimelineLayout {
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
    /// Layout 2 with the folders that an upgrade chooses.
    pub(crate) fn upgraded() -> Self {
        Self::Folder { timeline: "timeline".to_owned(), history: "history".to_owned() }
    }
}

impl Layout {
    pub(crate) fn new(root: Path) -> Self {
        Self { root, timeline: TimelineLayout::Flat }
    }

    pub(crate) fn with_timeline(self, timeline: TimelineLayout) -> Self {
        Self { timeline, ..self }
    }

    pub(crate) fn timeline(&self) -> &TimelineLayout {
        &self.timeline
    }

    /// The folder of the active timeline.
    pub(crate) fn timeline_folder(&self) -> Result<Path> {
        match &self.timeline {
            TimelineLayout::Flat => self.meta_folder(),
            TimelineLayout::Folder { timeline, .. } => self.resolve(&format!("{META_FOLDER}/{timeline}")),
        }
    }

    /// The folder of the archived timeline of layout 2; the archive of layout 1 is another format.
    pub(crate) fn history_folder(&self) -> Result<Option<Path>> {
        match &self.timeline {
            TimelineLayout::Flat => Ok(None),
            TimelineLayout::Folder { timeline, history } => {
                self.resolve(&format!("{META_FOLDER}/{timeline}/{history}")).map(Some)
            }
        }
    }

    /// The file of an action that was found on the timeline.
    pub(crate) fn entry_file(&self, entry: &TimelineEntry, state: State) -> Result<Path> {
        let (instant, action) = (entry.instant, entry.action);
        match (&self.timeline, entry.completed_at()) {
            (TimelineLayout::Folder { timeline, .. }, Some(completed)) if state == State::Completed => {
                self.resolve(&format!("{META_FOLDER}/{timeline}/{instant}_{completed}.{action}"))
            }
            _ => self.instant_file(instant, action, state),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path below the root, taken as it is: a partition path may already be URL encoded, and `Path::child`
    /// would encode its `%` again.
    pub(crate) fn resolve(&self, relative: &str) -> Result<Path> {
        let text = match (self.root.as_ref(), relative) {
            (root, "") => root.to_owned(),
            ("", relative) => relative.to_owned(),
            (root, relative) => format!("{root}/{relative}"),
        };
        Path::parse(&text).map_err(|cause| {
            Error::new(ErrorKind::InvalidInput, "not a path that can be stored")
                .with_context("path", relative)
                .with_source(cause)
        })
    }

    /// The part of a path below the root.
    pub(crate) fn relative<'a>(&self, path: &'a Path) -> &'a str {
        let text = path.as_ref();
        text.strip_prefix(self.root.as_ref()).map_or(text, |rest| rest.strip_prefix('/').unwrap_or(rest))
    }

    pub(crate) fn meta_folder(&self) -> Result<Path> {
        self.resolve(META_FOLDER)
    }

    pub(crate) fn properties(&self) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/hoodie.properties"))
    }

    /// The copy that Java makes before it replaces the file.
    pub(crate) fn properties_backup(&self) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/hoodie.properties.backup"))
    }

    /// Our own properties of a table. Spark's `CREATE TABLE … USING hudi LOCATION` writes `hoodie.properties` anew, without
    /// those that it does not know; this file it leaves alone.
    pub(crate) fn own_properties(&self) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/.aux/hudi_scd.properties"))
    }

    pub(crate) fn instant_file(&self, instant: Instant, action: Action, state: State) -> Result<Path> {
        let name = instant_file_name(instant, action, state);
        match &self.timeline {
            TimelineLayout::Flat => self.resolve(&format!("{META_FOLDER}/{name}")),
            TimelineLayout::Folder { timeline, .. } => {
                self.resolve(&format!("{META_FOLDER}/{timeline}/{name}"))
            }
        }
    }

    /// The folder of all writes' markers.
    pub(crate) fn temp_folder(&self) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/{TEMP_FOLDER}"))
    }

    /// The folder of the archive, whose name the table says.
    pub(crate) fn archive_folder(&self, name: &str) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/{name}"))
    }

    /// The folder of a write's markers.
    pub(crate) fn marker_folder(&self, instant: Instant) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/{TEMP_FOLDER}/{instant}"))
    }

    /// The marker of a base file, given by its path below the root; `operation` is CREATE or MERGE.
    pub(crate) fn marker(&self, instant: Instant, file: &str, operation: &str) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/{TEMP_FOLDER}/{instant}/{file}{MARKER}{operation}"))
    }

    /// What a writer of Hudi touches while it works, if it shares the table with others.
    pub(crate) fn heartbeat(&self, instant: Instant) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/{HEARTBEAT_FOLDER}/{instant}"))
    }

    /// A file that is written for the time at which the storage says that it was.
    pub(crate) fn clock_probe(&self) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/.aux/hudi_scd.clock"))
    }

    pub(crate) fn tombstone_folder(&self) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/{TOMBSTONE_FOLDER}"))
    }

    pub(crate) fn tombstones(&self, instant: Instant) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/{TOMBSTONE_FOLDER}/{instant}{TOMBSTONE_EXTENSION}"))
    }

    /// The name of the same file in tables of earlier releases.
    pub(crate) fn old_tombstones(&self, instant: Instant) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/{TOMBSTONE_FOLDER}/{instant}{BASE_FILE_EXTENSION}"))
    }

    pub(crate) fn partition_metadata(&self, partition: &str) -> Result<Path> {
        self.resolve(&in_partition(partition, PARTITION_METADATA))
    }
}

/// The path below the root of a file in a partition; an unpartitioned table has the one partition `""`.
pub(crate) fn in_partition(partition: &str, name: &str) -> String {
    if partition.is_empty() { name.to_owned() } else { format!("{partition}/{name}") }
}

/// Partition and name of a path below the root.
pub(crate) fn split_partition(relative: &str) -> (&str, &str) {
    relative.rsplit_once('/').unwrap_or(("", relative))
}

/// The checksum that Hadoop's local file system keeps beside a file, and believes.
pub(crate) fn local_checksum(relative: &str) -> String {
    let (partition, name) = split_partition(relative);
    in_partition(partition, &format!(".{name}.crc"))
}

/// Whether a file is such a checksum.
pub(crate) fn is_local_checksum(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".crc")
}

/// The file that such a checksum is beside.
pub(crate) fn checked_file(checksum: &str) -> Option<String> {
    let (folder, name) = split_partition(checksum);
    Some(in_partition(folder, name.strip_prefix('.')?.strip_suffix(".crc")?))
}

/// The file on the timeline that says that an action reached a state.
///
/// An inflight commit is the odd one: it is called `{ts}.inflight`.
pub(crate) fn instant_file_name(instant: Instant, action: Action, state: State) -> String {
    match (action, state) {
        (Action::Commit, State::Inflight) => format!("{instant}.inflight"),
        (action, State::Requested) => format!("{instant}.{action}.requested"),
        (action, State::Inflight) => format!("{instant}.{action}.inflight"),
        (action, State::Completed) => format!("{instant}.{action}"),
    }
}

/// What a file on the timeline says; `None` for the other things that lie in `.hoodie`.
pub(crate) fn parse_instant_file_name(name: &str) -> Option<(Instant, Action, State)> {
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

/// As [`parse_instant_file_name`], under timeline layout 2: `{ts}_{completion time}.{action}` is a completed action. A
/// clustering completes as a replacecommit, a compaction as a commit, so that they are one action here.
pub(crate) fn parse_timed_file_name(name: &str) -> Option<(Instant, Action, State, Option<Instant>)> {
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

/// The commit of a file of tombstones with this name, if it is one.
pub(crate) fn tombstones_of(name: &str) -> Option<Instant> {
    let stem = name.strip_suffix(TOMBSTONE_EXTENSION).or_else(|| name.strip_suffix(BASE_FILE_EXTENSION))?;
    stem.parse().ok()
}

/// The name of a base file: which file group, which writing task, which commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BaseFileName {
    pub(crate) file_id: String,
    pub(crate) write_token: String,
    pub(crate) instant: Instant,
}

impl BaseFileName {
    pub(crate) fn parse(name: &str) -> Option<Self> {
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

/// A log file belongs to merge-on-read.
pub(crate) fn is_log_file(name: &str) -> bool {
    name.starts_with('.') && name.contains(".log.")
}

/// The base file, below the root, that a marker below its write's folder stands for.
pub(crate) fn marked_file(marker: &str) -> Option<&str> {
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
    fn tombstones_are_no_base_files_and_are_found_under_their_old_name() {
        let layout = Layout::new(Path::from("t"));
        let instant = "20261123042633497".parse().unwrap();
        let (new, old) = (layout.tombstones(instant).unwrap(), layout.old_tombstones(instant).unwrap());
        assert_eq!(new.filename(), Some("20261123042633497.tombstones"));
        for path in [new, old] {
            assert_eq!(path.filename().and_then(tombstones_of), Some(instant));
        }
        assert_eq!(tombstones_of("20261123042633497.orc"), None);
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

    #[test]
    fn an_encoded_partition_path_is_not_encoded_again() {
        let layout = Layout::new(Path::from("lake/t"));
        let file = layout.resolve("p=a%2Fb c/x.parquet").unwrap();
        assert_eq!(file.as_ref(), "lake/t/p=a%2Fb c/x.parquet");
        assert_eq!(layout.relative(&file), "p=a%2Fb c/x.parquet");
        assert_eq!(Layout::new(Path::default()).resolve("a").unwrap().as_ref(), "a");
        assert!(layout.resolve("../x").is_err());
    }
}
