//! MyStore's entities: customers, addresses, items, stores, days and sales. They are plain values.

use jiff::{Timestamp, civil::Date};
use serde::{Deserialize, Serialize};

/// A customer. The shop's system sends the whole row after every change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Customer {
    pub(crate) id: i64,
    pub(crate) salutation: Option<String>,
    pub(crate) first_name: Option<String>,
    pub(crate) last_name: Option<String>,
    /// Preferred-customer status, whose history is kept (type 2).
    pub(crate) preferred: bool,
    pub(crate) birth_country: Option<String>,
    pub(crate) email: Option<String>,
    /// Id of the customer's address, whose history is kept (type 2).
    pub(crate) address_id: i64,
}

/// An address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Address {
    pub(crate) id: i64,
    pub(crate) street: Option<String>,
    pub(crate) city: Option<String>,
    pub(crate) county: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) zip: Option<String>,
    pub(crate) country: Option<String>,
    pub(crate) location_type: Option<String>,
}

/// An article for sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) id: i64,
    pub(crate) name: Option<String>,
    pub(crate) brand: Option<String>,
    pub(crate) category: Option<String>,
    pub(crate) price: Option<Cents>,
}

/// A shop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Store {
    pub(crate) id: i64,
    pub(crate) name: Option<String>,
    pub(crate) city: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) floor_space: Option<i64>,
}

/// A day of the calendar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Day {
    pub(crate) date: Date,
    pub(crate) name: String,
    pub(crate) quarter: String,
    pub(crate) holiday: bool,
}

/// One line of a sales slip, identified by its ticket and item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sale {
    pub(crate) ticket: i64,
    pub(crate) item_id: i64,
    pub(crate) customer_id: Option<i64>,
    pub(crate) store_id: Option<i64>,
    pub(crate) sold_at: Timestamp,
    pub(crate) quantity: i32,
    pub(crate) net_paid: Cents,
    pub(crate) net_profit: Cents,
}

/// An amount of money in integer cents. Rounding errors in floating-point sums could hide a lost row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Cents(pub(crate) i64);

impl Cents {
    /// Parses a decimal such as `-12.34`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let hundredths: i64 = format!("{fraction:0<2}").get(..2)?.parse().ok()?;
        let rest_is_zero = fraction.bytes().skip(2).all(|digit| digit == b'0');
        let whole: i64 = whole.parse().ok()?;
        rest_is_zero.then_some(Self(sign * (whole * 100 + hundredths)))
    }
}

impl std::ops::AddAssign for Cents {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl std::fmt::Display for Cents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{:02}", self.0.abs() / 100, self.0.abs() % 100)
    }
}

/// A row with a business key.
pub(crate) trait Keyed {
    /// The business key.
    fn key(&self) -> i64;
}

impl Keyed for Customer {
    fn key(&self) -> i64 {
        self.id
    }
}

impl Keyed for Address {
    fn key(&self) -> i64 {
        self.id
    }
}

/// A change reported by a source: the state of a row from `at` on, or its deletion. A change may be sent more
/// than once and may arrive late.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change<T> {
    /// Time of the change in the shop, unique for each key. It is the ordering field of the Hudi tables.
    pub(crate) at: Timestamp,
    /// The row after the change. For a deletion, the row before it.
    pub(crate) row: T,
    /// `true` if the row is deleted at this time.
    pub(crate) deleted: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_parsed_as_it_is_printed() {
        for text in ["0.00", "-0.05", "12.34", "-1200.90"] {
            assert_eq!(Cents::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Cents::parse("7"), Some(Cents(700)));
        assert_eq!(Cents::parse("7.5"), Some(Cents(750)));
        assert_eq!(Cents::parse("7.501"), None);
        assert_eq!(Cents::parse("seven"), None);
    }
}
