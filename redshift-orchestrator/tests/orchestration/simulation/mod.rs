//! Schedules: work, the faults that its requests meet and the deaths of its process, all drawn from one seed, against the promises.
//!
//! The orchestrator and the pipeline are the real ones; the service is the scripted state machine with its tokens, listing and
//! expiry; between them stand lost requests, lost replies, throttles plain and wrapped, delays and outages; and at every interaction
//! with service or journal, and at drawn moments between them, the process may die: before, after, with requests still on their way, or with half a
//! record written. A new process then begins with the same journal, after a pause of milliseconds to days.
//!
//! After each schedule:
//! * **doubled**: no step took effect twice;
//! * **lost**: every statement that the service accepted has an ending in the journal, the true one, or is unknown;
//! * **unknown** is justified by what happened.
//!
//! [`peers`] play the same schedules by the published rules of other clients; theirs is a count, ours a promise.

use std::fmt;

mod fate;
mod judge;
mod network;
mod ours;
pub(crate) mod peers;
mod schedule;

pub(crate) use ours::Flaw;
use schedule::Schedule;

/// What schedules add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Schedules played.
    pub(crate) schedules: u64,
    /// Statements that the service accepted.
    pub(crate) statements: u64,
    /// Deaths of the process.
    pub(crate) deaths: u64,
    /// Faults that requests met.
    pub(crate) faults: u64,
    /// Effects of a step beyond its first.
    pub(crate) doubled: u64,
    /// Statements whose true ending nobody was told, nor that it is unknown.
    pub(crate) lost: u64,
    /// Statements whose fate could not be proved, and that were reported so.
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

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// The seed that plays it again.
    pub(crate) seed: u64,
    /// What happened.
    pub(crate) what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}", self.seed, self.what)
    }
}

/// Plays the schedule of a seed with the orchestrator.
pub(crate) fn play(seed: u64) -> Result<Tally, Broken> {
    play_flawed(seed, None)
}

/// The same, with an orchestrator that is broken on purpose: the judge must see it.
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
