//! Does the metadata table of another writer cost readers time?
//!
//! A table of 1,000 rows gets 1,000 commits, of which most are then archived. Opening and reading it is
//! compared, in turns, with opening and reading a copy beside a metadata table of 100 MB, as in tables of
//! Spark. **Limit: 1.05 times the time without it.**
//!
//! Run `cargo run --release -p benches --bin opening`, which takes less than a minute. `--smoke` uses fewer
//! commits, for CI, and has no limit.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::{fs, path::Path, sync::Arc, time::Instant};

use anyhow::{Result, bail, ensure};
use benches::{customers, folders::copy, measure::median, results::Section};
use clap::Parser;
use hudi_scd::{Query, Table, TableDefinition, TableOptions};
use object_store::local::LocalFileSystem;

/// The maximum time beside a metadata table, relative to that without one.
const TIME: f64 = 1.05;
/// The size of the metadata table in bytes, and the number of its files.
const METADATA: (u64, u64) = (100_000_000, 100);
const ROWS: i64 = 1_000;

#[derive(Parser)]
#[command(about = "Opening and reading a table beside a metadata table, compared with the same without one")]
struct Options {
    /// Uses fewer commits, for CI.
    #[arg(long)]
    smoke: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let smoke = Options::parse().smoke;
    let (commits, turns) = if smoke { (40, 3) } else { (1_000, 201) };
    let directory = tempfile::tempdir()?;
    write(directory.path(), commits).await?;
    with_metadata_table(&directory.path().join("alone"), &directory.path().join("beside"))?;

    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for turn in 0..turns {
        // The order alternates, because the second of two reads may find warmer caches.
        let names = if turn % 2 == 0 { ["alone", "beside"] } else { ["beside", "alone"] };
        for name in names {
            let seconds = read(directory.path(), name).await?;
            // The first turn only warms up the system's file cache.
            match name {
                _ if turn == 0 => {}
                "alone" => alone.push(seconds),
                _ => beside.push(seconds),
            }
        }
    }
    let (alone, beside) = (median(&alone), median(&beside));
    let time = beside / alone;

    let row = |what: String, milliseconds: f64, ratio: String| [what, format!("{milliseconds:.2}"), ratio];
    let size = METADATA.0 / 1_000_000;
    Section::new(
        "opening",
        "Does the metadata table of another writer cost readers time?",
        &format!("{ROWS} customers after {commits} commits, default retention and archival, on a local disk"),
    )
    .with_table(
        ["opened and read", "ms", "ratio"],
        [
            row("without a metadata table".to_owned(), alone * 1e3, String::new()),
            row(format!("beside one of {size} MB"), beside * 1e3, format!("{time:.3} (limit {TIME})")),
        ],
    )
    .publish(!smoke)?;
    if time > TIME && !smoke {
        bail!("limit exceeded: {time:.3} of {TIME}");
    }
    Ok(())
}

/// Writes the table `alone`.
async fn write(directory: &Path, commits: i64) -> Result<()> {
    let store = Arc::new(LocalFileSystem::new_with_prefix(directory)?);
    let definition =
        TableDefinition::new("customers", customers::schema(), ["id"]).with_ordering_field("updated_at");
    let table = Table::create_with(store, "alone".into(), definition, TableOptions::new()).await?;
    table.insert(&customers::base(ROWS).collect::<Result<Vec<_>>>()?).await?;
    for commit in 1..=commits {
        let mut rng = fastrand::Rng::with_seed(commit.unsigned_abs());
        let ids: Vec<i64> = (0..10).map(|row| row * 100 + rng.i64(0..100)).collect();
        table.upsert(&[customers::batch(&ids, commit, &mut rng)?]).await?;
    }
    Ok(())
}

/// Copies a table and adds a metadata table to the copy. The properties list it, and its folders have the names
/// and the number of files of a metadata table written by Spark. Nothing reads the files, so they are holes.
fn with_metadata_table(from: &Path, to: &Path) -> Result<()> {
    copy(from, to)?;
    let properties = to.join(".hoodie/hoodie.properties");
    let listed = format!("{}hoodie.table.metadata.partitions=files\n", fs::read_to_string(&properties)?);
    fs::write(&properties, listed)?;
    let (timeline, index) = (to.join(".hoodie/metadata/.hoodie"), to.join(".hoodie/metadata/files"));
    fs::create_dir_all(&timeline)?;
    fs::create_dir_all(&index)?;
    let (bytes, files) = METADATA;
    for number in 0..files {
        let log = index.join(format!(".files-0000-0_20260101000000000.log.{number}_0-0-0"));
        fs::File::create(log)?.set_len(bytes / files)?;
        for state in [".requested", ".inflight", ""] {
            fs::write(timeline.join(format!("202601010000{number:05}.deltacommit{state}")), "{}")?;
        }
    }
    Ok(())
}

/// Opens a table and reads all of it. Returns the seconds that this took.
async fn read(directory: &Path, name: &str) -> Result<f64> {
    let begun = Instant::now();
    let store = Arc::new(LocalFileSystem::new_with_prefix(directory)?);
    let batches = Table::open(store, name.into()).await?.read(Query::snapshot()).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
    ensure!(rows == usize::try_from(ROWS)?, "{name} has {rows} rows");
    Ok(seconds)
}
