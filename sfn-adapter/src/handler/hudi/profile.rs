//! [`Profile`]: the cleaning rules between raw files and the columns of a table.

use std::{collections::BTreeMap, sync::Arc};

use hudi_scd::{
    Error, ErrorKind, Result,
    arrow::{
        array::{Array, ArrayRef, AsArray, Date32Array, Decimal128Array, Int64Array, RecordBatch},
        compute::{CastOptions, cast, cast_with_options},
        datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit},
    },
    jiff::Timestamp,
    schema::UTC,
};
use serde::{Deserialize, Deserializer, de};

/// Number of microseconds in a day.
const DAY: i64 = 86_400_000_000;

/// Cleaning rules that convert raw files for a table: rules for columns by name, for doubles, and for columns
/// that the function adds. By default nothing is converted, and text is read with the types of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Written")]
pub struct Profile {
    /// Types of columns, by name or by a pattern with one `*` at its beginning or end. A name takes
    /// precedence over a pattern, and a longer pattern over a shorter one.
    pub columns: BTreeMap<String, ColumnType>,
    /// The type for columns that are doubles in a raw file.
    pub doubles: Option<ColumnType>,
    /// Name of the column for the time of the invocation, truncated to seconds.
    pub processing_time: Option<String>,
    /// A column for the date of another column's time, in UTC.
    pub date: Option<DateColumn>,
}

/// A column that contains the date of another column's time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DateColumn {
    /// The name of the column.
    pub column: String,
    /// The name of the column that contains the time.
    pub of: String,
}

/// A type to which a column is converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// `timestamp`: an instant. A time without a zone is in UTC.
    Timestamp,
    /// `epoch-seconds`: an instant, written as seconds since 1970.
    EpochSeconds,
    /// `date`.
    Date,
    /// `text`.
    Text,
    /// `decimal(P,S)`, rounded half up.
    Decimal(u8, i8),
}

/// A profile in its JSON form: a preset with changes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    preset: Option<Preset>,
    #[serde(default)]
    columns: BTreeMap<String, ColumnType>,
    doubles: Option<ColumnType>,
    processing_time: Option<String>,
    date: Option<DateColumn>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Preset {
    Reference,
}

impl From<Written> for Profile {
    fn from(written: Written) -> Self {
        let mut profile = match written.preset {
            Some(Preset::Reference) => Self::reference(),
            None => Self::default(),
        };
        profile.columns.extend(written.columns);
        profile.doubles = written.doubles.or(profile.doubles);
        profile.processing_time = written.processing_time.or(profile.processing_time);
        profile.date = written.date;
        profile
    }
}

impl<'de> Deserialize<'de> for ColumnType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let decimal = |text: &str| {
            let (precision, scale) = text.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
            let (precision, scale): (u8, i8) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
            let fits = (1..=38).contains(&precision) && (0..=precision.cast_signed()).contains(&scale);
            fits.then_some(Self::Decimal(precision, scale))
        };
        match text.as_str() {
            "timestamp" => Ok(Self::Timestamp),
            "epoch-seconds" => Ok(Self::EpochSeconds),
            "date" => Ok(Self::Date),
            "text" => Ok(Self::Text),
            other => decimal(other).ok_or_else(|| {
                de::Error::custom("a type must be timestamp, epoch-seconds, date, text or decimal(P,S)")
            }),
        }
    }
}

impl ColumnType {
    fn data_type(self) -> DataType {
        match self {
            Self::Timestamp | Self::EpochSeconds => {
                DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
            }
            Self::Date => DataType::Date32,
            Self::Text => DataType::Utf8,
            Self::Decimal(precision, scale) => DataType::Decimal128(precision, scale),
        }
    }

    /// Returns the type that text is read with.
    fn read_as(self) -> DataType {
        match self {
            Self::EpochSeconds => DataType::Int64,
            // A double has a precision of 15 digits.
            Self::Decimal(..=15, _) => DataType::Float64,
            Self::Decimal(..) => DataType::Utf8,
            _ => self.data_type(),
        }
    }
}

impl Profile {
    /// The rules of the reference solution's job `raw2clean_hudi`, except its date column: `*_datetime`
    /// becomes a timestamp, `*_date` a date, `zip` text, and doubles become `decimal(15,2)`.
    /// `etl_processing_datetime` contains the time of the run.
    pub fn reference() -> Self {
        let columns = [
            ("processing_datetime", ColumnType::EpochSeconds),
            ("*_datetime", ColumnType::Timestamp),
            ("*_date", ColumnType::Date),
            ("zip", ColumnType::Text),
        ];
        Self {
            columns: columns.map(|(name, kind)| (name.to_owned(), kind)).into(),
            doubles: Some(ColumnType::Decimal(15, 2)),
            processing_time: Some("etl_processing_datetime".to_owned()),
            date: None,
        }
    }

    /// Returns the columns for reading a file. `raw` contains the file's columns with guessed types.
    pub(super) fn read_with(&self, raw: &Schema, table: &Schema) -> SchemaRef {
        let of_file = raw.fields().iter().filter_map(|field| {
            let known = table.field_with_name(field.name()).ok();
            let read = match (self.rule(field), known) {
                (Some(rule), _) => Arc::new(field.as_ref().clone().with_data_type(rule.read_as())),
                (None, Some(known)) => Arc::new(known.clone()),
                (None, None) => field.clone(),
            };
            (!read.data_type().is_null()).then_some(read)
        });
        // If lines of JSON omit a column of the table, its value is NULL.
        let is_added = |field: &&FieldRef| {
            raw.field_with_name(field.name()).is_err() && !self.added().any(|added| added == field.name())
        };
        let omitted = table.fields().iter().filter(is_added).cloned();
        Arc::new(Schema::new(of_file.chain(omitted).collect::<Vec<FieldRef>>()))
    }

    /// Cleans rows. `first` is the number of rows before them, and `raw` contains the columns of their file.
    pub(super) fn clean(
        &self,
        rows: &RecordBatch,
        raw: &Schema,
        first: usize,
        now: Timestamp,
    ) -> Result<RecordBatch> {
        let mut columns: Vec<(FieldRef, ArrayRef)> = Vec::with_capacity(rows.num_columns() + 2);
        for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
            let rule = raw.field_with_name(field.name()).ok().and_then(|raw| self.rule(raw));
            let column = match rule {
                Some(rule) => convert(column, rule, first)
                    .map_err(|error| error.with_context("column", field.name()))?,
                None => column.clone(),
            };
            columns.push((renewed(field, &column), column));
        }
        if let Some(name) = &self.processing_time {
            let seconds = Int64Array::from(vec![now.as_second() * 1_000_000; rows.num_rows()]);
            let column = cast(&seconds, &ColumnType::Timestamp.data_type()).map_err(unfit)?;
            put(&mut columns, name, column);
        }
        if let Some(DateColumn { column: name, of }) = &self.date {
            let found =
                columns.iter().find(|(field, _)| field.name() == of).map(|(_, column)| column.clone());
            let found = found.ok_or_else(|| {
                invalid("the file lacks the column with the time of its date").with_context("column", of)
            })?;
            let date = date_of(&found).map_err(|error| error.with_context("column", of))?;
            put(&mut columns, name, date);
        }
        let (fields, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(unfit)
    }

    /// Returns the names of the columns that the function adds.
    fn added(&self) -> impl Iterator<Item = &String> {
        self.processing_time.iter().chain(self.date.as_ref().map(|date| &date.column))
    }

    fn rule(&self, raw: &Field) -> Option<ColumnType> {
        let name = raw.name();
        let fits = |pattern: &str| match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
            (Some(end), _) => name.ends_with(end),
            (None, Some(beginning)) => name.starts_with(beginning),
            (None, None) => false,
        };
        let patterns = self.columns.iter().filter(|(pattern, _)| fits(pattern));
        let longest = patterns.max_by_key(|(pattern, _)| pattern.len()).map(|(_, rule)| *rule);
        let named = self.columns.get(name).copied().or(longest);
        named.or_else(|| self.doubles.filter(|_| raw.data_type().is_floating()))
    }
}

fn renewed(field: &FieldRef, column: &ArrayRef) -> FieldRef {
    if field.data_type() == column.data_type() {
        return field.clone();
    }
    Arc::new(Field::new(field.name(), column.data_type().clone(), true))
}

/// Adds a column, or replaces the column with the same name.
fn put(columns: &mut Vec<(FieldRef, ArrayRef)>, name: &str, column: ArrayRef) {
    let field = Arc::new(Field::new(name, column.data_type().clone(), true));
    match columns.iter_mut().find(|(known, _)| known.name() == name) {
        Some(known) => *known = (field, column),
        None => columns.push((field, column)),
    }
}

fn convert(column: &ArrayRef, rule: ColumnType, first: usize) -> Result<ArrayRef> {
    let target = rule.data_type();
    if *column.data_type() == target {
        return Ok(column.clone());
    }
    let strictly = |column: &ArrayRef, target: &DataType| {
        let options = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(column, target, &options).map_err(|cause| {
            invalid("the values cannot be converted")
                .with_context("type", column.data_type())
                .with_source(cause)
        })
    };
    match (rule, column.data_type()) {
        (ColumnType::Decimal(precision, scale), from) if from.is_floating() => {
            decimals(&strictly(column, &DataType::Float64)?, precision, scale, first)
        }
        (ColumnType::EpochSeconds, from) if from.is_integer() => {
            let seconds = strictly(column, &DataType::Int64)?;
            let micros: Int64Array = seconds.as_primitive::<Int64Type>().try_unary(|seconds| {
                seconds.checked_mul(1_000_000).ok_or_else(|| invalid("a time is out of range"))
            })?;
            strictly(&(Arc::new(micros) as ArrayRef), &target)
        }
        (ColumnType::Timestamp | ColumnType::EpochSeconds, _) => {
            // A time without a zone is in UTC, so its number does not change.
            let micros = micros(column, &strictly)?;
            strictly(&micros, &target)
        }
        (ColumnType::Date, DataType::Timestamp(..)) => date_of(column),
        _ => strictly(column, &target),
    }
}

/// Returns a column of times, dates or text as microseconds since 1970.
fn micros(
    column: &ArrayRef,
    strictly: &impl Fn(&ArrayRef, &DataType) -> Result<ArrayRef>,
) -> Result<ArrayRef> {
    let naive = DataType::Timestamp(TimeUnit::Microsecond, None);
    let (unit, numbers) = match column.data_type() {
        DataType::Timestamp(unit, _) => (*unit, cast(column, &DataType::Int64).map_err(unfit)?),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Date32 => {
            (TimeUnit::Microsecond, strictly(&strictly(column, &naive)?, &DataType::Int64)?)
        }
        other => {
            return Err(invalid("a number is not a time, because it has no unit")
                .with_context("type", other)
                .with_context("hint", "give the column the type epoch-seconds in HUDI_PROFILE"));
        }
    };
    let far = || invalid("a time is out of range");
    let scaled: Int64Array = numbers.as_primitive::<Int64Type>().try_unary(|number: i64| match unit {
        TimeUnit::Second => number.checked_mul(1_000_000).ok_or_else(far),
        TimeUnit::Millisecond => number.checked_mul(1_000).ok_or_else(far),
        TimeUnit::Microsecond => Ok(number),
        TimeUnit::Nanosecond => Ok(number.div_euclid(1_000)),
    })?;
    Ok(Arc::new(scaled))
}

/// Returns the dates of a column of times, in UTC.
fn date_of(column: &ArrayRef) -> Result<ArrayRef> {
    if column.data_type() == &DataType::Date32 {
        return Ok(column.clone());
    }
    if !matches!(column.data_type(), DataType::Timestamp(..)) {
        return Err(invalid("the column has no times").with_context("type", column.data_type()));
    }
    let micros = micros(column, &|column, target| cast(column, target).map_err(unfit))?;
    let days = micros.as_primitive::<Int64Type>().iter().map(|micros| {
        let days = micros.map(|micros| i32::try_from(micros.div_euclid(DAY)));
        days.transpose().map_err(|_| invalid("a time is out of range"))
    });
    Ok(Arc::new(days.collect::<Result<Date32Array>>()?))
}

/// Rounds doubles to decimals. As in Spark, the digits are those that the double is printed with: 1.005
/// becomes 1.01, although the double is slightly smaller.
fn decimals(column: &ArrayRef, precision: u8, scale: i8, first: usize) -> Result<ArrayRef> {
    let values = column.as_primitive::<Float64Type>().iter().enumerate().map(|(row, value)| {
        let rounded = value.map(|value| {
            rounded(value, precision, scale).ok_or_else(|| {
                invalid("a number does not fit the decimal type of the column")
                    .with_context("row", first + row)
            })
        });
        rounded.transpose()
    });
    let decimals = values.collect::<Result<Decimal128Array>>()?;
    Ok(Arc::new(decimals.with_precision_and_scale(precision, scale).map_err(unfit)?))
}

fn rounded(value: f64, precision: u8, scale: i8) -> Option<i128> {
    if !value.is_finite() {
        return None;
    }
    let text = format!("{}", value.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let scale = usize::try_from(scale).ok()?;
    let kept = fraction.get(..scale).unwrap_or(fraction);
    let digits: i128 = format!("{whole}{kept:0<scale$}").parse().ok()?;
    let up = fraction.as_bytes().get(scale).is_some_and(|digit| *digit >= b'5');
    let digits = digits + i128::from(up);
    let limit = 10_i128.checked_pow(u32::from(precision))?;
    (digits < limit).then_some(if value < 0.0 { -digits } else { digits })
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

fn unfit(cause: hudi_scd::arrow::error::ArrowError) -> Error {
    invalid("the rows cannot be cleaned").with_source(cause)
}

#[cfg(test)]
mod tests {
    use hudi_scd::arrow::array::{Float64Array, StringArray, TimestampNanosecondArray};
    use rstest::rstest;

    use super::*;

    fn profile(text: &str) -> Result<Profile, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_preset_is_changed_by_the_members_beside_it() {
        let written = r#"{ "preset": "reference", "columns": { "zip": "decimal(5, 0)", "phone": "text" },
            "date": { "column": "customer_date", "of": "customer_datetime" } }"#;
        let read = profile(written).unwrap();
        let rule = |name: &str, data_type| read.rule(&Field::new(name, data_type, true));
        assert_eq!(rule("customer_datetime", DataType::Utf8), Some(ColumnType::Timestamp));
        assert_eq!(rule("processing_datetime", DataType::Int64), Some(ColumnType::EpochSeconds));
        assert_eq!(rule("birth_date", DataType::Utf8), Some(ColumnType::Date));
        assert_eq!(rule("zip", DataType::Int64), Some(ColumnType::Decimal(5, 0)));
        assert_eq!(rule("phone", DataType::Int64), Some(ColumnType::Text));
        assert_eq!(rule("balance", DataType::Float64), Some(ColumnType::Decimal(15, 2)));
        assert_eq!(rule("balance", DataType::Int64), None);
        assert_eq!(read.date.unwrap().of, "customer_datetime");
        assert_eq!(profile("{}").unwrap(), Profile::default());
    }

    #[rstest]
    #[case(r#"{ "preset": "mine" }"#)]
    #[case(r#"{ "doubles": "decimal(39,2)" }"#)]
    #[case(r#"{ "doubles": "decimal(2,3)" }"#)]
    #[case(r#"{ "columns": { "a": "number" } }"#)]
    #[case(r#"{ "column": {} }"#)]
    fn other_profiles_are_refused(#[case] text: &str) {
        assert!(profile(text).is_err());
    }

    #[rstest]
    #[case(1.005, Some(101))]
    #[case(-1.005, Some(-101))]
    #[case(0.004_999, Some(0))]
    #[case(12.0, Some(1_200))]
    #[case(1e-300, Some(0))]
    #[case(9_999_999_999_999.994, Some(999_999_999_999_999))]
    #[case(1e13, None)]
    #[case(1e300, None)]
    #[case(f64::NAN, None)]
    #[case(f64::NEG_INFINITY, None)]
    fn doubles_are_rounded_half_up_by_their_digits(#[case] value: f64, #[case] expected: Option<i128>) {
        assert_eq!(rounded(value, 15, 2), expected);
    }

    #[test]
    fn the_rules_of_the_reference_apply_to_typed_columns() {
        let columns: [(&str, ArrayRef); 5] = [
            (
                "customer_datetime",
                Arc::new(StringArray::from(vec!["2026-11-28 23:30:00", "2026-11-28T23:30:00-01:00"])),
            ),
            ("birth_date", Arc::new(TimestampNanosecondArray::from(vec![Some(-1), None]))),
            ("zip", Arc::new(Int64Array::from(vec![501, 10_001]))),
            ("balance", Arc::new(Float64Array::from(vec![Some(1.005), None]))),
            ("processing_datetime", Arc::new(Int64Array::from(vec![0, 1]))),
        ];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let date = DateColumn { column: "customer_date".to_owned(), of: "customer_datetime".to_owned() };
        let profile = Profile { date: Some(date), ..Profile::reference() };
        let now: Timestamp = "2026-11-28T06:30:00.5Z".parse().unwrap();
        let cleaned = profile.clean(&rows, &rows.schema(), 0, now).unwrap();
        let shown = |name: &str| {
            let column = cleaned.column_by_name(name).unwrap();
            let text = cast(column, &DataType::Int64).or_else(|_| cast(column, &DataType::Utf8)).unwrap();
            cast(&text, &DataType::Utf8)
                .unwrap()
                .as_string::<i32>()
                .iter()
                .map(|v| v.unwrap_or("NULL").to_owned())
                .collect::<Vec<_>>()
        };
        let late = 1_795_908_600_000_000_i64;
        assert_eq!(shown("customer_datetime"), [late.to_string(), (late + 3_600_000_000).to_string()]);
        assert_eq!(cleaned.column_by_name("customer_date").unwrap().data_type(), &DataType::Date32);
        let dates = cleaned.column_by_name("customer_date").unwrap();
        let dates = dates.as_primitive::<hudi_scd::arrow::datatypes::Date32Type>();
        assert_eq!((dates.value(1) - dates.value(0), i64::from(dates.value(0))), (1, late.div_euclid(DAY)));
        let births = cleaned.column_by_name("birth_date").unwrap();
        assert_eq!(births.as_primitive::<hudi_scd::arrow::datatypes::Date32Type>().value(0), -1);
        assert_eq!(cleaned.column_by_name("zip").unwrap().as_string::<i32>().value(0), "501");
        let balance = cleaned.column_by_name("balance").unwrap();
        assert_eq!(balance.data_type(), &DataType::Decimal128(15, 2));
        assert_eq!(balance.as_primitive::<hudi_scd::arrow::datatypes::Decimal128Type>().value(0), 101);
        assert_eq!(shown("processing_datetime"), ["0", "1000000"]);
        assert_eq!(shown("etl_processing_datetime"), ["1795847400000000", "1795847400000000"]);
    }

    #[test]
    fn what_cannot_be_converted_is_refused_with_the_column() {
        let refused = |name: &str, column: ArrayRef| {
            let rows = RecordBatch::try_from_iter([(name, column)]).unwrap();
            let error =
                Profile::reference().clean(&rows, &rows.schema(), 7, Timestamp::UNIX_EPOCH).unwrap_err();
            assert_eq!((error.kind(), error.context("column")), (ErrorKind::InvalidInput, Some(name)));
            error.context("row").map(str::to_owned)
        };
        assert_eq!(refused("a_datetime", Arc::new(StringArray::from(vec!["yesterday"]))), None);
        assert_eq!(refused("a_datetime", Arc::new(Int64Array::from(vec![1]))), None);
        assert_eq!(
            refused("balance", Arc::new(Float64Array::from(vec![0.0, f64::NAN]))),
            Some("8".to_owned())
        );
    }
}
