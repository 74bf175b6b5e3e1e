//! How much does a statement cost while it is in flight?
//!
//! 100,000 scripted statements run at once, on one thread and tokio's paused clock. All of them are submitted
//! within a tenth of a second. Each is in flight for a minute and is awaited with long polls of 30 seconds.
//! There are four setups, each in a separate process:
//!
//! * no wait: only the scripted service, which replaces AWS;
//! * a bare loop of `submit` and `describe`, in one task per statement;
//! * the wait: [`Wait`] with long polls, in one task per statement;
//! * the orchestrator: a journal in memory with intent, id and outcome, the wait, and the outcome returned to
//!   the caller.
//!
//! Memory is the resident memory of the process while all statements are in flight, minus the memory before
//! the start, divided by the number of statements. It includes the service's record, the task and its timers.
//! Processor time is that of the whole process until all statements have finished, divided by the number of
//! statements. `above the service` excludes the cost of the first setup, which AWS bears in production.
//!
//! `cargo run --release -p benches --bin in_flight` fails if a statement takes more than 2 KiB or 20 µs,
//! either in the service or in the wait above it. `--smoke` runs fewer statements and has no limits.

use std::{
    process::{Command, ExitCode},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use benches::{
    measure::{cpu_time, json_lines, number, resident_bytes},
    results::Section,
};
use clap::{Parser, ValueEnum};
use redshift_data_local::{Limits, LocalExecutor, Script, Scripted, ScriptedExecution};
use redshift_orchestrator::{
    Orchestrator, Statement, StatementExecutor, StepKey, WaitTime,
    journal::MemoryJournal,
    wait::{LongPoll, RequestCounts, Wait, WaitOutcome},
};
use tokio::{task::JoinSet, time::sleep};

#[derive(Parser)]
#[command(about = "Memory and processor time of statements in flight")]
struct Options {
    /// Runs a thousand statements without limits, for CI.
    #[arg(long)]
    smoke: bool,
    /// Number of statements in flight.
    #[arg(long, default_value_t = 100_000)]
    count: usize,
    /// Measures one setup in this process.
    #[arg(long, hide = true)]
    way: Option<Way>,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Way {
    Service,
    Bare,
    Wait,
    Orchestrator,
}

/// Duration of each statement. It takes three long polls, the last of which reports the end.
const RUNS: Duration = Duration::from_secs(61);
/// Number of statements that are submitted in the same millisecond.
const AT_ONCE: usize = 1_000;
const MOST_BYTES: f64 = 2048.0;
const MOST_MICROS: f64 = 20.0;

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let count = if options.smoke { 1_000 } else { options.count };
    if let Some(way) = options.way {
        return measure(way, count).map(|()| ExitCode::SUCCESS);
    }
    let mut rows = Vec::new();
    let mut broken = Vec::new();
    let mut service = None;
    for (way, name, is_limited) in [
        (Way::Service, "no wait: the scripted service by itself", true),
        (Way::Bare, "a bare loop of submit and describe", false),
        (Way::Wait, "Wait", true),
        (Way::Orchestrator, "Orchestrator::run, journal in memory", false),
    ] {
        let mut command = Command::new(std::env::current_exe()?);
        let value = way.to_possible_value().context("a setup has a name")?;
        command.args(["--way", value.get_name(), "--count", &count.to_string()]);
        let measured = json_lines(&mut command)?;
        let measured = measured.last().context("the child printed nothing")?;
        let (bytes, micros) = (number(measured, "bytes")?, number(measured, "micros")?);
        let (held, worked) = *service.get_or_insert((bytes, micros));
        let above = (bytes - held, micros - worked);
        let counted = if way == Way::Service { (bytes, micros) } else { above };
        rows.push([
            name.to_owned(),
            format!("{bytes:.0}"),
            format!("{micros:.1}"),
            format!("{:.0}", above.0),
            format!("{:.1}", above.1),
        ]);
        if is_limited && (counted.0 > MOST_BYTES || counted.1 > MOST_MICROS) {
            broken.push(name);
        }
    }
    let input = format!(
        "{count} statements in flight for {} s each, scripted service in the same process",
        RUNS.as_secs()
    );
    Section::new("in_flight", "How much does a statement cost while it is in flight?", &input)
        .with_table(
            ["per statement", "total bytes", "total CPU us", "bytes above the service", "CPU us above it"],
            rows,
        )
        .with_note(
            "Limits for a statement in the scripted service, and for a wait above it: 2048 bytes, 20 us. Figures cover the submit to the ending, with three long \
             polls; those of the orchestrator include its journal in memory and the outcome.",
        )
        .publish(!options.smoke)?;
    if !options.smoke && !broken.is_empty() {
        bail!("limit exceeded: {}", broken.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(way: Way, count: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async {
        let mut limits = Limits::default();
        limits.active_statements = usize::MAX;
        let service = LocalExecutor::scripted(
            Script::new().with_limits(limits).otherwise(ScriptedExecution::finished(RUNS)),
        );
        let service = Arc::new(service);
        let (memory, processor) = (resident_bytes(), cpu_time());
        let mut tasks = JoinSet::new();
        let orchestrator = Orchestrator::new(service.clone()).with_journal(MemoryJournal::new());
        for number in 0..count {
            match way {
                Way::Service => drop(service.submit(&statement(), None).await?),
                Way::Bare => drop(tasks.spawn(bare(service.clone()))),
                Way::Wait => drop(tasks.spawn(wait(service.clone()))),
                Way::Orchestrator => drop(tasks.spawn(orchestrate(orchestrator.clone(), number))),
            }
            if number % AT_ONCE == 0 {
                sleep(Duration::from_millis(1)).await;
            }
        }
        sleep(RUNS / 2).await;
        let bytes = (resident_bytes() as f64 - memory as f64) / count as f64;
        let mut finished = 0;
        if way == Way::Service {
            sleep(RUNS).await;
            finished = service.effects().len();
        }
        while let Some(task) = tasks.join_next().await {
            finished += usize::from(task??);
        }
        ensure!(finished == count, "{finished} of {count} finished");
        let micros = (cpu_time() - processor).as_secs_f64() * 1e6 / count as f64;
        println!("{{\"bytes\": {bytes}, \"micros\": {micros}}}");
        Ok(())
    })
}

fn statement() -> Statement {
    Statement::sql("CALL work()")
}

async fn bare(service: Arc<LocalExecutor<Scripted>>) -> Result<bool> {
    let id = service.submit(&statement(), None).await?.id;
    while !service.describe(&id, Some(WaitTime::MAX)).await?.status.is_terminal() {}
    Ok(true)
}

async fn wait(service: Arc<LocalExecutor<Scripted>>) -> Result<bool> {
    let id = service.submit(&statement(), None).await?.id;
    let ending =
        Wait::new(&*service, &id, &LongPoll::default()).until_ended(&mut RequestCounts::default()).await;
    Ok(matches!(ending, WaitOutcome::Ended(_)))
}

async fn orchestrate(orchestrator: Orchestrator, number: usize) -> Result<bool> {
    let key = StepKey::new("run", number.to_string());
    Ok(orchestrator.run(&key, statement()).await?.is_success())
}
