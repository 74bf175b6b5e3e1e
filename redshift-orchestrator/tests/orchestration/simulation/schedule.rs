//! [`Schedule`]: work, faults and outages, drawn from a seed. They are the same for every client.

use std::{ops::Range, time::Duration};

use redshift_data_local::{Fault, Faults, Latency, Limits, Operation, Script, ScriptedExecution};
use redshift_orchestrator::{
    FailureKind, Pipeline, Target,
    pipeline::{OnFailure, RetryPolicy, Step},
};

/// Work of a schedule, its execution in the service, and the faults of the network.
pub(super) struct Schedule {
    pub(super) seed: u64,
    /// One to three pipelines with equal steps. They run with the same run name on one service.
    pub(super) lines: Vec<Line>,
    pub(super) script: Script,
    /// Range of the seconds that the service takes for a page of a listing.
    pub(super) listing: Range<u64>,
    /// `true` for a schedule with long statements, one permit per process, and downtimes of about the time
    /// for which a token is remembered.
    pub(super) is_crowded: bool,
    /// Grace time of cancels; `None` for the default.
    pub(super) cancel_grace: Option<Duration>,
    /// Maximum difference between the clock of a process and the service's clock.
    pub(super) skew: Duration,
}

/// One pipeline in one database, with a separate journal and separate processes.
pub(super) struct Line {
    /// One to five steps.
    pub(super) pipeline: Pipeline,
    pub(super) target: Target,
    pub(super) faults: Faults,
    /// Outages of the network, counted from the beginning of the schedule.
    pub(super) outages: Vec<Outage>,
    /// Periods in which the credentials are expired, counted from the beginning of the schedule.
    pub(super) expired: Vec<Range<Duration>>,
    /// Maximum number of deaths of processes.
    pub(super) deaths: u64,
    /// `true` if the journal is on object storage instead of a disk.
    pub(super) is_on_object_storage: bool,
    /// Number of runs in the journal before the first process starts; for object storage only.
    pub(super) past_runs: usize,
}

/// Period in which requests get lost.
#[derive(Clone)]
pub(super) struct Outage {
    pub(super) span: Range<Duration>,
    /// `true` if only submits get lost.
    pub(super) submits_only: bool,
}

impl Schedule {
    pub(super) fn drawn(seed: u64) -> Self {
        let mut draw = fastrand::Rng::with_seed(seed);
        let is_crowded = draw.u8(0..CROWDED) == 0;
        let (builds, script) = work(&mut draw, is_crowded);
        let listing = if draw.u8(0..8) == 0 { 61..140 } else { 0..1 };
        let skew = Duration::from_secs(if draw.u8(0..4) == 0 { draw.u64(0..MAX_SKEW) } else { 0 });
        let faults = faults(&mut draw);
        let shared = outages(&mut draw);
        let lines = builds.into_iter().map(|(pipeline, target)| {
            let mut outages = outages(&mut draw);
            outages.extend(shared.iter().cloned());
            let is_on_object_storage = draw.u8(0..4) == 0;
            Line {
                pipeline,
                target,
                faults: faults.clone().with_seed(draw.u64(..)),
                outages,
                expired: expiries(&mut draw),
                deaths: draw.u64(0..6),
                is_on_object_storage,
                past_runs: if draw.u8(0..4) == 0 { draw.usize(1..5) } else { 0 },
            }
        });
        let lines = lines.collect();
        let cancel_grace = draw.bool().then(|| Duration::from_secs(draw.u64(LEAST_GRACE..2_400)));
        Self { seed, lines, script, listing, is_crowded, cancel_grace, skew }
    }

    /// Returns the random generator for decisions while the schedule is played.
    pub(super) fn rng(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed ^ 0x5eed_ed1e_7a1e_0000)
    }

    /// Returns the random generator for the networks.
    pub(super) fn rng_of_networks(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed ^ 0x0e7_0000_0e75_0000)
    }
}

/// On average, one in this number of schedules is crowded.
const CROWDED: u8 = 16;
/// Minimum grace time in seconds. Credentials are expired for a shorter time, so that a cancel can be sent
/// within the grace time.
const LEAST_GRACE: u64 = 900;
/// Maximum difference between clocks, in seconds. The service rejects requests of a process whose clock
/// differs by more than 5 minutes.
const MAX_SKEW: u64 = 240;

/// Returns the SQL text of a step, which identifies its effects.
pub(super) fn sql_of(step: &str) -> String {
    format!("SELECT 'step {step}'")
}

/// Draws pipelines of equal steps with their targets, and the service's script for them.
fn work(draw: &mut fastrand::Rng, is_crowded: bool) -> (Vec<(Pipeline, Target)>, Script) {
    let conflict = "ERROR: 1023 Serializable isolation violation";
    let mut limits = Limits::default();
    if draw.u8(0..8) == 0 {
        limits.waiters_per_statement = draw.usize(0..2);
    }
    if draw.u8(0..8) == 0 && !is_crowded {
        limits.active_statements = 1;
    }
    let latency = |draw: &mut fastrand::Rng| Duration::from_millis(draw.u64(0..3_000));
    let mut script = Script::new()
        .with_limits(limits)
        .with_latency(Latency { submitted: latency(draw), picked: latency(draw) });
    if draw.u8(0..4) == 0 {
        script = script.with_concurrency(1);
    }
    let concurrency = if is_crowded { 3 } else { draw.usize(1..4) };
    let mut steps = Vec::new();
    for number in 0..draw.usize(1..6) {
        let name = number.to_string();
        let takes = if is_crowded { hours(draw) } else { duration(draw) };
        let cancelling = Cancelling::drawn(draw, takes);
        let good = cancelling.of(ScriptedExecution::finished(takes));
        let bad = |error| cancelling.of(ScriptedExecution::failed(takes, error));
        let runs = match draw.u8(0..6) {
            0 => vec![bad(conflict), good],
            1 => vec![bad("ERROR: no such table"), good],
            2 => vec![bad(conflict), bad(conflict), good],
            _ => vec![good],
        };
        script = script.on_each(sql_of(&name), runs);
        let earlier = (0..number).filter(|_| draw.u8(0..3) == 0 && !is_crowded).map(|n| n.to_string());
        let mut step = Step::sql(&name, sql_of(&name)).after(earlier.collect::<Vec<_>>());
        if draw.bool() {
            step = step.with_retry(RetryPolicy::new(draw.u32(1..4)).on([
                FailureKind::SerializationConflict,
                FailureKind::TimedOut,
                FailureKind::NotSubmitted,
            ]));
        }
        if draw.u8(0..4) == 0 {
            step = step.with_timeout(takes.mul_f64(0.2 + draw.f64() * 2.0).max(Duration::from_secs(1)));
        }
        if draw.u8(0..4) == 0 {
            step = step.with_on_failure(if draw.bool() { OnFailure::Stop } else { OnFailure::Continue });
        }
        steps.push(step);
    }
    let lines = match draw.u8(0..8) {
        0 => 3,
        1 | 2 => 2,
        _ => 1,
    };
    let mut places = vec![("simulated", "dev"), ("simulated", "prod"), ("other", "dev")];
    draw.shuffle(&mut places);
    let build = |(name, workgroup): (&str, &str)| {
        let builder = Pipeline::builder(name).with_concurrency(concurrency);
        let builder = steps.iter().cloned().fold(builder, |builder, step| builder.with_step(step));
        let pipeline = builder.build().expect("each step depends only on earlier steps");
        (pipeline, Target::workgroup(workgroup, "warehouse"))
    };
    (places.into_iter().take(lines).map(build).collect(), script)
}

/// Duration of the rollback of a statement, and of its commit, during which a cancel is too late.
struct Cancelling {
    rollback: Duration,
    commit: Duration,
}

impl Cancelling {
    /// Draws the rollback of a statement: one in eight takes up to a minute, one in four takes a minute to an
    /// hour, and the others take no time. One statement in four also has a commit, which takes a part of its
    /// duration.
    fn drawn(draw: &mut fastrand::Rng, takes: Duration) -> Self {
        let rollback = Duration::from_secs(match draw.u8(0..8) {
            0 => draw.u64(1..60),
            1 | 2 => draw.u64(60..3_600),
            _ => 0,
        });
        let commit = if draw.u8(0..4) == 0 { takes.mul_f64(draw.f64()) } else { Duration::ZERO };
        Self { rollback, commit }
    }

    fn of(&self, run: ScriptedExecution) -> ScriptedExecution {
        run.with_rollback(self.rollback).with_commit(self.commit)
    }
}

/// Draws a duration of 10 minutes to 9 hours.
fn hours(draw: &mut fastrand::Rng) -> Duration {
    Duration::from_secs(draw.u64(600..9 * 3_600))
}

/// Draws a duration: mostly 0.1 s to seven minutes, one in eight up to two hours.
fn duration(draw: &mut fastrand::Rng) -> Duration {
    let magnitudes = if draw.u8(0..8) == 0 { 4.86 } else { 3.6 };
    Duration::from_secs_f64(0.1 * 10_f64.powf(draw.f64() * magnitudes))
}

fn faults(draw: &mut fastrand::Rng) -> Faults {
    let mut faults = Faults::seeded(draw.u64(..));
    for operation in Operation::ALL {
        for fault in [
            Fault::DroppedConnection,
            Fault::LostRequest,
            Fault::LostReply,
            Fault::Throttle,
            Fault::WrappedThrottle,
            Fault::InternalError,
            Fault::Delay(Duration::from_millis(draw.u64(1..90_000))),
        ] {
            if draw.u8(0..3) == 0 {
                faults = faults.with(operation, fault, draw.f64() * 0.12);
            }
        }
    }
    faults
}

/// Draws outages: mostly none, otherwise one or two that last seconds to hours.
fn outages(draw: &mut fastrand::Rng) -> Vec<Outage> {
    let count = draw.u8(0..8).saturating_sub(5);
    (0..count)
        .map(|_| {
            let from = Duration::from_secs_f64(10_f64.powf(draw.f64() * 5.0));
            let span = from..from + Duration::from_secs_f64(10_f64.powf(draw.f64() * 4.0));
            Outage { span, submits_only: draw.u8(0..4) == 0 }
        })
        .collect()
}

/// Draws the periods in which credentials are expired: none in half of the lines, otherwise one or two of
/// seconds to minutes.
fn expiries(draw: &mut fastrand::Rng) -> Vec<Range<Duration>> {
    let count = draw.u8(0..4).saturating_sub(1);
    (0..count)
        .map(|_| {
            let from = Duration::from_secs_f64(10_f64.powf(draw.f64() * 4.5));
            from..from + Duration::from_secs(draw.u64(1..240))
        })
        .collect()
}

/// Draws the time for which the credentials of a new process are expired: mostly zero, sometimes up to three
/// minutes.
pub(super) fn stale_credentials(draw: &mut fastrand::Rng) -> Duration {
    Duration::from_secs(if draw.u8(0..12) == 0 { draw.u64(1..180) } else { 0 })
}

/// Draws the time until the next process starts: mostly short, sometimes close to the 8 hours of a token or
/// the 24 hours of a record.
pub(super) fn downtime(draw: &mut fastrand::Rng, is_crowded: bool) -> Duration {
    let minutes = match draw.u8(0..8) {
        0 => 7 * 60 + draw.u64(0..120),
        1 => 23 * 60 + draw.u64(0..120),
        2 => draw.u64(0..36 * 60),
        3..=5 if is_crowded => 6 * 60 + draw.u64(0..105),
        _ => return Duration::from_millis(draw.u64(0..120_000)),
    };
    Duration::from_secs(minutes * 60)
}
