//! How many requests, bytes and seconds does an upsert take on object storage?
//!
//! 10,000 rows are upserted into tables in a storage that takes 30 ms for each request, plus the time of the
//! bytes at 80 MB/s for each stream. There are four tables: one million rows; ten million rows in 100
//! partitions, of which the upsert touches five; and 60 columns, of which three change: the first ones after the
//! key, or three with others between them. Each upsert is measured with a warm handle, which has written before,
//! and with a cold one, which opens the table first.
//!
//! **Limits: the requests in docs/object-storage.md.** A warm handle sends at most 16 requests, plus 5 for
//! each file, plus one for each part and one for the completion of a file that is uploaded in parts, plus two
//! for each further row group.
//!
//! With `--peers` the same upserts are measured on an S3 server on this machine, behind a proxy that adds the same
//! latency and counts: ours, which lets the server copy unchanged columns; MERGE by delta-rs; and an upsert by
//! Spark with Hudi 0.15.0 on `s3a`, into a copy of our table. Each has merged once before. **Limits: delta-rs takes
//! at least 3 times our time and sends at least 3 times our bytes, and Spark takes at least 10 times our time.**
//!
//! Run `cargo run --release -p benches --bin object_storage`. `--smoke` uses small tables, for CI. The S3 server is
//! `scripts/s3/server start versitygw`, unless `--server` names another one of that script.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::SchemaRef,
};
use benches::{
    customers,
    measure::number,
    proxy::Proxy,
    remote::{Remote, Traffic},
    results::Section,
};
use clap::Parser;
use futures::{StreamExt, stream};
use hudi_scd::{CommitReport, S3RangeCopy, Table, TableDefinition, TableOptions};
use object_store::{ObjectStore, aws::AmazonS3Builder};
use parquet::arrow::ArrowWriter;
use serde_json::Value;

/// Size of a part of a multipart upload in bytes.
const PART: u64 = 8 * 1024 * 1024;
/// Maximum number of rows of a row group.
const GROUP_ROWS: u64 = 128 * 1024;
/// Number of columns of the wide table, besides key and time.
const TEXTS: usize = 58;
/// These columns that change, side by side or apart.
const CHANGED: [usize; 3] = [0, 1, 2];
/// See [`CHANGED`].
const SCATTERED: [usize; 3] = [9, 29, 49];

#[derive(Parser)]
#[command(about = "Requests, bytes and seconds of upserts on object storage")]
struct Options {
    /// Uses small tables, for CI.
    #[arg(long)]
    smoke: bool,
    /// Also measures ours, delta-rs and Spark on an S3 server, and installs the three into the user's cache.
    #[arg(long)]
    peers: bool,
    /// S3 server of `scripts/s3/server`: versitygw or moto.
    #[arg(long, default_value = "versitygw")]
    server: String,
    /// Number of the only table to measure, from 1.
    #[arg(long)]
    only: Option<usize>,
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
    let Options { smoke, peers, server, only } = Options::parse();
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
            batch: |ids, time| wide(ids, time, CHANGED),
            keys: any,
        },
        Case {
            name: "the same, the 3 columns apart".into(),
            rows: size(5_000_000),
            partitions: false,
            batch: |ids, time| wide(ids, time, SCATTERED),
            keys: any,
        },
    ];
    let mut cases: Vec<Case> = cases.into();
    if let Some(only) = only {
        ensure!((1..=cases.len()).contains(&only), "there are {} tables", cases.len());
        cases = vec![cases.swap_remove(only - 1)];
    }
    let (mut rows, mut exceeded) = (Vec::new(), Vec::new());
    for case in &cases {
        for (handle, figures) in measure(case).await? {
            let Figures { report, traffic, seconds } = figures;
            let limit = budget(case, &report);
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
    let section = Section::new(
        "object_storage",
        "How many requests, bytes and seconds does an upsert take on object storage?",
        "10,000 changed rows; 30 ms for each request, 80 MB/s for each stream",
    )
    .with_table(["table", "handle", "files", "requests", "limit", "MB down", "MB up", "seconds"], rows)
    .with_note(
        "A cold handle opens the table, lists it, and reads its timeline and the footers of all files.",
    );
    let section = match peers {
        true => {
            let mut slower = Vec::new();
            let section = compare(section, &cases, &server, &mut slower).await?;
            // Small tables say nothing about these limits.
            exceeded.extend(slower.into_iter().filter(|_| !smoke));
            section
        }
        false => section.with_note("Other engines are only measured with --peers."),
    };
    section.publish(!smoke && only.is_none())?;
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
    create(case, Arc::new(remote.near()), "t", schema).await?;
    remote.lap();
    Ok(())
}

/// Creates a table and loads its rows.
async fn create(case: &Case, store: Arc<dyn ObjectStore>, root: &str, schema: SchemaRef) -> Result<()> {
    let mut definition = TableDefinition::new("t", schema, ["id"]).with_ordering_field("updated_at");
    if case.partitions {
        definition = definition.with_partition_fields(["region"]);
    }
    let table = Table::create(store, root.into(), definition).await?;
    let rows = case.base().map(|batch| {
        batch.map_err(|error| {
            hudi_scd::Error::new(hudi_scd::ErrorKind::InvalidInput, format!("the rows are invalid: {error}"))
        })
    });
    table.bulk_insert_stream(stream::iter(rows).boxed()).await?;
    Ok(())
}

impl Case {
    /// Generates the rows of the table before the upserts.
    fn base(&self) -> impl Iterator<Item = Result<RecordBatch>> + Send + use<> {
        let (rows, batch) = (self.rows, self.batch);
        let step = 100_000.min(rows.max(1));
        (0..rows).step_by(step as usize).map(move |first| {
            let ids: Vec<i64> = (first..first + step).collect();
            batch(&ids, 0)
        })
    }
}

/// Figures of one engine on the S3 server.
struct OnServer {
    engine: &'static str,
    traffic: Traffic,
    seconds: f64,
    /// Limits of their time and of the bytes that they send, relative to ours.
    limits: [Option<f64>; 2],
}

/// Adds the table of engines on an S3 server.
async fn compare(
    section: Section,
    cases: &[Case],
    server: &str,
    exceeded: &mut Vec<String>,
) -> Result<Section> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/s3/server");
    let state = tempfile::tempdir()?;
    let run = |words: [&str; 2]| {
        let mut command = Command::new(&script);
        command.args(words).env("HUDI_SCD_S3_STATE", state.path().join("s3"));
        command
    };
    let url = output_of(&mut run(["start", server]))?;
    let mut rows = Vec::new();
    let mut compared = Ok(());
    for case in cases {
        match compare_one(case, &url).await {
            Ok(figures) => {
                exceeded.extend(figures.iter().filter_map(|one| one.exceeds(case, &figures[0])));
                rows.extend(figures.iter().map(|one| one.row(case, &figures[0])));
            }
            Err(error) => {
                compared = Err(error);
                break;
            }
        }
    }
    output_of(&mut run(["stop", server]))?;
    compared?;
    let header = [
        "table",
        "engine",
        "requests",
        "MB down",
        "MB up",
        "seconds",
        "MB up / ours",
        "time / ours",
        "limits",
    ];
    Ok(section.with_table(header, rows).with_note(&format!(
        "On {server} behind a proxy that adds the same latency; a warm handle, session and process. `limits` are those of \
         `MB up / ours` and `time / ours`."
    )))
}

async fn compare_one(case: &Case, server: &str) -> Result<Vec<OnServer>> {
    let proxy = Proxy::start(server).await?;
    let directory = tempfile::tempdir()?;
    let folder = directory.path();
    let base = folder.join("base.parquet");
    write(&base, case.base())?;
    let changes = [1, 2].map(|turn| folder.join(format!("changes-{turn}.parquet")));
    for (turn, file) in (1..).zip(&changes) {
        write(file, std::iter::once((case.batch)(&(case.keys)(case.rows, turn), turn)))?;
    }
    // Each table has a folder of its own.
    let name = case.name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
    let schema = (case.batch)(&[0], 0)?.schema();
    let mut figures = vec![ours_on(case, server, &proxy, &format!("{name}/ours"), schema.clone()).await?];
    figures.push(delta_on(case, server, &proxy, &format!("{name}/delta"), &base, &changes)?);
    create(case, s3(server)?.store(), &format!("{name}/spark"), schema).await?;
    figures.push(spark_on(case, &proxy, &format!("{name}/spark"), &changes)?);
    Ok(figures)
}

fn s3(endpoint: &str) -> Result<S3RangeCopy> {
    let builder = AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_region("us-east-1")
        .with_bucket_name("bench")
        .with_access_key_id("id")
        .with_secret_access_key("secret");
    Ok(S3RangeCopy::build(builder)?)
}

async fn ours_on(
    case: &Case,
    server: &str,
    proxy: &Proxy,
    root: &str,
    schema: SchemaRef,
) -> Result<OnServer> {
    create(case, s3(server)?.store(), root, schema).await?;
    let s3 = s3(&proxy.url())?;
    let (store, options) = (s3.store(), TableOptions::new().with_range_copy(Arc::new(s3)));
    let table = Table::open_with(store, root.into(), options).await?;
    let mut seconds = 0.0;
    for turn in [1, 2] {
        let keys = (case.keys)(case.rows, turn);
        let rows = (case.batch)(&keys, turn)?;
        proxy.lap();
        let begun = Instant::now();
        let report = table.upsert(&[rows]).await?;
        seconds = begun.elapsed().as_secs_f64();
        ensure!(report.updated == keys.len() as u64, "some rows did not change: {report:?}");
    }
    Ok(OnServer { engine: "ours", traffic: traffic(&case.name, "ours", proxy), seconds, limits: [None; 2] })
}

fn delta_on(
    case: &Case,
    server: &str,
    proxy: &Proxy,
    root: &str,
    base: &Path,
    changes: &[PathBuf],
) -> Result<OnServer> {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let python = output_of(&mut Command::new(peers.join("install")))?;
    let merge = |endpoint: &str| {
        let mut run = Command::new(&python);
        run.arg(peers.join("delta_merge.py")).arg("--base").arg(base);
        run.args(["--table", &format!("s3://bench/{root}"), "--s3", endpoint]);
        if case.partitions {
            run.args(["--partition", "region"]);
        }
        run
    };
    steps(&mut merge(server), proxy)?;
    let steps = steps(merge(&proxy.url()).args(changes), proxy)?;
    let (last, traffic) = steps.last().context("delta-rs printed no results")?;
    let expected = (case.keys)(case.rows, 2).len();
    ensure!(last["updated"].as_u64() == Some(expected as u64), "delta-rs: {last}, {expected} rows change");
    println!("{}: delta-rs {last} {traffic:?}", case.name);
    Ok(OnServer {
        engine: "delta-rs MERGE",
        traffic: *traffic,
        seconds: number(last, "seconds")?,
        limits: [Some(3.0), Some(3.0)],
    })
}

fn spark_on(case: &Case, proxy: &Proxy, root: &str, changes: &[PathBuf]) -> Result<OnServer> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/spark");
    let python = output_of(Command::new(scripts.join("install")).arg("--s3a"))?;
    let mut run = Command::new(python);
    run.arg(scripts.join("bench_upsert.py")).args(["--s3", &proxy.url(), "--name", "t"]);
    run.args(["--key", "id", "--ordering", "updated_at"]);
    if case.partitions {
        run.args(["--partition", "region"]);
    }
    run.args(changes.iter().map(|file| format!("{}=s3a://bench/{root}", file.display())));
    let steps = steps(&mut run, proxy)?;
    let (last, traffic) = steps.last().context("Spark printed no results")?;
    println!("{}: Spark {last} {traffic:?}", case.name);
    let seconds = number(last, "seconds")?;
    Ok(OnServer { engine: "Spark Hudi, s3a", traffic: *traffic, seconds, limits: [None, Some(10.0)] })
}

impl OnServer {
    fn row(&self, case: &Case, ours: &Self) -> [String; 9] {
        let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
        let limit = self.limits.map(|limit| limit.map_or_else(String::new, |limit| format!(">= {limit}")));
        [
            case.name.clone(),
            self.engine.to_owned(),
            self.traffic.requests.to_string(),
            megabytes(self.traffic.down),
            megabytes(self.traffic.up),
            format!("{:.2}", self.seconds),
            format!("{:.2}", self.traffic.up as f64 / ours.traffic.up as f64),
            format!("{:.2}", self.seconds / ours.seconds),
            limit.join(", ").trim_matches([',', ' ']).to_owned(),
        ]
    }

    fn exceeds(&self, case: &Case, ours: &Self) -> Option<String> {
        let ratios = [self.traffic.up as f64 / ours.traffic.up as f64, self.seconds / ours.seconds];
        let is_met =
            ratios.iter().zip(self.limits).all(|(ratio, limit)| limit.is_none_or(|limit| *ratio >= limit));
        (!is_met).then(|| format!("{}: {}: {ratios:.2?} times ours", case.name, self.engine))
    }
}

/// Returns the traffic since the last lap, and prints it by kind.
fn traffic(case: &str, engine: &str, proxy: &Proxy) -> Traffic {
    let mut total = Traffic::default();
    for (kind, traffic) in proxy.lap() {
        println!("{case}: {engine}: {kind} {traffic:?}");
        total.requests += traffic.requests;
        total.down += traffic.down;
        total.up += traffic.up;
    }
    total
}

/// Runs a program that prints a line of JSON after each step; returns these lines, each with the traffic of its
/// step.
fn steps(command: &mut Command, proxy: &Proxy) -> Result<Vec<(Value, Traffic)>> {
    let shown = format!("{command:?}");
    proxy.lap();
    tokio::task::block_in_place(|| {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context(shown.clone())?;
        let mut steps = Vec::new();
        for line in BufReader::new(child.stdout.take().context("no standard output")?).lines() {
            if let Ok(step) = serde_json::from_str(&line?) {
                steps.push((step, traffic("a step", "of a peer", proxy)));
            }
        }
        let status = child.wait()?;
        ensure!(status.success(), "{shown}: {status}");
        Ok(steps)
    })
}

/// Returns the output of a program, which must succeed.
fn output_of(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command.stderr(Stdio::inherit()).output().context(shown.clone())?;
    ensure!(output.status.success(), "{shown}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn write(path: &Path, batches: impl Iterator<Item = Result<RecordBatch>>) -> Result<()> {
    let mut writer: Option<ArrowWriter<File>> = None;
    for batch in batches {
        let batch = batch?;
        let writer = match &mut writer {
            Some(writer) => writer,
            None => writer.insert(ArrowWriter::try_new(File::create(path)?, batch.schema(), None)?),
        };
        writer.write(&batch)?;
    }
    writer.context("there are no rows")?.close()?;
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

/// Generates rows of 60 columns. Some texts depend on the time.
fn wide(ids: &[i64], time: i64, changed: [usize; 3]) -> Result<RecordBatch> {
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("id".to_owned(), Arc::new(Int64Array::from(ids.to_vec()))),
        ("updated_at".to_owned(), Arc::new(Int64Array::from(vec![time; ids.len()]))),
    ];
    for column in 0..TEXTS {
        let time = if changed.contains(&column) { time } else { 0 };
        let texts = ids.iter().map(|id| format!("{:06x}", (id * 7_919 + time + column as i64) % 0xff_ffff));
        columns.push((format!("text_{column}"), Arc::new(StringArray::from_iter_values(texts))));
    }
    Ok(RecordBatch::try_from_iter(columns)?)
}
