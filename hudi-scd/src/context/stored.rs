//! The stored properties of a table: read at the start of a change, and replaced.

use std::collections::BTreeMap;

use jiff::Timestamp;
use object_store::path::Path;

use super::{Context, MetadataTable};
use crate::{Error, ErrorKind, Result, layout, properties, snapshot::View, storage};

/// Hudi's copy of the properties, which exists while it replaces them.
const BACKUP: &str = "hoodie.properties.backup";

/// The properties of a table at the start of a change.
#[derive(Debug)]
pub(crate) struct Stored {
    raw: BTreeMap<String, String>,
    written_at: Timestamp,
}

impl Stored {
    /// Reads the properties again at the start of a change, with one request. Spark may have created a
    /// metadata table or upgraded the table since this handle was opened.
    pub(crate) async fn read(context: &Context) -> Result<Self> {
        let path = context.layout().properties()?;
        let mut found =
            storage::read_dated(context.store(), &path).await?.filter(|(bytes, _)| !bytes.is_empty());
        if found.is_none() {
            let backup = context.layout().properties_backup()?;
            found = storage::read_dated(context.store(), &backup).await?;
        }
        let (bytes, written_at) = found.ok_or_else(|| {
            Error::new(ErrorKind::Conflict, "another writer is replacing the properties of the table")
                .with_context("file", &path)
                .with_context("hint", "run the write again")
        })?;
        let raw = properties::parse_raw(&bytes).map_err(|error| error.with_context("file", &path))?;
        let stored = Self { raw, written_at };
        let version = properties::version_of(&stored.raw);
        if version != Some(context.version()) {
            let version = version.map_or_else(|| "unknown".to_owned(), |version| version.to_string());
            return Err(Error::new(
                ErrorKind::Conflict,
                "another writer has changed the version of the table",
            )
            .with_context("from", context.version())
            .with_context("to", version)
            .with_context("hint", "open the table again"));
        }
        if context.options().metadata_table == MetadataTable::Refuse && !stored.partitions().is_empty() {
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

    /// Returns the time at which the properties were written.
    pub(crate) fn written_at(&self) -> Timestamp {
        self.written_at
    }

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

impl Context {
    /// Replaces the stored properties. The file always exists. A checksum that Hadoop's local file system
    /// keeps next to it is deleted first, so that JVM readers find one of the two versions complete.
    pub(crate) async fn replace_properties(&self, view: &View, raw: &BTreeMap<String, String>) -> Result<()> {
        let path = self.layout().properties()?;
        let delete_checksum = async |path: &Path| {
            let checksum = layout::local_checksum(self.layout().relative(path));
            match view.checksums.contains(&checksum) || self.is_local() {
                true => storage::delete(self.store(), &self.layout().resolve(&checksum)?).await,
                false => Ok(false),
            }
        };
        delete_checksum(&path).await?;
        let bytes = properties::to_bytes(raw, self.options().clock.now());
        storage::write(self.store(), &path, bytes).await?;
        if view.timeline.has_other(BACKUP) {
            // The backup of a dead writer. Hudi would replace a file without a checksum by it.
            let backup = self.layout().properties_backup()?;
            storage::delete(self.store(), &backup).await?;
            delete_checksum(&backup).await?;
        }
        Ok(())
    }
}
