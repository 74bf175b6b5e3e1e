//! Handles the metadata table of other writers. It is dropped before a change becomes visible, by Hudi's own
//! rule for writers that do not maintain it.
//!
//! Hudi keeps indexes of a table in a second table, `.hoodie/metadata`: a listing (`files`), statistics,
//! keys. Spark creates it by default and trusts it. If it lacks a commit, that commit does not exist for
//! readers that use it, and the next Spark write builds on the files before that commit. A writer that does
//! not maintain the metadata table must therefore drop it first, as Hudi does under
//! `hoodie.metadata.enable=false`:
//!
//! 1. `hoodie.table.metadata.partitions` and `.inflight` are emptied. From then on, readers and writers of
//!    Hudi 0.14 and later list the table themselves, and the next Spark write with default settings creates
//!    the metadata table again.
//! 2. The directory is deleted. Up to table version 5 this happens at once, before anything else is written,
//!    because Hudi up to 0.13 looks for the directory. In version 6, a write that runs at least an hour after
//!    step 1 deletes it, because readers that are still planning may list it.
//!
//! Every state between these steps is valid for all readers, because no change of this crate is visible
//! before them. The directory is deleted in an order that keeps it consistent until the end: first its
//! timeline, from the oldest instant to the newest, and then the rest. Until the last instant is deleted, the
//! directory lists the same files; after that, Hudi considers it empty. On S3, the instants take one request,
//! the rest takes another one, and each further 1,000 files take one more. Including the properties and the
//! listing, a write sends four additional requests.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use object_store::path::Path;

use crate::{
    Error, ErrorKind, Result,
    layout::{self, META_FOLDER},
    properties, storage,
    table::{Table, Turn},
    view::View,
};

/// How a write handles the metadata table of another writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetadataTable {
    /// Drops it. Hudi's writers create it again. Until then, readers list the table.
    #[default]
    Drop,
    /// Refuses to write, with [`ErrorKind::Unsupported`].
    Refuse,
}

/// The folder of the metadata table, in [`META_FOLDER`].
const FOLDER: &str = "metadata";
/// Hudi's copy of the properties, which exists while it replaces them.
const BACKUP: &str = "hoodie.properties.backup";
/// Number of files that one request to S3 deletes.
const KEYS_PER_REQUEST: usize = 1_000;
/// Time for which the directory is kept for readers that are still planning.
const GRACE: SignedDuration = SignedDuration::from_hours(1);

/// The properties of a table at the start of a change.
#[derive(Debug)]
pub(crate) struct Stored {
    raw: BTreeMap<String, String>,
    written_at: Timestamp,
}

impl Stored {
    /// Returns a property.
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        self.raw.get(name).map(String::as_str)
    }

    /// Returns the indexes that the table lists.
    pub(crate) fn partitions(&self) -> Vec<String> {
        properties::metadata_partitions(&self.raw).into_iter().map(str::to_owned).collect()
    }

    /// Returns the properties without the metadata table.
    pub(crate) fn without_metadata_table(&self) -> BTreeMap<String, String> {
        let mut raw = self.raw.clone();
        if !self.partitions().is_empty() {
            raw.extend(properties::METADATA_PARTITIONS.map(|key| (key.to_owned(), String::new())));
        }
        raw
    }
}

impl Table {
    /// Reads the properties again at the start of a change, with one request. Spark may have created a
    /// metadata table or upgraded the table since this handle was opened.
    pub(crate) async fn stored_properties(&self) -> Result<Stored> {
        let path = self.inner.layout.properties()?;
        let mut found =
            storage::read_dated(self.store(), &path).await?.filter(|(bytes, _)| !bytes.is_empty());
        if found.is_none() {
            let backup = self.inner.layout.properties_backup()?;
            found = storage::read_dated(self.store(), &backup).await?;
        }
        let (bytes, written_at) = found.ok_or_else(|| {
            Error::new(ErrorKind::Conflict, "another writer is replacing the properties of the table")
                .with_context("file", &path)
                .with_context("hint", "run the write again")
        })?;
        let raw = properties::parse_raw(&bytes).map_err(|error| error.with_context("file", &path))?;
        let stored = Stored { raw, written_at };
        let version = properties::version_of(&stored.raw);
        if version != Some(self.version()) {
            let version = version.map_or_else(|| "unknown".to_owned(), |version| version.to_string());
            return Err(Error::new(
                ErrorKind::Conflict,
                "another writer has changed the version of the table",
            )
            .with_context("from", self.version())
            .with_context("to", version)
            .with_context("hint", "open the table again"));
        }
        if self.inner.options.metadata_table == MetadataTable::Refuse && !stored.partitions().is_empty() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the table has a metadata table, which a write would drop",
            )
            .with_context("property", properties::METADATA_PARTITIONS[0])
            .with_context("value", stored.partitions().join(","))
            .with_context(
                "hint",
                "allow it with MetadataTable::Drop, or write with hoodie.metadata.enable=false once",
            ));
        }
        Ok(stored)
    }

    /// Drops the metadata table, if there is one, before the first change of this turn becomes visible. Does
    /// nothing in later calls.
    pub(crate) async fn drop_metadata_table(&self, turn: &Turn<'_>, view: &View) -> Result<()> {
        if !turn.is_metadata_unchecked() {
            return Ok(());
        }
        let stored = turn.stored();
        let partitions = stored.partitions();
        let (by_directory, has_folder) =
            (self.version().goes_by_metadata_directory(), view.timeline.has_folder(FOLDER));
        if !partitions.is_empty() {
            turn.verify().await?;
            self.replace_properties(view, &stored.without_metadata_table()).await?;
            tracing::warn!(
                table = self.name(),
                partitions = partitions.join(","),
                "dropped the metadata table, which this writer does not maintain; Hudi's writers create it again"
            );
        }
        let old = self.inner.options.clock.now().duration_since(stored.written_at) > GRACE;
        let is_due = match by_directory {
            true => has_folder || !partitions.is_empty(),
            false => has_folder && partitions.is_empty() && old,
        };
        if is_due {
            turn.verify().await?;
            self.delete_metadata_folder().await?;
        }
        turn.set_dropped(partitions);
        Ok(())
    }

    /// Replaces the stored properties. The file always exists. A checksum that Hadoop's local file system
    /// keeps next to it is deleted first, so that JVM readers find one of the two versions complete.
    pub(crate) async fn replace_properties(&self, view: &View, raw: &BTreeMap<String, String>) -> Result<()> {
        let path = self.inner.layout.properties()?;
        let delete_checksum = async |path: &Path| {
            let checksum = layout::local_checksum(self.inner.layout.relative(path));
            match view.checksums.contains(&checksum) || self.is_local() {
                true => storage::delete(self.store(), &self.inner.layout.resolve(&checksum)?).await,
                false => Ok(false),
            }
        };
        delete_checksum(&path).await?;
        let bytes = properties::to_bytes(raw, self.inner.options.clock.now());
        storage::write(self.store(), &path, bytes).await?;
        if view.timeline.has_other(BACKUP) {
            // The backup of a dead writer. Hudi would replace a file without a checksum by it.
            let backup = self.inner.layout.properties_backup()?;
            storage::delete(self.store(), &backup).await?;
            delete_checksum(&backup).await?;
        }
        Ok(())
    }

    async fn delete_metadata_folder(&self) -> Result<()> {
        let folder = self.inner.layout.resolve(&format!("{META_FOLDER}/{FOLDER}"))?;
        let files = storage::list_below(self.store(), &folder).await?;
        let timeline = folder.clone().join(META_FOLDER);
        let is_instant = |path: &Path| {
            let name = path.filename().unwrap_or_default();
            path.prefix_matches(&timeline) && name.starts_with(|first: char| first.is_ascii_digit())
        };
        let mut paths: Vec<Path> = files.into_iter().map(|file| file.location).collect();
        paths.sort_by_cached_key(|path| {
            let name = path.filename().unwrap_or_default().to_owned();
            let rank = match path.prefix_matches(&timeline) {
                true if is_instant(path) => 0,
                false => 1,
                true if name != "hoodie.properties" => 2,
                true => 3,
            };
            (rank, name)
        });
        let rest = paths.split_off(paths.partition_point(is_instant));
        // The files of one call are deleted at the same time.
        let at_once = if self.is_local() { 1 } else { KEYS_PER_REQUEST };
        for some in paths.chunks(at_once).chain(rest.chunks(at_once)) {
            storage::delete_all(self.store(), some.to_vec()).await?;
        }
        self.remove_empty_tree(&folder);
        Ok(())
    }
}
