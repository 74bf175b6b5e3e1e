use std::collections::{BTreeMap, BTreeSet};

use arrow::{
    array::{Date32Array, Int32Array, StringArray, TimestampMicrosecondArray, TimestampMillisecondArray},
    datatypes::TimeUnit,
};
use proptest::prelude::*;

use super::*;

/// A change: key, instant, and, unless it is a delete, a tracked and an untracked value.
type Reported = (i64, i64, Option<(u8, u8)>);

fn scd() -> Scd2 {
    Scd2::new(["id"], "at").track(["state"]).with_delete_marker("gone")
}

fn text(value: u8) -> Option<String> {
    // Null is also a state.
    (value > 0).then(|| format!("v{value}"))
}

fn batch(changes: &[Reported]) -> RecordBatch {
    let strings = |of: fn((u8, u8)) -> u8| -> ArrayRef {
        Arc::new(
            changes
                .iter()
                .map(|(_, _, state)| state.and_then(|state| text(of(state))))
                .collect::<StringArray>(),
        )
    };
    let at: TimestampMicrosecondArray = changes.iter().map(|(_, at, _)| Some(*at)).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("at", Arc::new(at.with_timezone("UTC")) as ArrayRef, true),
        ("id", Arc::new(changes.iter().map(|(id, _, _)| Some(*id)).collect::<Int64Array>()), true),
        ("state", strings(|(state, _)| state), true),
        ("note", strings(|(_, note)| note), true),
        (
            "gone",
            Arc::new(changes.iter().map(|(_, _, state)| Some(state.is_none())).collect::<BooleanArray>()),
            true,
        ),
    ])
    .unwrap()
}

/// A stored history. Rows are identified by keys and `valid_from`, and are written and deleted one merge at a
/// time.
struct Table {
    scd: Scd2,
    rows: RecordBatch,
}

impl Table {
    fn new(scd: Scd2) -> Self {
        Self { scd, rows: RecordBatch::new_empty(Arc::new(Schema::empty())) }
    }

    fn apply(&mut self, changes: &[RecordBatch]) -> Merged {
        let merged = self.scd.merge(&self.rows, changes).unwrap();
        let schema = merged.upserts.schema();
        let gone: BTreeSet<(i64, i64)> =
            ids(&self.scd, &merged.upserts).into_iter().chain(ids(&self.scd, &merged.deletes)).collect();
        let stored = if self.rows.num_columns() == 0 {
            RecordBatch::new_empty(schema.clone())
        } else {
            self.rows.clone()
        };
        let kept: BooleanArray = ids(&self.scd, &stored).iter().map(|id| Some(!gone.contains(id))).collect();
        let stored = conform(&filter_record_batch(&stored, &kept).unwrap(), &schema).unwrap();
        self.rows = concat_batches(&schema, [&stored, &merged.upserts]).unwrap();
        merged
    }

    fn visible(&self) -> BTreeMap<i64, Vec<Shown>> {
        shown(&self.scd.visible(&self.rows).unwrap())
    }
}

fn ids(scd: &Scd2, rows: &RecordBatch) -> Vec<(i64, i64)> {
    if rows.num_rows() == 0 {
        return Vec::new();
    }
    let keys = numbers(column(rows, "id").unwrap()).unwrap();
    keys.values()
        .iter()
        .copied()
        .zip(bound(rows, scd.valid_from()).unwrap().values().iter().copied())
        .collect()
}

/// From, to, is current, tracked, untracked.
type Shown = (i64, Option<i64>, bool, Option<String>, Option<String>);

fn shown(rows: &RecordBatch) -> BTreeMap<i64, Vec<Shown>> {
    let from = bound(rows, "valid_from").unwrap();
    let to = bound(rows, "valid_to").unwrap();
    let current = column(rows, "is_current").unwrap().as_boolean().clone();
    let keys = numbers(column(rows, "id").unwrap()).unwrap();
    let text = |name: &str, row: usize| {
        let values = column(rows, name).unwrap().as_string::<i32>();
        values.is_valid(row).then(|| values.value(row).to_owned())
    };
    let mut out: BTreeMap<i64, Vec<Shown>> = BTreeMap::new();
    for row in 0..rows.num_rows() {
        let end = to.is_valid(row).then(|| to.value(row));
        let shown = (from.value(row), end, current.value(row), text("state", row), text("note", row));
        out.entry(keys.value(row)).or_default().push(shown);
    }
    out.values_mut().for_each(|rows| rows.sort());
    out
}

/// The expected history, computed from the whole set of changes, instant by instant.
fn model(changes: &[Reported]) -> BTreeMap<i64, Vec<Shown>> {
    let mut out = BTreeMap::new();
    for key in changes.iter().map(|(key, _, _)| *key).collect::<BTreeSet<_>>() {
        let of_key: Vec<_> = changes.iter().filter(|(id, _, _)| *id == key).collect();
        let note = of_key
            .iter()
            .filter_map(|(_, at, state)| state.map(|(_, note)| (*at, text(note))))
            .max()
            .and_then(|(_, note)| note);
        let instants: BTreeSet<i64> = of_key.iter().map(|(_, at, _)| *at).collect();
        let state_at = |instant: i64| {
            let here = of_key.iter().filter(|(_, at, _)| *at == instant);
            let states: Option<Vec<_>> =
                here.map(|(_, _, state)| state.map(|(state, _)| text(state))).collect();
            states.and_then(|states| states.into_iter().max())
        };
        let mut rows: Vec<Shown> = Vec::new();
        let mut open: Option<(i64, Option<String>)> = None;
        for instant in instants {
            let state = state_at(instant);
            if open.as_ref().map(|(_, state)| state) == state.as_ref() {
                continue;
            }
            if let Some((from, state)) = open.take() {
                rows.push((from, Some(instant), false, state, note.clone()));
            }
            open = state.map(|state| (instant, state));
        }
        if let Some((from, state)) = open {
            rows.push((from, None, true, state, note.clone()));
        }
        if !rows.is_empty() {
            out.insert(key, rows);
        }
    }
    out
}

fn changes() -> impl Strategy<Value = Vec<Reported>> {
    let state = prop::option::weighted(0.7, (0_u8..3, 0_u8..4));
    prop::collection::vec((0_i64..3, 0_i64..8, state), 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_order_and_any_batching_give_the_same_history(
        (changes, shuffled) in changes().prop_flat_map(|changes| (Just(changes.clone()), Just(changes).prop_shuffle())),
        cuts in prop::collection::vec(1_usize..6, 24),
    ) {
        let expected = model(&changes);
        let mut table = Table::new(scd());
        let mut rest = shuffled.as_slice();
        for cut in cuts {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            rest = later;
            // Some runs pass the changes as two batches of one merge.
            let (a, b) = now.split_at(now.len() / 2);
            table.apply(&[batch(a), batch(b)]);
        }
        table.apply(&[batch(rest)]);
        prop_assert_eq!(table.visible(), expected);

        let mut at_once = Table::new(scd());
        at_once.apply(&[batch(&changes)]);
        // The recorded instants must be equal too, not only the visible rows.
        let sorted = |rows: &RecordBatch| {
            let by_id: BTreeMap<_, _> = ids(&scd(), rows).into_iter().enumerate().map(|(row, id)| (id, rows.slice(row, 1))).collect();
            by_id.into_values().collect::<Vec<_>>()
        };
        prop_assert_eq!(sorted(&table.rows), sorted(&at_once.rows));
    }

    #[test]
    fn changes_that_are_known_change_nothing(changes in changes()) {
        let mut table = Table::new(scd());
        table.apply(&[batch(&changes)]);
        let again = table.apply(&[batch(&changes)]);
        prop_assert!(again.is_empty());
        prop_assert_eq!(again.counts.changes, changes.len());
    }

    #[test]
    fn intervals_do_not_overlap_and_at_most_the_last_one_is_current(changes in changes()) {
        let mut table = Table::new(scd());
        table.apply(&[batch(&changes)]);
        for rows in table.visible().values() {
            for pair in rows.windows(2) {
                prop_assert!(pair[0].1.is_some_and(|end| end <= pair[1].0));
            }
            prop_assert!(rows.iter().all(|(from, to, current, _, _)| *current == to.is_none() && to.is_none_or(|to| to > *from)));
        }
    }
}

#[test]
fn counts_what_happened() {
    let mut table = Table::new(scd());
    let first = table.apply(&[batch(&[(1, 10, Some((1, 1))), (2, 10, Some((1, 1))), (1, 20, Some((2, 1)))])]);
    assert_eq!(first.counts, Scd2Counts { changes: 3, keys: 2, opened: 3, ..Default::default() });

    let late = table.apply(&[batch(&[(1, 15, Some((3, 1))), (2, 30, None)])]);
    let expected =
        Scd2Counts { changes: 2, keys: 2, late: 1, opened: 1, closed: 1, split: 1, ..Default::default() };
    assert_eq!(late.counts, expected);

    let earlier = table.apply(&[batch(&[(1, 14, Some((3, 1)))])]);
    let expected =
        Scd2Counts { changes: 1, keys: 1, late: 1, opened: 1, split: 1, removed: 1, ..Default::default() };
    assert_eq!(earlier.counts, expected);

    let note = table.apply(&[batch(&[(1, 30, Some((2, 9)))])]);
    assert_eq!(note.counts.overwritten, 3);
    assert!(table.visible()[&1].iter().all(|(_, _, _, _, note)| note.as_deref() == Some("v9")));
}

#[test]
fn deletes_need_only_key_sequence_and_marker() {
    let mut table = Table::new(scd());
    table.apply(&[batch(&[(1, 10, Some((1, 1)))])]);
    let delete = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
        ("at", Arc::new(TimestampMillisecondArray::from(vec![20]).with_timezone("UTC"))),
        ("gone", Arc::new(BooleanArray::from(vec![true]))),
    ])
    .unwrap();
    table.apply(&[delete]);
    // Milliseconds are converted correctly.
    assert_eq!(table.visible()[&1], [(10, Some(20_000), false, text(1), text(1))]);
}

#[test]
fn new_columns_make_a_new_state_and_old_rows_have_null_there() {
    let scd = Scd2::new(["id"], "day");
    let day = |day: i32| Arc::new(Date32Array::from(vec![day])) as ArrayRef;
    let id = Arc::new(Int32Array::from(vec![7])) as ArrayRef;
    let old =
        RecordBatch::try_from_iter_with_nullable([("id", id.clone(), false), ("day", day(1), true)]).unwrap();
    let new = RecordBatch::try_from_iter_with_nullable([
        ("id", id, false),
        ("day", day(2), true),
        ("tier", Arc::new(StringArray::from(vec!["gold"])) as ArrayRef, true),
    ])
    .unwrap();
    let mut table = Table::new(scd.clone());
    table.apply(&[old]);
    table.apply(&[new]);
    let rows = scd.visible(&table.rows).unwrap();
    assert_eq!(rows.num_rows(), 2);
    assert_eq!(column(&rows, "tier").unwrap().null_count(), 1);
    assert_eq!(*column(&rows, "valid_to").unwrap().data_type(), DataType::Date32);
}

#[test]
fn a_null_key_or_sequence_is_refused_by_name() {
    let at = Arc::new(TimestampMicrosecondArray::from(vec![Some(1), None])) as ArrayRef;
    let id = Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef;
    let changes = RecordBatch::try_from_iter_with_nullable([("id", id, true), ("at", at, true)]).unwrap();
    let empty = RecordBatch::new_empty(Arc::new(Schema::empty()));
    let error = Scd2::new(["id"], "at").merge(&empty, &[changes]).unwrap_err();
    assert_eq!((error.context("column"), error.context("row")), (Some("at"), Some("1")));
}

#[test]
fn bounds_keep_the_type_of_the_sequence() {
    let mut table = Table::new(scd());
    table.apply(&[batch(&[(1, 10, Some((1, 1)))])]);
    let expected = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    assert_eq!(*column(&table.rows, "valid_from").unwrap().data_type(), expected);
}

#[test]
fn without_lateness_a_repeated_state_changes_nothing() {
    let mut table = Table::new(scd().with_lateness(std::time::Duration::ZERO));
    table.apply(&[batch(&[(1, 10, Some((1, 1)))])]);
    assert!(table.apply(&[batch(&[(1, 20, Some((1, 1)))])]).is_empty());
    assert!(table.apply(&[batch(&[(1, 30, Some((1, 1))), (1, 25, Some((1, 1)))])]).is_empty());
    table.apply(&[batch(&[(1, 40, Some((2, 1)))])]);
    assert_eq!(table.visible()[&1].len(), 2);
}

proptest! {
    /// Within the promised lateness the order has no effect.
    #[test]
    fn lateness_forgets_nothing_that_a_change_in_time_asks_for(
        changes in changes(),
        delays in prop::collection::vec(0_i64..4, 24),
    ) {
        let mut arriving: Vec<_> = changes.iter().zip(delays).map(|(change, delay)| (change.1 + delay, *change)).collect();
        arriving.sort_by_key(|(arrival, _)| *arrival);
        // A change arrives before any change that is newer by four microseconds or more.
        let mut table = Table::new(scd().with_lateness(std::time::Duration::from_micros(4)));
        for (_, change) in arriving {
            table.apply(&[batch(&[change])]);
        }
        prop_assert_eq!(table.visible(), model(&changes));
    }
}

#[test]
fn hudis_own_columns_of_stored_rows_do_not_count() {
    let known = [(1, 10, Some((1, 1)))];
    let mut table = Table::new(scd());
    table.apply(&[batch(&known)]);
    let rows = table.rows.num_rows();
    let mut columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("_hoodie_commit_time", Arc::new(StringArray::from(vec!["1"; rows])), true),
        ("gone", Arc::new(BooleanArray::from(vec![false; rows])), true),
    ];
    let schema = table.rows.schema();
    for (field, column) in schema.fields().iter().zip(table.rows.columns()) {
        columns.push((field.name(), column.clone(), true));
    }
    let stored = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    assert!(scd().merge(&stored, &[batch(&known)]).unwrap().is_empty());
    assert_eq!(scd().visible(&stored).unwrap().schema(), scd().visible(&table.rows).unwrap().schema());
}
