//! The warehouse: an embedded or external PostgreSQL server, an executor that behaves like the Redshift Data
//! API, injected faults, and the orchestrator.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use redshift_data_local::{Fault, Faults, Faulty, LocalExecutor, Operation, Postgres};
use redshift_orchestrator::{
    Backoff, Field, Observer, Orchestrator, Outcome, Pipeline, Report, Run, Statement, StatementExecutor,
    StatementExecutorExt, Status, StepKey, WaitTime,
    journal::FileJournal,
    task::{Task, TaskKind},
};
use tokio_postgres::NoTls;

use crate::{
    changes::{Changes, Cycle},
    crash::Crashing,
    embedded::Embedded,
    landing,
    options::Options,
    run_dir::{Manifest, RunDir},
};

/// Number of connections to an external server: one for the executor's records, the others for statements.
/// The embedded server accepts only one.
const CONNECTIONS: usize = 5;

/// A running warehouse.
pub(crate) struct Warehouse {
    orchestrator: Orchestrator,
    service: LocalExecutor<Postgres>,
    embedded: Option<Embedded>,
}

/// Checks that an external server can be reached and does not belong to another run. Changes nothing.
pub(crate) async fn check(options: &Options, manifest: &Manifest) -> Result<()> {
    let Some(url) = &options.postgres else { return Ok(()) };
    let (client, connection) = connect(url).await?;
    let owner = landing::owner(&client).await?;
    drop(client);
    connection.await??;
    match owner {
        Some(owner) if owner != manifest.run_id => Err(landing::occupied(&owner)),
        _ => Ok(()),
    }
}

impl Warehouse {
    /// Starts the warehouse, and loads the data unless that has been done. `hudi` runs the pipeline's Hudi
    /// steps.
    pub(crate) async fn open(
        options: &Options,
        dir: &RunDir,
        changes: &Changes,
        hudi: impl Task + 'static,
        observer: impl Observer + 'static,
    ) -> Result<Self> {
        let embedded = match &options.postgres {
            None => Some(Embedded::start(&dir.file("warehouse")).await?),
            Some(_) => None,
        };
        let url = match (&embedded, &options.postgres) {
            (Some(embedded), _) => embedded.url(),
            (None, Some(url)) => url.clone(),
            (None, None) => unreachable!("without an external server the embedded one runs"),
        };
        let (mut client, connection) = connect(&url).await?;
        landing::prepare(&mut client, &dir.manifest.run_id, changes).await?;
        // Closes this connection, because the embedded server accepts only one at a time.
        drop(client);
        connection.await??;

        let connections = if embedded.is_some() { 1 } else { CONNECTIONS };
        let service = LocalExecutor::postgres(&url).with_connections(connections).start().await?;
        let executor: Arc<dyn StatementExecutor> = match &options.crash_at {
            None => Arc::new(service.clone()),
            Some(crash) => {
                let run = dir.manifest.cycle_run(crash.cycle);
                Arc::new(Crashing::at(service.clone(), &run, &crash.step, crash.finished))
            }
        };
        let orchestrator = Orchestrator::new(Faulty::new(executor, faults(options.seed, options.faults)))
            .with_journal(FileJournal::open(dir.file("journal.jsonl"))?)
            .with_observer(observer)
            .with_task(TaskKind::Hudi, hudi)
            // The service runs in this process, so short pauses between retries cannot overload it.
            .with_backoff(
                Backoff::new(Duration::from_millis(10))
                    .with_max(Duration::from_millis(200))
                    .with_seed(options.seed),
            );
        Ok(Self { orchestrator, service, embedded })
    }

    /// Runs or resumes the pipeline of a cycle.
    ///
    /// # Errors
    /// Fails if a step did not finish. The error contains the report, with the database's message and the
    /// statement id, and explains how to continue.
    pub(crate) async fn run(&self, pipeline: &Pipeline, dir: &RunDir, cycle: &Cycle) -> Result<Report> {
        let mut run = Run::new(dir.manifest.cycle_run(cycle.number));
        for (name, value) in [("cycle", cycle.number.to_string()), ("until", cycle.until.to_string())] {
            if pipeline.parameters().any(|(known, _)| known == name) {
                run = run.with_parameter(name, value);
            }
        }
        let report = pipeline.run(&self.orchestrator, run).await?;
        if !report.is_success() {
            bail!(
                "cycle {} did not finish\n\n{report}\nThe journal is {}. To continue, run again with the same options.",
                cycle.number,
                dir.file("journal.jsonl").display()
            );
        }
        Ok(report)
    }

    /// Updates the database's statistics after the initial load, because the query plans of the cycles depend
    /// on them.
    pub(crate) async fn analyze(&self, dir: &RunDir) -> Result<Outcome> {
        let key = StepKey::new(dir.manifest.cycle_run(0), "analyze");
        let outcome = self.orchestrator.run(&key, Statement::sql("ANALYZE")).await?;
        if !outcome.is_success() {
            bail!("ANALYZE {}", outcome.kind);
        }
        Ok(outcome)
    }

    /// Returns the rows of a query as text; NULL is `None`. Bypasses the injected faults, because the proof
    /// is not part of the run.
    pub(crate) async fn query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let id = self.service.submit(&Statement::sql(sql), None).await?.id;
        let description = loop {
            let description = self.service.describe(&id, Some(WaitTime::MAX)).await?;
            if description.status.is_terminal() {
                break description;
            }
        };
        if description.status != Status::Finished {
            bail!("{}: {}", description.error.unwrap_or_default(), sql);
        }
        let (_, rows) = self.service.records(&id).await.with_context(|| sql.to_owned())?;
        Ok(rows.into_iter().map(|row| row.into_iter().map(text).collect()).collect())
    }

    /// Stops the warehouse.
    pub(crate) async fn close(self) -> Result<()> {
        let Self { orchestrator, service, embedded } = self;
        drop((orchestrator, service));
        match embedded {
            Some(embedded) => embedded.stop().await,
            None => Ok(()),
        }
    }
}

fn text(field: Field) -> Option<String> {
    match field {
        Field::Null => None,
        Field::Boolean(value) => Some(value.to_string()),
        Field::Long(value) => Some(value.to_string()),
        Field::Double(value) => Some(value.to_string()),
        Field::String(value) => Some(value),
        other => Some(format!("{other:?}")),
    }
}

/// Returns the faults of the run. Half of them hide from the client whether the request took effect, which
/// tests that statements take effect only once.
fn faults(seed: u64, share: f64) -> Faults {
    let kinds = [
        (Fault::Throttle, 0.2),
        (Fault::WrappedThrottle, 0.1),
        (Fault::DroppedConnection, 0.2),
        (Fault::LostRequest, 0.2),
        (Fault::LostReply, 0.3),
    ];
    [Operation::Submit, Operation::Describe].into_iter().fold(Faults::seeded(seed), |faults, operation| {
        kinds.iter().fold(faults, |faults, (fault, part)| faults.with(operation, *fault, share * part))
    })
}

type Connection = tokio::task::JoinHandle<Result<(), tokio_postgres::Error>>;

async fn connect(url: &str) -> Result<(tokio_postgres::Client, Connection)> {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.context("cannot connect to the PostgreSQL server")?;
    Ok((client, tokio::spawn(connection)))
}
