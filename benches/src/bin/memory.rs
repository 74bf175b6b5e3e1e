//! Does the memory of a write depend on the amount of data written?
//!
//! Streams of rows are written into new tables: as many rows as fit into the memory budget, four times as
//! many, and sixteen times as many. Each write runs in a separate process, and the kernel reports its peak
//! memory. Then an upsert changes every row of the last table. **Limits: a write of sixteen times the budget
//! takes at most 1.25 times the memory of a write of four times the budget, and no write takes more memory
//! than four times the budget.**
//!
//! glibc keeps freed memory in arenas, up to eight for each core, and memory that is idle in an arena counts
//! as used. Each write is therefore measured twice: with the default, and with one arena
//! (`MALLOC_ARENA_MAX=1`). The second figure is the memory that the program itself needs, and the limits
//! apply to it.
//!
//! Run `cargo run --release -p benches --bin memory`. `--smoke` uses a small budget, for CI.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use benches::{
    customers,
    measure::{json_lines, number, peak_bytes},
    results::Section,
};
use clap::{Parser, Subcommand};
use futures::{StreamExt, stream};
use hudi_scd::{Error, ErrorKind, RetentionPolicy, Table, TableDefinition, TableOptions};
use object_store::local::LocalFileSystem;
use serde_json::json;

/// Approximate size of a row in memory.
const ROW_BYTES: i64 = 80;
/// Maximum memory of a write of sixteen times the budget, relative to a write of four times the budget.
const GROWTH: f64 = 1.25;
/// Maximum memory of a write, relative to its budget.
const MOST: f64 = 4.0;

#[derive(Parser)]
#[command(about = "Peak memory of writes of one, four and sixteen times the memory budget")]
struct Options {
    /// Uses a small budget, for CI.
    #[arg(long)]
    smoke: bool,
    #[command(subcommand)]
    one: Option<One>,
}

#[derive(Subcommand)]
enum One {
    /// Upserts rows in this process.
    #[command(hide = true)]
    Write { folder: PathBuf, rows: i64, budget: usize, time: i64 },
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(One::Write { folder, rows, budget, time }) = options.one {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        return runtime.block_on(write(&folder, rows, budget, time));
    }
    let budget: i64 = if options.smoke { 4 << 20 } else { 64 << 20 };
    let directory = tempfile::tempdir()?;
    let (mut rows, mut peaks) = (Vec::new(), Vec::new());
    let mut measure = |what: &str, folder: &Path, times: i64, time: i64| -> Result<()> {
        let count = times * budget / ROW_BYTES;
        let write = |folder: PathBuf, arenas: Option<&str>| {
            std::fs::create_dir_all(&folder)?;
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("write").arg(&folder).args([count, budget, time].map(|number| number.to_string()));
            command.envs(arenas.map(|arenas| ("MALLOC_ARENA_MAX", arenas)));
            let result = json_lines(&mut command)?.pop().context("the write printed no result")?;
            ensure!(number(&result, "rows")? as i64 == count, "{result}");
            anyhow::Ok(result)
        };
        let default_peak = number(&write(folder.with_extension("arenas"), None)?, "peak_bytes")?;
        let result = write(folder.to_owned(), Some("1"))?;
        let peak = number(&result, "peak_bytes")?;
        peaks.push(peak);
        rows.push([
            what.to_owned(),
            count.to_string(),
            format!("{:.0}", number(&result, "input_bytes")? / 1e6),
            format!("{:.0}", peak / 1e6),
            format!("{:.0}", default_peak / 1e6),
            format!("{:.1}", number(&result, "seconds")?),
        ]);
        Ok(())
    };
    for times in [1, 4, 16] {
        measure(
            &format!("{times} x the budget, new rows"),
            &directory.path().join(times.to_string()),
            times,
            0,
        )?;
    }
    measure("16 x the budget, every row changed", &directory.path().join("16"), 16, 1)?;
    let growth = peaks[2] / peaks[1];
    let most = peaks.iter().copied().fold(0.0, f64::max) / budget as f64;
    Section::new(
        "memory",
        "Does the memory of a write depend on the amount of data written?",
        &format!("customers of six columns, streamed; a memory budget of {} MiB; files of 32 MiB", budget >> 20),
    )
    .with_table(["write", "rows", "input MB", "peak MB, one arena", "peak MB, default", "seconds"], rows)
    .with_note(&format!(
        "Sixteen times the budget takes {growth:.2} times the memory of four times the budget (limit {GROWTH}), and the maximum is \
         {most:.1} times the budget (limit {MOST})."
    ))
    .publish(!options.smoke)?;
    // With a small budget, the memory of an idle process would dominate.
    ensure!(
        options.smoke || (growth <= GROWTH && most <= MOST),
        "limits exceeded: {growth:.2} of {GROWTH}, {most:.1} of {MOST}"
    );
    Ok(())
}

async fn write(folder: &Path, rows: i64, budget: usize, time: i64) -> Result<()> {
    let store = Arc::new(LocalFileSystem::new_with_prefix(folder)?);
    let options = TableOptions::new()
        .with_memory_budget(budget)
        .with_file_sizes(24 << 20, 32 << 20)
        .with_retention(RetentionPolicy::commits(2));
    let definition = TableDefinition::new("t", customers::schema(), ["id"]).with_ordering_field("updated_at");
    let table = match Table::open_with(store.clone(), "t".into(), options.clone()).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Table::create_with(store, "t".into(), definition, options).await?
        }
        opened => opened?,
    };
    let mut input = 0;
    let begun = std::time::Instant::now();
    // The keys arrive in random order.
    let mut rng = fastrand::Rng::with_seed(1);
    let mut batches = (0..rows).step_by(8_192).map(move |start| {
        let ids: Vec<i64> =
            (start..rows.min(start + 8_192)).map(|row| row.wrapping_mul(7_919) % rows.max(1)).collect();
        customers::batch(&ids, time, &mut rng)
    });
    let broken = |cause: anyhow::Error| Error::new(ErrorKind::InvalidInput, "no rows").with_source(cause);
    let stream =
        stream::iter(std::iter::from_fn(move || batches.next())).map(move |batch| batch.map_err(broken));
    let stream = stream.inspect(|batch| {
        input += batch.as_ref().map_or(0, arrow::array::RecordBatch::get_array_memory_size);
    });
    let report = table.upsert_stream(stream).await?;
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({
            "rows": report.inserted + report.updated,
            "files": report.files,
            "input_bytes": input,
            "peak_bytes": peak_bytes(),
            "seconds": seconds,
        })
    );
    Ok(())
}
