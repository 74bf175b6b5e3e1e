//! The methods of [`Table`]. Each delegates to the module that does its work.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use bytes::Bytes;
use futures::Stream;
use jiff::tz::TimeZone;
use object_store::{ObjectStore, path::Path};

use crate::{
    Result, SourceFile,
    context::{Context, Table, TableOptions},
    definition::TableDefinition,
    location::Location,
    maintain,
    properties::TableVersion,
    read::{self, KeyVersion, Query, RowStream},
    recover::{RollbackReport, settle, undo},
    retention::{ArchiveReport, CleanReport, Plan, SavepointReport},
    snapshot::FileGroup,
    timeline::{Instant, Timeline, TimelineEntry, archive::ArchivedEntry},
    upgrade::{self, UpgradeReport},
    validate::{self, Finding},
    write::{self, CommitReport, Intake, Intent, Overwrite, at_hand, intake},
};

/// Creates, opens and describes tables.
impl Table {
    /// Creates a table with the default [options](TableOptions), and opens it.
    ///
    /// If the future is dropped, there is no table, or one that can be opened. The latter may lack the second
    /// copy of this crate's properties, which Spark's `CREATE TABLE` does not touch.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`](crate::ErrorKind::AlreadyExists) if there is already a table;
    /// [`ErrorKind::InvalidDefinition`](crate::ErrorKind::InvalidDefinition) if the definition names unknown
    /// columns, or columns of an unsuitable type.
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
        let context = Context::create(store, root, &definition, options).await?;
        Ok(Self::of(Arc::new(context)))
    }

    /// Opens a table with the default [options](TableOptions).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no table;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), naming the property, if it uses features
    /// that this crate does not support.
    pub async fn open(store: Arc<dyn ObjectStore>, root: Path) -> Result<Self> {
        Self::open_with(store, root, TableOptions::default()).await
    }

    /// Opens a table with these options.
    ///
    /// # Errors
    /// As [`Table::open`].
    pub async fn open_with(store: Arc<dyn ObjectStore>, root: Path, options: TableOptions) -> Result<Self> {
        Ok(Self::of(Arc::new(Context::open(store, root, options).await?)))
    }

    /// Opens the table at a URL with the default [options](TableOptions): `s3://bucket/folder` (with feature
    /// `aws`), `file:///folder`, or the path of a folder.
    ///
    /// `storage` configures S3 with the names of `object_store`, as in `("aws_region", "eu-west-1")`.
    /// Default: the `AWS_*` variables of the environment, or the role of the machine. If a storage needs more
    /// configuration, build it with `object_store` and use [`Table::open`].
    ///
    /// # Errors
    /// As [`Table::open`]; [`ErrorKind::InvalidDefinition`](crate::ErrorKind::InvalidDefinition) for a URL or
    /// an option that is not supported.
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
    /// As [`Table::create`]; [`ErrorKind::InvalidDefinition`](crate::ErrorKind::InvalidDefinition) for a URL
    /// or an option that is not supported.
    pub async fn create_url_with<K: AsRef<str>, V: Into<String>>(
        url: &str,
        storage: impl IntoIterator<Item = (K, V)>,
        definition: TableDefinition,
        options: TableOptions,
    ) -> Result<Self> {
        let (store, root, options) = Location::of(url, storage)?.with_options(options);
        Self::create_with(store, root, definition, options).await
    }

    /// Returns the table's name.
    pub fn name(&self) -> &str {
        self.context().name()
    }

    /// Returns the table's path in its store.
    pub fn root(&self) -> &Path {
        self.context().root()
    }

    /// Returns the version of the table's format.
    pub fn version(&self) -> TableVersion {
        self.context().version()
    }

    /// Returns the indexes of the metadata table that the table listed when it was opened: `files`,
    /// `column_stats` and so on. Empty if there is no metadata table. Reads never use it.
    pub fn metadata_partitions(&self) -> Vec<&str> {
        self.context().properties().metadata_partitions()
    }

    /// Returns the columns of the record key.
    pub fn record_key_fields(&self) -> &[String] {
        self.context().record_key_fields()
    }

    /// Returns the column that decides which of two rows is newer, if there is one.
    pub fn ordering_field(&self) -> Option<&str> {
        self.context().properties().ordering_field.as_deref()
    }

    /// Returns the partition columns, outermost first.
    pub fn partition_fields(&self) -> &[String] {
        &self.context().properties().partition_fields
    }

    /// Returns the options of this handle.
    pub fn options(&self) -> &TableOptions {
        self.context().options()
    }

    /// Returns the data columns as of the latest commit.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if another engine created the table without a
    /// schema and nothing has been written yet.
    pub async fn schema(&self) -> Result<SchemaRef> {
        self.context().schema_of(&*self.context().view().await?)
    }

    /// Returns the active timeline.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage).
    pub async fn timeline(&self) -> Result<Timeline> {
        self.context().timeline().await
    }

    /// Returns the path and the content of an action's latest file. [`timeline`](crate::timeline) decodes it.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage).
    pub async fn entry_file(&self, entry: &TimelineEntry) -> Result<(Path, Bytes)> {
        self.context().entry_file(entry).await
    }

    /// Returns the entries of the archive, file by file. For tables of version 8 and later, they contain no
    /// metadata.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage); [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt),
    /// naming the file of the archive.
    pub async fn archived_entries(&self) -> Result<Vec<ArchivedEntry>> {
        self.context().archived_entries().await
    }

    /// Rejects a table that this crate can only read, because of its version or because its properties do not
    /// determine keys, folders, or the rule that merges rows. Every write checks this.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), naming the property.
    pub fn check_writable(&self) -> Result<()> {
        self.context().properties().check_writable()
    }

    /// Returns the time zone of the timeline's instants.
    pub fn time_zone(&self) -> &TimeZone {
        &self.context().properties().zone
    }

    /// Returns the file groups and their versions, ordered by partition and id. These are all data files of
    /// the table.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage); [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt)
    /// if there are base files, but no timeline.
    pub async fn file_groups(&self) -> Result<Vec<FileGroup>> {
        self.context().file_groups().await
    }

    /// Returns the earliest readable instant, if a clean has set one.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage).
    pub async fn earliest_instant(&self) -> Result<Option<Instant>> {
        Ok(self.context().view().await?.earliest)
    }
}

/// Writes rows.
impl Table {
    /// Writes rows. New keys are added. For an existing key, the newer one of the stored and the incoming row
    /// is kept.
    ///
    /// - The ordering column decides which row is newer. On a tie, the incoming row wins. A late row changes
    ///   nothing. This is also true if its key was deleted in the meantime, as long as that deletion is
    ///   inside the retained window.
    /// - Of several rows with the same key, the one with the highest ordering value counts and, on a tie, the
    ///   last one.
    /// - A key is stored only once. If its partition has changed, the row moves.
    /// - A row whose `_hoodie_is_deleted` is true deletes its key, unless the row is late. Without an
    ///   ordering value, it deletes the stored row and earlier rows of the input.
    /// - New nullable columns and wider types are added to the table's schema.
    ///
    /// If nothing changes, there is no commit, and the report's `instant` is `None`.
    ///
    /// If the future is dropped, the write ends [as in a crash](Table#dropped-futures).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the rows do not fit the table, before
    /// anything is written; [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) or
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage) if the write was not committed;
    /// [`ErrorKind::Unknown`](crate::ErrorKind::Unknown) if the storage did not report the outcome.
    pub async fn upsert(&self, batches: &[RecordBatch]) -> Result<CommitReport> {
        self.upsert_stream(at_hand(batches)).await
    }

    /// Upserts a stream of batches (see [`Table::upsert`]). Nothing is written before the stream has ended.
    /// If the stream returns an error, the upsert returns it, and nothing is written.
    ///
    /// If the future is dropped, the write ends [as in a crash](Table#dropped-futures).
    ///
    /// # Errors
    /// As [`Table::upsert`], and the errors of the stream.
    pub async fn upsert_stream(
        &self,
        rows: impl Stream<Item = Result<RecordBatch>> + Send,
    ) -> Result<CommitReport> {
        write::write(self.context(), "upsert", rows, Intent::Upsert).await
    }

    /// Writes the rows whose key is new. Stored rows stay unchanged, and incoming rows with their keys count
    /// as unchanged.
    ///
    /// If the future is dropped, the write ends [as in a crash](Table#dropped-futures).
    ///
    /// # Errors
    /// As [`Table::upsert`].
    pub async fn insert(&self, batches: &[RecordBatch]) -> Result<CommitReport> {
        self.insert_stream(at_hand(batches)).await
    }

    /// Inserts a stream of batches (see [`Table::insert`] and [`Table::upsert_stream`]).
    ///
    /// If the future is dropped, the write ends [as in a crash](Table#dropped-futures).
    ///
    /// # Errors
    /// As [`Table::upsert`], and the errors of the stream.
    pub async fn insert_stream(
        &self,
        rows: impl Stream<Item = Result<RecordBatch>> + Send,
    ) -> Result<CommitReport> {
        write::write(self.context(), "insert", rows, Intent::Insert).await
    }

    /// Adds rows whose keys the caller knows to be new. Keys are not looked up. The rows are written to new
    /// file groups, each of which contains a range of keys of one partition. Within a file, the rows have the
    /// order of the input. If the input is larger than the memory budget, a file consists of sections in that
    /// order, each with a range of keys. Use it for the first load of a table. A key that is already stored
    /// would be stored twice, which [`Table::validate`] detects.
    ///
    /// If the input has several rows with the same key, one of them counts, as for [`Table::upsert`]. (Hudi's
    /// own bulk insert keeps all of them, unless `hoodie.combine.before.insert` is set.) A row whose
    /// `_hoodie_is_deleted` is true is dropped.
    ///
    /// If the future is dropped, the write ends [as in a crash](Table#dropped-futures). Find out if it
    /// committed before you repeat it.
    ///
    /// # Errors
    /// As [`Table::upsert`]. After [`ErrorKind::Unknown`](crate::ErrorKind::Unknown), call [`Table::settle`]
    /// first, because a repeated bulk insert would store its rows twice.
    pub async fn bulk_insert(&self, batches: &[RecordBatch]) -> Result<CommitReport> {
        self.bulk_insert_stream(at_hand(batches)).await
    }

    /// Bulk inserts a stream of batches (see [`Table::bulk_insert`] and [`Table::upsert_stream`]).
    ///
    /// If the future is dropped, the same holds as for [`Table::bulk_insert`].
    ///
    /// # Errors
    /// As [`Table::upsert`], and the errors of the stream.
    pub async fn bulk_insert_stream(
        &self,
        rows: impl Stream<Item = Result<RecordBatch>> + Send,
    ) -> Result<CommitReport> {
        write::write(self.context(), "bulk_insert", rows, Intent::BulkInsert).await
    }

    /// Deletes keys, ignoring their ordering values. The batches need only the record key columns. Keys that
    /// are not stored count as unchanged.
    ///
    /// If the future is dropped, the write ends [as in a crash](Table#dropped-futures).
    ///
    /// # Errors
    /// As [`Table::upsert`].
    pub async fn delete(&self, keys: &[RecordBatch]) -> Result<CommitReport> {
        self.delete_stream(at_hand(keys)).await
    }

    /// Deletes a stream of keys (see [`Table::delete`] and [`Table::upsert_stream`]).
    ///
    /// If the future is dropped, the write ends [as in a crash](Table#dropped-futures).
    ///
    /// # Errors
    /// As [`Table::upsert`], and the errors of the stream.
    pub async fn delete_stream(
        &self,
        keys: impl Stream<Item = Result<RecordBatch>> + Send,
    ) -> Result<CommitReport> {
        write::write(self.context(), "delete", keys, Intent::Delete).await
    }
}

/// Overwrites partitions.
impl Table {
    /// Replaces all rows of the partitions in the input. An unpartitioned table counts as one partition. Old
    /// rows are removed regardless of their ordering values, and rows of the input are never late, even if
    /// their keys were deleted. A key that is stored in another partition is moved from there. (Hudi's own
    /// insert overwrite does not look there, and leaves the key in both partitions.)
    ///
    /// If the input has several rows with the same key, one of them counts, as for [`Table::upsert`]. (Hudi's
    /// own insert overwrite keeps all of them, unless `hoodie.combine.before.insert` is set.) A key that was
    /// stored more than once counts once. A partition that already contains exactly these rows is not
    /// changed. If this is true for all partitions, there is no commit.
    ///
    /// The commit is a replacecommit. Reads of the past see the old rows as long as they are retained.
    ///
    /// If the future is dropped, the write ends [as in a crash](Table#dropped-futures).
    ///
    /// # Errors
    /// As [`Table::upsert`].
    pub async fn insert_overwrite(&self, batches: &[RecordBatch]) -> Result<CommitReport> {
        self.insert_overwrite_stream(at_hand(batches)).await
    }

    /// Overwrites with a stream of batches (see [`Table::insert_overwrite`] and [`Table::upsert_stream`]).
    ///
    /// If the future is dropped, the write ends [as in a crash](Table#dropped-futures).
    ///
    /// # Errors
    /// As [`Table::upsert`], and the errors of the stream.
    pub async fn insert_overwrite_stream(
        &self,
        rows: impl Stream<Item = Result<RecordBatch>> + Send,
    ) -> Result<CommitReport> {
        write::overwrite(self.context(), "insert_overwrite", rows, Overwrite::of_rows()).await
    }

    /// Replaces all rows of the table, like [`Table::insert_overwrite`] for every existing partition.
    ///
    /// If the future is dropped, the write ends [as in a crash](Table#dropped-futures).
    ///
    /// # Errors
    /// As [`Table::upsert`].
    pub async fn insert_overwrite_table(&self, batches: &[RecordBatch]) -> Result<CommitReport> {
        self.insert_overwrite_table_stream(at_hand(batches)).await
    }

    /// Overwrites the table with a stream of batches (see [`Table::insert_overwrite_table`] and
    /// [`Table::upsert_stream`]).
    ///
    /// If the future is dropped, the write ends [as in a crash](Table#dropped-futures).
    ///
    /// # Errors
    /// As [`Table::upsert`], and the errors of the stream.
    pub async fn insert_overwrite_table_stream(
        &self,
        rows: impl Stream<Item = Result<RecordBatch>> + Send,
    ) -> Result<CommitReport> {
        write::overwrite(self.context(), "insert_overwrite_table", rows, Overwrite::of_all()).await
    }

    /// Deletes all rows of partitions, given by their paths relative to the table, such as `day=2025-01-01`.
    /// A path without rows is ignored.
    ///
    /// If the future is dropped, the write ends [as in a crash](Table#dropped-futures).
    ///
    /// # Errors
    /// As [`Table::upsert`].
    pub async fn delete_partitions<P: Into<String>>(
        &self,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<CommitReport> {
        let overwrite = Overwrite::of_named(partitions.into_iter().map(Into::into).collect());
        write::overwrite(self.context(), "delete_partitions", at_hand(&[]), overwrite).await
    }
}

/// Takes in files.
impl Table {
    /// Upserts the rows of files, except the rows of files that an earlier commit took in.
    ///
    /// `rows` receives the new files, in order, and returns their rows. It runs while this writer holds the
    /// table's lock, so two writers never take in the same file. The commit records the new files, even if it
    /// changes no row. Files without any rows are not recorded and do not cause a commit.
    ///
    /// If the commit is rolled back, or the table is restored to a time before it, its files count as new
    /// again.
    ///
    /// If the future is dropped, the write ends [as in a crash](Table#dropped-futures). It can be repeated,
    /// because the commit records its files.
    ///
    /// # Errors
    /// As [`Table::upsert_stream`].
    pub async fn take_in<S>(
        &self,
        files: &[SourceFile],
        rows: impl FnOnce(Vec<SourceFile>) -> S + Send,
    ) -> Result<Intake<CommitReport>>
    where
        S: Stream<Item = Result<RecordBatch>> + Send,
    {
        intake::take_in(self.context(), files, rows).await
    }

    /// Returns the files that no commit has taken in. Does not acquire the table's lock, so another writer
    /// may take them in at any time.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage); [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt).
    pub async fn new_files(&self, files: &[SourceFile]) -> Result<Vec<SourceFile>> {
        intake::new_files(self.context(), files).await
    }
}

/// Determines the outcome of a write.
impl Table {
    /// Returns `true` if the commit with the instant of an [`ErrorKind::Unknown`](crate::ErrorKind::Unknown)
    /// has completed. A commit that did not complete is rolled back, so that the result is final. After
    /// `false`, the write can be repeated.
    ///
    /// If the future is dropped, call it again. The same holds as for [`Table::rollback`].
    ///
    /// # Errors
    /// [`ErrorKind::OutsideRetention`](crate::ErrorKind::OutsideRetention) if the instant is older than the
    /// active timeline; [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if its writer is alive, or if
    /// another writer holds the table's lock; [`ErrorKind::Storage`](crate::ErrorKind::Storage).
    pub async fn settle(&self, instant: Instant) -> Result<bool> {
        settle::settle(self.context(), instant).await
    }
}

/// Undoes a write.
impl Table {
    /// Undoes the latest completed commit, or an unfinished write. This restores the table to its earlier
    /// state.
    ///
    /// If the future is dropped, the commit is kept, its rollback is announced, or it is undone. The next
    /// write [completes](Table#dropped-futures) an announced rollback.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if there is no such commit on the active
    /// timeline, if later commits are based on it (undo those first), or if it has a savepoint;
    /// [`ErrorKind::OutsideRetention`](crate::ErrorKind::OutsideRetention) if a clean has deleted files of
    /// the earlier state.
    pub async fn rollback(&self, instant: Instant) -> Result<RollbackReport> {
        undo::rollback(self.context(), instant).await
    }
}

/// Reads rows.
impl Table {
    /// Reads rows with the latest schema. A column that was added after a file was written is null in the
    /// file's rows.
    ///
    /// The batches have a stable order: by partition, file group and position in the file. There is always at
    /// least one batch, so that the schema is known.
    ///
    /// # Errors
    /// [`ErrorKind::OutsideRetention`](crate::ErrorKind::OutsideRetention), naming the earliest instant, if
    /// the files of that time were cleaned; [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for
    /// an unknown column; [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for [`Query::since`] on a
    /// table without meta columns; [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt),
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage).
    pub async fn read(&self, query: Query) -> Result<Vec<RecordBatch>> {
        read::read(self.context(), query).await
    }

    /// Reads rows like [`Table::read`], but as a stream of batches, so that only a few batches are in memory.
    ///
    /// The stream reads as many files ahead as the [options](crate::TableOptions::with_parallelism) allow,
    /// some batches of each, and stops reading when it is dropped. From remote storage, it fetches more files
    /// ahead, up to a quarter of the [memory budget](crate::TableOptions::with_memory_budget).
    ///
    /// # Errors
    /// As [`Table::read`]. The stream also ends with [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if a
    /// clean deletes a file before the stream reaches it. A stream that takes longer than the retained window
    /// must then be restarted.
    pub async fn read_stream(&self, query: Query) -> Result<RowStream> {
        read::read_stream(self.context(), query).await
    }
}

/// Reads the history of a key.
impl Table {
    /// Returns the versions of a key in the retained commits, oldest first: the row at the beginning of the
    /// window, and each change since then.
    ///
    /// The key must be in Hudi's form: the value of a single record key column, or `a:1,b:2` for several
    /// columns. A timestamp is its number of microseconds. [`Table::history_of`] accepts values instead.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage), [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt);
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a table without meta columns.
    pub async fn history(&self, key: &str) -> Result<Vec<KeyVersion>> {
        read::history(self.context(), key).await
    }

    /// Returns the versions of a key, like [`Table::history`]: `key` is a batch of one row with the record
    /// key columns.
    ///
    /// # Errors
    /// As [`Table::history`]; [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the batch lacks
    /// a record key column, has values that are incompatible with the table's types, or does not have exactly
    /// one row.
    pub async fn history_of(&self, key: &RecordBatch) -> Result<Vec<KeyVersion>> {
        read::history_of(self.context(), key).await
    }
}

/// Recognizes type 2 histories.
impl Table {
    /// Returns `true` if this is the table of a history (SCD type 2), which [`Scd2Table::of`] opens.
    ///
    /// [`Scd2Table::of`]: crate::scd::Scd2Table::of
    pub fn is_history(&self) -> bool {
        self.context().is_history()
    }
}

/// Cleans.
impl Table {
    /// Deletes the files outside the retention, after completing earlier unfinished cleans. Returns `None` if
    /// there was nothing to delete.
    ///
    /// If the future is dropped, the clean may be unfinished, with some of its files
    /// [deleted](Table#dropped-futures).
    ///
    /// # Errors
    /// [`Storage`](crate::ErrorKind::Storage), [`Corrupt`](crate::ErrorKind::Corrupt). The next write
    /// completes a clean that failed halfway.
    pub async fn clean(&self) -> Result<Option<CleanReport>> {
        maintain::clean(self.context()).await
    }

    /// Computes what a clean would delete now, by the policy of this handle (default: Hudi's), without
    /// deleting anything.
    ///
    /// # Errors
    /// [`Storage`](crate::ErrorKind::Storage), [`Corrupt`](crate::ErrorKind::Corrupt).
    pub async fn clean_plan(&self) -> Result<Plan> {
        maintain::clean_plan(self.context()).await
    }
}

/// Archives.
impl Table {
    /// Moves the oldest actions into the archive, within the limits of this handle's options and the retained
    /// window. Returns `None` if there was nothing to archive.
    ///
    /// If the future is dropped, some of the actions may be [archived](Table#dropped-futures).
    ///
    /// # Errors
    /// [`Storage`](crate::ErrorKind::Storage), [`Corrupt`](crate::ErrorKind::Corrupt). The next archival
    /// repeats one that failed halfway. The archive then contains duplicates, which are harmless.
    pub async fn archive(&self) -> Result<Option<ArchiveReport>> {
        maintain::archive(self.context()).await
    }
}

/// Protects commits from cleans.
impl Table {
    /// Protects the files of a completed commit from cleaning, whatever the retention is, until
    /// [`Table::delete_savepoint`] is called. `user` and `comment` record the author and the reason.
    ///
    /// If the future is dropped, the savepoint may exist, or be [unfinished](Table#dropped-futures). An
    /// unfinished savepoint protects nothing.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if there is no such completed commit on
    /// the active timeline; [`ErrorKind::OutsideRetention`](crate::ErrorKind::OutsideRetention) if its files
    /// were already cleaned; [`ErrorKind::AlreadyExists`](crate::ErrorKind::AlreadyExists) if the commit is
    /// already protected.
    pub async fn savepoint(&self, instant: Instant, user: &str, comment: &str) -> Result<SavepointReport> {
        maintain::savepoint(self.context(), instant, user, comment).await
    }

    /// Deletes a savepoint. The next clean may delete the files that it protected.
    ///
    /// If the future is dropped, the same holds as for [`Table::savepoint`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the commit is not protected.
    pub async fn delete_savepoint(&self, instant: Instant) -> Result<()> {
        maintain::delete_savepoint(self.context(), instant).await
    }
}

/// Upgrades.
impl Table {
    /// Upgrades a table of version 2 to 5 to version 6, which Hudi 0.14 and later write. A write never does
    /// this automatically, because after an upgrade Hudi 0.13 and earlier can read the table but no longer
    /// write it. Open the table again after the upgrade, because this handle rejects further changes.
    ///
    /// An upgrade that fails can be repeated, and so can one whose future is
    /// [dropped](Table#dropped-futures). The rows, the files and the timeline do not change. An existing
    /// metadata table is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for other versions, and for a table with a
    /// partition `default`, which up to version 4 contains rows without a partition value;
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if another writer is active; otherwise as
    /// [`Table::upsert`].
    pub async fn upgrade(&self) -> Result<UpgradeReport> {
        upgrade::upgrade(self.context()).await
    }

    /// Computes what [`Table::upgrade`] would change, without changing it.
    ///
    /// # Errors
    /// As [`Table::upgrade`].
    pub async fn upgrade_plan(&self) -> Result<UpgradeReport> {
        upgrade::plan(self.context()).await
    }
}

/// Checks the table.
impl Table {
    /// Checks the latest snapshot of the table row by row. Checks its timeline, older versions and savepoints
    /// by their metadata. A valid table has no findings.
    ///
    /// For each file and invariant, only the first violation is reported. Keys that are stored twice are all
    /// reported.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage). Defects of the table are findings and not errors,
    /// unless its timeline cannot be read at all.
    pub async fn validate(&self) -> Result<Vec<Finding>> {
        validate::validate(self.context()).await
    }
}
