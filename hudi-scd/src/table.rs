//! [`Table`]: the entrance. Creating and opening; what is done to a table is in `write`, `read` and `retention`.

mod opening;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use jiff::{SignedDuration, tz::TimeZone};
use object_store::{ObjectStore, path::Path};

use crate::{
    Error, ErrorKind, Result,
    index::{
        FooterCache,
        cache::{Entry, IndexCache},
    },
    key::{self, KeyGenerator, TimestampPartition},
    layout::{HEARTBEAT_FOLDER, Layout, META_FOLDER},
    lock::{FileLock, HeldLock, StorageLock, TableLock},
    metadata_table::Stored,
    options::{Lock, TableOptions},
    properties::{KEY_GENERATOR_CLASS, NewTable, TableProperties, TableVersion},
    retention::{POLICY, RetentionPolicy},
    schema, storage,
    timeline::{
        Instant, Timeline, TimelineEntry,
        archive::{self, ArchivedEntry},
    },
    view::{FileGroup, View},
};

/// What a new table is.
///
/// ```
/// # use std::sync::Arc;
/// # use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
/// # use hudi_scd::TableDefinition;
/// # let schema = Arc::new(Schema::empty());
/// let definition = TableDefinition::new("store_customer_address", schema, ["ca_address_id"])
///     .with_ordering_field("updated_at")
///     .with_partition_fields(["valid_on"]);
/// ```
#[derive(Clone, Debug)]
pub struct TableDefinition {
    name: String,
    database: String,
    schema: SchemaRef,
    record_key_fields: Vec<String>,
    ordering_field: Option<String>,
    partition_fields: Vec<String>,
    hive_style: bool,
    url_encode: bool,
    others: BTreeMap<String, String>,
}

impl TableDefinition {
    /// A table of these data columns, in which the record key columns tell rows apart. What the schema says of columns in words
    /// ([`schema::DOC`](crate::schema::DOC)) is kept.
    pub fn new<K: Into<String>>(
        name: impl Into<String>,
        schema: SchemaRef,
        record_key: impl IntoIterator<Item = K>,
    ) -> Self {
        Self {
            name: name.into(),
            database: String::new(),
            schema,
            record_key_fields: record_key.into_iter().map(Into::into).collect(),
            ordering_field: None,
            partition_fields: Vec::new(),
            hive_style: true,
            url_encode: false,
            others: BTreeMap::new(),
        }
    }

    /// The column that says which of two rows of a key is newer. Without one the later write wins.
    #[must_use]
    pub fn with_ordering_field(mut self, column: impl Into<String>) -> Self {
        self.ordering_field = Some(column.into());
        self
    }

    /// The columns by whose values rows are put into folders, outermost first. Default: none.
    #[must_use]
    pub fn with_partition_fields<F: Into<String>>(mut self, columns: impl IntoIterator<Item = F>) -> Self {
        self.partition_fields = columns.into_iter().map(Into::into).collect();
        self
    }

    /// The column by whose values rows are put into folders, as moments written by a date pattern: Hudi's
    /// `TimestampBasedKeyGenerator`. The table keeps the pattern under Hudi's own names.
    #[must_use]
    pub fn with_timestamp_partition(
        mut self,
        column: impl Into<String>,
        partition: &TimestampPartition,
    ) -> Self {
        self.partition_fields = vec![column.into()];
        let class = KeyGenerator::TimestampBased.class().to_owned();
        self.others.insert(KEY_GENERATOR_CLASS.to_owned(), class);
        self.others.extend(partition.properties().map(|(name, value)| (name.clone(), value.clone())));
        self
    }

    /// Whether folders are called `column=value` or just `value`. Default: the first, which Athena, Spectrum and Glue
    /// crawlers understand; Hudi's own default is the second.
    #[must_use]
    pub fn with_hive_style_partitioning(mut self, hive_style: bool) -> Self {
        self.hive_style = hive_style;
        self
    }

    /// Whether characters that trouble paths are URL encoded in folder names. Default: no, as in Hudi.
    #[must_use]
    pub fn with_url_encoding(mut self, url_encode: bool) -> Self {
        self.url_encode = url_encode;
        self
    }

    /// The database that the table belongs to in a catalog. Default: none.
    #[must_use]
    pub fn with_database(mut self, database: impl Into<String>) -> Self {
        self.database = database.into();
        self
    }

    /// What is kept of the past, for every writer of the table: kept in its properties under Hudi's own names.
    /// [`TableOptions::with_retention`] overrides it for one handle. Default: nothing is said, and Hudi's writers and
    /// ours keep ten commits.
    #[must_use]
    pub fn with_retention(mut self, policy: RetentionPolicy) -> Self {
        let (name, number) = policy.property();
        self.others.insert(POLICY.to_owned(), policy.name().to_owned());
        self.others.insert(name.to_owned(), number.to_string());
        self
    }

    /// Keeps a property of our own in the table. Hudi's writers leave it as it is; Spark's `CREATE TABLE` on the folder drops
    /// it from `hoodie.properties`, so that there is a second copy.
    pub(crate) fn with_property(mut self, name: &str, value: String) -> Self {
        self.others.insert(name.to_owned(), value);
        self
    }

    fn properties(&self) -> Result<(TableProperties, SchemaRef)> {
        let schema = schema::stored(&self.schema)?;
        let invalid = |message: &str| Err(Error::new(ErrorKind::InvalidDefinition, message));
        if self.record_key_fields.is_empty() {
            return invalid("a table needs a record key");
        }
        if self.name.is_empty() || self.name.contains(['/', '\n', '\r']) {
            return invalid("a table needs a name of one line without slashes");
        }
        for fields in [&self.record_key_fields, &self.partition_fields] {
            if let Some((_, twice)) =
                fields.iter().enumerate().find(|(at, field)| fields[..*at].contains(field))
            {
                return invalid("a column is named twice")
                    .map_err(|error| error.with_context("column", twice));
            }
        }
        check_columns(
            &schema,
            &self.record_key_fields,
            &self.partition_fields,
            self.ordering_field.as_deref(),
        )?;
        let properties = TableProperties::create(&NewTable {
            name: &self.name,
            database: &self.database,
            record_key_fields: &self.record_key_fields,
            ordering_field: self.ordering_field.as_deref(),
            partition_fields: &self.partition_fields,
            hive_style: self.hive_style,
            url_encode: self.url_encode,
            schema: &schema::to_avro(&schema::documented(&schema, &self.schema), &self.name)?,
            others: &self.others,
        })?;
        Ok((properties, schema))
    }
}

fn check_columns(
    schema: &Schema,
    record_key: &[String],
    partitions: &[String],
    ordering: Option<&str>,
) -> Result<()> {
    key::check_columns(schema, record_key, "record key")?;
    key::check_columns(schema, partitions, "partition")?;
    if let Some(ordering) = ordering {
        let field = schema.field_with_name(ordering).map_err(|_| {
            Error::new(ErrorKind::InvalidDefinition, "there is no such ordering column")
                .with_context("column", ordering)
        })?;
        if field.data_type().is_nested() {
            return Err(Error::new(
                ErrorKind::InvalidDefinition,
                "values of the ordering column have no order",
            )
            .with_context("column", ordering)
            .with_context("type", field.data_type()));
        }
    }
    Ok(())
}

/// See [`Table::calls_at_a_time`].
const REMOTE_CALLS: usize = 16;

/// A Hudi table: copy-on-write, of any [version](TableVersion) for reading, up to version 6 for writing.
///
/// A handle is cheap to clone, and clones share what they learn of the table. It may be used from many tasks at a time:
/// reads run side by side, writes of one handle queue.
#[derive(Clone, Debug)]
pub struct Table {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) layout: Layout,
    pub(crate) properties: TableProperties,
    pub(crate) options: TableOptions,
    /// Held by the one write of this handle that is under way.
    writing: tokio::sync::Mutex<()>,
    /// The table's folder, if it is on a local disk.
    local_folder: Option<PathBuf>,
    lock: Option<Arc<dyn TableLock>>,
    random: Mutex<fastrand::Rng>,
    view: Mutex<Option<Arc<View>>>,
    /// Whether there was a folder of heartbeats when the timeline was listed last: a view that is taken over is older.
    pub(crate) has_heartbeats: AtomicBool,
    /// The newest instant that this handle made up, until its turn ends.
    minted: Mutex<Option<Instant>>,
    pub(crate) footers: FooterCache,
    /// The footers and keys that are kept on the local disk.
    pub(crate) index_cache: Option<IndexCache>,
}

impl Table {
    /// Creates a table with the default [options](TableOptions), and opens it.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if there is a table already; [`ErrorKind::InvalidDefinition`] if the definition
    /// names columns that are not there, or whose type does not do.
    pub async fn create(
        store: Arc<dyn ObjectStore>,
        root: Path,
        definition: TableDefinition,
    ) -> Result<Self> {
        Self::create_with(store, root, definition, TableOptions::default()).await
    }

    /// Creates a table, and opens it under these options.
    ///
    /// # Errors
    /// As [`Table::create`].
    pub async fn create_with(
        store: Arc<dyn ObjectStore>,
        root: Path,
        definition: TableDefinition,
        options: TableOptions,
    ) -> Result<Self> {
        let (properties, _) = definition.properties()?;
        let layout = Layout::new(root);
        let bytes = properties.to_bytes(options.clock.now());
        let created = storage::create(store.as_ref(), &layout.properties()?, bytes).await;
        match created {
            Err(error) if error.kind() == ErrorKind::Conflict => {
                Err(Error::new(ErrorKind::AlreadyExists, "there is a table already")
                    .with_context("path", layout.root()))
            }
            Err(error) => Err(error),
            Ok(()) => {
                keep_own(store.as_ref(), &layout, &definition.others, &options).await?;
                Self::with_properties(store, layout, properties, options).await
            }
        }
    }

    /// Opens a table with the default [options](TableOptions).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; [`ErrorKind::Unsupported`] if it uses what this crate cannot keep
    /// right, naming the property.
    pub async fn open(store: Arc<dyn ObjectStore>, root: Path) -> Result<Self> {
        Self::open_with(store, root, TableOptions::default()).await
    }

    /// Opens a table under these options.
    ///
    /// # Errors
    /// As [`Table::open`].
    pub async fn open_with(store: Arc<dyn ObjectStore>, root: Path, options: TableOptions) -> Result<Self> {
        let layout = Layout::new(root);
        let mut properties = opening::properties(store.as_ref(), &layout).await?;
        if properties.lacks_partition_style() {
            let listed = storage::list_folder(store.as_ref(), layout.root()).await?;
            let folders = listed.common_prefixes.iter().filter_map(|folder| folder.filename());
            properties.infer_partition_style(folders.filter(|name| *name != META_FOLDER));
        }
        let layout = layout.with_timeline(properties.timeline_layout.clone());
        Self::with_properties(store, layout, properties, options).await
    }

    async fn with_properties(
        store: Arc<dyn ObjectStore>,
        layout: Layout,
        properties: TableProperties,
        options: TableOptions,
    ) -> Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "the one place that draws from the machine's entropy")]
        let mut random = fastrand::Rng::new();
        // `.hoodie/hoodie.properties` lies two folders down. A table of which only Java's copy is left is not looked for.
        let local_folder = match storage::local_path(store.as_ref(), &layout.properties()?).await {
            Ok(file) => file.and_then(|file| file.ancestors().nth(2).map(PathBuf::from)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mut options = options;
        if let (true, Some(policy)) = (options.retention_is_default, properties.retention) {
            options.retention = Some(policy);
        }
        let lock = match &options.lock {
            Lock::Given(lock) => Some(lock.clone()),
            Lock::None => None,
            Lock::Automatic => Some(match &local_folder {
                Some(folder) => Arc::new(FileLock::new(folder)) as Arc<dyn TableLock>,
                None => {
                    let (root, clock) = (layout.root(), options.clock.clone());
                    Arc::new(StorageLock::new(store.clone(), root, clock, random.fork()))
                }
            }),
        };
        let index_cache = options.index_cache.clone().map(|folder| {
            let identity = format!("{store}\n{}", base_url(&options, &layout));
            IndexCache::new(folder, options.index_cache_bytes, identity, options.clock.clone())
        });
        let inner = Inner {
            local_folder,
            lock,
            store,
            layout,
            properties,
            options,
            writing: tokio::sync::Mutex::default(),
            random: Mutex::new(random),
            view: Mutex::default(),
            has_heartbeats: AtomicBool::default(),
            minted: Mutex::default(),
            footers: FooterCache::default(),
            index_cache,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The table's name.
    pub fn name(&self) -> &str {
        &self.inner.properties.name
    }

    /// Where the table is in its store.
    pub fn root(&self) -> &Path {
        self.inner.layout.root()
    }

    /// The version of its format.
    pub fn version(&self) -> TableVersion {
        self.inner.properties.version
    }

    /// The indexes of the metadata table that the table listed when it was opened: `files`, `column_stats` and so on.
    /// Empty without a metadata table. Reads never use it.
    pub fn metadata_partitions(&self) -> Vec<&str> {
        self.inner.properties.metadata_partitions()
    }

    /// The columns of the record key.
    pub fn record_key_fields(&self) -> &[String] {
        &self.inner.properties.record_key_fields
    }

    /// The column that says which of two rows is newer, if there is one.
    pub fn ordering_field(&self) -> Option<&str> {
        self.inner.properties.ordering_field.as_deref()
    }

    /// The partition columns, outermost first.
    pub fn partition_fields(&self) -> &[String] {
        &self.inner.properties.partition_fields
    }

    /// The options of this handle.
    pub fn options(&self) -> &TableOptions {
        &self.inner.options
    }

    /// The data columns as of the latest commit.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if another engine created the table without a schema and nothing was written yet.
    pub async fn schema(&self) -> Result<SchemaRef> {
        self.schema_of(&*self.view().await?)
    }

    /// The active timeline.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`].
    pub async fn timeline(&self) -> Result<Timeline> {
        crate::timeline::load(self.store(), &self.inner.layout).await
    }

    /// The file of an action in its furthest state: its path and its bytes, which [`timeline`](crate::timeline) decodes.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`].
    pub async fn entry_file(&self, entry: &TimelineEntry) -> Result<(Path, Bytes)> {
        let path = self.inner.layout.instant_file(entry.instant, entry.action, entry.state)?;
        let bytes = storage::read(self.store(), &path).await?;
        Ok((path, bytes))
    }

    /// The entries of the archive, file by file.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`]; [`ErrorKind::Corrupt`], naming the file of the archive.
    pub async fn archived_entries(&self) -> Result<Vec<ArchivedEntry>> {
        let folder = self.inner.layout.archive_folder(&self.inner.properties.archive_folder)?;
        let mut found = Vec::new();
        for object in storage::list_folder(self.store(), &folder).await?.objects {
            if object.location.filename().and_then(archive::file_number).is_none() {
                continue;
            }
            let bytes = storage::read(self.store(), &object.location).await?;
            let entries = archive::decode(&bytes);
            found.extend(entries.map_err(|error| error.with_context("file", &object.location))?);
        }
        Ok(found)
    }

    /// The time zone of the instants of the timeline.
    pub fn time_zone(&self) -> &TimeZone {
        &self.inner.properties.zone
    }

    /// The file groups and their versions, by partition and id: what the table occupies.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`].
    pub async fn file_groups(&self) -> Result<Vec<FileGroup>> {
        Ok(self.view().await?.groups.values().cloned().collect())
    }

    /// The earliest instant that can be read, once cleaning has set one.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`].
    pub async fn earliest_instant(&self) -> Result<Option<Instant>> {
        Ok(self.view().await?.earliest)
    }

    /// Deletes the markers and the heartbeat of a write that is over.
    pub(crate) async fn remove_markers(&self, instant: Instant) -> Result<()> {
        let folder = self.inner.layout.marker_folder(instant)?;
        let markers = storage::list_below(self.store(), &folder).await?;
        let markers = markers.into_iter().map(|marker| marker.location).collect();
        self.remove_known_markers(instant, markers).await
    }

    /// Deletes the markers and the heartbeat of a write that is over, and that knows its markers.
    pub(crate) async fn remove_known_markers(&self, instant: Instant, markers: Vec<Path>) -> Result<()> {
        let folder = self.inner.layout.marker_folder(instant)?;
        let mut files = markers;
        files.push(self.inner.layout.heartbeat(instant)?);
        storage::delete_all(self.store(), files).await?;
        if let Some(table) = &self.inner.local_folder {
            // A local disk keeps the empty folders, one a commit, and every listing would go through them.
            let folder = table.join(self.inner.layout.relative(&folder));
            if let Err(error) = std::fs::remove_dir_all(&folder)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(folder = %folder.display(), %error, "an empty folder stays behind");
            }
        }
        Ok(())
    }

    /// Removes a folder that is empty but for other empty folders: a local disk keeps them.
    pub(crate) fn remove_empty_tree(&self, folder: &Path) {
        let Some(table) = &self.inner.local_folder else { return };
        let folder = table.join(self.inner.layout.relative(folder));
        if let Err(error) = std::fs::remove_dir_all(&folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %folder.display(), %error, "an empty folder stays behind");
        }
    }

    /// Removes the folder of a partition that is gone, and those above it that are empty then: a local disk keeps them.
    pub(crate) fn remove_empty_folders(&self, partition: &str) {
        let Some(table) = &self.inner.local_folder else { return };
        let mut below = partition;
        while !below.is_empty() && std::fs::remove_dir(table.join(below)).is_ok() {
            below = below.rsplit_once('/').map_or("", |(above, _)| above);
        }
    }

    /// Waits until nobody else changes the table.
    pub(crate) async fn turn(&self) -> Result<Turn<'_>> {
        self.inner.properties.check_version_writable()?;
        let local = self.inner.writing.lock().await;
        let held = match &self.inner.lock {
            Some(lock) => Some(lock.acquire(self.inner.options.lock_wait).await?),
            None => None,
        };
        let stored = match self.stored_properties().await {
            Ok(stored) => stored,
            Err(error) => {
                release(held).await;
                return Err(error);
            }
        };
        let metadata = Mutex::new(Metadata::Unchecked);
        Ok(Turn { held, table: self, stored, metadata, _local: local })
    }

    /// Returns `true` for a table on a local disk.
    pub(crate) fn is_local(&self) -> bool {
        self.inner.local_folder.is_some()
    }

    pub(crate) fn store(&self) -> &dyn ObjectStore {
        self.inner.store.as_ref()
    }

    /// How many things the storage is asked at a time. A remote one answers many; the answers of a local disk are this machine's
    /// own work, and each thread that does some of it is made for it, and keeps memory of its own.
    pub(crate) fn calls_at_a_time(&self) -> usize {
        let parallelism = self.inner.options.parallelism;
        if self.inner.local_folder.is_some() { parallelism } else { parallelism.max(REMOTE_CALLS) }
    }

    /// The table as it is now.
    pub(crate) async fn view(&self) -> Result<Arc<View>> {
        let known = self.cached_view().clone();
        let (layout, version) = (&self.inner.layout, self.version());
        let timeline = crate::timeline::load(self.store(), layout).await?;
        self.inner.has_heartbeats.store(timeline.has_folder(HEARTBEAT_FOLDER), Ordering::Relaxed);
        let view = View::load(self.store(), layout, version, self.calls_at_a_time(), known, timeline).await?;
        *self.cached_view() = Some(view.clone());
        Ok(view)
    }

    /// Forgets what was learnt: files came or went that the timeline does not tell of.
    pub(crate) fn forget_view(&self) {
        *self.cached_view() = None;
    }

    fn cached_view(&self) -> std::sync::MutexGuard<'_, Option<Arc<View>>> {
        self.inner.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn schema_of(&self, view: &View) -> Result<SchemaRef> {
        view.check_columns_named()?;
        match (&view.schema, self.inner.properties.create_schema()) {
            (Some(schema), _) => Ok(schema.clone()),
            (None, Some(text)) => schema::canonical(&*schema::from_avro(text)?),
            (None, None) => {
                Err(Error::new(ErrorKind::NotFound, "the table has no schema before its first commit")
                    .with_context("path", self.root()))
            }
        }
    }

    /// The data columns in the words of whoever wrote them first.
    pub(crate) fn avro_of<'a>(&'a self, view: &'a View) -> Option<&'a str> {
        view.avro.as_deref().or_else(|| self.inner.properties.create_schema())
    }

    /// A new instant, newer than everything on the timeline.
    pub(crate) fn mint(&self, newest: Option<Instant>) -> Result<Instant> {
        let minted = Instant::mint(self.inner.options.clock.now(), &self.inner.properties.zone, newest)?;
        *self.inner.minted.lock().unwrap_or_else(PoisonError::into_inner) = Some(minted);
        Ok(minted)
    }

    /// Waits until the second of the newest instant of this handle is over, in tables whose own Hudi counts in seconds: its
    /// next instant in the same second would be older than ours.
    async fn outlast_second(&self) {
        let minted = self.inner.minted.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(minted) = minted.filter(|_| self.version().has_instants_of_seconds()) else { return };
        let next = Instant::from_timestamp(
            self.inner.options.clock.now() + SignedDuration::from_secs(1),
            &self.inner.properties.zone,
        );
        let second = |instant: Instant| instant.as_str()[..14].to_owned();
        if second(next) <= second(minted) {
            // A clock that lags behind the timeline by more than a second is not waited for.
            return;
        }
        let now = self.inner.options.clock.now();
        if second(Instant::from_timestamp(now, &self.inner.properties.zone)) <= second(minted) {
            let into = now.subsec_nanosecond().unsigned_abs();
            tokio::time::sleep(Duration::from_nanos(1_000_000_000 - u64::from(into.min(999_999_999)))).await;
        }
    }

    /// Where a commit draws the ids of its new file groups from.
    pub(crate) fn ids(&self, instant: Instant) -> FileIds {
        // The instant is part of it: a process that begins again with the seed must not draw the same ids again.
        let digits = instant
            .as_str()
            .bytes()
            .fold(0_u64, |sum, digit| sum.wrapping_mul(10).wrapping_add(u64::from(digit.wrapping_sub(b'0'))));
        FileIds(match self.inner.options.seed {
            Some(seed) => fastrand::Rng::with_seed(seed.rotate_left(32) ^ digits),
            None => self.inner.random.lock().unwrap_or_else(PoisonError::into_inner).fork(),
        })
    }

    /// The table's URL, as Hudi's plans name it.
    pub(crate) fn base_url(&self) -> String {
        base_url(&self.inner.options, &self.inner.layout)
    }

    /// What the local disk keeps of a base file of so many bytes, if it keeps any.
    pub(crate) fn index_entry(&self, path: &Path, bytes: u64) -> Option<Entry> {
        self.inner.index_cache.as_ref().map(|cache| cache.entry(path, bytes))
    }
}

fn base_url(options: &TableOptions, layout: &Layout) -> String {
    options.base_url.clone().unwrap_or_else(|| format!("/{}", layout.root()))
}

/// Keeps a new table's own properties a second time, where other engines do not write.
async fn keep_own(
    store: &dyn ObjectStore,
    layout: &Layout,
    own: &BTreeMap<String, String>,
    options: &TableOptions,
) -> Result<()> {
    let path = layout.own_properties()?;
    if own.is_empty() {
        // A table that was here before may have left its own.
        return storage::delete(store, &path).await.map(drop);
    }
    storage::write(store, &path, TableProperties::own_bytes(own, options.clock.now())).await
}

/// Ids of new file groups.
pub(crate) struct FileIds(fastrand::Rng);

impl FileIds {
    /// A UUID, and the number of the file within it, which is always 0 here.
    pub(crate) fn draw(&mut self) -> String {
        format!("{}-0", uuid::Builder::from_random_bytes(self.0.u128(..).to_be_bytes()).into_uuid())
    }
}

/// The right to change a table, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    held: Option<Box<dyn HeldLock>>,
    table: &'a Table,
    stored: Stored,
    metadata: Mutex<Metadata>,
    _local: tokio::sync::MutexGuard<'a, ()>,
}

/// What became of the metadata table in a turn.
#[derive(Debug)]
enum Metadata {
    Unchecked,
    /// These indexes were dropped, if there were any.
    Dropped(Vec<String>),
}

impl Turn<'_> {
    /// Makes sure that no other writer took over, before something that cannot be undone.
    pub(crate) async fn verify(&self) -> Result<()> {
        match &self.held {
            Some(held) => held.verify().await,
            None => Ok(()),
        }
    }

    /// The properties of the table as they were at the start of the turn.
    pub(crate) fn stored(&self) -> &Stored {
        &self.stored
    }

    /// Returns `true` if the metadata table was not looked at in this turn.
    pub(crate) fn is_metadata_unchecked(&self) -> bool {
        matches!(*self.metadata(), Metadata::Unchecked)
    }

    pub(crate) fn set_dropped(&self, partitions: Vec<String>) {
        *self.metadata() = Metadata::Dropped(partitions);
    }

    /// The indexes of the metadata table that this turn dropped.
    pub(crate) fn dropped(&self) -> Vec<String> {
        match &*self.metadata() {
            Metadata::Unchecked => Vec::new(),
            Metadata::Dropped(partitions) => partitions.clone(),
        }
    }

    fn metadata(&self) -> std::sync::MutexGuard<'_, Metadata> {
        self.metadata.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the next one write. What was done stands, so a failure is only told to the log: the lease ends by itself.
    pub(crate) async fn end(self) {
        self.table.outlast_second().await;
        release(self.held).await;
    }
}

async fn release(held: Option<Box<dyn HeldLock>>) {
    if let Some(held) = held
        && let Err(error) = held.release().await
    {
        tracing::warn!(%error, "the table's lock could not be released");
    }
}
