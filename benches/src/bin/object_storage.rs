//! How many requests, bytes and seconds does an upsert take on object storage?
//!
//! 10,000 rows are upserted into tables in a storage that takes 30 ms for each request, plus the time of the
//! bytes at 80 MB/s for each stream. There are three tables: one million rows; ten million rows in 100
//! partitions, of which the upsert touches five; and 60 columns, of which three change. Each upsert is
//! measured with a warm handle, which has written before, and with a cold one, which opens the table first.
//!
//! **Limits: the requests in docs/object-storage.md.** A warm handle sends at most 16 requests, plus 5 for
//! each file, plus one for each part and one for the completion of a file that is uploaded in parts, plus two
//! for each further row group.
//!
//! Run `cargo run --release -p benches --bin object_storage`. `--smoke` uses small tables, for CI.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use anyhow::{Result, bail, ensure};
use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::SchemaRef,
};
use benches::{
    customers,
    remote::{Remote, Traffic},
    results::Section,
};
use clap::Parser;
use futures::{StreamExt, stream};
use hudi_scd::{CommitReport, Table, TableDefinition};

/// Size of a part of a multipart upload in bytes.
const PART: u64 = 8 * 1024 * 1024;
/// Maximum number of rows of a row group.
const GROUP_ROWS: u64 = 128 * 1024;
/// Number of columns of the wide table, besides key and time.
const TEXTS: usize = 58;
/// Number of these columns that change.
const CHANGED: usize = 3;

#[derive(Parser)]
#[command(about = "Requests, bytes and seconds of upserts on object storage")]
struct Options {
    /// Uses small tables, for CI.
    #[arg(long)]
    smoke: bool,
}

/// A table, and the rows to upsert.
struct Case {
    name: String,
    rows: i64,
    partitions: bool,
    batch: fn(&[i64], i64) -> Result<RecordBatch>,
    /// Selects the keys that change in a turn.
    keys: fn(i64, i64) -> Vec<i64>,
}

/// Figures of one upsert.
struct Figures {
    report: CommitReport,
    traffic: Traffic,
    seconds: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let smoke = Options::parse().smoke;
    let size = |full: i64| if smoke { full / 1_000 } else { full };
    let cases = [
        Case {
            name: "1 M rows".into(),
            rows: size(1_000_000),
            partitions: false,
            batch: customer,
            keys: any,
        },
        Case {
            name: "10 M rows, 5 of 100 partitions".into(),
            rows: size(10_000_000),
            partitions: true,
            batch: customer,
            keys: of_five_partitions,
        },
        Case {
            name: "5 M rows of 60 columns, 3 of which change".into(),
            rows: size(5_000_000),
            partitions: false,
            batch: wide,
            keys: any,
        },
    ];
    let (mut rows, mut exceeded) = (Vec::new(), Vec::new());
    for case in cases {
        for (handle, figures) in measure(&case).await? {
            let Figures { report, traffic, seconds } = figures;
            let limit = budget(&case, &report);
            if handle == "warm" && traffic.requests > limit {
                exceeded.push(format!("{}: {} requests, limit {limit}", case.name, traffic.requests));
            }
            let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
            rows.push([
                case.name.clone(),
                handle.to_owned(),
                report.files.to_string(),
                traffic.requests.to_string(),
                if handle == "warm" { format!("<= {limit}") } else { String::new() },
                megabytes(traffic.down),
                megabytes(traffic.up),
                format!("{seconds:.2}"),
            ]);
        }
    }
    Section::new(
        "object_storage",
        "How many requests, bytes and seconds does an upsert take on object storage?",
        "10,000 changed rows; 30 ms for each request, 80 MB/s for each stream",
    )
    .with_table(["table", "handle", "files", "requests", "limit", "MB down", "MB up", "seconds"], rows)
    .with_note(
        "A cold handle opens the table, lists it, and reads its timeline and the footers of all files.",
    )
    .publish(!smoke)?;
    if !exceeded.is_empty() {
        bail!("limits exceeded: {}", exceeded.join("; "));
    }
    Ok(())
}

/// Returns the maximum number of requests for an upsert.
fn budget(case: &Case, report: &CommitReport) -> u64 {
    let parts = report.bytes.div_ceil(PART);
    let uploads = if parts > report.files { parts + report.files } else { 0 };
    // A partition has fewer rows than a row group.
    let groups = if case.partitions { 0 } else { case.rows.cast_unsigned() / GROUP_ROWS };
    16 + 5 * report.files + uploads + 2 * groups
}

async fn measure(case: &Case) -> Result<Vec<(&'static str, Figures)>> {
    let remote = Remote::default();
    let schema = (case.batch)(&[0], 0)?.schema();
    fill(case, &remote, schema).await?;
    let warm = Table::open(Arc::new(remote.clone()), "t".into()).await?;
    upsert(case, &warm, &remote, 1).await?;
    let mut measured = vec![("warm", upsert(case, &warm, &remote, 2).await?)];
    let begun = Instant::now();
    let cold = Table::open(Arc::new(remote.clone()), "t".into()).await?;
    let opening = (remote.lap(), begun.elapsed().as_secs_f64());
    let mut figures = upsert(case, &cold, &remote, 3).await?;
    figures.traffic.requests += opening.0.requests;
    figures.traffic.down += opening.0.down;
    figures.seconds += opening.1;
    measured.push(("cold", figures));
    Ok(measured)
}

async fn fill(case: &Case, remote: &Remote, schema: SchemaRef) -> Result<()> {
    let mut definition = TableDefinition::new("t", schema, ["id"]).with_ordering_field("updated_at");
    if case.partitions {
        definition = definition.with_partition_fields(["region"]);
    }
    let table = Table::create(Arc::new(remote.near()), "t".into(), definition).await?;
    let step = 100_000.min(case.rows.max(1));
    let batch = case.batch;
    let rows = (0..case.rows).step_by(step as usize).map(move |first| {
        let ids: Vec<i64> = (first..first + step).collect();
        batch(&ids, 0).map_err(|error| {
            hudi_scd::Error::new(hudi_scd::ErrorKind::InvalidInput, format!("the rows are invalid: {error}"))
        })
    });
    table.bulk_insert_stream(stream::iter(rows).boxed()).await?;
    remote.lap();
    Ok(())
}

async fn upsert(case: &Case, table: &Table, remote: &Remote, turn: i64) -> Result<Figures> {
    let keys = (case.keys)(case.rows, turn);
    let rows = (case.batch)(&keys, turn)?;
    remote.lap();
    let begun = Instant::now();
    let report = table.upsert(&[rows]).await?;
    let (seconds, traffic) = (begun.elapsed().as_secs_f64(), remote.lap());
    ensure!(report.updated == keys.len() as u64, "some rows did not change: {report:?}");
    Ok(Figures { report, traffic, seconds })
}

/// Selects keys from the whole table.
fn any(rows: i64, turn: i64) -> Vec<i64> {
    let mut random = fastrand::Rng::with_seed(turn.cast_unsigned());
    let keys: BTreeSet<i64> = (0..10_000.min(rows / 2)).map(|_| random.i64(0..rows)).collect();
    keys.into_iter().collect()
}

/// Selects keys from five partitions.
fn of_five_partitions(rows: i64, turn: i64) -> Vec<i64> {
    let mut random = fastrand::Rng::with_seed(turn.cast_unsigned());
    let hundreds = rows / customers::PARTITIONS;
    let keys: BTreeSet<i64> = (0..10_000.min(hundreds))
        .map(|_| random.i64(0..hundreds) * customers::PARTITIONS + random.i64(0..5))
        .collect();
    keys.into_iter().collect()
}

fn customer(ids: &[i64], time: i64) -> Result<RecordBatch> {
    customers::batch(ids, time, &mut fastrand::Rng::with_seed(time.cast_unsigned()))
}

/// Generates rows of 60 columns. The first texts depend on the time.
fn wide(ids: &[i64], time: i64) -> Result<RecordBatch> {
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("id".to_owned(), Arc::new(Int64Array::from(ids.to_vec()))),
        ("updated_at".to_owned(), Arc::new(Int64Array::from(vec![time; ids.len()]))),
    ];
    for column in 0..TEXTS {
        let time = if column < CHANGED { time } else { 0 };
        let texts = ids.iter().map(|id| format!("{:06x}", (id * 7_919 + time + column as i64) % 0xff_ffff));
        columns.push((format!("text_{column}"), Arc::new(StringArray::from_iter_values(texts))));
    }
    Ok(RecordBatch::try_from_iter(columns)?)
}
