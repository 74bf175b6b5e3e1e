//! Does a table stay as fast and as small as a new one, and what throughput does it reach?
//!
//! - 1,000 commits of 100 changed rows each are written to a table, with the default cleaning and archival
//!   after each. Then opening and reading the whole table is compared with a new table of the same rows, in
//!   turns. **Limits: 1.05 times the time of the new table, and 11 times the bytes of the newest versions**
//!   (ten readable commits and the one before).
//! - Commits per second into a table of 1,000 rows.
//! - Keys per second looked up in a table of one million rows, by a new handle and by a handle that has
//!   cached the files.
//!
//! Run `cargo run --release -p benches --bin tables`. `--smoke` uses small tables, for CI, and has no time
//! limit.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::{path::Path, sync::Arc, time::Instant};

use anyhow::{Result, bail, ensure};
use arrow::array::RecordBatch;
use benches::{customers, measure::median, results::Section};
use clap::Parser;
use futures::TryStreamExt;
use hudi_scd::{Query, Table, TableDefinition, TableOptions};
use object_store::local::LocalFileSystem;

/// Maximum time of a read after many commits, relative to a new table.
const TIME: f64 = 1.05;
/// Maximum number of versions of each base file.
const VERSIONS: f64 = 11.0;

#[derive(Parser)]
#[command(about = "A table after 1,000 commits compared with a new one; commits and lookups per second")]
struct Options {
    /// Uses small tables, for CI.
    #[arg(long)]
    smoke: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let smoke = Options::parse().smoke;
    let (rows, commits, keys) = if smoke { (2_000, 40, 20_000) } else { (1_000_000, 1_000, 1_000_000) };
    let directory = tempfile::tempdir()?;

    let old = create(directory.path(), "old", rows).await?;
    let begun = Instant::now();
    for commit in 1..=commits {
        let mut rng = fastrand::Rng::with_seed(commit as u64);
        let ids: std::collections::BTreeSet<i64> = (0..100).map(|_| rng.i64(0..rows)).collect();
        let report =
            old.upsert(&[customers::batch(&ids.into_iter().collect::<Vec<_>>(), commit, &mut rng)?]).await?;
        ensure!(report.instant.is_some(), "a commit changed no rows");
    }
    let seconds = begun.elapsed().as_secs_f64() / commits as f64;
    println!("{commits} commits into {rows} rows, {:.1} ms each", seconds * 1e3);
    let fresh = create(directory.path(), "fresh", 0).await?;
    fresh.insert(&old.read(Query::snapshot()).await?).await?;
    let (mut old_seconds, mut fresh_seconds) = (Vec::new(), Vec::new());
    for turn in 0..if smoke { 3 } else { 41 } {
        let (old, fresh) = (read(directory.path(), "old").await?, read(directory.path(), "fresh").await?);
        // The first turn only warms up the system's file cache.
        if turn > 0 {
            old_seconds.push(old);
            fresh_seconds.push(fresh);
        }
    }
    let time = median(&old_seconds) / median(&fresh_seconds);
    let (all, newest) = base_file_bytes(&old).await?;
    let bytes = all / newest;
    println!(
        "read: {:.1} ms after the commits, {:.1} ms new",
        median(&old_seconds) * 1e3,
        median(&fresh_seconds) * 1e3
    );
    ensure!(old.validate().await?.is_empty(), "the table is not valid after {commits} commits");

    let small = create(directory.path(), "small", 1_000).await?;
    let begun = Instant::now();
    let small_commits = commits;
    for commit in 1..=small_commits {
        let mut rng = fastrand::Rng::with_seed(commit as u64);
        let ids: Vec<i64> = (0..10).map(|row| row * 100 + rng.i64(0..100)).collect();
        small.upsert(&[customers::batch(&ids, commit, &mut rng)?]).await?;
    }
    let commits_a_second = small_commits as f64 / begun.elapsed().as_secs_f64();

    let large = create(directory.path(), "large", keys).await?;
    let wanted = keys / 10;
    let mut lookups = Vec::new();
    for turn in 0..3 {
        // The keys exist, so an insert only looks them up and changes nothing.
        let mut rng = fastrand::Rng::with_seed(turn);
        let ids: std::collections::BTreeSet<i64> = (0..wanted).map(|_| rng.i64(0..keys)).collect();
        let batch = customers::batch(&ids.into_iter().collect::<Vec<_>>(), 1, &mut rng)?;
        let handle = if turn == 0 { open(directory.path(), "large").await? } else { large.clone() };
        let report = handle.insert(std::slice::from_ref(&batch)).await?;
        ensure!(report.unchanged == batch.num_rows() as u64, "some keys were not found");
        lookups.push(batch.num_rows() as f64 / report.time.find.as_secs_f64());
    }

    let row = |what: &str, figure: String, limit: &str| [what.to_owned(), figure, limit.to_owned()];
    Section::new(
        "tables",
        "Does a table stay as fast and as small as a new one, and what throughput does it reach?",
        "customers of six columns, on a local disk, default retention and archival",
    )
    .with_table(
        ["what", "figure", "limit"],
        [
            row(
                &format!("reading {rows} rows after {commits} commits, over reading a new table"),
                format!("{time:.3}"),
                &format!("<= {TIME}"),
            ),
            row(
                "bytes of its base files, over those of the newest versions",
                format!("{bytes:.2}"),
                &format!("<= {VERSIONS}"),
            ),
            row(&format!("commits per second, 100 rows into {rows}"), format!("{:.1}", 1.0 / seconds), ""),
            row("commits per second, 10 rows into 1,000", format!("{commits_a_second:.0}"), ""),
            row(
                &format!("keys looked up per second in {keys} rows, {wanted} at a time, new handle"),
                format!("{:.0}", lookups[0]),
                "",
            ),
            row("the same, with cached files", format!("{:.0}", lookups[2]), ""),
        ],
    )
    .publish(!smoke)?;
    if bytes > VERSIONS || (time > TIME && !smoke) {
        bail!("limits exceeded: time {time:.3} of {TIME}, bytes {bytes:.2} of {VERSIONS}");
    }
    Ok(())
}

async fn create(directory: &Path, name: &str, rows: i64) -> Result<Table> {
    let store = Arc::new(LocalFileSystem::new_with_prefix(directory)?);
    let definition =
        TableDefinition::new(name, customers::schema(), ["id"]).with_ordering_field("updated_at");
    let table = Table::create_with(store, name.into(), definition, TableOptions::new()).await?;
    if rows > 0 {
        table.insert(&customers::base(rows).collect::<Result<Vec<_>>>()?).await?;
    }
    Ok(table)
}

async fn open(directory: &Path, name: &str) -> Result<Table> {
    Ok(Table::open(Arc::new(LocalFileSystem::new_with_prefix(directory)?), name.into()).await?)
}

/// Opens a table and reads all of it. Returns the seconds that this took.
async fn read(directory: &Path, name: &str) -> Result<f64> {
    let begun = Instant::now();
    let table = open(directory, name).await?;
    let mut batches = table.read_stream(Query::snapshot()).await?;
    let mut rows = 0;
    while let Some(batch) = batches.try_next().await? {
        let batch: RecordBatch = batch;
        rows += batch.num_rows();
    }
    ensure!(rows > 0, "{name} has no rows");
    Ok(begun.elapsed().as_secs_f64())
}

/// Returns the bytes of all base files, and those of the newest version of each.
async fn base_file_bytes(table: &Table) -> Result<(f64, f64)> {
    let groups = table.file_groups().await?;
    let all = groups.iter().flat_map(|group| &group.versions).map(|version| version.bytes as f64).sum();
    Ok((
        all,
        groups.iter().filter_map(|group| group.versions.last()).map(|version| version.bytes as f64).sum(),
    ))
}
