//! Merges the rows of the old version and the changes of this commit into the new version.
//!
//! Stored rows keep their order, and changed rows keep their position. New rows are added at the end. An
//! unchanged row keeps the commit time and the sequence number of the commit that wrote it.
//!
//! The old version is processed row group by row group, and each row group column by column. Everything that
//! the format allows to be copied is not computed again:
//!
//! | part of a row group | how it is processed |
//! |---|---|
//! | a group that loses rows | decoded and encoded without them |
//! | a small group that other rows follow | decoded and joined with them |
//! | otherwise: record keys and partition paths | copied in stored form, because they do not change |
//! | a column without changed values | copied in stored form |
//! | a column with changed values | [patched](super::pages) page by page; if that is impossible, decoded, patched, encoded |
//! | file names | encoded as a single value |
//!
//! A remote file may be [sparse](crate::base_file::Sparse). In that case, the ranges that a row group needs
//! are fetched before it is processed, and the storage copies the column chunks without changes.

use std::{io::Write, ops::Range, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, new_null_array},
    datatypes::{FieldRef, Schema, SchemaRef},
};
use parquet::{arrow::arrow_writer::ArrowColumnWriter, file::metadata::ParquetMetaData};

use super::{
    base_file::{BaseFileWriter, FileFormat, Keys, KnownKeys, MetaColumns, encode_column},
    chunk::Chunk,
    distinct,
    pages::{self, NewValues, PatchedChunk},
};
use crate::{
    Error, ErrorKind, Result,
    base_file::{OpenFile, Source, conform_stored},
    concurrent::side_by_side,
    index::key_column,
    index_cache::KeysWriter,
    patched_upload::CommonChunks,
    schema::META_COLUMNS,
    timeline::Instant,
    write::decide::{
        patch::{Edits, constant},
        rows::{Appends, FileEdits},
    },
};

/// A row group with fewer rows and bytes is joined with the following rows.
const SMALL_GROUP_ROWS: u64 = 32 * 1024;
/// See [`SMALL_GROUP_ROWS`].
const SMALL_GROUP_BYTES: i64 = 8 * 1024 * 1024;
/// Pages are patched if at most one row in this many changes. With more new values, encoding is as fast.
const MOST_PATCHED: u64 = 4;
// The positions of the meta columns, and of the first data column.
const COMMIT_TIME: usize = 0;
const COMMIT_SEQNO: usize = 1;
const RECORD_KEY: usize = 2;
const PARTITION_PATH: usize = 3;
const FILE_NAME: usize = 4;
const DATA: usize = META_COLUMNS.len();

/// The parameters of a merge of one file group.
pub(crate) struct Merge {
    pub(crate) format: Arc<FileFormat>,
    /// The data columns of the table after this commit.
    pub(crate) schema: SchemaRef,
    pub(crate) instant: Instant,
    /// The number of this task in its commit, which is a part of sequence numbers.
    pub(crate) task: usize,
    pub(crate) partition: String,
    /// The name of the new file.
    pub(crate) name: String,
    /// The previous version.
    pub(crate) old: Option<OpenFile>,
    pub(crate) edits: FileEdits,
    pub(crate) appends: Appends,
    /// `true` if the new version drops rows of the old one.
    pub(crate) drops: bool,
    /// The number of rows in the new version.
    pub(crate) rows: u64,
    /// The number of cores that the merge may use.
    pub(crate) threads: usize,
    /// The cache for the keys of the new version, with the values of one data column.
    pub(crate) kept: Option<KeptKeys>,
    /// Receives the chunks that the storage copies, if the previous version is sparse.
    pub(crate) common: CommonChunks,
}

/// A new version of a file group.
pub(crate) struct Merged {
    pub(crate) rows: u64,
    pub(crate) footer: ParquetMetaData,
    /// Its keys, if they will be cached.
    pub(crate) kept: Option<KeysWriter>,
}

/// The cached keys of the new version on the local disk, while they are being written.
pub(crate) struct KeptKeys {
    pub(crate) writer: Option<KeysWriter>,
    /// The data column that contains the ordering values.
    pub(crate) ordering: Option<usize>,
}

impl KeptKeys {
    fn add(&mut self, keys: &StringArray, ordering: Option<&ArrayRef>) {
        self.writer = self.writer.take().and_then(|writer| writer.add(keys, ordering));
    }

    /// Adds rows whose data columns are all available.
    fn add_rows(&mut self, keys: &StringArray, data: &[ArrayRef]) {
        self.add(keys, self.ordering.map(|column| &data[column]));
    }
}

impl Merge {
    /// Runs the merge and returns its sink. It is CPU-bound and must run on a blocking thread.
    pub(crate) fn run<W: Write + Send>(self, mut out: W) -> Result<(W, Merged)> {
        let merged = self.write(&mut out)?;
        Ok((out, merged))
    }

    fn write<W: Write + Send>(self, out: &mut W) -> Result<Merged> {
        let Self {
            format,
            schema,
            instant,
            task,
            partition,
            name,
            old,
            edits,
            appends,
            drops,
            rows,
            threads,
            kept,
            common,
        } = self;
        let known = match &old {
            Some(file) => {
                let range = file.footer().key_range.clone().filter(|_| !drops);
                let bloom = match format.takes_filter(file.footer()) {
                    true => file.footer().bloom_filter()?,
                    false => None,
                };
                KnownKeys { bloom, new: appends.rows(), range }
            }
            None => KnownKeys::default(),
        };
        let plain = match &old {
            Some(_) => Vec::new(),
            None => distinct::columns(&appends)?.into_iter().map(|column| DATA + column).collect(),
        };
        let properties = format.writer_properties(old.as_ref(), &plain);
        let writer = BaseFileWriter::new(format.clone(), out, &name, rows, properties, known, common)?;
        let time = instant.to_string();
        let mut changes = edits.open()?;
        let target = Target { format, schema, time, task, partition };
        let mut output = Output { writer, target, threads, kept };
        if let Some(file) = &old {
            let groups = file.groups();
            for (group, positions) in groups.iter().enumerate() {
                let edits = changes.within(positions)?;
                let stored = StoredGroup { file, group, positions: positions.clone(), edits };
                let is_followed = group + 1 < groups.len() || appends.rows() > 0;
                if is_followed && stored.is_small() {
                    output.join(&stored)?;
                } else {
                    output.carry(&stored)?;
                }
            }
        }
        for batch in appends.batches() {
            let (keys, rows) = batch?;
            output.append(keys, &rows)?;
        }
        let kept = output.kept.and_then(|kept| kept.writer);
        let (footer, rows) = output.writer.finish()?;
        Ok(Merged { rows, footer, kept })
    }
}

/// A row group of the previous version, with its changes.
struct StoredGroup<'a> {
    file: &'a OpenFile,
    group: usize,
    positions: Range<u64>,
    edits: Edits,
}

impl StoredGroup<'_> {
    /// Returns the number of its remaining rows.
    fn rows(&self) -> u64 {
        self.positions.end - self.positions.start - self.edits.drops()
    }

    fn is_small(&self) -> bool {
        let bytes = self.file.footer().metadata().row_group(self.group).total_byte_size();
        self.rows() < SMALL_GROUP_ROWS && bytes < SMALL_GROUP_BYTES
    }

    /// Reads batches of some columns, each with the position of its first row.
    fn read(
        &self,
        columns: &dyn Fn(&str) -> bool,
    ) -> Result<impl Iterator<Item = Result<(u64, RecordBatch)>> + use<>> {
        let mut next = self.positions.start;
        let batches = self.file.read_groups(Some(vec![self.group]), columns, None)?;
        Ok(batches.map(move |batch| {
            let batch = batch?;
            let start = next;
            next += batch.num_rows() as u64;
            Ok((start, batch))
        }))
    }

    /// Returns the ranges of some columns: either of the pages with changed rows, or of whole chunks.
    fn ranges(&self, columns: &dyn Fn(&str) -> bool, positions: Option<&[u64]>) -> Vec<Range<u64>> {
        self.file.ranges(Some(&[self.group]), columns, positions)
    }

    /// Returns the positions of changed rows in the group.
    fn positions_in_group(&self) -> Vec<u64> {
        self.edits.rows.iter().map(|edit| edit.position - self.positions.start).collect()
    }

    fn meta(&self, batch: &RecordBatch, column: usize) -> Result<ArrayRef> {
        batch.column_by_name(META_COLUMNS[column]).cloned().ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "a base file lacks a meta column")
                .with_context("file", self.file.path())
                .with_context("column", META_COLUMNS[column])
        })
    }

    /// Converts a stored column to the table's type.
    fn column(&self, batch: &RecordBatch, field: &FieldRef) -> Result<ArrayRef> {
        if batch.num_columns() == 0 {
            return Ok(new_null_array(field.data_type(), batch.num_rows()));
        }
        let schema = Arc::new(Schema::new(vec![field.clone()]));
        // The meta columns that were read with it come first.
        let conformed = conform_stored(batch, &schema, self.file.path())?;
        Ok(conformed.column(conformed.num_columns() - 1).clone())
    }
}

/// Properties of the new version.
struct Target {
    format: Arc<FileFormat>,
    schema: SchemaRef,
    time: String,
    task: usize,
    partition: String,
}

impl Target {
    /// Returns a column of a row group: in stored form if possible, otherwise encoded.
    fn rewritten(
        &self,
        stored: &StoredGroup<'_>,
        column: usize,
        writers: Vec<ArrowColumnWriter>,
        numbers: &ArrayRef,
    ) -> Result<Vec<Chunk>> {
        match self.as_stored(stored, column)? {
            Some(chunks) => Ok(chunks),
            None => self.encode(stored, column, writers, numbers),
        }
    }

    /// Encodes a column of a row group with its changes applied.
    fn encode(
        &self,
        stored: &StoredGroup<'_>,
        column: usize,
        writers: Vec<ArrowColumnWriter>,
        numbers: &ArrayRef,
    ) -> Result<Vec<Chunk>> {
        let field = self.format.field(column);
        let patch = match column {
            COMMIT_TIME => stored.edits.of_value(constant(&self.time)),
            COMMIT_SEQNO => stored.edits.of_values(numbers.clone()),
            RECORD_KEY | PARTITION_PATH => stored.edits.of_dropped(),
            _ => stored.edits.of_column(column - DATA),
        };
        let values = stored.read(&|name| name == field.name())?.map(|batch| {
            let (start, batch) = batch?;
            let values = match column.checked_sub(DATA) {
                None => stored.meta(&batch, column)?,
                Some(data) => stored.column(&batch, &self.schema.fields()[data])?,
            };
            patch.apply(&values, start)
        });
        encode_column(field, writers, values)
    }

    /// Returns the new values of changed rows. Contains `None` for columns that are not patched page by page.
    fn new_values(&self, stored: &StoredGroup<'_>, numbers: &ArrayRef) -> Result<Option<NewValues>> {
        let edits = &stored.edits;
        let is_worth_it = edits.rows.len() as u64 <= stored.rows() / MOST_PATCHED;
        if !edits.replaces() || edits.drops() > 0 || !is_worth_it || !self.format.is_patchable() {
            return Ok(None);
        }
        let times = StringArray::from_iter_values(std::iter::repeat_n(&self.time, edits.rows.len()));
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.format.columns()];
        columns[COMMIT_TIME] = Some(Arc::new(times));
        columns[COMMIT_SEQNO] = Some(numbers.clone());
        for (column, values) in columns[DATA..].iter_mut().enumerate() {
            *values = Some(edits.new_values(column)?);
        }
        NewValues::new(&self.format, &columns, edits.rows.len()).map(Some)
    }

    /// Returns the column chunk of a column with one leaf, patched page by page.
    fn patched(&self, stored: &StoredGroup<'_>, column: usize, new: &NewValues) -> Option<Vec<Chunk>> {
        let file = stored.file;
        let leaves = file.leaves(self.format.field(column).name());
        let ([leaf], true) = (leaves.as_slice(), self.format.takes_as_is(column, file, &leaves)) else {
            return None;
        };
        let rows: Vec<usize> = stored.positions_in_group().iter().map(|row| *row as usize).collect();
        let new_leaf = self.format.leaves(column).start;
        let chunk = match pages::patch(file, stored.group, *leaf, &rows, new, new_leaf, self.format.codec())?
        {
            PatchedChunk::Unchanged => {
                Chunk::Stored(file.source().clone(), Box::new(file.chunk(stored.group, *leaf)))
            }
            PatchedChunk::Changed(bytes, close) => Chunk::Stored(Source::Memory(bytes), close),
        };
        Some(vec![chunk])
    }

    /// Returns the column chunks of a column that can be copied in stored form.
    fn as_stored(&self, stored: &StoredGroup<'_>, column: usize) -> Result<Option<Vec<Chunk>>> {
        let (edits, name) = (&stored.edits, self.format.field(column).name());
        let leaves = stored.file.leaves(name);
        if edits.drops() > 0 || !self.format.takes_as_is(column, stored.file, &leaves) {
            return Ok(None);
        }
        let is_unchanged = match column {
            RECORD_KEY | PARTITION_PATH => true,
            COMMIT_TIME | COMMIT_SEQNO => !edits.replaces(),
            _ => !edits.replaces() || self.changes_nothing(stored, column - DATA)?,
        };
        let chunk = |leaf: &usize| {
            let chunk = stored.file.chunk(stored.group, *leaf);
            Chunk::Stored(stored.file.source().clone(), Box::new(chunk))
        };
        Ok(is_unchanged.then(|| leaves.iter().map(chunk).collect()))
    }

    /// Returns `true` if the new rows have the stored values of a data column. Stops at the first batch with
    /// a difference.
    fn changes_nothing(&self, stored: &StoredGroup<'_>, data: usize) -> Result<bool> {
        let field = &self.schema.fields()[data];
        let patch = stored.edits.of_column(data);
        let positions = stored.positions_in_group();
        let wanted = |name: &str| name == field.name();
        let mut first = 0;
        for batch in stored.file.read_groups(Some(vec![stored.group]), &wanted, Some(&positions))? {
            let values = stored.column(&batch?, field)?;
            if !patch.changes_nothing(&values, first) {
                return Ok(false);
            }
            first += values.len();
        }
        Ok(first == positions.len())
    }
}

/// The new version, while it is being written.
struct Output<W: Write + Send> {
    writer: BaseFileWriter<W>,
    target: Target,
    threads: usize,
    kept: Option<KeptKeys>,
}

impl<W: Write + Send> Output<W> {
    /// Writes a stored row group as a single group, and copies as much of it as possible.
    fn carry(&mut self, stored: &StoredGroup<'_>) -> Result<()> {
        // The preceding rows must be counted first, because sequence numbers continue.
        self.writer.end_group()?;
        if stored.rows() == 0 {
            return Ok(());
        }
        if stored.file.is_sparse() {
            self.fetch(stored)?;
        }
        if !self.writer.keys().know_stored() {
            self.observe_keys(stored)?;
        }
        self.keep_keys(stored)?;
        let numbers = self.sequence_numbers(stored);
        let target = &self.target;
        let new = target.new_values(stored, &numbers)?;
        let mut writers = self.writer.column_writers()?.into_iter();
        let work = (0..target.format.columns()).map(|column| {
            let leaves = target.format.leaves(column);
            (column, writers.by_ref().take(leaves.len()).collect::<Vec<_>>())
        });
        let work: Vec<_> = work.collect();
        // A single value for all rows, unless that chunk is built directly.
        let names = (!target.format.is_patchable()).then(|| self.writer.names(stored.rows() as usize));
        let (name, rows) = (self.writer.name(), stored.rows() as usize);
        let chunks = side_by_side(self.threads, work, |(column, writers)| match column {
            FILE_NAME if names.is_none() => {
                let leaf = target.format.leaves(column).start;
                let (bytes, close) = pages::constant(&target.format, leaf, name, rows)?;
                Ok(vec![Chunk::Stored(Source::Memory(bytes), close)])
            }
            FILE_NAME => encode_column(target.format.field(column), writers, names.iter().cloned().map(Ok)),
            RECORD_KEY | PARTITION_PATH => target.rewritten(stored, column, writers, &numbers),
            _ => match new.as_ref().and_then(|new| target.patched(stored, column, new)) {
                Some(chunks) => Ok(chunks),
                None => target.rewritten(stored, column, writers, &numbers),
            },
        })?;
        self.writer.add_group(chunks.into_iter().flatten().collect(), stored.rows())
    }

    /// Fetches the ranges that [`Output::carry`] will read: the columns that are encoded, and the pages with
    /// changed rows of the other columns. The rest of a column's chunk is fetched if a value turns out to be
    /// new.
    fn fetch(&mut self, stored: &StoredGroup<'_>) -> Result<()> {
        let Target { format, schema, .. } = &self.target;
        let kept = self.kept.as_ref().filter(|kept| kept.writer.is_some());
        let reads_keys = kept.is_some() || !self.writer.keys().know_stored();
        let ordering = kept.and_then(|kept| kept.ordering).map(|column| schema.field(column).name());
        let mut whole = Vec::new();
        let mut by_page = Vec::new();
        for column in 0..format.columns() {
            let name = format.field(column).name();
            let is_encoded = stored.edits.drops() > 0
                || !format.takes_as_is(column, stored.file, &stored.file.leaves(name))
                || ordering == Some(name);
            match column {
                FILE_NAME => {}
                _ if is_encoded => whole.push(name),
                RECORD_KEY if reads_keys => whole.push(name),
                COMMIT_TIME | COMMIT_SEQNO if stored.edits.replaces() => whole.push(name),
                DATA.. if stored.edits.replaces() => by_page.push(name),
                _ => {}
            }
        }
        let is_in = |names: &[&String], name: &str| names.iter().any(|named| *named == name);
        let mut ranges = stored.ranges(&|name| is_in(&whole, name), None);
        let positions = stored.positions_in_group();
        ranges.extend(stored.ranges(&|name| is_in(&by_page, name), Some(&positions)));
        stored.file.fetch(ranges)
    }

    fn observe_keys(&mut self, stored: &StoredGroup<'_>) -> Result<()> {
        for batch in stored.read(&|name| name == META_COLUMNS[RECORD_KEY])? {
            let (start, batch) = batch?;
            let keys = stored.edits.of_dropped().apply(&stored.meta(&batch, RECORD_KEY)?, start)?;
            let keys = keys.as_string_opt::<i32>().ok_or_else(|| no_keys(stored.file))?;
            self.writer.keys().observe(Keys::Stored, keys);
        }
        Ok(())
    }

    /// Caches the keys of a stored row group in their new form.
    fn keep_keys(&mut self, stored: &StoredGroup<'_>) -> Result<()> {
        let Some(kept) = self.kept.as_mut().filter(|kept| kept.writer.is_some()) else { return Ok(()) };
        let ordering = kept.ordering.map(|column| (column, &self.target.schema.fields()[column]));
        let is_wanted = |name: &str| {
            name == META_COLUMNS[RECORD_KEY] || ordering.is_some_and(|(_, field)| name == field.name())
        };
        for batch in stored.read(&is_wanted)? {
            let (start, batch) = batch?;
            let keys = stored.edits.of_dropped().apply(&stored.meta(&batch, RECORD_KEY)?, start)?;
            let keys = keys.as_string_opt::<i32>().ok_or_else(|| no_keys(stored.file))?;
            let ordering = match ordering {
                Some((column, field)) => {
                    let values = stored.column(&batch, field)?;
                    Some(stored.edits.of_column(column).apply(&values, start)?)
                }
                None => None,
            };
            kept.add(keys, ordering.as_ref());
        }
        Ok(())
    }

    /// Writes the rows of a stored row group together with other rows.
    fn join(&mut self, stored: &StoredGroup<'_>) -> Result<()> {
        let numbers = self.sequence_numbers(stored);
        let edits = &stored.edits;
        let time = edits.of_value(constant(&self.target.time));
        let numbers = edits.of_values(numbers);
        let stay = edits.of_dropped();
        let is_read = |column: &str| column != META_COLUMNS[FILE_NAME];
        if stored.file.is_sparse() {
            stored.file.fetch(stored.ranges(&is_read, None))?;
        }
        for batch in stored.read(&is_read)? {
            let (start, batch) = batch?;
            let batch = conform_stored(&batch, &self.target.schema, stored.file.path())?;
            let keys: ArrayRef = Arc::new(key_column(&batch, stored.file.path())?.clone());
            let meta = MetaColumns {
                commit_time: time.apply(&stored.meta(&batch, COMMIT_TIME)?, start)?,
                commit_seqno: numbers.apply(&stored.meta(&batch, COMMIT_SEQNO)?, start)?,
                record_key: stay.apply(&keys, start)?.as_string::<i32>().clone(),
                partition_path: stay.apply(&stored.meta(&batch, PARTITION_PATH)?, start)?,
            };
            let data =
                batch.columns()[batch.num_columns() - self.target.schema.fields().len()..].iter().enumerate();
            let data = data.map(|(column, values)| edits.of_column(column).apply(values, start));
            let data = data.collect::<Result<Vec<ArrayRef>>>()?;
            if !meta.record_key.is_empty() {
                if let Some(kept) = &mut self.kept {
                    kept.add_rows(&meta.record_key, &data);
                }
                self.writer.write(Keys::Stored, meta, &data)?;
            }
        }
        Ok(())
    }

    /// Writes incoming rows that are new in this file.
    fn append(&mut self, keys: StringArray, rows: &RecordBatch) -> Result<()> {
        if let Some(kept) = &mut self.kept {
            kept.add_rows(&keys, rows.columns());
        }
        let first = self.writer.rows();
        let number = |row: usize| format!("{}_{}_{}", self.target.time, self.target.task, first + row as u64);
        let repeated = |text: &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows.num_rows())))
        };
        let meta = MetaColumns {
            commit_time: repeated(&self.target.time),
            commit_seqno: Arc::new(StringArray::from_iter_values((0..rows.num_rows()).map(number))),
            record_key: keys,
            partition_path: repeated(&self.target.partition),
        };
        self.writer.write(Keys::New, meta, rows.columns())
    }

    /// Returns the sequence numbers of the changed rows of the next row group, one per edit.
    fn sequence_numbers(&self, stored: &StoredGroup<'_>) -> ArrayRef {
        let mut next = self.writer.rows();
        let mut seen = stored.positions.start;
        let numbers = stored.edits.rows.iter().map(|edit| {
            next += edit.position - seen;
            seen = edit.position + 1;
            let number = next;
            next += u64::from(edit.new.is_some());
            format!("{}_{}_{number}", self.target.time, self.target.task)
        });
        Arc::new(StringArray::from_iter_values(numbers))
    }
}

fn no_keys(file: &OpenFile) -> Error {
    Error::new(ErrorKind::Corrupt, "a base file has no column of record keys")
        .with_context("file", file.path())
}
