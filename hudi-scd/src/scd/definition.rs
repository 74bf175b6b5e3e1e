//! [`Scd2`]: the columns of a history, and the meaning of its rows.

use std::{sync::Arc, time::Duration};

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::{
    Error, ErrorKind, Result,
    schema::{IS_DELETED_COLUMN, list_of, reconcile, stored},
};

/// The instants at which the state of a row was reported again.
pub(super) const SEEN_AGAIN: &str = "_scd_seen_again";
/// The instant of the change that set the untracked columns, if the row itself does not determine it.
pub(super) const UNTRACKED_AT: &str = "_scd_untracked_at";

/// The rules that turn changes of a key into rows of its history (SCD type 2).
///
/// ```
/// use hudi_scd::scd::Scd2;
///
/// let customers = Scd2::new(["customer_id"], "updated_at")
///     .track(["tier", "city"])
///     .with_delete_marker("is_gone")
///     .with_names("valid_from", "valid_to", "is_current");
/// ```
///
/// # Meaning of the rows
/// A row contains a state of a key and the half-open interval `valid_from <= t < valid_to` in which it was
/// valid. While the state is still valid, `valid_to` is null and `is_current` is true. The sequence column of
/// the changes becomes `valid_from`. It determines the type of both bounds (a timestamp, a date or an
/// integer).
/// - A change with different tracked columns opens a row and closes the previous one. A change that repeats
///   them opens no row.
/// - A late change splits the interval that it falls into.
/// - A delete closes the row. If the key returns later, there is a gap.
/// - Untracked columns are of type 1: all rows of a key have their newest values.
/// - Two changes of a key at the same instant have no order. A delete wins over a state. Otherwise the
///   greater values win, compared column by column, with null as the lowest value. The tracked and the
///   untracked columns are compared separately.
///
/// # Order and batches
/// The history depends only on the set of changes, not on the order in which they arrive or how they are
/// divided into batches. This requires more information than the intervals contain. Example: after A at 1 and
/// A at 5, a late B at 3 is valid until 5, although A did not change at 5. Therefore a row records, in the
/// column `_scd_seen_again`, when its state was reported again. A delete that closes nothing (because its key
/// is unknown or already deleted) is a row with an empty interval, `valid_from = valid_to`.
/// [`Scd2Table`](super::Scd2Table) stores such rows separately from the table, so that other engines see only
/// states. With untracked columns there is also `_scd_untracked_at`. It is null unless the newest state was
/// deleted at its own instant. [`Scd2::with_lateness`] limits what is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scd2 {
    keys: Vec<String>,
    sequence: String,
    tracked: Tracked,
    delete_marker: Option<String>,
    lateness: Option<Duration>,
    valid_from: String,
    valid_to: String,
    is_current: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Tracked {
    All,
    Only(Vec<String>),
    AllBut(Vec<String>),
}

impl Scd2 {
    /// Defines a history of the rows with the same `keys`, ordered by the column `sequence`. All other
    /// columns are tracked.
    pub fn new(keys: impl IntoIterator<Item = impl Into<String>>, sequence: impl Into<String>) -> Self {
        Self {
            keys: names(keys),
            sequence: sequence.into(),
            tracked: Tracked::All,
            delete_marker: None,
            lateness: None,
            valid_from: "valid_from".to_owned(),
            valid_to: "valid_to".to_owned(),
            is_current: "is_current".to_owned(),
        }
    }

    /// Tracks only these columns: only their changes open a row. The other columns are of type 1.
    #[must_use]
    pub fn track(mut self, columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.tracked = Tracked::Only(names(columns));
        self
    }

    /// Tracks all columns except these, which are of type 1.
    #[must_use]
    pub fn track_all_but(mut self, columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.tracked = Tracked::AllBut(names(columns));
        self
    }

    /// Sets the boolean column that marks deletes. Default: Hudi's `_hoodie_is_deleted`, if a batch has it.
    #[must_use]
    pub fn with_delete_marker(mut self, column: impl Into<String>) -> Self {
        self.delete_marker = Some(column.into());
        self
    }

    /// Promises that a change is at most `lateness` older than the newest change of its key, so that older
    /// repetitions of a state need not be recorded. A change that is older nevertheless is valid until the
    /// next recorded change.
    ///
    /// By default, every repetition is recorded. This is correct for any input, but the history grows if a
    /// source repeatedly reports unchanged rows, as full extracts do. With [`Duration::ZERO`], and if the
    /// changes of a key arrive in order, such reports change nothing. The sequence must be a timestamp or a
    /// date.
    #[must_use]
    pub fn with_lateness(mut self, lateness: Duration) -> Self {
        self.lateness = Some(lateness);
        self
    }

    /// Sets the names of the interval columns. Default: `valid_from`, `valid_to`, `is_current`.
    #[must_use]
    pub fn with_names(
        mut self,
        valid_from: impl Into<String>,
        valid_to: impl Into<String>,
        is_current: impl Into<String>,
    ) -> Self {
        self.valid_from = valid_from.into();
        self.valid_to = valid_to.into();
        self.is_current = is_current.into();
        self
    }

    /// Returns the columns that identify a key.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// Returns the column that orders the changes of a key.
    pub fn sequence(&self) -> &str {
        &self.sequence
    }

    /// Returns the column for the start of a row's validity, inclusive.
    pub fn valid_from(&self) -> &str {
        &self.valid_from
    }

    /// Returns the column for the end of a row's validity, exclusive.
    pub fn valid_to(&self) -> &str {
        &self.valid_to
    }

    /// Returns the column that is true while a row is valid.
    pub fn is_current(&self) -> &str {
        &self.is_current
    }

    /// Returns the column that marks a change as a delete.
    pub fn delete_marker(&self) -> &str {
        self.delete_marker.as_deref().unwrap_or(IS_DELETED_COLUMN)
    }

    pub(super) fn is_key(&self, column: &str) -> bool {
        self.keys.iter().any(|key| key == column)
    }

    pub(super) fn is_tracked(&self, column: &str) -> bool {
        match &self.tracked {
            Tracked::All => true,
            Tracked::Only(columns) => columns.iter().any(|tracked| tracked == column),
            Tracked::AllBut(columns) => columns.iter().all(|untracked| untracked != column),
        }
    }

    /// Returns `true` if there may be untracked columns, now or after an evolution of the schema.
    pub(super) fn has_untracked(&self) -> bool {
        self.tracked != Tracked::All
    }

    /// Returns `true` for the columns that the history adds to the data.
    pub(super) fn is_added(&self, column: &str) -> bool {
        [self.valid_from.as_str(), &self.valid_to, &self.is_current, SEEN_AGAIN, UNTRACKED_AT]
            .contains(&column)
    }

    /// Returns `true` for the columns that only [`Scd2::merge`] needs.
    pub fn is_hidden(column: &str) -> bool {
        [SEEN_AGAIN, UNTRACKED_AT].contains(&column)
    }

    /// Returns the time span before the newest change of a key in which repetitions are recorded, in the unit
    /// of the bounds.
    pub(super) fn lateness(&self, bound: &DataType) -> Result<Option<i64>> {
        let Some(lateness) = self.lateness else { return Ok(None) };
        let unit = match bound {
            DataType::Timestamp(TimeUnit::Millisecond, _) => Duration::from_millis(1),
            DataType::Timestamp(..) => Duration::from_micros(1),
            DataType::Date32 => Duration::from_secs(24 * 60 * 60),
            other => {
                return Err(invalid("lateness is a duration, but the sequence is not a time")
                    .with_context("column", &self.sequence)
                    .with_context("type", other));
            }
        };
        Ok(Some(i64::try_from(lateness.as_nanos().div_ceil(unit.as_nanos())).unwrap_or(i64::MAX)))
    }

    /// Returns the schema of the history for changes with the schema `changes`: their columns without the
    /// sequence and the delete marker, then `valid_from`, `valid_to`, `is_current` and the columns that
    /// [`Scd2::merge`] needs.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidDefinition`] if columns of the definition are missing or have an unsuitable type,
    /// or if a column has the name of an added column; [`ErrorKind::InvalidInput`] for types that a table
    /// cannot store.
    pub fn history_schema(&self, changes: &Schema) -> Result<SchemaRef> {
        let changes = stored(changes)?;
        let named = match &self.tracked {
            Tracked::All => [].as_slice(),
            Tracked::Only(columns) | Tracked::AllBut(columns) => columns,
        };
        if self.keys.is_empty() {
            return Err(invalid("a history needs at least one key column"));
        }
        for column in self.keys.iter().chain(named) {
            if changes.column_with_name(column).is_none() {
                return Err(invalid("changes lack a column of the history").with_context("column", column));
            }
            if *column == self.sequence || column == self.delete_marker() {
                return Err(invalid("column cannot be both data and the sequence or delete marker")
                    .with_context("column", column));
            }
        }
        let bound = self.bound_type(&changes)?;
        self.lateness(&bound)?;
        if let Some((_, marker)) = changes.column_with_name(self.delete_marker()) {
            if *marker.data_type() != DataType::Boolean {
                return Err(invalid("delete marker is not boolean")
                    .with_context("column", self.delete_marker())
                    .with_context("type", marker.data_type()));
            }
        } else if self.delete_marker.is_some() {
            return Err(
                invalid("changes lack the delete marker").with_context("column", self.delete_marker())
            );
        }
        let mut fields: Vec<FieldRef> = Vec::with_capacity(changes.fields().len() + 4);
        for field in changes.fields() {
            if *field.name() == self.sequence || field.name() == self.delete_marker() {
                continue;
            }
            if self.is_added(field.name()) {
                return Err(invalid(
                    "changes have a column with the name of an added column; choose other names",
                )
                .with_context("column", field.name()));
            }
            fields.push(field.clone());
        }
        let mut add =
            |name: &str, data_type: DataType| fields.push(Arc::new(Field::new(name, data_type, true)));
        add(&self.valid_from, bound.clone());
        add(&self.valid_to, bound.clone());
        add(&self.is_current, DataType::Boolean);
        add(SEEN_AGAIN, list_of(bound.clone()));
        if self.has_untracked() {
            add(UNTRACKED_AT, bound);
        }
        Ok(Arc::new(Schema::new(fields)))
    }

    /// Returns the schema of the changes for a history with the schema `history`: the data, the sequence with
    /// the type of the bounds, and the delete marker. This is the inverse of [`Scd2::history_schema`].
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if the schema is not that of a history with this definition.
    pub fn changes_schema(&self, history: &Schema) -> Result<SchemaRef> {
        let bound = history.field_with_name(&self.valid_from).map_err(|cause| {
            Error::new(ErrorKind::Corrupt, "stored rows are not a history of this definition")
                .with_context("column", &self.valid_from)
                .with_source(cause)
        })?;
        let is_data =
            |field: &&FieldRef| !self.is_added(field.name()) && field.name() != self.delete_marker();
        let mut fields: Vec<FieldRef> = history.fields().iter().filter(is_data).cloned().collect();
        fields.push(Arc::new(Field::new(&self.sequence, bound.data_type().clone(), true)));
        fields.push(Arc::new(Field::new(self.delete_marker(), DataType::Boolean, true)));
        Ok(Arc::new(Schema::new(fields)))
    }

    fn bound_type(&self, changes: &Schema) -> Result<DataType> {
        let Some((_, field)) = changes.column_with_name(&self.sequence) else {
            return Err(invalid("changes lack the sequence").with_context("column", &self.sequence));
        };
        match field.data_type() {
            DataType::Int32 | DataType::Int64 | DataType::Date32 | DataType::Timestamp(..) => {
                Ok(field.data_type().clone())
            }
            other => Err(invalid("sequence is neither timestamp nor date nor integer")
                .with_context("column", &self.sequence)
                .with_context("type", other)),
        }
    }

    /// Returns the schema of a stored history after a merge of changes with the schema `changes` (see
    /// [`reconcile`](crate::schema::reconcile)).
    pub fn evolve(&self, history: &Schema, changes: &Schema) -> Result<SchemaRef> {
        reconcile(history, &*self.history_schema(changes)?)
    }
}

fn names(columns: impl IntoIterator<Item = impl Into<String>>) -> Vec<String> {
    columns.into_iter().map(Into::into).collect()
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidDefinition, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes() -> Schema {
        Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("updated_at", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
            Field::new("tier", DataType::LargeUtf8, true),
            Field::new("_hoodie_is_deleted", DataType::Boolean, true),
        ])
    }

    #[test]
    fn the_sequence_becomes_the_bounds() {
        let schema = Scd2::new(["id"], "updated_at").track(["tier"]).history_schema(&changes()).unwrap();
        let back = Scd2::new(["id"], "updated_at").track(["tier"]).changes_schema(&schema).unwrap();
        let names: Vec<_> = back.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["id", "tier", "updated_at", "_hoodie_is_deleted"]);
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let expected =
            ["id", "tier", "valid_from", "valid_to", "is_current", "_scd_seen_again", "_scd_untracked_at"];
        assert_eq!(names, expected);
        let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        assert_eq!(*schema.field(3).data_type(), micros, "like every timestamp of a table");
    }

    #[rstest::rstest]
    #[case(Scd2::new(["nr"], "updated_at"), "nr")]
    #[case(Scd2::new(["id"], "when"), "when")]
    #[case(Scd2::new(["id"], "tier"), "tier")]
    #[case(Scd2::new(["id"], "updated_at").track(["town"]), "town")]
    #[case(Scd2::new(["id"], "updated_at").track(["updated_at"]), "updated_at")]
    #[case(Scd2::new(["id"], "updated_at").with_delete_marker("tier"), "tier")]
    #[case(Scd2::new(["id"], "updated_at").with_names("tier", "to", "cur"), "tier")]
    #[case(Scd2::new(["tier"], "id").with_lateness(Duration::ZERO), "id")]
    fn a_definition_that_does_not_fit_names_the_column(#[case] scd: Scd2, #[case] column: &str) {
        let error = scd.history_schema(&changes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidDefinition);
        assert_eq!(error.context("column"), Some(column));
    }
}
