//! Converts CSV results of a real database to Arrow batches, and compares the values with numbers that the
//! database computes.

use futures::TryStreamExt;
use redshift_data_local::{Limits, LocalExecutor, Postgres};
use redshift_orchestrator::{
    ErrorKind, ResultFormat, Statement, StatementExecutor, StatementExecutorExt, WaitTime,
    arrow::{
        RecordBatchOptions,
        arrow_array::{
            Array, RecordBatch,
            cast::AsArray,
            types::{
                Date32Type, Decimal128Type, Int32Type, Int64Type, Time64MicrosecondType,
                TimestampMicrosecondType,
            },
        },
        arrow_schema::DataType,
    },
};

use crate::harness::Database;

async fn batches(
    service: &LocalExecutor<Postgres>,
    sql: &str,
    format: ResultFormat,
) -> redshift_orchestrator::Result<Vec<RecordBatch>> {
    let statement = Statement::sql(sql).with_result_format(format);
    let id = service.submit(&statement, Some(WaitTime::MAX)).await?.id;
    assert_eq!(service.describe(&id, None).await?.error, None);
    service.record_batches(&id, RecordBatchOptions::default().with_batch_size(64)).await?.try_collect().await
}

/// Values, each followed by a number that PostgreSQL computes from it.
const SELECT: &str = r#"
    SELECT n::int8 AS n,
           (CASE WHEN n % 2 = 0 THEN -1 ELSE 1 END * (n * 10000000 + n / 10000.0))::numeric(18, 4) AS price,
           (CASE WHEN n % 2 = 0 THEN -1 ELSE 1 END * (n * 100000000000 + n))::int8 AS price_digits,
           ('0044-03-15 12:00:00.123456 BC'::timestamp + n * interval '19 years 77 days 3 hours 7 microseconds') AS at,
           micros('0044-03-15 12:00:00.123456 BC'::timestamp + n * interval '19 years 77 days 3 hours 7 microseconds') AS at_micros,
           ('1999-12-31 23:59:59.5+03'::timestamptz + n * interval '1 day') AS sold_at,
           micros(('1999-12-31 23:59:59.5+03'::timestamptz + n * interval '1 day') AT TIME ZONE 'UTC') AS sold_at_micros,
           ('0005-02-29 BC'::date + n::int * 3333) AS day,
           ('0005-02-29 BC'::date + n::int * 3333 - '1970-01-01'::date)::int4 AS day_number,
           ('00:00:00'::time + n * interval '41 seconds 3 microseconds') AS clock,
           micros(timestamp '1970-01-01' + ('00:00:00'::time + n * interval '41 seconds 3 microseconds')) AS clock_micros,
           CASE n % 3 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE 'a "quoted", ' || chr(13) || chr(10) || 'text' END AS note,
           decode(lpad(to_hex(n), 8, '0'), 'hex') AS raw,
           n % 2 = 0 AS even
    FROM generate_series(1::int8, 500) AS n
"#;

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn batches_equal_the_aggregates_of_the_database() {
    let database = Database::new("batches").await;
    // Redshift's EXTRACT returns whole seconds, and the executor translates it accordingly.
    let micros = "CREATE FUNCTION micros(timestamp) RETURNS int8 LANGUAGE sql AS 'SELECT (extract(epoch FROM $1) * 1000000)::int8'";
    database.client.batch_execute(micros).await.unwrap();
    let mut limits = Limits::default();
    limits.rows_per_page = 37;
    let service = database.service().with_limits(limits).start().await.unwrap();
    let csv = batches(&service, SELECT, ResultFormat::Csv).await.unwrap();
    assert_eq!(csv, batches(&service, SELECT, ResultFormat::Json).await.unwrap());
    assert_eq!(csv.iter().map(RecordBatch::num_rows).sum::<usize>(), 500);
    assert_eq!(csv[0]["price"].data_type(), &DataType::Decimal128(18, 4));
    for batch in &csv {
        let number = |name: &str, at: usize| batch[name].as_primitive::<Int64Type>().value(at);
        let (price, note) =
            (batch["price"].as_primitive::<Decimal128Type>(), batch["note"].as_string::<i32>());
        let at_time =
            |name: &str, at: usize| batch[name].as_primitive::<TimestampMicrosecondType>().value(at);
        for at in 0..batch.num_rows() {
            let n = number("n", at);
            assert_eq!(price.value(at), i128::from(number("price_digits", at)), "{n}");
            assert_eq!(at_time("at", at), number("at_micros", at), "{n}");
            assert_eq!(at_time("sold_at", at), number("sold_at_micros", at), "{n}");
            assert_eq!(
                batch["day"].as_primitive::<Date32Type>().value(at),
                batch["day_number"].as_primitive::<Int32Type>().value(at),
                "{n}"
            );
            let clock = batch["clock"].as_primitive::<Time64MicrosecondType>().value(at);
            assert_eq!(clock, number("clock_micros", at), "{n}");
            let expected = [None, Some(""), Some("a \"quoted\", \r\ntext")][(n % 3) as usize];
            assert_eq!(note.is_valid(at).then(|| note.value(at)), expected, "{n}");
            assert_eq!(batch["raw"].as_binary::<i32>().value(at), (n as u32).to_be_bytes());
            assert_eq!(batch["even"].as_boolean().value(at), n % 2 == 0);
        }
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn values_out_of_arrows_range_are_named_and_can_be_read_as_text() {
    let database = Database::new("odd_batches").await;
    let service = database.start().await;
    let sql = "SELECT n, CASE n WHEN 3 THEN 'infinity'::timestamp ELSE '2026-11-23'::timestamp END AS at FROM generate_series(1, 4) AS n";
    let error = batches(&service, sql, ResultFormat::Csv).await.unwrap_err();
    assert_eq!((error.kind(), error.context("row")), (ErrorKind::Invalid, Some("3")), "{error}");
    assert!(
        error.message().contains("column `at` (timestamp): `infinity` is not a valid timestamp"),
        "{error}"
    );
    let sql = "SELECT 1.5 + 1 AS sum, '12:00:00+02'::timetz AS clock, interval '1 day 2 hours' AS span, '{\"a\": 1}'::jsonb AS super";
    let odd = batches(&service, sql, ResultFormat::Csv).await.unwrap();
    let text = |name: &str| odd[0][name].as_string::<i32>().value(0).to_owned();
    assert_eq!(
        (text("sum"), text("clock"), text("super")),
        ("2.5".into(), "12:00:00+02".into(), "{\"a\": 1}".into())
    );
    assert_eq!(text("span"), "1 day 02:00:00");
}
