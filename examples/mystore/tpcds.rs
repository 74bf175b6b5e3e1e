//! The shop's initial data: customers, addresses, items, stores, days and sales of TPC-DS.
//!
//! The rows are parsed from the generator's text output, because only this output contains its NULLs. Columns
//! are separated by `|`, and an empty column is NULL.

use anyhow::{Context, Result};
use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
use tpcdsgen::{
    config::{Session, SessionBuilder, Table},
    row::{
        CustomerAddressRowGenerator, CustomerRowGenerator, DateDimRowGenerator, ItemRowGenerator,
        StoreRowGenerator, StoreSalesRowGenerator,
    },
};

use crate::domain::{Address, Cents, Customer, Day, Item, Sale, Store};

/// The shop's data before the day begins.
pub(crate) struct Stock {
    pub(crate) customers: Vec<Customer>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) items: Vec<Item>,
    pub(crate) stores: Vec<Store>,
    pub(crate) days: Vec<Day>,
    /// Sales in the order in which TPC-DS generates them. The lines of a ticket are adjacent.
    pub(crate) sales: Vec<Sale>,
}

impl Stock {
    /// Generates the rows for this scale factor, and the days of `years`.
    pub(crate) fn generate(scale: f64, years: std::ops::RangeInclusive<i16>) -> Result<Self> {
        let session = SessionBuilder::new()
            .with_scale_factor(scale)
            .build()
            .with_context(|| format!("TPC-DS has no scale factor {scale}"))?;
        let rows = |table| session.get_scaling().get_row_count(table);
        Ok(Self {
            customers: CustomerRowGenerator::new(session.clone(), rows(Table::Customer))
                .map(|row| customer(&Columns::of(row)))
                .collect::<Result<_>>()?,
            addresses: CustomerAddressRowGenerator::new(session.clone(), rows(Table::CustomerAddress))
                .map(|row| address(&Columns::of(row)))
                .collect::<Result<_>>()?,
            items: ItemRowGenerator::new(session.clone(), rows(Table::Item))
                .map(|row| item(&Columns::of(row)))
                .collect::<Result<_>>()?,
            stores: StoreRowGenerator::new(session.clone(), rows(Table::Store))
                .map(|row| store(&Columns::of(row)))
                .collect::<Result<_>>()?,
            days: days(&session, years)?,
            sales: StoreSalesRowGenerator::new(session.clone(), rows(Table::StoreSales))
                .map(|row| sale(&Columns::of(row)))
                .collect::<Result<_>>()?,
        })
    }
}

/// The columns of one row as text.
struct Columns(String);

impl Columns {
    fn of(row: impl ToString) -> Self {
        Self(row.to_string())
    }

    fn text(&self, number: usize) -> Option<String> {
        self.get(number).map(str::to_owned)
    }

    fn parse<T: std::str::FromStr>(&self, number: usize) -> Option<T> {
        self.get(number)?.parse().ok()
    }

    /// Parses a column that cannot be NULL.
    fn need<T: std::str::FromStr>(&self, number: usize) -> Result<T> {
        self.parse(number)
            .with_context(|| format!("column {number} of a TPC-DS row is missing or invalid: {}", self.0))
    }

    fn get(&self, number: usize) -> Option<&str> {
        self.0.split('|').nth(number).map(str::trim).filter(|text| !text.is_empty())
    }
}

fn customer(row: &Columns) -> Result<Customer> {
    Ok(Customer {
        id: row.need(0)?,
        salutation: row.text(7),
        first_name: row.text(8),
        last_name: row.text(9),
        preferred: row.get(10) == Some("Y"),
        birth_country: row.text(14),
        email: row.text(16),
        address_id: row.parse(4).unwrap_or(1),
    })
}

fn address(row: &Columns) -> Result<Address> {
    let street = [row.get(2), row.get(3), row.get(4)].into_iter().flatten().collect::<Vec<_>>().join(" ");
    Ok(Address {
        id: row.need(0)?,
        street: Some(street).filter(|street| !street.is_empty()),
        city: row.text(6),
        county: row.text(7),
        state: row.text(8),
        zip: row.text(9),
        country: row.text(10),
        location_type: row.text(12),
    })
}

fn item(row: &Columns) -> Result<Item> {
    Ok(Item {
        id: row.need(0)?,
        name: row.text(21),
        brand: row.text(8),
        category: row.text(12),
        price: row.get(5).and_then(Cents::parse),
    })
}

fn store(row: &Columns) -> Result<Store> {
    Ok(Store {
        id: row.need(0)?,
        name: row.text(5),
        city: row.text(22),
        state: row.text(24),
        floor_space: row.parse(7),
    })
}

fn days(session: &Session, years: std::ops::RangeInclusive<i16>) -> Result<Vec<Day>> {
    let first_year = Date::new(*years.start(), 1, 1)?;
    let mut generator =
        DateDimRowGenerator::new(session.clone(), session.get_scaling().get_row_count(Table::DateDim));
    // TPC-DS's calendar begins on 1900-01-02.
    let skipped = Date::new(1900, 1, 2)?.until(first_year)?.get_days();
    generator.skip_rows_until_starting_row_number(u64::try_from(skipped)? + 1);
    let mut days = Vec::new();
    for row in generator {
        let row = Columns::of(row);
        let date: Date = row.need(2)?;
        if date.year() > *years.end() {
            break;
        }
        days.push(Day {
            date,
            name: row.need(14)?,
            quarter: row.need(15)?,
            holiday: row.get(16) == Some("Y"),
        });
    }
    Ok(days)
}

fn sale(row: &Columns) -> Result<Sale> {
    Ok(Sale {
        ticket: row.need(9)?,
        item_id: row.need(2)?,
        customer_id: row.parse(3),
        store_id: row.parse(7),
        sold_at: sold_at(row.parse(0), row.parse(1))?,
        quantity: row.parse(10).unwrap_or(0),
        net_paid: row.get(20).and_then(Cents::parse).unwrap_or_default(),
        net_profit: row.get(22).and_then(Cents::parse).unwrap_or_default(),
    })
}

/// Converts the date of a sale, a Julian day number, and its time, the second of the day. A sale without a
/// date gets the earliest date.
fn sold_at(julian_day: Option<i64>, second: Option<i64>) -> Result<Timestamp> {
    const UNIX_EPOCH: i64 = 2_440_588;
    const FIRST_DAY: i64 = 2_450_816;
    let day = Date::new(1970, 1, 1)?.checked_add((julian_day.unwrap_or(FIRST_DAY) - UNIX_EPOCH).days())?;
    Ok(day.to_zoned(TimeZone::UTC)?.timestamp() + second.unwrap_or(0).seconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stock_has_the_rows_of_its_scale_factor() {
        let stock = Stock::generate(0.01, 1998..=2003).unwrap();
        assert_eq!((stock.customers.len(), stock.addresses.len()), (1_000, 1_000));
        assert_eq!(stock.sales.len(), 120_527);
        assert!(stock.items.len() > 100 && stock.stores.len() > 1);
        let range = (stock.days[0].date.to_string(), stock.days[stock.days.len() - 1].date.to_string());
        assert_eq!(range, ("1998-01-01".to_owned(), "2003-12-31".to_owned()));
        assert_eq!(stock.days.len(), 6 * 365 + 1);
        assert!(stock.customers.iter().any(|customer| customer.email.is_none()), "NULLs are kept");
    }

    #[test]
    fn a_sale_date_is_converted_from_its_julian_day() {
        let at = sold_at(Some(2_451_813), Some(3_600)).unwrap();
        assert_eq!(at.to_string(), "2000-09-25T01:00:00Z");
    }
}
