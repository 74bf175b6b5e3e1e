//! Divides a history into the rows of the table and its [hidden rows](crate::beside::hidden). Other engines
//! see the states. Only a merge also sees the deletes that close nothing.

use arrow::{
    array::{ArrayRef, BooleanArray, RecordBatch},
    compute::{concat_batches, filter_record_batch},
};

use super::{
    Merged, Scd2,
    keys::{KeyIndex, KeyValues},
    merge::column,
};
use crate::{Error, ErrorKind, Result, schema::conform};

/// The changes of a merge, divided by where the rows are stored.
pub(super) struct Divided {
    /// Rows to write to the table.
    pub(super) upserts: RecordBatch,
    /// Rows to delete from the table.
    pub(super) deletes: RecordBatch,
    /// The hidden rows after the merge, if they have changed.
    pub(super) hidden: Option<RecordBatch>,
}

impl Scd2 {
    /// Divides the result of a merge. `stored` contains rows of the table, and `hidden` the hidden rows of
    /// all keys. Earlier releases stored hidden rows in the table; if `stored` contains any, they are moved.
    pub(super) fn divide(
        &self,
        merged: &Merged,
        stored: &RecordBatch,
        hidden: &RecordBatch,
    ) -> Result<Divided> {
        let schema = merged.upserts.schema();
        if schema.fields().is_empty() {
            let (upserts, deletes) = (merged.upserts.clone(), merged.deletes.clone());
            return Ok(Divided { upserts, deletes, hidden: None });
        }
        let conformed = |rows: &RecordBatch| {
            conform(&rows.project(&self.history_columns(rows.schema_ref())).map_err(impossible)?, &schema)
        };
        let (stored, hidden) = (conformed(stored)?, conformed(hidden)?);
        let is_state = self.is_state(&merged.upserts)?;
        let upserts = select(&merged.upserts, &is_state)?;
        let new_hidden = select(&merged.upserts, &not(&is_state))?;

        let (replaced, removed) = (
            self.rows_by_id([&merged.upserts, &merged.deletes])?,
            self.rows_by_id([&merged.deletes, &new_hidden])?,
        );
        let is_replaced = self.is_among(&stored, &replaced)?;
        let is_removed = self.is_among(&stored, &removed)?;
        let was_state = self.is_state(&stored)?;
        let moves: BooleanArray = (0..stored.num_rows())
            .map(|row| Some(!was_state.value(row) && !is_replaced.value(row)))
            .collect();
        let leaves: BooleanArray =
            (0..stored.num_rows()).map(|row| Some(is_removed.value(row) || moves.value(row))).collect();

        let kept = select(&hidden, &not(&self.is_among(&hidden, &replaced)?))?;
        let moved = select(&stored, &moves)?;
        let is_changed = kept.num_rows() < hidden.num_rows() || new_hidden.num_rows() + moved.num_rows() > 0;
        let after = concat_batches(&schema, [&kept, &new_hidden, &moved]).map_err(impossible)?;
        Ok(Divided { upserts, deletes: select(&stored, &leaves)?, hidden: is_changed.then_some(after) })
    }

    /// Indexes rows by key and `valid_from`.
    fn rows_by_id(&self, batches: [&RecordBatch; 2]) -> Result<KeyIndex> {
        let mut index = None;
        for batch in batches {
            let ids = self.ids(batch)?;
            let index = index.get_or_insert_with(|| KeyIndex::for_keys(&ids));
            for row in 0..batch.num_rows() {
                index.insert(&ids, row);
            }
        }
        index.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "a history needs at least one key column"))
    }

    fn is_among(&self, rows: &RecordBatch, index: &KeyIndex) -> Result<BooleanArray> {
        let ids = self.ids(rows)?;
        Ok((0..rows.num_rows()).map(|row| Some(index.get(&ids, row).is_some())).collect())
    }

    fn ids(&self, rows: &RecordBatch) -> Result<KeyValues> {
        let names = self.keys().iter().map(String::as_str).chain([self.valid_from()]);
        let columns: Vec<ArrayRef> = names.map(|name| column(rows, name).cloned()).collect::<Result<_>>()?;
        KeyValues::new(&columns).map_err(impossible)
    }
}

fn not(mask: &BooleanArray) -> BooleanArray {
    mask.iter().map(|value| Some(value != Some(true))).collect()
}

fn select(rows: &RecordBatch, mask: &BooleanArray) -> Result<RecordBatch> {
    filter_record_batch(rows, mask).map_err(impossible)
}

fn impossible(e: arrow::error::ArrowError) -> Error {
    Error::new(ErrorKind::InvalidInput, "changes and history have conflicting columns").with_source(e)
}
