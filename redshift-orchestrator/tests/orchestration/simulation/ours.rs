//! Plays a schedule with the orchestrator, which may have a flaw.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use futures::future::try_join_all;
use jiff::Timestamp;
use redshift_orchestrator::{
    Backoff, Clock, ErrorKind, Orchestrator, Report, Run, StatementExecutor, StatementId, TokioClock,
    journal::{Entry, EntryState, Journal, SettledOutcome},
    layer::{Fleet, Retry},
    wait::{Exponential, Fixed, Jittered, Learned, LongPoll},
};
use tokio::time::{Instant, sleep};

use super::{
    Flaw, Tally,
    coverage::Condition,
    disk::Disk,
    fate::Fate,
    judge::Evidence,
    network::{Process, Submits, Watched, World},
    plants::{Above, Below, FlawedJournal, Witnessed},
    schedule::{Line, Schedule, downtime, stale_credentials},
    store::{Objects, Store},
};
use crate::intercept::Intercepted;

pub(super) const RUN: &str = "run";

pub(super) async fn play(schedule: Schedule, flaw: Option<Flaw>) -> Result<Tally, String> {
    let mut draw = schedule.rng();
    let world = World::of(&schedule);
    let lines = schedule.lines.iter().enumerate().map(|(number, line)| {
        let storage = Storage::of(line, &mut draw);
        Play {
            schedule: &schedule,
            line,
            number,
            world: world.clone(),
            flaw,
            storage,
            draw: draw.fork(),
            left: Arc::new(AtomicU64::new(line.deaths)),
            processes: 0,
            ahead: 0,
            left_cancelling: HashSet::new(),
        }
        .play()
    });
    let ended = try_join_all(lines.collect::<Vec<_>>()).await?;
    // Wait for statements that are still running, because they can still take effect.
    sleep(LONGEST).await;
    let of = |value: fn(&Line) -> String| schedule.lines.iter().map(value).collect::<BTreeSet<_>>().len();
    if of(|line| line.pipeline.name().to_owned()) > 1 {
        world.played.note(Condition::TwoPipelines);
    }
    if of(|line| line.target.to_string()) > 1 {
        world.played.note(Condition::TwoTargets);
    }
    let coverage = world.played.coverage();
    let mut tally = Tally { schedules: 1, coverage, ..Tally::default() };
    for ended in ended {
        tally.add(&ended.judged(&world, &schedule).await?);
    }
    Ok(tally)
}

/// Storage of the journal of a line.
enum Storage {
    Disk(Disk),
    Objects(Objects),
}

impl Storage {
    fn of(line: &Line, draw: &mut fastrand::Rng) -> Self {
        match line.is_on_object_storage {
            true => Self::Objects(Objects::drawn(draw)),
            false => Self::Disk(Disk::default()),
        }
    }

    /// Returns the number of failed requests to the storage.
    fn failures(&self) -> u64 {
        match self {
            Self::Disk(disk) => disk.failures(),
            Self::Objects(objects) => objects.failures(),
        }
    }

    /// Returns the attempts of the run.
    async fn entries(&self, clock: TokioClock) -> Result<Vec<Entry>, String> {
        let read = match self {
            Self::Disk(disk) => disk.read().await?.entries(RUN).await,
            Self::Objects(objects) => objects.read(clock).entries(RUN).await,
        };
        read.map_err(|error| error.to_string())
    }
}

/// Line that is being played.
struct Play<'a> {
    schedule: &'a Schedule,
    line: &'a Line,
    number: usize,
    world: Arc<World>,
    flaw: Option<Flaw>,
    storage: Storage,
    draw: fastrand::Rng,
    /// Number of remaining deaths.
    left: Arc<AtomicU64>,
    processes: i32,
    /// Seconds by which the clock of the last process was ahead of the service's clock.
    ahead: i64,
    /// Statements that a report listed as cancelled but not ended.
    left_cancelling: HashSet<StatementId>,
}

/// Line that has ended.
struct Ended {
    number: usize,
    storage: Storage,
    report: Report,
    died: u64,
    left_cancelling: HashSet<StatementId>,
}

/// Running process.
struct Life {
    fate: Arc<Fate>,
    submits: Submits,
    orchestrator: Orchestrator,
}

/// Number of failed runs after which no other run is started.
const TRIES: u32 = 3;
/// Time in which every statement ends, including its commit or rollback.
const LONGEST: Duration = Duration::from_hours(12);
/// Number of consecutive rejected runs after which the schedule fails. After half of them, the storage of the
/// journal no longer fails.
const REFUSALS: u32 = 24;

impl Play<'_> {
    async fn play(mut self) -> Result<Ended, String> {
        if let Storage::Objects(objects) = &self.storage {
            let now = self.world.clock.now();
            objects.add_past_runs(&self.line.pipeline, self.line.past_runs, now).await;
        }
        let (mut died, mut failed, mut refused) = (0, 0, 0);
        // Statements that were cancelled more than 12 hours ago.
        let mut long_cancelled = HashSet::new();
        // Statements whose cancel was pending at the end of a run without a failure of the journal.
        let mut known_cancels = HashSet::new();
        // `true` if the previous run ended without a failure of the journal.
        let mut was_orderly = true;
        loop {
            let is_long_lived = self.draw.bool();
            let life = self.begin(failed >= TRIES || refused > REFUSALS / 2).await?;
            loop {
                life.submits.set_known_cancels(&known_cancels);
                let failures = self.storage.failures();
                let run = self.line.pipeline.run(&life.orchestrator, Run::new(RUN));
                let Some(ended) = life.fate.live(run).await else {
                    died += 1;
                    was_orderly = false;
                    break;
                };
                let is_sound = failures == self.storage.failures();
                match ended {
                    Ok(report) => {
                        refused = 0;
                        was_orderly = is_sound;
                        if is_sound {
                            expect_no_failure_of_the_journal(&report)?;
                        }
                        self.expect_cancels(&report)?;
                        let pending = cancels_pending(&report);
                        if !pending.is_empty() {
                            self.world.played.note(Condition::CancelPending);
                        }
                        self.left_cancelling.extend(pending.iter().cloned());
                        if is_sound {
                            known_cancels.extend(pending.iter().cloned());
                        }
                        if let Some(id) = long_cancelled.intersection(&pending).next() {
                            return Err(format!("UNCANCELLED: {id} still runs 12 hours after its cancel"));
                        }
                        let is_last = failed > TRIES || (failed == TRIES && pending.is_empty());
                        if report.is_success() || is_last {
                            life.fate.end();
                            let Self { number, storage, left_cancelling, .. } = self;
                            return Ok(Ended { number, storage, report, died, left_cancelling });
                        }
                        failed += 1;
                        if failed > TRIES {
                            // Every cancelled statement ends in this time, so the next run must report its
                            // outcome.
                            sleep(LONGEST).await;
                            long_cancelled = pending;
                        }
                    }
                    Err(error) => {
                        refused += 1;
                        let is_overlap = error.kind() == ErrorKind::Overlap;
                        if is_overlap && (was_orderly || refused > REFUSALS) {
                            return Err(format!(
                                "LOCKED: no process runs the pipeline, but a run is rejected: {error}"
                            ));
                        }
                        if !is_overlap && (is_sound || refused > REFUSALS) {
                            return Err(format!(
                                "STUCK: the storage of the journal works, but the run fails: {error}"
                            ));
                        }
                        was_orderly = false;
                        sleep(Duration::from_secs(600)).await;
                    }
                }
                if !is_long_lived || failed >= TRIES || refused > REFUSALS / 2 {
                    break;
                }
                self.pause().await;
            }
            life.fate.end();
            self.pause().await;
            self.visit().await;
        }
    }

    /// Fails if a statement is reported as timed out, but its cancel was never sent.
    fn expect_cancels(&self, report: &Report) -> Result<(), String> {
        let network = self.world.network(self.number);
        let attempts = report.steps().iter().flat_map(|step| &step.attempts);
        for attempt in attempts.filter(|attempt| attempt.result == "timed out") {
            if !attempt.statement_id.as_ref().is_some_and(|id| network.has_cancelled(id)) {
                return Err(format!("UNCANCELLED: no cancel was sent for {attempt:?}"));
            }
        }
        Ok(())
    }

    async fn pause(&mut self) {
        sleep(downtime(&mut self.draw, self.schedule.is_crowded)).await;
    }

    /// Prunes the journal at times, like an operator.
    async fn visit(&mut self) {
        let Storage::Objects(objects) = &self.storage else { return };
        if self.flaw == Some(Flaw::PrunesUnfinished) {
            objects.remove_all().await;
        } else if self.draw.u8(0..8) == 0 {
            objects.prune(self.world.clock).await;
        }
    }

    /// Starts the next process.
    async fn begin(&mut self, is_last: bool) -> Result<Life, String> {
        let fate = Arc::new(Fate::drawn(&mut self.draw, &self.left, is_last));
        let process = Arc::new(Process {
            world: self.world.clone(),
            line: self.number,
            fate: fate.clone(),
            submits: Submits::default(),
            valid_from: Instant::now() + stale_credentials(&mut self.draw),
        });
        let clock = self.clock();
        let inner = self.journal(&process, clock).await?;
        let journal =
            Intercepted(Witnessed { inner, process: process.clone(), is_away: AtomicBool::new(false) });
        let orchestrator = self
            .orchestrator(&process)
            .with_journal(journal)
            .with_clock(clock)
            .with_backoff(Backoff::default().with_seed(self.schedule.seed));
        if self.flaw == Some(Flaw::ResubmitsUnknown) {
            // If the process dies here, the next process settles the remaining entries.
            fate.live(settle_all(&orchestrator)).await.transpose()?;
        }
        self.processes += 1;
        Ok(Life { fate, submits: process.submits.clone(), orchestrator })
    }

    /// Returns the clock of the next process.
    fn clock(&mut self) -> Skewed {
        let most = self.schedule.skew.as_secs() as i64;
        let mut seconds = if most == 0 { 0 } else { self.draw.i64(-most..=most) };
        if self.flaw == Some(Flaw::StepsBack) {
            seconds -= 7_200 * i64::from(self.processes);
        }
        if self.processes > 0 && seconds < self.ahead {
            self.world.played.note(Condition::ClockBack);
        }
        self.ahead = seconds;
        Skewed { clock: self.world.clock, seconds }
    }

    async fn journal(&self, process: &Arc<Process>, clock: Skewed) -> Result<Arc<dyn Journal>, String> {
        let fate = process.fate.clone();
        let mut disk_of_flaw = Disk::default();
        let journal: Arc<dyn Journal> = match &self.storage {
            Storage::Disk(disk) => {
                if self.flaw == Some(Flaw::ForgetfulJournal) {
                    disk.bytes().clear();
                }
                disk_of_flaw = disk.clone();
                Arc::new(disk.open(fate).await?)
            }
            Storage::Objects(objects) => {
                let (reader, witness) = (process.clone(), process.clone());
                let renews = self.flaw == Some(Flaw::RenewsReleasedLeases);
                let store = Store {
                    objects: objects.clone(),
                    fate,
                    away_until: Mutex::default(),
                    on_costly: Box::new(move |path| {
                        reader.network().violated(format!("COSTLY: opening the run read {path}"));
                    }),
                    renews_released: renews.then(|| Box::new(clock) as Box<dyn Clock>),
                    written: Mutex::default(),
                    on_race: Box::new(move || witness.played(Condition::LeaseRace)),
                };
                Arc::new(objects.open(store, clock))
            }
        };
        Ok(match self.flaw {
            Some(flaw) => Arc::new(Intercepted(FlawedJournal {
                inner: journal,
                flaw,
                disk: disk_of_flaw,
                has_failed: AtomicBool::new(false),
            })),
            None => journal,
        })
    }

    fn orchestrator(&mut self, process: &Arc<Process>) -> Orchestrator {
        let flaw = self.flaw;
        let pipeline = self.line.pipeline.name().to_owned();
        let below: Arc<dyn StatementExecutor> = match flaw {
            Some(_) => Arc::new(Below { process: process.clone(), pipeline, flaw }),
            None => process.clone(),
        };
        let permits = self.draw.usize(1..4);
        let below: Arc<dyn StatementExecutor> = match self.draw.u8(0..4) {
            0 => {
                let retry_timeout = Duration::from_secs(self.draw.u64(1..60));
                Arc::new(Retry::new(below).with_retry_timeout(retry_timeout))
            }
            _ => below,
        };
        let permits = match self.draw.u8(0..4) {
            _ if self.schedule.is_crowded => Some(1),
            0 | 1 => Some(permits),
            2 => Some(500),
            _ => None,
        };
        let layers = match permits {
            Some(permits) => {
                process.played(Condition::Fleet);
                Arc::new(Fleet::new(below).with_statements(permits))
            }
            None => below,
        };
        let layers = match flaw {
            Some(flaw) => Arc::new(Above { inner: layers, process: process.clone(), flaw }),
            None => layers,
        };
        let orchestrator = Orchestrator::new(Watched { inner: layers, process: process.clone() });
        let orchestrator = match self.draw.u8(0..4) {
            _ if self.schedule.is_crowded => orchestrator.with_strategy(Fixed::new(Duration::from_secs(300))),
            0 => {
                let max = Duration::from_secs(self.draw.u64(10..120));
                orchestrator.with_strategy(Exponential::default().with_max(max))
            }
            1 => orchestrator.with_strategy(Jittered::new(LongPoll::default(), self.draw.u64(..))),
            2 => orchestrator.with_strategy(Learned::default()),
            _ => orchestrator,
        };
        let orchestrator = match self.schedule.cancel_grace {
            Some(grace) => orchestrator.with_cancel_grace(grace),
            None => orchestrator,
        };
        match flaw {
            Some(Flaw::Impatient) => orchestrator.with_retry_timeout(Duration::ZERO),
            _ => orchestrator,
        }
    }
}

/// Returns the statements that a report lists as cancelled but not ended.
pub(super) fn cancels_pending(report: &Report) -> HashSet<StatementId> {
    let attempts = report.steps().iter().flat_map(|step| &step.attempts);
    let pending = attempts.filter(|attempt| attempt.result == "timed out" && attempt.may_still_run);
    pending.filter_map(|attempt| attempt.statement_id.clone()).collect()
}

/// Fails if the report contains an error of the journal. Called only if the storage worked during the run.
fn expect_no_failure_of_the_journal(report: &Report) -> Result<(), String> {
    let mut errors =
        report.steps().iter().flat_map(|step| &step.attempts).filter_map(|attempt| attempt.error.as_ref());
    match errors.find(|error| error.starts_with("journal")) {
        Some(error) => Err(format!("STUCK: the storage of the journal works, but an append failed: {error}")),
        None => Ok(()),
    }
}

impl Ended {
    async fn judged(self, world: &World, schedule: &Schedule) -> Result<Tally, String> {
        let evidence = Evidence {
            entries: self.storage.entries(world.clock).await?,
            accepted: world.accepted(self.number),
            effects: world.effects(self.number),
            unknown: world.network(self.number).unknown(),
            bad_listings: world.network(self.number).bad_listings(),
            violation: world.network(self.number).violation(),
            report: self.report,
            faults: world.faults(self.number) + self.storage.failures(),
            journal_failures: self.storage.failures(),
            died: self.died,
            left_cancelling: self.left_cancelling,
            skew: schedule.skew,
        };
        let unknown = evidence.judge()?;
        Ok(Tally {
            statements: evidence.accepted.len() as u64,
            deaths: self.died,
            faults: evidence.faults,
            unknown,
            ..Tally::default()
        })
    }
}

async fn settle_all(orchestrator: &Orchestrator) -> Result<(), String> {
    for entry in orchestrator.journal().entries(RUN).await.map_err(|error| error.to_string())? {
        if matches!(entry.state, EntryState::Unknown(_)) {
            // An error of the journal is ignored. The entry is then settled by the next process.
            let _ = orchestrator.settle(&entry.key, SettledOutcome::NeverRan).await;
        }
    }
    Ok(())
}

/// Clock of a process, which differs from the service's clock by some seconds.
#[derive(Clone, Copy, Debug)]
struct Skewed {
    clock: TokioClock,
    seconds: i64,
}

impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        self.clock.now() + jiff::SignedDuration::from_secs(self.seconds)
    }
}
