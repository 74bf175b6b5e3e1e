//! Simulation of schedules: the work, the faults of its requests and the deaths of its process are all drawn
//! from one seed and checked against the promises.
//!
//! The orchestrator and the pipeline are the real ones, and the service is the scripted state machine with
//! its tokens, listing and expiry. The network between them loses requests and replies, throttles (plain and
//! wrapped), delays and fails for a while. The process may die at every interaction with the service or the
//! journal, and at random moments between them: before, after, with requests in flight, or with half a record
//! written. A new process then begins with the same journal after milliseconds to days.
//!
//! Checks after each schedule:
//! * **doubled**: no step took effect twice;
//! * **lost**: every statement that the service accepted has its true ending in the journal, or is recorded
//!   as unknown;
//! * **unknown**: the events of the schedule justify it.
//!
//! [`peers`] run the same schedules by the published rules of other clients. Their doubled and lost
//! statements are counted; ours must be zero.

use std::fmt;

mod fate;
mod judge;
mod network;
mod ours;
pub(crate) mod peers;
mod schedule;

pub(crate) use ours::Flaw;
use schedule::Schedule;

/// Sums over schedules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Number of schedules.
    pub(crate) schedules: u64,
    /// Number of statements that the service accepted.
    pub(crate) statements: u64,
    /// Number of deaths of the process.
    pub(crate) deaths: u64,
    /// Number of faults of requests.
    pub(crate) faults: u64,
    /// Number of effects of a step beyond its first.
    pub(crate) doubled: u64,
    /// Number of statements for which neither the true ending nor an unknown outcome was reported.
    pub(crate) lost: u64,
    /// Number of statements whose outcome was reported as unknown.
    pub(crate) unknown: u64,
}

impl Tally {
    /// Adds another tally.
    pub(crate) fn add(&mut self, other: &Self) {
        self.schedules += other.schedules;
        self.statements += other.statements;
        self.deaths += other.deaths;
        self.faults += other.faults;
        self.doubled += other.doubled;
        self.lost += other.lost;
        self.unknown += other.unknown;
    }
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// The seed that replays it.
    pub(crate) seed: u64,
    /// The violation.
    pub(crate) what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}", self.seed, self.what)
    }
}

/// Runs the schedule of a seed with the orchestrator.
pub(crate) fn play(seed: u64) -> Result<Tally, Broken> {
    play_flawed(seed, None)
}

/// Runs the schedule with a deliberately broken orchestrator, which the judge must detect.
pub(crate) fn play_flawed(seed: u64, flaw: Option<Flaw>) -> Result<Tally, Broken> {
    on_a_clock_of_its_own(seed, ours::play(Schedule::drawn(seed), flaw))
}

/// Runs a simulation on paused time.
fn on_a_clock_of_its_own<T>(
    seed: u64,
    simulation: impl Future<Output = Result<T, String>>,
) -> Result<T, Broken> {
    let broken = |what: String| Broken { seed, what };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| broken(error.to_string()))?;
    runtime.block_on(simulation).map_err(broken)
}
