//! Parses values in the format in which the database prints them, without loss.

/// Parses a decimal of at most `precision` digits, `scale` of them after the point, and returns its value
/// times 10^`scale`. The value is never rounded: digits beyond the scale must be zero.
pub(super) fn decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (is_negative, digits) = match text.as_bytes() {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let digits = without_surplus(digits, scale);
    // For speed, up to 18 digits at a time are accumulated in 64 bits.
    let (mut value, mut part, mut in_part) = (0_i128, 0_u64, 0_u32);
    let (mut behind, mut has_point, mut has_digit, mut exponent) = (0_i32, false, false, 0_i32);
    for (at, byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                if in_part == 18 {
                    value = joined(value, part, in_part)?;
                    (part, in_part) = (0, 0);
                }
                part = part * 10 + u64::from(byte - b'0');
                in_part += 1;
                has_digit = true;
                behind += i32::from(has_point);
            }
            b'.' if !has_point => has_point = true,
            // Some JVM drivers print zero as `0E-10`.
            b'e' | b'E' if has_digit => {
                exponent = std::str::from_utf8(&digits[at + 1..]).ok()?.parse::<i16>().ok()?.into();
                break;
            }
            _ => return None,
        }
    }
    let mut value = joined(value, part, in_part)?;
    if !has_digit || value == 0 {
        return has_digit.then_some(0);
    }
    let mut missing = i32::from(scale) - (behind - exponent);
    while missing < 0 && value % 10 == 0 {
        (value, missing) = (value / 10, missing + 1);
    }
    let value = value.checked_mul(10_i128.checked_pow(missing.try_into().ok()?)?)?;
    let is_within = value < 10_i128.checked_pow(precision.into())?;
    is_within.then_some(if is_negative { -value } else { value })
}

/// Removes trailing zeros of a fraction that has more digits than the scale.
fn without_surplus(digits: &[u8], scale: i8) -> &[u8] {
    let fraction = digits.iter().position(|byte| *byte == b'.').map_or(0, |point| digits.len() - point - 1);
    let is_plain = |digits: &[u8]| digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'.'));
    if fraction <= usize::try_from(scale).unwrap_or(0) || !is_plain(digits) {
        return digits;
    }
    let surplus = digits.iter().rev().take(fraction).take_while(|byte| **byte == b'0').count();
    // The point and one digit of `.000` are kept.
    &digits[..digits.len() - surplus.min(digits.len() - 2)]
}

/// Appends `digits` decimal digits, whose value is `part`, to a number.
fn joined(value: i128, part: u64, digits: u32) -> Option<i128> {
    match value {
        0 => Some(part.into()),
        value => value.checked_mul(10_i128.pow(digits))?.checked_add(part.into()),
    }
}

/// Parses `true`, `t` or `1`, and their opposites.
pub(super) fn boolean(text: &str) -> Option<bool> {
    const TRUE: [&str; 3] = ["t", "true", "1"];
    const FALSE: [&str; 3] = ["f", "false", "0"];
    let is = |words: [&str; 3]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(TRUE) { Some(true) } else { is(FALSE).then_some(false) }
}

/// Parses bytes from hexadecimal digits, with or without PostgreSQL's prefix `\x`.
pub(super) fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x").unwrap_or(text).as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect()
}

/// Parses a date such as `2026-11-23` and returns the days since 1970-01-01. A date before the year 1 ends
/// with ` BC`.
pub(super) fn date(text: &str) -> Option<i32> {
    let (day, rest) = days(text.as_bytes())?;
    let days = match rest {
        b"" => day.number(false)?,
        b" BC" => day.number(true)?,
        _ => return None,
    };
    i32::try_from(days).ok()
}

/// Parses a time such as `13:14:15.123456` and returns the microseconds since midnight.
pub(super) fn time(text: &str) -> Option<i64> {
    match clock(text.as_bytes())? {
        (micros, b"") => Some(micros),
        _ => None,
    }
}

/// Parses a timestamp such as `2026-11-23 13:14:15.123456` and returns the microseconds since 1970-01-01.
/// With `has_zone`, the text must contain an offset from UTC, such as `+00` or `-03:30`.
pub(super) fn timestamp(text: &str, has_zone: bool) -> Option<i64> {
    let (day, rest) = days(text.as_bytes())?;
    let [b' ' | b'T', rest @ ..] = rest else { return None };
    let (micros, rest) = clock(rest)?;
    let (east, rest) = if has_zone { offset(rest)? } else { (0, rest) };
    let days = match rest {
        b"" => day.number(false)?,
        b" BC" => day.number(true)?,
        _ => return None,
    };
    days.checked_mul(86_400_000_000)?.checked_add(micros)?.checked_sub(east * 1_000_000)
}

/// Date in the proleptic Gregorian calendar. Months and days are numbered from 1.
struct Day {
    year: i64,
    month: i64,
    day: i64,
}

impl Day {
    /// Returns the days since 1970-01-01. The year before 1 AD is 1 BC.
    fn number(&self, is_bc: bool) -> Option<i64> {
        let year = if is_bc { 1 - self.year } else { self.year };
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = match self.month {
            2 => 28 + i64::from(is_leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        if self.year == 0 || !(1..=length).contains(&self.day) {
            return None;
        }
        // Counts years from March, so that a leap day is the last day of its year. An era has 400 years.
        let year = year - i64::from(self.month <= 2);
        let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let of_year = (153 * ((self.month + 9) % 12) + 2) / 5 + self.day - 1;
        Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
    }
}

fn days(text: &[u8]) -> Option<(Day, &[u8])> {
    let (year, rest) = number(text, 4, 6)?;
    let [b'-', rest @ ..] = rest else { return None };
    let (month, rest) = number(rest, 2, 2)?;
    let [b'-', rest @ ..] = rest else { return None };
    let (day, rest) = number(rest, 2, 2)?;
    Some((Day { year, month, day }, rest))
}

/// Parses a time such as `13:14:15.123456`, with at most six digits after the point, and returns its
/// microseconds and the rest of the text. `24:00:00`, the end of the day, is valid.
fn clock(text: &[u8]) -> Option<(i64, &[u8])> {
    let (hours, rest) = number(text, 2, 2)?;
    let [b':', rest @ ..] = rest else { return None };
    let (minutes, rest) = number(rest, 2, 2)?;
    let [b':', rest @ ..] = rest else { return None };
    let (seconds, rest) = number(rest, 2, 2)?;
    let (fraction, rest) = match rest {
        [b'.', digits @ ..] => {
            let (fraction, rest) = number(digits, 1, 6)?;
            (fraction * 10_i64.pow(6 - (digits.len() - rest.len()) as u32), rest)
        }
        rest => (0, rest),
    };
    let micros = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + fraction;
    (minutes < 60 && seconds < 60 && micros <= 86_400_000_000).then_some((micros, rest))
}

/// Parses an offset such as `+02`, `+02:30`, `+0230`, `-00:25:21` or `Z`. Returns the seconds east of UTC and
/// the rest of the text.
fn offset(text: &[u8]) -> Option<(i64, &[u8])> {
    let (sign, rest) = match text {
        [b'Z', rest @ ..] => return Some((0, rest)),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (mut seconds, mut rest) = number(rest, 2, 2).map(|(hours, rest)| (hours * 3_600, rest))?;
    for unit in [60, 1] {
        let digits = rest.strip_prefix(b":").unwrap_or(rest);
        let Some((part, behind)) = number(digits, 2, 2) else { break };
        (seconds, rest) = (seconds + part * unit, behind);
    }
    Some((sign * seconds, rest))
}

/// Parses a number of `least` to `most` digits at the beginning of a text, and returns the rest of the text.
fn number(text: &[u8], least: usize, most: usize) -> Option<(i64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).take(most).count();
    let value = text[..digits].iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    (digits >= least).then_some((value, &text[digits..]))
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, civil};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_are_parsed_exactly() {
        assert_eq!(decimal("1.50", 5, 2), Some(150));
        assert_eq!(decimal("-0.01", 5, 2), Some(-1));
        assert_eq!(decimal("7", 5, 2), Some(700));
        assert_eq!(decimal(".5", 5, 2), Some(50));
        assert_eq!(decimal("100000", 6, 0), Some(100_000));
        assert_eq!(decimal("1.5000000", 5, 2), Some(150), "zeros beyond the scale change nothing");
        assert_eq!(decimal("0E-10", 18, 10), Some(0));
        assert_eq!(decimal("1.5E+3", 18, 2), Some(150_000));
        let most = "9".repeat(38);
        assert_eq!(decimal(&most, 38, 0), Some(10_i128.pow(38) - 1));
        assert_eq!(decimal(&format!("-{most}"), 38, 0), Some(1 - 10_i128.pow(38)));
        assert_eq!(decimal(&format!("0.{most}"), 38, 38), Some(10_i128.pow(38) - 1));
    }

    #[test]
    fn no_decimal_is_rounded_or_cut() {
        let too_long = "9".repeat(39);
        for text in ["1.505", "1000.00", "", "-", ".", "1.5.0", "1,5", "NaN", "0x1", " 1", "1E", &too_long] {
            assert_eq!(decimal(text, 5, 2), None, "{text:?}");
        }
        assert_eq!(decimal("1E99999", 38, 0), None);
        assert_eq!(decimal(&format!("1{}", "0".repeat(70_000)), 38, 0), None);
    }

    #[test]
    fn booleans_and_bytes_have_the_spellings_of_their_writers() {
        assert_eq!(["t", "true", "1", "TRUE"].map(boolean), [Some(true); 4]);
        assert_eq!(["f", "false", "0"].map(boolean), [Some(false); 3]);
        assert_eq!(["", "yes", "tr"].map(boolean), [None; 3]);
        assert_eq!(bytes("00fF"), Some(vec![0, 255]));
        assert_eq!(bytes("\\x00ff"), Some(vec![0, 255]));
        assert_eq!(["0", "0g", "00 "].map(bytes), [const { None }; 3]);
    }

    #[test]
    fn timestamps_are_exact_to_the_microsecond() {
        let day = 20_780 * 86_400_000_000_i64;
        assert_eq!(date("2026-11-23"), Some(20_780));
        assert_eq!(time("13:14:15.123456"), Some(47_655_123_456));
        assert_eq!(time("24:00:00"), Some(86_400_000_000));
        assert_eq!(timestamp("2026-11-23 00:00:00.5", false), Some(day + 500_000));
        assert_eq!(timestamp("2026-11-23 02:00:00+02", true), Some(day));
        assert_eq!(timestamp("2026-11-22 20:30:00.000001-03:30", true), Some(day + 1));
        assert_eq!(timestamp("1800-01-01 00:00:00-00:25:21", true), timestamp("1800-01-01 00:25:21", false));
        assert_eq!(date("0001-12-31 BC"), date("0001-01-01").map(|day| day - 1));
        assert_eq!(date("4713-01-01 BC"), Some(-2_440_550), "54 days after Redshift's first day");
        assert_eq!(timestamp("294247-01-10 04:00:54.775807", false), Some(i64::MAX));
        assert_eq!(
            timestamp("294276-12-31 23:59:59.999999", false),
            None,
            "the last year of Redshift is out of range"
        );
    }

    #[test]
    fn rejects_invalid_dates_and_times() {
        for text in ["infinity", "2026-13-01", "2026-02-29", "0000-01-01", "2026-1-1", "2026-11-23x", ""] {
            assert_eq!(date(text), None, "{text:?}");
        }
        for text in ["25:00:00", "24:00:01", "23:60:00", "23:00", "12:00:00.1234567", "12:00:00."] {
            assert_eq!(time(text), None, "{text:?}");
        }
        assert_eq!(timestamp("2026-11-23 00:00:00", true), None, "no zone");
        assert_eq!(timestamp("2026-11-23 00:00:00+00", false), None, "a zone");
        assert_eq!(timestamp("2026-11-23", false), None);
    }

    proptest! {
        #[test]
        fn every_timestamp_is_parsed_as_jiff_prints_it(
            micros in -62_135_596_800_000_000_i64..253_402_207_200_000_000,
        ) {
            let printed = Timestamp::from_microsecond(micros).unwrap().to_string();
            prop_assert_eq!(timestamp(&printed, true), Some(micros));
            let plain = printed.trim_end_matches('Z').replace('T', " ");
            prop_assert_eq!(timestamp(&plain, false), Some(micros));
        }

        #[test]
        fn every_date_is_parsed_as_jiff_counts_it(
            year in 1_i16..9_999, month in 1_i8..13, day in 1_i8..32,
        ) {
            let date = civil::Date::new(year, month, day).ok();
            let days = date.map(|date| civil::date(1970, 1, 1).until(date).unwrap().get_days());
            prop_assert_eq!(super::date(&format!("{year:04}-{month:02}-{day:02}")), days);
        }

        #[test]
        fn every_decimal_is_read_back(value in any::<i64>(), scale in 0_i8..19) {
            let digits = format!("{:0width$}", value.unsigned_abs(), width = usize::from(scale.unsigned_abs()) + 1);
            let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale.unsigned_abs()));
            let sign = if value < 0 { "-" } else { "" };
            let point = if scale > 0 { "." } else { "" };
            prop_assert_eq!(decimal(&format!("{sign}{whole}{point}{fraction}"), 38, scale), Some(value.into()));
        }

        #[test]
        fn no_text_causes_a_panic_in_a_parser(text in "\\PC{0,24}|[-+0-9:. TZBCEe]{0,40}") {
            let _ = (decimal(&text, 38, 10), boolean(&text), bytes(&text), date(&text), time(&text));
            let _ = (timestamp(&text, true), timestamp(&text, false));
        }
    }
}
