//! Incoming rows: converts them to the table's schema, computes their keys and partitions, and reduces them
//! to one row per key.

use std::{cmp::Ordering, collections::HashMap, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, UInt32Array, UInt64Array,
        make_comparator,
    },
    compute::{SortOptions, concat_batches, filter_record_batch, take, take_record_batch},
    datatypes::{Schema, SchemaRef},
};

use super::key_texts::{Pair, Texts};
use crate::{
    Error, ErrorKind, Result,
    concurrent::blocking,
    context::Context,
    index::{key_encoding, key_schema},
    key::{self, KeyEncoding, Partitions},
    properties::{Merge, TableProperties},
    schema,
    snapshot::View,
};

/// The kind of change that the caller requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    Upsert,
    Insert,
    BulkInsert,
    Delete,
    Overwrite,
}

/// Rows to write, at most one per key.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) intent: Intent,
    /// The table's data columns after this write, or for [`Intent::Delete`] the record key columns.
    pub(crate) rows: RecordBatch,
    /// The data columns of the table after this write.
    pub(crate) schema: SchemaRef,
    pub(crate) keys: Arc<StringArray>,
    pub(crate) partitions: Partitions,
    /// The ordering values, if the table has an ordering column and they are compared with stored rows.
    pub(crate) ordering: Option<ArrayRef>,
    pub(crate) deletes: Option<BooleanArray>,
    /// The position of each row in the input, if the rows have a different order.
    pub(crate) places: Option<UInt64Array>,
    /// Number of rows in the input, including superseded ones.
    pub(crate) total_rows: u64,
}

/// Properties of a table that are needed to prepare incoming rows.
struct Known {
    properties: TableProperties,
    /// The data columns before the write. `None` in a table of another engine without commits.
    schema: Option<SchemaRef>,
    /// The table's own Avro schema.
    avro: Option<String>,
    /// The form of new keys.
    key_encoding: KeyEncoding,
}

impl Incoming {
    pub(crate) async fn prepare(
        context: &Context,
        view: &View,
        batches: Vec<RecordBatch>,
        intent: Intent,
    ) -> Result<Self> {
        context.properties().check_writable()?;
        if let Some(avro) = context.avro_of(view) {
            schema::check_writable(avro)?;
        }
        let schema = match context.schema_of(view) {
            Ok(schema) => Some(schema),
            Err(error)
                if error.kind() == ErrorKind::NotFound && intent != Intent::Delete && !batches.is_empty() =>
            {
                None
            }
            Err(error) => return Err(error),
        };
        let known = Known {
            properties: context.properties().clone(),
            schema,
            avro: context.avro_of(view).map(str::to_owned),
            key_encoding: key_encoding(context, view).await?,
        };
        blocking(move || Self::of(&known, &batches, intent)).await
    }

    /// Converts and reduces rows. This must run on a blocking thread.
    fn of(known: &Known, batches: &[RecordBatch], intent: Intent) -> Result<Self> {
        let properties = &known.properties;
        let (schema, rows) = if intent == Intent::Delete {
            let schema = known.schema.clone().ok_or_else(no_schema)?;
            let columns = key_schema(&schema, &properties.record_key_fields)?;
            let rows = gather(batches, &columns, true)?;
            (schema, rows)
        } else {
            let mut schema = match (&known.schema, batches.first()) {
                (Some(schema), _) => schema.clone(),
                // The first batch determines the schema.
                (None, Some(batch)) => schema::stored(batch.schema_ref())?,
                (None, None) => return Err(no_schema()),
            };
            let before = schema.clone();
            for batch in batches {
                schema = schema::reconcile(&schema, batch.schema_ref())?;
            }
            check_key_types(&before, &schema, properties)?;
            let rows = gather(batches, &schema, false)?;
            (schema, rows)
        };
        let total_rows = rows.num_rows() as u64;
        let keys = key::record_keys(&rows, &properties.record_key_fields, known.key_encoding)?;
        let ordering = match intent {
            Intent::Delete => None,
            _ => ordering_column(&rows, properties)
                .map_err(|error| with_key(error, &keys, properties.ordering_field.as_deref()))?,
        };
        let winners = winners(&rows, &properties.record_key_fields, &keys, ordering.as_ref())?;
        let failed =
            |cause| Error::new(ErrorKind::InvalidInput, "the rows cannot be put in order").with_source(cause);
        // A batch without superseded rows is used unchanged.
        let all = winners.len() == rows.num_rows();
        let rows = if all { rows } else { take_record_batch(&rows, &winners).map_err(failed)? };
        let keys =
            if all { keys } else { take(&keys, &winners, None).map_err(failed)?.as_string::<i32>().clone() };
        let ordering = match ordering {
            // With commit time, or if everything stored is removed, the incoming row wins. The ordering value
            // then only matters within the batch.
            _ if properties.merge == Merge::CommitTime || intent == Intent::Overwrite => None,
            Some(ordering) if !all => Some(take(&ordering, &winners, None).map_err(failed)?),
            ordering => ordering,
        };
        let (given, distinct_keys) = (winners.values().clone(), keys.clone());
        let incoming = Self::of_distinct(properties, intent, schema, rows, keys, ordering, total_rows)
            .map_err(|error| {
                let given = |row: usize| given.get(row).map_or(row, |given| *given as usize);
                with_key(error, &distinct_keys, None).map_rows(given)
            })?;
        if let (Some(text), false) = (&known.avro, intent == Intent::Delete) {
            incoming.check_required(text)?;
        }
        Ok(incoming)
    }

    /// Rejects NULL if the table's own schema does not allow it. A row that deletes needs only its key.
    fn check_required(&self, avro: &str) -> Result<()> {
        let declared = schema::from_avro(avro)?;
        let checked = schema::check_required(&self.rows, &declared);
        if checked.is_ok() || self.deletes.is_none() {
            return checked;
        }
        let stays: BooleanArray = (0..self.rows.num_rows()).map(|row| Some(!self.is_delete(row))).collect();
        let rows = filter_record_batch(&self.rows, &stays).map_err(|cause| {
            Error::new(ErrorKind::InvalidInput, "duplicate rows cannot be detected").with_source(cause)
        })?;
        schema::check_required(&rows, &declared)
    }

    /// Prepares the rows of a write, which must have distinct keys. This must run on a blocking thread.
    pub(crate) fn distinct(
        properties: &TableProperties,
        intent: Intent,
        schema: SchemaRef,
        rows: RecordBatch,
        keys: StringArray,
        places: UInt64Array,
    ) -> Result<Self> {
        let ordering = match (intent, properties.merge) {
            (Intent::Delete | Intent::Overwrite, _) | (_, Merge::CommitTime) => None,
            _ => ordering_column(&rows, properties)?,
        };
        let total = rows.num_rows() as u64;
        let mut incoming = Self::of_distinct(properties, intent, schema, rows, keys, ordering, total)?;
        incoming.places = Some(places);
        Ok(incoming)
    }

    fn of_distinct(
        properties: &TableProperties,
        intent: Intent,
        schema: SchemaRef,
        rows: RecordBatch,
        keys: StringArray,
        ordering: Option<ArrayRef>,
        total_rows: u64,
    ) -> Result<Self> {
        let (partitions, deletes) = match intent {
            Intent::Delete => (Partitions::default(), None),
            _ => (Partitions::of(&rows, properties)?, deletes_column(&rows)?),
        };
        let (keys, places) = (Arc::new(keys), None);
        Ok(Self { intent, rows, schema, keys, partitions, ordering, deletes, places, total_rows })
    }

    /// Returns the position of a row in the input.
    pub(crate) fn place(&self, row: u32) -> u64 {
        self.places.as_ref().map_or_else(|| u64::from(row), |places| places.value(row as usize))
    }

    /// Returns the number of distinct keys.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns `true` if a row deletes its key whatever the stored ordering value is, because the row has no
    /// ordering value.
    pub(crate) fn lacks_ordering(&self, row: usize) -> bool {
        self.ordering.as_ref().is_some_and(|ordering| ordering.is_null(row))
    }

    pub(crate) fn is_delete(&self, row: usize) -> bool {
        match &self.deletes {
            Some(deletes) => deletes.is_valid(row) && deletes.value(row),
            None => self.intent == Intent::Delete,
        }
    }
}

fn no_schema() -> Error {
    Error::new(ErrorKind::NotFound, "the table has no schema before its first commit")
}

/// Rejects key columns that change from integers to floating-point numbers. Keys and paths would be formatted
/// differently, and stored rows would not be found.
fn check_key_types(known: &Schema, evolved: &Schema, properties: &TableProperties) -> Result<()> {
    for name in properties.record_key_fields.iter().chain(&properties.partition_fields) {
        let type_in =
            |schema: &Schema| schema.field_with_name(name).ok().map(|field| field.data_type().clone());
        if let (Some(was), Some(is)) = (type_in(known), type_in(evolved))
            && was != is
            && is.is_floating()
        {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a column of the record key or of the partition path cannot become a floating-point one",
            )
            .with_context("column", name)
            .with_context("table", was)
            .with_context("batch", is));
        }
    }
    Ok(())
}

/// Concatenates all rows with the schema. If a caller passes rows that were read from a table, Hudi's own
/// columns are dropped.
fn gather(batches: &[RecordBatch], schema: &SchemaRef, keys_only: bool) -> Result<RecordBatch> {
    let mut before = 0;
    let conformed = batches
        .iter()
        .map(|batch| {
            let first = before;
            before += batch.num_rows();
            let keep =
                |name: &str| !schema::is_meta_column(name) && (!keys_only || schema.index_of(name).is_ok());
            let fields = batch.schema_ref().fields();
            let indices: Vec<usize> = (0..fields.len()).filter(|index| keep(fields[*index].name())).collect();
            let projected = if indices.len() == fields.len() {
                batch.clone()
            } else {
                batch.project(&indices).map_err(|cause| {
                    Error::new(ErrorKind::InvalidInput, "the batch is invalid").with_source(cause)
                })?
            };
            if keys_only {
                // A column that a delete row lacks must not be treated as null.
                for field in schema.fields() {
                    if projected.column_by_name(field.name()).is_none() {
                        return Err(Error::new(
                            ErrorKind::InvalidInput,
                            "the batch lacks a column of the record key",
                        )
                        .with_context("column", field.name()));
                    }
                }
            }
            let conformed = schema::conform(&projected, schema).and_then(|conformed| {
                schema::check_exact(&projected, &conformed)?;
                Ok(conformed)
            });
            conformed.map_err(|error| error.map_rows(|row| first + row))
        })
        .collect::<Result<Vec<_>>>()?;
    match conformed.as_slice() {
        [one] => Ok(one.clone()),
        many => concat_batches(schema, many).map_err(|cause| {
            Error::new(ErrorKind::InvalidInput, "the batches have conflicting columns").with_source(cause)
        }),
    }
}

/// Returns the ordering values of rows. A row that deletes its key may lack one.
pub(crate) fn ordering_column(rows: &RecordBatch, properties: &TableProperties) -> Result<Option<ArrayRef>> {
    let Some(name) = &properties.ordering_field else { return Ok(None) };
    let column = rows.column_by_name(name).ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, "the batch lacks the ordering column")
            .with_context("column", name)
    })?;
    if column.null_count() == 0 {
        return Ok(Some(column.clone()));
    }
    let deletes = deletes_column(rows)?;
    let is_delete =
        |row: usize| deletes.as_ref().is_some_and(|deletes| deletes.is_valid(row) && deletes.value(row));
    if let Some(row) = (0..column.len()).find(|row| column.is_null(*row) && !is_delete(*row)) {
        return Err(Error::new(ErrorKind::InvalidInput, "the ordering value is null")
            .with_context("column", name)
            .with_context("row", row));
    }
    Ok(Some(column.clone()))
}

fn deletes_column(rows: &RecordBatch) -> Result<Option<BooleanArray>> {
    let Some(column) = rows.column_by_name(schema::IS_DELETED_COLUMN) else { return Ok(None) };
    match column.as_boolean_opt() {
        Some(deletes) => Ok(Some(deletes.clone())),
        // Hudi would treat the column as data and delete nothing. A column with this name is certainly not
        // meant that way.
        None => Err(Error::new(ErrorKind::InvalidInput, "the column that marks deletes is not boolean")
            .with_context("column", schema::IS_DELETED_COLUMN)
            .with_context("type", column.data_type())),
    }
}

/// Adds the key of the row that an error names. If the row lacks an ordering value, adds a hint that it may
/// be meant as a delete.
fn with_key(error: Error, keys: &StringArray, ordering: Option<&str>) -> Error {
    let row = error.context("row").and_then(|row| row.parse::<usize>().ok());
    let Some(row) = row.filter(|row| *row < keys.len() && error.context("key").is_none()) else {
        return error;
    };
    let error = error.with_context("key", keys.value(row));
    match ordering {
        Some(_) => error.with_context("hint", "set the ordering value, or delete the key, which needs none"),
        None => error,
    }
}

/// Returns the winning row of each key, in the order in which the keys first appear.
fn winners(
    rows: &RecordBatch,
    fields: &[String],
    keys: &StringArray,
    ordering: Option<&ArrayRef>,
) -> Result<UInt32Array> {
    let texts = Texts::of(fields);
    let columns = if fields.len() > 1 { Some(Pair::of(rows, rows, fields)?) } else { None };
    let compare = ordering
        .map(|ordering| make_comparator(ordering, ordering, SortOptions::default()))
        .transpose()
        .map_err(|cause| {
            Error::new(ErrorKind::InvalidInput, "values of the ordering column have no order")
                .with_source(cause)
        })?;
    let mut slots: HashMap<&str, u32> = HashMap::with_capacity(keys.len());
    let mut winners: Vec<u32> = Vec::with_capacity(keys.len());
    for row in 0..keys.len() {
        let next = winners.len() as u32;
        let slot = *slots.entry(keys.value(row)).or_insert(next);
        if slot == next {
            winners.push(row as u32);
            continue;
        }
        let known = &mut winners[slot as usize];
        let other = *known as usize;
        if let Some(columns) = columns.as_ref().filter(|_| texts.is_ambiguous(keys.value(row))) {
            let named = |error: Error| error.with_context("row", row).with_context("other row", other);
            columns.check(keys.value(row), row, other).map_err(named)?;
        }
        let is_said = ordering.is_some_and(|values| values.is_valid(row) && values.is_valid(other));
        let order = match &compare {
            Some(compare) if is_said => compare(row, other),
            _ => Ordering::Equal,
        };
        if order.is_ge() {
            *known = row as u32;
        }
    }
    Ok(winners.into())
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;

    #[test]
    fn of_the_rows_of_a_key_the_highest_ordering_counts_and_of_equal_ones_the_last() {
        let keys = StringArray::from(vec!["a", "b", "a", "c", "b", "a"]);
        let ordering: ArrayRef = Arc::new(Int64Array::from(vec![5, 1, 7, 0, 1, 6]));
        let rows = RecordBatch::try_from_iter([("k", Arc::new(keys.clone()) as ArrayRef)]).unwrap();
        let winners = |ordering| winners(&rows, &["k".to_owned()], &keys, ordering).unwrap();
        assert_eq!(winners(Some(&ordering)).values(), &[2, 4, 3]);
        assert_eq!(winners(None).values(), &[5, 4, 3]);
        // A delete without an ordering value is newer than the rows before it, and older than the rows after
        // it.
        let ordering: ArrayRef =
            Arc::new(Int64Array::from(vec![Some(5), Some(1), None, Some(0), None, Some(6)]));
        assert_eq!(winners(Some(&ordering)).values(), &[5, 4, 3]);
    }
}
