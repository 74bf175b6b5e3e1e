//! Partition paths by time: Hudi's `TimestampBasedKeyGenerator`, which formats a time by a date pattern.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, ArrayRef, AsArray, StringArray},
    compute::cast,
    datatypes::{DataType, Int64Type},
};
use jiff::{
    Timestamp,
    tz::{Offset, TimeZone},
};

use super::{pattern::Pattern, text::invalid};
use crate::{Error, ErrorKind, Result};

/// The prefixes of the properties of `TimestampBasedKeyGenerator`: the one used since 0.13, and the one
/// before.
pub const TIMESTAMP_PREFIXES: [&str; 2] =
    ["hoodie.keygen.timebased.", "hoodie.deltastreamer.keygen.timebased."];
const TYPE: &str = "timestamp.type";
const UNIT: &str = "timestamp.scalar.time.unit";
const INPUT: &str = "input.dateformat";
const INPUT_DELIMITER: &str = "input.dateformat.list.delimiter.regex";
const INPUT_ZONE: &str = "input.timezone";
const OUTPUT: &str = "output.dateformat";
const OUTPUT_ZONE: &str = "output.timezone";
const ZONE: &str = "timezone";

/// How the values of a column that partitions by time are interpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimestampType {
    /// Seconds since 1970: `UNIX_TIMESTAMP`.
    UnixTimestamp,
    /// Milliseconds since 1970: `EPOCHMILLISECONDS`.
    EpochMilliseconds,
    /// Microseconds since 1970: `EPOCHMICROSECONDS`, available since Hudi 1.0. For 0.x, use [`Self::Scalar`].
    EpochMicroseconds,
    /// Strings: `DATE_STRING`.
    DateString,
    /// Number of units since 1970, with the unit of [`TimestampPartition::with_unit`]: `SCALAR`. The unit of
    /// a timestamp column is microseconds, and the unit of a date column is days.
    Scalar,
    /// Strings, like [`Self::DateString`]: `MIXED`.
    Mixed,
}

impl TimestampType {
    const ALL: [Self; 6] = [
        Self::UnixTimestamp,
        Self::EpochMilliseconds,
        Self::EpochMicroseconds,
        Self::DateString,
        Self::Scalar,
        Self::Mixed,
    ];

    /// Returns Hudi's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnixTimestamp => "UNIX_TIMESTAMP",
            Self::EpochMilliseconds => "EPOCHMILLISECONDS",
            Self::EpochMicroseconds => "EPOCHMICROSECONDS",
            Self::DateString => "DATE_STRING",
            Self::Scalar => "SCALAR",
            Self::Mixed => "MIXED",
        }
    }
}

/// The partitioning of a table by time, as in Hudi's `TimestampBasedKeyGenerator`.
///
/// For each write, even to their own tables, Spark's writers also need the option
/// `hoodie.keygen.timebased.timestamp.type`, and for strings the input format. Spark reads the name of the
/// folder instead of the column's value.
///
/// Patterns use the syntax of Joda-Time, as in `yyyy/MM/dd`. Several input patterns are separated by commas.
/// As in Hudi, a null becomes the beginning of 1970.
///
/// ```
/// # use hudi_format::key::{TimestampPartition, TimestampType};
/// let by_day = TimestampPartition::new(TimestampType::EpochMilliseconds, "yyyy-MM-dd").with_time_zone("Europe/Oslo");
/// let of_texts =
///     TimestampPartition::new(TimestampType::DateString, "yyyy/MM").with_input_format("yyyy-MM-dd HH:mm:ss");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimestampPartition {
    properties: BTreeMap<String, String>,
}

impl TimestampPartition {
    /// Creates a partitioning for values of this type, formatted by a pattern, in UTC.
    pub fn new(kind: TimestampType, output_format: impl Into<String>) -> Self {
        let new = Self { properties: BTreeMap::new() };
        new.with(TYPE, kind.as_str()).with(OUTPUT, output_format).with(ZONE, "UTC")
    }

    /// Sets the pattern for parsing strings.
    #[must_use]
    pub fn with_input_format(self, patterns: impl Into<String>) -> Self {
        self.with(INPUT, patterns)
    }

    /// Sets the unit of numbers, such as `days`. The names are those of Java's `TimeUnit`.
    #[must_use]
    pub fn with_unit(self, unit: impl Into<String>) -> Self {
        self.with(UNIT, unit)
    }

    /// Sets the time zone for parsing strings and for formatting folders. Default: UTC.
    #[must_use]
    pub fn with_time_zone(self, zone: impl Into<String>) -> Self {
        self.with(ZONE, zone)
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.properties.insert(format!("{}{name}", TIMESTAMP_PREFIXES[0]), value.into());
        self
    }

    /// Returns the properties of the generator, as they are stored in `hoodie.properties`.
    pub fn properties(&self) -> impl Iterator<Item = (&String, &String)> {
        self.properties.iter()
    }
}

/// A key generator that is ready to use.
#[derive(Clone, Debug, PartialEq)]
pub struct TimestampKey {
    /// `None` if the table does not store it, as with Hudi 0.15.
    kind: Option<TimestampType>,
    /// Length of a unit.
    unit: Option<Unit>,
    input: Vec<Pattern>,
    input_zone: TimeZone,
    output: Pattern,
    output_zone: TimeZone,
}

/// A unit of time, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unit(i128);

impl TimestampKey {
    /// Creates the generator from a table's properties.
    pub fn of(raw: &BTreeMap<String, String>) -> Result<Self> {
        let find = |name: &str| {
            TIMESTAMP_PREFIXES.iter().find_map(|prefix| {
                let property = format!("{prefix}{name}");
                let value = raw.get(&property).map(|value| value.trim())?;
                (!value.is_empty()).then_some((property, value))
            })
        };
        let refused = |message: String, property: String, value: &str| {
            Error::new(ErrorKind::Unsupported, message)
                .with_context("property", property)
                .with_context("value", value)
        };
        let kind = match find(TYPE) {
            None => None,
            Some((property, value)) => Some(
                TimestampType::ALL
                    .into_iter()
                    .find(|kind| kind.as_str().eq_ignore_ascii_case(value))
                    .ok_or_else(|| refused("unknown type of timestamps".to_owned(), property, value))?,
            ),
        };
        let unit = match find(UNIT) {
            None => None,
            Some((property, value)) => Some(
                Unit::parse(value)
                    .ok_or_else(|| refused("unknown unit of time".to_owned(), property, value))?,
            ),
        };
        let unknown_letter =
            |letter: char| format!("the letter {letter} of the date pattern is not supported");
        let mut input = Vec::new();
        if let Some((property, patterns)) = find(INPUT) {
            let delimiter = find(INPUT_DELIMITER).map_or(",", |(_, delimiter)| delimiter);
            // A regular expression, in practice a single character.
            let delimiter = delimiter.strip_prefix('\\').unwrap_or(delimiter);
            for text in patterns.split(delimiter) {
                let pattern = Pattern::to_read(text.trim());
                input.push(
                    pattern.map_err(|letter| refused(unknown_letter(letter), property.clone(), patterns))?,
                );
            }
        }
        let (property, text) = find(OUTPUT).ok_or_else(|| {
            let property = format!("{}{OUTPUT}", TIMESTAMP_PREFIXES[0]);
            refused("a timestamp-based key generator needs a date pattern".to_owned(), property, "")
        })?;
        let output =
            Pattern::to_write(text).map_err(|letter| refused(unknown_letter(letter), property, text))?;
        let zone = |name: &str| match find(ZONE).or_else(|| find(name)) {
            // Java's default zone. It is assumed to be this machine's zone.
            None => TimeZone::system(),
            Some((_, name)) => java_zone(name),
        };
        Ok(Self { kind, unit, input, input_zone: zone(INPUT_ZONE), output, output_zone: zone(OUTPUT_ZONE) })
    }

    /// Returns the partition values of a column.
    pub(super) fn values(&self, column: &ArrayRef, name: &str) -> Result<StringArray> {
        let failed = |row: usize, value: &str| {
            invalid("the value of the partition column is not a time that can be formatted")
                .with_context("column", name)
                .with_context("row", row)
                .with_context("value", value)
        };
        // Hudi treats null as the beginning of 1970.
        if matches!(column.data_type(), DataType::Utf8) {
            let texts = column.as_string::<i32>();
            let values = (0..texts.len()).map(|row| {
                let moment = match texts.is_null(row) {
                    true => Timestamp::UNIX_EPOCH,
                    false => self.read(texts.value(row)).ok_or_else(|| failed(row, texts.value(row)))?,
                };
                Ok(self.output.format(moment, &self.output_zone))
            });
            return Ok(StringArray::from_iter_values(values.collect::<Result<Vec<_>>>()?));
        }
        let unit = self.unit_of(name)?;
        let column = match column.data_type() {
            DataType::Date32 => cast(column, &DataType::Int32),
            _ => Ok(column.clone()),
        };
        let numbers = column.and_then(|column| cast(&column, &DataType::Int64)).map_err(|cause| {
            invalid("a column of this type cannot partition by time")
                .with_context("column", name)
                .with_source(cause)
        })?;
        let numbers = numbers.as_primitive::<Int64Type>();
        let values = (0..numbers.len()).map(|row| {
            let moment = match numbers.is_null(row) {
                true => Some(Timestamp::UNIX_EPOCH),
                false => unit.moment(numbers.value(row)),
            };
            let moment = moment.ok_or_else(|| failed(row, &numbers.value(row).to_string()))?;
            Ok(self.output.format(moment, &self.output_zone))
        });
        Ok(StringArray::from_iter_values(values.collect::<Result<Vec<_>>>()?))
    }

    fn read(&self, text: &str) -> Option<Timestamp> {
        self.input.iter().find_map(|pattern| pattern.read(text, &self.input_zone))
    }

    fn unit_of(&self, column: &str) -> Result<Unit> {
        let lacks = |property: &str, message: &str| {
            Error::new(ErrorKind::Unsupported, message)
                .with_context("property", format!("{}{property}", TIMESTAMP_PREFIXES[0]))
                .with_context("column", column)
        };
        match self.kind {
            Some(TimestampType::UnixTimestamp) => Ok(Unit::SECOND),
            Some(TimestampType::EpochMilliseconds) => Ok(Unit::MILLISECOND),
            Some(TimestampType::EpochMicroseconds) => Ok(Unit::MICROSECOND),
            Some(TimestampType::Scalar) => Ok(self.unit.unwrap_or(Unit::SECOND)),
            Some(TimestampType::DateString | TimestampType::Mixed) => Err(lacks(
                TYPE,
                "the partition column contains numbers, but the table's timestamps are strings",
            )),
            None => Err(lacks(
                TYPE,
                "the table does not define its type of timestamps (Hudi 0.15 does not store it): add the property",
            )),
        }
    }
}

impl Unit {
    const SECOND: Self = Self(1_000_000_000);
    const MILLISECOND: Self = Self(1_000_000);
    const MICROSECOND: Self = Self(1_000);

    fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "NANOSECONDS" => Self(1),
            "MICROSECONDS" => Self::MICROSECOND,
            "MILLISECONDS" => Self::MILLISECOND,
            "SECONDS" => Self::SECOND,
            "MINUTES" => Self(60 * Self::SECOND.0),
            "HOURS" => Self(3600 * Self::SECOND.0),
            "DAYS" => Self(86_400 * Self::SECOND.0),
            _ => return None,
        })
    }

    /// Truncates to the millisecond, as in Hudi.
    fn moment(self, count: i64) -> Option<Timestamp> {
        let millis = (i128::from(count) * self.0).div_euclid(Self::MILLISECOND.0);
        Timestamp::from_millisecond(i64::try_from(millis).ok()?).ok()
    }
}

/// Parses a zone like `TimeZone.getTimeZone`, which treats an unknown name as GMT.
fn java_zone(name: &str) -> TimeZone {
    let custom =
        name.strip_prefix("GMT").or_else(|| name.strip_prefix("UTC")).filter(|rest| !rest.is_empty());
    if let Some(rest) = custom {
        let parsed = || {
            let sign = match rest.as_bytes()[0] {
                b'+' => 1,
                b'-' => -1,
                _ => return None,
            };
            let (hours, minutes) = rest[1..].split_once(':').unwrap_or((&rest[1..], "0"));
            let seconds = hours.parse::<i32>().ok()? * 3600 + minutes.parse::<i32>().ok()? * 60;
            Some(TimeZone::fixed(Offset::from_seconds(sign * seconds).ok()?))
        };
        return parsed().unwrap_or(TimeZone::UTC);
    }
    TimeZone::get(name).unwrap_or(TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, TimestampMicrosecondArray,
    };

    use super::*;

    fn key(properties: &[(&str, &str)]) -> Result<TimestampKey> {
        let raw = properties
            .iter()
            .map(|(name, value)| (format!("{}{name}", TIMESTAMP_PREFIXES[0]), (*value).to_owned()));
        TimestampKey::of(&raw.collect())
    }

    fn values(properties: &[(&str, &str)], column: impl Array + 'static) -> Vec<String> {
        let column: ArrayRef = Arc::new(column);
        let values = key(properties).unwrap().values(&column, "k").unwrap();
        values.iter().flatten().map(str::to_owned).collect()
    }

    /// Compares with the folders that Spark with Hudi 0.15 created from the same values.
    #[test]
    fn folders_are_those_of_spark() {
        let millis = Int64Array::from(vec![Some(1_735_787_045_678), Some(0), Some(-1), None]);
        let said = [(TYPE, "EPOCHMILLISECONDS"), (OUTPUT, "yyyy-MM-dd hh"), (ZONE, "GMT+8:00")];
        let expected = ["2025-01-02 11", "1970-01-01 08", "1970-01-01 07", "1970-01-01 08"];
        assert_eq!(values(&said, millis), expected);

        let seconds = || Int64Array::from(vec![Some(1_735_787_045), Some(0), None]);
        let said = [(TYPE, "UNIX_TIMESTAMP"), (OUTPUT, "yyyyMMdd"), (ZONE, "America/New_York")];
        assert_eq!(values(&said, seconds()), ["20250101", "19691231", "19691231"]);
        let said = [(TYPE, "UNIX_TIMESTAMP"), (OUTPUT, "yyyyMMddHH"), (OUTPUT_ZONE, "Asia/Tokyo")];
        assert_eq!(values(&said, seconds())[0], "2025010212");
        let said = [said[0], said[1], said[2], (ZONE, "America/New_York")];
        assert_eq!(values(&said, seconds())[0], "2025010122", "the one zone comes before the two");
        let said = [said[0], said[1], (ZONE, "Mars/Olympus")];
        assert_eq!(values(&said, seconds())[0], "2025010203", "GMT, in Java");
        let said = [said[0], (OUTPUT, "yyyy-MM-dd"), (ZONE, "UTC")];
        assert_eq!(values(&said, Int32Array::from(vec![1_735_787_045])), ["2025-01-02"]);
        assert_eq!(values(&said, Float64Array::from(vec![1_735_787_045.9])), ["2025-01-02"]);
        assert_eq!(values(&said, Int64Array::from(vec![-1, -62_135_683_200])), ["1969-12-31", "0000-12-31"]);
        let decimals =
            Decimal128Array::from(vec![1_735_787_045_678]).with_precision_and_scale(20, 3).unwrap();
        assert_eq!(values(&said, decimals), ["2025-01-02"]);

        let said = [(TYPE, "SCALAR"), (UNIT, "days"), (OUTPUT, "yyyy-MM-dd HH"), (ZONE, "GMT")];
        assert_eq!(values(&said, Int64Array::from(vec![20_000, 0])), ["2024-10-04 00", "1970-01-01 00"]);
        assert_eq!(values(&said, Date32Array::from(vec![20_090])), ["2025-01-02 00"]);
        let said = [(TYPE, "SCALAR"), (UNIT, "microseconds"), (OUTPUT, "yyyy-MM-dd HH"), (ZONE, "GMT")];
        let micros = TimestampMicrosecondArray::from(vec![1_735_787_045_678_901]).with_timezone("UTC");
        assert_eq!(values(&said, micros), ["2025-01-02 03"]);
    }

    #[test]
    fn folders_of_texts_are_those_of_spark() {
        let texts = |texts: &[&str]| StringArray::from_iter_values(texts);
        let said = [
            (TYPE, "DATE_STRING"),
            (INPUT, "yyyy-MM-dd'T'HH:mm:ssZ,yyyy-MM-dd'T'HH:mm:ss.SSSZ"),
            (INPUT_DELIMITER, ","),
            (OUTPUT, "yyyyMMddHH"),
            (OUTPUT_ZONE, "GMT+5:30"),
        ];
        let two = texts(&["2025-01-02T23:30:00Z", "2025-01-02T23:30:00.123-05:00"]);
        assert_eq!(values(&said, two), ["2025010305", "2025010310"]);
        let said = [
            (TYPE, "DATE_STRING"),
            (INPUT, "yyyy-MM-dd HH:mm:ss"),
            (INPUT_ZONE, "America/New_York"),
            (OUTPUT, "yyyyMMddHH"),
            (OUTPUT_ZONE, "UTC"),
        ];
        assert_eq!(values(&said, texts(&["2025-01-02 23:30:00"])), ["2025010304"]);
        let said = [said[0], said[1], (OUTPUT, "yyyy-MM-dd"), (ZONE, "GMT")];
        let with_null = StringArray::from(vec![Some("2024-02-29 00:00:00"), None]);
        assert_eq!(values(&said, with_null), ["2024-02-29", "1970-01-01"]);
        let column: ArrayRef = Arc::new(texts(&["2024-02-29 00:00:00", "garbage"]));
        let error = key(&said).unwrap().values(&column, "k").unwrap_err();
        assert_eq!((error.context("row"), error.context("value")), (Some("1"), Some("garbage")));
    }

    #[test]
    fn what_cannot_be_kept_right_is_refused_by_property() {
        let property = |said: &[(&str, &str)]| key(said).unwrap_err().context("property").map(str::to_owned);
        let named = |name: &str| Some(format!("{}{name}", TIMESTAMP_PREFIXES[0]));
        assert_eq!(property(&[(TYPE, "UNIX_TIMESTAMP")]), named(OUTPUT));
        assert_eq!(property(&[(TYPE, "LUNAR"), (OUTPUT, "yyyy")]), named(TYPE));
        assert_eq!(property(&[(OUTPUT, "yyyy-XXX")]), named(OUTPUT));
        assert_eq!(property(&[(OUTPUT, "yyyy"), (INPUT, "yy")]), named(INPUT));
        assert_eq!(property(&[(OUTPUT, "yyyy"), (UNIT, "moons")]), named(UNIT));
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        for said in [&[(OUTPUT, "yyyy")][..], &[(TYPE, "MIXED"), (OUTPUT, "yyyy"), (INPUT, "yyyy")]] {
            let error = key(said).unwrap().values(&column, "k").unwrap_err();
            assert_eq!(error.context("property").map(str::to_owned), named(TYPE), "{error}");
        }
    }
}
