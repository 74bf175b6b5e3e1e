//! [`Scd2::merge`]: computes the history after a batch of changes, as the rows that differ.

use std::{cmp::Ordering, fmt, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, RecordBatch, UInt32Array, make_array,
    },
    buffer::{NullBuffer, OffsetBuffer},
    compute::{concat_batches, filter_record_batch, take},
    datatypes::{DataType, Field, FieldRef, Int32Type, Schema, SchemaRef},
    row::{RowConverter, Rows, SortField},
};

use super::history::{changes as changes_of, rows as rows_of};
use super::{
    Scd2,
    definition::{SEEN_AGAIN, UNTRACKED_AT},
    history::{Change, Row, forget},
    keys::{KeyIndex, KeyValues, numbers},
};
use crate::{
    Error, ErrorKind, Result,
    key::{self, KeyEncoding},
    schema::{canonical, conform},
};

/// The difference between two versions of a history: rows to write, rows to delete, and counts.
///
/// Keys and `valid_from` identify a row.
#[derive(Clone, Debug)]
pub struct Merged {
    /// New rows, and stored rows that changed.
    pub upserts: RecordBatch,
    /// Stored rows to delete, in stored form.
    pub deletes: RecordBatch,
    /// The counts of the merge.
    pub counts: Scd2Counts,
}

impl Merged {
    /// Returns `true` if the history does not change.
    pub fn is_empty(&self) -> bool {
        self.upserts.num_rows() == 0 && self.deletes.num_rows() == 0
    }
}

/// The counts of a merge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scd2Counts {
    /// Number of incoming changes.
    pub changes: usize,
    /// Number of keys that they belong to.
    pub keys: usize,
    /// Number of changes that are older than the newest known change of their key.
    pub late: usize,
    /// Number of new states in the history.
    pub opened: usize,
    /// Number of rows that were current and no longer are.
    pub closed: usize,
    /// Number of rows that had already ended, and now end earlier.
    pub split: usize,
    /// Number of deleted rows. Their state begins earlier now, or lost against another state of the same
    /// instant.
    pub removed: usize,
    /// Number of rows in which only untracked columns changed.
    pub overwritten: usize,
}

impl Scd2Counts {
    pub(super) fn add(&mut self, other: Self) {
        let Self { changes, keys, late, opened, closed, split, removed, overwritten } = other;
        self.changes += changes;
        self.keys += keys;
        self.late += late;
        self.opened += opened;
        self.closed += closed;
        self.split += split;
        self.removed += removed;
        self.overwritten += overwritten;
    }
}

impl fmt::Display for Scd2Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { changes, keys, late, opened, closed, split, removed, overwritten } = self;
        write!(
            f,
            "{changes} changes of {keys} keys, {late} late: {opened} states opened, {closed} closed, {split} split, "
        )?;
        write!(f, "{removed} removed, {overwritten} overwritten")
    }
}

impl Scd2 {
    /// Merges `changes` into a history.
    ///
    /// `stored` contains all stored rows of the changed keys (additional rows have no effect), with the
    /// schema of the history: the columns of [`Scd2::history_schema`] in any order, with or without Hudi's
    /// meta columns. New columns may be missing. The batches of `changes` may have different columns. A batch
    /// that contains only deletes needs only the keys, the sequence and the delete marker.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a null in a key or in the sequence, and for incompatible columns (see
    /// [`reconcile`](crate::schema::reconcile)); [`ErrorKind::InvalidDefinition`] if the changes lack columns
    /// of the definition; [`ErrorKind::Corrupt`] if the stored rows are not a history.
    pub fn merge(&self, stored: &RecordBatch, changes: &[RecordBatch]) -> Result<Merged> {
        let columns = self.history_columns(stored.schema_ref());
        let history = Arc::new(stored.schema_ref().project(&columns).map_err(impossible)?);
        let changes = self.prepare(history, changes)?;
        self.merge_changes(stored, &changes)
    }

    /// Converts batches of changes for [`Scd2::merge_changes`]. `schema` is the schema of the history before
    /// the changes.
    pub(super) fn prepare(&self, mut schema: SchemaRef, changes: &[RecordBatch]) -> Result<Changes> {
        let mut before = 0;
        let changes: Vec<Incoming> = changes
            .iter()
            .filter(|batch| batch.num_rows() > 0)
            .map(|batch| {
                let first = before;
                before += batch.num_rows();
                Incoming::read(self, batch).map_err(|error| error.map_rows(|row| first + row))
            })
            .collect::<Result<_>>()?;
        // A first batch with only deletes does not define a schema. Later batches add their columns.
        for batch in changes.iter().filter(|batch| !batch.is_deletes_only) {
            schema = if schema.fields().is_empty() {
                self.history_schema(batch.rows.schema_ref())?
            } else {
                self.evolve(&schema, batch.rows.schema_ref())?
            };
        }
        if schema.fields().is_empty() {
            match changes.first() {
                Some(batch) => schema = self.history_schema(batch.rows.schema_ref())?,
                None => return Ok(Changes::none(schema)),
            }
        }
        let columns = self.change_columns(&schema);
        let mut parts = Vec::new();
        let mut at = Vec::new();
        let mut is_delete = Vec::new();
        for batch in &changes {
            parts.push(batch.data(self, &columns)?);
            at.extend_from_slice(batch.at(self, &schema)?.values());
            is_delete.extend_from_slice(&batch.is_delete);
        }
        let data = concat_batches(&columns, &parts).map_err(impossible)?;
        Ok(Changes { schema, data, at: at.into(), is_delete })
    }

    /// Returns the columns of a history that changes set.
    pub(super) fn change_columns(&self, history: &Schema) -> SchemaRef {
        let fields = history.fields().iter().filter(|field| !self.is_added(field.name())).cloned();
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// Merges converted changes into a history, like [`Scd2::merge`].
    pub(super) fn merge_changes(&self, stored: &RecordBatch, changes: &Changes) -> Result<Merged> {
        let schema = &changes.schema;
        if schema.fields().is_empty() {
            return Ok(Merged::nothing(schema.clone()));
        }
        let stored = stored.project(&self.history_columns(stored.schema_ref())).map_err(impossible)?;
        let stored = if stored.num_columns() == 0 {
            RecordBatch::new_empty(schema.clone())
        } else {
            conform(&stored, schema)?
        };
        Merge::new(self, &stored, changes)?.run()
    }

    /// Returns the columns of stored rows except Hudi's own columns: the meta columns, and a delete marker.
    pub(super) fn history_columns(&self, stored: &Schema) -> Vec<usize> {
        let mut columns = data_columns(stored);
        columns.retain(|index| stored.field(*index).name() != self.delete_marker());
        columns
    }

    /// Returns the history without the parts that only [`Scd2::merge`] needs: rows of deletes, and recorded
    /// instants.
    pub fn visible(&self, history: &RecordBatch) -> Result<RecordBatch> {
        let columns = self.history_columns(history.schema_ref()).into_iter();
        let shown: Vec<usize> =
            columns.filter(|index| !Self::is_hidden(history.schema_ref().field(*index).name())).collect();
        self.states(history)?.project(&shown).map_err(impossible)
    }

    /// Returns, with all their columns, the rows that are states of a key. Rows of deletes that close nothing
    /// are omitted. The columns must include the bounds.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if a bound is missing.
    pub fn states(&self, history: &RecordBatch) -> Result<RecordBatch> {
        filter_record_batch(history, &self.is_state(history)?).map_err(impossible)
    }

    /// Returns a mask of the rows that are states.
    pub(super) fn is_state(&self, history: &RecordBatch) -> Result<BooleanArray> {
        let from = bound(history, self.valid_from())?;
        let to = bound(history, self.valid_to())?;
        Ok(from.iter().zip(to.iter()).map(|(from, to)| Some(to.is_none() || from != to)).collect())
    }
}

impl Merged {
    fn nothing(schema: SchemaRef) -> Self {
        let empty = RecordBatch::new_empty(schema);
        Self { upserts: empty.clone(), deletes: empty, counts: Scd2Counts::default() }
    }
}

/// Changes with the types of a history.
pub(super) struct Changes {
    /// The columns of the history after the changes.
    pub(super) schema: SchemaRef,
    /// The keys, and the columns that the changes set.
    pub(super) data: RecordBatch,
    /// The instants, in the unit of the history.
    pub(super) at: Int64Array,
    pub(super) is_delete: Vec<bool>,
}

impl Changes {
    fn none(schema: SchemaRef) -> Self {
        let data = RecordBatch::new_empty(schema.clone());
        Self { schema, data, at: Int64Array::from(Vec::<i64>::new()), is_delete: Vec::new() }
    }
}

/// A validated batch of changes.
struct Incoming {
    rows: RecordBatch,
    is_delete: Vec<bool>,
    is_deletes_only: bool,
}

impl Incoming {
    fn read(scd: &Scd2, batch: &RecordBatch) -> Result<Self> {
        let batch = batch.project(&data_columns(batch.schema_ref())).map_err(impossible)?;
        let schema = canonical(batch.schema_ref())?;
        let rows = conform(&batch, &schema)?;
        let is_delete: Vec<bool> = match rows.column_by_name(scd.delete_marker()) {
            Some(marker) => {
                let marker = marker.as_boolean_opt().ok_or_else(|| {
                    invalid("delete marker is not boolean").with_context("column", scd.delete_marker())
                })?;
                marker.iter().map(|deleted| deleted == Some(true)).collect()
            }
            None => vec![false; rows.num_rows()],
        };
        let is_deletes_only = is_delete.iter().all(|deleted| *deleted);
        for key in scd.keys() {
            no_nulls(column(&rows, key)?, key, "key")?;
        }
        let sequence = column(&rows, scd.sequence())?;
        no_nulls(sequence, scd.sequence(), "sequence").map_err(|error| {
            let row = error.context("row").and_then(|row| row.parse::<usize>().ok());
            let keys = row.and_then(|row| {
                key::record_keys(&rows.slice(row, 1), scd.keys(), KeyEncoding::ValueOnly).ok()
            });
            match keys {
                Some(keys) => error.with_context("key", keys.value(0)),
                None => error,
            }
        })?;
        Ok(Self { rows, is_delete, is_deletes_only })
    }

    /// Returns the instants of the changes, in the unit of the history.
    fn at(&self, scd: &Scd2, history: &Schema) -> Result<Int64Array> {
        let field = history.field_with_name(scd.valid_from()).map_err(impossible)?;
        let sequence = column(&self.rows, scd.sequence())?;
        let name = scd.sequence();
        let alone = RecordBatch::try_from_iter([(name, sequence.clone())]).map_err(impossible)?;
        let wanted = Arc::new(Schema::new(vec![Field::new(name, field.data_type().clone(), true)]));
        numbers(conform(&alone, &wanted)?.column(0)).ok_or_else(|| no_history(name))
    }

    /// Returns the data columns, with the schema `schema`. Deletes have no data.
    fn data(&self, scd: &Scd2, schema: &SchemaRef) -> Result<RecordBatch> {
        let wanted = |name: &str| {
            name != scd.sequence()
                && name != scd.delete_marker()
                && (!self.is_deletes_only || scd.is_key(name))
        };
        let indices: Vec<usize> = (0..self.rows.num_columns())
            .filter(|index| wanted(self.rows.schema_ref().field(*index).name()))
            .collect();
        conform(&self.rows.project(&indices).map_err(impossible)?, schema)
    }
}

/// Stored rows and changes together. Rows `0..stored` of `data` are stored rows, and the others are incoming.
struct Merge<'a> {
    scd: &'a Scd2,
    /// The keys, the tracked and the untracked columns.
    data: RecordBatch,
    tracked: Rows,
    /// Has no columns if there are no untracked ones.
    untracked: Option<Rows>,
    stored: Stored<'a>,
    /// The incoming rows.
    changes: &'a Changes,
    lateness: Option<i64>,
}

/// The interval columns of the stored rows.
struct Stored<'a> {
    batch: &'a RecordBatch,
    from: Int64Array,
    to: Int64Array,
    seen_again: &'a ListArray,
    seen_again_values: Int64Array,
    untracked_at: Option<Int64Array>,
}

/// A row to write, as references to the sources of its parts.
struct NewRow {
    /// A row of `data` with this key.
    key: u32,
    row: Row<u32>,
    untracked: Option<u32>,
    untracked_at: Option<i64>,
}

impl<'a> Merge<'a> {
    /// `stored` has the schema of the changes' history.
    fn new(scd: &'a Scd2, stored: &'a RecordBatch, changes: &'a Changes) -> Result<Self> {
        let schema = &changes.schema;
        let data_schema = scd.change_columns(schema);
        let indices: Vec<usize> =
            (0..schema.fields().len()).filter(|index| !scd.is_added(schema.field(*index).name())).collect();
        let stored_data = stored.project(&indices).map_err(impossible)?;
        let data = concat_batches(&data_schema, [&stored_data, &changes.data]).map_err(impossible)?;
        let rows = |wanted: &dyn Fn(&str) -> bool| -> Result<Option<Rows>> {
            let columns: Vec<ArrayRef> = data_schema
                .fields()
                .iter()
                .zip(data.columns())
                .filter(|(field, _)| wanted(field.name()))
                .map(|(_, column)| column.clone())
                .collect();
            sortable(&columns)
        };
        let tracked = rows(&|name| scd.is_key(name) || scd.is_tracked(name))?;
        let untracked = rows(&|name| !scd.is_key(name) && !scd.is_tracked(name))?;
        Ok(Self {
            scd,
            tracked: tracked.ok_or_else(|| invalid("a history needs at least one key column"))?,
            untracked,
            stored: Stored::read(scd, stored)?,
            lateness: scd.lateness(column(stored, scd.valid_from())?.data_type())?,
            data,
            changes,
        })
    }

    fn run(&self) -> Result<Merged> {
        let mut counts = Scd2Counts { changes: self.changes.at.len(), ..Default::default() };
        let mut written: Vec<NewRow> = Vec::new();
        let mut removed: Vec<u32> = Vec::new();
        let first_change = self.stored.batch.num_rows();
        for key_rows in self.by_key()? {
            let split = key_rows.partition_point(|row| (*row as usize) < first_change);
            let (stored, changes) = key_rows.split_at(split);
            if !changes.is_empty() {
                counts.keys += 1;
                self.merge_key(stored, changes, &mut written, &mut removed, &mut counts)?;
            }
        }
        let deletes = arrow::compute::take_record_batch(self.stored.batch, &UInt32Array::from(removed));
        Ok(Merged { upserts: self.write(&written)?, deletes: deletes.map_err(impossible)?, counts })
    }

    /// Returns the rows of `data` by key, each in ascending order.
    fn by_key(&self) -> Result<Vec<Vec<u32>>> {
        let keys: Vec<ArrayRef> =
            self.scd.keys().iter().map(|key| column(&self.data, key).cloned()).collect::<Result<_>>()?;
        let keys = KeyValues::new(&keys).map_err(impossible)?;
        let mut ids = KeyIndex::for_keys(&keys);
        let mut groups: Vec<Vec<u32>> = Vec::new();
        for row in 0..self.data.num_rows() {
            let Some(id) = ids.insert(&keys, row) else { continue };
            if id as usize == groups.len() {
                groups.push(Vec::new());
            }
            groups[id as usize].push(row as u32);
        }
        Ok(groups)
    }

    fn merge_key(
        &self,
        stored: &[u32],
        incoming: &[u32],
        written: &mut Vec<NewRow>,
        removed: &mut Vec<u32>,
        counts: &mut Scd2Counts,
    ) -> Result<()> {
        let mut stored: Vec<(u32, Row<u32>)> =
            stored.iter().map(|row| Ok((*row, self.stored.row(*row)?))).collect::<Result<_>>()?;
        stored.sort_by_key(|(_, row)| row.valid_from);
        let stored_rows: Vec<Row<u32>> = stored.iter().map(|(_, row)| row.clone()).collect();

        let mut changes: Vec<Change<u32>> = Vec::with_capacity(stored.len() + incoming.len());
        changes_of(&stored_rows, &mut changes);
        let newest_known = changes.iter().map(|(at, _)| *at).max();
        let mut untracked = self.stored_untracked(&stored, &changes);
        let first_change = self.stored.batch.num_rows();
        for row in incoming {
            let change = *row as usize - first_change;
            let (at, is_delete) = (self.changes.at.value(change), self.changes.is_delete[change]);
            let state = (!is_delete).then_some(*row);
            counts.late += usize::from(newest_known.is_some_and(|newest| at < newest));
            changes.push((at, state));
            if state.is_some() && untracked.is_none_or(|known| self.newer(known, (at, *row)).is_lt()) {
                untracked = Some((at, *row));
            }
        }
        let compare = |a: u32, b: u32| self.tracked.row(a as usize).cmp(&self.tracked.row(b as usize));
        let mut rows = rows_of(&mut changes, compare);
        let newest = changes.last().map(|(at, _)| *at);
        let horizon = newest.zip(self.lateness).map(|(newest, lateness)| newest.saturating_sub(lateness));
        if let Some(horizon) = horizon {
            forget(&mut rows, horizon);
        }

        let newest_state = rows
            .iter()
            .filter(|row| row.state.is_some())
            .map(|row| row.seen_again.last().copied().unwrap_or(row.valid_from))
            .max();
        let untracked_at = untracked.map(|(at, _)| at).filter(|at| Some(*at) != newest_state);
        let untracked_at = untracked_at.filter(|at| horizon.is_none_or(|horizon| *at > horizon));
        let count = rows.len();
        let mut kept = vec![false; stored.len()];
        for (index, row) in rows.into_iter().enumerate() {
            let before = stored.binary_search_by_key(&row.valid_from, |(_, row)| row.valid_from).ok();
            let new = NewRow {
                key: incoming[0],
                untracked: untracked.map(|(_, row)| row),
                untracked_at: untracked_at.filter(|_| index + 1 == count && self.scd.has_untracked()),
                row,
            };
            if let Some(before) = before {
                kept[before] = true;
            }
            if self.count(before.map(|index| &stored[index]), &new, counts) {
                written.push(new);
            }
        }
        for ((row, _), _) in stored.iter().zip(&kept).filter(|(_, kept)| !**kept) {
            counts.removed += 1;
            removed.push(*row);
        }
        Ok(())
    }

    /// Returns `true` if a row differs from the stored one, and counts the difference.
    fn count(&self, before: Option<&(u32, Row<u32>)>, new: &NewRow, counts: &mut Scd2Counts) -> bool {
        let Some((index, before)) = before else {
            counts.opened += usize::from(new.row.state.is_some());
            return true;
        };
        let same_state = match (before.state, new.row.state) {
            (Some(a), Some(b)) => self.tracked.row(a as usize) == self.tracked.row(b as usize),
            (a, b) => a.is_none() == b.is_none(),
        };
        let same_untracked = match (&self.untracked, new.untracked) {
            (Some(rows), Some(row)) => rows.row(*index as usize) == rows.row(row as usize),
            _ => true,
        };
        let same_ends = before.valid_to == new.row.valid_to
            && before.seen_again == new.row.seen_again
            && self.stored.untracked_at(*index) == new.untracked_at;
        if same_state && same_ends && same_untracked {
            return false;
        }
        counts.opened += usize::from(!same_state && new.row.state.is_some());
        counts.closed += usize::from(before.valid_to.is_none() && new.row.valid_to.is_some());
        let ends_earlier = before.valid_to.is_some_and(|end| new.row.valid_to.is_some_and(|new| new < end));
        counts.split += usize::from(ends_earlier && before.state.is_some() && new.row.state.is_some());
        counts.overwritten +=
            usize::from(same_state && before.valid_to == new.row.valid_to && !same_untracked);
        true
    }

    /// Returns the change that set the untracked columns of a key: its instant, and a stored row that
    /// contains their values.
    fn stored_untracked(&self, stored: &[(u32, Row<u32>)], changes: &[Change<u32>]) -> Option<(i64, u32)> {
        let (row, _) = stored.last()?;
        let newest_state = changes.iter().filter(|(_, state)| state.is_some()).map(|(at, _)| *at).max();
        self.stored.untracked_at(*row).or(newest_state).map(|at| (at, *row))
    }

    fn newer(&self, (a_at, a): (i64, u32), (b_at, b): (i64, u32)) -> Ordering {
        a_at.cmp(&b_at).then_with(|| match &self.untracked {
            Some(rows) => rows.row(a as usize).cmp(&rows.row(b as usize)),
            None => Ordering::Equal,
        })
    }

    /// Returns the rows with the schema of the history.
    fn write(&self, rows: &[NewRow]) -> Result<RecordBatch> {
        let keys: UInt32Array = rows.iter().map(|new| Some(new.key)).collect();
        let states: UInt32Array = rows.iter().map(|new| new.row.state).collect();
        let untracked: UInt32Array = rows.iter().map(|new| new.untracked).collect();
        let columns =
            self.changes.schema.fields().iter().map(|field| {
                let name = field.name();
                let numbers = |values: Int64Array| of_numbers(values, field.data_type());
                if name == self.scd.valid_from() {
                    numbers(rows.iter().map(|new| Some(new.row.valid_from)).collect())
                } else if name == self.scd.valid_to() {
                    numbers(rows.iter().map(|new| new.row.valid_to).collect())
                } else if name == self.scd.is_current() {
                    Ok(Arc::new(
                        rows.iter().map(|new| Some(new.row.valid_to.is_none())).collect::<BooleanArray>(),
                    ) as ArrayRef)
                } else if name == UNTRACKED_AT {
                    numbers(rows.iter().map(|new| new.untracked_at).collect())
                } else if name == SEEN_AGAIN {
                    seen_again(rows, field)
                } else {
                    let from = match () {
                        () if self.scd.is_key(name) => &keys,
                        () if self.scd.is_tracked(name) => &states,
                        () => &untracked,
                    };
                    take(column(&self.data, name)?, from, None).map_err(impossible)
                }
            });
        let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
        RecordBatch::try_new(self.changes.schema.clone(), columns).map_err(impossible)
    }
}

impl<'a> Stored<'a> {
    fn read(scd: &Scd2, batch: &'a RecordBatch) -> Result<Self> {
        let seen_again = column(batch, SEEN_AGAIN)?;
        let seen_again = seen_again.as_list_opt::<i32>().ok_or_else(|| no_history(SEEN_AGAIN))?;
        let from = bound(batch, scd.valid_from())?;
        if from.null_count() > 0 {
            return Err(no_history(scd.valid_from()));
        }
        Ok(Self {
            batch,
            from,
            to: bound(batch, scd.valid_to())?,
            seen_again,
            seen_again_values: numbers(seen_again.values()).ok_or_else(|| no_history(SEEN_AGAIN))?,
            untracked_at: scd.has_untracked().then(|| bound(batch, UNTRACKED_AT)).transpose()?,
        })
    }

    fn row(&self, row: u32) -> Result<Row<u32>> {
        let index = row as usize;
        let valid_from = self.from.value(index);
        let valid_to = self.to.is_valid(index).then(|| self.to.value(index));
        let seen_again = if self.seen_again.is_valid(index) {
            let offsets = self.seen_again.value_offsets();
            self.seen_again_values.values()[offsets[index] as usize..offsets[index + 1] as usize].to_vec()
        } else {
            Vec::new()
        };
        let state = (valid_to != Some(valid_from)).then_some(row);
        if valid_to.is_some_and(|end| end < valid_from) {
            return Err(Error::new(ErrorKind::Corrupt, "a row of the history ends before it begins")
                .with_context("valid_from", valid_from)
                .with_context("valid_to", valid_to.unwrap_or_default()));
        }
        Ok(Row { valid_from, valid_to, state, seen_again })
    }

    fn untracked_at(&self, row: u32) -> Option<i64> {
        let column = self.untracked_at.as_ref()?;
        column.is_valid(row as usize).then(|| column.value(row as usize))
    }
}

/// Converts columns to rows that compare like their values, null first.
fn sortable(columns: &[ArrayRef]) -> Result<Option<Rows>> {
    if columns.is_empty() {
        return Ok(None);
    }
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let converter = RowConverter::new(fields).map_err(impossible)?;
    converter.convert_columns(columns).map(Some).map_err(impossible)
}

/// Converts numbers back to values. The inverse of [`numbers`].
fn of_numbers(values: Int64Array, data_type: &DataType) -> Result<ArrayRef> {
    let data = match data_type {
        DataType::Int32 | DataType::Date32 => values.unary::<_, Int32Type>(|value| value as i32).into_data(),
        _ => values.into_data(),
    };
    data.into_builder().data_type(data_type.clone()).build().map(make_array).map_err(impossible)
}

fn seen_again(rows: &[NewRow], field: &FieldRef) -> Result<ArrayRef> {
    let DataType::List(item) = field.data_type() else { return Err(no_history(SEEN_AGAIN)) };
    let lengths = rows.iter().map(|new| new.row.seen_again.len());
    let values: Int64Array =
        rows.iter().flat_map(|new| new.row.seen_again.iter().copied()).collect::<Vec<_>>().into();
    let nulls: NullBuffer = rows.iter().map(|new| !new.row.seen_again.is_empty()).collect::<Vec<_>>().into();
    let values = of_numbers(values, item.data_type())?;
    ListArray::try_new(item.clone(), OffsetBuffer::from_lengths(lengths), values, Some(nulls))
        .map(|list| Arc::new(list) as ArrayRef)
        .map_err(impossible)
}

pub(super) fn bound(batch: &RecordBatch, name: &str) -> Result<Int64Array> {
    numbers(column(batch, name)?).ok_or_else(|| no_history(name))
}

pub(super) fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, "a column is missing").with_context("column", name)
    })
}

fn data_columns(schema: &Schema) -> Vec<usize> {
    (0..schema.fields().len())
        .filter(|index| !crate::schema::is_meta_column(schema.field(*index).name()))
        .collect()
}

fn no_nulls(array: &ArrayRef, name: &str, role: &str) -> Result<()> {
    match (0..array.len()).find(|row| array.is_null(*row)) {
        None => Ok(()),
        Some(row) => Err(invalid("a change has a null in a key or in the sequence")
            .with_context("column", name)
            .with_context("role", role)
            .with_context("row", row)),
    }
}

fn no_history(name: &str) -> Error {
    Error::new(ErrorKind::Corrupt, "stored rows are not a history of this definition")
        .with_context("column", name)
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

fn impossible(e: arrow::error::ArrowError) -> Error {
    invalid("changes and history have conflicting columns").with_source(e)
}

#[cfg(test)]
mod tests;
