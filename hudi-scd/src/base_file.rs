//! Stored base files: opens them, and reads footers and rows.

mod bounds;
mod parts;
mod sparse;

use std::{
    cmp::Ordering,
    fs::File,
    io::{Read, Seek, SeekFrom},
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array},
    compute::take,
    datatypes::{Field, FieldRef, Schema, SchemaRef},
    error::ArrowError,
};
use bytes::{Buf, Bytes, buf};
use futures::TryStreamExt;
use object_store::{GetOptions, GetRange, GetResultPayload, ObjectStore, path::Path};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{
            ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
            RowSelector,
        },
    },
    basic::Compression,
    column::writer::ColumnCloseResult,
    errors::ParquetError,
    file::{
        metadata::{
            FileMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataBuilder, ParquetMetaDataOptions,
            ParquetMetaDataReader, ParquetMetaDataWriter,
        },
        page_index::column_index::ColumnIndexMetaData,
        reader::{ChunkReader, Length},
    },
};

use self::parts::Parts;
pub(crate) use self::sparse::{Fetches, Sparse};
use crate::{
    Error, ErrorKind, Result,
    bloom::{BloomFilter, FOOTER_BLOOM_FILTER, FOOTER_BLOOM_FILTER_TYPE},
    concurrent::blocking,
    index_cache::Entry,
    schema, storage, times,
};

/// Footer entries of record keys: the smallest and the largest, in Java's order of strings.
pub(crate) const FOOTER_MIN_KEY: &str = "hoodie_min_record_key";
/// See [`FOOTER_MIN_KEY`].
pub(crate) const FOOTER_MAX_KEY: &str = "hoodie_max_record_key";
/// Footer entry in the files of a history. It says that the file's bloom filter also contains the business
/// keys of its rows. Its value is the name of the column that follows the business key in the record key.
/// Other writers do not add it.
pub(crate) const FOOTER_BUSINESS_KEYS: &str = "hudi_scd.business_keys_before";
/// Enough bytes of a file's end to contain the footer of a table with a few dozen columns, without its bloom
/// filter.
const FOOTER_GUESS: u64 = 64 * 1024;
/// See [`end_guess`].
const MAX_FOOTER_GUESS: u64 = 1024 * 1024;
/// Number of rows that are decoded at a time.
const BATCH_ROWS: usize = 8 * 1024;
/// Number of bytes that are read at a time.
const READ_AHEAD: u64 = 64 * 1024;

/// The bytes of a base file: an open file, its content, parts of it, or a remote file that is fetched while
/// it is being read. Clones can read concurrently.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The clones of a file share its cursor, so each read first sets the cursor, under the lock.
    File(Arc<Mutex<File>>, u64),
    Memory(Bytes),
    Parts(Parts),
    Sparse(Sparse),
}

impl Source {
    pub(crate) fn of_file(file: File) -> std::io::Result<Self> {
        let bytes = file.metadata()?.len();
        Ok(Self::File(Arc::new(Mutex::new(file)), bytes))
    }

    /// Creates a remote file of `bytes` bytes, none of which are available yet.
    pub(crate) fn missing(bytes: u64) -> Self {
        Self::Parts(Parts::none(bytes))
    }

    /// Returns the number of bytes that are available from an offset on.
    fn available(&self, start: u64) -> u64 {
        match self {
            Self::Parts(parts) => parts.available(start),
            Self::Sparse(sparse) => sparse.available(start),
            _ => self.len().saturating_sub(start),
        }
    }
}

/// A reader that starts at an offset.
pub(crate) struct SourceReader {
    source: Source,
    start: u64,
    buffered: buf::Reader<Bytes>,
}

impl Read for SourceReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if !self.buffered.get_ref().has_remaining() {
            let left = self.source.available(self.start);
            let next = READ_AHEAD.max(buffer.len() as u64).min(left) as usize;
            self.buffered = self.source.get_bytes(self.start, next).map_err(std::io::Error::other)?.reader();
            self.start += next as u64;
        }
        self.buffered.read(buffer)
    }
}

impl Length for Source {
    fn len(&self) -> u64 {
        match self {
            Self::File(_, bytes) => *bytes,
            Self::Memory(bytes) => Length::len(bytes),
            Self::Parts(parts) => parts.len(),
            Self::Sparse(sparse) => sparse.len(),
        }
    }
}

impl ChunkReader for Source {
    type T = SourceReader;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(SourceReader { source: self.clone(), start, buffered: Bytes::new().reader() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        match self {
            Self::File(file, _) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(start))?;
                let mut bytes = Vec::with_capacity(length);
                (&mut *file).take(length as u64).read_to_end(&mut bytes)?;
                if bytes.len() < length {
                    return Err(ParquetError::EOF(
                        "the file ends before the end declared in its footer".to_owned(),
                    ));
                }
                Ok(bytes.into())
            }
            Self::Memory(bytes) => bytes.get_bytes(start, length),
            Self::Parts(parts) => parts.get(start, length),
            Self::Sparse(sparse) => sparse.get(start, length),
        }
    }
}

/// The footer of a base file.
#[derive(Clone, Debug)]
pub(crate) struct Footer {
    path: Path,
    metadata: Arc<ParquetMetaData>,
    /// The smallest and the largest record key, if the file records them. An empty file has none.
    pub(crate) key_range: Option<(String, String)>,
}

impl Footer {
    /// Reads the end of a file. From remote storage, reads only the footer.
    pub(crate) async fn load(store: &dyn ObjectStore, path: &Path) -> Result<Self> {
        Self::load_and(store, path, None, Ok).await
    }

    /// Reads the end of a file, unless it is on the local disk, and continues with CPU-bound work.
    pub(crate) async fn load_and<T: Send + 'static>(
        store: &dyn ObjectStore,
        path: &Path,
        entry: Option<Entry>,
        work: impl FnOnce(Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if let Some(entry) = entry.clone() {
            let kept = move || {
                Ok(entry.footer().and_then(|bytes| ParquetMetaDataReader::decode_metadata(&bytes).ok()))
            };
            if let Some(metadata) = blocking(kept).await? {
                let footer = Self::of(path.clone(), Arc::new(metadata));
                return blocking(move || work(footer)).await;
            }
        }
        let options = GetOptions { range: Some(GetRange::Suffix(FOOTER_GUESS)), ..GetOptions::default() };
        let failed = |cause| storage::failed("read", path, cause);
        let found = store.get_opts(path, options).await.map_err(failed)?;
        let (size, range) = (found.meta.size, found.range.clone());
        let (metadata, end) = match found.payload {
            GetResultPayload::File(file, _) => {
                let path = path.clone();
                return blocking(move || {
                    let parsed = Source::of_file(file).map_err(ParquetError::from).and_then(|source| {
                        let metadata = ParquetMetaDataReader::new().parse_and_finish(&source)?;
                        if let Some(entry) = entry {
                            let last = source.get_bytes(source.len().saturating_sub(8), 8)?;
                            let length = footer_length(&last);
                            let start = source.len().saturating_sub(length as u64);
                            keep_footer(&entry, &source.get_bytes(start, length)?);
                        }
                        Ok(metadata)
                    });
                    let metadata = parsed.map_err(|cause| corrupt(&path, cause))?;
                    work(Self::of(path, Arc::new(metadata)))
                })
                .await;
            }
            GetResultPayload::Stream(stream) => {
                let parts: Vec<Bytes> = stream.try_collect().await.map_err(failed)?;
                let mut end = Bytes::from(parts.concat());
                let mut start = range.start;
                let mut reader = ParquetMetaDataReader::new();
                loop {
                    match reader.try_parse_sized(&end, size) {
                        Ok(()) => break,
                        Err(ParquetError::NeedMoreData(needed))
                            if (needed as u64) > size - start && needed as u64 <= size =>
                        {
                            start = size - needed as u64;
                            let options = GetOptions {
                                range: Some(GetRange::Bounded(start..size)),
                                ..GetOptions::default()
                            };
                            let more = async { store.get_opts(path, options).await?.bytes().await };
                            end = more.await.map_err(failed)?;
                        }
                        Err(cause) => return Err(corrupt(path, cause)),
                    }
                }
                (reader.finish().map_err(|cause| corrupt(path, cause))?, end)
            }
        };
        let footer = Self::of(path.clone(), Arc::new(metadata));
        blocking(move || {
            if let Some(entry) = entry {
                keep_footer(&entry, &end);
            }
            work(footer)
        })
        .await
    }

    pub(crate) fn of(path: Path, metadata: Arc<ParquetMetaData>) -> Self {
        let mut footer = Self { path, metadata, key_range: None };
        footer.key_range = footer
            .entry(FOOTER_MIN_KEY)
            .zip(footer.entry(FOOTER_MAX_KEY))
            .map(|(min, max)| (min.to_owned(), max.to_owned()));
        footer
    }

    /// Returns one entry of the footer.
    pub(crate) fn entry(&self, key: &str) -> Option<&str> {
        let entries = self.metadata.file_metadata().key_value_metadata()?;
        entries.iter().find(|entry| entry.key == key)?.value.as_deref()
    }

    pub(crate) fn rows(&self) -> u64 {
        u64::try_from(self.metadata.file_metadata().num_rows()).unwrap_or(0)
    }

    /// Returns the compression of the column of file names. It is the only column that is written again in
    /// each version of a file. Returns `None` for a file without rows.
    pub(crate) fn codec(&self) -> Option<Compression> {
        let chunks = self.metadata().row_groups().last()?.columns();
        let is_name = |path: &[String]| matches!(path, [name] if name == schema::META_COLUMNS[4]);
        chunks.iter().find(|chunk| is_name(chunk.column_path().parts())).map(|chunk| chunk.compression())
    }

    pub(crate) fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }

    /// Decodes the bloom filter of record keys, if there is one. The filter is large, so it is decoded only
    /// on demand.
    pub(crate) fn bloom_filter(&self) -> Result<Option<BloomFilter>> {
        let Some(text) = self.entry(FOOTER_BLOOM_FILTER) else { return Ok(None) };
        BloomFilter::parse(text, self.entry(FOOTER_BLOOM_FILTER_TYPE))
            .map(Some)
            .map_err(|error| error.with_context("file", &self.path))
    }

    /// Returns the metadata without the bloom filter, which is their largest part.
    pub(crate) fn without_filter(&self) -> Arc<ParquetMetaData> {
        let file = self.metadata.file_metadata();
        let entries = file.key_value_metadata().map(|entries| {
            entries.iter().filter(|entry| entry.key != FOOTER_BLOOM_FILTER).cloned().collect()
        });
        let file = FileMetaData::new(
            file.version(),
            file.num_rows(),
            file.created_by().map(str::to_owned),
            entries,
            file.schema_descr_ptr(),
            file.column_orders().cloned(),
        );
        let metadata = ParquetMetaDataBuilder::new(file)
            .set_row_groups(self.metadata.row_groups().to_vec())
            .set_column_index(self.metadata.column_index().cloned())
            .set_offset_index(self.metadata.offset_index().cloned())
            .build();
        Arc::new(metadata)
    }

    /// Returns the metadata in stored form, without the page index.
    pub(crate) fn encoded(&self) -> Result<Vec<u8>> {
        let metadata =
            ParquetMetaData::new(self.metadata.file_metadata().clone(), self.metadata.row_groups().to_vec());
        let mut bytes = Vec::new();
        let written = ParquetMetaDataWriter::new(&mut bytes, &metadata).finish();
        written.map_err(|cause| corrupt(&self.path, cause))?;
        bytes.truncate(bytes.len().saturating_sub(8));
        Ok(bytes)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn arrow_metadata(&self) -> Result<ArrowReaderMetadata> {
        // Arrow's own metadata in a footer is not part of the format.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        times::reader_metadata(self.metadata.clone(), options).map_err(|cause| corrupt(&self.path, cause))
    }
}

/// Returns the length of a footer, computed from the last bytes of its file.
fn footer_length(end: &[u8]) -> usize {
    let length = end.len().checked_sub(8).and_then(|start| end[start..].first_chunk::<4>());
    length.map_or(0, |length| u32::from_le_bytes(*length) as usize + 8)
}

fn keep_footer(entry: &Entry, end: &[u8]) {
    if let Some(start) = end.len().checked_sub(footer_length(end)) {
        entry.keep_footer(&end[start..end.len() - 8]);
    }
}

/// An open base file. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct OpenFile {
    footer: Footer,
    arrow: ArrowReaderMetadata,
    source: Source,
    /// The columns whose values the folder of the file determines. Each has a single value.
    folder_columns: Option<RecordBatch>,
}

impl OpenFile {
    /// Adds the columns that the file lacks, with the same value in each row.
    pub(crate) fn with_folder_columns(mut self, columns: &RecordBatch) -> Self {
        let stored = self.schema().clone();
        let is_missing = |field: &FieldRef| stored.field_with_name(field.name()).is_err();
        let fields = columns.schema_ref().fields().iter().enumerate();
        let missing: Vec<usize> = fields.filter(|(_, field)| is_missing(field)).map(|(at, _)| at).collect();
        // Positions count the batch's own columns.
        self.folder_columns = columns.project(&missing).ok().filter(|columns| columns.num_columns() > 0);
        self
    }

    /// Opens a file. A local file is read in place; a remote file is fetched completely into memory.
    pub(crate) async fn open(store: &dyn ObjectStore, path: &Path) -> Result<Self> {
        let failed = |cause| storage::failed("read", path, cause);
        let found = store.get_opts(path, GetOptions::default()).await.map_err(failed)?;
        let source = match found.payload {
            GetResultPayload::File(file, _) => {
                Source::of_file(file).map_err(|cause| corrupt(path, cause.into()))?
            }
            GetResultPayload::Stream(stream) => {
                let parts: Vec<Bytes> = stream.try_collect().await.map_err(failed)?;
                Source::Memory(if parts.len() == 1 { parts[0].clone() } else { Bytes::from(parts.concat()) })
            }
        };
        Self::of_source(path, source)
    }

    /// Opens a file whose bytes are all available.
    pub(crate) fn of_source(path: &Path, source: Source) -> Result<Self> {
        let metadata = reader_of_all().parse_and_finish(&source).map_err(|cause| corrupt(path, cause))?;
        Self::of_metadata(path, Arc::new(metadata), source)
    }

    /// Opens a file with its metadata, which include the page index.
    pub(crate) fn of_metadata(path: &Path, metadata: Arc<ParquetMetaData>, source: Source) -> Result<Self> {
        times::check_calendar(&metadata).map_err(|error| error.with_context("file", path))?;
        let footer = Footer::of(path.clone(), metadata);
        Ok(Self { arrow: footer.arrow_metadata()?, footer, source, folder_columns: None })
    }

    /// Opens a remote file of `bytes` bytes by fetching its end. Its rows become available with
    /// [`OpenFile::fetched`]. `start` is the offset of the end, if it is known.
    pub(crate) async fn open_end(
        store: &dyn ObjectStore,
        path: &Path,
        bytes: u64,
        start: Option<u64>,
    ) -> Result<Self> {
        let mut start = start.unwrap_or_else(|| bytes.saturating_sub(end_guess(bytes))).min(bytes);
        let mut reader = reader_of_all();
        loop {
            let options =
                GetOptions { range: Some(GetRange::Bounded(start..bytes)), ..GetOptions::default() };
            let end = async { store.get_opts(path, options).await?.bytes().await };
            let end = end.await.map_err(|cause| storage::failed("read", path, cause))?;
            match reader.try_parse_sized(&end, bytes) {
                Ok(()) => break,
                Err(ParquetError::NeedMoreData(needed))
                    if (needed as u64) > bytes - start && needed as u64 <= bytes =>
                {
                    start = bytes - needed as u64;
                }
                Err(cause) => return Err(corrupt(path, cause)),
            }
        }
        let metadata = reader.finish().map_err(|cause| corrupt(path, cause))?;
        Self::of_metadata(path, Arc::new(metadata), Source::missing(bytes))
    }

    /// Returns the file with the bytes that [`OpenFile::read_groups`] needs for the same arguments. A local
    /// file, or a file in memory, already has them.
    pub(crate) fn fetched<'a>(
        &self,
        store: &'a dyn ObjectStore,
        groups: Option<&[usize]>,
        columns: &dyn Fn(&str) -> bool,
        positions: Option<&[u64]>,
    ) -> impl Future<Output = Result<Self>> + Send + use<'a> {
        let wanted = match &self.source {
            Source::Parts(_) => self.ranges(groups, columns, positions),
            _ => Vec::new(),
        };
        let mut file = self.clone();
        async move {
            if let Source::Parts(parts) = &file.source {
                file.source = Source::Parts(parts.fetched(store, file.path(), wanted).await?);
            }
            Ok(file)
        }
    }

    /// Returns the file with a source that fetches ranges when they are read. This must run on a blocking
    /// thread, and so must the reads.
    pub(crate) fn into_sparse(self, folder: &std::path::Path) -> Result<(Self, Sparse, Fetches)> {
        let chunks = chunk_ranges(&self.footer.metadata).collect();
        let created = Sparse::create(folder, self.path().clone(), self.source.len(), chunks);
        let (sparse, fetches) = created.map_err(|cause| disk_failed(self.path(), cause))?;
        Ok((Self { source: Source::Sparse(sparse.clone()), ..self }, sparse, fetches))
    }

    /// Fetches ranges of a [`Sparse`] file in few requests. Other files already have them.
    pub(crate) fn fetch(&self, ranges: Vec<Range<u64>>) -> Result<()> {
        let Source::Sparse(sparse) = &self.source else { return Ok(()) };
        // If a request failed, its error replaces the error of the write.
        sparse.fetch(ranges).map_err(|cause| corrupt(self.path(), cause))
    }

    /// Returns `true` if bytes must be fetched before they are read.
    pub(crate) fn is_sparse(&self) -> bool {
        matches!(self.source, Source::Sparse(_))
    }

    /// Divides the row groups of a remote file into runs. The chosen columns of each run have about `limit`
    /// bytes. A local file is a single run.
    pub(crate) fn spans(&self, columns: &dyn Fn(&str) -> bool, limit: u64) -> Vec<Vec<usize>> {
        let all = 0..self.footer.metadata.num_row_groups();
        if !matches!(self.source, Source::Parts(_)) {
            return vec![all.collect()];
        }
        let mut spans: Vec<Vec<usize>> = Vec::new();
        let mut bytes = limit;
        for group in all {
            let ranges = self.ranges(Some(&[group]), columns, None);
            let more: u64 = ranges.iter().map(|range| range.end - range.start).sum();
            match spans.last_mut() {
                Some(span) if bytes + more <= limit => span.push(group),
                _ => {
                    spans.push(vec![group]);
                    bytes = 0;
                }
            }
            bytes += more;
        }
        spans
    }

    /// Returns the ranges of the pages that contain the given rows and columns. If the file has no page
    /// index, returns the ranges of whole column chunks.
    pub(crate) fn ranges(
        &self,
        groups: Option<&[usize]>,
        columns: &dyn Fn(&str) -> bool,
        positions: Option<&[u64]>,
    ) -> Vec<Range<u64>> {
        let metadata = &self.footer.metadata;
        let schema = self.arrow.parquet_schema();
        let leaves: Vec<usize> =
            (0..schema.num_columns()).filter(|leaf| columns(schema.get_column_root(*leaf).name())).collect();
        let all: Vec<usize> = (0..metadata.num_row_groups()).collect();
        let mut ranges = Vec::new();
        let mut end = 0;
        for &group in groups.unwrap_or(&all) {
            let start = end;
            end += u64::try_from(metadata.row_group(group).num_rows()).unwrap_or(0);
            let selected = positions.map(|positions| {
                let first = positions.partition_point(|position| *position < start);
                let last = positions.partition_point(|position| *position < end);
                positions[first..last].iter().map(|position| position - start).collect::<Vec<_>>()
            });
            if selected.as_ref().is_some_and(Vec::is_empty) {
                continue;
            }
            let selected = selected.map(|positions| selection(&positions));
            for &leaf in &leaves {
                let (at, length) = metadata.row_group(group).column(leaf).byte_range();
                let index = metadata.offset_index().and_then(|index| index.get(group)?.get(leaf));
                match (&selected, index.map(|index| index.page_locations().as_slice())) {
                    (Some(selected), Some(pages @ [first, ..])) => {
                        // A dictionary is stored before the pages.
                        ranges.push(at..u64::try_from(first.offset).unwrap_or(at));
                        ranges.extend(selected.scan_ranges(pages));
                    }
                    _ => ranges.push(at..at + length),
                }
            }
        }
        ranges
    }

    /// Returns the total size of [`OpenFile::ranges`] in bytes.
    pub(crate) fn bytes(
        &self,
        groups: Option<&[usize]>,
        columns: &dyn Fn(&str) -> bool,
        positions: Option<&[u64]>,
    ) -> u64 {
        self.ranges(groups, columns, positions).iter().map(|range| range.end - range.start).sum()
    }

    pub(crate) fn footer(&self) -> &Footer {
        &self.footer
    }

    pub(crate) fn path(&self) -> &Path {
        &self.footer.path
    }

    /// Returns the file's columns as Arrow types.
    pub(crate) fn schema(&self) -> &SchemaRef {
        self.arrow.schema()
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Returns the positions of the rows of each row group.
    pub(crate) fn groups(&self) -> Vec<Range<u64>> {
        let mut end = 0;
        let groups = self.footer.metadata.row_groups().iter();
        groups
            .map(|group| {
                let start = end;
                end += u64::try_from(group.num_rows()).unwrap_or(0);
                start..end
            })
            .collect()
    }

    /// Reads rows in order: the rows at the ascending `positions`, or all rows. Returns the named columns
    /// that the file has, in the file's order.
    ///
    /// This must run on a blocking thread.
    pub(crate) fn read(
        &self,
        columns: &dyn Fn(&str) -> bool,
        positions: Option<&[u64]>,
    ) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
        self.read_groups(None, columns, positions)
    }

    /// Reads some row groups, like [`OpenFile::read`]. `positions` count only the rows of these row groups.
    pub(crate) fn read_groups(
        &self,
        groups: Option<Vec<usize>>,
        columns: &dyn Fn(&str) -> bool,
        positions: Option<&[u64]>,
    ) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
        let path = self.footer.path.clone();
        let fields = self.arrow.schema().fields().iter().enumerate();
        let wanted: Vec<usize> =
            fields.filter_map(|(index, field)| columns(field.name()).then_some(index)).collect();
        let mask = ProjectionMask::roots(self.arrow.parquet_schema(), wanted);
        let mut builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(self.source.clone(), self.arrow.clone())
                .with_projection(mask)
                .with_batch_size(BATCH_ROWS);
        if let Some(groups) = groups {
            builder = builder.with_row_groups(groups);
        }
        if let Some(positions) = positions {
            builder = builder.with_row_selection(selection(positions));
        }
        let reader = builder.build().map_err(|cause| corrupt(&path, cause))?;
        let added = self.folder_columns.as_ref().map(|added| chosen(added, columns));
        Ok(reader.map(move |batch| {
            let batch = match &added {
                Some(added) => batch.and_then(|batch| with_columns(&batch, added)),
                None => batch,
            };
            batch.map_err(|cause| {
                Error::new(ErrorKind::Corrupt, "a base file cannot be decoded")
                    .with_context("file", &path)
                    .with_source(cause)
            })
        }))
    }

    /// Returns a column's Arrow field. Returns `None` if the file lacks the column.
    pub(crate) fn field(&self, name: &str) -> Option<&FieldRef> {
        self.arrow.schema().fields().iter().find(|field| field.name() == name)
    }

    /// Returns the leaf columns of the Parquet schema that make up a column.
    pub(crate) fn leaves(&self, column: &str) -> Vec<usize> {
        let schema = self.arrow.parquet_schema();
        (0..schema.num_columns()).filter(|leaf| schema.get_column_root(*leaf).name() == column).collect()
    }

    /// Returns a column chunk in stored form, to be copied unchanged.
    pub(crate) fn chunk(&self, group: usize, leaf: usize) -> ColumnCloseResult {
        let metadata = &self.footer.metadata;
        let (rows, chunk) = (metadata.row_group(group).num_rows(), metadata.row_group(group).column(leaf));
        ColumnCloseResult {
            bytes_written: u64::try_from(chunk.compressed_size()).unwrap_or(0),
            rows_written: u64::try_from(rows).unwrap_or(0),
            metadata: chunk.clone(),
            bloom_filter: None,
            column_index: metadata
                .column_index()
                .and_then(|index| index.get(group)?.get(leaf).cloned())
                .filter(|index| !matches!(index, ColumnIndexMetaData::NONE)),
            offset_index: metadata.offset_index().and_then(|index| index.get(group)?.get(leaf).cloned()),
        }
    }

    /// Returns `true` if every column chunk has an offset index.
    pub(crate) fn has_offset_index(&self) -> bool {
        let chunks = |index: &Vec<Vec<_>>| {
            let groups = self.footer.metadata.row_groups();
            index.len() == groups.len()
                && groups.iter().zip(index).all(|(group, chunks)| chunks.len() == group.num_columns())
        };
        self.footer.metadata.offset_index().is_some_and(chunks)
    }
}

/// Returns the named columns of a row.
fn chosen(row: &RecordBatch, columns: &dyn Fn(&str) -> bool) -> Vec<(FieldRef, ArrayRef)> {
    let all = row.schema_ref().fields().iter().cloned().zip(row.columns().iter().cloned());
    all.filter(|(field, _)| columns(field.name())).collect()
}

/// Appends columns that have the same value in each row.
fn with_columns(batch: &RecordBatch, added: &[(FieldRef, ArrayRef)]) -> Result<RecordBatch, ArrowError> {
    let rows = batch.num_rows();
    let indices = UInt64Array::from_value(0, rows);
    let repeated = added.iter().map(|(_, value)| take(value, &indices, None));
    let columns = batch.columns().iter().cloned().map(Ok).chain(repeated).collect::<Result<_, _>>()?;
    let stored = batch.schema();
    let fields = stored.fields().iter().chain(added.iter().map(|(field, _)| field)).cloned();
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options)
}

/// Returns the offset at which the last column chunk ends. Returns `None` for a file without rows.
pub(crate) fn end_of_rows(metadata: &ParquetMetaData) -> Option<u64> {
    chunk_ranges(metadata).map(|range| range.end).max()
}

/// Returns the ranges of all column chunks.
fn chunk_ranges(metadata: &ParquetMetaData) -> impl Iterator<Item = Range<u64>> {
    metadata.row_groups().iter().flat_map(|group| group.columns()).map(|chunk| {
        let (start, length) = chunk.byte_range();
        start..start + length
    })
}

/// Creates the error of a copy of a base file on the local disk.
pub(crate) fn disk_failed(path: &Path, cause: std::io::Error) -> Error {
    Error::new(ErrorKind::Storage, "a base file cannot be stored on the local disk")
        .with_context("file", path)
        .with_source(cause)
}

/// Returns a reader for all metadata that a copied column chunk needs: the page index, if there is one, and
/// the encodings of its pages. With the page index, pages without requested rows need not be decompressed.
/// The encodings tell Spark if it can filter by a dictionary.
fn reader_of_all() -> ParquetMetaDataReader {
    let options = ParquetMetaDataOptions::new().with_encoding_stats_as_mask(false);
    ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Optional)
        .with_metadata_options(Some(options))
}

/// Returns the number of bytes at the end of a file that probably contain its metadata. This is enough for a
/// wide table, or for the filter of a long file.
fn end_guess(bytes: u64) -> u64 {
    (bytes / 32).clamp(FOOTER_GUESS, MAX_FOOTER_GUESS)
}

/// Selects the rows at ascending positions.
fn selection(positions: &[u64]) -> RowSelection {
    let mut selectors: Vec<RowSelector> = Vec::new();
    let mut next = 0;
    for &position in positions {
        if position > next {
            selectors.push(RowSelector::skip((position - next) as usize));
        }
        match selectors.last_mut() {
            Some(last) if !last.skip => last.row_count += 1,
            _ => selectors.push(RowSelector::select(1)),
        }
        next = position + 1;
    }
    selectors.into()
}

/// Converts a batch of a base file to the table's schema: first its meta columns, unchanged, then the data
/// columns in the schema's order and types. A column is null if the file is older than the column, and left
/// out if the table dropped it.
pub(crate) fn conform_stored(batch: &RecordBatch, data: &SchemaRef, path: &Path) -> Result<RecordBatch> {
    let named = |error: Error| error.with_context("file", path);
    let rows = schema::conform_stored(batch, data).map_err(named)?;
    let stored = batch.schema();
    let meta = stored.fields().iter().zip(batch.columns());
    let meta = meta.filter(|(field, _)| schema::is_meta_column(field.name()));
    let meta = meta.map(|(field, column)| {
        (Arc::new(Field::new(field.name(), field.data_type().clone(), true)), column.clone())
    });
    let data = data.fields().iter().cloned().zip(rows.columns().iter().cloned());
    let (fields, columns): (Vec<FieldRef>, Vec<ArrayRef>) = meta.chain(data).unzip();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).map_err(|cause| {
        named(Error::new(ErrorKind::Corrupt, "a base file does not fit the table").with_source(cause))
    })
}

fn corrupt(path: &Path, cause: ParquetError) -> Error {
    Error::new(ErrorKind::Corrupt, "a base file is not valid Parquet")
        .with_context("file", path)
        .with_context(
            "hint",
            "restore the file, or roll back or restore the table to a state before the commit that wrote it",
        )
        .with_source(cause)
}

/// Compares strings in Java's order, by UTF-16 units. It equals the order of bytes, except that characters
/// outside the basic plane sort before its last 8192 characters.
pub(crate) fn java_order(left: &str, right: &str) -> Ordering {
    let differ = left.bytes().zip(right.bytes()).find(|(left, right)| left != right);
    match differ {
        None => left.len().cmp(&right.len()),
        Some((0xF0.., 0xEE..=0xEF)) => Ordering::Less,
        Some((0xEE..=0xEF, 0xF0..)) => Ordering::Greater,
        Some((left, right)) => left.cmp(&right),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_sorts_texts_by_utf_16_units() {
        let mut texts = ["b", "", "9", "25", "\u{FFFD}", "\u{1D11E}", "é", "a\u{E000}", "a\u{10FFFF}", "a"];
        texts.sort_by(|left, right| java_order(left, right));
        let mut expected = texts;
        expected.sort_by_key(|text| text.encode_utf16().collect::<Vec<u16>>());
        assert_eq!(texts, expected);
    }

    #[test]
    fn positions_become_runs() {
        let runs: Vec<RowSelector> = selection(&[0, 1, 5, 7, 8]).into();
        let expected = [(2, false), (3, true), (1, false), (1, true), (2, false)]
            .map(|(row_count, skip)| RowSelector { row_count, skip });
        assert_eq!(runs, expected);
    }
}
