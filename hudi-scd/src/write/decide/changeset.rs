//! The changes of a write, file by file. They are in memory if the input is a single chunk, and otherwise on
//! the local disk.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array, UInt64Array},
    compute::take_record_batch,
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef},
    error::ArrowError,
};

use super::{
    rows::{Appends, EditSource, FileEdits, SPILL_COLUMNS},
    tag::{Change, Tagged},
};
use crate::{
    Error, ErrorKind, Result,
    beside::tombstones::Deleted,
    context::TableOptions,
    index::IndexedFile,
    write::input::{
        incoming::Incoming,
        spill::{Spill, SpillWriter, rows_per_batch, size_of_rows},
    },
};

/// Divisor: the sections of all files that are written at the same time may use this share of the memory budget.
const SECTION_SHARES: usize = 4;

/// The changes of a write.
#[derive(Debug)]
pub(crate) struct Changeset {
    /// The data columns of the table after this write.
    pub(crate) schema: SchemaRef,
    /// The files of the latest snapshot.
    pub(crate) files: Vec<IndexedFile>,
    /// Changes of stored rows, by the index of the file.
    pub(crate) edits: BTreeMap<usize, FileEdits>,
    /// Incoming rows that are new to their partition, by partition path.
    pub(crate) new_rows: BTreeMap<String, Appends>,
    /// Keys that this write deletes.
    pub(crate) deleted: Deleted,
    /// The memory that an incoming row takes, in bytes.
    pub(crate) row_bytes: u64,
}

impl Changeset {
    /// Creates the changes of a single chunk of rows.
    pub(crate) fn in_memory(incoming: Arc<Incoming>, tagged: Tagged) -> Self {
        let Tagged { files, edits, new_rows, deleted } = tagged;
        let edits = edits.into_iter();
        let new_rows = new_rows.into_iter();
        Self {
            schema: incoming.schema.clone(),
            files,
            edits: edits.map(|(file, edits)| (file, FileEdits::in_memory(incoming.clone(), edits))).collect(),
            new_rows: new_rows
                .map(|(partition, rows)| (partition, Appends::Memory(incoming.clone(), rows)))
                .collect(),
            deleted,
            row_bytes: row_bytes(&incoming.rows),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.new_rows.is_empty() && self.deleted.is_empty()
    }
}

/// A [`Changeset`] that is collected chunk by chunk in one file on the local disk.
pub(crate) struct Collecting {
    options: TableOptions,
    spill: Option<SpillWriter>,
    files: Vec<IndexedFile>,
    edits: BTreeMap<usize, SpilledEdits>,
    /// The spilled batches of each partition.
    new_rows: BTreeMap<String, Vec<Range<usize>>>,
    deleted: Deleted,
    row_bytes: u64,
}

/// The spilled edits of a file.
#[derive(Default)]
struct SpilledEdits {
    batches: Vec<Range<usize>>,
    updated: u64,
    dropped: u64,
}

impl Collecting {
    pub(crate) fn new(options: TableOptions) -> Self {
        Self {
            options,
            spill: None,
            files: Vec::new(),
            edits: BTreeMap::new(),
            new_rows: BTreeMap::new(),
            deleted: Deleted::default(),
            row_bytes: 0,
        }
    }

    /// Adds the changes of a chunk. None of its keys are in another chunk. This must run on a blocking
    /// thread.
    pub(crate) fn add(&mut self, incoming: &Incoming, tagged: Tagged) -> Result<()> {
        let Tagged { files, edits, new_rows, deleted } = tagged;
        self.files = files;
        self.deleted.append(deleted)?;
        self.row_bytes = row_bytes(&incoming.rows);
        if edits.is_empty() && new_rows.is_empty() {
            return Ok(());
        }
        let spill = match &mut self.spill {
            Some(spill) => spill,
            None => {
                let schema = Arc::new(spilled_schema(incoming.rows.schema_ref()));
                self.spill.insert(SpillWriter::create(&self.options, schema)?)
            }
        };
        let step = rows_per_batch(&incoming.rows);
        for (file, edits) in edits {
            let dropped = edits.iter().filter(|edit| edit.change == Change::Drop).count() as u64;
            let mut batches = Vec::new();
            for edits in edits.chunks(step) {
                let rows = edits.iter().map(|edit| match edit.change {
                    Change::Replace(row) => Some(row),
                    Change::Drop => None,
                });
                let positions = UInt64Array::from_iter_values(edits.iter().map(|edit| edit.position));
                batches.push(spill.write(&spilled(incoming, &rows.collect(), positions)?)?);
            }
            let all = self.edits.entry(file).or_default();
            all.batches.push(range(&batches));
            all.updated += edits.len() as u64 - dropped;
            all.dropped += dropped;
        }
        for (partition, rows) in new_rows {
            let mut batches = Vec::new();
            for rows in rows.chunks(step) {
                let positions = UInt64Array::from_iter_values(rows.iter().map(|row| incoming.place(*row)));
                let rows: UInt32Array = rows.to_vec().into();
                batches.push(spill.write(&spilled(incoming, &rows, positions)?)?);
            }
            self.new_rows.entry(partition).or_default().push(range(&batches));
        }
        Ok(())
    }

    /// Completes the file. This must run on a blocking thread.
    pub(crate) fn finish(self, schema: SchemaRef) -> Result<Changeset> {
        let spill = self.spill.map(SpillWriter::finish).transpose()?;
        let segments = |batches: Vec<Range<usize>>| {
            let spill: Option<&Spill> = spill.as_ref();
            spill.into_iter().flat_map(move |spill| batches.clone().into_iter().map(|b| spill.segment(b)))
        };
        let edits = self.edits.into_iter().map(|(file, edits)| {
            let SpilledEdits { batches, updated, dropped } = edits;
            let edits = EditSource::Spilled(segments(batches).collect());
            (file, FileEdits { edits, updated, dropped })
        });
        let new_rows = self.new_rows.into_iter();
        // For each file that is being written, one section is in memory.
        let section = self.options.memory_budget / SECTION_SHARES / self.options.parallelism.max(1);
        let section = (section as u64 / self.row_bytes.max(1)).max(1);
        let new_rows =
            new_rows.map(|(partition, batches)| (partition, Appends::spilled(segments(batches), section)));
        Ok(Changeset {
            schema,
            files: self.files,
            edits: edits.collect(),
            new_rows: new_rows.collect(),
            deleted: self.deleted,
            row_bytes: self.row_bytes,
        })
    }
}

fn range(batches: &[usize]) -> Range<usize> {
    batches.first().map_or(0..0, |first| *first..first + batches.len())
}

/// Returns the memory that a row takes, in bytes.
fn row_bytes(rows: &RecordBatch) -> u64 {
    (size_of_rows(rows) / rows.num_rows().max(1)) as u64
}

fn spilled_schema(columns: &Schema) -> Schema {
    let extra: [FieldRef; SPILL_COLUMNS] = [
        Arc::new(Field::new("__record_key", DataType::Utf8, true)),
        Arc::new(Field::new("__position", DataType::UInt64, false)),
        Arc::new(Field::new("__drop", DataType::Boolean, false)),
    ];
    Schema::new(columns.fields().iter().cloned().chain(extra).collect::<Vec<_>>())
}

/// Converts incoming rows to their spilled form. The removal of a stored row is spilled as a null row.
fn spilled(incoming: &Incoming, rows: &UInt32Array, positions: UInt64Array) -> Result<RecordBatch> {
    let failed = |cause: ArrowError| {
        Error::new(ErrorKind::InvalidInput, "the incoming rows cannot be selected").with_source(cause)
    };
    let data = take_record_batch(&incoming.rows, rows).map_err(failed)?;
    let keys = arrow::compute::take(incoming.keys.as_ref(), rows, None).map_err(failed)?;
    let drops: BooleanArray = (0..rows.len()).map(|row| Some(rows.is_null(row))).collect();
    let extra: [ArrayRef; SPILL_COLUMNS] = [keys, Arc::new(positions), Arc::new(drops)];
    let columns = data.columns().iter().cloned().chain(extra).collect();
    RecordBatch::try_new(Arc::new(spilled_schema(data.schema_ref())), columns).map_err(failed)
}
