//! Rows as JSON objects, keyed by column. Values are exact, and equal rows give equal text, whichever engine
//! wrote them.
//!
//! Timestamps are ISO 8601 with microseconds, and end with `Z` if the type has a zone. Dates are
//! `YYYY-MM-DD`. Decimals are strings with their scale. Binary values are base64. Lists, maps and structs are
//! arrays and objects. NULL is `null`. NaN and the infinities are strings.

use std::fmt::Write;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    datatypes::{
        DataType, Date32Type, Decimal128Type, Fields, Float32Type, Float64Type, Int32Type, Int64Type,
        TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
        TimestampSecondType, UInt64Type,
    },
    util::display::{ArrayFormatter, FormatOptions},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;

/// Writes a row as an object on one line, without a line break.
pub(super) fn write_row(out: &mut String, batch: &RecordBatch, row: usize) {
    write_members(out, batch.schema_ref().fields(), batch.columns(), row);
}

/// Writes a row of columns, from a batch or the members of a struct, as an object.
fn write_members(out: &mut String, fields: &Fields, columns: &[ArrayRef], row: usize) {
    out.push('{');
    for (index, (field, column)) in fields.iter().zip(columns).enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_text(out, field.name());
        out.push(':');
        write_value(out, column, row);
    }
    out.push('}');
}

/// Writes a value as JSON.
pub(super) fn write_value(out: &mut String, column: &ArrayRef, row: usize) {
    if column.is_null(row) {
        out.push_str("null");
        return;
    }
    // Writing to a String cannot fail.
    match column.data_type() {
        DataType::Boolean => out.push_str(if column.as_boolean().value(row) { "true" } else { "false" }),
        DataType::Int32 => {
            let _ = write!(out, "{}", column.as_primitive::<Int32Type>().value(row));
        }
        DataType::Int64 => {
            let _ = write!(out, "{}", column.as_primitive::<Int64Type>().value(row));
        }
        DataType::UInt64 => {
            let _ = write!(out, "{}", column.as_primitive::<UInt64Type>().value(row));
        }
        DataType::Float32 => {
            let value = column.as_primitive::<Float32Type>().value(row);
            write_float(out, value.is_finite().then_some(value), f64::from(value));
        }
        DataType::Float64 => {
            let value = column.as_primitive::<Float64Type>().value(row);
            write_float(out, value.is_finite().then_some(value), value);
        }
        DataType::Utf8 => write_text(out, column.as_string::<i32>().value(row)),
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            out.push('[');
            for item in 0..items.len() {
                if item > 0 {
                    out.push(',');
                }
                write_value(out, &items, item);
            }
            out.push(']');
        }
        DataType::Map(..) => {
            let entries = column.as_map().value(row);
            out.push('{');
            for entry in 0..entries.len() {
                if entry > 0 {
                    out.push(',');
                }
                write_text(out, &plain(entries.column(0), entry));
                out.push(':');
                write_value(out, entries.column(1), entry);
            }
            out.push('}');
        }
        DataType::Struct(fields) => write_members(out, fields, column.as_struct().columns(), row),
        _ => write_text(out, &plain(column, row)),
    }
}

/// Formats a value as text without quotes, for CSV and human-readable tables. NULL gives an empty string.
pub(super) fn plain(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return String::new();
    }
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row).to_owned(),
        DataType::Date32 => date(i64::from(column.as_primitive::<Date32Type>().value(row))),
        DataType::Timestamp(unit, zone) => {
            let (number, nanos) = match unit {
                TimeUnit::Second => (column.as_primitive::<TimestampSecondType>().value(row), 1_000_000_000),
                TimeUnit::Millisecond => {
                    (column.as_primitive::<TimestampMillisecondType>().value(row), 1_000_000)
                }
                TimeUnit::Microsecond => {
                    (column.as_primitive::<TimestampMicrosecondType>().value(row), 1_000)
                }
                TimeUnit::Nanosecond => (column.as_primitive::<TimestampNanosecondType>().value(row), 1),
            };
            let nanos = i128::from(number) * nanos;
            let mut text = timestamp(nanos.div_euclid(1_000));
            // Tables never contain nanoseconds, but facts may.
            if nanos % 1_000 != 0 {
                let _ = write!(text, "{:03}", nanos.rem_euclid(1_000));
            }
            if zone.is_some() {
                text.push('Z');
            }
            text
        }
        DataType::Decimal128(_, scale) => {
            decimal(column.as_primitive::<Decimal128Type>().value(row), (*scale).max(0).unsigned_abs())
        }
        DataType::Binary => STANDARD.encode(column.as_binary::<i32>().value(row)),
        DataType::Boolean
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::List(_)
        | DataType::Map(..)
        | DataType::Struct(_) => {
            let mut out = String::new();
            write_value(&mut out, column, row);
            match out.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
                Some(not_finite) => not_finite.to_owned(),
                None => out,
            }
        }
        _ => displayed(column, row),
    }
}

/// Formats a value of a type that tables do not support, but facts may have.
fn displayed(column: &ArrayRef, row: usize) -> String {
    ArrayFormatter::try_new(column, &FormatOptions::default())
        .map_or_else(|error| error.to_string(), |formatter| formatter.value(row).to_string())
}

fn write_text(out: &mut String, text: &str) {
    push_json(out, text);
}

fn write_float<T: Serialize>(out: &mut String, finite: Option<T>, value: f64) {
    match finite {
        Some(finite) => push_json(out, &finite),
        None if value.is_nan() => out.push_str(r#""NaN""#),
        None if value > 0.0 => out.push_str(r#""Infinity""#),
        None => out.push_str(r#""-Infinity""#),
    }
}

/// Writes strings and finite numbers, which JSON can always represent.
fn push_json<T: Serialize + ?Sized>(out: &mut String, value: &T) {
    if let Ok(text) = serde_json::to_string(value) {
        out.push_str(&text);
    }
}

fn decimal(unscaled: i128, scale: u8) -> String {
    let scale = usize::from(scale);
    let digits = unscaled.unsigned_abs().to_string();
    let sign = if unscaled < 0 { "-" } else { "" };
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

const MICROS_PER_DAY: i128 = 86_400_000_000;

fn timestamp(micros: i128) -> String {
    let (days, rest) = (micros.div_euclid(MICROS_PER_DAY), micros.rem_euclid(MICROS_PER_DAY));
    let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
    let date = date(i64::try_from(days).unwrap_or(i64::MAX));
    format!("{date}T{:02}:{:02}:{:02}.{fraction:06}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Returns the calendar date of a day, counted from 1970. Accepts any day that a column can hold, including
/// years with five digits.
///
/// The calendar repeats every 400 years, which have 146,097 days. If years start in March, leap days are the
/// last days of a year.
fn date(days: i64) -> String {
    let shifted = i128::from(days) + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year_of_era + next;
    match year {
        0..=9999 => format!("{year:04}-{month:02}-{day:02}"),
        _ => format!("{year:+05}-{month:02}-{day:02}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BinaryArray, Date32Array, Decimal128Array, Float32Array, Float64Array, MapBuilder, StringArray,
        StringBuilder, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
        UInt64Array,
    };

    use super::*;

    #[test]
    fn every_type_has_one_form() {
        let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        map.keys().append_value("k");
        map.values().append_null();
        map.append(true).unwrap();
        let decimal = Decimal128Array::from(vec![-7]).with_precision_and_scale(10, 2).unwrap();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("text", Arc::new(StringArray::from(vec!["a\"b\n"]))),
            ("null", Arc::new(StringArray::from(vec![None::<&str>]))),
            ("zoned", Arc::new(TimestampMicrosecondArray::from(vec![-1]).with_timezone("UTC"))),
            ("local", Arc::new(TimestampMillisecondArray::from(vec![1_500]))),
            ("whole", Arc::new(TimestampNanosecondArray::from(vec![-1_000]).with_timezone("Europe/Berlin"))),
            ("nanos", Arc::new(TimestampNanosecondArray::from(vec![-1]))),
            ("large", Arc::new(UInt64Array::from(vec![u64::MAX]))),
            ("date", Arc::new(Date32Array::from(vec![20_090]))),
            ("money", Arc::new(decimal)),
            ("bytes", Arc::new(BinaryArray::from(vec![&b"\xff\x00"[..]]))),
            ("single", Arc::new(Float32Array::from(vec![0.1]))),
            ("nan", Arc::new(Float64Array::from(vec![f64::NAN]))),
            ("map", Arc::new(map.finish())),
        ];
        let expected = concat!(
            r#"{"text":"a\"b\n","null":null,"zoned":"1969-12-31T23:59:59.999999Z","#,
            r#""local":"1970-01-01T00:00:01.500000","whole":"1969-12-31T23:59:59.999999Z","#,
            r#""nanos":"1969-12-31T23:59:59.999999999","large":18446744073709551615,"date":"2025-01-02","money":"-0.07","bytes":"/wA=","#,
            r#""single":0.1,"nan":"NaN","map":{"k":null}}"#
        );
        let mut line = String::new();
        write_row(&mut line, &RecordBatch::try_from_iter(columns).unwrap(), 0);
        assert_eq!(line, expected);
    }

    #[test]
    fn dates_of_any_year() {
        for (days, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (11_016, "2000-02-29"),
            (-719_162, "0001-01-01"),
            (2_932_896, "9999-12-31"),
            (2_932_897, "+10000-01-01"),
            (-719_529, "-0001-12-31"),
        ] {
            assert_eq!(date(days), text);
        }
        assert!(timestamp(i128::from(i64::MIN)).starts_with("-29"));
    }
}
