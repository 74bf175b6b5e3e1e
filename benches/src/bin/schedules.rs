//! Does a statement ever run twice, or get lost, whatever is lost and whoever dies?
//!
//! Plays schedules of faults and deaths of the process, each drawn from its own seed, on simulated clocks: the real orchestrator,
//! journal and pipelines against the scripted service. The harness is that of the orchestrator's own test, which plays fewer.
//!
//! `cargo run --release -p benches --bin schedules -- --count 1000000 --seed 1`

use std::{
    io::{IsTerminal, Write},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Result, bail};
use clap::Parser;

#[path = "../../../redshift-orchestrator/tests/orchestration/simulation.rs"]
mod simulation;

use simulation::{Broken, Tally, play};

#[derive(Parser)]
#[command(about = "Promises 1 and 2 over seeded schedules of faults and deaths")]
struct Options {
    /// Schedules to play.
    #[arg(long, default_value_t = 20_000)]
    count: u64,
    /// The seed of the first one; each further one has the next seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A few hundred schedules, for CI.
    #[arg(long)]
    smoke: bool,
}

/// Seeds that a thread takes at a time.
const CHUNK: u64 = 100;

fn main() -> Result<()> {
    let options = Options::parse();
    let count = if options.smoke { 500 } else { options.count };
    let begun = tokio::time::Instant::now();
    let (next, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    let sums: Mutex<(Tally, Option<Broken>)> = Mutex::default();
    let locked = || sums.lock().unwrap_or_else(PoisonError::into_inner);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    while !ended.load(Ordering::Relaxed) {
                        let from = next.fetch_add(CHUNK, Ordering::Relaxed);
                        if from >= count {
                            break;
                        }
                        let mut tally = Tally::default();
                        for number in from..count.min(from + CHUNK) {
                            match play(options.seed.wrapping_add(number)) {
                                Ok(played) => tally.add(&played),
                                Err(broken) => {
                                    ended.store(true, Ordering::Relaxed);
                                    locked().1.get_or_insert(broken);
                                    break;
                                }
                            }
                        }
                        locked().0.add(&tally);
                    }
                })
            })
            .collect();
        while std::io::stderr().is_terminal() && workers.iter().any(|worker| !worker.is_finished()) {
            thread::park_timeout(Duration::from_millis(500));
            let done = locked().0.schedules;
            eprint!("\r{done} of {count} schedules, {:.0} s", begun.elapsed().as_secs_f64());
            let _ = std::io::stderr().flush();
        }
    });
    let (tally, broken) = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(broken) = broken {
        let seed = broken.seed;
        bail!("{broken}\nplay it again with --count 1 --seed {seed}");
    }
    println!(
        "\rschedules {}, statements {}, deaths {}, faults {}, doubled 0, lost 0, unknown {} (all justified), {:.1} s",
        tally.schedules,
        tally.statements,
        tally.deaths,
        tally.faults,
        tally.unknown,
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}
