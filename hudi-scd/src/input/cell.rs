//! [`Cell`]: a value in a text file, and its conversion to a table's type, which is exact or fails.

use std::{borrow::Cow, str::FromStr};

use arrow::datatypes::TimeUnit;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp, civil};
use serde_json::value::RawValue;

/// A value in a text file.
#[derive(Clone, Debug)]
pub(super) enum Cell<'a> {
    Null,
    Bool(bool),
    /// The digits as written. If JSON numbers were parsed as doubles, decimals would lose digits.
    Number(&'a str),
    Text(Cow<'a, str>),
    /// A JSON array or object.
    Nested(&'a RawValue),
}

/// The reason why a conversion failed. File, line and column are added later.
pub(super) type Refusal = String;

impl<'a> Cell<'a> {
    pub(super) fn of_json(raw: &'a RawValue) -> Result<Self, Refusal> {
        let text = raw.get();
        Ok(match text.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'[' | b'{') => Self::Nested(raw),
            Some(b'"') => {
                let inner = &text[1..text.len() - 1];
                if inner.contains('\\') {
                    Self::Text(Cow::Owned(serde_json::from_str(text).map_err(|error| error.to_string())?))
                } else {
                    Self::Text(Cow::Borrowed(inner))
                }
            }
            _ => Self::Number(text),
        })
    }

    /// Returns the text of a scalar value.
    pub(super) fn text(&self) -> Result<&str, Refusal> {
        match self {
            Self::Null => Ok(""),
            Self::Bool(true) => Ok("true"),
            Self::Bool(false) => Ok("false"),
            Self::Number(text) => Ok(text),
            Self::Text(text) => Ok(text),
            Self::Nested(_) => Err("an array or object instead of a single value".to_owned()),
        }
    }

    pub(super) fn boolean(&self) -> Result<bool, Refusal> {
        match self.text()? {
            "1" => Ok(true),
            "0" => Ok(false),
            text if text.eq_ignore_ascii_case("true") => Ok(true),
            text if text.eq_ignore_ascii_case("false") => Ok(false),
            text => Err(format!("{text:?} is neither true nor false")),
        }
    }

    pub(super) fn integer(&self) -> Result<i64, Refusal> {
        let text = self.text()?;
        if let Ok(number) = text.parse() {
            return Ok(number);
        }
        // `12.0` and `1e3` are integers too.
        let number = exact(text, 0).ok_or_else(|| format!("{text:?} is not an integer"))?;
        i64::try_from(number).map_err(|_| format!("{text} is too large for 64 bits"))
    }

    /// Returns the nearest number of the type. Returns an error if that would be infinite.
    pub(super) fn float<T: FromStr + Into<f64> + Copy>(&self) -> Result<T, Refusal> {
        let text = self.text()?;
        let number: T = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
        if number.into().is_infinite() && text.contains(|c: char| c.is_ascii_digit()) {
            return Err(format!("{text} is too large for the type of the column"));
        }
        Ok(number)
    }

    pub(super) fn decimal(&self, precision: u8, scale: i8) -> Result<i128, Refusal> {
        let text = self.text()?;
        let unfit = || format!("{text:?} does not fit decimal({precision},{scale}) exactly");
        let number = exact(text, i32::from(scale)).ok_or_else(unfit)?;
        let limit = 10_u128.checked_pow(u32::from(precision)).unwrap_or(u128::MAX);
        if number.unsigned_abs() < limit { Ok(number) } else { Err(unfit()) }
    }

    pub(super) fn binary(&self) -> Result<Vec<u8>, Refusal> {
        STANDARD.decode(self.text()?).map_err(|error| format!("not base64: {error}"))
    }

    /// Returns the days since 1970.
    pub(super) fn date(&self) -> Result<i32, Refusal> {
        let text = self.text()?;
        let date = parse_date(text).ok_or_else(|| format!("{text:?} is not a date such as 2025-03-01"))?;
        let days = date.since(civil::date(1970, 1, 1)).map_err(|error| error.to_string())?;
        Ok(days.get_days())
    }

    /// Returns the number that represents a timestamp in its unit. If the type has a zone, the number stands
    /// for the instant (text without a zone is in UTC), otherwise for the local time. A number is rejected,
    /// because its unit is unknown: milliseconds read as microseconds would be a day in January 1970.
    pub(super) fn timestamp(&self, unit: TimeUnit, zoned: bool) -> Result<i64, Refusal> {
        let text = self.text()?;
        let nanos = match (parse_instant(text), zoned) {
            (Some(instant), true) => instant,
            (Some(_), false) => {
                return Err(format!("{text:?} has a zone, but the column's type does not"));
            }
            (None, _) => parse_clock(text)
                .map(since_1970)
                .ok_or_else(|| format!("{text:?} is not a timestamp such as 2025-03-01T12:30:00.5Z"))?,
        }
        .as_nanos();
        let (per_unit, name) = match unit {
            TimeUnit::Second => (1_000_000_000, "seconds"),
            TimeUnit::Millisecond => (1_000_000, "milliseconds"),
            TimeUnit::Microsecond => (1_000, "microseconds"),
            TimeUnit::Nanosecond => (1, "nanoseconds"),
        };
        if nanos % per_unit != 0 {
            return Err(format!("{text:?} is more precise than the {name} of the column"));
        }
        i64::try_from(nanos / per_unit).map_err(|_| format!("{text:?} is out of range"))
    }
}

pub(super) fn parse_date(text: &str) -> Option<civil::Date> {
    let shape = text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    if shape { text.parse().ok() } else { None }
}

/// Parses text with an offset, as the time since 1970. The end of the year 9999, which often means "for
/// ever", is accepted although it exceeds jiff's `Timestamp`.
pub(super) fn parse_instant(text: &str) -> Option<SignedDuration> {
    let (clock, offset) = text.split_at(text.rfind(['Z', 'z', '+', '-']).filter(|at| *at > 10)?);
    let zone = match offset {
        "Z" | "z" => SignedDuration::ZERO,
        _ if offset.contains('[') => return None,
        _ => {
            let midnight: Timestamp = format!("1970-01-01T00:00:00{offset}").parse().ok()?;
            midnight.duration_since(Timestamp::UNIX_EPOCH)
        }
    };
    parse_clock(clock).map(|time| since_1970(time) + zone)
}

fn since_1970(time: civil::DateTime) -> SignedDuration {
    time.duration_since(civil::date(1970, 1, 1).at(0, 0, 0, 0))
}

/// Parses text without a zone.
pub(super) fn parse_clock(text: &str) -> Option<civil::DateTime> {
    // A sign or a zone directly after the date would be ignored instead of rejected.
    let (date, time) = text.split_at_checked(10)?;
    let plain = time.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'T' | b' ' | b':' | b'.'));
    if plain && parse_date(date).is_some() { text.parse().ok() } else { None }
}

/// Parses a decimal number as an integer multiple of `10^-scale`. Returns `None` if it is invalid, too large,
/// or has more digits.
fn exact(text: &str, scale: i32) -> Option<i128> {
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match number.as_bytes().first()? {
        b'-' => (true, &number[1..]),
        b'+' => (false, &number[1..]),
        _ => (false, number),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = || whole.bytes().chain(fraction.bytes());
    if all().next().is_none() || !all().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let mut unscaled: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        unscaled = unscaled.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    let mut shift = scale.checked_add(exponent)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    while shift < 0 && unscaled != 0 {
        if unscaled % 10 != 0 {
            return None;
        }
        unscaled /= 10;
        shift += 1;
    }
    if unscaled != 0 {
        unscaled = unscaled.checked_mul(10_i128.checked_pow(u32::try_from(shift).ok()?)?)?;
    }
    Some(if negative { -unscaled } else { unscaled })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Cell<'_> {
        Cell::Text(text.into())
    }

    #[test]
    fn decimals_are_exact_or_refused() {
        let as_money = |value: &str| text(value).decimal(18, 2).ok();
        assert_eq!(as_money("12.30"), Some(1230));
        assert_eq!(as_money("-0.07"), Some(-7));
        assert_eq!(as_money("1e3"), Some(100_000));
        assert_eq!(as_money("12.3000"), Some(1230));
        assert_eq!(as_money("9999999999999999.99"), Some(999_999_999_999_999_999));
        for refused in ["12.345", "10000000000000000", "", "-", ".", "1.2.3", "0x1", "1e999999999", "NaN"] {
            assert_eq!(as_money(refused), None, "{refused}");
        }
        let widest = "99999999999999999999999999999999999999";
        assert_eq!(text(widest).decimal(38, 0), Ok(widest.parse().unwrap()));
    }

    #[test]
    fn whole_numbers_may_be_written_as_others_write_them() {
        assert_eq!(text("12.0").integer(), Ok(12));
        assert_eq!(text("-9223372036854775808").integer(), Ok(i64::MIN));
        assert!(text("9223372036854775808").integer().is_err());
        assert!(text("1.5").integer().is_err());
    }

    #[test]
    fn timestamps_with_and_without_a_zone() {
        let micros = |value: &str, zoned| text(value).timestamp(TimeUnit::Microsecond, zoned);
        assert_eq!(micros("1970-01-01T00:00:01.000001Z", true), Ok(1_000_001));
        assert_eq!(micros("1970-01-01 02:00:01+02:00", true), Ok(1_000_000));
        assert_eq!(micros("1970-01-01T00:00:01", true), Ok(1_000_000), "UTC by default");
        assert_eq!(micros("1970-01-02", false), Ok(86_400_000_000));
        assert!(micros("1970-01-01T00:00:01Z", false).unwrap_err().contains("zone"));
        assert!(micros("1970-01-01T00:00:00.0000001Z", true).unwrap_err().contains("more precise"));
        for refused in ["", "yesterday", "1970-13-01", "1970-01-01T25:00:00", "1970-01-01T00:00:00 Berlin"] {
            assert!(micros(refused, true).is_err(), "{refused}");
        }
        for (number, unit) in [("17", TimeUnit::Microsecond), ("1720631224939", TimeUnit::Millisecond)] {
            let refusal = Cell::Number(number).timestamp(unit, true).unwrap_err();
            assert!(refusal.contains("is not a timestamp"), "{refusal}");
        }
    }

    #[test]
    fn timestamps_reach_the_ends_of_four_digit_years() {
        let micros = |value: &str| text(value).timestamp(TimeUnit::Microsecond, true);
        let last = 253_402_300_799_999_999;
        assert_eq!(micros("9999-12-31T23:59:59.999999Z"), Ok(last), "often used for: for ever");
        assert_eq!(micros("9999-12-31T23:59:59.999999"), Ok(last));
        assert_eq!(micros("9999-12-31T23:59:59.999999-05:30"), Ok(last + 19_800_000_000));
        assert_eq!(micros("0001-01-01T00:00:00z"), Ok(-62_135_596_800_000_000));
        for refused in
            ["2025-01-01Z", "2025-01-01T00:00:00+", "2025-01-01T00:00:00+2:00", "2025-01-01T00:00:00Z[UTC]"]
        {
            assert!(micros(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_number_that_is_too_large_is_not_infinite() {
        assert_eq!(text("-Infinity").float(), Ok(f64::NEG_INFINITY));
        assert_eq!(text("1e308").float(), Ok(1e308));
        assert!(text("1e309").float::<f64>().unwrap_err().contains("too large"));
        assert!(text("1e39").float::<f32>().unwrap_err().contains("too large"));
    }

    #[test]
    fn dates_are_days() {
        assert_eq!(text("1970-01-11").date(), Ok(10));
        assert_eq!(text("1969-12-31").date(), Ok(-1));
        for refused in ["1970-1-1", "01/02/1970", "1970-02-30", "1970-01-01T00:00:00"] {
            assert!(text(refused).date().is_err(), "{refused}");
        }
    }
}
