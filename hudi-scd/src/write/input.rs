//! The input of a write: in memory if it is small, otherwise in sorted runs on the local disk.
//!
//! ```text
//! stream -> hold -> (budget full: sort by record key, newest of each key) -> run
//!                                                                            run  -> merge -> chunks of distinct rows,
//!                                                                            run             in the order of their keys
//! ```
//!
//! The stream is read before the table is locked, so that no other writer waits for a slow source.

use std::{cmp::Ordering, collections::BinaryHeap, pin::pin};

use arrow::{
    array::{ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array, make_comparator},
    compute::{SortOptions, interleave_record_batch, sort_to_indices, take_record_batch},
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
};
use futures::{Stream, TryStreamExt};

use super::{
    collision::{Pair, Texts},
    incoming::{Incoming, Intent, ordering_column},
    spill::{Batches, Spill, SpillWriter, rows_per_batch, size_of_rows},
};
use crate::{
    Error, ErrorKind, Result, concurrent::blocking, index::key_schema, options::TableOptions,
    properties::TableProperties, schema, table::Table, view::View,
};

/// The number of runs of a size class that are joined to one of the next class. Each run has a batch in memory
/// and an open file, and a row is rewritten once for each class: 64 GiB of rows in runs of 64 MiB once.
const MAX_RUNS: usize = 64;
/// The share of the memory budget for a run, and for a chunk of merged rows: both are copied once.
const SHARES: usize = 4;
const KEY: &str = "__record_key";

/// The rows of a write.
pub(crate) enum Gathered {
    Memory(Vec<RecordBatch>),
    Runs(Runs),
}

/// Rows on the local disk.
pub(crate) struct Runs {
    runs: Classes<Run>,
    /// Number of rows in the input.
    pub(crate) rows: u64,
}

/// Runs by size class, in the order of the input. A class is followed by smaller ones.
struct Classes<T> {
    runs: Vec<(u32, T)>,
}

impl<T> Classes<T> {
    /// Removes the runs to join, if a class is full, and returns them with the class of their result.
    fn take_full(&mut self) -> Option<(u32, Vec<T>)> {
        let class = self.runs.last()?.0;
        let count = self.runs.iter().rev().take_while(|(other, _)| *other == class).count();
        let full = (count >= MAX_RUNS).then(|| self.runs.split_off(self.runs.len() - count))?;
        Some((class + 1, full.into_iter().map(|(_, run)| run).collect()))
    }
}

/// Rows of distinct keys, in the order of their keys.
struct Run {
    rows: Spill,
    /// The data columns of the table, evolved by the batches so far.
    schema: SchemaRef,
}

/// Reads a stream to its end.
pub(crate) async fn gather(
    table: &Table,
    rows: impl Stream<Item = Result<RecordBatch>> + Send,
    intent: Intent,
) -> Result<Gathered> {
    let share = table.inner.options.memory_budget / SHARES;
    let mut rows = pin!(rows);
    let mut held: Vec<RecordBatch> = Vec::new();
    let mut bytes = 0;
    let mut runs = Runs { runs: Classes { runs: Vec::new() }, rows: 0 };
    while let Some(batch) = rows.try_next().await? {
        bytes += size_of_rows(&batch);
        held.push(batch);
        if bytes > share {
            runs.add(table, std::mem::take(&mut held), intent).await?;
            bytes = 0;
        }
    }
    if runs.runs.runs.is_empty() {
        return Ok(Gathered::Memory(held));
    }
    if !held.is_empty() {
        runs.add(table, held, intent).await?;
    }
    Ok(Gathered::Runs(runs))
}

impl Runs {
    async fn add(&mut self, table: &Table, batches: Vec<RecordBatch>, intent: Intent) -> Result<()> {
        let view = table.view().await?;
        let before = usize::try_from(self.rows).unwrap_or(usize::MAX);
        let named = |error: Error| error.map_rows(|row| before + row);
        let incoming = Incoming::prepare(table, &view, batches, intent).await.map_err(named)?;
        self.rows += incoming.total_rows;
        let options = table.inner.options.clone();
        self.runs.runs.push((0, blocking(move || write_run(&options, &incoming)).await?));
        while let Some((class, runs)) = self.runs.take_full() {
            let (options, properties) = (table.inner.options.clone(), table.inner.properties.clone());
            let joined = blocking(move || join_runs(runs, intent, &options, &properties)).await?;
            self.runs.runs.push((class, joined));
        }
        Ok(())
    }

    /// Returns the rows to write, in chunks of distinct rows.
    pub(crate) async fn merge(
        self,
        table: &Table,
        view: &View,
        intent: Intent,
    ) -> Result<(Merger, SchemaRef)> {
        let properties = table.inner.properties.clone();
        let runs: Vec<Run> = self.runs.runs.into_iter().map(|(_, run)| run).collect();
        let mut schema = match table.schema_of(view) {
            Ok(schema) => schema,
            Err(error) if error.kind() == ErrorKind::NotFound => runs[0].schema.clone(),
            Err(error) => return Err(error),
        };
        if intent != Intent::Delete {
            for run in &runs {
                schema = schema::reconcile(&schema, &run.schema)?;
            }
        }
        let columns = incoming_columns(&schema, intent, &properties)?;
        let share = table.inner.options.memory_budget / SHARES;
        Ok((blocking(move || Merger::new(runs, intent, columns, properties, share)).await?, schema))
    }
}

fn write_run(options: &TableOptions, incoming: &Incoming) -> Result<Run> {
    let order = sort_to_indices(incoming.keys.as_ref(), None, None).map_err(unsorted)?;
    let keyed = with_keys(&incoming.rows, &incoming.keys)?;
    let mut run = SpillWriter::create(options, keyed.schema())?;
    let step = rows_per_batch(&keyed);
    for start in (0..order.len()).step_by(step) {
        let rows: UInt32Array = order.slice(start, step.min(order.len() - start));
        run.write(&take_record_batch(&keyed, &rows).map_err(unsorted)?)?;
    }
    Ok(Run { rows: run.finish()?, schema: incoming.schema.clone() })
}

fn join_runs(
    runs: Vec<Run>,
    intent: Intent,
    options: &TableOptions,
    properties: &TableProperties,
) -> Result<Run> {
    let mut schema = runs[0].schema.clone();
    if intent != Intent::Delete {
        for run in &runs {
            schema = schema::reconcile(&schema, &run.schema)?;
        }
    }
    let columns = incoming_columns(&schema, intent, properties)?;
    let mut joined = SpillWriter::create(options, keyed_schema(&columns).into())?;
    let mut merger = Merger::new(runs, intent, columns, properties.clone(), options.memory_budget / SHARES)?;
    while let Some(keyed) = merger.next_keyed()? {
        let step = rows_per_batch(&keyed);
        for start in (0..keyed.num_rows()).step_by(step) {
            joined.write(&keyed.slice(start, step.min(keyed.num_rows() - start)))?;
        }
    }
    Ok(Run { rows: joined.finish()?, schema })
}

/// Returns the columns of incoming rows.
fn incoming_columns(schema: &SchemaRef, intent: Intent, properties: &TableProperties) -> Result<SchemaRef> {
    match intent {
        Intent::Delete => key_schema(schema, &properties.record_key_fields),
        _ => Ok(schema.clone()),
    }
}

/// Merges sorted runs: the newest row of each key, and of equally new ones that of the last run.
pub(crate) struct Merger {
    runs: Vec<RunReader>,
    heads: BinaryHeap<Head>,
    intent: Intent,
    columns: SchemaRef,
    properties: TableProperties,
    texts: Texts,
    /// The bytes of a chunk.
    share: usize,
}

/// A run, with the current position.
struct RunReader {
    batches: Batches,
    current: Option<Current>,
}

struct Current {
    keyed: RecordBatch,
    ordering: Option<ArrayRef>,
    row_bytes: usize,
    row: usize,
    /// The index of the batch in the chunk, once the chunk has a row of it.
    held: Option<usize>,
}

impl Current {
    fn keys(&self) -> &StringArray {
        self.keyed.column(self.keyed.num_columns() - 1).as_string()
    }
}

/// The next key of a run. The least key is the greatest head, of equal ones that of the first run.
#[derive(PartialEq, Eq)]
struct Head {
    key: String,
    run: usize,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key.cmp(&self.key).then(other.run.cmp(&self.run))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Merger {
    fn new(
        runs: Vec<Run>,
        intent: Intent,
        columns: SchemaRef,
        properties: TableProperties,
        share: usize,
    ) -> Result<Self> {
        let runs = runs.iter().map(|run| RunReader { batches: run.rows.all().read(), current: None });
        let runs: Vec<RunReader> = runs.collect();
        let count = runs.len();
        let heads = BinaryHeap::with_capacity(count);
        let texts = Texts::of(&properties.record_key_fields);
        let mut merger = Self { runs, heads, intent, columns, properties, texts, share };
        for run in 0..count {
            merger.advance(run)?;
        }
        Ok(merger)
    }

    /// Returns the next chunk of rows and their keys, distinct and in order, or `None` after the last.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<(RecordBatch, StringArray)>> {
        let Some(keyed) = self.next_keyed()? else { return Ok(None) };
        let last = keyed.num_columns() - 1;
        let rows = keyed.project(&(0..last).collect::<Vec<_>>()).map_err(unsorted)?;
        Ok(Some((rows, keyed.column(last).as_string::<i32>().clone())))
    }

    fn next_keyed(&mut self) -> Result<Option<RecordBatch>> {
        let mut held: Vec<RecordBatch> = Vec::new();
        for run in &mut self.runs {
            if let Some(current) = &mut run.current {
                current.held = None;
            }
        }
        let mut rows: Vec<(usize, usize)> = Vec::new();
        let mut bytes = 0;
        while rows.is_empty() || bytes < self.share {
            let Some(head) = self.heads.pop() else { break };
            let mut best = self.take(head.run, &mut held)?;
            while self.heads.peek().is_some_and(|next| next.key == head.key)
                && let Some(next) = self.heads.pop()
            {
                let rival = self.take(next.run, &mut held)?;
                if self.texts.is_ambiguous(&head.key) {
                    let (one, other) = (&held[best.place.0], &held[rival.place.0]);
                    let columns = Pair::of(one, other, &self.properties.record_key_fields)?;
                    columns.check(&head.key, best.place.1, rival.place.1)?;
                }
                if !rival.is_older_than(&best)? {
                    best = rival;
                }
            }
            rows.push(best.place);
            bytes += best.bytes;
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let held: Vec<&RecordBatch> = held.iter().collect();
        interleave_record_batch(&held, &rows).map(Some).map_err(unsorted)
    }

    /// Takes the current row of a run, and advances the run.
    fn take(&mut self, run: usize, held: &mut Vec<RecordBatch>) -> Result<Candidate> {
        let current = self.runs[run].current.as_mut().ok_or_else(ended)?;
        let batch = *current.held.get_or_insert_with(|| {
            held.push(current.keyed.clone());
            held.len() - 1
        });
        let (place, ordering) = ((batch, current.row), current.ordering.clone());
        let candidate = Candidate { place, ordering, bytes: current.row_bytes };
        self.advance(run)?;
        Ok(candidate)
    }

    /// Advances a run to its next row.
    fn advance(&mut self, run: usize) -> Result<()> {
        let reader = &mut self.runs[run];
        let next = reader.current.as_ref().map_or(usize::MAX, |current| current.row + 1);
        let is_there = reader.current.as_ref().is_some_and(|current| next < current.keyed.num_rows());
        if is_there {
            if let Some(current) = &mut reader.current {
                current.row = next;
            }
        } else {
            let next = reader.batches.next().transpose()?;
            self.runs[run].current = next.map(|keyed| self.load(&keyed)).transpose()?;
        }
        if let Some(current) = &self.runs[run].current {
            self.heads.push(Head { key: current.keys().value(current.row).to_owned(), run });
        }
        Ok(())
    }

    /// Loads a batch of a run with the required schema.
    fn load(&self, keyed: &RecordBatch) -> Result<Current> {
        let last = keyed.num_columns() - 1;
        let rows = keyed.project(&(0..last).collect::<Vec<_>>()).map_err(unsorted)?;
        let rows = schema::conform(&rows, &self.columns)?;
        let ordering = match self.intent {
            Intent::Delete => None,
            _ => ordering_column(&rows, &self.properties)?,
        };
        let keyed = with_keys(&rows, keyed.column(last).as_string())?;
        let row_bytes = size_of_rows(&keyed) / keyed.num_rows().max(1);
        Ok(Current { keyed, ordering, row_bytes, row: 0, held: None })
    }
}

/// A row of the current key.
struct Candidate {
    place: (usize, usize),
    ordering: Option<ArrayRef>,
    bytes: usize,
}

impl Candidate {
    fn is_older_than(&self, other: &Self) -> Result<bool> {
        let (Some(ours), Some(theirs)) = (&self.ordering, &other.ordering) else { return Ok(false) };
        // A delete without an ordering value is newer than the rows before it, and older than the rows after
        // it.
        if ours.is_null(self.place.1) || theirs.is_null(other.place.1) {
            return Ok(false);
        }
        let compare = make_comparator(ours, theirs, SortOptions::default()).map_err(unsorted)?;
        Ok(compare(self.place.1, other.place.1).is_lt())
    }
}

fn keyed_schema(columns: &Schema) -> Schema {
    let key = Field::new(KEY, DataType::Utf8, false);
    Schema::new(columns.fields().iter().cloned().chain([key.into()]).collect::<Vec<_>>())
}

fn with_keys(rows: &RecordBatch, keys: &StringArray) -> Result<RecordBatch> {
    let key: ArrayRef = std::sync::Arc::new(keys.clone());
    let columns = rows.columns().iter().cloned().chain([key]).collect();
    RecordBatch::try_new(keyed_schema(rows.schema_ref()).into(), columns).map_err(unsorted)
}

fn ended() -> Error {
    Error::new(ErrorKind::Storage, "a run of rows ended too early")
}

fn unsorted(cause: ArrowError) -> Error {
    Error::new(ErrorKind::InvalidInput, "the rows cannot be sorted").with_source(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Joining all runs whenever there are 64 rewrites 537 GiB for 64 GiB, and 8.4 TiB for 256 GiB.
    #[rstest::rstest]
    #[case::four_gib(64, 64)]
    #[case::sixty_four_gib(1_024, 1_024)]
    #[case::one_tib(16_384, 2 * 16_384)]
    fn runs_are_rewritten_once_per_size_class(#[case] runs: u64, #[case] most: u64) {
        let mut classes = Classes { runs: Vec::new() };
        let mut rewritten = 0;
        let mut largest = 0;
        for number in 0..runs {
            // A run is the range of the input that it holds.
            classes.runs.push((0, number..number + 1));
            while let Some((class, full)) = classes.take_full() {
                assert!(
                    full.windows(2).all(|pair| pair[0].end == pair[1].start),
                    "in the order of the input"
                );
                let joined = full[0].start..full[full.len() - 1].end;
                rewritten += joined.end - joined.start;
                classes.runs.push((class, joined));
            }
            largest = largest.max(classes.runs.len());
        }
        assert_eq!(rewritten, most, "in units of a run");
        assert!(largest <= 3 * MAX_RUNS, "{largest} open files");
    }
}
