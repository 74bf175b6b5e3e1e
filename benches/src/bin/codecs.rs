//! How much does each compression cost in bytes, loads, upserts and reads?
//!
//! The same million customers are loaded into one table per codec and level. Then 10,000 rows with random
//! keys, half of them new, are upserted several times, and all rows are read. The codecs take turns, so that
//! other load on the machine affects all of them. With `--peers`, Spark with Hudi 0.15.0 loads the same rows
//! by the same operation with its defaults (GZIP), and its bytes are compared.
//!
//! Run `cargo run --release -p benches --bin codecs -- --peers`. It fails if the default codec takes more
//! than 1.1 times the bytes of Spark. `--smoke` uses small tables, for CI, and has no limit.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use benches::{
    customers,
    measure::{cpu_time, json_lines, median},
    results::Section,
};
use clap::Parser;
use futures::TryStreamExt;
use hudi_scd::{Codec, Query, Table, TableDefinition, TableOptions};
use object_store::local::LocalFileSystem;

/// Maximum bytes of the default codec, relative to Spark's.
const BYTES: f64 = 1.1;

#[derive(Parser)]
#[command(about = "The codecs of base files compared: bytes, load, upsert, read")]
struct Options {
    /// Uses small tables, for CI.
    #[arg(long)]
    smoke: bool,
    /// Also measures Spark's bytes, and installs Spark into the user's cache.
    #[arg(long)]
    peers: bool,
    /// Number of counted turns.
    #[arg(long, default_value_t = 5)]
    turns: usize,
}

/// A codec and level, and its figures.
struct Contestant {
    name: &'static str,
    options: TableOptions,
    bytes: f64,
    load: Cost,
    upserts: Vec<Cost>,
    reads: Vec<Cost>,
    after: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    seconds: f64,
    cpu: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Options { smoke, peers, turns } = Options::parse();
    ensure!(turns > 0, "--turns must be at least 1");
    let (rows, changes, turns) = if smoke { (20_000, 200, 1) } else { (1_000_000, 10_000, turns) };
    let directory = tempfile::tempdir()?;
    let of = |codec: Codec, level: u32| TableOptions::new().with_codec(codec).with_compression_level(level);
    let all = [
        ("default", TableOptions::new()),
        ("snappy", TableOptions::new().with_codec(Codec::Snappy)),
        ("gzip 1", of(Codec::Gzip, 1)),
        ("gzip 2", of(Codec::Gzip, 2)),
        ("gzip 6", of(Codec::Gzip, 6)),
        ("zstd 1", of(Codec::Zstd, 1)),
        ("zstd 3", of(Codec::Zstd, 3)),
    ];
    let mut contestants = Vec::new();
    for (name, options) in all {
        contestants.push(Contestant::load(directory.path(), name, options, rows).await?);
    }
    for turn in 0..=turns {
        for contestant in &mut contestants {
            contestant.turn(directory.path(), rows, changes, turn).await?;
        }
    }
    let theirs = if peers { Some(spark(directory.path(), rows)?) } else { None };
    let snappy = contestants.iter().find(|one| one.name == "snappy").context("snappy takes part")?;
    let base = (snappy.upsert(), snappy.read());
    let table = contestants.iter().map(|one| one.row(theirs, base));
    Section::new(
        "codecs",
        "How much does each compression cost in bytes, loads, upserts and reads?",
        &format!("{rows} customers of six columns; upserts of {changes} rows, half new, random keys"),
    )
    .with_table(
        [
            "codec",
            "MB",
            "MB / Spark's",
            "load, CPU s",
            "upsert, s",
            "upsert, CPU s",
            "upsert / snappy's",
            "MB after the upserts",
            "read, CPU s",
            "read / snappy's",
        ],
        table,
    )
    .with_note(&format!(
        "Medians of {turns}; ratios are those of processor time. Spark with Hudi 0.15.0 at its defaults, GZIP: {}. Limit for the \
         default: {BYTES} times that.",
        theirs.map_or_else(|| "not measured".to_owned(), |bytes| format!("{:.1} MB", bytes / 1e6))
    ))
    .publish(!smoke && peers)?;
    match theirs {
        Some(theirs) if !smoke && contestants[0].bytes > BYTES * theirs => {
            bail!(
                "limit exceeded: the default codec takes {:.0} bytes, Spark {theirs:.0}",
                contestants[0].bytes
            )
        }
        _ => Ok(()),
    }
}

impl Contestant {
    async fn load(directory: &Path, name: &'static str, options: TableOptions, rows: i64) -> Result<Self> {
        let definition =
            TableDefinition::new("t", customers::schema(), ["id"]).with_ordering_field("updated_at");
        let base = customers::base(rows).collect::<Result<Vec<_>>>()?;
        let store = Arc::new(LocalFileSystem::new_with_prefix(directory)?);
        let table = Table::create_with(store, name.into(), definition, options.clone()).await?;
        let (load, ()) = timed(async {
            table.bulk_insert(&base).await?;
            Ok(())
        })
        .await?;
        let bytes = newest_bytes(&table).await?;
        Ok(Self { name, options, bytes, load, upserts: Vec::new(), reads: Vec::new(), after: bytes })
    }

    async fn open(&self, directory: &Path) -> Result<Table> {
        let store = Arc::new(LocalFileSystem::new_with_prefix(directory)?);
        Ok(Table::open_with(store, self.name.into(), self.options.clone()).await?)
    }

    async fn turn(&mut self, directory: &Path, rows: i64, changes: i64, turn: usize) -> Result<()> {
        let mut rng = fastrand::Rng::with_seed(turn as u64);
        let old: std::collections::BTreeSet<i64> = (0..changes / 2).map(|_| rng.i64(0..rows)).collect();
        let new = (0..changes / 2).map(|row| rows + turn as i64 * changes + row);
        let ids: Vec<i64> = old.into_iter().chain(new).collect();
        let batch = customers::batch(&ids, turn as i64 + 1, &mut rng)?;
        let (upsert, table) = timed(async {
            let table = self.open(directory).await?;
            table.upsert(&[batch]).await?;
            Ok(table)
        })
        .await?;
        self.after = newest_bytes(&table).await?;
        let (read, count) = timed(async {
            let mut batches = self.open(directory).await?.read_stream(Query::snapshot()).await?;
            let mut count = 0;
            while let Some(batch) = batches.try_next().await? {
                count += batch.num_rows();
            }
            Ok(count)
        })
        .await?;
        ensure!(count as i64 >= rows, "some rows were not read");
        // The first turn only warms up the system's file cache.
        if turn > 0 {
            self.upserts.push(upsert);
            self.reads.push(read);
        }
        Ok(())
    }

    fn upsert(&self) -> Cost {
        middle(&self.upserts)
    }

    fn read(&self) -> Cost {
        middle(&self.reads)
    }

    fn row(&self, theirs: Option<f64>, (upsert, read): (Cost, Cost)) -> [String; 10] {
        let (own_upsert, own_read) = (self.upsert(), self.read());
        [
            self.name.to_owned(),
            format!("{:.1}", self.bytes / 1e6),
            theirs.map_or_else(String::new, |theirs| format!("{:.2}", self.bytes / theirs)),
            format!("{:.2}", self.load.cpu),
            format!("{:.3}", own_upsert.seconds),
            format!("{:.2}", own_upsert.cpu),
            format!("{:.2}", own_upsert.cpu / upsert.cpu),
            format!("{:.1}", self.after / 1e6),
            format!("{:.2}", own_read.cpu),
            format!("{:.2}", own_read.cpu / read.cpu),
        ]
    }
}

fn middle(costs: &[Cost]) -> Cost {
    let of = |figure: fn(&Cost) -> f64| median(&costs.iter().map(figure).collect::<Vec<_>>());
    Cost { seconds: of(|cost| cost.seconds), cpu: of(|cost| cost.cpu) }
}

async fn timed<T>(work: impl Future<Output = Result<T>>) -> Result<(Cost, T)> {
    let (begun, cpu) = (Instant::now(), cpu_time());
    let done = work.await?;
    let cost = Cost { seconds: begun.elapsed().as_secs_f64(), cpu: (cpu_time() - cpu).as_secs_f64() };
    Ok((cost, done))
}

/// Returns the bytes of the newest version of each base file.
async fn newest_bytes(table: &Table) -> Result<f64> {
    let groups = table.file_groups().await?;
    Ok(groups.iter().filter_map(|group| group.versions.last()).map(|version| version.bytes as f64).sum())
}

/// Returns the total size in bytes of the base files that Spark writes for the same rows.
fn spark(directory: &Path, rows: i64) -> Result<f64> {
    let (base, table) = (directory.join("base.parquet"), directory.join("spark"));
    customers::write_parquet(&base, customers::base(rows))?;
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/spark");
    let mut install = Command::new(scripts.join("install"));
    let installed = install.args(["--python", "0.15.0"]).stderr(Stdio::inherit()).output()?;
    ensure!(installed.status.success(), "{install:?}: {}", installed.status);
    let python = String::from_utf8(installed.stdout)?;
    let mut run = Command::new(python.trim());
    run.arg(scripts.join("bench_upsert.py")).args(["--name", "t", "--key", "id", "--ordering", "updated_at"]);
    run.arg("--create").arg(format!("{}={}", base.display(), table.display()));
    json_lines(&mut run)?;
    let files = fs::read_dir(&table)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    let base_files = files.iter().filter(|file| file.extension().is_some_and(|ending| ending == "parquet"));
    let sizes = base_files.map(|file| Ok(fs::metadata(file)?.len() as f64)).collect::<Result<Vec<_>>>()?;
    ensure!(!sizes.is_empty(), "Spark wrote no base files");
    Ok(sizes.iter().sum())
}
