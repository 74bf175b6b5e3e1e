//! Implements an executor and checks it with the conformance suite.
//!
//! ```text
//! 20 scenarios passed; the audit has 32 entries
//! ```
//!
//! `Audited` forwards all requests to another executor and records each submit. An executor for your own
//! service implements the same six methods. The suite covers tokens, batches, sessions, cancels, results and
//! listings.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use redshift_data_local::{LocalExecutor, Script, Scripted, ScriptedExecution};
use redshift_orchestrator::{
    Column, Description, Field, PageToken, Result, ResultPage, Statement, StatementExecutor, StatementFilter,
    StatementId, StatementPage, Submitted, Target, WaitTime,
    conformance::{self, Fixture, SampleSql},
};

/// Executor that records each accepted statement. The entries omit the SQL, which may contain secrets.
#[derive(Debug)]
struct Audited<E> {
    inner: E,
    audit: Mutex<Vec<String>>,
}

#[async_trait]
impl<E: StatementExecutor> StatementExecutor for Audited<E> {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let submitted = self.inner.submit(statement, wait).await?;
        let (count, name) = (statement.sqls().len(), statement.name().unwrap_or("-"));
        let entry = format!("{count} statement(s), name {name}, id {}", submitted.id);
        self.audit.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        Ok(submitted)
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        self.inner.describe(id, wait).await
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

    fn target(&self) -> Option<Target> {
        self.inner.target()
    }
}

impl Fixture for Audited<LocalExecutor<Scripted>> {
    type Executor = Self;

    fn executor(&self) -> &Self {
        self
    }

    fn sql(&self, sample: SampleSql<'_>) -> String {
        match sample {
            SampleSql::Rows => "rows".into(),
            SampleSql::Failure => "failure".into(),
            SampleSql::LongRunning => "nap".into(),
            SampleSql::Effect(name) => format!("effect '{name}'"),
            SampleSql::EffectOf(parameter) => format!("effect :{parameter}"),
        }
    }

    async fn effects(&self, name: &str) -> usize {
        self.inner.effects().iter().filter(|effect| effect.sql.contains(name)).count()
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let rows = (1..=3).map(|n| vec![Field::Long(n)]).collect();
    let rows = ScriptedExecution::finished(Duration::ZERO).with_result(vec![Column::new("n", "int4")], rows);
    let script = Script::new()
        .on("rows", rows)
        .on("failure", ScriptedExecution::failed(Duration::ZERO, "ERROR: division by zero"))
        .on("nap", ScriptedExecution::finished(Duration::from_secs(600)));
    let executor = Audited { inner: LocalExecutor::scripted(script), audit: Mutex::default() };

    conformance::all(&executor).await;
    let audit = executor.audit.lock().unwrap_or_else(PoisonError::into_inner);
    println!("{} scenarios passed; the audit has {} entries", conformance::SCENARIOS.len(), audit.len());
    assert!(audit.len() > conformance::SCENARIOS.len());
}
