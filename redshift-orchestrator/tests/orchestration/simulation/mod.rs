//! Simulates schedules and checks the results against the promises. The work of a schedule, the faults of its
//! requests and the deaths of its processes are drawn from one seed.
//!
//! The code under test is the real orchestrator, with its layers and pipelines. The service is the scripted
//! state machine, which simulates client tokens, listings and the expiry of records. A schedule has one to
//! three *lines*: pipelines with equal steps and the same run name, in one or two databases of one service.
//! Each line has a separate journal. The following is drawn for each schedule, line or process:
//!
//! * between process and service: lost requests and responses, plain and wrapped throttling, delays, outages,
//!   listings that take 1 to 2 minutes, and credentials that are expired for seconds to minutes;
//! * in the service: rollbacks of up to an hour, which can exceed the grace time of a cancel, and commits
//!   that have begun, so that a cancel is too late;
//! * layers: none, a [`Retry`](redshift_orchestrator::layer::Retry), or a
//!   [`Fleet`](redshift_orchestrator::layer::Fleet) with few or many permits. In crowded schedules, a process
//!   has one permit and the statements take up to 9 hours, so submits are queued for longer than the service
//!   remembers a token;
//! * the journal: lines on a disk, or an `ObjectStoreJournal`. The storage fails for up to hours, and
//!   recovers. Writes of leases are sometimes so slow that a release and a renewal overlap. Older runs are
//!   pruned;
//! * death of a process, either at an interaction with the service or the journal (before it, after it, or
//!   during it, with a request in flight or a record partly written) or at a random time. The next process
//!   starts after milliseconds to days. It has the same journal, but a clock that may be behind that of the
//!   previous process. A long-lived process runs the pipeline again itself.
//!
//! The verdicts on a schedule. Each one names a broken promise:
//! * **doubled**: a step took effect twice;
//! * **lost**: the service accepted a statement, and the journal contains neither its true outcome nor that
//!   its outcome is unknown;
//! * **unjustified**: an outcome was reported as unknown without a valid reason, for example while the submit
//!   was queued, although a listing showed the statement, or because of a slow cancel or expired credentials;
//! * **uncancelled**: a statement was reported as timed out, but was not cancelled, or was still running 12
//!   hours later;
//! * **stuck**: a submit was queued for a permit although no statement was active, or a journal failed
//!   although its storage worked;
//! * **locked**: a run that had ended blocked another process;
//! * **costly**: opening a run read other runs.
//!
//! [`coverage`] counts how often each condition occurs. In 10,000 schedules, every condition must occur.
//!
//! # Flaws
//!
//! To check the judge, a [`Flaw`] is added to the system with decorators of the executor, the journal or its
//! storage. The test `the_judge_finds_each_flaw` in `promises.rs` checks that the judge finds each flaw
//! within 1,000 schedules, and that the system without the flaw passes the same schedule.
//!
//! | flaw | variant | verdict |
//! |---|---|---|
//! | each submit has a new client token | `FreshTokens` | doubled |
//! | the journal loses its records when a process ends | `ForgetfulJournal` | doubled |
//! | a statement with an unknown outcome is submitted again | `ResubmitsUnknown` | doubled |
//! | a statement that has started counts as finished | `HastyReader` | lost |
//! | after one failed request, the outcome of the statement is unknown | `Impatient` | unjustified |
//! | the token does not depend on the pipeline, and the response is not checked | `TokensWithoutPipeline` | lost |
//! | the token depends on neither compute nor database, and the response is not checked | `TokensWithoutTarget` | lost |
//! | the statement name does not contain the pipeline, and the listing is not checked | `NamesWithoutPipeline` | lost |
//! | a repeated submit that was queued until its token expired is sent | `IgnoresDeadlines` | doubled |
//! | time in a queue counts as time without a response | `CountsQueues` | unjustified |
//! | a listing is cut off after 60 s | `CutsListings` | unjustified |
//! | opening a run reads every run | `ReadsEveryRun` | costly |
//! | pruning removes an unfinished run | `PrunesUnfinished` | lost |
//! | a journal that failed once fails until the process ends | `NeverRecovers` | stuck |
//! | a journal that failed once loses its records when its storage recovers | `LosesRecords` | lost |
//! | permits of uncertain submits are not released | `KeepsPermits` | stuck |
//! | a renewal extends a lease that was released | `RenewsReleasedLeases` | locked |
//! | the clock is set back by two hours with each restart, more than the promises allow | `StepsBack` | doubled |
//! | a wait ends when credentials expire | `CredentialsAreFinal` | unjustified |
//! | a rejected repetition counts as proof that the first submit had no effect | `LastRefusalCounts` | lost |
//! | if a statement still runs a minute after its cancel, its outcome is unknown | `SlowCancelsUnknown` | unjustified |
//! | a cancel is not sent | `ForgetsCancels` | uncancelled |
//! | a statement that finishes after its cancel was accepted is reported as aborted | `CancelsAlwaysWork` | lost |
//!
//! [`peers`] plays the same schedules by the published rules of other clients, and counts the statements that
//! they double or lose. The orchestrator must double and lose none.

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

/// Totals over several schedules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Number of schedules.
    pub(crate) schedules: u64,
    /// Number of statements that the service accepted.
    pub(crate) statements: u64,
    /// Number of deaths of processes.
    pub(crate) deaths: u64,
    /// Number of failed requests.
    pub(crate) faults: u64,
    /// Number of effects of steps beyond the first of each step.
    pub(crate) doubled: u64,
    /// Number of statements that were reported neither with their true outcome nor as unknown.
    pub(crate) lost: u64,
    /// Number of statements whose outcome was reported as unknown.
    pub(crate) unknown: u64,
    /// Number of occurrences of each condition.
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

/// Broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Seed that replays the schedule.
    pub(crate) seed: u64,
    /// Description of the violation.
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

/// Plays the schedule of a seed. With a flaw, the judge must find it.
pub(crate) fn play_flawed(seed: u64, flaw: Option<Flaw>) -> Result<Tally, Broken> {
    on_a_clock_of_its_own(seed, ours::play(Schedule::drawn(seed), flaw))
}

/// Runs a simulation in paused time, on a runtime of its own.
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
