//! Plays the same schedules with models of other clients, according to their published rules.
//!
//! The model favours the peers. A process that dies is started again after a pause, and a step that has
//! reported success is never run again. A statement is therefore doubled or lost only between its submit and
//! the report of its success. Steps run one after another, in the order of their dependencies.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use futures::future::join_all;
use redshift_orchestrator::{Result, StatementId, Status, pipeline::Step};
use tokio::time::{Instant, sleep};

use super::{
    Broken, Tally,
    fate::Fate,
    network::{Process, Submits, World},
    on_a_clock_of_its_own,
    schedule::{Line, Schedule, downtime, sql_of, stale_credentials},
};

mod airflow;
mod awswrangler;
mod plain;
mod sdk;
mod step_functions;

/// Other client of the service, with the modelled version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// apache-airflow-providers-amazon 9.39.0, `RedshiftDataOperator(durable=True)`.
    Airflow,
    /// awswrangler 3.17.1, `data_api.redshift`.
    AwsWrangler,
    /// AWS's reference solution: one Lambda function for submit and status, and a state machine with a Wait
    /// state of 30 s.
    StepFunctions,
    /// Loop with the Rust SDK and its defaults, which polls after 1, 2, 4, … 30 s.
    PlainSdk,
}

/// All peers.
pub(crate) const ALL: [Peer; 4] = [Peer::Airflow, Peer::AwsWrangler, Peer::StepFunctions, Peer::PlainSdk];

impl Peer {
    /// Returns the name for tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Airflow => "Airflow, durable",
            Self::AwsWrangler => "awswrangler",
            Self::StepFunctions => "Lambda and Step Functions loop",
            Self::PlainSdk => "plain SDK loop",
        }
    }
}

/// Plays the schedule of a seed by the rules of a peer, and counts doubled and lost statements.
pub(crate) fn play(peer: Peer, seed: u64) -> std::result::Result<Tally, Broken> {
    on_a_clock_of_its_own(seed, async { Ok(lines(peer, Schedule::drawn(seed)).await) })
}

async fn lines(peer: Peer, schedule: Schedule) -> Tally {
    let mut draw = schedule.rng();
    let world = World::of(&schedule);
    let lines = schedule.lines.iter().enumerate();
    let lives = lines.map(|(number, line)| life(peer, &schedule, line, number, &world, draw.fork()));
    let ended = join_all(lives.collect::<Vec<_>>()).await;
    sleep(Duration::from_secs(12 * 3_600)).await;
    let mut tally = Tally { schedules: 1, ..Tally::default() };
    for (number, (books, died)) in ended.iter().enumerate() {
        tally.add(&count(&world, number, books, *died));
    }
    tally
}

async fn life(
    peer: Peer,
    schedule: &Schedule,
    line: &Line,
    number: usize,
    world: &Arc<World>,
    mut draw: fastrand::Rng,
) -> (Books, u64) {
    let left = Arc::new(AtomicU64::new(line.deaths));
    let books = Books::default();
    let (mut died, mut failed) = (0, 0);
    loop {
        let fate = Arc::new(Fate::drawn(&mut draw, &left, true));
        let process = Process {
            world: world.clone(),
            line: number,
            fate: fate.clone(),
            submits: Submits::default(),
            valid_from: Instant::now() + stale_credentials(&mut draw),
        };
        let run = run(peer, &process, &books, line.pipeline.steps());
        let ended = match peer {
            // The state machine continues when its function dies.
            Peer::StepFunctions => Some(run.await),
            _ => fate.live(run).await,
        };
        match ended {
            None => died += 1,
            Some(true) => break,
            Some(false) if failed == 3 => break,
            Some(false) => failed += 1,
        }
        sleep(downtime(&mut draw, schedule.is_crowded)).await;
    }
    (books, died)
}

/// State that is kept between the processes of a peer.
#[derive(Default)]
struct Books(Mutex<Pages>);

#[derive(Default)]
struct Pages {
    /// Steps that reported success.
    done: BTreeSet<String>,
    /// Statement ids of steps, for peers that save them.
    ids: BTreeMap<String, StatementId>,
    /// Reported statuses of statements.
    reported: BTreeMap<StatementId, Status>,
}

impl Books {
    fn open(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports the status of a statement. Returns `true` if its step is done.
    async fn report(&self, fate: &Fate, step: &Step, id: &StatementId, status: &Status) -> bool {
        let report = async {
            let mut pages = self.open();
            pages.reported.insert(id.clone(), status.clone());
            if *status == Status::Finished {
                pages.done.insert(step.name().to_owned());
            }
        };
        fate.meet(report).await;
        *status == Status::Finished
    }
}

/// Runs the steps that are not done. Returns `true` if all steps are done.
async fn run(peer: Peer, process: &Process, books: &Books, steps: &[Step]) -> bool {
    for step in steps {
        let is_next = {
            let done = &books.open().done;
            !done.contains(step.name()) && step.dependencies().iter().all(|earlier| done.contains(earlier))
        };
        if !is_next {
            continue;
        }
        // An error ends the step, like an exception of the client. The error itself is not needed.
        let _: Result<bool> = match peer {
            Peer::Airflow => airflow::run(process, books, step).await,
            Peer::AwsWrangler => awswrangler::run(process, books, step).await,
            Peer::StepFunctions => step_functions::run(process, books, step).await,
            Peer::PlainSdk => plain::run(process, books, step).await,
        };
    }
    books.open().done.len() == steps.len()
}

fn count(world: &World, line: usize, books: &Books, died: u64) -> Tally {
    let (accepted, effects, pages) = (world.accepted(line), world.effects(line), books.open());
    let steps: BTreeSet<_> = effects.iter().map(|effect| &effect.sql).collect();
    let finished: BTreeSet<_> = effects.iter().map(|effect| &effect.statement_id).collect();
    let is_lost = |id: &&StatementId| match pages.reported.get(id) {
        None => true,
        Some(status) => (*status == Status::Finished) != finished.contains(id),
    };
    Tally {
        statements: accepted.len() as u64,
        deaths: died,
        faults: world.faults(line),
        doubled: (effects.len() - steps.len()) as u64,
        lost: accepted.keys().filter(is_lost).count() as u64,
        ..Tally::default()
    }
}
