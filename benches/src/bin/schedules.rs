//! Does a statement ever run twice or get lost, under any faults and crashes?
//!
//! Runs schedules of faults and process deaths on simulated clocks. Each schedule is drawn from a seed. The
//! real orchestrator, journal and pipelines run against the scripted service. The submit-and-poll loops of
//! other clients, with their published pauses and rules, run on the same schedules. The simulation is shared
//! with the orchestrator's tests.
//!
//! A table shows how often each difficult condition occurred, such as a queue longer than the token's
//! retention. A run of at least 10,000 schedules fails if one of the conditions never occurred.
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
use benches::results::Section;
use clap::Parser;
use tokio::time::Instant;

#[path = "../../../redshift-orchestrator/tests/support/intercept.rs"]
mod intercept;
#[allow(dead_code, reason = "only the orchestrator's tests use all of it")]
#[path = "../../../redshift-orchestrator/tests/orchestration/simulation/mod.rs"]
mod simulation;

use simulation::{Broken, Coverage, Tally, peers, play};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(
    about = "Doubled and lost statements over seeded schedules of faults and crashes, for ours and other clients"
)]
struct Options {
    /// Number of schedules.
    #[arg(long, default_value_t = 20_000)]
    count: u64,
    /// Seed of the first schedule. The following schedules have the following seeds.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of schedules that the peers also run. 20,000 are enough to measure their shares.
    #[arg(long, default_value_t = 20_000)]
    peers: u64,
    /// Runs a few hundred schedules, for CI.
    #[arg(long)]
    smoke: bool,
}

/// Number of seeds that a thread processes at a time.
const CHUNK: u64 = 100;
/// Number of schedules from which a run fails if one of the conditions never occurred.
const ENOUGH: u64 = 10_000;
/// A run of this many schedules updates the results page.
const FULL: u64 = 1_000_000;

fn main() -> Result<()> {
    let options = Options::parse();
    let count = if options.smoke { 300 } else { options.count };
    let begun = Instant::now();
    let (sums, broken) = play_all(options.seed, count, options.peers, begun);
    if let Some(broken) = broken {
        let seed = broken.seed;
        bail!("{broken}\nreplay it with --count 1 --seed {seed}");
    }
    let seconds = begun.elapsed().as_secs_f64();
    section(&sums, &options, seconds).publish(count >= FULL)?;
    let ours = &sums.ours;
    println!("{}", played(&ours.coverage));
    let missing = ours.coverage.missing();
    if count >= ENOUGH && !missing.is_empty() {
        bail!("no schedule of {count} played {}", missing.join(", nor "));
    }
    println!(
        "schedules {}, statements {}, doubled {}, lost {}, unknown {} (all justified), {seconds:.1} s",
        ours.schedules, ours.statements, ours.doubled, ours.lost, ours.unknown,
    );
    Ok(())
}

/// Sums over the schedules for each client.
#[derive(Default)]
struct Sums {
    ours: Tally,
    peers: [Tally; peers::ALL.len()],
}

impl Sums {
    fn play(&mut self, seed: u64, with_peers: bool) -> Result<(), Broken> {
        self.ours.add(&play(seed)?);
        if !with_peers {
            return Ok(());
        }
        for (sum, peer) in self.peers.iter_mut().zip(peers::ALL) {
            sum.add(&peers::play(peer, seed)?);
        }
        Ok(())
    }

    fn add(&mut self, other: &Self) {
        self.ours.add(&other.ours);
        for (sum, part) in self.peers.iter_mut().zip(&other.peers) {
            sum.add(part);
        }
    }
}

/// Runs all schedules, using every core, until an invariant is broken.
fn play_all(first: u64, count: u64, with_peers: u64, begun: Instant) -> (Sums, Option<Broken>) {
    let (next, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    let state: Mutex<(Sums, Option<Broken>)> = Mutex::default();
    let locked = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let work = || {
        while !ended.load(Ordering::Relaxed) {
            let from = next.fetch_add(CHUNK, Ordering::Relaxed);
            if from >= count {
                break;
            }
            let mut sums = Sums::default();
            let numbers = from..count.min(from.saturating_add(CHUNK));
            let broken =
                numbers.into_iter().find_map(|n| sums.play(first.wrapping_add(n), n < with_peers).err());
            let mut state = locked();
            state.0.add(&sums);
            if let Some(broken) = broken {
                ended.store(true, Ordering::Relaxed);
                state.1.get_or_insert(broken);
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let mut progress = Progress::new(count, begun);
        while workers.iter().any(|worker| !worker.is_finished()) {
            thread::park_timeout(Duration::from_millis(100));
            progress.show(locked().0.ours.schedules);
        }
        progress.end();
    });
    state.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A progress line on standard error. On a terminal, the line is rewritten twice a second. Otherwise, a new
/// line is printed every 10 seconds.
struct Progress {
    count: u64,
    begun: Instant,
    shown: Instant,
    is_terminal: bool,
}

impl Progress {
    fn new(count: u64, begun: Instant) -> Self {
        Self { count, begun, shown: begun, is_terminal: std::io::stderr().is_terminal() }
    }

    fn show(&mut self, done: u64) {
        let (every, before, after) = if self.is_terminal { (500, "\r", "") } else { (10_000, "", "\n") };
        if done == 0 || self.shown.elapsed() < Duration::from_millis(every) {
            return;
        }
        self.shown = Instant::now();
        let elapsed = self.begun.elapsed().as_secs_f64();
        let left = elapsed / done as f64 * self.count.saturating_sub(done) as f64;
        let text = format!("{done} of {} schedules, {elapsed:.0} s, about {left:.0} s left", self.count);
        // Errors are ignored, because standard error may be closed.
        let mut out = std::io::stderr();
        let _ = write!(out, "{before}{text:70}{after}").and_then(|()| out.flush());
    }

    fn end(&self) {
        if self.is_terminal {
            eprint!("\r{:70}\r", "");
        }
    }
}

/// Formats the table of conditions that occurred in our schedules.
fn played(coverage: &Coverage) -> String {
    let mut text = format!("{:>10} {:>10}  condition\n", "schedules", "times");
    for (name, count) in coverage.iter() {
        text += &format!("{:>10} {:>10}  {name}\n", count.schedules, count.times);
    }
    text
}

fn section(sums: &Sums, options: &Options, seconds: f64) -> Section {
    let row = |name: &str, tally: &Tally| {
        let per = |count: u64| {
            let share = count as f64 * 1e3 / tally.statements.max(1) as f64;
            format!("{count} ({share:.1})")
        };
        [
            name.to_owned(),
            tally.schedules.to_string(),
            tally.statements.to_string(),
            per(tally.doubled),
            per(tally.lost),
            tally.unknown.to_string(),
        ]
    };
    let rows = std::iter::once(row("redshift-orchestrator", &sums.ours))
        .chain(sums.peers.iter().zip(peers::ALL).map(|(tally, peer)| row(peer.name(), tally)));
    let ours = &sums.ours;
    Section::new(
        "schedules",
        "Does a statement ever run twice or get lost, under any faults and crashes?",
        &format!(
            "{} schedules from seed {}, {} deaths and {} faults in ours, {seconds:.0} s",
            ours.schedules, options.seed, ours.deaths, ours.faults
        ),
    )
    .with_table(
        ["client", "schedules", "statements", "doubled (of 1000)", "lost (of 1000)", "reported as unknown"],
        rows,
    )
    .with_note(&format!(
        "All clients run the same work, fault rates, outages, crashes and pauses between processes, drawn from one seed per schedule. \
         The peers run the first {} schedules. \
         Doubled: effects of a step beyond its first. Lost: statements that the service accepted and whose true \
         outcome was neither reported, nor reported as unknown. The peers are modelled favourably by their published schedules and rules: \
         their scheduler remembers the steps that reported success, and never runs them again.",
        options.peers.min(sums.ours.schedules),
    ))
}
