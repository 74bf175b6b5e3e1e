//! [`Schedule`]: the conditions that are drawn from a seed before a run, the same for every client.

use std::{ops::Range, time::Duration};

use redshift_data_local::{Fault, Faults, Latency, Limits, Operation, Script, ScriptedRun};
use redshift_orchestrator::{
    FailureKind, Pipeline,
    pipeline::{OnFailure, Retry, Step},
};

/// Work, its execution in the service, and the events in the network.
pub(super) struct Schedule {
    pub(super) seed: u64,
    /// One to five steps.
    pub(super) pipeline: Pipeline,
    pub(super) script: Script,
    pub(super) faults: Faults,
    /// Times at which the network is down, counted from the beginning.
    pub(super) outages: Vec<Range<Duration>>,
    /// Maximum number of deaths.
    pub(super) deaths: u64,
}

impl Schedule {
    pub(super) fn drawn(seed: u64) -> Self {
        let mut draw = fastrand::Rng::with_seed(seed);
        let (pipeline, script) = work(&mut draw);
        let (faults, outages) = (faults(&mut draw), outages(&mut draw));
        Self { seed, pipeline, script, faults, outages, deaths: draw.u64(0..6) }
    }

    /// Returns the random generator for decisions during the run.
    pub(super) fn rng(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed ^ 0x5eed_ed1e_7a1e_0000)
    }
}

/// Returns the SQL text of a step, which identifies its effects.
pub(super) fn sql_of(step: &str) -> String {
    format!("SELECT 'step {step}'")
}

fn work(draw: &mut fastrand::Rng) -> (Pipeline, Script) {
    let conflict = "ERROR: 1023 Serializable isolation violation";
    let mut limits = Limits::default();
    if draw.u8(0..8) == 0 {
        limits.waiters_per_statement = draw.usize(0..2);
    }
    if draw.u8(0..8) == 0 {
        limits.active_statements = 1;
    }
    let latency = |draw: &mut fastrand::Rng| Duration::from_millis(draw.u64(0..3_000));
    let mut script = Script::new()
        .with_limits(limits)
        .with_latency(Latency { submitted: latency(draw), picked: latency(draw) });
    if draw.u8(0..4) == 0 {
        script = script.with_concurrency(1);
    }
    let mut builder = Pipeline::builder("simulated").with_concurrency(draw.usize(1..4));
    for number in 0..draw.usize(1..6) {
        let name = number.to_string();
        let takes = duration(draw);
        let good = ScriptedRun::finished(takes);
        let runs = match draw.u8(0..6) {
            0 => vec![ScriptedRun::failed(takes, conflict), good],
            1 => vec![ScriptedRun::failed(takes, "ERROR: no such table"), good],
            2 => vec![ScriptedRun::failed(takes, conflict), ScriptedRun::failed(takes, conflict), good],
            _ => vec![good],
        };
        script = script.on_each(sql_of(&name), runs);
        let earlier = (0..number).filter(|_| draw.u8(0..3) == 0).map(|n| n.to_string());
        let mut step = Step::sql(&name, sql_of(&name)).after(earlier.collect::<Vec<_>>());
        if draw.bool() {
            step = step.with_retry(Retry::new(draw.u32(1..4)).on([
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
        builder = builder.with_step(step);
    }
    (builder.build().expect("a pipeline whose steps come after earlier ones"), script)
}

/// Draws a duration: 0.1 s to seven minutes, one in eight up to two hours.
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

/// Draws outages: mostly none; otherwise one or two that last seconds to hours.
fn outages(draw: &mut fastrand::Rng) -> Vec<Range<Duration>> {
    let count = draw.u8(0..8).saturating_sub(5);
    (0..count)
        .map(|_| {
            let from = Duration::from_secs_f64(10_f64.powf(draw.f64() * 5.0));
            from..from + Duration::from_secs_f64(10_f64.powf(draw.f64() * 4.0))
        })
        .collect()
}

/// Draws the time between two processes: mostly short; sometimes close to the 8 and 24 hours that decide what
/// can be proved.
pub(super) fn downtime(draw: &mut fastrand::Rng) -> Duration {
    let minutes = match draw.u8(0..8) {
        0 => 7 * 60 + draw.u64(0..120),
        1 => 23 * 60 + draw.u64(0..120),
        2 => draw.u64(0..36 * 60),
        _ => return Duration::from_millis(draw.u64(0..120_000)),
    };
    Duration::from_secs(minutes * 60)
}
