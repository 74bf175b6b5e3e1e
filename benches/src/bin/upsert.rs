//! What does an upsert cost beyond writing the files it touches?
//!
//! A table of one million rows without partitions receives 10,000 rows, half of them new, with keys drawn at random, so that every
//! file group is touched. The peer is the least that copy-on-write can do: read those same Parquet files and write them again
//! with the same settings, on as many cores, without looking for keys, merging, or keeping a timeline. Both are measured in
//! turns in one run, after one turn that is not counted; the figures are medians.
//!
//! `cargo run --release -p benches --bin upsert` prints the table; `--smoke` takes a table of 20,000 rows, for CI.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures the machine's own time")]

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use arrow::{
    array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};
use clap::Parser;
use hudi_scd::{RetentionPolicy, Table, TableDefinition, TableOptions};
use object_store::local::LocalFileSystem;
use parquet::arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder};
use parquet::file::properties::{WriterProperties, WriterVersion};

#[derive(Parser)]
#[command(about = "An upsert against rewriting the files it touches")]
struct Options {
    /// A small table, for CI.
    #[arg(long)]
    smoke: bool,
    /// Turns that count.
    #[arg(long, default_value_t = 5)]
    turns: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let (rows, changes, turns) =
        if options.smoke { (20_000, 200, 1) } else { (1_000_000, 10_000, options.turns) };
    ensure!(turns > 0, "--turns: at least one");

    let directory = tempfile::tempdir()?;
    let store = Arc::new(LocalFileSystem::new_with_prefix(directory.path())?);
    let definition = TableDefinition::new("customer", schema(), ["id"]).with_ordering_field("updated_at");
    let table_options =
        TableOptions::new().with_retention(RetentionPolicy::commits(2)).with_file_sizes(4 << 20, 6 << 20);
    let table = Table::create_with(store, "customer".into(), definition, table_options).await?;
    let mut rng = fastrand::Rng::with_seed(1);
    table.upsert(&[batch(&(0..rows).collect::<Vec<_>>(), 0, &mut rng)?]).await?;

    let (mut upserts, mut rewrites) = (Vec::new(), Vec::new());
    let mut next = rows;
    for turn in 0..=turns {
        let old = (0..changes / 2).map(|_| rng.i64(0..rows));
        let keys: Vec<i64> = old.chain(next..next + changes / 2).collect();
        next += changes / 2;
        let incoming = batch(&keys, turn as i64 + 1, &mut rng)?;

        let begun = Instant::now();
        let report = table.upsert(&[incoming]).await?;
        let upsert = begun.elapsed();
        ensure!(report.inserted == changes as u64 / 2, "inserted {}: {report:?}", report.inserted);

        let written = newest_files(&table, directory.path()).await?;
        ensure!(report.files as usize == written.len(), "every file group is touched");
        let begun = Instant::now();
        rewrite(&written, directory.path()).await?;
        let rewritten = begun.elapsed();
        if turn > 0 {
            upserts.push(upsert);
            rewrites.push(rewritten);
        }
        println!(
            "turn {turn}: upsert {upsert:.0?} (find {:.0?}, write {:.0?}, commit {:.0?}, clean {:.0?}; {} files, {:.1} MB), \
             rewrite {rewritten:.0?}",
            report.time.find,
            report.time.write,
            report.time.commit,
            report.time.clean,
            report.files,
            report.bytes as f64 / 1e6,
        );
    }
    let (upsert, rewrite) = (median(&mut upserts), median(&mut rewrites));
    let cores = std::thread::available_parallelism()?;
    println!("\n{changes} rows, half new, into {rows}; {cores} cores; median of {turns}");
    println!("| upsert | rewriting the same files | ratio |\n|---:|---:|---:|");
    println!("| {upsert:.0?} | {rewrite:.0?} | {:.2} |", upsert.as_secs_f64() / rewrite.as_secs_f64());
    Ok(())
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("city", DataType::Utf8, true),
        Field::new("balance", DataType::Decimal128(15, 2), true),
        Field::new("updated_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
    ]))
}

fn batch(keys: &[i64], time: i64, rng: &mut fastrand::Rng) -> Result<RecordBatch> {
    const CITIES: [&str; 6] = ["Austin", "Bergen", "Kyiv", "Lyon", "Oslo", "Rome"];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(keys.to_vec())),
        Arc::new(StringArray::from_iter_values(keys.iter().map(|key| format!("customer {key}")))),
        Arc::new(StringArray::from_iter_values(keys.iter().map(|_| CITIES[rng.usize(..CITIES.len())]))),
        Arc::new(
            Decimal128Array::from_iter_values(keys.iter().map(|_| i128::from(rng.u32(..10_000_000))))
                .with_precision_and_scale(15, 2)?,
        ),
        Arc::new(
            TimestampMicrosecondArray::from_iter_values(keys.iter().map(|_| time * 1_000_000))
                .with_timezone("UTC"),
        ),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

/// The newest file of each file group, which the last upsert wrote.
async fn newest_files(table: &Table, directory: &Path) -> Result<Vec<PathBuf>> {
    let groups = table.file_groups().await?;
    groups
        .iter()
        .map(|group| {
            let newest = group.versions.last().context("a file group has a version")?;
            Ok(directory.join(table.root().as_ref()).join(&group.partition).join(&newest.file))
        })
        .collect()
}

/// Reads Parquet files and writes them again, side by side.
async fn rewrite(files: &[PathBuf], directory: &Path) -> Result<()> {
    let permits = Arc::new(tokio::sync::Semaphore::new(std::thread::available_parallelism()?.get()));
    let mut tasks = tokio::task::JoinSet::new();
    for (index, file) in files.iter().enumerate() {
        let (file, target) = (file.clone(), directory.join(format!("rewritten-{index}.parquet")));
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
    Ok(())
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
