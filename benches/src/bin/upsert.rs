//! How much does an upsert cost, compared with the minimum for copy-on-write and with other engines?
//!
//! 10,000 rows with random keys, half of them new, are upserted into an unpartitioned table of one million
//! rows, and into a table of ten million rows in 100 partitions, five of which they touch. Four contestants
//! upsert the same Parquet files:
//!
//! - **ours**: `hudi-scd`;
//! - **rewriting** reads the Parquet files that an upsert touches and writes them again with the same codec,
//!   on the same number of cores, without looking up keys, merging, or keeping a timeline;
//! - **delta-rs**: MERGE by the PyPI package `deltalake`, into a Delta table of the same rows;
//! - **Spark**: an upsert by Apache Hudi 0.15.0 on Spark 3.5, `local[2]`, into a copy of our table.
//!
//! Each contestant runs in one process. Its first upsert only counts for the figures `with start`, and the
//! medians are those of the other upserts. Ours and the rewriting take turns. Each upsert opens the table
//! again, so that no file is cached, and the time includes reading the Parquet file of incoming rows. No
//! contestant syncs to disk: ours and delta-rs both write through the crate object_store, which does not sync
//! by default. At the end all tables must contain the same rows.
//!
//! `cargo run --release -p benches --bin upsert -- --peers` measures everything, and fails if a limit is
//! exceeded. Without `--peers`, delta-rs and Spark are not measured. `--smoke` uses small tables, for CI, and
//! has no limit.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::{
    fs::{self, File},
    io::BufRead,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use benches::{
    customers,
    folders::copy,
    measure::{Worker, cpu_time, json_lines, median, number, peak_bytes},
    results::Section,
};
use clap::{Parser, Subcommand};
use futures::{StreamExt, stream};
use hudi_scd::{Error, ErrorKind, Query, RetentionPolicy, Table, TableDefinition, TableOptions};
use object_store::local::LocalFileSystem;
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    file::properties::{WriterProperties, WriterVersion},
};
use serde_json::{Value, json};

#[derive(Parser)]
#[command(about = "An upsert compared with rewriting the touched files, delta-rs, and Spark")]
struct Options {
    /// Uses small tables, for CI.
    #[arg(long)]
    smoke: bool,
    /// Also measures delta-rs and Spark, and installs them into the user's cache.
    #[arg(long)]
    peers: bool,
    /// Number of counted turns.
    #[arg(long, default_value_t = 5)]
    turns: usize,
    #[command(subcommand)]
    one: Option<One>,
}

/// One measurement, made in a separate process.
#[derive(Subcommand)]
enum One {
    /// Creates a table from a Parquet file.
    #[command(hide = true)]
    Create {
        folder: PathBuf,
        file: PathBuf,
        #[arg(long)]
        partitioned: bool,
    },
    /// Upserts the Parquet files named on standard input, one per line.
    #[command(hide = true)]
    Upsert { folder: PathBuf },
    /// Reads Parquet files and writes them again. Each line of standard input is a JSON list of files.
    #[command(hide = true)]
    Rewrite { target: PathBuf },
    /// Prints sums over the rows of a table.
    #[command(hide = true)]
    Sums { folder: PathBuf },
}

/// A table, and the rows to upsert.
struct Case {
    name: &'static str,
    rows: i64,
    /// Number of touched partitions. `None` for an unpartitioned table.
    touched: Option<i64>,
    changes: i64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(one) = options.one {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        return runtime.block_on(one.run());
    }
    ensure!(options.turns > 0, "--turns must be at least 1");
    let cases = match options.smoke {
        true => [("small", 20_000, None, 200), ("small, 100 partitions", 40_000, Some(5), 200)],
        false => [
            ("1 M rows", 1_000_000, None, 10_000),
            ("10 M rows, 5 of 100 partitions", 10_000_000, Some(5), 10_000),
        ],
    };
    let turns = if options.smoke { 1 } else { options.turns };
    let (mut rows, mut broken) = (Vec::new(), Vec::new());
    for (name, all, touched, changes) in cases {
        let case = Case { name, rows: all, touched, changes };
        let measured = case.measure(turns, options.peers)?;
        rows.extend(measured.rows(case.name));
        broken.extend(measured.broken(case.name));
    }
    let missing = if options.peers { "" } else { " delta-rs and Spark are only measured with --peers." };
    Section::new(
        "upsert",
        "How much does an upsert cost, compared with the minimum for copy-on-write and with other engines?",
        "10,000 rows, half new, random keys, from a Parquet file; six columns, most of which change in a changed row",
    )
    .with_table(["table", "engine", "seconds", "CPU seconds", "peak MB", "time / ours", "limit"], rows)
    .with_note(&format!(
        "Medians of {turns}. `rewriting` reads and writes the touched files on both cores; `with start` is the first upsert of a new \
         process, including its start. `time / ours` is their time over ours.{missing}"
    ))
    .publish(!options.smoke && options.peers)?;
    match broken.as_slice() {
        [] => Ok(()),
        _ if options.smoke => Ok(()),
        broken => bail!("limits exceeded:\n{}", broken.join("\n")),
    }
}

/// Figures of one contestant.
struct Figures {
    who: &'static str,
    seconds: f64,
    cpu: Option<f64>,
    peak: f64,
    /// Limit for the contestant's time relative to ours.
    limit: Limit,
}

enum Limit {
    None,
    /// The time of hudi-scd must be at most this multiple of the peer's.
    AtMost(f64),
    /// The peer's time, and its memory if there is a second factor, must be at least this multiple of
    /// hudi-scd's.
    AtLeast(f64, Option<f64>),
}

struct Measured(Vec<Figures>);

impl Measured {
    fn rows(&self, case: &str) -> Vec<[String; 7]> {
        let ours = &self.0[0];
        let row = |one: &Figures| {
            let limit = match one.limit {
                Limit::None => String::new(),
                Limit::AtMost(most) => format!(">= {:.2}", 1.0 / most),
                Limit::AtLeast(least, None) => format!(">= {least}"),
                Limit::AtLeast(least, Some(memory)) => format!(">= {least}, memory >= {memory}"),
            };
            [
                case.to_owned(),
                one.who.to_owned(),
                format!("{:.3}", one.seconds),
                one.cpu.map_or_else(String::new, |cpu| format!("{cpu:.2}")),
                format!("{:.0}", one.peak / 1e6),
                format!("{:.2}", one.seconds / ours.seconds),
                limit,
            ]
        };
        self.0.iter().map(row).collect()
    }

    fn broken(&self, case: &str) -> Vec<String> {
        let ours = &self.0[0];
        let broken = |one: &Figures| {
            let holds = match one.limit {
                Limit::None => true,
                Limit::AtMost(most) => ours.seconds <= most * one.seconds,
                Limit::AtLeast(least, memory) => {
                    one.seconds >= least * ours.seconds
                        && memory.is_none_or(|memory| one.peak >= memory * ours.peak)
                }
            };
            (!holds).then(|| {
                format!(
                    "{case}: {} {:.3} s, {:.0} MB; ours {:.3} s, {:.0} MB",
                    one.who,
                    one.seconds,
                    one.peak / 1e6,
                    ours.seconds,
                    ours.peak / 1e6
                )
            })
        };
        self.0.iter().filter_map(broken).collect()
    }
}

impl Case {
    fn measure(&self, turns: usize, peers: bool) -> Result<Measured> {
        let directory = tempfile::tempdir()?;
        let folder = directory.path();
        let base = folder.join("base.parquet");
        customers::write_parquet(&base, customers::base(self.rows))?;
        let changes = (0..=turns)
            .map(|turn| {
                let file = folder.join(format!("changes-{turn}.parquet"));
                customers::write_parquet(&file, std::iter::once(self.changes(turn as i64)))?;
                Ok(file)
            })
            .collect::<Result<Vec<_>>>()?;
        let ours = folder.join("ours");
        fs::create_dir(&ours)?;
        let mut create = this("create")?;
        create.arg(&ours).arg(&base);
        if self.touched.is_some() {
            create.arg("--partitioned");
        }
        println!("{}: created {}", self.name, json_lines(&mut create)?[0]);
        let spark = folder.join("spark");
        copy(&ours, &spark)?;

        let (mut upserts, mut rewrites) = (Vec::new(), Vec::new());
        let mut upserting = Worker::start(this("upsert")?.arg(&ours))?;
        let mut rewriting = Worker::start(this("rewrite")?.arg(folder.join("rewritten")))?;
        for (turn, file) in changes.iter().enumerate() {
            let upsert = upserting.request(&file.display().to_string())?;
            let touched: Vec<String> = serde_json::from_value(upsert["replaced"].clone())?;
            let touched: Vec<PathBuf> = touched.iter().map(|file| ours.join(file)).collect();
            let rewrite = rewriting.request(&json!(touched).to_string())?;
            println!("{}: turn {turn}: {upsert}\n  rewrite {rewrite}", self.name);
            if turn > 0 {
                upserts.push(upsert);
                rewrites.push(rewrite);
            }
        }
        let mut figures = vec![
            Figures::of("ours", &upserts, Limit::None)?,
            Figures::of("rewriting", &rewrites, Limit::AtMost(1.3))?,
        ];
        if peers {
            let sums = json_lines(this("sums")?.arg(&ours))?.remove(0);
            figures.extend(self.delta(folder, &base, &changes, &sums)?);
            figures.extend(self.spark(&spark, &changes)?);
            let theirs = json_lines(this("sums")?.arg(&spark))?.remove(0);
            ensure!(theirs == sums, "Spark's rows differ: {theirs}, ours {sums}");
        }
        Ok(Measured(figures))
    }

    /// Generates the rows of a turn, half of them new, in the touched partitions.
    fn changes(&self, turn: i64) -> Result<arrow::array::RecordBatch> {
        let mut rng = fastrand::Rng::with_seed(100 + turn as u64);
        let half = self.changes / 2;
        let in_touched = |id: i64| match self.touched {
            // The touched partitions are evenly spaced: 0, 20, 40 and so on.
            Some(touched) => {
                let width = customers::PARTITIONS / touched;
                id / customers::PARTITIONS * customers::PARTITIONS + id % touched * width
            }
            None => id,
        };
        let old: std::collections::BTreeSet<i64> =
            (0..half).map(|_| in_touched(rng.i64(0..self.rows))).collect();
        // New keys are not consecutive, either.
        let new = (0..half).map(|row| {
            let id = self.rows + (turn * half + row) * 1_000 + rng.i64(0..10) * customers::PARTITIONS;
            in_touched(id + row % customers::PARTITIONS)
        });
        let mut ids: Vec<i64> = old.into_iter().chain(new.collect::<Vec<_>>()).collect();
        rng.shuffle(&mut ids);
        customers::batch(&ids, turn + 1, &mut rng)
    }

    fn delta(&self, folder: &Path, base: &Path, changes: &[PathBuf], sums: &Value) -> Result<Vec<Figures>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = output_of(&mut Command::new(root.join("peers/install")))?;
        let mut run = Command::new(python);
        run.arg(root.join("peers/delta_merge.py"))
            .arg("--base")
            .arg(base)
            .arg("--table")
            .arg(folder.join("delta"));
        if self.touched.is_some() {
            run.args(["--partition", "region"]);
        }
        // A separate process creates the table, to exclude the cost of creation from the merge.
        json_lines(Command::new(run.get_program()).args(run.get_args()))?;
        let steps = json_lines(run.args(changes))?;
        println!("{}: delta-rs {steps:?}", self.name);
        let [_, warm @ .., theirs] = steps.as_slice() else {
            bail!("delta-rs printed no results: {steps:?}")
        };
        ensure!(theirs == sums, "the rows of delta-rs differ: {theirs}, ours {sums}");
        Ok(vec![Figures::of("delta-rs MERGE", warm, Limit::AtLeast(1.5, None))?])
    }

    fn spark(&self, table: &Path, changes: &[PathBuf]) -> Result<Vec<Figures>> {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/spark");
        let python = output_of(Command::new(scripts.join("install")).args(["--python", "0.15.0"]))?;
        let mut run = Command::new(python);
        run.arg(scripts.join("bench_upsert.py")).args([
            "--name",
            NAME,
            "--key",
            "id",
            "--ordering",
            "updated_at",
        ]);
        if self.touched.is_some() {
            run.args(["--partition", "region"]);
        }
        let pairs = changes.iter().map(|file| format!("{}={}", file.display(), table.join(NAME).display()));
        let steps = json_lines(run.args(pairs))?;
        println!("{}: Spark {steps:?}", self.name);
        let [start, cold, warm @ ..] = steps.as_slice() else { bail!("Spark printed no results: {steps:?}") };
        let with_start = number(start, "seconds")? + number(cold, "seconds")?;
        let warm = Figures::of("Spark Hudi, warm", warm, Limit::AtLeast(10.0, Some(10.0)))?;
        let peak = number(cold, "peak_bytes")?;
        let limit = Limit::AtLeast(30.0, None);
        Ok(vec![warm, Figures { who: "Spark Hudi, with start", seconds: with_start, cpu: None, peak, limit }])
    }
}

impl Figures {
    fn of(who: &'static str, steps: &[Value], limit: Limit) -> Result<Self> {
        let all = |name: &str| steps.iter().map(|step| number(step, name)).collect::<Result<Vec<f64>>>();
        let cpu = all("cpu_seconds").ok().map(|cpu| median(&cpu));
        let peak = all("peak_bytes")?.into_iter().fold(0.0, f64::max);
        Ok(Self { who, seconds: median(&all("seconds")?), cpu, peak, limit })
    }
}

const NAME: &str = "customer";

impl One {
    async fn run(self) -> Result<()> {
        let lines = || std::io::stdin().lock().lines();
        match self {
            Self::Create { folder, file, partitioned } => {
                println!("{}", timed(create(&folder, &file, partitioned)).await?);
            }
            Self::Upsert { folder } => {
                for file in lines() {
                    let mut result = timed(upsert(&folder, Path::new(&file?))).await?;
                    result["replaced"] = json!(replaced(&folder).await?);
                    println!("{result}");
                }
            }
            Self::Rewrite { target } => {
                for files in lines() {
                    println!("{}", timed(rewrite(&target, serde_json::from_str(&files?)?)).await?);
                }
            }
            Self::Sums { folder } => println!("{}", sums(&folder).await?),
        }
        Ok(())
    }
}

/// Performs some work, and adds its cost to the result.
async fn timed(work: impl Future<Output = Result<Value>>) -> Result<Value> {
    let (begun, cpu) = (Instant::now(), cpu_time());
    let mut result = work.await?;
    result["seconds"] = begun.elapsed().as_secs_f64().into();
    result["cpu_seconds"] = (cpu_time() - cpu).as_secs_f64().into();
    result["peak_bytes"] = peak_bytes().into();
    Ok(result)
}

/// Returns table options with small files, so that both cores have work in either table.
fn table_options() -> TableOptions {
    TableOptions::new().with_retention(RetentionPolicy::commits(2)).with_file_sizes(4 << 20, 6 << 20)
}

async fn create(folder: &Path, file: &Path, partitioned: bool) -> Result<Value> {
    let store = Arc::new(LocalFileSystem::new_with_prefix(folder)?);
    let mut definition =
        TableDefinition::new(NAME, customers::schema(), ["id"]).with_ordering_field("updated_at");
    if partitioned {
        definition = definition.with_partition_fields(["region"]);
    }
    let table = Table::create_with(store, NAME.into(), definition, table_options()).await?;
    let report = table.insert_stream(rows_of(file)?).await?;
    Ok(json!({ "rows": report.inserted, "files": report.files, "bytes": report.bytes }))
}

async fn open(folder: &Path) -> Result<Table> {
    let store = Arc::new(LocalFileSystem::new_with_prefix(folder)?);
    Ok(Table::open_with(store, NAME.into(), table_options()).await?)
}

async fn upsert(folder: &Path, file: &Path) -> Result<Value> {
    let report = open(folder).await?.upsert_stream(rows_of(file)?).await?;
    ensure!(report.instant.is_some(), "the upsert changed nothing");
    let milliseconds = |time: std::time::Duration| (time.as_secs_f64() * 1e4).round() / 10.0;
    let time = report.time;
    Ok(json!({
        "inserted": report.inserted,
        "updated": report.updated,
        "files": report.files,
        "bytes": report.bytes,
        "repair_ms": milliseconds(time.repair),
        "prepare_ms": milliseconds(time.prepare),
        "find_ms": milliseconds(time.find),
        "write_ms": milliseconds(time.write),
        "commit_ms": milliseconds(time.commit),
        "clean_ms": milliseconds(time.clean),
    }))
}

/// Returns the files that the last upsert replaced.
async fn replaced(folder: &Path) -> Result<Vec<String>> {
    let table = open(folder).await?;
    let newest = table.timeline().await?.latest_commit().context("the table has no commit")?;
    let before = |group: &hudi_scd::FileGroup| {
        let [.., old, new] = group.versions.as_slice() else { return None };
        let path = Path::new(NAME).join(&*group.partition).join(&*old.file);
        (new.instant == newest).then(|| path.display().to_string())
    };
    Ok(table.file_groups().await?.iter().filter_map(before).collect())
}

/// Returns sums over the rows of a table, which differ with high probability if the rows differ.
async fn sums(folder: &Path) -> Result<Value> {
    let mut rows = open(folder).await?.read_stream(Query::snapshot()).await?;
    let mut sums = customers::Sums::default();
    while let Some(batch) = rows.next().await {
        sums.add(&batch?)?;
    }
    Ok(sums.to_json())
}

fn rows_of(
    file: &Path,
) -> Result<impl futures::Stream<Item = hudi_scd::Result<arrow::array::RecordBatch>> + Send> {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(File::open(file)?)?.with_batch_size(8_192).build()?;
    let broken = |cause| Error::new(ErrorKind::InvalidInput, "the input cannot be read").with_source(cause);
    Ok(stream::iter(reader).map(move |batch| batch.map_err(broken)))
}

/// Reads Parquet files and writes them again, concurrently.
async fn rewrite(target: &Path, files: Vec<PathBuf>) -> Result<Value> {
    let permits = Arc::new(tokio::sync::Semaphore::new(std::thread::available_parallelism()?.get()));
    let mut tasks = tokio::task::JoinSet::new();
    let count = files.len();
    for (index, file) in files.into_iter().enumerate() {
        let target = target.with_extension(index.to_string());
        let permit = permits.clone().acquire_owned().await?;
        tasks.spawn_blocking(move || {
            let _permit = permit;
            let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(file)?)?;
            let codec = reader.metadata().row_group(0).column(0).compression();
            let properties = WriterProperties::builder()
                .set_compression(codec)
                .set_writer_version(WriterVersion::PARQUET_1_0)
                .build();
            let mut writer =
                ArrowWriter::try_new(File::create(target)?, reader.schema().clone(), Some(properties))?;
            for batch in reader.with_batch_size(8_192).build()? {
                writer.write(&batch?)?;
            }
            writer.close()?;
            anyhow::Ok(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(json!({ "files": count }))
}

/// Returns a command that runs this program for one measurement.
fn this(turn: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(turn);
    Ok(command)
}

/// Returns the output of a program, without the trailing line break.
fn output_of(command: &mut Command) -> Result<String> {
    let output =
        command.stderr(std::process::Stdio::inherit()).output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
