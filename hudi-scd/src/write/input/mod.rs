//! The input of a write. It is in memory if it is small, and otherwise in sorted runs on the local disk.
//!
//! ```text
//! stream -> hold -> (budget full: sort by record key, newest of each key) -> run
//!                                                                            run  -> merge -> chunks of distinct rows,
//!                                                                            run             in the order of their keys
//! ```
//!
//! The stream is read before the table is locked, so that other writers need not wait for a slow source.

pub(super) mod incoming;
pub(super) mod key_texts;
pub(super) mod spill;

use std::{cmp::Ordering, collections::BinaryHeap, pin::pin, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array, UInt64Array, make_comparator},
    compute::{SortOptions, interleave_record_batch, sort_to_indices, take_record_batch},
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef},
    error::ArrowError,
};
use futures::{Stream, TryStreamExt};

use self::{
    incoming::{Incoming, Intent, ordering_column},
    key_texts::{Pair, Texts},
    spill::{Batches, Spill, SpillWriter, rows_per_batch, size_of_rows},
};
use crate::{
    Error, ErrorKind, Result,
    concurrent::blocking,
    context::{Context, TableOptions},
    index::key_schema,
    properties::TableProperties,
    schema,
    snapshot::View,
};

/// Number of runs of a size class that are joined to one run of the next class. Each run has an open file and
/// a batch in memory. A row is rewritten once per class: once for 64 GiB of rows in runs of 64 MiB.
const MAX_RUNS: usize = 64;
/// Divisor: a run, and a chunk of merged rows, may use this share of the memory budget. Each of them is
/// copied once.
pub(crate) const SHARES: usize = 8;
/// Number of columns after the data columns of a run: the row's position in the input, and its record key.
const ADDED_COLUMNS: usize = 2;
const PLACE: &str = "__place";
const KEY: &str = "__record_key";

/// A rule for the rows of one key in several runs.
#[derive(Clone)]
pub(crate) enum Rule {
    /// Keeps the newest row, as these properties define it.
    Newest(Intent, Box<TableProperties>),
    /// Keeps all rows.
    All,
}

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

/// Runs by size class, in the order of the input. Smaller runs follow larger ones.
pub(crate) struct Classes<T> {
    runs: Vec<(u32, T)>,
}

impl<T> Classes<T> {
    /// Removes the runs to join, if a class is full. Returns them with the class of the joined run.
    fn take_full(&mut self) -> Option<(u32, Vec<T>)> {
        let class = self.runs.last()?.0;
        let count = self.runs.iter().rev().take_while(|(other, _)| *other == class).count();
        let full = (count >= MAX_RUNS).then(|| self.runs.split_off(self.runs.len() - count))?;
        Some((class + 1, full.into_iter().map(|(_, run)| run).collect()))
    }
}

impl Classes<Run> {
    pub(crate) fn new() -> Self {
        Self { runs: Vec::new() }
    }

    /// Adds a run. If a class is full, joins its runs.
    pub(crate) async fn add(&mut self, run: Run, rule: &Rule, options: &TableOptions) -> Result<()> {
        self.runs.push((0, run));
        while let Some((class, runs)) = self.take_full() {
            let (options, rule) = (options.clone(), rule.clone());
            let joined = blocking(move || join_runs(runs, rule, &options)).await?;
            self.runs.push((class, joined));
        }
        Ok(())
    }

    /// Returns all runs, in the order of the input.
    pub(crate) fn into_runs(self) -> Vec<Run> {
        self.runs.into_iter().map(|(_, run)| run).collect()
    }
}

/// Rows, ordered by key.
pub(crate) struct Run {
    rows: Spill,
    /// The schema of the rows without their positions and keys, or of the table after the batches so far.
    pub(crate) schema: SchemaRef,
}

/// Rows that are sorted on the local disk if they do not fit into memory.
pub(crate) trait Sorting {
    /// Writes the next rows of the input to a run.
    async fn add(&mut self, batches: Vec<RecordBatch>) -> Result<()>;
}

/// Reads a stream until its end. Returns the batches if they are smaller than a run. Otherwise `runs`
/// contains the rows.
pub(crate) async fn hold(
    rows: impl Stream<Item = Result<RecordBatch>> + Send,
    options: &TableOptions,
    runs: &mut impl Sorting,
) -> Result<Option<Vec<RecordBatch>>> {
    let share = options.memory_budget / SHARES;
    let mut rows = pin!(rows);
    let mut held: Vec<RecordBatch> = Vec::new();
    let (mut bytes, mut is_sorted) = (0, false);
    while let Some(batch) = rows.try_next().await? {
        bytes += size_of_rows(&batch);
        held.push(batch);
        if bytes > share {
            runs.add(std::mem::take(&mut held)).await?;
            (bytes, is_sorted) = (0, true);
        }
    }
    if !is_sorted {
        return Ok(Some(held));
    }
    if !held.is_empty() {
        runs.add(held).await?;
    }
    Ok(None)
}

/// Reads the rows of a write.
pub(crate) async fn gather(
    context: &Context,
    rows: impl Stream<Item = Result<RecordBatch>> + Send,
    intent: Intent,
) -> Result<Gathered> {
    let mut sorting = SortingRows { context, intent, runs: Runs { runs: Classes::new(), rows: 0 } };
    Ok(match hold(rows, context.options(), &mut sorting).await? {
        Some(batches) => Gathered::Memory(batches),
        None => Gathered::Runs(sorting.runs),
    })
}

/// The rows of a write that are being sorted.
struct SortingRows<'a> {
    context: &'a Context,
    intent: Intent,
    runs: Runs,
}

impl Sorting for SortingRows<'_> {
    async fn add(&mut self, batches: Vec<RecordBatch>) -> Result<()> {
        let (context, before) = (self.context, self.runs.rows);
        let view = context.view().await?;
        let first = usize::try_from(before).unwrap_or(usize::MAX);
        let named = |error: Error| error.map_rows(|row| first + row);
        let incoming = Incoming::prepare(context, &view, batches, self.intent).await.map_err(named)?;
        self.runs.rows += incoming.total_rows;
        let options = context.options().clone();
        let write =
            move || write_run(&options, &incoming.rows, &incoming.keys, before, incoming.schema.clone());
        let rule = Rule::Newest(self.intent, Box::new(context.properties().clone()));
        self.runs.runs.add(blocking(write).await?, &rule, context.options()).await
    }
}

impl Runs {
    /// Returns the rows to write, in chunks of distinct rows.
    pub(crate) async fn merge(
        self,
        context: &Context,
        view: &View,
        intent: Intent,
    ) -> Result<(Merger, SchemaRef)> {
        let properties = context.properties().clone();
        let runs = self.runs.into_runs();
        let mut schema = match context.schema_of(view) {
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
        let share = context.options().memory_budget / SHARES;
        let rule = Rule::Newest(intent, Box::new(properties));
        Ok((blocking(move || Merger::new(runs, rule, columns, share)).await?, schema))
    }
}

/// Sorts rows and writes them. `before` is the number of rows before them in the input. This must run on a
/// blocking thread.
pub(crate) fn write_run(
    options: &TableOptions,
    rows: &RecordBatch,
    keys: &StringArray,
    before: u64,
    schema: SchemaRef,
) -> Result<Run> {
    let order = sort_to_indices(keys, None, None).map_err(unsorted)?;
    let places = UInt64Array::from_iter_values(before..before + rows.num_rows() as u64);
    let keyed = with_keys(rows, Arc::new(places), keys)?;
    let mut run = SpillWriter::create(options, keyed.schema())?;
    let step = rows_per_batch(&keyed);
    for start in (0..order.len()).step_by(step) {
        let rows: UInt32Array = order.slice(start, step.min(order.len() - start));
        run.write(&take_record_batch(&keyed, &rows).map_err(unsorted)?)?;
    }
    Ok(Run { rows: run.finish()?, schema })
}

fn join_runs(runs: Vec<Run>, rule: Rule, options: &TableOptions) -> Result<Run> {
    let (schema, columns) = match &rule {
        Rule::Newest(intent, properties) => {
            let mut schema = runs[0].schema.clone();
            if *intent != Intent::Delete {
                for run in &runs {
                    schema = schema::reconcile(&schema, &run.schema)?;
                }
            }
            let columns = incoming_columns(&schema, *intent, properties)?;
            (schema, columns)
        }
        Rule::All => (runs[runs.len() - 1].schema.clone(), runs[runs.len() - 1].schema.clone()),
    };
    let mut joined = SpillWriter::create(options, keyed_schema(&columns).into())?;
    let mut merger = Merger::new(runs, rule, columns, options.memory_budget / SHARES)?;
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

/// Merges sorted runs by a [`Rule`]. Among equally new rows of a key, the one from the last run is the newest.
pub(crate) struct Merger {
    runs: Vec<RunReader>,
    heads: BinaryHeap<Head>,
    rule: Rule,
    columns: SchemaRef,
    texts: Texts,
    /// Maximum size of a chunk in bytes.
    share: usize,
}

/// A run with its current position.
struct RunReader {
    batches: Batches,
    current: Option<Current>,
}

struct Current {
    keyed: RecordBatch,
    ordering: Option<ArrayRef>,
    row_bytes: usize,
    row: usize,
    /// The index of the batch in the chunk, if the chunk has a row of this batch.
    held: Option<usize>,
}

impl Current {
    fn keys(&self) -> &StringArray {
        self.keyed.column(self.keyed.num_columns() - 1).as_string()
    }
}

/// The next key of a run. The heap returns the smallest key first and, among equal keys, that of the first
/// run.
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
    /// `share` is the maximum size of a chunk in bytes.
    pub(crate) fn new(runs: Vec<Run>, rule: Rule, columns: SchemaRef, share: usize) -> Result<Self> {
        let runs = runs.iter().map(|run| RunReader { batches: run.rows.all().read(), current: None });
        let runs: Vec<RunReader> = runs.collect();
        let count = runs.len();
        let heads = BinaryHeap::with_capacity(count);
        let texts = Texts::of(match &rule {
            Rule::Newest(_, properties) => &properties.record_key_fields,
            Rule::All => &[],
        });
        let mut merger = Self { runs, heads, rule, columns, texts, share };
        for run in 0..count {
            merger.advance(run)?;
        }
        Ok(merger)
    }

    /// Returns the next chunk of rows, with their keys and their positions in the input. Returns `None` after
    /// the last chunk. The keys are in ascending order, and no other chunk contains rows with these keys.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<(RecordBatch, StringArray, UInt64Array)>> {
        let Some(keyed) = self.next_keyed()? else { return Ok(None) };
        let data = keyed.num_columns() - ADDED_COLUMNS;
        let rows = keyed.project(&(0..data).collect::<Vec<_>>()).map_err(unsorted)?;
        let places = keyed.column(data).as_primitive().clone();
        Ok(Some((rows, keyed.column(data + 1).as_string::<i32>().clone(), places)))
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
                let Rule::Newest(_, properties) = &self.rule else {
                    rows.push(best.place);
                    bytes += best.bytes;
                    best = rival;
                    continue;
                };
                if self.texts.is_ambiguous(&head.key) {
                    let (one, other) = (&held[best.place.0], &held[rival.place.0]);
                    let columns = Pair::of(one, other, &properties.record_key_fields)?;
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

    /// Takes the current row of a run and advances the run.
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

    /// Reads a batch of a run with the required schema.
    fn load(&self, keyed: &RecordBatch) -> Result<Current> {
        let data = keyed.num_columns() - ADDED_COLUMNS;
        let rows = keyed.project(&(0..data).collect::<Vec<_>>()).map_err(unsorted)?;
        let rows = schema::conform(&rows, &self.columns)?;
        let ordering = match &self.rule {
            Rule::All | Rule::Newest(Intent::Delete, _) => None,
            Rule::Newest(_, properties) => ordering_column(&rows, properties)?,
        };
        let keyed = with_keys(&rows, keyed.column(data).clone(), keyed.column(data + 1).as_string())?;
        let row_bytes = size_of_rows(&keyed) / keyed.num_rows().max(1);
        Ok(Current { keyed, ordering, row_bytes, row: 0, held: None })
    }
}

/// A row that has the current key.
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
    let added: [FieldRef; ADDED_COLUMNS] = [
        Arc::new(Field::new(PLACE, DataType::UInt64, false)),
        Arc::new(Field::new(KEY, DataType::Utf8, false)),
    ];
    Schema::new(columns.fields().iter().cloned().chain(added).collect::<Vec<_>>())
}

fn with_keys(rows: &RecordBatch, places: ArrayRef, keys: &StringArray) -> Result<RecordBatch> {
    let added: [ArrayRef; ADDED_COLUMNS] = [places, Arc::new(keys.clone())];
    let columns = rows.columns().iter().cloned().chain(added).collect();
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

    /// Joining all runs whenever there are 64 would rewrite 537 GiB for 64 GiB, and 8.4 TiB for 256 GiB.
    #[rstest::rstest]
    #[case::four_gib(64, 64)]
    #[case::sixty_four_gib(1_024, 1_024)]
    #[case::one_tib(16_384, 2 * 16_384)]
    fn runs_are_rewritten_once_per_size_class(#[case] runs: u64, #[case] most: u64) {
        let mut classes = Classes { runs: Vec::new() };
        let mut rewritten = 0;
        let mut largest = 0;
        for number in 0..runs {
            // A run is represented by its range of the input.
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
