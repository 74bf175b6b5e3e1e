//! Does a statement ever run twice, or get lost, whatever is lost and whoever dies?
//!
//! Plays schedules of faults and deaths of the process, each drawn from its own seed, on simulated clocks: the real orchestrator,
//! journal and pipelines against the scripted service; and the submit-and-poll loops of other clients, by their published schedules and
//! rules, on the same schedules. The harness is that of the orchestrator's own tests.
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

#[allow(dead_code, reason = "the orchestrator's own tests use more of it")]
#[path = "../../../redshift-orchestrator/tests/orchestration/simulation/mod.rs"]
mod simulation;

use simulation::{Broken, Tally, peers, play};

#[derive(Parser)]
#[command(about = "Promises 1 and 2 over seeded schedules of faults and deaths, ours and other clients'")]
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
/// A run of as many schedules is the one that the page of results shows.
const FULL: u64 = 1_000_000;

fn main() -> Result<()> {
    let options = Options::parse();
    let count = if options.smoke { 300 } else { options.count };
    let begun = Instant::now();
    let (sums, broken) = play_all(options.seed, count, begun);
    if let Some(broken) = broken {
        let seed = broken.seed;
        bail!("{broken}\nplay it again with --count 1 --seed {seed}");
    }
    let seconds = begun.elapsed().as_secs_f64();
    section(&sums, options.seed, seconds).publish(count >= FULL)?;
    let ours = &sums.ours;
    println!(
        "schedules {}, statements {}, doubled {}, lost {}, unknown {} (all justified), {seconds:.1} s",
        ours.schedules, ours.statements, ours.doubled, ours.lost, ours.unknown,
    );
    Ok(())
}

/// What everybody's schedules add up to.
#[derive(Default)]
struct Sums {
    ours: Tally,
    peers: [Tally; peers::ALL.len()],
}

impl Sums {
    fn play(&mut self, seed: u64) -> Result<(), Broken> {
        self.ours.add(&play(seed)?);
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

/// Plays on every core, until all are played or a promise is broken.
fn play_all(first: u64, count: u64, begun: Instant) -> (Sums, Option<Broken>) {
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
            let broken = numbers.into_iter().find_map(|n| sums.play(first.wrapping_add(n)).err());
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

/// A line on standard error: rewritten twice a second on a terminal, a new one every 10 seconds elsewhere.
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
        // Whoever closed standard error does not miss it.
        let mut out = std::io::stderr();
        let _ = write!(out, "{before}{text:70}{after}").and_then(|()| out.flush());
    }

    fn end(&self) {
        if self.is_terminal {
            eprint!("\r{:70}\r", "");
        }
    }
}

fn section(sums: &Sums, seed: u64, seconds: f64) -> Section {
    let row = |name: &str, tally: &Tally| {
        let per = |count: u64| {
            let share = count as f64 * 1e3 / tally.statements.max(1) as f64;
            format!("{count} ({share:.1})")
        };
        [
            name.to_owned(),
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
        "Does a statement ever run twice, or get lost, whatever is lost and whoever dies?",
        &format!(
            "{} schedules from seed {seed}, {} deaths and {} faults in ours, {seconds:.0} s",
            ours.schedules, ours.deaths, ours.faults
        ),
    )
    .with_table(
        ["client", "statements", "doubled (of 1000)", "lost (of 1000)", "said to be unknown"],
        rows,
    )
    .with_note(
        "Everybody plays the same work, fault rates, outages, deaths and pauses between processes, drawn from one seed a schedule. \
         Doubled: effects of a step beyond its first. Lost: statements that the service accepted, and of which nobody was told the true \
         ending, nor that it is unknown. The peers are modelled by their published schedules and rules, kindly: what starts their processes \
         remembers which steps reported success, and never runs those again.",
    )
}
