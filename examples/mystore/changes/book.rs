//! [`Book`]: the current and the deleted rows of one source.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use jiff::{Timestamp, ToSpan};

use crate::domain::{Change, Keyed};

/// Current rows and deleted rows of one kind.
pub(super) struct Book<T> {
    pub(super) live: BTreeMap<i64, T>,
    pub(super) gone: BTreeMap<i64, T>,
    last_change: BTreeMap<i64, Timestamp>,
    pub(super) next_id: i64,
}

impl<T: Keyed + Clone> Book<T> {
    pub(super) fn new(rows: Vec<T>, since: Timestamp) -> Self {
        let last_change = rows.iter().map(|row| (row.key(), since)).collect();
        let live: BTreeMap<_, _> = rows.into_iter().map(|row| (row.key(), row)).collect();
        let next_id = live.last_key_value().map_or(1, |(id, _)| id + 1);
        Self { live, gone: BTreeMap::new(), last_change, next_id }
    }

    pub(super) fn new_id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id - 1
    }

    pub(super) fn any(&self, rng: &mut Rng) -> &T {
        let index = rng.usize(0..self.live.len());
        self.live.values().nth(index).unwrap_or_else(|| unreachable!("the index is below the length"))
    }

    /// Picks each row with a probability of 1 in `nth`.
    pub(super) fn pick(&self, rng: &mut Rng, nth: u32) -> Vec<i64> {
        self.live.keys().copied().filter(|_| rng.u32(0..nth) == 0).collect()
    }

    /// Picks up to `count` different rows.
    pub(super) fn pick_some(&self, rng: &mut Rng, count: usize) -> BTreeSet<i64> {
        (0..count).map(|_| self.any(rng).key()).collect()
    }

    pub(super) fn gone_before(&self, rng: &mut Rng, time: Timestamp) -> Option<i64> {
        let gone: Vec<_> = self.gone.keys().filter(|id| self.last_change[id] < time).collect();
        (!gone.is_empty()).then(|| *gone[rng.usize(0..gone.len())])
    }

    pub(super) fn put(&mut self, row: T, at: Timestamp) -> Change<T> {
        let at = self.stamp(row.key(), at);
        self.gone.remove(&row.key());
        self.live.insert(row.key(), row.clone());
        Change { at, row, deleted: false }
    }

    pub(super) fn remove(&mut self, id: i64, at: Timestamp) -> Change<T> {
        let at = self.stamp(id, at);
        let row = self.live.remove(&id).unwrap_or_else(|| unreachable!("only live rows are picked"));
        self.gone.insert(id, row.clone());
        Change { at, row, deleted: true }
    }

    /// Returns the time of the next change of a key: `at`, or shortly after the key's previous change if that
    /// is later. Two changes of a key therefore never have the same time.
    fn stamp(&mut self, id: i64, at: Timestamp) -> Timestamp {
        let at = match self.last_change.get(&id) {
            Some(last) if *last >= at => *last + 1.second(),
            _ => at,
        };
        self.last_change.insert(id, at);
        at
    }
}
