//! The expected result, recomputed from the change stream with plain maps. The computation is deliberately
//! naive. It shares only the stream with the SQL and the Hudi tables, so the proof compares independent
//! computations.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::{
    changes::{Changes, Cycle},
    domain::{Address, Cents, Change, Customer, Item, Keyed, Sale, Store},
};

/// Expected state at the end of the run.
pub(crate) struct Model<'a> {
    pub(crate) customers: Kept<'a, Customer>,
    pub(crate) addresses: Kept<'a, Address>,
    pub(crate) items: BTreeMap<i64, &'a Item>,
    pub(crate) stores: BTreeMap<i64, &'a Store>,
    pub(crate) sales: BTreeMap<(i64, i64), &'a Sale>,
    /// Expected row count of each procedure, by cycle and procedure.
    pub(crate) audit: BTreeMap<(u32, &'static str), u64>,
    /// Expected matches of each cycle's lookups.
    pub(crate) lookups: Vec<Matches>,
}

/// Number of new sales in a cycle for which a lookup finds a customer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Matches {
    pub(crate) sales: u64,
    /// Sales matched to the customer's latest row.
    pub(crate) latest: u64,
    /// Sales matched to the row that was valid at the time of the sale.
    pub(crate) as_of_sale: u64,
}

impl<'a> Model<'a> {
    /// Computes the model from the whole stream.
    pub(crate) fn of(changes: &'a Changes) -> Self {
        let mut model = Self {
            customers: Kept::default(),
            addresses: Kept::default(),
            items: BTreeMap::new(),
            stores: BTreeMap::new(),
            sales: BTreeMap::new(),
            audit: BTreeMap::new(),
            lookups: Vec::new(),
        };
        let mut sales_of: BTreeMap<i64, Vec<&Sale>> = BTreeMap::new();
        for cycle in &changes.cycles {
            let touched: BTreeSet<i64> = cycle.customers.iter().map(|change| change.row.id).collect();
            let old_sales: Vec<&Sale> =
                touched.iter().filter_map(|id| sales_of.get(id)).flatten().copied().collect();
            let rows_before: Vec<_> = old_sales.iter().map(|sale| model.customer_row(sale)).collect();

            model.receive(cycle);
            let rekeyed = (0..old_sales.len())
                .filter(|&index| rows_before[index] != model.customer_row(old_sales[index]))
                .count();
            let days = if cycle.number == 0 { changes.days.len() } else { 0 };
            model.expect_audit(cycle, rekeyed, days);
            model.expect_lookups(cycle);
            for sale in &cycle.sales {
                sales_of.entry(sale.customer_id.unwrap_or(0)).or_default().push(sale);
            }
        }
        model
    }

    fn receive(&mut self, cycle: &'a Cycle) {
        self.customers.receive(&cycle.customers);
        self.addresses.receive(&cycle.addresses);
        self.items.extend(cycle.items.iter().map(|item| (item.id, item)));
        self.stores.extend(cycle.stores.iter().map(|store| (store.id, store)));
        self.sales.extend(cycle.sales.iter().map(|sale| ((sale.ticket, sale.item_id), sale)));
    }

    /// Returns the row of the warehouse's customer dimension that a sale refers to: the customer, and the
    /// start of the row's validity.
    pub(crate) fn customer_row(&self, sale: &Sale) -> Option<(i64, Timestamp)> {
        let id = sale.customer_id?;
        let row = self.customers.history(id, tracked).into_iter().find(|row| row.holds(sale.sold_at))?;
        Some((id, row.valid_from))
    }

    fn expect_audit(&mut self, cycle: &Cycle, rekeyed: usize, days: usize) {
        let customers: BTreeSet<_> = cycle.customers.iter().map(|change| change.row.id).collect();
        let addresses: BTreeSet<_> = cycle.addresses.iter().map(|change| change.row.id).collect();
        let store_days: BTreeSet<_> = cycle.sales.iter().map(StoreDay::of).collect();
        for (procedure, rows) in [
            ("stage_customer", cycle.customers.len()),
            ("stage_address", cycle.addresses.len()),
            ("stage_reference", cycle.items.len() + cycle.stores.len() + days),
            ("stage_sale", cycle.sales.len()),
            ("load_date", days),
            ("load_store", cycle.stores.len()),
            ("load_item", cycle.items.len()),
            ("load_address", addresses.len()),
            ("load_customer", customers.len()),
            ("load_sale", cycle.sales.len()),
            ("rekey_sale", rekeyed),
            ("publish_store_day", store_days.len()),
        ] {
            self.audit.insert((cycle.number, procedure), rows as u64);
        }
    }

    fn expect_lookups(&mut self, cycle: &Cycle) {
        let mut matches = Matches { sales: cycle.sales.len() as u64, ..Matches::default() };
        for sale in &cycle.sales {
            let Some(id) = sale.customer_id else { continue };
            matches.latest += u64::from(self.customers.live(id).is_some());
            matches.as_of_sale += u64::from(self.customers.state_at(id, sale.sold_at).is_some());
        }
        self.lookups.push(matches);
    }

    /// Sums the sales by store and day.
    pub(crate) fn store_days(&self) -> BTreeMap<StoreDay, Totals> {
        let mut days: BTreeMap<StoreDay, Totals> = BTreeMap::new();
        for sale in self.sales.values() {
            days.entry(StoreDay::of(sale)).or_default().add(sale);
        }
        days
    }
}

/// Returns the columns whose history the warehouse's customer dimension keeps.
pub(crate) fn tracked(customer: &Customer) -> (i64, bool) {
    (customer.address_id, customer.preferred)
}

/// A store and a day. The store is 0 if the sale has none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StoreDay {
    pub(crate) store: i64,
    pub(crate) date: String,
}

impl StoreDay {
    fn of(sale: &Sale) -> Self {
        Self { store: sale.store_id.unwrap_or(0), date: sale.sold_at.strftime("%Y-%m-%d").to_string() }
    }
}

/// Sums over sales.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) sales: u64,
    pub(crate) quantity: i64,
    pub(crate) net_paid: Cents,
    pub(crate) net_profit: Cents,
}

impl Totals {
    fn add(&mut self, sale: &Sale) {
        self.sales += 1;
        self.quantity += i64::from(sale.quantity);
        self.net_paid += sale.net_paid;
        self.net_profit += sale.net_profit;
    }
}

/// All changes received for one kind of row, by key and time. The map removes duplicates and sorts late
/// changes.
pub(crate) struct Kept<'a, T>(BTreeMap<i64, BTreeMap<Timestamp, &'a Change<T>>>);

/// A state of a row, valid from `valid_from` until just before `valid_to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval<'a, T> {
    pub(crate) valid_from: Timestamp,
    /// `None` if the state is still valid.
    pub(crate) valid_to: Option<Timestamp>,
    /// The row at the beginning of the interval.
    pub(crate) row: &'a T,
}

impl<T> Interval<'_, T> {
    pub(crate) fn holds(&self, at: Timestamp) -> bool {
        self.valid_from <= at && self.valid_to.is_none_or(|end| at < end)
    }
}

impl<T> Default for Kept<'_, T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'a, T: Keyed> Kept<'a, T> {
    pub(crate) fn of(changes: impl IntoIterator<Item = &'a Change<T>>) -> Self {
        let mut kept = Self::default();
        kept.receive(changes);
        kept
    }

    fn receive(&mut self, changes: impl IntoIterator<Item = &'a Change<T>>) {
        for change in changes {
            self.0.entry(change.row.key()).or_default().insert(change.at, change);
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = i64> {
        self.0.keys().copied()
    }

    /// Returns the newest change of a key, which may be a deletion.
    pub(crate) fn newest(&self, key: i64) -> Option<&'a Change<T>> {
        Some(*self.0.get(&key)?.last_key_value()?.1)
    }

    /// Returns the newest change of a key, or `None` if the row is deleted or unknown.
    pub(crate) fn live(&self, key: i64) -> Option<&'a Change<T>> {
        self.newest(key).filter(|change| !change.deleted)
    }

    /// Returns the newest change of each key that is not deleted.
    pub(crate) fn all_live(&self) -> impl Iterator<Item = &'a Change<T>> {
        self.keys().filter_map(|key| self.live(key))
    }

    /// Returns the deleted keys.
    pub(crate) fn deleted(&self) -> impl Iterator<Item = i64> {
        self.keys().filter(|&key| self.live(key).is_none())
    }

    /// Returns the state of the row at this time, or `None` if the row did not exist then.
    pub(crate) fn state_at(&self, key: i64, at: Timestamp) -> Option<&'a Change<T>> {
        let newest = *self.0.get(&key)?.range(..=at).next_back()?.1;
        (!newest.deleted).then_some(newest)
    }

    /// Returns the intervals of a key in order. An interval begins when the row is created, when it is
    /// created again after a deletion, or when a `tracked` value changes.
    pub(crate) fn history<K: PartialEq>(&self, key: i64, tracked: fn(&T) -> K) -> Vec<Interval<'a, T>> {
        let mut intervals: Vec<Interval<'a, T>> = Vec::new();
        for change in self.0.get(&key).into_iter().flat_map(BTreeMap::values) {
            let open = intervals.last_mut().filter(|interval| interval.valid_to.is_none());
            match open {
                Some(open) if change.deleted || tracked(open.row) != tracked(&change.row) => {
                    open.valid_to = Some(change.at);
                }
                Some(_) => continue,
                None => {}
            }
            if !change.deleted {
                intervals.push(Interval { valid_from: change.at, valid_to: None, row: &change.row });
            }
        }
        intervals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * 3_600).unwrap()
    }

    fn change(hour: i64, address: i64, email: &str) -> Change<Customer> {
        let row = Customer {
            id: 1,
            salutation: None,
            first_name: None,
            last_name: None,
            preferred: false,
            birth_country: None,
            email: Some(email.to_owned()),
            address_id: address,
        };
        Change { at: at(hour), row, deleted: address == 0 }
    }

    fn hours(history: &[Interval<'_, Customer>]) -> Vec<(i64, i64, Option<i64>)> {
        let hour = |time: Timestamp| time.as_second() / 3_600;
        history
            .iter()
            .map(|interval| (interval.row.address_id, hour(interval.valid_from), interval.valid_to.map(hour)))
            .collect()
    }

    #[test]
    fn a_late_change_splits_its_interval_and_a_delete_closes_one() {
        let changes =
            [change(1, 10, "a"), change(5, 10, "b"), change(3, 20, "c"), change(9, 0, ""), change(9, 0, "")];
        let kept = Kept::of(&changes);
        assert_eq!(hours(&kept.history(1, tracked)), [(10, 1, Some(3)), (20, 3, Some(5)), (10, 5, Some(9))]);
        assert_eq!((kept.live(1), kept.deleted().count()), (None, 1));
        assert_eq!(kept.state_at(1, at(4)).unwrap().row.address_id, 20);
        assert_eq!(kept.state_at(1, at(0)), None);
        assert_eq!(kept.state_at(1, at(9)), None);
    }

    #[test]
    fn a_change_without_a_tracked_column_starts_no_interval() {
        let changes = [change(1, 10, "a"), change(2, 10, "b"), change(3, 10, "c")];
        assert_eq!(hours(&Kept::of(&changes).history(1, tracked)), [(10, 1, None)]);
    }

    #[test]
    fn every_order_of_arrival_gives_the_same_history() {
        let mut changes = vec![change(1, 10, "a"), change(2, 20, "b"), change(4, 0, ""), change(6, 30, "d")];
        let expected = hours(&Kept::of(&changes).history(1, tracked));
        changes.reverse();
        assert_eq!(hours(&Kept::of(&changes).history(1, tracked)), expected);
        changes.swap(0, 2);
        assert_eq!(hours(&Kept::of(&changes).history(1, tracked)), expected);
    }

    #[test]
    fn each_sale_has_one_day_and_moved_sales_are_counted() {
        let changes = Changes::generate(0.01, 4, 5).unwrap();
        let model = Model::of(&changes);
        let days: u64 = model.store_days().values().map(|totals| totals.sales).sum();
        assert_eq!(days, model.sales.len() as u64);
        let rekeyed: u64 = (1..=4).map(|cycle| model.audit[&(cycle, "rekey_sale")]).sum();
        assert!(rekeyed > 0, "late changes and early sales give old sales other keys");
        assert!(model.lookups[1].latest > 0 && model.lookups[1].latest != model.lookups[1].as_of_sale);
    }
}
