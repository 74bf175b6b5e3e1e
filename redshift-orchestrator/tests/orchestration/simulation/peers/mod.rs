//! Other clients of the service play the same schedules, by their published schedules and rules.
//!
//! They are modelled kindly. Whoever starts a peer's processes starts them as often and after the same pauses as ours, remembers
//! which steps reported success, and never runs those again; so what is doubled or lost here comes from the gap between a submit and that
//! report. Steps run one after the other, none before those that it comes after are done.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use redshift_orchestrator::{Result, StatementId, Status, pipeline::Step};
use tokio::time::sleep;

use super::{
    Broken, Tally,
    fate::Fate,
    network::{Process, World},
    on_a_clock_of_its_own,
    schedule::{Schedule, downtime, sql_of},
};

mod airflow;
mod awswrangler;
mod plain;
mod sdk;
mod step_functions;

/// A client of the service, with its version where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// apache-airflow-providers-amazon 9.39.0, `RedshiftDataOperator(durable=True)`.
    Airflow,
    /// awswrangler 3.17.1, `data_api.redshift`.
    AwsWrangler,
    /// The reference solution: one Lambda function for submit and status, and a state machine with a Wait of 30 s.
    StepFunctions,
    /// A loop over the Rust SDK with its defaults, asking after 1, 2, 4, … 30 s.
    PlainSdk,
}

/// All of them.
pub(crate) const ALL: [Peer; 4] = [Peer::Airflow, Peer::AwsWrangler, Peer::StepFunctions, Peer::PlainSdk];

impl Peer {
    /// What a table calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Airflow => "Airflow, durable",
            Self::AwsWrangler => "awswrangler",
            Self::StepFunctions => "Lambda and Step Functions loop",
            Self::PlainSdk => "plain SDK loop",
        }
    }
}

/// Plays the schedule of a seed by the rules of a peer, and counts what that costs.
pub(crate) fn play(peer: Peer, seed: u64) -> std::result::Result<Tally, Broken> {
    on_a_clock_of_its_own(seed, async { Ok(life(peer, Schedule::drawn(seed)).await) })
}

async fn life(peer: Peer, schedule: Schedule) -> Tally {
    let mut draw = schedule.rng();
    let world = World::of(&schedule);
    let left = Arc::new(AtomicU64::new(schedule.deaths));
    let books = Books::default();
    let (mut died, mut failed) = (0, 0);
    loop {
        let fate = Arc::new(Fate::drawn(&mut draw, &left, true));
        let process = Process { world: world.clone(), fate: fate.clone() };
        let run = run(peer, &process, &books, schedule.pipeline.steps());
        let ended = match peer {
            // The state machine lives on when a function dies.
            Peer::StepFunctions => Some(run.await),
            _ => fate.live(run).await,
        };
        match ended {
            None => died += 1,
            Some(true) => break,
            Some(false) if failed == 3 => break,
            Some(false) => failed += 1,
        }
        sleep(downtime(&mut draw)).await;
    }
    sleep(Duration::from_secs(6 * 3_600)).await;
    count(&world, &books, died)
}

/// What outlives the processes of a peer.
#[derive(Default)]
struct Books(Mutex<Pages>);

#[derive(Default)]
struct Pages {
    /// Steps that reported success.
    done: BTreeSet<String>,
    /// The statements of steps, with those peers that write them down.
    ids: BTreeMap<String, StatementId>,
    /// What was reported of statements.
    told: BTreeMap<StatementId, Status>,
}

impl Books {
    fn open(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports how a statement ended; and whether its step is done.
    async fn tell(&self, fate: &Fate, step: &Step, id: &StatementId, status: &Status) -> bool {
        let report = async {
            let mut pages = self.open();
            pages.told.insert(id.clone(), status.clone());
            if *status == Status::Finished {
                pages.done.insert(step.name().to_owned());
            }
        };
        fate.meet(report).await;
        *status == Status::Finished
    }
}

/// Runs the steps that are not done; and whether they all are then.
async fn run(peer: Peer, process: &Process, books: &Books, steps: &[Step]) -> bool {
    for step in steps {
        let is_next = {
            let done = &books.open().done;
            !done.contains(step.name()) && step.dependencies().iter().all(|earlier| done.contains(earlier))
        };
        if !is_next {
            continue;
        }
        // An error ends the step, as an exception does; what it says is not what is counted here.
        let _: Result<bool> = match peer {
            Peer::Airflow => airflow::run(process, books, step).await,
            Peer::AwsWrangler => awswrangler::run(process, books, step).await,
            Peer::StepFunctions => step_functions::run(process, books, step).await,
            Peer::PlainSdk => plain::run(process, books, step).await,
        };
    }
    books.open().done.len() == steps.len()
}

fn count(world: &World, books: &Books, died: u64) -> Tally {
    let (accepted, effects, pages) = (world.accepted(), world.effects(), books.open());
    let steps: BTreeSet<_> = effects.iter().map(|effect| &effect.sql).collect();
    let finished: BTreeSet<_> = effects.iter().map(|effect| &effect.statement_id).collect();
    let is_lost = |id: &&StatementId| match pages.told.get(id) {
        None => true,
        Some(status) => (*status == Status::Finished) != finished.contains(id),
    };
    Tally {
        schedules: 1,
        statements: accepted.len() as u64,
        deaths: died,
        faults: world.faults(),
        doubled: (effects.len() - steps.len()) as u64,
        lost: accepted.keys().filter(is_lost).count() as u64,
        unknown: 0,
    }
}
