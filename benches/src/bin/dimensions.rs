//! How fast are histories maintained, and how fast are facts looked up in them?
//!
//! - Changes per second that a type 2 history accepts: 200,000 changes of 50,000 customers into an empty
//!   history, then the same number again, some of them late.
//! - Facts per second that are joined with the dimension row that was valid at the time of the fact: one
//!   million facts and a dimension of 200,000 rows, in memory. The peer is the same join in DataFusion. It is
//!   installed from PyPI, as its users do, because compiling the crate would take many minutes for the same
//!   code. Both joins return the facts with the columns of the matching rows, and the same number of matches.
//!
//! Run `cargo run --release -p benches --bin dimensions -- --peers`. Without `--peers`, DataFusion is not
//! measured. `--smoke` uses small inputs, for CI.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::{fs::File, path::Path, process::Command, sync::Arc, time::Instant};

use anyhow::{Context, Result, ensure};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use benches::{
    measure::{json_lines, median, number},
    results::Section,
};
use clap::Parser;
use hudi_scd::scd::{At, Dimension, Scd2, Scd2Table};
use object_store::local::LocalFileSystem;
use parquet::arrow::ArrowWriter;

const TIERS: [&str; 4] = ["basic", "silver", "gold", "platinum"];
const DAY: i64 = 86_400_000_000;

#[derive(Parser)]
#[command(
    about = "Changes applied to a history, and facts looked up in a dimension, compared with DataFusion's join"
)]
struct Options {
    /// Uses small inputs, for CI.
    #[arg(long)]
    smoke: bool,
    /// Also measures DataFusion, and installs it into the user's cache.
    #[arg(long)]
    peers: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let (customers, changes, facts) =
        if options.smoke { (500, 2_000, 10_000) } else { (50_000, 200_000, 1_000_000) };
    let directory = tempfile::tempdir()?;
    let mut rng = fastrand::Rng::with_seed(1);

    let scd = Scd2::new(["id"], "updated_at").track(["tier"]);
    let first = changed(customers, changes, 0, &mut rng)?;
    let store = Arc::new(LocalFileSystem::new_with_prefix(directory.path())?);
    let definition = Scd2Table::definition_of("history", &scd, &first.schema())?;
    let history = Scd2Table::create(store, "history".into(), definition).await?;
    let mut rates = Vec::new();
    // The second batch begins before the first one ends, so many of its changes are late.
    for batch in [first, changed(customers, changes, 900, &mut rng)?] {
        let begun = Instant::now();
        let report = history.apply(std::slice::from_ref(&batch)).await?;
        rates.push(batch.num_rows() as f64 / begun.elapsed().as_secs_f64());
        ensure!(report.commit.instant.is_some(), "the changes had no effect");
    }

    let dimension = dimension(customers, 4)?;
    let facts = sales(customers, facts, &mut rng)?;
    let turns = if options.smoke { 1 } else { 7 };
    let begun = Instant::now();
    let indexed = Dimension::history(&dimension, &["id"], "valid_from", "valid_to")?;
    let index_seconds = begun.elapsed().as_secs_f64();
    let cores = std::thread::available_parallelism()?.get();
    let (mut seconds, mut on_one, mut matched) = (Vec::new(), Vec::new(), 0);
    for _ in 0..turns {
        let begun = Instant::now();
        matched = matches(&indexed, &facts)?;
        on_one.push(begun.elapsed().as_secs_f64());

        let begun = Instant::now();
        let found = std::thread::scope(|scope| {
            let part = facts.num_rows().div_ceil(cores);
            let parts = (0..facts.num_rows()).step_by(part);
            let parts = parts.map(|start| facts.slice(start, part.min(facts.num_rows() - start)));
            let threads: Vec<_> = parts.map(|part| scope.spawn(|| matches(&indexed, &{ part }))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or(Ok(0))).sum::<Result<usize>>()
        })?;
        seconds.push(begun.elapsed().as_secs_f64());
        ensure!(found == matched, "{found} and {matched} matches");
    }
    let rate = |seconds: f64| format!("{:.2} M", facts.num_rows() as f64 / seconds / 1e6);
    let ours = median(&seconds);
    let mut rows = vec![
        ["changes into an empty history".to_owned(), format!("{:.2} M", rates[0] / 1e6), String::new()],
        ["changes into the same history again".to_owned(), format!("{:.2} M", rates[1] / 1e6), String::new()],
        ["facts looked up at their time, all cores".to_owned(), rate(ours), "1.00".to_owned()],
        ["the same, one core".to_owned(), rate(median(&on_one)), String::new()],
        [
            "the same, including the build of the dimension's index".to_owned(),
            rate(ours + index_seconds),
            String::new(),
        ],
    ];
    if options.peers {
        let joined = join(directory.path(), &dimension, &facts, turns)?;
        for turn in &joined {
            ensure!(
                number(turn, "rows")? as usize == facts.num_rows(),
                "{turn}: the join must return one row for each fact"
            );
            ensure!(number(turn, "matched")? as usize == matched, "{turn}: we matched {matched}");
        }
        let theirs = joined.iter().skip(1).map(|turn| number(turn, "seconds")).collect::<Result<Vec<_>>>()?;
        let theirs = median(&theirs);
        rows.push(["the same join in DataFusion".to_owned(), rate(theirs), format!("{:.2}", theirs / ours)]);
    }
    let missing = if options.peers { "" } else { " DataFusion is only measured with --peers." };
    Section::new(
        "dimensions",
        "How fast are histories maintained, and how fast are facts looked up in them?",
        "50,000 customers, 200,000 changes at a time; a dimension of 200,000 rows, one million facts, in memory",
    )
    .with_table(["operation", "rows per second", "their time / ours"], rows)
    .with_note(&format!("Medians of {turns}; DataFusion uses all cores.{missing}"))
    .publish(!options.smoke && options.peers)
}

/// Counts the facts for which a dimension row is found.
fn matches(dimension: &Dimension, facts: &RecordBatch) -> Result<usize> {
    Ok(facts.num_rows() - dimension.lookup(facts, &["customer"], At::Column("sold_at"))?.unmatched())
}

/// Generates changes of customers over 1,000 days from `day` on, ordered by time.
fn changed(customers: i64, changes: i64, day: i64, rng: &mut fastrand::Rng) -> Result<RecordBatch> {
    let mut times: Vec<i64> = (0..changes).map(|_| day * DAY + rng.i64(0..1_000 * DAY)).collect();
    times.sort_unstable();
    let ids = Int64Array::from_iter_values(times.iter().map(|_| rng.i64(0..customers)));
    let tiers = StringArray::from_iter_values(times.iter().map(|_| TIERS[rng.usize(..TIERS.len())]));
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(ids)),
        ("tier", Arc::new(tiers)),
        ("updated_at", Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, true)),
    )?)
}

/// Generates `versions` consecutive rows for each customer. The last one is still valid.
fn dimension(customers: i64, versions: i64) -> Result<RecordBatch> {
    let rows = || (0..customers).flat_map(|id| (0..versions).map(move |version| (id, version)));
    let from = rows().map(|(id, version)| Some((version * 250 + id % 250) * DAY));
    let to = rows()
        .map(|(id, version)| (version + 1 < versions).then_some(((version + 1) * 250 + id % 250) * DAY));
    let columns: [(&str, ArrayRef); 4] = [
        ("id", Arc::new(Int64Array::from_iter_values(rows().map(|(id, _)| id)))),
        (
            "tier",
            Arc::new(rows().map(|(_, version)| Some(TIERS[version as usize % 4])).collect::<StringArray>()),
        ),
        ("valid_from", Arc::new(TimestampMicrosecondArray::from_iter(from).with_timezone("UTC"))),
        ("valid_to", Arc::new(TimestampMicrosecondArray::from_iter(to).with_timezone("UTC"))),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, true)),
    )?)
}

/// Generates sales over the time range of the dimension. One customer in fifty is unknown.
fn sales(customers: i64, rows: i64, rng: &mut fastrand::Rng) -> Result<RecordBatch> {
    let ids = Int64Array::from_iter_values((0..rows).map(|_| rng.i64(0..customers + customers / 50)));
    let times = TimestampMicrosecondArray::from_iter_values((0..rows).map(|_| rng.i64(0..1_200 * DAY)));
    let columns: [(&str, ArrayRef); 3] = [
        ("customer", Arc::new(ids)),
        ("sold_at", Arc::new(times.with_timezone("UTC"))),
        ("amount", Arc::new(Int64Array::from_iter_values((0..rows).map(|_| rng.i64(1..1_000))))),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, true)),
    )?)
}

fn join(
    folder: &Path,
    dimension: &RecordBatch,
    facts: &RecordBatch,
    turns: usize,
) -> Result<Vec<serde_json::Value>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let install = Command::new(root.join("peers/install")).stderr(std::process::Stdio::inherit()).output();
    let install = install.context("peers/install")?;
    ensure!(install.status.success(), "peers/install: {}", install.status);
    let mut run = Command::new(String::from_utf8(install.stdout)?.trim());
    run.arg(root.join("peers/datafusion_lookup.py"));
    for (name, rows) in [("facts", facts), ("dimension", dimension)] {
        let file = folder.join(format!("{name}.parquet"));
        let mut writer = ArrowWriter::try_new(File::create(&file)?, rows.schema(), None)?;
        writer.write(rows)?;
        writer.close()?;
        run.arg(format!("--{name}")).arg(file);
    }
    // The first turn is a warm-up and is not counted.
    json_lines(run.arg("--turns").arg((turns + 1).to_string()))
}
