//! Paths of one table's files. The file names are defined in [`hudi_format::names`].

use object_store::path::Path;

pub(crate) use hudi_format::names::*;

use hudi_format::timeline::{Action, Instant, State, TimelineEntry};

use crate::{Error, ErrorKind, Result};

/// The paths of one table's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    root: Path,
    timeline: TimelineLayout,
    /// The folder of the archive of layout 1, below [`META_FOLDER`].
    archive: String,
}

impl Layout {
    pub(crate) fn new(root: Path) -> Self {
        Self { root, timeline: TimelineLayout::Flat, archive: String::new() }
    }

    pub(crate) fn with_archive(self, archive: String) -> Self {
        Self { archive, ..self }
    }

    pub(crate) fn with_timeline(self, timeline: TimelineLayout) -> Self {
        Self { timeline, ..self }
    }

    pub(crate) fn timeline(&self) -> &TimelineLayout {
        &self.timeline
    }

    /// Returns the folder of the active timeline.
    pub(crate) fn timeline_folder(&self) -> Result<Path> {
        match &self.timeline {
            TimelineLayout::Flat => self.meta_folder(),
            TimelineLayout::Folder { timeline, .. } => self.resolve(&format!("{META_FOLDER}/{timeline}")),
        }
    }

    /// Returns the folder of the archived timeline of layout 2. The archive of layout 1 has a different
    /// format.
    pub(crate) fn history_folder(&self) -> Result<Option<Path>> {
        match &self.timeline {
            TimelineLayout::Flat => Ok(None),
            TimelineLayout::Folder { timeline, history } => {
                self.resolve(&format!("{META_FOLDER}/{timeline}/{history}")).map(Some)
            }
        }
    }

    /// Returns the file of an action on the timeline.
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

    /// Resolves a path relative to the root without encoding it. A partition path may already be URL-encoded,
    /// and `Path::child` would encode its `%` again.
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

    /// Returns a path relative to the root.
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

    /// Returns the copy of the properties that Java makes before it replaces the file.
    pub(crate) fn properties_backup(&self) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/hoodie.properties.backup"))
    }

    /// Returns the file with this crate's own properties. Spark's `CREATE TABLE … USING hudi LOCATION`
    /// rewrites `hoodie.properties` without the properties that it does not know, but does not change this
    /// file.
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

    /// Returns the folder of the index of a bootstrap.
    pub(crate) fn bootstrap_folder(&self) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/{BOOTSTRAP_FOLDER}"))
    }

    /// Returns the folder that contains the markers of all writes.
    pub(crate) fn temp_folder(&self) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/{TEMP_FOLDER}"))
    }

    /// Returns the name of the folder of the archive, in the folder of the timeline.
    pub(crate) fn archive_name(&self) -> &str {
        match &self.timeline {
            TimelineLayout::Flat => &self.archive,
            TimelineLayout::Folder { history, .. } => history,
        }
    }

    /// Returns the folder of the archive of layout 1. Its name is a property of the table.
    pub(crate) fn archive_folder(&self) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/{}", self.archive))
    }

    /// Returns the folder of a write's markers.
    pub(crate) fn marker_folder(&self, instant: Instant) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/{TEMP_FOLDER}/{instant}"))
    }

    /// Returns the marker of a base file. `file` is the file's path relative to the root, and `operation` is
    /// CREATE or MERGE.
    pub(crate) fn marker(&self, instant: Instant, file: &str, operation: &str) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/{TEMP_FOLDER}/{instant}/{file}{MARKER}{operation}"))
    }

    /// Returns the heartbeat file. A Hudi writer that shares the table with other writers renews it while it
    /// works.
    pub(crate) fn heartbeat(&self, instant: Instant) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/{HEARTBEAT_FOLDER}/{instant}"))
    }

    /// Returns the folder of all writers' heartbeats.
    pub(crate) fn heartbeat_folder(&self) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/{HEARTBEAT_FOLDER}"))
    }

    /// Returns a file that is written only to find out the storage's time.
    pub(crate) fn clock_probe(&self) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/.aux/hudi_scd.clock"))
    }

    pub(crate) fn tombstone_folder(&self) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/{TOMBSTONE_FOLDER}"))
    }

    pub(crate) fn tombstones(&self, instant: Instant) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/{TOMBSTONE_FOLDER}/{instant}{TOMBSTONE_EXTENSION}"))
    }

    /// Returns the name that earlier releases gave to the same file.
    pub(crate) fn old_tombstones(&self, instant: Instant) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/{TOMBSTONE_FOLDER}/{instant}{BASE_FILE_EXTENSION}"))
    }

    pub(crate) fn hidden_rows(&self, instant: Instant) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/{TOMBSTONE_FOLDER}/{instant}{HIDDEN_ROWS_EXTENSION}"))
    }

    /// Returns the ledger of the files that a commit took in.
    pub(crate) fn ledger(&self, instant: Instant) -> Result<Path> {
        self.resolve(&format!("{META_FOLDER}/{TOMBSTONE_FOLDER}/{instant}{LEDGER_EXTENSION}"))
    }

    pub(crate) fn partition_metadata(&self, partition: &str) -> Result<Path> {
        self.resolve(&in_partition(partition, PARTITION_METADATA))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn an_encoded_partition_path_is_not_encoded_again() {
        let layout = Layout::new(Path::from("lake/t"));
        let file = layout.resolve("p=a%2Fb c/x.parquet").unwrap();
        assert_eq!(file.as_ref(), "lake/t/p=a%2Fb c/x.parquet");
        assert_eq!(layout.relative(&file), "p=a%2Fb c/x.parquet");
        assert_eq!(Layout::new(Path::default()).resolve("a").unwrap().as_ref(), "a");
        assert!(layout.resolve("../x").is_err());
    }
}
