//! [`Scripted`]: statements with a declared duration and outcome, on tokio's clock.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::{
    Latency, Limits, LocalExecutor,
    backend::{Admission, Backend, Job, Report},
    limits,
    machine::Parts,
    record::{Part, Record, StatementOutcome},
    table::Table,
};
use redshift_orchestrator::{
    ClientToken, Clock, Column, ExecutionMode, Field, PageToken, Result, ResultPage, SessionId,
    StatementFilter, StatementId, Status, SystemClock, TokioClock, catalog::Table as CatalogTable,
};

/// The behaviour of a [`LocalExecutor`] without a database.
///
/// The first rule whose text occurs in a statement's SQL determines how the statement runs. A statement
/// without a matching rule finishes at once.
///
/// ```
/// use std::time::Duration;
/// use redshift_data_local::{ScriptedExecution, Script};
///
/// let script = Script::new()
///     .on("CALL load_sales", ScriptedExecution::finished(Duration::from_secs(90)))
///     // The first run fails; later runs finish.
///     .on_each("CALL load_items", [
///         ScriptedExecution::failed(Duration::from_secs(2), "ERROR: 1023 Serializable isolation violation on table"),
///         ScriptedExecution::finished(Duration::from_secs(3)),
///     ]);
/// # let _ = script;
/// ```
///
/// `Debug` prints neither the SQL nor the results.
#[derive(Clone)]
pub struct Script {
    rules: Vec<(String, Vec<ScriptedExecution>)>,
    otherwise: ScriptedExecution,
    limits: Limits,
    latency: Latency,
    concurrency: Option<usize>,
    tables: Vec<(CatalogTable, Vec<Column>)>,
    epoch: Option<Timestamp>,
    seed: u64,
    keeps_effects: bool,
}

/// Duration and outcome of one run of a scripted statement.
#[derive(Clone, PartialEq)]
pub struct ScriptedExecution {
    duration: Duration,
    error: Option<String>,
    affected: Option<u64>,
    result: Option<Arc<Table>>,
    rollback: Duration,
    commit: Duration,
}

impl ScriptedExecution {
    /// Creates a run that finishes after `duration`.
    pub fn finished(duration: Duration) -> Self {
        Self {
            duration,
            error: None,
            affected: None,
            result: None,
            rollback: Duration::ZERO,
            commit: Duration::ZERO,
        }
    }

    /// Creates a run that fails after `duration` with this database error.
    pub fn failed(duration: Duration, error: impl Into<String>) -> Self {
        Self { error: Some(error.into()), ..Self::finished(duration) }
    }

    /// Sets the time that the rollback takes after a cancel. The statement is `STARTED` until then. Default:
    /// zero.
    #[must_use]
    pub fn with_rollback(mut self, takes: Duration) -> Self {
        self.rollback = takes;
        self
    }

    /// Sets the length of the commit at the end of the run. A cancel during the commit is accepted, but the
    /// statement still finishes. Default: zero.
    #[must_use]
    pub fn with_commit(mut self, takes: Duration) -> Self {
        self.commit = takes;
        self
    }

    /// Sets the number of affected rows.
    #[must_use]
    pub fn with_affected_rows(mut self, rows: u64) -> Self {
        self.affected = Some(rows);
        self
    }

    /// Sets the result.
    #[must_use]
    pub fn with_result(mut self, columns: Vec<Column>, rows: Vec<Vec<Field>>) -> Self {
        self.result = Some(Arc::new(Table { columns, rows }));
        self
    }
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl Script {
    /// Creates a script in which every statement finishes at once. Statement ids are drawn from seed 0.
    pub fn new() -> Self {
        Self {
            rules: Vec::new(),
            otherwise: ScriptedExecution::finished(Duration::ZERO),
            limits: Limits::default(),
            latency: Latency::default(),
            concurrency: None,
            tables: Vec::new(),
            epoch: None,
            seed: 0,
            keeps_effects: true,
        }
    }

    /// Sets the run of statements whose SQL contains `text`.
    #[must_use]
    pub fn on(self, text: impl Into<String>, run: ScriptedExecution) -> Self {
        self.on_each(text, [run])
    }

    /// Sets the successive runs of statements whose SQL contains `text`. The last run repeats.
    #[must_use]
    pub fn on_each(
        mut self,
        text: impl Into<String>,
        runs: impl IntoIterator<Item = ScriptedExecution>,
    ) -> Self {
        self.rules.push((text.into(), runs.into_iter().collect()));
        self
    }

    /// Sets the run of statements without a matching rule.
    #[must_use]
    pub fn otherwise(mut self, run: ScriptedExecution) -> Self {
        self.otherwise = run;
        self
    }

    /// Sets the time that statements spend in `SUBMITTED` and `PICKED`. Default: zero.
    #[must_use]
    pub fn with_latency(mut self, latency: Latency) -> Self {
        self.latency = latency;
        self
    }

    /// Sets the maximum number of concurrently running statements. Default: unlimited.
    #[must_use]
    pub fn with_concurrency(mut self, statements: usize) -> Self {
        self.concurrency = Some(statements);
        self
    }

    /// Replaces the limits. Default: the service's.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the initial time of day, so that all timestamps are repeatable. Default: the current time.
    #[must_use]
    pub fn starting_at(mut self, epoch: Timestamp) -> Self {
        self.epoch = Some(epoch);
        self
    }

    /// Adds a table to the [`Catalog`](redshift_orchestrator::Catalog). It has no influence on statements.
    #[must_use]
    pub fn with_table(mut self, table: CatalogTable, columns: impl IntoIterator<Item = Column>) -> Self {
        let within = |mut column: Column| {
            column.schema = Some(table.schema.clone());
            column.table = Some(table.name.clone());
            column
        };
        let columns = columns.into_iter().map(within).collect();
        self.tables.push((table, columns));
        self
    }

    /// Sets the seed of the statement ids. Default: 0.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Turns off the recording of effects, so that a long-lived service uses bounded memory.
    #[must_use]
    pub fn without_effects(mut self) -> Self {
        self.keeps_effects = false;
        self
    }

    /// Returns the index of the first matching rule.
    fn rule(&self, sql: &str) -> Option<usize> {
        self.rules.iter().position(|(text, runs)| !runs.is_empty() && sql.contains(text.as_str()))
    }
}

/// Back end that runs a [`Script`].
pub struct Scripted {
    script: Script,
    clock: TokioClock,
    played: Mutex<Played>,
}

#[derive(Default)]
struct Played {
    /// Number of statements that each rule has matched.
    uses: HashMap<usize, usize>,
    effects: Vec<Effect>,
    results: HashMap<StatementId, HashMap<usize, Arc<Table>>>,
}

/// The effect of one SQL text that ran to its end and was not rolled back. `Debug` does not print the SQL.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Effect {
    /// The statement.
    pub statement_id: StatementId,
    /// Statement name.
    pub name: Option<String>,
    /// Client token of the statement.
    pub client_token: Option<ClientToken>,
    /// Number of the SQL text, counted from 1.
    pub number: usize,
    /// The SQL text.
    pub sql: String,
    /// Time at which the statement took effect.
    pub at: Timestamp,
}

impl LocalExecutor<Scripted> {
    /// Creates an executor that follows the script.
    pub fn scripted(script: Script) -> Self {
        let clock = TokioClock::starting_at(script.epoch.unwrap_or_else(|| SystemClock.now()));
        Self::assemble(Parts {
            limits: script.limits.clone(),
            latency: script.latency,
            clock: Arc::new(clock),
            concurrency: script.concurrency,
            ids: fastrand::Rng::with_seed(script.seed),
            backend: Scripted { script, clock, played: Mutex::default() },
        })
    }

    /// Returns all effects so far, in order. A statement that took effect twice occurs twice.
    pub fn effects(&self) -> Vec<Effect> {
        self.backend().played().effects.clone()
    }

    /// Returns the number of effects of statements with this name.
    pub fn effect_count(&self, name: &str) -> usize {
        self.backend().played().effects.iter().filter(|effect| effect.name.as_deref() == Some(name)).count()
    }
}

impl Scripted {
    /// Returns the tables that the script declares.
    pub(super) fn tables(&self) -> &[(CatalogTable, Vec<Column>)] {
        &self.script.tables
    }

    fn played(&self) -> MutexGuard<'_, Played> {
        self.played.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the next run for this SQL.
    fn next(&self, sql: &str) -> &ScriptedExecution {
        let Some(rule) = self.script.rule(sql) else { return &self.script.otherwise };
        let runs = &self.script.rules[rule].1;
        let mut played = self.played();
        let used = played.uses.entry(rule).or_default();
        let run = &runs[(*used).min(runs.len() - 1)];
        *used += 1;
        run
    }

    /// Runs one SQL text. Returns `None` if it was cancelled and rolled back.
    async fn play(&self, job: &Job<'_>, index: usize) -> Option<Part> {
        let run = self.next(&job.statement.sqls()[index]);
        (job.report)(Report::Part(index, Part::new(Status::Started)));
        let commit = run.commit.min(run.duration);
        tokio::select! {
            biased;
            () = job.cancelled() => {
                sleep(run.rollback).await;
                return None;
            }
            () = sleep(run.duration - commit) => {}
        }
        sleep(commit).await;
        Some(self.ended(job, index, run))
    }

    /// Returns the final state of a part and stores its result.
    fn ended(&self, job: &Job<'_>, index: usize, run: &ScriptedExecution) -> Part {
        let mut part = Part::new(Status::Finished);
        part.duration = Some(run.duration);
        if let Some(error) = &run.error {
            part.status = Status::Failed;
            part.error = Some(error.clone());
            return part;
        }
        part.rows = run.affected;
        if let Some(refused) = run.result.as_ref().and_then(|result| self.script.limits.refuse(result)) {
            part.status = Status::Failed;
            part.error = Some(refused);
            return part;
        }
        if let Some(result) = &run.result {
            part.rows = Some(result.rows.len() as u64);
            part.size = Some(result.size());
            part.has_result_set = true;
            self.played().results.entry(job.id.clone()).or_default().insert(index, result.clone());
        }
        part
    }

    fn take_effect(&self, job: &Job<'_>, index: usize) {
        if !self.script.keeps_effects {
            return;
        }
        let effect = Effect {
            statement_id: job.id.clone(),
            name: job.statement.name().map(str::to_owned),
            client_token: job.statement.client_token().cloned(),
            number: index + 1,
            sql: job.statement.sqls()[index].clone(),
            at: self.clock.now(),
        };
        self.played().effects.push(effect);
    }
}

#[async_trait]
#[expect(private_interfaces, reason = "sealed: the records are the state machine's own")]
impl Backend for Scripted {
    fn name(&self) -> &'static str {
        "Scripted"
    }

    async fn admit(&self, _: &Record) -> Result<Admission> {
        Ok(Admission::New)
    }

    async fn run(&self, job: &Job<'_>) -> Option<StatementOutcome> {
        if job.is_cancelled() {
            return Some(StatementOutcome::aborted((job.parts)(), None));
        }
        let begin = Instant::now();
        (job.report)(Report::Started(None));
        // Parts that have ended.
        let (mut parts, count) = (Vec::new(), job.statement.sqls().len());
        let atomic = job.statement.execution_mode() != Some(ExecutionMode::AutoCommit);
        for index in 0..count {
            let Some(part) = self.play(job, index).await else {
                parts.resize(count, Part::new(Status::Aborted));
                return Some(StatementOutcome::aborted(parts, Some(begin.elapsed())));
            };
            parts.push(part.clone());
            if atomic && part.status != Status::Finished {
                parts.resize(count, Part::new(Status::Aborted));
                break;
            }
            if !atomic && part.status == Status::Finished {
                self.take_effect(job, index);
            }
            (job.report)(Report::Part(index, part));
        }
        let is_batch = job.statement.execution_mode().is_some();
        let outcome = StatementOutcome::of_parts(parts, is_batch, Some(begin.elapsed()));
        if atomic && outcome.status == Status::Finished {
            (0..outcome.parts.len()).for_each(|index| self.take_effect(job, index));
        }
        Some(outcome)
    }

    async fn cancel(&self, _: &Record) -> Result<bool> {
        Ok(true)
    }

    fn keeps_sessions(&self) -> bool {
        true
    }

    async fn open_session(&self, _: &SessionId) -> Result<()> {
        Ok(())
    }

    async fn close_session(&self, _: &SessionId) {}

    fn holds_session(&self, _: &SessionId) -> bool {
        true
    }

    async fn page(&self, record: &Record, part: usize, page: Option<PageToken>) -> Result<ResultPage> {
        let table = self.played().results.get(&record.id).and_then(|results| results.get(&part)).cloned();
        let table = table.ok_or_else(|| limits::no_result(&record.id))?;
        table.page(record.statement.result_format(), self.script.limits.rows_per_page, page)
    }

    async fn find(&self, _: &StatementId) -> Result<Option<Record>> {
        Ok(None)
    }

    async fn list(
        &self,
        _: &StatementFilter,
        _: u64,
        _: usize,
        _: Timestamp,
    ) -> Result<Option<Vec<(u64, Record)>>> {
        Ok(None)
    }

    fn forget(&self, id: &StatementId) {
        self.played().results.remove(id);
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script")
            .field("rules", &self.rules.len())
            .field("otherwise", &self.otherwise)
            .field("limits", &self.limits)
            .field("latency", &self.latency)
            .field("concurrency", &self.concurrency)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ScriptedExecution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedExecution")
            .field("duration", &self.duration)
            .field("fails", &self.error.is_some())
            .field("affected", &self.affected)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Effect")
            .field("statement_id", &self.statement_id)
            .field("name", &self.name)
            .field("number", &self.number)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted").field("rules", &self.script.rules.len()).finish_non_exhaustive()
    }
}
