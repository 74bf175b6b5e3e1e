//! How much overhead does the orchestrator add to a bare loop over the SDK?
//!
//! The same statements are run on the same emulator over loopback by three clients: a loop of
//! `ExecuteStatement` and `DescribeStatement` with a wait, as a user would write it with
//! `aws-sdk-redshiftdata`; the same loop with [`DataApiExecutor`]; and the [`Orchestrator`], with intents,
//! ids and outcomes in a journal in memory. All three use the SDK's client with the same settings. They take
//! turns after each statement or, with concurrent statements, after each round. The medians are compared.
//!
//! When 64 statements that finish immediately are in flight at once, the requests keep both processors busy,
//! in this process and in the emulator. In that case, processor time is compared.
//!
//! The cost of a journal on disk is measured separately, together with the cost of syncing one record to that
//! disk.
//!
//! `cargo run --release -p benches --bin overhead` fails if the orchestrator takes more than 1.05 times as
//! long as the bare loop in the cases that mostly wait for statements. `--smoke` is short and has no limit.

use std::{
    fs::File,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use aws_sdk_redshiftdata::{Client, types::StatusString};
use benches::{
    measure::median,
    results::Section,
    service::{emulate, sdk_config},
};
use clap::Parser;
use futures::{StreamExt, TryStreamExt, stream};
use redshift_data_local::{Limits, Script, ScriptedExecution};
use redshift_orchestrator::{
    DataApiExecutor, Orchestrator, Statement, StatementExecutor, StepKey, Target, WaitTime,
    journal::{FileJournal, MemoryJournal},
};
use tokio::time::Instant;

#[derive(Parser)]
#[command(
    about = "Compares the wall time of the orchestrator with that of a bare SDK loop, against the emulator"
)]
struct Options {
    /// Runs a few statements without limit, for CI.
    #[arg(long)]
    smoke: bool,
}

const LIMIT: f64 = 1.05;

fn main() -> Result<()> {
    let options = Options::parse();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(options.smoke))
}

async fn run(smoke: bool) -> Result<()> {
    let mut limits = Limits::default();
    limits.active_statements = usize::MAX;
    let script = Script::new()
        .with_limits(limits)
        .on("CALL nothing", ScriptedExecution::finished(Duration::ZERO))
        .on("CALL brief", ScriptedExecution::finished(Duration::from_millis(20)));
    let url = emulate(script)?;
    let [bare, executor, memory, disk] =
        std::array::from_fn(|_| DataApiExecutor::new(&sdk_config(&url), target()));
    let directory = tempfile::tempdir()?;
    let journal = Arc::new(FileJournal::open(directory.path().join("journal"))?);
    let ways = [
        Way::Bare(bare.client().clone()),
        Way::Executor(executor),
        Way::Orchestrator(Orchestrator::new(memory).with_journal(MemoryJournal::new())),
    ];
    let on_disk = Way::Orchestrator(Orchestrator::new(disk).with_journal(journal.clone()));

    // Number of concurrent statements.
    let many = if smoke { 4 } else { 64 };
    let mut rows = Vec::new();
    let mut worst: f64 = 0.0;
    for (name, sql, together, count, is_limited) in [
        ("one at a time, no duration".to_owned(), "CALL nothing()", 1, if smoke { 20 } else { 5_000 }, true),
        ("one at a time, 20 ms".to_owned(), "CALL brief()", 1, if smoke { 5 } else { 500 }, true),
        (format!("{many} at a time, 20 ms"), "CALL brief()", many, if smoke { 1 } else { 200 }, true),
        (
            format!("{many} at a time, no duration: processor time"),
            "CALL nothing()",
            many,
            if smoke { 1 } else { 200 },
            false,
        ),
    ] {
        let [bare, executor, orchestrator] = take_turns(ways.each_ref(), sql, together, count).await?;
        if is_limited {
            worst = worst.max(orchestrator / bare);
        }
        rows.push([
            name,
            micros(bare),
            micros(executor),
            micros(orchestrator),
            format!("{:.3}", executor / bare),
            format!("{:.3}", orchestrator / bare),
        ]);
    }

    let (count, rounds) = if smoke { (5, 1) } else { (1_000, 50) };
    let mut apart = Vec::new();
    for (together, turns) in [(1, count), (many, rounds)] {
        let before = journal.sync_count();
        let [memory, disk] = take_turns([&ways[2], &on_disk], "CALL nothing()", together, turns).await?;
        let syncs = (journal.sync_count() - before) as f64 / ((turns + WARM_UP) * together) as f64;
        let name = if together == 1 { "one at a time".to_owned() } else { format!("{together} at a time") };
        apart.push([name, micros(disk - memory), format!("{syncs:.2}")]);
    }
    apart.push([
        "appending a record to a plain file, and syncing it".to_owned(),
        micros(sync_of_a_record(directory.path().join("plain"), count)?),
        "1.00".to_owned(),
    ]);

    let input = "statements through the emulator on loopback: submit, a description that is held until the end; the clients take turns";
    Section::new("overhead", "How much overhead does the orchestrator add to a bare loop over the SDK?", input)
        .with_table(
            ["statements", "bare SDK loop, us", "DataApiExecutor, us", "Orchestrator, us", "executor / bare", "orchestrator / bare"],
            rows,
        )
        .with_note(&format!(
            "Medians per statement, over 5,000 and 500 statements of each client one at a time, and over 200 rounds of 64 at a time. Limit for \
             orchestrator / bare in all but the last: {LIMIT}."
        ))
        .with_table(["a journal on disk adds", "us per statement", "syncs per statement"], apart)
        .publish(!smoke)?;
    ensure!(
        smoke || worst <= LIMIT,
        "limit exceeded: the orchestrator takes {worst:.3} times as long as the bare loop"
    );
    Ok(())
}

fn micros(seconds: f64) -> String {
    format!("{:.0}", seconds * 1e6)
}

fn target() -> Target {
    Target::cluster("dwh", "dev")
}

enum Way {
    Bare(Client),
    Executor(DataApiExecutor),
    Orchestrator(Orchestrator),
}

impl Way {
    async fn once(&self, sql: &str) -> Result<()> {
        match self {
            Self::Bare(client) => bare(client, sql).await,
            Self::Executor(executor) => {
                let id = executor.submit(&Statement::sql(sql), None).await?.id;
                while !executor.describe(&id, Some(WaitTime::MAX)).await?.status.is_terminal() {}
                Ok(())
            }
            Self::Orchestrator(orchestrator) => {
                static NUMBER: AtomicU64 = AtomicU64::new(0);
                let step = NUMBER.fetch_add(1, Ordering::Relaxed).to_string();
                let outcome = orchestrator.run(&StepKey::new("run", step), Statement::sql(sql)).await?;
                ensure!(outcome.is_success(), "{outcome:?}");
                Ok(())
            }
        }
    }

    /// Runs `together` statements concurrently. Returns the seconds per statement.
    async fn some(&self, sql: &str, together: usize) -> Result<f64> {
        let begun = Instant::now();
        if together == 1 {
            self.once(sql).await?;
        } else {
            let all = stream::iter(0..together).map(|_| self.once(sql));
            all.buffer_unordered(together).try_collect::<()>().await?;
        }
        Ok(begun.elapsed().as_secs_f64() / together as f64)
    }
}

/// The loop that a user would write: the same two calls and the same wait.
async fn bare(client: &Client, sql: &str) -> Result<()> {
    let submitted =
        client.execute_statement().cluster_identifier("dwh").database("dev").sql(sql).send().await?;
    let id = submitted.id().context("the response contains no id")?;
    loop {
        let description = client.describe_statement().id(id).wait_time_seconds(30).send().await?;
        match description.status() {
            Some(StatusString::Finished) => return Ok(()),
            Some(StatusString::Failed | StatusString::Aborted) => anyhow::bail!("{:?}", description.error()),
            _ => {}
        }
    }
}

/// Number of turns that are not counted.
const WARM_UP: usize = 3;

/// Returns the median seconds per statement of each client. The clients take turns, and each turn begins with
/// another client.
async fn take_turns<const N: usize>(
    ways: [&Way; N],
    sql: &str,
    together: usize,
    turns: usize,
) -> Result<[f64; N]> {
    let mut taken: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(turns));
    for turn in 0..WARM_UP + turns {
        for place in 0..N {
            let way = (turn + place) % N;
            let seconds = ways[way].some(sql, together).await?;
            if turn >= WARM_UP {
                taken[way].push(seconds);
            }
        }
    }
    Ok(taken.each_ref().map(|seconds| median(seconds)))
}

/// Returns the median seconds for appending and syncing 200 bytes.
fn sync_of_a_record(path: std::path::PathBuf, count: usize) -> Result<f64> {
    let mut file = File::create(path)?;
    let mut taken = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        file.write_all(&[b'x'; 200])?;
        file.sync_data()?;
        taken.push(begun.elapsed().as_secs_f64());
    }
    Ok(median(&taken))
}
