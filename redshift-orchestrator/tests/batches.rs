//! Results as Arrow record batches, read from several pages.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use arrow_array::{
    Array, RecordBatch, cast::AsArray, types::Decimal128Type, types::TimestampMicrosecondType,
};
use arrow_schema::DataType;
use futures::TryStreamExt;
use proptest::prelude::*;
use redshift_data_local::{Limits, LocalExecutor, Script, ScriptedExecution};
use redshift_orchestrator::{
    Column, Field, ResultFormat, Statement, StatementExecutor, StatementExecutorExt, WaitTime,
    arrow::{RecordBatchOptions, arrow_array, arrow_schema},
};

/// Runs a statement that has these rows as its result, and reads the result as record batches.
fn batches(
    format: ResultFormat,
    columns: &[Column],
    rows: &[Vec<Field>],
    rows_per_page: usize,
    options: &RecordBatchOptions,
) -> Vec<RecordBatch> {
    let mut limits = Limits::default();
    limits.rows_per_page = rows_per_page;
    let run = ScriptedExecution::finished(Duration::ZERO).with_result(columns.to_vec(), rows.to_vec());
    let service = LocalExecutor::scripted(Script::new().with_limits(limits).otherwise(run));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let statement = Statement::sql("SELECT").with_result_format(format);
        let id = service.submit(&statement, Some(WaitTime::MAX)).await.unwrap().id;
        service.record_batches(&id, options.clone()).await.unwrap().try_collect().await.unwrap()
    })
}

/// Generates columns of every type, and rows for them.
fn typed() -> impl Strategy<Value = (Vec<Column>, Vec<Vec<Field>>)> {
    let mut price = Column::new("price", "numeric");
    (price.precision, price.scale) = (Some(38), Some(4));
    let mut columns = vec![price];
    let types = [
        "bool",
        "int2",
        "int4",
        "int8",
        "float4",
        "float8",
        "varchar",
        "date",
        "time",
        "timestamp",
        "timestamptz",
        "varbyte",
        "super",
        "new",
    ];
    columns.extend(types.map(|name| Column::new(name, name)));
    let price = (any::<bool>(), 0_u128..10_u128.pow(34), 0..10_000_u32).prop_map(|(below, whole, part)| {
        Field::String(format!("{}{whole}.{part:04}", if below { "-" } else { "" }))
    });
    let text = || "[a-z,\"\\r\\n é🦀]{0,8}".prop_map(Field::String);
    let date = || (1_i16..9_999, 1_i8..13, 1_i8..29).prop_map(|(y, m, d)| jiff::civil::date(y, m, d));
    let time = || {
        (0_i8..24, 0_i8..60, 0_i8..60, 0..1_000_000_i32)
            .prop_map(|(h, m, s, us)| jiff::civil::time(h, m, s, us * 1_000))
    };
    let printed = |value: String| Field::String(value.replace('T', " "));
    let number = |least: i64, most: i64| (least..=most).prop_map(Field::Long);
    let first = (
        price,
        any::<bool>().prop_map(Field::Boolean),
        number(i16::MIN.into(), i16::MAX.into()),
        number(i32::MIN.into(), i32::MAX.into()),
        number(i64::MIN, i64::MAX),
        any::<f32>().prop_map(|value| Field::Double(value.into())),
        any::<f64>().prop_map(Field::Double),
        text(),
    );
    let second = (
        date().prop_map(|date| Field::String(date.to_string())),
        time().prop_map(move |time| printed(time.to_string())),
        (date(), time()).prop_map(move |(date, time)| printed(date.to_datetime(time).to_string())),
        (date(), time()).prop_map(move |(date, time)| printed(format!("{}+00", date.to_datetime(time)))),
        prop::collection::vec(any::<u8>(), 0..5).prop_map(Field::Blob),
        text(),
        text(),
    );
    let row = (first, second, prop::collection::vec(any::<bool>(), 15)).prop_map(|(a, b, nulls)| {
        let row = [a.0, a.1, a.2, a.3, a.4, a.5, a.6, a.7, b.0, b.1, b.2, b.3, b.4, b.5, b.6];
        row.into_iter().zip(nulls).map(|(field, null)| if null { Field::Null } else { field }).collect()
    });
    prop::collection::vec(row, 0..12).prop_map(move |rows| (columns.clone(), rows))
}

proptest! {
    #[test]
    fn json_and_csv_results_give_the_same_complete_batches(
        (columns, rows) in typed(), rows_per_page in 1_usize..5, size in 1_usize..6,
    ) {
        let options = RecordBatchOptions::default().with_batch_size(size);
        let read = |format| batches(format, &columns, &rows, rows_per_page, &options);
        let (json, csv) = (read(ResultFormat::Json), read(ResultFormat::Csv));
        prop_assert_eq!(&json, &csv);
        let seen: usize = csv.iter().map(RecordBatch::num_rows).sum();
        prop_assert_eq!(seen, rows.len());
        for (number, row) in rows.iter().enumerate() {
            let (batch, at) = (&csv[number / size], number % size);
            for (column, field) in columns.iter().zip(row) {
                let array = &batch[column.name.as_str()];
                prop_assert_eq!(array.is_null(at), *field == Field::Null);
                if array.is_null(at) { continue }
                match (field, array.data_type()) {
                    (Field::String(text), DataType::Utf8) => prop_assert_eq!(array.as_string::<i32>().value(at), text),
                    (Field::String(text), DataType::Decimal128(..)) => {
                        let digits: i128 = text.replace('.', "").parse().unwrap();
                        prop_assert_eq!(array.as_primitive::<Decimal128Type>().value(at), digits);
                    }
                    (Field::String(text), DataType::Timestamp(_, None)) => {
                        let time: jiff::civil::DateTime = text.parse().unwrap();
                        let time = time.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
                        prop_assert_eq!(array.as_primitive::<TimestampMicrosecondType>().value(at), time.as_microsecond());
                    }
                    (Field::Blob(bytes), DataType::Binary) => prop_assert_eq!(array.as_binary::<i32>().value(at), bytes),
                    _ => {}
                }
            }
        }
    }

}
