//! The metadata table of other writers: dropped before a change becomes visible, by Hudi's own rule for writers that do not
//! keep it.
//!
//! Hudi keeps indexes of a table in a second table, `.hoodie/metadata`: a listing (`files`), statistics, keys. Spark makes it by
//! default and trusts it: a commit that it does not hold does not exist for a reader that uses it, and the next Spark write
//! builds on the files before that commit. A writer that does not keep it therefore drops it first, as Hudi does under
//! `hoodie.metadata.enable=false`:
//!
//! 1. `hoodie.table.metadata.partitions` and `.inflight` become empty. From then on readers and writers of Hudi 0.14 and later list
//!    the table themselves, and the next Spark write at its defaults makes the metadata table anew.
//! 2. The directory goes. Up to table version 5 at once, before anything else is written, as Hudi up to 0.13 goes by the
//!    directory. In version 6 by a later write, an hour after step 1: readers that are planning may still list it.
//!
//! No state between these steps is wrong for any reader, as no change of this crate's is visible before them. The directory is
//! deleted in an order that keeps it consistent to the end: its timeline from the oldest instant to the newest, so that it
//! holds the same files until the last instant is gone and Hudi takes it for empty; then the rest.

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

/// What a write does with a metadata table that another writer keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetadataTable {
    /// Drops it. Hudi's writers make it anew; until then readers list the table.
    #[default]
    Drop,
    /// Refuses to write: [`ErrorKind::Unsupported`].
    Refuse,
}

/// The folder of the metadata table, below [`META_FOLDER`].
const FOLDER: &str = "metadata";
/// Hudi's copy of the properties while it replaces them.
const BACKUP: &str = "hoodie.properties.backup";
/// How long the directory stays for readers that are planning.
const GRACE: SignedDuration = SignedDuration::from_hours(1);

/// The properties of a table as they are at the start of a change.
#[derive(Debug)]
pub(crate) struct Stored {
    raw: BTreeMap<String, String>,
    written_at: Timestamp,
}

impl Stored {
    /// The indexes that the table lists.
    pub(crate) fn partitions(&self) -> Vec<String> {
        properties::metadata_partitions(&self.raw).into_iter().map(str::to_owned).collect()
    }
}

impl Table {
    /// Reads the properties again, at the start of a change: Spark may have made a metadata table, or upgraded the table, since
    /// this handle was opened. One request.
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
                .with_context("way out", "run the write again")
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
            .with_context("way out", "open the table again"));
        }
        if self.inner.options.metadata_table == MetadataTable::Refuse && !stored.partitions().is_empty() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the table has a metadata table, which a write would drop",
            )
            .with_context("property", properties::METADATA_PARTITIONS[0])
            .with_context("value", stored.partitions().join(","))
            .with_context(
                "way out",
                "allow it with MetadataTable::Drop, or write with hoodie.metadata.enable=false once",
            ));
        }
        Ok(stored)
    }

    /// Drops the metadata table, if there is one, before the first thing of this turn becomes visible. Does nothing when it is
    /// called again.
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
            let mut raw = stored.raw.clone();
            for key in properties::METADATA_PARTITIONS {
                raw.insert(key.to_owned(), String::new());
            }
            self.replace_properties(view, &raw).await?;
            tracing::warn!(
                table = self.name(),
                partitions = partitions.join(","),
                "dropped the metadata table, which this writer does not keep; Hudi's writers make it anew"
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

    /// Puts other properties in the place of the stored ones. The file is there at every moment, and a checksum that Hadoop's
    /// local file system keeps beside it goes first, so that readers on a JVM find either file whole.
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
            // What a writer that died left: Hudi would put it back in the place of a file without a checksum.
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
        let mut paths: Vec<Path> = files.into_iter().map(|file| file.location).collect();
        paths.sort_by_cached_key(|path| {
            let name = path.filename().unwrap_or_default().to_owned();
            let is_instant = name.starts_with(|first: char| first.is_ascii_digit());
            let rank = match path.prefix_matches(&timeline) {
                true if is_instant => 0,
                false => 1,
                true if name != "hoodie.properties" => 2,
                true => 3,
            };
            (rank, name)
        });
        storage::delete_all(self.store(), paths).await?;
        self.remove_empty_tree(&folder);
        Ok(())
    }
}
