//! [`Operations`]: the column of change files with the operation of each row.

use std::sync::Arc;

use crate::{Error, Result};
use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch},
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef},
};

use super::invalid;

/// The column that AWS DMS calls `Op`: `I` and `U` write the row, `D` deletes its key.
#[derive(Clone, Debug)]
pub struct Operations {
    column: String,
    /// The boolean column that marks deletes for the table.
    marker: String,
    /// `true` if the table has a column of this name, which stores the values.
    is_stored: bool,
}

impl Operations {
    /// Creates the operations in the column `column` of incoming rows for a table with the columns `known`.
    /// `marker` is the column that will mark the deletes.
    pub fn new(column: String, known: &Schema, marker: &str) -> Self {
        let is_stored = known.field_with_name(&column).is_ok();
        Self { column, marker: marker.to_owned(), is_stored }
    }

    /// Returns the columns for reading text.
    pub fn read_with(&self, known: &SchemaRef) -> SchemaRef {
        // The marker is not read, because lines of JSON would give NULL for it.
        let fields = known.fields().iter().filter(|field| *field.name() != self.marker).cloned();
        let operation: FieldRef = Arc::new(Field::new(&self.column, DataType::Utf8, true));
        let operation = (!self.is_stored).then_some(operation);
        Arc::new(Schema::new(fields.chain(operation).collect::<Vec<_>>()))
    }

    /// Returns those columns of a file that are stored in the table.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the file lacks the column, or already
    /// marks deletes itself.
    pub fn stored(&self, schema: &Schema) -> Result<Schema> {
        if schema.field_with_name(&self.column).is_err() {
            return Err(
                invalid("the file lacks the column of operations").with_context("column", &self.column)
            );
        }
        if schema.field_with_name(&self.marker).is_ok() {
            return Err(invalid("the file marks deletes by two columns").with_context("column", &self.marker));
        }
        let stays = |field: &&FieldRef| self.is_stored || field.name() != &self.column;
        Ok(Schema::new(schema.fields().iter().filter(stays).cloned().collect::<Vec<_>>()))
    }

    /// Marks the deletes in a batch. `first` is the number of rows before the batch.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput), naming the row, if a value is not an
    /// operation.
    pub fn mark(&self, batch: &RecordBatch, first: usize) -> Result<RecordBatch> {
        let index = batch.schema_ref().index_of(&self.column).map_err(unfit)?;
        let values = batch.column(index);
        let refused = |row: usize, value: &str| {
            invalid("the value is not an operation (I, U or D)")
                .with_context("column", &self.column)
                .with_context("value", value)
                .with_context("row", first + row)
        };
        let Some(texts) = values.as_string_opt::<i32>() else {
            return Err(invalid("the column of operations does not contain text")
                .with_context("column", &self.column)
                .with_context("type", values.data_type()));
        };
        let mut deletes = Vec::with_capacity(texts.len());
        for row in 0..texts.len() {
            deletes.push(match texts.is_valid(row).then(|| texts.value(row)) {
                Some("I" | "U") => false,
                Some("D") => true,
                Some(other) => return Err(refused(row, other)),
                None => return Err(refused(row, "NULL")),
            });
        }
        let has_deletes = deletes.contains(&true);
        let deletes: ArrayRef = Arc::new(BooleanArray::from(deletes));
        let stays = |at: &usize| {
            let name = batch.schema_ref().field(*at).name();
            (self.is_stored || *at != index) && name != &self.marker
        };
        let kept: Vec<usize> = (0..batch.num_columns()).filter(stays).collect();
        let kept = batch.project(&kept).map_err(unfit)?;
        if !has_deletes {
            return Ok(kept);
        }
        let marker: FieldRef = Arc::new(Field::new(&self.marker, DataType::Boolean, true));
        let fields = kept.schema_ref().fields().iter().cloned().chain([marker]).collect::<Vec<_>>();
        let columns = kept.columns().iter().cloned().chain([deletes]).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(unfit)
    }
}

fn unfit(cause: arrow::error::ArrowError) -> Error {
    invalid("the rows have conflicting columns").with_source(cause)
}
