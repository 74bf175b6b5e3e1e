//! [`Table`]: the entry point. Creation and opening; operations are in `write`, `read` and `retention`.

mod dropped;
mod files;
mod opening;

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use bytes::Bytes;
use jiff::{SignedDuration, tz::TimeZone};
use object_store::{ObjectStore, path::Path};
use tokio::sync::OnceCell;

use crate::{
    Error, ErrorKind, Result,
    cancellation::{Cancellation, Writing},
    fence::{Fence, Fenced, Stop},
    index::{
        FooterCache,
        cache::{Entry, IndexCache},
    },
    key::{self, KeyEncoding, KeyGenerator, TimestampPartition},
    layout::{AUXILIARY_FOLDER, Layout, META_FOLDER},
    location::Location,
    lock::{FileLock, HeldLock, LeaseWatch, StorageLock, TableLock},
    metadata_table::Stored,
    operation::{Counted, CountedRangeCopy, Operation},
    options::{Codec, Lock, TableOptions},
    properties::{KEY_ENCODING, KEY_GENERATOR_CLASS, NewTable, PARQUET_CODEC, TableProperties, TableVersion},
    range_copy::RangeCopies,
    recent::Recent,
    retention::{POLICY, RetentionPolicy},
    schema, storage,
    timeline::{
        Instant, Timeline, TimelineEntry,
        archive::{self, ArchivedEntry},
    },
    view::{Changes, FileGroup, Reach, View},
};

/// The definition of a new table.
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
    /// Defines a table with these data columns. The record key columns identify its rows. The schema's
    /// documentation of columns ([`schema::DOC`](crate::schema::DOC)) is stored.
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

    /// Sets the column that decides which of two rows with the same key is newer. Without it, the later write
    /// wins.
    #[must_use]
    pub fn with_ordering_field(mut self, column: impl Into<String>) -> Self {
        self.ordering_field = Some(column.into());
        self
    }

    /// Sets the columns whose values determine the folder of a row, outermost first. Default: none.
    #[must_use]
    pub fn with_partition_fields<F: Into<String>>(mut self, columns: impl IntoIterator<Item = F>) -> Self {
        self.partition_fields = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Partitions rows into folders by the time in this column, formatted by a date pattern: Hudi's
    /// `TimestampBasedKeyGenerator`. The table stores the pattern under Hudi's own property names.
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

    /// Names folders `column=value` if `true`, and `value` if `false`. Default: `true`, the form that Athena,
    /// Spectrum and Glue crawlers understand. Hudi's own default is `false`.
    #[must_use]
    pub fn with_hive_style_partitioning(mut self, hive_style: bool) -> Self {
        self.hive_style = hive_style;
        self
    }

    /// URL-encodes special characters in folder names. Default: `false`, as in Hudi.
    #[must_use]
    pub fn with_url_encoding(mut self, url_encode: bool) -> Self {
        self.url_encode = url_encode;
        self
    }

    /// Sets the database of the table in a catalog. Default: none.
    #[must_use]
    pub fn with_database(mut self, database: impl Into<String>) -> Self {
        self.database = database.into();
        self
    }

    /// Sets the retention for every writer of the table. It is stored in the table's properties under Hudi's
    /// own names. [`TableOptions::with_retention`] overrides it for one handle. Default: not stored; Hudi's
    /// writers and this crate keep ten commits.
    #[must_use]
    pub fn with_retention(mut self, policy: RetentionPolicy) -> Self {
        let (name, number) = policy.property();
        self.others.insert(POLICY.to_owned(), policy.name().to_owned());
        self.others.insert(name.to_owned(), number.to_string());
        self
    }

    /// Sets the compression of base files for every writer of the table. It is stored in the table's
    /// properties under Hudi's own name. [`TableOptions::with_codec`] overrides it for one handle. Default:
    /// not stored; the first commit uses [`Codec::default`], and later ones use the codec of the table's
    /// files.
    #[must_use]
    pub fn with_codec(mut self, codec: Codec) -> Self {
        self.others.insert(PARQUET_CODEC.to_owned(), codec.name().to_owned());
        self
    }

    /// Stores a property of this crate in the table. Hudi's writers preserve it. Spark's `CREATE TABLE` on
    /// the folder drops it from `hoodie.properties`, so a second copy is stored.
    pub(crate) fn with_property(mut self, name: &str, value: String) -> Self {
        self.others.insert(name.to_owned(), value);
        self
    }

    /// Returns `true` if the definition has this property of this crate.
    pub(crate) fn has_property(&self, name: &str) -> bool {
        self.others.contains_key(name)
    }

    /// Returns the properties of the table, and its data columns in stored form.
    pub(crate) fn properties(&self) -> Result<(TableProperties, SchemaRef)> {
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
                "the type of the ordering column has no order",
            )
            .with_context("column", ordering)
            .with_context("type", field.data_type()));
        }
    }
    Ok(())
}

/// The time for which a check of the lock is valid for the upkeep after a commit.
const CONFIRMED: Duration = Duration::from_secs(1);
/// See [`Table::calls_at_a_time`].
const REMOTE_CALLS: usize = 16;
/// See [`Table::admit`].
const ADMITTED_BYTES: usize = 64 * 1024;
/// Divisor: files that are read and written concurrently may use this share of the memory budget.
const ADMITTED_SHARE: usize = 4;

/// A Hudi table: copy-on-write, of any [version](TableVersion) for reading, up to version 6 for writing.
///
/// A handle is cheap to clone, and clones share cached state. It can be used from many tasks at once: reads
/// run concurrently, and writes through one handle wait for each other.
///
/// # Dropped futures
///
/// The future of a read can be dropped at any time. An operation that changes the table ends as if its
/// process had died when its future was dropped, but the handle can still be used:
///
/// - Readers see the change completely or not at all. A request in flight may still take effect, so the
///   caller does not know if the change was made. After [`Table::bulk_insert`], look for the commit in
///   [`Table::timeline`] before you repeat it, and call [`Table::settle`] if the commit is pending.
/// - The lock is released if no change was in flight. Otherwise, the lease of a table on remote storage is no
///   longer renewed. It expires after [`LeaseTimes::validity`](crate::lock::LeaseTimes::validity), 5 minutes
///   by default, and all writers, including this handle, wait for that. On a local disk, the lock is released
///   at once, and a call that the operating system has begun still completes.
/// - A metadata table may already be dropped ([`MetadataTable`](crate::MetadataTable)).
///
/// | operation | leaves | repaired by |
/// |---|---|---|
/// | a write of rows, [`Table::take_in`], [`Scd2Table::apply`](crate::scd::Scd2Table::apply) | a pending commit with its heartbeat, markers and files; after the commit, one of the next two rows, or a catalog that is not synchronized | the next write rolls the commit back |
/// | [`Table::clean`] | a pending clean that has deleted some of its files | the next write or clean completes it from its plan |
/// | [`Table::archive`] | an archive file, with none, some or all of its actions removed from the timeline | the next archival repeats it; duplicates in the archive are harmless |
/// | [`Table::savepoint`], [`Table::delete_savepoint`] | the savepoint, none, or an unfinished one, which protects nothing | the next write deletes an unfinished one |
/// | [`Table::rollback`], [`Table::settle`] | the commit, an announced rollback of it, or no commit | the next write completes an announced rollback |
/// | [`Table::upgrade`] | the old version, or the new one | repeat the upgrade |
///
/// A multipart upload that was in progress leaves invisible parts on S3, which a lifecycle rule of the bucket
/// removes. To end a write in order and release its lock, use [`Cancellation`].
#[derive(Clone, Debug)]
pub struct Table {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    /// The storage behind the fence.
    pub(crate) store: Arc<dyn ObjectStore>,
    fence: Arc<Fence>,
    pub(crate) layout: Layout,
    pub(crate) properties: TableProperties,
    pub(crate) options: TableOptions,
    /// Held while a write through this handle is in progress.
    writing: tokio::sync::Mutex<()>,
    /// The table's folder, if it is on a local disk.
    local_folder: Option<PathBuf>,
    lock: Option<Arc<dyn TableLock>>,
    random: Mutex<fastrand::Rng>,
    known: tokio::sync::Mutex<Known>,
    /// The newest instant that this handle created, until its turn ends.
    minted: Mutex<Option<Instant>>,
    pub(crate) footers: FooterCache,
    /// The form of new keys, if this handle had to decide it.
    pub(crate) key_encoding: OnceCell<KeyEncoding>,
    /// Set when this handle has recorded the form of new keys.
    pub(crate) key_encoding_recorded: OnceCell<()>,
    /// The content of small remote files that a write may read again.
    contents: Recent<Bytes>,
    /// The share of the memory budget for files that are read and written, in units of [`ADMITTED_BYTES`].
    admitted: tokio::sync::Semaphore,
    /// See [`Table::dropped_columns`].
    dropped_columns: OnceLock<Vec<FieldRef>>,
    /// The cached footers and keys on the local disk.
    pub(crate) index_cache: Option<IndexCache>,
    /// Copies ranges within a remote storage. `None` if the storage does not support it.
    pub(crate) range_copies: Option<RangeCopies>,
}

/// The latest view of a table.
#[derive(Debug, Default)]
struct Known {
    view: Option<Arc<View>>,
    /// Number of changes so far. A timeline that was listed before the last change may be older than the
    /// view.
    changes: u64,
}

impl Table {
    /// Creates a table with the default [options](TableOptions), and opens it.
    ///
    /// If the future is dropped, there is no table, or one that can be opened. The latter may lack the second
    /// copy of this crate's properties, which Spark's `CREATE TABLE` does not touch.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if there is already a table; [`ErrorKind::InvalidDefinition`] if the
    /// definition names unknown columns, or columns of an unsuitable type.
    pub async fn create(
        store: Arc<dyn ObjectStore>,
        root: Path,
        definition: TableDefinition,
    ) -> Result<Self> {
        Self::create_with(store, root, definition, TableOptions::default()).await
    }

    /// Creates a table, and opens it with these options. If the future is dropped, the same holds as for
    /// [`Table::create`].
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
                Err(Error::new(ErrorKind::AlreadyExists, "there is already a table")
                    .with_context("path", layout.root()))
            }
            Err(error) => Err(error),
            Ok(()) => {
                keep_own(store.as_ref(), &layout, own(&definition, &properties), &options).await?;
                let (_, folder) = opening::properties(store.as_ref(), &layout).await?;
                Ok(Self::with_properties(store, layout, properties, folder, options))
            }
        }
    }

    /// Opens a table with the default [options](TableOptions).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no table; [`ErrorKind::Unsupported`], naming the property, if it
    /// uses features that this crate does not support.
    pub async fn open(store: Arc<dyn ObjectStore>, root: Path) -> Result<Self> {
        Self::open_with(store, root, TableOptions::default()).await
    }

    /// Opens a table with these options.
    ///
    /// # Errors
    /// As [`Table::open`].
    pub async fn open_with(store: Arc<dyn ObjectStore>, root: Path, options: TableOptions) -> Result<Self> {
        let layout = Layout::new(root);
        let (mut properties, folder) = opening::properties(store.as_ref(), &layout).await?;
        if properties.lacks_partition_style() {
            let listed = storage::list_folder(store.as_ref(), layout.root()).await?;
            let folders = listed.common_prefixes.iter().filter_map(|folder| folder.filename());
            properties.infer_partition_style(folders.filter(|name| *name != META_FOLDER));
        }
        let layout = layout.with_timeline(properties.timeline_layout.clone());
        Ok(Self::with_properties(store, layout, properties, folder, options))
    }

    /// Opens the table at a URL with the default [options](TableOptions): `s3://bucket/folder` (with feature
    /// `aws`), `file:///folder`, or the path of a folder.
    ///
    /// `storage` configures S3 with the names of `object_store`, as in `("aws_region", "eu-west-1")`.
    /// Default: the `AWS_*` variables of the environment, or the role of the machine. If a storage needs more
    /// configuration, build it with `object_store` and use [`Table::open`].
    ///
    /// # Errors
    /// As [`Table::open`]; [`ErrorKind::InvalidDefinition`] for a URL or an option that is not supported.
    pub async fn open_url<K: AsRef<str>, V: Into<String>>(
        url: &str,
        storage: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self> {
        Self::open_url_with(url, storage, TableOptions::default()).await
    }

    /// Opens the table at a URL with these options. The URL is used as the table's URL in the plans of cleans
    /// and rollbacks, unless the options contain [another one](TableOptions::with_base_url).
    ///
    /// # Errors
    /// As [`Table::open_url`].
    pub async fn open_url_with<K: AsRef<str>, V: Into<String>>(
        url: &str,
        storage: impl IntoIterator<Item = (K, V)>,
        options: TableOptions,
    ) -> Result<Self> {
        let (store, root, options) = Location::of(url, storage)?.with_options(options);
        Self::open_with(store, root, options).await
    }

    /// Creates a table at a URL, and opens it with these options; see [`Table::open_url_with`]. A local
    /// folder must exist. If the future is dropped, the same holds as for [`Table::create`].
    ///
    /// # Errors
    /// As [`Table::create`]; [`ErrorKind::InvalidDefinition`] for a URL or an option that is not supported.
    pub async fn create_url_with<K: AsRef<str>, V: Into<String>>(
        url: &str,
        storage: impl IntoIterator<Item = (K, V)>,
        definition: TableDefinition,
        options: TableOptions,
    ) -> Result<Self> {
        let (store, root, options) = Location::of(url, storage)?.with_options(options);
        Self::create_with(store, root, definition, options).await
    }

    fn with_properties(
        store: Arc<dyn ObjectStore>,
        layout: Layout,
        properties: TableProperties,
        local_folder: Option<PathBuf>,
        options: TableOptions,
    ) -> Self {
        let store = Counted::over(store);
        #[expect(clippy::disallowed_methods, reason = "the one place that draws from the system's entropy")]
        let mut random = fastrand::Rng::new();
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
                    let lock = StorageLock::new(store.clone(), root, clock, random.u64(..));
                    Arc::new(lock.with_times(options.lease_times))
                }
            }),
        };
        let index_cache = options.index_cache.clone().map(|folder| {
            let identity = format!("{store}\n{}", base_url(&options, &layout));
            IndexCache::new(folder, options.index_cache_bytes, identity, options.clock.clone())
        });
        let fence = Fence::new();
        let range_copy = options.range_copy().filter(|_| local_folder.is_none()).cloned();
        let inner = Inner {
            range_copies: range_copy
                .map(|copy| RangeCopies::new(CountedRangeCopy::over(copy), fence.clone())),
            local_folder,
            lock,
            store: Fenced::over(store, fence.clone()),
            fence,
            layout,
            properties,
            admitted: tokio::sync::Semaphore::new(admitted(&options)),
            options,
            writing: tokio::sync::Mutex::default(),
            random: Mutex::new(random),
            known: tokio::sync::Mutex::default(),
            minted: Mutex::default(),
            footers: FooterCache::default(),
            key_encoding: OnceCell::new(),
            key_encoding_recorded: OnceCell::new(),
            contents: Recent::new(files::CONTENT_BYTES),
            dropped_columns: OnceLock::new(),
            index_cache,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Returns the table's name.
    pub fn name(&self) -> &str {
        &self.inner.properties.name
    }

    /// Returns the table's path in its store.
    pub fn root(&self) -> &Path {
        self.inner.layout.root()
    }

    /// Returns the version of the table's format.
    pub fn version(&self) -> TableVersion {
        self.inner.properties.version
    }

    /// Returns the indexes of the metadata table that the table listed when it was opened: `files`,
    /// `column_stats` and so on. Empty if there is no metadata table. Reads never use it.
    pub fn metadata_partitions(&self) -> Vec<&str> {
        self.inner.properties.metadata_partitions()
    }

    /// Returns the columns of the record key.
    pub fn record_key_fields(&self) -> &[String] {
        &self.inner.properties.record_key_fields
    }

    /// Returns the column that decides which of two rows is newer, if there is one.
    pub fn ordering_field(&self) -> Option<&str> {
        self.inner.properties.ordering_field.as_deref()
    }

    /// Returns the partition columns, outermost first.
    pub fn partition_fields(&self) -> &[String] {
        &self.inner.properties.partition_fields
    }

    /// Returns the options of this handle.
    pub fn options(&self) -> &TableOptions {
        &self.inner.options
    }

    /// Returns the data columns as of the latest commit.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if another engine created the table without a schema and nothing has been
    /// written yet.
    pub async fn schema(&self) -> Result<SchemaRef> {
        self.schema_of(&*self.view().await?)
    }

    /// Returns the active timeline.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`].
    pub async fn timeline(&self) -> Result<Timeline> {
        crate::timeline::load(self.store(), &self.inner.layout).await
    }

    /// Returns the path and the content of an action's latest file. [`timeline`](crate::timeline) decodes it.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`].
    pub async fn entry_file(&self, entry: &TimelineEntry) -> Result<(Path, Bytes)> {
        let path = self.inner.layout.entry_file(entry, entry.state)?;
        let bytes = storage::read(self.store(), &path).await?;
        Ok((path, bytes))
    }

    /// Returns the entries of the archive, file by file. For tables of version 8 and later, they contain no
    /// metadata.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`]; [`ErrorKind::Corrupt`], naming the file of the archive.
    pub async fn archived_entries(&self) -> Result<Vec<ArchivedEntry>> {
        if self.version().has_timeline_folder() {
            let archived = crate::timeline::history::load(self.store(), &self.inner.layout).await?;
            return Ok(archived.into_iter().map(|action| action.to_entry()).collect());
        }
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

    /// Rejects a table that this crate can only read, because of its version or because its properties do not
    /// determine keys, folders, or the rule that merges rows. Every write checks this.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], naming the property.
    pub fn check_writable(&self) -> Result<()> {
        self.inner.properties.check_writable()
    }

    /// Returns the time zone of the timeline's instants.
    pub fn time_zone(&self) -> &TimeZone {
        &self.inner.properties.zone
    }

    /// Returns the file groups and their versions, ordered by partition and id. These are all data files of
    /// the table.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`]; [`ErrorKind::Corrupt`] if there are base files, but no timeline.
    pub async fn file_groups(&self) -> Result<Vec<FileGroup>> {
        let view = self.view().await?;
        view.check_timeline(&self.inner.layout)?;
        Ok(view.groups.values().map(|group| FileGroup::clone(group)).collect())
    }

    /// Returns the earliest readable instant, if a clean has set one.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`].
    pub async fn earliest_instant(&self) -> Result<Option<Instant>> {
        Ok(self.view().await?.earliest)
    }

    /// Deletes the markers and the heartbeat of a finished write.
    pub(crate) async fn remove_markers(&self, instant: Instant) -> Result<()> {
        let folder = self.inner.layout.marker_folder(instant)?;
        let markers = storage::list_below(self.store(), &folder).await?;
        let markers = markers.into_iter().map(|marker| marker.location).collect();
        self.remove_known_markers(instant, markers).await
    }

    /// Deletes the heartbeat and the known markers of a finished write.
    pub(crate) async fn remove_known_markers(&self, instant: Instant, markers: Vec<Path>) -> Result<()> {
        let folder = self.inner.layout.marker_folder(instant)?;
        let mut files = markers;
        files.push(self.inner.layout.heartbeat(instant)?);
        storage::delete_all(self.store(), files).await?;
        if let Some(table) = &self.inner.local_folder {
            // A local disk keeps the empty folders, one per commit, and every listing would visit them.
            let folder = table.join(self.inner.layout.relative(&folder));
            if let Err(error) = std::fs::remove_dir_all(&folder)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(folder = %folder.display(), %error, "an empty folder could not be deleted");
            }
        }
        Ok(())
    }

    /// Removes a folder that contains only empty folders. A local disk would keep them.
    pub(crate) fn remove_empty_tree(&self, folder: &Path) {
        let Some(table) = &self.inner.local_folder else { return };
        let folder = table.join(self.inner.layout.relative(folder));
        if let Err(error) = std::fs::remove_dir_all(&folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %folder.display(), %error, "an empty folder could not be deleted");
        }
    }

    /// Removes the folder of a deleted partition, and its parents if they become empty. A local disk would
    /// keep them.
    pub(crate) fn remove_empty_folders(&self, partition: &str) {
        let Some(table) = &self.inner.local_folder else { return };
        let mut below = partition;
        while !below.is_empty() && std::fs::remove_dir(table.join(below)).is_ok() {
            below = below.rsplit_once('/').map_or("", |(above, _)| above);
        }
    }

    /// Waits for the exclusive right to change the table.
    pub(crate) async fn turn(&self) -> Result<Turn<'_>> {
        self.inner.properties.check_version_writable()?;
        let local = self.inner.writing.lock().await;
        let options = &self.inner.options;
        let cancellation = options.cancellation.as_ref();
        let acquire = async {
            match &self.inner.lock {
                Some(lock) => lock.acquire(options.lock_wait).await.map(Some),
                None => Ok(None),
            }
        };
        let writing = cancellation.map(Cancellation::writing);
        let held = tokio::select! {
            biased;
            () = cancelled(cancellation) => Err(Stop::Cancelled.error()),
            held = acquire => held,
        };
        if let (Err(_), Some(lock)) = (&held, &self.inner.lock) {
            // The request that acquires the lock may be in flight.
            lock.settled().await;
        }
        let held = held?;
        let watch = held.as_ref().and_then(|held| held.watch());
        self.inner.fence.arm(watch.clone());
        let stored = match self.stored_properties().await {
            Ok(stored) => stored,
            Err(error) => {
                self.inner.fence.disarm();
                release(held).await;
                return Err(error);
            }
        };
        let (metadata, view) = (Mutex::new(Metadata::Unchecked), Mutex::default());
        Ok(Turn {
            held,
            watch,
            table: self,
            stored,
            metadata,
            view,
            tombstone_files: tokio::sync::OnceCell::new(),
            verified: Mutex::default(),
            _writing: writing,
            _local: local,
        })
    }

    /// Runs work in a turn, as an operation with this name.
    pub(crate) async fn in_turn<T>(
        &self,
        name: &'static str,
        work: impl AsyncFnOnce(&Turn<'_>) -> Result<T>,
    ) -> Result<T> {
        let work = Box::pin(async {
            let turn = self.turn().await?;
            let done = turn.run(Box::pin(work(&turn))).await;
            turn.end().await;
            done
        });
        Operation::change(self, name).run(work).await
    }

    /// Returns `true` for a table on a local disk.
    pub(crate) fn is_local(&self) -> bool {
        self.inner.local_folder.is_some()
    }

    pub(crate) fn store(&self) -> &dyn ObjectStore {
        self.inner.store.as_ref()
    }

    /// Returns the number of concurrent storage calls. Remote storage can serve many. On a local disk, the
    /// number is limited by this machine's cores, and each additional thread costs memory.
    pub(crate) fn calls_at_a_time(&self) -> usize {
        let parallelism = self.inner.options.parallelism;
        if self.inner.local_folder.is_some() { parallelism } else { parallelism.max(REMOTE_CALLS) }
    }

    /// Waits until a file that takes `bytes` bytes of memory may be read or written concurrently with others.
    /// Any number of small files may be admitted, and as many large files as
    /// [`TableOptions::with_parallelism`] sets. A holder must not wait for another permit.
    pub(crate) async fn admit(&self, bytes: u64) -> Result<tokio::sync::SemaphorePermit<'_>> {
        let most = admitted(&self.inner.options) / self.inner.options.parallelism;
        let units = usize::try_from(bytes).unwrap_or(usize::MAX).div_ceil(ADMITTED_BYTES).clamp(1, most);
        let permit = self.inner.admitted.acquire_many(u32::try_from(units).unwrap_or(u32::MAX)).await;
        permit.map_err(|closed| {
            Error::new(ErrorKind::Storage, "the table admits no more files").with_source(closed)
        })
    }

    /// Returns the current view of the table.
    pub(crate) async fn view(&self) -> Result<Arc<View>> {
        let (layout, version) = (&self.inner.layout, self.version());
        let reach = Reach { width: self.calls_at_a_time(), is_local: self.is_local() };
        let changes = self.inner.known.lock().await.changes;
        let mut timeline = crate::timeline::load(self.store(), layout).await?;
        let mut known = self.inner.known.lock().await;
        if known.changes != changes {
            timeline = crate::timeline::load(self.store(), layout).await?;
        }
        // If this fails or is dropped, the next view is loaded by a listing.
        let before = known.view.take();
        known.changes +=
            u64::from(before.as_ref().is_none_or(|before| before.timeline.entries() != timeline.entries()));
        let view = Box::pin(View::load(self.store(), layout, version, reach, before, timeline)).await?;
        known.view = Some(view.clone());
        Ok(view)
    }

    /// Discards the cached view, because files changed without a change of the timeline.
    pub(crate) async fn forget_view(&self) {
        let mut known = self.inner.known.lock().await;
        known.view = None;
        known.changes += 1;
    }

    pub(crate) fn schema_of(&self, view: &View) -> Result<SchemaRef> {
        view.check_columns_named()?;
        view.check_timeline(&self.inner.layout)?;
        let stored = match (&view.schema, self.inner.properties.create_schema()) {
            (Some(schema), _) => schema.clone(),
            (None, Some(text)) => schema::canonical(&*schema::from_avro(text)?)?,
            (None, None) => {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    "the table has no schema before its first commit",
                )
                .with_context("path", self.root()));
            }
        };
        self.with_dropped_columns(stored)
    }

    /// Returns the Avro schema of the data columns as it was written.
    pub(crate) fn avro_of<'a>(&'a self, view: &'a View) -> Option<&'a str> {
        view.avro.as_deref().or_else(|| self.inner.properties.create_schema())
    }

    /// Creates an instant that is newer than all instants of the timeline.
    pub(crate) fn mint(&self, newest: Option<Instant>) -> Result<Instant> {
        let minted = Instant::mint(self.inner.options.clock.now(), &self.inner.properties.zone, newest)?;
        *self.inner.minted.lock().unwrap_or_else(PoisonError::into_inner) = Some(minted);
        Ok(minted)
    }

    /// Waits until the second of this handle's newest instant is over, for tables whose own Hudi release
    /// counts in seconds. Otherwise, the next instant of that Hudi in the same second would be older than
    /// this crate's instant.
    async fn outlast_second(&self) {
        let minted = self.inner.minted.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(minted) = minted.filter(|_| self.version().has_instants_of_seconds()) else { return };
        let next = Instant::from_timestamp(
            self.inner.options.clock.now() + SignedDuration::from_secs(1),
            &self.inner.properties.zone,
        );
        let second = |instant: Instant| instant.as_str()[..14].to_owned();
        if second(next) <= second(minted) {
            // If the clock lags behind the timeline by more than a second, do not wait for it.
            return;
        }
        let now = self.inner.options.clock.now();
        if second(Instant::from_timestamp(now, &self.inner.properties.zone)) <= second(minted) {
            let into = now.subsec_nanosecond().unsigned_abs();
            tokio::time::sleep(Duration::from_nanos(1_000_000_000 - u64::from(into.min(999_999_999)))).await;
        }
    }

    /// Returns a source of ids for new file groups of a commit.
    pub(crate) fn ids(&self, instant: Instant) -> FileIds {
        // The seed includes the instant, because a restarted process with the same seed must not generate the
        // same ids again.
        let digits = instant
            .as_str()
            .bytes()
            .fold(0_u64, |sum, digit| sum.wrapping_mul(10).wrapping_add(u64::from(digit.wrapping_sub(b'0'))));
        FileIds(match self.inner.options.seed {
            Some(seed) => fastrand::Rng::with_seed(seed.rotate_left(32) ^ digits),
            None => self.inner.random.lock().unwrap_or_else(PoisonError::into_inner).fork(),
        })
    }

    /// Returns the table's URL in the form that Hudi's plans use.
    pub(crate) fn base_url(&self) -> String {
        base_url(&self.inner.options, &self.inner.layout)
    }

    /// Returns the local cache entries of a base file of `bytes` bytes, if there is a cache.
    pub(crate) fn index_entry(&self, path: &Path, bytes: u64) -> Option<Entry> {
        self.inner.index_cache.as_ref().map(|cache| cache.entry(path, bytes))
    }
}

/// Returns the memory for files that are read and written, in units of [`ADMITTED_BYTES`].
fn admitted(options: &TableOptions) -> usize {
    let units = options.memory_budget / ADMITTED_SHARE / ADMITTED_BYTES;
    units.clamp(options.parallelism, tokio::sync::Semaphore::MAX_PERMITS)
}

fn base_url(options: &TableOptions, layout: &Layout) -> String {
    options.base_url.clone().unwrap_or_else(|| format!("/{}", layout.root()))
}

/// Returns the properties that Spark's `CREATE TABLE` would drop.
pub(crate) fn own(definition: &TableDefinition, properties: &TableProperties) -> BTreeMap<String, String> {
    let mut own = definition.others.clone();
    own.extend(properties.key_encoding.map(|encoding| (KEY_ENCODING.to_owned(), encoding.to_string())));
    own
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

/// The ids of new file groups.
pub(crate) struct FileIds(fastrand::Rng);

impl FileIds {
    /// Generates a UUID, followed by the number of the file within it, which is always 0 here.
    pub(crate) fn draw(&mut self) -> String {
        format!("{}-0", uuid::Builder::from_random_bytes(self.0.u128(..).to_be_bytes()).into_uuid())
    }
}

/// The exclusive right to change a table. It ends when this value is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    held: Option<Box<dyn HeldLock>>,
    watch: Option<Arc<dyn LeaseWatch>>,
    table: &'a Table,
    stored: Stored,
    metadata: Mutex<Metadata>,
    view: Mutex<Option<Arc<View>>>,
    /// The files of deleted keys and of hidden rows, after they have been listed.
    tombstone_files: tokio::sync::OnceCell<Vec<Path>>,
    /// The time of the last successful check of the lock.
    verified: Mutex<Option<tokio::time::Instant>>,
    _writing: Option<Writing>,
    _local: tokio::sync::MutexGuard<'a, ()>,
}

/// The state of the metadata table in a turn.
#[derive(Debug)]
enum Metadata {
    Unchecked,
    /// The metadata table was checked, and these indexes were dropped, if there were any.
    Dropped(Vec<String>),
}

impl Turn<'_> {
    /// Returns the view of the table in this turn. The timeline is listed only once, because no other turn
    /// completes actions while this turn holds the lock.
    pub(crate) async fn view(&self) -> Result<Arc<View>> {
        if let Some(view) = self.cached_view().clone() {
            return Ok(view);
        }
        let view = self.table.view().await?;
        *self.cached_view() = Some(view.clone());
        Ok(view)
    }

    /// Moves the view forward after an action of this turn. `act` applies the effect of the action to the
    /// timeline. The view is changed in place if the caller has dropped its own copies.
    pub(crate) async fn advance(&self, act: impl FnOnce(&mut Timeline), changes: Changes) {
        let before = self.cached_view().take();
        let mut known = self.table.inner.known.lock().await;
        known.view = None;
        known.changes += 1;
        let Some(before) = before else { return };
        let before = Arc::unwrap_or_clone(before);
        let mut timeline = before.timeline.clone();
        act(&mut timeline);
        let view = before.forward(timeline, changes, self.table.version()).map(Arc::new);
        known.view.clone_from(&view);
        *self.cached_view() = view;
    }

    /// Makes the next view list the timeline again, after a change of the timeline that changed no file.
    pub(crate) fn relist(&self) {
        *self.cached_view() = None;
    }

    /// Makes the next view list the table's folders again.
    pub(crate) async fn forget_view(&self) {
        self.relist();
        self.table.forget_view().await;
    }

    fn cached_view(&self) -> std::sync::MutexGuard<'_, Option<Arc<View>>> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks, before an irreversible step, that no other writer has taken over.
    pub(crate) async fn verify(&self) -> Result<()> {
        let Some(held) = &self.held else { return Ok(()) };
        let now = tokio::time::Instant::now();
        held.verify().await?;
        *self.verified() = Some(now);
        Ok(())
    }

    /// Like [`Turn::verify`], but skips the check if there was one within the last second. Use it for the
    /// upkeep that follows a commit.
    pub(crate) async fn confirm(&self) -> Result<()> {
        let verified = *self.verified();
        match verified {
            Some(at) if at.elapsed() < CONFIRMED => Ok(()),
            _ => self.verify().await,
        }
    }

    fn verified(&self) -> std::sync::MutexGuard<'_, Option<tokio::time::Instant>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the files of deleted keys and of hidden rows at the start of the turn. They are listed only
    /// once.
    pub(crate) async fn tombstone_files(&self) -> Result<Vec<Path>> {
        let list = || async {
            if !self.view().await?.timeline.has_folder(AUXILIARY_FOLDER) {
                return Ok(Vec::new());
            }
            let folder = self.table.inner.layout.tombstone_folder()?;
            let listed = storage::list_folder(self.table.store(), &folder).await?;
            Ok(listed.objects.into_iter().map(|file| file.location).collect())
        };
        self.tombstone_files.get_or_try_init(list).await.cloned()
    }

    /// Runs the work of this turn until the lease is lost or the caller cancels it. Work that is stopped
    /// sends nothing further. It is dropped after the changes in flight have taken effect or failed.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let fence = &self.table.inner.fence;
        let lost = async {
            match &self.watch {
                Some(watch) => watch.lost().await,
                None => std::future::pending().await,
            }
        };
        let mut work = std::pin::pin!(work);
        let stop = tokio::select! {
            biased;
            done = &mut work => return done,
            () = lost => Stop::Lost,
            () = cancelled(self.table.inner.options.cancellation.as_ref()) => Stop::Cancelled,
        };
        fence.stop(stop);
        tokio::select! {
            biased;
            done = &mut work => done,
            () = fence.quiet() => Err(stop.error()),
        }
    }

    /// Deletes files of the table, and the checksums that Hadoop may have written next to them. Before each
    /// thousand files, checks that no other writer has taken over. Returns the files that existed, or all if
    /// the storage does not report this.
    pub(crate) async fn delete_files(&self, view: &View, relatives: Vec<String>) -> Result<HashSet<String>> {
        let mut deleted = HashSet::new();
        for some in relatives.chunks(1_000) {
            self.verify().await?;
            deleted.extend(self.table.delete_files(view, some.to_vec()).await?);
        }
        Ok(deleted)
    }

    /// Returns the properties of the table at the start of the turn.
    pub(crate) fn stored(&self) -> &Stored {
        &self.stored
    }

    /// Returns `true` if the metadata table has not been checked in this turn yet.
    pub(crate) fn is_metadata_unchecked(&self) -> bool {
        matches!(*self.metadata(), Metadata::Unchecked)
    }

    pub(crate) fn set_dropped(&self, partitions: Vec<String>) {
        *self.metadata() = Metadata::Dropped(partitions);
    }

    /// Returns the indexes of the metadata table that this turn dropped.
    pub(crate) fn dropped(&self) -> Vec<String> {
        match &*self.metadata() {
            Metadata::Unchecked => Vec::new(),
            Metadata::Dropped(partitions) => partitions.clone(),
        }
    }

    fn metadata(&self) -> std::sync::MutexGuard<'_, Metadata> {
        self.metadata.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases the lock. A failure is only logged, because the changes are complete, and the lease expires
    /// by itself.
    pub(crate) async fn end(mut self) {
        if !is_cancelled(self.table) {
            self.table.outlast_second().await;
        }
        self.table.inner.fence.disarm();
        release(self.held.take()).await;
    }
}

/// If the future of a turn is dropped while a change may still take effect, the lease is left to expire by
/// itself.
impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        if self.table.inner.fence.disarm() {
            held.abandon();
        }
    }
}

fn is_cancelled(table: &Table) -> bool {
    table.inner.options.cancellation.as_ref().is_some_and(Cancellation::is_cancelled)
}

/// Waits until the caller cancels. Without a cancellation, waits forever.
pub(crate) async fn cancelled(cancellation: Option<&Cancellation>) {
    match cancellation {
        Some(cancellation) => cancellation.cancelled().await,
        None => std::future::pending().await,
    }
}

async fn release(held: Option<Box<dyn HeldLock>>) {
    if let Some(held) = held
        && let Err(error) = held.release().await
    {
        tracing::warn!(%error, "the table's lock could not be released");
    }
}
