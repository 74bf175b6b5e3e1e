//! [`Scd2Table`]: a history of changes in a Hudi table.

use std::{fmt, sync::Arc};

use arrow::{
    array::{AsArray, BooleanArray, RecordBatch, UInt32Array},
    compute::{SortColumn, concat_batches, filter_record_batch, lexsort_to_indices, take_record_batch},
    datatypes::{Schema, SchemaRef},
};
use futures::{Stream, TryStreamExt, stream};
use object_store::{ObjectStore, path::Path};

use super::{
    Dimension, Scd2, Scd2Counts,
    changes::{self, Gathered},
    hidden::Divided,
    keys::{KeyIndex, KeyValues},
    merge::{Changes, column},
};
use crate::{
    CommitReport, Error, ErrorKind, Query, Result, SourceFile, Table, TableDefinition, TableOptions,
    beside::{
        Beside, hidden,
        ledger::{self, Taken},
    },
    concurrent::blocking,
    context::{Context, Turn},
    definition::HISTORY,
    operation::{Operation, Phase},
    read::{SoughtKeys, rows_where},
    recover::repair,
    schema::{self, conform},
    snapshot::View,
    write::{self, Intake},
};

/// The history of a dimension (SCD type 2) in a Hudi table.
///
/// Its rows are those that [`Scd2`] describes: the columns of the changes, `valid_from`, `valid_to` and
/// `is_current`. Every reader of Hudi sees exactly these rows, because deletes that close nothing are stored
/// separately. The record key of a row is the business key with `valid_from`. The table's properties store
/// the definition, so opening the table needs no further information.
///
/// ```
/// use std::sync::Arc;
///
/// use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
/// use hudi_scd::scd::{Scd2, Scd2Table};
/// use object_store::memory::InMemory;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let changes = |tier: &str, at: i64| {
///     RecordBatch::try_from_iter([
///         ("customer_id", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
///         ("tier", Arc::new(StringArray::from(vec![tier])) as ArrayRef),
///         ("updated_at", Arc::new(Int64Array::from(vec![at])) as ArrayRef),
///     ])
/// };
/// let first = changes("basic", 10)?;
/// let history = Scd2::new(["customer_id"], "updated_at");
/// let definition = Scd2Table::definition_of("customer_history", &history, &first.schema())?;
/// let table = Scd2Table::create(Arc::new(InMemory::new()), "lake/customer_history".into(), definition).await?;
///
/// table.apply(&[first]).await?;
/// let report = table.apply(&[changes("gold", 30)?]).await?;
/// assert_eq!((report.counts.opened, report.counts.closed), (1, 1));
///
/// // A late change splits the interval that it falls into.
/// let report = table.apply(&[changes("silver", 20)?]).await?;
/// assert_eq!((report.counts.late, report.counts.split), (1, 1));
/// assert_eq!(table.rows().await?.num_rows(), 3);
///
/// // A repeated change has no effect, and makes no commit.
/// let report = table.apply(&[changes("silver", 20)?]).await?;
/// assert_eq!(report.commit.instant, None);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Scd2Table {
    table: Table,
    scd: Scd2,
}

/// The result of [`Scd2Table::apply`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scd2Report {
    /// The counts of the history.
    pub counts: Scd2Counts,
    /// The report of the commit. It counts rows of the history.
    pub commit: CommitReport,
}

impl fmt::Display for Scd2Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.counts, self.commit)
    }
}

impl Scd2Table {
    /// Creates the table of a history from its [definition](Scd2Table::definition_of), with the default
    /// options, and opens it. If the future is dropped, the same holds as for [`Table::create`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidDefinition`] if the definition is not that of a history; otherwise as
    /// [`Table::create`].
    pub async fn create(
        store: Arc<dyn ObjectStore>,
        root: Path,
        definition: TableDefinition,
    ) -> Result<Self> {
        Self::create_with(store, root, definition, TableOptions::default()).await
    }

    /// Creates the table of a history, and opens it with these options. If the future is dropped, the same
    /// holds as for [`Table::create`].
    ///
    /// # Errors
    /// As [`Scd2Table::create`].
    pub async fn create_with(
        store: Arc<dyn ObjectStore>,
        root: Path,
        definition: TableDefinition,
        options: TableOptions,
    ) -> Result<Self> {
        if !definition.has_property(HISTORY) {
            return Err(Error::new(
                ErrorKind::InvalidDefinition,
                "the definition is not that of an SCD type 2 history",
            )
            .with_context("hint", "define it with `Scd2Table::definition_of`"));
        }
        Self::of(Table::create_with(store, root, definition, options).await?)
    }

    /// Returns the definition of the table that stores a history, for changes with this schema. You can add
    /// partitions, a database and a retention to it.
    ///
    /// Any column of the history may be a partition column, including `is_current`: rows move when its value
    /// changes.
    ///
    /// # Errors
    /// As [`Scd2::history_schema`].
    pub fn definition_of(name: impl Into<String>, scd: &Scd2, changes: &Schema) -> Result<TableDefinition> {
        let schema = schema::documented(&*scd.history_schema(changes)?, changes);
        let record_key = scd.keys().iter().cloned().chain([scd.valid_from().to_owned()]);
        let said = serde_json::to_string(scd).map_err(|e| {
            Error::new(ErrorKind::InvalidDefinition, "definition cannot be stored").with_source(e)
        })?;
        Ok(TableDefinition::new(name, schema, record_key).with_property(HISTORY, said))
    }

    /// Opens a history with the default options.
    ///
    /// # Errors
    /// As [`Table::open`]; [`ErrorKind::InvalidDefinition`] if the table is not a history.
    pub async fn open(store: Arc<dyn ObjectStore>, root: Path) -> Result<Self> {
        Self::open_with(store, root, TableOptions::default()).await
    }

    /// Opens a history.
    ///
    /// # Errors
    /// As [`Scd2Table::open`].
    pub async fn open_with(store: Arc<dyn ObjectStore>, root: Path, options: TableOptions) -> Result<Self> {
        Self::of(Table::open_with(store, root, options).await?)
    }

    /// Converts a table to the history that it stores.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidDefinition`] if it is not a history; [`ErrorKind::Corrupt`] if its definition is
    /// invalid.
    pub fn of(table: Table) -> Result<Self> {
        let Some(said) = table.context().properties().raw().get(HISTORY) else {
            return Err(Error::new(
                ErrorKind::InvalidDefinition,
                "the table is not an SCD type 2 history; open it as a table",
            )
            .with_context("path", table.root())
            .with_context("property", HISTORY));
        };
        let scd = serde_json::from_str(said).map_err(|e| {
            Error::new(ErrorKind::Corrupt, "the table's definition of the history is invalid")
                .with_context("property", HISTORY)
                .with_source(e)
        })?;
        Ok(Self { table, scd })
    }

    /// Returns the Hudi table, for its timeline, retention and time travel. Writing to it other than with
    /// [`Scd2Table::apply`] corrupts the history.
    pub fn table(&self) -> &Table {
        &self.table
    }

    fn context(&self) -> &Arc<Context> {
        self.table.context()
    }

    /// Returns the definition of the history.
    pub fn definition(&self) -> &Scd2 {
        &self.scd
    }

    /// Merges changes into the history. The rows that differ are written in one commit. If none differ, there
    /// is no commit.
    ///
    /// The changes may arrive in any order and in any batches (see [`Scd2`]).
    ///
    /// If the future is dropped, the write ends [as in a crash](Table#dropped-futures). It can be repeated.
    ///
    /// # Errors
    /// As [`Scd2::merge`] and [`Table::upsert`].
    pub async fn apply(&self, changes: &[RecordBatch]) -> Result<Scd2Report> {
        self.apply_stream(stream::iter(changes.iter().cloned().map(Ok))).await
    }

    /// Merges a stream of changes into the history (see [`Scd2Table::apply`]). Nothing is written before the
    /// stream has ended. If the stream returns an error, this method returns it, and nothing is written.
    ///
    /// Changes that need more than an eighth of the [memory budget](TableOptions::with_memory_budget) are
    /// sorted on the local disk. They are then merged in parts of that size with the stored rows of their
    /// keys.
    ///
    /// If the future is dropped, the write ends [as in a crash](Table#dropped-futures).
    ///
    /// # Errors
    /// As [`Scd2Table::apply`], and the errors of the stream.
    pub async fn apply_stream(
        &self,
        changes: impl Stream<Item = Result<RecordBatch>> + Send,
    ) -> Result<Scd2Report> {
        let operation = &self.context().begin_change("apply");
        let applied = Box::pin(async {
            let mut report = Scd2Report::default();
            operation.enter(Phase::Prepare);
            let changes = Box::pin(changes::gather(self.context(), &self.scd, changes)).await?;
            operation.enter(Phase::Wait);
            // The turn lasts from the first read of stored rows to the commit, because the rows that were
            // merged must be the rows that are replaced.
            let turn = Box::pin(self.context().turn()).await?;
            let applied =
                turn.run(Box::pin(self.apply_in_turn(&turn, changes, None, &mut report, operation))).await;
            turn.end().await;
            report.commit.ended(applied)?;
            Box::pin(write::sync_catalog(self.context(), &mut report.commit, operation)).await;
            report.commit.time = operation.phases();
            Ok(report)
        });
        operation.run(applied).await
    }

    /// Merges the changes in files into the history, except the changes of files that an earlier commit took
    /// in. This is [`Table::take_in`] for histories.
    ///
    /// If the future is dropped, the write ends [as in a crash](Table#dropped-futures). It can be repeated.
    ///
    /// # Errors
    /// As [`Scd2Table::apply`].
    pub async fn take_in<S>(
        &self,
        files: &[SourceFile],
        changes: impl FnOnce(Vec<SourceFile>) -> S + Send,
    ) -> Result<Intake<Scd2Report>>
    where
        S: Stream<Item = Result<RecordBatch>> + Send,
    {
        let operation = &self.context().begin_change("take_in");
        let taken = Box::pin(async {
            let mut intake = Intake::<Scd2Report>::default();
            operation.enter(Phase::Wait);
            let turn = Box::pin(self.context().turn()).await?;
            let taken =
                turn.run(Box::pin(self.take_in_turn(&turn, files, changes, &mut intake, operation))).await;
            turn.end().await;
            intake.report.commit.ended(taken)?;
            Box::pin(write::sync_catalog(self.context(), &mut intake.report.commit, operation)).await;
            intake.report.commit.time = operation.phases();
            Ok(intake)
        });
        operation.run(taken).await
    }

    async fn take_in_turn<S>(
        &self,
        turn: &Turn<'_>,
        files: &[SourceFile],
        changes: impl FnOnce(Vec<SourceFile>) -> S + Send,
        intake: &mut Intake<Scd2Report>,
        operation: &Operation,
    ) -> Result<()>
    where
        S: Stream<Item = Result<RecordBatch>> + Send,
    {
        operation.enter(Phase::Repair);
        intake.report.commit.rolled_back = Box::pin(repair(self.context(), turn)).await?;
        let view = turn.view().await?;
        let ledger = Box::pin(ledger::read(self.context(), Some(turn), &view)).await?;
        drop(view);
        (intake.new, intake.known) = ledger.divide(files);
        if intake.new.is_empty() {
            return Ok(());
        }
        operation.enter(Phase::Prepare);
        let changes =
            changes(intake.new.clone()).try_filter(|batch| std::future::ready(batch.num_rows() > 0));
        let changes = Box::pin(changes::gather(self.context(), &self.scd, changes)).await?;
        if matches!(&changes, Gathered::Memory(batches) if batches.is_empty()) {
            return Ok(());
        }
        let taken = Some(ledger.take(intake.new.clone()));
        Box::pin(self.apply_in_turn(turn, changes, taken, &mut intake.report, operation)).await
    }

    async fn apply_in_turn(
        &self,
        turn: &Turn<'_>,
        changes: Gathered,
        taken: Option<Taken>,
        report: &mut Scd2Report,
        operation: &Operation,
    ) -> Result<()> {
        operation.enter(Phase::Repair);
        report.commit.rolled_back.extend(Box::pin(repair(self.context(), turn)).await?);
        let view = turn.view().await?;
        operation.enter(Phase::Find);
        let data = self.context().schema_of(&view)?;
        let hidden = Box::pin(hidden::read(self.context(), turn, &view)).await?;
        let before = Before { by: key_schema(&self.scd, &data)?, data, hidden };
        let runs = match changes {
            Gathered::Memory(batches) => {
                let (scd, history) = (self.scd.clone(), before.data.clone());
                let prepare = move || {
                    let history = history.project(&scd.history_columns(&history)).map_err(impossible)?;
                    scd.prepare(Arc::new(history), &batches)
                };
                let changes = blocking(prepare).await?;
                let (_, after) = Box::pin(self.merged(&view, before, changes)).await?;
                drop(view);
                report.counts = after.counts;
                let beside = Beside { hidden: after.hidden, taken };
                if after.is_delete.is_empty() && beside.is_empty() {
                    return Ok(());
                }
                let (rows, deletes) = (after.rows, after.is_delete);
                let report = &mut report.commit;
                return Box::pin(write::change_in_turn(
                    self.context(),
                    turn,
                    rows,
                    deletes,
                    beside,
                    report,
                    operation,
                ))
                .await;
            }
            Gathered::Runs(runs) => runs,
        };
        view.check_latest_whole()?;
        let budget = self.table.options().memory_budget();
        let mut chunks = Box::pin(runs.merge(&self.scd, &before.data, budget)).await?;
        let mut parts = write::parts(self.context(), turn, view.clone());
        let (mut before, mut hidden) = (before, None);
        loop {
            operation.enter(Phase::Find);
            let next = blocking(move || Ok((chunks.next()?, chunks)));
            let (Some(changes), rest) = next.await? else { break };
            chunks = rest;
            let after;
            (before, after) = Box::pin(self.merged(&view, before, changes)).await?;
            report.counts.add(after.counts);
            if let Some(rows) = after.hidden {
                before.hidden = Some(rows.clone());
                hidden = Some(rows);
            }
            if !after.is_delete.is_empty() {
                Box::pin(parts.add(after.rows, after.is_delete, &mut report.commit, operation)).await?;
            }
        }
        drop(view);
        Box::pin(parts.commit(Beside { hidden, taken }, &mut report.commit, operation)).await
    }

    /// Merges changes with the stored rows of their keys.
    async fn merged(&self, view: &View, before: Before, changes: Changes) -> Result<(Before, After)> {
        let sought = self.sought(std::slice::from_ref(&changes.data), &before.by).await?;
        let stored = Box::pin(self.stored(view, &before.data, &sought)).await?;
        let (scd, choose) = (self.scd.clone(), sought.choose);
        blocking(move || {
            let schema = &changes.schema;
            let evolved = |rows: &RecordBatch| {
                conform(&rows.project(&scd.history_columns(rows.schema_ref())).map_err(impossible)?, schema)
            };
            let hidden = match &before.hidden {
                Some(rows) => evolved(rows)?,
                None => RecordBatch::new_empty(schema.clone()),
            };
            let of_keys = BooleanArray::from(choose(&keys_of(&scd, &hidden, &before.by)?)?);
            let of_keys = filter_record_batch(&hidden, &of_keys).map_err(impossible)?;
            let all = concat_batches(schema, [&evolved(&stored)?, &of_keys]).map_err(impossible)?;
            let merged = scd.merge_changes(&all, &changes)?;
            let Divided { upserts, deletes, hidden } = scd.divide(&merged, &stored, &hidden)?;
            let rows = upserts.num_rows() + deletes.num_rows();
            let is_delete: BooleanArray = (0..rows).map(|row| Some(row >= upserts.num_rows())).collect();
            let rows = concat_batches(&upserts.schema(), [&upserts, &deletes]).map_err(impossible)?;
            Ok((before, After { counts: merged.counts, rows, is_delete, hidden }))
        })
        .await
    }

    /// Returns the whole history: one row for each state of each key, ordered by key and time.
    ///
    /// # Errors
    /// As [`Table::read`].
    pub async fn rows(&self) -> Result<RecordBatch> {
        self.read(Query::snapshot()).await
    }

    /// Returns the history as stored in the table, for example as of an instant. (That is what was known at
    /// that time. To find the states that were valid at a time, use [`Scd2Table::dimension`].)
    ///
    /// # Errors
    /// As [`Table::read`].
    pub async fn read(&self, query: Query) -> Result<RecordBatch> {
        let batches = self.table.read(query).await?;
        let scd = self.scd.clone();
        blocking(move || shown(&scd, &batches)).await
    }

    /// Returns the states that are still valid, ordered by key.
    ///
    /// # Errors
    /// As [`Table::read`].
    pub async fn current(&self) -> Result<RecordBatch> {
        let rows = self.rows().await?;
        let scd = self.scd.clone();
        blocking(move || {
            let current = column(&rows, scd.is_current())?;
            let current = current.as_boolean_opt().ok_or_else(|| no_history(scd.is_current()))?;
            filter_record_batch(&rows, current).map_err(impossible)
        })
        .await
    }

    /// Returns the states of some keys, ordered by key and time. `keys` contains the key columns of the
    /// history, with one row per key.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if `keys` lacks a key column or has one of a different type; otherwise as
    /// [`Table::read`].
    pub async fn history(&self, keys: &RecordBatch) -> Result<RecordBatch> {
        self.context().begin_read("history").run(Box::pin(self.history_of(keys))).await
    }

    async fn history_of(&self, keys: &RecordBatch) -> Result<RecordBatch> {
        let view = self.context().view().await?;
        let data = self.context().schema_of(&view)?;
        let by = key_schema(&self.scd, &data)?;
        let sought = self.sought(std::slice::from_ref(keys), &by).await?;
        let stored = Box::pin(self.stored(&view, &data, &sought)).await?;
        let scd = self.scd.clone();
        blocking(move || shown(&scd, &[stored])).await
    }

    /// Returns the history as a dimension for lookups. Build it once per snapshot of the table.
    ///
    /// # Errors
    /// As [`Table::read`].
    pub async fn dimension(&self) -> Result<Dimension> {
        let rows = self.rows().await?;
        let scd = self.scd.clone();
        blocking(move || {
            let keys: Vec<&str> = scd.keys().iter().map(String::as_str).collect();
            Dimension::history(&rows, &keys, scd.valid_from(), scd.valid_to())
        })
        .await
    }

    /// Returns the table's rows that have these keys.
    async fn stored(&self, view: &View, data: &SchemaRef, sought: &SoughtKeys) -> Result<RecordBatch> {
        let found = rows_where(self.context(), view, data, sought).await?;
        let data = data.clone();
        blocking(move || concat_batches(&data, &found).map_err(impossible)).await
    }

    /// Returns the keys in these batches.
    async fn sought(&self, batches: &[RecordBatch], by: &SchemaRef) -> Result<SoughtKeys> {
        let (scd, by, batches) = (self.scd.clone(), by.clone(), batches.to_vec());
        let (keys, index) = blocking(move || indexed(&scd, &by, &batches)).await?;
        let choose = move |keys: &RecordBatch| {
            let values = KeyValues::new(keys.columns()).map_err(impossible)?;
            Ok((0..keys.num_rows()).map(|row| index.get(&values, row).is_some()).collect())
        };
        Ok(SoughtKeys { keys, choose: Arc::new(choose) })
    }
}

/// The stored history before a merge.
struct Before {
    /// The columns of the table.
    data: SchemaRef,
    /// The key columns.
    by: SchemaRef,
    /// The hidden rows of all keys, if there are any.
    hidden: Option<RecordBatch>,
}

/// The changes of a history by a merge.
struct After {
    counts: Scd2Counts,
    /// Rows to write, and then rows to delete.
    rows: RecordBatch,
    is_delete: BooleanArray,
    /// The hidden rows of all keys, if they change.
    hidden: Option<RecordBatch>,
}

/// Returns the keys of some rows, and their index.
fn indexed(scd: &Scd2, by: &SchemaRef, batches: &[RecordBatch]) -> Result<(RecordBatch, KeyIndex)> {
    let wanted = batches
        .iter()
        .filter(|batch| batch.num_rows() > 0)
        .map(|batch| keys_of(scd, batch, by))
        .collect::<Result<Vec<_>>>()?;
    let wanted = concat_batches(by, &wanted).map_err(impossible)?;
    let values = KeyValues::new(wanted.columns()).map_err(impossible)?;
    let mut index = KeyIndex::for_keys(&values);
    for row in 0..wanted.num_rows() {
        index.insert(&values, row);
    }
    Ok((wanted, index))
}

fn key_schema(scd: &Scd2, data: &Schema) -> Result<SchemaRef> {
    let fields = scd.keys().iter().map(|key| data.field_with_name(key).cloned());
    let fields = fields.collect::<Result<Vec<_>, _>>();
    fields.map(|fields| Arc::new(Schema::new(fields))).map_err(impossible)
}

fn keys_of(scd: &Scd2, batch: &RecordBatch, keys: &SchemaRef) -> Result<RecordBatch> {
    let columns = scd.keys().iter().map(|key| Ok((key, column(batch, key)?.clone())));
    let batch = RecordBatch::try_from_iter(columns.collect::<Result<Vec<_>>>()?).map_err(impossible)?;
    conform(&batch, keys)
}

/// Returns the visible rows, ordered by key and time.
fn shown(scd: &Scd2, stored: &[RecordBatch]) -> Result<RecordBatch> {
    let schema = stored.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
    let rows = scd.visible(&concat_batches(&schema, stored).map_err(impossible)?)?;
    let columns = scd.keys().iter().map(String::as_str).chain([scd.valid_from()]);
    let by = columns
        .map(|name| Ok(SortColumn { values: column(&rows, name)?.clone(), options: None }))
        .collect::<Result<Vec<_>>>()?;
    let order: UInt32Array = lexsort_to_indices(&by, None).map_err(impossible)?;
    take_record_batch(&rows, &order).map_err(impossible)
}

fn no_history(name: &str) -> Error {
    Error::new(ErrorKind::Corrupt, "stored rows are not a history of this definition")
        .with_context("column", name)
}

fn impossible(e: arrow::error::ArrowError) -> Error {
    Error::new(ErrorKind::InvalidInput, "changes and history have conflicting columns").with_source(e)
}
