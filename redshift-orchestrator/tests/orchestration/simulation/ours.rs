//! Runs a schedule with the orchestrator, which may be deliberately broken.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use redshift_orchestrator::{
    Backoff, ClientToken, Description, Error, ErrorKind, Orchestrator, PageToken, Report, Result, ResultPage,
    Run, Statement, StatementExecutor, StatementFilter, StatementId, StatementPage, Status, StepKey,
    Submitted, WaitTime,
    journal::{
        ActiveRun, Claim, Entry, Journal, MemoryJournal, Record, RunCursor, RunEntry, RunPage, RunRecord,
        Settlement, Standing,
    },
    wait::{Exponential, Jittered, Learned, LongPoll},
};
use tokio::time::sleep;

use super::{
    Tally,
    fate::{Death, Fate},
    judge::Evidence,
    network::{Process, World},
    schedule::{Schedule, downtime},
};

pub(super) const RUN: &str = "run";

/// Possible faults of an orchestrator. Each breaks a promise, and the judge must name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Each submit has a new token, as in clients that leave the token to the SDK.
    FreshTokens,
    /// The next process does not see the journal of the previous one.
    ForgetfulJournal,
    /// An unknown statement counts as never run, and is submitted again.
    ResubmitsUnknown,
    /// A statement that has started counts as finished.
    HastyReader,
    /// A lost response to the first attempt makes the outcome unknown.
    Impatient,
}

pub(super) async fn play(schedule: Schedule, flaw: Option<Flaw>) -> Result<Tally, String> {
    let mut draw = schedule.rng();
    let world = World::of(&schedule);
    let disk = Disk::default();
    let left = Arc::new(AtomicU64::new(schedule.deaths));
    let (mut died, mut failed) = (0, 0);
    let report = loop {
        let fate = Arc::new(Fate::drawn(&mut draw, &left, failed == 3));
        if flaw == Some(Flaw::ForgetfulJournal) {
            disk.bytes().clear();
        }
        let journal = disk.open(fate.clone()).await?;
        let orchestrator = orchestrator(&world, &fate, flaw, &mut draw)
            .with_journal(journal)
            .with_backoff(Backoff::default().with_seed(schedule.seed));
        if flaw == Some(Flaw::ResubmitsUnknown) {
            settle_all(&orchestrator).await?;
        }
        match fate.live(schedule.pipeline.run(&orchestrator, Run::new(RUN))).await {
            None => died += 1,
            Some(report) => {
                let report = report.map_err(|error| error.to_string())?;
                if report.is_success() || failed == 3 {
                    break report;
                }
                failed += 1;
            }
        }
        sleep(downtime(&mut draw)).await;
    };
    // Statements that are still running may still take effect.
    sleep(Duration::from_secs(6 * 3_600)).await;
    judged(&world, &disk, report, died)
}

fn judged(world: &World, disk: &Disk, report: Report, died: u64) -> Result<Tally, String> {
    let records = disk.records()?;
    let evidence = Evidence {
        records,
        accepted: world.accepted(),
        effects: world.effects(),
        report,
        faults: world.faults() + disk.failures.load(Ordering::Relaxed),
        died,
    };
    let unknown = evidence.judge()?;
    Ok(Tally {
        schedules: 1,
        statements: evidence.accepted.len() as u64,
        deaths: died,
        faults: evidence.faults,
        unknown,
        ..Tally::default()
    })
}

fn orchestrator(
    world: &Arc<World>,
    fate: &Arc<Fate>,
    flaw: Option<Flaw>,
    draw: &mut fastrand::Rng,
) -> Orchestrator {
    let process = Process { world: world.clone(), fate: fate.clone() };
    let orchestrator = match flaw {
        Some(flaw) => Orchestrator::new(Flawed { inner: process, flaw }),
        None => Orchestrator::new(process),
    };
    let orchestrator = match draw.u8(0..4) {
        0 => orchestrator.with_strategy(Exponential::default()),
        1 => orchestrator.with_strategy(Jittered::new(LongPoll::default(), draw.u64(..))),
        2 => orchestrator.with_strategy(Learned::default()),
        _ => orchestrator,
    };
    let orchestrator = orchestrator.with_clock(world.clock);
    match flaw {
        Some(Flaw::Impatient) => orchestrator.with_retry_timeout(Duration::ZERO),
        _ => orchestrator,
    }
}

async fn settle_all(orchestrator: &Orchestrator) -> Result<(), String> {
    for entry in orchestrator.journal().run(RUN).await.map_err(|error| error.to_string())? {
        if matches!(entry.standing, Standing::Unknown(_)) {
            // A journal that fails at this moment is equivalent to an operator who forgot to settle.
            let _ = orchestrator.settle(&entry.key, Settlement::NeverRan).await;
        }
    }
    Ok(())
}

/// State that outlives a process: the lines of a file journal.
#[derive(Clone, Default)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    failures: Arc<AtomicU64>,
}

impl Disk {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the records of complete lines.
    fn records(&self) -> Result<Vec<Record>, String> {
        let parse = |line: &[u8]| serde_json::from_slice(line).map_err(|error| error.to_string());
        let bytes = self.bytes();
        bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")).map(parse).collect()
    }

    /// Opens the journal for the next process. Like a file journal, it removes an incomplete last line.
    async fn open(&self, fate: Arc<Fate>) -> Result<MortalJournal, String> {
        let index = MemoryJournal::new();
        for record in self.records()? {
            index.append(record).await.map_err(|error| error.to_string())?;
        }
        let mut bytes = self.bytes();
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        bytes.truncate(whole);
        drop(bytes);
        Ok(MortalJournal { disk: self.clone(), index, fate, damaged: Mutex::new(false) })
    }
}

/// Journal in a process that may die, on a disk that may fail.
struct MortalJournal {
    disk: Disk,
    index: MemoryJournal,
    fate: Arc<Fate>,
    damaged: Mutex<bool>,
}

impl fmt::Debug for MortalJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MortalJournal")
    }
}

impl MortalJournal {
    fn damaged(&self) -> MutexGuard<'_, bool> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a random part of the line: nothing, some of it, or all of it.
    fn write_some(&self, line: &[u8]) {
        let length = self.fate.draw(|draw| draw.usize(0..=line.len()));
        self.disk.bytes().extend_from_slice(&line[..length]);
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Journal for MortalJournal {
    async fn append(&self, record: Record) -> Result<()> {
        let failed = |message: &str| Err(Error::new(ErrorKind::Journal, message));
        if *self.damaged() {
            return failed("an earlier record could not be written");
        }
        let mut line =
            serde_json::to_vec(&record).map_err(|error| Error::new(ErrorKind::Journal, error.to_string()))?;
        line.push(b'\n');
        match self.fate.death() {
            None if self.fate.journal_fails() => {
                self.write_some(&line);
                *self.damaged() = true;
                self.disk.failures.fetch_add(1, Ordering::Relaxed);
                return failed("no space left on device");
            }
            None => {}
            Some(Death::Before) => self.fate.die().await,
            Some(Death::After) => {
                self.disk.bytes().extend_from_slice(&line);
                self.fate.die().await
            }
            Some(Death::Underway(_)) => {
                self.write_some(&line);
                self.fate.die().await
            }
        }
        self.disk.bytes().extend_from_slice(&line);
        self.index.append(record).await
    }

    async fn entry(&self, key: &StepKey) -> Result<Option<Entry>> {
        self.index.entry(key).await
    }

    async fn run(&self, run: &str) -> Result<Vec<Entry>> {
        self.index.run(run).await
    }

    async fn claim(&self, claim: &Claim, alone: bool) -> Result<ActiveRun> {
        self.index.claim(claim, alone).await
    }

    async fn append_run(&self, record: RunRecord) -> Result<()> {
        self.index.append_run(record).await
    }

    async fn run_entry(&self, run: &str) -> Result<Option<RunEntry>> {
        self.index.run_entry(run).await
    }

    async fn runs(&self, limit: usize, after: Option<&RunCursor>) -> Result<RunPage> {
        self.index.runs(limit, after).await
    }

    async fn remove_runs(&self, runs: &[RunEntry]) -> Result<()> {
        self.index.remove_runs(runs).await
    }
}

/// Executor that simulates a flaw in the orchestrator.
#[derive(Debug)]
struct Flawed {
    inner: Process,
    flaw: Flaw,
}

#[async_trait]
impl StatementExecutor for Flawed {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let mut statement = statement.clone();
        if self.flaw == Flaw::FreshTokens {
            let token = self.inner.fate.draw(|draw| format!("{:032x}", draw.u128(..)));
            statement = statement.with_client_token(ClientToken::new(token)?);
        }
        self.inner.submit(&statement, wait).await
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        let mut description = self.inner.describe(id, wait).await?;
        if self.flaw == Flaw::HastyReader && description.status == Status::Started {
            description.status = Status::Finished;
        }
        Ok(description)
    }

    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        self.inner.cancel(id).await
    }

    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage> {
        self.inner.result(id, page).await
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        self.inner.list(filter, page).await
    }

    fn target(&self) -> Option<redshift_orchestrator::Target> {
        None
    }
}
