//! The change stream: the rows that the shop's systems send in each cycle. The stream is a pure function of
//! the scale, the number of cycles and the seed. Its only clock is the shop's, which starts at
//! [`DAY_BEGINS`].
//!
//! Cycle 0 is the initial load. Each later cycle is half an hour of business: some customers and addresses
//! change (a few of them twice), some are created, some are deleted, and some deleted ones return. The
//! sources are imperfect. Some changes arrive in a later cycle than the one in which they happened, so they
//! may be older than changes that have already arrived. Some are sent twice. Most sales arrive in time, a few
//! late, and some before their customer.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};

use crate::{
    domain::{Address, Cents, Change, Customer, Day, Item, Sale, Store},
    tpcds::Stock,
};

mod book;

use book::Book;

/// Start of the working day, and end of the initial load.
const DAY_BEGINS: &str = "2003-01-06T08:00:00Z";
/// Time from which TPC-DS rows are valid, unless the row has an older known state.
const RECORDS_BEGIN: &str = "1998-01-01T00:00:00Z";
/// Length of a cycle.
const HALF_AN_HOUR: SignedDuration = SignedDuration::from_mins(30);

/// All rows that arrive during a run.
pub(crate) struct Changes {
    /// The calendar. It is loaded only once.
    pub(crate) days: Vec<Day>,
    /// The initial load, then one entry per cycle.
    pub(crate) cycles: Vec<Cycle>,
}

/// The rows that arrive in one cycle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cycle {
    /// 0 is the initial load.
    pub(crate) number: u32,
    /// End of the cycle on the shop's clock. All its rows arrived after the end of the previous cycle and
    /// before this time.
    pub(crate) until: Timestamp,
    pub(crate) customers: Vec<Change<Customer>>,
    pub(crate) addresses: Vec<Change<Address>>,
    pub(crate) items: Vec<Item>,
    pub(crate) stores: Vec<Store>,
    pub(crate) sales: Vec<Sale>,
}

impl Cycle {
    /// Counts the rows that arrive, excluding the calendar.
    pub(crate) fn rows(&self) -> u64 {
        (self.customers.len()
            + self.addresses.len()
            + self.items.len()
            + self.stores.len()
            + self.sales.len()) as u64
    }
}

impl Changes {
    /// Generates the stream for a scale factor, a number of cycles after the initial load, and a seed.
    pub(crate) fn generate(scale: f64, cycles: u32, seed: u64) -> Result<Self> {
        let stock = Stock::generate(scale, 1998..=2003)?;
        let mut shop = Shop::open(stock, cycles, seed)?;
        for number in 1..=cycles {
            shop.trade(number as usize);
        }
        Ok(Self { days: shop.days, cycles: shop.cycles })
    }
}

/// The shop during the day: its current rows, and the changes sent so far.
struct Shop {
    rng: Rng,
    days: Vec<Day>,
    cycles: Vec<Cycle>,
    customers: Book<Customer>,
    addresses: Book<Address>,
    items: Vec<Item>,
    /// Tickets that have not been sold yet.
    tickets: Vec<Vec<Sale>>,
    tickets_a_cycle: usize,
    /// Customers that were created or changed today. Only they buy.
    active: Vec<i64>,
}

/// Activity per half hour, in rows per 100,000.
struct Rates {
    change: usize,
    new: usize,
    delete: usize,
}

const CUSTOMERS: Rates = Rates { change: 2_000, new: 500, delete: 200 };
const ADDRESSES: Rates = Rates { change: 1_000, new: 300, delete: 100 };
const ITEMS_REPRICED: usize = 300;

impl Rates {
    fn of(rate: usize, rows: usize) -> usize {
        (rows * rate / 100_000).max(1)
    }
}

impl Shop {
    fn open(stock: Stock, cycles: u32, seed: u64) -> Result<Self> {
        let begins: Timestamp = DAY_BEGINS.parse()?;
        let records_begin: Timestamp = RECORDS_BEGIN.parse()?;
        let mut rng = Rng::with_seed(seed);
        let mut sent: Vec<Cycle> = (0..=cycles)
            .map(|number| Cycle {
                number,
                until: begins + HALF_AN_HOUR * i32::try_from(number).unwrap_or(i32::MAX),
                ..Cycle::default()
            })
            .collect();

        // A fifth of the customers moved or changed after the records began.
        for row in &stock.customers {
            sent[0].customers.push(Change { at: records_begin, row: row.clone(), deleted: false });
        }
        let mut customers = Book::new(stock.customers, records_begin);
        for id in customers.pick(&mut rng, 5) {
            let at = records_begin + minutes(rng.i64(60 * 24 * 365..60 * 24 * 365 * 4));
            let row = changed_customer(&mut rng, &customers.live[&id], stock.addresses.len() as i64);
            sent[0].customers.push(customers.put(row, at));
        }
        // Each address was last changed on one of the six preceding days, so that the table has several
        // partitions.
        let mut addresses = Book::new(stock.addresses, records_begin);
        for id in addresses.live.keys().copied().collect::<Vec<_>>() {
            let at = begins - minutes(rng.i64(60 * 9..60 * 24 * 6));
            let row = addresses.live[&id].clone();
            sent[0].addresses.push(addresses.put(row, at));
        }

        // Each cycle gets a hundredth of the sales, but all cycles together get at most half.
        let mut tickets = by_ticket(stock.sales);
        let tickets_a_cycle = (tickets.len() / 100).min(tickets.len() / 2 / cycles.max(1) as usize).max(1);
        let opening = tickets.len().saturating_sub(tickets_a_cycle * cycles as usize);
        sent[0].sales = tickets.drain(..opening).flatten().collect();
        sent[0].items = stock.items.clone();
        sent[0].stores = stock.stores;
        tickets.reverse();
        Ok(Self {
            rng,
            days: stock.days,
            cycles: sent,
            customers,
            addresses,
            items: stock.items,
            tickets,
            tickets_a_cycle,
            active: Vec::new(),
        })
    }

    /// Simulates half an hour of business.
    fn trade(&mut self, number: usize) {
        let begin = self.cycles[number - 1].until;
        self.trade_addresses(number, begin);
        self.trade_customers(number, begin);
        self.reprice(number);
        self.sell(number, begin);
    }

    fn trade_addresses(&mut self, number: usize, begin: Timestamp) {
        let live = self.addresses.live.len();
        let mut changes = Vec::new();
        for id in self.addresses.pick_some(&mut self.rng, Rates::of(ADDRESSES.change, live)) {
            let donor = self.addresses.any(&mut self.rng);
            let row = Address {
                street: donor.street.clone(),
                zip: donor.zip.clone(),
                ..self.addresses.live[&id].clone()
            };
            changes.push(self.addresses.put(row, moment(&mut self.rng, begin)));
        }
        for _ in 0..Rates::of(ADDRESSES.new, live) {
            let row = Address { id: self.addresses.new_id(), ..self.addresses.any(&mut self.rng).clone() };
            changes.push(self.addresses.put(row, moment(&mut self.rng, begin)));
        }
        for id in self.addresses.pick_some(&mut self.rng, Rates::of(ADDRESSES.delete, live)) {
            changes.push(self.addresses.remove(id, moment(&mut self.rng, begin)));
        }
        for (cycle, change) in deliver(&mut self.rng, changes, number, self.cycles.len() - 1) {
            self.cycles[cycle].addresses.push(change);
        }
    }

    fn trade_customers(&mut self, number: usize, begin: Timestamp) {
        let live = self.customers.live.len();
        let homes = self.addresses.next_id;
        let mut changes = Vec::new();
        for id in self.customers.pick_some(&mut self.rng, Rates::of(CUSTOMERS.change, live)) {
            // One row in five changes twice.
            for _ in 0..if self.rng.u8(0..5) == 0 { 2 } else { 1 } {
                let row = changed_customer(&mut self.rng, &self.customers.live[&id], homes);
                changes.push(self.customers.put(row, moment(&mut self.rng, begin)));
            }
        }
        for _ in 0..Rates::of(CUSTOMERS.new, live) {
            let (first, last) = (self.customers.any(&mut self.rng), self.customers.any(&mut self.rng));
            let row = Customer {
                id: self.customers.next_id,
                last_name: last.last_name.clone(),
                email: None,
                address_id: self.rng.i64(1..homes),
                ..first.clone()
            };
            self.customers.next_id += 1;
            changes.push(self.customers.put(row, moment(&mut self.rng, begin)));
        }
        for id in self.customers.pick_some(&mut self.rng, Rates::of(CUSTOMERS.delete, live)) {
            changes.push(self.customers.remove(id, moment(&mut self.rng, begin)));
        }
        // Sometimes a deleted customer returns.
        if self.rng.u8(0..3) == 0
            && let Some(id) = self.customers.gone_before(&mut self.rng, begin)
        {
            let row = self.customers.gone[&id].clone();
            changes.push(self.customers.put(row, moment(&mut self.rng, begin)));
        }
        self.active.extend(changes.iter().filter(|change| !change.deleted).map(|change| change.row.id));
        for (cycle, change) in deliver(&mut self.rng, changes, number, self.cycles.len() - 1) {
            self.cycles[cycle].customers.push(change);
        }
    }

    fn reprice(&mut self, number: usize) {
        let mut repriced = BTreeSet::new();
        for _ in 0..Rates::of(ITEMS_REPRICED, self.items.len()) {
            repriced.insert(self.rng.usize(0..self.items.len()));
        }
        for index in repriced {
            let item = &mut self.items[index];
            item.price = Some(Cents(self.rng.i64(50..9_999)));
            self.cycles[number].items.push(item.clone());
        }
    }

    fn sell(&mut self, number: usize, begin: Timestamp) {
        for _ in 0..self.tickets_a_cycle {
            let Some(mut lines) = self.tickets.pop() else { return };
            let sold_at = moment(&mut self.rng, begin);
            let buyer = (self.rng.u8(0..4) == 0 && !self.active.is_empty())
                .then(|| self.active[self.rng.usize(0..self.active.len())]);
            for line in &mut lines {
                line.sold_at = sold_at;
                line.customer_id = buyer.or(line.customer_id);
            }
            let delay = if self.rng.u8(0..20) == 0 { self.rng.usize(1..4) } else { 0 };
            let cycle = (number + delay).min(self.cycles.len() - 1);
            self.cycles[cycle].sales.extend(lines);
        }
    }
}

/// Returns a changed customer: with a new address or preferred status, which both have history, or with a new
/// name or e-mail, which have not.
fn changed_customer(rng: &mut Rng, row: &Customer, homes: i64) -> Customer {
    let mut row = row.clone();
    match rng.u8(0..10) {
        0..=4 => row.address_id = rng.i64(1..homes),
        5..=6 => row.preferred = !row.preferred,
        7..=8 => row.email = Some(format!("customer.{}.{}@example.com", row.id, rng.u16(..))),
        _ => row.last_name = Some(format!("{}-Smith", row.last_name.as_deref().unwrap_or("Jones"))),
    }
    row
}

/// Assigns each change to the cycle in which it arrives. Most arrive in the cycle in which they happen. One
/// in six arrives up to three cycles later, and one in thirty arrives twice.
fn deliver<T: Clone>(
    rng: &mut Rng,
    changes: Vec<Change<T>>,
    number: usize,
    last: usize,
) -> Vec<(usize, Change<T>)> {
    let mut arrivals = Vec::new();
    for change in changes {
        let delay = if rng.u8(0..6) == 0 { rng.usize(1..4) } else { 0 };
        if rng.u8(0..30) == 0 {
            arrivals.push(((number + delay + 1).min(last), change.clone()));
        }
        arrivals.push(((number + delay).min(last), change));
    }
    arrivals
}

/// Returns a random time in the half hour with microsecond precision, so that the proof detects a format that
/// truncates times.
fn moment(rng: &mut Rng, begin: Timestamp) -> Timestamp {
    begin + SignedDuration::from_micros(rng.i64(0..HALF_AN_HOUR.as_micros() as i64))
}

fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

fn by_ticket(sales: Vec<Sale>) -> Vec<Vec<Sale>> {
    let mut tickets: BTreeMap<i64, Vec<Sale>> = BTreeMap::new();
    for sale in sales {
        tickets.entry(sale.ticket).or_default().push(sale);
    }
    tickets.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(seed: u64) -> Changes {
        Changes::generate(0.01, 6, seed).unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_run_and_another_seed_another() {
        assert_eq!(small(7).cycles, small(7).cycles);
        assert_ne!(small(7).cycles[1], small(8).cycles[1]);
    }

    #[test]
    fn changes_include_late_unordered_repeated_and_deleting_ones() {
        let changes = small(1);
        let mut seen: BTreeMap<i64, Timestamp> = BTreeMap::new();
        let mut keys = BTreeSet::new();
        let (mut late, mut out_of_order, mut twice, mut deleted, mut several) = (0, 0, 0, 0, 0);
        for cycle in &changes.cycles[1..] {
            let mut here = BTreeSet::new();
            for change in &cycle.customers {
                assert!(change.at < cycle.until + HALF_AN_HOUR, "no change arrives long before it happens");
                late += usize::from(change.at < cycle.until - HALF_AN_HOUR);
                deleted += usize::from(change.deleted);
                several += usize::from(!here.insert(change.row.id));
                twice += usize::from(!keys.insert((change.row.id, change.at)));
                let newest = seen.entry(change.row.id).or_insert(change.at);
                out_of_order += usize::from(change.at < *newest);
                *newest = change.at.max(*newest);
            }
        }
        assert!(
            late > 0 && out_of_order > 0 && twice > 0 && deleted > 0 && several > 0,
            "{late} {out_of_order} {twice} {deleted} {several}"
        );
    }

    #[test]
    fn the_end_of_a_row_may_arrive_before_its_beginning() {
        let ends_first = |seed| {
            let mut known = BTreeSet::new();
            let mut count = 0;
            for cycle in Changes::generate(0.01, 12, seed).unwrap().cycles {
                let deleted = cycle.addresses.iter().filter(|change| change.deleted);
                count += deleted.filter(|change| !known.contains(&change.row.id)).count();
                known.extend(cycle.addresses.iter().map(|change| change.row.id));
            }
            count
        };
        assert!((0..8).map(ends_first).sum::<usize>() > 0);
    }

    #[test]
    fn every_sale_arrives_exactly_once() {
        let changes = small(3);
        let sales: Vec<_> = changes.cycles.iter().flat_map(|cycle| &cycle.sales).collect();
        let keys: BTreeSet<_> = sales.iter().map(|sale| (sale.ticket, sale.item_id)).collect();
        assert_eq!((sales.len(), keys.len()), (120_527, 120_527));
        assert!(changes.cycles[1..].iter().all(|cycle| cycle.sales.len() > 100));
    }
}
