//! The proof: compares the warehouse and the lake with the [model](crate::model) row by row, and the catalog
//! with the lake. Reports the first difference.

use std::fmt;

use anyhow::Result;

use crate::{
    changes::Changes,
    lake::Lake,
    model::Model,
    record::{CycleRecord, grouped},
    warehouse::Warehouse,
};

mod catalog;
pub(crate) mod expected;
mod lake;
mod warehouse;

/// Result of the proof.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proof {
    /// Checks that passed.
    pub(crate) checks: Vec<Check>,
    /// First difference: the row, the value found and the expected value.
    pub(crate) failure: Option<String>,
}

/// A check that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) name: String,
    /// Number of compared values.
    pub(crate) compared: u64,
}

impl Proof {
    /// Runs all checks.
    ///
    /// # Errors
    /// Fails if data cannot be read. A difference is not an error, but is returned in
    /// [`failure`](Self::failure).
    pub(crate) async fn of(
        changes: &Changes,
        model: &Model<'_>,
        cycles: &[CycleRecord],
        warehouse: &Warehouse,
        lake: &Lake,
    ) -> Result<Self> {
        let mut proof = Self::default();
        warehouse::check(&mut proof, model, changes, warehouse).await?;
        if proof.failure.is_none() {
            lake::check(&mut proof, changes, model, cycles, lake).await?;
        }
        if proof.failure.is_none() {
            catalog::check(&mut proof, cycles, lake).await?;
        }
        Ok(proof)
    }

    /// Returns the number of compared values.
    pub(crate) fn compared(&self) -> u64 {
        self.checks.iter().map(|check| check.compared).sum()
    }

    /// Compares rows, unless an earlier check has failed.
    fn rows(&mut self, name: &str, expected: Vec<Row>, found: Vec<Row>) {
        if self.failure.is_none() {
            match compare(expected, found) {
                Ok(compared) => self.checks.push(Check { name: name.to_owned(), compared }),
                Err(difference) => self.failure = Some(format!("{name}: {difference}")),
            }
        }
    }

    /// Adds a check of `compared` values, unless an earlier check has failed. The check fails if there is a
    /// `difference`.
    fn holds(&mut self, name: &str, compared: u64, difference: Option<String>) {
        match difference {
            _ if self.failure.is_some() => {}
            None => self.checks.push(Check { name: name.to_owned(), compared }),
            Some(difference) => self.failure = Some(format!("{name}: {difference}")),
        }
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failure {
            None => write!(
                f,
                "proved: {} checks over {} values, nothing lost or done twice",
                self.checks.len(),
                grouped(self.compared())
            ),
            Some(failure) => {
                write!(f, "THE PROOF FAILED after {} passed checks\n{failure}", self.checks.len())
            }
        }
    }
}

/// A row as text: its key and its other columns. NULL is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    key: String,
    columns: Vec<(String, Option<String>)>,
}

impl Row {
    fn new(key: impl Into<String>) -> Self {
        Self { key: key.into(), columns: Vec::new() }
    }

    fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.columns.push((name.to_owned(), Some(value.to_string())));
        self
    }

    fn with_text(mut self, name: &str, value: Option<&String>) -> Self {
        self.columns.push((name.to_owned(), value.cloned()));
        self
    }

    /// Builds rows with these column names. The first `keys` columns form the key.
    fn all(names: &[&str], keys: usize, rows: Vec<Vec<Option<String>>>) -> Vec<Self> {
        rows.into_iter()
            .map(|values| {
                let mut named: Vec<(String, Option<String>)> =
                    names.iter().map(|name| (*name).to_owned()).zip(values).collect();
                let columns = named.split_off(keys);
                Self { key: key_of(&named), columns }
            })
            .collect()
    }

    /// Builds rows from named columns. The columns in `keys` form the key.
    fn named(keys: &[&str], rows: Vec<Vec<(String, Option<String>)>>) -> Vec<Self> {
        rows.into_iter()
            .map(|row| {
                let (key, columns): (Vec<_>, Vec<_>) =
                    row.into_iter().partition(|(name, _)| keys.contains(&name.as_str()));
                Self { key: key_of(&key), columns }
            })
            .collect()
    }
}

fn key_of(named: &[(String, Option<String>)]) -> String {
    let parts: Vec<_> =
        named.iter().map(|(name, value)| format!("{name} {}", value.as_deref().unwrap_or("NULL"))).collect();
    parts.join(", ")
}

/// Compares rows by key. Returns the number of compared values, or the first difference.
fn compare(mut expected: Vec<Row>, mut found: Vec<Row>) -> Result<u64, String> {
    expected.sort_by(|one, other| one.key.cmp(&other.key));
    found.sort_by(|one, other| one.key.cmp(&other.key));
    if let Some(twice) = found.windows(2).find(|pair| pair[0].key == pair[1].key) {
        return Err(format!("the row {} occurs twice", twice[0].key));
    }
    let mut found = found.into_iter().peekable();
    let mut compared = 0;
    for row in expected {
        match found.next_if(|candidate| candidate.key <= row.key) {
            Some(extra) if extra.key != row.key => {
                return Err(format!("the row {} is unexpected", extra.key));
            }
            None => return Err(format!("the row {} is missing", row.key)),
            Some(same) => {
                for (name, must) in &row.columns {
                    let is = same.columns.iter().find(|(known, _)| known == name).map(|(_, value)| value);
                    if is != Some(must) {
                        let text = |value: Option<&String>| {
                            value.map_or("NULL".to_owned(), |text| format!("`{text}`"))
                        };
                        return Err(format!(
                            "in the row {}, {name} is {}, expected {}",
                            row.key,
                            is.map_or("missing".to_owned(), |value| text(value.as_ref())),
                            text(must.as_ref())
                        ));
                    }
                    compared += 1;
                }
                compared += 1;
            }
        }
    }
    match found.next() {
        Some(extra) => Err(format!("the row {} is unexpected", extra.key)),
        None => Ok(compared),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[(&str, &str)]) -> Vec<Row> {
        values
            .iter()
            .map(|(key, value)| Row::new(format!("customer_id {key}")).with("email", value))
            .collect()
    }

    #[test]
    fn equal_rows_in_any_order_pass() {
        assert_eq!(compare(rows(&[("1", "a"), ("2", "b")]), rows(&[("2", "b"), ("1", "a")])), Ok(4));
    }

    #[test]
    fn a_corrupted_row_is_reported_with_its_actual_and_expected_values() {
        let good = rows(&[("1", "a"), ("2", "b"), ("3", "c")]);
        let mut bad = good.clone();
        bad[1].columns[0].1 = Some("x".to_owned());
        assert_eq!(
            compare(good.clone(), bad.clone()).unwrap_err(),
            "in the row customer_id 2, email is `x`, expected `b`"
        );
        bad[1].columns[0].1 = None;
        assert_eq!(compare(good, bad).unwrap_err(), "in the row customer_id 2, email is NULL, expected `b`");
    }

    #[test]
    fn lost_repeated_and_unknown_rows_are_reported() {
        let good = rows(&[("1", "a"), ("2", "b"), ("3", "c")]);
        let fails = |found: &[(&str, &str)]| compare(good.clone(), rows(found)).unwrap_err();
        assert_eq!(fails(&[("1", "a"), ("3", "c")]), "the row customer_id 2 is missing");
        assert_eq!(fails(&[("1", "a"), ("2", "b")]), "the row customer_id 3 is missing");
        assert_eq!(
            fails(&[("1", "a"), ("2", "b"), ("2", "b"), ("3", "c")]),
            "the row customer_id 2 occurs twice"
        );
        assert_eq!(
            fails(&[("1", "a"), ("2", "b"), ("2x", "y"), ("3", "c")]),
            "the row customer_id 2x is unexpected"
        );
        assert_eq!(
            fails(&[("1", "a"), ("2", "b"), ("3", "c"), ("4", "d")]),
            "the row customer_id 4 is unexpected"
        );
    }

    #[test]
    fn later_checks_are_ignored_after_a_failure() {
        let mut proof = Proof::default();
        proof.rows("first", rows(&[("1", "a")]), rows(&[("1", "b")]));
        proof.rows("second", rows(&[("1", "a")]), rows(&[("1", "a")]));
        assert_eq!(proof.checks, []);
        assert!(proof.failure.unwrap().starts_with("first: in the row customer_id 1"));
    }
}
