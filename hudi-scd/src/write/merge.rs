//! Merging: the rows of the old version and the changes of this commit, streamed into the new version.
//!
//! Stored rows keep their order, changed rows their place; new rows come at the end. A row that does not change keeps
//! the commit time and the sequence number of the commit that wrote it.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayBuilder, ArrayRef, AsArray, RecordBatch, StringArray, StringBuilder, UInt32Array},
    compute::{interleave, take},
    datatypes::SchemaRef,
    error::ArrowError,
};
use object_store::path::Path;

use super::{
    base_file::{BaseFileWriter, EncodedFile, FileFormat, Keys, KnownKeys, MetaColumns},
    incoming::Incoming,
    tag::{Change, Edit},
};
use crate::{
    Error, ErrorKind, Result,
    base_file::{OpenFile, conform_stored},
    index::key_column,
    schema::META_COLUMNS,
    timeline::Instant,
};

/// Rows that are appended at a time.
const APPEND_ROWS: usize = 8 * 1024;
/// Where the rows of an `interleave` come from.
const STORED: usize = 0;
const INCOMING: usize = 1;

/// Everything that merging one file group takes.
pub(crate) struct Merge {
    pub(crate) format: Arc<FileFormat>,
    pub(crate) incoming: Arc<Incoming>,
    pub(crate) instant: Instant,
    /// The number of this task in its commit: part of sequence numbers.
    pub(crate) task: usize,
    pub(crate) partition: String,
    /// The name of the new file.
    pub(crate) name: String,
    /// The version before, and its path.
    pub(crate) old: Option<(OpenFile, Path)>,
    pub(crate) edits: Vec<Edit>,
    pub(crate) appends: Vec<u32>,
    /// How many rows there will be.
    pub(crate) rows: u64,
}

impl Merge {
    /// Does the work. It keeps a core busy, so it is for a thread that may block.
    pub(crate) fn run(self) -> Result<EncodedFile> {
        let Self { format, incoming, instant, task, partition, name, old, edits, appends, rows } = self;
        let known = match &old {
            Some((file, _)) => {
                let drops = edits.iter().any(|edit| edit.change == Change::Drop);
                let range = file.footer().key_range.clone().filter(|_| !drops);
                KnownKeys { bloom: file.footer().bloom_filter()?, new: appends.len() as u64, range }
            }
            None => KnownKeys::default(),
        };
        let mut output = Output {
            writer: BaseFileWriter::new(&format, &name, rows, known)?,
            incoming: &incoming,
            schema: incoming.schema.clone(),
            time: instant.to_string(),
            task,
            partition,
        };
        if let Some((file, path)) = old {
            let mut offset = 0;
            let mut edits = edits.as_slice();
            for batch in file.read(&|column| column != META_COLUMNS[4], None)? {
                let batch = conform_stored(&batch?, &output.schema, &path)?;
                let end = offset + batch.num_rows() as u64;
                let (here, later) = edits.split_at(edits.partition_point(|edit| edit.position < end));
                output.stored(&batch, here, offset, &path)?;
                (edits, offset) = (later, end);
            }
        }
        for rows in appends.chunks(APPEND_ROWS) {
            output.append(rows)?;
        }
        output.writer.finish()
    }
}

struct Output<'a> {
    writer: BaseFileWriter,
    incoming: &'a Incoming,
    schema: SchemaRef,
    time: String,
    task: usize,
    partition: String,
}

impl Output<'_> {
    /// Writes a stored batch that begins at row `offset` of its file, with the changes of its rows.
    fn stored(&mut self, batch: &RecordBatch, edits: &[Edit], offset: u64, path: &Path) -> Result<()> {
        let meta = |index: usize| {
            batch.column_by_name(META_COLUMNS[index]).cloned().ok_or_else(|| {
                Error::new(ErrorKind::Corrupt, "a base file lacks a meta column")
                    .with_context("file", path)
                    .with_context("column", META_COLUMNS[index])
            })
        };
        let carried = MetaColumns {
            commit_time: meta(0)?,
            commit_seqno: meta(1)?,
            record_key: key_column(batch, path)?.clone(),
            partition_path: meta(3)?,
        };
        let data = &batch.columns()[batch.num_columns() - self.schema.fields().len()..];
        if edits.is_empty() {
            return self.writer.write(Keys::Stored, carried, data);
        }

        // For each row of the output: the stored row that it takes its place from, and where its values come from.
        let mut places: Vec<u32> = Vec::with_capacity(batch.num_rows());
        let mut sources: Vec<(usize, usize)> = Vec::with_capacity(batch.num_rows());
        let mut new_numbers = StringBuilder::new();
        let mut number_sources: Vec<(usize, usize)> = Vec::with_capacity(batch.num_rows());
        let mut edits = edits.iter().peekable();
        for row in 0..batch.num_rows() {
            let edit = edits.next_if(|edit| edit.position == offset + row as u64);
            match edit.map(|edit| edit.change) {
                Some(Change::Drop) => continue,
                Some(Change::Replace(with)) => {
                    number_sources.push((INCOMING, new_numbers.len()));
                    new_numbers.append_value(self.sequence_number(places.len()));
                    sources.push((INCOMING, with as usize));
                }
                None => {
                    number_sources.push((STORED, row));
                    sources.push((STORED, row));
                }
            }
            places.push(row as u32);
        }
        if places.is_empty() {
            return Ok(());
        }
        let failed = |cause: ArrowError| {
            Error::new(ErrorKind::Corrupt, "stored and incoming rows do not fit together")
                .with_context("file", path)
                .with_source(cause)
        };
        let places = UInt32Array::from(places);
        let stay = |column: &dyn Array| take(column, &places, None).map_err(failed);
        let time_sources: Vec<(usize, usize)> = sources
            .iter()
            .map(|(source, row)| (*source, if *source == INCOMING { 0 } else { *row }))
            .collect();
        let time = StringArray::from(vec![self.time.as_str()]);
        let numbers = new_numbers.finish();
        let meta = MetaColumns {
            commit_time: interleave(&[carried.commit_time.as_ref(), &time], &time_sources).map_err(failed)?,
            commit_seqno: interleave(&[carried.commit_seqno.as_ref(), &numbers], &number_sources)
                .map_err(failed)?,
            record_key: stay(&carried.record_key)?.as_string::<i32>().clone(),
            partition_path: stay(carried.partition_path.as_ref())?,
        };
        // A delete by key brings no data columns, and replaces nothing.
        let replaces = sources.iter().any(|(source, _)| *source == INCOMING);
        let columns = data
            .iter()
            .enumerate()
            .map(|(index, stored)| match replaces {
                true => interleave(&[stored.as_ref(), self.incoming.rows.column(index).as_ref()], &sources)
                    .map_err(failed),
                false => stay(stored.as_ref()),
            })
            .collect::<Result<Vec<ArrayRef>>>()?;
        self.writer.write(Keys::Stored, meta, &columns)
    }

    /// Writes incoming rows that are new here.
    fn append(&mut self, rows: &[u32]) -> Result<()> {
        let failed = |cause: ArrowError| {
            Error::new(ErrorKind::InvalidInput, "the incoming rows cannot be taken").with_source(cause)
        };
        let indices = UInt32Array::from(rows.to_vec());
        let columns = self
            .incoming
            .rows
            .columns()
            .iter()
            .map(|column| take(column, &indices, None).map_err(failed))
            .collect::<Result<Vec<ArrayRef>>>()?;
        let keys = take(self.incoming.keys.as_ref(), &indices, None).map_err(failed)?;
        let constant =
            |text: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(|_| text))) };
        let numbers = StringArray::from_iter_values((0..rows.len()).map(|row| self.sequence_number(row)));
        let meta = MetaColumns {
            commit_time: constant(&self.time),
            commit_seqno: Arc::new(numbers),
            record_key: keys.as_string::<i32>().clone(),
            partition_path: constant(&self.partition),
        };
        self.writer.write(Keys::New, meta, &columns)
    }

    /// The sequence number of a row that comes so many rows after those already written.
    fn sequence_number(&self, ahead: usize) -> String {
        format!("{}_{}_{}", self.time, self.task, self.writer.rows() + ahead as u64)
    }
}
