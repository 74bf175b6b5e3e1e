//! Simulation of schedules. The work, the faults of its requests and the deaths of its processes are all
//! drawn from one seed, and the result is checked against the promises.
//!
//! The orchestrator, its layers and the pipeline are the real ones. The service is the scripted state machine
//! with its tokens, listing and expiry. A schedule has one to three *lines*: pipelines with equal steps and
//! the same run name, in one or two databases of one service. Each line has its own journal. The following is
//! drawn for each schedule, line or process:
//!
//! * between process and service: lost requests, lost responses, plain and wrapped throttles, delays, outages,
//!   listings of 1 to 2 minutes, and credentials that are expired for seconds to minutes;
//! * in the service: a cancelled statement is rolled back for up to an hour, which can exceed the grace time of
//!   its cancel, or its commit has begun and the cancel comes too late;
//! * layers: none, a [`Retry`](redshift_orchestrator::layer::Retry), or a
//!   [`Fleet`](redshift_orchestrator::layer::Fleet) with few or many permits. In crowded schedules, a process has
//!   one permit for statements of up to 9 hours, so submits are queued for longer than the service remembers a
//!   token;
//! * the journal: lines on a disk, or an `ObjectStoreJournal`. The storage fails for up to hours and
//!   recovers. Leases are released and renewed, at times so slowly that both happen at once. Older runs are pruned;
//! * death at every interaction with service or journal, and at random moments in between: before, after,
//!   with requests in flight, or with half a record written. The next process starts after milliseconds to
//!   days, with the same journal and its own clock, which may be behind the previous one. A long-lived
//!   process runs the pipeline again itself.
//!
//! Checks after each schedule:
//! * **doubled**: no step took effect twice;
//! * **lost**: every statement that the service accepted has its true ending in the journal, or is unknown;
//! * **unknown** is justified by the events: it is reported neither while the submit is in a queue nor while
//!   a listing shows the statement, nor because of a slow cancel or of expired credentials;
//! * **uncancelled**: a statement that is reported as timed out was cancelled, and has ended 12 hours later;
//! * **stuck**: a submit is not queued for a permit that nothing holds, and a journal works when its storage
//!   does;
//! * **locked**: a run that has ended does not block another process;
//! * **costly**: opening a run reads no other run.
//!
//! [`coverage`] counts the conditions that were played, and none may be missing in 10,000 schedules.
//!
//! # Planted faults
//!
//! [`Flaw`] plants faults from outside, with decorators of the executor, the journal and its storage. The
//! judge finds each of them within some hundred schedules (`each_planted_fault_is_found` in `promises.rs`),
//! and without the fault the system passes the same seed.
//!
//! | fault | planted as | verdict |
//! |---|---|---|
//! | each submit has a new token | `FreshTokens` | doubled |
//! | a process does not know the previous process's records | `ForgetfulJournal` | doubled |
//! | an unknown statement is submitted again | `ResubmitsUnknown` | doubled |
//! | a statement that has started counts as finished | `HastyReader` | lost |
//! | a request that fails at the first try makes its statement unknown | `Impatient` | unjustified |
//! | the token does not depend on the pipeline, and the response is not checked | `TokensWithoutPipeline` | lost |
//! | the token depends on neither compute nor database, and the response is not checked | `TokensWithoutTarget` | lost |
//! | the statement name does not contain the pipeline, and the listing is not checked | `NamesWithoutPipeline` | lost |
//! | a repeated submit is queued beyond the token window, and then sent | `IgnoresDeadlines` | doubled |
//! | time in a queue counts as time without a response | `CountsQueues` | unjustified |
//! | a listing is cut off after 60 s | `CutsListings` | unjustified |
//! | opening a run reads every run | `ReadsEveryRun` | costly |
//! | pruning removes an unfinished run | `PrunesUnfinished` | lost |
//! | a journal that failed once fails until the process ends | `NeverRecovers` | stuck |
//! | a journal that failed once has lost its records when its storage recovers | `LosesRecords` | lost |
//! | permits of doubtful submits are not released | `KeepsPermits` | stuck |
//! | a renewal extends a lease that was released | `RenewsReleasedLeases` | locked |
//! | the clock is set back by hours with each restart, which exceeds the promise | `StepsBack` | doubled |
//! | expired credentials in a wait are final | `CredentialsAreFinal` | unjustified |
//! | a refused repetition counts as proof that a submit in doubt had no effect | `LastRefusalCounts` | lost |
//! | a statement that still runs a minute after its cancel is unknown | `SlowCancelsUnknown` | unjustified |
//! | a cancel is forgotten | `ForgetsCancels` | uncancelled |
//! | a statement that finished after its cancel was accepted is aborted | `CancelsAlwaysWork` | lost |
//!
//! [`peers`] run the same schedules by the published rules of other clients. Their doubled and lost
//! statements are counted; ours must be zero.

use std::fmt;

mod coverage;
mod disk;
mod fate;
mod judge;
mod network;
mod ours;
pub(crate) mod peers;
mod plants;
mod schedule;
mod store;

pub(crate) use coverage::Coverage;
pub(crate) use plants::Flaw;
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
    /// Conditions that were played.
    pub(crate) coverage: Coverage,
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
        self.coverage.add(&other.coverage);
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
