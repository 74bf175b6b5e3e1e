//! How many typed rows per second are read from a result?
//!
//! The same rows are served from loopback in the service's format: JSON in pages, and CSV in pages that
//! consist of pieces of about a megabyte each. For JSON, parsing into the caller's struct
//! ([`StatementExecutorExt::rows`]) is compared with `serde_json` parsing the same bodies in memory into
//! [`Value`], without types or network. For CSV, Arrow batches ([`StatementExecutorExt::record_batches`]) are
//! compared with `arrow-csv` reading the same text from one string in memory, without network or pages.
//! `arrow-csv` reads an empty string as NULL.
//!
//! Each of our two methods is measured twice: over the SDK and HTTP, as in production, and from pages in
//! memory, which shows the cost of this crate alone. The methods take turns, and the figures are medians.
//!
//! Run `cargo run --release -p benches --bin rows`. `--smoke` uses few rows.

use std::{
    borrow::Cow,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::{Context, Result, ensure};
use arrow::{csv, datatypes::SchemaRef};
use benches::{measure::median, results::Section, service::sdk_config};
use clap::Parser;
use futures::TryStreamExt;
use redshift_orchestrator::{
    Column, DataApiExecutor, Description, Error, ErrorKind, Field, PageData, PageToken, ResultPage,
    Statement, StatementExecutor, StatementExecutorExt, StatementFilter, StatementId, StatementPage,
    Submitted, Target, WaitTime, arrow::RecordBatchOptions,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

#[derive(Parser)]
#[command(about = "Rows per second from JSON and CSV results")]
struct Options {
    /// Uses few rows, for CI.
    #[arg(long)]
    smoke: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let (rows, turns) = if options.smoke { (2_000, 1) } else { (200_000, 15) };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(
        rows,
        turns,
        options.smoke,
    ))
}

async fn run(count: usize, turns: usize, smoke: bool) -> Result<()> {
    let sales: Vec<Vec<Field>> = (0..count).map(sale).collect();
    let json = json_pages(&sales);
    let csv = csv_pages(&sales);
    let text: String = csv.iter().flatten().map(String::as_str).collect();
    let bodies: Bodies = Arc::new([json_bodies(&json, count), csv_bodies(&csv, count)]);
    let json_bytes: usize = bodies[0].iter().map(String::len).sum();
    let executor = DataApiExecutor::new(&sdk_config(&serve(bodies.clone())?), Target::cluster("dwh", "dev"));
    let (json_id, csv_id) = (StatementId::new(JSON), StatementId::new(CSV));
    let schema = executor.record_batches(&csv_id, RecordBatchOptions::default()).await?.schema();

    let mut taken: [Vec<f64>; 6] = Default::default();
    for turn in 0..=turns {
        let json_pages = Pages::new(json.iter().map(|page| PageData::Records(page.clone())), count);
        let csv_pages = Pages::new(csv.iter().map(|pieces| PageData::Csv(pieces.clone())), count);
        let seconds = [
            timed(count, async { in_values(&bodies[0]) }).await?,
            timed(count, in_structs(&json_pages, &json_id)).await?,
            timed(count, in_structs(&executor, &json_id)).await?,
            timed(count, async { with_arrow_csv(&text, schema.clone()) }).await?,
            timed(count, in_batches(&csv_pages, &csv_id)).await?,
            timed(count, in_batches(&executor, &csv_id)).await?,
        ];
        // The first turn is a warm-up and is not counted.
        if turn > 0 {
            taken.iter_mut().zip(seconds).for_each(|(taken, seconds)| taken.push(seconds));
        }
    }
    let medians = taken.each_ref().map(|seconds| median(seconds));
    let row = |name: &str, at: usize, peer: usize, bytes: usize| {
        [
            name.to_owned(),
            format!("{:.2} M", count as f64 / medians[at] / 1e6),
            format!("{:.0}", bytes as f64 / medians[at] / 1e6),
            format!("{:.2}", medians[peer] / medians[at]),
        ]
    };
    let input = format!(
        "{count} rows of 8 columns (integers, a decimal, a timestamp, a date, strings, NULLs): {:.0} MB of JSON, {:.0} MB of CSV, in pages",
        json_bytes as f64 / 1e6,
        text.len() as f64 / 1e6
    );
    Section::new("rows", "How many typed rows per second are read from a result?", &input)
        .with_table(
            ["method", "rows per second", "MB per second", "over the peer"],
            [
                row("JSON: serde_json into Value, bodies in memory (the peer)", 0, 0, json_bytes),
                row("JSON: ours, into a struct, pages in memory", 1, 0, json_bytes),
                row("JSON: ours, into a struct, over HTTP and the SDK", 2, 0, json_bytes),
                row("CSV: arrow-csv, one string in memory (the peer)", 3, 3, text.len()),
                row("CSV: ours, into batches, pages in memory", 4, 3, text.len()),
                row("CSV: ours, into batches, over HTTP and the SDK", 5, 3, text.len()),
            ],
        )
        .with_note(&format!("Medians of {turns}, one thread. `over the peer` is the peer's time over ours."))
        .publish(!smoke)
}

/// Measures the seconds that a method takes. It must read all rows.
async fn timed(count: usize, way: impl Future<Output = Result<usize>>) -> Result<f64> {
    let begun = Instant::now();
    let read = way.await?;
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(read == count, "{read} of {count} rows were read");
    Ok(seconds)
}

fn in_values(bodies: &[String]) -> Result<usize> {
    let rows =
        |body: &String| Ok(serde_json::from_str::<Value>(body)?["Records"].as_array().map_or(0, Vec::len));
    bodies.iter().map(rows).sum()
}

async fn in_structs<E: StatementExecutor>(executor: &E, id: &StatementId) -> Result<usize> {
    Ok(executor.rows::<Sale>(id).await?.len())
}

async fn in_batches<E: StatementExecutor>(executor: &E, id: &StatementId) -> Result<usize> {
    let batches = executor.record_batches(id, RecordBatchOptions::default()).await?;
    Ok(batches.try_fold(0, async |sum, batch| Ok(sum + batch.num_rows())).await?)
}

fn with_arrow_csv(text: &str, schema: SchemaRef) -> Result<usize> {
    let reader = csv::ReaderBuilder::new(schema)
        .with_header(true)
        .with_batch_size(8_192)
        .build_buffered(text.as_bytes())?;
    reader.map(|batch| Ok(batch?.num_rows())).sum()
}

/// Row type of a user.
#[derive(Deserialize)]
#[expect(dead_code, reason = "the fields are parsed but not used")]
struct Sale {
    ticket: i64,
    item: i32,
    price: String,
    sold_at: String,
    ship_date: String,
    customer: String,
    coupon: Option<String>,
    returned: bool,
}

fn columns() -> Vec<Column> {
    let mut columns: Vec<Column> = [
        ("ticket", "int8"),
        ("item", "int4"),
        ("price", "numeric"),
        ("sold_at", "timestamp"),
        ("ship_date", "date"),
        ("customer", "varchar"),
        ("coupon", "varchar"),
        ("returned", "bool"),
    ]
    .map(|(name, kind)| Column::new(name, kind))
    .into();
    (columns[2].precision, columns[2].scale) = (Some(18), Some(2));
    columns
}

fn sale(number: usize) -> Vec<Field> {
    let text = |text: String| Field::String(text);
    vec![
        Field::Long(1_000_000_000 + number as i64),
        Field::Long(number as i64 % 18_000),
        text(format!("{}.{:02}", number % 2_000, number % 100)),
        text(format!(
            "2026-11-{:02} {:02}:{:02}:{:02}.{:06}",
            1 + number % 28,
            number % 24,
            number % 60,
            number % 59,
            number % 1_000_000
        )),
        text(format!("2026-12-{:02}", 1 + number % 28)),
        text(format!("Customer {number}, of \"{}\" street", number % 977)),
        if number.is_multiple_of(3) { Field::Null } else { text(format!("CODE{}", number % 40)) },
        Field::Boolean(number.is_multiple_of(10)),
    ]
}

/// Number of rows on a JSON page.
const ROWS_PER_PAGE: usize = 5_000;

fn json_pages(rows: &[Vec<Field>]) -> Vec<Vec<Vec<Field>>> {
    rows.chunks(ROWS_PER_PAGE).map(<[_]>::to_vec).collect()
}

/// Builds pages of ten pieces. A piece contains whole records and up to a megabyte, as the service documents.
fn csv_pages(rows: &[Vec<Field>]) -> Vec<Vec<String>> {
    let mut pieces =
        vec![columns().iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(",") + "\r\n"];
    for row in rows {
        let cells: Vec<String> = row.iter().map(cell).collect();
        let record = cells.join(",") + "\r\n";
        match pieces.last_mut() {
            Some(last) if last.len() + record.len() <= 1 << 20 => last.push_str(&record),
            _ => pieces.push(record),
        }
    }
    pieces.chunks(10).map(<[_]>::to_vec).collect()
}

fn cell(field: &Field) -> String {
    match field {
        Field::Long(value) => value.to_string(),
        Field::Boolean(value) => value.to_string(),
        Field::String(text) if text.contains([',', '"']) => format!("\"{}\"", text.replace('"', "\"\"")),
        Field::String(text) => text.clone(),
        _ => String::new(),
    }
}

fn metadata() -> Value {
    let column = |column: Column| {
        json!({
            "name": column.name, "label": column.name, "typeName": column.type_name, "nullable": 1,
            "precision": column.precision.unwrap_or(0), "scale": column.scale.unwrap_or(0),
        })
    };
    columns().into_iter().map(column).collect()
}

fn json_bodies(pages: &[Vec<Vec<Field>>], total: usize) -> Vec<String> {
    let field = |field: &Field| match field {
        Field::Long(value) => json!({ "longValue": value }),
        Field::Boolean(value) => json!({ "booleanValue": value }),
        Field::String(value) => json!({ "stringValue": value }),
        _ => json!({ "isNull": true }),
    };
    let record = |row: &Vec<Field>| row.iter().map(field).collect::<Value>();
    bodies(pages.iter().map(|rows| rows.iter().map(record).collect()), total)
}

fn csv_bodies(pages: &[Vec<String>], total: usize) -> Vec<String> {
    bodies(
        pages.iter().map(|pieces| pieces.iter().map(|piece| json!({ "CSVRecords": piece })).collect()),
        total,
    )
}

/// Builds the responses to `GetStatementResult` or `GetStatementResultV2`, one per page.
fn bodies(records: impl ExactSizeIterator<Item = Value>, total: usize) -> Vec<String> {
    let last = records.len();
    let bodies = (1..).zip(records).map(|(next, records)| {
        let mut body = json!({ "ColumnMetadata": metadata(), "Records": records, "TotalNumRows": total });
        if next < last {
            body["NextToken"] = next.to_string().into();
        }
        body.to_string()
    });
    bodies.collect()
}

const JSON: &str = "d9b6c0c9-0747-4bf4-b142-e8883122f766";
const CSV: &str = "d9b6c0c9-0747-4bf4-b142-e8883122f767";

type Bodies = Arc<[Vec<String>; 2]>;

/// Serves the prepared responses on separate threads until the process ends. Returns the URL.
fn serve(bodies: Bodies) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let bodies = bodies.clone();
            // If the client disconnects, only the thread of its connection ends.
            thread::spawn(move || answer(stream, &bodies));
        }
    });
    Ok(url)
}

fn answer(stream: TcpStream, bodies: &[Vec<String>; 2]) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut is_description) = (0, false);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            is_description |= line.ends_with(".describestatement");
            if line.is_empty() {
                break;
            }
        }
        let mut request = vec![0; length];
        stream.read_exact(&mut request)?;
        let request: Value = serde_json::from_slice(&request)?;
        let format = usize::from(request["Id"] == CSV);
        let page = request["NextToken"].as_str().map_or(Ok(0), str::parse::<usize>)?;
        let name = ["JSON", "CSV"][format];
        let description = json!({ "Id": request["Id"], "Status": "FINISHED", "ResultFormat": name });
        let body = match is_description {
            true => description.to_string().into(),
            false => Cow::from(bodies[format].get(page).context("no such page")?),
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.get_mut().write_all(head.as_bytes())?;
        stream.get_mut().write_all(body.as_bytes())?;
    }
}

/// Result pages in memory. Each page can be fetched once.
#[derive(Debug)]
struct Pages(Mutex<Vec<Option<ResultPage>>>);

impl Pages {
    fn new(data: impl ExactSizeIterator<Item = PageData>, total: usize) -> Self {
        let last = data.len();
        let pages = (1..).zip(data).map(|(next, data)| {
            let mut page = ResultPage::new(columns(), data);
            page.total_rows = Some(total as u64);
            page.next = (next < last).then(|| PageToken::new(next.to_string()));
            Some(page)
        });
        Self(Mutex::new(pages.collect()))
    }
}

fn unsupported<T>() -> redshift_orchestrator::Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "only results are served"))
}

#[async_trait::async_trait]
impl StatementExecutor for Pages {
    async fn submit(&self, _: &Statement, _: Option<WaitTime>) -> redshift_orchestrator::Result<Submitted> {
        unsupported()
    }

    async fn describe(
        &self,
        _: &StatementId,
        _: Option<WaitTime>,
    ) -> redshift_orchestrator::Result<Description> {
        unsupported()
    }

    async fn cancel(&self, _: &StatementId) -> redshift_orchestrator::Result<bool> {
        unsupported()
    }

    async fn result(
        &self,
        _: &StatementId,
        page: Option<PageToken>,
    ) -> redshift_orchestrator::Result<ResultPage> {
        let number = page.map_or(Some(0), |page| page.as_str().parse::<usize>().ok());
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let page = number.and_then(|number| pages.get_mut(number)).and_then(Option::take);
        page.map_or_else(unsupported, Ok)
    }

    async fn list(
        &self,
        _: &StatementFilter,
        _: Option<PageToken>,
    ) -> redshift_orchestrator::Result<StatementPage> {
        unsupported()
    }

    fn target(&self) -> Option<redshift_orchestrator::Target> {
        None
    }
}
