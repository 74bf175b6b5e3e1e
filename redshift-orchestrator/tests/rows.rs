//! Results as values of a user's types, read from several pages.
#![allow(clippy::unwrap_used)]

use std::{collections::HashMap, fmt::Debug, str::FromStr, time::Duration};

use jiff::{Timestamp, civil};
use proptest::prelude::*;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use redshift_data_local::{Limits, LocalExecutor, Script, ScriptedExecution};
use redshift_orchestrator::{
    Column, ErrorKind, Field, ResultFormat, Statement, StatementExecutor, StatementExecutorExt, WaitTime,
};

/// Runs a statement with this result, on a service with three rows per page, and returns the rows.
fn rows<T: DeserializeOwned + Send>(
    columns: &[(&str, &str)],
    records: impl IntoIterator<Item = Vec<Field>>,
) -> Result<Vec<T>, redshift_orchestrator::Error> {
    rows_as(ResultFormat::Json, columns, records.into_iter().collect())
}

fn rows_as<T: DeserializeOwned + Send>(
    format: ResultFormat,
    columns: &[(&str, &str)],
    records: Vec<Vec<Field>>,
) -> Result<Vec<T>, redshift_orchestrator::Error> {
    let columns = columns.iter().map(|(name, kind)| Column::new(*name, *kind)).collect();
    let mut limits = Limits::default();
    limits.rows_per_page = 3;
    let run = ScriptedExecution::finished(Duration::ZERO).with_result(columns, records);
    let service = LocalExecutor::scripted(Script::new().with_limits(limits).otherwise(run));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let statement = Statement::sql("SELECT").with_result_format(format);
        let id = service.submit(&statement, Some(WaitTime::MAX)).await?.id;
        service.rows(&id).await
    })
}

fn text(text: impl Into<String>) -> Field {
    Field::String(text.into())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(transparent)]
struct Ticket(i64);

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Channel {
    Store,
    Web,
}

/// User-defined decimal type with digits and a scale. It deserializes only from text.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Decimal(i128, u32);

impl FromStr for Decimal {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        Ok(Self(format!("{whole}{fraction}").parse()?, fraction.len() as u32))
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Sale {
    ticket: Ticket,
    channel: Channel,
    price: Decimal,
    coupon: Option<String>,
    sold_at: Timestamp,
    shipped_at: Option<civil::DateTime>,
    sold_on: civil::Date,
    opens: civil::Time,
    weight: f64,
    returned: bool,
    #[serde(with = "bytes")]
    signature: Vec<u8>,
}

/// Deserializes bytes, like `serde_bytes`.
mod bytes {
    use serde::{Deserializer, de::Visitor};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

const SALE: [(&str, &str); 12] = [
    ("ticket", "int8"),
    ("channel", "varchar"),
    ("price", "numeric"),
    ("coupon", "varchar"),
    ("sold_at", "timestamptz"),
    ("shipped_at", "timestamp"),
    ("sold_on", "date"),
    ("opens", "time"),
    ("weight", "float8"),
    ("returned", "bool"),
    ("signature", "varbyte"),
    ("of_no_interest", "super"),
];

fn record(number: i64) -> Vec<Field> {
    vec![
        Field::Long(i64::MIN + number),
        text(if number % 2 == 0 { "store" } else { "web" }),
        text(format!("1234567890123456789012345678901234.567{number}")),
        if number == 0 { Field::Null } else { text("") },
        text("2026-11-23 12:00:00.123456+02"),
        if number == 1 { Field::Null } else { text("2026-11-24 00:00:00.000001") },
        text("2024-02-29"),
        text("08:30:00"),
        Field::Double(0.1),
        Field::Boolean(number == 0),
        Field::Blob(vec![0, 255]),
        text("{\"a\": 1}"),
    ]
}

#[test]
fn every_row_of_every_page_becomes_a_struct_exactly() {
    let sales: Vec<Sale> = rows(&SALE, (0..10).map(record)).unwrap();
    assert_eq!(sales.len(), 10);
    for (number, sale) in (0..).zip(sales) {
        let expected = Sale {
            ticket: Ticket(i64::MIN + number),
            channel: if number % 2 == 0 { Channel::Store } else { Channel::Web },
            price: Decimal(12_345_678_901_234_567_890_123_456_789_012_345_670_i128 + i128::from(number), 4),
            coupon: (number != 0).then(String::new),
            sold_at: "2026-11-23T10:00:00.123456Z".parse().unwrap(),
            shipped_at: (number != 1).then(|| civil::date(2026, 11, 24).at(0, 0, 0, 1_000)),
            sold_on: civil::date(2024, 2, 29),
            opens: civil::time(8, 30, 0, 0),
            weight: 0.1,
            returned: number == 0,
            signature: vec![0, 255],
        };
        assert_eq!(sale, expected);
    }
}

#[test]
fn maps_tuples_and_single_values_can_be_read_from_rows() {
    let columns = [("name", "varchar"), ("value", "varchar")];
    let records = [vec![text("a"), Field::Null], vec![text("b"), text("")]];
    let maps: Vec<HashMap<String, Option<String>>> = rows(&columns, records.clone()).unwrap();
    assert_eq!((maps[0]["value"].as_deref(), maps[1]["value"].as_deref()), (None, Some("")));
    let tuples: Vec<(String, Option<String>)> = rows(&columns, records).unwrap();
    assert_eq!(tuples, [("a".into(), None), ("b".into(), Some(String::new()))]);
    let channels: Vec<Channel> = rows(&[("c", "varchar")], [vec![text("web")], vec![text("store")]]).unwrap();
    assert_eq!(channels, [Channel::Web, Channel::Store]);
    let tickets: Vec<Option<Ticket>> =
        rows(&[("t", "int8")], [vec![Field::Long(7)], vec![Field::Null]]).unwrap();
    assert_eq!(tickets, [Some(Ticket(7)), None]);
}

#[test]
fn a_struct_can_be_flattened_into_another() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Place {
        city: String,
        zip: Option<i32>,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Store {
        id: i64,
        #[serde(flatten)]
        place: Place,
    }
    let columns = [("id", "int8"), ("city", "varchar"), ("zip", "int4")];
    let stores: Vec<Store> = rows(&columns, [vec![Field::Long(1), text("Bern"), Field::Long(3000)]]).unwrap();
    assert_eq!(stores, [Store { id: 1, place: Place { city: "Bern".into(), zip: Some(3_000) } }]);
}

/// Reads three good rows and a bad one, which is on the second page. Returns the message of the error.
fn fails<T: DeserializeOwned + Send + Debug>(
    columns: &[(&str, &str)],
    good: &[Field],
    bad: &[Field],
) -> String {
    let records = std::iter::repeat_n(good.to_vec(), 3).chain([bad.to_vec()]);
    let error = rows::<T>(columns, records).unwrap_err();
    assert_eq!((error.kind(), error.context("row")), (ErrorKind::Invalid, Some("4")), "{error}");
    error.message().to_owned()
}

#[test]
fn a_value_that_does_not_fit_is_an_error_with_row_column_and_both_types() {
    let n = [("n", "int8")];
    assert_eq!(
        fails::<(i32,)>(&n, &[Field::Long(1)], &[Field::Long(1 << 40)]),
        "column `n` (int8): invalid value: integer `1099511627776`, expected i32"
    );
    assert_eq!(
        fails::<(u64,)>(&n, &[Field::Long(1)], &[Field::Long(-1)]),
        "column `n` (int8): invalid value: integer `-1`, expected u64"
    );
    assert_eq!(
        fails::<(i64,)>(&n, &[Field::Long(1)], &[Field::Null]),
        "column `n` (int8): invalid type: NULL, expected i64"
    );
    assert_eq!(
        fails::<(bool,)>(&[("b", "bool")], &[Field::Boolean(true)], &[Field::Long(1)]),
        "column `b` (bool): invalid type: integer `1`, expected a boolean"
    );
    assert_eq!(
        fails::<(i64,)>(&[("p", "numeric")], &[text("1")], &[text("1.5")]),
        "column `p` (numeric): invalid value: string \"1.5\", expected a number (i64)"
    );
    assert_eq!(
        fails::<(Channel,)>(&[("c", "varchar")], &[text("web")], &[text("fax")]),
        "column `c` (varchar): unknown variant `fax`, expected `store` or `web`"
    );
    let message = fails::<(civil::Date,)>(&[("d", "date")], &[text("2026-11-23")], &[text("2026-11-32")]);
    assert!(message.starts_with("column `d` (date): "), "{message}");
    let message = fails::<Sale>(&SALE, &record(1), &{
        let mut record = record(1);
        record[2] = text("12,5");
        record
    });
    assert!(message.starts_with("column `price` (numeric): invalid digit"), "{message}");
}

#[test]
fn a_missing_column_is_reported_with_the_available_columns() {
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "never constructed")]
    struct Customer {
        #[serde(rename = "customerId")]
        customer_id: i64,
    }
    let missing = |columns: &[(&str, &str)]| {
        let record = columns.iter().map(|_| Field::Long(1)).collect();
        let error = rows::<Customer>(columns, [record]).unwrap_err();
        assert_eq!(error.context("row"), Some("1"));
        error.message().to_owned()
    };
    assert_eq!(
        missing(&[("customer_id", "int8"), ("x", "int8")]),
        "there is no column `customerId`, but there is `customer_id`; use #[serde(rename = \"customer_id\")]"
    );
    assert_eq!(
        missing(&[("id", "int8"), ("x", "int8")]),
        "there is no column `customerId`; the result has `id`, `x`"
    );
}

#[test]
fn an_unknown_or_repeated_column_is_an_error() {
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "never constructed")]
    struct Strict {
        a: i64,
    }
    let error =
        rows::<Strict>(&[("a", "int8"), ("b", "int8")], [vec![Field::Long(1), Field::Long(2)]]).unwrap_err();
    assert!(error.message().contains("unknown field `b`"), "{error}");
    let error =
        rows::<Strict>(&[("a", "int8"), ("a", "int8")], [vec![Field::Long(1), Field::Long(2)]]).unwrap_err();
    assert!(error.message().contains("duplicate field `a`"), "{error}");
}

#[test]
fn rows_of_csv_are_rejected_with_the_way_out() {
    let error =
        rows_as::<(i64,)>(ResultFormat::Csv, &[("n", "int8")], vec![vec![Field::Long(1)]]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("ResultFormat::Json"), "{error}");
}

proptest! {
    #[test]
    fn every_value_is_read_back(
        values in prop::collection::vec(
            (any::<i64>(), any::<f64>(), any::<Option<bool>>(), prop::option::of(".{0,8}"), any::<i128>(), prop::collection::vec(any::<u8>(), 0..4)),
            0..9,
        ),
    ) {
        #[derive(Debug, Deserialize)]
        struct Row {
            long: i64,
            double: f64,
            truth: Option<bool>,
            words: Option<String>,
            digits: i128,
            raw: Vec<u8>,
        }
        let columns = [
            ("long", "int8"), ("double", "float8"), ("truth", "bool"), ("words", "varchar"), ("digits", "numeric"), ("raw", "varbyte"),
        ];
        let records: Vec<_> = values.iter().map(|(long, double, truth, words, digits, raw)| vec![
            Field::Long(*long),
            Field::Double(*double),
            truth.map_or(Field::Null, Field::Boolean),
            words.clone().map_or(Field::Null, Field::String),
            text(digits.to_string()),
            Field::Blob(raw.clone()),
        ]).collect();
        let read: Vec<Row> = rows(&columns, records).unwrap();
        prop_assert_eq!(read.len(), values.len());
        for (row, (long, double, truth, words, digits, raw)) in read.into_iter().zip(values) {
            prop_assert_eq!((row.long, row.double.to_bits(), row.truth), (long, double.to_bits(), truth));
            prop_assert_eq!((row.words, row.digits, row.raw), (words, digits, raw));
        }
    }
}
