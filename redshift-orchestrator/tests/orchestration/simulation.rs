//! Schedules: a pipeline, its faults and the deaths of its process, all drawn from one seed, against the promises.
//!
//! The orchestrator and the pipeline are the real ones; the service is the scripted state machine with its tokens, listing
//! and expiry; between them stand lost requests, lost replies, throttles and delays; and at every interaction with service or
//! journal the process may die, before the interaction, after it, or with the request still on its way. A new process then
//! begins with the same journal, after a pause of milliseconds to days.
//!
//! After each schedule:
//! * **doubled**: no step took effect twice;
//! * **lost**: every statement that the service accepted has an ending in the journal, the true one, or is unknown;
//! * **unknown** is justified by what happened.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use redshift_orchestrator::{
    Backoff, Description, FailureKind, Orchestrator, PageToken, Pipeline, Report, Result, ResultPage, Run,
    Statement, StatementExecutor, StatementFilter, StatementId, StatementPage, Status, StepKey, Submitted,
    TokioClock, WaitTime,
    journal::{Entry, Event, Journal, MemoryJournal, Record, Standing},
    local::{self, Dwell, Effect, Fault, Faults, Faulty, Limits, LocalExecutor, Operation, Script, Scripted},
    pipeline::{OnFailure, Retry, Step, StepStatus},
    wait::{Exponential, Jittered, Learned, LongPoll},
};
use tokio::{sync::Notify, time::sleep};

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
    /// Statements whose fate could not be proved, each for a good reason.
    pub(crate) unknown: u64,
}

impl Tally {
    /// Adds another tally.
    pub(crate) fn add(&mut self, other: &Self) {
        self.schedules += other.schedules;
        self.statements += other.statements;
        self.deaths += other.deaths;
        self.faults += other.faults;
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

/// Plays the schedule of a seed on a clock of its own.
pub(crate) fn play(seed: u64) -> std::result::Result<Tally, Broken> {
    let broken = |what: String| Broken { seed, what };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| broken(error.to_string()))?;
    runtime.block_on(schedule(seed)).map_err(broken)
}

const RUN: &str = "run";
/// When neither tokens nor records prove anything any more, less the orchestrator's margin.
const TOKENS_FADE: Duration = Duration::from_secs(27_900);

async fn schedule(seed: u64) -> std::result::Result<Tally, String> {
    let mut draw = fastrand::Rng::with_seed(seed);
    let epoch = "2026-11-23T00:00:00Z".parse().map_err(|error: jiff::Error| error.to_string())?;
    let (pipeline, script) = work(&mut draw);
    let service = LocalExecutor::scripted(script.starting_at(epoch));
    let clock = TokioClock::starting_at(epoch);
    let ledger = Arc::new(Ledger { service: service.clone(), accepted: Mutex::default() });
    let faulty = Arc::new(Faulty::new(ledger.clone(), faults(&mut draw)));
    let journal = MemoryJournal::new();
    let mut deaths = draw.u64(0..6);
    let mut reports = Vec::new();
    let mut died = 0;
    loop {
        let fate = Arc::new(Fate {
            draw: Mutex::new(fastrand::Rng::with_seed(draw.u64(..))),
            odds: if deaths == 0 { 0.0 } else { 0.002 * 10_f64.powf(draw.f64() * 2.0) },
            bell: Notify::new(),
        });
        let orchestrator =
            Orchestrator::new(Mortal { inner: faulty.clone(), ledger: ledger.clone(), fate: fate.clone() })
                .with_journal(MortalJournal { inner: journal.clone(), fate: fate.clone() })
                .with_clock(clock)
                .with_backoff(Backoff::default().with_seed(seed));
        let orchestrator = match draw.u8(0..4) {
            0 => orchestrator.with_strategy(Exponential::default()),
            1 => orchestrator.with_strategy(Jittered::new(LongPoll::default(), seed)),
            2 => orchestrator.with_strategy(Learned::default()),
            _ => orchestrator,
        };
        let report = tokio::select! {
            biased;
            () = fate.bell.notified() => None,
            report = pipeline.run(&orchestrator, Run::new(RUN)) => Some(report.map_err(|error| error.to_string())?),
        };
        let Some(report) = report else {
            (deaths, died) = (deaths - 1, died + 1);
            sleep(downtime(&mut draw)).await;
            continue;
        };
        let go_on = !report.is_success() && reports.len() < 3;
        reports.push(report);
        if !go_on {
            break;
        }
        sleep(downtime(&mut draw)).await;
    }
    // What still runs may still take effect.
    sleep(Duration::from_secs(6 * 3_600)).await;
    let evidence = Evidence {
        entries: journal.run(RUN).await.map_err(|error| error.to_string())?,
        records: journal.records(),
        accepted: ledger.accepted(),
        effects: service.effects(),
        report: reports.pop().ok_or("no report")?,
        faults: faulty.injected().total(),
        died,
    };
    let unknown = evidence.judge()?;
    Ok(Tally {
        schedules: 1,
        statements: evidence.accepted.len() as u64,
        deaths: died,
        faults: evidence.faults,
        unknown,
    })
}

/// A pipeline of one to five steps, and what the service does with their statements.
fn work(draw: &mut fastrand::Rng) -> (Pipeline, Script) {
    let conflict = "ERROR: 1023 Serializable isolation violation";
    let mut limits = Limits::default();
    if draw.u8(0..8) == 0 {
        limits.waiters_per_statement = draw.usize(0..2);
    }
    let dwell = |draw: &mut fastrand::Rng| Duration::from_millis(draw.u64(0..3_000));
    let mut script =
        Script::new().with_limits(limits).with_dwell(Dwell { submitted: dwell(draw), picked: dwell(draw) });
    if draw.u8(0..4) == 0 {
        script = script.with_concurrency(1);
    }
    let mut builder = Pipeline::builder("simulated").with_concurrency(draw.usize(1..4));
    let count = draw.usize(1..6);
    for number in 0..count {
        let text = format!("step_{number}");
        let takes = Duration::from_secs_f64(0.1 * 10_f64.powf(draw.f64() * 4.9));
        let good = local::Run::finished(takes);
        let runs = match draw.u8(0..6) {
            0 => vec![local::Run::failed(takes, conflict), good],
            1 => vec![local::Run::failed(takes, "ERROR: no such table"), good],
            2 => vec![local::Run::failed(takes, conflict), local::Run::failed(takes, conflict), good],
            _ => vec![good],
        };
        script = script.on_each(text.clone(), runs);
        let earlier = (0..number).filter(|_| draw.u8(0..3) == 0).map(|n| n.to_string());
        let mut step =
            Step::sql(number.to_string(), format!("SELECT '{text}'")).after(earlier.collect::<Vec<_>>());
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

fn faults(draw: &mut fastrand::Rng) -> Faults {
    let mut faults = Faults::seeded(draw.u64(..));
    for operation in Operation::ALL {
        for fault in [
            Fault::DroppedConnection,
            Fault::LostRequest,
            Fault::LostReply,
            Fault::Throttle,
            Fault::WrappedThrottle,
            Fault::Delay(Duration::from_millis(draw.u64(1..90_000))),
        ] {
            if draw.u8(0..3) == 0 {
                faults = faults.with(operation, fault, draw.f64() * 0.12);
            }
        }
    }
    faults
}

/// Mostly short; sometimes around the 8 and 24 hours that decide what can be proved.
fn downtime(draw: &mut fastrand::Rng) -> Duration {
    let minutes = match draw.u8(0..8) {
        0 => 7 * 60 + draw.u64(0..120),
        1 => 23 * 60 + draw.u64(0..120),
        2 => draw.u64(0..36 * 60),
        _ => return Duration::from_millis(draw.u64(0..120_000)),
    };
    Duration::from_secs(minutes * 60)
}

/// When the process dies.
struct Fate {
    draw: Mutex<fastrand::Rng>,
    odds: f64,
    bell: Notify,
}

#[derive(Clone, Copy, PartialEq)]
enum Death {
    Before,
    After,
    /// The request is on its way, and arrives after this.
    Underway(Duration),
}

impl Fate {
    fn death(&self) -> Option<Death> {
        let mut draw = self.draw.lock().unwrap_or_else(PoisonError::into_inner);
        (draw.f64() < self.odds).then(|| match draw.u8(0..3) {
            0 => Death::Before,
            1 => Death::After,
            _ => Death::Underway(Duration::from_secs(draw.u64(0..600))),
        })
    }

    /// The process dies here: it is dropped from outside, and goes no further.
    async fn die<T>(&self) -> T {
        self.bell.notify_one();
        std::future::pending().await
    }

    /// An interaction whose request dies with the process.
    async fn meet<T>(&self, interaction: impl Future<Output = T>) -> T {
        match self.death() {
            None => interaction.await,
            Some(Death::After) => {
                interaction.await;
                self.die().await
            }
            Some(Death::Before | Death::Underway(_)) => self.die().await,
        }
    }
}

/// The service, with a list of what it accepted.
#[derive(Debug)]
struct Ledger {
    service: LocalExecutor<Scripted>,
    accepted: Mutex<BTreeMap<StatementId, String>>,
}

impl Ledger {
    fn accepted(&self) -> BTreeMap<StatementId, String> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl StatementExecutor for Ledger {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let submitted = self.service.submit(statement, wait).await?;
        let name = statement.name().unwrap_or_default().to_owned();
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).insert(submitted.id.clone(), name);
        Ok(submitted)
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        self.service.describe(id, wait).await
    }

    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        self.service.cancel(id).await
    }

    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage> {
        self.service.result(id, page).await
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        self.service.list(filter, page).await
    }
}

/// An executor in a process that may die.
struct Mortal {
    inner: Arc<Faulty<Arc<Ledger>>>,
    ledger: Arc<Ledger>,
    fate: Arc<Fate>,
}

impl fmt::Debug for Mortal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mortal({:?})", self.inner)
    }
}

#[async_trait]
impl StatementExecutor for Mortal {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        match self.fate.death() {
            None => self.inner.submit(statement, wait).await,
            Some(Death::Before) => self.fate.die().await,
            Some(Death::After) => {
                let _ = self.inner.submit(statement, wait).await;
                self.fate.die().await
            }
            Some(Death::Underway(delay)) => {
                let (ledger, statement) = (self.ledger.clone(), statement.clone());
                tokio::spawn(async move {
                    sleep(delay).await;
                    let _ = ledger.submit(&statement, None).await;
                });
                self.fate.die().await
            }
        }
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        self.fate.meet(self.inner.describe(id, wait)).await
    }

    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        self.fate.meet(self.inner.cancel(id)).await
    }

    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage> {
        self.inner.result(id, page).await
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        self.fate.meet(self.inner.list(filter, page)).await
    }
}

/// A journal in a process that may die.
struct MortalJournal {
    inner: MemoryJournal,
    fate: Arc<Fate>,
}

impl fmt::Debug for MortalJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MortalJournal({:?})", self.inner)
    }
}

#[async_trait]
impl Journal for MortalJournal {
    async fn append(&self, record: Record) -> Result<()> {
        self.fate.meet(self.inner.append(record)).await
    }

    async fn entry(&self, key: &StepKey) -> Result<Option<Entry>> {
        self.inner.entry(key).await
    }

    async fn run(&self, run: &str) -> Result<Vec<Entry>> {
        self.inner.run(run).await
    }
}

/// What is left of a schedule.
struct Evidence {
    entries: Vec<Entry>,
    records: Vec<Record>,
    accepted: BTreeMap<StatementId, String>,
    effects: Vec<Effect>,
    report: Report,
    faults: u64,
    died: u64,
}

impl Evidence {
    /// The number of unknown statements, or the promise that was broken.
    fn judge(&self) -> std::result::Result<u64, String> {
        self.no_step_took_effect_twice()?;
        self.no_statement_is_lost()?;
        self.steps_are_reported_truly()?;
        self.every_unknown_is_justified()
    }

    fn effects_of(&self, name: &str) -> usize {
        self.effects.iter().filter(|effect| effect.name.as_deref() == Some(name)).count()
    }

    fn no_step_took_effect_twice(&self) -> std::result::Result<(), String> {
        let mut steps = BTreeSet::new();
        for effect in &self.effects {
            // `run/step/attempt digest`
            let name = effect.name.as_deref().unwrap_or_default();
            let step = name.split('/').nth(1).unwrap_or_default();
            if !steps.insert(step) {
                return Err(format!("DOUBLED: step {step} took effect twice, the second time as `{name}`"));
            }
        }
        Ok(())
    }

    fn no_statement_is_lost(&self) -> std::result::Result<(), String> {
        let known: BTreeMap<&str, &Entry> =
            self.entries.iter().map(|entry| (entry.name.as_str(), entry)).collect();
        let mut names = BTreeSet::new();
        for (id, name) in &self.accepted {
            if !names.insert(name) {
                return Err(format!("DOUBLED: the service accepted `{name}` twice"));
            }
            let Some(entry) = known.get(name.as_str()) else {
                return Err(format!("LOST: the journal does not know `{name}` ({id})"));
            };
            let effects = self.effects_of(name);
            let truth = match &entry.standing {
                Standing::Ended(ended) if ended.status == Status::Finished => effects == 1,
                Standing::Ended(_) => effects == 0,
                Standing::Unknown(_) => true,
                Standing::Open | Standing::Refused(_) | Standing::Settled(_) => false,
                _ => false,
            };
            if !truth {
                return Err(format!(
                    "LOST: `{name}` took effect {effects} times, and stands as {:?}",
                    entry.standing
                ));
            }
        }
        Ok(())
    }

    fn steps_are_reported_truly(&self) -> std::result::Result<(), String> {
        for step in self.report.steps() {
            let prefix = format!("{RUN}/{}/", step.name);
            let effects = self
                .effects
                .iter()
                .filter(|effect| effect.name.as_deref().is_some_and(|n| n.starts_with(&prefix)));
            let effects = effects.count();
            let truth = match step.status {
                StepStatus::Finished => effects == 1,
                StepStatus::Unknown => true,
                _ => effects == 0,
            };
            if !truth {
                return Err(format!(
                    "LOST: step {} took effect {effects} times, and is {:?}",
                    step.name, step.status
                ));
            }
        }
        Ok(())
    }

    /// Something unknown needs a death or a fault, and time that went by, or a cancellation that met faults.
    fn every_unknown_is_justified(&self) -> std::result::Result<u64, String> {
        let mut unknown = 0;
        for entry in &self.entries {
            let Standing::Unknown(reason) = &entry.standing else { continue };
            unknown += 1;
            let last = self
                .records
                .iter()
                .rev()
                .find(|record| record.key == entry.key && matches!(record.event, Event::Unknown { .. }));
            let age = last.map_or(Duration::ZERO, |record| {
                Duration::try_from(record.at.duration_since(entry.intended_at)).unwrap_or_default()
            });
            let justified = if reason.contains("could not be cancelled") {
                self.faults > 0
            } else {
                (self.died > 0 || self.faults > 0) && age >= TOKENS_FADE
            };
            if !justified {
                return Err(format!(
                    "UNJUSTIFIED: {} is unknown after {age:?}, {} deaths and {} faults: {reason}",
                    entry.key, self.died, self.faults
                ));
            }
        }
        Ok(unknown)
    }
}
