//! [`Guess`]: the type of a column that no schema defines, inferred from its values.

use std::{collections::BTreeMap, sync::Arc};

use crate::schema::{IS_DELETED_COLUMN, list_of};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use serde_json::value::RawValue;

use super::cell::{Cell, parse_clock, parse_date, parse_instant};

/// The narrowest type that can represent all values so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Guess {
    /// Only nulls.
    #[default]
    Nothing,
    Bool,
    Int,
    Float,
    Date,
    Timestamp,
    Text,
    List(Box<Guess>),
    /// Fields in order of appearance.
    Struct(Vec<(String, Guess)>),
}

impl Guess {
    /// Guesses the type of a JSON value: its JSON type or, for a string, possibly a date or a timestamp.
    pub(super) fn of_json(cell: &Cell<'_>) -> Self {
        match cell {
            Cell::Null => Self::Nothing,
            Cell::Bool(_) => Self::Bool,
            Cell::Number(text) => Self::of_number(text),
            Cell::Text(text) => Self::of_time(text).unwrap_or(Self::Text),
            Cell::Nested(raw) => Self::of_nested(raw),
        }
    }

    /// Guesses the type of a CSV value.
    pub(super) fn of_text(text: &str) -> Self {
        if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") {
            return Self::Bool;
        }
        let digits = text.strip_prefix('-').unwrap_or(text);
        let numeric = digits.starts_with(|c: char| c.is_ascii_digit())
            && digits
                .bytes()
                .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'-' | b'+'));
        // A zip code such as 00501.
        let padded = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
        if numeric && !padded && text.parse::<f64>().is_ok() {
            return Self::of_number(text);
        }
        Self::of_time(text).unwrap_or(Self::Text)
    }

    fn of_number(text: &str) -> Self {
        if text.parse::<i64>().is_ok() {
            Self::Int
        } else if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
            // An integer with more than 64 bits. A double would round it.
            Self::Text
        } else {
            Self::Float
        }
    }

    fn of_time(text: &str) -> Option<Self> {
        if parse_date(text).is_some() {
            return Some(Self::Date);
        }
        (text.len() > 10 && (parse_instant(text).is_some() || parse_clock(text).is_some()))
            .then_some(Self::Timestamp)
    }

    fn of_nested(raw: &RawValue) -> Self {
        if let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(raw.get()) {
            let item = items.into_iter().fold(Self::Nothing, |guess, item| guess.or(Self::of_raw(item)));
            return Self::List(Box::new(item));
        }
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
        Self::Struct(members.into_iter().map(|(name, raw)| (name, Self::of_raw(raw))).collect())
    }

    fn of_raw(raw: &RawValue) -> Self {
        Cell::of_json(raw).map_or(Self::Text, |cell| Self::of_json(&cell))
    }

    /// Returns the type that can represent the values of both.
    pub(super) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, other) | (other, Self::Nothing) => other,
            (a, b) if a == b => a,
            (Self::Int, Self::Float) | (Self::Float, Self::Int) => Self::Float,
            (Self::Date, Self::Timestamp) | (Self::Timestamp, Self::Date) => Self::Timestamp,
            (Self::List(a), Self::List(b)) => Self::List(Box::new(a.or(*b))),
            (Self::Struct(mut fields), Self::Struct(others)) => {
                for (name, guess) in others {
                    match fields.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, known)) => *known = std::mem::take(known).or(guess),
                        None => fields.push((name, guess)),
                    }
                }
                Self::Struct(fields)
            }
            _ => Self::Text,
        }
    }

    /// Returns the type of a file's column. A column with only nulls has no type.
    pub(super) fn column_type(&self, name: &str) -> DataType {
        match self {
            Self::Nothing => DataType::Null,
            // Hudi accepts this column only as a boolean.
            _ if name == IS_DELETED_COLUMN => DataType::Boolean,
            _ => self.data_type(),
        }
    }

    /// Returns the type of the table's column. A column with only nulls becomes text.
    pub(super) fn data_type(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some(crate::schema::UTC.into())),
            Self::Nothing | Self::Text => DataType::Utf8,
            Self::List(item) => list_of(item.data_type()),
            Self::Struct(fields) if fields.is_empty() => DataType::Utf8,
            Self::Struct(fields) => {
                let fields = fields.iter().map(|(name, guess)| Field::new(name, guess.data_type(), true));
                DataType::Struct(fields.map(Arc::new).collect::<Fields>())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(values: &[&str]) -> DataType {
        values.iter().fold(Guess::Nothing, |guess, value| guess.or(Guess::of_text(value))).data_type()
    }

    #[test]
    fn the_narrowest_type_that_holds_all_values() {
        let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        assert_eq!(guess(&["1", "-2"]), DataType::Int64);
        assert_eq!(guess(&["1", "2.5"]), DataType::Float64);
        assert_eq!(guess(&["00501", "10001"]), DataType::Utf8, "a zip code is not a number");
        assert_eq!(guess(&["99999999999999999999"]), DataType::Utf8, "more than 64 bits");
        assert_eq!(guess(&["2025-03-01"]), DataType::Date32);
        assert_eq!(guess(&["2025-03-01", "2025-03-01T12:00:00Z"]), micros);
        assert_eq!(guess(&["true", "False"]), DataType::Boolean);
        assert_eq!(guess(&["true", "1"]), DataType::Utf8);
        assert_eq!(guess(&[]), DataType::Utf8);
        assert_eq!(guess(&["inf", "nan"]), DataType::Utf8);
    }

    #[test]
    fn nested_values_are_looked_into() {
        let of = |json: &str| {
            let raw: &RawValue = serde_json::from_str(json).unwrap();
            Guess::of_json(&Cell::of_json(raw).unwrap())
        };
        let both = of(r#"[{"a": 1}]"#).or(of(r#"[{"a": 1.5, "b": null}]"#)).data_type();
        let fields = vec![Field::new("a", DataType::Float64, true), Field::new("b", DataType::Utf8, true)];
        assert_eq!(both, list_of(DataType::Struct(fields.into())));
    }
}
