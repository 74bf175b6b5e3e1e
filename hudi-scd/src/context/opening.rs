//! Creates and opens tables. When a table is opened, another writer may be replacing its properties.
//!
//! Hudi on a JVM replaces `hoodie.properties` in four steps: it writes `hoodie.properties.backup`, deletes
//! the file, writes it again and deletes the backup. A reader may find the file missing or incomplete. It
//! then uses the backup. Between its two reads, even both may be missing. Hudi's readers retry for 5 s, and
//! so does this one.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use object_store::{ObjectStore, path::Path};

use super::{Context, TableOptions};
use crate::{
    Error, ErrorKind, Result,
    definition::TableDefinition,
    layout::{Layout, META_FOLDER},
    properties::{BOOTSTRAP, TableProperties},
    storage, timeline,
};

/// Number of retries, one per second: `READ_RETRIES` in Hudi's `HoodieTableConfig`.
const RETRIES: usize = 5;
const PAUSE: Duration = Duration::from_secs(1);
/// The instant of a bootstrap that wrote only the meta columns: `METADATA_BOOTSTRAP_INSTANT_TS` in Hudi's
/// `HoodieTimeline`.
const METADATA_BOOTSTRAP: &str = "00000000000001";

impl Context {
    /// Creates a table, and opens it.
    pub(crate) async fn create(
        store: Arc<dyn ObjectStore>,
        root: Path,
        definition: &TableDefinition,
        options: TableOptions,
    ) -> Result<Self> {
        let (properties, _) = definition.properties()?;
        let layout = Layout::new(root);
        let bytes = properties.to_bytes(options.clock.now());
        if !storage::create_if_absent(store.as_ref(), &layout.properties()?, bytes).await? {
            return Err(Error::new(ErrorKind::AlreadyExists, "there is already a table")
                .with_context("path", layout.root()));
        }
        keep_own(store.as_ref(), &layout, definition.own(&properties), &options).await?;
        let (_, folder) = self::properties(store.as_ref(), &layout).await?;
        Ok(Self::of(store, layout, properties, folder, options))
    }

    /// Opens a table.
    pub(crate) async fn open(store: Arc<dyn ObjectStore>, root: Path, options: TableOptions) -> Result<Self> {
        let layout = Layout::new(root);
        let (mut properties, folder) = properties(store.as_ref(), &layout).await?;
        if properties.lacks_partition_style() {
            let listed = storage::list_folder(store.as_ref(), layout.root()).await?;
            let folders = listed.common_prefixes.iter().filter_map(|folder| folder.filename());
            properties.infer_partition_style(folders.filter(|name| *name != META_FOLDER));
        }
        let layout = layout.with_timeline(properties.timeline_layout.clone());
        check_bootstrap(store.as_ref(), &layout, &properties).await?;
        Ok(Self::of(store, layout, properties, folder, options))
    }
}

/// Rejects a table whose bootstrap wrote only the meta columns (`METADATA_ONLY`). The data columns are in the
/// files that the table was made from. A bootstrap that wrote whole rows (`FULL_RECORD`) sets the same
/// property, but has neither the commit nor the index.
async fn check_bootstrap(
    store: &dyn ObjectStore,
    layout: &Layout,
    properties: &TableProperties,
) -> Result<()> {
    let Some(folder) = properties.bootstrapped_from() else { return Ok(()) };
    let timeline = timeline::load(store, layout).await?;
    let has_commit = timeline.entries().iter().any(|entry| entry.instant.as_str() == METADATA_BOOTSTRAP);
    let index = storage::list_below(store, &layout.bootstrap_folder()?).await?;
    // File systems may have markers for the folders of the index, which Hudi creates with every table.
    if !has_commit && !index.iter().any(|file| file.location.extension() == Some("hfile")) {
        return Ok(());
    }
    let message = "tables whose bootstrap wrote only the meta columns are not supported";
    Err(Error::new(ErrorKind::Unsupported, message)
        .with_context("property", BOOTSTRAP)
        .with_context("value", folder))
}

/// Stores a second copy of a new table's own properties, in a location where other engines do not write.
async fn keep_own(
    store: &dyn ObjectStore,
    layout: &Layout,
    own: BTreeMap<String, String>,
    options: &TableOptions,
) -> Result<()> {
    let path = layout.own_properties()?;
    if own.is_empty() {
        // An earlier table in this folder may have left own properties.
        return storage::delete(store, &path).await.map(drop);
    }
    storage::write(store, &path, TableProperties::own_bytes(&own, options.clock.now())).await
}

/// Reads the properties of a table. Also returns its folder if it is on a local disk.
async fn properties(store: &dyn ObjectStore, layout: &Layout) -> Result<(TableProperties, Option<PathBuf>)> {
    let own = storage::read_if_exists(store, &layout.own_properties()?).await?;
    let (path, backup) = (layout.properties()?, layout.properties_backup()?);
    let parse = |bytes: &Bytes| {
        TableProperties::parse(bytes, own.as_deref()).map_err(|error| error.with_context("file", &path))
    };
    let mut seen: Option<Bytes> = None;
    let mut retries = 0;
    loop {
        let found = storage::read_placed(store, &path).await?;
        // The file is two levels below the table's folder. A table that has only Java's backup copy is not
        // recognized as local.
        let folder = found.as_ref().and_then(|(_, file)| file.as_ref()?.ancestors().nth(2));
        let folder = folder.map(PathBuf::from);
        let found = found.map(|(bytes, _)| bytes);
        let broken = match found.as_ref().map(parse) {
            Some(Err(error)) => Some(error),
            Some(parsed) => return parsed.map(|properties| (properties, folder)),
            None => None,
        };
        if let Some(copy) = storage::read_if_exists(store, &backup).await?
            && let Ok(properties) = parse(&copy)
        {
            return Ok((properties, folder));
        }
        match (broken, &seen) {
            (Some(error), _) if error.kind() != ErrorKind::Corrupt => return Err(error),
            // The same invalid bytes were read twice, so no writer is replacing them.
            (Some(error), Some(bytes)) if found.as_ref() == Some(bytes) => {
                return Err(error.with_context("hint", "restore the file from a copy"));
            }
            (Some(_), _) => seen = found,
            (None, _) if !is_table(store, layout).await? => {
                return Err(
                    Error::new(ErrorKind::NotFound, "there is no table").with_context("path", layout.root())
                );
            }
            (None, _) if retries == RETRIES => {
                return Err(Error::new(ErrorKind::Corrupt, "the table has a timeline, but no properties")
                    .with_context("file", &path)
                    .with_context("hint", "restore the file from a copy"));
            }
            (None, _) => {
                retries += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Returns `true` if there is the timeline of a table: files, or a folder from version 8 on.
async fn is_table(store: &dyn ObjectStore, layout: &Layout) -> Result<bool> {
    let listed = storage::list_folder(store, &layout.meta_folder()?).await?;
    let timeline = listed.common_prefixes.iter().any(|folder| folder.filename() == Some("timeline"));
    Ok(timeline || !listed.objects.is_empty())
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use tokio::time::Instant;

    use super::*;

    const PROPERTIES: &str = "hoodie.table.name=t\nhoodie.table.type=COPY_ON_WRITE\nhoodie.table.version=6\n\
        hoodie.timeline.layout.version=1\nhoodie.table.recordkey.fields=id\nhoodie.table.checksum=498511606\n";

    fn layout() -> Layout {
        Layout::new(Path::from("t"))
    }

    async fn put(store: &InMemory, name: &str, content: &str) {
        let path = layout().meta_folder().unwrap().join(name);
        storage::write(store, &path, content.to_owned()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_being_replaced_is_found_within_five_seconds() {
        let store = Arc::new(InMemory::new());
        put(&store, "20260101000000000.commit", "").await;
        let writer = store.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(3_500)).await;
            put(&writer, "hoodie.properties", PROPERTIES).await;
        });
        let began = Instant::now();
        assert_eq!(properties(store.as_ref(), &layout()).await.unwrap().0.name, "t");
        assert_eq!(began.elapsed(), Duration::from_secs(4));
    }

    #[tokio::test(start_paused = true)]
    async fn the_backup_stands_in_for_a_file_that_is_missing_empty_or_half_written() {
        for broken in [
            None,
            Some(""),
            Some("hoodie.table.name=t\nhoodie.table.checks"),
            Some(
                "hoodie.table.name=u\nhoodie.table.checksum=498511606\nhoodie.table.type=COPY_ON_WRITE\nhoodie.table.version=6",
            ),
        ] {
            let store = InMemory::new();
            put(&store, "hoodie.properties.backup", PROPERTIES).await;
            if let Some(broken) = broken {
                put(&store, "hoodie.properties", broken).await;
            }
            let began = Instant::now();
            assert_eq!(properties(&store, &layout()).await.unwrap().0.name, "t", "{broken:?}");
            assert_eq!(began.elapsed(), Duration::ZERO);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_that_is_not_there_is_told_at_once_and_one_without_properties_after_five_seconds() {
        let store = InMemory::new();
        let began = Instant::now();
        assert_eq!(properties(&store, &layout()).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(began.elapsed(), Duration::ZERO);
        let timelines = ["20260101000000000.commit", "timeline/20260101000000000_20260101000001000.commit"];
        for (number, commit) in timelines.into_iter().enumerate() {
            let store = InMemory::new();
            put(&store, commit, "").await;
            let error = properties(&store, &layout()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert_eq!(error.context("file"), Some("t/.hoodie/hoodie.properties"));
            assert_eq!(began.elapsed(), Duration::from_secs(5 * (number as u64 + 1)));
        }
        let began = Instant::now();
        put(&store, "hoodie.properties", "hoodie.table.name=t").await;
        assert_eq!(properties(&store, &layout()).await.unwrap_err().kind(), ErrorKind::Unsupported);
        put(&store, "hoodie.properties", "").await;
        assert_eq!(properties(&store, &layout()).await.unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
