//! [`Dimension`]: finds the dimension row for each fact, the latest one or the one valid at the fact's time.

use std::{fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt32Array},
    compute::{CastOptions, cast_with_options, take},
    datatypes::{DataType, FieldRef, Int64Type, Schema, TimeUnit},
};

use super::keys::{KeyIndex, KeyValues, numbers};
use crate::{Error, ErrorKind, Result};

/// Which dimension row a lookup selects for a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At<'a> {
    /// The current row. In a history, this is the row without an end. In other dimensions, it is the only row
    /// of the key.
    Latest,
    /// The row that was valid at the time in this column of the facts.
    Column(&'a str),
}

/// Facts joined with the columns of their dimension.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// All facts in their order, followed by the columns of the dimension except its keys. These are null for
    /// facts without a matching row.
    pub rows: RecordBatch,
    /// `true` for each fact with a matching row.
    pub matched: BooleanArray,
}

impl Lookup {
    /// Returns the number of facts without a matching row.
    pub fn unmatched(&self) -> usize {
        self.matched.false_count()
    }
}

/// An indexed snapshot of a dimension. It is built once, for any number of lookups from any number of
/// threads.
///
/// ```
/// use std::sync::Arc;
/// use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
/// use hudi_scd::scd::{At, Dimension};
///
/// let customers = RecordBatch::try_from_iter([
///     ("id", Arc::new(Int64Array::from(vec![1, 1, 2])) as ArrayRef),
///     ("tier", Arc::new(StringArray::from(vec!["basic", "gold", "basic"])) as ArrayRef),
///     ("valid_from", Arc::new(Int64Array::from(vec![10, 20, 10])) as ArrayRef),
///     ("valid_to", Arc::new(Int64Array::from(vec![Some(20), None, None])) as ArrayRef),
/// ])?;
/// let sales = RecordBatch::try_from_iter([
///     ("customer", Arc::new(Int64Array::from(vec![1, 1, 3])) as ArrayRef),
///     ("sold_at", Arc::new(Int64Array::from(vec![19, 20, 20])) as ArrayRef),
/// ])?;
/// let customers = Dimension::history(&customers, &["id"], "valid_from", "valid_to")?;
/// let found = customers.lookup(&sales, &["customer"], At::Column("sold_at"))?;
/// let tiers = found.rows.column_by_name("tier").expect("a column of the dimension");
/// assert_eq!(tiers.as_ref(), &StringArray::from(vec![Some("basic"), Some("gold"), None]));
/// assert_eq!(found.unmatched(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Dimension {
    rows: RecordBatch,
    /// The columns that a lookup adds to the facts.
    attributes: Vec<usize>,
    prefix: String,
    key_names: Vec<String>,
    key_types: Vec<DataType>,
    /// Entries by key: `groups[id]..groups[id + 1]`, in ascending order of `from`.
    ids: KeyIndex,
    groups: Vec<u32>,
    entries: Vec<Entry>,
    /// The type of the interval bounds. `None` for a dimension without history.
    bound: Option<DataType>,
}

/// A row and its interval, in microseconds if the bounds are timestamps.
#[derive(Clone, Copy, Debug)]
struct Entry {
    from: i64,
    to: i64,
    row: u32,
}

const FOREVER: i64 = i64::MAX;

impl Dimension {
    /// Creates a dimension with one row per key (type 1), such as the snapshot of a table. Rows whose key
    /// contains a null are dropped, because no fact matches them.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if a key column is missing, or if a key occurs twice.
    pub fn latest(rows: &RecordBatch, keys: &[&str]) -> Result<Self> {
        let entry = |row| Entry { from: i64::MIN, to: FOREVER, row };
        let entries = (0..rows.num_rows() as u32).map(entry).collect();
        Self::build(rows, keys, entries, None)
    }

    /// Creates a dimension with history (type 2). Each row is valid from `valid_from`, inclusive, to
    /// `valid_to`, exclusive. A null in `valid_to` means that the row is still valid. Rows with an empty
    /// interval are dropped.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if a column is missing, if the bounds are not both timestamps, dates or
    /// integers, or if two rows of a key begin at the same time.
    pub fn history(rows: &RecordBatch, keys: &[&str], valid_from: &str, valid_to: &str) -> Result<Self> {
        let (from_column, to_column) = (column(rows, valid_from)?, column(rows, valid_to)?);
        let bound = from_column.data_type().clone();
        let (from, to) = (instants(from_column, valid_from)?, instants(to_column, valid_to)?);
        comparable(&bound, to_column.data_type(), valid_to)?;
        let entries = (0..rows.num_rows())
            .filter(|row| from.is_valid(*row))
            .map(|row| Entry {
                from: from.value(row),
                to: if to.is_valid(row) { to.value(row) } else { FOREVER },
                row: row as u32,
            })
            .filter(|entry| entry.from < entry.to)
            .collect();
        Self::build(rows, keys, entries, Some(bound))
    }

    /// Prefixes the names of the dimension's columns in the result of a lookup.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Returns the number of rows that can be found.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns `true` if no row can be found.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn build(
        rows: &RecordBatch,
        keys: &[&str],
        entries: Vec<Entry>,
        bound: Option<DataType>,
    ) -> Result<Self> {
        if keys.is_empty() {
            return Err(invalid("a dimension needs at least one key column"));
        }
        let key_columns: Vec<ArrayRef> =
            keys.iter().map(|key| column(rows, key).cloned()).collect::<Result<_>>()?;
        let attributes = (0..rows.num_columns())
            .filter(|index| !keys.contains(&rows.schema_ref().field(*index).name().as_str()))
            .collect();
        let key_values = KeyValues::new(&key_columns).map_err(impossible)?;
        let mut ids = KeyIndex::for_keys(&key_values);
        let mut id_of = Vec::with_capacity(entries.len());
        for entry in &entries {
            id_of.push(ids.insert(&key_values, entry.row as usize));
        }
        let mut sorted: Vec<(u32, Entry)> =
            id_of.into_iter().zip(entries).filter_map(|(id, e)| Some((id?, e))).collect();
        sorted.sort_unstable_by_key(|(id, entry)| (*id, entry.from));
        for pair in sorted.windows(2) {
            if pair[0].0 == pair[1].0 && pair[0].1.from == pair[1].1.from {
                let message = match bound {
                    Some(_) => "two rows of a key begin at the same time",
                    None => "a key occurs twice in the dimension, is it a history?",
                };
                return Err(invalid(message)
                    .with_context("row", pair[0].1.row)
                    .with_context("row", pair[1].1.row));
            }
        }
        let mut groups = Vec::with_capacity(ids.len() + 1);
        for (place, (id, _)) in sorted.iter().enumerate() {
            if *id as usize == groups.len() {
                groups.push(place as u32);
            }
        }
        groups.push(sorted.len() as u32);
        Ok(Self {
            attributes,
            prefix: String::new(),
            key_names: keys.iter().map(|key| (*key).to_owned()).collect(),
            key_types: key_columns.iter().map(|column| column.data_type().clone()).collect(),
            ids,
            groups,
            entries: sorted.into_iter().map(|(_, entry)| entry).collect(),
            bound,
            rows: rows.clone(),
        })
    }

    /// Finds a row for each fact. `on` names the columns of the facts that match the dimension's keys, in the
    /// order of the keys.
    ///
    /// A fact with a null in its key or its time matches no row. If the time of a fact is the end of a row,
    /// the next row matches.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if a column is missing, if types cannot be compared (a date is not an
    /// instant and needs a cast; a timestamp without a zone is in UTC), if the dimension has no history, or
    /// if facts and dimension share a column name (use [`Dimension::with_prefix`]).
    pub fn lookup(&self, facts: &RecordBatch, on: &[&str], at: At<'_>) -> Result<Lookup> {
        let rows = match at {
            At::Latest => self.find(facts, on, |_, group| {
                let last = group.last()?;
                (last.to == FOREVER).then_some(last.row)
            })?,
            At::Column(name) => {
                let Some(bound) = &self.bound else {
                    return Err(invalid("dimension has no history; only its latest rows can be looked up"));
                };
                let times = column(facts, name)?;
                comparable(bound, times.data_type(), name)?;
                let times = instants(times, name)?;
                self.find(facts, on, |fact, group| {
                    if times.is_null(fact) {
                        return None;
                    }
                    let time = times.value(fact);
                    let begun = group.partition_point(|entry| entry.from <= time);
                    let entry = group.get(begun.checked_sub(1)?)?;
                    (time < entry.to).then_some(entry.row)
                })?
            }
        };
        self.join(facts, &rows)
    }

    fn find(
        &self,
        facts: &RecordBatch,
        on: &[&str],
        choose: impl Fn(usize, &[Entry]) -> Option<u32>,
    ) -> Result<UInt32Array> {
        if on.len() != self.key_types.len() {
            return Err(invalid("the number of key columns differs between facts and dimension")
                .with_context("facts", on.join(", "))
                .with_context("dimension", self.key_names.join(", ")));
        }
        let columns =
            on.iter().zip(&self.key_types).map(|(name, wanted)| as_key(column(facts, name)?, wanted, name));
        let keys = KeyValues::new(&columns.collect::<Result<Vec<_>>>()?).map_err(impossible)?;
        let group = |id: u32| {
            let (from, to) = (self.groups[id as usize], self.groups[id as usize + 1]);
            &self.entries[from as usize..to as usize]
        };
        let found = |fact| self.ids.get(&keys, fact).and_then(|id| choose(fact, group(id)));
        Ok((0..facts.num_rows()).map(found).collect())
    }

    fn join(&self, facts: &RecordBatch, rows: &UInt32Array) -> Result<Lookup> {
        let mut fields: Vec<FieldRef> = facts.schema_ref().fields().iter().cloned().collect();
        let mut columns = facts.columns().to_vec();
        for index in &self.attributes {
            let field = self.rows.schema_ref().field(*index);
            let name = format!("{}{}", self.prefix, field.name());
            if fields.iter().any(|known| *known.name() == name) {
                return Err(invalid("facts and dimension share a column name; give the dimension a prefix")
                    .with_context("column", name));
            }
            fields.push(Arc::new(field.clone().with_name(name).with_nullable(true)));
            columns.push(take(self.rows.column(*index), rows, None).map_err(impossible)?);
        }
        let matched = rows.nulls().map_or_else(
            || BooleanArray::from(vec![true; rows.len()]),
            |nulls| BooleanArray::new(nulls.inner().clone(), None),
        );
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(impossible)?;
        Ok(Lookup { rows, matched })
    }
}

impl fmt::Debug for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dimension")
            .field("keys", &self.key_names)
            .field("rows", &self.entries.len())
            .field("is_history", &self.bound.is_some())
            .finish_non_exhaustive()
    }
}

/// Converts a key column of the facts to the dimension's type. A number outside of its range becomes null,
/// because it equals no key.
fn as_key(array: &ArrayRef, wanted: &DataType, name: &str) -> Result<ArrayRef> {
    use DataType as T;
    let have = array.data_type();
    if have == wanted {
        return Ok(array.clone());
    }
    let text = |t: &T| matches!(t, T::Utf8 | T::LargeUtf8 | T::Utf8View);
    let plain = |t: &T| match t {
        T::Dictionary(_, value) => value.as_ref().clone(),
        other => other.clone(),
    };
    let (from, to) = (plain(have), plain(wanted));
    let castable = (from.is_integer() && to.is_integer()) || (text(&from) && text(&to)) || from == to;
    if !castable {
        return Err(invalid("key of the facts has a different type from that of the dimension")
            .with_context("column", name)
            .with_context("facts", have)
            .with_context("dimension", wanted));
    }
    cast_with_options(array, wanted, &CastOptions::default()).map_err(impossible)
}

/// Converts times to comparable numbers: microseconds for timestamps, rounded down.
fn instants(array: &ArrayRef, name: &str) -> Result<Int64Array> {
    let plain = numbers(array).ok_or_else(|| {
        invalid("time is neither timestamp nor date nor integer")
            .with_context("column", name)
            .with_context("type", array.data_type())
    })?;
    Ok(match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            plain.unary::<_, Int64Type>(|t| t.saturating_mul(1_000_000))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            plain.unary::<_, Int64Type>(|t| t.saturating_mul(1000))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => plain.unary::<_, Int64Type>(|t| t.div_euclid(1000)),
        _ => plain,
    })
}

fn comparable(bound: &DataType, time: &DataType, name: &str) -> Result<()> {
    let same = match (bound, time) {
        // A timestamp without a zone is in UTC, as in a table.
        (DataType::Timestamp(..), DataType::Timestamp(..)) => true,
        (a, b) => a == b || (a.is_integer() && b.is_integer()),
    };
    if same {
        return Ok(());
    }
    Err(invalid("time cannot be compared with the dimension's; cast it")
        .with_context("column", name)
        .with_context("type", time)
        .with_context("dimension", bound))
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| invalid("a column is missing").with_context("column", name))
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

fn impossible(e: arrow::error::ArrowError) -> Error {
    invalid("facts and dimension have conflicting columns").with_source(e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        AsArray, Date32Array, Int32Array, StringArray, TimestampMicrosecondArray, TimestampNanosecondArray,
    };
    use proptest::prelude::*;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
            .unwrap()
    }

    fn ints(values: impl IntoIterator<Item = impl Into<Option<i64>>>) -> ArrayRef {
        Arc::new(values.into_iter().map(Into::into).collect::<Int64Array>())
    }

    fn found(lookup: &Lookup, name: &str) -> Vec<Option<i64>> {
        lookup.rows.column_by_name(name).unwrap().as_primitive::<Int64Type>().iter().collect()
    }

    #[test]
    fn latest_finds_the_open_row_of_a_history_and_none_of_a_deleted_key() {
        let rows = batch(vec![
            ("id", ints([1, 1, 2])),
            ("v", ints([10, 11, 20])),
            ("from", ints([0, 5, 0])),
            ("to", ints([Some(5), None, Some(3)])),
        ]);
        let dimension = Dimension::history(&rows, &["id"], "from", "to").unwrap();
        let facts = batch(vec![("id", Arc::new(Int32Array::from(vec![Some(2), Some(1), None])) as ArrayRef)]);
        let lookup = dimension.lookup(&facts, &["id"], At::Latest).unwrap();
        assert_eq!(found(&lookup, "v"), [None, Some(11), None]);
        assert_eq!(lookup.matched, BooleanArray::from(vec![false, true, false]));
        assert_eq!(lookup.unmatched(), 2);
    }

    #[test]
    fn several_keys_of_text_and_a_number_that_fits_no_key() {
        let rows = batch(vec![
            ("tenant", Arc::new(StringArray::from(vec!["a", "b", "b"])) as ArrayRef),
            ("nr", Arc::new(Int32Array::from(vec![Some(1), Some(1), None]))),
            ("v", ints([1, 2, 3])),
        ]);
        let dimension = Dimension::latest(&rows, &["tenant", "nr"]).unwrap().with_prefix("dim_");
        let facts = batch(vec![
            ("t", Arc::new(arrow::array::LargeStringArray::from(vec!["b", "a", "b", "b"])) as ArrayRef),
            ("v", ints([Some(1), Some(1), None, Some(1 << 40)])),
        ]);
        let lookup = dimension.lookup(&facts, &["t", "v"], At::Latest).unwrap();
        assert_eq!(found(&lookup, "dim_v"), [Some(2), Some(1), None, None]);
    }

    #[test]
    fn times_of_another_unit_compare_as_instants() {
        let micros = |values: Vec<Option<i64>>| {
            Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC")) as ArrayRef
        };
        let rows = batch(vec![
            ("id", ints([1, 1])),
            ("v", ints([1, 2])),
            ("from", micros(vec![Some(10), Some(20)])),
            ("to", micros(vec![Some(20), None])),
        ]);
        let dimension = Dimension::history(&rows, &["id"], "from", "to").unwrap();
        let nanos =
            TimestampNanosecondArray::from(vec![9_999, 10_000, 19_999, 20_000]).with_timezone("+05:00");
        let facts = batch(vec![("id", ints([1, 1, 1, 1])), ("t", Arc::new(nanos))]);
        let lookup = dimension.lookup(&facts, &["id"], At::Column("t")).unwrap();
        assert_eq!(found(&lookup, "v"), [None, Some(1), Some(1), Some(2)]);
    }

    #[test]
    fn what_cannot_be_compared_is_named() {
        let rows = batch(vec![("id", ints([1])), ("from", ints([1])), ("to", ints([None]))]);
        let history = Dimension::history(&rows, &["id"], "from", "to").unwrap();
        let latest = Dimension::latest(&rows, &["id"]).unwrap();
        let text = Arc::new(StringArray::from(vec!["1"])) as ArrayRef;
        let day = Arc::new(Date32Array::from(vec![1])) as ArrayRef;
        let facts = batch(vec![("id", ints([1])), ("text", text), ("day", day), ("from", ints([1]))]);
        let name = |result: Result<Lookup>| result.unwrap_err().context("column").map(str::to_owned);
        assert_eq!(name(history.lookup(&facts, &["text"], At::Latest)).as_deref(), Some("text"));
        assert_eq!(name(history.lookup(&facts, &["id"], At::Column("day"))).as_deref(), Some("day"));
        assert_eq!(name(history.lookup(&facts, &["id"], At::Latest)).as_deref(), Some("from"));
        assert!(latest.lookup(&facts, &["id"], At::Column("from")).is_err());
        assert!(history.lookup(&facts, &["id", "day"], At::Latest).is_err());
        let twice = batch(vec![("id", ints([1, 1])), ("from", ints([1, 1])), ("to", ints([None, Some(3)]))]);
        assert!(Dimension::latest(&twice, &["id"]).is_err());
        assert!(Dimension::history(&twice, &["id"], "from", "to").is_err());
    }

    proptest! {
        #[test]
        fn finds_the_row_whose_interval_holds_the_time(
            bounds in prop::collection::vec((0_i64..4, prop::collection::btree_set(0_i64..30, 1..8), any::<bool>()), 1..5),
            facts in prop::collection::vec((0_i64..6, -2_i64..33), 0..60),
        ) {
            let mut rows: Vec<(i64, i64, i64, Option<i64>)> = Vec::new();
            for (key, (_, starts, is_open)) in bounds.iter().enumerate() {
                let starts: Vec<i64> = starts.iter().copied().collect();
                for (index, from) in starts.iter().enumerate() {
                    let to = starts.get(index + 1).copied().or((!is_open).then_some(40));
                    // Some intervals end early, which leaves gaps.
                    let to = to.map(|to| if index % 3 == 2 { (to + from) / 2 } else { to });
                    rows.push((key as i64, rows.len() as i64, *from, to));
                }
            }
            let dimension = batch(vec![
                ("id", ints(rows.iter().map(|row| row.0))),
                ("v", ints(rows.iter().map(|row| row.1))),
                ("from", ints(rows.iter().map(|row| row.2))),
                ("to", ints(rows.iter().map(|row| row.3))),
            ]);
            let dimension = Dimension::history(&dimension, &["id"], "from", "to").unwrap();
            let batch = batch(vec![("k", ints(facts.iter().map(|f| f.0))), ("t", ints(facts.iter().map(|f| f.1)))]);
            let as_of = dimension.lookup(&batch, &["k"], At::Column("t")).unwrap();
            let latest = dimension.lookup(&batch, &["k"], At::Latest).unwrap();
            for (index, (key, time)) in facts.iter().enumerate() {
                let of_key = || rows.iter().filter(|row| row.0 == *key);
                let expected = of_key().find(|row| row.2 <= *time && row.3.is_none_or(|to| *time < to)).map(|row| row.1);
                prop_assert_eq!(found(&as_of, "v")[index], expected);
                prop_assert_eq!(found(&latest, "v")[index], of_key().find(|row| row.3.is_none()).map(|row| row.1));
            }
            prop_assert_eq!(as_of.rows.num_rows(), facts.len());
        }
    }
}
